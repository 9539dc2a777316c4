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
from isocenter.core.formats import FORMATS
from isocenter.core.operation import ABSENT, TEXT_TYPES, Answer, Argument, Content, Operation, Where, is_json
from isocenter.core.rules import RULES
from isocenter.core.schema import (
    ANSWERED,
    ASKED,
    METHODS,
    judging_document,
    lookup,
    pointer,
    reference,
    resolve,
    upgrade,
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
IGNORED_HEADERS = frozenset({"accept", "content-type", "authorization"})
ARGUMENT_NAME = re.compile(r"[^a-zA-Z0-9_.-]")


class Contract:
    """One API's specification, ready to be used.

    `name` is the API's short name, `file` how findings name the document, `document` the (3.1) JSON, `operations` by id,
    `security_schemes` by name, `base_url` the first server with its variables filled in. Raises InvalidSpec listing every
    place that cannot be expressed.
    """

    def __init__(self, document: dict[str, Any], *, name: str = "", file: str = "") -> None:
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
        self.document = upgrade(document)
        self.title: str = str(info.get("title", self.name))
        self.security_schemes: dict[str, dict[str, Any]] = {
            key: resolve(self.document, scheme, "")[0]
            for key, scheme in ((self.document.get("components") or {}).get("securitySchemes") or {}).items()
        }
        self.base_url = self._server_url(self.document.get("servers") or [])
        self.inputs: dict[str, dict[str, Any]] = {}
        self._judges: dict[str, tuple[Any, Any]] = {}
        self._problems: list[str] = []
        self.operations: dict[str, Operation] = {}
        for path, item in (self.document.get("paths") or {}).items():
            for method in METHODS:
                if isinstance(item.get(method), dict):
                    self._add(path, method, item)
        if self._problems:
            raise InvalidSpec(self._problems)

    @classmethod
    def loads(cls, content: bytes) -> Contract:
        """A contract from the JSON that `isocenter generate` writes."""
        return cls(msgspec.json.decode(content))

    def operation(self, name: str) -> Operation:
        """The operation with this id. Raises KeyError."""
        return self.operations[name]

    # -- judging -----------------------------------------------------------------------------------------------------

    @cached_property
    def _compiled(self) -> tuple[dict[str, Any], Any]:
        import jsonschema_rs

        document = {**judging_document(self.document), "x-inputs": self.inputs}
        compiled = jsonschema_rs.validator_map_for(
            document, validate_formats=True, formats=FORMATS, mask="a value", offline=True
        )
        return document, compiled

    def judge(self, ref: str) -> Any:
        """The compiled validator of the schema at a local reference (`#/…`). Compiles the whole contract once, on first use."""
        found = self._compiled[1].get(ref)
        if found is None:
            raise InvalidSpec([f"{self.file}{ref}: the schema cannot be compiled"])
        return found

    def judges(self, schema: str) -> tuple[Any, Any]:
        """For the answer schema at a pointer: the judge itself, and the closed form that finds additions."""
        found = self._judges.get(schema)
        if found is None:
            found = self._judges[schema] = self.judge(f"#{schema}"), self.judge(f"#/{ANSWERED[0]}{schema}")
        return found

    def place(self, at: str) -> Place:
        """Names positions in the words of the specification, for errors of the schema at pointer `at`."""
        base = tuple(part.replace("~1", "/").replace("~0", "~") for part in at.split("/")[1:])
        return Place(self.file, lambda path: lookup(self._compiled[0], pointer(path)), base)

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
        media = content[first]
        required = bool(body.get("required"))
        if "schema" not in media:
            media["schema"] = {"type": "string", "contentMediaType": first} if self._is_raw(media, first) else {}
        schema, resolved_at = self._resolved(media["schema"], schema_at)
        alternatives = [
            kind for kind in usable if kind.startswith("multipart/") and content[kind].get("schema") == media["schema"]
        ]
        types = tuple(alternatives) if first.startswith("multipart/") else (first,)
        names = (
            [ARGUMENT_NAME.sub("", name) or "value" for name in schema.get("properties") or ()]
            if isinstance(schema, dict)
            else []
        )
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
            for name, wire_name in zip(names, schema["properties"], strict=True):
                arguments[name] = self._body_property(name, wire_name, schema, resolved_at, required)
        else:
            if "body" in arguments:
                self._problem(spot, "a parameter called body leaves no name for the body")
            plain = schema if isinstance(schema, dict) else {}
            raw = not sendable_flat and (
                plain.get("contentMediaType") or (first if not TEXT_TYPES.fullmatch(first) else "")
            )
            if first.startswith("multipart/") and plain.get("type") != "object":
                self._problem(schema_at, "a multipart body must be an object whose properties are the parts")
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
        self, name: str, wire_name: str, body: dict[str, Any], body_at: str, body_required: bool
    ) -> Argument:
        at = f"{body_at}/properties{pointer([wire_name])}"
        schema, _ = self._resolved(body["properties"][wire_name], at)
        items, _ = self._resolved(schema.get("items") or {}, at)
        single, several = self._file_type(schema), self._file_type(items) if schema.get("type") == "array" else ""
        outer = body["properties"][wire_name]
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

    @staticmethod
    def _file_type(schema: dict[str, Any]) -> str:
        if schema.get("type", "string") == "string" and "contentEncoding" not in schema:
            return str(schema.get("contentMediaType", ""))
        return ""

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
            contents.append(
                Content(
                    media_type, f"{at}/content{pointer([media_type])}/schema" if "schema" in media else "", text, binary
                )
            )
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
        tree = ASKED[0] if self.closed_requests else ""
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

    # -- lint helpers ------------------------------------------------------------------------------------------------

    def unknown_rules(self) -> list[str]:
        """Names used with `x-rule` that no rule answers to."""
        return sorted({rule for operation in self.operations.values() for _, rule in operation._rules} - RULES.keys())
