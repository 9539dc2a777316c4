"""Stored pixel values to what a person looks at: 8 bits a sample, as the header asks.

The grey pipeline of PS3.4 section N.2, palettes and deep colour. For integers up to 16 bits the whole pipeline is folded
into one table with an entry for every possible value, which is many times as fast as computing it for every pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_color_lut

Array = NDArray[Any]
Grey = NDArray[np.uint8]
"""Ready to show: (rows, columns) for grey, (rows, columns, 3) for colour, 0 to 255."""

_GREY_KEYWORDS = (
    "ModalityLUTSequence",
    "RescaleSlope",
    "RescaleIntercept",
    "VOILUTSequence",
    "VOILUTFunction",
    "WindowCenter",
    "WindowWidth",
)
_BLOCK = 1 << 15  # Pixels looked up at a time: table, input and output then stay in the processor's cache.


class Undecodable(ValueError):
    """There are no pixels, or they cannot be turned into an image; `str()` says why and what to install if that helps.

    The text never holds a value of the header.
    """


def window(
    frame: Array, ds: Dataset, center: float | None = None, width: float | None = None, *, index: int = 0
) -> Grey:
    """Turn stored values into 8 bits as the header asks: (rows, columns), or (rows, columns, 3) for colour.

    `center` and `width` (both or neither, in output units of the modality, such as Hounsfield units) replace the
    header's window. `index` is the number of the frame, whose functional groups are used. See `tone`.
    """
    return tone(frame, ds, center, width, index=index)(frame)


def tone(
    sample: Array, ds: Dataset, center: float | None = None, width: float | None = None, *, index: int = 0
) -> Callable[[Array], Grey]:
    """The function that turns frames like `sample` into 8 bits; built once, it can be used for every frame of a file.

    Grey values go through the pipeline of PS3.4 section N.2: modality LUT or rescale, then VOI LUT or window (linear,
    linear exact or sigmoid, PS3.3 section C.11.2), then inversion for MONOCHROME1. The output range of the VOI step
    becomes 0 to 255. Without a window, values of up to 8 bits are shown as they are, and of all others the darkest and
    the brightest half percent of `sample` are cut off. Integers up to 16 bits take one table lookup a pixel. Palette
    colour is looked up too; RGB deeper than 8 bits is shifted down. Raises Undecodable for colour models that cannot be
    shown, and ValueError for a window of the caller's that makes no sense.
    """
    if (center is None) != (width is None):
        raise ValueError("a window needs both center and width")
    if width is not None and not 0 < width < math.inf:
        raise ValueError("the width of a window must be above 0")
    try:
        if sample.ndim == 3:
            shift = max(0, int(ds.get("BitsStored", 8)) - 8)
            return lambda frame: (frame >> shift).astype(np.uint8)
        photometric = str(ds.get("PhotometricInterpretation", "MONOCHROME2")).strip()
        if photometric in ("MONOCHROME1", "MONOCHROME2"):
            convert = _grey(sample, ds, center, width, index, inverted=photometric == "MONOCHROME1")
        elif photometric == "PALETTE COLOR":
            convert = _palette(ds)
        else:
            raise Undecodable("the colour model of the image cannot be shown")
        if sample.dtype.kind not in "iu" or sample.dtype.itemsize > 2:
            return lambda frame: _by_block(convert, frame)
        stored = sample.dtype.newbyteorder("=")
        bits = np.dtype(f"u{stored.itemsize}")
        table = convert(np.arange(1 << 8 * stored.itemsize, dtype=bits).view(stored))
    except Undecodable:
        raise
    except Exception as error:  # whatever pydicom stumbles over when it parses these values now
        raise Undecodable("what the header says about showing the image is broken") from error

    def look_up(frame: Array) -> Grey:
        # The bit patterns are the places in the table, so signed values need no arithmetic.
        places = np.ascontiguousarray(frame, dtype=stored).view(bits)
        return _by_block(lambda block: np.take(table, block, axis=0, mode="clip"), places, table.shape[1:])

    return look_up


def _grey(
    sample: Array, ds: Dataset, center: float | None, width: float | None, index: int, *, inverted: bool
) -> Callable[[Array], Grey]:
    """Stored grey values to 8 bits; see `tone`."""
    # Multi-frame objects keep these attributes in functional groups, where a frame's own come before the shared ones.
    header = Dataset()
    for group in [
        ds,
        *ds.get("SharedFunctionalGroupsSequence", [])[:1],
        *ds.get("PerFrameFunctionalGroupsSequence", [])[index : index + 1],
    ]:
        for item in [
            group,
            *group.get("PixelValueTransformationSequence", [])[:1],
            *group.get("FrameVOILUTSequence", [])[:1],
        ]:
            for keyword in _GREY_KEYWORDS:
                if keyword in item:
                    header.add(item[keyword])
    order = ">" if ds.original_encoding[1] is False else "<"

    if header.get("ModalityLUTSequence"):
        modality = _table(header.ModalityLUTSequence[0], order)[0]
    else:
        slope, intercept = _number(header.get("RescaleSlope")) or 1.0, _number(header.get("RescaleIntercept")) or 0.0

        def modality(values: Array) -> Array:
            return np.multiply(values, slope, dtype=np.float64) + intercept

    if center is None and header.get("VOILUTSequence"):
        table, top = _table(header.VOILUTSequence[0], order)

        def fraction(values: Array) -> Array:
            return table(values) / top
    else:
        function = str(header.get("VOILUTFunction") or "LINEAR")
        if center is None or width is None:
            center, width = _number(header.get("WindowCenter")), _number(header.get("WindowWidth"))
        if center is None or width is None or width <= 0:
            center, width = _full_window(modality, sample, ds)
            function = "LINEAR_EXACT"
        if function == "LINEAR" and width > 1:
            # PS3.3 C.11.2.1.2.1 counts from the middle of the pixel values.
            center, width = center - 0.5, width - 1
        middle, extent = center, width

        def fraction(values: Array) -> Array:
            if function == "SIGMOID":
                return 1 / (1 + np.exp(np.clip((values - middle) / extent * -4, -700, 700)))
            return (values - middle) / extent + 0.5

    def convert(values: Array) -> Grey:
        shown = np.clip(np.nan_to_num(fraction(modality(values))), 0, 1)
        return np.asarray((1 - shown if inverted else shown) * 255 + 0.5, np.uint8)

    return convert


def _full_window(modality: Callable[[Array], Array], sample: Array, ds: Dataset) -> tuple[float, float]:
    """Center and width of the window for an image without one."""
    values = sample.reshape(-1)[:: 1 + sample.size // (1 << 18)]
    if sample.dtype.kind == "u" and ds.get("BitsStored", 16) <= 8:
        # Up to 8 bits, what was stored is what was meant to be seen (screenshots, ultrasound, masks).
        values = np.array([0, (1 << ds.BitsStored) - 1])
    elif (padding := ds.get("PixelPaddingValue")) is not None and (values != padding).any():
        values = values[values != padding]
    shown = modality(values)
    shown = shown[np.isfinite(shown)]
    if not shown.size:
        return 0.5, 1.0
    low, high = np.percentile(shown, (0.5, 99.5)) if values.size > 2 else (shown.min(), shown.max())
    if not low < high:
        low, high = shown.min(), shown.max()
    return float(low + high) / 2, float(high - low) or 1.0


def _table(item: Dataset, order: str) -> tuple[Callable[[Array], Array], int]:
    """The lookup table of a Modality or VOI LUT item, and the largest value it can give (PS3.3 section C.11.1.1)."""
    count, first, bits = (int(value) for value in item.LUTDescriptor)
    entries = _entries(item.LUTData, count, order)

    def look_up(values: Array) -> Array:
        return entries[np.clip(np.rint(values).astype(np.int64) - first, 0, len(entries) - 1)]

    return look_up, max((1 << bits) - 1, int(entries.max()))


def _entries(data: Any, count: int, order: str) -> Array:
    """Entries of a lookup table, which come as bytes, of one or two a piece, or as numbers. A count of 0 is 65,536."""
    count = count or 1 << 16
    if isinstance(data, bytes):
        return np.frombuffer(data, f"{order}u2" if len(data) >= 2 * count else "u1")[:count]
    return np.atleast_1d(np.asarray(data))[:count]


def _palette(ds: Dataset) -> Callable[[Array], Grey]:
    """Stored values to RGB by the tables of PS3.3 section C.7.6.3.1.5, whose entries have 8 or 16 bits."""
    count, first = (int(value) for value in ds.RedPaletteColorLookupTableDescriptor[:2])
    last = first + (count or 1 << 16) - 1
    order = ">" if ds.original_encoding[1] is False else "<"
    if "RedPaletteColorLookupTableData" in ds:
        channels = [
            _entries(ds[f"{colour}PaletteColorLookupTableData"].value, count, order)
            for colour in ("Red", "Green", "Blue")
        ]
        colours = np.stack(channels, axis=-1)
    else:
        colours = apply_color_lut(np.arange(first, last + 1), ds)[:, :3]
    # Some writers put 8-bit entries into 16-bit ones.
    colours = (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)
    return lambda values: cast(Grey, colours[np.clip(values.astype(np.int64), first, last) - first])


def _number(value: Any) -> float | None:
    """The first of one or several numbers, or None when there is none."""
    first = value[0] if isinstance(value, MultiValue) and value else value
    try:
        number = float(first)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _by_block(convert: Callable[[Array], Grey], frame: Array, depth: tuple[int, ...] = ()) -> Grey:
    """`convert` applied to a piece at a time, so that intermediate values never take more than a block."""
    flat = frame.reshape(-1)
    result = np.empty((flat.size, *depth), np.uint8)
    for start in range(0, flat.size, _BLOCK):
        result[start : start + _BLOCK] = convert(flat[start : start + _BLOCK])
    return result.reshape(frame.shape + depth)
