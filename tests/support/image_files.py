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
