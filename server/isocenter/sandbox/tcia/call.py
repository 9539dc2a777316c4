"""One request to the NBIA services and the answers all of their operations share."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import anyio.to_thread
import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from isocenter.sandbox.state import Sandbox
from isocenter.sandbox.tcia.formats import BLOCK, Column, content_type, encode
from isocenter.sandbox.tcia.store import select

TABLE = ("application/xml", "application/json", "text/html", "text/csv")
JSON = ("application/json",)
FAILED = "Server was not able to process your request"


@dataclass(frozen=True, slots=True)
class Call:
    """A request as an operation sees it: of a repeated parameter the first value counts, of a form field all do."""

    sandbox: Sandbox
    request: Request
    version: str
    params: Mapping[str, str]
    form: Mapping[str, list[str]]
    user: str

    def field(self, name: str) -> str | None:
        """The first value of a form field."""
        values = self.form.get(name)
        return values[0] if values else None

    @property
    def legacy(self) -> bool:
        """Whether this is any generation but v4."""
        return self.version != "v4"


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation: its method, the parameters v4 checks (None: it checks none) and the types it can answer."""

    run: Handler
    parameters: tuple[str, ...] | None = None
    method: str = "GET"
    produces: tuple[str, ...] = TABLE


class Filter(NamedTuple):
    """A condition on `tcia_series` with one placeholder, and how the parameter becomes its value."""

    sql: str
    change: Callable[[str], str | None]


def folded(column: str) -> Filter:
    """Equal to the parameter in capitals.

    With one of the folded columns that is a comparison without regard to case. With another column it is what the
    archive does where it changes only one side, so that mixed-case values are never found.
    """
    return Filter(f"{column} = ?", str.upper)


def exact(column: str) -> Filter:
    """Equal to the letter."""
    return Filter(f"{column} = ?", str)


def answer(body: bytes | str, media_type: str, status: int = 200, *, content_disposition: str = "") -> Response:
    """A short answer with exactly this content type: the archive names no character set."""
    response = Response(body, status)
    response.headers["content-type"] = media_type
    if content_disposition:
        response.headers["content-disposition"] = content_disposition
    return response


def empty(status: int = 200) -> Response:
    """The archive's way to say "nothing found": a status, no body and no content type."""
    return Response(b"", status)


def refused(sentence: str) -> Response:
    """A 400 of the archive's operations: a plain sentence that is labelled as JSON."""
    return answer(sentence, "application/json", 400)


def required(names: str, verb: str = "is") -> Response:
    """The sentence for a missing parameter; its punctuation differs between operations, so `names` brings it along."""
    return refused(f"A parameter, {names} {verb} required for this API call.")


def not_public(call: Call, uid: str) -> Response:
    """The answer for a series that does not exist or may not be seen."""
    if call.version == "v1":
        return refused(f"Image with given SeriesInstanceUID,{uid}, is not in public domain.")
    return refused(
        f"The user has not been granted the access to image with given SeriesInstanceUID,{uid}."
        " Please contact System Admin to resolve this issue."
    )


def failed(detail: str | None = None) -> Response:
    """The catch-all 500; it also stands for unknown paths and wrong methods."""
    return answer(FAILED if detail is None else f"{FAILED}\n{detail}", "text/plain", 500)


def jackson(value: object) -> Response:
    """JSON of the operations that do not go through the table formatter: slashes bare, nulls as the value has them."""
    return answer(orjson.dumps(value), "application/json")


async def streamed(pieces: Generator[bytes], media_type: str, *, content_disposition: str = "") -> Response:
    """Send what a blocking iterator gives: at once when it is one block, in chunks as they come otherwise."""
    first = await anyio.to_thread.run_sync(next, pieces, b"")
    if not first:
        return empty()
    second = await anyio.to_thread.run_sync(next, pieces, b"")
    if not second:
        return answer(first, media_type, content_disposition=content_disposition)

    async def body() -> AsyncIterator[bytes]:
        yield first
        yield second
        async for piece in ahead(pieces):
            yield piece

    response = StreamingResponse(body())
    response.headers["content-type"] = media_type
    if content_disposition:
        response.headers["content-disposition"] = content_disposition
    return response


async def ahead(pieces: Generator[bytes]) -> AsyncGenerator[bytes, None]:
    """Take from a blocking generator on a worker thread, one piece ahead of the socket; never more than two are held."""
    loop = asyncio.get_running_loop()
    turn = threading.Lock()

    def take() -> bytes:
        with turn:
            return next(pieces, b"")

    def close() -> None:
        with turn:
            pieces.close()

    coming = loop.run_in_executor(None, take)
    try:
        while piece := await coming:
            coming = loop.run_in_executor(None, take)
            yield piece
    finally:
        # When the client went away a piece may still be in the making: its thread ends first, then the files close.
        loop.run_in_executor(None, close)


async def table(
    call: Call,
    columns: Sequence[Column],
    where: Sequence[str] = (),
    values: Sequence[object] = (),
    *,
    tail: str = "",
    finished: str | None = None,
    format: str | None = None,
    source: str = "tcia_series",
) -> Response:
    """Rows in the format asked for; `finished` names the column of `tcia_json` that holds the JSON rows already."""
    kind = (call.params.get("format", "JSON") if format is None else format).upper()
    known = content_type(kind, len(columns))
    wanted = kind if known else "JSON"

    def produce() -> Generator[bytes]:
        with call.sandbox.reader() as db:
            if finished and wanted == "JSON":
                joined = f"tcia_json JOIN {source} USING (id)" if where else "tcia_json"
                yield from _finished(db, select(finished, joined, where), values)
            else:
                names = ", ".join(column.sql for column in columns)
                cursor = db.execute(select(names, source, where, tail), values)
                cursor.row_factory = None
                yield from encode(wanted, columns, cursor)

    if known is None:
        # The archive looks at the format only once it has rows.
        some = await anyio.to_thread.run_sync(next, produce(), b"")
        return answer(FAILED, negotiated(TABLE, call.request), 500) if some else empty()
    media_type, download = known
    if download:
        return await streamed(produce(), media_type, content_disposition='attachment; filename="SeriesMetaData.csv"')
    return await streamed(produce(), media_type)


async def rows(call: Call, sql: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
    """All rows of a query that may take long, read on a worker thread."""

    def read() -> list[sqlite3.Row]:
        with call.sandbox.reader() as db:
            return db.execute(sql, values).fetchall()

    return await anyio.to_thread.run_sync(read)


def _finished(db: sqlite3.Connection, sql: str, values: Sequence[object]) -> Iterator[bytes]:
    cursor = db.execute(sql, values)
    cursor.row_factory = None
    opening, piece = b"[", b""
    while found := cursor.fetchmany(BLOCK // 1024):
        if piece:
            yield piece
        piece = opening + b",".join([row[0] for row in found])
        opening = b","
    if piece:
        yield piece + b"]"


def negotiated(produces: Sequence[str], request: Request) -> str:
    """The first type an operation can answer that `Accept` allows; only error texts are labelled this way."""
    ranges = [part.split(";")[0].strip() for part in request.headers.get("accept", "*/*").split(",")]
    for media_type in produces:
        if any(r in ("*/*", media_type, f"{media_type.split('/')[0]}/*") for r in ranges):
            return media_type
    return produces[0]
