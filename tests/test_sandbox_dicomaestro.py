"""The DICOMaestro sandbox over a real socket: first what the usage guide promises, then the quirks of `compat_live`."""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.uid import SecondaryCaptureImageStorage

from isocenter import imaging
from isocenter.sandbox import app
from isocenter.sandbox.app import Running, running
from isocenter.sandbox.dicomaestro import reading as dicomaestro_reading
from isocenter.sandbox.dicomaestro import rest as dicomaestro_rest
from isocenter.sandbox.dicomaestro import writing as dicom_writing
from isocenter.sandbox.dicomaestro.files import attachment_name
from isocenter.sandbox.state import Options
from isocenter_clients.dicomaestro import DicomaestroSyncClient

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

READ = "/api/dicom/read/file/"
GENERATE = "/api/dicom/generate/"
KEYS = "/api-keys/"
LIVE_KEYS = "/api/developer/auth/api-keys/"
LIVE_GENERATE = "/api/dicom/write/upload_content/"
CHALLENGE = 'Bearer realm="api"'


@pytest.fixture(scope="module", params=[False, True], ids=["fixed", "live"])
def either(request: pytest.FixtureRequest) -> Running:
    """Both profiles, for what they have in common."""
    name = "live" if request.param else "fixed"
    return request.getfixturevalue(name)  # type: ignore[no-any-return]  # fixtures are looked up by name


@contextmanager
def _serving(root: Path, options: Options) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        # The other services make their synthetic data at the first start, which takes seconds.
        patch.setattr(app, "SERVICES", {"dicomaestro": app.SERVICES["dicomaestro"]})
        with running(root, options) as server:
            yield server


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with _serving(Path(tmp_path_factory.mktemp("fixed")), Options()) as server:
        yield server


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with _serving(Path(tmp_path_factory.mktemp("live")), Options(compat_live=True)) as server:
        yield server


def _open(server: Running, authorization: str | None = None) -> httpx.Client:
    headers = {"Authorization": authorization} if authorization is not None else {}
    # Loading the certificates for HTTPS, which is not used, would take longer than most tests.
    return httpx.Client(base_url=f"{server.url}/dicomaestro", headers=headers, verify=False)


def _key(server: Running) -> str:
    return f"ApiKey {server.sandbox.credentials['dicomaestro']['api_key']}"


@contextmanager
def _register(server: Running, email: str, *, developer: bool = True) -> Iterator[httpx.Client]:
    """A client with the token of a new account, which has its own quota and keys."""
    person = {"email": email, "first_name": "Ada", "last_name": "Example", "password": "long enough"}
    with _open(server) as client:
        assert client.post("/api/auth/register/", json=person).status_code == 201
        tokens = client.post("/api/token/", json={"email": email, "password": "long enough"}).json()
        client.cookies.clear()
        client.headers["Authorization"] = f"Bearer {tokens['access']}"
        if developer:
            assert client.post("/api/developer/profiles/", json={}).status_code == 201
        yield client


def _file(name: str) -> bytes:
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    return Path(path).read_bytes()


def _read(client: httpx.Client, data: bytes, name: str = "a.dcm", **form: str) -> httpx.Response:
    return client.post(READ, files={"file": (name, data, "application/dicom")}, data=form)


def _picture(pixels: NDArray[Any], format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


GREY = np.arange(35, dtype=np.uint8).reshape(5, 7)


def _generate(
    client: httpx.Client,
    form: dict[str, str] | None = None,
    picture: bytes | None = None,
    kind: str = "image/png",
    path: str = GENERATE,
) -> httpx.Response:
    image = ("image.png", _picture(GREY) if picture is None else picture, kind)
    return client.post(path, files={"image": image}, data={"file_name": "example_dicom"} | (form or {}))


def _images(answer: dict[str, Any]) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(image))) for image in answer["Images"]]


