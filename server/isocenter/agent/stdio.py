"""Standard input and output as event-loop pipes: half the latency of threads, and signals end the server at once.

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
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from mcp.server import Server

LONGEST_LINE = 64 << 20  # bytes of one request; what is longer is no message and skipped

log = logging.getLogger("isocenter.stdio")


class _Lines:
    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    def __aiter__(self) -> _Lines:
        return self

    async def __anext__(self) -> str:
        while True:
            try:
                line = await self._reader.readline()
            except ValueError:  # longer than the limit; what is left of it follows as another line
                log.warning("a message of more than %d MiB was skipped", LONGEST_LINE >> 20)
                continue
            if not line:
                raise StopAsyncIteration
            return line.decode("utf-8", "replace")


class _Writer:
    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def write(self, text: str) -> None:
        self._writer.write(text.encode("utf-8", "surrogatepass"))

    async def flush(self) -> None:
        await self._writer.drain()


def _is_pipe(descriptor: int) -> bool:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


@asynccontextmanager
async def _pipes() -> AsyncIterator[tuple[_Lines, _Writer]]:
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
    try:
        yield _Lines(reader), _Writer(writer)
    finally:
        with suppress(ConnectionError):
            await writer.drain()
        transport.close()


async def serve_stdio(server: Server[Any]) -> None:
    """Serve until standard input ends, or SIGINT or SIGTERM arrives."""
    from mcp.server.stdio import stdio_server

    options = server.create_initialization_options()
    if sys.platform == "win32" or not (_is_pipe(0) and _is_pipe(1)):
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
        async with _pipes() as (lines, writer), stdio_server(cast("Any", lines), cast("Any", writer)) as (read, write):
            await server.run(read, write, options)
    except asyncio.CancelledError:
        if not stopped:
            raise
