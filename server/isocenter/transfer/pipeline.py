"""What a pipeline is: find series, download them, upload them, wait for results, open cases, tag them. Read from a TOML file.

A table in the file is a step; `find` and `download` are always there. Paths are relative to the file. Unknown keys are refused.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
import msgspec
from msgspec import Meta

from isocenter.core import IsocenterError
from isocenter.core.formats import FORMATS
from isocenter.transfer.layout import BadLayout, check_layout, fields_of
from isocenter.transfer.patience import Rate, backoff

AtOnce = Annotated[int, Meta(ge=1, le=64)]
Text = Annotated[str, Meta(min_length=1)]
CaseTag = Annotated[str, Meta(min_length=1, max_length=32)]
FILTERS = {"collection": "Collection", "patient": "PatientID", "study": "StudyInstanceUID", "modality": "Modality"}
KNOWN = ("triage_status", "usecase", "Modality", "Collection")  # what a tag may name in braces
SHAREABLE = (
    "Collection",
    "Modality",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "BodyPartExamined",
    "Manufacturer",
)
"""Fields of a layout that say nothing of a patient; paths made of them may go through a queue."""


class BadPipeline(IsocenterError):
    """A pipeline file that cannot be used; the message names the key and what it takes."""

    code = "pipeline"


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A table of the file."""


class Find(Table, frozen=True):
    """Which series: those of a filter, of a shared list, of files that list them, or named. All that is given is added up."""

    collection: str = ""
    patient: str = ""
    study: str = ""
    modality: str = ""
    shared_list: str = ""
    files: tuple[str, ...] = ()
    series: tuple[str, ...] = ()

    @property
    def filters(self) -> dict[str, str]:
        """The arguments of getSeries."""
        return {name: value for key, name in FILTERS.items() if (value := getattr(self, key))}


class Download(Table, frozen=True):
    """Where series go, and how many are fetched at the same time."""

    to: Text
    layout: str = "{Collection}/{StudyInstanceUID}/{SeriesInstanceUID}"
    at_once: AtOnce = 4


class Upload(Table, frozen=True):
    """To Qure.ai: patient data leaves this machine."""

    framing: Literal["form-data", "related"] = "form-data"
    at_once: AtOnce = 2


class Results(Table, frozen=True):
    """Results of Qure.ai: where they go, and for how many seconds one is waited for."""

    to: Text
    give_up_after: Annotated[float, Meta(ge=0)] = 86_400.0
    start: bool = True
    at_once: AtOnce = 8


class Case(Table, frozen=True):
    """A case of CIRCUS for each series, which is sent there if need be: patient data leaves this machine."""

    project: str = ""
    domain: str = ""
    tags: tuple[CaseTag, ...] = ()
    at_once: AtOnce = 2


class Tag(Table, frozen=True):
    """Tags added to the cases; `{triage_status}`, `{usecase}`, `{Modality}` and `{Collection}` stand for what is known of the series."""

    add: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=9)]
    at_once: AtOnce = 4


class PerMinute(Table, frozen=True):
    """How many series may begin a step at a service within a minute, over all steps there and all workers; 0: any number."""

    tcia: Annotated[int, Meta(ge=0)] = 0
    qure: Annotated[int, Meta(ge=0)] = 0
    circus: Annotated[int, Meta(ge=0)] = 0


SERVICE = {"download": "tcia", "upload": "qure", "results": "qure", "case": "circus", "tag": "circus"}


