"""Configuration: one TOML file, overridden by environment variables, read once into one frozen value and passed down.

File: `--config`, or `ISOCENTER_CONFIG`, or `isocenter/config.toml` in the user's configuration folder. Environment:
`ISOCENTER_<API>_BASE_URL` and `ISOCENTER_<API>_<CREDENTIAL>` (API in capitals, other characters as `_`), `ISOCENTER_DOWNLOAD_DIR`,
`ISOCENTER_ALLOW` (`send,destroy`: go ahead without asking), `ISOCENTER_READ_ONLY`, `ISOCENTER_ROOTS`, `ISOCENTER_AUDIT`, and
`ISOCENTER_HTTP_<KEY>` for each key of the table `[http]` but `scopes`.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

from isocenter.core import Checks, Credentials, IsocenterError
from isocenter.core.client import Mode
from isocenter.core.findings import did_you_mean

SPEC = "spec"  # the API of `serve --spec FILE`, whatever it is called
DIRECTIONS = ("request", "response")
EFFECTS = ("read", "write", "send", "destroy")
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
SHORTEST_KEY = 32  # characters of a secret that seals questions
TOP_LEVEL = ("download_dir", "allow", "read_only", "roots", "audit", "checks", "http")
HTTP_KEYS = (
    "url", "issuer", "audience", "jwks_url", "key_file", "algorithms", "scopes",
    "allowed_hosts", "allowed_origins", "state_keys",
)  # fmt: skip


class BadConfiguration(IsocenterError):
    """A configuration that cannot be used; the message names file, key and the way to mend it."""

    code = "configuration"


@dataclass(frozen=True)
class ApiSettings:
    """Where one API is and what opens it."""

    base_url: str = ""
    credentials: Credentials = field(default_factory=Credentials)


@dataclass(frozen=True)
class Http:
    """How `serve --http` is reached and by whom.

    `url` is the public address of the endpoint, empty when it is the one listened on. Tokens are wanted when `issuer` is set: JWTs
    of that issuer for `audience` (`url` if empty), signed with a key from `jwks_url` or `key_file` (JWKS or PEM) by one of
    `algorithms`; `scopes` says which scope a tool of each effect needs. `allowed_hosts` and `allowed_origins` are accepted besides
    the loopback names and `url`. `state_keys` seal the questions asked of people, the first one new ones; processes that serve one
    address need the same.
    """

    url: str = ""
    issuer: str = ""
    audience: str = ""
    jwks_url: str = ""
    key_file: Path | None = None
    algorithms: tuple[str, ...] = ("RS256", "PS256", "ES256", "EdDSA")
    scopes: Mapping[str, str] = field(default_factory=lambda: {effect: effect for effect in EFFECTS})
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    state_keys: tuple[str, ...] = field(default=(), repr=False)


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
    http: Http = field(default_factory=Http)

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


def with_tokens(http: Http, issuer: str = "", audience: str = "", keys: str = "") -> Http:
    """The settings with what the command line says about tokens; `keys` is a URL or a file.

    Raises BadConfiguration for half a configuration, with which callers would not be asked who they are, or none could get in.
    """
    if keys:
        url = re.match(r"https?://", keys)
        where = _keys_address(keys, "--keys") if url else ""
        http = replace(http, jwks_url=where, key_file=None if url else Path(keys).expanduser())
    http = replace(http, issuer=issuer or http.issuer, audience=audience or http.audience)
    if http.issuer and bool(http.jwks_url) == bool(http.key_file):
        raise BadConfiguration("[http] issuer: tokens need one of jwks_url and key_file to be checked with.")
    if not http.issuer and (http.audience or http.jwks_url or http.key_file):
        raise BadConfiguration("[http] has no issuer, so no token would be asked for. Set issuer.")
    if http.key_file and not http.key_file.is_file():
        raise BadConfiguration("[http] key_file: no such file.")
    if http.issuer and not re.match(r"https?://[^/\s]+", http.issuer):
        raise BadConfiguration("[http] issuer: expected the http:// or https:// address that tokens name as iss.")
    return http


def default_path(environ: Mapping[str, str] = os.environ) -> Path:
    """The user's configuration file, whether it exists or not."""
    base = environ.get("XDG_CONFIG_HOME") or (environ.get("APPDATA") if os.name == "nt" else None)
    return (Path(base) if base else Path.home() / ".config") / "isocenter" / "config.toml"


def env_name(text: str) -> str:
    """A name as part of an environment variable."""
    return re.sub(r"[^A-Z0-9]+", "_", text.upper())


