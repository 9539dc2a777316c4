"""CIRCUS's search language: filters, sorting and paging over documents.

A filter is MongoDB's extended JSON, of which CIRCUS admits a part (reference, section 4). It is compiled here to a
predicate over a parsed document rather than to SQL: values inside arrays, comparison by type, regular expressions and
sorting by any path follow MongoDB's rules, which SQLite's JSON functions do not have. The caller narrows the documents
by project, domain or owner in SQL first. Regular expressions run on an engine that cannot go exponential; those that
need look-around or back-references run with a limit on their steps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, TypeVar

import jsonschema_rs

from isocenter.sandbox.circus.http import Accident, Refusal, parse_json

Json = Any
Predicate = Callable[[Mapping[str, Json]], bool]
Found = TypeVar("Found", bound=Mapping[str, Json])

DEFAULT_LIMIT = 20
MAXIMUM_LIMIT = 200
MAXIMUM_SORT_KEYS = 5
BACKTRACK_LIMIT = 20_000
REGEX_BYTES = 1 << 20

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATE = re.compile(
    r"(\d{4})(?:[-/](\d\d)(?:[-/](\d\d))?)?"
    r"(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6})\d*)?)?(?:Z|([+-])(\d\d):?(\d\d))?)?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Regex:
    """A regular expression in a filter; `options` are MongoDB's letters (i, m, s, x)."""

    pattern: str
    options: str


class Opaque:
    """A value of an extended JSON type that no filter may hold: ObjectId, binary, code and others."""


_OPAQUE = {"$binary", "$uuid", "$symbol", "$numberDecimal", "$minKey", "$maxKey", "$timestamp", "$code", "$dbPointer"}


# --- reading a filter -------------------------------------------------------------------------------------------------


def parse_filter(text: str) -> Json:
    """Extended JSON to Python: dates become datetime, `$regex` becomes `Regex`. Raises ValueError."""
    try:
        return _revive(parse_json(text))
    except (AttributeError, TypeError, OverflowError) as error:
        raise ValueError("not extended JSON") from error


def read_filter(query: Mapping[str, list[str]], keys: Iterable[str]) -> dict[str, Json]:
    """The filter of a query string; everything when it is absent or empty, the first when it is repeated.

    Raises Refusal 400.
    """
    given = query.get("filter", [""])
    if given == [""]:
        return {}
    try:
        wanted = parse_filter(given[0])
    except ValueError:
        raise Refusal(400, "Invalid JSON was passed as a filter string") from None
    if not check_filter(wanted, keys):
        raise Refusal(400, "Bad filter.")
    found: dict[str, Json] = wanted
    return found


def _revive(value: Json) -> Json:
    if isinstance(value, list):
        return [_revive(item) for item in value]
    if not isinstance(value, dict):
        return value
    value = {key: _revive(item) for key, item in value.items()}
    if any("\0" in key for key in value):
        raise ValueError("a key holds a null character")
    if value.get("$undefined"):
        return None
    for key in value:
        if value[key] is None or not key.startswith("$"):
            continue
        if key == "$oid":
            if not re.fullmatch(r"[0-9a-fA-F]{24}", str(value[key])):
                raise ValueError("not an ObjectId")
            return Opaque()
        if key in {"$numberInt", "$numberLong"}:
            return int(value[key])
        if key == "$numberDouble":
            return float(value[key])
        if key == "$regex":
            return value if isinstance(value[key], Regex) else _regex(value[key], value.get("$options"))
        if key == "$regularExpression":
            return _regex(value[key].get("pattern"), value[key].get("options"))
        if key in _OPAQUE:
            return Opaque()
    return _date(value["$date"]) if value.get("$date") is not None else value


def _regex(pattern: Json, options: Json) -> Regex:
    if not isinstance(pattern, str) or "\0" in pattern:
        raise ValueError("not a regular expression")
    letters = "".join(sorted(set(options))) if isinstance(options, str) else ""
    if not set(letters) <= set("imsxlu"):
        raise ValueError("unknown option of a regular expression")
    return Regex(pattern, letters)


