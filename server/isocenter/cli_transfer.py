"""The commands that move bytes: download, upload, results. Bars for people, `--json` events for programs, one line in a pipe.

Every command can be stopped at any moment and run again: what is there already is found and not moved a second time. The exit code is
0 only when nothing failed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from isocenter.core import ApiClient
    from isocenter.settings import Settings
    from isocenter.transfer.manifest import Manifest

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

MANIFEST, JOURNAL = "manifest.jsonl", "uploads.jsonl"
Config = Annotated[Path | None, typer.Option("--config", help="Configuration file (TOML).", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="One JSON object per event on standard output.")]
AtOnce = Annotated[int, typer.Option(min=1, max=64, help="Most transfers at the same time.")]


class Display:
    """What the user sees. In a pipe: failures on standard error, the summary on standard output, nothing else."""

    def __init__(self, as_json: bool, progress: Progress | None = None) -> None:
        self._json, self._progress = as_json, progress
        self._task: TaskID | None = None

    def begin(self, title: str, total: int | None) -> None:
        """Start; `total` in bytes, None where it is not known."""
        if self._progress:
            self._task = self._progress.add_task(title, total=total or None)

    def advance(self, size: int) -> None:
        """More bytes went through."""
        if self._progress and self._task is not None:
            self._progress.advance(self._task, size)

    def event(self, kind: str, text: str, *, bad: bool = False, **facts: Any) -> None:
        """Something ended: a series, a result, the whole command."""
        if self._json:
            told = {key: str(value) if isinstance(value, Path) else value for key, value in facts.items()}
            self._echo(json.dumps({"event": kind, **told}, ensure_ascii=False))
        elif kind == "progress":
            self.series(text)
        elif self._progress:
            self._progress.console.print(text, style="red" if bad else None, markup=False, highlight=False)
        elif bad or kind == "end":
            self._echo(text, err=bad)

    def _echo(self, text: str, *, err: bool = False) -> None:
        try:
            typer.echo(text, err=err)
        except BrokenPipeError:  # nobody listens any more; that is no reason to stop halfway
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def series(self, title: str) -> None:
        """Name what goes on."""
        if self._progress and self._task is not None:
            self._progress.update(self._task, description=title)


@contextmanager
def display(as_json: bool, unit: Literal["bytes", "series"] = "bytes") -> Iterator[Display]:
    """The display for where standard output goes; `unit` is what is counted."""
    if as_json or not sys.stdout.isatty():
        yield Display(as_json)
        return
    from rich import progress as rich

    counted = (rich.DownloadColumn(), rich.TransferSpeedColumn()) if unit == "bytes" else (rich.MofNCompleteColumn(),)
    columns = (
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(bar_width=None),
        *counted,
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns) as progress:
        yield Display(False, progress)


def load_settings(config: Path | None) -> Settings:
    """The user's settings, or those of this file."""
    import isocenter_clients
    from isocenter import settings

    return settings.load(isocenter_clients.APIS, config)


def client_of(settings: Settings, api: str) -> ApiClient:
    """The configured client of one API."""
    import isocenter_clients
    from isocenter.core import ApiClient

    here = settings.api(api)
    return ApiClient(
        isocenter_clients.contract(api),
        base_url=here.base_url,
        credentials=here.credentials,
        checks=settings.checks_of(api),
        roots=settings.roots,
    )


def _size(count: float) -> str:
    """Bytes in words."""
    from rich.filesize import decimal

    return decimal(int(count))


