"""CT and X-ray analysis at Qure.ai: from files to saved reports, in calls short enough for every host."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio.to_thread
import msgspec

from isocenter.agent.present import Presentation, table_text
from isocenter.agent.workflows.archive import downloaded, on_disk
from isocenter.agent.workflows.kind import UID, WAIT, Stuck, Work, Workflow, meanwhile, megabytes
from isocenter.core import IsocenterError
from isocenter.core.auth import authorize

if TYPE_CHECKING:
    from isocenter.core import ApiClient
    from isocenter.transfer.scan import LocalSeries
    from isocenter.transfer.upload import SeriesUploaded

MOST_SERIES = 20
KINDS = (("uids", False), ("images", True))  # arguments of follow_analysis, and whether they name X-rays


async def analyse_series(work: Work) -> Presentation:
    """Send what was not sent yet, start the analysis, wait a little. What a person is asked names files, bytes and destination."""
    from isocenter.transfer.results import XRAY
    from isocenter.transfer.scan import find_dicom
    from isocenter.transfer.upload import Journal, destination_of

    qure, uid = work.client("qure"), work.given.get("series_uid", "")
    source = work.one_of("series_uid", "folder")
    authorize(qure.contract.operations["uploadStudies"], qure.credentials)  # before anyone is bothered
    folder = await anyio.to_thread.run_sync(downloaded, work.series_root, uid) if uid else work.local(source)
    host = urlsplit(qure.base_url).hostname
    if folder is None:
        if "tcia" not in work.toolbox.clients:
            raise Stuck(f"Series {uid} is not on this computer. Give the folder with its files.")
        folder = await on_disk(work.toolbox, uid, work.report, seconds=work.left)
    found = await anyio.to_thread.run_sync(find_dicom, [folder])
    if not found.series:
        raise Stuck(f"There are no DICOM files in {folder}.")
    if len(found.series) > MOST_SERIES:
        raise Stuck(
            f"{folder} holds {len(found.series)} series; at most {MOST_SERIES} are analysed in one call. Name a subfolder."
        )
    series = list(found.series.values())
    to = destination_of(qure.base_url, qure.credentials.get("source") or "")
    key = f"send {to} {folder}"
    noted = work.toolbox.settings.download_dir / "qure-uploads.jsonl"
    with Journal(noted) as journal:
        left = [
            instance
            for one in series
            for instance in one.instances
            if not journal.has(to, one.series_instance_uid, instance)
        ]
    if left and key not in work.toolbox.jobs:
        size = sum(instance.size for instance in left)
        await work.ask(_question(len(left), size, f"{len(series)} series in {folder}", str(host)))

    async def tell(job: Sending) -> None:
        await work.report(job.sent, job.total, f"sending: {job.words}")

    job, over = await work.toolbox.jobs.follow(key, lambda: Sending(qure, series, noted), work.left, tell)
    if not over:
        return work.running(f"{job.words} sent to Qure.ai so far.", rows=[])
    uploaded, total = job.uploaded, job.total
    if failed := [one for one in uploaded if not one.whole]:
        raise Stuck(
            f"{failed[0].sent + failed[0].before} of {failed[0].instances} files of series {failed[0].series_uid} are at Qure.ai, the "
            f"analysis was not started. {failed[0].why} Call analyse_series again: what arrived is not sent again."
        )
    wanted: list[tuple[str, bool]] = []
    for one in series:
        if one.modality in XRAY:
            wanted += [(instance.sop_instance_uid, True) for instance in one.instances]
        else:
            await qure.call("startComputation", {"SeriesInstanceUID": one.series_instance_uid})
            wanted.append((one.series_instance_uid, False))
    return await _followed(work, wanted, total)


class Sending:
    """An upload, as a job."""

    def __init__(self, qure: ApiClient, series: list[LocalSeries], journal: Path) -> None:
        self._qure, self._series, self._journal = qure, series, journal
        self.sent, self.total = 0, sum(one.size for one in series)
        self.uploaded: list[SeriesUploaded] = []

    async def run(self) -> None:
        """Send what the journal does not have."""
        from isocenter.transfer.upload import Journal, upload_to_qure

        with Journal(self._journal) as journal:
            self.uploaded = await upload_to_qure(self._qure, self._series, journal=journal, progress=self._more)

    def _more(self, size: int) -> None:
        self.sent += size

    @property
    def words(self) -> str:
        """How far it is."""
        return megabytes(self.sent, self.total)


def _question(files: int, size: int, what: str, host: str) -> str:
    return (
        f"Send {files} DICOM files ({max(size, 0) / 1e6:.1f} MB; {what}), pixel data and patient attributes included, to Qure.ai "
        f"({host}) for analysis? They cannot be withdrawn afterwards."
    )


async def follow_analysis(work: Work) -> Presentation:
    """Go on waiting for analyses that were started."""
    wanted = [(uid, xray) for name, xray in KINDS for uid in dict.fromkeys(work.given.get(name, []))]
    if not wanted:
        work.refuse("uids", "series in uids, X-ray images in images, or both", "Give what analyse_series answered.")
    return await _followed(work, wanted, 0)


async def _followed(work: Work, wanted: list[tuple[str, bool]], reported: float) -> Presentation:
    """Wait for results for what is left of the time of this call, save them, and say how to go on with the others."""
    from isocenter.transfer.results import INDEX, ResultsLate, ResultsOnDisk, ResultWanted, fetch_many

    root = work.target("save_to", work.toolbox.settings.download_dir / "results")
    asked = [ResultWanted(uid, root / uid, xray) for uid, xray in wanted]
    begun = time.monotonic()

    async def tell() -> None:
        waited = time.monotonic() - begun
        await work.report(reported + waited, None, f"waiting for Qure.ai: {waited:.0f} s")

    async with meanwhile(tell, 1.0):
        # What a service says finally (no use case, not uploaded) is told for each series; it ends none of the others.
        outcomes = await fetch_many(work.client("qure"), asked, give_up_after=work.patience, start=False)
    rows: list[dict[str, Any]] = []
    details: list[dict[str, Any]] = []
    waiting: list[ResultWanted] = []
    for one, outcome in outcomes:
        if isinstance(outcome, ResultsOnDisk):
            rows.append(
                {
                    "uid": one.uid,
                    "state": "done",
                    "usecase": outcome.usecase,
                    "triage_status": outcome.triage_status,
                    "files": outcome.files,
                    "folder": str(outcome.folder),
                }
            )
            index = await anyio.to_thread.run_sync(partial(_index, outcome.folder / INDEX))
            details.append({"uid": one.uid, "result": index.get("result"), "files": index.get("files")})
        elif isinstance(outcome, ResultsLate):
            rows.append({"uid": one.uid, "state": "running"})
            waiting.append(one)
        else:
            rows.append({"uid": one.uid, "state": "failed", "why": " ".join(str(outcome).split())})
    if rows and all(row["state"] == "failed" for row in rows):
        first = next(outcome for _, outcome in outcomes if isinstance(outcome, IsocenterError))
        raise first
    body: dict[str, Any] = {"state": "running" if waiting else "done", "rows": rows, "details": details}
    columns = [
        name
        for name in ("uid", "state", "usecase", "triage_status", "files", "folder", "why")
        if any(name in row for row in rows)
    ]
    lines = [
        f"{sum(row['state'] == 'done' for row in rows)} of {len(rows)} analyses are done.",
        *table_text(rows, columns),
    ]
    lines += [
        f"{detail['uid']}: {msgspec.json.encode(detail['result']).decode()[:2000]}"
        for detail in details
        if detail["result"]
    ]
    lines += [
        f"{detail['uid']}: {', '.join(str(file['name']) for file in detail['files'] or [])}"
        for detail in details
        if detail["files"]
    ]
    if waiting:
        left: dict[str, Any] = {name: [one.uid for one in waiting if one.xray == xray] for name, xray in KINDS}
        left["save_to"] = work.given.get("save_to")
        body["next"] = {
            "tool": "follow_analysis",
            "arguments": {name: value for name, value in left.items() if value},
        }
        lines.append(
            f"Still running. Call follow_analysis with {msgspec.json.encode(body['next']['arguments']).decode()}."
        )
    return Presentation("\n".join(lines), body)


def _index(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    return found


UIDS: dict[str, Any] = {"type": "array", "items": UID, "minItems": 1, "maxItems": 200}
RESULT: dict[str, Any] = {
    "state": {"type": "string"},
    "rows": {"type": "array", "items": {"type": "object"}},
    "details": {"type": "array", "items": {"type": "object"}},
    "next": {"type": "object"},
}

ANALYSE = Workflow(
    name="analyse_series",
    title="Analyse a series with Qure.ai",
    description=(
        "Send a CT series or X-rays to Qure.ai, start the analysis, wait up to 45 seconds, and save findings and reports (PDF, SR, SEG). "
        "Takes a folder of DICOM files or a TCIA series by UID. Patient data leave this computer. Next: follow_analysis if it still "
        "runs. What was sent before is not sent again."
    ),
    effect="send",
    apis=("qure",),
    run=analyse_series,
    properties={
        "series_uid": UID,
        "folder": {"type": "string", "minLength": 1, "description": "Folder of DICOM files."},
        "save_to": {"type": "string", "description": "Folder for the results."},
        "wait_seconds": WAIT,
    },
    output=RESULT,
    confirm=(
        "Send the DICOM files of {series_uid} {folder}, pixel data and patient attributes included, to Qure.ai for analysis? They "
        "cannot be withdrawn afterwards."
    ),
    idempotent=True,
)

FOLLOW = Workflow(
    name="follow_analysis",
    title="Follow an analysis at Qure.ai",
    description=(
        "Wait up to 45 seconds for Qure.ai analyses that analyse_series started, and save their findings and reports. Repeat it while "
        "it answers that they are running."
    ),
    effect="read",
    apis=("qure",),
    run=follow_analysis,
    properties={
        "uids": {**UIDS, "description": "Series, as analyse_series gave them."},
        "images": {**UIDS, "description": "X-ray images, as analyse_series gave them."},
        "save_to": {"type": "string", "description": "Folder for the results."},
        "wait_seconds": WAIT,
    },
    output=RESULT,
)
