"""An operation as an agent sees it: name, prose, effect and question by hand, schemas from the contract."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from isocenter.core.contract import Contract
from isocenter.core.errors import InvalidSpec
from isocenter.core.operation import Operation, is_json
from isocenter.core.schema import IN_PLACE_LISTS, PORTABLE_NAME, brief, lookup, portable, reference

Effect = Literal["read", "write", "send", "destroy"]
NAME = re.compile(r"[a-z][a-z0-9_]{2,39}")
PLACEHOLDER = re.compile(r"\{([A-Za-z0-9_.-]+)\}")
KEYS = frozenset(
    {
        "operation",
        "title",
        "description",
        "effect",
        "confirm",
        "show",
        "rows",
        "default",
        "idempotent",
        "arguments",
        "hide",
    }
)
FILE = "Path of a local file or data: URI"


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool. `effect` says what it does to the world: `send` lets patient data leave, `destroy` loses something.

    `show` are the fields of the compact text, `rows` the most rows of a list in one result, `default` whether it is offered
    unless the operator chooses otherwise. `texts` replace descriptions of arguments; arguments in `hidden` are taken but not shown.
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
    texts: Mapping[str, str] = field(default_factory=dict, hash=False)
    hidden: frozenset[str] = frozenset()

    @property
    def input_schema(self) -> dict[str, Any]:
        """The portable schema of the arguments; the strict one stays with the judge."""
        operation, document = self.operation, self.operation.contract.document
        properties: dict[str, Any] = {}
        for argument in operation.arguments.values():
            if argument.name in self.hidden:
                continue
            text = self.texts.get(argument.name) or argument.description
            if argument.file:
                words = f"{brief(text)}. {FILE}" if text else FILE
                properties[argument.name] = (
                    {"type": "array", "items": {"type": "string"}, "description": words}
                    if argument.files
                    else {"type": "string", "description": words}
                )
                continue
            described = {"description": text} if text else {}
            properties[argument.name] = portable({**reference("", argument.schema), **described}, document)
        if len(operation.body_types) > 1 and "content_type" not in self.hidden:
            properties["content_type"] = {
                "type": "string",
                "enum": list(operation.body_types),
                "description": "How parts are framed",
            }
        if self.saves_files:
            properties["save_to"] = {"type": "string", "description": "Folder for the file"}
        required = [argument.name for argument in operation.arguments.values() if argument.required]
        return {
            "type": "object",
            "properties": properties,
            **({"required": required} if required else {}),
            "additionalProperties": operation.body_extra,
        }

    @property
    def saves_files(self) -> bool:
        """Whether the tool takes `save_to`: its answer may be a file, and the API has no argument of that name."""
        return self.operation.has_binary_answer and "save_to" not in self.operation.arguments

    @property
    def output_schema(self) -> dict[str, Any]:
        """One schema over all documented successes: `status`, then `data` or `file`, and `findings` where the contract was not kept."""
        bodies: list[dict[str, Any]] = []
        document = self.operation.contract.document
        for answer in self.operation.answers.values():
            if answer.success or answer.status.startswith("2"):
                for content in answer.contents:
                    if content.schema and is_json(content.media_type) and not content.text:
                        bodies.append(reference("", content.schema))
        properties: dict[str, Any] = {"status": {"type": "integer"}}
        if bodies:
            text_too = any(
                not is_json(content.media_type) and not content.binary
                for answer in self.operation.answers.values()
                if answer.success or answer.status.startswith("2")
                for content in answer.contents
            )
            anything = {"description": "The answer."}
            shown = portable({"anyOf": bodies}, document, depth=2, output=True)
            properties["data"] = anything if text_too or "type" not in shown else shown
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
        """What a person is asked before the call: the curated text with this call's arguments, or all that was given but secrets."""

        def told(name: str) -> str:
            value, argument = arguments.get(name), self.operation.arguments.get(name)
            if argument and argument.files and isinstance(value, list):
                return str(len(value))
            if isinstance(value, list):
                return ", ".join(str(item) for item in value[:10]) + (
                    f" and {len(value) - 10} more" if len(value) > 10 else ""
                )
            return "not given" if value is None else str(value)

        if self.confirm:
            return PLACEHOLDER.sub(lambda match: told(match.group(1)), self.confirm)
        secret = {argument.name for argument in self.operation.arguments.values() if argument.secret}
        given = ", ".join(f"{name} = {told(name)}" for name in arguments if name not in secret)
        return f"{self.title} ({self.operation.method} {self.operation.path}) with {given or 'nothing'}?"


