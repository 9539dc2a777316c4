"""What a pipeline costs beside its steps, whether it grows in memory, and what a second process on the same ledger brings.

    python tests/bench/bench_pipeline.py [--series 2000] [--dry 100000] [--work 0.005] [--folder FOLDER]

The steps do nothing, or compute for `--work` seconds of processor time, or wait four times as long, as for a network; so what is
measured is the ledger and the runner: five steps a series, each a claim and a commit in SQLite, limits included. The dry run puts
100,000 series through all five steps and prints the growth of memory in between. Processes are started before the clock; two of them
share one ledger and one job.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STEPS = ("download", "upload", "results", "case", "tag")

WORKER = """
import json, sys, time
from pathlib import Path
import anyio
from isocenter.transfer.ledger import Ledger
from isocenter.transfer.patience import Rate
from isocenter.transfer.runner import run_job
from isocenter.transfer.steps import Passed
path, wait, work, steps = Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), sys.argv[4].split()

def resident(field):
    return int(Path("/proc/self/status").read_text().partition(field + ":")[2].split()[0]) / 1024

async def perform(step, item):
    await anyio.sleep(wait)
    until = time.thread_time() + work
    while time.thread_time() < until:
        pass
    return Passed({"folder": item.uid}, fresh=True)

samples, ended = [], 0
def on_event(event):
    global ended
    ended += 1
    if ended % 10_000 == 0:
        samples.append(round(resident("VmRSS"), 1))

with Ledger(path) as ledger:
    ledger.open_job("bench", "bench", "{}", steps)
    print("ready", flush=True)
    sys.stdin.readline()
    before, started, cpu = resident("VmRSS"), time.perf_counter(), time.process_time()
    report = anyio.run(lambda: run_job(
        ledger, "bench", steps, perform,
        at_once=dict.fromkeys(steps, 4), rates={step: Rate(0) for step in steps}, on_event=on_event,
    ))
    seconds = time.perf_counter() - started
    print(json.dumps({
        "seconds": seconds, "done": report.done, "cpu": time.process_time() - cpu, "before": before, "samples": samples,
        "peak": resident("VmHWM"),
    }))
"""


def fill(path: Path, count: int) -> float:
    """A ledger with one job. Returns the seconds it took to note its series."""
    from isocenter.transfer.ledger import Ledger

    started = time.perf_counter()
    with Ledger(path) as ledger:
        ledger.open_job("bench", "bench", "{}", STEPS)
        for number in range(count):
            ledger.add(
                "bench",
                f"2.25.{number}",
                {"Collection": "BENCH", "Modality": "CT", "ImageCount": 100, "FileSize": 52_000_000},
            )
        ledger.all_found("bench")
    return time.perf_counter() - started


def work(path: Path, processes: int, wait: float = 0.0, busy: float = 0.0) -> tuple[float, list[dict[str, float]]]:
    """Have the job done by so many processes; the wall clock time of all of them, and what each says."""
    command = [sys.executable, "-c", WORKER, str(path), str(wait), str(busy), " ".join(STEPS)]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    for process in running:
        assert process.stdout
        process.stdout.readline()
    started = time.perf_counter()
    for process in running:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [json.loads(process.communicate()[0]) for process in running]
    return time.perf_counter() - started, said


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--series", type=int, default=2000)
    parser.add_argument("--dry", type=int, default=100_000)
    parser.add_argument("--work", type=float, default=0.005)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        root = Path(folder)
        fill(root / "one.sqlite", arguments.series)
        taken, (said,) = work(root / "one.sqlite", 1)
        print(
            f"overhead: {1000 * taken / arguments.series:.2f} ms a series, five steps that do nothing; processor time "
            f"{1000 * said['cpu'] / arguments.series:.2f} ms (goal: 10 at most)"
        )
        noted = fill(root / "dry.sqlite", arguments.dry)
        taken, (said,) = work(root / "dry.sqlite", 1)
        print(
            f"dry run: {arguments.dry} series noted in {noted:.1f} s, done in {taken:.1f} s, {1000 * taken / arguments.dry:.2f} ms a series"
        )
        print(f"  memory {said['before']:.1f} MiB before, {said['samples']} after each 10,000, peak {said['peak']:.1f}")

        for name, count, wait, busy in (
            (f"computes {1000 * arguments.work:.0f} ms", arguments.series // 2, 0.0, arguments.work),
            (f"waits {4000 * arguments.work:.0f} ms", arguments.series, 4 * arguments.work, 0.0),
            ("does nothing", arguments.series, 0.0, 0.0),
        ):
            times, costs = [], []
            for processes in (1, 2):
                path = root / f"{name} {processes}.sqlite"
                fill(path, count)
                taken, told = work(path, processes, wait, busy)
                assert sum(one["done"] for one in told) == count
                times.append(taken)
                costs.append(1000 * sum(one["cpu"] for one in told) / count)
            print(
                f"a step {name}: one process {times[0]:.1f} s, two {times[1]:.1f} s, {times[0] / times[1]:.2f} times as fast; "
                f"processor time a series {costs[0]:.2f} and {costs[1]:.2f} ms"
            )


if __name__ == "__main__":
    main()