def load(apis: Iterable[str], path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from file and environment. Raises BadConfiguration."""
    names = [*apis, SPEC]
    chosen = path or (Path(environ["ISOCENTER_CONFIG"]) if environ.get("ISOCENTER_CONFIG") else None)
    file = chosen or default_path(environ)
    table = _read(file) if chosen or file.exists() else {}
    for key in table:
        if key not in TOP_LEVEL and key not in names:
            raise BadConfiguration(f"{file}: unknown key {key}. {did_you_mean(key, [*TOP_LEVEL, *names])}".rstrip())

    def setting(key: str) -> tuple[Any, str]:
        """A value and where it was found, for messages."""
        variable = f"ISOCENTER_{key.upper()}"
        return (environ[variable], variable) if environ.get(variable) else (table.get(key), f"{file}: {key}")

    return Settings(
        apis={name: _api(name, names, table.get(name, {}), file, environ) for name in names},
        checks=_checks(table.get("checks", {}), names, f"{file}: [checks]"),
        download_dir=_path(*setting("download_dir")) or Settings().download_dir,
        allow=_effects(*setting("allow")),
        read_only=_flag(*setting("read_only")),
        roots=_paths(*setting("roots")),
        audit=_path(*setting("audit")),
        http=_http(table.get("http", {}), file, environ),
    )


def address(text: str, at: str, *, secrets: bool) -> str:
    """A base URL that can be used, without a slash at its end.

    Raises BadConfiguration, also where secrets would cross a network in the open. `at` names the setting; the text, which may hold
    a password, is never repeated.
    """
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not re.fullmatch(r"https?://\S+", text) or not host:
        raise BadConfiguration(f"{at} must be an http:// or https:// address")
    if "@" in parts.netloc:
        raise BadConfiguration(f"{at} must not hold a user name or password; credentials have settings of their own")
    if parts.query or parts.fragment:
        raise BadConfiguration(f"{at} must end with a path; leave out what follows ? or #")
    if parts.scheme == "http" and secrets and not is_loopback(host):
        raise BadConfiguration(f"{at}: credentials are not sent over plain http. Use https.")
    return text.rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether a host name or address can be reached from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadConfiguration(f"{path}: {error.strerror}. Create it, or leave --config out.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfiguration(f"{path}: not TOML: {error}") from error


def _api(name: str, names: Iterable[str], table: Any, file: Path, environ: Mapping[str, str]) -> ApiSettings:
    values = dict(_table(table, f"{file}: [{name}]"))
    found = {key: f"{file}: [{name}] {key}" for key in table}
    prefix = f"ISOCENTER_{env_name(name)}_"
    longer = tuple(
        f"ISOCENTER_{env_name(other)}_" for other in names if env_name(other).startswith(f"{env_name(name)}_")
    )
    for variable, value in environ.items():
        if variable.startswith(prefix) and value and not variable.startswith(longer):
            key = variable.removeprefix(prefix).lower()
            values[key], found[key] = value, variable
    for key, value in values.items():
        if not isinstance(value, str):
            raise BadConfiguration(f"{found[key]} must be text in quotes")
        if key != "base_url" and (hint := did_you_mean(key, ["base_url"])):  # else it would pass for a credential
            raise BadConfiguration(f"{found[key]}: unknown key. {hint}")
    base_url = values.pop("base_url", "")
    if base_url:
        base_url = address(base_url, found["base_url"], secrets=any(values.values()))
    return ApiSettings(base_url, Credentials(values))


def _http(table: Any, file: Path, environ: Mapping[str, str]) -> Http:
    values = dict(_table(table, f"{file}: [http]", HTTP_KEYS))
    found = {key: f"{file}: [http] {key}" for key in HTTP_KEYS}
    for key in HTTP_KEYS:
        variable = f"ISOCENTER_HTTP_{key.upper()}"
        if environ.get(variable) and key != "scopes":
            values[key], found[key] = environ[variable], variable

    def text(key: str) -> str:
        value = values.get(key, "")
        if not isinstance(value, str):
            raise BadConfiguration(f"{found[key]} must be text in quotes")
        return value.strip()

    def texts(key: str) -> tuple[str, ...]:
        return tuple(_list(values.get(key), found[key], ","))

    algorithms, keys = texts("algorithms") or Http().algorithms, texts("state_keys")
    if unknown := [name for name in algorithms if name not in ALGORITHMS]:
        raise BadConfiguration(f"{found['algorithms']}: {unknown[0]} is none of {', '.join(ALGORITHMS)}")
    if any(len(key) < SHORTEST_KEY for key in keys) or len(set(keys)) < len(keys):
        raise BadConfiguration(
            f"{found['state_keys']}: each key needs {SHORTEST_KEY} characters or more, all different"
        )
    scopes = _table(values.get("scopes", {}), found["scopes"], EFFECTS)
    for effect, scope in scopes.items():
        if not isinstance(scope, str) or not re.fullmatch(r"[!#-\[\]-~]+", scope):
            raise BadConfiguration(f"{found['scopes']} {effect}: a scope is one word in quotes")
    result = Http(
        url=address(text("url"), found["url"], secrets=True) if text("url") else "",
        issuer=text("issuer"),
        audience=text("audience"),
        jwks_url=_keys_address(text("jwks_url"), found["jwks_url"]),
        key_file=_path(values.get("key_file"), found["key_file"]),
        algorithms=algorithms,
        scopes={**Http().scopes, **scopes},
        allowed_hosts=texts("allowed_hosts"),
        allowed_origins=texts("allowed_origins"),
        state_keys=keys,
    )
    return result


def _keys_address(text: str, at: str) -> str:
    """Where keys for tokens are, as it is written: some have a query. Whoever could change them on the way could let anybody in."""
    if text:
        address(text.partition("?")[0], at, secrets=True)
    return text


def _checks(table: Any, apis: Iterable[str], at: str) -> Checks:
    table = _table(table, at, (*DIRECTIONS, "operations"))
    entries: dict[str, Any] = {}
    for name, entry in _table(table.get("operations", {}), f"{at} operations").items():
        nested = name in apis and isinstance(entry, dict)  # tcia.getSeries without quotes is a table in TOML
        entries |= {f"{name}.{operation}": modes for operation, modes in entry.items()} if nested else {name: entry}
    overrides: dict[str, tuple[Mode | None, Mode | None]] = {}
    for name, entry in entries.items():
        api, dot, operation = name.partition(".")
        if api not in apis or not dot or not operation:
            hint = did_you_mean(api, apis)
            raise BadConfiguration(f'{at} operations: "{name}" is no "api.operation". {hint}'.rstrip())
        here = f'{at} operations "{name}"'
        pair = _table(entry, here, DIRECTIONS) if isinstance(entry, dict) else dict.fromkeys(DIRECTIONS, entry)
        request, response = (_mode(pair[key], f"{here} {key}") if key in pair else None for key in DIRECTIONS)
        overrides[name] = request, response
    request, response = (_mode(table.get(key, "strict"), f"{at} {key}") for key in DIRECTIONS)
    return Checks(request, response, overrides)


def _table(value: Any, at: str, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    """A table, with only these keys if any are named."""
    if not isinstance(value, dict):
        raise BadConfiguration(f"{at} must be a table")
    for key in value if keys else ():
        if key not in keys:
            raise BadConfiguration(f"{at} knows {', '.join(keys)}, not {key}. {did_you_mean(key, keys)}".rstrip())
    return value


def _mode(value: Any, at: str) -> Mode:
    for mode in get_args(Mode):
        if value == mode:
            return mode  # type: ignore[no-any-return]  # get_args loses the Literal
    raise BadConfiguration(f"{at}: expected strict, report or off")


def _list(value: Any, at: str, separator: str) -> list[str]:
    """Several texts: a list, or one text in which they are separated as in an environment variable."""
    items = value.split(separator) if isinstance(value, str) else value or []
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise BadConfiguration(f"{at}: expected a list of texts in quotes")
    return [item.strip() for item in items if item.strip()]


def _effects(value: Any, at: str) -> frozenset[str]:
    effects = frozenset(_list(value, at, ","))
    if unknown := effects - {"send", "destroy"}:
        raise BadConfiguration(f"{at}: knows send and destroy, not {', '.join(sorted(unknown))}")
    return effects


def _flag(value: Any, at: str) -> bool:
    word = "no" if value is None else str(value).strip().lower()
    if word not in ("1", "true", "yes", "on", "0", "false", "no", "off"):
        raise BadConfiguration(f"{at}: expected true or false")
    return word in ("1", "true", "yes", "on")


def _path(value: Any, at: str) -> Path | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise BadConfiguration(f"{at}: expected a path in quotes")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise BadConfiguration(f"{at}: there is no such user's home folder") from None


def _paths(value: Any, at: str) -> tuple[Path, ...]:
    return tuple(path for item in _list(value, at, os.pathsep) if (path := _path(item, at)))
