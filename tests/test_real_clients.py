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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

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


TCIA_UTILS = Foreign("tcia-utils", "3.3.5", "use_tcia_utils.py", 85)
NBIATOOLKIT = Foreign("nbiatoolkit", "1.3.1", "use_nbiatoolkit.py", 42, until=(3, 13))  # it pins pyarrow below 16
PLATIPY = Foreign("platipy", "0.7.2", "use_platipy.py", 11)
DICOMWEB = Foreign("dicomweb-client", "0.61.2", "use_dicomweb_client.py", 12)


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    if WANTED:
        with ThreadPoolExecutor() as pool:
            problems = list(pool.map(Foreign.install, (TCIA_UTILS, NBIATOOLKIT, PLATIPY, DICOMWEB)))
        assert not any(problems), "\n".join(problems)


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


def use(client: Foreign, sandbox: Running, facts: Path, folder: Path, *arguments: Path, **environment: str) -> None:
    """Run the client's script in the client's environment; it must have asserted enough and nothing may have failed."""
    if sys.version_info >= client.until:
        pytest.skip(f"{client.package} {client.version} cannot be installed for this version of Python")
    if not client.ready.exists():
        pytest.skip(f"no environment with {client.package}: tests/clients/run makes it")

    done = subprocess.run(
        [client.python, SCRIPTS / client.script, sandbox.url, facts, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    print(f"{client.package} {client.version}: {last['checks']} assertions")
    assert last["failed"] == [] and last["checks"] >= client.checks


def test_tcia_utils(sandbox: Running, facts: Path, tmp_path: Path) -> None:
    use(TCIA_UTILS, sandbox, facts, tmp_path)


def test_nbiatoolkit(sandbox: Running, facts: Path, tmp_path: Path) -> None:
    use(NBIATOOLKIT, sandbox, facts, tmp_path)


def test_platipy(sandbox: Running, facts: Path, tmp_path: Path) -> None:
    use(PLATIPY, sandbox, facts, tmp_path)


def new_series(name: str, count: int) -> Iterator[tuple[str, str, bytes]]:
    """A CT series nobody has uploaded yet: the UIDs of the series and of each instance, and its file."""
    for number, file in zip(range(count), phantom.files(), strict=False):
        dataset = pydicom.dcmread(io.BytesIO(file.data))
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = phantom.uid(name), phantom.uid(name, "ct")
        dataset.SOPInstanceUID = phantom.uid(name, "ct", str(number))
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        buffer = io.BytesIO()
        dataset.save_as(buffer)
        yield dataset.SeriesInstanceUID, dataset.SOPInstanceUID, buffer.getvalue()


def test_dicomweb_client(sandbox: Running, facts: Path, tmp_path: Path) -> None:
    paths = []
    for number, (_, _, data) in enumerate(new_series("dicomweb-client", 3)):
        paths.append(tmp_path / f"{number}.dcm")
        paths[-1].write_bytes(data)
    credentials = sandbox.sandbox.credentials["qure"]

    use(DICOMWEB, sandbox, facts, tmp_path, *paths, TOKEN=credentials["token"], SOURCE=credentials["source"])


def test_the_printed_upload_script_of_qure(sandbox: Running, tmp_path: Path) -> None:
    files = list(new_series("the printed script", 2))
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
