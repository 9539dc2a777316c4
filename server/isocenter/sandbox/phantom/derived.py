"""Objects derived from the chest CT: a segmentation and a structure set of its nodules."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pack_bits
from pydicom.sequence import Sequence
from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from isocenter.sandbox.phantom.dicom import code, instance_of, item, series_of, uid
from isocenter.sandbox.phantom.pixels import FIRST_XY, NODULES, SIZE, SPACING, STEP, Nodule


def _hit(ct: list[Dataset], nodule: Nodule) -> list[tuple[int, float]]:
    """The slices a nodule reaches, by index, with the radius in mm of its cut there."""
    cuts = []
    for index, image in enumerate(ct):
        square = (nodule.diameter / 2) ** 2 - (float(image.ImagePositionPatient[2]) - nodule.z) ** 2
        if square > 0:
            cuts.append((index, square**0.5))
    return cuts


def segmentation(study: Dataset, ct: list[Dataset]) -> Dataset:
    """One binary segment per nodule, one frame per slice it reaches (PS3.3 section A.51)."""
    series = series_of(study, "seg", "SEG", 100, "Nodule segmentation phantom", BodyPartExamined="CHEST")
    axis = np.arange(SIZE) * SPACING + FIRST_XY
    x, y = np.meshgrid(axis, axis)
    organization = uid(series.SeriesInstanceUID, "dimensions")
    frames, masks, segments = [], [], []
    for number, nodule in enumerate(NODULES, 1):
        segments.append(
            item(
                SegmentNumber=number,
                SegmentLabel=f"Nodule {nodule.name}",
                SegmentAlgorithmType="AUTOMATIC",
                SegmentAlgorithmName="Isocenter phantom",
                SegmentedPropertyCategoryCodeSequence=code("49755003", "Morphologically Abnormal Structure"),
                SegmentedPropertyTypeCodeSequence=code("27925004", "Nodule"),
            )
        )
        for index, radius in _hit(ct, nodule):
            masks.append(((x - nodule.x) ** 2 + (y - nodule.y) ** 2 <= radius**2).astype(np.uint8))
            purpose = code("121322", "Source image for image processing operation", "DCM")
            source = _reference(ct[index], PurposeOfReferenceCodeSequence=purpose)
            derivation = item(
                SourceImageSequence=Sequence([source]),
                DerivationCodeSequence=code("113076", "Segmentation", "DCM"),
            )
            frames.append(
                item(
                    FrameContentSequence=Sequence([item(DimensionIndexValues=[number, index + 1])]),
                    PlanePositionSequence=Sequence([item(ImagePositionPatient=ct[index].ImagePositionPatient)]),
                    DerivationImageSequence=Sequence([derivation]),
                    SegmentIdentificationSequence=Sequence([item(ReferencedSegmentNumber=number)]),
                )
            )
    shared = item(
        PlaneOrientationSequence=Sequence([item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]),
        PixelMeasuresSequence=Sequence(
            [item(SliceThickness=STEP, SpacingBetweenSlices=STEP, PixelSpacing=[SPACING, SPACING])]
        ),
    )
    pointers = ((0x0062000B, 0x0062000A), (0x00200032, 0x00209113))
    return instance_of(
        series,
        SegmentationStorage,
        1,
        ImageType=["DERIVED", "PRIMARY"],
        ContentLabel="NODULES",
        ContentDescription="Nodules of the chest phantom",
        ContentCreatorName="",
        SegmentationType="BINARY",
        SegmentSequence=Sequence(segments),
        DimensionOrganizationType="3D",
        DimensionOrganizationSequence=Sequence([item(DimensionOrganizationUID=organization)]),
        DimensionIndexSequence=Sequence(
            item(DimensionOrganizationUID=organization, DimensionIndexPointer=tag, FunctionalGroupPointer=group)
            for tag, group in pointers
        ),
        SharedFunctionalGroupsSequence=Sequence([shared]),
        PerFrameFunctionalGroupsSequence=Sequence(frames),
        NumberOfFrames=len(frames),
        ReferencedSeriesSequence=Sequence(
            [item(SeriesInstanceUID=ct[0].SeriesInstanceUID, ReferencedInstanceSequence=Sequence(map(_reference, ct)))]
        ),
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        Rows=SIZE,
        Columns=SIZE,
        BitsAllocated=1,
        BitsStored=1,
        HighBit=0,
        PixelRepresentation=0,
        LossyImageCompression="00",
        BurnedInAnnotation="NO",
        PixelData=pack_bits(np.stack(masks)),
    )


def _reference(image: Dataset, **values: Any) -> Dataset:
    return item(ReferencedSOPClassUID=image.SOPClassUID, ReferencedSOPInstanceUID=image.SOPInstanceUID, **values)


def structures(study: Dataset, ct: list[Dataset]) -> Dataset:
    """One region of interest per nodule, a closed polygon in every slice it reaches (PS3.3 section A.19)."""
    series = series_of(study, "rtstruct", "RTSTRUCT", 101, "Nodule contours phantom")
    frame = series.FrameOfReferenceUID
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    regions, contours, observations = [], [], []
    for number, nodule in enumerate(NODULES, 1):
        regions.append(
            item(
                ROINumber=number,
                ReferencedFrameOfReferenceUID=frame,
                ROIName=f"Nodule {nodule.name}",
                ROIGenerationAlgorithm="AUTOMATIC",
            )
        )
        polygons = []
        for index, radius in _hit(ct, nodule):
            z = float(ct[index].ImagePositionPatient[2])
            ring = [(nodule.x + radius * np.cos(a), nodule.y + radius * np.sin(a), z) for a in angles]
            polygons.append(
                item(
                    ContourImageSequence=Sequence([_reference(ct[index])]),
                    ContourGeometricType="CLOSED_PLANAR",
                    NumberOfContourPoints=len(ring),
                    ContourData=[f"{value:.3f}" for point in ring for value in point],
                )
            )
        contours.append(
            item(ReferencedROINumber=number, ROIDisplayColor=[255, 64, 64], ContourSequence=Sequence(polygons))
        )
        observations.append(
            item(ObservationNumber=number, ReferencedROINumber=number, RTROIInterpretedType="", ROIInterpreter="")
        )
    images = item(SeriesInstanceUID=ct[0].SeriesInstanceUID, ContourImageSequence=Sequence(map(_reference, ct)))
    referenced = item(
        # The study itself is named by the retired class, as the standard still asks (PS3.3 section C.8.8.5).
        ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",
        ReferencedSOPInstanceUID=series.StudyInstanceUID,
        RTReferencedSeriesSequence=Sequence([images]),
    )
    instance = instance_of(
        series,
        RTStructureSetStorage,
        1,
        StructureSetLabel="NODULES",
        StructureSetDate=study.StudyDate,
        StructureSetTime=study.StudyTime,
        ReferencedFrameOfReferenceSequence=Sequence(
            [item(FrameOfReferenceUID=frame, RTReferencedStudySequence=Sequence([referenced]))]
        ),
        StructureSetROISequence=Sequence(regions),
        ROIContourSequence=Sequence(contours),
        RTROIObservationsSequence=Sequence(observations),
        OperatorsName="",
        ApprovalStatus="UNAPPROVED",
    )
    del instance.ContentDate, instance.ContentTime
    return instance
