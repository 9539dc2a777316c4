"""Qure.ai Platform API: the schemas of qure.yaml as pydantic models."""

from __future__ import annotations

from typing import Annotated, Any, Dict, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel


class UploadStudiesRequest(BaseModel):
    """
    DICOM files to upload.
    """

    files: list[str]
    """
    DICOM files (Part 10), one part each. 1 to 100 of them; the provider publishes no limit, 100 is what a server of this kind takes by default.
    """


class UploadedFile(BaseModel):
    """
    What became of one part of the upload.
    """

    message: str | None = None
    """
    Outcome in words.
    """
    created: bool | None = None
    """
    True if the instance was stored now. False if it was not, presumably because the workspace held it already or the part was no DICOM file.
    """
    license_expired: bool | None = None
    """
    True if the licence of the workspace has run out.
    """
    metadata: dict[str, Any] | None = None
    """
    Values read from the file. Their names are not documented.
    """


class UploadedSeries(BaseModel):
    """
    One series the upload touched.
    """

    series_instance_uid: Annotated[str, Field(alias="SeriesInstanceUID")]
    """
    UID of the series.
    """
    number_of_series_related_instances: Annotated[int, Field(alias="NumberOfSeriesRelatedInstances")]
    """
    Number of instances of the series. The documents do not say whether this counts the request or all that is stored; by the meaning of the DICOM attribute of that name, and in the sandbox, it is all that is stored.
    """


class UploadRefused(BaseModel):
    """
    The upload held nothing usable.
    """

    message: str
    """
    Reason in words.
    """


class StartComputationRequest(BaseModel):
    """
    Wishes for the analysis. It is never empty; without a wish there is no body.
    """

    recompute: bool | None = None
    """
    True to analyse again a series that was analysed before.
    """


class ComputationStarted(BaseModel):
    """
    The analysis is queued.
    """

    message: str | None = None
    """
    Outcome in words.
    """
    success: bool | None = None
    """
    True.
    """


class ComputationRefused(BaseModel):
    """
    The request could not be read.
    """

    success: bool | None = None
    """
    False.
    """
    message: str | None = None
    """
    Reason in words.
    """


class CtFiles(BaseModel):
    """
    URLs of the result files of a chest CT, by kind. Which kinds exist depends on the configuration of the workspace; other kinds may appear. The URLs expire 15 minutes after the answer.
    """

    model_config = ConfigDict(
        extra="allow",
    )
    __annotations__ = {
        "__pydantic_extra__": Dict[str, list[str]],
    }
    sc: list[str] | None = None
    """
    Secondary captures (DICOM), any number.
    """
    pdf: list[str] | None = None
    """
    Report as PDF, one.
    """
    sr: list[str] | None = None
    """
    Structured report (DICOM SR), one.
    """
    sc_key_slices: list[str] | None = None
    """
    Slices in which a nodule was identified, any number.
    """
    seg: list[str] | None = None
    """
    Segmentation (DICOM SEG), one.
    """
    gsps: list[str] | None = None
    """
    Greyscale softcopy presentation states (DICOM), any number.
    """
    json_: Annotated[list[str] | None, Field(alias="json")] = None
    """
    Findings as JSON, one.
    """
    pr: list[str] | None = None
    """
    Progression report, one, if earlier studies exist. It is no presentation state.
    """
    hl7: list[str] | None = None
    """
    HL7 message, one.
    """
    encapsulated_pdf: list[str] | None = None
    """
    Report as encapsulated PDF (DICOM), one.
    """


class FindingsListItem(RootModel[list[str]]):
    root: Annotated[list[str], Field(min_length=2)]
    """
    Key of the finding, then its text.
    """


class XrayReport(BaseModel):
    """
    Findings of an X-ray in words.
    """

    findings: str | None = None
    """
    The whole report as free text; paragraphs are separated by empty lines.
    """
    impression: str | None = None
    """
    Summary in one line.
    """
    findings_list: list[FindingsListItem] | None = None
    """
    The findings one by one, each a pair: key of the finding, text of the finding.
    """


