"""One record per call, written whatever happens: what was called, how it ended, how long it took. No values, no identifiers."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import anyio
import msgspec

from isocenter.core import IsocenterError

log = logging.getLogger("isocenter.audit")

RECENT = 1000  # records kept in memory


@dataclass(slots=True)
class Record:
    """A call for the log. `arguments` are names only; `caller` is empty over stdio, otherwise a name that tells two callers apart and
    nothing else about them; `outcome` is `ok`, `asked`, `cancelled`, an error code, or `crash`."""

    time: str
    tool: str
    operation: str
    effect: str
    arguments: list[str]
    outcome: str = "crash"
    status: int | None = None
    findings: int = 0
    seconds: float = 0.0
    caller: str = ""


class Audit:
    """Writes records to the log and, when a path is given, as JSON lines to that file. `recent` takes the last ones."""

    def __init__(self, path: Path | None = None, recent: deque[Record] | None = None, caller: str = "") -> None:
        self.path, self.caller = path, caller
        self.recent = deque[Record](maxlen=RECENT) if recent is None else recent

    @contextmanager
    def call(self, tool: str, operation: str, effect: str, arguments: list[str]) -> Iterator[Record]:
        """Open a record; whatever leaves the block, it is written."""
        record = Record(
            datetime.now(UTC).isoformat(timespec="milliseconds"),
            tool,
            operation,
            effect,
            sorted(arguments),
            caller=self.caller,
        )
        started = time.monotonic()
        try:
            yield record
            record.outcome = "ok"
        except IsocenterError as error:
            record.outcome, record.status = error.code, getattr(error, "status", None)
            record.findings = len(getattr(error, "findings", ()))
            raise
        except anyio.get_cancelled_exc_class():
            record.outcome = "cancelled"
            raise
        finally:
            record.seconds = round(time.monotonic() - started, 4)
            self.recent.append(record)
            line = msgspec.json.encode(record)
            log.info("%s", line.decode())
            if self.path:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("ab", buffering=0) as file:
                    file.write(line + b"\n")
