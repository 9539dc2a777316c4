"""Series from the archive to disk: the ZIP reader, layouts, manifests, one series with every failure, many series, the command."""

from __future__ import annotations

import errno
import hashlib
import importlib
import io
import json
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from transfer_fakes import SERIES, Archive, Body, Pauses, dicom, faulty, lines, zipped
from typer.testing import CliRunner

from isocenter.cli_transfer import app
from isocenter.core import ContractViolation, Limits, StatusError, StorageError, TransportError
from isocenter.sandbox.app import Running
from isocenter.sandbox.faults import switch
from isocenter.transfer import download as module
from isocenter.transfer import series as on_disk
from isocenter.transfer.download import UnknownSeries, download_series
from isocenter.transfer.layout import DEFAULT_LAYOUT, BadLayout, check_layout, folder_of, only_one, segment
from isocenter.transfer.manifest import (
    COLUMNS,
    BadSelection,
    Manifest,
    Outcome,
    SeriesFacts,
    facts_of,
    facts_of_filter,
    read_selection,
    shared_list,
)
from isocenter.transfer.mirror import download_many
from isocenter.transfer.patience import Pace, again
from isocenter.transfer.series import SeriesIncomplete, damaged_files, read_series
from isocenter.transfer.table import export_table
from isocenter.transfer.unzip import BadArchive, ZipLimits, ZipReader
from isocenter_clients.tcia import TciaClient

pytestmark = pytest.mark.anyio


# -- a file that arrives --------------------------------------------------------------------------------------------------


