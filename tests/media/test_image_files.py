"""Image files with odd things beside the pixels: they cost neither the pixels nor each other."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.fixtures.image_files import Take
from tests.support.image_files import SIDEWAYS, SIZE, chunk, encoded, exif, jpeg_with, picture, png_with, tiff_with
from wan_mcp.errors import BadImage
from wan_mcp.media.store import MediaStore

RESOLUTION = 0x11A
TURNED = {
    "resolution as text": exif(SIDEWAYS, (RESOLUTION, 2, 6, 38)),
    "resolution -1/0": exif(SIDEWAYS, (RESOLUTION, 10, 1, 38), tail=struct.pack("<ii", -1, 0)),
    "resolution beyond the file": exif(SIDEWAYS, (RESOLUTION, 5, 1, 4_000_000)),
    "an unknown type": exif(SIDEWAYS, (0x9999, 99, 1, 0)),
    "a count of 4 billion": exif(SIDEWAYS, (0x9999, 7, 2**32 - 1, 0)),
    "a pointer to nowhere": exif(SIDEWAYS, (0x8769, 4, 1, 2**31)),
    "an orientation of four bytes": exif((0x112, 4, 1, 6)),
    "a thumbnail that is cut short": exif(SIDEWAYS) + b"\xff\xd8\xff\xe0",
    "fewer entries than it says": b"Exif\0\0II*\0\x08\0\0\0\x09\0" + struct.pack("<HHII", *SIDEWAYS),
}
UPRIGHT = {
    "noise": b"Exif\0\0noise-noise",
    "nothing": b"Exif\0\0",
    "half a head": b"Exif\0\0MM",
    "an orientation of 9": exif((0x112, 3, 1, 9)),
    "an orientation as text": exif((0x112, 2, 4, 0x786574)),
    "a directory at its own place": b"Exif\0\0II*\0\0\0\0\0",
}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("name", [*TURNED, *UPRIGHT])
def test_odd_exif_costs_neither_the_pixels_nor_an_orientation_that_can_be_read(
    take: Take, form: str, name: str
) -> None:
    data = encoded(picture(), form, exif=(TURNED | UPRIGHT)[name], quality=95)
    size, pixel, notes = take(data)
    assert size == (SIZE[::-1] if name in TURNED else SIZE)
    assert notes == []
    if name in UPRIGHT:
        assert np.abs(np.subtract(pixel, (200, 30, 30))).max() < 12


PNG_JUNK = [
    (b"tEXt", b"no separator"),
    (b"zTXt", b"a\0\0" + zlib.compress(b"x" * 70_000_000)),
    (b"zTXt", b"a\0\0not zlib"),
    (b"iTXt", b"\xff" * 9),
    (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta tiff:Orientation='broken"),
    (b"pHYs", b"\0"),
    (b"pHYs", b"\0\0\0\0\0\0\0\0\x07"),
    (b"gAMA", b"\0"),
    (b"cHRM", b"\0" * 5),
    (b"sRGB", b""),
    (b"tRNS", b"\0"),
    (b"eXIf", b"noise"),
    (b"acTL", b"\0"),
    (b"fcTL", b"\0"),
    (b"bKGD", b""),
    (b"caBX", b"\0" * 99),
]


@pytest.mark.parametrize(("name", "content"), PNG_JUNK, ids=[f"{name!r}-{len(content)}" for name, content in PNG_JUNK])
def test_no_chunk_beside_the_pixels_of_a_png_costs_them(take: Take, name: bytes, content: bytes) -> None:
    plain = take(png_with())
    assert take(png_with(chunk(name, content))) == plain
    assert take(png_with(chunk(name, content, b"\1\2\3\4"))) == plain
    assert take(png_with(chunk(name, content), at_end=True)) == plain


@pytest.mark.parametrize(
    ("marker", "content"),
    [
        (0xE0, b"JFIF\0"),
        (0xE0, b"JFXX\0\x10"),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta"),
        (0xE2, b"ICC_PROFILE\0"),
        (0xE2, b"MPF\0"),
        (0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff"),
        (0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\x10x"),
        (0xEE, b"Adobe"),
        (0xEB, b"JP\0"),
        (0xFE, b"\xff\xd8\xff"),
        (0xFE, b""),
    ],
)
def test_no_segment_beside_the_pixels_of_a_jpeg_costs_them(take: Take, marker: int, content: bytes) -> None:
    assert take(jpeg_with(marker, content)) == take(encoded(picture(), "JPEG", quality=95))


@pytest.mark.parametrize("compression", ["raw", "tiff_adobe_deflate", "tiff_lzw"])
@pytest.mark.parametrize(
    "entry",
    [
        (282, 2, 4, 0x786574),
        (282, 5, 1, 4_000_000),
        (296, 3, 1, 77),
        (305, 2, 2**31, 8),
        (34665, 4, 1, 2**31),
        (700, 7, 3, 0x3C3C3C),
        (34675, 7, 60, 8),
        (65000, 99, 1, 1),
    ],
)
def test_no_tag_beside_the_pixels_of_a_tiff_costs_them(
    take: Take, entry: tuple[int, int, int, int], compression: str
) -> None:
    size, pixel, _ = take(tiff_with((274, 3, 1, 6), entry, compression=compression))
    assert (size, pixel) == (SIZE[::-1], (20, 200, 40))


def test_what_follows_the_image_or_is_cut_off_behind_it_costs_nothing(take: Take) -> None:
    webp = encoded(picture(), "WEBP", exif=b"x" * 50, quality=95)
    for whole, odd in (
        (encoded(picture(), "PNG"), encoded(picture(), "PNG") + b"junk" * 100),
        (encoded(picture(), "PNG"), encoded(picture(), "PNG")[:-12]),
        (encoded(picture(), "JPEG"), encoded(picture(), "JPEG") + b"\xff\xd8\xff junk"),
        (webp, webp[:-20]),
        (webp, webp + b"junk"),
        (webp, webp[:4] + b"\xff\xff\xff\x7f" + webp[8:]),
        (encoded(picture(), "GIF"), encoded(picture(), "GIF") + b"junk"),
    ):
        assert take(odd) == take(whole)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_an_image_of_any_orientation_and_of_many_pieces_is_upright(
    take: Take,
    media: MediaStore,
    monkeypatch: pytest.MonkeyPatch,
    orientation: int,
    form: str,
) -> None:
    monkeypatch.setattr("wan_mcp.media.upright_rows.PIECE_PIXELS", 150)  # a few rows or columns each
    upright = np.random.default_rng(orientation).integers(0, 256, (*SIZE, 3), np.uint8)
    # What each orientation does is undone, so that the one that is tested puts it right.
    undone = {1: lambda a: a, 2: np.fliplr, 3: lambda a: a[::-1, ::-1], 4: np.flipud}
    undone |= {5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, 1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1)}
    lying = np.ascontiguousarray((undone | {8: lambda a: np.rot90(a, -1)})[orientation](upright))
    tag = Image.Exif()
    tag[0x112] = orientation
    take(encoded(Image.fromarray(lying), form, exif=tag.tobytes()))
    [kept] = media.inputs.glob("*.png")
    assert np.array_equal(np.asarray(Image.open(kept)), upright)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "AVIF", "BMP"])
def test_pixels_that_are_missing_are_not_made_up(take: Take, form: str) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8))
    data = encoded(image, form)
    with pytest.raises(BadImage, match="or truncated"):
        take(data[: len(data) // 2])


def test_a_broken_exif_block_costs_an_avif_neither_its_pixels_nor_its_orientation(take: Take) -> None:
    """AVIF says how it lies in a property of the image, not in Exif."""
    tags = Image.Exif()
    tags[0x112], tags[0x10F] = 6, "maker" * 9
    whole = encoded(picture(), "AVIF", exif=tags.tobytes(), quality=95)
    start, end = whole.index(b"MM\0*"), whole.index(b"maker" * 9) + 45
    for junk in (b"noise" * 40, b"\xff" * 200, b"II*\0" + b"\xff" * 200):
        assert take(whole[:start] + junk[: end - start] + whole[end:]) == take(whole)
    assert take(whole)[0] == SIZE[::-1]
