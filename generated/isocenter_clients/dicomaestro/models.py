"""DICOMaestro developer API: the schemas of dicomaestro.yaml as pydantic models."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Dict, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, RootModel


class Login(BaseModel):
    """
    Email and password of an account.
    """

    email: str
    """
    Email address of the account.
    """
    password: str
    """
    Password of the account.
    """


class TokenPair(BaseModel):
    """
    The two tokens of an account.
    """

    refresh: str
    """
    Token for obtaining further access tokens, good for 30 days.
    """
    access: str
    """
    Token for calls, good for 900 seconds.
    """


class RefreshToken(BaseModel):
    """
    A refresh token.
    """

    refresh: str
    """
    The refresh token given by obtainToken.
    """


class AccessToken(BaseModel):
    """
    An access token.
    """

    access: str
    """
    Token for calls, good for 900 seconds.
    """


class Registration(BaseModel):
    """
    A new account.
    """

    email: str
    """
    Email address, the login name of the account. One account an address.
    """
    first_name: str
    """
    First name of the person. Keys without a name are named after it.
    """
    last_name: str
    """
    Last name of the person.
    """
    password: str
    """
    Password of at least 8 characters.
    """


class Message(BaseModel):
    """
    A sentence about what was done.
    """

    message: str
    """
    What was done.
    """


class DeveloperProfile(BaseModel):
    """
    What an account is used for.
    """

    purpose: str | None
    """
    Purpose of the account. Null or empty when not told.
    """
    organization: str | None
    """
    Organization of the developer. Null or empty when not told.
    """


class DeveloperProfileInput(BaseModel):
    """
    What an account is to be used for.
    """

    purpose: Literal["testing", "research", "education", "commercial", "other", ""] | None = None
    """
    Purpose of the account. Null or empty to tell none. The guide names `testing` only.
    """
    organization: str | None = None
    """
    Organization of the developer, at most 255 characters. Null or empty to tell none.
    """


class DailyActivity(BaseModel):
    """
    The calls of one day.
    """

    day: date
    """
    The day, in the time zone of the service (Europe/Warsaw for the deployed one).
    """
    count: int
    """
    Number of counted calls on that day.
    """


class ActivitySummary(BaseModel):
    """
    How often the developer read and generated files.
    """

    daily_activity: list[DailyActivity]
    """
    The days with calls.
    """
    monthly_total: int
    """
    Sum of the counts.
    """


class ApiKey(BaseModel):
    """
    A key as the list shows it, without its secret.
    """

    id: int | str
    """
    Id of the key, needed to delete it.
    """
    name: str
    """
    Name of the key.
    """
    created: AwareDatetime
    """
    When the key was created, with the offset of the service's time zone.
    """
    revoked: bool
    """
    True when the key is refused.
    """
    expiry_date: AwareDatetime | None
    """
    Until when the key is meant to be used. Null when there is no end. The deployed service does not enforce it.
    """


class NewApiKey(BaseModel):
    """
    A key to be created.
    """

    name: str | None = None
    """
    Name of the key, at most 50 characters. Empty or left out, it is `<first name>-developer-key`.
    """


class CreatedApiKey(BaseModel):
    """
    A new key with its secret, in `key` or in `api_key`. The secret is never shown again.
    """

    id: int | str | None = None
    """
    Id of the key, needed to delete it. The deployed service leaves it out.
    """
    name: str
    """
    Name of the key.
    """
    key: str | None = None
    """
    The secret, as the guide names it.
    """
    api_key: str | None = None
    """
    The secret, as the deployed service names it. A prefix of 8 letters and digits, a dot, and 32 more.
    """


class ReadDicomFileForm(BaseModel):
    """
    A DICOM file and what to give back of it.
    """

    file: str
    """
    The file, with a name that ends with `.dcm` or `.zip` (in upper or lower case). The whole form may have 100 MB.
    """
    fields: str | None = None
    """
    DICOM keywords to give back, separated by commas without spaces. Left out, all elements with a value come back. A keyword which the file does not have comes back as `Unknown`.
    """
    return_format: Literal["gif", "png", "jpeg"] | None = None
    """
    Image format of the answer. `gif` gives one animated image, the others one image a frame.
    """


class DicomReadResult(BaseModel):
    """
    The header of a DICOM file, flat, from keyword to text, and its images. File meta and private elements are left out, and without `fields` also elements without a value. Several values are one text in the form of a Python list (`['ORIGINAL', 'PRIMARY']`), tags look like `(0018,1063)`, sequences are an indented listing.
    """

    model_config = ConfigDict(
        extra="allow",
    )
    __annotations__ = {
        "__pydantic_extra__": Dict[str, str],
    }
    image_type: Annotated[str | None, Field(alias="ImageType")] = None
    """
    Kind of the image, such as original or derived, as a Python list.
    """
    sop_class_uid: Annotated[str | None, Field(alias="SOPClassUID")] = None
    """
    UID of the SOP class.
    """
    sop_instance_uid: Annotated[str | None, Field(alias="SOPInstanceUID")] = None
    """
    UID of the instance.
    """
    patient_name: Annotated[str | None, Field(alias="PatientName")] = None
    """
    Name of the patient.
    """
    modality: Annotated[str | None, Field(alias="Modality")] = None
    """
    Kind of equipment, such as CT or XA.
    """
    pixel_data: Annotated[str | None, Field(alias="PixelData")] = None
    """
    The stored (encoded) pixel data as Python prints bytes, about 4.5 characters a byte. It comes when `fields` names it or was not sent.
    """
    image_format: Annotated[str | None, Field(alias="ImageFormat")] = None
    """
    Format of the images. A file without pixels has none, unless its header carries the retired attribute of the same name (0028,0040).
    """
    images: Annotated[list[str] | None, Field(alias="Images")] = None
    """
    The images, one a frame, or a single animated one for GIF. Left out when the file has no pixels.
    """


class DicomReadArchiveFile(BaseModel):
    """
    The same as for a single file, and the name of the file in the archive.
    """

    model_config = ConfigDict(
        extra="allow",
    )
    __annotations__ = {
        "__pydantic_extra__": Dict[str, str],
    }
    name: str
    """
    Name of the file in the archive.
    """
    image_format: Annotated[str | None, Field(alias="ImageFormat")] = None
    """
    Format of the images. A file without pixels has none, unless its header carries the retired attribute of the same name (0028,0040).
    """
    images: Annotated[list[str] | None, Field(alias="Images")] = None
    """
    The images, one a frame, or a single animated one for GIF. Left out when the file has no pixels.
    """


class GenerateDicomFileForm(BaseModel):
    """
    A picture, and beside it any DICOM attributes as further properties, named by keyword. UIDs of study, series and instance and everything that describes the pixels (Rows, Columns, ...) are set by the service and overwrite what was sent.
    """

    model_config = ConfigDict(
        extra="allow",
    )
    __annotations__ = {
        "__pydantic_extra__": Dict[str, str],
    }
    file_name: str
    """
    Name of the file to be made, without `.dcm` and without folders, at most 255 characters.
    """
    image: str
    """
    The picture, PNG or JPEG, at most 5 MB (5242880 bytes).
    """


class QuotaExceeded(BaseModel):
    """
    The monthly quota is used up.
    """

    error: str
    """
    Which limit was exceeded, in words.
    """
    quota: int
    """
    Number of calls allowed a month for this operation.
    """
    requests_used: int
    """
    Number of calls counted this month.
    """


class Detail(BaseModel):
    """
    One sentence about the request.
    """

    detail: str
    """
    The sentence.
    """


class TokenMessage(BaseModel):
    """
    One attempt to read a token.
    """

    token_class: str | None = None
    """
    Kind of token tried.
    """
    token_type: str | None = None
    """
    Type the token should have had.
    """
    message: str | None = None
    """
    Why it failed.
    """


class HtmlPage(RootModel[str]):
    root: str
    """
    An HTML page for people.
    """


class AllowedFields(BaseModel):
    """
    DICOM keywords the service knows.
    """

    allowed_fields: Annotated[list[str], Field(alias="allowedFields")]
    """
    The keywords that match all filters.
    """
    dicom_version: Annotated[str, Field(alias="dicomVersion")]
    """
    Version of the dictionary the keywords come from.
    """


class RequiredFieldTypes(BaseModel):
    """
    The value types of DICOM keywords.
    """

    required_field_types: Annotated[dict[str, str], Field(alias="requiredFieldTypes")]
    """
    From DICOM keyword to the name of a Python type, in the form Python prints a class.
    """
    dicom_version: Annotated[str, Field(alias="dicomVersion")]
    """
    Version of the dictionary the keywords come from.
    """


class DicomReadArchive(BaseModel):
    """
    What the sandbox answers for a zip archive with several DICOM files.
    """

    files: list[DicomReadArchiveFile]
    """
    The files in the order of the archive.
    """


class BadRequest(RootModel[Detail | dict[str, list[str]]]):
    root: Detail | dict[str, list[str]]
    """
    Why a request was refused, by field or in one sentence.
    """


class AuthenticationError(BaseModel):
    """
    Why credentials were refused. Bad tokens have a code and messages besides.
    """

    detail: str
    """
    The reason in one sentence.
    """
    code: str | None = None
    """
    The reason as a word.
    """
    messages: list[TokenMessage] | None = None
    """
    What was tried with the token.
    """
