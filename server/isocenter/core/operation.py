"""One operation of a contract: checks arguments, builds the request, reads the answer. No I/O; the client sends."""

from __future__ import annotations

import codecs
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import msgspec

from isocenter.core import wire
from isocenter.core.errors import InvalidRequest
from isocenter.core.files import EXTENSIONS, FileSource, UnusableFile, file_source
from isocenter.core.findings import Finding, collect, describe, did_you_mean
from isocenter.core.result import Result
from isocenter.core.rules import RULES
from isocenter.core.schema import children, lookup, pointer, resolve

if TYPE_CHECKING:
    from isocenter.core.contract import Contract

Where = Literal["path", "query", "header", "cookie", "body"]
ABSENT: Any = object()
LONGEST_EXAMPLE = 600  # characters of JSON
TEXT_TYPES = re.compile(r"text/.*|.*[/+]xml|application/(x-www-form-urlencoded|javascript|yaml|x-ndjson|csv)")


def is_json(media_type: str) -> bool:
    """application/json and everything +json."""
    return media_type == "application/json" or media_type.endswith("+json")


@dataclass(frozen=True, slots=True)
class Argument:
    """One name of the flat argument object: a parameter, a property of the body, or (`body`) the whole body."""

    name: str
    wire_name: str
    where: Where
    spec: str  # pointer of what declares it
    schema: str  # pointer of its schema
    required: bool
    description: str = ""
    style: str = "form"
    explode: bool = True
    reserved: bool = False
    as_json: bool = False
    also_query: bool = False
    file: str = ""  # media type, when the value names a file
    files: bool = False  # a list of files
    part_name: str = ""
    identifying: bool = False
    secret: bool = False
    credential: str = ""  # the configured credential that stands in when the caller leaves it out


