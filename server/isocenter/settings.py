"""Configuration: one TOML file, overridden by environment variables, read once into one frozen value and passed down.

File: `--config`, or `ISOCENTER_CONFIG`, or `isocenter/config.toml` in the user's configuration folder. Environment:
`ISOCENTER_<API>_BASE_URL` and `ISOCENTER_<API>_<CREDENTIAL>` (API in capitals, other characters as `_`), `ISOCENTER_DOWNLOAD_DIR`,
`ISOCENTER_ALLOW` (`send,destroy`: go ahead without asking), `ISOCENTER_READ_ONLY`, `ISOCENTER_ROOTS`, `ISOCENTER_AUDIT`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from isocenter.core import Checks, Credentials, IsocenterError
from isocenter.core.client import Mode
from isocenter.core.findings import did_you_mean

SPEC = "spec"  # the API of `serve --spec FILE`, whatever it is called
TOP_LEVEL = ("download_dir", "allow", "read_only", "roots", "audit", "checks")


class BadConfiguration(IsocenterError):
    """A configuration that cannot be used; the message names file, key and the way to mend it."""

    code = "configuration"


@dataclass(frozen=True)
class ApiSettings:
    """Where one API is and what opens it."""

    base_url: str = ""
    credentials: Credentials = field(default_factory=Credentials)


@dataclass(frozen=True)
class Settings:
    """Everything an operator can decide. `allow` holds the effects that need no question; `roots` empty means any local file."""

    apis: Mapping[str, ApiSettings] = field(default_factory=dict)
    checks: Checks = field(default_factory=Checks)
    download_dir: Path = field(default_factory=lambda: Path.home() / "isocenter-downloads")
    allow: frozenset[str] = frozenset()
    read_only: bool = False
    roots: tuple[Path, ...] = ()
    audit: Path | None = None

    def api(self, name: str) -> ApiSettings:
        """The settings of one API; empty ones when nothing is configured."""
        return self.apis.get(name) or ApiSettings()

    def checks_of(self, api: str) -> Checks:
        """The checks of one API: overrides are configured as `api.operation`."""
        prefix = f"{api}."
        overrides = {
            name.removeprefix(prefix): modes
            for name, modes in self.checks.operations.items()
            if name.startswith(prefix)
        }
        return Checks(self.checks.request, self.checks.response, overrides)


def default_path() -> Path:
    """The user's configuration file, whether it exists or not."""
    base = os.environ.get("XDG_CONFIG_HOME") or (os.environ.get("APPDATA") if os.name == "nt" else None)
    return (Path(base) if base else Path.home() / ".config") / "isocenter" / "config.toml"


def env_name(text: str) -> str:
    """A name as part of an environment variable."""
    return re.sub(r"[^A-Z0-9]+", "_", text.upper())


def load(apis: Iterable[str], path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from file and environment. Raises BadConfiguration."""
    names = [*apis, SPEC]
    chosen = path or (Path(environ["ISOCENTER_CONFIG"]) if environ.get("ISOCENTER_CONFIG") else None)
    table = _read(chosen) if chosen else _read(default_path()) if default_path().exists() else {}
    where = str(chosen or default_path())
    for key in table:
        if key not in TOP_LEVEL and key not in names:
            raise BadConfiguration(f"{where}: unknown key {key}. {did_you_mean(key, [*TOP_LEVEL, *names])}".rstrip())
    values = {name: dict(_table(table, name, where)) for name in names}
    for name in names:
        prefix = f"ISOCENTER_{env_name(name)}_"
        longer = [
            f"ISOCENTER_{env_name(other)}_" for other in names if env_name(other).startswith(f"{env_name(name)}_")
        ]
        for variable, value in environ.items():
            if variable.startswith(prefix) and value and not any(variable.startswith(other) for other in longer):
                values[name][variable.removeprefix(prefix).lower()] = value
    return Settings(
        apis={name: _api(name, settings, where) for name, settings in values.items()},
        checks=_checks(_table(table, "checks", where), where),
        download_dir=Path(
            environ.get("ISOCENTER_DOWNLOAD_DIR") or table.get("download_dir") or Settings().download_dir
        ).expanduser(),
        allow=_effects(
            environ.get("ISOCENTER_ALLOW", "").split(",") if environ.get("ISOCENTER_ALLOW") else table.get("allow", []),
            where,
        ),
        read_only=(environ.get("ISOCENTER_READ_ONLY", "") or str(table.get("read_only", ""))).lower()
        in ("1", "true", "yes"),
        roots=tuple(
            Path(root).expanduser()
            for root in (
                environ["ISOCENTER_ROOTS"].split(os.pathsep)
                if environ.get("ISOCENTER_ROOTS")
                else table.get("roots", [])
            )
        ),
        audit=Path(audit).expanduser() if (audit := environ.get("ISOCENTER_AUDIT") or table.get("audit")) else None,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadConfiguration(f"{path}: {error.strerror}. Create it, or leave --config out.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfiguration(f"{path}: not TOML: {error}") from error


def _table(table: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise BadConfiguration(f"{where}: {key} must be a table: [{key}]")
    return value


def _api(name: str, values: dict[str, Any], where: str) -> ApiSettings:
    for key, value in values.items():
        if not isinstance(value, str):
            raise BadConfiguration(f"{where}: [{name}] {key} must be text in quotes")
    base_url = values.pop("base_url", "").rstrip("/")
    if base_url and not re.match(r"https?://[^/\s]+", base_url):
        raise BadConfiguration(f"{where}: [{name}] base_url must be an http:// or https:// address")
    loopback = re.match(r"http://(localhost|127\.|\[::1\])", base_url)
    if base_url.startswith("http://") and values and not loopback:
        raise BadConfiguration(f"{where}: [{name}] base_url: credentials are not sent over plain http. Use https.")
    return ApiSettings(base_url, Credentials(values))


def _checks(values: Mapping[str, Any], where: str) -> Checks:
    modes: dict[str, Mode] = {}
    overrides: dict[str, tuple[Mode | None, Mode | None]] = {}
    for key, value in values.items():
        if key in ("request", "response"):
            modes[key] = _mode(value, f"{where}: [checks] {key}")
        elif key == "operations" and isinstance(value, dict):
            for name, entry in value.items():
                at = f'{where}: [checks.operations] "{name}"'
                pair = entry if isinstance(entry, dict) else {"request": entry, "response": entry}
                overrides[name] = (
                    _mode(pair["request"], at) if "request" in pair else None,
                    _mode(pair["response"], at) if "response" in pair else None,
                )
        else:
            raise BadConfiguration(f"{where}: [checks] knows request, response and operations, not {key}")
    return Checks(modes.get("request", "strict"), modes.get("response", "strict"), overrides)


def _mode(value: Any, at: str) -> Mode:
    for mode in get_args(Mode):
        if value == mode:
            return mode  # type: ignore[no-any-return]  # get_args loses the Literal
    raise BadConfiguration(f"{at}: expected strict, report or off")


def _effects(values: Iterable[Any], where: str) -> frozenset[str]:
    effects = frozenset(str(value).strip() for value in values if str(value).strip())
    if unknown := effects - {"send", "destroy"}:
        raise BadConfiguration(f"{where}: allow knows send and destroy, not {', '.join(sorted(unknown))}")
    return effects
