"""How an object moves: from the track of its centre, its area and its angle."""

import numpy as np
from numpy.typing import NDArray

# What a clear example of each motion shows over a clip; half of it is the least that counts.
_TRAVEL = 0.20  # of the frame's short side
_GROWTH = np.log(1.35)  # of the side length
_TURN = 100.0  # degrees
_BACK_AND_FORTH = 0.36  # of the short side, vertical path beyond the net way


def motion(centres: NDArray[np.float64], sides: NDArray[np.float64], turned: float, short_side: float) -> str:
    """Name the motion of a track: centres [T, 2] (x, y), side lengths [T], degrees turned in all."""
    edge = max(1, len(centres) // 8)
    start, end = centres[:edge].mean(0), centres[-edge:].mean(0)
    # Averaging the ends shortens a straight track a little.
    stretch = (len(centres) - 1) / max(len(centres) - edge, 1)
    right, down = (end - start) * stretch / short_side
    vertical = float(np.abs(np.diff(centres[:, 1])).sum()) / short_side
    grown = float(np.log(sides[-edge:].mean() / sides[:edge].mean()))
    scores = {
        "right" if right > 0 else "left": abs(right) / _TRAVEL,
        "down" if down > 0 else "up": abs(down) / _TRAVEL,
        "growing" if grown > 0 else "shrinking": abs(grown) / _GROWTH,
        "spinning": abs(turned) / _TURN,
        "bouncing": max(vertical - abs(float(down)), 0.0) / _BACK_AND_FORTH,
    }
    best = max(scores, key=lambda name: scores[name])
    return best if scores[best] >= 0.5 else "still"


def turned(angles: list[float], period: float) -> float:
    """Degrees turned over a track of angles known only up to `period` (0: a round shape, never turns)."""
    if period == 0.0 or len(angles) < 2:
        return 0.0
    steps = np.diff(np.asarray(angles))
    return float((np.remainder(steps + period / 2, period) - period / 2).sum())
