"""How values look on the wire: OpenAPI parameter styles, form and multipart bodies. Builds bytes and streams, sends nothing."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import anyio.to_thread
import msgspec

from isocenter.core.files import PIECE, FileSource

AHEAD = 2 << 20  # bytes of a request body read before they are sent
RESERVED = ":/?#[]@!$&'()*+,;="


def dumps(value: Any) -> bytes:
    """Compact JSON."""
    return msgspec.json.encode(value)


def text(value: Any) -> str:
    """A scalar as it stands in a URL or header: JSON's spelling, strings bare, whole numbers without a fraction."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) else dumps(value).decode()


def _escaped(value: Any, reserved: bool = False) -> str:
    return quote(text(value), safe=RESERVED if reserved else "")


def _pairs(value: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(key, item) for key, item in value.items() if item is not None]


def path_value(name: str, value: Any, style: str, explode: bool) -> str:
    """A path parameter in style simple, label or matrix, percent-encoded."""
    if isinstance(value, list):
        items = [_escaped(item) for item in value]
        match style:
            case "label":
                return "." + (".".join(items) if explode else ",".join(items))
            case "matrix":
                return "".join(f";{name}={item}" for item in items) if explode else f";{name}={','.join(items)}"
        return ",".join(items)
    if isinstance(value, dict):
        joined = [(_escaped(key), _escaped(item)) for key, item in _pairs(value)]
        equals = [f"{key}={item}" for key, item in joined]
        flat = [part for pair in joined for part in pair]
        match style:
            case "label":
                return "." + (".".join(equals) if explode else ",".join(flat))
            case "matrix":
                return "".join(f";{pair}" for pair in equals) if explode else f";{name}={','.join(flat)}"
        return ",".join(equals if explode else flat)
    prefix = {"label": ".", "matrix": f";{name}="}.get(style, "")
    return prefix + _escaped(value)


def leaves_segment(value: Any) -> bool:
    """Whether a path parameter is empty or holds a dot segment, also one that appears when a server undoes the escaping of slashes."""
    items = value if isinstance(value, list) else [value]
    parts = [part for item in items for part in re.split(r"[/\\]", text(item))]
    return parts in ([], [""]) or "." in parts or ".." in parts


def query_pairs(name: str, value: Any, style: str, explode: bool, reserved: bool = False) -> list[str]:
    """A query (or form) parameter as `name=value` pieces, percent-encoded, in style form, spaceDelimited, pipeDelimited or deepObject."""
    key = quote(name, safe="")
    if isinstance(value, list):
        items = [_escaped(item, reserved) for item in value]
        if explode and style != "deepObject":
            return [f"{key}={item}" for item in items]
        separator = {"spaceDelimited": "%20", "pipeDelimited": "%7C"}.get(style, ",")
        return [f"{key}={separator.join(items)}"]
    if isinstance(value, dict):
        pairs = _pairs(value)
        if style == "deepObject":
            return [f"{key}%5B{_escaped(inner)}%5D={_escaped(item, reserved)}" for inner, item in pairs]
        if explode:
            return [f"{_escaped(inner)}={_escaped(item, reserved)}" for inner, item in pairs]
        return [f"{key}={','.join(_escaped(part, reserved) for pair in pairs for part in pair)}"]
    return [f"{key}={_escaped(value, reserved)}"]


def header_value(value: Any, explode: bool) -> str:
    """A header parameter in style simple. Raises ValueError for anything but printable ASCII (RFC 9110, section 5.5)."""
    if isinstance(value, list):
        value = ",".join(text(item) for item in value)
    elif isinstance(value, dict):
        pairs = [(text(key), text(item)) for key, item in _pairs(value)]
        value = ",".join("=".join(pair) if explode else ",".join(pair) for pair in pairs)
    result = text(value)
    if not (result.isascii() and result.isprintable()):
        raise ValueError("not printable ASCII")
    return result


def form_body(value: dict[str, Any], styles: dict[str, tuple[str, bool]]) -> bytes:
    """application/x-www-form-urlencoded; arrays and objects in the style their `encoding` asks for (form, exploded by default)."""
    pieces: list[str] = []
    for name, item in _pairs(value):
        style, explode = styles.get(name, ("form", True))
        if isinstance(item, (list, dict)):
            pieces += query_pairs(name, item, style, explode)
        else:
            pieces.append(urlencode({name: text(item)}))
    return "&".join(pieces).encode()


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart body. `filename` is ours, never the caller's path: folder names may name patients."""

    name: str
    content: bytes | FileSource
    media_type: str = ""
    filename: str = ""

    def head(self, boundary: str) -> bytes:
        """Delimiter and headers, up to the blank line."""
        disposition = f'form-data; name="{_quotable(self.name)}"'
        if self.filename:
            disposition += f'; filename="{_quotable(self.filename)}"'
        lines = [f"--{boundary}", f"Content-Disposition: {disposition}"]
        if self.media_type:
            lines.append(f"Content-Type: {self.media_type}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    @property
    def size(self) -> int:
        """Bytes of the content."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.size


def _quotable(name: str) -> str:
    # The escapes browsers use (HTML form submission): readers do not agree on backslashes.
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


class StreamBody:
    """A request body of known length that can be read again for every attempt; files are opened one at a time.

    `problem` says why it could not be read to its end, whatever the transport makes of that.
    """

    problem: str = ""

    def __init__(self, pieces: Iterable[bytes | FileSource]) -> None:
        self._pieces: Sequence[bytes | FileSource] = tuple(pieces)
        self.length = sum(len(piece) if isinstance(piece, bytes) else piece.size for piece in self._pieces)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with closing(self._read()) as chunks:
            while ahead := await anyio.to_thread.run_sync(_some, chunks):
                while ahead:
                    yield ahead.pop()  # and let go of it: its memory is used again for the next one

    def _read(self) -> Generator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, bytes):
                yield piece
                continue
            left = piece.size
            try:
                with piece.open() as reader:
                    while left:
                        chunk = reader.read(min(PIECE, left))
                        if not chunk:
                            raise OSError(0, "it became shorter while it was sent")
                        left -= len(chunk)
                        yield chunk
            except OSError as error:
                self.problem = f"a file could not be read to its end: {error.strerror}"
                raise


def _some(chunks: Iterator[bytes]) -> list[bytes]:
    """The next chunks, last one first, of `AHEAD` bytes or little more: going to a thread for each would cost a fifth of an upload."""
    ahead, size = list[bytes](), 0
    while size < AHEAD and (chunk := next(chunks, None)) is not None:
        ahead.append(chunk)
        size += len(chunk)
    ahead.reverse()
    return ahead


def multipart_body(parts: Sequence[Part], subtype: str) -> tuple[str, StreamBody]:
    """`(Content-Type value, body)` for multipart/form-data or multipart/related.

    multipart/related gets the form that strict DICOMweb servers and form parsers both read: quoted `type` of the first part, a
    Content-Disposition before each Content-Type (measured against Orthanc and Django, see the documentation of `POST /studies/`).
    """
    boundary = f"isocenter{secrets.token_hex(12)}"
    pieces: list[bytes | FileSource] = []
    for part in parts:
        pieces += [part.head(boundary), part.content, b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    kind = f'; type="{parts[0].media_type}"' if subtype == "related" and parts and parts[0].media_type else ""
    return f"multipart/{subtype}{kind}; boundary={boundary}", StreamBody(pieces)
