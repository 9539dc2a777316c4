"""DICOM files as pictures: windowed to 8 bits and encoded as PNG, JPEG or GIF, for people and for models to look at.

Frames are decoded, shown and encoded one at a time, so memory stays at a few frames however long the film is. What cannot
be shown raises `Undecodable`, what is no DICOM file `NotDicom`; nothing else is raised for a bad file.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import GifImagePlugin, Image
from pydicom import Dataset

from isocenter.imaging.decoding import NotDicom, decode, frame_count, opened, read
from isocenter.imaging.windowing import Array, Grey, Undecodable, tone, window

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

_PIECE = 1 << 20


def read_header(source: Path | BinaryIO) -> Dataset:
    """The data set of a file without its pixels. A stream is read from its start and left somewhere behind it.

    Raises NotDicom, and Undecodable for data sets that would inflate without measure; see `isocenter.imaging.decoding.read`.
    """
    with opened(source) as file:
        return read(file).header


def pixel_keyword(source: Path | BinaryIO) -> str | None:
    """Which element holds the pixels: `PixelData`, `FloatPixelData`, `DoubleFloatPixelData`, or None without pixels."""
    with opened(source) as file:
        return read(file).keyword or None


def frames(source: Path | BinaryIO, indices: Sequence[int] | None = None) -> Iterator[Array]:
    """Decode one frame after the other: stored values, shape (rows, columns), or (rows, columns, 3) as RGB.

    `indices` selects frames (from 0). Native pixel data that ends too early is filled up with zeros, and frames that
    have no byte at all are left out. Raises NotDicom, Undecodable, and IndexError for a frame that is not there.
    """
    with opened(source) as file:
        yield from decode(read(file), indices)


def encoded_pixels(source: Path | BinaryIO) -> Iterator[bytes]:
    """The value of the pixel element as it is stored, in pieces; nothing when there is none.

    Of encapsulated pixels it is the items with their headers, without the delimiter behind them. Raises NotDicom.
    """
    with opened(source) as stream:
        file = read(stream)
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
    """Images of one size as an endless GIF, each shown for that long (20 ms, the least that viewers obey, to 655 s).

    Takes one image at a time from `images`. Colour is reduced to 256 colours an image.
    """
    file = io.BytesIO()
    duration = min(max(20, round(milliseconds)), 655_350)
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
    with opened(source) as stream:
        file = read(stream)
        count = frame_count(file.header)
        per_frame = "PerFrameFunctionalGroupsSequence" in file.header
        convert: Callable[[Array], Grey] | None = None
        if count > 1 and not per_frame:
            with suppress(IndexError):
                convert = tone(next(decode(file, [count // 2])), file.header, center, width)
        for index, frame in enumerate(decode(file, None)):
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
    with opened(path) as stream:
        file = read(stream)
        (stored,) = decode(file, [frame])
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
            with opened(path) as stream:
                file = read(stream)
                middle = frame_count(file.header) // 2
                (stored,) = decode(file, [middle])
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


def _shrunk(image: Grey, max_size: int | None) -> Grey:
    if max_size is None or max(image.shape[:2]) <= max_size:
        return image
    picture = Image.fromarray(image)
    picture.thumbnail((max_size, max_size), Image.Resampling.LANCZOS)
    return np.asarray(picture)
