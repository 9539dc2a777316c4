"""Labels on cases of CIRCUS DB: masks packed and stored, one revision at a time, read back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import anyio
import anyio.to_thread

from isocenter.agent.present import Presentation
from isocenter.agent.workflows.circus import ID
from isocenter.agent.workflows.kind import UID, Stuck, Work, Workflow
from isocenter.core import FileSource

LARGEST_MASK = 20_000_000 * 8  # voxels of a mask's box: a blob has at most 20 MB
POINT: dict[str, Any] = {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3}
_locks: WeakValueDictionary[tuple[str, str], anyio.Lock] = WeakValueDictionary()


async def add_case_labels(work: Work) -> Presentation:
    """Read the case, store the masks, save all that was there and the new labels as one revision, and read it back."""
    from isocenter.transfer.cases import images_there

    case_id = work.given["case_id"]
    key = (work.client("circus").base_url, case_id)
    lock = _locks.setdefault(key, anyio.Lock())
    async with lock:  # the server keeps only one of two revisions that are sent at the same time
        case = (await work.call("circus", "getCase", caseId=case_id)).data
        before = case["revisions"]
        series = [_copied(entry) for entry in before[-1]["series"]]
        chosen = [entry for entry in series if entry["seriesUid"] == work.given.get("series_uid", entry["seriesUid"])]
        if len(chosen) != 1:
            uids = ", ".join(entry["seriesUid"] for entry in series)
            work.refuse("series_uid", f"one series of the case: {uids}", "Give the UID of the series to label.")
        facts = (await work.call("circus", "getSeries", seriesUid=chosen[0]["seriesUid"])).data
        depth = await images_there(work.client("circus"), chosen[0]["seriesUid"])
        limits = (int(facts.get("width") or 0), int(facts.get("height") or 0), depth)
        made = [await _label(work, index, label, limits) for index, label in enumerate(work.given["labels"])]
        for done, (_, blob) in enumerate(made, 1):
            if blob is not None:
                digest = hashlib.sha1(blob, usedforsecurity=False).hexdigest()
                await work.call("circus", "putBlob", sha1=digest, body=FileSource(len(blob), content=blob))
            await work.report(done, len(made) + 1, f"{done} of {len(made)} labels stored")
        chosen[0]["labels"] += [label for label, _ in made]
        description = work.given.get("description", f"Added {len(made)} labels.")
        await work.call(
            "circus",
            "createRevision",
            caseId=case_id,
            description=description,
            attributes=before[-1]["attributes"],
            status=work.given.get("status", before[-1]["status"]),
            series=series,
        )
        after = (await work.call("circus", "getCase", caseId=case_id)).data["revisions"]
    index = next(
        (
            number
            for number in range(len(after) - 1, len(before) - 1, -1)
            if [_copied(entry) for entry in after[number]["series"]] == series
        ),
        None,
    )
    if index is None:
        raise Stuck(
            f"The revision of case {case_id} was accepted but is not there: somebody else saved one at the same time. Call "
            "add_case_labels again with the same arguments."
        )
    others = len(after) - len(before) - 1
    body = {
        "case_id": case_id,
        "revision": index,
        "added": len(made),
        "labels": len(chosen[0]["labels"]),
        "verified": True,
    }
    text = (
        f"Revision {index} of case {case_id} has {len(made)} new labels, {len(chosen[0]['labels'])} on the series in all; read back and "
        "the same. "
        + (f"Somebody else saved {others} revisions meanwhile. " if others else "")
        + "Next: export_case_volumes."
    )
    return Presentation(text, body)


def _copied(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A series of a stored revision as a new revision takes it."""
    labels = [
        {name: label[name] for name in ("type", "name", "attributes", "data") if name in label}
        for label in entry["labels"]
    ]
    kept = {name: entry[name] for name in ("seriesUid", "partialVolumeDescriptor") if name in entry}
    return {**kept, "labels": labels}


