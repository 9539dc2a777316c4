"""What our tools cost a model: tokens of names, descriptions and input schemas as `tools/list` sends them, counted with o200k."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from bpe_openai import get_encoding
from mcp import Client, types

from isocenter.agent.server import build
from isocenter.agent.toolbox import Toolbox, one_spec, own_apis
from isocenter.codegen.spec import read_spec
from isocenter.core.schema import brief, portable
from isocenter.settings import Settings

pytestmark = pytest.mark.anyio
MINIRAD = Path(__file__).parent / "specs" / "minirad.yaml"


def tokens(tools: Iterable[types.Tool], *, output: bool = False) -> int:
    encoding = get_encoding("o200k_base")
    total = 0
    for tool in tools:
        seen: dict[str, Any] = {"name": tool.name, "description": tool.description, "inputSchema": tool.input_schema}
        if output and tool.output_schema:
            seen["outputSchema"] = tool.output_schema
        total += len(encoding.encode(json.dumps(seen, ensure_ascii=False, separators=(",", ":"))))
    return total


async def listed(toolbox: Toolbox) -> list[types.Tool]:
    async with Client(build(toolbox)) as client:
        return (await client.list_tools()).tools


def test_the_tokenizer_counts_as_its_makers_do() -> None:
    assert get_encoding("o200k_base").encode("hello world") == [24912, 2375]


async def test_the_default_set_is_small() -> None:
    tools = await listed(own_apis(Settings(), ["default"]))

    assert len(tools) <= 32
    assert tokens(tools) < 6000, {tool.name: tokens([tool]) for tool in tools}


async def test_everything_at_once_costs_no_more_than_it_has_to() -> None:
    tools = await listed(own_apis(Settings()))

    assert len(tools) >= 89
    assert tokens(tools) / len(tools) < 160


async def test_a_strange_specification_is_listed_in_few_tokens() -> None:
    tools = await listed(one_spec(Settings(), read_spec(MINIRAD), MINIRAD, "http://127.0.0.1:9", {}))

    assert len(tools) == 12
    assert tokens(tools) <= 1500
    assert tokens(tools, output=True) <= 3000


async def test_three_tools_that_find_the_others_cost_next_to_nothing() -> None:
    toolbox = own_apis(Settings())
    toolbox.discover = True

    tools = await listed(toolbox)

    assert [tool.name for tool in tools] == ["search_operations", "describe_operation", "call_operation"]
    assert tokens(tools) < 900


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("The series. It has images.", "The series"),
        ("At most 4.5 MB, e.g. a picture.", "At most 4.5 MB, e.g. a picture"),
        ("One\n  line only", "One line only"),
        ("Names the parts; " + "and goes on " * 20, "Names the parts"),
        ("", ""),
    ],
)
def test_a_description_is_cut_to_its_first_sentence(text: str, short: str) -> None:
    assert brief(text) == short


def test_what_a_shortened_schema_leaves_out_is_nothing_a_model_needs() -> None:
    shown = portable(
        {
            "type": "object",
            "properties": {
                "id": {"type": "string", "pattern": "^[^/]+$", "minLength": 1, "description": "The id. Opaque."},
                "day": {"type": "string", "format": "us-date", "description": "Day of the scan"},
                "said": {"type": "string", "format": "us-date", "description": "A day as MM-DD-YYYY"},
                "page": {"type": "integer", "minimum": 1, "maximum": 1 << 53},
                "limit": {"type": "integer", "minimum": 5, "maximum": 200},
            },
        },
        {},
    )

    assert shown["properties"] == {
        "id": {"type": "string", "description": "The id"},
        "day": {"type": "string", "description": "Day of the scan (MM-DD-YYYY)"},
        "said": {"type": "string", "description": "A day as MM-DD-YYYY"},
        "page": {"type": "integer"},
        "limit": {"type": "integer", "minimum": 5, "maximum": 200},
    }


def test_arguments_that_are_not_shown_are_taken_all_the_same() -> None:
    tool = own_apis(Settings(), ["tcia"]).tools["search_series"]

    assert "format" in tool.operation.arguments and "format" not in tool.input_schema["properties"]
    assert tool.operation.check({"Collection": "x", "format": "CSV"}) == []
    assert tool.operation.check({"Collection": "x", "format": "PDF"}) != []
