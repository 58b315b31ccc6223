"""Names of colours: the nearest reference in CIE Lab, or none when nothing is near."""

import cv2
import numpy as np
from numpy.typing import NDArray

OBJECT_COLOURS = {
    "red": (225, 30, 35),
    "green": (40, 175, 50),
    "blue": (45, 85, 255),
    "yellow": (250, 225, 40),
    "purple": (140, 45, 190),
    "orange": (255, 140, 0),
    "pink": (255, 130, 190),
    "cyan": (30, 230, 235),
}
GROUND_COLOURS = {
    "black": (8, 8, 10),
    "white": (246, 246, 246),
    "gray": (128, 128, 128),
    "navy": (14, 22, 84),
    "teal": (0, 104, 104),
    "brown": (104, 64, 32),
    "sky": (158, 206, 246),
}
# Further than this (Delta E 1976) from every reference is no colour that has a name here.
_FARTHEST = 30.0


def lab(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[..., 3] RGB 0..255 to CIE Lab (L 0..100)."""
    flat = np.ascontiguousarray(rgb.reshape(1, -1, 3)).astype(np.float32) / 255
    return np.asarray(cv2.cvtColor(flat, cv2.COLOR_RGB2LAB), np.float32).reshape(rgb.shape)


def name(rgb: NDArray[np.uint8], references: dict[str, tuple[int, int, int]]) -> str | None:
    """The reference nearest to one colour, None if none is near."""
    table = lab(np.array(list(references.values()), dtype=np.uint8))
    distance = np.linalg.norm(table - lab(np.asarray(rgb, dtype=np.uint8)), axis=-1)
    best = int(distance.argmin())
    return list(references)[best] if distance[best] < _FARTHEST else None
