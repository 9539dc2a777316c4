"""What the sandbox really measures in uploaded pixels, so that the results it hands out belong to the images.

Nothing here is diagnostic. The methods are plain on purpose (thresholds and connected regions), deterministic, and
need numpy only. Regions are found on runs: each row of a slice becomes a few (start, end) pairs of voxels that are
all tissue or all air, which is a hundred times less data than the voxels, and one slice at a time is decoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from isocenter import imaging

Array = NDArray[Any]

TISSUE_HU = -400.0
"""Half way between lung (about -850 HU) and soft tissue (about 40 HU): the usual border of a solid nodule."""
BONE_HU = 300.0
NODULE_MM = (3.0, 40.0)
"""Equivalent diameters that count as a nodule."""
CRITICAL_MM = 6.0
"""From this diameter on a solid nodule is followed up (Fleischner Society, 2017)."""
MAX_NODULES = 20


class NotUsable(Exception):
    """The images cannot be measured by this use case; ``str()`` is the reason, free of patient data."""


@dataclass(frozen=True, slots=True)
class Slices:
    """The axial slices of one CT series, feet to head: headers without pixels, files, and geometry in mm."""

    datasets: list[pydicom.Dataset]
    paths: list[Path]
    row_mm: float
    column_mm: float
    slice_mm: float

    def hounsfield(self, index: int) -> Array:
        """One slice in Hounsfield units, float32, rows x columns."""
        dataset = self.datasets[index]
        stored = next(iter(imaging.frames(self.paths[index])))
        slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
        hounsfield: Array = stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
        return hounsfield


@dataclass(frozen=True, slots=True)
class Nodule:
    """One segmented nodule: its voxels (z, y, x as three index arrays) and what was measured on them."""

    voxels: tuple[Array, Array, Array]
    volume_mm3: float
    diameter_mm: float
    """Diameter of the sphere of the same volume."""
    axial_mm: float
    """Longest distance between two voxel centres within the key slice, plus one voxel."""
    mean_hu: float
    center_mm: tuple[float, float, float]
    """Centroid in the patient coordinate system."""
    key_slice: int
    """Index of the slice in which the nodule is largest."""

    def in_slice(self, index: int) -> tuple[Array, Array]:
        """Rows and columns of the nodule's voxels in one slice."""
        here = self.voxels[0] == index
        return self.voxels[1][here], self.voxels[2][here]


def slices(paths: Iterable[Path]) -> Slices:
    """Read the headers of a CT series and put its axial slices in order.

    Raises NotUsable for fewer than three single-frame slices of one size and orientation.
    """
    found: list[tuple[float, str, pydicom.Dataset, Path]] = []
    for path in paths:
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        position, orientation = dataset.get("ImagePositionPatient"), dataset.get("ImageOrientationPatient")
        if "LOCALIZER" in (dataset.get("ImageType") or []) or not position or not orientation or "Rows" not in dataset:
            continue
        normal = np.cross(np.array(orientation[:3], float), np.array(orientation[3:], float))
        if abs(normal[2]) > 0.8:
            place = float(np.dot(normal, np.array(position, float)) * np.sign(normal[2]))
            found.append((place, str(dataset.SOPInstanceUID), dataset, path))
    found.sort(key=lambda item: item[:2])
    shapes = {(item[2].Rows, item[2].Columns, tuple(item[2].ImageOrientationPatient)) for item in found}
    if len(found) < 3 or len(shapes) != 1:
        raise NotUsable("The series has no stack of at least three axial slices of one size.")
    places = np.array([item[0] for item in found])
    slice_mm = float(np.median(np.diff(places)))
    spacing = found[0][2].get("PixelSpacing") or [1.0, 1.0]
    if slice_mm <= 0 or min(spacing) <= 0:
        raise NotUsable("The slices have no usable spacing.")
    return Slices([f[2] for f in found], [f[3] for f in found], float(spacing[0]), float(spacing[1]), slice_mm)


