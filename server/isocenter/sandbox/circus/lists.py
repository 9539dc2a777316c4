"""My lists: named lists of cases, series or plug-in jobs that a user keeps and may share.

What a list is lies in its owner's user document, what is on it in `circus_list_item`.
"""

from __future__ import annotations

from typing import Any

from isocenter.sandbox.circus.http import NO_CONTENT, Accident, Call, Refusal, Reply
from isocenter.sandbox.circus.identity import is_editor

Json = Any
Document = dict[str, Json]

MAXIMUM_ITEMS = 1000


def own_list(call: Call, resource_type: str, name: str) -> str | None:
    """The id of the caller's own my list named in the path, for a search in it; None when the path names none.

    Raises Refusal: 404 for an unknown list and for one that belongs to somebody else, even when it is public or
    shared; 400 for a list of another type.
    """
    if "myListId" not in call.params:
        return None
    list_id = call.params["myListId"]
    found = next((entry for entry in call.user["myLists"] if entry["myListId"] == list_id), None)
    if found is None:
        raise Refusal(404, "This my list does not exist")
    if found["resourceType"] != resource_type:
        raise Refusal(400, f"This my list is not for {name}")
    return list_id


def _find(call: Call) -> tuple[Document, Document]:
    """The owner of the list in the path, and the list. Raises Refusal (404)."""
    owner = call.store.list_owner(call.params["myListId"])
    if owner is None:
        raise Refusal(404, "This my list does not exist")
    return owner, next(entry for entry in owner["myLists"] if entry["myListId"] == call.params["myListId"])


def items(call: Call, list_id: str) -> list[str]:
    """The resources on a list, in the order they were added."""
    sql = "SELECT resource_id FROM circus_list_item WHERE list_id = ? ORDER BY id"
    return [row[0] for row in call.store.sandbox.db.execute(sql, (list_id,))]


async def list_my_lists(call: Call) -> Reply:
    """The caller's own lists: a bare array."""
    return Reply(200, call.user["myLists"])


async def get_my_list(call: Call) -> Reply:
    """One list with what is on it, for its owner and, if it is public, for everybody."""
    owner, found = _find(call)
    if owner["userEmail"] != call.email and not found["public"]:
        raise Refusal(401, "You cannot read the items of this my list.")
    return Reply(200, {**found, "resourceIds": items(call, found["myListId"])})


async def create_my_list(call: Call) -> Reply:
    """A new empty list of the caller."""
    if not isinstance(call.body, dict):
        raise Accident(400, "Request data is not correct.", "Unexpected validation error.")
    store = call.store
    created = {
        "myListId": store.new_id(),
        "resourceType": call.body["resourceType"],
        "name": call.body["name"],
        "public": call.body["public"],
        "editors": [],
        "createdAt": store.now(),
    }
    with store.sandbox.transaction():
        store.save_user({**call.user, "myLists": [*call.user["myLists"], created]})
    return Reply(201, {"myListId": created["myListId"]})


async def patch_my_list(call: Call) -> Reply:
    """Change name, publicity or editors; `editors` replaces all of them. Only the owner may."""
    owner, found = _find(call)
    if owner["userEmail"] != call.email:
        raise Refusal(401, "You cannot edit a my list you do not own")
    for editor in call.body.get("editors", ()):
        if editor["type"] == "user" and call.store.user(editor["userEmail"]) is None:
            raise Refusal(400, "Invalid email address is included")
        if editor["type"] == "group" and not call.store.groups([editor["groupId"]]):
            raise Refusal(400, "Invalid group ID is included")
    changed = {**found, **call.body}
    lists = [changed if entry["myListId"] == found["myListId"] else entry for entry in owner["myLists"]]
    with call.store.sandbox.transaction():
        call.store.save_user({**owner, "myLists": lists})
    return NO_CONTENT


async def delete_my_list(call: Call) -> Reply:
    """Delete a list with what is on it. Only the owner may."""
    owner, found = _find(call)
    if owner["userEmail"] != call.email:
        raise Refusal(401, "You cannot delete a my list you do not own")
    lists = [entry for entry in owner["myLists"] if entry["myListId"] != found["myListId"]]
    with call.store.sandbox.transaction() as db:
        db.execute("DELETE FROM circus_list_item WHERE list_id = ?", (found["myListId"],))
        call.store.save_user({**owner, "myLists": lists})
    return NO_CONTENT


async def patch_items(call: Call) -> Reply:
    """Add resources to a list or remove them. The owner and the editors may; all or nothing is added.

    Whether the caller may read what they add is not asked, as on the real server.
    """
    owner, found = _find(call)
    if owner["userEmail"] != call.email and not any(is_editor(editor, call.user) for editor in found["editors"]):
        raise Refusal(401, "You cannot edit the items of this my list.")
    list_id, now, changed = found["myListId"], call.store.now(), 0
    with call.store.sandbox.transaction() as db:
        for resource_id in call.body["resourceIds"]:
            if call.body["operation"] == "remove":
                sql = "DELETE FROM circus_list_item WHERE list_id = ? AND resource_id = ?"
                changed += db.execute(sql, (list_id, resource_id)).rowcount
                continue
            _require_resource(call, found["resourceType"], resource_id)
            sql = "INSERT INTO circus_list_item (list_id, resource_id, created_at) VALUES (?, ?, ?)"
            changed += db.execute(f"{sql} ON CONFLICT DO NOTHING", (list_id, resource_id, now)).rowcount
        sql = "SELECT count(*) FROM circus_list_item WHERE list_id = ?"
        adding = call.body["operation"] == "add"
        if adding and db.execute(sql, (list_id,)).fetchone()[0] > MAXIMUM_ITEMS:
            raise Refusal(400, "The number of items cannot exceed 1000")
    return Reply(200, {"changedCount": changed})


def _require_resource(call: Call, resource_type: str, resource_id: str) -> None:
    if resource_type == "clinicalCases":
        call.store.case(resource_id)
    elif resource_type == "series":
        call.store.known_series(resource_id)
    elif not call.store.has_plugin_job(resource_id):
        raise Refusal(404, "The requested pluginJob was not found.")
