"""The words of refusals: each says where, what was expected and how to put it right, so that the next call can succeed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from isocenter.codegen.examples import calls
from isocenter.core import Contract, Finding
from isocenter.core.findings import describe, did_you_mean
from isocenter_clients import contract


def refused(api: str, operation: str, /, **changed: Any) -> list[Finding]:
    """The findings of a documented call with some arguments changed or added."""
    own = contract(api).operation(operation)
    _, arguments = next(calls(own))
    return own.check({**arguments, **changed})


def told(findings: list[Finding] | tuple[Finding, ...]) -> list[tuple[str, str, str]]:
    return [(finding.pointer, finding.expected, finding.repair) for finding in findings]


UPDATED = ("tcia", "getUpdatedSeries", "fromDate")
US_DATE = "a real calendar day as MM-DD-YYYY"

ARGUMENTS: tuple[tuple[tuple[str, str, str], Any, str, str], ...] = (
    # names
    (("tcia", "getSeries", "collection"), "x", "", "Did you mean Collection?"),
    (("tcia", "getSeries", "PatientId"), "x", "", "Did you mean PatientID?"),
    (("tcia", "getSeries", "color"), "x", "", "Leave it out."),
    (("qure", "getResults", "UID"), "2.25.1", "only uid", "Did you mean uid?"),
    # values of a list
    (("tcia", "getSeries", "format"), "json", "one of JSON, HTML, XML, CSV, CSVQUOTED, CSV-DOWNLOAD", "Did you mean JSON?"),
    (("tcia", "getImage", "IncludeMD5"), "yes", "one of Yes, No", "Did you mean Yes?"),
    (("dicomaestro", "readDicomFile", "return_format"), "jpg", "one of gif, png, jpeg", "Did you mean jpeg?"),
    (("circus", "updateTags", "operation"), "append", "one of add, remove, set", ""),
    (("dicomaestro", "createDeveloperProfile", "purpose"), "x", 'one of testing, research, education, commercial, other, ""', ""),
    # dates
    (UPDATED, "2024-06-01", US_DATE, "It looks like YYYY-MM-DD; write it as MM-DD-YYYY."),
    (UPDATED, "06/01/2024", US_DATE, "It looks like MM/DD/YYYY; write it as MM-DD-YYYY."),
    (UPDATED, "01.06.2024", US_DATE, "It looks like DD.MM.YYYY; write it as MM-DD-YYYY."),
    (UPDATED, "20240601", US_DATE, "It looks like YYYYMMDD; write it as MM-DD-YYYY."),
    (UPDATED, "02-30-2024", US_DATE, ""),
    (UPDATED, "yesterday", US_DATE, ""),
    # types
    (("circus", "listCases", "limit"), "5", "an integer", "Give the number without quotes."),
    (("circus", "listCases", "limit"), None, "an integer", "Leave it out instead of giving null."),
    (("circus", "listCases", "limit"), 500, "at most 200", ""),
    (("circus", "listCases", "limit"), 0, "at least 1", ""),
    (("circus", "createMyList", "public"), "true", "a boolean", "Give true or false without quotes."),
    (("circus", "updateTags", "tags"), "nodule", "an array", "Give a list, also for a single value."),
    (("circus", "updateTags", "tags"), ["x"] * 11, "at most 10 items", ""),
    (("tcia", "getSeries", "Collection"), 7, "a string", "Put the value in quotes."),
    (("tcia", "getSeries", "Collection"), "", "at least 1 character", ""),
    # formats in words
    (
        ("tcia", "getSeries", "SeriesInstanceUID"),
        "1.02.3",
        "a DICOM UID: digits and dots, at most 64 characters, no part with a leading zero",
        "",
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("place", "value", "expected", "repair"), ARGUMENTS, ids=[f"{a[0][2]}={a[1]}" for a in ARGUMENTS]
)
def test_an_argument_is_refused_with_a_way_to_repair_it(
    place: tuple[str, str, str], value: Any, expected: str, repair: str
) -> None:
    api, operation, name = place

    findings = refused(api, operation, **{name: value})

    assert [(finding.pointer, finding.repair) for finding in findings] == [(f"/{name}", repair)]
    assert findings[0].expected.startswith(expected)


def test_all_problems_are_told_at_once_in_one_sentence_each() -> None:
    search = contract("tcia").operation("getSeries")

    findings = search.check({"collection": "a", "PatientID": 5, "format": "json"})

    assert sorted(finding.sentence() for finding in findings) == [
        "/PatientID (query): expected a string, got an integer. Put the value in quotes. "
        "[tcia.yaml#/components/parameters/PatientID/schema/type]",
        "/collection (arguments): expected only BodyPartExamined, Collection, Manufacturer, ManufacturerModelName, Modality, "
        "PatientID, SeriesInstanceUID, StudyInstanceUID, format, got an unknown name. Did you mean Collection? "
        "[tcia.yaml#/paths/~1getSeries/get]",
        "/format (query): expected one of JSON, HTML, XML, CSV, CSVQUOTED, CSV-DOWNLOAD, got a string of 4 characters. "
        "Did you mean JSON? [tcia.yaml#/components/parameters/TableFormat/schema/enum]",
    ]


def test_a_value_is_described_and_never_repeated() -> None:
    values = (None, True, 7, 1.5, "", "Doe^Jane", ["a", "b"], {"a": 1}, b"x")

    assert [describe(value) for value in values] == [
        *("null", "a boolean", "an integer", "a number", "an empty string", "a string of 8 characters"),
        *("an array of 2", "an object with 1 property", "a bytes"),
    ]


def test_only_a_close_name_is_suggested() -> None:
    known = ["SeriesInstanceUID", "StudyInstanceUID", "Modality"]

    assert did_you_mean("seriesinstanceuid", known) == "Did you mean SeriesInstanceUID?"
    assert did_you_mean("Modalities", known) == "Did you mean Modality?"
    assert did_you_mean("PatientID", known) == ""


# -- alternatives --------------------------------------------------------------------------------------------------------

SHA = "b2c7c0caa10a0cca5ea7d69e54018ae0c0389dd6"
BOX = {"origin": [0, 0, 0], "size": [8, 1, 1]}


def label(kind: str, data: dict[str, Any], **more: Any) -> list[Finding]:
    return refused(
        "circus", "createRevision", series=[{"seriesUid": "2.25.1", "labels": [{"type": kind, "data": data, **more}]}]
    )


AT = "/series/0/labels/0"
VOXEL = "circus.yaml#/components/schemas/VoxelLabel"


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        (label("voxel", {"voxels": SHA, **BOX}), []),
        (label("voxel", {**BOX}), [(f"{AT}/data/voxels", "voxels to be given", f"{VOXEL}/properties/data/required")]),
        (
            label("voxel", {"voxels": SHA, **BOX, "alpha": 2}),
            [(f"{AT}/data/alpha", "at most 1", "circus.yaml#/components/schemas/Alpha/maximum")],
        ),
        (
            label("voxel", {"voxels": SHA, "origin": [0, 0], "size": [8, 1, 1]}),
            [(f"{AT}/data/origin", "at least 3 items", "circus.yaml#/components/schemas/VoxelTriple/minItems")],
        ),
        (label("voxel", {"voxels": SHA}, colour="red"), [(f"{AT}/colour", "only attributes, data, name, type", VOXEL)]),
        (
            label("point", {"voxels": SHA}),
            [(f"{AT}/data/location", "location to be given", "circus.yaml#/components/schemas/PointLabel/properties/data/required")],
        ),
    ],
)  # fmt: skip
def test_a_label_is_judged_as_the_kind_it_says_it_is(
    findings: list[Finding], expected: list[tuple[str, str, str]]
) -> None:
    assert [(finding.pointer, finding.expected, finding.spec) for finding in findings] == expected


def test_a_label_of_no_known_kind_is_told_which_kinds_there_are() -> None:
    findings = label("hexagon", {"points": []})

    assert told(findings) == [
        (f"{AT}/type", "voxel or cuboid or ellipsoid or rectangle or ellipse or polyline or point or ruler", "")
    ]


def test_a_label_of_an_answer_may_be_of_a_kind_that_came_later() -> None:
    revision = {"creator": "a", "date": "2024-08-21T10:00:00Z", "description": "", "attributes": {}, "status": "draft"}
    series = {"seriesUid": "2.25.1", "labels": [{"type": "hexagon", "data": {"corners": 6}}]}
    case = {"caseId": "c", "projectId": "p", "tags": [], "domains": [], "revisions": [{**revision, "series": [series]}]}
    moments = {"createdAt": "2024-08-21T10:00:00Z", "updatedAt": "2024-08-21T10:00:00Z"}

    result = (
        contract("circus").operation("getCase").read(200, "application/json", json.dumps({**case, **moments}).encode())
    )

    assert [(finding.pointer, finding.kind, finding.severity) for finding in result.findings] == [
        ("/revisions/0/series/0/labels/0/type", "enum", "drift")
    ]


COMPOSED = Contract(
    {
        "openapi": "3.1.0",
        "info": {"title": "Composed", "version": "1", "x-isocenter": {"api": "composed", "dialect": 1}},
        "paths": {
            "/a": {
                "get": {
                    "operationId": "get",
                    "responses": {
                        "200": {
                            "description": "A.",
                            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Whole"}}},
                        }
                    },
                },
                "put": {
                    "operationId": "put",
                    "requestBody": {
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Whole"}}}
                    },
                    "responses": {"204": {"description": "Stored."}},
                },
            }
        },
        "components": {
            "schemas": {
                "Whole": {
                    "allOf": [
                        {"$ref": "#/components/schemas/Part"},
                        {"type": "object", "required": ["b"], "properties": {"b": {"type": "integer"}}},
                    ]
                },
                "Part": {"type": "object", "properties": {"a": {"type": "string", "x-known-values": ["x", "y"]}}},
            }
        },
    }
)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"a": "x", "b": 1}, []),
        ({"a": "z", "b": 1}, [("/a", "enum", "drift")]),
        ({"a": "x", "b": 1, "c": 1}, [("/c", "unknown", "drift")]),
        ({"a": "z", "b": 1, "c": 1}, [("/a", "enum", "drift"), ("/c", "unknown", "drift")]),
        ({"a": 5, "b": 1}, [("/a", "type", "breaking")]),
        ({"a": "x"}, [("/b", "missing", "breaking")]),
    ],
)
def test_a_mistake_in_a_composed_object_does_not_make_its_other_fields_unknown(
    body: Any, expected: list[tuple[str, str, str]]
) -> None:
    findings = COMPOSED.operation("get").read(200, "application/json", json.dumps(body).encode()).findings

    assert sorted((finding.pointer, finding.kind, finding.severity) for finding in findings) == expected


def test_a_value_that_answers_do_not_know_yet_may_be_sent() -> None:
    put = COMPOSED.operation("put")
    assert put.check({"body": {"a": "z", "b": 1}}) == []

    findings = put.check({"body": {"a": "z", "b": 1, "c": 1}})

    assert [(finding.pointer, finding.kind, finding.severity) for finding in findings] == [
        ("/body/c", "unknown", "breaking")
    ]


# -- rules ---------------------------------------------------------------------------------------------------------------

DATE_FORM = 'Write {"$date": "2024-01-31T00:00:00Z"}: plain text matches nothing.'
MOMENT = {"$date": "2024-01-31T00:00:00Z"}


@pytest.mark.parametrize(
    ("volume", "expected"),
    [
        ("auto", []),
        ({"start": 1, "end": 100, "delta": 1}, []),
        ({"start": 100, "end": 1, "delta": -3}, []),
        ({"start": 5, "end": 5, "delta": 1}, []),
        ({"start": 1, "end": 100, "delta": 0}, [("/delta", "Use 1 for ascending, -1 for descending images.")]),
        ({"start": 100, "end": 1, "delta": 1}, [("/delta", "Use -1, or exchange start and end.")]),
        ({"start": 1, "end": 100, "delta": 2}, [("/end", "Choose an end that a step reaches exactly.")]),
        ({"start": 5, "end": 5, "delta": -1}, [("/delta", "Use 1.")]),
    ],
)
def test_a_volume_must_be_made_of_whole_steps(volume: Any, expected: list[tuple[str, str]]) -> None:
    findings = refused("circus", "createCase", series=[{"seriesUid": "2.25.1", "partialVolumeDescriptor": volume}])

    assert [
        (finding.pointer.removeprefix("/series/0/partialVolumeDescriptor"), finding.repair) for finding in findings
    ] == expected
    assert {finding.kind for finding in findings} <= {"circus-volume-descriptor"}


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ({"createdAt": {"$gte": MOMENT}}, []),
        ({"patientInfo.age": {"$gte": 50}}, []),
        ({"tags": {"$regex": "^nod", "$options": "i"}}, []),
        ({"createdAt": {"$gte": "2024-01-31"}}, "/createdAt"),
        ({"createdAt": "2024-01-31"}, "/createdAt"),
        ({"$and": [{"tags": "a"}, {"updatedAt": {"$in": ["2024-01-31"]}}]}, "/$and/1/updatedAt"),
        ({"tags": {"$regex": "a", "$ne": "b"}}, "/tags"),
        ({"patientInfo.age": {"$gte": "50"}}, "/patientInfo.age"),
        ({"patientName": "x"}, "/patientName"),
    ],
)
def test_a_filter_that_would_match_nothing_is_refused(criteria: dict[str, Any], expected: Any) -> None:
    findings = refused("circus", "listCases", filter=criteria)

    assert all(finding.pointer.startswith(f"/filter{expected}") for finding in findings)
    assert bool(findings) == bool(expected)


def test_the_same_case_cannot_be_exported_twice_at_once() -> None:
    findings = refused("circus", "exportMhd", caseIds=["c1", "c2", {"caseId": "c1", "revisionIndex": 0}])

    assert told(findings) == [
        ("/caseIds/2", "each case once", "Export other revisions of the same case in requests of their own.")
    ]


def test_a_sort_key_is_a_field_name() -> None:
    assert [finding.pointer for finding in refused("circus", "listCases", sort={"$natural": 1})] == ["/sort/$natural"]
    assert [finding.pointer for finding in refused("circus", "listCases", sort={"createdAt": 2})] == ["/sort/createdAt"]
    assert refused("circus", "listCases", sort={"createdAt": -1}) == []


# -- many of one kind ----------------------------------------------------------------------------------------------------


def test_one_rule_broken_in_every_row_is_one_finding_with_a_count() -> None:
    search = contract("tcia").operation("getSeries")
    rows = [{"SeriesInstanceUID": f"2.25.{number}", "ImageCount": "3", "Color": "red"} for number in range(1, 1001)]

    findings = search.read(200, "application/json", json.dumps(rows).encode()).findings

    counted = {(finding.pointer, finding.kind): finding.count for finding in findings}
    assert counted[("/0/ImageCount", "type")] == 1000
    assert all(pointer.startswith("/0/") and count == 1000 for (pointer, _), count in counted.items())
    assert "(1000 places, this is the first)" in next(finding.sentence() for finding in findings)
    assert [finding.as_dict()["count"] for finding in findings] == [1000] * len(findings)


def test_a_finding_is_short_as_json() -> None:
    [finding] = refused("tcia", "getSeries", format="json")

    assert finding.as_dict() == {
        "pointer": "/format",
        "where": "query",
        "kind": "enum",
        "severity": "breaking",
        "expected": "one of JSON, HTML, XML, CSV, CSVQUOTED, CSV-DOWNLOAD",
        "given": "a string of 4 characters",
        "repair": "Did you mean JSON?",
        "spec": "tcia.yaml#/components/parameters/TableFormat/schema/enum",
    }
