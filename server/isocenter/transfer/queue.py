"""The steps of a pipeline on other machines: Docket tasks in Redis, done by `isocenter worker`.

The ledger stays where the pipeline runs, and is the truth. A step that is due becomes a task; what became of it comes back through a
mailbox of the run. Tasks are delivered at least once: those of a worker that died go to another one after its lease, which finds what
was done. Three things keep "at least once" from becoming "twice at once" or "long after":

- A worker does a step only while it holds a lock of the series. It renews the lock, and stops the step when it no longer can: a worker
  that was cut off from Redis ends before another one begins. A note says that a try was cut off, to whoever comes next.
- A task that Redis forgot is added again after a while, under the same key, which Docket refuses while it still has it.
- The mailbox goes when the run ends, or a minute after it was killed, and a task without a mailbox is not begun.

Through the queue go UIDs, paths and what the steps know, no attributes of patients and no credentials: each worker has its own. Who
may write to the Redis server may run code on the workers, as with any task queue of Python; protect it like them.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from isocenter.core import ApiClient, IsocenterError, TransportError
from isocenter.transfer.ledger import Item
from isocenter.transfer.patience import backoff
from isocenter.transfer.pipeline import Find, Pipeline
from isocenter.transfer.runner import Perform, Stopped, stops
from isocenter.transfer.steps import STEPS, NotYet, Passed, Step, Tools

if TYPE_CHECKING:
    from docket import Docket
    from redis.asyncio import Redis

NAME = "isocenter"  # of the queue; all its keys in Redis begin with it
LEASE = 15.0  # seconds after which the work of a worker that died goes to others; renewed while it lives
REMIND = 15.0  # seconds after which a task that was not answered is added once more
SOON = 1.0  # the same while an earlier task of the step is still at work
MAILBOX = 60  # seconds for which the mailbox of a killed run stays
DAY = 86_400  # seconds for which it is known that a try was cut off
KEPT = 10_000  # answers a mailbox holds
LONGEST = 5.0  # seconds between two tries to reach Redis
ADDING = 16  # tasks being added at the same time
LOOK = timedelta(milliseconds=20)  # how often a worker looks whether a step ended or came

log = logging.getLogger("isocenter.queue")


class Turn(msgspec.Struct, frozen=True):
    """One step of one series, as it travels. Times are seconds ago, for clocks of machines differ; None stands for never."""

    pipeline: str  # its definition, without what is looked for
    step: str
    uid: str
    tries: int
    since: float | None
    cut: float | None
    collection: str
    known: dict[str, Any]

    @classmethod
    def of(cls, item: Item, step: str, definition: str) -> Turn:
        """The turn of an item of the ledger."""
        since, cut = (time.time() - at if at else None for at in (item.since, item.cut))
        collection = str(item.facts.get("Collection") or "")
        return cls(definition, step, item.uid, item.tries, since, cut, collection, item.known)

    def item(self, *, cut: bool) -> Item:
        """As much of the item as a step needs; `cut`: a try was cut off just now."""
        now = time.time()
        since = 0.0 if self.since is None else now - self.since
        ago = 0.0 if cut else self.cut
        facts = {"Collection": self.collection}
        return Item(0, self.uid, 0, self.tries, since, facts, self.known, 0.0 if ago is None else now - ago)


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a turn: what a `Passed` holds, or what an error does."""

    known: dict[str, Any] = {}
    fresh: bool = False
    bytes: int = 0
    why: str = ""
    code: str = ""
    retryable: bool = False
    stops: bool = False
    seconds: float = -1.0  # of a NotYet


GIVEN_BACK = Answer(why="The worker was stopped.", code=NotYet.code, seconds=0.0)


