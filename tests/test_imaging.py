from __future__ import annotations

import importlib.util
import io
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.pixels.decoders.base import _PIXEL_DATA_DECODERS, Decoder
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    MPEG2MPML,
    UID,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEGExtended12Bit,
    SecondaryCaptureImageStorage,
)

from isocenter import imaging
from isocenter.imaging import decoding, decoding_apart

# What pydicom says about odd headers is not under test, and quotes them.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

PYDICOM_DATA = Path(pydicom.__file__).parent / "data"


def _corpus() -> Iterator[Path]:
    """The files that ship with pydicom, and with pydicom-data where that is installed. Fetches nothing."""
    roots = [PYDICOM_DATA]
    spec = importlib.util.find_spec("data_store")
    if spec is not None and spec.origin is not None:
        roots.append(Path(spec.origin).parent)
    for root in roots:
        for path in sorted(root.rglob("*")):
            if path.suffix.lower() in {".dcm", ".ima", ".dump"} or (path.is_file() and not path.suffix):
                yield path


CORPUS = list(_corpus())

# Files with pixels that no decoder of ours can be expected to show, and why.
MALFORMED = {
    "JPEG-lossy.dcm": "illegal parameters in a 12-bit JPEG",
    "JPGExtended.dcm": "12-bit JPEG, which needs an optional package",
    "JPEG2000-embedded-sequence-delimiter.dcm": "damaged JPEG 2000",
    "badVR.dcm": "the number of frames is no number",
    "meta_missing_tsyntax.dcm": "no image pixel module",
    "nested_priv_SQ.dcm": "no bits allocated",
}


