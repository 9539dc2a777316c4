"""What the archive's web portal uses beside the plain searches: sign-in, criteria search, manifests, shared lists."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from isocenter.sandbox.state import Sandbox
from isocenter.sandbox.tcia.call import Call, answer, empty, failed, jackson, rows
from isocenter.sandbox.tcia.store import select

GUEST = "nbia_guest"
TOKEN_SECONDS = 7200
REFRESH_SECONDS = 3600


def user(sandbox: Sandbox, request: Request, version: str) -> str | Response:
    """Who asks, or the answer that refuses: v1 never asks, v4 takes nobody for the guest, the others want a token."""
    header = request.headers.get("authorization")
    if version == "v1" or (version == "v4" and header is None) or header == "Bearer undefined":
        return GUEST
    if header is None:
        return failed("null")
    row = sandbox.db.execute(
        "SELECT user_name FROM tcia_token WHERE access_token = ? AND expires > ?",
        (header.removeprefix("Bearer "), sandbox.now().timestamp()),
    ).fetchone()
    return empty(401) if row is None else str(row["user_name"])


def token(sandbox: Sandbox, form: Mapping[str, list[str]]) -> Response:
    """`oauth/token`: the identity provider's JSON. Only the guest exists, and any password will do for it."""
    fields = {name: values[0] for name, values in form.items()}
    now = sandbox.now().timestamp()
    grant = fields.get("grant_type", "").lower()
    with sandbox.transaction() as db:
        db.execute("DELETE FROM tcia_token WHERE expires < ?", (now - REFRESH_SECONDS,))
        if grant == "password":
            allowed = fields.get("username") == GUEST
        elif grant == "refresh_token":
            old = (fields.get("refresh_token", ""),)
            allowed = db.execute("DELETE FROM tcia_token WHERE refresh_token = ?", old).rowcount > 0
        else:
            return failed("null")
        if not allowed:
            refusal = {"error": "invalid_grant", "error_description": "Invalid user credentials"}
            response = jackson(refusal)
            response.status_code = 401
            return response
        access, refresh = secrets.token_urlsafe(48), secrets.token_urlsafe(48)
        db.execute("INSERT INTO tcia_token VALUES (?, ?, ?, ?)", (access, refresh, GUEST, now + TOKEN_SECONDS))
    return jackson(
        {
            "access_token": access,
            "expires_in": TOKEN_SECONDS,
            "refresh_expires_in": TOKEN_SECONDS + REFRESH_SECONDS,
            "refresh_token": refresh,
            "token_type": "Bearer",
            "not-before-policy": 0,
            "session_state": secrets.token_hex(16),
            "scope": "profile email",
        }
    )


def logout(sandbox: Sandbox, request: Request) -> Response:
    """`logout`: the token of the request ends."""
    access = request.headers.get("authorization", "").removeprefix("Bearer ")
    sandbox.db.execute("DELETE FROM tcia_token WHERE access_token = ?", (access,))
    return empty()


async def by_doi(call: Call) -> Response:
    """`getCollectionOrSeriesForDOI`: the collections of a DOI, or its series; `[]` when there are none."""
    doi = call.field("DOI") or ""
    of_series = (call.field("CollectionOrSeries") or "").lower() == "series"
    columns = "Collection, ThirdPartyAnalysis" + (", SeriesInstanceUID" if of_series else "")
    uris = (doi, f"https://doi.org/{doi}")

    sql = select(f"DISTINCT {columns}", "tcia_series", ["DataDescriptionURI IN (?, ?)"])
    return jackson(
        [
            {
                "collection": row["Collection"],
                **({"seriesInstanceUID": row["SeriesInstanceUID"]} if of_series else {}),
                # The archive spells it so.
                "thirdPartyAnanlysis": row["ThirdPartyAnalysis"] or "NO",
                **({} if call.legacy else {"authorized": 1}),
            }
            for row in await rows(call, sql, uris)
        ]
    )


_CRITERIA = {
    "collectioncriteria": "Collection",
    "speciescriteria": "SpeciesCode",
    "imagemodalitycriteria": "Modality",
    "anatomicalsitecriteria": "BodyPartExamined",
    "manufacturercriteria": "Manufacturer",
    "modelcriteria": "ManufacturerModelName",
    "patientcriteria": "PatientID",
    "phantomcriteria": "Phantom",
    "thirdpartyanalysis": "ThirdPartyAnalysis",
}


