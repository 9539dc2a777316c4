"""Where the pixels of a DICOM file lie, and how they are decoded: one frame at a time, by an explicitly chosen decoder.

Files come from anywhere, so nothing is believed: sizes are bounded before memory is taken for them, and decoders that are
known to crash work in a process of their own. Two defects that every viewer forgives are forgiven: a file that states no
transfer syntax (taken from the way its header is encoded) and native pixels that end too early (filled with zeros).
"""

from __future__ import annotations

import io
import logging
import math
import os
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import pydicom
from pydicom import Dataset, uid
from pydicom.encaps import encapsulate, generate_frames, get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import as_pixel_options

from isocenter.imaging.windowing import Array, Undecodable

MAX_FRAME_BYTES = 512 << 20
"""A frame that claims to be larger is refused before memory is taken for it."""
MAX_INFLATED_BYTES = 1 << 30
"""A deflated data set that grows beyond this is refused."""

DECODERS: dict[str, tuple[tuple[str, str], ...]] = {
    uid.RLELossless: (("pylibjpeg", "pylibjpeg[rle]"), ("pydicom", "pydicom")),
    uid.JPEGBaseline8Bit: (("pillow", "Pillow"),),
    uid.JPEGExtended12Bit: (("pillow", "Pillow"), ("pylibjpeg", "pylibjpeg[libjpeg]")),
    uid.JPEGLossless: (("isocenter", "python-gdcm"), ("pylibjpeg", "pylibjpeg[libjpeg]")),
    uid.JPEGLosslessSV1: (("isocenter", "python-gdcm"), ("pylibjpeg", "pylibjpeg[libjpeg]")),
    uid.JPEGLSLossless: (("isocenter", "pyjpegls"),),
    uid.JPEGLSNearLossless: (("isocenter", "pyjpegls"),),
    uid.JPEG2000Lossless: (("pylibjpeg", "pylibjpeg[openjpeg]"), ("pillow", "Pillow")),
    uid.JPEG2000: (("pylibjpeg", "pylibjpeg[openjpeg]"), ("pillow", "Pillow")),
    uid.HTJ2KLossless: (("pylibjpeg", "pylibjpeg[openjpeg]"),),
    uid.HTJ2KLosslessRPCL: (("pylibjpeg", "pylibjpeg[openjpeg]"),),
    uid.HTJ2K: (("pylibjpeg", "pylibjpeg[openjpeg]"),),
}
"""Transfer syntax to (pydicom plugin, package that brings it), best first. Left to itself pydicom takes gdcm for
everything gdcm knows, which is two to four times slower; damaged data can crash it, and this process with it."""

for _syntax in (uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEGLSNearLossless):
    get_decoder(_syntax).add_plugin("isocenter", ("isocenter.imaging.decoding_apart", "decode_frame"))

_NATIVE = {
    (True, True): uid.ImplicitVRLittleEndian,
    (False, True): uid.ExplicitVRLittleEndian,
    (False, False): uid.ExplicitVRBigEndian,
}
_PIXEL_KEYWORDS = {
    (0x7FE0, 0x0010): "PixelData",
    (0x7FE0, 0x0008): "FloatPixelData",
    (0x7FE0, 0x0009): "DoubleFloatPixelData",
}
# The JPEG markers that begin a frame header, SOF0 to SOF15 without those between them that do not, and JPEG-LS SOF55.
_SIZE_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}

# What pydicom warns about it quotes, and the values of a header may name a patient.
warnings.filterwarnings("ignore", module=r"pydicom\b")
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)


class NotDicom(ValueError):
    """The bytes are not a DICOM file."""


@dataclass(frozen=True, slots=True)
class DicomFile:
    """A parsed header, and where the pixels are: `available` bytes of `stream` from `start` (0 bytes: no pixels)."""

    header: Dataset
    stream: BinaryIO
    start: int
    available: int
    keyword: str = ""
    vr: str = ""
    encapsulated: bool = False


class _ZeroPadded:
    """A stream that goes on with zeros where the pixels end too early."""

    def __init__(self, file: DicomFile) -> None:
        self._stream = file.stream
        self._stop = file.start + file.available
        self.tell, self.seek = file.stream.tell, file.stream.seek

    def read(self, size: int) -> bytes:
        return self._stream.read(max(0, min(size, self._stop - self.tell()))).ljust(size, b"\0")


