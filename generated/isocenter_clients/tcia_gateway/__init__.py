"""TCIA REST gateway: models, contract and clients, generated from openapi/tcia-gateway.yaml.

The clients are imported when first asked for: whoever needs only the contract pays for no models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import TciaGatewayClient, TciaGatewaySyncClient

__all__ = ["TciaGatewayClient", "TciaGatewaySyncClient"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from . import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
