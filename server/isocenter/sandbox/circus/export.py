"""Exports of the CIRCUS DB API: cases as MetaImage volumes with their labels, and series as plain volumes.

A volume is made from the stored DICOM files: one image per file in the order of instance numbers, CT values rescaled to
Hounsfield units in int16, everything else as stored. Archives are written to disk piece by piece; a volume is never in
memory as a whole, a label volume (one byte per voxel) is.
"""

from __future__ import annotations

import functools
import io
import json
import sqlite3
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import anyio
import anyio.from_thread
import numpy as np
import numpy.typing as npt
import pydicom

from isocenter.imaging import frames
from isocenter.sandbox.circus.cases import is_valid_descriptor
from isocenter.sandbox.circus.http import Accident, Call, Refusal, Reply, log

if TYPE_CHECKING:
    from isocenter.sandbox.archive import Instance
    from isocenter.sandbox.circus.tasks import Tasks
    from isocenter.sandbox.state import Sandbox

Json = Any
Document = dict[str, Json]
Progress = Callable[[str, int, int], None]

DOWNLOAD_TYPES = {"tgz": "application/x-tgz", "zip": "application/zip"}
FAILED = "An internal error occurred while processing the case data."
_ELEMENT_TYPES = {"uint8": "MET_UCHAR", "int8": "MET_CHAR", "uint16": "MET_USHORT", "int16": "MET_SHORT"}


# --- endpoints --------------------------------------------------------------------------------------------------------


async def export_cases(call: Call) -> Reply:
    """Start packing cases as MHD. An entry of `caseIds` is an id, or an id with the index of a revision."""
    wanted = [entry if isinstance(entry, dict) else {"caseId": entry} for entry in call.body["caseIds"]]
    ids = dict.fromkeys(entry.get("caseId") for entry in wanted)
    projects = call.store.case_projects(ids)
    if len(projects) != len(ids):
        raise Refusal(400, "Some cases do not exist.")
    if not all(call.rights.has(project_id, "read") for project_id in projects.values()):
        raise Refusal(401, "You do not have enough read privilege for some cases.")
    count = "a case" if len(wanted) == 1 else f"{len(wanted)} cases"
    compression = call.body.get("compressionFormat", "tgz")
    task_id = call.tasks.register(call.email, f"Export {count} as MHD", DOWNLOAD_TYPES[compression])
    pack = functools.partial(
        pack_cases,
        call.store.sandbox,
        wanted,
        combined=call.body.get("labelPackType") == "combined",
        line_end="\r\n" if call.body.get("mhdLineEnding") == "crlf" else "\n",
    )
    call.store.sandbox.spawn(_run(call.tasks, task_id, compression, pack, f"Exported {len(wanted)} case(s)."))
    return Reply(201, {"taskId": task_id})


async def export_volumes(call: Call) -> Reply:
    """Start packing partial volumes of series. The real server checks neither descriptors nor domains; `strict` does."""
    wanted = call.body["series"]
    if call.strict:
        for entry in wanted:
            series = call.store.known_series(entry["seriesUid"])
            if series["domain"] not in call.rights.domains:
                raise Refusal(403, "You do not have privilege to access this series.")
            if not is_valid_descriptor(entry["partialVolumeDescriptor"]):
                raise Refusal(400, "Invalid partial volume descriptor.")
    compression = call.body.get("compressionFormat", "tgz")
    task_id = call.tasks.register(call.email, "Export DICOM data", DOWNLOAD_TYPES[compression])
    pack = functools.partial(pack_volumes, call.store.sandbox, wanted)
    call.store.sandbox.spawn(_run(call.tasks, task_id, compression, pack, "exported"))
    return Reply(201, {"taskId": task_id})


class _Pack(Protocol):
    def __call__(self, archive: Packed, progress: Progress) -> None: ...


