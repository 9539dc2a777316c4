"""What the TCIA service knows about its series, and the columns in which each generation of the API shows it.

`tcia_series` holds one row per series, with a folded (upper-case) copy of every column that some generation compares
without regard to case. `tcia_json` holds the finished JSON of a row for NBIA v4 and v1, because unfiltered lists have
hundreds of thousands of rows and nothing in them depends on the request.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from isocenter.sandbox import phantom
from isocenter.sandbox.archive import NotDicom, looks_like_dicom
from isocenter.sandbox.state import Sandbox
from isocenter.sandbox.tcia.formats import Column, json_row

log = logging.getLogger("isocenter.sandbox")

SHARED_LIST = "ISO_CHEST-NODULES_02-20-2024"
"""The curated shared list every sandbox has: the chest CTs with nodules, their segmentation and structure set."""

USAGE_POLICY = (
    "Users must not attempt to identify individuals, must abide by the license, and must cite the data in publications."
)

SCHEMA = """
CREATE TABLE IF NOT EXISTS tcia_series (
  id INTEGER PRIMARY KEY REFERENCES archive_series (id) ON DELETE CASCADE,
  SeriesInstanceUID TEXT NOT NULL UNIQUE,
  StudyInstanceUID TEXT NOT NULL,
  Collection TEXT NOT NULL, collection_key TEXT NOT NULL,
  PatientID TEXT NOT NULL, patient_key TEXT NOT NULL,
  Modality TEXT, modality_key TEXT,
  BodyPartExamined TEXT, body_part_key TEXT,
  Manufacturer TEXT, manufacturer_key TEXT,
  ManufacturerModelName TEXT, model_key TEXT,
  Site TEXT, ProtocolName TEXT, SeriesDate TEXT, SeriesDescription TEXT, SeriesNumber INTEGER,
  AnnotationsFlag INTEGER, SoftwareVersions TEXT, PixelSpacingRow TEXT, SliceThickness TEXT, SOPClassUID TEXT,
  ImageCount INTEGER NOT NULL, FileSize INTEGER NOT NULL, MaxSubmissionTimestamp TEXT, DateReleased TEXT,
  LicenseName TEXT, LicenseURI TEXT, DataDescriptionURI TEXT, ThirdPartyAnalysis TEXT,
  PatientName TEXT, PatientBirthDate TEXT, PatientSex TEXT, EthnicGroup TEXT,
  Phantom TEXT NOT NULL, SpeciesCode TEXT NOT NULL, SpeciesDescription TEXT NOT NULL,
  StudyDate TEXT, StudyDescription TEXT, StudyID TEXT, PatientAge TEXT, AdmittingDiagnosesDescription TEXT,
  LongitudinalTemporalEventType TEXT, LongitudinalTemporalOffsetFromEvent REAL
);
CREATE INDEX IF NOT EXISTS tcia_by_patient ON tcia_series (collection_key, patient_key);
CREATE INDEX IF NOT EXISTS tcia_by_patient_only ON tcia_series (patient_key);
CREATE INDEX IF NOT EXISTS tcia_by_study ON tcia_series (StudyInstanceUID);
CREATE INDEX IF NOT EXISTS tcia_by_release ON tcia_series (DateReleased);
CREATE INDEX IF NOT EXISTS tcia_state ON tcia_series (ImageCount, FileSize, Collection);
CREATE TABLE IF NOT EXISTS tcia_json (
  id INTEGER PRIMARY KEY REFERENCES tcia_series (id) ON DELETE CASCADE, v4 BLOB NOT NULL, v1 BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS tcia_description (
  id INTEGER PRIMARY KEY, Collection TEXT NOT NULL UNIQUE, description TEXT NOT NULL, uri TEXT
);
CREATE TABLE IF NOT EXISTS tcia_shared_list (
  name TEXT PRIMARY KEY, description TEXT, url TEXT, user_name TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS tcia_shared_list_series (
  name TEXT NOT NULL REFERENCES tcia_shared_list (name) ON DELETE CASCADE,
  SeriesInstanceUID TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS tcia_token (
  access_token TEXT PRIMARY KEY, refresh_token TEXT NOT NULL UNIQUE, user_name TEXT NOT NULL, expires REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS tcia_folder_file (
  path TEXT PRIMARY KEY, collection TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS tcia_done (step TEXT PRIMARY KEY);
"""

_INTEGER, _BIG_INTEGER, _LONG = "java.lang.Integer", "java.math.BigInteger", "java.lang.Long"
_DECIMAL, _BOOLEAN, _TIMESTAMP = "java.math.BigDecimal", "java.lang.Boolean", "java.sql.Timestamp"


def select(what: str, source: str, where: Sequence[str] = (), tail: str = "") -> str:
    """A SELECT put together from constants of this package; what comes with a request is always bound, never text."""
    condition = f"WHERE {' AND '.join(where)}" if where else ""
    return " ".join(("SELECT", what, "FROM", source, condition, tail))


def _same(names: str, java: str = "java.lang.String") -> list[Column]:
    return [Column(name, name, java) for name in names.split()]


def us_date_sql(column: str) -> str:
    """SQL that turns an ISO date into the `MM-DD-YYYY` of NBIA v4."""
    return f"substr({column}, 6, 2) || '-' || substr({column}, 9, 2) || '-' || substr({column}, 1, 4)"


def timestamp_sql(column: str) -> str:
    """SQL that turns an ISO date into the timestamp of NBIA v1."""
    return f"substr({column}, 1, 10) || ' 00:00:00.0'"


AUTHORIZED = Column("Authorized", "1", _INTEGER)

SERIES_V4 = [
    *_same("SeriesInstanceUID StudyInstanceUID Modality ProtocolName"),
    Column("SeriesDate", us_date_sql("SeriesDate")),
    *_same("SeriesDescription BodyPartExamined"),
    *_same("SeriesNumber", _DECIMAL),
    Column("AnnotationsFlag", "CASE AnnotationsFlag WHEN 1 THEN 'true' WHEN 0 THEN 'false' END"),
    *_same("Collection Site PatientID PatientSex PatientAge"),
    Column("AdmittingDiagnosisDescription", "AdmittingDiagnosesDescription"),
    *_same("Manufacturer ManufacturerModelName SoftwareVersions"),
    *_same("ImageCount", _BIG_INTEGER),
    Column("MaxSubmissionTimestamp", us_date_sql("MaxSubmissionTimestamp")),
    *_same("LicenseName LicenseURI DataDescriptionURI"),
    *_same("FileSize", _LONG),
    Column("ReleasedStatus", "'Yes'"),
    Column("DateReleased", us_date_sql("DateReleased")),
    Column("StudyDesc", "StudyDescription"),
    Column("StudyDate", us_date_sql("StudyDate")),
    *_same("ThirdPartyAnalysis"),
    AUTHORIZED,
]

_SERIES_FIRST_15 = [
    *_same("SeriesInstanceUID StudyInstanceUID Modality ProtocolName"),
    Column("SeriesDate", timestamp_sql("SeriesDate"), _TIMESTAMP),
    *_same("SeriesDescription BodyPartExamined"),
    *_same("SeriesNumber", _INTEGER),
    *_same("AnnotationsFlag", _BOOLEAN),
    *_same("Collection PatientID Manufacturer ManufacturerModelName SoftwareVersions"),
    *_same("ImageCount", _INTEGER),
]
SERIES_V1 = [
    *_SERIES_FIRST_15,
    Column("TimeStamp", "MaxSubmissionTimestamp || '.0'", _TIMESTAMP),
    *_same("LicenseName LicenseURI"),
    Column("CollectionURI", "DataDescriptionURI"),
    *_same("FileSize", _LONG),
    Column("DateReleased", timestamp_sql("DateReleased"), _TIMESTAMP),
    Column("StudyDesc", "StudyDescription"),
    Column("StudyDate", timestamp_sql("StudyDate"), _TIMESTAMP),
    *_same("ThirdPartyAnalysis"),
]
UPDATED_V1 = [*_SERIES_FIRST_15, Column("DateReleased", timestamp_sql("DateReleased"), _TIMESTAMP)]
SHARED_V1 = [*_SERIES_FIRST_15, Column("Date Released", timestamp_sql("DateReleased"), _TIMESTAMP)]

_PATIENT_HEAD = [Column("PatientId", "PatientID"), Column("PatientName", "max(PatientName)")]
_PATIENT_TAIL = [
    Column("PatientSex", "max(PatientSex)"),
    Column("EthnicGroup", "max(EthnicGroup)"),
    Column("Collection", "Collection"),
    Column("Phantom", "max(Phantom)"),
    Column("SpeciesCode", "max(SpeciesCode)"),
    Column("SpeciesDescription", "max(SpeciesDescription)"),
]
PATIENT_V4 = [*_PATIENT_HEAD, *_PATIENT_TAIL, AUTHORIZED]
PATIENT_V1 = [
    *_PATIENT_HEAD,
    Column("PatientBirthDate", timestamp_sql("max(PatientBirthDate)"), _TIMESTAMP),
    *_PATIENT_TAIL,
]
BY_PATIENT = "GROUP BY Collection, PatientID ORDER BY min(id)"


def study_columns(date: str, java: str = "java.lang.String", *, birth: bool, authorized: bool) -> list[Column]:
    """The study columns with StudyDate as the given SQL."""
    columns = [
        *_same("StudyInstanceUID"),
        Column("StudyDate", date, java),
        *_same("StudyDescription AdmittingDiagnosesDescription StudyID PatientAge PatientID PatientName"),
        *([Column("PatientBirthDate", timestamp_sql("PatientBirthDate"), _TIMESTAMP)] if birth else []),
        *_same("PatientSex EthnicGroup Collection"),
        Column("SeriesCount", "count(*)", _INTEGER),
        *_same("LongitudinalTemporalEventType"),
        *_same("LongitudinalTemporalOffsetFromEvent", _DECIMAL),
    ]
    return [*columns, AUTHORIZED] if authorized else columns


STUDY_V4 = study_columns(us_date_sql("StudyDate"), birth=False, authorized=True)
STUDY_V1 = study_columns(timestamp_sql("StudyDate"), _TIMESTAMP, birth=True, authorized=False)
BY_STUDY = "GROUP BY StudyInstanceUID, Collection, PatientID ORDER BY min(id)"

METADATA_V4 = [
    *_same("PatientID PatientName PatientSex EthnicGroup Phantom SpeciesCode SpeciesDescription StudyInstanceUID"),
    Column("StudyDate", us_date_sql("StudyDate")),
    Column("StudyDesc", "StudyDescription"),
    Column("AdmittingDiagnosisDescription", "AdmittingDiagnosesDescription"),
    *_same("StudyID PatientAge LongitudinalTemporalEventType"),
    *_same("LongitudinalTemporalOffsetFromEvent", _DECIMAL),
    *_same("SeriesInstanceUID Collection Site Modality ProtocolName"),
    Column("SeriesDate", us_date_sql("SeriesDate")),
    *_same("SeriesDescription BodyPartExamined"),
    *_same("SeriesNumber", _DECIMAL),
    Column("AnnotationsFlag", "CASE AnnotationsFlag WHEN 1 THEN 'true' WHEN 0 THEN 'false' END"),
    *_same("Manufacturer ManufacturerModelName"),
    Column("PixelSpacing(mm)-Row", "PixelSpacingRow"),
    Column("SliceThickness(mm)", "SliceThickness"),
    *_same("SoftwareVersions"),
    *_same("ImageCount", _BIG_INTEGER),
    Column("MaxSubmissionTimestamp", us_date_sql("MaxSubmissionTimestamp")),
    *_same("LicenseName LicenseURI DataDescriptionURI"),
    *_same("FileSize", _LONG),
    Column("ReleasedStatus", "'Yes'"),
    Column("DateReleased", us_date_sql("DateReleased")),
    *_same("ThirdPartyAnalysis"),
    AUTHORIZED,
]
_COMBINED_NAMES = {
    "StudyDesc": "Study Description",
    "Collection": "Project",
    "DataDescriptionURI": "Collection URI",
    "StudyID": "Study ID",
    "PatientID": "Patient ID",
    "StudyInstanceUID": "Study Instance UID",
    "SeriesInstanceUID": "Series Instance UID",
    "LicenseURI": "License URI",
}
_NOT_COMBINED = {"Site", "PixelSpacing(mm)-Row", "SliceThickness(mm)", "ReleasedStatus", "Authorized"}


def _spaced(name: str) -> str:
    return _COMBINED_NAMES.get(name) or "".join(f" {c}" if c.isupper() and i else c for i, c in enumerate(name))


METADATA_COMBINED = [
    Column(_spaced(column.name), column.sql, column.java) for column in METADATA_V4 if column.name not in _NOT_COMBINED
]


def fill(sandbox: Sandbox) -> None:
    """Fill the archive on the first start, take in the folders of `Options.dicom`, and bring the index up to date.

    Runs on a worker thread. Stopped in the middle, it goes on where it was at the next start.
    """
    archive = sandbox.archive("tcia")
    with sandbox.reader() as db:
        filled = db.execute("SELECT 1 FROM tcia_done WHERE step = 'phantom'").fetchone()
    if not filled:
        for file in phantom.files():
            archive.ingest(io.BytesIO(file.data), collection=file.collection, extra=file.extra, durable=False)
    for collection, folder in sandbox.options.dicom:
        take_in(sandbox, collection, folder)
    refresh(sandbox)
    if not filled:
        with sandbox.writer() as db:
            _describe(db)
            db.execute("INSERT INTO tcia_done VALUES ('phantom')")


def take_in(sandbox: Sandbox, collection: str, folder: Path) -> None:
    """Store every DICOM file below a folder; files known by path, size and time of change are not opened again.

    The archive keeps copies: a file that is deleted from the folder stays in the archive.
    """
    archive = sandbox.archive("tcia")
    with sandbox.reader() as db:
        rows = db.execute("SELECT path, size, mtime_ns FROM tcia_folder_file WHERE collection = ?", (collection,))
        known = {row["path"]: (row["size"], row["mtime_ns"]) for row in rows}
    now = sandbox.now()
    extra = {"DateReleased": f"{now:%Y-%m-%d}", "MaxSubmissionTimestamp": f"{now:%Y-%m-%d %H:%M:%S}"}
    skipped = 0
    for directory, folders, names in os.walk(folder.resolve(strict=True)):
        folders.sort()
        for name in sorted(names):
            path = Path(directory, name)
            if not path.is_file():
                continue
            stat = path.stat()
            seen = (stat.st_size, stat.st_mtime_ns)
            if known.get(str(path)) == seen:
                continue
            try:
                if not looks_like_dicom(path):
                    raise NotDicom
                ingested = archive.ingest(path, collection=collection, extra=extra)
            except NotDicom:
                skipped += 1
            else:
                if not ingested.created:
                    archive.relabel(ingested.instance.series_instance_uid, collection)
            with sandbox.writer() as db:
                db.execute(
                    "INSERT OR REPLACE INTO tcia_folder_file VALUES (?, ?, ?, ?)", (str(path), collection, *seen)
                )
    if skipped:
        log.warning("%d files of a folder are not served because they are no DICOM files", skipped)


def refresh(sandbox: Sandbox) -> None:
    """Make `tcia_series` and `tcia_json` agree with the archive; only series that changed are touched."""
    with sandbox.reader() as db:
        # Both sides are read from an index, so this is quick with hundreds of thousands of series.
        changed = db.execute(
            "SELECT id, instance_count, total_bytes, collection FROM archive_series WHERE archive = 'tcia'"
            " EXCEPT SELECT id, ImageCount, FileSize, Collection FROM tcia_series"
        ).fetchall()
    for start in range(0, len(changed), 500):
        with sandbox.writer() as db:
            for series_id, *_ in changed[start : start + 500]:
                insert(db, _row(db, series_id))


def insert(db: sqlite3.Connection, row: dict[str, object]) -> None:
    """Write one series: its `tcia_series` row, given without the folded columns, and its finished JSON."""
    for key, column in _FOLDED.items():
        value = row.get(column)
        row[key] = None if value is None else str(value).upper()
    names = ", ".join(row)
    marks = ", ".join("?" * len(row))
    db.execute(" ".join(("INSERT OR REPLACE INTO tcia_series (", names, ") VALUES (", marks, ")")), [*row.values()])
    finished = []
    for columns in (SERIES_V4, SERIES_V1):
        sql = ", ".join(column.sql for column in columns)
        raw = db.execute(select(sql, "tcia_series", ["id = ?"]), (row["id"],)).fetchone()
        values = [column.value(value) for column, value in zip(columns, raw, strict=True)]
        finished.append(json_row([column.name for column in columns], values))
    db.execute("INSERT OR REPLACE INTO tcia_json VALUES (?, ?, ?)", (row["id"], *finished))


_FOLDED = {
    "collection_key": "Collection",
    "patient_key": "PatientID",
    "modality_key": "Modality",
    "body_part_key": "BodyPartExamined",
    "manufacturer_key": "Manufacturer",
    "model_key": "ManufacturerModelName",
}
_FROM_HEADER = [
    "BodyPartExamined",
    "Manufacturer",
    "ManufacturerModelName",
    "ProtocolName",
    "SeriesDescription",
    "SoftwareVersions",
    "SOPClassUID",
    "PatientName",
    "PatientSex",
    "EthnicGroup",
    "StudyDescription",
    "StudyID",
    "PatientAge",
    "AdmittingDiagnosesDescription",
    "LongitudinalTemporalEventType",
    "LongitudinalTemporalOffsetFromEvent",
]
_FROM_EXTRA = [
    "Site",
    "AnnotationsFlag",
    "MaxSubmissionTimestamp",
    "DateReleased",
    "LicenseName",
    "LicenseURI",
    "DataDescriptionURI",
    "ThirdPartyAnalysis",
]


def _row(db: sqlite3.Connection, series_id: int) -> dict[str, object]:
    series = db.execute("SELECT * FROM archive_series WHERE id = ?", (series_id,)).fetchone()
    header: dict[str, str] = json.loads(series["header"])
    extra: dict[str, object] = json.loads(series["extra"])
    quality = "YES" if header.get("QualityControlSubject") == "YES" else "NO"
    return {
        "id": series_id,
        "SeriesInstanceUID": series["series_instance_uid"],
        "StudyInstanceUID": series["study_instance_uid"],
        "Collection": series["collection"],
        "PatientID": series["patient_id"],
        "Modality": series["modality"] or None,
        "ImageCount": series["instance_count"],
        "FileSize": series["total_bytes"],
        "SeriesDate": _iso_date(header.get("SeriesDate")),
        "StudyDate": _iso_date(header.get("StudyDate")),
        "PatientBirthDate": _iso_date(header.get("PatientBirthDate")),
        "SeriesNumber": _integer(header.get("SeriesNumber")),
        "PixelSpacingRow": _decimal(header.get("PixelSpacing")),
        "SliceThickness": _decimal(header.get("SliceThickness")),
        "Phantom": extra.get("Phantom", quality),
        "SpeciesCode": extra.get("SpeciesCode", "337915000"),
        "SpeciesDescription": extra.get("SpeciesDescription", "Homo sapiens"),
        **{name: header.get(name) for name in _FROM_HEADER},
        **{name: extra.get(name) for name in _FROM_EXTRA},
    }


def _iso_date(value: str | None) -> str | None:
    return f"{value[:4]}-{value[4:6]}-{value[6:8]}" if value and re.fullmatch(r"[0-9]{8}", value[:8]) else None


def _integer(value: str | None) -> int | None:
    return int(value) if value and re.fullmatch(r"[+-]?[0-9]{1,12}", value) else None


def _decimal(value: str | None) -> str | None:
    first = (value or "").split("\\")[0].strip()
    try:
        return f"{float(first):.6f}"
    except ValueError:
        return None


def _describe(db: sqlite3.Connection) -> None:
    """Collection descriptions and the curated shared list."""
    for collection in phantom.COLLECTIONS:
        uri = db.execute(
            "SELECT DataDescriptionURI FROM tcia_series WHERE Collection = ? LIMIT 1", (collection,)
        ).fetchone()[0]
        text = f"<p>Synthetic phantoms of the Isocenter sandbox, <b>no patient data</b>: {collection}.</p>"
        db.execute(
            "INSERT INTO tcia_description (Collection, description, uri) VALUES (?, ?, ?)", (collection, text, uri)
        )
    db.execute(
        "INSERT INTO tcia_shared_list VALUES (?, 'Chest CT phantoms with nodules', NULL, 'curator')", (SHARED_LIST,)
    )
    db.executemany(
        "INSERT INTO tcia_shared_list_series VALUES (?, ?)",
        [
            (SHARED_LIST, uid)
            for uid in (phantom.CHEST_CT, phantom.CHEST_FOLLOW_UP, phantom.CHEST_SEG, phantom.CHEST_RTSTRUCT)
        ],
    )
