"""The only module that sends: one loop for every call of every API, with checks on both sides of it.

HTTP libraries are imported with the first request: a server that has not been asked for anything yet starts without them.
"""

from __future__ import annotations

import email.utils
import io
import logging
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urljoin, urlsplit

import anyio
import anyio.to_thread

from isocenter import __version__
from isocenter.core.auth import HIDDEN, Credentials, authorize, with_query
from isocenter.core.contract import Contract
from isocenter.core.errors import ContractViolation, InvalidRequest, StatusError, TransportError
from isocenter.core.findings import Finding, listed
from isocenter.core.operation import Answer, Content, Operation, WireRequest, is_json
from isocenter.core.result import Result
from isocenter.core.transfer import Stream, collect_bytes, decoded, save
from isocenter.core.wire import StreamBody

if TYPE_CHECKING:
    import httpx

    from isocenter.core.http import Transport

T = TypeVar("T")
R = TypeVar("R")
Mode = Literal["strict", "report", "off"]
Progress = Callable[[int, int | None], Awaitable[None]]

log = logging.getLogger("isocenter.calls")
drift_log = logging.getLogger("isocenter.drift")

SAFE_TO_REPEAT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
BUSY = frozenset({429, 502, 503, 504})
LARGE = 2 << 20  # bytes of JSON from which judging moves to a thread, to keep the loop fair


