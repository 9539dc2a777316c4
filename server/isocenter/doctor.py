"""`isocenter doctor`: looks at what a user can have wrong and says what to do about it. Changes nothing and sends no credentials."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import anyio
import httpx

import isocenter_clients
from isocenter import settings as configuration
from isocenter.core import InvalidSpec, IsocenterError, MissingCredentials
from isocenter.core.auth import authorize
from isocenter.core.http import open_transport
from isocenter.settings import Settings

State = Literal["ok", "note", "problem"]
SECONDS = 5.0  # to reach a service; whoever is slower is no help to an assistant either


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `note` means it works but not for everything; `advice` says what to do."""

    subject: str
    state: State
    what: str
    advice: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The finding as JSON, without empty advice."""
        return {name: value for name, value in asdict(self).items() if value}


async def examine(
    config: Path | None, data: Path, environ: Mapping[str, str], *, offline: bool = False
) -> list[Finding]:
    """Everything, in the order in which it matters. `config` is the file given on the command line, `data` the sandbox's folder."""
    try:
        settings = configuration.load(isocenter_clients.APIS, config, environ)
    except IsocenterError as error:
        return [Finding("configuration", "problem", str(error), "Correct it, and run this again.")]
    file = config or Path(environ.get("ISOCENTER_CONFIG") or configuration.default_path(environ))
    found = [Finding("configuration", "ok", str(file) if file.exists() else f"no file at {file}; defaults are used")]
    found += [_contract(api) for api in isocenter_clients.APIS]
    if any(finding.state == "problem" for finding in found):
        return found
    found += [_credentials(api, settings) for api in isocenter_clients.APIS]
    if not offline:
        found += await _reachable(settings)
    return [*found, _downloads(settings.download_dir), _sandbox(data)]


def _contract(api: str) -> Finding:
    try:
        contract = isocenter_clients.contract(api)
        for operation in contract.operations.values():
            operation.check({})
    except (InvalidSpec, OSError, ValueError) as error:
        return Finding(
            f"contract {api}", "problem", str(error), "The installation is damaged: install isocenter again."
        )
    return Finding(f"contract {api}", "ok", f"{len(contract.operations)} operations")


def _credentials(api: str, settings: Settings) -> Finding:
    contract, held = isocenter_clients.contract(api), settings.api(api).credentials
    subject, missing = f"credentials {api}", list[str]()
    for operation in contract.operations.values():
        try:
            authorize(operation, held)
        except MissingCredentials as error:
            missing.append(str(error).partition("nothing was sent. ")[2] or str(error))
    if not missing:
        needed = any(operation.security for operation in contract.operations.values())
        return Finding(subject, "ok", "configured" if needed else "none needed")
    what = f"missing for {len(missing)} of {len(contract.operations)} operations"
    return Finding(subject, "note", what, max(set(missing), key=missing.count))


async def _reachable(settings: Settings) -> list[Finding]:
    """All services at once, each asked for its base address without credentials: any answer will do."""
    found: dict[str, Finding] = {}
    transport = open_transport()

    async def ask(api: str) -> None:
        configured = settings.api(api).base_url
        address = configured or isocenter_clients.contract(api).base_url
        subject, variable = f"service {api}", f"ISOCENTER_{configuration.env_name(api)}_BASE_URL"
        timeout = dict.fromkeys(("connect", "read", "write", "pool"), SECONDS)
        try:
            with anyio.fail_after(SECONDS):
                request = httpx.Request("GET", address, extensions={"timeout": timeout})
                response = await transport.handle_async_request(request)
                status = response.status_code
                await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:  # TimeoutError is an OSError
            what = f"{address} cannot be reached ({type(error).__name__})"
            local = urlsplit(address).hostname in ("127.0.0.1", "localhost", "::1")
            start = "Start it with `isocenter sandbox`, or set" if local else "Check network and proxy, or set"
            found[api] = Finding(subject, "problem" if configured else "note", what, f"{start} {variable}.")
        else:
            broken = status in (502, 503, 504)
            found[api] = Finding(
                subject,
                "note" if broken else "ok",
                f"{address} answers {status}" if broken else f"{address} answers",
                "It, or a proxy before it, is down: try later." if broken else "",
            )

    try:
        async with anyio.create_task_group() as group:
            for api in isocenter_clients.APIS:
                group.start_soon(ask, api)
    finally:
        await transport.aclose()
    return [found[api] for api in isocenter_clients.APIS]


def _writable(folder: Path) -> str:
    """Why nothing can be written to a folder, or into where it will be made; empty when it can."""
    place = folder.expanduser()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return f"{place} is no folder"
    try:
        with tempfile.TemporaryFile(dir=place):
            return ""
    except OSError as error:
        return f"{place}: {error.strerror}"


def _downloads(folder: Path) -> Finding:
    if reason := _writable(folder):
        return Finding("download folder", "problem", reason, "Set ISOCENTER_DOWNLOAD_DIR to a folder you may write to.")
    return Finding("download folder", "ok", str(folder))


def _sandbox(data: Path) -> Finding:
    subject = "sandbox data"
    if reason := _writable(data):
        return Finding(subject, "problem", reason, "Give --data a folder you may write to.")
    lock = data / "lock.db"
    if lock.exists():
        try:
            with closing(sqlite3.connect(lock, timeout=0, isolation_level=None)) as db:
                db.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            return Finding(subject, "note", f"a sandbox is using {data}", "A second one needs another --data.")
        except sqlite3.DatabaseError:
            return Finding(subject, "problem", f"{lock} is damaged", "Delete it while no sandbox runs.")
    return Finding(subject, "ok", str(data))
