"""What the scripts here share: the network leads to the sandbox, the truth about its data is known, checks are counted.

Runs in the environment of a foreign client, so it uses nothing but the standard library and `requests`, by which all of
them talk. Every script is called with the address of a sandbox and a JSON file of facts; `tests/test_real_clients.py`
does so.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

HOSTS = ("nbia.cancerimagingarchive.net", "services.cancerimagingarchive.net")
"""The hosts whose place the sandbox takes. Every other one is refused: nothing leaves this machine."""

SANDBOX = sys.argv[1].rstrip("/")
Fact = dict[str, Any]
FACTS: list[Fact] = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
"""One object per DICOM file the sandbox was filled with, taken from the files themselves, not asked of the sandbox."""

_checks: list[tuple[str, bool]] = []
_send = HTTPAdapter.send


def _redirected(self: HTTPAdapter, request: requests.PreparedRequest, **options: Any) -> requests.Response:
    url, here = urlsplit(request.url or ""), urlsplit(SANDBOX)
    if url.hostname in HOSTS:
        url = url._replace(scheme=here.scheme, netloc=here.netloc)
    if url.netloc != here.netloc:
        raise requests.ConnectionError(f"{url.hostname} is not the sandbox")
    request.url = url.geturl()
    # A proxy of the environment is for the outside.
    return _send(self, request, **{**options, "proxies": {}})


HTTPAdapter.send = _redirected  # type: ignore[method-assign, assignment]


def check(what: str, got: object, expected: object = True) -> None:
    """Count one assertion; a failed one is printed, and the script goes on to the next."""
    good = bool(got == expected)
    _checks.append((what, good))
    if not good:
        print(f"FAILED {what}\n  got      {got!r:.2000}\n  expected {expected!r:.2000}", file=sys.stderr)


def finish() -> NoReturn:
    """Say on the last line how many assertions there were and which failed; leave with 1 if any did."""
    failed = [what for what, good in _checks if not good]
    print(json.dumps({"checks": len(_checks), "failed": failed}))
    sys.exit(1 if failed else 0)


def facts(**wanted: str) -> list[Fact]:
    """The files whose facts have these values."""
    return [fact for fact in FACTS if all(fact[name] == value for name, value in wanted.items())]


def distinct(name: str, among: Iterable[Fact]) -> list[str]:
    """The values, other than the empty one, that a fact has in some files; sorted."""
    return sorted({fact[name] for fact in among if fact[name]})


def column(rows: Iterable[dict[str, Any]], name: str) -> list[Any]:
    """One column of an answer, sorted; rows without it are left out, as the archive leaves out nulls."""
    return sorted(row[name] for row in rows if name in row)


def patients_by(name: str, among: Iterable[Fact]) -> list[tuple[str, int]]:
    """How many patients there are for each value of a fact, series without a value left out; sorted.

    A patient in two collections is two patients: the archive keeps them apart.
    """
    seen = {(fact[name], fact["collection"], fact["patient"]) for fact in among if fact[name]}
    return sorted(Counter(value for value, *_ in seen).items())
