"""Configuration: what wins, what is refused, and that no message repeats a secret."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from isocenter.core import Checks
from isocenter.settings import BadConfiguration, Settings, load

APIS = ["tcia-gateway", "tcia", "circus"]
SECRET = "t0p-s3cret-value"


def configured(tmp_path: Path, text: str, **environ: str) -> Settings:
    """Settings of a file with this text and these environment variables, named without their prefix."""
    file = tmp_path / "config.toml"
    file.write_text(text, encoding="utf-8")
    variables = {f"ISOCENTER_{name}": value for name, value in environ.items()}
    return load(APIS, file, {"XDG_CONFIG_HOME": str(tmp_path / "nowhere"), **variables})


def refusal(tmp_path: Path, text: str, **environ: str) -> str:
    with pytest.raises(BadConfiguration) as caught:
        configured(tmp_path, text, **environ)
    message = f"{caught.value} {caught.value!r}"
    assert SECRET not in message
    return message


def test_nothing_configured_is_a_configuration() -> None:
    settings = load(APIS, environ={"XDG_CONFIG_HOME": "/nonexistent"})

    assert settings.api("tcia").base_url == ""
    assert "token" not in settings.api("tcia").credentials
    assert settings.checks == Checks("strict", "strict")
    assert (settings.allow, settings.read_only, settings.roots, settings.audit) == (frozenset(), False, (), None)
    assert settings.download_dir == Path.home() / "isocenter-downloads"


def test_everything_can_be_configured(tmp_path: Path) -> None:
    settings = configured(
        tmp_path,
        """
        download_dir = "/data/in"
        allow = ["send", "destroy"]
        read_only = true
        roots = ["/data/a", "~/b"]
        audit = "/data/audit.jsonl"

        [circus]
        base_url = "https://circus.test/api/"
        token = "t0p-s3cret-value"

        [checks]
        response = "report"
        [checks.operations]
        "tcia.getSeries" = "off"
        "circus.getCase" = { request = "report" }
        tcia.getImage = { response = "strict" }
        """,
    )

    circus = settings.api("circus")
    assert (circus.base_url, circus.credentials.get("token")) == ("https://circus.test/api", SECRET)
    assert settings.download_dir == Path("/data/in")
    assert settings.allow == {"send", "destroy"}
    assert settings.read_only
    assert settings.roots == (Path("/data/a"), Path.home() / "b")
    assert settings.audit == Path("/data/audit.jsonl")
    assert settings.checks_of("tcia").of("getSeries") == ("off", "off")
    assert settings.checks_of("tcia").of("getImage") == ("strict", "strict")
    assert settings.checks_of("circus").of("getCase") == ("report", "report")
    assert settings.checks_of("circus").of("getSeries") == ("strict", "report")
    assert SECRET not in repr(settings)


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    text = """
        download_dir = "/file"
        allow = ["send"]
        read_only = true
        roots = ["/file"]
        [circus]
        base_url = "https://file.test"
        token = "of the file"
        """

    settings = configured(
        tmp_path,
        text,
        CIRCUS_BASE_URL="https://environment.test/",
        CIRCUS_TOKEN=SECRET,
        DOWNLOAD_DIR="/environment",
        ALLOW="destroy",
        READ_ONLY="0",
        ROOTS=f"/environment{os.pathsep}/too",
        AUDIT="/environment/audit",
    )

    circus = settings.api("circus")
    assert (circus.base_url, circus.credentials.get("token")) == ("https://environment.test", SECRET)
    assert settings.download_dir == Path("/environment")
    assert settings.allow == {"destroy"}
    assert not settings.read_only
    assert settings.roots == (Path("/environment"), Path("/too"))
    assert settings.audit == Path("/environment/audit")


def test_an_empty_variable_is_none(tmp_path: Path) -> None:
    settings = configured(tmp_path, '[circus]\ntoken = "of the file"', CIRCUS_TOKEN="", READ_ONLY="", ALLOW="")

    assert settings.api("circus").credentials.get("token") == "of the file"
    assert not settings.read_only


def test_the_file_is_found_where_it_belongs(tmp_path: Path) -> None:
    (tmp_path / "isocenter").mkdir()
    (tmp_path / "isocenter" / "config.toml").write_text("read_only = true")
    (tmp_path / "other.toml").write_text("allow = ['send']")

    usual = load(APIS, environ={"XDG_CONFIG_HOME": str(tmp_path)})
    named = load(APIS, environ={"XDG_CONFIG_HOME": str(tmp_path), "ISOCENTER_CONFIG": str(tmp_path / "other.toml")})

    assert (usual.read_only, usual.allow) == (True, frozenset())
    assert (named.read_only, named.allow) == (False, frozenset({"send"}))


def test_names_that_begin_alike_do_not_mix(tmp_path: Path) -> None:
    settings = configured(
        tmp_path,
        "",
        TCIA_GATEWAY_BASE_URL="https://gateway.test",
        TCIA_GATEWAY_TOKEN="of the gateway",
        TCIA_BASE_URL="https://tcia.test",
        TCIA_TOKEN=SECRET,
    )

    tcia, gateway = settings.api("tcia"), settings.api("tcia-gateway")
    assert (tcia.base_url, tcia.credentials.get("token")) == ("https://tcia.test", SECRET)
    assert (gateway.base_url, gateway.credentials.get("token")) == ("https://gateway.test", "of the gateway")
    assert "gateway_token" not in tcia.credentials
    assert "gateway_base_url" not in tcia.credentials


@pytest.mark.parametrize(
    ("text", "environ", "parts"),
    [
        ('[tica]\ntoken = "x"', {}, ["config.toml", "unknown key tica", "Did you mean tcia?"]),
        ("readonly = true", {}, ["Did you mean read_only?"]),
        ('[tcia]\nbase_ulr = "https://x.test"', {}, ["[tcia] base_ulr", "Did you mean base_url?"]),
        ("", {"TCIA_BASEURL": "https://x.test"}, ["ISOCENTER_TCIA_BASEURL", "Did you mean base_url?"]),
        ("[tcia]\ntoken = 5", {}, ["[tcia] token", "quotes"]),
        ("tcia = 5", {}, ["[tcia]", "table"]),
        ('checks = "off"', {}, ["[checks]", "table"]),
        ('[checks]\nrequest = "lax"', {}, ["[checks] request", "strict, report or off"]),
        ('[checks]\nreponse = "off"', {}, ["not reponse", "Did you mean response?"]),
        ('[checks.operations]\n"tcai.getSeries" = "off"', {}, ['"tcai.getSeries"', "Did you mean tcia?"]),
        ('[checks.operations]\ngetSeries = "off"', {}, ['"getSeries"', "api.operation"]),
        ('[checks.operations]\n"tcia.getSeries" = "loose"', {}, ['"tcia.getSeries"', "strict, report or off"]),
        ('[checks.operations]\n"tcia.getSeries" = { requst = "off" }', {}, ["not requst", "Did you mean request?"]),
        ('allow = ["write"]', {}, ["allow", "send and destroy, not write"]),
        ("allow = [1]", {}, ["allow", "list of texts"]),
        ("", {"ALLOW": "send,all"}, ["ISOCENTER_ALLOW", "not all"]),
        ('read_only = "maybe"', {}, ["read_only", "true or false"]),
        ("", {"READ_ONLY": "ja"}, ["ISOCENTER_READ_ONLY", "true or false"]),
        ("roots = 5", {}, ["roots", "list of texts"]),
        ("download_dir = 5", {}, ["download_dir", "a path in quotes"]),
        ("audit = []", {}, ["audit", "a path in quotes"]),
        ('download_dir = "~nobody-of-this-name/x"', {}, ["download_dir", "home folder"]),
        (f'[tcia]\ntoken = "{SECRET}', {}, ["config.toml", "not TOML"]),
        (f"[tcia]\ntoken = {SECRET}", {}, ["config.toml", "not TOML"]),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_named(tmp_path: Path, text: str, environ: dict[str, str], parts: list[str]) -> None:
    message = refusal(tmp_path, text, **environ)

    assert [part for part in parts if part not in message] == []


def test_a_file_that_is_not_text_or_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"token = '\xff'")

    with pytest.raises(BadConfiguration, match=r"binary\.toml: not TOML"):
        load(APIS, tmp_path / "binary.toml", {})
    with pytest.raises(BadConfiguration, match=r"absent\.toml: No such file"):
        load(APIS, tmp_path / "absent.toml", {})
    with pytest.raises(BadConfiguration, match=r"absent\.toml"):
        load(APIS, None, {"ISOCENTER_CONFIG": str(tmp_path / "absent.toml")})


@pytest.mark.parametrize("value", ["1", "true", "Yes", " on "])
def test_a_flag_may_be_spelled_in_several_ways(tmp_path: Path, value: str) -> None:
    assert configured(tmp_path, "", READ_ONLY=value).read_only


def test_one_root_is_one_folder_and_not_its_letters(tmp_path: Path) -> None:
    assert configured(tmp_path, 'roots = "/data"').roots == (Path("/data"),)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8765/circus/api",
        "http://127.0.0.1:8765/circus/api",
        "http://127.8.9.10",
        "http://[::1]:8765/api",
        "https://circus.test/api",
    ],
)
def test_credentials_may_go_to_this_machine_or_over_tls(tmp_path: Path, url: str) -> None:
    assert configured(tmp_path, "", CIRCUS_BASE_URL=url, CIRCUS_TOKEN=SECRET).api("circus").base_url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://circus.test/api",
        "http://localhost.evil.test/api",
        "http://127.evil.test/api",
        "http://127.0.0.1.evil.test/api",
        "http://10.0.0.5/api",
        "http://[2001:db8::1]/api",
    ],
)
def test_credentials_do_not_cross_a_network_in_the_open(tmp_path: Path, url: str) -> None:
    message = refusal(tmp_path, f'[circus]\nbase_url = "{url}"', CIRCUS_TOKEN=SECRET)

    assert "[circus] base_url" in message
    assert "Use https" in message
    assert configured(tmp_path, f'[circus]\nbase_url = "{url}"').api("circus").base_url == url  # nothing to give away


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://circus.test", "must be an http:// or https:// address"),
        ("circus.test/api", "must be an http:// or https:// address"),
        ("https://", "must be an http:// or https:// address"),
        ("https://circus.test:port/", "must be an http:// or https:// address"),
        ("https://[circus/", "must be an http:// or https:// address"),
        ("https://circus.test/a b", "must be an http:// or https:// address"),
        (f"https://ann:{SECRET}@circus.test", "must not hold a user name or password"),
        (f"https://localhost@evil.test/{SECRET}", "must not hold a user name or password"),
        (f"https://circus.test/api?key={SECRET}", "must end with a path"),
    ],
)
def test_an_address_that_cannot_be_one_is_refused(tmp_path: Path, url: str, why: str) -> None:
    message = refusal(tmp_path, "", CIRCUS_BASE_URL=url)

    assert "ISOCENTER_CIRCUS_BASE_URL" in message
    assert why in message


def test_operations_are_held_as_their_own_api_says(tmp_path: Path) -> None:
    checks: Any = configured(tmp_path, '[checks.operations]\n"tcia-gateway.getSeries" = "off"')

    assert checks.checks_of("tcia-gateway").of("getSeries") == ("off", "off")
    assert checks.checks_of("tcia").of("getSeries") == ("strict", "strict")
