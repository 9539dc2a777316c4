"""How the archive writes its tables: the bytes of JSON, XML, HTML and CSV answers, with their peculiarities.

What is here was compared with the output of the archive's own formatter. A client can trip over each of these:
nulls are left out of JSON and XML, `/` is escaped in JSON, decimals keep their zeros everywhere but in JSON, XML uses
HTML's named entities, text that looks escaped is unescaped first, and text that mixes two ways of escaping ends the
document in the middle.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from html.entities import codepoint2name, name2codepoint

import orjson

Value = str | int | bool | Decimal | None
BLOCK = 256 * 1024
"""Answers are handed on in pieces of about this many bytes."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an answer: its name, the SQL that gives its value, and the Java class its XML names."""

    name: str
    sql: str
    java: str = "java.lang.String"

    def value(self, raw: object) -> Value:
        """The value as the formatter sees it, from what the database holds."""
        if raw is None:
            return None
        if self.java == "java.math.BigDecimal":
            return Decimal(str(raw)).quantize(Decimal("0.000001"))
        if self.java == "java.lang.Boolean":
            return bool(raw)
        assert isinstance(raw, (str, int))
        return raw


def content_type(format: str, columns: int) -> tuple[str, bool] | None:
    """Content type of a `format` value in capitals and whether it is a download; None for a format it has not."""
    plain = {"JSON": "application/json", "HTML": "text/html", "XML": "application/xml", "CSV": "text/csv"}
    if format in plain:
        return plain[format], False
    if format == "CSV-DOWNLOAD":
        return ("text/csv" if columns > 1 else "application/force-download"), True
    return ("text/csv", False) if format == "CSVQUOTED" and columns > 1 else None


