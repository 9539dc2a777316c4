"""Specifications from elsewhere, put into the terms the rest of the core works with. Pure functions on plain JSON."""

from __future__ import annotations

from typing import Any

from isocenter.core.schema import IN_PLACE_LISTS, rebuild, schemas_of

Json = Any


def adopted(document: Json) -> tuple[Json, list[str]]:
    """`(document, notes)`: a copy of any OpenAPI 3.0 or 3.1 document in 2020-12 terms, and what of it had to be dropped.

    What 3.0 says differently: `nullable`, boolean `exclusiveMinimum/Maximum`, and that nothing counts beside a reference. What many
    3.1 documents still say as 3.0 did: the formats `binary` and `byte` of files. What is dropped, because it would make the
    schema around it useless: patterns of dialects that the judge cannot compile.
    """
    old = str(document.get("openapi", "")).startswith("3.0")
    notes: list[str] = []

    def modern(_: str, schema: Json) -> Json:
        schema = rebuild(schema, modern)
        if not isinstance(schema, dict):
            return schema
        if old and "$ref" in schema:
            return {"$ref": schema["$ref"]}
        if old:
            schema = _without_booleans(schema)
        kinds = schema.get("type")
        if kinds == "string" or (isinstance(kinds, list) and "string" in kinds):
            if schema.get("format") == "binary":
                del schema["format"]
                schema.setdefault("contentMediaType", "application/octet-stream")
            if schema.get("format") == "byte":
                del schema["format"]
                schema["contentEncoding"] = "base64"
        for pattern in [schema.get("pattern"), *(schema.get("patternProperties") or ())]:
            if isinstance(pattern, str) and not _compiles(pattern):
                notes.append(f"the pattern {pattern} cannot be compiled and is not checked")
                if schema.get("pattern") == pattern:
                    del schema["pattern"]
                schema.get("patternProperties", {}).pop(pattern, None)
        return schema

    document = _copy(document)
    document["paths"] = {path: item for path, item in (document.get("paths") or {}).items() if isinstance(item, dict)}
    for _, holder, key in schemas_of(document):
        holder[key] = modern("", holder[key])
    return document, list(dict.fromkeys(notes))


def _without_booleans(schema: dict[str, Any]) -> dict[str, Any]:
    """The keywords that 3.0 has as booleans, in the form of 2020-12."""
    if schema.pop("nullable", False):
        if isinstance(schema.get("type"), str):
            schema["type"] = [schema["type"], "null"]
            if "enum" in schema and None not in schema["enum"]:
                schema["enum"] = [*schema["enum"], None]
        elif any(key in schema for key in IN_PLACE_LISTS):
            schema = {"anyOf": [schema, {"type": "null"}]}
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        flag = schema.get(exclusive)
        if isinstance(flag, bool):
            del schema[exclusive]
            if flag and bound in schema:
                schema[exclusive] = schema.pop(bound)
    return schema


def _compiles(pattern: str) -> bool:
    import jsonschema_rs

    try:
        jsonschema_rs.validator_for({"pattern": pattern})
    except ValueError:
        return False
    return True


def _copy(node: Json) -> Json:
    if isinstance(node, dict):
        return {key: _copy(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_copy(value) for value in node]
    return node
