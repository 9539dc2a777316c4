"""Generated models against the judge: what the schema accepts, the model accepts, and gives back unchanged."""

from __future__ import annotations

import datetime
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import TypeAdapter

from isocenter.codegen.examples import AnswerExample, answers
from isocenter.codegen.generate import render_stranger, write
from isocenter.codegen.models import class_name, snake
from isocenter.core import Contract, Operation
from isocenter.core.api import Shape
from isocenter.core.operation import is_json
from isocenter.core.schema import lookup
from isocenter_clients import APIS, contract

SPECS = Path(__file__).parent / "specs"

# Values of every JSON type, and the texts that some type of Python would like to be.
PALETTE: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 2.0, "", "x", "1", "true", [], [None], {}, {"a": 1}, {"x": 1.0}, "ü" * 70, "a1", "Ä"),
    *("2024-02-30", "2024-02-29", "2024-02-29T10:00:00Z", "2024-02-29t10:00:00.123456789+01:00", "10:00:00Z", "P1D"),
    *("2.25.1", "123e4567-e89b-12d3-a456-426614174000", "123E4567-E89B-12D3-A456-426614174000", "http://a"),
)


def mutants(value: Any) -> Iterator[Any]:
    """The value with one thing changed: another value, a member less, a member more, something twice."""
    yield from PALETTE
    if isinstance(value, dict):
        yield {**value, "added": 1}
        for key, child in value.items():
            yield {other: kept for other, kept in value.items() if other != key}
            yield from ({**value, key: changed} for changed in mutants(child))
    elif isinstance(value, list):
        yield value + value
        for index, child in enumerate(value[:2]):
            yield value[:index] + value[index + 1 :]
            yield from ([*value[:index], changed, *value[index + 1 :]] for changed in mutants(child))


def normal(value: Any) -> Any:
    """JSON with moments, times and UUIDs in one spelling."""
    if isinstance(value, dict):
        return {key: normal(child) for key, child in value.items()}
    if isinstance(value, list):
        return [normal(child) for child in value]
    if isinstance(value, str) and "T" in value:
        try:
            return datetime.datetime.fromisoformat(value).astimezone(datetime.UTC).isoformat()
        except ValueError:
            return value
    return value


def dumped(typed: Any) -> Any:
    return TypeAdapter(Any).dump_python(typed, mode="json", by_alias=True, exclude_unset=True)


def shape(operation: Operation) -> Shape[Any]:
    client = importlib.import_module(f"isocenter_clients.{APIS[operation.contract.name]}.client")
    found = getattr(client, f"_{snake(operation.id).upper()}")
    assert isinstance(found, Shape)
    return found


SUCCESSES = [
    pytest.param(operation, example, id=f"{api}.{operation.id}{example.spec}")
    for api in APIS
    for operation in contract(api).operations.values()
    for example in answers(operation)
    if operation.answers[str(example.status)].success
    and is_json(example.content.media_type)
    and not example.content.text
]


@pytest.mark.parametrize(("operation", "example"), SUCCESSES)
def test_the_model_of_an_answer_gives_the_same_json_back(operation: Operation, example: AnswerExample) -> None:
    typed = shape(operation)(example.value, example.status)

    assert normal(dumped(typed)) == normal(example.value)


@pytest.mark.parametrize(("operation", "example"), SUCCESSES)
def test_the_model_accepts_whatever_the_schema_accepts(operation: Operation, example: AnswerExample) -> None:
    judge, _, _ = operation.contract.judges(example.content.schema)
    build = shape(operation)

    accepted = [mutant for mutant in mutants(example.value) if judge.is_valid(mutant)]

    for mutant in accepted:
        build(mutant, example.status)


def alternatives(operation: Operation, example: AnswerExample) -> list[str]:
    """The named objects that an answer may be; empty where one of them is something else."""
    document = operation.contract.document
    schema = lookup(document, example.content.schema)
    references = [option.get("$ref", "#") for option in schema.get("oneOf", [schema])]
    return references if all("properties" in lookup(document, reference) for reference in references) else []


NAMED = [case for case in SUCCESSES if alternatives(*case.values)]  # type: ignore[arg-type]  # as parametrised above


@pytest.mark.parametrize(("operation", "example"), NAMED)
def test_the_class_of_an_answer_is_the_alternative_that_the_schema_chose(
    operation: Operation, example: AnswerExample
) -> None:
    references = alternatives(operation, example)
    [chosen] = [reference for reference in references if operation.contract.judge(reference).is_valid(example.value)]

    typed = shape(operation)(example.value, example.status)

    assert type(typed).__name__ == class_name(chosen.rpartition("/")[2])


PLANE = {"min": [0, 0], "max": [1, 1], "z": 2}
SOLID = {"min": [0, 0, 0], "max": [1, 1, 1]}
LABELS = {
    "voxel": ("VoxelLabel", {"voxels": None}),
    "cuboid": ("CuboidLabel", SOLID),
    "ellipsoid": ("EllipsoidLabel", SOLID),
    "rectangle": ("RectangleLabel", PLANE),
    "ellipse": ("EllipseLabel", PLANE),
    "polyline": ("PolylineLabel", {"points": [[0, 0], [1, 1]], "z": 2}),
    "point": ("PointLabel", {"location": [0, 0, 0]}),
    "ruler": ("RulerLabel", {"section": {}, "start": [0, 0, 0], "end": [1, 1, 1]}),
    "hexagon": ("OtherLabel", {"corners": 6}),
}


@pytest.mark.parametrize("kind", LABELS)
def test_a_label_is_read_as_the_kind_it_says_it_is(kind: str) -> None:
    operation = contract("circus").operation("getCase")
    case = next(example.value for example in answers(operation) if example.status == 200)
    expected, data = LABELS[kind]
    series = {"seriesUid": "2.25.1", "labels": [{"type": kind, "data": data}]}
    case = {**case, "revisions": [{**case["revisions"][0], "series": [series]}]}

    typed = shape(operation)(case, 200)

    label = typed.revisions[0].series[0].labels[0]
    assert (type(label).__name__, label.type) == (expected, kind)


# -- constructs that no specification of ours has ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def constructs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    folder = tmp_path_factory.mktemp("constructs")
    name, files = render_stranger(SPECS / "constructs.yaml")
    write({f"{name}/{path}": content for path, content in files.items()}, folder, remove_others=False)
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module(f"{name}.client")
    finally:
        sys.path.remove(str(folder))
        for module in [module for module in sys.modules if module == name or module.startswith(f"{name}.")]:
            del sys.modules[module]


def everything(client: ModuleType) -> tuple[Contract, AnswerExample]:
    own: Contract = client.load()
    return own, next(answers(own.operation("getEverything")))


def test_odd_constructs_keep_every_value(constructs: ModuleType) -> None:
    own, example = everything(constructs)
    assert own.operation("getEverything").read(200, "application/json", example.body).findings == ()

    typed = constructs._GET_EVERYTHING(example.value, 200)

    assert normal(dumped(typed)) == normal(example.value)
    assert typed.strict.class_ == "a"
    assert typed.animal.tricks == ["sit"]
    assert typed.big == 9007199254740993


def test_the_model_of_odd_constructs_accepts_whatever_the_schema_accepts(constructs: ModuleType) -> None:
    own, example = everything(constructs)
    judge, _, _ = own.judges(example.content.schema)

    accepted = [mutant for mutant in mutants(example.value) if judge.is_valid(mutant)]

    assert len(accepted) > 300
    for mutant in accepted:
        constructs._GET_EVERYTHING(mutant, 200)