def _zip(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


# The whole journey, held to the contract


def test_the_generated_client_finds_the_contract_kept_on_the_whole_journey(fixed: Running, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(_picture(GREY))
    base = f"{fixed.url}/dicomaestro"
    with DicomaestroSyncClient(base) as nobody:
        nobody.register_user(email="j@example.org", first_name="J", last_name="E", password="long enough")
        tokens = nobody.obtain_token(email="j@example.org", password="long enough").value
        assert nobody.refresh_token(refresh=tokens.refresh).value.access
        assert "PatientName" in nobody.list_allowed_fields(fields_contains="Patient").value.allowed_fields
        assert nobody.list_required_field_types().data["requiredFieldTypes"]["Rows"] == "<class 'int'>"
    with DicomaestroSyncClient(base, credentials={"access_token": tokens.access}) as developer:
        developer.create_developer_profile(purpose="testing", organization="My Organization")
        assert developer.get_developer_profile().value.organization == "My Organization"
        key = developer.create_api_key(name="New API Key").data
        assert developer.list_api_keys().value[0].name == "New API Key"
        assert developer.list_api_keys_deployed().value[0].name == "New API Key"
    with DicomaestroSyncClient(base, credentials={"api_key": key["key"]}, roots=(tmp_path,)) as program:
        made = tmp_path / "made.dcm"
        program.generate_dicom_file(file_name="made", image=picture, extra={"PatientID": "PAT-0001"}, save_to=made)
        answer = program.read_dicom_file(file=made, fields="PatientID,Rows", return_format="jpeg")
        assert program.get_activity_summary().value.monthly_total == 2
        assert program.delete_api_key(id=str(key["id"])).status == 204

    assert answer.drift == ()
    assert {name: answer.data[name] for name in ("PatientID", "Rows", "ImageFormat")} == {
        "PatientID": "PAT-0001",
        "Rows": "5",
        "ImageFormat": "JPEG",
    }


# Tokens and accounts


def test_a_token_says_who_and_how_long_and_comes_as_a_cookie_too(either: Running) -> None:
    login = either.sandbox.credentials["dicomaestro"]
    for body in ({"json": login}, {"data": login}, {"files": {name: (None, text) for name, text in login.items()}}):
        with _open(either) as client:
            answer = client.post("/api/token/", **body)
        assert answer.status_code == 200
    tokens = answer.json()

    access, refresh = (jwt.decode(tokens[kind], options={"verify_signature": False}) for kind in ("access", "refresh"))

    assert set(tokens) == {"access", "refresh"}
    assert (access["exp"] - access["iat"], refresh["exp"] - refresh["iat"]) == (900, 2_592_000)
    assert set(access) == {"token_type", "exp", "iat", "jti", "user_id", "first_name", "last_name"}
    assert answer.headers["set-cookie"] == f"refresh_token={tokens['refresh']}; HttpOnly; Max-Age=2592000; Path=/"


def test_a_refresh_token_gives_an_access_token_from_the_body_or_the_cookie(either: Running) -> None:
    login = either.sandbox.credentials["dicomaestro"]
    with _open(either) as client:
        tokens = client.post("/api/token/", json=login).json()
        by_cookie = client.post("/api/token/refresh/")
        client.cookies.clear()
        by_body = client.post("/api/token/refresh/", json={"refresh": tokens["refresh"]})
        missing = client.post("/api/token/refresh/", json={})
        wrong = [
            client.post("/api/token/refresh/", json={"refresh": token})
            for token in ("nonsense", 5, tokens["access"], tokens["refresh"] + "x")
        ]
        fresh = client.get("/api/developer/profiles/", headers={"Authorization": f"Bearer {by_body.json()['access']}"})

    assert (list(by_cookie.json()), list(by_body.json()), fresh.status_code) == (["access"], ["access"], 200)
    assert (missing.status_code, missing.json()) == (401, {"detail": "Refresh token not found"})
    assert [(answer.status_code, answer.json()) for answer in wrong] == [
        (401, {"detail": "Invalid or expired JWT token"})
    ] * 4


def test_tokens_expire_by_the_sandboxs_clock_and_survive_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _serving(tmp_path, Options()) as server, _open(server) as client:
        token = client.post("/api/token/", json=server.sandbox.credentials["dicomaestro"]).json()["access"]
    with _serving(tmp_path, Options()) as server, _open(server, f"Bearer {token}") as client:
        before = client.get("/api/developer/profiles/")
        later = server.sandbox.now() + timedelta(seconds=901)
        monkeypatch.setattr(server.sandbox, "now", lambda: later)
        after = client.get("/api/developer/profiles/")
    mode = (tmp_path / "dicomaestro-jwt-secret").stat().st_mode

    assert before.status_code == 200
    assert (after.status_code, after.json()["code"]) == (401, "token_not_valid")
    assert mode & 0o077 == 0


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/api/token/", {"email": "a@example.org"}, {"password": ["This field is required."]}),
        ("/api/token/", {"email": " ", "password": None},
         {"email": ["This field may not be blank."], "password": ["This field may not be null."]}),
        ("/api/token/", {"email": True, "password": "x"}, {"email": ["Not a valid string."]}),
        ("/api/token/", [1], {"non_field_errors": ["Invalid data. Expected a dictionary, but got list."]}),
        ("/api/auth/register/", {"email": "a@example.org", "first_name": "a\0", "last_name": "b" * 51, "password": "short"},
         {"first_name": ["Null characters are not allowed."],
          "last_name": ["Ensure this field has no more than 50 characters."],
          "password": ["Ensure this field has at least 8 characters."]}),
        ("/api/auth/register/", {"email": "nobody", "first_name": "a", "last_name": "b", "password": "long enough"},
         {"email": ["Enter a valid email address."]}),
    ],
)  # fmt: skip
def test_bad_fields_are_named_one_by_one(either: Running, path: str, body: object, expected: object) -> None:
    with _open(either) as client:
        answer = client.post(path, json=body)

    assert (answer.status_code, answer.json()) == (400, expected)


def test_an_email_can_be_registered_once_and_only_its_password_opens_it(either: Running) -> None:
    person = {"email": "Once@Example.ORG", "first_name": "A", "last_name": "B", "password": "long enough"}
    with _open(either) as client:
        first, second = (client.post("/api/auth/register/", json=person) for _ in range(2))
        again = client.post("/api/auth/register/", json=person | {"email": "Once@example.org"})
        wrong = [
            client.post("/api/token/", json={"email": email, "password": "wrong password"})
            for email in ("Once@Example.ORG", "nobody@example.org")
        ]

    assert (first.status_code, first.json()) == (201, {"message": "User registered successfully!"})
    assert second.status_code == again.status_code == 400
    assert second.json() == {"email": ["user with this email already exists."]}
    assert [(answer.status_code, answer.json()) for answer in wrong] == [
        (401, {"detail": "No active account found with the given credentials"})
    ] * 2
    assert wrong[0].headers["www-authenticate"] == CHALLENGE


def test_no_password_and_no_key_is_stored_readably(fixed: Running) -> None:
    secrets = fixed.sandbox.credentials["dicomaestro"]
    with fixed.sandbox.reader() as db:
        dump = "\n".join(db.iterdump())

    assert secrets["email"] in dump
    assert secrets["password"] not in dump
    assert secrets["api_key"] not in dump


# Who may do what


def test_protected_operations_take_tokens_and_keys_and_nothing_else(either: Running) -> None:
    key = either.sandbox.credentials["dicomaestro"]["api_key"]
    no_key = {"detail": "Invalid or missing API key."}
    with _open(either) as client:
        tokens = client.post("/api/token/", json=either.sandbox.credentials["dicomaestro"]).json()
        client.cookies.clear()
        answers = {
            header: client.get("/api/developer/profiles/", headers={"Authorization": header})
            for header in (
                f"Bearer {tokens['access']}", f"ApiKey {key}", key, f"apikey {key}", f"Api-Key {key}", "Basic YTpi",
                f"Bearer {key}", f"Bearer {tokens['refresh']}", "Bearer", f"Bearer {tokens['access']} x",
            )
        }  # fmt: skip
        nothing = client.get("/api/developer/profiles/")
    statuses = [answer.status_code for answer in answers.values()]
    bodies = [answer.json() for answer in answers.values()]

    assert statuses == [200, 200, 200, 401, 401, 401, 401, 401, 401, 401]
    assert bodies[3:6] == [no_key] * 3
    assert [body["messages"][0]["message"] for body in bodies[6:8]] == [
        "Token is invalid or expired",
        "Token has wrong type",
    ]
    assert {body["code"] for body in bodies[8:]} == {"bad_authorization_header"}
    assert nothing.json() == {"detail": "Authentication credentials were not provided."}
    assert {answer.headers["www-authenticate"] for answer in (nothing, *list(answers.values())[3:])} == {CHALLENGE}


