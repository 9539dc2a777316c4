"""The searches of the NBIA services: everything that answers rows of the index or the little lists beside it.

Most operations are made by the functions of this module from columns and filters; `tcia` holds the tables that say
which generation has which.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date

from starlette.responses import Response

from isocenter.sandbox.tcia import store as tcia_store
from isocenter.sandbox.tcia.call import (
    Call,
    Filter,
    Handler,
    empty,
    exact,
    folded,
    jackson,
    refused,
    required,
    rows,
    table,
)
from isocenter.sandbox.tcia.formats import Column


def us_date(text: str) -> str | None:
    """The ISO date of `MM-DD-YYYY`, as v4 takes dates."""
    return _iso(r"([0-9]{1,2})-([0-9]{1,2})-([0-9]{4})", text, (3, 1, 2))


def slashed_date(text: str) -> str | None:
    """The ISO date of `YYYY/MM/DD`, as v1 takes `Date`."""
    return _iso(r"([0-9]{4})/([0-9]{1,2})/([0-9]{1,2})", text, (1, 2, 3))


def european_date(text: str) -> str | None:
    """The ISO date of `DD/MM/YYYY`, as v1 takes `fromDate`."""
    return _iso(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})", text, (3, 2, 1))


def _iso(pattern: str, text: str, order: tuple[int, int, int]) -> str | None:
    """An ISO date, or None for text that is no date: compared with it, no row matches and nothing fails."""
    match = re.fullmatch(pattern, text)
    try:
        return date(*(int(match[i]) for i in order)).isoformat() if match else None
    except ValueError:
        return None


V4_FILTERS = {
    "Collection": folded("collection_key"),
    "PatientID": folded("patient_key"),
    "StudyInstanceUID": exact("StudyInstanceUID"),
    "SeriesInstanceUID": exact("SeriesInstanceUID"),
    "Modality": folded("modality_key"),
    "BodyPartExamined": folded("body_part_key"),
    "Manufacturer": folded("manufacturer_key"),
    "ManufacturerModelName": folded("model_key"),
}
V1_FILTERS = {
    **V4_FILTERS,
    "Modality": exact("Modality"),
    "BodyPartExamined": exact("BodyPartExamined"),
    "Manufacturer": exact("Manufacturer"),
    "ManufacturerModelName": exact("ManufacturerModelName"),
}


def some(filters: Mapping[str, Filter], names: str) -> dict[str, Filter]:
    """The filters of these parameters."""
    return {name: filters[name] for name in names.split()}


def search(
    columns: list[Column],
    filters: Mapping[str, Filter],
    tail: str = "",
    *,
    needs: tuple[str, ...] = (),
    missing: str = "",
    defaults: Mapping[str, str] | None = None,
    finished: str | None = None,
) -> Handler:
    """An operation that shows rows of `tcia_series` narrowed by its parameters."""

    async def run(call: Call) -> Response:
        given = {**(defaults or {}), **call.params}
        if any(name not in given for name in needs):
            return refused(missing)
        used = [(condition, given[name]) for name, condition in filters.items() if name in given]
        where = [condition.sql for condition, _ in used]
        values = [condition.change(text) for condition, text in used]
        return await table(call, columns, where, values, tail=tail, finished=finished)

    return run


def value_list(name: str, column: str, filters: Mapping[str, Filter]) -> Handler:
    """A value list: distinct, by the value in capitals, a missing value first."""
    return search([Column(name, f"{column} AS value")], filters, "GROUP BY value ORDER BY upper(value)")


def value_counts(name: str, column: str, filters: Mapping[str, Filter]) -> Handler:
    """A value list of v4 with the number of patients; always JSON."""
    patients = "count(DISTINCT Collection || '//' || PatientID)"
    columns = [
        Column(name, f"{column} AS value"),
        Column("Count", patients, "java.lang.Integer"),
        tcia_store.AUTHORIZED,
    ]

    async def run(call: Call) -> Response:
        used = [(condition, call.params[key]) for key, condition in filters.items() if key in call.params]
        where = [condition.sql for condition, _ in used]
        values = [condition.change(text) for condition, text in used]
        return await table(call, columns, where, values, tail="GROUP BY value ORDER BY upper(value)", format="JSON")

    return run


def criteria_counts(column: str, filters: Mapping[str, Filter]) -> Handler:
    """The unversioned value list with counts, which are texts there."""

    async def run(call: Call) -> Response:
        used = [(condition, call.params[key]) for key, condition in filters.items() if key in call.params]
        where = ["value IS NOT NULL", *(condition.sql for condition, _ in used)]
        what = f"{column} AS value, count(DISTINCT Collection || '//' || PatientID)"
        sql = tcia_store.select(what, "tcia_series", where, "GROUP BY value ORDER BY upper(value)")
        found = await rows(call, sql, [condition.change(text) for condition, text in used])
        return jackson([{"criteria": value, "count": str(count)} for value, count in found])

    return run


async def series_size(call: Call) -> Response:
    """`getSeriesSize`: bytes and number of files of one series, as an array of one row."""
    uid = call.params.get("SeriesInstanceUID")
    if uid is None:
        return required("SeriesInstanceUID")
    # Before v4 the sum over no series at all is a row of nulls.
    total, count = ("sum(FileSize)", "sum(ImageCount)") if call.legacy else ("FileSize", "ImageCount")
    columns = [
        Column("TotalSizeInBytes", total, "java.math.BigDecimal"),
        Column("ObjectCount", count, "java.lang.Integer"),
    ]
    return await table(call, columns, ["SeriesInstanceUID = ?"], [uid])


async def sop_instance_uids(call: Call) -> Response:
    """`getSOPInstanceUIDs`: the UIDs of a series' files."""
    uid = call.params.get("SeriesInstanceUID")
    if uid is None:
        return required("SeriesInstanceUID")
    return await table(
        call,
        [Column("SOPInstanceUID", "sop_instance_uid")],
        ["series_id = (SELECT id FROM tcia_series WHERE SeriesInstanceUID = ?)"],
        [uid],
        source="archive_instance",
    )


