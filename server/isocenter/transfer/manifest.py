"""What is wanted and what became of it: facts about series, lists of series as input, the journal of a job, tables as output."""

from __future__ import annotations

import csv
import errno
import io
import os
from collections.abc import AsyncIterator, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import msgspec

from isocenter.core import ApiClient, IsocenterError, Result, StorageError
from isocenter.core.formats import FORMATS
from isocenter.transfer.patience import again

State = Literal["done", "skipped", "failed"]
is_uid = FORMATS["dicom-uid"]
AT_ONCE = 500  # series asked about in one request
COLUMNS = (
    "SeriesInstanceUID",
    "state",
    "folder",
    "files",
    "bytes",
    "md5",
    "why",
    "Collection",
    "PatientID",
    "StudyInstanceUID",
    "Modality",
    "SeriesDescription",
    "BodyPartExamined",
    "LicenseName",
    "LicenseURI",
    "DataDescriptionURI",
)


class BadSelection(IsocenterError):
    """A list of series that cannot be read; the message says which line and why."""

    code = "selection"


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """What the archive says of a series before it is fetched: number of images, bytes of their files, and the row it stands in.

    0 and -1 mean that the archive did not say. The row keeps the archive's own keys (NBIA v4 getSeries).
    """

    series_uid: str
    images: int = 0
    size: int = -1
    row: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> SeriesFacts:
        """From a row of getSeries or getSeriesMetadata."""
        return cls(row["SeriesInstanceUID"], int(row.get("ImageCount") or 0), int(row.get("FileSize", -1)), row)

    @property
    def known(self) -> bool:
        """Whether this is more than the UID alone."""
        return self.images > 0


async def facts_of(tcia: ApiClient, uids: Iterable[str]) -> AsyncIterator[SeriesFacts]:
    """Facts about listed series, asked for in batches; one the archive does not know comes with its UID only. Order is kept."""
    batch: list[str] = []
    for last, uid in _with_end(dict.fromkeys(uids)):
        if not last:
            batch.append(uid)
        if batch and (last or len(batch) == AT_ONCE):
            rows = {row["SeriesInstanceUID"]: row for row in await _metadata(tcia, batch)}
            for wanted in batch:
                yield SeriesFacts.of(rows[wanted]) if wanted in rows else SeriesFacts(wanted)
            batch = []


async def _metadata(tcia: ApiClient, uids: list[str]) -> list[dict[str, Any]]:
    """Rows of getSeriesMetadata. A POST, but a mere question, so it may be repeated."""

    async def ask() -> Result[Any]:
        return await tcia.call("getSeriesMetadata", {"list": uids, "format": "JSON"})

    rows: list[dict[str, Any]] = (await again(ask)).data
    return rows


def _with_end(items: Iterable[str]) -> Iterator[tuple[bool, str]]:
    for item in items:
        yield False, item
    yield True, ""


async def facts_of_filter(tcia: ApiClient, **filters: str) -> list[SeriesFacts]:
    """Facts about every series that getSeries finds for the filters (Collection, PatientID, Modality, ...)."""
    answer: Result[Any] = await tcia.call("getSeries", filters)
    return [SeriesFacts.of(row) for row in answer.data]


async def shared_list(tcia: ApiClient, name: str) -> list[str]:
    """UIDs of the series in a shared list. Raises BadSelection for an unknown or empty one, which the archive does not tell apart."""
    answer: Result[Any] = await tcia.call("getContentsByName", {"name": name})
    if not answer.data:
        raise BadSelection(f"The archive has no shared list {name!r}, or it is empty. Names must match exactly.")
    return [row["SeriesInstanceUID"] for row in answer.data]


