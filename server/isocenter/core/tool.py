"""An operation as an agent sees it: name, prose, effect and question by hand, schemas from the contract."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from isocenter.core.contract import Contract
from isocenter.core.errors import InvalidSpec
from isocenter.core.operation import Operation, is_json
from isocenter.core.schema import lookup, portable, reference

Effect = Literal["read", "write", "send", "destroy"]
NAME = re.compile(r"[a-z][a-z0-9_]{2,39}")
PLACEHOLDER = re.compile(r"\{([A-Za-z0-9_.-]+)\}")
KEYS = frozenset({"operation", "title", "description", "effect", "confirm", "show", "rows", "default", "idempotent"})


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool. `effect` says what it does to the world: `send` lets patient data leave, `destroy` loses something.

    `show` are the fields of the compact text, `rows` the most rows of a list in one result, `default` whether it is offered
    unless the operator chooses otherwise.
    """

    name: str
    operation: Operation
    title: str
    description: str
    effect: Effect
    confirm: str = ""
    show: tuple[str, ...] = ()
    rows: int = 50
    default: bool = False
    idempotent: bool = False

    @property
    def input_schema(self) -> dict[str, Any]:
        """The portable schema of the arguments; the strict one stays with the judge."""
        operation, document = self.operation, self.operation.contract.document
        properties: dict[str, Any] = {}
        for argument in operation.arguments.values():
            if argument.file:
                what = f"{argument.description} " if argument.description else ""
                text = {"type": "string", "description": f"{what}Path of a local file, or a data: URI."}
                properties[argument.name] = (
                    {"type": "array", "items": {"type": "string"}, "description": text["description"]}
                    if argument.files
                    else text
                )
                continue
            schema = portable(reference("", argument.schema), document)
            if argument.description:
                schema["description"] = argument.description
            if "description" in schema:
                schema["description"] = " ".join(schema["description"].split())
            properties[argument.name] = schema
        if len(operation.body_types) > 1:
            properties["content_type"] = {
                "type": "string",
                "enum": list(operation.body_types),
                "description": "How the parts are framed; leave out for the usual form.",
            }
        if operation.has_binary_answer:
            properties["save_to"] = {
                "type": "string",
                "description": "Folder for the file; the download folder if left out.",
            }
        required = [argument.name for argument in operation.arguments.values() if argument.required]
        return {
            "type": "object",
            "properties": properties,
            **({"required": required} if required else {}),
            "additionalProperties": operation.body_extra,
        }

    @property
    def output_schema(self) -> dict[str, Any]:
        """One schema over all documented successes: `status`, then `data` or `file`, and `findings` where the contract was not kept."""
        bodies: list[dict[str, Any]] = []
        document = self.operation.contract.document
        for answer in self.operation.answers.values():
            if answer.success or answer.status.startswith("2"):
                for content in answer.contents:
                    if content.schema and is_json(content.media_type) and not content.text:
                        bodies.append(portable(reference("", content.schema), document, depth=2, output=True))
        properties: dict[str, Any] = {"status": {"type": "integer"}}
        if bodies:
            distinct = [body for index, body in enumerate(bodies) if body not in bodies[:index]]
            text_too = any(
                not is_json(content.media_type) and not content.binary
                for answer in self.operation.answers.values()
                if answer.success or answer.status.startswith("2")
                for content in answer.contents
            )
            properties["data"] = distinct[0] if len(distinct) == 1 and not text_too else {"description": "The answer."}
            properties["total"] = {"type": "integer"}
            properties["all"] = {"type": "string"}
        if self.operation.has_binary_answer:
            properties["file"] = {
                "type": "object",
                "properties": {
                    "path": {"type": "string"},
                    "size": {"type": "integer"},
                    "sha256": {"type": "string"},
                    "media_type": {"type": "string"},
                },
            }
        properties["findings"] = {"type": "array", "items": {"type": "object"}}
        return {"type": "object", "properties": properties, "required": ["status"]}

    def question(self, arguments: Mapping[str, Any]) -> str:
        """What a person is asked before the call: the curated text with this call's arguments."""

        def fill(match: re.Match[str]) -> str:
            value = arguments.get(match.group(1))
            argument = self.operation.arguments.get(match.group(1))
            if argument and argument.files and isinstance(value, list):
                return str(len(value))
            if isinstance(value, list):
                return ", ".join(str(item) for item in value[:10]) + (
                    f" and {len(value) - 10} more" if len(value) > 10 else ""
                )
            return "not given" if value is None else str(value)

        return PLACEHOLDER.sub(
            fill, self.confirm or f"{self.title}: {self.operation.method} {self.operation.path}. Go on?"
        )


