"""The simulated CIRCUS DB API over a real socket, on the data set of `wire/circus/world.json`."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from starlette.applications import Starlette

from isocenter.sandbox import circus, phantom
from isocenter.sandbox.circus.identity import hash_password
from isocenter.sandbox.circus.store import Store
from isocenter.sandbox.state import Options, Sandbox

WORLD_FILE = Path(__file__).parent / "wire" / "circus" / "world.json"
WORLD = json.loads(WORLD_FILE.read_text(encoding="utf-8"))
TOKENS: dict[str, str] = WORLD["tokens"]
IDS: dict[str, str] = WORLD["ids"]
A, B = IDS["A"], IDS["B"]
JSON_TYPE = {"content-type": "application/json"}
ULID = re.compile("[0-7][0-9a-hjkmnp-tv-z]{25}")
NO_CASE = (404, "The requested clinicalCase was not found.")
PVD = {"start": 1, "end": 10, "delta": 1}
INTERNAL = (500, "Internal server error.")


class Clock:
    """The sandbox's time; every reading is a millisecond later, so that dates of creation differ."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.time += timedelta(milliseconds=1)
        return self.time


class Service:
    """A served sandbox and the world's users."""

    def __init__(self, sandbox: Sandbox, url: str, clock: Clock) -> None:
        self.sandbox, self.clock = sandbox, clock
        self.client = httpx.Client(base_url=f"{url}/circus", timeout=20)

    def __call__(self, user: str | None, method: str, path: str, json: Any = None, **more: Any) -> httpx.Response:
        """One request as a user of the world, or as the owner of a token."""
        headers = {} if user is None else {"authorization": f"Bearer {TOKENS.get(user, user)}"}
        headers |= more.pop("headers", {})
        if json is not None:
            more["json"] = json
        return self.client.request(method, path, headers=headers, **more)

    def refused(self, user: str | None, method: str, path: str, json: Any = None, **more: Any) -> tuple[int, str]:
        """Status and error text of a request that must not succeed."""
        answer = self(user, method, path, json, **more)
        assert answer.headers["content-type"] == "application/json; charset=utf-8"
        return answer.status_code, answer.json()["error"]

    def found(self, user: str, query: str = "", path: str = "/api/cases") -> list[str]:
        """The ids that a search finds, shortened to their last two characters for the cases of the world."""
        answer = self(user, "GET", f"{path}?{query}")
        assert answer.status_code == 200, answer.text
        key = "caseId" if "/cases" in path else "seriesUid"
        return [item[key][-2:] if key == "caseId" else item[key] for item in answer.json()["items"]]

    def create(self, user: str = "dee", **more: Any) -> str:
        """A new case of project A with one series."""
        series = [{"seriesUid": "1.2.3.1", "partialVolumeDescriptor": PVD}]
        answer = self(user, "POST", "/api/cases", {"projectId": A, "series": series, "tags": [], **more})
        assert answer.status_code == 201, answer.text
        case_id: str = answer.json()["caseId"]
        return case_id

    def finished(self, user: str, task_id: str) -> dict[str, Any]:
        """The task once it has ended; waits for its event, not for time."""
        with self.client.stream(
            "GET", "/api/tasks/report", headers={"authorization": f"Bearer {TOKENS[user]}"}
        ) as events:
            lines = events.iter_lines()
            assert next(lines) == ""
            while (task := self(user, "GET", f"/api/tasks/{task_id}").json())["status"] == "processing":
                next(lines)
        return task  # type: ignore[no-any-return]


@contextmanager
def serving(root: Path, **options: Any) -> Iterator[Service]:
    clock = Clock()
    sandbox = Sandbox(root, Options(**{"circus_world": WORLD_FILE, **options}), clock=clock)
    sandbox.db.executescript(circus.SCHEMA)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> Any:
        await circus.start(sandbox)
        yield
        await sandbox.stop()
        sandbox.close()

    app = Starlette(routes=circus.routes(sandbox), lifespan=lifespan)
    config = uvicorn.Config(app, port=0, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.005)
            assert thread.is_alive()
        port = server.servers[0].sockets[0].getsockname()[1]
        service = Service(sandbox, f"http://127.0.0.1:{port}", clock)
        with service.client:
            yield service
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The world as it is in the file; tests that use it change nothing that others look at."""
    with serving(tmp_path_factory.mktemp("world")) as service:
        yield service


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Another copy of the world, for tests that change it."""
    with serving(tmp_path_factory.mktemp("lab")) as service:
        yield service


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("strict"), strict=True) as service:
        yield service


def image(series: str = "2.25.77", number: int | None = 1, z: float = 0.0, **values: Any) -> bytes:
    """A CT file of 4 x 3 voxels whose stored values are the number of the voxel plus a thousand times its image."""
    pixels = np.arange(12, dtype=np.int16) + 1000 * (number or 0)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    standard: dict[str, Any] = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": f"{series}.{number or 0}",
        "SeriesInstanceUID": series,
        "StudyInstanceUID": "2.25.76",
        "PatientID": "PAT-0001",
        "PatientName": "Phantom^One",
        "PatientBirthDate": "19610203",
        "PatientAge": "060Y",
        "PatientSex": "F",
        "Modality": "CT",
        "SeriesDate": "20210304",
        "SeriesTime": "101112.5",
        "SeriesDescription": "ramp",
        "Rows": 3,
        "Columns": 4,
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "PixelSpacing": [0.5, 0.75],
        "ImagePositionPatient": [0, 0, z],
        "SliceLocation": z,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "PixelData": pixels.tobytes(),
    }
    if number is not None:
        standard["InstanceNumber"] = number
    for keyword, value in (standard | values).items():
        setattr(dataset, keyword, value)
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def upload(service: Service, *images: bytes, domain: str = "d1") -> None:
    for data in images:
        files = {"files": ("image.dcm", data)}
        answer = service("ann", "POST", f"/api/series/domain/{domain}/single", files=files)
        assert (answer.status_code, answer.content) == (201, b""), answer.text


# --- transport (section 1) --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/cases", "/api/CASES", "/api/Cases/", "/api/cases/?unknown=1"])
def test_paths_in_any_case_and_with_a_slash(world: Service, path: str) -> None:
    assert len(world("ann", "GET", path).json()["items"]) == 4


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/nothing"),
        ("GET", "/api"),
        ("GET", "/API/cases"),
        ("GET", "/api/projects"),
        ("PUT", "/api/cases"),
        ("DELETE", "/api/mylists"),
        ("GET", "/api/cases/x/tags"),
        ("GET", "/elsewhere"),
        ("GET", "/elsewhere%0A"),
        ("TRACE", "/api/status"),
    ],
)
def test_unknown_routes_and_verbs_need_no_token(world: Service, method: str, path: str) -> None:
    answer = world(None, method, path)
    assert (answer.status_code, answer.json()) == (404, {"error": "Not found"})
    assert "allow" not in answer.headers


@pytest.mark.parametrize("path", ["/api/cases/list/", "/api/cases/tags"])
def test_words_are_read_as_case_ids(world: Service, path: str) -> None:
    assert world.refused("ann", "GET", path) == NO_CASE


def test_cors_on_every_answer(world: Service) -> None:
    calls: list[tuple[str | None, str, str]] = [
        (None, "GET", "/api/status"),
        (None, "GET", "/api/cases"),
        (None, "GET", "/nowhere"),
        ("ann", "DELETE", "/api/tokens/unknown"),
        (None, "POST", "/login"),
    ]
    for user, method, path in calls:
        headers = world(user, method, path).headers
        assert headers["access-control-allow-origin"] == "*"
        assert headers["access-control-allow-methods"] == "POST, GET, PUT, OPTIONS, PATCH, DELETE"
        assert headers["access-control-allow-headers"] == "Authorization, Content-Type"
        assert headers["access-control-allow-credentials"] == "true"
        assert headers["access-control-max-age"] == "86400"


def test_options_and_head(world: Service) -> None:
    options = world(None, "OPTIONS", "/api/anything")
    assert (options.status_code, options.content) == (200, b"")
    head = world("ann", "HEAD", f"/api/cases/{IDS['a1']}")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) > 100
    assert world(None, "HEAD", "/api/cases").status_code == 401
    events = world("ann", "HEAD", "/api/tasks/report")  # which has no end when it is read
    assert (events.status_code, events.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert world("ann", "HEAD", "/api/tokens/x").status_code == 404


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "Unexpected end of JSON input"),
        ('{"a":}', "Unexpected token } in JSON at position 5"),
        ("5", "invalid JSON, only supports object and array"),
        ("null", "invalid JSON, only supports object and array"),
        ('{"a": NaN}', ""),
        ("[" * 100_000, ""),
        (b'{"a":"\xff"}', ""),
        ('{"a":"' + "x" * (1 << 20) + '"}', "request entity too large"),
    ],
)
@pytest.mark.parametrize("path", ["/api/cases", "/api/nothing"])
def test_malformed_json_is_refused_first(world: Service, content: Any, message: str, path: str) -> None:
    status, error = world.refused(None, "POST", path, content=content, headers=JSON_TYPE)
    assert status == 400
    assert error.startswith(f"Invalid JSON as request body.\n{message}")


def test_a_json_body_may_be_compressed(world: Service) -> None:
    headers = JSON_TYPE | {"content-encoding": "gzip"}
    body = gzip.compress(json.dumps({"caseIds": "x"}).encode())
    status, error = world.refused("ann", "PATCH", "/api/cases/tags", content=body, headers=headers)
    assert (status, error) == (400, "Request data is not correct.")
    bomb = gzip.compress(b"{" + b" " * (2 << 20) + b"}")
    status, error = world.refused("ann", "PATCH", "/api/cases/tags", content=bomb, headers=headers)
    assert (status, error) == (400, "Invalid JSON as request body.\nrequest entity too large")
    status, _ = world.refused("ann", "PATCH", "/api/cases/tags", content=b"{}", headers=headers)
    assert status == 400


@pytest.mark.parametrize(
    ("content_type", "refusal"),
    [
        (None, (400, "Content-type is unspecified.")),
        ("text/plain", (415, "This content-type is unsupported. Expected application/json")),
        ("application/vnd.api+json", (415, "This content-type is unsupported. Expected application/json")),
        ("application/json; charset=utf-8", (400, "Request data is not correct.")),
    ],
)
def test_content_types(world: Service, content_type: str | None, refusal: tuple[int, str]) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    assert world.refused("ann", "POST", "/api/tokens", content="{}", headers=headers) == refusal


