"""Finding series in the archive (TCIA) and bringing them to this computer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from isocenter.agent.present import Link, Presentation, mentions, save_answer, table_text
from isocenter.agent.toolbox import Toolbox
from isocenter.agent.workflows.kind import (
    MOST_SECONDS,
    SERIES,
    UID,
    WAIT,
    Report,
    StillRunning,
    Stuck,
    Work,
    Workflow,
    megabytes,
    side_by_side,
)
from isocenter.core.findings import did_you_mean

if TYPE_CHECKING:
    from isocenter.core import ApiClient
    from isocenter.transfer.manifest import Outcome, SeriesFacts
    from isocenter.transfer.mirror import Report as DownloadReport

COLUMNS = (
    "SeriesInstanceUID",
    "Collection",
    "PatientID",
    "Modality",
    "BodyPartExamined",
    "SeriesDescription",
    "StudyDate",
    "ImageCount",
    "FileSize",
    "LicenseName",
)
SORTS = {
    "images": "ImageCount",
    "size": "FileSize",
    "date": "StudyDate",
    "collection": "Collection",
    "patient": "PatientID",
    "modality": "Modality",
    "description": "SeriesDescription",
}
TEXTS: dict[str, Any] = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}
DAY: dict[str, Any] = {"type": "string", "format": "date"}
MOST_QUERIES = 40
MOST_BYTES = 400_000_000  # of a series that is downloaded in passing
SHOWN = 50  # series listed one by one in the result of a download


async def find_series(work: Work) -> Presentation:
    """Ask the archive as few questions as the criteria allow, then filter, sort and page what came."""
    given = work.given
    rows = await _candidates(work)
    rows = [row for row in rows if _fits(given, row)]
    key = SORTS[given.get("sort_by", "collection")]
    rows.sort(key=lambda row: (str(row.get("Collection")), str(row.get("PatientID")), str(row["SeriesInstanceUID"])))
    rows.sort(key=lambda row: _sortable(row.get(key), key), reverse=bool(given.get("descending")))
    offset, limit = given.get("offset", 0), given.get("limit", 25)
    shown = [
        {name: row[name] for name in COLUMNS if row.get(name) is not None} for row in rows[offset : offset + limit]
    ]
    images, size = (
        sum(int(row.get("ImageCount") or 0) for row in rows),
        sum(int(row.get("FileSize") or 0) for row in rows),
    )
    body: dict[str, Any] = {"total": len(rows), "images": images, "bytes": size, "offset": offset, "rows": shown}
    lines = [f"{len(rows)} series, {images} images, {size / 1e6:.1f} MB."]
    links: list[Link] = []
    if shown:
        lines += table_text(shown, [name for name in COLUMNS if any(name in row for row in shown)])
    if len(rows) > len(shown):
        path, links = await anyio.to_thread.run_sync(save_answer, work.answers, "find_series", rows)
        body["all"] = str(path)
        lines.append(
            f"Rows {offset + 1} to {offset + len(shown)}. All rows: {path}" if shown else "No rows on this page."
        )
        if offset + len(shown) < len(rows):
            body["next_offset"] = offset + len(shown)
            lines.append(f"Next page: offset {body['next_offset']}.")
    if not rows and (hint := await _hint(work)):
        body["hint"] = hint
        lines.append(hint)
    return Presentation("\n".join([*lines, *mentions(links)]), body, links=links)


async def _candidates(work: Work) -> list[dict[str, Any]]:
    """Rows of getSeries. Values of one criterion become one question each; the others filter what comes back."""
    given = work.given
    exact = {"PatientID": given.get("patient_id"), "StudyInstanceUID": given.get("study_uid")}
    lists = {
        "Collection": given.get("collections", []),
        "Modality": given.get("modalities", []),
        "BodyPartExamined": given.get("body_parts", []),
    }
    split = next((name for name, values in lists.items() if values), "")
    if not split and not any(exact.values()):
        work.refuse(
            "",
            "at least one of collections, modalities, body_parts, patient_id, study_uid",
            "Without one the whole archive would be listed; list_collections names the collections.",
        )
    if split and len(lists[split]) > MOST_QUERIES:
        work.refuse(split.lower(), f"at most {MOST_QUERIES} values", "Ask in several calls.")
    single = {name: values[0] for name, values in lists.items() if len(values) == 1}
    asked = [{**exact, **single, **({split: value} if split else {})} for value in (lists[split] if split else [""])]

    async def ask(query: dict[str, Any]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = (await work.call("tcia", "getSeries", None, **query)).data
        return rows

    calls: list[Callable[[], Awaitable[list[dict[str, Any]]]]] = [partial(ask, query) for query in asked]
    answers = await side_by_side(calls)
    return list({row["SeriesInstanceUID"]: row for rows in answers for row in rows}.values())


def _fits(given: Any, row: dict[str, Any]) -> bool:
    for name, field in (("collections", "Collection"), ("modalities", "Modality"), ("body_parts", "BodyPartExamined")):
        if name in given and str(row.get(field) or "").casefold() not in {value.casefold() for value in given[name]}:
            return False
    described = " ".join(
        str(row.get(name) or "") for name in ("SeriesDescription", "StudyDesc", "StudyDescription", "ProtocolName")
    ).casefold()
    if not all(word in described for word in given.get("text", "").casefold().split()):
        return False
    images, day = int(row.get("ImageCount") or 0), _day(row.get("StudyDate"))
    if images < given.get("min_images", 0) or images > given.get("max_images", images):
        return False
    return not (
        ("from_date" in given and day < given["from_date"]) or ("to_date" in given and not "" < day <= given["to_date"])
    )


def _day(value: Any) -> str:
    """A date of the archive (MM-DD-YYYY) in an order that can be compared; empty when there is none."""
    try:
        return datetime.strptime(str(value), "%m-%d-%Y").strftime("%Y-%m-%d")
    except ValueError:
        return ""


def _sortable(value: Any, key: str) -> Any:
    if key in ("ImageCount", "FileSize"):
        return int(value or 0)
    return _day(value) if key == "StudyDate" else str(value or "").casefold()


async def _hint(work: Work) -> str:
    """Why nothing was found, when a collection, modality or body part of that name does not exist."""
    for name, operation, field in (
        ("collections", "getCollectionValues", "Collection"),
        ("modalities", "getModalityValues", "Modality"),
        ("body_parts", "getBodyPartValues", "BodyPartExamined"),
    ):
        for value in work.given.get(name, []):
            known = [row[field] for row in (await work.call("tcia", operation)).data if row.get(field)]
            if value not in known:
                return f"The archive has no {field} spelt like that in {name}. {did_you_mean(value, known)}".strip()
    return ""


class Fetching:
    """A download of many series, as a job."""

    def __init__(self, tcia: ApiClient, wanted: list[SeriesFacts], root: Path) -> None:
        self._tcia, self._wanted, self._root = tcia, wanted, root
        self.outcomes: list[Outcome] = []
        self.arrived, self.total = 0, sum(max(facts.size, 0) for facts in wanted)
        self.report: DownloadReport | None = None

    async def run(self) -> None:
        """Fetch what is not there."""
        from isocenter.transfer.mirror import download_many

        self.report = await download_many(
            self._tcia, self._wanted, self._root, on_outcome=self._ended, on_bytes=self._more
        )

    def _ended(self, _: SeriesFacts, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def _more(self, size: int) -> None:
        self.arrived += size

    @property
    def words(self) -> str:
        """How far it is."""
        return f"{len(self.outcomes)} of {len(self._wanted)} series, {megabytes(self.arrived, self.total)}"


async def fetch_series(work: Work) -> Presentation:
    """Download what is not there yet, series by series, each visible only when whole."""
    from isocenter.transfer.manifest import facts_of, read_selection, shared_list

    source = work.one_of("series_uids", "shared_list", "manifest")
    tcia, root = work.client("tcia"), work.target("folder", work.series_root)
    if source == "series_uids":
        uids = list(dict.fromkeys(work.given["series_uids"]))
    elif source == "shared_list":
        uids = await shared_list(tcia, work.given["shared_list"])
    else:
        uids = await anyio.to_thread.run_sync(read_selection, work.local("manifest"))
    key = f"fetch {root} {' '.join(uids)}"
    wanted = [] if key in work.toolbox.jobs else [facts async for facts in facts_of(tcia, uids)]

    async def tell(job: Fetching) -> None:
        await work.report(job.arrived, max(job.total, job.arrived) or None, job.words)

    job, over = await work.toolbox.jobs.follow(key, lambda: Fetching(tcia, wanted, root), work.patience, tell)
    report, outcomes = job.report, job.outcomes
    if not over or report is None:
        return work.running(f"{job.words} so far, into {root}.", folder=str(root), done=len(outcomes))
    if report.failed == len(uids) and uids:
        raise Stuck(f"No series was downloaded. {report.stopped or report.failures[0].why}")
    rows: list[dict[str, Any]] = [
        {
            "series_uid": outcome.series_uid,
            "state": outcome.state,
            **(
                {"folder": str(root / outcome.folder), "files": outcome.files, "bytes": outcome.bytes}
                if outcome.folder
                else {}
            ),
            **({"why": outcome.why} if outcome.why else {}),
        }
        for outcome in outcomes
    ]
    body: dict[str, Any] = {
        "state": "done",
        "folder": str(root),
        "done": report.done,
        "there_before": report.skipped,
        "failed": report.failed,
        "rows": rows[:SHOWN],
    }
    lines = [
        f"{report.done} series downloaded and verified, {report.skipped} were there before, {report.failed} failed. "
        f"Folder: {root}",
        *table_text(rows[:SHOWN], ["series_uid", "state", "files", "bytes", "folder", "why"]),
    ]
    links = [
        Link(f"isocenter://series/{outcome.series_uid}", outcome.series_uid, "application/json")
        for outcome in outcomes[:5]
        if outcome.folder and root == work.series_root
    ]
    if len(rows) > SHOWN:
        path, links = await anyio.to_thread.run_sync(save_answer, work.answers, "fetch_series", rows)
        body["all"] = str(path)
        lines.append(f"{SHOWN} of {len(rows)} rows. All rows: {path}")
    if report.stopped:
        body["stopped"] = report.stopped
        lines.append(f"Stopped: {report.stopped}")
    if report.failed:
        lines.append("Call fetch_series again with the same arguments: what is there is kept.")
    return Presentation("\n".join([*lines, *mentions(links)]), body, links=links)


def downloaded(root: Path, series_uid: str) -> Path | None:
    """The folder of a whole series below the usual download folder, or None."""
    from isocenter.transfer.series import read_series

    for folder in root.glob(f"*/*/*/{series_uid}"):
        if read_series(folder, series_uid):
            return folder
    return None


class Bringing:
    """A download of one series, as a job."""

    def __init__(self, tcia: ApiClient, facts: SeriesFacts, root: Path) -> None:
        self._tcia, self._facts, self._root = tcia, facts, root
        self.done, self.total = 0, max(facts.size, 0)
        self.folder: Path | None = None

    async def run(self) -> None:
        """Fetch it. Raises what `download_series` raises."""
        from isocenter.transfer.download import download_series

        found = await download_series(
            self._tcia, self._facts.series_uid, self._root, expect=self._facts, progress=self._progress
        )
        self.folder = found.folder

    async def _progress(self, done: int, _total: int | None) -> None:
        self.done = done

    @property
    def words(self) -> str:
        """How far it is."""
        return megabytes(self.done, self.total)


async def on_disk(
    toolbox: Toolbox, series_uid: str, report: Report, *, seconds: float = MOST_SECONDS, most_bytes: int = MOST_BYTES
) -> Path:
    """The folder of a series, downloaded now if it is not there.

    Raises Stuck for one of more than `most_bytes`, and StillRunning when it is not there after `seconds`: the download goes on.
    """
    from isocenter.transfer.download import UnknownSeries
    from isocenter.transfer.manifest import facts_of

    root = toolbox.settings.download_dir / SERIES
    if folder := await anyio.to_thread.run_sync(downloaded, root, series_uid):
        return folder
    tcia = toolbox.clients["tcia"]
    (facts,) = [facts async for facts in facts_of(tcia, [series_uid])]
    if not facts.known:
        raise UnknownSeries(f"The archive has no public series {series_uid}. find_series lists what there is.")
    if facts.size > most_bytes:
        raise Stuck(
            f"Series {series_uid} has {facts.size / 1e6:.0f} MB and is not on this computer. Call fetch_series with it first."
        )

    async def tell(job: Bringing) -> None:
        await report(job.done, max(job.total, job.done) or None, f"downloading: {job.words}")

    key = f"bring {root} {series_uid}"
    job, over = await toolbox.jobs.follow(key, lambda: Bringing(tcia, facts, root), seconds, tell)
    if not over or job.folder is None:
        raise StillRunning(f"Series {series_uid} is being downloaded, {job.words} so far.")
    return job.folder


FIND = Workflow(
    name="find_series",
    title="Find TCIA series across collections",
    description=(
        "Find image series (CT, MR, PET, SEG...) in The Cancer Imaging Archive by several collections, modalities or body parts, "
        "words in descriptions, dates and number of images; sorted, paged, with totals. Use it instead of search_series unless one "
        "exact filter is enough. Next: preview_series or fetch_series."
    ),
    effect="read",
    apis=("tcia",),
    run=find_series,
    properties={
        "collections": {**TEXTS, "description": "Exact names; list_collections has them."},
        "modalities": {**TEXTS, "description": "Such as CT, MR, PT."},
        "body_parts": {**TEXTS, "description": "Such as CHEST."},
        "patient_id": {"type": "string", "minLength": 1, "x-identifying": True},
        "study_uid": UID,
        "text": {"type": "string", "description": "Words that descriptions or protocol must all contain."},
        "min_images": {"type": "integer", "minimum": 0},
        "max_images": {"type": "integer", "minimum": 0},
        "from_date": {**DAY, "description": "First study date, YYYY-MM-DD."},
        "to_date": {**DAY, "description": "Last study date, YYYY-MM-DD."},
        "sort_by": {"type": "string", "enum": list(SORTS)},
        "descending": {"type": "boolean"},
        "limit": {"type": "integer", "minimum": 1, "maximum": 200, "description": "Rows a page, 25 if left out."},
        "offset": {"type": "integer", "minimum": 0},
    },
    output={
        "total": {"type": "integer"},
        "images": {"type": "integer"},
        "bytes": {"type": "integer"},
        "offset": {"type": "integer"},
        "next_offset": {"type": "integer"},
        "rows": {"type": "array", "items": {"type": "object"}},
        "all": {"type": "string"},
        "hint": {"type": "string"},
    },
)

FETCH = Workflow(
    name="fetch_series",
    title="Download TCIA series to a folder",
    description=(
        "Download DICOM series of The Cancer Imaging Archive to a folder on this computer, unpacked and verified: by UIDs, by the name "
        "of a shared list, or by a .tcia or CSV manifest. What is there already is kept. A long "
        "download goes on after 45 seconds; the same call follows it. Next: preview_series, analyse_series or open_case."
    ),
    effect="read",
    apis=("tcia",),
    run=fetch_series,
    properties={
        "series_uids": {"type": "array", "items": UID, "minItems": 1, "maxItems": 1000},
        "shared_list": {"type": "string", "minLength": 1, "description": "Exact name of a shared list."},
        "manifest": {"type": "string", "minLength": 1, "description": "Path of a .tcia, CSV or plain list of UIDs."},
        "folder": {"type": "string", "description": "Where to; the download folder if left out."},
        "wait_seconds": WAIT,
    },
    output={
        "state": {"type": "string"},
        "folder": {"type": "string"},
        "done": {"type": "integer"},
        "there_before": {"type": "integer"},
        "failed": {"type": "integer"},
        "rows": {"type": "array", "items": {"type": "object"}},
        "all": {"type": "string"},
        "stopped": {"type": "string"},
        "next": {"type": "object"},
    },
    idempotent=True,
)
