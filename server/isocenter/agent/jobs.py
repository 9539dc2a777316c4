"""Work that outlives the call that began it: hosts give up after a minute, a download may take an hour.

A job belongs to this process and is found again by its key. What it does can be cut off anywhere: another process, or the next one,
goes on from what is on disk when it is asked for the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import anyio

TELL = 0.5  # seconds between two reports
KEPT = 32  # jobs that ended without anybody asking


class Job(Protocol):
    """Something that runs once; what there is to know about it, the object holds."""

    async def run(self) -> None:
        """Do it. Raises IsocenterError."""


J = TypeVar("J", bound=Job)


class Jobs:
    """The jobs of one process."""

    def __init__(self) -> None:
        self._jobs: dict[str, tuple[Any, asyncio.Task[None]]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._jobs

    async def follow(
        self, key: str, make: Callable[[], J], seconds: float, tell: Callable[[J], Awaitable[None]]
    ) -> tuple[J, bool]:
        """The job of this key, begun now unless there is one, and whether it is over; waits up to `seconds` for that.

        Raises what the job raised. `tell` is awaited twice a second. A call that is cancelled while it follows a job ends it.
        """
        if key not in self._jobs:
            begun = make()
            self._jobs[key] = begun, asyncio.create_task(begun.run())
            for old in [old for old, (_, task) in self._jobs.items() if task.done()][:-KEPT]:
                del self._jobs[old]
        job, task = self._jobs[key]
        until = asyncio.get_running_loop().time() + seconds
        try:
            while True:
                await tell(job)
                if task.done():
                    self._jobs.pop(key, None)
                    task.result()
                    return job, True
                left = until - asyncio.get_running_loop().time()
                if left <= 0:
                    return job, False
                await asyncio.wait({task}, timeout=min(TELL, left))
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                await self._end(key, task)
            raise

    async def _end(self, key: str, task: asyncio.Task[None]) -> None:
        self._jobs.pop(key, None)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})

    async def aclose(self) -> None:
        """End all of them; what they did so far stays on disk."""
        for key, (_, task) in list(self._jobs.items()):
            await self._end(key, task)
