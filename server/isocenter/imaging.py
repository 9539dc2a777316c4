"""Pixels of DICOM files: decoded frame by frame, windowed to 8 bits, encoded as PNG, JPEG or GIF.

Memory stays at about one frame: pixels are read from the file as they are needed, never as a whole array. The decoder
is chosen per transfer syntax from what is installed, the fastest that is right first. Two defects that every viewer
forgives are forgiven here too: a file that states no transfer syntax (taken from the way its header is encoded) and
native pixels that end too early (filled with zeros, as long as an eighth of a frame is there). Everything else that is broken raises `Undecodable`.
"""

from __future__ import annotations

import io
import logging
import math
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pydicom
from PIL import GifImagePlugin, Image
from pydicom import Dataset, uid
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import as_pixel_options

from isocenter.windowing import Array, Grey, Undecodable, tone, window

__all__ = [
    "NotDicom",
    "Undecodable",
    "animate",
    "contact_sheet",
    "encode",
    "encoded_pixels",
    "frame_milliseconds",
    "frames",
    "pixel_keyword",
    "read_header",
    "render",
    "rendered",
    "tone",
    "window",
]

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
    uid.JPEGLSLossless: (("pyjpegls", "pyjpegls"),),
    uid.JPEGLSNearLossless: (("pyjpegls", "pyjpegls"),),
    uid.JPEG2000Lossless: (("pylibjpeg", "pylibjpeg[openjpeg]"), ("pillow", "Pillow")),
    uid.JPEG2000: (("pylibjpeg", "pylibjpeg[openjpeg]"), ("pillow", "Pillow")),
    uid.HTJ2KLossless: (("pylibjpeg", "pylibjpeg[openjpeg]"),),
    uid.HTJ2KLosslessRPCL: (("pylibjpeg", "pylibjpeg[openjpeg]"),),
    uid.HTJ2K: (("pylibjpeg", "pylibjpeg[openjpeg]"),),
}
"""Transfer syntax to (pydicom plugin, package that brings it), best first. Left to itself pydicom takes gdcm for
everything gdcm knows, which is two to four times slower, and which damaged data can crash together with this process."""

for _syntax in (uid.JPEGLossless, uid.JPEGLosslessSV1):
    get_decoder(_syntax).add_plugin("isocenter", ("isocenter.gdcm_apart", "decode_frame"))

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
_PIECE = 1 << 20

# What pydicom warns about it quotes, and the values of a header may name a patient.
warnings.filterwarnings("ignore", module=r"pydicom\b")
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)


class NotDicom(ValueError):
    """The bytes are not a DICOM file."""


def read_header(source: Path | BinaryIO) -> Dataset:
    """The data set of a file without its pixels. A stream is read from its start and left somewhere behind it.

    A missing preamble is forgiven when what follows reads as an instance or an image. Raises NotDicom, and Undecodable
    for a deflated data set that grows beyond `MAX_INFLATED_BYTES`.
    """
    with _opened(source) as file:
        return _read(file).header


def pixel_keyword(source: Path | BinaryIO) -> str | None:
    """Which element holds the pixels: `PixelData`, `FloatPixelData`, `DoubleFloatPixelData`, or None without pixels."""
    with _opened(source) as file:
        return _read(file).keyword or None


def frames(source: Path | BinaryIO, indices: Sequence[int] | None = None) -> Iterator[Array]:
    """Decode one frame after the other: stored values, shape (rows, columns), or (rows, columns, 3) as RGB.

    `indices` selects frames (from 0). Native pixel data that ends too early is filled up with zeros, and frames that
    have no byte at all are left out. Raises NotDicom, Undecodable, and IndexError for a frame that is not there.
    """
    with _opened(source) as file:
        yield from _decode(_read(file), indices)


def encoded_pixels(source: Path | BinaryIO) -> Iterator[bytes]:
    """The value of the pixel element as it is stored, in pieces; nothing when there is none.

    Of encapsulated pixels it is the items with their headers, without the delimiter behind them. Raises NotDicom.
    """
    with _opened(source) as opened:
        file = _read(opened)
        file.stream.seek(file.start)
        left, item = file.available, 0
        while left > 0:
            if file.encapsulated and not item:
                # PS3.5 section A.4: every item has its tag and its length in front, and is not delimited.
                head = file.stream.read(8)
                left -= 8
                if len(head) < 8 or head[:4] != b"\xfe\xff\x00\xe0":
                    return
                item = int.from_bytes(head[4:], "little")
                yield head
                continue
            piece = file.stream.read(min(left, item or left, _PIECE))
            left -= len(piece)
            item -= min(item, len(piece))
            if not piece:
                return
            yield piece