def _image(pixels: NDArray[Any], photometric: str = "MONOCHROME2", **attributes: object) -> Dataset:
    """An uncompressed image around `pixels`: (rows, columns), (frames, rows, columns) or (rows, columns, 3)."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = UID("2.25.1")
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, photometric
    if photometric == "RGB":
        ds.SamplesPerPixel, ds.PlanarConfiguration = 3, 0
        ds.Rows, ds.Columns, _ = pixels.shape
    elif pixels.ndim == 3:
        ds.NumberOfFrames, ds.Rows, ds.Columns = pixels.shape
    else:
        ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated = ds.BitsStored = 8 * pixels.dtype.itemsize
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.PixelData = pixels.tobytes()
    ds["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def _saved(ds: Dataset) -> io.BytesIO:
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file


def _opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def _lut(first: int, bits: int, entries: list[int]) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item.LUTData = entries
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    return item


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_file_is_shown_or_refused_with_a_reason(path: Path) -> None:
    try:
        header = imaging.read_header(path)
        image = next(imaging.rendered(path))
        files = {format: _opened(imaging.encode(image, format)) for format in ("png", "jpeg", "gif")}
    except imaging.NotDicom:
        assert path.read_bytes()[128:132] != b"DICM"
    except imaging.Undecodable as error:
        if "no pixel data" in str(error):
            assert not {"PixelData", "FloatPixelData", "DoubleFloatPixelData"} & set(_keywords(path))
        else:
            assert path.name in MALFORMED
    else:
        assert {file.size for file in files.values()} == {(header.Columns, header.Rows)}
        assert {name: file.format for name, file in files.items()} == {"png": "PNG", "jpeg": "JPEG", "gif": "GIF"}
        assert np.array_equal(np.asarray(files["png"]), image)


def _keywords(path: Path) -> list[str]:
    ds = pydicom.dcmread(path, force=True)
    return [pydicom.datadict.keyword_for_tag(tag) for tag in ds.keys()]  # noqa: SIM118 - iterating parses the values


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small.dcm", "mlut_18.dcm", "vlut_04.dcm", "J2K_pixelrep_mismatch.dcm"]
)
def test_the_window_agrees_with_pydicom_within_one_level(name: str) -> None:
    paths = [path for path in CORPUS if path.name == name]
    if not paths:
        pytest.skip("needs pydicom-data, which the dev extra installs")
    ds = imaging.read_header(paths[0])
    (frame,) = imaging.frames(paths[0])
    modality = apply_modality_lut(frame, ds)
    if ds.get("VOILUTSequence"):
        low, high = 0.0, 2.0 ** ds.VOILUTSequence[0].LUTDescriptor[2] - 1
    elif ds.get("ModalityLUTSequence"):
        low, high = 0.0, 2.0 ** ds.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    else:
        half = 2.0 ** (ds.BitsStored - 1)
        low, high = (-half, half - 1) if ds.PixelRepresentation else (0.0, 2 * half - 1)
        if "RescaleSlope" in ds:
            low, high = (float(bound * ds.RescaleSlope + ds.RescaleIntercept) for bound in (low, high))
    if not ds.get("VOILUTSequence") and not ds.get("WindowCenter"):
        ds.WindowCenter, ds.WindowWidth = (low + high) / 2, (high - low) / 2

    shown = imaging.window(frame, ds)

    expected = (apply_voi_lut(modality, ds).astype(float) - low) / (high - low) * 255
    assert np.abs(shown - np.clip(expected, 0, 255)).max() <= 1


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("LINEAR", [0, 85, 170, 255, 255]),
        ("LINEAR_EXACT", [0, 64, 128, 191, 255]),
        ("SIGMOID", [30, 69, 128, 186, 225]),
    ],
)
def test_the_window_functions_follow_the_standard(function: str, expected: list[int]) -> None:
    stored = np.array([[498, 499, 500, 501, 502]], np.int16)

    shown = imaging.window(
        stored, _image(stored, WindowCenter=[500, 40], WindowWidth=[4, 400], VOILUTFunction=function)
    )

    assert shown.tolist() == [expected]


def test_the_callers_window_beats_the_headers_and_counts_in_units_of_the_modality() -> None:
    stored = np.array([[0, 1024, 1124, 4000]], np.uint16)
    ds = _image(stored, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=3000, WindowWidth=2, BitsStored=12)

    shown = imaging.window(stored, ds, center=50, width=101)

    assert shown.tolist() == [[0, 1, 255, 255]]
    with pytest.raises(ValueError, match="both center and width"):
        imaging.window(stored, ds, center=50)
    for width in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="above 0"):
            imaging.window(stored, ds, center=50, width=width)


def test_monochrome1_is_shown_inverted() -> None:
    stored = np.array([[0, 100, 255]], np.uint8)

    assert imaging.window(stored, _image(stored, "MONOCHROME1")).tolist() == [[255, 155, 0]]


def test_up_to_8_bits_without_a_window_are_shown_as_they_are() -> None:
    stored = np.array([[3, 100, 120]], np.uint8)
    mask = np.array([[0, 1]], np.uint8)

    assert imaging.window(stored, _image(stored)).tolist() == stored.tolist()
    assert imaging.window(mask, _image(mask, BitsStored=1)).tolist() == [[0, 255]]


def test_without_a_window_outliers_and_padding_do_not_darken_the_image() -> None:
    stored = np.arange(10_000, 20_000, dtype=np.uint16).reshape(100, 100)
    stored[0, 0], stored[50:] = 65_535, 0

    shown = imaging.window(stored, _image(stored, PixelPaddingValue=0))

    assert shown[1, 0] < 10
    assert shown[49, 99] > 245
    assert shown[99, 99] == 0


@pytest.mark.parametrize("value", [0, 7])
def test_a_flat_image_is_shown_flat(value: int) -> None:
    stored = np.full((4, 4), value, np.int16)

    assert len(np.unique(imaging.window(stored, _image(stored)))) == 1


def test_a_voi_table_beats_the_headers_window_and_its_whole_range_is_shown() -> None:
    stored = np.array([[-5, 10, 11, 12, 500]], np.int16)
    ds = _image(stored, WindowCenter=40, WindowWidth=400, VOILUTSequence=[_lut(10, 12, [0, 2048, 4095])])

    assert imaging.window(stored, ds).tolist() == [[0, 0, 128, 255, 255]]


def test_a_modality_table_comes_before_the_window() -> None:
    stored = np.array([[0, 1, 2]], np.uint16)
    ds = _image(stored, ModalityLUTSequence=[_lut(0, 16, [300, 200, 100])], WindowCenter=200.5, WindowWidth=201)

    assert imaging.window(stored, ds).tolist() == [[255, 128, 0]]


def test_functional_groups_window_each_frame_by_its_own_attributes() -> None:
    stored = np.array([[[0, 10]], [[0, 10]]], np.uint16)
    shared, first, second, rescale = Dataset(), Dataset(), Dataset(), Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept = 2, 0
    shared.PixelValueTransformationSequence = [rescale]
    for group, width in ((first, 21), (second, 41)):
        voi = Dataset()
        voi.WindowCenter, voi.WindowWidth = (width + 1) / 2 - 0.5, width
        group.FrameVOILUTSequence = [voi]
    ds = _image(stored, SharedFunctionalGroupsSequence=[shared], PerFrameFunctionalGroupsSequence=[first, second])

    images = list(imaging.rendered(_saved(ds)))

    assert [image.tolist() for image in images] == [[[0, 255]], [[0, 128]]]


def test_float_pixels_are_windowed_and_not_a_number_is_black() -> None:
    pixels = np.array([[0.0, 0.25, 0.5, np.nan]], np.float32)
    ds = _image(pixels, WindowCenter=0.25, WindowWidth=0.5)
    del ds.PixelData, ds.BitsStored, ds.HighBit, ds.PixelRepresentation
    ds.FloatPixelData = pixels.tobytes()

    (image,) = imaging.rendered(_saved(ds))

    assert image.tolist() == [[0, 128, 255, 0]]
    nothing = np.full((1, 2), np.nan, np.float32)
    assert imaging.window(nothing, Dataset()).tolist() == [[0, 0]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_palettes_of_8_and_16_bit_entries_become_rgb(dtype: type[np.generic]) -> None:
    stored = np.array([[0, 1, 2, 9]], np.uint8)
    ds = _image(stored, "PALETTE COLOR")
    bits = np.dtype(dtype).itemsize * 8
    for colour, entries in (("Red", [0, 255, 0]), ("Green", [0, 0, 255]), ("Blue", [7, 0, 0])):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [3, 0, bits])
        ds[f"{colour}PaletteColorLookupTableDescriptor"].VR = "US"
        table = (np.array(entries) << (bits - 8)).astype(dtype).tobytes()
        setattr(ds, f"{colour}PaletteColorLookupTableData", table)

    shown = imaging.window(stored, ds)

    assert shown.tolist() == [[[0, 0, 7], [255, 0, 0], [0, 255, 0], [0, 255, 0]]]


def test_deep_colour_is_reduced_by_its_stored_bits() -> None:
    pixels = np.array([[[4095, 0, 16]]], np.uint16)

    (image,) = imaging.rendered(_saved(_image(pixels, "RGB", BitsStored=12, HighBit=11)))

    assert image.tolist() == [[[255, 0, 1]]]


def test_other_colour_models_and_broken_tables_are_refused() -> None:
    stored = np.zeros((2, 2), np.uint8)
    empty = _lut(0, 16, [1])
    del empty.LUTData

    with pytest.raises(imaging.Undecodable, match="colour model"):
        imaging.window(stored, _image(stored, "CMYK"))
    with pytest.raises(imaging.Undecodable, match="broken"):
        imaging.window(stored, _image(stored, VOILUTSequence=[empty]))
    with pytest.raises(imaging.Undecodable, match="broken"):
        imaging.window(stored, _image(stored, "PALETTE COLOR"))


def test_a_missing_transfer_syntax_is_taken_from_the_encoding() -> None:
    ds = _image(np.array([[1, 2]], np.uint16))
    file = io.BytesIO()
    pydicom.dcmwrite(file, Dataset(ds), implicit_vr=True, little_endian=True)

    (frame,) = imaging.frames(file)

    assert frame.tolist() == [[1, 2]]


def test_pixels_that_end_too_early_go_on_with_zeros() -> None:
    data = _saved(_image(np.full((3, 2, 2), 7, np.uint16))).getvalue()

    frames = list(imaging.frames(io.BytesIO(data[:-10])))

    assert [frame.tolist() for frame in frames] == [[[7, 7], [7, 7]], [[7, 7], [7, 0]]]
    with pytest.raises(imaging.Undecodable, match="no pixel data"):
        next(imaging.frames(io.BytesIO(data[:-24])))


def test_compressed_pixels_need_a_stated_transfer_syntax() -> None:
    ds = _image(np.zeros((2, 2), np.uint8))
    ds.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
    ds["PixelData"].is_undefined_length = True
    ds["PixelData"].VR = "OB"
    file = io.BytesIO()
    pydicom.dcmwrite(file, Dataset(ds), implicit_vr=False, little_endian=True)

    with pytest.raises(imaging.Undecodable, match="no transfer syntax"):
        imaging.render(file)


def test_a_later_frame_that_is_damaged_ends_the_film() -> None:
    path = next(path for path in CORPUS if path.name == "rtdose_rle.dcm")
    ds = pydicom.dcmread(path)
    pieces = list(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=15))
    pieces[3] = b"\1" * 80
    ds.PixelData = pydicom.encaps.encapsulate(pieces)
    shown = 0

    with pytest.raises(imaging.Undecodable, match="RLE"):
        for _ in imaging.frames(_saved(ds)):
            shown += 1

    assert shown == 3


def test_the_stored_pixels_are_given_in_pieces_as_far_as_they_go() -> None:
    plain = _saved(_image(np.arange(6, dtype=np.uint8).reshape(2, 3))).getvalue()
    (path,) = (path for path in CORPUS if path.name == "SC_rgb_jpeg_dcmtk.dcm")
    encapsulated = path.read_bytes()
    whole = pydicom.dcmread(path).PixelData

    assert b"".join(imaging.encoded_pixels(io.BytesIO(plain))) == bytes(range(6))
    assert b"".join(imaging.encoded_pixels(path)) == whole
    assert b"".join(imaging.encoded_pixels(io.BytesIO(encapsulated[:-100]))) == whole[:-92]
    assert imaging.pixel_keyword(path) == "PixelData"


def test_pixels_that_do_not_fit_the_header_are_refused() -> None:
    plain = np.full((64, 64), 7, np.uint16)
    cut = _saved(_image(plain)).getvalue()[:-8000]
    odd = _image(plain, BitsAllocated=24)
    (path,) = (path for path in CORPUS if path.name == "JPEG2000.dcm")
    ds = pydicom.dcmread(path)
    whole = ds.PixelData
    compressed = []
    for pixels in (b"\xfe\xff\x00\xe0\0\0\0\0", whole[:8] + b"\xfe\xff\xff\xe0" + whole[12:]):
        ds.PixelData = pixels
        compressed.append(_saved(ds))

    with pytest.raises(imaging.Undecodable, match="cut off"):
        imaging.render(io.BytesIO(cut))
    with pytest.raises(imaging.Undecodable, match="does not describe"):
        imaging.render(_saved(odd))
    for file in compressed:
        with pytest.raises(imaging.Undecodable, match="encapsulated pixels are damaged"):
            list(imaging.frames(file))


def test_a_request_to_stop_is_not_taken_for_a_damaged_file(monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = (path for path in CORPUS if path.name == "SC_rgb_jpeg_dcmtk.dcm")

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Decoder, "as_array", interrupted)
    with pytest.raises(KeyboardInterrupt):
        imaging.render(path)


def test_a_frame_that_is_not_there_is_an_index_error() -> None:
    file = _saved(_image(np.zeros((3, 2, 2), np.uint16)))

    assert len(list(imaging.frames(file, [2, 0]))) == 2
    for index in (3, -1):
        with pytest.raises(IndexError, match="3 frames"):
            imaging.render(file, index)


def test_a_file_that_claims_a_giant_frame_is_refused_before_memory_is_taken() -> None:
    ds = _image(np.zeros((2, 2), np.uint16), Rows=65_535, Columns=65_535)

    with pytest.raises(imaging.Undecodable, match="too large"):
        imaging.render(_saved(ds))


def test_deflated_files_are_read_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = _saved(_image(np.array([[1, 2]], np.uint16))).getvalue()
    explicit, deflated = ExplicitVRLittleEndian.encode() + b"\0", pydicom.uid.DeflatedExplicitVRLittleEndian.encode()
    meta_length = struct.unpack("<L", plain[140:144])[0]
    meta, body = plain[: 144 + meta_length], plain[144 + meta_length :]
    assert explicit in meta
    at = meta.index(explicit)
    meta = meta[: at - 2] + struct.pack("<H", len(deflated)) + deflated + meta[at + len(explicit) :]
    meta = meta[:140] + struct.pack("<L", len(meta) - 144) + meta[144:]
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    file = io.BytesIO(meta + engine.compress(body) + engine.flush())

    (frame,) = imaging.frames(file)

    assert frame.tolist() == [[1, 2]]
    monkeypatch.setattr(decoding, "MAX_INFLATED_BYTES", 100)
    with pytest.raises(imaging.Undecodable, match="deflated"):
        imaging.read_header(file)
    with pytest.raises(imaging.NotDicom, match="deflated"):
        imaging.read_header(io.BytesIO(meta + b"\xff" * 50))


def test_a_missing_decoder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    file = _saved(_image(np.zeros((2, 2), np.uint8)))
    data = file.getvalue().replace(ExplicitVRLittleEndian.encode() + b"\0", b"1.2.840.10008.1.2.5\0", 1)
    monkeypatch.setitem(decoding.DECODERS, UID("1.2.840.10008.1.2.5"), (("absent", "some-package"),))

    with pytest.raises(imaging.Undecodable, match="some-package"):
        imaging.render(io.BytesIO(data))


def test_an_empty_box_in_jpeg_2000_does_not_hold_the_decoder_up() -> None:
    """pydicom's own search for the code stream never ends on it."""
    (path,) = (path for path in CORPUS if path.name == "JPEG2000.dcm")
    ds = pydicom.dcmread(path)
    codestream = next(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1))
    boxes = b"\0\0\0\x0cjP  \r\n\x87\n"
    shown = []

    for box in (b"\0\0\0\x0cftypjp2 ", b"\0\0\0\0ftyp"):
        ds.PixelData = pydicom.encaps.encapsulate([boxes + box + b"\0\0\0\0jp2c" + codestream])
        with suppress(imaging.Undecodable):
            shown.append(imaging.render(_saved(ds)))

    assert shown == [imaging.render(path)]


