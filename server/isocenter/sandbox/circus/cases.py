"""Cases of the CIRCUS DB API: search, creation, revisions, tags, deletion; and the blobs their voxel labels refer to.

Revisions: the real server reads a case, appends and writes it back without any check, so of several requests at the same
time some are lost although all are answered 201. The sandbox handles one revision after the other and loses none.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from typing import Any

import anyio

from isocenter.sandbox.circus.filter import compile_filter, mentions_patient, read_filter, read_page, search
from isocenter.sandbox.circus.http import NO_CONTENT, Accident, Call, Refusal, Reply, inflate
from isocenter.sandbox.circus.lists import own_list
from isocenter.sandbox.circus.series import contiguous, decode_images, resolve_orientation
from isocenter.sandbox.circus.store import moment

Json = Any
Document = dict[str, Json]

MAXIMUM_TAG_LENGTH = 32
BLOB_LIMIT = 20 * 1024 * 1024
SEARCHABLE = (
    "projectId",
    "caseId",
    "patientInfo.patientId",
    "patientInfo.patientName",
    "patientInfo.age",
    "patientInfo.sex",
    "tags",
    "createdAt",
    "updatedAt",
)


# With each case comes the first known series of any of its revisions.
_IN_PROJECTS = """
SELECT c.id, c.head, NULL AS added, (
  SELECT s.doc FROM circus_case_series x JOIN circus_series s ON s.series_uid = x.series_uid
  WHERE x.case_id = c.case_id ORDER BY s.id LIMIT 1
) AS series
FROM circus_case c WHERE c.project_id IN (SELECT value FROM json_each(?)) ORDER BY c.id
"""
_ON_LIST = """
SELECT c.id, c.head, i.created_at AS added, (
  SELECT s.doc FROM circus_case_series x JOIN circus_series s ON s.series_uid = x.series_uid
  WHERE x.case_id = c.case_id ORDER BY s.id LIMIT 1
) AS series
FROM circus_list_item i JOIN circus_case c ON c.case_id = i.resource_id
WHERE i.list_id = ? AND c.project_id IN (SELECT value FROM json_each(?)) ORDER BY i.id
"""


async def search_cases(call: Call) -> Reply:
    """`GET /api/cases` and `GET /api/cases/list/:myListId`: the cases of readable projects, one page of them.

    A case shows only when some revision of it names a series that exists. Patient information is that of the first
    such series; it can be searched where the caller has the global privilege and the project's role, and is shown
    when the caller also wishes to see it.
    """
    wanted = read_filter(call.query, SEARCHABLE)
    may_see = "personalInfoView" in call.rights.global_privileges
    if not may_see and mentions_patient(wanted):
        raise Refusal(400, "You cannot search using patient information.")
    list_id = own_list(call, "clinicalCases", "cases")
    default_sort = "createdAt" if list_id is None else "addedToListAt"
    page = read_page(call.query, {default_sort: -1}, strict=call.strict)
    found, total = search(_visible_cases(call, list_id), compile_filter(wanted), page)
    show = may_see and bool(call.user["preferences"].get("personalInfoView"))
    items = [
        case["_stored"] | ({"patientInfo": case["patientInfo"]} if show and case.get("patientInfo") is not None else {})
        for case in found
    ]
    return Reply(200, {"items": items, "totalItems": total, "page": page.number})


def _visible_cases(call: Call, list_id: str | None) -> Iterator[Document]:
    """The cases the caller may find, as the filter sees them: dates as such, patient information joined in.

    In the order of creation, or of the my list. `_stored` is the case as it is shown.
    """
    projects = json.dumps(call.rights.projects_with("read"))
    db = call.store.sandbox.db
    rows = db.execute(_ON_LIST, (list_id, projects)) if list_id is not None else db.execute(_IN_PROJECTS, (projects,))
    personal = set(call.rights.projects_with("read", "viewPersonalInfo"))
    for row in rows:
        if row["series"] is None:
            continue
        stored, series = json.loads(row["head"]), json.loads(row["series"])
        case = {**stored, "_id": row["id"], "_stored": stored, "seriesDetail": series}
        case["createdAt"], case["updatedAt"] = moment(stored["createdAt"]), moment(stored["updatedAt"])
        if row["added"] is not None:
            case["addedToListAt"] = moment(row["added"])
        if case["projectId"] not in personal:
            case["patientInfo"] = None
        elif "patientInfo" in series:
            case["patientInfo"] = series["patientInfo"]
        yield case


async def get_case(call: Call) -> Reply:
    """One case with all its revisions. Domains are not asked."""
    return Reply(200, {key: value for key, value in call.case.items() if key != "latestRevision"})


# --- creation ---------------------------------------------------------------------------------------------------------


async def create_case(call: Call) -> Reply:
    """A new case with one empty revision. Many refusals of the real server are accidents, see `Accident`."""
    project = call.store.project(call.body.get("projectId", "")) if isinstance(call.body, dict) else None
    if project is None:
        raise Refusal(404, "The requested project was not found.")
    if "series" not in call.body:
        raise Accident(400, "The series are missing.")
    entries = [await _with_descriptor(call, entry) for entry in call.body["series"]]
    if not call.rights.has(project["projectId"], "write"):
        raise Accident(401, 'You do not have "write" privilege of this project.')
    if not all(is_valid_descriptor(entry["partialVolumeDescriptor"]) for entry in entries):
        raise Accident(400, "Invalid partial volume descriptor.")
    domains: list[str] = []
    for entry in entries:
        series = call.store.series(entry["seriesUid"])
        if series is None:
            raise Refusal(400, "Nonexistent series.")
        if not _within(entry["partialVolumeDescriptor"], decode_images(series["images"])):
            raise Refusal(400, "Specified range is invalid.")
        if series["domain"] not in call.rights.domains:
            raise Accident(403, "You do not have privilege to access this series.")
        domains.append(series["domain"])
    if len(set(domains)) > 1:
        raise Refusal(400, "All series must belong to the same domain.")
    if "tags" not in call.body:
        raise Accident(400, "The tags are missing.", "Unexpected validation error.")
    now = call.store.now()
    case = {
        "caseId": call.store.new_id(),
        "projectId": project["projectId"],
        "tags": call.body["tags"],
        "revisions": [
            {
                "creator": call.email,
                "date": now,
                "description": "Created new case.",
                "attributes": {},
                "status": "draft",
                "series": [{**entry, "labels": []} for entry in entries],
            }
        ],
        "domains": domains[:1],
        "createdAt": now,
        "updatedAt": now,
    }
    with call.store.sandbox.transaction():
        call.store.save_case(case)
    return Reply(201, {"caseId": case["caseId"]})


async def _with_descriptor(call: Call, entry: Document) -> Document:
    """The entry with `auto` replaced by the first run of images, from head to foot."""
    if entry["partialVolumeDescriptor"] != "auto":
        return entry
    series = call.store.known_series(entry["seriesUid"])
    run = next(contiguous(decode_images(series["images"])), None)
    if run is None:
        raise Accident(400, "Empty series")
    return {**entry, "partialVolumeDescriptor": await resolve_orientation(call, entry["seriesUid"], *run)}


def is_valid_descriptor(descriptor: Document) -> bool:
    """The rule for a partial volume: positive whole start and end, and whole steps in the right direction."""
    start, end, delta = descriptor["start"], descriptor["end"], descriptor.get("delta")
    if not all(isinstance(number, int) for number in (start, end, delta)) or start < 1 or end < 1 or delta == 0:
        return False
    if (end - start) * delta < 0 or (end - start) % delta:
        return False
    return not (start == end and delta == -1)


def _within(descriptor: Document, images: list[int]) -> bool:
    start, end, delta = descriptor["start"], descriptor["end"], descriptor["delta"]
    wanted = range(start, end + (1 if delta > 0 else -1), delta)
    return len(wanted) <= len(images) and set(wanted) <= set(images)


# --- changes ----------------------------------------------------------------------------------------------------------


async def add_revision(call: Call) -> Reply:
    """Append a revision: a complete new state. Its series are not checked, the blobs of its voxel labels are."""
    if "date" in call.body:
        raise Refusal(400, "You cannot specify revision date.")
    if call.body.get("creator"):
        raise Refusal(400, "You cannot specify revision creator.")
    labels = [label for series in call.body["series"] for label in series["labels"]]
    digests = [label["data"]["voxels"] for label in labels if label["type"] == "voxel"]
    missing = [digest for digest in digests if digest is not None and not call.store.has_blob(digest)]
    if missing:
        raise Refusal(400, f"Some voxel data are missing ({', '.join(missing)}). Store them first.")
    with call.store.sandbox.transaction():
        case, now = call.store.case(call.params["caseId"]), call.store.now()
        case["revisions"].append({**call.body, "date": now, "creator": call.email})
        call.store.save_case({**case, "updatedAt": now})
    return Reply(201)


def _length(text: str) -> int:
    """The length as JavaScript counts it, in UTF-16 units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


