"""Who calls the CIRCUS API and what they may do: tokens, login, privileges.

A token is 40 lower-case hex characters and shown once; the database keeps its SHA-256. Permanent tokens are made by
`POST /api/tokens`, session tokens by `POST /login` (OAuth 2.0 password and refresh grants). A user's rights are the
union over their groups.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import anyio

from isocenter.sandbox.circus.filter import read_page, search
from isocenter.sandbox.circus.http import (
    JSON_LIMIT,
    NO_CONTENT,
    UPLOAD_LIMIT,
    Accident,
    Call,
    Refusal,
    Reply,
)
from isocenter.sandbox.circus.store import iso

if TYPE_CHECKING:
    from isocenter.sandbox.circus.store import Store

Json = Any

ACCESS_LIFETIME = timedelta(hours=1)
REFRESH_LIFETIME = timedelta(days=14)
PERMANENT_EXPIRES = "2100-12-31T00:00:00.000Z"
MAXIMUM_TOKENS = 11
"""The real server says 10 and refuses only when more than 10 exist."""

CLIENT = "circus-front"
CLIENT_ID = "CIRCUS Front UI"
PROJECT_ROLES = ("read", "write", "viewPersonalInfo", "moderate", "addSeries")
PLUGIN_ROLES = (
    "readPlugin",
    "executePlugin",
    "manageJobs",
    "inputPersonalFeedback",
    "inputConsensualFeedback",
    "manageFeedback",
    "viewPersonalInfo",
)


@dataclass(frozen=True, slots=True)
class Rights:
    """What a user may do. `projects` and `plugins` map an id to the roles the user has there."""

    domains: list[str]
    global_privileges: list[str]
    projects: dict[str, list[str]]
    plugins: dict[str, list[str]]

    def has(self, project_id: str, role: str) -> bool:
        """Whether the user has this role in this project."""
        return role in self.projects.get(project_id, ())

    def projects_with(self, *roles: str) -> list[str]:
        """The projects where the user has all these roles."""
        return [project for project in self.projects if all(self.has(project, role) for role in roles)]


def rights_of(store: Store, user: dict[str, Json]) -> Rights:
    """The union of the rights of the user's groups."""
    rights = Rights([], [], {}, {})
    for group in store.groups(user["groups"]):
        for known, given in ((rights.global_privileges, group["privileges"]), (rights.domains, group["domains"])):
            known.extend(item for item in given if item not in known)
        for target, roles, suffix in ((rights.projects, PROJECT_ROLES, "Projects"), (rights.plugins, PLUGIN_ROLES, "")):
            for role in roles:
                for key in group.get(role + suffix, ()):
                    have = target.setdefault(key, [])
                    if role not in have:
                        have.append(role)
    return rights


def digest(token: str) -> str:
    """How a token is kept."""
    return hashlib.sha256(token.encode()).hexdigest()


def hash_password(password: str, salt: bytes | None = None) -> str:
    """A salted scrypt hash as text; takes about 50 ms."""
    salt = salt or secrets.token_bytes(16)
    key = hashlib.scrypt(password.encode(), salt=salt, n=1 << 14, r=8, p=1)
    return f"{salt.hex()}${key.hex()}"


def check_password(password: str, stored: str) -> bool:
    """Whether a password has this hash. An empty hash has no password."""
    salt, _, _ = stored.partition("$")
    return bool(stored) and hmac.compare_digest(hash_password(password, bytes.fromhex(salt)), stored)


def authenticate(call: Call) -> None:
    """Fill in the caller, or refuse. Only the Authorization header may carry the token."""
    header = call.headers.get("authorization", "")
    in_query = bool(call.first("access_token"))
    in_body = isinstance(call.body, dict) and bool(call.body.get("access_token"))
    if bool(header) + in_query + in_body > 1:
        raise Refusal(400, "Invalid request: only one authentication method is allowed")
    if in_query:
        raise Refusal(400, "Invalid request: do not send bearer tokens in query URLs")
    if in_body:
        raise Refusal(400, "Invalid request: content must be application/x-www-form-urlencoded")
    if not header:
        raise Refusal(401, "Unauthorized request: no authentication given")
    if not (found := re.search(r"Bearer\s(\S+)", header)):
        raise Refusal(400, "Invalid request: malformed authorization header")
    call.token = digest(found[1])
    row = call.store.sandbox.db.execute(
        "SELECT t.access_expires, t.email FROM circus_token t WHERE t.access = ?", (call.token,)
    ).fetchone()
    user = call.store.user(row["email"]) if row is not None else None
    if user is None:
        raise Refusal(401, "Invalid token: access token is invalid")
    if row["access_expires"] < call.store.now():
        raise Refusal(401, "Invalid token: access token has expired")
    call.user, call.rights = user, rights_of(call.store, user)


