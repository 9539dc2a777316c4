"""Accounts, tokens and API keys of the DICOMaestro sandbox.

Passwords are kept as scrypt hashes and keys as SHA-512 hashes (a key has 190 random bits, so a fast hash is enough).
Tokens are JWTs signed with a secret that lies in the data directory, so they stay good after a restart.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import string
import uuid
from typing import Any

import jwt
from anyio import to_thread
from starlette.requests import Request

from isocenter.sandbox.dicomaestro.rest import Account, unauthorized
from isocenter.sandbox.state import Sandbox

SCHEMA = """
CREATE TABLE IF NOT EXISTS dicomaestro_account (
  id INTEGER PRIMARY KEY,
  email TEXT NOT NULL UNIQUE,
  first_name TEXT NOT NULL,
  last_name TEXT NOT NULL,
  password TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS dicomaestro_profile (
  account_id INTEGER PRIMARY KEY REFERENCES dicomaestro_account (id),
  purpose TEXT,
  organization TEXT
);
CREATE TABLE IF NOT EXISTS dicomaestro_key (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  account_id INTEGER NOT NULL REFERENCES dicomaestro_account (id),
  prefix TEXT NOT NULL,
  hash TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  created TEXT NOT NULL
);
"""

ACCESS_SECONDS = 900
REFRESH_SECONDS = 30 * 24 * 60 * 60

_LETTERS = string.ascii_letters + string.digits
_COST = 1 << 14


def hash_password(password: str) -> str:
    """`scrypt$salt$hash`, both in hex. Takes some 50 ms: call it in a worker thread."""
    salt = secrets.token_bytes(16)
    return f"scrypt${salt.hex()}${_scrypt(password, salt).hex()}"


def password_matches(password: str, stored: str) -> bool:
    """Whether a password is the stored one; as slow as `hash_password`."""
    _, salt, digest = stored.split("$")
    return hmac.compare_digest(_scrypt(password, bytes.fromhex(salt)), bytes.fromhex(digest))


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode("utf-8", "surrogatepass"), salt=salt, n=_COST, r=8, p=1)


NOBODY = f"scrypt${'00' * 16}${'00' * 64}"
"""Compared with when there is no such account, so that both cases take equally long."""


class Accounts:
    """Who is who. Everything but hashing runs on the event loop."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._secret = _secret(sandbox)

    def register(self, email: str, first_name: str, last_name: str, password_hash: str) -> int | None:
        """The id of the new account, or None when the email has one already."""
        with self._sandbox.transaction() as db:
            row = db.execute(
                "INSERT INTO dicomaestro_account (email, first_name, last_name, password) VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING RETURNING id",
                (normal_email(email), first_name, last_name, password_hash),
            ).fetchone()
        return None if row is None else int(row["id"])

    async def login(self, email: str, password: str) -> Account | None:
        """The account with this email and password, or None."""
        row = self._sandbox.db.execute(
            "SELECT id, password FROM dicomaestro_account WHERE email = ?", (normal_email(email),)
        ).fetchone()
        stored = NOBODY if row is None else row["password"]
        matches = await to_thread.run_sync(password_matches, password, stored)
        return self.account(row["id"]) if row is not None and matches else None

    def account(self, account_id: int) -> Account | None:
        """The account with this id, or None."""
        row = self._sandbox.db.execute(
            "SELECT a.id, first_name, last_name, p.account_id IS NOT NULL AS developer FROM dicomaestro_account a"
            " LEFT JOIN dicomaestro_profile p ON p.account_id = a.id WHERE a.id = ?",
            (account_id,),
        ).fetchone()
        if row is None:
            return None
        return Account(row["id"], row["first_name"], row["last_name"], bool(row["developer"]))

    def add_key(self, account_id: int, name: str, key: str | None = None) -> tuple[int, str]:
        """Make a key and return its id and its text, which cannot be had again."""
        if key is None:
            prefix, secret = ("".join(secrets.choice(_LETTERS) for _ in range(count)) for count in (8, 32))
            key = f"{prefix}.{secret}"
        with self._sandbox.transaction() as db:
            row = db.execute(
                "INSERT INTO dicomaestro_key (account_id, prefix, hash, name, created) VALUES (?, ?, ?, ?, ?)"
                " RETURNING id",
                (account_id, key.partition(".")[0][:8], _key_hash(key), name, self._sandbox.now().isoformat()),
            ).fetchone()
        return int(row["id"]), key

    def token(self, account: Account, kind: str) -> str:
        """A signed token of the kind `access` (15 minutes) or `refresh` (30 days)."""
        now = int(self._sandbox.now().timestamp())
        claims = {
            "token_type": kind,
            "exp": now + (ACCESS_SECONDS if kind == "access" else REFRESH_SECONDS),
            "iat": now,
            "jti": uuid.uuid4().hex,
            "user_id": account.id,
            "first_name": account.first_name,
            "last_name": account.last_name,
        }
        return jwt.encode(claims, self._secret, "HS256")

    def claims(self, token: str) -> dict[str, Any] | None:
        """What a token says, or None when it is not ours or has expired."""
        try:
            # The sandbox has a clock of its own, which PyJWT would not look at.
            claims: dict[str, Any] = jwt.decode(
                token,
                self._secret,
                ["HS256"],
                options={"verify_exp": False, "verify_iat": False, "require": ["exp", "token_type", "user_id"]},
            )
        except jwt.InvalidTokenError:
            return None
        return claims if claims["exp"] > self._sandbox.now().timestamp() else None

    async def authenticate(self, request: Request) -> Account | None:
        """Who sends the request: None for nobody. Raises ApiError 401 for credentials that are not good.

        As in the service, `Bearer` (in this case only) announces a token, and everything else is taken for a key, with
        or without `ApiKey ` before it.
        """
        header = request.headers.get("authorization", "")
        words = header.split()
        if not words:
            return None
        if words[0] != "Bearer":
            row = self._sandbox.db.execute(
                "SELECT account_id FROM dicomaestro_key WHERE hash = ?", (_key_hash(header.removeprefix("ApiKey ")),)
            ).fetchone()
            if row is None:
                raise unauthorized("Invalid or missing API key.")
            return self.account(row["account_id"])
        if len(words) != 2:
            raise unauthorized(
                "Authorization header must contain two space-delimited values", code="bad_authorization_header"
            )
        claims = self.claims(words[1])
        if claims is None or claims["token_type"] != "access":  # noqa: S105 - a kind
            message = "Token is invalid or expired" if claims is None else "Token has wrong type"
            raise unauthorized(
                "Given token not valid for any token type",
                code="token_not_valid",
                messages=[{"token_class": "AccessToken", "token_type": "access", "message": message}],
            )
        account = self.account(claims["user_id"])
        if account is None:
            raise unauthorized("User not found", code="user_not_found")
        return account


def normal_email(email: str) -> str:
    """An email address with its domain in lower case, the form in which accounts are kept."""
    name, at, domain = email.rpartition("@")
    return f"{name}{at}{domain.lower()}"


def _key_hash(key: str) -> str:
    return hashlib.sha512(key.encode("utf-8", "surrogatepass")).hexdigest()


def _secret(sandbox: Sandbox) -> str:
    """The signing secret of this data directory, made on first use and readable by its owner only."""
    path = sandbox.root / "dicomaestro-jwt-secret"
    if not path.exists():
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
        part.replace(path)
    return path.read_text(encoding="ascii")
