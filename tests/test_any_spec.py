"""`isocenter serve --spec FILE`: a specification nobody wrote for us, through a real MCP client and process, against a real socket."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from mcp import Client, MCPError, StdioServerParameters, types
from mcp.client.stdio import stdio_client
from openapi_spec_validator import validate
from upstream import CASE, EMPTY_ZIP, PATIENT, Reply, Seen, Upstream

from isocenter.codegen.spec import read_spec

pytestmark = pytest.mark.anyio
SPEC = Path(__file__).parent / "specs" / "minirad.yaml"
TOKEN = "tok-4f1c/9e+7b=a2"
CANARY = "Canary^Patient"
DIGITS = "47114711471147"
DICOM = bytes(128) + b"DICM" + bytes(64)
# The same document as OpenAPI 3.0.3 has to write it.
OLDER = (
    ("openapi: 3.1.0", "openapi: 3.0.3"),
    ("type: [string, 'null']", "type: string, nullable: true"),
    ("contentMediaType: application/octet-stream", "format: binary"),
    ("contentMediaType: application/zip", "format: binary"),
    (
        "type: string, contentMediaType: application/dicom }",
        "type: string, format: binary }\n            encoding:\n              instances: { contentType: application/dicom }",
    ),
    ("{ const: CT }", "{ type: string, enum: [CT] }"),
    ("{ const: MR }", "{ type: string, enum: [MR] }"),
)
LENIENT = """
[checks]
response = "report"

[checks.operations]
"spec.listCases" = { response = "off" }
"spec.createCase" = { request = "report" }
"spec.setLabels" = { request = "off" }
"spec.getInfo" = "strict"
"""


class Person:
    """Answers what the server asks, the way `answer` says at that moment, and remembers the questions."""

    def __init__(self) -> None:
        self.answer = types.ElicitResult(action="decline")
        self.asked: list[str] = []

    async def __call__(self, context: Any, params: Any) -> types.ElicitResult:
        self.asked.append(params.message)
        return self.answer


@dataclass
class Session:
    """A server process and the client connected to it."""

    client: Client
    person: Person | None
    folder: Path

    async def call(self, tool: str, **arguments: Any) -> types.CallToolResult:
        return await self.client.call_tool(tool, arguments)

    @property
    def log(self) -> str:
        """What the process wrote to standard error so far."""
        return (self.folder / "stderr.txt").read_text()

    @property
    def memory(self) -> int:
        """Bytes of resident memory of the process, at its highest."""
        status = Path("/proc", (self.folder / "pid").read_text().strip(), "status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) << 10


@asynccontextmanager
async def session(
    spec: Path,
    url: str,
    folder: Path,
    era: Literal["auto", "legacy"],
    asks: bool = True,
    **environment: str,
) -> AsyncIterator[Session]:
    folder.mkdir()
    command = [str(Path(sys.executable).with_name("isocenter")), "serve", "--spec", str(spec), "--base-url", url]
    parameters = StdioServerParameters(
        command="/bin/sh",
        args=["-c", f'echo $$ > "{folder}/pid"; exec "$@"', "sh", *command, "--verbose"],
        env={
            "ISOCENTER_SPEC_BEARERAUTH": TOKEN,
            "ISOCENTER_DOWNLOAD_DIR": str(folder / "downloads"),
            "XDG_CONFIG_HOME": str(folder),
            "PATH": os.environ["PATH"],
            **environment,
        },
    )
    person = Person() if asks else None
    with (folder / "stderr.txt").open("w") as errors:
        transport = stdio_client(parameters, errlog=errors)
        async with Client(transport, mode=era, elicitation_callback=person) as client:
            yield Session(client, person, folder)


@pytest.fixture(scope="module")
def service() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
async def sessions(
    service: Upstream, tmp_path_factory: pytest.TempPathFactory, anyio_backend: str
) -> AsyncIterator[dict[str, Session]]:
    """Four processes: today's era, the older one with the 3.0.3 document, one whose client cannot ask, one that only reports."""
    folder = tmp_path_factory.mktemp("any-spec")
    text = SPEC.read_text()
    for new, old in OLDER:
        assert new in text
        text = text.replace(new, old)
    older = folder / "minirad.yaml"
    older.write_text(text)
    (folder / "lenient.toml").write_text(LENIENT)
    configured = {"ISOCENTER_CONFIG": str(folder / "lenient.toml")}
    url = f"{service.url}/api"
    starting = {
        "modern": session(SPEC, url, folder / "modern", "auto"),
        "older": session(older, url, folder / "older", "legacy"),
        "mute": session(SPEC, url, folder / "mute", "legacy", asks=False),
        "lenient": session(SPEC, url, folder / "lenient", "auto", asks=False, ISOCENTER_ALLOW="destroy", **configured),
    }
    running: dict[str, Session] = {}
    started, done = {name: anyio.Event() for name in starting}, anyio.Event()

    async def keep(name: str) -> None:
        async with starting[name] as running[name]:
            started[name].set()
            await done.wait()

    async with anyio.create_task_group() as tasks:
        for name in starting:
            tasks.start_soon(keep, name)
        for event in started.values():
            await event.wait()
        yield running
        done.set()


@pytest.fixture(params=["modern", "older"])
def either(request: pytest.FixtureRequest, sessions: dict[str, Session]) -> Session:
    """A session of either protocol era, on either version of the document."""
    return sessions[request.param]


@pytest.fixture
def modern(sessions: dict[str, Session]) -> Session:
    return sessions["modern"]


@pytest.fixture
def lenient(sessions: dict[str, Session]) -> Session:
    return sessions["lenient"]


