"""How alike the results of both sides are, as anybody sees them: from their finished files."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wan_mcp.media.input_videos import decoded
from wan_mcp.media.likeness import SAME_DB, flicker, interval, psnr, ssim

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["compared"]

LOOKED_AT = 17
"""Most frames of a video in which SSIM is computed, evenly spaced: it takes the longest."""


def compared(ours: list[Path], others: list[Path], size: tuple[int, int]) -> dict[str, Any] | None:
    """Return PSNR, SSIM and more flicker than in the other results, each with the interval of its mean.

    Results are compared in order, those of `size` (width, height) in the same place of both lists; None if there are
    none. Both were written by the same encoder, so the very same frames are the very same files.
    """
    found: dict[str, list[float]] = {"psnr_db": [], "ssim": [], "flicker": []}
    for one, other in zip(ours, others, strict=False):
        mine, its = _frames(one, size), _frames(other, size)
        step = -(-len(mine) // LOOKED_AT)
        found["psnr_db"].append(psnr(mine, its))
        found["ssim"].append(ssim(mine[::step], its[::step]))
        found["flicker"].append(flicker(mine) - flicker(its))
    if not found["ssim"]:
        return None
    same = sum(value == SAME_DB for value in found["psnr_db"])
    return {"results": len(found["ssim"]), "same": same} | {name: interval(each) for name, each in found.items()}


def _frames(file: Path, size: tuple[int, int]) -> "NDArray[np.uint8]":
    """Return a result as a clip [frames, height, width, 3]; a picture is one frame."""
    import numpy as np
    from PIL import Image

    if file.suffix == ".png":
        with Image.open(file) as picture:
            return np.asarray(picture.convert("RGB"))[None]
    with closing(decoded(file, size)) as batches:
        return np.concatenate(list(batches))
