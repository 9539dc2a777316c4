"""Incremental splitter for ``multipart/related`` and ``multipart/form-data`` bodies.

Web frameworks read only form-data, most of them drop parts without ``Content-Disposition``, and some spool every part
before the application sees a byte. DICOM uploads come in both framings and are large, so the sandbox splits them itself:
feed chunks as they arrive, get events back, never hold more than one chunk and one header block.

The grammar is RFC 2046 section 5.1.1, read strictly where leniency would lose data silently (line ends must be CRLF, the
closing delimiter must be there) and openly where real clients differ: preamble or leading CRLF, no CRLF after the closing
delimiter, any order and quoting of the parameters, unquoted ``type=application/dicom`` (which RFC 2045 forbids and
toolbelt users send), header names in any case, parts without ``Content-Disposition`` or without any header.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# RFC 2046: bchars, 1 to 70 of them, the last one not a space.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PARAMETER = re.compile(r'\s*;\s*(?:([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"\s*|([^;"]*))(?=;|\Z)|(?=;|\Z))', re.DOTALL)


class MalformedMultipart(ValueError):
    """The body or its Content-Type breaks the multipart grammar or a limit; ``str()`` says how, and never quotes data."""


@dataclass(frozen=True, slots=True)
class PartStart:
    """A part begins: its headers (names in lower case, a repeated header keeps its last value) and what they say.

    ``name`` and ``filename`` come from Content-Disposition and are None where it does not give them;
    ``content_type`` is the media type in lower case without parameters, or "" where the part has none.
    """

    headers: dict[str, str]
    name: str | None
    filename: str | None
    content_type: str


@dataclass(frozen=True, slots=True)
class PartData:
    """Bytes of the current part: a view into the fed chunk, valid as long as the caller keeps it."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The current part is complete: its delimiter was seen."""


Event = PartStart | PartData | PartEnd


def parse_header_value(value: str) -> tuple[str, dict[str, str]]:
    """Split ``main; a=b; c="d"`` into the main value (lower case) and its parameters (names in lower case).

    Quoted values lose their quotes and the escapes ``\\"`` and ``\\\\``; unquoted ones run up to the next semicolon, so
    that ``type=application/dicom`` is read although "/" needs quotes. Raises `MalformedMultipart` for anything else and
    for a parameter given twice.
    """
    main, semicolon, rest = value.partition(";")
    rest, position, parameters = semicolon + rest, 0, dict[str, str]()
    while position < len(rest):
        found = _PARAMETER.match(rest, position)
        if found is None:
            raise MalformedMultipart("header parameters cannot be parsed")
        position = found.end()
        if found[1] is None:  # an empty parameter, as in a trailing semicolon
            continue
        name = found[1].lower()
        if name in parameters:
            raise MalformedMultipart("a header parameter is given twice")
        quoted = found[2]
        parameters[name] = found[3].strip() if quoted is None else re.sub(r'\\(["\\])', r"\1", quoted)
    return main.strip().lower(), parameters


