"""Other people's clients, unmodified, against the sandbox: what they expect of the services is what it does.

The clients live in environments of their own, made here when `ISOCENTER_CLIENTS=1` and kept in `ISOCENTER_CLIENTS_DIR`
(`~/.cache/isocenter-clients` otherwise). Without that variable only those run whose environment is there already, and
nothing is downloaded. `tests/clients/README.md` says how it works, `tests/clients/run` does it all.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pydicom
import pytest

from isocenter.sandbox import phantom
from isocenter.sandbox.app import Running

SCRIPTS = Path(__file__).parent / "clients"
CACHE = Path(os.environ.get("ISOCENTER_CLIENTS_DIR") or Path.home() / ".cache" / "isocenter-clients")
WANTED = os.environ.get("ISOCENTER_CLIENTS") == "1"


@dataclass(frozen=True)
class Foreign:
    """A client of somebody else: its package, our script that uses it, and how many assertions that makes at least."""

    package: str
    version: str
    script: str
    checks: int
    until: tuple[int, int] = (99, 0)
    """The first Python for which it cannot be installed."""

    @property
    def environment(self) -> Path:
        return CACHE / f"{self.package}-{self.version}-python{sys.version_info.major}.{sys.version_info.minor}"

    @property
    def ready(self) -> Path:
        """Written when the environment is complete."""
        return self.environment / "ready"

    @property
    def python(self) -> Path:
        return self.environment / "bin" / "python"

    def install(self) -> str:
        """Make the environment unless it is there. Returns what went wrong, or an empty text."""
        if self.ready.exists() or sys.version_info >= self.until:
            return ""
        requirement = f"{self.package}=={self.version}"
        venv = (sys.executable, "-m", "venv", "--clear", "--without-pip", self.environment)
        pip = (sys.executable, "-m", "pip", "--python", self.python, "install", "--quiet", "--no-compile")
        for command in (venv, (*pip, "--only-binary=:all:", requirement)):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                return f"{requirement}: {done.stdout}{done.stderr}"
        self.ready.touch()
        return ""


TCIA_UTILS = Foreign("tcia-utils", "3.3.5", "use_tcia_utils", 85)
NBIATOOLKIT = Foreign("nbiatoolkit", "1.3.1", "use_nbiatoolkit", 42, until=(3, 13))  # it pins pyarrow below 16
PLATIPY = Foreign("platipy", "0.7.2", "use_platipy", 11)
DICOMWEB = Foreign("dicomweb-client", "0.61.2", "use_dicomweb_client", 12)


@pytest.fixture(scope="module")
def problems() -> dict[Foreign, str]:
    """Makes the environments where that is wanted; what went wrong, by client."""
    clients = (TCIA_UTILS, NBIATOOLKIT, PLATIPY, DICOMWEB) if WANTED else ()
    with ThreadPoolExecutor() as pool:
        return dict(zip(clients, pool.map(Foreign.install, clients), strict=True))


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the scripts compare with: a JSON file with one object for every file the sandbox starts with."""
    rows = []
    for file in phantom.files():
        header = pydicom.dcmread(io.BytesIO(file.data), stop_before_pixels=True)
        rows.append(
            {
                "collection": file.collection,
                "patient": header.PatientID,
                "study": header.StudyInstanceUID,
                "series": header.SeriesInstanceUID,
                "sop": header.SOPInstanceUID,
                "modality": header.Modality,
                "body_part": header.get("BodyPartExamined", ""),
                "manufacturer": header.get("Manufacturer", ""),
                "model": header.get("ManufacturerModelName", ""),
                "released": file.extra["DateReleased"],
                "size": len(file.data),
                "md5": hashlib.md5(file.data).hexdigest(),
            }
        )
    path: Path = tmp_path_factory.mktemp("clients") / "facts.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Use:
    """Runs a client's script in the client's environment, with the sandbox's address and the facts as arguments."""

    request: pytest.FixtureRequest
    sandbox: Running
    folder: Path
    problems: dict[Foreign, str]

    def __call__(self, client: Foreign, *arguments: Path, **environment: str) -> None:
        if sys.version_info >= client.until:
            pytest.skip(f"{client.package} {client.version} cannot be installed for this version of Python")
        assert not self.problems.get(client), self.problems[client]
        if not client.ready.exists():
            pytest.skip(f"no environment with {client.package}: tests/clients/run makes it")
        facts = self.request.getfixturevalue("facts")  # takes seconds to make, so not before it is needed

        done = subprocess.run(
            [client.python, "-m", f"clients.{client.script}", self.sandbox.url, facts, *arguments],
            cwd=self.folder,
            env={**os.environ, **environment, "PYTHONPATH": str(SCRIPTS.parent)},
            capture_output=True,
            text=True,
        )

        assert done.returncode == 0, done.stdout + done.stderr
        last = json.loads(done.stdout.splitlines()[-1])
        print(f"{client.package} {client.version}: {last['checks']} assertions")
        assert last["failed"] == [] and last["checks"] >= client.checks


