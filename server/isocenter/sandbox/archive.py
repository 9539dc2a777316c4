"""DICOM files on disk with their index in the database.

A file is recognised by its content, never by its name. It is written to a temporary file, synced, renamed to
`<archive>/<series uid>/<sop uid>.dcm`, and only then entered in the database; so an index row always has its
file, whenever the process dies. A SOP Instance UID names one file for good (PS3.5 section 9): the first one stays,
later ones with the same UID are reported as `created=False`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pydicom
from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.multival import MultiValue

from isocenter.sandbox.dicom_identity import IDENTITY_BYTES, identity_of

if TYPE_CHECKING:
    import sqlite3

    from isocenter.sandbox.state import Sandbox

SCHEMA = """
CREATE TABLE IF NOT EXISTS archive_series (
  id INTEGER PRIMARY KEY,
  archive TEXT NOT NULL,
  series_instance_uid TEXT NOT NULL,
  study_instance_uid TEXT NOT NULL,
  patient_id TEXT NOT NULL,
  modality TEXT NOT NULL,
  collection TEXT NOT NULL,
  instance_count INTEGER NOT NULL DEFAULT 0,
  total_bytes INTEGER NOT NULL DEFAULT 0,
  header TEXT NOT NULL,
  extra TEXT NOT NULL,
  UNIQUE (archive, series_instance_uid)
);
CREATE INDEX IF NOT EXISTS archive_series_state
  ON archive_series (archive, id, instance_count, total_bytes, collection);
