"""Small image files, whole or with something odd beside their pixels."""

import io
import struct
import zlib
from typing import Any

from PIL import Image, ImageCms

SIZE = (60, 40)


def picture() -> Image.Image:
    """Green, the upper left quarter red."""
    image = Image.new("RGB", SIZE, (20, 200, 40))
    image.paste((200, 30, 30), (0, 0, SIZE[0] // 2, SIZE[1] // 2))
    return image


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    """The bytes of a file."""
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def chunk(name: bytes, content: bytes, checksum: bytes | None = None) -> bytes:
    """A chunk of a PNG."""
    sound = zlib.crc32(name + content).to_bytes(4, "big")
    return len(content).to_bytes(4, "big") + name + content + (sound if checksum is None else checksum)


def png_with(*chunks: bytes, at_end: bool = False) -> bytes:
    """A PNG of the picture with more chunks."""
    data = encoded(picture(), "PNG")
    place = len(data) - 12 if at_end else 33
    return data[:place] + b"".join(chunks) + data[place:]


def jpeg_with(marker: int, content: bytes) -> bytes:
    """A JPEG of the picture with one more segment."""
    data = encoded(picture(), "JPEG", quality=95)
    return data[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content + data[2:]


def tiff_with(*entries: tuple[int, int, int, int], **options: Any) -> bytes:
    """A TIFF with more entries (tag, type, count, value) in its directory, which is moved to the end."""
    data = encoded(picture(), "TIFF", **options)
    [at] = struct.unpack_from("<I", data, 4)
    [count] = struct.unpack_from("<H", data, at)
    listed = [data[place : place + 12] for place in range(at + 2, at + 2 + 12 * count, 12)]
    listed += [struct.pack("<HHII", *entry) for entry in entries]
    listed.sort(key=lambda entry: struct.unpack_from("<H", entry))
    data += b"\0" * (len(data) % 2)
    directory = struct.pack("<H", len(listed)) + b"".join(listed) + bytes(4)
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + directory


def exif(*entries: tuple[int, int, int, int], tail: bytes = b"72dpi\0") -> bytes:
    """An Exif block with these entries (tag, type, count, value)."""
    block = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return b"Exif\0\0II*\0\x08\0\0\0" + block + tail


def profile_of(space: Any) -> bytes:
    """An ICC profile that Pillow makes."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()


SIDEWAYS = (0x112, 3, 1, 6)
"""The entry of an Exif block for an image that must be turned by 90 degrees to be seen upright."""


def blank_webp(width: int, height: int) -> bytes:
    """A lossless WebP of one colour: each of its five prefix codes has one symbol, so pixels take no bits."""
    fields = [(width - 1, 14), (height - 1, 14), (0, 1), (0, 3), (0, 3), *[(1, 4)] * 5]
    bits = sum(value << sum(size for _, size in fields[:place]) for place, (value, _) in enumerate(fields))
    body = b"\x2f" + bits.to_bytes(8, "little")
    body = b"VP8L" + len(body).to_bytes(4, "little") + body + b"\0" * (len(body) % 2)
    return b"RIFF" + (4 + len(body)).to_bytes(4, "little") + b"WEBP" + body


def blank_png(width: int, height: int, bits: int, colour_type: int) -> bytes:
    """A PNG of one half transparent colour or grey, made a row at a time."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
    compressor = zlib.compressobj(1)
    row = b"\0" + b"\x80" * (width * channels * bits // 8)
    rows = b"".join(compressor.compress(row) for _ in range(height)) + compressor.flush()
    head = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def blank_float_tiff(width: int, height: int) -> bytes:
    """A TIFF of one grey in floating point: all its strips, of 16 rows, are the same bytes of the file."""
    strip, strips = zlib.compress(struct.pack("<f", 0.5) * width * 16, 1), (height + 15) // 16
    offsets = 8 + 2 + 12 * 10 + 4
    data = offsets + 8 * strips
    entries = [
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 32), (259, 3, 1, 8), (262, 3, 1, 1)),
        *((273, 4, strips, offsets), (277, 3, 1, 1), (278, 4, 1, 16), (279, 4, strips, offsets + 4 * strips)),
        (339, 3, 1, 3),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    places = struct.pack(f"<{2 * strips}I", *[data] * strips, *[len(strip)] * strips)
    return b"II*\0" + struct.pack("<I", 8) + directory + places + strip
