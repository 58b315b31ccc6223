"""What shape a blob is and how it is turned: the best overlap with ideal outlines at every angle.

A blob is moved to the middle of a small grid and scaled to a fixed filled area; its overlap (intersection over union)
with each ideal shape, turned in steps of 4 degrees, is the score. A shape counts only if it overlaps well: a pebble is
nearest to a circle, but it is no circle. Renders overlap by 0.95, a few small rings by 0.84.
"""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from smallworld.judge.blobs import Blob

GRID = 64
_FILLED_AREA = 900.0  # grid pixels
_STEP = 4.0  # degrees
_FINE = 8  # templates are drawn this much larger and averaged down

# Outer vertices and their reach relative to the first one, and the angle after which the shape looks the same.
_STAR_WAIST = 0.45
_RHOMBUS_WAIST = 0.62
_RING_HOLE = 0.56
PERIOD = {"circle": 0.0, "ring": 0.0, "square": 90.0, "triangle": 120.0, "star": 72.0, "diamond": 180.0}
# Length of the outer outline / square root of the area. The same small deviation along the outline costs a star half as
# much overlap again as a square, so what overlap is enough follows from this; a ring's inner outline is not counted.
OUTLINE_LENGTH = {"circle": 3.54, "ring": 4.28, "square": 4.0, "triangle": 4.56, "star": 5.98, "diamond": 4.23}


@dataclass(frozen=True)
class Likeness:
    """Overlap 0..1 with each shape, and the angle (degrees) of the best overlap with it."""

    overlap: dict[str, float]
    angle: dict[str, float]

    @property
    def best(self) -> str:
        return max(self.overlap, key=lambda shape: self.overlap[shape])


def _reaches(shape: str) -> list[float]:
    return {
        "square": [1.0] * 4,
        "triangle": [1.0] * 3,
        "star": [1.0, _STAR_WAIST] * 5,
        "diamond": [1.0, _RHOMBUS_WAIST] * 2,
    }[shape]


def _drawn(shape: str, degrees: float) -> NDArray[np.float32]:
    """The ideal shape on the grid, [GRID, GRID] 0..1, with the fixed filled area."""
    large = GRID * _FINE
    picture = np.zeros((large, large), np.uint8)
    if PERIOD[shape] == 0.0:
        radius = np.sqrt(_FILLED_AREA / np.pi) * _FINE
        ys, xs = np.mgrid[:large, :large] - (large - 1) / 2
        distance = np.hypot(xs, ys)
        disc = (distance <= radius) & ((shape == "circle") | (distance >= _RING_HOLE * radius))
        picture = disc.astype(np.uint8)
    else:
        reaches = np.array(_reaches(shape))
        angles = np.deg2rad(degrees - 90) + np.arange(len(reaches)) * 2 * np.pi / len(reaches)
        corners = np.stack([np.cos(angles), np.sin(angles)], 1) * reaches[:, None]
        area = cv2.contourArea(corners.astype(np.float32))
        corners = corners * np.sqrt(_FILLED_AREA / area) * _FINE + (large - 1) / 2
        cv2.fillPoly(picture, [np.round(corners).astype(np.int32)], 1)
    drawn: NDArray[np.float32] = picture.reshape(GRID, _FINE, GRID, _FINE).mean((1, 3)).astype(np.float32)
    return drawn


@cache
def _templates() -> tuple[list[tuple[str, float]], NDArray[np.float32]]:
    keys = [(shape, float(angle)) for shape, period in PERIOD.items() for angle in np.arange(0, max(period, 1), _STEP)]
    return keys, np.stack([_drawn(*key).ravel() for key in keys])


def likeness(blob: Blob) -> Likeness:
    """How alike the blob is to every ideal shape."""
    scale = np.sqrt(_FILLED_AREA / blob.filled_area)
    x, y = blob.centre
    middle = (GRID - 1) / 2
    matrix = np.array([[scale, 0, middle - scale * x], [0, scale, middle - scale * y]], dtype=np.float64)
    seen = cv2.warpAffine(blob.cover, matrix, (GRID, GRID), flags=cv2.INTER_LINEAR).ravel()
    seen = np.clip((seen - 0.5) * max(1.0, 1.5 / scale) + 0.5, 0, 1)
    keys, ideal = _templates()
    # For values in 0..1: min(a, b) = (a + b - |a - b|) / 2 and max(a, b) = (a + b + |a - b|) / 2.
    total, apart = ideal.sum(1) + seen.sum(), np.abs(ideal - seen).sum(1)
    overlaps = (total - apart) / (total + apart)
    best: dict[str, tuple[float, float]] = {}
    for (shape, angle), overlap in zip(keys, overlaps.tolist(), strict=True):
        if overlap > best.get(shape, (-1.0, 0.0))[0]:
            best[shape] = (overlap, angle)
    return Likeness({s: v[0] for s, v in best.items()}, {s: v[1] for s, v in best.items()})
