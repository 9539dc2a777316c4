"""The simulated Qure service over a real socket: framings, state machine, exact answers, and the result files."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import numpy as np
import pydicom
import pytest
import uvicorn
from starlette.applications import Starlette

from isocenter.core import Limits, Result, StatusError
from isocenter.sandbox import faults, phantom, qure
from isocenter.sandbox.dicom_identity import IDENTITY_BYTES, identity_of
from isocenter.sandbox.qure import work as qure_work
from isocenter.sandbox.state import Options, Sandbox
from isocenter_clients.qure import QureSyncClient

NOTICE = "SIMULATION - NOT FOR CLINICAL USE"
AUTH_401 = {
    "message": "Invalid token header. No credentials provided.",
    "next": "/accounts/login/",
    "authenticated": False,
}
DENIED_403 = {"success": False, "message": "Access denied!"}

# No credentials; and no certificates, since loading them for plain http takes longer than most requests here.
BARE = httpx.Client(verify=False, timeout=30, limits=httpx.Limits(max_keepalive_connections=0))


class Clock:
    """The sandbox's time, moved by the tests."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def forward(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class Service:
    """A served sandbox and a client in its default workspace."""

    def __init__(self, host: Host, sandbox: Sandbox, clock: Clock) -> None:
        self.host, self.sandbox, self.clock = host, sandbox, clock
        self.url = f"http://127.0.0.1:{host.listener.getsockname()[1]}/qure"
        self.token = sandbox.credentials["qure"]["token"]
        self.source = sandbox.credentials["qure"]["source"]
        self.client = self.workspace(self.source)
        self.stable = self.workspace(f"{self.source}-stability")

    def workspace(self, source: str) -> httpx.Client:
        headers = {"Authorization": f"Token {self.token}", "Source": source, "User-Agent": "tests"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, verify=False)

    def upload(self, *files: bytes, client: httpx.Client | None = None) -> httpx.Response:
        parts = [(f"file_{n}", (f"{n}.dcm", data, "application/dicom")) for n, data in enumerate(files)]
        return (client or self.client).post("/studies/", files=parts)

    def finished(self, path: str, client: httpx.Client | None = None) -> httpx.Response:
        """Poll until the answer is no longer 202, moving the clock past the computation."""

        async def computed() -> None:
            async with qure_work.background(self.sandbox).one_at_a_time:
                pass

        for _ in range(2000):
            response = (client or self.client).get(path)
            if response.status_code != 202:
                return response
            self.clock.forward(10)
            self.host.run(computed())
        raise AssertionError("the computation does not end")


class Host:
    """One server on a real socket, in which one sandbox after the other is served: starting a server takes longer."""

    def __init__(self) -> None:
        self.app: Starlette | None = None
        self.listener = socket.create_server(("127.0.0.1", 0))
        # asyncio does so only for sockets it made itself; without it every answer takes 40 ms.
        self.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = uvicorn.Config(self, log_level="warning", access_log=False, lifespan="off")
        self.server = uvicorn.Server(config)
        self.loop = asyncio.new_event_loop()
        serving = self.server.serve(sockets=[self.listener])
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=[serving])

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert self.app is not None
        await self.app(scope, receive, send)

    def __enter__(self) -> Host:
        self.thread.start()
        while not self.server.started:
            self.thread.join(0.005)
            assert self.thread.is_alive()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join()
        self.loop.close()
        self.listener.close()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=60)

    @contextmanager
    def serving(self, root: Path, options: Options | None = None) -> Iterator[Service]:
        clock = Clock()
        sandbox = Sandbox(root, options or Options(compute_seconds=30), clock=clock)
        sandbox.db.executescript(qure.SCHEMA)
        self.app = Starlette(routes=qure.routes(sandbox))
        self.run(qure.start(sandbox))
        service = Service(self, sandbox, clock)
        try:
            with service.client, service.stable:
                yield service
        finally:
            self.run(sandbox.stop())
            sandbox.close()
            self.app = None


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host() as running:
        yield running


@pytest.fixture(scope="module")
def data() -> dict[str, list[bytes]]:
    """The phantom's files by series."""
    series: dict[str, list[bytes]] = {}
    for file in phantom.files():
        series.setdefault(file.series_instance_uid, []).append(file.data)
    return series


@pytest.fixture
def service(host: Host, tmp_path: Path) -> Iterator[Service]:
    with host.serving(tmp_path) as running:
        yield running


def changed(data: bytes, **values: Any) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(data))
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def sop(data: bytes) -> str:
    return str(pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True).SOPInstanceUID)


def series_of(data: bytes) -> str:
    return str(pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True).SeriesInstanceUID)


# Credentials.


@pytest.mark.parametrize("header", [{}, {"Authorization": "Token wrong"}, {"Authorization": "Bearer {token}"}])
@pytest.mark.parametrize("source", ["right", "wrong", None])
def test_token_is_checked_before_source(service: Service, header: dict[str, str], source: str | None) -> None:
    headers = {name: value.replace("{token}", service.token) for name, value in header.items()}
    if source:
        headers["Source"] = service.source if source == "right" else source
    for method, path in (("POST", "studies/"), ("GET", "compute/1.2"), ("GET", "results/1.2")):
        response = BARE.request(method, f"{service.url}/{path}", headers=headers)
        assert (response.status_code, response.json()) == (401, AUTH_401)
    response = BARE.get(f"{service.url}/results/v2/1.2", headers=headers)
    assert (response.status_code, response.content) == (401, b"")


@pytest.mark.parametrize("source", [{}, {"Source": "other"}])
def test_missing_or_wrong_source(service: Service, source: dict[str, str]) -> None:
    headers = {"Authorization": f"Token {service.token}", **source}
    for method, path in (("POST", "studies"), ("GET", "compute/1.2"), ("GET", "results/1.2")):
        response = BARE.request(method, f"{service.url}/{path}", headers=headers)
        assert (response.status_code, response.json()) == (403, DENIED_403)
    response = BARE.get(f"{service.url}/results/v2/1.2", headers=headers)
    assert (response.status_code, response.text) == (403, "Forbidden")
    assert response.headers["content-type"].startswith("text/plain")


