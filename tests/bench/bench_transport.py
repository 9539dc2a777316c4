"""How many small calls a second each HTTP stack carries to one local server, with and without the whole checked client around it.

`python tests/bench/bench_transport.py`, about 35 seconds. Rounds are interleaved and medians shown; client and server share the
machine, so trust the ratios. httpx-aiohttp takes part where it is installed.
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import aiohttp
import httpx
import httpx2
import orjson
import uvicorn
from starlette.types import Receive, Scope, Send

import isocenter_clients
from isocenter.core import ApiClient
from isocenter.core.http import open_transport
from isocenter.core.schema import lookup

CONCURRENCY = (1, 8, 32)
ROUNDS = 3
SECONDS = 0.5  # of each measurement

Call = Callable[[], Awaitable[object]]


def serve() -> None:
    """A server that answers every request with one series row. Says its port on standard output."""
    row = lookup(isocenter_clients.contract("tcia").document, "/components/examples/SeriesRowsJson/value")[:1]
    body = orjson.dumps(row)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio sets it only on sockets it made itself
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(app, log_level="critical", lifespan="off", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])


async def candidates(base: str, stack: AsyncExitStack) -> dict[str, Call]:
    """Everything that is measured, by name."""
    url = f"{base}/getSeries?Collection=Phantom-Lung&Modality=CT"
    session = await stack.enter_async_context(
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64), cookie_jar=aiohttp.DummyCookieJar())
    )
    stock = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=64, max_keepalive_connections=64))
    continued = httpx2.AsyncHTTPTransport(limits=httpx2.Limits(max_connections=64, max_keepalive_connections=64))
    ours = open_transport(64)
    transports: dict[str, httpx.AsyncBaseTransport] = {"httpx, stock transport": stock, "open_transport()": ours}
    try:
        from httpx_aiohttp import AiohttpTransport
    except ImportError:
        pass
    else:
        transports["httpx-aiohttp"] = AiohttpTransport(
            client=lambda: aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64))
        )
    stack.push_async_callback(continued.aclose)
    for transport in transports.values():
        stack.push_async_callback(transport.aclose)

    async def raw() -> object:
        async with session.get(url) as response:
            return await response.read()

    def through(transport: httpx.AsyncBaseTransport) -> Call:
        async def call() -> object:
            response = await transport.handle_async_request(httpx.Request("GET", url))
            body = await response.aread()
            await response.aclose()
            return body

        return call

    async def through_httpx2() -> object:
        response = await continued.handle_async_request(httpx2.Request("GET", url))
        body = await response.aread()
        await response.aclose()
        return body

    client = ApiClient(isocenter_clients.contract("tcia"), base_url=base, transport=ours)

    async def checked() -> object:
        return await client.call("getSeries", {"Collection": "Phantom-Lung", "Modality": "CT"})

    return {
        "aiohttp, raw": raw,
        **{name: through(transport) for name, transport in transports.items()},
        "httpx2, stock transport": through_httpx2,
        "ApiClient.call, checks on": checked,
    }


async def rate(call: Call, at_once: int) -> float:
    """Calls a second with `at_once` in flight."""
    until = time.perf_counter() + SECONDS

    async def work() -> int:
        done = 0
        while time.perf_counter() < until:
            await call()
            done += 1
        return done

    started = time.perf_counter()
    counts = await asyncio.gather(*(work() for _ in range(at_once)))
    return sum(counts) / (time.perf_counter() - started)


async def measure(base: str) -> None:
    async with AsyncExitStack() as stack:
        calls = await candidates(base, stack)
        rates: dict[tuple[str, int], list[float]] = {(name, at_once): [] for name in calls for at_once in CONCURRENCY}
        for call in calls.values():
            await asyncio.gather(*(call() for _ in range(32)))
        for _ in range(ROUNDS):
            for at_once in CONCURRENCY:
                for name, call in calls.items():
                    rates[name, at_once].append(await rate(call, at_once))
    print("calls/s, and the multiple of httpx's stock transport")
    print(f"{'':<28}" + "".join(f"{f'{at_once} at once':>18}" for at_once in CONCURRENCY))
    middle = {key: statistics.median(values) for key, values in rates.items()}
    for name in calls:
        cells = [(middle[name, n], middle[name, n] / middle["httpx, stock transport", n]) for n in CONCURRENCY]
        print(f"{name:<28}" + "".join(f"{calls_a_second:>10.0f} {ratio:>5.1f} x" for calls_a_second, ratio in cells))


def main() -> None:
    with subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            asyncio.run(measure(f"http://127.0.0.1:{server.stdout.readline().strip()}"))
        finally:
            server.terminate()


if __name__ == "__main__":
    serve() if "--serve" in sys.argv else main()