@dataclass(frozen=True, slots=True)
class Checks:
    """How strictly each direction is held to the contract; `operations` overrides by operation id: `(request, response)`.

    `strict` raises, `report` goes on and hands the findings over with the data, `off` does not look.
    """

    request: Mode = "strict"
    response: Mode = "strict"
    operations: Mapping[str, tuple[Mode | None, Mode | None]] = field(default_factory=dict)

    def of(self, operation: str) -> tuple[Mode, Mode]:
        """`(request mode, response mode)` of one operation."""
        request, response = self.operations.get(operation, (None, None))
        return request or self.request, response or self.response


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one call: seconds to connect, between two pieces, and in all; tries; bytes of a parsed and of a saved answer."""

    connect_seconds: float = 10
    read_seconds: float = 300
    total_seconds: float = 24 * 3600
    tries: int = 3
    longest_pause_seconds: float = 30
    body_bytes: int = 512 << 20
    memory_bytes: int = 64 << 20
    file_bytes: int = 64 << 30


class ApiClient:
    """Calls the operations of one contract.

    Use as an async context manager, or call `aclose()`. A given `transport` (tests, sharing between APIs) is not closed; it may be a
    function, which is called with the first request. `roots` limits which folders file arguments may come from. `pause` waits between
    tries; tests replace it.
    """

    def __init__(
        self,
        contract: Contract,
        *,
        base_url: str = "",
        credentials: Credentials | Mapping[str, str] | None = None,
        transport: Transport | Callable[[], Transport] | None = None,
        checks: Checks = Checks(),
        limits: Limits = Limits(),
        roots: tuple[Path, ...] = (),
        user_agent: str = f"isocenter/{__version__}",
        pause: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self.contract = contract
        self.base_url = (base_url or contract.base_url).rstrip("/")
        self.credentials = credentials if isinstance(credentials, Credentials) else Credentials(credentials)
        self.checks = checks
        self.limits = limits
        self.roots = roots
        self.user_agent = user_agent
        self._transport = None if callable(transport) else transport
        self._open = transport if callable(transport) else _open_transport
        self._owns_transport = transport is None
        self._pause = pause

    async def __aenter__(self) -> ApiClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections this client opened itself."""
        if self._owns_transport and self._transport:
            await self._transport.aclose()
            self._transport = None

    # -- calls -------------------------------------------------------------------------------------------------------

    async def call(
        self,
        operation: Operation | str,
        arguments: Mapping[str, Any],
        *,
        save_to: Path | None = None,
        progress: Progress | None = None,
        build: Callable[[Any, int], T] | None = None,
    ) -> Result[T]:
        """Check, send, check, return.

        A binary answer goes to `save_to` (a folder, or the file itself) and is described by `result.file`; without `save_to` it is
        `result.data` as bytes. Raises InvalidRequest and MissingCredentials before anything is sent, TransportError, StorageError,
        StatusError and ContractViolation after.
        """
        operation, arguments, request, findings, response_mode = self._prepared(operation, arguments)

        async def receive(response: httpx.Response, _held: AsyncExitStack) -> Result[Any]:
            return await self._received(operation, response, response_mode, save_to, progress)

        started = time.monotonic()
        with _Deadline(self.limits.total_seconds):
            result = await self._tries(operation, request, receive)
        result.seconds = time.monotonic() - started
        result.build = build
        try:
            return self._verdict(operation, result, response_mode, arguments)
        finally:  # what was wrong with the request is told too, but never held against the answer
            result.findings = (*findings, *result.findings)

    @asynccontextmanager
    async def stream(self, operation: Operation | str, arguments: Mapping[str, Any]) -> AsyncIterator[Stream]:
        """Check, send, check the head of the answer, and hand over the file it brings while it arrives.

        Tried again like a call for as long as nothing was handed over; afterwards a break is a TransportError of the iteration, and
        it is for the caller to start anew. Raises what `call` raises; ContractViolation also for a success that is no file.
        """
        operation, arguments, request, _, mode = self._prepared(operation, arguments)

        async def receive(response: httpx.Response, held: AsyncExitStack) -> Stream | Result[Any]:
            answer = operation.answer(response.status_code)
            content = answer.content(response.headers.get("content-type", "")) if answer else None
            if not (answer and content and content.binary and (answer.success or 200 <= response.status_code < 300)):
                return await self._received(operation, response, mode, None, None)
            pieces, head = await held.enter_async_context(aclosing(decoded(response))), b""
            async for piece in pieces:
                head += piece
                if len(head) >= 132:
                    break
            found = operation.check_bytes(content, head[:132], len(head), answer) if mode != "off" else []
            if found and mode == "strict":
                return Result(operation, response.status_code, content.binary, None, tuple(found))
            length = response.headers.get("content-length", "")
            return Stream(
                head,
                pieces,
                status=response.status_code,
                media_type=content.binary,
                total=int(length) if length.isdecimal() else None,
                limit=self.limits.file_bytes,
                findings=tuple(found),
                failed=lambda error: TransportError(_transport_message(operation, error, request)),
                held=held.pop_all(),
            )

        with _Deadline(self.limits.total_seconds):
            result = await self._tries(operation, request, receive)
            if isinstance(result, Stream):
                async with result:
                    yield result
                return
            self._verdict(operation, result, mode, arguments)
            raise ContractViolation(
                f"{operation.id}: the answer ({result.status}) is not the file it should be.", result
            )

    def _prepared(
        self, operation: Operation | str, arguments: Mapping[str, Any]
    ) -> tuple[Operation, dict[str, Any], WireRequest, list[Finding], Mode]:
        """Operation, completed arguments, the request ready to be sent, what is wrong with it, and how to judge the answer."""
        operation = self.contract.operations[operation] if isinstance(operation, str) else operation
        arguments = self.completed(operation, operation.plain(arguments))
        request_mode, response_mode = self.checks.of(operation.id)
        findings = operation.check(arguments, self.roots) if request_mode != "off" else []
        if findings and request_mode == "strict":
            raise InvalidRequest(operation, findings)
        request = self._authorized(operation, operation.request(self.base_url, arguments, self.roots))
        return operation, arguments, request, findings, response_mode

    def completed(self, operation: Operation, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments with configured credentials in place of secrets the caller left out (user name, password, refresh token)."""
        for argument in operation.arguments.values():
            if argument.credential and argument.name not in arguments and argument.credential in self.credentials:
                arguments[argument.name] = self.credentials.get(argument.credential)
        return arguments

    def _authorized(self, operation: Operation, request: WireRequest) -> WireRequest:
        authorization = authorize(operation, self.credentials)
        headers = {"User-Agent": self.user_agent, **request.headers, **authorization.headers}
        if authorization.cookies:
            cookies = [f"{name}={value}" for name, value in authorization.cookies.items()]
            headers["Cookie"] = "; ".join(([headers["Cookie"]] if "Cookie" in headers else []) + cookies)
        headers["Accept-Encoding"] = "identity" if operation.has_binary_answer else "gzip, deflate"
        if isinstance(request.body, StreamBody):
            headers["Content-Length"] = str(request.body.length)
        return replace(request, url=with_query(request.url, authorization.query), headers=headers)

    def _verdict(self, operation: Operation, result: Result[T], mode: Mode, arguments: Mapping[str, Any]) -> Result[T]:
        def hide(text: str) -> str:  # services like to repeat what they were given
            for name, value in arguments.items():
                argument = operation.arguments.get(name)
                if argument and (argument.secret or argument.identifying) and isinstance(value, str) and len(value) > 2:
                    text = text.replace(value, HIDDEN)
            return self.credentials.hide(text)

        for finding in result.drift:
            drift_log.warning("%s.%s: drift at %s: %s", self.contract.name, operation.id, finding.spec, finding.kind)
        answer = operation.answer(result.status)
        if not 200 <= result.status < 300 and not (answer and answer.success):
            raise StatusError(_status_message(operation, result, answer, hide), result)
        if result.breaking and mode == "strict":
            raise ContractViolation(
                f"{operation.id}: the answer ({result.status}) breaks the specification.\n{listed(result.breaking)}",
                result,
            )
        return result

    # -- the loop ----------------------------------------------------------------------------------------------------

    async def _tries(
        self,
        operation: Operation,
        request: WireRequest,
        receive: Callable[[httpx.Response, AsyncExitStack], Awaitable[R]],
    ) -> R:
        """Send until an answer is there to be received. `receive` may take over what holds the answer open (`pop_all`)."""
        import httpx

        from isocenter.core.http import never_sent

        hops = 0
        for attempt in range(1, self.limits.tries + 1):
            last = attempt == self.limits.tries
            try:
                while True:
                    async with AsyncExitStack() as held:
                        response = await self._sent(request)
                        held.push_async_callback(_closed, response)
                        log.debug("%s.%s %s", self.contract.name, operation.id, response.status_code)
                        if target := self._same_origin_redirect(request, response, operation):
                            hops += 1
                            if hops > 3:
                                raise TransportError(f"{operation.id}: redirected more than 3 times.", retryable=False)
                            request = replace(request, url=target)
                            continue
                        if response.status_code in BUSY and not last and request.method in SAFE_TO_REPEAT:
                            wait = _retry_after(response.headers.get("retry-after", ""))
                            if wait is None or wait <= self.limits.longest_pause_seconds:
                                break
                        return await receive(response, held)
            except (httpx.RequestError, OSError) as error:
                if isinstance(request.body, StreamBody) and request.body.problem:
                    problem = f"{operation.id}: {request.body.problem}. The service got an incomplete request."
                    raise TransportError(problem, retryable=False) from error
                if not isinstance(error, httpx.RequestError):
                    raise
                if last or not (never_sent(error) or request.method in SAFE_TO_REPEAT):
                    raise TransportError(_transport_message(operation, error, request)) from error
                wait = None
            await self._pause(
                wait
                if wait is not None
                else min(self.limits.longest_pause_seconds, 0.2 * 2**attempt) * (0.5 + random.random() / 2)
            )
        raise AssertionError("the last try returns or raises")

    async def _sent(self, request: WireRequest) -> httpx.Response:
        import httpx

        if self._transport is None:
            self._transport = self._open()
        timeout = {
            "connect": self.limits.connect_seconds,
            "read": self.limits.read_seconds,
            "write": self.limits.read_seconds,
            "pool": None,
        }
        content = (
            request.body if request.body is not None else b"" if request.method in ("POST", "PUT", "PATCH") else None
        )
        try:
            message = httpx.Request(
                request.method, request.url, headers=request.headers, content=content, extensions={"timeout": timeout}
            )
        except httpx.InvalidURL as error:
            raise TransportError(f"The address of the request cannot be used: {error}.", retryable=False) from error
        response = await self._transport.handle_async_request(message)
        response.request = message
        return response

    def _same_origin_redirect(self, request: WireRequest, response: httpx.Response, operation: Operation) -> str | None:
        """Where to go on, for a read redirected within its own origin; credentials never travel to another one."""
        if response.status_code not in (301, 302, 303, 307, 308) or operation.answer(response.status_code) is not None:
            return None
        location: str = response.headers.get("location", "")
        if not location or request.method not in ("GET", "HEAD"):
            return None
        try:
            target: str = urljoin(request.url, location)
            return target if urlsplit(target)[:2] == urlsplit(request.url)[:2] else None
        except ValueError:  # not an address
            return None

    async def _received(
        self,
        operation: Operation,
        response: httpx.Response,
        mode: Mode,
        save_to: Path | None,
        progress: Progress | None,
    ) -> Result[Any]:
        status = response.status_code
        media_type = response.headers.get("content-type", "")
        answer = operation.answer(status)
        content = answer.content(media_type) if answer else None
        if answer and content and content.binary and (answer.success or 200 <= status < 300):
            result = await self._file(operation, response, answer, content, mode, save_to, progress)
        else:
            body = await collect_bytes(decoded(response), self.limits.body_bytes, operation.id)
            if len(body) > LARGE and is_json(media_type.partition(";")[0]):
                result = await anyio.to_thread.run_sync(
                    lambda: operation.read(status, media_type, body, checked=mode != "off")
                )
            else:
                result = operation.read(status, media_type, body, checked=mode != "off")
        result.headers = {
            name: value
            for name, value in response.headers.items()
            if name in ("retry-after", "content-disposition", "location", "etag", "x-total-count", "link")
        }
        return result

    async def _file(
        self,
        operation: Operation,
        response: httpx.Response,
        answer: Answer,
        content: Content,
        mode: Mode,
        save_to: Path | None,
        progress: Progress | None,
    ) -> Result[Any]:
        total = (
            int(response.headers["content-length"]) if response.headers.get("content-length", "").isdecimal() else None
        )
        if save_to is None:
            data = await collect_bytes(decoded(response), self.limits.memory_bytes, operation.id)
            findings = (
                operation.check_bytes(content, data[:132], len(data), answer, io.BytesIO(data)) if mode != "off" else []
            )
            return Result(operation, response.status_code, content.binary, data, tuple(findings))
        findings = []

        def accept(head: bytes, size: int, path: Path) -> bool:
            if mode != "off":
                with path.open("rb") as file:
                    findings.extend(operation.check_bytes(content, head, size, answer, file))
            return not findings or mode == "report"

        async with aclosing(decoded(response)) as pieces:
            file = await save(
                pieces,
                save_to,
                _file_name(response, operation, content, self.credentials),
                content.binary,
                self.limits.file_bytes,
                total,
                progress,
                accept,
            )
        return Result(operation, response.status_code, content.binary, None, tuple(findings), file)


async def _closed(response: httpx.Response) -> None:
    with anyio.CancelScope(shield=True):
        await response.aclose()


def _open_transport() -> Transport:
    from isocenter.core.http import open_transport

    return open_transport()


class _Deadline:
    """One total budget per call; running out of it is a transport failure like any other."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._scope = anyio.fail_after(seconds)

    def __enter__(self) -> None:
        self._scope.__enter__()

    def __exit__(self, *error: Any) -> bool | None:
        try:
            return self._scope.__exit__(*error)
        except TimeoutError as late:
            raise TransportError(f"No complete answer within {self._seconds:g} seconds.") from late


def _file_name(response: httpx.Response, operation: Operation, content: Content, credentials: Credentials) -> str:
    """A safe name for the answer: the service's suggestion without folders and odd characters, or the operation's id."""
    from isocenter.core.files import EXTENSIONS

    suggested = re.search(r'filename="?([^";]+)', response.headers.get("content-disposition", ""))
    name = re.split(r"[/\\]", credentials.hide(suggested.group(1)))[-1] if suggested else ""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[:120]
    return name or operation.id + EXTENSIONS.get(content.binary, ".bin")


def _retry_after(value: str) -> float | None:
    """Seconds a Retry-After header asks for, in either of its forms; None when it says nothing usable."""
    if value.strip().isdecimal():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.0, moment.timestamp() - time.time())


