"""Series of the CIRCUS DB API: search, detail, orientation, upload, deletion.

A series is a document made from its DICOM files' headers; the files lie in the sandbox's archive `circus`. The group
"domain" given at the first upload decides who sees it.
"""

from __future__ import annotations

import io
import json
import logging
import re
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import anyio
import pydicom
from pydicom.datadict import dictionary_VR, tag_for_keyword

from isocenter.sandbox.archive import NotDicom
from isocenter.sandbox.circus.filter import compile_filter, read_filter, read_page, search
from isocenter.sandbox.circus.http import NO_CONTENT, Accident, Call, Refusal, Reply
from isocenter.sandbox.circus.lists import own_list
from isocenter.sandbox.circus.store import Store, iso, moment

log = logging.getLogger("isocenter.sandbox.circus")

Json = Any
Document = dict[str, Json]

SEARCHABLE = (
    "modality",
    "seriesUid",
    "studyUid",
    "seriesDescription",
    "patientInfo.patientId",
    "patientInfo.patientName",
    "patientInfo.age",
    "patientInfo.sex",
    "seriesDate",
    "createdAt",
)
MAXIMUM_MEMBERS = 100_000
MAXIMUM_UNPACKED = 4 * 1024**3
"""Bytes that one uploaded archive may unpack to."""

_IN_DOMAINS = """
SELECT s.id, s.doc, NULL AS added FROM circus_series s
WHERE s.domain IN (SELECT value FROM json_each(?)) ORDER BY s.id
"""
_ON_LIST = """
SELECT s.id, s.doc, i.created_at AS added
FROM circus_list_item i JOIN circus_series s ON s.series_uid = i.resource_id
WHERE i.list_id = ? AND s.domain IN (SELECT value FROM json_each(?)) ORDER BY i.id
"""

NO_ACCESS = "You do not have privilege to access this series."


# --- image numbers ----------------------------------------------------------------------------------------------------


def decode_images(text: str) -> list[int]:
    """The numbers of a multi-integer range such as `1-50,60-80`, ascending."""
    numbers: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return sorted(numbers)


def encode_images(numbers: Iterable[int]) -> str:
    """Numbers as a multi-integer range."""
    runs = contiguous(sorted(set(numbers)))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def contiguous(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """The first and last number of every gapless run of ascending numbers."""
    for index, number in enumerate(numbers):
        if index == 0 or numbers[index - 1] != number - 1:
            first = number
        if index + 1 == len(numbers) or numbers[index + 1] != number + 1:
            yield first, number


# --- reading ----------------------------------------------------------------------------------------------------------


def _shown(call: Call, series: Document) -> Document:
    """The series as the caller sees it: patient information needs the global privilege and the caller's wish."""
    may_see = "personalInfoView" in call.rights.global_privileges
    if may_see and call.user["preferences"].get("personalInfoView"):
        return series
    return {key: value for key, value in series.items() if key != "patientInfo"}


async def search_series(call: Call) -> Reply:
    """`GET /api/series` and `GET /api/series/list/:myListId`: the series of the caller's domains, one page of them."""
    wanted = read_filter(call.query, SEARCHABLE)
    list_id = own_list(call, "series", "series")
    page = read_page(call.query, {"createdAt" if list_id is None else "addedToListAt": -1}, strict=call.strict)
    domains = json.dumps(call.rights.domains)
    db = call.store.sandbox.db
    rows = db.execute(_ON_LIST, (list_id, domains)) if list_id is not None else db.execute(_IN_DOMAINS, (domains,))
    documents = []
    for row in rows:
        series = json.loads(row["doc"])
        judged = {**series, "_id": row["id"], "_stored": series}
        for key in ("createdAt", "updatedAt", "seriesDate"):
            judged[key] = moment(series[key]) if series.get(key) else None
        if row["added"] is not None:
            judged["addedToListAt"] = moment(row["added"])
        documents.append(judged)
    found, total = search(documents, compile_filter(wanted), page)
    items = [_shown(call, series["_stored"]) for series in found]
    return Reply(200, {"items": items, "totalItems": total, "page": page.number})


async def get_series(call: Call) -> Reply:
    """One series of the caller's domains."""
    series = call.store.known_series(call.params["seriesUid"])
    if series["domain"] not in call.rights.domains:
        raise Refusal(403, NO_ACCESS)
    return Reply(200, _shown(call, series))


async def get_orientation(call: Call) -> Reply:
    """Whether the images run from head to foot with ascending numbers (`head-first`) or the other way round."""
    series = call.store.known_series(call.params["seriesUid"])
    images = decode_images(series["images"])
    ends = []
    for name, default in (("start", images[0]), ("end", images[-1])):
        text = call.first(name)
        if text is not None and not re.fullmatch("[1-9][0-9]*", text):
            raise Refusal(400, "Invalid string")
        ends.append(default if text is None else int(text))
    if not set(ends) <= set(images):
        raise Refusal(400, "The given start/end number is out of bounds.")
    if series["domain"] not in call.rights.domains:
        raise Refusal(403, NO_ACCESS)
    try:
        descriptor = await resolve_orientation(call, series["seriesUid"], *ends)
    except Accident as accident:
        raise Accident(404, str(accident), str(accident)) from None
    return Reply(200, {"orientation": "head-first" if descriptor["delta"] >= 1 else "foot-first"})


async def resolve_orientation(call: Call, series_uid: str, start: int, end: int) -> Document:
    """A partial volume that runs from head to foot between two images. Raises Accident when a file is missing.

    The real server also fails when an image lies at z = 0 exactly; that is not copied.
    """
    archive = call.store.sandbox.archive("circus")
    instances = {instance.instance_number: instance for instance in archive.instances(series_uid)}
    if list(instances) == [1]:
        return {"start": start, "end": end, "delta": 1}
    if start not in instances or end not in instances:
        raise Accident(400, "no image")
    paths = [archive.path(instances[number]) for number in (start, end)]
    heights = await anyio.to_thread.run_sync(lambda: [_height(path) for path in paths])
    if heights[0] is None or heights[1] is None:
        raise Accident(400, "invalid image")
    if (heights[0] >= heights[1]) == (start <= end):
        return {"start": start, "end": end, "delta": 1}
    return {"start": end, "end": start, "delta": -1}


def _height(path: Path) -> float | None:
    """The z coordinate (mm, towards the head) of an image's first voxel, or None."""
    position = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["ImagePositionPatient"])
    values = position.get("ImagePositionPatient")
    return float(values[2]) if values and len(values) == 3 else None


