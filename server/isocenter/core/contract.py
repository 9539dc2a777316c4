"""A specification as the thing that decides: its operations, and the compiled judge of every request and answer.

Reads plain OpenAPI 3.0/3.1 documents, ours and strangers'. What our dialect adds (`x-…`) is optional everywhere. Sources of each
field: OpenAPI 3.1.0 sections 4.8.9 to 4.8.24, and openapi/README.md for the extensions.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

import msgspec

from isocenter.core.errors import InvalidSpec
from isocenter.core.findings import Place
from isocenter.core.foreign import adopted
from isocenter.core.formats import FORMATS
from isocenter.core.operation import ABSENT, TEXT_TYPES, Answer, Argument, Content, Operation, Where, is_json
from isocenter.core.schema import (
    ANSWERED,
    ASKED,
    METHODS,
    children,
    closing_narrows,
    judging_document,
    lookup,
    pointer,
    reference,
    resolve,
    schemas_of,
)

PLAIN_BODY_KEYS = frozenset(
    {
        "type",
        "minProperties",
        "properties",
        "required",
        "additionalProperties",
        "propertyNames",
        "description",
        "title",
        "example",
        "examples",
        "default",
        "xml",
        "externalDocs",
        "deprecated",
    }
)
JUDGING = "urn:isocenter:judging"  # the name of a contract's judging document in its registry
IGNORED_HEADERS = frozenset({"accept", "content-type", "authorization"})
ARGUMENT_NAME = re.compile(r"[^a-zA-Z0-9_.-]")


class Contract:
    """One API's specification, ready to be used.

    `name` is the API's short name, `file` how findings name the document, `document` the (3.1) JSON, `operations` by id,
    `security_schemes` by name, `base_url` the first server with its variables filled in. Raises InvalidSpec listing every
    place that cannot be expressed; with `skip` operations that cannot are left out instead. `notes` says what is missing.
    """

    def __init__(self, document: dict[str, Any], *, name: str = "", file: str = "", skip: bool = False) -> None:
        info = document.get("info") or {}
        dialect = info.get("x-isocenter") or {}
        self.name: str = (
            name
            or dialect.get("api")
            or re.sub(r"[^a-z0-9]+", "-", str(info.get("title", "api")).lower()).strip("-")
            or "api"
        )
        self.file = file or f"{self.name}.yaml"
        self.closed_requests = bool(dialect)
        version = str(document.get("openapi", ""))
        if not version.startswith(("3.0", "3.1")):
            raise InvalidSpec(
                [f"{self.file}#/openapi: only OpenAPI 3.0 and 3.1 are understood, this says {version or 'nothing'}"]
            )
        self.document: dict[str, Any] = document
        self.notes: list[str] = []
        if not dialect:
            self.document, self.notes = adopted(document)
        self.title: str = str(info.get("title", self.name))
        self.security_schemes: dict[str, dict[str, Any]] = {
            key: resolve(self.document, scheme, "")[0]
            for key, scheme in ((self.document.get("components") or {}).get("securitySchemes") or {}).items()
        }
        self.base_url = self._server_url(self.document.get("servers") or [])
        self.inputs: dict[str, dict[str, Any]] = {}
        self._compiled: dict[str, Any] = {}
        self._judges: dict[str, tuple[Any, Any, bool]] = {}
        self._problems: list[str] = []
        self._check_references()
        self.operations: dict[str, Operation] = {}
        for path, item in (self.document.get("paths") or {}).items():
            for method in METHODS:
                if isinstance(item.get(method), dict):
                    known = dict(self.operations)
                    self._add(path, method, item)
                    if self._problems and skip:
                        self.notes += [f"left out: {problem}" for problem in self._problems]
                        self._problems.clear()
                        self.operations = known
        if self._problems:
            raise InvalidSpec(self._problems)
        if skip:
            for operation in list(self.operations.values()):
                if problems := self._uncompilable(operation):
                    self.notes += [f"left out: {operation.id}: {problem}" for problem in problems]
                    del self.operations[operation.id]

    @classmethod
    def loads(cls, content: bytes) -> Contract:
        """A contract from the JSON that `isocenter generate` writes."""
        return cls(msgspec.json.decode(content))

    def operation(self, name: str) -> Operation:
        """The operation with this id. Raises KeyError."""
        return self.operations[name]

    # -- judging -----------------------------------------------------------------------------------------------------

    @cached_property
    def _judging(self) -> tuple[dict[str, Any], Any]:
        """The document that judges, and the registry its references are looked up in."""
        import jsonschema_rs

        document = {**judging_document(self.document, closed=self.closed_requests), "x-inputs": self.inputs}
        return document, jsonschema_rs.Registry([(JUDGING, document)], draft=jsonschema_rs.Draft202012)

    def judge(self, ref: str) -> Any:
        """The compiled validator of the schema at a local reference (`#/…`), compiled when it is first asked for.

        Raises InvalidSpec when that is impossible.
        """
        found = self._compiled.get(ref)
        if found is None:
            import jsonschema_rs

            whole = {"$ref": JUDGING + reference("", ref.removeprefix("#"))["$ref"]}
            try:
                found = jsonschema_rs.validator_for(
                    whole,
                    registry=self._judging[1],
                    validate_formats=True,
                    formats=FORMATS,
                    mask="a value",
                    offline=True,
                )
            except (ValueError, jsonschema_rs.ReferencingError) as error:
                reason = str(error).partition("\n")[0]
                raise InvalidSpec([f"{self.file}{ref}: the schema cannot be compiled: {reason}"]) from error
            self._compiled[ref] = found
        return found

    def compile(self) -> None:
        """Compile every judge now, which otherwise happens one by one. Raises InvalidSpec listing what cannot be compiled."""
        problems = [problem for operation in self.operations.values() for problem in self._uncompilable(operation)]
        if problems:
            raise InvalidSpec(list(dict.fromkeys(problems)))

    def _uncompilable(self, operation: Operation) -> list[str]:
        contents = [content for answer in operation.answers.values() for content in answer.contents]
        problems: list[str] = []
        for ref in (f"#/x-inputs{pointer([operation.id])}", *(f"#{content.schema}" for content in contents)):
            try:
                if ref != "#":
                    self.judge(ref)
            except InvalidSpec as error:
                problems += error.problems
        return problems

    def judges(self, schema: str) -> tuple[Any, Any, bool]:
        """For the answer schema at a pointer: the judge itself, the closed form that finds additions, and whether that form decides alone."""
        found = self._judges.get(schema)
        if found is None:
            enough = closing_narrows(lookup(self.document, schema), self.document)
            found = self.judge(f"#{schema}"), self.judge(f"#/{ANSWERED[0]}{schema}"), enough
            self._judges[schema] = found
        return found

    @cached_property
    def place(self) -> Place:
        """Names the positions of a judge's errors in the words of the specification."""
        return Place(self.file, self._judging[0])

    # -- servers -----------------------------------------------------------------------------------------------------

    def _server_url(self, servers: Sequence[dict[str, Any]]) -> str:
        if not servers:
            return ""
        url = str(servers[0].get("url", ""))
        for name, variable in (servers[0].get("variables") or {}).items():
            url = url.replace(f"{{{name}}}", str(variable.get("default", "")))
        return url.rstrip("/")

    def url(self, base_url: str, server: str) -> str:
        """The address an operation's path is appended to.

        `server` is the operation's own, if it has one. Where the base is configured, the own server moves along: it keeps its place
        relative to the API's documented base.
        """
        base = (base_url or self.base_url).rstrip("/")
        if not server or base == self.base_url:
            return server or base
        own, documented, configured = urlsplit(server), urlsplit(self.base_url), urlsplit(base)
        away = posixpath.relpath(own.path or "/", documented.path or "/")
        path = posixpath.normpath(posixpath.join(configured.path or "/", away)).rstrip("/")
        return urlunsplit((configured.scheme, configured.netloc, path, "", ""))

    # -- operations --------------------------------------------------------------------------------------------------

    def _problem(self, at: str, text: str) -> None:
        self._problems.append(f"{self.file}#{at}: {text}")

    def _check_references(self) -> None:
        """Refuses references of schemas that lead nowhere; every use further on may then follow them blindly."""

        def visit(schema: Any, at: str) -> None:
            if isinstance(schema, dict):
                self._resolved(schema, at)
                for path, child in children(schema):
                    visit(child, at + pointer(path))

        for path, holder, key in schemas_of(self.document):
            visit(holder[key], pointer((*path, key)))
        if self._problems:
            raise InvalidSpec(self._problems)

    def _resolved(self, node: Any, at: str) -> tuple[Any, str]:
        try:
            return resolve(self.document, node, at)
        except KeyError as error:
            self._problem(at, f"reference {error.args[0]} leads nowhere in this document")
            return {}, at

    def _add(self, path: str, method: str, item: dict[str, Any]) -> None:
        node, at = item[method], pointer(("paths", path, method))
        identifier = node.get("operationId") or re.sub(r"[^a-zA-Z0-9]+", "_", f"{method}_{path}").strip("_")
        identifier = re.sub(r"[^a-zA-Z0-9_-]+", "_", identifier)
        if identifier in self.operations:
            self._problem(at, f"operationId {identifier} is used twice")
            return
        arguments: dict[str, Argument] = {}
        declared = [
            (entry, pointer(("paths", path, "parameters", index)))
            for index, entry in enumerate(item.get("parameters") or ())
        ]
        declared += [(entry, f"{at}/parameters/{index}") for index, entry in enumerate(node.get("parameters") or ())]
        by_place: dict[tuple[str, str], tuple[dict[str, Any], str]] = {}
        for entry, where in declared:  # an operation's parameter overrides the path's
            parameter, spot = self._resolved(entry, where)
            if parameter:
                by_place[str(parameter.get("name")), str(parameter.get("in"))] = (parameter, spot)
        for parameter, spot in by_place.values():
            if argument := self._parameter(parameter, spot, arguments):
                arguments[argument.name] = argument
        for name in re.findall(r"\{([^}]+)\}", path):
            if not any(argument.where == "path" and argument.wire_name == name for argument in arguments.values()):
                self._problem(at, f"path parameter {name} is not declared")
        body = self._request_body(node, at, arguments)
        answers = {
            str(status): self._answer(str(status), *self._resolved(response, f"{at}/responses{pointer([status])}"))
            for status, response in (node.get("responses") or {}).items()
        }
        security = node.get("security", self.document.get("security") or [])
        self.operations[identifier] = Operation(
            contract=self,
            id=identifier,
            method=method.upper(),
            path=path,
            spec=at,
            summary=str(node.get("summary", "")),
            description=str(node.get("description", "")),
            arguments=arguments,
            answers=answers,
            security=tuple(tuple(alternative) for alternative in security),
            server=self._server_url(node.get("servers") or item.get("servers") or []),
            tags=tuple(node.get("tags") or ()),
            **body,
        )
        self.inputs[identifier] = self._input_schema(self.operations[identifier])

    def _parameter(self, node: dict[str, Any], at: str, taken: dict[str, Argument]) -> Argument | None:
        where, wire_name = str(node.get("in")), str(node.get("name"))
        if where == "header" and wire_name.lower() in IGNORED_HEADERS:
            return None
        if where not in ("path", "query", "header", "cookie"):
            self._problem(at, f"parameters in {where!r} are unknown")
            return None
        as_json = False
        if "content" in node:
            media_type = next(iter(node["content"]), "")
            as_json = is_json(media_type)
            schema_at = f"{at}/content{pointer([media_type])}/schema"
            if not as_json:
                self._problem(at, f"a parameter with content {media_type or 'of no type'} cannot be expressed")
                return None
        elif "schema" in node:
            schema_at = f"{at}/schema"
        else:
            self._problem(at, "a parameter needs a schema or content")
            return None
        name = ARGUMENT_NAME.sub("", wire_name) or "value"
        name = name if name not in taken else f"{name}_{where}"
        style = str(node.get("style") or ("form" if where in ("query", "cookie") else "simple"))
        schema, _ = self._resolved(lookup(self.document, schema_at), schema_at)
        return Argument(
            name=name,
            wire_name=wire_name,
            where=cast("Where", where),
            spec=at,
            schema=schema_at,
            required=bool(node.get("required")) or where == "path",
            description=str(node.get("description", "")),
            style=style,
            explode=bool(node.get("explode", style == "form")),
            reserved=bool(node.get("allowReserved")),
            as_json=as_json,
            identifying=bool(node.get("x-identifying") or schema.get("x-identifying")),
            secret=schema.get("format") == "password" or bool(schema.get("x-secret")),
        )

    def _request_body(self, node: dict[str, Any], at: str, arguments: dict[str, Argument]) -> dict[str, Any]:
        if "requestBody" not in node:
            return {}
        body, spot = self._resolved(node["requestBody"], f"{at}/requestBody")
        content: dict[str, Any] = body.get("content") or {}
        usable = [
            kind
            for kind in content
            if is_json(kind)
            or kind.startswith(("multipart/", "application/x-www-form-urlencoded"))
            or self._is_raw(content[kind], kind)
        ]
        if not usable:
            if content:
                self._problem(spot, f"no way to send {', '.join(content)}")
            return {}
        first = usable[0]
        media_at = f"{spot}/content{pointer([first])}"
        schema_at = f"{media_at}/schema"
        media, multipart = content[first], first.startswith("multipart/")
        if "schema" not in media:
            media["schema"] = {"type": "string", "contentMediaType": first} if self._is_raw(media, first) else {}
        schema, resolved_at = self._resolved(media["schema"], schema_at)
        required = bool(body.get("required") or (multipart and schema.get("required")))
        alternatives = [
            kind for kind in usable if kind.startswith("multipart/") and content[kind].get("schema") == media["schema"]
        ]
        types = tuple(alternatives) if multipart else (first,)
        properties = (schema.get("properties") or {}) if isinstance(schema, dict) else {}
        wire_names = [name for name, child in properties.items() if not self._resolved(child, "")[0].get("readOnly")]
        names = [ARGUMENT_NAME.sub("", name) or "value" for name in wire_names]
        if multipart:
            names = [f"{name}_part" if name in arguments else name for name in names]
        object_body = (
            isinstance(schema, dict)
            and schema.get("type") == "object"
            and not {key for key in schema if not key.startswith("x-")} - PLAIN_BODY_KEYS
        )
        sendable_flat = is_json(first) or first.startswith(("multipart/", "application/x-www-form-urlencoded"))
        optional_whole = not required and bool(schema.get("required")) if isinstance(schema, dict) else False
        small = (
            schema.get("minProperties", 0) <= 1 if isinstance(schema, dict) else True
        )  # one given name is what makes a body
        flat = (
            object_body
            and small
            and sendable_flat
            and bool(names)
            and not set(names) & set(arguments)
            and len(set(names)) == len(names)
            and not optional_whole
            and "body" not in names
        )
        encoding = media.get("encoding") or {}
        if flat:
            for name, wire_name in zip(names, wire_names, strict=True):
                part = str(encoding.get(wire_name, {}).get("contentType", "")).partition(",")[0].strip()
                arguments[name] = self._body_property(name, wire_name, schema, resolved_at, required, part)
        else:
            if "body" in arguments:
                self._problem(spot, "a parameter called body leaves no name for the body")
            plain = schema if isinstance(schema, dict) else {}
            raw = not sendable_flat and (
                plain.get("contentMediaType") or (first if not TEXT_TYPES.fullmatch(first) else "")
            )
            if multipart:
                self._problem(schema_at, "a multipart body must be a plain object whose properties are the parts")
            arguments["body"] = Argument(
                "body", "body", "body", spot, schema_at, required, str(body.get("description", "")), file=str(raw or "")
            )
        extra = schema.get("additionalProperties", not self.closed_requests) if isinstance(schema, dict) else False
        return {
            "body_types": types,
            "body_spec": resolved_at,
            "body_required": required,
            "body_flat": flat,
            "body_extra": flat and extra is not False and "additionalProperties" in schema,
            "form_styles": {
                name: (str(entry.get("style", "form")), bool(entry.get("explode", True)))
                for name, entry in encoding.items()
            },
            "part_types": {
                name: str(entry["contentType"]).partition(",")[0].strip()
                for name, entry in encoding.items()
                if "contentType" in entry
            },
        }

    def _is_raw(self, media: dict[str, Any], kind: str) -> bool:
        schema, _ = self._resolved(media.get("schema") or {}, "")
        return (
            schema.get("type", "string") == "string" and not kind.startswith("multipart/")
        ) or kind == "application/octet-stream"

    def _body_property(
        self, name: str, wire_name: str, body: dict[str, Any], body_at: str, body_required: bool, part: str
    ) -> Argument:
        """`part` is the media type that the encoding gives this part of a multipart body; where that is no text, it is a file."""
        at = f"{body_at}/properties{pointer([wire_name])}"
        outer = body["properties"][wire_name]
        schema = self._not_null(outer)
        several = self._file_type(self._not_null(schema.get("items") or {}), part) if "items" in schema else ""
        single = self._file_type(schema, part) if "items" not in schema else ""
        return Argument(
            name=name,
            wire_name=wire_name,
            where="body",
            spec=at,
            schema=at,
            required=body_required and wire_name in (body.get("required") or ()),
            description=str(outer.get("description") or schema.get("description") or ""),
            also_query=bool(schema.get("x-also-query")),
            file=single or several,
            files=bool(several),
            part_name=str(schema.get("x-part-name", "")),
            identifying=bool(schema.get("x-identifying")),
            secret=schema.get("format") == "password" or bool(schema.get("x-secret")),
            credential=str(schema.get("x-credential", "")),
        )

    def _not_null(self, schema: Any) -> dict[str, Any]:
        """The schema behind references, and behind an alternative of which the other one is null."""
        plain: dict[str, Any] = self._resolved(schema, "")[0]
        options = [self._resolved(option, "")[0] for key in ("anyOf", "oneOf") for option in plain.get(key) or ()]
        meant = [option for option in options if option.get("type") != "null"]
        return meant[0] if len(meant) == 1 < len(options) else plain

    @staticmethod
    def _file_type(schema: dict[str, Any], part: str = "") -> str:
        """The media type of the file that a text of this schema is, or nothing."""
        if schema.get("type", "string") not in ("string", ["string", "null"]) or "contentEncoding" in schema:
            return ""
        declared = str(schema.get("contentMediaType", ""))
        binary = part and not is_json(part) and not TEXT_TYPES.fullmatch(part)
        return part if binary and declared in ("", "application/octet-stream") else declared

    @staticmethod
    def _is_text(schema: Any) -> bool:
        kinds = schema.get("type", "string") if isinstance(schema, dict) else "string"
        return "string" in ([kinds] if isinstance(kinds, str) else kinds)

    def _answer(self, status: str, node: dict[str, Any], at: str) -> Answer:
        contents = []
        for media_type, media in (node.get("content") or {}).items():
            schema, _ = self._resolved(media.get("schema") or {}, at)
            kind = media_type.partition(";")[0].strip().lower()
            text = media.get("x-wire-format") == "text"
            binary = ""
            if not is_json(kind) and not text:
                declared = self._file_type(schema) if isinstance(schema, dict) else ""
                binary = declared or ("" if TEXT_TYPES.fullmatch(kind) or kind == "*/*" else kind)
            # A schema says nothing about XML, or about a number written as plain text.
            told = "schema" in media and (is_json(kind) or kind == "*/*" or self._is_text(schema))
            schema_at = f"{at}/content{pointer([media_type])}/schema" if told else ""
            contents.append(Content(media_type, schema_at, text, binary))
        success = status.startswith("2") or node.get("x-outcome") == "success"
        return Answer(
            status.upper() if status != "default" else status,
            at,
            str(node.get("description", "")),
            tuple(contents),
            success,
            node.get("x-empty-body", ABSENT),
        )

    def _input_schema(self, operation: Operation) -> dict[str, Any]:
        tree = ASKED[0]
        properties: dict[str, Any] = {
            argument.name: reference(tree, argument.schema) for argument in operation.arguments.values()
        }
        for argument in operation.arguments.values():
            if argument.file:  # the check sees a stand-in; the file itself is looked at afterwards
                properties[argument.name] = (
                    {"type": "array", "items": {"type": "string"}, **self._bounds(argument)}
                    if argument.files
                    else {"type": "string"}
                )
        if len(operation.body_types) > 1:
            properties["content_type"] = {"type": "string", "enum": list(operation.body_types)}
        schema: dict[str, Any] = {
            "type": "object",
            "properties": properties,
            "required": [argument.name for argument in operation.arguments.values() if argument.required],
            "additionalProperties": False,
        }
        if operation.body_extra:
            body = lookup(self.document, operation.body_spec)
            extra = body.get("additionalProperties")
            schema["additionalProperties"] = (
                reference(tree, f"{operation.body_spec}/additionalProperties") if isinstance(extra, dict) else True
            )
            if "propertyNames" in body:
                schema["propertyNames"] = {
                    "anyOf": [{"enum": list(properties)}, reference(tree, f"{operation.body_spec}/propertyNames")]
                }
        return schema

    def _bounds(self, argument: Argument) -> dict[str, Any]:
        schema, _ = self._resolved(lookup(self.document, argument.schema), argument.schema)
        return {key: schema[key] for key in ("minItems", "maxItems") if key in schema}
