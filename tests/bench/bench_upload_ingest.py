"""How fast the sandbox takes in an upload, against an application that only splits and hashes it.

    python tests/bench/bench_upload_ingest.py [--rounds 5] [--slices 300] [--data FOLDER]

One series of 512 x 512 slices (300 of them: 158 MB) is posted as multipart/related over a loopback socket, in turn to

* `split+hash`: a bare uvicorn application that feeds the sandbox's own splitter and updates SHA-256;
* `sandbox`: the whole sandbox, which also parses every header, writes, syncs and indexes every file.

Both run in processes of their own, the rounds are interleaved, every round has new UIDs. Printed are the medians and the
ratio, which should be at least 0.8, and the speed of the splitter alone.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from isocenter.sandbox.multipart import PartData, PartEnd, PartStart, Splitter

GOAL = 0.8
BOUNDARY = b"isocenterbench0123456789"
CONTENT_TYPE = f'multipart/related; type="application/dicom"; boundary={BOUNDARY.decode()}'


async def bare(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The application to compare with: an ASGI callable that splits and hashes, and stores nothing."""
    splitter, parts, more = Splitter(CONTENT_TYPE), 0, True
    sha256 = hashlib.sha256()
    while more:
        message = await receive()
        for event in splitter.feed(message.get("body", b"")):
            if isinstance(event, PartStart):
                sha256 = hashlib.sha256()
            elif isinstance(event, PartData):
                sha256.update(event.data)
            elif isinstance(event, PartEnd):
                sha256.hexdigest()
                parts += 1
        more = message.get("more_body", False)
    splitter.close()
    body = b'{"parts": %d}' % parts
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


SERVERS = {
    "split+hash": """
import uvicorn
from bench_upload_ingest import bare
print("ready", flush=True)
uvicorn.run(bare, port={port}, log_level="warning", access_log=False, lifespan="off")
""",
    "sandbox": """
from pathlib import Path
from isocenter.sandbox.app import serve
from isocenter.sandbox.state import Options
print("ready", flush=True)
serve("127.0.0.1", {port}, Path({root!r}), Options())
""",
}


@contextmanager
def server(name: str, port: int, root: Path) -> Iterator[None]:
    """Run one of `SERVERS` until the block ends; entered when it accepts connections."""
    program = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n" + SERVERS[name].format(
        port=port, root=str(root)
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        try:
            for _ in range(600):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
                try:
                    connection.connect()
                    break
                except OSError:
                    time.sleep(0.1)
                finally:
                    connection.close()
            else:
                raise SystemExit(f"{name} does not start")
            yield
        finally:
            process.terminate()


def slices(count: int) -> list[tuple[bytes, bytes]]:
    """Header (with UIDs to be replaced) and pixels of every slice."""
    rng = np.random.default_rng(1)
    parts = []
    for index in range(count):
        dataset = Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, f"2.25.11111{index:05d}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "2.25.1111199998", "2.25.1111199999"
        dataset.Modality, dataset.PatientID, dataset.PatientName = "CT", "PAT-0001", "Bench^Mark"
        dataset.BodyPartExamined, dataset.StudyDate, dataset.StudyTime = "CHEST", "20260101", "120000"
        dataset.SeriesDescription, dataset.Manufacturer = "benchmark", "Isocenter"
        for number in range(40):  # a header as long as that of a real scanner
            dataset.add_new((0x0019, 0x1000 + number), "LO", f"private value {number}")
        dataset.add_new((0x0019, 0x0010), "LO", "BENCHMARK")
        dataset.InstanceNumber, dataset.ImagePositionPatient = index + 1, [0, 0, index]
        dataset.ImageOrientationPatient, dataset.PixelSpacing = [1, 0, 0, 0, 1, 0], [0.7, 0.7]
        dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 512, 512, 1
        dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
        dataset.PixelData = rng.integers(0, 4096, (512, 512), dtype=np.uint16).tobytes()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.UID(dataset.SOPInstanceUID)
        file = io.BytesIO()
        dataset.save_as(file, enforce_file_format=True)
        pixels = len(file.getvalue()) - 2 * 512 * 512
        parts.append((file.getvalue()[:pixels], file.getvalue()[pixels:]))
    return parts


