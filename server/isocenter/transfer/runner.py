"""Runs a pipeline: takes what is due from the ledger, has each step done, and writes down what became of it.

Nothing is kept in memory but the series at work. Later steps go first, so that series leave at the end rather than pile up in the
middle, and a step pauses while too many wait for the next one. Whether a step is done here or by a worker on another machine is
decided by `perform`; limits hold over all of them, since all work is given out here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import anyio

from isocenter.core import IsocenterError, MissingCredentials, StatusError, StorageError
from isocenter.transfer.cases import NoProject
from isocenter.transfer.ledger import Item, Ledger
from isocenter.transfer.patience import Pace, Rate, backoff, unwrapped
from isocenter.transfer.steps import NotYet, Passed

LOOK_AGAIN = 1.0  # seconds after which the ledger is asked whether other processes changed it

log = logging.getLogger("isocenter.pipeline")
Perform = Callable[[str, Item], Awaitable[Passed]]
"""Does one step, named, of one series. Raises IsocenterError."""


class Stopped(IsocenterError):
    """What no series would fare better with. Raised by workers far away, whose errors come as text."""

    code = "stopped"


class Unexpected(IsocenterError):
    """A step failed in a way that it should not; the log has the traceback."""

    code = "internal"


@dataclass(frozen=True, slots=True)
class Event:
    """Something became of a series: `state` is done, skipped, failed, again (it will be tried once more) or stopped."""

    uid: str
    step: str
    state: str
    why: str = ""
    code: str = ""


@dataclass(slots=True)
class RunReport:
    """What became of all series of a job; done + skipped + failed + left is their number.

    `done`: in this run, by this process. `skipped`: there was nothing to do any more, because it was done before, or by others. `left`:
    not decided yet; `stopped` says why.
    """

    done: int = 0
    skipped: int = 0
    failed: int = 0
    left: int = 0
    bytes: int = 0
    seconds: float = 0.0
    stopped: str = ""

    @property
    def total(self) -> int:
        """Series of the job."""
        return self.done + self.skipped + self.failed + self.left


async def run_job(
    ledger: Ledger,
    job: str,
    steps: Sequence[str],
    perform: Perform,
    *,
    at_once: Mapping[str, int],
    rates: Mapping[str, Rate],
    tries: int = 5,
    ahead: int = 200,
    on_event: Callable[[Event], None] | None = None,
    on_bytes: Callable[[int], None] | None = None,
    backoff: Callable[[int], float] = backoff,
) -> RunReport:
    """Work until every series is done or given up, or something stops all of them.

    A step that fails in a way that may pass is tried `tries` times, with pauses between (`backoff`, in seconds, by number of the
    failure). Cancelled, it gives back what it holds when the ledger is closed. Raises StorageError when the ledger cannot be written.
    """
    report, started = RunReport(), time.monotonic()
    paces = [Pace(at_once[step], backoff=backoff) for step in steps]
    busy, changed, looked = [0] * len(steps), anyio.Event(), time.monotonic()

    def told(item: Item, state: str, error: IsocenterError | None = None) -> None:
        if on_event:
            why, code = (" ".join(str(error).split()), error.code) if error else ("", "")
            on_event(Event(item.uid, steps[item.step], state, why, code))

    async def one(item: Item) -> None:
        pace = paces[item.step]
        try:
            passed = await perform(steps[item.step], item)
        except NotYet as error:
            ledger.later(item, error.seconds)
        except IsocenterError as error:
            if stops(error):
                report.stopped = report.stopped or f"{steps[item.step]}: {error}"
                ledger.later(item, 0.0)
                told(item, "stopped", error)
            elif error.retryable and item.tries + 1 < tries:
                pace.trouble(error)
                ledger.later(item, backoff(item.tries + 1), failure=error)
                told(item, "again", error)
            else:
                ledger.failed(item, error)
                told(item, "failed", error)
        except Exception as error:  # one series that nobody thought of does not stop the others
            log.exception("%s of %s failed unexpectedly", steps[item.step], item.uid)
            unexpected = Unexpected(f"{type(error).__name__}: {error}")
            ledger.failed(item, unexpected)
            told(item, "failed", unexpected)
        else:
            pace.success()
            report.bytes += passed.bytes
            if on_bytes:
                on_bytes(passed.bytes)
            if ended := ledger.passed(item, passed.known, fresh=passed.fresh, last=item.step == len(steps) - 1):
                report.done += ended == "done"
                told(item, ended)
        finally:
            busy[item.step] -= 1
            changed.set()

    def give_out(step: int) -> bool:
        """Begin what may begin; whether more could."""
        room = 0 if paces[step].rest else paces[step].now - busy[step]
        if room > 0 and step + 1 < len(steps):
            room = min(room, ahead - ledger.waiting(job, step + 1, ahead))
        rate = rates[steps[step]]
        while room > 0 and not rate.rest:
            items = ledger.take(job, step, 1 if rate.limited else room)
            if not items:
                return True
            room -= len(items)
            for item in items:
                rate.begun()
                busy[step] += 1
                group.start_soon(one, item)
        return False

    try:
        async with anyio.create_task_group() as group:
            while True:
                changed, idle = anyio.Event(), list[int]()
                if not report.stopped:
                    idle = [step for step in reversed(range(len(steps))) if give_out(step)]
                if time.monotonic() - looked >= LOOK_AGAIN:
                    ledger.free_dead()
                    looked = time.monotonic()
                due = [ledger.next_due(job, step) for step in range(len(steps))]
                waits = any(rest is not None for rest in due)
                if not any(busy) and (report.stopped or not (waits or ledger.unfinished(job))):
                    break
                if any(due[step] == 0 for step in idle):  # since we looked
                    continue
                rests = (*due, *(pace.rest for pace in paces), *(rate.rest for rate in rates.values()))
                with anyio.move_on_after(min([LOOK_AGAIN, *(rest for rest in rests if rest)])):
                    await changed.wait()
    except BaseExceptionGroup as failure:  # of the ledger: nothing can go on
        raise unwrapped(failure) from None
    ends = ledger.job(job)
    report.skipped = ends.done + ends.skipped - report.done
    report.failed, report.left, report.seconds = ends.failed, sum(ends.left.values()), time.monotonic() - started
    return report


def stops(error: IsocenterError) -> bool:
    """Whether other series would meet the same error: nobody lets us in, nothing can be written."""
    return isinstance(error, Stopped | StorageError | MissingCredentials | NoProject) or (
        isinstance(error, StatusError) and error.status == 401
    )
