"""The steps of a pipeline. Each finds out what is done already, does the rest, and says what the next ones need to know.

A step may be cut off anywhere and done again, on this machine or another: a series is published only when whole, an upload is noted
batch by batch, results appear as a whole, a case is found again by its tag. What a step knows holds UIDs, sizes, paths and the
provider's finding, but no attribute of a patient.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio.to_thread

from isocenter.core import ApiClient, IsocenterError, Result, StatusError
from isocenter.core.auth import authorize
from isocenter.transfer import cases
from isocenter.transfer.download import download_series
from isocenter.transfer.ledger import Item
from isocenter.transfer.manifest import SeriesFacts, facts_of, facts_of_filter, read_selection, shared_list
from isocenter.transfer.patience import again
from isocenter.transfer.pipeline import Find, Pipeline
from isocenter.transfer.results import NOT_YET, XRAY, ResultsLate, fetch_results
from isocenter.transfer.scan import LocalSeries, find_dicom, read_header
from isocenter.transfer.upload import journal_of, upload_to_qure

FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0  # seconds between two questions for one result
SETTLE = 10.0  # seconds within which a request that was cut off has taken effect, or never will


class NotYet(IsocenterError):
    """Nothing failed, but the step cannot end now; ask again after `seconds`."""

    code = "not_yet"
    retryable = True

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class StepFailed(IsocenterError):
    """The service took the request and said no to this series. `code` is that of the refusal."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Passed:
    """A step that is done: what it found out, whether it did anything that was not done before, and how many bytes it moved."""

    known: Mapping[str, Any]
    fresh: bool
    bytes: int = 0


@dataclass(slots=True)
class Tools:
    """The clients of one process, each opened when a step first needs it. A context manager."""

    open_client: Callable[[str], ApiClient]
    _clients: dict[str, ApiClient] = field(default_factory=dict)
    _account: dict[str, Any] | None = None
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def client(self, api: str) -> ApiClient:
        """The client of one API."""
        if api not in self._clients:
            self._clients[api] = client = self.open_client(api)
            await self._stack.enter_async_context(client)
        return self._clients[api]

    async def account(self) -> dict[str, Any]:
        """Who we are at CIRCUS: projects and domains. Asked once."""
        if self._account is None:
            circus = await self.client("circus")

            async def ask() -> Result[Any]:
                return await circus.call("getFullLoginInfo", {})

            self._account = (await again(ask)).data
        return self._account

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()


Step = Callable[[Tools, Pipeline, Item], Awaitable[Passed]]


async def find(tools: Tools, wanted: Find) -> AsyncIterator[SeriesFacts]:
    """Every series a pipeline is about, each once. Raises what the archive and the files raise."""
    tcia, seen = await tools.client("tcia"), set[str]()
    if wanted.filters:
        for facts in await again(lambda: facts_of_filter(tcia, **wanted.filters)):
            seen.add(facts.series_uid)
            yield facts
    listed = [*wanted.series]
    for file in wanted.files:
        listed += await anyio.to_thread.run_sync(read_selection, Path(file))
    if wanted.shared_list:
        listed += await again(lambda: shared_list(tcia, wanted.shared_list))
    async for facts in facts_of(tcia, (uid for uid in listed if uid not in seen)):
        yield facts


async def check(tools: Tools, pipeline: Pipeline) -> None:
    """What would stop every series at a late step, found out at once: credentials, and the project of the cases. Raises IsocenterError."""
    for step, operation in (("upload", "uploadStudies"), ("results", "getResults")):
        if step in pipeline.steps:
            qure = await tools.client("qure")
            authorize(qure.contract.operations[operation], qure.credentials)
    if pipeline.case:
        cases.project_of(await tools.account(), pipeline.case.project)


async def download(tools: Tools, pipeline: Pipeline, item: Item) -> Passed:
    """The series on disk, whole and checked."""
    tcia, root = await tools.client("tcia"), Path(pipeline.download.to)
    expect = SeriesFacts.of(item.facts) if "SeriesInstanceUID" in item.facts else None
    there = await download_series(
        tcia, item.uid, root, layout=pipeline.download.layout, expect=expect, pause=pipeline.pause
    )
    known = {
        "folder": there.folder.relative_to(root).as_posix(),
        "files": there.files,
        "bytes": there.bytes,
        "md5": there.md5,
    }
    images = sorted(there.folder.glob("*.dcm"))
    header = read_header(images[0])
    known |= {"Modality": header.modality}
    if header.modality in XRAY:  # Qure.ai keys their results by image
        known["images"] = [image.stem for image in images]
    return Passed(known, not there.skipped, 0 if there.skipped else there.bytes)


