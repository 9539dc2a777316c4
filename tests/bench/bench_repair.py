"""Whether an error alone is enough to put a call right: 200 plausible wrong calls, repaired by a program that reads nothing else.

`python tests/bench/bench_repair.py`, about 2 seconds. The wrong calls are made from the examples of our contracts, always the same.
The program sees the wrong call and the text of the error; it knows no specification and no schema.
"""

from __future__ import annotations

import copy
import datetime
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import isocenter_clients
from isocenter.agent.dispatch import repaired
from isocenter.codegen.examples import calls
from isocenter.core import InvalidRequest
from isocenter.core.schema import lookup, resolve
from isocenter.core.tool import Tool, curated

Arguments = dict[str, Any]
WANTED = 200
ROUNDS = 3  # an error may only show once another is repaired


@dataclass(frozen=True)
class WrongCall:
    """A tool, arguments a model might give, and what is wrong with them."""

    tool: Tool
    slip: str
    arguments: Arguments


def error_of(tool: Tool, arguments: Arguments) -> str:
    """The error of a call as a model reads it; empty when the call would be sent."""
    given = repaired(tool, arguments)
    findings = tool.operation.check(given)
    return f"invalid_request: {InvalidRequest(tool.operation, findings)}" if findings else ""


# -- wrong calls -----------------------------------------------------------------------------------------------------------


def _kinds(tool: Tool, name: str) -> tuple[dict[str, Any], list[str]]:
    document = tool.operation.contract.document
    schema, _ = resolve(document, lookup(document, tool.operation.arguments[name].schema), "")
    kinds = schema.get("type", []) if isinstance(schema, dict) else []
    return schema if isinstance(schema, dict) else {}, [kinds] if isinstance(kinds, str) else kinds


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    yield at, value
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in pairs:
        yield from _places(child, (*at, key))


def _put(arguments: Arguments, at: Sequence[Any], change: Callable[[Any, Any], None]) -> Arguments:
    """A copy in which `change(container, key)` was done at a place."""
    result = copy.deepcopy(arguments)
    holder: Any = result
    for key in at[:-1]:
        holder = holder[key]
    change(holder, at[-1])
    return result


def _set(arguments: Arguments, at: Sequence[Any], value: Any) -> Arguments:
    return _put(arguments, at, lambda holder, key: holder.__setitem__(key, value))


def _misspelt(name: str, dice: random.Random) -> str:
    at = dice.randrange(1, len(name) - 1)
    return dice.choice([name[:at] + name[at + 1 :], name[:at] + name[at] + name[at:], name.swapcase()])


def slips(tool: Tool, arguments: Arguments, dice: random.Random) -> Iterator[tuple[str, Arguments]]:
    """Slips a model might make in a good call; some do no harm and are sorted out by the caller."""
    for name, argument in tool.operation.arguments.items():
        if name not in arguments or isinstance(arguments[name], bytes) or argument.file:
            continue
        value, (schema, kinds) = arguments[name], _kinds(tool, name)
        others = {key: item for key, item in arguments.items() if key != name}
        if len(name) > 3:
            yield "misspelt name", {_misspelt(name, dice): value, **others}
            words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
            if words != name:
                yield "name in snake case", {words: value, **others}
        if argument.required and not argument.secret:
            yield "missing argument", others
            yield "null for a required argument", {**others, name: None}
        if "enum" in schema and isinstance(value, str) and value.swapcase() != value:
            yield "case of an enum", {**others, name: value.swapcase()}
        if isinstance(value, str) and re.fullmatch(r"[0-9]+(\.[0-9]+)+", value):
            for slip in (f"{value}.", f" {value}", value.replace(".", ",", 1), f"urn:oid:{value}", f'"{value}"'):
                yield "typo in a UID", {**others, name: slip}
        for wrong in _other_dates(value, schema) if isinstance(value, str) else ():
            yield "date in another form", {**others, name: wrong}
        if isinstance(value, str) and "array" not in kinds:
            yield "list of one for a text", {**others, name: [value]}
        if isinstance(value, list) and value and not isinstance(value[0], (dict, list)):
            yield "one value for a list", {**others, name: value[0]}
        if isinstance(value, dict) and value and not isinstance(schema.get("additionalProperties"), dict):
            yield "nesting left out", {**others, **value}
    yield "unknown argument", {**arguments, "verbose": True}
    body = {
        name: arguments[name]
        for name, item in tool.operation.arguments.items()
        if item.where == "body" and name in arguments
    }
    if tool.operation.body_flat and body and not any(tool.operation.arguments[name].file for name in body):
        rest = {name: value for name, value in arguments.items() if name not in body}
        yield "body wrapped up", {**rest, "body": body}
    for at, value in list(_places(arguments)):
        if not at or isinstance(value, bytes):
            continue
        if isinstance(value, bool):
            yield "boolean in quotes", _set(arguments, at, str(value).lower())
        elif isinstance(value, (int, float)):
            yield "number in quotes", _set(arguments, at, str(value))
        elif isinstance(value, (list, dict)) and len(at) > 1:
            yield "list or object as text", _set(arguments, at, json.dumps(value))
        elif isinstance(value, str) and value.isdecimal() and len(value) < 16:
            yield "text without quotes", _set(arguments, at, int(value))
        if len(at) > 1 and isinstance(at[-1], str) and len(at[-1]) > 3:
            key, other = at[-1], _misspelt(at[-1], dice)
            yield "misspelt name inside", _put(arguments, at, partial(_rename, other))
            if not re.search("secret|password|token", key):
                yield "missing name inside", _put(arguments, at, _remove)


