"""The tasks assistants are asked for, through a real MCP client, in both protocol eras, against the sandbox on a real socket."""

from __future__ import annotations

import base64
import csv
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest
from mcp import Client, types
from PIL import Image
from test_agent import ERAS, Era, Person, connected, text, toolbox_on

from isocenter.agent.jobs import Jobs
from isocenter.agent.workflows import WORKFLOWS
from isocenter.agent.workflows.kind import Workflow
from isocenter.core import StorageError
from isocenter.core.schema import PORTABLE_NAME
from isocenter.core.tool import NAME
from isocenter.sandbox.app import Running, running
from isocenter.sandbox.state import Options

pytestmark = pytest.mark.anyio


async def done(client: Client, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Structured content of a call that succeeds."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, text(result)
    assert result.structured_content is not None
    return dict(result.structured_content)


async def series_of(client: Client, modality: str, least: int = 1) -> str:
    found = await done(client, "find_series", {"modalities": [modality], "min_images": least, "sort_by": "images"})
    return str(found["rows"][0]["SeriesInstanceUID"])


# -- the kind --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow.name)
def test_a_workflow_is_what_every_host_can_read(workflow: Workflow) -> None:
    schema = workflow.input_schema

    assert NAME.fullmatch(workflow.name)
    assert schema["type"] == "object" and schema["additionalProperties"] is False
    assert set(workflow.required) <= schema["properties"].keys()
    for name, child in schema["properties"].items():
        assert PORTABLE_NAME.fullmatch(name)
        assert isinstance(child["type"], str) and not {"format", "oneOf", "anyOf", "$ref"} & child.keys()
        assert child["type"] != "array" or child["items"].get("type")
    assert workflow.effect == "read" or workflow.effect == "write" or workflow.question({})


@pytest.mark.parametrize("era", ERAS)
async def test_wrong_arguments_are_refused_with_their_repair(sandbox: Running, tmp_path: Path, era: Era) -> None:
    toolbox = toolbox_on(sandbox, tmp_path)
    toolbox.point(dict.fromkeys(toolbox.clients, "http://127.0.0.1:9"), {})  # whoever sends fails differently

    async with connected(toolbox, era) as client:
        result = await client.call_tool(
            "find_series", {"modality": "CT", "study_uid": "1..2", "from_date": "01/02/2020"}
        )
        nothing = await client.call_tool("find_series", {"min_images": 3})

    assert result.is_error and text(result).startswith("invalid_request")
    assert "Did you mean modalities?" in text(result)
    assert "/study_uid (argument): expected a DICOM UID" in text(result)
    assert "write it as YYYY-MM-DD" in text(result)
    assert nothing.is_error and "at least one of collections, modalities" in text(nothing)


async def test_hosts_slips_are_repaired(sandbox: Running, tmp_path: Path) -> None:
    async with connected(toolbox_on(sandbox, tmp_path)) as client:
        found = await done(client, "find_series", {"modalities": '["CT", "MR"]', "text": None})

    assert {row["Modality"] for row in found["rows"]} == {"CT", "MR"}


# -- the archive -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
async def test_series_are_found_across_collections(sandbox: Running, tmp_path: Path, era: Era) -> None:
    criteria = {
        "modalities": ["CT", "MR"],
        "text": "phantom chest",
        "min_images": 12,
        "sort_by": "images",
        "descending": True,
    }

    async with connected(toolbox_on(sandbox, tmp_path), era) as client:
        result = await client.call_tool("find_series", criteria)

    found = result.structured_content or {}
    assert [row["ImageCount"] for row in found["rows"]] == [120, 60, 12]
    assert found["total"] == 3 and found["images"] == 192
    assert all(row["SeriesInstanceUID"] in text(result) for row in found["rows"])


async def test_dates_are_days_not_texts(sandbox: Running, tmp_path: Path) -> None:
    async with connected(toolbox_on(sandbox, tmp_path)) as client:
        found = await done(
            client,
            "find_series",
            {"modalities": ["CT"], "from_date": "2021-01-01", "to_date": "2021-12-31", "sort_by": "date"},
        )

    assert [row["StudyDate"] for row in found["rows"]] == ["03-04-2021", "09-10-2021"]


@pytest.mark.parametrize("era", ERAS)
async def test_a_long_list_is_rows_a_total_and_files_to_read(sandbox: Running, tmp_path: Path, era: Era) -> None:
    async with connected(toolbox_on(sandbox, tmp_path), era) as client:
        first = await client.call_tool("find_series", {"modalities": ["CT", "MR", "SEG"], "limit": 2})
        links = [block for block in first.content if isinstance(block, types.ResourceLink)]
        contents = [(await client.read_resource(link.uri)).contents[0] for link in links]
        second = await done(client, "find_series", {"modalities": ["CT", "MR", "SEG"], "limit": 2, "offset": 2})

    found = first.structured_content or {}
    assert len(found["rows"]) == 2 < found["total"] and found["next_offset"] == 2
    assert {row["SeriesInstanceUID"] for row in found["rows"]}.isdisjoint(
        row["SeriesInstanceUID"] for row in second["rows"]
    )
    assert [link.mime_type for link in links] == ["application/json", "text/csv"]
    assert all(link.uri in text(first) for link in links)
    texts = [content.text for content in contents if isinstance(content, types.TextResourceContents)]
    assert len(json.loads(texts[0])) == len(list(csv.DictReader(io.StringIO(texts[1])))) == found["total"]


async def test_a_misspelt_collection_is_told(sandbox: Running, tmp_path: Path) -> None:
    async with connected(toolbox_on(sandbox, tmp_path)) as client:
        found = await done(client, "find_series", {"collections": ["ISO-CHEST-TC"]})

    assert found["total"] == 0 and "Did you mean ISO-CHEST-CT?" in found["hint"]


@pytest.mark.parametrize("era", ERAS)
async def test_series_are_downloaded_whole_with_progress(sandbox: Running, tmp_path: Path, era: Era) -> None:
    seen: list[tuple[float, float | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total))

    async with connected(toolbox_on(sandbox, tmp_path), era) as client:
        uid = await series_of(client, "CT", 60)
        result = await client.call_tool("fetch_series", {"series_uids": [uid]}, progress_callback=on_progress)
        again = await done(client, "fetch_series", {"series_uids": [uid], "folder": None})

    fetched = result.structured_content or {}
    assert fetched["done"] == 1 and again["there_before"] == 1
    folder = Path(fetched["rows"][0]["folder"])
    assert len(list(folder.glob("*.dcm"))) == fetched["rows"][0]["files"] == 60
    assert seen[-1][0] == seen[-1][1] == fetched["rows"][0]["bytes"]
    assert seen == sorted(seen)


async def test_a_manifest_and_a_shared_list_are_sources_too(sandbox: Running, tmp_path: Path) -> None:
    async with connected(toolbox_on(sandbox, tmp_path)) as client:
        uid = await series_of(client, "MR")
        manifest = tmp_path / "list.csv"
        manifest.write_text(f"SeriesInstanceUID\n{uid}\n")
        fetched = await done(client, "fetch_series", {"manifest": str(manifest), "folder": str(tmp_path / "here")})
        both = await client.call_tool("fetch_series", {"manifest": str(manifest), "series_uids": [uid]})
        unknown = await client.call_tool("fetch_series", {"shared_list": "nothing of that name"})

    assert fetched["done"] == 1 and fetched["rows"][0]["folder"].startswith(str(tmp_path / "here"))
    assert both.is_error and "exactly one of series_uids, shared_list, manifest" in text(both)
    assert unknown.is_error and text(unknown).startswith("selection:")


@pytest.mark.parametrize("era", ERAS)
async def test_a_cancelled_download_leaves_no_half_series(sandbox: Running, tmp_path: Path, era: Era) -> None:
    async with connected(toolbox_on(sandbox, tmp_path), era) as client:
        uid = await series_of(client, "CT", 100)
        async with anyio.create_task_group() as group:

            async def on_progress(progress: float, total: float | None, message: str | None) -> None:
                group.cancel_scope.cancel()

            await client.call_tool("fetch_series", {"series_uids": [uid]}, progress_callback=on_progress)
        halves = list((tmp_path / "series").glob(f"*/*/*/{uid}"))
        fetched = await done(client, "fetch_series", {"series_uids": [uid]})

    assert halves == []
    assert fetched["done"] == 1


@pytest.mark.parametrize("era", ERAS)
async def test_a_long_download_gives_a_handle_and_goes_on(sandbox: Running, tmp_path: Path, era: Era) -> None:
    async with connected(toolbox_on(sandbox, tmp_path), era) as client:
        uid = await series_of(client, "CT", 100)
        answers = [await client.call_tool("fetch_series", {"series_uids": [uid], "wait_seconds": 0})]
        started = answers[0].structured_content or {}
        waiting = await client.call_tool(started["next"]["tool"], started["next"]["arguments"])
        finished = await done(client, "fetch_series", {"series_uids": [uid]})

    assert started["state"] == "running" and "same arguments" in text(answers[0])
    assert (waiting.structured_content or {})["state"] in ("running", "done")
    assert finished["state"] == "done" and finished["done"] + finished["there_before"] == 1


async def test_a_job_that_several_calls_follow_ends_with_the_last_of_them() -> None:
    class Waiting:
        ended = ""

        async def run(self) -> None:
            try:
                await anyio.sleep_forever()
            except BaseException as error:
                self.ended = type(error).__name__
                raise

    jobs, told = Jobs(), [anyio.Event(), anyio.Event()]

    async def follow(who: int, scope: anyio.CancelScope) -> None:
        async def tell(_: Waiting) -> None:
            told[who].set()

        with scope:
            await jobs.follow("one", Waiting, 60, tell)

    scopes = [anyio.CancelScope(), anyio.CancelScope()]
    async with anyio.create_task_group() as group:
        for who, scope in enumerate(scopes):
            group.start_soon(follow, who, scope)
        await told[0].wait()
        await told[1].wait()
        scopes[0].cancel()
        job, over = await jobs.follow("one", Waiting, 0, lambda _: anyio.lowlevel.checkpoint())
        assert not over and job.ended == "" and "one" in jobs
        scopes[1].cancel()
    assert job.ended == "CancelledError" and "one" not in jobs


async def test_what_a_job_raises_is_told_once_and_then_it_may_begin_again() -> None:
    class Failing:
        async def run(self) -> None:
            raise StorageError("the disk is full")

    jobs = Jobs()
    for _ in range(2):
        with pytest.raises(StorageError, match="full"):
            await jobs.follow("one", Failing, 60, lambda _: anyio.lowlevel.checkpoint())
    assert "one" not in jobs


async def test_a_job_ends_with_the_server_and_what_it_has_is_kept(sandbox: Running, tmp_path: Path) -> None:
    async with connected(toolbox_on(sandbox, tmp_path)) as client:
        uid = await series_of(client, "CT", 100)
        started = await done(client, "fetch_series", {"series_uids": [uid], "wait_seconds": 0})
    async with connected(toolbox_on(sandbox, tmp_path)) as client:
        finished = await done(client, "fetch_series", {"series_uids": [uid]})

    assert started["state"] == "running" and finished["done"] + finished["there_before"] == 1
    assert not list((tmp_path / "series").rglob("*.part"))


# -- pictures and headers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
async def test_a_series_is_seen_as_a_contact_sheet_and_as_a_slice(sandbox: Running, tmp_path: Path, era: Era) -> None:
    async with connected(toolbox_on(sandbox, tmp_path), era) as client:
        uid = await series_of(client, "CT", 60)
        sheet = await client.call_tool("preview_series", {"series_uid": uid, "images": 10})
        one = await client.call_tool(
            "preview_series", {"series_uid": uid, "slice": 30, "window_center": 40, "window_width": 400}
        )
        other = await client.call_tool(
            "preview_series", {"series_uid": uid, "slice": 30, "window_center": -600, "window_width": 1500}
        )
        beyond = await client.call_tool("preview_series", {"series_uid": uid, "slice": 61})

    sizes = []
    for result in (sheet, one, other):
        assert not result.is_error, text(result)
        assert [block.type for block in result.content] == ["text", "image"]
        assert result.structured_content is None
        image = result.content[1]
        assert isinstance(image, types.ImageContent)
        with Image.open(io.BytesIO(base64.b64decode(image.data))) as picture:
            sizes.append((picture.format, picture.width))
    assert sizes[0] == ("JPEG", 5 * 192) and sizes[1] == sizes[2] == ("PNG", 256)
    assert "1, 8, 14" in text(sheet) and one.content[1] != other.content[1]
    assert beyond.is_error and "from 1 to 60" in text(beyond)


async def test_what_has_no_pixels_cannot_be_seen(sandbox: Running, tmp_path: Path) -> None:
    async with connected(toolbox_on(sandbox, tmp_path)) as client:
        result = await client.call_tool("preview_series", {"series_uid": await series_of(client, "RTSTRUCT")})

    assert result.is_error and "inspect_dicom" in text(result)


@pytest.mark.parametrize("era", ERAS)
async def test_headers_are_shown_without_what_identifies(sandbox: Running, tmp_path: Path, era: Era) -> None:
    async with connected(toolbox_on(sandbox, tmp_path), era) as client:
        uid = await series_of(client, "CT", 60)
        remote = await done(client, "inspect_dicom", {"series_uid": uid})
        folder = (await done(client, "fetch_series", {"series_uids": [uid]}))["rows"][0]["folder"]
        local = await done(client, "inspect_dicom", {"folder": folder})
        asked = await done(client, "inspect_dicom", {"folder": folder, "elements": ["PatientID"], "identifying": True})
        few = await done(client, "inspect_dicom", {"series_uid": uid, "elements": ["(0018,0050)", "Modality"]})

    for found in (remote, local):
        values = {row["name"]: row["value"] for row in found["rows"]}
        assert values["PatientID"] == values["PatientName"] == values["StudyDate"] == "(not shown)"
        assert values["Modality"] == "CT" and values["SliceThickness"] and found["hidden"] > 2
    assert [row["value"] for row in asked["rows"]] == ["PAT-0001"]
    assert {row["name"] for row in few["rows"]} == {"SliceThickness", "Modality"}


# -- Qure.ai ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
async def test_a_series_is_analysed_and_its_reports_are_saved(sandbox: Running, tmp_path: Path, era: Era) -> None:
    yes = Person("accept")

    async with connected(toolbox_on(sandbox, tmp_path), era, yes) as client:
        uid = await series_of(client, "CT", 60)
        answer = await done(client, "analyse_series", {"series_uid": uid})
        again = await done(client, "analyse_series", {"series_uid": uid})

    assert len(yes.asked) == 1, "what was sent is not sent again, so nobody is asked"
    assert uid in yes.asked[0] and "Send 60 DICOM files (8.0 MB" in yes.asked[0] and "127.0.0.1" in yes.asked[0]
    assert answer["state"] == again["state"] == "done"
    saved = Path(answer["rows"][0]["folder"])
    assert len([path for path in saved.iterdir() if path.name != "index.json"]) == answer["rows"][0]["files"] > 0


@pytest.mark.parametrize("era", ERAS)
async def test_without_a_yes_nothing_is_sent(sandbox: Running, tmp_path: Path, era: Era) -> None:
    async with connected(toolbox_on(sandbox, tmp_path), era, Person("decline")) as client:
        uid = await series_of(client, "CT", 60)
        folder = (await done(client, "fetch_series", {"series_uids": [uid]}))["rows"][0]["folder"]
        refused = await client.call_tool("analyse_series", {"folder": folder})

    assert refused.is_error and text(refused).startswith("declined:")
    assert (tmp_path / "qure-uploads.jsonl").read_bytes() == b""


@pytest.mark.parametrize("era", ERAS)
async def test_a_long_analysis_gives_a_handle_to_go_on_with(sandbox: Running, tmp_path: Path, era: Era) -> None:
    with running(tmp_path / "slow", Options(compute_seconds=1.0, stability_seconds=0.05)) as slow:
        async with connected(toolbox_on(slow, tmp_path, allow=frozenset({"send"})), era) as client:
            uid = await series_of(client, "CT", 60)
            started = await client.call_tool("analyse_series", {"series_uid": uid, "wait_seconds": 0})
            handle = (started.structured_content or {})["next"]
            finished = await done(client, handle["tool"], handle["arguments"])

    assert (started.structured_content or {})["state"] == "running"
    assert f'follow_analysis with {{"uids":["{uid}"]}}' in text(started)
    assert finished["state"] == "done"


async def test_xrays_are_analysed_image_by_image(sandbox: Running, tmp_path: Path) -> None:
    async with connected(toolbox_on(sandbox, tmp_path, allow=frozenset({"send"}))) as client:
        found = await done(client, "find_series", {"modalities": ["DX", "CR"]})
        uid = found["rows"][0]["SeriesInstanceUID"]
        started = await done(client, "analyse_series", {"series_uid": uid, "wait_seconds": 0})
        images = [row["uid"] for row in started["rows"]]
        answer = await done(client, "follow_analysis", {"images": images})
        nothing = await client.call_tool("follow_analysis", {})

    assert started["state"] == "done" or started["next"]["arguments"] == {"images": images}
    assert nothing.is_error and "/uids" in text(nothing)
    assert answer["state"] == "done"
    assert all(row["usecase"] == "qxr" and row["uid"] != uid for row in answer["rows"])


# -- CIRCUS ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A sandbox of our own, for tests that change what CIRCUS has."""
    with running(tmp_path_factory.mktemp("apart"), Options(stability_seconds=0.05)) as server:
        yield server


async def opened(client: Client, **more: Any) -> dict[str, Any]:
    """A case on a CT series of the archive."""
    uid = await series_of(client, "CT", 60)
    return await done(client, "open_case", {"series_uid": uid, "project": "Lung nodules", "tags": ["one"], **more})


@pytest.mark.parametrize("era", ERAS)
async def test_a_case_is_opened_from_a_series_that_is_sent_only_once(apart: Running, tmp_path: Path, era: Era) -> None:
    yes = Person("accept")

    async with connected(toolbox_on(apart, tmp_path), era, yes) as client:
        cases = (await done(client, "search_cases", {}))["data"]["items"]
        for case_id in [case["caseId"] for case in cases]:
            await done(client, "delete_case", {"caseId": case_id})
        await done(client, "delete_circus_series", {"seriesUid": await series_of(client, "CT", 60)})
        yes.asked.clear()
        first, second = await opened(client), await opened(client)
        case = (await done(client, "get_case", {"caseId": first["case_id"]}))["data"]

    assert first["uploaded"] and not second["uploaded"] and first["case_id"] != second["case_id"]
    assert len(yes.asked) == 1 and "Send 60 DICOM files (8.0 MB)" in yes.asked[0] and "Lung nodules" in yes.asked[0]
    assert case["tags"] == ["one"] and case["revisions"][0]["series"][0]["seriesUid"] == first["series_uid"]
    assert abs(first["volume"]["end"] - first["volume"]["start"]) == 59


async def test_a_case_is_opened_from_a_folder_too(apart: Running, tmp_path: Path) -> None:
    async with connected(toolbox_on(apart, tmp_path, allow=frozenset({"send"}))) as client:
        uid = await series_of(client, "CR")
        folder = (await done(client, "fetch_series", {"series_uids": [uid]}))["rows"][0]["folder"]
        case = await done(client, "open_case", {"folder": folder, "project": "Lung nodules"})
        parent = await client.call_tool("open_case", {"folder": str(tmp_path / "nothing"), "project": "Lung nodules"})

    assert case["series_uid"] == uid and case["uploaded"]
    assert parent.is_error and "an existing file or folder" in text(parent)


async def test_a_project_that_is_none_is_refused_with_those_there_are(sandbox: Running, tmp_path: Path) -> None:
    async with connected(toolbox_on(sandbox, tmp_path)) as client:
        uid = await series_of(client, "MR")
        result = await client.call_tool("open_case", {"series_uid": uid, "project": "nothing"})

    assert result.is_error and text(result).startswith("invalid_request") and "Lung nodules" in text(result)


@pytest.mark.parametrize("era", ERAS)
async def test_labels_are_added_read_back_and_exported(sandbox: Running, tmp_path: Path, era: Era) -> None:
    mask = np.zeros((60, 256, 256), bool)
    mask[20:23, 100:109, 50:57] = True
    np.save(tmp_path / "mask.npy", mask)
    labels = [
        {"type": "voxel", "name": "nodule", "mask_file": str(tmp_path / "mask.npy")},
        {"type": "point", "name": "centre", "location": [10.5, 20, 30]},
    ]

    async with connected(toolbox_on(sandbox, tmp_path, allow=frozenset({"send"})), era) as client:
        case = (await opened(client))["case_id"]
        added = await done(client, "add_case_labels", {"case_id": case, "labels": labels})
        again = await done(client, "add_case_labels", {"case_id": case, "labels": labels[1:]})
        stored = (await done(client, "get_case", {"caseId": case}))["data"]["revisions"][-1]["series"][0]["labels"]
        exported = await done(client, "export_case_volumes", {"case_ids": [case]})

    assert (added["revision"], added["added"], again["revision"], again["labels"]) == (1, 2, 2, 3)
    assert [label["type"] for label in stored] == ["voxel", "point", "point"]
    assert stored[0]["data"]["origin"] == [50, 100, 20] and stored[0]["data"]["size"] == [7, 9, 3]
    assert (exported["volumes"], exported["label_files"]) == (1, 1)
    with zipfile.ZipFile(exported["file"]["path"]) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("label000.raw")]
        back = np.frombuffer(archive.read(name), np.uint8).reshape(mask.shape)
    assert np.array_equal(back != 0, mask)


