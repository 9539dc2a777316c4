"""`platipy.dicom.download.tcia` (the retired gateway): lists, and one patient's images and contours as NIfTI files."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import requests
import SimpleITK
from clients.harness import FACTS, check, distinct, facts, finish
from platipy.dicom.download import tcia

CHEST = "ISO-CHEST-CT"
# It reads downloads byte by byte, which takes half a minute for one CT; the bytes are the same in larger pieces.
requests.Response.iter_content.__defaults__ = (1 << 16, False)

chest = facts(collection=CHEST)
(patient,) = distinct("patient", facts(modality="RTSTRUCT"))
check("collections", tcia.get_collections(), distinct("collection", FACTS))
check("patients", tcia.get_patients_in_collection(CHEST), distinct("patient", chest))
check("modalities", sorted(tcia.get_modalities_in_collection(CHEST)), distinct("modality", chest))
check("nothing", tcia.get_patients_in_collection("NO-SUCH-COLLECTION"), [])

with tempfile.TemporaryDirectory() as folder:
    fetched = tcia.fetch_data(CHEST, patient_ids=[patient], modalities=["CT", "RTSTRUCT"], output_directory=folder)[
        patient
    ]
    for modality in ("CT", "RTSTRUCT"):
        expected = facts(collection=CHEST, patient=patient, modality=modality)
        uids = {uid for folders in fetched["DICOM"].values() for uid in folders}
        check(f"{modality} series", set(distinct("series", expected)) <= uids)
    files = [path for path in Path(folder, CHEST, patient, "DICOM").rglob("*") if path.is_file()]
    expected = [fact for fact in facts(collection=CHEST, patient=patient) if fact["modality"] in ("CT", "RTSTRUCT")]
    hashes = sorted(hashlib.md5(path.read_bytes()).hexdigest() for path in files)
    check("DICOM files", hashes, sorted(fact["md5"] for fact in expected))

    images = [SimpleITK.ReadImage(str(path)) for path in fetched["NIFTI"]["IMAGES"]]
    cts = distinct("series", facts(collection=CHEST, patient=patient, modality="CT"))
    check(
        "images: slices", sorted(image.GetSize()[2] for image in images), sorted(len(facts(series=uid)) for uid in cts)
    )
    masks = [SimpleITK.ReadImage(str(path)) for path in fetched["NIFTI"]["STRUCTURES"]]
    check("contours", len(masks), 4)
    check("contours: not empty", all(SimpleITK.GetArrayViewFromImage(mask).any() for mask in masks))
    (of_contours,) = {mask.GetSize() for mask in masks}
    check("contours: on an image", of_contours in {image.GetSize() for image in images})

finish()
