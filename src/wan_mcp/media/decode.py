"""Foreign image files, decoded within a budget of memory.

One image is decoded at a time in a process, in at most `BUDGET_BYTES`, which its header is asked for before its pixels
are allocated; from there it goes to the disk a few rows at a time. Whatever else the file holds may be broken
without costing the pixels, and what is lost on the way becomes a note.
"""

import io
import threading
import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from wan_mcp.errors import BadImage
from wan_mcp.media.colour import BadProfile, ToSRGB, has_code_points, profile_of_code_points, profile_of_primaries
from wan_mcp.media.containers import Bare, colour_of_png, scan_components_of_jpeg, webp_pixels, without_metadata
from wan_mcp.media.png_writer import PngWriter
from wan_mcp.media.upright_rows import UprightRows
from wan_mcp.text import in_bytes, number

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["BUDGET_BYTES", "decode_to_png"]

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
MIN_SIDE = 8
BUDGET_BYTES = 256_000_000
"""Memory for the pixels of the one image that is being decoded: with it, a front stays below 400 MB."""
CANVAS_BYTES = {"WEBP": 17, "AVIF": 16, "BMP": 5}
"""Bytes per pixel at the peak of decoders that hold more than the image (measured with Pillow 13): libwebp has two
canvases and a copy, libavif the planes, the same in RGB and a copy, and Pillow unpacks a compressed BMP before."""
BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
"""Bytes per pixel of Pillow's modes; all others take four."""
SCALES = (1, 2, 4, 8)  # by which a JPEG can be reduced while it is decoded
COUNTED_BYTES = 2_000_000  # of a file whose frames are counted even if each must be visited
ORIENTATION = 274
TILE_WIDTH, TILE_HEIGHT, STRIP_HEIGHT, SAMPLES, BITS = 322, 323, 278, 277, 258

_decoding = threading.Lock()


def decode_to_png(data: bytes, file: BinaryIO, max_pixels: int, notes: list[str]) -> tuple[str, int, int]:
    """Write an image file as a PNG: upright, in sRGB, over white, 8 bits per channel.

    Returns the SHA-256 of the PNG, its width and its height. Waits while another image is decoded. What was left out
    or converted is added to `notes`.

    Raises:
        BadImage: It is too large, too small, or not an image; the message says which.
    """
    with _decoding, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata; the size is checked before decoding
        found = _load(data, max_pixels)
        to_srgb = _to_srgb(found, data, notes)
        rows = UprightRows(found.image, found.orientation, to_srgb)
        png = PngWriter(file, rows.width, rows.height)
        for piece in rows:
            png.write(piece)
        notes += _left_out(found, rows, data)
        return png.close(), rows.width, rows.height


@dataclass(frozen=True)
class _Loaded:
    """An image as Pillow has decoded it."""

    image: "Image.Image"
    orientation: int
    profile: bytes | None
    scale: int
    """By how much it was reduced."""


def _load(data: bytes, max_pixels: int) -> _Loaded:
    """Decode an image file; if that fails, decode it without its metadata."""
    from PIL import Image

    bare = without_metadata(data) if data[:4] in (b"II*\0", b"MM\0*") else None
    try:
        # Pillow turns a TIFF itself, with a second copy of it.
        if bare is not None and bare.orientation not in (None, 1):
            with suppress(OSError, ValueError):
                return _decoded(bare.data, max_pixels, bare)
        try:
            return _decoded(data, max_pixels, None)
        except (BadImage, Image.DecompressionBombError):
            raise
        except Exception:  # decoders raise all kinds of things on broken bytes
            if (bare := bare or without_metadata(data)) is None:
                raise
            return _decoded(bare.data, max_pixels, bare)
    except BadImage:
        raise
    except Image.DecompressionBombError as error:
        raise BadImage(f"the image has too many pixels; the limit is {max_pixels / 1e6:g} megapixels") from error
    except MemoryError as error:
        raise BadImage("there is not enough memory to decode the image; use a smaller one") from error
    except Exception as error:  # likewise
        raise BadImage(f"not a readable image, or truncated (supported: {', '.join(FORMATS)})") from error


def _decoded(data: bytes, max_pixels: int, bare: Bare | None) -> _Loaded:
    """Decode an image file; `bare` has what was removed from it."""
    from PIL import Image

    if data[8:12] == b"WEBP":
        _require_memory("WEBP", webp_pixels(data) * CANVAS_BYTES["WEBP"])
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        _check_size(image, max_pixels)
        scale = _fit(image, data)
        image.load()
    info: dict[Any, Any] = image.info
    if bare is not None:
        return _Loaded(image, bare.orientation or _orientation(bare.exif, image), bare.profile, scale)
    turned_by_pillow = image.format == "TIFF"
    return _Loaded(image, 1 if turned_by_pillow else _orientation(None, image), info.get("icc_profile"), scale)


