"""Pipelines over several machines: real worker processes and a real redis-server, killed with -9 in the middle; and the queue's parts."""

from __future__ import annotations

import hashlib
import io
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pydicom
import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from transfer_fakes import dicom
from typer.testing import CliRunner

from isocenter.agent.embedded import base_urls
from isocenter.cli import app
from isocenter.core import ApiClient, IsocenterError, TransportError
from isocenter.sandbox.app import Running, running
from isocenter.sandbox.faults import switch
from isocenter.sandbox.state import Options
from isocenter.settings import env_name
from isocenter.transfer import queue as module
from isocenter.transfer import steps
from isocenter.transfer.ledger import Item, Ledger
from isocenter.transfer.pipeline import BadPipeline, Pipeline, pipeline_of
from isocenter.transfer.queue import queued, work
from isocenter.transfer.runner import Perform, RunReport, run_job
from isocenter.transfer.series import damaged_files
from isocenter.transfer.steps import Passed, Tools

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not shutil.which("redis-server"), reason="redis-server is not installed (Debian: redis-server)"),
]

PATIENCE = 60.0  # seconds after which what should happen has not
SIDE, IMAGES = 192, 2  # two images of 74 kB: with the fault `slow` a download takes a quarter of a second
JOBS = ("whole", "download", "upload", "case", "redis", "run", "term", "keyless")
SERIES = 4  # of each of these collections


# -- the processes -----------------------------------------------------------------------------------------------------


class Broker:
    """A redis-server with its append-only file in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.start()

    def start(self) -> None:
        """Start, and read the append-only file if there is one."""
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        self._process = subprocess.Popen(
            [*command, "--save", "", "--appendonly", "yes"], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        assert any("Ready to accept connections" in line for line in self._process.stdout)

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.communicate()

    def pause(self, paused: bool) -> None:
        """Answer nobody, or go on."""
        self._process.send_signal(signal.SIGSTOP if paused else signal.SIGCONT)

    def url(self, database: int = 0) -> str:
        return f"redis://127.0.0.1:{self.port}/{database}"

    def written(self) -> bytes:
        """Every command that changed anything."""
        return b"".join(path.read_bytes() for path in self.folder.rglob("*.aof"))


Heard = queue.Queue[tuple["Program", dict[str, Any]]]


class Program:
    """A real `isocenter` process; its `--json` events, as they come."""

    def __init__(self, *arguments: str, env: dict[str, str], heard: Heard | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-W", "error", "-m", "isocenter", *arguments, "--json"],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._come: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._heard = heard
        self.events: list[dict[str, Any]] = []
        self.errors = ""
        self._readers = [threading.Thread(target=target, daemon=True) for target in (self._read, self._read_errors)]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._come.put(json.loads(line))
            if self._heard:
                self._heard.put((self, json.loads(line)))
        self._come.put(None)

    def _read_errors(self) -> None:
        assert self._process.stderr
        self.errors = self._process.stderr.read()

    def wait_for(self, **facts: Any) -> dict[str, Any]:
        """The next event with these facts."""
        while (event := self._come.get(timeout=PATIENCE)) is not None:
            self.events.append(event)
            if facts.items() <= event.items():
                return event
        raise AssertionError(f"ended without {facts}: {self.end()} {self.errors}")

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> int:
        """The exit code, once it has ended by itself."""
        code = self._process.wait(timeout=PATIENCE)
        for reader in self._readers:
            reader.join()
        while event := self._come.get():
            self.events.append(event)
        return code

    def stop(self) -> None:
        """kill -9, unless it has ended."""
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join()
        assert self._process.stdout and self._process.stderr
        self._process.stdout.close()
        self._process.stderr.close()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    server = Broker(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A sandbox with a collection of small radiographs for each test."""
    folder = tmp_path_factory.mktemp("images")
    for job in JOBS:
        for number in range(SERIES):
            for image in range(IMAGES):
                write_image(folder / job, job, number, image)
    options = Options(
        dicom=tuple((f"Q-{job}", folder / job) for job in JOBS), compute_seconds=0.02, stability_seconds=0.02
    )
    with running(tmp_path_factory.mktemp("sandbox"), options) as server:
        yield server


