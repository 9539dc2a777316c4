"""The ledger of all pipelines: one SQLite file that knows, for every series of every job, which step is next and what the last ones found.

Several processes may work from one ledger. A series that a process has taken is its own until it says what became of it, or until
the process ends: every process that works holds a lock which the operating system drops with it, also after kill -9, so what it held
is free at once and never worked on twice at the same time. A lost machine can undo the last moments before it (WAL, synchronous=NORMAL); steps
find what is done already.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from isocenter.core import IsocenterError, StorageError

SCHEMA = """
CREATE TABLE IF NOT EXISTS job (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, definition TEXT NOT NULL, steps TEXT NOT NULL, created REAL NOT NULL,
    found INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS item (
    id INTEGER PRIMARY KEY, job TEXT NOT NULL REFERENCES job(id), uid TEXT NOT NULL,
    step INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL DEFAULT 'ready', due REAL NOT NULL DEFAULT 0, owner TEXT NOT NULL DEFAULT '',
    tries INTEGER NOT NULL DEFAULT 0, since REAL NOT NULL DEFAULT 0, fresh INTEGER NOT NULL DEFAULT 0,
    facts TEXT NOT NULL DEFAULT '{}', known TEXT NOT NULL DEFAULT '{}', why TEXT NOT NULL DEFAULT '', code TEXT NOT NULL DEFAULT '',
    ended REAL NOT NULL DEFAULT 0, cut REAL NOT NULL DEFAULT 0, UNIQUE (job, uid)
);
CREATE TABLE IF NOT EXISTS holder (name TEXT PRIMARY KEY);
CREATE INDEX IF NOT EXISTS item_next ON item (job, state, step, due);
"""
DUE = "FROM item WHERE job=? AND state='ready' AND step=? AND due<=?"
BUSY = 60  # seconds to wait for another process's transaction, each of which takes milliseconds
ADDED = 1000  # series noted in one transaction


class UnknownJob(IsocenterError):
    """The ledger has no such job."""

    code = "unknown_job"


@dataclass(frozen=True, slots=True)
class Item:
    """A series that was taken for one step.

    `facts` is what the archive's table says of it, `known` what its steps found out so far, `tries` how often this step failed,
    `since` when it was first tried and `cut` when a try was last cut off (seconds since the epoch, 0 for never): what that try asked a
    service for may be on its way there still.
    """

    id: int
    uid: str
    step: int
    tries: int
    since: float
    facts: dict[str, Any] = field(repr=False)
    known: dict[str, Any]
    cut: float = 0.0


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the ledger lists it. `counts` are series by state: done, failed, and for `left` by the step they wait for."""

    id: str
    name: str
    created: float
    found: bool
    steps: tuple[str, ...]
    total: int
    done: int
    skipped: int
    failed: int
    left: Mapping[str, int]
    running: int


class Ledger:
    """An open ledger; a context manager. Methods are short transactions: call them from the event loop."""

    def __init__(self, path: Path) -> None:
        """Open or create. Raises StorageError."""
        self.path, self.me = path, f"{os.getpid()}-{secrets.token_hex(4)}"
        self._added: list[tuple[str, str, str]] = []
        self._holders = path.with_name(f"{path.name}.holders")
        self._holds = ExitStack()  # what ends with us, once we hold series
        self._holding = False
        with self._plain(), ExitStack() as opening:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = opening.enter_context(
                closing(sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False))
            )
            self._switch_to_wal()
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(SCHEMA)
            opening.pop_all()

    def _switch_to_wal(self) -> None:
        """SQLite does not wait here for others who open the same new file, so we do."""
        until = time.monotonic() + BUSY
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
            time.sleep(0.01)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._holds.close()
        self._db.close()

    @contextmanager
    def _plain(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"The ledger {self.path} cannot be used: {error}.") from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._plain():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk ends it by itself
                    self._db.execute("ROLLBACK")
                raise

    def _ask(self, query: str, *values: Any) -> list[Any]:
        with self._plain():
            return self._db.execute(query, values).fetchall()

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def open_job(self, job: str, name: str, definition: str, steps: Sequence[str]) -> None:
        """Note a job, unless it is noted already; what an earlier run gave up is tried again, and the dead hold nothing."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO job (id, name, definition, steps, created) VALUES (?, ?, ?, ?, ?)",
                (job, name, definition, " ".join(steps), time.time()),
            )
            db.execute(
                "UPDATE item SET state='ready', tries=0, since=0, due=0, why='', code='' WHERE job=? AND state='failed'",
                (job,),
            )
            # While nobody else writes, nobody is between lock and name: a file without a name is of a process killed there.
            names = {name for (name,) in db.execute("SELECT name FROM holder")}
            for path in self._holders.glob("*"):
                if path.name.removesuffix("-journal") not in names:
                    with suppress(OSError):
                        path.unlink()
        self.free_dead()

    def start_over(self, job: str) -> None:
        """Send every series through all steps once more, except those somebody works on now."""
        with self._transaction() as db:
            db.execute(
                "UPDATE item SET state='ready', step=0, tries=0, since=0, due=0, cut=0, fresh=0, known='{}' WHERE job=? AND state<>'taken'",
                (job,),
            )

    def is_found(self, job: str) -> bool:
        """Whether all series of the job are noted."""
        return bool(self._ask("SELECT found FROM job WHERE id=?", job)[0][0])

    def add(self, job: str, uid: str, facts: Mapping[str, Any]) -> None:
        """Note a series and what the archive says of it, unless it is noted already. Written a thousand at a time."""
        self._added.append((job, uid, msgspec.json.encode(facts).decode()))
        if len(self._added) == ADDED:
            self._write_added()

    def _write_added(self) -> None:
        with self._transaction() as db:
            db.executemany("INSERT OR IGNORE INTO item (job, uid, facts) VALUES (?, ?, ?)", self._added)
        self._added.clear()

    def all_found(self, job: str) -> None:
        """Every series of the job is noted now."""
        self._write_added()
        with self._transaction() as db:
            db.execute("UPDATE job SET found=1 WHERE id=?", (job,))

    # -- series --------------------------------------------------------------------------------------------------------

    def take(self, job: str, step: int, most: int) -> list[Item]:
        """Up to `most` series that are due for a step; they are this process's until `passed`, `later` or `failed`."""
        due = (job, step, time.time())
        if not self._ask(f"SELECT 1 {DUE} LIMIT 1", *due):
            return []  # without a transaction, for which other processes would wait
        if not self._holding:
            self._begin_to_hold()
        with self._transaction() as db:
            rows = db.execute(
                f"UPDATE item SET state='taken', owner=? WHERE id IN (SELECT id {DUE} ORDER BY due LIMIT ?) "  # noqa: S608
                "RETURNING id, uid, step, tries, since, facts, known, cut",
                (self.me, *due, most),
            ).fetchall()
        decode = msgspec.json.decode
        return [
            Item(id, uid, step, tries, since, decode(facts), decode(known), cut)
            for id, uid, step, tries, since, facts, known, cut in rows
        ]

    def passed(self, item: Item, known: Mapping[str, Any], *, fresh: bool, last: bool) -> str:
        """The step is done; `fresh` says that it was not before, `last` that there is no other. Returns done or skipped after the last."""
        merged = msgspec.json.encode({**item.known, **known}).decode()
        with self._transaction() as db:
            row = db.execute(
                "UPDATE item SET step=step+?, state=?, owner='', due=0, tries=0, since=0, cut=0, why='', code='', known=?, "
                "fresh=max(fresh,?), ended=? WHERE id=? AND owner=? RETURNING fresh",
                (not last, "done" if last else "ready", merged, fresh, time.time() if last else 0, item.id, self.me),
            ).fetchone()
        return "" if not last or row is None else "done" if row[0] else "skipped"

    def later(self, item: Item, seconds: float, *, failure: IsocenterError | None = None) -> None:
        """The step is to be tried again after a while; a `failure` counts as a try."""
        now = time.time()
        with self._transaction() as db:
            db.execute(
                "UPDATE item SET state='ready', owner='', due=?, tries=tries+?, since=?, cut=?, why=?, code=? WHERE id=? AND owner=?",
                (
                    now + seconds,
                    failure is not None,
                    item.since or now,
                    now if failure else item.cut,
                    *_said(failure),
                    item.id,
                    self.me,
                ),
            )

    def failed(self, item: Item, failure: IsocenterError) -> None:
        """The step cannot be done; the series goes no further in this run."""
        with self._transaction() as db:
            db.execute(
                "UPDATE item SET state='failed', owner='', tries=tries+1, why=?, code=?, ended=? WHERE id=? AND owner=?",
                (*_said(failure), time.time(), item.id, self.me),
            )

    def waiting(self, job: str, step: int, most: int) -> int:
        """How many series wait for a step or are in it; counts no further than `most`."""
        counted = (
            "SELECT count(*) FROM (SELECT 1 FROM item WHERE job=? AND state IN ('ready','taken') AND step=? LIMIT ?)"
        )
        return int(self._ask(counted, job, step, most)[0][0])

    def next_due(self, job: str, step: int) -> float | None:
        """Seconds until the next series is due for a step, 0 for now; None when none waits."""
        due = self._ask("SELECT min(due) FROM item WHERE job=? AND state='ready' AND step=?", job, step)[0][0]
        return None if due is None else max(0.0, due - time.time())

    def unfinished(self, job: str) -> bool:
        """Whether series of the job wait or are at work, here or in other processes; asked at once, for they move between the two."""
        self.free_dead()
        return bool(self._ask("SELECT 1 FROM item WHERE job=? AND state IN ('ready','taken') LIMIT 1", job))

    def free_dead(self) -> None:
        """Give back what processes held that are no more."""
        for (name,) in self._ask("SELECT name FROM holder WHERE name<>?", self.me):
            with self._plain():
                lock = _exclusive(self._holders / name)
                if lock is None:
                    continue
                with closing(lock):
                    self._give_back(name)
                (self._holders / name).unlink(missing_ok=True)

    def _begin_to_hold(self) -> None:
        """First the lock and then the name, so that nobody takes us for dead."""
        mine = self._holders / self.me
        with self._transaction() as db:
            self._holds.callback(mine.unlink, missing_ok=True)
            lock = _exclusive(mine)
            assert lock
            self._holds.callback(lock.close)
            db.execute("INSERT INTO holder (name) VALUES (?)", (self.me,))
        self._holds.callback(self._let_go)
        self._holding = True

    def _let_go(self) -> None:
        with suppress(StorageError):  # on a full disk; what we held is free all the same once the lock is gone
            self._give_back(self.me)

    def _give_back(self, name: str) -> None:
        with self._transaction() as db:
            db.execute(
                "UPDATE item SET state='ready', owner='', cut=? WHERE state='taken' AND owner=?", (time.time(), name)
            )
            db.execute("DELETE FROM holder WHERE name=?", (name,))

    # -- accounts ------------------------------------------------------------------------------------------------------

    def jobs(self) -> list[Job]:
        """All jobs, the newest first."""
        return [self._job(*row) for row in self._ask("SELECT * FROM job ORDER BY created DESC")]

    def job(self, name: str) -> Job:
        """The job of this identifier, or the newest of this name. Raises UnknownJob."""
        query = "SELECT * FROM job WHERE id=? OR name=? ORDER BY id=? DESC, created DESC LIMIT 1"
        rows = self._ask(query, name, name, name)
        if not rows:
            raise UnknownJob(f"The ledger {self.path} has no job {name!r}. `isocenter jobs` lists them.")
        return self._job(*rows[0])

    def _job(self, job: str, name: str, _definition: str, steps: str, created: float, found: int) -> Job:
        names = tuple(steps.split())
        done = skipped = failed = running = 0
        left: dict[str, int] = {}
        counted = "SELECT state, step, fresh, count(*) FROM item WHERE job=? GROUP BY state, step, fresh"
        for state, step, fresh, count in self._ask(counted, job):
            match state:
                case "done" if fresh:
                    done += count
                case "done":
                    skipped += count
                case "failed":
                    failed += count
                case _:
                    left[names[step]] = left.get(names[step], 0) + count
                    running += count if state == "taken" else 0
        total = done + skipped + failed + sum(left.values())
        return Job(job, name, created, bool(found), names, total, done, skipped, failed, left, running)

    def rows(self, job: str, state: str = "") -> Iterator[dict[str, Any]]:
        """What became of every series of a job, or of those in one state, in the order in which they were found."""
        steps = self.job(job).steps
        query = "SELECT uid, state, step, fresh, tries, why, code, facts, known FROM item WHERE job=? AND (?='' OR state=?) ORDER BY id"
        for uid, what, step, fresh, tries, why, code, facts, known in self._db.execute(query, (job, state, state)):
            shown = "left" if what in ("ready", "taken") else "skipped" if what == "done" and not fresh else what
            yield {
                "SeriesInstanceUID": uid,
                "state": shown,
                "step": "" if what == "done" else steps[step],
                "tries": tries,
                "why": why,
                "code": code,
                **{name: msgspec.json.decode(facts).get(name) for name in ("Collection", "Modality")},
                **msgspec.json.decode(known),
            }


def _exclusive(path: Path) -> sqlite3.Connection | None:
    """The lock of a file, held until it is closed or the process ends; None while another process holds it."""
    path.parent.mkdir(exist_ok=True)
    lock = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        lock.close()
        if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
            raise
        return None
    return lock


def _said(failure: IsocenterError | None) -> tuple[str, str]:
    return ("", "") if failure is None else (" ".join(str(failure).split()), failure.code)
