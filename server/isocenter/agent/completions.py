"""Completions: values for arguments of prompts and resource templates, as the services spell them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable

from isocenter.agent.toolbox import Toolbox
from isocenter.agent.workflows import offered
from isocenter.agent.workflows.kind import SERIES
from isocenter.core import IsocenterError

MOST = 100  # values of one answer, a limit of the protocol
ARCHIVE = {
    "collection": ("getCollectionValues", "Collection"),
    "modality": ("getModalityValues", "Modality"),
    "body_part": ("getBodyPartValues", "BodyPartExamined"),
}
FRESH = 300.0  # seconds for which a list of the archive is taken as current


class Completions:
    """Values for the arguments of prompts and templates. Lists of the public archive are kept for five minutes."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[float, list[str]]] = {}

    async def values(self, toolbox: Toolbox, argument: str, begun: str) -> tuple[list[str], int]:
        """Values of the argument that contain what was begun, those that start with it first, and how many there are in all.

        A service that does not answer has nothing to complete: no error is raised.
        """
        try:
            if argument in ARCHIVE:
                values: Iterable[str] = await self._of_archive(toolbox, argument)
            else:  # what a caller's own credentials open is never kept for others
                values = await SOURCES[argument](toolbox) if argument in SOURCES else []
        except IsocenterError:
            return [], 0
        known = sorted(set(values), key=str.casefold)
        wanted = begun.casefold()
        found = [value for value in known if wanted in value.casefold()]
        found.sort(key=lambda value: not value.casefold().startswith(wanted))
        return found[:MOST], len(found)

    async def _of_archive(self, toolbox: Toolbox, argument: str) -> list[str]:
        if "tcia" not in toolbox.clients:
            return []
        at, known = self._kept.get(argument, (float("-inf"), []))
        if time.monotonic() - at >= FRESH:
            operation, field = ARCHIVE[argument]
            rows = (await toolbox.clients["tcia"].call(operation, {})).data
            known = [row[field] for row in rows if row.get(field)]
            self._kept[argument] = time.monotonic(), known
        return known


async def _apis(toolbox: Toolbox) -> Iterable[str]:
    return toolbox.clients


async def _tools(toolbox: Toolbox) -> Iterable[str]:
    return [*offered(toolbox), *toolbox.tools]


async def _operations(toolbox: Toolbox) -> Iterable[str]:
    return [operation for client in toolbox.clients.values() for operation in client.contract.operations]


async def _tags(toolbox: Toolbox) -> Iterable[str]:
    """Tags that the projects of the user define, and those of recent cases."""
    if "circus" not in toolbox.clients:
        return []
    circus = toolbox.clients["circus"]
    account = (await circus.call("getFullLoginInfo", {})).data
    defined = [tag["caption"] for entry in account["accessibleProjects"] for tag in entry["project"].get("tags", [])]
    cases = (await circus.call("listCases", {"limit": 100})).data
    rows = cases["items"] if isinstance(cases, dict) else cases
    return [*defined, *(tag for case in rows for tag in case.get("tags", []))]


async def _projects(toolbox: Toolbox) -> Iterable[str]:
    if "circus" not in toolbox.clients:
        return []
    account = (await toolbox.clients["circus"].call("getFullLoginInfo", {})).data
    return [entry["project"]["projectName"] for entry in account["accessibleProjects"]]


async def _series(toolbox: Toolbox) -> Iterable[str]:
    """UIDs of downloaded series."""
    return [folder.name for folder in (toolbox.settings.download_dir / SERIES).glob("*/*/*/*") if folder.is_dir()]


SOURCES: dict[str, Callable[[Toolbox], Awaitable[Iterable[str]]]] = {
    "api": _apis,
    "tool": _tools,
    "operation": _operations,
    "tag": _tags,
    "project": _projects,
    "uid": _series,
    "series_uid": _series,
}