def uid_of(job: str, number: int) -> str:
    return f"2.25.7{JOBS.index(job)}0{number}"


def write_image(folder: Path, job: str, number: int, image: int) -> None:
    uid = uid_of(job, number)
    header = dicom(
        f"{uid}.{image + 1}", uid, pad=1, PatientID=f"PAT-QUEUE-{number}", PatientName="Synthetic^Queue", Modality="DX",
        StudyInstanceUID=f"{uid}.0", SeriesNumber=1, InstanceNumber=image + 1, Rows=SIDE, Columns=SIDE, BitsAllocated=16,
        BitsStored=16, HighBit=15, PixelRepresentation=0, SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2",
        PixelSpacing=[1, 1], ImagePositionPatient=[0, 0, image], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
    )  # fmt: skip
    dataset = pydicom.dcmread(io.BytesIO(header))
    noise = hashlib.sha512(f"{uid}{image}".encode()).digest() * (SIDE * SIDE * 2 // 64 + 1)
    dataset.PixelData = noise[: SIDE * SIDE * 2]
    folder.mkdir(parents=True, exist_ok=True)
    dataset.save_as(folder / f"{number}-{image}.dcm")


@pytest.fixture(scope="module")
def env(services: Running, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a configured machine has."""
    keys = services.sandbox.credentials
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("ISOCENTER_")},
        **{f"ISOCENTER_{env_name(api)}_BASE_URL": url for api, url in base_urls(services.url).items()},
        "ISOCENTER_CONFIG": "",
        "ISOCENTER_DOWNLOAD_DIR": str(tmp_path_factory.mktemp("downloads")),
        "ISOCENTER_QURE_TOKEN": keys["qure"]["token"],
        "ISOCENTER_QURE_SOURCE": keys["qure"]["source"],
        "ISOCENTER_CIRCUS_TOKEN": keys["circus"]["token"],
    }


class Machine:
    """A configured computer that processes are started on; they end with it."""

    def __init__(self, env: dict[str, str]) -> None:
        self._env, self._started = env, list[Program]()

    def worker(self, url: str, *, lease: float = 2, without: str = "", heard: Heard | None = None) -> Program:
        env = {name: value for name, value in self._env.items() if name != without}
        how = ("--queue", url, "--lease", str(lease), "--at-once", "2")
        self._started.append(Program("worker", *how, env=env, heard=heard))
        return self._started[-1]

    def run(self, path: Path, url: str) -> Program:
        ledger = str(path.with_suffix(".sqlite"))
        self._started.append(Program("run", str(path), "--queue", url, "--ledger", ledger, env=self._env))
        return self._started[-1]

    def off(self) -> None:
        for one in self._started:
            one.stop()
        assert not [one.errors for one in self._started if "Traceback" in one.errors]


@pytest.fixture
def machine(env: dict[str, str]) -> Iterator[Machine]:
    computer = Machine(env)
    yield computer
    computer.off()


class Team:
    """Two workers; who was killed is replaced for the next test."""

    def __init__(self, url: str, machine: Machine) -> None:
        self._url, self._machine, self._workers, self._heard = url, machine, list[Program](), Heard()

    def two(self) -> None:
        """Have two, who are ready."""
        new = [self._machine.worker(self._url, heard=self._heard) for _ in range(2 - len(self._workers))]
        self._workers += new
        for one in new:
            one.wait_for(event="ready")
        while not self._heard.empty():  # of earlier tests
            self._heard.get()

    def wait_for(self, **facts: Any) -> Program:
        """Who is the first to say this."""
        while True:
            one, event = self._heard.get(timeout=PATIENCE)
            if facts.items() <= event.items():
                return one

    def kill(self, one: Program) -> None:
        self._workers.remove(one)
        one.stop()


@pytest.fixture(scope="module")
def team(broker: Broker, env: dict[str, str]) -> Iterator[Team]:
    computer = Machine(env)
    yield Team(broker.url(), computer)
    computer.off()


@contextmanager
def slow(services: Running, api: str) -> Iterator[None]:
    """Answers of a service take their time, so that something can happen meanwhile."""
    switch(services.sandbox, {api: ["slow"]})
    try:
        yield
    finally:
        switch(services.sandbox, {api: []})


def written(folder: Path, job: str, *, find: str = "", results: bool = False) -> Path:
    """A pipeline file."""
    path = folder / f"{job}.toml"
    path.write_text(
        f'patience = 0.1\n[find]\ncollection = "Q-{job}"\n{find}\n[download]\nto = "series"\n[upload]\n'
        + ('[results]\nto = "results"\n' if results else "")
        + '[case]\nproject = "Lung nodules"\n[tag]\nadd = ["queue"]\n'
    )
    return path


def all_once(services: Running, folder: Path, job: str) -> None:
    """Every series of a job is whole on disk, its images are at Qure.ai, and it has one case."""
    here = sorted(path.parent for path in (folder / "series").rglob("series.json"))
    assert len(here) == SERIES and all(damaged_files(path) == [] for path in here)
    with services.sandbox.reader() as db:
        for number in range(SERIES):
            uid = uid_of(job, number)
            at_qure = db.execute("SELECT sop_instance_uid FROM qure_instance WHERE series_instance_uid=?", (uid,))
            assert sorted(row[0] for row in at_qure) == [f"{uid}.{image + 1}" for image in range(IMAGES)]
            cases = db.execute("SELECT case_id FROM circus_case_series WHERE series_uid=?", (uid,)).fetchall()
            assert len(cases) == 1, (uid, cases)


def finished(run: Program) -> dict[str, Any]:
    """The last event of a run that went well."""
    end = run.wait_for(event="end")
    assert run.end() == 0, (run.events, run.errors)
    assert (end["failed"], end["left"], end["stopped"]) == (0, 0, "")
    assert end["done"] + end["skipped"] == end["total"] == SERIES
    return end


# -- journeys ----------------------------------------------------------------------------------------------------------


def test_two_workers_do_the_whole_journey_and_redis_learns_nothing_of_patients(
    broker: Broker, services: Running, team: Team, machine: Machine, tmp_path: Path
) -> None:
    team.two()
    path = written(tmp_path, "whole", find='patient = "PAT-QUEUE-1"', results=True)
    run = machine.run(path, broker.url())
    end = run.wait_for(event="end")
    assert run.end() == 0 and run.errors == ""
    assert (end["done"], end["total"]) == (1, 1)
    uid = uid_of("whole", 1)
    assert {f"{uid}.{image + 1}" for image in range(IMAGES)} == {
        path.name for path in (tmp_path / "results").iterdir() if path.name[0] != "."
    }
    with services.sandbox.reader() as db:
        assert len(db.execute("SELECT 1 FROM circus_case_series WHERE series_uid=?", (uid,)).fetchall()) == 1

    travelled = broker.written()
    assert uid.encode() in travelled and b"triage_status" in travelled  # so the search below would find it
    secrets = [
        secret for keys in services.sandbox.credentials.values() for secret in keys.values() if "@" not in secret
    ]
    for word in ("PAT-QUEUE", "Synthetic", *(secret for secret in secrets if secret != "isocenter-sandbox")):
        assert word.encode() not in travelled
    with Redis.from_url(broker.url()) as redis:
        assert redis.keys("isocenter:mailbox:*") == [] and redis.xlen("isocenter:stream") == 0
        assert all(redis.ttl(key) > 0 for key in redis.keys("isocenter:runs:*"))  # what is left goes by itself


@pytest.mark.parametrize(("step", "api"), [("download", "tcia"), ("upload", "qure"), ("case", "circus")])
def test_a_worker_killed_with_9_in_a_step_loses_nothing_and_doubles_nothing(
    broker: Broker, services: Running, team: Team, machine: Machine, tmp_path: Path, step: str, api: str
) -> None:
    team.two()
    with slow(services, api):
        run = machine.run(written(tmp_path, step), broker.url())
        team.kill(team.wait_for(event="step", step=step, what="begun"))
        finished(run)
    all_once(services, tmp_path, step)


def test_a_redis_killed_with_9_goes_on_from_its_file(
    broker: Broker, services: Running, team: Team, machine: Machine, tmp_path: Path
) -> None:
    team.two()
    with slow(services, "qure"):
        run = machine.run(written(tmp_path, "redis"), broker.url())
        team.wait_for(event="step", step="upload", what="begun")
        broker.kill()
        broker.start()
        finished(run)
    all_once(services, tmp_path, "redis")


def test_two_runs_share_a_job_and_one_killed_with_9_is_taken_up_again(
    broker: Broker, services: Running, team: Team, machine: Machine, tmp_path: Path
) -> None:
    team.two()
    path = written(tmp_path, "run")
    with slow(services, "qure"):
        killed, other = (machine.run(path, broker.url()) for _ in range(2))
        killed.wait_for(event="start")
        team.wait_for(event="step", step="upload", what="begun")
        killed.stop()
        again = machine.run(path, broker.url())
        ends = [finished(run) for run in (other, again)]
    assert sum(end["done"] for end in ends) <= SERIES
    all_once(services, tmp_path, "run")


def test_a_worker_that_is_stopped_gives_its_work_back_at_once(
    broker: Broker, services: Running, machine: Machine, tmp_path: Path
) -> None:
    leaving, staying = (machine.worker(broker.url(1), lease=300) for _ in range(2))  # nobody waits for a lease
    for one in (leaving, staying):
        one.wait_for(event="ready")
    with slow(services, "tcia"):
        run = machine.run(written(tmp_path, "term"), broker.url(1))
        uid = leaving.wait_for(event="step", step="download", what="begun")["series_uid"]
        leaving.send(signal.SIGTERM)
        assert leaving.wait_for(event="step", series_uid=uid)["what"] == "The worker was stopped."
        assert leaving.end() == 0 and leaving.errors == ""
        staying.wait_for(event="step", series_uid=uid, step="download", what="begun")
        finished(run)
    all_once(services, tmp_path, "term")
    staying.send(signal.SIGINT)
    assert staying.end() == 0 and staying.errors == ""


def test_a_worker_without_credentials_stops_the_run_and_nothing_is_lost(
    broker: Broker, services: Running, team: Team, machine: Machine, tmp_path: Path
) -> None:
    path = written(tmp_path, "keyless")
    keyless = machine.worker(broker.url(2), without="ISOCENTER_QURE_TOKEN")
    run = machine.run(path, broker.url(2))
    end = run.wait_for(event="end")
    assert run.end() == 1
    assert end["stopped"].startswith("upload: uploadStudies needs") and (end["failed"], end["left"]) == (0, SERIES)
    keyless.send(signal.SIGTERM)
    assert keyless.end() == 0
    team.two()
    finished(machine.run(path, broker.url()))
    all_once(services, tmp_path, "keyless")


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_a_layout_that_names_a_patient_is_refused(broker: Broker, tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text('[find]\ncollection = "C"\n[download]\nto = "series"\nlayout = "{PatientID}/{SeriesInstanceUID}"\n')
    done = CliRunner().invoke(app, ["run", str(path), "--queue", broker.url()])
    assert isinstance(done.exception, BadPipeline) and "{PatientID}" in str(done.exception)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://:sesame@127.0.0.1:9/0", "The queue does not answer: Error"),
        ("redis://127.0.0.1:nine/0", "--queue: "),
        ("http://127.0.0.1:9", "--queue takes redis://"),
        ("memory://", "--queue takes redis://"),
    ],
)
async def test_no_queue_there_is_a_plain_error(url: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(IsocenterError) as run:
        async with queued(url, pipeline(tmp_path)):
            raise AssertionError("there is no server")
    with pytest.raises(IsocenterError) as stopped:
        await work(url, no_client)
    for error in (run.value, stopped.value):
        assert str(error).startswith(says) and "sesame" not in str(error)


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "docket", None)
    done = CliRunner().invoke(app, ["worker", "--queue", "redis://127.0.0.1:9"])
    assert isinstance(done.exception, IsocenterError) and "pip install 'isocenter[queue]'" in str(done.exception)


# -- its parts, with steps that do nothing -----------------------------------------------------------------------------

Fake = Callable[[Tools, Pipeline, Item], Any]


def pipeline(folder: Path, **more: Any) -> Pipeline:
    table = {"name": "fake", "find": {"series": ["2.25.1"]}, "download": {"to": str(folder), "at_once": 4}}
    return pipeline_of({**table, **more}, "here")


def no_client(api: str) -> ApiClient:
    raise AssertionError(api)


@asynccontextmanager
async def workers(
    url: str, monkeypatch: pytest.MonkeyPatch, fake: Fake, count: int = 1, **how: Any
) -> AsyncIterator[None]:
    """Workers in this process, whose download is `fake`."""
    monkeypatch.setitem(steps.STEPS, "download", fake)
    async with anyio.create_task_group() as group:
        for _ in range(count):
            ready = anyio.Event()
            group.start_soon(partial(work, url, no_client, started=ready.set, **how))
            await ready.wait()
        yield
        group.cancel_scope.cancel()


async def run_fake(url: str, folder: Path, series: int, what: Pipeline) -> RunReport:
    with Ledger(folder / "jobs.sqlite") as ledger:
        ledger.open_job(what.id, what.name, what.definition, what.steps)
        for number in range(series):
            ledger.add(what.id, f"2.25.{number}", {})
        ledger.all_found(what.id)
        async with queued(url, what) as perform:
            return await run_job(
                ledger, what.id, what.steps, perform, at_once=what.at_once, rates=what.rates, backoff=lambda n: 0.01
            )


async def give_out(perform: Perform, uid: str) -> None:
    await perform("download", Item(0, uid, 0, 0, 0, {}, {}))


async def test_no_more_tasks_are_in_redis_than_may_be_at_work(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, seen = broker.url(3), list[int]()

    async def fake(tools: Tools, pipeline: Pipeline, item: Item) -> Passed:
        seen.append(await redis.xlen("isocenter:stream"))
        return Passed({}, fresh=True)

    async with AsyncRedis.from_url(url) as redis, workers(url, monkeypatch, fake, at_once=2):
        report = await run_fake(url, tmp_path, 60, pipeline(tmp_path))
    assert report.done == len(seen) == 60
    assert 2 <= max(seen) <= 4 + 2  # those given out, and those answered whose tasks are about to end


async def test_all_workers_share_the_rate_of_a_service(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[float] = []

    async def fake(tools: Tools, pipeline: Pipeline, item: Item) -> Passed:
        begun.append(time.monotonic())
        return Passed({}, fresh=True)

    url, said = broker.url(4), list[tuple[int, str]]()
    async with AsyncExitStack() as stack:
        for number in range(2):

            def tell(uid: str, step: str, what: str, number: int = number) -> None:
                said.append((number, what))

            await stack.enter_async_context(workers(url, monkeypatch, fake, at_once=1, on_turn=tell))
        report = await run_fake(url, tmp_path, 11, pipeline(tmp_path, per_minute={"tcia": 600}))
    assert report.done == len(begun) == 11
    assert begun[-1] - begun[0] >= 0.9  # ten spaces of a tenth of a second
    assert {number for number, what in said if what == "done"} == {0, 1}


async def test_a_worker_cut_off_from_redis_stops_its_step_before_another_may_begin_it(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, said, cut, seconds = broker.url(5), list[str](), list[bool](), 0.0

    async def fake(tools: Tools, pipeline: Pipeline, item: Item) -> Passed:
        nonlocal seconds
        cut.append(item.cut > 0)
        if item.cut:
            return Passed({}, fresh=True)
        broker.pause(True)
        begun = time.monotonic()
        try:
            await anyio.sleep(PATIENCE)
        finally:
            seconds = time.monotonic() - begun
            broker.pause(False)
        return Passed({}, fresh=False)

    monkeypatch.setattr(module, "REMIND", 0.2)
    async with workers(url, monkeypatch, fake, lease=1, on_turn=lambda uid, step, what: said.append(what)):
        report = await run_fake(url, tmp_path, 1, pipeline(tmp_path))
    assert report.done == 1
    assert cut == [False, True]  # the second try is told of the first one
    assert said == ["begun", "The queue was out of reach for too long.", "begun", "done"]
    assert seconds < 1


async def test_a_series_is_not_worked_on_twice_at_once(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work, most, began = 0, 0, 0

    async def fake(tools: Tools, pipeline: Pipeline, item: Item) -> Passed:
        nonlocal at_work, most, began
        at_work, began = at_work + 1, began + 1
        most = max(most, at_work)
        await anyio.sleep(0.05)
        at_work -= 1
        return Passed({}, fresh=True)

    url = broker.url(6)
    jobs = [pipeline(tmp_path, name=name) for name in ("one", "other")]  # of the same series
    async with workers(url, monkeypatch, fake, count=2), anyio.create_task_group() as group:
        for number, what in enumerate(jobs):
            folder = tmp_path / str(number)
            folder.mkdir()
            group.start_soon(run_fake, url, folder, 1, what)
    assert (most, began) == (1, 2)


async def test_what_a_run_that_ended_left_in_the_queue_is_not_begun(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    async def fake(tools: Tools, pipeline: Pipeline, item: Item) -> Passed:
        done.append(item.uid)
        return Passed({}, fresh=True)

    url, what = broker.url(7), pipeline(tmp_path)
    async with AsyncRedis.from_url(url) as redis, queued(url, what) as perform, anyio.create_task_group() as group:
        group.start_soon(give_out, perform, "2.25.77")
        while not await redis.xlen("isocenter:stream"):
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    async with workers(url, monkeypatch, fake):
        report = await run_fake(url, tmp_path, 2, what)
    assert report.done == 2 and sorted(done) == ["2.25.0", "2.25.1"]


async def test_failures_come_back_as_they_were(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: dict[str, int] = {}

    async def fake(tools: Tools, pipeline: Pipeline, item: Item) -> Passed:
        tries[item.uid] = tries.get(item.uid, 0) + 1
        if item.uid == "2.25.0" and tries[item.uid] < 3:
            raise TransportError("The service hung up.")
        if item.uid == "2.25.1":
            raise ZeroDivisionError("of the programmer")
        return Passed({}, fresh=True)

    url = broker.url(8)
    async with workers(url, monkeypatch, fake):
        report = await run_fake(url, tmp_path, 3, pipeline(tmp_path))
    assert (report.done, report.failed, report.left) == (2, 1, 0)
    assert tries == {"2.25.0": 3, "2.25.1": 1, "2.25.2": 1}
    with Ledger(tmp_path / "jobs.sqlite") as ledger:
        (failed,) = ledger.rows(pipeline(tmp_path).id, "failed")
    assert failed["code"] == "internal" and "ZeroDivisionError on the worker" in failed["why"]


async def test_a_worker_of_another_version_stops_the_run(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fake(tools: Tools, pipeline: Pipeline, item: Item) -> Passed:
        raise AssertionError("is not there")

    async with workers(broker.url(9), monkeypatch, fake):
        monkeypatch.delitem(steps.STEPS, "download")
        report = await run_fake(broker.url(9), tmp_path, 2, pipeline(tmp_path))
    assert (report.failed, report.left) == (0, 2) and "is of another version than here" in report.stopped


async def test_a_run_says_that_there_is_no_worker(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, said = anyio.Event(), list[str]()
    monkeypatch.setattr(module, "REMIND", 0.1)

    def warning(text: str, *more: object) -> None:
        said.append(text)
        told.set()

    monkeypatch.setattr(module.log, "warning", warning)
    async with queued(broker.url(10), pipeline(tmp_path)) as perform, anyio.create_task_group() as group:
        group.start_soon(give_out, perform, "2.25.1")
        await told.wait()
        group.cancel_scope.cancel()
    assert len(said) == 1 and said[0].startswith("No worker is there.")