def test_the_order_of_checks(world: Service) -> None:
    bad = {"content": "{}", "headers": {"content-type": "text/plain"}}
    path = f"/api/cases/{IDS['a1']}/revision"
    assert world.refused(None, "POST", path, **bad)[0] == 401  # the token before the content type
    assert world.refused("ben", "POST", "/api/cases/export-mhd", **bad)[0] == 415  # that before the privilege
    assert world.refused("ann", "POST", "/api/cases/unknown/revision", {"x": 1}) == NO_CASE
    forbidden = (401, 'You do not have "write" privilege of this project.')
    assert world.refused("ben", "POST", path, {"x": 1}) == forbidden  # the role before the schema
    assert world.refused("ann", "POST", path, {"x": 1}) == (400, "Request data is not correct.")


def test_all_schema_errors_are_listed(world: Service) -> None:
    path = f"/api/cases/{IDS['a1']}/revision"
    label = {"type": "cuboid", "data": {"min": [1, 2], "max": [1, 2, "3"], "color": "#FF0000"}}
    series = [{"seriesUid": "1", "labels": [label]}]
    answer = world("ann", "POST", path, {"description": 5, "attributes": {}, "series": series})
    assert answer.status_code == 400
    errors = answer.json()["validationErrors"]
    assert errors[0] == {
        "keyword": "type",
        "dataPath": ".description",
        "schemaPath": "#/properties/description/type",
        "params": {"type": "string"},
        "message": "should be string",
    }
    assert ("required", "", "should have required property 'status'") in {
        (error["keyword"], error["dataPath"], error["message"]) for error in errors
    }
    at = ".series[0].labels[0]"
    assert {error["schemaPath"] for error in errors if error["dataPath"].startswith(at)} >= {
        "label/properties/data/properties/color/pattern",
        "label/oneOf/0/properties/type/enum",
        "label/oneOf/1/properties/data/properties/min/minItems",
        "label/oneOf/5/properties/data/required",
        "label/oneOf",
    }
    assert [error["dataPath"] for error in errors if error["keyword"] == "format"] == [".series[0].seriesUid"]
    tags = world("ann", "PUT", f"/api/cases/{IDS['a1']}/tags", [5]).json()["validationErrors"]
    assert [(error["dataPath"], error["schemaPath"]) for error in tags] == [("[0]", "#/items/type")]


# --- authentication (section 2) ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "query", "refusal"),
    [
        ({}, "", (401, "Unauthorized request: no authentication given")),
        ({"authorization": "Bearer " + "0" * 40}, "", (401, "Invalid token: access token is invalid")),
        (
            {"authorization": f"Bearer {TOKENS['expired']}"},
            "",
            (401, "Invalid token: access token has expired"),
        ),
        ({"authorization": "Token abc"}, "", (400, "Invalid request: malformed authorization header")),
        (
            {},
            f"?access_token={TOKENS['ann']}",
            (400, "Invalid request: do not send bearer tokens in query URLs"),
        ),
        (
            {"authorization": f"Bearer {TOKENS['ann']}"},
            "?access_token=x",
            (400, "Invalid request: only one authentication method is allowed"),
        ),
    ],
)
def test_tokens_are_checked(world: Service, headers: dict[str, str], query: str, refusal: tuple[int, str]) -> None:
    answer = world(None, "GET", f"/api/cases{query}", headers=headers)
    assert (answer.status_code, answer.json()["error"]) == refusal
    assert "www-authenticate" not in answer.headers


def test_a_token_in_the_body_is_refused(world: Service) -> None:
    text = "Invalid request: content must be application/x-www-form-urlencoded"
    assert world.refused(None, "POST", "/api/tokens", {"access_token": "x"}) == (400, text)


def test_status_and_login_info(world: Service) -> None:
    assert world(None, "GET", "/api/status").json() == {"status": "running"}
    assert world("ann", "GET", "/api/login-info").json() == {"userEmail": "ann@example.com", "loginId": "ann"}
    full = world("dee", "GET", "/api/login-info/full").json()
    assert full["groups"] == ["writers"]
    assert full["domains"] == ["d1", "d2"]
    assert full["globalPrivileges"] == ["personalInfoView"]
    assert [(entry["projectId"], entry["roles"]) for entry in full["accessibleProjects"]] == [
        (A, ["read", "write"]),
        (B, ["read", "write"]),
    ]
    assert full["accessibleProjects"][1]["project"]["projectName"] == "Beta"
    assert full["preferences"] == {"theme": "mode_white", "personalInfoView": True}
    assert (full["defaultDomain"], full["accessiblePlugins"], full["sharedMyLists"]) == (None, [], [])
    assert (full["uploadFileMax"], full["uploadFileSizeMaxBytes"]) == (30, 209715200)
    assert "password" not in full
    assert full["lastLoginTime"] == "2020-01-01T00:00:00.000Z"


def test_permanent_tokens(lab: Service) -> None:
    assert lab("fay", "GET", "/api/tokens").json() == {"items": [], "totalItems": 0, "page": 1}
    for body in ({"description": ""}, {"description": "x" * 33}, {}, {"description": "x", "more": 1}):
        assert lab.refused("fay", "POST", "/api/tokens", body) == (400, "Request data is not correct.")
    made = [lab("fay", "POST", "/api/tokens", {"description": f"token {number}"}) for number in range(11)]
    assert {answer.status_code for answer in made} == {201}
    first = made[0].json()
    assert re.fullmatch("[0-9a-f]{40}", first["tokenId"])
    assert re.fullmatch("[0-9a-f]{40}", first["accessToken"])
    assert lab.refused("fay", "POST", "/api/tokens", {"description": "one more"}) == (
        400,
        "You cannot create more than 10 tokens.",
    )
    listed = lab("fay", "GET", "/api/tokens").json()
    assert (listed["totalItems"], listed["items"][0]["description"]) == (11, "token 0")
    assert set(listed["items"][0]) == {"tokenId", "description", "createdAt", "updatedAt"}
    assert lab(first["accessToken"], "GET", "/api/login-info").json()["loginId"] == "fay"
    assert lab("cyd", "DELETE", f"/api/tokens/{first['tokenId']}").status_code == 204  # the owner is not asked
    assert lab("fay", "DELETE", "/api/tokens/unknown").status_code == 204
    assert lab(first["accessToken"], "GET", "/api/login-info").status_code == 401
    stored = "".join(lab.sandbox.db.iterdump())
    assert made[1].json()["accessToken"] not in stored


def test_login_refresh_and_logout(lab: Service) -> None:
    lab.sandbox.db.execute(
        "UPDATE circus_user SET password = ? WHERE email = 'cyd@example.com'", (hash_password("pa ss"),)
    )
    client = {"client_id": "circus-front", "client_secret": "any"}
    sent = {"grant_type": "password", "username": "cyd", "password": "pa ss", **client}

    def login(**changes: str | None) -> httpx.Response:
        form = {key: value for key, value in (sent | changes).items() if value is not None}
        return lab(None, "POST", "/login", data=form)

    answer = login()
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    session = answer.json()
    assert (session["token_type"], session["expires_in"]) == ("Bearer", 3599)
    assert lab(session["access_token"], "GET", "/api/login-info").json()["userEmail"] == "cyd@example.com"
    assert login(username="cyd@example.com").status_code == 200
    for changes, error in (
        ({"password": "wrong"}, "Invalid grant: user credentials are invalid"),
        ({"username": "ann", "password": "!"}, "Invalid grant: user credentials are invalid"),
        ({"username": "nobody"}, "Invalid grant: user credentials are invalid"),
        ({"client_id": "other"}, "Invalid client: client is invalid"),
        ({"client_secret": ""}, "Invalid client: cannot retrieve client credentials"),
        ({"client_secret": None}, "Invalid client: cannot retrieve client credentials"),
        ({"grant_type": None}, "Missing parameter: `grant_type`"),
        ({"grant_type": "implicit"}, "Unsupported grant type: `grant_type` is invalid"),
        ({"password": None}, "Missing parameter: `password`"),
    ):
        refused = login(**changes)
        assert (refused.status_code, refused.json()) == (400, {"error": error})
    form_only = "Invalid request: content must be application/x-www-form-urlencoded"
    assert lab.refused(None, "POST", "/login", sent) == (400, form_only)
    assert lab.refused(None, "GET", "/login") == (400, "Invalid request: method must be POST")

    refresh = {"grant_type": "refresh_token", "refresh_token": session["refresh_token"], **client}
    renewed = lab(None, "POST", "/login", data=refresh).json()
    assert lab(session["access_token"], "GET", "/api/login-info").status_code == 401
    assert lab(renewed["access_token"], "GET", "/api/login-info").status_code == 200
    assert lab.refused(None, "POST", "/login", data=refresh) == (400, "Invalid grant: refresh token is invalid")
    lab.clock.time += timedelta(hours=1)
    assert (
        lab.refused(renewed["access_token"], "GET", "/api/login-info")[1] == "Invalid token: access token has expired"
    )

    permanent = lab("cyd", "POST", "/api/tokens", {"description": "stays"}).json()["accessToken"]
    assert lab("cyd", "GET", "/api/logout").status_code == 204
    assert lab.refused("cyd", "GET", "/api/login-info")[1] == "Invalid token: access token is invalid"
    assert lab(permanent, "GET", "/api/login-info").status_code == 200


def test_projects(world: Service) -> None:
    project = world("ben", "GET", f"/api/projects/{A}").json()
    assert project["projectName"] == "Alpha"
    assert project["icon"] == {"glyph": "lung", "color": "#ffffff", "backgroundColor": "#000000"}
    assert project["createdAt"] == "2020-01-01T00:00:00.000Z"
    forbidden = (401, 'You do not have "read" privilege of this project.')
    assert world.refused("ben", "GET", f"/api/projects/{B}") == forbidden
    assert world.refused("ben", "GET", "/api/projects/unknown") == forbidden
    listed = world("fay", "GET", "/api/admin/projects?unlimited").json()
    assert (listed["totalItems"], listed["page"], len(listed["items"])) == (2, 1, 2)
    text = "You do not have sufficient privilege to access this resource.manageServer"
    assert world.refused("ann", "GET", "/api/admin/projects") == (401, text)


# --- searching cases (section 4) --------------------------------------------------------------------------------------


def test_a_case_in_a_list(world: Service) -> None:
    envelope = world("ann", "GET", f'/api/cases?filter={{"caseId":"{IDS["a2"]}"}}').json()
    assert (envelope["totalItems"], envelope["page"]) == (1, 1)
    assert envelope["items"][0] == {
        "caseId": IDS["a2"],
        "projectId": A,
        "tags": ["y", "z"],
        "latestRevision": {
            "creator": "ann@example.com",
            "date": "2022-02-05T00:00:00.000Z",
            "description": "second",
            "attributes": {},
            "status": "approved",
            "series": [
                {
                    "seriesUid": "1.2.3.2",
                    "partialVolumeDescriptor": PVD,
                    "labels": [{"type": "point", "name": "p", "data": {"location": [1, 2, 3]}}],
                }
            ],
        },
        "domains": ["d1"],
        "createdAt": "2022-02-01T00:00:00.000Z",
        "updatedAt": "2022-02-05T00:00:00.000Z",
        "patientInfo": {"patientId": "P2", "patientName": "Two^B", "age": 45, "sex": "M"},
    }


