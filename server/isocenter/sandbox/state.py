"""What every sandbox service shares: options, one database, the clock, archives, credentials, background tasks.

One `Sandbox` owns one data directory. The directory is locked for as long as the object lives, so two processes can
never write to the same one; the lock dies with the process, also after `kill -9`. Everything that must survive lies
in `sandbox.db` (SQLite, WAL) and in DICOM files beside it, so nothing here has to be saved at shutdown.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isocenter.sandbox.archive import SCHEMA, Archive

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

log = logging.getLogger("isocenter.sandbox")

BUSY_SECONDS = 30.0


class DataDirectoryInUse(Exception):
    """Another sandbox process holds the data directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the sandbox behaves; read once at start."""

    strict: bool = False
    """Answer a proper 4xx where the real CIRCUS has an accidental 500."""
    compat_live: bool = False
    """Copy the quirks of the deployed DICOMaestro instead of its documents."""
    stability_seconds: float = 5.0
    """Seconds without a new upload after which a series counts as complete."""
    compute_seconds: float = 1.0
    """Seconds a simulated computation takes."""
    circus_world: Path | None = None
    """A JSON file with the CIRCUS users, projects and groups to start with."""
    dicom: tuple[tuple[str, Path], ...] = ()
    """Folders to serve through the TCIA archive: (collection name, folder)."""
    faults: tuple[str, ...] = ()
    """Faults switched on from the start: `service:fault`, or `fault` for every service."""


class Sandbox:
    """The state behind all services of one data directory.

    `db` is used on the event loop's thread only, with short statements. Work that takes long belongs in
    `anyio.to_thread` with its own `reader()`; `Archive.ingest` may be called from any thread.
    """

    root: Path
    options: Options
    db: sqlite3.Connection
    credentials: dict[str, dict[str, str]]
    faults: dict[str, frozenset[str]]
    """The faults switched on now, by service; see `isocenter.sandbox.faults`."""

    def __init__(
        self, root: Path, options: Options | None = None, *, clock: Callable[[], datetime] | None = None
    ) -> None:
        """Lock and open the data directory, creating it when it does not exist.

        Raises DataDirectoryInUse when another sandbox has it.
        """
        self.root = root.expanduser().resolve()
        self.root.mkdir(parents=True, exist_ok=True)
        self.options = options or Options()
        self._clock = clock or (lambda: datetime.now(UTC))
        self._lock = _lock(self.root)
        self._archives: dict[str, Archive] = {}
        self._archives_lock = threading.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._idle: list[sqlite3.Connection] = []
        self.faults = {}
        self._write_lock = threading.RLock()
        self._transaction_thread: int | None = None
        self.db = self._connect()
        self._writer = self._connect()
        self.db.executescript(SCHEMA)
        self.credentials = _credentials(self.root / "credentials.json")

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(
            self.root / "sandbox.db", timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute("PRAGMA foreign_keys=ON")
        return db

    def now(self) -> datetime:
        """The time, aware and in UTC. Tests inject the clock."""
        return self._clock()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """BEGIN IMMEDIATE .. COMMIT on `db`, or ROLLBACK when the body raises. An inner one joins the outer one.

        The body must not await: another task on the same thread would write into the same transaction.
        """
        if self._transaction_thread == threading.get_ident():
            yield self.db
            return
        with _begin(self.db):
            self._transaction_thread = threading.get_ident()
            try:
                yield self.db
            finally:
                self._transaction_thread = None

    @contextmanager
    def writer(self) -> Iterator[sqlite3.Connection]:
        """A connection inside a write transaction, for code that may run on any thread.

        Within `transaction()` on the same thread it joins that transaction; everywhere else it is a transaction of
        its own on a second connection.
        """
        if self._transaction_thread == threading.get_ident():
            yield self.db
            return
        with self._write_lock, _begin(self._writer):
            yield self._writer

    @contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """A read connection of its own, for long reads on a worker thread; it sees one state of the data."""
        try:
            db = self._idle.pop()
        except IndexError:
            db = self._connect()
            db.execute("PRAGMA query_only=ON")
        db.execute("BEGIN")
        try:
            yield db
        finally:
            db.execute("ROLLBACK")
            self._idle.append(db)

    def archive(self, name: str) -> Archive:
        """The DICOM archive of that name (`tcia`, `qure` or `circus`); made on first use."""
        with self._archives_lock:
            # Opening removes what interrupted ingests left, so it must happen once, before the first ingest.
            if name not in self._archives:
                self._archives[name] = Archive(self, name)
            return self._archives[name]

    def spawn(self, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine in the background until it ends or the sandbox shuts down. Must be called on the loop.

        A failure is logged, and nothing else stops because of it.
        """
        task = asyncio.get_running_loop().create_task(coro)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("background task failed: %s", type(error).__name__, exc_info=error)

    def base_url(self, request: HTTPConnection) -> str:
        """Scheme, host and port by which the client reached us, without a trailing slash."""
        scheme = {"ws": "http", "wss": "https"}.get(request.url.scheme, request.url.scheme)
        return f"{scheme}://{request.url.netloc}"

    def fault(self, service: str, name: str) -> bool:
        """Whether a fault is switched on for a service, for those a service must act out itself (`expired-urls`)."""
        return name in self.faults.get(service, ())

    async def stop(self) -> None:
        """Cancel the background tasks and wait until they ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        """Close the database and give the data directory back."""
        for db in (*self._idle, self._writer, self.db):
            db.close()
        self._lock.close()


@contextmanager
def _begin(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _lock(root: Path) -> sqlite3.Connection:
    """Hold SQLite's exclusive lock on a file of its own: portable, and the operating system drops it with us."""
    lock = sqlite3.connect(root / "lock.db", timeout=0, isolation_level=None, check_same_thread=False)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        lock.close()
        if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
            raise
        raise DataDirectoryInUse(
            f"another sandbox is using {root}; stop it, or choose another data directory"
        ) from error
    return lock


def _credentials(path: Path) -> dict[str, dict[str, str]]:
    """What a local client needs to log in, made once per data directory and readable by its owner only."""
    if not path.exists():
        made = {
            "qure": {
                "token": secrets.token_hex(20),
                "source": "isocenter-sandbox",
                "legacy_token": secrets.token_hex(20),
            },
            "dicomaestro": {
                "email": "sandbox@isocenter.invalid",
                "password": secrets.token_urlsafe(16),
                "api_key": secrets.token_hex(32),
            },
            "circus": {"token": secrets.token_hex(20)},
        }
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(made, file, indent=2)
        part.replace(path)
    loaded: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    return loaded
