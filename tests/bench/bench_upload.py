"""What uploading a series costs the client: Isocenter, requests_toolbelt (the documented script) and dicomweb-client.

    python tests/bench/bench_upload.py [--rounds 5] [--slices 300] [--foreign PYTHON] [--data FOLDER]

One series of 512 x 512 slices (300 of them: 158 MB) is sent over a loopback socket to a server in a process of its own that reads the
body and throws it away, so the client is what is measured: megabytes per second of its processor time, and how far its memory grows.
The sandbox is not used here: it parses and stores every file and would be the bottleneck. Every client runs in a process of its own,
rounds are interleaved, imports do not count. All start from files on disk: Isocenter's figure includes finding them and their series,
and its checks of every file and every answer; dicomweb-client's includes reading them with pydicom, which its interface asks for.
Without that reading it needs about two thirds of the time shown.
`--foreign` names a Python that has dicomweb-client and requests_toolbelt; without one the Python that runs this is tried.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

slices = importlib.import_module("bench_upload_ingest").slices  # its neighbour in this folder

GOAL_TOOLBELT, GOAL_DICOMWEB, GOAL_RSS = 3.0, 5.0, 10.0

SERVER = """
import socketserver
QURE = b'{"message": "Success", "series_instance_uids": ["2.25.1111199999"]}'
buffer = bytearray(1 << 20)

class Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    def handle(self):
        while b" " in (line := self.rfile.readline()):
            path, length = line.split()[1], 0
            while (field := self.rfile.readline()) not in (b"\\r\\n", b""):
                name, _, value = field.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            while length:
                length -= self.rfile.readinto1(memoryview(buffer)[:min(length, 1 << 20)])
            body, kind = (QURE, b"application/json") if b"qure" in path else (b"{}", b"application/dicom+json")
            self.wfile.write(b"HTTP/1.1 200 OK\\r\\nContent-Type: %s\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (kind, len(body), body))

class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads = True, True

with Server(("127.0.0.1", 0), Handler) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
"""

FIGURES = """
def peak(reset=False):  # getrusage would tell the peak of the process that started this one
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024

def figures(work):
    gc.collect()
    before, started, cpu = peak(reset=True), time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu, "growth": peak() - before}
"""
HEAD = "import gc, json, sys, time\nfrom pathlib import Path\nurl, folder = sys.argv[1], Path(sys.argv[2])\n" + FIGURES

ISOCENTER = (
    HEAD
    + """
import anyio
from isocenter.transfer.scan import find_dicom
from isocenter.transfer.upload import Journal, upload_to_qure
from isocenter_clients.qure import QureClient

async def main(series, journal):
    async with QureClient(url + "/qure", credentials={"token": "t", "source": "s"}) as qure:
        return await upload_to_qure(qure.client, series, journal=journal, at_once=1)

def run():
    found = find_dicom([folder])
    with Journal(Path(sys.argv[3])) as journal:
        results = anyio.run(main, found.series.values(), journal)
    assert all(result.whole for result in results), results

anyio.run(main, [], None)
from isocenter_clients.qure.contract import load
load().compile()
anyio.run(main, find_dicom([next(folder.iterdir())]).series.values(), None)  # what is imported once is no cost of a series
print(json.dumps(figures(run)))
"""
)

TOOLBELT = (
    HEAD
    + """
import requests
from requests_toolbelt import MultipartEncoder
def run():
    files = {p.name: (p.name, p.open("rb"), "application/dicom") for p in sorted(folder.iterdir())}
    body = MultipartEncoder(fields=files)
    kind = body.content_type.replace("multipart/form-data;", "multipart/related; type=application/dicom;")
    requests.post(url + "/qure/studies", data=body, headers={"Content-Type": kind}).raise_for_status()
print(json.dumps(figures(run)))
"""
)

DICOMWEB = (
    HEAD
    + """
import logging
import pydicom
from dicomweb_client import DICOMwebClient
logging.disable(logging.CRITICAL)
client = DICOMwebClient(url + "/dicom")
pydicom.dcmread(next(folder.iterdir()))
print(json.dumps(figures(lambda: client.store_instances([pydicom.dcmread(p) for p in sorted(folder.iterdir())]))))
"""
)


@contextmanager
def server() -> Iterator[str]:
    """The server; yields its address."""
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


def main() -> None:
    """Write the files, run the rounds, print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--slices", type=int, default=300)
    options.add_argument(
        "--foreign", default=sys.executable, help="a Python with dicomweb-client and requests_toolbelt"
    )
    options.add_argument("--data", type=Path, help="folder to write the files to")
    given = options.parse_args()
    clients = {"isocenter": (sys.executable, ISOCENTER), "requests_toolbelt": (given.foreign, TOOLBELT)}
    if not subprocess.run([given.foreign, "-c", "import dicomweb_client"], capture_output=True).returncode:
        clients["dicomweb-client"] = (given.foreign, DICOMWEB)
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in clients}
    with tempfile.TemporaryDirectory(dir=given.data) as work, server() as url:
        folder = Path(work, "series")
        folder.mkdir()
        for number, (header, pixels) in enumerate(slices(given.slices)):
            (folder / f"{number:04d}.dcm").write_bytes(header + pixels)
        megabytes = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
        for round_ in range(given.rounds):
            for name, (interpreter, program) in clients.items():
                command = [interpreter, "-c", program, url, str(folder), str(Path(work, f"journal-{round_}"))]
                run = subprocess.run(command, stdout=subprocess.PIPE, check=True)
                figures[name].append(json.loads(run.stdout))
    print(f"{given.slices} slices, {megabytes:.1f} MB, {given.rounds} rounds; medians")
    per_cpu = {}
    for name, runs in figures.items():
        seconds, cpu, growth = (statistics.median(run[key] for run in runs) for key in ("seconds", "cpu", "growth"))
        per_cpu[name] = megabytes / cpu
        print(
            f"{name:>20}  {per_cpu[name]:6.0f} MB/CPU s  {megabytes / seconds:5.0f} MB/s  {cpu:.3f} CPU s  RSS +{growth:.0f} MiB"
        )
    print(
        f"isocenter / requests_toolbelt {per_cpu['isocenter'] / per_cpu['requests_toolbelt']:.1f} (goal {GOAL_TOOLBELT})"
    )
    if "dicomweb-client" in per_cpu:
        print(
            f"isocenter / dicomweb-client {per_cpu['isocenter'] / per_cpu['dicomweb-client']:.1f} (goal {GOAL_DICOMWEB})"
        )
    growth = max(run["growth"] for run in figures["isocenter"])
    print(f"RSS growth at most {growth:.0f} MiB (goal {GOAL_RSS:.0f})")


if __name__ == "__main__":
    main()
