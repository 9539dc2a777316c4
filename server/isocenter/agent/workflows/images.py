"""Looking at series: pictures a model sees, and headers without what identifies a patient."""

from __future__ import annotations

import io
import re
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread

from isocenter.agent.present import IMAGE_BYTES, Link, Presentation, mentions, save_answer, table_text
from isocenter.agent.workflows.archive import downloaded, on_disk
from isocenter.agent.workflows.kind import UID, Stuck, Work, Workflow

COLUMNS, TILE, TILES = 5, 192, 20
LONGEST_VALUE = 160  # characters of one header value in a result
ROWS = 120
SHOWN_OF_PATIENT = frozenset(
    (0x00100040, 0x00101010, 0x00101020, 0x00101030, 0x00102201, 0x00102203)
)  # sex, age, size...
HIDDEN = frozenset(
    (
        *("AccessionNumber", "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName"),
        *("DeviceSerialNumber", "StudyID", "ImageComments", "StudyComments", "TextComments", "RequestingService"),
        *("AdmissionID", "CurrentPatientLocation", "RequestedProcedureID", "PerformedProcedureStepID"),
        *("ScheduledProcedureStepID", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID", "ReasonForStudy"),
        *("RequestedProcedureComments", "ImagePresentationComments", "PlacerOrderNumberImagingServiceRequest"),
        *("FillerOrderNumberImagingServiceRequest", "VisitComments", "AcquisitionComments", "DetectorID"),
    )
)


def slices(folder: Path) -> list[tuple[Path, int]]:
    """Every image below a folder as `(file, frame)`, in the order of position or instance number. For a worker thread."""
    import pydicom

    from isocenter.transfer.scan import find_dicom

    wanted = ["InstanceNumber", "NumberOfFrames", "ImagePositionPatient", "ImageOrientationPatient", "Rows"]
    found: list[tuple[float, str, Path, int]] = []
    for series in find_dicom([folder]).series.values():
        for instance in series.instances:
            try:
                header = pydicom.dcmread(instance.path, stop_before_pixels=True, specific_tags=wanted)
                number = float(header.get("InstanceNumber") or 0)
                frames = int(header.get("NumberOfFrames") or 1) if "Rows" in header else 0
            except Exception:  # noqa: S112 - what pydicom cannot read cannot be shown
                continue
            found.append((number, instance.path.name, instance.path, frames))
    return [(path, frame) for _, _, path, frames in sorted(found) for frame in range(frames)]


async def folder_of(work: Work) -> Path:
    """The folder an image workflow works on: given, or that of a series, downloaded if needed."""
    if work.one_of("series_uid", "folder") == "folder":
        return work.local("folder")
    return await on_disk(work.toolbox, work.given["series_uid"], work.report, seconds=work.left)


async def preview_series(work: Work) -> Presentation:
    """One slice, or a sheet of evenly spaced ones, rendered in worker threads one image at a time."""
    from isocenter.imaging import NotDicom, Undecodable, render

    given = work.given
    center, width = given.get("window_center"), given.get("window_width")
    if (center is None) != (width is None):
        work.refuse("window_width" if width is None else "window_center", "both or neither of the window", "Give both.")
    folder = await folder_of(work)
    images = await anyio.to_thread.run_sync(slices, folder)
    if not images:
        raise Stuck(f"There are no images in {folder}: structures and reports cannot be shown. Use inspect_dicom.")
    shown = f"window {center:g}/{width:g}" if width is not None else "window of the header"
    if number := given.get("slice"):
        if number > len(images):
            work.refuse("slice", f"a number from 1 to {len(images)}", "The series has no more images.")
        path, frame = images[number - 1]
        draw = partial(render, path, frame, center, width, max_size=given.get("size", 768))
        try:
            pixels, kind = await anyio.to_thread.run_sync(draw), "png"
            if len(pixels) > IMAGE_BYTES:
                pixels, kind = await anyio.to_thread.run_sync(partial(draw, format="jpeg")), "jpeg"
        except (NotDicom, Undecodable) as error:
            raise Stuck(f"Image {number} cannot be shown: {error}.") from error
        return Presentation(
            f"Image {number} of {len(images)}, {shown}. File: {path}", None, [(pixels, f"image/{kind}")]
        )
    count = min(given.get("images", TILES), len(images))
    numbers = sorted({round(1 + place * (len(images) - 1) / max(1, count - 1)) for place in range(count)})
    tiles: list[bytes | None] = []
    for done, number in enumerate(numbers, 1):
        path, frame = images[number - 1]
        try:
            draw = partial(render, path, frame, center, width, max_size=TILE)
            tiles.append(await anyio.to_thread.run_sync(draw))
        except (NotDicom, Undecodable):
            tiles.append(None)
        await work.report(done, len(numbers), f"{done} of {len(numbers)} images")
    if not any(tiles):
        raise Stuck(f"None of the images in {folder} can be shown. inspect_dicom tells their transfer syntax.")
    columns = min(COLUMNS, len(tiles))
    sheet = await anyio.to_thread.run_sync(_sheet, tiles, columns)
    black = sum(tile is None for tile in tiles)
    text = (
        f"Contact sheet, {columns} columns, row by row: images {', '.join(map(str, numbers))} of {len(images)}, {shown}. "
        + (f"{black} could not be shown and are black. " if black else "")
        + f"Folder: {folder}. For one image larger: preview_series with slice."
    )
    return Presentation(text, None, [(sheet, "image/jpeg")])


def _sheet(tiles: list[bytes | None], columns: int) -> bytes:
    from PIL import Image

    sheet = Image.new("RGB", (columns * TILE, -(-len(tiles) // columns) * TILE))
    for place, tile in enumerate(tiles):
        if tile:
            image = Image.open(io.BytesIO(tile))
            row, column = divmod(place, columns)
            sheet.paste(image, (column * TILE + (TILE - image.width) // 2, row * TILE + (TILE - image.height) // 2))
    file = io.BytesIO()
    sheet.save(file, "JPEG", quality=88)
    return file.getvalue()


async def inspect_dicom(work: Work) -> Presentation:
    """The header of one file, or of the first image of a series in the archive."""
    source = work.one_of("file", "folder", "series_uid")
    uid = work.given.get("series_uid", "")
    folder = await anyio.to_thread.run_sync(downloaded, work.series_root, uid) if uid else None
    if uid and folder is None:
        answer = (await work.call("tcia", "getDicomTags", SeriesUID=uid)).data
        if not answer:
            raise Stuck(f"The archive has no public series {uid}. find_series lists what there is.")
        rows = [_row(row["element"], row.get("name") or "", row.get("data")) for row in answer]
        where = f"first image of series {uid} in the archive"
    else:
        path = folder or work.local(source)
        if path.is_dir():
            images = await anyio.to_thread.run_sync(_files, path)
            if not images:
                raise Stuck(f"There are no DICOM files in {path}.")
            path = images[0]
        rows = await anyio.to_thread.run_sync(_header, path)
        where = str(path)
    wanted = {_plain(name) for name in work.given.get("elements", [])}
    if wanted:
        rows = [row for row in rows if {_plain(row["tag"]), _plain(row["name"])} & wanted]
    hidden = 0
    for row in rows:
        if row.pop("identifying") and not work.given.get("identifying") and row["value"]:
            row["value"], hidden = "(not shown)", hidden + 1
    body: dict[str, Any] = {"source": where, "total": len(rows), "hidden": hidden, "rows": rows[:ROWS]}
    lines = [f"{len(rows)} elements of {where}.", *table_text(rows[:ROWS], ["tag", "name", "value"])]
    links: list[Link] = []
    if len(rows) > ROWS:
        path, links = await anyio.to_thread.run_sync(save_answer, work.answers, "inspect_dicom", rows)
        body["all"] = str(path)
        lines.append(f"{ROWS} of {len(rows)} elements. All: {path}")
    if hidden:
        lines.append(f"{hidden} values that may identify a patient are not shown.")
    return Presentation("\n".join([*lines, *mentions(links)]), body, links=links)


def _files(folder: Path) -> list[Path]:
    from isocenter.transfer.scan import find_dicom

    return [instance.path for series in find_dicom([folder]).series.values() for instance in series.instances]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _row(tag: str, name: str, value: Any) -> dict[str, Any]:
    """A row of the table. Whether it identifies is decided by its tag: PS3.15 table E.1-1, without UIDs and technical text."""
    from pydicom.datadict import dictionary_VR, keyword_for_tag

    digits = re.sub(r"[^0-9a-fA-F]", "", tag)[-8:]
    number = int(digits, 16) if len(digits) == 8 else 0
    try:
        kind = dictionary_VR(number)
    except KeyError:
        kind = "UN"
    identifying = (
        kind in ("PN", "DA", "DT")
        or (number >> 16 == 0x0010 and number not in SHOWN_OF_PATIENT)
        or bool(number >> 16 & 1)
        or keyword_for_tag(number) in HIDDEN
    )
    text = "" if value is None else str(value)
    text = text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}… ({len(text)} characters)"
    return {"tag": tag, "name": keyword_for_tag(number) or name, "value": text, "identifying": identifying}


def _header(path: Path) -> list[dict[str, Any]]:
    from isocenter.imaging import NotDicom, Undecodable, read_header

    try:
        dataset = read_header(path)
    except (NotDicom, Undecodable) as error:
        raise Stuck(f"{path} cannot be read as DICOM: {error}.") from error
    rows: list[dict[str, Any]] = []
    for group in (getattr(dataset, "file_meta", None) or [], dataset):
        for element in group:
            if element.VR == "SQ":
                value: Any = f"(sequence of {len(element.value)})"
            elif isinstance(element.value, bytes):
                value = f"({len(element.value)} bytes)"
            else:
                value = "\\".join(map(str, element.value)) if element.VM > 1 else element.value
            rows.append(_row(f"({element.tag.group:04X},{element.tag.element:04X})", element.name, value))
    return rows


PREVIEW = Workflow(
    name="preview_series",
    title="Look at a series",
    description=(
        "Show an image series (CT, MR, X-ray...) as a contact sheet, or one slice of it with window and level, as a picture you see. "
        "Takes a folder of DICOM files, or a TCIA series by UID, which is downloaded if it is not there. Next: another slice, or "
        "analyse_series or open_case."
    ),
    effect="read",
    apis=("tcia",),
    run=preview_series,
    properties={
        "series_uid": UID,
        "folder": {"type": "string", "minLength": 1, "description": "Folder of DICOM files."},
        "slice": {
            "type": "integer",
            "minimum": 1,
            "description": "One image by its number; leave out for a contact sheet.",
        },
        "window_center": {"type": "number", "description": "For CT in HU: lung -600, soft tissue 40, bone 400."},
        "window_width": {
            "type": "number",
            "minimum": 1,
            "description": "For CT in HU: lung 1500, soft tissue 400, bone 1800.",
        },
        "images": {
            "type": "integer",
            "minimum": 2,
            "maximum": 40,
            "description": "Images on a contact sheet, 20 if left out.",
        },
        "size": {"type": "integer", "minimum": 64, "maximum": 1536, "description": "Longer side of a slice in pixels."},
    },
)

INSPECT = Workflow(
    name="inspect_dicom",
    title="Inspect a DICOM header",
    description=(
        "Show the DICOM header (tags and values) of a local file, of the first file in a folder, or of a TCIA series without "
        "downloading it. Values that may identify a patient are left out unless asked for. Use it for kVp, kernel, spacing, echo time."
    ),
    effect="read",
    apis=("tcia",),
    run=inspect_dicom,
    properties={
        "series_uid": UID,
        "file": {"type": "string", "minLength": 1, "description": "Path of a DICOM file."},
        "folder": {"type": "string", "minLength": 1},
        "elements": {
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "description": "Only these: keywords such as SliceThickness, or tags such as (0018,0050).",
        },
        "identifying": {
            "type": "boolean",
            "description": "True shows names, ids and dates; only when the user asks for them.",
        },
    },
    output={
        "source": {"type": "string"},
        "total": {"type": "integer"},
        "hidden": {"type": "integer"},
        "rows": {"type": "array", "items": {"type": "object"}},
        "all": {"type": "string"},
    },
)
