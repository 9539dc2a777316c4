"""A picture and some attributes as a DICOM Secondary Capture file, for DICOMaestro's generate operation.

The file conforms to the Secondary Capture Image IOD (PS3.3 section A.8.1) as long as the caller's own attributes do:
every type 1 and type 2 attribute of its modules is there.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps
from pydicom import Dataset, config
from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.pixels.utils import set_pixel_data
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from pydicom.valuerep import validate_value

MAX_PIXELS = 1 << 26
"""Pictures with more pixels are refused before they are unpacked."""

_SET_HERE = frozenset({
    "BitsAllocated", "BitsStored", "Columns", "ConversionType", "HighBit", "NumberOfFrames", "PhotometricInterpretation",
    "PixelRepresentation", "PlanarConfiguration", "Rows", "SOPClassUID", "SOPInstanceUID", "SamplesPerPixel",
    "SeriesInstanceUID", "SpecificCharacterSet", "StudyInstanceUID",
})  # fmt: skip

_INTEGERS = {
    "IS": (-(2**31), 2**31 - 1),
    "SL": (-(2**31), 2**31 - 1),
    "SS": (-(2**15), 2**15 - 1),
    "SV": (-(2**63), 2**63 - 1),
    "UL": (0, 2**32 - 1),
    "US": (0, 2**16 - 1),
    "UV": (0, 2**64 - 1),
}
_NUMBERS = {"DS", "FL", "FD"}
_LONG_TEXTS = {"LT", "ST", "UR", "UT"}
_TEXTS = _LONG_TEXTS | {"AE", "AS", "CS", "DA", "DT", "LO", "PN", "SH", "TM", "UC", "UI"}


class BadAttribute(ValueError):
    """An attribute that cannot be written; `str()` is `Keyword: reason` and never quotes the value."""


class BadPicture(ValueError):
    """The bytes are no PNG or JPEG picture that can be read."""


def element_value(keyword: str, text: str) -> Any:
    """The value of an attribute from its text: several values stand between backslashes, as in DICOM.

    Dates may be written 2024-10-13 and times 14:19:17; they come back in DICOM's own form. Raises BadAttribute.
    """
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise BadAttribute(f"{keyword[:64]}: Not a DICOM keyword.")
    if Tag(tag).group < 0x0008:
        raise BadAttribute(f"{keyword}: File meta and command elements are not part of an image.")
    vr = dictionary_VR(tag)
    if vr == "AT":
        raise BadAttribute(f'{keyword}: Expected a list of items but got type "str".')
    if vr == "US or SS":
        vr = "US"
    if vr not in {*_INTEGERS, *_NUMBERS, *_TEXTS}:
        raise BadAttribute(f"{keyword}: Values of this kind ({vr}) cannot be given as text.")
    pieces = [text] if vr in _LONG_TEXTS else text.split("\\")
    low, dash, high = dictionary_VM(tag).partition("-")
    most = int(high) if high.isdigit() else len(pieces) if dash else int(low)
    if text and not int(low) <= len(pieces) <= most:
        raise BadAttribute(f"{keyword}: The number of values must be {dictionary_VM(tag)}.")
    values = [_value(keyword, vr, piece) for piece in pieces] if text else []
    return values[0] if len(values) == 1 else values or None


def _value(keyword: str, vr: str, text: str) -> int | float | str:
    if vr in _INTEGERS:
        low, high = _INTEGERS[vr]
        if not re.fullmatch(r"\s*[+-]?[0-9]{1,20}\s*", text) or not low <= int(text) <= high:
            raise BadAttribute(f"{keyword}: A valid integer is required.")
        return int(text)
    if vr in _NUMBERS:
        if not re.fullmatch(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*", text):
            raise BadAttribute(f"{keyword}: A valid number is required.")
        number = float(text)
        if not math.isfinite(number) or (vr == "DS" and len(text) > 16):
            raise BadAttribute(f"{keyword}: A valid number is required.")
        return text.strip() if vr == "DS" else number
    if vr == "DA":
        digits = text.replace("-", "") if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) else text
        try:
            datetime.strptime(digits, "%Y%m%d")
        except ValueError:
            digits = ""
        if len(digits) != 8:
            raise BadAttribute(f"{keyword}: Date has wrong format. Use one of these formats instead: YYYYMMDD.")
        return digits
    if vr == "TM":
        if re.fullmatch(r"[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?", text):
            text = text.replace(":", "")
        if not re.fullmatch(r"([01][0-9]|2[0-3])([0-5][0-9](([0-5][0-9]|60)(\.[0-9]{1,6})?)?)?", text):
            raise BadAttribute(f"{keyword}: Time has wrong format. Use one of these formats instead: HHMMSS.")
        return text
    try:
        validate_value(vr, text, config.RAISE)
    except ValueError as error:
        raise BadAttribute(f"{keyword}: Not a valid value for its representation ({vr}).") from error
    allowed = "\t\r\n\f" if vr in _LONG_TEXTS else ""
    if any(ord(character) < 32 and character not in allowed for character in text):
        raise BadAttribute(f"{keyword}: Control characters are not allowed.")
    return text


def secondary_capture(picture: BinaryIO, attributes: Mapping[str, str], now: datetime) -> bytes:
    """A DICOM file with the picture's pixels, uncompressed: grey of 8 or 16 bits, everything else as RGB.

    `attributes` go from keyword to text. UIDs and what describes the pixels are set here, whatever they say. Raises
    BadAttribute and BadPicture.
    """
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    # Type 2 attributes: there, and empty until the caller knows better.
    for keyword in (
        "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime",
        "AccessionNumber", "ReferringPhysicianName", "Laterality", "PatientOrientation",
    ):  # fmt: skip
        setattr(ds, keyword, None)
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber = "OT", 1, 1
    ds.DateOfSecondaryCapture, ds.TimeOfSecondaryCapture = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    for keyword, text in attributes.items():
        value = element_value(keyword, text)
        if keyword not in _SET_HERE:
            setattr(ds, keyword, value)
    ds.ConversionType = "WSD"
    ds.SOPClassUID = SecondaryCaptureImageStorage
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(ds, keyword, generate_uid(prefix=None))
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian

    size = picture.seek(0, io.SEEK_END)
    picture.seek(0)
    try:
        with Image.open(picture, formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MAX_PIXELS or max(image.size) > 0xFFFF:
                raise BadPicture("the picture is too large")
            jpeg = image.format == "JPEG"
            image.load()
            turned = ImageOps.exif_transpose(image)
            if turned.mode == "I" or turned.mode.startswith("I;16"):
                pixels = np.asarray(turned).astype(np.uint16)
            else:
                pixels = np.asarray(turned.convert("L" if turned.mode in ("1", "L", "LA") else "RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadPicture("the picture cannot be read") from error
    set_pixel_data(ds, pixels, "MONOCHROME2" if pixels.ndim == 2 else "RGB", 8 * pixels.dtype.itemsize)
    if jpeg:
        ds.LossyImageCompression, ds.LossyImageCompressionMethod = "01", "ISO_10918_1"
        ds.LossyImageCompressionRatio = f"{pixels.nbytes / size:.4g}"
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()
