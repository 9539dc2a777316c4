"""How fast the sandbox's archive answers: a list of 100,000 series, and a ZIP of a large series, beside Python's own zipfile.

    python tests/bench/bench_archive.py [--series 100000] [--slices 300] [--rounds 3]

The sandbox runs in a process of its own on a fresh data directory, whose series table is filled by copying one row under new UIDs.
Goals: first byte of the list within 150 ms and 100 MB/s of JSON; the ZIP at 0.8 times `zipfile` (deflate, level 1, to the null
device) writing the same bytes; memory that does not grow with the series.
"""

from __future__ import annotations

import argparse
import http.client
import os
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import UID

PREFIX = "/nbia-api/services/v4"
COPY = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
INSERT INTO {table} SELECT {columns} FROM {table} t JOIN n WHERE t.id = ?
"""


def multiply(database: Path, count: int) -> None:
    """Copy one series row `count` times: same facts, UIDs of its own."""
    with sqlite3.connect(database) as db:
        number, uid = db.execute("SELECT id, SeriesInstanceUID FROM tcia_series ORDER BY id LIMIT 1").fetchone()
        changed = {"id": "1000000 + i", "series_instance_uid": "'2.25.7' || i", "SeriesInstanceUID": "'2.25.7' || i"}
        changed["v4"] = changed["v1"] = f"CAST(replace(CAST({{column}} AS TEXT), '{uid}', '2.25.7' || i) AS BLOB)"
        for table in ("archive_series", "tcia_series", "tcia_json"):
            names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            columns = ", ".join(changed.get(name, name).format(column=name) for name in names)
            db.execute(COPY.format(table=table, columns=columns), (count, number))


def slices(folder: Path, count: int) -> None:
    """A series of 512 x 512 slices with noise, written under new UIDs over a file that pydicom ships."""
    from pydicom.data import get_testdata_file

    template = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    noise = np.random.default_rng(0)
    series = "2.25.424242"
    for index in range(count):
        instance = UID(f"{series}.{index + 1}")
        template.SOPInstanceUID = template.file_meta.MediaStorageSOPInstanceUID = instance
        template.SeriesInstanceUID, template.InstanceNumber = series, index + 1
        template.Rows = template.Columns = 512
        template.PixelData = noise.integers(0, 900, (512, 512), dtype=np.int16).tobytes()
        template.save_as(folder / f"{index}.dcm", enforce_file_format=True)


@contextmanager
def serving(data: Path, dicom: Path | None = None) -> Iterator[tuple[int, int]]:
    """The sandbox as its user runs it: `(port, process id)` once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-P", "-m", "isocenter", "sandbox", "--data", str(data), "--port", str(port)]
    process = subprocess.Popen(command + (["--dicom", str(dicom), "--collection", "BENCH"] if dicom else []))
    try:
        while process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def fetch(port: int, path: str) -> tuple[float, float, int]:
    """`(seconds to the first byte, seconds in all, bytes)` of one GET."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    started = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    size = len(answer.read(1))
    first = time.perf_counter() - started
    while piece := answer.read(1 << 20):
        size += len(piece)
    connection.close()
    return first, time.perf_counter() - started, size


def resident(process: int) -> float:
    """MiB of memory a process holds; 0 where the system does not tell."""
    status = Path(f"/proc/{process}/status")
    if not status.exists():
        return 0.0
    return int(status.read_text().split("VmRSS:")[1].split()[0]) / 1024


def zipped(files: list[Path]) -> float:
    """Seconds Python's zipfile takes for the same members."""
    started = time.perf_counter()
    with (
        Path(os.devnull).open("wb") as nothing,
        zipfile.ZipFile(nothing, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out,
    ):
        for path in files:
            out.writestr(path.name, path.read_bytes())
    return time.perf_counter() - started


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        data, dicom = Path(temporary, "data"), Path(temporary, "dicom")
        dicom.mkdir()
        slices(dicom, options.slices)
        files = sorted(dicom.iterdir())
        size = sum(path.stat().st_size for path in files)
        with serving(data, dicom) as (port, process):
            fetch(port, f"{PREFIX}/getCollectionValues")
            before = resident(process)
            ours, peer = [], []
            for _ in range(options.rounds):
                ours.append(fetch(port, f"{PREFIX}/getImage?SeriesInstanceUID=2.25.424242")[1])
                peer.append(zipped(files))
            grown = resident(process) - before
        mine, theirs = statistics.median(ours), statistics.median(peer)
        print(f"getImage, {options.slices} files, {size / 1e6:.0f} MB: {size / 1e6 / mine:.0f} MB/s of files;", end=" ")
        print(
            f"zipfile {size / 1e6 / theirs:.0f} MB/s; ratio {theirs / mine:.2f} (goal 0.8); memory grew {grown:.0f} MiB"
        )

        multiply(data / "sandbox.db", options.series)
        with serving(data) as (port, process):
            fetch(port, f"{PREFIX}/getCollectionValues")
            before = resident(process)
            rounds = [fetch(port, f"{PREFIX}/getSeries") for _ in range(options.rounds)]
            grown = resident(process) - before
        first = statistics.median(each[0] for each in rounds)
        speed = statistics.median(each[2] / each[1] for each in rounds)
        print(
            f"getSeries, {options.series} series, {rounds[0][2] / 1e6:.0f} MB: first byte {first * 1e3:.0f} ms", end=" "
        )
        print(f"(goal 150), {speed / 1e6:.0f} MB/s (goal 100); memory grew {grown:.0f} MiB")


if __name__ == "__main__":
    main()
