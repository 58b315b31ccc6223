"""How pictures are made to fit."""

import pytest

from wan_mcp.media.framing import cover


@pytest.mark.parametrize(
    ("source", "frame"),
    [((128, 128), (128, 128)), ((1000, 500), (128, 128)), ((37, 991), (160, 96)), ((8, 8), (832, 480))],
)
def test_the_frame_is_filled_from_inside_the_scaled_picture(source: tuple[int, int], frame: tuple[int, int]) -> None:
    framing = cover(source, frame)
    left, top, right, bottom = framing.box
    assert (right - left, bottom - top) == frame
    assert left >= 0
    assert top >= 0
    assert right <= framing.scaled[0]
    assert bottom <= framing.scaled[1]
    assert framing.scaled[0] == frame[0] or framing.scaled[1] == frame[1]  # no more is lost than must be


def test_the_middle_is_kept() -> None:
    assert cover((200, 100), (100, 100)).box == (50, 0, 150, 100)


def test_what_fits_already_is_left_alone_and_not_spoken_of() -> None:
    framing = cover((128, 128), (128, 128))
    assert framing.scaled == (128, 128)
    assert framing.describe("image") is None


def test_what_is_lost_is_said() -> None:
    assert cover((200, 100), (64, 64)).describe("image") == (
        "image 200x100 scaled to 128x64 and cropped to 64x64 (64 px of width, 0 px of height lost)"
    )
    assert cover((256, 256), (128, 128)).describe("image") == "image 256x256 scaled to 128x128"
