"""The sandbox inside the server's own process: started beside the protocol, ready before the first call needs it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
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
    """Points a toolbox at a sandbox of its own. `around` runs it, `ready` waits for it; a failed start is raised from both."""

    def __init__(self, toolbox: Toolbox, root: Path, options: Any = None) -> None:
        self._toolbox = toolbox
        self._root = root
        self._options = options
        self._started = anyio.Event()
        self._failure: BaseException | None = None

    @asynccontextmanager
    async def around(self) -> AsyncIterator[None]:
        """Start in the background, stop at the end."""
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(anyio.create_task_group())
            tasks.start_soon(self._start, stack)
            yield
            await self._started.wait()

    async def ready(self) -> None:
        """Wait until the sandbox answers."""
        await self._started.wait()
        if self._failure:
            raise self._failure

    async def _start(self, stack: AsyncExitStack) -> None:
        try:
            from isocenter.sandbox.app import running

            context = running(self._root, self._options)
            server = await anyio.to_thread.run_sync(context.__enter__)
            stack.push_async_callback(anyio.to_thread.run_sync, lambda: context.__exit__(None, None, None))
            self._toolbox.point(base_urls(server.url), server.sandbox.credentials)
        except Exception as error:
            self._failure = error
        finally:
            self._started.set()
