"""One series on disk: while it arrives, in a private folder, and when it is whole, in its place with an index beside."""

from __future__ import annotations

import csv
import ctypes
import hashlib
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

import msgspec

from isocenter.core import IsocenterError, StorageError
from isocenter.transfer.manifest import SeriesFacts
from isocenter.transfer.scan import NotDicom, file_md5, read_header
from isocenter.transfer.unzip import BadArchive

HEAD = 1 << 16  # bytes of a file kept to read its header from
WHOLE = 1 << 20  # bytes of a file up to which it is hashed and written in one go, as nearly every image is
SLACK = 64 << 20  # bytes of disk space kept free
KEPT = 32 << 20  # most bytes of LICENSE and of the MD5 list
INDEX, LICENSE, CITATION, HASHES = "series.json", "LICENSE", "CITATION.txt", "md5hashes.csv"
TERMS = "https://www.cancerimagingarchive.net/data-usage-policies-and-restrictions/"


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


@dataclass(frozen=True, slots=True)
class _File:
    size: int
    md5: str
    checked: bool = False  # against the archive's MD5 list


class Part:
    """One file while it arrives: small ones in memory, larger ones under a hidden name; gone at the end of the `with` block unless accepted."""

    def __init__(self, path: str) -> None:
        self.path, self.size, self.head, self.accepted = path, 0, b"", False
        self.md5 = hashlib.md5(usedforsecurity=False)
        self._held: list[bytes] = []
        self._holds = 0  # bytes
        self._file: FileIO | None = None

    def __enter__(self) -> Part:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()
            if not self.accepted:
                Path(self.path).unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        self._held.append(data)
        self._holds += len(data)
        self.size += len(data)
        if self._holds >= WHOLE:
            self._flush()

    def _flush(self) -> None:
        data = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        self._held.clear()
        self._holds = 0
        self.head = self.head or data[:HEAD]
        self.md5.update(data)
        self._file = self._file or FileIO(self.path, "wb")
        written = self._file.write(data)
        while written < len(data):
            written += self._file.write(memoryview(data)[written:])

    def close(self) -> None:
        """No more comes: everything is written. May be said twice."""
        if self._held or not self._file:
            self._flush()
        if self._file:
            self._file.close()


@dataclass(slots=True)
class Arriving:
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
    _part: Part | None = None
    _parts: int = 0
    _left: set[str] = field(default_factory=set)  # SOPInstanceUIDs of images which an earlier try left

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
        self._left = set(self.have)
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
        index = read_index(self.target)
        ours = index.get("SeriesInstanceUID") == self.facts.series_uid
        if not ours and any(self.target.iterdir()) and (index or not (self.target / INDEX).is_file()):
            raise StorageError(
                f"{self.target} exists and is no series that was fetched by Isocenter. Move it away, or choose another folder."
            )
        for entry in index.get("files", ()):
            if _as_noted(self.target, entry):
                (self.target / entry["name"]).replace(self.aside / entry["name"])
                self._add(entry["sop"], _File(entry["size"], entry["md5"], checked=True))
        if any(self.target.iterdir()):
            self.notes.append("Fetched again in part, because files had been changed or lost.")
        shutil.rmtree(self.target)

    @property
    def total(self) -> int | None:
        """Bytes the archive announces."""
        return self.facts.size if self.facts.size >= 0 else None

    # -- the sink of the ZIP; runs in a worker thread ----------------------------------------------------------------

    def start_zip(self) -> Arriving:
        """Forget what is known of an earlier ZIP."""
        self.abandon()
        self._zip.clear()
        self._expected.clear()
        self._hashes = b""
        return self

    def abandon(self) -> None:
        """Drop the image that a broken ZIP left unfinished."""
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

    def part(self) -> Part:
        """A new file to write an image to."""
        self._parts += 1
        return Part(f"{self.aside}{os.sep}.{self._parts}.part")

    def accept(self, part: Part, wanted: str = "") -> str:
        """Take in a whole image of this series, or say why not; returns its SOPInstanceUID."""
        part.close()
        try:
            header = read_header(Path(part.path), part.head)
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
        os.replace(part.path, f"{self.aside}{os.sep}{uid}.dcm")  # noqa: PTH105 - pathlib takes longer than the system
        part.accepted = True
        self._left.discard(uid)
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
                for uid in self._left & self.have.keys():  # a power cut may have come before all of it was on the disk
                    self._drop(uid)
                raise SeriesIncomplete(message)
            self.notes.append(message)  # every file is what its MD5 says, so the table is wrong

    def publish(self, target: Path, source: str) -> SeriesOnDisk:
        """Move the series to its place, with all that belongs to it, once it would survive a power cut."""
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
        (self.aside / INDEX).write_bytes(index_bytes(index))
        _to_disk(self.aside)
        target.parent.mkdir(parents=True, exist_ok=True)
        self.aside.replace(target)
        found = read_series(target, facts.series_uid)
        if found is None:
            raise SeriesIncomplete("Files of the series changed while it was fetched.")
        return SeriesOnDisk(facts.series_uid, target, found.files, found.bytes, found.md5, notes=tuple(self.notes))

    def close(self) -> None:
        """Leave nothing half-written: the unfinished image goes, whole ones stay for the next try."""
        self.abandon()
        if self.aside.is_dir() and not self.have:
            shutil.rmtree(self.aside, ignore_errors=True)


