"""Whether series on disk still are what was fetched: every file hashed again and held against `series.json`. Needs no network."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from isocenter.core import StorageError
from isocenter.transfer.layout import PRIVATE
from isocenter.transfer.series import INDEX, damaged_files, index_bytes, read_index


@dataclass(frozen=True, slots=True)
class Verdict:
    """One series. `damaged`: names of its files that are missing or changed; `series.json` where that is, and nothing was hashed."""

    series_uid: str
    folder: Path
    files: int = 0
    bytes: int = 0
    damaged: tuple[str, ...] = ()


def series_below(
    root: Path, rows: Iterable[Mapping[str, Any]] = (), *, only: Collection[str] = (), filters: Mapping[str, str] = {}
) -> Iterator[tuple[str, Path]]:
    """UID and folder of every series there is, or should be, below `root`; all of them, or those in `only` and those that match all `filters`.

    `rows` are those of the download's manifest: what they say was fetched should be there. So should everything in `only`.
    """
    seen = set()

    def chosen(uid: str, row: Mapping[str, Any]) -> bool:
        matches = bool(filters) and all(str(row.get(name, "")) == value for name, value in filters.items())
        return uid in only or matches or not (only or filters)

    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name != PRIVATE)
        if INDEX in names:
            index = read_index(Path(folder))
            uid = str(index.get("SeriesInstanceUID", Path(folder).name))
            seen.add(uid)
            if chosen(uid, index.get("archive", {})):
                yield uid, Path(folder)
    for row in rows:
        uid = row["SeriesInstanceUID"]
        if row["state"] in ("done", "skipped") and row["folder"] and uid not in seen:
            seen.add(uid)
            if chosen(uid, row):
                yield uid, root / row["folder"]
    for uid in sorted(set(only) - seen):
        yield uid, root


def verify_series(series_uid: str, folder: Path) -> Verdict:
    """Hash every file of a series again. For a worker thread.

    What is damaged is noted in `series.json`: the next download of the series fetches it again.
    """
    index = read_index(folder)
    if index.get("SeriesInstanceUID") != series_uid:
        return Verdict(series_uid, folder, damaged=(INDEX,))
    damaged = damaged_files(folder)
    if damaged != index.get("damaged", []):
        part = folder / f".{INDEX}.part"
        part.write_bytes(index_bytes({**index, "damaged": damaged}))
        part.replace(folder / INDEX)
    return Verdict(series_uid, folder, len(index["files"]), index["bytes"], tuple(damaged))


async def verify_many(series: Iterable[tuple[str, Path]], told: Callable[[Verdict], None]) -> None:
    """Verify as many series at once as there are processors; `told` hears of each. Raises StorageError."""
    waiting = iter(series)

    async def work() -> None:
        for uid, folder in waiting:
            told(await anyio.to_thread.run_sync(verify_series, uid, folder))

    try:
        async with anyio.create_task_group() as group:
            for _ in range(os.cpu_count() or 1):
                group.start_soon(work)
    except* OSError as errors:
        error = errors.exceptions[0]
        raise StorageError(f"The series cannot be verified: {error}.") from error
