"""The NBIA services of The Cancer Imaging Archive: v4, v1, v2 and the unversioned ones, on one archive.

What the generations do differently stands in the tables of this module: which parameters they know, which
comparisons ignore case, which columns they show. Everything they share is in `call`.
"""

from __future__ import annotations

from urllib.parse import parse_qs

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from isocenter.sandbox.state import Sandbox
from isocenter.sandbox.tcia import downloads as tcia_downloads
from isocenter.sandbox.tcia import portal as tcia_portal
from isocenter.sandbox.tcia import store as tcia_store
from isocenter.sandbox.tcia.call import (
    JSON,
    Call,
    Filter,
    Handler,
    Operation,
    answer,
    exact,
    failed,
    folded,
    negotiated,
)
from isocenter.sandbox.tcia.formats import Column
from isocenter.sandbox.tcia.search import (
    V1_FILTERS,
    V4_FILTERS,
    contents_by_name,
    criteria_counts,
    descriptions,
    european_date,
    listed_metadata,
    search,
    series_metadata_v1,
    series_size,
    slashed_date,
    some,
    sop_instance_uids,
    species,
    timepoints,
    us_date,
    value_counts,
    value_list,
)

SCHEMA = tcia_store.SCHEMA
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
FORM_BYTES = 16 << 20
"""Longest form body that is read; ten thousand series UIDs need less than one megabyte."""


async def start(sandbox: Sandbox) -> None:
    """Make the phantom data on the first start and take in the folders of `Options.dicom`."""
    await anyio.to_thread.run_sync(tcia_store.fill, sandbox)


_COLLECTION_AND_MODALITY = "A parameter, Collection and Modality, are required for this API call."
_COLLECTION_AND_DATE = "A parameter, Collection and Date are required for this API call."
_MODALITY_FILTERS, _BODY_PART_FILTERS = "Collection BodyPartExamined", "Collection Modality"
_MANUFACTURER_FILTERS = "Collection Modality BodyPartExamined"
_NARROWING = "Collection PatientID StudyInstanceUID"


def _v4() -> dict[str, Operation]:
    store, filters = tcia_store, V4_FILTERS
    since = Filter("DateReleased >= ?", us_date)
    patient = {"Collection": filters["Collection"], "PatientId": exact("PatientID")}
    by_modality = some(filters, "Collection Modality")
    new = {"Collection": filters["Collection"], "fromDate": since}
    download = ("application/octet-stream",)

    def checked(run: Handler, names: str) -> Operation:
        return Operation(run, (*names.split(), "format"))

    def counts(name: str, column: str, names: str) -> Operation:
        return Operation(value_counts(name, column, some(filters, names)), tuple(names.split()))

    return {
        "getCollectionValues": checked(value_list("Collection", "Collection", {}), ""),
        "getModalityValues": checked(
            value_list("Modality", "Modality", some(filters, _MODALITY_FILTERS)), _MODALITY_FILTERS
        ),
        "getBodyPartValues": checked(
            value_list("BodyPartExamined", "body_part_key", some(filters, _BODY_PART_FILTERS)), _BODY_PART_FILTERS
        ),
        "getManufacturerValues": checked(
            value_list("Manufacturer", "manufacturer_key", some(filters, _MANUFACTURER_FILTERS)), _MANUFACTURER_FILTERS
        ),
        "getPatient": checked(search(store.PATIENT_V4, patient, store.BY_PATIENT), "Collection PatientId"),
        "getPatientByCollectionAndModality": checked(
            search(
                [Column("PatientId", "PatientID"), store.AUTHORIZED],
                by_modality,
                store.BY_PATIENT,
                needs=("Collection", "Modality"),
                missing=_COLLECTION_AND_MODALITY,
            ),
            "Collection Modality",
        ),
        "NewPatientsInCollection": checked(
            search(
                store.PATIENT_V4, new, store.BY_PATIENT, needs=("Collection", "fromDate"), missing=_COLLECTION_AND_DATE
            ),
            "Collection fromDate",
        ),
        "NewStudiesInPatientCollection": checked(
            search(
                store.STUDY_V4,
                {**new, "PatientID": filters["PatientID"]},
                store.BY_STUDY,
                needs=("Collection", "fromDate"),
                missing=_COLLECTION_AND_DATE,
            ),
            "Collection fromDate PatientID",
        ),
        "getPatientStudy": checked(search(store.STUDY_V4, some(filters, _NARROWING), store.BY_STUDY), _NARROWING),
        "getSeries": checked(search(store.SERIES_V4, filters, finished="v4"), " ".join(filters)),
        "getUpdatedSeries": checked(
            search(
                store.SERIES_V4,
                {"fromDate": Filter("DateReleased > ?", us_date)},
                defaults={"fromDate": "01-01-1900"},
                finished="v4",
            ),
            "fromDate",
        ),
        "getSeriesSize": checked(series_size, "SeriesInstanceUID"),
        "getSOPInstanceUIDs": checked(sop_instance_uids, "SeriesInstanceUID"),
        "getSeriesMetadata": Operation(
            listed_metadata(store.METADATA_V4, formats=True), ("list", "format"), "POST", ("text/csv",)
        ),
        "getSeriesMetadataCombined": Operation(
            listed_metadata(store.METADATA_COMBINED, formats=False), ("list",), "POST", ("text/csv",)
        ),
        "getImage": Operation(
            tcia_downloads.get_image, ("SeriesInstanceUID", "NewFileNames", "IncludeMD5"), produces=download
        ),
        "getImageWithMD5Hash": Operation(
            tcia_downloads.get_image_with_md5_hash, ("SeriesInstanceUID",), produces=download
        ),
        "getDCMImage": Operation(
            tcia_downloads.get_dcm_image,
            ("SeriesInstanceUID", "IncludeAnnotation", "MD5Verification"),
            produces=download,
        ),
        "getSingleImage": Operation(
            tcia_downloads.get_single_image, ("SeriesInstanceUID", "SOPInstanceUID"), produces=("application/dicom",)
        ),
        "getMD5HashForImage": Operation(tcia_downloads.get_md5_hash, ("SOPInstanceUID",), produces=("text/plain",)),
        "getMD5Hierarchy": Operation(
            tcia_downloads.get_md5_hierarchy,
            ("SeriesInstanceUID", "StudyInstanceUID", "PatientID", "Collection"),
            "POST",
            JSON,
        ),
        "getThumbnail": Operation(
            tcia_downloads.get_thumbnail, ("seriesUID", "objectUID"), "POST", ("application/dicom", "image/jpeg")
        ),
        "getDicomTags": Operation(tcia_downloads.get_dicom_tags, ("SeriesUID",), produces=JSON),
        "getCollectionDescriptions": Operation(descriptions, ("collectionName",), produces=JSON),
        "getCollectionValuesAndCounts": Operation(value_counts("Collection", "Collection", {})),
        "getModalityValuesAndCounts": counts("Modality", "Modality", _MODALITY_FILTERS),
        "getBodyPartValuesAndCounts": counts("BodyPart", "body_part_key", _BODY_PART_FILTERS),
        "getManufacturerValuesAndCounts": counts("Manufacturer", "manufacturer_key", _MANUFACTURER_FILTERS),
        "getSpeciesValuesAndCounts": Operation(value_counts("Species", "SpeciesCode", {})),
        "getSpeciesTax": Operation(species, produces=JSON),
        "getMinMaxTimepoints": Operation(timepoints, produces=JSON),
        "getCollectionOrSeriesForDOI": Operation(tcia_portal.by_doi, method="POST", produces=JSON),
        "getSimpleSearch": Operation(tcia_portal.simple_search, method="POST", produces=JSON),
        "getManifestForSimpleSearch": Operation(tcia_portal.manifest_for_search, method="POST"),
        "getManifestForCollection": Operation(tcia_portal.manifest_for_collection, method="POST"),
        "getManifestText": Operation(tcia_portal.manifest_for_list, method="POST"),
    }