CREATE TABLE IF NOT EXISTS archive_instance (
  id INTEGER PRIMARY KEY,
  series_id INTEGER NOT NULL REFERENCES archive_series (id) ON DELETE CASCADE,
  archive TEXT NOT NULL,
  sop_instance_uid TEXT NOT NULL,
  sop_class_uid TEXT NOT NULL,
  transfer_syntax_uid TEXT NOT NULL,
  instance_number INTEGER NOT NULL,
  acquisition_number TEXT NOT NULL,
  size INTEGER NOT NULL,
  md5 TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  UNIQUE (archive, sop_instance_uid)
);
CREATE INDEX IF NOT EXISTS archive_instance_series ON archive_instance (series_id, instance_number);
"""

LISTS_MD5 = frozenset(
    {"tcia"}
)  # the service that tells MD5 sums; hashing twice would cost the others a third of their speed
UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")
PIECE = 1 << 20
HEADER_VALUE_CHARS = 1024
"""Longer texts and every binary value stay out of `Series.header`."""
REMEMBERED_HEADERS = 64
"""Series whose header need not be read again for each of their files."""

_NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}
_TEXTS = {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}


class NotDicom(Exception):
    """The bytes are no DICOM file with the UIDs of an instance, a series and a study."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One stored file: `size` in bytes, hashes in lower-case hex over the whole file; `md5` only where the service tells it."""

    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    instance_number: int
    acquisition_number: str
    size: int
    md5: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One stored series.

    `header` holds the short text and number attributes of the instance that came first: keyword to text, several
    values joined with a backslash. `extra` is what the caller of `ingest` gave for the first instance.
    """

    series_instance_uid: str
    study_instance_uid: str
    patient_id: str
    modality: str
    collection: str
    instance_count: int
    total_bytes: int
    header: dict[str, str]
    extra: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ingested:
    """What `ingest` did: the stored instance, and whether it is new."""

    instance: Instance
    created: bool


@dataclass(frozen=True, slots=True)
class _Parsed:
    instance: Instance
    header: dict[str, str]


class Incoming:
    """A file on its way into an archive, hashed while it is written. One thread at a time may use it.

    After `finish` the archive's `store` takes it; `discard` removes it, and does nothing once it is stored.
    """

    temporary: Path
    parsed: _Parsed

    def __init__(self, folder: Path, headers: dict[str, dict[str, str]], *, md5: bool) -> None:
        handle, name = tempfile.mkstemp(dir=folder)
        self.temporary = Path(name)
        self._file = os.fdopen(handle, "w+b", buffering=0)
        self._headers = headers
        self._start = b""
        self._size = 0
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None
        self._sha256 = hashlib.sha256()

    def write(self, piece: bytes | memoryview) -> None:
        """Add the next bytes. Raises NotDicom as soon as they cannot be those of a DICOM file."""
        if self._size < IDENTITY_BYTES:
            self._start += bytes(piece[: IDENTITY_BYTES - self._size])
            if len(self._start) >= 132 and self._start[128:132] != b"DICM":
                raise NotDicom("the file does not begin like a DICOM file (128 bytes, then DICM)")
        self._size += len(piece)
        if self._md5:
            self._md5.update(piece)
        self._sha256.update(piece)
        written = self._file.write(piece)
        while written < len(piece):
            written += self._file.write(piece[written:])

    def finish(self, *, durable: bool = True) -> None:
        """Read the header, sync to disk and close the file. Raises NotDicom.

        Only the first file of a series is read in full; of the others the archive needs no more than who they are.
        """
        hashes = self._md5.hexdigest() if self._md5 else "", self._sha256.hexdigest()
        identity = identity_of(self._start)
        header = self._headers.get(identity.get("SeriesInstanceUID", ""))
        if header is not None:
            self.parsed = _Parsed(_instance(identity, identity["TransferSyntaxUID"], self._size, *hashes), header)
        else:
            with self.temporary.open("rb") as file:
                self.parsed = _parse(file, self._size, *hashes)
            while len(self._headers) >= REMEMBERED_HEADERS:
                del self._headers[next(iter(self._headers))]
            self._headers[self.parsed.instance.series_instance_uid] = self.parsed.header
        if durable:
            os.fsync(self._file.fileno())
        self._file.close()
        self._start = b""

    def discard(self) -> None:
        """Remove the file, unless it is in the archive by now."""
        self._file.close()
        self.temporary.unlink(missing_ok=True)


class Archive:
    """The files of one service. Safe to use from any thread."""

    def __init__(self, sandbox: Sandbox, name: str) -> None:
        """Open the archive and remove what an interrupted ingest left behind."""
        self.name = name
        self.root = sandbox.root / name
        self._sandbox = sandbox
        self._headers: dict[str, dict[str, str]] = {}
        self._incoming = self.root / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        for orphan in self._incoming.iterdir():
            orphan.unlink()

    def ingest(
        self,
        source: Path | BinaryIO,
        *,
        collection: str = "",
        extra: Mapping[str, object] | None = None,
        durable: bool = True,
    ) -> Ingested:
        """Store one DICOM file and return what was stored.

        A stream is read from its position to its end. `durable=False` leaves out the sync to disk, for data that
        can be made again. Raises NotDicom; the archive is then as it was.
        """
        if isinstance(source, Path):
            with source.open("rb") as file:
                return self.ingest(file, collection=collection, extra=extra, durable=durable)
        incoming = self.receive()
        try:
            while piece := source.read(PIECE):
                incoming.write(piece)
            incoming.finish(durable=durable)
            return self.store([incoming], collection=collection, extra=extra, durable=durable)[0]
        finally:
            incoming.discard()

    def receive(self) -> Incoming:
        """A new file on its way in, for data that arrives in pieces: `write`, `finish`, then `store` or `discard`."""
        return Incoming(self._incoming, self._headers, md5=self.name in LISTS_MD5)

    def store(
        self,
        incoming: Sequence[Incoming],
        *,
        collection: str = "",
        extra: Mapping[str, object] | None = None,
        durable: bool = True,
    ) -> list[Ingested]:
        """Put finished files into the archive in one transaction: all of them or, when that fails, none."""
        results: list[Ingested] = []
        with self._sandbox.writer() as db:
            for file in incoming:
                results.append(self._store(db, file, collection, extra or {}))
            if durable and os.name == "posix":
                for folder in {self.path(result.instance).parent for result in results if result.created}:
                    directory = os.open(folder, os.O_RDONLY)
                    try:
                        os.fsync(directory)
                    finally:
                        os.close(directory)
        return results

    def _store(
        self, db: sqlite3.Connection, incoming: Incoming, collection: str, extra: Mapping[str, object]
    ) -> Ingested:
        instance, header = incoming.parsed.instance, incoming.parsed.header
        known = db.execute(
            _INSTANCE + "WHERE i.archive = ? AND i.sop_instance_uid = ?", (self.name, instance.sop_instance_uid)
        ).fetchone()
        if known is not None:
            return Ingested(Instance(**known), created=False)
        target = self.path(instance)
        target.parent.mkdir(exist_ok=True)
        incoming.temporary.replace(target)
        db.execute(
            "INSERT INTO archive_series (archive, series_instance_uid, study_instance_uid, patient_id, modality,"
            " collection, header, extra) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                self.name,
                instance.series_instance_uid,
                instance.study_instance_uid,
                header.get("PatientID", ""),
                header.get("Modality", ""),
                collection,
                json.dumps(header, ensure_ascii=False),
                json.dumps(dict(extra), ensure_ascii=False),
            ),
        )
        db.execute(
            "INSERT INTO archive_instance (series_id, archive, sop_instance_uid, sop_class_uid,"
            " transfer_syntax_uid, instance_number, acquisition_number, size, md5, sha256)"
            " SELECT id, archive, ?, ?, ?, ?, ?, ?, ?, ? FROM archive_series"
            " WHERE archive = ? AND series_instance_uid = ?",
            (
                instance.sop_instance_uid,
                instance.sop_class_uid,
                instance.transfer_syntax_uid,
                instance.instance_number,
                instance.acquisition_number,
                instance.size,
                instance.md5,
                instance.sha256,
                self.name,
                instance.series_instance_uid,
            ),
        )
        db.execute(
            "UPDATE archive_series SET instance_count = instance_count + 1, total_bytes = total_bytes + ?"
            " WHERE archive = ? AND series_instance_uid = ?",
            (instance.size, self.name, instance.series_instance_uid),
        )
        return Ingested(instance, created=True)

    def instance(self, sop_instance_uid: str) -> Instance | None:
        """The stored instance with that SOP Instance UID, or None."""
        row = self._sandbox.db.execute(
            _INSTANCE + "WHERE i.archive = ? AND i.sop_instance_uid = ?", (self.name, sop_instance_uid)
        ).fetchone()
        return None if row is None else Instance(**row)

    def instances(self, series_instance_uid: str, *, as_stored: bool = False) -> list[Instance]:
        """The instances of a series by instance number, or in the order in which they were stored; may be empty."""
        order = "i.id" if as_stored else "i.instance_number, i.id"
        rows = self._sandbox.db.execute(
            _INSTANCE + f"WHERE s.archive = ? AND s.series_instance_uid = ? ORDER BY {order}",
            (self.name, series_instance_uid),
        )
        return [Instance(**row) for row in rows]

    def series(self, series_instance_uid: str) -> Series | None:
        """The stored series with that Series Instance UID, or None."""
        return next(self._series("AND series_instance_uid = ?2", series_instance_uid), None)

    def all_series(self, *, collection: str | None = None, study: str | None = None) -> list[Series]:
        """Every stored series, oldest first; optionally only those of a collection or of a Study Instance UID."""
        return list(
            self._series(
                "AND (?2 IS NULL OR collection = ?2) AND (?3 IS NULL OR study_instance_uid = ?3)", collection, study
            )
        )

    def _series(self, where: str, *values: str | None) -> Iterator[Series]:
        rows = self._sandbox.db.execute(" ".join((_SERIES, where, "ORDER BY id")), (self.name, *values))
        for row in rows:
            yield Series(**{**row, "header": json.loads(row["header"]), "extra": json.loads(row["extra"])})

    def path(self, instance: Instance) -> Path:
        """Where the bytes of an instance lie."""
        return self.root / instance.series_instance_uid / f"{instance.sop_instance_uid}.dcm"

    def relabel(self, series_instance_uid: str, collection: str) -> None:
        """Move a series to another collection."""
        with self._sandbox.writer() as db:
            db.execute(
                "UPDATE archive_series SET collection = ? WHERE archive = ? AND series_instance_uid = ?",
                (collection, self.name, series_instance_uid),
            )

    def remove_series(self, series_instance_uid: str) -> bool:
        """Forget a series and delete its files. Returns whether there was one."""
        self._headers.pop(series_instance_uid, None)
        paths = [self.path(instance) for instance in self.instances(series_instance_uid)]
        with self._sandbox.writer() as db:
            removed = db.execute(
                "DELETE FROM archive_series WHERE archive = ? AND series_instance_uid = ?",
                (self.name, series_instance_uid),
            ).rowcount
        for path in paths:
            path.unlink(missing_ok=True)
        if paths:
            with suppress(OSError):
                paths[0].parent.rmdir()
        return bool(removed)


_SERIES = (
    "SELECT series_instance_uid, study_instance_uid, patient_id, modality, collection, instance_count, total_bytes,"
    " header, extra FROM archive_series WHERE archive = ?1"
)
_INSTANCE = (
    "SELECT i.sop_instance_uid, s.series_instance_uid, s.study_instance_uid, i.sop_class_uid, i.transfer_syntax_uid,"
    " i.instance_number, i.acquisition_number, i.size, i.md5, i.sha256"
    " FROM archive_instance i JOIN archive_series s ON s.id = i.series_id "
)


def looks_like_dicom(path: Path) -> bool:
    """Whether a file begins like a DICOM file (PS3.10 section 7.1); reads 132 bytes."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _parse(file: BinaryIO, size: int, md5: str, sha256: str) -> _Parsed:
    try:
        dataset = pydicom.dcmread(file, stop_before_pixels=True)
    except Exception as error:
        # For damaged files pydicom raises whatever its parser stumbled over.
        raise NotDicom("the file's header cannot be read") from error
    header = _header(dataset)
    return _Parsed(_instance(header, str(dataset.file_meta.get("TransferSyntaxUID", "")), size, md5, sha256), header)