async def test_labels_sent_side_by_side_all_arrive(sandbox: Running, tmp_path: Path) -> None:
    async with connected(toolbox_on(sandbox, tmp_path, allow=frozenset({"send"}))) as client:
        case = (await opened(client))["case_id"]

        async def add(number: int) -> None:
            label = {"type": "point", "name": f"p{number}", "location": [number, 0, 0]}
            assert (await done(client, "add_case_labels", {"case_id": case, "labels": [label]}))["verified"]

        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(add, number)
        revisions = (await done(client, "get_case", {"caseId": case}))["data"]["revisions"]

    assert len(revisions) == 7
    assert {label["name"] for label in revisions[-1]["series"][0]["labels"]} == {f"p{number}" for number in range(6)}


async def test_a_label_that_cannot_be_is_refused_before_anything_is_stored(sandbox: Running, tmp_path: Path) -> None:
    np.save(tmp_path / "large.npy", np.ones((2, 300, 2), np.uint8))
    np.save(tmp_path / "flat.npy", np.ones((2, 3), np.uint8))

    async with connected(toolbox_on(sandbox, tmp_path, allow=frozenset({"send"}))) as client:
        case = (await opened(client))["case_id"]
        texts = []
        for label in (
            {"type": "cuboid", "min": [0, 0, 0]},
            {"type": "voxel", "mask_file": str(tmp_path / "large.npy")},
            {"type": "voxel", "mask_file": str(tmp_path / "flat.npy")},
            {"type": "voxle"},
        ):
            result = await client.call_tool("add_case_labels", {"case_id": case, "labels": [label]})
            assert result.is_error
            texts.append(text(result))
        revisions = (await done(client, "get_case", {"caseId": case}))["data"]["revisions"]

    for found, wanted in zip(
        texts, ("/labels/0/max", "inside the volume", "2 dimensions", "Did you mean voxel?"), strict=True
    ):
        assert found.startswith("invalid_request") and wanted in found
    assert len(revisions) == 1


