"""CIRCUS DB API (Cases and what they need): the schemas of circus.yaml as pydantic models."""

from __future__ import annotations

from datetime import date as date_aliased
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, RootModel


class Sha1(RootModel[str]):
    root: str
    """
    SHA-1 hash of the bytes of a blob.
    """


class TagList(RootModel[list[str]]):
    """
    All tags the case is to have, in this order.
    """

    root: list[str]
    """
    All tags the case is to have, in this order.
    """


class ValidationIssue(BaseModel):
    """
    One violation, as the validator of the server (Ajv 6) reports it. A label that fits none of its forms is reported once for each form, which can be twenty entries.
    """

    keyword: str
    """
    The violated keyword of JSON Schema.
    """
    data_path: Annotated[str, Field(alias="dataPath")]
    """
    The offending place in JavaScript notation, such as `.series[0].labels[0].data`; empty for the whole body.
    """
    schema_path: Annotated[str, Field(alias="schemaPath")]
    """
    Place of the keyword in the server's schema.
    """
    params: dict[str, Any]
    """
    Parameters of the keyword.
    """
    message: str | None = None
    """
    The violation in English.
    """


class CreatedCase(BaseModel):
    """
    The new case.
    """

    case_id: Annotated[str, Field(alias="caseId")]
    """
    Identifier of the new case.
    """


class PartialVolumeDescriptor(BaseModel):
    """
    Which images of a series make up the volume, as stored. Revisions may hold descriptors that were never checked; the strict form for new cases is `VolumeDescriptor`.
    """

    start: float
    """
    Number of the first image.
    """
    end: float
    """
    Number of the last image.
    """
    delta: float | None = None
    """
    Step from image to image; negative when the numbers run down.
    """


class VolumeDescriptor(BaseModel):
    """
    Which images of a series make up the volume. `delta` points from `start` to `end`, `(end - start) / delta + 1` is a whole number of images, and a single image (`start` equals `end`) forbids a `delta` of -1.
    """

    start: int
    """
    Number of the first image.
    """
    end: int
    """
    Number of the last image.
    """
    delta: int
    """
    Step from image to image, never 0; negative when the numbers run down.
    """


class TagChange(BaseModel):
    """
    A change of the tags of several cases.
    """

    operation: Literal["add", "remove", "set"]
    """
    `add` appends, `remove` takes away, `set` replaces all tags of each case.
    """
    tags: list[str]
    """
    The tags to add, remove or set. Only `set` takes an empty list.
    """
    case_ids: Annotated[list[str], Field(alias="caseIds")]
    """
    The cases to change.
    """


class CaseRevisionRef(BaseModel):
    """
    One revision of a case.
    """

    case_id: Annotated[str, Field(alias="caseId")]
    """
    An opaque identifier. New ones are ULIDs in lower case (26 characters, ordered by time), old ones may have 64 hexadecimal digits or another form.
    """
    revision_index: Annotated[int | None, Field(alias="revisionIndex")] = None
    """
    Number of the revision, 0 is the oldest. The latest when absent.
    """


class LabelAttributes(BaseModel):
    """
    Values of the label attributes. Their meaning is defined by `labelAttributesSchema` of the project.
    """

    model_config = ConfigDict(
        extra="allow",
    )


class Data(BaseModel):
    """
    Where the mask is and how it looks.
    """

    model_config = ConfigDict(
        extra="allow",
    )
    voxels: str | None
    """
    Hash of the blob with the bits, or null for an empty label (without `origin` and `size`).
    """
    origin: list[int] | None = None
    """
    Offset of the mask's box in voxels from the start of the whole series.
    """
    size: list[int] | None = None
    """
    Size of the mask's box in voxels; the blob has `ceil(x * y * z / 8)` bytes. Without it the label is accepted, but its revision cannot be exported.
    """
    color: str | None = None
    """
    A colour as `#rrggbb` in lower case. The server refuses upper case.
    """
    alpha: float | None = None
    """
    Opacity from 0 (invisible) to 1.
    """


class VoxelLabel(BaseModel):
    """
    A voxel mask. Its bits are a blob of their own.
    """

    type: Literal["voxel"]
    """
    Kind of label.
    """
    name: str | None = None
    """
    Name of the label.
    """
    attributes: LabelAttributes | None = None
    data: Data
    """
    Where the mask is and how it looks.
    """


class Data1(BaseModel):
    """
    The line.
    """

    model_config = ConfigDict(
        extra="allow",
    )
    points: list[list[float]]
    """
    The points of the line, in order.
    """
    z: float
    """
    Position of the plane in mm.
    """
    color: str | None = None
    """
    A colour as `#rrggbb` in lower case. The server refuses upper case.
    """
    alpha: float | None = None
    """
    Opacity from 0 (invisible) to 1.
    """


class PolylineLabel(BaseModel):
    """
    A polyline in an axial plane.
    """

    type: Literal["polyline"]
    """
    Kind of label.
    """
    name: str | None = None
    """
    Name of the label.
    """
    attributes: LabelAttributes | None = None
    data: Data1
    """
    The line.
    """


class Data2(BaseModel):
    """
    The point.
    """

    model_config = ConfigDict(
        extra="allow",
    )
    location: list[float]
    """
    Coordinates x, y and z in mm.
    """
    color: str | None = None
    """
    A colour as `#rrggbb` in lower case. The server refuses upper case.
    """
    alpha: float | None = None
    """
    Opacity from 0 (invisible) to 1.
    """