async def put_tags(call: Call) -> Reply:
    """Replace all tags of a case. Duplicates and empty tags stay; the case counts as updated."""
    if any(_length(tag) > MAXIMUM_TAG_LENGTH for tag in call.body):
        raise Refusal(400, "Tag length is too large")
    with call.store.sandbox.transaction():
        call.store.set_tags(call.params["caseId"], call.body, call.store.now())
    return NO_CONTENT


async def patch_tags(call: Call) -> Reply:
    """Add, remove or set tags of many cases at once. The cases do not count as updated."""
    operation, tags, case_ids = call.body["operation"], call.body["tags"], call.body["caseIds"]
    if len(case_ids) > 1000:
        raise Refusal(400, "Too many case IDs")
    if len(tags) > 10:
        raise Refusal(400, "Too many tags.")
    if operation != "set" and not tags:
        raise Refusal(400, "You must specify at least one tag.")
    if any(_length(tag) > MAXIMUM_TAG_LENGTH for tag in tags):
        raise Refusal(400, "The specified tag is too long.")
    projects = call.store.case_projects(case_ids)
    for case_id in case_ids:
        if case_id not in projects:
            raise Refusal(404, "Some case does not exist")
        if not call.rights.has(projects[case_id], "write"):
            raise Refusal(401, "You do not have write access to some of the specified cases.")
    with call.store.sandbox.transaction():
        for case_id in projects:
            have = call.store.case(case_id)["tags"]
            if operation == "add":
                changed = [*have, *dict.fromkeys(tag for tag in tags if tag not in have)]
            else:
                changed = tags if operation == "set" else [tag for tag in have if tag not in tags]
            call.store.set_tags(case_id, changed, None)
    return NO_CONTENT


