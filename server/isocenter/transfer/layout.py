"""Where a series goes below the download folder: a template of its attributes, made of safe names only."""

from __future__ import annotations

import re
import sqlite3
import unicodedata
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from isocenter.core import IsocenterError

DEFAULT_LAYOUT = "{Collection}/{PatientID}/{StudyInstanceUID}/{SeriesInstanceUID}"
FIELDS = (
    "Collection",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "SeriesNumber",
    "SeriesDescription",
    "StudyDate",
    "SeriesDate",
    "BodyPartExamined",
    "Manufacturer",
)
LONGEST = 120  # characters of one folder name
PRIVATE = ".isocenter"  # below the download folder: what is not finished, and locks


class BadLayout(IsocenterError):
    """A layout that cannot be used; the message says why and what may stand in one."""

    code = "layout"


def fields_of(layout: str) -> list[str]:
    """The attributes a layout names."""
    return re.findall(r"\{([^{}]*)\}", layout)


def check_layout(layout: str) -> str:
    """The layout itself. Raises BadLayout when it names unknown fields, leaves the folder, or would put two series into one folder."""
    fields = fields_of(layout)
    if unknown := [field for field in fields if field not in FIELDS]:
        raise BadLayout(f"The layout knows no {{{unknown[0]}}}. Fields are: {', '.join(FIELDS)}.")
    if "SeriesInstanceUID" not in fields:
        raise BadLayout("The layout must contain {SeriesInstanceUID}: without it two series may get the same folder.")
    rest = re.sub(r"\{[^{}]*\}", "x", layout)
    if "{" in rest or "}" in rest or "\\" in rest or any(part in ("", ".", "..", PRIVATE) for part in rest.split("/")):
        raise BadLayout(f"The layout must be folder names with / between them, for example {DEFAULT_LAYOUT}.")
    return layout


def folder_of(root: Path, layout: str, attributes: Mapping[str, Any]) -> Path:
    """The folder of a series below `root`. An attribute that is missing or empty becomes `unknown`."""
    parts = [
        segment(re.sub(r"\{([^{}]*)\}", lambda field: str(attributes.get(field[1], "")).strip() or "unknown", part))
        for part in check_layout(layout).split("/")
    ]
    return root.joinpath(*parts)


def segment(text: str) -> str:
    """A folder name that every file system takes and that stays where it is put; UIDs and plain words pass unchanged."""
    text = re.sub(r'[\x00-\x1f\x7f/\\:<>"|?*]+', "_", unicodedata.normalize("NFC", text))
    text = text[:LONGEST].strip(" .") or "unknown"
    # Names of devices are reserved on Windows, whatever follows the first dot.
    return f"_{text}" if re.match(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", text, re.IGNORECASE) else text


@asynccontextmanager
async def only_one(root: Path, what: str, pause: Callable[[float], Awaitable[None]]) -> AsyncIterator[None]:
    """Hold the lock of one series below `root`, against other tasks and processes; waits while somebody else has it.

    SQLite's exclusive lock is portable, and the operating system drops it with the process, also after kill -9. The lock files
    stay, since removing one while another process waits for it would let two in; so there is a fixed number of them, and two
    series may now and then wait for each other. Raises OSError.
    """
    folder = root / PRIVATE / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = sqlite3.connect(
        folder / f"{zlib.crc32(what.encode()) % 1024:03x}", timeout=0, isolation_level=None, check_same_thread=False
    )
    try:
        wait = 0.02
        while True:
            try:
                lock.execute("BEGIN EXCLUSIVE")
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise OSError(f"the lock in {folder} cannot be taken: {error}") from error
            await pause(wait)
            wait = min(1.0, wait * 1.5)
        yield
    finally:
        lock.close()