@pytest.mark.parametrize(
    ("user", "query", "found"),
    [
        ("ann", "", ["a4", "a3", "a2", "a1"]),  # the newest first
        ("ben", "", ["a4", "a3", "a2", "a1"]),
        ("dee", "", ["b1", "a4", "a3", "a2", "a1"]),
        ("cyd", "", []),
        ("fay", "", []),  # managing the server is no reading
        ("ann", 'filter={"tags":"y"}&sort={"updatedAt":1}', ["a1", "a2"]),
        ("ann", f'filter={{"projectId":"{B}"}}', []),
        ("ann", 'filter={"updatedAt":{"$gte":{"$date":"2022-03-01"}}}', ["a4", "a3"]),
        ("ann", 'filter={"patientInfo.age":{"$gte":50}}', ["a3", "a1"]),
        ("ann", 'filter={"patientInfo.sex":"F","tags":"x"}', ["a4", "a1"]),
        ("eli", 'filter={"patientInfo.patientName":{"$regex":"^two","$options":"i"}}', ["a2"]),  # the wish is no bar
        ("dee", 'filter={"patientInfo.age":{"$gte":0}}', []),  # the role is missing in both projects
        ("dee", 'filter={"$or":[{"patientInfo.age":60},{"tags":"z"}]}', ["a2"]),
        ("ben", 'sort={"patientInfo.age":1,"caseId":1}', ["a1", "a2", "a3", "a4"]),  # sorting is not forbidden
        ("ann", 'sort={"patientInfo.age":1}', ["a4", "a2", "a1", "a3"]),
        ("ann", 'filter={"tags":"x"}&filter={"tags":"y"}', ["a4", "a1"]),  # of repeated parameters the first
        ("ann", "filter=&sort=&limit=&page=", ["a4", "a3", "a2", "a1"]),
        ("ann", "limit=2.9&page=2", ["a2", "a1"]),
        ("ann", "limit=0", ["a4", "a3", "a2", "a1"]),
        ("ann", "page=9", []),
    ],
)
def test_searching_cases(world: Service, user: str, query: str, found: list[str]) -> None:
    assert world.found(user, query) == found


@pytest.mark.parametrize(
    ("user", "query", "refusal"),
    [
        ("ann", "filter=x", (400, "Invalid JSON was passed as a filter string")),
        ("ann", 'filter={"domains":"d1"}', (400, "Bad filter.")),
        ("ann", 'filter={"$or":[]}', (400, "Invalid query")),
        ("ben", 'filter={"patientInfo.age":5}', (400, "You cannot search using patient information.")),
        (
            "ben",
            'filter={"$or":[{"tags":"x","patientInfo.sex":"F"}]}',
            (400, "You cannot search using patient information."),
        ),
        ("ben", 'filter={"patientInfo.age":null}', (400, "Bad filter.")),
        ("ann", "sort=[]", (400, "Bad sort parameter. Non-object passed.")),
        ("ann", "limit=201", (400, "You cannot query more than 200 items at a time.")),
        ("ann", 'filter={"$or":[]}&limit=201', (400, "You cannot query more than 200 items at a time.")),
        ("ann", 'filter={"$or":[]}&limit=-1', (400, "Invalid query")),
        ("ann", "limit=-1", INTERNAL),
        ("ann", "page=0", INTERNAL),
        ("ann", 'sort={"$x":1}', INTERNAL),
        ("ann", 'filter={"tags":{"$regex":"("}}', INTERNAL),
    ],
)
def test_searching_cases_refused(world: Service, user: str, query: str, refusal: tuple[int, str]) -> None:
    assert world.refused(user, "GET", f"/api/cases?{query}") == refusal


def test_a_page_that_is_no_number_is_null(world: Service) -> None:
    envelope = world("ann", "GET", "/api/cases?page=x&limit=1").json()
    assert (envelope["page"], envelope["totalItems"], len(envelope["items"])) == (None, 4, 1)


@pytest.mark.parametrize(("user", "shown"), [("ann", True), ("eli", False), ("ben", False), ("dee", False)])
def test_patient_information_needs_three_conditions(world: Service, user: str, shown: bool) -> None:
    items = world(user, "GET", "/api/cases").json()["items"]
    assert {"patientInfo" in item for item in items} == {shown}
    assert "patientInfo" not in world(user, "GET", f"/api/cases/{IDS['a1']}").json()


def test_searching_a_my_list(world: Service) -> None:
    path = f"/api/cases/list/{IDS['L1']}"
    assert world.found("ann", "", path) == ["a3", "a1"]  # the last added first; b1 is not hers to read
    assert world.found("ann", 'sort={"addedToListAt":1}', path) == ["a1", "a3"]
    assert world.found("ann", 'sort={"createdAt":-1}&filter={"tags":"x"}', path) == ["a1"]
    assert all("addedToListAt" not in item for item in world("ann", "GET", path).json()["items"])
    missing = (404, "This my list does not exist")
    assert world.refused("ann", "GET", f"/api/cases/list/{IDS['L3']}") == missing  # public, but not hers
    assert world.refused("ben", "GET", path) == missing
    assert world.refused("ann", "GET", "/api/cases/list/unknown") == missing
    assert world.refused("ann", "GET", f"/api/cases/list/{IDS['L2']}") == (400, "This my list is not for cases")
    assert world.refused("ann", "GET", "/api/cases/list/unknown?filter=x")[1].startswith("Invalid JSON")


# --- cases (section 5) ------------------------------------------------------------------------------------------------


def test_one_case(world: Service) -> None:
    case = world("ben", "GET", f"/api/cases/{IDS['a2']}").json()
    assert set(case) == {"caseId", "projectId", "tags", "revisions", "domains", "createdAt", "updatedAt"}
    assert [revision["status"] for revision in case["revisions"]] == ["draft", "approved"]
    assert world("ben", "GET", f"/api/cases/{IDS['a4']}").status_code == 200  # domains are not asked
    assert world.refused("ann", "GET", "/api/cases/unknown") == NO_CASE
    assert world.refused("ann", "GET", f"/api/cases/{IDS['b1']}") == (
        401,
        'You do not have "read" privilege of this project.',
    )
    assert world.refused("cyd", "GET", f"/api/cases/{IDS['a1']}")[0] == 401


def test_a_new_case(lab: Service) -> None:
    case_id = lab.create(tags=["a", "a", "", "t" * 40])
    assert ULID.fullmatch(case_id)
    case = lab("dee", "GET", f"/api/cases/{case_id}").json()
    assert (case["projectId"], case["tags"], case["domains"]) == (A, ["a", "a", "", "t" * 40], ["d1"])
    assert case["createdAt"] == case["updatedAt"] == case["revisions"][0]["date"]
    assert re.fullmatch(r"2026-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", case["createdAt"])
    assert [{**revision, "date": None} for revision in case["revisions"]] == [
        {
            "creator": "dee@example.com",
            "date": None,
            "description": "Created new case.",
            "attributes": {},
            "status": "draft",
            "series": [{"seriesUid": "1.2.3.1", "partialVolumeDescriptor": PVD, "labels": []}],
        }
    ]
    assert case_id < lab.create()  # ids follow time
    twice = [{"seriesUid": "1.2.3.1", "partialVolumeDescriptor": PVD}] * 2
    assert lab.create(series=twice)
    assert lab.create(
        series=[{"seriesUid": "1.2.3.2", "partialVolumeDescriptor": {"start": 80, "end": 60, "delta": -5}}]
    )


@pytest.mark.parametrize(
    ("user", "changes", "refusal"),
    [
        ("dee", {"projectId": "unknown"}, (404, "The requested project was not found.")),
        ("dee", {"projectId": None}, (404, "The requested project was not found.")),
        ("dee", {"series": None}, INTERNAL),
        ("dee", {"tags": None}, (500, "Unexpected validation error.")),
        ("dee", {"extra": 1}, (400, "Request data is not correct.")),
        ("dee", {"tags": [1]}, (400, "Request data is not correct.")),
        ("dee", {"series": [{"seriesUid": "1.2.3.1"}]}, (400, "Request data is not correct.")),
        ("dee", ("1.2.3.77", PVD), (400, "Nonexistent series.")),
        ("dee", ("1.2.3.77", "auto"), (404, "The requested series was not found.")),
        ("dee", ("1.2.3.1", "auto"), INTERNAL),  # there are no files
        ("dee", ("1.2.3.1", {"start": 1, "end": 101, "delta": 1}), (400, "Specified range is invalid.")),
        ("dee", ("1.2.3.2", {"start": 41, "end": 60, "delta": 1}), (400, "Specified range is invalid.")),
        ("dee", ("1.2.3.1", {"start": 1, "end": 2_000_000_000, "delta": 1}), (400, "Specified range is invalid.")),
        ("dee", ("1.2.3.9", PVD), INTERNAL),  # a foreign domain
        ("dee", ("1.2.3.1", {"start": 1, "end": 10}), INTERNAL),
        ("dee", ("1.2.3.1", {"start": 0, "end": 10, "delta": 1}), INTERNAL),
        ("dee", ("1.2.3.1", {"start": 10, "end": 1, "delta": 1}), INTERNAL),
        ("dee", ("1.2.3.1", {"start": 1, "end": 10, "delta": 4}), INTERNAL),
        ("dee", ("1.2.3.77", {"start": 0, "end": 10, "delta": 1}), INTERNAL),  # the volume is checked before the series
        ("ben", {}, INTERNAL),  # may not write
        ("cyd", ("1.2.3.77", "auto"), (404, "The requested series was not found.")),
        (
            "dee",
            {
                "series": [
                    {"seriesUid": "1.2.3.1", "partialVolumeDescriptor": PVD},
                    {"seriesUid": "1.2.3.3", "partialVolumeDescriptor": PVD},
                ]
            },
            (400, "All series must belong to the same domain."),
        ),
    ],
)
def test_a_new_case_refused(world: Service, user: str, changes: Any, refusal: tuple[int, str]) -> None:
    if isinstance(changes, tuple):
        changes = {"series": [{"seriesUid": changes[0], "partialVolumeDescriptor": changes[1]}]}
    series = [{"seriesUid": "1.2.3.1", "partialVolumeDescriptor": PVD}]
    body = {"projectId": A, "series": series, "tags": [], **changes}
    sent = {key: value for key, value in body.items() if value is not None}
    assert world.refused(user, "POST", "/api/cases", sent) == refusal