def test_a_token_of_the_older_generation_needs_no_source(service: Service, data: dict[str, list[bytes]]) -> None:
    headers = {"Authorization": f"Token {service.sandbox.credentials['qure']['legacy_token']}"}
    with httpx.Client(base_url=service.url, headers=headers, verify=False) as legacy:
        uploaded = service.upload(data[phantom.LOW_DOSE_CT][0], client=legacy)
        elsewhere = legacy.get("/results/1.2", headers={"Source": "other"})

    assert (uploaded.status_code, uploaded.json()["series_instance_uids"]) == (200, [phantom.LOW_DOSE_CT])
    assert service.client.get(f"/compute/{phantom.LOW_DOSE_CT}").status_code == 200  # it is in the first workspace
    assert (elsewhere.status_code, elsewhere.json()) == (403, DENIED_403)


def test_strict_mode_wants_a_user_agent(host: Host, tmp_path: Path) -> None:
    with host.serving(tmp_path, Options(strict=True)) as service:
        request = service.client.build_request("GET", "/results/1.2")
        assert service.client.send(request).status_code == 404
        request.headers["User-Agent"] = ""
        assert service.client.send(request).status_code == 403


# Upload.


def framed(files: list[bytes], part_headers: list[str]) -> bytes:
    parts = zip(files, part_headers, strict=True)
    return b"".join(b"--B0\r\n" + head.encode() + b"\r\n" + file + b"\r\n" for file, head in parts) + b"--B0--\r\n"


DICOM_HEADER = "Content-Type: application/dicom\r\n"


@pytest.mark.parametrize("path", ["/studies", "/studies/"])
@pytest.mark.parametrize(
    ("content_type", "dispositions", "names"),
    [
        (
            "multipart/form-data; boundary=B0",
            ['Content-Disposition: form-data; name="file_0"\r\n', 'Content-Disposition: form-data; name="file_1"\r\n'],
            ["file_0", "file_1"],
        ),
        (
            "multipart/related; type=application/dicom; boundary=B0",  # seed 001: unquoted type, paths as names
            [
                'Content-Disposition: form-data; name="a/dicom-file1.dcm"; filename="a/dicom-file1.dcm"\r\n',
                'Content-Disposition: form-data; name="a/dicom-file2.dcm"; filename="a/dicom-file2.dcm"\r\n',
            ],
            ["a/dicom-file1.dcm", "a/dicom-file2.dcm"],
        ),
        (
            'multipart/related; type="application/dicom"; boundary="B0"',  # the union form
            [
                'Content-Disposition: form-data; name="file_0"; filename="0.dcm"\r\n',
                'Content-Disposition: form-data; name="file_1"; filename="1.dcm"\r\n',
            ],
            ["file_0", "file_1"],
        ),
        ('multipart/related; boundary=B0; type="application/dicom"', ["", ""], ["file_0", "file_1"]),  # PS3.18
        ("multipart/form-data; boundary=B0", ['Content-Disposition: form-data; name="f"\r\n'] * 2, ["f", "f (1)"]),
    ],
)
def test_every_framing_is_accepted(
    service: Service,
    data: dict[str, list[bytes]],
    path: str,
    content_type: str,
    dispositions: list[str],
    names: list[str],
) -> None:
    files = data[phantom.LOW_DOSE_CT][:2]
    body = framed(files, [disposition + DICOM_HEADER for disposition in dispositions])
    response = service.client.post(path, content=body, headers={"Content-Type": content_type})
    assert response.status_code == 200
    registered = {
        "message": "DICOM registered successfully.",
        "created": True,
        "license_expired": False,
        "metadata": {},
    }
    assert response.json() == {
        "message": "Success",
        "status": "success",
        "messages": dict.fromkeys(names, registered),
        "series_instance_uids": [phantom.LOW_DOSE_CT],
        "detailed_info": [{"SeriesInstanceUID": phantom.LOW_DOSE_CT, "NumberOfSeriesRelatedInstances": 2}],
    }
    archive = service.sandbox.archive("qure")
    assert [archive.path(instance).read_bytes() for instance in archive.instances(phantom.LOW_DOSE_CT)] == files


def test_counts_are_of_all_that_is_stored_and_repeats_are_not_created(
    service: Service, data: dict[str, list[bytes]]
) -> None:
    first, second, *_ = data[phantom.LOW_DOSE_CT]
    assert service.upload(first).json()["messages"]["file_0"]["created"] is True
    answer = service.upload(first, second).json()
    assert [message["created"] for message in answer["messages"].values()] == [False, True]
    assert answer["detailed_info"][0]["NumberOfSeriesRelatedInstances"] == 2
    other = service.upload(changed(first, PatientComments="not the same file")).json()
    assert other == {"message": "No DICOM files were uploaded!"}


