"""What the tests of the client loop share: a contract of one operation per case, a scripted transport, and a small real server."""

from __future__ import annotations

import io
import os
import socketserver
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from isocenter.core import ApiClient, Contract

BASE = "https://probe.test/api"
TOKEN = "t0p-s3cret-value"


def _operation(name: str, **fields: Any) -> dict[str, Any]:
    ok = {"description": "Fine.", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Item"}}}}
    wrong = {"description": "Not fine.", "content": {"application/json": {"schema": {"type": "object"}}}}
    return {"operationId": name, "security": [], "responses": {"200": ok, "4XX": wrong, "503": wrong}, **fields}


def _secured(name: str, *alternatives: dict[str, list[str]]) -> dict[str, Any]:
    return {"get": _operation(name, security=list(alternatives))}


ITEM = {"application/json": {"schema": {"$ref": "#/components/schemas/Item"}}}
PARTS = {
    "type": "object",
    "required": ["files"],
    "properties": {
        "note": {"type": "string"},
        "files": {"type": "array", "items": {"type": "string", "contentMediaType": "application/octet-stream"}},
    },
}
ZIPPED = {"application/octet-stream": {"schema": {"type": "string", "contentMediaType": "application/zip"}}}
CONTRACT = Contract(
    {
        "openapi": "3.1.0",
        "info": {"title": "Probe", "version": "1", "x-isocenter": {"api": "probe", "dialect": 1}},
        "servers": [{"url": BASE}],
        "paths": {
            "/item": {
                "get": _operation(
                    "getItem",
                    parameters=[
                        {"name": "q", "in": "query", "schema": {"type": "string", "x-identifying": True}},
                        {"name": "X-Trace", "in": "header", "schema": {"type": "string"}},
                        {"name": "flavour", "in": "cookie", "schema": {"type": "string"}},
                    ],
                ),
                "post": _operation("createItem", requestBody={"required": True, "content": ITEM}),
                "put": _operation("replaceItem", requestBody={"required": True, "content": ITEM}),
                "delete": _operation("removeItem"),
            },
            "/moved": {
                "get": _operation(
                    "getMoved", responses={"200": {"description": "x"}, "302": {"description": "Gone on."}}
                )
            },
            "/file": {
                "get": _operation(
                    "getFile",
                    responses={
                        "200": {"description": "The file.", "content": ZIPPED},
                        "404": {"description": "No such file."},
                    },
                )
            },
            "/parts": {
                "put": _operation(
                    "putParts", requestBody={"required": True, "content": {"multipart/form-data": {"schema": PARTS}}}
                )
            },
            "/token": _secured("byToken", {"token": []}),
            "/query": _secured("byQuery", {"key": []}),
            "/cookie": {
                "get": _operation(
                    "byCookie",
                    security=[{"session": []}],
                    parameters=[{"name": "flavour", "in": "cookie", "schema": {"type": "string"}}],
                )
            },
            "/basic": _secured("byBasic", {"basic": []}),
            "/bearer": _secured("byBearer", {"bearer": []}),
            "/oauth": _secured("byOauth", {"oauth": []}),
            "/both": _secured("byBoth", {"token": [], "key": []}, {"bearer": []}),
            "/optional": _secured("byChoice", {}, {"bearer": []}),
        },
        "components": {
            "schemas": {
                "Item": {
                    "type": "object",
                    "required": ["id"],
                    "properties": {"id": {"type": "integer"}, "name": {"type": "string"}},
                }
            },
            "securitySchemes": {
                "token": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "x-value-prefix": "Token ",
                    "x-credential": "api-token",
                },
                "key": {"type": "apiKey", "in": "query", "name": "api key"},
                "session": {"type": "apiKey", "in": "cookie", "name": "sid"},
                "basic": {"type": "http", "scheme": "Basic"},
                "bearer": {"type": "http", "scheme": "bearer", "x-credential": "access_token"},
                "oauth": {"type": "oauth2", "flows": {}},
            },
        },
    }
)

Reply = Callable[[httpx.Request], httpx.Response]


def reply(status: int = 200, json: Any = None, *, body: bytes | None = None, **headers: str) -> Reply:
    """An answer; without a body it is the item the contract promises. `retry_after` stands for Retry-After."""
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    if body is not None:
        return lambda _: httpx.Response(status, headers=named, content=body)
    return lambda _: httpx.Response(status, headers=named, json={"id": 1} if json is None else json)


def zipped(body: bytes, disposition: str = "") -> Reply:
    """An answer that says it is the file the contract promises."""
    return reply(body=body, content_type="application/octet-stream", content_disposition=disposition)


class Service(httpx.AsyncBaseTransport):
    """Gives its answers in turn, the last one again and again, raises those that are exceptions, and remembers the requests."""

    def __init__(self, *answers: Reply | Exception) -> None:
        self.answers = answers or (reply(),)
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
        self.requests.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer(request)


class Pauses(list[float]):
    """Stands in for waiting and keeps what was waited for."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


def client(transport: httpx.AsyncBaseTransport | None, **options: Any) -> ApiClient:
    return ApiClient(CONTRACT, transport=transport, **{"pause": Pauses(), **options})


@dataclass
class Wire:
    """A real server: reads requests whole, writes back scripted bytes, and closes the connection after each."""

    url: str
    seen: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def wire(*answers: bytes) -> Iterator[Wire]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            line = self.rfile.readline().decode().strip()
            headers = {}
            while head := self.rfile.readline().decode().strip():
                name, _, value = head.partition(": ")
                headers[name.lower()] = value
            body = self.rfile.read(int(headers.get("content-length", 0)))
            server.seen.append((line, headers, body))
            self.wfile.write(answers[min(len(server.seen), len(answers)) - 1])

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listener:
        server = Wire(f"http://127.0.0.1:{listener.server_address[1]}")
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()


def raw(body: bytes, *lines: str, status: str = "200 OK", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = [f"HTTP/1.1 {status}", f"Content-Length: {size}", "Connection: close", *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


JSON = "Content-Type: application/json"
ZIP = "Content-Type: application/octet-stream"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def archive(members: int = 3) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for number in range(members):
            file.writestr(f"{number}.dcm", os.urandom(2000))
    return buffer.getvalue()
