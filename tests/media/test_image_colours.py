"""Colours that are not sRGB become what browsers show, and what is left out of an image is said."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.fixtures.image_files import Take
from tests.support.image_files import SIZE, chunk, encoded, picture, png_with, profile_of
from wan_mcp.media.colour import profile_of_code_points, profile_of_primaries


def swapped_profile() -> bytes:
    """A colour space whose red is sRGB's green and the other way round."""
    return profile_of_primaries((0.3127, 0.329, 0.3, 0.6, 0.64, 0.33, 0.15, 0.06), None)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_a_colour_profile_is_applied_in_every_format(take: Take, form: str) -> None:
    plain = Image.new("RGB", SIZE, (220, 30, 30))
    _, pixel, [note] = take(encoded(plain, form, icc_profile=swapped_profile(), quality=95))
    assert np.abs(np.subtract(pixel, (30, 220, 30))).max() < 8
    assert note == "colours converted from 'the primaries and gamma in the file' to sRGB"


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "I;16", "CMYK"])
def test_a_colour_profile_is_applied_to_pixels_of_every_kind(take: Take, mode: str) -> None:
    """The reference is lcms over the whole image, as Pillow applies it."""
    linear = profile_of_primaries(None, 1.0)
    image = Image.new("RGB", SIZE, (60, 60, 60))
    match mode:
        case "P":
            image = image.quantize(2)
        case "I;16":
            image = Image.fromarray(np.full(SIZE[::-1], 60 * 257, np.uint16))
        case _:
            image = image.convert(mode)
    _, pixel, notes = take(encoded(image, "TIFF" if mode == "CMYK" else "PNG", icc_profile=linear))
    if mode == "CMYK":
        assert notes == ["colour profile ignored: it is for RGB images; colours taken as sRGB"]
    else:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(linear))
        whole = ImageCms.profileToProfile(Image.new("RGB", SIZE, (60, 60, 60)), profile, ImageCms.createProfile("sRGB"))
        assert whole is not None
        assert pixel == whole.getpixel((0, 0)) == (133, 133, 133)
        assert notes[0].startswith("colours converted")


@pytest.mark.parametrize(
    ("primaries", "sent", "seen"),
    [
        # Adobe RGB, Display P3 and ProPhoto, by the arithmetic of their definitions, not by lcms.
        ((0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06, 2.19921875), (120, 160, 90), None),
        ((0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0), (200, 100, 50), None),
        ((0.3457, 0.3585, 0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001, 1.8), (120, 160, 90), (112, 183, 93)),
    ],
)
def test_wide_gamuts_become_srgb(
    take: Take,
    primaries: tuple[float, ...],
    sent: tuple[int, int, int],
    seen: tuple[int, int, int] | None,
) -> None:
    profile = profile_of_primaries(primaries[:8], primaries[8] or None)
    _, pixel, _ = take(encoded(Image.new("RGB", SIZE, sent), "PNG", icc_profile=profile))
    if seen is None:
        seen = by_definition(primaries, sent)
    assert np.abs(np.subtract(pixel, seen)).max() <= 2


def by_definition(primaries: tuple[float, ...], sent: tuple[int, int, int]) -> tuple[int, int, int]:
    """An sRGB colour from one in a space with the same white (D65), by their primaries and curves."""

    def to_xyz(chromaticities: tuple[float, ...]) -> Any:
        xyz = np.array([[x / y, 1, (1 - x - y) / y] for x, y in np.reshape(chromaticities, (4, 2))]).T
        return xyz[:, 1:] * np.linalg.solve(xyz[:, 1:], xyz[:, 0])

    encoded_values = np.array(sent) / 255
    curve = np.where(encoded_values <= 0.04045, encoded_values / 12.92, ((encoded_values + 0.055) / 1.055) ** 2.4)
    light = encoded_values ** primaries[8] if primaries[8] else curve
    srgb = to_xyz((0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06))
    values = np.clip(np.linalg.solve(srgb, to_xyz(primaries[:8]) @ light), 0, 1)
    shown = np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)
    red, green, blue = (shown * 255).round().astype(int).tolist()
    return red, green, blue


P3 = struct.pack(">8I", *(round(value * 1e5) for value in (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)))


