"""Credentials and where a specification wants them. The only module that turns a secret into a header."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from isocenter.core.errors import MissingCredentials

if TYPE_CHECKING:
    from isocenter.core.contract import Contract
    from isocenter.core.operation import Operation

HIDDEN = "•••"
NO_SECRETS = frozenset({"email", "username", "source"})  # names, not keys: services show them in ordinary answers


class Credentials:
    """The secrets of one API by credential name (`token`, `api_key`, …). They never show in `repr`.

    Names are the `x-credential` of a security scheme, or the scheme's own name in specifications without it; case and punctuation
    do not count, since environment variables have neither. HTTP basic expects `user:password`. `lasting` says whether what is kept
    here will be there for the next call.
    """

    def __init__(self, values: Mapping[str, str] | None = None, *, lasting: bool = True) -> None:
        self.lasting = lasting
        self._values = {_key(name): value for name, value in (values or {}).items() if value}
        self._spellings: tuple[str, ...] | None = None  # of what must be hidden; None until asked for

    def __repr__(self) -> str:
        return f"Credentials({', '.join(sorted(self._values)) or 'none'})"

    def __bool__(self) -> bool:
        return bool(self._values)

    def __contains__(self, name: str) -> bool:
        return _key(name) in self._values

    def get(self, name: str) -> str | None:
        """The secret, or None."""
        return self._values.get(_key(name))

    def keep(self, name: str, value: str) -> None:
        """Use `value` from now on, for as long as these credentials live."""
        self._values[_key(name)] = value
        self._spellings = None

    def for_one_call(self) -> Credentials:
        """A copy: what it is told to keep is gone with it, and unknown to everybody else."""
        return Credentials(self._values, lasting=False)

    def hide(self, text: str) -> str:
        """`text` with every secret of at least 6 characters replaced, also where it stands as in a URL or a basic header."""
        if self._spellings is None:
            secrets = [value for name, value in self._values.items() if name not in NO_SECRETS and len(value) >= 6]
            self._spellings = tuple(
                spelling
                for value in secrets
                for spelling in (value, quote(value, safe=""), base64.b64encode(value.encode()).decode())
            )
        for spelling in self._spellings:
            if spelling in text:
                text = text.replace(spelling, HIDDEN)
        return text


@dataclass(frozen=True, slots=True)
class Authorization:
    """What goes into one request. Kept out of `repr` as a whole."""

    headers: dict[str, str] = field(default_factory=dict, repr=False)
    query: dict[str, str] = field(default_factory=dict, repr=False)
    cookies: dict[str, str] = field(default_factory=dict, repr=False)


def credential_name(contract: Contract, scheme: str) -> str:
    """The configuration key of a security scheme."""
    return str(contract.security_schemes.get(scheme, {}).get("x-credential") or scheme)


def authorize(operation: Operation, credentials: Credentials) -> Authorization:
    """Credentials for the first security alternative that can be met, nothing where the operation asks for nothing.

    Going without (`{}`) is tried last. Raises MissingCredentials naming what to configure.
    """
    contract = operation.contract
    if not operation.security:
        return Authorization()
    for alternative in sorted(operation.security, key=lambda schemes: not schemes):
        if all(credential_name(contract, scheme) in credentials for scheme in alternative):
            result = Authorization()
            for scheme in alternative:
                value = credentials.get(credential_name(contract, scheme)) or ""
                _add(result, contract.security_schemes.get(scheme, {}), value)
            if not all(
                text.isascii() and text.isprintable() for text in (*result.headers.values(), *result.cookies.values())
            ):
                names = " or ".join(
                    _variable(contract.name, credential_name(contract, scheme)) for scheme in alternative
                )
                raise MissingCredentials(
                    f"{operation.id}: {names} holds a line break or a character that cannot be sent, nothing was sent."
                )
            return result
    wanted = [
        " and ".join(_variable(contract.name, credential_name(contract, scheme)) for scheme in alternative)
        for alternative in operation.security
    ]
    raise MissingCredentials(
        f"{operation.id} needs credentials, nothing was sent. Set {', or '.join(wanted)}, or [{contract.name}] in the configuration file."
    )


@cache
def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower())


def _variable(api: str, credential: str) -> str:
    return f"ISOCENTER_{_key(f'{api}_{credential}').upper()}"


def _add(result: Authorization, scheme: Mapping[str, Any], value: str) -> None:
    kind = scheme.get("type")
    if kind == "apiKey":
        name = str(scheme.get("name"))
        place = {"query": result.query, "cookie": result.cookies}.get(str(scheme.get("in")), result.headers)
        place[name] = str(scheme.get("x-value-prefix", "")) + value
    elif kind == "http" and str(scheme.get("scheme", "")).lower() == "basic":
        result.headers["Authorization"] = "Basic " + base64.b64encode(value.encode()).decode()
    else:  # bearer, oauth2, openIdConnect: the token is obtained elsewhere
        result.headers["Authorization"] = f"Bearer {value}"


def with_query(url: str, query: Mapping[str, str]) -> str:
    """The URL with more query parameters."""
    pairs = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query.items())
    return url + ("&" if "?" in url else "?") + pairs if pairs else url
