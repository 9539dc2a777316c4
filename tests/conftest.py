"""Fixtures several test files share: the event loop backend, and one sandbox on a real socket for the whole session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from isocenter.sandbox.app import Running, running
from isocenter.sandbox.state import Options


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """All services on synthetic data. Tests that need a clean state or other options start one of their own."""
    with running(
        Path(tmp_path_factory.mktemp("sandbox")), Options(compute_seconds=0.05, stability_seconds=0.05)
    ) as server:
        yield server
