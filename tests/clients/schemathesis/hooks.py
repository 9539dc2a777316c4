"""What Schemathesis cannot know about the sandbox and the dialect of the specifications; it loads this file itself.

`ISOCENTER_SCHEMATHESIS` names the JSON file that `run` wrote: the API, files to upload, and where operations that have a
server of their own are. Requests are sent and answers are read as our own clients do it; no specification gets weaker.
"""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.generation.meta import CONTENT_TYPE_PROBES, CoverageScenario, coverage_scenario
from schemathesis.transport import register_serializer

CONTEXT = json.loads(Path(os.environ["ISOCENTER_SCHEMATHESIS"]).read_text(encoding="utf-8"))
FILES = {kind: [base64.b64decode(file) for file in files] for kind, files in CONTEXT["files"].items()}
STANDS_FOR_BYTES = re.compile(r"\(?bytes of .*")
"""Examples cannot hold bytes; the text in their place says what they are."""
CLOSING = {"additionalProperties", "unevaluatedProperties"}

Json = Any


# --- what is sent -----------------------------------------------------------------------------------------------------


def _dates(form: str) -> st.SearchStrategy[str]:
    return st.dates().map(lambda day: form.format(y=day.year, m=day.month, d=day.day))


def _uid(components: list[int]) -> str:
    text = "2.25"
    for component in components:
        if len(text) + 1 + len(str(component)) <= 64:
            text += f".{component}"
    return text


FORMATS: dict[str, st.SearchStrategy[Any]] = {
    "dicom-uid": st.lists(st.integers(0, 10**30), max_size=4).map(_uid),
    "us-date": _dates("{m:02}-{d:02}-{y:04}"),
    "slash-date": _dates("{y:04}/{m:02}/{d:02}"),
    "euro-slash-date": _dates("{d:02}/{m:02}/{y:04}"),
    "dicom-date": _dates("{y:04}{m:02}{d:02}"),
    "sha1": st.binary(min_size=20, max_size=20).map(bytes.hex),
    **{kind: st.sampled_from(files) | st.binary(max_size=200) for kind, files in FILES.items()},
}
for name, strategy in FORMATS.items():
    schemathesis.openapi.format(name, strategy)


@schemathesis.hook
def before_init_operation(context: schemathesis.HookContext, operation: Any) -> None:
    """An operation with a server of its own is served somewhere else, also by the sandbox."""
    operation_id = operation.definition.raw["operationId"]
    operation.base_url = CONTEXT["servers"].get(operation_id, operation.base_url)


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Put real files where an example says that there are some, and keep the token that the requests themselves carry."""
    if case.path_parameters.get("tokenId") == CONTEXT["own_token"]:
        case.path_parameters["tokenId"] = "0" * 40

    def filled(value: Json, kind: str) -> Json:
        if isinstance(value, list):
            return [filled(item, kind) for item in value]
        return FILES[kind][0] if isinstance(value, str) and STANDS_FOR_BYTES.fullmatch(value) else value

    if isinstance(case.body, dict) and (case.media_type or "").startswith("multipart/"):
        for name, value in case.body.items():
            case.body[name] = filled(value, "image/png" if name == "image" else "application/dicom")


def multipart_related(context: schemathesis.SerializationContext, value: Json) -> dict[str, Any]:
    """The form that every DICOM server reads: the type in quotes, a name and a media type for each part."""
    files = value.get("files", ()) if isinstance(value, dict) else ()
    body = bytearray()
    for index, file in enumerate(files if isinstance(files, list) else [files]):
        data = getattr(file, "data", file)
        body += b'--isocenter\r\nContent-Disposition: form-data; name="file_%d"; filename="%d.dcm"\r\n' % (index, index)
        body += b"Content-Type: application/dicom\r\n\r\n"
        body += (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary=isocenter'
    return {"data": bytes(body) + b"--isocenter--\r\n", "headers": {"Content-Type": kind}}


register_serializer(multipart_related, "multipart/related")


@schemathesis.serializer("application/dicom", "application/zip", "image/png", "image/jpeg")
def file_part(context: schemathesis.SerializationContext, value: Json) -> bytes:
    """A part that should be a file; what Schemathesis puts there to be refused need not be one."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


# --- what comes back --------------------------------------------------------------------------------------------------


def _documented(operation: Any, response: schemathesis.Response) -> dict[str, Json]:
    found = operation.responses.find_by_status_code(response.status_code)
    return found.definition if found is not None else {}


@schemathesis.hook
def after_call(context: schemathesis.HookContext, case: schemathesis.Case, response: schemathesis.Response) -> None:
    """An empty body stands for what `x-empty-body` says."""
    documented = _documented(case.operation, response)
    if "x-empty-body" in documented and not response.content:
        response.content = json.dumps(documented["x-empty-body"]).encode()
        response.headers["content-type"] = ["application/json"]


@schemathesis.deserializer("application/json")
def read_json(context: schemathesis.DeserializationContext, response: schemathesis.Response) -> Json:
    """JSON, unless the media type says `x-wire-format: text`."""
    media = _documented(context.operation, response).get("content", {}).get("application/json", {})
    return response.text if media.get("x-wire-format") == "text" else response.json()


@schemathesis.check
def server_error_is_documented(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """In place of `not_a_server_error`: these services answer 5xx on purpose, but only where the specification says so."""
    if CONTEXT["api"] == "circus" and coverage_scenario(case) in CONTENT_TYPE_PROBES:
        # It reads the body before it looks at the path, and 500 is its answer to a multipart body without a boundary.
        return
    if response.status_code >= 500 and str(response.status_code) not in case.operation.responses.status_codes:
        raise AssertionError(f"{response.status_code} is not documented: {response.text[:200]}")


@schemathesis.check
def valid_request_is_no_server_error(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """What the specification allows to be sent must not break the server, documented or not."""
    valid = case.meta is not None and case.meta.generation.mode.is_positive
    if valid and response.status_code >= 500:
        raise AssertionError(f"a valid request is answered {response.status_code}: {response.text[:200]}")


@schemathesis.check
def missing_input_is_refused(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """The part of `negative_data_rejection` that holds also for services that take odd values."""
    missing = (CoverageScenario.MISSING_PARAMETER, CoverageScenario.OBJECT_MISSING_REQUIRED_PROPERTY)
    if coverage_scenario(case) in missing and response.status_code < 400:
        raise AssertionError(f"a request without something required is answered {response.status_code}")


@schemathesis.hook
def filter_failure(
    context: schemathesis.HookContext, failure: Failure, case: schemathesis.Case, response: schemathesis.Response
) -> bool:
    """Requests are closed so that clients cannot misspell a name; a service that ignores what it does not know breaks nothing."""
    if not isinstance(failure, AcceptedNegativeData) or case.meta is None:
        return True
    mutations = getattr(case.meta.phase.data, "mutations", ())
    added = mutations and all(set(mutation.keywords) <= CLOSING for mutation in mutations)
    return not (added or coverage_scenario(case) == CoverageScenario.OBJECT_UNEXPECTED_PROPERTIES)
