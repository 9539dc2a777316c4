"""What the two benches of `isocenter serve` share: a client on raw pipes, the peers, and an upstream that is never the limit.

The client is as cheap as can be and the same for everybody, so that differences are those of the servers. Processor time and memory
are read from /proc: Linux only.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import orjson

HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "0"}}
ISOCENTER = str(Path(sys.executable).with_name("isocenter"))
TICKS = os.sysconf("SC_CLK_TCK")

# A server of the SDK's low-level kind as its documentation writes it: one tool, no checks. With an address it passes calls on.
BARE = """
import sys
import anyio
from mcp import types
from mcp.server import Server
from mcp.server.stdio import stdio_server

client = None
if len(sys.argv) > 1:
    import httpx
    client = httpx.AsyncClient(base_url=sys.argv[1], headers={"Authorization": "Bearer token-of-the-bench"})
schema = {"type": "object", "properties": {"caseId": {"type": "string"}}, "required": ["caseId"]}

async def list_tools(ctx, params):
    return types.ListToolsResult(tools=[types.Tool(name="get_case", description="One case", input_schema=schema)])

async def call_tool(ctx, params):
    given = params.arguments
    if params.name == "list_cases":
        response = await client.get("/cases", params=given)
    else:
        response = await client.get("/info" if params.name == "get_info" else "/cases/" + given["caseId"])
    return types.CallToolResult(content=[types.TextContent(type="text", text=response.text)])

server = Server("bare", version="0", on_list_tools=list_tools, on_call_tool=call_tool)

async def main():
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())

anyio.run(main)
"""

# The same one tool, or everything of a specification, the way FastMCP's documentation shows.
FASTMCP = """
import sys
from fastmcp import FastMCP

if len(sys.argv) > 1:
    import json
    from pathlib import Path
    import httpx2
    client = httpx2.AsyncClient(base_url=sys.argv[1], headers={"Authorization": "Bearer token-of-the-bench"})
    server = FastMCP.from_openapi(openapi_spec=json.loads(Path(sys.argv[2]).read_text()), client=client, name="peer")
else:
    server = FastMCP("peer")

    @server.tool
    async def get_case(caseId: str) -> str:
        return caseId

server.run(show_banner=False)
"""


class Pipe:
    """A server process, its protocol on raw pipes; standard error is dropped."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.command = list(command)
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self.process.stdin and self.process.stdout
        self._in, self._out = self.process.stdin.fileno(), self.process.stdout.fileno()
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def send(self, *messages: dict[str, Any]) -> None:
        """Write messages, each on its line."""
        self.write(b"".join(orjson.dumps({"jsonrpc": "2.0", **message}) + b"\n" for message in messages))

    def write(self, lines: bytes) -> None:
        """Write lines that are ready."""
        while lines:
            lines = lines[os.write(self._in, lines) :]

    def lines(self) -> list[bytes]:
        """Whatever whole lines came, at least one."""
        while True:
            piece = os.read(self._out, 1 << 18)
            if not piece:
                raise RuntimeError(f"{' '.join(self.command)[:80]} ended")
            *lines, self._rest = (self._rest + piece).split(b"\n")
            if lines:
                return lines

    def ask(self, number: int, method: str, **params: Any) -> dict[str, Any]:
        """One request and the answer to it."""
        self.send({"id": number, "method": method, "params": params})
        while True:
            for line in self.lines():
                message: dict[str, Any] = orjson.loads(line)
                if message.get("id") == number:
                    return message

    def greet(self) -> dict[str, Any]:
        """What a host does first; returns the list of tools."""
        self.ask(0, "initialize", **HELLO)
        self.send({"method": "notifications/initialized"})
        listed: dict[str, Any] = self.ask(1, "tools/list")["result"]
        return listed

    def cpu(self) -> float:
        """Seconds of processor time the process has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self) -> float:
        """Resident MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def fastmcp_python() -> str | None:
    """The interpreter of a virtual environment with FastMCP, made on first use in a cache folder; None where that fails."""
    folder = Path(tempfile.gettempdir()) / "isocenter-bench-fastmcp"
    python = folder / "bin" / "python"
    if not python.exists() or subprocess.run([python, "-c", "import fastmcp"], capture_output=True).returncode:
        print(f"installing FastMCP into {folder} ...", flush=True)
        make = f"{sys.executable} -m venv {folder}", f"{python} -m pip install --quiet fastmcp>=4,<5"
        if any(subprocess.run(step.split(), capture_output=True).returncode for step in make):
            print("FastMCP could not be installed and is left out")
            return None
    return str(python)


@contextmanager
def upstream(program: str) -> Iterator[str]:
    """Run `python program --upstream`, which calls `serve_upstream`, and hand over its address."""
    with subprocess.Popen([sys.executable, program, "--upstream"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


def serve_upstream(answers: Mapping[str, bytes], late: str, seconds: float = 2.0) -> None:
    """Answer a GET with what stands for the beginning of its path, the path `late` after some seconds. Says its port on standard output.

    It looks at the request line and nothing else, which costs a tenth of what a web framework would: the servers under test are
    the limit.
    """

    def answer(content: bytes) -> bytes:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        return head.encode() + content

    ready = {f"GET {start}".encode(): answer(body) for start, body in answers.items()}

    class Canned(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport, self.seen = transport, b""
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def data_received(self, data: bytes) -> None:
            *requests, self.seen = (self.seen + data).split(b"\r\n\r\n")
            for request in requests:
                content = next(content for start, content in ready.items() if request.startswith(start))
                if request.startswith(b"GET " + late.encode()):
                    asyncio.get_running_loop().call_later(seconds, self.transport.write, content)
                else:
                    self.transport.write(content)

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Canned, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(run())


def now() -> float:
    """The clock of all measurements, in seconds."""
    return time.perf_counter()
