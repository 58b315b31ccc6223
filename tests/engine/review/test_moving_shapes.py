"""Shapes are found by their colours, and their motions by their places."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wan_mcp.engine.review.moving_shapes import moving_shapes

FRAMES = 9
RED, BLUE, GREEN = (225, 30, 35), (45, 85, 255), (40, 175, 50)
Path = tuple[float, float, float, float]
"""Where a square is, how large, and how far turned: x, y, side in shares of the frame, and radians."""


def at(motion: str, t: float) -> Path:
    """A square of this motion at a time from 0 to 1."""
    x, y, side, turn = 0.5, 0.5, 0.25, 0.0
    match motion:
        case "left" | "right":
            x = 0.5 + (0.2 if motion == "right" else -0.2) * (2 * t - 1)
        case "up" | "down":
            y = 0.5 + (0.2 if motion == "down" else -0.2) * (2 * t - 1)
        case "growing" | "shrinking":
            side = 0.25 * 1.5 ** (t if motion == "growing" else -t)
        case "spinning":
            turn = math.pi * t
        case "bouncing":
            y = 0.5 - 0.15 * abs(math.sin(2 * math.pi * t))
    return x, y, side, turn


def clip(size: tuple[int, int], ground: tuple[int, int, int], *squares: tuple[str, tuple[int, int, int], float]) -> (
    NDArray[np.uint8]
):  # fmt: skip
    """Frames with squares, each of a motion and a colour, moved aside by a share of the width."""
    frames = []
    for number in range(FRAMES):
        picture = Image.new("RGB", (4 * size[0], 4 * size[1]), ground)
        short = 4 * min(size)
        for motion, colour, aside in squares:
            x, y, side, turn = at(motion, number / (FRAMES - 1))
            corners = [turn + math.pi / 4 + quarter * math.pi / 2 for quarter in range(4)]
            centre = (4 * size[0] / 2 + (x - 0.5) * short + aside * 4 * size[0], 4 * size[1] / 2 + (y - 0.5) * short)
            reach = side * short / math.sqrt(2)
            ImageDraw.Draw(picture).polygon(
                [(centre[0] + reach * math.cos(a), centre[1] + reach * math.sin(a)) for a in corners], fill=colour
            )
        frames.append(np.asarray(picture.resize(size, Image.Resampling.LANCZOS)))
    return np.stack(frames)


MOTIONS = ("left", "right", "up", "down", "growing", "shrinking", "spinning", "bouncing", "still")


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize(("size", "ground"), [((128, 128), (8, 8, 10)), ((160, 96), (246, 246, 246))])
def test_each_motion_has_its_name(motion: str, size: tuple[int, int], ground: tuple[int, int, int]) -> None:
    assert [shape.motion for shape in moving_shapes(clip(size, ground, (motion, RED, 0.0)))] == [motion]


def test_two_shapes_are_told_apart_and_each_is_shown_alone() -> None:
    frames = clip((160, 96), (128, 128, 128), ("up", BLUE, -0.25), ("spinning", GREEN, 0.25))
    shapes = {shape.motion: shape.alone for shape in moving_shapes(frames)}
    assert set(shapes) == {"up", "spinning"}
    for motion, colour in (("up", BLUE), ("spinning", GREEN)):
        present = {tuple(pixel) for pixel in shapes[motion].reshape(-1, 3)}
        other = GREEN if colour == BLUE else BLUE
        assert colour in present
        assert other not in present


def test_an_empty_picture_has_no_shapes() -> None:
    assert moving_shapes(np.full((5, 64, 64, 3), 90, np.uint8)) == []
    noise = np.random.default_rng(0).integers(0, 255, (5, 64, 64, 3), dtype=np.uint8)
    assert len(moving_shapes(noise)) <= 4
