"""Cases of CIRCUS DB: opened from series, tagged in bulk, exported."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from isocenter.agent.present import Presentation
from isocenter.agent.workflows.archive import downloaded, on_disk
from isocenter.agent.workflows.kind import UID, WAIT, Stuck, Work, Workflow, megabytes, words

# -- opening ---------------------------------------------------------------------------------------------------------


async def open_case(work: Work) -> Presentation:
    """Find project and domain, bring the series there if it is not, open the case, and read it back."""
    from isocenter.transfer import cases
    from isocenter.transfer.scan import find_dicom
    from isocenter.transfer.upload import journal_of

    uid, local = work.given.get("series_uid", ""), None
    if work.one_of("series_uid", "folder") == "folder":
        found = await anyio.to_thread.run_sync(find_dicom, [work.local("folder")])
        if len(found.series) != 1:
            work.refuse(
                "folder", f"a folder with the files of one series, not of {len(found.series)}", "Name its subfolder."
            )
        ((uid, local),) = found.series.items()
    circus = work.client("circus")
    account = (await work.call("circus", "getFullLoginInfo")).data
    try:
        project = cases.project_of(account, work.given.get("project", ""))
    except cases.NoProject as error:
        work.refuse("project", error.expected, "Give its name or identifier.")
    domain = cases.domain_of(account, work.given.get("domain", ""))

    there = await cases.images_there(circus, uid)
    if not local:
        folder = await anyio.to_thread.run_sync(downloaded, work.series_root, uid)
        if not folder and not there:
            if "tcia" not in work.toolbox.clients:
                raise Stuck(f"Series {uid} is neither at CIRCUS nor on this computer. Give a folder with its files.")
            folder = await on_disk(work.toolbox, uid, work.report, seconds=work.left)
        if folder:
            local = (await anyio.to_thread.run_sync(find_dicom, [folder])).series[uid]
    sends = local is not None and there < len(local.instances)
    if local and sends:
        host = urlsplit(circus.base_url).hostname
        await work.ask(
            f"Send {len(local.instances)} DICOM files ({local.size / 1e6:.1f} MB) of series {uid}, pixel data and patient attributes "
            f"included, to domain {domain} of the CIRCUS server {host}, and open a case of project {project['projectName']} from them?"
        )

        async def progress(sent: int, total: int) -> None:
            await work.report(sent, total, f"sending to CIRCUS: {megabytes(sent, total)}")

        try:
            with journal_of(work.toolbox.settings.download_dir, uid) as journal:
                await cases.send_to_circus(
                    circus, domain, local, journal=journal, progress=progress, give_up_after=work.left
                )
        except cases.NotImported as error:
            return work.running(f"{error} No case was opened yet.", series_uid=uid)
    case_id = await cases.create_case(circus, project["projectId"], uid, work.given.get("tags", []))
    case = (await work.call("circus", "getCase", caseId=case_id)).data
    volume = case["revisions"][0]["series"][0].get("partialVolumeDescriptor") or {}
    body: dict[str, Any] = {
        "state": "done",
        "case_id": case_id,
        "project": project["projectName"],
        "series_uid": uid,
        "volume": volume,
        "tags": case["tags"],
        "uploaded": sends,
    }
    text = (
        f"Case {case_id} of project {project['projectName']} is open: series {uid}, images {volume.get('start')} to {volume.get('end')} "
        f"step {volume.get('delta')}, tags {words(case['tags']) or 'none'}. "
        + ("The series was uploaded. " if sends else "The series was at CIRCUS already. ")
        + "Next: add_case_labels, tag_cases or export_case_volumes."
    )
    return Presentation(text, body)


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
    from isocenter.transfer.cases import task_ended

    until = time.monotonic() + work.patience
    if work.one_of("case_ids", "task_id") == "case_ids":
        cases = list(dict.fromkeys(work.given["case_ids"]))
        packing = work.given.get("labels", "isolated")
        started = await work.call("circus", "exportMhd", caseIds=cases, labelPackType=packing, compressionFormat="zip")
        task = str(started.data["taskId"])
    else:
        task = work.given["task_id"]
    state = await task_ended(work.client("circus"), task, until)
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
        "state": {"type": "string"},
        "case_id": {"type": "string"},
        "project": {"type": "string"},
        "series_uid": {"type": "string"},
        "volume": {"type": "object"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "uploaded": {"type": "boolean"},
        "next": {"type": "object"},
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
        "wait_seconds": WAIT,
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
