"""Pipelines: the whole journey through the command, what a second run does, failures, bad files, limits, several processes, kill -9."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from faults import kill_pipeline
from transfer_fakes import faulty, lines

from isocenter import cli
from isocenter.cli_pipeline import Progress
from isocenter.core import StatusError, StorageError, TransportError
from isocenter.sandbox import phantom
from isocenter.sandbox.app import Running
from isocenter.sandbox.faults import switch
from isocenter.transfer import steps
from isocenter.transfer.ledger import Item, Ledger
from isocenter.transfer.patience import Rate
from isocenter.transfer.pipeline import BadPipeline, Pipeline, pipeline_of, read_pipeline
from isocenter.transfer.runner import Event, Perform, RunReport, run_job
from isocenter.transfer.steps import NotYet, Passed, Tools
from isocenter_clients.circus import CircusClient
from isocenter_clients.qure import QureClient
from isocenter_clients.tcia import TciaClient

pytestmark = pytest.mark.anyio

XRAYS = "Isocenter Radiographs"
Isocenter = Callable[..., tuple[int, str, str]]


@pytest.fixture
def environment(sandbox: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What a shell would set so that the command finds the sandbox; set here, and handed over for other processes."""
    qure, circus = sandbox.sandbox.credentials["qure"], sandbox.sandbox.credentials["circus"]
    values = {
        "ISOCENTER_CONFIG": "",
        "ISOCENTER_DOWNLOAD_DIR": str(tmp_path / "home"),
        "ISOCENTER_TCIA_BASE_URL": f"{sandbox.url}/nbia-api/services/v4",
        "ISOCENTER_QURE_BASE_URL": f"{sandbox.url}/qure",
        "ISOCENTER_QURE_TOKEN": qure["token"],
        "ISOCENTER_QURE_SOURCE": qure["source"],
        "ISOCENTER_CIRCUS_BASE_URL": f"{sandbox.url}/circus/api",
        "ISOCENTER_CIRCUS_TOKEN": circus["token"],
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return {**os.environ, **values}


@pytest.fixture
def isocenter(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Isocenter:
    """The command as its entry point runs it: exit code, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["isocenter", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return run


def write(path: Path, text: str) -> Path:
    """A pipeline file that does not wait long."""
    path.write_text(f"patience = 0.02\n{text}")
    return path


def cases_of(sandbox: Running, tag: str) -> dict[str, list[dict[str, Any]]]:
    """Cases that carry a tag, by their series."""
    found: dict[str, list[dict[str, Any]]] = {}
    with sqlite3.connect(sandbox.sandbox.root / "sandbox.db") as db:
        rows = db.execute("SELECT head, revisions FROM circus_case").fetchall()
    db.close()
    for head, revisions in rows:
        if tag in json.loads(head)["tags"]:
            found.setdefault(json.loads(revisions)[0]["series"][0]["seriesUid"], []).append(json.loads(head))
    return found


# -- the command ----------------------------------------------------------------------------------------------------------


def test_the_whole_journey_ends_in_tagged_cases_and_is_made_once(
    sandbox: Running, isocenter: Isocenter, tmp_path: Path
) -> None:
    file = write(
        tmp_path / "journey.toml",
        f"""
        find = {{ collection = "{XRAYS}", series = ["{phantom.LOW_DOSE_CT}", "{phantom.CHEST_DX}"] }}
        download = {{ to = "data" }}
        upload = {{ framing = "related" }}
        results = {{ to = "results" }}
        case = {{ project = "lung NODULES", tags = ["journey"] }}
        tag = {{ add = ["{{triage_status}}", "{{Modality}} {{usecase}}", "{{Collection}}"] }}
        """,
    )
    code, out, _ = isocenter("run", file, "--dry-run")
    assert (code, out.partition(",")[0]) == (0, "4 series")
    assert "download -> upload -> results -> case -> tag" in out
    assert not (tmp_path / "data").exists()

    code, out, err = isocenter("run", file, "--json", "--report", tmp_path / "report.jsonl")
    assert code == 0, out + err
    events = lines(out)
    assert [event["event"] for event in events if event["event"] != "progress"] == ["start", *["series"] * 4, "end"]
    assert (events[0]["total"], events[-1]["done"], events[-1]["bytes"] > 1_000_000) == (4, 4, True)
    report = {row["SeriesInstanceUID"]: row for row in lines((tmp_path / "report.jsonl").read_text())}
    uids = {event["series_uid"] for event in events if event["event"] == "series"}
    assert report.keys() == uids >= {phantom.LOW_DOSE_CT, phantom.CHEST_DX, phantom.CHEST_CR}
    cases = cases_of(sandbox, "journey")
    assert cases.keys() == uids
    for uid, row in report.items():
        (case,) = cases[uid]
        folder = tmp_path / "data" / row["folder"]
        assert (row["state"], row["case"]) == ("done", case["caseId"])
        assert len(list(folder.glob("*.dcm"))) == row["files"]
        usecase = "qct" if uid == phantom.LOW_DOSE_CT else "qxr"
        expected = {"journey", row["triage_status"], f"{row['Modality']} {usecase}", row["Collection"]}
        (mark,) = set(case["tags"]) - expected
        assert mark.startswith("isocenter-")
        results = [uid] if usecase == "qct" else [path.stem for path in folder.glob("*.dcm")]
        for result in results:
            assert len(json.loads((tmp_path / "results" / result / "index.json").read_text())["files"]) > 3

    code, out, err = isocenter("run", file, "--report", tmp_path / "report.csv")
    assert (code, err) == (0, "")
    assert out.startswith("4 series: 0 done, 4 had nothing left to do, 0 failed, 0 left")
    with (tmp_path / "report.csv").open(newline="") as table:
        assert {row["SeriesInstanceUID"]: row["case"] for row in csv.DictReader(table)} == {
            uid: case["caseId"] for uid, (case,) in cases.items()
        }
    code, out, _ = isocenter("run", file, "--again", "--json")
    states = Counter(event["state"] for event in lines(out) if event["event"] == "series")
    assert (code, states) == (0, {"skipped": 4})
    assert cases_of(sandbox, "journey") == cases

    code, out, _ = isocenter("jobs")
    assert (code, "4 series: 0 done, 4 skipped, 0 failed, left: 0" in out) == (0, True)
    code, out, _ = isocenter("jobs", "journey", "--json")
    assert [line["event"] for line in lines(out)] == ["job", *["series"] * 4]
    assert lines(out)[0]["steps"] == ["download", "upload", "results", "case", "tag"]
    assert "done" not in {
        line["state"] for line in lines(isocenter("jobs", "journey", "--json", "--state", "skipped")[1])[1:]
    }
    assert isocenter("jobs", "journey", "--state", "failed")[1].count("\n") == 1
    assert isocenter("jobs", "journey", "--report", tmp_path / "jobs.csv")[0] == 0
    assert len((tmp_path / "jobs.csv").read_text().splitlines()) == 5


def test_failures_are_accounted_for_and_tried_again(isocenter: Isocenter, tmp_path: Path) -> None:
    file = write(
        tmp_path / "some.toml",
        f"""
        find.series = ["{phantom.BRAIN_LOCALIZER}", "2.25.404", "{phantom.CHEST_CR}"]
        download = {{ to = "data" }}
        upload = {{}}
        results = {{ to = "results" }}
        """,
    )
    for _ in range(2):
        code, out, err = isocenter("run", file, "--report", tmp_path / "report.csv")
        assert code == 1
        assert "2 failed, 0 left" in out
        assert "the archive has no public series 2.25.404" in err.lower()
        with (tmp_path / "report.csv").open(newline="") as table:
            rows = {row["SeriesInstanceUID"]: row for row in csv.DictReader(table)}
        assert {uid: (row["state"], row["step"], row["code"]) for uid, row in rows.items()} == {
            phantom.BRAIN_LOCALIZER: ("failed", "results", "status"),
            "2.25.404": ("failed", "download", "unknown_series"),
            phantom.CHEST_CR: ("done", "", ""),
        }
        assert "Use case not implemented" in rows[phantom.BRAIN_LOCALIZER]["why"]
        assert rows[phantom.BRAIN_LOCALIZER]["tries"] == "1"
    code, out, _ = isocenter("jobs", "some", "--state", "failed")
    assert (code, out.count("failed  ")) == (0, 2)


def test_new_series_are_found_when_asked_for(isocenter: Isocenter, tmp_path: Path) -> None:
    listed = tmp_path / "wanted.txt"
    listed.write_text(f"{phantom.CHEST_DX}\n")
    file = write(tmp_path / "listed.toml", 'find.files = ["wanted.txt"]\ndownload.to = "data"\n')
    assert isocenter("run", file)[1].startswith("1 series: 1 done")
    listed.write_text(f"{phantom.CHEST_DX}\n{phantom.CHEST_CR}\n")
    assert isocenter("run", file)[1].startswith("1 series: 0 done, 1 had nothing left to do")
    assert isocenter("run", file, "--find-again")[1].startswith("2 series: 1 done, 1 had nothing left to do")


def test_what_would_stop_every_series_is_said_before_the_first(
    isocenter: Isocenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f'find.series = ["{phantom.CHEST_DX}"]\ndownload.to = "data"\n'
    file = write(tmp_path / "project.toml", f'{text}case.project = "No such project"\n')
    code, _, err = isocenter("run", file)
    assert (code, "Lung nodules" in err, "Traceback" in err) == (1, True, False)
    file = write(tmp_path / "sent.toml", f"{text}upload = {{}}\n")
    monkeypatch.delenv("ISOCENTER_QURE_TOKEN")
    code, _, err = isocenter("run", file)
    assert (code, "Set ISOCENTER_QURE_TOKEN" in err) == (1, True)
    assert not (tmp_path / "data").exists()
    assert isocenter("jobs")[1:] == ("", f"No jobs: {tmp_path / 'home' / 'jobs.sqlite'} does not exist.\n")

    monkeypatch.setenv("ISOCENTER_QURE_TOKEN", "wrong")
    code, out, err = isocenter("run", file)
    assert code == 1
    assert "0 failed, 1 left" in out
    assert "Stopped: upload: " in out
    assert err.startswith("stopped ")
    assert isocenter("jobs", "other")[0] == 1
    assert isocenter("jobs", "sent")[1].splitlines()[0].endswith("left: 1 before upload")


@pytest.mark.parametrize("kind", ["folder", "text"])
def test_a_ledger_that_cannot_be_used_is_said_plainly(kind: str, isocenter: Isocenter, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    if kind == "folder":
        ledger.mkdir()
    else:
        ledger.write_text("this is no database\n" * 100)
    file = write(tmp_path / "p.toml", 'find.series = ["2.25.404"]\ndownload.to = "data"\n')
    for command in (["run", file], ["jobs"]):
        code, out, err = isocenter(*command, "--ledger", ledger)
        assert (code, out) == (1, "")
        assert err.startswith(f"isocenter: The ledger {ledger} cannot be used: ")
        assert err.count("\n") == 1


def test_options_that_make_no_sense_are_refused(isocenter: Isocenter, tmp_path: Path) -> None:
    file = write(tmp_path / "p.toml", 'find.series = ["2.25.404"]\ndownload.to = "data"\n')
    for arguments in (["run", file, "--report", "x.xlsx"], ["jobs", "--state", "lost"], ["run"]):
        assert isocenter(*arguments)[0] == 2
    assert isocenter("run", tmp_path / "nowhere.toml")[::2] == (
        1,
        f"isocenter: {tmp_path / 'nowhere.toml'}: No such file or directory.\n",
    )


# -- pipeline files -------------------------------------------------------------------------------------------------------

GOOD = 'find.collection = "C"\ndownload.to = "d"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("find =", "not TOML"),
        ('find.collection = "C"', "missing required field `download`"),
        ('download.to = "d"', "missing required field `find`"),
        (f"{GOOD}uplaod = {{}}", "unknown field `uplaod`"),
        (f"{GOOD}download.treads = 4", "download: Object contains unknown field `treads`"),
        (f'{GOOD}download.at_once = "4"', "download.at_once: Expected `int`, got `str`"),
        (f"{GOOD}download.at_once = 0", "download.at_once: Expected `int` >= 1"),
        ('find.collection = "C"\ndownload.to = ""', "download.to: Expected `str` of length >= 1"),
        ('find.collection = ["C"]\ndownload.to = "d"', "find.collection: Expected `str`, got `array`"),
        ('find.files = [7]\ndownload.to = "d"', "find.files[0]: Expected `str`, got `int`"),
        ('find = "C"\ndownload.to = "d"', "find: Expected `object`, got `str`"),
        ('find = {}\ndownload.to = "d"', "find names no series"),
        ('find.modality = "CT"\ndownload.to = "d"', "find.modality alone would be the whole archive"),
        ('find.series = ["2.25.x"]\ndownload.to = "d"', "'2.25.x' is no SeriesInstanceUID"),
        (f'{GOOD}download.layout = "../{{SeriesInstanceUID}}"', "layout must be folder names"),
        (f'{GOOD}download.layout = "{{Collection}}"', "must contain {SeriesInstanceUID}"),
        (f'{GOOD}download.layout = "{{PatientName}}/{{SeriesInstanceUID}}"', "knows no {PatientName}"),
        (f'{GOOD}upload.framing = "zip"', "upload.framing: Invalid enum value 'zip'"),
        (f"{GOOD}results = {{}}", "results: Object missing required field `to`"),
        (f'{GOOD}results = {{ to = "r", give_up_after = -1 }}', "results.give_up_after: Expected `float` >= 0"),
        (f'{GOOD}case.tags = ["{"x" * 33}"]', "case.tags[0]: Expected `str` of length <= 32"),
        (f'{GOOD}tag.add = ["x"]', "tag needs case"),
        (f"{GOOD}case = {{}}\ntag.add = []", "tag.add: Expected `array` of length >= 1"),
        (f'{GOOD}case = {{}}\ntag.add = ["{{PatientID}}"]', "tag.add knows no {PatientID}"),
        (f'{GOOD}case = {{}}\ntag.add = ["{{usecase}}"]', "which only results know"),
        (f'{GOOD}case = {{}}\ntag.add = ["{{Modality"]', "has a brace without its partner"),
        (f"{GOOD}per_minute.qure = -1", "per_minute.qure: Expected `int` >= 0"),
        (f"{GOOD}per_minute.dicomaestro = 1", "per_minute: Object contains unknown field `dicomaestro`"),
        (f"{GOOD}tries = 0", "tries: Expected `int` >= 1"),
        (f"{GOOD}ahead = 0", "ahead: Expected `int` >= 1"),
        (f"{GOOD}patience = 0", "patience: Expected `float` >= 0.01"),
        (f'{GOOD}name = "a/b"', "name takes up to 64 letters"),
    ],
)  # fmt: skip
def test_a_bad_pipeline_is_refused_with_the_key_that_is_wrong(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(BadPipeline) as refused:
        read_pipeline(tmp_path / "bad.toml")
    assert str(refused.value).startswith(f"{tmp_path / 'bad.toml'}: ")
    assert expected in str(refused.value)


def test_a_good_pipeline_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "my-job.toml").write_text(
        f'{GOOD}find.files = ["l.txt"]\n[results]\nto = "~/r"\n[per_minute]\nqure = 6\n'
    )
    read = read_pipeline(tmp_path / "my-job.toml")
    assert (read.name, read.steps) == ("my-job", ("download", "results"))
    assert (read.download.to, read.find.files) == (str(tmp_path / "d"), (str(tmp_path / "l.txt"),))
    assert read.results
    assert read.results.to == str(Path.home() / "r")
    assert [rate.limited for rate in read.rates.values()] == [False, True]
    assert pipeline_of(json.loads(read.definition), "again") == read
    with pytest.raises(BadPipeline, match="may only name"):
        pipeline_of(
            {
                "find": {"collection": "C"},
                "name": "n",
                "download": {"to": "d", "layout": "{PatientID}/{SeriesInstanceUID}"},
            },
            "q",
        ).check_shareable()


# -- the runner -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "jobs.sqlite") as opened:
        yield opened


def fill(ledger: Ledger, count: int, steps: tuple[str, ...] = ("first", "second")) -> None:
    ledger.open_job("j", "j", "{}", steps)
    for number in range(count):
        ledger.add("j", f"2.25.{number}", {"Collection": "C"})
    ledger.all_found("j")


async def work(
    ledger: Ledger, perform: Perform, steps: tuple[str, ...] = ("first", "second"), **options: Any
) -> RunReport:
    defaults: dict[str, Any] = {"at_once": dict.fromkeys(steps, 4), "rates": {step: Rate(0) for step in steps}}
    return await run_job(ledger, "j", steps, perform, backoff=lambda attempt: 0.001 * attempt, **(defaults | options))


async def test_every_step_of_every_series_is_done_once_and_knows_what_those_before_found(ledger: Ledger) -> None:
    fill(ledger, 50)
    turns, seen = Counter[tuple[str, str]](), list[Event]()

    async def perform(step: str, item: Item) -> Passed:
        turns[step, item.uid] += 1
        assert item.known == ({} if step == "first" else {"first": item.uid})
        return Passed({step: item.uid}, fresh=item.uid != "2.25.7", bytes=10)

    report = await work(ledger, perform, on_event=seen.append)
    assert (report.done, report.skipped, report.failed, report.left, report.bytes) == (49, 1, 0, 0, 1000)
    assert len(turns) == turns.total() == 100
    assert Counter(event.state for event in seen) == {"done": 49, "skipped": 1}
    rows = list(ledger.rows("j"))
    assert [row["SeriesInstanceUID"] for row in rows] == [f"2.25.{number}" for number in range(50)]
    assert all(row["first"] == row["second"] == row["SeriesInstanceUID"] for row in rows)


async def test_failures_that_may_pass_are_tried_again_others_are_not(ledger: Ledger) -> None:
    fill(ledger, 4)
    turns, seen = Counter[str](), list[Event]()

    async def perform(step: str, item: Item) -> Passed:
        if step == "second":
            turns[item.uid] += 1
            match item.uid, turns[item.uid]:
                case "2.25.0", _:
                    raise TransportError("cut off")
                case "2.25.1", 1 | 2:
                    raise TransportError("cut off")
                case "2.25.2", _:
                    raise ValueError("nobody thought of this")
                case "2.25.3", 1:
                    raise NotYet("ask again", 0.001)
        assert (item.cut > 0) == (item.tries > 0)
        return Passed({}, fresh=True)

    report = await work(ledger, perform, tries=3, on_event=seen.append)
    assert (report.done, report.failed, report.left) == (2, 2, 0)
    assert turns == {"2.25.0": 3, "2.25.1": 3, "2.25.2": 1, "2.25.3": 2}
    failed = {row["SeriesInstanceUID"]: (row["why"], row["code"], row["tries"]) for row in ledger.rows("j", "failed")}
    assert failed == {
        "2.25.0": ("cut off", "transport", 3),
        "2.25.2": ("ValueError: nobody thought of this", "internal", 1),
    }
    assert Counter(event.state for event in seen) == {"again": 4, "failed": 2, "done": 2}


async def test_what_no_series_would_survive_stops_all_and_loses_none(ledger: Ledger) -> None:
    fill(ledger, 20)
    full = True

    async def perform(step: str, item: Item) -> Passed:
        if full and step == "second":
            raise StorageError("the disk is full")
        return Passed({}, fresh=True)

    report = await work(ledger, perform)
    assert report.stopped == "second: the disk is full"
    assert (report.done, report.failed, report.left, report.total) == (0, 0, 20, 20)
    full = False
    report = await work(ledger, perform)
    assert (report.done, report.stopped) == (20, "")


async def test_beginnings_are_spread_over_the_minute(ledger: Ledger) -> None:
    fill(ledger, 4)
    begun: list[float] = []

    async def perform(step: str, item: Item) -> Passed:
        begun.append(time.monotonic())
        return Passed({}, fresh=True)

    shared = Rate(1200)  # every 50 ms, for both steps together
    assert (await work(ledger, perform, rates={"first": shared, "second": shared})).done == 4
    assert min(later - earlier for earlier, later in pairwise(begun)) > 0.045


async def test_a_step_pauses_while_many_wait_for_the_next(ledger: Ledger) -> None:
    fill(ledger, 40)
    ahead, most, between = 5, 0, 0

    async def perform(step: str, item: Item) -> Passed:
        nonlocal most, between
        if step == "first":
            between += 1
            most = max(most, between)
        else:
            await anyio.sleep(0.002)
            between -= 1
        return Passed({}, fresh=True)

    assert (await work(ledger, perform, ahead=ahead, at_once={"first": 3, "second": 1})).done == 40
    assert ahead <= most <= ahead + 3


async def test_no_more_is_done_at_once_than_allowed(ledger: Ledger) -> None:
    fill(ledger, 30)
    now, most = Counter[str](), Counter[str]()

    async def perform(step: str, item: Item) -> Passed:
        now[step] += 1
        most[step] = max(most[step], now[step])
        await anyio.lowlevel.checkpoint()
        now[step] -= 1
        return Passed({}, fresh=True)

    await work(ledger, perform, at_once={"first": 3, "second": 2})
    assert most == {"first": 3, "second": 2}


def test_progress_has_totals_rate_and_time_left(ledger: Ledger) -> None:
    fill(ledger, 10)
    progress = Progress(ledger.job("j"))
    assert progress.facts()["seconds_left"] is None
    progress.ended, progress.bytes = 5, 1000
    facts = progress.facts()
    assert (facts["ended"], facts["total"], facts["per_second"] > 0, facts["bytes_per_second"] > 0) == (
        5,
        10,
        True,
        True,
    )
    assert facts["seconds_left"] >= 0
    assert progress.words().endswith(" MB/s")


# -- several processes ----------------------------------------------------------------------------------------------------


async def test_two_runners_of_one_ledger_share_the_work(tmp_path: Path) -> None:
    turns, by = Counter[tuple[str, str]](), Counter[int]()

    def performer(who: int) -> Perform:
        async def perform(step: str, item: Item) -> Passed:
            turns[step, item.uid] += 1
            by[who] += 1
            await anyio.sleep(0.001)
            return Passed({}, fresh=True)

        return perform

    reports: list[RunReport] = []
    with Ledger(tmp_path / "jobs.sqlite") as one, Ledger(tmp_path / "jobs.sqlite") as two:
        fill(one, 60)
        two.open_job("j", "j", "{}", ("first", "second"))

        async def run(ledger: Ledger, who: int) -> None:
            reports.append(await work(ledger, performer(who)))

        async with anyio.create_task_group() as group:
            group.start_soon(run, one, 1)
            group.start_soon(run, two, 2)
    assert len(turns) == turns.total() == 120
    assert min(by.values()) > 20
    assert [(report.done + report.skipped, report.left) for report in reports] == [(60, 0)] * 2
    assert sum(report.done for report in reports) == 60
    assert not list(tmp_path.glob("*.holders/*"))


async def test_a_series_given_back_while_a_runner_asks_for_more_is_not_left(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ledger, 1)
    with Ledger(ledger.path) as other:
        held, next_due = other.take("j", 0, 9), ledger.next_due

        def given_back_meanwhile(job: str, step: int) -> float | None:
            due = next_due(job, step)
            while held:
                other.later(held.pop(), 0.0)
            return due

        async def perform(step: str, item: Item) -> Passed:
            return Passed({}, fresh=True)

        monkeypatch.setattr(ledger, "next_due", given_back_meanwhile)
        report = await work(ledger, perform)
    assert (report.done, report.left) == (1, 0)


def test_a_new_ledger_can_be_opened_by_several_at_the_same_time(tmp_path: Path) -> None:
    together = threading.Barrier(4)

    def open_it(number: int) -> int:
        together.wait()
        with Ledger(tmp_path / str(number)) as ledger:
            ledger.open_job("j", "j", "{}", ("first",))
            return len(ledger.jobs())

    with ThreadPoolExecutor(4) as pool:
        for number in range(40):
            assert list(pool.map(open_it, [number] * 4)) == [1] * 4


def test_what_was_killed_before_it_held_anything_leaves_no_file(tmp_path: Path) -> None:
    killed = [tmp_path / "jobs.sqlite.holders" / name for name in ("1-dead", "1-dead-journal")]
    killed[0].parent.mkdir()
    for path in killed:
        path.touch()
    with Ledger(tmp_path / "jobs.sqlite") as ledger, Ledger(tmp_path / "jobs.sqlite") as other:
        fill(ledger, 1)
        assert not any(path.exists() for path in killed)
        (held,) = ledger.take("j", 0, 1)
        other.open_job("j", "j", "{}", ("first", "second"))
        assert other.take("j", 0, 1) == []
        assert ledger.passed(held, {}, fresh=True, last=True) == "done"


def test_looking_at_a_ledger_changes_nothing(tmp_path: Path) -> None:
    with Ledger(tmp_path / "jobs.sqlite") as ledger:
        fill(ledger, 3)
        ledger.open_job("j", "j", "{}", ("first", "second"))
        assert len(ledger.take("j", 0, 2)) == 2
        changed = ledger._db.execute("PRAGMA data_version").fetchone()  # by others
        with Ledger(tmp_path / "jobs.sqlite") as watching:
            assert (watching.job("j").total, watching.job("j").running) == (3, 2)
            assert len(list(watching.rows("j", "taken"))) == 2
        assert ledger.job("j").running == 2
        assert ledger._db.execute("PRAGMA data_version").fetchone() == changed


@contextmanager
def started(environment: dict[str, str], *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, which does not outlive the block."""
    command = [sys.executable, "-m", "isocenter", *map(str, arguments)]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_two_commands_do_each_series_once_and_a_killed_one_gives_its_series_back_at_once(
    sandbox: Running, environment: dict[str, str], isocenter: Isocenter, tmp_path: Path
) -> None:
    known = [phantom.BRAIN_T1, phantom.BRAIN_LOCALIZER, phantom.WATER_CT, phantom.CHEST_DX, phantom.CHEST_CR]
    text = f"find.series = {json.dumps(known)}\ndownload = {{ to = 'data', at_once = 2 }}\n"
    file, path = write(tmp_path / "shared.toml", text), tmp_path / "jobs.sqlite"
    with faulty(sandbox.sandbox) as server:
        switch(server, {"tcia": ["slow"]})
        with started(environment, "run", file, "--ledger", path, "--json") as killed:
            assert killed.stdout
            assert json.loads(killed.stdout.readline())["event"] == "start"
            with Ledger(path) as watching:
                until = time.monotonic() + 60
                while not watching.job("shared").running and time.monotonic() < until:
                    pass
                with Ledger(path) as living:
                    living.open_job("other", "other", "{}", ("first",))
                    assert living.unfinished(watching.job("shared").id)
                killed.kill()
                killed.wait()
                before = watching.job("shared")
                assert before.running
                watching.free_dead()
                assert watching.job("shared").running == 0
                held = watching.take(before.id, 0, 9)
                assert len(held) == before.total - before.done
                assert sum(item.cut > 0 for item in held) == before.running
    command = ("run", file, "--ledger", path, "--json")
    with started(environment, *command) as one, started(environment, *command) as two:
        both = (one, two)
        said = [lines(process.communicate(timeout=120)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    done = [event["series_uid"] for events in said for event in events if event["event"] == "series"]
    assert len(done) == len(set(done)) == before.total - before.done
    assert [events[-1]["done"] + events[-1]["skipped"] for events in said] == [5, 5]
    assert len(list((tmp_path / "data").rglob("series.json"))) == 5
    assert not list(tmp_path.glob("*.holders/*"))


async def test_a_full_ledger_is_a_plain_error_and_gives_back_what_it_held(tmp_path: Path) -> None:
    with Ledger(tmp_path / "jobs.sqlite") as ledger:
        fill(ledger, 300)
        pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
        ledger._db.execute(f"PRAGMA max_page_count={pages}")

        async def perform(step: str, item: Item) -> Passed:
            return Passed({"folder": "x" * 5000}, fresh=True)

        with pytest.raises(StorageError, match="database or disk is full"):
            await work(ledger, perform)
    with Ledger(tmp_path / "jobs.sqlite") as ledger:
        ledger.open_job("j", "j", "{}", ("first", "second"))
        assert ledger.job("j").running == 0


async def test_a_case_is_not_opened_while_an_earlier_try_may_still_open_it(sandbox: Running, tmp_path: Path) -> None:
    saved = sandbox.sandbox.credentials["circus"]["token"]
    urls = {"tcia": f"{sandbox.url}/nbia-api/services/v4", "circus": f"{sandbox.url}/circus/api"}
    table = {
        "find": {"series": [phantom.CHEST_CR]},
        "download": {"to": str(tmp_path)},
        "name": "cut",
        "case": {"project": "Lung nodules"},
    }
    pipeline: Pipeline = pipeline_of(table, "test")

    def open_client(api: str) -> Any:
        return (
            TciaClient(urls[api]).client
            if api == "tcia"
            else CircusClient(urls[api], credentials={"token": saved}).client
        )

    async with Tools(open_client) as tools:
        fetched = await steps.download(tools, pipeline, Item(1, phantom.CHEST_CR, 0, 0, 0.0, {}, {}))
        known = dict(fetched.known)
        with pytest.raises(NotYet) as wait:
            await steps.case(tools, pipeline, Item(1, phantom.CHEST_CR, 1, 0, 0.0, {}, known, cut=time.time()))
        assert 5 < wait.value.seconds <= steps.SETTLE
        opened = await steps.case(
            tools, pipeline, Item(1, phantom.CHEST_CR, 1, 0, 0.0, {}, known, cut=time.time() - 11)
        )
        assert opened.fresh
        again = await steps.case(tools, pipeline, Item(1, phantom.CHEST_CR, 1, 0, 0.0, {}, known, cut=time.time()))
    assert (again.fresh, again.known) == (False, opened.known)


async def test_what_qure_never_got_is_not_waited_for(sandbox: Running, tmp_path: Path) -> None:
    saved = sandbox.sandbox.credentials["qure"]
    table = {"find": {"series": ["2.25.404"]}, "download": {"to": "d"}, "name": "n", "results": {"to": str(tmp_path)}}
    pipeline = pipeline_of(table, "test")
    async with Tools(lambda _: QureClient(f"{sandbox.url}/qure", credentials=saved).client) as tools:
        with pytest.raises(NotYet):  # it may not be registered yet
            await steps.results(tools, pipeline, Item(1, "2.25.404", 0, 0, time.time() - 5, {}, {}))
        with pytest.raises(StatusError, match="404"):
            await steps.results(tools, pipeline, Item(1, "2.25.404", 0, 0, time.time() - 99, {}, {}))


def test_a_pipeline_killed_at_random_moments_loses_nothing_and_does_nothing_twice(tmp_path: Path) -> None:
    """The small version of what `.ci/run` does with fifty kills."""
    assert kill_pipeline.run(kills=4, count=8, seed=time.time_ns() % 1_000_000, folder=tmp_path) == []