@pytest.mark.parametrize("era", ERAS)
async def test_tags_are_added_without_and_removed_with_a_question(sandbox: Running, tmp_path: Path, era: Era) -> None:
    person = Person("accept")

    async with connected(toolbox_on(sandbox, tmp_path, allow=frozenset({"send"})), era, person) as client:
        cases = [(await opened(client))["case_id"] for _ in range(2)]
        await done(client, "tag_cases", {"case_ids": cases, "add": ["two", "three"]})
        asked_for_adding = len(person.asked)
        await done(client, "tag_cases", {"case_ids": cases, "remove": ["one"]})
        tags = [(await done(client, "get_case", {"caseId": case}))["data"]["tags"] for case in cases]
        nothing = await client.call_tool("tag_cases", {"case_ids": cases})

    assert asked_for_adding == 0
    assert len(person.asked) == 1 and "Remove the tags one from 2 CIRCUS cases" in person.asked[0]
    assert cases[0] in person.asked[0] and tags == [["two", "three"]] * 2
    assert nothing.is_error and "add, remove or both" in text(nothing)


@pytest.mark.parametrize("era", ERAS)
async def test_an_export_that_takes_long_gives_a_handle(sandbox: Running, tmp_path: Path, era: Era) -> None:
    async with connected(toolbox_on(sandbox, tmp_path, allow=frozenset({"send"})), era) as client:
        case = (await opened(client))["case_id"]
        started = await done(client, "export_case_volumes", {"case_ids": [case], "wait_seconds": 0})
        if started["state"] == "running":
            started = await done(client, started["next"]["tool"], started["next"]["arguments"])

    assert started["state"] == "done" and Path(started["file"]["path"]).is_file()