def encode(image: Grey, format: str) -> bytes:
    """One image as the bytes of a `png` (fast compression), `jpeg` (quality 90) or `gif` file."""
    if format == "gif":
        return animate([image])
    file = io.BytesIO()
    if format == "png":
        Image.fromarray(image).save(file, "PNG", compress_level=1)
    elif format == "jpeg":
        Image.fromarray(image).save(file, "JPEG", quality=90)
    else:
        raise ValueError("the format must be png, jpeg or gif")
    return file.getvalue()


def animate(images: Iterable[Grey], milliseconds: float = 100.0) -> bytes:
    """Images of one size as an endless GIF, each shown for that long (at least 20 ms, the least that viewers obey).

    Takes one image at a time from `images`. Colour is reduced to 256 colours an image.
    """
    file = io.BytesIO()
    duration = max(20, round(milliseconds))
    for image in images:
        picture = Image.fromarray(image)
        if not file.tell():
            # GIF89a: screen size, then a global table of 256 greys, and the extension by which browsers know to repeat.
            greys = b"".join(bytes((level,)) * 3 for level in range(256))
            file.write(b"GIF89a" + struct.pack("<HHBBB", *picture.size, 0xF7, 0, 0) + greys)
            file.write(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")
        if picture.mode == "L":
            pieces = GifImagePlugin.getdata(picture, duration=duration)
        else:
            pieces = GifImagePlugin.getdata(picture.quantize(256), duration=duration, include_color_table=True)
        file.writelines(pieces)
    file.write(b";")
    return file.getvalue()


def rendered(
    source: Path | BinaryIO, center: float | None = None, width: float | None = None, max_size: int | None = None
) -> Iterator[Grey]:
    """Every frame of a file in 8 bits, one at a time; `max_size` limits the longer side, in pixels.

    A file without a window is shown by that of its middle frame throughout, so that an animation does not flicker.
    Raises as `frames` and `tone` do.
    """
    with _opened(source) as opened:
        file = _read(opened)
        count = _frame_count(file.header)
        per_frame = "PerFrameFunctionalGroupsSequence" in file.header
        convert: Callable[[Array], Grey] | None = None
        if count > 1 and not per_frame:
            with suppress(IndexError):
                convert = tone(next(_decode(file, [count // 2])), file.header, center, width)
        for index, frame in enumerate(_decode(file, None)):
            if convert is None or per_frame:
                convert = tone(frame, file.header, center, width, index=index)
            yield _shrunk(convert(frame), max_size)


def render(
    path: Path | BinaryIO,
    frame: int = 0,
    center: float | None = None,
    width: float | None = None,
    format: str = "png",
    max_size: int | None = None,
) -> bytes:
    """One frame (from 0) of a DICOM file as an image file, windowed as `window` does.

    `max_size` limits the longer side, in pixels. Raises NotDicom, Undecodable, and IndexError for a frame that is not
    there.
    """
    with _opened(path) as opened:
        file = _read(opened)
        (stored,) = _decode(file, [frame])
    return encode(_shrunk(window(stored, file.header, center, width, index=frame), max_size), format)


def frame_milliseconds(ds: Dataset) -> float:
    """How long the header says each frame is shown (PS3.3 section C.7.6.5); 100 when it does not say."""
    for keyword, milliseconds in (
        ("FrameTime", float),
        ("RecommendedDisplayFrameRate", lambda rate: 1000 / float(rate)),
        ("CineRate", lambda rate: 1000 / float(rate)),
    ):
        try:
            value = milliseconds(ds.get(keyword))
        except Exception:  # noqa: S112 - absent, zero, or what pydicom cannot parse: the next one may do
            continue
        if 0 < value < math.inf:
            return value
    return 100.0


def contact_sheet(paths: Sequence[Path | BinaryIO], columns: int = 6, tile: int = 128) -> bytes:
    """A PNG with the middle frame of every file, in rows of `columns` square tiles of `tile` pixels.

    A file that cannot be shown leaves a crossed-out tile, so the places always match `paths`.
    """
    if not paths:
        raise ValueError("a contact sheet needs at least one file")
    tiles = []
    for path in paths:
        try:
            with _opened(path) as opened:
                file = _read(opened)
                middle = _frame_count(file.header) // 2
                (stored,) = _decode(file, [middle])
            tiles.append(_shrunk(window(stored, file.header, index=middle), tile))
        except (NotDicom, Undecodable, IndexError):
            cross = np.eye(tile, dtype=np.uint8)
            tiles.append((cross | cross[::-1]) * np.uint8(96))
    columns = min(columns, len(tiles))
    colour = any(image.ndim == 3 for image in tiles)
    sheet = Image.new("RGB" if colour else "L", (columns * tile, -(-len(tiles) // columns) * tile))
    for place, image in enumerate(tiles):
        row, column = divmod(place, columns)
        rows, width = image.shape[:2]
        sheet.paste(Image.fromarray(image), (column * tile + (tile - width) // 2, row * tile + (tile - rows) // 2))
    return encode(np.asarray(sheet), "png")


@dataclass(frozen=True, slots=True)
class _File:
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

    def __init__(self, file: _File) -> None:
        self._stream = file.stream
        self._stop = file.start + file.available
        self.tell, self.seek = file.stream.tell, file.stream.seek

    def read(self, size: int) -> bytes:
        return self._stream.read(max(0, min(size, self._stop - self.tell()))).ljust(size, b"\0")


@contextmanager
def _opened(source: Path | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield file
    else:
        source.seek(0)
        yield source


def _read(stream: BinaryIO) -> _File:
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
        return _File(header, stream, start, 0)
    explicit = element[4:6].isalpha()
    start += 12 if explicit else 8
    length = struct.unpack_from(f"{order}L", element.ljust(12, b"\0"), 8 if explicit else 4)[0]
    encapsulated = length == 0xFFFFFFFF
    if encapsulated and not stated:
        raise Undecodable("the file states no transfer syntax and its pixels are compressed")
    available = max(0, min(length, stream.seek(0, os.SEEK_END) - start))
    vr = element[4:6].decode() if explicit else "OW"
    return _File(header, stream, start, available, keyword, vr, encapsulated)


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


def _frame_count(header: Dataset) -> int:
    try:
        return max(1, int(header.get("NumberOfFrames") or 1))
    except Exception as error:  # values that pydicom parses only now
        raise Undecodable("the number of frames is not a number") from error


def _decode(file: _File, indices: Sequence[int] | None) -> Iterator[Array]:
    """The frames, decoded from the stream one at a time. Nothing else may move the stream meanwhile."""
    if not file.available:
        raise Undecodable("the file has no pixel data")
    header = file.header
    syntax = header.file_meta.TransferSyntaxUID
    count = _frame_count(header)
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

    stream = file.stream
    plugins, missing = [""], list[str]()
    if syntax.is_encapsulated:
        choices = DECODERS[syntax]
        plugins = [plugin for plugin, _ in choices if plugin in decoder.available_plugins]
        missing = [package for plugin, package in choices if plugin not in plugins]
        if not plugins:
            raise Undecodable(f"{syntax.name} pixels need the package {missing[0]}: pip install '{missing[0]}'")
    elif file.available < frame_bytes / 8:
        raise Undecodable("the pixel data is cut off")
    elif file.available < math.ceil(frame_bytes * count):
        options["number_of_frames"] = count = min(count, math.ceil(file.available / frame_bytes))
        stream = cast(BinaryIO, _ZeroPadded(file))
    if any(not 0 <= index < count for index in indices or ()):
        raise IndexError(f"the file has {count} frames, numbered from 0")

    failure: BaseException | None = None
    for plugin in plugins:
        file.stream.seek(file.start)
        started = False
        try:
            for frame, _ in decoder.iter_array(
                stream, indices=indices, decoding_plugin=plugin, allow_excess_frames=False, **options
            ):
                started = True
                yield frame
        except BaseException as error:
            # Every decoder has its own ways to fail; those written in Rust panic outside of Exception.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            failure = error
        else:
            return
        if started:
            break  # another decoder would begin again at the first frame
    hint = f"; the package {missing[0]} may help" if missing else ""
    raise Undecodable(f"the {syntax.name} pixels are damaged or of a kind that is not supported{hint}") from failure


def _shrunk(image: Grey, max_size: int | None) -> Grey:
    if max_size is None or max(image.shape[:2]) <= max_size:
        return image
    picture = Image.fromarray(image)
    picture.thumbnail((max_size, max_size), Image.Resampling.LANCZOS)
    return np.asarray(picture)