def test_what_a_png_says_of_its_colours_without_a_profile_is_applied(take: Take) -> None:
    plain = take(png_with())
    p3 = take(encoded(picture(), "PNG", icc_profile=profile_of_code_points(12, 13)))
    assert plain[1] != p3[1]
    assert take(png_with(chunk(b"cHRM", P3))) == p3
    assert take(png_with(chunk(b"cICP", b"\x0c\x0d\0\1"))) == p3
    assert take(png_with(chunk(b"cICP", b"\x0c\x0d\0\1"), chunk(b"sRGB", b"\0"))) == p3
    assert take(png_with(chunk(b"gAMA", struct.pack(">I", 100_000))))[1][0] > plain[1][0]
    # These say sRGB, in three ways, or say nothing that can be true.
    for chunks in (
        [chunk(b"gAMA", struct.pack(">I", 45_455))],
        [chunk(b"cHRM", P3), chunk(b"sRGB", b"\0")],
        [chunk(b"cICP", b"\1\x0d\0\1"), chunk(b"cHRM", P3)],
        [chunk(b"gAMA", bytes(4))],
        [chunk(b"cHRM", P3, b"\1\2\3\4")],
    ):
        assert take(png_with(*chunks)) == plain


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encoded(picture(), "PNG", icc_profile=b"junk" * 50), "it is broken"),
        (encoded(picture(), "JPEG", icc_profile=b"junk" * 50), "it is broken"),
        (encoded(picture(), "PNG", icc_profile=profile_of("LAB")), "Lab"),
        (encoded(picture(), "PNG", icc_profile=swapped_profile()[:300]), "it is broken"),
        (png_with(chunk(b"cHRM", bytes(32))), "its primaries are impossible"),
        (png_with(chunk(b"gAMA", struct.pack(">I", 1))), "its gamma is impossible"),
        (png_with(chunk(b"cICP", b"\x09\x10\0\1")), "colour space 9/16 is not supported"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # not the bytes
)
def test_a_profile_that_cannot_be_used_is_ignored_with_a_note(take: Take, data: bytes, reason: str) -> None:
    _, pixel, [note] = take(data)
    assert np.abs(np.subtract(pixel, (200, 30, 30))).max() < 12
    assert note.startswith("colour profile ignored: ")
    assert reason in note


def test_a_profile_of_srgb_changes_nothing_and_is_not_worth_a_note(take: Take) -> None:
    assert take(encoded(picture(), "PNG", icc_profile=profile_of("sRGB"))) == take(encoded(picture(), "PNG"))


def frames(form: str) -> bytes:
    others = [Image.new("RGB", SIZE, colour) for colour in ("blue", "yellow")]
    return encoded(picture(), form, save_all=True, append_images=others)


def sixteen_bit_png() -> bytes:
    rows = zlib.compress((b"\0" + b"\x80\0" * 3 * 10) * 10)
    head = struct.pack(">IIBBBBB", 10, 10, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def floats() -> bytes:
    values = np.linspace(-1, 300, 400, dtype=np.float32).reshape(20, 20)
    values[0, :3] = np.nan, np.inf, -np.inf
    return encoded(Image.fromarray(values), "TIFF")


@pytest.mark.parametrize(
    ("data", "note"),
    [
        *((frames(form), "only the first of 3 frames is used") for form in ("GIF", "WEBP", "PNG", "AVIF")),
        (frames("TIFF"), "only the first of 3 pages is used"),
        (encoded(Image.new("RGBA", SIZE), "PNG"), "transparent parts became white"),
        (encoded(Image.new("P", SIZE), "GIF", transparency=0), "transparent parts became white"),
        (encoded(Image.new("RGBA", SIZE, (0, 0, 0, 254)), "WEBP"), "transparent parts became white"),
        (sixteen_bit_png(), "16 bits per channel reduced to 8"),
        (encoded(Image.fromarray(np.zeros((20, 20), np.uint16)), "PNG"), "16 bits per channel reduced to 8"),
        (floats(), "values scaled to 8 bits; 300 became white"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # not the bytes
)
def test_what_is_left_out_of_an_image_becomes_a_note(take: Take, data: bytes, note: str) -> None:
    assert take(data)[2] == [note]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1"])
def test_of_a_plain_image_there_is_nothing_to_note(take: Take, mode: str) -> None:
    assert take(encoded(picture().convert(mode), "PNG"))[2] == []
