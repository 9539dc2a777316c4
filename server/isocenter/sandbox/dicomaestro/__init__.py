"""The DICOMaestro sandbox: its addresses and what happens behind them.

By default it does what the usage guide says, on the guide's paths and on the deployed ones, with sane answers where the
guide is silent (`fixed`). With `compat_live` it copies the deployed service: its paths only, its rendering, its file
format, its way of counting. Three of its weaknesses are never copied: hashes of keys in answers, file names that are
not cleaned, and regular expressions without a bound on their running time.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from http import HTTPMethod

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from isocenter.sandbox.dicomaestro.accounts import AccountOperations
from isocenter.sandbox.dicomaestro.auth import SCHEMA as ACCOUNT_SCHEMA
from isocenter.sandbox.dicomaestro.auth import Accounts, hash_password
from isocenter.sandbox.dicomaestro.files import FileOperations
from isocenter.sandbox.dicomaestro.rest import (
    FORM,
    JSON,
    MULTIPART,
    NOT_FOUND,
    Account,
    Around,
    Endpoint,
    Handler,
    Operate,
    compact,
)
from isocenter.sandbox.state import Sandbox

SCHEMA = (
    ACCOUNT_SCHEMA
    + """
CREATE TABLE IF NOT EXISTS dicomaestro_call (
  id INTEGER PRIMARY KEY,
  account_id INTEGER NOT NULL REFERENCES dicomaestro_account (id),
  operation TEXT NOT NULL,
  at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS dicomaestro_call_month ON dicomaestro_call (account_id, operation, at);
"""
)

PREFIX = "/dicomaestro"
QUOTA = 1000
"""Calls a month of each of the two operations that are counted."""

_DEPLOYED_NAMES = {
    "/api/dicom/read/file/": "read-dicom-file",
    "/api/dicom/generate/": "upload-content-for-dicom-image",
}


async def start(sandbox: Sandbox) -> None:
    """Make the developer of `sandbox.credentials["dicomaestro"]`, with profile and key, in a new data directory."""
    credentials = sandbox.credentials["dicomaestro"]
    if sandbox.db.execute("SELECT 1 FROM dicomaestro_account").fetchone():
        return
    accounts = Accounts(sandbox)
    password = await to_thread.run_sync(hash_password, credentials["password"])
    with sandbox.transaction() as db:
        account_id = accounts.register(credentials["email"], "Sandbox", "Developer", password)
        assert account_id is not None
        db.execute("INSERT INTO dicomaestro_profile VALUES (?, 'testing', 'Isocenter sandbox')", (account_id,))
        accounts.add_key(account_id, "Sandbox-developer-key", credentials["api_key"])


def routes(sandbox: Sandbox) -> list[BaseRoute]:
    """Everything below `/dicomaestro`, unknown addresses included."""
    endpoints = _endpoints(sandbox)
    found: list[BaseRoute] = []
    for path, endpoint in endpoints.items():
        found.append(Route(PREFIX + path, endpoint, name=endpoint.name))
        found.append(Route(PREFIX + path.removesuffix("/"), _add_slash, methods=list(HTTPMethod)))
    for path, page in _documentation(endpoints).items():
        found.append(Route(PREFIX + path, page))
        found.append(Route(PREFIX + path.removesuffix("/"), _add_slash))
    found.append(Route(PREFIX + "/{rest:path}", _unknown, methods=list(HTTPMethod)))
    return found


async def _add_slash(request: Request) -> Response:
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"{request.url.path}/{query}", 301)


async def _unknown(_: Request) -> Response:
    return HTMLResponse(NOT_FOUND, 404)


def _endpoints(sandbox: Sandbox) -> dict[str, Endpoint]:
    """Path to endpoint, for the chosen profile."""
    live = sandbox.options.compat_live
    accounts = Accounts(sandbox)
    known = accounts.authenticate
    account, files = AccountOperations(sandbox, accounts), FileOperations(sandbox)
    keys: dict[str, Handler] = {"GET": account.list_keys, "POST": account.create_key}
    delete: dict[str, Handler] = {"DELETE": account.delete_key}
    if live:
        # One view serves both addresses.
        keys = delete = {**keys, **delete}
    key_list = Endpoint("Developer Api Key", keys, known, account_needed=True, developer_needed=True)
    key_delete = Endpoint("Developer Api Key", delete, known, account_needed=True, developer_needed=True)
    generate = Endpoint(
        "Dicom File Data Set Content Upload",
        {"POST": files.generate},
        known,
        account_needed=True,
        parsers=(MULTIPART,),
        produces=() if live else ("application/dicom",),
        around=_counting(sandbox, "/api/dicom/generate/"),
    )
    endpoints = {
        "/api/dicom-format/allowed-fields/": Endpoint("Dicom Allowed Fields", {"GET": files.allowed_fields}, known),
        "/api/dicom-format/required-field-type/": Endpoint(
            "Dicom Required Field Type", {"GET": files.field_types}, known
        ),
        "/api/token/": Endpoint("Custom Token Obtain Pair", {"POST": account.obtain_token}),
        "/api/token/refresh/": Endpoint("Custom Token Refresh", {"POST": account.refresh_token}),
        "/api/auth/register/": Endpoint("User Register", {"POST": account.register}),
        "/api/developer/profiles/": Endpoint(
            "Developer Profile",
            {"GET": account.get_profile, "POST": account.save_profile},
            known,
            account_needed=True,
        ),
        "/api/developer/profiles/activity-summary/": Endpoint(
            "Developer Activity Summary",
            {"GET": account.activity},
            known,
            account_needed=True,
            developer_needed=True,
        ),
        "/api/developer/auth/api-keys/": key_list,
        "/api/developer/auth/api-keys/delete/{id}/": key_delete,
        "/api/dicom/read/file/": Endpoint(
            "Read Dicom File",
            {"POST": files.read},
            known,
            account_needed=True,
            parsers=(MULTIPART, FORM),
            around=_counting(sandbox, "/api/dicom/read/file/"),
        ),
        "/api/dicom/write/upload_content/": generate,
    }
    if not live:
        endpoints |= {
            "/api-keys/": key_list,
            "/api-keys/delete/{id}/": key_delete,
            "/api/dicom/generate/": generate,
        }
    return endpoints


def _counting(sandbox: Sandbox, path: str) -> Around:
    """The monthly quota of an operation: checked before the work by the guide, after it by the deployed service."""
    live = sandbox.options.compat_live

    def refused(account: Account) -> Response | None:
        now = sandbox.now().astimezone(UTC)
        with sandbox.transaction() as db:
            (used,) = db.execute(
                "SELECT count(*) FROM dicomaestro_call WHERE account_id = ? AND operation = ? AND at >= ?",
                (account.id, path, f"{now:%Y-%m}-01"),
            ).fetchone()
            if used < QUOTA:
                db.execute(
                    "INSERT INTO dicomaestro_call (account_id, operation, at) VALUES (?, ?, ?)",
                    (account.id, path, now.isoformat()),
                )
                return None
        name = _DEPLOYED_NAMES[path] if live else path
        body = {
            "error": f"Monthly API request for '{name}' limit exceeded.",
            "quota": QUOTA,
            "requests_used": used if live else used + 1,
        }
        headers = {}
        if not live:
            following = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
            headers["Retry-After"] = str(math.ceil((following - now).total_seconds()))
        return Response(compact(body), 429, headers, JSON)

    async def before(request: Request, account: Account, operate: Operate) -> Response:
        refusal = refused(account) if request.method == "POST" else None
        return refusal or await operate()

    async def after(_: Request, account: Account, operate: Operate) -> Response:
        answer = await operate()
        # Accounts without a profile have no limit, and every answer counts, whatever it was.
        return answer if not account.developer else refused(account) or answer

    return after if live else before


def _documentation(endpoints: Mapping[str, Endpoint]) -> dict[str, Callable[[Request], Awaitable[Response]]]:
    """The generated schema, which lists no bodies, and two pages for people."""
    lines = ["openapi: 3.0.3", "info:", "  title: DICOMaestro API", "  version: 0.0.0", "paths:"]
    items = []
    for path, endpoint in sorted(endpoints.items()):
        lines.append(f"  {path}:")
        for method in endpoint.methods:
            verb = {"GET": "retrieve", "POST": "create", "DELETE": "destroy"}[method]
            name = re.sub(r"[^a-z0-9]+", "_", path.lower()).strip("_")
            lines += [f"    {method.lower()}:", f"      operationId: {name}_{verb}", "      tags:", "      - api"]
            if "{id}" in path:
                lines += ["      parameters:", "      - in: path", "        name: id", "        required: true"]
                lines += ["        schema:", "          type: string"]
            lines += ["      responses:", "        '200':", "          description: No response body"]
            items.append(f"<li><code>{method} {html.escape(path)}</code></li>")

    async def schema(_: Request) -> Response:
        return Response("\n".join(lines) + "\n", media_type="application/vnd.oai.openapi; charset=utf-8")

    async def page(_: Request) -> Response:
        listing = f"<!doctype html><title>DICOMaestro API</title><h1>DICOMaestro API</h1><ul>{''.join(items)}</ul>"
        return HTMLResponse(listing)

    return {"/api/schema/": schema, "/api/schema/swagger-ui/": page, "/api/schema/redoc/": page}
