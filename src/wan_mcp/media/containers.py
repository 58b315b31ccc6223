"""Image files, taken apart into what holds the pixels and all the rest.

Decoders refuse whole files for a wrong checksum in a comment or a broken Exif block, which browsers do not even read.
`without_metadata` returns such a file with nothing but its pixels, and the two other things that matter here:
the Exif block, for the orientation, and the colour profile. It reads sizes and names of blocks, and decodes nothing.
Two functions put metadata into animations, which the encoders that make them cannot.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = [
    "Bare",
    "ColourOfPng",
    "colour_of_png",
    "scan_components_of_jpeg",
    "webp_pixels",
    "with_gif_extensions",
    "with_webp_metadata",
    "without_metadata",
]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_PIXELS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
MAX_PROFILE_BYTES = 16_000_000
JPEG_START, JPEG_SCAN = 0xD8, 0xDA
JPEG_APP0, JPEG_EXIF, JPEG_PROFILE, JPEG_ADOBE, JPEG_COMMENT = 0xE0, 0xE1, 0xE2, 0xEE, 0xFE
JFIF = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
WEBP_PIXELS = (b"VP8X", b"ALPH", b"VP8 ", b"VP8L", b"ANIM", b"ANMF")
WEBP_METADATA_FLAGS = 0x20 | 0x08 | 0x04  # of VP8X: profile, Exif, XMP
TIFF_PIXELS = frozenset(
    [
        *(254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 332, 333),
        *(334, 338, 339, 340, 341, 347, 512, 513, 514, 519, 520, 521, 529, 530, 531, 532),
    ]
)
"""The tags of TIFF 6.0 and its supplements that say where pixels are and how they are coded."""
TIFF_ORIENTATION, TIFF_PROFILE = 274, 34675
AVIF_EXIF = re.compile(rb"(infe.{8})Exif", re.DOTALL)


@dataclass(frozen=True)
class Bare:
    """An image file without anything but its pixels."""

    data: bytes
    orientation: int | None = None
    exif: bytes | None = None
    profile: bytes | None = None
    """An ICC profile."""


def without_metadata(data: bytes) -> Bare | None:
    """Return an image file reduced to its pixels; None if it is of a format without metadata, or not well formed."""
    try:
        if data.startswith(PNG_SIGNATURE):
            return _bare_png(data)
        if data.startswith(b"\xff\xd8"):
            return _bare_jpeg(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _bare_webp(data)
        if data[:4] in (b"II*\0", b"MM\0*"):
            return _bare_tiff(data)
        if data[4:8] == b"ftyp" and AVIF_EXIF.search(data):
            return Bare(AVIF_EXIF.sub(rb"\1none", data))
    except (struct.error, IndexError, ValueError):
        pass
    return None


@dataclass(frozen=True)
class ColourOfPng:
    """What the chunks of a PNG say about its colours, apart from an ICC profile."""

    code_points: tuple[int, int] | None = None
    """Of the primaries and the transfer function (ITU-T H.273); they come before all others."""
    is_srgb: bool = False
    """True if it says so, which comes before the next two."""
    gamma: float | None = None
    """The exponent that decodes a value to light."""
    primaries: tuple[float, ...] | None = None
    """x and y of white, red, green and blue."""


def colour_of_png(data: bytes) -> ColourOfPng:
    """Return what a PNG says about its colours; nothing, for another format or a broken chunk."""
    if not data.startswith(PNG_SIGNATURE):
        return ColourOfPng()
    chunks: dict[bytes, bytes] = {}
    for name, content, _ in _png_chunks(data):
        if name == b"IDAT":
            break
        chunks.setdefault(name, content)
    points, gamma, primaries = (chunks.get(name, b"") for name in (b"cICP", b"gAMA", b"cHRM"))
    return ColourOfPng(
        (points[0], points[1]) if len(points) == 4 else None,
        b"sRGB" in chunks,
        1e5 / int.from_bytes(gamma, "big") if len(gamma) == 4 and any(gamma) else None,
        tuple(value / 1e5 for value in struct.unpack(">8I", primaries)) if len(primaries) == 32 else None,
    )


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield the name, the content and the whole of each chunk of a PNG that is sound, or that has pixels."""
    at = len(PNG_SIGNATURE)
    while at + 8 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        name, content, checksum = data[at + 4 : at + 8], data[at + 8 : end - 4], data[end - 4 : end]
        if name in PNG_PIXELS or zlib.crc32(content, zlib.crc32(name)).to_bytes(4, "big") == checksum:
            yield name, content, data[at:end]
        if name == b"IEND":
            return
        at = end


