"""Bytes from the wire to memory or disk: bounded, hashed while they arrive, visible under their name only when whole."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, cast

import anyio.to_thread

from isocenter.core.errors import StorageError, TransportError
from isocenter.core.findings import Finding
from isocenter.core.result import SavedFile

if TYPE_CHECKING:
    import httpx

BATCH = 1 << 20  # bytes gathered before a write leaves the event loop


class Stream:
    """A binary answer while it arrives: iterate for its pieces, once. What is iterated over is not kept.

    `media_type` is what the bytes really are, `total` the announced length in bytes or None, `findings` what was odd about the
    head where the check only reports. The iteration raises TransportError for a broken answer and one longer than the limit.
    """

    def __init__(
        self,
        head: bytes,
        rest: AsyncIterator[bytes],
        *,
        status: int,
        media_type: str,
        total: int | None,
        limit: int,
        findings: tuple[Finding, ...],
        failed: Callable[[httpx.RequestError], TransportError],
        held: AsyncExitStack,
    ) -> None:
        self.status = status
        self.media_type = media_type
        self.total = total
        self.findings = findings
        self._head, self._rest = head, rest
        self._limit, self._failed, self._held = limit, failed, held

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._held.aclose()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        import httpx

        size, piece, self._head = len(self._head), self._head, b""
        try:
            if piece:
                yield piece
            async for piece in self._rest:
                size += len(piece)
                if size > self._limit:
                    raise TransportError(
                        f"The answer is larger than {_words(self._limit)}, the most that may be saved.", retryable=False
                    )
                yield piece
        except httpx.RequestError as error:
            raise self._failed(error) from error


async def decoded(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """The body without its content encoding, in pieces of at most 1 MiB however well it was compressed.

    Raises httpx.DecodingError for an encoding nobody asked for, broken data, and data that ends too early.
    """
    import httpx

    pieces = cast("httpx.AsyncByteStream", response.stream)
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        async for piece in pieces:
            yield piece
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise httpx.DecodingError("an encoding that was not asked for")
    unpack, begun = zlib.decompressobj(zlib.MAX_WBITS | 32), False  # gzip or zlib, as the data says
    async for piece in pieces:
        try:
            if piece and not begun and encoding == "deflate" and piece[0] & 15 != 8:
                unpack = zlib.decompressobj(-zlib.MAX_WBITS)  # some services leave out the zlib header
            begun = begun or bool(piece)
            while piece:
                yield unpack.decompress(piece, BATCH)
                piece = unpack.unconsumed_tail
        except zlib.error as error:
            raise httpx.DecodingError("broken data") from error
    if begun and not unpack.eof:
        raise httpx.DecodingError("the data ends too early")


async def collect_bytes(pieces: AsyncIterator[bytes], limit: int, what: str) -> bytes:
    """The whole body. Raises TransportError when it is longer than `limit` bytes."""
    parts: list[bytes] = []
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > limit:
            raise TransportError(
                f"{what}: the answer is larger than {_words(limit)}. Narrow the request.", retryable=False
            )
        parts.append(piece)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _words(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size} bytes"


async def save(
    pieces: AsyncIterator[bytes],
    target: Path,
    name: str,
    media_type: str,
    limit: int,
    total: int | None,
    progress: Callable[[int, int | None], Awaitable[None]] | None,
    accept: Callable[[bytes, int, Path], bool],
) -> SavedFile:
    """Stream a body to disk.

    `target` is a folder (the file gets `name`, with a number if that is taken) or, when it has a suffix such as `.zip` and is no
    folder, the file itself. The bytes go to a hidden `.part` file first; `accept(first bytes, size, path)` decides whether it may
    appear under its name. Raises StorageError and TransportError; no partial file is left behind, whatever happens.
    """
    # The last part of a UID is no suffix: `downloads/1.2.840` is a folder.
    folder = target.parent if target.suffix.strip(".0123456789") and not target.is_dir() else target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary_name = tempfile.mkstemp(prefix=".", suffix=".part", dir=folder)
    except OSError as error:
        raise StorageError(f"Cannot write to the download folder: {error.strerror}.") from error
    temporary = Path(temporary_name)
    digest, size, head = hashlib.sha256(), 0, b""
    batch = bytearray()

    def write(chunk: bytes) -> None:
        digest.update(chunk)
        view = memoryview(chunk)
        while view:
            view = view[os.write(handle, view) :]

    try:
        try:
            async for piece in pieces:
                if len(head) < 132:
                    head = (head + piece)[:132]
                size += len(piece)
                if size > limit:
                    raise TransportError(
                        f"The answer is larger than {_words(limit)}, the most that may be saved.", retryable=False
                    )
                batch += piece
                if len(batch) >= BATCH:
                    await anyio.to_thread.run_sync(write, bytes(batch))
                    batch.clear()
                    if progress:
                        await progress(size, total)
            await anyio.to_thread.run_sync(write, bytes(batch))
            await anyio.to_thread.run_sync(os.fsync, handle)
        finally:
            os.close(handle)
        if progress:
            await progress(size, total or size)
        if not accept(head, size, temporary):
            temporary.unlink()
            return SavedFile(Path(), size, digest.hexdigest(), media_type)
        path = _publish(temporary, target if folder != target else folder / name, replace=folder != target)
    except OSError as error:
        raise StorageError(f"The answer could not be saved: {error.strerror}.") from error
    finally:
        temporary.unlink(missing_ok=True)
    return SavedFile(path, size, digest.hexdigest(), media_type)


def _publish(temporary: Path, path: Path, *, replace: bool) -> Path:
    """Give a finished file its name in one step: the asked-for name exactly, or a free one beside files already there."""
    if replace:
        return temporary.replace(path)
    for number in range(1, 10_000):
        candidate = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
        try:
            os.link(temporary, candidate)  # fails when the name exists, also when two downloads finish at once
        except FileExistsError:
            continue
        except OSError:  # file systems without hard links
            if candidate.exists():
                continue
            return temporary.replace(candidate)
        return candidate
    raise FileExistsError(17, "too many files of this name")