def curated(contract: Contract, table: Mapping[str, Any], file: str) -> list[Tool]:
    """The tools of a tools file. Raises InvalidSpec listing every entry that does not fit the contract."""
    problems: list[str] = []
    tools: list[Tool] = []
    entries = table.get("tools") if isinstance(table, Mapping) else None
    if not isinstance(entries, Mapping):
        raise InvalidSpec([f"{file}#/tools: expected an object of tools by name"])
    for name, entry in entries.items():
        at = f"{file}#/tools/{name}"
        if not isinstance(entry, Mapping):
            problems.append(f"{at}: expected an object")
            continue
        operation = contract.operations.get(entry.get("operation", ""))
        if operation is None:
            problems.append(f"{at}/operation: {entry.get('operation')!r} is no operation of {contract.file}")
            continue
        effect: Any = entry.get("effect")
        confirm = str(entry.get("confirm", ""))
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
        texts, hidden = entry.get("arguments", {}), entry.get("hide", [])
        if not isinstance(texts, Mapping) or not all(isinstance(text, str) for text in texts.values()):
            problems.append(f"{at}/arguments: expected texts by argument")
            texts = {}
        if not isinstance(hidden, list):
            problems.append(f"{at}/hide: expected a list of arguments")
            hidden = []
        known = {*operation.arguments, *(["content_type"] if len(operation.body_types) > 1 else [])}
        problems += [f"{at}/arguments: {key} is no argument of {operation.id}" for key in texts if key not in known]
        problems += [f"{at}/hide: {key} is no argument of {operation.id}" for key in hidden if key not in known]
        problems += [
            f"{at}/hide: {key} is required and must be shown"
            for key in hidden
            if key in operation.arguments and operation.arguments[key].required
        ]
        if not isinstance(entry.get("show", []), list):
            problems.append(f"{at}/show: expected a list of fields")
        if type(entry.get("rows", 50)) is not int or entry.get("rows", 50) < 1:
            problems.append(f"{at}/rows: expected a whole number, 1 or more")
        if problems:
            continue
        tools.append(
            Tool(
                name=name,
                operation=operation,
                title=str(entry.get("title", "")),
                description=" ".join(str(entry.get("description", "")).split()),
                effect=effect,
                confirm=" ".join(confirm.split()),
                show=tuple(entry.get("show") or ()),
                rows=entry.get("rows", 50),
                default=bool(entry.get("default")),
                idempotent=bool(entry.get("idempotent")),
                texts={name: " ".join(text.split()) for name, text in texts.items()},
                hidden=frozenset(hidden),
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
        tools.append(
            Tool(
                name,
                operation,
                summary[:80].rstrip("."),
                " ".join(summary.split())[:400],
                effect,
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
            if not PORTABLE_NAME.fullmatch(name):
                problems.append(f"{tool.name}{at}/{name}: not a portable property name")
            visit(child, f"{at}/{name}")
        if isinstance(schema.get("items"), dict):
            visit(schema["items"], f"{at}/items")

    visit(tool.input_schema, "")
    return problems


def field_exists(tool: Tool, name: str) -> bool:
    """Whether the rows (or the one object) of a documented success have a field of this name, so that `show` cannot show nothing."""
    document = tool.operation.contract.document

    def names(schema: Any, seen: frozenset[str]) -> set[str]:
        if not isinstance(schema, dict):
            return set()
        properties = schema.get("properties") or {}
        found = set(properties)
        ref = schema.get("$ref")
        if isinstance(ref, str) and ref not in seen:
            found |= names(lookup(document, ref), seen | {ref})
        alternatives = (child for key in IN_PLACE_LISTS for child in schema.get(key) or ())
        for child in (schema.get("items"), properties.get("items"), *alternatives):  # a list, or a page with `items`
            found |= names(child, seen)
        return found

    return any(
        name in names(lookup(document, content.schema), frozenset())
        for answer in tool.operation.answers.values()
        for content in answer.contents
        if answer.success and content.schema and is_json(content.media_type)
    )
