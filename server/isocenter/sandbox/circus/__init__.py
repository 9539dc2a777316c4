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

from isocenter.sandbox.circus import cases, export, identity, lists, schemas, series, tasks
from isocenter.sandbox.circus.http import Application, Endpoint, Handler
from isocenter.sandbox.circus.schemas import Schema
from isocenter.sandbox.circus.store import SCHEMA, Store
from isocenter.sandbox.circus.tasks import Tasks
from isocenter.sandbox.circus.world import create_world

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
    Endpoint(verb="GET", path="/status", handler=identity.status, authenticated=False),
    _get("/logout", identity.logout),
    _get("/login-info", identity.login_info),
    _get("/login-info/full", identity.login_info_full),
    _get("/tokens", identity.list_tokens),
    _send("POST", "/tokens", identity.create_token, schemas.TOKEN_CREATE),
    _delete("/tokens/:tokenId", identity.delete_token),
    _get("/projects/:projectId", identity.get_project, role="read"),
    _get("/admin/projects", identity.list_projects, privilege="manageServer"),
    _get("/cases", cases.search_cases),
    _get("/cases/list/:myListId", cases.search_cases),
    Endpoint(
        verb="POST",
        path="/cases",
        handler=cases.create_case,
        schema=schemas.CASE_CREATE,
        strict_schema=schemas.CASE_CREATE_STRICT,
    ),
    _get("/cases/:caseId", cases.get_case, role="read"),
    _delete("/cases/:caseId", cases.delete_case, role="moderate"),
    _send("POST", "/cases/:caseId/revision", cases.add_revision, schemas.REVISION, role="write"),
    _send("PUT", "/cases/:caseId/tags", cases.put_tags, schemas.STRINGS, role="write"),
    _send("PATCH", "/cases/tags", cases.patch_tags, schemas.TAGS_PATCH),
    _send("POST", "/cases/export-mhd", export.export_cases, schemas.EXPORT_MHD, privilege="downloadVolume"),
    _get("/series", series.search_series),
    _get("/series/list/:myListId", series.search_series),
    _files("/series/domain/:domain", series.upload),
    _files("/series/domain/:domain/single", series.upload_single),
    _get("/series/:seriesUid", series.get_series),
    _get("/series/:seriesUid/orientation", series.get_orientation),
    _delete("/series/:seriesUid", series.delete_series),
    _send(
        "POST",
        "/series/export-cs-volume",
        export.export_volumes,
        schemas.EXPORT_VOLUME,
        privilege="downloadVolume",
    ),
    _get("/blob/:hash", cases.get_blob),
    Endpoint(verb="PUT", path="/blob/:hash", handler=cases.put_blob, content_type="application/octet-stream"),
    _get("/mylists", lists.list_my_lists),
    _send("POST", "/mylists", lists.create_my_list, schemas.MY_LIST_CREATE),
    _get("/mylists/:myListId", lists.get_my_list),
    _send("PATCH", "/mylists/:myListId", lists.patch_my_list, schemas.MY_LIST_PATCH),
    _delete("/mylists/:myListId", lists.delete_my_list),
    _send("PATCH", "/mylists/:myListId/items", lists.patch_items, schemas.MY_LIST_ITEMS),
    _get("/tasks", tasks.search_tasks),
    _get("/tasks/report", tasks.report),
    _get("/tasks/:taskId", tasks.get_task),
    _get("/tasks/:taskId/download", tasks.download),
    _send("PATCH", "/tasks/:taskId", tasks.patch_task, None),
]
"""Every endpoint; of several that fit a path the first one answers."""


def routes(sandbox: Sandbox) -> list[BaseRoute]:
    """Everything below `/circus`."""
    store = Store(sandbox)
    application = Application(store, Tasks(store), ENDPOINTS, identity.authenticate, identity.login)
    mount = Mount("/circus", application)
    # Also a path with an encoded line break is for the application to answer.
    mount.path_regex = re.compile(mount.path_regex.pattern, re.DOTALL)
    return [mount]


async def start(sandbox: Sandbox) -> None:
    """Create the world on the first start of a data directory, and tidy up what the last process left."""
    store = Store(sandbox)
    await create_world(store)
    Tasks(store).clean()