def _v1() -> dict[str, Operation]:
    """v1 and v2, which differ in authentication only; neither minds parameters it does not know."""
    store, filters = tcia_store, V1_FILTERS
    since = Filter("DateReleased > ?", slashed_date)
    # Where the archive changes the case of one side only, mixed-case names are never found.
    patient = {"Collection": filters["Collection"], "PatientId": folded("PatientID")}
    by_modality = {"Collection": exact("collection_key"), "Modality": filters["Modality"]}
    new_studies = {"Collection": folded("Collection"), "Date": since, "PatientID": filters["PatientID"]}
    both = ("Collection", "Date")
    runs = {
        "getCollectionValues": value_list("Collection", "Collection", {}),
        "getModalityValues": value_list("Modality", "Modality", some(filters, _MODALITY_FILTERS)),
        "getBodyPartValues": value_list("BodyPartExamined", "body_part_key", some(filters, _BODY_PART_FILTERS)),
        "getManufacturerValues": value_list("Manufacturer", "Manufacturer", some(filters, _MANUFACTURER_FILTERS)),
        "getPatient": search(store.PATIENT_V1, patient, store.BY_PATIENT),
        "getPatientByCollectionAndModality": search(
            [Column("PatientId", "PatientID")],
            by_modality,
            store.BY_PATIENT,
            needs=("Collection", "Modality"),
            missing=_COLLECTION_AND_MODALITY,
        ),
        "NewPatientsInCollection": search(
            store.PATIENT_V1,
            {"Collection": filters["Collection"], "Date": since},
            store.BY_PATIENT,
            needs=both,
            missing=_COLLECTION_AND_DATE,
        ),
        "NewStudiesInPatientCollection": search(
            store.STUDY_V1, new_studies, store.BY_STUDY, needs=both, missing=_COLLECTION_AND_DATE
        ),
        "getPatientStudy": search(store.STUDY_V1, some(filters, _NARROWING), store.BY_STUDY),
        "getSeries": search(store.SERIES_V1, filters, finished="v1"),
        "getUpdatedSeries": search(
            store.UPDATED_V1,
            {"fromDate": Filter("DateReleased > ?", european_date)},
            defaults={"fromDate": "01/01/1900"},
        ),
        "getSeriesSize": series_size,
        "getSOPInstanceUIDs": sop_instance_uids,
        "getSeriesMetaData": series_metadata_v1,
        "getContentsByName": contents_by_name,
        "getImage": tcia_downloads.get_image,
        "getImageWithMD5Hash": tcia_downloads.get_image_with_md5_hash,
        "getDCMImage": tcia_downloads.get_dcm_image,
        "getSingleImage": tcia_downloads.get_single_image,
        "getM5HashForImage": tcia_downloads.get_md5_hash,
    }
    return {name: Operation(run) for name, run in runs.items()}


