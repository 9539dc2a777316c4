"""`dicomweb-client`: uploads to Qure.ai in the strict form of DICOM PS3.18, once in one piece and once in chunks.

Called with further arguments: the DICOM files. TOKEN and SOURCE of the environment open the service.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any

import pydicom
import requests
from clients.harness import SANDBOX, check, finish
from dicomweb_client import DICOMwebClient

answers: list[requests.Response] = []


def keep(response: requests.Response, *_: Any, **__: Any) -> None:
    """Remember an answer before the client reads it."""
    answers.append(response)


datasets = [pydicom.dcmread(path) for path in sys.argv[3:]]
series = str(datasets[0].SeriesInstanceUID)
session = requests.Session()
session.hooks["response"].append(keep)
headers = {"Authorization": f"Token {os.environ['TOKEN']}", "Source": os.environ["SOURCE"]}
client = DICOMwebClient(f"{SANDBOX}/qure", session=session, headers=headers)

for stored, chunks in ((1, 1 << 30), (len(datasets), 1 << 12)):
    client.set_chunk_size(chunks)
    # The upload is over when this is raised: Qure.ai's answer is JSON, but not the JSON of DICOMweb.
    with suppress(TypeError):
        client.store_instances(datasets[:stored])
    sent, answer = answers[-1].request, answers[-1].json()
    check("a quoted type", 'type="application/dicom"' in str(sent.headers["Content-Type"]))
    check("chunked", sent.headers.get("Transfer-Encoding"), "chunked" if stored > 1 else None)
    check("status", answers[-1].status_code, 200)
    check("series", answer["series_instance_uids"], [series])
    check(
        "instances", answer["detailed_info"], [{"SeriesInstanceUID": series, "NumberOfSeriesRelatedInstances": stored}]
    )
    created = [message["created"] for message in answer["messages"].values()]
    check("new instances", created, [stored == 1] + [True] * (stored - 1))

finish()
