"""From specifications to packages: current, reproducible, importable, and refused with a place where they cannot be."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import yaml

from isocenter.codegen.generate import Files, differences, render_all, render_stranger, write
from isocenter.codegen.lint import EXTENSIONS, lint
from isocenter.codegen.spec import read
from isocenter.core import Credentials, InvalidRequest, InvalidSpec
from isocenter_clients import APIS

ROOT = Path(__file__).parent.parent
SPECS = Path(__file__).parent / "specs"


@pytest.fixture(scope="module")
def rendered() -> Files:
    started = time.monotonic()
    files = render_all(ROOT / "openapi")
    print(
        f"\nrendered {len(APIS)} APIs, {sum(map(len, files.values())) >> 10} KiB, in {time.monotonic() - started:.1f} s"
    )
    return files


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A second run, with one API more."""
    openapi = tmp_path_factory.mktemp("grown") / "openapi"
    shutil.copytree(ROOT / "openapi", openapi)
    for name in ("worklist.yaml", "worklist.tools.yaml"):
        shutil.copy(SPECS / name, openapi / name)
    return render_all(openapi)


@pytest.fixture
def importable(tmp_path: Path) -> Iterator[Callable[[str, Files], ModuleType]]:
    """Writes a package below a temporary folder and imports it; forgets it afterwards."""
    imported: list[str] = []

    def load(name: str, files: Files) -> ModuleType:
        write({f"{name}/{path}": content for path, content in files.items()}, tmp_path, remove_others=False)
        imported.append(name)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    sys.path.insert(0, str(tmp_path))
    yield load
    sys.path.remove(str(tmp_path))
    for module in [module for module in sys.modules if module.partition(".")[0] in imported]:
        del sys.modules[module]


class Wire:
    """A transport that keeps what was sent and answers with one response."""

    def __init__(self, response: httpx.Response) -> None:
        self.requests: list[httpx.Request] = []
        self.transport = httpx.MockTransport(self.answer)
        self._response = response

    async def answer(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.requests.append(request)
        return self._response


# -- the repository ------------------------------------------------------------------------------------------------------


def test_the_generated_package_is_current(rendered: Files) -> None:
    assert differences(rendered, ROOT / "generated" / "isocenter_clients") == []


def test_a_second_run_gives_the_same_bytes(rendered: Files, grown: Files) -> None:
    assert {name: grown[name] for name in rendered if name != "__init__.py"} == {
        name: content for name, content in rendered.items() if name != "__init__.py"
    }


def test_edits_orphans_and_missing_files_are_found_and_repaired(rendered: Files, tmp_path: Path) -> None:
    write(rendered, tmp_path, remove_others=True)
    assert differences(rendered, tmp_path) == []
    (tmp_path / "qure" / "client.py").write_text("edited\n", encoding="utf-8")
    (tmp_path / "tcia" / "models.py").unlink()
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "client.py").write_text("left over\n", encoding="utf-8")
    (tmp_path / "gone" / "__pycache__").mkdir()
    (tmp_path / "gone" / "__pycache__" / "client.cpython-311.pyc").write_bytes(b"compiled")
    (tmp_path / "tcia" / "__pycache__").mkdir()
    (tmp_path / "tcia" / "__pycache__" / "client.cpython-311.pyc").write_bytes(b"compiled")

    found = differences(rendered, tmp_path)

    assert [line.partition(":")[0].partition("\n")[0] for line in found] == [
        "gone/client.py",
        "--- a/qure/client.py",
        "tcia/models.py",
    ]
    assert sorted(write(rendered, tmp_path, remove_others=True)) == [
        "gone/client.py",
        "qure/client.py",
        "tcia/models.py",
    ]
    assert differences(rendered, tmp_path) == []
    assert not (tmp_path / "gone").exists()
    assert (tmp_path / "tcia" / "__pycache__" / "client.cpython-311.pyc").exists()


