"""What the tests of transfers share: small DICOM files, ZIPs made as the archive makes them, and an archive that fails on demand."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from isocenter.core import Limits
from isocenter.sandbox.faults import SERVICES, switch
from isocenter.sandbox.state import Sandbox
from isocenter_clients.tcia import TciaClient

SERIES, STUDY = "2.25.1001", "2.25.1000"


def dicom(
    sop: str, series: str = SERIES, *, syntax: str = ExplicitVRLittleEndian, pad: int = 600, **more: Any
) -> bytes:
    """One Part 10 file of about `pad` bytes beyond its header."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, sop
    dataset.Modality, dataset.PatientID = "CT", "PAT-0001"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, series
    for name, value in more.items():
        setattr(dataset, name, value)
    # Bytes that deflate cannot shrink, so that cutting a ZIP anywhere cuts a file.
    dataset.add_new(
        0x7FE00010, "OW", b"".join(hashlib.sha512(f"{sop}{n}".encode()).digest() for n in range(pad // 64 + 1))
    )
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.UID(sop)
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


class _Wire(io.RawIOBase):
    """Where nothing can be sought, so that sizes follow the data, as in the archive's ZIPs."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        self.data += piece
        return len(piece)


def zipped(members: Iterable[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED, *, large: bool = False) -> bytes:
    """A ZIP whose sizes stand after the data."""
    wire = _Wire()
    with zipfile.ZipFile(wire, "w", method) as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            with archive.open(info, "w", force_zip64=large) as file:
                file.write(data)
    return bytes(wire.data)


class Body(httpx.AsyncByteStream):
    """An answer in pieces; breaks off with an error at its end if it is `torn`."""

    def __init__(self, data: bytes, torn: bool = False) -> None:
        self._data, self._torn = data, torn

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self._data), 4096):
            yield self._data[at : at + 4096]
        if self._torn:
            raise httpx.ReadError("connection lost")


@dataclass
class Archive(httpx.AsyncBaseTransport):
    """NBIA v4 with one series. `zips` are what getImage does in turn, the last one for ever: `ok`, `cut:N` (the connection breaks after
    N bytes), `short:N` (a proper end after N bytes), `html`, `502`, `empty`, `lost:N` (N files missing in a valid ZIP), `md5` (a wrong
    hash in the list), `stranger` (a file of another series), `noise` (a file that is no DICOM).
    """

    images: int = 5
    zips: list[str] = field(default_factory=lambda: ["ok"])
    gone: tuple[str, ...] = ()  # SOPInstanceUIDs that getSingleImage cannot find
    row: dict[str, Any] = field(default_factory=dict)
    lists_none: bool = False
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.files = {f"2.25.2{n:03d}": dicom(f"2.25.2{n:03d}") for n in range(self.images)}

    @property
    def facts(self) -> dict[str, Any]:
        size = sum(len(data) for data in self.files.values())
        row: dict[str, Any] = {
            "SeriesInstanceUID": SERIES,
            "StudyInstanceUID": STUDY,
            "Collection": "FAKE",
            "PatientID": "PAT-0001",
        }
        row |= {"ImageCount": self.images, "FileSize": size, "Authorized": 1, "LicenseName": "CC BY 4.0"}
        return {**row, "DataDescriptionURI": "https://doi.org/10.0000/FAKE", **self.row}

    @property
    def md5(self) -> str:
        """What getMD5Hierarchy would say."""
        return hashlib.md5(
            "".join(sorted(hashlib.md5(data).hexdigest() for data in self.files.values())).encode()
        ).hexdigest()

    def client(self, **options: Any) -> TciaClient:
        return TciaClient("http://archive.test/v4", transport=self, limits=Limits(tries=1), **options)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        name, params = request.url.path.rpartition("/")[2], request.url.params
        self.asked.append(name)
        match name:
            case "getSeries":
                rows = [self.facts] if params["SeriesInstanceUID"] == SERIES else []
                return httpx.Response(200, json=rows) if rows else httpx.Response(200)
            case "getSeriesMetadata":
                wanted = request.content.decode()
                return httpx.Response(200, json=[self.facts] if SERIES in wanted else [])
            case "getSOPInstanceUIDs":
                rows = [] if self.lists_none else [{"SOPInstanceUID": uid} for uid in self.files]
                return httpx.Response(200, json=rows)
            case "getSingleImage":
                if params["SOPInstanceUID"] in self.gone:
                    return httpx.Response(500, headers={"content-type": "text/plain"}, content=b"failed\nnull")
                data = self.files[params["SOPInstanceUID"]]
                return httpx.Response(200, headers={"content-type": "application/dicom"}, stream=Body(data))
        return self._zip(self.zips.pop(0) if len(self.zips) > 1 else self.zips[0])

    def _zip(self, how: str) -> httpx.Response:
        kind, _, number = how.partition(":")
        members = [(f"{n:08d}.dcm", data) for n, data in enumerate(self.files.values(), 1)]
        if kind == "lost":
            members = members[: -int(number)]
        hashes = "Filename,MD5Hash\n" + "".join(f"{name},{hashlib.md5(data).hexdigest()}\n" for name, data in members)
        if kind == "md5":
            hashes = hashes[:-33] + "0" * 32 + "\n"
        if kind == "stranger":
            members[1] = (members[1][0], dicom("2.25.9", "2.25.8"))
        if kind == "noise":
            members[1] = (members[1][0], b"\0" * 200)
        data = zipped([("LICENSE", b"CC BY 4.0\n"), *members, ("md5hashes.csv", hashes.encode())])
        headers = {"content-type": "application/octet-stream"}
        match kind:
            case "cut":
                return httpx.Response(200, headers=headers, stream=Body(data[: int(number)], torn=True))
            case "short":
                return httpx.Response(200, headers=headers, stream=Body(data[: int(number)]))
            case "html":
                return httpx.Response(
                    200, headers=headers, stream=Body(b"<html><body>Down for maintenance</body></html>")
                )
            case "empty":
                return httpx.Response(200, headers=headers, stream=Body(b""))
            case "502":
                return httpx.Response(
                    502, headers={"content-type": "text/html"}, content=b"<html><title>502</title></html>"
                )
        return httpx.Response(200, headers=headers, stream=Body(data))


@contextmanager
def faulty(sandbox: Sandbox) -> Iterator[Sandbox]:
    """The sandbox that tests share, to be given faults; without any afterwards."""
    try:
        yield sandbox
    finally:
        switch(sandbox, dict.fromkeys(SERVICES, ()))


class Pauses(list[float]):
    """Stands in for waiting: notes how long it would have been."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


def lines(text: str) -> list[dict[str, Any]]:
    """JSON lines."""
    return [json.loads(line) for line in text.splitlines()]