# --- upload and deletion ----------------------------------------------------------------------------------------------


def _domain(call: Call) -> str:
    if (domain := call.params["domain"]) not in call.rights.domains:
        raise Refusal(403, "You cannot upload to this domain.")
    return domain


async def upload(call: Call) -> Reply:
    """Import DICOM files and archives of them in the background. What is no DICOM file is passed over."""
    domain, files = _domain(call), call.files
    call.files = []  # closed by the task, not with the request
    task_id = call.tasks.register(call.email, "Series import")
    call.store.sandbox.spawn(_import_all(call, task_id, domain, files))
    return Reply(201, {"taskId": task_id})


async def _import_all(call: Call, task_id: str, domain: str, files: list[IO[bytes]]) -> None:
    done, imported = 0, 0
    try:
        for file in files:
            entries = _entries(cast(BinaryIO, file))
            while (entry := await anyio.to_thread.run_sync(next, entries, None)) is not None:
                if entry[128:132] == b"DICM":
                    await import_dicom(call.store, entry, domain)
                    imported += 1
                    call.tasks.progress(task_id, f"Imported {imported} entities...")
            done += 1
    except Exception:
        # Damaged archives and files fail in too many ways to name; the client hears of each the same way.
        log.info("an upload could not be imported", exc_info=True)
        call.tasks.fail(task_id, f"Error while processing file #{done + 1}, entity #{imported + 1}")
    else:
        call.tasks.finish(task_id, f"Imported {imported} entities from {done} files.")
    finally:
        for file in files:
            file.close()


def _entries(file: BinaryIO) -> Iterator[bytes]:
    """The file itself, or the files in a zip or tar.gz archive. Raises ValueError for one that unpacks to too much."""
    head = file.read(4)
    file.seek(0)
    count = size = 0

    def admit(length: int) -> None:
        nonlocal count, size
        count, size = count + 1, size + length
        if count > MAXIMUM_MEMBERS or size > MAXIMUM_UNPACKED:
            raise ValueError("the archive is too large")

    if head == b"PK\x03\x04":
        with zipfile.ZipFile(file) as packed:
            for info in packed.infolist():
                if not info.is_dir():
                    admit(info.file_size)
                    yield packed.read(info)
    elif head[:2] == b"\x1f\x8b":
        with tarfile.open(fileobj=file, mode="r:gz") as unpacked:
            for member in unpacked:
                if (content := unpacked.extractfile(member) if member.isfile() else None) is not None:
                    admit(member.size)
                    yield content.read()
    else:
        yield file.read()


async def upload_single(call: Call) -> Reply:
    """Import exactly one DICOM file, before the answer."""
    domain = _domain(call)
    if len(call.files) != 1:
        raise Refusal(400, "Only one file is allowed.")
    data = await anyio.to_thread.run_sync(call.files[0].read)
    if data[128:132] != b"DICM":
        raise Refusal(400, "The file is not a DICOM file. You cannot use archived files.")
    try:
        await import_dicom(call.store, data, domain)
    except (NotDicom, ValueError, OSError):
        text = "Error while importing a DICOM file. This may mean the uploaded file is broken."
        raise Refusal(400 if call.strict else 500, text) from None
    return Reply(201)