def read_selection(path: Path) -> list[str]:
    """UIDs of the series in a file: a `.tcia` manifest, a table (CSV, semicolons or tabs) with a column of UIDs, or a plain list.

    What it is, the content decides. Raises BadSelection.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadSelection(
            f"{path}: cannot be read as text ({getattr(error, 'strerror', None) or 'not UTF-8'})."
        ) from error
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    keys = [line.partition("=")[0].lower() for _, line in lines]
    if "listofseriestodownload" in keys:
        uids = lines[keys.index("listofseriestodownload") + 1 :]
    elif lines and not is_uid(lines[0][1]) and (separator := _separator(lines[0][1])):
        names = [_plain(name) for name in next(csv.reader([lines[0][1]], delimiter=separator))]
        column = next(
            (names.index(name) for name in ("seriesinstanceuid", "seriesuid", "seriesid") if name in names), None
        )
        if column is None:
            raise BadSelection(f"{path}: the table has no column SeriesInstanceUID.")
        reader = csv.reader(io.StringIO(text), delimiter=separator)
        next(reader)
        uids = [(reader.line_num, row[column].strip() if column < len(row) else "") for row in reader if any(row)]
    else:
        uids = [(number, line) for number, line in lines if not line.startswith("#")]
        if uids and _plain(uids[0][1]) in ("seriesinstanceuid", "seriesuid"):
            uids = uids[1:]
    for number, uid in uids:
        if not is_uid(uid):
            raise BadSelection(f"{path}, line {number}: not a SeriesInstanceUID: {uid[:80]!r}.")
    if not uids:
        raise BadSelection(f"{path}: names no series.")
    return list(dict.fromkeys(uid for _, uid in uids))


def _separator(header: str) -> str:
    return next((separator for separator in (",", ";", "\t") if separator in header), "")


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one series. `why` is one sentence where it failed, `code` that of the error; `folder` is relative to the root.

    `md5` is the archive's hash of a series: the MD5 of the sorted MD5s of its files (NBIA getMD5Hierarchy).
    """

    series_uid: str
    state: State
    folder: str = ""
    files: int = 0
    bytes: int = 0
    md5: str = ""
    why: str = ""
    code: str = ""
    seconds: float = 0.0


class Lines:
    """A file of JSON objects, one per line, that is only ever appended to. A line that a crash cut off is ignored.

    Several processes may append to one file. A context manager.
    """

    def __init__(self, path: Path) -> None:
        """Open or create, and end a line that was cut off. Raises StorageError."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
            if size := os.lseek(self._file, 0, os.SEEK_END):
                os.lseek(self._file, size - 1, os.SEEK_SET)
                if os.read(self._file, 1) != b"\n":
                    os.write(self._file, b"\n")
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with self.path.open("rb") as file:
            for raw in file:
                try:
                    line = msgspec.json.decode(raw)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue
                if isinstance(line, dict):
                    yield line

    def append(self, *lines: Mapping[str, Any]) -> None:
        """Add lines with one write, so that those of several processes do not mix. Raises StorageError."""
        data = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        try:
            if os.write(self._file, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise StorageError(f"{self.path}: {error.strerror}.") from error


class Manifest(Lines):
    """The journal of a download job, with which a job killed at any moment goes on.

    Lines are `{"wanted": uid, "images": n, "size": n, "row": {...}}`, once for every series, and `{"series": uid, "state": ...}` for
    every outcome; the last one counts. Several jobs may share a manifest. Held in memory is one word per series.
    """

    def __init__(self, path: Path) -> None:
        """Open or create. Raises StorageError."""
        super().__init__(path)
        self.states: dict[str, State | None] = {}
        for line in self:
            if uid := line.get("wanted"):
                self.states.setdefault(uid, None)
            elif uid := line.get("series"):
                self.states[uid] = line.get("state")

    def want(self, facts: SeriesFacts) -> None:
        """Note a series as wanted, unless it is noted already."""
        if facts.series_uid not in self.states:
            self.append(
                {"wanted": facts.series_uid, "images": facts.images, "size": facts.size, "row": dict(facts.row)}
            )
            self.states[facts.series_uid] = None

    def note(self, outcome: Outcome) -> None:
        """Note what became of a series."""
        line: dict[str, Any] = {"series": outcome.series_uid, "at": datetime.now(UTC).isoformat(timespec="seconds")}
        for name in ("state", "folder", "files", "bytes", "md5", "why", "code", "seconds"):
            if value := getattr(outcome, name):
                line[name] = round(value, 3) if isinstance(value, float) else value
        self.append(line)
        self.states[outcome.series_uid] = outcome.state

    def wanted(self, only: Container[str] | None = None) -> Iterator[SeriesFacts]:
        """The wanted series, or those of them in `only`, in the order in which they were first wanted. Also those that are done."""
        for line in self:
            if (uid := line.get("wanted")) and (only is None or uid in only):
                yield SeriesFacts(uid, line.get("images", 0), line.get("size", -1), line.get("row", {}))

    def pending(self) -> Iterator[SeriesFacts]:
        """The wanted series that were not fetched yet, in the same order."""
        return (facts for facts in self.wanted() if self.states.get(facts.series_uid) not in ("done", "skipped"))

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row of `COLUMNS` per wanted series, for a table."""
        last = {uid: line for line in self if (uid := line.get("series"))}
        seen = set()
        for line in self:
            uid = line.get("wanted")
            if uid and uid not in seen:
                seen.add(uid)
                merged = {**line.get("row", {}), **last.get(uid, {}), "SeriesInstanceUID": uid}
                yield {name: merged.get(name) for name in COLUMNS}
