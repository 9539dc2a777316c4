"""The files in which the simulated Qure service hands out results: DICOM objects, PDF, PNG, HL7.

Every file says "SIMULATION - NOT FOR CLINICAL USE", in its pixels or its text and, if DICOM, in its series description.
Segmentation, presentation state and structured report are built with highdicom; it is imported on first use, because
that takes a second which the start of the sandbox should not.
"""

from __future__ import annotations

import hashlib
import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import (
    UID,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from isocenter import imaging
from isocenter.sandbox.qure.measure import Nodule, Slices

NOTICE = "SIMULATION - NOT FOR CLINICAL USE"
MODEL = "Isocenter sandbox"
VERSION = "1.0"

DICOM, PDF, PNG = "application/dicom", "application/pdf", "image/png"
Picture = NDArray[np.uint8]
"""RGB pixels, rows x columns x 3."""

_PATIENT_AND_STUDY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
_PROCEDURES = {
    "CT": codes.LN.CTUnspecifiedBodyRegion,
    "DX": Code("43468-8", "LN", "XR Unspecified body region Views"),
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One result file: its key in the answer's `files`, its name in the result folder, its media type."""

    kind: str
    name: str
    media_type: str


class Writer:
    """Writes result files into one folder and keeps the list of them in `assets`.

    `images` are the headers of the uploaded images: the results belong to the patient and study of the first one. `key`
    makes the UIDs. The headers are completed in place where highdicom would refuse or warn about them.
    """

    def __init__(self, folder: Path, key: str, now: datetime, images: Sequence[Dataset]) -> None:
        self.folder, self.key, self.now, self.assets = folder, key, now, list[Asset]()
        self.reference = images[0]
        for image in images:
            for keyword in _PATIENT_AND_STUDY:  # real archives leave out what has to be there, if only empty
                if keyword not in image:
                    setattr(image, keyword, "")
            if (name := str(image.PatientName)) and "^" not in name:  # the same name, but clearly meant as one
                image.PatientName = f"{name}^"

    def uid(self, *names: object) -> str:
        """A UID under 2.25. that belongs to these names within this computation (PS3.5 section B.2)."""
        digest = hashlib.sha256("/".join([self.key, *map(str, names)]).encode()).digest()
        return f"2.25.{int.from_bytes(digest[:16], 'big')}"

    def add(self, kind: str, name: str, media_type: str, data: bytes) -> None:
        (self.folder / name).write_bytes(data)
        self.assets.append(Asset(kind, name, media_type))

    def dicom(self, kind: str, dataset: Dataset, number: int = 1) -> None:
        name = f"{kind}_{number}.dcm"
        if "BodyPartExamined" in self.reference and "BodyPartExamined" not in dataset:
            dataset.BodyPartExamined = self.reference.BodyPartExamined
        dataset.save_as(self.folder / name, enforce_file_format=True)
        self.assets.append(Asset(kind, name, DICOM))

    def identity(self, kind: str, number: int, series_number: int) -> dict[str, Any]:
        """The arguments that every highdicom object takes."""
        return {
            "series_instance_uid": self.uid(kind),
            "series_number": series_number,
            "sop_instance_uid": self.uid(kind, number),
            "instance_number": number,
            "manufacturer": MODEL,
            "series_description": NOTICE,
        }

    def plain(self, kind: str, sop_class: str, modality: str, number: int, series_number: int) -> Dataset:
        """A dataset of the reference's patient and study, for the objects that are simple enough to write by hand."""
        dataset = Dataset()
        for keyword in (*_PATIENT_AND_STUDY, "SpecificCharacterSet", "StudyInstanceUID", "StudyDescription"):
            if keyword in self.reference:
                dataset[keyword] = self.reference[keyword]
        dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, self.uid(kind, number)
        dataset.SeriesInstanceUID, dataset.SeriesNumber = self.uid(kind), series_number
        dataset.Modality, dataset.InstanceNumber = modality, number
        dataset.SeriesDescription = NOTICE
        dataset.Manufacturer, dataset.ManufacturerModelName = MODEL, MODEL
        dataset.ContentDate, dataset.ContentTime = self.now.strftime("%Y%m%d"), self.now.strftime("%H%M%S")
        dataset.ConversionType = "WSD"
        dataset.BurnedInAnnotation = "YES"
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = UID(sop_class)
        dataset.file_meta.MediaStorageSOPInstanceUID = UID(dataset.SOPInstanceUID)
        return dataset

    def capture(self, kind: str, pixels: Picture, number: int) -> None:
        """A secondary capture of an RGB picture."""
        dataset = self.plain(kind, SecondaryCaptureImageStorage, "OT", number, 901 if kind == "sc" else 902)
        dataset.ImageType = ["DERIVED", "SECONDARY"]
        dataset.ImageComments, dataset.PatientOrientation = NOTICE, ""
        dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *pixels.shape[:2], 3
        dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
        dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.size % 2)
        self.dicom(kind, dataset, number)

    def encapsulated(self, kind: str, document: bytes, title: str) -> None:
        """A PDF as DICOM object (PS3.3 section A.45.1)."""
        dataset = self.plain(kind, EncapsulatedPDFStorage, "DOC", 1, 903)
        dataset.AcquisitionDateTime = ""
        dataset.DocumentTitle = f"{title} - {NOTICE}"
        dataset.ConceptNameCodeSequence = []
        dataset.MIMETypeOfEncapsulatedDocument = PDF
        dataset.EncapsulatedDocumentLength = len(document)
        dataset.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
        self.dicom(kind, dataset)

    def pictures(self, full: Picture) -> None:
        self.add("sc_full_png", "sc_full.png", PNG, imaging.encode(full, "png"))
        self.add("sc_thumbnail", "sc_thumbnail.png", PNG, thumbnail(full))

    def report(self, title: str, lines: list[str]) -> None:
        """The text as PDF and as DICOM, under the keys that qXR and qER use."""
        document = pdf(title, lines)
        self.add("report_pdf", "report.pdf", PDF, document)
        self.encapsulated("report_dcm", document, title)

    def segmentation(self, series: Slices, nodules: list[Nodule]) -> Dataset:
        """A binary DICOM SEG with one segment for each nodule."""
        import highdicom as hd

        involved = sorted({int(index) for nodule in nodules for index in np.unique(nodule.voxels[0])})
        labels = np.zeros((len(involved), series.datasets[0].Rows, series.datasets[0].Columns), np.uint8)
        for number, nodule in enumerate(nodules, 1):
            labels[np.searchsorted(involved, nodule.voxels[0]), nodule.voxels[1], nodule.voxels[2]] = number
        algorithm = hd.AlgorithmIdentificationSequence(MODEL, codes.DCM.MorphologicalOperations, VERSION)
        dataset = hd.seg.Segmentation(
            source_images=[series.datasets[index] for index in involved],
            pixel_array=labels,
            segmentation_type="BINARY",
            segment_descriptions=[
                hd.seg.SegmentDescription(
                    number,
                    f"Nodule {number}",
                    codes.SCT.MorphologicallyAbnormalStructure,
                    codes.SCT.Nodule,
                    "AUTOMATIC",
                    algorithm,
                    tracking_uid=self.uid("nodule", number),
                    tracking_id=f"Nodule {number}",
                )
                for number in range(1, len(nodules) + 1)
            ],
            manufacturer_model_name=MODEL,
            software_versions=VERSION,
            device_serial_number="0",
            content_label="SIMULATION",
            content_description=NOTICE,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            **self.identity("seg", 1, 904),
        )
        self.dicom("seg", dataset)
        return dataset

    def presentation(self, dataset: Dataset, nodule: Nodule, title: str, number: int) -> None:
        """A presentation state that draws a circle around a nodule on its key slice."""
        import highdicom as hd

        rows, columns = nodule.in_slice(nodule.key_slice)
        # Graphics count from the corner of the first pixel (PS3.3 section C.10.5.1.2), so its centre is at 0.5.
        x, y = float(columns.mean()) + 0.5, float(rows.mean()) + 0.5
        radius = float(np.hypot(np.ptp(rows), np.ptp(columns))) / 2 + 3
        layer = hd.pr.GraphicLayer("SIMULATION", order=1, description=NOTICE)
        circle = hd.pr.GraphicObject("CIRCLE", np.array([[x, y], [x + radius, y]]), units="PIXEL")
        label = hd.pr.TextObject(f"{title} - {NOTICE}", units="PIXEL", anchor_point=(x + radius, y))
        state = hd.pr.GrayscaleSoftcopyPresentationState(
            referenced_images=[dataset],
            graphic_layers=[layer],
            graphic_annotations=[
                hd.pr.GraphicAnnotation([dataset], layer, graphic_objects=[circle], text_objects=[label])
            ],
            manufacturer_model_name=MODEL,
            software_versions=VERSION,
            device_serial_number="0",
            content_label="SIMULATION",
            content_description=NOTICE,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            **self.identity("gsps", number, 905),
        )
        self.dicom("gsps", state, number)

    def structured_report(
        self,
        kind: str,
        images: Sequence[Dataset],
        text: Sequence[str],
        overall: tuple[Code, float, Code],
        nodules: Sequence[Nodule] = (),
        segments: Dataset | None = None,
    ) -> None:
        """A Comprehensive SR after TID 1500: an overall measurement (name, value, unit), one group a nodule, and text.

        `nodules` are what `segmentation` wrote as `segments`, in the same order.
        """
        import highdicom as hd

        evidence = {images[0].SOPInstanceUID: images[0]}
        device = hd.sr.DeviceObserverIdentifyingAttributes(uid=self.uid("device"), name=MODEL)
        whole = hd.sr.TrackingIdentifier(self.uid("whole image"), "Whole image")
        measured = hd.sr.Measurement(overall[0], round(overall[1], 3), overall[2])
        groups: list[Any] = [hd.sr.MeasurementsAndQualitativeEvaluations(whole, measurements=[measured])]
        for number, nodule in enumerate(nodules, 1):
            involved = [images[int(index)] for index in np.unique(nodule.voxels[0])]
            evidence.update({image.SOPInstanceUID: image for image in involved})
            groups.append(
                hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
                    tracking_identifier=hd.sr.TrackingIdentifier(self.uid("nodule", number), f"Nodule {number}"),
                    referenced_segment=hd.sr.ReferencedSegment(
                        SegmentationStorage,
                        self.uid("seg", 1),
                        number,
                        source_images=[
                            hd.sr.SourceImageForSegmentation(image.SOPClassUID, image.SOPInstanceUID)
                            for image in involved
                        ],
                    ),
                    finding_type=codes.SCT.Nodule,
                    finding_sites=[hd.sr.FindingSite(codes.SCT.Lung)],
                    measurements=[
                        hd.sr.Measurement(codes.SCT.Volume, round(nodule.volume_mm3, 1), codes.UCUM.CubicMillimeter),
                        hd.sr.Measurement(codes.SCT.Diameter, round(nodule.axial_mm, 1), codes.UCUM.Millimeter),
                    ],
                )
            )
        report = hd.sr.MeasurementReport(
            observation_context=hd.sr.ObservationContext(
                observer_device_context=hd.sr.ObserverContext(codes.DCM.Device, device)
            ),
            procedure_reported=_PROCEDURES.get(str(self.reference.get("Modality")), _PROCEDURES["DX"]),
            imaging_measurements=groups,
            title=codes.DCM.ImagingMeasurementReport,
        )
        for line in [NOTICE, *text]:
            item = hd.sr.TextContentItem(codes.DCM.Comment, line, hd.sr.RelationshipTypeValues.CONTAINS)
            report[0].ContentSequence.append(item)
        document = hd.sr.ComprehensiveSR(
            evidence=[*evidence.values(), *([] if segments is None else [segments])],
            content=report[0],
            is_complete=True,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            **self.identity(kind, 1, 906),
        )
        self.dicom(kind, document)


