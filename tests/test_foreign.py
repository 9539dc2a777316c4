"""Specifications as other people's tools write them: what FastAPI, springdoc, Swashbuckle and hand-written 3.0 documents look like."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from isocenter.agent.toolbox import one_spec
from isocenter.core import ApiClient, Contract, Credentials, InvalidSpec, MissingCredentials
from isocenter.core.auth import authorize
from isocenter.core.tool import derived, portability_problems
from isocenter.core.wire import StreamBody
from isocenter.settings import Settings, load

OK = {"200": {"description": "Fine."}}
Json = dict[str, Any]


def document(paths: Json, version: str = "3.1.0", **more: Any) -> Json:
    return {
        "openapi": version,
        "info": {"title": "Elsewhere", "version": "1"},
        "servers": [{"url": "https://elsewhere.example"}],
        "paths": paths,
        **more,
    }


def one(operation: Json, path: str = "/things", method: str = "post", version: str = "3.1.0", **more: Any) -> Contract:
    operation = {"operationId": "call", "responses": OK, **operation}
    return Contract(document({path: {method: operation}}, version, **more))


def body(media_type: str, schema: Json, **more: Any) -> Json:
    return {"requestBody": {"content": {media_type: {"schema": schema}}, **more}}


def answers(media_types: Json) -> Json:
    content = {media_type: {"schema": schema} for media_type, schema in media_types.items()}
    return {"responses": {"200": {"description": "Fine.", "content": content}}}


async def sent(contract: Contract, **arguments: Any) -> bytes:
    """The body of a checked request."""
    operation = contract.operation("call")
    assert operation.check(arguments) == []
    request = operation.request("https://elsewhere.example", arguments)
    assert isinstance(request.body, StreamBody)
    return b"".join([piece async for piece in request.body])


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_files_as_fastapi_describes_them(tmp_path: Path) -> None:
    binary = {"type": "string", "format": "binary"}
    form = {
        "type": "object",
        "title": "Body_call",
        "required": ["scan", "more"],
        "properties": {
            "scan": {**binary, "title": "Scan"},
            "more": {"type": "array", "items": binary, "title": "More"},
            "cover": {"anyOf": [binary, {"type": "null"}], "title": "Cover"},
            "note": {"type": "string", "title": "Note"},
        },
    }
    components = {"schemas": {"Body_call": form}}
    contract = one(
        body("multipart/form-data", {"$ref": "#/components/schemas/Body_call"}, required=True), components=components
    )
    path = tmp_path / "a.bin"
    path.write_bytes(b"\x00\x01")

    content = await sent(contract, scan=str(path), more=[str(path)] * 2, cover=b"\x02", note="left")

    assert content.count(b"\r\n\r\n\x00\x01\r\n") == 3 and content.count(b'name="more"; filename=') == 2
    assert b'name="cover"; filename="0"\r\nContent-Type: application/octet-stream\r\n\r\n\x02' in content
    assert b'name="note"\r\n\r\nleft' in content
    (tool,) = derived(contract)
    assert "Path of a local file" in tool.input_schema["properties"]["scan"]["description"]


@pytest.mark.anyio
async def test_a_form_whose_author_forgot_to_require_the_body_still_takes_files() -> None:
    schema = {"type": "object", "required": ["file"], "properties": {"file": {"type": "string", "format": "binary"}}}
    contract = one(body("multipart/form-data", schema), version="3.0.3")

    assert b"\r\n\r\n\x07\r\n" in await sent(contract, file=b"\x07")
    assert [finding.pointer for finding in contract.operation("call").check({})] == ["/file"]


@pytest.mark.anyio
async def test_a_form_field_may_be_called_like_a_parameter() -> None:
    schema = {"type": "object", "properties": {"id": {"type": "string"}, "file": {}}}
    parameter = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    operation = body("multipart/form-data", schema, required=True) | {"parameters": [parameter]}
    operation["requestBody"]["content"]["multipart/form-data"]["encoding"] = {"file": {"contentType": "image/png"}}
    contract = one(operation, "/things/{id}")

    content = await sent(contract, id="1", id_part="2", file=b"\x89PNG")

    assert b'name="id"\r\n\r\n2' in content
    assert b'name="file"; filename="0.png"\r\nContent-Type: image/png\r\n\r\n\x89PNG' in content


def test_a_form_that_is_no_plain_object_is_refused_rather_than_sent_wrong() -> None:
    schema = {"allOf": [{"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}]}

    with pytest.raises(InvalidSpec, match="a multipart body must be a plain object"):
        one(body("multipart/form-data", schema, required=True))


@pytest.mark.anyio
@pytest.mark.parametrize("schema", [{"type": "string", "format": "binary"}, {}])
async def test_a_file_may_be_the_whole_body(tmp_path: Path, schema: Json) -> None:
    parameter = {"name": "note", "in": "query", "schema": {"type": "string"}}
    contract = one(
        body("application/octet-stream", schema, required=True) | {"parameters": [parameter]}, version="3.0.3"
    )
    path = tmp_path / "knee.bin"
    path.write_bytes(b"\x00\x01")
    (tool,) = derived(contract)

    assert await sent(contract, body=str(path), note="left") == b"\x00\x01"
    request = contract.operation("call").request("", {"body": str(path), "note": "left"})
    assert request.headers["Content-Type"] == "application/octet-stream" and request.url.endswith("/things?note=left")
    assert "Path of a local file" in tool.input_schema["properties"]["body"]["description"]
    assert [finding.pointer for finding in contract.operation("call").check({"body": "/nowhere"})] == ["/body"]


# -- answers -----------------------------------------------------------------------------------------------------------

THING = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("documented", "media_type", "content", "data", "kinds"),
    [
        ({"*/*": THING}, "application/json", b'{"n": 1}', {"n": 1}, []),  # springdoc
        ({"*/*": THING}, "application/json;charset=UTF-8", b'{"n": "1"}', {"n": "1"}, ["type"]),
        ({"application/json": THING, "application/xml": THING}, "application/xml", b"<n>1</n>", "<n>1</n>", []),
        ({"text/plain": {"type": "integer"}}, "text/plain", b"1", "1", []),
        ({"text/plain": {"type": "string", "pattern": "^a"}}, "text/plain", b"b", "b", ["pattern"]),
        ({"application/json": THING}, "application/json", b'\xef\xbb\xbf{"n": 1}', {"n": 1}, []),  # .NET
        ({"application/json; charset=utf-8": THING}, "Application/JSON", b'{"n": 1}', {"n": 1}, []),
        ({"application/json": {"enum": ["a", "b"]}}, "application/json", b"1", 1, ["enum"]),
    ],
)
def test_answers_are_read_as_what_they_are(
    documented: Json, media_type: str, content: bytes, data: Any, kinds: list[str]
) -> None:
    result = one(answers(documented)).operation("call").read(200, media_type, content)

    assert result.data == data
    assert [finding.kind for finding in result.breaking] == kinds and not result.drift


def test_marked_properties_are_required_where_they_travel() -> None:
    schema = {
        "type": "object",
        "required": ["id", "name", "password"],
        "properties": {
            "id": {"type": "integer", "readOnly": True},
            "name": {"type": "string"},
            "password": {"type": "string", "writeOnly": True},
        },
    }
    nested = {"type": "object", "required": ["user"], "properties": {"user": {"$ref": "#/components/schemas/User"}}}
    components = {"schemas": {"User": schema}}
    both = body("application/json", nested, required=True) | answers({"application/json": nested})
    operation = one(both, components=components).operation("call")
    flat = one(body("application/json", {"$ref": "#/components/schemas/User"}, required=True), components=components)

    assert operation.check({"user": {"name": "a", "password": "b"}}) == []
    assert [finding.pointer for finding in operation.check({"user": {"name": "a"}})] == ["/user/password"]
    assert operation.read(200, "application/json", b'{"user": {"id": 1, "name": "a"}}').findings == ()
    missing = operation.read(200, "application/json", b'{"user": {"name": "a"}}').breaking
    assert [finding.pointer for finding in missing] == ["/user/id"]
    assert list(flat.operation("call").arguments) == ["name", "password"]


# -- what 3.0 says differently -----------------------------------------------------------------------------------------


def test_the_words_of_3_0_keep_their_meaning() -> None:
    parameters = [
        {"name": "age", "in": "query", "schema": {"type": "integer", "minimum": 0, "exclusiveMinimum": True}},
        {"name": "kind", "in": "query", "schema": {"$ref": "#/components/schemas/Kind", "maxLength": 1}},
    ]
    schema = {"type": "object", "properties": {"note": {"type": "string", "nullable": True, "enum": ["a"]}}}
    components = {"schemas": {"Kind": {"type": "string"}}}
    operation = one(
        body("application/json", schema, required=True) | {"parameters": parameters},
        version="3.0.3",
        components=components,
    ).operation("call")

    assert operation.check({"age": 1, "kind": "long", "note": None}) == []
    assert [finding.pointer for finding in operation.check({"age": 0, "note": "b"})] == ["/age", "/note"]


# -- what cannot be used -----------------------------------------------------------------------------------------------

BROKEN = document(
    {
        "x-generator": "by hand",
        "/good": {"get": {"operationId": "good", "responses": OK}},
        "/xml": {"post": {"operationId": "xml", **body("application/xml", {"type": "object"}), "responses": OK}},
        "/path/{id}": {"get": {"operationId": "undeclared", "responses": OK}},
        "/odd": {"get": {"operationId": "odd", **answers({"application/json": {"type": "file"}})}},
        "/mail": {
            "get": {
                "operationId": "mail",
                "parameters": [{"name": "to", "in": "query", "schema": {"type": "string", "pattern": r"^[\w-\.]+$"}}],
                "responses": OK,
            }
        },
    }
)


def test_one_bad_operation_does_not_take_the_others_along(caplog: pytest.LogCaptureFixture) -> None:
    toolbox = one_spec(Settings(), BROKEN, Path("odd.yaml"), "", {})

    assert list(toolbox.tools) == ["good", "mail"]
    assert toolbox.tools["mail"].operation.check({"to": "anyone"}) == []
    for left_out in (
        "no way to send application/xml",
        "path parameter id is not declared",
        "left out: odd: ",
        r"[\w-\.]",
    ):
        assert left_out in caplog.text


def test_whoever_generates_code_hears_of_every_operation_that_cannot_be_expressed() -> None:
    with pytest.raises(InvalidSpec) as refused:
        Contract(BROKEN, file="odd.yaml")

    assert len(refused.value.problems) == 2 and all(
        text.startswith("odd.yaml#/paths/") for text in refused.value.problems
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"paths": {}}, "no operation that can be used"),
        ({"servers": []}, "give --base-url"),
        ({"servers": [{"url": "/api/v3"}]}, "give --base-url"),
        ({"openapi": "2.0"}, "only OpenAPI 3.0 and 3.1"),
        ({"components": {"schemas": {"A": {"properties": {"b": {"$ref": "other.yaml#/B"}}}}}}, "leads nowhere"),
    ],
)
def test_a_document_that_cannot_be_served_says_why(changes: Json, message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        one_spec(Settings(), document({"/a": {"get": {"responses": OK}}}) | changes, Path("spec.yaml"), "", {})


def test_a_relative_server_is_fine_with_an_address() -> None:
    spec = document({"/a": {"get": {"responses": OK}}}, servers=[{"url": "/api/v3"}])

    toolbox = one_spec(Settings(), spec, Path("spec.yaml"), "https://pets.example/api/v3/", {})

    assert toolbox.clients["spec"].base_url == "https://pets.example/api/v3"
    assert list(toolbox.tools) == ["get_a"]


def test_every_name_becomes_one_that_every_host_accepts() -> None:
    parameters = [
        {"name": name, "in": "query", "schema": {"type": "array", "items": {"type": "string"}}}
        for name in ("ids[]", "$filter", "page.size")
    ]
    tree: Json = {"type": "object", "properties": {"parent": {"$ref": "#/components/schemas/Tree"}}}
    long = {"operationId": "API_V2.Patients/GetAllOfTheStudiesOfOnePatient", **answers({"application/json": tree})}
    paths = {
        f"/{n}": {"get": long | {"operationId": f"{long['operationId']}{n}", "parameters": parameters}} for n in "ab"
    }
    tools = derived(Contract(document(paths, components={"schemas": {"Tree": tree}})))

    assert [tool.name for tool in tools] == [
        "api_v2_patients_get_all_of_the_studies_o",
        "api_v2_patients_get_all_of_the_studie_2",
    ]
    assert [problem for tool in tools for problem in portability_problems(tool)] == []
    request = tools[0].operation.request("https://x", {"ids": ["1", "2"], "filter": ["a"]})
    assert request.url == "https://x/a?ids%5B%5D=1&ids%5B%5D=2&%24filter=a"


# -- credentials -------------------------------------------------------------------------------------------------------

SECURED = document(
    {"/a": {"get": {"operationId": "a", "security": [{}, {"Api-Key": []}], "responses": OK}}}
    | {"/b": {"get": {"operationId": "b", "security": [{"Api-Key": []}], "responses": OK}}},
    components={"securitySchemes": {"Api-Key": {"type": "apiKey", "in": "header", "name": "X-Key"}}},
)


def test_a_key_is_found_whatever_the_case_of_its_name() -> None:
    for name in ("Api-Key", "API_KEY", "api_key"):
        operation = Contract(SECURED).operation("b")
        assert authorize(operation, Credentials({name: "secret-1"})).headers == {"X-Key": "secret-1"}
    with pytest.raises(MissingCredentials, match=r"Set ISOCENTER_SPEC_API_KEY, or \[spec\]"):
        authorize(Contract(SECURED, name="spec").operation("b"), Credentials())


def test_going_without_is_the_last_choice() -> None:
    operation = Contract(SECURED).operation("a")

    assert authorize(operation, Credentials({"Api-Key": "secret-1"})).headers == {"X-Key": "secret-1"}
    assert authorize(operation, Credentials()).headers == {}


def test_the_configuration_knows_the_served_document_as_spec(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[spec]\nbase_url = "https://there.example/api"\nApi-Key = "from-file"\n')
    settings = load(["tcia"], file, {"ISOCENTER_SPEC_API_KEY": "from-environment"})

    toolbox = one_spec(settings, SECURED, Path("spec.yaml"), "", {})

    client = toolbox.clients["spec"]
    assert isinstance(client, ApiClient) and client.base_url == "https://there.example/api"
    assert authorize(client.contract.operation("b"), client.credentials).headers == {"X-Key": "from-environment"}


def test_secrets_are_hidden_in_every_spelling() -> None:
    secret = "user:pass/word"
    credentials = Credentials({"basicAuth": secret})
    encoded = base64.b64encode(secret.encode()).decode()

    for text in (f"key={secret}", "?key=user%3Apass%2Fword&a=1", f"Authorization: Basic {encoded}"):
        assert "•••" in credentials.hide(text) and "word" not in credentials.hide(text)
        assert encoded not in credentials.hide(text)