class AssetFiles(BaseModel):
    """
    URLs of the result files of an X-ray or a head CT, by kind. Which kinds exist depends on the configuration of the workspace; other kinds may appear. The URLs expire 15 minutes after the answer. The provider documents the names of the kinds only; what they hold is read from the names.
    """

    model_config = ConfigDict(
        extra="allow",
    )
    __annotations__ = {
        "__pydantic_extra__": Dict[str, list[str]],
    }
    sc: list[str] | None = None
    """
    Secondary captures (DICOM).
    """
    sc_full_png: list[str] | None = None
    """
    Secondary captures as PNG in full size.
    """
    sc_thumbnail: list[str] | None = None
    """
    Small pictures of the secondary captures.
    """
    sc_dicom_thumbnail: list[str] | None = None
    """
    Small pictures of the secondary captures as DICOM.
    """
    original_thumbnail: list[str] | None = None
    """
    Small pictures of the uploaded images.
    """
    original: list[str] | None = None
    """
    The uploaded images.
    """
    report_pdf: list[str] | None = None
    """
    Report as PDF.
    """
    report_dcm: list[str] | None = None
    """
    Report as DICOM.
    """
    report_sr: list[str] | None = None
    """
    Structured report (DICOM SR).
    """


class OtherResult(BaseModel):
    """
    Content of a result of unknown shape.
    """

    report: Any | None = None
    """
    Findings. A text, a list of texts, or an object like the report of an X-ray.
    """
    files: dict[str, list[str]] | None = None
    """
    URLs of the result files, by kind. They expire 15 minutes after the answer.
    """


class ResultsPending(BaseModel):
    """
    The result is not there yet.
    """

    success: bool | None = None
    """
    False. It is no failure.
    """
    message: str | None = None
    """
    State in words. The text speaks of a sopInstanceUID even if the UID is that of a series; older deployments word it differently.
    """


class XrayResultsPending(BaseModel):
    """
    The result of an X-ray is not there yet.
    """

    reason: str | None = None
    """
    State in words.
    """


class DebugInfo(BaseModel):
    """
    Details for the support.
    """

    reason: str | None = None
    """
    Reason in words.
    """


class AuthenticationFailed(BaseModel):
    """
    The token was not accepted.
    """

    message: str
    """
    Reason in words.
    """
    next: str | None = None
    """
    Path of the login page for people. Nothing a program can use.
    """
    authenticated: bool | None = None
    """
    False.
    """


class AccessDenied(BaseModel):
    """
    The source was not accepted.
    """

    success: bool | None = None
    """
    False.
    """
    message: str | None = None
    """
    Reason in words.
    """


class NotUploaded(BaseModel):
    """
    The UID is not known to the workspace.
    """

    success: bool | None = None
    """
    False.
    """
    sucess: bool | None = None
    """
    The same under a misspelt key.
    """
    message: str | None = None
    """
    Reason in words. The text names a sopInstanceUID or a SeriesInstanceUID, whichever the generation prefers.
    """


class ComputationNotStarted(BaseModel):
    """
    The analysis was never started.
    """

    success: bool | None = None
    """
    False.
    """
    message: str | None = None
    """
    Reason in words, with the path to call.
    """


class UploadStudiesResponse(BaseModel):
    """
    What became of the uploaded files.
    """

    message: str
    """
    Outcome in words.
    """
    status: str | None = None
    """
    Outcome as a word. Current generation only.
    """
    messages: dict[str, UploadedFile] | None = None
    """
    Outcome of every part, by part name (`file_0` and so on). Current generation only.
    """
    series_instance_uids: list[str]
    """
    The series the uploaded files belong to.
    """
    detailed_info: list[UploadedSeries] | None = None
    """
    The same series with their number of instances.
    """


