"""DICOM files to Qure.ai or a DICOMweb server: in batches, streamed from disk, every instance accounted for, resumed after a kill.

A batch holds files of one series, `BATCH` of them or `BATCH_BYTES`, whichever comes first. Its body is streamed with known length, one
file open at a time; names and folders of the disk are never sent. What the answer confirms, instance by instance, is noted in a journal
and never sent again; what it does not confirm counts as refused, whatever the status says.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import anyio

from isocenter.core import (
    ApiClient,
    FileSource,
    IsocenterError,
    MissingCredentials,
    Result,
    StatusError,
)
from isocenter.transfer.layout import PRIVATE, segment
from isocenter.transfer.manifest import Lines
from isocenter.transfer.patience import TRIES, Pace, Pause, again
from isocenter.transfer.scan import LocalInstance, LocalSeries

BATCH = 100  # files in one request: what a stock Django takes, see qure.yaml
BATCH_BYTES = 64 << 20
AT_ONCE = 2  # series
Framing = Literal["form-data", "related"]
Answers = Mapping[str, str]  # SOPInstanceUID -> why it was not taken, empty where it was
Send = Callable[[list[LocalInstance]], Awaitable[Answers]]


class Unconfirmed(IsocenterError):
    """The server answered, but what it says cannot be true of what was sent."""

    code = "unconfirmed"


@dataclass(frozen=True, slots=True)
class Refused:
    """An instance that is not on the server, as far as one can tell, and why."""

    sop_instance_uid: str
    path: Path
    why: str


@dataclass(slots=True)
class SeriesUploaded:
    """What became of one series: instances taken now and earlier (by the journal), and those refused.

    `why` says what ended the upload of the series early; what was not reached is then neither sent nor refused.
    """

    series_uid: str
    instances: int
    sent: int = 0
    before: int = 0
    refused: list[Refused] = field(default_factory=list)
    bytes: int = 0
    seconds: float = 0.0
    why: str = ""
    code: str = ""
    failure: IsocenterError | None = None  # what `why` tells, where it was an error of the whole series

    @property
    def whole(self) -> bool:
        """Whether every instance is on the server."""
        return self.sent + self.before == self.instances

    @property
    def state(self) -> str:
        """done, skipped (all of it was there before) or failed."""
        return "failed" if not self.whole else "done" if self.sent else "skipped"


class Journal(Lines):
    """What was confirmed, by destination: lines `{"to": destination, "series": uid, "sent": {sop_instance_uid: bytes}}`.

    A file whose size changed since counts as not sent. A context manager.
    """

    def __init__(self, path: Path) -> None:
        """Open or create. Raises StorageError."""
        super().__init__(path)
        self._sent: dict[tuple[str, str], dict[str, int]] = {}
        for line in self:
            if "to" in line and "sent" in line:
                self._sent.setdefault((line["to"], line.get("series", "")), {}).update(line["sent"])

    def has(self, destination: str, series_uid: str, instance: LocalInstance) -> bool:
        """Whether this file was confirmed before."""
        return self._sent.get((destination, series_uid), {}).get(instance.sop_instance_uid) == instance.size

    def add(self, destination: str, series_uid: str, instances: Iterable[LocalInstance]) -> None:
        """Note instances as confirmed. Raises StorageError."""
        sent = {instance.sop_instance_uid: instance.size for instance in instances}
        if sent:
            self.append({"to": destination, "series": series_uid, "sent": sent})
            self._sent.setdefault((destination, series_uid), {}).update(sent)


def journal_of(root: Path, series_uid: str) -> Journal:
    """The journal of one series, kept out of sight below a download folder."""
    return Journal(root / PRIVATE / "uploads" / f"{segment(series_uid)}.jsonl")


async def upload_to_qure(
    qure: ApiClient,
    series: Iterable[LocalSeries],
    *,
    journal: Journal | None = None,
    progress: Callable[[int], None] | None = None,
    on_series: Callable[[SeriesUploaded], None] | None = None,
    framing: Framing = "form-data",
    at_once: int = AT_ONCE,
    tries: int = TRIES,
    pause: Pause = anyio.sleep,
) -> list[SeriesUploaded]:
    """Send series to the Qure.ai workspace of the client's credentials.

    `framing`: `form-data` is the current form, `related` that of the older upload page. `progress` gets the bytes of every batch that
    was answered. A series that fails does not stop the others. Raises MissingCredentials and StatusError 401 and 403, which all would
    meet.
    """

    async def send(batch: list[LocalInstance]) -> Answers:
        files = [FileSource(instance.size, path=instance.path) for instance in batch]
        answer: Result[Any] = await qure.call("uploadStudies", {"files": files, "content_type": f"multipart/{framing}"})
        return _qure_answers(batch, answer.data)

    destination = destination_of(qure.base_url, qure.credentials.get("source") or "")
    return await send_all(series, send, destination, journal, progress, on_series, at_once, tries, pause)


def _qure_answers(batch: list[LocalInstance], data: Mapping[str, Any]) -> Answers:
    """What the answer says of each part. The older generation has no `messages` and counts only."""
    counts = {
        entry["SeriesInstanceUID"]: entry["NumberOfSeriesRelatedInstances"] for entry in data.get("detailed_info") or []
    }
    answers: dict[str, str] = {}
    messages = data.get("messages")
    for index, instance in enumerate(batch):
        if messages is None:
            why = "" if data.get("series_instance_uids") else "The answer names no series."
        elif (said := messages.get(f"file_{index}")) is None:
            why = "The answer does not mention it."
        elif said.get("license_expired"):
            why = "The licence of the workspace has expired; nothing would be analysed."
        else:
            # `created` is false for what the workspace holds already; only the words tell that from a refusal.
            text = str(said.get("message", ""))
            why = "" if said.get("created") or "success" in text.lower() else text or "It was not registered."
        answers[instance.sop_instance_uid] = why
    taken = sum(not why for why in answers.values())
    if counts and taken > sum(counts.values()):
        raise Unconfirmed(f"uploadStudies: {taken} files were confirmed, but the series count {sum(counts.values())}.")
    return answers


def destination_of(base_url: str, workspace: str) -> str:
    """A name for where things were sent that gives nothing away: journals are kept and shown around."""
    return hashlib.sha256(f"{base_url.rstrip('/')}\n{workspace}".encode()).hexdigest()[:16]


async def send_all(
    series: Iterable[LocalSeries],
    send: Send,
    destination: str,
    journal: Journal | None,
    progress: Callable[[int], None] | None,
    on_series: Callable[[SeriesUploaded], None] | None,
    at_once: int,
    tries: int,
    pause: Pause,
) -> list[SeriesUploaded]:
    """Send every series through `send`, `at_once` at a time; see `upload_to_qure`."""
    results: list[SeriesUploaded] = []
    pace, waiting = Pace(at_once, pause=pause), iter(series)
    fatal: IsocenterError | None = None

    async def one(local: LocalSeries) -> SeriesUploaded:
        result, started = SeriesUploaded(local.series_instance_uid, len(local.instances)), time.monotonic()
        left = []
        for instance in local.instances:
            if journal and journal.has(destination, local.series_instance_uid, instance):
                result.before += 1
                if progress:
                    progress(instance.size)
            else:
                left.append(instance)
        try:
            for batch in _batches(left):
                answers = await _answered(batch, send, tries, pause, pace)
                taken = [instance for instance in batch if answers.get(instance.sop_instance_uid) == ""]
                if journal:
                    journal.add(destination, local.series_instance_uid, taken)
                result.sent += len(taken)
                result.bytes += sum(instance.size for instance in taken)
                result.refused += [
                    Refused(instance.sop_instance_uid, instance.path, answers[instance.sop_instance_uid])
                    for instance in batch
                    if answers[instance.sop_instance_uid]
                ]
                if progress:
                    progress(sum(instance.size for instance in batch))
            pace.success()
        except IsocenterError as error:
            if isinstance(error, MissingCredentials) or (isinstance(error, StatusError) and error.status in (401, 403)):
                raise
            result.why, result.code, result.failure = " ".join(str(error).split()), error.code, error
        if result.refused and not result.why:
            result.why = f"{len(result.refused)} of {result.instances} files were refused: {result.refused[0].why}"
            result.code = "refused"
        result.seconds = time.monotonic() - started
        return result

    async def work() -> None:
        nonlocal fatal
        for local in waiting:
            try:
                async with pace.turn():
                    result = await one(local)
            except IsocenterError as error:
                fatal = error
                group.cancel_scope.cancel()
                return
            results.append(result)
            if on_series:
                on_series(result)

    async with anyio.create_task_group() as group:
        for _ in range(at_once):
            group.start_soon(work)
    if fatal:
        raise fatal
    return results


def _batches(instances: list[LocalInstance]) -> Iterator[list[LocalInstance]]:
    batch: list[LocalInstance] = []
    size = 0
    for instance in instances:
        if batch and (len(batch) == BATCH or size + instance.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(instance)
        size += instance.size
    if batch:
        yield batch


async def _answered(batch: list[LocalInstance], send: Send, tries: int, pause: Pause, pace: Pace) -> Answers:
    """Send one batch and return what became of each file in it.

    A request whose fate is unknown is repeated: an instance is stored under its UID, so a second copy of the same bytes changes
    nothing (PS3.18 section 10.5). One that says the request is wrong (400, 413, 415, 422) is not; too large a batch is halved.
    """
    answers: dict[str, str] = {}
    for instance in batch:
        try:
            if instance.path.stat().st_size != instance.size:
                answers[instance.sop_instance_uid] = "The file changed since it was found."
        except OSError as error:
            answers[instance.sop_instance_uid] = f"The file cannot be read: {error.strerror}."
    there = [instance for instance in batch if instance.sop_instance_uid not in answers]
    if not there:
        return answers
    try:
        return {**answers, **await again(lambda: send(there), tries=tries, pause=pause, trouble=pace.trouble)}
    except StatusError as error:
        if error.status == 413 and len(there) > 1:
            half = len(there) // 2
            for part in (there[:half], there[half:]):
                answers.update(await _answered(part, send, tries, pause, pace))
            return answers
        if error.status not in (400, 413, 415, 422):
            raise
        return {**answers, **{instance.sop_instance_uid: " ".join(str(error).split()) for instance in there}}
