"""The sandbox's foundation: locking, durability, the DICOM archive, folders, faults and the two ways to run it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import logging
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from isocenter.sandbox import app, archive, faults, phantom
from isocenter.sandbox.app import Running, running
from isocenter.sandbox.archive import NotDicom
from isocenter.sandbox.phantom import uid
from isocenter.sandbox.state import DataDirectoryInUse, Options, Sandbox
from isocenter.sandbox.tcia import store as tcia_store


def dicom(name: str, *, series: str = "series", number: int = 1, implicit: bool = False, **values: object) -> bytes:
    """A small DICOM file; everything follows from the names."""
    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.SOPInstanceUID = uid(series, name)
    dataset.SeriesInstanceUID = uid(series)
    dataset.StudyInstanceUID = uid(series, "study")
    dataset.Modality = "OT"
    dataset.PatientID = "PAT-0001"
    dataset.InstanceNumber = number
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Sandbox]:
    """An open sandbox without services."""
    sandbox = Sandbox(tmp_path / "data")
    yield sandbox
    sandbox.close()


# One directory, one process.


def test_a_data_directory_is_refused_while_it_is_in_use_and_free_afterwards(tmp_path: Path) -> None:
    first = Sandbox(tmp_path)

    with pytest.raises(DataDirectoryInUse, match="choose another data directory"):
        Sandbox(tmp_path)

    first.close()
    Sandbox(tmp_path).close()


def test_the_lock_dies_with_a_killed_process(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from isocenter.sandbox.state import Sandbox\n"
    script += "sandbox = Sandbox(Path(sys.argv[1])); print('locked', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(tmp_path)]

    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(DataDirectoryInUse):
            Sandbox(tmp_path)
        other.kill()

    Sandbox(tmp_path).close()


def test_credentials_are_made_once_and_only_their_owner_can_read_them(tmp_path: Path) -> None:
    first = Sandbox(tmp_path / "one")
    other = Sandbox(tmp_path / "two")
    first.close()
    other.close()
    again = Sandbox(tmp_path / "one")
    again.close()

    assert again.credentials == first.credentials
    assert other.credentials["qure"]["token"] != first.credentials["qure"]["token"]
    assert {name: set(values) for name, values in first.credentials.items()} == {
        "qure": {"token", "source", "legacy_token"},
        "dicomaestro": {"email", "password", "api_key"},
        "circus": {"token"},
    }
    assert (tmp_path / "one" / "credentials.json").stat().st_mode & 0o077 == 0


def test_the_clock_can_be_injected(tmp_path: Path) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    sandbox = Sandbox(tmp_path, clock=lambda: moment)
    sandbox.close()

    assert sandbox.now() == moment


# Transactions.


def test_a_failed_transaction_leaves_nothing_and_an_inner_one_belongs_to_it(store: Sandbox) -> None:
    store.db.execute("CREATE TABLE t (n INTEGER)")

    with pytest.raises(RuntimeError), store.transaction() as outer:
        outer.execute("INSERT INTO t VALUES (1)")
        with store.transaction() as inner:
            inner.execute("INSERT INTO t VALUES (2)")
        raise RuntimeError

    assert store.db.execute("SELECT count(*) FROM t").fetchone()[0] == 0


def test_an_ingest_inside_a_transaction_is_undone_with_it(store: Sandbox) -> None:
    with pytest.raises(RuntimeError), store.transaction():
        assert store.archive("qure").ingest(io.BytesIO(dicom("a"))).created
        raise RuntimeError

    assert store.archive("qure").series(uid("series")) is None
    assert store.archive("qure").ingest(io.BytesIO(dicom("a"))).created


def test_ingests_from_many_threads_are_all_stored(store: Sandbox) -> None:
    files = [dicom(str(number), number=number) for number in range(24)]

    def work(part: int) -> None:
        for data in files[part::4]:
            store.archive("qure").ingest(io.BytesIO(data), durable=False)

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    series = store.archive("qure").series(uid("series"))
    assert series is not None
    assert series.instance_count == 24
    assert series.total_bytes == sum(map(len, files))


def test_a_reader_sees_one_state_of_the_data(store: Sandbox) -> None:
    store.db.execute("CREATE TABLE t (n INTEGER)")

    with store.reader() as reader:
        before = reader.execute("SELECT count(*) FROM t").fetchone()[0]
        store.db.execute("INSERT INTO t VALUES (1)")
        during = reader.execute("SELECT count(*) FROM t").fetchone()[0]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.execute("INSERT INTO t VALUES (2)")

    with store.reader() as reader:
        after = reader.execute("SELECT count(*) FROM t").fetchone()[0]
    assert (before, during, after) == (0, 0, 1)


# Background tasks.


def test_a_failing_task_is_logged_and_the_others_end_at_stop(store: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise RuntimeError("broken")

    async def lasts() -> None:
        await asyncio.Event().wait()

    async def story() -> asyncio.Task[None]:
        failing, lasting = store.spawn(fails()), store.spawn(lasts())
        await asyncio.wait([failing])
        await store.stop()
        return lasting

    with caplog.at_level(logging.ERROR, "isocenter.sandbox"):
        lasting = asyncio.run(story())

    assert "background task failed: RuntimeError" in caplog.text
    assert lasting.cancelled()


# The archive.


def test_an_ingested_file_is_described_and_kept_byte_for_byte(store: Sandbox) -> None:
    data = dicom("a", number=7, AcquisitionNumber=2, SeriesDescription="Phantom", PixelSpacing=[0.5, 0.25])

    ingested = store.archive("tcia").ingest(io.BytesIO(data), collection="ISO", extra={"Site": "WEST"})

    instance = ingested.instance
    assert ingested.created
    assert instance.sop_instance_uid == uid("series", "a")
    assert (instance.instance_number, instance.acquisition_number, instance.size) == (7, "2", len(data))
    assert instance.md5 == hashlib.md5(data).hexdigest()
    assert store.archive("qure").ingest(io.BytesIO(data)).instance.md5 == ""  # the service tells none
    assert instance.sha256 == hashlib.sha256(data).hexdigest()
    assert instance.transfer_syntax_uid == ExplicitVRLittleEndian
    assert store.archive("tcia").path(instance).read_bytes() == data
    series = store.archive("tcia").series(uid("series"))
    assert series is not None
    assert (series.patient_id, series.modality, series.collection, series.extra) == (
        "PAT-0001",
        "OT",
        "ISO",
        {"Site": "WEST"},
    )
    assert series.header["SeriesDescription"] == "Phantom"
    assert series.header["PixelSpacing"] == "0.5\\0.25"


def test_the_first_file_of_a_uid_stays(store: Sandbox) -> None:
    first, second = dicom("a", PatientID="PAT-0001"), dicom("a", PatientID="PAT-0002")
    stored = store.archive("qure").ingest(io.BytesIO(first))

    again = store.archive("qure").ingest(io.BytesIO(second))

    assert (again.created, again.instance) == (False, stored.instance)
    assert store.archive("qure").path(stored.instance).read_bytes() == first


def test_archives_do_not_see_each_other(store: Sandbox) -> None:
    store.archive("qure").ingest(io.BytesIO(dicom("a")))

    assert store.archive("circus").series(uid("series")) is None
    assert store.archive("circus").ingest(io.BytesIO(dicom("a"))).created


def test_instances_come_by_number_or_as_they_were_stored(store: Sandbox) -> None:
    box = store.archive("qure")
    for number in (3, 1, 2):
        box.ingest(io.BytesIO(dicom(str(number), number=number)))

    assert [instance.instance_number for instance in box.instances(uid("series"))] == [1, 2, 3]
    assert [instance.instance_number for instance in box.instances(uid("series"), as_stored=True)] == [3, 1, 2]


def test_series_are_listed_by_collection_and_by_study(store: Sandbox) -> None:
    box = store.archive("qure")
    for series, collection in (("one", "A"), ("two", "B")):
        box.ingest(io.BytesIO(dicom("a", series=series)), collection=collection)

    def uids(**filters: str) -> list[str]:
        return [series.series_instance_uid for series in box.all_series(**filters)]

    assert uids() == [uid("one"), uid("two")]
    assert uids(collection="B") == [uid("two")]
    assert uids(study=uid("one", "study")) == [uid("one")]


def test_a_removed_series_leaves_no_file(store: Sandbox) -> None:
    box = store.archive("qure")
    instance = box.ingest(io.BytesIO(dicom("a"))).instance

    assert box.remove_series(uid("series"))
    assert not box.path(instance).parent.exists()
    assert box.instance(instance.sop_instance_uid) is None
    assert not box.remove_series(uid("series"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an image",
        bytes(128) + b"DICM",
        bytes(128) + b"DICM" + b"\xff" * 64,
        dicom("a")[:200],
        dicom("a", SeriesInstanceUID=""),
    ],
    ids=["empty", "text", "only a preamble", "noise", "cut short", "no series UID"],
)
def test_what_is_no_dicom_instance_is_refused_and_leaves_nothing(store: Sandbox, data: bytes) -> None:
    with pytest.raises(NotDicom):
        store.archive("qure").ingest(io.BytesIO(data))

    assert [path for path in (store.root / "qure").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("hostile", ["../../x", "/etc/x", "1..2", "01.2", "1.2\\..\\x", "1." + "2" * 70])
def test_a_uid_that_could_leave_the_archive_is_refused(store: Sandbox, hostile: str) -> None:
    size = len(hostile) + len(hostile) % 2
    # Replaces the value of Series Instance UID by hand: writers refuse such values.
    element = b"\x20\x00\x0e\x00UI" + size.to_bytes(2, "little") + hostile.encode().ljust(size, b"\0")
    data = dicom("a")
    tag = data.index(b"\x20\x00\x0e\x00UI")
    length = int.from_bytes(data[tag + 6 : tag + 8], "little")
    data = data[:tag] + element + data[tag + 8 + length :]

    with pytest.raises(NotDicom, match="no valid"):
        store.archive("qure").ingest(io.BytesIO(data))


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("", "Phantom^One"),
        ("ISO_IR 100", "Müller^Jürgen"),
        ("ISO_IR 192", "山田^太郎"),
        ("ISO_IR 144", "Диагноз^Иван"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    ],
)
@pytest.mark.parametrize("implicit", [False, True])
def test_names_are_read_in_their_character_set(
    store: Sandbox, charset: str | list[str], name: str, implicit: bool
) -> None:
    data = dicom("a", implicit=implicit, SpecificCharacterSet=charset, PatientName=name)

    store.archive("qure").ingest(io.BytesIO(data))

    series = store.archive("qure").series(uid("series"))
    assert series is not None
    assert series.header["PatientName"] == name


def test_what_an_interrupted_ingest_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    first = Sandbox(tmp_path)
    orphan = first.archive("qure").root / "incoming" / "orphan"
    orphan.write_bytes(b"half a file")
    first.close()

    second = Sandbox(tmp_path)
    second.archive("qure")
    second.close()

    assert not orphan.exists()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that cannot be caught")
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_in_the_middle_every_row_still_has_its_file(tmp_path: Path, moment: str) -> None:
    files = {name: dicom(name) for name in ("a", "b")}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    script = """
