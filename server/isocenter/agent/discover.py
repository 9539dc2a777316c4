"""Three tools instead of all: search the operations, describe one, call one. For hosts where every listed tool costs tokens.

A call is unwrapped into the operation's own call before anything else looks at it, so checks, questions and results are the same.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from mcp import types

from isocenter.core.findings import did_you_mean

SEARCH, DESCRIBE, CALL = "search_operations", "describe_operation", "call_operation"
MOST = 25  # operations in one answer, however many are asked for
HOW = f"What is named below are operations: find them with {SEARCH}, see {DESCRIBE}, run them with {CALL}."
ARGUMENTS = frozenset({"name", "arguments"})


class Discovery:
    """The three tools over `listed`, the tools that would be offered without them."""

    def __init__(self, listed: Sequence[types.Tool]) -> None:
        self.words = {tool.name: _words_of(tool) for tool in listed}
        self.spread = Counter(word for words in self.words.values() for word in words)
        reading = all(tool.annotations and tool.annotations.read_only_hint for tool in listed)
        name = {"type": "string", "description": f"Name as {SEARCH} gives it"}
        looking = types.ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
        self.offered = [
            types.Tool(
                name=SEARCH,
                title="Search operations",
                description="Find operations by what they do, such as download a series or add case tags. "
                f"Use it first; next {DESCRIBE}.",
                input_schema=_object(
                    {
                        "query": {"type": "string", "description": "A few words; empty for all"},
                        "limit": {"type": "integer", "maximum": MOST, "description": "Most results, 8 if left out"},
                    },
                    "query",
                ),
                annotations=looking,
            ),
            types.Tool(
                name=DESCRIBE,
                title="Describe an operation",
                description=f"Show what an operation does and the schema of its arguments. Next {CALL}.",
                input_schema=_object({"name": name}, "name"),
                annotations=looking,
            ),
            types.Tool(
                name=CALL,
                title="Call an operation",
                description="Call an operation. Arguments are checked before anything is sent; "
                "a person is asked before data leave or are destroyed.",
                input_schema=_object(
                    {
                        "name": name,
                        "arguments": {"type": "object", "description": f"As {DESCRIBE} shows them"},
                    },
                    "name",
                ),
                annotations=types.ToolAnnotations(
                    read_only_hint=reading, destructive_hint=not reading, open_world_hint=True
                ),
            ),
        ]

    def step(
        self, params: types.CallToolRequestParams, allowed: Sequence[types.Tool]
    ) -> types.CallToolResult | types.CallToolRequestParams:
        """The answer, or the call of the operation that is meant. `allowed` are the tools this caller may use."""
        given = params.arguments or {}
        if params.name == SEARCH:
            return self._found(given, allowed)
        if params.name not in (DESCRIBE, CALL):
            return params
        tools = {tool.name: tool for tool in allowed}
        name = given.get("name")
        if not isinstance(name, str) or name not in tools:
            hint = did_you_mean(name, tools) if isinstance(name, str) else ""
            return _refused(f"/name: expected the name of an operation. {hint or f'Find it with {SEARCH}.'}")
        if params.name == DESCRIBE:
            return _description(tools[name])
        arguments: Any = given.get("arguments") or {}
        if isinstance(arguments, str):  # some hosts send objects as text
            with suppress(ValueError):
                arguments = json.loads(arguments)
        if not isinstance(arguments, dict):
            return _refused(f"/arguments: expected an object; {DESCRIBE} shows its names.")
        if beside := given.keys() - ARGUMENTS:
            names = ", ".join(sorted(beside))
            return _refused(f"{names}: expected only name and arguments here. Put the operation's own into /arguments.")
        return params.model_copy(update={"name": name, "arguments": arguments})

    def _found(self, given: Mapping[str, Any], allowed: Sequence[types.Tool]) -> types.CallToolResult:
        query, limit = given.get("query", ""), given.get("limit", 8)
        if not isinstance(query, str):
            return _refused("/query: expected a string of a few words.")
        if not isinstance(limit, int) or not 1 <= limit <= MOST:
            return _refused(f"/limit: expected a whole number from 1 to {MOST}.")
        wanted = _words(query)
        if wanted:
            scores = {tool.name: self._score(tool.name, wanted) for tool in allowed}
            ranked = sorted((tool for tool in allowed if scores[tool.name]), key=lambda tool: -scores[tool.name])
            shown = ranked[:limit]
        else:
            ranked = shown = list(allowed)
        rows = [{"name": tool.name, "title": tool.title or tool.name, "effect": _effect(tool)} for tool in shown]
        lines = [f"{row['name']} ({row['effect']}): {row['title']}" for row in rows]
        if len(ranked) > len(shown):
            lines.append(f"{len(ranked) - len(shown)} more; give more words, or a higher limit.")
        if not rows:
            lines.append(f"No operation matches. Use other words, or an empty query for all {len(allowed)}.")
        return types.CallToolResult(
            content=[types.TextContent(type="text", text="\n".join(lines))],
            structured_content={"operations": rows, "total": len(ranked)},
        )

    def _score(self, name: str, wanted: set[str]) -> float:
        """How well an operation fits: rare words count more, and so do words of its name and title."""
        words = self.words[name]
        return sum(words[word] * math.log(1 + len(self.words) / self.spread[word]) for word in wanted if word in words)


def again(name: str) -> str:
    """How an operation is called here, for errors."""
    return f"{CALL} with name {name}"


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _words(text: str) -> set[str]:
    """The words of a text without endings that change nothing."""
    parts = re.findall(r"[a-z]+|[0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower())
    return {re.sub(r"(?:ies|y)$", "i", part) if len(part) > 3 else part for part in map(_singular, parts)}


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "ies")) else word


def _words_of(tool: types.Tool) -> dict[str, float]:
    texts = (
        (1.0, tool.description or ""),
        (1.0, " ".join(tool.input_schema.get("properties") or ())),
        (2.0, tool.title or ""),
        (3.0, tool.name),
    )
    weights: dict[str, float] = {}
    for weight, text in texts:
        weights |= dict.fromkeys(_words(text), weight)
    return weights


def _effect(tool: types.Tool) -> str:
    hints = tool.annotations
    if hints and hints.read_only_hint:
        return "read"
    return "destroy" if hints and hints.destructive_hint else "write"


def _description(tool: types.Tool) -> types.CallToolResult:
    schema = json.dumps(tool.input_schema, ensure_ascii=False, separators=(",", ":"))
    text = f"{tool.name} ({_effect(tool)}): {tool.description}\nArguments: {schema}\nNext: {again(tool.name)}."
    structured = {
        "name": tool.name,
        "effect": _effect(tool),
        "description": tool.description,
        "arguments": tool.input_schema,
    }
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], structured_content=structured)


def _refused(text: str) -> types.CallToolResult:
    return types.CallToolResult(
        is_error=True, content=[types.TextContent(type="text", text=f"invalid_request: {text}\nNothing was sent.")]
    )
