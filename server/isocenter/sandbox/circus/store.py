"""The CIRCUS documents in SQLite: users, groups, projects, series, cases, my lists, tokens, tasks, blobs.

Documents are kept as JSON text as CIRCUS shows them, with the columns beside them that searching and joining need.
A case is split into its head (everything a list shows) and its revisions, so that a search does not parse them.
Dates are text in ISO 8601, UTC, milliseconds, which sorts by time. Access tokens are kept as SHA-256 only.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from isocenter.sandbox.circus.http import Refusal

if TYPE_CHECKING:
    from isocenter.sandbox.state import Sandbox

Json = Any
Document = dict[str, Any]

SCHEMA = """
CREATE TABLE IF NOT EXISTS circus_setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS circus_group (group_id INTEGER PRIMARY KEY, doc TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS circus_user (
  id INTEGER PRIMARY KEY,
  email TEXT NOT NULL UNIQUE,
  login_id TEXT NOT NULL,
  password TEXT NOT NULL,
  doc TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS circus_user_login ON circus_user (login_id);
CREATE TABLE IF NOT EXISTS circus_token (
  id INTEGER PRIMARY KEY,
  access TEXT NOT NULL UNIQUE,
  access_expires TEXT NOT NULL,
  refresh TEXT UNIQUE,
  refresh_expires TEXT,
  email TEXT NOT NULL REFERENCES circus_user (email) ON DELETE CASCADE,
  token_id TEXT UNIQUE,
  description TEXT,
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS circus_token_email ON circus_token (email);
CREATE TABLE IF NOT EXISTS circus_project (id INTEGER PRIMARY KEY, project_id TEXT NOT NULL UNIQUE, doc TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS circus_series (
  id INTEGER PRIMARY KEY,
  series_uid TEXT NOT NULL UNIQUE,
  domain TEXT NOT NULL,
  doc TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS circus_series_domain ON circus_series (domain);
CREATE TABLE IF NOT EXISTS circus_case (
  id INTEGER PRIMARY KEY,
  case_id TEXT NOT NULL UNIQUE,
  project_id TEXT NOT NULL,
  head TEXT NOT NULL,
  revisions TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS circus_case_project ON circus_case (project_id);
CREATE TABLE IF NOT EXISTS circus_case_series (
  case_id TEXT NOT NULL REFERENCES circus_case (case_id) ON DELETE CASCADE,
  series_uid TEXT NOT NULL,
  PRIMARY KEY (case_id, series_uid)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS circus_case_series_uid ON circus_case_series (series_uid);
CREATE TABLE IF NOT EXISTS circus_list_item (
  id INTEGER PRIMARY KEY,
  list_id TEXT NOT NULL,
  resource_id TEXT NOT NULL,
  created_at TEXT NOT NULL,
  UNIQUE (list_id, resource_id)
);
CREATE INDEX IF NOT EXISTS circus_list_item_resource ON circus_list_item (resource_id);
CREATE TABLE IF NOT EXISTS circus_plugin_job (job_id TEXT PRIMARY KEY, doc TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS circus_task (
  id INTEGER PRIMARY KEY,
  task_id TEXT NOT NULL UNIQUE,
  email TEXT NOT NULL,
  doc TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS circus_task_email ON circus_task (email);
CREATE TABLE IF NOT EXISTS circus_blob (hash TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
"""

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"


def iso(moment: datetime) -> str:
    """A moment as CIRCUS writes it, for example `2022-01-01T12:00:00.000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(text: str) -> datetime:
    """The moment that `iso` wrote."""
    return datetime.fromisoformat(text)


class Store:
    """Reads and writes documents of one sandbox. Use it on the event loop's thread only."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    def now(self) -> str:
        """The time as CIRCUS writes it."""
        return iso(self.sandbox.now())

    def new_id(self) -> str:
        """A ULID in lower case: 48 bits of milliseconds, 80 random bits, in Crockford's base 32."""
        number = int(self.sandbox.now().timestamp() * 1000) << 80 | secrets.randbits(80)
        return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))

    def _one(self, sql: str, *values: Json) -> Document | None:
        row = self.sandbox.db.execute(sql, values).fetchone()
        return None if row is None else json.loads(row[0])

    def setting(self, name: str) -> Json:
        """A server-wide setting, or None."""
        return self._one("SELECT value FROM circus_setting WHERE name = ?", name)

    def set_setting(self, name: str, value: Json) -> None:
        """Store a server-wide setting."""
        sql = "INSERT INTO circus_setting VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        self.sandbox.db.execute(sql, (name, json.dumps(value)))

    def groups(self, ids: Iterable[int]) -> list[Document]:
        """The groups with these ids, unknown ones left out, by id."""
        sql = "SELECT doc FROM circus_group WHERE group_id IN (SELECT value FROM json_each(?)) ORDER BY group_id"
        return [json.loads(row[0]) for row in self.sandbox.db.execute(sql, (json.dumps(list(ids)),))]

    def add_group(self, doc: Document) -> None:
        """Store a new group."""
        sql = "INSERT INTO circus_group VALUES (?, ?)"
        self.sandbox.db.execute(sql, (doc["groupId"], json.dumps(doc)))

    def user(self, email: str) -> Document | None:
        """A user with their my lists and without their password, or None."""
        return self._one("SELECT doc FROM circus_user WHERE email = ?", email)

    def users(self) -> list[Document]:
        """All users."""
        return [json.loads(row[0]) for row in self.sandbox.db.execute("SELECT doc FROM circus_user ORDER BY id")]

    def add_user(self, doc: Document, password: str) -> None:
        """Store a new user; `password` is a hash, or empty when nobody can log in with one."""
        sql = "INSERT INTO circus_user (email, login_id, password, doc) VALUES (?, ?, ?, ?)"
        self.sandbox.db.execute(sql, (doc["userEmail"], doc["loginId"], password, json.dumps(doc)))

    def save_user(self, doc: Document) -> None:
        """Store a changed user."""
        changed = {**doc, "updatedAt": self.now()}
        sql = "UPDATE circus_user SET doc = ? WHERE email = ?"
        self.sandbox.db.execute(sql, (json.dumps(changed), doc["userEmail"]))

    def list_owner(self, list_id: str) -> Document | None:
        """The user who has this my list, or None."""
        sql = (
            "SELECT u.doc FROM circus_user u, json_each(u.doc, '$.myLists') l"
            " WHERE json_extract(l.value, '$.myListId') = ?"
        )
        return self._one(sql, list_id)

    def project(self, project_id: str) -> Document | None:
        """A project, or None."""
        return self._one("SELECT doc FROM circus_project WHERE project_id = ?", project_id)

    def projects(self) -> list[Document]:
        """All projects."""
        return [json.loads(row[0]) for row in self.sandbox.db.execute("SELECT doc FROM circus_project ORDER BY id")]

    def add_project(self, doc: Document) -> None:
        """Store a new project."""
        sql = "INSERT INTO circus_project (project_id, doc) VALUES (?, ?)"
        self.sandbox.db.execute(sql, (doc["projectId"], json.dumps(doc)))

    def series(self, series_uid: str) -> Document | None:
        """A series, or None."""
        return self._one("SELECT doc FROM circus_series WHERE series_uid = ?", series_uid)

    def known_series(self, series_uid: str) -> Document:
        """A series. Raises Refusal (404)."""
        if (doc := self.series(series_uid)) is None:
            raise Refusal(404, "The requested series was not found.")
        return doc

    def save_series(self, doc: Document) -> None:
        """Store a new or changed series."""
        sql = (
            "INSERT INTO circus_series (series_uid, domain, doc) VALUES (?, ?, ?)"
            " ON CONFLICT (series_uid) DO UPDATE SET doc = excluded.doc, domain = excluded.domain"
        )
        self.sandbox.db.execute(sql, (doc["seriesUid"], doc["domain"], json.dumps(doc)))

    def case(self, case_id: str) -> Document:
        """A case with its revisions, oldest first. Raises Refusal (404)."""
        sql = "SELECT head, revisions FROM circus_case WHERE case_id = ?"
        row = self.sandbox.db.execute(sql, (case_id,)).fetchone()
        if row is None:
            raise Refusal(404, "The requested clinicalCase was not found.")
        return {**json.loads(row[0]), "revisions": json.loads(row[1])}

    def case_projects(self, case_ids: Iterable[str | None]) -> dict[str, str]:
        """The project of every case that exists."""
        sql = "SELECT case_id, project_id FROM circus_case WHERE case_id IN (SELECT value FROM json_each(?))"
        return {row[0]: row[1] for row in self.sandbox.db.execute(sql, (json.dumps(list(case_ids)),))}

    def save_case(self, doc: Document) -> None:
        """Store a new or changed case; `latestRevision` follows from its revisions."""
        head = {key: value for key, value in doc.items() if key != "revisions"}
        if doc["revisions"]:
            head["latestRevision"] = doc["revisions"][-1]
        db = self.sandbox.db
        db.execute(
            "INSERT INTO circus_case (case_id, project_id, head, revisions) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (case_id) DO UPDATE SET head = excluded.head, revisions = excluded.revisions",
            (doc["caseId"], doc["projectId"], json.dumps(head), json.dumps(doc["revisions"])),
        )
        uids = {(doc["caseId"], entry["seriesUid"]) for revision in doc["revisions"] for entry in revision["series"]}
        db.executemany("INSERT INTO circus_case_series VALUES (?, ?) ON CONFLICT DO NOTHING", sorted(uids))

    def set_tags(self, case_id: str, tags: list[str], updated_at: str | None) -> None:
        """Replace a case's tags; the date of change stays where `updated_at` is None."""
        sql = "UPDATE circus_case SET head = json_set(head, '$.tags', json(?)) WHERE case_id = ?"
        self.sandbox.db.execute(sql, (json.dumps(tags), case_id))
        if updated_at is not None:
            sql = "UPDATE circus_case SET head = json_set(head, '$.updatedAt', ?) WHERE case_id = ?"
            self.sandbox.db.execute(sql, (updated_at, case_id))

    def has_blob(self, digest: str) -> bool:
        """Whether voxel data with this SHA-1 are stored."""
        sql = "SELECT 1 FROM circus_blob WHERE hash = ?"
        return self.sandbox.db.execute(sql, (digest,)).fetchone() is not None

    def has_plugin_job(self, job_id: str) -> bool:
        """Whether this plug-in job exists."""
        sql = "SELECT 1 FROM circus_plugin_job WHERE job_id = ?"
        return self.sandbox.db.execute(sql, (job_id,)).fetchone() is not None
