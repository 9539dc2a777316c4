"""Three tools that stand for all: found, described and called with the same checks, questions and results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError, types
from test_agent import ERAS, Era, Person, connected, text, toolbox_on

from isocenter.agent.toolbox import Toolbox
from isocenter.sandbox.app import Running

pytestmark = pytest.mark.anyio


def discovering(sandbox: Running, folder: Path, **changes: Any) -> Toolbox:
    toolbox = toolbox_on(sandbox, folder, **changes)
    toolbox.discover = True
    return toolbox


async def names(client: Client, query: str, **more: Any) -> list[str]:
    result = await client.call_tool("search_operations", {"query": query, **more})
    assert not result.is_error, text(result)
    return [row["name"] for row in (result.structured_content or {})["operations"]]


def unreachable(toolbox: Toolbox) -> None:
    """Whoever sends fails with another error than a refusal."""
    toolbox.point(dict.fromkeys(toolbox.clients, "http://127.0.0.1:9"), {})


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("collections", "list_collections"),
        ("delete a case", "delete_case"),
        ("add tags to cases", "change_case_tags"),
        ("download the images of a series", "download_series"),
        ("upload to Qure", "upload_studies_to_qure"),
        ("studyinstanceuid studies", "search_studies"),
        ("generate DICOM file", "generate_dicom_file"),
        ("new API key", "create_dicomaestro_key"),
    ],
)
async def test_operations_are_found_by_what_people_say(
    sandbox: Running, tmp_path: Path, query: str, wanted: str
) -> None:
    async with connected(discovering(sandbox, tmp_path)) as client:
        assert wanted in (await names(client, query))[:5]


async def test_few_are_shown_and_the_rest_is_counted(sandbox: Running, tmp_path: Path) -> None:
    toolbox = discovering(sandbox, tmp_path)
    async with connected(toolbox) as client:
        result = await client.call_tool("search_operations", {"query": "series", "limit": 2})
        everything = await names(client, "")
        nothing = await client.call_tool("search_operations", {"query": "weather"})

    structured = result.structured_content or {}
    assert len(structured["operations"]) == 2 and structured["total"] > 10
    assert f"{structured['total'] - 2} more" in text(result)
    assert len(everything) >= len(toolbox.tools)
    assert "No operation matches." in text(nothing) and not nothing.is_error


async def test_a_description_holds_all_a_call_needs(sandbox: Running, tmp_path: Path) -> None:
    async with connected(discovering(sandbox, tmp_path)) as client:
        result = await client.call_tool("describe_operation", {"name": "search_series"})

    structured = result.structured_content or {}
    assert structured["arguments"]["properties"]["Modality"]["type"] == "string"
    assert structured["effect"] == "read" and structured["description"] in text(result)
    assert json.dumps(structured["arguments"], separators=(",", ":")) in text(result)
    assert "call_operation with name search_series" in text(result)


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_gives_what_the_tool_itself_gives(sandbox: Running, tmp_path: Path, era: Era) -> None:
    arguments = {"Modality": "CT"}
    async with connected(toolbox_on(sandbox, tmp_path), era) as client:
        direct = await client.call_tool("search_series", arguments)
    async with connected(discovering(sandbox, tmp_path), era) as client:
        found = await client.call_tool("call_operation", {"name": "search_series", "arguments": arguments})
        spoken = await client.call_tool("call_operation", {"name": "search_series", "arguments": '{"Modality":"CT"}'})

    for result in (found, spoken):  # but for `all`, which names a new file each time
        for name in ("status", "data", "total"):
            assert (result.structured_content or {})[name] == (direct.structured_content or {})[name]
        assert text(result).splitlines()[:5] == text(direct).splitlines()[:5]


async def test_wrong_arguments_are_refused_with_their_repair(sandbox: Running, tmp_path: Path) -> None:
    toolbox = discovering(sandbox, tmp_path)
    unreachable(toolbox)
    async with connected(toolbox) as client:
        result = await client.call_tool("call_operation", {"name": "search_series", "arguments": {"Modallity": "CT"}})

    assert result.is_error and "Did you mean Modality?" in text(result)
    assert "call call_operation with name search_series again" in text(result)


@pytest.mark.parametrize(
    ("tool", "given", "told"),
    [
        ("call_operation", {"name": "serch_series"}, "Did you mean search_series?"),
        ("call_operation", {"arguments": {}}, "Find it with search_operations."),
        ("describe_operation", {"name": "zzzzzzzz"}, "Find it with search_operations."),
        ("call_operation", {"name": "search_series", "arguments": [1]}, "/arguments: expected an object"),
        ("call_operation", {"name": "search_series", "Modality": "CT"}, "Put the operation's own into /arguments."),
        ("search_operations", {"query": 7}, "/query: expected a string"),
        ("search_operations", {"query": "series", "limit": 0}, "/limit: expected a whole number from 1 to 25"),
    ],
)
async def test_a_slip_in_the_wrapping_is_named(
    sandbox: Running, tmp_path: Path, tool: str, given: dict[str, Any], told: str
) -> None:
    toolbox = discovering(sandbox, tmp_path)
    unreachable(toolbox)
    async with connected(toolbox) as client:
        result = await client.call_tool(tool, given)

    assert result.is_error and told in text(result) and "Nothing was sent." in text(result)


@pytest.mark.parametrize("era", ERAS)
async def test_a_person_is_asked_before_anything_is_destroyed(sandbox: Running, tmp_path: Path, era: Era) -> None:
    toolbox, person = discovering(sandbox, tmp_path), Person("decline")
    async with connected(toolbox, era, person) as client:
        result = await client.call_tool(
            "call_operation", {"name": "delete_case", "arguments": {"caseId": "case-of-the-test"}}
        )

    assert result.is_error and "declined" in text(result)
    assert len(person.asked) == 1 and "case-of-the-test" in person.asked[0]


async def test_read_only_hides_changes_here_too(sandbox: Running, tmp_path: Path) -> None:
    async with connected(discovering(sandbox, tmp_path, read_only=True)) as client:
        tools = (await client.list_tools()).tools
        result = await client.call_tool("call_operation", {"name": "delete_case", "arguments": {"caseId": "x"}})
        with pytest.raises(MCPError, match="Unknown tool: delete_case"):
            await client.call_tool("delete_case", {"caseId": "x"})

    assert result.is_error and "/name: expected the name of an operation." in text(result)
    assert all(tool.annotations and tool.annotations.read_only_hint for tool in tools)


async def test_the_usage_map_says_how_operations_are_run(sandbox: Running, tmp_path: Path) -> None:
    async with connected(discovering(sandbox, tmp_path)) as client:
        assert (client.instructions or "").startswith("What is named below are operations")


async def test_the_call_tool_says_what_it_may_do(sandbox: Running, tmp_path: Path) -> None:
    async with connected(discovering(sandbox, tmp_path)) as client:
        hints: dict[str, types.ToolAnnotations | None] = {
            tool.name: tool.annotations for tool in (await client.list_tools()).tools
        }

    calling, looking = hints["call_operation"], hints["search_operations"]
    assert calling and calling.destructive_hint and not calling.read_only_hint
    assert looking and looking.read_only_hint
