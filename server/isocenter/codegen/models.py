"""Typed models of a contract: datamodel-code-generator writes the classes, this module decides what they are called and who returns them."""

from __future__ import annotations

import json
import keyword
import re
import warnings
from typing import Any

from isocenter.core.contract import Contract
from isocenter.core.operation import ABSENT, Argument, Operation, is_json
from isocenter.core.schema import lookup, rebuild, reference

SCALARS = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "null": "None",
    "object": "dict[str, Any]",
}
PYDANTIC_FORMATS = frozenset({"date", "date-time", "uuid", "time"})
TYPING_KEYS = frozenset(
    {
        "$ref",
        "additionalProperties",
        "allOf",
        "anyOf",
        "const",
        "default",
        "deprecated",
        "description",
        "enum",
        "format",
        "items",
        "oneOf",
        "prefixItems",
        "properties",
        "required",
        "type",
    }
)
"""The keywords that say what a value is called and of which type it is."""


def class_name(schema_name: str) -> str:
    """A schema's name as a class name."""
    words = re.sub(r"[^A-Za-z0-9]+", " ", schema_name).split()
    name = "".join(word[:1].upper() + word[1:] for word in words) or "Model"
    return f"Model{name}" if name[0].isdigit() or keyword.iskeyword(name) else name


def snake(name: str) -> str:
    """A wire name as a Python argument: `SeriesInstanceUID` as `series_instance_uid`."""
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    result = re.sub(r"[^a-zA-Z0-9]+", "_", split).strip("_").lower() or "value"
    result = result.replace("ui_ds", "uids").replace("sop_instance_ui_ds", "sop_instance_uids")
    return (
        f"{result}_"
        if keyword.iskeyword(result) or result in ("self", "save_to", "progress", "extra")
        else f"n{result}"
        if result[0].isdigit()
        else result
    )