class Splitter:
    """Splits one multipart body that arrives in chunks.

    ``content_type`` is the request's Content-Type header; it must be ``multipart/<anything>`` with a boundary. Call
    `feed` for every chunk in order, then `close` once. After an error the splitter must not be used again.
    Memory: one chunk, or one header block of at most ``max_header_bytes``, plus one delimiter.
    """

    def __init__(self, content_type: str, *, max_parts: int = 10_000, max_header_bytes: int = 16_384) -> None:
        media_type, parameters = parse_header_value(content_type)
        if not media_type.startswith("multipart/"):
            raise MalformedMultipart("the body is not multipart")
        boundary = parameters.get("boundary")
        if not boundary:
            raise MalformedMultipart("the Content-Type has no boundary")
        if _BOUNDARY.fullmatch(boundary) is None:
            raise MalformedMultipart("the boundary is not 1 to 70 characters of RFC 2046")
        self.media_type = media_type
        self.parameters = parameters
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._max_parts = max_parts
        self._max_header_bytes = max_header_bytes
        self._parts = 0
        self._state = "preamble"
        # A delimiter starts with the CRLF that ends the line before it. At the start of the body there is no such line,
        # and after the headers it is the blank line itself, if the part is empty. Both are one case of the search below
        # once a CRLF stands before the bytes; `_borrowed` of the pending bytes belong to that CRLF and are never data.
        self._pending = b"\r\n"
        self._borrowed = 2

    def feed(self, chunk: bytes) -> list[Event]:
        """Take the next bytes of the body and return the events they complete, in order; data as views, not copies.

        Raises `MalformedMultipart` for a broken delimiter or header, a header block that is too large, too many parts.
        """
        events: list[Event] = []
        if self._state == "end":  # RFC 2046: what follows the closing delimiter is an epilogue, to be ignored
            return events
        body = self._pending + chunk if self._pending else chunk
        view = memoryview(body)
        position = 0
        while True:
            if self._state in ("data", "preamble"):
                found = body.find(self._delimiter, position)
                stop = self._data_end(body, position) if found < 0 else found
                if self._state == "data" and stop > position + self._borrowed:
                    events.append(PartData(view[position + self._borrowed : stop]))
                if stop > position:
                    self._borrowed = 0
                position = stop
                if found < 0:
                    break
                if self._state == "data":
                    events.append(PartEnd())
                position += len(self._delimiter)
                self._state, self._borrowed = "delimiter", 0
            if self._state == "delimiter":
                if body.startswith(b"--", position):
                    self._state, position = "end", len(body)
                    break
                line_end = body.find(b"\r\n", position)
                padding = body[position : line_end if line_end >= 0 else len(body)]
                if len(padding) > self._max_header_bytes:
                    raise MalformedMultipart("a delimiter line is too long")
                if line_end >= 0 and not padding.strip(b" \t"):
                    self._state, position = "headers", line_end
                elif line_end < 0 and (padding == b"-" or not padding.rstrip(b"\r").strip(b" \t")):
                    break
                else:
                    raise MalformedMultipart("a delimiter is followed by neither a line end nor --")
            if self._state == "headers":
                blank = body.find(b"\r\n\r\n", position)
                if (blank if blank >= 0 else len(body)) - position > self._max_header_bytes:
                    raise MalformedMultipart(f"a part has more than {self._max_header_bytes} bytes of headers")
                if blank < 0:
                    break
                self._parts += 1
                if self._parts > self._max_parts:
                    raise MalformedMultipart(f"the body has more than {self._max_parts} parts")
                events.append(_part_start(body[position:blank]))
                self._state, position, self._borrowed = "data", blank + 2, 2
        self._pending = body[position:]
        return events

    def close(self) -> None:
        """Say that the body is over. Raises `MalformedMultipart` unless the closing delimiter was seen."""
        if self._state == "preamble":
            raise MalformedMultipart("the boundary does not occur in the body")
        if self._state != "end":
            raise MalformedMultipart("the closing delimiter is missing: the body was cut off")

    def _data_end(self, body: bytes, start: int) -> int:
        """Where the data that surely is data ends, if no whole delimiter follows `start`.

        A boundary holds no CR, so a delimiter cut by the end of the chunk can only start at the last CR.
        """
        last = body.rfind(b"\r", max(start, len(body) - len(self._delimiter) + 1))
        return last if last >= 0 and self._delimiter.startswith(body[last:]) else len(body)


def _part_start(block: bytes) -> PartStart:
    """Parse one header block: lines that each start with CRLF, without the blank line."""
    try:
        text = block.decode("utf-8")
    except UnicodeDecodeError:
        text = block.decode("latin-1")
    headers: dict[str, str] = {}
    for line in re.sub(r"\r\n[ \t]+", " ", text).split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if not colon or _TOKEN.fullmatch(name) is None or re.search(r"[\r\n\0]", value):
            raise MalformedMultipart("a part header cannot be parsed")
        headers[name.lower()] = value.strip(" \t")
    disposition = parse_header_value(headers.get("content-disposition", ""))[1]
    content_type = parse_header_value(headers.get("content-type", ""))[0]
    return PartStart(headers, disposition.get("name"), disposition.get("filename"), content_type)
