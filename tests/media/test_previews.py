"""The folder of live previews: who wants one, whose a picture is, and what is left of it."""

import io
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wan_mcp.media.previews import LOOK_S, PreviewStore

JOB, OTHER = "a" * 20, "b" * 20
SIZE = (832, 480)


@pytest.fixture
def previews(tmp_path: Path) -> PreviewStore:
    return PreviewStore(tmp_path)


def frames(count: int = 4, grey: int = 128) -> "np.typing.NDArray[np.uint8]":
    return np.full((count, 3, 5, 3), grey, np.uint8)


def test_a_preview_is_wanted_for_some_seconds_after_a_look(previews: PreviewStore, tmp_path: Path) -> None:
    assert not previews.wanted(JOB)
    previews.look(JOB)
    assert previews.wanted(JOB)
    assert not previews.wanted(OTHER)
    before = time.time() - LOOK_S - 1
    os.utime(tmp_path / "previews" / f"{JOB}.wanted", (before, before))
    assert not previews.wanted(JOB)
    previews.look(JOB)
    assert previews.wanted(JOB)


@pytest.mark.parametrize(
    ("count", "size", "pixels"),
    [(1, (832, 480), (384, 222)), (4, (832, 480), (1024, 148)), (4, (480, 832), (592, 256)), (2, (128, 96), (256, 96))],
)
def test_a_preview_is_a_small_jpeg_of_the_results_shape(
    previews: PreviewStore, count: int, size: tuple[int, int], pixels: tuple[int, int]
) -> None:
    previews.write(JOB, 1, frames(count), size)
    content = previews.read(JOB, 1)
    assert content is not None and len(content) < 25_000
    with Image.open(io.BytesIO(content)) as picture:
        assert (picture.format, picture.size) == ("JPEG", pixels)


@pytest.mark.parametrize("attempt", [0, 2, 11])
def test_the_preview_of_another_attempt_is_never_shown(previews: PreviewStore, attempt: int) -> None:
    previews.write(JOB, 1, frames(), SIZE)
    assert previews.read(JOB, attempt) is None
    previews.remove(JOB, attempt)
    assert previews.read(JOB, 1) is not None
    previews.write(JOB, attempt, frames(), SIZE)
    assert previews.read(JOB, 1) is None and previews.read(JOB, attempt) is not None


def test_the_end_of_an_attempt_removes_its_preview_and_the_looks(previews: PreviewStore, tmp_path: Path) -> None:
    previews.look(JOB)
    previews.write(JOB, 1, frames(), SIZE)
    previews.remove(JOB, 1)
    assert list((tmp_path / "previews").iterdir()) == []
    previews.remove(JOB, 1)


def test_a_sweep_keeps_what_running_jobs_show(previews: PreviewStore, tmp_path: Path) -> None:
    queued = "c" * 20
    for job in (JOB, OTHER, queued):
        previews.look(job)
        previews.write(job, 1, frames(), SIZE)
    previews.sweep({JOB, queued}, {JOB})
    left = {file.name for file in (tmp_path / "previews").iterdir()}
    assert left == {f"{JOB}.jpg", f"{JOB}.wanted", f"{queued}.wanted"}


def test_a_home_that_cannot_be_written_costs_only_the_preview(tmp_path: Path) -> None:
    (tmp_path / "previews").write_text("not a folder", encoding="utf-8")
    previews = PreviewStore(tmp_path)
    previews.look(JOB)
    assert not previews.wanted(JOB)
    assert previews.read(JOB, 1) is None
    previews.remove(JOB, 1)
    previews.sweep(set(), set())