@dataclass(frozen=True, slots=True)
class Content:
    """One media type of a documented answer. `binary` is the media type the bytes really are, for answers that go to disk."""

    media_type: str
    schema: str  # pointer; empty when the document gives none
    text: bool
    binary: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One documented response: its contents, what an empty body stands for, and whether it is a success."""

    status: str
    spec: str
    description: str
    contents: tuple[Content, ...]
    success: bool
    empty: Any = ABSENT

    def content(self, media_type: str) -> Content | None:
        """The content documented for a media type; ranges such as `image/*` match."""
        for content in self.contents:
            if content.media_type == media_type:
                return content
        wanted = media_type.partition(";")[0].strip().lower()
        for content in self.contents:
            offered = content.media_type.partition(";")[0].strip().lower()
            if offered == wanted or offered == "*/*" or (offered.endswith("/*") and wanted.startswith(offered[:-1])):
                return content
        return None


@dataclass(frozen=True, slots=True)
class WireRequest:
    """A request ready to be sent. Address, headers and body stay out of `repr`: any of them may carry a secret."""

    method: str
    url: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    body: bytes | wire.StreamBody | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Operation:
    """An operation as a value. Made by `Contract`; see there for where each field comes from in the specification."""

    contract: Contract = field(repr=False)
    id: str
    method: str
    path: str
    spec: str
    summary: str
    description: str = field(repr=False)
    arguments: Mapping[str, Argument] = field(repr=False)
    answers: Mapping[str, Answer] = field(repr=False)
    security: tuple[tuple[str, ...], ...]
    server: str  # URL of a server of its own, or empty
    body_types: tuple[str, ...] = ()
    body_spec: str = ""
    body_required: bool = False
    body_flat: bool = False
    body_extra: bool = False  # a flat body that takes further names
    form_styles: Mapping[str, tuple[str, bool]] = field(default_factory=dict)
    part_types: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()

    @property
    def input_schema(self) -> dict[str, Any]:
        """The strict schema of the flat arguments object, with references into the specification."""
        return self.contract.inputs[self.id]

    @property
    def has_binary_answer(self) -> bool:
        """Whether a documented success is a file."""
        return any(content.binary for answer in self.answers.values() if answer.success for content in answer.contents)

    # -- request -----------------------------------------------------------------------------------------------------

    def check(self, arguments: Mapping[str, Any], roots: Iterable[Path] = ()) -> list[Finding]:
        """Every problem of the arguments at once; an empty list means the request may be sent.

        The schema decides first; what it cannot say (rules, dot segments in paths, unusable files) is looked at when it is satisfied.
        """
        plain = {name: self._judged(name, value) for name, value in arguments.items()}
        try:
            errors = list(self.contract.judge(f"#/x-inputs/{self.id}").iter_errors(plain))
        except (ValueError, TypeError) as error:  # not plain JSON: only Python callers get here
            return [
                Finding(
                    "", "arguments", self._spec_name(self.spec), "plain JSON values", repair=str(error), kind="type"
                )
            ]
        if errors:
            found = collect(errors, plain, self._where, self.contract.place)
            return [
                self._repairable(replace(finding, severity="breaking"), plain) for finding in found
            ]  # nothing is drift
        return list(self._beyond_schema(arguments, plain, roots))

    def _repairable(self, finding: Finding, plain: Mapping[str, Any]) -> Finding:
        """The finding with what a caller needs to put it right: an example of what is missing, or where a misplaced name belongs."""
        *above, name = finding.pointer.split("/")[1:] or [""]
        name = _unescaped(name)
        argument = None if above else self.arguments.get(name)
        nothing = finding.kind in ("missing", "minProperties") or (
            finding.given == "null" and argument is not None and argument.required
        )
        if nothing and (shown := self._example(finding.pointer, plain)):
            verb = "Add" if finding.kind == "missing" else "Give"
            return replace(finding, repair=f"{verb} {name}, in the form of {shown}.")
        if finding.repair == "Check the spelling of the names." and not above:
            hint = did_you_mean(name, self.arguments)
            return replace(finding, repair=hint or "Correct its spelling, or leave it out.")
        if finding.kind != "unknown" or above or finding.repair != "Leave it out.":
            return finding
        value = plain.get(name)
        if isinstance(value, dict) and value and value.keys() <= self.arguments.keys():
            return replace(finding, repair="Give what is in it as arguments of their own.")
        homes = [
            home
            for home, candidate in self.arguments.items()
            if not candidate.file and name in self.contract.place.names(_segments(candidate.schema))
        ]
        return replace(finding, repair=f"Put it into {homes[0]}.") if len(homes) == 1 else finding

    def _example(self, at: str, plain: Mapping[str, Any]) -> str:
        """The shortest example, as JSON, that the specification has for a place in the arguments; empty when there is none."""
        first, *below = _segments(at) or [""]
        texts = [
            json.dumps(example, ensure_ascii=False)
            for whole in argument_examples(self, first)
            for example in islice(_below(whole, plain.get(first), below), 1)
        ]
        shortest = min(texts, key=len, default="")
        return shortest if len(shortest) <= LONGEST_EXAMPLE else ""

    def request(self, base_url: str, arguments: Mapping[str, Any], roots: Iterable[Path] = ()) -> WireRequest:
        """The HTTP request for checked arguments. A name the contract does not know goes into the body where that is flat, else the query.

        Raises InvalidRequest when a file can no longer be read, and, whatever was checked, when the path would lead elsewhere or a
        header cannot be sent.
        """
        for name, declared in self.arguments.items():
            if declared.where == "path" and wire.leaves_segment(arguments.get(name, "")):
                raise InvalidRequest(self, [self._leaving(name, arguments.get(name))])
        path, query, headers, cookies = self.path, list[str](), dict[str, str](), list[str]()
        body: dict[str, Any] = {}
        for name, value in arguments.items():
            argument = self.arguments.get(name)
            if argument is None:
                if name == "content_type" and len(self.body_types) > 1:
                    continue
                if self.body_flat:
                    body[name] = value
                else:
                    query += wire.query_pairs(name, value, "form", True)
                continue
            if argument.where == "body":
                body[name] = value
                if argument.also_query:
                    query += wire.query_pairs(argument.wire_name, value, "form", True)
                continue
            if argument.as_json:
                value = wire.dumps(value).decode()
            match argument.where:
                case "path":
                    path = path.replace(
                        f"{{{argument.wire_name}}}",
                        wire.path_value(argument.wire_name, value, argument.style, argument.explode),
                    )
                case "query":
                    query += wire.query_pairs(
                        argument.wire_name, value, argument.style, argument.explode, argument.reserved
                    )
                case "header":
                    try:
                        headers[argument.wire_name] = wire.header_value(value, argument.explode)
                    except ValueError:
                        raise InvalidRequest(self, [self._unprintable(name, value)]) from None
                case "cookie":
                    cookies += wire.query_pairs(argument.wire_name, value, "form", argument.explode)
        if cookies:
            headers["Cookie"] = "; ".join(cookies)
        headers["Accept"] = self._accepted
        payload = self._body(body, str(arguments.get("content_type", "")), headers, roots)
        url = self.contract.url(base_url, self.server) + path + ("?" + "&".join(query) if query else "")
        return WireRequest(self.method, url, headers, payload)

    @cached_property
    def _accepted(self) -> str:
        kinds = dict.fromkeys(content.media_type for answer in self.answers.values() for content in answer.contents)
        return ", ".join(kinds) or "*/*"

    def _body(
        self, given: dict[str, Any], chosen: str, headers: dict[str, str], roots: Iterable[Path]
    ) -> bytes | wire.StreamBody | None:
        if not given and not (self.body_required and self.body_flat):
            return None
        media_type = chosen if chosen in self.body_types else self.body_types[0]
        value: Any = {self._wire_name(name): item for name, item in given.items()} if self.body_flat else given["body"]
        if media_type.startswith("multipart/"):
            parts = list(self._parts(given if self.body_flat else value, roots))
            headers["Content-Type"], stream = wire.multipart_body(parts, media_type.removeprefix("multipart/"))
            return stream
        headers["Content-Type"] = media_type
        if is_json(media_type):
            return wire.dumps(value)
        if media_type == "application/x-www-form-urlencoded":
            return wire.form_body(value, dict(self.form_styles))
        argument = self.arguments["body"]
        return (
            wire.StreamBody([self._source("body", value, argument.file, roots)])
            if argument.file
            else str(value).encode()
        )

    def _parts(self, given: Mapping[str, Any], roots: Iterable[Path]) -> Iterator[wire.Part]:
        for name, value in given.items():
            argument = self.arguments.get(name)
            label = argument.wire_name if argument else name
            if argument and argument.file:
                for index, item in enumerate(value if argument.files else [value]):
                    at = f"{name}/{index}" if argument.files else name
                    source = self._source(at, item, argument.file, roots)
                    extension = EXTENSIONS.get(argument.file) or (source.path.suffix if source.path else "")
                    kind = self.part_types.get(label, argument.file)
                    part_name = argument.part_name.format(index=index) if argument.part_name else label
                    yield wire.Part(part_name, source, kind, f"{index}{extension}")
            elif isinstance(value, dict) or (
                isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value)
            ):
                yield wire.Part(label, wire.dumps(value), self.part_types.get(label, "application/json"))
            else:
                for item in value if isinstance(value, list) else [value]:
                    yield wire.Part(label, wire.text(item).encode(), self.part_types.get(label, ""))

    def _source(self, at: str, value: object, media_type: str, roots: Iterable[Path]) -> FileSource:
        try:
            return file_source(value, media_type, roots)
        except UnusableFile as error:
            raise InvalidRequest(
                self,
                [self._finding(f"/{at}", at.partition("/")[0], error.expected, describe(value), error.repair, "file")],
            ) from error

    def _wire_name(self, name: str) -> str:
        argument = self.arguments.get(name)
        return argument.wire_name if argument else name

    def _judged(self, name: str, value: Any) -> Any:
        """The value as plain JSON: models dumped, what names a file replaced by a text of no meaning."""
        if hasattr(value, "model_dump"):
            return value.model_dump(mode="json", by_alias=True, exclude_unset=True)
        argument = self.arguments.get(name)
        if argument and argument.file:
            if argument.files and isinstance(value, (list, tuple)):
                return [
                    "file" if isinstance(item, (str, Path, bytes, bytearray, FileSource)) else item for item in value
                ]
            if not argument.files and isinstance(value, (str, Path, bytes, bytearray, FileSource)):
                return "file"
        if isinstance(value, (list, tuple)):
            return [self._judged("", item) for item in value]
        return value

    def plain(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments with pydantic models turned into JSON and unset ones left out; files stay as they were named."""
        result: dict[str, Any] = {}
        for name, value in arguments.items():
            argument = self.arguments.get(name)
            result[name] = value if argument and argument.file else self._judged(name, value)
        return result

    def _beyond_schema(
        self, arguments: Mapping[str, Any], plain: Mapping[str, Any], roots: Iterable[Path]
    ) -> Iterator[Finding]:
        for name, value in arguments.items():
            argument = self.arguments.get(name)
            if argument is None:
                continue
            if argument.where == "path" and wire.leaves_segment(value):
                yield self._leaving(name, value)
            if argument.where == "header":
                try:
                    wire.header_value(value, argument.explode)
                except ValueError:
                    yield self._unprintable(name, value)
            if argument.file:
                for index, item in enumerate(value if argument.files else [value]):
                    try:
                        file_source(item, argument.file, roots)
                    except UnusableFile as error:
                        yield self._finding(
                            f"/{name}/{index}" if argument.files else f"/{name}",
                            name,
                            error.expected,
                            describe(item),
                            error.repair,
                            "file",
                        )
        if self.body_flat and self.body_required and not any(self._in_body(name) for name in arguments):
            body = lookup(self.contract.document, self.body_spec)
            if body.get("minProperties"):
                spec, repair = f"{self.body_spec}/minProperties", f"Give one of {', '.join(body['properties'])}."
                yield Finding(
                    "", "body", self._spec_name(spec), "at least 1 property", "nothing", repair, "minProperties"
                )
        for template, rule in self._rules:
            for path, value in _matches(plain, template, ()):
                for below, expected, repair in RULES[rule](value):
                    yield self._finding(pointer(path) + below, str(path[0]), expected, "", repair, rule)

    def _in_body(self, name: str) -> bool:
        argument = self.arguments.get(name)
        return argument.where == "body" if argument else name != "content_type"

    def _leaving(self, name: str, value: Any) -> Finding:
        expected = "a value that stays inside its path segment"
        return self._finding(f"/{name}", name, expected, describe(value), "Give the identifier itself.", "path")

    def _unprintable(self, name: str, value: Any) -> Finding:
        repair = "Leave out line breaks and special characters."
        return self._finding(f"/{name}", name, "printable ASCII text", describe(value), repair, "header")

    @cached_property
    def _rules(self) -> tuple[tuple[tuple[str, ...], str], ...]:
        found: list[tuple[tuple[str, ...], str]] = []
        for argument in self.arguments.values():
            schema = lookup(self.contract.document, argument.schema)
            found += [
                ((argument.name, *below), rule)
                for below, rule in _rules_below(schema, self.contract.document, frozenset())
            ]
        return tuple(dict.fromkeys(found))

    def _where(self, path: Sequence[Any]) -> tuple[str, str]:
        if path and (argument := self.arguments.get(str(path[0]))):
            return argument.where, self._spec_name(argument.spec)
        return "arguments", self._spec_name(self.spec)

    def _finding(self, at: str, name: str, expected: str, given: str, repair: str, kind: str) -> Finding:
        where, spec = self._where([name])
        return Finding(at, where, spec, expected, given, repair, kind)

    def _spec_name(self, at: str) -> str:
        return f"{self.contract.file}#{at}"

    # -- answer ------------------------------------------------------------------------------------------------------

    def types(self, name: str) -> tuple[str, ...]:
        """The JSON types an argument may have; empty where its schema names none, or there is no such argument."""
        argument = self.arguments.get(name)
        if argument is None:
            return ()
        document = self.contract.document
        schema, _ = resolve(document, lookup(document, argument.schema), "")
        kinds = schema.get("type", ()) if isinstance(schema, dict) else ()
        return (kinds,) if isinstance(kinds, str) else tuple(kinds)

    def answer(self, status: int) -> Answer | None:
        """The documented response for a status: exact, by class (`4XX`), or `default`."""
        return self.answers.get(str(status)) or self.answers.get(f"{status // 100}XX") or self.answers.get("default")

    def read(self, status: int, media_type: str, body: bytes, *, checked: bool = True) -> Result[Any]:
        """The answer, parsed and judged. Never raises for what a service sends; everything odd is in `findings`.

        Parses by what the specification says the body is. `checked=False` only parses (mode `off`).
        """
        answer = self.answer(status)
        data, findings = self._parsed(answer, status, media_type, body)
        content = answer.content(media_type) if answer and body else None
        if checked and data is not ABSENT and content and content.schema and not content.binary:
            findings += self._judge_body(content, data)
        if data is ABSENT:
            data = body.decode("utf-8", "replace") if body else None
        return Result(self, status, media_type.partition(";")[0].strip(), data, tuple(findings) if checked else ())

    def _parsed(self, answer: Answer | None, status: int, media_type: str, body: bytes) -> tuple[Any, list[Finding]]:
        if answer is None:
            documented = ", ".join(self.answers)
            spec = self._spec_name(f"{self.spec}/responses")
            severity: Literal["breaking", "drift"] = "breaking" if status < 400 else "drift"
            finding = Finding(
                "", "status", spec, f"a documented status: {documented}", str(status), kind="status", severity=severity
            )
            return _lenient(media_type, body), [finding]
        spec = self._spec_name(answer.spec)
        if not body:
            if answer.empty is not ABSENT:
                return answer.empty, []
            if any(content.schema for content in answer.contents):
                return None, [Finding("", "body", spec, "a body", "an empty body", kind="missing")]
            return None, []
        if not answer.contents:
            return _lenient(media_type, body), [
                Finding("", "body", spec, "no body", f"{len(body)} bytes", kind="unexpected", severity="drift")
            ]
        content = answer.content(media_type)
        if content is None:
            offered = ", ".join(content.media_type for content in answer.contents)
            given = media_type.partition(";")[0] or "no Content-Type"
            return _lenient(media_type, body), [Finding("", "content-type", spec, offered, given, kind="media-type")]
        kind = media_type if "*" in content.media_type else content.media_type
        if content.text or not is_json(kind.partition(";")[0].strip().lower()):
            return body.decode("utf-8", "replace"), []
        try:
            return msgspec.json.decode(body.removeprefix(codecs.BOM_UTF8)), []
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            kind = "an HTML page" if body.lstrip()[:1] == b"<" else f"{len(body)} bytes that are not JSON"
            return ABSENT, [
                Finding(
                    "", "body", spec, "JSON", kind, "The answer may have been cut short or come from a proxy.", "json"
                )
            ]

    def _judge_body(self, content: Content, data: Any) -> list[Finding]:
        judge, closed, enough = self.contract.judges(content.schema)
        if closed.is_valid(data) and (enough or judge.is_valid(data)):
            return []
        at = self._spec_name(content.schema)
        findings = collect(judge.iter_errors(data), data, lambda _: ("body", at), self.contract.place)
        if findings:
            return findings
        # The document is satisfied: whatever the closed form minds was added.
        additions = collect(closed.iter_errors(data), data, lambda _: ("body", at), self.contract.place)
        return [replace(finding, severity="drift") for finding in additions]

    def check_bytes(
        self, content: Content, head: bytes, size: int, answer: Answer, whole: BinaryIO | None = None
    ) -> list[Finding]:
        """What is wrong with a binary answer: a login page instead of a ZIP, nothing at all, a ZIP (`whole`) without its end."""
        magic = {
            "application/zip": (b"PK\x03\x04", b"PK\x05\x06"),
            "application/dicom": (b"DICM",),
            "image/png": (b"\x89PNG",),
            "image/jpeg": (b"\xff\xd8",),
        }
        expected = magic.get(content.binary)
        start = head[128:132] if content.binary == "application/dicom" else head
        if not expected or start.startswith(expected):
            if whole is None or content.binary != "application/zip" or zipfile.is_zipfile(whole):
                return []
            spec, repair = self._spec_name(answer.spec), "Download it again."
            return [Finding("", "body", spec, "a whole ZIP archive", "one that was cut short", repair, "magic")]
        given = "an HTML page" if head.lstrip()[:1] == b"<" else f"{size} bytes of another kind"
        return [
            Finding(
                "",
                "body",
                self._spec_name(answer.spec),
                f"{content.binary} content",
                given,
                "The service may be down; try later.",
                "magic",
            )
        ]


