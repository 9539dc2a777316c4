"""What a specification of ours must have beyond being valid OpenAPI: the dialect of openapi/README.md, checked.

Every problem is one line, `file#pointer: text`. Nothing is repaired here, and nothing of it runs when the clients do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema_rs

from isocenter.codegen.examples import given, of_parameter
from isocenter.codegen.spec import read, read_spec
from isocenter.core.contract import Contract
from isocenter.core.errors import InvalidSpec
from isocenter.core.formats import FORMATS
from isocenter.core.operation import Operation, is_json
from isocenter.core.rules import RULES
from isocenter.core.schema import ASKED, DIALECT, children, lookup, pointer, resolve, schemas_of
from isocenter.core.tool import Tool, curated, field_exists, portability_problems

EVIDENCE = ("documented", "observed", "inferred")
STANDARD_FORMATS = frozenset({"date", "date-time", "uri", "uuid", "password"})
HOST_NAME_LENGTH = 64  # of `mcp__<server>__<tool>`; the strictest hosts count the prefix
SERVER_PREFIX = "mcp__isocenter__"
MAPS = frozenset(
    {
        "properties",
        "patternProperties",
        "$defs",
        "dependentSchemas",
        "schemas",
        "parameters",
        "headers",
        "responses",
        "requestBodies",
        "securitySchemes",
        "content",
        "paths",
        "variables",
        "encoding",
        "examples",
        "mapping",
    }
)
"""Objects whose keys are names and not keywords."""
DATA = frozenset({"example", "examples", "default", "enum", "const", "value", "x-empty-body", "x-known-values"})
"""Keywords whose values are data and not specification."""


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


EXTENSIONS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "x-also-query": (lambda value: value is True, "true"),
    "x-credential": (_text, "the name of a credential"),
    "x-deviation": (_text, "a text"),
    "x-empty-body": (lambda value: True, "any value"),
    "x-evidence": (lambda value: value in EVIDENCE, "one of " + ", ".join(EVIDENCE)),
    "x-identifying": (lambda value: isinstance(value, bool), "true or false"),
    "x-isocenter": (
        lambda value: isinstance(value, dict) and value.keys() == {"api", "dialect"} and value["dialect"] == 1,
        "an api and dialect 1",
    ),
    "x-known-values": (
        lambda value: isinstance(value, list) and bool(value) and not any(isinstance(v, (dict, list)) for v in value),
        "a list of plain values",
    ),
    "x-media-types": (
        lambda value: isinstance(value, list) and len(value) > 1 and all("/" in str(kind) for kind in value),
        "two media types or more",
    ),
    "x-outcome": (lambda value: value == "success", "success"),
    "x-part-name": (lambda value: isinstance(value, str) and "{index}" in value, "a text with {index}"),
    "x-rule": (lambda value: isinstance(value, str) and value in RULES, "one of " + ", ".join(RULES)),
    "x-secret": (lambda value: value is True, "true"),
    "x-unused": (_text, "the reason why nothing refers to it"),
    "x-value-prefix": (_text, "a text"),
    "x-wire-format": (lambda value: value == "text", "text"),
}
"""Every extension of the dialect: which values it takes, and how that is said."""


def lint(folder: Path) -> list[str]:
    """Every problem of the specifications and tools files in a folder, as `file#pointer: text`; an empty list if there is none."""
    problems: list[str] = []
    tools_of: dict[str, str] = {}
    for path in sorted(folder.glob("*.yaml")):
        if path.name.endswith(".tools.yaml"):
            if not path.with_name(path.name.removesuffix(".tools.yaml") + ".yaml").exists():
                problems.append(f"{path.name}#: no specification stands beside it")
            continue
        try:
            document = read_spec(path)
            contract = Contract(document, file=path.name)
        except InvalidSpec as error:
            problems += error.problems
            continue
        spec = _Spec(path.name, document, contract)
        spec.check()
        problems += spec.problems
        problems += _tools(path, contract, tools_of)
    return problems


@dataclass
class _Spec:
    """One document on its way through the checks."""

    file: str
    document: dict[str, Any]
    contract: Contract
    problems: list[str] = field(default_factory=list)
    readable: bool = True  # every reference leads somewhere and every pattern is one

    def say(self, at: str, text: str) -> None:
        line = f"{self.file}#{at}: {text}"
        if line not in self.problems:
            self.problems.append(line)

    def check(self) -> None:
        from openapi_spec_validator import OpenAPIV31SpecValidator

        for error in OpenAPIV31SpecValidator.schema_validator.iter_errors(self.document):
            self.say(pointer(error.absolute_path), f"not valid OpenAPI 3.1: {_line(error.message)}")
        for path, holder, key in schemas_of(self.document):
            try:
                jsonschema_rs.meta.validate({"$schema": DIALECT, "allOf": [holder[key]]})
            except jsonschema_rs.ValidationError as broken:
                at = pointer((*path, key, *broken.instance_path[2:]))
                self.say(at, f"not a valid schema: {_line(broken.message)}")
        if self.problems:  # what is no OpenAPI may be anything; nothing more can be said of it
            return
        self.head()
        self.extensions(self.document, "")
        self.patterns()
        if not self.readable:
            return
        self.uses()
        for operation in self.contract.operations.values():
            self.operation(operation)
        self.schemas()
        if not self.problems:  # the validator's own rules beyond structure; it names places less well than we do
            for error in OpenAPIV31SpecValidator(self.document).iter_errors():
                self.say(pointer(error.absolute_path), f"not valid OpenAPI 3.1: {_line(error.message)}")

    # -- the document as a whole -------------------------------------------------------------------------------------

    def head(self) -> None:
        info = self.document.get("info") or {}
        for key in ("summary", "description"):
            if not _text(info.get(key)):
                self.say("/info", f"{key} is missing")
        named = (info.get("x-isocenter") or {}).get("api")
        if f"{named}.yaml" != self.file:
            self.say("/info/x-isocenter/api", f"expected the file's own name, {self.file.removesuffix('.yaml')}")
        if not self.document.get("servers"):
            self.say("/servers", "at least one server is needed")
        for index, server in enumerate(self.document.get("servers") or ()):
            if not _text(server.get("description")):
                self.say(f"/servers/{index}", "description is missing")
        for index, tag in enumerate(self.document.get("tags") or ()):
            if not _text(tag.get("description")):
                self.say(f"/tags/{index}", "description is missing")
            if not any(tag.get("name") in operation.tags for operation in self.contract.operations.values()):
                self.say(f"/tags/{index}", "no operation has this tag")

    def extensions(self, node: Any, at: str, *, names: bool = False) -> None:
        """Extensions are known and have a value that means something; references lead somewhere."""
        if isinstance(node, list):
            for index, child in enumerate(node):
                self.extensions(child, f"{at}/{index}")
            return
        if not isinstance(node, dict):
            return
        for key, child in node.items():
            here = at + pointer([key])
            if not names and key.startswith("x-"):
                allowed = EXTENSIONS.get(key)
                if allowed is None:
                    self.say(here, "unknown extension")
                elif not allowed[0](child):
                    self.say(here, f"expected {allowed[1]}")
            elif not names and key == "$ref" and isinstance(child, str):
                try:
                    lookup(self.document, child)
                except KeyError:
                    self.say(here, f"{child} leads nowhere in this document")
                    self.readable = False
            if (
                names or key not in DATA or (key == "examples" and isinstance(child, dict))
            ):  # in schemas it is a list of data
                self.extensions(child, here, names=not names and key in MAPS and isinstance(child, dict))

    def uses(self) -> None:
        """Components that nothing refers to say why they are there."""
        components = self.document.get("components") or {}
        everything = {
            pointer(["components", kind, name]): node
            for kind, entries in components.items()
            if kind != "securitySchemes"
            for name, node in entries.items()
        }
        kept = {at for at, node in everything.items() if "x-unused" in node}
        used = self._reachable([self.document.get("paths") or {}])
        for at in kept & used:
            self.say(f"{at}/x-unused", "it is used")
        used |= self._reachable([everything[at] for at in kept]) | kept
        for at in everything.keys() - used:
            self.say(at, "nothing refers to it; remove it, or say why it is kept with x-unused")
        schemes = {scheme for op in self.contract.operations.values() for each in op.security for scheme in each}
        for name in schemes ^ self.contract.security_schemes.keys():
            what = (
                "no operation asks for it" if name not in schemes else "an operation asks for it, but it is not there"
            )
            self.say(pointer(["components", "securitySchemes", name]), what)

    def _reachable(self, roots: list[Any]) -> set[str]:
        found: set[str] = set()
        waiting = list(roots)
        while waiting:
            node = waiting.pop()
            if isinstance(node, list):
                waiting += node
            elif isinstance(node, dict):
                waiting += node.values()
                ref = node.get("$ref")
                if isinstance(ref, str) and ref.startswith("#/components/"):
                    at = "/".join(ref.lstrip("#").split("/")[:4])
                    if at not in found:
                        found.add(at)
                        waiting.append(lookup(self.document, ref))
        return found

    # -- operations --------------------------------------------------------------------------------------------------

    def operation(self, operation: Operation) -> None:
        at, node = operation.spec, lookup(self.document, operation.spec)
        for key in ("operationId", "summary", "description"):
            if not _text(node.get(key)):
                self.say(at, f"{key} is missing")
        if len(operation.summary) > 60:
            self.say(f"{at}/summary", f"{len(operation.summary)} characters, at most 60")
        declared = {tag.get("name") for tag in self.document.get("tags") or ()}
        if not operation.tags or not declared.issuperset(operation.tags):
            self.say(at, "tags are needed, and each must be declared with the document's tags")
        if "security" not in node:
            self.say(at, "security is missing; write [] where nothing is needed")
        if "x-evidence" not in node:
            self.say(at, "x-evidence is missing")
        for index in range(len(node.get("parameters") or ())):
            parameter, spot = resolve(self.document, node["parameters"][index], f"{at}/parameters/{index}")
            if not _text(parameter.get("description")):
                self.say(spot, "description is missing")
            below = "".join(f"/content{pointer([media_type])}" for media_type in parameter.get("content") or ())
            self.judged(of_parameter(self.document, parameter, spot), spot, f"#/{ASKED[0]}{spot}{below}/schema")
        if "requestBody" in node:
            body, spot = resolve(self.document, node["requestBody"], f"{at}/requestBody")
            if "required" not in body:
                self.say(spot, "required is missing; say whether the body may be left out")
            for media_type, media in (body.get("content") or {}).items():
                below = f"{spot}/content{pointer([media_type])}"
                self.judged(given(self.document, media, below), below, f"#/{ASKED[0]}{below}/schema")
        statuses = list(node.get("responses") or {})
        if not any(status[:1] in ("4", "5") for status in statuses):
            self.say(f"{at}/responses", "an error response is missing")
        for answer in operation.answers.values():
            response = lookup(self.document, answer.spec)
            for name, header in (response.get("headers") or {}).items():
                header, spot = resolve(self.document, header, f"{answer.spec}/headers{pointer([name])}")
                if not _text(header.get("description")):
                    self.say(spot, "description is missing")
                self.judged(given(self.document, header, spot), spot, f"#{spot}/schema")
            for content in answer.contents:
                below = f"{answer.spec}/content{pointer([content.media_type])}"
                if not content.schema:
                    self.say(below, "schema is missing")
                    continue
                self.judged(given(self.document, lookup(self.document, below), below), below, f"#{content.schema}")
                success = answer.success and is_json(content.media_type) and not content.text
                if success and not self.named(lookup(self.document, content.schema)):
                    self.say(
                        content.schema,
                        "the body of a success must be a named schema, a list of one, or alternatives of such",
                    )

    def judged(self, examples: list[tuple[str, Any]], at: str, schema: str) -> None:
        """At least one example, and all of them valid, formats included."""
        if not examples:
            self.say(at, "an example is missing")
        for spot, value in examples:
            for error in self.contract.judge(schema).iter_errors(value):
                self.say(spot + pointer(error.instance_path), f"the example breaks {schema}: {error.message}")

    def named(self, schema: Any) -> bool:
        """Whether an answer's schema has a name that a typed client can use."""
        if not isinstance(schema, dict):
            return False
        alternatives = schema.get("oneOf") or schema.get("anyOf")
        if alternatives:
            return all(self.named(child) for child in alternatives)
        if schema.get("type") == "array":
            return "$ref" in (schema.get("items") or {})
        return str(schema.get("$ref", "")).startswith("#/components/schemas/")

    # -- schemas -----------------------------------------------------------------------------------------------------

    def patterns(self) -> None:
        """Patterns speak about the whole text and run in linear time, whatever the text is."""
        for path, holder, key in schemas_of(self.document):
            for at, schema in _everywhere(holder[key], pointer((*path, key))):
                found = [("/pattern", schema["pattern"])] if "pattern" in schema else []
                found += [
                    (f"/patternProperties{pointer([name])}", name) for name in schema.get("patternProperties") or ()
                ]
                for below, pattern in found:
                    try:
                        jsonschema_rs.validator_for({"pattern": pattern}, pattern_options=jsonschema_rs.RegexOptions())
                    except ValueError:
                        self.say(at + below, "no pattern of a linear-time engine (no look-around, no back-references)")
                        self.readable = False
                    if not _anchored(pattern):
                        self.say(at + below, "the pattern is not anchored with ^ and $")

    def schemas(self) -> None:
        """Every schema once, with what it is used for: closed ones only where nothing but requests reaches them."""
        answered: set[str] = set()
        asked: set[str] = set()
        for path, holder, key in schemas_of(self.document):
            at = pointer((*path, key))
            if "responses" in path or path[:2] == ("components", "headers"):
                self._visit(holder[key], at, answered)
            elif path[:2] != ("components", "schemas"):
                self._visit(holder[key], at, asked)
        everything = set(answered | asked)
        for name, schema in ((self.document.get("components") or {}).get("schemas") or {}).items():
            at = pointer(["components", "schemas", name])
            if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", name):
                self.say(at, "a schema's name is PascalCase")
            if not _text(schema.get("description")):
                self.say(at, "description is missing")
            self._visit(schema, at, answered if "x-unused" in schema else everything)
        for at in sorted(everything | answered):
            self._schema(at, lookup(self.document, at), answered=at in answered, asked=at in asked)

    def _visit(self, schema: Any, at: str, found: set[str]) -> None:
        if not isinstance(schema, dict) or at in found:
            return
        found.add(at)
        if isinstance(schema.get("$ref"), str):
            target, spot = resolve(self.document, schema, at)
            self._visit(target, spot, found)
        for path, child in children(schema):
            self._visit(child, at + pointer(path), found)

    def _schema(self, at: str, schema: dict[str, Any], *, answered: bool, asked: bool) -> None:
        if "format" in schema and schema["format"] not in (*FORMATS, *STANDARD_FORMATS):
            self.say(f"{at}/format", f"unknown format {schema['format']}")
        for name, child in (schema.get("properties") or {}).items():
            target, _ = resolve(self.document, child, at)
            if not any(isinstance(each, dict) and _text(each.get("description")) for each in (child, target)):
                self.say(f"{at}/properties{pointer([name])}", "description is missing")
        for key in ("example", "default"):
            if key in schema:
                self.judged([(f"{at}/{key}", schema[key])], at, f"#{at}")
        for index, value in enumerate(schema.get("examples") or ()):
            self.judged([(f"{at}/examples/{index}", value)], at, f"#{at}")
        if "x-known-values" in schema:
            if "enum" in schema or schema.get("type") in ("object", "array"):
                self.say(f"{at}/x-known-values", "it belongs to a plain value without enum")
            if asked and not answered:
                self.say(f"{at}/x-known-values", "nothing but requests reaches this: write enum")
        if "x-media-types" in schema and schema.get("contentMediaType") != "application/octet-stream":
            self.say(f"{at}/x-media-types", "it belongs beside contentMediaType: application/octet-stream")
        if "x-rule" in schema and not asked:
            self.say(f"{at}/x-rule", "rules look at requests, and none reaches this")
        if not answered or re.search(r"(?<!/properties)/(not|if)(/|$)", at):
            return
        for key in ("additionalProperties", "unevaluatedProperties"):
            if schema.get(key) is False:
                self.say(f"{at}/{key}", "an answer may grow: nothing that answers reach is closed")
        words = [value for value in schema.get("enum") or () if isinstance(value, str)]
        if len(schema.get("enum") or ()) > 1 and words and not self._discriminates(at):
            self.say(f"{at}/enum", "a vocabulary of answers may grow: write x-known-values")

    def _discriminates(self, at: str) -> bool:
        """Whether a property tells the alternatives of a oneOf or anyOf apart: some schema has its object as one alternative."""
        owner, _, _ = at.rpartition("/properties/")
        alternatives = (
            option
            for path, holder, key in schemas_of(self.document)
            for _, schema in _everywhere(holder[key], "")
            for option in (*(schema.get("oneOf") or ()), *(schema.get("anyOf") or ()))
        )
        target = lookup(self.document, owner) if owner else None
        return any(resolve(self.document, option, "")[0] is target for option in alternatives)


