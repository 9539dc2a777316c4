"""Reads specifications and tools files from disk as plain JSON. YAML is read as YAML 1.2 has it: `yes` is text, dates stay text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import yaml

from isocenter.core.errors import InvalidSpec

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Yaml12(_Base):  # type: ignore[misc]  # the C loader has no stubs
    """The safe loader with the YAML 1.2 core schema instead of 1.1's guesses."""


_Yaml12.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789"),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+0123456789.",
    ),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("merge", r"^<<$", "<"),
):
    _Yaml12.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def read(path: Path) -> Any:
    """The JSON value of a YAML or JSON file. Raises InvalidSpec naming the file and the line."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidSpec([f"{path}: {error.strerror}"]) from error
    try:
        if path.suffix == ".json" or content.lstrip()[:1] == b"{":
            return msgspec.json.decode(content)
        return yaml.load(content, Loader=_Yaml12)  # noqa: S506  # a safe loader
    except (yaml.YAMLError, msgspec.DecodeError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise InvalidSpec([f"{path}{line}: {getattr(error, 'problem', None) or error}"]) from error


def read_spec(path: Path) -> dict[str, Any]:
    """An OpenAPI document. Raises InvalidSpec when it is none."""
    document = read(path)
    if isinstance(document, dict) and "swagger" in document:
        raise InvalidSpec(
            [f"{path.name}#/swagger: only OpenAPI 3.0 and 3.1 are understood, this says {document['swagger']}"]
        )
    if not isinstance(document, dict) or "openapi" not in document:
        raise InvalidSpec([f"{path}: not an OpenAPI document (no `openapi` field)"])
    return document
