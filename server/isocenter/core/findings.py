"""What a check found: where, what was expected, and how to put it right. Never the offending value, which may be a patient's name."""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from isocenter.core.formats import FORMATS
from isocenter.core.schema import DERIVED, IN_PLACE_LISTS, lookup, pointer

Severity = Literal["breaking", "drift"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One deviation from the contract.

    `pointer` is a JSON pointer into the arguments (requests) or the body (answers), `where` the part of the HTTP message it concerns
    (path, query, header, cookie, body, status, content-type), `spec` the place in the specification it breaks. `given` describes
    the value without repeating it. `count` says how often the same rule was broken in one body; the pointer is the first place.
    """

    pointer: str
    where: str
    spec: str
    expected: str
    given: str = ""
    repair: str = ""
    kind: str = "invalid"
    severity: Severity = "breaking"
    count: int = 1

    def sentence(self) -> str:
        """The finding as one line for people and models."""
        given = f", got {self.given}" if self.given else ""
        times = f" ({self.count} places, this is the first)" if self.count > 1 else ""
        repair = f" {self.repair}" if self.repair else ""
        return f"{self.pointer or '/'} ({self.where}): expected {self.expected}{given}{times}.{repair} [{self.spec}]"

    def as_dict(self) -> dict[str, Any]:
        """The finding as JSON, empty fields left out."""
        fields = ("pointer", "where", "kind", "severity", "expected", "given", "repair", "spec", "count")
        values = {name: getattr(self, name) for name in fields}
        if self.count == 1:
            del values["count"]
        return {name: value for name, value in values.items() if value != "" or name == "pointer"}


def listed(findings: Sequence[Finding], most: int = 20) -> str:
    """The findings as lines of a list, no more than anyone reads."""
    lines = [f"- {finding.sentence()}" for finding in findings[:most]]
    return "\n".join(lines + ([f"- … and {len(findings) - most} more"] if len(findings) > most else []))


FORMATS_IN_WORDS = {
    "dicom-uid": "a DICOM UID: digits and dots, at most 64 characters, no part with a leading zero",
    "date": "a date as YYYY-MM-DD",
    "date-time": "a date and time as 2022-01-31T12:00:00Z",
    "us-date": "a real calendar day as MM-DD-YYYY",
    "slash-date": "a real calendar day as YYYY/MM/DD",
    "euro-slash-date": "a real calendar day as DD/MM/YYYY",
    "dicom-date": "a real calendar day as YYYYMMDD",
    "sha1": "a SHA-1 as 40 lower-case hexadecimal digits",
    "uri": "an absolute URI",
    "uuid": "a UUID",
}
DATE_ORDERS = {
    "us-date": "%m-%d-%Y",
    "slash-date": "%Y/%m/%d",
    "euro-slash-date": "%d/%m/%Y",
    "dicom-date": "%Y%m%d",
    "date": "%Y-%m-%d",
}
EXTRAS = frozenset({"additionalProperties", "unevaluatedProperties"})
ALTERNATIVES = frozenset({"oneOf", "anyOf"})
OPAQUE = ALTERNATIVES | {"propertyNames"}  # errors whose message and place do not say all there is to tell
MAX_ERRORS = 200  # distinct places of one severity kept per body; repeats of one rule are counted, not kept


def describe(value: Any) -> str:
    """A value in words that give nothing away: its type, and its size where that helps."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a number"
        case str():
            return "an empty string" if not value else f"a string of {_counted(len(value), 'character')}"
        case list() | tuple():
            return f"an array of {len(value)}"
        case dict():
            return f"an object with {_counted(len(value), 'property')}"
    return f"a {type(value).__name__}"


def _counted(number: int, unit: str) -> str:
    return (
        f"{number} {unit}"
        if number == 1
        else f"{number} {unit.removesuffix('y')}ies"
        if unit.endswith("y")
        else f"{number} {unit}s"
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`Did you mean X?` for the closest known name, or the empty string."""
    names = list(known)
    folded = {candidate.casefold(): candidate for candidate in names}
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return f"Did you mean {folded[close[0]]}?" if close else ""


@dataclass(frozen=True, slots=True)
class Place:
    """Turns schema positions of a compiled document into what a reader of the specification recognises.

    `spec_name` is the document's name in findings, `document` the compiled document.
    """

    spec_name: str
    document: Any

    def spec(self, path: Sequence[Any]) -> str:
        """`tcia.yaml#/paths/…` for a position; derived trees point back to what they were derived from."""
        if not path or path[0] not in DERIVED:
            return f"{self.spec_name}#{pointer(path)}"
        *above, keyword = path[1:]
        try:
            lookup(self.document, pointer(path[1:]))
        except (
            KeyError
        ):  # the keyword itself is derived: values from the known ones, closedness from nothing written down
            return f"{self.spec_name}#{pointer([*above, 'x-known-values'] if keyword == 'enum' else above)}"
        return f"{self.spec_name}#{pointer(path[1:])}"

    def names(self, path: Sequence[Any]) -> set[str]:
        """The properties that the schema at a position declares, itself or through what it is composed of."""
        return self._names(lookup(self.document, pointer(path)), frozenset())

    def _names(self, schema: Any, seen: frozenset[str]) -> set[str]:
        if not isinstance(schema, dict):
            return set()
        names = set(schema.get("properties") or ())
        ref = schema.get("$ref")
        if isinstance(ref, str) and ref not in seen:
            names |= self._names(lookup(self.document, ref), seen | {ref})
        for key in IN_PLACE_LISTS:
            for child in schema.get(key) or ():
                names |= self._names(child, seen)
        return names


def collect(
    errors: Iterable[Any], value: Any, where: Callable[[Sequence[Any]], tuple[str, str]], place: Place
) -> list[Finding]:
    """All errors of one judgement as findings, repeats of one rule folded together, additions marked as drift.

    `errors` are jsonschema-rs ValidationErrors; `where(instance_path)` names the part of the message and, for arguments that have
    their own spec location, that location.
    """
    found: dict[tuple[str, ...], Finding] = {}
    counts: Counter[tuple[str, ...]] = Counter()
    kept: Counter[Severity] = Counter()
    told: dict[tuple[Any, ...], list[tuple[str, ...]]] = {}
    for error in _telling(errors, place):
        kind: str = error.kind.name
        steps = ("*" if str(step).isdigit() else step for step in error.instance_path)
        addition = kind == "enum" and _adds(error, _at(value, error.instance_path))
        same = (kind, addition, error.message, tuple(error.schema_path), tuple(steps))
        if same in told:  # a large answer may break one rule in every row: only the first is put into words
            counts.update(told[same])
            continue
        keys: list[tuple[str, ...]] = []
        for finding in translate(error, value, where, place):
            folded = "/".join("*" if part.isdigit() else part for part in finding.pointer.split("/"))
            keys.append((folded, finding.spec, finding.kind, finding.severity))
            if keys[-1] not in found and kept[finding.severity] < MAX_ERRORS:
                found[keys[-1]] = finding
                kept[finding.severity] += 1
        counts.update(keys)
        if kind not in OPAQUE:
            told[same] = keys
    counted = [replace(finding, count=counts[key]) for key, finding in found.items()]
    return sorted(counted, key=lambda finding: finding.severity == "drift")


def _telling(errors: Iterable[Any], place: Place) -> list[Any]:
    """The errors without those that only follow from others.

    A composed object with a mistake inside counts as evaluated by nobody (JSON Schema core, section 11), so that all its properties
    look unknown; the mistake itself is in the list.
    """
    errors = list(errors)
    composed = [error for error in errors if error.kind.name == "unevaluatedProperties"]
    if not composed:
        return errors
    broken: set[tuple[Any, ...]] = set()
    for error in errors:
        path = tuple(error.instance_path)
        broken.update(path[:length] for length in range(len(path) + (error.kind.name != "unevaluatedProperties")))
    consequences = [
        error
        for error in composed
        if tuple(error.instance_path) in broken
        and set(error.kind.as_dict()["unexpected"]) <= place.names(error.schema_path[:-1])
    ]
    return [error for error in errors if not any(error is consequence for consequence in consequences)]


def translate(
    error: Any, value: Any, where: Callable[[Sequence[Any]], tuple[str, str]], place: Place
) -> Iterator[Finding]:
    """One jsonschema-rs error as findings: an alternative (`oneOf`, `anyOf`) is followed into the branch that was meant.

    Where none is nearer than the others, the finding names what tells them apart.
    """
    kind: str = error.kind.name
    if kind in ALTERNATIVES and (branch := best_branch(error.kind.context, value)):
        for inner in _telling(branch, place):
            yield from translate(inner, value, where, place)
        return
    path = list(error.instance_path)
    location, spec = where(path)
    details: dict[str, Any] = error.kind.as_dict()
    given = _at(value, path)
    schema_path = list(error.schema_path)
    finding = Finding(
        pointer=pointer(path),
        where=location,
        spec=place.spec(schema_path) if schema_path[:1] != ["x-inputs"] else spec,
        expected="a value that fits the schema",
        given=describe(given),
        kind=kind,
        severity="drift" if _adds(error, given) else "breaking",
    )
    match kind:
        case "oneOf" | "anyOf":
            below, choice = _choice(error.kind.context, path)
            expected = choice or (
                "only one of the documented forms" if [] in details["context"] else "one of the documented forms"
            )
            if len(below) > len(path):
                given = _at(value, below)
                finding = replace(finding, pointer=pointer(below), given=describe(given))
            kinds = [kind for kind in ("array", "object", "integer", "number", "boolean") if kind in expected.split()]
            yield replace(
                finding, expected=expected, repair=_type_repair(given, kinds) if isinstance(given, str) else ""
            )
        case "type":
            kinds = details["types"]
            yield replace(finding, expected=_kinds_in_words(kinds), repair=_type_repair(given, kinds))
        case "required":
            name = details["property"]
            yield replace(
                finding,
                pointer=f"{finding.pointer}{pointer([name])}",
                expected=f"{name} to be given",
                given="nothing",
                repair=f"Add {name}.",
                kind="missing",
                where=where([*path, name])[0],
                spec=where([*path, name])[1] if schema_path[:1] == ["x-inputs"] else finding.spec,
            )
        case "additionalProperties" | "unevaluatedProperties":
            known = place.names(schema_path[:-1])
            for name in [name for name in details["unexpected"] if name not in known] or details["unexpected"]:
                hint = did_you_mean(name, known)
                expected = f"only {', '.join(sorted(known))}" if 0 < len(known) <= 30 else "no such name here"
                yield replace(
                    finding,
                    pointer=f"{finding.pointer}{pointer([name])}",
                    expected=expected,
                    given="an unknown name",
                    repair=hint or "Leave it out.",
                    kind="unknown",
                )
        case "enum":
            options = [option for option in details["options"] if option is not None]
            words = [_in_words(option) for option in options]
            if isinstance(given, str) and given in [
                word for word, option in zip(words, options, strict=True) if word != option
            ]:
                hint = "Give it without quotes."
            else:
                hint = did_you_mean(given, words) if isinstance(given, str) else ""
            yield replace(finding, expected=f"one of {', '.join(words)}", repair=hint)
        case "const":
            yield replace(finding, expected=f"exactly {_in_words(details['expected_value'])}")
        case "format":
            name = details["format"]
            yield replace(
                finding,
                expected=FORMATS_IN_WORDS.get(name, f"the format {name}"),
                repair=_date_repair(given, name) or _text_repair(given, FORMATS.get(name)),
            )
        case "pattern":
            matches = _search(details["pattern"])
            yield replace(finding, expected=f"text matching {details['pattern']}", repair=_text_repair(given, matches))
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            bounds = {
                "minimum": "at least",
                "maximum": "at most",
                "exclusiveMinimum": "more than",
                "exclusiveMaximum": "less than",
            }
            yield replace(finding, expected=f"{bounds[kind]} {details['limit']}")
        case "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties":
            unit = {"Length": "character", "Items": "item", "Properties": "property"}[kind[3:]]
            bound = "at least" if kind.startswith("min") else "at most"
            yield replace(finding, expected=f"{bound} {_counted(details['limit'], unit)}")
        case "uniqueItems":
            yield replace(finding, expected="no item twice")
        case "multipleOf":
            yield replace(finding, expected=f"a multiple of {details['multiple_of']}")
        case "falseSchema":
            yield replace(finding, expected="nothing here", repair="Leave it out.", kind="unknown")
        case "propertyNames":
            yield replace(
                finding,
                pointer=f"{finding.pointer}{pointer([details['error'].instance])}",
                expected="property names of the documented form",
                given="another name",
                repair="Check the spelling of the names.",
                kind="unknown",
            )
        case _:
            yield replace(finding, expected=f"what `{kind}` demands")


def _adds(error: Any, given: Any) -> bool:
    """Whether an error is an addition: a further name, or a further value beside several of the same type."""
    if error.kind.name != "enum":
        return error.kind.name in EXTRAS
    options = error.kind.as_dict()["options"]
    return len(options) > 1 and any(type(option) is type(given) for option in options)


def best_branch(context: Sequence[Sequence[Any]], value: Any) -> Sequence[Any] | None:
    """The errors of the alternative that the value was most likely meant to be; None when none is nearer than the others.

    A branch whose discriminator (`const`, one-value `enum`) or type does not fit is not meant; of the rest the one with only
    additions, then the one with the fewest errors.
    """

    def distance(branch: Sequence[Any]) -> tuple[int, int, int]:
        wrong_kind = deep = 0
        for error in branch:
            name = error.kind.name
            depth = len(error.instance_path)
            discriminates = name == "const" or (name == "enum" and len(error.kind.as_dict()["options"]) == 1)
            if discriminates or (name == "type" and depth <= shallowest):
                wrong_kind += 1
            deep = max(deep, depth)
        breaking = sum(not _adds(error, _at(value, error.instance_path)) for error in branch)
        return wrong_kind, breaking, -deep

    branches = [branch for branch in context if branch]
    if not branches:
        return None
    shallowest = min(len(error.instance_path) for branch in branches for error in branch)
    ranked = sorted(branches, key=distance)
    if len(ranked) > 1 and distance(ranked[0])[0] > 0 and distance(ranked[0]) == distance(ranked[1]):
        return None
    return ranked[0]


def _choice(context: Sequence[Sequence[Any]], path: Sequence[Any]) -> tuple[list[Any], str]:
    """Where alternatives all look first and what they want there, in words: the values of their discriminator, or their types."""
    wanted: dict[tuple[Any, ...], dict[int, list[str]]] = {}
    for index, branch in enumerate(context):
        for error in branch:
            details = error.kind.as_dict()
            match error.kind.name:
                case "const":
                    words = [_in_words(details["expected_value"])]
                case "enum":
                    words = [_in_words(option) for option in details["options"]]
                case "type":
                    words = [_kinds_in_words([kind]) for kind in details["types"]]
                case _:
                    continue
            wanted.setdefault(tuple(error.instance_path), {}).setdefault(index, []).extend(words)
    shared = [below for below, branches in wanted.items() if len(branches) == len(context)]
    if not shared:
        return list(path), ""
    below = min(shared, key=len)
    return list(below), " or ".join(dict.fromkeys(word for words in wanted[below].values() for word in words))


def _in_words(value: Any) -> str:
    return value if value and isinstance(value, str) else json.dumps(value)


def _kinds_in_words(kinds: Sequence[str]) -> str:
    return " or ".join(f"{'an' if kind[0] in 'aeio' else 'a'} {kind}" for kind in kinds)


def _at(value: Any, path: Sequence[Any]) -> Any:
    for part in path:
        if isinstance(value, dict) and part not in value:  # the judge gives a property called 7, or 07, as a number
            part = next(name for name in value if name.lstrip("+").isdecimal() and int(name) == part)
        value = value[part]
    return value


def _type_repair(given: Any, kinds: Sequence[str]) -> str:
    if isinstance(given, str):
        if {"integer", "number"} & set(kinds) and given.strip().lstrip("-").replace(".", "", 1).isdigit():
            return "Give the number without quotes."
        if "boolean" in kinds and given.lower() in ("true", "false"):
            return "Give true or false without quotes."
        for kind, opening in (("array", "["), ("object", "{")):
            if kind in kinds and given.lstrip().startswith(opening):
                return f"Give the {kind} itself, not as text."
    if "array" in kinds and given is not None:
        return "Give a list, also for a single value."
    if isinstance(given, (int, float)) and "string" in kinds:
        return "Put the value in quotes."
    if isinstance(given, list) and len(given) == 1:
        return "Give the value itself, not a list."
    return "Leave it out instead of giving null." if given is None else ""


# Slips that leave a text one step from the right form: what undoes each, and how a reader is told to.
SLIPS: tuple[tuple[Callable[[str], str], str], ...] = (
    (str.strip, "Leave out the blanks around it."),
    (lambda text: "".join(text.split()), "Leave out all blanks."),
    (lambda text: text.strip("'\"`"), "Leave out the quotes around it."),
    (lambda text: text.strip("."), "Leave out the dots at its ends."),
    (lambda text: text.removeprefix("urn:oid:"), "Leave out urn:oid: before it."),
    (lambda text: text.replace(",", "."), "Write dots instead of commas."),
    (lambda text: text.replace("-", "."), "Write dots instead of hyphens."),
    (lambda text: text.replace("..", "."), "Write one dot instead of two."),
    (str.lower, "Write it in lower case."),
    (str.upper, "Write it in capitals."),
)


def _search(pattern: str) -> Callable[[str], bool] | None:
    """Whether a text matches; None for a pattern that only the judge's engine knows."""
    try:
        compiled = re.compile(pattern)
    except re.error:
        return None
    return lambda text: compiled.search(text) is not None


def _text_repair(given: Any, fits: Callable[[str], bool] | None) -> str:
    """The one step that gives a text the demanded form; only the step is told, never the text. Long texts are not tried."""
    if isinstance(given, str) and given.startswith("{") and given.endswith("}"):
        return "Give the object itself, not as text."
    if fits and isinstance(given, str) and len(given) <= 200:
        for undo, words in SLIPS:
            if undo(given) != given and fits(undo(given)):
                return words
    return ""


def _date_repair(given: Any, name: str) -> str:
    """How the same day reads in the demanded order, when the given text is a day at all; only its shape is told."""
    import datetime

    if name not in DATE_ORDERS or not isinstance(given, str):
        return ""
    for order in ("%Y-%m-%d", "%m/%d/%Y", "%d.%m.%Y", "%Y/%m/%d", "%Y%m%d", "%m-%d-%Y"):
        if order == DATE_ORDERS[name]:
            continue
        try:
            datetime.datetime.strptime(given[:10], order)
        except ValueError:
            continue
        letters = {"%Y": "YYYY", "%m": "MM", "%d": "DD"}
        words = [DATE_ORDERS[name], order]
        for code, word in letters.items():
            words = [text.replace(code, word) for text in words]
        return f"It looks like {words[1]}; write it as {words[0]}."
    return ""