@app.command()
def download(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="Series UIDs, or files that list them: .tcia manifest, CSV, plain list. None: go on with what --to still wants.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Folder for the series.", show_default=False)] = None,
    collection: Annotated[str, typer.Option(help="Every series of this collection.", show_default=False)] = "",
    patient: Annotated[str, typer.Option(help="Only, or every, series of this patient.", show_default=False)] = "",
    study: Annotated[str, typer.Option(help="Only, or every, series of this study (UID).", show_default=False)] = "",
    modality: Annotated[str, typer.Option(help="Only series of this modality.", show_default=False)] = "",
    shared_list: Annotated[
        str, typer.Option("--list", help="Every series of this shared list.", show_default=False)
    ] = "",
    layout: Annotated[
        str, typer.Option(help="Folders below --to, from attributes of the series.")
    ] = "{Collection}/{PatientID}/{StudyInstanceUID}/{SeriesInstanceUID}",
    at_once: AtOnce = 4,
    table: Annotated[
        Path | None,
        typer.Option(help="Write what --to holds as a table: .csv, .jsonl or .parquet.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be fetched, fetch nothing.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Fetch nothing; hash again what --to holds, all of it or what is named.")
    ] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Download series from The Cancer Imaging Archive, checked and resumable.

    With --verify every file is hashed again and held against what was noted when it was fetched. What is damaged or missing is
    listed, and fetched again by the next download.
    """
    import anyio

    from isocenter.core.formats import FORMATS
    from isocenter.transfer.layout import check_layout
    from isocenter.transfer.manifest import COLUMNS, Manifest, facts_of, facts_of_filter, read_selection
    from isocenter.transfer.manifest import shared_list as list_named
    from isocenter.transfer.mirror import download_many
    from isocenter.transfer.table import export_table

    settings = load_settings(config)
    root = (to or settings.download_dir).expanduser()
    check_layout(layout)
    uids: list[str] = []
    for source in sources or ():
        if FORMATS["dicom-uid"](source):
            uids.append(source)
        else:
            uids += read_selection(Path(source))
    names = {"Collection": collection, "PatientID": patient, "StudyInstanceUID": study, "Modality": modality}
    filters = {name: value for name, value in names.items() if value}
    if verify:
        from isocenter.cli_verify import verify_download

        if shared_list or table or dry_run:
            raise typer.BadParameter("--verify goes with series, --collection, --patient, --study and --modality")
        with display(as_json, "series") as shown:
            code = anyio.run(verify_download, shown, root, uids, filters)
        raise typer.Exit(code)
    if list(filters) == ["Modality"]:
        raise typer.BadParameter("--modality alone would be the whole archive; add --collection, --patient or --study")

    async def select(tcia: ApiClient, manifest: Manifest) -> set[str] | None:
        """Note what is wanted before the first byte is fetched; None is everything noted so far."""
        found = await facts_of_filter(tcia, **filters) if filters else []
        chosen = {facts.series_uid for facts in found}
        for facts in found:
            manifest.want(facts)
        listed = [*uids, *(await list_named(tcia, shared_list) if shared_list else ())]
        async for facts in facts_of(tcia, listed):
            manifest.want(facts)
            chosen.add(facts.series_uid)
        if not (chosen or filters or manifest.states):
            raise typer.BadParameter(f"name series, a file that lists them, or --collection; {root} wants nothing yet")
        return chosen if chosen or filters else None

    async def run(shown: Display) -> int:
        with Manifest(root / MANIFEST) as manifest:
            async with client_of(settings, "tcia") as tcia:
                only = await select(tcia, manifest)
                count, size = 0, 0
                for facts in manifest.wanted(only):
                    count, size = count + 1, size + max(0, facts.size)
                if dry_run:
                    shown.event("end", f"{count} series, {_size(size)}", series=count, bytes=size)
                    return 0
                shown.begin(f"{count} series", size)
                looked_at = 0

                def outcome(facts: Any, what: Any) -> None:
                    nonlocal looked_at
                    looked_at += 1
                    shown.series(f"{looked_at}/{count} series")
                    words = (
                        what.why if what.state == "failed" else f"{what.files} files, {_size(what.bytes)} {what.why}"
                    )
                    shown.event(
                        "series",
                        f"{what.state:7} {what.series_uid}  {words}".rstrip(),
                        bad=what.state == "failed",
                        **{key: getattr(what, key) for key in what.__slots__},
                    )

                report = await download_many(
                    tcia,
                    manifest.wanted(only),
                    root,
                    layout=layout,
                    at_once=at_once,
                    manifest=manifest,
                    on_outcome=outcome,
                    on_bytes=shown.advance,
                )
            if table:
                export_table(manifest.rows(), table, COLUMNS)
        missed = count - report.done - report.skipped - report.failed
        ended = f" Stopped: {report.stopped} {missed} series were not tried." if report.stopped else ""
        shown.event(
            "end",
            f"{report.done} series fetched ({report.files} files, {_size(report.bytes)}), {report.skipped} were there, "
            f"{report.failed} failed, in {report.seconds:.1f} s.{ended}",
            done=report.done,
            skipped=report.skipped,
            failed=report.failed,
            missed=missed,
            files=report.files,
            bytes=report.bytes,
            seconds=round(report.seconds, 3),
            stopped=report.stopped,
        )
        return 1 if report.failed or report.stopped else 0

    with display(as_json) as shown:
        code = anyio.run(run, shown)
    raise typer.Exit(code)


@app.command()
def upload(
    paths: Annotated[list[Path], typer.Argument(help="Files and folders; DICOM is recognised by content.")],
    to: Annotated[str, typer.Option(help="`qure`, or the address of a DICOMweb server (STOW-RS).")] = "qure",
    journal: Annotated[
        Path | None,
        typer.Option(help="What was sent is noted here; by default beside the first path.", show_default=False),
    ] = None,
    framing: Annotated[
        str, typer.Option(help="For qure: form-data (current) or related (older upload page).")
    ] = "form-data",
    at_once: AtOnce = 2,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before anything is sent.")] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Send DICOM files to Qure.ai or to a DICOMweb server. They leave this machine.

    A DICOMweb server's credentials come from ISOCENTER_DICOMWEB_TOKEN (bearer) or ISOCENTER_DICOMWEB_BASIC (user:password).
    """
    import anyio
    import anyio.to_thread

    from isocenter.transfer.scan import find_dicom
    from isocenter.transfer.stow import store_to_dicomweb
    from isocenter.transfer.upload import Journal, SeriesUploaded, upload_to_qure

    if framing not in ("form-data", "related"):
        raise typer.BadParameter("--framing knows form-data and related")
    if to != "qure" and not to.startswith(("http://", "https://")):
        raise typer.BadParameter("--to knows qure and addresses that start with https://")
    if missing := [path for path in paths if not path.exists()]:
        raise typer.BadParameter(f"{missing[0]} does not exist")
    settings = load_settings(config)
    noted = journal or (paths[0] if paths[0].is_dir() else paths[0].parent) / JOURNAL
    found = find_dicom(paths)
    size = sum(series.size for series in found.series.values())
    what = f"{found.instances} DICOM files of {len(found.series)} series, {_size(size)}"
    if not found.series:
        raise typer.BadParameter("there are no DICOM files")
    if not yes and not as_json and sys.stdin.isatty():
        typer.confirm(f"Send {what} to {to}?", abort=True)

    async def run(shown: Display) -> int:
        results: list[SeriesUploaded] = []

        def series(result: SeriesUploaded) -> None:
            results.append(result)
            shown.series(f"{len(results)}/{len(found.series)} series")
            words = result.why or f"{result.sent} sent, {result.before} were there"
            shown.event(
                "series",
                f"{result.state:7} {result.series_uid}  {words}",
                bad=not result.whole,
                series_uid=result.series_uid,
                state=result.state,
                instances=result.instances,
                sent=result.sent,
                before=result.before,
                refused=[{"sop_instance_uid": one.sop_instance_uid, "why": one.why} for one in result.refused],
                bytes=result.bytes,
                seconds=round(result.seconds, 3),
                why=result.why,
                code=result.code,
            )

        shown.begin(what, size)
        for path in found.unreadable:
            shown.event("unreadable", f"cannot be read: {path}", bad=True, path=path)
        for path in found.conflicting:
            shown.event("conflicting", f"differs from another file of the same instance: {path}", bad=True, path=path)
        with Journal(noted) as sent:
            if to == "qure":
                async with client_of(settings, "qure") as qure:
                    await upload_to_qure(
                        qure,
                        found.series.values(),
                        journal=sent,
                        progress=shown.advance,
                        on_series=series,
                        framing="related" if framing == "related" else "form-data",
                        at_once=at_once,
                    )
            else:
                names = {"token": "ISOCENTER_DICOMWEB_TOKEN", "basic": "ISOCENTER_DICOMWEB_BASIC"}
                await store_to_dicomweb(
                    to,
                    found.series.values(),
                    credentials={name: os.environ[key] for name, key in names.items() if os.environ.get(key)},
                    journal=sent,
                    progress=shown.advance,
                    on_series=series,
                    at_once=at_once,
                )
        states = [result.state for result in results]
        done, skipped, failed = (states.count(state) for state in ("done", "skipped", "failed"))
        shown.event(
            "end",
            f"{done} series sent ({sum(result.sent for result in results)} files), {skipped} were there, {failed} failed; "
            f"{found.other_files} other files, {len(found.repeated)} copies left out.",
            done=done,
            skipped=skipped,
            failed=failed,
            files=sum(result.sent for result in results),
            other_files=found.other_files,
            repeated=len(found.repeated),
            unreadable=len(found.unreadable),
            conflicting=len(found.conflicting),
        )
        return 1 if failed or found.unreadable or found.conflicting else 0

    with display(as_json) as shown:
        code = anyio.run(run, shown)
    raise typer.Exit(code)