class PointLabel(BaseModel):
    """
    A point.
    """

    type: Literal["point"]
    """
    Kind of label.
    """
    name: str | None = None
    """
    Name of the label.
    """
    attributes: LabelAttributes | None = None
    data: Data2
    """
    The point.
    """


class OtherLabel(BaseModel):
    """
    A label of a type this contract does not know. Readable, but not writable.
    """

    type: str
    """
    Kind of label.
    """
    name: str | None = None
    """
    Name of the label.
    """
    attributes: LabelAttributes | None = None
    data: dict[str, Any]
    """
    Whatever this type needs.
    """


class SolidData(BaseModel):
    """
    The box around a solid. `min` is not required to be smaller than `max`.
    """

    model_config = ConfigDict(
        extra="allow",
    )
    min: list[float]
    """
    Coordinates x, y and z in mm.
    """
    max: list[float]
    """
    Coordinates x, y and z in mm.
    """
    color: str | None = None
    """
    A colour as `#rrggbb` in lower case. The server refuses upper case.
    """
    alpha: float | None = None
    """
    Opacity from 0 (invisible) to 1.
    """


class PlaneData(BaseModel):
    """
    The box around a figure in an axial plane.
    """

    model_config = ConfigDict(
        extra="allow",
    )
    min: list[float]
    """
    Coordinates x and y in mm.
    """
    max: list[float]
    """
    Coordinates x and y in mm.
    """
    z: float
    """
    Position of the plane in mm.
    """
    color: str | None = None
    """
    A colour as `#rrggbb` in lower case. The server refuses upper case.
    """
    alpha: float | None = None
    """
    Opacity from 0 (invisible) to 1.
    """


class Section(BaseModel):
    """
    A plane in the volume.
    """

    model_config = ConfigDict(
        extra="allow",
    )
    origin: list[float] | None = None
    """
    A corner of the plane, in mm.
    """
    x_axis: Annotated[list[float] | None, Field(alias="xAxis")] = None
    """
    Vector along the first side, in mm.
    """
    y_axis: Annotated[list[float] | None, Field(alias="yAxis")] = None
    """
    Vector along the second side, in mm.
    """


class NumberOperators(BaseModel):
    """
    Comparisons that must all hold.
    """

    field_gt: Annotated[float | None, Field(alias="$gt")] = None
    """
    Greater than.
    """
    field_gte: Annotated[float | None, Field(alias="$gte")] = None
    """
    Greater than or equal.
    """
    field_lt: Annotated[float | None, Field(alias="$lt")] = None
    """
    Less than.
    """
    field_lte: Annotated[float | None, Field(alias="$lte")] = None
    """
    Less than or equal.
    """
    field_ne: Annotated[float | None, Field(alias="$ne")] = None
    """
    Not equal.
    """
    field_in: Annotated[list[float] | None, Field(alias="$in")] = None
    """
    Equal to one of these.
    """
    field_all: Annotated[list[float] | None, Field(alias="$all")] = None
    """
    Equal to all of these.
    """


class BooleanOperators(BaseModel):
    """
    Comparisons that must all hold.
    """

    field_ne: Annotated[bool | None, Field(alias="$ne")] = None
    """
    Not equal.
    """
    field_in: Annotated[list[bool] | None, Field(alias="$in")] = None
    """
    Equal to one of these.
    """


class ExtendedDate(BaseModel):
    """
    A moment in MongoDB's extended JSON.
    """

    field_date: Annotated[AwareDatetime | date_aliased | int, Field(alias="$date")]
    """
    A date, a date with time and offset, or milliseconds since 1970.
    """


class Regex(BaseModel):
    """
    A regular expression. Other operators beside it would be dropped by the server, so none are allowed.
    """

    field_regex: Annotated[str, Field(alias="$regex")]
    """
    The pattern. An invalid one makes the server answer 500, one with the null character 400.
    """
    field_options: Annotated[str | None, Field(alias="$options")] = None
    """
    Flags, such as `i` for "ignore case".
    """


class FieldRegularExpression(BaseModel):
    """
    Pattern and flags.
    """

    pattern: str
    """
    The pattern. An invalid one makes the server answer 500, one with the null character 400.
    """
    options: str
    """
    Flags, such as `i` for "ignore case"; may be empty.
    """


class RegularExpression(BaseModel):
    """
    A regular expression in the other form of extended JSON.
    """

    field_regular_expression: Annotated[FieldRegularExpression, Field(alias="$regularExpression")]
    """
    Pattern and flags.
    """


class SortOrder(RootModel[dict[str, int]]):
    """
    Sort keys in order of importance, 1 for ascending and -1 for descending. Any field may be named, also `patientInfo.age` and the like.
    """

    root: dict[str, int]


class PasswordGrant(BaseModel):
    """
    Log in with a password.
    """

    grant_type: Literal["password"]
    """
    Kind of grant.
    """
    client_id: Literal["circus-front"]
    """
    The one client the server knows.
    """
    client_secret: str
    """
    Anything that is not empty; the server does not check it.
    """
    username: str
    """
    E-mail address or login name.
    """
    password: str
    """
    Password of the user.
    """


class RefreshGrant(BaseModel):
    """
    Renew a session.
    """

    grant_type: Literal["refresh_token"]
    """
    Kind of grant.
    """
    client_id: Literal["circus-front"]
    """
    The one client the server knows.
    """
    client_secret: str
    """
    Anything that is not empty; the server does not check it.
    """
    refresh_token: str
    """
    Refresh token of an earlier login.
    """