def test_a_token_of_an_account_that_is_gone_is_refused(fixed: Running) -> None:
    secret = (fixed.sandbox.root / "dicomaestro-jwt-secret").read_text(encoding="ascii")
    claims = {"token_type": "access", "exp": fixed.sandbox.now().timestamp() + 60, "user_id": 10**6}
    with _open(fixed, f"Bearer {jwt.encode(claims, secret, 'HS256')}") as client:
        answer = client.get("/api/developer/profiles/")

    assert (answer.status_code, answer.json()) == (401, {"detail": "User not found", "code": "user_not_found"})


def test_where_no_account_is_needed_bad_credentials_are_refused_all_the_same(either: Running) -> None:
    with _open(either, "ApiKey wrong") as client:
        dictionary = client.get("/api/dicom-format/allowed-fields/")
        token = client.post("/api/token/", json=either.sandbox.credentials["dicomaestro"])

    assert (dictionary.status_code, dictionary.json()) == (401, {"detail": "Invalid or missing API key."})
    assert token.status_code == 200


def test_keys_and_usage_are_for_developers(either: Running) -> None:
    with _register(either, "visitor@example.org", developer=False) as visitor:
        answers = [visitor.get(path) for path in (LIVE_KEYS, "/api/developer/profiles/activity-summary/")]
        profile = visitor.get("/api/developer/profiles/")

    assert {answer.status_code for answer in answers} == {403}
    assert answers[0].json() == {"detail": "You do not have permission to perform this action."}
    assert (profile.status_code, profile.json()) == (404, {"detail": "Developer profile does not exist."})


def test_checks_come_in_the_frameworks_order(fixed: Running) -> None:
    """The answer's type before the credentials, those before the method, that before the body."""
    with _open(fixed) as client:
        picky = client.get(READ, headers={"Accept": "image/png"})
        stranger = client.get(READ)
        client.headers["Authorization"] = _key(fixed)
        method = client.get(READ)
        body = client.post(READ, content=b"{}", headers={"Content-Type": "application/json"})

    assert [answer.status_code for answer in (picky, stranger, method, body)] == [406, 401, 405, 415]
    assert picky.json() == {"detail": "Could not satisfy the request Accept header."}
    assert method.json() == {"detail": 'Method "GET" not allowed.'}
    assert method.headers["allow"] == "POST, OPTIONS"
    assert body.json() == {"detail": 'Unsupported media type "application/json" in request.'}


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("application/*;q=0.1", "application/json"),
        ("text/html, */*", "text/html; charset=utf-8"),
        ("text/html, application/json", "application/json"),
    ],
)
def test_the_answer_is_of_the_accepted_type(either: Running, accept: str, kind: str) -> None:
    with _open(either, _key(either)) as client:
        answer = client.get("/api/developer/profiles/", headers={"Accept": accept})

    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)


def test_options_and_head_are_answered(either: Running) -> None:
    with _open(either, _key(either)) as client:
        options = client.options("/api/developer/profiles/")
        head = client.head("/api/developer/profiles/")

    assert options.headers["allow"] == "GET, POST, OPTIONS"
    assert options.json()["parses"] == ["application/json", "application/x-www-form-urlencoded", "multipart/form-data"]
    assert (head.status_code, head.content) == (200, b"")


# Bodies and addresses


@pytest.mark.parametrize("text", ["", "{", "NaN", '{"email": Infinity}'])
def test_a_body_that_is_no_json_is_refused(either: Running, text: str) -> None:
    with _open(either) as client:
        answer = client.post("/api/token/", content=f" {text}", headers={"Content-Type": "application/json"})

    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("JSON parse error - ")


def test_a_form_that_cannot_be_parsed_is_refused(either: Running) -> None:
    with _open(either, _key(either)) as client:
        no_boundary = client.post(READ, content=b"x", headers={"Content-Type": "multipart/form-data"})
        broken = client.post(READ, content=b"nonsense", headers={"Content-Type": "multipart/form-data; boundary=b"})
        nameless = client.post(
            READ,
            content=b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
            headers={"Content-Type": "multipart/form-data; boundary=b"},
        )

    assert no_boundary.json() == {"detail": "Multipart form parse error - Invalid boundary in multipart: None"}
    for answer in (no_boundary, broken, nameless):
        assert answer.status_code == 400
        assert answer.json()["detail"].startswith("Multipart form parse error - ")