@pytest.mark.anyio
async def test_an_api_is_two_files_and_one_command(
    rendered: Files, grown: Files, importable: Callable[[str, Files], ModuleType]
) -> None:
    assert {name.partition("/")[0] for name in grown.keys() - rendered.keys()} == {"worklist"}
    package = importable("six_clients", grown)
    assert package.APIS == {**APIS, "worklist": "worklist"}
    assert package.tools("worklist")["tools"].keys() == {"list_steps", "cancel_step"}
    client = importlib.import_module("six_clients.worklist").WorklistClient
    wire = Wire(httpx.Response(200, json=[{"stepId": "S-1", "modality": "CT"}]))
    async with client(transport=wire.transport, credentials=Credentials({"token": "secret-token"})) as worklist:
        result = await worklist.list_steps(day="2024-08-21")
        with pytest.raises(InvalidRequest):
            await worklist.list_steps(day="21.08.2024")
    assert [(step.step_id, step.modality) for step in result.value] == [("S-1", "CT")]
    assert result.findings == ()
    [request] = wire.requests
    assert str(request.url) == "https://worklist.example/api/steps?day=2024-08-21"
    assert request.headers["authorization"] == "Bearer secret-token"


# -- refusals ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mistake:
    """A change of the worklist's two files (None takes something away), what must be said about it, and where if not there."""

    at: str
    value: Any
    said: str
    place: str | None = None
    file: str = "worklist.yaml"

    @property
    def expected(self) -> str:
        above = self.at.rpartition("/")[0] if self.value is None else self.at
        return f"{self.file}#{above if self.place is None else self.place}: {self.said}"


def with_mistake(mistake: Mistake, folder: Path) -> Path:
    for name in ("worklist.yaml", "worklist.tools.yaml"):
        document = read(SPECS / name)
        if name == mistake.file:
            *above, last = [part.replace("~1", "/").replace("~0", "~") for part in mistake.at.split("/")[1:]]
            node = document
            for key in above:
                node = node[int(key)] if isinstance(node, list) else node.setdefault(key, {})
            if mistake.value is None:
                del node[last]
            elif isinstance(node, list):
                node[int(last)] = mistake.value
            else:
                node[last] = mistake.value
        (folder / name).write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return folder


LIST = "/paths/~1steps/get"
STEP = "/components/schemas/Step"
CANCEL = "/paths/~1steps~1{stepId}/delete"
OK = f"{LIST}/responses/200"
DAY = f"{LIST}/parameters/0"
TOOLS = "worklist.tools.yaml"
GONE = {"$ref": "#/components/schemas/Gone"}
NO_OBJECT = {"content": {"multipart/form-data": {"schema": {"type": "string"}}}}

REFUSED = (
    Mistake("/openapi", "2.0", "only OpenAPI 3.0 and 3.1 are understood, this says 2.0"),
    Mistake(f"{STEP}/properties/stepId", GONE, "reference #/components/schemas/Gone leads nowhere in this document"),
    Mistake(DAY, {"$ref": "#/components/parameters/Day"}, "reference #/components/parameters/Day leads nowhere"),
    Mistake(f"{CANCEL}/parameters", [], "path parameter stepId is not declared", CANCEL),
    Mistake(DAY, {"name": "q", "in": "query", "content": {"text/xml": {}}}, "a parameter with content text/xml cannot be"),
    Mistake(DAY, {"name": "q", "in": "query"}, "a parameter needs a schema or content"),
    Mistake(DAY, {"name": "q", "in": "formData", "schema": {}}, "parameters in 'formData' are unknown"),
    Mistake(f"{LIST}/requestBody", NO_OBJECT, "a multipart body", f"{LIST}/requestBody/content/multipart~1form-data/schema"),
    Mistake(f"{CANCEL}/operationId", "listSteps", "operationId listSteps is used twice", CANCEL),
    Mistake("/tools/list_steps/operation", "listStep", "'listStep' is no operation of worklist.yaml", file=TOOLS),
    Mistake("/tools/cancel_step/effect", "write", "a DELETE operation must be marked destroy", file=TOOLS),
    Mistake("/tools/cancel_step/confirm", "", "a tool that sends or destroys needs a question", file=TOOLS),
    Mistake("/tools/cancel_step/confirm", "Take {step} off?", "{step} is no argument of cancelStep", file=TOOLS),
    Mistake("/tools/cancel_step/title", "", "missing", file=TOOLS),
    Mistake("/tools/list_steps/rows", 0, "expected a whole number, 1 or more", file=TOOLS),
    Mistake("/tools/list_steps/rows", "many", "expected a whole number, 1 or more", file=TOOLS),
    Mistake("/tools/list_steps/show", "stepId", "expected a list of fields", file=TOOLS),
    Mistake("/tools/list_steps", "listSteps", "expected an object", file=TOOLS),
    Mistake("/tools", ["list_steps"], "expected an object of tools by name", file=TOOLS),
    Mistake("/tools/List-Steps", {"operation": "listSteps", "title": "List", "description": "List.", "effect": "read"}, "a tool name is", file=TOOLS),
)  # fmt: skip