# -- side by side, and cut short -------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
async def test_a_slow_workflow_holds_nobody_up(sandbox: Running, tmp_path: Path, era: Era) -> None:
    with running(tmp_path / "slow", Options(compute_seconds=1.0, stability_seconds=0.05)) as slow:
        async with connected(toolbox_on(slow, tmp_path, allow=frozenset({"send"})), era) as client:
            uid = await series_of(client, "CT", 60)
            await client.call_tool("analyse_series", {"series_uid": uid, "wait_seconds": 0})
            order: list[str] = []

            async def follow() -> None:
                await done(client, "follow_analysis", {"uids": [uid]})
                order.append("followed")

            async with anyio.create_task_group() as group:
                group.start_soon(follow)
                for _ in range(3):
                    await done(client, "find_series", {"modalities": ["CT"]})
                    order.append("found")

    assert order == ["found"] * 3 + ["followed"]


@pytest.mark.parametrize("era", ERAS)
async def test_labels_that_are_cancelled_leave_the_case_as_it_was(sandbox: Running, tmp_path: Path, era: Era) -> None:
    np.save(tmp_path / "mask.npy", np.ones((2, 2, 2), np.uint8))
    label = {"type": "voxel", "mask_file": str(tmp_path / "mask.npy")}

    async with connected(toolbox_on(sandbox, tmp_path, allow=frozenset({"send"})), era) as client:
        case = (await opened(client))["case_id"]
        async with anyio.create_task_group() as group:

            async def on_progress(progress: float, total: float | None, message: str | None) -> None:
                group.cancel_scope.cancel()

            await client.call_tool(
                "add_case_labels", {"case_id": case, "labels": [label] * 50}, progress_callback=on_progress
            )
        added = await done(client, "add_case_labels", {"case_id": case, "labels": [label]})

    assert group.cancel_scope.cancelled_caught
    assert added["revision"] == 1 and added["labels"] == 1


async def test_files_outside_the_allowed_folders_are_refused(sandbox: Running, tmp_path: Path) -> None:
    (tmp_path / "allowed").mkdir()
    (tmp_path / "other").mkdir()
    toolbox = toolbox_on(sandbox, tmp_path / "downloads", roots=(tmp_path / "allowed",))

    async with connected(toolbox) as client:
        results = [
            await client.call_tool("inspect_dicom", {"folder": str(tmp_path / name)})
            for name in ("other", "nothing", "allowed")
        ]

    assert ["one of the folders the operator allows" in text(result) for result in results] == [True, True, False]


async def test_read_only_leaves_only_what_reads(sandbox: Running, tmp_path: Path) -> None:
    async with connected(toolbox_on(sandbox, tmp_path, read_only=True)) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}

    assert {workflow.name for workflow in WORKFLOWS} & names == {
        *("find_series", "fetch_series", "preview_series", "inspect_dicom", "follow_analysis"),
    }
