"""The main job as a shell user runs it: one command, a child process over stdio, files on disk, an exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pydicom
from PIL import Image

SYSTEMS = {"TCIA", "DICOMaestro", "Qure", "CIRCUS"}


def test_the_whole_journey_on_a_fresh_machine_and_again_over_what_it_left(tmp_path: Path) -> None:
    out = tmp_path / "demo files"
    command = [sys.executable, "-P", "-m", "isocenter", "demo", "--out", str(out)]

    done = subprocess.run([*command, "--json"], capture_output=True, text=True)

    steps = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(steps) == 13 and all(step["ok"] for step in steps)
    assert {step["system"] for step in steps} == SYSTEMS
    assert all(step["request_checks"] == step["response_checks"] == "passed" for step in steps[:10])
    assert all(step["request_checks"].startswith("refused") and step["response_checks"] == "-" for step in steps[10:])

    series = sorted((out / "series").glob("*.dcm"))
    assert len(series) == 120 and {pydicom.dcmread(path, stop_before_pixels=True).Modality for path in series} == {"CT"}
    with Image.open(out / "slice.png") as image:
        assert image.size == (256, 256) and len(set(image.tobytes())) > 20
    results = {path.suffix for path in (out / "results").iterdir()}
    assert {".dcm", ".pdf", ".json"} <= results
    findings = json.loads(next((out / "results").glob("json-*.json")).read_text())
    assert findings

    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "13 of 13 steps" in again.stdout