@pytest.mark.parametrize("mistake", REFUSED, ids=lambda mistake: mistake.expected)
def test_what_cannot_be_generated_is_refused_with_its_place(mistake: Mistake, tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec) as refusal:
        render_all(with_mistake(mistake, tmp_path))

    assert len(refusal.value.problems) == 1
    assert refusal.value.problems[0].startswith(mistake.expected)


def test_openapi_2_and_no_openapi_at_all_are_refused(tmp_path: Path) -> None:
    shutil.copy(SPECS / "worklist.tools.yaml", tmp_path / "old.tools.yaml")
    for content, expected in (
        ("swagger: '2.0'\n", "this says 2.0"),
        ("title: x\n", "not an OpenAPI document"),
        ("a: [\n", ":2: "),
    ):
        (tmp_path / "old.yaml").write_text(content, encoding="utf-8")

        with pytest.raises(InvalidSpec, match=expected):
            render_all(tmp_path)


def test_a_specification_without_tools_file_is_refused(tmp_path: Path) -> None:
    shutil.copy(SPECS / "worklist.yaml", tmp_path / "worklist.yaml")

    with pytest.raises(InvalidSpec, match=r"worklist\.tools\.yaml is missing"):
        render_all(tmp_path)


# -- the dialect ---------------------------------------------------------------------------------------------------------

JSON = f"{OK}/content/application~1json"
MODALITY = f"{STEP}/properties/modality"

