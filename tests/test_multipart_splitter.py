"""The splitter: same events for every way to cut the body, and a clear error for every broken one."""

from __future__ import annotations

import hashlib
import tracemalloc

import pytest

from isocenter.sandbox.multipart import (
    MalformedMultipart,
    PartData,
    PartEnd,
    PartStart,
    Splitter,
    parse_header_value,
)

RELATED = 'multipart/related; type="application/dicom"; boundary=B0'
Part = tuple[dict[str, str], str | None, str | None, str, bytes]


def collect(content_type: str, chunks: list[bytes]) -> list[Part]:
    """Feed the chunks; return every part with its data joined, after checking the order of the events."""
    splitter, parts, inside = Splitter(content_type), list[Part](), False
    for chunk in chunks:
        for event in splitter.feed(chunk):
            if isinstance(event, PartStart):
                assert not inside
                inside = True
                parts.append((event.headers, event.name, event.filename, event.content_type, b""))
            elif isinstance(event, PartData):
                assert inside
                assert len(event.data) > 0
                parts[-1] = (*parts[-1][:4], parts[-1][4] + bytes(event.data))
            else:
                assert isinstance(event, PartEnd)
                assert inside
                inside = False
    splitter.close()
    assert not inside
    return parts


# Data made of everything that looks like a delimiter but is none, and both forms of an empty part.
TRICKY = (
    b"a preamble\r\n--B\r\n--B"
    b'0\r\nContent-Disposition: form-data; name="one"; filename="1.dcm"\r\nContent-Type: application/dicom\r\n\r\n'
    b"\r\n--B\r\r\n\r\n--\r\n-\r--B0\n--B0--\r\n"
    b"\r\n--B0 \t\r\nCONTENT-TYPE: Application/DICOM; x=y\r\nX-Folded: a\r\n  b\r\n\r\n"
    b"\r\n--B0\r\nempty: with its blank line shared\r\n"
    b"\r\n--B0\r\n\r\nno headers\r"
    b"\r\n--B0--an epilogue\r\n--B0\r\nnot a part\r\n\r\n"
)
TRICKY_PARTS: list[Part] = [
    (
        {"content-disposition": 'form-data; name="one"; filename="1.dcm"', "content-type": "application/dicom"},
        "one",
        "1.dcm",
        "application/dicom",
        b"\r\n--B\r\r\n\r\n--\r\n-\r--B0\n--B0--\r\n",
    ),
    ({"content-type": "Application/DICOM; x=y", "x-folded": "a b"}, None, None, "application/dicom", b""),
    ({"empty": "with its blank line shared"}, None, None, "", b""),
    ({}, None, None, "", b"no headers\r"),
]


def test_whole_body_in_one_chunk() -> None:
    assert collect(RELATED, [TRICKY]) == TRICKY_PARTS


def test_every_two_way_split_gives_the_same_parts() -> None:
    for cut in range(len(TRICKY) + 1):
        assert collect(RELATED, [TRICKY[:cut], TRICKY[cut:]]) == TRICKY_PARTS, cut


@pytest.mark.parametrize("size", range(1, 24))
def test_every_chunk_size_gives_the_same_parts(size: int) -> None:
    assert collect(RELATED, [TRICKY[at : at + size] for at in range(0, len(TRICKY), size)]) == TRICKY_PARTS


def test_every_three_way_split_around_a_delimiter_gives_the_same_parts() -> None:
    body = b"--B0\r\n\r\n\r\n--B\r\r\n--B0\r\n\r\nx\r\n--B0--"
    expected: list[Part] = [({}, None, None, "", b"\r\n--B\r"), ({}, None, None, "", b"x")]
    for first in range(len(body) + 1):
        for second in range(first, len(body) + 1):
            assert collect(RELATED, [body[:first], body[first:second], body[second:]]) == expected, (first, second)


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/related; type=application/dicom; boundary=B0",
        'multipart/related; boundary=B0; type="application/dicom"',
        'Multipart/Related;BOUNDARY="B0";type=application/dicom;',
        "multipart/form-data; boundary=B0",
        'multipart/form-data; charset=utf-8 ; boundary = "B0" ; ',
    ],
)
def test_content_types_clients_send(content_type: str) -> None:
    assert collect(content_type, [b"\r\n--B0\r\n\r\ndata\r\n--B0--"]) == [({}, None, None, "", b"data")]


def test_seed_framing_with_path_as_name() -> None:
    body = (
        b'--B0\r\nContent-Disposition: form-data; name="dicom-file1.dcm"; filename="dicom-file1.dcm"\r\n'
        b"Content-Type: application/dicom\r\n\r\nDATA\r\n--B0--\r\n"
    )
    (part,) = collect("multipart/related; type=application/dicom; boundary=B0", [body])
    assert part[1:] == ("dicom-file1.dcm", "dicom-file1.dcm", "application/dicom", b"DATA")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('form-data; name="a\\"b\\\\c;d"', {"name": 'a"b\\c;d'}),
        ("form-data; name=a b ; filename=C:\\x", {"name": "a b", "filename": "C:\\x"}),
        ('form-data; name=""', {"name": ""}),
        ("form-data", {}),
    ],
)
def test_header_parameters(value: str, expected: dict[str, str]) -> None:
    assert parse_header_value(value) == ("form-data", expected)