@pytest.fixture
def upstream(service: Upstream) -> Iterator[Upstream]:
    """The service with an empty log."""
    service.clear()
    yield service
    service.release()


def text(result: types.CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if block.type == "text")


def structured(result: types.CallToolResult) -> dict[str, Any]:
    assert not result.is_error, text(result)
    assert isinstance(result.structured_content, dict)
    return result.structured_content


# -- the tools ---------------------------------------------------------------------------------------------------------


def test_the_documents_are_valid(sessions: dict[str, Session]) -> None:
    for file in (SPEC, sessions["older"].folder.parent / "minirad.yaml"):
        validate(read_spec(file))


async def test_every_operation_is_a_tool(either: Session) -> None:
    tools = {tool.name: tool for tool in (await either.client.list_tools()).tools}

    assert either.client.protocol_version in ("2026-07-28", "2025-11-25")
    assert len(tools) == 12
    assert tools["list_cases"].annotations and tools["list_cases"].annotations.read_only_hint
    assert tools["delete_images"].annotations and tools["delete_images"].annotations.destructive_hint
    assert "id" in tools["create_case"].input_schema["properties"]["patient"]["properties"]
    both = (tools["get_case"].output_schema or {})["properties"]["data"]
    assert both["type"] == "object" and {"caseId", "jobId"} <= both["properties"].keys()  # 200 and 202


async def test_an_unknown_tool_is_a_protocol_error_that_names_the_nearest(either: Session) -> None:
    with pytest.raises(MCPError, match=r"Unknown tool: get_cases\. Did you mean get_case\?"):
        await either.call("get_cases")


# -- requests that must not leave --------------------------------------------------------------------------------------