@dataclass(frozen=True, slots=True)
class _Runs:
    """Runs of set voxels as flat [start, end) positions in a grid with one empty column and one empty row per slice.

    The empty column and row keep neighbours by position shift from wrapping into the next row or slice.
    """

    starts: Array
    ends: Array
    width: int
    area: int

    @classmethod
    def of(cls, mask: Array) -> _Runs:
        """The runs of one slice."""
        rows, columns = mask.shape
        width, area = columns + 1, (columns + 1) * (rows + 1)
        flat = np.zeros(area + 1, np.bool_)
        flat[1:].reshape(rows + 1, width)[:rows, :columns] = mask
        changes = np.flatnonzero(flat[1:] != flat[:-1])
        return cls(changes[::2], changes[1::2], width, area)

    @classmethod
    def stack(cls, parts: Sequence[_Runs]) -> _Runs:
        """The runs of single slices, put one above the other."""
        starts = [part.starts + index * part.area for index, part in enumerate(parts)]
        ends = [part.ends + index * part.area for index, part in enumerate(parts)]
        return cls(np.concatenate(starts), np.concatenate(ends), parts[0].width, parts[0].area)

    def touching(self, other: _Runs, shift: int, grow: int = 0) -> tuple[Array, Array]:
        """Index pairs (of self, of other) of runs that overlap when self is moved by `shift` and grown at both ends."""
        first = np.searchsorted(other.ends, self.starts + (shift - grow), side="right")
        last = np.searchsorted(other.starts, self.ends + (shift + grow), side="left")
        count = np.maximum(last - first, 0)
        offset = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        return np.repeat(np.arange(len(count)), count), np.repeat(first, count) + offset

    def labels(self, *, flat: bool = False) -> Array:
        """For each run the number (0, 1, ...) of its 6-connected region; `flat` connects within slices only."""
        pairs = [self.touching(self, shift) for shift in ([self.width] if flat else [self.width, self.area])]
        left = np.concatenate([pair[0] for pair in pairs])
        right = np.concatenate([pair[1] for pair in pairs])
        root = np.arange(len(self.starts))
        while len(left):
            low, high = np.minimum(root[left], root[right]), np.maximum(root[left], root[right])
            open_ = low != high
            left, right = left[open_], right[open_]
            np.minimum.at(root, high[open_], low[open_])
            while not np.array_equal(shorter := root[root], root):
                root = shorter
        numbers: Array = np.unique(root, return_inverse=True)[1]
        return numbers

    def border(self, rows: int, columns: int) -> Array:
        """For each run whether it touches the edge of its slice."""
        row, column = self.starts % self.area // self.width, self.starts % self.width
        edge: Array = (row == 0) | (row == rows - 1) | (column == 0) | (column + self.ends - self.starts == columns)
        return edge

    def voxels(self, chosen: Array) -> tuple[Array, Array, Array]:
        """The z, y, x of every voxel of the runs with these indices."""
        lengths = (self.ends - self.starts)[chosen]
        offset = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        flat = np.repeat(self.starts[chosen], lengths) + offset
        return flat // self.area, flat % self.area // self.width, flat % self.width