async def upload(tools: Tools, pipeline: Pipeline, item: Item) -> Passed:
    """Every file of the series at Qure.ai."""
    assert pipeline.upload
    qure, root = await tools.client("qure"), Path(pipeline.download.to)
    series = await _local(root, item)
    with journal_of(root, item.uid) as journal:
        (sent,) = await upload_to_qure(
            qure, [series], journal=journal, framing=pipeline.upload.framing, at_once=1, pause=pipeline.pause
        )
    if not sent.whole:
        raise sent.failure or StepFailed(sent.why, sent.code)
    return Passed({}, sent.sent > 0, sent.bytes)


async def results(tools: Tools, pipeline: Pipeline, item: Item) -> Passed:
    """All files of the result, or of every image's result, in a folder of their own. Raises NotYet while there is none."""
    want = pipeline.results
    assert want
    qure = await tools.client("qure")
    found, statuses = [], list[str]()
    images = item.known.get("images")
    try:
        for uid in images or [item.uid]:
            one = await fetch_results(
                qure,
                uid,
                Path(want.to) / uid,
                xray=images is not None,
                give_up_after=0,
                start=want.start,
                pause=pipeline.pause,
            )
            found.append(one)
            statuses.append(one.triage_status)
    except ResultsLate as late:
        waited, said = time.time() - item.since if item.since else 0.0, late.__cause__
        if isinstance(said, StatusError) and said.status == 404 and waited >= NOT_YET:
            raise said from None  # it was not uploaded, or to another workspace
        if waited >= want.give_up_after:
            raise StepFailed(f"No result after {waited:.0f} seconds.", late.code) from late
        pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, waited / 4)) * (0.75 + random.random() / 2)
        raise NotYet(str(late), pause * pipeline.patience) from late
    fresh = [one for one in found if not one.skipped]
    known = {"usecase": found[0].usecase, "triage_status": ", ".join(dict.fromkeys(statuses))}
    return Passed(known, bool(fresh), sum(one.bytes for one in fresh))


async def case(tools: Tools, pipeline: Pipeline, item: Item) -> Passed:
    """A case of CIRCUS made of the series, opened once: a second try finds it by its tag.

    After a try that was cut off, it opens one only when the request of that try cannot be under way any more.
    """
    want = pipeline.case
    assert want
    circus, account, root = await tools.client("circus"), await tools.account(), Path(pipeline.download.to)
    project, tag = cases.project_of(account, want.project), cases.mark(pipeline.name, item.uid)
    if there := await cases.case_tagged(circus, project["projectId"], tag):
        return Passed({"case": there}, fresh=False)
    series, sent = await _local(root, item), 0
    if await cases.images_there(circus, item.uid) < len(series.instances):
        with journal_of(root, item.uid) as journal:
            await cases.send_to_circus(
                circus, cases.domain_of(account, want.domain), series, journal=journal, pause=pipeline.pause
            )
        sent = series.size
    if (rest := item.cut + SETTLE - time.time()) > 0:
        raise NotYet("An earlier try may still be opening the case.", rest)
    opened = await cases.create_case(circus, project["projectId"], item.uid, [*want.tags, tag])
    return Passed({"case": opened}, fresh=True, bytes=sent)


async def tag(tools: Tools, pipeline: Pipeline, item: Item) -> Passed:
    """The tags on the case. Adding a tag that is there changes nothing."""
    assert pipeline.tag
    circus = await tools.client("circus")
    words = {"Collection": item.facts.get("Collection", ""), **item.known}
    texts = (text.format_map(words).strip()[: cases.TAG_LENGTH] for text in pipeline.tag.add)
    tags = list(dict.fromkeys(filter(None, texts)))
    await circus.call("updateTags", {"operation": "add", "tags": tags, "caseIds": [item.known["case"]]})
    return Passed({}, fresh=False)


STEPS: Mapping[str, Step] = {"download": download, "upload": upload, "results": results, "case": case, "tag": tag}


async def _local(root: Path, item: Item) -> LocalSeries:
    """The files of a series that was downloaded. Raises StepFailed when they are gone."""
    folder = root / item.known["folder"]
    found = await anyio.to_thread.run_sync(find_dicom, [folder])
    if item.uid not in found.series:
        raise StepFailed(
            f"The files of the series are not in {folder} any more. Run with --again to fetch them.", "lost"
        )
    return found.series[item.uid]