def _bare_png(data: bytes) -> Bare:
    kept, exif, profile, colour_type = [PNG_SIGNATURE], None, None, -1
    for name, content, whole in _png_chunks(data):
        if name == b"IHDR":
            colour_type = content[9]
        if name in PNG_PIXELS or (name == b"tRNS" and _is_transparency(content, colour_type)):
            kept.append(whole)
        elif name == b"eXIf":
            exif = content
        elif name == b"iCCP":
            profile = _inflated(content.partition(b"\0")[2][1:])
    return Bare(b"".join(kept), exif=exif, profile=profile)


def _is_transparency(content: bytes, colour_type: int) -> bool:
    if colour_type == 3:
        return 0 < len(content) <= 256
    return len(content) == {0: 2, 2: 6}.get(colour_type)


def _inflated(data: bytes) -> bytes | None:
    try:
        return zlib.decompressobj().decompress(data, MAX_PROFILE_BYTES)
    except zlib.error:
        return None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the marker, the place and the end of each segment of a JPEG, up to and including its first scan."""
    at = 2
    while True:
        at = data.index(b"\xff", at)
        while data[at + 1] == 0xFF:  # markers may be filled up
            at += 1
        marker = data[at + 1]
        if marker in (0, 1) or JPEG_START - 8 <= marker <= JPEG_START + 1:  # they have no content
            at += 2
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, at, end
        if marker == JPEG_SCAN:
            return
        at = max(end, at + 4)


def scan_components_of_jpeg(data: bytes) -> int:
    """Return how many channels the first scan of a JPEG has; with fewer than the image, all scans are held at once."""
    try:
        *_, (_, at, _) = _jpeg_segments(data)
        return data[at + 4]
    except (ValueError, IndexError):  # not a JPEG, or cut short
        return 0


def _bare_jpeg(data: bytes) -> Bare:
    kept, exif, profile, at = [data[:2]], None, {}, 2
    for marker, at, end in _jpeg_segments(data):
        segment, content = data[at:end], data[at + 4 : end]
        if marker == JPEG_SCAN:
            break
        if marker == JPEG_APP0 and content.startswith(b"JFIF\0"):
            kept.append(JFIF)
        elif marker == JPEG_EXIF and content.startswith(b"Exif\0\0"):
            exif = exif or content
        elif marker == JPEG_PROFILE and content.startswith(b"ICC_PROFILE\0") and len(content) > 14:
            profile[content[12]] = content[14:]
        elif marker == JPEG_ADOBE and content.startswith(b"Adobe") and len(content) >= 12:
            kept.append(segment)  # it says how CMYK and RGB are coded
        elif not JPEG_APP0 <= marker <= JPEG_APP0 + 15 and marker != JPEG_COMMENT:
            kept.append(segment)
    kept.append(data[at:])
    return Bare(b"".join(kept), exif=exif, profile=b"".join(profile[part] for part in sorted(profile)) or None)


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(data):
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        yield name, data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def webp_pixels(data: bytes) -> int:
    """Return the number of pixels of a WebP's canvas, 0 if its header does not say.

    Pillow allocates the canvas as it opens the file, so nothing but the header can be asked before.
    """
    name, content = next(_webp_chunks(data[:64]), (b"", b""))
    if name == b"VP8X" and len(content) >= 10:
        sides = int.from_bytes(content[4:7], "little") + 1, int.from_bytes(content[7:10], "little") + 1
    elif name == b"VP8L" and len(content) >= 5:
        bits = int.from_bytes(content[1:5], "little")
        sides = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif name == b"VP8 " and len(content) >= 10:
        sides = int.from_bytes(content[6:8], "little") & 0x3FFF, int.from_bytes(content[8:10], "little") & 0x3FFF
    else:
        return 0
    return sides[0] * sides[1]


def _bare_webp(data: bytes) -> Bare:
    kept, exif, profile = [], None, None
    for name, content in _webp_chunks(data):
        if name == b"EXIF":
            exif = content
        elif name == b"ICCP":
            profile = content
        elif name in WEBP_PIXELS:
            if name == b"VP8X":
                content = bytes([content[0] & ~WEBP_METADATA_FLAGS]) + content[1:]
            kept.append(_webp_chunk((name, content)))
    body = b"WEBP" + b"".join(kept)
    return Bare(b"RIFF" + struct.pack("<I", len(body)) + body, exif=exif, profile=profile)


def _bare_tiff(data: bytes) -> Bare:
    """Remove the other tags from the first directory, and the other directories. Tags have fixed places in a file."""
    order = "<" if data[:2] == b"II" else ">"
    [at] = struct.unpack_from(f"{order}I", data, 4)
    [count] = struct.unpack_from(f"{order}H", data, at)
    kept, orientation, profile = b"", None, None
    for place in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, length = struct.unpack_from(f"{order}HHI", data, place)
        if tag in TIFF_PIXELS:
            kept += data[place : place + 12]
        elif tag == TIFF_ORIENTATION and length == 1:
            [orientation] = struct.unpack_from(f"{order}{'I' if kind == 4 else 'H'}", data, place + 8)
        elif tag == TIFF_PROFILE and length > 4:
            [start] = struct.unpack_from(f"{order}I", data, place + 8)
            profile = data[start : start + length]
    directory = struct.pack(f"{order}H", len(kept) // 12) + kept + bytes(4)
    return Bare(data[:at] + directory + data[at + len(directory) :], orientation=orientation, profile=profile)


def with_webp_metadata(data: bytes, exif: bytes, xmp: bytes) -> bytes:
    """Return an animated WebP with an Exif block and an XMP packet.

    Raises:
        ValueError: it is not an animated WebP, or has metadata already.
    """
    chunks = list(_webp_chunks(data))
    if not chunks or chunks[0][0] != b"VP8X" or {b"EXIF", b"XMP "} & {name for name, _ in chunks}:
        raise ValueError("only an animated WebP without metadata can be given some")
    header = chunks[0][1]
    chunks[0] = (b"VP8X", bytes([header[0] | 0x08 | 0x04]) + header[1:])
    chunks += [(b"EXIF", exif.removeprefix(b"Exif\0\0")), (b"XMP ", xmp)]
    body = b"WEBP" + b"".join(map(_webp_chunk, chunks))
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _webp_chunk(chunk: tuple[bytes, bytes]) -> bytes:
    name, content = chunk
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def with_gif_extensions(data: bytes, comment: bytes, xmp: bytes) -> bytes:
    """Return a GIF with a comment, which is left out if empty, and an XMP packet, both before the first frame.

    Raises:
        ValueError: it is not a GIF.
    """
    if data[:6] != b"GIF89a":
        raise ValueError("only a GIF89a can be given extensions")
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)  # after the screen descriptor and the palette
    if data[at : at + 14] == b"\x21\xff\x0bNETSCAPE2.0":
        at += 19  # the number of loops stays first: some programs look for it there only
    blocks = b"".join(bytes([len(part)]) + part for part in _parts(comment))
    comments = b"\x21\xfe" + blocks + b"\0" if comment else b""
    # The packet stands there as it is; whatever byte of it a reader takes for a length leads into the trailer, which
    # counts down to the end of the block (XMP specification, part 3).
    trailer = b"\x01" + bytes(range(255, -1, -1)) + b"\0"
    return data[:at] + comments + b"\x21\xff\x0bXMP DataXMP" + xmp + trailer + data[at:]


def _parts(data: bytes) -> list[bytes]:
    return [data[at : at + 255] for at in range(0, len(data), 255)]
