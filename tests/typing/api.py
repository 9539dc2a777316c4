"""Ordinary use of the library, read by `mypy --strict` and never executed: it breaks when the experience does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, assert_type

import httpx

import isocenter_clients
from isocenter.core import (
    ApiClient,
    Checks,
    Contract,
    ContractViolation,
    Credentials,
    FileSource,
    Finding,
    InvalidRequest,
    IsocenterError,
    Limits,
    Operation,
    Result,
    SavedFile,
    StatusError,
)
from isocenter_clients.circus import CircusClient
from isocenter_clients.qure import QureClient, QureSyncClient
from isocenter_clients.qure import models as qure_models
from isocenter_clients.tcia import TciaClient, TciaSyncClient
from isocenter_clients.tcia import models as tcia_models


async def search_and_download(folder: Path) -> SavedFile | None:
    async with TciaClient() as tcia:
        found = await tcia.get_series(collection="LIDC-IDRI", modality="CT", format="JSON")
        assert_type(found, Result[list[tcia_models.Series] | str])
        if isinstance(found.value, str):
            return None
        first: tcia_models.Series = found.value[0]
        assert_type(first.series_instance_uid, str)
        assert_type(first.image_count, int)
        assert_type(first.modality, str | None)

        async def show(done: int, total: int | None) -> None:
            print(done, total)

        saved = await tcia.get_image(series_instance_uid=first.series_instance_uid, save_to=folder, progress=show)
        assert_type(saved, Result[bytes | None])
        return saved.file


def without_an_event_loop() -> None:
    with TciaSyncClient("http://127.0.0.1:8765/nbia-api/services/v4") as tcia:
        rows = tcia.get_series(patient_id="PAT-0001")
        assert_type(rows.value, list[tcia_models.Series] | str)
        assert_type(rows.data, Any)
        assert_type(rows.drift, tuple[Finding, ...])
    tcia.close()


async def upload(paths: Sequence[Path], token: str) -> qure_models.UploadStudiesResponse:
    credentials = Credentials({"token": token, "source": "workspace"})
    async with QureClient(credentials=credentials, limits=Limits(tries=1), roots=(Path("/data"),)) as qure:
        sent = await qure.upload_studies(files=[*paths, "scan.dcm", b"DICM", FileSource(4, content=b"DICM")])
        await qure.upload_studies(files=paths, content_type="multipart/related")
        return sent.value


def wrong_use(qure: QureSyncClient) -> None:
    qure.upload_studies()  # type: ignore[call-arg]  # files are required
    qure.upload_studies(files=["a"], content_type="text/plain")  # type: ignore[arg-type]
    qure.upload_studies(["a"])  # type: ignore[call-arg]  # arguments have names


async def errors(circus: CircusClient) -> str:
    try:
        await circus.get_case(case_id="01j5x8k2m4n6p7q9r0s1t2v3w4")
    except StatusError as error:
        assert_type(error.status, int)
        return str(error.result.data)
    except (InvalidRequest, ContractViolation) as error:
        assert_type(error.findings, tuple[Finding, ...])
        return "\n".join(finding.sentence() for finding in error.findings)
    except IsocenterError as error:
        assert_type(error.retryable, bool)
        return error.code
    return ""


async def any_contract(document: dict[str, Any], transport: httpx.AsyncBaseTransport) -> Any:
    contract = Contract(document)
    operation: Operation = contract.operation("getThing")
    findings: list[Finding] = operation.check({"id": 1})
    mode: Literal["strict", "report", "off"] = "report"
    checks = Checks(response=mode, operations={"getThing": (None, "off")})
    async with ApiClient(contract, base_url="https://x.test", transport=transport, checks=checks) as client:
        result: Result[Any] = await client.call(operation, {"id": 1}, save_to=Path("here"))
    assert_type(isocenter_clients.contract("tcia"), Contract)
    return findings or result.data
