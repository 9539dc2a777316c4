"""Series from the archive to disk: unpacked and checked while they arrive, visible only when whole, resumed where they broke off.

A series is fetched into a private folder below the download folder and moved to its place in one step, together with the archive's
LICENSE, a CITATION.txt and `series.json`, which lists every file with size and MD5 and says what was checked. Whoever finds a
`series.json` may rely on it: no other state of a series is ever in place, also after a power cut. What happens to the files later,
`verify.py` finds out.

The archive makes ZIPs on the fly, without length and without resume, so the unit of resume is the series. When a ZIP breaks off twice,
or most images are there already, only the missing ones are fetched, one by one.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from isocenter.core import ApiClient, ContractViolation, IsocenterError, Result, StorageError, TransportError
from isocenter.core.client import Progress
from isocenter.core.formats import FORMATS
from isocenter.core.transfer import Stream
from isocenter.transfer.layout import DEFAULT_LAYOUT, PRIVATE, folder_of, only_one
from isocenter.transfer.manifest import SeriesFacts
from isocenter.transfer.patience import TRIES, Pause, again
from isocenter.transfer.series import Arriving, SeriesIncomplete, SeriesOnDisk, read_series
from isocenter.transfer.unzip import BadArchive, ZipLimits, ZipReader

BATCH = 1 << 19  # bytes of ZIP handed to a worker thread at once
SINGLES = 4  # images fetched at once where they are fetched one by one
SLACK = 64 << 20  # bytes a ZIP may hold beyond what the archive's table says: LICENSE, hashes


class UnknownSeries(IsocenterError):
    """The archive has no public series of this UID."""

    code = "unknown_series"


async def download_series(
    tcia: ApiClient,
    series_uid: str,
    root: Path,
    *,
    layout: str = DEFAULT_LAYOUT,
    expect: SeriesFacts | None = None,
    progress: Progress | None = None,
    tries: int = TRIES,
    pause: Pause = anyio.sleep,
    trouble: Callable[[IsocenterError], None] | None = None,
) -> SeriesOnDisk:
    """Fetch one series into its place below `root`, unless it is there already, whole.

    Checked are: CRC-32 and size of every member, the archive's MD5 list, the UIDs in every DICOM header, the number of images against
    ImageCount, and the sum of sizes against FileSize. `expect` saves the question for those. `progress` gets bytes of DICOM files so far
    and in all. Whole images of an interrupted try are kept aside and used by the next call. Safe to run twice at the same time.
    `trouble` hears of every failure that is tried again.

    Raises UnknownSeries, SeriesIncomplete, BadArchive, StorageError, and what `ApiClient.stream` raises.
    """
    if not FORMATS["dicom-uid"](series_uid):
        raise UnknownSeries(f"{series_uid[:80]!r} is no SeriesInstanceUID.")
    facts = expect if expect and expect.known else await _facts(tcia, series_uid, pause)
    target = folder_of(root, layout, {**facts.row, "SeriesInstanceUID": series_uid})
    aside = root / PRIVATE / "partial" / series_uid
    try:
        if there := read_series(target, series_uid):
            return there
        async with only_one(root, series_uid, pause):
            if there := read_series(target, series_uid):  # another job was faster
                return there
            files = await anyio.to_thread.run_sync(Arriving, aside, facts, target)
            try:
                await _fetch(tcia, files, progress, tries, pause, trouble)
                return await anyio.to_thread.run_sync(files.publish, target, tcia.base_url)
            finally:
                files.close()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            shutil.rmtree(aside, ignore_errors=True)  # gives back what little there is
        raise StorageError(f"Series {series_uid} cannot be written: {error.strerror or error}.") from error


async def _facts(tcia: ApiClient, series_uid: str, pause: Pause) -> SeriesFacts:
    async def ask() -> Result[Any]:
        return await tcia.call("getSeries", {"SeriesInstanceUID": series_uid})

    rows = (await again(ask, pause=pause)).data
    if not rows:
        raise UnknownSeries(f"The archive has no public series {series_uid}.")
    return SeriesFacts.of(rows[0])


async def _fetch(
    tcia: ApiClient,
    files: Arriving,
    progress: Progress | None,
    tries: int,
    pause: Pause,
    trouble: Callable[[IsocenterError], None] | None,
) -> None:
    """Bring in what is missing: as one ZIP at first, image by image where that is less work or the ZIP keeps breaking off."""
    broken = 0

    async def attempt() -> None:
        nonlocal broken
        if broken < 2 and len(files.have) * 2 <= files.facts.images:
            try:
                await _as_zip(tcia, files, progress)
                files.check()
            except (BadArchive, TransportError, SeriesIncomplete):
                broken += 1
                raise
        else:
            await _one_by_one(tcia, files, progress)
            files.check()

    await again(attempt, tries=tries, pause=pause, trouble=trouble)


async def _as_zip(tcia: ApiClient, files: Arriving, progress: Progress | None) -> None:
    limits = ZipLimits(files.facts.images + 1000, files.facts.size + SLACK if files.facts.size >= 0 else None)
    reader = ZipReader(files.start_zip(), limits)
    arguments = {"SeriesInstanceUID": files.facts.series_uid, "IncludeMD5": "Yes"}
    try:
        async with tcia.stream("getImage", arguments) as stream:
            async for batch in _batches(stream):
                # Meanwhile the connection goes on to receive, up to its own buffer.
                await anyio.to_thread.run_sync(_each, reader.feed, batch, limiter=_unpackers())
                if progress:
                    await progress(files.arrived, files.total)
        reader.close()
    except ContractViolation as error:  # a page of HTML, or nothing, in place of a ZIP
        raise BadArchive(str(error)) from error
    finally:
        files.abandon()
    files.compare_hashes()


_UNPACKERS: RunVar[anyio.CapacityLimiter] = RunVar("unpackers")


def _unpackers() -> anyio.CapacityLimiter:
    """As many threads as there are processors: more would only wait for each other, and for the interpreter's lock."""
    try:
        return _UNPACKERS.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(
            max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        )
        _UNPACKERS.set(limiter)
        return limiter