class Scripted(httpx.AsyncBaseTransport):
    """Answers in turn."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.answers = list(answers)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.answers.pop(0)


def _octets(data: bytes, torn: bool = False, *, length: str = "") -> httpx.Response:
    headers = {"content-type": "application/octet-stream", **({"content-length": length} if length else {})}
    return httpx.Response(200, headers=headers, stream=Body(data, torn))


async def _streamed(transport: Scripted, **options: Any) -> tuple[bytes, Any]:
    async with (
        TciaClient("http://archive.test", transport=transport, pause=Pauses(), **options) as tcia,
        tcia.client.stream("getImage", {"SeriesInstanceUID": SERIES}) as stream,
    ):
        return b"".join([piece async for piece in stream]), stream


async def test_a_stream_hands_over_the_file_as_it_arrives() -> None:
    data = zipped([("a", b"x" * 9000)], zipfile.ZIP_DEFLATED)
    found, stream = await _streamed(Scripted(_octets(data, length=str(len(data)))))
    assert found == data
    assert (stream.status, stream.media_type, stream.total) == (200, "application/zip", len(data))


async def test_a_stream_is_tried_again_only_before_its_first_byte() -> None:
    data = zipped([("a", dicom("2.25.1", pad=9000))])
    busy = httpx.Response(502, headers={"content-type": "text/html"}, content=b"<html></html>")
    found, _ = await _streamed(Scripted(busy, _octets(b"", torn=True), _octets(data)))
    assert found == data
    with pytest.raises(TransportError, match="broke off") as caught:
        await _streamed(Scripted(_octets(data[:5000], torn=True), _octets(data)))
    assert caught.value.retryable


@pytest.mark.parametrize(
    "answer, expected",
    [
        (_octets(b"<html>login</html>"), "an HTML page"),
        (_octets(b""), "0 bytes"),
        (httpx.Response(200, headers={"content-type": "text/html"}, content=b"<html></html>"), "text/html"),
    ],
)
async def test_what_is_no_zip_is_not_handed_over(answer: httpx.Response, expected: str) -> None:
    with pytest.raises(ContractViolation, match=expected):
        await _streamed(Scripted(answer))


async def test_a_stream_refuses_errors_excess_and_operations_without_a_file() -> None:
    refused = httpx.Response(400, headers={"content-type": "application/json"}, content=b"Not in public domain.")
    with pytest.raises(StatusError, match="public domain"):
        await _streamed(Scripted(refused))
    with pytest.raises(TransportError, match="larger than") as caught:
        await _streamed(Scripted(_octets(zipped([("a", dicom("2.25.1", pad=9000))]))), limits=Limits(file_bytes=5000))
    assert not caught.value.retryable
    async with TciaClient("http://archive.test", transport=Scripted(httpx.Response(200, json=[]))) as tcia:
        with pytest.raises(ContractViolation, match="not the file it should be"):
            async with tcia.client.stream("getSeries", {"Collection": "X"}):
                raise AssertionError


# -- the ZIP reader -------------------------------------------------------------------------------------------------------


UNLIMITED = ZipLimits()


class Kept:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.members: dict[str, bytes] = {}
        self.open: tuple[str, bytearray] = ("", bytearray())

    def begin(self, name: str) -> None:
        self.open = (name, bytearray())

    def write(self, data: bytes) -> None:
        self.open[1].extend(data)

    def end(self) -> None:
        self.members[self.open[0]] = bytes(self.open[1])


def read(data: bytes, step: int = 1 << 16, limits: ZipLimits = UNLIMITED) -> dict[str, bytes]:
    kept = Kept()
    reader = ZipReader(kept, limits)
    for at in range(0, len(data), step):
        reader.feed(data[at : at + step])
    reader.close()
    return kept.members


def seekable(members: dict[str, bytes], method: int, comment: bytes = b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.comment = comment
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


MEMBERS = {
    "LICENSE": b"CC BY",
    "1.dcm": dicom("2.25.1", pad=3000),
    "2.dcm": b"\0" * 70_000,
    "3.dcm": b"",
    "sub/é": b"e" * 40,
}


def java(members: dict[str, bytes]) -> bytes:
    """Descriptors without the optional mark."""
    data, directory = b"", b""
    for name, content in members.items():
        body, raw = seekable({"x": content}, zipfile.ZIP_DEFLATED), name.encode()
        info = zipfile.ZipFile(io.BytesIO(body)).getinfo("x")
        packed = body[31 : 31 + info.compress_size]
        numbers = struct.pack("<III", info.CRC, len(packed), len(content))
        entry = struct.pack("<4sHHHHI", b"PK\1\2", 20, 20, 0x808, 8, 0) + numbers
        directory += entry + struct.pack("<HHHHHII", len(raw), 0, 0, 0, 0, 0, len(data)) + raw
        data += struct.pack("<4sHHHIIIIHH", b"PK\3\4", 20, 0x808, 8, 0, 0, 0, 0, len(raw), 0) + raw + packed + numbers
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, len(members), len(members), len(directory), len(data), 0)
    return data + directory + end


ARCHIVES = {
    "as the archive sends it": zipped(MEMBERS.items()),
    "64-bit sizes": zipped(MEMBERS.items(), large=True),
    "sizes in front": seekable(MEMBERS, zipfile.ZIP_DEFLATED),
    "stored": seekable(MEMBERS, zipfile.ZIP_STORED, b"a comment"),
    "descriptors without mark": java(MEMBERS),
}


@pytest.mark.parametrize("step", [1, 7, 1 << 16])
@pytest.mark.parametrize("kind", ARCHIVES)
def test_members_come_out_as_they_went_in(kind: str, step: int) -> None:
    assert read(ARCHIVES[kind], step) == MEMBERS


def test_an_empty_archive_is_whole() -> None:
    assert read(seekable({}, zipfile.ZIP_DEFLATED)) == {}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_a_cut_is_noticed_wherever_it_is(kind: str) -> None:
    data = ARCHIVES[kind]
    for end in [*range(0, len(data), 97), len(data) - 1]:
        with pytest.raises(BadArchive) as caught:
            read(data[:end])
        assert caught.value.retryable


@pytest.mark.parametrize(
    "name", ["../a", "/etc/passwd", "a/../../b", "a\\b", "c:x", "a\0b", "", "NUL.dcm", "a/", "x" * 300, "end."]
)
def test_unsafe_names_are_refused_for_good(name: str) -> None:
    data = java({name: b"data"})
    with pytest.raises(BadArchive, match="the name of file 1") as caught:
        read(data)
    assert not caught.value.retryable


def _patched(data: bytes, at: int, replacement: bytes) -> bytes:
    return data[:at] + replacement + data[at + len(replacement) :]


def _attacks() -> Iterator[tuple[str, bytes, str]]:
    two = seekable({"a.dcm": b"one" * 50, "b.dcm": b"two" * 50}, zipfile.ZIP_DEFLATED)
    central, end = two.index(b"PK\1\2"), two.index(b"PK\5\6")
    yield "the same name twice", java({"a.dcm": b"1", "A.dcm": b"2"}), "twice"
    yield "a link", _patched(two, central + 38, struct.pack("<I", 0xA1FF0000)), "link"
    yield "encrypted", _patched(two, 6, b"\1"), "encrypted"
    yield "another method", _patched(two, 8, b"\x0c"), "packed in a way"
    yield "stored, sizes after", _patched(_patched(zipped([("a", b"x" * 50)]), 8, b"\0"), 6, b"\x08"), "packed in a way"
    yield "a flipped byte", _patched(two, 40, bytes([two[40] ^ 1])), "damaged|checksum"
    streamed = java({"a.dcm": b"one" * 50})
    at = streamed.index(b"PK\1\2") - 12
    yield "a flipped checksum", _patched(streamed, at, bytes([streamed[at] ^ 1])), "checksum"
    yield "a directory of others", _patched(two, central + 46, b"c"), "does not match"
    yield "a file not listed", two[:central] + two[two.index(b"PK\1\2", central + 4) :], "does not match"
    yield "a wrong count", _patched(two, end + 10, b"\3"), "does not match"
    yield "data behind the end", two + b"x", "goes on"
    yield "data before the start", b"x" + two, "something other"
    yield "a page of HTML", b"<html>" + bytes(100), "something other"


@pytest.mark.parametrize("data, expected", [pytest.param(*attack[1:], id=attack[0]) for attack in _attacks()])
@pytest.mark.parametrize("step", [11, 1 << 16])
def test_bad_archives_are_refused(data: bytes, expected: str, step: int) -> None:
    with pytest.raises(BadArchive, match=expected):
        read(data, step)


def test_a_bomb_is_stopped_while_it_unpacks() -> None:
    bomb = zipped([("bomb", b"\0" * (120 << 20))])
    written = 0

    class Counting(Kept):
        def write(self, data: bytes) -> None:
            nonlocal written
            assert len(data) <= 1 << 19
            written += len(data)

    for limits, most in ((ZipLimits(), (64 << 20) + 200 * len(bomb)), (ZipLimits(size=1 << 20), 1 << 20)):
        written = 0
        with pytest.raises(BadArchive, match="more than it should"):
            ZipReader(Counting(), limits).feed(bomb)
        assert written <= most
    with pytest.raises(BadArchive, match="more than 3 files"):
        read(zipped(MEMBERS.items()), limits=ZipLimits(members=3))


# -- where series go ------------------------------------------------------------------------------------------------------


def test_layouts_become_safe_folders() -> None:
    row = {"Collection": "A/../B", "PatientID": "..", "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"}
    assert folder_of(Path("/r"), DEFAULT_LAYOUT, row) == Path("/r/A_.._B/unknown/1.2/1.3")
    layout = "{Collection}-{Modality}/x {SeriesNumber} {SeriesInstanceUID}"
    assert folder_of(Path("/r"), layout, {**row, "SeriesNumber": 7}) == Path("/r/A_.._B-unknown/x 7 1.3")
    assert [segment(text) for text in ("con", "NUL.x", "a:b", "x" * 200, " . ", "ok")] == [
        "_con",
        "_NUL.x",
        "a_b",
        "x" * 120,
        "unknown",
        "ok",
    ]


@pytest.mark.parametrize(
    "layout, expected",
    [
        ("{Collection}", "must contain"),
        ("{Nope}/{SeriesInstanceUID}", "knows no"),
        ("../{SeriesInstanceUID}", "folder names"),
        ("/{SeriesInstanceUID}", "folder names"),
        ("{SeriesInstanceUID}{", "folder names"),
        (".isocenter/{SeriesInstanceUID}", "folder names"),
    ],
)
def test_layouts_that_cannot_be_used_are_refused(layout: str, expected: str) -> None:
    with pytest.raises(BadLayout, match=expected):
        check_layout(layout)


async def test_only_one_holds_the_lock_of_a_series(tmp_path: Path) -> None:
    order: list[str] = []
    inside = anyio.Event()

    async def wait(seconds: float) -> None:
        order.append("waits")
        inside.set()
        await anyio.lowlevel.checkpoint()

    async def second() -> None:
        async with only_one(tmp_path, SERIES, wait):
            order.append("second")

    async with anyio.create_task_group() as group, only_one(tmp_path, SERIES, wait):
        group.start_soon(second)
        await inside.wait()
        order.append("first")
    assert order[0] == "waits"
    assert [entry for entry in order if entry != "waits"] == ["first", "second"]


# -- lists, manifests, tables ---------------------------------------------------------------------------------------------

TCIA_MANIFEST = """downloadServerUrl=https://nbia.cancerimagingarchive.net/nbia-download/servlet/DownloadServlet
includeAnnotation=false
noOfrRetry=4
databasketId=manifest-1.tcia
manifestVersion=3.0
ListOfSeriesToDownload=
2.25.1
2.25.2
2.25.1
"""


@pytest.mark.parametrize(
    "text",
    [
        TCIA_MANIFEST,
        TCIA_MANIFEST.replace("\n", "\r\n"),
        "2.25.1\n\n# a comment\n2.25.2\n",
        "\ufeffSeriesInstanceUID\n2.25.1\n2.25.2\n",
        'Collection,"Series Instance UID",x\n"A, B",2.25.1,\nC,2.25.2,"two\nlines"\n',
        "Subject ID;Series UID\nP;2.25.1\nP;2.25.2\n",
        "SeriesInstanceUID\tModality\n2.25.1\tCT\n2.25.2\tCT\n",
    ],
)
def test_lists_of_series_are_read_whatever_their_form(text: str, tmp_path: Path) -> None:
    path = tmp_path / "list.any"
    path.write_text(text, encoding="utf-8", newline="")
    assert read_selection(path) == ["2.25.1", "2.25.2"]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", "names no series"),
        (TCIA_MANIFEST + "https://evil.test\n", "line 10"),
        ("Collection,Modality\nA,CT\n", "no column"),
        ("Collection,SeriesInstanceUID\nA,\n", "line 2"),
        ("2.25.1\n2.25.02\n", "line 2"),
    ],
)
def test_lists_that_cannot_be_read_say_where(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text(text)
    with pytest.raises(BadSelection, match=expected):
        read_selection(path)
    with pytest.raises(BadSelection, match="cannot be read"):
        read_selection(tmp_path / "nowhere")


def test_a_manifest_survives_a_torn_line_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "manifest.jsonl"
    with Manifest(path) as manifest:
        for uid in ("2.25.1", "2.25.2", "2.25.3", "2.25.1"):
            manifest.want(SeriesFacts(uid, 2, 10, {"Collection": "A", "SeriesInstanceUID": uid}))
        manifest.note(Outcome("2.25.1", "done", "A/1", 2, 10, "m"))
        manifest.note(Outcome("2.25.2", "failed", why="No.", code="x"))
    with path.open("ab") as file:
        file.write(b'{"series": "2.25.3", "state": "do')
    with Manifest(path) as manifest:
        assert [facts.series_uid for facts in manifest.pending()] == ["2.25.2", "2.25.3"]
        assert [facts.images for facts in manifest.wanted({"2.25.1"})] == [2]
        manifest.note(Outcome("2.25.2", "skipped", "A/2"))
    with Manifest(path) as manifest:
        assert [facts.series_uid for facts in manifest.pending()] == ["2.25.3"]
        rows = list(manifest.rows())
    assert [(row["SeriesInstanceUID"], row["state"], row["folder"], row["Collection"]) for row in rows] == [
        ("2.25.1", "done", "A/1", "A"),
        ("2.25.2", "skipped", "A/2", "A"),
        ("2.25.3", None, None, "A"),
    ]
    assert export_table(rows, tmp_path / "t.csv", COLUMNS) == 3
    assert (tmp_path / "t.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    with pytest.raises(StorageError):
        export_table(rows, path / "t.csv", COLUMNS)


def test_tables_can_be_parquet(tmp_path: Path) -> None:
    rows = [{"SeriesInstanceUID": "2.25.1", "files": 3, "bytes": 10, "Collection": "A"}]
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        with pytest.raises(StorageError, match="pyarrow"):
            export_table(rows, tmp_path / "t.parquet", COLUMNS)
        assert not list(tmp_path.iterdir())
        return
    export_table(rows, tmp_path / "t.parquet", COLUMNS)
    assert parquet.read_table(tmp_path / "t.parquet").to_pylist()[0]["files"] == 3


# -- one series -----------------------------------------------------------------------------------------------------------


def _private(root: Path) -> list[str]:
    return sorted(path.name for path in (root / ".isocenter" / "partial").rglob("*"))


async def test_a_series_arrives_whole_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    archive, seen = Archive(), list[tuple[int, int | None]]()

    async def progress(done: int, total: int | None) -> None:
        seen.append((done, total))

    async with archive.client() as tcia:
        found = await download_series(tcia.client, SERIES, tmp_path, progress=progress)
        assert found.folder == tmp_path / "FAKE" / "PAT-0001" / "2.25.1000" / SERIES
        assert (found.files, found.bytes, found.md5) == (5, archive.facts["FileSize"], archive.md5)
        assert not found.skipped
        for uid, data in archive.files.items():
            assert (found.folder / f"{uid}.dcm").read_bytes() == data
        names = {path.name for path in found.folder.iterdir()}
        assert names == {f"{uid}.dcm" for uid in archive.files} | {"LICENSE", "CITATION.txt", "series.json"}
        assert (found.folder / "LICENSE").read_bytes() == b"CC BY 4.0\n"
        assert "https://doi.org/10.0000/FAKE" in (found.folder / "CITATION.txt").read_text()
        index = json.loads((found.folder / "series.json").read_text())
        assert index["source"] == "http://archive.test/v4"
        assert index["notes"] == []
        assert seen[-1] == (found.bytes, found.bytes)
        before = len(archive.asked)
        again = await download_series(tcia.client, SERIES, tmp_path, expect=SeriesFacts.of(archive.facts))
    assert again.skipped
    assert len(archive.asked) == before
    assert _private(tmp_path) == []


@pytest.mark.parametrize(
    "zips, asked",
    [
        (["cut:2500", "ok"], {"getImage": 2}),
        (["short:2500", "ok"], {"getImage": 2}),
        (["html", "ok"], {"getImage": 2}),
        (["empty", "502", "ok"], {"getImage": 3}),
        (["md5", "ok"], {"getImage": 2, "getSingleImage": 0}),
        (["short:2500", "cut:1900", "html"], {"getImage": 2, "getSingleImage": 3}),
        (["cut:4300", "html"], {"getImage": 1, "getSingleImage": 1}),
        (["lost:1"], {"getImage": 1, "getSingleImage": 1}),
    ],
    ids=str,
)
async def test_failures_that_pass_are_overcome(zips: list[str], asked: dict[str, int], tmp_path: Path) -> None:
    archive, trouble, pauses = Archive(zips=zips), list[Any](), Pauses()
    if zips[0] == "md5":
        archive.images = 1
        archive.__post_init__()
    async with archive.client() as tcia:
        found = await download_series(tcia.client, SERIES, tmp_path, pause=pauses, trouble=trouble.append)
    assert found.md5 == archive.md5
    assert {name: archive.asked.count(name) for name in asked} == asked
    assert len(trouble) == len(pauses) > 0
    names = {f"{uid}.dcm" for uid in archive.files} | {"LICENSE", "CITATION.txt", "series.json"}
    assert {path.name for path in found.folder.iterdir()} == names
    assert damaged_files(found.folder) == []


@pytest.mark.parametrize(
    "archive, error, message",
    [
        (Archive(zips=["stranger"]), SeriesIncomplete, "another series"),
        (Archive(zips=["noise"]), SeriesIncomplete, "no DICOM image"),
        (Archive(zips=["lost:2"], gone=("2.25.2004", "2.25.2003")), SeriesIncomplete, "2 of 5 images"),
        (Archive(zips=["502"]), StatusError, "502"),
        (Archive(zips=["md5"]), SeriesIncomplete, "differs from the archive's MD5 list"),
        (Archive(zips=["cut:9"], lists_none=True), SeriesIncomplete, "lists no images"),
        (Archive(row={"ImageCount": 6}), SeriesIncomplete, "5 images arrived; the archive's table says 6"),
        (Archive(zips=["cut:200", "cut:300"], row={"FileSize": 9}), SeriesIncomplete, "table says 9"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_failures_that_stay_publish_nothing(
    archive: Archive, error: type[Exception], message: str, tmp_path: Path
) -> None:
    async with archive.client() as tcia:
        with pytest.raises(error, match=message):
            await download_series(tcia.client, SERIES, tmp_path, pause=Pauses())
    assert [path for path in tmp_path.iterdir() if path.name != ".isocenter"] == []
    assert not any(name.endswith(".part") for name in _private(tmp_path))


async def test_the_table_may_be_wrong_where_every_hash_is_right(tmp_path: Path) -> None:
    archive = Archive(row={"FileSize": 9})
    async with archive.client() as tcia:
        found = await download_series(tcia.client, SERIES, tmp_path)
    assert found.notes == (f"The images have {found.bytes} bytes; the archive's table says 9.",)


async def test_an_unknown_series_is_said_to_be_unknown(tmp_path: Path) -> None:
    async with Archive().client() as tcia:
        for uid in ("2.25.99", "../x"):
            with pytest.raises(UnknownSeries):
                await download_series(tcia.client, uid, tmp_path)
        assert [(f.series_uid, f.images) async for f in facts_of(tcia.client, [SERIES, "2.25.9"])] == [
            (SERIES, 5),
            ("2.25.9", 0),
        ]


async def test_what_was_whole_when_a_job_died_is_not_fetched_again(tmp_path: Path) -> None:
    archive = Archive(zips=["cut:4300"])
    async with archive.client() as tcia:
        with pytest.raises(TransportError):
            await download_series(tcia.client, SERIES, tmp_path, tries=1)
        aside = tmp_path / ".isocenter" / "partial" / SERIES
        whole = sorted(path.stem for path in aside.glob("*.dcm"))
        assert len(whole) >= 3
        (aside / ".9.part").write_bytes(b"half")  # what kill -9 leaves
        (aside / "2.25.7.dcm").write_bytes(b"nothing")
        archive.asked.clear()
        found = await download_series(tcia.client, SERIES, tmp_path)
    assert found.md5 == archive.md5
    assert sorted(archive.asked) == sorted(["getSeries", "getSOPInstanceUIDs", *["getSingleImage"] * (5 - len(whole))])


async def test_what_a_power_cut_tore_is_fetched_again(tmp_path: Path) -> None:
    archive, trouble = Archive(), list[Any]()
    aside = tmp_path / ".isocenter" / "partial" / SERIES
    aside.mkdir(parents=True)
    for uid in list(archive.files)[:4]:
        (aside / f"{uid}.dcm").write_bytes(archive.files[uid])
    torn = next(iter(archive.files))
    (aside / f"{torn}.dcm").write_bytes(archive.files[torn][:-1])
    async with archive.client() as tcia:
        found = await download_series(tcia.client, SERIES, tmp_path, pause=Pauses(), trouble=trouble.append)
    assert found.md5 == archive.md5
    assert len(trouble) == 1


@pytest.mark.parametrize("at_once", [pytest.param(True, id="file system"), pytest.param(False, id="file by file")])
async def test_a_series_is_on_the_disk_before_it_is_in_its_place(
    at_once: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, synced = Archive(), list[set[str]]()
    aside, target = tmp_path / ".isocenter" / "partial" / SERIES, tmp_path / "FAKE" / "PAT-0001" / "2.25.1000" / SERIES

    def sync(handle: Any) -> int:
        assert not target.exists()
        synced.append({path.name for path in aside.iterdir()})
        return 0

    monkeypatch.setattr(on_disk, "_SYNCFS", sync if at_once else None)
    monkeypatch.setattr("os.fsync", sync)
    async with archive.client() as tcia:
        await download_series(tcia.client, SERIES, tmp_path)
    everything = {path.name for path in target.iterdir()}
    assert len(everything) == 8
    assert synced == [everything] * (1 if at_once else 8)


async def test_a_disk_that_fails_at_the_end_publishes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_disk, "_SYNCFS", lambda _: -1)
    monkeypatch.setattr("ctypes.get_errno", lambda: errno.EIO)
    async with Archive().client() as tcia:
        with pytest.raises(StorageError, match="cannot be written"):
            await download_series(tcia.client, SERIES, tmp_path)
    assert not (tmp_path / "FAKE").exists()


async def test_images_too_large_for_memory_are_written_as_they_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_disk, "WHOLE", 4000)
    archive = Archive(images=1)
    archive.files = {uid: dicom(uid, pad=3_000_000) for uid in archive.files}
    async with archive.client() as tcia:
        found = await download_series(tcia.client, SERIES, tmp_path)
    assert found.md5 == archive.md5
    for uid, data in archive.files.items():
        assert (found.folder / f"{uid}.dcm").read_bytes() == data


async def test_cancelling_leaves_nothing_half_written(tmp_path: Path) -> None:
    archive = Archive(images=40)

    async def stop(done: int, total: int | None) -> None:
        scope.cancel()
        await anyio.lowlevel.checkpoint()

    async with archive.client() as tcia:
        with anyio.CancelScope() as scope, pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "BATCH", 5000)
            await download_series(tcia.client, SERIES, tmp_path, progress=stop)
    assert scope.cancelled_caught
    aside = tmp_path / ".isocenter" / "partial" / SERIES
    assert all(path.read_bytes() == archive.files[path.stem] for path in aside.iterdir())
    assert not (tmp_path / "FAKE").exists()


async def test_a_damaged_series_is_repaired_file_by_file(tmp_path: Path) -> None:
    archive = Archive()
    async with archive.client() as tcia:
        found = await download_series(tcia.client, SERIES, tmp_path)
        (found.folder / "2.25.2001.dcm").write_bytes(b"")
        (found.folder / "2.25.2003.dcm").unlink()
        assert damaged_files(found.folder) == ["2.25.2001.dcm", "2.25.2003.dcm"]
        assert read_series(found.folder, SERIES) is None
        archive.asked.clear()
        repaired = await download_series(tcia.client, SERIES, tmp_path)
    assert archive.asked.count("getSingleImage") == 2
    assert "getImage" not in archive.asked
    assert repaired.md5 == archive.md5
    assert "Fetched again in part" in repaired.notes[0]


async def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    archive = Archive()
    taken = tmp_path / "FAKE" / "PAT-0001" / "2.25.1000" / SERIES
    taken.mkdir(parents=True)
    (taken / "mine.txt").write_text("precious")
    async with archive.client() as tcia:
        with pytest.raises(StorageError, match="no series that was fetched by Isocenter"):
            await download_series(tcia.client, SERIES, tmp_path)
        (taken / "mine.txt").unlink()
        await download_series(tcia.client, SERIES, tmp_path)


async def test_a_full_disk_is_said_and_gives_back_its_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, kept = Archive(), on_disk.Part.write

    def full(self: Any, data: bytes) -> None:
        if self.path.endswith(".3.part"):
            raise OSError(errno.ENOSPC, "No space left on device")
        kept(self, data)

    monkeypatch.setattr(on_disk.Part, "write", full)
    async with archive.client() as tcia:
        with pytest.raises(StorageError, match="No space left"):
            await download_series(tcia.client, SERIES, tmp_path)
        assert _private(tmp_path) == []
        facts = SeriesFacts(SERIES, 5, 1 << 60, archive.facts)
        archive.asked.clear()
        with pytest.raises(StorageError, match="are free on the disk"):
            await download_series(tcia.client, SERIES, tmp_path, expect=facts)
    assert archive.asked == []
    assert _private(tmp_path) == []


async def test_two_jobs_for_one_series_fetch_it_once(tmp_path: Path) -> None:
    archive, results = Archive(), list[bool]()

    async def job() -> None:
        async with archive.client() as tcia:
            found = await download_series(
                tcia.client,
                SERIES,
                tmp_path,
                expect=SeriesFacts.of(archive.facts),
                pause=lambda _: anyio.lowlevel.checkpoint(),
            )
            results.append(found.skipped)

    async with anyio.create_task_group() as group:
        group.start_soon(job)
        group.start_soon(job)
    assert sorted(results) == [False, True]
    assert archive.asked == ["getImage"]


# -- many series ----------------------------------------------------------------------------------------------------------


async def test_everything_in_the_sandbox_arrives_and_is_found_again(sandbox: Running, tmp_path: Path) -> None:
    async with TciaClient(f"{sandbox.url}/nbia-api/services/v4") as tcia:
        wanted = await facts_of_filter(tcia.client, Collection="ISO-CHEST-CT")
        outcomes: list[Outcome] = []
        arrived: list[int] = []
        with Manifest(tmp_path / "manifest.jsonl") as manifest:
            report = await download_many(
                tcia.client,
                wanted,
                tmp_path,
                manifest=manifest,
                on_outcome=lambda _, outcome: outcomes.append(outcome),
                on_bytes=arrived.append,
            )
            assert (report.done, report.failed, len(outcomes)) == (len(wanted), 0, len(wanted))
            assert sum(arrived) == report.bytes == sum(facts.size for facts in wanted)
            for outcome in outcomes:
                archive = sandbox.sandbox.archive("tcia")
                hashes = sorted(instance.md5 for instance in archive.instances(outcome.series_uid))
                assert outcome.md5 == hashlib.md5("".join(hashes).encode()).hexdigest()
                assert damaged_files(tmp_path / outcome.folder) == []
            second = await download_many(tcia.client, manifest.wanted(), tmp_path, manifest=manifest)
        assert (second.done, second.skipped, second.bytes) == (0, len(wanted), 0)
        uids = [facts.series_uid for facts in wanted]
        assert {facts.series_uid async for facts in facts_of(tcia.client, uids)} == set(uids)
        with pytest.raises(BadSelection, match="no shared list"):
            await shared_list(tcia.client, "nothing-of-that-name")


async def test_faults_of_the_service_are_accounted_for(sandbox: Running, tmp_path: Path) -> None:
    with faulty(sandbox.sandbox) as server:
        switched = {"html-502": "502", "outage": "500", "truncated-zip": ""}
        async with TciaClient(f"{sandbox.url}/nbia-api/services/v4", limits=Limits(tries=1, read_seconds=0.2)) as tcia:
            wanted = [f for f in await facts_of_filter(tcia.client, Collection="ISO-CHEST-CT") if f.images < 20]
            for fault, why in switched.items():
                switch(server, {"tcia": [fault]})
                root = tmp_path / fault
                with Manifest(root / "m.jsonl") as manifest:
                    report = await download_many(tcia.client, wanted, root, manifest=manifest, pause=Pauses(), tries=3)
                if why:
                    assert (report.done, report.failed) == (0, len(wanted))
                    assert all(why in outcome.why and outcome.code == "status" for outcome in report.failures)
                else:  # cut ZIPs are made up for image by image
                    assert (report.done, report.failed) == (len(wanted), 0)
            switch(server, {"tcia": ["timeout"]})
            report = await download_many(tcia.client, wanted[:1], tmp_path / "timeout", pause=Pauses(), tries=2)
            assert report.failures[0].code == "transport"
            switch(server, {"tcia": []})
            with Manifest(tmp_path / "outage" / "m.jsonl") as manifest:
                report = await download_many(tcia.client, manifest.pending(), tmp_path / "outage", manifest=manifest)
                assert (report.done, list(manifest.pending())) == (len(wanted), [])


class Crowd(httpx.AsyncBaseTransport):
    """Any number of series of one image, some of which fail; counts how many requests are in flight."""

    def __init__(self, failing: frozenset[str] = frozenset()) -> None:
        self.failing, self.now, self.most, self.asked = failing, 0, 0, 0
        self.two = anyio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        uid = request.url.params["SeriesInstanceUID"]
        self.now += 1
        self.asked += 1
        self.most = max(self.most, self.now)
        if self.now == 2:
            self.two.set()
        if self.failing:
            await self.two.wait()  # so that two are seen to be in flight
        self.now -= 1
        if uid in self.failing:
            return httpx.Response(500, headers={"content-type": "text/html"}, content=b"<html></html>")
        return _octets(zipped([("1.dcm", dicom(f"{uid}.1", uid))]))


async def test_concurrency_stays_in_bounds_and_what_is_wanted_is_taken_as_needed(tmp_path: Path) -> None:
    crowd, taken, most_ahead = Crowd(frozenset({"2.25.30005"})), 0, 0
    finished: list[str] = []

    def wanted() -> Iterator[SeriesFacts]:
        nonlocal taken, most_ahead
        for number in range(40):
            taken += 1
            most_ahead = max(most_ahead, taken - len(finished))
            uid = f"2.25.3{number:04d}"
            yield SeriesFacts(uid, 1, len(dicom(f"{uid}.1", uid)), {})

    pauses = Pauses()
    async with TciaClient("http://archive.test", transport=crowd, limits=Limits(tries=1)) as tcia:
        report = await download_many(
            tcia.client,
            wanted(),
            tmp_path,
            layout="{SeriesInstanceUID}",
            at_once=2,
            on_outcome=lambda _, outcome: finished.append(outcome.series_uid),
            pause=pauses,
            tries=2,
        )
    assert (report.done, report.failed, len(finished)) == (39, 1, 40)
    assert [outcome.series_uid for outcome in report.failures] == ["2.25.30005"]
    assert crowd.most == 2
    assert most_ahead <= 3
    assert pauses


async def test_a_disk_that_cannot_be_written_stops_the_job(tmp_path: Path) -> None:
    crowd = Crowd()
    facts = [SeriesFacts(f"2.25.3{n:04d}", 1, 1 << 60, {}) for n in range(20)]
    async with TciaClient("http://archive.test", transport=crowd) as tcia:
        with Manifest(tmp_path / "m.jsonl") as manifest:
            for one in facts:
                manifest.want(one)
            report = await download_many(
                tcia.client, manifest.wanted(), tmp_path, layout="{SeriesInstanceUID}", manifest=manifest
            )
            assert "free on the disk" in report.stopped
            assert report.failed <= 4
            assert len(list(manifest.pending())) == 20
    assert crowd.asked == 0


async def test_errors_of_the_source_end_the_job_as_they_are(tmp_path: Path) -> None:
    def wanted() -> Iterator[SeriesFacts]:
        yield SeriesFacts("2.25.30001", 1, -1, {})
        raise BadSelection("broken list")

    async with TciaClient("http://archive.test", transport=Crowd()) as tcia:
        with pytest.raises(BadSelection, match="broken list"):
            await download_many(tcia.client, wanted(), tmp_path, layout="{SeriesInstanceUID}")


async def test_the_pace_halves_after_trouble_and_grows_with_success() -> None:
    pauses = Pauses()
    pace = Pace(8, pause=pauses)
    for _ in range(20):
        pace.success()
    assert pace.now == 8
    pace.trouble()
    pace.trouble()
    assert pace.now == 2
    async with pace.turn():
        assert 0 < pauses[0] <= 4
    for speed in (1e6, 1e6, 1e5):
        pace.success(speed)
    assert pace.now == 2
    pace.trouble()
    pace.trouble()
    pace.trouble()
    assert pace.now == 1


async def test_only_failures_that_may_pass_are_repeated() -> None:
    pauses, calls = Pauses(), 0

    async def fails() -> None:
        nonlocal calls
        calls += 1
        raise TransportError("lost", retryable=calls < 3)

    with pytest.raises(TransportError):
        await again(fails, tries=9, pause=pauses)
    assert (calls, len(pauses)) == (3, 2)


# -- the command ----------------------------------------------------------------------------------------------------------


def test_the_command_fetches_tells_and_goes_on(
    sandbox: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOCENTER_TCIA_BASE_URL", f"{sandbox.url}/nbia-api/services/v4")
    monkeypatch.setenv("ISOCENTER_CONFIG", "")
    runner, out = CliRunner(), str(tmp_path / "out")
    dry = runner.invoke(app, ["download", "--collection", "ISO-CHEST-CT", "--to", out, "--dry-run"])
    assert dry.exit_code == 0, dry.output
    count = int(dry.output.split()[0])
    listed = tmp_path / "some.csv"
    first = json.loads((tmp_path / "out" / "manifest.jsonl").read_text().splitlines()[1])["wanted"]
    listed.write_text(f"SeriesInstanceUID,x\n{first},1\n")
    one = runner.invoke(app, ["download", str(listed), "--to", out, "--json"])
    assert [event["event"] for event in lines(one.output)] == ["series", "end"]
    assert lines(one.output)[0]["series_uid"] == first
    rest = runner.invoke(app, ["download", "--to", out, "--table", str(tmp_path / "t.csv")])
    assert rest.exit_code == 0
    assert f"{count - 1} series fetched" in rest.output
    assert "1 were there" in rest.output
    assert len((tmp_path / "t.csv").read_text().splitlines()) == count + 1
    missing = runner.invoke(app, ["download", "2.25.404", "--to", out])
    assert missing.exit_code == 1
    assert "no public series 2.25.404" in missing.output
    for arguments in (["--to", str(tmp_path / "new")], ["--modality", "CT"], ["--layout", "{x}", "2.25.1"]):
        assert runner.invoke(app, ["download", *arguments]).exit_code != 0


def test_a_command_killed_with_9_is_taken_up_again(
    sandbox: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOCENTER_TCIA_BASE_URL", f"{sandbox.url}/nbia-api/services/v4")
    monkeypatch.setenv("ISOCENTER_CONFIG", "")
    arguments = ["download", "--collection", "ISO-CHEST-CT", "--to", str(tmp_path), "--json"]
    program = [sys.executable, "-c", "from isocenter.cli_transfer import app; app()", *arguments]
    with faulty(sandbox.sandbox) as server:
        switch(server, {"tcia": ["slow"]})  # so that the large series are under way when the first small one is there
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            first = json.loads(process.stdout.readline())
            process.kill()
    assert first["state"] == "done"
    wanted = [line["wanted"] for line in lines((tmp_path / "manifest.jsonl").read_text()) if "wanted" in line]
    assert len(list(tmp_path.rglob("series.json"))) < len(wanted)
    events = lines(CliRunner().invoke(app, arguments).output)
    assert {event["series_uid"]: event["state"] for event in events[:-1]}[first["series_uid"]] == "skipped"
    assert events[-1]["done"] + events[-1]["skipped"] == len(wanted) == len(events) - 1
    for index in tmp_path.rglob("series.json"):
        assert damaged_files(index.parent) == []
        assert not [path for path in index.parent.iterdir() if path.name.startswith(".")]