def window(values: NDArray[Any], center: float, width: float) -> NDArray[np.uint8]:
    """Grey values 0 to 255 for Hounsfield units."""
    return np.clip((values - (center - width / 2)) * (255 / width), 0, 255).astype(np.uint8)


def picture(grey: NDArray[np.uint8], mask: NDArray[Any] | None, title: str) -> Picture:
    """A grey image of at least 512 columns, the outline of the mask in red, notice and title in strips around it."""
    scale = -(-512 // grey.shape[1])
    large = np.repeat(np.repeat(grey, scale, axis=0), scale, axis=1)
    colour = np.stack([large] * 3, axis=2)
    if mask is not None and mask.any():
        inner = np.pad(np.repeat(np.repeat(mask, scale, axis=0), scale, axis=1), 1)
        core = inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
        colour[inner[1:-1, 1:-1] & ~core] = (255, 60, 40)
    strip = max(24, colour.shape[1] // 22)
    image = Image.fromarray(np.pad(colour, ((strip, strip), (0, 0), (0, 0))))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(strip * 0.6)
    draw.text((strip // 4, strip // 6), NOTICE, fill=(255, 220, 0), font=font)
    draw.text((strip // 4, image.height - strip + strip // 6), title, fill=(255, 255, 255), font=font)
    return np.asarray(image, np.uint8)


def thumbnail(full: Picture) -> bytes:
    """A PNG of at most 256 x 256 pixels."""
    image = Image.fromarray(full)
    image.thumbnail((256, 256))
    encoded: bytes = imaging.encode(np.asarray(image, np.uint8), "png")
    return encoded


def pdf(title: str, lines: Sequence[str]) -> bytes:
    """A PDF 1.4 of A4 pages with plain text in Helvetica, the notice on top of each page."""
    wrapped = [piece for line in lines for piece in textwrap.wrap(line, 84) or [""]]
    pages = [wrapped[at : at + 44] for at in range(0, len(wrapped), 44)] or [[]]
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", "", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    kids = []
    for page in pages:
        text = ["BT /F1 14 Tf 50 790 Td 16 TL", f"({_escape(NOTICE)}) '", f"({_escape(title)}) ' /F1 11 Tf () '"]
        stream = "\n".join([*text, *(f"({_escape(line)}) '" for line in page), "ET"])
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >>"
            f" /Contents {len(objects)} 0 R >>"
        )
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    file = io.BytesIO(b"%PDF-1.4\n")
    file.seek(0, io.SEEK_END)
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(file.tell())
        file.write(f"{number} 0 obj\n{content}\nendobj\n".encode("latin-1"))
    table = file.tell()
    entries = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    file.write(
        f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{entries}"
        f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n".encode("ascii")
    )
    return file.getvalue()


def _escape(text: str) -> str:
    """Text for a PDF string; what Latin-1 does not have becomes a question mark."""
    plain = text.encode("latin-1", "replace").decode("latin-1")
    return plain.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")


def hl7(reference: Dataset, message_id: str, now: datetime, lines: Sequence[str]) -> bytes:
    """An unsolicited observation message, HL7 v2.5.1 ORU^R01, with one text observation for each line."""

    def escaped(text: str) -> str:
        for plain, code in (("\\", "E"), ("|", "F"), ("~", "R"), ("&", "T"), ("^", "S")):
            text = text.replace(plain, f"\\{code}\\")
        return " ".join(text.split())

    patient, birth, sex, accession, modality = (
        escaped(str(reference.get(keyword) or ""))
        for keyword in ("PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "Modality")
    )
    # The parts of a DICOM name and of an HL7 name are the same and have the same separator.
    name = escaped(str(reference.get("PatientName") or "").partition("=")[0]).replace("\\S\\", "^")
    time = now.strftime("%Y%m%d%H%M%S")
    segments = [
        f"MSH|^~\\&|ISOCENTER|SANDBOX|||{time}||ORU^R01^ORU_R01|{message_id}|T|2.5.1|||||||UNICODE UTF-8",
        f"PID|1||{patient}||{name}||{birth}|{sex}",
        f"OBR|1|{accession}||{modality}^{modality} report|||{time}||||||||||||||||||F",
    ]
    for number, line in enumerate([NOTICE, *lines], 1):
        segments.append(f"OBX|{number}|TX|SIM^Simulated finding||{escaped(line)}||||||F")
    return "".join(segment + "\r" for segment in segments).encode()