BROKEN = (
    Mistake("/info/version", None, 'not valid OpenAPI 3.1: "version" is a required property'),
    Mistake(f"{STEP}/type", "objekt", 'not a valid schema: "objekt" is not valid'),
    Mistake(f"{STEP}/properties/stepId/minLength", -1, "not a valid schema: -1 is less than the minimum of 0"),
    Mistake("/info/summary", None, "summary is missing"),
    Mistake("/info/x-isocenter/api", "work", "expected the file's own name, worklist"),
    Mistake("/info/x-isocenter", {"api": "worklist", "dialect": 2}, "expected an api and dialect 1"),
    Mistake("/servers", [], "at least one server is needed"),
    Mistake("/servers/0/description", None, "description is missing"),
    Mistake("/tags/0/name", "other", "no operation has this tag", "/tags/0"),
    Mistake(f"{LIST}/tags", ["other"], "tags are needed, and each must be declared", LIST),
    Mistake(f"{LIST}/operationId", None, "operationId is missing"),
    Mistake(f"{LIST}/summary", "word " * 13, "65 characters, at most 60"),
    Mistake(f"{LIST}/description", None, "description is missing"),
    Mistake(f"{LIST}/security", None, "security is missing; write [] where nothing is needed"),
    Mistake(f"{LIST}/security", [{"other": []}], "an operation asks for it", "/components/securitySchemes/other"),
    Mistake(f"{LIST}/x-evidence", None, "x-evidence is missing"),
    Mistake(f"{LIST}/x-evidence", "rumoured", "expected one of documented, observed, inferred"),
    Mistake(f"{LIST}/x-deviation", ["a", "b"], "expected a text"),
    Mistake(f"{LIST}/x-hint", "a", "unknown extension"),
    Mistake(f"{DAY}/description", None, "description is missing"),
    Mistake(f"{DAY}/example", None, "an example is missing"),
    Mistake(f"{DAY}/example", "2024-02-30", "the example breaks"),
    Mistake(f"{LIST}/requestBody", {"content": {"application/json": {"schema": {"type": "array"}}}}, "required is missing"),
    Mistake(f"{LIST}/responses/401", None, "an error response is missing"),
    Mistake(f"{JSON}/example", None, "an example is missing"),
    Mistake(f"{JSON}/example", [{"stepId": 1}], "the example breaks", f"{JSON}/example/0/stepId"),
    Mistake(f"{JSON}/schema", {"type": "object"}, "the body of a success must be a named schema"),
    Mistake(f"{OK}/headers", {"X-Total": {"description": "Count.", "schema": {"type": "integer"}}}, "an example is missing", f"{OK}/headers/X-Total"),
    Mistake("/components/schemas/step", {"type": "object", "description": "Lower case."}, "a schema's name is PascalCase"),
    Mistake("/components/schemas/Other", {"type": "object", "description": "Nobody's."}, "nothing refers to it"),
    Mistake("/components/securitySchemes/other", {"type": "http", "scheme": "basic"}, "no operation asks for it"),
    Mistake(f"{STEP}/description", None, "description is missing"),
    Mistake(f"{STEP}/x-unused", "for nobody", "it is used"),
    Mistake(f"{STEP}/additionalProperties", False, "an answer may grow"),
    Mistake(f"{STEP}/unevaluatedProperties", False, "an answer may grow"),
    Mistake(f"{STEP}/x-rule", "circus-sort", "rules look at requests, and none reaches this"),
    Mistake(f"{STEP}/x-rule", "no-such-rule", "expected one of"),
    Mistake(f"{STEP}/properties/stepId/description", None, "description is missing"),
    Mistake(f"{STEP}/properties/other", True, "description is missing"),
    Mistake(f"{STEP}/properties/stepId/format", "step-id", "unknown format step-id"),
    Mistake(f"{STEP}/properties/stepId/pattern", "[A-Z]+", "the pattern is not anchored with ^ and $"),
    Mistake(f"{STEP}/properties/stepId/pattern", "^S|T$", "the pattern is not anchored with ^ and $"),
    Mistake(f"{STEP}/properties/stepId/pattern", "^(?=S).*$", "no pattern of a linear-time engine"),
    Mistake(f"{STEP}/properties/stepId/pattern", "^($", "no pattern of a linear-time engine"),
    Mistake(f"{STEP}/patternProperties", {"x-.*": {}}, "the pattern is not anchored", f"{STEP}/patternProperties/x-.*"),
    Mistake(f"{STEP}/properties/stepId/examples", [1], "the example breaks", f"{STEP}/properties/stepId/examples/0"),
    Mistake(f"{STEP}/properties/stepId/default", 1, "the example breaks"),
    Mistake(f"{MODALITY}", {"type": "string", "description": "Kind.", "enum": ["CT", "MR"]}, "a vocabulary of answers may grow", f"{MODALITY}/enum"),
    Mistake(f"{MODALITY}/enum", ["CT"], "it belongs to a plain value without enum", f"{MODALITY}/x-known-values"),
    Mistake(f"{DAY}/schema/x-known-values", ["2024-08-21"], "nothing but requests reaches this: write enum"),
    Mistake(f"{MODALITY}/x-media-types", ["image/png", "image/jpeg"], "it belongs beside contentMediaType"),
    Mistake(f"{MODALITY}/$ref", GONE["$ref"], "reference #/components/schemas/Gone leads nowhere", MODALITY),
    Mistake(f"{JSON}/examples", {"rows": GONE}, "#/components/schemas/Gone leads nowhere", f"{JSON}/examples/rows/$ref"),
    Mistake(f"{OK}/links", {"next": GONE}, "#/components/schemas/Gone leads nowhere", f"{OK}/links/next/$ref"),
    Mistake("/toolset", "other", "expected worklist", file=TOOLS),
    Mistake("/instructions", "", "missing", file=TOOLS),
    Mistake("/other", 1, "unknown key", file=TOOLS),
    Mistake("/tools/list_steps", None, "the operation listSteps has no tool", file=TOOLS),
    Mistake("/tools/list_steps/show", ["stepId", "step"], "no success of listSteps has a field step", file=TOOLS),
    Mistake("/tools/list_steps/colour", "red", "unknown key", file=TOOLS),
    Mistake("/tools/cancel_step/confirm", "Take {step} off?", "{step} is no argument of cancelStep", file=TOOLS),
)  # fmt: skip


