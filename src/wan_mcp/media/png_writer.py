"""A PNG of RGB pixels that is written a few rows at a time, so that the whole image is never held.

Pillow writes only images that are in memory as a whole, at four bytes a pixel.
"""

import hashlib
import struct
import zlib
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["PngWriter"]

UP = 2  # the filter: each row as its difference from the one above
EIGHT_BITS, RGB = 8, 2
LEVEL = 1  # of zlib: the file is read once or twice, so speed is worth more than size


class PngWriter:
    """Writes one PNG; the same pixels always give the same bytes."""

    def __init__(self, file: BinaryIO, width: int, height: int) -> None:
        import numpy as np

        self._file = file
        self._compressor = zlib.compressobj(LEVEL)
        self._last_row = np.zeros((width, 3), np.uint8)
        self._digest = hashlib.sha256()
        self._write(b"\x89PNG\r\n\x1a\n")
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, EIGHT_BITS, RGB, 0, 0, 0))

    def write(self, rows: "NDArray[np.uint8]") -> None:
        """Write the next rows, of shape (rows, width, 3)."""
        import numpy as np

        above = np.concatenate((self._last_row[None], rows[:-1]))
        filtered = np.empty((len(rows), 1 + rows.shape[1] * 3), np.uint8)
        filtered[:, 0] = UP
        np.subtract(rows, above, out=filtered[:, 1:].reshape(rows.shape))
        self._last_row = rows[-1].copy()
        self._chunk(b"IDAT", self._compressor.compress(filtered.tobytes()))

    def close(self) -> str:
        """Finish the file; return the SHA-256 of its bytes, in hexadecimal."""
        self._chunk(b"IDAT", self._compressor.flush())
        self._chunk(b"IEND", b"")
        return self._digest.hexdigest()

    def _chunk(self, name: bytes, content: bytes) -> None:
        if content or name == b"IEND":
            checksum = struct.pack(">I", zlib.crc32(content, zlib.crc32(name)))
            self._write(struct.pack(">I", len(content)) + name + content + checksum)

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)