import os, signal, sys
from pathlib import Path
from isocenter.sandbox.state import Sandbox
root, moment = Path(sys.argv[1]), sys.argv[2]
box = Sandbox(root / "data").archive("qure")
box.ingest(root / "a")
rename = Path.replace
def replace(self, target):
    if moment == "after":
        rename(self, target)
    os.kill(os.getpid(), signal.SIGKILL)
Path.replace = replace
box.ingest(root / "b")
"""
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path), moment], check=False)
    assert killed.returncode == -signal.SIGKILL

    sandbox = Sandbox(tmp_path / "data")
    box = sandbox.archive("qure")
    stored = [box.path(instance).read_bytes() for instance in box.instances(uid("series"))]
    repeated = box.ingest(tmp_path / "b").created
    after = [box.path(instance).read_bytes() for instance in box.instances(uid("series"))]
    sandbox.close()

    assert stored == [files["a"]]
    assert repeated
    assert after == [files["a"], files["b"]]


# Folders.


@pytest.fixture
def tables(store: Sandbox) -> Sandbox:
    """A sandbox with the tables of the TCIA service, but without its phantom data."""
    store.db.executescript(tcia_store.SCHEMA)
    return store


def test_a_folder_is_taken_in_by_content_and_only_once(
    tables: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "image-without-suffix").write_bytes(dicom("a"))
    (folder / "deep" / "b.dcm").write_bytes(dicom("b", number=2))
    (folder / "fake.dcm").write_bytes(b"text")
    (folder / "dangling").symlink_to(tmp_path / "nowhere")
    opened: list[str] = []

    def looks_like_dicom(path: Path) -> bool:
        opened.append(path.name)
        return archive.looks_like_dicom(path)

    monkeypatch.setattr(tcia_store, "looks_like_dicom", looks_like_dicom)

    tcia_store.take_in(tables, "My Folder", folder)
    first, opened[:] = sorted(opened), []
    tcia_store.take_in(tables, "My Folder", folder)
    (folder / "fake.dcm").write_bytes(dicom("c", number=3))
    second, opened[:] = sorted(opened), []
    tcia_store.take_in(tables, "My Folder", folder)
    tcia_store.refresh(tables)

    assert first == ["b.dcm", "fake.dcm", "image-without-suffix"]
    assert second == []
    assert opened == ["fake.dcm"]
    assert "1 files of a folder are not served" in caplog.text
    row = tables.db.execute("SELECT Collection, ImageCount, Phantom, LicenseName FROM tcia_series").fetchone()
    assert tuple(row) == ("My Folder", 3, "NO", None)


def test_a_folder_can_move_to_another_collection(tables: Sandbox, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_bytes(dicom("a"))
    tcia_store.take_in(tables, "Old", folder)
    tcia_store.refresh(tables)

    tcia_store.take_in(tables, "New", folder)
    tcia_store.refresh(tables)

    assert [row[0] for row in tables.db.execute("SELECT Collection FROM tcia_series")] == ["New"]
    assert json.loads(tables.db.execute("SELECT v4 FROM tcia_json").fetchone()[0])["Collection"] == "New"


# Running.


def only(monkeypatch: pytest.MonkeyPatch, *services: str) -> None:
    monkeypatch.setattr(app, "SERVICES", {name: app.SERVICES[name] for name in services})


def test_the_front_page_lists_what_is_served(sandbox: Running) -> None:
    page = httpx.get(sandbox.url)
    listing = httpx.get(sandbox.url, headers={"Accept": "application/json"})

    assert page.headers["content-type"].startswith("text/html")
    assert "/nbia-api/services/" in page.text
    assert list(listing.json()["services"])[:2] == ["tcia", "gateway"]


def test_state_survives_a_restart_on_another_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch)
    with running(tmp_path) as first:
        first.sandbox.archive("qure").ingest(io.BytesIO(dicom("a")))
        with pytest.raises(DataDirectoryInUse), running(tmp_path):
            pass

    with running(tmp_path) as second:
        kept = second.sandbox.archive("qure").series(uid("series"))

    assert kept is not None
    assert kept.instance_count == 1


def test_a_start_that_fails_says_why_and_gives_the_directory_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "tcia")
    monkeypatch.setattr(phantom, "files", lambda: iter(()))
    missing = Options(dicom=(("Lost", tmp_path / "nowhere"),))

    with pytest.raises(FileNotFoundError), running(tmp_path / "data", missing):
        pass

    Sandbox(tmp_path / "data").close()


def test_a_taken_port_is_an_error_before_the_directory_is_touched(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(OSError, match="in use"),
        running(tmp_path / "data", port=taken.getsockname()[1]),
    ):
        pass

    assert not (tmp_path / "data").exists()


def test_the_base_url_is_the_one_the_client_used(tmp_path: Path) -> None:
    from starlette.requests import Request

    sandbox = Sandbox(tmp_path)
    sandbox.close()
    scope = {
        "type": "http",
        "scheme": "http",
        "method": "GET",
        "path": "/a",
        "query_string": b"b=1",
        "headers": [(b"host", b"lab.example:8765")],
    }

    assert sandbox.base_url(Request(scope)) == "http://lab.example:8765"


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_serving_in_the_foreground_ends_cleanly_at_an_interrupt(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    script = """
import os, signal, sys, threading, urllib.request
from pathlib import Path
from isocenter.sandbox import app
from isocenter.sandbox.state import Options
app.SERVICES = {}
def ask():
    while True:
        try:
            print(urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[2]}/").status, flush=True)
        except OSError:
            continue
        os.kill(os.getpid(), signal.SIGINT)
        return
