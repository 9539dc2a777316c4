"""What the queue costs: steps that do nothing and steps that wait 20 ms, through a redis-server of their own and one or two workers.

    python tests/bench/bench_queue.py

Needs redis-server. Beside it the same run without a queue, where the ledger is all there is.
"""

from __future__ import annotations

import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio

from isocenter.core import ApiClient
from isocenter.transfer import steps
from isocenter.transfer.ledger import Item, Ledger
from isocenter.transfer.pipeline import Pipeline, pipeline_of
from isocenter.transfer.queue import queued, work
from isocenter.transfer.runner import Perform, run_job
from isocenter.transfer.steps import Passed, Tools

AT_ONCE = 4  # of each worker


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """A server with an append-only file; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    with subprocess.Popen([*command, "--appendonly", "yes"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        next(line for line in process.stdout if "Ready to accept connections" in line)
        yield f"redis://127.0.0.1:{port}/0"
        process.terminate()


def fake(seconds: float) -> steps.Step:
    """A step that takes a while and does nothing."""

    async def step(tools: Tools, pipeline: Pipeline, item: Item) -> Passed:
        if seconds:
            await anyio.sleep(seconds)
        return Passed({}, fresh=True)

    return step


def no_client(api: str) -> ApiClient:
    raise AssertionError(api)


@contextmanager
def workers(url: str, count: int, seconds: float) -> Iterator[None]:
    """That many worker processes, ready."""
    command = [sys.executable, __file__, url, str(seconds)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    for one in started:
        assert one.stdout and one.stdout.readline() == "ready\n"
    yield
    for one in started:
        one.send_signal(signal.SIGKILL)
        one.communicate()


def worker(url: str, seconds: float) -> None:
    """One of them."""
    steps.STEPS["download"] = fake(seconds)  # type: ignore[index]  # read-only for everybody else
    anyio.run(lambda: work(url, no_client, at_once=AT_ONCE, started=lambda: print("ready", flush=True)))


async def measured(folder: Path, series: int, url: str, seconds: float, at_once: int) -> None:
    """One run; prints what it took."""
    what = pipeline_of(
        {"name": "bench", "find": {"series": ["2.25.1"]}, "download": {"to": str(folder), "at_once": at_once}}, "bench"
    )
    step, used, began = fake(seconds), resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()

    async def here(name: str, item: Item) -> Passed:
        return await step(tools, what, item)

    async def run(perform: Perform) -> None:
        await run_job(ledger, what.id, what.steps, perform, at_once=what.at_once, rates=what.rates)

    async with Tools(no_client) as tools:
        with Ledger(folder / f"{time.time_ns()}.sqlite") as ledger:
            ledger.open_job(what.id, what.name, what.definition, what.steps)
            for number in range(series):
                ledger.add(what.id, f"2.25.{number}", {})
            ledger.all_found(what.id)
            if url:
                async with queued(url, what) as perform:
                    await run(perform)
            else:
                await run(here)
    took, now = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    print(
        f"{took / series * 1e3:7.2f} ms a step, {series / took:6.0f} steps a second, {cpu / series * 1e3:5.2f} ms CPU here"
    )


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as url:
        folder = Path(name)
        for title, seconds, series in (("nothing", 0.0, 1000), ("20 ms", 0.02, 1000)):
            print(f"{title:8} {'no queue':10}", end=" ")
            anyio.run(measured, folder, series, "", seconds, AT_ONCE)
            for count in (1, 2):
                with workers(url, count, seconds):
                    print(f"{title:8} {count} worker{'s' * (count - 1):3}", end=" ")
                    anyio.run(measured, folder, series, url, seconds, AT_ONCE * count)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        worker(sys.argv[1], float(sys.argv[2]))
    else:
        main()