async def import_dicom(store: Store, data: bytes, domain: str) -> None:
    """Put one DICOM file into the archive and into its series. Raises NotDicom, ValueError, OSError.

    An image of a known series joins it, whatever the domain says.
    """
    archive = store.sandbox.archive("circus")

    def ingest() -> tuple[str, int]:
        try:
            header = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True, specific_tags=["InstanceNumber"])
            number = int(header.InstanceNumber)
        except (AttributeError, TypeError, EOFError, NotImplementedError) as error:
            raise ValueError("the file has no instance number") from error
        if number < 0:
            raise ValueError("the instance number is negative")
        return archive.ingest(io.BytesIO(data), collection=domain).instance.series_instance_uid, number

    uid, number = await anyio.to_thread.run_sync(ingest)
    stored = archive.series(uid)
    if stored is None:
        raise NotDicom("the series was deleted meanwhile")
    with store.sandbox.transaction():
        known, now = store.series(uid), store.now()
        described = known or {**describe(stored.header), "domain": domain, "storageId": 0, "createdAt": now}
        images = encode_images([*decode_images(described["images"]), number])
        store.save_series({**described, "images": images, "updatedAt": now})


def describe(header: dict[str, str]) -> Document:
    """What CIRCUS keeps of a DICOM header (keyword to text); times without an offset are read as UTC."""
    patient = {
        "patientId": header.get("PatientID"),
        "patientName": header.get("PatientName"),
        "age": _age(header.get("PatientAge", ""), header.get("PatientBirthDate", "")),
        "birthDate": re.sub(r"^(\d{4})(\d\d)(\d\d)$", r"\1-\2-\3", header.get("PatientBirthDate", "")) or None,
        "sex": header.get("PatientSex"),
        "size": _number(header.get("PatientSize")),
        "weight": _number(header.get("PatientWeight")),
    }
    parameters: Document = {}
    for keyword, text in header.items():
        tag = tag_for_keyword(keyword)
        if tag is not None and tag >> 16 in {0x0018, 0x0020, 0x0028}:
            numeric = dictionary_VR(tag) in {"DS", "IS"}
            values = [_number(part) for part in text.split("\\")] if numeric else [text]
            parameters[keyword] = values[0] if len(values) == 1 else values
    return {
        "seriesUid": header["SeriesInstanceUID"],
        "studyUid": header["StudyInstanceUID"],
        "width": _number(header.get("Columns")),
        "height": _number(header.get("Rows")),
        "images": "",
        "seriesDate": _date(header.get("SeriesDate", ""), header.get("SeriesTime", "")),
        "modality": header.get("Modality", ""),
        "seriesDescription": header.get("SeriesDescription", ""),
        "bodyPart": header.get("BodyPartExamined", ""),
        "stationName": header.get("StationName", ""),
        "modelName": header.get("ManufacturerModelName", ""),
        "manufacturer": header.get("Manufacturer", ""),
        "patientInfo": {key: value for key, value in patient.items() if value is not None},
        "parameters": parameters,
    }


def _number(text: str | None) -> float | int | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return int(value) if value.is_integer() else value


def _age(text: str, birth: str) -> int | None:
    """Whole years from an age string (PS3.5 AS), or from the date of birth until today."""
    if found := re.fullmatch(r"(\d{3})([DWMY])", text):
        return int(int(found[1]) * {"D": 1 / 365, "W": 7 / 365, "M": 1 / 12, "Y": 1}[found[2]])
    try:
        born, today = datetime.strptime(birth, "%Y%m%d").date(), date.today()
    except ValueError:
        return None
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))


def _date(day: str, time: str) -> str | None:
    found = re.match(r"(\d{4})(\d\d)(\d\d)", re.sub("[-/.]", "", day))
    clock = re.match(r"(\d\d)(\d\d)?(\d\d)?(?:\.(\d{1,6}))?", time.replace(":", ""))
    try:
        start = datetime(*map(int, found.groups()), tzinfo=UTC) if found else None  # type: ignore[misc, arg-type]
    except ValueError:
        return None
    if start is None or clock is None:
        return None if start is None else iso(start)
    hours, minutes, seconds, fraction = clock.groups()
    microseconds = int((fraction or "0").ljust(6, "0"))
    after = timedelta(hours=int(hours), minutes=int(minutes or 0), seconds=int(seconds or 0), microseconds=microseconds)
    return iso(start + after)


async def delete_series(call: Call) -> Reply:
    """Delete a series with its files, unless a case or a plug-in job uses it. The real server asks no privilege."""
    uid, db = call.params["seriesUid"], call.store.sandbox.db
    series = call.store.known_series(uid)
    if call.strict and series["domain"] not in call.rights.domains:
        raise Refusal(403, NO_ACCESS)
    job = "SELECT 1 FROM circus_plugin_job j, json_each(j.doc, '$.series') s WHERE json_extract(s.value, '$.seriesUid') = ?"
    if db.execute(job, (uid,)).fetchone():
        raise Refusal(400, "There is a plug-in job associated with this series.")
    if db.execute("SELECT 1 FROM circus_case_series WHERE series_uid = ?", (uid,)).fetchone():
        raise Refusal(400, "There is a case associated with this series.")
    with call.store.sandbox.transaction():
        db.execute("DELETE FROM circus_series WHERE series_uid = ?", (uid,))
        call.store.sandbox.archive("circus").remove_series(uid)
    return NO_CONTENT
