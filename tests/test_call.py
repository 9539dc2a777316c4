"""`isocenter call`, as a shell user runs it: one operation, checked both ways, printed as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from isocenter.agent.embedded import base_urls
from isocenter.sandbox.app import Running


@pytest.fixture
def call(sandbox: Running, tmp_path: Path) -> Any:
    """Runs the command in an empty folder, pointed at the sandbox."""
    urls = base_urls(sandbox.url)
    given = {"ISOCENTER_TCIA_BASE_URL": urls["tcia"], "ISOCENTER_CIRCUS_BASE_URL": urls["circus"]}
    given["ISOCENTER_CIRCUS_TOKEN"] = sandbox.sandbox.credentials["circus"]["token"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "isocenter", "call", *arguments]
        return subprocess.run(command, env={**os.environ, **given}, cwd=tmp_path, capture_output=True, text=True)

    return run


def test_an_answer_is_printed_as_json(call: Any) -> None:
    done = call("tcia", "getSeries", "Modality=CT")

    answer = json.loads(done.stdout)
    assert (done.returncode, answer["status"]) == (0, 200)
    assert {row["Modality"] for row in answer["data"]} == {"CT"}


def test_an_identifier_of_digits_stays_text_and_json_is_json(call: Any) -> None:
    digits = call("tcia", "getSeries", "PatientID=0012")
    filtered = call("circus", "listCases", 'filter={"tags": "none"}', "limit=5")

    assert (digits.returncode, json.loads(digits.stdout)["data"]) == (0, [])
    assert (filtered.returncode, json.loads(filtered.stdout)["data"]["items"]) == (0, [])


def test_a_wrong_call_is_one_message_and_no_traceback(call: Any) -> None:
    done = call("tcia", "getSeries", "Modalty=CT")

    assert done.returncode == 1 and done.stdout == ""
    assert "nothing was sent" in done.stderr and "Did you mean Modality?" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_binary_answer_goes_to_the_folder(call: Any, tmp_path: Path) -> None:
    series = json.loads(call("tcia", "getSeries", "Modality=MR").stdout)["data"][0]["SeriesInstanceUID"]

    done = call("tcia", "getImage", f"SeriesInstanceUID={series}", "--save-to", str(tmp_path / "out"))

    file = json.loads(done.stdout)["file"]
    assert Path(file["path"]).stat().st_size == file["size"] and Path(file["path"]).parent == tmp_path / "out"
