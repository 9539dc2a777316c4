"""Tasks of the CIRCUS DB API: work that goes on after the answer, its progress, and the files it leaves.

A task is a row that survives a restart; what runs is only known to this process. A task that a restart left
`processing` becomes `error` when its owner lists the tasks, as on the real server.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from isocenter.sandbox.circus.filter import check_filter, compile_filter, parse_filter, read_page, search
from isocenter.sandbox.circus.http import NO_CONTENT, Call, Refusal, Reply, stream_file
from isocenter.sandbox.circus.store import Store, moment

Json = Any
Document = dict[str, Json]

KEEP_DOWNLOADS = timedelta(weeks=1)
HEARTBEAT_SECONDS = 10.0
SEARCHABLE = ("taskId", "status", "dismissed")


@dataclass(slots=True)
class _Running:
    email: str
    event: Document


class Tasks:
    """The tasks of one sandbox. Use it on the event loop's thread only."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.downloads = store.sandbox.root / "circus-downloads"
        self._running: dict[str, _Running] = {}
        self._listeners: set[tuple[str, asyncio.Queue[tuple[str, Document]]]] = set()

    def register(self, email: str, name: str, download_type: str | None = None) -> str:
        """Store a new task as running and return its id."""
        store, task_id = self.store, self.store.new_id()
        now = store.now()
        task = {
            "taskId": task_id,
            "name": name,
            "userEmail": email,
            "status": "processing",
            "errorMessage": None,
            "finishedMessage": None,
            "endedAt": None,
            "downloadFileType": download_type,
            "dismissed": False,
            "createdAt": now,
            "updatedAt": now,
        }
        with store.sandbox.transaction() as db:
            sql = "INSERT INTO circus_task (task_id, email, doc) VALUES (?, ?, ?)"
            db.execute(sql, (task_id, email, json.dumps(task)))
        self._running[task_id] = _Running(email, {})
        self.progress(task_id, "Starting the task.")
        return task_id

    def progress(self, task_id: str, message: str, finished: int | None = None, total: int | None = None) -> None:
        """Tell the owner's listeners how far the task is."""
        counts = {} if finished is None else {"finished": finished, "total": total}
        self._tell(task_id, "progress", {"taskId": task_id, "message": message, **counts})

    def finish(self, task_id: str, message: str) -> None:
        """End the task well."""
        self._end(task_id, "finish", message, {"status": "finished", "finishedMessage": message})

    def fail(self, task_id: str, message: str) -> None:
        """End the task badly."""
        self._end(task_id, "error", message, {"status": "error", "errorMessage": message})

    def _end(self, task_id: str, event: str, message: str, changes: Document) -> None:
        self.change(task_id, {**changes, "endedAt": self.store.now()})
        self._tell(task_id, event, {"taskId": task_id, "message": message})
        del self._running[task_id]

    def _tell(self, task_id: str, name: str, event: Document) -> None:
        running = self._running[task_id]
        running.event = event
        for email, queue in self._listeners:
            if email == running.email:
                queue.put_nowait((name, event))

    def get(self, task_id: str) -> Document:
        """A task. Raises Refusal (404)."""
        row = self.store.sandbox.db.execute("SELECT doc FROM circus_task WHERE task_id = ?", (task_id,)).fetchone()
        if row is None:
            raise Refusal(404, "The requested task was not found.")
        task: Document = json.loads(row[0])
        return task

    def change(self, task_id: str, changes: Document) -> Document:
        """Store changed fields of a task and return it."""
        with self.store.sandbox.transaction() as db:
            task = {**self.get(task_id), **changes, "updatedAt": self.store.now()}
            db.execute("UPDATE circus_task SET doc = ? WHERE task_id = ?", (json.dumps(task), task_id))
        return task

    def is_running(self, task_id: str) -> bool:
        """Whether this process works on the task."""
        return task_id in self._running

    def of(self, email: str) -> list[Document]:
        """A user's tasks, oldest first."""
        rows = self.store.sandbox.db.execute("SELECT doc FROM circus_task WHERE email = ? ORDER BY id", (email,))
        return [json.loads(row[0]) for row in rows]

    def clean(self) -> None:
        """Delete what nobody can download any more: files older than a week, and those a killed process left unfinished."""
        for path in self.downloads.glob("*"):
            age = self.store.sandbox.now() - datetime.fromtimestamp(path.stat().st_mtime, UTC)
            if path.suffix == ".part" or age > KEEP_DOWNLOADS:
                path.unlink()

    def download_path(self, task_id: str) -> Path:
        """Where the file lies that a task leaves; the directory exists."""
        self.downloads.mkdir(exist_ok=True)
        return self.downloads / task_id

    async def listen(self, email: str) -> AsyncIterator[bytes]:
        """The server-sent events of a user's tasks: first where the running ones stand, then what happens."""
        queue: asyncio.Queue[tuple[str, Document]] = asyncio.Queue()
        for running in self._running.values():
            if running.email == email:
                queue.put_nowait(("progress", running.event))
        self._listeners.add((email, queue))
        try:
            yield b"\n"
            while True:
                try:
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        name, event = await queue.get()
                    yield f"event: {name}\ndata: {json.dumps(event, separators=(',', ':'))}\n\n".encode()
                except TimeoutError:
                    yield b":\n"
        finally:
            self._listeners.discard((email, queue))