def _unversioned() -> dict[str, Operation]:
    filters = V4_FILTERS
    return {
        "getCollectionValuesAndCounts": Operation(criteria_counts("Collection", {})),
        "getModalityValuesAndCounts": Operation(criteria_counts("Modality", some(filters, _MODALITY_FILTERS))),
        "getBodyPartValuesAndCounts": Operation(criteria_counts("body_part_key", some(filters, _BODY_PART_FILTERS))),
        "getManufacturerValuesAndCounts": Operation(
            criteria_counts("manufacturer_key", some(filters, _MANUFACTURER_FILTERS))
        ),
        "getSpeciesValuesAndCounts": Operation(criteria_counts("SpeciesCode", {})),
        "getCollectionDescriptions": Operation(descriptions),
        "getDicomTags": Operation(tcia_downloads.get_dicom_tags),
        "getSpeciesTax": Operation(species),
        "getMinMaxTimepoints": Operation(timepoints),
        "getMD5Hierarchy": Operation(tcia_downloads.get_md5_hierarchy, method="POST"),
        "getCollectionOrSeriesForDOI": Operation(tcia_portal.by_doi, method="POST"),
        "getSimpleSearch": Operation(tcia_portal.simple_search, method="POST"),
        "getManifestForSimpleSearch": Operation(tcia_portal.manifest_for_search, method="POST"),
        "getManifestText": Operation(tcia_portal.manifest_for_list, method="POST"),
        "createSharedList": Operation(tcia_portal.create_shared_list, method="POST"),
        "deleteSharedList": Operation(tcia_portal.delete_shared_list, method="POST"),
    }


OPERATIONS = {"v4": _v4(), "v1": _v1(), "v2": _v1(), "": _unversioned()}
"""Every operation by generation and name; the empty generation is the unversioned one."""


def routes(sandbox: Sandbox) -> list[BaseRoute]:
    """`/nbia-api/services/...`; the application answers the same without `services`."""

    async def nbia(request: Request) -> Response:
        path = request.path_params["path"].removeprefix("services/")
        method = "GET" if request.method == "HEAD" else request.method
        response = await _nbia(sandbox, request, path, method)
        if request.method != "HEAD":
            return response
        bare = Response(status_code=response.status_code)
        bare.headers.update({name: value for name, value in response.headers.items() if name != "content-length"})
        return bare

    return [Route("/nbia-api/{path:path}", nbia, methods=METHODS)]


async def _nbia(sandbox: Sandbox, request: Request, path: str, method: str) -> Response:
    if path == "up":
        return answer("up", "text/plain") if method == "GET" else failed("HTTP 405 Method Not Allowed")
    if path == "oauth/token":
        return await _token(sandbox, request, method)
    if path == "logout":
        return tcia_portal.logout(sandbox, request)
    version, _, name = path.rpartition("/")
    operation = OPERATIONS.get(version, {}).get(name)
    if operation is None:
        return failed("HTTP 404 Not Found")
    if method == "OPTIONS":
        return Response(status_code=200, headers={"Allow": f"{operation.method},OPTIONS"})
    if method != operation.method:
        return failed("HTTP 405 Method Not Allowed")
    user = tcia_portal.user(sandbox, request, version)
    if isinstance(user, Response):
        return user
    params: dict[str, str] = {}
    for key, value in request.query_params.multi_items():
        params.setdefault(key, value)
    form = await read_form(request) if method == "POST" else {}
    if form is None:
        return failed("HTTP 413 Request Entity Too Large")
    if version == "v4" and operation.parameters is not None:
        for key in [*params, *form]:
            if key not in operation.parameters:
                kind = "query" if method == "GET" else "form"
                allowed = ", ".join(operation.parameters)
                text = f"Invalid {kind} parameter: '{key}'. Allowed parameters are: [{allowed}]"
                return answer(text, negotiated(operation.produces, request), 400)
    call = Call(sandbox=sandbox, request=request, version=version, params=params, form=form, user=user)
    response: Response = await operation.run(call)
    return response


async def _token(sandbox: Sandbox, request: Request, method: str) -> Response:
    form = await read_form(request) if method == "POST" else None
    return failed("HTTP 405 Method Not Allowed") if form is None else tcia_portal.token(sandbox, form)


async def read_form(request: Request) -> dict[str, list[str]] | None:
    """A url-encoded body as fields, or None when it is too long. Other bodies have no fields, as with the archive."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > FORM_BYTES:
            return None
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return {}
    text = body.decode("utf-8", "replace")
    return parse_qs(text, keep_blank_values=True)
