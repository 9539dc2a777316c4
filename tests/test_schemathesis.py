"""Schemathesis finds no failure in the five specifications and the running sandbox. `tests/clients/schemathesis` says how."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parent / "clients" / "schemathesis" / "run"


@pytest.mark.skipif(
    os.environ.get("ISOCENTER_CLIENTS") != "1",
    reason="takes minutes and installs Schemathesis: set ISOCENTER_CLIENTS=1",
)
def test_schemathesis_finds_no_failure() -> None:
    done = subprocess.run([sys.executable, RUN], capture_output=True, text=True)

    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("No issues found") == 5
