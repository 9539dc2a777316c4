"""TCIA REST gateway: the schemas of tcia-gateway.yaml as pydantic models."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import BaseModel, Field


class CollectionValue(BaseModel):
    """
    One collection.
    """

    collection: Annotated[str | None, Field(alias="Collection")] = None
    """
    Name of the collection.
    """


class ModalityValue(BaseModel):
    """
    One modality. Without the key it stands for series that have none.
    """

    modality: Annotated[str | None, Field(alias="Modality")] = None
    """
    DICOM modality, such as CT or MR.
    """


class BodyPartValue(BaseModel):
    """
    One body part. Without the key it stands for series that have none.
    """

    body_part_examined: Annotated[str | None, Field(alias="BodyPartExamined")] = None
    """
    Examined body part.
    """


class ManufacturerValue(BaseModel):
    """
    One manufacturer. Without the key it stands for series that have none.
    """

    manufacturer: Annotated[str | None, Field(alias="Manufacturer")] = None
    """
    Maker of the scanner.
    """


class Patient(BaseModel):
    """
    One patient of one collection. All values are de-identified by the archive.
    """

    patient_id: Annotated[str, Field(alias="PatientID")]
    """
    Identifier of the patient.
    """
    patient_name: Annotated[str | None, Field(alias="PatientName")] = None
    """
    Name of the patient, usually the identifier again.
    """
    patient_birth_date: Annotated[date | None, Field(alias="PatientBirthDate")] = None
    """
    Date of birth. Clients read it, but de-identification removes the value, so it is absent.
    """
    patient_sex: Annotated[str | None, Field(alias="PatientSex")] = None
    """
    Sex as in DICOM.
    """
    ethnic_group: Annotated[str | None, Field(alias="EthnicGroup")] = None
    """
    Ethnic group, free text.
    """
    collection: Annotated[str | None, Field(alias="Collection")] = None
    """
    Collection the row is about.
    """


class PatientStudy(BaseModel):
    """
    One study and its patient.
    """

    study_instance_uid: Annotated[str, Field(alias="StudyInstanceUID")]
    """
    UID of the study.
    """
    study_date: Annotated[date | None, Field(alias="StudyDate")] = None
    """
    Date of the study, shifted or invented by de-identification.
    """
    study_description: Annotated[str | None, Field(alias="StudyDescription")] = None
    """
    Description, free text.
    """
    admitting_diagnoses_description: Annotated[str | None, Field(alias="AdmittingDiagnosesDescription")] = None
    """
    Diagnoses at admission, free text.
    """
    study_id: Annotated[str | None, Field(alias="StudyID")] = None
    """
    Identifier given to the study on site.
    """
    patient_age: Annotated[str | None, Field(alias="PatientAge")] = None
    """
    Age as in DICOM, such as 061Y.
    """
    patient_id: Annotated[str | None, Field(alias="PatientID")] = None
    """
    Identifier of the patient.
    """
    patient_name: Annotated[str | None, Field(alias="PatientName")] = None
    """
    Name of the patient, usually the identifier again.
    """
    patient_birth_date: Annotated[date | None, Field(alias="PatientBirthDate")] = None
    """
    Date of birth. Clients read it, but de-identification removes the value, so it is absent.
    """
    patient_sex: Annotated[str | None, Field(alias="PatientSex")] = None
    """
    Sex as in DICOM.
    """
    ethnic_group: Annotated[str | None, Field(alias="EthnicGroup")] = None
    """
    Ethnic group, free text.
    """
    collection: Annotated[str | None, Field(alias="Collection")] = None
    """
    Collection of the study.
    """
    series_count: Annotated[int | None, Field(alias="SeriesCount")] = None
    """
    Number of series in the study.
    """


class Series(BaseModel):
    """
    One series. The gateway has 15 columns for it.
    """

    series_instance_uid: Annotated[str, Field(alias="SeriesInstanceUID")]
    """
    UID of the series.
    """
    study_instance_uid: Annotated[str, Field(alias="StudyInstanceUID")]
    """
    UID of its study.
    """
    modality: Annotated[str | None, Field(alias="Modality")] = None
    """
    DICOM modality, such as CT or MR.
    """
    protocol_name: Annotated[str | None, Field(alias="ProtocolName")] = None
    """
    Name of the protocol, free text.
    """
    series_date: Annotated[date | None, Field(alias="SeriesDate")] = None
    """
    Date of the series, shifted or invented by de-identification.
    """
    series_description: Annotated[str | None, Field(alias="SeriesDescription")] = None
    """
    Description, free text.
    """
    body_part_examined: Annotated[str | None, Field(alias="BodyPartExamined")] = None
    """
    Examined body part.
    """
    series_number: Annotated[str | None, Field(alias="SeriesNumber")] = None
    """
    Number of the series within its study, as a decimal number in a string.
    """
    annotations_flag: Annotated[bool | None, Field(alias="AnnotationsFlag")] = None
    """
    True if annotations exist. Mostly absent.
    """
    collection: Annotated[str | None, Field(alias="Collection")] = None
    """
    Collection of the series.
    """
    patient_id: Annotated[str | None, Field(alias="PatientID")] = None
    """
    Identifier of the patient.
    """
    manufacturer: Annotated[str | None, Field(alias="Manufacturer")] = None
    """
    Maker of the scanner.
    """
    manufacturer_model_name: Annotated[str | None, Field(alias="ManufacturerModelName")] = None
    """
    Model of the scanner.
    """
    software_versions: Annotated[str | None, Field(alias="SoftwareVersions")] = None
    """
    Software of the scanner.
    """
    image_count: Annotated[int | None, Field(alias="ImageCount")] = None
    """
    Number of DICOM files in the series.
    """


class SeriesSize(BaseModel):
    """
    Size of one series.
    """

    total_size_in_bytes: Annotated[str | None, Field(alias="TotalSizeInBytes")] = None
    """
    Size of all DICOM files together in bytes, as a decimal number in a string.
    """
    object_count: Annotated[int | None, Field(alias="ObjectCount")] = None
    """
    Number of DICOM files.
    """


class SharedListItem(BaseModel):
    """
    One series of a shared list.
    """

    series_instance_uid: Annotated[str, Field(alias="SERIES_INSTANCE_UID")]
    """
    UID of the series.
    """


class GatewayError(BaseModel):
    """
    Reason of a failed query.
    """

    error_message: Annotated[str, Field(alias="errorMessage")]
    """
    Message of the failing program, often the name of a Java exception.
    """
