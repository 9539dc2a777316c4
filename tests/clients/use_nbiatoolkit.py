"""`nbiatoolkit` (NBIA v2, v1 and unversioned, with a token): tokens, queries, counts, references, sorted downloads."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pydicom
import requests
from clients.harness import FACTS, check, column, distinct, facts, finish, patients_by
from nbiatoolkit import NBIAClient
from nbiatoolkit.dicomtags.tags import extract_ROI_info, getSequenceElement

CHEST, SINCE = "ISO-CHEST-CT", "2024-01-01"


def queries(client: NBIAClient) -> None:
    """Whatever can be asked without downloading."""
    chest = facts(collection=CHEST)
    recent = [fact for fact in FACTS if fact["released"] > SINCE]
    seg, rtstruct = (distinct("series", facts(modality=modality))[0] for modality in ("SEG", "RTSTRUCT"))
    (ct,) = distinct("series", facts(modality="CT", study=facts(series=seg)[0]["study"]))
    patient = facts(series=ct)[0]["patient"]

    names = [row["Collection"] for row in client.getCollections()]
    check("collections", names, sorted(distinct("collection", FACTS), key=str.upper))
    names = [name for name in distinct("collection", FACTS) if name.startswith("Isocenter")]
    check("collections by prefix", column(client.getCollections(prefix="isocenter"), "Collection"), names)
    (text,) = client.getCollectionDescriptions(CHEST)
    check("description", (text["Collection"], "<" in text["Description"]), (CHEST, False))
    counts = [(row["Collection"], int(row["PatientCount"])) for row in client.getCollectionPatientCount()]
    check("patients by collection", sorted(counts), patients_by("collection", FACTS))
    check("modalities", column(client.getModalityValues(CHEST), "Modality"), distinct("modality", chest))
    counts = [(row["Modality"], int(row["PatientCount"])) for row in client.getModalityValues(CHEST, Counts=True)]
    check("patients by modality", sorted(counts), patients_by("modality", chest))
    counts = [(row["criteria"], int(row["count"])) for row in client.getBodyPartCounts(CHEST)]
    check("patients by body part", sorted(counts), patients_by("body_part", chest))

    check("patients", column(client.getPatients(CHEST), "PatientId"), distinct("patient", chest))
    new = [fact for fact in recent if fact["collection"] == CHEST]
    check("new patients", column(client.getNewPatients(CHEST, SINCE), "PatientId"), distinct("patient", new))
    with_seg = column(client.getPatientsByCollectionAndModality(CHEST, "SEG"), "PatientId")
    check("patients with a SEG", with_seg, distinct("patient", facts(modality="SEG")))
    studies = client.getStudies(CHEST)
    check("studies", column(studies, "StudyInstanceUID"), distinct("study", chest))
    for row in studies:
        check("series of a study", row["SeriesCount"], len(distinct("series", facts(study=row["StudyInstanceUID"]))))
    of_patient = column(client.getStudies(CHEST, PatientID=patient), "StudyInstanceUID")
    check("studies of a patient", of_patient, distinct("study", facts(collection=CHEST, patient=patient)))

    for row in client.getSeries():
        files = facts(series=row["SeriesInstanceUID"])
        check(
            f"row of series {row['SeriesInstanceUID']}",
            (row["ImageCount"], row["FileSize"], row["Modality"], row["DateReleased"]),
            (
                len(files),
                sum(fact["size"] for fact in files),
                files[0]["modality"],
                f"{files[0]['released']} 00:00:00.0",
            ),
        )
    table = client.getSeries(Collection=CHEST, Modality="CT", return_type="dataframe")
    check(
        "series as a table",
        sorted(table["SeriesInstanceUID"]),
        distinct("series", facts(collection=CHEST, modality="CT")),
    )
    check("new series", column(client.getNewSeries(SINCE), "SeriesInstanceUID"), distinct("series", recent))
    for row in client.getSeriesMetadata([ct, seg]):
        files = facts(series=row["Series UID"])
        size = str(sum(fact["size"] for fact in files))
        check("metadata of a series", (row["Number of Images"], row["File Size"]), (str(len(files)), size))

    check("tags", column(client.getDICOMTags(ct), "name").count("Series Instance UID"), 1)
    check("path from tags", client.generateFilePathFromDICOMTags(ct), f"{patient}/CT-2-{ct[-5:]}/1.dcm")
    check("series of the RTSTRUCT", client.getRefSeriesUIDs(rtstruct), [ct])
    tags = client.getDICOMTags(rtstruct, "dataframe")
    regions = extract_ROI_info(getSequenceElement(tags, "StructureSetROISequence"))
    check("regions of the RTSTRUCT", all(region["ROIName"].startswith("Nodule") for region in regions.values()))
    check("region numbers", list(regions), ["1", "2", "3"])  # the toolkit leaves out the last of the four


def downloads(client: NBIAClient, folder: Path) -> None:
    """Two series in two processes; the toolkit compares hashes itself and sorts the files by their headers."""
    wanted = [*distinct("series", facts(modality="SEG")), *distinct("series", facts(modality="RTSTRUCT"))]
    wanted += distinct("series", facts(modality="MR"))[:1]
    check("download", client.downloadSeries(wanted, str(folder), nParallel=2))
    read = sorted(str(pydicom.dcmread(path).SOPInstanceUID) for path in folder.rglob("*.dcm"))
    check("files", read, sorted(sop for uid in wanted for sop in distinct("sop", facts(series=uid))))
    check("nothing but images", all(path.suffix == ".dcm" for path in folder.rglob("*") if path.is_file()))


def tokens(client: NBIAClient) -> None:
    """A token that runs out is replaced; one that was logged out is worth nothing."""
    first = client.OAuth_client.access_token
    check("a token is kept", client.OAuth_client.access_token, first)
    client.OAuth_client.expiry_time = 0
    second = client.OAuth_client.access_token
    check("a token is refreshed", second not in (None, first))
    check("the refreshed token opens", len(client.getCollections()), len(distinct("collection", FACTS)))
    headers = {"Authorization": f"Bearer {second}"}
    client.OAuth_client.logout()
    url = "https://services.cancerimagingarchive.net/nbia-api/services/v2/getCollectionValues"
    check("a token ends with the session", requests.get(url, headers=headers, timeout=10).status_code, 401)


# Guarded because the toolkit downloads in processes of its own, which may import this file.
if __name__ == "__main__":
    toolkit = NBIAClient(log_level="ERROR")
    queries(toolkit)
    with tempfile.TemporaryDirectory() as name:
        downloads(toolkit, Path(name))
    tokens(toolkit)
    finish()
