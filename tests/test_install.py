"""What hosts and registries read about us: `server.json`, the bundle's manifest, and the snippets of docs/install.md."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import isocenter
import isocenter_clients
from isocenter import settings

ROOT = Path(__file__).resolve().parents[1]
SERVER: dict[str, Any] = json.loads((ROOT / "packaging" / "server.json").read_text())
MANIFEST: dict[str, Any] = json.loads((ROOT / "packaging" / "mcpb" / "manifest.json").read_text())
PACKAGE: dict[str, Any] = SERVER["packages"][0]
DOCUMENT = (ROOT / "docs" / "install.md").read_text()
SNIPPETS = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)]


def usable(variables: dict[str, str]) -> settings.Settings:
    return settings.load(isocenter_clients.APIS, environ={"XDG_CONFIG_HOME": "/nowhere", **variables})


def test_the_registry_entry_is_complete() -> None:
    assert SERVER["$schema"] == "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
    assert re.fullmatch(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+", SERVER["name"])
    assert 1 <= len(SERVER["description"]) <= 100
    assert f"mcp-name: {SERVER['name']} " in (ROOT / "README.md").read_text()
    assert PACKAGE["registryType"] == "pypi" and PACKAGE["identifier"] == "isocenter"
    assert PACKAGE["transport"] == {"type": "stdio"} and PACKAGE["runtimeHint"] == "uvx"
    assert [argument["value"] for argument in PACKAGE["packageArguments"]] == ["serve"]


def test_all_versions_are_the_packages_own() -> None:
    bundle = tomllib.loads((ROOT / "packaging" / "mcpb" / "pyproject.toml").read_text())

    versions = {SERVER["version"], PACKAGE["version"], MANIFEST["version"], bundle["project"]["version"]}
    assert versions == {isocenter.__version__}
    assert bundle["project"]["dependencies"] == [f"isocenter=={isocenter.__version__}"]
    assert set(re.findall(r"isocenter==([\w.]+)", DOCUMENT)) == {isocenter.__version__}


def test_every_variable_is_one_the_configuration_knows() -> None:
    variables = {
        entry["name"]: "false" if entry["format"] == "boolean" else "https://x.example"
        for entry in PACKAGE["environmentVariables"]
    }

    found = usable(variables)

    assert found.api("circus").base_url == "https://x.example" and "token" in found.api("circus").credentials
    assert "source" in found.api("qure").credentials and "api_key" in found.api("dicomaestro").credentials
    assert {entry["name"] for entry in PACKAGE["environmentVariables"] if entry.get("isSecret")} == {
        f"ISOCENTER_{name}" for name in ("QURE_TOKEN", "CIRCUS_TOKEN", "DICOMAESTRO_API_KEY")
    }


def test_the_bundle_asks_for_what_the_registry_lists_and_starts_with_nothing_filled_in() -> None:
    given, form = MANIFEST["server"]["mcp_config"]["env"], MANIFEST["user_config"]

    assert given.keys() == {entry["name"] for entry in PACKAGE["environmentVariables"]}
    assert {f"${{user_config.{name}}}" for name in form} == set(given.values())
    secret = {entry["name"] for entry in PACKAGE["environmentVariables"] if entry.get("isSecret")}
    assert {name for name, value in given.items() if form[value[14:-1]].get("sensitive")} == secret
    empty = {name: str(form[value[14:-1]]["default"]).replace("${HOME}", "/home/x") for name, value in given.items()}
    assert usable(empty).download_dir == Path("/home/x/isocenter-downloads") and not usable(empty).read_only


def test_the_bundle_is_one_a_host_can_start() -> None:
    server = MANIFEST["server"]

    assert (MANIFEST["manifest_version"], server["type"]) == ("0.4", "uv")
    assert (ROOT / "packaging" / "mcpb" / server["entry_point"]).is_file()
    assert server["mcp_config"]["args"] == ["run", "--directory", "${__dirname}", server["entry_point"], "serve"]
    assert not {"name", "version", "description", "author", "server"} - MANIFEST.keys()


@pytest.mark.parametrize("snippet", SNIPPETS, ids=str)
def test_a_snippet_starts_the_server(snippet: dict[str, Any]) -> None:
    servers = snippet.get("mcpServers") or snippet["servers"]

    assert servers["isocenter"]["command"] == "uvx"
    assert servers["isocenter"]["args"][:2] == [f"isocenter=={isocenter.__version__}", "serve"]
    usable(servers["isocenter"].get("env", {}))


def test_the_table_of_variables_lists_them_all() -> None:
    documented = set(re.findall(r"ISOCENTER_[A-Z_]+", DOCUMENT))

    assert {entry["name"] for entry in PACKAGE["environmentVariables"]} <= documented