def _unescaped(segment: str) -> str:
    return segment.replace("~1", "/").replace("~0", "~")


def _segments(at: str) -> list[str]:
    return [_unescaped(segment) for segment in at.split("/")[1:]]


def argument_examples(operation: Operation, name: str) -> Iterator[Any]:
    """The examples of an argument: of the parameter, of the body, of the schema. Secrets have none."""
    argument, document = operation.arguments.get(name), operation.contract.document
    if argument is None or argument.secret:
        return
    if argument.file:
        yield ["/path/of/a/file"] if argument.files else "/path/of/a/file"
        return
    if argument.where == "body":
        body, _ = resolve(document, lookup(document, operation.spec).get("requestBody", {}), "")
        holders = list((body.get("content") or {}).values())
    else:
        parameter = lookup(document, argument.spec)
        holders = [parameter, *(parameter.get("content") or {}).values()]
    for holder in holders:
        entries = [resolve(document, entry, "")[0] for entry in (holder.get("examples") or {}).values()]
        for value in [holder.get("example", ABSENT), *(entry.get("value", ABSENT) for entry in entries)]:
            if argument.where == "body" and operation.body_flat:
                value = value.get(argument.wire_name, ABSENT) if isinstance(value, dict) else ABSENT
            if value is not ABSENT:
                yield value
    schema, _ = resolve(document, lookup(document, argument.schema), "")
    if isinstance(schema, dict):
        yield from (schema[key] for key in ("example", "const") if key in schema)
        yield from (schema[key][0] for key in ("examples", "enum") if isinstance(schema.get(key), list) and schema[key])


