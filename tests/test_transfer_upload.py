"""Files from disk to Qure.ai and DICOMweb servers: found by content, sent in batches, accounted for one by one, never sent twice."""

from __future__ import annotations

import io
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from transfer_fakes import SERIES, STUDY, Pauses, dicom, lines
from typer.testing import CliRunner

from isocenter.cli_transfer import app
from isocenter.core import FileSource, Limits, MissingCredentials, StatusError
from isocenter.sandbox.app import Running
from isocenter.sandbox.multipart import PartData, PartEnd, PartStart, Splitter
from isocenter.transfer import scan
from isocenter.transfer.scan import NotDicom, find_dicom, read_header
from isocenter.transfer.stow import Insecure, contract, store_to_dicomweb
from isocenter.transfer.upload import Journal, upload_to_qure
from isocenter_clients.qure import QureClient

pytestmark = pytest.mark.anyio


def write(folder: Path, count: int, series: str = SERIES, *, pad: int = 600) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        paths.append(folder / f"Doe^Jane {number:04d}.bin")
        paths[-1].write_bytes(dicom(f"{series}.{number}", series, pad=pad))
    return paths


# -- finding --------------------------------------------------------------------------------------------------------------


def test_dicom_is_found_by_content_and_grouped_by_series(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b", 3)
    [other] = write(tmp_path / "c", 1, "2.25.7")
    shutil.copy(other, tmp_path / "copy")
    (tmp_path / "other version").write_bytes(other.read_bytes() + b"\0")
    (tmp_path / "note.dcm").write_text("no DICOM")
    (tmp_path / "empty").touch()
    write(tmp_path / ".hidden", 1, "2.25.8")
    (tmp_path / ".1.part").write_bytes(dicom("2.25.9", "2.25.8"))
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "unreadable").symlink_to("/proc/self/mem")
    found = find_dicom([tmp_path, tmp_path / "a"])
    assert {uid: len(series.instances) for uid, series in found.series.items()} == {SERIES: 3, "2.25.7": 1}
    assert found.series[SERIES].study_instance_uid == STUDY
    assert found.series[SERIES].modality == "CT"
    assert found.series[SERIES].size == sum(path.stat().st_size for path in (tmp_path / "a" / "b").iterdir())
    # Which of the three is first, the order of the walk decides; the others are told apart by their bytes.
    assert (found.instances, found.other_files, len(found.repeated) + len(found.conflicting)) == (4, 2, 2)
    assert found.unreadable == [tmp_path / "unreadable"]
    assert find_dicom([tmp_path / "nowhere"]).unreadable == [tmp_path / "nowhere"]


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian], ids=lambda uid: uid.name
)
def test_headers_are_read_in_every_transfer_syntax(syntax: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(dicom("2.25.5", syntax=syntax))
    header = read_header(path)
    assert (header.sop_instance_uid, header.series_instance_uid, header.modality) == ("2.25.5", SERIES, "CT")


def test_what_stands_before_the_uids_does_not_hide_them(tmp_path: Path) -> None:
    item = pydicom.Dataset()
    item.ReferencedSOPInstanceUID = "2.25.666"
    path = tmp_path / "x"
    path.write_bytes(dicom("2.25.5", ReferencedImageSequence=[item]))
    assert read_header(path).sop_instance_uid == "2.25.5"
    dataset = pydicom.dcmread(path)
    dataset["ReferencedImageSequence"].is_undefined_length = True
    dataset.save_as(path)
    assert read_header(path).series_instance_uid == SERIES
    path.write_bytes(dicom("2.25.5", pad=100))
    dataset = pydicom.dcmread(path)
    dataset.add_new(0x00090010, "LO", "LONG PRIVATE DATA")
    dataset.add_new(0x00091001, "OB", bytes(40_000))
    dataset.save_as(path)
    assert read_header(path).series_instance_uid == SERIES


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian], ids=lambda uid: uid.name)
def test_nested_data_of_undefined_length_needs_no_second_reader(
    syntax: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nested(depth: int) -> pydicom.Dataset:
        item = pydicom.Dataset()
        item.is_undefined_length_sequence_item = True
        item.SOPInstanceUID, item.SeriesInstanceUID, item.CodeValue = "2.25.666", "2.25.667", "x"
        if depth:
            item.ReferencedSeriesSequence = [nested(depth - 1), nested(0)]
            item["ReferencedSeriesSequence"].is_undefined_length = True
        return item

    path = tmp_path / "x"
    path.write_bytes(dicom("2.25.5", syntax=syntax, DeidentificationMethodCodeSequence=[nested(3)]))
    dataset = pydicom.dcmread(path)
    dataset["DeidentificationMethodCodeSequence"].is_undefined_length = True
    dataset.save_as(path)
    data = path.read_bytes()
    monkeypatch.setattr(scan, "_thorough", lambda _: {})
    header = read_header(path)
    assert (header.sop_instance_uid, header.series_instance_uid, header.modality) == ("2.25.5", SERIES, "CT")
    # Cut anywhere before its series, it is never read wrongly.
    for end in range(133, data.index(SERIES.encode()) + len(SERIES)):
        path.write_bytes(data[:end])
        with pytest.raises(NotDicom):
            read_header(path)


def test_nesting_without_end_is_no_dicom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_thorough", lambda _: {})
    start = dicom("2.25.5").partition(b"\x08\x00\x16\x00")[0]
    path = tmp_path / "x"
    path.write_bytes(start + b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 5000)
    with pytest.raises(NotDicom):
        read_header(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(132),
        bytes(128) + b"DICM",
        dicom("2.25.5")[:300],
        dicom("2.25.5", ""),
        dicom("2.25.5").replace(b"2.25.5", b"../x.5"),
    ],
)
def test_what_has_no_uids_is_no_dicom(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(NotDicom):
        read_header(path)


# -- Qure.ai --------------------------------------------------------------------------------------------------------------


class Qure(httpx.AsyncBaseTransport):
    """Takes uploads; `answer(number of the request, UIDs of the parts)` says what to answer, None for the good answer."""

    def __init__(
        self, answer: Callable[[int, list[str]], httpx.Response | Exception | None] = lambda _n, _u: None
    ) -> None:
        self.answer = answer
        self.requests: list[list[str]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        splitter, heads, data = Splitter(request.headers["content-type"]), list[str](), list[bytes]()
        size = 0
        assert isinstance(request.stream, httpx.AsyncByteStream)
        async for piece in request.stream:
            size += len(piece)
            assert b"Doe" not in piece
            for event in splitter.feed(piece):
                if isinstance(event, PartStart):
                    heads.append(event.name or "")
                    data.append(b"")
                elif isinstance(event, PartData):
                    data[-1] += bytes(event.data)
                else:
                    assert isinstance(event, PartEnd)
        splitter.close()
        assert size == int(request.headers["content-length"])
        assert heads == [f"file_{n}" for n in range(len(heads))]
        uids = [_uid(part) for part in data]
        self.requests.append(uids)
        answer = self.answer(len(self.requests), uids)
        if isinstance(answer, Exception):
            raise answer
        return answer or good(uids)


def _uid(data: bytes) -> str:
    at = data.index(b"\x08\x00\x18\x00UI") + 8
    return data[at : at + int.from_bytes(data[at - 2 : at], "little")].rstrip(b"\0").decode()


def good(uids: list[str], **changed: Any) -> httpx.Response:
    messages = {
        f"file_{n}": {
            "message": "DICOM registered successfully.",
            "created": True,
            "license_expired": False,
            "metadata": {},
        }
        for n in range(len(uids))
    }
    counts = [{"SeriesInstanceUID": SERIES, "NumberOfSeriesRelatedInstances": 10_000}]
    body = {"message": "Success", "messages": messages, "series_instance_uids": [SERIES], "detailed_info": counts}
    for key, value in changed.items():
        if value is None:
            del body[key]
        elif key.startswith("file_"):
            messages[key] |= value
        else:
            body[key] = value
    return httpx.Response(200, json=body)


def client(transport: Qure) -> QureClient:
    credentials = {"token": "t", "source": "s"}
    return QureClient("http://qure.test", transport=transport, credentials=credentials, limits=Limits(tries=1))


class Counted(io.FileIO):
    """Counts how many of its kind are open."""

    now = most = 0

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        Counted.now += 1
        Counted.most = max(Counted.most, Counted.now)

    def close(self) -> None:
        Counted.now -= not self.closed
        super().close()


async def test_a_series_goes_in_batches_with_one_file_open_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FileSource, "open", lambda source: Counted(source.path))
    write(tmp_path / "series", 250)
    transport, arrived = Qure(), list[int]()
    found = find_dicom([tmp_path])
    async with client(transport) as qure:
        [result] = await upload_to_qure(qure.client, found.series.values(), progress=arrived.append)
    assert [len(batch) for batch in transport.requests] == [100, 100, 50]
    sent = [uid for batch in transport.requests for uid in batch]
    assert sent == [instance.sop_instance_uid for instance in found.series[SERIES].instances]
    assert (Counted.now, Counted.most) == (0, 1)
    assert (result.sent, result.before, result.state, result.whole) == (250, 0, "done", True)
    assert sum(arrived) == result.bytes == found.series[SERIES].size


async def test_large_files_make_small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isocenter.transfer.upload.BATCH_BYTES", 5000)
    write(tmp_path, 7, pad=1500)
    transport = Qure()
    async with client(transport) as qure:
        await upload_to_qure(qure.client, find_dicom([tmp_path]).series.values())
    assert [len(batch) for batch in transport.requests] == [2, 2, 2, 1]


async def test_a_killed_upload_goes_on_where_it_was(tmp_path: Path) -> None:
    write(tmp_path / "series", 250)
    series = find_dicom([tmp_path / "series"]).series.values()
    broken = Qure(lambda number, _: httpx.ReadError("gone") if number > 1 else None)
    async with client(broken) as qure:
        with Journal(tmp_path / "j") as journal:
            [result] = await upload_to_qure(qure.client, series, journal=journal, pause=Pauses(), tries=2)
    assert (result.sent, result.state, result.code, len(broken.requests)) == (100, "failed", "transport", 3)
    with (tmp_path / "j").open("ab") as file:
        file.write(b'{"to": "')
    transport = Qure()
    async with client(transport) as qure:
        with Journal(tmp_path / "j") as journal:
            [result] = await upload_to_qure(qure.client, series, journal=journal)
            assert (result.sent, result.before, result.state) == (150, 100, "done")
            [result] = await upload_to_qure(qure.client, series, journal=journal)
            assert (result.sent, result.before, result.state) == (0, 250, "skipped")
        # Another destination knows nothing of it, and neither does a file that changed.
        changed = next(iter(series)).instances[3].path
        changed.write_bytes(dicom(f"{SERIES}.3", pad=2000))
        with Journal(tmp_path / "j") as journal:
            [result] = await upload_to_qure(
                qure.client, find_dicom([tmp_path / "series"]).series.values(), journal=journal
            )
            assert (result.sent, result.before) == (1, 249)
        async with QureClient(
            "http://other.test", transport=transport, credentials={"token": "t", "source": "s"}
        ) as other:
            with Journal(tmp_path / "j") as journal:
                [result] = await upload_to_qure(other.client, series, journal=journal, tries=1)
    assert (result.sent, result.before) == (249, 0)
    assert result.refused[0].why == "The file changed since it was found."
    assert "qure.test" not in (tmp_path / "j").read_text()


async def test_failures_that_may_pass_are_repeated_as_a_whole(tmp_path: Path) -> None:
    write(tmp_path, 5)
    pauses = Pauses()
    trouble: dict[int, httpx.Response | Exception] = {
        1: httpx.ConnectError("no"),
        2: httpx.Response(502, text="<html></html>"),
        3: httpx.ReadError("lost"),
    }
    transport = Qure(lambda number, _: trouble.get(number))
    async with client(transport) as qure:
        [result] = await upload_to_qure(qure.client, find_dicom([tmp_path]).series.values(), pause=pauses)
    assert result.whole
    assert [len(batch) for batch in transport.requests] == [5] * 4
    assert len(pauses) >= 3


@pytest.mark.parametrize(
    "changed, refused",
    [
        ({"file_1": {"created": False, "message": "Not registered: no DICOM."}}, {1: "Not registered: no DICOM."}),
        ({"file_1": {"created": False}}, {}),  # it was there before
        (
            {"file_0": {"license_expired": True}},
            {0: "The licence of the workspace has expired; nothing would be analysed."},
        ),
        ({"messages": {}}, dict.fromkeys(range(3), "The answer does not mention it.")),
        ({"messages": None}, {}),  # the older generation
        ({"messages": None, "series_instance_uids": []}, dict.fromkeys(range(3), "The answer names no series.")),
    ],
    ids=str,
)
async def test_every_instance_is_held_against_the_answer(
    changed: dict[str, Any], refused: dict[int, str], tmp_path: Path
) -> None:
    paths = write(tmp_path / "series", 3)
    transport = Qure(lambda _, uids: good(uids, **changed))
    async with client(transport) as qure:
        with Journal(tmp_path / "j") as journal:
            [result] = await upload_to_qure(
                qure.client, find_dicom([tmp_path / "series"]).series.values(), journal=journal
            )
            assert {paths.index(one.path): one.why for one in result.refused} == refused
            assert result.sent == 3 - len(refused)
            assert result.state == ("failed" if refused else "done")
            series = find_dicom([tmp_path / "series"]).series[SERIES]
            missing = [n for n, one in enumerate(series.instances) if not journal.has(_destination(), SERIES, one)]
    assert missing == sorted(refused)


def _destination() -> str:
    from isocenter.transfer.upload import destination_of

    return destination_of("http://qure.test", "s")


async def test_an_answer_that_contradicts_itself_confirms_nothing(tmp_path: Path) -> None:
    write(tmp_path, 3)
    counts = [{"SeriesInstanceUID": SERIES, "NumberOfSeriesRelatedInstances": 2}]
    async with client(Qure(lambda _, uids: good(uids, detailed_info=counts))) as qure:
        [result] = await upload_to_qure(qure.client, find_dicom([tmp_path]).series.values())
    assert (result.sent, result.code, result.state) == (0, "unconfirmed", "failed")


async def test_requests_that_are_too_large_are_halved_and_wrong_ones_not_repeated(tmp_path: Path) -> None:
    write(tmp_path, 7)
    transport = Qure(lambda _, uids: httpx.Response(413, text="too large") if len(uids) > 2 else None)
    async with client(transport) as qure:
        [result] = await upload_to_qure(qure.client, find_dicom([tmp_path]).series.values(), pause=Pauses())
    assert result.whole
    assert [len(batch) for batch in transport.requests] == [7, 3, 1, 2, 4, 2, 2]
    wrong = httpx.Response(400, json={"message": "No DICOM files were uploaded!"})
    transport = Qure(lambda _, uids: wrong)
    async with client(transport) as qure:
        [result] = await upload_to_qure(qure.client, find_dicom([tmp_path]).series.values(), pause=Pauses())
    assert (len(transport.requests), len(result.refused)) == (1, 7)
    assert "No DICOM files" in result.why


async def test_what_all_series_would_meet_ends_the_upload(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / str(number), 1, f"2.25.4{number}")
    denied = httpx.Response(403, json={"success": False, "message": "Access denied!"})
    transport = Qure(lambda _, uids: denied)
    async with client(transport) as qure:
        with pytest.raises(StatusError, match="403"):
            await upload_to_qure(qure.client, find_dicom([tmp_path]).series.values(), at_once=1)
    assert len(transport.requests) == 1
    async with QureClient("http://qure.test", transport=transport) as qure:
        with pytest.raises(MissingCredentials):
            await upload_to_qure(qure.client, find_dicom([tmp_path]).series.values())


async def test_files_that_vanish_are_told_and_the_rest_is_sent(tmp_path: Path) -> None:
    paths = write(tmp_path, 4)
    series = find_dicom([tmp_path]).series.values()
    paths[1].unlink()
    paths[2].write_bytes(b"short")
    async with client(Qure()) as qure:
        [result] = await upload_to_qure(qure.client, series)
    assert (result.sent, result.state) == (2, "failed")
    assert [one.why for one in result.refused] == [
        "The file cannot be read: No such file or directory.",
        "The file changed since it was found.",
    ]


@pytest.mark.parametrize("framing", ["form-data", "related"])
async def test_the_sandbox_holds_what_was_sent(framing: Any, sandbox: Running, tmp_path: Path) -> None:
    uid = "2.25.8101" if framing == "related" else "2.25.8102"
    paths = write(tmp_path, 130, uid)
    async with QureClient(f"{sandbox.url}/qure", credentials=sandbox.sandbox.credentials["qure"]) as qure:
        [result] = await upload_to_qure(qure.client, find_dicom([tmp_path]).series.values(), framing=framing)
    assert result.state == "done"
    archive = sandbox.sandbox.archive("qure")
    stored = {archive.path(instance).read_bytes() for instance in archive.instances(uid)}
    assert stored == {path.read_bytes() for path in paths}


# -- DICOMweb -------------------------------------------------------------------------------------------------------------


class Stow(ThreadingHTTPServer):
    """A strict STOW-RS server: PS3.18 framing to the letter. `answer(UIDs)` gives status, stored and failed UIDs with reasons."""

    daemon_threads = True

    def __init__(self, answer: Callable[[list[str]], tuple[int, list[str], dict[str, int]]]) -> None:
        self.answer = answer
        self.stored: dict[str, bytes] = {}
        self.authorization: list[str | None] = []
        super().__init__(("127.0.0.1", 0), _StowHandler)


class _StowHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stow

    def log_message(self, *arguments: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kind, _, boundary = self.headers["Content-Type"].partition("; boundary=")
        self.server.authorization.append(self.headers["Authorization"])
        assert self.path == "/dicom-web/studies"
        assert kind == 'multipart/related; type="application/dicom"'
        assert "application/dicom+json" in self.headers["Accept"]
        mark = f"--{boundary}".encode()
        assert body.startswith(mark + b"\r\n")
        assert body.endswith(b"\r\n" + mark + b"--\r\n")
        parts = {}
        for part in body[len(mark) + 2 : -len(mark) - 6].split(b"\r\n" + mark + b"\r\n"):
            head, _, data = part.partition(b"\r\n\r\n")
            fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n"))
            assert fields[b"Content-Type"] == b"application/dicom"
            parts[_uid(data)] = data
        status, stored, failed = self.server.answer(list(parts))
        self.server.stored |= {uid: parts[uid] for uid in stored}
        dataset = {
            "00081190": {"vr": "UR", "Value": ["http://server/studies/1"]},
            "00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in stored]},
            "00081198": {
                "vr": "SQ",
                "Value": [
                    {"00081155": {"vr": "UI", "Value": [uid]}, "00081197": {"vr": "US", "Value": [reason]}}
                    for uid, reason in failed.items()
                ],
            },
        }
        data = json.dumps(dataset).encode() if stored or failed else b""
        self.send_response(status)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def stow(
    answer: Callable[[list[str]], tuple[int, list[str], dict[str, int]]] = lambda uids: (200, uids, {}),
) -> Iterator[tuple[str, Stow]]:
    with Stow(answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/dicom-web", server
        finally:
            server.shutdown()
            thread.join()


def test_the_contract_of_storing_compiles() -> None:
    contract().compile()


async def test_a_strict_server_stores_every_byte(tmp_path: Path) -> None:
    paths = write(tmp_path / "series", 120)
    with stow() as (url, server), Journal(tmp_path / "j") as journal:
        series = find_dicom([tmp_path / "series"]).series.values()
        [result] = await store_to_dicomweb(url, series, journal=journal, credentials={"token": "t0ken"})
        assert (result.sent, result.state) == (120, "done")
        assert set(server.stored.values()) == {path.read_bytes() for path in paths}
        assert server.authorization == ["Bearer t0ken"] * 2
        [result] = await store_to_dicomweb(url, series, journal=journal)
        assert (result.before, result.state, len(server.authorization)) == (120, "skipped", 2)


@pytest.mark.parametrize(
    "status, failed, why",
    [
        (202, {1: 0x0122}, "SOP class not supported (0122H)"),
        (202, {1: 0xA7FF}, "out of resources (A7FFH)"),
        (202, {1: 0x1234}, "refused (1234H)"),
        (200, {1: 0xC001}, "cannot be understood (C001H)"),
        (409, {0: 0x0110, 1: 0x0110, 2: 0x0110}, "processing failure (0110H)"),
    ],
)
async def test_the_list_of_failures_is_honoured(status: int, failed: dict[int, int], why: str, tmp_path: Path) -> None:
    write(tmp_path, 3)

    def answer(uids: list[str]) -> tuple[int, list[str], dict[str, int]]:
        return status, [u for n, u in enumerate(uids) if n not in failed], {uids[n]: code for n, code in failed.items()}

    with stow(answer) as (url, server):
        [result] = await store_to_dicomweb(url, find_dicom([tmp_path]).series.values(), pause=Pauses())
    assert (result.sent, len(result.refused), result.state) == (3 - len(failed), len(failed), "failed")
    assert {one.why for one in result.refused} == {why}
    assert len(server.stored) == result.sent


async def test_a_server_that_says_nothing_has_stored_nothing(tmp_path: Path) -> None:
    write(tmp_path, 2)
    with stow(lambda uids: (200, [], {})) as (url, _):
        [result] = await store_to_dicomweb(url, find_dicom([tmp_path]).series.values())
    assert (result.sent, result.state) == (0, "failed")
    assert result.refused[0].why == "The answer does not mention it."
    with stow(lambda uids: (415, [], {})) as (url, _):
        [result] = await store_to_dicomweb(url, find_dicom([tmp_path]).series.values())
    assert "415" in result.why


async def test_credentials_do_not_go_over_plain_http(tmp_path: Path) -> None:
    with pytest.raises(Insecure):
        await store_to_dicomweb("http://pacs.example.org/dicom-web", [], credentials={"basic": "a:b"})


@contextmanager
def orthanc(folder: Path) -> Iterator[str]:
    """A real Orthanc with its DICOMweb plugin, or a skipped test."""
    program, plugin = shutil.which("Orthanc"), Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
    if not program or not plugin.exists():
        pytest.skip("Orthanc and orthanc-dicomweb are not installed (Debian: apt-get install orthanc orthanc-dicomweb)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [str(plugin)],
        "DicomWeb": {"Enable": True},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with subprocess.Popen(
        [program, str(folder / "orthanc.json")], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr
        try:
            told = []
            for line in process.stderr:
                told.append(line)
                if "Orthanc has started" in line:
                    break
            else:
                raise AssertionError("".join(told))
            drain = threading.Thread(target=process.stderr.read, daemon=True)
            drain.start()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)
            drain.join()


async def test_orthanc_stores_every_instance(tmp_path: Path) -> None:
    write(tmp_path / "a", 130)
    write(tmp_path / "b", 2, "2.25.77")
    with orthanc(tmp_path) as url:
        found = find_dicom([tmp_path / "a", tmp_path / "b"])
        results = await store_to_dicomweb(f"{url}/dicom-web", found.series.values())
        assert {result.series_uid: (result.sent, result.state) for result in results} == {
            SERIES: (130, "done"),
            "2.25.77": (2, "done"),
        }
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(f"{url}/statistics")).json()["CountInstances"] == 132


# -- the command ----------------------------------------------------------------------------------------------------------


def test_the_command_sends_once_and_tells(sandbox: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = sandbox.sandbox.credentials["qure"]
    monkeypatch.setenv("ISOCENTER_CONFIG", "")
    monkeypatch.setenv("ISOCENTER_QURE_BASE_URL", f"{sandbox.url}/qure")
    monkeypatch.setenv("ISOCENTER_QURE_TOKEN", saved["token"])
    monkeypatch.setenv("ISOCENTER_QURE_SOURCE", saved["source"])
    write(tmp_path / "data", 3, "2.25.8103")
    runner = CliRunner()
    first = runner.invoke(app, ["upload", str(tmp_path / "data"), "--json"])
    assert first.exit_code == 0, first.output
    assert [(event["event"], event.get("sent")) for event in lines(first.output)] == [("series", 3), ("end", None)]
    second = runner.invoke(app, ["upload", str(tmp_path / "data")])
    assert "1 were there, 0 failed" in second.output
    with stow(lambda uids: (202, uids[1:], {uids[0]: 0xA900})) as (url, _):
        third = runner.invoke(app, ["upload", str(tmp_path / "data"), "--to", url, "--journal", str(tmp_path / "j")])
    assert third.exit_code == 1
    assert "do not match the SOP class" in third.output
    for arguments in (["/nowhere"], [str(tmp_path), "--framing", "x"], [str(tmp_path), "--to", "ftp://x"]):
        assert runner.invoke(app, ["upload", *arguments]).exit_code == 2