class _BadSearch(Exception):
    """The form lacks a field the search cannot do without; the archive fails on it with its catch-all 500."""


def _found(call: Call) -> list[dict[str, Any]]:
    """The patients of a criteria search, unsorted. Criteria of one type are alternatives, types narrow each other."""
    wanted: dict[str, list[str]] = {}
    where, values = [], []
    minimum, all_modalities = 1, False
    number = 0
    while (kind := call.field(f"criteriaType{number}")) is not None:
        kind = kind.lower()
        value = call.field(f"value{number}")
        if kind == "daterangecriteria":
            limits = (call.field(f"fromDate{number}"), call.field(f"toDate{number}"))
            where.append("DateReleased BETWEEN ? AND ?")
            values += [_search_date(limit) for limit in limits]
        elif kind in (*_CRITERIA, "minnumberofstudiescriteria", "modalityandedsearchcriteria"):
            if value is None:
                raise _BadSearch
            if kind in _CRITERIA:
                wanted.setdefault(_CRITERIA[kind], []).append(value)
            elif kind == "modalityandedsearchcriteria":
                all_modalities = value.lower() == "all"
            elif value.isdigit():
                minimum = int(value)
            else:
                raise _BadSearch
        # A type it does not know narrows nothing: tcia_utils 3.3.5 means a date range and sends "Criteria.DateRange".
        number += 1
    for column, choices in wanted.items():
        where.append(f"{column} IN ({', '.join('?' * len(choices))})")
        values += choices
    what = (
        "id, Collection, PatientID, StudyInstanceUID, Modality, BodyPartExamined, SpeciesCode,"
        " LongitudinalTemporalEventType AS event, LongitudinalTemporalOffsetFromEvent AS offset"
    )
    with call.sandbox.reader() as db:
        found = db.execute(select(what, "tcia_series", where, "ORDER BY id"), values).fetchall()
    patients: dict[tuple[str, str], list[Any]] = {}
    for row in found:
        patients.setdefault((row["Collection"], row["PatientID"]), []).append(row)
    results = []
    for (collection, patient), series in patients.items():
        modalities = list(dict.fromkeys(row["Modality"] for row in series if row["Modality"]))
        studies: dict[str, list[Any]] = {}
        for row in series:
            studies.setdefault(row["StudyInstanceUID"], []).append(row)
        if len(studies) < minimum or (all_modalities and not set(wanted.get("Modality", [])) <= set(modalities)):
            continue
        timepoints: dict[str, list[int]] = {}
        for row in series:
            if row["event"] is not None and row["offset"] is not None:
                offsets = timepoints.setdefault(row["event"], [])
                offsets += [int(row["offset"])] if int(row["offset"]) not in offsets else []
        results.append(
            {
                "subjectId": patient,
                "project": collection,
                # Identifiers are the database's numbers; ours for a patient or a study is that of its first series.
                "id": series[0]["id"],
                "modalities": modalities,
                "bodyParts": list(dict.fromkeys(row["BodyPartExamined"] for row in series if row["BodyPartExamined"])),
                "species": list(dict.fromkeys(row["SpeciesCode"] for row in series)),
                "timepoints": timepoints,
                "totalNumberOfStudies": len(studies),
                "totalNumberOfSeries": len(series),
                "authorized": 1,
                "studyIdentifiers": [
                    {
                        "seriesIdentifiers": [row["id"] for row in study],
                        "seriesAndModality": [{"seriesId": row["id"], "modality": row["Modality"]} for row in study],
                        "studyIdentifier": study[0]["id"],
                    }
                    for study in studies.values()
                ],
            }
        )
    return results


def _search_date(text: str | None) -> str:
    try:
        return datetime.strptime(text or "", "%m-%d-%Y").date().isoformat()
    except ValueError as error:
        raise _BadSearch from error


_SORT_KEYS = {
    "subject": "subjectId",
    "studies": "totalNumberOfStudies",
    "series": "totalNumberOfSeries",
    "collection": "project",
}


def _value_counts(values: Iterable[str]) -> list[dict[str, object]]:
    return [{"value": value, "count": count} for value, count in Counter(values).items()]


