"""A DICOM file as DICOMaestro's JSON: header values as Python prints them, images in base64.

The answer is written to a file piece by piece, so that neither all frames nor the printed pixels (4.5 characters a byte)
are ever in memory together.
"""

from __future__ import annotations

import base64
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import BinaryIO

from pydicom import Dataset

from isocenter import imaging

PREVIEW_BYTES = 64
"""As much of a binary value is printed when it was not asked for by name."""
MAX_ANSWER_BYTES = 512 << 20
MAX_MEMBERS = 256
MAX_MEMBER_BYTES = 100 << 20
MAX_ARCHIVE_BYTES = 256 << 20

# What zipfile raises for archives that are cut, encrypted or packed by a method it does not know.
_DAMAGED = (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, OSError, ValueError, EOFError)


class Unreadable(ValueError):
    """The upload is refused; `str()` is the message for the field `file`."""


def write_answer(upload: BinaryIO, archive: bool, fields: Sequence[str], format: str, out: BinaryIO) -> None:
    """Write the JSON for an uploaded file to `out`.

    `fields` are the wanted keywords in their order; none means every element with a value. A zip archive with one DICOM
    file is answered like that file; with several, as `{"files": [{"name": ..., ...}]}` in the order of the archive.
    Raises Unreadable.
    """
    try:
        if not archive:
            _write_file(upload, {}, fields, format, out)
            return
        members = list(_members(upload))
        if not members:
            raise Unreadable("Invalid DICOM file")
        if len(members) == 1:
            _write_file(members[0][1](), {}, fields, format, out)
            return
        out.write(b'{"files":')
        separator = b"["
        for name, member in members:
            out.write(separator)
            separator = b","
            _write_file(member(), {"name": name}, fields, format, out)
        out.write(b"]}")
    except imaging.NotDicom as error:
        raise Unreadable("Invalid DICOM file") from error
    except imaging.Undecodable as error:
        raise Unreadable(f"The pixel data cannot be shown: {error}") from error


def _members(upload: BinaryIO) -> Iterator[tuple[str, Callable[[], BinaryIO]]]:
    """The DICOM files of an archive: name, and a function that unpacks one into memory."""
    try:
        archive = zipfile.ZipFile(upload)
    except _DAMAGED as error:
        raise Unreadable("Invalid DICOM file") from error
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    # The sizes are what the archive claims; zipfile never unpacks more than that of a member.
    if (
        len(entries) > MAX_MEMBERS
        or any(entry.file_size > MAX_MEMBER_BYTES for entry in entries)
        or sum(entry.file_size for entry in entries) > MAX_ARCHIVE_BYTES
    ):
        raise Unreadable("The archive holds too many or too large files")
    for entry in entries:
        try:
            with archive.open(entry) as member:
                dicom = member.read(132)[128:] == b"DICM"
        except _DAMAGED as error:
            raise Unreadable("Invalid DICOM file") from error
        if dicom:
            yield entry.filename, partial(_unpacked, archive, entry)


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> BinaryIO:
    try:
        return io.BytesIO(archive.read(entry))
    except _DAMAGED as error:
        raise Unreadable("Invalid DICOM file") from error


def _write_file(file: BinaryIO, first: dict[str, str], fields: Sequence[str], format: str, out: BinaryIO) -> None:
    header = imaging.read_header(file)
    pixels = imaging.pixel_keyword(file)
    values = first | (_wanted(header, fields) if fields else _every(header))
    if pixels is not None:
        # Of the same name as what we say about the images: a retired attribute (0028,0040).
        values.pop("ImageFormat", None)
        values.pop(pixels, None)
    pairs = b",".join(_json(keyword) + b":" + _json(text) for keyword, text in values.items())
    out.write(b"{" + pairs)
    if pixels is not None:
        comma = b"," if pairs else b""
        if not fields or pixels in fields:
            out.write(comma + _json(pixels) + b":")
            _write_printed(file, out, whole=bool(fields))
            comma = b","
        out.write(comma + b'"ImageFormat":' + _json(format.upper()) + b',"Images":[')
        if format == "gif":
            images = iter([imaging.animate(imaging.rendered(file), imaging.frame_milliseconds(header))])
        else:
            images = (imaging.encode(image, format) for image in imaging.rendered(file))
        for number, image in enumerate(images):
            out.write(b',"' if number else b'"')
            out.write(base64.b64encode(image) + b'"')
            if out.tell() > MAX_ANSWER_BYTES:
                raise Unreadable("The images are too many or too large for one answer")
        out.write(b"]")
    out.write(b"}")


def _wanted(header: Dataset, fields: Sequence[str]) -> dict[str, str]:
    values = {}
    for keyword in fields:
        try:
            value = header.get(keyword, "Unknown")
        except Exception:  # an element that pydicom cannot parse, for whatever reason
            value = "Unknown"
        values[keyword] = "" if value is None else str(value)
    return values


def _every(header: Dataset) -> dict[str, str]:
    values = {}
    for tag in sorted(header.keys()):
        with suppress(Exception):  # an element that pydicom cannot parse, for whatever reason, is left out
            element = header[tag]
            value = element.value
            if isinstance(value, bytes) and len(value) > PREVIEW_BYTES:
                value = f"{value[:PREVIEW_BYTES]!r}..."
            # Private elements have no keyword. The service leaves out zeros as well as what is empty.
            if element.keyword and value:
                values[element.keyword] = str(value)
    return values


def _write_printed(file: BinaryIO, out: BinaryIO, *, whole: bool) -> None:
    """The stored pixel value as a JSON text of what Python prints for bytes."""
    if not whole:
        start = b""
        for piece in imaging.encoded_pixels(file):
            start += piece
            if len(start) > PREVIEW_BYTES:
                break
        rest = "..." if len(start) > PREVIEW_BYTES else ""
        out.write(_json(repr(start[:PREVIEW_BYTES]) + rest))
        return
    # Python prints with apostrophes, unless only apostrophes are in the data.
    single = double = False
    for piece in imaging.encoded_pixels(file):
        single, double = single or b"'" in piece, double or b'"' in piece
    quote = '"' if single and not double else "'"
    printed = [repr(bytes((byte,)))[2:-1] for byte in range(256)]
    printed[ord("'")] = "'" if quote == '"' else "\\'"
    # Inside the JSON text.
    printed = [json.dumps(text)[1:-1] for text in printed]
    opening = json.dumps(quote)[1:-1]
    out.write(b'"b' + opening.encode())
    for piece in imaging.encoded_pixels(file):
        out.write("".join(map(printed.__getitem__, piece)).encode())
    out.write(opening.encode() + b'"')


def _json(value: str) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
