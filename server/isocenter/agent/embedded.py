"""The sandbox inside the server's own process, started when the first call needs it: a server that only lists its tools stays small."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from isocenter.agent.toolbox import Toolbox

BASES = {
    "tcia": "/nbia-api/services/v4",
    "tcia-gateway": "/services/v4",
    "qure": "/qure",
    "dicomaestro": "/dicomaestro",
    "circus": "/circus/api",
}


def base_urls(url: str) -> dict[str, str]:
    """Where each API is on a sandbox at `url`."""
    return {api: url + path for api, path in BASES.items()}


class Embedded:
    """Points a toolbox at a sandbox of its own. `ready` starts it and waits for it, `around` stops it; a failed start is raised from `ready`."""

    def __init__(self, toolbox: Toolbox, root: Path, options: Any = None) -> None:
        self._toolbox = toolbox
        self._root = root
        self._options = options
        self._wanted = anyio.Event()
        self._started = anyio.Event()
        self._failure: BaseException | None = None

    @asynccontextmanager
    async def around(self) -> AsyncIterator[None]:
        """Start it once somebody waits, in a task of its own: no cancelled call leaves half a sandbox. Stop it at the end."""
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(anyio.create_task_group())
            tasks.start_soon(self._start, stack)
            yield
            if self._wanted.is_set():
                await self._started.wait()
            else:
                tasks.cancel_scope.cancel()

    async def ready(self) -> None:
        """Wait until the sandbox answers."""
        self._wanted.set()
        await self._started.wait()
        if self._failure:
            raise self._failure

    async def _start(self, stack: AsyncExitStack) -> None:
        await self._wanted.wait()
        try:
            context, server = await anyio.to_thread.run_sync(self._running)  # which imports a lot
            stack.push_async_callback(anyio.to_thread.run_sync, lambda: context.__exit__(None, None, None))
            self._toolbox.point(base_urls(server.url), server.sandbox.credentials)
        except Exception as error:
            self._failure = error
        finally:
            self._started.set()

    def _running(self) -> tuple[AbstractContextManager[Any], Any]:
        from isocenter.sandbox.app import running

        context = running(self._root, self._options)
        return context, context.__enter__()
