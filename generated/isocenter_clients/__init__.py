"""Typed clients of every API described in openapi/. Generated: delete this folder and `isocenter generate` brings it back.

Import the client you need from its module, `isocenter_clients.<api>`; this module only knows what there is, and loads no models.
"""

from __future__ import annotations

from importlib import import_module
from importlib.resources import files
from typing import Any, cast

from isocenter.core import Contract

APIS: dict[str, str] = {
    "circus": "circus",
    "dicomaestro": "dicomaestro",
    "qure": "qure",
    "tcia-gateway": "tcia_gateway",
    "tcia": "tcia",
}
"""API name to module."""


def contract(api: str) -> Contract:
    """The contract of one API. Raises KeyError for an unknown name."""
    return cast("Contract", import_module(f"{__name__}.{APIS[api]}.contract").load())


def tools(api: str) -> dict[str, Any]:
    """The curated tools file of one API: toolset, instructions, tools."""
    import msgspec

    content = files(__name__).joinpath(APIS[api], "tools.json").read_bytes()
    return cast("dict[str, Any]", msgspec.json.decode(content))
