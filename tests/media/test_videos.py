"""Videos on disk: playable, repeatable, whole or not there, and readable again."""

import re
import stat
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.fixtures.media import VIDEO, moving_circle, noise
from tests.support.videos import probe, read_frames, write_video
from wan_mcp.errors import JobFailed, OutOfSpace
from wan_mcp.media import ffmpeg
from wan_mcp.media.receipts import read_receipt
from wan_mcp.media.store import MediaStore

RECEIPT = {"request": {"prompt": 'a = b; #c \\ "d"\n “ö” 😀', "seed": 7}, "torch": "2"}


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.rglob("*") if file.is_file())


def test_a_video_is_h264_that_plays_everywhere(media: MediaStore) -> None:
    write_video(media, VIDEO, moving_circle(), 8, RECEIPT, 7)
    facts = probe(media.path(VIDEO))
    assert (facts.width, facts.height, facts.frames, facts.fps) == (128, 128, 17, 8.0)
    assert (facts.codec, facts.pixel_format) == ("h264", "yuv420p")
    data = media.path(VIDEO).read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # it starts to play before it is all there


def test_the_artifact_says_what_the_file_is(media: MediaStore) -> None:
    artifact = write_video(media, VIDEO, moving_circle(9, 160, 96), 8, RECEIPT, 7)
    assert (artifact.width, artifact.height, artifact.frames, artifact.fps) == (160, 96, 9, 8)
    assert (artifact.duration_s, artifact.seed, artifact.mime_type) == (1.125, 7, "video/mp4")
    assert artifact.bytes == media.path(VIDEO).stat().st_size
    assert artifact.path == str(media.path(VIDEO))
    assert artifact.uri == VIDEO.uri


@pytest.mark.parametrize("fps", [8, 16, 23.976, 29.97, 12.5])
def test_any_frame_rate_is_kept(media: MediaStore, fps: float) -> None:
    write_video(media, VIDEO, moving_circle(5), fps, {}, 7)
    assert probe(media.path(VIDEO)).fps == pytest.approx(fps, abs=0.01)


def test_small_videos_stay_sharp_and_keep_their_colours(media: MediaStore) -> None:
    frames = moving_circle()
    write_video(media, VIDEO, frames, 8, {}, 7)
    back = read_frames(media.path(VIDEO))
    assert back.shape == frames.shape
    difference = np.abs(back.astype(int) - frames)
    assert np.median(difference) <= 2
    assert difference[:, 0, 0].max() <= 3  # the background
    assert difference[0, 57, 20].max() <= 6  # the middle of the circle
    luma = np.array([0.2126, 0.7152, 0.0722])
    error = ((back.astype(float) - frames) @ luma) ** 2
    assert 10 * np.log10(255**2 / error.mean()) > 38  # colour is stored at half the resolution, light is not


def test_the_receipt_comes_back_as_it_was(media: MediaStore) -> None:
    write_video(media, VIDEO, moving_circle(5), 8, RECEIPT, 7)
    assert read_receipt(media.path(VIDEO)) == RECEIPT


def test_a_long_receipt_comes_back_as_it_was(media: MediaStore) -> None:
    receipt = {"prompt": "prompt " * 2000}
    write_video(media, VIDEO, moving_circle(5), 8, receipt, 7)
    assert read_receipt(media.path(VIDEO)) == receipt


