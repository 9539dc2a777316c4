"""Cases of CIRCUS DB: opened from series, tagged in bulk, exported."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from isocenter.agent.present import Presentation
from isocenter.agent.workflows.archive import downloaded, on_disk
from isocenter.agent.workflows.kind import MOST_SECONDS, UID, Stuck, Work, Workflow, words
from isocenter.core import FileSource, Result, StatusError

FILES, BYTES = 60, 64 << 20  # most of one upload


# -- opening ---------------------------------------------------------------------------------------------------------


async def open_case(work: Work) -> Presentation:
    """Find project and domain, bring the series there if it is not, open the case, and read it back."""
    from isocenter.transfer.manifest import facts_of
    from isocenter.transfer.scan import LocalInstance, find_dicom

    uid, local = work.given.get("series_uid", ""), list[LocalInstance]()
    if work.one_of("series_uid", "folder") == "folder":
        found = await anyio.to_thread.run_sync(find_dicom, [work.local("folder")])
        if len(found.series) != 1:
            work.refuse(
                "folder", f"a folder with the files of one series, not of {len(found.series)}", "Name its subfolder."
            )
        ((uid, one),) = found.series.items()
        local = one.instances
    account = (await work.call("circus", "getFullLoginInfo")).data
    project, domain = _project(work, account), work.given.get("domain") or account.get("defaultDomain")
    domain = domain or next(iter(account["domains"]), "")
    folder = None if local else await anyio.to_thread.run_sync(downloaded, work.series_root, uid)
    if folder:
        local = (await anyio.to_thread.run_sync(find_dicom, [folder])).series[uid].instances
    there = await images_at_circus(work, uid)
    expected, size = len(local), sum(instance.size for instance in local)
    if not local and "tcia" in work.toolbox.clients and not there:
        (facts,) = [facts async for facts in facts_of(work.client("tcia"), [uid])]
        expected, size = facts.images, max(facts.size, 0)
    if not there and not expected:
        raise Stuck(f"Neither CIRCUS nor the archive has a series {uid}. Give a folder with its files.")
    if there < expected:
        host = urlsplit(work.client("circus").base_url).hostname
        await work.ask(
            f"Send {expected} DICOM files ({size / 1e6:.1f} MB) of series {uid}, pixel data and patient attributes included, to domain "
            f"{domain} of the CIRCUS server {host}, and open a case of project {project['projectName']} from them?"
        )
        if not local:
            folder = await on_disk(work.toolbox, uid, work.report)
            local = (await anyio.to_thread.run_sync(find_dicom, [folder])).series[uid].instances
        await _send(work, str(domain), [(instance.path, instance.size) for instance in local])
    entry = {"seriesUid": uid, "partialVolumeDescriptor": "auto"}
    created: Result[Any] = await work.call(
        "circus", "createCase", projectId=project["projectId"], series=[entry], tags=work.given.get("tags", [])
    )
    case_id = str(created.data["caseId"])
    case = (await work.call("circus", "getCase", caseId=case_id)).data
    volume = case["revisions"][0]["series"][0].get("partialVolumeDescriptor") or {}
    body: dict[str, Any] = {
        "case_id": case_id,
        "project": project["projectName"],
        "series_uid": uid,
        "volume": volume,
        "tags": case["tags"],
        "uploaded": there < expected,
    }
    text = (
        f"Case {case_id} of project {project['projectName']} is open: series {uid}, images {volume.get('start')} to {volume.get('end')} "
        f"step {volume.get('delta')}, tags {words(case['tags']) or 'none'}. "
        + ("The series was uploaded. " if there < expected else "The series was at CIRCUS already. ")
        + "Next: add_case_labels, tag_cases or export_case_volumes."
    )
    return Presentation(text, body)


def _project(work: Work, account: Mapping[str, Any]) -> Mapping[str, Any]:
    """The project that is meant. Raises InvalidArguments, naming those the user may write to."""
    writable = [entry["project"] for entry in account["accessibleProjects"] if "write" in entry["roles"]]
    wanted = work.given.get("project", "").casefold()
    found = [
        project
        for project in writable
        if not wanted or wanted in (project["projectId"].casefold(), project["projectName"].casefold())
    ]
    if len(found) != 1:
        names = ", ".join(project["projectName"] for project in writable) or "none: the account may write to no project"
        work.refuse(
            "project", f"one of the projects this account may write to: {names}", "Give its name or identifier."
        )
    chosen: Mapping[str, Any] = found[0]
    return chosen


async def images_at_circus(work: Work, uid: str) -> int:
    """How many images of a series the server has."""
    try:
        images = str((await work.call("circus", "getSeries", seriesUid=uid)).data["images"])
    except StatusError as error:
        if error.status != 404:
            raise
        return 0
    ends = [part.partition("-") for part in images.split(",") if part]
    return sum(int(last or first) - int(first) + 1 for first, _, last in ends)


async def _send(work: Work, domain: str, files: list[tuple[Path, int]]) -> None:
    """Upload files in batches and wait until each is imported."""
    sent, total, started = 0, sum(size for _, size in files), time.monotonic()
    while files:
        batch, size = [files[0]], files[0][1]
        for path, more in files[1:FILES]:
            if size + more > BYTES:
                break
            batch.append((path, more))
            size += more
        files = files[len(batch) :]
        sources = [FileSource(length, path=path) for path, length in batch]
        task = (await work.call("circus", "uploadSeries", domain=domain, files=sources)).data["taskId"]
        state = await _ended(work, task, started + 10 * MOST_SECONDS)
        if state is None or state["status"] != "finished":
            why = (state or {}).get("errorMessage") or "it is still being imported"
            raise Stuck(
                f"The import of the series did not finish ({why}; task {task}). No case was opened. Call open_case again in a while; "
                "what is imported then is not sent again."
            )
        sent += size
        await work.report(sent, total, f"sending to CIRCUS: {sent / 1e6:.1f} of {total / 1e6:.1f} MB")


async def _ended(work: Work, task: str, until: float) -> dict[str, Any] | None:
    """The task once it is over, or None when it is not over in time; asks at growing intervals."""
    pause = 0.1
    while True:
        state: dict[str, Any] = (await work.call("circus", "getTask", taskId=task)).data
        if state["status"] != "processing":
            return state
        if time.monotonic() >= until:
            return None
        await anyio.sleep(min(pause, max(0.0, until - time.monotonic())))
        pause = min(5.0, pause * 1.5)


# -- tagging and exporting -------------------------------------------------------------------------------------------


async def tag_cases(work: Work) -> Presentation:
    """Add and remove tags of many cases. Removing asks; all cases are checked by the server before any is changed."""
    cases, add, remove = work.given["case_ids"], work.given.get("add", []), work.given.get("remove", [])
    if not add and not remove:
        work.refuse("add", "tags to add or to remove", "Give add, remove or both.")
    if remove:
        more = f", and add the tags {words(add)}" if add else ""
        await work.ask(
            f"Remove the tags {words(remove)} from {len(cases)} CIRCUS cases ({words(cases)}){more}? No history of tags is kept."
        )
    if add:
        await work.call("circus", "updateTags", operation="add", tags=add, caseIds=cases)
    await work.report(1, 2, "tags added")
    if remove:
        await work.call("circus", "updateTags", operation="remove", tags=remove, caseIds=cases)
    body = {"cases": len(cases), "added": add, "removed": remove}
    return Presentation(
        f"{len(cases)} cases: added {words(add) or 'nothing'}, removed {words(remove) or 'nothing'}.", body
    )


async def export_case_volumes(work: Work) -> Presentation:
    """Start an export, or go on with one; wait, and fetch the archive."""
    until = time.monotonic() + work.given.get("wait_seconds", MOST_SECONDS)
    if work.one_of("case_ids", "task_id") == "case_ids":
        cases = list(dict.fromkeys(work.given["case_ids"]))
        packing = work.given.get("labels", "isolated")
        started = await work.call("circus", "exportMhd", caseIds=cases, labelPackType=packing, compressionFormat="zip")
        task = str(started.data["taskId"])
    else:
        task = work.given["task_id"]
    state = await _ended(work, task, until)
    if state is None:
        arguments = {"task_id": task, **({"folder": work.given["folder"]} if "folder" in work.given else {})}
        running: dict[str, Any] = {
            "state": "running",
            "task_id": task,
            "next": {"tool": "export_case_volumes", "arguments": arguments},
        }
        return Presentation(f'The export still runs. Call export_case_volumes with task_id "{task}".', running)
    if state["status"] != "finished":
        raise Stuck(
            f"The export ended as {state['status']}: {state.get('errorMessage')} A voxel label without size or with bits of the wrong "
            "length is the usual reason; export fewer cases to find the one."
        )
    target = work.target("folder", work.toolbox.settings.download_dir / "circus")
    file = (await work.call("circus", "downloadTask", target, taskId=task)).file
    if file is None:
        raise Stuck(f"Task {task} has no archive: it is no export, or it was dismissed.")
    names = await anyio.to_thread.run_sync(_members, file.path)
    body: dict[str, Any] = {
        "state": "done",
        "task_id": task,
        "file": {"path": str(file.path), "size": file.size, "sha256": file.sha256},
        "files": len(names),
        "volumes": sum(name.endswith(".mhd") and "label" not in name for name in names),
        "label_files": sum(name.endswith(".mhd") and "label" in name for name in names),
    }
    text = (
        f"Saved {file.path} ({file.size} bytes, sha256 {file.sha256}): {body['volumes']} volumes and {body['label_files']} label files as "
        f"MHD, {len(names)} files in all. Task {task}."
    )
    return Presentation(text, body)


def _members(path: Path) -> list[str]:
    import tarfile
    import zipfile

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return [name for name in archive.namelist() if not name.endswith("/")]
    with tarfile.open(path) as packed:
        return [member.name for member in packed if member.isfile()]


ID: dict[str, Any] = {"type": "string", "minLength": 1}
TAGS: dict[str, Any] = {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 32}, "maxItems": 10}

OPEN = Workflow(
    name="open_case",
    title="Open a CIRCUS case from a series",
    description=(
        "Open a case in a CIRCUS project from a DICOM series, given by UID or folder. Uploads the series only when CIRCUS does not have "
        "it, which sends patient data and asks first. Next: add_case_labels, tag_cases."
    ),
    effect="send",
    apis=("circus",),
    run=open_case,
    properties={
        "series_uid": UID,
        "folder": {"type": "string", "minLength": 1, "description": "Folder with the files of one series."},
        "project": {"type": "string", "description": "Name or identifier; not needed when only one can be written to."},
        "domain": {"type": "string", "description": "Where an upload goes; the account's default if left out."},
        "tags": TAGS,
    },
    output={
        "case_id": {"type": "string"},
        "project": {"type": "string"},
        "series_uid": {"type": "string"},
        "volume": {"type": "object"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "uploaded": {"type": "boolean"},
    },
    confirm="Send the series {series_uid} {folder} to the CIRCUS server if it is not there, and open a case in project {project}?",
)

TAG = Workflow(
    name="tag_cases",
    title="Tag CIRCUS cases",
    description=(
        "Add tags to many CIRCUS cases, remove tags from them, or both. Removing asks a person, since no history of tags is kept. Use "
        "search_cases for the identifiers."
    ),
    effect="destroy",
    apis=("circus",),
    run=tag_cases,
    properties={
        "case_ids": {"type": "array", "items": ID, "minItems": 1, "maxItems": 1000},
        "add": TAGS,
        "remove": TAGS,
    },
    required=("case_ids",),
    output={
        "cases": {"type": "integer"},
        "added": {"type": "array", "items": {"type": "string"}},
        "removed": {"type": "array", "items": {"type": "string"}},
    },
    confirm="Tags of the CIRCUS cases {case_ids}: add {add}, remove {remove}? No history of tags is kept.",
    idempotent=True,
)

EXPORT = Workflow(
    name="export_case_volumes",
    title="Export CIRCUS cases as MHD",
    description=(
        "Export image volumes and voxel labels of CIRCUS cases as MHD files, wait up to 45 seconds, and save the archive on this "
        "computer. If it still runs, call it again with the task_id it answers."
    ),
    effect="write",
    apis=("circus",),
    run=export_case_volumes,
    properties={
        "case_ids": {"type": "array", "items": ID, "minItems": 1, "maxItems": 100},
        "task_id": {**ID, "description": "An export that was started before."},
        "labels": {
            "type": "string",
            "enum": ["isolated", "combined"],
            "description": "One file a label, or one for all.",
        },
        "folder": {"type": "string", "description": "Where to; the download folder if left out."},
        "wait_seconds": {"type": "integer", "minimum": 0, "maximum": MOST_SECONDS},
    },
    output={
        "state": {"type": "string"},
        "task_id": {"type": "string"},
        "file": {"type": "object"},
        "files": {"type": "integer"},
        "volumes": {"type": "integer"},
        "label_files": {"type": "integer"},
        "next": {"type": "object"},
    },
)