def test_a_body_above_the_limit_is_refused_as_the_web_server_does(
    fixed: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dicomaestro_rest.MAX_BODY_BYTES == 100 << 20
    monkeypatch.setattr(dicomaestro_rest, "MAX_BODY_BYTES", 100_000)
    headers = {"Authorization": _key(fixed), "Content-Type": "multipart/form-data; boundary=b"}
    begin = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.dcm"\r\n\r\n'.ljust(1000)
    body = [begin, *[bytes(1000)] * 100]

    with _open(fixed) as client:
        stated = client.post(READ, content=iter(body), headers=headers | {"Content-Length": "101000"})
        chunked = client.post(READ, content=iter(body), headers=headers)

    for answer in (stated, chunked):
        assert (answer.status_code, answer.headers["content-type"]) == (413, "text/html; charset=utf-8")
        assert "<center><h1>413 Request Entity Too Large</h1></center>" in answer.text


def test_without_the_slash_at_the_end_the_answer_is_a_redirect(either: Running) -> None:
    with _open(either) as client:
        answers = [client.post("/api/token?a=1"), client.get(f"{LIVE_KEYS}delete/7")]

    assert {answer.status_code for answer in answers} == {301}
    assert [answer.headers["location"] for answer in answers] == [
        "/dicomaestro/api/token/?a=1",
        f"/dicomaestro{LIVE_KEYS}delete/7/",
    ]


def test_unknown_addresses_are_html_pages(either: Running) -> None:
    with _open(either) as client:
        answers = [client.get("/api/token/verify/"), client.delete("/anything"), client.get("/")]

    for answer in answers:
        assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert "<h1>Not Found</h1><p>The requested resource was not found on this server.</p>" in answer.text


def test_the_deployed_service_knows_the_guides_own_paths_not(fixed: Running, live: Running) -> None:
    for path in (KEYS, f"{KEYS}delete/1/", GENERATE):
        with _open(fixed) as client:
            assert client.get(path).status_code == 401
        with _open(live) as client:
            assert client.get(path).status_code == 404


def test_the_services_own_schema_lists_every_operation(either: Running) -> None:
    with _open(either) as client:
        schema = client.get("/api/schema/")
        pages = [client.get(f"/api/schema/{name}/") for name in ("swagger-ui", "redoc")]

    assert schema.headers["content-type"] == "application/vnd.oai.openapi; charset=utf-8"
    assert f"  {LIVE_KEYS}delete/{{id}}/:\n" in schema.text
    assert all("<code>POST /api/dicom/read/file/</code>" in page.text for page in pages)


# Profile and keys


def test_a_profile_is_made_and_changed_with_201_and_the_request_is_echoed(either: Running) -> None:
    with _register(either, "profile@example.org", developer=False) as client:
        made = client.post("/api/developer/profiles/", json={"purpose": "testing", "organization": "My Organization"})
        changed = client.post("/api/developer/profiles/", json={"purpose": None})
        stored = client.get("/api/developer/profiles/")
        wrong = client.post("/api/developer/profiles/", json={"purpose": "zzz", "organization": "x" * 256})

    assert (made.status_code, made.json()) == (201, {"purpose": "testing", "organization": "My Organization"})
    assert (changed.status_code, changed.json()) == (201, {"purpose": None, "organization": None})
    assert stored.json() == {"purpose": None, "organization": "My Organization"}
    assert (wrong.status_code, wrong.json()) == (
        400,
        {
            "purpose": ['"zzz" is not a valid choice.'],
            "organization": ["Ensure this field has no more than 255 characters."],
        },
    )


def test_a_key_is_shown_once_works_and_can_be_deleted(fixed: Running) -> None:
    with _register(fixed, "keys@example.org") as client, _register(fixed, "other@example.org") as other:
        made = client.post(KEYS, json={"name": "New API Key"})
        named = client.post(KEYS)
        too_long = client.post(KEYS, json={"name": "x" * 51})
        listed = client.get(KEYS)
        key = made.json()
        program = {"Authorization": f"ApiKey {key['key']}"}
        works = client.get("/api/developer/profiles/", headers=program)
        foreign = other.delete(f"{KEYS}delete/{key['id']}/")
        deleted = client.delete(f"{KEYS}delete/{key['id']}/")
        gone = client.delete(f"{KEYS}delete/{key['id']}/")
        refused = client.get("/api/developer/profiles/", headers=program)

    assert (made.status_code, set(key), key["name"]) == (201, {"id", "name", "key"}, "New API Key")
    assert [len(part) for part in key["key"].split(".")] == [8, 32]
    assert named.json()["name"] == "Ada-developer-key"
    assert too_long.json() == {"name": ["Ensure this field has no more than 50 characters."]}
    assert [entry["id"] for entry in listed.json()] == [named.json()["id"], key["id"]]
    assert set(listed.json()[0]) == {"id", "name", "created", "revoked", "expiry_date"}
    assert datetime.fromisoformat(listed.json()[0]["created"]).utcoffset() is not None
    assert works.status_code == 200
    assert (deleted.status_code, deleted.content) == (204, b"")
    for answer in (foreign, gone):
        assert (answer.status_code, answer.json()) == (404, {"detail": "No DeveloperAPIKey matches the given query."})
    assert refused.status_code == 401


# The dictionary


def test_allowed_fields_are_the_sorted_dictionary(fixed: Running) -> None:
    with _open(fixed) as client:
        answer = client.get("/api/dicom-format/allowed-fields/").json()

    assert answer["dicomVersion"] == pydicom.__version__
    assert answer["allowedFields"] == sorted(set(answer["allowedFields"]))
    assert len(answer["allowedFields"]) > 5000
    assert "" not in answer["allowedFields"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"fields__startswith": "Rows", "fields__endswith": "s"}, ["Rows"]),
        ({"fields__contains": "ateOfSecondaryCap"}, ["DateOfSecondaryCapture"]),
        ({"fields__contains": "dateofsecondarycap"}, []),
        ({"fields__regex": "Rows|Column", "fields__endswith": "s"}, ["Columns", "Rows"]),
        ({"fields__regex": "olumns"}, []),
        ({"fields__regex": "(?i)rOWs$"}, ["Rows"]),
    ],
)
def test_filters_must_all_match(either: Running, query: dict[str, str], expected: list[str]) -> None:
    with _open(either) as client:
        answer = client.get("/api/dicom-format/allowed-fields/", params=query)

    assert sorted(answer.json()["allowedFields"]) == expected


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "missing ), unterminated subpattern at position 0"),
        ("x" * 201, "more than 200 characters"),
        ("(?=Pat)", "look-around, back-references and very large repeats are not available here"),
        ("(?:a{1000}){1000}", "look-around, back-references and very large repeats are not available here"),
    ],
)
def test_unusable_patterns_are_refused(either: Running, pattern: str, message: str) -> None:
    with _open(either) as client:
        answer = client.get("/api/dicom-format/allowed-fields/", params={"fields__regex": pattern})

    assert (answer.status_code, answer.json()) == (400, {"fields__regex": [f"Invalid regex pattern: {message}"]})


def test_a_pattern_that_would_keep_pythons_engine_busy_for_years_is_answered_at_once(fixed: Running) -> None:
    with _open(fixed) as client:
        answer = client.get(
            "/api/dicom-format/allowed-fields/", params={"fields__regex": "(([A-Za-z]+)+)+#"}, timeout=5
        )

    assert answer.json()["allowedFields"] == []


def test_field_types_are_printed_python_classes(either: Running) -> None:
    with _open(either) as client:
        types = client.get("/api/dicom-format/required-field-type/").json()["requiredFieldTypes"]

    assert {
        keyword: types[keyword]
        for keyword in ("Rows", "PatientName", "PatientWeight", "StudyInstanceUID", "PixelData", "OffendingElement")
    } == {
        "Rows": "<class 'int'>",
        "PatientName": "<class 'pydicom.valuerep.PersonName'>",
        "PatientWeight": "<class 'pydicom.valuerep.DSfloat'>",
        "StudyInstanceUID": "<class 'pydicom.uid.UID'>",
        "PixelData": "<class 'str'>",
        "OffendingElement": "<class 'tuple'>",
    }


# Reading


