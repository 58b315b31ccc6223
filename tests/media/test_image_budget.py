"""The memory that an image will take is worked out from its header, and a JPEG is reduced where it is too much."""

import io
import threading
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from tests.fixtures.image_files import Take
from tests.support.image_files import blank_float_tiff, blank_png, blank_webp, encoded
from wan_mcp.errors import BadImage
from wan_mcp.media import decode

WIDTH, HEIGHT = 640, 400
PIXELS = WIDTH * HEIGHT


def gradient(mode: str = "RGB") -> Image.Image:
    return Image.linear_gradient("L").resize((WIDTH, HEIGHT)).convert(mode)


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """`budget(bytes_per_pixel)`: what an image of this size may take."""
    return lambda bytes_per_pixel: monkeypatch.setattr(decode, "BUDGET_BYTES", int(PIXELS * bytes_per_pixel))


@pytest.mark.parametrize(
    ("name", "data", "needs"),
    [
        ("PNG", encoded(gradient(), "PNG"), 4),
        ("PNG of greys", encoded(gradient("L"), "PNG"), 1),
        ("PNG of 16 bits", blank_png(WIDTH, HEIGHT, 16, 0), 2),
        ("PNG, RGBA of 16 bits", blank_png(WIDTH, HEIGHT, 16, 6), 4),
        ("GIF", encoded(gradient("P"), "GIF"), 1),
        ("BMP", encoded(gradient(), "BMP"), 5),
        ("WebP", blank_webp(WIDTH, HEIGHT), 17),
        ("WebP of frames", encoded(gradient(), "WEBP", save_all=True, append_images=[gradient().rotate(90)]), 17),
        ("WebP, lossy", encoded(gradient(), "WEBP"), 17),
        ("AVIF", encoded(gradient(), "AVIF"), 16),
        ("TIFF of floats", blank_float_tiff(WIDTH, HEIGHT), 4.2),
        ("TIFF of one strip", encoded(gradient(), "TIFF", compression="tiff_lzw", strip_size=10**9), 7),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_image_that_would_take_too_much_is_refused_before_it_is_decoded(
    take: Take, budget: Callable[[float], None], name: str, data: bytes, needs: float
) -> None:
    budget(needs * 1.01)
    assert take(data)[0] == (WIDTH, HEIGHT)
    budget(needs * 0.95)
    with pytest.raises(BadImage, match=r"of memory; the limit is .* Use a smaller one"):
        take(data)


@pytest.mark.parametrize(
    ("options", "allowed", "scale"),
    [
        ({}, 4, 1),
        ({}, 3.9, 2),
        ({}, 0.9, 4),
        ({}, 0.2, 8),
        # All coefficients of a progressive JPEG are held, two bytes each: of the colours a quarter, or all.
        ({"progressive": True, "subsampling": "4:2:0"}, 7, 1),
        ({"progressive": True, "subsampling": "4:2:0"}, 6.9, 2),
        ({"progressive": True, "subsampling": "4:4:4"}, 9.9, 2),
    ],
)
def test_a_jpeg_that_would_take_too_much_is_reduced_with_a_note(
    take: Take, budget: Callable[[float], None], options: dict[str, Any], allowed: float, scale: int
) -> None:
    data = encoded(gradient(), "JPEG", quality=95, **options)
    _, before, _ = take(data)
    budget(allowed)
    size, pixel, notes = take(data)
    assert size == (WIDTH // scale, HEIGHT // scale)
    assert max(abs(a - b) for a, b in zip(before, pixel, strict=True)) <= 3
    if scale == 1:
        assert notes == []
    else:
        assert notes[0].startswith(f"decoded at 1/{scale} of its size ({size[0]}x{size[1]}), to stay within")


def test_images_are_decoded_one_after_the_other() -> None:
    begun = threading.Event()

    def ingest() -> None:
        begun.set()
        decode.decode_to_png(encoded(gradient(), "PNG"), io.BytesIO(), PIXELS, [])

    with decode._decoding:
        other = threading.Thread(target=ingest)
        other.start()
        assert begun.wait(30)
        assert other.is_alive()
    other.join(30)
    assert not other.is_alive()
