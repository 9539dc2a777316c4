"""The main job, start to finish: a real MCP client drives `isocenter serve --sandbox`, a child process, over stdio.

Search the archive, download a series, render a slice, let Qure analyse the series and fetch what it found, open a case in CIRCUS
and tag it; then three calls that must be refused before anything is sent. Nothing here knows how the server works: everything
goes through tools an assistant would use.
"""

from __future__ import annotations

import json
import sys
import time
import zipfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

if TYPE_CHECKING:
    from mcp import Client, types
    from rich.progress import Progress

SECONDS_FOR_RESULTS = 60.0
BATCH = 100  # files per upload, the most the contract allows


class StepFailed(Exception):
    """A step did not do what it should; the text says what came instead."""


@dataclass(slots=True)
class Step:
    """One line of the summary. The checks are `passed`, `refused: n problems`, `broken` or `-` (not reached)."""

    step: int
    name: str
    system: str
    tool: str
    ok: bool = False
    seconds: float = 0.0
    calls: int = 0
    request_checks: str = "-"
    response_checks: str = "-"
    detail: str = ""


async def run(out: Path, as_json: bool) -> int:
    """Drive the journey, write its files below `out`, and return the exit code: 0 only if every step did what it should."""
    from mcp import Client, StdioServerParameters

    out.mkdir(parents=True, exist_ok=True)
    arguments = [
        "-P",
        "-m",
        "isocenter",
        "serve",
        "--sandbox",
        "--toolset",
        "all",
        "--data",
        str(out / "sandbox"),
        "--download-dir",
        str(out),
    ]
    server = StdioServerParameters(command=sys.executable, args=arguments)
    with _display(as_json) as display:
        display.note(f"Starting isocenter serve --sandbox; files go to {out.resolve()}")
        started = time.monotonic()
        async with Client(server, elicitation_callback=display.answer, read_timeout_seconds=120) as client:
            journey = Journey(client, out, display)
            steps = await journey.drive()
        display.summary(steps, out, time.monotonic() - started)
    return 0 if all(step.ok for step in steps) and len(steps) == journey.planned else 1


