"""Images of the TCIA service: ZIP files made while they are sent, single files, hashes and header listings."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Generator, Iterable, Iterator
from datetime import datetime
from itertools import groupby
from pathlib import Path

import anyio.to_thread
import pydicom
from pydicom.datadict import dictionary_description
from pydicom.dataset import Dataset
from starlette.responses import Response

from isocenter.imaging import render
from isocenter.sandbox.archive import Archive, Instance, element_text
from isocenter.sandbox.state import Sandbox
from isocenter.sandbox.tcia.call import Call, answer, empty, failed, jackson, not_public, required, streamed
from isocenter.sandbox.tcia.formats import BLOCK
from isocenter.sandbox.tcia.store import USAGE_POLICY, select

# Pixels are noise to a search for repetitions: entropy coding alone is twice as fast and a few percent larger.
_DEFLATE = (1, zlib.DEFLATED, -15, zlib.DEF_MEM_LEVEL, zlib.Z_HUFFMAN_ONLY)
_LARGE = 0xFFFFFFFF
"""From here on sizes and offsets need the 64-bit records (APPNOTE section 4.5.3)."""
_ELSEWHERE = 0xFFFFFFFF


def zipped(members: Iterable[tuple[str, Path | bytes]], moment: datetime) -> Generator[bytes]:
    """A ZIP file in pieces, as the archive's server writes it: deflated, sizes and checksum after each member.

    Nothing is held but the current piece and the table of contents. Members and archives may exceed 4 GiB.
    """
    time = moment.hour << 11 | moment.minute << 5 | moment.second // 2
    stamp = struct.pack("<HH", time, (moment.year - 1980) << 9 | moment.month << 5 | moment.day)
    contents: list[bytes] = []
    held: list[bytes] = []
    size = offset = 0
    for name, source in members:
        start = offset
        encoded = name.encode("ascii")
        length = len(source) if isinstance(source, bytes) else source.stat().st_size
        # Deflate can grow a little; half of the limit is a safe point to change to the large format.
        large = length >= _LARGE // 2
        sizes, extra = (_ELSEWHERE, struct.pack("<HHQQ", 1, 16, 0, 0)) if large else (0, b"")
        common = struct.pack("<HHH4s", 45 if large else 20, 8, 8, stamp)
        local = b"PK\x03\x04" + common + struct.pack("<IIIHH", 0, sizes, sizes, len(encoded), len(extra))
        deflate = zlib.compressobj(*_DEFLATE)
        checksum = plain = packed = 0
        held += (local, encoded, extra)
        for piece in _pieces(source):
            checksum = zlib.crc32(piece, checksum)
            plain += len(piece)
            held.append(deflate.compress(piece))
            packed += len(held[-1])
            size += len(held[-1])
            if size >= BLOCK:
                yield b"".join(held)
                held, size = [], 0
        held.append(deflate.flush())
        packed += len(held[-1])
        size += len(held[-1])
        descriptor = struct.pack("<4sIQQ" if large else "<4sIII", b"PK\x07\x08", checksum, packed, plain)
        held.append(descriptor)
        offset += len(local) + len(encoded) + len(extra) + packed + len(descriptor)
        numbers = [_ELSEWHERE if n >= _LARGE else n for n in (packed, plain, start)]
        wide = b"".join(struct.pack("<Q", n) for n in (plain, packed, start) if n >= _LARGE)
        tail = struct.pack("<HH", 1, len(wide)) + wide if wide else b""
        entry = struct.pack("<IIIHHHHHII", checksum, *numbers[:2], len(encoded), len(tail), 0, 0, 0, 0, numbers[2])
        contents.append(b"PK\x01\x02" + struct.pack("<H", 45) + common + entry + encoded + tail)
    directory = b"".join(contents)
    end = b""
    if offset >= _LARGE or len(contents) >= 0xFFFF:
        record = (len(contents), len(contents), len(directory), offset)
        end += struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, *record)
        end += struct.pack("<4sIQI", b"PK\x06\x07", 0, offset + len(directory), 1)
        offset = _ELSEWHERE
    count = min(len(contents), 0xFFFF)
    end += struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, count, count, len(directory), offset, 0)
    yield b"".join([*held, directory, end])


def _pieces(source: Path | bytes) -> Generator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        while piece := file.read(BLOCK):
            yield piece


def numbered(instances: Iterable[Instance]) -> Iterator[tuple[str, Instance]]:
    """Files in database order, named by an eight-digit counter."""
    for number, instance in enumerate(instances, 1):
        yield f"{number:08d}.dcm", instance


def renamed(instances: list[Instance]) -> Iterator[tuple[str, Instance]]:
    """Files named `<acquisition>-<image>.dcm`: both are counters, the second starts anew with each acquisition."""

    def acquisition(instance: Instance) -> int:
        return int(instance.acquisition_number) if instance.acquisition_number.isdigit() else 0

    ordered = sorted(instances, key=lambda instance: (acquisition(instance), instance.instance_number))
    groups = [list(group) for _, group in groupby(ordered, acquisition)]
    runs = sum(1 for _ in groupby(ordered, lambda instance: instance.instance_number))
    first, second = len(str(len(groups))), len(str(runs))
    for number, group in enumerate(groups, 1):
        for image, instance in enumerate(group, 1):
            yield f"{number:0{first}d}-{image:0{second}d}.dcm", instance


def license_text(sandbox: Sandbox, series_instance_uid: str) -> bytes:
    """The LICENSE member: a sentence about the collection's license, then the usage policy."""
    row = sandbox.db.execute(
        "SELECT Collection, LicenseName, LicenseURI FROM tcia_series WHERE SeriesInstanceUID = ?",
        (series_instance_uid,),
    ).fetchone()
    if row["LicenseName"] is None:
        terms = f"No license is recorded for the collection {row['Collection']}."
    else:
        version = "3.0" if "3.0" in row["LicenseName"] else "4.0"
        terms = f"The collection {row['Collection']} may be used under CC BY {version} ({row['LicenseURI']})."
    return f"{terms}\n{USAGE_POLICY}\n".encode()


