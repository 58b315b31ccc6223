"""From a frame to blobs: what differs from the background, piece by piece."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from smallworld.judge import colours

# A pixel further than this (Delta E) from the background may belong to an object.
_DIFFERENT = 16.0
_SMALLEST = 16


@dataclass(frozen=True)
class Blob:
    """One connected piece of a frame that is not background."""

    colour: str | None
    cover: NDArray[np.float32]  # [H, W] 0..1, how much of each pixel the blob covers
    filled_area: float  # pixels inside its outer outline, holes included
    centre: tuple[float, float]  # x, y of the filled outline


def background(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The background's colour: the commonest colour of the clip (to 8 levels), averaged over its pixels."""
    pixels = frames.reshape(-1, 3)
    if len(pixels) > 200_000:
        pixels = pixels[:: len(pixels) // 200_000]
    coarse = (pixels >> 4).astype(np.int32)
    codes = coarse[:, 0] * 256 + coarse[:, 1] * 16 + coarse[:, 2]
    # Neighbouring codes may share the background between them: start from the commonest, then take all that is near.
    seed = pixels[codes == np.bincount(codes).argmax()].mean(0)
    near = np.abs(pixels - seed).max(1) < 20
    return np.asarray(np.median(pixels[near], axis=0), dtype=np.uint8)


def blobs(frame: NDArray[np.uint8], ground: NDArray[np.uint8]) -> list[Blob]:
    """The blobs of one frame [H, W, 3], largest first."""
    difference = np.linalg.norm(colours.lab(frame) - colours.lab(ground), axis=-1)
    different = (difference > _DIFFERENT).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(different, connectivity=8)
    found = []
    for label in range(1, count):
        if stats[label, cv2.CC_STAT_AREA] < _SMALLEST:
            continue
        blob = _blob(frame, ground, labels == label, difference)
        if blob is not None:
            found.append(blob)
    return sorted(found, key=lambda blob: -blob.filled_area)


def _blob(
    frame: NDArray[np.uint8], ground: NDArray[np.uint8], inside: NDArray[np.bool_], difference: NDArray[np.float32]
) -> Blob | None:
    # Its colour: the median of the half of its pixels that differ most, so that soft edges do not count.
    strong = inside & (difference >= np.median(difference[inside]))
    paint = np.median(frame[strong], axis=0)
    axis = paint - ground.astype(np.float64)
    near = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    cover = np.clip(((frame.astype(np.float64) - ground) @ axis) / max(float(axis @ axis), 1.0), 0, 1) * near
    solid = (cover > 0.5).astype(np.uint8)
    outlines, _ = cv2.findContours(solid, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return None
    filled = np.zeros_like(solid)
    cv2.drawContours(filled, [max(outlines, key=cv2.contourArea)], -1, 1, cv2.FILLED)
    # Soft edges count with their share, which keeps areas and centres exact to a fraction of a pixel.
    rim = cv2.dilate(filled, np.ones((3, 3), np.uint8)) - cv2.erode(filled, np.ones((3, 3), np.uint8))
    weight = np.where((filled > 0) & (rim == 0), 1.0, cover * (rim > 0))
    area = float(weight.sum())
    if area < _SMALLEST:
        return None
    ys, xs = np.mgrid[: frame.shape[0], : frame.shape[1]]
    centre = (float((xs * weight).sum() / area), float((ys * weight).sum() / area))
    name = colours.name(np.asarray(paint, dtype=np.uint8), colours.OBJECT_COLOURS)
    return Blob(name, cover.astype(np.float32), area, centre)
