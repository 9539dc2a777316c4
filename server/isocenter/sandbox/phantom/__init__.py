"""Synthetic DICOM files: the data every sandbox starts with. No patient, no scanner, the same bytes every time.

A chest CT with nodules at known places (twice, the second time with one nodule grown), a segmentation and a
structure set of them, a brain MR with two acquisitions, radiographs, a water phantom, and the irregularities that
real archives have: missing body part and manufacturer, punctuation in descriptions, names with spaces and mixed case.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

from isocenter.sandbox.phantom.derived import segmentation, structures
from isocenter.sandbox.phantom.dicom import cr, ct, dx, localizer, mr, put_values, study_of, uid, water
from isocenter.sandbox.phantom.pixels import FIRST_Z, GROWTH, NODULES, SLICES, STEP, Nodule, chest, radiograph

__all__ = [
    "BRAIN",
    "BRAIN_LOCALIZER",
    "BRAIN_T1",
    "CHEST",
    "CHEST_CR",
    "CHEST_CT",
    "CHEST_DX",
    "CHEST_FOLLOW_UP",
    "CHEST_RTSTRUCT",
    "CHEST_SEG",
    "CHEST_STUDY",
    "COLLECTIONS",
    "GROWTH",
    "LOW_DOSE_CT",
    "NODULES",
    "QUALITY",
    "RADIOGRAPHS",
    "WATER_CT",
    "Nodule",
    "PhantomFile",
    "files",
    "uid",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomFile:
    """One DICOM file, with what the TCIA archive knows about its series beside the header."""

    collection: str
    series_instance_uid: str
    sop_instance_uid: str
    data: bytes
    extra: dict[str, object] = field(default_factory=dict)


CHEST, BRAIN, RADIOGRAPHS, QUALITY = "ISO-CHEST-CT", "Iso-Brain-MR", "Isocenter Radiographs", "ISO-QC-PHANTOM"
COLLECTIONS = (CHEST, BRAIN, RADIOGRAPHS, QUALITY)

CHEST_STUDY = uid("PAT-0001", "baseline")
CHEST_CT = uid("PAT-0001", "baseline", "ct")
CHEST_SEG = uid("PAT-0001", "baseline", "seg")
CHEST_RTSTRUCT = uid("PAT-0001", "baseline", "rtstruct")
CHEST_FOLLOW_UP = uid("PAT-0001", "follow-up", "ct")
LOW_DOSE_CT = uid("PAT-0002", "screening", "ct")
BRAIN_T1 = uid("Pat-0101", "brain", "t1")
BRAIN_LOCALIZER = uid("Pat-0101", "brain", "localizer")
CHEST_DX = uid("PAT-0201", "chest", "dx")
CHEST_CR = uid("PAT-0202", "chest", "cr")
WATER_CT = uid("QC-WATER", "quality", "ct")

_CC4 = ("Creative Commons Attribution 4.0 International License", "https://creativecommons.org/licenses/by/4.0/")
_CC3 = ("Creative Commons Attribution 3.0 Unported License", "http://creativecommons.org/licenses/by/3.0/")


def files() -> Iterator[PhantomFile]:
    """Every file of the phantom archive, series by series; about 220 files and 25 MB."""
    first = study_of("PAT-0001", "F", "061Y", "baseline", "20210304", "CT chest phantom, baseline", "A1")
    put_values(first, LongitudinalTemporalOffsetFromEvent=0.0, LongitudinalTemporalEventType="ENROLLMENT")
    volume = chest(NODULES, SLICES, STEP)
    baseline = list(ct(first, "ct", 2, 'Chest phantom 2.5 mm, "lung/soft"', volume, FIRST_Z, STEP))
    early = _extra(CHEST, "2023-05-15", "2023-04-30 10:15:42", _CC4, site="ISO-WEST")
    yield from _files(CHEST, early, baseline)
    analysis = {**early, "ThirdPartyAnalysis": "YES", "AnnotationsFlag": True}
    yield from _files(CHEST, analysis, [segmentation(first, baseline), structures(first, baseline)])

    second = study_of("PAT-0001", "F", "062Y", "follow-up", "20210910", "CT chest phantom, follow-up", "A2")
    put_values(second, LongitudinalTemporalOffsetFromEvent=190.0, LongitudinalTemporalEventType="ENROLLMENT")
    grown = (replace(NODULES[0], diameter=NODULES[0].diameter * GROWTH), *NODULES[1:])
    late = _extra(CHEST, "2024-02-20", "2024-01-31 08:00:00", _CC4, site="ISO-WEST")
    yield from _files(CHEST, late, ct(second, "ct", 2, "Chest phantom 5 mm", chest(grown, 60, 5.0), -29.5 * 5.0, 5.0))

    screening = study_of("PAT-0002", "M", "055Y", "screening", "20200101", "Screening phantom; 1/2 & more", "B1")
    awkward = 'P2^Chest, "low dose" 50% <phantom> & test / it\'s'
    east = _extra(CHEST, "2024-02-20", "2024-01-31 08:05:09", _CC3, site="ISO-EAST")
    yield from _files(
        CHEST, east, ct(screening, "ct", 1000001, awkward, volume[40:100:5], FIRST_Z + 40 * STEP, 5 * STEP)
    )

    brain = study_of("Pat-0101", "O", "034Y", "brain", "20220606", "MR brain phantom", "C1")
    head = _extra(BRAIN, "2023-05-15", "2023-05-01 00:00:00", _CC4, site="ISO-WEST")
    yield from _files(BRAIN, head, [*mr(brain), *localizer(brain)])

    front = radiograph(volume)
    xr = _extra(RADIOGRAPHS, "2024-02-20", "2024-02-01 12:30:00", _CC4, site="ISO-EAST")
    upright = study_of("PAT-0201", "M", "070Y", "chest", "20230115", "Chest radiograph phantom", "D1")
    again = study_of("PAT-0001", "F", "061Y", "radiograph", "20210303", "Chest radiograph phantom", "D2")
    bedside = study_of("PAT-0202", "F", "048Y", "chest", "20230116", "Bedside chest phantom", "D3")
    yield from _files(RADIOGRAPHS, xr, [dx(upright, front), dx(again, front), cr(bedside, front)])

    daily = study_of("QC-WATER", "", "", "quality", "20230201", "Daily quality control phantom", "Q1")
    put_values(daily, QualityControlSubject="YES")
    qc = _extra(QUALITY, "2023-05-15", "2023-05-02 07:00:00", _CC4, site="ISO-QC")
    yield from _files(QUALITY, {**qc, "Phantom": "YES"}, water(daily))


def _extra(collection: str, released: str, submitted: str, license: tuple[str, str], *, site: str) -> dict[str, object]:
    return {
        "Site": site,
        "LicenseName": license[0],
        "LicenseURI": license[1],
        "DataDescriptionURI": f"https://doi.org/10.0000/{collection.replace(' ', '-').upper()}",
        "DateReleased": released,
        "MaxSubmissionTimestamp": submitted,
    }


def _files(collection: str, extra: dict[str, object], datasets: Iterable[Dataset]) -> Iterator[PhantomFile]:
    for dataset in datasets:
        buffer = io.BytesIO()
        dcmwrite(buffer, dataset, enforce_file_format=True)
        yield PhantomFile(
            collection=collection,
            series_instance_uid=dataset.SeriesInstanceUID,
            sop_instance_uid=dataset.SOPInstanceUID,
            data=buffer.getvalue(),
            extra=extra,
        )