async def _run(tasks: Tasks, task_id: str, compression: str, pack: _Pack, finished: str) -> None:
    """Pack on a worker thread into a temporary file, and only then let it be downloaded."""
    target = tasks.download_path(task_id)
    part = target.with_suffix(".part")

    def progress(message: str, done: int, total: int) -> None:
        anyio.from_thread.run_sync(tasks.progress, task_id, message, done, total)

    def work() -> None:
        with part.open("wb") as file, Packed(file, compression) as archive:
            pack(archive, progress)
        part.replace(target)

    try:
        await anyio.to_thread.run_sync(work)
    except Exception:
        # The client hears one sentence whatever happened: a missing file, a broken label, a revision that is not there.
        log.info("an export failed", exc_info=True)
        tasks.fail(task_id, FAILED)
    else:
        tasks.finish(task_id, finished)
    finally:
        part.unlink(missing_ok=True)


# --- archives ---------------------------------------------------------------------------------------------------------


class Packed:
    """A zip or tar.gz archive that is being written."""

    def __init__(self, file: IO[bytes], compression: str) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) if compression == "zip" else None
        self._tar = None if self._zip else tarfile.TarFile.gzopen("", "w", file, compresslevel=6)

    def __enter__(self) -> Packed:
        return self

    def __exit__(self, *_: object) -> None:
        for archive in (self._zip, self._tar):
            if archive is not None:
                archive.close()

    def add(self, name: str, content: bytes | npt.NDArray[np.uint8] | IO[bytes]) -> None:
        """Add a member; a file is read from its start. A name that is there already is added once more, as upstream."""
        raw = content.tobytes() if isinstance(content, np.ndarray) else content
        source = io.BytesIO(raw) if isinstance(raw, bytes) else raw
        size = source.seek(0, io.SEEK_END)
        source.seek(0)
        if self._zip is not None:
            info = zipfile.ZipInfo(name, time.localtime()[:6])
            info.compress_type = zipfile.ZIP_DEFLATED
            self._zip.NameToInfo.pop(name, None)  # zipfile warns of a repeated name
            with self._zip.open(info, "w", force_zip64=size >= 1 << 31) as target:
                while piece := source.read(1 << 20):
                    target.write(piece)
        elif self._tar is not None:
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = size, int(time.time()), 0o644
            self._tar.addfile(member, source)


def mhd_header(
    pixel_format: str, dimensions: tuple[int, int, int], spacing: tuple[float, float, float], data: str, line_end: str
) -> bytes:
    """The header of a MetaImage file. Pixel formats that MetaImage lacks come out as `undefined`, as upstream."""
    lines = {
        "ObjectType": "Image",
        "NDims": 3,
        "DimSize": " ".join(map(str, dimensions)),
        "ElementType": _ELEMENT_TYPES.get(pixel_format, "undefined"),
        "ElementSpacing": " ".join(map(_js_number, spacing)),
        "ElementByteOrderMSB": "False",
        "ElementDataFile": data,
    }
    return "".join(f"{key} = {value}{line_end}" for key, value in lines.items()).encode()


def _js_number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


# --- volumes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume in a temporary file: x fastest, then y, then z; spacing in mm."""

    file: IO[bytes]
    pixel_format: str
    dimensions: tuple[int, int, int]
    spacing: tuple[float, float, float]


def load_volume(sandbox: Sandbox, series_uid: str, numbers: list[int] | None = None) -> Volume:
    """Decode a series, or the images with these numbers in this order. Raises ValueError, LookupError, OSError."""
    archive = sandbox.archive("circus")
    instances: Mapping[int, Instance] = {found.instance_number: found for found in archive.instances(series_uid)}
    if not instances:
        raise LookupError(f"series {series_uid} has no files")
    wanted = list(instances) if numbers is None else numbers
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the volume is forgotten
    shape: tuple[str, int, int] | None = None
    first = None
    for number in wanted:
        path = archive.path(instances[number])
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        pixel_format, pixels = _pixels(path, dataset)
        if shape is None:
            shape, first = (pixel_format, pixels.shape[0], pixels.shape[1]), dataset
        elif shape != (pixel_format, pixels.shape[0], pixels.shape[1]):
            raise ValueError("the images differ in size or pixel format")
        file.write(pixels.tobytes())
    if shape is None or first is None:
        raise ValueError("no image is asked for")
    rows_spacing, columns_spacing = (float(value) for value in first.get("PixelSpacing") or (1, 1))
    second = pydicom.dcmread(archive.path(instances[wanted[1]]), stop_before_pixels=True) if len(wanted) > 1 else None
    spacing = (rows_spacing, columns_spacing, _pitch(first, second))
    return Volume(file, shape[0], (shape[2], shape[1], len(wanted)), spacing)


