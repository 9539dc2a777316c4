"""JSON Schema validation that reports errors exactly as Ajv 6 does with `allErrors`.

CIRCUS sends Ajv's error objects to its clients (`validationErrors`), so their wording, their order and their paths are
part of its wire format. This validator knows the keywords that the CIRCUS schemas use and follows Ajv 6 in what shows:

* `dataPath` in JavaScript notation (`.series[0].labels`, empty for the root);
* `schemaPath` starts with `#` in the schema that was compiled: a referenced schema without references of its own is
  compiled in place and shows as `<name>/...`, one with references starts at `#` again;
* all errors are listed, keywords in Ajv's order: numbers, strings, arrays, objects, then `$ref`, `const`, `enum`,
  `oneOf`; a failed `oneOf` lists what every branch found and then itself;
* a missing property is reported where its own schema stands among the properties.

`date` is CIRCUS's own keyword: something whose text contains an ISO date.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Json = Any
Schema = Mapping[str, Any]
Error = dict[str, Any]

_IDENTIFIER = re.compile(r"[a-z$_][a-z$_0-9]*", re.IGNORECASE)
_ISO_DATE = re.compile(r"\d{4}-?\d{2}-?\d{2}", re.ASCII)
_RANGE = r"((0|[1-9][0-9]*)|(0|[1-9][0-9]*)-(0|[1-9][0-9]*))"


def is_dicom_uid(text: str) -> bool:
    """CIRCUS's idea of a DICOM UID: digits with at least one dot, at most 64 characters, leading zeros allowed."""
    return len(text) <= 64 and re.fullmatch(r"[0-9]+(\.[0-9]+)+", text, re.ASCII) is not None


FORMATS: dict[str, Callable[[str], bool]] = {
    "dicomUid": is_dicom_uid,
    "multiIntegerRange": lambda text: re.fullmatch(f"{_RANGE}(,{_RANGE})*", text) is not None,
    "color": lambda text: re.fullmatch("#[0-9a-f]{6}", text) is not None,
    "sha1hex": lambda text: re.fullmatch("[0-9a-f]{40}", text) is not None,
}

_TYPES: dict[str, Callable[[Json], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "integer": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and value % 1 == 0,
}

# Ajv runs its rules by the type they apply to; `type` itself is judged in the group of that type.
_GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("number", ("maximum", "minimum")),
    ("string", ("maxLength", "minLength", "pattern", "format")),
    ("array", ("maxItems", "minItems", "items")),
    ("object", ("maxProperties", "minProperties", "required", "properties", "additionalProperties")),
)


def validate(schema: Schema, value: Json, definitions: Mapping[str, Schema] | None = None) -> list[Error]:
    """The errors of `value` against `schema`; empty when it is valid. `definitions` are what `$ref` names."""
    errors: list[Error] = []
    _Check(definitions or {}, errors).run(schema, value, "", "#")
    return errors


