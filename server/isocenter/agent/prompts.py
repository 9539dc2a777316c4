"""Prompts: the five commonest tasks as a start for a conversation, with the order of tools that does them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from isocenter.agent.toolbox import Toolbox
from isocenter.core import IsocenterError
from isocenter.core.tool import PLACEHOLDER


class UnknownPrompt(IsocenterError):
    """There is no such prompt, or an argument of it is missing."""

    code = "unknown_prompt"


@dataclass(frozen=True, slots=True)
class Prompt:
    """`arguments` are `(name, description, required)`; `text` has {argument} placeholders; `apis` are the APIs it needs."""

    name: str
    title: str
    description: str
    arguments: tuple[tuple[str, str, bool], ...]
    text: str
    apis: tuple[str, ...]


PROMPTS = (
    Prompt(
        "find_and_download",
        "Find series and download them",
        "Find imaging series of a modality and body part in TCIA, look at one, and download the chosen ones.",
        (
            ("modality", "Such as CT or MR", True),
            ("body_part", "Such as CHEST", False),
            ("collection", "Name of one collection; all if left out", False),
        ),
        "Find {modality} series of body part: {body_part}; collection: {collection}. Use find_series and show me a short table with "
        "totals and licences. Then show the contact sheet of the most suitable one with preview_series and ask me which to "
        "download. Download those with fetch_series and say where they are and how to cite them.",
        ("tcia",),
    ),
    Prompt(
        "analyse_chest_ct",
        "Analyse a CT series with Qure.ai",
        "Send a CT series to Qure.ai, wait for the findings and save the reports.",
        (("series_uid", "SeriesInstanceUID of a TCIA series, or the path of a folder", True),),
        "Analyse {series_uid} with Qure.ai: call analyse_series, and while it answers that the analysis goes on, follow_analysis. Then "
        "summarise triage status and findings in plain words, name the saved report files, and say that this is no diagnosis.",
        ("tcia", "qure"),
    ),
    Prompt(
        "open_annotation_case",
        "Open a CIRCUS case for annotation",
        "Put a series into CIRCUS, open a case on it and tag it.",
        (
            ("series_uid", "SeriesInstanceUID of a TCIA series, or the path of a folder", True),
            ("project", "CIRCUS project; the only writable one if left out", False),
            ("tag", "Tag of the new case", False),
        ),
        "Open a CIRCUS case from {series_uid}; project: {project}; tag: {tag}. Use open_case, which uploads the series only if CIRCUS "
        "does not have it. Then show me the case identifier, its project and its tags, and ask what to label.",
        ("tcia", "circus"),
    ),
    Prompt(
        "export_labelled_cases",
        "Export CIRCUS cases as MHD",
        "Find cases by tag and export their volumes and labels.",
        (("tag", "Tag of the cases", True),),
        'Find all CIRCUS cases with the tag "{tag}" with search_cases, tell me how many there are, and export them with '
        "export_case_volumes. Say where the archive is and what is in it.",
        ("circus",),
    ),
    Prompt(
        "check_dicom",
        "Check a DICOM file or series",
        "Read the header of a file or series and judge whether it is fit for analysis.",
        (("source", "Path of a file or folder, or a SeriesInstanceUID", True),),
        "Inspect {source} with inspect_dicom without identifying values: modality, body part, spacing, slice thickness, kernel, "
        "transfer syntax. Look at it with preview_series if it has images. Tell me in a few lines what it is and what would "
        "stand in the way of an analysis.",
        ("tcia",),
    ),
)


def offered(toolbox: Toolbox) -> dict[str, Prompt]:
    """The prompts by name whose APIs are all in the toolbox."""
    return {prompt.name: prompt for prompt in PROMPTS if set(prompt.apis) <= toolbox.clients.keys()}


def filled(prompts: Mapping[str, Prompt], name: str, arguments: Mapping[str, str]) -> str:
    """The text of a prompt. Raises UnknownPrompt, naming what there is."""
    prompt = prompts.get(name)
    if prompt is None:
        raise UnknownPrompt(f"Unknown prompt. There are: {', '.join(prompts)}.")
    if missing := [name for name, _, required in prompt.arguments if required and not arguments.get(name)]:
        raise UnknownPrompt(f"{prompt.name} needs {', '.join(missing)}.")
    return PLACEHOLDER.sub(lambda match: arguments.get(match[1]) or "any", prompt.text)
