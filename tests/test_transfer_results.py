"""Results of Qure.ai: waiting, files that expire, many at once, the index beside them, the command."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from transfer_fakes import Pauses, dicom, faulty, lines
from typer.testing import CliRunner

from isocenter.cli_transfer import app
from isocenter.core import IsocenterError, Limits, StatusError, StorageError, TransportError
from isocenter.sandbox.app import Running
from isocenter.sandbox.faults import switch
from isocenter.transfer.layout import PRIVATE
from isocenter.transfer.manifest import facts_of_filter
from isocenter.transfer.mirror import download_many
from isocenter.transfer.results import (
    ResultsExpired,
    ResultsLate,
    ResultsOnDisk,
    ResultWanted,
    fetch_many,
    fetch_results,
    read_results,
    wait_for_results,
)
from isocenter.transfer.scan import find_dicom
from isocenter.transfer.upload import upload_to_qure
from isocenter_clients.qure import QureClient
from isocenter_clients.tcia import TciaClient

pytestmark = pytest.mark.anyio

UID = "2.25.1001"
PENDING = httpx.Response(202, json={"success": False, "message": "under process"})
NOT_STARTED = httpx.Response(409, json={"success": False, "message": "not yet invoked"})
NOT_UPLOADED = httpx.Response(404, json={"success": False, "message": "not yet uploaded"})


def done(**files: list[str]) -> httpx.Response:
    body = {"success": True, "message": "ok", "triage_status": "critical", "usecase": "qct", "result": {"files": files}}
    return httpx.Response(200, json=body)


class Qure(httpx.AsyncBaseTransport):
    """Answers /results in turn, the last one for ever; computations are noted."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path.split("/")[1])
        if "/compute/" in request.url.path:
            return httpx.Response(200, json={"message": "pushed", "success": True})
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def client(transport: Qure) -> QureClient:
    credentials = {"token": "qure-secret-token", "source": "s"}
    return QureClient("http://qure.test", transport=transport, credentials=credentials, limits=Limits(tries=1))


# -- waiting --------------------------------------------------------------------------------------------------------------


async def test_waiting_asks_less_and_less_often() -> None:
    transport, pauses, told = Qure(*[PENDING] * 14, done()), Pauses(), list[float]()

    async def progress(seconds: float) -> None:
        told.append(seconds)

    async with client(transport) as qure:
        answer = await wait_for_results(qure.client, UID, pause=pauses, progress=progress)
    assert answer.data["usecase"] == "qct"
    assert len(pauses) == len(told) == 14
    assert 1.5 <= pauses[0] <= 2.5
    assert all(22.5 <= pause <= 37.5 for pause in pauses[-4:])
    assert sum(pauses[:7]) < sum(pauses[7:])
    assert len(set(pauses)) == 14  # jitter


async def test_what_nobody_started_is_started_once_asked_for() -> None:
    transport = Qure(NOT_STARTED, PENDING, done())
    async with client(transport) as qure:
        await wait_for_results(qure.client, UID, pause=Pauses())
        assert transport.asked == ["results", "compute", "results", "results"]
        with pytest.raises(StatusError, match="409"):
            await wait_for_results(client(Qure(NOT_STARTED)).client, UID, start=False, pause=Pauses())


@pytest.mark.parametrize(
    "answers, error",
    [
        ([NOT_UPLOADED, httpx.ReadError("lost"), httpx.Response(502, text="<html></html>"), done()], None),
        ([NOT_UPLOADED], StatusError),
        (
            [httpx.Response(400, json={"success": False, "message": "Use case not implemented", "result": {}})],
            StatusError,
        ),
        ([PENDING], ResultsLate),
    ],
    ids=["passes", "never uploaded", "no use case", "never ready"],
)
async def test_what_may_pass_is_waited_for(answers: list[Any], error: type[Exception] | None) -> None:
    pauses = Pauses()
    async with client(Qure(*answers)) as qure:
        if error is None:
            await wait_for_results(qure.client, UID, pause=pauses)
            assert len(pauses) == 3
            return
        with pytest.raises(error):
            await wait_for_results(qure.client, UID, pause=pauses, give_up_after=100)
    if error is ResultsLate:
        assert sum(pauses) == pytest.approx(100, abs=1)
    if answers == [NOT_UPLOADED]:
        assert 60 <= sum(pauses) <= 100