def _rename(other: str, holder: Any, key: Any) -> None:
    holder[other] = holder.pop(key)


def _remove(holder: Any, key: Any) -> None:
    del holder[key]


FORMS = {
    "us-date": "%m-%d-%Y",
    "slash-date": "%Y/%m/%d",
    "euro-slash-date": "%d/%m/%Y",
    "dicom-date": "%Y%m%d",
    "date": "%Y-%m-%d",
}


def _other_dates(value: str, schema: dict[str, Any]) -> list[str]:
    form = FORMS.get(str(schema.get("format")))
    if not form:
        return []
    try:
        day = datetime.datetime.strptime(value, form)
    except ValueError:
        return []
    return [
        day.strftime(other) for other in ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%m/%d/%Y", "%d.%m.%Y") if other != form
    ]


def wrong_calls(count: int = WANTED) -> list[WrongCall]:
    """`count` calls that are refused, the kinds of slips and the tools as evenly mixed as they come."""
    dice = random.Random(20260728)
    by_slip: dict[str, list[WrongCall]] = {}
    for api in isocenter_clients.APIS:
        for tool in curated(isocenter_clients.contract(api), isocenter_clients.tools(api), api):
            for _, arguments in calls(tool.operation):
                if error_of(tool, arguments):
                    continue
                for slip, wrong in slips(tool, arguments, dice):
                    if error_of(tool, wrong):
                        by_slip.setdefault(slip, []).append(WrongCall(tool, slip, wrong))
    for found in by_slip.values():
        dice.shuffle(found)
    chosen: list[WrongCall] = []
    while len(chosen) < count:
        for found in by_slip.values():
            if found and len(chosen) < count:
                chosen.append(found.pop())
    return chosen


# -- the reader --------------------------------------------------------------------------------------------------------------