class SessionToken(BaseModel):
    """
    A pair of session tokens.
    """

    access_token: str
    """
    Token for the Authorization header.
    """
    token_type: str
    """
    How to send the token.
    """
    expires_in: int
    """
    Life of the access token in seconds.
    """
    refresh_token: str
    """
    Token for the next refresh grant; lives 14 days.
    """


class NewToken(BaseModel):
    """
    A permanent token to be created.
    """

    description: str
    """
    What the token is for, 1 to 32 characters.
    """


class CreatedToken(BaseModel):
    """
    A new permanent token.
    """

    token_id: Annotated[str, Field(alias="tokenId")]
    """
    Identifier of the token, for `deleteToken`.
    """
    access_token: Annotated[str, Field(alias="accessToken")]
    """
    The secret, shown this once.
    """


class Token(BaseModel):
    """
    A permanent token without its secret.
    """

    token_id: Annotated[str, Field(alias="tokenId")]
    """
    Identifier of the token.
    """
    description: str
    """
    What the token is for.
    """
    created_at: Annotated[AwareDatetime, Field(alias="createdAt")]
    """
    When it was created.
    """
    updated_at: Annotated[AwareDatetime, Field(alias="updatedAt")]
    """
    When it was changed last.
    """


class TokenPage(BaseModel):
    """
    The tokens as the server sends them.
    """

    items: list[Token]
    """
    All tokens of the user.
    """
    total_items: Annotated[int, Field(alias="totalItems")]
    """
    Number of tokens.
    """
    page: int
    """
    Always 1.
    """


class TokenList(RootModel[TokenPage | list[Token]]):
    root: TokenPage | list[Token]
    """
    The tokens of the user, or the bare array of the documentation.
    """


class LoginInfo(BaseModel):
    """
    The user of the token.
    """

    user_email: Annotated[str, Field(alias="userEmail")]
    """
    E-mail address, the identifier of the user.
    """
    login_id: Annotated[str, Field(alias="loginId")]
    """
    Login name.
    """


class ServerStatus(BaseModel):
    """
    State of the server.
    """

    status: str
    """
    State of the server.
    """


class PatientInfo(BaseModel):
    """
    The patient of the first series of the case that the server finds. May be empty. Absent unless the user may and wants to see patient data.
    """

    patient_id: Annotated[str | None, Field(alias="patientId")] = None
    """
    Patient ID.
    """
    patient_name: Annotated[str | None, Field(alias="patientName")] = None
    """
    Patient's Name in DICOM form (`Family^Given`).
    """
    age: float | None = None
    """
    Age in years.
    """
    birth_date: Annotated[date_aliased | None, Field(alias="birthDate")] = None
    """
    Date of birth.
    """
    sex: str | None = None
    """
    Sex.
    """
    size: float | None = None
    """
    Height in metres, as in DICOM.
    """
    weight: float | None = None
    """
    Weight in kilograms, as in DICOM.
    """


class SeriesOrientation(BaseModel):
    """
    Direction of a series.
    """

    orientation: str
    """
    Where the series begins.
    """


class SeriesUpload(BaseModel):
    """
    Files to be imported.
    """

    files: list[str]
    """
    DICOM files, or archives of them.
    """


class InstanceUpload(BaseModel):
    """
    One file to be imported.
    """

    files: str
    """
    One plain DICOM file.
    """


class MyListEditor(BaseModel):
    """
    A user or a group that may change the items of a list.
    """

    type: str
    """
    Kind of editor.
    """
    user_email: Annotated[str | None, Field(alias="userEmail")] = None
    """
    E-mail address of the user.
    """
    group_id: Annotated[int | None, Field(alias="groupId")] = None
    """
    Number of the group.
    """


class UserEditor(BaseModel):
    """
    A user that may change the items of a list.
    """

    type: Literal["user"]
    """
    Kind of editor.
    """
    user_email: Annotated[str, Field(alias="userEmail")]
    """
    E-mail address of the user.
    """


class GroupEditor(BaseModel):
    """
    A group that may change the items of a list.
    """

    type: Literal["group"]
    """
    Kind of editor.
    """
    group_id: Annotated[int, Field(alias="groupId")]
    """
    Number of the group.
    """


class NewMyList(BaseModel):
    """
    A my list to be created.
    """

    name: str
    """
    Name of the list, 1 to 64 characters.
    """
    resource_type: Annotated[Literal["series", "clinicalCases", "pluginJobs"], Field(alias="resourceType")]
    """
    What the list holds.
    """
    public: bool
    """
    Whether every user may read the list.
    """


class CreatedMyList(BaseModel):
    """
    The new list.
    """

    my_list_id: Annotated[str, Field(alias="myListId")]
    """
    Identifier of the new list.
    """


class MyListItemsChange(BaseModel):
    """
    Items to add or to remove.
    """

    operation: Literal["add", "remove"]
    """
    Whether to add or to remove the items.
    """
    resource_ids: Annotated[list[str], Field(alias="resourceIds")]
    """
    Identifiers of cases, series (UIDs) or plug-in jobs, as the list's `resourceType` says.
    """


class ChangedItems(BaseModel):
    """
    Effect of a change of items.
    """

    changed_count: Annotated[int, Field(alias="changedCount")]
    """
    Number of items really added or removed.
    """


class StartedTask(BaseModel):
    """
    A task that was started.
    """

    task_id: Annotated[str, Field(alias="taskId")]
    """
    Identifier of the task, for `getTask`.
    """