def test_the_worklist_keeps_the_dialect(tmp_path: Path) -> None:
    for name in ("worklist.yaml", "worklist.tools.yaml"):
        shutil.copy(SPECS / name, tmp_path / name)

    assert lint(tmp_path) == []


@pytest.mark.parametrize("mistake", BROKEN, ids=lambda mistake: mistake.expected)
def test_a_breach_of_the_dialect_is_told_with_its_place(mistake: Mistake, tmp_path: Path) -> None:
    problems = lint(with_mistake(mistake, tmp_path))

    assert any(problem.startswith(mistake.expected) for problem in problems), problems


def test_a_vocabulary_that_tells_alternatives_apart_may_be_closed(tmp_path: Path) -> None:
    other = {
        "type": "object",
        "description": "Not at a scanner.",
        "required": ["reason"],
        "properties": {"reason": {"type": "string", "description": "Why."}},
    }
    either = {"type": "array", "items": {"$ref": "#/components/schemas/Either"}}
    document = read(with_mistake(Mistake(f"{JSON}/schema", either, ""), tmp_path) / "worklist.yaml")
    schemas = document["components"]["schemas"]
    schemas["Step"]["properties"]["modality"] = {"type": "string", "description": "Kind.", "enum": ["CT", "MR"]}
    schemas["Other"] = other
    schemas["Either"] = {
        "description": "One of two.",
        "oneOf": [{"$ref": "#/components/schemas/Step"}, {"$ref": "#/components/schemas/Other"}],
    }
    (tmp_path / "worklist.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")

    assert lint(tmp_path) == []


def test_two_apis_cannot_have_a_tool_of_one_name(tmp_path: Path) -> None:
    for name in ("worklist", "worklist2"):
        for suffix in (".yaml", ".tools.yaml"):
            text = (SPECS / f"worklist{suffix}").read_text(encoding="utf-8")
            text = text.replace("api: worklist", f"api: {name}").replace("toolset: worklist", f"toolset: {name}")
            (tmp_path / f"{name}{suffix}").write_text(text, encoding="utf-8")

    assert lint(tmp_path) == [
        "worklist2.tools.yaml#/tools/list_steps: worklist.tools.yaml has a tool of this name",
        "worklist2.tools.yaml#/tools/cancel_step: worklist.tools.yaml has a tool of this name",
    ]


def test_a_tools_file_without_specification_is_told(tmp_path: Path) -> None:
    shutil.copy(SPECS / "worklist.tools.yaml", tmp_path / "gone.tools.yaml")

    assert lint(tmp_path) == ["gone.tools.yaml#: no specification stands beside it"]


def test_every_extension_is_explained() -> None:
    explained = (ROOT / "openapi" / "README.md").read_text(encoding="utf-8")

    assert [name for name in EXTENSIONS if f"| `{name}` |" not in explained] == []


# -- strangers -----------------------------------------------------------------------------------------------------------