async def simple_search(call: Call) -> Response:
    """`getSimpleSearch`: one page of the patients that fit, with the number of all and counts of their properties."""
    start, size, direction = call.field("start") or "", call.field("size") or "", call.field("sortDirection")
    key = _SORT_KEYS.get((call.field("sortField") or "").lower())
    if not start.isdigit() or not size.isdigit() or direction is None or key is None:
        return failed("null")
    try:
        found = await anyio.to_thread.run_sync(_found, call)
    except _BadSearch:
        return failed("null")
    found.sort(key=lambda patient: patient[key], reverse=direction.lower() == "descending")
    return jackson(
        {
            "resultSet": found[int(start) : int(start) + int(size)],
            "totalPatients": len(found),
            "bodyParts": _value_counts(part for patient in found for part in patient["bodyParts"]),
            "modalities": _value_counts(modality for patient in found for modality in patient["modalities"]),
            "collections": _value_counts(patient["project"] for patient in found),
            "species": _value_counts(code for patient in found for code in patient["species"]),
            "sort": f"{call.field('sortField')}-{direction}",
        }
    )


def _manifest(call: Call, uids: Iterable[str], name: str | None = None, annotations: bool = False) -> Response:
    lines = [
        f"downloadServerUrl={call.sandbox.base_url(call.request)}/nbia-download/servlet/DownloadServlet",
        f"includeAnnotation={str(annotations).lower()}",
        "noOfrRetry=4",
        f"databasketId={name or f'manifest-{time.time_ns() // 1_000_000}.tcia'}",
        "manifestVersion=3.0",
        "ListOfSeriesToDownload=",
        *uids,
    ]
    return answer("\n".join(lines) + "\n", "application/x-nbia-manifest-file")


async def manifest_for_search(call: Call) -> Response:
    """`getManifestForSimpleSearch`: the series of a criteria search as a manifest."""

    def uids() -> list[str]:
        ids = [
            number
            for patient in _found(call)
            for study in patient["studyIdentifiers"]
            for number in study["seriesIdentifiers"]
        ]
        with call.sandbox.reader() as db:
            return [
                db.execute("SELECT SeriesInstanceUID FROM tcia_series WHERE id = ?", (number,)).fetchone()[0]
                for number in ids
            ]

    try:
        return _manifest(call, await anyio.to_thread.run_sync(uids))
    except _BadSearch:
        return failed("null")


async def manifest_for_collection(call: Call) -> Response:
    """`getManifestForCollection`: all series of a collection as a manifest."""
    collection = call.field("collection") or ""

    found = await rows(
        call, "SELECT SeriesInstanceUID FROM tcia_series WHERE collection_key = ?", (collection.upper(),)
    )
    name = f"{collection}-{call.sandbox.now():%Y-%m-%d_%H-%M}.tcia"
    annotations = (call.field("includeAnnotation") or "true").lower() == "true"
    return _manifest(call, [row[0] for row in found], name, annotations)


async def manifest_for_list(call: Call) -> Response:
    """`getManifestText`: the series of the form as a manifest; they are not looked up."""
    annotations = (call.field("includeAnnotation") or "").lower() == "true"
    return _manifest(call, call.form.get("list", []), annotations=annotations)


async def create_shared_list(call: Call) -> Response:
    """`createSharedList`: keep a named list of series of the archive."""
    uids, name = call.form.get("list", []), call.field("name")
    known = sum(
        call.sandbox.db.execute("SELECT count(*) FROM tcia_series WHERE SeriesInstanceUID = ?", (uid,)).fetchone()[0]
        for uid in uids
    )
    if not uids or known < len(uids):
        return answer("User does not have permission for all series in list", "text/plain", 400)
    if not name:
        return failed("null")
    with call.sandbox.transaction() as db:
        new = db.execute(
            "INSERT INTO tcia_shared_list VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (name, call.field("description"), call.field("url"), call.user),
        ).rowcount
        if not new:
            return answer("Duplicate list name", "text/plain", 400)
        db.executemany("INSERT INTO tcia_shared_list_series VALUES (?, ?)", [(name, uid) for uid in uids])
    return answer("List created", "text/plain")


async def delete_shared_list(call: Call) -> Response:
    """`deleteSharedList`: forget a list; only who made it may."""
    name = call.field("name") or ""
    row = call.sandbox.db.execute("SELECT user_name FROM tcia_shared_list WHERE name = ?", (name,)).fetchone()
    if row is None:
        return answer("List name not found", "text/plain", 400)
    if row["user_name"] != call.user:
        return answer("Only the owner can delete a list", "text/plain", 400)
    call.sandbox.db.execute("DELETE FROM tcia_shared_list WHERE name = ?", (name,))
    return answer("List deleted", "text/plain")