def encode(format: str, columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> Iterator[bytes]:
    """The document in pieces; none at all when there are no rows, which the archive answers with an empty body."""
    writer = {"JSON": _json, "HTML": _html, "XML": _xml}.get(format, _csv if len(columns) > 1 else _plain_csv)
    values = ([column.value(raw) for column, raw in zip(columns, row, strict=True)] for row in rows)
    return blocks(writer([column.name for column in columns], columns, values))


def blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Join small pieces to blocks worth sending."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= BLOCK:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def json_row(names: Sequence[str], values: Sequence[Value]) -> bytes:
    """One JSON object: nulls left out, numbers without trailing zeros, every slash escaped."""
    row = {name: _number(value) for name, value in zip(names, values, strict=True) if value is not None}
    return orjson.dumps(row).replace(b"/", rb"\/")


def _number(value: Value) -> str | int | float | None:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def json_array(rows: Iterable[bytes]) -> Iterator[bytes]:
    """The objects as one array; nothing when there is none."""
    opening = b"["
    for row in rows:
        yield opening + row
        opening = b","
    if opening == b",":
        yield b"]"


def _json(names: list[str], _: Sequence[Column], rows: Iterable[list[Value]]) -> Iterator[bytes]:
    return json_array(json_row(names, row) for row in rows)


def _xml(names: list[str], columns: Sequence[Column], rows: Iterable[list[Value]]) -> Iterator[bytes]:
    opening = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?><Results>'
    for row in rows:
        yield f"{opening}<Row>".encode()
        opening = ""
        for name, column, value in zip(names, columns, row, strict=True):
            if value is None:
                continue
            try:
                text = _markup(column, value)
            except MixedEncodingError:
                return
            yield f"<{name} type='{column.java}'>{text}</{name}>".encode()
        yield b"</Row>"
    if not opening:
        yield b"</Results>"


def _html(names: list[str], columns: Sequence[Column], rows: Iterable[list[Value]]) -> Iterator[bytes]:
    head = "".join(f"<TH>{name}</TH>" for name in names)
    opening = f"<P ALIGN='center'><TABLE BORDER=1><TR>{head}</TR>"
    for row in rows:
        yield f"{opening}<TR>".encode()
        opening = ""
        for column, value in zip(columns, row, strict=True):
            try:
                text = "&nbsp;" if value is None else _markup(column, value)
            except MixedEncodingError:
                return
            yield f"<TD>{text}</TD>".encode()
        yield b"</TR>"
    if not opening:
        yield b"</TABLE></P>"


def _csv(names: list[str], _: Sequence[Column], rows: Iterable[list[Value]]) -> Iterator[bytes]:
    opening = ",".join('"' + name.replace('"', '""') + '"' for name in names) + "\n"
    for row in rows:
        cells = ['"' + ("" if value is None else _plain(value).replace('"', '""')) + '"' for value in row]
        if row[0] is None:
            # The formatter opens the first cell twice when it is null.
            cells[0] = '",""'
        yield (opening + ",".join(cells) + "\n").encode()
        opening = ""


def _plain_csv(names: list[str], _: Sequence[Column], rows: Iterable[list[Value]]) -> Iterator[bytes]:
    opening = f"{names[0]}\n"
    for row in rows:
        yield (opening + ("\n" if row[0] is None else _plain(row[0])) + "\n").encode()
        opening = ""


def _plain(value: str | int | bool | Decimal) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _markup(column: Column, value: str | int | bool | Decimal) -> str:
    # Timestamps are texts here, but not in the archive, which encodes only its strings.
    text = _plain(value)
    return html_encoded(canonical(text)) if column.java == "java.lang.String" else text


class MixedEncodingError(Exception):
    """The text is escaped twice, or in two ways; the archive's encoder refuses it and ends the document."""


_ENTITY = re.compile(r"&(?:#[xX]([0-9a-fA-F]+);?|#([0-9]+);?|([a-z0-9]+);?)")
_PERCENT = re.compile(r"%([0-9a-fA-F]{2})")
_SCRIPT = re.compile(r"\\(?:[xX]([0-9a-fA-F]{2})|[uU]([0-9a-fA-F]{4})|([0-7]{1,3})|(?![xXuU])(.))", re.DOTALL)
_SCRIPT_NAMES = {"b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r"}


def _entity(match: re.Match[str]) -> str:
    hexadecimal, decimal, name = match.groups()
    if name is None:
        code = int(hexadecimal, 16) if hexadecimal else int(decimal)
        return chr(code) if code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF else match[0]
    # A named entity needs no semicolon: the longest name that fits is taken, the rest stays.
    for length in range(len(name), 1, -1):
        if name[:length] in name2codepoint:
            rest = match[0][1 + length :]
            return chr(name2codepoint[name[:length]]) + (rest[1:] if length == len(name) else rest)
    return match[0]


def _script(match: re.Match[str]) -> str:
    two, four, octal, other = match.groups()
    if other is not None:
        return _SCRIPT_NAMES.get(other, other)
    return chr(int(octal, 8)) if octal else chr(int(two or four, 16))


def canonical(text: str) -> str:
    """Undo HTML, percent and JavaScript escapes. Raises MixedEncodingError where the archive's encoder gives up."""
    if not any(mark in text for mark in "&%\\"):
        return text
    rounds, used = 0, set()
    while True:
        before = text
        for kind, (pattern, decode) in enumerate(
            ((_ENTITY, _entity), (_PERCENT, lambda match: chr(int(match[1], 16))), (_SCRIPT, _script))
        ):
            decoded = pattern.sub(decode, text)
            if decoded != text:
                used.add(kind)
            text = decoded
        if text == before:
            break
        rounds += 1
    if rounds > 1 or len(used) > 1:
        raise MixedEncodingError
    return text


def html_encoded(text: str) -> str:
    """Every character but ASCII letters, digits, comma, dot, hyphen, underscore and space as an entity."""
    return re.sub(r"[^A-Za-z0-9,.\-_ ]", _encoded, text)


def _encoded(match: re.Match[str]) -> str:
    code = ord(match[0])
    if (code < 0x20 and match[0] not in "\t\n\r") or 0x7F <= code <= 0x9F:
        return "&#xfffd;"
    if code in codepoint2name:
        return f"&{codepoint2name[code]};"
    if code < 0x10000:
        return f"&#x{code:x};"
    # Java sees two characters where the code point lies outside the first plane.
    high, low = divmod(code - 0x10000, 0x400)
    return f"&#x{0xD800 + high:x};&#x{0xDC00 + low:x};"