def test_a_case_without_a_known_series_is_invisible(lab: Service) -> None:
    case_id = lab.create(series=[])
    query = f'filter={{"caseId":"{case_id}"}}'
    assert lab("dee", "GET", f"/api/cases/{case_id}").json()["domains"] == []
    assert lab.found("dee", query) == []
    revision = {"description": "", "attributes": {}, "status": "", "series": []}
    for series in ([], [{"seriesUid": "9.9", "labels": []}]):
        assert lab("dee", "POST", f"/api/cases/{case_id}/revision", {**revision, "series": series}).status_code == 201
        assert lab.found("dee", query) == []
    known = [{"seriesUid": "1.2.3.3", "labels": []}]
    assert lab("dee", "POST", f"/api/cases/{case_id}/revision", {**revision, "series": known}).status_code == 201
    assert lab("dee", "POST", f"/api/cases/{case_id}/revision", revision).status_code == 201
    assert lab.found("dee", query) == [case_id[-2:]]  # any revision counts, not only the last
    assert lab("dee", "GET", f"/api/cases/{case_id}").json()["domains"] == []
    assert lab("ann", "GET", f"/api/cases?{query}").json()["items"][0]["patientInfo"]["patientId"] == "P3"


def test_a_revision(lab: Service) -> None:
    case_id = lab.create()
    before = lab("ann", "GET", f"/api/cases/{case_id}").json()
    revision = {
        "description": "all kinds",
        "attributes": {"deep": [1, {"é": "\U0001fac1"}], "big": 1.5},
        "status": "for-review",
        "creator": "",
        "series": [
            {
                "seriesUid": "8.8.8",  # series are not checked
                "partialVolumeDescriptor": {"start": -5, "end": 2.5},
                "labels": [
                    {"type": "voxel", "data": {"voxels": None}, "name": None, "attributes": {"x": 1}},
                    {"type": "ellipsoid", "data": {"min": [3, 3, 3], "max": [1, 1, 1], "alpha": 0.5, "more": True}},
                    {"type": "ellipse", "data": {"min": [0, 0], "max": [1, 1], "z": 4, "color": "#00ff00"}},
                    {"type": "polyline", "data": {"points": [[1, 2], [3, 4]], "z": 0}},
                    {"type": "point", "data": {"location": [1, 2, 3]}},
                    {"type": "ruler", "data": {"section": {}, "start": [0, 0, 0], "end": [1, 1, 1]}},
                ],
            }
        ],
    }
    answer = lab("ann", "POST", f"/api/cases/{case_id}/revision", revision)
    assert (answer.status_code, answer.content) == (201, b"")
    after = lab("ann", "GET", f"/api/cases/{case_id}").json()
    assert after["revisions"][0] == before["revisions"][0]
    assert after["revisions"][1] == {**revision, "creator": "ann@example.com", "date": after["updatedAt"]}
    assert after["updatedAt"] > before["updatedAt"]
    assert (after["domains"], after["tags"], after["createdAt"]) == (
        before["domains"],
        before["tags"],
        before["createdAt"],
    )
    latest = lab("ann", "GET", f'/api/cases?filter={{"caseId":"{case_id}"}}').json()["items"][0]["latestRevision"]
    assert latest == after["revisions"][1]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"date": "2022-01-01T00:00:00Z"}, "You cannot specify revision date."),
        ({"date": "now"}, "Request data is not correct."),
        ({"creator": "ben@example.com"}, "You cannot specify revision creator."),
        ({"status": None}, "Request data is not correct."),
        ({"extra": 1}, "Request data is not correct."),
        ({"series": [{"seriesUid": "1.2"}]}, "Request data is not correct."),
        (
            {"series": [{"seriesUid": "1.2", "labels": [], "partialVolumeDescriptor": "auto"}]},
            "Request data is not correct.",
        ),
        *(
            ({"series": [{"seriesUid": "1.2", "labels": [label]}]}, "Request data is not correct.")
            for label in (
                {"type": "circle", "data": {}},
                {"type": "voxel", "data": {}},
                {"type": "voxel", "data": {"voxels": "A" * 40}},
                {"type": "voxel", "data": {"voxels": None, "origin": [0.5, 0, 0]}},
                {"type": "cuboid", "data": {"min": [1, 2], "max": [1, 2, 3]}},
                {"type": "rectangle", "data": {"min": [1, 2], "max": [1, 2]}},
                {"type": "polyline", "data": {"points": [], "z": 0}},
                {"type": "point", "data": {"location": [1, 2, 3], "alpha": 2}},
                {"type": "point", "data": {"location": [1, 2, 3]}, "more": 1},
                {"type": "ruler", "data": {"start": [0, 0, 0], "end": [1, 1, 1]}},
            )
        ),
        (
            {
                "series": [
                    {
                        "seriesUid": "1.2",
                        "labels": [{"type": "voxel", "data": {"voxels": digest * 40}} for digest in "ab"],
                    }
                ]
            },
            f"Some voxel data are missing ({'a' * 40}, {'b' * 40}). Store them first.",
        ),
    ],
)
def test_a_revision_refused(world: Service, changes: dict[str, Any], error: str) -> None:
    body = {"description": "", "attributes": {}, "status": "", "series": [], **changes}
    sent = {key: value for key, value in body.items() if value is not None}
    assert world.refused("ann", "POST", f"/api/cases/{IDS['a1']}/revision", sent) == (400, error)


