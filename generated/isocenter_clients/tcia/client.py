"""The Cancer Imaging Archive (NBIA v4): a typed client, asynchronous and blocking.

Generated from openapi/tcia.yaml by `isocenter generate`. Do not edit: change the specification and generate again.
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

__all__ = ["TciaClient", "TciaSyncClient"]

_GET_COLLECTION_VALUES: Shape[list[models.CollectionValue] | str] = Shape(lambda: list[models.CollectionValue] | str)
_GET_MODALITY_VALUES: Shape[list[models.ModalityValue] | str] = Shape(lambda: list[models.ModalityValue] | str)
_GET_BODY_PART_VALUES: Shape[list[models.BodyPartValue] | str] = Shape(lambda: list[models.BodyPartValue] | str)
_GET_MANUFACTURER_VALUES: Shape[list[models.ManufacturerValue] | str] = Shape(lambda: list[models.ManufacturerValue] | str)
_GET_COLLECTION_VALUES_AND_COUNTS: Shape[list[models.CollectionCount]] = Shape(lambda: list[models.CollectionCount])
_GET_MODALITY_VALUES_AND_COUNTS: Shape[list[models.ModalityCount]] = Shape(lambda: list[models.ModalityCount])
_GET_BODY_PART_VALUES_AND_COUNTS: Shape[list[models.BodyPartCount]] = Shape(lambda: list[models.BodyPartCount])
_GET_MANUFACTURER_VALUES_AND_COUNTS: Shape[list[models.ManufacturerCount]] = Shape(lambda: list[models.ManufacturerCount])
_GET_COLLECTION_DESCRIPTIONS: Shape[list[models.CollectionDescription]] = Shape(lambda: list[models.CollectionDescription])
_GET_PATIENT: Shape[list[models.Patient] | str] = Shape(lambda: list[models.Patient] | str)
_GET_PATIENT_BY_COLLECTION_AND_MODALITY: Shape[list[models.PatientReference] | str] = Shape(lambda: list[models.PatientReference] | str)
_GET_PATIENT_STUDY: Shape[list[models.PatientStudy] | str] = Shape(lambda: list[models.PatientStudy] | str)
_GET_SERIES: Shape[list[models.Series] | str] = Shape(lambda: list[models.Series] | str)
_GET_UPDATED_SERIES: Shape[list[models.Series] | str] = Shape(lambda: list[models.Series] | str)
_GET_SERIES_SIZE: Shape[list[models.SeriesSize] | str] = Shape(lambda: list[models.SeriesSize] | str)
_GET_SERIES_METADATA: Shape[list[models.SeriesMetadata] | str] = Shape(lambda: list[models.SeriesMetadata] | str)
_GET_SOP_INSTANCE_UIDS: Shape[list[models.SopInstance] | str] = Shape(lambda: list[models.SopInstance] | str)
_GET_DICOM_TAGS: Shape[list[models.DicomTag]] = Shape(lambda: list[models.DicomTag])
_GET_IMAGE: Shape[bytes | None] = Shape(lambda: bytes | None)
_GET_SINGLE_IMAGE: Shape[bytes | None] = Shape(lambda: bytes | None)
_GET_CONTENTS_BY_NAME: Shape[list[models.SharedListSeries]] = Shape(lambda: list[models.SharedListSeries])


class TciaClient(AsyncApi):
    """The Cancer Imaging Archive (NBIA v4).

    Asynchronous; a context manager. Every call is checked against the contract, both ways.
    """

    contract = staticmethod(load)

    async def get_collection_values(
        self,
        *,
        format: Literal['JSON', 'HTML', 'XML', 'CSV'] | None = None,
    ) -> Result[list[models.CollectionValue] | str]:
        """List collections.

        Names of all collections that have public series, sorted without regard to case. Use the names, spelled
        exactly so, as `Collection` in every other operation.

        Args:
            format: Form of the answer. Leave it out for typed rows. Lists of one column know no quoted CSV.
        """
        return await self._call(
            "getCollectionValues",
            {"format": format},
            _GET_COLLECTION_VALUES,
        )

    async def get_modality_values(
        self,
        *,
        collection: str | None = None,
        body_part_examined: str | None = None,
        format: Literal['JSON', 'HTML', 'XML', 'CSV'] | None = None,
    ) -> Result[list[models.ModalityValue] | str]:
        """List modalities.

        Modalities of the public series, sorted; all of them, or those of one collection or body part. An empty
        object stands for series without a modality.

        Args:
            collection: Name of a collection as getCollectionValues lists it, in any case; no wildcards.
            body_part_examined: Body part as getBodyPartValues lists it, in any case.
            format: Form of the answer. Leave it out for typed rows. Lists of one column know no quoted CSV.
        """
        return await self._call(
            "getModalityValues",
            {"Collection": collection, "BodyPartExamined": body_part_examined, "format": format},
            _GET_MODALITY_VALUES,
        )

    async def get_body_part_values(
        self,
        *,
        collection: str | None = None,
        modality: str | None = None,
        format: Literal['JSON', 'HTML', 'XML', 'CSV'] | None = None,
    ) -> Result[list[models.BodyPartValue] | str]:
        """List body parts.

        Body parts of the public series in upper case, sorted; all of them, or those of one collection or
        modality. The list starts with an empty object when some series name no body part. Spellings are as
        submitted, so one part may have several names.

        Args:
            collection: Name of a collection as getCollectionValues lists it, in any case; no wildcards.
            modality: DICOM modality as getModalityValues lists it, in any case.
            format: Form of the answer. Leave it out for typed rows. Lists of one column know no quoted CSV.
        """
        return await self._call(
            "getBodyPartValues",
            {"Collection": collection, "Modality": modality, "format": format},
            _GET_BODY_PART_VALUES,
        )

    async def get_manufacturer_values(
        self,
        *,
        collection: str | None = None,
        modality: str | None = None,
        body_part_examined: str | None = None,
        format: Literal['JSON', 'HTML', 'XML', 'CSV'] | None = None,
    ) -> Result[list[models.ManufacturerValue] | str]:
        """List manufacturers.

        Manufacturers of the equipment of the public series in upper case, sorted; all of them, or those of one
        collection, modality or body part. The list starts with an empty object when some series name none.

        Args:
            collection: Name of a collection as getCollectionValues lists it, in any case; no wildcards.
            modality: DICOM modality as getModalityValues lists it, in any case.
            body_part_examined: Body part as getBodyPartValues lists it, in any case.
            format: Form of the answer. Leave it out for typed rows. Lists of one column know no quoted CSV.
        """
        return await self._call(
            "getManufacturerValues",
            {"Collection": collection, "Modality": modality, "BodyPartExamined": body_part_examined, "format": format},
            _GET_MANUFACTURER_VALUES,
        )

    async def get_collection_values_and_counts(
        self,

    ) -> Result[list[models.CollectionCount]]:
        """Count patients per collection.

        Number of patients of every public collection. Takes no parameter; the service ignores any.
        """
        return await self._call(
            "getCollectionValuesAndCounts",
            {},
            _GET_COLLECTION_VALUES_AND_COUNTS,
        )

    async def get_modality_values_and_counts(
        self,
        *,
        collection: str | None = None,
        body_part_examined: str | None = None,
    ) -> Result[list[models.ModalityCount]]:
        """Count patients per modality.

        Number of patients with public series of each modality, in all or in one collection or body part. Always
        JSON; `format` is not a parameter here and is refused by the service.

        Args:
            collection: Name of a collection as getCollectionValues lists it, in any case; no wildcards.
            body_part_examined: Body part as getBodyPartValues lists it, in any case.
        """
        return await self._call(
            "getModalityValuesAndCounts",
            {"Collection": collection, "BodyPartExamined": body_part_examined},
            _GET_MODALITY_VALUES_AND_COUNTS,
        )

    async def get_body_part_values_and_counts(
        self,
        *,
        collection: str | None = None,
        modality: str | None = None,
    ) -> Result[list[models.BodyPartCount]]:
        """Count patients per body part.

        Number of patients with public series of each body part, in all or in one collection or modality. The
        key is `BodyPart`, not `BodyPartExamined`. Always JSON; `format` is not a parameter here and is refused
        by the service.

        Args:
            collection: Name of a collection as getCollectionValues lists it, in any case; no wildcards.
            modality: DICOM modality as getModalityValues lists it, in any case.
        """
        return await self._call(
            "getBodyPartValuesAndCounts",
            {"Collection": collection, "Modality": modality},
            _GET_BODY_PART_VALUES_AND_COUNTS,
        )

    async def get_manufacturer_values_and_counts(
        self,
        *,
        collection: str | None = None,
        modality: str | None = None,
        body_part_examined: str | None = None,
    ) -> Result[list[models.ManufacturerCount]]:
        """Count patients per manufacturer.

        Number of patients with public series from each manufacturer, in all or in one collection, modality or
        body part. Always JSON; `format` is not a parameter here and is refused by the service.

        Args:
            collection: Name of a collection as getCollectionValues lists it, in any case; no wildcards.
            modality: DICOM modality as getModalityValues lists it, in any case.
            body_part_examined: Body part as getBodyPartValues lists it, in any case.
        """
        return await self._call(
            "getManufacturerValuesAndCounts",
            {"Collection": collection, "Modality": modality, "BodyPartExamined": body_part_examined},
            _GET_MANUFACTURER_VALUES_AND_COUNTS,
        )

    async def get_collection_descriptions(
        self,
        *,
        collection_name: str | None = None,
    ) -> Result[list[models.CollectionDescription]]:
        """Describe collections.

        Title text and DOI of one or of all collections. The text is HTML. An unknown collection is an empty
        list, written out as `[]`. Always JSON; `format` is not a parameter here and is refused by the service.

        Args:
            collection_name: Name of one collection. Without it every description is sent. Spelled
                `collectionName` here only.
        """
        return await self._call(
            "getCollectionDescriptions",
            {"collectionName": collection_name},
            _GET_COLLECTION_DESCRIPTIONS,
        )

    async def get_patient(
        self,
        *,
        collection: str | None = None,
        patient_id: str | None = None,
        format: Literal['JSON', 'HTML', 'XML', 'CSV', 'CSVQUOTED', 'CSV-DOWNLOAD'] | None = None,
    ) -> Result[list[models.Patient] | str]:
        """Search patients.

        Patients with public series: all of them, those of one collection, or one patient. A patient of two
        collections has two rows. Without a filter the answer is the whole archive: give one.

        Args:
            collection: Name of a collection as getCollectionValues lists it, in any case; no wildcards.
            patient_id: Patient id, matched exactly with upper and lower case. Spelled `PatientId` in this
                operation only.
            format: Form of the answer. Leave it out for typed rows. CSV and CSVQUOTED are the same; CSV-
                DOWNLOAD is the same again with a file name (Content-Disposition).
        """
        return await self._call(
            "getPatient",
            {"Collection": collection, "PatientId": patient_id, "format": format},
            _GET_PATIENT,
        )

    async def get_patient_by_collection_and_modality(
        self,
        *,
        collection: str,
        modality: str,
        format: Literal['JSON', 'HTML', 'XML', 'CSV', 'CSVQUOTED', 'CSV-DOWNLOAD'] | None = None,
    ) -> Result[list[models.PatientReference] | str]:
        """Find patients by collection and modality.

        Ids of the patients of one collection who have series of one modality. Both parameters are required.

        Args:
            collection: Name of a collection as getCollectionValues lists it, in any case; no wildcards.
            modality: DICOM modality as getModalityValues lists it, in any case.
            format: Form of the answer. Leave it out for typed rows. CSV and CSVQUOTED are the same; CSV-
                DOWNLOAD is the same again with a file name (Content-Disposition).
        """
        return await self._call(
            "getPatientByCollectionAndModality",
            {"Collection": collection, "Modality": modality, "format": format},
            _GET_PATIENT_BY_COLLECTION_AND_MODALITY,
        )

    async def get_patient_study(
        self,
        *,
        collection: str | None = None,
        patient_id: str | None = None,
        study_instance_uid: str | None = None,
        format: Literal['JSON', 'HTML', 'XML', 'CSV', 'CSVQUOTED', 'CSV-DOWNLOAD'] | None = None,
    ) -> Result[list[models.PatientStudy] | str]:
        """Search studies.

        Studies with public series, each with its patient: filter by collection, patient or study. Note
        `PatientID`, against `PatientId` in getPatient. Without a filter the answer is the whole archive: give
        one.

        Args:
            collection: Name of a collection as getCollectionValues lists it, in any case; no wildcards.
            patient_id: Patient id, in any case. Spelled `PatientID` here and `PatientId` in getPatient.
            study_instance_uid: Unique id of a study.
            format: Form of the answer. Leave it out for typed rows. CSV and CSVQUOTED are the same; CSV-
                DOWNLOAD is the same again with a file name (Content-Disposition).
        """
        return await self._call(
            "getPatientStudy",
            {"Collection": collection, "PatientID": patient_id, "StudyInstanceUID": study_instance_uid, "format": format},
            _GET_PATIENT_STUDY,
        )

    async def get_series(
        self,
        *,
        collection: str | None = None,
        patient_id: str | None = None,
        study_instance_uid: str | None = None,
        series_instance_uid: str | None = None,
        modality: str | None = None,
        body_part_examined: str | None = None,
        manufacturer: str | None = None,
        manufacturer_model_name: str | None = None,
        format: Literal['JSON', 'HTML', 'XML', 'CSV', 'CSVQUOTED', 'CSV-DOWNLOAD'] | None = None,
    ) -> Result[list[models.Series] | str]:
        """Search series.

        Public series with their study, equipment, size and licence; every filter narrows the result. The first
        step of every download: take SeriesInstanceUID from here, and FileSize and ImageCount to know what
        comes. Without a filter the answer is hundreds of megabytes: give one.

        Args:
            collection: Name of a collection as getCollectionValues lists it, in any case; no wildcards.
            patient_id: Patient id, in any case. Spelled `PatientID` here and `PatientId` in getPatient.
            study_instance_uid: Unique id of a study.
            series_instance_uid: Unique id of a series.
            modality: DICOM modality as getModalityValues lists it, in any case.
            body_part_examined: Body part as getBodyPartValues lists it, in any case.
            manufacturer: Manufacturer as getManufacturerValues lists it, in any case.
            manufacturer_model_name: Model of the equipment as series rows name it, in any case.
            format: Form of the answer. Leave it out for typed rows. CSV and CSVQUOTED are the same; CSV-
                DOWNLOAD is the same again with a file name (Content-Disposition).
        """
        return await self._call(
            "getSeries",
            {"Collection": collection, "PatientID": patient_id, "StudyInstanceUID": study_instance_uid, "SeriesInstanceUID": series_instance_uid, "Modality": modality, "BodyPartExamined": body_part_examined, "Manufacturer": manufacturer, "ManufacturerModelName": manufacturer_model_name, "format": format},
            _GET_SERIES,
        )

    async def get_updated_series(
        self,
        *,
        from_date: str | None = None,
        format: Literal['JSON', 'HTML', 'XML', 'CSV', 'CSVQUOTED', 'CSV-DOWNLOAD'] | None = None,
    ) -> Result[list[models.Series] | str]:
        """List series released since a day.

        Public series released after a day, with the rows of getSeries. `fromDate` compares with DateReleased,
        not with the day of submission. Without it the answer is the whole archive.

        Args:
            from_date: Day, MM-DD-YYYY. Series released after this day are listed (the day itself is not).
                Without it the service takes 01-01-1900 and answers with the whole archive. v1 and v2 write the
                same parameter DD/MM/YYYY.
            format: Form of the answer. Leave it out for typed rows. CSV and CSVQUOTED are the same; CSV-
                DOWNLOAD is the same again with a file name (Content-Disposition).
        """
        return await self._call(
            "getUpdatedSeries",
            {"fromDate": from_date, "format": format},
            _GET_UPDATED_SERIES,
        )

    async def get_series_size(
        self,
        *,
        series_instance_uid: str,
        format: Literal['JSON', 'HTML', 'XML', 'CSV', 'CSVQUOTED', 'CSV-DOWNLOAD'] | None = None,
    ) -> Result[list[models.SeriesSize] | str]:
        """Get the size of a series.

        Bytes and number of images of one series, as a list of one row. Slow; getSeries has the same numbers. An
        unknown series is an empty list.

        Args:
            series_instance_uid: Unique id of the series.
            format: Form of the answer. Leave it out for typed rows. CSV and CSVQUOTED are the same; CSV-
                DOWNLOAD is the same again with a file name (Content-Disposition).
        """
        return await self._call(
            "getSeriesSize",
            {"SeriesInstanceUID": series_instance_uid, "format": format},
            _GET_SERIES_SIZE,
        )

    async def get_series_metadata(
        self,
        *,
        list: Sequence[str],
        format: Literal['JSON', 'HTML', 'XML', 'CSV', 'CSVQUOTED', 'CSV-DOWNLOAD'] | None = None,
    ) -> Result[list[models.SeriesMetadata] | str]:
        """Get metadata of listed series.

        Patient, study, equipment, pixel spacing and licence of the series whose ids are posted. The order of
        the rows is not that of the ids, and unknown ids are left out. The answer is CSV unless the form asks
        for JSON. Two column names are no XML names, so the XML form is malformed.

        Args:
            list: Unique ids of the series. Sent joined with commas in one field; the service drops every
                character that is not a digit, dot or comma. Clients post up to 10,000 ids at a time.
            format: Form of the answer. The default here is CSV, not JSON: ask for JSON to get typed rows.
        """
        return await self._call(
            "getSeriesMetadata",
            {"list": list, "format": format},
            _GET_SERIES_METADATA,
        )

    async def get_sop_instance_uids(
        self,
        *,
        series_instance_uid: str,
        format: Literal['JSON', 'HTML', 'XML', 'CSV'] | None = None,
    ) -> Result[list[models.SopInstance] | str]:
        """List the images of a series.

        Ids of all images of one series, for getSingleImage. An unknown series is an empty list.

        Args:
            series_instance_uid: Unique id of the series.
            format: Form of the answer. Leave it out for typed rows. Lists of one column know no quoted CSV.
        """
        return await self._call(
            "getSOPInstanceUIDs",
            {"SeriesInstanceUID": series_instance_uid, "format": format},
            _GET_SOP_INSTANCE_UIDS,
        )

    async def get_dicom_tags(
        self,
        *,
        series_uid: str,
    ) -> Result[list[models.DicomTag]]:
        """Print the DICOM header of a series.

        DICOM elements of the first image of a series, up to the pixel data, file meta information first. A
        sequence is a start row, its items with `>` in front, and a closing row. Always JSON; `format` is not a
        parameter here and is refused by the service. Empty when the file is gone from the archive's disk.

        Args:
            series_uid: Unique id of the series. Spelled `SeriesUID` in this operation only.
        """
        return await self._call(
            "getDicomTags",
            {"SeriesUID": series_uid},
            _GET_DICOM_TAGS,
        )

    async def get_image(
        self,
        *,
        series_instance_uid: str,
        new_file_names: Literal['Yes', 'No'] | None = None,
        include_md5: Literal['Yes', 'No'] | None = None,
        save_to: Path | None = None,
        progress: Progress | None = None,
    ) -> Result[bytes | None]:
        """Download a series as ZIP.

        All DICOM files of one series and the LICENSE in one ZIP, streamed without length and without resume:
        for an interrupted download start again. When a file is missing on the archive's disk the ZIP ends early
        but is valid, so compare the number of `.dcm` members with ImageCount of getSeries. Member times are
        those of the request, so two downloads differ in bytes although the files are equal; use IncludeMD5 to
        check files.

        Args:
            series_instance_uid: Unique id of the series.
            new_file_names: Yes names the members after their place in the series (acquisition group, then
                number padded with zeros to the width of the count, such as 1-001.dcm) and puts them in that
                order. Otherwise they are numbered 00000001.dcm and on, in the order of the archive's database.
            include_md5: Yes adds `md5hashes.csv` as last member: the line `Filename,MD5Hash`, then one unquoted
                line per file in no particular order. v4 only.
        """
        return await self._call(
            "getImage",
            {"SeriesInstanceUID": series_instance_uid, "NewFileNames": new_file_names, "IncludeMD5": include_md5},
            _GET_IMAGE,
            save_to=save_to,
            progress=progress,
        )

    async def get_single_image(
        self,
        *,
        series_instance_uid: str,
        sop_instance_uid: str,
        save_to: Path | None = None,
        progress: Progress | None = None,
    ) -> Result[bytes | None]:
        """Download one image.

        One DICOM file of a series. An unknown image is a 500.

        Args:
            series_instance_uid: Unique id of the series.
            sop_instance_uid: Unique id of the image, as getSOPInstanceUIDs lists it.
        """
        return await self._call(
            "getSingleImage",
            {"SeriesInstanceUID": series_instance_uid, "SOPInstanceUID": sop_instance_uid},
            _GET_SINGLE_IMAGE,
            save_to=save_to,
            progress=progress,
        )

    async def get_contents_by_name(
        self,
        *,
        name: str,
    ) -> Result[list[models.SharedListSeries]]:
        """List the series of a shared list.

        Series of a named list: a curated one, or a cart saved in the web portal. v4 has no such operation, so
        this one is sent to v1: dates are timestamps, there is no `Authorized`, the release date has the key
        `Date Released` with a space, and unknown parameters are ignored. Always JSON. An unknown name is an
        empty list.

        Args:
            name: Name of a shared list: a curated one such as `TCIA_TCGA-PRAD_08-09-2016-v3`, or a cart of the
                web portal such as `nbia-49121659384603347`.
        """
        return await self._call(
            "getContentsByName",
            {"name": name},
            _GET_CONTENTS_BY_NAME,
        )


class TciaSyncClient(SyncApi):
    """The Cancer Imaging Archive (NBIA v4).

    Blocking; a context manager. Every call is checked against the contract, both ways.
    """

    contract = staticmethod(load)

    def get_collection_values(
        self,
        *,
        format: Literal['JSON', 'HTML', 'XML', 'CSV'] | None = None,
    ) -> Result[list[models.CollectionValue] | str]:
        """List collections.

        Names of all collections that have public series, sorted without regard to case. Use the names, spelled
        exactly so, as `Collection` in every other operation.

        Args:
            format: Form of the answer. Leave it out for typed rows. Lists of one column know no quoted CSV.
        """
        return self._call(
            "getCollectionValues",
            {"format": format},
            _GET_COLLECTION_VALUES,
        )

    def get_modality_values(
        self,
        *,
        collection: str | None = None,
        body_part_examined: str | None = None,
        format: Literal['JSON', 'HTML', 'XML', 'CSV'] | None = None,
    ) -> Result[list[models.ModalityValue] | str]:
        """List modalities.

        Modalities of the public series, sorted; all of them, or those of one collection or body part. An empty
        object stands for series without a modality.

        Args:
            collection: Name of a collection as getCollectionValues lists it, in any case; no wildcards.
            body_part_examined: Body part as getBodyPartValues lists it, in any case.
            format: Form of the answer. Leave it out for typed rows. Lists of one column know no quoted CSV.
        """
        return self._call(
            "getModalityValues",
            {"Collection": collection, "BodyPartExamined": body_part_examined, "format": format},
            _GET_MODALITY_VALUES,
        )

    def get_body_part_values(
        self,
        *,
        collection: str | None = None,
        modality: str | None = None,
        format: Literal['JSON', 'HTML', 'XML', 'CSV'] | None = None,
    ) -> Result[list[models.BodyPartValue] | str]:
        """List body parts.

        Body parts of the public series in upper case, sorted; all of them, or those of one collection or
        modality. The list starts with an empty object when some series name no body part. Spellings are as
        submitted, so one part may have several names.

        Args:
            collection: Name of a collection as getCollectionValues lists it, in any case; no wildcards.
            modality: DICOM modality as getModalityValues lists it, in any case.
            format: Form of the answer. Leave it out for typed rows. Lists of one column know no quoted CSV.
        """
        return self._call(
            "getBodyPartValues",
            {"Collection": collection, "Modality": modality, "format": format},
            _GET_BODY_PART_VALUES,
        )

    def get_manufacturer_values(
        self,
        *,
        collection: str | None = None,
        modality: str | None = None,
        body_part_examined: str | None = None,
        format: Literal['JSON', 'HTML', 'XML', 'CSV'] | None = None,
    ) -> Result[list[models.ManufacturerValue] | str]:
        """List manufacturers.

        Manufacturers of the equipment of the public series in upper case, sorted; all of them, or those of one
        collection, modality or body part. The list starts with an empty object when some series name none.

        Args:
            collection: Name of a collection as getCollectionValues lists it, in any case; no wildcards.
            modality: DICOM modality as getModalityValues lists it, in any case.
            body_part_examined: Body part as getBodyPartValues lists it, in any case.
            format: Form of the answer. Leave it out for typed rows. Lists of one column know no quoted CSV.
        """
        return self._call(
            "getManufacturerValues",
            {"Collection": collection, "Modality": modality, "BodyPartExamined": body_part_examined, "format": format},
            _GET_MANUFACTURER_VALUES,
        )

    def get_collection_values_and_counts(
        self,

    ) -> Result[list[models.CollectionCount]]:
        """Count patients per collection.

        Number of patients of every public collection. Takes no parameter; the service ignores any.
        """
        return self._call(
            "getCollectionValuesAndCounts",
            {},
            _GET_COLLECTION_VALUES_AND_COUNTS,
        )

    def get_modality_values_and_counts(
        self,
        *,
        collection: str | None = None,
        body_part_examined: str | None = None,
    ) -> Result[list[models.ModalityCount]]:
        """Count patients per modality.

        Number of patients with public series of each modality, in all or in one collection or body part. Always
        JSON; `format` is not a parameter here and is refused by the service.

        Args:
            collection: Name of a collection as getCollectionValues lists it, in any case; no wildcards.
            body_part_examined: Body part as getBodyPartValues lists it, in any case.
        """
        return self._call(
            "getModalityValuesAndCounts",
            {"Collection": collection, "BodyPartExamined": body_part_examined},
            _GET_MODALITY_VALUES_AND_COUNTS,
        )

    def get_body_part_values_and_counts(
        self,
        *,
        collection: str | None = None,
        modality: str | None = None,
    ) -> Result[list[models.BodyPartCount]]:
        """Count patients per body part.

        Number of patients with public series of each body part, in all or in one collection or modality. The
        key is `BodyPart`, not `BodyPartExamined`. Always JSON; `format` is not a parameter here and is refused
        by the service.

        Args:
            collection: Name of a collection as getCollectionValues lists it, in any case; no wildcards.
            modality: DICOM modality as getModalityValues lists it, in any case.
        """
        return self._call(
            "getBodyPartValuesAndCounts",
            {"Collection": collection, "Modality": modality},
            _GET_BODY_PART_VALUES_AND_COUNTS,
        )

    def get_manufacturer_values_and_counts(
        self,
        *,
        collection: str | None = None,
        modality: str | None = None,
        body_part_examined: str | None = None,
    ) -> Result[list[models.ManufacturerCount]]:
        """Count patients per manufacturer.

        Number of patients with public series from each manufacturer, in all or in one collection, modality or
        body part. Always JSON; `format` is not a parameter here and is refused by the service.

        Args:
            collection: Name of a collection as getCollectionValues lists it, in any case; no wildcards.
            modality: DICOM modality as getModalityValues lists it, in any case.
            body_part_examined: Body part as getBodyPartValues lists it, in any case.
        """
        return self._call(
            "getManufacturerValuesAndCounts",
            {"Collection": collection, "Modality": modality, "BodyPartExamined": body_part_examined},
            _GET_MANUFACTURER_VALUES_AND_COUNTS,
        )

    def get_collection_descriptions(
        self,
        *,
        collection_name: str | None = None,
    ) -> Result[list[models.CollectionDescription]]:
        """Describe collections.

        Title text and DOI of one or of all collections. The text is HTML. An unknown collection is an empty
        list, written out as `[]`. Always JSON; `format` is not a parameter here and is refused by the service.

        Args:
            collection_name: Name of one collection. Without it every description is sent. Spelled
                `collectionName` here only.
        """
        return self._call(
            "getCollectionDescriptions",
            {"collectionName": collection_name},
            _GET_COLLECTION_DESCRIPTIONS,
        )

    def get_patient(
        self,
        *,
        collection: str | None = None,
        patient_id: str | None = None,
        format: Literal['JSON', 'HTML', 'XML', 'CSV', 'CSVQUOTED', 'CSV-DOWNLOAD'] | None = None,
    ) -> Result[list[models.Patient] | str]:
        """Search patients.

        Patients with public series: all of them, those of one collection, or one patient. A patient of two
        collections has two rows. Without a filter the answer is the whole archive: give one.

        Args:
            collection: Name of a collection as getCollectionValues lists it, in any case; no wildcards.
            patient_id: Patient id, matched exactly with upper and lower case. Spelled `PatientId` in this
                operation only.
            format: Form of the answer. Leave it out for typed rows. CSV and CSVQUOTED are the same; CSV-
                DOWNLOAD is the same again with a file name (Content-Disposition).
        """
        return self._call(
            "getPatient",
            {"Collection": collection, "PatientId": patient_id, "format": format},
            _GET_PATIENT,
        )

    def get_patient_by_collection_and_modality(
        self,
        *,
        collection: str,
        modality: str,
        format: Literal['JSON', 'HTML', 'XML', 'CSV', 'CSVQUOTED', 'CSV-DOWNLOAD'] | None = None,
    ) -> Result[list[models.PatientReference] | str]:
        """Find patients by collection and modality.

        Ids of the patients of one collection who have series of one modality. Both parameters are required.

        Args:
            collection: Name of a collection as getCollectionValues lists it, in any case; no wildcards.
            modality: DICOM modality as getModalityValues lists it, in any case.
            format: Form of the answer. Leave it out for typed rows. CSV and CSVQUOTED are the same; CSV-
                DOWNLOAD is the same again with a file name (Content-Disposition).
        """
        return self._call(
            "getPatientByCollectionAndModality",
            {"Collection": collection, "Modality": modality, "format": format},
            _GET_PATIENT_BY_COLLECTION_AND_MODALITY,
        )

    def get_patient_study(
        self,
        *,
        collection: str | None = None,
        patient_id: str | None = None,
        study_instance_uid: str | None = None,
        format: Literal['JSON', 'HTML', 'XML', 'CSV', 'CSVQUOTED', 'CSV-DOWNLOAD'] | None = None,
    ) -> Result[list[models.PatientStudy] | str]:
        """Search studies.

        Studies with public series, each with its patient: filter by collection, patient or study. Note
        `PatientID`, against `PatientId` in getPatient. Without a filter the answer is the whole archive: give
        one.

        Args:
            collection: Name of a collection as getCollectionValues lists it, in any case; no wildcards.
            patient_id: Patient id, in any case. Spelled `PatientID` here and `PatientId` in getPatient.
            study_instance_uid: Unique id of a study.
            format: Form of the answer. Leave it out for typed rows. CSV and CSVQUOTED are the same; CSV-
                DOWNLOAD is the same again with a file name (Content-Disposition).
        """
        return self._call(
            "getPatientStudy",
            {"Collection": collection, "PatientID": patient_id, "StudyInstanceUID": study_instance_uid, "format": format},
            _GET_PATIENT_STUDY,
        )

    def get_series(
        self,
        *,
        collection: str | None = None,
        patient_id: str | None = None,
        study_instance_uid: str | None = None,
        series_instance_uid: str | None = None,
        modality: str | None = None,
        body_part_examined: str | None = None,
        manufacturer: str | None = None,
        manufacturer_model_name: str | None = None,
        format: Literal['JSON', 'HTML', 'XML', 'CSV', 'CSVQUOTED', 'CSV-DOWNLOAD'] | None = None,
    ) -> Result[list[models.Series] | str]:
        """Search series.

        Public series with their study, equipment, size and licence; every filter narrows the result. The first
        step of every download: take SeriesInstanceUID from here, and FileSize and ImageCount to know what
        comes. Without a filter the answer is hundreds of megabytes: give one.

        Args:
            collection: Name of a collection as getCollectionValues lists it, in any case; no wildcards.
            patient_id: Patient id, in any case. Spelled `PatientID` here and `PatientId` in getPatient.
            study_instance_uid: Unique id of a study.
            series_instance_uid: Unique id of a series.
            modality: DICOM modality as getModalityValues lists it, in any case.
            body_part_examined: Body part as getBodyPartValues lists it, in any case.
            manufacturer: Manufacturer as getManufacturerValues lists it, in any case.
            manufacturer_model_name: Model of the equipment as series rows name it, in any case.
            format: Form of the answer. Leave it out for typed rows. CSV and CSVQUOTED are the same; CSV-
                DOWNLOAD is the same again with a file name (Content-Disposition).
        """
        return self._call(
            "getSeries",
            {"Collection": collection, "PatientID": patient_id, "StudyInstanceUID": study_instance_uid, "SeriesInstanceUID": series_instance_uid, "Modality": modality, "BodyPartExamined": body_part_examined, "Manufacturer": manufacturer, "ManufacturerModelName": manufacturer_model_name, "format": format},
            _GET_SERIES,
        )

    def get_updated_series(
        self,
        *,
        from_date: str | None = None,
        format: Literal['JSON', 'HTML', 'XML', 'CSV', 'CSVQUOTED', 'CSV-DOWNLOAD'] | None = None,
    ) -> Result[list[models.Series] | str]:
        """List series released since a day.

        Public series released after a day, with the rows of getSeries. `fromDate` compares with DateReleased,
        not with the day of submission. Without it the answer is the whole archive.

        Args:
            from_date: Day, MM-DD-YYYY. Series released after this day are listed (the day itself is not).
                Without it the service takes 01-01-1900 and answers with the whole archive. v1 and v2 write the
                same parameter DD/MM/YYYY.
            format: Form of the answer. Leave it out for typed rows. CSV and CSVQUOTED are the same; CSV-
                DOWNLOAD is the same again with a file name (Content-Disposition).
        """
        return self._call(
            "getUpdatedSeries",
            {"fromDate": from_date, "format": format},
            _GET_UPDATED_SERIES,
        )

    def get_series_size(
        self,
        *,
        series_instance_uid: str,
        format: Literal['JSON', 'HTML', 'XML', 'CSV', 'CSVQUOTED', 'CSV-DOWNLOAD'] | None = None,
    ) -> Result[list[models.SeriesSize] | str]:
        """Get the size of a series.

        Bytes and number of images of one series, as a list of one row. Slow; getSeries has the same numbers. An
        unknown series is an empty list.

        Args:
            series_instance_uid: Unique id of the series.
            format: Form of the answer. Leave it out for typed rows. CSV and CSVQUOTED are the same; CSV-
                DOWNLOAD is the same again with a file name (Content-Disposition).
        """
        return self._call(
            "getSeriesSize",
            {"SeriesInstanceUID": series_instance_uid, "format": format},
            _GET_SERIES_SIZE,
        )

    def get_series_metadata(
        self,
        *,
        list: Sequence[str],
        format: Literal['JSON', 'HTML', 'XML', 'CSV', 'CSVQUOTED', 'CSV-DOWNLOAD'] | None = None,
    ) -> Result[list[models.SeriesMetadata] | str]:
        """Get metadata of listed series.

        Patient, study, equipment, pixel spacing and licence of the series whose ids are posted. The order of
        the rows is not that of the ids, and unknown ids are left out. The answer is CSV unless the form asks
        for JSON. Two column names are no XML names, so the XML form is malformed.

        Args:
            list: Unique ids of the series. Sent joined with commas in one field; the service drops every
                character that is not a digit, dot or comma. Clients post up to 10,000 ids at a time.
            format: Form of the answer. The default here is CSV, not JSON: ask for JSON to get typed rows.
        """
        return self._call(
            "getSeriesMetadata",
            {"list": list, "format": format},
            _GET_SERIES_METADATA,
        )

    def get_sop_instance_uids(
        self,
        *,
        series_instance_uid: str,
        format: Literal['JSON', 'HTML', 'XML', 'CSV'] | None = None,
    ) -> Result[list[models.SopInstance] | str]:
        """List the images of a series.

        Ids of all images of one series, for getSingleImage. An unknown series is an empty list.

        Args:
            series_instance_uid: Unique id of the series.
            format: Form of the answer. Leave it out for typed rows. Lists of one column know no quoted CSV.
        """
        return self._call(
            "getSOPInstanceUIDs",
            {"SeriesInstanceUID": series_instance_uid, "format": format},
            _GET_SOP_INSTANCE_UIDS,
        )

    def get_dicom_tags(
        self,
        *,
        series_uid: str,
    ) -> Result[list[models.DicomTag]]:
        """Print the DICOM header of a series.

        DICOM elements of the first image of a series, up to the pixel data, file meta information first. A
        sequence is a start row, its items with `>` in front, and a closing row. Always JSON; `format` is not a
        parameter here and is refused by the service. Empty when the file is gone from the archive's disk.

        Args:
            series_uid: Unique id of the series. Spelled `SeriesUID` in this operation only.
        """
        return self._call(
            "getDicomTags",
            {"SeriesUID": series_uid},
            _GET_DICOM_TAGS,
        )

    def get_image(
        self,
        *,
        series_instance_uid: str,
        new_file_names: Literal['Yes', 'No'] | None = None,
        include_md5: Literal['Yes', 'No'] | None = None,
        save_to: Path | None = None,
        progress: Progress | None = None,
    ) -> Result[bytes | None]:
        """Download a series as ZIP.

        All DICOM files of one series and the LICENSE in one ZIP, streamed without length and without resume:
        for an interrupted download start again. When a file is missing on the archive's disk the ZIP ends early
        but is valid, so compare the number of `.dcm` members with ImageCount of getSeries. Member times are
        those of the request, so two downloads differ in bytes although the files are equal; use IncludeMD5 to
        check files.

        Args:
            series_instance_uid: Unique id of the series.
            new_file_names: Yes names the members after their place in the series (acquisition group, then
                number padded with zeros to the width of the count, such as 1-001.dcm) and puts them in that
                order. Otherwise they are numbered 00000001.dcm and on, in the order of the archive's database.
            include_md5: Yes adds `md5hashes.csv` as last member: the line `Filename,MD5Hash`, then one unquoted
                line per file in no particular order. v4 only.
        """
        return self._call(
            "getImage",
            {"SeriesInstanceUID": series_instance_uid, "NewFileNames": new_file_names, "IncludeMD5": include_md5},
            _GET_IMAGE,
            save_to=save_to,
            progress=progress,
        )

    def get_single_image(
        self,
        *,
        series_instance_uid: str,
        sop_instance_uid: str,
        save_to: Path | None = None,
        progress: Progress | None = None,
    ) -> Result[bytes | None]:
        """Download one image.

        One DICOM file of a series. An unknown image is a 500.

        Args:
            series_instance_uid: Unique id of the series.
            sop_instance_uid: Unique id of the image, as getSOPInstanceUIDs lists it.
        """
        return self._call(
            "getSingleImage",
            {"SeriesInstanceUID": series_instance_uid, "SOPInstanceUID": sop_instance_uid},
            _GET_SINGLE_IMAGE,
            save_to=save_to,
            progress=progress,
        )

    def get_contents_by_name(
        self,
        *,
        name: str,
    ) -> Result[list[models.SharedListSeries]]:
        """List the series of a shared list.

        Series of a named list: a curated one, or a cart saved in the web portal. v4 has no such operation, so
        this one is sent to v1: dates are timestamps, there is no `Authorized`, the release date has the key
        `Date Released` with a space, and unknown parameters are ignored. Always JSON. An unknown name is an
        empty list.

        Args:
            name: Name of a shared list: a curated one such as `TCIA_TCGA-PRAD_08-09-2016-v3`, or a cart of the
                web portal such as `nbia-49121659384603347`.
        """
        return self._call(
            "getContentsByName",
            {"name": name},
            _GET_CONTENTS_BY_NAME,
        )
