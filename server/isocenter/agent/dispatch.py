"""The path of every tool call, top to bottom. Knows no MCP: a person's answer comes in, a question goes out as a value."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from isocenter.agent.audit import Audit, Record
from isocenter.agent.present import Presentation, hidden, present
from isocenter.agent.resources import files_of
from isocenter.agent.toolbox import Toolbox
from isocenter.agent.workflows.kind import InvalidArguments, Report, StillRunning, Work, Workflow, asks, consent
from isocenter.core import InvalidRequest, Result, StorageError
from isocenter.core.auth import authorize
from isocenter.core.client import Progress
from isocenter.core.tool import Tool

Confirm = Callable[[str], Awaitable[bool | None]]


class Dispatcher:
    """Runs tool calls over a toolbox.

    `confirm` in `run` gets a question and answers True, False, or None when no one can be asked; it may raise to leave with the
    question (the stateless protocol era does).
    """

    def __init__(self, toolbox: Toolbox, recent: deque[Record] | None = None) -> None:
        """`recent` takes the records of the last calls."""
        self.toolbox = toolbox
        self.audit = Audit(toolbox.settings.audit, recent, toolbox.caller)

    async def run(
        self, tool: Tool, arguments: Mapping[str, Any], confirm: Confirm, progress: Progress | None = None
    ) -> Presentation:
        """Check, ask, send, check, lay out. Raises IsocenterError."""
        client = self.toolbox.client(tool)
        names = [name for name in arguments if name in tool.operation.arguments]  # unknown ones could be anything
        with self.audit.call(tool.name, f"{client.contract.name}.{tool.operation.id}", tool.effect, names) as record:
            ask = _noting(record, confirm)
            given = self._named_files(tool, repaired(tool, arguments))
            save_to = self._folder(tool, given.pop("save_to", None) if tool.saves_files else None)
            if asks(tool.effect, self.toolbox):  # other calls are checked once, where they are sent
                await self._allowed(tool, given, ask)
            result: Result[Any] = await client.call(tool.operation, given, save_to=save_to, progress=progress)
            record.status, record.findings = result.status, len(result.findings)
            folder = self.toolbox.settings.download_dir / "answers"
            return present(tool, result, client.credentials, self.toolbox.hide, folder)

    async def perform(
        self, workflow: Workflow, arguments: Mapping[str, Any], confirm: Confirm, report: Report
    ) -> Presentation:
        """Run a workflow: its arguments are checked here, every request and answer where it is sent. Raises IsocenterError."""
        names = [name for name in arguments if name in workflow.properties]
        with self.audit.call(workflow.name, f"workflow.{workflow.name}", workflow.effect, names) as record:
            noting = _noting(record, confirm)

            async def ask(question: str) -> None:
                await consent(workflow.name, workflow.effect, self.toolbox, question, noting)

            given = workflow.repaired(arguments)
            if findings := workflow.check(given):
                raise InvalidArguments(workflow.name, findings)
            work = Work(self.toolbox, workflow, given, ask, report)
            try:
                presentation = await workflow.run(work)
            except StillRunning as running:
                if "state" not in (workflow.output or ()):
                    raise
                presentation = work.running(str(running))
            presentation.structured = hidden(presentation.structured, self.toolbox.hide)
            return presentation

    async def _allowed(self, tool: Tool, arguments: dict[str, Any], confirm: Confirm) -> None:
        """Refuses what breaks the contract before anyone is asked, then asks. What is sent is checked again: answers take their time."""
        client = self.toolbox.client(tool)
        completed = client.completed(tool.operation, dict(arguments))
        if client.checks.of(tool.operation.id)[0] == "strict" and (
            findings := tool.operation.check(completed, client.roots)
        ):
            raise InvalidRequest(tool.operation, findings)
        authorize(tool.operation, client.credentials)
        await consent(tool.name, tool.effect, self.toolbox, tool.question(arguments), confirm)

    def _named_files(self, tool: Tool, arguments: dict[str, Any]) -> dict[str, Any]:
        """File arguments given as `isocenter://` resources, as the local files behind them; a series stands for all its files."""
        for name, value in arguments.items():
            argument = tool.operation.arguments.get(name)
            if argument is None or not argument.file:
                continue
            if argument.files and isinstance(value, list):
                arguments[name] = [path for item in value for path in self._files_behind(item)]
            elif not argument.files and len(paths := self._files_behind(value)) == 1:
                arguments[name] = paths[0]
        return arguments

    def _files_behind(self, value: Any) -> list[Any]:
        return files_of(self.toolbox, value) if isinstance(value, str) and value.startswith("isocenter://") else [value]

    def _folder(self, tool: Tool, wanted: Any) -> Path | None:
        if not tool.operation.has_binary_answer:
            return None
        if not wanted:
            return self.toolbox.settings.download_dir / tool.operation.contract.name
        path = self.toolbox.place(str(wanted))
        if path.is_file():
            raise StorageError("save_to names a file that exists already, and none is replaced. Nothing was sent.")
        return path


def _noting(record: Record, confirm: Confirm) -> Confirm:
    """`confirm`, with the record saying `asked` for as long as a person thinks: where the question leaves as a value, the call ends here."""

    async def ask(question: str) -> bool | None:
        crash, record.outcome = record.outcome, "asked"
        answer = await confirm(question)
        record.outcome = crash
        return answer

    return ask


def repaired(tool: Tool, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments without the two slips hosts make for models: null for "not given", and lists or objects sent as JSON text.

    In a merge patch null is never "not given": it says "remove" (RFC 7396), and the check decides whether it may.
    """
    patch = tool.operation.body_types[:1] == ("application/merge-patch+json",)
    result: dict[str, Any] = {}
    for name, value in arguments.items():
        argument = tool.operation.arguments.get(name)
        if argument is None:
            result[name] = value
            continue
        kinds = tool.operation.types(name)
        not_given = value is None and kinds and "null" not in kinds and not argument.required
        if not_given and not (patch and argument.where == "body"):
            continue
        if isinstance(value, str) and "string" not in kinds and not argument.file and value.lstrip()[:1] in ("[", "{"):
            with suppress(ValueError):  # the check says what is wrong with it
                value = json.loads(value)
        result[name] = value
    return result