def _instance(header: Mapping[str, str], transfer_syntax: str, size: int, md5: str, sha256: str) -> Instance:
    uids = [header.get(f"{level}InstanceUID", "") for level in ("SOP", "Series", "Study")]
    if not all(len(uid) <= 64 and UID.fullmatch(uid) for uid in uids):
        raise NotDicom("the file has no valid SOP, series and study instance UID")
    number = header.get("InstanceNumber", "").strip()
    return Instance(
        sop_instance_uid=uids[0],
        series_instance_uid=uids[1],
        study_instance_uid=uids[2],
        sop_class_uid=header.get("SOPClassUID", ""),
        transfer_syntax_uid=transfer_syntax,
        instance_number=int(number) if re.fullmatch(r"[+-]?[0-9]{1,12}", number) else 0,
        acquisition_number=header.get("AcquisitionNumber", ""),
        size=size,
        md5=md5,
        sha256=sha256,
    )


def _header(dataset: pydicom.Dataset) -> dict[str, str]:
    """Keyword to text, read from the raw elements: real archives hold values that pydicom warns about or refuses."""
    charset = ""
    header: dict[str, str] = {}
    for tag in sorted(dataset.keys()):
        keyword = keyword_for_tag(tag)
        if not keyword or tag.is_private:
            continue
        text = element_text(dataset.get_item(tag), charset)
        if keyword == "SpecificCharacterSet":
            charset = text or ""
        if text and len(text) <= HEADER_VALUE_CHARS:
            header[keyword] = text
    return header


