"""How long a host waits for `isocenter serve` until it has the list of tools, and what the idle process then holds.

`python tests/bench/bench_serve_start.py`, about a minute. Against a server of the SDK's low-level kind with one tool and nothing else,
and the same in FastMCP 4 (in a virtual environment of its own, made on first use). Rounds are interleaved; medians and minima.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import orjson
from serving import BARE, FASTMCP, ISOCENTER, Pipe, fastmcp_python, now  # type: ignore[import-not-found]  # beside this file

ROUNDS = 9
FLOOR = "bare SDK, one tool"


def contenders(folder: Path) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Command and environment of everything that is started, by name."""
    home = {"XDG_CONFIG_HOME": str(folder), "ISOCENTER_DOWNLOAD_DIR": str(folder / "downloads")}
    elsewhere = {
        **home,
        "ISOCENTER_TCIA_BASE_URL": "http://127.0.0.1:9/nbia-api/services/v4",
        "ISOCENTER_QURE_BASE_URL": "http://127.0.0.1:9/qure",
        "ISOCENTER_QURE_TOKEN": "token-of-the-bench",
        "ISOCENTER_CIRCUS_BASE_URL": "http://127.0.0.1:9/circus/api",
        "ISOCENTER_CIRCUS_TOKEN": "token-of-the-bench",
    }
    found = {
        FLOOR: ([sys.executable, "-c", BARE], {}),
        "serve --sandbox": ([ISOCENTER, "serve", "--sandbox", "--data", str(folder / "sandbox")], home),
        "serve": ([ISOCENTER, "serve"], elsewhere),
        "serve --toolset all": ([ISOCENTER, "serve", "--toolset", "all"], elsewhere),
    }
    if python := fastmcp_python():
        found["FastMCP, one tool"] = ([python, "-c", FASTMCP], {})
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        started = contenders(Path(folder))
        rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in started}
        listed: dict[str, tuple[int, int]] = {}
        for number in range(ROUNDS + 1):  # the first one warms the disk's caches
            for name, (command, environment) in started.items():
                begun = now()
                with Pipe(command, environment) as pipe:
                    tools = pipe.greet()["tools"]
                    waited, cpu = now() - begun, pipe.cpu()
                    time.sleep(0.5)  # what is still going on in the background counts as memory
                    if number:
                        rows[name].append((waited, cpu, pipe.memory()))
                    listed[name] = (len(tools), len(orjson.dumps(tools)))
    print("Spawn to the reply to tools/list, and the process half a second later (goals: 1.2 x, 70 MiB)")
    print(f"{'':<24}{'tools':>6}{'kB':>6}{'median s':>10}{'x':>6}{'least s':>9}{'x':>6}{'CPU s':>8}{'x':>6}{'MiB':>7}")
    floor = [statistics.median(column) for column in zip(*rows[FLOOR], strict=True)]
    least = min(row[0] for row in rows[FLOOR])
    for name, values in rows.items():
        waited, cpu, memory = (statistics.median(column) for column in zip(*values, strict=True))
        best, (count, size) = min(row[0] for row in values), listed[name]
        print(
            f"{name:<24}{count:>6}{size / 1000:>6.0f}{waited:>10.2f}{waited / floor[0]:>6.2f}{best:>9.2f}{best / least:>6.2f}"
            f"{cpu:>8.2f}{cpu / floor[1]:>6.2f}{memory:>7.0f}"
        )


if __name__ == "__main__":
    main()
