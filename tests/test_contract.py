"""The five specifications against themselves, the seeds and recorded answers: every test runs for every operation there is."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isocenter.codegen.examples import AnswerExample, answers, calls
from isocenter.codegen.lint import lint
from isocenter.codegen.spec import read_spec
from isocenter.core import Contract, Finding, Operation
from isocenter.core.operation import is_json
from isocenter.core.schema import children, lookup, pointer, resolve, schemas_of
from isocenter.core.tool import curated
from isocenter_clients import APIS, contract
from isocenter_clients import tools as tool_table

ROOT = Path(__file__).parent.parent
WIRE = Path(__file__).parent / "wire"
CANARY = "Zaphod^Canary"  # a patient's name, for all a message knows
DOCUMENTS = {api: read_spec(ROOT / "openapi" / f"{api}.yaml") for api in APIS}

Located = tuple[Operation, AnswerExample]


def every_operation() -> list[Operation]:
    return [operation for api in APIS for operation in contract(api).operations.values()]


def named(operation: Operation) -> str:
    return f"{operation.contract.name}.{operation.id}"


def every_answer(*, of_json: bool = False) -> list[Any]:
    return [
        pytest.param(operation, example, id=f"{named(operation)}{example.spec}")
        for operation in every_operation()
        for example in answers(operation)
        if not of_json or (is_json(example.content.media_type) and not example.content.text)
    ]


def every_call() -> list[Any]:
    return [
        pytest.param(operation, arguments, id=f"{named(operation)} {name}")
        for operation in every_operation()
        for name, arguments in calls(operation)
    ]


def read(operation: Operation, example: AnswerExample, value: Any) -> tuple[Finding, ...]:
    body = json.dumps(value).encode()
    return operation.read(example.status, example.content.media_type, body).findings


def assert_repairable(findings: list[Finding] | tuple[Finding, ...], operation: Operation) -> None:
    """Each finding points into the document as it was written and keeps the value it complains about to itself."""
    for finding in findings:
        file, _, at = finding.spec.partition("#")
        assert file == operation.contract.file
        lookup(DOCUMENTS[operation.contract.name], at)
        assert CANARY not in str(finding.as_dict()) + finding.sentence()


# -- the documents -------------------------------------------------------------------------------------------------------


def test_the_specifications_are_valid_openapi_and_keep_the_dialect() -> None:
    assert lint(ROOT / "openapi") == []


@pytest.mark.parametrize("api", APIS)
def test_the_generated_contract_is_the_specification(api: str) -> None:
    assert contract(api).document == DOCUMENTS[api]


# -- examples ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("operation", "example"), every_answer())
def test_an_answer_of_the_specification_reads_back(operation: Operation, example: AnswerExample) -> None:
    if example.content.binary:
        answer = operation.answer(example.status)
        assert answer is not None
        assert operation.check_bytes(example.content, example.body[:132], len(example.body), answer) == []
        return

    result = operation.read(example.status, example.content.media_type, example.body)

    assert result.findings == ()
    assert result.data == example.value


@pytest.mark.parametrize(("operation", "arguments"), every_call())
def test_a_call_made_of_the_examples_builds_a_request(operation: Operation, arguments: dict[str, Any]) -> None:
    assert operation.check(arguments) == []

    request = operation.request("http://127.0.0.1:1/base", arguments)

    assert request.method == operation.method
    assert request.url.startswith("http://127.0.0.1:1/")
    assert "{" not in request.url
    has_body = (operation.body_required and operation.body_flat) or any(
        argument.where == "body" and argument.name in arguments for argument in operation.arguments.values()
    )
    assert (request.body is not None) == has_body
    assert request.headers.get("Content-Type", "").partition(";")[0] in (*operation.body_types, "")


def test_every_operation_and_every_documented_body_has_been_tried() -> None:
    tried = {
        (named(operation), example.status, example.content.media_type)
        for operation in every_operation()
        for example in answers(operation)
    }
    documented = {
        (named(operation), int(answer.status), content.media_type)
        for operation in every_operation()
        for answer in operation.answers.values()
        for content in answer.contents
    }
    assert documented == tried
    assert all(list(calls(operation)) for operation in every_operation())


# -- seeds and recordings ------------------------------------------------------------------------------------------------


SEEDS = [
    pytest.param(path.parent.name, entry, id=f"{path.parent.name}-{number}-{entry['title']}")
    for path in sorted(WIRE.glob("*/seed_examples.json"))
    for number, entry in enumerate(json.loads(path.read_bytes()))
]


@pytest.mark.parametrize(("api", "entry"), SEEDS)
def test_an_example_printed_in_a_seed_is_valid(api: str, entry: dict[str, Any]) -> None:
    own = contract(api)
    assert entry["operation"] in own.operations
    tree = "/x-asked" if entry.get("direction") == "request" else ""

    assert [error.message for error in own.judge(f"#{tree}{entry['pointer']}").iter_errors(entry["body"])] == []


RECORDINGS: list[dict[str, Any]] = json.loads((WIRE / "tcia" / "index.json").read_bytes())


def recorded(entry: dict[str, Any]) -> list[Any]:
    """The recorded rows in the form the service sent them, as far as the index says how a client changed them."""
    content = (WIRE / entry["api"] / entry["file"]).read_text(encoding="utf-8")
    if "at" in entry:
        content = lookup(json.loads(content), entry["at"])
    if entry["format"] == "csv":
        return csv_rows(content, len(entry["columns"]))
    rows: list[Any] = json.loads(content)
    assert len(rows) == entry["rows"]
    if "normalise" in entry:
        assert entry["normalise"] == "drop-null"
        rows = [{key: value for key, value in row.items() if value is not None} for row in rows]
    printed = entry.get("printed", {})
    if cut := printed.get("cut"):  # a printed table marks left out rows, left out columns and the ends of long texts
        rows = [row for row in rows if set(row.values()) != {cut}]
        rows = [{key: value for key, value in row.items() if cut not in (key, value)} for row in rows]
        for row in rows:
            row |= {key: value[: -len(cut)].rstrip(".") for key, value in row.items() if str(value).endswith(cut)}
    if names := printed.get("rename"):
        rows = [{names.get(key, key): value for key, value in row.items()} for row in rows]
    for row in rows if "types" in printed else ():
        for key, kind in printed["types"].items():
            if key in row:
                text = row[key] if isinstance(row[key], str) else json.dumps(row[key])
                row[key] = int(text) if kind == "integer" else text
    return rows


def csv_rows(content: str, columns: int) -> list[list[str]]:
    """Header and rows of the service's two kinds of CSV (see Formats in tcia.yaml)."""
    if columns == 1:  # lists of one column are not quoted at all
        return [[line] for line in content.splitlines()]
    readable = [
        line for line in content.splitlines() if not line.startswith('","')
    ]  # a missing first column breaks the row
    return list(csv.reader(readable))


