"""Many series at once: bounded, adapted to what the service bears, every one accounted for."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import anyio

from isocenter.core import ApiClient, IsocenterError, StorageError
from isocenter.transfer.download import download_series
from isocenter.transfer.layout import DEFAULT_LAYOUT, check_layout
from isocenter.transfer.manifest import Manifest, Outcome, SeriesFacts, State
from isocenter.transfer.patience import TRIES, Pace, Pause
from isocenter.transfer.series import SeriesOnDisk

T = TypeVar("T")
AT_ONCE = 4
TELLING = 4 << 20  # bytes from which the speed of a series says something about the service
LISTED = 1000  # failures kept in memory; the manifest has all of them


@dataclass(slots=True)
class Report:
    """What became of all series. `failures` are the first `LISTED` that failed; `stopped` says why the job ended early, if it did.

    done + skipped + failed is the number of series that were looked at; what a stopped job did not reach stays wanted in its manifest.
    """

    done: int = 0
    skipped: int = 0
    failed: int = 0
    files: int = 0  # of the series that are done; those that were there before are not counted
    bytes: int = 0
    seconds: float = 0.0
    failures: list[Outcome] = field(default_factory=list)
    stopped: str = ""


async def download_many(
    tcia: ApiClient,
    wanted: Iterable[SeriesFacts] | AsyncIterable[SeriesFacts],
    root: Path,
    *,
    layout: str = DEFAULT_LAYOUT,
    at_once: int = AT_ONCE,
    manifest: Manifest | None = None,
    on_outcome: Callable[[SeriesFacts, Outcome], None] | None = None,
    on_bytes: Callable[[int], None] | None = None,
    tries: int = TRIES,
    pause: Pause = anyio.sleep,
) -> Report:
    """Fetch every wanted series, at most `at_once` at a time and fewer while the service has trouble.

    A series that fails does not stop the others; a disk that cannot be written does, since none of them would fare better. `wanted`
    is taken one by one, so it may be of any length. `on_bytes` gets how many more bytes of DICOM files arrived. Raises BadLayout and
    what `wanted` raises.
    """
    check_layout(layout)
    report, pace, started = Report(), Pace(at_once, pause=pause), time.monotonic()
    source, taking = _each(wanted), anyio.Lock()
    broken: IsocenterError | None = None

    async def one(facts: SeriesFacts) -> Outcome:
        begun, seen = time.monotonic(), 0

        async def progress(so_far: int, _total: int | None) -> None:
            nonlocal seen
            if on_bytes and so_far != seen:
                on_bytes(so_far - seen)
            seen = so_far

        try:
            found = await download_series(
                tcia,
                facts.series_uid,
                root,
                layout=layout,
                expect=facts,
                progress=progress,
                tries=tries,
                pause=pause,
                trouble=pace.trouble,
            )
        except IsocenterError as error:
            if error.retryable:
                pace.trouble(error)
            if isinstance(error, StorageError):
                report.stopped = report.stopped or str(error)
            why = " ".join(str(error).split())
            return Outcome(facts.series_uid, "failed", why=why, code=error.code, seconds=time.monotonic() - begun)
        seconds = time.monotonic() - begun
        await progress(found.bytes, None)
        if not found.skipped:
            pace.success(found.bytes / seconds * pace.now if found.bytes >= TELLING else None)
        return outcome_of(found, root, seconds)

    async def work() -> None:
        nonlocal broken
        try:
            await take_and_fetch()
        except IsocenterError as error:  # of the source or the manifest: nothing can go on
            broken = error
            group.cancel_scope.cancel()

    async def take_and_fetch() -> None:
        while True:
            async with pace.turn():
                async with taking:
                    facts = None if report.stopped else await anext(source, None)
                if facts is None:
                    return
                if manifest:
                    manifest.want(facts)
                outcome = await one(facts)
            match outcome.state:
                case "done":
                    report.done += 1
                    report.files += outcome.files
                    report.bytes += outcome.bytes
                case "skipped":
                    report.skipped += 1
                case "failed":
                    report.failed += 1
                    report.failures += [outcome] * (len(report.failures) < LISTED)
            if manifest:
                manifest.note(outcome)
            if on_outcome:
                on_outcome(facts, outcome)

    async with anyio.create_task_group() as group:
        for _ in range(at_once):
            group.start_soon(work)
    if broken:
        raise broken
    report.seconds = time.monotonic() - started
    return report


def outcome_of(found: SeriesOnDisk, root: Path, seconds: float) -> Outcome:
    """A fetched series as a line of the manifest."""
    folder = found.folder.relative_to(root).as_posix()
    state: State = "skipped" if found.skipped else "done"
    return Outcome(
        found.series_uid, state, folder, found.files, found.bytes, found.md5, why=" ".join(found.notes), seconds=seconds
    )


async def _each(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
