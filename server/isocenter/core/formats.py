"""Formats the judge asserts beyond the standard ones: what DICOM and the four APIs mean by a UID or a date."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable

_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")
_SHA1 = re.compile(r"[0-9a-f]{40}")


def is_dicom_uid(text: str) -> bool:
    """A UID as PS3.5 section 9.1 has it: at most 64 characters, components without leading zeros."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def _is_day(order: str, length: int) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            return len(text) == length and bool(datetime.datetime.strptime(text, order))
        except ValueError:
            return False

    return check


FORMATS: dict[str, Callable[[str], bool]] = {
    "dicom-uid": is_dicom_uid,
    "us-date": _is_day("%m-%d-%Y", 10),
    "slash-date": _is_day("%Y/%m/%d", 10),
    "euro-slash-date": _is_day("%d/%m/%Y", 10),
    "dicom-date": _is_day("%Y%m%d", 8),
    "sha1": lambda text: _SHA1.fullmatch(text) is not None,
}
