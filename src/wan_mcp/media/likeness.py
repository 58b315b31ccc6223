"""How alike two clips are: peak signal-to-noise ratio, structural similarity and flicker, with their intervals.

A clip is an array of bytes [frames, height, width, 3]. `wan-mcp bench --quality` and the benchmarks use it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SAME_DB", "flicker", "interval", "psnr", "ssim"]

SAME_DB = 99.0
"""What `psnr` returns for clips that are the very same."""
REC_601 = (0.299, 0.587, 0.114)
SIGMA, RADIUS = 1.5, 5
"""Of the Gaussian window of SSIM: 11 pixels wide (Wang et al. 2004)."""
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
RESAMPLES = 2000


def psnr(one: "NDArray[np.uint8]", other: "NDArray[np.uint8]") -> float:
    """Return the peak signal-to-noise ratio of two clips in dB."""
    error = np.square(one.astype(np.float64) - other).mean()
    return SAME_DB if error == 0 else float(10 * np.log10(255**2 / error))


def ssim(one: "NDArray[np.uint8]", other: "NDArray[np.uint8]") -> float:
    """Return the mean structural similarity of two clips, frame by frame over luma; 1 for the very same.

    The window and the constants are those of Wang, Bovik, Sheikh and Simoncelli (2004).
    """
    return float(np.mean([_ssim(_luma(a), _luma(b)) for a, b in zip(one, other, strict=True)]))


def flicker(clip: "NDArray[np.uint8]") -> float:
    """Return how much the change from frame to frame changes, in grey levels of 255; 0 for fewer than three frames."""
    if len(clip) < 3:
        return 0.0
    before, now, after = (_luma(clip[start : len(clip) - 2 + start]) for start in range(3))
    return float(np.abs(after - 2 * now + before).mean())


def interval(values: Sequence[float]) -> dict[str, float]:
    """Return the mean of values, and the 95 % confidence interval of the mean by the bootstrap (percentiles)."""
    found = np.array(values)
    picked = np.random.default_rng(0).integers(0, len(found), (RESAMPLES, len(found)))
    low, high = np.percentile(found[picked].mean(axis=1), (2.5, 97.5))
    return {"mean": round(float(found.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def _luma(pixels: "NDArray[np.uint8]") -> "NDArray[np.float64]":
    luma: NDArray[np.float64] = pixels.astype(np.float64) @ np.array(REC_601)
    return luma


def _ssim(x: "NDArray[np.float64]", y: "NDArray[np.float64]") -> float:
    mx, my = _blurred(x), _blurred(y)
    vx, vy, vxy = _blurred(x * x) - mx * mx, _blurred(y * y) - my * my, _blurred(x * y) - mx * my
    likeness = ((2 * mx * my + C1) * (2 * vxy + C2)) / ((mx * mx + my * my + C1) * (vx + vy + C2))
    return float(likeness.mean())


def _blurred(image: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """Return an image [height, width] under the window; it is mirrored at its borders."""
    places = np.arange(-RADIUS, RADIUS + 1)
    weights = np.exp(-0.5 * (places / SIGMA) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        around = np.pad(image, [(RADIUS, RADIUS) if each == axis else (0, 0) for each in (0, 1)], mode="symmetric")
        size = image.shape[axis]
        image = sum(
            (weight * np.take(around, range(start, start + size), axis) for start, weight in enumerate(weights)),
            np.zeros_like(image),
        )
    return image