@pytest.mark.parametrize("entry", RECORDINGS, ids=lambda entry: f"{entry['file']}{entry.get('at', '')}")
def test_a_recorded_answer_fits_the_contract(entry: dict[str, Any]) -> None:
    own = contract(entry["api"])
    assert entry["operation"] in own.operations or entry["generation"] != "v4"
    rows = recorded(entry)
    if "columns" in entry:
        header = rows[0] if entry["format"] == "csv" else list(rows[0])
        assert header == entry["columns"]
        if entry["format"] == "csv":
            assert {len(row) for row in rows} == {len(header)}
            assert len(rows) - 1 == entry.get("rows", len(rows) - 1)
            if entry["schema"]:
                schema = lookup(own.document, entry["schema"])
                assert [name for name in schema["properties"] if name in header] == header
        return

    for row in rows:
        for tree in ("", "/x-answered"):
            assert [error.message for error in own.judge(f"#{tree}{entry['schema'][1:]}").iter_errors(row)] == []


# -- tools ---------------------------------------------------------------------------------------------------------------


def test_names_that_some_hosts_refuse_are_told_in_words() -> None:
    tools = {tool.name: tool for tool in curated(contract("circus"), tool_table("circus"), "circus.tools.yaml")}

    shown = tools["search_cases"].input_schema["properties"]["filter"]

    assert "$and" not in shown["properties"]
    assert shown["description"].endswith("It also takes $and, $or.")
    assert shown["properties"]["createdAt"]["description"].endswith(
        "It also takes $date, $gt, $gte, $lt, $lte, $ne, $in, $all."
    )


