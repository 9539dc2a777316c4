"""The headers of the phantoms: conformant DICOM datasets around the pixels, one function per kind of series.

All UIDs are `2.25.` plus a UUID made from a name (PS3.5 section B.2), so they are the same on every machine.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
)

from isocenter.sandbox.phantom.pixels import FIRST_XY, SIZE, SPACING, Signed, Unsigned, head, water_slices

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://isocenter.invalid/phantom")
_IMPLEMENTATION = f"2.25.{uuid.uuid5(_NAMESPACE, 'implementation').int}"


def uid(*names: str) -> str:
    """The UID that belongs to these names, for example `uid("PAT-0001", "baseline", "ct")` for a series."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(names)).int}"


def put_values(dataset: Dataset, **values: Any) -> Dataset:
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def item(**values: Any) -> Dataset:
    return put_values(Dataset(), **values)


def code(value: str, meaning: str, scheme: str = "SCT") -> Sequence:
    return Sequence([item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)])


def study_of(patient: str, sex: str, age: str, name: str, date: str, description: str, study_id: str) -> Dataset:
    study = item(
        SpecificCharacterSet="ISO_IR 192",
        StudyInstanceUID=uid(patient, name),
        FrameOfReferenceUID=uid(patient, name, "frame of reference"),
        StudyDate=date,
        StudyTime="093000",
        StudyDescription=description,
        StudyID=study_id,
        AccessionNumber="",
        ReferringPhysicianName="",
        PatientName=patient,
        PatientID=patient,
        PatientBirthDate="",
        PatientSex=sex,
        PatientIdentityRemoved="YES",
        DeidentificationMethod="Synthetic phantom, no patient",
        ClinicalTrialSponsorName="Isocenter",
        ClinicalTrialProtocolID="ISOCENTER-PHANTOMS",
        ClinicalTrialProtocolName="Synthetic phantoms",
        ClinicalTrialSiteID="",
        ClinicalTrialSiteName="",
        ClinicalTrialSubjectID=patient,
        ClinicalTrialTimePointID=name,
    )
    return put_values(study, PatientAge=age) if age else study


def series_of(study: Dataset, name: str, modality: str, number: int, description: str, **values: Any) -> Dataset:
    series = Dataset()
    series.update(study)
    series_uid = uid(study.PatientID, study.ClinicalTrialTimePointID, name)
    put_values(
        series,
        Modality=modality,
        SeriesInstanceUID=series_uid,
        SeriesNumber=number,
        SeriesDate=study.StudyDate,
        SeriesTime=study.StudyTime,
        SeriesDescription=description,
        PositionReferenceIndicator="",
        Manufacturer="Isocenter Synthetic Imaging",
        ManufacturerModelName="Phantom One",
        SoftwareVersions="1.0",
        DeviceSerialNumber="0",
    )
    return put_values(series, **values)