def test_a_frame_of_another_size_than_the_header_says_is_refused() -> None:
    for name in ("JPEG2000.dcm", "SC_rgb_jpeg_dcmtk.dcm", "JPEGLSNearLossless_08.dcm"):
        (path,) = (path for path in CORPUS if path.name == name)
        ds = pydicom.dcmread(path)
        ds.Rows += 1

        with pytest.raises(imaging.Undecodable, match="size of the encoded image"):
            imaging.render(_saved(ds))


def test_a_jpeg_without_a_frame_header_is_refused() -> None:
    (path,) = (path for path in CORPUS if path.name == "SC_rgb_jpeg_dcmtk.dcm")
    ds = pydicom.dcmread(path)
    ds.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xe0\0\4ab\xff\xd9"])

    with pytest.raises(imaging.Undecodable, match="JPEG Baseline"):
        imaging.render(_saved(ds))


@pytest.fixture
def lossless(tmp_path: Path) -> Path:
    """CT_small.dcm as JPEG Lossless."""
    gdcm = pytest.importorskip("gdcm")
    reader, writer, change = gdcm.ImageReader(), gdcm.ImageWriter(), gdcm.ImageChangeTransferSyntax()
    reader.SetFileName(str(PYDICOM_DATA / "test_files" / "CT_small.dcm"))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(tmp_path / "lossless.dcm"))
    assert writer.Write()
    return tmp_path / "lossless.dcm"


