"""Files on their way out and in: whole or not at all, under a safe name, of exact length."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from probe import JSON, TOKEN, ZIP, Pauses, Service, archive, client, names, raw, reply, wire, zipped

from isocenter.core import (
    Checks,
    ContractViolation,
    FileSource,
    Limits,
    StatusError,
    StorageError,
    TransportError,
)

pytestmark = pytest.mark.anyio

# -- files in answers ------------------------------------------------------------------------------------------------


async def test_a_file_is_saved_whole_and_described(tmp_path: Path) -> None:
    content, seen = archive(400), list[tuple[int, int | None]]()

    async def progress(done: int, total: int | None) -> None:
        seen.append((done, total))

    with wire(raw(content, ZIP, 'Content-Disposition: attachment; filename="scan.zip"')) as server:
        async with client(None, base_url=server.url) as api:
            result: Any = await api.call("getFile", {}, save_to=tmp_path / "1.2.840.5", progress=progress)

    assert result.file.path == tmp_path / "1.2.840.5" / "scan.zip"
    assert result.file.path.read_bytes() == content
    assert result.file.size == len(content)
    assert result.file.media_type == "application/zip"
    assert result.data is None
    assert seen[-1] == (len(content), len(content))
    assert names(tmp_path / "1.2.840.5") == ["scan.zip"]


async def test_a_file_gets_exactly_the_name_asked_for(tmp_path: Path) -> None:
    target = tmp_path / "new" / "mine.zip"
    content = archive()
    api = client(Service(zipped(archive()), zipped(content)))

    for _ in range(2):
        result: Any = await api.call("getFile", {}, save_to=target)

    assert result.file.path == target
    assert target.read_bytes() == content
    assert names(target.parent) == ["mine.zip"]


async def test_downloads_of_one_name_at_once_all_arrive(tmp_path: Path) -> None:
    contents = [archive() for _ in range(8)]
    service = Service(*[zipped(content, "filename=a.zip") for content in contents])
    api, saved = client(service), list[Path]()

    async def download() -> None:
        result: Any = await api.call("getFile", {}, save_to=tmp_path)
        saved.append(result.file.path)

    async with anyio.create_task_group() as tasks:
        for _ in contents:
            tasks.start_soon(download)

    assert sorted(path.name for path in saved) == [
        "a-2.zip",
        "a-3.zip",
        "a-4.zip",
        "a-5.zip",
        "a-6.zip",
        "a-7.zip",
        "a-8.zip",
        "a.zip",
    ]
    assert names(tmp_path) == sorted(path.name for path in saved)
    assert {path.read_bytes() for path in saved} == set(contents)


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ("attachment; filename=/etc/passwd", "passwd"),
        ('attachment; filename="C:\\Windows\\evil.zip"', "evil.zip"),
        ('attachment; filename=".."', "getFile.zip"),
        ('attachment; filename=""', "getFile.zip"),
        ('attachment; filename=".bashrc"', "bashrc"),
        ('attachment; filename="a b;c.zip"', "a_b"),
        ('attachment; filename="ÄÖ%2F..%2Fx.zip"', "2F.._2Fx.zip"),
        (f'attachment; filename="{"x" * 300}.zip"', "x" * 120),
        ("attachment", "getFile.zip"),
        ("", "getFile.zip"),
    ],
)
async def test_a_hostile_name_stays_in_the_folder(tmp_path: Path, disposition: str, name: str) -> None:
    folder = tmp_path / "in" / "here"

    result: Any = await client(Service(zipped(archive(), disposition))).call("getFile", {}, save_to=folder)

    assert result.file.path == folder / name
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()] == [Path("in/here", name)]


async def test_a_name_that_repeats_a_secret_is_not_used(tmp_path: Path) -> None:
    service = Service(zipped(archive(), f"filename={TOKEN}.zip"))

    result: Any = await client(service, credentials={"key": TOKEN}).call("getFile", {}, save_to=tmp_path)

    assert TOKEN not in result.file.path.name


async def test_a_body_that_is_cut_leaves_no_file_until_it_comes_whole(tmp_path: Path) -> None:
    content = archive(300)
    cut = raw(content[: len(content) // 2], ZIP, length=len(content))
    with wire(cut, raw(content, ZIP), cut) as server:
        async with client(None, base_url=server.url) as api:
            result: Any = await api.call("getFile", {}, save_to=tmp_path / "good")

            with pytest.raises(TransportError, match="broke off"):
                await api.call("getFile", {}, save_to=tmp_path / "bad")

    assert result.file.path.read_bytes() == content
    assert names(tmp_path / "good") == ["getFile.zip"]
    assert names(tmp_path / "bad") == []
    assert len(server.seen) == 2 + 3


async def test_a_full_disk_leaves_nothing_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    api = client(Service(zipped(archive())))
    with monkeypatch.context() as patch, pytest.raises(StorageError, match="No space left on device"):
        patch.setattr(os, "write", full)
        await api.call("getFile", {}, save_to=tmp_path)

    assert names(tmp_path) == []


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    api = client(Service(zipped(archive())))

    with pytest.raises(StorageError, match="download folder"):
        await api.call("getFile", {}, save_to=tmp_path / "taken" / "below")


async def test_a_cancelled_download_leaves_nothing(tmp_path: Path) -> None:
    begun, closed = anyio.Event(), anyio.Event()

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for _ in range(3):
                yield bytes(1 << 20)
            begun.set()
            await anyio.sleep_forever()

        async def aclose(self) -> None:
            closed.set()

    headers = {"content-type": "application/octet-stream"}
    service = Service(lambda _: httpx.Response(200, headers=headers, stream=Endless()))

    async def download() -> None:
        await client(service).call("getFile", {}, save_to=tmp_path)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(download)
        await begun.wait()
        assert len(names(tmp_path)) == 1
        tasks.cancel_scope.cancel()

    assert names(tmp_path) == []
    assert closed.is_set()


@pytest.mark.parametrize(
    ("body", "given"),
    [
        (b"<html><title>Log in</title></html>", "an HTML page"),
        (b"", "0 bytes"),
        (b"no such series", "14 bytes"),
        (archive()[:-30], "one that was cut short"),
    ],
)
@pytest.mark.parametrize("to_disk", [True, False])
async def test_what_is_no_whole_archive_is_refused_and_not_published(
    tmp_path: Path, body: bytes, given: str, to_disk: bool
) -> None:
    api = client(Service(zipped(body)))

    with pytest.raises(ContractViolation, match=given):
        await api.call("getFile", {}, save_to=tmp_path if to_disk else None)

    assert names(tmp_path) == []


async def test_what_is_no_archive_is_handed_over_where_the_operator_says_so(tmp_path: Path) -> None:
    api = client(Service(zipped(b"odd")), checks=Checks(response="report"))

    result: Any = await api.call("getFile", {}, save_to=tmp_path)

    assert result.file.path.read_bytes() == b"odd"
    assert [finding.kind for finding in result.breaking] == ["magic"]


async def test_without_a_folder_the_answer_is_its_bytes() -> None:
    content = archive()

    result: Any = await client(Service(zipped(content))).call("getFile", {})

    assert result.data == content
    assert result.file is None


async def test_files_have_limits_in_memory_and_on_disk(tmp_path: Path) -> None:
    limits = Limits(memory_bytes=1000, file_bytes=2 << 20)
    api = client(Service(zipped(bytes(3 << 20))), limits=limits)

    with pytest.raises(TransportError, match="larger than 1000 bytes"):
        await api.call("getFile", {})
    with pytest.raises(TransportError, match="larger than 2 MiB"):
        await api.call("getFile", {}, save_to=tmp_path)

    assert names(tmp_path) == []


async def test_an_error_instead_of_a_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StatusError, match="No such file"):
        await client(Service(reply(404, body=b""))).call("getFile", {}, save_to=tmp_path)

    assert names(tmp_path) == []


# -- files in requests -----------------------------------------------------------------------------------------------


async def test_an_upload_has_its_exact_length_and_is_read_again_for_every_try(tmp_path: Path) -> None:
    (tmp_path / "PAT-0001.bin").write_bytes(os.urandom(2_500_000))
    big = tmp_path / "PAT-0001.bin"
    with wire(raw(b"{}", JSON, status="503 Busy"), raw(b'{"id":1}', JSON)) as server:
        async with client(None, base_url=server.url) as api:
            await api.call("putParts", {"note": "ä", "files": [big, b"small", FileSource(3, content=b"abc")]})

    (_, first, body), (_, second, again) = server.seen
    assert body == again
    assert first["content-length"] == second["content-length"] == str(len(body))
    assert "transfer-encoding" not in first
    boundary = first["content-type"].partition("boundary=")[2].encode()
    parts = body.split(b"--" + boundary)
    assert parts[-1] == b"--\r\n"
    heads, contents = zip(*(part.split(b"\r\n\r\n", 1) for part in parts[1:-1]), strict=True)
    assert contents == ("ä\r\n".encode(), big.read_bytes() + b"\r\n", b"small\r\n", b"abc\r\n")
    assert b"PAT-0001" not in b"".join(heads)


@pytest.mark.parametrize("real", [True, False])
async def test_a_file_that_shrinks_while_it_is_sent_is_told_and_not_tried_again(tmp_path: Path, real: bool) -> None:
    path = tmp_path / "shrinking.bin"
    path.write_bytes(b"short")
    source = FileSource(4 << 20, path=path)

    with wire(raw(b'{"id":1}', JSON)) as server:
        async with client(None if real else Service(), base_url=server.url, pause=(pauses := Pauses())) as api:
            with pytest.raises(TransportError, match="became shorter while it was sent") as caught:
                await api.call("putParts", {"files": [source]})

    assert pauses == []
    assert not caught.value.retryable
