"""A ZIP as it arrives: every member checked (name, size, CRC-32) while its bytes go by, the whole archive checked at its end.

The archive never exists on disk or in memory. `ZipReader` is fed pieces of any size and hands each member to a sink; it knows
nothing of networks and files. Own code because the library for it (stream-unzip 0.0.101) can only use zlib, so that unpacking and hashing
take 1.4 times the processor time they take with isal (tests/bench/bench_download.py), because it hands out unsafe and repeated
names as they are, and does not look at the directory at the end. PKWARE APPNOTE 6.3 is the source of the layout.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from isocenter.core import IsocenterError

_codec: Any
try:
    from isal import isal_zlib as _codec  # from 1.9 on; earlier ones lose bytes behind the end of a member
except ImportError:  # no wheel for this machine
    _codec = zlib

SLICE = 1 << 17  # bytes of input inflated at once; what follows a member's end is copied, so not much more
PIECE = 1 << 19  # most bytes of output handed on at once, however well they were compressed
UNKNOWN = 0xFFFFFFFF  # "the number is in the 64-bit field"
RATIO = 200  # most bytes out for a byte in, where no size was declared: a bomb, not an image
LOCAL, DESCRIPTOR, ENTRY = b"PK\x03\x04", b"PK\x07\x08", b"PK\x01\x02"
END64, LOCATOR64, END = b"PK\x06\x06", b"PK\x06\x07", b"PK\x05\x06"
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
UNPRINTABLE = re.compile(r'[\x00-\x1f\x7f\\:<>"|?*]')


class BadArchive(IsocenterError):
    """The archive is cut short or damaged (`retryable`: another try may bring a good one), or not one to be unpacked."""

    code = "bad_archive"

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.retryable = retryable


class Sink(Protocol):
    """Where members go, in order: `begin(name)`, any number of `write(bytes)`, `end()` once size and checksum are right."""

    def begin(self, name: str) -> None: ...

    def write(self, data: bytes) -> None: ...

    def end(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ZipLimits:
    """Most members and most unpacked bytes. `size` None: `RATIO` times what arrived (and 64 MiB that need no reason)."""

    members: int = 1_000_000
    size: int | None = None


@dataclass(frozen=True, slots=True)
class _Member:
    offset: int
    method: int
    crc: int
    packed: int
    size: int


def refuse_name(name: str) -> str:
    """Why a member's name is not safe to use below a folder, or an empty text."""
    parts = name.split("/")
    if not name or name.startswith("/") or any(part in ("", ".", "..") for part in parts):
        return "leads out of its folder or is empty"
    if UNPRINTABLE.search(name) or any(part.endswith((" ", ".")) for part in parts):
        return "has characters that file systems do not take"
    if any(DEVICES.fullmatch(part) for part in parts):
        return "is the name of a device"
    return "is too long" if len(name.encode("utf-8", "surrogatepass")) > 240 else ""


