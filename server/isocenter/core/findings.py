"""What a check found: where, what was expected, and how to put it right. Never the offending value, which may be a patient's name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from isocenter.core.schema import pointer

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
ADDITIONS = frozenset({"additionalProperties", "unevaluatedProperties", "enum"})
ALTERNATIVES = frozenset({"oneOf", "anyOf"})
MAX_ERRORS = 200  # distinct places kept per body; repeats of one rule are counted, not kept


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
            return "an empty string" if not value else f"a string of {len(value)} characters"
        case list() | tuple():
            return f"an array of {len(value)}"
        case dict():
            return f"an object with {len(value)} properties"
    return f"a {type(value).__name__}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`Did you mean X?` for the closest known name, or the empty string."""
    names = list(known)
    folded = {candidate.casefold(): candidate for candidate in names}
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return f"Did you mean {folded[close[0]]}?" if close else ""


@dataclass(frozen=True, slots=True)
class Place:
    """Turns schema positions of a compiled document into what a reader of the specification recognises.

    `spec_name` is the document's name in findings, `schema_at` looks a position up in the compiled document, `base` is the position
    of the schema that judges: errors that crossed no reference are told relative to it.
    """

    spec_name: str
    schema_at: Callable[[Sequence[Any]], Any]
    base: tuple[Any, ...] = ()

    def absolute(self, error: Any) -> list[Any]:
        """The position of the broken keyword, from the root of the compiled document."""
        path = list(error.schema_path)
        return path if "$ref" in error.evaluation_path else [*self.base, *path]

    def spec(self, path: Sequence[Any]) -> str:
        """`tcia.yaml#/paths/…` for a position; derived trees point back to what they were derived from."""
        kept = path[1:] if path and path[0] in ("x-closed", "x-part") else path
        return f"{self.spec_name}#{pointer(kept)}"


def collect(
    errors: Iterable[Any], value: Any, where: Callable[[Sequence[Any]], tuple[str, str]], place: Place
) -> list[Finding]:
    """All errors of one judgement as findings, repeats of one rule folded together, additions marked as drift.

    `errors` are jsonschema-rs ValidationErrors; `where(instance_path)` names the part of the message and, for arguments that have
    their own spec location, that location.
    """
    found: dict[tuple[str, str, str], Finding] = {}
    for error in errors:
        for finding in translate(error, value, where, place):
            folded = "/".join("*" if part.isdigit() else part for part in finding.pointer.split("/"))
            key = (folded, finding.spec, finding.kind)
            if key in found:
                found[key] = replace(found[key], count=found[key].count + 1)
            elif len(found) < MAX_ERRORS:
                found[key] = finding
    return sorted(found.values(), key=lambda finding: finding.severity == "drift")


def translate(
    error: Any, value: Any, where: Callable[[Sequence[Any]], tuple[str, str]], place: Place
) -> Iterator[Finding]:
    """One jsonschema-rs error as findings: an alternative (`oneOf`, `anyOf`) is followed into the branch that was meant."""
    kind: str = error.kind.name
    if kind in ALTERNATIVES and (branch := best_branch(error.kind.context, value)):
        for inner in branch:
            yield from translate(inner, value, where, place)
        return
    path = list(error.instance_path)
    location, spec = where(path)
    details: dict[str, Any] = error.kind.as_dict()
    given = _at(value, path)
    schema_path = place.absolute(error)
    finding = Finding(
        pointer=pointer(path),
        where=location,
        spec=place.spec(schema_path) if schema_path[:1] != ["x-inputs"] else spec,
        expected="a value that fits the schema",
        given=describe(given),
        kind=kind,
        severity="drift" if kind in ADDITIONS else "breaking",
    )
    match kind:
        case "type":
            kinds = details["types"]
            expected = " or ".join(f"{'an' if kind[0] in 'aeio' else 'a'} {kind}" for kind in kinds)
            yield replace(finding, expected=expected, repair=_type_repair(given, kinds))
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
            known = _declared(place.schema_at(schema_path[:-1]))
            for name in details["unexpected"]:
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
            options = [str(option) for option in details["options"] if option is not None]
            hint = did_you_mean(given, options) if isinstance(given, str) else ""
            yield replace(finding, expected=f"one of {', '.join(options)}", repair=hint)
        case "const":
            yield replace(finding, expected=f"exactly {details.get('expected_value')!r}")
        case "format":
            name = details["format"]
            yield replace(
                finding, expected=FORMATS_IN_WORDS.get(name, f"the format {name}"), repair=_date_repair(given, name)
            )
        case "pattern":
            yield replace(finding, expected=f"text matching {details['pattern']}")
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            words = {
                "minimum": "at least",
                "maximum": "at most",
                "exclusiveMinimum": "more than",
                "exclusiveMaximum": "less than",
            }
            yield replace(finding, expected=f"{words[kind]} {details['limit']}")
        case "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties":
            words = {"Length": "characters", "Items": "items", "Properties": "properties"}
            bound = "at least" if kind.startswith("min") else "at most"
            yield replace(finding, expected=f"{bound} {details['limit']} {words[kind[3:]]}")
        case "uniqueItems":
            yield replace(finding, expected="no item twice")
        case "multipleOf":
            yield replace(finding, expected=f"a multiple of {details['multiple_of']}")
        case "falseSchema":
            yield replace(finding, expected="nothing here", repair="Leave it out.", kind="unknown")
        case "propertyNames":
            yield replace(
                finding,
                expected="property names of the documented form",
                given="another name",
                repair="Check the spelling of the names.",
                kind="unknown",
            )
        case _:
            yield replace(finding, expected=f"what `{kind}` demands")


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
        breaking = sum(error.kind.name not in ADDITIONS for error in branch)
        return wrong_kind, breaking, -deep

    branches = [branch for branch in context if branch]
    if not branches:
        return None
    shallowest = min(len(error.instance_path) for branch in branches for error in branch)
    ranked = sorted(branches, key=distance)
    if len(ranked) > 1 and distance(ranked[0])[0] > 0 and distance(ranked[0]) == distance(ranked[1]):
        return None
    return ranked[0]


def _at(value: Any, path: Sequence[Any]) -> Any:
    for part in path:
        value = value[part]
    return value


def _declared(schema: Any) -> set[str]:
    if not isinstance(schema, dict):
        return set()
    names = set(schema.get("properties") or ())
    for key in ("allOf", "anyOf", "oneOf"):
        for child in schema.get(key) or ():
            names |= _declared(child)
    return names


def _type_repair(given: Any, kinds: Sequence[str]) -> str:
    if isinstance(given, str):
        if {"integer", "number"} & set(kinds) and given.strip().lstrip("-").replace(".", "", 1).isdigit():
            return "Give the number without quotes."
        if "boolean" in kinds and given.lower() in ("true", "false"):
            return "Give true or false without quotes."
        if "array" in kinds:
            return "Give a list, also for a single value."
    if isinstance(given, (int, float)) and "string" in kinds:
        return "Put the value in quotes."
    return "Leave it out instead of giving null." if given is None else ""


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