def _pixels(path: Path, dataset: pydicom.Dataset) -> tuple[str, npt.NDArray[Any]]:
    """The pixel format and the pixels of a single-frame image, little endian."""
    decoded = frames(path)
    image = next(decoded)
    if next(decoded, None) is not None:
        raise ValueError("multiframe images are not supported")
    if dataset.PhotometricInterpretation == "RGB":
        opaque = np.full((*image.shape[:2], 1), 255, np.uint8)
        return "rgba8", np.concatenate([image.astype(np.uint8), opaque], axis=2)
    if image.ndim != 2:
        raise ValueError("unsupported pixel format")
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        signed = dataset.PixelRepresentation == 1
        image = -1 - image.astype(np.int32) if signed else (1 << dataset.BitsStored) - 1 - image.astype(np.int32)
    if dataset.get("Modality") == "CT":
        slope, intercept = 1.0, 0.0
        if dataset.get("RescaleSlope") is not None and dataset.get("RescaleIntercept") is not None:
            slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
        return "int16", np.trunc(image * slope + intercept).astype(np.int64).astype("<i2")
    pixel_format = f"{'int' if dataset.PixelRepresentation == 1 else 'uint'}{dataset.BitsAllocated}"
    if pixel_format not in _ELEMENT_TYPES:
        raise ValueError("unsupported pixel format")
    return pixel_format, image.astype(np.dtype(pixel_format).newbyteorder("<"))


def _pitch(first: pydicom.Dataset, second: pydicom.Dataset | None) -> float:
    """The distance of the images in mm: as written, or from two slice locations, or from two positions, or 1."""
    if first.get("SpacingBetweenSlices"):
        return float(first.SpacingBetweenSlices)
    if second is None:
        return 1.0
    if first.get("SliceLocation") is not None and second.get("SliceLocation") is not None:
        return abs(float(second.SliceLocation) - float(first.SliceLocation))
    here, there = first.get("ImagePositionPatient"), second.get("ImagePositionPatient")
    return float(np.linalg.norm(np.subtract(there, here, dtype=float))) if here and there else 1.0


# --- packing ----------------------------------------------------------------------------------------------------------


def pack_cases(
    sandbox: Sandbox, wanted: list[Document], archive: Packed, progress: Progress, *, combined: bool, line_end: str
) -> None:
    """Write cases: `<case>/data.json`, `<case>/vol000.raw` and `.mhd`, and the voxel labels.

    Isolated labels are `vol000-label000`, numbered by their place among all labels of the series, with the value 1;
    combined ones are one file `vol000-label` in which the label at place n has the value n + 1 and later labels win.
    The partial volume of the case is not applied. Raises for a revision, a file or a label that is not right.
    """
    for index, entry in enumerate(wanted):
        case_id = entry["caseId"]
        progress(f"Packing data for {case_id}", index, len(wanted))
        with sandbox.reader() as db:
            row = db.execute("SELECT head, revisions FROM circus_case WHERE case_id = ?", (case_id,)).fetchone()
            if row is None:
                raise LookupError("the case was deleted meanwhile")
            head, revision = json.loads(row["head"]), json.loads(row["revisions"])[entry.get("revisionIndex", -1)]
            keys = ("caseId", "createdAt", "updatedAt", "projectId")
            data = {key: head[key] for key in keys} | {"revision": revision}
            archive.add(f"{case_id}/data.json", json.dumps(data, indent=2, ensure_ascii=False).encode())
            for number, series in enumerate(revision["series"]):
                volume = load_volume(sandbox, series["seriesUid"])
                name = f"vol{number:03}"
                header = mhd_header(volume.pixel_format, volume.dimensions, volume.spacing, f"{name}.raw", line_end)
                with volume.file as file:
                    archive.add(f"{case_id}/{name}.raw", file)
                archive.add(f"{case_id}/{name}.mhd", header)
                for label, voxels in _labels(db, series["labels"], volume.dimensions, combined):
                    header = mhd_header("uint8", volume.dimensions, volume.spacing, f"{name}-{label}.raw", line_end)
                    archive.add(f"{case_id}/{name}-{label}.raw", voxels)
                    archive.add(f"{case_id}/{name}-{label}.mhd", header)