def test_what_carries_no_receipt_has_none(media: MediaStore, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.mp4"
    nothing.write_bytes(b"no video")
    assert read_receipt(nothing) is None
    with pytest.raises(OSError, match="cannot be read as a video"):
        probe(nothing)


def test_the_same_frames_give_the_same_bytes(media: MediaStore) -> None:
    seen = set()
    for _ in range(3):
        write_video(media, VIDEO, noise(), 8, RECEIPT, 7)
        seen.add(tuple(path(VIDEO).read_bytes() for path in (media.path, media.poster, media.sheet)))
    assert len(seen) == 1


def test_a_video_has_its_poster_and_sheet_before_its_name(media: MediaStore, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    usual = Path.replace

    def replace(self: Path, target: Path) -> Path:
        moved = usual(self, target)
        seen.append(files(media.home))
        return moved

    monkeypatch.setattr(Path, "replace", replace)
    write_video(media, VIDEO, moving_circle(), 8, RECEIPT, 7)
    names = [VIDEO.file_name, VIDEO.file_name.replace("mp4", "poster.jpg"), VIDEO.file_name.replace("mp4", "sheet.jpg")]
    assert sorted(seen[-1]) == sorted(names)
    assert VIDEO.file_name not in seen[-2]


@pytest.fixture
def broken_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ffmpeg that writes a little, says why it stops, and fails."""
    script = tmp_path / "ffmpeg"
    script.write_text('#!/bin/sh\nhead -c 100 >/dev/null\nfor last; do :; done\necho part >"$last"\n')
    script.chmod(script.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(script))
    return script


@pytest.mark.parametrize(
    ("says", "error"), [("No space left on device", OutOfSpace), ("Unknown encoder 'libx264'", JobFailed)]
)
def test_when_ffmpeg_fails_no_file_is_left_and_its_reason_is_told(
    media: MediaStore, broken_ffmpeg: Path, says: str, error: type[Exception]
) -> None:
    with broken_ffmpeg.open("a") as script:
        script.write(f'echo "{says}" >&2\nexit 1\n')
    with pytest.raises(error, match=r"no space|Unknown encoder"):
        write_video(media, VIDEO, moving_circle(5), 8, {}, 7)
    assert files(media.home / "media") == []


def test_without_ffmpeg_the_job_says_how_to_get_one(media: MediaStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise RuntimeError("No ffmpeg exe could be found")

    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", none)
    with pytest.raises(JobFailed, match="IMAGEIO_FFMPEG_EXE"):
        write_video(media, VIDEO, moving_circle(5), 8, {}, 7)


def test_a_full_disk_leaves_no_file_and_says_what_to_do(small_disk: Path) -> None:
    media = MediaStore(small_disk)
    with pytest.raises(OutOfSpace, match="free some"):
        write_video(media, VIDEO, noise(), 8, {}, 7)
    assert files(small_disk) == []
    write_video(media, VIDEO, moving_circle(5, 32, 32), 8, {}, 7)
    assert len(files(small_disk)) == 3


def test_larger_videos_are_written_too(media: MediaStore) -> None:
    artifact = write_video(media, VIDEO, moving_circle(9, 832, 480), 16, {}, 7)
    assert probe(media.path(VIDEO)).width == artifact.width == 832


def test_a_front_may_import_the_media_modules_and_stay_light() -> None:
    heavy = "import sys, wan_mcp.media.ingest, wan_mcp.media.receipts, wan_mcp.media.video_writer\n"
    heavy += "print([m for m in ('torch', 'numpy', 'PIL', 'imageio_ffmpeg') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_every_player_reads_from_a_video_that_its_colours_are_bt709(media: MediaStore) -> None:
    write_video(media, VIDEO, moving_circle(5), 8, {"seed": 7}, 7)
    content = media.path(VIDEO).read_bytes()
    at = content.index(b"colr")
    assert content[at + 4 : at + 8] == b"nclx"
    assert struct.unpack(">HHHB", content[at + 8 : at + 15]) == (1, 1, 1, 0)  # primaries, transfer, matrix, full range
    run = ffmpeg.run("-i", str(media.path(VIDEO)), "-c", "copy", "-bsf:v", "trace_headers", "-f", "null", "-")
    headers = run.stderr.decode()
    for name in ("colour_primaries", "transfer_characteristics", "matrix_coefficients"):
        assert re.findall(rf"{name}\s+[01]+ = (\d+)", headers) == ["1"], headers
    assert re.findall(r"video_full_range_flag\s+[01]+ = (\d+)", headers) == ["0"]
