"""What a developer does with an account of the DICOMaestro sandbox: tokens, profile, keys, usage."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from hashlib import sha512
from typing import Any
from zoneinfo import ZoneInfo

from anyio import to_thread
from starlette.responses import Response

from isocenter.sandbox.dicomaestro.auth import Accounts, hash_password
from isocenter.sandbox.dicomaestro.rest import JSON, ApiError, Call, Fields, compact, created, detail, unauthorized
from isocenter.sandbox.state import Sandbox

PURPOSES = ("testing", "research", "education", "commercial", "other")


class AccountOperations:
    """The operations by name; each takes the call and gives the answer."""

    def __init__(self, sandbox: Sandbox, accounts: Accounts) -> None:
        self.sandbox = sandbox
        self.accounts = accounts
        self.live = sandbox.options.compat_live

    async def obtain_token(self, call: Call) -> Response:
        fields = Fields(await call.data())
        email, password = fields.text("email"), fields.text("password")
        fields.check()
        account = await self.accounts.login(email or "", password or "")
        if account is None:
            raise unauthorized("No active account found with the given credentials")
        refresh = self.accounts.token(account, "refresh")
        answer = Response(
            compact({"refresh": refresh, "access": self.accounts.token(account, "access")}), media_type=JSON
        )
        answer.headers["Set-Cookie"] = f"refresh_token={refresh}; HttpOnly; Max-Age=2592000; Path=/"
        return answer

    async def refresh_token(self, call: Call) -> object:
        data = await call.data()
        token = call.request.cookies.get("refresh_token") or data.get("refresh")
        if not token:
            raise unauthorized("Refresh token not found")
        claims = self.accounts.claims(token) if isinstance(token, str) else None
        account = self.accounts.account(claims["user_id"]) if claims and claims["token_type"] == "refresh" else None  # noqa: S105 - a kind
        if account is None:
            raise unauthorized("Invalid or expired JWT token")
        return {"access": self.accounts.token(account, "access")}

    async def register(self, call: Call) -> Response:
        fields = Fields(await call.data())
        email = fields.text("email", most=254)
        first, last = fields.text("first_name", most=50), fields.text("last_name", most=50)
        password = fields.text("password", least=8)
        if email is not None and not re.fullmatch(r"[^@\s\"<>()\[\],;:\\]+@([A-Za-z0-9-]+\.)+[A-Za-z0-9-]+", email):
            fields.errors["email"] = ["Enter a valid email address."]
        fields.check()
        hashed = await to_thread.run_sync(hash_password, password or "")
        if self.accounts.register(email or "", first or "", last or "", hashed) is None:
            raise ApiError(400, {"email": ["user with this email already exists."]})
        return created({"message": "User registered successfully!"})

    async def get_profile(self, call: Call) -> object:
        row = self.sandbox.db.execute(
            "SELECT purpose, organization FROM dicomaestro_profile WHERE account_id = ?", (call.caller.id,)
        ).fetchone()
        if row is None:
            raise detail(404, "Developer profile does not exist.")
        return dict(row)

    async def save_profile(self, call: Call) -> Response:
        data = await call.data()
        fields = Fields(data)
        sent = {
            "purpose": fields.text("purpose", required=False, blank=True, null=True),
            "organization": fields.text("organization", required=False, blank=True, null=True, most=255),
        }
        if sent["purpose"] and sent["purpose"] not in PURPOSES:
            fields.errors["purpose"] = [f'"{sent["purpose"]}" is not a valid choice.']
        fields.check()
        with self.sandbox.transaction() as db:
            db.execute(
                "INSERT INTO dicomaestro_profile VALUES (?, NULL, NULL) ON CONFLICT DO NOTHING", (call.caller.id,)
            )
            for name in sent.keys() & data.keys():
                db.execute(
                    f"UPDATE dicomaestro_profile SET {name} = ? WHERE account_id = ?",  # noqa: S608 - one of two names
                    (sent[name], call.caller.id),
                )
        # The service echoes the request, not what is stored now.
        return created(sent)

    async def list_keys(self, call: Call) -> object:
        rows = self.sandbox.db.execute(
            "SELECT id, prefix, name, created FROM dicomaestro_key WHERE account_id = ? ORDER BY id DESC",
            (call.caller.id,),
        )
        return [
            {
                "id": self._key_id(row),
                "name": row["name"],
                "created": datetime.fromisoformat(row["created"]).astimezone(self._zone()).isoformat(),
                "revoked": False,
                "expiry_date": None,
            }
            for row in rows
        ]

    def _key_id(self, row: Mapping[str, Any]) -> int | str:
        if not self.live:
            return int(row["id"])
        # The shape of the service's ids, which contain the stored hash; ours contain a hash of nothing secret.
        return f"{row['prefix']}.sha512$${sha512(str(row['id']).encode()).hexdigest()}"

    async def create_key(self, call: Call) -> Response:
        fields = Fields(await call.data())
        name = fields.text("name", required=False, blank=True, most=None if self.live else 50)
        fields.check()
        if self.live and name and len(name) > 500:
            raise RuntimeError("the service's database refuses the name")
        name = name or f"{call.caller.first_name}-developer-key"
        key_id, key = self.accounts.add_key(call.caller.id, name)
        return created({"api_key": key, "name": name} if self.live else {"id": key_id, "name": name, "key": key})

    async def delete_key(self, call: Call) -> Response:
        wanted = call.request.path_params["id"]  # a KeyError, and so a crash, on the list's address as in the service
        rows = self.sandbox.db.execute("SELECT id, prefix FROM dicomaestro_key WHERE account_id = ?", (call.caller.id,))
        found = next((row["id"] for row in rows if str(self._key_id(row)) == wanted), None)
        if found is None:
            raise detail(404, "No DeveloperAPIKey matches the given query.")
        with self.sandbox.transaction() as db:
            db.execute("DELETE FROM dicomaestro_key WHERE id = ?", (found,))
        return Response(status_code=204)

    async def activity(self, call: Call) -> object:
        now = self.sandbox.now().astimezone(self._zone())
        wanted: dict[str, float] = {}
        errors = {}
        for part in ("year", "month"):
            if text := call.request.query_params.get(f"timestamp__{part}", "").strip():
                try:
                    wanted[part] = float(text)
                except ValueError:
                    errors[f"timestamp__{part}"] = ["Enter a number."]
        if errors:
            raise ApiError(400, errors)
        if not wanted and not self.live:
            wanted = {"year": now.year, "month": now.month}
        days = Counter[str]()
        for row in self.sandbox.db.execute(
            "SELECT at FROM dicomaestro_call WHERE account_id = ? ORDER BY at", (call.caller.id,)
        ):
            at = datetime.fromisoformat(row["at"]).astimezone(self._zone())
            if all(getattr(at, part) == value for part, value in wanted.items()):
                days[at.date().isoformat()] += 1
        return {
            "daily_activity": [{"day": day, "count": count} for day, count in days.items()],
            "monthly_total": days.total(),
        }

    def _zone(self) -> tzinfo:
        return ZoneInfo("Europe/Warsaw") if self.live else UTC
