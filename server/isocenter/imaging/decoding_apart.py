"""JPEG Lossless by GDCM and JPEG-LS by CharLS, in a process of their own.

They are the only permissively licensed decoders for these transfer syntaxes, and damaged data make GDCM read and write
where it must not and CharLS turn in circles. Here that ends a small child, which is started again for the next frame: a
broken file costs one image and not the server. A frame costs one copy through a pipe each way.

As a module this is a decoding plugin of pydicom; as a script it is the child, which imports the decoders and no more.
"""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import DecodeRunner

FRAME_SECONDS = 5.0
"""A frame that takes longer is given up, with a second more for every million samples."""

# What pydicom asks of a plugin: transfer syntax to the packages it needs, `is_available`, and the decoding function.
DECODER_DEPENDENCIES = {
    "1.2.840.10008.1.2.4.57": ("gdcm>=3.0.10",),
    "1.2.840.10008.1.2.4.70": ("gdcm>=3.0.10",),
    "1.2.840.10008.1.2.4.80": ("numpy", "pyjpegls>=1.2"),
    "1.2.840.10008.1.2.4.81": ("numpy", "pyjpegls>=1.2"),
}
_MODULES = {uid: "gdcm" if "gdcm" in needs[0] else "jpeg_ls" for uid, needs in DECODER_DEPENDENCIES.items()}

_lock = threading.Lock()
_children: list[subprocess.Popen[bytes]] = []
"""The running child, if there is one."""


def is_available(uid: str) -> bool:
    """Whether the decoder for this transfer syntax is installed."""
    return uid in _MODULES and importlib.util.find_spec(_MODULES[uid]) is not None


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes:
    """The pixels of one encoded frame. Raises RuntimeError when the decoder refuses it, dies of it, or takes too long."""
    # Both texts are of a special kind, whose `str()` is something else.
    job = {
        "size": len(src),
        "transfer_syntax": str.__str__(runner.transfer_syntax),
        "photometric_interpretation": str.__str__(runner.photometric_interpretation),
        "planar_configuration": runner.planar_configuration if runner.samples_per_pixel > 1 else None,
        "dimensions": (runner.columns, runner.rows, 1),
        "format": (
            runner.samples_per_pixel,
            runner.bits_allocated,
            runner.bits_stored,
            runner.bits_stored - 1,
            runner.pixel_representation,
        ),
    }
    with _lock:
        if not _children:
            # -P: the folder of this file must not become a place to import from.
            command = [sys.executable, "-P", __file__]
            _children.append(
                subprocess.Popen(  # noqa: S603 - our own file
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
                )
            )
        child = _children[0]
        assert child.stdin is not None and child.stdout is not None
        samples = runner.rows * runner.columns * runner.samples_per_pixel
        alarm = threading.Timer(FRAME_SECONDS + samples / 1e6, child.kill)
        alarm.start()
        answer: dict[str, Any] = {}
        try:
            child.stdin.write(json.dumps(job).encode() + b"\n" + src)
            child.stdin.flush()
            answer = json.loads(child.stdout.readline() or b"{}")
            pixels = child.stdout.read(answer.get("size", 0))
        except (OSError, ValueError):  # a broken pipe, half a line
            answer.clear()
        finally:
            alarm.cancel()
        if not answer or len(pixels) < answer["size"]:
            stop()
            raise RuntimeError("the decoder did not survive the frame")
    if not pixels:
        raise RuntimeError("the decoder refuses the frame")
    for name, value in answer["options"].items():
        runner.set_option(name, value)
    return pixels


@atexit.register
def stop() -> None:
    """End the child, if there is one."""
    while _children:
        child = _children.pop()
        child.kill()
        try:
            child.__exit__(None, None, None)
        except BrokenPipeError:
            child.wait()


def _serve() -> None:
    """The child: a line of JSON and a frame in, a line of JSON and the pixels out (no pixels: refused)."""
    while line := sys.stdin.buffer.readline():
        job = json.loads(line)
        frame = sys.stdin.buffer.read(job["size"])
        decode = _by_gdcm if _MODULES[job["transfer_syntax"]] == "gdcm" else _by_charls
        try:
            pixels, options = decode(frame, job)
        except Exception:  # damaged data fails in ways nobody lists; no pixels is the answer to all of them
            pixels, options = b"", {}
        sys.stdout.buffer.write(json.dumps({"size": len(pixels), "options": options}).encode() + b"\n" + pixels)
        sys.stdout.buffer.flush()


def _by_charls(frame: bytes, _: dict[str, Any]) -> tuple[bytes, dict[str, int]]:
    jpeg_ls = importlib.import_module("jpeg_ls")
    pixels, info = jpeg_ls.decode_pixel_data(frame)
    options = {"bits_allocated": 8 if info["bits_per_sample"] <= 8 else 16}
    if info["components"] > 1:
        # Interleave mode 0 is colour by plane, 1 and 2 are colour by pixel.
        options["planar_configuration"] = int(info["interleave_mode"] == 0)
    return bytes(pixels), options


def _by_gdcm(frame: bytes, job: dict[str, Any]) -> tuple[bytes, dict[str, int]]:
    gdcm = importlib.import_module("gdcm")
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions(tuple(job["dimensions"]))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(job["photometric_interpretation"])
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    if job["planar_configuration"] is not None:
        image.SetPlanarConfiguration(job["planar_configuration"])
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(job["transfer_syntax"])))
    image.SetPixelFormat(gdcm.PixelFormat(*job["format"]))
    # The Python binding gives bytes as text.
    return image.GetBuffer().encode("utf-8", "surrogateescape"), {}


if __name__ == "__main__":
    _serve()
