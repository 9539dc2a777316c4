"""Faults on demand: the ways in which real services fail, switched on per service while the sandbox runs.

`POST /_sandbox/faults` with `{"tcia": ["slow"], "qure": []}` sets the faults of the named services and leaves the
others; `GET` shows all. The middleware acts them out for every service alike; only `expired-urls` is the service's own
affair, which asks `Sandbox.fault`.
"""

from __future__ import annotations

from collections.abc import Iterable

import anyio
import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from isocenter.sandbox.state import Sandbox

PREFIXES = {
    "/nbia-api/": "tcia",
    "/services/": "gateway",
    "/qure/": "qure",
    "/dicomaestro/": "dicomaestro",
    "/circus/": "circus",
}
SERVICES = tuple(PREFIXES.values())
FAULTS = ("outage", "slow", "truncated-zip", "html-502", "timeout", "expired-urls")
SLOW_PIECE, SLOW_SECONDS = 32 * 1024, 0.05
"""A slow answer comes in pieces of this many bytes with this pause before each: 640 kB a second."""

_OUTAGE = b"<html><head><title>Error</title></head><body>Internal Server Error</body></html>"
_BAD_GATEWAY = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    b"<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


class UnknownFaultError(ValueError):
    """A fault or a service that does not exist was named."""


def switch(sandbox: Sandbox, wanted: dict[str, Iterable[str]]) -> None:
    """Set the faults of the named services. Raises UnknownFaultError, and then nothing has changed."""
    checked: dict[str, frozenset[str]] = {}
    for service, names in wanted.items():
        if service not in SERVICES:
            raise UnknownFaultError(f"unknown service; known are {', '.join(SERVICES)}")
        checked[service] = frozenset(names)
        if not checked[service] <= set(FAULTS):
            raise UnknownFaultError(f"unknown fault; known are {', '.join(FAULTS)}")
    sandbox.faults.update(checked)


def from_options(options: Iterable[str]) -> dict[str, Iterable[str]]:
    """Read `service:fault`, or `fault` for every service, as the command line gives them."""
    wanted: dict[str, list[str]] = {}
    for text in options:
        service, _, fault = text.rpartition(":")
        for name in [service] if service else SERVICES:
            wanted.setdefault(name, []).append(fault)
    return dict(wanted)


def routes(sandbox: Sandbox) -> list[BaseRoute]:
    """`/_sandbox/faults`: see and switch."""

    async def faults(request: Request) -> Response:
        if request.method == "POST":
            try:
                wanted = orjson.loads(await request.body())
                if not isinstance(wanted, dict) or not all(
                    isinstance(names, list) and all(isinstance(name, str) for name in names)
                    for names in wanted.values()
                ):
                    raise UnknownFaultError('expected {"service": ["fault", ...]}')
                switch(sandbox, wanted)
            except ValueError as error:
                return JSONResponse({"error": str(error)}, 400)
        return JSONResponse({name: sorted(sandbox.faults.get(name, ())) for name in SERVICES})

    return [Route("/_sandbox/faults", faults, methods=["GET", "POST"])]


class Faults:
    """The middleware."""

    def __init__(self, app: ASGIApp, sandbox: Sandbox) -> None:
        """Stand in front of `app`."""
        self._app = app
        self._sandbox = sandbox

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on the request, or fail as asked."""
        path = scope.get("path", "")
        service = next((name for prefix, name in PREFIXES.items() if path.startswith(prefix)), "")
        faults = self._sandbox.faults.get(service)
        if not faults or scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if "timeout" in faults:
            # Never answers; ends when the client gives up.
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        if "html-502" in faults:
            await Response(_BAD_GATEWAY, 502, media_type="text/html")(scope, receive, send)
            return
        if "outage" in faults:
            await Response(_OUTAGE, 500, media_type="text/html")(scope, receive, send)
            return
        if "truncated-zip" in faults:
            send = _truncated(send)
        if "slow" in faults:
            send = _slow(send)
        await self._app(scope, receive, send)


def _slow(send: Send) -> Send:
    async def slowly(message: Message) -> None:
        if message["type"] != "http.response.body":
            await send(message)
            return
        body = message.get("body", b"")
        for start in range(0, max(len(body), 1), SLOW_PIECE):
            await anyio.sleep(SLOW_SECONDS)
            more = message.get("more_body", False) or start + SLOW_PIECE < len(body)
            await send({**message, "body": body[start : start + SLOW_PIECE], "more_body": more})

    return slowly


def _truncated(send: Send) -> Send:
    """Let ZIP answers end early, as proper HTTP: the last piece is kept back, or half of the only one."""
    is_zip = sent = False
    held = b""

    async def cut(message: Message) -> None:
        nonlocal is_zip, sent, held
        if message["type"] == "http.response.start":
            headers = dict(message["headers"])
            disposition = headers.get(b"content-disposition", b"")
            is_zip = b".zip" in disposition or headers.get(b"content-type") == b"application/zip"
            if is_zip:
                kept = [(name, value) for name, value in message["headers"] if name != b"content-length"]
                message = {**message, "headers": kept}
        if message["type"] != "http.response.body" or not is_zip:
            await send(message)
            return
        if body := message.get("body", b""):
            if held:
                await send({**message, "body": held, "more_body": True})
                sent = True
            held = body
        if not message.get("more_body", False):
            rest = b"" if sent else held[: len(held) // 2]
            await send({**message, "body": rest, "more_body": False})

    return cut
