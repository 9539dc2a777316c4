"""The Cancer Imaging Archive (NBIA v4): models, contract and clients, generated from openapi/tcia.yaml.

The clients are imported when first asked for: whoever needs only the contract pays for no models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import TciaClient, TciaSyncClient

__all__ = ["TciaClient", "TciaSyncClient"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from . import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