class ZipReader:
    """Feed it the archive, then call `close()`. Both raise BadArchive, and what `sink` raises.

    Refused, for good: unsafe and repeated names (also in another case), links, encryption, methods other than stored and deflated,
    more members or bytes than `limits` allow. Noticed: bytes that do not match checksum and sizes, a directory that does not
    match the members, anything missing at the end or following it.
    """

    def __init__(self, sink: Sink, limits: ZipLimits = ZipLimits()) -> None:
        self._sink = sink
        self._limits = limits
        self._members: dict[str, _Member] = {}
        self._folded: set[str] = set()
        self._data = memoryview(b"")
        self._at = 0  # in _data
        self._arrived = 0  # bytes fed before _data
        self._written = 0
        self._whole = False
        self._steps = self._archive()
        next(self._steps)

    def feed(self, data: bytes) -> None:
        """The next bytes of the archive."""
        self._arrived += len(self._data)
        self._data, self._at = memoryview(data), 0
        if not self._whole:
            with suppress(StopIteration):
                self._steps.send(None)
        if self._whole and self._at < len(self._data):
            raise BadArchive("The ZIP archive goes on after its end.")

    def close(self) -> None:
        """Say that no more bytes come. Raises BadArchive when the archive is not whole."""
        if not self._whole:
            raise BadArchive(
                f"The ZIP archive was cut short after {len(self._members)} whole files ({self._arrived + len(self._data)} bytes)."
            )

    # Everything below is one parser that stops (`yield`) where it needs more bytes.

    def _take(self, count: int) -> Generator[None, None, bytes]:
        taken = b""
        while len(taken) < count:
            if self._at == len(self._data):
                yield
            piece = self._data[self._at : self._at + count - len(taken)]
            self._at += len(piece)
            taken += piece
        return taken

    def _archive(self) -> Generator[None]:
        yield
        mark = yield from self._take(4)
        while mark == LOCAL:
            yield from self._member(self._arrived + self._at - 4)
            mark = yield from self._take(4)
        directory = self._arrived + self._at - 4
        listed = 0
        while mark == ENTRY:
            yield from self._entry()
            listed += 1
            mark = yield from self._take(4)
        length = self._arrived + self._at - 4 - directory
        count, size, start = 0xFFFF, UNKNOWN, UNKNOWN
        if mark == END64:
            (rest,) = struct.unpack("<Q", (yield from self._take(8)))
            if not 44 <= rest <= 4096:
                raise BadArchive("The ZIP archive has a broken end.")
            count, size, start = struct.unpack("<QQQ", (yield from self._take(rest))[20:44])
            if (yield from self._take(20))[:4] != LOCATOR64:
                raise BadArchive("The ZIP archive has a broken end.")
            mark = yield from self._take(4)
        if mark != END:
            raise BadArchive("The ZIP archive has something other than files and a directory in it.")
        short = struct.unpack("<HIIH", (yield from self._take(18))[6:18])
        count = count if short[0] == 0xFFFF and count != 0xFFFF else short[0]
        size = size if short[1] == UNKNOWN else short[1]
        start = start if short[2] == UNKNOWN else short[2]
        yield from self._take(short[3])  # the comment
        if (listed, length, directory) != (count, size, start) or listed != len(self._members):
            raise BadArchive(
                f"The directory of the ZIP archive does not match its {len(self._members)} files: it lists {listed} and counts {count}."
            )
        self._whole = True

    def _member(self, offset: int) -> Generator[None]:
        _, flags, method, _, crc, packed, size, name_length, extra_length = struct.unpack(
            "<HHHIIIIHH", (yield from self._take(26))
        )
        name = _name((yield from self._take(name_length)), flags)
        extra = yield from self._take(extra_length)
        wide = _field(extra, 1)
        known = not flags & 8
        if known and (packed == UNKNOWN or size == UNKNOWN):
            if wide is None or len(wide) < 16:
                raise BadArchive("The ZIP archive leaves out the size of a file.")
            size, packed = struct.unpack("<QQ", wide[:16])
        self._admit(name, flags, method, known, len(self._members))
        self._sink.begin(name)
        begun, before = self._arrived + self._at, self._written
        found = yield from (self._inflated() if method == 8 else self._copied(packed))
        seen = self._arrived + self._at - begun
        written = self._written - before
        if not known:
            crc, packed, size = yield from self._descriptor(found, seen, written, wide is not None)
        if (found, seen, written) != (crc, packed, size):
            raise BadArchive(f"File {len(self._members) + 1} of the ZIP archive does not match its checksum and size.")
        self._members[name] = _Member(offset, method, crc, packed, size)
        self._sink.end()

    def _admit(self, name: str, flags: int, method: int, known: bool, index: int) -> None:
        problem = refuse_name(name)
        if not problem and name.casefold() in self._folded:
            problem = "appears twice"
        if problem:
            raise BadArchive(f"Nothing is unpacked: the name of file {index + 1} {problem}.", retryable=False)
        self._folded.add(name.casefold())
        if flags & 0x2041:
            raise BadArchive("The ZIP archive is encrypted.", retryable=False)
        if method not in (0, 8) or (method == 0 and not known):
            raise BadArchive(f"File {index + 1} is packed in a way that cannot be read as it arrives.", retryable=False)
        if index >= self._limits.members:
            raise BadArchive(f"The ZIP archive has more than {self._limits.members} files.", retryable=False)

    def _inflated(self) -> Generator[None, None, int]:
        unpack, crc = _codec.decompressobj(-zlib.MAX_WBITS), 0
        while not unpack.eof:
            if self._at == len(self._data):
                yield
            piece: Any = self._data[self._at : self._at + SLICE]
            self._at += len(piece)
            try:
                while piece:
                    if data := unpack.decompress(piece, PIECE):
                        crc = _codec.crc32(data, crc)
                        self._hand_on(data)
                    piece = unpack.unconsumed_tail
            except _codec.error as error:
                raise BadArchive(f"File {len(self._members) + 1} of the ZIP archive is damaged.") from error
        rest = unpack.unused_data
        if len(rest) > self._at:  # some of it came with an earlier piece
            self._arrived -= len(rest) - self._at
            self._data, self._at = memoryview(rest + self._data[self._at :]), 0
        else:
            self._at -= len(rest)
        return crc

    def _copied(self, size: int) -> Generator[None, None, int]:
        crc = 0
        while size:
            if self._at == len(self._data):
                yield
            data = bytes(self._data[self._at : self._at + min(size, PIECE)])
            self._at += len(data)
            size -= len(data)
            crc = _codec.crc32(data, crc)
            self._hand_on(data)
        return crc

    def _hand_on(self, data: bytes) -> None:
        self._written += len(data)
        most = self._limits.size
        if self._written > ((64 << 20) + RATIO * (self._arrived + self._at) if most is None else most):
            raise BadArchive("The ZIP archive unpacks to more than it should hold.", retryable=False)
        self._sink.write(data)

    def _descriptor(self, crc: int, packed: int, size: int, wide: bool) -> Generator[None, None, tuple[int, int, int]]:
        """Checksum and sizes after the data: with or without a mark, and with 64-bit sizes where they do not fit into 32."""
        # Java writes 64-bit sizes without announcing them in the header, but only where it must.
        form = "<IQQ" if wide or packed >= UNKNOWN or size >= UNKNOWN else "<III"
        length = struct.calcsize(form)
        found = yield from self._take(length)
        if found[:4] == DESCRIPTOR and struct.unpack(form, found) != (crc, packed, size):
            found = found[4:] + (yield from self._take(4))
        crc, packed, size = struct.unpack(form, found)
        return crc, packed, size

    def _entry(self) -> Generator[None]:
        fields = struct.unpack("<HHHHIIIIHHHHHII", (yield from self._take(42)))
        (
            _,
            _,
            flags,
            method,
            _,
            crc,
            packed,
            size,
            name_length,
            extra_length,
            comment_length,
            _,
            _,
            attributes,
            offset,
        ) = fields
        name = _name((yield from self._take(name_length)), flags)
        wide = _field((yield from self._take(extra_length)), 1) or b""
        yield from self._take(comment_length)
        numbers = [size, packed, offset]
        for index, number in enumerate(numbers):
            if number == UNKNOWN and len(wide) >= 8:
                numbers[index], wide = int.from_bytes(wide[:8], "little"), wide[8:]
        if attributes >> 28 == 0xA:
            raise BadArchive("The ZIP archive holds a link.", retryable=False)
        entry = _Member(numbers[2], method, crc, numbers[1], numbers[0])
        if self._members.get(name) != entry:
            raise BadArchive("The directory of the ZIP archive does not match its files.")


def _name(raw: bytes, flags: int) -> str:
    return raw.decode("utf-8", "replace") if flags & 0x800 else raw.decode("cp437")


def _field(extra: bytes, wanted: int) -> bytes | None:
    """One field of a header's extra data."""
    while len(extra) >= 4:
        kind, length = struct.unpack("<HH", extra[:4])
        if kind == wanted:
            return extra[4 : 4 + length]
        extra = extra[4 + length :]
    return None