_JAVA_DATE = "%a %b %d %H:%M:%S UTC %Y"


async def series_metadata_v1(call: Call) -> Response:
    """v1 and v2 `getSeriesMetaData`: every value a text, descriptions stripped of punctuation, 204 for nothing."""
    uid = call.params.get("SeriesInstanceUID")
    if uid is None:
        return required("SeriesInstanceUID")
    row = call.sandbox.db.execute("SELECT * FROM tcia_series WHERE SeriesInstanceUID = ?", (uid,)).fetchone()
    if row is None:
        return empty(204)

    def us(column: str) -> str | None:
        iso = row[column]
        return f"{iso[5:7]}-{iso[8:10]}-{iso[:4]}" if iso else None

    def stripped(column: str) -> str | None:
        return re.sub(r"[^A-Za-z0-9 .-]", "", row[column]) if row[column] is not None else None

    released = date.fromisoformat(row["DateReleased"]).strftime(_JAVA_DATE) if row["DateReleased"] else None
    number, flag, submitted = row["SeriesNumber"], row["AnnotationsFlag"], row["MaxSubmissionTimestamp"]
    values: dict[str, str | None] = {
        "Series UID": uid,
        "Collection": row["Collection"],
        "3rd Party Analysis": row["ThirdPartyAnalysis"],
        "Data Description URI": row["DataDescriptionURI"],
        "Subject ID": row["PatientID"],
        "Study UID": row["StudyInstanceUID"],
        "Study Description": stripped("StudyDescription"),
        "Study Date": us("StudyDate"),
        "Series Description": stripped("SeriesDescription"),
        "Manufacturer": row["Manufacturer"],
        "Modality": row["Modality"],
        "SOP Class UID": row["SOPClassUID"],
        "Number of Images": str(row["ImageCount"]),
        "File Size": str(row["FileSize"]),
        "File Location": row["StudyID"],
        "Series Number": None if number is None else f"{number}.000000",
        "License Name": row["LicenseName"],
        "License URL": row["LicenseURI"],
        "Annotation Size": "0",
        "Date Released": released,
        "Series Date": us("SeriesDate"),
        "Protocol Name": stripped("ProtocolName"),
        "Body Part Examined": row["BodyPartExamined"],
        "Annotations Flag": None if flag is None else str(bool(flag)).lower(),
        "Manufacturer Model Name": row["ManufacturerModelName"],
        "Software Versions": row["SoftwareVersions"],
        "TimeStamp": None if submitted is None else f"{submitted}.0",
    }
    columns = [Column(name, "?") for name in values]
    return await table(call, columns, values=list(values.values()), source="(SELECT 1)")