class Task(BaseModel):
    """
    Background work of the server.
    """

    task_id: Annotated[str, Field(alias="taskId")]
    """
    Identifier of the task.
    """
    user_email: Annotated[str, Field(alias="userEmail")]
    """
    E-mail address of the user who started it.
    """
    name: str
    """
    What is done, such as `Export 2 cases as MHD`.
    """
    status: str
    """
    State of the task.
    """
    error_message: Annotated[str | None, Field(alias="errorMessage")] = None
    """
    Why it failed. Exports always say `An internal error occurred while processing the case data.`
    """
    finished_message: Annotated[str | None, Field(alias="finishedMessage")] = None
    """
    What was done, such as `Exported 2 case(s).`
    """
    ended_at: Annotated[AwareDatetime | None, Field(alias="endedAt")] = None
    """
    When it ended.
    """
    download_file_type: Annotated[str | None, Field(alias="downloadFileType")] = None
    """
    Type of the file that can be downloaded. Null when there is none.
    """
    dismissed: bool | None = None
    """
    Whether the user dismissed the task. Its file is deleted then.
    """
    created_at: Annotated[AwareDatetime, Field(alias="createdAt")]
    """
    When it was started.
    """
    updated_at: Annotated[AwareDatetime, Field(alias="updatedAt")]
    """
    When its state changed last.
    """


class TaskPage(BaseModel):
    """
    A page of tasks.
    """

    items: list[Task]
    """
    The tasks of this page.
    """
    total_items: Annotated[int, Field(alias="totalItems")]
    """
    Number of matching tasks on all pages.
    """
    page: int | None
    """
    Number of this page. Null when the requested page was no number.
    """


class TaskDismissal(BaseModel):
    """
    Whether the task is dismissed.
    """

    dismissed: bool
    """
    True deletes the file of the task.
    """


class ProjectIcon(BaseModel):
    """
    Icon of a project.
    """

    glyph: str | None = None
    """
    Name of the symbol.
    """
    color: str | None = None
    """
    Colour of the symbol.
    """
    background_color: Annotated[str | None, Field(alias="backgroundColor")] = None
    """
    Colour behind the symbol.
    """


class ProjectTag(BaseModel):
    """
    A tag offered by a project.
    """

    caption: str
    """
    The tag.
    """
    color: str | None = None
    """
    Colour of the tag.
    """


class WindowPreset(BaseModel):
    """
    A display window.
    """

    label: str
    """
    Name of the window.
    """
    level: float
    """
    Centre of the window in pixel values (Hounsfield units for CT).
    """
    width: float
    """
    Width of the window in pixel values.
    """


class Error(BaseModel):
    """
    Every error answer. There is no error code and no request identifier.
    """

    error: str
    """
    What went wrong, in English.
    """
    validation_errors: Annotated[list[ValidationIssue] | None, Field(alias="validationErrors")] = None
    """
    Where the request body violates the server's schema. Only with `Request data is not correct.`
    """
    stack: str | None = None
    """
    A stack trace, only from servers in debug mode.
    """


class NewCaseSeries(BaseModel):
    """
    A series of a case to be created.
    """

    series_uid: Annotated[str, Field(alias="seriesUid")]
    """
    A Series Instance UID as the server checks it. Unlike in DICOM, components may have leading zeros.
    """
    partial_volume_descriptor: Annotated[VolumeDescriptor | Literal["auto"], Field(alias="partialVolumeDescriptor")]
    """
    Which images to use, or `auto`: the first gapless run of image numbers, head first (ascending numbers with `delta` 1, or descending with -1).
    """


class MhdExport(BaseModel):
    """
    What to export, and how.
    """

    case_ids: Annotated[list[CaseRevisionRef | str], Field(alias="caseIds")]
    """
    The cases to export: identifiers for the latest revisions, or objects that name a revision. No case more than once.
    """
    label_pack_type: Annotated[Literal["isolated", "combined"], Field(alias="labelPackType")] = "isolated"
    """
    One file for each voxel label, or one file for all voxel labels of a series.
    """
    mhd_line_ending: Annotated[Literal["lf", "crlf"], Field(alias="mhdLineEnding")] = "lf"
    """
    Line ends of the header files.
    """
    compression_format: Annotated[Literal["tgz", "zip"], Field(alias="compressionFormat")] = "tgz"
    """
    Format of the archive.
    """


class CuboidLabel(BaseModel):
    """
    A box.
    """

    type: Literal["cuboid"]
    """
    Kind of label.
    """
    name: str | None = None
    """
    Name of the label.
    """
    attributes: LabelAttributes | None = None
    data: SolidData


class EllipsoidLabel(BaseModel):
    """
    An ellipsoid inside a box.
    """

    type: Literal["ellipsoid"]
    """
    Kind of label.
    """
    name: str | None = None
    """
    Name of the label.
    """
    attributes: LabelAttributes | None = None
    data: SolidData


class RectangleLabel(BaseModel):
    """
    A rectangle in an axial plane.
    """

    type: Literal["rectangle"]
    """
    Kind of label.
    """
    name: str | None = None
    """
    Name of the label.
    """
    attributes: LabelAttributes | None = None
    data: PlaneData


class EllipseLabel(BaseModel):
    """
    An ellipse in an axial plane.
    """

    type: Literal["ellipse"]
    """
    Kind of label.
    """
    name: str | None = None
    """
    Name of the label.
    """
    attributes: LabelAttributes | None = None
    data: PlaneData