def _labels(
    db: sqlite3.Connection, labels: list[Document], dimensions: tuple[int, int, int], combined: bool
) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """The voxel labels as volumes of the size of the series, with their names, one at a time."""
    target = np.zeros(dimensions[::-1], np.uint8)
    for index, label in enumerate(labels):
        if label["type"] != "voxel" or not label["data"]["voxels"]:
            continue
        row = db.execute("SELECT data FROM circus_blob WHERE hash = ?", (label["data"]["voxels"],)).fetchone()
        box = _unpack(row["data"], label["data"]["size"])
        inside, within = _overlap(label["data"].get("origin") or [0, 0, 0], box.shape[::-1], dimensions)
        target[inside][box[within]] = (index + 1) % 256 if combined else 1
        if not combined:
            yield f"label{index:03}", target
            target[inside] = 0
    if combined and any(label["type"] == "voxel" for label in labels):
        yield "label", target


def _unpack(data: bytes, size: list[int]) -> npt.NDArray[np.bool_]:
    """The bits of a label, first voxel in the highest bit, as an array of z, y, x. Raises ValueError for a wrong size."""
    x, y, z = size
    if min(size) <= 0 or len(data) != (x * y * z + 7) // 8:
        raise ValueError("the label's size and its voxels do not agree")
    return np.unpackbits(np.frombuffer(data, np.uint8), count=x * y * z).reshape(z, y, x).astype(np.bool_)


def _overlap(
    origin: list[int], size: tuple[int, ...], dimensions: tuple[int, int, int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where a box lies in the volume, and which part of the box that is; both as z, y, x, clipped."""
    inside, within = [], []
    for start, length, limit in zip(origin, size, dimensions, strict=True):
        low, high = max(start, 0), max(min(start + length, limit), 0)
        high = max(low, high)
        inside.append(slice(low, high))
        within.append(slice(low - start, high - start))
    return tuple(inside[::-1]), tuple(within[::-1])


def pack_volumes(sandbox: Sandbox, wanted: list[Document], archive: Packed, progress: Progress) -> None:
    """Write partial volumes of series as `0.mhd` and `0.raw`, `1.mhd` and so on, with no header data of the patient."""
    for index, entry in enumerate(wanted):
        progress(f"Processing volume #{index + 1}", index, len(wanted))
        descriptor = entry["partialVolumeDescriptor"]
        if not is_valid_descriptor(descriptor):
            raise Accident(400, "Invalid partial volume descriptor.")
        start, end, delta = descriptor["start"], descriptor["end"], descriptor["delta"]
        volume = load_volume(sandbox, entry["seriesUid"], list(range(start, end + (1 if delta > 0 else -1), delta)))
        archive.add(
            f"{index}.mhd", mhd_header(volume.pixel_format, volume.dimensions, volume.spacing, f"{index}.raw", "\n")
        )
        with volume.file as file:
            archive.add(f"{index}.raw", file)