def _date(value: Json) -> datetime:
    """A date as JavaScript reads it; what it cannot read is stored as the epoch. Without an offset it is UTC."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return EPOCH + timedelta(milliseconds=value)
        except OverflowError:
            return EPOCH
    found = _DATE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return EPOCH
    year, month, day, hour, minute, second, fraction, sign, off_hours, off_minutes = found.groups()
    try:
        moment = datetime(
            int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0),
            int((fraction or "0").ljust(6, "0")), UTC,
        )  # fmt: skip
        offset = timedelta(hours=int(off_hours or 0), minutes=int(off_minutes or 0))
        return moment + offset if sign == "-" else moment - offset
    except (ValueError, OverflowError):
        return EPOCH


def is_scalar(value: Json) -> bool:
    """Whether a value may be compared with in a filter."""
    return isinstance(value, (str, int, float, bool, datetime, Regex))


def check_filter(filter_: Json, keys: Iterable[str]) -> bool:
    """Whether a parsed filter stays within CIRCUS's language and uses only these keys."""
    allowed = frozenset(keys)
    operators = {"$gt", "$gte", "$lt", "$lte", "$ne"}

    def value_ok(value: Json) -> bool:
        if is_scalar(value):
            return True
        return isinstance(value, dict) and all(
            isinstance(operand, list) if name in {"$in", "$all"} else name in operators and is_scalar(operand)
            for name, operand in value.items()
        )

    def ok(part: Json) -> bool:
        if not isinstance(part, dict):
            return False
        return all(
            isinstance(value, list) and all(map(ok, value))
            if key in {"$and", "$or"}
            else key in allowed and value_ok(value)
            for key, value in part.items()
        )

    return ok(filter_)


def mentions_patient(filter_: Mapping[str, Json]) -> bool:
    """Whether a checked filter looks at patient information, at any depth."""
    return any(
        any(map(mentions_patient, value)) if key in {"$and", "$or"} else key.startswith("patientInfo")
        for key, value in filter_.items()
    )


# --- matching ---------------------------------------------------------------------------------------------------------


def compile_filter(filter_: Mapping[str, Json]) -> Predicate:
    """A predicate for a checked filter. Raises Refusal 400 where the database refuses the query."""
    parts = [_part(key, value) for key, value in filter_.items()]
    return lambda document: all(part(document) for part in parts)


def _part(key: str, value: Json) -> Predicate:
    if key in {"$and", "$or"}:
        if not value:
            raise Refusal(400, "Invalid query")
        inner = [compile_filter(item) for item in value]
        quantify = all if key == "$and" else any
        return lambda document: quantify(part(document) for part in inner)
    path = key.split(".")
    if isinstance(value, dict) and value:
        tests = [_operator(path, name, operand) for name, operand in value.items()]
        return lambda document: all(test(document) for test in tests)
    equal = _equal(value)
    return lambda document: any(map(equal, values(document, path)))


def _operator(path: list[str], name: str, operand: Json) -> Predicate:
    if name in {"$in", "$all"}:
        if any(isinstance(item, dict) and next(iter(item), "").startswith("$") for item in operand):
            raise Refusal(400, "Invalid query")
        choices = [_equal(item) for item in operand]
        if name == "$in":
            return lambda document: any(choice(value) for value in values(document, path) for choice in choices)
        return lambda document: bool(choices) and all(any(map(choice, values(document, path))) for choice in choices)
    if isinstance(operand, Regex):
        raise Refusal(400, "Invalid query")
    if name == "$ne":
        equal = _equal(operand)
        return lambda document: not any(map(equal, values(document, path)))
    kind = kind_of(operand)
    compare: dict[str, Callable[[Json], bool]] = {
        "$gt": lambda value: value > operand,
        "$gte": lambda value: value >= operand,
        "$lt": lambda value: value < operand,
        "$lte": lambda value: value <= operand,
    }
    holds = compare[name]
    return lambda document: any(kind_of(value) == kind and holds(value) for value in values(document, path))


def _equal(operand: Json) -> Callable[[Json], bool]:
    if isinstance(operand, Regex):
        matches = _search(operand)
        return lambda value: isinstance(value, str) and matches(value)
    kind = kind_of(operand)
    return lambda value: kind_of(value) == kind and bool(value == operand)


@lru_cache(maxsize=64)
def _search(regex: Regex) -> Callable[[str], bool]:
    """The search for a regular expression, in linear time where its syntax allows it. Raises Accident."""
    flags = "".join(letter for letter in regex.options if letter in "imsx")
    schema = {"pattern": f"(?{flags}){regex.pattern}" if flags else regex.pattern}
    engines: tuple[jsonschema_rs.RegexOptions | jsonschema_rs.FancyRegexOptions, ...] = (
        jsonschema_rs.RegexOptions(size_limit=REGEX_BYTES),
        jsonschema_rs.FancyRegexOptions(backtrack_limit=BACKTRACK_LIMIT, size_limit=REGEX_BYTES),
    )
    for engine in engines:
        try:
            return jsonschema_rs.validator_for(schema, pattern_options=engine).is_valid
        except (jsonschema_rs.ValidationError, ValueError):
            continue
    raise Accident(400, "Invalid regular expression.")


def values(document: Json, path: list[str]) -> Iterator[Json]:
    """What a path reaches, as MongoDB sees it: an array counts as its members and as itself, nothing as None."""
    found = False
    for value in _reach(document, path):
        found = True
        if isinstance(value, list):
            yield from value
        yield value
    if not found:
        yield None