async def _batches(stream: Stream) -> AsyncIterator[list[bytes]]:
    """What arrives, in lists of pieces that are worth the way to a worker thread; not joined, which would hold them twice."""
    gathered, size = list[bytes](), 0
    try:
        async for piece in stream:
            gathered.append(piece)
            size += len(piece)
            if size >= BATCH:
                yield gathered
                gathered, size = [], 0
    except TransportError:
        yield gathered  # what came before the break is worth keeping
        raise
    yield gathered


def _each(take: Callable[[bytes], None], pieces: list[bytes]) -> None:
    for piece in pieces:
        take(piece)


async def _one_by_one(tcia: ApiClient, files: Arriving, progress: Progress | None) -> None:
    uid = files.facts.series_uid
    answer: Result[Any] = await tcia.call("getSOPInstanceUIDs", {"SeriesInstanceUID": uid})
    listed = {row["SOPInstanceUID"] for row in answer.data}
    if not listed:
        raise SeriesIncomplete("The archive lists no images of the series.")
    files.keep_only(listed)
    missing, errors = iter(sorted(listed - files.have.keys())), list[IsocenterError]()
    unwritable: list[OSError] = []

    async def fetch_some() -> None:
        for sop_uid in missing:
            try:
                with files.part() as part:
                    request = {"SeriesInstanceUID": uid, "SOPInstanceUID": sop_uid}
                    async with tcia.stream("getSingleImage", request) as stream:
                        async for batch in _batches(stream):
                            await anyio.to_thread.run_sync(_each, part.write, batch)
                    await anyio.to_thread.run_sync(part.close)
                    files.accept(part, sop_uid)
                if progress:
                    await progress(files.arrived, files.total)
            except IsocenterError as error:
                errors.append(error)
                if not error.retryable or len(errors) > SINGLES:
                    return
            except OSError as error:
                unwritable.append(error)
                return

    async with anyio.create_task_group() as group:
        for _ in range(SINGLES):
            group.start_soon(fetch_some)
    if unwritable:
        raise unwritable[0]
    if errors:
        lost = len(listed - files.have.keys())
        message = f"{lost} of {len(listed)} images could not be fetched one by one. {errors[0]}"
        raise SeriesIncomplete(message, retryable=any(error.retryable for error in errors)) from errors[0]
