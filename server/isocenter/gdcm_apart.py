"""JPEG Lossless by GDCM, in a process of its own.

GDCM is the only permissively licensed decoder for JPEG Lossless, and damaged data make it read and write where it must
not. A crash ends its process; here that is a small child which is started again for the next frame, so that a broken
file costs one image and not the server. A frame costs one copy through a pipe each way.

As a module this is a decoding plugin of pydicom; as a script it is the child, and imports nothing but GDCM.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import struct
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import DecodeRunner

FRAME_SECONDS = 60.0
"""A frame that takes longer is given up."""

# What pydicom asks of a plugin: transfer syntax to the packages it needs, `is_available`, and the decoding function.
DECODER_DEPENDENCIES = {
    "1.2.840.10008.1.2.4.57": ("gdcm>=3.0.10",),
    "1.2.840.10008.1.2.4.70": ("gdcm>=3.0.10",),
}

_lock = threading.Lock()
_children: list[subprocess.Popen[bytes]] = []
"""The running child, if there is one."""


def is_available(uid: str) -> bool:
    """Whether GDCM is installed and used for this transfer syntax."""
    return uid in DECODER_DEPENDENCIES and importlib.util.find_spec("gdcm") is not None


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes:
    """The pixels of one encoded frame. Raises RuntimeError when GDCM refuses it, dies of it, or takes too long."""
    # Both are texts of a special kind, whose `str()` is something else.
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
        alarm = threading.Timer(FRAME_SECONDS, child.kill)
        alarm.start()
        try:
            child.stdin.write(json.dumps(job).encode() + b"\n" + src)
            child.stdin.flush()
            answer = child.stdout.read(8)
            pixels = child.stdout.read(*struct.unpack("<Q", answer)) if len(answer) == 8 else None
        except OSError:
            pixels = None
        finally:
            alarm.cancel()
        if pixels is None:
            stop()
            raise RuntimeError("GDCM did not survive the frame")
    if not pixels:
        raise RuntimeError("GDCM refuses the frame")
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
    """The child: a line of JSON and the encoded frame in, the length and the pixels out (length 0: refused)."""
    import gdcm

    while line := sys.stdin.buffer.readline():
        job = json.loads(line)
        try:
            pixels = _decode(gdcm, sys.stdin.buffer.read(job["size"]), job)
        except Exception:
            pixels = b""
        sys.stdout.buffer.write(struct.pack("<Q", len(pixels)) + pixels)
        sys.stdout.buffer.flush()


def _decode(gdcm: Any, frame: bytes, job: dict[str, Any]) -> bytes:
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
    # Its Python binding gives bytes as text.
    pixels: bytes = image.GetBuffer().encode("utf-8", "surrogateescape")
    return pixels


if __name__ == "__main__":
    _serve()