def _reach(node: Json, path: list[str]) -> Iterator[Json]:
    if not path:
        yield node
    elif isinstance(node, list):
        for item in node:
            if isinstance(item, dict):
                yield from _reach(item, path)
        if path[0].isascii() and path[0].isdigit() and int(path[0]) < len(node):
            yield from _reach(node[int(path[0])], path[1:])
    elif isinstance(node, Mapping) and path[0] in node:
        yield from _reach(node[path[0]], path[1:])


_ORDER = {"empty": 0, "null": 1, "number": 2, "string": 3, "object": 4, "array": 5, "bool": 6, "date": 7, "other": 8}


def kind_of(value: Json) -> str:
    """The BSON type of a value; only values of one type compare."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    for kind, type_ in (("string", str), ("date", datetime), ("array", list), ("object", Mapping)):
        if isinstance(value, type_):
            return kind
    return "other"


def _sort_key(document: Mapping[str, Json], path: list[str], direction: Literal[1, -1]) -> tuple[int, Json]:
    keys: list[tuple[int, Json]] = []
    for value in _reach(document, path):
        members = value if isinstance(value, list) else [value]
        keys += [(_ORDER["empty"], 0)] if value == [] else [_rank(member) for member in members]
    keys = keys or [(_ORDER["null"], 0)]
    return min(keys) if direction == 1 else max(keys)


def _rank(value: Json) -> tuple[int, Json]:
    """A key that sorts values as MongoDB does: by type, then within it; objects by their fields in order."""
    kind = kind_of(value)
    if kind == "object":
        return _ORDER[kind], tuple((_rank(item)[0], name, _rank(item)[1]) for name, item in value.items())
    if kind == "array":
        return _ORDER[kind], tuple(map(_rank, value))
    return _ORDER[kind], 0 if kind in {"null", "other"} else value


# --- sorting and paging -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Page:
    """How a result is sorted and cut: `limit` None is everything, `number` None is a page that was no number."""

    sort: dict[str, Literal[1, -1]]
    limit: int | None
    skip: int
    number: int | None
    broken: str | None
    """What makes the database fail where the real server does not look, or None."""


def parse_int(text: str) -> int | None:
    """JavaScript's parseInt with base 10: the digits at the start, or None."""
    found = re.match(r"\s*([+-]?[0-9]+)", text)
    return int(found[1][:400]) if found else None


def read_page(
    query: Mapping[str, list[str]],
    default_sort: dict[str, Literal[1, -1]],
    *,
    strict: bool = False,
    unlimited: bool = False,
) -> Page:
    """Read `sort`, `limit` and `page` of a query. Raises Refusal.

    Where the real server is careless, `strict` refuses: limit 0 or no number (which means everything), negative
    numbers, pages that are no number. `unlimited` lets the parameter of that name lift the limit.
    """

    def text(name: str) -> str | None:
        return query[name][0] if name in query else None

    sort = default_sort
    if query.get("sort", [""]) != [""]:
        try:
            sort = parse_json(text("sort") or "")
        except ValueError:
            raise Refusal(400, "Bad sort parameter. Invalid JSON.") from None
        if not isinstance(sort, dict):
            raise Refusal(400, "Bad sort parameter. Non-object passed.")
        if len(sort) > MAXIMUM_SORT_KEYS:
            raise Refusal(400, "Bad sort parameter. Too many sort keys.")
        if any(isinstance(way, bool) or way not in (1, -1) for way in sort.values()):
            raise Refusal(400, "Bad sort parameter. Invalid key/value pair.")
    stated = text("limit")
    limit = 9999 if unlimited and "unlimited" in query else parse_int("20" if stated is None else stated)
    if limit is not None and limit > MAXIMUM_LIMIT and not unlimited:
        raise Refusal(400, "You cannot query more than 200 items at a time.")
    number = 1 if query.get("page", [""]) == [""] else parse_int(text("page") or "")
    skip = 0 if limit is None or number is None else limit * (number - 1)
    broken = None
    if any(part == "" or part.startswith("$") for key in sort for part in key.split(".")):
        broken = "Bad sort parameter. Invalid key/value pair."
    elif limit is not None and limit < 0:
        broken = "The limit must be a positive number."
    elif skip < 0 or skip >= 2**63:
        broken = "The page must be a positive number."
    if strict and (limit is None or limit <= 0):
        raise Refusal(400, "The limit must be a positive number.")
    if strict and (number is None or number <= 0):
        raise Refusal(400, "The page must be a positive number.")
    return Page(sort, limit or None, skip, number, broken)


def search(documents: Iterable[Found], predicate: Predicate, page: Page) -> tuple[list[Found], int]:
    """The documents of one page and how many match in all. Ties keep the order in which the documents came."""
    found = [document for document in documents if predicate(document)]
    if page.broken is not None:
        raise Accident(400, page.broken)
    for key, direction in reversed(page.sort.items()):
        path = key.split(".")
        found.sort(key=lambda document: _sort_key(document, path, direction), reverse=direction == -1)
    return found[page.skip :][: page.limit], len(found)