# --- POST /login ------------------------------------------------------------------------------------------------------


async def login(call: Call) -> Reply:
    """OAuth 2.0 token endpoint: grants `password` and `refresh_token`. Every refusal is 400 with the error's text."""
    media_type = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if call.method != "POST":
        raise Refusal(400, "Invalid request: method must be POST")
    if media_type != "application/x-www-form-urlencoded":
        raise Refusal(400, "Invalid request: content must be application/x-www-form-urlencoded")
    raw = await call.stream.read(JSON_LIMIT)
    if raw is None:
        raise Refusal(413, "request entity too large")
    sent = parse_qs(raw.decode("utf-8", "replace"), keep_blank_values=True)
    form = {name: given[0] for name, given in sent.items() if len(given) == 1}
    client, secret = _client(call, form)
    if client != CLIENT or not secret:
        known = bool(client and secret)
        text = "Invalid client: client is invalid" if known else "Invalid client: cannot retrieve client credentials"
        raise Refusal(401 if "authorization" in call.headers else 400, text)
    grant = form.get("grant_type", "")
    if not grant:
        raise Refusal(400, "Missing parameter: `grant_type`")
    if grant not in {"password", "refresh_token"}:
        raise Refusal(400, "Unsupported grant type: `grant_type` is invalid")
    for name in ("username", "password") if grant == "password" else ("refresh_token",):
        if not form.get(name):
            raise Refusal(400, f"Missing parameter: `{name}`")
    if grant == "password":
        row = call.store.sandbox.db.execute(
            "SELECT email, password FROM circus_user WHERE email = ? OR login_id = ? ORDER BY id LIMIT 1",
            (form["username"], form["username"]),
        ).fetchone()
        stored = row["password"] if row is not None else ""
        if not await anyio.to_thread.run_sync(check_password, form["password"], stored):
            raise Refusal(400, "Invalid grant: user credentials are invalid")
        email = row["email"]
    else:
        row = call.store.sandbox.db.execute(
            "SELECT id, email, refresh_expires FROM circus_token WHERE refresh = ?", (digest(form["refresh_token"]),)
        ).fetchone()
        if row is None:
            raise Refusal(400, "Invalid grant: refresh token is invalid")
        if row["refresh_expires"] < call.store.now():
            raise Refusal(400, "Invalid grant: refresh token has expired")
        email = row["email"]
    access, refresh = secrets.token_hex(20), secrets.token_hex(20)
    now = call.store.sandbox.now()
    with call.store.sandbox.transaction() as db:
        if grant == "refresh_token":
            db.execute("DELETE FROM circus_token WHERE id = ?", (row["id"],))
        add_token(
            call.store,
            email,
            access,
            iso(now + ACCESS_LIFETIME),
            refresh=refresh,
            refresh_expires=iso(now + REFRESH_LIFETIME),
        )
        if (user := call.store.user(email)) is not None:
            client_address = call.scope.get("client")
            address = client_address[0] if client_address else ""
            call.store.save_user({**user, "lastLoginTime": iso(now), "lastLoginIp": address})
    body = {"access_token": access, "token_type": "Bearer", "expires_in": 3599, "refresh_token": refresh}
    return Reply(200, body, headers={"cache-control": "no-store", "pragma": "no-cache"})


def _client(call: Call, form: dict[str, str]) -> tuple[str, str]:
    """The client's id and secret, from Basic authentication or from the form."""
    scheme, _, encoded = call.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            name, _, secret = base64.b64decode(encoded.strip()).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            name = secret = ""
        return name, secret
    return form.get("client_id", ""), form.get("client_secret", "")


def add_token(
    store: Store,
    email: str,
    access: str,
    access_expires: str,
    *,
    refresh: str | None = None,
    refresh_expires: str | None = None,
    token_id: str | None = None,
    description: str | None = None,
) -> None:
    """Store a token; one with `token_id` is permanent."""
    now = store.now()
    store.sandbox.db.execute(
        "INSERT INTO circus_token (access, access_expires, refresh, refresh_expires, email, token_id, description,"
        " created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            digest(access),
            access_expires,
            digest(refresh) if refresh else None,
            refresh_expires,
            email,
            token_id,
            description,
            now,
            now,
        ),
    )