def test_no_revision_is_lost(lab: Service) -> None:
    case_id = lab.create()
    body = {"attributes": {}, "status": "", "series": []}

    def post(number: int) -> None:
        path = f"{lab.client.base_url}api/cases/{case_id}/revision"
        headers = {"authorization": f"Bearer {TOKENS['ann']}"}
        assert httpx.post(path, json={**body, "description": str(number)}, headers=headers).status_code == 201

    threads = [threading.Thread(target=post, args=[number]) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    revisions = lab("ann", "GET", f"/api/cases/{case_id}").json()["revisions"]
    assert sorted(revision["description"] for revision in revisions[1:]) == sorted(map(str, range(10)))


def test_replacing_tags(lab: Service) -> None:
    case_id = lab.create()
    before = lab("ann", "GET", f"/api/cases/{case_id}").json()
    tags = ["b", "a", "b", "", "\U0001fac1" * 16]
    assert lab("ann", "PUT", f"/api/cases/{case_id}/tags", tags).status_code == 204
    after = lab("ann", "GET", f"/api/cases/{case_id}").json()
    assert (after["tags"], len(after["revisions"])) == (tags, 1)
    assert after["updatedAt"] > before["updatedAt"]
    path = f"/api/cases/{case_id}/tags"
    lone = b'["\\ud800"]'  # half a surrogate pair, which UTF-8 cannot hold
    assert lab("ann", "PUT", path, content=lone, headers=JSON_TYPE).status_code == 204
    assert b'"tags":["\\ud800"]' in lab("ann", "GET", f"/api/cases/{case_id}").content
    assert lab("ann", "PUT", path, []).status_code == 204
    assert lab.refused("ann", "PUT", path, ["x" * 33]) == (400, "Tag length is too large")
    assert lab.refused("ann", "PUT", path, ["\U0001fac1" * 17]) == (400, "Tag length is too large")  # UTF-16 units
    assert lab.refused("ann", "PUT", path, {"tags": []}) == (400, "Request data is not correct.")
    assert lab.refused("ben", "PUT", path, []) == (401, 'You do not have "write" privilege of this project.')
    assert lab.refused("ann", "PUT", "/api/cases/unknown/tags", []) == NO_CASE


def test_patching_tags(lab: Service) -> None:
    first, second = lab.create(tags=["x", "x", "y"]), lab.create(tags=["y"])
    before = lab("ann", "GET", f"/api/cases/{first}").json()["updatedAt"]

    def patch(operation: str, tags: list[str]) -> list[list[str]]:
        body = {"operation": operation, "tags": tags, "caseIds": [first, second, first], "ignored": 1}
        assert lab("dee", "PATCH", "/api/cases/tags", body).status_code == 204
        cases = [lab("ann", "GET", f"/api/cases/{case_id}").json() for case_id in (first, second)]
        assert cases[0]["updatedAt"] == before  # unlike PUT
        return [case["tags"] for case in cases]

    assert patch("add", ["n", "x", "n"]) == [["x", "x", "y", "n"], ["y", "n", "x"]]
    assert patch("remove", ["x", "absent"]) == [["y", "n"], ["y", "n"]]
    assert patch("set", ["d", "d"]) == [["d", "d"], ["d", "d"]]
    assert patch("set", []) == [[], []]


@pytest.mark.parametrize(
    ("user", "changes", "refusal"),
    [
        ("ann", {"operation": "toggle"}, (400, "Request data is not correct.")),
        ("ann", {"caseIds": []}, (400, "Request data is not correct.")),
        ("ann", {"caseIds": ["unknown"] * 1001}, (400, "Too many case IDs")),
        ("ann", {"tags": ["x"] * 11}, (400, "Too many tags.")),
        ("ann", {"tags": []}, (400, "You must specify at least one tag.")),
        ("ann", {"tags": ["x" * 33]}, (400, "The specified tag is too long.")),
        ("ann", {"caseIds": [IDS["a1"], "unknown"]}, (404, "Some case does not exist")),
        ("ben", {}, (401, "You do not have write access to some of the specified cases.")),
        (
            "ann",
            {"caseIds": [IDS["b1"], "unknown"]},
            (401, "You do not have write access to some of the specified cases."),
        ),
    ],
)
def test_patching_tags_refused(world: Service, user: str, changes: Any, refusal: tuple[int, str]) -> None:
    body = {"operation": "add", "tags": ["new"], "caseIds": [IDS["a1"]], **changes}
    assert world.refused(user, "PATCH", "/api/cases/tags", body) == refusal
    assert world("ann", "GET", f"/api/cases/{IDS['a1']}").json()["tags"] == ["x", "y"]


def test_deleting_a_case(lab: Service) -> None:
    case_id, listed = lab.create(), lab.create()
    assert lab.refused("dee", "DELETE", f"/api/cases/{case_id}") == (
        401,
        'You do not have "moderate" privilege of this project.',
    )
    answer = lab("ann", "DELETE", f"/api/cases/{case_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert lab.refused("ann", "DELETE", f"/api/cases/{case_id}") == NO_CASE
    body = {"operation": "add", "resourceIds": [listed]}
    assert lab("ben", "PATCH", f"/api/mylists/{IDS['L3']}/items", body).status_code == 200
    in_list = (403, "This case is in someone's my list.")
    for query in ("", "?force=true", "?force=01", "?force=1&force=1", "?force="):
        assert lab.refused("ann", "DELETE", f"/api/cases/{listed}{query}") == in_list
    assert lab("ann", "DELETE", f"/api/cases/{listed}?force=1").status_code == 204
    assert listed not in lab("ben", "GET", f"/api/mylists/{IDS['L3']}").json()["resourceIds"]


# --- series (section 7) -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "query", "found"),
    [
        ("ann", "", ["1.2.3.3", "1.2.3.2", "1.2.3.1"]),
        ("ben", "", ["1.2.3.2", "1.2.3.1"]),
        ("cyd", "", []),
        ("ann", 'filter={"seriesUid":{"$in":["1.2.3.1","1.2.3.9"]}}', ["1.2.3.1"]),
        ("ann", 'filter={"seriesDate":{"$lt":{"$date":"2020-01-01"}},"modality":"CT"}&limit=1', ["1.2.3.3"]),
        ("ann", 'filter={"patientInfo.age":{"$gt":50}}&sort={"patientInfo.age":1}', ["1.2.3.1", "1.2.3.3"]),
    ],
)
def test_searching_series(world: Service, user: str, query: str, found: list[str]) -> None:
    assert world.found(user, query, "/api/series") == found


def test_series(world: Service) -> None:
    series = world("ann", "GET", "/api/series/1.2.3.2").json()
    assert (series["images"], series["domain"], series["storageId"]) == ("1-50,60-80", "d1", 0)
    assert series["seriesDate"] == "2019-05-05T01:02:03.000Z"
    assert series["patientInfo"]["patientId"] == "P2"
    for user in ("ben", "eli"):  # without the privilege; without the wish
        assert "patientInfo" not in world(user, "GET", "/api/series/1.2.3.2").json()
        assert all("patientInfo" not in item for item in world(user, "GET", "/api/series").json()["items"])
    forbidden = (403, "You do not have privilege to access this series.")
    assert world.refused("ann", "GET", "/api/series/1.2.3.9") == forbidden
    assert world.refused("ann", "GET", "/api/series/1.2.3.77") == (404, "The requested series was not found.")
    assert world.refused("ann", "GET", '/api/series?filter={"tags":"x"}') == (400, "Bad filter.")
    assert world.found("ann", "", f"/api/series/list/{IDS['L2']}") == ["1.2.3.1"]
    assert world.refused("ann", "GET", f"/api/series/list/{IDS['L1']}") == (400, "This my list is not for series")
    assert world.refused("ben", "GET", f"/api/series/list/{IDS['L2']}") == (404, "This my list does not exist")


@pytest.mark.parametrize(
    ("path", "refusal"),
    [
        ("1.2.3.77/orientation", (404, "The requested series was not found.")),
        ("1.2.3.1/orientation?start=0", (400, "Invalid string")),
        ("1.2.3.1/orientation?end=101", (400, "The given start/end number is out of bounds.")),
        ("1.2.3.9/orientation", (403, "You do not have privilege to access this series.")),
        ("1.2.3.1/orientation", (500, "no image")),
    ],
)
def test_orientation_refused(world: Service, path: str, refusal: tuple[int, str]) -> None:
    assert world.refused("ann", "GET", f"/api/series/{path}") == refusal


def test_orientation_and_automatic_volumes(lab: Service) -> None:
    upload(lab, *(image("2.25.1", number, z=-2.5 * number) for number in (1, 2, 3, 7)))
    upload(lab, *(image("2.25.2", number, z=2.5 * number) for number in (1, 2, 3)))
    upload(lab, image("2.25.3", 1))
    for series, orientation, descriptor in (
        ("2.25.1", "head-first", {"start": 1, "end": 3, "delta": 1}),  # the first run only
        ("2.25.2", "foot-first", {"start": 3, "end": 1, "delta": -1}),
        ("2.25.3", "head-first", {"start": 1, "end": 1, "delta": 1}),
    ):
        assert lab("ann", "GET", f"/api/series/{series}/orientation").json() == {"orientation": orientation}
        case_id = lab.create(series=[{"seriesUid": series, "partialVolumeDescriptor": "auto"}])
        revision = lab("ann", "GET", f"/api/cases/{case_id}").json()["revisions"][0]
        assert revision["series"][0]["partialVolumeDescriptor"] == descriptor
    assert lab("ann", "GET", "/api/series/2.25.1/orientation?start=7&end=2").json() == {"orientation": "head-first"}


def test_uploading_one_file(lab: Service) -> None:
    upload(lab, image("2.25.10", 5), image("2.25.10", 1), image("2.25.10", 4), image("2.25.10", 4))
    series = lab("ann", "GET", "/api/series/2.25.10").json()
    expected = {
        "seriesUid": "2.25.10",
        "studyUid": "2.25.76",
        "width": 4,
        "height": 3,
        "images": "1,4-5",
        "seriesDate": "2021-03-04T10:11:12.500Z",
        "modality": "CT",
        "seriesDescription": "ramp",
        "bodyPart": "",
        "domain": "d1",
        "storageId": 0,
        "patientInfo": {
            "patientId": "PAT-0001",
            "patientName": "Phantom^One",
            "age": 60,
            "birthDate": "1961-02-03",
            "sex": "F",
        },
    }
    assert {key: series[key] for key in expected} == expected
    assert series["parameters"]["PixelSpacing"] == [0.5, 0.75]
    assert series["updatedAt"] > series["createdAt"]
    path = "/api/series/domain/d1/single"
    two = [("files", ("a", image())), ("files", ("b", image()))]
    assert lab.refused("ann", "POST", path, files=two) == (400, "Only one file is allowed.")
    assert lab.refused("ann", "POST", path, files={"files": ("a.zip", b"PK\x03\x04" + b"x" * 200)}) == (
        400,
        "The file is not a DICOM file. You cannot use archived files.",
    )
    broken = (500, "Error while importing a DICOM file. This may mean the uploaded file is broken.")
    assert lab.refused("ann", "POST", path, files={"files": ("a", bytes(128) + b"DICM" + b"x" * 50)}) == broken
    assert lab.refused("ann", "POST", path, files={"files": ("a", image(number=None))}) == broken
    assert lab.refused("ann", "POST", path, files={"other": ("a", image())}) == INTERNAL
    assert lab.refused("ann", "POST", path, {}) == (
        415,
        "This content-type is unsupported. Expected multipart/form-data",
    )
    for foreign in ("/api/series/domain/d9/single", "/api/series/domain/d9"):
        assert lab.refused("ann", "POST", foreign, files={"files": ("a", image())}) == (
            403,
            "You cannot upload to this domain.",
        )


def packed_zip(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return packed.getvalue()


def packed_tar(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def test_uploading_in_the_background(lab: Service) -> None:
    files = [
        ("files", ("a.zip", packed_zip({"../x/1.dcm": image("2.25.20", 1), "readme.txt": b"no DICOM"}))),
        ("files", ("b.tgz", packed_tar({"2": image("2.25.20", 2), "3": image("2.25.20", 3)}))),
        ("files", ("c.dcm", image("2.25.20", 4))),
        ("files", ("d.txt", b"passed over")),
    ]
    answer = lab("ann", "POST", "/api/series/domain/d2", files=files)
    assert answer.status_code == 201
    task = lab.finished("ann", answer.json()["taskId"])
    assert ULID.fullmatch(task["taskId"])
    assert (task["name"], task["status"]) == ("Series import", "finished")
    assert (task["finishedMessage"], task["downloadFileType"]) == ("Imported 4 entities from 4 files.", None)
    series = lab("ann", "GET", "/api/series/2.25.20").json()
    assert (series["images"], series["domain"]) == ("1-4", "d2")
    assert lab.refused("ann", "GET", f"/api/tasks/{task['taskId']}/download") == (
        400,
        "This task is not associated with a downloadable file.",
    )
    broken = [files[2], ("files", ("b.zip", packed_zip({"1": image("2.25.21", 1)})[:-30]))]
    task = lab.finished("ann", lab("ann", "POST", "/api/series/domain/d2", files=broken).json()["taskId"])
    assert (task["status"], task["errorMessage"]) == ("error", "Error while processing file #2, entity #2")


def test_deleting_a_series(lab: Service) -> None:
    upload(lab, image("2.25.30", 1))
    assert lab("ben", "DELETE", "/api/series/2.25.30").status_code == 204  # nobody is asked
    assert lab("ann", "GET", "/api/series/2.25.30").status_code == 404
    assert not (lab.sandbox.root / "circus" / "2.25.30").exists()
    assert lab.refused("ann", "DELETE", "/api/series/2.25.30") == (404, "The requested series was not found.")
    in_use = (400, "There is a case associated with this series.")
    assert lab.refused("ann", "DELETE", "/api/series/1.2.3.2") == in_use


# --- blobs (section 8) ------------------------------------------------------------------------------------------------


def put_blob(service: Service, data: bytes, digest: str | None = None, **headers: str) -> httpx.Response:
    digest = digest or hashlib.sha1(data).hexdigest()
    kinds = {"content-type": "application/octet-stream"} | {
        name.replace("_", "-"): text for name, text in headers.items()
    }
    return service("ben", "PUT", f"/api/blob/{digest}", content=data, headers=kinds)


def test_blobs(lab: Service) -> None:
    data = b"\x80\x01 voxels"
    digest = hashlib.sha1(data).hexdigest()
    for _ in range(2):
        answer = put_blob(lab, data)
        assert (answer.status_code, answer.content) == (201, b"")
    stored = lab("ann", "GET", f"/api/blob/{digest}")
    assert (stored.content, stored.headers["content-type"]) == (data, "application/octet-stream")
    more = b"compressed" * 1000
    digest = hashlib.sha1(more).hexdigest()
    assert put_blob(lab, gzip.compress(more), digest, content_encoding="gzip").status_code == 201
    assert lab("ann", "GET", f"/api/blob/{digest}").content == more
    for answer, refusal in (
        (put_blob(lab, b"other", digest), (400, "Hash mismatch.")),
        (put_blob(lab, b"", digest), (400, "Empty content was sent.")),
        (put_blob(lab, bytes(20 * 1024 * 1024 + 1)), (413, "request entity too large")),
        (
            put_blob(lab, gzip.compress(bytes(30 << 20)), digest, content_encoding="gzip"),
            (413, "request entity too large"),
        ),
        (put_blob(lab, b"no gzip", digest, content_encoding="gzip"), INTERNAL),
        (
            put_blob(lab, b"x", digest, content_type="application/json; charset=utf-8"),
            (400, "Invalid JSON as request body.\ninvalid JSON, only supports object and array"),
        ),
        (
            put_blob(lab, b"x", digest, content_type="text/plain"),
            (415, "This content-type is unsupported. Expected application/octet-stream"),
        ),
        (put_blob(lab, b"x", digest.upper()), (400, "Hash mismatch.")),
    ):
        assert (answer.status_code, answer.json()["error"]) == refusal
    assert put_blob(lab, bytes(20 * 1024 * 1024)).status_code == 201
    for name in ("0" * 40, "..%2F..%2Fsandbox.db", "sandbox.db", digest.upper()):
        assert lab.refused("ann", "GET", f"/api/blob/{name}") == (404, "Not Found")
    assert lab.refused(None, "GET", f"/api/blob/{digest}")[0] == 401


# --- my lists (section 9) ---------------------------------------------------------------------------------------------


def test_my_lists(lab: Service) -> None:
    body = {"name": "Mine", "resourceType": "clinicalCases", "public": False, "ignored": 1}
    answer = lab("dee", "POST", "/api/mylists", body)
    assert answer.status_code == 201
    list_id = answer.json()["myListId"]
    assert ULID.fullmatch(list_id)
    path, items = f"/api/mylists/{list_id}", f"/api/mylists/{list_id}/items"
    (mine,) = lab("dee", "GET", "/api/mylists").json()
    assert {key: mine[key] for key in mine if key != "createdAt"} == {
        "myListId": list_id,
        "resourceType": "clinicalCases",
        "name": "Mine",
        "public": False,
        "editors": [],
    }
    add = {"operation": "add", "resourceIds": [IDS["a1"], IDS["b1"], IDS["a1"]]}
    assert lab("dee", "PATCH", items, add).json() == {"changedCount": 2}
    assert lab("dee", "PATCH", items, add).json() == {"changedCount": 0}
    missing = {"operation": "add", "resourceIds": [IDS["a2"], "unknown"]}
    assert lab.refused("dee", "PATCH", items, missing) == NO_CASE  # and nothing is added
    assert lab("dee", "GET", path).json() == {**mine, "resourceIds": [IDS["a1"], IDS["b1"]]}
    assert lab.found("dee", "", f"/api/cases/list/{list_id}") == ["a1", "b1"]

    assert lab.refused("ben", "GET", path) == (401, "You cannot read the items of this my list.")
    assert lab.refused("ben", "PATCH", items, add) == (401, "You cannot edit the items of this my list.")
    assert lab.refused("ben", "PATCH", path, {"name": "x"}) == (401, "You cannot edit a my list you do not own")
    assert lab.refused("ben", "DELETE", path) == (401, "You cannot delete a my list you do not own")
    for bad in ({}, {"name": ""}, {"public": 1}, {"resourceType": "series"}, {"editors": [{"type": "user"}]}):
        assert lab.refused("dee", "PATCH", path, bad) == (400, "Request data is not correct.")
    nobody = [{"type": "user", "userEmail": "nobody@example.com"}]
    assert lab.refused("dee", "PATCH", path, {"editors": nobody}) == (400, "Invalid email address is included")
    assert lab.refused("dee", "PATCH", path, {"editors": [{"type": "group", "groupId": 99}]}) == (
        400,
        "Invalid group ID is included",
    )
    editors = [{"type": "group", "groupId": 20}, {"type": "user", "userEmail": "fay@example.com"}]
    assert lab("dee", "PATCH", path, {"editors": editors, "name": "Ours"}).status_code == 204
    remove = {"operation": "remove", "resourceIds": [IDS["b1"], "unknown"]}
    assert lab("ben", "PATCH", items, remove).json() == {"changedCount": 1}  # by group
    assert lab("fay", "PATCH", items, remove).json() == {"changedCount": 0}  # by name
    assert lab.refused("ben", "GET", path)[0] == 401  # editing is not reading
    shared = lab("fay", "GET", "/api/login-info/full").json()["sharedMyLists"]
    assert [(entry["owner"], entry["sharedMyList"]["name"]) for entry in shared] == [("dee@example.com", "Ours")]
    assert lab("dee", "PATCH", path, {"public": True}).status_code == 204
    assert lab("ben", "GET", path).json()["resourceIds"] == [IDS["a1"]]
    assert lab("dee", "DELETE", path).status_code == 204
    assert lab.refused("dee", "GET", path) == (404, "This my list does not exist")
    assert lab("dee", "GET", "/api/mylists").json() == []


def test_my_lists_refused(lab: Service) -> None:
    bad: dict[str, Any]
    for bad in (
        {"name": "x", "public": True},
        {"name": "x", "resourceType": "cases", "public": True},
        {"name": "x" * 65, "resourceType": "series", "public": True},
    ):
        assert lab.refused("ann", "POST", "/api/mylists", bad) == (400, "Request data is not correct.")
    items = f"/api/mylists/{IDS['L2']}/items"
    for bad in (
        {"operation": "add", "resourceIds": []},
        {"operation": "add", "resourceIds": ["1.2.3.1"] * 1001},
        {"operation": "set", "resourceIds": ["1.2.3.1"]},
    ):
        assert lab.refused("ann", "PATCH", items, bad) == (400, "Request data is not correct.")
    add: dict[str, Any] = {"operation": "add", "resourceIds": ["1.2.3.77"]}
    assert lab.refused("ann", "PATCH", items, add) == (404, "The requested series was not found.")
    add["resourceIds"] = [IDS["a1"]]
    jobs = lab("ann", "POST", "/api/mylists", {"name": "j", "resourceType": "pluginJobs", "public": False}).json()
    assert lab.refused("ann", "PATCH", f"/api/mylists/{jobs['myListId']}/items", add) == (
        404,
        "The requested pluginJob was not found.",
    )


def test_a_my_list_holds_a_thousand(lab: Service) -> None:
    body = {"name": "full", "resourceType": "series", "public": False}
    list_id = lab("ann", "POST", "/api/mylists", body).json()["myListId"]
    rows = [(list_id, f"1.{number}", "2026-01-01T00:00:00.000Z") for number in range(999)]
    sql = "INSERT INTO circus_list_item (list_id, resource_id, created_at) VALUES (?, ?, ?)"
    lab.sandbox.db.executemany(sql, rows)
    add: dict[str, Any] = {"operation": "add", "resourceIds": ["1.2.3.1", "1.2.3.2"]}
    path = f"/api/mylists/{list_id}/items"
    assert lab.refused("ann", "PATCH", path, add) == (400, "The number of items cannot exceed 1000")
    assert lab("ann", "PATCH", path, {**add, "resourceIds": ["1.2.3.1"]}).json() == {"changedCount": 1}


# --- tasks and exports (sections 5 and 10) ----------------------------------------------------------------------------


def test_tasks(world: Service) -> None:
    task1, task2 = "task1000000000000000000001", "task2000000000000000000002"
    envelope = world("ann", "GET", "/api/tasks").json()
    assert ([task["taskId"] for task in envelope["items"]], envelope["totalItems"]) == ([task2, task1], 2)
    assert world("ben", "GET", "/api/tasks").json() == {"items": [], "totalItems": 0, "page": 1}
    query = 'filter={"status":"finished","dismissed":false}&sort={"taskId":1}&limit=1'
    assert [task["taskId"] for task in world("ann", "GET", f"/api/tasks?{query}").json()["items"]] == [task1]
    assert world.refused("ann", "GET", "/api/tasks?filter=x") == (400, "Filter string could not be parsed.")
    assert world.refused("ann", "GET", '/api/tasks?filter={"name":"x"}') == (400, "Bad filter.")
    assert world("ann", "GET", f"/api/tasks/{task1}").json() == {
        "taskId": task1,
        "userEmail": "ann@example.com",
        "name": "Export a case as MHD",
        "status": "finished",
        "errorMessage": None,
        "finishedMessage": "Exported 1 case(s).",
        "endedAt": "2022-07-01T00:00:05.000Z",
        "downloadFileType": "application/zip",
        "dismissed": False,
        "createdAt": "2022-07-01T00:00:00.000Z",
        "updatedAt": "2022-07-01T00:00:00.000Z",
    }
    assert world.refused("ann", "GET", "/api/tasks/unknown") == (404, "The requested task was not found.")
    for method, path in (("GET", task1), ("GET", f"{task1}/download"), ("PATCH", task1)):
        body = {"dismissed": True} if method == "PATCH" else None
        assert world.refused("ben", method, f"/api/tasks/{path}", body) == (401, "You cannot access this task.")
    gone = f"The requested download file for the task {task1} is no longer available."
    assert world.refused("ann", "GET", f"/api/tasks/{task1}/download") == (404, gone)
    for bad in ({}, {"dismissed": 1}, {"dismissed": True, "status": "error"}, [True]):
        assert world.refused("ann", "PATCH", f"/api/tasks/{task2}", bad) == (400, "Bad Request")


@pytest.mark.parametrize(
    ("user", "body", "refusal"),
    [
        (
            "ben",
            {"caseIds": [5]},
            (401, "You do not have sufficient privilege to access this resource.downloadVolume"),
        ),
        ("ann", {}, (400, "Request data is not correct.")),
        ("ann", {"caseIds": [IDS["a1"]] * 101}, (400, "Request data is not correct.")),
        ("ann", {"caseIds": [{"caseId": IDS["a1"], "revisionIndex": -1}]}, (400, "Request data is not correct.")),
        ("ann", {"caseIds": [], "labelPackType": "both"}, (400, "Request data is not correct.")),
        ("ann", {"caseIds": [IDS["a1"], "unknown"]}, (400, "Some cases do not exist.")),
        ("ann", {"caseIds": [{"revisionIndex": 0}]}, (400, "Some cases do not exist.")),
        ("ann", {"caseIds": [IDS["b1"]]}, (401, "You do not have enough read privilege for some cases.")),
    ],
)
def test_exports_refused(world: Service, user: str, body: dict[str, Any], refusal: tuple[int, str]) -> None:
    assert world.refused(user, "POST", "/api/cases/export-mhd", body) == refusal


def export(service: Service, case_ids: list[Any], **more: Any) -> dict[str, Any]:
    answer = service("ann", "POST", "/api/cases/export-mhd", {"caseIds": case_ids, "ignored": 1, **more})
    assert answer.status_code == 201, answer.text
    return service.finished("ann", answer.json()["taskId"])


def unpack(answer: httpx.Response) -> list[tuple[str, bytes]]:
    """The members of a downloaded archive in order, repeated names included."""
    if answer.headers["content-type"] == "application/zip":
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            return [(info.filename, archive.read(info)) for info in archive.infolist()]
    with tarfile.open(fileobj=io.BytesIO(answer.content), mode="r:gz") as archive:
        return [(member.name, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def labelled(lab: Service) -> str:
    """A case on a volume of 4 x 3 x 2 voxels with labels of every kind that an export looks at."""
    upload(lab, image("2.25.40", 1, z=10.0), image("2.25.40", 2, z=7.5))
    # Two boxes of 2 x 2 x 1 and 3 x 1 x 2 voxels, first voxel in the highest bit; the second reaches out of the volume.
    first, second = b"\xb0", b"\xfc"
    for data in (first, second):
        assert put_blob(lab, data).status_code == 201

    def voxels(data: bytes, origin: list[int], size: list[int]) -> dict[str, Any]:
        return {"type": "voxel", "data": {"voxels": hashlib.sha1(data).hexdigest(), "origin": origin, "size": size}}

    labels = [
        {"type": "voxel", "data": {"voxels": None}},
        voxels(first, [1, 1, 0], [2, 2, 1]),
        {"type": "point", "data": {"location": [0, 0, 0]}},
        voxels(second, [2, 1, 0], [3, 1, 2]),
    ]
    case_id = lab.create(
        series=[{"seriesUid": "2.25.40", "partialVolumeDescriptor": {"start": 1, "end": 1, "delta": 1}}]
    )
    revision = {
        "description": "labelled",
        "attributes": {"größe": 1},
        "status": "draft",
        "series": [{"seriesUid": "2.25.40", "labels": labels}],
    }
    assert lab("ann", "POST", f"/api/cases/{case_id}/revision", revision).status_code == 201
    return case_id


VOLUME = np.concatenate([np.arange(12) + 1000 - 1024, np.arange(12) + 2000 - 1024]).astype("<i2").tobytes()
# Rows of 4 voxels: y 0 to 2 of the first image, then of the second.
FIRST = bytes([0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0] + [0] * 12)
SECOND = bytes([0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0]) * 2


def header(kind: str, data: str, end: str = "\n") -> bytes:
    lines = [
        "ObjectType = Image",
        "NDims = 3",
        "DimSize = 4 3 2",
        f"ElementType = {kind}",
        "ElementSpacing = 0.5 0.75 2.5",
        "ElementByteOrderMSB = False",
        f"ElementDataFile = {data}",
    ]
    return "".join(line + end for line in lines).encode()


def test_exporting_isolated_labels(lab: Service, labelled: str) -> None:
    task = export(lab, [labelled])
    assert (task["name"], task["finishedMessage"]) == ("Export a case as MHD", "Exported 1 case(s).")
    assert task["downloadFileType"] == "application/x-tgz"
    path = f"/api/tasks/{task['taskId']}"
    answer = lab("ann", "GET", f"{path}/download")
    assert answer.headers["content-type"] == "application/gzip"
    assert answer.headers["content-deposition"] == 'attachment; filename="download.tar.gz"'
    assert int(answer.headers["content-length"]) == len(answer.content)
    (name, data), *files = unpack(answer)
    case = lab("ann", "GET", f"/api/cases/{labelled}").json()
    assert name == f"{labelled}/data.json"
    assert json.loads(data) == {
        **{key: case[key] for key in ("caseId", "createdAt", "updatedAt", "projectId")},
        "revision": case["revisions"][-1],
    }
    assert data.startswith(b'{\n  "caseId": "')
    assert files == [
        (f"{labelled}/vol000.raw", VOLUME),
        (f"{labelled}/vol000.mhd", header("MET_SHORT", "vol000.raw")),
        (f"{labelled}/vol000-label001.raw", FIRST),
        (f"{labelled}/vol000-label001.mhd", header("MET_UCHAR", "vol000-label001.raw")),
        (f"{labelled}/vol000-label003.raw", SECOND),
        (f"{labelled}/vol000-label003.mhd", header("MET_UCHAR", "vol000-label003.raw")),
    ]
    assert lab("ann", "PATCH", path, {"dismissed": True}).status_code == 204
    assert lab("ann", "GET", path).json()["dismissed"] is True
    assert lab.refused("ann", "GET", f"{path}/download")[0] == 404
    assert lab("ann", "PATCH", path, {"dismissed": False}).status_code == 204


def test_exporting_combined_labels(lab: Service, labelled: str) -> None:
    more = {"labelPackType": "combined", "mhdLineEnding": "crlf", "compressionFormat": "zip"}
    task = export(lab, [labelled], **more)
    assert task["downloadFileType"] == "application/zip"
    answer = lab("ann", "GET", f"/api/tasks/{task['taskId']}/download")
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-deposition"] == 'attachment; filename="download.zip"'
    _, *files = unpack(answer)
    combined = bytes(4 if there else 2 * here for here, there in zip(FIRST, SECOND, strict=True))
    assert files == [
        (f"{labelled}/vol000.raw", VOLUME),
        (f"{labelled}/vol000.mhd", header("MET_SHORT", "vol000.raw", "\r\n")),
        (f"{labelled}/vol000-label.raw", combined),
        (f"{labelled}/vol000-label.mhd", header("MET_UCHAR", "vol000-label.raw", "\r\n")),
    ]


@pytest.mark.parametrize("compression", ["zip", "tgz"])
def test_exporting_several_revisions_repeats_the_names(lab: Service, labelled: str, compression: str) -> None:
    revisions = [{"caseId": labelled, "revisionIndex": index} for index in (0, 1)]
    task = export(lab, revisions, compressionFormat=compression)
    assert (task["name"], task["finishedMessage"]) == ("Export 2 cases as MHD", "Exported 2 case(s).")
    files = unpack(lab("ann", "GET", f"/api/tasks/{task['taskId']}/download"))
    assert [name for name, _ in files].count(f"{labelled}/data.json") == 2
    documents = [json.loads(data)["revision"]["description"] for name, data in files if name.endswith("data.json")]
    assert documents == ["Created new case.", "labelled"]


def test_an_empty_export(lab: Service) -> None:
    task = export(lab, [], compressionFormat="zip")
    assert (task["name"], task["finishedMessage"]) == ("Export 0 cases as MHD", "Exported 0 case(s).")
    assert unpack(lab("ann", "GET", f"/api/tasks/{task['taskId']}/download")) == []


def test_failing_exports(lab: Service, labelled: str) -> None:
    digest = hashlib.sha1(b"\xb0").hexdigest()
    wrong = lab.create(series=[{"seriesUid": "2.25.40", "partialVolumeDescriptor": {"start": 1, "end": 2, "delta": 1}}])
    label = {"type": "voxel", "data": {"voxels": digest, "origin": [0, 0, 0], "size": [9, 9, 9]}}
    for labels in ([label], [{"type": "voxel", "data": {"voxels": digest}}]):
        series = [{"seriesUid": "2.25.40", "labels": labels}]
        revision = {"description": "", "attributes": {}, "status": "", "series": series}
        assert lab("ann", "POST", f"/api/cases/{wrong}/revision", revision).status_code == 201
    failing: list[Any] = [
        IDS["a1"],  # no files
        {"caseId": labelled, "revisionIndex": 9},
        {"caseId": wrong, "revisionIndex": 1},  # size and voxels do not agree
        {"caseId": wrong, "revisionIndex": 2},  # no size
    ]
    for entry in failing:
        task = export(lab, [entry])
        assert (task["status"], task["finishedMessage"]) == ("error", None)
        assert task["errorMessage"] == "An internal error occurred while processing the case data."
        path = f"/api/tasks/{task['taskId']}"
        assert lab.refused("ann", "GET", f"{path}/download") == (409, "This task has not been completed.")
        assert lab.refused("ann", "PATCH", path, {"dismissed": True}) == (400, "The task is not completed yet.")


def test_pixel_formats(lab: Service) -> None:
    pixels = np.array([0, 1, 2, 3] * 3, np.uint8)
    eight: dict[str, Any] = {
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "PixelData": pixels.tobytes(),
    }
    upload(lab, image("2.25.50", 1, Modality="CR", **eight))
    upload(lab, image("2.25.51", 1, Modality="DX", PhotometricInterpretation="MONOCHROME1", **eight))
    upload(lab, image("2.25.52", 1, Modality="MR", SpacingBetweenSlices=3.25, PixelRepresentation=0))
    expected = {
        "2.25.50": ("MET_UCHAR", "1", pixels.tobytes()),
        "2.25.51": ("MET_UCHAR", "1", (255 - pixels).tobytes()),
        "2.25.52": ("MET_USHORT", "3.25", (np.arange(12) + 1000).astype("<u2").tobytes()),
    }
    for uid, (element, pitch, raw) in expected.items():
        case_id = lab.create(series=[{"seriesUid": uid, "partialVolumeDescriptor": "auto"}])
        files = dict(unpack(lab("ann", "GET", f"/api/tasks/{export(lab, [case_id])['taskId']}/download")))
        assert files[f"{case_id}/vol000.raw"] == raw
        text = files[f"{case_id}/vol000.mhd"].decode()
        assert f"ElementType = {element}\nElementSpacing = 0.5 0.75 {pitch}\n" in text


def test_exporting_volumes(lab: Service, labelled: str) -> None:
    series = [{"seriesUid": "2.25.40", "partialVolumeDescriptor": {"start": 2, "end": 1, "delta": -1}}]
    assert lab.refused("ben", "POST", "/api/series/export-cs-volume", {"series": series})[0] == 401
    for bad in ([], series * 11):
        assert lab.refused("ann", "POST", "/api/series/export-cs-volume", {"series": bad})[0] == 400
    answer = lab("ann", "POST", "/api/series/export-cs-volume", {"series": series, "compressionFormat": "zip"})
    assert answer.status_code == 201
    task = lab.finished("ann", answer.json()["taskId"])
    assert (task["name"], task["finishedMessage"]) == ("Export DICOM data", "exported")
    files = dict(unpack(lab("ann", "GET", f"/api/tasks/{task['taskId']}/download")))
    assert files["0.raw"] == VOLUME[24:] + VOLUME[:24]
    assert b"ElementDataFile = 0.raw\n" in files["0.mhd"]


def test_progress_as_events(lab: Service) -> None:
    headers = {"authorization": f"Bearer {TOKENS['ann']}"}
    with lab.client.stream("GET", "/api/tasks/report", headers=headers) as events:
        assert events.headers["content-type"] == "text/event-stream; charset=utf-8"
        lines = events.iter_lines()
        assert next(lines) == ""
        files = {"files": ("a", image("2.25.60", 1))}
        task_id = lab("ann", "POST", "/api/series/domain/d1", files=files).json()["taskId"]
        told: list[tuple[str, dict[str, Any]]] = []
        while not told or told[-1][0] != "finish":
            if (line := next(lines)).startswith("event: "):
                told.append((line[7:], json.loads(next(lines).removeprefix("data: "))))
    assert told == [
        ("progress", {"taskId": task_id, "message": "Starting the task."}),
        ("progress", {"taskId": task_id, "message": "Imported 1 entities..."}),
        ("finish", {"taskId": task_id, "message": "Imported 1 entities from 1 files."}),
    ]


def test_a_download_ends_after_a_week(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        task = export(service, [])
        path = f"/api/tasks/{task['taskId']}/download"
        assert service("ann", "GET", path).status_code == 200
        service.clock.time += timedelta(days=7, seconds=1)
        assert service.refused("ann", "GET", path)[0] == 404
        assert not list((tmp_path / "circus-downloads").iterdir())


# --- restart, strictness, the default world ---------------------------------------------------------------------------


def test_a_start_removes_what_cannot_be_downloaded(tmp_path: Path) -> None:
    now = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC).timestamp()
    with serving(tmp_path) as service:
        kept = export(service, [])["taskId"]
        downloads = tmp_path / "circus-downloads"
        (downloads / "broken.part").touch()
        (downloads / "old").touch()
        os.utime(downloads / "old", (now - 8 * 86400,) * 2)
        os.utime(downloads / kept, (now,) * 2)
    with serving(tmp_path) as service:
        assert [path.name for path in downloads.iterdir()] == [kept]
        assert service("ann", "GET", f"/api/tasks/{kept}/download").status_code == 200


def test_state_survives_a_restart(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        case_id = service.create(tags=["kept"])
        permanent = service("ann", "POST", "/api/tokens", {"description": "kept"}).json()["accessToken"]
        assert put_blob(service, b"kept").status_code == 201
        sql = (
            "INSERT INTO circus_task (task_id, email, doc) SELECT 'zombie', email, json_set(doc, '$.taskId', 'zombie',"
        )
        service.sandbox.db.execute(f"{sql} '$.status', 'processing') FROM circus_task LIMIT 1")
    with serving(tmp_path) as service:
        assert service(permanent, "GET", f"/api/cases/{case_id}").json()["tags"] == ["kept"]
        assert service("ann", "GET", f"/api/blob/{hashlib.sha1(b'kept').hexdigest()}").content == b"kept"
        assert len(service("ann", "GET", "/api/cases?limit=0").json()["items"]) == 5  # the world is not loaded again
        assert service("ann", "GET", "/api/tasks/zombie").json()["status"] == "processing"
        assert service.refused("ann", "GET", "/api/tasks/zombie/download")[0] == 409
        zombie = [task for task in service("ann", "GET", "/api/tasks").json()["items"] if task["taskId"] == "zombie"]
        assert [task["status"] for task in zombie] == ["error"]
        assert service("ann", "GET", "/api/tasks/zombie").json()["status"] == "error"


def test_nothing_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    script = """
        import asyncio, sys, uvicorn
        from pathlib import Path
        from starlette.applications import Starlette
        from isocenter.sandbox import circus
        from isocenter.sandbox.state import Options, Sandbox
        sandbox = Sandbox(Path(sys.argv[1]), Options(circus_world=Path(sys.argv[2])))
        sandbox.db.executescript(circus.SCHEMA)
        asyncio.run(circus.start(sandbox))
        server = uvicorn.Server(uvicorn.Config(Starlette(routes=circus.routes(sandbox)), fd=int(sys.argv[3]), log_level="error"))
        server.run()
    """
    listener = socket.create_server(("127.0.0.1", 0))
    arguments = [str(tmp_path), str(WORLD_FILE), str(listener.fileno())]
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environment, pass_fds=[listener.fileno()]) as process:
        try:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/circus/api"
            headers = {"authorization": f"Bearer {TOKENS['ann']}"}
            revision = {"description": "saved", "attributes": {}, "status": "", "series": []}
            saved = httpx.post(f"{url}/cases/{IDS['a1']}/revision", json=revision, headers=headers, timeout=30)
            assert saved.status_code == 201
        finally:
            process.send_signal(signal.SIGKILL)
    listener.close()
    with serving(tmp_path) as service:
        case = service("ann", "GET", f"/api/cases/{IDS['a1']}").json()
        assert [entry["description"] for entry in case["revisions"]] == ["Created new case.", "saved"]


@pytest.mark.parametrize(
    ("user", "method", "path", "body", "refusal"),
    [
        ("ben", "POST", "/api/cases", {}, (401, 'You do not have "write" privilege of this project.')),
        ("ann", "POST", "/api/cases", {"tags": None}, (400, "Request data is not correct.")),
        ("ann", "POST", "/api/cases", {"series": None}, (400, "Request data is not correct.")),
        ("ann", "POST", "/api/cases", {"series": []}, (400, "Request data is not correct.")),
        ("ann", "POST", "/api/cases", ("1.2.3.9", PVD), (403, "You do not have privilege to access this series.")),
        ("ann", "POST", "/api/cases", ("1.2.3.1", {"start": 1, "end": 3}), (400, "Invalid partial volume descriptor.")),
        ("ann", "POST", "/api/cases", ("1.2.3.1", "auto"), (400, "no image")),
        ("ann", "GET", "/api/cases?limit=0", None, (400, "The limit must be a positive number.")),
        ("ann", "GET", "/api/cases?page=x", None, (400, "The page must be a positive number.")),
        ("ann", "GET", '/api/cases?sort={"$x":1}', None, (400, "Bad sort parameter. Invalid key/value pair.")),
        ("ann", "GET", '/api/cases?filter={"tags":{"$regex":"("}}', None, (400, "Invalid regular expression.")),
        ("ann", "GET", "/api/series/1.2.3.1/orientation", None, (404, "no image")),
        ("ann", "DELETE", "/api/series/1.2.3.9", None, (403, "You do not have privilege to access this series.")),
        ("ann", "DELETE", "/api/tokens/unknown", None, (404, "Not Found")),
        (
            "ann",
            "POST",
            "/api/series/export-cs-volume",
            {"projectId": None, "tags": None, "series": [{"seriesUid": "1.2.3.9", "partialVolumeDescriptor": PVD}]},
            (403, "You do not have privilege to access this series."),
        ),
    ],
)
def test_strictness(strict: Service, user: str, method: str, path: str, body: Any, refusal: tuple[int, str]) -> None:
    if body is not None:
        if isinstance(body, tuple):
            body = {"series": [{"seriesUid": body[0], "partialVolumeDescriptor": body[1]}]}
        series = [{"seriesUid": "1.2.3.1", "partialVolumeDescriptor": PVD}]
        body = {
            key: value
            for key, value in ({"projectId": A, "series": series, "tags": []} | body).items()
            if value is not None
        }
    assert strict.refused(user, method, path, body) == refusal


def test_strict_bodies(strict: Service) -> None:
    large = b'{"a":"' + b"x" * (1 << 20) + b'"}'
    assert strict.refused(None, "POST", "/api/cases", content=large, headers=JSON_TYPE)[0] == 413
    path = "/api/series/domain/d1/single"
    assert strict.refused("ann", "POST", path, files={"other": ("a", b"x")}) == (400, "Unexpected field")
    assert strict.refused("ann", "POST", path, files={"files": ("a", image(number=None))})[0] == 400
    broken = {"content-type": "multipart/form-data; boundary=x"}
    assert strict.refused("ann", "POST", path, content=b"--x\r\n", headers=broken)[0] == 400
    gzipped = put_blob(strict, b"no gzip", "0" * 40, content_encoding="gzip")
    assert (gzipped.status_code, gzipped.json()["error"]) == (400, "The content is not gzip data.")


def test_the_default_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def files() -> Iterator[phantom.PhantomFile]:
        for uid, modality in (("2.25.91", "CT"), ("2.25.92", "MR"), ("2.25.93", "DX")):
            for number in (1, 2):
                data = image(uid, number, z=5.0 * number, Modality=modality)
                yield phantom.PhantomFile(
                    collection="any", series_instance_uid=uid, sop_instance_uid=f"{uid}.{number}", data=data
                )

    monkeypatch.setattr(phantom, "files", files)
    with serving(tmp_path, circus_world=None) as service:
        lead = service.sandbox.credentials["circus"]
        info = service(lead["token"], "GET", "/api/login-info/full").json()
        assert info["userEmail"] == lead["email"]
        assert len(info["globalPrivileges"]) == 6
        assert [len(entry["roles"]) for entry in info["accessibleProjects"]] == [5, 5]
        assert info["defaultDomain"] in info["domains"]
        listed = service(lead["token"], "GET", "/api/series").json()["items"]
        assert {(item["seriesUid"], item["images"]) for item in listed} == {("2.25.91", "1-2"), ("2.25.92", "1-2")}
        project = info["accessibleProjects"][0]["projectId"]
        body = {
            "projectId": project,
            "series": [{"seriesUid": "2.25.91", "partialVolumeDescriptor": "auto"}],
            "tags": [],
        }
        case_id = service(lead["token"], "POST", "/api/cases", body).json()["caseId"]
        form = {
            "grant_type": "password",
            "client_id": "circus-front",
            "client_secret": "x",
            "password": lead["password"],
        }
        session = service(None, "POST", "/login", data={**form, "username": "reader"}).json()["access_token"]
        (seen,) = service(session, "GET", "/api/cases").json()["items"]
        assert seen["caseId"] == case_id
        assert "patientInfo" not in seen
        assert service.refused(session, "DELETE", f"/api/cases/{case_id}")[0] == 401
        assert [item["modality"] for item in service(session, "GET", "/api/series").json()["items"]] == ["CT"]
        assert Store(service.sandbox).setting("world") == "default"
    with serving(tmp_path, circus_world=None) as service:
        assert service.sandbox.credentials["circus"] == lead
        assert service(lead["token"], "GET", f"/api/cases/{case_id}").status_code == 200
        mode = (tmp_path / "credentials.json").stat().st_mode
        assert os.name != "posix" or mode & 0o077 == 0


def test_the_credentials_of_a_world(world: Service) -> None:
    assert world.sandbox.credentials["circus"] == {"token": TOKENS["ann"], "email": "ann@example.com"}


def test_searching_many_cases_stays_quick(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        head, revisions = service.sandbox.db.execute("SELECT head, revisions FROM circus_case LIMIT 1").fetchone()
        with service.sandbox.transaction() as db:
            for number in range(5000):
                db.execute("INSERT INTO circus_case VALUES (?, ?, ?, ?, ?)", (None, f"m{number}", A, head, revisions))
                db.execute("INSERT INTO circus_case_series VALUES (?, '1.2.3.1')", (f"m{number}",))
        started = time.perf_counter()
        envelope = service("ann", "GET", '/api/cases?filter={"tags":"x"}&limit=5').json()
        assert envelope["totalItems"] == 5002
        assert time.perf_counter() - started < 3
