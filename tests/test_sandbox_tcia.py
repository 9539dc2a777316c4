"""The TCIA service of the sandbox over a real socket: formats, generations, downloads, and the data behind them."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import re
import shutil
import subprocess
import threading
import zipfile
from collections.abc import Generator, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import numpy as np
import pydicom
import pytest

from isocenter.sandbox import phantom
from isocenter.sandbox.app import Running
from isocenter.sandbox.tcia import OPERATIONS
from isocenter.sandbox.tcia import call as tcia_call
from isocenter.sandbox.tcia import downloads as tcia_downloads
from isocenter.sandbox.tcia import formats as tcia_formats
from isocenter.sandbox.tcia import store as tcia_store
from isocenter.sandbox.tcia.formats import BLOCK, Column, encode

V4, V1, V2, UNVERSIONED = (f"/nbia-api/services/{name}" for name in ("v4/", "v1/", "v2/", ""))
GATEWAY = "/services/v4/TCIA/query/"
FAILED = "Server was not able to process your request"


@pytest.fixture(scope="module")
def web(sandbox: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=sandbox.url) as client:
        yield client


def rows(answer: httpx.Response) -> list[dict[str, Any]]:
    """The rows of a JSON answer; an empty body is an empty list."""
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json() if answer.content else []
    return found


def one(answer: httpx.Response) -> dict[str, Any]:
    (row,) = rows(answer)
    return row


# The bytes of the formats. Expected values are the output of the archive's own formatter on made-up rows.

COLUMNS = [
    Column("SeriesInstanceUID", ""),
    Column("Modality", ""),
    Column("SeriesDate", "", "java.sql.Timestamp"),
    Column("SeriesNumber", "", "java.lang.Integer"),
    Column("AnnotationsFlag", "", "java.lang.Boolean"),
    Column("LicenseURI", ""),
    Column("SeriesDescription", ""),
]
FIRST = ("1.2.3", "CT", "2003-12-12 00:00:00.0", 2, 0, "http://x.org/by/3.0/", 'P4^P100, "a" <b> & c\'d')
SECOND = ("1.2.4", "MR", None, 500, None, None, "café 日本 tab\there back\\slash 50%20x &amp; </td>")
FIRST_XML = (
    "<Row><SeriesInstanceUID type='java.lang.String'>1.2.3</SeriesInstanceUID>"
    "<Modality type='java.lang.String'>CT</Modality>"
    "<SeriesDate type='java.sql.Timestamp'>2003-12-12 00:00:00.0</SeriesDate>"
    "<SeriesNumber type='java.lang.Integer'>2</SeriesNumber>"
    "<AnnotationsFlag type='java.lang.Boolean'>false</AnnotationsFlag>"
    "<LicenseURI type='java.lang.String'>http&#x3a;&#x2f;&#x2f;x.org&#x2f;by&#x2f;3.0&#x2f;</LicenseURI>"
    "<SeriesDescription type='java.lang.String'>P4&#x5e;P100, &quot;a&quot; &lt;b&gt; &amp; c&#x27;d</SeriesDescription>"
    "</Row>"
)
PROLOG = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?><Results>'


def written(format: str, columns: Sequence[Column], *table: Sequence[object]) -> str:
    return b"".join(encode(format, columns, table)).decode()


def test_json_leaves_nulls_out_and_escapes_slashes() -> None:
    assert written("JSON", COLUMNS, FIRST, SECOND) == (
        r'[{"SeriesInstanceUID":"1.2.3","Modality":"CT","SeriesDate":"2003-12-12 00:00:00.0","SeriesNumber":2,'
        r'"AnnotationsFlag":false,"LicenseURI":"http:\/\/x.org\/by\/3.0\/",'
        r'"SeriesDescription":"P4^P100, \"a\" <b> & c' + "'d\"},"
        r'{"SeriesInstanceUID":"1.2.4","Modality":"MR","SeriesNumber":500,'
        r'"SeriesDescription":"café 日本 tab\there back\\slash 50%20x &amp; <\/td>"}]'
    )


def test_csv_of_several_columns_quotes_everything() -> None:
    assert written("CSV", COLUMNS, FIRST, SECOND) == (
        '"SeriesInstanceUID","Modality","SeriesDate","SeriesNumber","AnnotationsFlag","LicenseURI","SeriesDescription"\n'
        '"1.2.3","CT","2003-12-12 00:00:00.0","2","false","http://x.org/by/3.0/","P4^P100, ""a"" <b> & c\'d"\n'
        '"1.2.4","MR","","500","","","café 日本 tab\there back\\slash 50%20x &amp; </td>"\n'
    )


def test_xml_and_html_stop_in_the_middle_of_text_that_is_escaped_in_two_ways() -> None:
    xml = written("XML", COLUMNS, FIRST, SECOND)
    html = written("HTML", COLUMNS, FIRST, SECOND)

    assert written("XML", COLUMNS, FIRST) == f"{PROLOG}{FIRST_XML}</Results>"
    assert xml.startswith(PROLOG + FIRST_XML)
    assert xml.endswith("<SeriesNumber type='java.lang.Integer'>500</SeriesNumber>")
    assert html.endswith("<TR><TD>1.2.4</TD><TD>MR</TD><TD>&nbsp;</TD><TD>500</TD><TD>&nbsp;</TD><TD>&nbsp;</TD>")


@pytest.mark.parametrize(
    ("format", "expected"),
    [
        ("JSON", r'[{},{"B":"ABD PEL"},{"B":"A\/B \"q\""},{"B":"GE, é"}]'),
        (
            "XML",
            f"{PROLOG}<Row></Row><Row><B type='java.lang.String'>ABD PEL</B></Row>"
            "<Row><B type='java.lang.String'>A&#x2f;B &quot;q&quot;</B></Row>"
            "<Row><B type='java.lang.String'>GE, &eacute;</B></Row></Results>",
        ),
        (
            "HTML",
            "<P ALIGN='center'><TABLE BORDER=1><TR><TH>B</TH></TR><TR><TD>&nbsp;</TD></TR><TR><TD>ABD PEL</TD></TR>"
            "<TR><TD>A&#x2f;B &quot;q&quot;</TD></TR><TR><TD>GE, &eacute;</TD></TR></TABLE></P>",
        ),
        ("CSV", 'B\n\n\nABD PEL\nA/B "q"\nGE, é\n'),
    ],
)
def test_a_value_list_starts_with_the_missing_value(format: str, expected: str) -> None:
    assert written(format, [Column("B", "")], [None], ["ABD PEL"], ['A/B "q"'], ["GE, é"]) == expected


def test_a_row_whose_first_cell_is_null_is_broken_in_csv() -> None:
    columns = [Column("Total", "", "java.math.BigDecimal"), Column("Count", "", "java.lang.Integer")]

    assert written("CSV", columns, [149149266, 250], [None, None]) == (
        '"Total","Count"\n"149149266.000000","250"\n","",""\n'
    )
    assert written("JSON", columns, [149149266, 250], [None, None]) == '[{"Total":149149266,"Count":250},{}]'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\\nb", "a&#xa;b"),
        ("\\x41", "A"),
        ("L&H", "L&amp;H"),
        ("AT&T;", "AT&amp;T&#x3b;"),
        ("5% 6%AB 7%zz", "5&#x25; 6&laquo; 7&#x25;zz"),
        ("&#65;", "A"),
        ("&ampersand", "&amp;ersand"),
        ("&#x110000;&unknown;", "&amp;&#x23;x110000&#x3b;&amp;unknown&#x3b;"),
        ("\\101\\u0041\\q", "AAq"),
        (
            "^_~`!@#$()[]{}:;'?+=|*",
            "&#x5e;_&#x7e;&#x60;&#x21;&#x40;&#x23;&#x24;&#x28;&#x29;&#x5b;&#x5d;&#x7b;&#x7d;&#x3a;&#x3b;&#x27;&#x3f;"
            "&#x2b;&#x3d;&#x7c;&#x2a;",
        ),
        ("\x01ctrl", "&#xfffd;ctrl"),
        ("T2\\FLAIR", "T2FLAIR"),
        ("😀", "&#xd83d;&#xde00;"),
        ("a%2541b", None),
        ("x &lt; %41", None),
    ],
)
def test_text_in_xml_is_unescaped_first_and_then_escaped_to_the_last_sign(text: str, expected: str | None) -> None:
    ending = "" if expected is None else f"<A type='java.lang.String'>{expected}</A></Row></Results>"

    assert written("XML", [Column("A", "")], [text]) == f"{PROLOG}<Row>{ending}"


# Every operation of every generation.


def checked_operations() -> list[tuple[str, str]]:
    return [(name, o.method) for name, o in OPERATIONS["v4"].items() if o.parameters is not None]


@pytest.mark.parametrize(("name", "method"), checked_operations())
def test_v4_refuses_a_parameter_it_does_not_know(web: httpx.Client, name: str, method: str) -> None:
    asked = web.get(V4 + name, params={"Frob": "1"}) if method == "GET" else web.post(V4 + name, data={"Frob": "1"})

    kind = "query" if method == "GET" else "form"
    assert asked.status_code == 400
    assert asked.text.startswith(f"Invalid {kind} parameter: 'Frob'. Allowed parameters are: [")
    assert asked.headers["content-type"] == OPERATIONS["v4"][name].produces[0]


@pytest.mark.parametrize("name", [name for name, o in OPERATIONS["v1"].items() if o.method == "GET"])
def test_v1_ignores_parameters_it_does_not_know(web: httpx.Client, name: str) -> None:
    with_it = web.get(V1 + name, params={"Frob": "1"})
    without = web.get(V1 + name)

    assert (with_it.status_code, with_it.content) == (without.status_code, without.content)


def test_the_label_of_an_error_follows_accept(web: httpx.Client) -> None:
    def label(accept: str) -> str:
        return web.get(f"{V4}getSeries?x=1", headers={"Accept": accept}).headers["content-type"]

    assert [label(a) for a in ("*/*", "text/csv;q=0.5", "text/*", "image/png")] == [
        "application/xml",
        "text/csv",
        "text/html",
        "application/xml",
    ]


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        (f"{V4}getImage", "A parameter, SeriesInstanceUID, is required for this API call."),
        (f"{V4}getImageWithMD5Hash", "A parameter, SeriesInstanceUID, is required for this API call."),
        (f"{V4}getDCMImage", "A parameter, SeriesInstanceUID, is required for this API call."),
        (f"{V4}getSeriesSize", "A parameter, SeriesInstanceUID is required for this API call."),
        (f"{V4}getSOPInstanceUIDs", "A parameter, SeriesInstanceUID is required for this API call."),
        (f"{V1}getSeriesMetaData", "A parameter, SeriesInstanceUID is required for this API call."),
        (f"{V1}getContentsByName", "A parameter, name is required for this API call."),
        (
            f"{V4}getPatientByCollectionAndModality?Collection=X",
            "A parameter, Collection and Modality, are required for this API call.",
        ),
        (
            f"{V4}NewPatientsInCollection?Collection=X",
            "A parameter, Collection and Date are required for this API call.",
        ),
        (
            f"{V1}NewStudiesInPatientCollection?Date=2020/01/01",
            "A parameter, Collection and Date are required for this API call.",
        ),
        (
            f"{V4}getSingleImage?SeriesInstanceUID=1.2",
            "A parameter, SeriesInstanceUID and SOPInstanceUID, are required for this API call.",
        ),
    ],
)
def test_a_missing_parameter_is_a_plain_sentence_labelled_json(web: httpx.Client, path: str, sentence: str) -> None:
    asked = web.get(path)

    assert (asked.status_code, asked.headers["content-type"], asked.text) == (400, "application/json", sentence)


@pytest.mark.parametrize("path", ["v4/nothing", "v3/getSeries", "v4/", "", "v4/getContentsByName", "v1/getDicomTags"])
def test_an_unknown_path_is_a_500(web: httpx.Client, path: str) -> None:
    asked = web.get(UNVERSIONED + path)

    assert (asked.status_code, asked.headers["content-type"]) == (500, "text/plain")
    assert asked.text == f"{FAILED}\nHTTP 404 Not Found"


@pytest.mark.parametrize("path", ["v4/getSeries", "v1/getImage", "up", "logout-not"])
def test_a_wrong_method_is_a_500(web: httpx.Client, path: str) -> None:
    wanted = "404 Not Found" if path.endswith("-not") else "405 Method Not Allowed"

    assert web.put(UNVERSIONED + path).text == f"{FAILED}\nHTTP {wanted}"
    assert web.get(f"{V4}getSeriesMetadata").text == f"{FAILED}\nHTTP 405 Method Not Allowed"


def test_the_application_answers_without_the_word_services(web: httpx.Client) -> None:
    assert web.get("/nbia-api/v4/getModalityValues").content == web.get(f"{V4}getModalityValues").content
    assert web.get("/nbia-api/services/up").text == "up"


def test_head_has_the_headers_and_no_body(web: httpx.Client) -> None:
    asked = web.head(f"{V4}getImage", params={"SeriesInstanceUID": phantom.CHEST_SEG})

    assert (asked.status_code, asked.content) == (200, b"")
    assert asked.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("format", ["JSON", "csv", "Xml", "html", "nonsense"])
@pytest.mark.parametrize("generation", [V4, V1])
def test_nothing_found_is_an_empty_body_without_a_type(web: httpx.Client, generation: str, format: str) -> None:
    asked = web.get(f"{generation}getSeries", params={"Collection": "", "format": format})

    assert (asked.status_code, asked.content, asked.headers["content-length"]) == (200, b"", "0")
    assert "content-type" not in asked.headers


def test_an_unknown_format_fails_once_there_are_rows(web: httpx.Client) -> None:
    asked = web.get(f"{V4}getSeries", params={"format": "yaml"})
    one_column = web.get(f"{V4}getCollectionValues", params={"format": "csvquoted"})

    assert (asked.status_code, asked.text, asked.headers["content-type"]) == (500, FAILED, "application/xml")
    assert one_column.status_code == 500


def test_the_format_is_chosen_by_the_parameter_in_any_case(web: httpx.Client) -> None:
    def label(path: str, format: str) -> tuple[str, str | None]:
        headers = web.get(V4 + path, params={"format": format}, headers={"Accept": "text/html"}).headers
        return headers["content-type"], headers.get("content-disposition")

    download = 'attachment; filename="SeriesMetaData.csv"'
    assert label("getSeries", "json") == ("application/json", None)
    assert label("getSeries", "Csv") == ("text/csv", None)
    assert label("getSeries", "CSVQUOTED") == ("text/csv", None)
    assert label("getSeries", "csv-download") == ("text/csv", download)
    assert label("getSeries", "xml") == ("application/xml", None)
    assert label("getSeries", "html") == ("text/html", None)
    assert label("getModalityValues", "csv-download") == ("application/force-download", download)


# Searches.


def test_value_lists_are_ordered_regardless_of_case_with_the_missing_value_first(web: httpx.Client) -> None:
    assert rows(web.get(f"{V4}getCollectionValues")) == [
        {"Collection": "Iso-Brain-MR"},
        {"Collection": "ISO-CHEST-CT"},
        {"Collection": "ISO-QC-PHANTOM"},
        {"Collection": "Isocenter Radiographs"},
    ]
    assert rows(web.get(f"{V4}getBodyPartValues")) == [{}, {"BodyPartExamined": "BRAIN"}, {"BodyPartExamined": "CHEST"}]
    assert rows(web.get(f"{V4}getManufacturerValues", params={"Collection": "iso-brain-mr"})) == [
        {},
        {"Manufacturer": "ISOCENTER SYNTHETIC IMAGING"},
    ]
    assert rows(web.get(f"{V1}getManufacturerValues", params={"Modality": "CT"})) == [
        {"Manufacturer": "Isocenter Synthetic Imaging"}
    ]
    assert rows(web.get(f"{V4}getModalityValues", params={"BodyPartExamined": "brain"})) == [{"Modality": "MR"}]


def test_a_series_row_of_v4_has_its_keys_in_order(web: httpx.Client) -> None:
    row = one(web.get(f"{V4}getSeries", params={"SeriesInstanceUID": phantom.CHEST_RTSTRUCT}))

    assert list(row.items()) == [
        ("SeriesInstanceUID", phantom.CHEST_RTSTRUCT),
        ("StudyInstanceUID", phantom.CHEST_STUDY),
        ("Modality", "RTSTRUCT"),
        ("SeriesDate", "03-04-2021"),
        ("SeriesDescription", "Nodule contours phantom"),
        ("SeriesNumber", 101),
        ("AnnotationsFlag", "true"),
        ("Collection", "ISO-CHEST-CT"),
        ("Site", "ISO-WEST"),
        ("PatientID", "PAT-0001"),
        ("PatientSex", "F"),
        ("PatientAge", "061Y"),
        ("Manufacturer", "Isocenter Synthetic Imaging"),
        ("ManufacturerModelName", "Phantom One"),
        ("SoftwareVersions", "1.0"),
        ("ImageCount", 1),
        ("MaxSubmissionTimestamp", "04-30-2023"),
        ("LicenseName", "Creative Commons Attribution 4.0 International License"),
        ("LicenseURI", "https://creativecommons.org/licenses/by/4.0/"),
        ("DataDescriptionURI", "https://doi.org/10.0000/ISO-CHEST-CT"),
        ("FileSize", row["FileSize"]),
        ("ReleasedStatus", "Yes"),
        ("DateReleased", "05-15-2023"),
        ("StudyDesc", "CT chest phantom, baseline"),
        ("StudyDate", "03-04-2021"),
        ("ThirdPartyAnalysis", "YES"),
        ("Authorized", 1),
    ]


def test_a_series_row_of_v1_has_timestamps_and_older_names(web: httpx.Client) -> None:
    row = one(web.get(f"{V1}getSeries", params={"SeriesInstanceUID": phantom.CHEST_RTSTRUCT}))

    assert row["SeriesDate"] == "2021-03-04 00:00:00.0"
    assert row["AnnotationsFlag"] is True
    assert row["TimeStamp"] == "2023-04-30 10:15:42.0"
    assert row["CollectionURI"] == "https://doi.org/10.0000/ISO-CHEST-CT"
    assert row["DateReleased"] == "2023-05-15 00:00:00.0"
    assert not {"Site", "PatientSex", "ReleasedStatus", "Authorized", "MaxSubmissionTimestamp"} & set(row)


def test_the_rows_are_the_same_in_every_format(web: httpx.Client) -> None:
    def asked(format: str) -> httpx.Response:
        return web.get(f"{V4}getSeries", params={"format": format})

    plain = [{name: str(value) for name, value in row.items()} for row in rows(asked("json"))]
    table = list(csv.DictReader(io.StringIO(asked("csv").text)))
    tree = ElementTree.fromstring(asked("xml").text)
    xml = [{cell.tag: cell.text or "" for cell in row} for row in tree]

    for row in table + xml:
        row["SeriesNumber"] = str(int(Decimal(row["SeriesNumber"])))
    assert xml == plain
    assert [{name: value for name, value in row.items() if value} for row in table] == plain
    assert asked("html").text.count("<TR>") == len(plain) + 1


def test_v4_ignores_case_but_not_in_uids_and_patient_ids(web: httpx.Client) -> None:
    def count(operation: str, **params: str) -> int:
        return len(rows(web.get(V4 + operation, params=params)))

    assert count("getSeries", Collection="iso-chest-ct") == count("getSeries", Collection="ISO-CHEST-CT") == 5
    assert count("getSeries", PatientID="pat-0101") == 2
    assert count("getSeries", Modality="ct", BodyPartExamined="chest") == 3
    assert count("getSeries", Manufacturer="isocenter synthetic imaging", ManufacturerModelName="PHANTOM ONE") > 5
    assert count("getSeries", StudyInstanceUID=phantom.CHEST_STUDY) == 3
    assert count("getPatient", PatientId="Pat-0101") == 1
    assert count("getPatient", PatientId="pat-0101") == 0


def test_v1_ignores_case_only_where_the_archive_does(web: httpx.Client) -> None:
    def count(operation: str, **params: str) -> int:
        return len(rows(web.get(V1 + operation, params=params)))

    assert count("getSeries", Collection="iso-chest-ct", PatientID="pat-0001") == 4
    assert count("getSeries", Modality="ct") == 0
    assert count("getPatient", PatientId="pat-0001") == 2
    assert count("getPatient", PatientId="Pat-0101") == 0
    assert count("getPatientByCollectionAndModality", Collection="ISO-CHEST-CT", Modality="CT") == 2
    assert count("getPatientByCollectionAndModality", Collection="Iso-Brain-MR", Modality="MR") == 0
    assert count("getPatientByCollectionAndModality", Collection="ISO-BRAIN-MR", Modality="MR") == 1
    assert count("NewStudiesInPatientCollection", Collection="ISO-CHEST-CT", Date="2020/01/01") == 3
    assert count("NewStudiesInPatientCollection", Collection="Iso-Brain-MR", Date="2020/01/01") == 0


def test_of_a_repeated_parameter_the_first_value_counts(web: httpx.Client) -> None:
    asked = web.get(f"{V4}getSeries?Modality=SEG&Modality=CT")

    assert [row["Modality"] for row in rows(asked)] == ["SEG"]


def test_patients_have_one_row_per_collection(web: httpx.Client) -> None:
    v4 = rows(web.get(f"{V4}getPatient", params={"PatientId": "PAT-0001"}))
    v1 = rows(web.get(f"{V1}getPatient", params={"Collection": "iso-qc-phantom"}))

    shared = {"SpeciesCode": "337915000", "SpeciesDescription": "Homo sapiens"}
    both = {"PatientId": "PAT-0001", "PatientName": "PAT-0001", "PatientSex": "F"}
    assert v4 == [
        {**both, "Collection": "ISO-CHEST-CT", "Phantom": "NO", **shared, "Authorized": 1},
        {**both, "Collection": "Isocenter Radiographs", "Phantom": "NO", **shared, "Authorized": 1},
    ]
    assert v1 == [
        {"PatientId": "QC-WATER", "PatientName": "QC-WATER", "Collection": "ISO-QC-PHANTOM", "Phantom": "YES", **shared}
    ]


def test_a_patient_has_studies_with_their_number_of_series(web: httpx.Client) -> None:
    found = rows(web.get(f"{V4}getPatientStudy", params={"PatientID": "PAT-0001", "Collection": "ISO-CHEST-CT"}))

    assert [(row["StudyDate"], row["SeriesCount"]) for row in found] == [("03-04-2021", 3), ("09-10-2021", 1)]
    assert [row["LongitudinalTemporalOffsetFromEvent"] for row in found] == [0, 190]
    csv_text = web.get(f"{V4}getPatientStudy", params={"StudyInstanceUID": phantom.CHEST_STUDY, "format": "csv"}).text
    assert '"ENROLLMENT","0.000000","1"' in csv_text


def test_new_since_compares_with_the_release_and_counts_only_what_is_new(web: httpx.Client) -> None:
    def studies(generation: str, **params: str) -> list[int]:
        asked = web.get(f"{generation}NewStudiesInPatientCollection", params={"Collection": "ISO-CHEST-CT", **params})
        return [row["SeriesCount"] for row in rows(asked)]

    assert studies(V4, fromDate="05-15-2023") == [3, 1, 1]
    assert studies(V4, fromDate="05-16-2023") == [1, 1]
    assert studies(V4, fromDate="02-20-2024", PatientID="pat-0002") == [1]
    assert studies(V4, fromDate="2-21-2024") == []
    assert studies(V1, Date="2023/05/14") == [3, 1, 1]
    assert studies(V1, Date="2023/05/15") == [1, 1]
    patients = web.get(f"{V4}NewPatientsInCollection", params={"Collection": "iso-chest-ct", "fromDate": "02-20-2024"})
    assert [row["PatientId"] for row in rows(patients)] == ["PAT-0001", "PAT-0002"]


def test_updated_series_are_those_released_after_the_day(web: httpx.Client) -> None:
    everything = len(rows(web.get(f"{V4}getSeries")))

    assert len(rows(web.get(f"{V4}getUpdatedSeries"))) == everything
    late = rows(web.get(f"{V4}getUpdatedSeries", params={"fromDate": "05-15-2023"}))
    assert {row["DateReleased"] for row in late} == {"02-20-2024"}
    assert rows(web.get(f"{V4}getUpdatedSeries", params={"fromDate": "02-20-2024"})) == []
    older = rows(web.get(f"{V1}getUpdatedSeries", params={"fromDate": "15/05/2023"}))
    assert {row["SeriesInstanceUID"] for row in older} == {row["SeriesInstanceUID"] for row in late}
    assert list(older[0])[-2:] == ["ImageCount", "DateReleased"]


@pytest.mark.parametrize("date", ["2023-05-15", "13-01-2023", "02-30-2023", "", "today", "05/15/2023"])
def test_a_malformed_date_matches_nothing(web: httpx.Client, date: str) -> None:
    assert web.get(f"{V4}getUpdatedSeries", params={"fromDate": date}).content == b""


def test_an_unknown_series_has_no_size_in_v4_and_an_empty_one_before(web: httpx.Client) -> None:
    assert web.get(f"{V4}getSeriesSize?SeriesInstanceUID=1.2").content == b""
    assert web.get(f"{V1}getSeriesSize?SeriesInstanceUID=1.2").text == "[{}]"
    assert web.get(f"{V1}getSeriesSize?SeriesInstanceUID=1.2&format=csv").text.endswith('\n","",""\n')


def test_series_metadata_of_v1_is_all_text_without_punctuation(web: httpx.Client) -> None:
    row = one(web.get(f"{V1}getSeriesMetaData", params={"SeriesInstanceUID": phantom.LOW_DOSE_CT}))

    assert all(isinstance(value, str) for value in row.values())
    assert list(row)[:3] == ["Series UID", "Collection", "Data Description URI"]
    assert row["Series Description"] == "P2Chest low dose 50 phantom  test  its"
    assert row["Study Description"] == "Screening phantom 12  more"
    assert (row["Study Date"], row["Series Number"], row["File Location"]) == ("01-01-2020", "1000001.000000", "B1")
    assert row["Date Released"] == "Tue Feb 20 00:00:00 UTC 2024"
    assert web.get(f"{V1}getSeriesMetaData?SeriesInstanceUID=1.2").status_code == 204


@pytest.mark.parametrize("joined", [True, False])
def test_series_metadata_of_v4_takes_a_list(web: httpx.Client, joined: bool) -> None:
    uids = [phantom.CHEST_CT, phantom.BRAIN_LOCALIZER]
    form = {"list": f" {uids[0]}, '{uids[1]}'"} if joined else {"list": uids}

    asked = web.post(f"{V4}getSeriesMetadata", data=form)

    assert asked.headers["content-type"] == "text/csv"
    assert asked.headers["content-disposition"] == 'attachment; filename="SeriesMetaData.csv"'
    found = {row["SeriesInstanceUID"]: row for row in csv.DictReader(io.StringIO(asked.text))}
    assert set(found) == set(uids)
    assert list(found[uids[0]]) == [column.name for column in tcia_store.METADATA_V4]
    chest = found[phantom.CHEST_CT]
    assert (chest["PixelSpacing(mm)-Row"], chest["SliceThickness(mm)"]) == ("1.500000", "2.500000")
    assert (chest["SeriesNumber"], chest["StudyDesc"]) == ("2.000000", "CT chest phantom, baseline")
    assert chest["SeriesDescription"] == 'Chest phantom 2.5 mm, "lung/soft"'


def test_series_metadata_of_v4_in_other_formats(web: httpx.Client) -> None:
    row = one(web.post(f"{V4}getSeriesMetadata", data={"list": phantom.WATER_CT, "format": "json"}))
    combined = web.post(f"{V4}getSeriesMetadataCombined", data={"list": phantom.WATER_CT}).text
    nothing = web.post(f"{V4}getSeriesMetadata", data={"list": "1.2"})

    assert (row["Phantom"], row["ImageCount"], row["Authorized"]) == ("YES", 4, 1)
    assert combined.startswith('"Patient ID","Patient Name","Patient Sex","Ethnic Group","Phantom","Species Code"')
    assert '"Series Instance UID","Project","Modality"' in combined
    assert nothing.content == b""


@pytest.mark.parametrize("form", [{}, {"list": ""}, {"list": "abc"}])
def test_series_metadata_without_a_uid_is_refused(web: httpx.Client, form: dict[str, str]) -> None:
    asked = web.post(f"{V4}getSeriesMetadata", data=form)

    assert (asked.status_code, asked.headers["content-type"]) == (400, "application/json")
    assert asked.text == "A form parameter, list, containing at least one SeriesInstanceUID is required."


def test_ten_thousand_uids_are_one_request(web: httpx.Client) -> None:
    uids = [phantom.CHEST_CT, *(phantom.uid("none", str(number)) for number in range(10_000))]

    assert len(rows(web.post(f"{V4}getSeriesMetadata", data={"list": ",".join(uids), "format": "json"}))) == 1


def test_a_form_that_is_too_long_is_not_read_to_its_end(web: httpx.Client) -> None:
    asked = web.post(f"{V4}getSeriesMetadata", content=b"list=" + b"1" * (17 << 20))

    assert asked.status_code == 500


def test_counts_are_patients(web: httpx.Client) -> None:
    assert rows(web.get(f"{V4}getCollectionValuesAndCounts?anything=1"))[1] == {
        "Collection": "ISO-CHEST-CT",
        "Count": 2,
        "Authorized": 1,
    }
    assert rows(web.get(f"{V4}getModalityValuesAndCounts", params={"Collection": "ISO-CHEST-CT"})) == [
        {"Modality": "CT", "Count": 2, "Authorized": 1},
        {"Modality": "RTSTRUCT", "Count": 1, "Authorized": 1},
        {"Modality": "SEG", "Count": 1, "Authorized": 1},
    ]
    assert rows(web.get(f"{V4}getBodyPartValuesAndCounts", params={"Modality": "dx"})) == [
        {"BodyPart": "CHEST", "Count": 2, "Authorized": 1}
    ]
    assert rows(web.get(f"{V4}getSpeciesValuesAndCounts"))[0]["Species"] == "337915000"
    assert web.get(f"{V4}getModalityValuesAndCounts?Collection=none").content == b""


def test_little_lists(web: httpx.Client) -> None:
    description = one(web.get(f"{V4}getCollectionDescriptions", params={"collectionName": "iso-brain-mr"}))

    assert list(description) == ["description", "id", "collectionName", "descriptionURI"]
    assert description["descriptionURI"] == "https://doi.org/10.0000/ISO-BRAIN-MR"
    assert "https://doi.org/10.0000/" in web.get(f"{V4}getCollectionDescriptions").text
    assert rows(web.get(f"{V4}getCollectionDescriptions?collectionName=none")) == []
    assert rows(web.get(f"{V4}getSpeciesTax")) == [{"speciesCode": "337915000", "speciesDescription": "Homo sapiens"}]
    assert web.get(f"{V4}getMinMaxTimepoints").json() == {
        "maxTimepoints": {"ENROLLMENT": 190},
        "minTimepoints": {"ENROLLMENT": 0},
    }


@pytest.mark.parametrize("doi", ["10.0000/ISO-CHEST-CT", "https://doi.org/10.0000/ISO-CHEST-CT"])
def test_a_doi_leads_to_collections_or_series(web: httpx.Client, doi: str) -> None:
    collections = web.post(f"{V4}getCollectionOrSeriesForDOI", data={"DOI": doi}).json()
    series = web.post(f"{V4}getCollectionOrSeriesForDOI", data={"DOI": doi, "CollectionOrSeries": "series"}).json()

    assert {"collection": "ISO-CHEST-CT", "thirdPartyAnanlysis": "YES", "authorized": 1} in collections
    assert len(series) == 5
    assert set(series[0]) == {"collection", "seriesInstanceUID", "thirdPartyAnanlysis", "authorized"}
    assert web.post(f"{V4}getCollectionOrSeriesForDOI", data={"DOI": "10.0000/none"}).content == b"[]"


# Downloads.


def archive_of(answer: httpx.Response) -> zipfile.ZipFile:
    assert answer.status_code == 200, answer.text
    found = zipfile.ZipFile(io.BytesIO(answer.content))
    assert found.testzip() is None
    return found


def test_every_list_size_and_download_agree(web: httpx.Client) -> None:
    studies = {row["StudyInstanceUID"]: row["SeriesCount"] for row in rows(web.get(f"{V4}getPatientStudy"))}
    listed = rows(web.get(f"{V4}getSeries"))
    assert sum(studies.values()) == len(listed)

    for series in listed:
        uid = series["SeriesInstanceUID"]
        size = one(web.get(f"{V4}getSeriesSize", params={"SeriesInstanceUID": uid}))
        sops = [row["SOPInstanceUID"] for row in rows(web.get(f"{V4}getSOPInstanceUIDs?SeriesInstanceUID={uid}"))]
        files = archive_of(web.get(f"{V4}getImage", params={"SeriesInstanceUID": uid}))
        images = [files.read(name) for name in files.namelist() if name.endswith(".dcm")]
        headers = [pydicom.dcmread(io.BytesIO(image), stop_before_pixels=True) for image in images]
        assert series["ImageCount"] == size["ObjectCount"] == len(sops) == len(images)
        assert series["FileSize"] == size["TotalSizeInBytes"] == sum(map(len, images))
        assert sorted(header.SOPInstanceUID for header in headers) == sorted(sops)
        assert {header.SeriesInstanceUID for header in headers} == {uid}
        assert {header.PatientID for header in headers} == {series["PatientID"]}


def test_a_download_is_chunked_and_has_the_license_first(web: httpx.Client) -> None:
    asked = web.get(f"{V4}getImage", params={"SeriesInstanceUID": phantom.BRAIN_T1})
    files = archive_of(asked)

    assert asked.headers["content-type"] == "application/octet-stream"
    assert asked.headers["content-disposition"] == f'attachment; filename="{phantom.BRAIN_T1}.zip"'
    assert asked.headers["transfer-encoding"] == "chunked"
    assert files.namelist() == ["LICENSE", *(f"{number:08d}.dcm" for number in range(1, 25))]
    license, policy = files.read("LICENSE").decode().splitlines()
    assert "Iso-Brain-MR" in license
    assert "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)" in license
    assert "must not attempt to identify" in policy


def test_new_file_names_count_acquisitions_and_images(web: httpx.Client) -> None:
    def names(uid: str) -> list[str]:
        return archive_of(web.get(f"{V4}getImage?SeriesInstanceUID={uid}&NewFileNames=yes")).namelist()[1:]

    assert names(phantom.BRAIN_T1) == [f"{a}-{i:02d}.dcm" for a in (1, 2) for i in range(1, 13)]
    assert names(phantom.BRAIN_LOCALIZER) == ["1-1.dcm", "1-2.dcm", "1-3.dcm"]
    assert names(phantom.CHEST_CT)[:2] == ["1-001.dcm", "1-002.dcm"]


@pytest.mark.parametrize(
    ("query", "license"), [("getImage?IncludeMD5=Yes&", True), ("getImageWithMD5Hash?", False)], ids=["get", "withMD5"]
)
def test_hashes_come_last_and_are_right(web: httpx.Client, query: str, license: bool) -> None:
    files = archive_of(web.get(f"{V4}{query}SeriesInstanceUID={phantom.BRAIN_LOCALIZER}"))

    names = files.namelist()
    assert (names[0] == "LICENSE", names[-1]) == (license, "md5hashes.csv")
    header, *listed = files.read("md5hashes.csv").decode().splitlines()
    assert header == "Filename,MD5Hash"
    assert dict(line.split(",") for line in listed) == {
        name: hashlib.md5(files.read(name)).hexdigest() for name in names if name.endswith(".dcm")
    }


def test_the_retrievers_download_has_uids_in_its_names(web: httpx.Client) -> None:
    query = f"SeriesInstanceUID={phantom.BRAIN_LOCALIZER}&MD5Verification=true"
    names = archive_of(web.get(f"{V4}getDCMImage?{query}")).namelist()

    assert names[0] == f"{phantom.uid(phantom.BRAIN_LOCALIZER, '1')}^1-1.dcm"
    assert names[-1] == "md5hashes.csv"


@pytest.mark.parametrize("operation", ["getImage", "getImageWithMD5Hash", "getDCMImage"])
def test_a_series_that_is_not_there_is_refused_in_the_words_of_the_generation(
    web: httpx.Client, operation: str
) -> None:
    v4 = web.get(f"{V4}{operation}?SeriesInstanceUID=1.2")
    v1 = web.get(f"{V1}{operation}?SeriesInstanceUID=1.2")

    assert (v4.status_code, v4.headers["content-type"]) == (400, "application/json")
    assert v4.text == (
        "The user has not been granted the access to image with given SeriesInstanceUID,1.2."
        " Please contact System Admin to resolve this issue."
    )
    assert v1.text == "Image with given SeriesInstanceUID,1.2, is not in public domain."


def test_a_single_image_and_its_hash(web: httpx.Client) -> None:
    sop = phantom.uid(phantom.CHEST_DX, "1")
    found = web.get(f"{V4}getSingleImage?SeriesInstanceUID={phantom.CHEST_DX}&SOPInstanceUID={sop}")
    missing = web.get(f"{V4}getSingleImage?SeriesInstanceUID={phantom.CHEST_DX}&SOPInstanceUID=1.2")

    assert found.headers["content-type"] == "application/dicom"
    assert found.headers["content-disposition"] == f"attachment; filename={sop}.dcm"
    md5 = hashlib.md5(found.content).hexdigest()
    assert web.get(f"{V4}getMD5HashForImage?SOPInstanceUID={sop}").text == md5
    assert web.get(f"{V1}getM5HashForImage?SOPInstanceUid={sop}").text == md5
    assert web.get(f"{V4}getMD5HashForImage?SOPInstanceUID=1.2").text == ""
    assert (missing.status_code, missing.text) == (500, f"{FAILED}\nnull")


def test_a_hash_over_a_level_depends_on_all_its_files(web: httpx.Client) -> None:
    def digest(**form: str) -> str:
        return web.post(f"{V4}getMD5Hierarchy", data=form).text

    study = digest(StudyInstanceUID=phantom.CHEST_STUDY)
    assert re.fullmatch("[0-9a-f]{32}", study)
    assert study != digest(SeriesInstanceUID=phantom.CHEST_CT)
    assert digest() == ""


def test_a_thumbnail_is_a_jpeg(web: httpx.Client) -> None:
    sop = phantom.uid(phantom.CHEST_CT, "60")
    found = web.post(f"{V4}getThumbnail", data={"seriesUID": phantom.CHEST_CT, "objectUID": sop})
    missing = web.post(f"{V4}getThumbnail", data={"seriesUID": phantom.CHEST_CT, "objectUID": "1.2"})

    assert (found.headers["content-type"], found.content[:3]) == ("image/jpeg", b"\xff\xd8\xff")
    assert missing.status_code == 400


def test_tags_are_listed_file_meta_first_with_sequences_opened_and_closed(web: httpx.Client) -> None:
    found = web.get(f"{V4}getDicomTags", params={"SeriesUID": phantom.CHEST_SEG}).json()

    listed = [(row["element"], row["name"], row["data"]) for row in found]
    assert listed[0][:2] == ("(0002,0000)", "File Meta Information Group Length")
    assert ("(0008,0060)", "Modality", "SEG") in listed
    assert ("(0008,0008)", "Image Type", "DERIVED\\PRIMARY") in listed
    opened = listed.index(("(0062,0002)", "Segment Sequence", None))
    closed = listed.index(("(0062,0002)", "End Segment Sequence", None))
    assert (">(0062,0005)", "Segment Label", "Nodule right upper lobe") in listed[opened:closed]
    assert "(7FE0,0010)" not in {row["element"] for row in found}
    assert web.get(f"{V4}getDicomTags?SeriesUID=1.2").status_code == 400


def test_zip_files_beyond_the_old_limits_are_readable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tcia_downloads, "_LARGE", 1000)
    noise = np.random.default_rng(1).bytes(3 * BLOCK)
    (tmp_path / "noise").write_bytes(noise)
    members: list[tuple[str, Path | bytes]] = [("small", b"x"), ("noise", tmp_path / "noise"), ("last", b"y" * 5000)]

    pieces = list(tcia_downloads.zipped(members, datetime(2026, 11, 25, 13, 14, 16)))

    files = zipfile.ZipFile(io.BytesIO(b"".join(pieces)))
    assert [files.read(name) for name in files.namelist()] == [b"x", noise, b"y" * 5000]
    assert files.infolist()[0].date_time == (2026, 11, 25, 13, 14, 16)
    assert max(map(len, pieces)) < 2 * BLOCK + 1000


# The portal's operations.


def test_a_criteria_search_pages_and_counts(web: httpx.Client) -> None:
    form = {
        "criteriaType0": "CollectionCriteria",
        "value0": "ISO-CHEST-CT",
        "criteriaType1": "CollectionCriteria",
        "value1": "Iso-Brain-MR",
        "sortField": "subject",
        "sortDirection": "descending",
        "start": "0",
        "size": "2",
    }

    page = web.post(f"{V4}getSimpleSearch", data=form).json()
    rest = web.post(f"{V4}getSimpleSearch", data={**form, "start": "2"}).json()

    assert page["totalPatients"] == rest["totalPatients"] == 3
    assert [patient["subjectId"] for patient in page["resultSet"]] == ["Pat-0101", "PAT-0002"]
    (last,) = rest["resultSet"]
    assert (last["subjectId"], last["totalNumberOfStudies"], last["totalNumberOfSeries"]) == ("PAT-0001", 2, 4)
    assert last["timepoints"] == {"ENROLLMENT": [0, 190]}
    assert last["studyIdentifiers"][0]["seriesAndModality"][1]["modality"] == "SEG"
    assert {"value": "CT", "count": 2} in page["modalities"]
    assert {"value": "Iso-Brain-MR", "count": 1} in page["collections"]


@pytest.mark.parametrize(
    ("criteria", "patients"),
    [
        ([("ImageModalityCriteria", "SEG"), ("ImageModalityCriteria", "DX")], {"PAT-0001", "PAT-0201"}),
        (
            [
                ("ImageModalityCriteria", "CT"),
                ("ImageModalityCriteria", "SEG"),
                ("ModalityAndedSearchCriteria", "all"),
            ],
            {"PAT-0001"},
        ),
        ([("MinNumberOfStudiesCriteria", "2")], {"PAT-0001"}),
        ([("AnatomicalSiteCriteria", "BRAIN")], {"Pat-0101"}),
        ([("PatientCriteria", "QC-WATER")], {"QC-WATER"}),
    ],
)
def test_criteria_narrow_a_search(web: httpx.Client, criteria: list[tuple[str, str]], patients: set[str]) -> None:
    form = {"sortField": "series", "sortDirection": "ascending", "start": "0", "size": "99"}
    for number, (kind, value) in enumerate(criteria):
        form |= {f"criteriaType{number}": kind, f"value{number}": value}

    found = web.post(f"{V4}getSimpleSearch", data=form).json()["resultSet"]

    assert {patient["subjectId"] for patient in found} == patients


def test_a_search_by_date_of_release(web: httpx.Client) -> None:
    form = {"sortField": "studies", "sortDirection": "ascending", "start": "0", "size": "99"}
    form |= {"criteriaType0": "DateRangeCriteria", "fromDate0": "05-01-2023", "toDate0": "05-31-2023"}

    found = web.post(f"{V4}getSimpleSearch", data=form).json()["resultSet"]

    assert {patient["subjectId"] for patient in found} == {"PAT-0001", "Pat-0101", "QC-WATER"}


def test_criteria_the_search_does_not_know_narrow_nothing(web: httpx.Client) -> None:
    form = {"sortField": "studies", "sortDirection": "ascending", "start": "0", "size": "99"}
    form |= {"criteriaType0": "Criteria.DateRange", "fromDate0": "01-01-1999", "toDate0": "01-02-1999"}
    form |= {"criteriaType1": "PatientCriteria", "value1": "QC-WATER"}

    found = web.post(f"{V4}getSimpleSearch", data=form).json()["resultSet"]

    assert {patient["subjectId"] for patient in found} == {"QC-WATER"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": "x"},
        {"sortField": "colour"},
        {"criteriaType0": "CollectionCriteria"},
        {"criteriaType0": "DateRangeCriteria", "fromDate0": "2023"},
        {"criteriaType0": "MinNumberOfStudiesCriteria", "value0": "two"},
    ],
)
def test_an_incomplete_search_fails_as_the_server_does(web: httpx.Client, wrong: dict[str, str]) -> None:
    form = {"sortField": "subject", "sortDirection": "ascending", "start": "0", "size": "1", **wrong}

    assert web.post(f"{V4}getSimpleSearch", data=form).text == f"{FAILED}\nnull"


def test_manifests_list_the_series_after_six_lines(web: httpx.Client) -> None:
    search = {"criteriaType0": "ImageModalityCriteria", "value0": "SEG"}
    of_search = web.post(f"{V4}getManifestForSimpleSearch", data=search)
    of_list = web.post(f"{V4}getManifestText", data={"list": ["1.2", "1.3"], "includeAnnotation": "true"})
    of_collection = web.post(f"{V4}getManifestForCollection", data={"collection": "iso-qc-phantom"})

    assert of_search.headers["content-type"] == "application/x-nbia-manifest-file"
    lines = of_search.text.splitlines()
    assert lines[0] == f"downloadServerUrl={web.base_url}/nbia-download/servlet/DownloadServlet"
    assert lines[1:3] == ["includeAnnotation=false", "noOfrRetry=4"]
    assert re.fullmatch(r"databasketId=manifest-\d+\.tcia", lines[3])
    assert lines[4:] == ["manifestVersion=3.0", "ListOfSeriesToDownload=", phantom.CHEST_SEG]
    assert of_list.text.splitlines()[1::5] == ["includeAnnotation=true", "1.2"]
    assert of_collection.text.splitlines()[-1] == phantom.WATER_CT


def test_a_token_opens_v2_and_ends_with_logout(web: httpx.Client) -> None:
    def get(path: str, token: str) -> httpx.Response:
        return web.get(path, headers={"Authorization": f"Bearer {token}"})

    form = {"username": "nbia_guest", "password": "x", "client_id": "NBIA", "grant_type": "password"}
    issued = web.post(f"{UNVERSIONED}oauth/token", data=form).json()
    refresh = {"grant_type": "refresh_token", "refresh_token": issued["refresh_token"]}
    renewed = web.post("/nbia-api/oauth/token", data=refresh).json()
    token = renewed["access_token"]

    assert (renewed["expires_in"], renewed["token_type"]) == (7200, "Bearer")
    assert get(f"{V2}getCollectionValues", token).content == web.get(f"{V1}getCollectionValues").content
    assert get(f"{V4}getCollectionValues", token).status_code == 200
    assert get(f"{UNVERSIONED}getModalityValuesAndCounts", token).json()[0] == {"criteria": "CR", "count": "1"}
    assert get(f"{UNVERSIONED}getBodyPartValuesAndCounts?Modality=MR&x=1", token).json() == [
        {"criteria": "BRAIN", "count": "1"}
    ]
    assert set(get(f"{UNVERSIONED}getCollectionDescriptions", token).json()[0]) > {"userName", "licenseId"}
    assert get("/nbia-api/logout", token).status_code == 200
    gone = get(f"{V2}getCollectionValues", token)
    assert (gone.status_code, gone.content) == (401, b"")
    assert get(f"{V4}getCollectionValues", token).status_code == 401
    assert get(f"{V1}getCollectionValues", token).status_code == 200
    assert get(f"{V2}getCollectionValues", "undefined").status_code == 200


def test_without_a_token_v2_fails_as_the_server_does(web: httpx.Client) -> None:
    asked = web.get(f"{V2}getCollectionValues")

    assert (asked.status_code, asked.headers["content-type"]) == (500, "text/plain")
    assert asked.content == b"Server was not able to process your request\nnull"


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"grant_type": "password", "username": "somebody"}, 401),
        ({"grant_type": "refresh_token", "refresh_token": "invented"}, 401),
        ({"grant_type": "magic"}, 500),
        ({}, 500),
    ],
)
def test_only_the_guest_gets_a_token(web: httpx.Client, form: dict[str, str], status: int) -> None:
    assert web.post("/nbia-api/oauth/token", data=form).status_code == status


def test_shared_lists_are_read_by_name_and_kept_by_their_owner(web: httpx.Client) -> None:
    def post(operation: str, **form: str | list[str]) -> tuple[int, str]:
        asked = web.post(UNVERSIONED + operation, data=form, headers={"Authorization": "Bearer undefined"})
        return asked.status_code, asked.text

    def contents(name: str) -> list[dict[str, Any]]:
        return rows(web.get(f"{V1}getContentsByName", params={"name": name}))

    curated = contents(tcia_store.SHARED_LIST)
    assert {row["SeriesInstanceUID"] for row in curated} == {
        phantom.CHEST_CT,
        phantom.CHEST_FOLLOW_UP,
        phantom.CHEST_SEG,
        phantom.CHEST_RTSTRUCT,
    }
    assert list(curated[0])[-2:] == ["ImageCount", "Date Released"]
    assert contents("nothing") == []
    uids = [phantom.CHEST_DX, phantom.CHEST_CR]
    assert post("createSharedList", name="mine", list=uids) == (200, "List created")
    assert post("createSharedList", name="mine", list=uids) == (400, "Duplicate list name")
    unknown = "User does not have permission for all series in list"
    assert post("createSharedList", name="other", list=["1.2"]) == (400, unknown)
    assert {row["SeriesInstanceUID"] for row in contents("mine")} == set(uids)
    assert post("deleteSharedList", name=tcia_store.SHARED_LIST) == (400, "Only the owner can delete a list")
    assert post("deleteSharedList", name="mine") == (200, "List deleted")
    assert post("deleteSharedList", name="mine") == (400, "List name not found")


# The gateway.


def test_the_gateway_shows_the_same_series_in_its_own_way(web: httpx.Client) -> None:
    row = one(web.get(f"{GATEWAY}getSeries", params={"SeriesInstanceUID": phantom.CHEST_CT, "api_key": "x"}))
    size = one(web.get(f"{GATEWAY}getSeriesSize", params={"SeriesInstanceUID": phantom.CHEST_CT}))
    patient = rows(web.get(f"{GATEWAY}getPatient", params={"Collection": "ISO-CHEST-CT"}))[0]
    study = rows(web.get(f"{GATEWAY}getPatientStudy", params={"PatientID": "PAT-0001"}))[0]

    assert (row["SeriesDate"], row["SeriesDescription"]) == ("2021-03-04", 'Chest phantom 2.5 mm, "lung/soft"')
    assert (row["SeriesNumber"], list(row)[-1]) == ("2.000000", "ImageCount")
    assert re.fullmatch(r"\d+\.000000", size["TotalSizeInBytes"])
    assert size["ObjectCount"] == 120
    assert patient == {
        "PatientID": "PAT-0001",
        "PatientName": "PAT-0001",
        "PatientSex": "F",
        "Collection": "ISO-CHEST-CT",
    }
    assert study["StudyDate"] == "2021-03-04"
    assert web.get(f"{GATEWAY}getSeries?Collection=none").content == b"[]"
    assert web.get("/services/v2/TCIA/query/getModalityValues?Modality=CT").json()[0] == {"Modality": "CR"}


def test_the_formats_of_the_gateway(web: httpx.Client) -> None:
    def asked(format: str) -> tuple[str, str]:
        answer = web.get(f"{GATEWAY}getBodyPartValues", params={"format": format})
        return answer.headers["content-type"], answer.text

    assert asked("json") == ("application/json", '[{},{"BodyPartExamined":"BRAIN"},{"BodyPartExamined":"CHEST"}]')
    assert asked("csv") == ("application/csv", '"BodyPartExamined"\n""\n"BRAIN"\n"CHEST"\n')
    assert asked("xml")[1].startswith(
        "<Results>\n<Row>\n<BodyPartExamined type='VARCHAR' ></BodyPartExamined>\n</Row>\n"
    )
    assert asked("xml")[1].endswith("CHEST</BodyPartExamined>\n</Row>\n</Results>")
    assert asked("html")[1].startswith(
        "<HTML><BODY>null<P ALIGN='center'><TABLE id='data' BORDER=1>\n<thead><TR>\n<TH>BodyPartExamined</TH></TR>\n"
        "</thead><tbody><TR>\n<TD>null</TD></TR>\n"
    )
    assert asked("html")[1].endswith("</tbody></TABLE></P></BODY></HTML")


def test_the_gateway_packs_images_without_a_license(web: httpx.Client) -> None:
    asked = web.get(f"{GATEWAY}getImage", params={"SeriesInstanceUID": phantom.BRAIN_LOCALIZER})

    assert asked.headers["content-disposition"] == 'attachment;filename="bindaas-blob-download.zip"'
    names = archive_of(asked).namelist()
    assert names[0] == "./"
    assert names[1] == f"./1-{phantom.uid(phantom.BRAIN_LOCALIZER, '1')}.dcm"
    assert len(names) == 4


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("getNothing", "QueryEndpoint [getNothing] not found"),
        ("getImage?SeriesInstanceUID=1.2", "java.lang.IndexOutOfBoundsException: Index: 0, Size: 0"),
        ("getSeriesSize", "Required parameter [SeriesInstanceUID] missing"),
        ("getSeries?format=yaml", "Output format [YAML] not supported"),
    ],
)
def test_errors_of_the_gateway_are_json(web: httpx.Client, query: str, message: str) -> None:
    asked = web.get(GATEWAY + query)

    assert (asked.status_code, asked.json()) == (500, {"errorMessage": message})


def test_a_shared_list_of_the_gateway_has_uids_only(web: httpx.Client) -> None:
    found = web.get("/services/v4/SharedList/query/ContentsByName", params={"name": tcia_store.SHARED_LIST}).json()

    assert found[0] == {"SERIES_INSTANCE_UID": phantom.CHEST_CT}
    assert web.get("/services/v4/SharedList/query/ContentsByName?name=none").json() == []
    nameless = web.get("/services/v4/SharedList/query/ContentsByName")
    assert (nameless.status_code, nameless.json()) == (500, {"errorMessage": "Required parameter [name] missing"})


# Streaming.


def test_an_answer_abandoned_while_a_piece_is_in_the_making_is_closed_after_it() -> None:
    async def story() -> list[dict[str, Any]]:
        loop, started, closed, release = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event(), threading.Event()
        problems: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, problem: problems.append(problem))

        def pieces() -> Generator[bytes]:
            try:
                yield b"first"
                release.wait()
                yield b"second"
            finally:
                loop.call_soon_threadsafe(closed.set)

        async def read() -> None:
            async for piece in tcia_call.ahead(pieces()):
                assert piece == b"first"
                started.set()

        reading = asyncio.create_task(read())
        await started.wait()
        reading.cancel()
        await asyncio.wait([reading])
        release.set()
        await asyncio.wait_for(closed.wait(), 5)
        return problems

    assert asyncio.run(story()) == []


@pytest.mark.parametrize("format", ["json", "csv"])
def test_a_long_list_comes_in_pieces_and_complete(
    web: httpx.Client, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    whole = web.get(f"{V4}getSeries", params={"format": format})

    monkeypatch.setattr(tcia_call, "BLOCK", 2048)
    monkeypatch.setattr(tcia_formats, "BLOCK", 2048)
    pieces = web.get(f"{V4}getSeries", params={"format": format})

    assert int(whole.headers["content-length"]) == len(whole.content)
    assert pieces.headers["transfer-encoding"] == "chunked"
    assert pieces.content == whole.content


# The phantom data.


@pytest.fixture(scope="module")
def images(sandbox: Running) -> dict[str, list[Path]]:
    """The stored files of every series, in order."""
    archive = sandbox.sandbox.archive("tcia")
    return {
        series.series_instance_uid: [
            archive.path(instance) for instance in archive.instances(series.series_instance_uid)
        ]
        for series in archive.all_series()
    }


def test_the_phantom_is_the_same_everywhere(images: dict[str, list[Path]]) -> None:
    volume = hashlib.sha256()
    for path in images[phantom.CHEST_CT]:
        volume.update(pydicom.dcmread(path).PixelData)

    assert phantom.CHEST_CT == "2.25.25708212342213373512776827367645830734"
    assert volume.hexdigest() == "38e080664440f4e489690197320ea7b1d3b2387bc1cb793933f414453d0bbd19"


def test_every_file_reads_without_a_warning_and_says_that_it_is_synthetic(images: dict[str, list[Path]]) -> None:
    for paths in images.values():
        dataset = pydicom.dcmread(paths[-1])
        str(dataset)
        assert dataset.PatientIdentityRemoved == "YES"
        assert "no patient" in dataset.DeidentificationMethod
        assert "phantom" in (dataset.StudyDescription + dataset.SeriesDescription).lower()
        if "PixelData" in dataset:
            assert dataset.BurnedInAnnotation == "NO"
            assert dataset.pixel_array.max() > 0


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
def test_every_series_conforms_to_its_definition(images: dict[str, list[Path]]) -> None:
    for paths in images.values():
        checked = subprocess.run(["dciodvfy", "-new", str(paths[0])], capture_output=True, text=True, check=False)
        assert [line for line in checked.stderr.splitlines() if line.startswith("Error")] == []


def test_the_nodules_are_where_they_are_said_to_be(images: dict[str, list[Path]]) -> None:
    slices = [pydicom.dcmread(path) for path in images[phantom.CHEST_CT]]
    first = slices[0]
    step = float(slices[1].ImagePositionPatient[2]) - float(first.ImagePositionPatient[2])

    def hounsfield(x: float, y: float, z: float) -> float:
        index = round((z - float(first.ImagePositionPatient[2])) / step)
        column = round((x - float(first.ImagePositionPatient[0])) / float(first.PixelSpacing[1]))
        row = round((y - float(first.ImagePositionPatient[1])) / float(first.PixelSpacing[0]))
        patch = slices[index].pixel_array[row - 1 : row + 2, column - 1 : column + 2]
        return float(patch.mean()) * float(first.RescaleSlope) + float(first.RescaleIntercept)

    assert (len(slices), step) == (120, 2.5)
    for nodule in phantom.NODULES:
        assert hounsfield(nodule.x, nodule.y, nodule.z) == pytest.approx(nodule.density, abs=25)
        beside = nodule.x + np.copysign(nodule.diameter, nodule.x) * -0.9
        assert hounsfield(beside, nodule.y, nodule.z) < -700


def test_the_segmentation_covers_the_nodules_and_refers_to_the_ct(images: dict[str, list[Path]]) -> None:
    (path,) = images[phantom.CHEST_SEG]
    segmentation = pydicom.dcmread(path)
    instances = {phantom.uid(phantom.CHEST_CT, str(number + 1)) for number in range(120)}

    frames = segmentation.pixel_array
    assert frames.shape == (segmentation.NumberOfFrames, 256, 256)
    for number, nodule in enumerate(phantom.NODULES, 1):
        volume = 0.0
        for frame, groups in zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
            if groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number:
                source = groups.DerivationImageSequence[0].SourceImageSequence[0]
                assert source.ReferencedSOPInstanceUID in instances
                volume += float(frame.sum()) * 1.5 * 1.5 * 2.5
        assert volume == pytest.approx(np.pi / 6 * nodule.diameter**3, rel=0.1)
    referenced = segmentation.ReferencedSeriesSequence[0]
    assert referenced.SeriesInstanceUID == phantom.CHEST_CT
    assert len(referenced.ReferencedInstanceSequence) == 120


def test_the_structure_set_refers_to_the_ct_and_its_space(images: dict[str, list[Path]]) -> None:
    (path,) = images[phantom.CHEST_RTSTRUCT]
    structures = pydicom.dcmread(path)
    ct = pydicom.dcmread(images[phantom.CHEST_CT][0], stop_before_pixels=True)

    frame = structures.ReferencedFrameOfReferenceSequence[0]
    assert frame.FrameOfReferenceUID == ct.FrameOfReferenceUID
    series = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == phantom.CHEST_CT
    names = [region.ROIName for region in structures.StructureSetROISequence]
    assert names == [f"Nodule {nodule.name}" for nodule in phantom.NODULES]
    contour = structures.ROIContourSequence[0].ContourSequence[0]
    assert len(contour.ContourData) == 3 * contour.NumberOfContourPoints


def test_one_nodule_grows_until_the_follow_up(images: dict[str, list[Path]]) -> None:
    def cut(uid: str) -> int:
        nodule = phantom.NODULES[0]
        best = min(
            (pydicom.dcmread(path) for path in images[uid]),
            key=lambda image: abs(float(image.ImagePositionPatient[2]) - nodule.z),
        )
        column, row = round((nodule.x + 191.25) / 1.5), round((nodule.y + 191.25) / 1.5)
        return int((best.pixel_array[row - 12 : row + 13, column - 12 : column + 13] > 600).sum())

    assert cut(phantom.CHEST_FOLLOW_UP) / cut(phantom.CHEST_CT) == pytest.approx(phantom.GROWTH**2, rel=0.2)


def test_the_variety_that_clients_stumble_over_is_there(web: httpx.Client) -> None:
    listed = {row["SeriesInstanceUID"]: row for row in rows(web.get(f"{V4}getSeries"))}

    assert not {"BodyPartExamined", "Manufacturer"} & set(listed[phantom.BRAIN_LOCALIZER])
    assert re.search(r"""["',/^&<%]""", listed[phantom.LOW_DOSE_CT]["SeriesDescription"])
    assert listed[phantom.LOW_DOSE_CT]["SeriesNumber"] == 1000001
    assert {row["Modality"] for row in listed.values()} == {"CT", "MR", "DX", "CR", "SEG", "RTSTRUCT"}
    assert {row["DateReleased"] for row in listed.values()} == {"05-15-2023", "02-20-2024"}
    assert len({row["LicenseName"] for row in listed.values()}) == 2
    assert any(" " in row["Collection"] for row in listed.values())