def test_bad_parts_are_reported_and_the_others_are_stored(service: Service, data: dict[str, list[bytes]]) -> None:
    (dx,), (cr,) = data[phantom.CHEST_DX], data[phantom.CHEST_CR]
    response = service.upload(b"garbage", dx, bytes(128) + b"DICM", b"x" * 500, *[b"x"] * 350, cr)
    assert response.status_code == 200
    answer = response.json()
    assert len(answer["messages"]) == 355
    good = {name for name, message in answer["messages"].items() if message["created"]}
    assert good == {"file_1", "file_354"}
    bad = [message["message"] for name, message in answer["messages"].items() if name not in good]
    assert all(message.startswith("Not registered: the file") for message in bad)
    assert answer["series_instance_uids"] == [phantom.CHEST_DX, phantom.CHEST_CR]
    assert list((service.sandbox.root / "qure" / "incoming").iterdir()) == []


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        ("application/dicom", b"x", "No DICOM files were uploaded!"),
        ("multipart/form-data; boundary=B0", b"--B0--\r\n", "No DICOM files were uploaded!"),
        ("multipart/form-data; boundary=B0", framed([b"text"], [DICOM_HEADER]), "No DICOM files were uploaded!"),
        ("multipart/form-data", b"--B0--", "Multipart form parse error - the Content-Type has no boundary"),
        ("multipart/mixed; boundary=B0", b"--B0--", "Multipart form parse error - the body is neither multipart/"),
        ("multipart/related; boundary=B0", b"", "Multipart form parse error - the boundary does not occur"),
    ],
)
def test_uploads_without_any_dicom_file(service: Service, content_type: str, body: bytes, message: str) -> None:
    response = service.client.post("/studies/", content=body, headers={"Content-Type": content_type})
    assert response.status_code == 400
    assert list(response.json()) == ["message"]
    assert response.json()["message"].startswith(message)