@pytest.fixture
def use(request: pytest.FixtureRequest, sandbox: Running, tmp_path: Path, problems: dict[Foreign, str]) -> Use:
    return Use(request, sandbox, tmp_path, problems)


def test_tcia_utils(use: Use) -> None:
    use(TCIA_UTILS)


def test_nbiatoolkit(use: Use) -> None:
    use(NBIATOOLKIT)


def test_platipy(use: Use) -> None:
    use(PLATIPY)


def new_series(sandbox: Running, name: str, count: int) -> list[tuple[str, str, bytes]]:
    """A CT series nobody has uploaded yet: the UIDs of the series and of each instance, and its file."""
    series = []
    for number, path in enumerate(sorted((sandbox.sandbox.root / "tcia" / phantom.CHEST_CT).iterdir())[:count]):
        dataset = pydicom.dcmread(path)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = phantom.uid(name), phantom.uid(name, "ct")
        dataset.SOPInstanceUID = phantom.uid(name, "ct", str(number))
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        buffer = io.BytesIO()
        dataset.save_as(buffer)
        series.append((str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID), buffer.getvalue()))
    return series


def test_dicomweb_client(use: Use, sandbox: Running, tmp_path: Path) -> None:
    paths = []
    for number, (_, _, data) in enumerate(new_series(sandbox, "dicomweb-client", 3)):
        paths.append(tmp_path / f"{number}.dcm")
        paths[-1].write_bytes(data)
    credentials = sandbox.sandbox.credentials["qure"]

    use(DICOMWEB, *paths, TOKEN=credentials["token"], SOURCE=credentials["source"])


def test_a_strict_stow_body(sandbox: Running) -> None:
    """The bytes that `dicomweb-client` sends and Orthanc takes, for where the client itself is not installed."""
    files = new_series(sandbox, "strict", 2)
    body = (
        b"".join(b"\r\n--b-0\r\nContent-Type: application/dicom\r\n\r\n" + data for _, _, data in files)
        + b"\r\n--b-0--"
    )
    credentials = sandbox.sandbox.credentials["qure"]
    headers = {
        "Content-Type": 'multipart/related; type="application/dicom"; boundary="b-0"',
        "Authorization": f"Token {credentials['token']}",
        "Source": credentials["source"],
    }

    answer = httpx.post(f"{sandbox.url}/qure/studies", content=body, headers=headers).json()

    assert answer["detailed_info"] == [{"SeriesInstanceUID": files[0][0], "NumberOfSeriesRelatedInstances": 2}]
    assert list(answer["messages"]) == ["file_0", "file_1"]


def test_the_printed_upload_script_of_qure(sandbox: Running, tmp_path: Path) -> None:
    files = new_series(sandbox, "the printed script", 2)
    for number, (_, _, data) in enumerate(files, 1):
        (tmp_path / f"dicom-file{number}.dcm").write_bytes(data)
    filled_in = {
        "URL": f"{sandbox.url}/qure/studies",
        "TOKEN": sandbox.sandbox.credentials["qure"]["legacy_token"],
        "NO_PROXY": "127.0.0.1",
    }

    done = subprocess.run(
        [sys.executable, SCRIPTS / "seed_upload.py"],
        cwd=tmp_path,
        env={**os.environ, **filled_in},
        capture_output=True,
        text=True,
    )

    assert done.stdout.startswith("200 "), done.stdout + done.stderr
    answer = json.loads(done.stdout.removeprefix("200 "))
    series = files[0][0]
    assert answer["message"] == "Success"
    assert answer["series_instance_uids"] == [series]
    assert answer["detailed_info"] == [{"SeriesInstanceUID": series, "NumberOfSeriesRelatedInstances": 2}]
    assert list(answer["messages"]) == ["dicom-file1.dcm", "dicom-file2.dcm"]
    stored = sandbox.sandbox.root / "qure" / series
    assert {path.name: path.read_bytes() for path in stored.iterdir()} == {f"{sop}.dcm": data for _, sop, data in files}