def _check_size(image: "Image.Image", max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise BadImage(f"the image has {width}x{height} pixels; the limit is {max_pixels / 1e6:g} megapixels")
    if min(width, height) < MIN_SIDE:
        raise BadImage(f"the image has only {width}x{height} pixels; each side needs at least {MIN_SIDE}")


def _fit(image: "Image.Image", data: bytes) -> int:
    """Prepare to decode an image within the budget; return by how much a JPEG is reduced for that.

    Raises:
        BadImage: It needs more.
    """
    scales = SCALES if image.format in ("JPEG", "MPO") else SCALES[:1]
    needed = {scale: _bytes_needed(image, scale, data) for scale in scales}
    scale = next((scale for scale in scales if needed[scale] <= BUDGET_BYTES), scales[-1])
    _require_memory(image.format or "", needed[scale])
    if scale > 1:
        image.draft(None, (image.width // scale, image.height // scale))
    return scale


def _require_memory(kind: str, needed: int) -> None:
    if needed > BUDGET_BYTES:
        instead = "a smaller one" if kind in ("PNG", "JPEG") else "a smaller one, or a PNG or JPEG of the same size"
        raise BadImage(
            f"decoding this {kind} needs about {in_bytes(needed)} of memory; the limit is {in_bytes(BUDGET_BYTES)}. "
            f"Use {instead}"
        )


def _bytes_needed(image: "Image.Image", scale: int, data: bytes) -> int:
    """Return about how much memory the pixels take while they are decoded at 1/`scale` of the size."""
    per_pixel = CANVAS_BYTES.get(image.format or "", BYTES.get(image.mode, 4))
    needed = -(-image.width // scale) * -(-image.height // scale) * per_pixel
    if image.format in ("JPEG", "MPO"):
        layers: list[tuple[int, int, int, int]] = getattr(image, "layer", [])
        if "progressive" in image.info or scan_components_of_jpeg(data) < len(layers):
            # The coefficients of the whole image, two bytes each, are held until its last scan.
            widest, highest = max((h for _, h, _, _ in layers), default=1), max((v for _, _, v, _ in layers), default=1)
            share = sum(h * v for _, h, v, _ in layers) / max(1, widest * highest)
            needed += int(2 * image.width * image.height * share)
    if image.format == "TIFF":
        tags: Any = getattr(image, "tag_v2", {})
        bits = max(tags.get(BITS) or (8,)) * (tags.get(SAMPLES) or 1)
        if TILE_WIDTH in tags and TILE_HEIGHT in tags:
            piece = tags[TILE_WIDTH] * tags[TILE_HEIGHT]
        else:
            piece = image.width * min(image.height, tags.get(STRIP_HEIGHT) or image.height)
        needed += piece * bits // 8
    return needed


def _orientation(exif: bytes | None, image: "Image.Image") -> int:
    """Return how an image lies, 1 to 8; 1 if nothing readable says so."""
    from PIL.Image import Exif

    with suppress(Exception):  # all kinds of things, if it is broken
        if exif is None:
            block = image.getexif()
        else:
            block = Exif()
            block.load(exif)
        value: Any = block.get(ORIENTATION)
        if isinstance(value, tuple | bytes):
            value = value[0]
        if 1 <= int(value) <= 8:
            return int(value)
    return 1


def _to_srgb(found: _Loaded, data: bytes, notes: list[str]) -> ToSRGB | None:
    """Return the transform to sRGB, None for an image that needs none."""
    said = colour_of_png(data)
    try:
        if said.code_points is not None and (has_code_points(*said.code_points) or found.profile is None):
            profile = profile_of_code_points(*said.code_points)
        elif found.profile is not None:
            profile = found.profile
        elif not said.is_srgb and (said.gamma is not None or said.primaries is not None):
            profile = profile_of_primaries(said.primaries, said.gamma)
        else:
            return None
        transform = ToSRGB.of(profile, found.image.mode)
    except BadProfile as problem:
        notes.append(f"colour profile ignored: {problem}; colours taken as sRGB")
        return None
    if transform is not None:
        notes.append(f"colours converted from {transform.name} to sRGB")
    return transform


def _left_out(found: _Loaded, rows: UprightRows, data: bytes) -> list[str]:
    """Return what the PNG has no more, in sentences."""
    image, left_out = found.image, []
    if found.scale > 1:
        left_out.append(
            f"decoded at 1/{found.scale} of its size ({rows.width}x{rows.height}), to stay within "
            f"{in_bytes(BUDGET_BYTES)} of memory"
        )
    frames = _frames(image, data)
    if frames != 1 and image.format != "MPO":  # a camera's second picture is a preview, or a gain map
        kind = "page" if image.format == "TIFF" else "frame"
        left_out.append(f"only the first {f'of {frames} {kind}s' if frames else kind} is used")
    if rows.was_transparent:
        left_out.append("transparent parts became white")
    if rows.is_deep and not image.mode.startswith("I;16"):
        left_out.append(f"values scaled to 8 bits; {number(rows.white)} became white")
    elif rows.is_deep or _has_sixteen_bits(image, data):
        left_out.append("16 bits per channel reduced to 8")
    return left_out


def _has_sixteen_bits(image: "Image.Image", data: bytes) -> bool:
    if image.format == "PNG":
        return data[24:25] == b"\x10"
    return image.format == "TIFF" and max(getattr(image, "tag_v2", {}).get(BITS) or (8,)) == 16


def _frames(image: "Image.Image", data: bytes) -> int | None:
    """Return the number of frames or pages; None if there are several, too many to count."""
    from PIL import Image

    with suppress(Exception):  # of broken frames after the first one
        if image.format not in ("GIF", "TIFF"):
            return int(getattr(image, "n_frames", 1))
        with Image.open(io.BytesIO(data), formats=(image.format,)) as again:
            if len(data) > COUNTED_BYTES:
                return None if getattr(again, "is_animated", False) else 1
            return int(getattr(again, "n_frames", 1))
    return 1