def listed_metadata(columns: list[Column], *, formats: bool) -> Handler:
    """v4 series metadata by POST: `list` may be repeated or joined with commas; all but digits and dots is dropped."""

    async def run(call: Call) -> Response:
        joined = ",".join(call.form.get("list", []))
        uids = [uid for uid in re.sub(r"[^0-9.,]", "", joined).split(",") if uid]
        if not uids:
            return refused("A form parameter, list, containing at least one SeriesInstanceUID is required.")
        kind = (call.field("format") if formats else None) or "CSV"
        # SQLite takes far more values in one JSON text than as placeholders.
        return await table(
            call,
            columns,
            ["SeriesInstanceUID IN (SELECT value FROM json_each(?))"],
            ['["' + '","'.join(uids) + '"]'],
            format="CSV-DOWNLOAD" if kind.upper() == "CSV" else kind,
        )

    return run


async def descriptions(call: Call) -> Response:
    """`getCollectionDescriptions`: HTML about a collection, or about all; v4 shows fewer keys."""
    name = call.params.get("collectionName", "")
    found = call.sandbox.db.execute(
        "SELECT * FROM tcia_description WHERE ?1 = '' OR upper(Collection) = upper(?1) ORDER BY id", (name,)
    )
    if not call.legacy:
        return jackson(
            [
                {
                    "description": row["description"],
                    "id": row["id"],
                    "collectionName": row["Collection"],
                    "descriptionURI": row["uri"],
                }
                for row in found
            ]
        )
    return jackson(
        [
            {
                "description": row["description"],
                "id": row["id"],
                "collectionDescTimestamp": 1706659200000,
                "collectionName": row["Collection"],
                "userName": "curator",
                "licenseId": None,
                "descriptionURI": row["uri"],
            }
            for row in found
        ]
    )


async def contents_by_name(call: Call) -> Response:
    """`getContentsByName`: the series of a shared list; always JSON."""
    name = call.params.get("name")
    if name is None:
        return required("name")
    return await table(
        call,
        tcia_store.SHARED_V1,
        ["SeriesInstanceUID IN (SELECT SeriesInstanceUID FROM tcia_shared_list_series WHERE name = ?)"],
        [name],
        format="JSON",
    )


async def species(call: Call) -> Response:
    """`getSpeciesTax`: the species of the archive."""
    found = await rows(call, "SELECT DISTINCT SpeciesCode, SpeciesDescription FROM tcia_series ORDER BY 1")
    return jackson([{"speciesCode": row[0], "speciesDescription": row[1]} for row in found])


async def timepoints(call: Call) -> Response:
    """`getMinMaxTimepoints`: the smallest and largest offset in days from each kind of event."""
    extremes: dict[str, dict[str, int]] = {"maxTimepoints": {}, "minTimepoints": {}}
    found = await rows(
        call,
        "SELECT LongitudinalTemporalEventType AS event, min(LongitudinalTemporalOffsetFromEvent),"
        " max(LongitudinalTemporalOffsetFromEvent) FROM tcia_series WHERE event IS NOT NULL GROUP BY event",
    )
    for event, least, most in found:
        extremes["minTimepoints"][event], extremes["maxTimepoints"][event] = int(least), int(most)
    return jackson(extremes)
