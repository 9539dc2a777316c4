"""Result files of the simulated Qure service: real DICOM, PDF, PNG, JSON and HL7 made from the uploaded pixels.

What is found comes from `measure`; this module writes it down in the forms the service hands out. Every file says
"SIMULATION - NOT FOR CLINICAL USE", in the pixels or the text and, for DICOM, in the series description too; only
`original` is the uploaded file, byte for byte. The keys of the files are those of the API reference (seed 000 for qCT).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from isocenter.sandbox.qure import measure as qure_measure
from isocenter.sandbox.qure.measure import Nodule, NotUsable, Slices
from isocenter.sandbox.qure.objects import (
    DICOM,
    NOTICE,
    PDF,
    PNG,
    Asset,
    Picture,
    Writer,
    hl7,
    pdf,
    picture,
    thumbnail,
    window,
)

SC_SLICES = 8
"""A chest CT gets this many captures spread over the lungs beside one key slice for each nodule."""

_ML = Code("mL", "UCUM", "milliliter")
_DENSITY_DIFFERENCE = Code("DENSITY-DIFFERENCE", "99ISOCENTER", "Difference of mean density of the lung fields")
_HEAD_RULES = {"ICH": ("dense_ml", 5.0, 1.0), "EDEMA": ("loose_ml", 400.0, 150.0)}
"""Score of a head finding: 1 - exp(-(volume - allowance) / scale) of a measured volume: (volume, scale, allowance)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a computation ended with.

    `state` is done, invalid (right kind of image, nothing to measure) or unsupported (no use case for it). `usecase` is
    qct, qer, qxr or not_implemented; `triage_status` Critical or Routine; `result` the answer's `result` without files;
    `findings` the measurements, which a later study of the same patient is compared with.
    """

    state: str
    usecase: str
    triage_status: str = "Routine"
    reason: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    findings: dict[str, Any] = field(default_factory=dict)
    assets: list[Asset] = field(default_factory=list)


def compute(
    usecase: str, paths: Sequence[Path], folder: Path, *, key: str, now: datetime, prior: dict[str, Any] | None = None
) -> Outcome:
    """Measure the images, write the result files into `folder`, and say what was found.

    `usecase` is qct, qer, qxr, or "ct" for a CT whose header does not tell the body region: then the pixels decide.
    `key` makes the UIDs of the result objects, the same for the same key. `prior` is `Outcome.findings` of an earlier
    chest CT of the patient. Takes seconds and no database: for a worker thread. What lies beside `folder` is of earlier
    or interrupted computations of the same job and is removed.
    """
    shutil.rmtree(folder.parent, ignore_errors=True)
    folder.mkdir(parents=True)
    if usecase == "qxr":
        return _xray(paths[0], Writer(folder, key, now, [pydicom.dcmread(paths[0], stop_before_pixels=True)]))
    reason = ""
    try:
        series = qure_measure.slices(paths)
        writer = Writer(folder, key, now, series.datasets)
    except NotUsable as problem:
        return Outcome("unsupported" if usecase == "ct" else "invalid", "not_implemented", reason=str(problem))
    for candidate, method in (("qct", _chest), ("qer", _head)):
        if usecase in (candidate, "ct"):
            try:
                return method(series, writer, prior)
            except NotUsable as problem:
                reason = str(problem)
    return Outcome("unsupported" if usecase == "ct" else "invalid", "not_implemented", reason=reason)


def _chest(series: Slices, writer: Writer, prior: dict[str, Any] | None) -> Outcome:
    lung_ml, nodules = qure_measure.lungs_and_nodules(series)
    found = [
        {
            "id": number,
            "sop_instance_uid": str(series.datasets[nodule.key_slice].SOPInstanceUID),
            "texture": "solid" if nodule.mean_hu > -200 else "part-solid",
            "volume_mm3": round(nodule.volume_mm3, 1),
            "equivalent_diameter_mm": round(nodule.diameter_mm, 1),
            "axial_diameter_mm": round(nodule.axial_mm, 1),
            "mean_hu": round(nodule.mean_hu, 1),
            "center_mm": [round(value, 1) for value in nodule.center_mm],
        }
        for number, nodule in enumerate(nodules, 1)
    ]
    findings = {
        "notice": NOTICE,
        "usecase": "qct",
        "series_instance_uid": str(writer.reference.SeriesInstanceUID),
        "study_date": str(writer.reference.get("StudyDate") or ""),
        "slices": len(series.paths),
        "lung_volume_ml": round(lung_ml, 1),
        "nodules": found,
    }
    lines = [f"Chest CT, {len(series.paths)} slices. Air in the lungs: {lung_ml:.0f} ml. Nodules: {len(found)}."]
    lines += [_describe(nodule) for nodule in found]
    for number, index in enumerate(np.linspace(0, len(series.paths) - 1, SC_SLICES + 2)[1:-1].astype(int), 1):
        writer.capture("sc", _slice_picture(series, int(index), nodules, f"Slice {index + 1}"), number)
    for number, nodule in enumerate(nodules, 1):
        title = f"Nodule {number}: {nodule.diameter_mm:.1f} mm"
        writer.capture("sc_key_slices", _slice_picture(series, nodule.key_slice, [nodule], title), number)
        writer.presentation(series.datasets[nodule.key_slice], nodule, title, number)
    segments = writer.segmentation(series, nodules) if nodules else None
    overall = (codes.SCT.Volume, lung_ml, _ML)
    writer.structured_report("sr", series.datasets, lines, overall, nodules, segments)
    document = pdf("Chest CT report", lines)
    writer.add("pdf", "report.pdf", PDF, document)
    writer.encapsulated("encapsulated_pdf", document, "Chest CT report")
    writer.add("json", "findings.json", "application/json", json.dumps(findings, indent=2).encode())
    writer.add("hl7", "report.hl7", "text/plain", hl7(writer.reference, writer.uid("hl7"), writer.now, lines))
    if prior is not None:
        writer.add("pr", "progression.pdf", PDF, pdf("Progression report", _progression(prior, findings)))
    critical = any(nodule.diameter_mm >= qure_measure.CRITICAL_MM for nodule in nodules)
    triage = "Critical" if critical else "Routine"
    return Outcome("done", "qct", triage, findings=findings, assets=writer.assets)


def _head(series: Slices, writer: Writer, prior: dict[str, Any] | None) -> Outcome:
    head = qure_measure.head(series)
    scores = {
        name: round(float(1 - np.exp(-max(getattr(head, volume) - allowance, 0) / scale)), 4)
        for name, (volume, scale, allowance) in _HEAD_RULES.items()
    }
    scores["ASYMMETRY"] = round(min(head.side_difference * 20, 1.0), 4)
    decisions = {name: score >= 0.5 for name, score in scores.items()}
    lines = [
        f"{name} {'suspected' if decisions[name] else 'not suspected'} (score {score:.2f})."
        for name, score in scores.items()
    ]
    lines.append(f"Intracranial volume {head.intracranial_ml:.0f} ml, dense {head.dense_ml:.1f} ml.")
    key = head.key_slice
    full = picture(window(series.hounsfield(key), 40, 80), head.dense.get(key), f"Slice {key + 1}")
    writer.capture("sc", full, 1)
    writer.pictures(full)
    writer.report("Head CT report", lines)
    overall = (codes.SCT.Volume, head.intracranial_ml, _ML)
    writer.structured_report("report_sr", series.datasets[key : key + 1], lines, overall)
    result = {
        "report": lines,
        "scores": scores,
        "decisions": decisions,
        "reporting_params": [name for name, positive in decisions.items() if positive],
        "qure_model_version": "Latest",
    }
    triage = "Critical" if any(decisions.values()) else "Routine"
    return Outcome("done", "qer", triage, result=result, findings=scores, assets=writer.assets)


def _xray(path: Path, writer: Writer) -> Outcome:
    reference = writer.reference
    region = str(reference.get("BodyPartExamined") or "CHEST").strip().upper()
    try:
        if not any(word in region for word in ("CHEST", "THORAX", "LUNG")):
            raise NotUsable("The image does not show the chest.")
        measured = qure_measure.radiograph(path)
    except NotUsable as problem:
        writer.report("Radiograph report", ["Invalid X-Ray", str(problem)])
        shutil.copyfile(path, writer.folder / "original.dcm")
        writer.assets.append(Asset("original", "original.dcm", DICOM))
        report = {"findings": "Invalid X-Ray", "impression": "Uploaded Invalid X-RAY", "findings_list": []}
        return Outcome(
            "invalid", "not_implemented", reason=str(problem), result={"report": report}, assets=writer.assets
        )
    difference = measured.left_density - measured.right_density
    denser = "left" if difference > 0 else "right"
    suspicious = abs(difference) >= 0.08
    text = (
        f"The {denser} half of the image is denser in the lung field ({abs(difference):.2f})."
        if suspicious
        else "Both lung fields are equally dense."
    )
    impression = "Asymmetric opacity." if suspicious else "No abnormality found."
    findings_list = [["lungs", text], ["opacity", impression]]
    box = np.zeros(measured.pixels.shape, np.bool_)
    if suspicious:
        box[qure_measure.lung_fields(box.shape)[denser == "right"]] = True
    full = picture(measured.pixels, box, impression)
    writer.capture("sc", full, 1)
    writer.pictures(full)
    writer.add("original_thumbnail", "original_thumbnail.png", PNG, thumbnail(picture(measured.pixels, None, "")))
    shutil.copyfile(path, writer.folder / "original.dcm")
    writer.assets.append(Asset("original", "original.dcm", DICOM))
    writer.report("Chest radiograph report", [text, impression])
    overall = (_DENSITY_DIFFERENCE, abs(difference), codes.UCUM.NoUnits)
    writer.structured_report("report_sr", [reference], [text, impression], overall)
    result = {"report": {"findings": text, "impression": impression, "findings_list": findings_list}}
    triage = "Critical" if suspicious else "Routine"
    return Outcome("done", "qxr", triage, result=result, findings={"difference": difference}, assets=writer.assets)


def _slice_picture(series: Slices, index: int, nodules: Sequence[Nodule], title: str) -> Picture:
    """One slice in the lung window, 1500 HU around -600, with the outlines of the nodules in it."""
    hounsfield = series.hounsfield(index)
    mask = np.zeros(hounsfield.shape, np.bool_)
    for nodule in nodules:
        mask[nodule.in_slice(index)] = True
    return picture(window(hounsfield, -600, 1500), mask, title)


def _describe(nodule: dict[str, Any]) -> str:
    return (
        f"Nodule {nodule['id']}: {nodule['texture']}, {nodule['equivalent_diameter_mm']} mm"
        f" ({nodule['axial_diameter_mm']} mm in its slice), {nodule['volume_mm3']} mm3, {nodule['mean_hu']} HU,"
        f" at {' / '.join(map(str, nodule['center_mm']))} mm."
    )


def _progression(prior: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """Compare two chest CTs: nodules within 10 mm of each other in patient coordinates are taken as the same."""
    lines, old = [f"Compared with the study of {prior['study_date'] or 'unknown date'}."], list(prior["nodules"])
    for nodule in current["nodules"]:
        near = [known for known in old if np.linalg.norm(np.subtract(known["center_mm"], nodule["center_mm"])) <= 10]
        if near:
            known = near[0]
            old.remove(known)
            change = 100 * (nodule["volume_mm3"] / known["volume_mm3"] - 1)
            size = f"{known['volume_mm3']} to {nodule['volume_mm3']} mm3"
            lines.append(f"Nodule {nodule['id']}: volume {size}, {change:+.0f} %.")
        else:
            lines.append(f"Nodule {nodule['id']}: new, {nodule['volume_mm3']} mm3.")
    return lines + [f"Former nodule {known['id']} ({known['volume_mm3']} mm3): not found again." for known in old]
