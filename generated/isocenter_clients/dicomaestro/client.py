"""DICOMaestro developer API: a typed client, asynchronous and blocking.

Generated from openapi/dicomaestro.yaml by `isocenter generate`. Do not edit: change the specification and generate again.
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

__all__ = ["DicomaestroClient", "DicomaestroSyncClient"]

_LIST_ALLOWED_FIELDS: Shape[models.AllowedFields] = Shape(lambda: models.AllowedFields)
_LIST_REQUIRED_FIELD_TYPES: Shape[models.RequiredFieldTypes] = Shape(lambda: models.RequiredFieldTypes)
_OBTAIN_TOKEN: Shape[models.TokenPair] = Shape(lambda: models.TokenPair)
_REFRESH_TOKEN: Shape[models.AccessToken] = Shape(lambda: models.AccessToken)
_REGISTER_USER: Shape[models.Message] = Shape(lambda: models.Message)
_GET_DEVELOPER_PROFILE: Shape[models.DeveloperProfile] = Shape(lambda: models.DeveloperProfile)
_CREATE_DEVELOPER_PROFILE: Shape[models.DeveloperProfile] = Shape(lambda: models.DeveloperProfile)
_GET_ACTIVITY_SUMMARY: Shape[models.ActivitySummary] = Shape(lambda: models.ActivitySummary)
_LIST_API_KEYS: Shape[list[models.ApiKey]] = Shape(lambda: list[models.ApiKey])
_CREATE_API_KEY: Shape[models.CreatedApiKey] = Shape(lambda: models.CreatedApiKey)
_DELETE_API_KEY: Shape[None] = Shape(lambda: None)
_READ_DICOM_FILE: Shape[models.DicomReadResult | models.DicomReadArchive] = Shape(lambda: models.DicomReadResult | models.DicomReadArchive)
_GENERATE_DICOM_FILE: Shape[bytes | None] = Shape(lambda: bytes | None)
_LIST_API_KEYS_DEPLOYED: Shape[list[models.ApiKey]] = Shape(lambda: list[models.ApiKey])
_CREATE_API_KEY_DEPLOYED: Shape[models.CreatedApiKey] = Shape(lambda: models.CreatedApiKey)
_DELETE_API_KEY_DEPLOYED: Shape[None] = Shape(lambda: None)
_UPLOAD_CONTENT_DEPLOYED: Shape[bytes | None] = Shape(lambda: bytes | None)


class DicomaestroClient(AsyncApi):
    """DICOMaestro developer API.

    Asynchronous; a context manager. Every call is checked against the contract, both ways.
    """

    contract = staticmethod(load)

    async def list_allowed_fields(
        self,
        *,
        fields_contains: str | None = None,
        fields_startswith: str | None = None,
        fields_endswith: str | None = None,
        fields_regex: str | None = None,
    ) -> Result[models.AllowedFields]:
        """List the DICOM keywords the service knows.

        Gives the DICOM keywords that may be used as `fields` when reading and as metadata when generating a
        file. Without filters it is the whole dictionary, about five thousand keywords; several filters must all
        match. Matching is case-sensitive. No account is needed, but credentials that are sent must be good.

        Args:
            fields_contains: Keep keywords that contain this text.
            fields_startswith: Keep keywords that start with this text.
            fields_endswith: Keep keywords that end with this text.
            fields_regex: Keep keywords that match this regular expression. It is written in Python's dialect
                and anchored at the start only, so end it with `$` to match whole keywords.
        """
        return await self._call(
            "listAllowedFields",
            {"fields__contains": fields_contains, "fields__startswith": fields_startswith, "fields__endswith": fields_endswith, "fields__regex": fields_regex},
            _LIST_ALLOWED_FIELDS,
        )

    async def list_required_field_types(
        self,

    ) -> Result[models.RequiredFieldTypes]:
        """List the value type of every DICOM keyword.

        Gives the Python type the service uses for the value of each keyword. Use it to see how a value must
        look before it is sent as metadata to generate a file. No account is needed, but credentials that are
        sent must be good.
        """
        return await self._call(
            "listRequiredFieldTypes",
            {},
            _LIST_REQUIRED_FIELD_TYPES,
        )

    async def obtain_token(
        self,
        *,
        email: str,
        password: str,
    ) -> Result[models.TokenPair]:
        """Obtain an access and a refresh token.

        Exchanges the email and password of an account for two tokens. The access token lives 900 seconds and
        goes out as `Authorization: Bearer <access token>`; the refresh token lives 30 days. The service also
        takes the body as a form.

        Args:
            email: Email address of the account.
            password: Password of the account.
        """
        return await self._call(
            "obtainToken",
            {"email": email, "password": password},
            _OBTAIN_TOKEN,
        )

    async def refresh_token(
        self,
        *,
        refresh: str,
    ) -> Result[models.AccessToken]:
        """Obtain a new access token.

        Exchanges a refresh token for a new access token of 900 seconds. The refresh token itself stays the same
        until it expires. A cookie `refresh_token`, as set when the tokens were obtained, would win over the
        body; our client keeps no cookies, so the body is always what counts.

        Args:
            refresh: The refresh token given by obtainToken.
        """
        return await self._call(
            "refreshToken",
            {"refresh": refresh},
            _REFRESH_TOKEN,
        )

    async def register_user(
        self,
        *,
        email: str,
        first_name: str,
        last_name: str,
        password: str,
    ) -> Result[models.Message]:
        """Register an account.

        Makes the account which the guide takes for granted. It gives no token: obtain one with the same email
        and password.

        Args:
            email: Email address, the login name of the account. One account an address.
            first_name: First name of the person. Keys without a name are named after it.
            last_name: Last name of the person.
            password: Password of at least 8 characters.
        """
        return await self._call(
            "registerUser",
            {"email": email, "first_name": first_name, "last_name": last_name, "password": password},
            _REGISTER_USER,
        )

    async def get_developer_profile(
        self,

    ) -> Result[models.DeveloperProfile]:
        """Get the developer profile.

        Gives the stored developer profile of the account. Use it to see whether the account is a developer
        already: 404 means it is not, and a profile has to be created before keys can be.
        """
        return await self._call(
            "getDeveloperProfile",
            {},
            _GET_DEVELOPER_PROFILE,
        )

    async def create_developer_profile(
        self,
        *,
        purpose: Literal['testing', 'research', 'education', 'commercial', 'other', ''] | None | Unset = UNSET,
        organization: str | None | Unset = UNSET,
    ) -> Result[models.DeveloperProfile]:
        """Create or change the developer profile.

        Makes the account a developer, which is needed before keys can be created. On an existing profile it
        changes the fields that are sent and leaves the others.

        Args:
            purpose: Purpose of the account. Null or empty to tell none. The guide names `testing` only.
            organization: Organization of the developer, at most 255 characters. Null or empty to tell none.
        """
        return await self._call(
            "createDeveloperProfile",
            {"purpose": purpose, "organization": organization},
            _CREATE_DEVELOPER_PROFILE,
            nullable=('purpose', 'organization'),
        )

    async def get_activity_summary(
        self,
        *,
        timestamp_year: int | None = None,
        timestamp_month: int | None = None,
    ) -> Result[models.ActivitySummary]:
        """Get the usage by day and in total.

        Counts the read and generate calls of the developer by day and in total. Use it to see how much of the
        monthly quota of 1000 calls (each for reading and for generating) is left.

        Args:
            timestamp_year: Count only calls of this calendar year.
            timestamp_month: Count only calls of this month (1 to 12) of any year; send the year too.
        """
        return await self._call(
            "getActivitySummary",
            {"timestamp__year": timestamp_year, "timestamp__month": timestamp_month},
            _GET_ACTIVITY_SUMMARY,
        )

    async def list_api_keys(
        self,

    ) -> Result[list[models.ApiKey]]:
        """List the API keys.

        Lists the keys of the developer, newest first and without pages. The secret of a key is not among the
        fields: it is shown once, when the key is created.
        """
        return await self._call(
            "listApiKeys",
            {},
            _LIST_API_KEYS,
        )

    async def create_api_key(
        self,
        *,
        name: str | None = None,
    ) -> Result[models.CreatedApiKey]:
        """Create an API key.

        Creates a key for the developer and shows its secret, this one time only. The account needs a developer
        profile.

        Args:
            name: Name of the key, at most 50 characters. Empty or left out, it is `<first name>-developer-key`.
        """
        return await self._call(
            "createApiKey",
            {"name": name},
            _CREATE_API_KEY,
        )

    async def delete_api_key(
        self,
        *,
        id: str,
    ) -> Result[None]:
        """Delete an API key.

        Deletes one key of the developer, for good. Programs that use the key are refused from then on. Take the
        id from the list of keys.

        Args:
            id: Id of the key, as the list of keys shows it. It is a text even where it looks like a number.
        """
        return await self._call(
            "deleteApiKey",
            {"id": id},
            _DELETE_API_KEY,
        )

    async def read_dicom_file(
        self,
        *,
        file: FileInput,
        fields: str | None = None,
        return_format: Literal['gif', 'png', 'jpeg'] | None = None,
    ) -> Result[models.DicomReadResult | models.DicomReadArchive]:
        """Read a DICOM file as JSON and images.

        Sends a DICOM file to the service and gets its header as text and its pixels as base64 images. Ask for
        the `fields` that are needed: without them the answer carries every element, the raw pixel data as text
        among them (about 4.5 characters a byte), besides the images. Every call counts against the monthly
        quota, also one that is refused.

        Args:
            file: The file, with a name that ends with `.dcm` or `.zip` (in upper or lower case). The whole form
                may have 100 MB.
            fields: DICOM keywords to give back, separated by commas without spaces. Left out, all elements with
                a value come back. A keyword which the file does not have comes back as `Unknown`.
            return_format: Image format of the answer. `gif` gives one animated image, the others one image a
                frame.
        """
        return await self._call(
            "readDicomFile",
            {"file": file, "fields": fields, "return_format": return_format},
            _READ_DICOM_FILE,
        )

    async def generate_dicom_file(
        self,
        *,
        file_name: str,
        image: FileInput,
        extra: Mapping[str, Any] | None = None,
        save_to: Path | None = None,
        progress: Progress | None = None,
    ) -> Result[bytes | None]:
        """Generate a DICOM file from a picture.

        Sends a PNG or JPEG picture and metadata, and gets a Secondary Capture DICOM file back. Metadata are
        further properties beside `file_name` and `image`, each named by its DICOM keyword. Every call counts
        against the monthly quota, also one that is refused.

        Args:
            file_name: Name of the file to be made, without `.dcm` and without folders, at most 255 characters.
            image: The picture, PNG or JPEG, at most 5 MB (5242880 bytes).
        """
        return await self._call(
            "generateDicomFile",
            {"file_name": file_name, "image": image, **(extra or {})},
            _GENERATE_DICOM_FILE,
            save_to=save_to,
            progress=progress,
        )

    async def list_api_keys_deployed(
        self,

    ) -> Result[list[models.ApiKey]]:
        """List the API keys (deployed path).

        Lists the keys of the developer, newest first and without pages, on the path of the deployed service.
        The id of each key contains the stored hash of its secret.
        """
        return await self._call(
            "listApiKeysDeployed",
            {},
            _LIST_API_KEYS_DEPLOYED,
        )

    async def create_api_key_deployed(
        self,
        *,
        name: str | None = None,
    ) -> Result[models.CreatedApiKey]:
        """Create an API key (deployed path).

        Creates a key for the developer on the path of the deployed service and shows its secret, this one time
        only. The account needs a developer profile.

        Args:
            name: Name of the key, at most 50 characters. Empty or left out, it is `<first name>-developer-key`.
        """
        return await self._call(
            "createApiKeyDeployed",
            {"name": name},
            _CREATE_API_KEY_DEPLOYED,
        )

    async def delete_api_key_deployed(
        self,
        *,
        id: str,
    ) -> Result[None]:
        """Delete an API key (deployed path).

        Deletes one key of the developer, for good, on the path of the deployed service. Take the id from the
        list of the deployed path; it is long and contains `$`, so it must be percent-encoded.

        Args:
            id: Id of the key, as the list of keys shows it. It is a text even where it looks like a number.
        """
        return await self._call(
            "deleteApiKeyDeployed",
            {"id": id},
            _DELETE_API_KEY_DEPLOYED,
        )

    async def upload_content_deployed(
        self,
        *,
        file_name: str,
        image: FileInput,
        extra: Mapping[str, Any] | None = None,
        save_to: Path | None = None,
        progress: Progress | None = None,
    ) -> Result[bytes | None]:
        """Generate a DICOM file (deployed path).

        Sends a PNG or JPEG picture and metadata, and gets a DICOM file back, on the path of the deployed
        service. Metadata are further properties beside `file_name` and `image`, each named by its DICOM
        keyword.

        Args:
            file_name: Name of the file to be made, without `.dcm` and without folders, at most 255 characters.
            image: The picture, PNG or JPEG, at most 5 MB (5242880 bytes).
        """
        return await self._call(
            "uploadContentDeployed",
            {"file_name": file_name, "image": image, **(extra or {})},
            _UPLOAD_CONTENT_DEPLOYED,
            save_to=save_to,
            progress=progress,
        )


class DicomaestroSyncClient(SyncApi):
    """DICOMaestro developer API.

    Blocking; a context manager. Every call is checked against the contract, both ways.
    """

    contract = staticmethod(load)

    def list_allowed_fields(
        self,
        *,
        fields_contains: str | None = None,
        fields_startswith: str | None = None,
        fields_endswith: str | None = None,
        fields_regex: str | None = None,
    ) -> Result[models.AllowedFields]:
        """List the DICOM keywords the service knows.

        Gives the DICOM keywords that may be used as `fields` when reading and as metadata when generating a
        file. Without filters it is the whole dictionary, about five thousand keywords; several filters must all
        match. Matching is case-sensitive. No account is needed, but credentials that are sent must be good.

        Args:
            fields_contains: Keep keywords that contain this text.
            fields_startswith: Keep keywords that start with this text.
            fields_endswith: Keep keywords that end with this text.
            fields_regex: Keep keywords that match this regular expression. It is written in Python's dialect
                and anchored at the start only, so end it with `$` to match whole keywords.
        """
        return self._call(
            "listAllowedFields",
            {"fields__contains": fields_contains, "fields__startswith": fields_startswith, "fields__endswith": fields_endswith, "fields__regex": fields_regex},
            _LIST_ALLOWED_FIELDS,
        )

    def list_required_field_types(
        self,

    ) -> Result[models.RequiredFieldTypes]:
        """List the value type of every DICOM keyword.

        Gives the Python type the service uses for the value of each keyword. Use it to see how a value must
        look before it is sent as metadata to generate a file. No account is needed, but credentials that are
        sent must be good.
        """
        return self._call(
            "listRequiredFieldTypes",
            {},
            _LIST_REQUIRED_FIELD_TYPES,
        )

    def obtain_token(
        self,
        *,
        email: str,
        password: str,
    ) -> Result[models.TokenPair]:
        """Obtain an access and a refresh token.

        Exchanges the email and password of an account for two tokens. The access token lives 900 seconds and
        goes out as `Authorization: Bearer <access token>`; the refresh token lives 30 days. The service also
        takes the body as a form.

        Args:
            email: Email address of the account.
            password: Password of the account.
        """
        return self._call(
            "obtainToken",
            {"email": email, "password": password},
            _OBTAIN_TOKEN,
        )

    def refresh_token(
        self,
        *,
        refresh: str,
    ) -> Result[models.AccessToken]:
        """Obtain a new access token.

        Exchanges a refresh token for a new access token of 900 seconds. The refresh token itself stays the same
        until it expires. A cookie `refresh_token`, as set when the tokens were obtained, would win over the
        body; our client keeps no cookies, so the body is always what counts.

        Args:
            refresh: The refresh token given by obtainToken.
        """
        return self._call(
            "refreshToken",
            {"refresh": refresh},
            _REFRESH_TOKEN,
        )

    def register_user(
        self,
        *,
        email: str,
        first_name: str,
        last_name: str,
        password: str,
    ) -> Result[models.Message]:
        """Register an account.

        Makes the account which the guide takes for granted. It gives no token: obtain one with the same email
        and password.

        Args:
            email: Email address, the login name of the account. One account an address.
            first_name: First name of the person. Keys without a name are named after it.
            last_name: Last name of the person.
            password: Password of at least 8 characters.
        """
        return self._call(
            "registerUser",
            {"email": email, "first_name": first_name, "last_name": last_name, "password": password},
            _REGISTER_USER,
        )

    def get_developer_profile(
        self,

    ) -> Result[models.DeveloperProfile]:
        """Get the developer profile.

        Gives the stored developer profile of the account. Use it to see whether the account is a developer
        already: 404 means it is not, and a profile has to be created before keys can be.
        """
        return self._call(
            "getDeveloperProfile",
            {},
            _GET_DEVELOPER_PROFILE,
        )

    def create_developer_profile(
        self,
        *,
        purpose: Literal['testing', 'research', 'education', 'commercial', 'other', ''] | None | Unset = UNSET,
        organization: str | None | Unset = UNSET,
    ) -> Result[models.DeveloperProfile]:
        """Create or change the developer profile.

        Makes the account a developer, which is needed before keys can be created. On an existing profile it
        changes the fields that are sent and leaves the others.

        Args:
            purpose: Purpose of the account. Null or empty to tell none. The guide names `testing` only.
            organization: Organization of the developer, at most 255 characters. Null or empty to tell none.
        """
        return self._call(
            "createDeveloperProfile",
            {"purpose": purpose, "organization": organization},
            _CREATE_DEVELOPER_PROFILE,
            nullable=('purpose', 'organization'),
        )

    def get_activity_summary(
        self,
        *,
        timestamp_year: int | None = None,
        timestamp_month: int | None = None,
    ) -> Result[models.ActivitySummary]:
        """Get the usage by day and in total.

        Counts the read and generate calls of the developer by day and in total. Use it to see how much of the
        monthly quota of 1000 calls (each for reading and for generating) is left.

        Args:
            timestamp_year: Count only calls of this calendar year.
            timestamp_month: Count only calls of this month (1 to 12) of any year; send the year too.
        """
        return self._call(
            "getActivitySummary",
            {"timestamp__year": timestamp_year, "timestamp__month": timestamp_month},
            _GET_ACTIVITY_SUMMARY,
        )

    def list_api_keys(
        self,

    ) -> Result[list[models.ApiKey]]:
        """List the API keys.

        Lists the keys of the developer, newest first and without pages. The secret of a key is not among the
        fields: it is shown once, when the key is created.
        """
        return self._call(
            "listApiKeys",
            {},
            _LIST_API_KEYS,
        )

    def create_api_key(
        self,
        *,
        name: str | None = None,
    ) -> Result[models.CreatedApiKey]:
        """Create an API key.

        Creates a key for the developer and shows its secret, this one time only. The account needs a developer
        profile.

        Args:
            name: Name of the key, at most 50 characters. Empty or left out, it is `<first name>-developer-key`.
        """
        return self._call(
            "createApiKey",
            {"name": name},
            _CREATE_API_KEY,
        )

    def delete_api_key(
        self,
        *,
        id: str,
    ) -> Result[None]:
        """Delete an API key.

        Deletes one key of the developer, for good. Programs that use the key are refused from then on. Take the
        id from the list of keys.

        Args:
            id: Id of the key, as the list of keys shows it. It is a text even where it looks like a number.
        """
        return self._call(
            "deleteApiKey",
            {"id": id},
            _DELETE_API_KEY,
        )

    def read_dicom_file(
        self,
        *,
        file: FileInput,
        fields: str | None = None,
        return_format: Literal['gif', 'png', 'jpeg'] | None = None,
    ) -> Result[models.DicomReadResult | models.DicomReadArchive]:
        """Read a DICOM file as JSON and images.

        Sends a DICOM file to the service and gets its header as text and its pixels as base64 images. Ask for
        the `fields` that are needed: without them the answer carries every element, the raw pixel data as text
        among them (about 4.5 characters a byte), besides the images. Every call counts against the monthly
        quota, also one that is refused.

        Args:
            file: The file, with a name that ends with `.dcm` or `.zip` (in upper or lower case). The whole form
                may have 100 MB.
            fields: DICOM keywords to give back, separated by commas without spaces. Left out, all elements with
                a value come back. A keyword which the file does not have comes back as `Unknown`.
            return_format: Image format of the answer. `gif` gives one animated image, the others one image a
                frame.
        """
        return self._call(
            "readDicomFile",
            {"file": file, "fields": fields, "return_format": return_format},
            _READ_DICOM_FILE,
        )

    def generate_dicom_file(
        self,
        *,
        file_name: str,
        image: FileInput,
        extra: Mapping[str, Any] | None = None,
        save_to: Path | None = None,
        progress: Progress | None = None,
    ) -> Result[bytes | None]:
        """Generate a DICOM file from a picture.

        Sends a PNG or JPEG picture and metadata, and gets a Secondary Capture DICOM file back. Metadata are
        further properties beside `file_name` and `image`, each named by its DICOM keyword. Every call counts
        against the monthly quota, also one that is refused.

        Args:
            file_name: Name of the file to be made, without `.dcm` and without folders, at most 255 characters.
            image: The picture, PNG or JPEG, at most 5 MB (5242880 bytes).
        """
        return self._call(
            "generateDicomFile",
            {"file_name": file_name, "image": image, **(extra or {})},
            _GENERATE_DICOM_FILE,
            save_to=save_to,
            progress=progress,
        )

    def list_api_keys_deployed(
        self,

    ) -> Result[list[models.ApiKey]]:
        """List the API keys (deployed path).

        Lists the keys of the developer, newest first and without pages, on the path of the deployed service.
        The id of each key contains the stored hash of its secret.
        """
        return self._call(
            "listApiKeysDeployed",
            {},
            _LIST_API_KEYS_DEPLOYED,
        )

    def create_api_key_deployed(
        self,
        *,
        name: str | None = None,
    ) -> Result[models.CreatedApiKey]:
        """Create an API key (deployed path).

        Creates a key for the developer on the path of the deployed service and shows its secret, this one time
        only. The account needs a developer profile.

        Args:
            name: Name of the key, at most 50 characters. Empty or left out, it is `<first name>-developer-key`.
        """
        return self._call(
            "createApiKeyDeployed",
            {"name": name},
            _CREATE_API_KEY_DEPLOYED,
        )

    def delete_api_key_deployed(
        self,
        *,
        id: str,
    ) -> Result[None]:
        """Delete an API key (deployed path).

        Deletes one key of the developer, for good, on the path of the deployed service. Take the id from the
        list of the deployed path; it is long and contains `$`, so it must be percent-encoded.

        Args:
            id: Id of the key, as the list of keys shows it. It is a text even where it looks like a number.
        """
        return self._call(
            "deleteApiKeyDeployed",
            {"id": id},
            _DELETE_API_KEY_DEPLOYED,
        )

    def upload_content_deployed(
        self,
        *,
        file_name: str,
        image: FileInput,
        extra: Mapping[str, Any] | None = None,
        save_to: Path | None = None,
        progress: Progress | None = None,
    ) -> Result[bytes | None]:
        """Generate a DICOM file (deployed path).

        Sends a PNG or JPEG picture and metadata, and gets a DICOM file back, on the path of the deployed
        service. Metadata are further properties beside `file_name` and `image`, each named by its DICOM
        keyword.

        Args:
            file_name: Name of the file to be made, without `.dcm` and without folders, at most 255 characters.
            image: The picture, PNG or JPEG, at most 5 MB (5242880 bytes).
        """
        return self._call(
            "uploadContentDeployed",
            {"file_name": file_name, "image": image, **(extra or {})},
            _UPLOAD_CONTENT_DEPLOYED,
            save_to=save_to,
            progress=progress,
        )
