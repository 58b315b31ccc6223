"""Each file says that it was generated, to programs that know nothing of wan-mcp, and is otherwise as it would be."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.fixtures.media import IMAGE, VIDEO, moving_circle, noise
from tests.support.marks import EXIFTOOL, TRAINED, source_type, source_types_by_exiftool
from tests.support.videos import probe, read_frames, write_video
from wan_mcp.media import ffmpeg
from wan_mcp.media.conversion import convert
from wan_mcp.media.images import preview_jpeg, write_image
from wan_mcp.media.previews import PreviewStore
from wan_mcp.media.receipts import read_receipt
from wan_mcp.media.store import MediaStore

RECEIPT = {"request": {"prompt": "“ö” 😀; a = b\n", "seed": 7}}


@pytest.fixture
def made(media: MediaStore) -> dict[str, Path]:
    """A file of each kind that a home holds, or that is made from one."""
    write_image(media, IMAGE, noise(1)[0], RECEIPT, 7)
    write_video(media, VIDEO, moving_circle(5), 8, RECEIPT, 7)
    files = {"png": media.path(IMAGE), "mp4": media.path(VIDEO), "poster": media.poster(VIDEO)}
    files["sheet"] = media.sheet(VIDEO)
    for ending in ("jpg", "JPEG", "webp", "png"):
        files[f"-o {ending}"] = target = media.home / f"result.{ending}"
        convert(files["png"], target, target.suffix)
    files["-o mp4"] = media.home / "result.mp4"
    convert(files["mp4"], files["-o mp4"], ".mp4")
    files["preview"] = media.home / "preview.jpg"
    files["preview"].write_bytes(preview_jpeg(files["png"], 25_000))
    previews = PreviewStore(media.home)
    previews.write("0" * 20, 1, moving_circle(4), (128, 128))
    assert previews.read("0" * 20, 1) is not None
    files["live preview"] = previews.path("0" * 20)
    return files


def test_every_file_says_that_a_trained_model_made_it(made: dict[str, Path]) -> None:
    assert {name: source_type(file) for name, file in made.items()} == dict.fromkeys(made, TRAINED)


@pytest.mark.skipif(EXIFTOOL is None, reason="exiftool is not installed")
def test_exiftool_reads_the_same(made: dict[str, Path]) -> None:
    assert source_types_by_exiftool(made) == dict.fromkeys(made, TRAINED)


def test_the_receipt_stays_beside_the_mark(made: dict[str, Path]) -> None:
    for name in ("png", "mp4", "-o jpg", "-o JPEG", "-o webp", "-o png", "-o mp4"):
        assert read_receipt(made[name]) == RECEIPT, name


def test_a_marked_still_has_the_pixels_that_were_made(made: dict[str, Path]) -> None:
    with Image.open(made["png"]) as picture:
        assert np.array_equal(np.asarray(picture), noise(1)[0])


def test_a_marked_video_plays_bit_for_bit_like_one_without(made: dict[str, Path], tmp_path: Path) -> None:
    marked = made["mp4"].read_bytes()
    boxes = list(_boxes(marked))
    assert [name for name, _ in boxes] == [b"ftyp", b"moov", b"free", b"mdat", b"uuid"]
    plain = tmp_path / "plain.mp4"
    plain.write_bytes(marked[: boxes[-1][1]])
    assert source_type(plain) is None
    assert np.array_equal(read_frames(made["mp4"]), read_frames(plain))
    assert probe(made["mp4"]) == probe(plain)
    strict = ffmpeg.run("-v", "warning", "-err_detect", "explode", "-i", str(made["mp4"]), "-f", "null", "-")
    assert (strict.returncode, strict.stderr) == (0, b"")


def _boxes(data: bytes) -> list[tuple[bytes, int]]:
    """Return the names and the places of an mp4's outermost boxes (ISO 14496-12), which fill it exactly."""
    boxes, at = [], 0
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        boxes.append((name, at))
        at += size
    assert at == len(data)
    return boxes
