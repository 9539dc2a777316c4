"""What a client may read by URI: specifications, series, their images, long answers, and the calls of this session."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import anyio.to_thread
import msgspec

from isocenter.agent.audit import Record
from isocenter.agent.toolbox import Toolbox
from isocenter.agent.workflows.archive import downloaded, on_disk
from isocenter.agent.workflows.kind import SERIES
from isocenter.core import IsocenterError
from isocenter.core.formats import FORMATS

ANSWER = re.compile(r"isocenter://answers/([a-z0-9_]+-[0-9a-f]{12}\.(json|csv|txt))")
SPEC = re.compile(r"isocenter://spec/([A-Za-z0-9_-]+)")
ONE_SERIES = re.compile(r"isocenter://series/([0-9.]+)")
ONE_FRAME = re.compile(r"isocenter://series/([0-9.]+)/frame/([1-9][0-9]{0,6})")
CALLS = "isocenter://calls"
TYPES = {"json": "application/json", "csv": "text/csv", "txt": "text/plain"}


class UnknownResource(IsocenterError):
    """There is no such resource."""

    code = "unknown_resource"


@dataclass(frozen=True, slots=True)
class Entry:
    """A resource, or a family of them when `uri` has {placeholders}, as clients list it."""

    uri: str
    name: str
    description: str
    media_type: str


@dataclass(frozen=True, slots=True)
class Content:
    """What reading a resource gives: text or bytes."""

    media_type: str
    data: str | bytes


def entries(toolbox: Toolbox, *, calls: bool) -> list[Entry]:
    """Resources with a fixed URI; the calls only where there is one session."""
    found = [
        Entry(f"isocenter://spec/{api}", api, f"OpenAPI document of {client.contract.title}.", "application/json")
        for api, client in toolbox.clients.items()
    ]
    if calls:
        words = "Calls of this session: tool, outcome, duration; no values."
        found.append(Entry(CALLS, "calls", words, "application/json"))
    return found


def families(toolbox: Toolbox) -> list[Entry]:
    """Resources whose URI has a part to fill in."""
    found = [
        Entry("isocenter://spec/{api}", "specification", "OpenAPI document of an API.", "application/json"),
        Entry("isocenter://answers/{id}", "answer", "All rows of a long answer, as JSON or CSV.", "application/json"),
    ]
    if "tcia" in toolbox.clients:
        found += [
            Entry(
                "isocenter://series/{uid}",
                "series",
                "A TCIA series: what the archive says, and the files once they are downloaded.",
                "application/json",
            ),
            Entry("isocenter://series/{uid}/frame/{n}", "image", "Image n (from 1) of a TCIA series.", "image/png"),
        ]
    return found


async def read(toolbox: Toolbox, uri: str, recent: Iterable[Record] | None) -> Content:
    """The content of a resource. Raises UnknownResource, and for series what the archive's client raises.

    `recent` are the calls of this session, None where several callers share the server.
    """
    if uri == CALLS and recent is not None:
        return Content("application/json", _json([asdict(record) for record in recent]))
    if (match := SPEC.fullmatch(uri)) and match[1] in toolbox.clients:
        return Content("application/json", _json(toolbox.clients[match[1]].contract.document))
    if match := ANSWER.fullmatch(uri):
        path = toolbox.settings.download_dir / "answers" / match[1]
        if path.is_file():
            return Content(TYPES[match[2]], (await anyio.Path(path).read_bytes()).decode("utf-8", "replace"))
    if "tcia" in toolbox.clients:
        if (match := ONE_SERIES.fullmatch(uri)) and FORMATS["dicom-uid"](match[1]):
            return await _series(toolbox, match[1])
        if (match := ONE_FRAME.fullmatch(uri)) and FORMATS["dicom-uid"](match[1]):
            return await _frame(toolbox, match[1], int(match[2]))
    raise UnknownResource("There is no such resource. List resources and resource templates for what there is.")


def files_of(toolbox: Toolbox, uri: str) -> list[str]:
    """The local files behind a resource that names some: a long answer, or a downloaded series. Raises UnknownResource."""
    if match := ANSWER.fullmatch(uri):
        path = toolbox.settings.download_dir / "answers" / match[1]
        if path.is_file():
            return [str(path)]
    if (match := ONE_SERIES.fullmatch(uri)) and FORMATS["dicom-uid"](match[1]):
        folder = downloaded(toolbox.settings.download_dir / SERIES, match[1])
        if folder:
            return [str(path) for path in sorted(folder.glob("*.dcm"))]
    raise UnknownResource(
        f"No local file stands behind {uri}. fetch_series downloads a series; then its URI names its files."
    )


async def _series(toolbox: Toolbox, uid: str) -> Content:
    folder = await anyio.to_thread.run_sync(downloaded, toolbox.settings.download_dir / SERIES, uid)
    if folder:
        index = msgspec.json.decode((folder / "series.json").read_bytes())
        return Content("application/json", _json({"folder": str(folder), **index}))
    rows = (await toolbox.clients["tcia"].call("getSeries", {"SeriesInstanceUID": uid})).data
    if not rows:
        raise UnknownResource("The archive has no public series of this UID. find_series lists what there is.")
    return Content("application/json", _json({"folder": None, "archive": rows[0]}))


async def _frame(toolbox: Toolbox, uid: str, number: int) -> Content:
    from isocenter.agent.workflows.images import slices
    from isocenter.imaging import NotDicom, Undecodable, render

    async def report(done: float, total: float | None, words: str) -> None:
        """Reading a resource has nobody to report to."""

    folder = await on_disk(toolbox, uid, report)
    images = await anyio.to_thread.run_sync(slices, folder)
    if number > len(images):
        raise UnknownResource(f"The series has {len(images)} images.")
    try:
        path, frame = images[number - 1]
        return Content("image/png", await anyio.to_thread.run_sync(render, path, frame))
    except (NotDicom, Undecodable) as error:
        raise UnknownResource(f"Image {number} cannot be shown: {error}.") from error


def _json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=1).decode()