async def _label(
    work: Work, index: int, given: Mapping[str, Any], limits: tuple[int, int, int]
) -> tuple[dict[str, Any], bytes | None]:
    """A label as CIRCUS takes it, and the bits of a mask. Raises InvalidArguments for parts that are missing or do not fit."""
    kind, at = given["type"], f"labels/{index}"
    needed = {"voxel": ["mask_file"], "point": ["location"]}.get(kind, ["min", "max"])
    for name in needed:
        if name not in given:
            work.refuse(f"{at}/{name}", f"{name} for a label of type {kind}", f"Add {name}.")
    look = {"color": given.get("color", "#ff0000"), "alpha": given.get("alpha", 1)}
    label: dict[str, Any] = {"type": kind, "attributes": given.get("attributes", {})}
    if "name" in given:
        label["name"] = given["name"]
    if kind != "voxel":
        return {**label, "data": {**{name: given[name] for name in needed}, **look}}, None
    path = work.allowed(f"{at}/mask_file", given["mask_file"])
    try:
        blob, origin, size = await anyio.to_thread.run_sync(_packed, path)
    except (OSError, ValueError) as error:
        work.refuse(f"{at}/mask_file", "a NumPy file (.npy) with a mask of shape (z, y, x)", str(error).capitalize())
    offset = [int(a) + b for a, b in zip(given.get("origin", (0, 0, 0)), origin, strict=True)]
    if blob is None:
        return {**label, "data": {"voxels": None, **look}}, None
    if any(start < 0 or start + length > limit for start, length, limit in zip(offset, size, limits, strict=True)):
        work.refuse(
            f"{at}/mask_file",
            f"a mask inside the volume of {limits} voxels in x, y, z",
            "Check its shape (z, y, x) and origin.",
        )
    digest = hashlib.sha1(blob, usedforsecurity=False).hexdigest()
    return {**label, "data": {"voxels": digest, "origin": offset, "size": size, **look}}, blob


def _packed(path: Path) -> tuple[bytes | None, list[int], list[int]]:
    """A mask as CIRCUS stores it: bits of the smallest box around it, x fastest, most significant bit first; origin and size in x, y, z."""
    import numpy as np

    mask = np.load(path, mmap_mode="r", allow_pickle=False)
    if mask.ndim != 3 or mask.dtype.kind not in "bui":
        raise ValueError(f"it has {mask.ndim} dimensions of {mask.dtype}; give three of bool or whole numbers.")
    if mask.size > 8 * LARGEST_MASK:
        raise ValueError("it is too large.")
    filled = np.asarray(mask) != 0
    if not filled.any():
        return None, [0, 0, 0], [0, 0, 0]
    spans = []
    for axis in range(3):
        places = np.flatnonzero(filled.any(axis=tuple(other for other in range(3) if other != axis)))
        spans.append((int(places[0]), int(places[-1]) + 1))
    box = filled[tuple(slice(first, last) for first, last in spans)]
    if box.size > LARGEST_MASK:
        raise ValueError("its box has more than 160 million voxels; split it into several labels.")
    origin, size = [first for first, _ in reversed(spans)], [last - first for first, last in reversed(spans)]
    return np.packbits(np.ascontiguousarray(box).ravel()).tobytes(), origin, size


LABEL = Workflow(
    name="add_case_labels",
    title="Add labels to a CIRCUS case",
    description=(
        "Add labels (voxel masks, points, boxes, ellipsoids) to a CIRCUS case as one new revision that keeps everything else, and verify "
        "it by reading it back. Use it instead of put_label_blob and add_case_revision. Next: export_case_volumes."
    ),
    effect="write",
    apis=("circus",),
    run=add_case_labels,
    properties={
        "case_id": ID,
        "series_uid": {**UID, "description": "Which series to label; not needed when the case has one."},
        "labels": {
            "type": "array",
            "minItems": 1,
            "maxItems": 100,
            "items": {
                "type": "object",
                "properties": {
                    "type": {"type": "string", "enum": ["voxel", "point", "cuboid", "ellipsoid"]},
                    "name": {"type": "string"},
                    "mask_file": {"type": "string", "description": "voxel: path of a .npy mask, shape (z, y, x)."},
                    "origin": {
                        **POINT,
                        "items": {"type": "integer"},
                        "description": "voxel: offset in voxels x, y, z.",
                    },
                    "location": {**POINT, "description": "point: x, y, z in mm."},
                    "min": {**POINT, "description": "cuboid, ellipsoid: corner in mm."},
                    "max": {**POINT, "description": "The opposite corner."},
                    "color": {"type": "string", "pattern": "^#[0-9a-f]{6}$"},
                    "alpha": {"type": "number", "minimum": 0, "maximum": 1},
                    "attributes": {"type": "object"},
                },
                "required": ["type"],
                "additionalProperties": False,
            },
        },
        "description": {"type": "string", "description": "What was changed and why."},
        "status": {"type": "string", "description": "draft, approved or for-review; as before if left out."},
    },
    required=("case_id", "labels"),
    output={
        "case_id": {"type": "string"},
        "revision": {"type": "integer"},
        "added": {"type": "integer"},
        "labels": {"type": "integer"},
        "verified": {"type": "boolean"},
    },
)