class Data3(BaseModel):
    """
    The plane and the two ends of the ruler.
    """

    model_config = ConfigDict(
        extra="allow",
    )
    section: Section
    start: list[float]
    """
    One end of the ruler, in mm.
    """
    end: list[float]
    """
    The other end of the ruler, in mm.
    """
    label_position: Annotated[list[float] | None, Field(alias="labelPosition")] = None
    """
    Where the length is written, in mm.
    """
    color: str | None = None
    """
    A colour as `#rrggbb` in lower case. The server refuses upper case.
    """
    alpha: float | None = None
    """
    Opacity from 0 (invisible) to 1.
    """


class RulerLabel(BaseModel):
    """
    A measured distance on a plane.
    """

    type: Literal["ruler"]
    """
    Kind of label.
    """
    name: str | None = None
    """
    Name of the label.
    """
    attributes: LabelAttributes | None = None
    data: Data3
    """
    The plane and the two ends of the ruler.
    """


class StringOperators(BaseModel):
    """
    Comparisons that must all hold. There is no `$eq` (write the value itself), no `$nin`, `$not`, `$nor` and no `$exists`.
    """

    field_gt: Annotated[str | None, Field(alias="$gt")] = None
    """
    Greater than.
    """
    field_gte: Annotated[str | None, Field(alias="$gte")] = None
    """
    Greater than or equal.
    """
    field_lt: Annotated[str | None, Field(alias="$lt")] = None
    """
    Less than.
    """
    field_lte: Annotated[str | None, Field(alias="$lte")] = None
    """
    Less than or equal.
    """
    field_ne: Annotated[str | None, Field(alias="$ne")] = None
    """
    Not equal; for a list, does not contain.
    """
    field_in: Annotated[list[str | Regex] | None, Field(alias="$in")] = None
    """
    Equal to, or matched by, one of these.
    """
    field_all: Annotated[list[str | Regex] | None, Field(alias="$all")] = None
    """
    For a list, contains all of these.
    """


class DateOperators(BaseModel):
    """
    Comparisons that must all hold.
    """

    field_gt: Annotated[ExtendedDate | None, Field(alias="$gt")] = None
    """
    After.
    """
    field_gte: Annotated[ExtendedDate | None, Field(alias="$gte")] = None
    """
    At or after.
    """
    field_lt: Annotated[ExtendedDate | None, Field(alias="$lt")] = None
    """
    Before.
    """
    field_lte: Annotated[ExtendedDate | None, Field(alias="$lte")] = None
    """
    At or before.
    """
    field_ne: Annotated[ExtendedDate | None, Field(alias="$ne")] = None
    """
    Not at.
    """
    field_in: Annotated[list[ExtendedDate] | None, Field(alias="$in")] = None
    """
    At one of these.
    """
    field_all: Annotated[list[ExtendedDate] | None, Field(alias="$all")] = None
    """
    At all of these.
    """


class LoginRequest(RootModel[PasswordGrant | RefreshGrant]):
    root: PasswordGrant | RefreshGrant
    """
    A password grant or a refresh grant of OAuth 2.
    """


class Series(BaseModel):
    """
    A DICOM series.
    """

    series_uid: Annotated[str, Field(alias="seriesUid")]
    """
    A Series Instance UID as the server checks it. Unlike in DICOM, components may have leading zeros.
    """
    study_uid: Annotated[str, Field(alias="studyUid")]
    """
    Study Instance UID.
    """
    width: float | None = None
    """
    Columns of each image, in pixels.
    """
    height: float | None = None
    """
    Rows of each image, in pixels.
    """
    images: str
    """
    Image numbers of the series as comma-joined numbers and ranges, such as `1-50,60-80`.
    """
    series_date: Annotated[AwareDatetime | None, Field(alias="seriesDate")] = None
    """
    Date and time of the series.
    """
    modality: str
    """
    Modality, such as `CT` or `MR`.
    """
    series_description: Annotated[str | None, Field(alias="seriesDescription")] = None
    """
    Series Description.
    """
    body_part: Annotated[str | None, Field(alias="bodyPart")] = None
    """
    Body part.
    """
    station_name: Annotated[str | None, Field(alias="stationName")] = None
    """
    Name of the imaging station.
    """
    model_name: Annotated[str | None, Field(alias="modelName")] = None
    """
    Model of the imaging device.
    """
    manufacturer: str | None = None
    """
    Maker of the imaging device.
    """
    storage_id: Annotated[float | None, Field(alias="storageId")] = None
    """
    Number of the storage that holds the files.
    """
    parameters: dict[str, Any] | None = None
    """
    Further values read from the DICOM files; depends on the modality.
    """
    domain: str
    """
    Domain of the series.
    """
    patient_info: Annotated[PatientInfo | None, Field(alias="patientInfo")] = None
    created_at: Annotated[AwareDatetime, Field(alias="createdAt")]
    """
    When the series was imported.
    """
    updated_at: Annotated[AwareDatetime, Field(alias="updatedAt")]
    """
    When the series was changed last.
    """


class SeriesPage(BaseModel):
    """
    A page of series.
    """

    items: list[Series]
    """
    The series of this page.
    """
    total_items: Annotated[int, Field(alias="totalItems")]
    """
    Number of matching series on all pages.
    """
    page: int | None
    """
    Number of this page. Null when the requested page was no number.
    """


