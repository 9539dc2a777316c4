"""CIRCUS DB API (Cases and what they need): a typed client, asynchronous and blocking.

Generated from openapi/circus.yaml by `isocenter generate`. Do not edit: change the specification and generate again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime

from isocenter.core import AsyncApi, Result, SyncApi
from isocenter.core.api import UNSET, FileInput, Shape, Unset
from isocenter.core.client import Progress

from . import models
from .contract import load

__all__ = ["CircusClient", "CircusSyncClient"]

_LIST_CASES: Shape[models.CasePage | list[models.CaseSummary]] = Shape(lambda: models.CasePage | list[models.CaseSummary])
_CREATE_CASE: Shape[models.CreatedCase] = Shape(lambda: models.CreatedCase)
_LIST_CASES_OF_MY_LIST: Shape[models.CasePage | list[models.CaseSummary]] = Shape(lambda: models.CasePage | list[models.CaseSummary])
_UPDATE_TAGS: Shape[None] = Shape(lambda: None)
_EXPORT_MHD: Shape[models.StartedTask] = Shape(lambda: models.StartedTask)
_GET_CASE: Shape[models.Case] = Shape(lambda: models.Case)
_DELETE_CASE: Shape[None] = Shape(lambda: None)
_CREATE_REVISION: Shape[None] = Shape(lambda: None)
_REPLACE_TAGS: Shape[None] = Shape(lambda: None)
_LOGIN: Shape[models.SessionToken] = Shape(lambda: models.SessionToken)
_LOGOUT: Shape[None] = Shape(lambda: None)
_LIST_TOKENS: Shape[models.TokenPage | list[models.Token]] = Shape(lambda: models.TokenPage | list[models.Token])
_CREATE_TOKEN: Shape[models.CreatedToken] = Shape(lambda: models.CreatedToken)
_DELETE_TOKEN: Shape[None] = Shape(lambda: None)
_GET_LOGIN_INFO: Shape[models.LoginInfo] = Shape(lambda: models.LoginInfo)
_GET_FULL_LOGIN_INFO: Shape[models.FullLoginInfo] = Shape(lambda: models.FullLoginInfo)
_GET_STATUS: Shape[models.ServerStatus] = Shape(lambda: models.ServerStatus)
_LIST_SERIES: Shape[models.SeriesPage] = Shape(lambda: models.SeriesPage)
_LIST_SERIES_OF_MY_LIST: Shape[models.SeriesPage] = Shape(lambda: models.SeriesPage)
_GET_SERIES: Shape[models.Series] = Shape(lambda: models.Series)
_DELETE_SERIES: Shape[None] = Shape(lambda: None)
_GET_SERIES_ORIENTATION: Shape[models.SeriesOrientation] = Shape(lambda: models.SeriesOrientation)
_UPLOAD_SERIES: Shape[models.StartedTask] = Shape(lambda: models.StartedTask)
_UPLOAD_SINGLE_INSTANCE: Shape[None] = Shape(lambda: None)
_LIST_MY_LISTS: Shape[list[models.MyList]] = Shape(lambda: list[models.MyList])
_CREATE_MY_LIST: Shape[models.CreatedMyList] = Shape(lambda: models.CreatedMyList)
_GET_MY_LIST: Shape[models.MyListWithItems] = Shape(lambda: models.MyListWithItems)
_DELETE_MY_LIST: Shape[None] = Shape(lambda: None)
_UPDATE_MY_LIST: Shape[None] = Shape(lambda: None)
_CHANGE_MY_LIST_ITEMS: Shape[models.ChangedItems] = Shape(lambda: models.ChangedItems)
_LIST_TASKS: Shape[models.TaskPage] = Shape(lambda: models.TaskPage)
_GET_TASK: Shape[models.Task] = Shape(lambda: models.Task)
_DISMISS_TASK: Shape[None] = Shape(lambda: None)
_DOWNLOAD_TASK: Shape[bytes | None] = Shape(lambda: bytes | None)
_GET_BLOB: Shape[bytes | None] = Shape(lambda: bytes | None)
_PUT_BLOB: Shape[None] = Shape(lambda: None)
_GET_PROJECT: Shape[models.Project] = Shape(lambda: models.Project)


class CircusClient(AsyncApi):
    """CIRCUS DB API (Cases and what they need).

    Asynchronous; a context manager. Every call is checked against the contract, both ways.
    """

    contract = staticmethod(load)

    async def list_cases(
        self,
        *,
        filter: models.CaseFilter | Mapping[str, Any] | None = None,
        sort: Mapping[str, Literal[1, -1]] | None = None,
        limit: int | None = None,
        page: int | None = None,
    ) -> Result[models.CasePage | list[models.CaseSummary]]:
        """Search cases.

        Searches the cases of all projects in which the user has role `read`. Users without any such project get
        an empty result, not an error. Use it to find case identifiers, then `getCase` for all revisions of one
        case.

        A case is invisible in every search when none of its revisions names a series that exists on the server,
        although `getCase` still returns it. There is no tie-breaker: end `sort` with `caseId` for stable
        paging.

        Args:
            filter: What to search for. Everything when absent.
            sort: Order of the results. Newest first (`createdAt` -1) when absent, in searches of a my list the
                item added last (`addedToListAt` -1). An empty object means no order at all.
            limit: Number of results a page.
            page: Number of the page, from 1. A page beyond the end is empty.
        """
        return await self._call(
            "listCases",
            {"filter": filter, "sort": sort, "limit": limit, "page": page},
            _LIST_CASES,
        )

    async def create_case(
        self,
        *,
        project_id: str,
        series: Sequence[models.NewCaseSeries | Mapping[str, Any]],
        tags: Sequence[str],
    ) -> Result[models.CreatedCase]:
        """Create a case.

        Creates a case of a project from one or more series with the first revision `Created new case.` (status
        `draft`, no labels, no attributes, creator is the caller). All series must belong to one domain, which
        becomes the domain of the case. The same series may be named twice. Needs role `write` in the project
        and access to the domain of the series.

        A successful call cannot be repeated safely: the next one creates another case.

        Args:
            project_id: An opaque identifier. New ones are ULIDs in lower case (26 characters, ordered by time),
                old ones may have 64 hexadecimal digits or another form.
            series: The series of the case, all of one domain.
            tags: Markers of the new case; an empty list for none.
        """
        return await self._call(
            "createCase",
            {"projectId": project_id, "series": series, "tags": tags},
            _CREATE_CASE,
        )

    async def list_cases_of_my_list(
        self,
        *,
        my_list_id: str,
        filter: models.CaseFilter | Mapping[str, Any] | None = None,
        sort: Mapping[str, Literal[1, -1]] | None = None,
        limit: int | None = None,
        page: int | None = None,
    ) -> Result[models.CasePage | list[models.CaseSummary]]:
        """Search cases of one of my own lists.

        The same search as `listCases`, restricted to the items of a my list. By default the case added last
        comes first (`addedToListAt` may be used as a sort key here, but is not returned). Deleted cases and
        cases of projects without role `read` are skipped silently.

        Args:
            my_list_id: Identifier of the my list.
            filter: What to search for. Everything when absent.
            sort: Order of the results. Newest first (`createdAt` -1) when absent, in searches of a my list the
                item added last (`addedToListAt` -1). An empty object means no order at all.
            limit: Number of results a page.
            page: Number of the page, from 1. A page beyond the end is empty.
        """
        return await self._call(
            "listCasesOfMyList",
            {"myListId": my_list_id, "filter": filter, "sort": sort, "limit": limit, "page": page},
            _LIST_CASES_OF_MY_LIST,
        )

    async def update_tags(
        self,
        *,
        operation: Literal['add', 'remove', 'set'],
        tags: Sequence[str],
        case_ids: Sequence[str],
    ) -> Result[None]:
        """Add, remove or set tags of many cases.

        Changes the tags of up to 1000 cases at once. `add` appends the tags a case does not have yet, `remove`
        removes every occurrence and ignores absent tags, `set` replaces all tags (an empty list clears them,
        duplicates are kept). All cases are checked before the first is written. Needs role `write` for every
        case.

        Args:
            operation: `add` appends, `remove` takes away, `set` replaces all tags of each case.
            tags: The tags to add, remove or set. Only `set` takes an empty list.
            case_ids: The cases to change.
        """
        return await self._call(
            "updateTags",
            {"operation": operation, "tags": tags, "caseIds": case_ids},
            _UPDATE_TAGS,
        )

    async def export_mhd(
        self,
        *,
        case_ids: Sequence[str | models.CaseRevisionRef | Mapping[str, Any]],
        label_pack_type: Literal['isolated', 'combined'] | None = None,
        mhd_line_ending: Literal['lf', 'crlf'] | None = None,
        compression_format: Literal['tgz', 'zip'] | None = None,
    ) -> Result[models.StartedTask]:
        """Export cases as MHD archive.

        Starts a task which packs volumes and voxel labels of the given cases as MetaImage files. Poll `getTask`
        until it is `finished`, then fetch the archive with `downloadTask`.

        The archive holds, for each case, `<caseId>/data.json`, a volume `vol000.mhd` and `.raw` for each
        series, and the voxel labels: `vol000-label000.mhd` and `.raw` for each label (`isolated`), or one
        `vol000-label.mhd` and `.raw` in which label number n has value n+1 and later labels overwrite earlier
        ones (`combined`). Label files are unsigned 8 bit in the size of the whole volume. Other label types are
        not exported, but they are counted in the numbering.

        Needs the global privilege `downloadVolume` and role `read` for every case. An empty `caseIds` gives an
        empty archive. A revision index past the end, or a voxel label without `size` or with bits of the wrong
        length, is only discovered while packing: the task ends with status `error`.

        Args:
            case_ids: The cases to export: identifiers for the latest revisions, or objects that name a
                revision. No case more than once.
            label_pack_type: One file for each voxel label, or one file for all voxel labels of a series.
            mhd_line_ending: Line ends of the header files.
            compression_format: Format of the archive.
        """
        return await self._call(
            "exportMhd",
            {"caseIds": case_ids, "labelPackType": label_pack_type, "mhdLineEnding": mhd_line_ending, "compressionFormat": compression_format},
            _EXPORT_MHD,
        )

    async def get_case(
        self,
        *,
        case_id: str,
    ) -> Result[models.Case]:
        """Get a case with all its revisions.

        Returns one case with its complete history, oldest revision first. Needs role `read` in the project of
        the case. Start here before `createRevision`: take the last revision, change it, and send the whole
        snapshot back. Patient data are never part of this answer.

        Args:
            case_id: Identifier of the case.
        """
        return await self._call(
            "getCase",
            {"caseId": case_id},
            _GET_CASE,
        )

    async def delete_case(
        self,
        *,
        case_id: str,
        force: Literal['1'] | None = None,
    ) -> Result[None]:
        """Delete a case for good.

        Removes a case and all its revisions. Blobs of its labels stay. Needs role `moderate`, also for one's
        own cases; cases of other users can be deleted. A case which is in anybody's my list is only deleted
        with `force=1`, which takes it out of every my list in the same transaction. A second deletion answers
        404.

        Args:
            case_id: Identifier of the case.
            force: `1` deletes the case even when it is in a my list. The server knows only this exact value;
                `true` or `01` count as not given.
        """
        return await self._call(
            "deleteCase",
            {"caseId": case_id, "force": force},
            _DELETE_CASE,
        )

    async def create_revision(
        self,
        *,
        case_id: str,
        description: str,
        attributes: Mapping[str, Any],
        status: str,
        series: Sequence[models.NewRevisionSeries | Mapping[str, Any]],
    ) -> Result[None]:
        """Add a revision to a case.

        Saves a new snapshot of a case. It replaces nothing: earlier revisions stay. Send *all* series and
        labels, not only the changed ones. Creator and date are set by the server. Tags and domains of the case
        are not touched. Needs role `write`.

        Store the bits of every voxel label with `putBlob` first. The series are not checked: unknown
        identifiers, other domains and impossible volume descriptors are saved as sent.

        **Lost updates.** The server reads, appends and writes without any version check: of ten parallel
        requests ten answer 201 and as few as three survive. Send the revisions of a case one after the other
        and verify with `getCase`. The index of the new revision is not returned; it is the number of revisions
        before.

        Args:
            case_id: Identifier of the case.
            description: What was changed and why.
            attributes: Values of all case attributes. Not checked against `caseAttributesSchema` of the
                project.
            status: Free text; in use are `draft`, `approved` and `for-review`.
            series: All series of the case with all their labels.
        """
        return await self._call(
            "createRevision",
            {"caseId": case_id, "description": description, "attributes": attributes, "status": status, "series": series},
            _CREATE_REVISION,
        )

    async def replace_tags(
        self,
        *,
        case_id: str,
        body: Sequence[str],
    ) -> Result[None]:
        """Replace all tags of a case.

        Stores the given list as the tags of one case, in this order. Tags that are not in the list are lost;
        there is no history of tags. To add or remove single tags use `updateTags`. Changes `updatedAt`, makes
        no revision. Needs role `write`.

        Args:
            case_id: Identifier of the case.
        """
        return await self._call(
            "replaceTags",
            {"caseId": case_id, "body": body},
            _REPLACE_TAGS,
        )

    async def login(
        self,
        *,
        body: models.PasswordGrant | Mapping[str, Any] | models.RefreshGrant,
    ) -> Result[models.SessionToken]:
        """Get or refresh a session token.

        Trades an e-mail address (or login name) and password for a session token that lives one hour, or a
        refresh token (14 days) for a new pair. Refreshing ends the old access token at once. Programs should
        rather hold a permanent token.
        """
        return await self._call(
            "login",
            {"body": body},
            _LOGIN,
        )

    async def logout(
        self,

    ) -> Result[None]:
        """End the session.

        Makes the session token unusable. Permanent tokens are not affected; remove them with `deleteToken`.
        Although it is a GET it changes state, so it must never be prefetched or retried as harmless.
        """
        return await self._call(
            "logout",
            {},
            _LOGOUT,
        )

    async def list_tokens(
        self,

    ) -> Result[models.TokenPage | list[models.Token]]:
        """List my permanent tokens.

        Lists the permanent tokens of the user without the secrets. Use it to find the identifier of a token to
        delete. There is no paging: all tokens are on page 1.
        """
        return await self._call(
            "listTokens",
            {},
            _LIST_TOKENS,
        )

    async def create_token(
        self,
        *,
        description: str,
    ) -> Result[models.CreatedToken]:
        """Create a permanent token.

        Creates a token that is valid until the end of the year 2100. The secret is shown in this answer only. A
        user can have at most 11.

        Args:
            description: What the token is for, 1 to 32 characters.
        """
        return await self._call(
            "createToken",
            {"description": description},
            _CREATE_TOKEN,
        )

    async def delete_token(
        self,
        *,
        token_id: str,
    ) -> Result[None]:
        """Delete a permanent token.

        Revokes a permanent token by its identifier (not by the secret). Answers 204 for unknown identifiers
        too, and does not check whose token it is: an identifier of another user works.

        Args:
            token_id: Identifier of the token, as listed by `listTokens`.
        """
        return await self._call(
            "deleteToken",
            {"tokenId": token_id},
            _DELETE_TOKEN,
        )

    async def get_login_info(
        self,

    ) -> Result[models.LoginInfo]:
        """Who am I.

        Names the user of the token. The cheapest way to check that a token works.
        """
        return await self._call(
            "getLoginInfo",
            {},
            _GET_LOGIN_INFO,
        )

    async def get_full_login_info(
        self,

    ) -> Result[models.FullLoginInfo]:
        """My rights, projects, domains and lists.

        The user with everything they may do: global privileges, accessible projects with roles, domains, own
        and shared my lists. For ordinary users this is the only way to list projects, so call it first to learn
        a `projectId` and whether creating cases in it is allowed.
        """
        return await self._call(
            "getFullLoginInfo",
            {},
            _GET_FULL_LOGIN_INFO,
        )

    async def get_status(
        self,

    ) -> Result[models.ServerStatus]:
        """Is the server running.

        Answers without a token. Use it to tell an unreachable server from a refused token.
        """
        return await self._call(
            "getStatus",
            {},
            _GET_STATUS,
        )

    async def list_series(
        self,
        *,
        filter: models.SeriesFilter | Mapping[str, Any] | None = None,
        sort: Mapping[str, Literal[1, -1]] | None = None,
        limit: int | None = None,
        page: int | None = None,
    ) -> Result[models.SeriesPage]:
        """Search DICOM series.

        Searches the series of all domains the user has access to, newest first. Use it to find series for
        `createCase`: `images` tells which image numbers a volume descriptor may name.

        Args:
            filter: What to search for. Everything when absent.
            sort: Order of the results. Newest first (`createdAt` -1) when absent, in searches of a my list the
                item added last (`addedToListAt` -1). An empty object means no order at all.
            limit: Number of results a page.
            page: Number of the page, from 1. A page beyond the end is empty.
        """
        return await self._call(
            "listSeries",
            {"filter": filter, "sort": sort, "limit": limit, "page": page},
            _LIST_SERIES,
        )

    async def list_series_of_my_list(
        self,
        *,
        my_list_id: str,
        filter: models.SeriesFilter | Mapping[str, Any] | None = None,
        sort: Mapping[str, Literal[1, -1]] | None = None,
        limit: int | None = None,
        page: int | None = None,
    ) -> Result[models.SeriesPage]:
        """Search series of one of my own lists.

        The same search as `listSeries`, restricted to the items of a my list of series. By default the series
        added last comes first. Only lists owned by the caller are found.

        Args:
            my_list_id: Identifier of the my list.
            filter: What to search for. Everything when absent.
            sort: Order of the results. Newest first (`createdAt` -1) when absent, in searches of a my list the
                item added last (`addedToListAt` -1). An empty object means no order at all.
            limit: Number of results a page.
            page: Number of the page, from 1. A page beyond the end is empty.
        """
        return await self._call(
            "listSeriesOfMyList",
            {"myListId": my_list_id, "filter": filter, "sort": sort, "limit": limit, "page": page},
            _LIST_SERIES_OF_MY_LIST,
        )

    async def get_series(
        self,
        *,
        series_uid: str,
    ) -> Result[models.Series]:
        """Get a series.

        Returns what the server knows about one DICOM series. `patientInfo` is left out unless the user has the
        global privilege and the preference to see it. The series is looked up before the domain is checked.

        Args:
            series_uid: Series Instance UID.
        """
        return await self._call(
            "getSeries",
            {"seriesUid": series_uid},
            _GET_SERIES,
        )

    async def delete_series(
        self,
        *,
        series_uid: str,
    ) -> Result[None]:
        """Delete a series and its files.

        Removes a series and its DICOM files from the server. Refused while any revision of a case or a plug-in
        job uses it. The server checks neither a privilege nor the domain of the caller, so take special care.

        Args:
            series_uid: Series Instance UID.
        """
        return await self._call(
            "deleteSeries",
            {"seriesUid": series_uid},
            _DELETE_SERIES,
        )

    async def get_series_orientation(
        self,
        *,
        series_uid: str,
        start: int | None = None,
        end: int | None = None,
    ) -> Result[models.SeriesOrientation]:
        """Get the slice order of a series.

        Tells from the DICOM positions of two images whether the series runs from the head or from the feet. Use
        it to choose `delta` 1 or -1 for a volume descriptor.

        Args:
            series_uid: Series Instance UID.
            start: First image number to compare; the lowest number of the series by default.
            end: Last image number to compare; the highest number of the series by default.
        """
        return await self._call(
            "getSeriesOrientation",
            {"seriesUid": series_uid, "start": start, "end": end},
            _GET_SERIES_ORIENTATION,
        )

    async def upload_series(
        self,
        *,
        domain: str,
        files: Sequence[FileInput],
    ) -> Result[models.StartedTask]:
        """Upload DICOM files or archives.

        Sends DICOM files, or zip and tar archives of them, into a domain. The import runs as a task: poll
        `getTask`, then find the series with `listSeries`. Files that are not DICOM are skipped. A file may have
        200 MiB unless the server is configured otherwise (`uploadFileSizeMaxBytes` of `getFullLoginInfo`).

        Args:
            domain: Domain to upload into; one of `domains` of `getFullLoginInfo`.
            files: DICOM files, or archives of them.
        """
        return await self._call(
            "uploadSeries",
            {"domain": domain, "files": files},
            _UPLOAD_SERIES,
        )

    async def upload_single_instance(
        self,
        *,
        domain: str,
        files: FileInput,
    ) -> Result[None]:
        """Upload one DICOM file at once.

        Sends exactly one plain DICOM file and imports it before answering. Archives are refused; use
        `uploadSeries` for them and for more than one file.

        Args:
            domain: Domain to upload into; one of `domains` of `getFullLoginInfo`.
            files: One plain DICOM file.
        """
        return await self._call(
            "uploadSingleInstance",
            {"domain": domain, "files": files},
            _UPLOAD_SINGLE_INSTANCE,
        )

    async def list_my_lists(
        self,

    ) -> Result[list[models.MyList]]:
        """List my own lists.

        Names the lists of the user, without their items. Lists which others share with the user are in
        `getFullLoginInfo`. This is the one list of the API that really is a bare array.
        """
        return await self._call(
            "listMyLists",
            {},
            _LIST_MY_LISTS,
        )

    async def create_my_list(
        self,
        *,
        name: str,
        resource_type: Literal['series', 'clinicalCases', 'pluginJobs'],
        public: bool,
    ) -> Result[models.CreatedMyList]:
        """Create a my list.

        Creates an empty list of cases, series or plug-in jobs. Fill it with `changeMyListItems`.

        Args:
            name: Name of the list, 1 to 64 characters.
            resource_type: What the list holds.
            public: Whether every user may read the list.
        """
        return await self._call(
            "createMyList",
            {"name": name, "resourceType": resource_type, "public": public},
            _CREATE_MY_LIST,
        )

    async def get_my_list(
        self,
        *,
        my_list_id: str,
    ) -> Result[models.MyListWithItems]:
        """Get a my list with its items.

        Returns an own or a public list with the identifiers of its items.

        Args:
            my_list_id: Identifier of the my list.
        """
        return await self._call(
            "getMyList",
            {"myListId": my_list_id},
            _GET_MY_LIST,
        )

    async def delete_my_list(
        self,
        *,
        my_list_id: str,
    ) -> Result[None]:
        """Delete a my list.

        Removes an own list. Its items (cases, series, jobs) stay. There is no way to restore the list.

        Args:
            my_list_id: Identifier of the my list.
        """
        return await self._call(
            "deleteMyList",
            {"myListId": my_list_id},
            _DELETE_MY_LIST,
        )

    async def update_my_list(
        self,
        *,
        my_list_id: str,
        name: str | None = None,
        public: bool | None = None,
        editors: Sequence[models.UserEditor | Mapping[str, Any] | models.GroupEditor] | None = None,
    ) -> Result[None]:
        """Rename or share a my list.

        Changes name, visibility or editors of an own list. `editors` replaces the whole array: send the present
        editors too.

        Args:
            my_list_id: Identifier of the my list.
            name: New name, 1 to 64 characters.
            public: Whether every user may read the list.
            editors: All editors the list is to have. Those not named lose their right.
        """
        return await self._call(
            "updateMyList",
            {"myListId": my_list_id, "name": name, "public": public, "editors": editors},
            _UPDATE_MY_LIST,
        )

    async def change_my_list_items(
        self,
        *,
        my_list_id: str,
        operation: Literal['add', 'remove'],
        resource_ids: Sequence[str],
    ) -> Result[models.ChangedItems]:
        """Add or remove items of a my list.

        Adds items to a list, or takes them out, as owner or editor. A list holds at most 1000 items. When one
        of the added items does not exist nothing is added. Adding does not check that the caller may read the
        item.

        Args:
            my_list_id: Identifier of the my list.
            operation: Whether to add or to remove the items.
            resource_ids: Identifiers of cases, series (UIDs) or plug-in jobs, as the list's `resourceType`
                says.
        """
        return await self._call(
            "changeMyListItems",
            {"myListId": my_list_id, "operation": operation, "resourceIds": resource_ids},
            _CHANGE_MY_LIST_ITEMS,
        )

    async def list_tasks(
        self,
        *,
        filter: models.TaskFilter | Mapping[str, Any] | None = None,
        sort: Mapping[str, Literal[1, -1]] | None = None,
        limit: int | None = None,
        page: int | None = None,
    ) -> Result[models.TaskPage]:
        """Search my tasks.

        Lists imports and exports started by the user, newest first. A task that was left `processing` by a
        restart of the server turns to `error` when this list is fetched. Progress messages exist only as
        server-sent events of `GET /tasks/report`, which this contract leaves out.

        Args:
            filter: What to search for. Everything when absent.
            sort: Order of the results. Newest first (`createdAt` -1) when absent, in searches of a my list the
                item added last (`addedToListAt` -1). An empty object means no order at all.
            limit: Number of results a page.
            page: Number of the page, from 1. A page beyond the end is empty.
        """
        return await self._call(
            "listTasks",
            {"filter": filter, "sort": sort, "limit": limit, "page": page},
            _LIST_TASKS,
        )

    async def get_task(
        self,
        *,
        task_id: str,
    ) -> Result[models.Task]:
        """Get the state of a task.

        Poll this after `exportMhd` or `uploadSeries` until `status` is `finished` or `error`; once every few
        seconds is enough. After a restart of the server a task may stay `processing` for ever here; fetch
        `listTasks` once to find out.

        Args:
            task_id: Identifier of the task, as returned when it was started.
        """
        return await self._call(
            "getTask",
            {"taskId": task_id},
            _GET_TASK,
        )

    async def dismiss_task(
        self,
        *,
        task_id: str,
        dismissed: bool,
    ) -> Result[None]:
        """Dismiss a finished task.

        Marks a task as dismissed, which deletes its file from the server, or takes the mark back (the file does
        not return). Fetch the file with `downloadTask` first. Only finished tasks can be changed.

        Args:
            task_id: Identifier of the task, as returned when it was started.
            dismissed: True deletes the file of the task.
        """
        return await self._call(
            "dismissTask",
            {"taskId": task_id, "dismissed": dismissed},
            _DISMISS_TASK,
        )

    async def download_task(
        self,
        *,
        task_id: str,
        save_to: Path | None = None,
        progress: Progress | None = None,
    ) -> Result[bytes | None]:
        """Download the file of a finished task.

        Fetches the archive an export task has written. Available for one week, until the task is dismissed.

        Args:
            task_id: Identifier of the task, as returned when it was started.
        """
        return await self._call(
            "downloadTask",
            {"taskId": task_id},
            _DOWNLOAD_TASK,
            save_to=save_to,
            progress=progress,
        )

    async def get_blob(
        self,
        *,
        sha1: str,
        save_to: Path | None = None,
        progress: Progress | None = None,
    ) -> Result[bytes | None]:
        """Get the bits of a voxel label.

        Fetches a blob by its hash. For a voxel label: one bit for each voxel of its box, most significant bit
        of each byte first, x fastest, then y, then z. `size` and `origin` of the label say where the box lies
        in the volume of the series.

        Args:
            sha1: SHA-1 hash of the uncompressed bytes, 40 lower case hexadecimal digits.
        """
        return await self._call(
            "getBlob",
            {"sha1": sha1},
            _GET_BLOB,
            save_to=save_to,
            progress=progress,
        )

    async def put_blob(
        self,
        *,
        sha1: str,
        body: FileInput,
    ) -> Result[None]:
        """Store the bits of a voxel label.

        Stores bytes under the SHA-1 hash of their uncompressed form; repeating it changes nothing. Needed
        before a revision may name the hash in a voxel label. Pack one bit for each voxel of the label's box,
        most significant bit first, x fastest, then y, then z, `ceil(x * y * z / 8)` bytes in all: the server
        does not compare this length with `size`, but a label whose length is wrong makes every export of its
        revision fail. At most 20 MB uncompressed. The server also takes `Content-Encoding: gzip`, which this
        contract does not use. Any user with a token may store blobs.

        Args:
            sha1: SHA-1 hash of the uncompressed bytes, 40 lower case hexadecimal digits.
            body: The bytes whose hash is in the path.
        """
        return await self._call(
            "putBlob",
            {"sha1": sha1, "body": body},
            _PUT_BLOB,
        )

    async def get_project(
        self,
        *,
        project_id: str,
    ) -> Result[models.Project]:
        """Get a project.

        Returns tags, attribute schemas and window presets of a project. Needs role `read`. There is no list of
        projects for ordinary users: their identifiers are in `getFullLoginInfo`.

        Args:
            project_id: Identifier of the project.
        """
        return await self._call(
            "getProject",
            {"projectId": project_id},
            _GET_PROJECT,
        )


class CircusSyncClient(SyncApi):
    """CIRCUS DB API (Cases and what they need).

    Blocking; a context manager. Every call is checked against the contract, both ways.
    """

    contract = staticmethod(load)

    def list_cases(
        self,
        *,
        filter: models.CaseFilter | Mapping[str, Any] | None = None,
        sort: Mapping[str, Literal[1, -1]] | None = None,
        limit: int | None = None,
        page: int | None = None,
    ) -> Result[models.CasePage | list[models.CaseSummary]]:
        """Search cases.

        Searches the cases of all projects in which the user has role `read`. Users without any such project get
        an empty result, not an error. Use it to find case identifiers, then `getCase` for all revisions of one
        case.

        A case is invisible in every search when none of its revisions names a series that exists on the server,
        although `getCase` still returns it. There is no tie-breaker: end `sort` with `caseId` for stable
        paging.

        Args:
            filter: What to search for. Everything when absent.
            sort: Order of the results. Newest first (`createdAt` -1) when absent, in searches of a my list the
                item added last (`addedToListAt` -1). An empty object means no order at all.
            limit: Number of results a page.
            page: Number of the page, from 1. A page beyond the end is empty.
        """
        return self._call(
            "listCases",
            {"filter": filter, "sort": sort, "limit": limit, "page": page},
            _LIST_CASES,
        )

    def create_case(
        self,
        *,
        project_id: str,
        series: Sequence[models.NewCaseSeries | Mapping[str, Any]],
        tags: Sequence[str],
    ) -> Result[models.CreatedCase]:
        """Create a case.

        Creates a case of a project from one or more series with the first revision `Created new case.` (status
        `draft`, no labels, no attributes, creator is the caller). All series must belong to one domain, which
        becomes the domain of the case. The same series may be named twice. Needs role `write` in the project
        and access to the domain of the series.

        A successful call cannot be repeated safely: the next one creates another case.

        Args:
            project_id: An opaque identifier. New ones are ULIDs in lower case (26 characters, ordered by time),
                old ones may have 64 hexadecimal digits or another form.
            series: The series of the case, all of one domain.
            tags: Markers of the new case; an empty list for none.
        """
        return self._call(
            "createCase",
            {"projectId": project_id, "series": series, "tags": tags},
            _CREATE_CASE,
        )

    def list_cases_of_my_list(
        self,
        *,
        my_list_id: str,
        filter: models.CaseFilter | Mapping[str, Any] | None = None,
        sort: Mapping[str, Literal[1, -1]] | None = None,
        limit: int | None = None,
        page: int | None = None,
    ) -> Result[models.CasePage | list[models.CaseSummary]]:
        """Search cases of one of my own lists.

        The same search as `listCases`, restricted to the items of a my list. By default the case added last
        comes first (`addedToListAt` may be used as a sort key here, but is not returned). Deleted cases and
        cases of projects without role `read` are skipped silently.

        Args:
            my_list_id: Identifier of the my list.
            filter: What to search for. Everything when absent.
            sort: Order of the results. Newest first (`createdAt` -1) when absent, in searches of a my list the
                item added last (`addedToListAt` -1). An empty object means no order at all.
            limit: Number of results a page.
            page: Number of the page, from 1. A page beyond the end is empty.
        """
        return self._call(
            "listCasesOfMyList",
            {"myListId": my_list_id, "filter": filter, "sort": sort, "limit": limit, "page": page},
            _LIST_CASES_OF_MY_LIST,
        )

    def update_tags(
        self,
        *,
        operation: Literal['add', 'remove', 'set'],
        tags: Sequence[str],
        case_ids: Sequence[str],
    ) -> Result[None]:
        """Add, remove or set tags of many cases.

        Changes the tags of up to 1000 cases at once. `add` appends the tags a case does not have yet, `remove`
        removes every occurrence and ignores absent tags, `set` replaces all tags (an empty list clears them,
        duplicates are kept). All cases are checked before the first is written. Needs role `write` for every
        case.

        Args:
            operation: `add` appends, `remove` takes away, `set` replaces all tags of each case.
            tags: The tags to add, remove or set. Only `set` takes an empty list.
            case_ids: The cases to change.
        """
        return self._call(
            "updateTags",
            {"operation": operation, "tags": tags, "caseIds": case_ids},
            _UPDATE_TAGS,
        )

    def export_mhd(
        self,
        *,
        case_ids: Sequence[str | models.CaseRevisionRef | Mapping[str, Any]],
        label_pack_type: Literal['isolated', 'combined'] | None = None,
        mhd_line_ending: Literal['lf', 'crlf'] | None = None,
        compression_format: Literal['tgz', 'zip'] | None = None,
    ) -> Result[models.StartedTask]:
        """Export cases as MHD archive.

        Starts a task which packs volumes and voxel labels of the given cases as MetaImage files. Poll `getTask`
        until it is `finished`, then fetch the archive with `downloadTask`.

        The archive holds, for each case, `<caseId>/data.json`, a volume `vol000.mhd` and `.raw` for each
        series, and the voxel labels: `vol000-label000.mhd` and `.raw` for each label (`isolated`), or one
        `vol000-label.mhd` and `.raw` in which label number n has value n+1 and later labels overwrite earlier
        ones (`combined`). Label files are unsigned 8 bit in the size of the whole volume. Other label types are
        not exported, but they are counted in the numbering.

        Needs the global privilege `downloadVolume` and role `read` for every case. An empty `caseIds` gives an
        empty archive. A revision index past the end, or a voxel label without `size` or with bits of the wrong
        length, is only discovered while packing: the task ends with status `error`.

        Args:
            case_ids: The cases to export: identifiers for the latest revisions, or objects that name a
                revision. No case more than once.
            label_pack_type: One file for each voxel label, or one file for all voxel labels of a series.
            mhd_line_ending: Line ends of the header files.
            compression_format: Format of the archive.
        """
        return self._call(
            "exportMhd",
            {"caseIds": case_ids, "labelPackType": label_pack_type, "mhdLineEnding": mhd_line_ending, "compressionFormat": compression_format},
            _EXPORT_MHD,
        )

    def get_case(
        self,
        *,
        case_id: str,
    ) -> Result[models.Case]:
        """Get a case with all its revisions.

        Returns one case with its complete history, oldest revision first. Needs role `read` in the project of
        the case. Start here before `createRevision`: take the last revision, change it, and send the whole
        snapshot back. Patient data are never part of this answer.

        Args:
            case_id: Identifier of the case.
        """
        return self._call(
            "getCase",
            {"caseId": case_id},
            _GET_CASE,
        )

    def delete_case(
        self,
        *,
        case_id: str,
        force: Literal['1'] | None = None,
    ) -> Result[None]:
        """Delete a case for good.

        Removes a case and all its revisions. Blobs of its labels stay. Needs role `moderate`, also for one's
        own cases; cases of other users can be deleted. A case which is in anybody's my list is only deleted
        with `force=1`, which takes it out of every my list in the same transaction. A second deletion answers
        404.

        Args:
            case_id: Identifier of the case.
            force: `1` deletes the case even when it is in a my list. The server knows only this exact value;
                `true` or `01` count as not given.
        """
        return self._call(
            "deleteCase",
            {"caseId": case_id, "force": force},
            _DELETE_CASE,
        )

    def create_revision(
        self,
        *,
        case_id: str,
        description: str,
        attributes: Mapping[str, Any],
        status: str,
        series: Sequence[models.NewRevisionSeries | Mapping[str, Any]],
    ) -> Result[None]:
        """Add a revision to a case.

        Saves a new snapshot of a case. It replaces nothing: earlier revisions stay. Send *all* series and
        labels, not only the changed ones. Creator and date are set by the server. Tags and domains of the case
        are not touched. Needs role `write`.

        Store the bits of every voxel label with `putBlob` first. The series are not checked: unknown
        identifiers, other domains and impossible volume descriptors are saved as sent.

        **Lost updates.** The server reads, appends and writes without any version check: of ten parallel
        requests ten answer 201 and as few as three survive. Send the revisions of a case one after the other
        and verify with `getCase`. The index of the new revision is not returned; it is the number of revisions
        before.

        Args:
            case_id: Identifier of the case.
            description: What was changed and why.
            attributes: Values of all case attributes. Not checked against `caseAttributesSchema` of the
                project.
            status: Free text; in use are `draft`, `approved` and `for-review`.
            series: All series of the case with all their labels.
        """
        return self._call(
            "createRevision",
            {"caseId": case_id, "description": description, "attributes": attributes, "status": status, "series": series},
            _CREATE_REVISION,
        )

    def replace_tags(
        self,
        *,
        case_id: str,
        body: Sequence[str],
    ) -> Result[None]:
        """Replace all tags of a case.

        Stores the given list as the tags of one case, in this order. Tags that are not in the list are lost;
        there is no history of tags. To add or remove single tags use `updateTags`. Changes `updatedAt`, makes
        no revision. Needs role `write`.

        Args:
            case_id: Identifier of the case.
        """
        return self._call(
            "replaceTags",
            {"caseId": case_id, "body": body},
            _REPLACE_TAGS,
        )

    def login(
        self,
        *,
        body: models.PasswordGrant | Mapping[str, Any] | models.RefreshGrant,
    ) -> Result[models.SessionToken]:
        """Get or refresh a session token.

        Trades an e-mail address (or login name) and password for a session token that lives one hour, or a
        refresh token (14 days) for a new pair. Refreshing ends the old access token at once. Programs should
        rather hold a permanent token.
        """
        return self._call(
            "login",
            {"body": body},
            _LOGIN,
        )

    def logout(
        self,

    ) -> Result[None]:
        """End the session.

        Makes the session token unusable. Permanent tokens are not affected; remove them with `deleteToken`.
        Although it is a GET it changes state, so it must never be prefetched or retried as harmless.
        """
        return self._call(
            "logout",
            {},
            _LOGOUT,
        )

    def list_tokens(
        self,

    ) -> Result[models.TokenPage | list[models.Token]]:
        """List my permanent tokens.

        Lists the permanent tokens of the user without the secrets. Use it to find the identifier of a token to
        delete. There is no paging: all tokens are on page 1.
        """
        return self._call(
            "listTokens",
            {},
            _LIST_TOKENS,
        )

    def create_token(
        self,
        *,
        description: str,
    ) -> Result[models.CreatedToken]:
        """Create a permanent token.

        Creates a token that is valid until the end of the year 2100. The secret is shown in this answer only. A
        user can have at most 11.

        Args:
            description: What the token is for, 1 to 32 characters.
        """
        return self._call(
            "createToken",
            {"description": description},
            _CREATE_TOKEN,
        )

    def delete_token(
        self,
        *,
        token_id: str,
    ) -> Result[None]:
        """Delete a permanent token.

        Revokes a permanent token by its identifier (not by the secret). Answers 204 for unknown identifiers
        too, and does not check whose token it is: an identifier of another user works.

        Args:
            token_id: Identifier of the token, as listed by `listTokens`.
        """
        return self._call(
            "deleteToken",
            {"tokenId": token_id},
            _DELETE_TOKEN,
        )

    def get_login_info(
        self,

    ) -> Result[models.LoginInfo]:
        """Who am I.

        Names the user of the token. The cheapest way to check that a token works.
        """
        return self._call(
            "getLoginInfo",
            {},
            _GET_LOGIN_INFO,
        )

    def get_full_login_info(
        self,

    ) -> Result[models.FullLoginInfo]:
        """My rights, projects, domains and lists.

        The user with everything they may do: global privileges, accessible projects with roles, domains, own
        and shared my lists. For ordinary users this is the only way to list projects, so call it first to learn
        a `projectId` and whether creating cases in it is allowed.
        """
        return self._call(
            "getFullLoginInfo",
            {},
            _GET_FULL_LOGIN_INFO,
        )

    def get_status(
        self,

    ) -> Result[models.ServerStatus]:
        """Is the server running.

        Answers without a token. Use it to tell an unreachable server from a refused token.
        """
        return self._call(
            "getStatus",
            {},
            _GET_STATUS,
        )

    def list_series(
        self,
        *,
        filter: models.SeriesFilter | Mapping[str, Any] | None = None,
        sort: Mapping[str, Literal[1, -1]] | None = None,
        limit: int | None = None,
        page: int | None = None,
    ) -> Result[models.SeriesPage]:
        """Search DICOM series.

        Searches the series of all domains the user has access to, newest first. Use it to find series for
        `createCase`: `images` tells which image numbers a volume descriptor may name.

        Args:
            filter: What to search for. Everything when absent.
            sort: Order of the results. Newest first (`createdAt` -1) when absent, in searches of a my list the
                item added last (`addedToListAt` -1). An empty object means no order at all.
            limit: Number of results a page.
            page: Number of the page, from 1. A page beyond the end is empty.
        """
        return self._call(
            "listSeries",
            {"filter": filter, "sort": sort, "limit": limit, "page": page},
            _LIST_SERIES,
        )

    def list_series_of_my_list(
        self,
        *,
        my_list_id: str,
        filter: models.SeriesFilter | Mapping[str, Any] | None = None,
        sort: Mapping[str, Literal[1, -1]] | None = None,
        limit: int | None = None,
        page: int | None = None,
    ) -> Result[models.SeriesPage]:
        """Search series of one of my own lists.

        The same search as `listSeries`, restricted to the items of a my list of series. By default the series
        added last comes first. Only lists owned by the caller are found.

        Args:
            my_list_id: Identifier of the my list.
            filter: What to search for. Everything when absent.
            sort: Order of the results. Newest first (`createdAt` -1) when absent, in searches of a my list the
                item added last (`addedToListAt` -1). An empty object means no order at all.
            limit: Number of results a page.
            page: Number of the page, from 1. A page beyond the end is empty.
        """
        return self._call(
            "listSeriesOfMyList",
            {"myListId": my_list_id, "filter": filter, "sort": sort, "limit": limit, "page": page},
            _LIST_SERIES_OF_MY_LIST,
        )

    def get_series(
        self,
        *,
        series_uid: str,
    ) -> Result[models.Series]:
        """Get a series.

        Returns what the server knows about one DICOM series. `patientInfo` is left out unless the user has the
        global privilege and the preference to see it. The series is looked up before the domain is checked.

        Args:
            series_uid: Series Instance UID.
        """
        return self._call(
            "getSeries",
            {"seriesUid": series_uid},
            _GET_SERIES,
        )

    def delete_series(
        self,
        *,
        series_uid: str,
    ) -> Result[None]:
        """Delete a series and its files.

        Removes a series and its DICOM files from the server. Refused while any revision of a case or a plug-in
        job uses it. The server checks neither a privilege nor the domain of the caller, so take special care.

        Args:
            series_uid: Series Instance UID.
        """
        return self._call(
            "deleteSeries",
            {"seriesUid": series_uid},
            _DELETE_SERIES,
        )

    def get_series_orientation(
        self,
        *,
        series_uid: str,
        start: int | None = None,
        end: int | None = None,
    ) -> Result[models.SeriesOrientation]:
        """Get the slice order of a series.

        Tells from the DICOM positions of two images whether the series runs from the head or from the feet. Use
        it to choose `delta` 1 or -1 for a volume descriptor.

        Args:
            series_uid: Series Instance UID.
            start: First image number to compare; the lowest number of the series by default.
            end: Last image number to compare; the highest number of the series by default.
        """
        return self._call(
            "getSeriesOrientation",
            {"seriesUid": series_uid, "start": start, "end": end},
            _GET_SERIES_ORIENTATION,
        )

    def upload_series(
        self,
        *,
        domain: str,
        files: Sequence[FileInput],
    ) -> Result[models.StartedTask]:
        """Upload DICOM files or archives.

        Sends DICOM files, or zip and tar archives of them, into a domain. The import runs as a task: poll
        `getTask`, then find the series with `listSeries`. Files that are not DICOM are skipped. A file may have
        200 MiB unless the server is configured otherwise (`uploadFileSizeMaxBytes` of `getFullLoginInfo`).

        Args:
            domain: Domain to upload into; one of `domains` of `getFullLoginInfo`.
            files: DICOM files, or archives of them.
        """
        return self._call(
            "uploadSeries",
            {"domain": domain, "files": files},
            _UPLOAD_SERIES,
        )

    def upload_single_instance(
        self,
        *,
        domain: str,
        files: FileInput,
    ) -> Result[None]:
        """Upload one DICOM file at once.

        Sends exactly one plain DICOM file and imports it before answering. Archives are refused; use
        `uploadSeries` for them and for more than one file.

        Args:
            domain: Domain to upload into; one of `domains` of `getFullLoginInfo`.
            files: One plain DICOM file.
        """
        return self._call(
            "uploadSingleInstance",
            {"domain": domain, "files": files},
            _UPLOAD_SINGLE_INSTANCE,
        )

    def list_my_lists(
        self,

    ) -> Result[list[models.MyList]]:
        """List my own lists.

        Names the lists of the user, without their items. Lists which others share with the user are in
        `getFullLoginInfo`. This is the one list of the API that really is a bare array.
        """
        return self._call(
            "listMyLists",
            {},
            _LIST_MY_LISTS,
        )

    def create_my_list(
        self,
        *,
        name: str,
        resource_type: Literal['series', 'clinicalCases', 'pluginJobs'],
        public: bool,
    ) -> Result[models.CreatedMyList]:
        """Create a my list.

        Creates an empty list of cases, series or plug-in jobs. Fill it with `changeMyListItems`.

        Args:
            name: Name of the list, 1 to 64 characters.
            resource_type: What the list holds.
            public: Whether every user may read the list.
        """
        return self._call(
            "createMyList",
            {"name": name, "resourceType": resource_type, "public": public},
            _CREATE_MY_LIST,
        )

    def get_my_list(
        self,
        *,
        my_list_id: str,
    ) -> Result[models.MyListWithItems]:
        """Get a my list with its items.

        Returns an own or a public list with the identifiers of its items.

        Args:
            my_list_id: Identifier of the my list.
        """
        return self._call(
            "getMyList",
            {"myListId": my_list_id},
            _GET_MY_LIST,
        )

    def delete_my_list(
        self,
        *,
        my_list_id: str,
    ) -> Result[None]:
        """Delete a my list.

        Removes an own list. Its items (cases, series, jobs) stay. There is no way to restore the list.

        Args:
            my_list_id: Identifier of the my list.
        """
        return self._call(
            "deleteMyList",
            {"myListId": my_list_id},
            _DELETE_MY_LIST,
        )

    def update_my_list(
        self,
        *,
        my_list_id: str,
        name: str | None = None,
        public: bool | None = None,
        editors: Sequence[models.UserEditor | Mapping[str, Any] | models.GroupEditor] | None = None,
    ) -> Result[None]:
        """Rename or share a my list.

        Changes name, visibility or editors of an own list. `editors` replaces the whole array: send the present
        editors too.

        Args:
            my_list_id: Identifier of the my list.
            name: New name, 1 to 64 characters.
            public: Whether every user may read the list.
            editors: All editors the list is to have. Those not named lose their right.
        """
        return self._call(
            "updateMyList",
            {"myListId": my_list_id, "name": name, "public": public, "editors": editors},
            _UPDATE_MY_LIST,
        )

    def change_my_list_items(
        self,
        *,
        my_list_id: str,
        operation: Literal['add', 'remove'],
        resource_ids: Sequence[str],
    ) -> Result[models.ChangedItems]:
        """Add or remove items of a my list.

        Adds items to a list, or takes them out, as owner or editor. A list holds at most 1000 items. When one
        of the added items does not exist nothing is added. Adding does not check that the caller may read the
        item.

        Args:
            my_list_id: Identifier of the my list.
            operation: Whether to add or to remove the items.
            resource_ids: Identifiers of cases, series (UIDs) or plug-in jobs, as the list's `resourceType`
                says.
        """
        return self._call(
            "changeMyListItems",
            {"myListId": my_list_id, "operation": operation, "resourceIds": resource_ids},
            _CHANGE_MY_LIST_ITEMS,
        )

    def list_tasks(
        self,
        *,
        filter: models.TaskFilter | Mapping[str, Any] | None = None,
        sort: Mapping[str, Literal[1, -1]] | None = None,
        limit: int | None = None,
        page: int | None = None,
    ) -> Result[models.TaskPage]:
        """Search my tasks.

        Lists imports and exports started by the user, newest first. A task that was left `processing` by a
        restart of the server turns to `error` when this list is fetched. Progress messages exist only as
        server-sent events of `GET /tasks/report`, which this contract leaves out.

        Args:
            filter: What to search for. Everything when absent.
            sort: Order of the results. Newest first (`createdAt` -1) when absent, in searches of a my list the
                item added last (`addedToListAt` -1). An empty object means no order at all.
            limit: Number of results a page.
            page: Number of the page, from 1. A page beyond the end is empty.
        """
        return self._call(
            "listTasks",
            {"filter": filter, "sort": sort, "limit": limit, "page": page},
            _LIST_TASKS,
        )

    def get_task(
        self,
        *,
        task_id: str,
    ) -> Result[models.Task]:
        """Get the state of a task.

        Poll this after `exportMhd` or `uploadSeries` until `status` is `finished` or `error`; once every few
        seconds is enough. After a restart of the server a task may stay `processing` for ever here; fetch
        `listTasks` once to find out.

        Args:
            task_id: Identifier of the task, as returned when it was started.
        """
        return self._call(
            "getTask",
            {"taskId": task_id},
            _GET_TASK,
        )

    def dismiss_task(
        self,
        *,
        task_id: str,
        dismissed: bool,
    ) -> Result[None]:
        """Dismiss a finished task.

        Marks a task as dismissed, which deletes its file from the server, or takes the mark back (the file does
        not return). Fetch the file with `downloadTask` first. Only finished tasks can be changed.

        Args:
            task_id: Identifier of the task, as returned when it was started.
            dismissed: True deletes the file of the task.
        """
        return self._call(
            "dismissTask",
            {"taskId": task_id, "dismissed": dismissed},
            _DISMISS_TASK,
        )

    def download_task(
        self,
        *,
        task_id: str,
        save_to: Path | None = None,
        progress: Progress | None = None,
    ) -> Result[bytes | None]:
        """Download the file of a finished task.

        Fetches the archive an export task has written. Available for one week, until the task is dismissed.

        Args:
            task_id: Identifier of the task, as returned when it was started.
        """
        return self._call(
            "downloadTask",
            {"taskId": task_id},
            _DOWNLOAD_TASK,
            save_to=save_to,
            progress=progress,
        )

    def get_blob(
        self,
        *,
        sha1: str,
        save_to: Path | None = None,
        progress: Progress | None = None,
    ) -> Result[bytes | None]:
        """Get the bits of a voxel label.

        Fetches a blob by its hash. For a voxel label: one bit for each voxel of its box, most significant bit
        of each byte first, x fastest, then y, then z. `size` and `origin` of the label say where the box lies
        in the volume of the series.

        Args:
            sha1: SHA-1 hash of the uncompressed bytes, 40 lower case hexadecimal digits.
        """
        return self._call(
            "getBlob",
            {"sha1": sha1},
            _GET_BLOB,
            save_to=save_to,
            progress=progress,
        )

    def put_blob(
        self,
        *,
        sha1: str,
        body: FileInput,
    ) -> Result[None]:
        """Store the bits of a voxel label.

        Stores bytes under the SHA-1 hash of their uncompressed form; repeating it changes nothing. Needed
        before a revision may name the hash in a voxel label. Pack one bit for each voxel of the label's box,
        most significant bit first, x fastest, then y, then z, `ceil(x * y * z / 8)` bytes in all: the server
        does not compare this length with `size`, but a label whose length is wrong makes every export of its
        revision fail. At most 20 MB uncompressed. The server also takes `Content-Encoding: gzip`, which this
        contract does not use. Any user with a token may store blobs.

        Args:
            sha1: SHA-1 hash of the uncompressed bytes, 40 lower case hexadecimal digits.
            body: The bytes whose hash is in the path.
        """
        return self._call(
            "putBlob",
            {"sha1": sha1, "body": body},
            _PUT_BLOB,
        )

    def get_project(
        self,
        *,
        project_id: str,
    ) -> Result[models.Project]:
        """Get a project.

        Returns tags, attribute schemas and window presets of a project. Needs role `read`. There is no list of
        projects for ordinary users: their identifiers are in `getFullLoginInfo`.

        Args:
            project_id: Identifier of the project.
        """
        return self._call(
            "getProject",
            {"projectId": project_id},
            _GET_PROJECT,
        )