# -- invalid calls -------------------------------------------------------------------------------------------------------


def wrong_values(operation: Operation, name: str) -> Iterator[Any]:
    """Values with the canary inside, each of another type."""
    yield from (CANARY, [CANARY], {"key": CANARY}, [[CANARY]], 271828182845.5)
    if operation.arguments[name].file:
        yield 7


@pytest.mark.parametrize("operation", every_operation(), ids=named)
def test_an_unknown_argument_is_refused(operation: Operation) -> None:
    _, arguments = next(calls(operation))

    findings = operation.check({**arguments, "no such argument": CANARY})

    assert [(finding.pointer, finding.kind, finding.severity) for finding in findings] == [
        ("/no such argument", "unknown", "breaking")
    ]
    assert_repairable(findings, operation)


REQUIRED = [
    pytest.param(operation, argument.name, id=f"{named(operation)}.{argument.name}")
    for operation in every_operation()
    for argument in operation.arguments.values()
    if argument.required
]


@pytest.mark.parametrize(("operation", "name"), REQUIRED)
def test_a_missing_argument_is_refused(operation: Operation, name: str) -> None:
    _, arguments = next(calls(operation))

    findings = operation.check({key: value for key, value in arguments.items() if key != name})

    assert [(finding.pointer, finding.kind) for finding in findings] == [(pointer([name]), "missing")]
    assert findings[0].where == operation.arguments[name].where
    assert_repairable(findings, operation)


ARGUMENTS = [
    pytest.param(operation, argument.name, id=f"{named(operation)}.{argument.name}")
    for operation in every_operation()
    for argument in operation.arguments.values()
]


@pytest.mark.parametrize(("operation", "name"), ARGUMENTS)
def test_a_value_of_the_wrong_type_is_refused_without_being_repeated(operation: Operation, name: str) -> None:
    _, arguments = next(calls(operation))
    refused = 0
    for value in wrong_values(operation, name):
        findings = operation.check({**arguments, name: value})
        refused += bool(findings)

        assert all(finding.pointer.startswith(pointer([name])) for finding in findings)
        assert all(finding.where == operation.arguments[name].where for finding in findings)
        assert "271828" not in str(findings)
        assert_repairable(findings, operation)
    assert refused >= 3


# -- answers that break or outgrow the contract --------------------------------------------------------------------------