class MyList(BaseModel):
    """
    A my list without its items.
    """

    my_list_id: Annotated[str, Field(alias="myListId")]
    """
    Identifier of the list.
    """
    resource_type: Annotated[str, Field(alias="resourceType")]
    """
    What the list holds.
    """
    name: str
    """
    Name of the list.
    """
    public: bool
    """
    Whether every user may read the list.
    """
    editors: list[MyListEditor]
    """
    Who else may change the items.
    """
    created_at: Annotated[AwareDatetime, Field(alias="createdAt")]
    """
    When the list was created.
    """


class MyListWithItems(BaseModel):
    """
    A my list with the identifiers of its items.
    """

    my_list_id: Annotated[str, Field(alias="myListId")]
    """
    Identifier of the list.
    """
    resource_type: Annotated[str, Field(alias="resourceType")]
    """
    What the list holds.
    """
    name: str
    """
    Name of the list.
    """
    public: bool
    """
    Whether every user may read the list.
    """
    editors: list[MyListEditor]
    """
    Who else may change the items.
    """
    created_at: Annotated[AwareDatetime, Field(alias="createdAt")]
    """
    When the list was created.
    """
    resource_ids: Annotated[list[str], Field(alias="resourceIds")]
    """
    Identifiers of the items (cases, series UIDs or jobs). Items that were deleted meanwhile may still be named.
    """


class MyListChange(BaseModel):
    """
    What to change; at least one of the properties.
    """

    name: str | None = None
    """
    New name, 1 to 64 characters.
    """
    public: bool | None = None
    """
    Whether every user may read the list.
    """
    editors: list[UserEditor | GroupEditor] | None = None
    """
    All editors the list is to have. Those not named lose their right.
    """


class Project(BaseModel):
    """
    A project, the owner of cases.
    """

    project_id: Annotated[str, Field(alias="projectId")]
    """
    Identifier of the project.
    """
    project_name: Annotated[str, Field(alias="projectName")]
    """
    Short name of the project.
    """
    icon: ProjectIcon | None = None
    description: str | None = None
    """
    Free text about the project.
    """
    tags: list[ProjectTag] | None = None
    """
    Tags offered for cases of the project. Other tags are accepted too.
    """
    case_attributes_schema: Annotated[dict[str, Any] | None, Field(alias="caseAttributesSchema")] = None
    """
    A JSON schema for the attributes of cases. Offered to editors, not enforced.
    """
    label_attributes_schema: Annotated[dict[str, Any] | None, Field(alias="labelAttributesSchema")] = None
    """
    A JSON schema for the attributes of labels. Offered to editors, not enforced.
    """
    window_presets: Annotated[list[WindowPreset] | None, Field(alias="windowPresets")] = None
    """
    Display windows offered for images of the project.
    """
    window_priority: Annotated[str | None, Field(alias="windowPriority")] = None
    """
    Where the first display window comes from.
    """
    created_at: Annotated[AwareDatetime | None, Field(alias="createdAt")] = None
    """
    When the project was created.
    """
    updated_at: Annotated[AwareDatetime | None, Field(alias="updatedAt")] = None
    """
    When the project was changed last.
    """


class NewCase(BaseModel):
    """
    A case to be created.
    """

    project_id: Annotated[str, Field(alias="projectId")]
    """
    An opaque identifier. New ones are ULIDs in lower case (26 characters, ordered by time), old ones may have 64 hexadecimal digits or another form.
    """
    series: list[NewCaseSeries]
    """
    The series of the case, all of one domain.
    """
    tags: list[str]
    """
    Markers of the new case; an empty list for none.
    """


class AccessibleProject(BaseModel):
    """
    A project and the roles of the user in it.
    """

    project_id: Annotated[str, Field(alias="projectId")]
    """
    Identifier of the project.
    """
    roles: list[str]
    """
    Roles of the user in the project.
    """
    project: Project | None = None


class SharedMyList(BaseModel):
    """
    A list of another user.
    """

    owner: str
    """
    E-mail address of the owner.
    """
    shared_my_list: Annotated[MyList, Field(alias="sharedMyList")]


class RevisionSeries(BaseModel):
    """
    A series of a revision with its labels.
    """

    series_uid: Annotated[str, Field(alias="seriesUid")]
    """
    A Series Instance UID as the server checks it. Unlike in DICOM, components may have leading zeros.
    """
    partial_volume_descriptor: Annotated[PartialVolumeDescriptor | None, Field(alias="partialVolumeDescriptor")] = None
    labels: list[VoxelLabel | CuboidLabel | EllipsoidLabel | RectangleLabel | EllipseLabel | PolylineLabel | PointLabel | RulerLabel | OtherLabel]
    """
    The labels on this series. The position of a label is its number in exports.
    """


class NewRevisionSeries(BaseModel):
    """
    A series of a revision to be saved.
    """

    series_uid: Annotated[str, Field(alias="seriesUid")]
    """
    A Series Instance UID as the server checks it. Unlike in DICOM, components may have leading zeros.
    """
    partial_volume_descriptor: Annotated[PartialVolumeDescriptor | None, Field(alias="partialVolumeDescriptor")] = None
    labels: list[VoxelLabel | CuboidLabel | EllipsoidLabel | RectangleLabel | EllipseLabel | PolylineLabel | PointLabel | RulerLabel]
    """
    All labels on this series.
    """