class _Check:
    def __init__(self, definitions: Mapping[str, Schema], errors: list[Error]) -> None:
        self.definitions = definitions
        self.errors = errors

    def run(self, schema: Schema, value: Json, at: str, path: str) -> bool:
        before = len(self.errors)
        groups = [kind for kind, rules in _GROUPS if any(rule in schema for rule in rules)]
        if "type" in schema and schema["type"] not in groups:
            self._type(schema, value, at, path)
        for kind in groups:
            if _TYPES[kind](value):
                getattr(self, f"_{kind}")(schema, value, at, path)
            elif schema.get("type") == kind:
                self._type(schema, value, at, path)
        if "$ref" in schema:
            self._ref(schema["$ref"], value, at)
        if "const" in schema and not same(value, schema["const"]):
            self._add("const", at, path, {"allowedValue": schema["const"]}, "should be equal to constant")
        if "enum" in schema and not any(same(value, allowed) for allowed in schema["enum"]):
            text = "should be equal to one of the allowed values"
            self._add("enum", at, path, {"allowedValues": list(schema["enum"])}, text)
        if "oneOf" in schema:
            self._one_of(schema["oneOf"], value, at, path)
        if "date" in schema and not (isinstance(value, (str, int, float)) and _ISO_DATE.search(str(value))):
            self._add("date", at, path, {"keyword": "date"}, 'should pass "date" keyword validation')
        return len(self.errors) == before

    def _add(self, keyword: str, at: str, path: str, params: dict[str, Any], message: str) -> None:
        self.errors.append(
            {
                "keyword": keyword,
                "dataPath": at,
                "schemaPath": f"{path}/{keyword}",
                "params": params,
                "message": message,
            }
        )

    def _type(self, schema: Schema, value: Json, at: str, path: str) -> None:
        if not _TYPES[schema["type"]](value):
            self._add("type", at, path, {"type": schema["type"]}, f"should be {schema['type']}")

    def _number(self, schema: Schema, value: float, at: str, path: str) -> None:
        for keyword, sign, ok in (("maximum", "<=", value.__le__), ("minimum", ">=", value.__ge__)):
            if keyword in schema and not ok(schema[keyword]):
                params = {"comparison": sign, "limit": schema[keyword], "exclusive": False}
                self._add(keyword, at, path, params, f"should be {sign} {schema[keyword]}")

    def _string(self, schema: Schema, value: str, at: str, path: str) -> None:
        if "maxLength" in schema and len(value) > (limit := schema["maxLength"]):
            self._add("maxLength", at, path, {"limit": limit}, f"should NOT be longer than {limit} characters")
        if "minLength" in schema and len(value) < (limit := schema["minLength"]):
            self._add("minLength", at, path, {"limit": limit}, f"should NOT be shorter than {limit} characters")
        if "pattern" in schema and not re.search(pattern := schema["pattern"], value):
            self._add("pattern", at, path, {"pattern": pattern}, f'should match pattern "{pattern}"')
        if "format" in schema and not FORMATS[name := schema["format"]](value):
            self._add("format", at, path, {"format": name}, f'should match format "{name}"')

    def _array(self, schema: Schema, value: list[Json], at: str, path: str) -> None:
        if "maxItems" in schema and len(value) > (limit := schema["maxItems"]):
            self._add("maxItems", at, path, {"limit": limit}, f"should NOT have more than {limit} items")
        if "minItems" in schema and len(value) < (limit := schema["minItems"]):
            self._add("minItems", at, path, {"limit": limit}, f"should NOT have fewer than {limit} items")
        items = schema.get("items", {})
        if isinstance(items, (list, tuple)):
            for index, (item, rule) in enumerate(zip(value, items, strict=False)):
                self.run(rule, item, f"{at}[{index}]", f"{path}/items/{index}")
        else:
            for index, item in enumerate(value):
                self.run(items, item, f"{at}[{index}]", f"{path}/items")

    def _object(self, schema: Schema, value: dict[str, Json], at: str, path: str) -> None:
        properties: Mapping[str, Schema] = schema.get("properties", {})
        required = schema.get("required", ())
        if "minProperties" in schema and len(value) < (limit := schema["minProperties"]):
            text = f"should NOT have fewer than {limit} properties"
            self._add("minProperties", at, path, {"limit": limit}, text)
        for name in required:
            if not properties.get(name) and name not in value:
                self._missing(name, at, path)
        if schema.get("additionalProperties") is False:
            for name in value:
                if name not in properties:
                    text = "should NOT have additional properties"
                    self._add("additionalProperties", at, path, {"additionalProperty": name}, text)
        for name, rule in properties.items():
            if name in value:
                where = f".{name}" if _IDENTIFIER.fullmatch(name) else f"['{name}']"
                self.run(rule, value[name], at + where, f"{path}/properties/{name}")
            elif rule and name in required:
                self._missing(name, at, path)

    def _missing(self, name: str, at: str, path: str) -> None:
        self._add("required", at, path, {"missingProperty": name}, f"should have required property '{name}'")

    def _ref(self, name: str, value: Json, at: str) -> None:
        schema = self.definitions[name]
        self.run(schema, value, at, "#" if _has_reference(schema) else name)

    def _one_of(self, branches: list[Schema], value: Json, at: str, path: str) -> None:
        start, passing = len(self.errors), None
        for index, branch in enumerate(branches):
            if self.run(branch, value, at, f"{path}/oneOf/{index}"):
                if passing is not None:
                    params = {"passingSchemas": [passing, index]}
                    self._add("oneOf", at, path, params, "should match exactly one schema in oneOf")
                    return
                passing = index
        if passing is None:
            self._add("oneOf", at, path, {"passingSchemas": None}, "should match exactly one schema in oneOf")
        else:
            del self.errors[start:]


def same(a: Json, b: Json) -> bool:
    """Whether two JSON values are equal, where `true` and `1` differ although Python says they do not."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and bool(a == b) if isinstance(a, str) or isinstance(b, str) else bool(a == b)


def _has_reference(schema: Json) -> bool:
    if isinstance(schema, Mapping):
        return "$ref" in schema or any(map(_has_reference, schema.values()))
    return isinstance(schema, (list, tuple)) and any(map(_has_reference, schema))
