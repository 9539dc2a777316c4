"""Formats the judge asserts beyond the standard ones: what DICOM and the four APIs mean by a UID or a date.

Each is a regular expression, calendar included, so that the judge can match it itself: a call back into Python for every value of
a large answer costs ten times the rest of the check.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_YEAR = "(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DAYS = (
    ("(?:0[13578]|1[02])", "(?:0[1-9]|[12][0-9]|3[01])", _YEAR),
    ("(?:0[469]|11)", "(?:0[1-9]|[12][0-9]|30)", _YEAR),
    ("02", "(?:0[1-9]|1[0-9]|2[0-8])", _YEAR),
    ("02", "29", _LEAP_YEAR),
)


def _day(order: str) -> dict[str, Any]:
    """A real calendar day of the years 1 to 9999, with its parts in this order."""
    days = "|".join(order.format(month=month, day=day, year=year) for month, day, year in _DAYS)
    return {"pattern": f"^(?:{days})$"}


# Every format as keywords that a schema can carry instead.
KEYWORDS: dict[str, dict[str, Any]] = {
    "dicom-uid": {"pattern": r"^(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*$", "maxLength": 64},  # PS3.5 section 9.1
    "us-date": _day("{month}-{day}-{year}"),
    "slash-date": _day("{year}/{month}/{day}"),
    "euro-slash-date": _day("{day}/{month}/{year}"),
    "dicom-date": _day("{year}{month}{day}"),
    "sha1": {"pattern": "^[0-9a-f]{40}$"},
}


def _check(keywords: dict[str, Any]) -> Callable[[str], bool]:
    matches, longest = re.compile(keywords["pattern"]).fullmatch, keywords.get("maxLength")
    return lambda text: matches(text) is not None and (longest is None or len(text) <= longest)


FORMATS: dict[str, Callable[[str], bool]] = {name: _check(keywords) for name, keywords in KEYWORDS.items()}
