"""The work behind the simulated Qure service: moves jobs through their states and computes them.

uploaded -> (stability or compute) -> queued -> processing -> done | invalid | unsupported | failed. Every step is a row
in the database; what was queued or processing when the process died is computed after the next start.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import sqlite3
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import anyio.to_thread

from isocenter.sandbox.qure import results as qure_results
from isocenter.sandbox.state import Sandbox

log = logging.getLogger("isocenter.sandbox")

TICK_SECONDS = 0.05
"""How often waiting work looks at the sandbox's clock, which a test may move."""


@dataclass(frozen=True, slots=True)
class Background:
    """What requests and background work of one sandbox share beside the database."""

    work: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by a request that made a job which may be due."""
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)


_BACKGROUND: WeakKeyDictionary[Sandbox, Background] = WeakKeyDictionary()


def background(sandbox: Sandbox) -> Background:
    """The one `Background` of a sandbox."""
    return _BACKGROUND.setdefault(sandbox, Background())


async def dispatch(sandbox: Sandbox) -> None:
    """Queue the series whose time has come, start what is queued; sleep until there is something to do."""
    work = background(sandbox).work
    while True:
        work.clear()
        with sandbox.transaction():
            now = sandbox.now().timestamp()
            sandbox.db.execute("UPDATE qure_job SET state = 'queued' WHERE state = 'uploaded' AND due <= ?", (now,))
            queued = sandbox.db.execute("SELECT * FROM qure_job WHERE state = 'queued' ORDER BY id").fetchall()
            sandbox.db.execute("UPDATE qure_job SET state = 'processing' WHERE state = 'queued'")
        for job in queued:
            sandbox.spawn(_process(sandbox, job, now))
        waiting = "SELECT 1 FROM qure_job WHERE state = 'uploaded' AND due IS NOT NULL"
        wait = TICK_SECONDS if sandbox.db.execute(waiting).fetchone() else None
        with suppress(TimeoutError):
            await asyncio.wait_for(work.wait(), wait)


async def _process(sandbox: Sandbox, job: sqlite3.Row, started: float) -> None:
    """Compute one job; the result becomes visible when the simulated duration is over."""
    archive = sandbox.archive("qure")
    folder = f"qure-results/{job['id']}/{job['run']}"
    instances = archive.instances(job["series_instance_uid"])
    mine = "SELECT sop_instance_uid FROM qure_instance WHERE source = ? AND series_instance_uid = ?"
    owned = {row[0] for row in sandbox.db.execute(mine, (job["source"], job["series_instance_uid"]))}
    chosen = {job["uid"]} if job["usecase"] == "qxr" else owned
    paths = [archive.path(instance) for instance in instances if instance.sop_instance_uid in chosen]
    call = partial(
        qure_results.compute,
        job["usecase"],
        paths,
        sandbox.root / folder,
        key=f"{job['source']}/{job['uid']}/{job['run']}",
        now=sandbox.now(),
        prior=_prior(sandbox, job),
    )
    async with background(sandbox).one_at_a_time:
        try:
            outcome = await anyio.to_thread.run_sync(call)
        except Exception as error:  # whatever is wrong with the uploaded files ends this job, not the service
            name = type(error).__name__
            log.warning("qure: a computation failed: %s", name)
            outcome = qure_results.Outcome("failed", job["usecase"], reason=f"The computation failed: {name}.")
    # No event tells that the clock has moved.
    while sandbox.now().timestamp() < started + sandbox.options.compute_seconds:  # noqa: ASYNC110
        await asyncio.sleep(TICK_SECONDS)
    with sandbox.transaction():
        updated = sandbox.db.execute(
            "UPDATE qure_job SET state = ?, answer = ?, reason = ?, triage = ?, result = ?, findings = ?"
            " WHERE id = ? AND run = ? AND state = 'processing'",
            (
                outcome.state,
                outcome.usecase,
                outcome.reason,
                outcome.triage_status,
                json.dumps(outcome.result),
                json.dumps(outcome.findings),
                job["id"],
                job["run"],
            ),
        )
        if updated.rowcount:
            sandbox.db.execute("DELETE FROM qure_file WHERE job_id = ?", (job["id"],))
            for position, asset in enumerate(outcome.assets):
                name = f"{folder}/{asset.name}"
                sandbox.db.execute(
                    "INSERT INTO qure_file (id, job_id, position, kind, media_type, path) VALUES (?, ?, ?, ?, ?, ?)",
                    (secrets.token_hex(16), job["id"], position, asset.kind, asset.media_type, name),
                )


def _prior(sandbox: Sandbox, job: sqlite3.Row) -> dict[str, Any] | None:
    """The findings of the latest earlier chest CT of the same patient in the same workspace."""
    archive = sandbox.archive("qure")
    series = archive.series(job["series_instance_uid"])
    if series is None or not series.patient_id:
        return None
    found: list[tuple[str, dict[str, Any]]] = []
    done = "SELECT * FROM qure_job WHERE source = ? AND answer = 'qct' AND state = 'done' AND id != ? ORDER BY id"
    for row in sandbox.db.execute(done, (job["source"], job["id"])):
        other = archive.series(row["series_instance_uid"])
        if other and other.patient_id == series.patient_id:
            findings = json.loads(row["findings"])
            if findings["study_date"] < series.header.get("StudyDate", ""):
                found.append((findings["study_date"], findings))
    return max(found, key=lambda item: item[0])[1] if found else None