def test_the_identity_of_a_file_is_that_of_its_full_header(data: dict[str, list[bytes]]) -> None:
    for files in data.values():
        dataset = read(files[0])
        found = identity_of(files[0][:IDENTITY_BYTES])
        assert found.pop("TransferSyntaxUID") == dataset.file_meta.TransferSyntaxUID
        assert {"SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "SOPClassUID"} <= set(found)
        assert found == {keyword: str(dataset[keyword].value) for keyword in found}
    whole = data[phantom.CHEST_CT][0]
    assert identity_of(whole[:400]) == {}
    implicit = read(whole)
    implicit.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    file = io.BytesIO()
    implicit.save_as(file, implicit_vr=True, little_endian=True, enforce_file_format=True)
    assert identity_of(file.getvalue()) == {}


def test_files_of_a_known_series_are_stored_as_fully_as_the_first(
    service: Service, data: dict[str, list[bytes]]
) -> None:
    first, second, third, *_ = data[phantom.LOW_DOSE_CT]
    service.upload(first)
    invalid = first.replace(sop(first).encode(), b"2.25.0" + sop(first)[6:].encode())  # a component with leading zero
    answer = service.upload(second, changed(third, InstanceNumber="", AcquisitionNumber=7), invalid).json()
    assert [message["created"] for message in answer["messages"].values()] == [True, True, False]
    archive = service.sandbox.archive("qure")
    stored = {instance.sop_instance_uid: instance for instance in archive.instances(phantom.LOW_DOSE_CT)}
    assert set(stored) == {sop(first), sop(second), sop(third)}
    assert [stored[sop(file)].instance_number for file in (first, second, third)] == [1, 2, 0]
    assert [stored[sop(file)].acquisition_number for file in (first, third)] == ["1", "7"]
    assert {instance.transfer_syntax_uid for instance in stored.values()} == {"1.2.840.10008.1.2.1"}
    series = archive.series(phantom.LOW_DOSE_CT)
    assert series is not None
    assert (series.header["SOPInstanceUID"], series.instance_count) == (sop(first), 3)


def test_a_body_that_is_cut_off_stores_nothing(service: Service, data: dict[str, list[bytes]]) -> None:
    files = data[phantom.CHEST_CT][:12]
    whole = framed(files, [DICOM_HEADER] * 12)
    headers = {"Content-Type": "multipart/related; boundary=B0"}
    response = service.client.post("/studies/", content=whole[:-10], headers=headers)
    assert response.status_code == 400
    assert "cut off" in response.json()["message"]
    assert service.sandbox.archive("qure").all_series() == []
    assert list((service.sandbox.root / "qure" / "incoming").iterdir()) == []
    assert service.client.post("/studies/", content=whole, headers=headers).status_code == 200


# State machine.


def test_chest_ct_from_upload_to_result(service: Service, data: dict[str, list[bytes]]) -> None:
    uid, client = phantom.CHEST_FOLLOW_UP, service.client
    missing = client.get(f"/compute/{uid}")
    assert (missing.status_code, missing.json()["message"]) == (
        404,
        f"Resource with SeriesInstanceUID {uid} is not yet uploaded!",
    )
    assert client.get(f"/results/{uid}").json() == {
        "success": False,
        "message": f"Resource with sopInstanceUID {uid} is not yet uploaded!",
    }
    service.upload(*data[uid])
    waiting = client.get(f"/results/{uid}")
    assert (waiting.status_code, waiting.json()) == (
        409,
        {
            "success": False,
            "message": f"Series with resource_uid {uid} has not yet been invoked for computation."
            f" You can invoke by doing a GET on base_url/compute/{uid}.",
        },
    )
    pushed = client.get(f"/compute/{uid}")
    assert (pushed.status_code, pushed.json()) == (
        200,
        {"message": "series_instance_uid successfully pushed for computation!", "success": True},
    )
    again = client.get(f"/compute/{uid}")
    assert (again.status_code, again.content) == (304, b"")
    assert "content-type" not in again.headers
    pending = client.get(f"/results/{uid}")  # on the same connection: a 304 with a body would break it
    assert (pending.status_code, pending.json()) == (
        202,
        {
            "success": False,
            "message": f"Resource with sopInstanceUID {uid} is under process. Please check back in some time.",
        },
    )
    assert client.request("GET", f"/compute/{uid}", json={"recompute": True}).status_code == 304  # still running
    done = service.finished(f"/results/{uid}")
    assert done.status_code == 200
    answer = done.json()
    files = answer["result"].pop("files")
    assert answer == {
        "success": True,
        "message": "Results retrieved successfully!",
        "triage_status": "critical",
        "result": {},
        "usecase": "qct",
    }
    assert {kind: len(urls) for kind, urls in files.items()} == {
        "sc": 8, "sc_key_slices": 4, "gsps": 4, "seg": 1, "sr": 1, "pdf": 1, "encapsulated_pdf": 1, "json": 1, "hl7": 1,
    }  # fmt: skip
    assert client.get(f"/compute/{uid}").status_code == 304
    assert client.get(f"/results/v2/{sop(data[uid][0])}").text == "not implemented"


def test_the_simulated_duration_is_the_clock_s(service: Service, data: dict[str, list[bytes]]) -> None:
    (dx,) = data[phantom.CHEST_DX]
    service.upload(dx)
    path = f"/results/v2/{sop(dx)}"
    while not list(service.sandbox.root.glob("qure-results/*/*/report_sr_1.dcm")):  # computed, but not yet due
        assert service.client.get(path).status_code == 202
    assert service.client.get(path).json() == {"reason": "processing not started"}
    service.clock.forward(30)
    assert service.finished(path).status_code == 200


def test_recompute(service: Service, data: dict[str, list[bytes]]) -> None:
    uid, files = phantom.LOW_DOSE_CT, data[phantom.LOW_DOSE_CT]
    service.upload(*files[:2])
    service.client.get(f"/compute/{uid}")
    invalid = service.finished(f"/results/{uid}")
    assert invalid.status_code == 400
    assert invalid.json() == {
        "success": False,
        "message": "Use case not implemented",
        "seriesInstanceUID": uid,
        "accessionNumber": "",
        "debug_info": {"reason": "The series has no stack of at least three axial slices of one size."},
        "result": {},
    }
    service.upload(*files)
    for body, status in (({"recompute": False}, 304), ({}, 304), ([], 400), ({"recompute": True}, 200)):
        assert service.client.request("GET", f"/compute/{uid}", json=body).status_code == status
    done = service.finished(f"/results/{uid}")
    assert (done.status_code, done.json()["usecase"]) == (200, "qct")
    before = done.json()["result"]["files"]["json"][0]
    assert service.client.request("GET", f"/compute/{uid}", json={"recompute": True}).status_code == 200
    after = service.finished(f"/results/{uid}").json()["result"]["files"]["json"][0]
    assert BARE.get(before).status_code == 404
    assert BARE.get(after).status_code == 200


def test_stability_starts_a_series_that_stopped_growing(service: Service, data: dict[str, list[bytes]]) -> None:
    uid, files = phantom.LOW_DOSE_CT, data[phantom.LOW_DOSE_CT]
    seconds = service.sandbox.options.stability_seconds
    service.upload(*files[:5], client=service.stable)
    service.clock.forward(seconds - 1)
    service.upload(*files[5:], client=service.stable)
    service.clock.forward(seconds - 1)
    assert service.stable.get(f"/results/{uid}").status_code == 202
    assert service.sandbox.db.execute("SELECT state FROM qure_job").fetchone()[0] == "uploaded"
    done = service.finished(f"/results/{uid}", service.stable)
    assert done.status_code == 200
    url = done.json()["result"]["files"]["json"][0]
    assert json.loads(BARE.get(url).content)["slices"] == 12
    assert service.stable.get(f"/compute/{uid}").status_code == 304
    extra = changed(
        files[-1], SOPInstanceUID="2.25.99", ImagePositionPatient=[-191.25, -191.25, 93.75], InstanceNumber=13
    )
    service.upload(extra, client=service.stable)
    assert service.stable.get(f"/results/{uid}").status_code == 202
    url = service.finished(f"/results/{uid}", service.stable).json()["result"]["files"]["json"][0]
    assert json.loads(BARE.get(url).content)["slices"] == 13


def test_workspaces_do_not_see_each_other(service: Service, data: dict[str, list[bytes]]) -> None:
    (dx,) = data[phantom.CHEST_DX]
    service.upload(dx, *data[phantom.LOW_DOSE_CT])
    foreign = service.stable.get(f"/results/v2/{sop(dx)}")
    assert (foreign.status_code, foreign.text) == (403, "Forbidden")
    assert service.stable.get(f"/results/{phantom.LOW_DOSE_CT}").status_code == 404
    assert service.stable.get(f"/compute/{phantom.LOW_DOSE_CT}").status_code == 404
    answer = service.upload(dx, client=service.stable).json()
    assert answer["messages"]["file_0"]["created"] is True
    assert service.finished(f"/results/v2/{sop(dx)}", service.stable).status_code == 200
    assert service.client.get("/results/v2/2.25.404").status_code == 404


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"Modality": "CR"}, "qxr"),
        ({"Modality": "CT", "BodyPartExamined": "Chest"}, "qct"),
        ({"Modality": "CT", "BodyPartExamined": "BRAIN", "StudyDescription": "chest"}, "qer"),
        ({"Modality": "CT", "BodyPartExamined": "ABDOMEN", "StudyDescription": "chest"}, ""),
        ({"Modality": "CT", "SeriesDescription": "lung 1 mm"}, "qct"),
        ({"Modality": "CT", "ProtocolName": "Head routine"}, "qer"),
        ({"Modality": "CT"}, "ct"),
        ({"Modality": "MR", "BodyPartExamined": "CHEST"}, ""),
        ({}, ""),
    ],
)
def test_use_case_from_the_header(header: dict[str, str], expected: str) -> None:
    assert qure.usecase(header) == expected


def test_other_modalities_have_no_use_case(service: Service, data: dict[str, list[bytes]]) -> None:
    mr = data[phantom.BRAIN_T1]
    service.upload(*mr)
    for uid in (phantom.BRAIN_T1, sop(mr[0])):
        response = service.client.get(f"/results/{uid}")
        assert response.status_code == 400
        assert response.json()["message"] == "Use case not implemented"
        assert response.json()["seriesInstanceUID"] == phantom.BRAIN_T1
        assert response.json()["debug_info"] == {"reason": "Validity not determined yet!"}
    response = service.client.get(f"/results/v2/{sop(mr[0])}")
    assert (response.status_code, response.text) == (400, "not implemented")
    assert service.client.get(f"/compute/{phantom.BRAIN_T1}").status_code == 304