@contextmanager
def opened(source: Path | BinaryIO) -> Iterator[BinaryIO]:
    """The file at a path, closed at the end; or the given stream at its start, left open."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield file
    else:
        source.seek(0)
        yield source


def read(stream: BinaryIO) -> DicomFile:
    """Parse a file up to its pixels, from the start of a stream that can seek.

    A missing preamble is forgiven when what follows reads as an instance or an image. Raises NotDicom, and Undecodable
    for what would inflate to more than `MAX_INFLATED_BYTES` and for compressed pixels without a transfer syntax.
    """
    stream = _inflated(stream)
    preamble = stream.read(132)[128:] == b"DICM"
    stream.seek(0)
    try:
        header = pydicom.dcmread(stream, stop_before_pixels=True, force=True)
        stated = header.file_meta.get("TransferSyntaxUID")
        plausible = preamble or bool(header.get("SOPClassUID") or header.get("Rows"))
        implicit, little = map(bool, header.original_encoding)
    except Exception as error:  # pydicom reports damage by whatever its parser stumbled over
        raise NotDicom("the bytes are not a DICOM file") from error
    if not plausible:
        raise NotDicom("the bytes are not a DICOM file")
    if not stated:
        header.file_meta.TransferSyntaxUID = _NATIVE[implicit, little]
    order = "<" if little else ">"

    # pydicom stops in front of the element. Its tag is followed by a VR, two spare bytes and the length, or by the
    # length alone; some writers mix up the two, so the bytes tell, not the transfer syntax.
    start, element = stream.tell(), stream.read(12)
    if len(element) < 8 or (keyword := _PIXEL_KEYWORDS.get(struct.unpack(f"{order}HH", element[:4]))) is None:
        return DicomFile(header, stream, start, 0)
    explicit = element[4:6].isalpha()
    start += 12 if explicit else 8
    length = struct.unpack_from(f"{order}L", element.ljust(12, b"\0"), 8 if explicit else 4)[0]
    encapsulated = length == 0xFFFFFFFF
    if encapsulated and not stated:
        raise Undecodable("the file states no transfer syntax and its pixels are compressed")
    available = max(0, min(length, stream.seek(0, os.SEEK_END) - start))
    vr = element[4:6].decode() if explicit else "OW"
    return DicomFile(header, stream, start, available, keyword, vr, encapsulated)


def _inflated(stream: BinaryIO) -> BinaryIO:
    """The data set alone when it is deflated (PS3.5 section A.5), with a bound that pydicom lacks; else the stream."""
    start = stream.read(4096)
    stream.seek(0)
    # Group 0002 begins with the number of bytes that follow its first element.
    meta_end = 144 + int.from_bytes(start[140:144], "little")
    if start[128:132] != b"DICM" or uid.DeflatedExplicitVRLittleEndian.encode() not in start[:meta_end]:
        return stream
    stream.seek(meta_end)
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = engine.decompress(stream.read(), MAX_INFLATED_BYTES)
    except zlib.error as error:
        raise NotDicom("the deflated data set is damaged") from error
    if engine.unconsumed_tail:
        raise Undecodable("the deflated data set is too large")
    return io.BytesIO(inflated)


def frame_count(header: Dataset) -> int:
    """How many frames the header says there are, at least 1. Raises Undecodable when that is no number."""
    try:
        return max(1, int(header.get("NumberOfFrames") or 1))
    except Exception as error:  # values that pydicom parses only now
        raise Undecodable("the number of frames is not a number") from error


def decode(file: DicomFile, indices: Sequence[int] | None) -> Iterator[Array]:
    """The frames at `indices` (None: all), decoded from the stream one at a time.

    Stored values of shape (rows, columns), or (rows, columns, samples) with YBR turned into RGB. Nothing else may move
    the stream meanwhile. Of native pixels that end too early the frames with at least a byte are filled up with zeros;
    less than an eighth of the first frame is refused. Raises Undecodable, and IndexError for a frame that is not there.
    """
    if not file.available:
        raise Undecodable("the file has no pixel data")
    header = file.header
    syntax = header.file_meta.TransferSyntaxUID
    count = frame_count(header)
    try:
        decoder = get_decoder(syntax)
        options: dict[str, Any] = as_pixel_options(header, pixel_keyword=file.keyword, pixel_vr=file.vr)
        options["number_of_frames"] = count
        frame_bytes = header.Rows * header.Columns * header.get("SamplesPerPixel", 1) * header.BitsAllocated / 8
        if header.PhotometricInterpretation == "YBR_FULL_422" and not syntax.is_encapsulated:
            frame_bytes = frame_bytes / 3 * 2
    except NotImplementedError as error:
        raise Undecodable(f"pixels of the transfer syntax {syntax.name} cannot be decoded") from error
    except Exception as error:  # values that pydicom parses only now
        raise Undecodable("the header does not describe its pixels") from error
    if not 0 < frame_bytes <= MAX_FRAME_BYTES:
        raise Undecodable("the frames are empty or too large")

    if syntax.is_encapsulated:
        yield from _decode_encapsulated(file, options, indices)
        return
    stream = file.stream
    if file.available < frame_bytes / 8:
        raise Undecodable("the pixel data is cut off")
    if file.available < math.ceil(frame_bytes * count):
        options["number_of_frames"] = count = min(count, math.ceil(file.available / frame_bytes))
        stream = cast(BinaryIO, _ZeroPadded(file))
    _check(indices, count)
    stream.seek(file.start)
    try:
        for frame, _ in decoder.iter_array(stream, indices=indices, allow_excess_frames=False, **options):
            yield frame
    except Exception as error:
        raise Undecodable("the header does not describe its pixels") from error


def _decode_encapsulated(file: DicomFile, options: dict[str, Any], indices: Sequence[int] | None) -> Iterator[Array]:
    syntax = file.header.file_meta.TransferSyntaxUID
    decoder = get_decoder(syntax)
    plugins = [plugin for plugin, _ in DECODERS[syntax] if plugin in decoder.available_plugins]
    missing = [package for plugin, package in DECODERS[syntax] if plugin not in plugins]
    if not plugins:
        raise Undecodable(f"{syntax.name} pixels need the package {missing[0]}: pip install '{missing[0]}'")
    count, offsets = options["number_of_frames"], options.pop("extended_offsets", None)
    options["number_of_frames"] = 1  # they are decoded one by one
    _check(indices, count)

    def encoded() -> Iterator[bytes]:
        if indices is None:
            yield from islice(generate_frames(file.stream, number_of_frames=count, extended_offsets=offsets), count)
        for index in indices or ():
            file.stream.seek(file.start)
            yield get_frame(file.stream, index, number_of_frames=count, extended_offsets=offsets)

    file.stream.seek(file.start)
    failure: BaseException | None = None
    try:
        for frame in encoded():
            frame = _codestream(frame)
            if _encoded_size(frame) not in (None, (options["rows"], options["columns"])):
                raise Undecodable("the size of the encoded image is not that of the header")
            source = encapsulate([frame], has_bot=False)
            for plugin in plugins:
                try:
                    image, _ = decoder.as_array(source, index=0, decoding_plugin=plugin, **options)
                    break
                except BaseException as error:
                    # Decoders have their own ways to fail; those written in Rust panic outside of Exception.
                    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                        raise
                    failure = error
            else:
                hint = f"; the package {missing[0]} may help" if missing else ""
                raise Undecodable(f"{syntax.name} pixels are damaged or of an unsupported kind{hint}") from failure
            yield image
    except Undecodable:
        raise
    except Exception as error:  # the items cannot be told apart
        raise Undecodable("the encapsulated pixels are damaged") from error


def _check(indices: Sequence[int] | None, count: int) -> None:
    if any(not 0 <= index < count for index in indices or ()):
        raise IndexError(f"the file has {count} frames, numbered from 0")


def _codestream(frame: bytes) -> bytes:
    """JPEG 2000 without the boxes of a JP2 file (ISO/IEC 15444-1 annex I), which DICOM forbids and some writers leave.

    pydicom looks through them itself, and for ever when one of them says it is empty.
    """
    if not frame.startswith(b"\0\0\0\x0cjP  "):
        return frame
    at = 0
    while (length := int.from_bytes(frame[at : at + 4])) >= 8:
        if frame[at + 4 : at + 8] == b"jp2c":
            break
        at += length
    return frame[at + 8 :]


def _encoded_size(frame: bytes) -> tuple[int, int] | None:
    """(rows, columns) by the encoded frame itself; None where that is not a JPEG of any kind.

    Decoders take memory for what the code stream says, so it has to agree with the header before they see it.
    """
    if frame.startswith(b"\xff\x4f\xff\x51") and len(frame) >= 24:
        right, bottom, left, top = struct.unpack(">4L", frame[8:24])
        return bottom - top, right - left
    at = 2
    while frame.startswith(b"\xff\xd8") and at + 9 <= len(frame) and frame[at] == 0xFF:
        if frame[at + 1] in _SIZE_MARKERS:
            rows, columns = struct.unpack(">2H", frame[at + 5 : at + 9])
            return rows, columns
        at += 2 + int.from_bytes(frame[at + 2 : at + 4])
    return None