def _hash_list(files: Iterable[tuple[str, Instance]]) -> bytes:
    return ("Filename,MD5Hash\n" + "".join(f"{name},{instance.md5}\n" for name, instance in files)).encode()


async def _zip(call: Call, uid: str, members: Iterable[tuple[str, Path | bytes]]) -> Response:
    return await streamed(
        zipped(members, call.sandbox.now()),
        "application/octet-stream",
        content_disposition=f'attachment; filename="{uid}.zip"',
    )


def _public(call: Call, uid: str) -> list[Instance]:
    """The instances of a series in database order; empty when it is not one of the archive."""
    return call.sandbox.archive("tcia").instances(uid, as_stored=True)


def _asked_for(call: Call) -> tuple[str, list[Instance], Response | None]:
    """The series a ZIP is wanted of, with its instances; or the answer where it is not named or not one of the archive."""
    uid = call.params.get("SeriesInstanceUID")
    if uid is None:
        return "", [], required("SeriesInstanceUID,")
    instances = _public(call, uid)
    return uid, instances, None if instances else not_public(call, uid)


def _members(archive: Archive, files: Iterable[tuple[str, Instance]]) -> list[tuple[str, Path | bytes]]:
    return [(name, archive.path(instance)) for name, instance in files]


async def get_image(call: Call) -> Response:
    """`getImage`: LICENSE, the files, and with `IncludeMD5=Yes` the list of their hashes."""
    uid, instances, refusal = _asked_for(call)
    if refusal:
        return refusal
    new_names = call.params.get("NewFileNames", "").lower() == "yes"
    files = list(renamed(instances) if new_names else numbered(instances))
    members: list[tuple[str, Path | bytes]] = [("LICENSE", license_text(call.sandbox, uid))]
    members += _members(call.sandbox.archive("tcia"), files)
    if not call.legacy and call.params.get("IncludeMD5", "").lower() == "yes":
        members.append(("md5hashes.csv", _hash_list(files)))
    return await _zip(call, uid, members)


async def get_image_with_md5_hash(call: Call) -> Response:
    """`getImageWithMD5Hash`: the files and the list of their hashes, without a LICENSE."""
    uid, instances, refusal = _asked_for(call)
    if refusal:
        return refusal
    files = list(numbered(instances))
    # The archive writes the list from an unordered map.
    members = [*_members(call.sandbox.archive("tcia"), files), ("md5hashes.csv", _hash_list(reversed(files)))]
    return await _zip(call, uid, members)


