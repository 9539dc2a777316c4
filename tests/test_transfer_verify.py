"""`isocenter download --verify`: damage is found, told, and made good by the next download."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transfer_fakes import SERIES, Archive, lines

from isocenter.core import StorageError
from isocenter.sandbox.app import Running
from isocenter.transfer.download import download_series
from isocenter.transfer.series import read_series
from isocenter.transfer.verify import Verdict, series_below, verify_many

pytestmark = pytest.mark.anyio


@pytest.fixture
async def here(tmp_path: Path) -> Path:
    """The folder of a whole series of five images."""
    async with Archive().client() as tcia:
        return (await download_series(tcia.client, SERIES, tmp_path)).folder


async def _verified(root: Path, **choice: Any) -> list[Verdict]:
    verdicts = list[Verdict]()
    await verify_many(series_below(root, **choice), verdicts.append)
    return verdicts


def _flip(path: Path) -> None:
    """Change one byte in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


async def test_damage_is_noted_and_repaired_file_by_file(tmp_path: Path, here: Path) -> None:
    before = (here / "series.json").read_bytes()
    assert [(one.files, one.damaged) for one in await _verified(tmp_path)] == [(5, ())]
    assert (here / "series.json").read_bytes() == before
    kept = (here / "2.25.2003.dcm").read_bytes()
    _flip(here / "2.25.2003.dcm")
    assert read_series(here, SERIES)  # its size says nothing
    assert [one.damaged for one in await _verified(tmp_path)] == [("2.25.2003.dcm",)]
    assert read_series(here, SERIES) is None
    (here / "2.25.2003.dcm").write_bytes(kept)
    assert [one.damaged for one in await _verified(tmp_path)] == [()]
    assert read_series(here, SERIES)
    _flip(here / "2.25.2003.dcm")
    (here / "2.25.2000.dcm").unlink()
    assert [one.damaged for one in await _verified(tmp_path)] == [("2.25.2000.dcm", "2.25.2003.dcm")]
    archive = Archive()
    async with archive.client() as tcia:
        repaired = await download_series(tcia.client, SERIES, tmp_path)
    assert archive.asked.count("getSingleImage") == 2
    assert repaired.md5 == archive.md5
    assert [one.damaged for one in await _verified(tmp_path)] == [()]


async def test_a_series_without_its_index_is_fetched_again(tmp_path: Path, here: Path) -> None:
    (here / "series.json").write_bytes(b'{"cut')
    assert await _verified(tmp_path) == [Verdict(SERIES, here, damaged=("series.json",))]
    archive = Archive()
    async with archive.client() as tcia:
        await download_series(tcia.client, SERIES, tmp_path)
    assert [one.damaged for one in await _verified(tmp_path)] == [()]


async def test_what_is_chosen_is_verified_and_what_is_gone_is_missed(tmp_path: Path, here: Path) -> None:
    (tmp_path / ".isocenter" / "x").mkdir()
    (tmp_path / ".isocenter" / "x" / "series.json").write_text("{}")  # unfinished: nobody's business
    gone: dict[str, Any] = {"SeriesInstanceUID": "2.25.9", "state": "done", "folder": "B/9", "Collection": "B"}
    unfetched = {"SeriesInstanceUID": "2.25.8", "state": None, "folder": None, "Collection": "B"}
    rows = [{**gone, "SeriesInstanceUID": SERIES}, gone, unfetched]

    def found(**choice: Any) -> list[tuple[str, Path]]:
        return list(series_below(tmp_path, rows, **choice))

    assert found() == [(SERIES, here), ("2.25.9", tmp_path / "B" / "9")]
    assert found(filters={"Collection": "B"}) == [("2.25.9", tmp_path / "B" / "9")]
    assert found(filters={"Collection": "FAKE", "PatientID": "PAT-0001"}) == [(SERIES, here)]
    assert found(filters={"Collection": "FAKE", "PatientID": "x"}) == []
    assert found(only=["2.25.7", SERIES]) == [(SERIES, here), ("2.25.7", tmp_path)]
    assert [one.damaged for one in await _verified(tmp_path, only=["2.25.7"])] == [("series.json",)]


async def test_a_disk_that_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Verdict:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("isocenter.transfer.verify.verify_series", broken)
    with pytest.raises(StorageError, match="Permission denied"):
        await verify_many([(SERIES, tmp_path)], lambda _: None)


def test_the_command_tells_what_is_damaged_and_the_next_one_repairs_it(
    sandbox: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOCENTER_TCIA_BASE_URL", f"{sandbox.url}/nbia-api/services/v4")
    monkeypatch.setenv("ISOCENTER_CONFIG", "")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        program = "import sys; from isocenter.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", program, "download", *arguments, "--to", str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run("--collection", "ISO-CHEST-CT").returncode == 0
    good = run("--verify")
    assert (good.returncode, good.stderr) == (0, "")
    folders = sorted(path.parent for path in tmp_path.rglob("series.json"))
    assert f"{len(folders)} series are whole, 0 are not" in good.stdout
    damaged, lost = folders[:2]
    image = max(damaged.glob("*.dcm"))
    _flip(image)
    for path in lost.iterdir():
        path.unlink()
    lost.rmdir()
    bad = run("--verify")
    assert bad.returncode == 1
    assert f"  {image.name}\n" in bad.stderr
    assert lost.name in bad.stderr
    assert f"{len(folders) - 2} series are whole, 2 are not" in bad.stdout
    events = lines(run("--verify", damaged.name, "--json").stdout)
    assert [(event["event"], event["damaged"]) for event in events] == [("series", [image.name]), ("end", 1)]
    assert run("--verify", "--collection", "OTHER").returncode == 0
    assert run("--verify", "--list", "x").returncode == 2
    again = run("--json")
    assert again.returncode == 0
    states = {event["series_uid"]: event["state"] for event in lines(again.stdout)[:-1]}
    assert {uid for uid, state in states.items() if state == "done"} == {damaged.name, lost.name}
    assert run("--verify").returncode == 0
    assert json.loads((damaged / "series.json").read_text())["notes"] != []
