"""One request to the CIRCUS DB API: how its body is read, how a refusal looks, and the way through the checks.

The order of the checks is the real server's and shows in its answers: the body is parsed first (so malformed JSON is
refused even for an unknown path or without a token), then path and verb, token, content type, global privilege, case,
project role, body schema, and last the handler's own rules. Every answer carries the CORS headers.
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

import anyio
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from isocenter.sandbox.circus.schemas import DEFINITIONS, Schema
from isocenter.sandbox.circus.validation import validate
from isocenter.sandbox.multipart import MalformedMultipart, PartData, PartStart, Splitter

if TYPE_CHECKING:
    from isocenter.sandbox.circus.identity import Rights
    from isocenter.sandbox.circus.store import Store
    from isocenter.sandbox.circus.tasks import Tasks

log = logging.getLogger("isocenter.sandbox.circus")

Json = Any

JSON_LIMIT = 1024 * 1024
UPLOAD_LIMIT = 200 * 1024 * 1024
"""Bytes of one uploaded file, the real server's default."""
DRAIN_LIMIT = 64 * 1024 * 1024
"""So much of an unwanted body is read and dropped, so that the client sees the answer instead of a broken pipe."""

JSON_TYPES = {
    "application/json",
    "application/json-patch+json",
    "application/vnd.api+json",
    "application/csp-report",
}
CORS = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "POST, GET, PUT, OPTIONS, PATCH, DELETE",
    "access-control-allow-credentials": "true",
    "access-control-allow-headers": "Authorization, Content-Type",
    "access-control-max-age": "86400",
}


