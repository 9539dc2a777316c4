"""What a CIRCUS sandbox starts with: a data set from a file, or a small world of its own with the phantom's images.

It is written once per data directory; later starts leave everything as the users made it.
"""

from __future__ import annotations

import io
import json
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import anyio
import pydicom

from isocenter.sandbox import phantom
from isocenter.sandbox.circus.filter import parse_filter
from isocenter.sandbox.circus.http import parse_json
from isocenter.sandbox.circus.identity import PERMANENT_EXPIRES, add_token, digest, hash_password
from isocenter.sandbox.circus.series import describe, encode_images
from isocenter.sandbox.circus.store import Store, iso

if TYPE_CHECKING:
    from isocenter.sandbox.state import Sandbox

log = logging.getLogger("isocenter.sandbox.circus")

Json = Any
Document = dict[str, Json]

DOMAIN_CT, DOMAIN_MR = "chest.invalid", "brain.invalid"
LEAD, READER, ANNOTATOR = "lead@circus.invalid", "reader@circus.invalid", "annotator@circus.invalid"
PROJECT_CT, PROJECT_MR = "01hq0000000000000000chest0", "01hq0000000000000000brain0"
GLOBAL_PRIVILEGES = [
    "createProject",
    "deleteProject",
    "manageServer",
    "personalInfoView",
    "downloadVolume",
    "issueOnetime",
]


async def create_world(store: Store) -> None:
    """Fill an empty store. The credentials of its most privileged user go to `sandbox.credentials["circus"]`."""
    if store.setting("world") is not None:
        return
    sandbox = store.sandbox
    if sandbox.options.circus_world is not None:
        text = sandbox.options.circus_world.read_text(encoding="utf-8")
        with sandbox.transaction():
            token = load_world(store, parse_json(text))
            store.set_setting("world", "file")
        if token is not None:
            _keep_credentials(sandbox, token)
        return
    credentials = sandbox.credentials.get("circus", {})
    credentials = {
        "token": credentials.get("token") or secrets.token_hex(20),
        "email": LEAD,
        "password": credentials.get("password") or secrets.token_urlsafe(16),
    }
    _keep_credentials(sandbox, credentials)
    password = await anyio.to_thread.run_sync(hash_password, credentials["password"])
    domains = await anyio.to_thread.run_sync(_ingest_phantom, sandbox)
    with sandbox.transaction():
        _default_world(store, password)
        for uid, domain in domains.items():
            _add_phantom_series(store, uid, domain)
        add_token(
            store,
            LEAD,
            credentials["token"],
            PERMANENT_EXPIRES,
            token_id=secrets.token_hex(20),
            description="Isocenter sandbox",
        )
        store.set_setting("world", "default")


def _keep_credentials(sandbox: Sandbox, credentials: dict[str, str]) -> None:
    """Store what a local client needs to log in, readable by its owner only."""
    sandbox.credentials["circus"] = credentials
    path = sandbox.root / "credentials.json"
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(sandbox.credentials, file, indent=2)
    part.replace(path)


# --- a world from a file ----------------------------------------------------------------------------------------------


def load_world(store: Store, world: Document) -> dict[str, str] | None:
    """Store the collections of a data set: documents as MongoDB exports them, dates as `{"$date": ...}`.

    Returns the token and the email of the first user with a token that has not expired, or None.
    """
    collections = {
        name: [_plain(parse_filter(json.dumps(doc))) for doc in docs] for name, docs in world["collections"].items()
    }
    now = store.now()
    for group in collections.get("groups", ()):
        store.add_group(group)
    for user in collections.get("users", ()):
        shown = {key: value for key, value in user.items() if key != "password"}
        store.add_user({"preferences": {}, "myLists": [], **shown}, "")
    for project in collections.get("projects", ()):
        store.add_project(project)
    for series in collections.get("series", ()):
        store.save_series(series)
    for case in collections.get("clinicalCases", ()):
        store.save_case(case)
    db = store.sandbox.db
    for my_list in collections.get("myLists", ()):
        rows = [(my_list["myListId"], item["resourceId"], item["createdAt"]) for item in my_list["items"]]
        db.executemany("INSERT INTO circus_list_item (list_id, resource_id, created_at) VALUES (?, ?, ?)", rows)
    for job in collections.get("pluginJobs", ()):
        db.execute("INSERT INTO circus_plugin_job VALUES (?, ?)", (job["jobId"], json.dumps(job)))
    for plugin in collections.get("pluginDefinitions", ()):
        store.set_setting(f"plugin:{plugin['pluginId']}", plugin)
    for parameter in collections.get("serverParams", ()):
        store.set_setting(parameter["key"], parameter["value"])
    for task in collections.get("tasks", ()):
        row = (task["taskId"], task["userEmail"], json.dumps(task))
        db.execute("INSERT INTO circus_task (task_id, email, doc) VALUES (?, ?, ?)", row)
    found = None
    for token in collections.get("tokens", ()):
        refresh = token.get("refreshToken")
        db.execute(
            "INSERT INTO circus_token (access, access_expires, refresh, refresh_expires, email, token_id, description,"
            " created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                digest(token["accessToken"]),
                token["accessTokenExpiresAt"],
                digest(refresh) if refresh else None,
                token.get("refreshTokenExpiresAt"),
                token["userId"],
                token.get("permanentTokenId"),
                token.get("permanentTokenDescription"),
                token["createdAt"],
                token["updatedAt"],
            ),
        )
        if found is None and token["accessTokenExpiresAt"] > now:
            found = {"token": token["accessToken"], "email": token["userId"]}
    return found


