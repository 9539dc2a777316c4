"""What the deployed DICOMaestro does and its guide does not say, copied on purpose for `compat_live`.

Nothing here is worth imitating. Errors that the service does not catch are not caught either: they become its 500 page.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from typing import Any, BinaryIO

import numpy as np
import pydicom
from PIL import Image
from pydicom import Dataset
from pydicom.datadict import dictionary_VR
from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage, generate_uid

_MOMENTS: dict[str, tuple[str, Callable[[str], object], str]] = {
    "DA": ("Date", date.fromisoformat, "YYYY-MM-DD"),
    "DT": ("Datetime", datetime.fromisoformat, "YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]"),
    "TM": ("Time", time.fromisoformat, "hh:mm[:ss[.uuuuuu]]"),
}


def read(upload: BinaryIO, fields: Sequence[str], format: str | None) -> dict[str, Any] | None:
    """The header as text and the raw pixels as images; None when the upload is no DICOM file, as no archive is.

    A single grey image comes as its first row, a colour image as one strip a row. There is no window, and JPEG is
    answered as PNG. Pixels that pydicom and Pillow cannot decode raise whatever they raise.
    """
    try:
        ds = pydicom.dcmread(upload)
    except InvalidDicomError:
        return None
    if fields:
        answer: dict[str, Any] = {keyword: str(ds.get(keyword, "Unknown")) for keyword in fields}
    else:
        answer = {element.keyword: str(element.value) for element in ds if element.keyword and element.value}
    if not ds.get("PixelData"):
        return answer
    syntax = ds.file_meta.TransferSyntaxUID
    plugin = "" if not syntax.is_encapsulated else "pydicom" if syntax == RLELossless else "pillow"
    pixels = pixel_array(ds, decoding_plugin=plugin)
    if pixels.ndim == 3 and format == "gif" and len(pixels) > 1:
        file = io.BytesIO()
        first, *others = (Image.fromarray(np.clip(frame, 0, 255).astype(np.uint8)) for frame in pixels)
        first.save(file, "GIF", save_all=True, append_images=others, duration=100, loop=0)
        return answer | {"ImageFormat": "GIF", "Images": [base64.b64encode(file.getvalue()).decode()]}
    if pixels.ndim == 2 or len(pixels) == 1:
        pixels = pixels[:1]
    return answer | {"ImageFormat": "PNG", "Images": [_png(frame) for frame in pixels]}


def _png(pixels: np.ndarray[Any, Any]) -> str:
    if pixels.dtype.kind == "i":
        # PNG has no negative values; the service's Pillow cut them off.
        pixels = np.clip(pixels, 0, 0xFFFF).astype(np.uint16)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def refusal(keyword: str, text: str) -> str | None:
    """What the service says about a value of an attribute, or None when it takes it. Raises KeyError where it crashes.

    Texts may have 255 characters whatever the attribute allows; dates and times are checked but not rewritten.
    """
    vr = dictionary_VR(keyword)
    if vr in {"AE", "AS", "CS", "LO", "LT", "PN", "SH", "ST", "UI", "UT"}:
        return "Ensure this field has no more than 255 characters." if len(text) > 255 else None
    if vr in {"IS", "SL", "SS", "UL", "US"}:
        return None if re.fullmatch(r"\s*-?[0-9]{1,18}\s*", text) else "A valid integer is required."
    if vr in {"DS", "FL", "FD"}:
        try:
            float(text)
        except ValueError:
            return "A valid number is required."
        return None
    if vr in _MOMENTS:
        kind, parse, shape = _MOMENTS[vr]
        try:
            parse(text)
        except ValueError:
            return f"{kind} has wrong format. Use one of these formats instead: {shape}."
        return None
    if vr == "AT":
        return 'Expected a list of items but got type "str".'
    if vr in {"OB", "OD", "OF", "OW"}:
        return "The submitted data was not a file. Check the encoding type on the form."
    raise KeyError(vr)


def generate(picture: BinaryIO, attributes: Mapping[str, str]) -> bytes:
    """A file that few readers accept: grey whatever the picture, no media storage class, the class UID as instance UID."""
    ds = Dataset()
    for keyword, text in attributes.items():
        setattr(ds, keyword, text)
    ds.SOPClassUID = SecondaryCaptureImageStorage
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(ds, keyword, generate_uid())
    picture.seek(0)
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("L"))
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.RescaleSlope, ds.RescaleIntercept = 1, 0
    ds.PixelData = pixels.tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage
    ds.preamble = bytes(128)
    file = io.BytesIO()
    pydicom.dcmwrite(file, ds)
    return file.getvalue()
