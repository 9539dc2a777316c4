"""How fast pixels become images, beside pydicom's own functions in the same run.

    python tests/bench/bench_imaging.py

Prints megapixels a second (best of several rounds, taken in turn) and the ratio to pydicom, then the peak memory of
rendering a 64-frame file frame by frame. Ratios carry over between machines, absolute numbers do not.
"""

from __future__ import annotations

import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from isocenter import imaging

ROUNDS = 7


def header(rows: int, columns: int, frames: int = 1) -> Dataset:
    """A CT-like 12-bit header with a rescale and a window."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = UID("2.25.1")
    ds.Rows, ds.Columns, ds.NumberOfFrames = rows, columns, frames
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
    ds.WindowCenter, ds.WindowWidth = 40, 400
    return ds


def main() -> None:
    """Run the comparison and print it."""
    rng = np.random.default_rng(1)
    frame = rng.integers(0, 4096, (2048, 2500), dtype=np.uint16)
    ds = header(*frame.shape)
    convert = imaging.tone(frame, ds)
    grey = convert(frame)

    def pydicom_window() -> object:
        voi = apply_voi_lut(apply_modality_lut(frame, ds), ds)
        return ((voi - -1024) / 4095 * 255).astype(np.uint8)

    jobs: dict[str, Callable[[], object]] = {
        "pydicom modality + VOI, scaled to 8 bit": pydicom_window,
        "window (table built every time)": lambda: imaging.window(frame, ds),
        "tone (table built once)": lambda: convert(frame),
        "encode png": lambda: imaging.encode(grey, "png"),
        "encode jpeg": lambda: imaging.encode(grey, "jpeg"),
        "encode gif": lambda: imaging.encode(grey, "gif"),
    }
    seconds = dict.fromkeys(jobs, float("inf"))
    for _ in range(ROUNDS):
        for name, job in jobs.items():
            begin = time.perf_counter()
            job()
            seconds[name] = min(seconds[name], time.perf_counter() - begin)
    reference = next(iter(seconds.values()))
    print(f"{frame.shape[1]} x {frame.shape[0]} pixels, 12 bit")
    for name, best in seconds.items():
        print(f"{name:42} {frame.size / best / 1e6:8.0f} Mpx/s {reference / best:8.1f} x pydicom")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frames.dcm"
        many = header(1024, 1024, 64)
        many.PixelData = rng.integers(0, 4096, 64 << 20, dtype=np.uint16).tobytes()
        many.save_as(path, enforce_file_format=True)
        many.PixelData = None
        tracemalloc.start()
        begin = time.perf_counter()
        size = sum(len(imaging.encode(image, "jpeg")) for image in imaging.rendered(path))
        peak = tracemalloc.get_traced_memory()[1]
        print(
            f"64 frames of 2 MiB to JPEG: {time.perf_counter() - begin:.2f} s, {size >> 20} MiB of images,"
            f" peak {peak / 2**20:.1f} MiB of Python memory ({peak / 2**21:.1f} frames)"
        )


if __name__ == "__main__":
    main()