def test_a_file_is_read_as_text_and_a_windowed_image(fixed: Running) -> None:
    data = _file("CT_small.dcm")
    with _open(fixed, _key(fixed)) as client:
        answer = _read(client, data)
    ds = pydicom.dcmread(io.BytesIO(data))
    found = answer.json()
    (image,) = _images(found)

    assert answer.status_code == 200
    assert found["PatientName"] == "CompressedSamples^CT1"
    assert found["ImageType"] == "['ORIGINAL', 'PRIMARY', 'AXIAL']"
    assert found["PixelData"] == f"{ds.PixelData[:64]!r}..."
    assert "TransferSyntaxUID" not in found
    assert (found["ImageFormat"], image.format, image.size) == ("PNG", "PNG", (128, 128))
    assert np.array_equal(np.asarray(image), next(imaging.rendered(io.BytesIO(data))))


@pytest.mark.parametrize("place", ["form", "query", "both"])
def test_fields_and_format_are_taken_from_the_form_or_the_query(fixed: Running, place: str) -> None:
    wanted = {"fields": "PatientID,Rows,PatientAge,BodyPartExamined", "return_format": "jpeg"}
    form = {} if place == "query" else wanted if place == "form" else {"fields": "Modality", "return_format": "gif"}
    with _open(fixed, _key(fixed)) as client:
        answer = client.post(
            READ,
            files={"file": ("A.DCM", _file("CT_small.dcm"))},
            data=form,
            params={} if place == "form" else wanted,
        ).json()

    assert list(answer) == ["PatientID", "Rows", "PatientAge", "BodyPartExamined", "ImageFormat", "Images"]
    assert (answer["Rows"], answer["BodyPartExamined"], answer["ImageFormat"]) == ("128", "Unknown", "JPEG")
    assert _images(answer)[0].format == "JPEG"


def test_short_pixel_data_is_not_cut(fixed: Running) -> None:
    with _open(fixed, _key(fixed)) as client:
        answer = _read(client, _generate(client).content).json()

    assert answer["PixelData"] == str(GREY.tobytes() + b"\0")


def test_pixel_data_asked_for_by_name_comes_whole_as_python_prints_it(fixed: Running) -> None:
    for name in ("CT_small.dcm", "SC_rgb_jpeg_dcmtk.dcm"):
        data = _file(name)
        with _open(fixed, _key(fixed)) as client:
            answer = _read(client, data, fields="PixelData").json()

        assert answer["PixelData"] == str(pydicom.dcmread(io.BytesIO(data)).PixelData)


@pytest.mark.parametrize(("format", "count"), [("png", 2), ("gif", 1)])
def test_several_frames_are_several_images_or_one_film(fixed: Running, format: str, count: int) -> None:
    with _open(fixed, _key(fixed)) as client:
        answer = _read(client, _file("SC_rgb_rle_2frame.dcm"), return_format=format).json()
    images = _images(answer)

    assert (answer["ImageFormat"], len(images)) == (format.upper(), count)
    assert sum(getattr(image, "n_frames", 1) for image in images) == 2
    assert images[0].size == (100, 100)


def test_a_file_without_pixels_has_no_images(fixed: Running) -> None:
    with _open(fixed, _key(fixed)) as client:
        answer = _read(client, _file("rtplan.dcm")).json()

    assert answer["Modality"] == "RTPLAN"
    assert not {"Images", "ImageFormat", "PixelData"} & set(answer)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"x", "Invalid file type. Only .dcm, .DCM, .zip are allowed."),
        ("a.dcm", b"", "The submitted file is empty."),
        ("a.dcm", b"nothing of the kind", "Invalid DICOM file"),
        ("a.zip", b"nothing of the kind", "Invalid DICOM file"),
        ("a.zip", _zip(readme=b"no DICOM in here"), "Invalid DICOM file"),
    ],
)
def test_unusable_files_are_refused(fixed: Running, name: str, data: bytes, message: str) -> None:
    with _open(fixed, _key(fixed)) as client:
        answer = _read(client, data, name)

    assert (answer.status_code, answer.json()) == (400, {"file": [message]})


def test_a_damaged_element_does_not_hide_the_others(fixed: Running) -> None:
    data = _file("CT_small.dcm")
    # KVP (0018,0060) with a value representation that does not exist.
    damaged = data.replace(b"\x60\x00DS\x04\x00120 ", b"\x60\x00XY\x04\x00120 ", 1)
    with _open(fixed, _key(fixed)) as client:
        every = _read(client, damaged).json()
        chosen = _read(client, damaged, fields="KVP,Modality").json()

    assert damaged != data
    assert "KVP" not in every
    assert (every["Modality"], chosen["KVP"], chosen["Modality"]) == ("CT", "Unknown", "CT")


def test_problems_of_several_fields_come_together(either: Running) -> None:
    query = {"fields": "Zebra,PatientName,Apple", "return_format": "bmp"}
    with _open(either, _key(either)) as client:
        several = client.post(READ, params=query)
        text = client.post(READ, data={"file": "text"}, params={"fields": "Rows,"})

    assert (several.status_code, several.json()) == (
        400,
        {
            "file": ["This field may not be null."],
            "fields": ["Invalid fields: Apple, Zebra"],
            "return_format": ['"bmp" is not a valid choice.'],
        },
    )
    assert text.json() == {
        "file": ["The submitted data was not a file. Check the encoding type on the form."],
        "fields": ["Fields contain empty values."],
    }


def _undecodable() -> bytes:
    """A JPEG 2000 file whose code stream is cut off soon after the size."""
    ds = pydicom.dcmread(io.BytesIO(_file("JPEG2000.dcm")))
    whole = next(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1))
    ds.PixelData = pydicom.encaps.encapsulate([whole[:60]])
    file = io.BytesIO()
    ds.save_as(file)
    return file.getvalue()


def test_pixels_that_cannot_be_decoded_are_the_files_fault(fixed: Running, live: Running) -> None:
    with _open(fixed, _key(fixed)) as client:
        answer = _read(client, _undecodable())
    with _open(live, _key(live)) as client:
        crash = _read(client, _undecodable())

    assert (answer.status_code, list(answer.json())) == (400, ["file"])
    assert answer.json()["file"][0].startswith("The pixel data cannot be shown: JPEG 2000")
    assert (crash.status_code, crash.headers["content-type"]) == (500, "text/html; charset=utf-8")