def _line(message: str) -> str:
    return message.partition("\n")[0][:200]


def _everywhere(schema: Any, at: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        yield at, schema
        for path, child in children(schema):
            yield from _everywhere(child, at + pointer(path))


def _anchored(pattern: str) -> bool:
    """Whether a pattern speaks about the whole text: ^ first, $ last, and no alternative beside them."""
    plain = re.sub(r"\\.|\[(?:\\.|[^\]\\])*\]", "", pattern)
    depth = 0
    for char in plain:
        depth += (char == "(") - (char == ")")
        if char == "|" and depth == 0:
            return False
    return plain.startswith("^") and plain.endswith("$")


def _tools(spec: Path, contract: Contract, taken: dict[str, str]) -> list[str]:
    """The tools file beside a specification: complete, accepted, and fit for every host. `taken` collects names over all APIs."""
    path = spec.with_name(f"{spec.stem}.tools.yaml")
    if not path.exists():
        return [f"{path.name}#: the file is missing"]
    try:
        table = read(path)
        tools = curated(contract, table, path.name)
    except InvalidSpec as error:
        return list(error.problems)
    problems = [f"{path.name}#/{key}: unknown key" for key in table.keys() - {"toolset", "instructions", "tools"}]
    if table.get("toolset") != contract.name:
        problems.append(f"{path.name}#/toolset: expected {contract.name}")
    if not _text(table.get("instructions")):
        problems.append(f"{path.name}#/instructions: missing")
    for missing in contract.operations.keys() - {tool.operation.id for tool in tools}:
        problems.append(f"{path.name}#/tools: the operation {missing} has no tool")
    for tool in tools:
        problems += [f"{path.name}#/tools/{tool.name}{text}" for text in _tool(tool)]
        if tool.name in taken:
            problems.append(f"{path.name}#/tools/{tool.name}: {taken[tool.name]} has a tool of this name")
        taken[tool.name] = path.name
    return problems


def _tool(tool: Tool) -> Iterator[str]:
    if len(SERVER_PREFIX + tool.name) > HOST_NAME_LENGTH:
        yield f": with the prefix {SERVER_PREFIX} the name is longer than {HOST_NAME_LENGTH}"
    for name in tool.show:
        if not field_exists(tool, name):
            yield f"/show: no success of {tool.operation.id} has a field {name}"
    for argument in tool.operation.arguments.values():
        if argument.secret and f"{{{argument.name}}}" in tool.confirm:
            yield f"/confirm: {argument.name} is a secret"
    for problem in portability_problems(tool):
        yield f": {problem}"
