"""A task as an agent sees it: several operations under one name. Same surface as an operation's tool, input schema by hand."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import anyio

from isocenter.agent.present import Presentation
from isocenter.agent.toolbox import Toolbox
from isocenter.core import ApiClient, Declined, Finding, IsocenterError, Result, StorageError
from isocenter.core.findings import Place, collect, listed
from isocenter.core.formats import FORMATS
from isocenter.core.schema import portable
from isocenter.core.tool import PLACEHOLDER, Effect

T = TypeVar("T")
Ask = Callable[[str], Awaitable[None]]
Report = Callable[[float, float | None, str], Awaitable[None]]
MOST_SECONDS = 45  # longest wait inside one call: hosts give up after 60

SERIES = "series"  # the folder of downloaded series, below the download folder
UID: dict[str, Any] = {"type": "string", "format": "dicom-uid"}
WAIT: dict[str, Any] = {
    "type": "integer",
    "minimum": 0,
    "maximum": MOST_SECONDS,
    "description": f"Longest wait in this call, {MOST_SECONDS} if left out.",
}


class InvalidArguments(IsocenterError):
    """The arguments of a workflow do not fit its schema, or not each other. Nothing was sent."""

    code = "invalid_request"

    def __init__(self, name: str, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        count = "1 problem" if len(self.findings) == 1 else f"{len(self.findings)} problems"
        super().__init__(f"{name}: {count}, nothing was sent.\n{listed(self.findings)}")


class StillRunning(IsocenterError):
    """The time of one call is over, the work is not: it goes on, and the same call finds it again."""

    code = "running"


class Stuck(IsocenterError):
    """A workflow cannot go on; the message says why, what was done so far, and what to call next."""

    code = "workflow"


@dataclass(slots=True)
class Work:
    """What a running workflow has: its arguments, the clients, a person to ask, and somebody to report to.

    `ask` returns when the answer was yes (or none is needed) and raises Declined otherwise. Nothing may be changed before it: in
    the stateless protocol era the call ends with the question and starts anew with the answer. `report` takes what is done, of how
    much, and words.
    """

    toolbox: Toolbox
    workflow: Workflow
    given: Mapping[str, Any]
    ask: Ask
    report: Report
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds this call may still take."""
        return max(0.0, self.started + MOST_SECONDS - time.monotonic())

    @property
    def patience(self) -> float:
        """Seconds to wait for what may go on without this call."""
        return min(self.left, float(self.given.get("wait_seconds", MOST_SECONDS)))

    def running(self, text: str, **more: Any) -> Presentation:
        """What a call answers whose work goes on: the handle is the call itself."""
        again = {"tool": self.workflow.name, "arguments": dict(self.given)}
        text = f"{text} It goes on; call {self.workflow.name} again with the same arguments to follow it."
        return Presentation(text, {"state": "running", **more, "next": again})

    def client(self, api: str) -> ApiClient:
        """The client of one API."""
        return self.toolbox.clients[api]

    async def call(self, api: str, operation: str, save_to: Path | None = None, /, **arguments: Any) -> Result[Any]:
        """One checked call; arguments that are None are left out."""
        given = {name: value for name, value in arguments.items() if value is not None}
        return await self.client(api).call(operation, given, save_to=save_to)

    @property
    def answers(self) -> Path:
        """The folder of results that are too long to show."""
        return self.toolbox.settings.download_dir / "answers"

    @property
    def series_root(self) -> Path:
        """The folder below which series go unless the caller names another."""
        return self.toolbox.settings.download_dir / SERIES

    def local(self, name: str) -> Path:
        """The existing file or folder of an argument, below the folders which the operator allows."""
        return self.allowed(name, self.given[name])

    def allowed(self, name: str, text: str) -> Path:
        """The existing file or folder of this path; `name` is the argument it comes from."""
        own = self.toolbox.settings.download_dir.expanduser().resolve()
        try:
            path = Path(text).expanduser()
            path = (own / path if self.toolbox.confined else path).resolve()
        except (OSError, ValueError, RuntimeError):
            self.refuse(name, "a path", "Give an absolute path.")
        roots = [root.expanduser().resolve() for root in self.toolbox.settings.roots]
        if roots and not any(path.is_relative_to(root) for root in (*roots, own)):
            self.refuse(
                name, "a path below one of the folders the operator allows", "Ask the operator to allow its folder."
            )
        if not path.exists():
            self.refuse(name, "an existing file or folder", "Give an absolute path.")
        return path

    def target(self, name: str, default: Path) -> Path:
        """The folder an argument names for results, or the default."""
        if not self.given.get(name):
            return default
        path = self.toolbox.place(str(self.given[name]))
        if path.is_file():
            raise StorageError(f"{name} names a file; it must be a folder. Nothing was sent.")
        return path.absolute()

    def refuse(self, name: str, expected: str, repair: str) -> NoReturn:
        """Raise InvalidArguments for what no schema can say."""
        spec = f"{self.workflow.name}#/properties/{name}"
        pointer = f"/{name}" if name else ""
        raise InvalidArguments(self.workflow.name, [Finding(pointer, "argument", spec, expected, repair=repair)])

    def one_of(self, *names: str) -> str:
        """The one of these arguments that is given. Raises InvalidArguments for none and for several."""
        found = [name for name in names if self.given.get(name) not in (None, [], "")]
        if len(found) != 1:
            self.refuse(
                found[1] if found else names[0],
                f"exactly one of {', '.join(names)}",
                "Give one and leave out the others.",
            )
        return found[0]