def changes(value: Any, change: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """`(path, changed copy)` for every place of a JSON value at which `change(place)` gives something else to put there."""
    yield from ((at + below, new) for below, new in change(value))
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in pairs:
        for path, new in changes(child, change, (*at, key)):
            yield path, {**value, key: new} if isinstance(value, dict) else [*value[:key], new, *value[key + 1 :]]


def grown(value: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict):
        yield ("isocenterAddition",), {**value, "isocenterAddition": CANARY}


def shortened(value: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict):
        yield from (((key,), {other: kept for other, kept in value.items() if other != key}) for key in value)


def renamed(value: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, str):
        yield (), CANARY
    elif isinstance(value, int) and not isinstance(value, bool):
        yield (), 271828


@pytest.mark.parametrize(("operation", "example"), every_answer(of_json=True))
def test_an_added_field_is_drift_and_nothing_worse(operation: Operation, example: AnswerExample) -> None:
    judge, closed, _ = operation.contract.judges(example.content.schema)
    for path, body in changes(example.value, grown):
        findings = read(operation, example, body)
        if closed.is_valid(body):  # a map, or an object that may hold anything
            assert findings == ()
        elif judge.is_valid(body):
            kind = (
                "enum" if findings[0].spec.endswith("/x-known-values") else "unknown"
            )  # a map of known values grows too
            assert [(finding.pointer, finding.kind, finding.severity) for finding in findings] == [
                (pointer(path), kind, "drift")
            ]
        else:  # a map of something else
            assert any(finding.severity == "breaking" for finding in findings)
        assert_repairable(findings, operation)
    schema = lookup(operation.contract.document, example.content.schema)
    for path in declared_places(operation.contract, schema, example.value):
        assert not closed.is_valid(dict(changes(example.value, grown))[(*path, "isocenterAddition")])


def declared_places(own: Contract, schema: Any, value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the value has an object whose properties are declared and which says nothing of others; alternatives are left out."""
    schema, _ = resolve(own.document, schema, "")
    if isinstance(value, dict) and "properties" in schema:
        if "additionalProperties" not in schema:
            yield at
        for name, child in schema["properties"].items():
            if name in value:
                yield from declared_places(own, child, value[name], (*at, name))
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from declared_places(own, schema["items"], item, (*at, index))


@pytest.mark.parametrize(("operation", "example"), every_answer(of_json=True))
def test_a_missing_field_breaks_the_contract_where_it_is_required(operation: Operation, example: AnswerExample) -> None:
    judge, _, _ = operation.contract.judges(example.content.schema)
    for _, body in changes(example.value, shortened):
        findings = read(operation, example, body)

        assert any(finding.severity == "breaking" for finding in findings) != judge.is_valid(body)
        assert_repairable(findings, operation)
    for path in required_places(
        operation.contract, lookup(operation.contract.document, example.content.schema), example.value
    ):
        body = without(example.value, path)
        assert (pointer(path), "missing", "breaking") in [
            (finding.pointer, finding.kind, finding.severity) for finding in read(operation, example, body)
        ]


def required_places(own: Contract, schema: Any, value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the value has a property that every reading of the schema requires; alternatives are left out."""
    schema, _ = resolve(own.document, schema, "")
    if isinstance(value, dict):
        yield from ((*at, name) for name in schema.get("required", ()))
        for name, child in schema.get("properties", {}).items():
            if name in value:
                yield from required_places(own, child, value[name], (*at, name))
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from required_places(own, schema["items"], item, (*at, index))


def without(value: Any, path: tuple[Any, ...]) -> Any:
    head, *rest = path
    if not rest:
        return {key: kept for key, kept in value.items() if key != head}
    if isinstance(value, dict):
        return {**value, head: without(value[head], tuple(rest))}
    return [*value[:head], without(value[head], tuple(rest)), *value[head + 1 :]]


@pytest.mark.parametrize("api", APIS)
def test_a_value_that_is_not_known_yet_is_drift(api: str) -> None:
    own = contract(api)
    met: set[str] = set()
    for operation in own.operations.values():
        for example in answers(operation):
            if not is_json(example.content.media_type) or example.content.text:
                continue
            judge, _, _ = own.judges(example.content.schema)
            for path, body in changes(example.value, renamed):
                findings = read(operation, example, body)
                for finding in findings:
                    if finding.spec.endswith("/x-known-values"):
                        assert (finding.pointer, finding.kind, finding.severity) == (pointer(path), "enum", "drift")
                        met.add(finding.spec.partition("#")[2])
                assert any(finding.severity == "breaking" for finding in findings) != judge.is_valid(body)
                assert_repairable(findings, operation)
    assert met == known_values(DOCUMENTS[api])


def known_values(document: Any) -> set[str]:
    found: set[str] = set()

    def visit(schema: Any, at: str) -> None:
        if isinstance(schema, dict):
            if "x-known-values" in schema:
                found.add(f"{at}/x-known-values")
            for path, child in children(schema):
                visit(child, at + pointer(path))

    for path, holder, key in schemas_of(document):
        if "x-unused" not in holder[key]:
            visit(holder[key], pointer((*path, key)))
    return found


@pytest.mark.parametrize(("operation", "example"), every_answer())
def test_a_body_of_another_media_type_breaks_the_contract(operation: Operation, example: AnswerExample) -> None:
    result = operation.read(example.status, "application/x-unheard-of", example.body)

    assert [(finding.where, finding.kind, finding.severity) for finding in result.findings] == [
        ("content-type", "media-type", "breaking")
    ]
    assert_repairable(result.findings, operation)


@pytest.mark.parametrize("operation", every_operation(), ids=named)
def test_an_undocumented_status_is_told(operation: Operation) -> None:
    for status, severity in ((299, "breaking"), (418, "drift")):
        result = operation.read(status, "text/plain", b"short and stout")

        assert [(finding.where, finding.kind, finding.severity) for finding in result.findings] == [
            ("status", "status", severity)
        ]
        assert result.data == "short and stout"
        assert_repairable(result.findings, operation)


@pytest.mark.parametrize("operation", every_operation(), ids=named)
def test_an_answer_cut_short_breaks_the_contract(operation: Operation) -> None:
    bodies = [
        example for example in answers(operation) if is_json(example.content.media_type) and not example.content.text
    ]
    for example in bodies:
        result = operation.read(example.status, example.content.media_type, example.body[:-1])

        assert [(finding.kind, finding.severity) for finding in result.findings] == [("json", "breaking")]


# -- habits of the services ----------------------------------------------------------------------------------------------

SEARCHES = [
    operation for operation in every_operation() if any(answer.empty == [] for answer in operation.answers.values())
]


@pytest.mark.parametrize("operation", SEARCHES, ids=named)
def test_an_empty_body_stands_for_no_rows(operation: Operation) -> None:
    for media_type in ("application/json", "text/csv", "application/json;charset=UTF-8", ""):
        result = operation.read(200, media_type, b"")

        assert (result.data, result.findings) == ([], ())


def test_a_column_without_value_is_an_absent_key() -> None:
    search = contract("tcia").operation("getSeries")
    _, example = next(
        (example.status, example) for example in answers(search) if example.content.media_type == "application/json"
    )
    row = dict(example.value[0])
    del row["SeriesDescription"]
    assert read(search, example, [row]) == ()

    findings = read(search, example, [{**row, "SeriesDescription": None}])

    assert [(finding.pointer, finding.kind, finding.severity) for finding in findings] == [
        ("/0/SeriesDescription", "type", "breaking")
    ]


def test_a_plain_sentence_labelled_as_json_is_read_as_text() -> None:
    search = contract("tcia").operation("getSeries")
    sentence = "Invalid query parameter: 'Foo'. Allowed parameters are: [Collection, format]"
    for media_type in ("application/json", "application/xml"):
        result = search.read(400, media_type, sentence.encode())

        assert (result.data, result.findings) == (sentence, ())


def test_a_page_of_the_web_server_in_place_of_rows_breaks_the_contract() -> None:
    result = contract("tcia").operation("getSeries").read(200, "application/json", b"<html>maintenance</html>")

    assert [(finding.kind, finding.given) for finding in result.findings] == [("json", "an HTML page")]


def test_invalid_xray_results_are_a_success_of_their_own_status() -> None:
    results = contract("qure").operation("getResultsV2")
    example = next(example for example in answers(results) if example.status == 206)

    result = results.read(206, "application/json", example.body)

    assert result.data["usecase"] == "not_implemented"
    assert result.findings == ()
    answer = results.answer(206)
    assert answer is not None
    assert answer.success


def test_a_computation_that_was_queued_before_is_a_success_without_body() -> None:
    start = contract("qure").operation("startComputation")

    result = start.read(304, "", b"")

    assert (result.data, result.findings) == (None, ())
    answer = start.answer(304)
    assert answer is not None
    assert answer.success
