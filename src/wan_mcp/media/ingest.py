"""Ingestion of input images: found, bounded, decoded safely, set upright, and stored.

What an engine reads later is our own PNG copy under its content's hash, so a job does not depend
on a file that may change, and no second decoder ever sees foreign bytes.
"""

import base64
import binascii
import hashlib
import io
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from wan_mcp.errors import BadImage
from wan_mcp.media.store import MediaName, MediaStore, whole
from wan_mcp.schema.enums import Kind
from wan_mcp.schema.plans import InputImage
from wan_mcp.text import in_bytes

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["InputImages"]

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
MIN_SIDE = 8
SIXTEEN_BITS = 65535


class InputImages:
    """Ingests images into the home folder."""

    def __init__(
        self,
        media: MediaStore,
        folders: Iterable[Path],
        max_mb: float,
        max_megapixels: float,
        *,
        any_folder: bool = False,
    ) -> None:
        """Read images from any folder with `any_folder`, for a person at their own command line."""
        self._media = media
        self._folders = tuple(folders)
        self._max_bytes = int(max_mb * 1e6)
        self._max_pixels = int(max_megapixels * 1e6)
        self._any_folder = any_folder

    def take(self, source: str) -> InputImage:
        """Ingest an image from a local path, a wan:// address of an earlier result, or a data URI.

        Raises:
            BadImage: It is missing, outside the allowed folders, too large, or not an image; the message says which.
        """
        read: Callable[[str], tuple[bytes, str]]
        if source.startswith("data:"):
            read = self._from_data_uri
        elif source.startswith("wan:"):
            read = self._from_result
        elif source.startswith("file://"):
            read = self._from_file_address
        elif "://" in source:
            raise BadImage("image URLs are not supported; use a local path or a data URI")
        else:
            read = self._from_path
        data, origin = read(source)
        return self._keep(data, origin)

    def _from_data_uri(self, source: str) -> tuple[bytes, str]:
        head, _, body = source.partition(",")
        if not head.endswith(";base64") or not head.startswith("data:image/"):
            raise BadImage("a data URI must look like data:image/png;base64,…")
        if len(body) * 3 // 4 > self._max_bytes + 3:
            raise self._too_many_bytes(len(body) * 3 // 4)
        try:
            return base64.b64decode(body, validate=True), "data URI"
        except (binascii.Error, ValueError) as error:
            raise BadImage("the data URI is not valid base64") from error

    def _from_result(self, source: str) -> tuple[bytes, str]:
        name = MediaName.parse(source)
        path = self._media.path(name) if name.kind is Kind.IMAGE else self._media.poster(name)
        if not path.is_file():
            raise BadImage(f"no result {source}; it may have been deleted")
        return path.read_bytes(), source

    def _from_file_address(self, source: str) -> tuple[bytes, str]:
        address = urlsplit(source)
        if address.netloc not in ("", "localhost"):
            raise BadImage(f"{source[:200]} is on another machine; use a local path or a data URI")
        return self._from_path(url2pathname(address.path))

    def _from_path(self, source: str) -> tuple[bytes, str]:
        try:
            path = Path(source.removeprefix("file:")).expanduser().resolve()
            allowed = [folder.resolve() for folder in (*self._folders, self._media.home / "media")]
            if not self._any_folder and not any(path.is_relative_to(folder) for folder in allowed):
                folders = ", ".join(map(str, self._folders)) or "none, only results of earlier jobs"
                raise BadImage(
                    f"the image is outside the allowed folders ({folders}); "
                    "copy it into one, send it as a data URI, or add its folder to WAN_MCP_IMAGE_DIRS"
                )
            if not path.is_file():
                raise BadImage(f"no file {source}")
            if (size := path.stat().st_size) > self._max_bytes:
                raise self._too_many_bytes(size)
            return path.read_bytes(), str(path)
        except (OSError, ValueError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or "not a usable path"
            raise BadImage(f"the file {source[:200]} cannot be read: {reason}") from error

    def _too_many_bytes(self, size: int) -> BadImage:
        return BadImage(f"the image has {in_bytes(size)}; the limit is {in_bytes(self._max_bytes)}")

    def _keep(self, data: bytes, origin: str) -> InputImage:
        png, width, height = self._normalized(data)
        digest = hashlib.sha256(png).hexdigest()
        file = self._media.inputs / f"{digest}.png"
        if not file.is_file():
            with whole(file) as temporary:
                temporary.write_bytes(png)
        return InputImage(
            sha256=digest, file=str(file.relative_to(self._media.home)), width=width, height=height, source=origin
        )

    def _normalized(self, data: bytes) -> tuple[bytes, int, int]:
        """Return the image as PNG bytes, upright, RGB over white, with its width and height."""
        from PIL import Image, ImageOps

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of odd metadata; the size is checked below, before decoding
                with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                    width, height = picture.size
                    if width * height > self._max_pixels:
                        raise BadImage(
                            f"the image has {width}x{height} pixels; the limit is {self._max_pixels / 1e6:g} megapixels"
                        )
                    if min(width, height) < MIN_SIDE:
                        raise BadImage(
                            f"the image has only {width}x{height} pixels; each side needs at least {MIN_SIDE}"
                        )
                    picture.load()
                    upright = ImageOps.exif_transpose(picture)
        except BadImage:
            raise
        except Image.DecompressionBombError as error:
            raise BadImage(
                f"the image has too many pixels; the limit is {self._max_pixels / 1e6:g} megapixels"
            ) from error
        except Exception as error:  # decoders raise all kinds of things on broken bytes
            raise BadImage(f"not a readable image, or truncated (supported: {', '.join(FORMATS)})") from error
        if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
            rgba = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        rgb = _in_eight_bits(upright).convert("RGB")
        out = io.BytesIO()
        rgb.save(out, "PNG", compress_level=1)
        return out.getvalue(), rgb.width, rgb.height


def _in_eight_bits(picture: "Image.Image") -> "Image.Image":
    """Convert greys of more than eight bits, which a plain conversion would clip at 255, to eight bits."""
    if not picture.mode.startswith(("I", "F")):
        return picture
    import numpy as np
    from PIL import Image

    greys = np.nan_to_num(np.asarray(picture, dtype=np.float64))
    # Sixteen bits are also what Pillow may call "I"; of floats and wider integers nobody says what is white.
    of_sixteen_bits = picture.mode.startswith("I") and greys.max() <= SIXTEEN_BITS
    white = SIXTEEN_BITS if of_sixteen_bits else max(float(greys.max()), 1.0)
    return Image.fromarray((greys.clip(0, white) * (255 / white)).round().astype(np.uint8))