class FarAway(IsocenterError):
    """A step failed on another machine; message, `code` and `retryable` are those of the failure there."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.why)
        self.code, self.retryable = answer.code, answer.retryable


@dataclass(slots=True)
class _Waiting:
    """A turn that was given out."""

    answered: anyio.Event = field(default_factory=anyio.Event)
    answer: Answer | None = None


def _open(url: str) -> tuple[Docket, Redis]:
    """The queue at a Redis address, and a connection that does not wait for ever. Raises IsocenterError."""
    if importlib.util.find_spec("docket") is None:
        raise IsocenterError("A queue needs the package pydocket: pip install 'isocenter[queue]'.")
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise IsocenterError("--queue takes redis://host:6379/0, rediss:// (TLS) or unix://.")
    from docket import Docket
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    logging.getLogger("docket").setLevel(logging.CRITICAL)  # it prints a traceback for each time Redis does not answer
    try:
        how: dict[str, Any] = {"socket_timeout": 5, "socket_connect_timeout": 5, "protocol": 2}
        redis: Redis = Redis.from_url(url, **how, retry=Retry(NoBackoff(), 1))
    except ValueError as error:
        raise IsocenterError(f"--queue: {error}.") from error
    return Docket(NAME, url, execution_ttl=timedelta(minutes=1)), redis


def _unreachable() -> tuple[type[Exception], ...]:
    from redis.exceptions import RedisError

    return (RedisError, OSError)


# -- where the pipeline runs -------------------------------------------------------------------------------------------


@asynccontextmanager
async def queued(url: str, pipeline: Pipeline) -> AsyncIterator[Perform]:
    """A `perform` for the runner that has steps done by workers. Raises TransportError when the server does not answer at first."""
    pipeline.check_shareable()
    docket, redis = _open(url)
    failures, room = _unreachable(), anyio.CapacityLimiter(ADDING)
    mailbox = f"{NAME}:mailbox:{pipeline.id}:{secrets.token_hex(8)}"
    definition = msgspec.structs.replace(pipeline, find=Find()).definition  # a filter may name a patient
    waiting: dict[str, _Waiting] = {}

    async def perform(step: str, item: Item) -> Passed:
        key, mine, added = f"{pipeline.id}/{item.uid}/{step}", _Waiting(), False
        task = msgspec.json.encode(Turn.of(item, step, definition)).decode()
        waiting[key] = mine
        try:
            while mine.answer is None:
                with suppress(*failures):  # tried again; `listen` tells that there is no connection
                    async with room:  # more at once would be more connections than Redis likes
                        execution = await docket.add("isocenter_step", key=key)(mailbox, task)
                    added |= execution.disposition is Disposition.SCHEDULED
                with anyio.move_on_after(REMIND if added else SOON):
                    await mine.answered.wait()
                if listening.done():
                    listening.result()
        finally:
            del waiting[key]
        return _passed(mine.answer)

    async def listen() -> None:
        last, tries, heard = b"0", 0, anyio.current_time()
        while True:
            try:
                if not await redis.expire(mailbox, MAILBOX):
                    await redis.xadd(mailbox, {b"": b""})
                came: Any = await redis.xread({mailbox: last}, count=100, block=1000)
                for _, entries in came:
                    for entry, fields in entries:
                        last = entry
                        if (one := waiting.get(fields.get(b"key", b"").decode())) and one.answer is None:
                            one.answer = msgspec.json.decode(fields[b"answer"], type=Answer)
                            one.answered.set()
                            heard = anyio.current_time()
                if tries:
                    log.warning("The queue answers again.")
                tries = 0
                if not waiting:
                    heard = anyio.current_time()
                elif anyio.current_time() > heard + REMIND and not await docket.workers():
                    log.warning("No worker is there. Start one: isocenter worker --queue, with the same address.")
                    heard = anyio.current_time()
            except failures as error:
                if not tries:
                    log.warning("The queue does not answer, trying again: %s", error)
                tries += 1
                await anyio.sleep(min(LONGEST, backoff(tries)))

    async with _closed_whole() as stack:
        try:
            await stack.enter_async_context(redis)
            await redis.xadd(mailbox, {b"": b""})
            await redis.expire(mailbox, MAILBOX)
            await stack.enter_async_context(docket)
        except failures as error:
            raise TransportError(f"The queue does not answer: {error}") from error
        from docket import Disposition

        docket.register(_elsewhere, names=["isocenter_step"])
        try:
            async with _beside(listen) as listening:
                yield perform
        finally:
            with anyio.move_on_after(LONGEST, shield=True), suppress(*failures):
                await redis.delete(mailbox)


@asynccontextmanager
async def _closed_whole() -> AsyncIterator[AsyncExitStack]:
    """A stack that closes everything on it even while all is being cancelled."""
    stack = AsyncExitStack()
    try:
        yield stack
    finally:
        with anyio.CancelScope(shield=True):
            await stack.aclose()


@asynccontextmanager
async def _beside(call: Callable[[], Coroutine[None, None, None]]) -> AsyncIterator[asyncio.Task[None]]:
    """A task that goes on while the block does. It is stopped by a scope, which insists: redis-py loses a single cancel now and then."""
    scope = anyio.CancelScope()

    async def scoped() -> None:
        with scope:
            await call()

    task = asyncio.create_task(scoped())
    try:
        yield task
    finally:
        scope.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])


async def _elsewhere(mailbox: str, turn: str) -> None:
    """Stands for the task where it is only added."""


def _passed(answer: Answer) -> Passed:
    if not answer.code:
        return Passed(answer.known, answer.fresh, answer.bytes)
    if answer.seconds >= 0:
        raise NotYet(answer.why, answer.seconds)
    raise Stopped(answer.why) if answer.stops else FarAway(answer)


# -- where the steps are done ------------------------------------------------------------------------------------------


async def work(
    url: str,
    open_client: Callable[[str], ApiClient],
    *,
    at_once: int = 4,
    lease: float = LEASE,
    on_turn: Callable[[str, str, str], None] | None = None,
    started: Callable[[], None] | None = None,
) -> None:
    """Do steps until cancelled; what was begun then goes to other workers at once.

    `on_turn` hears series, step, and `begun` or what became of it. Raises TransportError when the server does not answer at first.
    """
    docket, redis = _open(url)
    from docket import CurrentExecution, Worker

    async with _closed_whole() as stack:
        tools = await stack.enter_async_context(Tools(open_client))
        await stack.enter_async_context(redis)
        bench = _Bench(tools, redis, lease, on_turn or (lambda uid, step, what: None))

        async def isocenter_step(mailbox: str, turn: str, this: Any = CurrentExecution()) -> None:  # noqa: B008
            await bench.turn(mailbox, this.key, turn, again=this.redelivered)

        try:
            await redis.exists(NAME)
            await stack.enter_async_context(docket)
        except bench.failures as error:
            raise TransportError(f"The queue does not answer: {error}") from error
        docket.register(isocenter_step)
        worker = await stack.enter_async_context(
            Worker(
                docket,
                name=f"{socket.gethostname()}#{secrets.token_hex(4)}",
                concurrency=at_once,
                redelivery_timeout=timedelta(seconds=lease),
                reconnection_delay=timedelta(seconds=1),
                minimum_check_interval=LOOK,
            )
        )
        running = asyncio.create_task(worker.run_forever())
        if started:
            started()
        try:
            async with _beside(bench.watch):
                await asyncio.wait([running])
            running.result()
        finally:
            bench.close()
            running.cancel()  # Docket takes no more then, and waits for the turns it holds
            with anyio.CancelScope(shield=True):
                await asyncio.wait([running])


class _Bench:
    """Where one worker does its turns."""

    def __init__(self, tools: Tools, redis: Redis, lease: float, on_turn: Callable[[str, str, str], None]) -> None:
        self.failures = _unreachable()
        self._tools, self._redis, self._lease, self._on_turn = tools, redis, lease, on_turn
        self._closed, self._at_work = anyio.Event(), set[anyio.CancelScope]()

    def close(self) -> None:
        """Begin nothing more and give back what was begun."""
        self._closed.set()
        for scope in self._at_work:
            scope.cancel()

    async def turn(self, mailbox: str, key: str, encoded: str, *, again: bool) -> None:
        """Do one turn and put the answer into the mailbox, unless nobody waits for it; `again` says that a worker may have died over it."""
        if not await self._insist(lambda: self._redis.exists(mailbox)):
            return
        try:
            turn = msgspec.json.decode(encoded, type=Turn)
            pipeline = msgspec.json.decode(turn.pipeline, type=Pipeline)
            step = STEPS[turn.step]
        except (msgspec.MsgspecError, KeyError):
            why = f"isocenter on {socket.gethostname()}, a worker, is of another version than here."
            await self._answer(mailbox, key, Answer(why=why, code="version", stops=True))
            return
        answer = GIVEN_BACK
        if not self._closed.is_set():
            async with self._alone(turn.uid, self._lease if again else SOON) as scope:
                if scope is None:  # whoever has the series answers; if not, the task comes once more
                    return
                self._on_turn(turn.uid, turn.step, "begun")
                begun = f"{NAME}:begun:{turn.uid}"  # is there where an earlier try did not come to its end
                cut = await self._insist(lambda: self._redis.set(begun, turn.step, ex=DAY, get=True))
                answer = await _done(self._tools, step, pipeline, turn.item(cut=cut is not None), turn.step)
                await self._insist(lambda: self._redis.delete(begun))
            if scope.cancelled_caught and not self._closed.is_set():
                self._on_turn(turn.uid, turn.step, "The queue was out of reach for too long.")
                return
        self._on_turn(turn.uid, turn.step, answer.why or "done")
        await self._answer(mailbox, key, answer)

    async def _answer(self, mailbox: str, key: str, answer: Answer) -> None:
        fields: Any = {b"key": key.encode(), b"answer": msgspec.json.encode(answer)}
        await self._insist(
            lambda: self._redis.xadd(mailbox, fields, maxlen=KEPT, approximate=True, nomkstream=True),
        )

    async def _insist(self, call: Callable[[], Any]) -> Any:
        """The result of a command to Redis, repeated until Redis is there."""
        tries = 0
        while True:
            try:
                return await call()
            except self.failures:
                if self._closed.is_set():
                    raise
            tries += 1
            with anyio.move_on_after(min(LONGEST, backoff(tries))):
                await self._closed.wait()

    @asynccontextmanager
    async def _alone(self, uid: str, patience: float) -> AsyncIterator[anyio.CancelScope | None]:
        """A scope in which nobody else works on the series, cancelled when that is no longer certain; None if somebody does."""
        from redis.exceptions import LockError

        lock = self._redis.lock(f"{NAME}:lock:{uid}", timeout=self._lease, blocking_timeout=patience, sleep=0.1)
        if not await self._insist(lock.acquire):
            yield None
            return
        certain = self._lease * 0.75  # earlier than for Redis, whose lease began while its answer was on the way

        async def renew() -> None:
            while True:
                await anyio.sleep(self._lease / 4)
                now = anyio.current_time()
                try:
                    await lock.reacquire()
                except LockError:
                    scope.cancel()
                except self.failures:
                    continue  # the deadline stays
                scope.deadline = now + certain

        scope = anyio.CancelScope(deadline=anyio.current_time() + certain)
        self._at_work.add(scope)
        if self._closed.is_set():
            scope.cancel()
        try:
            async with _beside(renew):
                with scope:
                    yield scope
        finally:
            self._at_work.discard(scope)
            with suppress(*self.failures):
                await lock.release()

    async def watch(self) -> None:
        """Tell the log when Redis goes and comes."""
        there = True
        while True:
            await anyio.sleep(LONGEST)
            try:
                await self._redis.exists(NAME)
            except self.failures as error:
                if there:
                    log.warning("The queue does not answer, trying again: %s", error)
                there = False
            else:
                if not there:
                    log.warning("The queue answers again.")
                there = True


async def _done(tools: Tools, step: Step, pipeline: Pipeline, item: Item, name: str) -> Answer:
    """Do one step. Every failure is an answer, so that no task is stuck."""
    try:
        passed = await step(tools, pipeline, item)
    except IsocenterError as error:
        why, seconds = " ".join(str(error).split()), error.seconds if isinstance(error, NotYet) else -1.0
        return Answer(why=why, code=error.code, retryable=error.retryable, stops=stops(error), seconds=seconds)
    except Exception as error:
        log.exception("%s of %s failed unexpectedly", name, item.uid)
        return Answer(why=f"{type(error).__name__} on the worker; its log has the reason.", code="internal")
    return Answer(dict(passed.known), passed.fresh, passed.bytes)
