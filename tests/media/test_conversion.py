"""Results in other formats: they play, look the same, say what they are, and leave the result as it was."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from tests.fixtures.media import VIDEO, moving_circle
from tests.support.marks import EXIFTOOL, TRAINED, source_type, source_types_by_exiftool
from tests.support.videos import probe, read_frames, write_video
from wan_mcp.errors import BadRequest, UserError
from wan_mcp.files import atomic_file
from wan_mcp.media import ffmpeg
from wan_mcp.media.conversion import convert, require_encoder
from wan_mcp.media.receipts import read_receipt
from wan_mcp.media.store import CONVERSIONS, MediaStore
from wan_mcp.schema.enums import Kind

RECEIPT = {"request": {"prompt": 'a = b; #c \\ "d"\n “ö” 😀' + " and so on" * 60, "seed": 7}}
FPS = 16
FORMATS = tuple(CONVERSIONS[Kind.VIDEO])


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    media = MediaStore(tmp_path_factory.mktemp("home"))
    write_video(media, VIDEO, moving_circle(9, 160, 96), FPS, RECEIPT, 7)
    return media.path(VIDEO)


@pytest.fixture(scope="module")
def converted(video: Path) -> dict[str, Path]:
    before = video.read_bytes()
    files = {ending: video.parent.parent / f"clip{ending}" for ending in FORMATS}
    for ending, file in files.items():
        with atomic_file(file) as part:
            convert(video, part, ending)
    assert video.read_bytes() == before
    return files


def frames_of(file: Path) -> NDArray[np.uint8]:
    if file.suffix == ".webm":
        return read_frames(file)
    with Image.open(file) as picture:
        return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)])


def times_of(picture: Image.Image) -> list[float]:
    """Return for how many milliseconds each frame is shown."""
    times = []
    for frame in ImageSequence.Iterator(picture):
        frame.load()
        times.append(frame.info["duration"])
    return times


@pytest.mark.parametrize(("ending", "most"), [(".gif", 8), (".webm", 4), (".webp", 4)])
def test_a_conversion_shows_every_frame_in_its_colours(
    video: Path, converted: dict[str, Path], ending: str, most: int
) -> None:
    frames, own = frames_of(converted[ending]), read_frames(video)
    assert frames.shape == own.shape
    difference = np.abs(frames.astype(int) - own)
    assert difference.mean() < most
    assert difference[:, 4:20, 4:20].max() <= 12  # the background: by another matrix it is another blue
    assert difference[0, 40:50, 15:25].mean() <= 12  # the middle of the circle


def test_animations_last_as_long_as_the_video_and_loop(converted: dict[str, Path]) -> None:
    for ending in (".gif", ".webp"):
        with Image.open(converted[ending]) as picture:
            lasted = sum(times_of(picture))
            assert lasted == pytest.approx(1000 * 9 / FPS, abs=20), ending
            assert picture.info["loop"] == 0
    facts = probe(converted[".webm"])
    assert (facts.codec, facts.frames, facts.fps) == ("vp9", 9, FPS)


def test_every_format_says_that_it_was_generated(converted: dict[str, Path]) -> None:
    said = {ending: source_type(file) for ending, file in converted.items() if ending != ".webm"}
    assert said == {".webp": TRAINED, ".gif": None}  # Pillow does not look for XMP in a GIF
    assert b"XMP DataXMP<?xpacket" in converted[".gif"].read_bytes()
    tags = ffmpeg.run("-i", str(converted[".webm"])).stderr.decode()
    assert re.search(rf"DIGITAL_SOURCE_TYPE: {re.escape(TRAINED)}\n", tags)


@pytest.mark.skipif(EXIFTOOL is None, reason="exiftool is not installed")
def test_exiftool_reads_so_from_gif_and_webp(converted: dict[str, Path]) -> None:
    files = {ending: file for ending, file in converted.items() if ending != ".webm"}
    assert source_types_by_exiftool(files) == dict.fromkeys(files, TRAINED)


@pytest.mark.parametrize("ending", FORMATS)
def test_the_receipt_comes_back_from_every_format(converted: dict[str, Path], ending: str) -> None:
    assert read_receipt(converted[ending]) == RECEIPT


@pytest.mark.parametrize("ending", FORMATS)
def test_the_same_result_gives_the_same_bytes(video: Path, converted: dict[str, Path], ending: str) -> None:
    again = converted[ending].with_suffix(".again")
    convert(video, again, ending)
    assert again.read_bytes() == converted[ending].read_bytes()


@pytest.mark.parametrize("ending", FORMATS)
def test_other_programs_play_what_has_been_given_metadata(converted: dict[str, Path], ending: str) -> None:
    run = ffmpeg.run("-v", "warning", "-i", str(converted[ending]), "-f", "null", "-")
    assert (run.returncode, run.stderr) == (0, b"")


@pytest.mark.parametrize(("fps", "shown"), [(50, 5), (60, 5), (23.976, 5)])
def test_a_gif_shows_no_frame_for_less_time_than_players_allow(tmp_path: Path, fps: float, shown: int) -> None:
    media = MediaStore(tmp_path)
    write_video(media, VIDEO, moving_circle(shown, 32, 32), fps, {}, 7)
    convert(media.path(VIDEO), tmp_path / "clip", ".gif")
    with Image.open(tmp_path / "clip") as picture:
        times = times_of(picture)
    assert min(times) >= 20
    assert sum(times) == pytest.approx(1000 * shown / fps, abs=25)


@pytest.mark.parametrize("ending", FORMATS)
def test_what_is_not_a_video_is_refused_with_the_reason(tmp_path: Path, ending: str) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with pytest.raises(UserError, match=rf"broken\.mp4 cannot be converted to {ending[1:]}: "):
        convert(broken, tmp_path / "out", ending)


@pytest.fixture
def poor_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An ffmpeg with only one encoder."""
    script = tmp_path / "ffmpeg"
    script.write_text('#!/bin/sh\necho " V....D libx264 libx264 H.264"\necho " V....D libwebp libwebp WebP image"\n')
    script.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(script))
    yield


@pytest.mark.parametrize("ending", [*FORMATS, ".WebM"])
def test_an_ffmpeg_without_the_encoder_is_named_before_any_work(poor_ffmpeg: None, ending: str) -> None:
    with pytest.raises(BadRequest, match=rf"no encoder \w.*{ending.lower()} needs; choose \.mp4"):
        require_encoder(Kind.VIDEO, ending)


@pytest.mark.parametrize(("kind", "ending"), [(Kind.VIDEO, ".mp4"), (Kind.IMAGE, ".webp"), (Kind.CAPTION, ".txt")])
def test_what_needs_no_encoder_of_ffmpeg_is_not_refused(poor_ffmpeg: None, kind: Kind, ending: str) -> None:
    require_encoder(kind, ending)
