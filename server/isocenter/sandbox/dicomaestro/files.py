"""What the DICOMaestro sandbox does with DICOM: its dictionary, reading files, generating files."""

from __future__ import annotations

import re
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import PurePath
from typing import BinaryIO, cast

import anyio
import jsonschema_rs
import pydicom
from anyio import to_thread
from PIL import Image
from pydicom._dicom_dict import DicomDictionary
from starlette.datastructures import FormData, UploadFile
from starlette.responses import Response, StreamingResponse

from isocenter.sandbox.dicomaestro import live, reading, writing
from isocenter.sandbox.dicomaestro.rest import JSON, ApiError, Call, Fields
from isocenter.sandbox.state import Sandbox

MAX_PICTURE_BYTES = 5 << 20
MAX_PATTERN_CHARS = 200

_NO_PICTURE = "Upload a valid image. The file you uploaded was either not an image or a corrupted image."
_PYTHON_TYPES = {
    "DS": "pydicom.valuerep.DSfloat",
    "IS": "pydicom.valuerep.IS",
    "PN": "pydicom.valuerep.PersonName",
    "UI": "pydicom.uid.UID",
    "AT": "tuple",
    **dict.fromkeys(("FL", "FD"), "float"),
    **dict.fromkeys(("SL", "SS", "UL", "US"), "int"),
    **dict.fromkeys(("OB", "OD", "OF", "OW"), "bytes"),
}
"""The service knows no type for any other value representation, and says `str`."""
_TYPES = {entry[4]: f"<class '{_PYTHON_TYPES.get(entry[0], 'str')}'>" for entry in DicomDictionary.values()}


