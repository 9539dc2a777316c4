"""An error alone is enough to put a wrong call right: a program that reads nothing else follows it, and the call goes through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bench.bench_repair import WANTED, outcome, wrong_calls
from test_agent import connected, text, toolbox_on

import isocenter_clients
from isocenter.agent.toolbox import own_apis
from isocenter.sandbox.app import Running
from isocenter.settings import Settings


def test_wrong_calls_are_repaired_from_their_errors_alone() -> None:
    made = wrong_calls()

    assert len(made) == WANTED and len({call.tool.name for call in made}) > 50
    assert len({call.slip for call in made}) >= 15
    assert {f"{call.slip}: {call.tool.name}": error for call in made if (error := outcome(call))} == {}


@pytest.mark.parametrize(
    ("api", "operation", "arguments", "told"),
    [
        ("qure", "getResults", {"uid": "2.25.12."}, "Leave out the dots at its ends."),
        ("qure", "getResults", {"uid": " 2.25.12"}, "Leave out the blanks around it."),
        ("qure", "getResults", {"uid": "2.25.0012"}, "no part with a leading zero"),
        ("qure", "getResults", {"uid": None}, "Give uid, in the form of"),
        ("qure", "getResults", {}, "Add uid, in the form of"),
        ("circus", "listCases", {"projectId": "p"}, "Put it into filter."),
        ("circus", "listCases", {"sort": {"createdAt": "-1"}}, "Give the number without quotes."),
        ("circus", "listCases", {"filter": {"createdAt": '{"$gt": 1}'}}, "Give the object itself, not as text."),
        ("circus", "createCase", {"body": {"projectId": "p"}}, "Give what is in it as arguments of their own."),
    ],
)
def test_the_step_to_take_is_told(api: str, operation: str, arguments: dict[str, Any], told: str) -> None:
    findings = isocenter_clients.contract(api).operations[operation].check(arguments)

    assert told in "\n".join(finding.sentence() for finding in findings)


def test_no_example_of_a_secret_is_offered() -> None:
    findings = isocenter_clients.contract("dicomaestro").operations["obtainToken"].check({"email": "a@example.org"})

    assert [finding.repair for finding in findings] == ["Add password."]


@pytest.mark.anyio
async def test_an_identifier_nobody_knows_is_answered_with_where_to_find_one(sandbox: Running, tmp_path: Path) -> None:
    async with connected(toolbox_on(sandbox, tmp_path)) as client:
        result = await client.call_tool("get_case", {"caseId": "no-such-case"})

    assert result.is_error and "404 not found" in text(result)
    assert "Look the identifier up with search_cases" in text(result) and "then call get_case again." in text(result)


@pytest.mark.anyio
async def test_missing_credentials_lead_to_the_operator(tmp_path: Path) -> None:
    async with connected(own_apis(Settings(download_dir=tmp_path))) as client:
        result = await client.call_tool("get_case", {"caseId": "any"})

    assert result.is_error and "ISOCENTER_CIRCUS_TOKEN" in text(result)
    assert "`isocenter doctor` says what is missing" in text(result)