def instance_of(series: Dataset, sop_class: UID, number: int, **values: Any) -> Dataset:
    instance = Dataset()
    instance.update(series)
    sop_uid = uid(series.SeriesInstanceUID, str(number))
    put_values(
        instance,
        SOPClassUID=sop_class,
        SOPInstanceUID=sop_uid,
        InstanceNumber=number,
        ContentDate=series.StudyDate,
        ContentTime=series.StudyTime,
        **values,
    )
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, UID(sop_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID, meta.ImplementationVersionName = UID(_IMPLEMENTATION), "ISOCENTER"
    instance.file_meta = meta
    return instance


def with_pixels(instance: Dataset, pixels: Signed | Unsigned, *, stored: int, spacing: float | None) -> Dataset:
    signed = pixels.dtype == np.int16
    put_values(
        instance,
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        Rows=pixels.shape[0],
        Columns=pixels.shape[1],
        BitsAllocated=16,
        BitsStored=stored,
        HighBit=stored - 1,
        PixelRepresentation=int(signed),
        BurnedInAnnotation="NO",
        LossyImageCompression="00",
        PixelData=np.ascontiguousarray(pixels).astype("<i2" if signed else "<u2").tobytes(),
    )
    return instance if spacing is None else put_values(instance, PixelSpacing=[spacing, spacing])


def ct(
    study: Dataset, name: str, number: int, description: str, volume: Signed, first: float, step: float
) -> Iterator[Dataset]:
    """Axial slices; stored values are Hounsfield units plus 1024."""
    spacing = SPACING * SIZE / volume.shape[2]
    series = series_of(
        study,
        name,
        "CT",
        number,
        description,
        BodyPartExamined="CHEST",
        ProtocolName="Chest phantom",
        PatientPosition="HFS",
        ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        SliceThickness=step,
        SpacingBetweenSlices=step,
        KVP=120,
        ConvolutionKernel="STANDARD",
        AcquisitionNumber=1,
        RescaleIntercept=-1024,
        RescaleSlope=1,
        RescaleType="HU",
        WindowCenter=[-600, 40],
        WindowWidth=[1500, 400],
        WindowCenterWidthExplanation=["LUNG", "SOFT TISSUE"],
    )
    for index, hounsfield in enumerate(volume):
        z = first + index * step
        instance = instance_of(
            series,
            CTImageStorage,
            index + 1,
            ImagePositionPatient=[FIRST_XY, FIRST_XY, z],
            SliceLocation=z,
            AcquisitionDate=study.StudyDate,
            AcquisitionTime="093100",
        )
        yield with_pixels(instance, (hounsfield + 1024).astype(np.uint16), stored=12, spacing=spacing)


def water(study: Dataset) -> Iterator[Dataset]:
    """Four slices of a cylinder full of water."""
    for instance in ct(study, "ct", 1, "Water phantom", water_slices(), 0.0, 5.0):
        # A test object has no body part, and says so (PS3.3 section C.7.6.1).
        del instance.BodyPartExamined
        yield put_values(instance, Laterality="", QualityControlImage="YES", ProtocolName="Quality control")


def _magnetic(study: Dataset, name: str, number: int, description: str, **values: Any) -> Dataset:
    return series_of(
        study,
        name,
        "MR",
        number,
        description,
        PatientPosition="HFS",
        ImageType=["ORIGINAL", "PRIMARY", "OTHER"],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        ScanningSequence="SE",
        SequenceVariant="SK",
        ScanOptions="",
        MRAcquisitionType="2D",
        RepetitionTime=500,
        EchoTime=15,
        EchoTrainLength=1,
        MagneticFieldStrength=1.5,
        FlipAngle=90,
        WindowCenter=450,
        WindowWidth=900,
        **values,
    )


def mr(study: Dataset) -> Iterator[Dataset]:
    """T1, twelve slices before and twelve after contrast: two acquisitions in one series."""
    series = _magnetic(
        study, "t1", 3, "T1 axial phantom, pre + post", BodyPartExamined="BRAIN", ProtocolName="T1/SE", SliceThickness=6
    )
    for acquisition, contrast in ((1, 0.0), (2, 600.0)):
        for index in range(12):
            z = (index - 5.5) * 8.0
            instance = instance_of(
                series,
                MRImageStorage,
                (acquisition - 1) * 12 + index + 1,
                AcquisitionNumber=acquisition,
                AcquisitionDate=study.StudyDate,
                AcquisitionTime=f"09{30 + acquisition}00",
                SpacingBetweenSlices=8,
                SliceLocation=z,
                ImagePositionPatient=[-119.0625, -119.0625, z],
            )
            yield with_pixels(instance, head(128, z, contrast), stored=12, spacing=1.875)


def localizer(study: Dataset) -> Iterator[Dataset]:
    """Three small images, run-length encoded, from a device that names neither itself nor what it looked at."""
    series = _magnetic(study, "localizer", 1, "Localizer phantom", SliceThickness=10, Laterality="")
    series.Manufacturer = ""
    del series.ManufacturerModelName, series.SoftwareVersions, series.DeviceSerialNumber
    for index, z in enumerate((-30.0, 0.0, 30.0)):
        instance = instance_of(
            series,
            MRImageStorage,
            index + 1,
            AcquisitionNumber=1,
            ImagePositionPatient=[-118.125, -118.125, z],
        )
        with_pixels(instance, head(64, z, 0.0), stored=12, spacing=3.75)
        instance.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        yield instance


def dx(study: Dataset, image: Unsigned) -> Dataset:
    series = series_of(
        study,
        "dx",
        "DX",
        1,
        "Chest phantom PA",
        BodyPartExamined="CHEST",
        ProtocolName="Chest PA",
        PresentationIntentType="FOR PRESENTATION",
    )
    del series.FrameOfReferenceUID, series.PositionReferenceIndicator
    instance = instance_of(
        series,
        DigitalXRayImageStorageForPresentation,
        1,
        ImageType=["ORIGINAL", "PRIMARY"],
        AcquisitionDate=study.StudyDate,
        AcquisitionTime="093100",
        PatientOrientation=["L", "F"],
        ImageLaterality="U",
        AnatomicRegionSequence=code("51185008", "Chest"),
        ViewPosition="PA",
        ViewCodeSequence=code("399348003", "postero-anterior"),
        PixelIntensityRelationship="LOG",
        PixelIntensityRelationshipSign=-1,
        RescaleIntercept=0,
        RescaleSlope=1,
        RescaleType="US",
        PresentationLUTShape="IDENTITY",
        DetectorType="DIRECT",
        PositionerType="",
        ImagerPixelSpacing=[0.75, 0.75],
        AcquisitionContextSequence=Sequence([]),
        WindowCenter=2200,
        WindowWidth=3600,
    )
    instance.ViewCodeSequence[0].ViewModifierCodeSequence = Sequence([])
    return with_pixels(instance, image, stored=12, spacing=None)


def cr(study: Dataset, image: Unsigned) -> Dataset:
    series = series_of(study, "cr", "CR", 1, "Chest phantom AP, bedside", BodyPartExamined="CHEST", ViewPosition="AP")
    del series.FrameOfReferenceUID, series.PositionReferenceIndicator
    instance = instance_of(
        series,
        ComputedRadiographyImageStorage,
        1,
        ImageType=["ORIGINAL", "PRIMARY"],
        PatientOrientation=["L", "F"],
        AcquisitionNumber=1,
        ImagerPixelSpacing=[1.5, 1.5],
        WindowCenter=2200,
        WindowWidth=3600,
    )
    return with_pixels(instance, image[::2, ::2], stored=12, spacing=None)