def curated(contract: Contract, table: Mapping[str, Any], file: str) -> list[Tool]:
    """The tools of a tools file. Raises InvalidSpec listing every entry that does not fit the contract."""
    problems: list[str] = []
    tools: list[Tool] = []
    for name, entry in (table.get("tools") or {}).items():
        at = f"{file}#/tools/{name}"
        operation = contract.operations.get(entry.get("operation", ""))
        if operation is None:
            problems.append(f"{at}/operation: {entry.get('operation')!r} is no operation of {contract.file}")
            continue
        effect, confirm = entry.get("effect"), str(entry.get("confirm", ""))
        if not NAME.fullmatch(name):
            problems.append(f"{at}: a tool name is 3 to 40 of a-z, 0-9 and _, starting with a letter")
        if effect not in ("read", "write", "send", "destroy"):
            problems.append(f"{at}/effect: expected read, write, send or destroy")
        if operation.method == "DELETE" and effect != "destroy":
            problems.append(f"{at}/effect: a DELETE operation must be marked destroy")
        if effect in ("send", "destroy") and not confirm:
            problems.append(f"{at}/confirm: a tool that sends or destroys needs a question")
        problems += [
            f"{at}/confirm: {{{unknown}}} is no argument of {operation.id}"
            for unknown in PLACEHOLDER.findall(confirm)
            if unknown not in operation.arguments
        ]
        problems += [f"{at}/{key}: unknown key" for key in entry.keys() - KEYS]
        problems += [f"{at}/{key}: missing" for key in ("title", "description") if not entry.get(key)]
        tools.append(
            Tool(
                name=name,
                operation=operation,
                title=str(entry.get("title", "")),
                description=" ".join(str(entry.get("description", "")).split()),
                effect=effect,
                confirm=" ".join(confirm.split()),
                show=tuple(entry.get("show") or ()),
                rows=int(entry.get("rows", 50)),
                default=bool(entry.get("default")),
                idempotent=bool(entry.get("idempotent")),
            )
        )
    if problems:
        raise InvalidSpec(problems)
    return tools


def derived(contract: Contract) -> list[Tool]:
    """Tools for a specification nobody curated: one per operation, effects from the HTTP method, DELETE asks first."""
    tools: list[Tool] = []
    taken: set[str] = set()
    for operation in contract.operations.values():
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", operation.id).lower()
        name = re.sub(r"[^a-z0-9]+", "_", words).strip("_") or "call"
        name = (name if name[0].isalpha() else f"call_{name}")[:40].rstrip("_").ljust(3, "_")
        base, number = name, 2
        while name in taken:
            name = f"{base[:37]}_{number}"
            number += 1
        taken.add(name)
        summary = (
            operation.summary or operation.description.partition("\n\n")[0] or f"{operation.method} {operation.path}"
        )
        effects: dict[str, Effect] = {
            "GET": "read",
            "HEAD": "read",
            "OPTIONS": "read",
            "TRACE": "read",
            "DELETE": "destroy",
        }
        effect: Effect = effects.get(operation.method, "write")
        path_arguments = " ".join(
            f"{argument.name} = {{{argument.name}}}"
            for argument in operation.arguments.values()
            if argument.where == "path"
        )
        confirm = (
            f"{summary.rstrip('.')} ({operation.method} {operation.path}) {path_arguments}?"
            if effect == "destroy"
            else ""
        )
        tools.append(
            Tool(
                name,
                operation,
                summary[:80].rstrip("."),
                " ".join(summary.split())[:400],
                effect,
                " ".join(confirm.split()),
                default=True,
                idempotent=operation.method in ("PUT", "DELETE"),
            )
        )
    return tools


def portability_problems(tool: Tool) -> list[str]:
    """Where a tool's input schema breaks a rule that some MCP host enforces (one bad tool can hide all others)."""
    problems: list[str] = []

    def visit(schema: Any, at: str) -> None:
        if not isinstance(schema, dict):
            problems.append(f"{tool.name}{at}: a boolean is no portable schema")
            return
        for key in (
            "$ref",
            "$defs",
            "oneOf",
            "anyOf",
            "allOf",
            "not",
            "const",
            "nullable",
            "example",
            "patternProperties",
            "propertyNames",
        ):
            if key in schema and not at.endswith("/properties"):
                problems.append(f"{tool.name}{at}: {key} is not portable")
        if isinstance(schema.get("type"), list):
            problems.append(f"{tool.name}{at}: one type only")
        if schema.get("type") == "array" and not isinstance(schema.get("items"), dict):
            problems.append(f"{tool.name}{at}: an array needs items")
        if any(not isinstance(value, str) for value in schema.get("enum") or ()):
            problems.append(f"{tool.name}{at}: only string enums are portable")
        for name, child in (schema.get("properties") or {}).items():
            if not re.fullmatch(r"[a-zA-Z0-9_.-]{1,64}", name):
                problems.append(f"{tool.name}{at}/{name}: not a portable property name")
            visit(child, f"{at}/{name}")
        if isinstance(schema.get("items"), dict):
            visit(schema["items"], f"{at}/items")

    visit(tool.input_schema, "")
    return problems


def field_exists(tool: Tool, name: str) -> bool:
    """Whether a documented success has a field of this name, so that `show` cannot silently show nothing."""
    document = tool.operation.contract.document
    for answer in tool.operation.answers.values():
        for content in answer.contents:
            if (
                content.schema
                and is_json(content.media_type)
                and name in str(portable(lookup(document, content.schema), document, depth=6))
            ):
                return True
    return False