class CaseFilter(BaseModel):
    """
    Conditions on cases; several keys in one object must all hold. `$and` and `$or` combine filters and may be nested. A key of a list (`tags`) matches when the list has the value, `$ne` when it does not. Values must have the right type: a number never matches a string. Dates must be `{"$date": "..."}`: a plain string is accepted by the server but matches nothing. Keys of patients need the global privilege `personalInfoView`; without it any use is refused, and projects without role `viewPersonalInfo` never match.
    """

    field_and: Annotated[list[CaseFilter] | None, Field(alias="$and")] = None
    """
    All of these filters must match.
    """
    field_or: Annotated[list[CaseFilter] | None, Field(alias="$or")] = None
    """
    At least one of these filters must match.
    """
    project_id: Annotated[str | StringOperators | Regex | RegularExpression | None, Field(alias="projectId")] = None
    """
    Project of the case.
    """
    case_id: Annotated[str | StringOperators | Regex | RegularExpression | None, Field(alias="caseId")] = None
    """
    Identifier of the case.
    """
    patient_info_patient_id: Annotated[
        str | StringOperators | Regex | RegularExpression | None, Field(alias="patientInfo.patientId")
    ] = None
    """
    Patient identifier of one of the series of the case.
    """
    patient_info_patient_name: Annotated[
        str | StringOperators | Regex | RegularExpression | None, Field(alias="patientInfo.patientName")
    ] = None
    """
    Patient name in DICOM form (`Family^Given`).
    """
    patient_info_age: Annotated[float | NumberOperators | None, Field(alias="patientInfo.age")] = None
    """
    Age of the patient in years.
    """
    patient_info_sex: Annotated[
        str | StringOperators | Regex | RegularExpression | None, Field(alias="patientInfo.sex")
    ] = None
    """
    Sex of the patient, `M`, `F` or `O`.
    """
    tags: str | StringOperators | Regex | RegularExpression | None = None
    """
    A tag of the case.
    """
    created_at: Annotated[ExtendedDate | DateOperators | None, Field(alias="createdAt")] = None
    """
    When the case was created.
    """
    updated_at: Annotated[ExtendedDate | DateOperators | None, Field(alias="updatedAt")] = None
    """
    When the case was changed last.
    """


class SeriesFilter(BaseModel):
    """
    Conditions on series; the language is that of `CaseFilter`. Keys of patients need the global privilege `personalInfoView`.
    """

    field_and: Annotated[list[SeriesFilter] | None, Field(alias="$and")] = None
    """
    All of these filters must match.
    """
    field_or: Annotated[list[SeriesFilter] | None, Field(alias="$or")] = None
    """
    At least one of these filters must match.
    """
    modality: str | StringOperators | Regex | RegularExpression | None = None
    """
    Modality, such as `CT` or `MR`.
    """
    series_uid: Annotated[str | StringOperators | Regex | RegularExpression | None, Field(alias="seriesUid")] = None
    """
    Series Instance UID.
    """
    study_uid: Annotated[str | StringOperators | Regex | RegularExpression | None, Field(alias="studyUid")] = None
    """
    Study Instance UID.
    """
    series_description: Annotated[
        str | StringOperators | Regex | RegularExpression | None, Field(alias="seriesDescription")
    ] = None
    """
    Series Description.
    """
    patient_info_patient_id: Annotated[
        str | StringOperators | Regex | RegularExpression | None, Field(alias="patientInfo.patientId")
    ] = None
    """
    Patient identifier.
    """
    patient_info_patient_name: Annotated[
        str | StringOperators | Regex | RegularExpression | None, Field(alias="patientInfo.patientName")
    ] = None
    """
    Patient name in DICOM form (`Family^Given`).
    """
    patient_info_age: Annotated[float | NumberOperators | None, Field(alias="patientInfo.age")] = None
    """
    Age of the patient in years.
    """
    patient_info_sex: Annotated[
        str | StringOperators | Regex | RegularExpression | None, Field(alias="patientInfo.sex")
    ] = None
    """
    Sex of the patient, `M`, `F` or `O`.
    """
    series_date: Annotated[ExtendedDate | DateOperators | None, Field(alias="seriesDate")] = None
    """
    Date and time of the series.
    """
    created_at: Annotated[ExtendedDate | DateOperators | None, Field(alias="createdAt")] = None
    """
    When the series was imported.
    """


class TaskFilter(BaseModel):
    """
    Conditions on tasks; the language is that of `CaseFilter`.
    """

    field_and: Annotated[list[TaskFilter] | None, Field(alias="$and")] = None
    """
    All of these filters must match.
    """
    field_or: Annotated[list[TaskFilter] | None, Field(alias="$or")] = None
    """
    At least one of these filters must match.
    """
    task_id: Annotated[str | StringOperators | Regex | RegularExpression | None, Field(alias="taskId")] = None
    """
    Identifier of the task.
    """
    status: str | StringOperators | Regex | RegularExpression | None = None
    """
    State of the task, `processing`, `finished` or `error`.
    """
    dismissed: bool | BooleanOperators | None = None
    """
    Whether the task was dismissed.
    """


