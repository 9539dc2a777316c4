"""The CIRCUS DB API at `/circus/api` and `/circus/login`: its endpoints, its tables, its start.

Made to answer as the real server does (reference: circus.md), down to the wording of errors and to its accidents: where
that server runs into an exception it answers 500, and so does this one, unless `Options.strict` asks for the 4xx that
it should have been. Two differences are deliberate: no revision is lost when several are posted at the same time, and
an answer without a body says so with `Content-Length: 0` instead of closing the connection.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.routing import BaseRoute, Mount

from isocenter.sandbox import (
    circus_cases,
    circus_export,
    circus_identity,
    circus_lists,
    circus_schemas,
    circus_series,
    circus_tasks,
)
from isocenter.sandbox.circus_http import Application, Endpoint, Handler
from isocenter.sandbox.circus_schemas import Schema
from isocenter.sandbox.circus_store import SCHEMA, Store
from isocenter.sandbox.circus_tasks import Tasks
from isocenter.sandbox.circus_world import create_world

if TYPE_CHECKING:
    from isocenter.sandbox.state import Sandbox

__all__ = ["ENDPOINTS", "SCHEMA", "routes", "start"]


def _get(path: str, handler: Handler, *, role: str | None = None, privilege: str | None = None) -> Endpoint:
    return Endpoint(verb="GET", path=path, handler=handler, role=role, privilege=privilege)


def _delete(path: str, handler: Handler, *, role: str | None = None) -> Endpoint:
    return Endpoint(verb="DELETE", path=path, handler=handler, role=role)


def _send(
    verb: str,
    path: str,
    handler: Handler,
    schema: Schema | None,
    *,
    role: str | None = None,
    privilege: str | None = None,
) -> Endpoint:
    return Endpoint(verb=verb, path=path, handler=handler, schema=schema, role=role, privilege=privilege)


def _files(path: str, handler: Handler) -> Endpoint:
    return Endpoint(verb="POST", path=path, handler=handler, content_type="multipart/form-data")


ENDPOINTS = [
    Endpoint(verb="GET", path="/status", handler=circus_identity.status, authenticated=False),
    _get("/logout", circus_identity.logout),
    _get("/login-info", circus_identity.login_info),
    _get("/login-info/full", circus_identity.login_info_full),
    _get("/tokens", circus_identity.list_tokens),
    _send("POST", "/tokens", circus_identity.create_token, circus_schemas.TOKEN_CREATE),
    _delete("/tokens/:tokenId", circus_identity.delete_token),
    _get("/projects/:projectId", circus_identity.get_project, role="read"),
    _get("/admin/projects", circus_identity.list_projects, privilege="manageServer"),
    _get("/cases", circus_cases.search_cases),
    _get("/cases/list/:myListId", circus_cases.search_cases),
    Endpoint(
        verb="POST",
        path="/cases",
        handler=circus_cases.create_case,
        schema=circus_schemas.CASE_CREATE,
        strict_schema=circus_schemas.CASE_CREATE_STRICT,
    ),
    _get("/cases/:caseId", circus_cases.get_case, role="read"),
    _delete("/cases/:caseId", circus_cases.delete_case, role="moderate"),
    _send("POST", "/cases/:caseId/revision", circus_cases.add_revision, circus_schemas.REVISION, role="write"),
    _send("PUT", "/cases/:caseId/tags", circus_cases.put_tags, circus_schemas.STRINGS, role="write"),
    _send("PATCH", "/cases/tags", circus_cases.patch_tags, circus_schemas.TAGS_PATCH),
    _send(
        "POST", "/cases/export-mhd", circus_export.export_cases, circus_schemas.EXPORT_MHD, privilege="downloadVolume"
    ),
    _get("/series", circus_series.search_series),
    _get("/series/list/:myListId", circus_series.search_series),
    _files("/series/domain/:domain", circus_series.upload),
    _files("/series/domain/:domain/single", circus_series.upload_single),
    _get("/series/:seriesUid", circus_series.get_series),
    _get("/series/:seriesUid/orientation", circus_series.get_orientation),
    _delete("/series/:seriesUid", circus_series.delete_series),
    _send(
        "POST",
        "/series/export-cs-volume",
        circus_export.export_volumes,
        circus_schemas.EXPORT_VOLUME,
        privilege="downloadVolume",
    ),
    _get("/blob/:hash", circus_cases.get_blob),
    Endpoint(verb="PUT", path="/blob/:hash", handler=circus_cases.put_blob, content_type="application/octet-stream"),
    _get("/mylists", circus_lists.list_my_lists),
    _send("POST", "/mylists", circus_lists.create_my_list, circus_schemas.MY_LIST_CREATE),
    _get("/mylists/:myListId", circus_lists.get_my_list),
    _send("PATCH", "/mylists/:myListId", circus_lists.patch_my_list, circus_schemas.MY_LIST_PATCH),
    _delete("/mylists/:myListId", circus_lists.delete_my_list),
    _send("PATCH", "/mylists/:myListId/items", circus_lists.patch_items, circus_schemas.MY_LIST_ITEMS),
    _get("/tasks", circus_tasks.search_tasks),
    _get("/tasks/report", circus_tasks.report),
    _get("/tasks/:taskId", circus_tasks.get_task),
    _get("/tasks/:taskId/download", circus_tasks.download),
    _send("PATCH", "/tasks/:taskId", circus_tasks.patch_task, None),
]
"""Every endpoint; of several that fit a path the first one answers."""


def routes(sandbox: Sandbox) -> list[BaseRoute]:
    """Everything below `/circus`."""
    store = Store(sandbox)
    application = Application(store, Tasks(store), ENDPOINTS, circus_identity.authenticate, circus_identity.login)
    mount = Mount("/circus", application)
    # Also a path with an encoded line break is for the application to answer.
    mount.path_regex = re.compile(mount.path_regex.pattern, re.DOTALL)
    return [mount]


async def start(sandbox: Sandbox) -> None:
    """Create the world on the first start of a data directory, and tidy up what the last process left."""
    store = Store(sandbox)
    await create_world(store)
    Tasks(store).clean()
