"""What generated clients stand on: typed methods outside, the one checked call inside, asynchronous or not."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, cast

from anyio.from_thread import BlockingPortal, start_blocking_portal

from isocenter.core.client import ApiClient, Progress
from isocenter.core.files import FileSource
from isocenter.core.result import Result

if TYPE_CHECKING:
    from isocenter.core.contract import Contract

T = TypeVar("T")
FileInput = str | os.PathLike[str] | bytes | FileSource


class Unset:
    """The type of `UNSET`: an argument that was not given, where null would mean something."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET = Unset()


class Shape(Generic[T]):
    """How judged JSON becomes typed values: pydantic adapters, built when first used.

    `of` names the type without evaluating it early. Where several successes have bodies of their own, `statuses` names the type of
    each (`"200"`, `"2XX"`), so that a body can never be taken for that of another status.
    """

    def __init__(self, of: Callable[[], Any], statuses: Mapping[str, Callable[[], Any]] | None = None) -> None:
        self._of = of
        self._statuses = statuses or {}
        self._adapters: dict[Callable[[], Any], Any] = {}

    def __call__(self, data: Any, status: int) -> T:
        of = self._statuses.get(str(status)) or self._statuses.get(f"{status // 100}XX") or self._of
        if of not in self._adapters:
            from pydantic import TypeAdapter

            self._adapters[of] = TypeAdapter(of())
        return cast("T", self._adapters[of].validate_python(data))


class _Api:
    """Options are those of ApiClient: base_url, credentials, transport, checks, limits, roots."""

    contract: ClassVar[Callable[[], Contract]]

    def __init__(self, base_url: str = "", **options: Any) -> None:
        self.client = ApiClient(type(self).contract(), base_url=base_url, **options)

    def _given(self, operation: str, arguments: Mapping[str, Any], nullable: tuple[str, ...]) -> dict[str, Any]:
        return {
            name: value
            for name, value in arguments.items()
            if value is not UNSET and (value is not None or name in nullable)
        }


class AsyncApi(_Api):
    """Base of the generated asynchronous clients. An async context manager."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    async def _call(
        self,
        operation: str,
        arguments: Mapping[str, Any],
        shape: Shape[T],
        *,
        nullable: tuple[str, ...] = (),
        save_to: Path | None = None,
        progress: Progress | None = None,
    ) -> Result[T]:
        return await self.client.call(
            operation, self._given(operation, arguments, nullable), build=shape, save_to=save_to, progress=progress
        )


class SyncApi(_Api):
    """Base of the generated blocking clients: the same calls, run on an event loop in a thread of their own. A context manager."""

    def __init__(self, base_url: str = "", **options: Any) -> None:
        super().__init__(base_url, **options)
        self._stack = ExitStack()
        self._starting = Lock()
        self._portal: BlockingPortal | None = None

    def __enter__(self) -> Self:
        self._running()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close connections and end the thread, and with it any call that is still under way."""
        with self._starting:
            if self._portal:
                self._portal.call(self.client.aclose)
                self._portal.call(self._portal.stop, True)
                self._portal = None
            self._stack.close()

    def _running(self) -> BlockingPortal:
        with self._starting:
            if self._portal is None:
                self._portal = self._stack.enter_context(start_blocking_portal())
            return self._portal

    def _call(
        self,
        operation: str,
        arguments: Mapping[str, Any],
        shape: Shape[T],
        *,
        nullable: tuple[str, ...] = (),
        save_to: Path | None = None,
        progress: Progress | None = None,
    ) -> Result[T]:
        given = self._given(operation, arguments, nullable)

        async def call() -> Result[T]:
            return await self.client.call(operation, given, build=shape, save_to=save_to, progress=progress)

        future = self._running().start_task_soon(call)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C while waiting: the call ends too
            raise