def typing_only(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without alternatives that are mere conditions (`anyOf: [{required: [a]}, {required: [b]}]`) on what it declares."""

    def condition(child: Any) -> bool:
        return not isinstance(child, dict) or not child.keys() & TYPING_KEYS - {"required", "description"}

    out = dict(schema)
    for key in ("anyOf", "oneOf"):
        if "properties" in out and all(condition(child) for child in out.get(key) or ()):
            out.pop(key, None)
    kept = [child for child in out.pop("allOf", ()) if not condition(child)]
    return out | {"allOf": kept} if kept else out


def literals(values: list[Any], *, numbers: bool = False) -> str | None:
    """`Literal[...]` for closed values, None where a type checker and JSON may disagree on what is equal (`1` and `1.0`)."""
    kinds = (str, bool, int) if numbers else (str, bool)
    if not all(value is None or isinstance(value, kinds) for value in values):
        return None
    named = ", ".join(repr(value) for value in values if value is not None)
    return union([*([f"Literal[{named}]"] if named else []), *(["None"] if None in values else [])])


def kinds_of(values: list[Any]) -> list[str]:
    """The JSON types of some values, in the order they appear."""
    names = {bool: "boolean", str: "string", int: "integer", float: "number", list: "array", type(None): "null"}
    return list(dict.fromkeys(names.get(type(value), "object") for value in values))


def prose(text: str) -> str:
    """Any text as one line that may stand inside a docstring, not at its end, and does not end it."""
    plain = "".join(char for char in " ".join(text.split()) if char.isprintable())
    return plain.replace("\\", "\\\\").replace('"""', "'''")


class Types:
    """Type expressions for one contract's schemas, and the models module they refer to as `models.…`."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        schemas = (contract.document.get("components") or {}).get("schemas") or {}
        self.names: dict[str, str] = {}
        for name in schemas:
            candidate, number = class_name(name), 2
            while candidate in self.names.values():
                candidate, number = f"{class_name(name)}{number}", number + 1
            self.names[name] = candidate

    def models_source(self) -> str:
        """The text of models.py. Deterministic for one version of the generator, which pyproject.toml pins."""
        from datamodel_code_generator import generate
        from datamodel_code_generator.format import Formatter

        schemas = (self.contract.document.get("components") or {}).get("schemas") or {}
        named = {self.names[name]: self._for_models(schema) for name, schema in schemas.items()}
        document = {
            "openapi": "3.1.0",
            "info": {"title": self.contract.title, "version": "1"},
            "paths": {},
            "components": {"schemas": named},
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source = (
                generate(
                    json.dumps(document),
                    input_file_type="openapi",  # type: ignore[arg-type]  # the generator accepts the plain words
                    output_model_type="pydantic_v2.BaseModel",  # type: ignore[arg-type]
                    target_python_version="3.11",  # type: ignore[arg-type]
                    target_pydantic_version="2.12",  # type: ignore[arg-type]
                    disable_timestamp=True,
                    use_annotated=True,
                    strict_nullable=True,
                    enum_field_as_literal="all",  # type: ignore[arg-type]
                    collapse_root_models=True,
                    use_schema_description=True,
                    use_field_description=True,
                    use_double_quotes=True,
                    use_standard_collections=True,
                    use_union_operator=True,
                    snake_case_field=True,
                    formatters=[Formatter.BUILTIN],
                    allow_remote_refs=False,
                    type_mappings=["string+uri=string", "string+password=string", "string+byte=string"],
                )
                if named
                else ""
            )
        body = str(source).partition("from __future__ import annotations\n")[2]
        title = f'"""{prose(self.contract.title)}: the schemas of {prose(self.contract.file)} as pydantic models."""'
        return f"{title}\n\nfrom __future__ import annotations\n{body.rstrip()}\n"

    def _for_models(self, schema: Any) -> Any:
        """What the generator should see: names and types. Bounds, patterns and conditions stay with the judge.

        Models that check as well would only disagree with it at the edges (regular expression dialects, `1.0` as an integer, rounding
        in `multipleOf`), and pydantic quotes the offending value where the judge does not.
        """

        def change(_: str, child: Any) -> Any:
            child = rebuild(child, change)
            if not isinstance(child, dict):
                return child
            out = {key: value for key, value in typing_only(child).items() if key in TYPING_KEYS}
            if out.get("format") not in PYDANTIC_FORMATS:
                out.pop("format", None)
            if isinstance(out.get("$ref"), str):
                prefix, _, name = out["$ref"].rpartition("/")
                if prefix == "#/components/schemas":
                    out["$ref"] = f"{prefix}/{self.names.get(name.replace('~1', '/').replace('~0', '~'), name)}"
            values = [out["const"]] if "const" in out else out.get("enum")
            if values and literals(values) is None:
                out = {key: value for key, value in out.items() if key not in ("const", "enum")}
                out.setdefault("type", kinds_of(values))
            if "prefixItems" in out:
                out |= {key: child[key] for key in ("minItems", "maxItems") if key in child}
            if "properties" in out and out.get("additionalProperties") is False:
                del out["additionalProperties"]
            if "patternProperties" in child:
                out["additionalProperties"] = True
            return out

        return change("", schema)

    def expression(self, schema: Any, seen: frozenset[str] = frozenset(), *, request: bool = False) -> str:
        """The Python type of a schema: named objects as models, everything else spelled out."""
        if not isinstance(schema, dict):
            return "Any"
        ref = schema.get("$ref")
        if isinstance(ref, str):
            if ref in seen:
                return "Any"
            name = ref.removeprefix("#/components/schemas/")
            target = lookup(self.contract.document, ref)
            if name in self.names and self._is_class(target):
                return f"models.{self.names[name]} | Mapping[str, Any]" if request else f"models.{self.names[name]}"
            return self.expression(target, seen | {ref}, request=request)
        schema = typing_only(schema)
        if "const" in schema or "enum" in schema:
            values = [schema["const"]] if "const" in schema else schema["enum"]
            found = literals(values, numbers=request)
            return found or union(SCALARS.get(kind, "Any") for kind in kinds_of(values))
        branches = [child for key in ("anyOf", "oneOf") for child in schema.get(key) or ()]
        if branches:
            return union(self.expression(child, seen, request=request) for child in branches)
        if len(schema.get("allOf") or ()) == 1 and "properties" not in schema:
            return self.expression(schema["allOf"][0], seen, request=request)
        kinds = schema.get("type")
        kinds = (
            [kinds]
            if isinstance(kinds, str)
            else kinds
            or (["object"] if "properties" in schema or "allOf" in schema else ["array"] if "items" in schema else [])
        )
        if not kinds:
            return "Any"
        return union(self._of_kind(kind, schema, seen, request) for kind in kinds)

    def _of_kind(self, kind: str, schema: dict[str, Any], seen: frozenset[str], request: bool) -> str:
        if kind == "array":
            inner = (
                self.expression(schema["items"], seen, request=request)
                if isinstance(schema.get("items"), dict)
                else "Any"
            )
            return f"Sequence[{inner}]" if request else f"list[{inner}]"
        if kind == "object":
            extra = schema.get("additionalProperties")
            inner = (
                self.expression(extra, seen, request=request)
                if isinstance(extra, dict) and "properties" not in schema
                else "Any"
            )
            return f"Mapping[str, {inner}]" if request else f"dict[str, {inner}]"
        if kind == "string" and not request and schema.get("format") == "date-time":
            return "AwareDatetime"
        return SCALARS.get(kind, "Any")

    def _is_class(self, schema: dict[str, Any]) -> bool:
        schema = typing_only(schema)
        kinds = schema.get("type")
        return (
            "properties" in schema
            and kinds in (None, "object")
            and not any(key in schema for key in ("anyOf", "oneOf"))
        ) or ("allOf" in schema and len(schema["allOf"]) > 1)

    def argument(self, argument: Argument) -> tuple[str, bool]:
        """`(type, nullable)` of an argument."""
        if argument.file:
            return ("Sequence[FileInput]" if argument.files else "FileInput"), False
        expression = self.expression(reference("", argument.schema), request=True)
        parts = split_union(expression)
        return " | ".join(part for part in parts if part != "None") or "None", "None" in parts

    def returns(self, operation: Operation) -> str:
        """The type of a call's `value`: every documented success."""
        found = self._by_status(operation)
        return union(found.values()) if found else "None"

    def statuses(self, operation: Operation) -> dict[str, str]:
        """The type by status, where it differs from status to status."""
        found = self._by_status(operation)
        return found if len(set(found.values())) > 1 else {}

    def _by_status(self, operation: Operation) -> dict[str, str]:
        found: dict[str, str] = {}
        for answer in operation.answers.values():
            if not (answer.success or (answer.status == "default" and not found)):
                continue
            members: list[str] = []
            for content in answer.contents:
                if content.binary:
                    members.append("bytes")
                elif is_json(content.media_type) and content.schema and not content.text:
                    members.append(self.expression(lookup(self.contract.document, content.schema)))
                else:
                    members.append("str" if content.text or not is_json(content.media_type) else "Any")
            if (answer.empty is ABSENT and not answer.contents) or any(content.binary for content in answer.contents):
                members.append("None")
            found[answer.status] = union(members)
        return found


def split_union(expression: str) -> list[str]:
    """The members of a union; bars inside brackets and texts are left alone."""
    members = re.split(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""", expression)
    parts, depth = [""], 0
    for index, piece in enumerate(members):
        if index % 2:  # a text
            parts[-1] += piece
            continue
        for char in piece:
            depth += (char == "[") - (char == "]")
            if char == "|" and depth == 0:
                parts.append("")
            else:
                parts[-1] += char
    return [part.strip() for part in parts]


def union(expressions: Any) -> str:
    """`A | B`, duplicates dropped, `Any` swallowing everything, None last."""
    members: list[str] = []
    for expression in expressions:
        members += [member for member in split_union(expression) if member not in members]
    if "Any" in members:
        return "Any"
    return " | ".join(sorted(members, key=lambda member: member == "None")) or "Any"
