"""The archive's retired REST gateway, `/services/v4/TCIA/query/...` and `/services/v4/SharedList/query/...`.

It shows the same archive as `tcia`, in the older formats: dates as `YYYY-MM-DD`, decimals as texts, an empty list
where nothing was found, and JSON objects for errors. Parameters it does not know it ignores.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from isocenter.sandbox.state import Sandbox
from isocenter.sandbox.tcia import store as tcia_store
from isocenter.sandbox.tcia.call import answer, streamed
from isocenter.sandbox.tcia.downloads import zipped
from isocenter.sandbox.tcia.formats import Column, Value, blocks

SCHEMA = ""

_SQL_TYPES = {
    "java.lang.String": "VARCHAR",
    "java.lang.Integer": "INTEGER",
    "java.lang.Boolean": "BIT",
    "java.math.BigDecimal": "DECIMAL",
    "java.sql.Timestamp": "DATE",
}
_TYPES = {"JSON": "application/json", "CSV": "application/csv", "HTML": "text/html", "XML": "application/xml"}

_PATIENT = [
    Column("PatientID", "PatientID"),
    Column("PatientName", "max(PatientName)"),
    Column("PatientBirthDate", "max(PatientBirthDate)", "java.sql.Timestamp"),
    Column("PatientSex", "max(PatientSex)"),
    Column("EthnicGroup", "max(EthnicGroup)"),
    Column("Collection", "Collection"),
]
_STUDY = [
    Column("StudyInstanceUID", "StudyInstanceUID"),
    Column("StudyDate", "StudyDate", "java.sql.Timestamp"),
    Column("StudyDescription", "StudyDescription"),
    Column("AdmittingDiagnosesDescription", "AdmittingDiagnosesDescription"),
    Column("StudyID", "StudyID"),
    Column("PatientAge", "PatientAge"),
    Column("PatientID", "PatientID"),
    Column("PatientName", "PatientName"),
    Column("PatientBirthDate", "PatientBirthDate", "java.sql.Timestamp"),
    Column("PatientSex", "PatientSex"),
    Column("EthnicGroup", "EthnicGroup"),
    Column("Collection", "Collection"),
    Column("SeriesCount", "count(*)", "java.lang.Integer"),
]
# Two columns of v1 look different here: dates carry no time, and numbers are decimals of the database.
_OWN = {
    "SeriesDate": Column("SeriesDate", "SeriesDate", "java.sql.Timestamp"),
    "SeriesNumber": Column("SeriesNumber", "SeriesNumber", "java.math.BigDecimal"),
}
_SERIES = [_OWN.get(column.name, column) for column in tcia_store.SERIES_V1[:15]]
_SIZE = [
    Column("TotalSizeInBytes", "FileSize", "java.math.BigDecimal"),
    Column("ObjectCount", "ImageCount", "java.lang.Integer"),
]
_VALUES = "GROUP BY value ORDER BY upper(value)"
_NARROWING = ("Collection", "PatientID", "StudyInstanceUID")
_QUERIES: dict[str, tuple[list[Column], tuple[str, ...], str]] = {
    "getCollectionValues": ([Column("Collection", "Collection AS value")], (), _VALUES),
    "getModalityValues": ([Column("Modality", "Modality AS value")], ("Collection", "BodyPartExamined"), _VALUES),
    "getBodyPartValues": (
        [Column("BodyPartExamined", "BodyPartExamined AS value")],
        ("Collection", "Modality"),
        _VALUES,
    ),
    "getManufacturerValues": (
        [Column("Manufacturer", "Manufacturer AS value")],
        ("Collection", "Modality", "BodyPartExamined"),
        _VALUES,
    ),
    "getPatient": (_PATIENT, ("Collection",), tcia_store.BY_PATIENT),
    "PatientsByModality": ([_PATIENT[0]], ("Collection", "Modality"), tcia_store.BY_PATIENT),
    "getPatientStudy": (_STUDY, _NARROWING, tcia_store.BY_STUDY),
    "getSeries": (_SERIES, (*_NARROWING, "SeriesInstanceUID", "Modality"), "ORDER BY id"),
    "getSeriesSize": (_SIZE, ("SeriesInstanceUID",), ""),
}
"""Columns, parameters and the end of the SQL of every table query."""


def _json(columns: Sequence[Column], rows: Iterable[Sequence[Value]]) -> Iterator[bytes]:
    opening = b"["
    for row in rows:
        shown = {
            column.name: str(value) if column.java == "java.math.BigDecimal" else value
            for column, value in zip(columns, row, strict=True)
            if value is not None
        }
        yield opening + orjson.dumps(shown)
        opening = b","
    yield b"[]" if opening == b"[" else b"]"


def _csv(columns: Sequence[Column], rows: Iterable[Sequence[Value]]) -> Iterator[bytes]:
    yield (",".join(f'"{column.name}"' for column in columns) + "\n").encode()
    for row in rows:
        cells = ("" if value is None else _text(value).replace('"', '""') for value in row)
        yield (",".join(f'"{cell}"' for cell in cells) + "\n").encode()


def _html(columns: Sequence[Column], rows: Iterable[Sequence[Value]]) -> Iterator[bytes]:
    head = "".join(f"<TH>{column.name}</TH>" for column in columns)
    yield f"<HTML><BODY>null<P ALIGN='center'><TABLE id='data' BORDER=1>\n<thead><TR>\n{head}</TR>\n</thead><tbody>".encode()
    for row in rows:
        cells = "".join(f"<TD>{'null' if value is None else _text(value)}</TD>" for value in row)
        yield f"<TR>\n{cells}</TR>\n".encode()
    yield b"</tbody></TABLE></P></BODY></HTML"


def _xml(columns: Sequence[Column], rows: Iterable[Sequence[Value]]) -> Iterator[bytes]:
    yield b"<Results>\n"
    for row in rows:
        cells = "".join(
            f"<{column.name} type='{_SQL_TYPES[column.java]}' >{'' if value is None else _text(value)}</{column.name}>\n"
            for column, value in zip(columns, row, strict=True)
        )
        yield f"<Row>\n{cells}</Row>\n".encode()
    yield b"</Results>"


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_WRITERS = {"JSON": _json, "CSV": _csv, "HTML": _html, "XML": _xml}


def _error(message: str) -> Response:
    return JSONResponse({"errorMessage": message}, 500)


def routes(sandbox: Sandbox) -> list[BaseRoute]:
    """The queries under every version the gateway ever had."""

    async def query(request: Request) -> Response:
        name = request.path_params["name"]
        params: dict[str, str] = {}
        for key, value in request.query_params.multi_items():
            params.setdefault(key, value)
        if name == "getImage":
            return await _image(sandbox, params.get("SeriesInstanceUID", ""))
        if name not in _QUERIES:
            return _error(f"QueryEndpoint [{name}] not found")
        columns, known, tail = _QUERIES[name]
        if name == "getSeriesSize" and "SeriesInstanceUID" not in params:
            return _error("Required parameter [SeriesInstanceUID] missing")
        kind = params.get("format", "JSON").upper()
        if kind not in _WRITERS:
            return _error(f"Output format [{kind}] not supported")
        used = [key for key in known if key in params]

        def produce() -> Generator[bytes]:
            where = [f"{key} = ?" for key in used]
            names = ", ".join(column.sql for column in columns)
            with sandbox.reader() as db:
                cursor = db.execute(tcia_store.select(names, "tcia_series", where, tail), [params[key] for key in used])
                cursor.row_factory = None
                rows = ([column.value(raw) for column, raw in zip(columns, row, strict=True)] for row in cursor)
                yield from blocks(_WRITERS[kind](columns, rows))

        return await streamed(produce(), _TYPES[kind])

    async def contents(request: Request) -> Response:
        if "name" not in request.query_params:
            return _error("Required parameter [name] missing")
        rows = sandbox.db.execute(
            "SELECT SeriesInstanceUID FROM tcia_shared_list_series WHERE name = ?",
            (request.query_params["name"],),
        )
        return answer(orjson.dumps([{"SERIES_INSTANCE_UID": row[0]} for row in rows]), "application/json")

    return [
        Route("/services/{version:str}/TCIA/query/{name:str}", query),
        Route("/services/{version:str}/SharedList/query/ContentsByName", contents),
    ]


async def _image(sandbox: Sandbox, uid: str) -> Response:
    archive = sandbox.archive("tcia")
    instances = archive.instances(uid, as_stored=True)
    if not instances:
        return _error("java.lang.IndexOutOfBoundsException: Index: 0, Size: 0")
    members: list[tuple[str, Path | bytes]] = [("./", b"")]
    for number, instance in enumerate(instances, 1):
        members.append((f"./{number}-{instance.sop_instance_uid}.dcm", archive.path(instance)))
    return await streamed(
        zipped(members, sandbox.now()),
        "application/zip",
        content_disposition='attachment;filename="bindaas-blob-download.zip"',
    )
