"""STOW-RS: DICOM files to any DICOMweb server (PS3.18 section 10.5), the response's list of failures honoured.

The contract of the one operation stands here: it belongs to a standard, not to a service, and no tool is made of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import anyio

from isocenter.core import ApiClient, Contract, FileSource, IsocenterError, Result
from isocenter.core.http import Transport
from isocenter.transfer.patience import TRIES, Pause
from isocenter.transfer.scan import LocalInstance, LocalSeries
from isocenter.transfer.upload import AT_ONCE, Answers, Journal, SeriesUploaded, destination_of, send_all


class Insecure(IsocenterError):
    """Credentials would go over the network in the clear; nothing was sent."""

    code = "insecure"


STORED, FAILED, SOP_UID, REASON = "00081199", "00081198", "00081155", "00081197"
REASONS = {  # PS3.18 table 10.5.3-1, PS3.4 annex B.2.3
    0x0110: "processing failure",
    0x0122: "SOP class not supported",
    0x0124: "not authorised",
    0xA700: "out of resources",
    0xA900: "the data do not match the SOP class",
    0xC000: "cannot be understood",
    0xC122: "transfer syntax not supported",
}

_ATTRIBUTE: dict[str, Any] = {
    "type": "object",
    "description": "An attribute in the DICOM JSON model (PS3.18 annex F).",
    "required": ["vr"],
    "properties": {
        "vr": {"type": "string", "description": "Value representation."},
        "Value": {"type": "array", "description": "Values."},
        "BulkDataURI": {"type": "string", "description": "Where the value is."},
        "InlineBinary": {"type": "string", "description": "The value, base64."},
    },
    "additionalProperties": True,
}
_RESPONSE = {
    "description": "What became of the instances.",
    "x-outcome": "success",
    "x-empty-body": {},
    "content": {"application/dicom+json": {"schema": {"$ref": "#/components/schemas/Stored"}}},
}
_REFUSED = {"description": "The request is refused.", "content": {"*/*": {"schema": {"type": "string"}}}}


@cache
def contract() -> Contract:
    """The contract of storing instances. Statuses are those of PS3.18 table 10.5.3-1: 409 says that all failed, 202 that some did."""
    return Contract(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "DICOMweb STOW-RS",
                "version": "2026",
                "x-isocenter": {"api": "dicomweb", "dialect": 1},
            },
            "servers": [{"url": "http://127.0.0.1:8042/dicom-web"}],
            "paths": {
                "/studies": {
                    "post": {
                        "operationId": "storeInstances",
                        "security": [{"token": []}, {"basic": []}, {}],
                        "requestBody": {
                            "required": True,
                            "content": {
                                "multipart/related": {
                                    "schema": {"$ref": "#/components/schemas/Instances"},
                                    "encoding": {"files": {"contentType": "application/dicom"}},
                                }
                            },
                        },
                        "responses": {
                            "200": _RESPONSE,
                            "202": _RESPONSE,
                            "409": _RESPONSE,
                            "4XX": _REFUSED,
                            "5XX": {**_REFUSED, "description": "The server failed."},
                        },
                    }
                }
            },
            "components": {
                "securitySchemes": {
                    "token": {"type": "http", "scheme": "bearer", "x-credential": "token"},
                    "basic": {"type": "http", "scheme": "basic", "x-credential": "basic"},
                },
                "schemas": {
                    "Instances": {
                        "type": "object",
                        "required": ["files"],
                        "properties": {
                            "files": {
                                "type": "array",
                                "minItems": 1,
                                "items": {"type": "string", "contentMediaType": "application/dicom"},
                                "x-part-name": "file_{index}",
                            }
                        },
                    },
                    "Attribute": _ATTRIBUTE,
                    "Stored": {
                        "oneOf": [
                            {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Attribute"}},
                            {  # some servers wrap the one dataset into a list
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "additionalProperties": {"$ref": "#/components/schemas/Attribute"},
                                },
                            },
                        ]
                    },
                },
            },
        }
    )


async def store_to_dicomweb(
    base_url: str,
    series: Iterable[LocalSeries],
    *,
    credentials: Mapping[str, str] | None = None,
    journal: Journal | None = None,
    progress: Callable[[int], None] | None = None,
    on_series: Callable[[SeriesUploaded], None] | None = None,
    at_once: int = AT_ONCE,
    tries: int = TRIES,
    pause: Pause = anyio.sleep,
    transport: Transport | None = None,
) -> list[SeriesUploaded]:
    """Store series on the DICOMweb server whose studies are at `base_url`/studies.

    `credentials`: `token` (bearer) or `basic` (`user:password`); never sent over plain http but to this machine. An instance counts as
    stored only when the answer lists it in (0008,1199): servers have been seen to answer 200 and keep nothing. The rest is as with
    `upload_to_qure`.
    """
    if credentials and not re.match(r"https://|http://(localhost|127\.|\[::1\])", base_url):
        raise Insecure(f"{base_url}: credentials are not sent over plain http. Use https.")
    async with ApiClient(contract(), base_url=base_url, credentials=credentials, transport=transport) as server:

        async def send(batch: list[LocalInstance]) -> Answers:
            files = [FileSource(instance.size, path=instance.path) for instance in batch]
            answer: Result[Any] = await server.call("storeInstances", {"files": files})
            return _answers(batch, answer.data)

        return await send_all(
            series, send, destination_of(base_url, ""), journal, progress, on_series, at_once, tries, pause
        )


def _answers(batch: list[LocalInstance], data: Any) -> Answers:
    datasets = data if isinstance(data, list) else [data or {}]
    stored = {uid for dataset in datasets for uid, _ in _items(dataset, STORED)}
    failed = {uid: reason for dataset in datasets for uid, reason in _items(dataset, FAILED)}
    answers = {}
    for instance in batch:
        uid = instance.sop_instance_uid
        if uid in failed:
            words = REASONS.get(failed[uid], REASONS.get(failed[uid] & 0xFF00, "refused"))
            answers[uid] = f"{words} ({failed[uid]:04X}H)"
        else:
            answers[uid] = "" if uid in stored else "The answer does not mention it."
    return answers


def _items(dataset: Mapping[str, Any], sequence: str) -> list[tuple[str, int]]:
    """SOPInstanceUID and failure reason of the items of a sequence; what has no UID is left out."""
    found = []
    for item in dataset.get(sequence, {}).get("Value") or []:
        uid = (item.get(SOP_UID, {}).get("Value") or [""])[0] if isinstance(item, dict) else ""
        if uid:
            reason = (item.get(REASON, {}).get("Value") or [0])[0]
            found.append((uid, reason if isinstance(reason, int) else 0))
    return found