def test_jpeg_lossless_is_decoded_in_a_process_of_its_own_that_may_die(
    lossless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = next(imaging.frames(PYDICOM_DATA / "test_files" / "CT_small.dcm"))

    assert np.array_equal(next(imaging.frames(lossless)), expected)
    (child,) = decoding_apart._children
    child.kill()
    child.wait()
    with pytest.raises(imaging.Undecodable, match="JPEG Lossless"):
        imaging.render(lossless)
    assert np.array_equal(next(imaging.frames(lossless)), expected)
    assert decoding_apart._children != [child]
    monkeypatch.setattr(decoding_apart, "FRAME_SECONDS", -1e6)
    decoding_apart.stop()
    with pytest.raises(imaging.Undecodable, match="JPEG Lossless"):
        imaging.render(lossless)


def test_what_the_decoder_apart_refuses_is_undecodable(lossless: Path) -> None:
    for path in (lossless, PYDICOM_DATA / "test_files" / "JPEGLSNearLossless_08.dcm"):
        ds = pydicom.dcmread(path)
        ds.PixelData = pydicom.encaps.encapsulate([b"no JPEG at all"])

        with pytest.raises(imaging.Undecodable, match="JPEG"):
            imaging.render(_saved(ds))


def test_every_transfer_syntax_that_pydicom_decodes_has_a_decoder_chosen() -> None:
    encapsulated = {syntax for syntax in _PIXEL_DATA_DECODERS if syntax.is_encapsulated}

    assert set(decoding.DECODERS) == encapsulated
    assert {HTJ2KLossless, JPEGExtended12Bit} <= encapsulated
    assert MPEG2MPML not in encapsulated


def test_video_is_refused() -> None:
    ds = _image(np.zeros((2, 2), np.uint8))
    ds.file_meta.TransferSyntaxUID = MPEG2MPML
    ds.PixelData = pydicom.encaps.encapsulate([b"\0\0\1\xb3"])

    with pytest.raises(imaging.Undecodable, match="MPEG2"):
        imaging.render(_saved(ds))


@pytest.mark.parametrize(
    "content",
    [b"", b"hello, world", b"\x89PNG\r\n\x1a\n" + bytes(500), bytes(4000), bytes(128) + b"DICM\2\0\0\0UL\4\0\0"],
)
def test_what_is_no_dicom_file_is_refused(content: bytes) -> None:
    with pytest.raises(imaging.NotDicom):
        imaging.read_header(io.BytesIO(content))


def test_an_animation_has_every_frame_and_the_wanted_speed() -> None:
    grey = [np.full((5, 7), 100, np.uint8)] * 3
    colour = [np.zeros((5, 7, 3), np.uint8), np.full((5, 7, 3), (250, 0, 0), np.uint8)]

    film, painted = _opened(imaging.animate(grey, 40)), _opened(imaging.animate(colour))

    assert (film.n_frames, film.size, film.info["duration"], film.info["loop"]) == (3, (7, 5), 40, 0)  # type: ignore[attr-defined]  # of GifImageFile
    film.seek(2)
    assert film.convert("L").getpixel((3, 3)) == 100
    painted.seek(1)
    assert painted.convert("RGB").getpixel((3, 3)) == (250, 0, 0)


def test_an_animation_without_a_window_does_not_flicker() -> None:
    frames = np.arange(1000, 1000 + 32, dtype=np.uint16).reshape(2, 4, 4)

    dark, bright = imaging.rendered(_saved(_image(frames)))

    assert dark.max() == 0
    assert (bright.min(), bright.max()) == (0, 255)


@pytest.mark.parametrize(
    ("attributes", "milliseconds"),
    [({}, 100), ({"FrameTime": "33.3"}, 33.3), ({"CineRate": 25}, 40), ({"FrameTime": 0, "CineRate": 50}, 20)],
)
def test_the_speed_of_a_film_is_taken_from_the_header(attributes: dict[str, object], milliseconds: float) -> None:
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)

    assert imaging.frame_milliseconds(ds) == pytest.approx(milliseconds)


