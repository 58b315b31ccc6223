"""A video that is written while its frames come."""

import stat
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.fixtures.media import VIDEO, moving_circle, noise
from tests.support.videos import read_frames, write_video
from wan_mcp.errors import JobFailed, OutOfSpace
from wan_mcp.media.receipts import read_receipt
from wan_mcp.media.store import MediaStore
from wan_mcp.media.video_writer import WAITING, VideoWriter


def writer_of(media: MediaStore, count: int) -> VideoWriter:
    return VideoWriter(media, VIDEO, (128, 128), count, 8, {"seed": 7})


def left(media: MediaStore) -> list[Path]:
    return [file for file in media.home.rglob("*") if file.is_file() and file.name != "ffmpeg"]


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_the_files_are_the_same_in_however_many_batches_the_frames_come(media: MediaStore, batch: int) -> None:
    frames = noise(17)
    whole = write_video(media, VIDEO, frames, 8, {"seed": 7}, 7)
    places = (media.path(VIDEO), media.poster(VIDEO), media.sheet(VIDEO))
    wanted = [place.read_bytes() for place in places]
    writer = writer_of(media, 17)
    for start in range(0, 17, batch):
        writer.add(frames[start : start + batch])
    assert writer.finish(7) == whole
    assert [place.read_bytes() for place in places] == wanted


def test_frames_may_be_views_of_larger_arrays(media: MediaStore) -> None:
    frames = moving_circle(9, 256, 256)
    writer = writer_of(media, 5)
    writer.add(frames[::2, ::2, ::2])
    writer.finish(7)
    assert np.median(np.abs(read_frames(media.path(VIDEO)).astype(int) - frames[::2, ::2, ::2])) <= 2


@pytest.mark.skipif(sys.platform != "linux", reason="command lines are read from /proc")
def test_other_users_read_neither_the_prompt_nor_a_path_in_the_command_line_of_the_encoder(media: MediaStore) -> None:
    receipt = {"request": {"prompt": "a secret; of = two #lines\\", "image": "/home/alice/passport.png"}}
    writer = VideoWriter(media, VIDEO, (128, 128), 5, 8, receipt)
    words = psutil.Process(writer._process.pid).cmdline()
    writer.add(moving_circle(5))
    writer.finish(7)
    assert "rawvideo" in words
    for private in ("secret", "alice", str(media.home), VIDEO.id):
        assert not any(private in word for word in words[1:])
    assert read_receipt(media.path(VIDEO)) == receipt


def test_no_name_is_there_before_the_end(media: MediaStore) -> None:
    writer = writer_of(media, 5)
    writer.add(moving_circle(5))
    assert not media.path(VIDEO).exists()
    writer.finish(7)
    assert media.path(VIDEO).exists()


@pytest.mark.parametrize("frames", [0, 3])
def test_an_abandoned_video_leaves_nothing_and_no_process(media: MediaStore, frames: int) -> None:
    writer = writer_of(media, 17)
    if frames:
        writer.add(moving_circle(frames))
    writer.abandon()
    assert writer._process.returncode is not None
    assert not writer._thread.is_alive()
    assert left(media) == []


@pytest.fixture
def short_lived_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ffmpeg that ends after the first bytes, with a reason."""
    script = tmp_path / "ffmpeg"
    script.write_text(
        '#!/bin/sh\nhead -c 100 >/dev/null\nfor last; do :; done\necho part >"$last"\necho "$REASON" >&2\nexit 1\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(script))
    return script


@pytest.mark.parametrize(
    ("reason", "error"), [("No space left on device", OutOfSpace), ("Unknown encoder 'libx264'", JobFailed)]
)
def test_an_encoder_that_ends_early_stops_the_job_while_frames_still_come(
    media: MediaStore, short_lived_ffmpeg: Path, monkeypatch: pytest.MonkeyPatch, reason: str, error: type[Exception]
) -> None:
    monkeypatch.setenv("REASON", reason)
    writer = writer_of(media, 17 * 1000)
    with pytest.raises(error, match=r"no space|Unknown encoder"):
        for _ in range(1000):  # it never waits for what nobody reads
            writer.add(noise(17))
    writer.abandon()
    assert left(media) == []


def test_a_slow_encoder_is_waited_for_so_that_memory_stays_bounded(media: MediaStore) -> None:
    writer = writer_of(media, 60)
    most = 0
    for _ in range(60):
        writer.add(noise(1))
        most = max(most, writer._queue.qsize())
    assert 0 < most <= WAITING
    writer.finish(7)