def body(parts: list[tuple[bytes, bytes]], round_: int) -> list[bytes]:
    """The request body of one round, in pieces."""
    pieces = []
    for index, (header, pixels) in enumerate(parts):
        head = f'Content-Disposition: form-data; name="file_{index}"; filename="{index}.dcm"\r\n'
        pieces.append(b"--" + BOUNDARY + b"\r\n" + head.encode() + b"Content-Type: application/dicom\r\n\r\n")
        pieces += [header.replace(b"2.25.11111", b"2.25.2%04d" % round_), pixels, b"\r\n"]
    return [*pieces, b"--" + BOUNDARY + b"--\r\n"]


def post(port: int, path: str, headers: dict[str, str], pieces: list[bytes]) -> float:
    """Send one request; returns the seconds until the answer was complete."""
    size = sum(map(len, pieces))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    started = time.perf_counter()
    connection.request(
        "POST",
        path,
        body=iter(pieces),
        headers={"Content-Type": CONTENT_TYPE, "Content-Length": str(size), "User-Agent": "bench", **headers},
    )
    answer = connection.getresponse()
    text = answer.read()
    seconds = time.perf_counter() - started
    connection.close()
    if answer.status != 200:
        raise SystemExit(f"{path} answered {answer.status}: {text[:200]!r}")
    return seconds


def splitter_alone(pieces: list[bytes]) -> float:
    """MB/s of the splitter without a network, in chunks as uvicorn delivers them."""
    whole = b"".join(pieces)
    chunks = [whole[at : at + 65536] for at in range(0, len(whole), 65536)]
    splitter = Splitter(CONTENT_TYPE)
    started = time.perf_counter()
    for chunk in chunks:
        splitter.feed(chunk)
    splitter.close()
    return len(whole) / 1e6 / (time.perf_counter() - started)


def main() -> None:
    """Run the rounds and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--slices", type=int, default=300)
    arguments.add_argument("--port", type=int, default=18970, help="this one and the next are used")
    arguments.add_argument("--data", type=Path, help="folder to make the data directory in, e.g. /dev/shm")
    options = arguments.parse_args()
    parts = slices(options.slices)
    megabytes = sum(map(len, body(parts, 0))) / 1e6
    speeds: dict[str, list[float]] = {"split+hash": [], "sandbox": []}
    with tempfile.TemporaryDirectory(dir=options.data) as folder:
        root = Path(folder)
        with server("split+hash", options.port, root), server("sandbox", options.port + 1, root):
            saved = json.loads((root / "credentials.json").read_text(encoding="utf-8"))["qure"]
            headers = {"Authorization": f"Token {saved['token']}", "Source": saved["source"]}
            for round_ in range(options.rounds + 1):
                pieces = body(parts, round_)
                bare_seconds = post(options.port, "/", {}, pieces)
                sandbox_seconds = post(options.port + 1, "/qure/studies/", headers, pieces)
                for file in (root / "qure" / f"2.25.2{round_:04d}99999").iterdir():
                    os.truncate(
                        file, 0
                    )  # gives the memory of the page cache back; new memory would be a cost of its own
                if round_:  # the first one warms up
                    speeds["split+hash"].append(megabytes / bare_seconds)
                    speeds["sandbox"].append(megabytes / sandbox_seconds)
    print(f"{options.slices} slices, {megabytes:.1f} MB, {options.rounds} rounds; MB/s: median [min-max]")
    for name, values in speeds.items():
        print(f"{name:>12}  {statistics.median(values):6.0f} [{min(values):.0f}-{max(values):.0f}]")
    ratio = statistics.median(speeds["sandbox"]) / statistics.median(speeds["split+hash"])
    print(f"{'ratio':>12}  {ratio:6.2f} (goal {GOAL})")
    print(f"{'splitter':>12}  {splitter_alone(body(parts, 0)):6.0f} without a network")


if __name__ == "__main__":
    main()
