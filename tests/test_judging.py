"""The fast judge is the strict judge: formats as expressions, one look where one is enough, repeats told once."""

from __future__ import annotations

import datetime
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from isocenter.core import Contract, Finding
from isocenter.core.formats import FORMATS, KEYWORDS


def read(schema: dict[str, Any], data: Any) -> tuple[Finding, ...]:
    """What is found in an answer that should fit a schema."""
    media = {"application/json": {"schema": schema}}
    get = {"operationId": "get", "responses": {"200": {"description": "x", "content": media}}}
    document = {"openapi": "3.1.0", "info": {"title": "T", "version": "1"}, "paths": {"/": {"get": get}}}
    return Contract(document).operation("get").read(200, "application/json", msgspec.json.encode(data)).findings


ORDERS = {"us-date": "%m-%d-%Y", "slash-date": "%Y/%m/%d", "euro-slash-date": "%d/%m/%Y", "dicom-date": "%Y%m%d"}


@pytest.mark.parametrize("name", ORDERS)
def test_dates_are_real_days_and_nothing_else(name: str) -> None:
    judge = jsonschema_rs.validator_for(KEYWORDS[name])
    for year in (0, 1, 4, 100, 400, 1582, 1900, 1999, 2000, 2023, 2024, 2100, 2400, 9999):
        for month in range(14):
            for day in range(33):
                try:
                    real = bool(datetime.date(year, month, day))
                except ValueError:
                    real = False
                parts = {"%Y": f"{year:04}", "%m": f"{month:02}", "%d": f"{day:02}"}
                text = ORDERS[name]
                for code, part in parts.items():
                    text = text.replace(code, part)
                assert FORMATS[name](text) is judge.is_valid(text) is real, text


@pytest.mark.parametrize(
    ("name", "text", "fits"),
    [
        ("dicom-uid", "1.2.840.10008.1.1", True),
        ("dicom-uid", "2.25.0", True),
        ("dicom-uid", "1." + "2" * 62, True),
        ("dicom-uid", "1." + "2" * 63, False),
        ("dicom-uid", "1.02", False),
        ("dicom-uid", "1..2", False),
        ("dicom-uid", "1.2.", False),
        ("dicom-uid", "", False),
        ("dicom-uid", "1.2\n", False),
        ("dicom-uid", "1.\u0662", False),
        ("us-date", "1-31-2024", False),
        ("us-date", "01-31-2024\n", False),
        ("us-date", "\u0660\u0661-31-2024", False),
        ("sha1", "0123456789abcdef0123456789abcdef01234567", True),
        ("sha1", "0123456789ABCDEF0123456789abcdef01234567", False),
        ("sha1", "0123456789abcdef0123456789abcdef0123456", False),
    ],
)
def test_formats_are_the_same_for_both_engines(name: str, text: str, fits: bool) -> None:
    assert FORMATS[name](text) is jsonschema_rs.validator_for(KEYWORDS[name]).is_valid(text) is fits


def test_a_form_that_only_fits_when_closed_does_not_fit() -> None:
    forms = [{"properties": {"a": {"type": "integer"}}}, {"properties": {"a": {"type": "integer"}, "b": {}}}]

    findings = read({"type": "object", "oneOf": [{"type": "object", **form} for form in forms]}, {"a": 1, "b": 2})

    assert [finding.severity for finding in findings] == ["breaking"]


def test_a_broken_format_is_told_as_the_format() -> None:
    (finding,) = read({"type": "string", "format": "us-date"}, "2024-01-31")

    assert (finding.kind, finding.severity) == ("format", "breaking")
    assert "MM-DD-YYYY" in finding.expected


@pytest.mark.parametrize("name", ["7", "07", "+7", "-7", "7.0", "a/b"])
def test_a_property_may_have_any_name(name: str) -> None:
    schema = {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": {"type": "integer"}}}

    (finding,) = read(schema, {name: {name: "x"}})

    assert finding.given == "a string of 1 character"


def test_a_rule_broken_in_every_row_is_told_once_and_counted() -> None:
    rows = [{"id": number, "new": 1} for number in range(500)]
    schema = {"type": "array", "items": {"type": "object", "properties": {"id": {"type": "string"}}}}

    (finding,) = read(schema, rows)

    assert (finding.pointer, finding.kind, finding.count) == ("/0/id", "type", 500)


def test_an_addition_never_hides_a_break() -> None:
    known = {"type": "object", "additionalProperties": {"enum": ["a", "b"]}}
    many = {f"name-{number}x": "new" for number in range(500)}

    findings = read({"type": "array", "items": known}, [{"k": "new"}, many, {"k": 5}])

    assert [finding.pointer for finding in findings if finding.severity == "breaking"] == ["/2/k"]
    assert len(findings) == 201
