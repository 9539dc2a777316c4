"""Receives the DICOM files of one multipart request into an archive while they arrive.

The event loop only cuts the body into parts. Hashing and writing happen on a worker thread, a batch at a time and in
order; reading the header of a finished part and syncing it to disk happen on further threads. Nothing is stored before
the closing delimiter has arrived: a body that was cut off leaves no trace.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

import anyio.to_thread
from starlette.requests import Request

from isocenter.sandbox.archive import Archive, Incoming, NotDicom
from isocenter.sandbox.multipart import Event, MalformedMultipart, PartData, PartEnd, PartStart, Splitter

BATCH_BYTES = 1 << 21
MAX_STEPS = 1000
MAX_FINISHING = 4
MEDIA_TYPES = ("multipart/form-data", "multipart/related")


@dataclass(slots=True)
class Part:
    """One part of the request: its name, its file, and what is wrong with it ("" if nothing is)."""

    name: str
    incoming: Incoming
    error: str = ""


def _finish(parts: list[Part]) -> None:
    """Read the headers and sync the files; takes milliseconds each."""
    for part in parts:
        if not part.error:
            try:
                part.incoming.finish()
            except NotDicom as problem:
                part.error = _refusal(problem)
        if part.error:
            part.incoming.discard()


def _refusal(problem: NotDicom) -> str:
    return f"Not registered: {problem}."


class _Batch:
    """What the event loop hands to the writing thread: steps, and a reusable buffer with the data they refer to.

    Copying the data out of the network's chunks looks wasteful but is not: kept chunks would be new memory each time, and
    getting that from the system costs more than hashing it.
    """

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(BATCH_BYTES))
        self.used = 0
        self.steps: list[PartStart | PartEnd | slice] = []

    def add(self, data: memoryview) -> int:
        """Take as much of the current part's data as fits; returns how many bytes that is."""
        first, count = self.used, min(len(data), BATCH_BYTES - self.used)
        self.buffer[first : first + count] = data[:count]
        if self.steps and isinstance(last := self.steps[-1], slice):
            first = last.start
            self.steps.pop()
        self.used += count
        self.steps.append(slice(first, self.used))
        return count

    def full(self) -> bool:
        return self.used == BATCH_BYTES or len(self.steps) >= MAX_STEPS


class _Receiver:
    """The parts of one request: written by one thread at a time, finished by several."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.parts: list[Part] = []
        self._names: set[str] = set()
        self._batch, self._spare = _Batch(), _Batch()
        self._writing: asyncio.Task[list[Part]] | None = None
        self._finishing: set[asyncio.Task[None]] = set()

    async def take(self, event: Event) -> None:
        """Add one event to the batch; hand the batch over when it is full."""
        if isinstance(event, PartData):
            data = event.data
            while data := data[self._batch.add(data) :]:
                await self.hand_over()
        else:
            self._batch.steps.append(event)
        if self._batch.full():
            await self.hand_over()

    async def hand_over(self) -> None:
        """Wait for the batch before, start to finish the parts that ended in it, and start to write this one."""
        if self._writing is not None:
            if ended := await self._writing:
                self._finishing.add(asyncio.create_task(anyio.to_thread.run_sync(partial(_finish, ended))))
            if len(self._finishing) >= MAX_FINISHING:
                done, self._finishing = await asyncio.wait(self._finishing, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        self._batch, self._spare = self._spare, self._batch
        self._batch.steps, self._batch.used = [], 0
        self._writing = asyncio.create_task(anyio.to_thread.run_sync(partial(self._write, self._spare)))

    async def end(self) -> None:
        """Wait until everything is written and finished."""
        await self.hand_over()
        await self.hand_over()
        await asyncio.gather(*self._finishing)

    async def abandon(self) -> None:
        """Remove the files, once the threads have let go of them."""
        running = [*self._finishing, *([self._writing] if self._writing else [])]
        await asyncio.gather(*running, return_exceptions=True)
        for part in self.parts:
            part.incoming.discard()

    def _write(self, batch: _Batch) -> list[Part]:
        """Hash and write a batch; returns the parts that ended in it. Runs on a worker thread."""
        ended = []
        for step in batch.steps:
            if isinstance(step, PartStart):
                name = step.name or f"file_{len(self.parts)}"
                if name in self._names:
                    name = f"{name} ({len(self.parts)})"
                self._names.add(name)
                self.parts.append(Part(name, self.archive.receive()))
            elif isinstance(step, PartEnd):
                ended.append(self.parts[-1])
            elif not self.parts[-1].error:
                try:
                    self.parts[-1].incoming.write(batch.buffer[step])
                except NotDicom as problem:
                    self.parts[-1].error = _refusal(problem)
        return ended


async def receive(request: Request, archive: Archive) -> list[Part]:
    """Read the whole request body and return its parts, finished and ready to be stored.

    Each part has a name of its own: that of its Content-Disposition or `file_<index>`, with a number if it is taken.
    The caller must store or discard every part's file. Raises MalformedMultipart, with nothing left behind.
    """
    splitter = Splitter(request.headers.get("content-type", ""))
    if splitter.media_type not in MEDIA_TYPES:
        raise MalformedMultipart("the body is neither multipart/form-data nor multipart/related")
    receiver = _Receiver(archive)
    try:
        async for chunk in request.stream():
            for event in splitter.feed(chunk):
                await receiver.take(event)
        splitter.close()
        await receiver.end()
    except BaseException:
        await receiver.abandon()
        raise
    return receiver.parts