threading.Thread(target=ask, daemon=True).start()
app.serve("127.0.0.1", int(sys.argv[2]), Path(sys.argv[1]), Options())
"""
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(port)], capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stdout) == (0, "200\n")
    Sandbox(tmp_path).close()


# Faults.


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """The gateway alone, over two series of a folder."""
    only(monkeypatch, "tcia", "gateway")
    monkeypatch.setattr(phantom, "files", lambda: iter(()))
    monkeypatch.setattr(phantom, "COLLECTIONS", ())
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(3):
        (folder / str(number)).write_bytes(dicom(str(number), number=number, TextValue=os.urandom(100_000).hex()))
    options = Options(dicom=(("ISO", folder),), faults=("gateway:outage",))
    with running(tmp_path / "data", options) as server:
        yield server


def test_faults_are_switched_while_running(faulty: Running) -> None:
    query = f"{faulty.url}/services/v4/TCIA/query/getCollectionValues"

    def switch(**wanted: list[str]) -> httpx.Response:
        return httpx.post(f"{faulty.url}/_sandbox/faults", json=wanted)

    outage = httpx.get(query)
    assert (outage.status_code, outage.headers["content-type"]) == (500, "text/html; charset=utf-8")
    switch(gateway=["html-502"])
    assert "502 Bad Gateway" in httpx.get(query).text
    switch(gateway=["timeout"])
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(query, timeout=0.2)
    switch(gateway=["slow"])
    slow = httpx.get(query)
    assert slow.json() == [{"Collection": "ISO"}]
    assert slow.elapsed.total_seconds() >= faults.SLOW_SECONDS
    shown = switch(gateway=[], qure=["expired-urls"]).json()
    assert (shown["gateway"], shown["qure"]) == ([], ["expired-urls"])
    assert httpx.get(f"{faulty.url}/_sandbox/faults").json() == shown
    assert faulty.sandbox.fault("qure", "expired-urls")
    assert not faulty.sandbox.fault("tcia", "expired-urls")


def test_a_wrong_fault_request_changes_nothing(faulty: Running) -> None:
    for body in (b"[]", b"{", b'{"tcia": "slow"}', b'{"tcia": ["slow"], "qure": ["tired"]}', b'{"pacs": ["slow"]}'):
        answer = httpx.post(f"{faulty.url}/_sandbox/faults", content=body)

        assert answer.status_code == 400
        assert answer.json()["error"]
    assert httpx.get(f"{faulty.url}/_sandbox/faults").json()["tcia"] == []


def test_a_truncated_zip_is_a_proper_answer_without_its_end(faulty: Running) -> None:
    download = f"{faulty.url}/nbia-api/services/v4/getImage?SeriesInstanceUID={uid('series')}"
    whole = httpx.get(download).content

    httpx.post(f"{faulty.url}/_sandbox/faults", json={"tcia": ["truncated-zip"]})
    cut = httpx.get(download)

    assert cut.status_code == 200
    assert 0 < len(cut.content) < len(whole)
    assert b"PK\x05\x06" not in cut.content
    listing = httpx.get(f"{faulty.url}/nbia-api/services/v4/getCollectionValues")
    assert listing.json() == [{"Collection": "ISO"}]


def test_faults_of_the_command_line_are_checked_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(faults.UnknownFaultError, match="known are outage, slow"):
        app.build(tmp_path / "data", Options(faults=("tcia:tired",)))

    Sandbox(tmp_path / "data").close()


def test_a_fault_without_a_service_is_for_all() -> None:
    assert faults.from_options(["slow", "tcia:outage"]) == {
        "tcia": ["slow", "outage"],
        "gateway": ["slow"],
        "qure": ["slow"],
        "dicomaestro": ["slow"],
        "circus": ["slow"],
    }
