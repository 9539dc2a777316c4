"""The commands for whole pipelines: `run`, `jobs`, and `worker` on other machines. Stop them anywhere; started again, they go on."""

from __future__ import annotations

import json
import signal
import sys
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isocenter.cli_transfer import Config, Json, client_of, display, load_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from isocenter.settings import Settings
    from isocenter.transfer.ledger import Job, Ledger
    from isocenter.transfer.pipeline import Pipeline
    from isocenter.transfer.runner import Event, Perform
    from isocenter.transfer.steps import Tools

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

LEDGER = "jobs.sqlite"
TELL = 2.0  # seconds between two progress events
Where = Annotated[
    Path | None,
    typer.Option("--ledger", help="File that knows all jobs; in the download folder if left out.", show_default=False),
]
Queue = Annotated[
    str,
    typer.Option(
        "--queue",
        envvar="ISOCENTER_QUEUE",
        help="Redis server the work goes through: redis://host:6379/0.",
        show_default=False,
    ),
]


def _ledger(settings: Settings, path: Path | None) -> Ledger:
    from isocenter.transfer.ledger import Ledger

    return Ledger((path or settings.download_dir / LEDGER).expanduser())


@app.command()
def run(
    pipeline: Annotated[Path, typer.Argument(help="Pipeline file (TOML): find, download, upload, results, case, tag.")],
    ledger: Where = None,
    queue: Queue = "",
    again: Annotated[
        bool, typer.Option("--again", help="Go through all steps once more; what is done is found.")
    ] = False,
    find_again: Annotated[
        bool, typer.Option("--find-again", help="Look for series that are new since the first run.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Find the series and say what would be done; do nothing.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Write what became of every series: .csv, .jsonl or .parquet.", show_default=False),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before patient data is sent.")] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Run a pipeline over any number of series. The ledger remembers; run it again to go on where it stopped."""
    import anyio

    from isocenter.transfer.pipeline import read_pipeline
    from isocenter.transfer.runner import run_job
    from isocenter.transfer.steps import Tools, check, find
    from isocenter.transfer.table import KINDS, export_table

    if report and report.suffix.lower() not in KINDS:  # before hours of work
        raise typer.BadParameter(f"--report takes a file that ends with {', '.join(KINDS)}")
    settings, what = load_settings(config), read_pipeline(pipeline)
    if queue:
        what.check_shareable()

    async def go() -> int:
        async with Tools(lambda api: client_of(settings, api)) as tools:
            if dry_run:
                count, size = 0, 0
                async for facts in find(tools, what.find):
                    count, size = count + 1, size + max(0, facts.size)
                shown.event(
                    "end",
                    f"{count} series, {size / 1e6:.1f} MB: {' -> '.join(what.steps)}",
                    series=count,
                    bytes=size,
                    steps=what.steps,
                )
                return 0
            if not queue:  # workers have credentials of their own
                await check(tools, what)
            with _ledger(settings, ledger) as known:
                known.open_job(what.id, what.name, what.definition, what.steps)
                if again:
                    known.start_over(what.id)
                if find_again or not known.is_found(what.id):
                    async for facts in find(tools, what.find):
                        known.add(what.id, facts.series_uid, facts.row)
                    known.all_found(what.id)
                before = known.job(what.id)
                _consent(what, before, yes or as_json)
                progress = Progress(before)
                title = f"{what.name}: {' -> '.join(what.steps)}"
                shown.begin(title, before.total)
                shown.advance(progress.ended)
                shown.event("start", f"{before.total} series", job=what.id, **progress.facts())

                def on_event(event: Event) -> None:
                    if event.state != "again":
                        progress.ended += event.state != "stopped"
                        shown.advance(event.state != "stopped")
                    bad = event.state in ("failed", "stopped")
                    facts = {
                        "series_uid": event.uid,
                        "state": event.state,
                        "step": event.step,
                        "why": event.why,
                        "code": event.code,
                    }
                    shown.event(
                        "series", f"{event.state:7} {event.uid}  {event.step}  {event.why}".rstrip(), bad=bad, **facts
                    )
                    if progress.due():
                        shown.event("progress", f"{title}, {progress.words()}", **progress.facts())

                def on_bytes(more: int) -> None:
                    progress.bytes += more

                async with _performing(queue, what, tools) as perform:
                    ended = await run_job(
                        known,
                        what.id,
                        what.steps,
                        perform,
                        at_once=what.at_once,
                        rates=what.rates,
                        tries=what.tries,
                        ahead=what.ahead,
                        on_event=on_event,
                        on_bytes=on_bytes,
                        backoff=what.backoff,
                    )
                if report:
                    export_table(known.rows(what.id), report, COLUMNS)
            stopped = f" Stopped: {ended.stopped}" if ended.stopped else ""
            shown.event(
                "end",
                f"{ended.total} series: {ended.done} done, {ended.skipped} had nothing left to do, {ended.failed} failed, {ended.left} left, "
                f"in {ended.seconds:.1f} s.{stopped}",
                job=what.id,
                total=ended.total,
                **(asdict(ended) | {"seconds": round(ended.seconds, 3)}),
            )
            return 1 if ended.failed or ended.left else 0

    with display(as_json, unit="series") as shown:
        code = anyio.run(go)
    raise typer.Exit(code)


@asynccontextmanager
async def _performing(url: str, pipeline: Pipeline, tools: Tools) -> AsyncIterator[Perform]:
    """Steps done here, or by workers behind a queue."""
    from isocenter.transfer.steps import STEPS

    if not url:
        yield lambda step, item: STEPS[step](tools, pipeline, item)
        return
    from isocenter.transfer.queue import queued

    async with queued(url, pipeline) as perform:
        yield perform


def _consent(pipeline: Pipeline, job: Job, given: bool) -> None:
    """Ask before the first patient data leaves, where there is a person to ask."""
    places = [name for step, name in (("upload", "Qure.ai"), ("case", "CIRCUS")) if step in pipeline.steps]
    left = sum(job.left.values())
    if places and left and not given and sys.stdin.isatty():
        typer.confirm(
            f"Send {left} series, pixel data and patient attributes included, to {' and '.join(places)}?", abort=True
        )


class Progress:
    """How far a run is: what ended of how many, how fast, how long it still takes."""

    def __init__(self, job: Job) -> None:
        self.total, self.bytes = job.total, 0
        self.ended = self._before = job.done + job.skipped + job.failed
        self._started = self._told = time.monotonic()

    def due(self) -> bool:
        """Whether it is time to tell again."""
        now = time.monotonic()
        if now - self._told < TELL:
            return False
        self._told = now
        return True

    def facts(self) -> dict[str, Any]:
        """ended, total, per_second (series), bytes_per_second, seconds_left (None while nothing has ended)."""
        seconds, ended = max(time.monotonic() - self._started, 1e-6), self.ended - self._before
        left = (self.total - self.ended) * seconds / ended if ended else None
        return {
            "ended": self.ended,
            "total": self.total,
            "per_second": round(ended / seconds, 3),
            "bytes_per_second": round(self.bytes / seconds),
            "seconds_left": None if left is None else round(left, 1),
        }

    def words(self) -> str:
        """How fast, for people; the bar has the rest."""
        return f"{self.facts()['bytes_per_second'] / 1e6:.1f} MB/s"


COLUMNS = (
    "SeriesInstanceUID", "state", "step", "why", "code", "tries", "Collection", "Modality", "folder", "files", "bytes", "md5", "usecase",
    "triage_status", "case",
)  # fmt: skip


@app.command()
def jobs(
    job: Annotated[str, typer.Argument(help="A job's name or identifier: lists its series.", show_default=False)] = "",
    state: Annotated[
        str, typer.Option(help="Only series in this state: done, skipped, failed, left.", show_default=False)
    ] = "",
    report: Annotated[
        Path | None, typer.Option(help="Write the series to a .csv, .jsonl or .parquet file.", show_default=False)
    ] = None,
    ledger: Where = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """List the pipelines that were run, or what became of the series of one."""
    from isocenter.transfer.table import export_table

    if state not in ("", "done", "skipped", "failed", "left"):
        raise typer.BadParameter("--state knows done, skipped, failed and left")
    settings = load_settings(config)
    where = (ledger or settings.download_dir / LEDGER).expanduser()
    if not where.exists():
        typer.echo(f"No jobs: {where} does not exist.", err=True)
        raise typer.Exit(1 if job else 0)
    with _ledger(settings, where) as known:
        for one in [known.job(job)] if job else known.jobs():
            facts = {
                name: getattr(one, name)
                for name in ("id", "name", "created", "found", "steps", "total", "done", "skipped", "failed", "running")
            }
            left = ", ".join(f"{count} before {step}" for step, count in one.left.items()) or "0"
            typer.echo(
                json.dumps({"event": "job", **facts, "left": dict(one.left)}, ensure_ascii=False)
                if as_json
                else f"{one.id}  {time.strftime('%Y-%m-%d %H:%M', time.localtime(one.created))}  {one.total} series: {one.done} done, "
                f"{one.skipped} skipped, {one.failed} failed, left: {left}"
                + (f" ({one.running} at work)" if one.running else "")
            )
        if not job:
            return
        rows = (row for row in known.rows(known.job(job).id) if state in ("", row["state"]))
        if report:
            export_table(rows, report, COLUMNS)
            return
        for row in rows:
            if as_json:
                typer.echo(json.dumps({"event": "series", **row}, ensure_ascii=False))
            else:
                typer.echo(f"  {row['state']:7} {row['SeriesInstanceUID']}  {row['step']}  {row['why']}".rstrip())


@app.command()
def worker(
    queue: Queue,
    at_once: Annotated[int, typer.Option(min=1, max=64, help="Most steps at the same time.")] = 4,
    lease: Annotated[
        float, typer.Option(min=1, help="Seconds after which the work of a worker that died goes to others.")
    ] = 15,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Do steps of pipelines that run with the same --queue, on this machine, until stopped.

    Credentials are this machine's own; the folders of a pipeline must be reachable under the same paths on all machines. SIGTERM and
    Ctrl-C give what was begun to other workers; a second one ends the process where it stands, which loses nothing either.
    """
    import asyncio

    from isocenter.transfer.queue import work

    settings = load_settings(config)

    async def go() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task

        def stop() -> None:
            task.cancel()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(NotImplementedError):  # on Windows
                loop.add_signal_handler(number, stop)

        def on_turn(uid: str, step: str, what: str) -> None:
            shown.event("step", f"{step:8} {uid}  {what}", series_uid=uid, step=step, what=what)

        with suppress(asyncio.CancelledError):
            await work(
                queue,
                lambda api: client_of(settings, api),
                at_once=at_once,
                lease=lease,
                on_turn=on_turn,
                started=lambda: shown.event("ready", "waiting for work"),
            )

    with display(as_json, unit="series") as shown:
        asyncio.run(go())