LINE = re.compile(
    r"^- (?P<at>\S*) \([^)]*\): expected (?P<expected>.*), got (?P<got>[^.]*)\. ?(?P<repair>.*?) ?\[\S+\]$"
)
SHORT = re.compile(r"^- (?P<at>\S*) \([^)]*\): expected (?P<expected>[^.]*)(?P<got>)\. ?(?P<repair>.*?) ?\[\S+\]$")
RULES: tuple[tuple[str, str], ...] = (
    (r"Did you mean (\S+)\?", "name"),
    (r"(?:Add|Give) \S+, in the form of (.*)\.", "example"),
    (
        r"Give (?:the number|it) without quotes\.|Give true or false without quotes\.|Give the (?:array|object) itself, not as text\.",
        "parse",
    ),
    (r"Give a list, also for a single value\.", "list"),
    (r"Give the value itself, not a list\.", "single"),
    (r"Put the value in quotes\.", "quote"),
    (r"It looks like (\S+); write it as (\S+)\.", "date"),
    (r"Give what is in it as arguments of their own\.", "unwrap"),
    (r"Put it into (\S+)\.", "into"),
    (r"Leave out (?:the blanks|the quotes|the dots|all blanks|urn:oid).*|Write .*", "text"),
    (r".*[Ll]eave it out.*", "drop"),
)
TEXT: dict[str, Callable[[str], str]] = {
    "Leave out the blanks around it.": str.strip,
    "Leave out all blanks.": lambda text: "".join(text.split()),
    "Leave out the quotes around it.": lambda text: text.strip("'\"`"),
    "Leave out the dots at its ends.": lambda text: text.strip("."),
    "Leave out urn:oid: before it.": lambda text: text.removeprefix("urn:oid:"),
    "Write dots instead of commas.": lambda text: text.replace(",", "."),
    "Write dots instead of hyphens.": lambda text: text.replace("-", "."),
    "Write one dot instead of two.": lambda text: text.replace("..", "."),
    "Write it in lower case.": str.lower,
    "Write it in capitals.": str.upper,
}
CODES = {"YYYY": "%Y", "MM": "%m", "DD": "%d"}


def repair(arguments: Arguments, error: str) -> Arguments:
    """The call with everything done that the error tells to do."""
    result = copy.deepcopy(arguments)
    for line in error.splitlines():
        if match := LINE.match(line) or SHORT.match(line):
            _follow(result, match)
    return result


def _follow(arguments: Arguments, line: re.Match[str]) -> None:
    parts: list[Any] = [part.replace("~1", "/").replace("~0", "~") for part in line["at"].split("/")[1:]]
    holder: Any = arguments
    for part in parts[:-1]:
        if isinstance(holder, str):
            return  # a text where an object should be: the next round sees inside
        holder = holder[int(part) if isinstance(holder, list) else part]
    key = int(parts[-1]) if isinstance(holder, list) else parts[-1]
    told, action = next(
        ((found, what) for rule, what in RULES if (found := re.fullmatch(rule, line["repair"]))), (None, "")
    )
    if told is None:
        return
    given = line["got"] or ""
    match action:
        case "name" if given == "an unknown name":
            holder[told[1]] = holder.pop(key)
        case "name":
            holder[key] = told[1]
        case "example":
            if isinstance(holder, dict):
                holder.setdefault(key, None)
            if holder[key] in (None, {}):
                holder[key] = json.loads(told[1])
        case "parse" if isinstance(holder[key], str):
            holder[key] = json.loads(holder[key].lower() if "true" in told[0] else holder[key])
        case "list":
            holder[key] = [holder[key]]
        case "single":
            holder[key] = holder[key][0]
        case "quote":
            holder[key] = json.dumps(holder[key])
        case "date":
            forms = [re.sub("YYYY|MM|DD", lambda code: CODES[code[0]], form) for form in told.groups()]
            holder[key] = datetime.datetime.strptime(holder[key][:10], forms[0]).strftime(forms[1])
        case "unwrap":
            arguments.update({**arguments.pop(parts[0]), **arguments})
        case "into":
            arguments.setdefault(told[1], {})[key] = holder.pop(key)
        case "text":
            holder[key] = TEXT[told[0]](holder[key])
        case "drop":
            holder.pop(key)


def outcome(call: WrongCall) -> str:
    """Empty when the repaired call would be sent, otherwise the last error."""
    arguments, error = call.arguments, error_of(call.tool, call.arguments)
    for _ in range(ROUNDS):
        arguments = repair(arguments, error)
        error = error_of(call.tool, arguments)
        if not error:
            return ""
    return error


def main() -> None:
    """Print the success rate, each kind of slip, and what could not be repaired."""
    made = wrong_calls()
    failed = [(call, error) for call in made if (error := outcome(call))]
    tried, lost = Counter(call.slip for call in made), Counter(call.slip for call, _ in failed)
    for slip, number in tried.most_common():
        print(f"{slip:>30}  {number - lost[slip]:3} of {number}")
    for call, error in failed:
        print(f"\n{call.slip}: {call.tool.name}\n{error}", file=sys.stderr)
    print(
        f"repaired from the error alone: {len(made) - len(failed)} of {len(made)}, {len({c.tool.name for c in made})} tools"
    )


if __name__ == "__main__":
    main()