# --- endpoints --------------------------------------------------------------------------------------------------------


async def status(call: Call) -> Reply:
    """`GET /api/status`, without authentication."""
    return Reply(200, {"status": "running"})


async def logout(call: Call) -> Reply:
    """End the caller's sessions; permanent tokens stay."""
    sql = "DELETE FROM circus_token WHERE email = ? AND token_id IS NULL"
    with call.store.sandbox.transaction() as db:
        db.execute(sql, (call.email,))
    return NO_CONTENT


async def list_tokens(call: Call) -> Reply:
    """The caller's permanent tokens, without their secrets."""
    rows = call.store.sandbox.db.execute(
        "SELECT token_id AS tokenId, description, created_at AS createdAt, updated_at AS updatedAt FROM circus_token"
        " WHERE email = ? AND token_id IS NOT NULL ORDER BY id",
        (call.email,),
    ).fetchall()
    return Reply(200, {"items": [dict(row) for row in rows], "totalItems": len(rows), "page": 1})


async def create_token(call: Call) -> Reply:
    """A permanent token; its secret is shown here only."""
    sql = "SELECT count(*) FROM circus_token WHERE email = ? AND token_id IS NOT NULL"
    token_id, access = secrets.token_hex(20), secrets.token_hex(20)
    with call.store.sandbox.transaction() as db:
        if db.execute(sql, (call.email,)).fetchone()[0] >= MAXIMUM_TOKENS:
            raise Refusal(400, "You cannot create more than 10 tokens.")
        description = call.body["description"]
        add_token(call.store, call.email, access, PERMANENT_EXPIRES, token_id=token_id, description=description)
    return Reply(201, {"tokenId": token_id, "accessToken": access})


async def delete_token(call: Call) -> Reply:
    """Delete a permanent token. The real server does not ask whose it is, nor whether there is one; `strict` does."""
    sql = "DELETE FROM circus_token WHERE token_id = ? AND (email = ? OR ?)"
    with call.store.sandbox.transaction() as db:
        gone = db.execute(sql, (call.params["tokenId"], call.email, not call.strict)).rowcount
    if call.strict and not gone:
        raise Refusal(404, "Not Found")
    return NO_CONTENT


async def login_info(call: Call) -> Reply:
    """Who the token belongs to."""
    return Reply(200, {"userEmail": call.email, "loginId": call.user["loginId"]})


async def login_info_full(call: Call) -> Reply:
    """The caller's user document, rights, projects and my lists, also those that others share with them."""
    store, rights = call.store, call.rights
    shared = [
        {"owner": owner["userEmail"], "sharedMyList": my_list}
        for owner in store.users()
        for my_list in owner["myLists"]
        if any(is_editor(editor, call.user) for editor in my_list["editors"])
    ]
    default = store.setting("defaultDomain")
    body = {
        **call.user,
        "domains": rights.domains,
        "globalPrivileges": rights.global_privileges,
        "accessibleProjects": [
            {"projectId": project_id, "roles": roles, "project": store.project(project_id)}
            for project_id, roles in rights.projects.items()
        ],
        "accessiblePlugins": [
            {"pluginId": plugin_id, "roles": roles, "plugin": store.setting(f"plugin:{plugin_id}")}
            for plugin_id, roles in rights.plugins.items()
        ],
        "groups": [group["groupName"] for group in store.groups(call.user["groups"])],
        "defaultDomain": default if default in rights.domains else None,
        "sharedMyLists": shared,
        "dicomImageServer": store.setting("dicomImageServer") or "/rs",
        "uploadFileMax": 30,
        "uploadFileSizeMaxBytes": UPLOAD_LIMIT,
    }
    return Reply(200, body)


def is_editor(editor: dict[str, Json], user: dict[str, Json]) -> bool:
    """Whether an entry of a my list's editors means this user."""
    return editor.get("userEmail") == user["userEmail"] or editor.get("groupId") in user["groups"]


async def get_project(call: Call) -> Reply:
    """A project the caller may read."""
    if (project := call.store.project(call.params["projectId"])) is None:
        raise Accident(404, "The requested project was not found.")
    return Reply(200, project)


async def list_projects(call: Call) -> Reply:
    """`GET /api/admin/projects`: all projects, for server managers."""
    page = read_page(call.query, {"updatedAt": -1}, strict=call.strict, unlimited=True)
    items, total = search(call.store.projects(), lambda _: True, page)
    return Reply(200, {"items": items, "totalItems": total, "page": page.number})