async def get_dcm_image(call: Call) -> Response:
    """`getDCMImage`: the files with their SOP Instance UID in front of the new name, hashes on demand."""
    uid, instances, refusal = _asked_for(call)
    if refusal:
        return refusal
    files = list(renamed(instances))
    members = _members(
        call.sandbox.archive("tcia"), ((f"{instance.sop_instance_uid}^{name}", instance) for name, instance in files)
    )
    if call.params.get("MD5Verification", "").lower() == "true":
        members.append(("md5hashes.csv", _hash_list(files)))
    return await _zip(call, uid, members)


async def get_single_image(call: Call) -> Response:
    """`getSingleImage`: one file; a SOP Instance UID the series has not is the server's own error."""
    uid, sop = call.params.get("SeriesInstanceUID"), call.params.get("SOPInstanceUID")
    if uid is None or sop is None:
        return required("SeriesInstanceUID and SOPInstanceUID,", "are")
    instances = _public(call, uid)
    if not instances:
        return not_public(call, uid)
    found = [instance for instance in instances if instance.sop_instance_uid == sop]
    if not found:
        return failed("null")
    path = call.sandbox.archive("tcia").path(found[0])
    return await streamed(_pieces(path), "application/dicom", content_disposition=f"attachment; filename={sop}.dcm")


async def get_md5_hash(call: Call) -> Response:
    """`getMD5HashForImage` (v4) and `getM5HashForImage` (before): the MD5 of one file, nothing when it is unknown."""
    sop = call.params.get("SOPInstanceUid" if call.legacy else "SOPInstanceUID")
    instance = call.sandbox.archive("tcia").instance(sop or "")
    return answer(instance.md5 if instance else "", "text/plain")


async def get_md5_hierarchy(call: Call) -> Response:
    """`getMD5Hierarchy`: one hash over the hashes of all files of a series, study, patient or collection."""
    where, values = [], []
    for name in ("SeriesInstanceUID", "StudyInstanceUID", "PatientID", "Collection"):
        if value := call.field(name):
            where.append(f"t.{name} = ?")
            values.append(value)
    if not where:
        return answer("", "text/plain")

    def digest() -> str:
        with call.sandbox.reader() as db:
            source = "archive_instance i JOIN tcia_series t ON t.id = i.series_id"
            rows = db.execute(select("i.md5", source, where, "ORDER BY i.md5"), values)
            return hashlib.md5("".join(row[0] for row in rows).encode(), usedforsecurity=False).hexdigest()

    return answer(await anyio.to_thread.run_sync(digest), "text/plain")


async def get_thumbnail(call: Call) -> Response:
    """`getThumbnail`: one image as a JPEG of at most 256 pixels."""
    instance = call.sandbox.archive("tcia").instance(call.field("objectUID") or "")
    if instance is None or instance.series_instance_uid != call.field("seriesUID"):
        return answer("image not found", "text/plain", 400)
    path = call.sandbox.archive("tcia").path(instance)
    image = await anyio.to_thread.run_sync(lambda: render(path, format="jpeg", max_size=256))
    return answer(image, "image/jpeg")


async def get_dicom_tags(call: Call) -> Response:
    """`getDicomTags`: the header of a series' first image as rows, file meta information first, no pixels."""
    uid = call.params.get("SeriesUID", "")
    instances = _public(call, uid)
    if not instances:
        return not_public(call, uid)
    path = call.sandbox.archive("tcia").path(instances[0])

    def listing() -> list[dict[str, str | None]]:
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        charset = str(dataset.get("SpecificCharacterSet", ""))
        return [*_rows(dataset.file_meta, charset, ""), *_rows(dataset, charset, "")]

    rows = await anyio.to_thread.run_sync(listing)
    return jackson(rows) if rows else empty()


def _rows(dataset: Dataset, charset: str, prefix: str) -> Iterator[dict[str, str | None]]:
    for tag in sorted(dataset.keys()):
        element = f"{prefix}({tag.group:04X},{tag.element:04X})"
        try:
            name = dictionary_description(tag)
        except KeyError:
            name = ""
        raw = dataset.get_item(tag)
        if raw.VR != "SQ" and not (raw.VR is None and isinstance(dataset[tag].value, pydicom.Sequence)):
            data = "..." if tag.group >= 0x6000 and tag.group < 0x8000 else element_text(raw, charset)
            yield {"element": element, "name": name, "data": data}
            continue
        yield {"element": element, "name": name, "data": None}
        for item in dataset[tag].value:
            yield from _rows(item, charset, f"{prefix}>")
        yield {"element": element, "name": f"End {name}", "data": None}