def test_a_ct_without_body_part_is_recognised_by_its_pixels(service: Service, data: dict[str, list[bytes]]) -> None:
    blank = {"BodyPartExamined": "", "ProtocolName": "", "SeriesDescription": "", "StudyDescription": ""}
    service.upload(*(changed(file, **blank) for file in data[phantom.LOW_DOSE_CT]), *data[phantom.WATER_CT])
    for uid in (phantom.LOW_DOSE_CT, phantom.WATER_CT):
        assert service.client.get(f"/compute/{uid}").status_code == 200
    assert service.finished(f"/results/{phantom.LOW_DOSE_CT}").json()["usecase"] == "qct"
    water = service.finished(f"/results/{phantom.WATER_CT}")
    assert (water.status_code, water.json()["debug_info"]["reason"]) == (400, "No cranium was found.")


def test_pixels_that_cannot_be_decoded_end_in_failure(service: Service, data: dict[str, list[bytes]]) -> None:
    dataset = pydicom.dcmread(io.BytesIO(data[phantom.CHEST_DX][0]))
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51 no image"])
    dataset["PixelData"].VR = "OB"
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    service.upload(file.getvalue())
    response = service.finished(f"/results/v2/{dataset.SOPInstanceUID}")
    assert (response.status_code, response.content) == (500, b"")
    response = service.client.get(f"/results/{dataset.SOPInstanceUID}")
    assert response.status_code == 400
    assert response.json()["debug_info"]["reason"].startswith("The computation failed")


