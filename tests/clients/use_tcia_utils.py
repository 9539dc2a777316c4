"""`tcia_utils.nbia` (NBIA v4, shared carts on v1): its queries, counts, searches, reports and both ways to download."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import zipfile
from pathlib import Path

import pydicom
from clients.harness import FACTS, Fact, check, column, distinct, facts, finish, patients_by
from tcia_utils import nbia

CHEST, SHARED_LIST, SINCE = "ISO-CHEST-CT", "ISO_CHEST-NODULES_02-20-2024", "2024/01/01"
DOI = "https://doi.org/10.0000/ISO-CHEST-CT"
chest = facts(collection=CHEST)
recent = [fact for fact in chest if fact["released"] >= SINCE.replace("/", "-")]
(ct,) = distinct("series", facts(collection=CHEST, modality="CT", study=facts(modality="SEG")[0]["study"]))
(seg,), (rtstruct,) = (distinct("series", facts(modality=modality)) for modality in ("SEG", "RTSTRUCT"))


def same_files(what: str, folder: Path, expected: list[Fact]) -> None:
    """Check that a folder holds exactly these DICOM files, byte by byte and each readable."""
    paths = sorted(folder.rglob("*.dcm"))
    hashes = sorted(hashlib.md5(path.read_bytes()).hexdigest() for path in paths)
    check(f"{what}: the files", hashes, sorted(fact["md5"] for fact in expected))
    read = sorted(str(pydicom.dcmread(path).SOPInstanceUID) for path in paths)
    check(f"{what}: read by pydicom", read, distinct("sop", expected))


# Value lists. The archive puts an empty object in front where some series lack the value.
names = [row["Collection"] for row in nbia.getCollections()]
check("collections", names, sorted(distinct("collection", FACTS), key=str.upper))
body_parts = nbia.getBodyPart()
check("body parts", column(body_parts, "BodyPartExamined"), distinct("body_part", FACTS))
check("body parts: the missing one", body_parts[0], {})
check("body parts of CTs", nbia.getBodyPart(CHEST, "CT"), [{"BodyPartExamined": "CHEST"}])
check("modalities", column(nbia.getModality(CHEST), "Modality"), distinct("modality", chest))
check("modalities of a body part", column(nbia.getModality(bodyPart="BRAIN"), "Modality"), ["MR"])
makers = sorted({fact["manufacturer"].upper() for fact in FACTS if fact["manufacturer"]})
check("manufacturers", column(nbia.getManufacturer(), "Manufacturer"), makers)

# Patients and studies.
everybody = [(row["Collection"], row["PatientId"]) for row in nbia.getPatient()]
check("patients", sorted(everybody), sorted({(fact["collection"], fact["patient"]) for fact in FACTS}))
check("patients of a collection", column(nbia.getPatient(CHEST), "PatientId"), distinct("patient", chest))
check("collection in another case", column(nbia.getPatient(CHEST.lower()), "PatientId"), distinct("patient", chest))
with_seg = nbia.getPatientByCollectionAndModality(CHEST, "SEG")
check("patients with a SEG", column(with_seg, "PatientId"), distinct("patient", facts(modality="SEG")))
new = nbia.getNewPatientsInCollection(CHEST, SINCE)
check("new patients", column(new, "PatientId"), distinct("patient", recent))
studies = nbia.getStudy(CHEST, format="df")
check("studies", sorted(studies["StudyInstanceUID"]), distinct("study", chest))
for uid, count in zip(studies["StudyInstanceUID"], studies["SeriesCount"], strict=True):
    check(f"series of study {uid}", count, len(distinct("series", facts(study=uid))))
(patient,) = distinct("patient", facts(modality="SEG"))
check(
    "studies of a patient",
    column(nbia.getStudy(CHEST, patientId=patient), "StudyInstanceUID"),
    distinct("study", facts(collection=CHEST, patient=patient)),
)
new = nbia.getNewStudiesInPatient(CHEST, patient, SINCE)
fresh = [fact for fact in recent if fact["patient"] == patient]
check("new studies", column(new, "StudyInstanceUID"), distinct("study", fresh))

# Series.
series = nbia.getSeries()
check("series", column(series, "SeriesInstanceUID"), distinct("series", FACTS))
for row in series:
    files = facts(series=row["SeriesInstanceUID"])
    check(
        f"row of series {row['SeriesInstanceUID']}",
        (row["ImageCount"], row["FileSize"], row["Modality"], row["PatientID"], row["DateReleased"]),
        (
            len(files),
            sum(fact["size"] for fact in files),
            files[0]["modality"],
            files[0]["patient"],
            f"{files[0]['released'][5:]}-{files[0]['released'][:4]}",
        ),
    )
narrowed = nbia.getSeries(
    collection=CHEST,
    patientId=patient,
    studyUid=facts(series=ct)[0]["study"],
    seriesUid=ct,
    modality="ct",
    bodyPart="Chest",
    manufacturer=facts(series=ct)[0]["manufacturer"].lower(),
    manufacturerModel=facts(series=ct)[0]["model"],
)
check("series by all filters", column(narrowed, "SeriesInstanceUID"), [ct])
check("no series at all", nbia.getSeries(collection="NO-SUCH-COLLECTION"), None)
updated = {fact["series"] for fact in FACTS if fact["released"] > SINCE.replace("/", "-")}
check("updated series", column(nbia.getUpdatedSeries(SINCE), "SeriesInstanceUID"), sorted(updated))
check(
    "size of a series",
    nbia.getSeriesSize(ct),
    [{"TotalSizeInBytes": sum(fact["size"] for fact in facts(series=ct)), "ObjectCount": len(facts(series=ct))}],
)
check("SOP instances", column(nbia.getSopInstanceUids(ct), "SOPInstanceUID"), distinct("sop", facts(series=ct)))
table = nbia.getSeriesList(distinct("series", FACTS))
check("metadata of many series", sorted(table["SeriesInstanceUID"]), distinct("series", FACTS))
check("metadata: images", int(table["ImageCount"].sum()), len(FACTS))
check("metadata: bytes", int(table["FileSize"].sum()), sum(fact["size"] for fact in FACTS))
check("metadata of nothing known", nbia.getSeriesList(["1.2.3"]), None)
cart = column(nbia.getSharedCart(SHARED_LIST), "SeriesInstanceUID")
check("shared cart", {ct, seg, rtstruct} < set(cart) <= set(distinct("series", chest)))
check("unknown shared cart", nbia.getSharedCart("no-such-cart"), None)

# Counts and descriptions.
counts = [(row["Collection"], row["Count"]) for row in nbia.getCollectionPatientCounts()]
check("patients by collection", sorted(counts), patients_by("collection", FACTS))
counts = [(row["Modality"], row["Count"]) for row in nbia.getModalityCounts(CHEST)]
check("patients by modality", sorted(counts), patients_by("modality", chest))
counts = [(row["BodyPart"], row["Count"]) for row in nbia.getBodyPartCounts() if "BodyPart" in row]
check("patients by body part", sorted(counts), patients_by("body_part", FACTS))
counts = [(row["Manufacturer"], row["Count"]) for row in nbia.getManufacturerCounts() if "Manufacturer" in row]
everywhere = [{**fact, "manufacturer": fact["manufacturer"].upper()} for fact in FACTS]
check("patients by manufacturer", sorted(counts), patients_by("manufacturer", everywhere))
texts = nbia.getCollectionDescriptions(format="df", removeHtml="yes")
check("descriptions", sorted(texts["collectionName"]), distinct("collection", FACTS))
check("descriptions without markup", not any("<" in text for text in texts["description"]))
check("collections of a DOI", set(column(nbia.getDoiMetadata(DOI), "collection")), {CHEST})
check("series of a DOI", column(nbia.getDoiMetadata(DOI, "series"), "seriesInstanceUID"), distinct("series", chest))

# DICOM tags and what follows from them.
tags = nbia.getDicomTags(ct)
check("tags: first rows", list(tags["element"][:2]), ["(0002,0000)", "(0002,0001)"])
check("tags: series", list(tags[tags["element"] == "(0020,000E)"]["data"]), [ct])
check("tags: no pixels", not any(tags["element"] == "(7FE0,0010)"))
check("tags of an unknown series", nbia.getDicomTags("1.2.3"), None)
check("series of the SEG", nbia.getSegRefSeries(seg), ct)
check("series of the RTSTRUCT", nbia.getSegRefSeries(rtstruct), ct)
check("series of a CT", nbia.getSegRefSeries(ct), "N/A")
report = nbia.reportDicomTags([ct, seg], ["(0008,0060)"])
check("tag report", list(report["Modality (0008,0060)"]), ["CT", "SEG"])

# Search by criteria, manifests.
found = nbia.getSimpleSearch(collections=[CHEST], modalities=["CT", "SEG"], modalityAnded=True, species=["human"])
check("search", [row["subjectId"] for row in found["resultSet"]], distinct("patient", facts(modality="SEG")))
found = nbia.getSimpleSearch(collections=[CHEST], sortField="subject", sortDirection="descending", start=1, size=1)
check("search: second page", [row["subjectId"] for row in found["resultSet"]], distinct("patient", chest)[-2:-1])
check("search: all patients", found["totalPatients"], len(distinct("patient", chest)))
uids = nbia.getSimpleSearch(collections=[CHEST], bodyParts=["CHEST"], minStudies=2, patients=[patient], format="uids")
expected = facts(collection=CHEST, body_part="CHEST", patient=patient)
check("search: series", sorted(uids), distinct("series", expected))
# This version sends the name of the criterion instead of its value, so no date narrows the search, here and there.
uids = nbia.getSimpleSearch(collections=[CHEST], fromDate="1999/01/01", toDate="1999/01/02", format="uids")
check("search by date", sorted(uids), distinct("series", chest))

# Reports.
report = nbia.makeSeriesReport(nbia.getSeries(CHEST), format="var")
check(
    "series report",
    tuple(int(report[name]) for name in ("subjects", "studies", "series", "images")),
    (*(len(distinct(name, chest)) for name in ("patient", "study", "series")), len(chest)),
)
(summary,) = nbia.reportCollectionSummary(distinct("series", chest), input_type="list").to_dict("records")
check(
    "summary: images and bytes", (summary["Images"], summary["File Size"]), (len(chest), sum(f["size"] for f in chest))
)
check("summary: modalities", sorted(summary["Modalities"].split(", ")), distinct("modality", chest))

# Downloads: into folders, with hashes, as ZIP files, from a manifest; one image.
with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    wanted = nbia.getSeries(CHEST)
    got = nbia.downloadSeries(wanted, path="plain", format="df", max_workers=2)
    check("download: metadata", sorted(got["SeriesInstanceUID"]), distinct("series", chest))
    for uid in distinct("series", chest):
        same_files(f"download of {uid}", Path("plain", uid), facts(series=uid))
    check("download: license", (Path("plain") / ct / "LICENSE").read_text().count(CHEST) > 0)
    before = {path: path.stat().st_mtime_ns for path in Path("plain").rglob("*")}
    nbia.downloadSeries(wanted, path="plain")
    check("download again: nothing", {path: path.stat().st_mtime_ns for path in Path("plain").rglob("*")}, before)

    nbia.downloadSeries([seg], input_type="list", path="hashed", hash="y")
    rows = Path("hashed", seg, "md5hashes.csv").read_text().splitlines()
    check("hashes", [row.split(",")[1].lower() for row in rows[1:]], [fact["md5"] for fact in facts(series=seg)])

    text = nbia.getSimpleSearch(collections=[CHEST], modalities=["RTSTRUCT"], format="manifest_text")
    Path("some.tcia").write_text(text)
    check("manifest", nbia.manifestToList("some.tcia"), [rtstruct])
    nbia.downloadSeries("some.tcia", input_type="manifest", path="zipped", as_zip=True)
    with zipfile.ZipFile(Path("zipped", f"{rtstruct}.zip")) as archive:
        check("ZIP: members", (archive.testzip(), archive.namelist()), (None, ["LICENSE", "1-1.dcm"]))
        check("ZIP: read by pydicom", pydicom.dcmread(io.BytesIO(archive.read("1-1.dcm"))).SeriesInstanceUID, rtstruct)

    sop = facts(series=ct)[7]["sop"]
    nbia.downloadImage(ct, sop, path="one")
    same_files("one image", Path("one"), facts(sop=sop))
    nbia.downloadImage(ct, "1.2.3", path="none")
    check("unknown image", not Path("none").exists())
    os.chdir("/")

finish()
