"""Shapes on a plain background, found in the frames of a video by their colours, and how each moves.

For captioners that know only stills. Frames are arrays (frames, height, width, 3) of uint8.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["MovingShape", "moving_shapes"]

Frames = NDArray[np.uint8]
Mask = NDArray[np.bool_]

BACKGROUND_REACH = 48  # levels of a channel by which a pixel differs from the background to belong to a shape
COLOUR_REACH = 80  # levels by which pixels of one shape differ at most; edges are mixed with the background
SMALLEST = 0.004  # of a frame's pixels; less is no shape
MOST = 4  # shapes that are looked for
BINS = 32  # levels of a channel that count as the same colour at first

# A clear example of each motion over a clip, in the short side of the frame, of the side of the shape, or of its area.
# Half of it is the least that counts as that motion.
TRAVEL, GROWTH, TURNED, BACK_AND_FORTH = 0.20, math.log(1.35), 0.24, 0.36


@dataclass(frozen=True)
class MovingShape:
    """One shape of a video."""

    alone: Frames
    """The first frame with this shape only."""
    motion: str
    """left, right, up, down, growing, shrinking, spinning, bouncing or still."""


def moving_shapes(frames: Frames) -> list[MovingShape]:
    """Return the shapes of the first frame, the largest first, as far as they stay in sight."""
    ground = np.median(_border(frames), axis=0)
    distance = np.abs(frames.astype(np.int16) - ground).max(-1)
    present: NDArray[np.bool_] = distance > BACKGROUND_REACH
    found = []
    left = present[0].copy()
    for _ in range(MOST):
        colour = _commonest(frames[0][left]) if left.sum() >= SMALLEST * left.size else None
        if colour is None:
            break
        near = np.abs(frames.astype(np.int16) - colour).max(-1) <= COLOUR_REACH
        masks = present & near
        if masks[0].sum() < SMALLEST * left.size:
            break
        if all(mask.any() for mask in masks):
            alone = np.where(_grown(masks[0])[..., None], frames[0], ground.round().astype(np.uint8))
            found.append((int(masks[0].sum()), MovingShape(alone, _motion(masks))))
        left &= ~_grown(masks[0])
    return [shape for _, shape in sorted(found, key=lambda each: -each[0])]


def _border(frames: Frames) -> Frames:
    sides = (frames[:, 0], frames[:, -1], frames[:, :, 0], frames[:, :, -1])
    return np.concatenate([side.reshape(-1, 3) for side in sides])


def _commonest(pixels: Frames) -> NDArray[np.float64]:
    """Return the mean of the pixels in the fullest bin of colours."""
    bins = (pixels // BINS).astype(np.int32) @ np.array([1, 8, 64])
    mean: NDArray[np.float64] = pixels[bins == np.bincount(bins).argmax()].mean(0)
    return mean


def _grown(mask: Mask) -> Mask:
    """Return a mask with two pixels more on each side, for edges that are mixed with the background."""
    for axis in (0, 1):
        shifted = [np.roll(mask, step, axis) for step in (-2, -1, 1, 2)]
        mask = np.logical_or.reduce([mask, *shifted])
    return mask


def _motion(masks: Mask) -> str:
    """Name the motion of a shape by the masks of its frames."""
    short_side = min(masks.shape[1:])
    centres = np.array([np.argwhere(mask).mean(0) for mask in masks])  # down, right
    sides = np.sqrt(masks.sum((1, 2)))
    edge = max(1, len(masks) // 8)
    stretch = (len(masks) - 1) / max(1, len(masks) - edge)  # the means of both ends are closer than the ends
    down, right = (centres[-edge:].mean(0) - centres[:edge].mean(0)) * stretch / short_side
    path = float(np.abs(np.diff(centres[:, 0])).sum()) / short_side
    grown = math.log(sides[-edge:].mean() / sides[:edge].mean())
    scores = {
        "right" if right > 0 else "left": abs(right) / TRAVEL,
        "down" if down > 0 else "up": abs(down) / TRAVEL,
        "growing" if grown > 0 else "shrinking": abs(grown) / GROWTH,
        "bouncing": max(path - abs(down), 0.0) / BACK_AND_FORTH,
    }
    best = max(scores, key=lambda name: scores[name])
    if scores[best] >= 0.5:
        return best
    return "spinning" if _turned(masks, centres) / TURNED >= 0.5 else "still"


def _turned(masks: Mask, centres: NDArray[np.float64]) -> float:
    """Return the largest share of its outline's area that a shape does not cover any more, laid centre on centre."""
    first, most = masks[0], 0.0
    for mask, centre in zip(masks[1:], centres[1:], strict=True):
        down, right = np.rint(centres[0] - centre).astype(int)
        moved = np.roll(mask, (down, right), (0, 1))
        most = max(most, 1 - float((first & moved).sum() / (first | moved).sum()))
    return most
