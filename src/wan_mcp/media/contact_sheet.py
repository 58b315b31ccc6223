"""Contact sheets: frames of a video side by side, with their times, in one small JPEG.

A sheet is how a model that cannot play a video sees its motion. Small frames are enlarged, the
gaps are a gray that no frame has at its border, and the whole stays within a byte budget.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wan_mcp.media.images import fitting_jpeg

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["chosen_frames", "contact_sheet"]

MAX_BYTES = 25_000
"""Of a sheet: some frameworks give it to their model as text, at 1.4 characters a byte."""
QUALITIES = (88, 80, 70, 60, 50, 40, 30, 20)
"""Of the JPEG, best first: frames are made coarser before the sheet is made smaller."""
MAX_FRAMES = 9
SHEET_WIDTH = 780  # pixels; about what a model looks at without scaling it down
GAP = 6
CAPTION = 16  # height of the line of text under a frame
BACKGROUND = (72, 72, 72)
TEXT = (235, 235, 235)


def chosen_frames(count: int) -> list[int]:
    """Return the indices of up to nine frames, evenly spaced, including the first and the last."""
    if count <= MAX_FRAMES:
        return list(range(count))
    return [round(i * (count - 1) / (MAX_FRAMES - 1)) for i in range(MAX_FRAMES)]


def contact_sheet(
    frames: "NDArray[np.uint8]", fps: float, max_bytes: int = MAX_BYTES, *, indices: Sequence[int] | None = None
) -> bytes:
    """Return a JPEG of at most `max_bytes` from frames of shape (frames, height, width, 3).

    `indices` say which of a video's frames these are, if they are the chosen ones and not all.
    """
    from PIL import Image, ImageDraw, ImageFont

    chosen = chosen_frames(len(frames)) if indices is None else indices
    height, width = frames.shape[1:3]
    columns = _columns(len(chosen), width / height)
    rows = math.ceil(len(chosen) / columns)
    cell_width = (SHEET_WIDTH - GAP * (columns + 1)) // columns
    cell_height = max(1, round(cell_width * height / width))
    line = cell_height + CAPTION + GAP
    sheet = Image.new("RGB", (SHEET_WIDTH, rows * line + GAP), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    for place, index in enumerate(chosen):
        left = GAP + (place % columns) * (cell_width + GAP)
        top = GAP + (place // columns) * line
        frame = frames[index if indices is None else place]
        cell = Image.fromarray(frame).resize((cell_width, cell_height), Image.Resampling.LANCZOS)
        sheet.paste(cell, (left, top))
        draw.text((left + 1, top + cell_height + 1), f"{index / fps:.2f} s", fill=TEXT, font=font)
    return fitting_jpeg(sheet, max_bytes, QUALITIES)


def _columns(count: int, aspect: float) -> int:
    """Return the number of columns that makes the sheet nearest to a square."""
    return min(range(1, count + 1), key=lambda n: (abs(math.log(aspect * n / math.ceil(count / n))), -n))
