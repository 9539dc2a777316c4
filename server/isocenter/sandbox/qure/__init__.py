"""The sandbox's Qure.ai: upload, computation, results and result files, with the answers of the API reference.

Two workspaces exist. The one of the sandbox's credentials has "stability" off: a CT needs an explicit `compute`. The
other one, named like it with `-stability` at the end and reached with the same token, starts a CT by itself once no new
instance arrived for `Options.stability_seconds`. Radiographs start at once in both. `work` does the computations.

The older generation of the API, to which the documented upload script belongs, knows no `Source` header: its tokens belong
to a workspace. `legacy_token` of the credentials is such a token, of the first workspace.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any
from xml.sax.saxutils import escape

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from isocenter.sandbox.multipart import MalformedMultipart
from isocenter.sandbox.qure import work as qure_work
from isocenter.sandbox.qure.upload import Part, receive
from isocenter.sandbox.state import Sandbox

log = logging.getLogger("isocenter.sandbox")

SCHEMA = """
CREATE TABLE IF NOT EXISTS qure_setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS qure_workspace (source TEXT PRIMARY KEY, stability INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS qure_instance (
  source TEXT NOT NULL,
  sop_instance_uid TEXT NOT NULL,
  series_instance_uid TEXT NOT NULL,
  PRIMARY KEY (source, sop_instance_uid)
);
CREATE INDEX IF NOT EXISTS qure_instance_series ON qure_instance (series_instance_uid, source);
CREATE TABLE IF NOT EXISTS qure_job (
  id INTEGER PRIMARY KEY,
  source TEXT NOT NULL,
  uid TEXT NOT NULL,
  series_instance_uid TEXT NOT NULL,
  usecase TEXT NOT NULL,
  answer TEXT NOT NULL DEFAULT '',
  state TEXT NOT NULL,
  reason TEXT NOT NULL DEFAULT '',
  run INTEGER NOT NULL DEFAULT 1,
  due REAL,
  triage TEXT NOT NULL DEFAULT '',
  result TEXT NOT NULL DEFAULT '{}',
  findings TEXT NOT NULL DEFAULT '{}',
  UNIQUE (source, uid)
);
CREATE TABLE IF NOT EXISTS qure_file (
  id TEXT PRIMARY KEY,
  job_id INTEGER NOT NULL REFERENCES qure_job (id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  kind TEXT NOT NULL,
  media_type TEXT NOT NULL,
  path TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS qure_file_job ON qure_file (job_id, position);
"""
# qure_job: `uid` is the SOPInstanceUID for radiographs and the SeriesInstanceUID otherwise; `usecase` what is computed,
# `answer` the use case found; `due` the time (Unix seconds) at which the series counts as complete; `run` grows with
# every computation. qure_file.path is relative to the data directory.

STABILITY_SUFFIX = "-stability"
URL_SECONDS = 15 * 60

_CHEST, _HEAD = ("CHEST", "THORAX", "LUNG"), ("HEAD", "BRAIN", "SKULL", "CRANI")
_AUTH_401 = {
    "message": "Invalid token header. No credentials provided.",
    "next": "/accounts/login/",
    "authenticated": False,
}
_DENIED_403 = {"success": False, "message": "Access denied!"}
_NO_DICOM = "No DICOM files were uploaded!"
_PENDING = ("uploaded", "queued", "processing")
_Handler = Callable[[Request, str], Awaitable[Response]]


def usecase(header: dict[str, str]) -> str:
    """qxr, qct, qer, "ct" (a CT whose body region the header does not tell), or "" where there is no use case."""
    if header.get("Modality") in ("DX", "CR"):
        return "qxr"
    if header.get("Modality") != "CT":
        return ""
    region = header.get("BodyPartExamined", "").upper()
    if not region:
        region = " ".join(
            header.get(name, "") for name in ("ProtocolName", "SeriesDescription", "StudyDescription")
        ).upper()
        if not any(word in region for word in _CHEST + _HEAD):
            return "ct"
    return "qct" if any(word in region for word in _CHEST) else "qer" if any(word in region for word in _HEAD) else ""


class _Service:
    """The operations of one sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox, self.db, self.archive = sandbox, sandbox.db, sandbox.archive("qure")
        self.work = qure_work.background(sandbox).work

    async def upload(self, request: Request, source: str) -> Response:
        try:
            parts = await receive(request, self.archive)
        except MalformedMultipart as error:
            multipart = request.headers.get("content-type", "").lower().startswith("multipart/")
            message = f"Multipart form parse error - {error}" if multipart else _NO_DICOM
            return JSONResponse({"message": message}, 400)
        try:
            good = [part for part in parts if not part.error]
            if not good:
                return JSONResponse({"message": _NO_DICOM}, 400)
            store = partial(self.archive.store, [part.incoming for part in good])
            for part, ingested in zip(good, await anyio.to_thread.run_sync(store), strict=True):
                if ingested.instance.sha256 != part.incoming.parsed.instance.sha256:
                    part.error = "Another file with this SOPInstanceUID is registered already."
        finally:
            for part in parts:
                part.incoming.discard()
        return self._registered(source, parts)

    def _registered(self, source: str, parts: list[Part]) -> Response:
        messages: dict[str, Any] = {}
        series: dict[str, int] = {}
        cases: dict[str, str] = {}
        with self.sandbox.transaction():
            for part in parts:
                created = False
                if not part.error:
                    instance = part.incoming.parsed.instance
                    uid = instance.series_instance_uid
                    if uid not in cases:
                        stored = self.archive.series(uid)
                        cases[uid] = usecase(stored.header if stored else {})
                    created = self._register(source, uid, instance.sop_instance_uid, cases[uid])
                messages[part.name] = {
                    "message": part.error or "DICOM registered successfully.",
                    "created": created,
                    "license_expired": False,
                    "metadata": {},
                }
            for uid in cases:
                count = "SELECT count(*) FROM qure_instance WHERE source = ? AND series_instance_uid = ?"
                series[uid] = self.db.execute(count, (source, uid)).fetchone()[0]
        self.work.set()
        if not series:
            return JSONResponse({"message": _NO_DICOM}, 400)
        details = [{"SeriesInstanceUID": uid, "NumberOfSeriesRelatedInstances": n} for uid, n in series.items()]
        return JSONResponse(
            {
                "message": "Success",
                "status": "success",
                "messages": messages,
                "series_instance_uids": list(series),
                "detailed_info": details,
            }
        )

    def _register(self, source: str, series_uid: str, sop_uid: str, case: str) -> bool:
        """Enter one stored instance in the workspace and make or postpone its job. Returns whether it is new there."""
        added = self.db.execute(
            "INSERT INTO qure_instance (source, sop_instance_uid, series_instance_uid) VALUES (?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            (source, sop_uid, series_uid),
        )
        if not added.rowcount:
            return False
        state = "queued" if case == "qxr" else "uploaded" if case else "unsupported"
        self.db.execute(
            "INSERT INTO qure_job (source, uid, series_instance_uid, usecase, state, reason) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            (source, sop_uid if case == "qxr" else series_uid, series_uid, case, state, "Validity not determined yet!"),
        )
        if case not in ("", "qxr"):
            # A complete series that grows is no longer complete: with stability on it is waited for and computed again.
            self.db.execute(
                "UPDATE qure_job SET run = run + (state != 'uploaded'), state = 'uploaded', due = ?"
                " WHERE source = ? AND uid = ? AND source IN (SELECT source FROM qure_workspace WHERE stability)",
                (self.sandbox.now().timestamp() + self.sandbox.options.stability_seconds, source, series_uid),
            )
        return True

    async def compute(self, request: Request, source: str) -> Response:
        uid, recompute = request.path_params["uid"], False
        if body := await request.body():
            try:
                recompute = json.loads(body).get("recompute", False)
            except (ValueError, AttributeError, RecursionError):
                return JSONResponse({"success": False, "message": "The body is not a JSON object."}, 400)
        job = self._job(source, uid)
        if job is None or job["uid"] != job["series_instance_uid"]:
            known = "SELECT 1 FROM qure_instance WHERE source = ? AND series_instance_uid = ?"
            if self.db.execute(known, (source, uid)).fetchone():  # radiographs, which start by themselves
                return Response(status_code=304)
            message = f"Resource with SeriesInstanceUID {uid} is not yet uploaded!"
            return JSONResponse({"success": False, "message": message}, 404)
        if job["state"] != "uploaded" and not (recompute is True and job["state"] not in _PENDING):
            return Response(status_code=304)
        with self.sandbox.transaction():
            self.db.execute(
                "UPDATE qure_job SET run = run + (state != 'uploaded'), state = 'queued', due = NULL WHERE id = ?",
                (job["id"],),
            )
        self.work.set()
        return JSONResponse({"message": "series_instance_uid successfully pushed for computation!", "success": True})

    async def results(self, request: Request, source: str) -> Response:
        uid = request.path_params["uid"]
        job = self._job(source, uid)
        if job is None:
            message = f"Resource with sopInstanceUID {uid} is not yet uploaded!"
            return JSONResponse({"success": False, "message": message}, 404)
        if job["state"] == "uploaded" and job["due"] is None:
            message = (
                f"Series with resource_uid {uid} has not yet been invoked for computation."
                f" You can invoke by doing a GET on base_url/compute/{uid}."
            )
            return JSONResponse({"success": False, "message": message}, 409)
        if job["state"] in _PENDING:
            message = f"Resource with sopInstanceUID {uid} is under process. Please check back in some time."
            return JSONResponse({"success": False, "message": message}, 202)
        if job["state"] != "done":
            series = self.archive.series(job["series_instance_uid"])
            refused = {
                "success": False,
                "message": "Use case not implemented",
                "seriesInstanceUID": job["series_instance_uid"],
                "accessionNumber": series.header.get("AccessionNumber", "") if series else "",
                "debug_info": {"reason": job["reason"]},
                "result": {},
            }
            return JSONResponse(refused, 400)
        # The examples of this version have "critical" and "Routine".
        return self._result(request, job, triage=job["triage"].replace("Critical", "critical"))

    async def results_v2(self, request: Request, source: str) -> Response:
        uid = request.path_params["uid"]
        owners = "SELECT source FROM qure_instance WHERE sop_instance_uid = ?"
        sources = [row["source"] for row in self.db.execute(owners, (uid,))]
        if source not in sources:
            return PlainTextResponse("Forbidden", 403) if sources else Response(status_code=404)
        job = self._job(source, uid)
        if job is None or job["uid"] != uid or job["state"] == "unsupported":
            return PlainTextResponse("not implemented", 400)
        if job["state"] in _PENDING:
            return JSONResponse({"reason": "processing not started"}, 202)
        if job["state"] == "failed":
            return Response(status_code=500)
        return self._result(request, job, triage=job["triage"], status=206 if job["state"] == "invalid" else 200)

    def _job(self, source: str, uid: str) -> sqlite3.Row | None:
        """The job of a UID in a workspace; for an instance of no use case that of its series."""
        row: sqlite3.Row | None = self.db.execute(
            "SELECT * FROM qure_job WHERE source = :source AND (uid = :uid OR state = 'unsupported' AND uid ="
            " (SELECT series_instance_uid FROM qure_instance WHERE source = :source AND sop_instance_uid = :uid))",
            {"source": source, "uid": uid},
        ).fetchone()
        return row

    def _result(self, request: Request, job: sqlite3.Row, *, triage: str, status: int = 200) -> Response:
        """The finished result with new URLs."""
        expires = int(self.sandbox.now().timestamp()) + URL_SECONDS
        if self.sandbox.fault("qure", "expired-urls"):
            expires -= URL_SECONDS + 1
        files: dict[str, list[str]] = {}
        for row in self.db.execute("SELECT id, kind FROM qure_file WHERE job_id = ? ORDER BY position", (job["id"],)):
            opaque = row["id"] + secrets.token_hex(8)
            query = f"expires={expires}&signature={self._signature(opaque, expires)}"
            url = f"{self.sandbox.base_url(request)}/qure/files/{opaque}?{query}"
            files.setdefault(row["kind"], []).append(url)
        return JSONResponse(
            {
                "success": True,
                "message": "Results retrieved successfully!",
                "triage_status": triage,
                "result": {**json.loads(job["result"]), "files": files},
                "usecase": job["answer"],
            },
            status,
        )

    def _signature(self, opaque: str, expires: int) -> str:
        key = self.db.execute("SELECT value FROM qure_setting WHERE name = 'signing key'").fetchone()[0]
        return hmac.new(key.encode(), f"{opaque}\n{expires}".encode(), hashlib.sha256).hexdigest()

    async def file(self, request: Request) -> Response:
        """One result file, or an error in the manner of the object store that the real service links to."""
        opaque, expires = request.path_params["opaque"], request.query_params.get("expires", "")
        seconds = int(expires) if expires.isascii() and expires.isdigit() and len(expires) < 12 else 0
        expected = self._signature(opaque, seconds)
        if not hmac.compare_digest(expected.encode(), request.query_params.get("signature", "").encode()):
            return _object_store_error(403, "SignatureDoesNotMatch", "The signature does not match the request.")
        now = self.sandbox.now()
        if now.timestamp() >= seconds:
            times = {"Expires": datetime.fromtimestamp(seconds, UTC), "ServerTime": now}
            stamps = {name: time.strftime("%Y-%m-%dT%H:%M:%SZ") for name, time in times.items()}
            return _object_store_error(403, "AccessDenied", "Request has expired", **stamps)
        row = self.db.execute("SELECT path, media_type FROM qure_file WHERE id = ?", (opaque[:32],)).fetchone()
        if row is None or not (self.sandbox.root / row["path"]).is_file():
            return _object_store_error(404, "NoSuchKey", "The specified key does not exist.")
        return FileResponse(self.sandbox.root / row["path"], media_type=row["media_type"])


def _object_store_error(status: int, code: str, message: str, **details: str) -> Response:
    inside = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in details.items())
    body = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message>{inside}</Error>"
    return Response(f'<?xml version="1.0" encoding="UTF-8"?>\n{body}', status, media_type="application/xml")


def routes(sandbox: Sandbox) -> list[BaseRoute]:
    """The operations under `/qure`, and the result files, which need no token but a signature."""
    service = _Service(sandbox)

    def guarded(handler: _Handler, *, v2: bool = False) -> Callable[[Request], Awaitable[Response]]:
        """Check token, then source (documented: 401 before 403); the v2 results have bodies of their own."""

        async def endpoint(request: Request) -> Response:
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            credentials, given = sandbox.credentials["qure"], token.strip().encode()
            current = hmac.compare_digest(given, credentials["token"].encode())
            legacy = hmac.compare_digest(given, credentials["legacy_token"].encode())
            if scheme != "Token" or not (current or legacy):
                return Response(status_code=401) if v2 else JSONResponse(_AUTH_401, 401)
            source = request.headers.get("source", credentials["source"] if legacy else "")
            known = sandbox.db.execute("SELECT 1 FROM qure_workspace WHERE source = ?", (source,)).fetchone()
            if known is None or (sandbox.options.strict and not request.headers.get("user-agent")):
                return PlainTextResponse("Forbidden", 403) if v2 else JSONResponse(_DENIED_403, 403)
            return await handler(request, source)

        return endpoint

    return [
        Route("/qure/studies", guarded(service.upload), methods=["POST"]),
        Route("/qure/studies/", guarded(service.upload), methods=["POST"]),
        Route("/qure/compute/{uid}", guarded(service.compute), methods=["GET"]),
        Route("/qure/results/v2/{uid}", guarded(service.results_v2, v2=True), methods=["GET"]),
        Route("/qure/results/{uid}", guarded(service.results), methods=["GET"]),
        Route("/qure/files/{opaque}", service.file, methods=["GET"]),
    ]


async def start(sandbox: Sandbox) -> None:
    """Make the workspaces and the signing key on the first start; take up what a former process left unfinished."""
    source = sandbox.credentials["qure"]["source"]
    with sandbox.transaction() as db:
        workspaces = [(source, 0), (f"{source}{STABILITY_SUFFIX}", 1)]
        db.executemany("INSERT INTO qure_workspace VALUES (?, ?) ON CONFLICT DO NOTHING", workspaces)
        key = ("signing key", secrets.token_hex(32))
        db.execute("INSERT INTO qure_setting VALUES (?, ?) ON CONFLICT DO NOTHING", key)
        db.execute("UPDATE qure_job SET state = 'queued' WHERE state = 'processing'")
    sandbox.spawn(qure_work.dispatch(sandbox))
