"""Standard input and output as event-loop pipes: a fraction of the latency of threads, and signals end the server at once.

Falls back to the SDK's own transport where the streams are files or consoles, and on Windows.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

import anyio
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter

if TYPE_CHECKING:
    from mcp.server import Server

LONGEST_LINE = 64 << 20  # bytes of one request; what is longer is no message and skipped

log = logging.getLogger("isocenter.stdio")


class _Incoming:
    """The client's messages as the SDK reads them: no task and no queue between the pipe and it."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def receive(self) -> SessionMessage | Exception:
        """The next message, or what is wrong with a line that is none. Raises EndOfStream."""
        while True:
            try:
                line = await self._reader.readline()
            except ValueError:  # longer than the limit; what is left of it follows as another line
                log.warning("a message of more than %d MiB was skipped", LONGEST_LINE >> 20)
                continue
            if not line:
                raise anyio.EndOfStream
            try:
                message = jsonrpc_message_adapter.validate_json(line.decode("utf-8", "replace"), by_name=False)
            except ValueError as error:
                return error
            return SessionMessage(message)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """The pipe is closed with the process."""


class _Outgoing:
    """Our messages, one line each; what is ready in the same turn of the loop goes out in one write."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._lines: list[bytes] = []

    async def send(self, item: SessionMessage) -> None:
        """Write a message. Raises BrokenResourceError when nobody reads any more."""
        line = item.message.model_dump_json(by_alias=True, exclude_unset=True) + "\n"
        if not self._lines:
            asyncio.get_running_loop().call_soon(self.flush)
        self._lines.append(line.encode("utf-8", "surrogatepass"))
        try:
            await self._writer.drain()
        except ConnectionError as error:
            raise anyio.BrokenResourceError from error

    def flush(self) -> None:
        """Write what was sent so far."""
        self._writer.write(b"".join(self._lines))
        self._lines.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Nothing more will be sent."""
        self.flush()


def _is_pipe(descriptor: int) -> bool:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


@asynccontextmanager
async def _pipes() -> AsyncIterator[tuple[_Incoming, _Outgoing]]:
    """The protocol moved to descriptors of its own; whatever else writes to standard output reaches standard error instead."""
    import fcntl

    loop = asyncio.get_running_loop()
    incoming, outgoing = (fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3) for descriptor in (0, 1))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    reader = asyncio.StreamReader(limit=LONGEST_LINE)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(incoming, "rb", 0))
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(outgoing, "wb", 0))
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    messages = _Outgoing(writer)
    try:
        yield _Incoming(reader), messages
    finally:
        messages.flush()
        with suppress(ConnectionError):
            await writer.drain()
        transport.close()


async def serve_stdio(server: Server[Any]) -> None:
    """Serve until standard input ends, or SIGINT or SIGTERM arrives."""
    options = server.create_initialization_options()
    if sys.platform == "win32" or not (_is_pipe(0) and _is_pipe(1)):
        from mcp.server.stdio import stdio_server

        async with stdio_server() as (read, write):
            await server.run(read, write, options)
        return
    task = asyncio.current_task()
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        if task:
            task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        async with _pipes() as (incoming, outgoing):
            await server.run(incoming, outgoing, options)
    except asyncio.CancelledError:
        if not stopped:
            raise
