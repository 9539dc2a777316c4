"""`isocenter doctor`: what is wrong is named with what to do, what is right is not complained about, and the exit code tells."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import isocenter_clients
from isocenter.agent.embedded import base_urls
from isocenter.cli import app
from isocenter.core import InvalidSpec
from isocenter.doctor import Finding, examine
from isocenter.sandbox.app import Running
from isocenter.settings import env_name


def examined(
    folder: Path, variables: Mapping[str, str] | None = None, *, offline: bool = True, config: Path | None = None
) -> dict[str, Finding]:
    settings = {
        "XDG_CONFIG_HOME": str(folder),
        "ISOCENTER_DOWNLOAD_DIR": str(folder / "downloads"),
        **(variables or {}),
    }
    found = asyncio.run(examine(config, folder / "data", settings, offline=offline))
    return {finding.subject: finding for finding in found}


def environment(sandbox: Running) -> dict[str, str]:
    found = {f"ISOCENTER_{env_name(api)}_BASE_URL": url for api, url in base_urls(sandbox.url).items()}
    for api, credentials in sandbox.sandbox.credentials.items():
        found |= {f"ISOCENTER_{env_name(api)}_{name.upper()}": value for name, value in credentials.items()}
    return found


def test_nothing_is_wrong_with_a_configured_sandbox(sandbox: Running, tmp_path: Path) -> None:
    found = examined(tmp_path, environment(sandbox), offline=False)

    assert {finding.state for subject, finding in found.items() if not subject.startswith("credentials")} == {"ok"}
    assert {found[f"credentials {api}"].state for api in ("qure", "circus", "tcia")} == {"ok"}
    assert {f"contract {api}" for api in isocenter_clients.APIS} <= found.keys()
    assert not any(value in str(found) for values in sandbox.sandbox.credentials.values() for value in values.values())


def test_missing_credentials_are_named(tmp_path: Path) -> None:
    found = examined(tmp_path)

    assert found["credentials tcia"].what == "none needed"
    qure = found["credentials qure"]
    assert qure.state == "note" and "ISOCENTER_QURE_TOKEN and ISOCENTER_QURE_SOURCE" in qure.advice
    assert not any(subject.startswith("service") for subject in found)


def test_a_service_that_is_not_there_is_a_problem_only_where_it_is_configured(tmp_path: Path) -> None:
    nobody = {f"ISOCENTER_{env_name(api)}_BASE_URL": "http://127.0.0.1:9" for api in isocenter_clients.APIS}
    nobody.pop("ISOCENTER_CIRCUS_BASE_URL")

    found = examined(tmp_path, nobody, offline=False)

    assert found["service tcia"].state == "problem" and "cannot be reached" in found["service tcia"].what
    assert "ISOCENTER_TCIA_BASE_URL" in found["service tcia"].advice


def test_a_broken_configuration_is_all_there_is_to_tell(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[tcla]\n")

    found = examined(tmp_path, config=file)

    assert list(found) == ["configuration"] and found["configuration"].state == "problem"
    assert "Did you mean tcia?" in found["configuration"].what


def test_folders_that_cannot_be_written_are_problems(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no folder")

    found = examined(tmp_path, {"ISOCENTER_DOWNLOAD_DIR": str(tmp_path / "data" / "downloads")})

    assert found["download folder"].state == "problem" and "ISOCENTER_DOWNLOAD_DIR" in found["download folder"].advice
    assert found["sandbox data"].state == "problem" and "--data" in found["sandbox data"].advice


def test_a_sandbox_that_runs_is_noticed(sandbox: Running, tmp_path: Path) -> None:
    found = asyncio.run(examine(None, sandbox.sandbox.root, {"XDG_CONFIG_HOME": str(tmp_path)}, offline=True))

    data = found[-1]
    assert data.subject == "sandbox data" and data.state == "note" and "another --data" in data.advice


def test_a_damaged_contract_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(api: str) -> Any:
        raise InvalidSpec([f"{api}: gone"])

    monkeypatch.setattr(isocenter_clients, "contract", damaged)

    found = examined(tmp_path)

    assert found["contract qure"].state == "problem" and "install isocenter again" in found["contract qure"].advice
    assert "credentials qure" not in found


@pytest.mark.parametrize(("download_dir", "code"), [("downloads", 0), ("file/downloads", 1)])
def test_the_exit_code_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, download_dir: str, code: int) -> None:
    (tmp_path / "file").write_text("no folder")
    for name in [name for name in os.environ if name.startswith("ISOCENTER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("ISOCENTER_DOWNLOAD_DIR", str(tmp_path / download_dir))
    command = ["doctor", "--offline", "--data", str(tmp_path / "data")]

    words = CliRunner().invoke(app, command)
    lines = CliRunner().invoke(app, [*command, "--json"])

    assert (words.exit_code, lines.exit_code) == (code, code)
    assert "Set ISOCENTER_QURE_TOKEN" in words.stdout
    subjects = [json.loads(line)["subject"] for line in lines.stdout.splitlines()]
    assert subjects[0] == "configuration" and subjects[-1] == "sandbox data"