def test_work_survives_kill_9(host: Host, tmp_path: Path, data: dict[str, list[bytes]]) -> None:
    program = """
        import sys
        sys.path.insert(0, {tests!r})
        from pathlib import Path
        from isocenter.sandbox.state import Options
        from test_sandbox_qure import Host
        with Host() as host, host.serving(Path({root!r}), Options(compute_seconds=1e9)) as service:
            print(service.url, flush=True)
            sys.stdin.read()
    """
    source = textwrap.dedent(program).format(tests=str(Path(__file__).parent), root=str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        url = child.stdout.readline().strip()
        saved = json.loads((tmp_path / "credentials.json").read_text())["qure"]
        headers = {"Authorization": f"Token {saved['token']}", "Source": saved["source"]}
        with httpx.Client(base_url=url, headers=headers, timeout=30, verify=False) as client:
            files = [("f", (f"{n}.dcm", file, "application/dicom")) for n, file in enumerate(data[phantom.LOW_DOSE_CT])]
            assert client.post("/studies/", files=files).status_code == 200
            assert client.get(f"/compute/{phantom.LOW_DOSE_CT}").status_code == 200
            assert client.get(f"/results/{phantom.LOW_DOSE_CT}").status_code == 202
        os.kill(child.pid, signal.SIGKILL)
    with host.serving(tmp_path) as service:
        assert service.token == saved["token"]
        response = service.finished(f"/results/{phantom.LOW_DOSE_CT}")
        assert response.status_code == 200
        assert BARE.get(response.json()["result"]["files"]["seg"][0]).status_code == 200


# Result files.


@pytest.fixture(scope="module")
def chest(
    host: Host, tmp_path_factory: pytest.TempPathFactory, data: dict[str, list[bytes]]
) -> Iterator[Callable[[str], list[bytes]]]:
    """The result files of the follow-up CT, computed after the baseline: kind to contents."""
    with host.serving(tmp_path_factory.mktemp("chest")) as service:
        for uid in (phantom.CHEST_CT, phantom.CHEST_FOLLOW_UP):
            service.upload(*data[uid])
            service.client.get(f"/compute/{uid}")
            files = service.finished(f"/results/{uid}").json()["result"]["files"]
        contents = {kind: [BARE.get(url) for url in urls] for kind, urls in files.items()}
        yield lambda kind: [response.raise_for_status().content for response in contents[kind]]


def read(data: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(data))


def test_every_dicom_result_belongs_to_the_study_and_is_marked(
    chest: Callable[[str], list[bytes]], data: dict[str, list[bytes]]
) -> None:
    source = read(data[phantom.CHEST_FOLLOW_UP][0])
    kinds = {
        "sc": "1.2.840.10008.5.1.4.1.1.7",
        "sc_key_slices": "1.2.840.10008.5.1.4.1.1.7",
        "gsps": "1.2.840.10008.5.1.4.1.1.11.1",
        "seg": "1.2.840.10008.5.1.4.1.1.66.4",
        "sr": "1.2.840.10008.5.1.4.1.1.88.33",
        "encapsulated_pdf": "1.2.840.10008.5.1.4.1.1.104.1",
    }
    uids = []
    for kind, sop_class in kinds.items():
        for content in chest(kind):
            dataset = read(content)
            assert dataset.SOPClassUID == dataset.file_meta.MediaStorageSOPClassUID == sop_class
            assert dataset.StudyInstanceUID == source.StudyInstanceUID
            assert dataset.PatientID == source.PatientID
            assert dataset.SeriesDescription == NOTICE
            uids.append(dataset.SOPInstanceUID)
    assert len(set(uids)) == len(uids) == 19


def test_the_nodules_of_the_phantom_are_found_where_they_are(
    chest: Callable[[str], list[bytes]], data: dict[str, list[bytes]]
) -> None:
    findings = json.loads(chest("json")[0])
    assert findings["notice"] == NOTICE
    assert findings["series_instance_uid"] == phantom.CHEST_FOLLOW_UP
    planted = {
        (n.x, n.y, n.z): n.diameter * (phantom.GROWTH if n is phantom.NODULES[0] else 1) for n in phantom.NODULES
    }
    assert len(findings["nodules"]) == len(planted)
    uploaded = {sop(file) for file in data[phantom.CHEST_FOLLOW_UP]}
    for nodule in findings["nodules"]:
        distance, diameter = min(
            (float(np.linalg.norm(np.subtract(nodule["center_mm"], place))), size) for place, size in planted.items()
        )
        assert distance < 2.6  # half a slice of 5 mm
        assert nodule["equivalent_diameter_mm"] == pytest.approx(diameter, abs=1.5)
        assert nodule["sop_instance_uid"] in uploaded


def test_the_segmentation_covers_the_nodules_and_nothing_else(
    chest: Callable[[str], list[bytes]], data: dict[str, list[bytes]]
) -> None:
    seg = read(chest("seg")[0])
    findings = json.loads(chest("json")[0])["nodules"]
    images = {sop(file): read(file) for file in data[phantom.CHEST_FOLLOW_UP]}
    voxels = dict.fromkeys(range(1, len(findings) + 1), 0)
    for mask, frame in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        image = images[frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        assert (image.pixel_array[mask > 0] - 1024.0 >= -400).all()
        voxels[number] += int(mask.sum())
    assert [voxels[n["id"]] * 1.5 * 1.5 * 5 for n in findings] == [n["volume_mm3"] for n in findings]
    assert [item.SegmentLabel for item in seg.SegmentSequence] == [f"Nodule {n['id']}" for n in findings]


def test_presentation_states_point_at_the_key_slices(chest: Callable[[str], list[bytes]]) -> None:
    findings = json.loads(chest("json")[0])["nodules"]
    for nodule, content in zip(findings, chest("gsps"), strict=True):
        state = read(content)
        (series,) = state.ReferencedSeriesSequence
        assert series.ReferencedImageSequence[0].ReferencedSOPInstanceUID == nodule["sop_instance_uid"]
        (annotation,) = state.GraphicAnnotationSequence
        (x, y), edge = np.array(annotation.GraphicObjectSequence[0].GraphicData).reshape(2, 2)
        corner = -(256 - 1) / 2 * 1.5  # centre of the first pixel, at graphic coordinate 0.5
        assert [corner + (x - 0.5) * 1.5, corner + (y - 0.5) * 1.5] == pytest.approx(nodule["center_mm"][:2], abs=1.5)
        assert (edge[0] - x) * 1.5 >= nodule["axial_diameter_mm"] / 2
        assert NOTICE in annotation.TextObjectSequence[0].UnformattedTextValue


def test_the_structured_report_has_the_measurements(chest: Callable[[str], list[bytes]]) -> None:
    report, seg = read(chest("sr")[0]), read(chest("seg")[0])
    texts: list[str] = []
    volumes: list[float] = []

    def walk(item: pydicom.Dataset) -> None:
        if item.get("ValueType") == "TEXT":
            texts.append(item.TextValue)
        if item.get("ValueType") == "NUM" and item.ConceptNameCodeSequence[0].CodeMeaning == "Volume":
            volumes.append(float(item.MeasuredValueSequence[0].NumericValue))
        if item.get("ValueType") == "IMAGE" and item.ReferencedSOPSequence[0].ReferencedSOPClassUID == seg.SOPClassUID:
            assert item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == seg.SOPInstanceUID
        for child in item.get("ContentSequence", []):
            walk(child)

    walk(report)
    findings = json.loads(chest("json")[0])
    assert NOTICE in texts
    measured = [findings["lung_volume_ml"], *(nodule["volume_mm3"] for nodule in findings["nodules"])]
    assert volumes == pytest.approx(measured, abs=0.1)


def test_captures_show_the_slice_the_notice_and_the_outline(
    chest: Callable[[str], list[bytes]], data: dict[str, list[bytes]]
) -> None:
    for content in chest("sc_key_slices"):
        capture = read(content)
        pixels = capture.pixel_array
        assert pixels.shape == (560, 512, 3)
        assert capture.BurnedInAnnotation == "YES"
        assert (pixels[:24] == (255, 220, 0)).all(axis=2).sum() > 100  # the notice, in yellow
        assert (pixels[24:-24] == (255, 60, 40)).all(axis=2).sum() > 20  # the outline, in red
    images = np.stack([read(file).pixel_array[::4, ::4] for file in data[phantom.CHEST_FOLLOW_UP]]).astype(float)
    shown = np.stack([read(content).pixel_array[24:-24:8, ::8, 1] for content in chest("sc")]).astype(float)
    grey = np.clip((images - 1024 + 1350) * 255 / 1500, 0, 255)
    for picture in shown:
        assert min(np.abs(grey - picture).mean(axis=(1, 2))) < 1


def test_text_documents(chest: Callable[[str], list[bytes]]) -> None:
    for kind in ("pdf", "pr"):
        (pdf,) = chest(kind)
        assert pdf.startswith(b"%PDF-1.4\n")
        assert pdf.endswith(b"%%EOF\n")
        assert NOTICE.encode() in pdf
        start = int(pdf.rsplit(b"startxref\n", 1)[1].split()[0])
        assert pdf[start : start + 5] == b"xref\n"
        for number, entry in enumerate(pdf[start:].split(b" 00000 n \n")[:-1], 1):
            assert pdf[int(entry[-10:]) :].startswith(b"%d 0 obj" % number)
    assert read(chest("encapsulated_pdf")[0]).EncapsulatedDocument.rstrip(b"\0") == chest("pdf")[0]
    message = chest("hl7")[0].decode().split("\r")
    assert message[0].startswith("MSH|^~\\&|ISOCENTER|")
    assert message[0].split("|")[8] == "ORU^R01^ORU_R01"
    assert message[1].split("|")[3] == "PAT-0001"
    assert sum(line.startswith("OBX|") and NOTICE in line for line in message) == 1


def test_the_progression_report_tells_which_nodule_grew(chest: Callable[[str], list[bytes]]) -> None:
    lines = [line for line in chest("pr")[0].decode("latin-1").splitlines() if line.startswith("(Nodule")]
    changes = [int(line.rsplit(", ", 1)[1].split(" %")[0]) for line in lines]
    assert len(changes) == 4
    assert max(changes) == pytest.approx((phantom.GROWTH**3 - 1) * 100, abs=30)
    assert sorted(changes)[-2] < 20


def test_urls_are_new_each_time_signed_and_expire_after_15_minutes(
    service: Service, data: dict[str, list[bytes]]
) -> None:
    (dx,) = data[phantom.CHEST_DX]
    service.upload(dx)
    path = f"/results/v2/{sop(dx)}"
    first = service.finished(path).json()["result"]["files"]["original"][0]
    service.clock.forward(14 * 60 + 59)
    assert BARE.get(first).content == dx
    second = service.client.get(path).json()["result"]["files"]["original"][0]
    assert second != first
    third = service.client.get(path).json()["result"]["files"]["original"][0]
    assert third not in (first, second)
    service.clock.forward(1)
    expired = BARE.get(first)
    assert expired.status_code == 403
    assert expired.headers["content-type"].startswith("application/xml")
    error = ElementTree.fromstring(expired.text)
    assert [error.findtext(name) for name in ("Code", "Message", "Expires", "ServerTime")] == [
        "AccessDenied",
        "Request has expired",
        error.findtext("ServerTime"),
        service.clock.time.strftime("%Y-%m-%dT%H:%M:%SZ"),
    ]
    assert BARE.get(second).status_code == 200
    url = httpx.URL(second)
    later = str(int(url.params["expires"]) + 1)
    for broken in (
        url.copy_set_param("signature", "0" * 64),
        url.copy_set_param("signature", "ä"),
        url.copy_set_param("expires", later),
        url.copy_set_param("expires", "x"),
        url.copy_remove_param("signature"),
        url.copy_with(path=url.path[:-1] + ("0" if url.path[-1] != "0" else "1")),
    ):
        refused = BARE.get(broken)
        assert refused.status_code == 403
        assert ElementTree.fromstring(refused.text).findtext("Code") == "SignatureDoesNotMatch"


def test_expired_urls_fault(service: Service, data: dict[str, list[bytes]]) -> None:
    (dx,) = data[phantom.CHEST_DX]
    service.upload(dx)
    faults.switch(service.sandbox, {"qure": ["expired-urls"]})
    url = service.finished(f"/results/v2/{sop(dx)}").json()["result"]["files"]["original"][0]
    assert BARE.get(url).status_code == 403
    faults.switch(service.sandbox, {"qure": []})
    url = service.client.get(f"/results/v2/{sop(dx)}").json()["result"]["files"]["original"][0]
    assert BARE.get(url).status_code == 200


# Radiographs and head CT.


def test_radiograph(service: Service, data: dict[str, list[bytes]]) -> None:
    (dx,) = data[phantom.CHEST_DX]
    uid = sop(dx)
    service.upload(dx)
    assert service.client.get(f"/compute/{phantom.CHEST_DX}").status_code == 304  # starts by itself
    assert service.client.get(f"/results/{uid}").status_code == 202
    response = service.finished(f"/results/v2/{uid}")
    answer = response.json()
    assert (response.status_code, answer["usecase"], answer["triage_status"]) == (200, "qxr", "Routine")
    report = answer["result"]["report"]
    assert set(report) == {"findings", "impression", "findings_list"}
    assert all(len(pair) == 2 for pair in report["findings_list"])
    files = answer["result"]["files"]
    assert set(files) == {
        "sc", "sc_full_png", "sc_thumbnail", "original_thumbnail", "original", "report_pdf", "report_dcm", "report_sr",
    }  # fmt: skip
    for kind in ("sc", "report_dcm", "report_sr"):
        assert read(BARE.get(files[kind][0]).content).SeriesDescription == NOTICE
    for kind in ("sc_full_png", "sc_thumbnail", "original_thumbnail"):
        picture = BARE.get(files[kind][0])
        assert picture.headers["content-type"] == "image/png"
        assert picture.content.startswith(b"\x89PNG")
    assert service.client.get(f"/results/{uid}").json()["usecase"] == "qxr"


def test_a_dense_lung_makes_a_radiograph_critical(service: Service, data: dict[str, list[bytes]]) -> None:
    dataset = read(data[phantom.CHEST_DX][0])
    pixels = dataset.pixel_array.copy()
    pixels[60:200, 290:440] = pixels.max()
    file = changed(data[phantom.CHEST_DX][0], PixelData=pixels.tobytes())
    service.upload(file)
    answer = service.finished(f"/results/v2/{sop(file)}").json()
    assert answer["triage_status"] == "Critical"
    assert service.client.get(f"/results/{sop(file)}").json()["triage_status"] == "critical"
    assert "right half of the image" in answer["result"]["report"]["findings"]


def test_a_radiograph_of_something_else_is_partial_content(service: Service, data: dict[str, list[bytes]]) -> None:
    hand = changed(data[phantom.CHEST_DX][0], BodyPartExamined="HAND")
    service.upload(hand)
    response = service.finished(f"/results/v2/{sop(hand)}")
    answer = response.json()
    assert (response.status_code, answer["triage_status"], answer["usecase"]) == (206, "Routine", "not_implemented")
    assert answer["result"]["report"] == {
        "findings": "Invalid X-Ray",
        "impression": "Uploaded Invalid X-RAY",
        "findings_list": [],
    }
    assert NOTICE.encode() in BARE.get(answer["result"]["files"]["report_pdf"][0]).content
    assert service.client.get(f"/results/{sop(hand)}").status_code == 400


def head_ct(template: bytes, blood_mm: float) -> list[bytes]:
    """Ten slices of a bone ring full of brain, with a ball of blood of that radius on one side."""
    x, y = np.meshgrid(np.arange(64) - 31.5, np.arange(64) - 31.5)
    files = []
    for index in range(10):
        image = np.full((64, 64), -1000.0)
        image[x**2 + y**2 < 28**2] = 900
        image[x**2 + y**2 < 25**2] = 35
        image[((x - 10) * 3) ** 2 + (y * 3) ** 2 + ((index - 5) * 5) ** 2 < blood_mm**2] = 70
        files.append(
            changed(
                template,
                SeriesInstanceUID=f"2.25.7{int(blood_mm)}",
                SOPInstanceUID=f"2.25.8{int(blood_mm)}{index}",
                InstanceNumber=index + 1,
                BodyPartExamined="HEAD",
                Rows=64,
                Columns=64,
                PixelSpacing=[3, 3],
                ImagePositionPatient=[-94.5, -94.5, index * 5.0],
                PixelData=(image + 1024).astype("<u2").tobytes(),
            )
        )
    return files


@pytest.mark.parametrize(("blood_mm", "critical"), [(0.0, False), (20.0, True)])
def test_head_ct(service: Service, data: dict[str, list[bytes]], blood_mm: float, critical: bool) -> None:
    files = head_ct(data[phantom.CHEST_CT][0], blood_mm)
    uid = series_of(files[0])
    service.upload(*files)
    assert service.client.get(f"/compute/{uid}").status_code == 200
    answer = service.finished(f"/results/{uid}").json()
    assert (answer["usecase"], answer["triage_status"]) == ("qer", "critical" if critical else "Routine")
    result = answer["result"]
    assert set(result["scores"]) == set(result["decisions"]) == {"ICH", "EDEMA", "ASYMMETRY"}
    assert all(0 <= score <= 1 for score in result["scores"].values())
    assert result["decisions"]["ICH"] is critical
    assert result["qure_model_version"] == "Latest"
    assert result["reporting_params"] == [name for name, positive in result["decisions"].items() if positive]
    assert {"sc", "report_pdf", "report_dcm", "report_sr"} <= set(result["files"])
    capture = read(BARE.get(result["files"]["sc"][0]).content).pixel_array
    assert (capture == (255, 60, 40)).all(axis=2).any() == critical


# The contract.


def test_every_answer_keeps_the_contract(service: Service, data: dict[str, list[bytes]], tmp_path: Path) -> None:
    """The generated client judges each answer: nothing breaks the specification, nothing is unknown to it."""
    hand = changed(data[phantom.CHEST_DX][0], BodyPartExamined="HAND", SOPInstanceUID="2.25.5")
    heads, ct = head_ct(data[phantom.CHEST_CT][0], 20.0), data[phantom.LOW_DOSE_CT]
    files = [*ct, *heads, *data[phantom.CHEST_CR], hand, data[phantom.BRAIN_T1][0]]
    paths = [tmp_path / f"{index}.dcm" for index in range(len(files))]
    for path, content in zip(paths, files, strict=True):
        path.write_bytes(content)
    (tmp_path / "no.dcm").write_bytes(bytes(128) + b"DICM")  # the client sends nothing worse
    seen: set[tuple[str, int]] = set()

    def judged(call: Callable[..., Result[Any]], **arguments: Any) -> int:
        try:
            result = call(**arguments)
        except StatusError as error:
            result = error.result
        assert result.findings == ()
        seen.add((call.__name__, result.status))
        return result.status

    def poll(call: Callable[..., Result[Any]], **arguments: Any) -> None:
        service.finished("/results/" + next(iter(arguments.values())))  # waits
        judged(call, **arguments)

    limits = Limits(tries=1)
    keys = {"token": service.token, "source": service.source}
    with QureSyncClient(service.url, credentials=keys, limits=limits) as client:
        judged(client.upload_studies, files=[str(path) for path in paths])
        judged(client.upload_studies, files=[str(paths[0])], content_type="multipart/related")
        judged(client.upload_studies, files=[str(tmp_path / "no.dcm")])
        judged(client.get_results_v2, sop_instance_uid=sop(hand))
        judged(client.get_results, uid=sop(hand))
        for uid in (phantom.LOW_DOSE_CT, series_of(heads[0])):
            judged(client.get_results, uid=uid)
            judged(client.start_computation, series_instance_uid=uid)
            judged(client.start_computation, series_instance_uid=uid)
            poll(client.get_results, uid=uid)
        poll(client.get_results_v2, sop_instance_uid=sop(hand))
        poll(client.get_results_v2, sop_instance_uid=sop(data[phantom.CHEST_CR][0]))
        poll(client.get_results, uid=sop(data[phantom.CHEST_CR][0]))
        judged(client.get_results, uid=phantom.BRAIN_T1)
        judged(client.get_results_v2, sop_instance_uid=sop(data[phantom.BRAIN_T1][0]))
        judged(client.get_results, uid="2.25.404")
        judged(client.get_results_v2, sop_instance_uid="2.25.404")
        judged(client.start_computation, series_instance_uid="2.25.404")
    for wrong in ({"token": "wrong"}, {"source": "wrong"}):
        with QureSyncClient(service.url, credentials={**keys, **wrong}, limits=limits) as client:
            judged(client.upload_studies, files=[str(paths[0])])
            judged(client.start_computation, series_instance_uid="2.25.1")
            judged(client.get_results, uid="2.25.1")
            judged(client.get_results_v2, sop_instance_uid="2.25.1")
    statuses = {
        "upload_studies": {200, 400, 401, 403},
        "start_computation": {200, 304, 401, 403, 404},
        "get_results": {200, 202, 400, 401, 403, 404, 409},
        "get_results_v2": {200, 202, 206, 400, 401, 403, 404},
    }
    assert seen == {(call, status) for call, all_ in statuses.items() for status in all_}