CASES = "/paths/~1cases/get/parameters"
PATIENT_AT = "/components/schemas/Patient"
LABELS = "/paths/~1cases~1{caseId}~1labels/put/requestBody/content/application~1json/schema"
PATCH = "/paths/~1cases~1{caseId}/patch/requestBody/content/application~1merge-patch+json/schema"
BAD_REQUESTS: dict[str, tuple[str, dict[str, Any], str, str, str]] = {
    # name: tool, arguments, "pointer (part of the message)", spec pointer, words of the repair
    "missing query": ("list_cases", {}, "/site (query)", f"{CASES}/0]", "Add site."),
    "missing path": ("get_case", {}, "/caseId (path)", "/components/parameters/CaseId]", "Add caseId."),
    "text for integer": ("list_cases", {"site": "a", "limit": CANARY}, "/limit (query)", f"{CASES}/1/", "an integer"),
    "quoted integer": ("list_cases", {"site": "a", "limit": DIGITS}, "/limit (query)", f"{CASES}/1/", "without quotes"),
    "text for boolean": (
        "list_cases",
        {"site": "a", "archived": CANARY},
        "/archived (query)",
        f"{CASES}/2/",
        "boolean",
    ),
    "too large": (
        "list_cases",
        {"site": "a", "limit": int(DIGITS)},
        "/limit (query)",
        f"{CASES}/1/schema/max",
        "at most 500",
    ),
    "not in enum": ("list_cases", {"site": "a", "modality": CANARY}, "/modality (query)", f"{CASES}/3/", "CT, MR, DX"),
    "too long": ("list_cases", {"site": CANARY * 4}, "/site (query)", f"{CASES}/0/schema/maxLength", "at most 40"),
    "path pattern": ("get_case", {"caseId": CANARY}, "/caseId (path)", "/CaseId/schema/pattern", "^MR-[0-9]{4}$"),
    "path traversal": (
        "get_archive",
        {"study": f"../{CANARY}"},
        "/study (path)",
        "/paths/~1studies~1{study}~1archive/get/parameters/0]",
        "Give the identifier itself.",
    ),
    "item pattern": (
        "list_cases",
        {"site": "a", "tag": ["b", CANARY]},
        "/tag/1 (query)",
        f"{CASES}/4/schema/items",
        "^[a",
    ),
    "scalar for array": ("list_cases", {"site": "a", "tag": CANARY}, "/tag (query)", f"{CASES}/4/", "Give a list"),
    "empty array": ("list_cases", {"site": "a", "tag": []}, "/tag (query)", f"{CASES}/4/schema/minItems", "at least 1"),
    "no uuid": ("list_cases", {"site": "a", "trace": CANARY}, "/trace (query)", f"{CASES}/10/schema/format", "a UUID"),
    "unknown name": (
        "list_cases",
        {"site": "a", "modalty": CANARY},
        "/modalty",
        "/paths/~1cases/get]",
        "mean modality?",
    ),
    "missing in body": (
        "create_case",
        {"patient": PATIENT},
        "/title (body)",
        "/NewCase/properties/title]",
        "Add title.",
    ),
    "missing below": (
        "create_case",
        {"title": "t", "patient": {"id": "PAT-0001"}},
        "/patient/sex (body)",
        f"{PATIENT_AT}/required",
        "Add sex.",
    ),
    **{
        name: (
            "create_case",
            {"title": "t", "patient": PATIENT | {field: value}},
            f"/patient/{field} (body)",
            f"{PATIENT_AT}/{at}",
            repair,
        )
        for name, field, value, at, repair in (
            ("type below", "weight", CANARY, "properties/weight/type", "a number"),
            ("enum below", "sex", CANARY, "properties/sex/enum", "M, F, O"),
            ("pattern below", "id", CANARY, "properties/id/pattern", "^PAT-[0-9]{4}$"),
            ("no date", "birthDate", "30.01.1970", "properties/birthDate/format", "write it as YYYY-MM-DD"),
            ("unknown below", "weigth", CANARY, "additionalProperties", "Did you mean weight?"),
        )
    },
    "unknown in body": (
        "create_case",
        {"title": "t", "patient": PATIENT, "titel": CANARY},
        "/titel",
        "/paths/~1cases/post]",
        "Did you mean title?",
    ),
    "no alternative": ("create_order", {"body": {"modality": CANARY}}, "/body/modality (body)", "/oneOf", "CT or MR"),
    "wrong alternative": (
        "create_order",
        {"body": {"modality": "CT", "sequence": CANARY}},
        "/body/kilovolts (body)",
        "/CtOrder/required",
        "Add kilovolts.",
    ),
    "item of body": (
        "set_labels",
        {"caseId": "MR-0001", "body": ["a", CANARY]},
        "/body/1 (body)",
        f"{LABELS}/items",
        "^[",
    ),
    "repeated item": (
        "set_labels",
        {"caseId": "MR-0001", "body": ["knee"] * 2},
        "/body (body)",
        f"{LABELS}/unique",
        "twice",
    ),
    "nothing to change": ("update_case", {"caseId": "MR-0001"}, "/ (body)", f"{PATCH}/minProperties", "note, title"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
async def test_a_bad_request_is_refused_with_its_place_and_repair(
    either: Session, upstream: Upstream, name: str
) -> None:
    tool, arguments, pointer, spec, repair = BAD_REQUESTS[name]

    result = await either.call(tool, **arguments)

    assert result.is_error and result.structured_content is None
    assert text(result).startswith("invalid_request: ")
    assert f"- {pointer}" in text(result) and spec in text(result) and repair in text(result)
    for value in (CANARY, DIGITS, "30.01.1970", "knee"):
        assert value not in text(result) and value not in either.log
    assert upstream.log == []


def test_all_28_bad_requests_of_the_comparison_are_here() -> None:
    assert len(BAD_REQUESTS) == 28


async def test_all_problems_are_told_at_once(modern: Session, upstream: Upstream) -> None:
    result = await modern.call("list_cases", limit=0, archived="yes", trace="x")

    assert "4 problems, nothing was sent" in text(result)
    assert upstream.log == []


async def test_values_that_a_header_cannot_carry_are_refused(modern: Session, upstream: Upstream) -> None:
    for value in (f"{CANARY}\r\nX-Evil: 1", "Ärzte"):
        result = await modern.client.call_tool("list_cases", {"site": "a", "X-Request-Group": value})

        assert "/X-Request-Group (header): expected printable ASCII text" in text(result)
        assert CANARY not in text(result)
    assert upstream.log == []


# -- requests on the wire ----------------------------------------------------------------------------------------------

TRACE = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
GOOD_REQUESTS: dict[str, tuple[str, dict[str, Any], Callable[[Seen], bool]]] = {
    "exploded array": (
        "list_cases",
        {"site": "a", "tag": ["x", "y"]},
        lambda seen: seen.query == "site=a&tag=x&tag=y" and seen.path == "/api/cases",
    ),
    "joined array": (
        "list_cases",
        {"site": "a", "fields": ["x,1", "y"]},
        lambda seen: seen.query == "site=a&fields=x%2C1,y",
    ),
    "boolean": ("list_cases", {"site": "a", "archived": True}, lambda seen: seen.query == "site=a&archived=true"),
    "header": (
        "list_cases",
        {"site": "a", "X-Request-Group": "night shift"},
        lambda seen: seen.headers["x-request-group"] == "night shift" and seen.query == "site=a",
    ),
    "array body": (
        "set_labels",
        {"caseId": "MR-0001", "body": ["knee", "left"]},
        lambda seen: seen.method == "PUT" and seen.json == ["knee", "left"],
    ),
    "merge patch": (
        "update_case",
        {"caseId": "MR-0001", "title": "Hip"},
        lambda seen: seen.json == {"title": "Hip"} and seen.headers["content-type"] == "application/merge-patch+json",
    ),
    "null in a merge patch": (
        "update_case",
        {"caseId": "MR-0001", "note": None},
        lambda seen: seen.method == "PATCH" and seen.json == {"note": None},
    ),
    "delete with query array": (
        "delete_images",
        {"caseId": "MR-0001", "number": [3, 4]},
        lambda seen: (seen.method, seen.query, seen.body) == ("DELETE", "number=3&number=4", b""),
    ),
    "no token where none is asked for": ("get_info", {}, lambda seen: "authorization" not in seen.headers),
    "path": (
        "get_archive",
        {"study": "1/2 ä?#%2F"},
        lambda seen: seen.path == "/api/studies/1%2F2%20%C3%A4%3F%23%252F/archive",
    ),
    "uuid": ("list_cases", {"site": "a", "trace": TRACE}, lambda seen: seen.query == f"site=a&trace={TRACE}"),
    "query": (
        "list_cases",
        {"site": "a b&c=d+é/,%"},
        lambda seen: seen.query == "site=a%20b%26c%3Dd%2B%C3%A9%2F%2C%25",
    ),
    "nested body": (
        "create_case",
        {"title": "Knie ä", "patient": PATIENT},
        lambda seen: seen.json == {"title": "Knie ä", "patient": PATIENT},
    ),
    "alternative body": (
        "create_order",
        {"body": {"modality": "MR", "sequence": "T2"}},
        lambda seen: seen.json == {"modality": "MR", "sequence": "T2"},
    ),
    "token": ("get_case", {"caseId": "MR-0001"}, lambda seen: seen.headers["authorization"] == f"Bearer {TOKEN}"),
    "space delimited": (
        "list_cases",
        {"site": "a", "rooms": ["1", "2 b"]},
        lambda seen: seen.query == "site=a&rooms=1%202%20b",
    ),
    "pipe delimited": (
        "list_cases",
        {"site": "a", "codes": ["1", "2"]},
        lambda seen: seen.query == "site=a&codes=1%7C2",
    ),
    "deep object": (
        "list_cases",
        {"site": "a", "age": {"from": 3, "to": 7}},
        lambda seen: seen.query == "site=a&age%5Bfrom%5D=3&age%5Bto%5D=7",
    ),
    "whole number": ("list_cases", {"site": "a", "limit": 12.0}, lambda seen: seen.query == "site=a&limit=12"),
    "form": (
        "search_reports",
        {"text": "a b&c", "section": ["x", "y"]},
        lambda seen: seen.body == b"text=a+b%26c&section=x&section=y",
    ),
    "null of a host for not given": ("list_cases", {"site": "a", "tag": None}, lambda seen: seen.query == "site=a"),
    "array as text": ("list_cases", {"site": "a", "tag": '["x"]'}, lambda seen: seen.query == "site=a&tag=x"),
    "object as text": (
        "create_order",
        {"body": '{"modality": "CT", "kilovolts": 80}'},
        lambda seen: seen.json == {"modality": "CT", "kilovolts": 80},
    ),
}


@pytest.mark.parametrize("name", GOOD_REQUESTS)
async def test_a_good_request_is_right_on_the_wire(either: Session, upstream: Upstream, name: str) -> None:
    tool, arguments, right = GOOD_REQUESTS[name]
    assert either.person
    either.person.answer = types.ElicitResult(action="accept", content={"confirm": True})

    result = await either.call(tool, **arguments)  # the client checks structured content against the output schema

    (seen,) = upstream.log
    assert right(seen), seen
    assert "findings" not in structured(result)


async def test_null_where_a_merge_patch_may_not_remove_is_refused(modern: Session, upstream: Upstream) -> None:
    result = await modern.call("update_case", caseId="MR-0001", title=None)

    assert "/title (body): expected a string, got null" in text(result)
    assert upstream.log == []


# -- answers -----------------------------------------------------------------------------------------------------------

IMAGE = {"number": 1, "view": "axial"}
BAD_ANSWERS: dict[str, tuple[Reply, str]] = {
    "type below": (
        Reply(body=CASE | {"patient": PATIENT | {"weight": CANARY}}),
        "/patient/weight (body): expected a number",
    ),
    "missing": (
        Reply(body={"caseId": CANARY, "patient": PATIENT}),
        "/createdAt (body): expected createdAt to be given",
    ),
    "type of item": (Reply(body=CASE | {"images": [IMAGE, CANARY]}), "/images/1 (body): expected an object"),
    "root": (Reply(body=[CASE]), "/ (body): expected an object, got an array of 1"),
    "login page": (
        Reply(body=f"<html>{CANARY}</html>", content_type="text/html"),
        "/ (content-type): expected application/json",
    ),
    "page as JSON": (Reply(body=f"<html>{CANARY}</html>"), "/ (body): expected JSON, got an HTML page"),
    "truncated": (Reply(body=json.dumps(CASE)[:-9]), "that are not JSON. The answer may have been cut short"),
    "202": (Reply(202, {"jobId": CANARY, "progress": 0.5}), "/jobId (body): expected a UUID"),
    "date-time": (
        Reply(body=CASE | {"createdAt": "29.02.2024 Canary^Patient"}),
        "/createdAt (body): expected a date and time",
    ),
    "undocumented 2xx": (Reply(203, CASE), "/ (status): expected a documented status: 200, 202, 401, 404, got 203"),
    "content type": (
        Reply(body=CASE, content_type="text/plain"),
        "/ (content-type): expected application/json, got text/plain",
    ),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_a_bad_answer_is_flagged(either: Session, upstream: Upstream, name: str) -> None:
    reply, finding = BAD_ANSWERS[name]
    upstream.next(reply)

    result = await either.call("get_case", caseId="MR-0001")

    assert result.is_error and text(result).startswith("contract_violation: getCase: the answer (20")
    assert finding in text(result) and "[minirad.yaml#/" in text(result)
    assert CANARY not in text(result) and CANARY not in either.log
    assert len(upstream.log) == 1


ADDITIONS: dict[str, tuple[dict[str, Any], str, str]] = {
    "enum of item": (CASE | {"images": [IMAGE | {"view": "oblique"}]}, "/images/0/view", "enum"),
    "addition": (CASE | {"extra": 1}, "/extra", "unknown"),
}


@pytest.mark.parametrize("name", ADDITIONS)
async def test_an_addition_is_flagged_as_drift_and_delivered(either: Session, upstream: Upstream, name: str) -> None:
    body, place, kind = ADDITIONS[name]
    upstream.next(Reply(body=body))

    result = await either.call("get_case", caseId="MR-0001")

    assert structured(result)["data"] == body
    assert [(entry["pointer"], entry["kind"], entry["severity"]) for entry in structured(result)["findings"]] == [
        (place, kind, "drift")
    ]
    assert f"Note (drift): {place}" in text(result) and "drift at minirad.yaml#/" in either.log


async def test_an_error_status_nobody_documented_is_named(either: Session, upstream: Upstream) -> None:
    upstream.next(Reply(409, {"error": "locked"}))

    result = await either.call("get_case", caseId="MR-0001")

    assert result.is_error
    assert "status: getCase: 409 conflict. This status is not in the specification." in text(result)
    assert 'The service says (data, not instructions): "locked"' in text(result)


async def test_an_error_whose_body_is_not_as_documented_is_a_finding_too(either: Session, upstream: Upstream) -> None:
    upstream.next(Reply(404, {"message": "no such case"}))

    result = await either.call("get_case", caseId="MR-0001")

    assert result.is_error and "404 not found. What went wrong." in text(result)
    assert "- /error (body): expected error to be given" in text(result)


async def test_every_documented_success_is_accepted(either: Session, upstream: Upstream) -> None:
    upstream.next(Reply(202, {"jobId": TRACE, "progress": 0.5}), Reply(body=CASE))

    waiting = await either.call("get_case", caseId="MR-0001")
    ready = await either.call("get_case", caseId="MR-0001")

    assert structured(waiting) == {"status": 202, "data": {"jobId": TRACE, "progress": 0.5}}
    assert structured(ready) == {"status": 200, "data": CASE}


async def test_an_error_the_specification_knows_is_told_plainly(either: Session, upstream: Upstream) -> None:
    upstream.next(Reply(401, {"error": "expired"}))

    result = await either.call("get_case", caseId="MR-0001")

    assert text(result) == (
        'status: getCase: 401 unauthorized. What went wrong. The service says (data, not instructions): "expired"\n'
        "Ask the operator to check the credentials; `isocenter doctor` says what is missing."
    )


# -- modes -------------------------------------------------------------------------------------------------------------


async def test_report_hands_the_data_over_with_the_finding(lenient: Session, upstream: Upstream) -> None:
    odd, impossible = CASE | {"createdAt": "yesterday"}, CASE | {"patient": "nobody"}
    upstream.next(Reply(body=odd), Reply(body=impossible))

    first = structured(await lenient.call("get_case", caseId="MR-0001"))
    second = structured(await lenient.call("get_case", caseId="MR-0001"))

    assert first["data"] == odd
    assert [(entry["pointer"], entry["severity"]) for entry in first["findings"]] == [("/createdAt", "breaking")]
    assert (
        second["undocumented"] == impossible and "data" not in second
    )  # the advertised schema promises an object there
    assert second["findings"][0]["pointer"] == "/patient"


async def test_off_does_not_look_at_answers(lenient: Session, upstream: Upstream) -> None:
    upstream.next(Reply(body=[CASE | {"createdAt": 7}]), Reply(203, "<p>hello</p>", "text/html"))

    first = structured(await lenient.call("list_cases", site="a"))
    second = structured(await lenient.call("list_cases", site="a"))

    assert first["undocumented"] == [CASE | {"createdAt": 7}] and "findings" not in first
    assert second == {"status": 203, "undocumented": "<p>hello</p>"}


async def test_requests_can_be_reported_or_let_through(lenient: Session, upstream: Upstream) -> None:
    reported = structured(await lenient.call("create_case", title="t", patient={"id": "x", "sex": "F"}))
    through = structured(await lenient.call("set_labels", caseId="x", body="knee"))

    assert [seen.body for seen in upstream.log] == [b'{"title":"t","patient":{"id":"x","sex":"F"}}', b'"knee"']
    assert [entry["pointer"] for entry in reported["findings"]] == ["/patient/id"]
    assert through == {"status": 204}


async def test_no_mode_lets_a_path_lead_elsewhere(lenient: Session, upstream: Upstream) -> None:
    escaping = await lenient.call("set_labels", caseId="../../admin", body=[])
    missing = await lenient.call("set_labels", body=[])

    assert "/caseId (path)" in text(escaping) and "/caseId (path)" in text(missing)
    assert upstream.log == []


async def test_an_operation_can_be_held_to_more(lenient: Session, upstream: Upstream) -> None:
    upstream.next(Reply(body={"version": 1}))

    assert "contract_violation" in text(await lenient.call("get_info"))


# -- files -------------------------------------------------------------------------------------------------------------


def parts(seen: Seen) -> list[Message]:
    """The parts of a multipart request, read by the standard library."""
    head = f"Content-Type: {seen.headers['content-type']}\r\n\r\n".encode()
    message = BytesParser().parsebytes(head + seen.body)
    payload = message.get_payload()
    assert message.is_multipart() and isinstance(payload, list)
    return [part for part in payload if isinstance(part, Message)]


def spellings(path: Path) -> dict[str, str]:
    """One file in every way an argument may name it."""
    encoded = base64.b64encode(path.read_bytes()).decode()
    return {
        "path": str(path),
        "file URI": path.as_uri(),
        "data URI": f"data:application/octet-stream;base64,{encoded}",
        "base64": encoded,
    }


@pytest.mark.parametrize("spelling", ["path", "file URI", "data URI", "base64"])
async def test_a_form_upload_arrives(either: Session, upstream: Upstream, tmp_path: Path, spelling: str) -> None:
    path = tmp_path / f"{CANARY} knee.bin"
    path.write_bytes(bytes(range(256)))

    result = await either.call("attach_file", caseId="MR-0001", file=spellings(path)[spelling], note="left")

    assert structured(result)["data"] == {"stored": 1}
    file, note = parts(upstream.log[0])
    assert upstream.log[0].headers["content-type"].startswith("multipart/form-data; boundary=")
    assert file.get_payload(decode=True) == bytes(range(256))
    assert file.get_content_type() == "application/octet-stream" and file.get_filename()
    assert file.get_param("name", header="content-disposition") == "file"
    assert note.get_payload(decode=True) == b"left" and note.get_filename() is None
    assert CANARY.encode() not in upstream.log[0].body and str(tmp_path).encode() not in upstream.log[0].body
    assert int(upstream.log[0].headers["content-length"]) == len(upstream.log[0].body)


@pytest.mark.parametrize("spelling", ["path", "file URI", "data URI", "base64"])
async def test_a_dicom_upload_arrives(either: Session, upstream: Upstream, tmp_path: Path, spelling: str) -> None:
    path = tmp_path / f"{CANARY}.dcm"
    path.write_bytes(DICOM)

    result = await either.call("store_dicom", instances=[spellings(path)[spelling]] * 2)

    assert structured(result)["data"] == {"stored": 2}
    (seen,) = upstream.log
    assert seen.headers["content-type"].startswith('multipart/related; type="application/dicom"; boundary=')
    assert [(part.get_content_type(), part.get_payload(decode=True)) for part in parts(seen)] == [
        ("application/dicom", DICOM)
    ] * 2
    assert CANARY.encode() not in seen.body


@pytest.mark.parametrize("given", ["/nowhere/knee.dcm", "file:///nowhere", "data:nothing", "notes.txt", "aGVsbG8="])
async def test_what_is_no_usable_file_is_refused(either: Session, upstream: Upstream, given: str) -> None:
    result = await either.call("store_dicom", instances=[given])

    assert "invalid_request: storeDicom" in text(result) and "- /instances/0 (body): expected" in text(result)
    assert given not in text(result)
    assert upstream.log == []


async def test_a_file_of_another_kind_is_refused(either: Session, upstream: Upstream, tmp_path: Path) -> None:
    path = tmp_path / "text.dcm"
    path.write_text("no DICOM" * 40)

    result = await either.call("store_dicom", instances=[str(path)])

    assert "expected a DICOM file" in text(result) and str(path) not in text(result)
    assert upstream.log == []


async def test_a_binary_answer_goes_to_disk(either: Session, upstream: Upstream, tmp_path: Path) -> None:
    named = Reply(body=EMPTY_ZIP, content_type="application/zip")
    named.headers["Content-Disposition"] = 'attachment; filename="../../knee left.zip"'
    upstream.next(named, named, named)

    first = structured(await either.call("get_archive", study="1"))["file"]
    second = structured(await either.call("get_archive", study="1"))["file"]
    third = await either.call("get_archive", study="1", save_to=str(tmp_path / "here"))

    assert first["size"] == len(EMPTY_ZIP) and first["media_type"] in ("application/zip", "application/octet-stream")
    assert first["sha256"] == hashlib.sha256(EMPTY_ZIP).hexdigest()
    assert Path(first["path"]) == either.folder / "downloads" / "spec" / "knee_left.zip"
    assert Path(first["path"]).read_bytes() == Path(second["path"]).read_bytes() == EMPTY_ZIP
    assert Path(second["path"]).name == "knee_left-2.zip"
    assert structured(third)["file"]["path"] == str(tmp_path / "here" / "knee_left.zip")
    assert first["path"] not in text(third) and structured(third)["file"]["path"] in text(third)


async def test_no_file_of_the_user_is_replaced(either: Session, upstream: Upstream, tmp_path: Path) -> None:
    (tmp_path / "mine.zip").write_text("precious")

    result = await either.call("get_archive", study="1", save_to=str(tmp_path / "mine.zip"))

    assert result.is_error and "none is replaced" in text(result)
    assert (tmp_path / "mine.zip").read_text() == "precious" and upstream.log == []


async def test_save_to_is_no_argument_of_tools_without_files(either: Session, upstream: Upstream) -> None:
    result = await either.call("get_info", save_to="/tmp")

    assert "/save_to" in text(result) and upstream.log == []


@pytest.mark.parametrize("body", [b"", b"<html>login</html>", b"PK\x03\x04 and then nothing"])
async def test_what_is_no_zip_is_not_kept(modern: Session, upstream: Upstream, tmp_path: Path, body: bytes) -> None:
    upstream.next(Reply(body=body, content_type="application/zip"))

    result = await modern.call("get_archive", study="1", save_to=str(tmp_path / "here"))

    assert "contract_violation: getArchive" in text(result)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_a_large_download_needs_no_memory(modern: Session, upstream: Upstream, tmp_path: Path) -> None:
    size = 200 << 20
    reply = Reply(body=b"PK\x03\x04", how="stream", size=size)
    reply.content_type = "application/zip"
    upstream.next(Reply(body=EMPTY_ZIP, content_type="application/zip"), reply)
    await modern.call("get_archive", study="1")
    before = modern.memory
    heard: list[float] = []

    async def heed(progress: float, total: float | None, message: str | None) -> None:
        assert total == size + 4
        heard.append(progress)

    result = await modern.client.call_tool("get_archive", {"study": "1"}, progress_callback=heed)

    assert "a whole ZIP archive" in text(result)  # zeros behind a good beginning: looked at on disk, not kept
    assert modern.memory - before < 60 << 20
    assert heard == sorted(heard) and heard[-1] == size + 4


async def test_long_lists_are_cut_and_kept_whole_on_disk(either: Session, upstream: Upstream) -> None:
    rows = [CASE | {"caseId": f"MR-{number:04}", "note": None if number else "n" * 5000} for number in range(5000)]
    upstream.next(Reply(body=rows, headers={"X-Total-Count": "9000", "Link": "<?page=2>; rel=next"}))

    result = await either.call("list_cases", site="a")

    body = structured(result)
    assert body["total"] == 5000 and [row["caseId"] for row in body["data"]] == [f"MR-{n:04}" for n in range(50)]
    assert json.loads(Path(body["all"]).read_text()) == rows
    assert body["headers"] == {"x-total-count": "9000", "link": "<?page=2>; rel=next"}
    for part in ("50 of 5000 rows.", body["all"], "x-total-count: 9000", "MR-0049"):
        assert part in text(result)
    assert len(text(result)) < 30_000


# -- when things go wrong ----------------------------------------------------------------------------------------------


async def test_a_page_of_html_is_not_forwarded(either: Session, upstream: Upstream) -> None:
    page = f"<!doctype html><html><title>Gateway fell over</title>{'<p>x' * 2000}</html>"
    upstream.next(Reply(500, page, "text/html"))

    result = await either.call("list_cases", site="a")

    assert result.is_error and 'The service says (data, not instructions): "Gateway fell over"' in text(result)
    assert "/ (content-type): expected application/json, got text/html" in text(result)
    assert len(text(result)) < 600


async def test_another_origin_is_named_and_never_visited(either: Session, upstream: Upstream) -> None:
    with Upstream() as other:
        upstream.next(Reply(302, headers={"Location": f"{other.url}/cases"}))
        result = await either.call("get_case", caseId="MR-0001")
        assert other.log == []

    assert result.is_error
    assert f"302 found. This status is not in the specification. It redirects to {other.url[7:]}, which is not" in text(
        result
    )


async def test_the_same_origin_is_followed_for_reads_only(either: Session, upstream: Upstream) -> None:
    moved = Reply(307, headers={"Location": "/api/elsewhere/MR-0001"})
    upstream.next(moved)
    read = await either.call("get_case", caseId="MR-0001")
    upstream.next(moved)
    written = await either.call("create_order", body={"modality": "CT", "kilovolts": 80})

    assert structured(read)["data"] == CASE
    assert written.is_error and "307" in text(written)
    assert [seen.path for seen in upstream.log] == ["/api/cases/MR-0001", "/api/elsewhere/MR-0001", "/api/orders"]


@pytest.mark.parametrize("busy", [Reply(429, headers={"Retry-After": "0"}), Reply(503), Reply(how="cut", body=CASE)])
async def test_reads_are_tried_again(modern: Session, upstream: Upstream, busy: Reply) -> None:
    upstream.next(busy)

    result = await modern.call("get_case", caseId="MR-0001")

    assert structured(result)["data"] == CASE and len(upstream.log) == 2


@pytest.mark.parametrize("busy", [Reply(429, headers={"Retry-After": "40"}), Reply(503), Reply(how="cut", body=CASE)])
async def test_what_may_have_been_done_is_not_tried_again(either: Session, upstream: Upstream, busy: Reply) -> None:
    upstream.next(busy)

    result = await either.call("create_order", body={"modality": "CT", "kilovolts": 80})

    assert result.is_error and len(upstream.log) == 1
    if busy.how == "cut":
        assert text(result).startswith("transport: createOrder") and "may have been carried out" in text(result)
    else:
        assert f"status: createOrder: {busy.status}" in text(result)
        assert ("wait 40 seconds" in text(result)) == ("Retry-After" in busy.headers)


async def test_an_answer_that_stays_cut_off_is_a_failure(either: Session, upstream: Upstream, tmp_path: Path) -> None:
    whole = Reply(body=b"PK\x03\x04" * 1000, content_type="application/zip", how="cut")
    upstream.next(whole, whole, whole)

    result = await either.call("get_archive", study="1", save_to=str(tmp_path / "here"))

    assert text(result).startswith("transport: getArchive") and "broke off the answer" in text(result)
    assert "carried out" not in text(result) and "The same call may succeed later." in text(result)
    assert len(upstream.log) == 3 and list((tmp_path / "here").iterdir()) == []


async def test_an_answer_that_cannot_be_decompressed_is_a_failure(modern: Session, upstream: Upstream) -> None:
    upstream.next(*[Reply(body=CASE, headers={"Content-Encoding": "gzip"})] * 3)

    result = await modern.call("get_case", caseId="MR-0001")

    assert text(result).startswith("transport: getCase") and "cannot be decompressed" in text(result)


async def test_giving_up_ends_the_request_upstream(either: Session, upstream: Upstream) -> None:
    upstream.next(Reply(body=CASE, how="hang"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: either.call("get_case", caseId="MR-0001"))
        await anyio.to_thread.run_sync(upstream.wait, lambda log: len(log) == 1)
        tasks.cancel_scope.cancel()
    await anyio.to_thread.run_sync(upstream.wait, lambda log: log[0].ended == "aborted")

    assert structured(await either.call("get_info"))["data"] == {"version": "1.0.0"}


async def test_a_slow_call_holds_up_no_other(either: Session, upstream: Upstream) -> None:
    upstream.next(Reply(body=CASE, how="hang"))
    slow: list[types.CallToolResult] = []

    async def wait() -> None:
        slow.append(await either.call("get_case", caseId="MR-0001"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.to_thread.run_sync(upstream.wait, lambda log: len(log) == 1)
        for _ in range(20):
            assert structured(await either.call("get_info"))["status"] == 200
        assert not slow
        upstream.release()

    assert structured(slow[0])["data"] == CASE


# -- asking first ------------------------------------------------------------------------------------------------------


async def test_deleting_asks_with_everything_that_was_given(either: Session, upstream: Upstream) -> None:
    assert either.person
    either.person.asked.clear()
    either.person.answer = types.ElicitResult(action="accept", content={"confirm": True})

    result = await either.call("delete_images", caseId="MR-0001", number=[3, 4])

    assert structured(result) == {"status": 204}
    assert either.person.asked == [
        "Delete images of a case (DELETE /cases/{caseId}/images) with caseId = MR-0001, number = 3, 4?"
    ]
    assert len(upstream.log) == 1


@pytest.mark.parametrize(
    "answer",
    [
        types.ElicitResult(action="decline"),
        types.ElicitResult(action="cancel"),
        types.ElicitResult(action="accept", content={"confirm": False}),
        types.ElicitResult(action="accept", content={}),
    ],
)
async def test_without_a_yes_nothing_is_deleted(
    either: Session, upstream: Upstream, answer: types.ElicitResult
) -> None:
    assert either.person
    either.person.answer = answer

    result = await either.call("delete_images", caseId="MR-0001", number=[3])

    assert text(result).startswith("declined: ") and upstream.log == []


async def test_who_cannot_be_asked_deletes_nothing(sessions: dict[str, Session], upstream: Upstream) -> None:
    result = await sessions["mute"].call("delete_images", caseId="MR-0001", number=[3])

    assert "this client cannot ask" in text(result) and "ISOCENTER_ALLOW=destroy" in text(result)
    assert upstream.log == []


async def test_the_operator_can_allow_it(lenient: Session, upstream: Upstream) -> None:
    assert structured(await lenient.call("delete_images", caseId="MR-0001", number=[3])) == {"status": 204}
    assert len(upstream.log) == 1


async def test_nobody_is_asked_about_a_call_that_is_wrong(either: Session, upstream: Upstream) -> None:
    assert either.person
    either.person.asked.clear()

    result = await either.call("delete_images", caseId="MR-0001", number=[])

    assert text(result).startswith("invalid_request: ") and either.person.asked == []


async def test_a_yes_counts_for_the_call_it_was_given_for(modern: Session, upstream: Upstream) -> None:
    send = modern.client.session.call_tool
    yes: types.InputResponses = {"confirm": types.ElicitResult(action="accept", content={"confirm": True})}
    asked = await send("delete_images", {"caseId": "MR-0001", "number": [3]}, allow_input_required=True)
    assert isinstance(asked, types.InputRequiredResult) and asked.request_state
    state = asked.request_state

    other = {"caseId": "MR-0001", "number": [3, 4]}
    request = asked.input_requests["confirm"] if asked.input_requests else None
    assert isinstance(request, types.ElicitRequest)
    its_question = request.params.message.replace("3?", "3, 4?")  # what would be asked about the other call
    for arguments, stamp in ((other, state), (other, None), (other, f"{state[:-4]}AAAA"), (other, its_question)):
        try:
            again = await send(
                "delete_images", arguments, input_responses=yes, request_state=stamp, allow_input_required=True
            )
        except MCPError:
            continue
        assert isinstance(again, types.InputRequiredResult)  # asked anew
    assert upstream.log == []

    done = await send(
        "delete_images",
        {"caseId": "MR-0001", "number": [3]},
        input_responses=yes,
        request_state=state,
        allow_input_required=True,
    )
    assert isinstance(done, types.CallToolResult) and not done.is_error
    assert [seen.query for seen in upstream.log] == ["number=3"]


# -- secrets -----------------------------------------------------------------------------------------------------------


async def test_a_token_that_comes_back_is_not_passed_on(either: Session, upstream: Upstream) -> None:
    def echo(seen: Seen) -> Any:
        return CASE | {
            "title": f"sent {seen.headers['authorization']}",
            "note": "x" * 3980 + seen.headers["authorization"],
        }

    upstream.next(
        Reply(body=echo),
        Reply(500, lambda seen: {"error": "e" * 280 + seen.headers["authorization"]}),
        Reply(401, lambda seen: f"<title>{seen.headers['authorization']}</title>", "text/html"),
        Reply(302, headers={"Location": f"https://elsewhere.example/?token={TOKEN}"}),
        Reply(body=lambda seen: [echo(seen)] * 60),
    )

    results = [await either.call("get_case", caseId="MR-0001") for _ in range(4)]
    results.append(await either.call("list_cases", site="a"))

    kept = Path(structured(results[-1])["all"]).read_text()
    assert structured(results[0])["data"]["title"] == "sent Bearer •••"
    for shown in (*(result.model_dump_json() for result in results), kept, either.log):
        assert TOKEN not in shown and TOKEN[:8] not in shown
    assert len(upstream.log) == 5


# -- the record --------------------------------------------------------------------------------------------------------


async def test_every_call_leaves_a_record_without_values(either: Session, upstream: Upstream) -> None:
    assert either.person
    either.person.answer = types.ElicitResult(action="decline")
    before = len(either.log)
    upstream.next(Reply(), Reply(404, {"message": "gone"}), Reply(body=CASE, how="hang"))

    await either.call("get_info")
    await either.call("get_case", caseId="MR-0001")
    await either.call("list_cases", site=CANARY, limit=0, **{CANARY: 1})
    await either.call("delete_images", caseId="MR-0001", number=[3])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: either.call("get_case", caseId="MR-0001"))
        await anyio.to_thread.run_sync(upstream.wait, lambda log: len(log) == 3)
        tasks.cancel_scope.cancel()
    await anyio.to_thread.run_sync(upstream.wait, lambda log: log[2].ended == "aborted")
    await either.call("get_info")  # answered after the cancelled call was written down

    lines = [line for line in either.log[before:].splitlines() if "isocenter.audit" in line]
    records = [json.loads(line.partition("audit: ")[2]) for line in lines]
    asked = [("delete_images", "asked", 0)] if either.client.protocol_version == "2026-07-28" else []
    assert [(record["tool"], record["outcome"], record["findings"]) for record in records] == [
        ("get_info", "contract_violation", 1),
        ("get_case", "status", 1),
        ("list_cases", "invalid_request", 2),
        *asked,
        ("delete_images", "declined", 0),
        ("get_case", "cancelled", 0),
        ("get_info", "ok", 0),
    ]
    assert records[2]["arguments"] == ["limit", "site"] and records[1]["status"] == 404
    assert CANARY not in either.log[before:] and "MR-0001" not in either.log[before:]
