"""Reads a specification as the dialect of this project says, and writes it down in words that Schemathesis knows.

- Requests are closed: an object takes no property that its schema does not declare (`judging_document` of the core).
- Our formats become patterns, so that answers are held to them.
- Files in a form become octet streams with a file name, for OpenAPI 3.1 has no word for "this part is a file".
- Examples of requests name what the sandbox really has, so that not every answer is 404.
- Patterns in CIRCUS filters are regular expressions, which their schema cannot say without choosing a dialect for them.

Nothing is made weaker by that; only generation knows more.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from isocenter.core.formats import KEYWORDS
from isocenter.core.schema import METHODS, judging_document, pointer, reference, resolve, schemas_of

Json = Any


def prepare(spec: Json, examples: dict[str, dict[str | int, str | int]]) -> Json:
    """The specification for Schemathesis; `examples` by operation says what stands in for which example."""
    spec = copy.deepcopy(spec)
    for item in spec["paths"].values():
        for operation in (item[method] for method in METHODS if method in item):
            real = {**examples.get("", {}), **examples.get(operation["operationId"], {})}
            shared = operation.get("parameters", []) + item.get("parameters", [])
            parameters = operation["parameters"] = [copy.deepcopy(_resolved(spec, parameter)) for parameter in shared]
            owners = [
                media for parameter in parameters for media in (parameter, *parameter.get("content", {}).values())
            ]
            if "requestBody" in operation:
                body = operation["requestBody"] = copy.deepcopy(_resolved(spec, operation["requestBody"]))
                owners += body["content"].values()
                for kind, media in body["content"].items():
                    if kind.startswith("multipart/"):
                        _mark_files(media, _resolved(spec, media["schema"]))
            for owner in owners:
                _name_real_things(spec, owner, real)
        item.pop("parameters", None)

    judging = judging_document(spec)
    for path, holder, key in list(schemas_of(spec)):
        if path[0] == "paths" and path[3] in ("parameters", "requestBody"):
            closed = reference("x-asked", pointer([*path, key]))
            # The outermost schema of a body stands in its place: Schemathesis looks there for the fields of a form.
            holder[key] = _resolved(judging, closed) if path[3] == "requestBody" else closed
    spec |= {tree: judging[tree] for tree in ("x-asked", "x-asked-part")}

    for node in _nodes(spec):
        if isinstance(name := node.get("format"), str):
            for keyword, value in KEYWORDS.get(name, {}).items():
                node.setdefault(keyword, value)
        for name in ("$regex", "$regularExpression"):
            if isinstance(part := node.get("properties", {}).get(name), dict):
                part.get("properties", {}).get("pattern", part)["format"] = "regex"
    return spec


def _resolved(spec: Json, node: Json) -> Json:
    return resolve(spec, node, "")[0]


def _nodes(value: Json) -> Iterator[dict[str, Json]]:
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _nodes(child)


def _mark_files(media: Json, form: Json) -> None:
    for name, part in form["properties"].items():
        content = part.get("items", part)
        if "contentMediaType" not in content:
            continue
        encoding = media.setdefault("encoding", {}).setdefault(name, {})
        picture = "image" in encoding.get("contentType", "")
        content["contentMediaType"] = "application/octet-stream"
        content["format"] = "image/png" if picture else "application/dicom"
        file_name = "image.png" if picture else "image.dcm"
        disposition = f'form-data; name="{name}"; filename="{file_name}"'
        encoding["headers"] = {"Content-Disposition": {"schema": {"type": "string", "example": disposition}}}


def _name_real_things(spec: Json, owner: Json, real: dict[str | int, str | int]) -> None:
    def replaced(value: Json) -> Json:
        if isinstance(value, dict):
            return {key: replaced(item) for key, item in value.items()}
        if isinstance(value, list):
            return [replaced(item) for item in value]
        return real.get(value, value) if isinstance(value, str | int) else value

    if "example" in owner:
        owner["example"] = replaced(owner["example"])
    if "examples" in owner:
        owner["examples"] = {name: replaced(_resolved(spec, example)) for name, example in owner["examples"].items()}