@app.command()
def results(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="SeriesInstanceUIDs, or folders with the series that were uploaded (X-rays are asked for by image)."
        ),
    ],
    to: Annotated[Path, typer.Option(help="Folder for the results, one folder each.")] = Path("results"),
    xray: Annotated[bool, typer.Option("--xray", help="The UIDs are SOPInstanceUIDs of X-rays.")] = False,
    give_up_after: Annotated[float, typer.Option(min=0, help="Seconds to wait for a result.")] = 3600.0,
    no_start: Annotated[bool, typer.Option("--no-start", help="Do not start analyses that nobody started.")] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Wait for the results of Qure.ai and fetch all their files."""
    import anyio

    from isocenter.core import IsocenterError
    from isocenter.core.formats import FORMATS
    from isocenter.transfer.results import XRAY, ResultsOnDisk, ResultWanted, fetch_many
    from isocenter.transfer.scan import find_dicom

    settings = load_settings(config)
    wanted: list[ResultWanted] = []
    for source in sources:
        if FORMATS["dicom-uid"](source):
            wanted.append(ResultWanted(source, to / source, xray))
        elif Path(source).exists():
            for series in find_dicom([Path(source)]).series.values():
                images = [instance.sop_instance_uid for instance in series.instances]
                keys = images if series.modality in XRAY else [series.series_instance_uid]
                wanted += [ResultWanted(key, to / key, series.modality in XRAY) for key in keys]
        else:
            raise typer.BadParameter(f"{source} is no UID and no folder")

    async def run(shown: Display) -> int:
        failed = 0

        def result(one: ResultWanted, found: ResultsOnDisk | IsocenterError) -> None:
            nonlocal failed
            if isinstance(found, IsocenterError):
                failed += 1
                why = " ".join(str(found).split())
                shown.event(
                    "result",
                    f"failed  {one.uid}  {why}",
                    bad=True,
                    uid=one.uid,
                    state="failed",
                    why=why,
                    code=found.code,
                )
                return
            shown.advance(found.bytes)
            state = "skipped" if found.skipped else "done"
            shown.event(
                "result",
                f"{state:7} {one.uid}  {found.usecase}, {found.triage_status}: {found.files} files in {found.folder}",
                uid=one.uid,
                state=state,
                usecase=found.usecase,
                triage_status=found.triage_status,
                files=found.files,
                bytes=found.bytes,
                folder=found.folder,
            )

        shown.begin(f"{len(wanted)} results", None)
        async with client_of(settings, "qure") as qure:
            await fetch_many(qure, wanted, give_up_after=give_up_after, start=not no_start, on_result=result)
        fetched = len(wanted) - failed
        shown.event("end", f"{fetched} results in {to}, {failed} failed.", done=fetched, failed=failed)
        return 1 if failed else 0

    with display(as_json) as shown:
        code = anyio.run(run, shown)
    raise typer.Exit(code)
