"""How fast a collection comes to disk: Isocenter, tcia_utils with its default threads, and curl that only writes the raw ZIPs.

    python tests/bench/bench_download.py [--rounds 3] [--series 200] [--megabytes 1000] [--foreign PYTHON] [--latency 0.3] [--data FOLDER]

A server in a process of its own hands out ready-made ZIPs of mixed series, chunked and without length as the archive does, with
`sendfile`: it takes next to no processor time, so what is measured is the client. The sandbox is not used here because it deflates
while it sends and would be the bottleneck. The archive itself takes its time before the first byte; `--latency` is that time in seconds.
Series and images have sizes as in tcia.md section 10: median series 2 MB, a tenth above 25 MB, images of CT, MR and PET, 260 kB in the mean.
Members are deflated, as the archive's are, to about half of their size.

Every client runs in a process of its own, rounds are interleaved. What was written is emptied and not deleted until the end, because
ext4 looks for free inodes much longer after a deletion. Isocenter verifies every file and writes `series.json`; the others verify
nothing. `isocenter, no sync` does not wait for the disk before a series is published. `floor` reads the ZIPs from local files and does
only what cannot be left out, one file after the other: inflate (isal), MD5, write. Half of its processor time is the least two cores
can take for the same result, before a single byte has come through a network. `--foreign` names a Python that has tcia_utils; without
one that row is left out. A last table compares ways to read a ZIP as it arrives, in one process and without a network.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import random
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

ISOCENTER_GOAL_TCIA, ISOCENTER_GOAL_CURL, GOAL_RSS = 3.0, 0.7, 50.0
SIDES = {"CT": 512, "MR": 256, "PT": 128}

SERVER = """
import json, os, socket, socketserver, sys, time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
root, latency = Path(sys.argv[1]), float(sys.argv[2])
rows = {row["SeriesInstanceUID"]: row for row in json.loads((root / "rows.json").read_text())}

class Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    def handle(self):
        while True:
            line = self.rfile.readline()
            if not line:
                return
            while self.rfile.readline() not in (b"\\r\\n", b""):
                pass
            url = urlsplit(line.split()[1].decode())
            uid = parse_qs(url.query)["SeriesInstanceUID"][0]
            if url.path.endswith("getSeries"):
                body = json.dumps([rows[uid]]).encode()
                self.wfile.write(b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
                continue
            time.sleep(latency)
            self.wfile.write(b"HTTP/1.1 200 OK\\r\\nContent-Type: application/octet-stream\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n")
            with (root / (uid + ".zip")).open("rb") as file:
                left, at = os.fstat(file.fileno()).st_size, 0
                while left:
                    size = min(left, 1 << 18)
                    self.connection.sendall(b"%x\\r\\n" % size)
                    end = at + size
                    while at < end:
                        at += os.sendfile(self.connection.fileno(), file.fileno(), at, end - at)
                    self.connection.sendall(b"\\r\\n")
                    left -= size
            self.connection.sendall(b"0\\r\\n\\r\\n")

class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads, request_queue_size = True, True, 128

with Server(("127.0.0.1", 0), Handler) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
"""

HEAD = """
import json, sys, time
from pathlib import Path

def peak(reset=False):  # getrusage would tell the peak of the process that started this one
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
"""

ISOCENTER = (
    HEAD
    + """
import anyio
from isocenter.transfer.manifest import Manifest, SeriesFacts
from isocenter.transfer.mirror import download_many
from isocenter_clients.tcia import TciaClient
url, rows, out, at_once = sys.argv[1], json.loads(Path(sys.argv[2]).read_text()), Path(sys.argv[3]), int(sys.argv[4])
if sys.argv[5] == "no sync":
    from isocenter.transfer import series
    series._to_disk = lambda folder: None

async def main():
    async with TciaClient(url) as tcia:
        tcia.client.contract.operations["getImage"]
        import isocenter.transfer.download, aiohttp  # what is imported is no growth
        await tcia.client.call("getSeries", {"SeriesInstanceUID": rows[0]["SeriesInstanceUID"]})
        before, started, cpu = peak(reset=True), time.perf_counter(), time.process_time()
        with Manifest(out / "manifest.jsonl") as manifest:
            report = await download_many(tcia.client, map(SeriesFacts.of, rows), out, at_once=at_once, manifest=manifest)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    growth = peak() - before
    assert report.done == len(rows), report
    print(json.dumps({"seconds": seconds, "cpu": cpu, "growth": growth}))

anyio.run(main)
"""
)

TCIA_UTILS = (
    HEAD
    + """
import logging
from urllib.parse import urlsplit
from requests.adapters import HTTPAdapter
url, rows, out = urlsplit(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()), sys.argv[3]
send = HTTPAdapter.send
def here(self, request, **options):
    request.url = urlsplit(request.url)._replace(scheme=url.scheme, netloc=url.netloc).geturl()
    return send(self, request, **options)
HTTPAdapter.send = here
from tcia_utils import nbia
logging.disable(logging.CRITICAL)
before, started, cpu = peak(reset=True), time.perf_counter(), time.process_time()
nbia.downloadSeries([row["SeriesInstanceUID"] for row in rows], input_type="list", path=out)
seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
assert len(list(Path(out).iterdir())) == len(rows)
print(json.dumps({"seconds": seconds, "cpu": cpu, "growth": peak() - before}))
"""
)


FLOOR = (
    HEAD
    + """
import hashlib, zipfile
from isal import isal_zlib
rows, out = json.loads(Path(sys.argv[2]).read_text()), Path(sys.argv[3])
before, started, cpu = peak(reset=True), time.perf_counter(), time.process_time()
for row in rows:
    uid = row["SeriesInstanceUID"]
    (out / uid).mkdir()
    path = Path(sys.argv[2]).with_name(uid + ".zip")
    with path.open("rb") as file, zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            file.seek(member.header_offset + 30 + len(member.filename))
            data = isal_zlib.decompress(file.read(member.compress_size), -15, member.file_size)
            hashlib.md5(data, usedforsecurity=False).hexdigest()
            (out / uid / member.filename).write_bytes(data)
seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
print(json.dumps({"seconds": seconds, "cpu": cpu, "growth": peak() - before}))
"""
)


def element(group: int, number: int, kind: bytes, value: bytes) -> bytes:
    """One DICOM element in explicit VR little endian."""
    value += b"\0" * (len(value) % 2)
    if kind in (b"OB", b"OW"):
        return struct.pack("<HH2sHI", group, number, kind, 0, len(value)) + value
    return struct.pack("<HH2sH", group, number, kind, len(value)) + value


def header(series: str, sop: str, pixels: int) -> bytes:
    """A Part 10 file up to the pixel data."""
    meta = element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1")
    body = [(8, 0x16, b"UI", b"1.2.840.10008.5.1.4.1.1.2"), (8, 0x18, b"UI", sop.encode()), (8, 0x60, b"CS", b"CT")]
    body += [(9, 0x1000 + n, b"LO", b"private value %d" % n) for n in range(60)]
    # De-identified files of the archive say how they were, in a sequence before the UIDs of study and series.
    body += [(0x12, 0x62, b"CS", b"YES")]
    code = element(8, 0x100, b"SH", b"113100") + element(8, 0x102, b"SH", b"DCM")
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + code + b"\xfe\xff\x0d\xe0" + bytes(4)
    sequence = struct.pack("<HH2sHI", 0x12, 0x64, b"SQ", 0, 0xFFFFFFFF) + item * 8 + b"\xfe\xff\xdd\xe0" + bytes(4)
    tail = [(0x20, 0xD, b"UI", b"2.25.1"), (0x20, 0xE, b"UI", series.encode())]
    data = meta + b"".join(element(*field) for field in body) + sequence + b"".join(element(*field) for field in tail)
    data += struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, pixels)
    return bytes(128) + b"DICM" + element(2, 0, b"UL", struct.pack("<I", len(meta))) + data


def make(root: Path, count: int, megabytes: int) -> list[dict[str, Any]]:
    """Write the ZIPs and the archive's rows about them. Pixels look like a CT: smooth, with noise; deflate halves them."""
    rng, chance = np.random.default_rng(7), random.Random(7)
    slices: dict[str, list[tuple[bytes, bytes]]] = {modality: [] for modality in SIDES}
    for modality, side in SIDES.items():
        x, y = np.meshgrid(np.arange(side), np.arange(side))
        for number in range(16):
            plane = 1000 + 500 * np.sin(x / (30 + number)) * np.cos(y / 40) + rng.normal(0, 10, (side, side))
            plane[(x - side / 2) ** 2 + (y - side / 2) ** 2 > (side * 0.44) ** 2] = 0
            pixels = plane.astype("<u2").tobytes()
            deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
            slices[modality].append((pixels, deflate.compress(pixels) + deflate.flush()))
    sizes = [chance.lognormvariate(0.8, 1.5) for _ in range(count)]
    scale = megabytes * 1e6 / sum(sizes)
    rows = []
    for index, size in enumerate(sizes):
        modality = "CT" if size * scale > 5e6 else chance.choice(["MR", "PT", "CT", "CT"])
        series, images = f"2.25.77{index:05d}", max(1, round(size * scale / (2 * SIDES[modality] ** 2)))
        total, hashes, directory, offset = 0, ["Filename,MD5Hash"], b"", 0
        with (root / f"{series}.zip").open("wb") as file:
            for image in range(images + 2):
                name, head, (pixels, packed) = "LICENSE", b"CC BY 4.0", (b"", b"\x03\x00")
                if image == images + 1:
                    name, head = "md5hashes.csv", "\n".join(hashes).encode()
                elif image:
                    pixels, packed = chance.choice(slices[modality])
                    name, head = f"{image:08d}.dcm", header(series, f"2.25.78{index:05d}{image:05d}", len(pixels))
                    digest = hashlib.md5(head, usedforsecurity=False)
                    digest.update(pixels)
                    hashes.append(f"{name},{digest.hexdigest()}")
                    total += len(head) + len(pixels)
                # A full flush forgets the past, so the packed pixels can follow as they are.
                deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
                body = deflate.compress(head) + deflate.flush(zlib.Z_FULL_FLUSH) + packed
                numbers = struct.pack("<III", zlib.crc32(pixels, zlib.crc32(head)), len(body), len(head) + len(pixels))
                local = struct.pack("<4sHHHIIIIHH", b"PK\3\4", 20, 8, 8, 0, 0, 0, 0, len(name), 0) + name.encode()
                file.write(local + body + b"PK\7\x08" + numbers)
                entry = struct.pack("<4sHHHHI", b"PK\1\2", 20, 20, 8, 8, 0) + numbers
                directory += entry + struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, offset) + name.encode()
                offset += len(local) + len(body) + 16
            file.write(directory)
            file.write(struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, images + 2, images + 2, len(directory), offset, 0))
        row = {"SeriesInstanceUID": series, "StudyInstanceUID": "2.25.1", "Collection": "BENCH", "PatientID": "PAT-1"}
        rows.append({**row, "Modality": modality, "ImageCount": images, "FileSize": total, "Authorized": 1})
    (root / "rows.json").write_text(json.dumps(rows))
    return rows