def element_text(element: RawDataElement | DataElement, charset: str) -> str | None:
    """An element's value as text, or None for sequences, binary values and what does not fit its VR."""
    if isinstance(element, DataElement):
        return "\\".join(map(str, _several(element.value))) if element.VR in _TEXTS or element.VR in _NUMBERS else None
    vr, raw = element.VR, element.value
    if vr is None or vr == "UN":
        try:
            vr = dictionary_VR(element.tag)
        except KeyError:
            return None
    if not raw:
        return None
    if vr in _TEXTS:
        return _decode(raw, charset).rstrip("\0 ").lstrip(" ")
    if vr == "US or SS":
        vr = "US"
    if vr == "AT":
        numbers = struct.unpack(f"{'<' if element.is_little_endian else '>'}{len(raw) // 2}H", raw[: len(raw) // 4 * 4])
        return "\\".join(f"{group:04X}{number:04X}" for group, number in zip(numbers[::2], numbers[1::2], strict=True))
    if code := _NUMBERS.get(vr):
        count, rest = divmod(len(raw), struct.calcsize(code))
        if not rest:
            return "\\".join(map(str, struct.unpack(f"{'<' if element.is_little_endian else '>'}{count}{code}", raw)))
    return None


def _several(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, MultiValue) else [value]


def _decode(raw: bytes, charset: str) -> str:
    """Text in the dataset's Specific Character Set (PS3.3 section C.12.1.1.2); what does not decode is replaced."""
    first, *others = charset.split("\\")
    encoding = python_encoding.get(first.strip(), "latin_1")
    if any(other.strip() in {"ISO 2022 IR 87", "ISO 2022 IR 159"} for other in [first, *others]):
        encoding = "iso2022_jp_2"
    elif any(other.strip() == "ISO 2022 IR 149" for other in others):
        # The escape sequence only announces KS X 1001, which EUC-KR holds anyway.
        raw, encoding = raw.replace(b"\x1b$)C", b""), "euc_kr"
    return raw.decode(encoding, "replace")
