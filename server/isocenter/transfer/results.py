"""Results of Qure.ai: waited for without pressing, fetched whole before their addresses expire, kept with an index beside."""

from __future__ import annotations

import random
import re
import shutil
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from isocenter.core import ApiClient, Contract, IsocenterError, Result, SavedFile, StatusError, StorageError
from isocenter.core.http import Transport, open_transport
from isocenter.transfer.layout import only_one, segment
from isocenter.transfer.patience import Pause

FIRST_PAUSE, LONGEST_PAUSE = (
    2.0,
    30.0,
)  # seconds between two questions; the provider gives no number (qure.md section 6)
NOT_YET = 60.0  # seconds in which "not uploaded" may mean "not registered yet"
AT_ONCE = 4  # files of one result, and questions about different series
IN_VIEW = 200  # series asked about in turn
REFETCHES = 3  # times in a row that all addresses may be expired before it is given up
INDEX = "index.json"
XRAY = frozenset({"CR", "DX"})  # modalities whose results are kept by image, not by series
Waiting = Callable[[float], Awaitable[None]]


class ResultsLate(IsocenterError):
    """No result within the time one was ready to wait."""

    code = "results_late"
    retryable = True


class ResultsExpired(IsocenterError):
    """The addresses of the files stop working before the files can be fetched."""

    code = "results_expired"
    retryable = True


@dataclass(frozen=True, slots=True)
class ResultsOnDisk:
    """A result in its folder: `files` are all but the index; `skipped` says that it was there before."""

    uid: str
    folder: Path
    usecase: str
    triage_status: str
    files: int
    bytes: int
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class ResultWanted:
    """One result to be fetched: of a CT by SeriesInstanceUID, of an X-ray by SOPInstanceUID, into a folder of its own."""

    uid: str
    folder: Path
    xray: bool = False


async def wait_for_results(
    qure: ApiClient,
    uid: str,
    *,
    xray: bool = False,
    give_up_after: float = 3600.0,
    start: bool = True,
    progress: Waiting | None = None,
    pause: Pause = anyio.sleep,
) -> Result[Any]:
    """Ask until there is a result, and return it.

    Starts the computation where the service says that nobody did (409), unless `start` is off. The pause between two questions grows
    from 2 to 30 seconds, with jitter, so that many waiting series spread out. `progress` gets the seconds waited so far. Raises
    ResultsLate after `give_up_after` seconds, with the service's last answer as its cause where that was an error, and StatusError for
    an answer that is final, such as 400: no use case for the image.
    """
    started, waited, wait = time.monotonic(), 0.0, FIRST_PAUSE
    while True:
        said: IsocenterError | None = None
        try:
            if xray:
                answer: Result[Any] = await qure.call("getResultsV2", {"SOPInstanceUID": uid})
            else:
                answer = await qure.call("getResults", {"uid": uid})
            if answer.status != 202:
                return answer
        except IsocenterError as error:
            said = error
            status = error.status if isinstance(error, StatusError) else 0
            if status == 409 and start and not xray:
                await qure.call("startComputation", {"SeriesInstanceUID": uid})
            elif not error.retryable and not (status == 404 and waited < NOT_YET):
                raise
        if (so_far := max(waited, time.monotonic() - started)) >= give_up_after:
            raise ResultsLate(f"No result for {uid} after {so_far:.0f} seconds.") from said
        if progress:
            await progress(so_far)
        this = min(wait * (0.75 + random.random() / 2), max(0.0, give_up_after - so_far))
        await pause(this)
        waited += this
        wait = min(LONGEST_PAUSE, wait * 1.5)


