"""The Cancer Imaging Archive (NBIA v4): the schemas of tcia.yaml as pydantic models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, RootModel


class CollectionValue(BaseModel):
    """
    One collection that has public series.
    """

    collection: Annotated[str | None, Field(alias="Collection")] = None
    """
    Name of the collection, to be used as is in the `Collection` parameter.
    """


class ModalityValue(BaseModel):
    """
    One modality; an empty object stands for series without a modality.
    """

    modality: Annotated[str | None, Field(alias="Modality")] = None
    """
    DICOM modality, (0008,0060).
    """


class BodyPartValue(BaseModel):
    """
    One body part, in upper case; an empty object stands for series without one and comes first.
    """

    body_part_examined: Annotated[str | None, Field(alias="BodyPartExamined")] = None
    """
    Body part examined, DICOM (0018,0015), in upper case and otherwise as submitted, trailing blanks included.
    """


class ManufacturerValue(BaseModel):
    """
    One manufacturer; an empty object stands for series without one and comes first.
    """

    manufacturer: Annotated[str | None, Field(alias="Manufacturer")] = None
    """
    Manufacturer, DICOM (0008,0070); v4 folds to upper case and merges, v1 and v2 list raw spellings.
    """


class CollectionCount(BaseModel):
    """
    Number of patients of one collection.
    """

    collection: Annotated[str, Field(alias="Collection")]
    """
    Name of the collection.
    """
    count: Annotated[int, Field(alias="Count")]
    """
    Number of distinct patients with public series.
    """
    authorized: Annotated[int, Field(alias="Authorized")]
    """
    1 when the caller may download the row; the service leaves out rows it would mark 0.
    """


class ModalityCount(BaseModel):
    """
    Number of patients with one modality.
    """

    modality: Annotated[str | None, Field(alias="Modality")] = None
    """
    DICOM modality, (0008,0060).
    """
    count: Annotated[int, Field(alias="Count")]
    """
    Number of distinct patients with public series.
    """
    authorized: Annotated[int, Field(alias="Authorized")]
    """
    1 when the caller may download the row; the service leaves out rows it would mark 0.
    """


class BodyPartCount(BaseModel):
    """
    Number of patients with one body part; without the key `BodyPart` the row counts patients with series that name no body part.
    """

    body_part: Annotated[str | None, Field(alias="BodyPart")] = None
    """
    Body part examined in upper case. The key is `BodyPart` here and `BodyPartExamined` everywhere else.
    """
    count: Annotated[int, Field(alias="Count")]
    """
    Number of distinct patients with public series.
    """
    authorized: Annotated[int, Field(alias="Authorized")]
    """
    1 when the caller may download the row; the service leaves out rows it would mark 0.
    """


class ManufacturerCount(BaseModel):
    """
    Number of patients with one manufacturer; without the key `Manufacturer` the row counts patients with series that name none.
    """

    manufacturer: Annotated[str | None, Field(alias="Manufacturer")] = None
    """
    Manufacturer of the equipment.
    """
    count: Annotated[int, Field(alias="Count")]
    """
    Number of distinct patients with public series.
    """
    authorized: Annotated[int, Field(alias="Authorized")]
    """
    1 when the caller may download the row; the service leaves out rows it would mark 0.
    """


class Patient(BaseModel):
    """
    One patient in one collection; a patient of two collections has two rows.
    """

    patient_id: Annotated[str, Field(alias="PatientId")]
    """
    Patient id. Spelled `PatientId` in the patient operations and `PatientID` everywhere else.
    """
    patient_name: Annotated[str | None, Field(alias="PatientName")] = None
    """
    Patient name, DICOM (0010,0010); after de-identification usually the patient id.
    """
    patient_sex: Annotated[str | None, Field(alias="PatientSex")] = None
    """
    Patient's sex, DICOM (0010,0040).
    """
    ethnic_group: Annotated[str | None, Field(alias="EthnicGroup")] = None
    """
    Ethnic group, DICOM (0010,2160), free text.
    """
    collection: Annotated[str, Field(alias="Collection")]
    """
    Collection the row belongs to, spelled as the archive spells it.
    """
    phantom: Annotated[str, Field(alias="Phantom")]
    """
    Whether the subject is a phantom; `NO` unless the submitter said otherwise.
    """
    species_code: Annotated[str, Field(alias="SpeciesCode")]
    """
    SNOMED code of the species; 337915000 (human) when the submitter gave none.
    """
    species_description: Annotated[str, Field(alias="SpeciesDescription")]
    """
    Species name belonging to SpeciesCode.
    """
    authorized: Annotated[int, Field(alias="Authorized")]
    """
    1 when the caller may download the row; the service leaves out rows it would mark 0.
    """


class PatientReference(BaseModel):
    """
    Id of a patient who has the modality asked for.
    """

    patient_id: Annotated[str, Field(alias="PatientId")]
    """
    Patient id.
    """
    authorized: Annotated[int, Field(alias="Authorized")]
    """
    1 when the caller may download the row; the service leaves out rows it would mark 0.
    """


class PatientStudy(BaseModel):
    """
    One study with the patient it belongs to.
    """

    study_instance_uid: Annotated[str, Field(alias="StudyInstanceUID")]
    """
    Unique id of the study, DICOM (0020,000D).
    """
    study_date: Annotated[str | None, Field(alias="StudyDate")] = None
    """
    Date of the study, shifted or dummy after de-identification, MM-DD-YYYY.
    """
    study_description: Annotated[str | None, Field(alias="StudyDescription")] = None
    """
    Description of the study, DICOM (0008,1030), free text.
    """
    admitting_diagnoses_description: Annotated[str | None, Field(alias="AdmittingDiagnosesDescription")] = None
    """
    Admitting diagnoses, DICOM (0008,1080). Plural here, singular (`AdmittingDiagnosisDescription`) in series rows.
    """
    study_id: Annotated[str | None, Field(alias="StudyID")] = None
    """
    Study id, DICOM (0020,0010).
    """
    patient_age: Annotated[str | None, Field(alias="PatientAge")] = None
    """
    Patient's age at the study, DICOM (0010,1010): three digits and D, W, M or Y.
    """
    patient_id: Annotated[str | None, Field(alias="PatientID")] = None
    """
    Patient id.
    """
    patient_name: Annotated[str | None, Field(alias="PatientName")] = None
    """
    Patient name, DICOM (0010,0010); after de-identification usually the patient id.
    """
    patient_sex: Annotated[str | None, Field(alias="PatientSex")] = None
    """
    Patient's sex, DICOM (0010,0040).
    """
    ethnic_group: Annotated[str | None, Field(alias="EthnicGroup")] = None
    """
    Ethnic group, DICOM (0010,2160), free text.
    """
    collection: Annotated[str, Field(alias="Collection")]
    """
    Collection the row belongs to, spelled as the archive spells it.
    """
    series_count: Annotated[int, Field(alias="SeriesCount")]
    """
    Number of public series of the study.
    """
    longitudinal_temporal_event_type: Annotated[str | None, Field(alias="LongitudinalTemporalEventType")] = None
    """
    Event the longitudinal offset counts from, DICOM (0012,0053).
    """
    longitudinal_temporal_offset_from_event: Annotated[
        float | None, Field(alias="LongitudinalTemporalOffsetFromEvent")
    ] = None
    """
    Days between the event and the study, DICOM (0012,0052); negative before the event.
    """
    authorized: Annotated[int, Field(alias="Authorized")]
    """
    1 when the caller may download the row; the service leaves out rows it would mark 0.
    """


class Series(BaseModel):
    """
    One series of v4. Absent keys are columns without a value. getUpdatedSeries sends the same rows.
    """

    series_instance_uid: Annotated[str, Field(alias="SeriesInstanceUID")]
    """
    Unique id of the series, DICOM (0020,000E).
    """
    study_instance_uid: Annotated[str, Field(alias="StudyInstanceUID")]
    """
    Unique id of the study of the series, DICOM (0020,000D).
    """
    modality: Annotated[str | None, Field(alias="Modality")] = None
    """
    DICOM modality, (0008,0060).
    """
    protocol_name: Annotated[str | None, Field(alias="ProtocolName")] = None
    """
    Protocol name, DICOM (0018,1030), free text.
    """
    series_date: Annotated[str | None, Field(alias="SeriesDate")] = None
    """
    Date of the series, shifted or dummy after de-identification, MM-DD-YYYY.
    """
    series_description: Annotated[str | None, Field(alias="SeriesDescription")] = None
    """
    Description of the series, DICOM (0008,103E), free text.
    """
    body_part_examined: Annotated[str | None, Field(alias="BodyPartExamined")] = None
    """
    Body part examined, DICOM (0018,0015), as submitted.
    """
    series_number: Annotated[int | None, Field(alias="SeriesNumber")] = None
    """
    Series number, DICOM (0020,0011); up to seven digits seen. Written with six decimals in CSV, HTML and XML.
    """
    annotations_flag: Annotated[str | None, Field(alias="AnnotationsFlag")] = None
    """
    Whether annotation files exist; rarely set. A text column in v4, a boolean in v1 and v2.
    """
    collection: Annotated[str, Field(alias="Collection")]
    """
    Collection the row belongs to, spelled as the archive spells it.
    """
    site: Annotated[str | None, Field(alias="Site")] = None
    """
    Submitting site.
    """
    patient_id: Annotated[str, Field(alias="PatientID")]
    """
    Patient id.
    """
    patient_sex: Annotated[str | None, Field(alias="PatientSex")] = None
    """
    Patient's sex, DICOM (0010,0040).
    """
    patient_age: Annotated[str | None, Field(alias="PatientAge")] = None
    """
    Patient's age at the study, DICOM (0010,1010): three digits and D, W, M or Y.
    """
    admitting_diagnosis_description: Annotated[str | None, Field(alias="AdmittingDiagnosisDescription")] = None
    """
    Admitting diagnosis, DICOM (0008,1080). Singular here, plural (`AdmittingDiagnosesDescription`) in study rows.
    """
    manufacturer: Annotated[str | None, Field(alias="Manufacturer")] = None
    """
    Manufacturer of the equipment, DICOM (0008,0070).
    """
    manufacturer_model_name: Annotated[str | None, Field(alias="ManufacturerModelName")] = None
    """
    Model of the equipment, DICOM (0008,1090).
    """
    software_versions: Annotated[str | None, Field(alias="SoftwareVersions")] = None
    """
    Software versions, DICOM (0018,1020); may carry free device text.
    """
    image_count: Annotated[int, Field(alias="ImageCount")]
    """
    Number of images (DICOM files) of the series.
    """
    max_submission_timestamp: Annotated[str | None, Field(alias="MaxSubmissionTimestamp")] = None
    """
    Day of the last submission of an image of the series, MM-DD-YYYY.
    """
    time_stamp: Annotated[str | None, Field(alias="TimeStamp", deprecated=True)] = None
    """
    Name of MaxSubmissionTimestamp in answers of 2023 and in one official example; today's v4 does not send it.
    """
    license_name: Annotated[str | None, Field(alias="LicenseName")] = None
    """
    Short name of the licence the series is published under; licences differ within a collection.
    """
    license_uri: Annotated[str | None, Field(alias="LicenseURI")] = None
    """
    Address of the licence text.
    """
    data_description_uri: Annotated[str | None, Field(alias="DataDescriptionURI")] = None
    """
    DOI address of the collection or analysis result; the usage policy asks to cite it.
    """
    file_size: Annotated[int | None, Field(alias="FileSize")] = None
    """
    Sum of the sizes of the DICOM files in bytes (the ZIP is smaller).
    """
    released_status: Annotated[str | None, Field(alias="ReleasedStatus")] = None
    """
    Whether the series is released to the public.
    """
    date_released: Annotated[str | None, Field(alias="DateReleased")] = None
    """
    Day the series was released, MM-DD-YYYY. `fromDate` of getUpdatedSeries compares with this.
    """
    study_desc: Annotated[str | None, Field(alias="StudyDesc")] = None
    """
    Description of the study, DICOM (0008,1030). `StudyDesc` in series rows, `StudyDescription` in study rows.
    """
    study_date: Annotated[str | None, Field(alias="StudyDate")] = None
    """
    Date of the study, shifted or dummy after de-identification, MM-DD-YYYY.
    """
    third_party_analysis: Annotated[str | None, Field(alias="ThirdPartyAnalysis")] = None
    """
    Whether the series is a third party's analysis result.
    """
    authorized: Annotated[int, Field(alias="Authorized")]
    """
    1 when the caller may download the row; the service leaves out rows it would mark 0.
    """


class SeriesSize(BaseModel):
    """
    Size of one series.
    """

    total_size_in_bytes: Annotated[int, Field(alias="TotalSizeInBytes")]
    """
    Sum of the sizes of the DICOM files in bytes.
    """
    object_count: Annotated[int, Field(alias="ObjectCount")]
    """
    Number of images (DICOM files) of the series.
    """


class SopInstance(BaseModel):
    """
    One image of a series.
    """

    sop_instance_uid: Annotated[str, Field(alias="SOPInstanceUID")]
    """
    Unique id of the image, DICOM (0008,0018).
    """


class SeriesMetadata(BaseModel):
    """
    One series of v4 with patient, study and pixel geometry. Absent keys are columns without a value.
    """

    patient_id: Annotated[str, Field(alias="PatientID")]
    """
    Patient id.
    """
    patient_name: Annotated[str | None, Field(alias="PatientName")] = None
    """
    Patient name, DICOM (0010,0010); after de-identification usually the patient id.
    """
    patient_sex: Annotated[str | None, Field(alias="PatientSex")] = None
    """
    Patient's sex, DICOM (0010,0040).
    """
    ethnic_group: Annotated[str | None, Field(alias="EthnicGroup")] = None
    """
    Ethnic group, DICOM (0010,2160), free text.
    """
    phantom: Annotated[str | None, Field(alias="Phantom")] = None
    """
    Whether the subject is a phantom; `NO` unless the submitter said otherwise.
    """
    species_code: Annotated[str | None, Field(alias="SpeciesCode")] = None
    """
    SNOMED code of the species; 337915000 (human) when the submitter gave none.
    """
    species_description: Annotated[str | None, Field(alias="SpeciesDescription")] = None
    """
    Species name belonging to SpeciesCode.
    """
    study_instance_uid: Annotated[str, Field(alias="StudyInstanceUID")]
    """
    Unique id of the study of the series, DICOM (0020,000D).
    """
    study_date: Annotated[str | None, Field(alias="StudyDate")] = None
    """
    Date of the study, shifted or dummy after de-identification, MM-DD-YYYY.
    """
    study_desc: Annotated[str | None, Field(alias="StudyDesc")] = None
    """
    Description of the study, DICOM (0008,1030). `StudyDesc` in series rows, `StudyDescription` in study rows.
    """
    admitting_diagnosis_description: Annotated[str | None, Field(alias="AdmittingDiagnosisDescription")] = None
    """
    Admitting diagnosis, DICOM (0008,1080). Singular here, plural (`AdmittingDiagnosesDescription`) in study rows.
    """
    study_id: Annotated[str | None, Field(alias="StudyID")] = None
    """
    Study id, DICOM (0020,0010).
    """
    patient_age: Annotated[str | None, Field(alias="PatientAge")] = None
    """
    Patient's age at the study, DICOM (0010,1010): three digits and D, W, M or Y.
    """
    longitudinal_temporal_event_type: Annotated[str | None, Field(alias="LongitudinalTemporalEventType")] = None
    """
    Event the longitudinal offset counts from, DICOM (0012,0053).
    """
    longitudinal_temporal_offset_from_event: Annotated[
        float | None, Field(alias="LongitudinalTemporalOffsetFromEvent")
    ] = None
    """
    Days between the event and the study, DICOM (0012,0052); negative before the event.
    """
    series_instance_uid: Annotated[str, Field(alias="SeriesInstanceUID")]
    """
    Unique id of the series, DICOM (0020,000E).
    """
    collection: Annotated[str, Field(alias="Collection")]
    """
    Collection the row belongs to, spelled as the archive spells it.
    """
    site: Annotated[str | None, Field(alias="Site")] = None
    """
    Submitting site.
    """
    modality: Annotated[str | None, Field(alias="Modality")] = None
    """
    DICOM modality, (0008,0060).
    """
    protocol_name: Annotated[str | None, Field(alias="ProtocolName")] = None
    """
    Protocol name, DICOM (0018,1030), free text.
    """
    series_date: Annotated[str | None, Field(alias="SeriesDate")] = None
    """
    Date of the series, shifted or dummy after de-identification, MM-DD-YYYY.
    """
    series_description: Annotated[str | None, Field(alias="SeriesDescription")] = None
    """
    Description of the series, DICOM (0008,103E), free text.
    """
    body_part_examined: Annotated[str | None, Field(alias="BodyPartExamined")] = None
    """
    Body part examined, DICOM (0018,0015), as submitted.
    """
    series_number: Annotated[int | None, Field(alias="SeriesNumber")] = None
    """
    Series number, DICOM (0020,0011); up to seven digits seen. Written with six decimals in CSV, HTML and XML.
    """
    annotations_flag: Annotated[str | None, Field(alias="AnnotationsFlag")] = None
    """
    Whether annotation files exist; rarely set. A text column in v4, a boolean in v1 and v2.
    """
    manufacturer: Annotated[str | None, Field(alias="Manufacturer")] = None
    """
    Manufacturer of the equipment, DICOM (0008,0070).
    """
    manufacturer_model_name: Annotated[str | None, Field(alias="ManufacturerModelName")] = None
    """
    Model of the equipment, DICOM (0008,1090).
    """
    pixel_spacing_mm__row: Annotated[str | None, Field(alias="PixelSpacing(mm)-Row")] = None
    """
    Distance between rows in mm; the distinct values of the series joined with commas. Not an XML name, so the XML form is malformed.
    """
    slice_thickness_mm_: Annotated[str | None, Field(alias="SliceThickness(mm)")] = None
    """
    Slice thickness in mm; the distinct values of the series joined with commas. Not an XML name either.
    """
    software_versions: Annotated[str | None, Field(alias="SoftwareVersions")] = None
    """
    Software versions, DICOM (0018,1020); may carry free device text.
    """
    image_count: Annotated[int, Field(alias="ImageCount")]
    """
    Number of images (DICOM files) of the series.
    """
    max_submission_timestamp: Annotated[str | None, Field(alias="MaxSubmissionTimestamp")] = None
    """
    Day of the last submission of an image of the series, MM-DD-YYYY.
    """
    license_name: Annotated[str | None, Field(alias="LicenseName")] = None
    """
    Short name of the licence the series is published under; licences differ within a collection.
    """
    license_uri: Annotated[str | None, Field(alias="LicenseURI")] = None
    """
    Address of the licence text.
    """
    data_description_uri: Annotated[str | None, Field(alias="DataDescriptionURI")] = None
    """
    DOI address of the collection or analysis result; the usage policy asks to cite it.
    """
    file_size: Annotated[int | None, Field(alias="FileSize")] = None
    """
    Sum of the sizes of the DICOM files in bytes (the ZIP is smaller).
    """
    released_status: Annotated[str | None, Field(alias="ReleasedStatus")] = None
    """
    Whether the series is released to the public.
    """
    date_released: Annotated[str | None, Field(alias="DateReleased")] = None
    """
    Day the series was released, MM-DD-YYYY. `fromDate` of getUpdatedSeries compares with this.
    """
    third_party_analysis: Annotated[str | None, Field(alias="ThirdPartyAnalysis")] = None
    """
    Whether the series is a third party's analysis result.
    """
    authorized: Annotated[int, Field(alias="Authorized")]
    """
    1 when the caller may download the row; the service leaves out rows it would mark 0.
    """


class SeriesMetadataForm(BaseModel):
    """
    Form of getSeriesMetadata.
    """

    list_: Annotated[list[str], Field(alias="list")]
    """
    Unique ids of the series. Sent joined with commas in one field; the service drops every character that is not a digit, dot or comma. Clients post up to 10,000 ids at a time.
    """
    format: Literal["JSON", "HTML", "XML", "CSV", "CSVQUOTED", "CSV-DOWNLOAD"] = "CSV"
    """
    Form of the answer. The default here is CSV, not JSON: ask for JSON to get typed rows.
    """


class DicomTag(BaseModel):
    """
    One element of a DICOM header, printed. Keys are always there; `data` is null for the start and end row of a sequence.
    """

    element: str
    """
    Tag as (gggg,eeee); one `>` in front for each level of nesting.
    """
    name: str
    """
    Name of the attribute; the closing row of a sequence has its tag again and a name starting with `End `.
    """
    data: str | None
    """
    Value as text, several values joined with a backslash; null for sequences.
    """


class CollectionDescription(BaseModel):
    """
    Description of one collection as published. Keys are always there and may be null.
    """

    description: str | None
    """
    Description as HTML written by the archive's curators; clean it before showing it in a page.
    """
    id: int | None
    """
    Number of the description in the archive's database.
    """
    collection_name: Annotated[str | None, Field(alias="collectionName")]
    """
    Name of the collection.
    """
    description_uri: Annotated[str | None, Field(alias="descriptionURI")]
    """
    DOI address of the collection.
    """


class SharedListSeries(BaseModel):
    """
    One series of a shared list: a row of v1 and v2, with dates as timestamps and the release date under a key with a space.
    """

    series_instance_uid: Annotated[str, Field(alias="SeriesInstanceUID")]
    """
    Unique id of the series, DICOM (0020,000E).
    """
    study_instance_uid: Annotated[str, Field(alias="StudyInstanceUID")]
    """
    Unique id of the study of the series, DICOM (0020,000D).
    """
    modality: Annotated[str | None, Field(alias="Modality")] = None
    """
    DICOM modality, (0008,0060).
    """
    protocol_name: Annotated[str | None, Field(alias="ProtocolName")] = None
    """
    Protocol name, DICOM (0018,1030), free text.
    """
    series_date: Annotated[str | None, Field(alias="SeriesDate")] = None
    """
    Date of the series as `YYYY-MM-DD hh:mm:ss.0`, shifted or dummy after de-identification.
    """
    series_description: Annotated[str | None, Field(alias="SeriesDescription")] = None
    """
    Description of the series, DICOM (0008,103E), free text.
    """
    body_part_examined: Annotated[str | None, Field(alias="BodyPartExamined")] = None
    """
    Body part examined, DICOM (0018,0015), as submitted.
    """
    series_number: Annotated[int | None, Field(alias="SeriesNumber")] = None
    """
    Series number, DICOM (0020,0011).
    """
    annotations_flag: Annotated[bool | None, Field(alias="AnnotationsFlag")] = None
    """
    Whether annotation files exist; the key is there only when the flag was set.
    """
    collection: Annotated[str, Field(alias="Collection")]
    """
    Collection the row belongs to, spelled as the archive spells it.
    """
    patient_id: Annotated[str, Field(alias="PatientID")]
    """
    Patient id.
    """
    manufacturer: Annotated[str | None, Field(alias="Manufacturer")] = None
    """
    Manufacturer of the equipment, DICOM (0008,0070).
    """
    manufacturer_model_name: Annotated[str | None, Field(alias="ManufacturerModelName")] = None
    """
    Model of the equipment, DICOM (0008,1090).
    """
    software_versions: Annotated[str | None, Field(alias="SoftwareVersions")] = None
    """
    Software versions, DICOM (0018,1020); may carry free device text.
    """
    image_count: Annotated[int, Field(alias="ImageCount")]
    """
    Number of images (DICOM files) of the series.
    """
    date_released: Annotated[str | None, Field(alias="Date Released")] = None
    """
    Time of release as `YYYY-MM-DD hh:mm:ss.0`. Missing in answers of 2022.
    """


class ArchiveMemberName(RootModel[str]):
    root: str
    """
    Name of a member of the ZIP of getImage: LICENSE first, then 00000001.dcm, 00000002.dcm and so on with the extension of the stored file (with NewFileNames acquisition group and number, such as 1-001.dcm), and with IncludeMD5 md5hashes.csv last.
    """


class SeriesV1(BaseModel):
    """
    Rows of v1 and v2, kept for clients that read those generations or recordings of them; no v4 operation sends them. getSeries: the columns after ImageCount grew over time (TimeStamp in 2022, licence, size and dates by 2024).
    """

    series_instance_uid: Annotated[str, Field(alias="SeriesInstanceUID")]
    """
    Unique id of the series, DICOM (0020,000E).
    """
    study_instance_uid: Annotated[str, Field(alias="StudyInstanceUID")]
    """
    Unique id of the study of the series, DICOM (0020,000D).
    """
    modality: Annotated[str | None, Field(alias="Modality")] = None
    """
    DICOM modality, (0008,0060).
    """
    protocol_name: Annotated[str | None, Field(alias="ProtocolName")] = None
    """
    Protocol name, DICOM (0018,1030), free text.
    """
    series_date: Annotated[str | None, Field(alias="SeriesDate")] = None
    """
    Date of the series as `YYYY-MM-DD hh:mm:ss.0`, shifted or dummy after de-identification.
    """
    series_description: Annotated[str | None, Field(alias="SeriesDescription")] = None
    """
    Description of the series, DICOM (0008,103E), free text.
    """
    body_part_examined: Annotated[str | None, Field(alias="BodyPartExamined")] = None
    """
    Body part examined, DICOM (0018,0015), as submitted.
    """
    series_number: Annotated[int | None, Field(alias="SeriesNumber")] = None
    """
    Series number, DICOM (0020,0011).
    """
    annotations_flag: Annotated[bool | None, Field(alias="AnnotationsFlag")] = None
    """
    Whether annotation files exist; the key is there only when the flag was set.
    """
    collection: Annotated[str, Field(alias="Collection")]
    """
    Collection the row belongs to, spelled as the archive spells it.
    """
    patient_id: Annotated[str, Field(alias="PatientID")]
    """
    Patient id.
    """
    manufacturer: Annotated[str | None, Field(alias="Manufacturer")] = None
    """
    Manufacturer of the equipment, DICOM (0008,0070).
    """
    manufacturer_model_name: Annotated[str | None, Field(alias="ManufacturerModelName")] = None
    """
    Model of the equipment, DICOM (0008,1090).
    """
    software_versions: Annotated[str | None, Field(alias="SoftwareVersions")] = None
    """
    Software versions, DICOM (0018,1020); may carry free device text.
    """
    image_count: Annotated[int, Field(alias="ImageCount")]
    """
    Number of images (DICOM files) of the series.
    """
    time_stamp: Annotated[str | None, Field(alias="TimeStamp")] = None
    """
    Time of the last submission of an image of the series as `YYYY-MM-DD hh:mm:ss.0`; MaxSubmissionTimestamp in v4.
    """
    license_name: Annotated[str | None, Field(alias="LicenseName")] = None
    """
    Short name of the licence the series is published under; licences differ within a collection.
    """
    license_uri: Annotated[str | None, Field(alias="LicenseURI")] = None
    """
    Address of the licence text.
    """
    collection_uri: Annotated[str | None, Field(alias="CollectionURI")] = None
    """
    DOI address of the collection; DataDescriptionURI in v4.
    """
    file_size: Annotated[int | None, Field(alias="FileSize")] = None
    """
    Sum of the sizes of the DICOM files in bytes (the ZIP is smaller).
    """
    date_released: Annotated[str | None, Field(alias="DateReleased")] = None
    """
    Time of release as `YYYY-MM-DD hh:mm:ss.0`.
    """
    study_desc: Annotated[str | None, Field(alias="StudyDesc")] = None
    """
    Description of the study, DICOM (0008,1030). `StudyDesc` in series rows, `StudyDescription` in study rows.
    """
    study_date: Annotated[str | None, Field(alias="StudyDate")] = None
    """
    Date of the study as `YYYY-MM-DD hh:mm:ss.0`, shifted or dummy after de-identification.
    """
    third_party_analysis: Annotated[str | None, Field(alias="ThirdPartyAnalysis")] = None
    """
    Whether the series is a third party's analysis result.
    """


class PatientV1(BaseModel):
    """
    Rows of v1 and v2, kept for clients that read those generations or recordings of them; no v4 operation sends them. getPatient and NewPatientsInCollection: with PatientBirthDate, without Authorized.
    """

    patient_id: Annotated[str, Field(alias="PatientId")]
    """
    Patient id.
    """
    patient_name: Annotated[str | None, Field(alias="PatientName")] = None
    """
    Patient name, DICOM (0010,0010); after de-identification usually the patient id.
    """
    patient_birth_date: Annotated[str | None, Field(alias="PatientBirthDate")] = None
    """
    Date of birth as `YYYY-MM-DD hh:mm:ss.0`, removed in v4.
    """
    patient_sex: Annotated[str | None, Field(alias="PatientSex")] = None
    """
    Patient's sex, DICOM (0010,0040).
    """
    ethnic_group: Annotated[str | None, Field(alias="EthnicGroup")] = None
    """
    Ethnic group, DICOM (0010,2160), free text.
    """
    collection: Annotated[str, Field(alias="Collection")]
    """
    Collection the row belongs to, spelled as the archive spells it.
    """
    phantom: Annotated[str, Field(alias="Phantom")]
    """
    Whether the subject is a phantom; `NO` unless the submitter said otherwise.
    """
    species_code: Annotated[str, Field(alias="SpeciesCode")]
    """
    SNOMED code of the species; 337915000 (human) when the submitter gave none.
    """
    species_description: Annotated[str, Field(alias="SpeciesDescription")]
    """
    Species name belonging to SpeciesCode.
    """


class PatientReferenceV1(BaseModel):
    """
    Rows of v1 and v2, kept for clients that read those generations or recordings of them; no v4 operation sends them. getPatientByCollectionAndModality: without Authorized.
    """

    patient_id: Annotated[str, Field(alias="PatientId")]
    """
    Patient id.
    """


class PatientStudyV1(BaseModel):
    """
    Rows of v1 and v2, kept for clients that read those generations or recordings of them; no v4 operation sends them. getPatientStudy and NewStudiesInPatientCollection: with PatientBirthDate, without Authorized.
    """

    study_instance_uid: Annotated[str, Field(alias="StudyInstanceUID")]
    """
    Unique id of the study, DICOM (0020,000D).
    """
    study_date: Annotated[str | None, Field(alias="StudyDate")] = None
    """
    Date of the study as `YYYY-MM-DD hh:mm:ss.0`, shifted or dummy after de-identification.
    """
    study_description: Annotated[str | None, Field(alias="StudyDescription")] = None
    """
    Description of the study, DICOM (0008,1030), free text.
    """
    admitting_diagnoses_description: Annotated[str | None, Field(alias="AdmittingDiagnosesDescription")] = None
    """
    Admitting diagnoses, DICOM (0008,1080). Plural here, singular (`AdmittingDiagnosisDescription`) in series rows.
    """
    study_id: Annotated[str | None, Field(alias="StudyID")] = None
    """
    Study id, DICOM (0020,0010).
    """
    patient_age: Annotated[str | None, Field(alias="PatientAge")] = None
    """
    Patient's age at the study, DICOM (0010,1010): three digits and D, W, M or Y.
    """
    patient_id: Annotated[str | None, Field(alias="PatientID")] = None
    """
    Patient id.
    """
    patient_name: Annotated[str | None, Field(alias="PatientName")] = None
    """
    Patient name, DICOM (0010,0010); after de-identification usually the patient id.
    """
    patient_birth_date: Annotated[str | None, Field(alias="PatientBirthDate")] = None
    """
    Date of birth as `YYYY-MM-DD hh:mm:ss.0`, removed in v4.
    """
    patient_sex: Annotated[str | None, Field(alias="PatientSex")] = None
    """
    Patient's sex, DICOM (0010,0040).
    """
    ethnic_group: Annotated[str | None, Field(alias="EthnicGroup")] = None
    """
    Ethnic group, DICOM (0010,2160), free text.
    """
    collection: Annotated[str, Field(alias="Collection")]
    """
    Collection the row belongs to, spelled as the archive spells it.
    """
    series_count: Annotated[int, Field(alias="SeriesCount")]
    """
    Number of public series of the study.
    """
    longitudinal_temporal_event_type: Annotated[str | None, Field(alias="LongitudinalTemporalEventType")] = None
    """
    Event the longitudinal offset counts from, DICOM (0012,0053).
    """
    longitudinal_temporal_offset_from_event: Annotated[
        float | None, Field(alias="LongitudinalTemporalOffsetFromEvent")
    ] = None
    """
    Days between the event and the study, DICOM (0012,0052); negative before the event.
    """


class SeriesSizeV1(BaseModel):
    """
    Rows of v1 and v2, kept for clients that read those generations or recordings of them; no v4 operation sends them. getSeriesSize: an unknown series is one empty object, where v4 sends an empty body.
    """

    total_size_in_bytes: Annotated[int | None, Field(alias="TotalSizeInBytes")] = None
    """
    Sum of the sizes of the DICOM files in bytes.
    """
    object_count: Annotated[int | None, Field(alias="ObjectCount")] = None
    """
    Number of images (DICOM files) of the series.
    """


class SeriesMetadataV1(BaseModel):
    """
    Rows of v1 and v2, kept for clients that read those generations or recordings of them; no v4 operation sends them. GET getSeriesMetaData: key names with spaces and every value a string. Descriptions are stripped to letters, digits, space, dot and hyphen. In 2022 the list ended with Annotation Size.
    """

    series_uid: Annotated[str, Field(alias="Series UID")]
    """
    Unique id of the series, DICOM (0020,000E).
    """
    collection: Annotated[str, Field(alias="Collection")]
    """
    Collection the row belongs to, spelled as the archive spells it.
    """
    field_3rd_party_analysis: Annotated[str | None, Field(alias="3rd Party Analysis")] = None
    """
    Whether the series is a third party's analysis result.
    """
    data_description_uri: Annotated[str | None, Field(alias="Data Description URI")] = None
    """
    DOI address of the collection or analysis result; the usage policy asks to cite it.
    """
    subject_id: Annotated[str, Field(alias="Subject ID")]
    """
    Patient id.
    """
    study_uid: Annotated[str, Field(alias="Study UID")]
    """
    Unique id of the study of the series, DICOM (0020,000D).
    """
    study_description: Annotated[str | None, Field(alias="Study Description")] = None
    """
    Description of the study, stripped.
    """
    study_date: Annotated[str | None, Field(alias="Study Date")] = None
    """
    Date of the study, MM-DD-YYYY, shifted or dummy after de-identification.
    """
    series_description: Annotated[str | None, Field(alias="Series Description")] = None
    """
    Description of the series, stripped.
    """
    manufacturer: Annotated[str | None, Field(alias="Manufacturer")] = None
    """
    Manufacturer of the equipment, DICOM (0008,0070).
    """
    modality: Annotated[str | None, Field(alias="Modality")] = None
    """
    DICOM modality, (0008,0060).
    """
    sop_class_uid: Annotated[str | None, Field(alias="SOP Class UID")] = None
    """
    SOP class of the images, DICOM (0008,0016).
    """
    number_of_images: Annotated[str | None, Field(alias="Number of Images")] = None
    """
    Number of images, decimal digits.
    """
    file_size: Annotated[str | None, Field(alias="File Size")] = None
    """
    Sum of the sizes of the DICOM files in bytes, decimal digits.
    """
    file_location: Annotated[str | None, Field(alias="File Location")] = None
    """
    In spite of its name the study id, DICOM (0020,0010).
    """
    series_number: Annotated[str | None, Field(alias="Series Number")] = None
    """
    Series number with six decimals, such as `1.000000`.
    """
    license_name: Annotated[str | None, Field(alias="License Name")] = None
    """
    Short name of the licence the series is published under; licences differ within a collection.
    """
    license_url: Annotated[str | None, Field(alias="License URL")] = None
    """
    Address of the licence text.
    """
    annotation_size: Annotated[str | None, Field(alias="Annotation Size")] = None
    """
    Size of the annotation files in bytes, decimal digits.
    """
    date_released: Annotated[str | None, Field(alias="Date Released")] = None
    """
    Time of release in Java's form, such as `Mon Nov 04 11:45:52 UTC 2013`.
    """
    series_date: Annotated[str | None, Field(alias="Series Date")] = None
    """
    Date of the series in Java's form, shifted or dummy after de-identification.
    """
    protocol_name: Annotated[str | None, Field(alias="Protocol Name")] = None
    """
    Protocol name, stripped.
    """
    body_part_examined: Annotated[str | None, Field(alias="Body Part Examined")] = None
    """
    Body part examined, DICOM (0018,0015), as submitted.
    """
    annotations_flag: Annotated[str | None, Field(alias="Annotations Flag")] = None
    """
    `true` or `false` as text.
    """
    manufacturer_model_name: Annotated[str | None, Field(alias="Manufacturer Model Name")] = None
    """
    Model of the equipment, DICOM (0008,1090).
    """
    software_versions: Annotated[str | None, Field(alias="Software Versions")] = None
    """
    Software versions, DICOM (0018,1020); may carry free device text.
    """
    time_stamp: Annotated[str | None, Field(alias="TimeStamp")] = None
    """
    Time of the last submission in Java's form.
    """


class ValueCountUnversioned(BaseModel):
    """
    Rows of the unversioned service, kept for clients that read it or recordings of it; no v4 operation sends them. The value-and-count operations: one pair of strings, whatever is counted.
    """

    criteria: str
    """
    Value counted: collection, modality, body part or manufacturer; empty text for none.
    """
    count: str
    """
    Number of distinct patients, decimal digits.
    """


class CollectionDescriptionUnversioned(BaseModel):
    """
    Rows of the unversioned service, kept for clients that read it or recordings of it; no v4 operation sends them. getCollectionDescriptions: three keys more than v4.
    """

    description: str | None
    """
    Description as HTML.
    """
    id: int | None
    """
    Number of the description in the archive's database.
    """
    collection_desc_timestamp: Annotated[int | None, Field(alias="collectionDescTimestamp")]
    """
    Time of the last change in milliseconds since 1970-01-01 UTC.
    """
    collection_name: Annotated[str | None, Field(alias="collectionName")]
    """
    Name of the collection.
    """
    user_name: Annotated[str | None, Field(alias="userName")]
    """
    Account that wrote the description.
    """
    license_id: Annotated[int | None, Field(alias="licenseId")]
    """
    Number of the licence in the archive's database.
    """
    description_uri: Annotated[str | None, Field(alias="descriptionURI")]
    """
    DOI address of the collection.
    """