def test_a_zip_of_one_file_is_that_file_and_of_several_a_list(fixed: Running) -> None:
    ct, mr = _file("CT_small.dcm"), _file("MR_small.dcm")
    with _open(fixed, _key(fixed)) as client:
        one = _read(client, _zip(a=ct, readme=b"text"), "A.ZIP", fields="Modality").json()
        two = _read(client, _zip(a=ct, b=mr), "a.zip", fields="Modality").json()

    assert (one["Modality"], len(one["Images"])) == ("CT", 1)
    assert [(entry["name"], entry["Modality"], len(entry["Images"])) for entry in two["files"]] == [
        ("a", "CT", 1),
        ("b", "MR", 1),
    ]


def test_an_archive_that_unpacks_to_too_much_is_refused(fixed: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicomaestro_reading, "MAX_MEMBER_BYTES", 60_000)
    monkeypatch.setattr(dicomaestro_reading, "MAX_ARCHIVE_BYTES", 100_000)
    with _open(fixed, _key(fixed)) as client:
        answers = [
            _read(client, _zip(bomb=bytes(60_001)), "a.zip"),
            _read(client, _zip(one=bytes(60_000), two=bytes(60_000)), "a.zip"),
            _read(client, _zip(**{f"m{number}": b"" for number in range(257)}), "a.zip"),
        ]

    for answer in answers:
        assert (answer.status_code, answer.json()) == (400, {"file": ["The archive holds too many or too large files"]})


@pytest.mark.parametrize("place", ["start", "middle"])
def test_an_archive_whose_member_is_damaged_is_refused(fixed: Running, place: str) -> None:
    data = bytearray(_zip(a=_file("CT_small.dcm")))
    at = 100 if place == "start" else len(data) // 2
    data[at : at + 100] = bytes(100)
    with _open(fixed, _key(fixed)) as client:
        answer = _read(client, bytes(data), "a.zip")

    assert (answer.status_code, answer.json()) == (400, {"file": ["Invalid DICOM file"]})


def test_images_that_are_too_many_for_one_answer_are_refused(fixed: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicomaestro_reading, "MAX_ANSWER_BYTES", 10_000)
    with _open(fixed, _key(fixed)) as client:
        answer = _read(client, _file("CT_small.dcm"))

    assert answer.json() == {"file": ["The images are too many or too large for one answer"]}


# Generating


def test_a_generated_file_has_the_pixels_and_the_attributes(fixed: Running) -> None:
    with _open(fixed, _key(fixed)) as client:
        answer = _generate(
            client,
            {
                "PatientName": "John^Doe",
                "StudyDate": "2024-10-13",
                "StudyTime": "14:19:17",
                "SeriesTime": "0830",
                "PatientWeight": "70.5",
                "Rows": "9",
                "SmallestImagePixelValue": "0",
                "Modality": "CT",
            },
        )
    ds = pydicom.dcmread(io.BytesIO(answer.content))

    assert answer.headers["content-type"] == "application/dicom"
    assert answer.headers["content-disposition"] == 'attachment; filename="example_dicom.dcm"'
    assert (ds.PatientName, ds.StudyDate, ds.StudyTime, ds.Modality) == ("John^Doe", "20241013", "141917", "CT")
    assert (ds.SeriesTime, ds.PatientWeight, ds.SmallestImagePixelValue) == ("0830", 70.5, 0)
    assert (ds.SOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID) == (
        SecondaryCaptureImageStorage,
        ds.SOPInstanceUID,
    )
    assert np.array_equal(ds.pixel_array, GREY)


@pytest.mark.parametrize(
    ("pixels", "format"),
    [
        (GREY, "PNG"),
        (np.arange(105, dtype=np.uint8).reshape(5, 7, 3), "PNG"),
        (np.arange(140, dtype=np.uint8).reshape(5, 7, 4), "PNG"),
        (np.arange(35, dtype=np.uint16).reshape(5, 7) * 1000, "PNG"),
        (np.arange(105, dtype=np.uint8).reshape(5, 7, 3), "JPEG"),
    ],
    ids=["grey", "colour", "transparent", "deep", "jpeg"],
)
@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy of dicom3tools")
def test_generated_files_have_no_error_in_the_judgement_of_dciodvfy(
    fixed: Running, tmp_path: Path, pixels: NDArray[Any], format: str
) -> None:
    path = tmp_path / "made.dcm"
    picture = _picture(pixels, format)
    with _open(fixed, _key(fixed)) as client:
        answer = _generate(
            client, {"PatientName": "Doe^Jane", "PatientAge": "040Y"}, picture, f"image/{format.lower()}"
        )
    path.write_bytes(answer.content)

    verdict = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)

    assert "SCImage" in verdict.stdout + verdict.stderr
    assert [line for line in (verdict.stdout + verdict.stderr).splitlines() if line.startswith("Error")] == []


def test_colour_and_depth_survive_generating(fixed: Running) -> None:
    colour = np.arange(105, dtype=np.uint8).reshape(5, 7, 3)
    deep = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1000
    with _open(fixed, _key(fixed)) as client:
        made = [pydicom.dcmread(io.BytesIO(_generate(client, picture=_picture(p)).content)) for p in (colour, deep)]

    assert [ds.PhotometricInterpretation for ds in made] == ["RGB", "MONOCHROME2"]
    assert np.array_equal(made[0].pixel_array, colour)
    assert np.array_equal(made[1].pixel_array, deep)


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        ({"Rows": "x"}, "Rows: A valid integer is required."),
        ({"Rows": "70000"}, "Rows: A valid integer is required."),
        ({"PatientWeight": "heavy"}, "PatientWeight: A valid number is required."),
        ({"PatientWeight": "1" * 17}, "PatientWeight: A valid number is required."),
        ({"EventElapsedTimes": "1e999"}, "EventElapsedTimes: A valid number is required."),
        ({"PatientWeight": "nan"}, "PatientWeight: A valid number is required."),
        ({"StudyDate": "2024-02-30"}, "StudyDate: Date has wrong format. Use one of these formats instead: YYYYMMDD."),
        ({"StudyTime": "25:00:00"}, "StudyTime: Time has wrong format. Use one of these formats instead: HHMMSS."),
        ({"PatientSex": "x" * 20}, "PatientSex: Not a valid value for its representation (CS)."),
        ({"PatientID": "a\nb"}, "PatientID: Control characters are not allowed."),
        ({"Modality": "CT\\MR"}, "Modality: The number of values must be 1."),
        ({"FrameIncrementPointer": "x"}, 'FrameIncrementPointer: Expected a list of items but got type "str".'),
        ({"PixelData": "x"}, "PixelData: Values of this kind (OB or OW) cannot be given as text."),
        ({"ReferencedImageSequence": "x"}, "ReferencedImageSequence: Values of this kind (SQ) cannot be given as text."),
        ({"PatientNmae": "x"}, "PatientNmae: Not a DICOM keyword."),
        ({"TransferSyntaxUID": "1.2"},
         "TransferSyntaxUID: File meta and command elements are not part of an image."),
    ],
)  # fmt: skip
def test_attributes_are_held_to_their_representation(fixed: Running, form: dict[str, str], problem: str) -> None:
    with _open(fixed, _key(fixed)) as client:
        answer = _generate(client, form)

    assert (answer.status_code, answer.json()) == (400, {"non_field_errors": [problem]})


