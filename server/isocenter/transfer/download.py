"""Series from the archive to disk: unpacked and checked while they arrive, visible only when whole, resumed where they broke off.

A series is fetched into a private folder below the download folder and moved to its place in one step, together with the archive's
LICENSE, a CITATION.txt and `series.json`, which lists every file with size and MD5 and says what was checked. Whoever finds a
`series.json` may rely on it: no other state of a series is ever in place.

The archive makes ZIPs on the fly, without length and without resume, so the unit of resume is the series. When a ZIP breaks off twice,
or most images are there already, only the missing ones are fetched, one by one.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec
from anyio.lowlevel import RunVar

from isocenter.core import ApiClient, ContractViolation, IsocenterError, Result, StorageError, TransportError
from isocenter.core.client import Progress
from isocenter.core.formats import FORMATS
from isocenter.core.transfer import Stream
from isocenter.transfer.layout import DEFAULT_LAYOUT, PRIVATE, folder_of, only_one
from isocenter.transfer.manifest import SeriesFacts
from isocenter.transfer.patience import TRIES, Pause, again
from isocenter.transfer.scan import NotDicom, file_md5, read_header
from isocenter.transfer.unzip import BadArchive, ZipLimits, ZipReader

BATCH = 1 << 19  # bytes of ZIP handed to a worker thread at once
HEAD = 1 << 16  # bytes of a file kept to read its header from
SINGLES = 4  # images fetched at once where they are fetched one by one
SLACK = 64 << 20  # bytes a ZIP may hold beyond what the archive's table says, and disk space kept free
KEPT = 32 << 20  # most bytes of LICENSE and of the MD5 list
INDEX, LICENSE, CITATION, HASHES = "series.json", "LICENSE", "CITATION.txt", "md5hashes.csv"
TERMS = "https://www.cancerimagingarchive.net/data-usage-policies-and-restrictions/"


class UnknownSeries(IsocenterError):
    """The archive has no public series of this UID."""

    code = "unknown_series"


class SeriesIncomplete(IsocenterError):
    """What arrived is not the whole series: images are missing, or differ from what the archive says they are."""

    code = "incomplete"

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.retryable = retryable


@dataclass(frozen=True, slots=True)
class SeriesOnDisk:
    """A whole series on disk. `bytes` counts the DICOM files, `md5` is the archive's hash of a series (see Outcome).

    `skipped`: it was there before. `notes`: what was odd but no reason to refuse it.
    """

    series_uid: str
    folder: Path
    files: int
    bytes: int
    md5: str
    skipped: bool = False
    notes: tuple[str, ...] = ()


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
            files = await anyio.to_thread.run_sync(_Files, aside, facts, target)
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
    files: _Files,
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


async def _as_zip(tcia: ApiClient, files: _Files, progress: Progress | None) -> None:
    limits = ZipLimits(files.facts.images + 1000, files.facts.size + SLACK if files.facts.size >= 0 else None)
    reader = ZipReader(files.start_zip(), limits)
    arguments = {"SeriesInstanceUID": files.facts.series_uid, "IncludeMD5": "Yes"}
    try:
        async with tcia.stream("getImage", arguments) as stream:
            async for batch in _batches(stream):
                # Meanwhile the connection goes on to receive, up to its own buffer.
                await anyio.to_thread.run_sync(reader.feed, batch, limiter=_unpackers())
                if progress:
                    await progress(files.arrived, files.total)
        reader.close()
    except ContractViolation as error:  # a page of HTML, or nothing, in place of a ZIP
        raise BadArchive(str(error)) from error
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


async def _batches(stream: Stream) -> AsyncIterator[bytes]:
    gathered, size = list[bytes](), 0
    try:
        async for piece in stream:
            gathered.append(piece)
            size += len(piece)
            if size >= BATCH:
                yield b"".join(gathered)
                gathered, size = [], 0
    except TransportError:
        yield b"".join(gathered)  # what came before the break is worth keeping
        raise
    yield b"".join(gathered)


async def _one_by_one(tcia: ApiClient, files: _Files, progress: Progress | None) -> None:
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
                            await anyio.to_thread.run_sync(part.write, batch)
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


@dataclass(frozen=True, slots=True)
class _File:
    size: int
    md5: str
    checked: bool = False  # against the archive's MD5 list


class _Part:
    """One file while it arrives, under a hidden name; gone at the end of the `with` block unless it was accepted."""

    def __init__(self, path: Path) -> None:
        self.path, self.size, self.head, self.accepted = path, 0, b"", False
        self.md5 = hashlib.md5(usedforsecurity=False)
        self._file = path.open("wb", buffering=0)

    def __enter__(self) -> _Part:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if not self.accepted:
            self.path.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        if len(self.head) < HEAD:
            self.head += data[: HEAD - len(self.head)]
        self.md5.update(data)
        self.size += len(data)
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]

    def close(self) -> None:
        self._file.close()


@dataclass(slots=True)
class _Files:
    """The images of one series that are here and whole, in a private folder; also the sink of the ZIP that brings them.

    Takes over the whole images of interrupted tries, and those of a finished series whose files were damaged since.
    """

    aside: Path
    facts: SeriesFacts
    target: Path
    have: dict[str, _File] = field(default_factory=dict)  # by SOPInstanceUID
    notes: list[str] = field(default_factory=list)
    license: bytes = b""
    arrived: int = 0  # bytes of whole images
    _zip: dict[str, str] = field(default_factory=dict)  # SOPInstanceUID -> member name
    _expected: dict[str, str] = field(default_factory=dict)  # SOPInstanceUID -> the archive's MD5
    _hashes: bytes = b""
    _name: str = ""
    _text: bytearray | None = None
    _part: _Part | None = None
    _parts: int = 0

    def __post_init__(self) -> None:
        self.aside.mkdir(parents=True, exist_ok=True)
        for leftover in self.aside.iterdir():
            if leftover.suffix != ".dcm" or leftover.name.startswith("."):
                leftover.unlink()
                continue
            try:
                header = read_header(leftover)
            except NotDicom:
                leftover.unlink()
                continue
            self._add(header.sop_instance_uid, _File(leftover.stat().st_size, file_md5(leftover)))
        if self.target.exists():
            self._take_apart()
        if self.facts.size >= 0:
            need = self.facts.size - self.arrived + SLACK
            free = shutil.disk_usage(self.aside).free
            if need > free:
                self.close()
                raise StorageError(
                    f"Series {self.facts.series_uid} needs {need >> 20} MiB, and {free >> 20} MiB are free on the disk."
                )

    def _take_apart(self) -> None:
        """What stands in the place of the series: our own, damaged since, gives its good files; anything else is left alone."""
        index = _read_index(self.target)
        if index.get("SeriesInstanceUID") != self.facts.series_uid:
            if any(self.target.iterdir()):
                raise StorageError(
                    f"{self.target} exists and is no series that was fetched by Isocenter. Move it away, or choose another folder."
                )
            self.target.rmdir()
            return
        for entry in index["files"]:
            path = self.target / entry["name"]
            if path.is_file() and path.stat().st_size == entry["size"] and file_md5(path) == entry["md5"]:
                path.replace(self.aside / path.name)
                self._add(entry["sop"], _File(entry["size"], entry["md5"], checked=True))
        shutil.rmtree(self.target)
        self.notes.append("Fetched again in part, because files had been changed or lost.")

    @property
    def total(self) -> int | None:
        """Bytes the archive announces."""
        return self.facts.size if self.facts.size >= 0 else None

    # -- the sink of the ZIP; runs in a worker thread ----------------------------------------------------------------

    def start_zip(self) -> _Files:
        """Forget what is known of an earlier ZIP."""
        self._abandon()
        self._zip.clear()
        self._hashes = b""
        return self

    def _abandon(self) -> None:
        if self._part:
            self._part.__exit__()
            self._part = None

    def begin(self, name: str) -> None:
        """A member comes: text to be kept in memory, or an image."""
        self._name = name
        self._text, self._part = (bytearray(), None) if name in (LICENSE, HASHES) else (None, self.part())

    def write(self, data: bytes) -> None:
        """Bytes of the member."""
        if self._part:
            self._part.write(data)
        elif self._text is not None:
            self._text += data
            if len(self._text) > KEPT:
                raise BadArchive(f"{self._name} is far too long.", retryable=False)

    def end(self) -> None:
        """The member is whole."""
        if self._part:
            with self._part as part:
                self._zip[self.accept(part)] = self._name
            self._part = None
        elif self._name == LICENSE:
            self.license = bytes(self._text or b"")
        else:
            self._hashes = bytes(self._text or b"")

    # -- images ------------------------------------------------------------------------------------------------------

    def part(self) -> _Part:
        """A new file to write an image to."""
        self._parts += 1
        return _Part(self.aside / f".{self._parts}.part")

    def accept(self, part: _Part, wanted: str = "") -> str:
        """Take in a whole image of this series, or say why not; returns its SOPInstanceUID."""
        part.close()
        try:
            header = read_header(part.path, part.head)
        except NotDicom as error:
            raise SeriesIncomplete(
                f"The archive sent a file that is no DICOM image: {error}.", retryable=False
            ) from error
        uid = header.sop_instance_uid
        if header.series_instance_uid != self.facts.series_uid or (wanted and uid != wanted):
            raise SeriesIncomplete("The archive sent an image of another series or instance.", retryable=False)
        file = _File(part.size, part.md5.hexdigest(), checked=uid in self._expected)
        if file.checked and file.md5 != self._expected[uid]:
            raise SeriesIncomplete(f"Image {uid} differs from the archive's MD5 list.")
        if uid in self._zip and self.have[uid] != file:
            raise SeriesIncomplete(f"The archive sent two different images {uid}.", retryable=False)
        part.path.replace(self.aside / f"{uid}.dcm")
        part.accepted = True
        self._add(uid, file)
        return uid

    def _add(self, uid: str, file: _File) -> None:
        self.arrived += file.size - (self.have[uid].size if uid in self.have else 0)
        self.have[uid] = file

    def _drop(self, uid: str) -> None:
        self.arrived -= self.have.pop(uid).size
        (self.aside / f"{uid}.dcm").unlink()

    def keep_only(self, listed: set[str]) -> None:
        """Drop images which the archive does not list (any longer)."""
        for uid in self.have.keys() - listed:
            self._drop(uid)

    def compare_hashes(self) -> None:
        """Hold every image of the ZIP against the MD5 list in it; drop those that differ. Raises SeriesIncomplete."""
        rows = csv.DictReader(self._hashes.decode("utf-8", "replace").splitlines())
        hashes = {row["Filename"]: (row["MD5Hash"] or "").strip().lower() for row in rows if row.get("Filename")}
        wrong = 0
        for uid, member in self._zip.items():
            file = self.have[uid]
            if member not in hashes:
                continue
            self._expected[uid] = hashes[member]
            if file.md5 == hashes[member]:
                self.have[uid] = _File(file.size, file.md5, checked=True)
            else:
                wrong += 1
                self._drop(uid)
        if wrong:
            raise SeriesIncomplete(f"{wrong} images differ from the archive's MD5 list.")

    def check(self) -> None:
        """Whether this is the whole series. Raises SeriesIncomplete."""
        facts, count, size = self.facts, len(self.have), self.arrived
        if facts.images and count != facts.images:
            raise SeriesIncomplete(f"{count} images arrived; the archive's table says {facts.images}.")
        if facts.size >= 0 and size != facts.size:
            message = f"The images have {size} bytes; the archive's table says {facts.size}."
            if not all(file.checked for file in self.have.values()):
                raise SeriesIncomplete(message)
            self.notes.append(message)  # every file is what its MD5 says, so the table is wrong

    def publish(self, target: Path, source: str) -> SeriesOnDisk:
        """Move the series to its place, with all that belongs to it."""
        facts, row = self.facts, self.facts.row
        if not all(file.checked for file in self.have.values()):
            self.notes.append("Not every file could be held against an MD5 of the archive.")
        licence = " ".join(str(row[name]) for name in ("LicenseName", "LicenseURI") if row.get(name)) or "not stated"
        doi = row.get("DataDescriptionURI") or "not stated"
        (self.aside / LICENSE).write_bytes(self.license or f"{licence}\n".encode())
        (self.aside / CITATION).write_text(
            f"Collection: {row.get('Collection', 'not stated')}\nSeries: {facts.series_uid}\nLicence: {licence}\nCite: {doi}\n"
            f"Terms of use: {TERMS}\nPublications must cite the DOI above. Re-identifying people is forbidden.\n",
            encoding="utf-8",
        )
        files = [
            {"name": f"{uid}.dcm", "sop": uid, "size": file.size, "md5": file.md5}
            for uid, file in sorted(self.have.items())
        ]
        index = {
            "SeriesInstanceUID": facts.series_uid,
            "source": source,
            "fetched": datetime.now(UTC).isoformat(timespec="seconds"),
            "images": len(files),
            "bytes": self.arrived,
            "md5": series_md5(file.md5 for file in self.have.values()),
            "notes": self.notes,
            "archive": dict(row),
            "files": files,
        }
        (self.aside / INDEX).write_bytes(msgspec.json.format(msgspec.json.encode(index), indent=1))
        target.parent.mkdir(parents=True, exist_ok=True)
        self.aside.replace(target)
        found = read_series(target, facts.series_uid)
        if found is None:
            raise SeriesIncomplete("Files of the series changed while it was fetched.")
        return SeriesOnDisk(facts.series_uid, target, found.files, found.bytes, found.md5, notes=tuple(self.notes))

    def close(self) -> None:
        """Leave nothing half-written: the unfinished image goes, whole ones stay for the next try."""
        self._abandon()
        if self.aside.is_dir() and not self.have:
            shutil.rmtree(self.aside, ignore_errors=True)


def series_md5(hashes: Iterable[str]) -> str:
    """The archive's hash of a series: the MD5 of the sorted MD5s of its files, one after the other (getMD5Hierarchy)."""
    return hashlib.md5("".join(sorted(hashes)).encode(), usedforsecurity=False).hexdigest()


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        index = msgspec.json.decode((folder / INDEX).read_bytes())
    except (OSError, msgspec.DecodeError):
        return {}
    return index if isinstance(index, dict) else {}


def read_series(folder: Path, series_uid: str) -> SeriesOnDisk | None:
    """The series in a folder, if it is there and every file has the size noted for it; None otherwise."""
    index = _read_index(folder)
    if index.get("SeriesInstanceUID") != series_uid:
        return None
    try:
        if any((folder / entry["name"]).stat().st_size != entry["size"] for entry in index["files"]):
            return None
    except OSError:
        return None
    return SeriesOnDisk(series_uid, folder, index["images"], index["bytes"], index["md5"], True, tuple(index["notes"]))


def damaged_files(folder: Path) -> list[str]:
    """Names of the files of a series that are missing or differ from the MD5 noted when they were fetched."""
    return [
        entry["name"]
        for entry in _read_index(folder).get("files", [])
        if not (folder / entry["name"]).is_file() or file_md5(folder / entry["name"]) != entry["md5"]
    ]