class Journey:
    """The steps in order; each one uses what the earlier ones found."""

    def __init__(self, client: Client, out: Path, display: Display) -> None:
        self.client = client
        self.out = out
        self.display = display
        self.steps: list[Step] = []
        self.series: dict[str, Any] = {}
        self.files: list[Path] = []
        self.case = ""
        self.project = ""
        self.domain = ""
        self.plan: list[tuple[str, str, str, Callable[[Step], Awaitable[str]]]] = [
            ("Search for a chest CT", "TCIA", "search_series", self.search),
            ("Download the series", "TCIA", "download_series", self.download),
            ("Render a slice", "DICOMaestro", "read_dicom_file", self.render),
            ("Upload the series", "Qure", "upload_studies_to_qure", self.upload),
            ("Start the computation", "Qure", "start_qure_computation", self.compute),
            ("Wait for the results", "Qure", "get_qure_results", self.results),
            ("Register the series", "CIRCUS", "upload_circus_series", self.register),
            ("Open a case", "CIRCUS", "create_case", self.open_case),
            ("Tag the case", "CIRCUS", "change_case_tags", self.tag),
            ("Read the case back", "CIRCUS", "get_case", self.read_back),
            ("Misspelt parameter", "TCIA", "search_series", self.wrong_name),
            ("UID that is none", "Qure", "start_qure_computation", self.wrong_uid),
            ("Volume that cannot be", "CIRCUS", "create_case", self.wrong_volume),
        ]
        self.planned = len(self.plan)

    async def drive(self) -> list[Step]:
        """Run the plan until a step fails."""
        for number, (name, system, tool, act) in enumerate(self.plan, 1):
            step = Step(number, name, system, tool)
            self.steps.append(step)
            self.display.begin(step)
            started = time.monotonic()
            try:
                step.detail = await act(step)
                step.ok = True
            except StepFailed as failure:
                step.detail = str(failure)
            step.seconds = round(time.monotonic() - started, 3)
            self.display.end(step)
            if not step.ok:
                break
        return self.steps

    async def _call(self, step: Step, arguments: dict[str, Any], tool: str = "") -> types.CallToolResult:
        async def progress(progress: float, total: float | None, message: str | None) -> None:
            self.display.progress(progress, total, message)

        result = await self.client.call_tool(tool or step.tool, arguments, progress_callback=progress)
        step.calls += 1
        text = _text(result)
        if result.is_error:
            refused = text.startswith("invalid_request")
            problems = text.count("\n- ")
            step.request_checks = f"refused: {problems} problem{'s' * (problems > 1)}" if refused else "passed"
            step.response_checks = "broken" if text.startswith("contract_violation") else "-" if refused else "passed"
        else:
            step.request_checks = step.response_checks = "passed"
            findings = (result.structured_content or {}).get("findings") or []
            if findings:
                step.response_checks = f"passed, {len(findings)} notes"
        return result

    async def _must(self, step: Step, arguments: dict[str, Any], tool: str = "") -> dict[str, Any]:
        result = await self._call(step, arguments, tool)
        if result.is_error:
            raise StepFailed(_text(result))
        return dict(result.structured_content or {})

    async def search(self, step: Step) -> str:
        answer = await self._must(step, {"Modality": "CT", "BodyPartExamined": "CHEST"})
        rows = answer["data"]
        if not rows:
            raise StepFailed("no chest CT in the archive")
        self.series = max(rows, key=lambda row: row["ImageCount"])
        return (
            f"{answer['total']} series; taking {self.series['SeriesDescription']} ({self.series['ImageCount']} images)"
        )

    async def download(self, step: Step) -> str:
        answer = await self._must(step, {"SeriesInstanceUID": self.series["SeriesInstanceUID"], "NewFileNames": "Yes"})
        archive = Path(answer["file"]["path"])
        self.files = await anyio.to_thread.run_sync(_unpack, archive, self.out / "series")
        if len(self.files) != self.series["ImageCount"]:
            raise StepFailed(f"{len(self.files)} files instead of {self.series['ImageCount']}")
        return f"{answer['file']['size'] / 1e6:.1f} MB, {len(self.files)} DICOM files in {self.files[0].parent}"

    async def render(self, step: Step) -> str:
        middle = self.files[len(self.files) // 2]
        result = await self._call(
            step, {"file": str(middle), "return_format": "png", "fields": "Modality,Rows,Columns"}
        )
        images = [block for block in result.content if block.type == "image"]
        if result.is_error or not images:
            raise StepFailed(_text(result))
        import base64

        target = self.out / "slice.png"
        target.write_bytes(base64.b64decode(images[0].data))
        return f"{target.name}, {target.stat().st_size} bytes, from {middle.name}"

    async def upload(self, step: Step) -> str:
        stored = 0
        for start in range(0, len(self.files), BATCH):
            batch = [str(path) for path in self.files[start : start + BATCH]]
            answer = await self._must(step, {"files": batch})
            stored = answer["data"]["detailed_info"][0]["NumberOfSeriesRelatedInstances"]
        if stored != len(self.files):
            raise StepFailed(f"{stored} instances stored instead of {len(self.files)}")
        return f"{stored} instances stored in {step.calls} uploads"

    async def compute(self, step: Step) -> str:
        answer = await self._must(step, {"SeriesInstanceUID": self.series["SeriesInstanceUID"]})
        return str(answer.get("data", {}).get("message", "already queued"))

    async def results(self, step: Step) -> str:
        deadline = time.monotonic() + SECONDS_FOR_RESULTS
        pause = 0.25
        while True:
            answer = await self._must(step, {"uid": self.series["SeriesInstanceUID"]})
            if answer["status"] != 202:
                break
            if time.monotonic() > deadline:
                raise StepFailed(f"no results after {SECONDS_FOR_RESULTS:.0f} s")
            await anyio.sleep(pause)
            pause = min(pause * 1.5, 2.0)
        assets = answer["data"]["result"]["files"]
        saved = await _fetch_assets(assets, self.out / "results")
        return (
            f"{answer['data']['usecase']}, {answer['data']['triage_status']}; {saved} files in {self.out / 'results'}"
        )

    async def register(self, step: Step) -> str:
        account = await self._must(step, {}, "get_circus_account")
        writable = [entry for entry in account["data"]["accessibleProjects"] if "write" in entry["roles"]]
        if not writable:
            raise StepFailed("no writable project")
        self.project, self.domain = (
            writable[0]["projectId"],
            account["data"]["defaultDomain"] or account["data"]["domains"][0],
        )
        answer = await self._must(step, {"domain": self.domain, "files": [str(path) for path in self.files]})
        task = answer["data"]["taskId"]
        deadline = time.monotonic() + SECONDS_FOR_RESULTS
        while (state := await self._must(step, {"taskId": task}, "get_circus_task"))["data"]["status"] == "processing":
            if time.monotonic() > deadline:
                raise StepFailed("the import did not finish")
            await anyio.sleep(0.2)
        if state["data"]["status"] != "finished":
            raise StepFailed(f"the import ended as {state['data']['status']}")
        return f"domain {self.domain}, import task finished"

    async def open_case(self, step: Step) -> str:
        volume = {"start": 1, "end": len(self.files), "delta": 1}
        series = [{"seriesUid": self.series["SeriesInstanceUID"], "partialVolumeDescriptor": volume}]
        answer = await self._must(step, {"projectId": self.project, "series": series, "tags": ["demo"]})
        self.case = answer["data"]["caseId"]
        return f"case {self.case}"

    async def tag(self, step: Step) -> str:
        await self._must(step, {"operation": "add", "tags": ["qct-done"], "caseIds": [self.case]})
        return "added qct-done"

    async def read_back(self, step: Step) -> str:
        answer = await self._must(step, {"caseId": self.case})
        if sorted(answer["data"]["tags"]) != ["demo", "qct-done"]:
            raise StepFailed(f"tags are {answer['data']['tags']}")
        return f"tags {', '.join(answer['data']['tags'])}; {len(answer['data']['revisions'])} revision"

    async def _refused(self, step: Step, arguments: dict[str, Any], hint: str) -> str:
        result = await self._call(step, arguments)
        text = _text(result)
        if not (result.is_error and text.startswith("invalid_request") and "nothing was sent" in text and hint in text):
            raise StepFailed(f"not refused as it should be: {text}")
        return next(line for line in text.splitlines() if hint in line)

    async def wrong_name(self, step: Step) -> str:
        return await self._refused(step, {"BodyPart": "CHEST", "Modality": "CT"}, "Did you mean BodyPartExamined?")

    async def wrong_uid(self, step: Step) -> str:
        return await self._refused(step, {"SeriesInstanceUID": "1.2..3"}, "a DICOM UID")

    async def wrong_volume(self, step: Step) -> str:
        volume = {"start": 1, "end": 10, "delta": -1}
        series = [{"seriesUid": self.series["SeriesInstanceUID"], "partialVolumeDescriptor": volume}]
        arguments = {"projectId": self.project, "series": series, "tags": []}
        return await self._refused(step, arguments, "/series/0/partialVolumeDescriptor/delta")


def _text(result: types.CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if block.type == "text")


def _unpack(archive: Path, folder: Path) -> list[Path]:
    """The DICOM files of a downloaded ZIP, written under their own base names; anything else in it stays inside."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with zipfile.ZipFile(archive) as members:
        for member in members.infolist():
            name = Path(member.filename).name
            if name.endswith(".dcm"):
                path = folder / name
                path.write_bytes(members.read(member))
                paths.append(path)
    return sorted(paths)


async def _fetch_assets(assets: dict[str, list[str]], folder: Path) -> int:
    """Download the result files while their addresses are valid: `kind-n.ext`."""
    import httpx

    folder.mkdir(parents=True, exist_ok=True)
    endings = {"pdf": ".pdf", "json": ".json", "hl7": ".hl7"}
    count = 0
    async with httpx.AsyncClient() as http:
        for kind, urls in assets.items():
            for index, url in enumerate(urls, 1):
                answer = await http.get(url)
                if answer.status_code != 200:
                    raise StepFailed(f"{kind} {index}: {answer.status_code}")
                (folder / f"{kind}-{index}{endings.get(kind, '.dcm')}").write_bytes(answer.content)
                count += 1
    return count


class Display:
    """What a watcher sees. This one prints JSON lines, one object per step, and nothing else."""

    def note(self, text: str) -> None:
        """Say something in passing."""

    def begin(self, step: Step) -> None:
        """A step starts."""

    def progress(self, done: float, total: float | None, message: str | None) -> None:
        """Part of the running step is done."""

    def end(self, step: Step) -> None:
        """A step is over."""
        print(json.dumps(asdict(step)), flush=True)

    def summary(self, steps: list[Step], out: Path, seconds: float) -> None:
        """Everything is over."""

    async def answer(self, context: Any, params: Any) -> Any:
        """Say yes to the server's question: in this demonstration no data is real."""
        from mcp import types

        self.note(f"Asked: {params.message} Answer: yes")
        return types.ElicitResult(action="accept", content={"confirm": True})


class Screen(Display):
    """The same for people: a spinner with progress, then a table."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None)

    def note(self, text: str) -> None:
        self._progress.console.print(f"[dim]{text}[/dim]", highlight=False)

    def begin(self, step: Step) -> None:
        self._progress.reset(self._task, description=f"{step.step:2}. {step.name} ({step.system})", total=None)

    def progress(self, done: float, total: float | None, message: str | None) -> None:
        self._progress.update(self._task, completed=done, total=total)

    def end(self, step: Step) -> None:
        mark = "[green]✓[/green]" if step.ok else "[red]✗[/red]"
        from rich.markup import escape

        self._progress.console.print(
            f"{mark} {step.step:2}. {step.name} [dim]{escape(step.detail)}[/dim]", highlight=False
        )

    def summary(self, steps: list[Step], out: Path, seconds: float) -> None:
        from rich.table import Table

        self._progress.stop()
        table = Table(title="What happened", title_justify="left")
        for column in ("call", "system", "time", "request checks", "response checks"):
            table.add_column(column, justify="right" if column == "time" else "left")
        for step in steps:
            calls = f" ({step.calls} calls)" if step.calls > 1 else ""
            table.add_row(
                f"{step.tool}{calls}", step.system, f"{step.seconds:.2f} s", step.request_checks, step.response_checks
            )
        console = self._progress.console
        console.print(table)
        done = sum(step.ok for step in steps)
        console.print(
            f"{done} of {len(steps)} steps did what they should in {seconds:.1f} s. Files: {out.resolve()}",
            highlight=False,
        )


@contextmanager
def _display(as_json: bool) -> Iterator[Display]:
    if as_json:
        yield Display()
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn())
    with Progress(*columns, transient=True) as progress:
        yield Screen(progress)