async def fetch_results(
    qure: ApiClient,
    uid: str,
    folder: Path,
    *,
    xray: bool = False,
    give_up_after: float = 3600.0,
    start: bool = True,
    progress: Waiting | None = None,
    pause: Pause = anyio.sleep,
) -> ResultsOnDisk:
    """Wait for a result and put all its files into `folder`, with `index.json` beside; nothing is done where that is there already.

    Addresses of files work for 15 minutes: when one has expired, the result is asked for again and the fetching goes on. The folder
    appears when everything is there. Raises what `wait_for_results` raises, ResultsExpired, StorageError.
    """
    if there := read_results(folder, uid):
        return there
    answer = await wait_for_results(
        qure, uid, xray=xray, give_up_after=give_up_after, start=start, progress=progress, pause=pause
    )
    part = folder.with_name(f".{folder.name}.part")
    try:
        async with only_one(folder.parent, folder.name, pause):
            if there := read_results(folder, uid):  # another job was faster
                return there
            shutil.rmtree(part, ignore_errors=True)  # of a job that was killed
            try:
                part.mkdir()
                fetched: dict[tuple[str, int], dict[str, Any]] = {}
                in_vain = 0
                while left := [asset for asset in _assets(answer.data) if asset[:2] not in fetched]:
                    before = len(fetched)
                    expired = await _fetch(qure, left, part, fetched)
                    if not expired:
                        continue
                    in_vain = in_vain + 1 if len(fetched) == before else 0
                    if in_vain == REFETCHES:
                        raise ResultsExpired(f"The files of the result for {uid} cannot be fetched: {expired}")
                    answer = await wait_for_results(qure, uid, xray=xray, give_up_after=give_up_after, pause=pause)
                return await anyio.to_thread.run_sync(
                    _publish, part, folder, uid, qure.base_url, answer, list(fetched.values())
                )
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise StorageError(f"The result for {uid} cannot be written: {error.strerror or error}.") from error


async def fetch_many(
    qure: ApiClient,
    wanted: Iterable[ResultWanted],
    *,
    give_up_after: float = 3600.0,
    start: bool = True,
    on_result: Callable[[ResultWanted, ResultsOnDisk | IsocenterError], None] | None = None,
    pause: Pause = anyio.sleep,
) -> list[tuple[ResultWanted, ResultsOnDisk | IsocenterError]]:
    """Fetch many results at once; one that fails does not stop the others, its error stands in its place."""
    done: list[tuple[ResultWanted, ResultsOnDisk | IsocenterError]] = []
    waiting = iter(wanted)

    async def work() -> None:
        for one in waiting:
            found: ResultsOnDisk | IsocenterError
            try:
                found = await fetch_results(
                    qure, one.uid, one.folder, xray=one.xray, give_up_after=give_up_after, start=start, pause=pause
                )
            except IsocenterError as error:
                found = error
            done.append((one, found))
            if on_result:
                on_result(one, found)

    async with anyio.create_task_group() as group:
        for _ in range(IN_VIEW):
            group.start_soon(work)
    return done


def read_results(folder: Path, uid: str) -> ResultsOnDisk | None:
    """The result in a folder, if it is there and every file has the size noted for it; None otherwise."""
    try:
        index = msgspec.json.decode((folder / INDEX).read_bytes())
        if index["uid"] != uid or any(
            (folder / file["name"]).stat().st_size != file["size"] for file in index["files"]
        ):
            return None
    except (OSError, msgspec.DecodeError, KeyError, TypeError):
        return None
    size = sum(file["size"] for file in index["files"])
    return ResultsOnDisk(uid, folder, index["usecase"], index["triage_status"], len(index["files"]), size, skipped=True)


def _assets(data: Mapping[str, Any]) -> Iterator[tuple[str, int, str]]:
    """Kind, number and address of every file of a result."""
    result = data.get("result")
    files = result.get("files") if isinstance(result, dict) else None
    for kind, urls in sorted((files or {}).items()):
        for number, url in enumerate(urls, 1):
            yield kind, number, url