def lungs_and_nodules(series: Slices) -> tuple[float, list[Nodule]]:
    """Segment the lungs (volume in ml) and the solid nodules in them, largest first, at most `MAX_NODULES`.

    A lung is a large region of air that does not reach the edge of the slices; a nodule is a compact region of tissue
    that touches nothing but lung. Nodules on the chest wall or on vessels are therefore not found. Raises NotUsable
    when there is no lung.
    """
    rows, columns = int(series.datasets[0].Rows), int(series.datasets[0].Columns)
    tissue_parts, air_parts = [], []
    for index in range(len(series.paths)):
        mask = series.hounsfield(index) >= TISSUE_HU
        tissue_parts.append(_Runs.of(mask))
        air_parts.append(_Runs.of(~mask))
    tissue, air = _Runs.stack(tissue_parts), _Runs.stack(air_parts)
    if not len(tissue.starts) or not len(air.starts):
        raise NotUsable("No lung was found.")
    air_labels, tissue_labels = air.labels(), tissue.labels()
    inner = np.ones(air_labels.max() + 1, np.bool_)
    inner[air_labels[air.border(rows, columns)]] = False
    air_size = np.bincount(air_labels, air.ends - air.starts) * inner
    tissue_size = np.bincount(tissue_labels, tissue.ends - tissue.starts)
    lung = air_size >= max(0.1 * air_size.sum(), 1)
    voxel_mm3 = series.row_mm * series.column_mm * series.slice_mm
    if (lung * air_size).sum() < 0.03 * tissue_size.max():
        raise NotUsable("No lung was found.")

    diameters = np.cbrt(tissue_size * voxel_mm3 * 6 / np.pi)
    candidate = (diameters >= NODULE_MM[0]) & (diameters <= NODULE_MM[1])
    candidate[tissue_labels[tissue.border(rows, columns)]] = False
    depth = tissue.starts // tissue.area
    candidate[tissue_labels[(depth == 0) | (depth == len(series.paths) - 1)]] = False
    for shift, grow in ((0, 1), (air.width, 0), (-air.width, 0), (air.area, 0), (-air.area, 0)):
        own, neighbour = tissue.touching(air, shift, grow)
        candidate[tissue_labels[own[~lung[air_labels[neighbour]]]]] = False
    shapes: list[tuple[tuple[Array, Array, Array], float]] = []
    for label in np.flatnonzero(candidate):
        voxels = tissue.voxels(np.flatnonzero(tissue_labels == label))
        steps = (series.slice_mm, series.row_mm, series.column_mm)
        extents = [(int(np.ptp(axis)) + 1) * step for axis, step in zip(voxels, steps, strict=True)]
        filled = tissue_size[label] * voxel_mm3 / np.prod(extents)  # a sphere fills 0.52 of its box, a vessel far less
        if filled >= 0.3 and max(extents) <= 2.5 * max(min(extents), series.slice_mm):
            shapes.append((voxels, float(tissue_size[label] * voxel_mm3)))
    shapes.sort(key=lambda shape: (-shape[1], [int(axis[0]) for axis in shape[0]]))
    nodules = [_nodule(series, voxels, volume) for voxels, volume in shapes[:MAX_NODULES]]
    return float((lung * air_size).sum() * voxel_mm3 / 1000), nodules


def _nodule(series: Slices, voxels: tuple[Array, Array, Array], volume_mm3: float) -> Nodule:
    depths, areas = np.unique(voxels[0], return_counts=True)
    key_slice = int(depths[np.argmax(areas)])
    total = sum(
        float(series.hounsfield(int(index))[voxels[1][voxels[0] == index], voxels[2][voxels[0] == index]].sum())
        for index in depths
    )
    here = voxels[0] == key_slice
    points = np.stack([voxels[1][here] * series.row_mm, voxels[2][here] * series.column_mm], axis=1)
    distances = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2)) if len(points) <= 2000 else np.ptp(points)
    depth = float(voxels[0].mean())
    lower, upper = (series.datasets[index].ImagePositionPatient for index in (int(depth), int(np.ceil(depth))))
    orientation = np.array(series.datasets[key_slice].ImageOrientationPatient, float)
    center = (
        np.array(lower, float)
        + (np.array(upper, float) - np.array(lower, float)) * (depth % 1)
        + orientation[:3] * float(voxels[2].mean()) * series.column_mm
        + orientation[3:] * float(voxels[1].mean()) * series.row_mm
    )
    return Nodule(
        voxels=voxels,
        volume_mm3=volume_mm3,
        diameter_mm=float(np.cbrt(volume_mm3 * 6 / np.pi)),
        axial_mm=float(np.max(distances)) + (series.row_mm + series.column_mm) / 2,
        mean_hu=total / len(voxels[0]),
        center_mm=(float(center[0]), float(center[1]), float(center[2])),
        key_slice=key_slice,
    )


@dataclass(frozen=True, slots=True)
class Head:
    """Volumes in a head CT, in ml, and where most of the dense blood-like voxels are."""

    intracranial_ml: float
    dense_ml: float
    """50 to 95 HU after smoothing: the range of fresh blood."""
    loose_ml: float
    """5 to 18 HU: the range of oedema and of old infarction, and of cerebrospinal fluid."""
    side_difference: float
    """Difference of dense volume between the two halves over the intracranial volume, 0 to 1."""
    key_slice: int
    dense: dict[int, Array]
    """Slice index to mask of the dense voxels, for slices that have any."""


