"""Contact sheets: frames of a video side by side, with their times, in one small JPEG.

Where several videos stand side by side, each has a strip: one row of its frames with its number and seed.

A sheet is how a model that cannot play a video sees its motion. Small frames are enlarged, the
gaps are a gray that no frame has at its border, and the whole stays within a byte budget.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wan_mcp.media.images import fitting_jpeg

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

__all__ = ["chosen_frames", "contact_sheet", "strip", "titled"]

MAX_BYTES = 25_000
"""Of a sheet: some frameworks give it to their model as text, at 1.4 characters a byte."""
QUALITIES = (88, 80, 70, 60, 50, 40, 30, 20)
"""Of the JPEG, best first: frames are made coarser before the sheet is made smaller."""
MAX_FRAMES = 9
STRIP_FRAMES = 5
SHEET_WIDTH = 780  # pixels; about what a model looks at without scaling it down
GAP = 6
CAPTION = 16  # height of the line of text under a frame
TITLE = 22  # and of that above a strip
BACKGROUND = (72, 72, 72)
TEXT = (235, 235, 235)


def chosen_frames(count: int) -> list[int]:
    """Return the indices of up to nine frames, evenly spaced, including the first and the last."""
    return _spread(count, min(count, MAX_FRAMES))


def _spread(count: int, chosen: int) -> list[int]:
    """Return so many of the first `count` numbers, evenly spaced, including the first and the last."""
    return [round(i * (count - 1) / max(1, chosen - 1)) for i in range(chosen)]


def contact_sheet(
    frames: "NDArray[np.uint8]", fps: float, max_bytes: int = MAX_BYTES, *, indices: Sequence[int] | None = None
) -> bytes:
    """Return a JPEG of at most `max_bytes` from frames of shape (frames, height, width, 3).

    `indices` say which of a video's frames these are, if they are the chosen ones and not all.
    """
    from PIL import Image, ImageDraw, ImageFont

    chosen = chosen_frames(len(frames)) if indices is None else indices
    height, width = frames.shape[1:3]
    grid = _Grid.of(len(chosen), width / height)
    sheet = Image.new("RGB", grid.size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    for place, index in enumerate(chosen):
        left, top = grid.corner(place)
        frame = frames[index if indices is None else place]
        cell = Image.fromarray(frame).resize(grid.cell, Image.Resampling.LANCZOS)
        sheet.paste(cell, (left, top))
        draw.text((left + 1, top + grid.cell[1] + 1), f"{index / fps:.2f} s", fill=TEXT, font=font)
    return fitting_jpeg(sheet, max_bytes, QUALITIES)


def strip(sheet: "Image", frames: int, fps: float, aspect: float, title: str, max_bytes: int) -> bytes:
    """Return a JPEG of a few frames of a sheet in one row, with a title above, for one of several videos.

    `frames`, `fps` and `aspect` (width by height) are the video's. Another sheet than `contact_sheet` makes of it stays
    whole.
    """
    from PIL import Image, ImageDraw, ImageFont

    chosen = chosen_frames(frames)
    grid = _Grid.of(len(chosen), aspect)
    if sheet.size != grid.size:
        return titled(sheet, title, max_bytes)
    places = _spread(len(chosen), min(len(chosen), STRIP_FRAMES))
    width = min(grid.cell[0], (SHEET_WIDTH - GAP * (len(places) + 1)) // len(places))
    height = max(1, round(width / aspect))
    row = Image.new("RGB", (GAP + (width + GAP) * len(places), height + CAPTION + GAP), BACKGROUND)
    draw, font = ImageDraw.Draw(row), ImageFont.load_default(12)
    for at, place in enumerate(places):
        left, top = grid.corner(place)
        cell = sheet.crop((left, top, left + grid.cell[0], top + grid.cell[1]))
        left = GAP + (width + GAP) * at
        row.paste(cell.resize((width, height), Image.Resampling.LANCZOS), (left, 0))
        draw.text((left + 1, height + 1), f"{chosen[place] / fps:.2f} s", fill=TEXT, font=font)
    return titled(row, title, max_bytes)


def titled(picture: "Image", title: str, max_bytes: int) -> bytes:
    """Return a JPEG of a picture with a title above it, at most `max_bytes` long."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(14)
    width = max(picture.width, math.ceil(font.getlength(title)) + 2 * GAP)
    whole = Image.new("RGB", (width, picture.height + TITLE), BACKGROUND)
    whole.paste(picture, ((width - picture.width) // 2, TITLE))
    ImageDraw.Draw(whole).text((GAP, 3), title, fill=TEXT, font=font)
    return fitting_jpeg(whole, max_bytes, QUALITIES)


@dataclass(frozen=True)
class _Grid:
    """Where the frames of a sheet are; all in pixels."""

    columns: int
    cell: tuple[int, int]
    size: tuple[int, int]
    """Of the whole sheet."""

    @classmethod
    def of(cls, count: int, aspect: float) -> "_Grid":
        """Return the grid of so many frames of that aspect."""
        columns = _columns(count, aspect)
        width = (SHEET_WIDTH - GAP * (columns + 1)) // columns
        height = max(1, round(width / aspect))
        rows = math.ceil(count / columns)
        return cls(columns, (width, height), (SHEET_WIDTH, rows * (height + CAPTION + GAP) + GAP))

    def corner(self, place: int) -> tuple[int, int]:
        """Return the left and the top of the frame at a place, in reading order."""
        column, row = place % self.columns, place // self.columns
        return GAP + column * (self.cell[0] + GAP), GAP + row * (self.cell[1] + CAPTION + GAP)


def _columns(count: int, aspect: float) -> int:
    """Return the number of columns that makes the sheet nearest to a square."""
    return min(range(1, count + 1), key=lambda n: (abs(math.log(aspect * n / math.ceil(count / n))), -n))