# -- files ----------------------------------------------------------------------------------------------------------------


@contextmanager
def store(answer: Callable[[str], tuple[int, bytes]]) -> Iterator[str]:
    """An object store on a real socket: `answer(path)` gives status and bytes."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            assert "Authorization" not in self.headers
            assert "Source" not in self.headers
            status, body = answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


CONTENT = {"sc": dicom("2.25.5"), "pdf": b"%PDF-1.7 x", "json": b' {"nodules": []}', "hl7": b"MSH|^~", "odd": b"\1\2"}


def _content(path: str) -> tuple[int, bytes]:
    name = path.partition("?")[0].rpartition("/")[2].partition("-")[0]
    return (403, b"<Error><Message>Request has expired</Message></Error>") if "old" in path else (200, CONTENT[name])


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != PRIVATE)


async def test_all_files_are_fetched_and_listed_and_not_fetched_again(tmp_path: Path) -> None:
    with store(_content) as url:
        files = {kind: [f"{url}/a/{kind}-1.dat?x=1&signature=a%2Fb%3D"] for kind in CONTENT}
        files["sc"].append(f"{url}/a/sc-2?x=2")
        transport = Qure(done(**files))
        async with client(transport) as qure:
            found = await fetch_results(qure.client, UID, tmp_path / "r" / UID)
            assert not found.skipped
            assert (found.usecase, found.triage_status, found.files) == ("qct", "critical", 6)
            again = await fetch_results(qure.client, UID, tmp_path / "r" / UID)
            assert again.skipped
            assert transport.asked == ["results"]
            (found.folder / "pdf-1.pdf").write_bytes(b"damaged")
            assert read_results(found.folder, UID) is None
            killed = tmp_path / "r" / f".{UID}.part"
            killed.mkdir()
            assert not (await fetch_results(qure.client, UID, found.folder)).skipped
    index = json.loads((found.folder / "index.json").read_text())
    assert [file["name"] for file in index["files"]] == [
        "hl7-1.hl7",
        "json-1.json",
        "odd-1.dat",
        "pdf-1.pdf",
        "sc-1.dcm",
        "sc-2.dcm",
    ]
    for file in index["files"]:
        assert file["sha256"] == hashlib.sha256(CONTENT[file["kind"]]).hexdigest()
    assert _names(tmp_path / "r") == [UID]


async def test_expired_addresses_are_asked_for_again(tmp_path: Path) -> None:
    with store(_content) as url:
        first = done(sc=[f"{url}/new/sc-1"], pdf=[f"{url}/old/pdf-1"], hl7=[f"{url}/old/hl7-1"])
        second = done(sc=[f"{url}/old/sc-1"], pdf=[f"{url}/new/pdf-1"], hl7=[f"{url}/new/hl7-1"])
        transport = Qure(first, PENDING, second)
        async with client(transport) as qure:
            found = await fetch_results(qure.client, UID, tmp_path / UID, pause=Pauses())
        assert found.files == 3
        assert transport.asked == ["results"] * 3
        transport = Qure(done(sc=[f"{url}/old/sc-1"]))
        async with client(transport) as qure:
            with pytest.raises(ResultsExpired, match="403"):
                await fetch_results(qure.client, UID, tmp_path / "other", pause=Pauses())
        assert len(transport.asked) == 3
    assert _names(tmp_path) == [UID]


async def test_failures_leave_nothing_behind_and_addresses_in_the_clear_are_refused(tmp_path: Path) -> None:
    with store(lambda path: (500, b"down")) as url:
        async with client(Qure(done(sc=[f"{url}/sc-1?signature=secret"]))) as qure:
            with pytest.raises(StatusError, match="500") as caught:
                await fetch_results(qure.client, UID, tmp_path / UID)
            assert "secret" not in str(caught.value)
    for address, error in (("http://store.example.org/x", StorageError), ("http://127.0.0.1:9/x", TransportError)):
        async with client(Qure(done(sc=[address]))) as qure:
            with pytest.raises(error):
                await fetch_results(qure.client, UID, tmp_path / UID)
    assert _names(tmp_path) == []
    (tmp_path / UID).write_text("in the way")
    async with client(Qure(done())) as qure:
        with pytest.raises(StorageError):
            await fetch_results(qure.client, UID, tmp_path / UID)


async def test_names_from_the_service_stay_in_their_folder(tmp_path: Path) -> None:
    with store(lambda path: (200, b"%PDF")) as url:
        async with client(Qure(done(**{"../../evil": [f"{url}/x"], "a b": [f"{url}/y"]}))) as qure:
            found = await fetch_results(qure.client, UID, tmp_path / "r" / UID)
    assert sorted(path.name for path in found.folder.iterdir()) == ["_.._evil-1.pdf", "a b-1.pdf", "index.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


# -- the sandbox ----------------------------------------------------------------------------------------------------------


async def test_the_whole_way_through_the_sandbox(
    sandbox: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = sandbox.sandbox.credentials["qure"]
    async with TciaClient(f"{sandbox.url}/nbia-api/services/v4") as tcia:
        wanted = await facts_of_filter(tcia.client, Collection="Isocenter Radiographs")
        wanted += [
            f for f in await facts_of_filter(tcia.client, Collection="ISO-CHEST-CT") if f.row["Modality"] == "SEG"
        ]
        await download_many(tcia.client, wanted, tmp_path / "series")
    found = find_dicom([tmp_path / "series"])
    expected = {series.instances[0].sop_instance_uid for series in found.series.values() if series.modality != "SEG"}
    assert expected
    async with QureClient(f"{sandbox.url}/qure", credentials=saved) as qure:
        await upload_to_qure(qure.client, found.series.values())
        results = [
            ResultWanted(
                series.instances[0].sop_instance_uid if series.modality != "SEG" else series.series_instance_uid,
                tmp_path / "results" / series.series_instance_uid,
                xray=series.modality != "SEG",
            )
            for series in found.series.values()
        ]
        with faulty(sandbox.sandbox) as server:
            switch(server, {"qure": ["expired-urls"]})
            with pytest.raises(ResultsExpired):
                await fetch_results(qure.client, min(expected), tmp_path / "expired", xray=True)
        outcomes: list[ResultsOnDisk | IsocenterError] = []
        done = await fetch_many(
            qure.client,
            results,
            give_up_after=30,
            on_result=lambda _, found: outcomes.append(found),
            pause=lambda _: anyio.sleep(0.05),
        )
    assert len(done) == len(outcomes) == len(results)
    fetched = {one.uid for one, result in done if isinstance(result, ResultsOnDisk) and result.files > 3}
    failed = [result for _, result in done if isinstance(result, IsocenterError)]
    assert fetched == expected
    assert [error.code for error in failed] == ["status"]  # there is no use case for a segmentation
    for name, value in {"BASE_URL": f"{sandbox.url}/qure", "TOKEN": saved["token"], "SOURCE": saved["source"]}.items():
        monkeypatch.setenv(f"ISOCENTER_QURE_{name}", value)
    monkeypatch.setenv("ISOCENTER_CONFIG", "")
    arguments = ["results", str(tmp_path / "series"), "--to", str(tmp_path / "cli")]
    told = await _in_thread(lambda: CliRunner().invoke(app, [*arguments, "--json"]))
    assert told.exit_code == 1
    events = lines(told.output)
    assert {event["uid"] for event in events[:-1] if event["state"] == "done"} == expected
    assert events[-1] == {"event": "end", "done": len(expected), "failed": 1}
    told = await _in_thread(lambda: CliRunner().invoke(app, ["results", min(expected), "--xray", *arguments[2:]]))
    assert told.exit_code == 0
    assert told.output.startswith("1 results in")
    assert CliRunner().invoke(app, ["results", "no-uid"]).exit_code == 2


async def _in_thread(run: Callable[[], Any]) -> Any:
    return await anyio.to_thread.run_sync(run)