def _below(example: Any, given: Any, path: Sequence[str]) -> Iterator[Any]:
    """What an example has at a path; in lists the items come first that have most in common with what was given there."""
    if not path:
        yield example
    elif isinstance(example, list):
        here = given[int(path[0])] if isinstance(given, list) and int(path[0]) < len(given) else None
        alike = here.items() if isinstance(here, dict) else ()

        def likeness(item: Any) -> int:
            return sum(item.get(key, ABSENT) == value for key, value in alike) if isinstance(item, dict) else 0

        for item in sorted(example, key=likeness, reverse=True):
            yield from _below(item, here, path[1:])
    elif isinstance(example, dict) and path[0] in example:
        yield from _below(example[path[0]], given.get(path[0]) if isinstance(given, dict) else None, path[1:])


def _lenient(media_type: str, body: bytes) -> Any:
    """An undocumented body as evidence: JSON if it is, text otherwise."""
    if not body:
        return None
    try:
        return (
            json.loads(body)
            if is_json(media_type.partition(";")[0].strip().lower())
            else body.decode("utf-8", "replace")
        )
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace")


def _matches(value: Any, template: tuple[str, ...], path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if not template:
        yield path, value
    elif template[0] == "*" and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _matches(item, template[1:], (*path, index))
    elif isinstance(value, dict) and template[0] in value:
        yield from _matches(value[template[0]], template[1:], (*path, template[0]))


def _rules_below(schema: Any, document: Any, seen: frozenset[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    if not isinstance(schema, dict):
        return
    rule = schema.get("x-rule")
    if isinstance(rule, str) and rule in RULES:  # our lint refuses other names; a stranger's mean nothing to us
        yield (), rule
    ref = schema.get("$ref")
    if isinstance(ref, str) and ref not in seen:
        yield from _rules_below(lookup(document, ref), document, seen | {ref})
    for path, child in children(schema):
        if path[0] == "properties":
            below: tuple[str, ...] = (path[1],)
        elif path[0] == "items":
            below = ("*",)
        elif path[0] in ("allOf", "anyOf", "oneOf"):
            below = ()
        else:
            continue
        for deeper, named in _rules_below(child, document, seen):
            yield (*below, *deeper), named


def suggest(name: str, operations: Iterable[str]) -> str:
    """A hint for a misspelt operation or tool name."""
    return did_you_mean(name, operations)
