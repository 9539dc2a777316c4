"""A service on a real socket that answers as `specs/minirad.yaml` says, or as badly as a test wants, and remembers what it was sent."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal, Self
from urllib.parse import unquote

import uvicorn

PATIENT = {"id": "PAT-0001", "sex": "F", "birthDate": "1970-01-31", "weight": 61.5}
CASE = {
    "caseId": "MR-0001",
    "title": "Knee",
    "note": None,
    "createdAt": "2024-02-29T12:00:00Z",
    "patient": PATIENT,
    "images": [{"number": 1, "view": "axial"}],
}
EMPTY_ZIP = b"PK\x05\x06" + bytes(18)


@dataclass
class Seen:
    """One request as it stood on the wire: `path` and `query` still percent-encoded, header names in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes = b""
    ended: Literal["", "answered", "aborted"] = ""

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Reply:
    """One answer. `body` may depend on the request. `how`: sent whole, cut off half way, never sent, or `size` zero bytes after `body`."""

    status: int = 200
    body: Any = None
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    how: Literal["whole", "cut", "hang", "stream"] = "whole"
    size: int = 0

    def content(self, seen: Seen) -> bytes:
        """The bytes of the body: JSON unless it is text or bytes already."""
        body = self.body(seen) if callable(self.body) else self.body
        if body is None:
            return b""
        return (
            body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        )


def documented(seen: Seen) -> Reply:
    """What the specification promises for a good request."""
    last = unquote(seen.path).rsplit("/", 1)[-1]
    match seen.method, last:
        case "GET", "info":
            return Reply(body={"version": "1.0.0"})
        case "GET", "cases":
            return Reply(body=[CASE])
        case "GET", "archive":
            return Reply(body=EMPTY_ZIP, content_type="application/zip")
        case "POST", "cases":
            return Reply(201, CASE)
        case "POST", "orders":
            return Reply(201, headers={"Location": "/orders/7"})
        case "POST", "attachments":
            return Reply(201, {"stored": 1})
        case "POST", "dicom":
            return Reply(200, {"stored": seen.body.count(b"DICM")})
        case "POST", "search":
            return Reply(body="No finding.", content_type="text/plain; charset=utf-8")
        case (("PUT" | "DELETE"), _):
            return Reply(204)
    return Reply(body=CASE)


class Upstream:
    """The service, running for as long as the context lasts: `url`, the `log` of requests, and `next` to say what comes back."""

    def __init__(self) -> None:
        self.log: list[Seen] = []
        self._script: deque[Reply] = deque()
        self._changed = threading.Condition()
        self._open = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._app,
                interface="asgi3",
                lifespan="off",
                ws="none",
                log_level="critical",
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with self._socket, closing(self._loop):
            self._loop.run_until_complete(self._server.serve([self._socket]))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._server.should_exit = True
        self._thread.join(10)

    def next(self, *replies: Reply) -> None:
        """The answers to the coming requests, in order; afterwards the documented ones again."""
        self._script.extend(replies)

    def clear(self) -> None:
        """Forget requests and answers that were not fetched."""
        self.log.clear()
        self._script.clear()

    def wait(self, condition: Callable[[list[Seen]], bool], seconds: float = 10) -> None:
        """Until the log fulfils `condition`; fails after `seconds`."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.log), seconds), self.log

    def release(self) -> None:
        """Let every answer that hangs go out."""
        self._loop.call_soon_threadsafe(self._open.set)

    def _note(self, change: Callable[[], None]) -> None:
        with self._changed:
            change()
            self._changed.notify_all()

    async def _app(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        seen = Seen(scope["method"], scope["raw_path"].decode(), scope["query_string"].decode(), headers)
        pieces = []
        while True:
            message = await receive()
            pieces.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        seen.body = b"".join(pieces)
        reply = self._script.popleft() if self._script else documented(seen)
        self._note(lambda: self.log.append(seen))
        if reply.how == "hang":
            self._open.clear()
            gone, opened = asyncio.ensure_future(receive()), asyncio.ensure_future(self._open.wait())
            await asyncio.wait((gone, opened), return_when=asyncio.FIRST_COMPLETED)
            opened.cancel()
            if gone.done():
                self._note(lambda: setattr(seen, "ended", "aborted"))
                return
            gone.cancel()
        await self._send(reply, reply.content(seen), send)
        self._note(lambda: setattr(seen, "ended", "answered"))

    async def _send(self, reply: Reply, content: bytes, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        headers = dict(reply.headers)
        if content or reply.size:
            headers |= {"Content-Type": reply.content_type, "Content-Length": str(len(content) + reply.size)}
        elif reply.status != 204:
            headers["Content-Length"] = "0"
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": reply.status, "headers": raw})
        if reply.how == "cut":
            await send({"type": "http.response.body", "body": content[: len(content) // 2], "more_body": True})
            raise ConnectionAbortedError  # uvicorn closes the connection
        if reply.how == "stream":
            await send({"type": "http.response.body", "body": content, "more_body": True})
            for sent in range(0, reply.size, 1 << 20):
                piece = bytes(min(1 << 20, reply.size - sent))
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            content = b""
        await send({"type": "http.response.body", "body": content})