class Pipeline(Table, frozen=True):
    """A whole pipeline. `tries` is how often a step is tried before a series is given up, `ahead` how many series may wait for a step
    before the one ahead of it pauses. `patience` lengthens or shortens all pauses between tries and between questions, which otherwise
    suit services far away: 2 to 60 seconds."""

    find: Find
    download: Download
    upload: Upload | None = None
    results: Results | None = None
    case: Case | None = None
    tag: Tag | None = None
    per_minute: PerMinute = PerMinute()
    name: str = ""
    tries: Annotated[int, Meta(ge=1, le=100)] = 5
    ahead: Annotated[int, Meta(ge=1)] = 200
    patience: Annotated[float, Meta(ge=0.01, le=100)] = 1.0

    @property
    def steps(self) -> tuple[str, ...]:
        """Names of the steps a series goes through, in order."""
        return tuple(name for name in ("download", "upload", "results", "case", "tag") if getattr(self, name))

    @property
    def id(self) -> str:
        """The job this pipeline is: another definition is another job, whose steps find what is done already."""
        return f"{self.name}-{hashlib.sha256(self.definition.encode()).hexdigest()[:8]}"

    @property
    def definition(self) -> str:
        """The pipeline as JSON; holds no secret."""
        return msgspec.json.encode(self).decode()

    @property
    def at_once(self) -> dict[str, int]:
        """How many series may be in each step at the same time."""
        return {step: getattr(self, step).at_once for step in self.steps}

    @property
    def rates(self) -> dict[str, Rate]:
        """New rates for the steps; steps at one service share one."""
        services = {api: Rate(getattr(self.per_minute, api)) for api in ("tcia", "qure", "circus")}
        return {step: services[SERVICE[step]] for step in self.steps}

    async def pause(self, seconds: float) -> None:
        """Wait as long as the pipeline's patience makes of it."""
        await anyio.sleep(seconds * self.patience)

    def backoff(self, attempt: int) -> float:
        """Seconds to wait after a failed attempt of that number."""
        return backoff(attempt) * self.patience

    def check_shareable(self) -> None:
        """Raises BadPipeline where a path would carry a patient's data through a queue."""
        if named := [field for field in fields_of(self.download.layout) if field not in SHAREABLE]:
            raise BadPipeline(
                f"download.layout names {{{named[0]}}}. Paths go through the queue, so with --queue a layout may only name "
                f"{', '.join(SHAREABLE)}."
            )


def read_pipeline(path: Path) -> Pipeline:
    """The pipeline of a file, its paths made absolute. Raises BadPipeline."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadPipeline(f"{path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadPipeline(f"{path}: not TOML: {error}.") from error
    base = path.absolute().parent
    for step, key in (("download", "to"), ("results", "to")):
        if isinstance(table.get(step), dict) and isinstance(table[step].get(key), str) and table[step][key]:
            table[step][key] = str(base / Path(table[step][key]).expanduser())
    if isinstance(find := table.get("find"), dict) and isinstance(find.get("files"), list):
        find["files"] = [
            str(base / Path(file).expanduser()) if isinstance(file, str) else file for file in find["files"]
        ]
    table.setdefault("name", path.stem)
    return pipeline_of(table, str(path))


def pipeline_of(table: Any, at: str) -> Pipeline:
    """A pipeline from plain data, checked; `at` names where it comes from. Raises BadPipeline."""
    try:
        pipeline = msgspec.convert(table, Pipeline)
        check_layout(pipeline.download.layout)
    except (msgspec.ValidationError, BadLayout) as error:
        raise BadPipeline(f"{at}: {_where(str(error))}") from error
    find = pipeline.find
    if not (find.filters or find.shared_list or find.files or find.series):
        raise BadPipeline(f"{at}: find names no series. Give collection, patient, study, shared_list, files or series.")
    if list(find.filters) == ["Modality"]:
        raise BadPipeline(f"{at}: find.modality alone would be the whole archive. Add collection, patient or study.")
    if wrong := [uid for uid in find.series if not FORMATS["dicom-uid"](uid)]:
        raise BadPipeline(f"{at}: find.series: {wrong[0][:80]!r} is no SeriesInstanceUID.")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", pipeline.name):
        raise BadPipeline(
            f"{at}: name takes up to 64 letters, digits, dots, dashes and underscores, not {pipeline.name!r}."
        )
    if pipeline.tag and not pipeline.case:
        raise BadPipeline(f"{at}: tag needs case: it tags the cases that are opened.")
    for text in pipeline.tag.add if pipeline.tag else ():
        if re.search(r"[{}]", re.sub(r"\{[^{}]*\}", "", text)):
            raise BadPipeline(f"{at}: tag.add: {text!r} has a brace without its partner.")
        if unknown := [name for name in re.findall(r"\{([^{}]*)\}", text) if name not in KNOWN]:
            raise BadPipeline(
                f"{at}: tag.add knows no {{{unknown[0]}}}, only {', '.join(f'{{{name}}}' for name in KNOWN)}."
            )
        if re.search(r"\{(triage_status|usecase)\}", text) and not pipeline.results:
            raise BadPipeline(f"{at}: tag.add names {text!r}, which only results know. Add [results].")
    return pipeline


def _where(message: str) -> str:
    """A message of msgspec with its path first: `$.find.series[0]` becomes `find.series[0]`."""
    text, _, path = message.partition(" - at `$")
    place = path.rstrip("`").lstrip(".")
    return f"{place}: {text}." if place else f"{text}."