async def delete_case(call: Call) -> Reply:
    """Delete a case for good. One that is on a my list goes only with `force=1`, and then leaves the lists too."""
    case_id = call.params["caseId"]
    with call.store.sandbox.transaction() as db:
        if call.query.get("force") == ["1"]:
            db.execute("DELETE FROM circus_list_item WHERE resource_id = ?", (case_id,))
        elif db.execute("SELECT 1 FROM circus_list_item WHERE resource_id = ?", (case_id,)).fetchone():
            raise Refusal(403, "This case is in someone's my list.")
        db.execute("DELETE FROM circus_case WHERE case_id = ?", (case_id,))
    return NO_CONTENT


# --- blobs ------------------------------------------------------------------------------------------------------------


async def put_blob(call: Call) -> Reply:
    """Store voxel data under the SHA-1 of its uncompressed bytes; at most 20 MiB of them."""
    raw = await call.stream.read(BLOB_LIMIT)
    if raw is not None and re.fullmatch("(x-)?gzip", call.headers.get("content-encoding", "")) and raw:
        try:
            raw = await anyio.to_thread.run_sync(inflate, raw, BLOB_LIMIT)
        except zlib.error:
            raise Accident(400, "The content is not gzip data.") from None
    if raw is None:
        raise Refusal(413, "request entity too large")
    if not raw:
        raise Refusal(400, "Empty content was sent.")
    digest = call.params["hash"]
    if hashlib.sha1(raw, usedforsecurity=False).hexdigest() != digest:
        raise Refusal(400, "Hash mismatch.")
    with call.store.sandbox.transaction() as db:
        db.execute("INSERT INTO circus_blob VALUES (?, ?) ON CONFLICT DO NOTHING", (digest, raw))
    return Reply(201)


async def get_blob(call: Call) -> Reply:
    """Voxel data by their SHA-1. Anything that is no SHA-1 is not found, also names that lead out of a directory."""
    sql = "SELECT data FROM circus_blob WHERE hash = ?"
    row = call.store.sandbox.db.execute(sql, (call.params["hash"],)).fetchone()
    if row is None:
        raise Refusal(404, "Not Found")
    return Reply(200, data=row["data"], media_type="application/octet-stream")
