"""Patience: repeating what may be repeated, and doing no more at once than a service bears."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio

from isocenter.core import IsocenterError

T = TypeVar("T")
Pause = Callable[[float], Awaitable[None]]

TRIES = 4
LONGEST_PAUSE = 60.0  # seconds


async def again(
    call: Callable[[], Awaitable[T]],
    *,
    tries: int = TRIES,
    pause: Pause = anyio.sleep,
    trouble: Callable[[IsocenterError], None] | None = None,
) -> T:
    """The result of a call that does no harm when it is made twice: made again after failures that may pass (`retryable`).

    `trouble` hears of every failure that is tried again.
    """
    for attempt in range(1, tries + 1):
        try:
            return await call()
        except IsocenterError as error:
            if not error.retryable or attempt == tries:
                raise
            if trouble:
                trouble(error)
        await pause(backoff(attempt))
    raise AssertionError("the last try returns or raises")


def unwrapped(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error raised on purpose where a task group failed with nothing else, otherwise the group."""
    meant, others = group.split(IsocenterError)
    first: BaseException | None = meant
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return group if others or first is None else first


def backoff(attempt: int) -> float:
    """Seconds to wait after the attempt of that number (1, 2, ...): doubling, with jitter, so that many clients do not return as one."""
    return float(min(LONGEST_PAUSE, 2.0 ** min(attempt, 10)) * (0.5 + random.random() / 2))


class Pace:
    """How much is done at once: never more than `limit`, one more after each success, half after trouble.

    `async with pace.turn():` waits for a place. After trouble nobody starts for a while, longer the more of it comes in a row. A
    service that becomes slow gets less to do as well: `success` takes how fast it went (bytes a second).
    """

    def __init__(self, limit: int, *, pause: Pause = anyio.sleep, backoff: Callable[[int], float] = backoff) -> None:
        self.limit, self._backoff = limit, backoff
        self._places = anyio.CapacityLimiter(min(2, limit))
        self._pause = pause
        self._in_a_row = 0
        self._until = 0.0
        self._usual = 0.0

    @property
    def now(self) -> int:
        """How many may be at work at this moment."""
        return int(self._places.total_tokens)

    @property
    def rest(self) -> float:
        """Seconds until somebody may start again."""
        return max(0.0, self._until - time.monotonic())

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """A place to work in."""
        async with self._places:
            if rest := self.rest:
                await self._pause(rest)
            yield

    def success(self, speed: float | None = None) -> None:
        """Something went well, at `speed` where it was large enough to tell."""
        self._in_a_row = 0
        if speed is not None:
            if speed < self._usual / 4:
                self._places.total_tokens = max(1, self.now // 2)
                self._usual *= 0.5  # what is slow for long becomes usual
                return
            self._usual = speed if not self._usual else 0.8 * self._usual + 0.2 * speed
        self._places.total_tokens = min(self.limit, self.now + 1)

    def trouble(self, _error: IsocenterError | None = None) -> None:
        """The service failed, or was too slow to answer."""
        self._in_a_row += 1
        self._places.total_tokens = max(1, self.now // 2)
        self._until = time.monotonic() + self._backoff(self._in_a_row)


class Rate:
    """Beginnings per minute, evenly spread; 0 means any number."""

    def __init__(self, per_minute: int) -> None:
        self.limited = per_minute > 0
        self._spacing = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0

    @property
    def rest(self) -> float:
        """Seconds until one more may begin."""
        return max(0.0, self._next - time.monotonic())

    def begun(self) -> None:
        """One more has begun."""
        self._next = max(self._next, time.monotonic()) + self._spacing