def _plain(value: Json) -> Json:
    """Dates as text again, in the one form that the store uses."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return iso(value) if hasattr(value, "isoformat") else value


# --- the default world ------------------------------------------------------------------------------------------------


def _default_world(store: Store, password: str) -> None:
    """Two projects and three users: a lead who may everything, a reader of one project, an annotator of both.

    All three have the same password, that of the credentials.
    """
    now = store.now()
    dates = {"createdAt": now, "updatedAt": now}
    for project_id, name, glyph, tags in (
        (PROJECT_CT, "Lung nodules", "lung", [{"caption": "screening", "color": "#3366cc"}]),
        (PROJECT_MR, "Brain MR", "brain", [{"caption": "follow-up", "color": "#cc6633"}]),
    ):
        store.add_project(
            {
                "projectId": project_id,
                "projectName": name,
                "icon": {"glyph": glyph, "color": "#ffffff", "backgroundColor": "#334455"},
                "description": f"{name}: synthetic data of the sandbox",
                "tags": tags,
                "caseAttributesSchema": {},
                "labelAttributesSchema": {},
                "windowPresets": [{"label": "lung", "level": -600, "width": 1500}] if glyph == "lung" else [],
                "windowPriority": "auto",
                **dates,
            }
        )
    both, chest = [PROJECT_CT, PROJECT_MR], [PROJECT_CT]
    rights: tuple[tuple[int, str, list[str], list[str], list[str], list[str], list[str]], ...] = (
        (1, "leads", GLOBAL_PRIVILEGES, [DOMAIN_CT, DOMAIN_MR], both, both, both),
        (2, "readers", [], [DOMAIN_CT], chest, [], []),
        (3, "annotators", ["downloadVolume"], [DOMAIN_CT, DOMAIN_MR], both, both, []),
    )
    for group_id, name, privileges, domains, read, write, administer in rights:
        store.add_group(
            {
                "groupId": group_id,
                "groupName": name,
                "privileges": privileges,
                "domains": domains,
                "readProjects": read,
                "writeProjects": write,
                "addSeriesProjects": write,
                "viewPersonalInfoProjects": administer,
                "moderateProjects": administer,
                **{
                    role: []
                    for role in (
                        "readPlugin",
                        "executePlugin",
                        "manageJobs",
                        "inputPersonalFeedback",
                        "inputConsensualFeedback",
                        "manageFeedback",
                        "viewPersonalInfo",
                    )
                },
                **dates,
            }
        )
    for email, group_id in ((LEAD, 1), (READER, 2), (ANNOTATOR, 3)):
        store.add_user(
            {
                "userEmail": email,
                "loginId": email.partition("@")[0],
                "description": f"Sandbox user: {email.partition('@')[0]}",
                "lastLoginTime": now,
                "lastLoginIp": "",
                "preferences": {"theme": "mode_white", "personalInfoView": True},
                "loginEnabled": True,
                "groups": [group_id],
                "myLists": [],
                **dates,
            },
            password,
        )
    store.set_setting("defaultDomain", DOMAIN_CT)


def _ingest_phantom(sandbox: Sandbox) -> dict[str, str]:
    """Put the phantom's CT and MR series into the archive and return their domains. Repeating it changes nothing."""
    archive, domains = sandbox.archive("circus"), dict[str, str]()
    for source in _phantom_files(sandbox):
        instance = archive.ingest(source, durable=False).instance
        uid = instance.series_instance_uid
        if uid not in domains:
            stored = archive.series(uid)
            domains[uid] = DOMAIN_MR if stored is not None and stored.modality == "MR" else DOMAIN_CT
    return domains


def _phantom_files(sandbox: Sandbox) -> Iterator[Path | BinaryIO]:
    """The phantom's CT and MR files; copied from the TCIA archive when it has them, for making them takes seconds."""
    tcia = sandbox.archive("tcia")
    series = [found for collection in phantom.COLLECTIONS for found in tcia.all_series(collection=collection)]
    for found in series:
        if found.modality in {"CT", "MR"}:
            yield from (tcia.path(instance) for instance in tcia.instances(found.series_instance_uid))
    if not series:
        for file in phantom.files():
            header = pydicom.dcmread(io.BytesIO(file.data), stop_before_pixels=True, specific_tags=["Modality"])
            if header.Modality in {"CT", "MR"}:
                yield io.BytesIO(file.data)


def _add_phantom_series(store: Store, uid: str, domain: str) -> None:
    archive = store.sandbox.archive("circus")
    stored = archive.series(uid)
    if stored is None:
        raise LookupError(uid)
    now = store.now()
    images = encode_images(instance.instance_number for instance in archive.instances(uid))
    document = {**describe(stored.header), "domain": domain, "storageId": 0, "images": images}
    store.save_series({**document, "createdAt": now, "updatedAt": now})
