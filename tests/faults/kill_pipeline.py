"""A pipeline that is killed again and again, on a sandbox that fails in every way it can, and must lose nothing and do nothing twice.

    python tests/faults/kill_pipeline.py [--kills 50] [--series 40] [--seed N] [--folder FOLDER]

The sandbox is a process of its own, serves small synthetic CTs and radiographs, and is not killed; its faults are switched while
`isocenter run` works: outage, slow answers, cut ZIPs, pages of HTML with 502, expired addresses. At random moments a `run` is killed with
signal 9; a third of the time two of them work on the same job. For a tenth of the moments the disk is full: a small file system in
memory is filled to its last block (root on Linux), or files may not grow beyond 64 KiB (elsewhere).

Then everything is well again, one last run must end with exit code 0, and what it left is verified from the outside, without the code
that made it: files on disk against the files that the archive was given, by SHA-256; the databases and files of the sandbox; the report.
Prints the seed first, so that a failure can be run again, and exits with 1 when anything is wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pydicom.filewriter import dcmwrite

from isocenter.sandbox.phantom import NODULES
from isocenter.sandbox.phantom.dicom import ct, dx, study_of
from isocenter.sandbox.phantom.pixels import chest, noise

COLLECTION, NAME = "KILLED", "killed"
STEPS = 5
DISK, RESULT = 96, 6  # MiB: a download wants 64 of them to be free; the files of one result
PROGRAM = [sys.executable, "-m", "isocenter"]
SPELLS: tuple[dict[str, list[str]], ...] = (
    {},
    {"tcia": ["outage"]},
    {"tcia": ["slow"]},
    {"tcia": ["truncated-zip"]},
    {"tcia": ["html-502"]},
    {"qure": ["outage"]},
    {"qure": ["slow"]},
    {"qure": ["html-502"]},
    {"qure": ["expired-urls"]},
    {"circus": ["outage"]},
    {"circus": ["slow"]},
    {"circus": ["html-502"]},
    {"tcia": ["truncated-zip"], "qure": ["expired-urls"], "circus": ["slow"]},
)
PIPELINE = """
name = "killed"
tries = 20
patience = 0.02
find = {{ collection = "KILLED" }}
download = {{ to = "{root}", layout = "{{Collection}}/{{SeriesInstanceUID}}", at_once = 2 }}
upload = {{ at_once = 1 }}
results = {{ to = "{root}/results", at_once = 2 }}
case = {{ project = "Lung nodules", tags = ["killed"], at_once = 1 }}
tag = {{ add = ["{{triage_status}}", "{{Modality}} {{usecase}}"], at_once = 1 }}
"""


@dataclass
class Source:
    """What the archive was given: SHA-256 of every file by series and instance, and the modality of every series."""

    files: dict[str, dict[str, str]] = field(default_factory=dict)
    modality: dict[str, str] = field(default_factory=dict)


def make_series(folder: Path, count: int) -> Source:
    """Small chest CTs of three to six slices, and a radiograph in every fifth place, with images of their own."""
    source = Source()
    volume = chest(NODULES[:2], 10, 12.0)[:, ::4, ::4]
    grey = (noise((64, 64), 300) + 2000).astype("uint16")
    for number in range(count):
        study = study_of(f"PAT-1{number:03d}", "O", "", "killed", "20240102", "Killed pipeline", "1")
        slices = volume[2 : 5 + number % 4] + number
        images = ct(study, "ct", 1, "Small chest", slices, 0.0, 12.0)
        for image in images if number % 5 < 4 else [dx(study, grey + number)]:
            path = folder / f"{number:03d}-{image.InstanceNumber}.dcm"
            dcmwrite(path, image, enforce_file_format=True)
            series = source.files.setdefault(str(image.SeriesInstanceUID), {})
            series[str(image.SOPInstanceUID)] = hashlib.sha256(path.read_bytes()).hexdigest()
            source.modality[str(image.SeriesInstanceUID)] = str(image.Modality)
    return source


class Server:
    """The sandbox in a process of its own."""

    def __init__(self, data: Path, dicom: Path, log: IO[bytes]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url, self.data = f"http://127.0.0.1:{port}", data
        options = ["--data", str(data), "--dicom", str(dicom), "--collection", COLLECTION]
        self.process = subprocess.Popen([*PROGRAM, "sandbox", "--port", str(port), *options], stdout=log, stderr=log)
        until = time.monotonic() + 120
        while True:
            with suppress(OSError):
                self.faults()
                break
            if self.process.poll() is not None or time.monotonic() > until:
                raise SystemExit("the sandbox does not start")
            time.sleep(0.1)
        self.credentials = json.loads((data / "credentials.json").read_text())

    def faults(self, wanted: dict[str, list[str]] | None = None) -> None:
        """Switch on these faults and all others off; None only asks."""
        services: dict[str, list[str]] = {"tcia": [], "qure": [], "circus": []}
        body = None if wanted is None else json.dumps(services | wanted).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/_sandbox/faults", body), timeout=60) as answer:
            answer.read()

    @property
    def environment(self) -> dict[str, str]:
        """What `isocenter run` needs to find it."""
        qure, circus = self.credentials["qure"], self.credentials["circus"]
        return {
            **os.environ,
            "ISOCENTER_CONFIG": "",
            "ISOCENTER_TCIA_BASE_URL": f"{self.url}/nbia-api/services/v4",
            "ISOCENTER_QURE_BASE_URL": f"{self.url}/qure",
            "ISOCENTER_QURE_TOKEN": qure["token"],
            "ISOCENTER_QURE_SOURCE": qure["source"],
            "ISOCENTER_CIRCUS_BASE_URL": f"{self.url}/circus/api",
            "ISOCENTER_CIRCUS_TOKEN": circus["token"],
        }


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[bool]:
    """A file system of its own in `folder`, of so many MiB, where that can be had."""
    mounted = (
        sys.platform == "linux"
        and os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}m", "isocenter-test", str(folder)], capture_output=True
        ).returncode
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _no_large_files() -> None:
    import resource  # not on Windows

    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, 64 << 10))


@dataclass
class Run:
    """One `isocenter run` and what it says."""

    process: subprocess.Popen[bytes]
    log: Path

    def at_work(self) -> bool:
        """Whether it began to work on series, or has ended."""
        return b'"start"' in self.log.read_bytes() or self.process.poll() is not None

    def end(self) -> None:
        """Kill it with signal 9."""
        self.process.kill()
        self.process.wait()


class Killing:
    """One pipeline, its processes, and what is done to them."""

    def __init__(self, root: Path, server: Server, chance: random.Random, logs: Path, own_disk: bool) -> None:
        self.root, self.server, self.chance, self.logs, self.own_disk = root, server, chance, logs, own_disk
        self.started, self.spell = 0, 0.0
        self.file, self.ledger = root / "killed.toml", root / "jobs.sqlite"
        self.file.write_text(PIPELINE.format(root=root))
        self.alive: list[Run] = []
        self.seen: Counter[str] = Counter()

    def start(self, *options: str, limited: bool = False) -> Run:
        """One `isocenter run`."""
        command = [*PROGRAM, "run", str(self.file), "--ledger", str(self.ledger), "--json", *options]
        self.started += 1
        log = self.logs / f"run-{self.started:03d}.txt"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env=self.server.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=_no_large_files if limited else None,
            )
        return Run(process, log)

    def passed(self) -> int:
        """How many steps of how many series are done."""
        with suppress(sqlite3.Error):
            ledger = sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True, timeout=5)
            try:
                return int(ledger.execute("SELECT sum(step + (state='done')) FROM item").fetchone()[0] or 0)
            finally:
                ledger.close()
        return 0

    def look(self) -> float:
        """Change the faults when it is time; the time, a little later."""
        if time.monotonic() > self.spell:
            self.server.faults(self.chance.choice(SPELLS))
            self.spell = time.monotonic() + self.chance.uniform(0.2, 1.0)
        time.sleep(0.02)
        return time.monotonic()

    def moment(self, victim: Run, most: int) -> None:
        """Let them work until a random moment: mostly some steps further on and a little later, sometimes before work begins."""
        early, until = self.chance.random() < 0.2, time.monotonic() + 30
        while not early and self.look() < until and not victim.at_work():
            pass
        goal, until = self.passed() + self.chance.randint(0, most), time.monotonic() + self.chance.uniform(0.3, 3.0)
        while self.look() < until and self.passed() < goal:
            pass
        time.sleep(self.chance.uniform(0, 0.3))

    def kill_one(self, most: int) -> None:
        """Have one or two runs work, and kill one of them at a random moment. One that ended by itself before is followed by another."""
        while len(self.alive) < (2 if self.chance.random() < 0.35 else 1):
            self.alive.append(self.start())
            self.seen["two at once"] += len(self.alive) == 2
        while True:
            victim = self.alive[self.chance.randrange(len(self.alive))]
            self.moment(victim, most)
            self.alive.remove(victim)
            ended = victim.process.poll()
            victim.end()
            if ended is None:
                return
            self.seen[f"ended with {ended} before it could be killed"] += 1
            if ended not in (0, 1):
                raise SystemExit(f"a run ended with {ended}, see {victim.log}")
            self.alive.append(self.start(*(["--again"] if ended == 0 else [])))

    def fill_disk(self) -> None:
        """A run, and those that work already, while nothing more can be written: it must stop and say why."""
        if sys.platform == "win32":  # neither kind of full disk is to be had there
            return
        filler = self.root / "filler"
        if self.own_disk:
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(b"\0" * (1 << 20)):
                    pass
            with suppress(OSError), filler.open("ab", buffering=0) as file:
                while file.write(b"\0"):
                    pass
        self.server.faults({})
        run = self.start(limited=not self.own_disk)
        ended = run.process.wait(60)
        if ended not in (0, 1):
            raise SystemExit(f"a run on a full disk ended with {ended}, see {run.log}")
        self.seen[f"ended with {ended} on a full disk"] += 1
        filler.unlink(missing_ok=True)

    def stop(self) -> None:
        """Kill whoever works."""
        while self.alive:
            self.alive.pop().end()

    def end(self) -> dict[str, Any]:
        """No more faults: whoever works is killed, one last run must do the rest. Returns its report by series."""
        self.stop()
        self.server.faults({})
        last = self.start("--report", str(self.root / "report.jsonl"))
        if last.process.wait(180) != 0:
            raise SystemExit(f"the last run ended with {last.process.returncode}:\n{last.log.read_text()[-3000:]}")
        rows = [json.loads(line) for line in (self.root / "report.jsonl").read_text().splitlines()]
        return {row["SeriesInstanceUID"]: row for row in rows}


def verify(killing: Killing, source: Source, report: dict[str, Any]) -> list[str]:
    """What is wrong; nothing, if all is well."""
    root, data, wrong = killing.root, killing.server.data, list[str]()

    def expect(what: str, found: object, wanted: object) -> None:
        if found != wanted:
            wrong.append(f"{what}: {found!r} instead of {wanted!r}"[:600])

    def hashes(folder: Path) -> dict[str, str]:
        return {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.dcm")}

    sandbox = sqlite3.connect(f"file:{data / 'sandbox.db'}?mode=ro", uri=True)
    cases: dict[str, list[Any]] = {}
    for head, revisions in sandbox.execute("SELECT head, revisions FROM circus_case"):
        case = json.loads(head)
        if "killed" in case["tags"]:
            cases.setdefault(json.loads(revisions)[0]["series"][0]["seriesUid"], []).append(case)
    registered = Counter(sandbox.execute("SELECT series_instance_uid, sop_instance_uid FROM qure_instance").fetchall())
    wanted = Counter((series, image) for series, images in source.files.items() for image in images)
    expect("instances at Qure", registered, wanted)
    expect("series with cases", sorted(cases), sorted(source.files))
    expect("series in the report", sorted(report), sorted(source.files))
    expect("states", {row["state"] for row in report.values()} <= {"done", "skipped"}, True)
    computed = sandbox.execute("SELECT uid, state, run FROM qure_job").fetchall()
    jobs = [uid for uid, images in source.files.items() for uid in (images if source.modality[uid] == "DX" else [uid])]
    expect("computations at Qure", sorted(computed), sorted((uid, "done", 1) for uid in jobs))
    for series, files in source.files.items():
        expect(f"{series} on disk", hashes(root / COLLECTION / series), files)
        expect(f"{series} at Qure", hashes(data / "qure" / series), files)
        expect(f"{series} at CIRCUS", hashes(data / "circus" / series), files)
        kind = source.modality[series]
        row, (case, *more) = report.get(series, {}), cases.get(series) or [{}]
        expect(f"cases of {series}", [one["caseId"] for one in more], [])
        expect(f"case of {series} in the report", row.get("case"), case.get("caseId"))
        usecase = "qct" if kind == "CT" else "qxr"
        tags = {"killed", row.get("triage_status"), f"{kind} {usecase}"}
        marks = [tag for tag in case.get("tags", []) if tag not in tags]
        expect(f"tags of {series}", (len(marks), len(case.get("tags", []))), (1, 4))
        expect(f"mark of {series}", [mark.startswith("isocenter-") for mark in marks], [True])
        expect(f"files of {series} in the report", row.get("files"), len(files))
        for result in files if kind == "DX" else [series]:
            folder = root / "results" / result
            index = json.loads((folder / "index.json").read_text()) if folder.is_dir() else {"files": []}
            expect(f"result {result} has files", len(index["files"]) > 3, True)
            expect(
                f"result {result}",
                {path.name for path in folder.glob("*")},
                {f["name"] for f in index["files"]} | {"index.json"},
            )
            for file in index["files"]:
                sha = hashlib.sha256((folder / file["name"]).read_bytes()).hexdigest()
                expect(f"{file['name']} of {result}", sha, file["sha256"])
    sandbox.close()
    expect("half-written files", [str(path) for path in root.rglob("*.part")], [])
    expect("unfinished series", list((root / ".isocenter" / "partial").glob("*")), [])
    expect("what is held", list(root.glob("jobs.sqlite.holders/*")), [])
    folders = {path.name for path in (root / COLLECTION).iterdir()}
    expect("folders of series", folders, set(source.files))
    return wrong


def run(kills: int, count: int, seed: int, folder: Path, say: Any = print) -> list[str]:
    """The whole test in an empty folder. Returns what is wrong."""
    started, chance = time.monotonic(), random.Random(seed)
    dicom, data, root, logs = (folder / name for name in ("dicom", "sandbox", "out", "logs"))
    for path in (dicom, data, root, logs):
        path.mkdir(parents=True)
    source = make_series(dicom, count)
    with ExitStack() as stack:
        own_disk = stack.enter_context(small_disk(root, DISK + RESULT * count))
        server = Server(data, dicom, stack.enter_context((folder / "sandbox.txt").open("ab")))
        stack.callback(server.process.wait)
        stack.callback(server.process.terminate)
        killing = Killing(root, server, chance, logs, own_disk)
        stack.callback(killing.stop)
        full = "a full file system of its own" if own_disk else "a limit of 64 KiB a file"
        full = "left out" if sys.platform == "win32" else full
        say(
            f"seed {seed}, {kills} kills, {count} series, {sum(map(len, source.files.values()))} images; full disk: {full}"
        )
        for number in range(1, kills + 1):
            # As far on each time as leaves work for all kills; a little less, since who is killed works a moment longer.
            left = STEPS * count - killing.passed()
            killing.kill_one(most=left // (kills + 1 - number))
            if number % 10 == 5:
                killing.fill_disk()
            if number % 10 == 0:
                say(f"{number} kills, {killing.passed()} of {STEPS * count} steps, {time.monotonic() - started:.0f} s")
        report = killing.end()
        wrong = verify(killing, source, report)
        say(
            f"{', '.join(f'{count} x {what}' for what, count in killing.seen.items())}; {time.monotonic() - started:.0f} s"
        )
    return wrong + [f"there is a traceback in {log}" for log in logs.iterdir() if "Traceback" in log.read_text()]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--series", type=int, default=40)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--folder", type=Path, help="an empty folder that is kept")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that sandbox and file system go, too
    with ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        wrong = run(arguments.kills, arguments.series, arguments.seed, folder)
    for line in wrong:
        print(line)
    print(f"{len(wrong)} things are wrong" if wrong else "every byte is where it belongs, once")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
