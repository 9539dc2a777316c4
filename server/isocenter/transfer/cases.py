"""Series as cases of CIRCUS DB: sent where they are not there yet, opened once, found again by a tag."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio

from isocenter.core import ApiClient, FileSource, IsocenterError, Result, StatusError
from isocenter.transfer.patience import Pause
from isocenter.transfer.scan import LocalSeries
from isocenter.transfer.upload import Journal, destination_of

FILES, BYTES = 60, 64 << 20  # most of one upload
IMPORT_SECONDS = 450.0  # longest wait for one import
TAG_LENGTH = 32  # characters CIRCUS takes as a tag


class NoProject(IsocenterError):
    """There is not exactly one project that could be meant; the message names those there are."""

    code = "no_project"

    def __init__(self, names: Sequence[str]) -> None:
        self.expected = "one of the projects this account may write to: " + (", ".join(names) or "it may write to none")
        super().__init__(f"The project must be {self.expected}.")


class NotImported(IsocenterError):
    """The server took the files, but has not made them a series (yet)."""

    code = "not_imported"
    retryable = True


def project_of(account: Mapping[str, Any], wanted: str) -> dict[str, Any]:
    """The project of this name or identifier, or the only one, among those that the account may write to.

    `account` is the answer of getFullLoginInfo. Raises NoProject.
    """
    writable = [entry["project"] for entry in account["accessibleProjects"] if "write" in entry["roles"]]
    found = [
        project
        for project in writable
        if not wanted or wanted.casefold() in (project["projectId"].casefold(), project["projectName"].casefold())
    ]
    if len(found) != 1:
        raise NoProject([project["projectName"] for project in writable])
    chosen: dict[str, Any] = found[0]
    return chosen


def domain_of(account: Mapping[str, Any], wanted: str) -> str:
    """The domain that uploads go to: the one named, or the account's default."""
    return wanted or account.get("defaultDomain") or next(iter(account["domains"]), "")


async def images_there(circus: ApiClient, series_uid: str) -> int:
    """How many images of a series the server has; 0 where it does not know the series."""
    try:
        answer: Result[Any] = await circus.call("getSeries", {"seriesUid": series_uid})
    except StatusError as error:
        if error.status != 404:
            raise
        return 0
    ends = [part.partition("-") for part in str(answer.data["images"]).split(",") if part]
    return sum(int(last or first) - int(first) + 1 for first, _, last in ends)


async def send_to_circus(
    circus: ApiClient,
    domain: str,
    series: LocalSeries,
    *,
    journal: Journal,
    progress: Callable[[int, int], Awaitable[None]] | None = None,
    give_up_after: float = IMPORT_SECONDS,
    pause: Pause = anyio.sleep,
) -> None:
    """Upload a series in batches and wait until each is imported, and so noted in the journal.

    What the journal has is not sent again, unless the server knows nothing of the series. An image that is there already stays as it
    is. `progress` gets bytes so far and in all. Raises NotImported, after which the call may be repeated.
    """
    uid, to = series.series_instance_uid, destination_of(circus.base_url, domain)
    known = await images_there(circus, uid) > 0
    left = [instance for instance in series.instances if not (known and journal.has(to, uid, instance))]
    sent, until = series.size - sum(instance.size for instance in left), time.monotonic() + give_up_after
    while left:
        batch, size = [left[0]], left[0].size
        for instance in left[1:FILES]:
            if size + instance.size > BYTES:
                break
            batch.append(instance)
            size += instance.size
        left = left[len(batch) :]
        files = [FileSource(instance.size, path=instance.path) for instance in batch]
        answer: Result[Any] = await circus.call("uploadSeries", {"domain": domain, "files": files})
        task = answer.data["taskId"]
        state = await task_ended(circus, task, until, pause=pause)
        if state is None or state["status"] != "finished":
            why = (state or {}).get("errorMessage") or "it is still being imported"
            raise NotImported(f"The import of series {uid} did not finish ({why}; task {task}).")
        journal.add(to, uid, batch)
        sent += size
        if progress:
            await progress(sent, series.size)


async def task_ended(
    circus: ApiClient, task: str, until: float, *, pause: Pause = anyio.sleep
) -> dict[str, Any] | None:
    """A task of the server once it is over, or None when it is not over by `until` (monotonic); asks at growing intervals."""
    wait = 0.1
    while True:
        answer: Result[Any] = await circus.call("getTask", {"taskId": task})
        state: dict[str, Any] = answer.data
        if state["status"] != "processing":
            return state
        if time.monotonic() >= until:
            return None
        await pause(min(wait, max(0.0, until - time.monotonic())))
        wait = min(5.0, wait * 1.5)


async def create_case(circus: ApiClient, project_id: str, series_uid: str, tags: Sequence[str]) -> str:
    """Open a case from the whole series and return its identifier. Not to be repeated blindly: each call opens another case."""
    entry = {"seriesUid": series_uid, "partialVolumeDescriptor": "auto"}
    request = {"projectId": project_id, "series": [entry], "tags": list(tags)}
    answer: Result[Any] = await circus.call("createCase", request)
    return str(answer.data["caseId"])


def mark(name: str, series_uid: str) -> str:
    """A tag by which the case that `name` opened from a series is found again; says nothing to anybody else."""
    return f"isocenter-{hashlib.sha256(f'{name} {series_uid}'.encode()).hexdigest()[:16]}"


async def case_tagged(circus: ApiClient, project_id: str, tag: str) -> str | None:
    """The identifier of the oldest case of a project with a tag, if there is one."""
    request = {"filter": {"projectId": project_id, "tags": tag}, "sort": {"createdAt": 1}, "limit": 1}
    answer: Result[Any] = await circus.call("listCases", request)
    items = answer.data["items"]
    return str(items[0]["caseId"]) if items else None