def test_several_values_stand_between_backslashes(fixed: Running) -> None:
    with _open(fixed, _key(fixed)) as client:
        answer = _generate(
            client, {"ImageType": "DERIVED\\SECONDARY", "WindowCenter": "40\\50.5", "PatientComments": "a\nb"}
        )
    ds = pydicom.dcmread(io.BytesIO(answer.content))

    assert (list(ds.ImageType), list(ds.WindowCenter), ds.PatientComments) == (
        ["DERIVED", "SECONDARY"],
        [40, 50.5],
        "a\nb",
    )


@pytest.mark.parametrize(
    ("picture", "kind", "message"),
    [
        (_picture(GREY), "image/bmp", "Unsupported format! Allowed: PNG, JPEG."),
        (b"", "image/png", "The submitted file is empty."),
        (b"nonsense", "image/png",
         "Upload a valid image. The file you uploaded was either not an image or a corrupted image."),
        (_picture(GREY, "BMP"), "image/png",
         "Upload a valid image. The file you uploaded was either not an image or a corrupted image."),
        (b"x" * ((5 << 20) + 1), "image/png", "The file is too large! Maximum size is 5MB."),
    ],
)  # fmt: skip
def test_unusable_pictures_are_refused(fixed: Running, picture: bytes, kind: str, message: str) -> None:
    with _open(fixed, _key(fixed)) as client:
        answer = _generate(client, None, picture, kind)

    assert (answer.status_code, answer.json()) == (400, {"image": [message]})


def test_a_picture_with_too_many_pixels_is_refused(fixed: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_writing, "MAX_PIXELS", 34)
    with _open(fixed, _key(fixed)) as client:
        answer = _generate(client)

    assert answer.status_code == 400
    assert answer.json()["image"][0].startswith("Upload a valid image.")


def test_name_and_picture_are_needed(fixed: Running) -> None:
    with _open(fixed, _key(fixed)) as client:
        nothing = client.post(GENERATE, files={"PatientID": (None, "x")})
        wrong = client.post(GENERATE, files={"file_name": (None, "x" * 256), "image": (None, "text")})
        urlencoded = client.post(GENERATE, data={"file_name": "x"})

    assert nothing.json() == {"file_name": ["This field is required."], "image": ["No file was submitted."]}
    assert wrong.json() == {
        "file_name": ["Ensure this field has no more than 255 characters."],
        "image": ["The submitted data was not a file. Check the encoding type on the form."],
    }
    assert urlencoded.status_code == 415


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        ("plain name", "plain name.dcm"),
        ("already.dcm", "already.dcm"),
        ('../../etc/"x', "_x.dcm"),
        ("C:\\folder\\name", "name.dcm"),
        ("new\r\nSet-Cookie: a=b", "new__Set-Cookie_ a_b.dcm"),
        ("..", "image.dcm"),
    ],
)
def test_names_of_generated_files_are_harmless(wanted: str, given: str) -> None:
    assert attachment_name(wanted) == given


# Quota


def _use_up(server: Running, email: str, path: str, count: int) -> None:
    with server.sandbox.writer() as db:
        db.executemany(
            "INSERT INTO dicomaestro_call (account_id, operation, at)"
            " SELECT id, ?, ? FROM dicomaestro_account WHERE email = ?",
            [(path, server.sandbox.now().isoformat(), email)] * count,
        )


def test_the_1001st_call_of_the_month_is_refused(fixed: Running) -> None:
    with _register(fixed, "busy@example.org") as client:
        _use_up(fixed, "busy@example.org", READ, 999)
        last = _read(client, b"even this counts")
        refused = _read(client, _file("CT_small.dcm"))
        other = _generate(client)
        usage = client.get("/api/developer/profiles/activity-summary/").json()
    now = fixed.sandbox.now()

    assert (last.status_code, refused.status_code, other.status_code) == (400, 429, 200)
    assert refused.json() == {
        "error": "Monthly API request for '/api/dicom/read/file/' limit exceeded.",
        "quota": 1000,
        "requests_used": 1001,
    }
    following = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
    assert abs(int(refused.headers["retry-after"]) - (following - now).total_seconds()) < 60
    assert usage["monthly_total"] == 1001


def test_a_new_month_begins_at_zero(fixed: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    with _register(fixed, "monthly@example.org") as client:
        key = client.post(KEYS, json={}).json()["key"]
        client.headers["Authorization"] = f"ApiKey {key}"
        monkeypatch.setattr(fixed.sandbox, "now", lambda: datetime(2025, 12, 31, 23, 59, 50, tzinfo=UTC))
        _use_up(fixed, "monthly@example.org", READ, 1000)
        december = _read(client, b"x")
        monkeypatch.setattr(fixed.sandbox, "now", lambda: datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC))
        january = _read(client, b"x")
        summary = "/api/developer/profiles/activity-summary/"
        month, past = client.get(summary), client.get(summary, params={"timestamp__year": 2025, "timestamp__month": 12})
        wrong = client.get(summary, params={"timestamp__month": "May"})

    assert (december.status_code, december.headers["retry-after"], january.status_code) == (429, "10", 400)
    assert month.json() == {"daily_activity": [{"day": "2026-01-01", "count": 1}], "monthly_total": 1}
    assert past.json() == {"daily_activity": [{"day": "2025-12-31", "count": 1000}], "monthly_total": 1000}
    assert (wrong.status_code, wrong.json()) == (400, {"timestamp__month": ["Enter a number."]})


# The deployed service's quirks


