"""The sandbox as one ASGI application, and two ways to run it: in the foreground, or in a thread of this process."""

from __future__ import annotations

import html
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from isocenter.sandbox import circus, dicomaestro, faults, qure, tcia
from isocenter.sandbox.state import Options, Sandbox
from isocenter.sandbox.tcia import gateway

SERVICES = {"tcia": tcia, "gateway": gateway, "qure": qure, "dicomaestro": dicomaestro, "circus": circus}
_MOUNTS = {
    "tcia": "/nbia-api/services/{v4,v1,v2}/",
    "gateway": "/services/v4/TCIA/query/ and /services/v4/SharedList/query/",
    "qure": "/qure/",
    "dicomaestro": "/dicomaestro/",
    "circus": "/circus/",
}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Isocenter sandbox</title></head>
<body><h1>Isocenter sandbox</h1><p>Synthetic data, no patients. Ready and serving:</p><dl>{rows}</dl></body></html>
"""


def build(root: Path, options: Options) -> Starlette:
    """The application over one data directory, locked from now until its lifespan ends.

    `app.state.sandbox` is the shared state. Raises DataDirectoryInUse, and UnknownFaultError for `options.faults`.
    """
    wanted = faults.from_options(options.faults)
    sandbox = Sandbox(root, options)
    try:
        faults.switch(sandbox, wanted)
        modules = list(SERVICES.values())
        for module in modules:
            sandbox.db.executescript(module.SCHEMA)
        routes = [route for module in (*modules, faults) for route in module.routes(sandbox)]
    except BaseException:
        sandbox.close()
        raise

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            for module in modules:
                if start := getattr(module, "start", None):
                    await start(sandbox)
            yield
        except Exception as error:
            app.state.failure = error
            raise
        finally:
            await sandbox.stop()
            sandbox.close()

    async def index(request: Request) -> Response:
        if "application/json" in request.headers.get("accept", ""):
            return JSONResponse({"services": _MOUNTS})
        rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in _MOUNTS.items())
        return HTMLResponse(_PAGE.format(rows=rows))

    app = Starlette(
        routes=[Route("/", index), *routes],
        middleware=[Middleware(faults.Faults, sandbox=sandbox)],
        lifespan=lifespan,
    )
    app.state.sandbox = sandbox
    app.state.failure = None
    return app


def _server(app: Starlette, host: str, port: int) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            # The program that runs us decides about logging; on stdio transports standard output is not ours.
            app,
            host=host,
            port=port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=5,
            lifespan="on",
        )
    )


def serve(host: str, port: int, root: Path, options: Options) -> None:
    """Run in the foreground until SIGINT or SIGTERM; running requests get five seconds to end.

    Raises DataDirectoryInUse, and whatever kept the services from starting.
    """
    app = build(root, options)
    try:
        with suppress(KeyboardInterrupt):
            _server(app, host, port).run()
    except SystemExit:
        # The server's own way out after a failed start; the reason is worth more.
        if app.state.failure is None:
            raise
    if app.state.failure:
        raise app.state.failure


@dataclass(frozen=True, slots=True)
class Running:
    """A sandbox in a thread of this process: where it answers, and its state."""

    url: str
    sandbox: Sandbox


def _listener(host: str, port: int) -> socket.socket:
    """A listening socket that names its protocol: asyncio switches Nagle's delay off only for those, 40 ms an answer."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


@contextmanager
def running(root: Path, options: Options | None = None, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[Running]:
    """Serve from a thread for as long as the block runs; port 0 takes a free one.

    Raises DataDirectoryInUse, OSError when the port is taken, and whatever kept the services from starting.
    """
    with _listener(host, port) as listener:
        app = build(root, options or Options())
        server = _server(app, host, port)

        def run() -> None:
            with suppress(SystemExit):
                server.run(sockets=[listener])

        thread = threading.Thread(target=run, name="isocenter-sandbox")
        thread.start()
        try:
            while thread.is_alive() and not server.started:
                thread.join(0.005)
            if app.state.failure:
                raise app.state.failure
            yield Running(f"http://{host}:{listener.getsockname()[1]}", app.state.sandbox)
        finally:
            server.should_exit = True
            thread.join()
