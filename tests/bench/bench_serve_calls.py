"""What `isocenter serve` costs per call, with both checks on, and how many calls a second it carries.

`python tests/bench/bench_serve_calls.py`, about a minute. Two operations of `specs/minirad.yaml` (a case of 230 bytes, and a list of 50)
through `isocenter serve --spec`, through a server of the SDK's low-level kind that passes the upstream's text on unchecked, and through
FastMCP 4 `from_openapi` on the same specification (in a virtual environment of its own); beside them a direct httpx loop. Client and
upstream are the same for all and cheap. Rounds are interleaved and medians shown; everything shares the machine, so trust the ratios.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx
import orjson
import yaml
from serving import BARE, FASTMCP, ISOCENTER, Pipe, fastmcp_python, now, serve_upstream, upstream  # type: ignore[import-not-found]  # beside this file

SPEC = Path(__file__).parents[1] / "specs" / "minirad.yaml"
CASE = {
    "caseId": "MR-0001",
    "title": "Knee",
    "note": None,
    "createdAt": "2024-02-29T12:00:00Z",
    "patient": {"id": "PAT-0001", "sex": "F", "birthDate": "1970-01-31", "weight": 61.5},
    "images": [{"number": 1, "view": "axial"}],
}
TOKEN = "token-of-the-bench"
ROUNDS = 7
SECONDS = 0.6  # of each measurement
OURS, BARE_SDK, DIRECT = "isocenter serve --spec", "bare SDK + httpx", "direct httpx"

Measured = tuple[list[float], float, float]  # seconds of each call, wall time of all, processor seconds of the server


class Calls:
    """`tools/call` again and again over one pipe. The names are what the server calls getCase, listCases and getInfo."""

    def __init__(self, pipe: Pipe, one: str, many: str, slow: str) -> None:
        self.pipe, self.slow, self.failed, self.number = pipe, slow, 0, 10
        self._lines = [self._line(one, caseId="MR-0001"), self._line(many, site="North")]

    @staticmethod
    def _line(tool: str, **arguments: str) -> tuple[bytes, bytes, bytes]:
        call = {"jsonrpc": "2.0", "id": 0, "method": "tools/call"}
        return orjson.dumps({**call, "params": {"name": tool, "arguments": arguments}}).partition(b'"id":0')

    def _send(self, started: dict[int, float], rows: bool) -> None:
        self.number += 1
        started[self.number] = now()
        head, _, tail = self._lines[rows]
        self.pipe.write(head + b'"id":%d' % self.number + tail + b"\n")

    def run(self, at_once: int, seconds: float, rows: bool = False) -> Measured:
        """Keep `at_once` calls in flight for so long; `rows` for the list."""
        started: dict[int, float] = {}
        took: list[float] = []
        begun, cpu = now(), self.pipe.cpu()
        for _ in range(at_once):
            self._send(started, rows)
        while started:
            for line in self.pipe.lines():
                answer = orjson.loads(line)
                if (sent := started.pop(answer.get("id"), None)) is None:
                    continue
                took.append(now() - sent)
                if "error" in answer or answer["result"].get("isError") or b"PAT-0001" not in line:
                    self.failed += 1
                if now() - begun < seconds:
                    self._send(started, rows)
        return took, now() - begun, self.pipe.cpu() - cpu

    def behind_a_slow_one(self) -> tuple[float, float]:
        """A call that takes two seconds, and others meanwhile: the longest of those, and how long the slow one took, in seconds."""
        begun = now()
        self.pipe.send({"id": 1, "method": "tools/call", "params": {"name": self.slow, "arguments": {}}})
        took, _, _ = self.run(4, 1.0)
        while not any(orjson.loads(line).get("id") == 1 for line in self.pipe.lines()):
            pass
        return max(took), now() - begun


async def direct(base: str, at_once: int, seconds: float, rows: bool = False) -> Measured:
    """The same requests from httpx, the answers parsed and nothing else."""
    url = f"{base}/cases?site=North" if rows else f"{base}/cases/MR-0001"
    took: list[float] = []
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}, limits=limits) as client:
        await asyncio.gather(*(client.get(url) for _ in range(at_once)))
        begun, cpu = now(), time.process_time()

        async def work() -> None:
            while now() - begun < seconds:
                sent = now()
                answer = (await client.get(url)).json()
                assert (answer[0] if rows else answer)["caseId"] == "MR-0001"
                took.append(now() - sent)

        await asyncio.gather(*(work() for _ in range(at_once)))
        return took, now() - begun, time.process_time() - cpu


def main() -> None:
    with ExitStack() as stack:
        base = stack.enter_context(upstream(__file__))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        home = {"XDG_CONFIG_HOME": str(folder), "ISOCENTER_DOWNLOAD_DIR": str(folder / "downloads")}
        document = folder / "minirad.json"
        document.write_bytes(orjson.dumps({**yaml.safe_load(SPEC.read_text()), "servers": [{"url": base}]}))
        ours = [ISOCENTER, "serve", "--spec", str(SPEC), "--base-url", base]
        names = "get_case", "list_cases", "get_info"
        servers: dict[str, Calls] = {
            BARE_SDK: Calls(Pipe([sys.executable, "-c", BARE, base]), *names),
            OURS: Calls(Pipe(ours, {**home, "ISOCENTER_SPEC_BEARERAUTH": TOKEN}), *names),
        }
        if python := fastmcp_python():
            peer = Pipe([python, "-c", FASTMCP, base, str(document)])
            servers["FastMCP from_openapi"] = Calls(peer, "getCase", "listCases", "getInfo")
        runs: dict[str, Callable[[int, float, bool], Measured]] = {
            DIRECT: lambda at_once, seconds, rows: asyncio.run(direct(base, at_once, seconds, rows))
        }
        for name, calls in servers.items():
            stack.enter_context(calls.pipe)
            calls.pipe.greet()
            calls.run(32, 0.3)
            runs[name] = calls.run
        rows: dict[str, list[list[float]]] = {name: [] for name in runs}
        for _ in range(ROUNDS):
            for name, run in runs.items():
                one, seconds, cpu = run(1, SECONDS, False)
                many, seconds_many, cpu_many = run(32, SECONDS, False)
                listed, _, _ = run(1, SECONDS, True)
                rows[name].append(
                    [
                        statistics.median(one) * 1e3,
                        statistics.quantiles(one, n=20)[-1] * 1e3,
                        len(one) / seconds,
                        len(many) / seconds_many,
                        cpu / len(one) * 1e3,
                        cpu_many / len(many) * 1e3,
                        statistics.median(listed) * 1e3,
                    ]
                )
        print(f"{'one case':<24}{'p50':>8}{'over':>8}{'p95':>8}{'calls/s':>18}{'CPU ms a call':>16}{'50 cases':>12}")
        print(f"{'':<24}{'ms':>8}{'httpx':>8}{'ms':>8}{'1':>9}{'32':>9}{'1':>8}{'32':>8}{'p50 ms':>12}")
        middles = {
            name: [statistics.median(column) for column in zip(*found, strict=True)] for name, found in rows.items()
        }
        over: dict[str, float] = {}
        for name, (middle, late, rate, rate_many, cpu, cpu_many, listed_middle) in middles.items():
            pairs = zip(rows[name], rows[DIRECT], strict=True)
            over[name] = statistics.median(mine[0] - floor[0] for mine, floor in pairs)
            print(
                f"{name:<24}{middle:>8.2f}{over[name]:>8.2f}{late:>8.2f}{rate:>9.0f}{rate_many:>9.0f}{cpu:>8.2f}{cpu_many:>8.2f}"
                f"{listed_middle:>12.2f}"
            )
        print("\nOur overhead over theirs (goals: bare SDK 1.0, FastMCP 0.7), and a call of two seconds among others:")
        for name, calls in servers.items():
            longest, slow = calls.behind_a_slow_one()
            ratio = f"{over[OURS] / over[name]:>6.2f} x" if name != OURS else f"{'':>8}"
            print(
                f"{name:<24}{ratio}   longest of the others {longest * 1e3:>5.0f} ms, slow one {slow:.2f} s, {calls.failed} failed"
            )


if __name__ == "__main__":
    if "--upstream" in sys.argv:
        cases = orjson.dumps([{**CASE, "caseId": f"MR-{number:04}"} for number in range(1, 51)])
        answers = {"/cases/": orjson.dumps(CASE), "/cases": cases, "/info": b'{"version": "1.0.0"}'}
        serve_upstream(answers, late="/info")
    else:
        main()