def test_images_are_encoded_losslessly_as_png_and_small_as_jpeg() -> None:
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)

    assert np.array_equal(np.asarray(_opened(imaging.encode(image, "png"))), image)
    assert _opened(imaging.encode(image, "jpeg")).format == "JPEG"
    with pytest.raises(ValueError, match="png, jpeg or gif"):
        imaging.encode(image, "bmp")


def test_a_contact_sheet_keeps_the_place_of_what_cannot_be_shown(tmp_path: Path) -> None:
    white, broken = tmp_path / "white.dcm", tmp_path / "broken.dcm"
    white.write_bytes(_saved(_image(np.full((30, 60), 255, np.uint8))).getvalue())
    broken.write_bytes(b"nothing")
    red = _saved(_image(np.full((4, 4, 3), (255, 0, 0), np.uint8), "RGB"))

    sheet = _opened(imaging.contact_sheet([white, broken, red], columns=2, tile=32))

    assert (sheet.size, sheet.mode) == ((64, 64), "RGB")
    assert [sheet.getpixel(place) for place in ((16, 16), (16, 1), (16, 48), (32, 0), (40, 48))] == [
        (255, 255, 255), (0, 0, 0), (255, 0, 0), (96, 96, 96), (0, 0, 0),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="at least one"):
        imaging.contact_sheet([])


def test_the_longer_side_can_be_limited() -> None:
    file = _saved(_image(np.zeros((50, 100), np.uint8)))

    assert _opened(imaging.render(file, max_size=20)).size == (20, 10)
    assert _opened(imaging.render(file, max_size=200)).size == (100, 50)


def test_a_long_film_takes_the_memory_of_a_few_frames() -> None:
    frame_bytes = 1024 * 1024 * 2
    file = _saved(_image(np.zeros((16, 1024, 1024), np.uint16)))

    tracemalloc.start()
    try:
        for _ in imaging.rendered(file):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 5 * frame_bytes
