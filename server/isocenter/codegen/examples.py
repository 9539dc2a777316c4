"""The examples of a specification: what lint judges, and what a test sends and reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from isocenter.core.operation import Argument, Content, Operation, is_json
from isocenter.core.schema import lookup, pointer, resolve

STAND_INS = {"application/dicom": b"\0" * 128 + b"DICM", "application/zip": b"PK\x03\x04"}
"""The least that passes for a file of a kind; an example names a file in words."""


@dataclass(frozen=True, slots=True)
class AnswerExample:
    """One documented answer: `status` as a number (`4XX` as 400), `spec` the pointer of its value."""

    status: int
    content: Content
    spec: str
    value: Any

    @property
    def body(self) -> bytes:
        """The example as it would arrive."""
        if is_json(self.content.media_type) and not self.content.text:
            return json.dumps(self.value, ensure_ascii=False).encode()
        # Text that stands for bytes has one character a byte; of a DICOM file only its mark after the preamble is shown.
        body = str(self.value).encode("latin-1" if self.content.binary else "utf-8")
        return b"\0" * 128 + body if self.content.binary == "application/dicom" else body


def given(document: Any, holder: Any, at: str) -> list[tuple[str, Any]]:
    """`(pointer, value)` of everything that a parameter, header or media type at pointer `at` gives as an example."""
    found = [(f"{at}/example", holder["example"])] if "example" in holder else []
    for name, entry in (holder.get("examples") or {}).items():
        example, spot = resolve(document, entry, f"{at}/examples{pointer([name])}")
        if "value" in example:
            found.append((f"{spot}/value", example["value"]))
    return found


def of_parameter(document: Any, parameter: Any, at: str) -> list[tuple[str, Any]]:
    """The examples of a parameter, whether it has a schema or content."""
    found = given(document, parameter, at)
    for media_type, media in (parameter.get("content") or {}).items():
        found += given(document, media, f"{at}/content{pointer([media_type])}")
    return found


def answers(operation: Operation) -> Iterator[AnswerExample]:
    """Every documented answer of an operation that has a body."""
    document = operation.contract.document
    for answer in operation.answers.values():
        status = int(answer.status.replace("XX", "00")) if answer.status != "default" else 500
        for content in answer.contents:
            at = f"{answer.spec}/content{pointer([content.media_type])}"
            for spec, value in given(document, lookup(document, at), at):
                yield AnswerExample(status, content, spec, value)


def calls(operation: Operation) -> Iterator[tuple[str, dict[str, Any]]]:
    """`(name, arguments)` of whole calls made of the examples: all arguments once for each example of the body, and the required ones."""
    document = operation.contract.document
    parameters: dict[str, Any] = {}
    for argument in operation.arguments.values():
        if argument.where != "body":
            found = of_parameter(document, lookup(document, argument.spec), argument.spec)
            parameters |= {argument.name: found[0][1]} if found else {}
    bodies: list[tuple[str, dict[str, Any]]] = []
    node = lookup(document, operation.spec)
    if "requestBody" in node:
        body, at = resolve(document, node["requestBody"], f"{operation.spec}/requestBody")
        for media_type, media in body["content"].items():
            for spec, value in given(document, media, f"{at}/content{pointer([media_type])}"):
                chosen = {"content_type": media_type} if len(operation.body_types) > 1 else {}
                bodies.append((spec, {**_flat(operation, value), **chosen}))
    whole = [(spec, {**parameters, **body}) for spec, body in bodies] or [(operation.spec, parameters)]
    yield from whole
    mandatory = {argument.name for argument in operation.arguments.values() if argument.required}
    required = {name: value for name, value in whole[0][1].items() if name in mandatory}
    one_of_many = operation.body_flat and "minProperties" in lookup(document, operation.body_spec)
    if required != whole[0][1] and not one_of_many:
        yield "required arguments only", required


def _flat(operation: Operation, value: Any) -> dict[str, Any]:
    if not operation.body_flat:
        return {"body": _file(operation.arguments["body"], value)}
    names = {argument.wire_name: argument for argument in operation.arguments.values() if argument.where == "body"}
    return {
        names[key].name if key in names else key: _file(names[key], item) if key in names else item
        for key, item in value.items()
    }


def _file(argument: Argument, value: Any) -> Any:
    if not argument.file:
        return value
    stand_in = STAND_INS.get(argument.file, b"bytes")
    return [stand_in for _ in value] if argument.files else stand_in
