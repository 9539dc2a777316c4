"""What a schema cannot say, by the name a specification gives it with `x-rule`. Pure functions on plain JSON.

A rule yields `(pointer below the value, what was expected, how to repair it)` for every problem. Sources: CIRCUS DB's own
checks (volume descriptors, filters, sort keys, exports) and DICOM PS3.5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from isocenter.core.schema import pointer

Problem = tuple[str, str, str]
Rule = Callable[[Any], Iterator[Problem]]

DATE_KEYS = frozenset({"createdAt", "updatedAt", "seriesDate", "addedToListAt"})


def volume_descriptor(value: Any) -> Iterator[Problem]:
    """CIRCUS partial volume descriptor: image numbers `start`, `start + delta`, … `end`, all positive."""
    if not isinstance(value, dict):
        return  # "auto"
    start, end, delta = (value.get(key) for key in ("start", "end", "delta"))
    for key, number in (("start", start), ("end", end)):
        if not isinstance(number, int) or number < 1:
            yield f"/{key}", "an image number, 1 or more", "Image numbers start at 1."
            return
    if not isinstance(delta, int) or delta == 0:
        yield "/delta", "a step that is a whole number and not 0", "Use 1 for ascending, -1 for descending images."
        return
    assert isinstance(start, int) and isinstance(end, int)
    span = end - start
    if span and (span > 0) != (delta > 0):
        yield "/delta", "a step that leads from start to end", f"Use {-delta}, or exchange start and end."
    elif span % delta:
        yield "/end", f"a whole number of steps of {delta} from start", "Choose an end that a step reaches exactly."
    elif span == 0 and delta == -1:
        yield "/delta", "a step other than -1 when start equals end", "Use 1."


def filter_query(value: Any) -> Iterator[Problem]:
    """CIRCUS filter: dates must be `{"$date": …}` (plain ISO text matches nothing, silently), at most 20 levels deep."""
    yield from _filter(value, "", 0)


def _filter(node: Any, at: str, depth: int) -> Iterator[Problem]:
    if depth > 20:
        yield at, "at most 20 levels of $and and $or", "Simplify the filter."
        return
    if not isinstance(node, dict):
        return
    for key, operand in node.items():
        here = at + pointer([key])
        if key in ("$and", "$or"):
            for index, child in enumerate(operand if isinstance(operand, list) else ()):
                yield from _filter(child, f"{here}/{index}", depth + 1)
        elif key in DATE_KEYS:
            yield from _dates(operand, here)
        elif isinstance(operand, dict) and "$regex" in operand and len(operand.keys() - {"$regex", "$options"}):
            yield (
                here,
                "$regex without other operators beside it",
                "The service drops operators beside $regex; combine them with $and.",
            )


def _dates(operand: Any, at: str) -> Iterator[Problem]:
    wrapped = 'Write {"$date": "2024-01-31T00:00:00Z"}: plain text matches nothing.'
    if isinstance(operand, str):
        yield at, "a date object", wrapped
    elif isinstance(operand, dict):
        for operator, value in operand.items():
            for index, item in enumerate(value if isinstance(value, list) else [value]):
                if (
                    operator.startswith("$")
                    and operator not in ("$date", "$regex", "$options")
                    and isinstance(item, str)
                ):
                    yield (
                        f"{at}{pointer([operator])}" + (f"/{index}" if isinstance(value, list) else ""),
                        "a date object",
                        wrapped,
                    )


def sort_keys(value: Any) -> Iterator[Problem]:
    """CIRCUS sort: keys that are empty or start with `$` make the service fail."""
    for key in value if isinstance(value, dict) else ():
        if not key or key.startswith("$"):
            yield pointer([key]), "a field name", 'Use names like "createdAt".'


def unique_case_export(value: Any) -> Iterator[Problem]:
    """CIRCUS export: two entries of one case write the same files, the later one wins."""
    seen: set[str] = set()
    for index, entry in enumerate(value if isinstance(value, list) else ()):
        case = entry.get("caseId") if isinstance(entry, dict) else entry
        if isinstance(case, str) and case in seen:
            yield f"/{index}", "each case once", "Export other revisions of the same case in requests of their own."
        elif isinstance(case, str):
            seen.add(case)


RULES: dict[str, Rule] = {
    "circus-volume-descriptor": volume_descriptor,
    "circus-filter": filter_query,
    "circus-sort": sort_keys,
    "unique-case-export": unique_case_export,
}