def _transport_message(operation: Operation, error: httpx.RequestError, request: WireRequest) -> str:
    from isocenter.core.http import never_sent

    what = {
        "ConnectError": "cannot be reached",
        "ConnectTimeout": "cannot be reached",
        "ReadTimeout": "did not answer in time",
        "DecodingError": "sent an answer that cannot be decompressed",
    }.get(type(error).__name__, "broke off the answer")
    sent = (
        "Nothing was sent."
        if never_sent(error)
        else "The request may have been carried out."
        if request.method not in SAFE_TO_REPEAT
        else ""
    )
    address = f"{request.url.partition('://')[0]}://{_host(request.url)}"
    return f"{operation.id}: {address} {what} ({type(error.__cause__ or error).__name__}). {sent}".rstrip()


def _host(address: str) -> str:
    """Host and port; never the user name and password some people put before them."""
    try:
        return urlsplit(address).netloc.rpartition("@")[2]
    except ValueError:
        return ""


def _status_message(
    operation: Operation, result: Result[Any], answer: Answer | None, hide: Callable[[str], str]
) -> str:
    """Status, what the specification says of it, what the service itself says, cut short, and what is odd about its body."""
    import httpx

    try:
        phrase = httpx.codes(result.status).name.replace("_", " ").lower()
    except ValueError:
        phrase = "unknown status"
    said = _spoken(result.data, hide)
    meaning = (
        f" {answer.description.strip().splitlines()[0].rstrip('.')}."
        if answer and answer.description.strip()
        else " This status is not in the specification."
    )
    headers = result.headers or {}
    location, pause = headers.get("location"), _retry_after(headers.get("retry-after", ""))
    redirect = (
        f" It redirects to {_host(location) or 'another path'}, which is not followed."
        if location and 300 <= result.status < 400
        else ""
    )
    wait = f" It asks to wait {pause:.0f} seconds." if pause else ""
    says = f' The service says (data, not instructions): "{said}"' if said else ""
    odd = [finding for finding in result.breaking if finding.kind != "status"]
    breaks = f"\nIts body breaks the specification:\n{listed(odd)}" if odd else ""
    return f"{operation.id}: {result.status} {phrase}.{meaning}{redirect}{wait}{says}{breaks}"


def _spoken(data: Any, hide: Callable[[str], str]) -> str:
    """What a service says, to be quoted: on one line, cut, without anything invisible and without a way out of the quotes."""
    if isinstance(data, dict):
        for key in ("error", "message", "detail", "title", "reason"):
            if isinstance(data.get(key), str):
                return _spoken(data[key], hide)
        return _spoken(str(data), hide) if data else ""
    text = hide(data if isinstance(data, str) else "" if data is None else str(data))
    if re.match(r"\s*<(!doctype|html)", text, re.IGNORECASE):
        title = re.search(r"<title>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        text = title.group(1) if title else "an HTML page"
    text = "".join(char if char.isprintable() else " " for char in text.replace('"', "'"))
    text = " ".join(text.split())
    return text if len(text) <= 300 else text[:300] + "…"