async def _fetch(
    qure: ApiClient, assets: list[tuple[str, int, str]], part: Path, fetched: dict[tuple[str, int], dict[str, Any]]
) -> str:
    """Fetch files, a few at once. Returns why, if some addresses have expired; raises what else goes wrong."""
    failures: list[IsocenterError] = []
    waiting, transport = iter(assets), open_transport(AT_ONCE)

    async def work() -> None:
        for kind, number, url in waiting:
            if failures:
                return
            try:
                saved = await _get(qure, transport, url, part / f"{segment(kind)}-{number}.part")
            except IsocenterError as error:
                failures.append(error)
                return
            name = f"{segment(kind)}-{number}{_extension(saved.path, url)}"
            saved.path.replace(part / name)
            fetched[kind, number] = {"kind": kind, "name": name, "size": saved.size, "sha256": saved.sha256}

    try:
        async with anyio.create_task_group() as group:
            for _ in range(AT_ONCE):
                group.start_soon(work)
    finally:
        await transport.aclose()
    for error in failures:
        if not (isinstance(error, StatusError) and error.status in (401, 403, 404, 410)):
            raise error
    return str(failures[0]) if failures else ""


async def _get(qure: ApiClient, transport: Transport, url: str, target: Path) -> SavedFile:
    """One file by its signed address: without our credentials, and as safe on the way as the service itself."""
    if not re.match(r"https://|http://(localhost|127\.|\[::1\])", url):
        raise StorageError("A file of the result has an address that is not https; it is not fetched.")
    client = ApiClient(_asset_contract(), base_url=url, limits=qure.limits, transport=transport)
    answer: Result[Any] = await client.call("getFile", {}, save_to=target)
    assert answer.file
    return answer.file


@cache
def _asset_contract() -> Contract:
    """A signed address as a contract: one operation without arguments, whose address is that of the client."""
    return Contract(
        {
            "openapi": "3.1.0",
            "info": {"title": "Result files", "version": "1", "x-isocenter": {"api": "qure-files", "dialect": 1}},
            "paths": {
                "": {
                    "get": {
                        "operationId": "getFile",
                        "security": [],
                        "responses": {
                            "200": {
                                "description": "The file.",
                                "content": {
                                    "*/*": {
                                        "schema": {"type": "string", "contentMediaType": "application/octet-stream"}
                                    }
                                },
                            },
                            "4XX": {
                                "description": "The address has expired, or the file is gone.",
                                "content": {"*/*": {"schema": {"type": "string"}}},
                            },
                            "5XX": {
                                "description": "The server failed.",
                                "content": {"*/*": {"schema": {"type": "string"}}},
                            },
                        },
                    }
                }
            },
        }
    )


def _extension(path: Path, url: str) -> str:
    """By content where it says what it is, by the address otherwise."""
    with path.open("rb") as file:
        head = file.read(132)
    for mark, extension in ((b"%PDF", ".pdf"), (b"\x89PNG", ".png"), (b"\xff\xd8\xff", ".jpg"), (b"MSH|", ".hl7")):
        if head.startswith(mark):
            return extension
    if head[128:] == b"DICM":
        return ".dcm"
    if head.lstrip()[:1] in (b"{", b"["):
        return ".json"
    suffix = re.search(r"\.[A-Za-z0-9]{1,8}$", url.partition("?")[0])
    return suffix[0].lower() if suffix else ".bin"


def _publish(
    part: Path, folder: Path, uid: str, source: str, answer: Result[Any], files: list[dict[str, Any]]
) -> ResultsOnDisk:
    data = answer.data if isinstance(answer.data, dict) else {}
    result = data.get("result")
    index = {
        "uid": uid,
        "source": source,
        "fetched": datetime.now(UTC).isoformat(timespec="seconds"),
        "status": answer.status,
        "usecase": str(data.get("usecase", "")),
        "triage_status": str(data.get("triage_status", "")),
        "result": {key: value for key, value in result.items() if key != "files"} if isinstance(result, dict) else {},
        "files": sorted(files, key=lambda file: str(file["name"])),
    }
    (part / INDEX).write_bytes(msgspec.json.format(msgspec.json.encode(index), indent=1))
    with suppress(OSError, msgspec.DecodeError, KeyError, TypeError):
        if msgspec.json.decode((folder / INDEX).read_bytes())["uid"] == uid:
            shutil.rmtree(folder)  # our own, with files changed or lost since
    part.replace(folder)
    found = read_results(folder, uid)
    if found is None:
        raise StorageError(f"Files of the result for {uid} changed while they were written.")
    return ResultsOnDisk(uid, folder, found.usecase, found.triage_status, found.files, found.bytes)
