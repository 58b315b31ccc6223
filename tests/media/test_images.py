"""Stills on disk, and the small pictures that are made of them."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.fixtures.media import IMAGE, VIDEO, moving_circle, noise
from tests.support.videos import write_video
from wan_mcp.errors import OutOfSpace
from wan_mcp.media.contact_sheet import chosen_frames, contact_sheet, strip
from wan_mcp.media.images import RECEIPT_KEY, preview_jpeg, write_image
from wan_mcp.media.receipts import read_receipt
from wan_mcp.media.store import MediaStore

RECEIPT = {"request": {"prompt": "“ö” 😀\n", "seed": 7}}


def opened(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def test_a_still_keeps_every_pixel_and_its_receipt(media: MediaStore) -> None:
    pixels = noise(1)[0]
    artifact = write_image(media, IMAGE, pixels, RECEIPT, 7)
    path = media.path(IMAGE)
    assert np.array_equal(np.asarray(Image.open(path)), pixels)
    assert read_receipt(path) == RECEIPT
    assert (artifact.width, artifact.height, artifact.bytes) == (128, 128, path.stat().st_size)
    assert (artifact.frames, artifact.fps, artifact.seed, artifact.mime_type) == (None, None, 7, "image/png")


def test_the_same_pixels_give_the_same_bytes(media: MediaStore) -> None:
    seen = set()
    for _ in range(2):
        write_image(media, IMAGE, noise(1)[0], RECEIPT, 7)
        seen.add(media.path(IMAGE).read_bytes())
    assert len(seen) == 1


def test_a_foreign_picture_has_no_receipt(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert read_receipt(tmp_path / "a.png") is None


@pytest.mark.parametrize("text", ["no JSON", "[1, 2]"])
def test_a_text_that_is_not_ours_is_no_receipt(tmp_path: Path, text: str) -> None:
    chunk = PngInfo()
    chunk.add_itxt(RECEIPT_KEY, text)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=chunk)
    assert read_receipt(tmp_path / "a.png") is None


def test_a_full_disk_leaves_no_still(small_disk: Path) -> None:
    with pytest.raises(OutOfSpace, match="free some"):
        write_image(MediaStore(small_disk), IMAGE, noise(1, 512, 512)[0], {}, 7)
    assert not [file for file in small_disk.rglob("*") if file.is_file()]


@pytest.mark.parametrize("most", [3_000, 20_000, 60_000])
def test_a_preview_never_exceeds_its_bytes(tmp_path: Path, most: int) -> None:
    Image.fromarray(noise(1, 1500, 900)[0]).save(tmp_path / "large.png")
    data = preview_jpeg(tmp_path / "large.png", most)
    assert len(data) <= most
    assert opened(data).width / opened(data).height == pytest.approx(1500 / 900, rel=0.05)


def test_a_preview_of_a_small_still_has_its_size() -> None:
    assert opened(preview_jpeg(Image.fromarray(moving_circle(1)[0]))).size == (128, 128)


def test_a_preview_leaves_the_picture_as_it_was() -> None:
    picture = Image.new("RGB", (2000, 1000))
    preview_jpeg(picture)
    assert picture.size == (2000, 1000)


@pytest.mark.parametrize("count", [1, 2, 5, 9, 17, 33, 81])
def test_a_sheet_shows_the_first_and_the_last_frame_and_at_most_nine(count: int) -> None:
    chosen = chosen_frames(count)
    assert chosen == sorted(set(chosen))
    assert (chosen[0], chosen[-1]) == (0, count - 1)
    assert len(chosen) == min(count, 9)


@pytest.mark.parametrize(("width", "height"), [(128, 128), (160, 96), (96, 160), (832, 480), (480, 832)])
@pytest.mark.parametrize("count", [2, 5, 17])
def test_a_sheet_is_small_in_bytes_whatever_the_frames_hold(count: int, width: int, height: int) -> None:
    assert len(contact_sheet(noise(count, width, height), 8)) <= 25_000


def test_a_sheet_shows_small_frames_large_enough_to_see() -> None:
    sheet = opened(contact_sheet(moving_circle(), 8))
    assert sheet.width == 780
    columns = np.asarray(sheet.convert("RGB"))[120]
    red = (columns[:, 0] > 150) & (columns[:, 2] < 100)
    starts = np.flatnonzero(np.diff(red.astype(int)) == 1)
    assert len(starts) == 3  # one circle in each of the three frames of the first row


@pytest.mark.parametrize(("width", "height"), [(64, 64), (104, 60), (60, 104)])
@pytest.mark.parametrize("count", [1, 5, 81])
def test_a_strip_is_one_row_of_a_sheets_frames_under_a_title(count: int, width: int, height: int) -> None:
    grays = np.linspace(0, 250, count).astype(np.uint8)
    frames = np.repeat(grays, height * width * 3).reshape(count, height, width, 3)
    sheet = opened(contact_sheet(frames, 8))
    row = np.asarray(opened(strip(sheet, count, 8, width / height, "2 of 4, seed 43", 25_000)))
    shown = min(count, 5)
    assert row.shape[1] <= 780
    assert row.shape[0] <= sheet.height + 22
    middles = [round(row.shape[1] * (place + 0.5) / shown) for place in range(shown)]
    seen = row[22 + (row.shape[0] - 22) // 4, middles].mean(axis=1)
    wanted = [250 * place / max(1, shown - 1) for place in range(shown)]
    assert np.abs(seen - wanted).max() <= 250 / 8 + 3  # frame by frame, from the first to the last
    assert row[:22].max() > 200  # the title


def test_a_sheet_of_an_older_version_stays_whole_under_the_title() -> None:
    sheet = Image.new("RGB", (64, 64), (200, 0, 0))
    made = opened(strip(sheet, 17, 8, 1.0, "1 of 2, seed 42", 25_000))
    assert (made.height, made.width >= 64) == (64 + 22, True)


@pytest.mark.parametrize("most", [3_000, 12_000])
def test_a_strip_is_small_in_bytes_whatever_the_frames_hold(most: int) -> None:
    sheet = opened(contact_sheet(noise(17, 832, 480), 8))
    assert len(strip(sheet, 17, 8, 832 / 480, "8 of 8, seed 4294967295", most)) <= most


def test_a_poster_is_the_first_frame(media: MediaStore) -> None:
    frames = moving_circle()
    write_video(media, VIDEO, frames, 8, {}, 7)
    poster = np.asarray(Image.open(media.poster(VIDEO)))
    assert np.abs(poster.astype(int) - frames[0]).mean() < 2