def test_live_keys_have_text_ids_without_the_real_hash(live: Running) -> None:
    with _register(live, "live-keys@example.org") as client:
        made = client.post(LIVE_KEYS, json={"name": "x" * 100})
        crash = client.post(LIVE_KEYS, json={"name": "x" * 501})
        (listed,) = client.get(LIVE_KEYS).json()
        on_delete = client.get(f"{LIVE_KEYS}delete/anything/")
        on_list = client.delete(LIVE_KEYS)
        deleted = client.delete(f"{LIVE_KEYS}delete/{listed['id'].replace('$', '%24')}/")
        left = client.get(LIVE_KEYS).json()
    key = made.json()

    assert (made.status_code, set(key)) == (201, {"api_key", "name"})
    prefix, _, rest = listed["id"].partition(".")
    algorithm, _, digest = rest.partition("$$")
    assert (prefix, algorithm, len(digest)) == (key["api_key"][:8], "sha512", 128)
    assert digest != hashlib.sha512(key["api_key"].encode()).hexdigest()
    assert datetime.fromisoformat(listed["created"]).utcoffset() is not None
    assert [answer.status_code for answer in (crash, on_list)] == [500, 500]
    assert "<h1>Server Error (500)</h1>" in crash.text
    assert on_delete.json() == [listed]
    assert (deleted.status_code, deleted.content, left) == (204, b"", [])


def test_live_allowed_fields_hold_an_empty_one(live: Running) -> None:
    with _open(live) as client:
        fields = client.get("/api/dicom-format/allowed-fields/").json()["allowedFields"]

    assert "" in fields
    assert fields != sorted(fields)


def test_live_reading_ignores_the_form_and_shows_strips(live: Running) -> None:
    data = _file("CT_small.dcm")
    with _open(live, _key(live)) as client:
        ignored = _read(client, data, fields="Modality", return_format="bmp").json()
        chosen = client.post(
            READ,
            params={"fields": "Modality,BodyPartExamined", "return_format": "jpeg"},
            files={"file": ("a.dcm", data)},
        ).json()
        colour = _read(client, _file("SC_rgb_rle_2frame.dcm"))
        film, strips = (
            client.post(READ, params={"return_format": "gif"}, files={"file": ("a.dcm", _file(name))}).json()
            for name in ("rtdose_rle.dcm", "SC_rgb_rle.dcm")
        )
        colour_strips = _read(client, _file("SC_rgb_rle.dcm")).json()
        archive = _read(client, _zip(a=data), "a.zip")
        plain = _read(client, _file("rtplan.dcm")).json()

    assert ignored["PixelData"] == str(pydicom.dcmread(io.BytesIO(data)).PixelData)
    assert list(chosen) == ["Modality", "BodyPartExamined", "ImageFormat", "Images"]
    assert (chosen["BodyPartExamined"], chosen["ImageFormat"]) == ("Unknown", "PNG")
    assert _images(chosen)[0].size == (1, 128)
    assert [image.size for image in _images(colour.json())] == [(100, 100)] * 2
    assert (archive.status_code, archive.json()) == (400, {"file": ["Invalid DICOM file"]})
    assert "Images" not in plain
    assert [answer["ImageFormat"] for answer in (film, strips, colour_strips)] == ["GIF", "GIF", "PNG"]
    assert [image.size for image in _images(film) + _images(strips)] == [(10, 10), (3, 100)]
    assert [image.size for image in _images(colour_strips)] == [(3, 100)] * 100


def test_live_generating_makes_a_poor_file_and_crashes_on_sequences(live: Running) -> None:
    colour = np.arange(105, dtype=np.uint8).reshape(5, 7, 3)
    with _open(live, _key(live)) as client:
        form = {
            "StudyDate": "2024-10-13",
            "StudyInstanceUID": "1.2",
            "PatientWeight": "70.5",
            "PatientNmae": "x",
        }
        answer = _generate(client, form, _picture(colour), path=LIVE_GENERATE)
        crash = _generate(client, {"ReferencedImageSequence": "x"}, path=LIVE_GENERATE)
        wrong = [
            _generate(client, form, path=LIVE_GENERATE).json()
            for form in (
                {"StudyDate": "13.10.2024", "Rows": "x"},
                {"Rows": "x"},
                {"PatientWeight": "x"},
                {"StudyTime": "noon"},
                {"PatientID": "x" * 256},
                {"FrameIncrementPointer": "x"},
                {"RedPaletteColorLookupTableData": "x"},
            )
        ]
    ds = pydicom.dcmread(io.BytesIO(answer.content))

    assert (ds.PhotometricInterpretation, ds.StudyDate) == ("MONOCHROME2", "2024-10-13")
    assert ds.StudyInstanceUID != "1.2"
    assert "MediaStorageSOPClassUID" not in ds.file_meta
    assert ds.file_meta.MediaStorageSOPInstanceUID == SecondaryCaptureImageStorage
    assert crash.status_code == 500
    assert [body["non_field_errors"] for body in wrong] == [
        ["StudyDate: Date has wrong format. Use one of these formats instead: YYYY-MM-DD."],
        ["Rows: A valid integer is required."],
        ["PatientWeight: A valid number is required."],
        ["StudyTime: Time has wrong format. Use one of these formats instead: hh:mm[:ss[.uuuuuu]]."],
        ["PatientID: Ensure this field has no more than 255 characters."],
        ['FrameIncrementPointer: Expected a list of items but got type "str".'],
        ["RedPaletteColorLookupTableData: The submitted data was not a file. Check the encoding type on the form."],
    ]


def test_the_live_quota_is_counted_after_the_work_for_every_method_and_not_for_visitors(live: Running) -> None:
    with _register(live, "live-busy@example.org") as busy, _register(live, "free@example.org", developer=False) as free:
        _use_up(live, "live-busy@example.org", READ, 999)
        last = busy.options(READ)
        refused = busy.options(READ)
        other = _generate(busy, path=LIVE_GENERATE)
        _use_up(live, "free@example.org", READ, 1000)
        unlimited = _read(free, b"x")
        usage = busy.get("/api/developer/profiles/activity-summary/").json()

    assert (last.status_code, refused.status_code, other.status_code, unlimited.status_code) == (200, 429, 200, 400)
    assert refused.json() == {
        "error": "Monthly API request for 'read-dicom-file' limit exceeded.",
        "quota": 1000,
        "requests_used": 1000,
    }
    assert "retry-after" not in refused.headers
    assert usage["monthly_total"] == 1001
