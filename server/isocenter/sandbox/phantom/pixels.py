"""The pixels of the phantoms: a chest with nodules at known places, its radiograph, a head, a cylinder of water.

Everything is built from integer arithmetic and elementary operations, so that every machine makes the same values.
Coordinates are in mm in the patient coordinate system: x to the left, y to the back, z to the head.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Signed = npt.NDArray[np.int16]
Unsigned = npt.NDArray[np.uint16]

SIZE, SPACING, SLICES, STEP = 256, 1.5, 120, 2.5
"""Rows and columns of a slice, mm between pixels, slices of the baseline CT, mm between slices."""
FIRST_XY, FIRST_Z = -(SIZE - 1) / 2 * SPACING, -(SLICES - 1) / 2 * STEP
"""Where the first pixel of the first slice lies, in mm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodule:
    """A ball in the lung of the chest phantom: centre and diameter in mm, density in Hounsfield units."""

    name: str
    x: float
    y: float
    z: float
    diameter: float
    density: int


NODULES = (
    Nodule(name="right upper lobe", x=-72.0, y=-8.0, z=62.5, diameter=14.0, density=40),
    Nodule(name="right lower lobe", x=-84.0, y=38.0, z=-40.0, diameter=9.0, density=60),
    Nodule(name="left upper lobe", x=66.0, y=-30.0, z=45.0, diameter=11.0, density=-350),
    Nodule(name="left lower lobe", x=78.0, y=44.0, z=-57.5, diameter=20.0, density=55),
)
"""The nodules of the baseline chest CT; the third is part-solid, that is, less dense than tissue."""

GROWTH = 1.5
"""By this the diameter of the first nodule differs between baseline and follow-up; the others stay."""


def noise(shape: tuple[int, int], amplitude: int) -> Floats:
    """A fixed grain: the sum of four bytes of a multiplicative hash is near enough to a bell curve."""
    mixed = np.arange(shape[0] * shape[1], dtype=np.uint32) * np.uint32(2654435761)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(2246822519)
    mixed ^= mixed >> np.uint32(13)
    grain = sum(((mixed >> np.uint32(shift)) & np.uint32(255)).astype(np.float32) for shift in (0, 8, 16, 24))
    return ((np.asarray(grain) - 510.0) * (amplitude / 148.0)).astype(np.float32).reshape(shape)


def put(image: Floats, square: Floats, value: float, sharpness: float) -> None:
    """Blend a shape into the image; `square` is the squared distance from its centre, 1 at its surface."""
    image += (value - image) * np.clip((1.0 - square) * sharpness, 0.0, 1.0)


def chest(nodules: tuple[Nodule, ...], slices: int, step: float) -> Signed:
    """The chest in Hounsfield units, slice by slice from the feet to the head."""
    axis = (np.arange(SIZE, dtype=np.float32) * SPACING + FIRST_XY).astype(np.float32)
    x, y = np.meshgrid(axis, axis)

    def ellipse(cx: float, cy: float, rx: float, ry: float) -> Floats:
        return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2

    body, thorax, spine = ellipse(0, 0, 165, 110), ellipse(0, -2, 142, 92), ellipse(0, 66, 19, 17)
    right, left, heart = ellipse(-70, 2, 54, 70), ellipse(72, 2, 50, 68), ellipse(22, -22, 52, 40)
    trachea, aorta, canal = ellipse(0, 8, 9, 8), ellipse(24, 44, 13, 13), ellipse(0, 92, 9, 7)
    ring = (thorax > 1.0) & (thorax < 1.16)
    slope = np.abs(x) * 0.35
    grain = noise((SIZE, SIZE), 14)
    volume = np.empty((slices, SIZE, SIZE), np.int16)
    for index in range(slices):
        z = (index - (slices - 1) / 2) * step
        image = np.full((SIZE, SIZE), -1000.0, np.float32)
        put(image, body, -95.0, 40)
        put(image, body * 1.12, 45.0, 40)
        height = (z / 138.0) ** 2
        put(image, right + height, -860.0, 18)
        put(image, left + height, -855.0, 18)
        put(image, heart + ((z + 45) / 55.0) ** 2, 55.0, 16)
        put(image, aorta, 60.0, 6)
        if z > 10:
            put(image, trachea, -990.0, 4)
        image[ring & (np.mod(z + slope, 24.0) < 9.0)] = 420.0
        put(image, spine, 380.0 if index % 12 < 9 else 120.0, 8)
        put(image, canal, 25.0, 4)
        for nodule in nodules:
            radius = nodule.diameter / 2
            if abs(z - nodule.z) < radius:
                ball = ellipse(nodule.x, nodule.y, radius, radius) + ((z - nodule.z) / radius) ** 2
                put(image, ball, nodule.density, radius)
        image += np.roll(grain, index * 7919)
        np.rint(np.clip(image, -1024, 3071), out=image)
        volume[index] = image
    return volume


def radiograph(volume: Signed) -> Unsigned:
    """The chest seen from the front: absorption added up along y, enlarged to 400 rows x 512 columns, 12 bits."""
    absorption = np.clip(volume.astype(np.float32) + 1000.0, 0.0, None).sum(axis=1)[::-1] * np.float32(SPACING)
    rows, columns = np.linspace(0, SLICES - 1.001, 400), np.linspace(0, SIZE - 1.001, 512)
    top, leftmost = rows.astype(int), columns.astype(int)
    down, along = (rows - top)[:, None], (columns - leftmost)[None, :]
    upper = absorption[top][:, leftmost] * (1 - along) + absorption[top][:, leftmost + 1] * along
    lower = absorption[top + 1][:, leftmost] * (1 - along) + absorption[top + 1][:, leftmost + 1] * along
    image = (upper * (1 - down) + lower * down) / 75.0 + noise((400, 512), 12)
    pixels: Unsigned = np.clip(np.rint(image), 0, 4095).astype(np.uint16)
    return pixels


def head(size: int, z: float, contrast: float) -> Unsigned:
    axis = (np.arange(size, dtype=np.float32) - (size - 1) / 2) * (240.0 / size)
    x, y = np.meshgrid(axis, axis)
    image = np.zeros((size, size), np.float32)
    height = (z / 95.0) ** 2
    for rx, ry, value in ((78, 98, 900.0), (73, 93, 150.0), (68, 88, 520.0), (58, 78, 700.0)):
        put(image, (x / rx) ** 2 + (y / ry) ** 2 + height, value, 20)
    for side in (-1, 1):
        put(image, ((x - side * 13) / 8) ** 2 + ((y + 4) / 26) ** 2 + (z / 30) ** 2, 180.0, 5)
    put(image, ((x - 34) ** 2 + (y - 22) ** 2 + (z - 12) ** 2) / 11.0**2, 520.0 + contrast, 6)
    image += np.abs(noise((size, size), 20))
    return np.clip(np.rint(image), 0, 4095).astype(np.uint16)


def water_slices() -> Signed:
    """Four slices of a cylinder full of water, in Hounsfield units."""
    axis = np.arange(128, dtype=np.float32) - 63.5
    x, y = np.meshgrid(axis, axis)
    image = np.full((128, 128), -1000.0, np.float32)
    put(image, (x**2 + y**2) / 50.0**2, 120.0, 20)
    put(image, (x**2 + y**2) / 48.0**2, 0.0, 20)
    slices = np.stack([np.rint(image + np.roll(noise((128, 128), 5), 31 * index)) for index in range(4)])
    return slices.astype(np.int16)