class CtResult(BaseModel):
    """
    Content of a chest CT result. Only files; findings are inside them.
    """

    files: CtFiles


class HeadCtResult(BaseModel):
    """
    Content of a head CT result.
    """

    report: list[str] | None = None
    """
    Findings in words, one each.
    """
    scores: dict[str, float] | None = None
    """
    Score of every pathology, by its name.
    """
    decisions: dict[str, bool] | None = None
    """
    Whether the score of a pathology is above the threshold of that pathology, by its name.
    """
    reporting_params: list[str] | None = None
    """
    Parameters used for the report.
    """
    qure_model_version: str | None = None
    """
    Version of the model.
    """
    files: AssetFiles | None = None


class XrayResult(BaseModel):
    """
    Content of an X-ray result.
    """

    report: XrayReport | None = None
    files: AssetFiles | None = None


class OtherResults(BaseModel):
    """
    Result of a use case without a shape of its own here: any value of `usecase` other than qct, qer and qxr (for instance musculoskeletal X-rays, whose value is not documented), and the flat results of the superseded X-ray interface, which a workspace can still be configured to answer.
    """

    success: bool | None = None
    """
    True.
    """
    message: str | None = None
    """
    Outcome in words.
    """
    triage_status: str | None = None
    """
    Critical or Routine in any case of letters.
    """
    result: OtherResult | None = None
    usecase: str | None = None
    """
    Name of the use case.
    """


class UseCaseNotImplemented(BaseModel):
    """
    The image cannot be analysed.
    """

    success: bool | None = None
    """
    False.
    """
    message: str | None = None
    """
    Reason in words; the wording differs between generations.
    """
    series_instance_uid: Annotated[str | None, Field(alias="seriesInstanceUID")] = None
    """
    The series in question.
    """
    accession_number: Annotated[str | None, Field(alias="accessionNumber")] = None
    """
    Accession number of the study in question.
    """
    debug_info: DebugInfo | None = None
    result: dict[str, Any] | None = None
    """
    Empty.
    """
    remarks: str | None = None
    """
    Further words. Older deployments only.
    """


class CtResults(BaseModel):
    """
    Result of a chest CT series (qCT).
    """

    success: bool | None = None
    """
    True.
    """
    message: str | None = None
    """
    Outcome in words.
    """
    triage_status: str | None = None
    """
    Critical if the analysis found an abnormality, Routine if not. Compare without regard to case. Either way an expert has to look at the images.
    """
    result: CtResult
    usecase: Literal["qct"]
    """
    Marks this shape.
    """


class HeadCtResults(BaseModel):
    """
    Result of a head CT series (qER).
    """

    success: bool | None = None
    """
    True.
    """
    message: str | None = None
    """
    Outcome in words.
    """
    triage_status: str | None = None
    """
    Critical if the analysis found an abnormality, Routine if not. Compare without regard to case. Either way an expert has to look at the images.
    """
    result: HeadCtResult
    usecase: Literal["qer"]
    """
    Marks this shape.
    """


class XrayResults(BaseModel):
    """
    Result of a chest X-ray (qXR).
    """

    success: bool | None = None
    """
    Deprecated and always true. Decide by the status.
    """
    message: str | None = None
    """
    Outcome in words.
    """
    triage_status: str | None = None
    """
    Critical if the analysis found an abnormality, Routine if not. Compare without regard to case. Either way an expert has to look at the images.
    """
    result: XrayResult
    usecase: Literal["qxr"]
    """
    Marks this shape.
    """


class InvalidXrayResults(BaseModel):
    """
    Answer for an image of the right modality that is no valid X-ray.
    """

    success: bool | None = None
    """
    Deprecated and always true. Decide by the status.
    """
    message: str | None = None
    """
    Outcome in words.
    """
    triage_status: str | None = None
    """
    Routine.
    """
    result: XrayResult
    usecase: str | None = None
    """
    not_implemented.
    """
