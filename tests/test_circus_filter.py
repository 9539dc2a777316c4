"""CIRCUS's search language, its JavaScript number reading, and its validator against recorded output of Ajv 6."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from isocenter.sandbox.circus import schemas as circus_schemas
from isocenter.sandbox.circus.cases import SEARCHABLE, is_valid_descriptor
from isocenter.sandbox.circus.filter import (
    EPOCH,
    Regex,
    check_filter,
    compile_filter,
    mentions_patient,
    parse_filter,
    parse_int,
    read_filter,
    read_page,
    search,
)
from isocenter.sandbox.circus.http import Accident, Refusal
from isocenter.sandbox.circus.series import decode_images, encode_images
from isocenter.sandbox.circus.validation import validate

WIRE = Path(__file__).parent / "wire" / "circus"


def day(number: int, month: int = 1) -> datetime:
    return datetime(2022, month, number, tzinfo=UTC)


DOCUMENTS: list[dict[str, Any]] = [
    {"caseId": "a", "tags": ["x", "y"], "patientInfo": {"age": 60, "patientName": "Anzu"}, "createdAt": day(1)},
    {"caseId": "b", "tags": ["y", "z"], "patientInfo": {"age": 45, "patientName": "Bell"}, "createdAt": day(2)},
    {"caseId": "c", "tags": [], "patientInfo": {"age": 70.5, "patientName": "anna"}, "createdAt": day(3)},
    {"caseId": "d", "tags": ["x"], "patientInfo": None, "createdAt": day(4)},
    {"caseId": "e", "tags": ["10"], "patientInfo": {}, "createdAt": day(1, 2)},
]


def ids(filter_: str) -> str:
    """The ids of the documents that a filter finds."""
    wanted = read_filter({"filter": [filter_]}, SEARCHABLE)
    matches = compile_filter(wanted)
    return "".join(document["caseId"] for document in DOCUMENTS if matches(document))


@pytest.mark.parametrize(
    ("filter_", "found"),
    [
        ("{}", "abcde"),
        ('{"caseId":"b"}', "b"),
        ('{"caseId":"b","caseId":"c"}', "c"),  # of duplicate keys the last one wins
        ('{"caseId":"b","tags":"x"}', ""),  # several keys mean AND
        ('{"tags":"x"}', "ad"),
        ('{"tags":{"$ne":"x"}}', "bce"),
        ('{"tags":{"$in":["x","z"]}}', "abd"),
        ('{"tags":{"$in":[]}}', ""),
        ('{"tags":{"$in":[{"$regex":"^[xz]"}]}}', "abd"),
        ('{"tags":{"$in":[["x"]]}}', "d"),  # an array equals as a whole
        ('{"tags":{"$all":["x","y"]}}', "a"),
        ('{"tags":{"$all":[]}}', ""),
        ('{"tags":{"$all":["y"],"$ne":"x"}}', "b"),
        ('{"tags":{"$gt":"x"}}', "ab"),
        ('{"tags":{}}', ""),  # an empty object passes and matches nothing
        ('{"tags":10}', ""),  # types must agree
        ('{"tags":true}', ""),
        ('{"patientInfo.age":{"$gte":50}}', "ac"),
        ('{"patientInfo.age":{"$gte":45,"$lt":61}}', "ab"),
        ('{"patientInfo.age":60.0}', "a"),
        ('{"patientInfo.age":{"$numberLong":"60"}}', "a"),
        ('{"patientInfo.age":{"$numberDouble":"70.5"}}', "c"),
        ('{"patientInfo.age":{"$gte":"50"}}', ""),
        ('{"patientInfo.age":{"$ne":60}}', "bcde"),
        ('{"patientInfo.age":{"$in":[null]}}', "de"),  # what is missing counts as null
        ('{"patientInfo.age":true}', ""),
        ('{"patientInfo.patientName":{"$regex":"^An"}}', "a"),
        ('{"patientInfo.patientName":{"$regex":"^an","$options":"i"}}', "ac"),
        ('{"patientInfo.patientName":{"$regex":"^an","$options":"isi"}}', "ac"),
        ('{"patientInfo.patientName":{"$regex":"^An","$ne":"Anzu"}}', "a"),  # the operator beside it is dropped
        ('{"patientInfo.patientName":{"$regularExpression":{"pattern":"L+$","options":"i"}}}', "b"),
        ('{"patientInfo.patientName":{"$regex":"^(?!An)"}}', "bc"),
        ('{"createdAt":{"$gte":{"$date":"2022-01-03"}}}', "cde"),
        ('{"createdAt":{"$date":"2022-01-03T09:00:00+09:00"}}', "c"),
        ('{"createdAt":{"$gt":{"$date":1641168000000}}}', "de"),
        ('{"createdAt":{"$gte":"2022-01-03"}}', ""),  # a plain text is no date
        ('{"$or":[{"caseId":"a"},{"tags":"z"}]}', "ab"),
        ('{"$and":[{"$or":[{"caseId":"a"},{"caseId":"b"}]},{"tags":"z"}]}', "b"),
        ('{"$or":[{"caseId":"a"}],"tags":"z"}', ""),
        ('{"$and":[{}]}', "abcde"),
    ],
)
def test_filters_find(filter_: str, found: str) -> None:
    assert ids(filter_) == found


@pytest.mark.parametrize(
    ("filter_", "error"),
    [
        ("invalid", "Invalid JSON was passed as a filter string"),
        ('{"tags":NaN}', "Invalid JSON was passed as a filter string"),
        ('{"caseId":{"$oid":"nope"}}', "Invalid JSON was passed as a filter string"),
        ('{"tags":{"$regex":"a","$options":"q"}}', "Invalid JSON was passed as a filter string"),
        ('{"tags":{"$regularExpression":5}}', "Invalid JSON was passed as a filter string"),
        ("[" * 100_000, "Invalid JSON was passed as a filter string"),
        *(
            (text, "Bad filter.")
            for text in (
                "null",
                "[]",
                "5",
                '"x"',
                '{"$regex":"x"}',
                '{"tags":null}',
                '{"tags":["x"]}',
                '{"tags":{"$eq":"x"}}',
                '{"tags":{"$nin":["x"]}}',
                '{"tags":{"$not":{"$gt":1}}}',
                '{"tags":{"$exists":true}}',
                '{"tags":{"$size":1}}',
                '{"tags":{"$elemMatch":{}}}',
                '{"tags":{"$type":"string"}}',
                '{"tags":{"$gt":null}}',
                '{"tags":{"$gt":[1]}}',
                '{"tags":{"$in":"x"}}',
                '{"tags":{"$options":"i"}}',
                '{"$nor":[{"tags":"x"}]}',
                '{"$and":{"tags":"x"}}',
                '{"$or":[1]}',
                '{"$or":[{"domains":"d1"}]}',
                '{"domains":"d1"}',
                '{"latestRevision.status":"draft"}',
                '{"addedToListAt":{"$date":0}}',
                '{"caseId":{"$oid":"0123456789abcdef01234567"}}',
                '{"caseId":{"$numberDecimal":"1"}}',
            )
        ),
        *(
            (text, "Invalid query")
            for text in (
                '{"$and":[]}',
                '{"$or":[]}',
                '{"$and":[{"$or":[]}]}',
                '{"tags":{"$in":[{"$gt":1}]}}',
                '{"tags":{"$all":[{"$elemMatch":{}}]}}',
                '{"tags":{"$ne":{"$regex":"x"}}}',
                '{"tags":{"$gt":{"$regex":"x"}}}',
            )
        ),
    ],
)
def test_filters_refused(filter_: str, error: str) -> None:
    with pytest.raises(Refusal, match=error) as refused:
        ids(filter_)
    assert refused.value.status == 400


@pytest.mark.parametrize("pattern", ["(", "[a", "*a", "a{2,1}", "(x{1000}){1000}"])
def test_a_regex_that_is_none_is_an_accident(pattern: str) -> None:
    with pytest.raises(Accident) as accident:
        ids(json.dumps({"tags": {"$regex": pattern}}))
    assert accident.value.usual.status == 500
    assert accident.value.strict.status == 400


@pytest.mark.parametrize("pattern", ["^(a+)+$", "(a|a)*$", r"^(a+)+\1$", "^(?=(a+)+b)"])
def test_no_regex_takes_long(pattern: str) -> None:
    matches = compile_filter({"tags": Regex(pattern, "")})
    started = time.perf_counter()
    matches({"tags": ["a" * 4000 + "!"]})
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2022-01-02T03:04:05.678Z", datetime(2022, 1, 2, 3, 4, 5, 678000, UTC)),
        ("2022-01-02T03:04:05", datetime(2022, 1, 2, 3, 4, 5, 0, UTC)),
        ("2022-01-02T03:04-05:00", datetime(2022, 1, 2, 8, 4, 0, 0, UTC)),
        ("2022-01-02 03:04", datetime(2022, 1, 2, 3, 4, 0, 0, UTC)),
        ("2022", datetime(2022, 1, 1, tzinfo=UTC)),
        ("2022-13-01", EPOCH),
        ("soon", EPOCH),
        (1000, datetime(1970, 1, 1, 0, 0, 1, 0, UTC)),
        (1e300, EPOCH),
    ],
)
def test_dates(text: Any, moment: datetime) -> None:
    assert parse_filter(json.dumps({"createdAt": {"$date": text}})) == {"createdAt": moment}


def test_patient_keys_are_seen_at_any_depth() -> None:
    assert mentions_patient({"$or": [{"tags": "x"}, {"$and": [{"patientInfo.age": 5}]}]})
    assert not mentions_patient({"$or": [{"tags": "patientInfo.age"}], "caseId": "x"})
    assert check_filter({"patientInfo.age": 5}, SEARCHABLE)


@pytest.mark.parametrize(
    ("text", "number"),
    [("2.9", 2), ("3abc", 3), (" 7", 7), ("-4", -4), ("+5", 5), ("0x10", 0), ("1e3", 1), ("", None), ("abc", None)],
)
def test_numbers_are_read_like_javascript(text: str, number: int | None) -> None:
    assert parse_int(text) == number


@pytest.mark.parametrize(
    ("query", "found", "number"),
    [
        ({}, "edcba", 1),
        ({"limit": ["2"]}, "ed", 1),
        ({"limit": ["2"], "page": ["2"]}, "cb", 2),
        ({"limit": ["2"], "page": ["3"]}, "a", 3),
        ({"limit": ["2"], "page": ["9"]}, "", 9),
        ({"limit": ["2", "1"], "page": ["1", "2"]}, "ed", 1),
        ({"limit": ["2"], "page": ["x"]}, "ed", None),
        ({"limit": ["2"], "page": [""]}, "ed", 1),
        ({"limit": ["0"]}, "edcba", 1),
        ({"limit": ["0"], "page": ["0"]}, "edcba", 0),
        ({"limit": ["all"], "page": ["5"]}, "edcba", 5),
        ({"limit": [""]}, "edcba", 1),
        ({"limit": ["200"]}, "edcba", 1),
        ({"sort": ["{}"]}, "abcde", 1),
        ({"sort": [""]}, "edcba", 1),
        ({"sort": ['{"caseId":1}']}, "abcde", 1),
        ({"sort": ['{"tags":1,"caseId":1}']}, "ceadb", 1),  # nothing, then the smallest member
        ({"sort": ['{"tags":-1,"caseId":1}']}, "badec", 1),  # the largest member
        ({"sort": ['{"patientInfo.age":1,"caseId":-1}']}, "edbac", 1),  # what is missing comes first
        ({"sort": ['{"patientInfo":-1,"caseId":-1}']}, "cabed", 1),
        ({"sort": ['{"unknown":1}']}, "abcde", 1),
    ],
)
def test_paging_and_sorting(query: dict[str, list[str]], found: str, number: int | None) -> None:
    page = read_page(query, {"createdAt": -1})
    items, total = search(DOCUMENTS, lambda _: True, page)
    assert ("".join(item["caseId"] for item in items), total, page.number) == (found, 5, number)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"limit": ["201"]}, "You cannot query more than 200 items at a time."),
        ({"sort": ["x"]}, "Bad sort parameter. Invalid JSON."),
        ({"sort": ["[]"]}, "Bad sort parameter. Non-object passed."),
        ({"sort": ["null"]}, "Bad sort parameter. Non-object passed."),
        ({"sort": ['{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1}']}, "Bad sort parameter. Too many sort keys."),
        ({"sort": ['{"a":11}']}, "Bad sort parameter. Invalid key/value pair."),
        ({"sort": ['{"a":true}']}, "Bad sort parameter. Invalid key/value pair."),
        ({"sort": ['{"a":"1"}']}, "Bad sort parameter. Invalid key/value pair."),
    ],
)
def test_paging_refused(query: dict[str, list[str]], error: str) -> None:
    with pytest.raises(Refusal) as refused:
        read_page(query, {"createdAt": -1})
    assert (refused.value.status, refused.value.body) == (400, {"error": error})


@pytest.mark.parametrize(
    "query",
    [
        {"limit": ["-1"]},
        {"page": ["0"]},
        {"page": ["-2"]},
        {"page": ["9" * 30]},
        {"sort": ['{"":1}']},
        {"sort": ['{"$x":1}']},
        {"sort": ['{"a..b":1}']},
    ],
)
def test_paging_accidents(query: dict[str, list[str]]) -> None:
    with pytest.raises(Accident):
        search(DOCUMENTS, lambda _: True, read_page(query, {"createdAt": -1}))


@pytest.mark.parametrize(
    "query", [{"limit": ["0"]}, {"limit": ["x"]}, {"limit": ["-1"]}, {"page": ["x"]}, {"page": ["0"]}]
)
def test_strict_paging(query: dict[str, list[str]]) -> None:
    with pytest.raises(Refusal) as refused:
        read_page(query, {"createdAt": -1}, strict=True)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("text", "numbers"), [("1-3,5", [1, 2, 3, 5]), ("7", [7]), ("0,10-12", [0, 10, 11, 12]), ("", [])]
)
def test_image_numbers(text: str, numbers: list[int]) -> None:
    assert decode_images(text) == numbers
    assert encode_images(reversed(numbers)) == text


@pytest.mark.parametrize(
    ("start", "end", "delta", "valid"),
    [
        (1, 10, 1, True),
        (10, 1, -1, True),
        (1, 9, 2, True),
        (5, 5, 1, True),
        (5, 5, 3, True),
        (5, 5, -1, False),
        (1, 10, 2, False),
        (1, 10, -1, False),
        (10, 1, 1, False),
        (0, 10, 1, False),
        (1, 10, 0, False),
        (1, 10, None, False),
        (1.5, 10, 1, False),
        (1, 10, 0.5, False),
    ],
)
def test_partial_volumes(start: Any, end: Any, delta: Any, valid: bool) -> None:
    assert is_valid_descriptor({"start": start, "end": end, "delta": delta}) == valid


def recorded() -> list[Any]:
    lines = (WIRE / "ajv6.jsonl").read_text(encoding="utf-8").splitlines()
    return [pytest.param(json.loads(line), id=f"{number}") for number, line in enumerate(lines, 1)]


@pytest.mark.parametrize("case", recorded())
def test_the_validator_reports_what_ajv_6_reports(case: dict[str, Any]) -> None:
    """`ajv6.jsonl` holds values judged by Ajv 6.15 (allErrors) with the very schemas of `circus_schemas`."""
    schema = getattr(circus_schemas, case["schema"])
    assert validate(schema, case["value"], circus_schemas.DEFINITIONS) == case["errors"]