def test_generated_clients_of_strangers_are_strictly_typed(tmp_path: Path) -> None:
    for spec in ("kennel.yaml", "archive.yaml", "constructs.yaml"):
        name, files = render_stranger(SPECS / spec)
        write({f"{name}/{path}": content for path, content in files.items()}, tmp_path, remove_others=False)

    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--explicit-package-bases",
            "--config-file=",
            f"--cache-dir={tmp_path / 'cache'}",
            str(tmp_path),
        ],
        env={**os.environ, "MYPYPATH": f"{ROOT / 'server'}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (run.returncode, run.stdout + run.stderr) == (0, "Success: no issues found in 12 source files\n")


@pytest.mark.anyio
async def test_a_kennel_described_in_openapi_3_0_can_be_called(importable: Callable[[str, Files], ModuleType]) -> None:
    name, files = render_stranger(SPECS / "kennel.yaml")
    package = importable(name, files)
    guest = {
        "animal": {"kind": "dog", "name": "Rex", "barks": True, "birthday": None},
        "since": "2024-08-21T10:00:00Z",
        "owner": None,
        "diet": None,
    }
    wire = Wire(httpx.Response(200, json=[guest, {**guest, "animal": {"kind": "cat", "name": "Mia"}}]))

    async with package.KennelBoardingOfDogsAndCatsClient(
        transport=wire.transport, credentials={"key": "hidden-key"}
    ) as kennel:
        result = await kennel.list_guests(
            species=["dog", "cat"], tags=["a|b", "c"], filter={"age": 3, "name": None}, ids=[1, 2], session="s 1"
        )
        with pytest.raises(InvalidRequest) as refusal:
            await kennel.list_guests(filter={"age": 0})

    [request] = wire.requests
    assert str(request.url) == (
        "https://eu.kennel.example/v2/guests?species=dog,cat&tags=a%7Cb%7Cc&filter%5Bage%5D=3&ids%5B%5D=1&ids%5B%5D=2&api_key=hidden-key"
    )
    assert request.headers["cookie"] == "session=s%201"
    dog, cat = result.value
    models = importlib.import_module(f"{name}.models")
    assert isinstance(dog.animal, models.Dog)
    assert isinstance(cat.animal, models.Cat)
    assert (dog.owner, dog.diet, dog.animal.birthday) == (None, None, None)
    assert [finding.expected for finding in refusal.value.findings] == ["more than 0"]


@pytest.mark.anyio
async def test_files_forms_and_other_media_types_of_a_stranger(
    importable: Callable[[str, Files], ModuleType], tmp_path: Path
) -> None:
    name, files = render_stranger(SPECS / "kennel.yaml")
    package = importable(name, files)
    client = package.KennelBoardingOfDogsAndCatsClient
    picture = b"\x89PNG\r\n\x1a\n"

    xml = Wire(httpx.Response(200, text="<guests/>", headers={"content-type": "application/xml"}))
    async with client(transport=xml.transport, credentials={"key": "k"}) as kennel:
        result = await kennel.list_guests()
        assert (result.value, result.findings) == ("<guests/>", ())

    stored = Wire(httpx.Response(200))
    async with client(transport=stored.transport) as kennel:
        await kennel.upload_portrait(guest_id=1, picture=picture, caption="Rex", meta={"taken": "2024-08-21"})
    body = stored.requests[0].content
    assert stored.requests[0].headers["content-type"].startswith("multipart/form-data; boundary=")
    assert b"Content-Type: image/png\r\n\r\n" + picture in body
    assert b'name="meta"\r\nContent-Type: application/json\r\n\r\n{"taken":"2024-08-21"}' in body

    raw = Wire(httpx.Response(204))
    async with client(transport=raw.transport, credentials={"key": "k"}) as kennel:
        await kennel.replace_portrait(guest_id=1, body=picture)
    assert (raw.requests[0].content, raw.requests[0].headers["content-type"]) == (picture, "image/png")

    paid = Wire(httpx.Response(200, text="thanks"))
    async with client(transport=paid.transport, credentials={"key": "k"}) as kennel:
        assert (await kennel.pay(amount=12.5, lines=["food", "bed"])).value == "thanks"
    assert paid.requests[0].content == b"amount=12.5&lines=food&lines=bed"

    shown = Wire(httpx.Response(200, content=picture, headers={"content-type": "image/png"}))
    async with client(transport=shown.transport, credentials={"key": "k"}) as kennel:
        result = await kennel.get_portrait(guest_id=1, save_to=tmp_path / "rex.png")
    assert result.file is not None
    assert result.file.path.read_bytes() == picture


def test_an_archive_without_operation_ids_can_be_called(importable: Callable[[str, Files], ModuleType]) -> None:
    name, files = render_stranger(SPECS / "archive.yaml")
    package = importable(name, files)
    rows = [{"SeriesInstanceUID": "2.25.1", "Date Released": None, "ImageCount": 3}]
    wire = Wire(httpx.Response(200, json=rows))

    with package.ImageArchiveServicesSyncClient(transport=wire.transport) as archive:
        result = archive.get_v4_get_series(collection="Phantom Lung", from_date="06-01-2024")
        with pytest.raises(InvalidRequest):
            archive.get_v4_get_series(from_date="2024-06-01")

    assert (result.value, result.findings) == (rows, ())
    [request] = wire.requests
    assert (
        str(request.url)
        == "https://archive.example/services/v4/getSeries?Collection=Phantom%20Lung&fromDate=06-01-2024"
    )


HOSTILE = 'a"""\nimport os; os.environ["ISOCENTER_HOSTILE"] = "1"\n"""\\'


def test_texts_of_a_specification_stay_texts(importable: Callable[[str, Files], ModuleType], tmp_path: Path) -> None:
    document = {
        "openapi": "3.1.0",
        "info": {"title": f"Odd {HOSTILE}", "version": "1"},
        "paths": {
            "/a": {
                "get": {
                    "operationId": f"close {HOSTILE}",
                    "summary": HOSTILE,
                    "description": HOSTILE,
                    "parameters": [{"name": f"class{HOSTILE}", "in": "query", "description": HOSTILE, "schema": {"enum": [HOSTILE, "a|b", "]", None]}}],
                    "responses": {
                        f"200{HOSTILE}": {"description": HOSTILE, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Odd"}}}},
                        "201": {"description": HOSTILE},
                    },
                },
                "post": {"operationId": "close", "responses": {"204": {"description": "Done."}}},
            }
        },
        "components": {
            "schemas": {
                "Odd": {
                    "type": "object",
                    "description": HOSTILE,
                    "properties": {HOSTILE: {"description": HOSTILE, "enum": [HOSTILE, "b"], "default": HOSTILE}},
                }
            }
        },
    }  # fmt: skip
    (tmp_path / "odd.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")

    name, files = render_stranger(tmp_path / "odd.yaml")
    client = importlib.import_module(f"{importable(name, files).__name__}.client")

    assert "ISOCENTER_HOSTILE" not in os.environ
    methods = [
        method for method in vars(next(iter(vars(client)[n] for n in client.__all__))) if not method.startswith("_")
    ]
    assert methods == ["contract", next(method for method in methods if method.startswith("close_a_import")), "close_"]


def test_names_that_python_keeps_for_itself_get_another_form(importable: Callable[[str, Files], ModuleType]) -> None:
    name, files = render_stranger(SPECS / "constructs.yaml")
    importable(name, files)

    fields = importlib.import_module(f"{name}.models").Strict.model_fields

    assert {field.alias or key: key for key, field in fields.items()} == {
        "class": "class_",
        "00100020": "field_00100020",
        "model_config": "model_config_",
        "json": "json_",
        "schema": "schema_",
        "copy": "copy_",
        "_private": "field_private",
        "with space": "with_space",
        "with-dash": "with_dash",
        "with_dash": "with_dash_1",
        "$dollar": "field_dollar",
        "größe": "größe",
    }
