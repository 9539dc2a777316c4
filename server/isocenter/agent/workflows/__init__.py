"""The tasks people ask an assistant for, each of several checked operations."""

from __future__ import annotations

from isocenter.agent.toolbox import Toolbox
from isocenter.agent.workflows import archive, circus, images, labels, qure
from isocenter.agent.workflows.kind import Work, Workflow

WORKFLOWS: tuple[Workflow, ...] = (
    archive.FIND,
    archive.FETCH,
    images.PREVIEW,
    images.INSPECT,
    qure.ANALYSE,
    qure.FOLLOW,
    circus.OPEN,
    labels.LABEL,
    circus.TAG,
    circus.EXPORT,
)

__all__ = ["WORKFLOWS", "Work", "Workflow", "archive", "offered", "usage"]


def offered(toolbox: Toolbox) -> dict[str, Workflow]:
    """The workflows by name whose APIs are all in the toolbox and whose effect the operator permits."""
    return {
        workflow.name: workflow
        for workflow in WORKFLOWS
        if set(workflow.apis) <= toolbox.clients.keys()
        and not (toolbox.settings.read_only and workflow.effect != "read")
    }


def usage(toolbox: Toolbox) -> list[str]:
    """The part of the server's usage map that says which workflow follows which."""
    chains = (
        ("find_series", "preview_series", "fetch_series"),
        ("analyse_series", "follow_analysis"),
        ("open_case", "add_case_labels", "tag_cases", "export_case_volumes"),
    )
    there = offered(toolbox)
    lines = [", then ".join(name for name in chain if name in there) for chain in chains]
    lines = [line for line in lines if line]
    return [f"For whole tasks: {'; '.join(lines)}. The other tools are single operations."] if lines else []