def _to_disk(folder: Path) -> None:
    """Wait until the files in a folder are on the disk, and not only with the operating system.

    On Linux the whole file system is told to write what it holds, which takes some 5 % of the time of a download
    (tests/bench/bench_download.py); asking for each of hundreds of files takes three to four times as long.
    """
    if _SYNCFS:
        handle = os.open(folder, os.O_RDONLY)
        try:
            if _SYNCFS(handle):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        finally:
            os.close(handle)
        return
    for path in folder.iterdir():
        with path.open("r+b") as file:
            os.fsync(file)


_SYNCFS: Any = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None) if sys.platform == "linux" else None


def series_md5(hashes: Iterable[str]) -> str:
    """The archive's hash of a series: the MD5 of the sorted MD5s of its files, one after the other (getMD5Hierarchy)."""
    return hashlib.md5("".join(sorted(hashes)).encode(), usedforsecurity=False).hexdigest()


def read_index(folder: Path) -> dict[str, Any]:
    """What the `series.json` in a folder says; nothing, where there is none or it cannot be read."""
    try:
        index = msgspec.json.decode((folder / INDEX).read_bytes())
    except (OSError, msgspec.DecodeError):
        return {}
    return index if isinstance(index, dict) else {}


def read_series(folder: Path, series_uid: str) -> SeriesOnDisk | None:
    """The series in a folder, if it is there, every file has the size noted for it, and none was found damaged; None otherwise."""
    index = read_index(folder)
    if index.get("SeriesInstanceUID") != series_uid or index.get("damaged"):
        return None
    try:
        within = f"{folder}{os.sep}"
        if any(os.stat(within + entry["name"]).st_size != entry["size"] for entry in index["files"]):  # noqa: PTH116 - as above
            return None
    except OSError:
        return None
    return SeriesOnDisk(series_uid, folder, index["images"], index["bytes"], index["md5"], True, tuple(index["notes"]))


def damaged_files(folder: Path) -> list[str]:
    """Names of the files of a series that are missing or differ from the MD5 noted when they were fetched."""
    return [entry["name"] for entry in read_index(folder).get("files", []) if not _as_noted(folder, entry)]


def _as_noted(folder: Path, entry: Mapping[str, Any]) -> bool:
    path = folder / entry["name"]
    return path.is_file() and path.stat().st_size == entry["size"] and bool(file_md5(path) == entry["md5"])


def index_bytes(index: Mapping[str, Any]) -> bytes:
    """What stands in a `series.json`."""
    return msgspec.json.format(msgspec.json.encode(index), indent=1)
