"""`isocenter serve` on raw pipes: what stands on standard output, and how the process ends. No MCP library on this side."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from upstream import Reply, Upstream

SPEC = Path(__file__).parent / "specs" / "minirad.yaml"
SECONDS = 20  # the longest any single wait may take
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "pipe", "version": "0"}}


class Pipe:
    """A server process and its three streams; every line of standard output must be one JSON-RPC message."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin and process.stdout and process.stderr
        self.process = process
        self.stdin = process.stdin
        self.lines: queue.Queue[bytes] = queue.Queue()
        self.errors = bytearray()
        self._readers = [
            threading.Thread(target=self._read, args=(process.stdout, self.lines.put)),
            threading.Thread(target=self._read, args=(process.stderr, self.errors.extend)),
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: IO[bytes], keep: Any) -> None:
        for line in stream:
            keep(line)
        keep(b"")

    def send(self, *messages: dict[str, Any] | bytes) -> None:
        for message in messages:
            line = message if isinstance(message, bytes) else json.dumps({"jsonrpc": "2.0", **message}).encode()
            self.stdin.write(line + b"\n")
        self.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """The next message of the server."""
        line = self.lines.get(timeout=SECONDS)
        assert line.endswith(b"\n"), (line, bytes(self.errors))
        message: dict[str, Any] = json.loads(line)
        assert message["jsonrpc"] == "2.0"
        return message

    def call(self, number: int, tool: str, **arguments: Any) -> dict[str, Any]:
        self.send({"id": number, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
        answer = self.receive()
        assert answer["id"] == number
        return answer

    def greet(self) -> None:
        self.send({"id": 0, "method": "initialize", "params": HELLO}, {"method": "notifications/initialized"})
        assert self.receive()["result"]["protocolVersion"] == "2025-11-25"

    def ended(self) -> tuple[int, str]:
        """Exit code and standard error, once the process is gone; nothing but messages stood on standard output."""
        code = self.process.wait(SECONDS)
        for reader in self._readers:
            reader.join(SECONDS)
        while line := self.lines.get(timeout=SECONDS):
            assert json.loads(line)["jsonrpc"] == "2.0"
        return code, self.errors.decode()


def process(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [str(Path(sys.executable).with_name("isocenter")), "serve", *options]
    environment = os.environ | {
        "XDG_CONFIG_HOME": str(folder),
        "ISOCENTER_DOWNLOAD_DIR": str(folder / "downloads"),
        "ISOCENTER_SPEC_BEARERAUTH": "token-of-the-test",
    }
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def minirad(url: str) -> list[str]:
    return ["--spec", str(SPEC), "--base-url", url]


@contextmanager
def served(folder: Path, *options: str) -> Iterator[Pipe]:
    with process(folder, *options) as running:
        pipe = Pipe(running)
        try:
            yield pipe
        finally:
            running.kill()
            pipe.stdin.close()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


def test_only_protocol_on_standard_output_whatever_comes_in(tmp_path: Path, upstream: Upstream) -> None:
    junk = [
        b"",
        b"hello?",
        b"{",
        b"[1, 2]",
        b'"text"',
        b"\xff\xfe\x00",
        b'{"jsonrpc": "2.0"}',
        b'{"jsonrpc": "1.0", "id": 5, "method": "tools/list"}',
        b"x" * (70 << 20),  # longer than any message may be
    ]
    with served(tmp_path, *minirad(upstream.url), "--verbose") as pipe:
        pipe.greet()
        pipe.send(*junk)
        pipe.send({"id": 1, "method": "tools/list"})
        listed = pipe.receive()
        unknown = pipe.call(2, "get_inof")
        info = pipe.call(3, "get_info")
        refused = pipe.call(4, "get_case", caseId="Canary^Patient")
        pipe.stdin.close()
        code, errors = pipe.ended()

    assert listed["id"] == 1 and len(listed["result"]["tools"]) == 12
    assert unknown["error"] == {"code": -32602, "message": "Unknown tool: get_inof. Did you mean get_info?"}
    assert info["result"]["structuredContent"]["data"] == {"version": "1.0.0"}
    assert refused["result"]["isError"]
    assert code == 0 and "Traceback" not in errors
    assert "a message of more than 64 MiB was skipped" in errors
    assert "isocenter.audit" in errors and "Canary" not in errors and "token-of-the-test" not in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_in_the_middle_of_a_call(tmp_path: Path, upstream: Upstream, number: int) -> None:
    upstream.next(Reply(how="hang"))
    with served(tmp_path, *minirad(upstream.url)) as pipe:
        pipe.greet()
        pipe.send({"id": 1, "method": "tools/call", "params": {"name": "get_info", "arguments": {}}})
        upstream.wait(lambda log: len(log) == 1)
        pipe.process.send_signal(number)
        code, errors = pipe.ended()

    assert code == 0 and errors == ""
    upstream.wait(lambda log: log[0].ended == "aborted")


def test_the_end_of_standard_input_ends_the_server_in_the_middle_of_a_call(tmp_path: Path, upstream: Upstream) -> None:
    upstream.next(Reply(how="hang"))
    with served(tmp_path, *minirad(upstream.url)) as pipe:
        pipe.greet()
        pipe.send({"id": 1, "method": "tools/call", "params": {"name": "get_info", "arguments": {}}})
        upstream.wait(lambda log: len(log) == 1)
        pipe.stdin.close()
        code, errors = pipe.ended()

    assert code == 0 and errors == ""
    upstream.wait(lambda log: log[0].ended == "aborted")


def test_two_servers_run_side_by_side(tmp_path: Path, upstream: Upstream) -> None:
    with served(tmp_path, *minirad(upstream.url)) as first, served(tmp_path, *minirad(upstream.url)) as second:
        for pipe in (first, second):
            pipe.greet()
        paths = [
            Path(pipe.call(number, "get_archive", study="1")["result"]["structuredContent"]["file"]["path"])
            for number in (1, 2)
            for pipe in (first, second)
        ]
        assert len(set(paths)) == 4 and all(path.is_file() for path in paths)
        for pipe in (first, second):
            pipe.stdin.close()
            assert pipe.ended() == (0, "")


def test_a_bad_start_is_one_message(tmp_path: Path) -> None:
    with served(tmp_path, *minirad("http://127.0.0.1:9"), "--spec", "/nowhere.yaml") as pipe:
        assert pipe.ended() == (1, "isocenter: /nowhere.yaml: No such file or directory\n")


def test_a_host_that_stops_reading_does_no_harm(tmp_path: Path, upstream: Upstream) -> None:
    def line(**message: Any) -> bytes:
        return json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"

    with process(tmp_path, *minirad(upstream.url)) as running:
        assert running.stdin and running.stdout and running.stderr
        running.stdin.write(line(id=0, method="initialize", params=HELLO) + line(method="notifications/initialized"))
        running.stdin.flush()
        assert running.stdout.readline()
        running.stdout.close()
        for number in range(1, 11):
            params = {"name": "get_info", "arguments": {}}
            running.stdin.write(line(id=number, method="tools/call", params=params))
            running.stdin.flush()
            upstream.wait(lambda log, number=number: len(log) == number)  # type: ignore[misc]
        running.stdin.close()
        errors = running.stderr.read().decode()

    assert running.returncode == 0 and "Traceback" not in errors


def test_the_everyday_tools_are_offered_and_the_sandbox_waits_for_the_first_call(tmp_path: Path) -> None:
    data = tmp_path / "sandbox"
    with served(tmp_path, "--sandbox", "--data", str(data)) as pipe:
        pipe.greet()
        pipe.send({"id": 1, "method": "tools/list"})
        listed = {tool["name"] for tool in pipe.receive()["result"]["tools"]}
        started_early = data.exists()
        found = pipe.call(2, "search_series", Modality="CT", Collection="nothing of this name")
        pipe.stdin.close()
        ended = pipe.ended()

    assert len(listed) <= 32 and {"find_series", "search_series", "create_case"} <= listed
    assert "list_circus_tasks" not in listed
    assert not started_early and data.is_dir()
    assert found["result"]["structuredContent"] == {"status": 200, "data": [], "total": 0}
    assert ended == (0, "")


def test_a_server_that_was_asked_for_nothing_has_not_loaded_what_only_calls_need(tmp_path: Path) -> None:
    program = """
import sys
import isocenter.cli
from isocenter.agent import embedded, server, stdio, toolbox
from isocenter.settings import Settings

server.build(toolbox.own_apis(Settings()))
print(*({"aiohttp", "httpx", "jsonschema_rs", "numpy", "pydicom", "yaml"} & sys.modules.keys()))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert (ran.stdout, ran.stderr) == ("\n", "")
