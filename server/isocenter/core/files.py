"""Files that go into a request: a path, `file://` URI, `data:` URI, base64 text, Path or bytes. Read in pieces, never held whole."""

from __future__ import annotations

import base64
import binascii
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, unquote_to_bytes, urlsplit

PIECE = 1 << 20  # bytes read at a time; measured best for uploads
SHORTEST_BASE64 = 128  # characters from which text without `data:` before it may be base64; shorter is a misspelt name
EXTENSIONS = {"application/dicom": ".dcm", "application/zip": ".zip", "image/png": ".png", "image/jpeg": ".jpg"}


class UnusableFile(Exception):
    """A file argument that cannot be sent: `expected` and `repair` say what would do."""

    def __init__(self, expected: str, repair: str) -> None:
        super().__init__(expected)
        self.expected = expected
        self.repair = repair


@dataclass(frozen=True, slots=True)
class FileSource:
    """Bytes to send: `size` is known before the first read, `open()` gives a fresh reader each time (retries need that)."""

    size: int
    path: Path | None = None
    content: bytes = b""

    def open(self) -> BinaryIO:
        """A new binary reader at the start of the file."""
        return self.path.open("rb", buffering=0) if self.path else io.BytesIO(self.content)

    def head(self, count: int) -> bytes:
        """The first `count` bytes, fewer if the file is shorter."""
        with self.open() as reader:
            return reader.read(count)


def file_source(value: object, media_type: str, roots: Iterable[Path] = ()) -> FileSource:
    """The file an argument names. With `roots`, only paths below one of them. Raises UnusableFile."""
    if isinstance(value, FileSource):
        source = value
    elif isinstance(value, (bytes, bytearray)):
        source = FileSource(len(value), content=bytes(value))
    elif isinstance(value, str) and value.startswith("data:"):
        source = _from_data_uri(value)
    elif isinstance(value, (str, os.PathLike)):
        source = _from_base64(value) or _from_path(value, roots)
    else:
        raise UnusableFile("a path, a file:// URI or a data: URI", "Name the file by its path.")
    if media_type == "application/dicom" and source.head(132)[128:] != b"DICM":
        raise UnusableFile(
            "a DICOM file (PS3.10, DICM at byte 128)", "Give DICOM files only; this one has no DICOM preamble."
        )
    if media_type == "application/zip" and not source.head(4).startswith(b"PK"):
        raise UnusableFile("a ZIP archive", "Give a .zip file.")
    return source


def _from_data_uri(text: str) -> FileSource:
    head, comma, payload = text.partition(",")
    try:
        if not comma:
            raise ValueError
        content = base64.b64decode(payload, validate=True) if head.endswith(";base64") else unquote_to_bytes(payload)
    except (binascii.Error, ValueError):
        raise UnusableFile(
            "a data: URI as data:<media type>;base64,<content>", "Encode the content as base64, or give a path."
        ) from None
    return FileSource(len(content), content=content)


def _from_base64(value: str | os.PathLike[str]) -> FileSource | None:
    """The content of base64 text, when the text can be nothing else: long, no absolute path, and no file of that name."""
    if not isinstance(value, str) or len(value) < SHORTEST_BASE64 or value.startswith("/"):
        return None
    try:
        content = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
    try:
        return None if Path(value).exists() else FileSource(len(content), content=content)
    except OSError:  # too long for a name
        return FileSource(len(content), content=content)


def _from_path(value: str | os.PathLike[str], roots: Iterable[Path]) -> FileSource:
    text = os.fspath(value)
    if text.startswith("file://"):
        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost"):
            raise UnusableFile("a file on this machine", "Give a local path.")
        text = unquote(parts.path)
    missing = UnusableFile(
        "an existing file",
        "Check the path; relative paths start at the folder the server runs in. Content goes into a data: URI.",
    )
    try:
        path = Path(text).expanduser().resolve()
    except (OSError, ValueError, RuntimeError):
        raise missing from None
    allowed = [root.expanduser().resolve() for root in roots]
    if allowed and not any(path.is_relative_to(root) for root in allowed):  # whether it exists is not told
        raise UnusableFile(
            "a file below one of the folders the operator allows",
            "Move the file, or ask the operator to allow its folder.",
        )
    try:
        size = path.stat().st_size
    except (OSError, ValueError):
        raise missing from None
    if not path.is_file():
        raise UnusableFile("a file, not a folder", "Name the files one by one.")
    return FileSource(size, path=path)