def _own(call: Call) -> Document:
    task = call.tasks.get(call.params["taskId"])
    if task["userEmail"] != call.email:
        raise Refusal(401, "You cannot access this task.")
    return task


async def search_tasks(call: Call) -> Reply:
    """The caller's tasks, one page of them."""
    given = call.query.get("filter", [""])
    try:
        wanted = {} if given == [""] else parse_filter(given[0] if len(given) == 1 else "")
    except ValueError:
        raise Refusal(400, "Filter string could not be parsed.") from None
    if not check_filter(wanted, SEARCHABLE):
        raise Refusal(400, "Bad filter.")
    page = read_page(call.query, {"createdAt": -1}, strict=call.strict)
    found, total = search(call.tasks.of(call.email), compile_filter(wanted), page)
    items = [
        call.tasks.change(task["taskId"], {"status": "error"})
        if task["status"] == "processing" and not call.tasks.is_running(task["taskId"])
        else task
        for task in found
    ]
    return Reply(200, {"items": items, "totalItems": total, "page": page.number})


async def get_task(call: Call) -> Reply:
    """One task of the caller."""
    return Reply(200, _own(call))


async def report(call: Call) -> Reply:
    """The progress of the caller's tasks as server-sent events, until the client leaves."""
    return Reply(
        stream=call.tasks.listen(call.email),
        media_type="text/event-stream; charset=utf-8",
        headers={"x-accel-buffering": "no"},
    )


async def download(call: Call) -> Reply:
    """The file that a finished task left, for one week or until the task is dismissed.

    The misspelt header `Content-Deposition` is the real server's.
    """
    task = _own(call)
    if not task["downloadFileType"]:
        raise Refusal(400, "This task is not associated with a downloadable file.")
    if task["status"] != "finished":
        raise Refusal(409, "This task has not been completed.")
    path = call.tasks.download_path(task["taskId"])
    if call.store.sandbox.now() - moment(task["endedAt"]) > KEEP_DOWNLOADS:
        path.unlink(missing_ok=True)
    if not path.exists():
        text = f"The requested download file for the task {task['taskId']} is no longer available."
        raise Refusal(404, text)
    packed = task["downloadFileType"] == "application/x-tgz"
    name = "download.tar.gz" if packed else "download.zip"
    return Reply(
        stream=stream_file(path),
        media_type="application/gzip" if packed else task["downloadFileType"],
        headers={
            "content-deposition": f'attachment; filename="{name}"',
            "content-length": str(path.stat().st_size),
        },
    )


async def patch_task(call: Call) -> Reply:
    """Dismiss a finished task, which deletes its file, or take that back."""
    task = _own(call)
    if not isinstance(call.body, dict) or list(call.body) != ["dismissed"]:
        raise Refusal(400, "Bad Request")
    if not isinstance(call.body["dismissed"], bool):
        raise Refusal(400, "Bad Request")
    if task["status"] != "finished":
        raise Refusal(400, "The task is not completed yet.")
    call.tasks.change(task["taskId"], {"dismissed": call.body["dismissed"]})
    if task["downloadFileType"] and call.body["dismissed"]:
        call.tasks.download_path(task["taskId"]).unlink(missing_ok=True)
    return NO_CONTENT
