"""A decoded image, converted a few rows at a time: upright, in sRGB, over white, 8 bits per channel."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from wan_mcp.media.colour import ToSRGB

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

__all__ = ["UprightRows"]

PIECE_PIXELS = 2**20
SIXTEEN_BITS = 65535
WITH_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
TURNED = (5, 6, 7, 8)  # orientations of Exif whose rows are columns of the image as it lies
REVERSED = (3, 4, 7, 8)  # whose first row is the last row or column of the image as it lies


class UprightRows:
    """The rows of an image, from the top as it is seen."""

    def __init__(self, image: "Image.Image", orientation: int, to_srgb: ToSRGB | None) -> None:
        """Take a loaded image and its orientation as in Exif, 1 to 8."""
        self._image = image
        self._orientation = orientation
        self._to_srgb = to_srgb
        turned = orientation in TURNED
        self.width, self.height = (image.height, image.width) if turned else image.size
        self.was_transparent = False
        """True if a pixel that was converted so far was not opaque."""
        self.is_deep = image.mode.startswith(("I", "F"))
        """True if the image is grey with more than 8 bits."""
        self.white = self._white() if self.is_deep else 255.0
        """The value that becomes white."""

    def __iter__(self) -> Iterator["NDArray[np.uint8]"]:
        """Yield pieces of shape (rows, width, 3)."""
        import numpy as np

        for piece in self._pieces():
            yield np.asarray(self._converted(piece))

    def _pieces(self) -> Iterator["Image.Image"]:
        """Yield pieces of the image in its own mode, upright."""
        from PIL.Image import Transpose

        turn = {
            2: Transpose.FLIP_LEFT_RIGHT,
            3: Transpose.ROTATE_180,
            4: Transpose.FLIP_TOP_BOTTOM,
            5: Transpose.TRANSPOSE,
            6: Transpose.ROTATE_270,
            7: Transpose.TRANSVERSE,
            8: Transpose.ROTATE_90,
        }.get(self._orientation)
        rows = max(1, PIECE_PIXELS // self.width)
        for top in range(0, self.height, rows):
            bottom = min(top + rows, self.height)
            first, last = (self.height - bottom, self.height - top) if self._orientation in REVERSED else (top, bottom)
            if self._orientation in TURNED:
                piece = self._image.crop((first, 0, last, self.width))
            else:
                piece = self._image.crop((0, first, self.width, last))
            yield piece if turn is None else piece.transpose(turn)

    def _white(self) -> float:
        """Return the largest finite value; sixteen bits are also what Pillow may call "I".

        Of floats and wider integers nobody says what is white.
        """
        import numpy as np

        if self._image.mode.startswith("I;16"):
            return SIXTEEN_BITS
        largest = 0.0
        for piece in self._pieces():
            values = np.asarray(piece)
            largest = max(largest, float(np.max(values, initial=0, where=np.isfinite(values))))
        return SIXTEEN_BITS if self._image.mode == "I" and largest <= SIXTEEN_BITS else max(largest, 1.0)

    def _converted(self, piece: "Image.Image") -> "Image.Image":
        from PIL import Image

        colours, alpha = self._in_eight_bits(piece) if self.is_deep else _split(piece)
        if self._to_srgb is not None:
            colours = self._to_srgb.apply(colours.convert(self._to_srgb.mode))
        colours = colours.convert("RGB")
        if alpha is None or alpha.getextrema() == (255, 255):
            return colours
        self.was_transparent = True
        return Image.composite(colours, Image.new("RGB", colours.size, "white"), alpha)

    def _in_eight_bits(self, piece: "Image.Image") -> tuple["Image.Image", "Image.Image | None"]:
        """Convert greys of more than eight bits, which Pillow would clip at 255."""
        import numpy as np
        from PIL import Image

        values = np.asarray(piece)
        exact = np.float64 if piece.mode == "I" else np.float32  # which has all sixteen bits
        greys = np.nan_to_num(values.astype(exact), nan=0.0, posinf=self.white, neginf=0.0)
        np.clip(greys, 0, self.white, out=greys)
        greys *= 255 / self.white
        colours = Image.fromarray(greys.round().astype(np.uint8))
        key = piece.info.get("transparency")
        if not isinstance(key, int):
            return colours, None
        return colours, Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))


def _split(piece: "Image.Image") -> tuple["Image.Image", "Image.Image | None"]:
    """Return the colours and the opacity of a piece."""
    if piece.mode not in WITH_ALPHA and "transparency" not in piece.info:
        return piece, None
    try:
        rgba: Any = piece.convert("RGBA")
    except (ValueError, TypeError, OSError):  # what is said to be transparent cannot be a colour of this image
        del piece.info["transparency"]
        return piece, None
    return rgba.convert("RGB"), rgba.getchannel("A")