@dataclass(frozen=True, slots=True, eq=False)
class Workflow:
    """One task. `apis` are the APIs it needs, `properties` the strict schemas of its arguments, `output` those of its result.

    `confirm` is what a person is asked in general, with {argument} placeholders; a running workflow asks more exactly. Workflows
    without `output` answer with images. `effect` is the strongest thing the workflow may do.
    """

    name: str
    title: str
    description: str
    effect: Effect
    apis: tuple[str, ...]
    run: Callable[[Work], Awaitable[Presentation]]
    properties: Mapping[str, Any]
    required: tuple[str, ...] = ()
    output: Mapping[str, Any] | None = None
    confirm: str = ""
    idempotent: bool = False
    default: bool = True

    @property
    def strict_schema(self) -> dict[str, Any]:
        """The schema arguments are held against."""
        schema: dict[str, Any] = {"type": "object", "properties": dict(self.properties), "additionalProperties": False}
        return {**schema, "required": list(self.required)} if self.required else schema

    @property
    def input_schema(self) -> dict[str, Any]:
        """The portable form of the strict schema."""
        return {**portable(self.strict_schema, {}), "additionalProperties": False}

    @property
    def output_schema(self) -> dict[str, Any] | None:
        """What structured results look like, or None when the workflow answers with images."""
        return {"type": "object", "properties": dict(self.output)} if self.output is not None else None

    def question(self, arguments: Mapping[str, Any]) -> str:
        """What a person is asked, as far as the arguments alone tell."""
        return PLACEHOLDER.sub(lambda match: words(arguments.get(match.group(1))), self.confirm)

    def repaired(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments without two slips of hosts: null for "not given", and lists or objects sent as JSON text."""
        result: dict[str, Any] = {}
        for name, value in arguments.items():
            kind = self.properties.get(name, {}).get("type")
            if value is None and kind and name not in self.required:
                continue
            if isinstance(value, str) and kind in ("array", "object") and value.lstrip()[:1] in ("[", "{"):
                with suppress(ValueError):  # the check says what is wrong with it
                    value = json.loads(value)
            result[name] = value
        return result

    def check(self, arguments: Mapping[str, Any]) -> list[Finding]:
        """Every problem of the arguments."""
        judge, place = _judge(self)

        def where(path: Sequence[Any]) -> tuple[str, str]:
            return "argument", place.spec(["properties", *path[:1]] if path else [])

        return collect(judge.iter_errors(dict(arguments)), dict(arguments), where, place)


@cache
def _judge(workflow: Workflow) -> tuple[Any, Place]:
    import jsonschema_rs

    schema = workflow.strict_schema
    judge = jsonschema_rs.validator_for(schema, validate_formats=True, formats=FORMATS, mask="a value", offline=True)
    return judge, Place(workflow.name, schema)


def megabytes(done: float, total: float) -> str:
    """How far something is."""
    return f"{done / 1e6:.1f} of {total / 1e6:.1f} MB"


def words(value: Any, most: int = 10) -> str:
    """A value as part of a sentence."""
    if isinstance(value, list):
        shown = ", ".join(str(item) for item in value[:most])
        return shown + (f" and {len(value) - most} more" if len(value) > most else "")
    return "not given" if value is None else str(value)


@dataclass(slots=True)
class _Outcome:
    results: dict[int, Any] = field(default_factory=dict)
    error: IsocenterError | None = None


async def side_by_side(calls: Sequence[Callable[[], Awaitable[T]]], at_once: int = 4) -> list[T]:
    """The results in order. The first failure ends the others and is raised as it is."""
    outcome, places = _Outcome(), anyio.CapacityLimiter(at_once)

    async def one(index: int, call: Callable[[], Awaitable[T]]) -> None:
        async with places:
            try:
                outcome.results[index] = await call()
            except IsocenterError as error:
                outcome.error = outcome.error or error
                group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for index, call in enumerate(calls):
            group.start_soon(one, index, call)
    if outcome.error:
        raise outcome.error
    return [outcome.results[index] for index in range(len(calls))]


@asynccontextmanager
async def meanwhile(tell: Callable[[], Awaitable[None]], every: float = 0.5) -> AsyncIterator[None]:
    """Call `tell` again and again for as long as the block runs. Failures of the block leave as they are."""
    failure: IsocenterError | None = None

    async def repeat() -> None:
        while True:
            await tell()
            await anyio.sleep(every)

    async with anyio.create_task_group() as group:
        group.start_soon(repeat)
        try:
            yield
        except IsocenterError as error:
            failure = error
        group.cancel_scope.cancel()
    if failure:
        raise failure


def asks(effect: Effect, toolbox: Toolbox) -> bool:
    """Whether a person is asked before a call of this effect."""
    return effect in ("send", "destroy") and effect not in toolbox.settings.allow


async def consent(
    name: str, effect: Effect, toolbox: Toolbox, question: str, confirm: Callable[[str], Awaitable[bool | None]]
) -> None:
    """Return when a call may go on: the operator allows its effect, or a person says yes. Raises Declined."""
    if not asks(effect, toolbox):
        return
    answer = await confirm(question)
    if answer is None:
        raise Declined(
            f"{name} needs a person's yes and this client cannot ask. Nothing was sent. "
            f"The operator may allow it with ISOCENTER_ALLOW={effect}."
        )
    if not answer:
        raise Declined(f"{name}: the person declined. Nothing was sent. Do not try again unless asked to.")