class FullLoginInfo(BaseModel):
    """
    The user of the token with all their rights.
    """

    user_email: Annotated[str, Field(alias="userEmail")]
    """
    E-mail address, the identifier of the user.
    """
    login_id: Annotated[str, Field(alias="loginId")]
    """
    Login name.
    """
    description: str | None = None
    """
    Free text about the user.
    """
    login_enabled: Annotated[bool | None, Field(alias="loginEnabled")] = None
    """
    Whether the web interface lets the user in. Not enforced by `login`.
    """
    last_login_time: Annotated[AwareDatetime | None, Field(alias="lastLoginTime")] = None
    """
    Time of the last login.
    """
    last_login_ip: Annotated[str | None, Field(alias="lastLoginIp")] = None
    """
    Network address of the last login.
    """
    preferences: dict[str, Any] | None = None
    """
    Preferences of the user; `personalInfoView` must be true for patient data to be shown.
    """
    groups: list[str]
    """
    Names of the user's groups.
    """
    domains: list[str]
    """
    Domains whose series the user may use.
    """
    global_privileges: Annotated[list[str], Field(alias="globalPrivileges")]
    """
    Global privileges of the user.
    """
    accessible_projects: Annotated[list[AccessibleProject], Field(alias="accessibleProjects")]
    """
    Projects in which the user has a role.
    """
    accessible_plugins: Annotated[list[dict[str, Any]] | None, Field(alias="accessiblePlugins")] = None
    """
    Plug-ins the user may use.
    """
    default_domain: Annotated[str | None, Field(alias="defaultDomain")] = None
    """
    Domain offered first for uploads. Null when the user has no access to it.
    """
    shared_my_lists: Annotated[list[SharedMyList] | None, Field(alias="sharedMyLists")] = None
    """
    Lists of other users which this user may edit.
    """
    my_lists: Annotated[list[MyList], Field(alias="myLists")]
    """
    Own lists.
    """
    dicom_image_server: Annotated[str | None, Field(alias="dicomImageServer")] = None
    """
    Address of the image server, absolute or below the origin.
    """
    upload_file_max: Annotated[int | None, Field(alias="uploadFileMax")] = None
    """
    Greatest number of files in one upload.
    """
    upload_file_size_max_bytes: Annotated[int | None, Field(alias="uploadFileSizeMaxBytes")] = None
    """
    Greatest size of an uploaded file in bytes.
    """
    created_at: Annotated[AwareDatetime | None, Field(alias="createdAt")] = None
    """
    When the user was created.
    """
    updated_at: Annotated[AwareDatetime | None, Field(alias="updatedAt")] = None
    """
    When the user was changed last.
    """


class Revision(BaseModel):
    """
    A snapshot of a case.
    """

    creator: str
    """
    E-mail address of the user who saved it.
    """
    date: AwareDatetime
    """
    When it was saved.
    """
    description: str
    """
    What the creator wrote about the change.
    """
    attributes: dict[str, Any]
    """
    Values of the case attributes. Their meaning is defined by `caseAttributesSchema` of the project.
    """
    status: str
    """
    Free text. New cases are `draft`, the web interface saves `approved`, the documentation shows `for-review`.
    """
    series: list[RevisionSeries]
    """
    The series of the case with their labels.
    """


class NewRevision(BaseModel):
    """
    A snapshot to be saved. Creator and date are set by the server and must not be sent.
    """

    description: str
    """
    What was changed and why.
    """
    attributes: dict[str, Any]
    """
    Values of all case attributes. Not checked against `caseAttributesSchema` of the project.
    """
    status: str
    """
    Free text; in use are `draft`, `approved` and `for-review`.
    """
    series: list[NewRevisionSeries]
    """
    All series of the case with all their labels.
    """


class Case(BaseModel):
    """
    A case with all its revisions.
    """

    case_id: Annotated[str, Field(alias="caseId")]
    """
    Identifier of the case.
    """
    project_id: Annotated[str, Field(alias="projectId")]
    """
    Identifier of the project to which the case belongs.
    """
    revisions: list[Revision]
    """
    All revisions, oldest first.
    """
    tags: list[str]
    """
    Markers of the case.
    """
    domains: list[str]
    """
    The domain of the series at the time the case was created; empty for a case without series. Never recomputed, and not checked when the case is read, revised, searched or exported.
    """
    created_at: Annotated[AwareDatetime, Field(alias="createdAt")]
    """
    When the case was created.
    """
    updated_at: Annotated[AwareDatetime, Field(alias="updatedAt")]
    """
    When the case was changed last. Bulk changes of tags do not count.
    """


class CaseSummary(BaseModel):
    """
    A case as searches return it, with its latest revision only.
    """

    case_id: Annotated[str, Field(alias="caseId")]
    """
    Identifier of the case.
    """
    project_id: Annotated[str, Field(alias="projectId")]
    """
    Identifier of the project to which the case belongs.
    """
    latest_revision: Annotated[Revision, Field(alias="latestRevision")]
    tags: list[str]
    """
    Markers of the case.
    """
    domains: list[str]
    """
    The domain of the series at the time the case was created.
    """
    created_at: Annotated[AwareDatetime, Field(alias="createdAt")]
    """
    When the case was created.
    """
    updated_at: Annotated[AwareDatetime, Field(alias="updatedAt")]
    """
    When the case was changed last. Bulk changes of tags do not count.
    """
    patient_info: Annotated[PatientInfo | None, Field(alias="patientInfo")] = None


class CasePage(BaseModel):
    """
    The result of a search as the server sends it.
    """

    items: list[CaseSummary]
    """
    The cases of this page.
    """
    total_items: Annotated[int, Field(alias="totalItems")]
    """
    Number of matching cases on all pages.
    """
    page: int | None
    """
    Number of this page. Null when the requested page was no number.
    """


class CaseList(RootModel[CasePage | list[CaseSummary]]):
    root: CasePage | list[CaseSummary]
    """
    A page of cases, or the bare array of the documentation.
    """


CaseFilter.model_rebuild()
SeriesFilter.model_rebuild()
TaskFilter.model_rebuild()