def test_header_bytes_that_are_not_utf_8() -> None:
    body = b'--B0\r\nContent-Disposition: form-data; name="\xe4"\r\n\r\n\r\n--B0--'
    assert collect(RELATED, [body])[0][1] == "ä"
    assert collect(RELATED, [body.replace(b"\xe4", "ä".encode())])[0][1] == "ä"


@pytest.mark.parametrize(
    ("content_type", "message"),
    [
        ("application/dicom", "not multipart"),
        ("", "not multipart"),
        ("multipart/form-data", "no boundary"),
        ('multipart/related; boundary=""', "no boundary"),
        ("multipart/related; boundary=" + "x" * 71, "1 to 70"),
        ('multipart/related; boundary="a\r\nb"', "1 to 70"),
        ('multipart/related; boundary="B0 "', "1 to 70"),
        ("multipart/related; boundary=a; boundary=b", "twice"),
        ('multipart/related; boundary="a', "cannot be parsed"),
        ("multipart/related; boundary", "cannot be parsed"),
    ],
)
def test_content_types_that_cannot_be_split(content_type: str, message: str) -> None:
    with pytest.raises(MalformedMultipart, match=message):
        Splitter(content_type)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "does not occur"),
        (b"only a preamble", "does not occur"),
        (b"--B0\n\nLF only\n--B0--\n", "neither a line end nor --"),
        (b"--B0\r\n\r\ndata", "cut off"),
        (b"--B0\r\n\r\ndata\r\n--B0", "cut off"),
        (b"--B0\r\n\r\ndata\r\n--B0-", "cut off"),
        (b"--B0\r\n\r\ndata\r\n--B0\r\n", "cut off"),
        (b"--B0\r\nContent-Type: a/b\r\n", "cut off"),
        (b"--B0\r\n\r\ndata\r\n--B0x\r\n", "neither a line end nor --"),
        (b"--B0\r\n\r\ndata\r\n--B0-x", "neither a line end nor --"),
        (b"--B0\r\n\r\ndata\r\n--B0" + b" " * 20_000, "too long"),
        (b"--B0\r\nno colon\r\n\r\n\r\n--B0--", "header cannot be parsed"),
        (b"--B0\r\nbad name: x\r\n\r\n\r\n--B0--", "header cannot be parsed"),
        (b"--B0\r\nname: a\nb\r\n\r\n\r\n--B0--", "header cannot be parsed"),
        (b'--B0\r\nContent-Disposition: form-data; name="a\r\n\r\n\r\n--B0--', "parameters cannot be parsed"),
    ],
)
def test_broken_bodies_are_refused_however_they_are_cut(body: bytes, message: str) -> None:
    for chunks in ([body], [body[at : at + 1] for at in range(min(len(body), 60))] + [body[60:]]):
        with pytest.raises(MalformedMultipart, match=message):
            collect(RELATED, chunks)


def test_limits_on_headers_and_parts() -> None:
    small = Splitter(RELATED, max_header_bytes=32, max_parts=2)
    with pytest.raises(MalformedMultipart, match="more than 32 bytes"):
        small.feed(b"--B0\r\nName: " + b"x" * 40)
    many = Splitter(RELATED, max_parts=2)
    many.feed(b"--B0\r\n\r\n1\r\n--B0\r\n\r\n2\r\n")
    with pytest.raises(MalformedMultipart, match="more than 2 parts"):
        many.feed(b"--B0\r\n\r\n3")


def test_data_is_passed_on_without_copies_and_memory_stays_bounded() -> None:
    piece = bytes(range(256)) * 1024
    splitter = Splitter(RELATED)
    (start,) = splitter.feed(b"--B0\r\n\r\n")
    assert isinstance(start, PartStart)
    splitter.feed(piece)  # the CRLF of the blank line is still pending here: this one chunk is joined
    (data,) = splitter.feed(piece)
    assert isinstance(data, PartData)
    assert data.data.obj is piece
    del data
    expected, digest = hashlib.sha256(), hashlib.sha256()
    tracemalloc.start()
    for at in range(200):
        chunk = piece + b"\r\n--B"[: at % 6]
        for event in splitter.feed(chunk):
            assert isinstance(event, PartData)
            digest.update(event.data)
        expected.update(chunk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    for event in splitter.feed(b"\r\n--B0--"):
        if isinstance(event, PartData):
            digest.update(event.data)
    splitter.close()
    assert digest.digest() == expected.digest()
    assert peak < 4 * len(piece)
