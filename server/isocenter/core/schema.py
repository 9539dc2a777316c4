"""JSON Schema transformations on whole OpenAPI documents. Pure functions on plain JSON; nothing here judges a value.

`judging_document` lays out the document that is compiled once per
contract, `portable` makes the simplified schema which an MCP client is shown.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from isocenter.core.formats import KEYWORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Json = Any
Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

# Where schemas sit inside a schema: as one value, as a list, as a map.
IN_PLACE_LISTS = ("allOf", "anyOf", "oneOf")
IN_PLACE_VALUES = ("if", "then", "else", "not")
CONDITIONS = ("if", "not")
VALUES = (
    "items",
    "contains",
    "additionalProperties",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
)
LISTS = ("prefixItems",)
MAPS = ("properties", "patternProperties", "$defs", "dependentSchemas")
ANNOTATIONS = frozenset(
    {
        "example",
        "examples",
        "default",
        "description",
        "title",
        "deprecated",
        "externalDocs",
        "xml",
        "$comment",
        "readOnly",
        "writeOnly",
    }
)
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def escape(part: object) -> str:
    """One JSON pointer segment (RFC 6901)."""
    return str(part).replace("~", "~0").replace("/", "~1")


def pointer(parts: Iterable[object]) -> str:
    """`["a", 0]` as `/a/0`; the empty path is the empty string."""
    return "".join("/" + escape(part) for part in parts)


def reference(tree: str, at: str) -> Schema:
    """A `$ref` to pointer `at` below the top-level key `tree` of a judging document, escaped as a URI fragment must be."""
    return {"$ref": f"#{tree and '/' + tree}{quote(at, safe='/~!$&*+,;=:@()')}"}


def lookup(document: Json, ref: str) -> Json:
    """The value a local reference (`#/a/b` or `/a/b`) points to. Raises KeyError when there is none."""
    node = document
    for part in ref.lstrip("#").split("/")[1:]:
        key = (unquote(part) if ref.startswith("#") else part).replace("~1", "/").replace("~0", "~")
        try:
            node = node[int(key)] if isinstance(node, list) else node[key]
        except (KeyError, IndexError, ValueError, TypeError):
            raise KeyError(ref) from None
    return node


def resolve(document: Json, node: Json, at: str) -> tuple[Json, str]:
    """Follow `$ref`s from `node` at pointer `at` until a real value: `(value, its pointer)`. Raises KeyError on a dangling one."""
    for _ in range(64):
        ref = node.get("$ref") if isinstance(node, dict) else None
        if not isinstance(ref, str):
            return node, at
        if not ref.startswith("#/"):
            raise KeyError(ref)
        node, at = lookup(document, ref), ref.lstrip("#")
    raise KeyError(f"endless chain of references at {at}")


def children(schema: Schema) -> Iterator[tuple[tuple[str, ...], Json]]:
    """Every direct subschema with its path inside the schema."""
    for key in (*IN_PLACE_VALUES, *VALUES):
        if isinstance(schema.get(key), (dict, bool)):
            yield (key,), schema[key]
    for key in (*IN_PLACE_LISTS, *LISTS):
        for index, child in enumerate(schema.get(key) or ()):
            yield (key, str(index)), child
    for key in MAPS:
        for name, child in (schema.get(key) or {}).items():
            yield (key, name), child


def rebuild(schema: Json, change: Callable[[str, Json], Json]) -> Json:
    """A copy of `schema` in which every direct subschema went through `change(keyword, subschema)`."""
    if not isinstance(schema, dict):
        return schema
    copy = dict(schema)
    for key in (*IN_PLACE_VALUES, *VALUES):
        if isinstance(copy.get(key), (dict, bool)):
            copy[key] = change(key, copy[key])
    for key in (*IN_PLACE_LISTS, *LISTS):
        if isinstance(copy.get(key), list):
            copy[key] = [change(key, child) for child in copy[key]]
    for key in MAPS:
        if isinstance(copy.get(key), dict):
            copy[key] = {name: change(key, child) for name, child in copy[key].items()}
    return copy


def schemas_of(document: Json) -> Iterator[tuple[tuple[str, ...], dict[str, Any], str]]:
    """Every place of an OpenAPI document that holds a schema: `(path of the holder, holder, key)`."""
    components = document.get("components") or {}
    for name in components.get("schemas") or {}:
        yield ("components", "schemas"), components["schemas"], name

    def content(at: tuple[str, ...], holder: Json) -> Iterator[tuple[tuple[str, ...], dict[str, Any], str]]:
        for media_type, media in (holder.get("content") or {}).items():
            if isinstance(media, dict) and "schema" in media:
                yield (*at, "content", media_type), media, "schema"

    def parameter(at: tuple[str, ...], node: Json) -> Iterator[tuple[tuple[str, ...], dict[str, Any], str]]:
        if "schema" in node:
            yield at, node, "schema"
        yield from content(at, node)

    def response(at: tuple[str, ...], node: Json) -> Iterator[tuple[tuple[str, ...], dict[str, Any], str]]:
        yield from content(at, node)
        for name, header in (node.get("headers") or {}).items():
            yield from parameter((*at, "headers", name), header)

    for kind in ("parameters", "headers"):
        for name, node in (components.get(kind) or {}).items():
            yield from parameter(("components", kind, name), node)
    for name, node in (components.get("requestBodies") or {}).items():
        yield from content(("components", "requestBodies", name), node)
    for name, node in (components.get("responses") or {}).items():
        yield from response(("components", "responses", name), node)
    for path, item in (document.get("paths") or {}).items():
        for index, node in enumerate(item.get("parameters") or ()):
            yield from parameter(("paths", path, "parameters", str(index)), node)
        for method in METHODS:
            operation = item.get(method)
            if not isinstance(operation, dict):
                continue
            at = ("paths", path, method)
            for index, node in enumerate(operation.get("parameters") or ()):
                yield from parameter((*at, "parameters", str(index)), node)
            yield from content((*at, "requestBody"), operation.get("requestBody") or {})
            for status, node in (operation.get("responses") or {}).items():
                yield from response((*at, "responses", status), node)


# The derived trees of a judging document, each with the tree of the forms that its composed schemas refer to.
ASKED = ("x-asked", "x-asked-part")
ANSWERED = ("x-answered", "x-answered-part")
DERIVED = frozenset((*ASKED, *ANSWERED))


def _bare(schema: Json, *, known: bool, absent: str) -> Json:
    """Only what a judge reads: annotations and extensions may hold anything, also things that look like broken schemas.

    Properties marked `absent` are not required: `readOnly` ones of requests, `writeOnly` ones of answers (OpenAPI 3.0.3, 4.7.24.1).
    With `known` the values of `x-known-values` are all there may be, except in conditions, which must not change their meaning.
    Formats of ours then become keywords: errors of that form are not shown, and the judge need not call back into Python.
    """
    bare = rebuild(
        schema, lambda keyword, child: _bare(child, known=known and keyword not in CONDITIONS, absent=absent)
    )
    if not isinstance(bare, dict):
        return bare
    if "required" in bare and "properties" in bare:
        marked = {name for name, child in schema["properties"].items() if isinstance(child, dict) and child.get(absent)}
        bare["required"] = [name for name in bare["required"] if name not in marked]
    bare = {key: value for key, value in bare.items() if key not in ANNOTATIONS and not key.startswith("x-")}
    if known and not bare.keys() & {"pattern", "maxLength"} and (keywords := KEYWORDS.get(str(bare.get("format")))):
        del bare["format"]
        bare |= keywords
    if known and "x-known-values" in schema:
        nothing = [None] if "null" in _kinds(schema) and None not in schema["x-known-values"] else []
        bare["enum"] = [*schema["x-known-values"], *nothing]
    return bare


def judging_document(document: Json, *, closed: bool = True) -> dict[str, Any]:
    """What is compiled for a contract: the schemas of the document at their own pointers, plus two derived trees.

    `x-asked/<pointer>` is the same schema for requests; in our own specs (`closed`) no object then takes properties it does not
    declare. `x-answered/<pointer>` is closed like that and takes no values besides `x-known-values` either: it finds additions in
    answers. Beside each stands a `…-part` tree, the form a closed schema refers to where several schemas describe one object
    together (`allOf` and its kin), since only the outermost may close it.
    """
    bare: dict[str, Any] = {}
    derived: dict[str, dict[str, Any]] = {tree: {} for tree in (*ASKED, *ANSWERED)}
    for path, holder, key in schemas_of(document):
        schema, known = (_bare(holder[key], known=known, absent="writeOnly") for known in (False, True))
        asked = schema if closed else _bare(holder[key], known=False, absent="readOnly")  # our own specs mark neither
        _place(bare, (*path, key), schema)
        if not closed:
            _place(derived[ASKED[0]], (*path, key), _aimed(asked, ASKED[0]))
        for form, trees in ((asked, ASKED), (known, ANSWERED)) if closed else ((known, ANSWERED),):
            _place(derived[trees[0]], (*path, key), _close(form, document, trees))
            _place(derived[trees[1]], (*path, key), _as_part(form, document, trees))
    return {"$schema": DIALECT, **bare, **derived}


def closing_narrows(schema: Json, document: Json, seen: frozenset[str] = frozenset()) -> bool:
    """Whether whatever the closed form of a schema accepts, the schema itself accepts too, so that one look can be enough.

    Only "exactly one of" (and "at most so many") can become true by refusing more.
    """
    if not isinstance(schema, dict):
        return True
    ref = schema.get("$ref")
    if isinstance(ref, str) and ref not in seen:
        seen |= {ref}
        if not closing_narrows(lookup(document, ref), document, seen):
            return False
    return (
        "oneOf" not in schema
        and "maxContains" not in schema
        and all(closing_narrows(child, document, seen) for _, child in children(schema))
    )


def _place(tree: dict[str, Any], path: tuple[str, ...], value: Json) -> None:
    # Arrays (parameters) become objects with number keys: pointers look the same and nothing has to be padded.
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value


def _retarget(schema: Json, tree: str) -> Json:
    ref = schema.get("$ref") if isinstance(schema, dict) else None
    return {**schema, "$ref": f"#/{tree}/{ref[2:]}"} if isinstance(ref, str) and ref.startswith("#/") else schema


def _aimed(schema: Json, tree: str) -> Json:
    """`schema` with all its references led into a derived tree."""
    return _retarget(rebuild(schema, lambda _, child: _aimed(child, tree)), tree)


def _as_part(schema: Json, document: Json, trees: tuple[str, str]) -> Json:
    """`schema` as one of several descriptions of the same object: closed further down, open at its own level."""

    def change(keyword: str, child: Json) -> Json:
        if keyword in CONDITIONS:  # closing a condition would change when it holds
            return child
        if keyword in IN_PLACE_LISTS or keyword in ("then", "else", "dependentSchemas"):
            return _as_part(child, document, trees)
        return _close(child, document, trees)

    return _retarget(rebuild(schema, change), trees[1])


def _close(schema: Json, document: Json, trees: tuple[str, str]) -> Json:
    if not isinstance(schema, dict):
        return schema
    together = any(key in schema for key in ("allOf", "if", "dependentSchemas")) or (
        "$ref" in schema and len(schema) > 1
    )
    if not together and not ("properties" in schema and any(key in schema for key in ("anyOf", "oneOf"))):
        # One description of the object, or alternatives that each are one: closing them one by one is exact and fastest.
        result = rebuild(
            schema, lambda keyword, child: child if keyword in CONDITIONS else _close(child, document, trees)
        )
        result = _retarget(result, trees[0])
        if "properties" in schema and not any(
            key in schema for key in ("additionalProperties", "unevaluatedProperties")
        ):
            result["additionalProperties"] = False
        return result
    result = _as_part(schema, document, trees)
    if _declares(schema, document, frozenset()) and "additionalProperties" not in schema:
        result.setdefault("unevaluatedProperties", False)
    return result


def _declares(schema: Json, document: Json, seen: frozenset[str]) -> bool:
    """Whether a composed schema names the properties of the object it describes, in each alternative that is an object at all."""
    if not isinstance(schema, dict):
        return False
    ref = schema.get("$ref")
    if isinstance(ref, str):
        if ref in seen or not ref.startswith("#/"):
            return False
        if not _declares(lookup(document, ref), document, seen | {ref}):
            return False
    alternatives = [child for key in ("anyOf", "oneOf") for child in schema.get(key) or ()]
    if not all(_declares(child, document, seen) or _adds_no_names(child, document) for child in alternatives):
        return False
    return (
        "properties" in schema
        or isinstance(ref, str)
        or any(_declares(child, document, seen) for child in alternatives)
        or any(_declares(child, document, seen) for child in schema.get("allOf") or ())
    )


def _adds_no_names(schema: Json, document: Json) -> bool:
    """Whether an alternative is no object, or only says which of the names declared elsewhere it wants."""
    schema, _ = resolve(document, schema, "")
    if not isinstance(schema, dict):
        return False
    constraint = bool(schema) and schema.keys() <= {"required", "not"}
    return constraint or "object" not in (_kinds(schema) or ["object"])


def _kinds(schema: Schema) -> list[str]:
    kinds = schema.get("type", [])
    return [kinds] if isinstance(kinds, str) else kinds


PORTABLE_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
FURTHER = "x-further"  # while a portable schema is made: names of properties that cannot be shown
FORM = "x-form"  # and what its format demands, in a few letters
PORTABLE_KEYS = ("type", "description", "enum", "pattern", "minimum", "maximum")
LONGEST_PATTERN = 40  # characters; a longer one is noise to a model, and the check says what it wants
LONGEST_PROSE = 110
LARGEST_BOUND = 1 << 31  # a bound beyond it only says that numbers are finite
# What a format demands, for descriptions that do not say it themselves.
FORMATS_IN_SHORT = {
    "date": "YYYY-MM-DD",
    "us-date": "MM-DD-YYYY",
    "slash-date": "YYYY/MM/DD",
    "euro-slash-date": "DD/MM/YYYY",
    "dicom-date": "YYYYMMDD",
    "sha1": "SHA-1",
}


def brief(text: str) -> str:
    """A description as short as a model needs it: the first sentence, on one line."""
    text = " ".join(text.split())
    sentence = re.match(r".*?[^.]{3}[.!?](?= [A-Z0-9`*]|$)", text)
    text = sentence.group() if sentence else text
    if len(text) > LONGEST_PROSE:
        text = re.split(r"; |: ", text)[0]
    return text.removesuffix(".")


def portable(schema: Json, document: Json, *, depth: int = 3, output: bool = False) -> Schema:
    """The schema as every MCP client can read it: references inlined, one type, no composition, nothing but common keywords.

    It admits at least everything the strict schema admits: what cannot be said portably, or would only cost a model's attention
    (lengths, bounds that everybody expects, long patterns, prose after the first sentence), is left out, never narrowed. Objects
    nested deeper than `depth` become free-form, properties whose names some client refuses (`$and`) are told in the description.
    For `output` it keeps only types and names, and no type where null may stand: an answer that passed the strict check must
    never fail the shown schema.
    """
    return _shown(_portable(schema, document, depth, frozenset(), output), output)


def _shown(schema: Schema, output: bool) -> Schema:
    if output:
        kept = {
            key: value
            for key, value in schema.items()
            if key in ("type", "properties", "items", "additionalProperties")
        }
        return dict(rebuild(kept, lambda _, child: _shown(child, output) or {"description": "Any value."}))
    shown: Schema = rebuild(schema, lambda _, child: _shown(child, output))
    further, form = shown.pop(FURTHER, None), shown.pop(FORM, "")
    text = brief(shown.pop("description", ""))
    if form and form.lower() not in text.lower():
        text = f"{text} ({form})".strip()
    if further:
        text = f"{text.rstrip('.')}. It also takes {', '.join(further)}.".lstrip(". ")
    return {**shown, **({"description": text} if text else {})}


def _portable(schema: Json, document: Json, depth: int, seen: frozenset[str], output: bool) -> Schema:
    if not isinstance(schema, dict):
        return {"type": "object"}
    ref = schema.get("$ref")
    if isinstance(ref, str):
        if ref in seen:
            return {"type": "object"}
        target = _portable(lookup(document, ref), document, depth, seen | {ref}, output)
        return {**target, **{key: schema[key] for key in ("description",) if key in schema}}
    branches = [child for key in ("anyOf", "oneOf") for child in schema.get(key) or ()]
    if "allOf" in schema or branches:
        return _merged(schema, branches, document, depth, seen, output)
    out: Schema = {key: schema[key] for key in PORTABLE_KEYS if key in schema}
    pattern = str(out.get("pattern", ""))
    if pattern.startswith("^[^") or len(pattern) > LONGEST_PATTERN:  # what nobody would put into an identifier
        del out["pattern"]
    if out.get("minimum") in (0, 1):
        del out["minimum"]
    if isinstance(out.get("maximum"), (int, float)) and out["maximum"] > LARGEST_BOUND:
        del out["maximum"]
    if form := FORMATS_IN_SHORT.get(str(schema.get("format"))):
        out[FORM] = form
    kinds = schema.get("type")
    if isinstance(kinds, list):
        plain = [kind for kind in kinds if kind != "null"]
        out["type"] = (
            plain[0] if len(plain) == 1 else "string" if "string" in plain else plain[0] if plain else "string"
        )
        if len(plain) > 1 or (output and "null" in kinds):  # a union cannot be said portably; the strict check decides
            return {"description": out.get("description", "One of several types.")}
    if "const" in schema and isinstance(schema["const"], str):
        out["enum"] = [schema["const"]]
    if "enum" in out:
        values = [value for value in out["enum"] if isinstance(value, str)]
        if values and len(values) == len([value for value in out["enum"] if value is not None]):
            out["enum"] = values
            out["type"] = "string"
        else:  # some hosts refuse numeric enums
            del out["enum"]
    if "type" not in out:
        out["type"] = "object" if "properties" in schema else "array" if "items" in schema else "string"
        if not any(
            key in schema
            for key in ("properties", "items", "type", "enum", "const", "pattern", "format", "contentMediaType")
        ):
            del out["type"]
            out.setdefault("description", "Any JSON value.")
    if out.get("type") == "array":
        out["items"] = _portable(schema.get("items") or {"type": "string"}, document, depth, seen, output)
    if out.get("type") == "object" and "properties" in schema and depth > 0:
        out["properties"] = {
            name: _portable(child, document, depth - 1, seen, output)
            for name, child in schema["properties"].items()
            if PORTABLE_NAME.fullmatch(name)
        }
        if schema.get("required"):
            out["required"] = [name for name in schema["required"] if name in out["properties"]]
        if further := [name for name in schema["properties"] if name not in out["properties"]]:
            out[FURTHER] = further
    return out


def _merged(
    schema: Schema, branches: list[Json], document: Json, depth: int, seen: frozenset[str], output: bool
) -> Schema:
    """One permissive schema for a composition: what all alternatives have in common, all properties any of them names."""
    own = {key: value for key, value in schema.items() if key not in (*IN_PLACE_LISTS, "if", "then", "else", "not")}
    parts = [_portable(child, document, depth, seen, output) for child in schema.get("allOf") or ()]
    if output and any(isinstance(child, dict) and child.get("type") == "null" for child in branches):
        return {"description": "Any value, or null."}
    options = [
        _portable(child, document, depth, seen, output)
        for child in branches
        if not (isinstance(child, dict) and child.get("type") == "null")
    ]
    kinds = {str(option.get("type")) for option in (*parts, *options)}
    if "type" in own or "properties" in own:
        base = _portable(own, document, depth, seen, output)
        kinds.add(str(base.get("type")))
    else:
        base = {key: own[key] for key in ("description",) if key in own}
    if len(options) == 1 and not parts and len(base) <= 1:
        return {**options[0], **base}
    if len(kinds) != 1:
        return {key: value for key, value in base.items() if key == "description"} or {
            "description": "One of several forms; the check names the right one."
        }
    merged: Schema = {**base, "type": kinds.pop()}
    if merged["type"] == "object":
        properties: dict[str, Any] = {}
        for source in (*options, *parts, base):
            for name, child in (source.get("properties") or {}).items():
                known = properties.get(name)
                properties[name] = (
                    child
                    if known is None or known == child
                    else {"type": child["type"]}
                    if known.get("type") == child.get("type") and "type" in child
                    else {"description": "One of several forms."}
                )
        if properties:
            merged["properties"] = properties
        if further := dict.fromkeys(name for source in (*options, *parts, base) for name in source.get(FURTHER) or ()):
            merged[FURTHER] = list(further)
        required = {name for source in (*parts, base) for name in source.get("required") or ()}
        if required:
            merged["required"] = sorted(required)
    if merged["type"] == "array":
        merged["items"] = (
            options[0].get("items", {"type": "object"}) if options else parts[0].get("items", {"type": "object"})
        )
        if any(option.get("items") != merged["items"] for option in options):
            merged["items"] = (
                {"type": "object"}
                if all(option.get("items", {}).get("type") == "object" for option in options)
                else {"description": "Any JSON value."}
            )
    if merged["type"] == "string" and options and all("enum" in option for option in options):
        merged["enum"] = [value for option in options for value in option["enum"]]
    return merged