def head(series: Slices) -> Head:
    """Measure a head CT. Raises NotUsable when no slice has a space enclosed by bone."""
    rows, columns = int(series.datasets[0].Rows), int(series.datasets[0].Columns)
    inside_count = dense_count = loose_count = left = 0
    dense_masks: dict[int, Array] = {}
    areas: list[int] = []
    for index in range(len(series.paths)):
        hounsfield = series.hounsfield(index)
        inside = _enclosed(hounsfield < BONE_HU, rows, columns, min_area=1000 / (series.row_mm * series.column_mm))
        areas.append(int(inside.sum()))
        if not areas[-1]:
            continue
        smooth = _smooth(hounsfield)
        dense = inside & (smooth >= 50) & (smooth <= 95) & ~_near_bone(hounsfield)
        inside_count += areas[-1]
        loose_count += int((inside & (smooth >= 5) & (smooth <= 18)).sum())
        if dense.any():
            dense_masks[index] = dense
            dense_count += int(dense.sum())
            middle = int(np.flatnonzero(inside.any(axis=0)).mean())
            left += int(dense[:, :middle].sum())
    if not inside_count:
        raise NotUsable("No cranium was found.")
    voxel_ml = series.row_mm * series.column_mm * series.slice_mm / 1000
    key = max(dense_masks, key=lambda index: (int(dense_masks[index].sum()), -index), default=int(np.argmax(areas)))
    return Head(
        intracranial_ml=inside_count * voxel_ml,
        dense_ml=dense_count * voxel_ml,
        loose_ml=loose_count * voxel_ml,
        side_difference=abs(2 * left - dense_count) / inside_count,
        key_slice=key,
        dense=dense_masks,
    )


def _enclosed(mask: Array, rows: int, columns: int, min_area: float) -> Array:
    """The regions of a mask that do not touch the edge and have at least `min_area` pixels."""
    runs, result = _Runs.of(mask), np.zeros(mask.shape, np.bool_)
    if len(runs.starts):
        labels = runs.labels(flat=True)
        keep = np.bincount(labels, runs.ends - runs.starts) >= min_area
        keep[labels[runs.border(rows, columns)]] = False
        _, y, x = runs.voxels(np.flatnonzero(keep[labels]))
        result[y, x] = True
    return result


def _smooth(image: Array) -> Array:
    """Mean of 3 x 3 pixels; the edge is repeated."""
    padded = np.pad(image, 1, mode="edge")
    total = sum(padded[y : y + image.shape[0], x : x + image.shape[1]] for y in range(3) for x in range(3))
    return np.asarray(total) / 9


def _near_bone(image: Array) -> Array:
    """Pixels within two pixels of bone, whose mean is no longer that of brain."""
    padded = np.pad(image >= 100, 2)
    result = np.zeros(image.shape, np.bool_)
    for y in range(5):
        for x in range(5):
            result |= padded[y : y + image.shape[0], x : x + image.shape[1]]
    return result


@dataclass(frozen=True, slots=True)
class Radiograph:
    """A radiograph as 8-bit pixels in which bright means dense, and the mean density of both lung fields, 0 to 1."""

    pixels: Array
    left_density: float
    right_density: float


def radiograph(path: Path) -> Radiograph:
    """Measure a chest radiograph; `left` is the left side of the image. Raises NotUsable for one without contrast."""
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    if int(dataset.get("SamplesPerPixel") or 1) != 1 or min(dataset.get("Rows") or 0, dataset.get("Columns") or 0) < 64:
        raise NotUsable("The image is not a grey scale radiograph of at least 64 x 64 pixels.")
    image = next(iter(imaging.frames(path))).astype(np.float32)
    low, high = np.percentile(image, [1, 99])
    if high <= low:
        raise NotUsable("The image has no contrast.")
    scaled = np.clip((image - low) / (high - low), 0, 1)
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        scaled = 1 - scaled
    left, right = (scaled[field] for field in lung_fields(scaled.shape))
    return Radiograph((scaled * 255).astype(np.uint8), float(left.mean()), float(right.mean()))


def lung_fields(shape: tuple[int, ...]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The boxes (rows, columns) in which the lungs of a frontal chest radiograph lie: left and right in the image."""
    rows, columns = shape
    height = slice(int(rows * 0.15), int(rows * 0.5))  # above the heart, which would make the halves differ
    left, right = (slice(int(columns * first), int(columns * last)) for first, last in ((0.14, 0.42), (0.58, 0.86)))
    return (height, left), (height, right)
