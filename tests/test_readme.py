"""The README's promises, executed: its Python runs, its tables say what the code says, its files exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
from typer.testing import CliRunner

import isocenter_clients
from isocenter.cli import app
from isocenter.sandbox.app import Running

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_example_runs_as_printed(
    sandbox: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = blocks("python")
    monkeypatch.chdir(tmp_path)

    exec(compile(example.replace("http://127.0.0.1:8765", sandbox.url), "README.md", "exec"), {})

    assert "2.25." in capsys.readouterr().out
    with ZipFile(tmp_path / "ct.zip") as archive:
        assert any(name.endswith(".dcm") for name in archive.namelist())


def test_the_table_of_apis_is_current() -> None:
    rows = {match[1]: int(match[0]) for match in re.findall(r"\|\s*(\d+) \| `([a-z-]+)` \|", README)}

    assert rows == {api: len(isocenter_clients.contract(api).operations) for api in isocenter_clients.APIS}


def test_the_two_commands_are_of_the_agreed_form() -> None:
    commands = [line for block in blocks("bash") for line in block.splitlines() if ".venv" in line]

    assert commands == [
        "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/isocenter demo",
        ".venv/bin/pip install -e '.[dev]' && .venv/bin/pytest",
    ]


def test_the_pipeline_example_finds_series_in_the_sandbox(
    sandbox: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "chest.toml"
    file.write_text(blocks("toml")[0])
    monkeypatch.setenv("ISOCENTER_TCIA_BASE_URL", f"{sandbox.url}/nbia-api/services/v4")
    told = CliRunner().invoke(app, ["run", str(file), "--dry-run"])

    assert told.exit_code == 0
    assert re.match(r"3 series, [\d.]+ MB: download -> upload -> results -> case -> tag$", told.output)


def test_the_toml_example_is_configuration(tmp_path: Path) -> None:
    from isocenter import settings

    example = blocks("toml")[-1]
    path = tmp_path / "config.toml"
    path.write_text(example)

    assert tomllib.loads(example)
    loaded = settings.load(isocenter_clients.APIS, path, {})
    assert loaded.checks_of("tcia").of("getSeries") == ("strict", "report")


def test_links_lead_to_files() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