class Refusal(Exception):
    """An answer that is no success: `{"error": message}` with `status`, and what `extra` adds."""

    def __init__(self, status: int, message: str, extra: Mapping[str, Json] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": message, **(extra or {})}


class Accident(Exception):
    """Where the real server runs into an exception: 500 without a reason; `strict` is what it should have said."""

    def __init__(self, status: int, message: str, production: str = "Internal server error.") -> None:
        super().__init__(message)
        self.strict = Refusal(status, message)
        self.usual = Refusal(500, production)


@dataclass(slots=True)
class Reply:
    """A success. `body` goes out as JSON unless `stream` or `data` is given; None is an empty body."""

    status: int = 200
    body: Json = None
    data: bytes | None = None
    stream: AsyncIterator[bytes] | None = None
    media_type: str = "application/json; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)


NO_CONTENT = Reply(204)


class Body:
    """The request's bytes as they arrive."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._more = True

    async def chunks(self) -> AsyncIterator[bytes]:
        """What has not been read yet. Ends early when the client hangs up."""
        while self._more:
            message = await self._receive()
            self._more = message["type"] == "http.request" and message.get("more_body", False)
            if chunk := message.get("body", b""):
                yield chunk

    async def read(self, limit: int) -> bytes | None:
        """Everything, or None when it is more than `limit` bytes."""
        read = bytearray()
        async for chunk in self.chunks():
            read += chunk
            if len(read) > limit:
                return None
        return bytes(read)

    async def drop(self) -> None:
        """Read the rest and forget it, up to `DRAIN_LIMIT`."""
        dropped = 0
        async for chunk in self.chunks():
            dropped += len(chunk)
            if dropped > DRAIN_LIMIT:
                return


@dataclass(slots=True)
class Call:
    """One request on its way to a handler, and everything the checks found out about it."""

    store: Store
    tasks: Tasks
    scope: Scope
    method: str
    path: str
    headers: Headers
    query: dict[str, list[str]]
    stream: Body
    body: Json = field(default_factory=dict)
    files: list[IO[bytes]] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    token: str = ""
    user: dict[str, Json] = field(default_factory=dict)
    rights: Rights = None  # type: ignore[assignment]  # set by authentication, before any handler sees the call
    case: dict[str, Json] = field(default_factory=dict)

    @property
    def strict(self) -> bool:
        """Whether accidents of the real server become proper refusals."""
        return self.store.sandbox.options.strict

    @property
    def email(self) -> str:
        """The caller's identity."""
        email: str = self.user["userEmail"]
        return email

    def first(self, name: str) -> str | None:
        """The first value of a query parameter, or None when it is absent."""
        values = self.query.get(name)
        return values[0] if values else None


Handler = Callable[[Call], Awaitable[Reply]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One verb and path with what is checked before its handler runs."""

    verb: str
    path: str
    handler: Handler
    authenticated: bool = True
    content_type: str = "application/json"
    privilege: str | None = None
    role: str | None = None
    schema: Schema | None = None
    strict_schema: Schema | None = None

    def pattern(self) -> re.Pattern[str]:
        """The path as the real router reads it: any case, one trailing slash allowed, a parameter up to the next /."""
        return re.compile(re.sub(r":(\w+)", r"(?P<\1>[^/]+?)", self.path) + "/?", re.IGNORECASE)


async def read_json(call: Call) -> Json:
    """The body as JSON: an object or an array; `{}` when it is empty. Refuses the rest as the real server words it."""
    raw = await call.stream.read(JSON_LIMIT)
    encoding = call.headers.get("content-encoding", "identity").lower()
    if raw is not None and encoding in {"gzip", "deflate"}:
        raw = inflate(raw, JSON_LIMIT)
    if raw is None:
        raise _bad_json(call, 413, "request entity too large")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _bad_json(call, 400, "Unexpected token \ufffd in JSON") from None
    if not text:
        return {}
    if text.lstrip(" \t\r\n")[:1] not in {"{", "["}:
        raise _bad_json(call, 400, "invalid JSON, only supports object and array")
    try:
        return parse_json(text)
    except json.JSONDecodeError as error:
        at = error.pos
        found = (
            f"Unexpected token {text[at]} in JSON at position {at}"
            if at < len(text)
            else "Unexpected end of JSON input"
        )
        raise _bad_json(call, 400, found) from None
    except ValueError:
        raise _bad_json(call, 400, "Unexpected token in JSON") from None


def _bad_json(call: Call, strict_status: int, message: str) -> Refusal:
    return Refusal(strict_status if call.strict else 400, f"Invalid JSON as request body.\n{message}")


def parse_json(text: str) -> Json:
    """Parse like JavaScript: no NaN, numbers are doubles, whole ones become integers. Raises ValueError."""

    def number(written: str) -> int | float:
        value = float(written)
        return int(value) if value.is_integer() and abs(value) < 2**53 else min(max(value, -1.797e308), 1.797e308)

    def constant(name: str) -> Json:
        raise ValueError(name)

    try:
        return json.loads(text, parse_int=number, parse_float=number, parse_constant=constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def inflate(raw: bytes, limit: int) -> bytes | None:
    """Decompress gzip or zlib data; None when it is more than `limit` bytes. Raises zlib.error."""
    engine = zlib.decompressobj(wbits=47)
    data = engine.decompress(raw, limit + 1)
    if len(data) > limit or engine.unconsumed_tail:
        return None
    if not engine.eof:
        raise zlib.error("incomplete data")
    return data


async def read_files(call: Call) -> None:
    """Take the parts named `files` of a multipart body to temporary files, in order."""
    size, target = 0, None
    try:
        splitter = Splitter(call.headers["content-type"])
        async for chunk in call.stream.chunks():
            for event in splitter.feed(chunk):
                if isinstance(event, PartStart):
                    size, target = 0, None
                    if event.filename is not None:
                        if event.name != "files":
                            raise Accident(400, "Unexpected field")
                        target = tempfile.SpooledTemporaryFile(max_size=1 << 20)  # noqa: SIM115 - closed with the call
                        call.files.append(target)
                elif isinstance(event, PartData) and target is not None:
                    size += len(event.data)
                    if size > UPLOAD_LIMIT:
                        raise Accident(413, "File too large")
                    target.write(event.data)
        splitter.close()
    except MalformedMultipart as error:
        raise Accident(400, f"Malformed multipart body: {error}") from error
    for file in call.files:
        file.seek(0)


async def prepare(call: Call) -> None:
    """Parse the body by its content type, as the real server does before it looks at the path."""
    has_body = "transfer-encoding" in call.headers or call.headers.get("content-length", "").strip().isdigit()
    media_type = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if has_body and media_type in JSON_TYPES:
        try:
            call.body = await read_json(call)
        except zlib.error:
            raise _bad_json(call, 400, "incorrect header check") from None
    elif has_body and media_type == "multipart/form-data":
        await read_files(call)


async def pass_checks(call: Call, endpoint: Endpoint, authenticate: Callable[[Call], None]) -> None:
    """Everything between routing and the handler. Raises Refusal."""
    if endpoint.authenticated:
        authenticate(call)
    if call.method in {"POST", "PUT", "PATCH"} and call.body != []:
        stated = call.headers.get("content-type", "").split(";")[0]
        if not stated:
            raise Refusal(400, "Content-type is unspecified.")
        if stated != endpoint.content_type:
            raise Refusal(415, f"This content-type is unsupported. Expected {endpoint.content_type}")
    if endpoint.privilege and endpoint.privilege not in call.rights.global_privileges:
        text = "You do not have sufficient privilege to access this resource."
        raise Refusal(401, text + endpoint.privilege)
    if endpoint.role:
        project_id = call.params.get("projectId", "")
        if "caseId" in call.params:
            call.case = call.store.case(call.params["caseId"])
            project_id = call.case["projectId"]
        if not call.rights.has(project_id, endpoint.role):
            raise Refusal(401, f'You do not have "{endpoint.role}" privilege of this project.')
    schema = endpoint.strict_schema if call.strict and endpoint.strict_schema else endpoint.schema
    if schema is not None and (errors := validate(schema, call.body, DEFINITIONS)):
        raise Refusal(400, "Request data is not correct.", {"validationErrors": errors})


def to_response(reply: Reply) -> Response:
    """The reply as Starlette sends it."""
    headers = {**reply.headers, **CORS}
    if reply.stream is not None:
        return StreamingResponse(reply.stream, reply.status, headers, reply.media_type)
    if reply.data is not None:
        return Response(reply.data, reply.status, headers, reply.media_type)
    if reply.body is None:
        return Response(None, reply.status, headers)
    return Response(to_json(reply.body), reply.status, headers, reply.media_type)


def to_json(value: Json) -> bytes:
    """JSON as JavaScript writes it: UTF-8, lone surrogates escaped."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


async def stream_file(path: Path) -> AsyncIterator[bytes]:
    """A file in pieces; the file may be deleted meanwhile."""
    async with await anyio.open_file(path, "rb") as file:
        while piece := await file.read(1 << 18):
            yield piece


class Application:
    """The ASGI application below `/circus`: finds the endpoint, runs the checks, turns exceptions into answers."""

    def __init__(
        self,
        store: Store,
        tasks: Tasks,
        endpoints: list[Endpoint],
        authenticate: Callable[[Call], None],
        login: Handler,
    ) -> None:
        self.store = store
        self.tasks = tasks
        self.endpoints = [(endpoint, endpoint.pattern()) for endpoint in endpoints]
        self.authenticate = authenticate
        self.login = login

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; there are no websockets here."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
            return
        # The path as it was sent: a parameter may hold an encoded slash.
        path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        call = Call(
            store=self.store,
            tasks=self.tasks,
            scope=scope,
            method=scope["method"],
            path=path.removeprefix(scope.get("root_path", "")),
            headers=Headers(scope=scope),
            query=parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True, errors="replace"),
            stream=Body(receive),
        )
        try:
            reply = await self._answer(call)
        except Refusal as refusal:
            reply = Reply(refusal.status, refusal.body)
        except Accident as accident:
            told = accident.strict if call.strict else accident.usual
            reply = Reply(told.status, told.body)
        except Exception:  # as upstream: whatever a handler did not foresee is one sentence to the client
            log.exception("the CIRCUS sandbox failed")
            reply = Reply(500, {"error": "Internal server error."})
        await call.stream.drop()
        if call.method == "HEAD" and reply.stream is not None:
            reply = replace(reply, stream=None, data=b"")
        try:
            await to_response(reply)(scope, receive, send)
        finally:
            for file in call.files:
                file.close()

    async def _answer(self, call: Call) -> Reply:
        if call.path == "/login" or call.path.startswith("/login/"):
            return await self.login(call)
        if call.path != "/api" and not call.path.startswith("/api/"):
            raise Refusal(404, "Not found")
        if call.method == "OPTIONS":
            return Reply(200)
        await prepare(call)
        verb = "GET" if call.method == "HEAD" else call.method
        for endpoint, pattern in self.endpoints:
            if endpoint.verb == verb and (found := pattern.fullmatch(call.path.removeprefix("/api"))):
                call.params = {name: unquote(value, errors="replace") for name, value in found.groupdict().items()}
                await pass_checks(call, endpoint, self.authenticate)
                return await endpoint.handler(call)
        raise Refusal(404, "Not found")