class FileOperations:
    """The operations by name; each takes the call and gives the answer."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.live = sandbox.options.compat_live
        # Decoding is processor work: more of it at once makes everybody slower and takes memory.
        self.workers = anyio.CapacityLimiter(2)

    async def allowed_fields(self, call: Call) -> object:
        query = call.request.query_params
        keywords = list(set(_TYPES)) if self.live else sorted(keyword for keyword in _TYPES if keyword)
        if part := query.get("fields__contains", "").strip():
            keywords = [keyword for keyword in keywords if part in keyword]
        if part := query.get("fields__startswith", "").strip():
            keywords = [keyword for keyword in keywords if keyword.startswith(part)]
        if part := query.get("fields__endswith", "").strip():
            keywords = [keyword for keyword in keywords if keyword.endswith(part)]
        if pattern := query.get("fields__regex", "").strip():
            matches = _linear_matcher(pattern)
            keywords = [keyword for keyword in keywords if matches(keyword)]
        return {"allowedFields": keywords, "dicomVersion": pydicom.__version__}

    async def field_types(self, _: Call) -> object:
        types = {keyword: kind for keyword, kind in _TYPES.items() if keyword or self.live}
        return {"requiredFieldTypes": types, "dicomVersion": pydicom.__version__}

    async def read(self, call: Call) -> object:
        form = await call.form() or FormData()
        query = call.request.query_params
        errors: dict[str, list[str]] = {}

        def given(name: str) -> str | None:
            # The guide sends these as parts of the form, the deployed service looks at the query only.
            part = None if self.live else form.get(name)
            return query.get(name, part if isinstance(part, str) else None)

        fields = list(dict.fromkeys((given("fields") or "").split(","))) if given("fields") else []
        if "" in fields:
            errors["fields"] = ["Fields contain empty values."]
        elif unknown := sorted(set(fields) - _TYPES.keys()):
            errors["fields"] = [f"Invalid fields: {', '.join(unknown)}"]
        format = given("return_format")
        if format not in (None, "gif", "png", "jpeg"):
            errors["return_format"] = [f'"{format}" is not a valid choice.']
        upload = form.get("file")
        extension = PurePath(upload.filename or "").suffix.lower() if isinstance(upload, UploadFile) else ""
        if upload is None:
            errors["file"] = ["This field may not be null."]
        elif not isinstance(upload, UploadFile):
            errors["file"] = ["The submitted data was not a file. Check the encoding type on the form."]
        elif not upload.size:
            errors["file"] = ["The submitted file is empty."]
        elif extension not in (".dcm", ".zip"):
            errors["file"] = ["Invalid file type. Only .dcm, .DCM, .zip are allowed."]
        if errors or not isinstance(upload, UploadFile):
            raise ApiError(400, errors)

        if self.live:
            answer = await to_thread.run_sync(live.read, upload.file, fields, format, limiter=self.workers)
            if answer is None:
                raise ApiError(400, {"file": ["Invalid DICOM file"]})
            return answer
        out = cast(BinaryIO, tempfile.SpooledTemporaryFile(8 << 20))  # noqa: SIM115 - closed when it has been sent
        try:
            await to_thread.run_sync(
                reading.write_answer,
                upload.file,
                extension == ".zip",
                fields,
                format or "png",
                out,
                limiter=self.workers,
            )
        except reading.Unreadable as error:
            out.close()
            raise ApiError(400, {"file": [str(error)]}) from error
        size = out.tell()
        out.seek(0)
        return StreamingResponse(_pieces(out), headers={"Content-Length": str(size)}, media_type=JSON)

    async def generate(self, call: Call) -> object:
        form = await call.form() or FormData()
        fields = Fields(form)
        file_name = fields.text("file_name", most=255)
        picture = form.get("image")
        if picture is None:
            fields.errors["image"] = ["No file was submitted."]
        elif not isinstance(picture, UploadFile):
            fields.errors["image"] = ["The submitted data was not a file. Check the encoding type on the form."]
        elif not picture.size:
            fields.errors["image"] = ["The submitted file is empty."]
        elif picture.size > MAX_PICTURE_BYTES:
            fields.errors["image"] = ["The file is too large! Maximum size is 5MB."]
        elif not await to_thread.run_sync(_is_picture, picture.file, limiter=self.workers):
            fields.errors["image"] = [_NO_PICTURE]
        elif (picture.content_type or "").partition(";")[0] not in ("image/png", "image/jpeg"):
            fields.errors["image"] = ["Unsupported format! Allowed: PNG, JPEG."]
        fields.check()
        assert file_name is not None and isinstance(picture, UploadFile)

        attributes = {
            name: value for name, value in form.items() if name not in ("file_name", "image") and isinstance(value, str)
        }
        problems = []
        if self.live:
            attributes = {name: value for name, value in attributes.items() if name in _TYPES}
            for name, value in attributes.items():
                if problem := live.refusal(name, value):
                    problems.append(f"{name}: {problem}")
        else:
            for name, value in attributes.items():
                try:
                    writing.element_value(name, value)
                except writing.BadAttribute as error:
                    problems.append(str(error))
        if problems:
            raise ApiError(400, {"non_field_errors": problems[:1] if self.live else problems})
        try:
            if self.live:
                made = await to_thread.run_sync(live.generate, picture.file, attributes, limiter=self.workers)
            else:
                made = await to_thread.run_sync(
                    writing.secondary_capture,
                    picture.file,
                    attributes,
                    self.sandbox.now(),
                    limiter=self.workers,
                )
        except writing.BadPicture as error:
            raise ApiError(400, {"image": [_NO_PICTURE]}) from error
        disposition = f'attachment; filename="{attachment_name(file_name)}"'
        return Response(made, media_type="application/dicom", headers={"Content-Disposition": disposition})


def attachment_name(file_name: str) -> str:
    """A harmless name with `.dcm` at its end: no folders, no quotes, ASCII only."""
    base = re.split(r"[/\\]", file_name)[-1]
    base = re.sub(r"[^A-Za-z0-9 ._()+-]", "_", base).removesuffix(".dcm").strip(" .")
    return f"{base or 'image'}.dcm"


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    try:
        while piece := file.read(256 << 10):
            yield piece
    finally:
        file.close()


def _is_picture(file: BinaryIO) -> bool:
    """What the framework's image field checks: that the picture opens and is whole, in any format."""
    file.seek(0)
    try:
        with Image.open(file) as image:
            image.verify()
    except Exception:  # as the framework does: decoders fail in many ways
        return False
    return True


def _linear_matcher(pattern: str) -> Callable[[str], bool]:
    """Match at the start, as the service does, but in time that grows with the text only. Raises ApiError 400.

    Python's engine takes exponential time for patterns like `(a+)+$` and cannot be stopped meanwhile. So it only judges
    the pattern, and the Rust engine of the schema validator matches. That one knows no look-around, no back-references.
    """
    try:
        if len(pattern) > MAX_PATTERN_CHARS:
            raise ValueError(f"more than {MAX_PATTERN_CHARS} characters")
        re.compile(pattern)
    except (re.error, ValueError, OverflowError, RecursionError) as error:
        raise ApiError(400, {"fields__regex": [f"Invalid regex pattern: {error}"]}) from error
    limits = jsonschema_rs.RegexOptions(size_limit=1 << 20, dfa_size_limit=1 << 20)
    schema = {"type": "string", "pattern": f"^(?:{pattern})"}
    try:
        return jsonschema_rs.validator_for(schema, pattern_options=limits).is_valid
    except jsonschema_rs.ValidationError as error:
        text = "Invalid regex pattern: look-around, back-references and very large repeats are not available here"
        raise ApiError(400, {"fields__regex": [text]}) from error