@contextmanager
def server(root: Path, latency: float) -> Iterator[str]:
    """The server; yields the address of its API."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(root), str(latency)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/nbia-api/services/v4"
        finally:
            process.terminate()


def curl(url: str, rows: list[dict[str, Any]], out: Path, at_once: int) -> dict[str, float]:
    """All ZIPs with one curl that keeps `at_once` transfers going."""
    config = "".join(
        f'url = "{url}/getImage?SeriesInstanceUID={row["SeriesInstanceUID"]}"\noutput = "{out}/{row["SeriesInstanceUID"]}.zip"\n'
        for row in rows
    )
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        ["curl", "--silent", "--fail", "--parallel", "--parallel-max", str(at_once), "--config", "-"],
        input=config.encode(),
        stderr=subprocess.DEVNULL,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": time.perf_counter() - started, "cpu": cpu, "growth": float("nan")}


def python(interpreter: str, program: str, *arguments: object) -> dict[str, float]:
    """Run a client in a process of its own; it prints its figures."""
    command = [interpreter, "-c", program, *map(str, arguments)]
    figures: dict[str, float] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return figures


def unzip_ways(path: Path) -> None:
    """Ways to read one ZIP as it arrives, with MD5 of every file and nothing written: MB of DICOM a second of processor time."""
    from isocenter.transfer import unzip

    class Sink:
        def begin(self, name: str) -> None:
            self.md5 = hashlib.md5(usedforsecurity=False)

        def write(self, data: bytes) -> None:
            self.md5.update(data)

        def end(self) -> None:
            self.md5.hexdigest()

    data = path.read_bytes()

    def own(codec: Any) -> None:
        kept, unzip._codec = unzip._codec, codec
        try:
            reader = unzip.ZipReader(Sink())
            for at in range(0, len(data), 1 << 20):
                reader.feed(data[at : at + (1 << 20)])
            reader.close()
        finally:
            unzip._codec = kept

    ways: dict[str, Callable[[], None]] = {"own reader, zlib": lambda: own(zlib)}
    if unzip._codec is not zlib:
        ways["own reader, isal"] = lambda: own(unzip._codec)
    try:
        stream_unzip = importlib.import_module("stream_unzip").stream_unzip

        def library() -> None:
            pieces = (data[at : at + 65536] for at in range(0, len(data), 65536))
            for _, _, chunks in stream_unzip(pieces):
                md5 = hashlib.md5(usedforsecurity=False)
                for chunk in chunks:
                    md5.update(chunk)

        ways["stream-unzip"] = library
    except ImportError:
        pass
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist()) / 1e6
    for name, way in ways.items():
        best = float("inf")
        for _ in range(3):
            started = time.process_time()
            way()
            best = min(best, time.process_time() - started)
        print(f"{name:>20}  {size / best:6.0f} MB a CPU second")


def main() -> None:
    """Make the data, run the rounds, print the tables."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--series", type=int, default=200)
    options.add_argument("--megabytes", type=int, default=1000)
    options.add_argument(
        "--at-once", type=int, default=10, help="transfers of Isocenter and curl; tcia_utils' default is 10"
    )
    options.add_argument("--latency", type=float, default=0.0)
    options.add_argument("--foreign", help="a Python with tcia_utils")
    options.add_argument("--data", type=Path, help="folder for ZIPs and downloads")
    given = options.parse_args()
    figures: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(dir=given.data) as folder:
        source = Path(folder, "source")
        source.mkdir()
        rows = make(source, given.series, given.megabytes)
        size = sum(row["FileSize"] for row in rows) / 1e6
        packed = sum(path.stat().st_size for path in source.glob("*.zip")) / 1e6
        clients: dict[str, Callable[[str, Path], dict[str, float]]] = {}
        clients["curl, raw ZIPs"] = lambda url, out: curl(url, rows, out, given.at_once)
        for name in ("isocenter", "isocenter, no sync"):
            how = name.rpartition(", ")[2]
            clients[name] = lambda url, out, how=how: python(  # type: ignore[misc]
                sys.executable, ISOCENTER, url, source / "rows.json", out, given.at_once, how
            )
        if given.foreign:
            clients["tcia_utils"] = lambda url, out: python(given.foreign, TCIA_UTILS, url, source / "rows.json", out)
        clients["floor"] = lambda url, out: python(sys.executable, FLOOR, url, source / "rows.json", out)
        with server(source, given.latency) as url:
            for round_ in range(given.rounds):
                for number, client in enumerate(clients.items()):
                    out = Path(folder, f"out-{round_}-{number}")
                    out.mkdir()
                    figures.setdefault(client[0], []).append(client[1](url, out))
                    for path in out.rglob("*"):
                        if path.is_file():
                            os.truncate(path, 0)
                    os.sync()  # the next one does not pay for the writes of this one
        files = sum(row["ImageCount"] for row in rows)
        print(
            f"{len(rows)} series, {files} files, {size:.0f} MB of DICOM in {packed:.0f} MB of ZIP, {given.rounds} rounds; medians"
        )
        wall = {name: statistics.median(one["seconds"] for one in all_) for name, all_ in figures.items()}
        for name, all_ in figures.items():
            cpu, growth = (statistics.median(one[key] for one in all_) for key in ("cpu", "growth"))
            print(
                f"{name:>20}  {wall[name]:6.2f} s  {size / wall[name]:5.0f} MB/s  {cpu:6.2f} CPU s  RSS +{growth:.0f} MiB"
            )
        if given.foreign:
            print(
                f"isocenter is {wall['tcia_utils'] / wall['isocenter']:.2f} x tcia_utils (goal {ISOCENTER_GOAL_TCIA})"
            )
        print(f"isocenter is {wall['curl, raw ZIPs'] / wall['isocenter']:.2f} x curl (goal {ISOCENTER_GOAL_CURL})")
        growth = max(one["growth"] for one in figures["isocenter"])
        lasting, fleeting = (
            statistics.median(one["cpu"] for one in figures[name]) for name in ("isocenter", "isocenter, no sync")
        )
        print(
            f"waiting for the disk costs {wall['isocenter'] / wall['isocenter, no sync'] - 1:+.0%} time, {lasting / fleeting - 1:+.0%} processor"
        )
        print(f"RSS growth at most {growth:.0f} MiB (goal {GOAL_RSS:.0f})")
        unzip_ways(max(source.glob("*.zip"), key=lambda path: path.stat().st_size))


if __name__ == "__main__":
    main()
