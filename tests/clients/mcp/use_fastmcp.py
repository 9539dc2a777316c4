"""The journey of isocenter's demonstration, driven by the FastMCP client: `python use_fastmcp.py PLAN.json`.

Runs in FastMCP's own environment. The plan is the one journey.mjs describes, without modules and package. The client builds a
type from each output schema and holds every structured answer against the schema.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import Any

from fastmcp import Client
from fastmcp.client.elicitation import ElicitResult
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport
from fastmcp.exceptions import ToolError

PLAN: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
checks = 0
failed: list[str] = []
questions: list[str] = []
action: Any = "accept"
told = 0


def check(what: str, got: object, wanted: object = True) -> None:
    """Count one assertion; a failed one is printed, and the journey goes on."""
    global checks
    checks += 1
    if got != wanted:
        failed.append(what)
        print(f"FAILED {what}\n  got    {got!r:.2000}\n  wanted {wanted!r:.2000}", file=sys.stderr)


async def person(message: str, form: Any, params: Any, context: Any) -> Any:
    """Answers the server's question; the form arrives as a dataclass."""
    questions.append(message)
    return form(confirm=True) if action == "accept" else ElicitResult(action=action)


async def progress(done: float, total: float | None, message: str | None) -> None:
    """Counts what is told on the way."""
    global told
    told += 1


async def journey(client: Client[Any]) -> int:
    """Everything; how many answers were structured in the round over all simple tools."""
    global action

    async def must(tool: str, **given: Any) -> dict[str, Any]:
        result = await client.call_tool(tool, given, raise_on_error=False, progress_handler=progress)
        words = "".join(part.text for part in result.content if part.type == "text")
        check(f"{tool} succeeds", words if result.is_error else True)
        return result.structured_content or {}

    async def refused(tool: str, words: str, **given: Any) -> None:
        try:
            result = await client.call_tool(tool, given)
            check(f"{tool} is refused", repr(result))
        except ToolError as error:
            check(f"{tool} is refused because: {words}", words in str(error) or str(error))

    check("the era", client.protocol_version, PLAN["protocol"])
    check("who serves", client.server_info.name, "isocenter")
    check("the usage map", "find_series" in client.instructions)
    tools = await client.list_tools()
    check("all tools", len({tool.name for tool in tools}), PLAN["tools"])

    found = await must("find_series", modalities=["CT"], body_parts=["CHEST"])
    series = found["rows"][PLAN["row"]]["SeriesInstanceUID"]
    fetched = await client.call_tool("fetch_series", {"series_uids": [series]})
    check("downloaded", fetched.data.done + fetched.data.there_before, 1)
    shown = await client.call_tool("preview_series", {"series_uid": series})
    pictures = [base64.b64decode(part.data) for part in shown.content if part.type == "image"]
    check("a picture", [picture[:3] in (b"\x89PN", b"\xff\xd8\xff") for picture in pictures], [True])
    check("nothing that hides the picture", shown.structured_content, None)
    header = await must("inspect_dicom", series_uid=series, elements=["Modality"])
    check("its header", [row["value"] for row in header["rows"]], ["CT"])

    if PLAN["asks"]:
        action = "decline"
        await refused("analyse_series", "declined", series_uid=series, wait_seconds=0)
        check("the person saw where the data go", "Qure.ai" in questions[-1])
        action = "accept"
        started = await must("analyse_series", series_uid=series, wait_seconds=0)
        check("analysis started", started["state"], "running")
        await must("delete_circus_series", seriesUid=series)  # or nothing would be sent there
        opened = await must("open_case", series_uid=series, project="Lung nodules", tags=["journey"])
        check("the series was sent to CIRCUS", opened["uploaded"])
        check("the person was asked about CIRCUS", "CIRCUS" in questions[-1])
        case = opened["case_id"]
        check("the case has its tag", (await must("get_case", caseId=case))["data"]["tags"], ["journey"])
        action = "cancel"
        await refused("delete_case", "declined", caseId=case)
        check("the person saw which case", case in questions[-1])
        check("the case is still there", (await must("get_case", caseId=case))["data"]["caseId"], case)
        action = "accept"
        await must("delete_case", caseId=case)
        await refused("get_case", "404", caseId=case)
        analysis = await must("follow_analysis", uids=[series], wait_seconds=45)
        check("analysed", analysis["state"], "done")
        check("progress was told", told > 0)
        check("findings are there", analysis["rows"][0]["files"] > 0)
    else:
        await refused("analyse_series", "this client cannot ask", series_uid=series, wait_seconds=0)
        opened = await must("open_case", series_uid=series, project="Lung nodules")
        check("nothing was sent to CIRCUS, which has the series", opened["uploaded"], False)
        case = opened["case_id"]
        await refused("delete_case", "this client cannot ask", caseId=case)
        check("the case is still there", (await must("get_case", caseId=case))["data"]["caseId"], case)
        check("no one was asked", questions, [])
    await refused("search_series", "Did you mean BodyPartExamined?", BodyPart="CHEST")

    structured = 0
    for tool in tools:
        if tool.annotations.read_only_hint and not tool.input_schema.get("required") and tool.output_schema:
            result = await client.call_tool(tool.name, {}, raise_on_error=False)
            structured += result.structured_content is not None
    check("every tool that needs no argument keeps its promise", structured > 30 or structured)
    check("resources", len(await client.list_resources()) > 4)
    check("prompts", len(await client.list_prompts()) > 4)
    return structured


async def main() -> None:
    """Connect as the plan says and go."""
    transport = (
        StreamableHttpTransport(PLAN["url"])
        if "url" in PLAN
        else StdioTransport(PLAN["command"], PLAN["args"], keep_alive=False)
    )
    form = {"elicitation_handler": person} if PLAN["form"] else {}
    async with Client(transport, mode=PLAN["mode"], timeout=60, **form) as client:
        structured = await journey(client)
    print(json.dumps({"checks": checks, "failed": failed, "questions": len(questions), "structured": structured}))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    asyncio.run(main())
