"""What a client puts into a conversation besides tools: resources, prompts and completions, in both protocol eras."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError, types
from PIL import Image
from test_agent import ERAS, Era, Person, connected, text, toolbox_on

from isocenter.agent.prompts import PROMPTS
from isocenter.agent.toolbox import own_apis
from isocenter.sandbox.app import Running
from isocenter.settings import Settings

pytestmark = pytest.mark.anyio


async def read(client: Client, uri: str) -> Any:
    """The JSON of a resource."""
    (content,) = (await client.read_resource(uri)).contents
    assert isinstance(content, types.TextResourceContents) and content.uri == uri
    return json.loads(content.text)


async def a_series(client: Client) -> str:
    found = await client.call_tool("find_series", {"modalities": ["MR"], "min_images": 20})
    return str((found.structured_content or {})["rows"][0]["SeriesInstanceUID"])


async def completed(client: Client, argument: str, begun: str) -> list[str]:
    reference = types.PromptReference(type="ref/prompt", name="find_and_download")
    return (await client.complete(reference, {"name": argument, "value": begun})).completion.values


# -- resources -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
async def test_every_listed_resource_can_be_read(sandbox: Running, tmp_path: Path, era: Era) -> None:
    toolbox = toolbox_on(sandbox, tmp_path)

    async with connected(toolbox, era) as client:
        listed = (await client.list_resources()).resources
        contents = {entry.uri: await read(client, entry.uri) for entry in listed}

    assert contents.keys() == {"isocenter://calls", *(f"isocenter://spec/{api}" for api in toolbox.clients)}
    assert contents["isocenter://spec/tcia"]["paths"].keys() >= {"/getSeries", "/getImage"}


@pytest.mark.parametrize("era", ERAS)
async def test_a_series_is_a_resource_before_and_after_its_download(sandbox: Running, tmp_path: Path, era: Era) -> None:
    async with connected(toolbox_on(sandbox, tmp_path), era) as client:
        templates = {entry.uri_template for entry in (await client.list_resource_templates()).resource_templates}
        uid = await a_series(client)
        before = await read(client, f"isocenter://series/{uid}")
        (frame,) = (await client.read_resource(f"isocenter://series/{uid}/frame/3")).contents
        after = await read(client, f"isocenter://series/{uid}")
        known = await completed(client, "series_uid", "2.25")

    assert known == [uid]
    assert {"isocenter://series/{uid}", "isocenter://series/{uid}/frame/{n}", "isocenter://answers/{id}"} < templates
    assert before["folder"] is None and before["archive"]["ImageCount"] == 24
    assert Path(after["folder"]).is_dir() and len(after["files"]) == 24
    assert isinstance(frame, types.BlobResourceContents) and frame.mime_type == "image/png"
    with Image.open(io.BytesIO(base64.b64decode(frame.blob))) as picture:
        assert picture.format == "PNG"


async def test_a_long_answer_of_an_operation_is_a_resource_too(sandbox: Running, tmp_path: Path) -> None:
    async with connected(toolbox_on(sandbox, tmp_path)) as client:
        result = await client.call_tool("search_series", {"Modality": "CT"})
        links = [block for block in result.content if isinstance(block, types.ResourceLink)]
        rows = await read(client, links[0].uri)

    assert [link.mime_type for link in links] == ["application/json", "text/csv"]
    assert len(rows) == (result.structured_content or {})["total"]
    assert links[1].uri in text(result)


async def test_the_calls_of_a_session_are_told_without_values(sandbox: Running, tmp_path: Path) -> None:
    async with connected(toolbox_on(sandbox, tmp_path)) as client:
        await client.call_tool("find_series", {"patient_id": "Canary", "modalities": ["CT"]})
        await client.call_tool("find_series", {"Canary": 1})
        calls = await read(client, "isocenter://calls")

    assert [(call["tool"], call["outcome"]) for call in calls] == [
        ("find_series", "ok"),
        ("find_series", "invalid_request"),
    ]
    assert calls[0]["arguments"] == ["modalities", "patient_id"] and "Canary" not in json.dumps(calls)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    "uri",
    [
        "isocenter://spec/nothing",
        "isocenter://answers/../secret.json",
        "isocenter://answers/find_series-000000000000.json",
        "isocenter://series/1..2",
        "isocenter://series/2.25.1",
        "isocenter://series/2.25.1/frame/1",
        "file:///etc/passwd",
    ],
)
async def test_what_is_no_resource_is_a_protocol_error(sandbox: Running, tmp_path: Path, era: Era, uri: str) -> None:
    (tmp_path / "secret.json").write_text("{}")

    async with connected(toolbox_on(sandbox, tmp_path), era) as client:
        with pytest.raises(MCPError) as raised:
            await client.read_resource(uri)

    assert raised.value.error.code == types.INVALID_PARAMS and raised.value.error.data == {"uri": uri}


# -- prompts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
async def test_every_prompt_names_tools_there_are(sandbox: Running, tmp_path: Path, era: Era) -> None:
    async with connected(toolbox_on(sandbox, tmp_path), era) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        prompts = (await client.list_prompts()).prompts
        texts = []
        for prompt in prompts:
            arguments = {
                argument.name: f"<{argument.name}>" for argument in prompt.arguments or [] if argument.required
            }
            (message,) = (await client.get_prompt(prompt.name, arguments)).messages
            assert isinstance(message.content, types.TextContent)
            texts.append(message.content.text)
            assert all(value in message.content.text for value in arguments.values())

    assert len(prompts) == len(PROMPTS) == 5
    for words in texts:
        assert {word.strip(".,:;") for word in words.split()} & tools
        assert "{" not in words


@pytest.mark.parametrize("era", ERAS)
async def test_a_prompt_without_its_arguments_is_refused(sandbox: Running, tmp_path: Path, era: Era) -> None:
    async with connected(toolbox_on(sandbox, tmp_path), era) as client:
        with pytest.raises(MCPError, match="export_labelled_cases needs tag"):
            await client.get_prompt("export_labelled_cases", {})
        with pytest.raises(MCPError, match="Unknown prompt"):
            await client.get_prompt("nothing", {})


async def test_a_prompt_needs_its_apis(tmp_path: Path) -> None:
    async with connected(own_apis(Settings(download_dir=tmp_path), ["tcia"])) as client:
        names = {prompt.name for prompt in (await client.list_prompts()).prompts}

    assert names == {"find_and_download", "check_dicom"}


# -- completions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
async def test_arguments_are_completed_as_the_services_spell_them(sandbox: Running, tmp_path: Path, era: Era) -> None:
    async with connected(toolbox_on(sandbox, tmp_path), era) as client:
        assert "ISO-CHEST-CT" in await completed(client, "collection", "iso-ch")
        assert (await completed(client, "collection", "brain")) == ["Iso-Brain-MR"], "in the middle too"
        assert "CT" in await completed(client, "modality", "c")
        assert await completed(client, "body_part", "che") == ["CHEST"]
        assert {"search_series", "find_series"} <= set(await completed(client, "tool", "series"))
        assert "getSeries" in await completed(client, "operation", "getSer")
        assert await completed(client, "tag", "scr") == ["screening"]
        assert await completed(client, "api", "qu") == ["qure"]
        assert await completed(client, "nothing", "") == []


async def test_a_service_that_is_down_completes_nothing(tmp_path: Path) -> None:
    toolbox = own_apis(Settings(download_dir=tmp_path), ["tcia"])
    toolbox.point({"tcia": "http://127.0.0.1:9"}, {})
    for client_of_api in toolbox.clients.values():
        client_of_api._pause = no_pause

    async with connected(toolbox) as client:
        assert await completed(client, "collection", "") == []


async def no_pause(_: float) -> None:
    """Tries follow each other at once."""


@pytest.mark.parametrize("era", ERAS)
async def test_a_downloaded_series_is_sent_by_its_uri(sandbox: Running, tmp_path: Path, era: Era) -> None:
    yes = Person("accept")

    async with connected(toolbox_on(sandbox, tmp_path), era, yes) as client:
        uid = await a_series(client)
        early = await client.call_tool("upload_studies_to_qure", {"files": [f"isocenter://series/{uid}"]})
        fetched = await client.call_tool("fetch_series", {"series_uids": [uid]})
        sent = await client.call_tool("upload_studies_to_qure", {"files": [f"isocenter://series/{uid}"]})

    assert early.is_error and "fetch_series downloads a series" in text(early)
    assert not fetched.is_error, text(fetched)
    assert not sent.is_error, text(sent)
    (stored,) = (sent.structured_content or {})["data"]["detailed_info"]
    assert stored["SeriesInstanceUID"] == uid and stored["NumberOfSeriesRelatedInstances"] >= 20
    assert len(yes.asked) == 1 and f"Send {stored['NumberOfSeriesRelatedInstances']} DICOM" in yes.asked[0]
