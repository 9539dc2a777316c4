"""Work that outlives the call that began it: hosts give up after a minute, a download may take an hour.

A job belongs to this process and is found again by its key. What it does can be cut off anywhere: another process, or the next one,
goes on from what is on disk when it is asked for the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import anyio

TELL = 0.5  # seconds between two reports
KEPT = 32  # jobs that ended without anybody asking


class Job(Protocol):
    """Something that runs once; what there is to know about it, the object holds."""

    async def run(self) -> None:
        """Do it. Raises IsocenterError."""


J = TypeVar("J", bound=Job)


@dataclass(slots=True)
class _Begun:
    job: Any
    task: asyncio.Task[None]
    followers: int = 0


class Jobs:
    """The jobs of one process."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Begun] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._jobs

    async def follow(
        self, key: str, make: Callable[[], J], seconds: float, tell: Callable[[J], Awaitable[None]]
    ) -> tuple[J, bool]:
        """The job of this key, begun now unless there is one, and whether it is over; waits up to `seconds` for that.

        Raises what the job raised. `tell` is awaited twice a second. A call that is cancelled while it follows a job ends it, unless
        others follow it too.
        """
        begun = self._jobs.get(key) or self._begin(key, make())
        until = asyncio.get_running_loop().time() + seconds
        begun.followers += 1
        try:
            while True:
                await tell(begun.job)
                if begun.task.done():
                    self._forget(key, begun)
                    begun.task.result()
                    return begun.job, True
                left = until - asyncio.get_running_loop().time()
                if left <= 0:
                    return begun.job, False
                await asyncio.wait({begun.task}, timeout=min(TELL, left))
        except asyncio.CancelledError:
            if begun.followers == 1:
                with anyio.CancelScope(shield=True):
                    await self._end(key, begun)
            raise
        finally:
            begun.followers -= 1

    def _begin(self, key: str, job: Job) -> _Begun:
        for old in [old for old, begun in self._jobs.items() if begun.task.done()][:-KEPT]:
            del self._jobs[old]
        task = asyncio.create_task(job.run())
        task.add_done_callback(
            lambda ended: ended.cancelled() or ended.exception()
        )  # perhaps nobody asks for it any more
        self._jobs[key] = begun = _Begun(job, task)
        return begun

    def _forget(self, key: str, begun: _Begun) -> None:
        if self._jobs.get(key) is begun:  # and not one that was begun since
            del self._jobs[key]

    async def _end(self, key: str, begun: _Begun) -> None:
        self._forget(key, begun)
        begun.task.cancel()
        await asyncio.wait({begun.task})

    async def aclose(self) -> None:
        """End all of them; what they did so far stays on disk."""
        for key, begun in list(self._jobs.items()):
            await self._end(key, begun)
