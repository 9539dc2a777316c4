"""How a Django REST framework service answers, as far as DICOMaestro shows it.

An `Endpoint` does what the framework does before and after the code of an operation, in the framework's order: choose
the answer's type (406), authenticate (401), check permission (403), find the method (405), and only then read the body
(413, 415, 400). Errors are JSON; unknown addresses and crashes are HTML pages.
"""

from __future__ import annotations

import html
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Message, Receive, Scope, Send

log = logging.getLogger("isocenter.sandbox.dicomaestro")

MAX_BODY_BYTES = 100 << 20
"""What the web server in front of the service lets through."""

JSON, FORM, MULTIPART = "application/json", "application/x-www-form-urlencoded", "multipart/form-data"
ANY_BODY = (JSON, FORM, MULTIPART)

_PAGE = """
<!doctype html>
<html lang="en">
<head>
  <title>{title}</title>
</head>
<body>
  <h1>{title}</h1><p>{details}</p>
</body>
</html>
"""
NOT_FOUND = _PAGE.format(title="Not Found", details="The requested resource was not found on this server.")
SERVER_ERROR = _PAGE.format(title="Server Error (500)", details="")
TOO_LARGE = (
    "<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n"
    "<center><h1>413 Request Entity Too Large</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


class ApiError(Exception):
    """An answer other than success: status, JSON body, headers."""

    def __init__(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, dict(headers or {})


class BodyTooLarge(Exception):
    """The body has more than `MAX_BODY_BYTES`."""


def detail(status: int, text: str) -> ApiError:
    """The usual error: one sentence under `detail`."""
    return ApiError(status, {"detail": text})


def compact(value: object) -> bytes:
    """JSON as the framework writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Account:
    """Who calls. Developers are those with a profile."""

    id: int
    first_name: str
    last_name: str
    developer: bool


@dataclass(slots=True)
class Call:
    """One request on its way through an operation."""

    request: Request
    account: Account | None
    parsers: tuple[str, ...]

    @property
    def caller(self) -> Account:
        """The account, for operations that cannot be reached without one."""
        assert self.account is not None
        return self.account

    async def data(self) -> dict[str, Any]:
        """The fields of a JSON or form body. Raises ApiError 415 and 400."""
        form = await self.form()
        if form is not None:
            return dict(form.items())
        body = await self.request.body()
        if not body:
            return {}
        try:
            data = json.loads(body, parse_constant=_no_constant)
        except ValueError as error:
            raise detail(400, f"JSON parse error - {error}") from error
        if not isinstance(data, dict):
            raise ApiError(
                400,
                {"non_field_errors": [f"Invalid data. Expected a dictionary, but got {type(data).__name__}."]},
            )
        return data

    async def form(self) -> FormData | None:
        """The parts of a form body, or None for a JSON or an absent one. Raises ApiError 415 and 400."""
        headers = self.request.headers
        content_type = headers.get("content-type", "")
        media_type = content_type.partition(";")[0].strip().lower()
        if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
            return FormData() if media_type in (FORM, MULTIPART) else None
        if media_type not in self.parsers:
            raise detail(415, f'Unsupported media type "{content_type}" in request.')
        if media_type == JSON:
            return None
        if media_type == MULTIPART and not re.search(r';\s*boundary="?[^\s";]', content_type, re.IGNORECASE):
            raise detail(400, "Multipart form parse error - Invalid boundary in multipart: None")
        try:
            return await self.request.form(max_files=16, max_fields=10_000)
        except (HTTPException, MultiPartException, FormParserError) as error:
            text = error.detail if isinstance(error, HTTPException) else str(error)
            raise detail(400, f"Multipart form parse error - {text}") from error


def _no_constant(text: str) -> None:
    raise ValueError(f"Out of range float values are not JSON compliant: '{text}'")


Handler = Callable[[Call], Awaitable[object]]
"""Answers with a `Response`, or with a value that becomes a 200 JSON answer."""


Operate = Callable[[], Awaitable[Response]]
Around = Callable[[Request, Account, Operate], Awaitable[Response]]
"""Wraps an operation: may answer instead of it, or after it."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address as an ASGI application."""

    name: str
    methods: Mapping[str, Handler]
    authenticate: Callable[[Request], Awaitable[Account | None]] | None = None
    """None: the Authorization header is not even looked at."""
    account_needed: bool = False
    developer_needed: bool = False
    parsers: tuple[str, ...] = ANY_BODY
    produces: tuple[str, ...] = ()
    """Media types offered besides JSON and HTML."""
    around: Around | None = None
    """Wraps every call of a known account, from before the method is looked for; the quota sits here."""
    allow: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "allow", ", ".join([*self.methods, "OPTIONS"]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                raise BodyTooLarge
            return message

        request = Request(scope, counted)
        response: Response
        try:
            stated = request.headers.get("content-length", "")
            if stated.isdigit() and int(stated) > MAX_BODY_BYTES:
                raise BodyTooLarge
            response = await self._answer(request)
        except BodyTooLarge:
            # The rest of the body is not read, so the connection cannot serve another request.
            response = HTMLResponse(TOO_LARGE, 413, {"Connection": "close"})
        except ClientDisconnect:
            return
        except Exception as error:
            # The text of an error may quote a header, so only its kind is logged.
            log.error("%s failed: %s", self.name, type(error).__name__)
            response = HTMLResponse(SERVER_ERROR, 500)
        finally:
            await request.close()
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        offered = (JSON, "text/html", *self.produces)
        headers = {"Allow": self.allow, "Vary": "Accept"}
        chosen = _negotiate(request.headers.get("accept", "*/*"), offered)
        try:
            if chosen is None:
                raise detail(406, "Could not satisfy the request Accept header.")
            account = await self.authenticate(request) if self.authenticate else None
            if account is None and self.account_needed:
                raise unauthorized("Authentication credentials were not provided.")

            async def operate() -> Response:
                try:
                    if self.developer_needed and not (account and account.developer):
                        raise detail(403, "You do not have permission to perform this action.")
                    answer = await self._operate(Call(request, account, self.parsers))
                except ApiError as error:
                    return _respond(error.body, chosen, error.status, headers | error.headers)
                return answer if isinstance(answer, Response) else _respond(answer, chosen, 200, headers)

            if account is not None and self.around is not None:
                return await self.around(request, account, operate)
            return await operate()
        except ApiError as error:
            return _respond(error.body, chosen, error.status, headers | error.headers)

    async def _operate(self, call: Call) -> object:
        method = call.request.method
        if method == "OPTIONS":
            return {
                "name": self.name,
                "description": "",
                "renders": [JSON, "text/html"],
                "parses": list(self.parsers),
            }
        handler = self.methods.get("GET" if method == "HEAD" else method)
        if handler is None:
            raise detail(405, f'Method "{method}" not allowed.')
        return await handler(call)


def unauthorized(text: str, **more: object) -> ApiError:
    """401 with the challenge that the service sends in every case."""
    return ApiError(401, {"detail": text, **more}, {"WWW-Authenticate": 'Bearer realm="api"'})


def created(body: object) -> Response:
    """A 201 JSON answer."""
    return Response(compact(body), 201, media_type=JSON)


def _respond(body: object, chosen: str | None, status: int, headers: Mapping[str, str]) -> Response:
    if chosen == "text/html":
        # Stands for the framework's browsable pages.
        text = html.escape(json.dumps(body, ensure_ascii=False, indent=4))
        return HTMLResponse(f"<!doctype html><title>DICOMaestro</title><pre>{text}</pre>", status, dict(headers))
    return Response(compact(body), status, dict(headers), JSON)


def _negotiate(accept: str, offered: tuple[str, ...]) -> str | None:
    """The first offered type that the most specific matching ranges name; the framework ignores weights."""
    ranges = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    exact = {name for name in ranges if "*" not in name}
    for matches in (
        lambda kind: kind in exact,
        lambda kind: f"{kind.partition('/')[0]}/*" in ranges,
        lambda kind: "*/*" in ranges,
    ):
        if found := next(filter(matches, offered), None):
            return found
    return None


class Fields:
    """Validation of plain fields with the framework's messages; `errors` collects them all."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data
        self.errors: dict[str, list[str]] = {}

    def text(
        self,
        name: str,
        *,
        required: bool = True,
        blank: bool = False,
        null: bool = False,
        least: int = 0,
        most: int | None = None,
    ) -> str | None:
        """A trimmed text, or None when it is absent, null or wrong (see `errors`)."""
        if name not in self._data:
            if required:
                self.errors[name] = ["This field is required."]
            return None
        value = self._data[name]
        if value is None:
            if not null:
                self.errors[name] = ["This field may not be null."]
            return None
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            self.errors[name] = ["Not a valid string."]
            return None
        text = str(value).strip()
        if not text and not blank:
            self.errors[name] = ["This field may not be blank."]
        elif "\0" in text:
            self.errors[name] = ["Null characters are not allowed."]
        elif most is not None and len(text) > most:
            self.errors[name] = [f"Ensure this field has no more than {most} characters."]
        elif len(text) < least:
            self.errors[name] = [f"Ensure this field has at least {least} characters."]
        else:
            return text
        return None

    def check(self) -> None:
        """Raise ApiError 400 when a field was wrong."""
        if self.errors:
            raise ApiError(400, self.errors)
