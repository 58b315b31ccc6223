"""Still images: a PNG that carries its receipt and says that it was generated, and small JPEG previews.

A receipt is a JSON object that says how a result was made. Pillow and numpy are imported where
they are used, so that a front may import this module and still start at once. Independent of torch.
"""

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wan_mcp.media.generated_mark import PNG_KEYWORD, XMP
from wan_mcp.media.store import MediaName, MediaStore, whole
from wan_mcp.schema.jobs import Artifact

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

__all__ = ["IMAGE_DESCRIPTION", "RECEIPT_KEY", "bounded", "fitting_jpeg", "preview_jpeg", "write_image"]

RECEIPT_KEY = "wan_mcp"
IMAGE_DESCRIPTION = 0x010E
"""The EXIF tag that holds the receipt of a JPEG or WebP file, also of an animated one."""
QUALITIES = (88, 80, 70, 60, 45)
SMALLER = 0.8  # how much a picture shrinks when the lowest quality is still too large
COMPRESSION = 4  # of zlib: 3 % more bytes than the 9 that `optimize` means, in an eighth of the time
MIN_PREVIEW_SIDE = 16  # pixels of the longer side, below which nothing is made smaller
MAX_PREVIEW_SIDE = 768  # pixels of the longer side


def write_image(
    media: MediaStore, name: MediaName, pixels: "NDArray[np.uint8]", receipt: Mapping[str, Any], seed: int
) -> Artifact:
    """Write a still of shape (height, width, 3) as a PNG with its receipt in a text chunk.

    Raises:
        OutOfSpace: the disk is full.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_itxt(RECEIPT_KEY, json.dumps(receipt, ensure_ascii=False, sort_keys=True))
    text.add_itxt(PNG_KEYWORD, XMP.decode())
    picture = Image.fromarray(pixels)
    path = media.path(name)
    with whole(path) as temporary:
        picture.save(temporary, "PNG", pnginfo=text, compress_level=COMPRESSION)
    return Artifact(
        uri=name.uri,
        mime_type=name.mime_type,
        bytes=path.stat().st_size,
        width=picture.width,
        height=picture.height,
        seed=seed,
        path=str(path),
    )


def preview_jpeg(source: "Path | Image", max_bytes: int = 60_000) -> bytes:
    """Return a JPEG preview of an image, at most `max_bytes` long."""
    from PIL import Image

    if isinstance(source, Path):
        with Image.open(source) as picture:
            return fitting_jpeg(bounded(picture.convert("RGB")), max_bytes)
    return fitting_jpeg(bounded(source.convert("RGB")), max_bytes)


def bounded(picture: "Image") -> "Image":
    """Make a picture smaller in place, if it is larger than previews are, and return it."""
    picture.thumbnail((MAX_PREVIEW_SIDE, MAX_PREVIEW_SIDE))
    return picture


def fitting_jpeg(picture: "Image", max_bytes: int, qualities: Iterable[int] = QUALITIES) -> bytes:
    """Return the best JPEG of a generated RGB image that fits: reduce the quality first, then the size."""
    from PIL.Image import Resampling

    qualities = tuple(qualities)
    while True:
        for quality in qualities:
            out = io.BytesIO()
            try:
                # Without chroma subsampling: coloured edges matter more here than a few kB.
                picture.save(out, "JPEG", quality=quality, subsampling=0, optimize=True, xmp=XMP)
            except OSError:  # it outgrew Pillow's buffer of one byte per pixel, at least 64 kB: too large
                continue
            if out.tell() <= max_bytes or max(picture.size) <= MIN_PREVIEW_SIDE:
                return out.getvalue()
        width, height = picture.size
        smaller = (max(1, int(width * SMALLER)), max(1, int(height * SMALLER)))
        picture = picture.resize(smaller, Resampling.LANCZOS)
