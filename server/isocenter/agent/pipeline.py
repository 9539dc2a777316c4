"""The path of every tool call, top to bottom. Knows no MCP: a person's answer comes in, a question goes out as a value."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio

from isocenter.agent.audit import Audit
from isocenter.agent.present import Presentation, present
from isocenter.agent.toolbox import Toolbox
from isocenter.core import Declined, InvalidRequest, IsocenterError, Result, StorageError
from isocenter.core.auth import authorize
from isocenter.core.client import Progress
from isocenter.core.schema import lookup, resolve
from isocenter.core.tool import Tool

Confirm = Callable[[str], Awaitable[bool | None]]


class Pipeline:
    """Runs tool calls over a toolbox.

    `confirm` in `run` gets a question and answers True, False, or None when no one can be asked; it may raise to leave with the
    question (the stateless protocol era does).
    """

    def __init__(self, toolbox: Toolbox) -> None:
        self.toolbox = toolbox
        self.audit = Audit(toolbox.settings.audit)

    async def run(
        self, tool: Tool, arguments: Mapping[str, Any], confirm: Confirm, progress: Progress | None = None
    ) -> Presentation:
        """Check, ask, send, check, lay out. Raises IsocenterError."""
        client = self.toolbox.client(tool)
        names = [name for name in arguments if name in tool.operation.arguments]  # unknown ones could be anything
        with self.audit.call(tool.name, f"{client.contract.name}.{tool.operation.id}", tool.effect, names) as record:

            async def ask(question: str) -> bool | None:
                crash, record.outcome = (
                    record.outcome,
                    "asked",
                )  # where the question leaves as a value, the call ends here
                answer = await confirm(question)
                record.outcome = crash
                return answer

            try:
                given = repaired(tool, arguments)
                save_to = self._folder(tool, given.pop("save_to", None) if tool.saves_files else None)
                await self._allowed(tool, given, ask)
                result: Result[Any] = await client.call(tool.operation, given, save_to=save_to, progress=progress)
            except IsocenterError as error:
                record.outcome, record.status = error.code, getattr(error, "status", None)
                record.findings = len(getattr(error, "findings", ()))
                raise
            except anyio.get_cancelled_exc_class():
                record.outcome = "cancelled"
                raise
            record.outcome, record.status, record.findings = "ok", result.status, len(result.findings)
            folder = self.toolbox.settings.download_dir / "answers"
            return present(tool, result, client.credentials, self.toolbox.hide, folder)

    async def _allowed(self, tool: Tool, arguments: dict[str, Any], confirm: Confirm) -> None:
        """Refuses what breaks the contract before anyone is asked, then asks where the effect demands it."""
        client = self.toolbox.client(tool)
        completed = client.completed(tool.operation, dict(arguments))
        if client.checks.of(tool.operation.id)[0] == "strict" and (
            findings := tool.operation.check(completed, client.roots)
        ):
            raise InvalidRequest(tool.operation, findings)
        authorize(tool.operation, client.credentials)
        if tool.effect not in ("send", "destroy") or tool.effect in self.toolbox.settings.allow:
            return
        answer = await confirm(tool.question(arguments))
        if answer is None:
            raise Declined(
                f"{tool.name} needs a person's yes and this client cannot ask. Nothing was sent. "
                f"The operator may allow it with ISOCENTER_ALLOW={tool.effect}."
            )
        if not answer:
            raise Declined(f"{tool.name}: the person declined. Nothing was sent. Do not try again unless asked to.")

    def _folder(self, tool: Tool, wanted: Any) -> Path | None:
        if not tool.operation.has_binary_answer:
            return None
        if not wanted:
            return self.toolbox.settings.download_dir / tool.operation.contract.name
        path = Path(str(wanted)).expanduser()
        if path.is_file():
            raise StorageError("save_to names a file that exists already, and none is replaced. Nothing was sent.")
        return path


def repaired(tool: Tool, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments without the two slips hosts make for models: null for "not given", and lists or objects sent as JSON text.

    In a merge patch null is never "not given": it says "remove" (RFC 7396), and the check decides whether it may.
    """
    document = tool.operation.contract.document
    patch = tool.operation.body_types[:1] == ("application/merge-patch+json",)
    result: dict[str, Any] = {}
    for name, value in arguments.items():
        argument = tool.operation.arguments.get(name)
        if argument is None:
            result[name] = value
            continue
        schema, _ = resolve(document, lookup(document, argument.schema), "")
        kinds = schema.get("type", []) if isinstance(schema, dict) else []
        kinds = [kinds] if isinstance(kinds, str) else kinds
        not_given = value is None and kinds and "null" not in kinds and not argument.required
        if not_given and not (patch and argument.where == "body"):
            continue
        if isinstance(value, str) and "string" not in kinds and not argument.file and value.lstrip()[:1] in ("[", "{"):
            with suppress(ValueError):  # the check says what is wrong with it
                value = json.loads(value)
        result[name] = value
    return result
