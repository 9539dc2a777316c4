"""TCIA REST gateway: a typed client, asynchronous and blocking.

Generated from openapi/tcia-gateway.yaml by `isocenter generate`. Do not edit: change the specification and generate again.
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

__all__ = ["TciaGatewayClient", "TciaGatewaySyncClient"]

_GET_COLLECTION_VALUES: Shape[list[models.CollectionValue] | str] = Shape(lambda: list[models.CollectionValue] | str)
_GET_MODALITY_VALUES: Shape[list[models.ModalityValue] | str] = Shape(lambda: list[models.ModalityValue] | str)
_GET_BODY_PART_VALUES: Shape[list[models.BodyPartValue] | str] = Shape(lambda: list[models.BodyPartValue] | str)
_GET_MANUFACTURER_VALUES: Shape[list[models.ManufacturerValue] | str] = Shape(lambda: list[models.ManufacturerValue] | str)
_GET_PATIENT: Shape[list[models.Patient] | str] = Shape(lambda: list[models.Patient] | str)
_GET_PATIENT_STUDY: Shape[list[models.PatientStudy] | str] = Shape(lambda: list[models.PatientStudy] | str)
_GET_SERIES: Shape[list[models.Series] | str] = Shape(lambda: list[models.Series] | str)
_GET_SERIES_SIZE: Shape[list[models.SeriesSize] | str] = Shape(lambda: list[models.SeriesSize] | str)
_GET_IMAGE: Shape[bytes | None] = Shape(lambda: bytes | None)
_GET_CONTENTS_BY_NAME: Shape[list[models.SharedListItem]] = Shape(lambda: list[models.SharedListItem])


class TciaGatewayClient(AsyncApi):
    """TCIA REST gateway.

    Asynchronous; a context manager. Every call is checked against the contract, both ways.
    """

    contract = staticmethod(load)

    async def get_collection_values(
        self,
        *,
        format: Literal['JSON', 'CSV', 'HTML', 'XML'] | None = None,
    ) -> Result[list[models.CollectionValue] | str]:
        """List collections.

        Answers the names of all collections. Start here; the other queries need the exact spelling.

        Args:
            format: Form of the answer. Without it, and with a value the gateway does not know, the answer is
                JSON.
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
        modality: str | None = None,
        format: Literal['JSON', 'CSV', 'HTML', 'XML'] | None = None,
    ) -> Result[list[models.ModalityValue] | str]:
        """List modalities.

        Answers the modalities (CT, MR and so on) of the archive, narrowed to a collection or a body part if
        given. A leading row without keys means that some series have no modality.

        Args:
            collection: Name of a collection, exactly as getCollectionValues lists it.
            body_part_examined: Examined body part, exactly as getBodyPartValues lists it.
            modality: Modality. It hardly makes sense here.
            format: Form of the answer. Without it, and with a value the gateway does not know, the answer is
                JSON.
        """
        return await self._call(
            "getModalityValues",
            {"Collection": collection, "BodyPartExamined": body_part_examined, "Modality": modality, "format": format},
            _GET_MODALITY_VALUES,
        )

    async def get_body_part_values(
        self,
        *,
        collection: str | None = None,
        body_part_examined: str | None = None,
        modality: str | None = None,
        format: Literal['JSON', 'CSV', 'HTML', 'XML'] | None = None,
    ) -> Result[list[models.BodyPartValue] | str]:
        """List body parts.

        Answers the examined body parts of the archive, narrowed to a collection or a modality if given. A
        leading row without keys means that some series have no body part.

        Args:
            collection: Name of a collection, exactly as getCollectionValues lists it.
            body_part_examined: Body part. It hardly makes sense here.
            modality: Modality, exactly as getModalityValues lists it.
            format: Form of the answer. Without it, and with a value the gateway does not know, the answer is
                JSON.
        """
        return await self._call(
            "getBodyPartValues",
            {"Collection": collection, "BodyPartExamined": body_part_examined, "Modality": modality, "format": format},
            _GET_BODY_PART_VALUES,
        )

    async def get_manufacturer_values(
        self,
        *,
        collection: str | None = None,
        modality: str | None = None,
        body_part_examined: str | None = None,
        format: Literal['JSON', 'CSV', 'HTML', 'XML'] | None = None,
    ) -> Result[list[models.ManufacturerValue] | str]:
        """List manufacturers.

        Answers the makers of the scanners as the files spell them, narrowed to a collection, a modality or a
        body part if given. A leading row without keys means that some series have no manufacturer.

        Args:
            collection: Name of a collection, exactly as getCollectionValues lists it.
            modality: Modality, exactly as getModalityValues lists it.
            body_part_examined: Examined body part, exactly as getBodyPartValues lists it.
            format: Form of the answer. Without it, and with a value the gateway does not know, the answer is
                JSON.
        """
        return await self._call(
            "getManufacturerValues",
            {"Collection": collection, "Modality": modality, "BodyPartExamined": body_part_examined, "format": format},
            _GET_MANUFACTURER_VALUES,
        )

    async def get_patient(
        self,
        *,
        collection: str | None = None,
        format: Literal['JSON', 'CSV', 'HTML', 'XML'] | None = None,
    ) -> Result[list[models.Patient] | str]:
        """List patients.

        Answers the patients of a collection, or all of the archive. A patient of two collections has two rows.

        Args:
            collection: Name of a collection, exactly as getCollectionValues lists it.
            format: Form of the answer. Without it, and with a value the gateway does not know, the answer is
                JSON.
        """
        return await self._call(
            "getPatient",
            {"Collection": collection, "format": format},
            _GET_PATIENT,
        )

    async def get_patient_study(
        self,
        *,
        collection: str | None = None,
        patient_id: str | None = None,
        study_instance_uid: str | None = None,
        format: Literal['JSON', 'CSV', 'HTML', 'XML'] | None = None,
    ) -> Result[list[models.PatientStudy] | str]:
        """List studies.

        Answers the studies of a collection or a patient, or one study by its UID.

        Args:
            collection: Name of a collection, exactly as getCollectionValues lists it.
            patient_id: Identifier of a patient, exactly as getPatient lists it.
            study_instance_uid: UID of one study.
            format: Form of the answer. Without it, and with a value the gateway does not know, the answer is
                JSON.
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
        study_instance_uid: str | None = None,
        patient_id: str | None = None,
        series_instance_uid: str | None = None,
        modality: str | None = None,
        format: Literal['JSON', 'CSV', 'HTML', 'XML'] | None = None,
    ) -> Result[list[models.Series] | str]:
        """List series.

        Answers the series of a collection, patient or study, or one series by its UID. Always give at least one
        of them: without any the answer holds every series of the archive.

        Args:
            collection: Name of a collection, exactly as getCollectionValues lists it.
            study_instance_uid: UID of one study.
            patient_id: Identifier of a patient, exactly as getPatient lists it.
            series_instance_uid: UID of one series.
            modality: Modality of the series, exactly as listed by getModalityValues.
            format: Form of the answer. Without it, and with a value the gateway does not know, the answer is
                JSON.
        """
        return await self._call(
            "getSeries",
            {"Collection": collection, "StudyInstanceUID": study_instance_uid, "PatientID": patient_id, "SeriesInstanceUID": series_instance_uid, "Modality": modality, "format": format},
            _GET_SERIES,
        )

    async def get_series_size(
        self,
        *,
        series_instance_uid: str,
        format: Literal['JSON', 'CSV', 'HTML', 'XML'] | None = None,
    ) -> Result[list[models.SeriesSize] | str]:
        """Size of a series.

        Answers how many bytes and files a series has, as a list of one row. Ask before a download. It is slow
        on big series.

        Args:
            series_instance_uid: UID of the series.
            format: Form of the answer. Without it, and with a value the gateway does not know, the answer is
                JSON.
        """
        return await self._call(
            "getSeriesSize",
            {"SeriesInstanceUID": series_instance_uid, "format": format},
            _GET_SERIES_SIZE,
        )

    async def get_image(
        self,
        *,
        series_instance_uid: str,
        save_to: Path | None = None,
        progress: Progress | None = None,
    ) -> Result[bytes | None]:
        """Download the images of a series.

        Answers all DICOM files of a series as one ZIP, built while it is sent: no length beforehand, no
        resuming, no licence text inside. Compare the number of DICOM members with ImageCount of getSeries,
        since a broken transfer can look whole.

        Args:
            series_instance_uid: UID of the series.
        """
        return await self._call(
            "getImage",
            {"SeriesInstanceUID": series_instance_uid},
            _GET_IMAGE,
            save_to=save_to,
            progress=progress,
        )

    async def get_contents_by_name(
        self,
        *,
        name: str,
    ) -> Result[list[models.SharedListItem]]:
        """Contents of a shared list.

        Answers the series of a shared list, which is a list saved under a name for others. Fetch the rows of
        each series by getSeries and the images by getImage.

        Args:
            name: Name of the list, exactly.
        """
        return await self._call(
            "getContentsByName",
            {"name": name},
            _GET_CONTENTS_BY_NAME,
        )


class TciaGatewaySyncClient(SyncApi):
    """TCIA REST gateway.

    Blocking; a context manager. Every call is checked against the contract, both ways.
    """

    contract = staticmethod(load)

    def get_collection_values(
        self,
        *,
        format: Literal['JSON', 'CSV', 'HTML', 'XML'] | None = None,
    ) -> Result[list[models.CollectionValue] | str]:
        """List collections.

        Answers the names of all collections. Start here; the other queries need the exact spelling.

        Args:
            format: Form of the answer. Without it, and with a value the gateway does not know, the answer is
                JSON.
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
        modality: str | None = None,
        format: Literal['JSON', 'CSV', 'HTML', 'XML'] | None = None,
    ) -> Result[list[models.ModalityValue] | str]:
        """List modalities.

        Answers the modalities (CT, MR and so on) of the archive, narrowed to a collection or a body part if
        given. A leading row without keys means that some series have no modality.

        Args:
            collection: Name of a collection, exactly as getCollectionValues lists it.
            body_part_examined: Examined body part, exactly as getBodyPartValues lists it.
            modality: Modality. It hardly makes sense here.
            format: Form of the answer. Without it, and with a value the gateway does not know, the answer is
                JSON.
        """
        return self._call(
            "getModalityValues",
            {"Collection": collection, "BodyPartExamined": body_part_examined, "Modality": modality, "format": format},
            _GET_MODALITY_VALUES,
        )

    def get_body_part_values(
        self,
        *,
        collection: str | None = None,
        body_part_examined: str | None = None,
        modality: str | None = None,
        format: Literal['JSON', 'CSV', 'HTML', 'XML'] | None = None,
    ) -> Result[list[models.BodyPartValue] | str]:
        """List body parts.

        Answers the examined body parts of the archive, narrowed to a collection or a modality if given. A
        leading row without keys means that some series have no body part.

        Args:
            collection: Name of a collection, exactly as getCollectionValues lists it.
            body_part_examined: Body part. It hardly makes sense here.
            modality: Modality, exactly as getModalityValues lists it.
            format: Form of the answer. Without it, and with a value the gateway does not know, the answer is
                JSON.
        """
        return self._call(
            "getBodyPartValues",
            {"Collection": collection, "BodyPartExamined": body_part_examined, "Modality": modality, "format": format},
            _GET_BODY_PART_VALUES,
        )

    def get_manufacturer_values(
        self,
        *,
        collection: str | None = None,
        modality: str | None = None,
        body_part_examined: str | None = None,
        format: Literal['JSON', 'CSV', 'HTML', 'XML'] | None = None,
    ) -> Result[list[models.ManufacturerValue] | str]:
        """List manufacturers.

        Answers the makers of the scanners as the files spell them, narrowed to a collection, a modality or a
        body part if given. A leading row without keys means that some series have no manufacturer.

        Args:
            collection: Name of a collection, exactly as getCollectionValues lists it.
            modality: Modality, exactly as getModalityValues lists it.
            body_part_examined: Examined body part, exactly as getBodyPartValues lists it.
            format: Form of the answer. Without it, and with a value the gateway does not know, the answer is
                JSON.
        """
        return self._call(
            "getManufacturerValues",
            {"Collection": collection, "Modality": modality, "BodyPartExamined": body_part_examined, "format": format},
            _GET_MANUFACTURER_VALUES,
        )

    def get_patient(
        self,
        *,
        collection: str | None = None,
        format: Literal['JSON', 'CSV', 'HTML', 'XML'] | None = None,
    ) -> Result[list[models.Patient] | str]:
        """List patients.

        Answers the patients of a collection, or all of the archive. A patient of two collections has two rows.

        Args:
            collection: Name of a collection, exactly as getCollectionValues lists it.
            format: Form of the answer. Without it, and with a value the gateway does not know, the answer is
                JSON.
        """
        return self._call(
            "getPatient",
            {"Collection": collection, "format": format},
            _GET_PATIENT,
        )

    def get_patient_study(
        self,
        *,
        collection: str | None = None,
        patient_id: str | None = None,
        study_instance_uid: str | None = None,
        format: Literal['JSON', 'CSV', 'HTML', 'XML'] | None = None,
    ) -> Result[list[models.PatientStudy] | str]:
        """List studies.

        Answers the studies of a collection or a patient, or one study by its UID.

        Args:
            collection: Name of a collection, exactly as getCollectionValues lists it.
            patient_id: Identifier of a patient, exactly as getPatient lists it.
            study_instance_uid: UID of one study.
            format: Form of the answer. Without it, and with a value the gateway does not know, the answer is
                JSON.
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
        study_instance_uid: str | None = None,
        patient_id: str | None = None,
        series_instance_uid: str | None = None,
        modality: str | None = None,
        format: Literal['JSON', 'CSV', 'HTML', 'XML'] | None = None,
    ) -> Result[list[models.Series] | str]:
        """List series.

        Answers the series of a collection, patient or study, or one series by its UID. Always give at least one
        of them: without any the answer holds every series of the archive.

        Args:
            collection: Name of a collection, exactly as getCollectionValues lists it.
            study_instance_uid: UID of one study.
            patient_id: Identifier of a patient, exactly as getPatient lists it.
            series_instance_uid: UID of one series.
            modality: Modality of the series, exactly as listed by getModalityValues.
            format: Form of the answer. Without it, and with a value the gateway does not know, the answer is
                JSON.
        """
        return self._call(
            "getSeries",
            {"Collection": collection, "StudyInstanceUID": study_instance_uid, "PatientID": patient_id, "SeriesInstanceUID": series_instance_uid, "Modality": modality, "format": format},
            _GET_SERIES,
        )

    def get_series_size(
        self,
        *,
        series_instance_uid: str,
        format: Literal['JSON', 'CSV', 'HTML', 'XML'] | None = None,
    ) -> Result[list[models.SeriesSize] | str]:
        """Size of a series.

        Answers how many bytes and files a series has, as a list of one row. Ask before a download. It is slow
        on big series.

        Args:
            series_instance_uid: UID of the series.
            format: Form of the answer. Without it, and with a value the gateway does not know, the answer is
                JSON.
        """
        return self._call(
            "getSeriesSize",
            {"SeriesInstanceUID": series_instance_uid, "format": format},
            _GET_SERIES_SIZE,
        )

    def get_image(
        self,
        *,
        series_instance_uid: str,
        save_to: Path | None = None,
        progress: Progress | None = None,
    ) -> Result[bytes | None]:
        """Download the images of a series.

        Answers all DICOM files of a series as one ZIP, built while it is sent: no length beforehand, no
        resuming, no licence text inside. Compare the number of DICOM members with ImageCount of getSeries,
        since a broken transfer can look whole.

        Args:
            series_instance_uid: UID of the series.
        """
        return self._call(
            "getImage",
            {"SeriesInstanceUID": series_instance_uid},
            _GET_IMAGE,
            save_to=save_to,
            progress=progress,
        )

    def get_contents_by_name(
        self,
        *,
        name: str,
    ) -> Result[list[models.SharedListItem]]:
        """Contents of a shared list.

        Answers the series of a shared list, which is a list saved under a name for others. Fetch the rows of
        each series by getSeries and the images by getImage.

        Args:
            name: Name of the list, exactly.
        """
        return self._call(
            "getContentsByName",
            {"name": name},
            _GET_CONTENTS_BY_NAME,
        )
