"""What an assistant meets: our tools through a real MCP client, in both protocol eras, against the sandbox on a real socket."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from mcp import Client, MCPError, types

from isocenter.agent.embedded import base_urls
from isocenter.agent.server import build
from isocenter.agent.toolbox import Toolbox, own_apis
from isocenter.core.tool import portability_problems
from isocenter.sandbox.app import Running
from isocenter.settings import Settings

pytestmark = pytest.mark.anyio
Era = Literal["auto", "legacy"]
ERAS: tuple[Era, ...] = ("auto", "legacy")


class Person:
    """Answers questions and remembers them."""

    def __init__(self, action: Literal["accept", "decline"], confirm: bool = True) -> None:
        self.action: Literal["accept", "decline"] = action
        self.confirm = confirm
        self.asked: list[str] = []

    async def __call__(self, context: Any, params: Any) -> types.ElicitResult:
        self.asked.append(params.message)
        return types.ElicitResult(
            action=self.action, content={"confirm": self.confirm} if self.action == "accept" else None
        )


def toolbox_on(sandbox: Running, folder: Path, **changes: Any) -> Toolbox:
    toolbox = own_apis(replace(Settings(download_dir=folder), **changes))
    toolbox.point(base_urls(sandbox.url), sandbox.sandbox.credentials)
    return toolbox


@asynccontextmanager
async def connected(toolbox: Toolbox, era: Era = "auto", person: Person | None = None) -> AsyncIterator[Client]:
    async with Client(build(toolbox), mode=era, elicitation_callback=person) as client:
        yield client


def text(result: types.CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if block.type == "text")


async def case_on(client: Client) -> str:
    """A fresh CIRCUS case on a series the sandbox ships."""
    account = (await client.call_tool("get_circus_account", {})).structured_content or {}
    project = next(entry["projectId"] for entry in account["data"]["accessibleProjects"] if "write" in entry["roles"])
    listed = (await client.call_tool("search_circus_series", {})).structured_content or {}
    series = listed["data"]["items"][0]["seriesUid"]
    entry = {"seriesUid": series, "partialVolumeDescriptor": "auto"}
    result = await client.call_tool("create_case", {"projectId": project, "series": [entry], "tags": ["one"]})
    assert not result.is_error, text(result)
    return str((result.structured_content or {})["data"]["caseId"])


@pytest.mark.parametrize("era", ERAS)
async def test_every_operation_is_a_tool_that_every_host_can_read(sandbox: Running, tmp_path: Path, era: Era) -> None:
    toolbox = toolbox_on(sandbox, tmp_path)

    async with connected(toolbox, era) as client:
        tools = (await client.list_tools()).tools

    operations = sum(len(client.contract.operations) for client in toolbox.clients.values())
    assert len(toolbox.tools) == operations == 89
    assert {tool.name for tool in tools} >= toolbox.tools.keys()
    assert [problem for tool in toolbox.tools.values() for problem in portability_problems(tool)] == []
    for tool in tools:
        assert tool.description and tool.title and tool.annotations
        assert re.fullmatch(r"[a-z][a-z0-9_]{2,39}", tool.name)
        assert tool.input_schema["type"] == "object"
        assert tool.output_schema is None or tool.output_schema["type"] == "object"


async def test_annotations_tell_what_a_tool_does_to_the_world(sandbox: Running, tmp_path: Path) -> None:
    async with connected(toolbox_on(sandbox, tmp_path)) as client:
        tools = {tool.name: tool.annotations for tool in (await client.list_tools()).tools}

    assert tools["search_series"] and tools["search_series"].read_only_hint
    assert tools["delete_case"] and tools["delete_case"].destructive_hint and not tools["delete_case"].read_only_hint
    assert tools["upload_studies_to_qure"] and not tools["upload_studies_to_qure"].destructive_hint


async def test_read_only_hides_everything_else(sandbox: Running, tmp_path: Path) -> None:
    async with connected(toolbox_on(sandbox, tmp_path, read_only=True)) as client:
        tools = (await client.list_tools()).tools

        assert tools and all(tool.annotations and tool.annotations.read_only_hint for tool in tools)
        with pytest.raises(MCPError, match="Unknown tool: delete_case"):
            await client.call_tool("delete_case", {"caseId": "x"})


@pytest.mark.parametrize("era", ERAS)
async def test_text_and_structured_content_tell_the_same(sandbox: Running, tmp_path: Path, era: Era) -> None:
    async with connected(toolbox_on(sandbox, tmp_path), era) as client:
        result = await client.call_tool("search_series", {"Modality": "CT"})

    rows = (result.structured_content or {})["data"]
    assert rows
    for row in rows:
        assert row["SeriesInstanceUID"] in text(result)


async def test_no_rows_is_an_answer_not_an_error(sandbox: Running, tmp_path: Path) -> None:
    async with connected(toolbox_on(sandbox, tmp_path)) as client:
        result = await client.call_tool("search_series", {"Collection": "nothing of that name"})

    assert result.structured_content == {"status": 200, "data": [], "total": 0}
    assert "No rows." in text(result)


@pytest.mark.parametrize("era", ERAS)
async def test_a_wrong_call_is_refused_with_its_repair_and_nothing_is_sent(
    sandbox: Running, tmp_path: Path, era: Era
) -> None:
    toolbox = toolbox_on(sandbox, tmp_path)
    toolbox.point(dict.fromkeys(toolbox.clients, "http://127.0.0.1:9"), {})  # whoever sends fails differently

    async with connected(toolbox, era) as client:
        result = await client.call_tool("search_series", {"BodyPart": "CHEST", "Modality": 7})

    assert result.is_error and result.structured_content is None
    assert "invalid_request" in text(result) and "Did you mean BodyPartExamined?" in text(result)
    assert "/Modality (query): expected a string, got an integer" in text(result)
    assert "tcia.yaml#/paths/~1getSeries/get" in text(result)


async def test_an_identifying_value_is_never_repeated(
    sandbox: Running, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    toolbox = toolbox_on(sandbox, tmp_path, audit=tmp_path / "audit.jsonl")
    canary = "Canary^Patient"

    with caplog.at_level("DEBUG", "isocenter"):
        async with connected(toolbox) as client:
            result = await client.call_tool("search_patients", {"PatientId": [canary], "Collection": {canary: canary}})

    assert result.is_error
    assert canary not in text(result) and canary not in caplog.text
    assert canary not in (tmp_path / "audit.jsonl").read_text()


@pytest.mark.parametrize("era", ERAS)
async def test_destroying_asks_about_exactly_this_call(sandbox: Running, tmp_path: Path, era: Era) -> None:
    yes = Person("accept")

    async with connected(toolbox_on(sandbox, tmp_path), era, yes) as client:
        case = await case_on(client)
        deleted = await client.call_tool("delete_case", {"caseId": case})
        again = await client.call_tool("get_case", {"caseId": case})

    assert not deleted.is_error, text(deleted)
    assert [case in question for question in yes.asked] == [True]
    assert again.is_error and "404" in text(again)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    "person", [Person("decline"), Person("accept", confirm=False), None], ids=["declines", "unticked", "absent"]
)
async def test_without_a_yes_nothing_is_destroyed(
    sandbox: Running, tmp_path: Path, era: Era, person: Person | None
) -> None:
    async with connected(toolbox_on(sandbox, tmp_path), era, person) as client:
        case = await case_on(client)
        result = await client.call_tool("delete_case", {"caseId": case})
        kept = await client.call_tool("get_case", {"caseId": case})

    assert result.is_error and text(result).startswith("declined:")
    assert not kept.is_error


async def test_a_wrong_call_is_refused_before_a_person_is_bothered(sandbox: Running, tmp_path: Path) -> None:
    person = Person("accept")

    async with connected(toolbox_on(sandbox, tmp_path), person=person) as client:
        result = await client.call_tool("delete_case", {"caseId": "x", "force": "yes please"})

    assert result.is_error and person.asked == []


async def test_the_operator_can_allow_an_effect(sandbox: Running, tmp_path: Path) -> None:
    async with connected(toolbox_on(sandbox, tmp_path, allow=frozenset({"destroy"}))) as client:
        case = await case_on(client)
        result = await client.call_tool("replace_case_tags", {"caseId": case, "body": []})

    assert not result.is_error, text(result)


async def test_a_secret_that_a_service_hands_out_is_kept_and_not_shown(sandbox: Running, tmp_path: Path) -> None:
    toolbox = toolbox_on(sandbox, tmp_path)
    credentials = toolbox.clients["dicomaestro"].credentials
    before = credentials.get("access_token")

    async with connected(toolbox) as client:
        result = await client.call_tool("obtain_dicomaestro_token", {})
        usage = await client.call_tool("get_dicomaestro_usage", {})

    assert not result.is_error, text(result)
    access = credentials.get("access_token")
    assert access and access != before and access not in text(result)
    assert access not in json.dumps(result.structured_content)
    assert not usage.is_error, text(usage)


async def test_missing_credentials_say_what_to_set(sandbox: Running, tmp_path: Path) -> None:
    toolbox = own_apis(Settings(download_dir=tmp_path))
    toolbox.point(base_urls(sandbox.url), {})

    async with connected(toolbox) as client:
        result = await client.call_tool("get_qure_results", {"uid": "1.2.3"})

    assert "ISOCENTER_QURE_TOKEN and ISOCENTER_QURE_SOURCE" in text(result)


async def test_a_rendered_frame_is_an_image_the_model_sees(sandbox: Running, tmp_path: Path) -> None:
    yes = Person("accept")

    async with connected(toolbox_on(sandbox, tmp_path), person=yes) as client:
        rows = ((await client.call_tool("search_series", {"Modality": "MR"})).structured_content or {})["data"]
        series = {"SeriesInstanceUID": rows[0]["SeriesInstanceUID"]}
        instances = ((await client.call_tool("list_series_images", series)).structured_content or {})["data"]
        one = await client.call_tool("download_image", {**series, "SOPInstanceUID": instances[0]["SOPInstanceUID"]})
        path = (one.structured_content or {})["file"]["path"]
        result = await client.call_tool("read_dicom_file", {"file": path, "return_format": "png"})

    assert [block.type for block in result.content] == ["text", "image"]
    assert result.structured_content is None
    assert len(yes.asked) == 1


async def test_hosts_slips_are_repaired(sandbox: Running, tmp_path: Path) -> None:
    async with connected(toolbox_on(sandbox, tmp_path)) as client:
        nulls = await client.call_tool("search_series", {"Modality": "CT", "Collection": None})
        as_text = await client.call_tool("search_cases", {"filter": '{"tags": "none"}', "sort": '{"createdAt": -1}'})

    assert not nulls.is_error, text(nulls)
    assert not as_text.is_error, text(as_text)


async def test_an_unknown_tool_is_a_protocol_error_with_a_hint(sandbox: Running, tmp_path: Path) -> None:
    async with connected(toolbox_on(sandbox, tmp_path)) as client:
        with pytest.raises(MCPError, match=r"Did you mean search_series\?"):
            await client.call_tool("serch_series", {})
