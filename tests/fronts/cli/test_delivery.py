"""-o: endings and names that are refused before a job, and whole files or none after it."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.fixtures.media import IMAGE, VIDEO, moving_circle
from tests.support.videos import write_video
from wan_mcp.errors import BadRequest
from wan_mcp.fronts.cli.delivery import Delivery
from wan_mcp.media.images import write_image
from wan_mcp.media.receipts import read_receipt
from wan_mcp.media.store import MediaStore
from wan_mcp.schema.enums import JobState, Kind
from wan_mcp.schema.jobs import Job

RECEIPT = {"request": {"prompt": "a “red” circle", "seed": 7}}


def job_of(**results: Any) -> Job:
    """A finished job with these results; what it was asked is of no matter here."""
    values: dict[str, Any] = {"id": "j", "state": JobState.SUCCEEDED, "plan": None}
    return Job.model_construct(**(values | results))


@pytest.fixture
def pictures(tmp_path: Path) -> Job:
    """A finished job of two images."""
    media = MediaStore(tmp_path / "home")
    pixels = np.tile(np.arange(64, dtype=np.uint8)[:, None, None], (1, 48, 3))
    first = write_image(media, IMAGE, pixels, RECEIPT, 7)
    return job_of(artifacts=(first, first))


def only(job: Job) -> Job:
    return job.model_copy(update={"artifacts": job.artifacts[:1]})


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("clip.avi", Kind.VIDEO, r"ends in \.avi; a video needs \.mp4, \.gif, \.webm or \.webp"),
        ("clip.MOV", Kind.VIDEO, r"ends in \.MOV"),
        ("clip.png", Kind.VIDEO, r"a video needs \.mp4"),
        ("clip.jpg", Kind.VIDEO, r"a video needs \.mp4"),
        ("clip.webm", Kind.IMAGE, r"an image needs"),
        ("clip", Kind.VIDEO, "has no ending"),
        ("-", Kind.VIDEO, "has no ending"),
        (".mp4", Kind.VIDEO, "has no ending"),
        ("cat.gif", Kind.IMAGE, r"an image needs \.png, \.jpg, \.jpeg or \.webp"),
        ("cat.mp4", Kind.IMAGE, "an image needs"),
        ("cat.", Kind.IMAGE, "an image needs"),
        ("cat.json", Kind.CAPTION, r"a caption needs \.txt"),
        ("folder", Kind.IMAGE, "is a folder"),
        ("folder.png", Kind.IMAGE, "is a folder"),
        ("nowhere/cat.png", Kind.IMAGE, "no folder"),
        ("there.png/cat.png", Kind.IMAGE, "no folder"),
        pytest.param(f"{'x' * 300}.png", Kind.IMAGE, "cannot be written", id="too-long"),
        ("nul\0.png", Kind.IMAGE, "cannot be written"),
        ("a\x1b[31m.gif", Kind.IMAGE, r"a\\x1b\[31m\.gif ends in"),
        ("pipe.png", Kind.IMAGE, "not a regular file"),
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_a_target_that_cannot_be_right_is_refused_before_the_job(
    tmp_path: Path, name: str, kind: Kind, words: str, force: bool
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "there.png").touch()
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(BadRequest, match=words):
        Delivery(tmp_path / name, force).check(kind, 1)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.mp4", Kind.VIDEO),
        ("A.MP4", Kind.VIDEO),
        ("a.gif", Kind.VIDEO),
        ("a.WebM", Kind.VIDEO),
        ("a.webp", Kind.VIDEO),
        ("a.b.Png", Kind.IMAGE),
        ("a.JPEG", Kind.IMAGE),
        ("a.webp", Kind.IMAGE),
        ("a.txt", Kind.CAPTION),
        (f"{'字' * 83}.png", Kind.IMAGE),
    ],
)
def test_endings_of_the_kind_are_allowed_in_any_case(tmp_path: Path, name: str, kind: Kind) -> None:
    Delivery(tmp_path / name).check(kind, 1)


def test_names_that_are_taken_need_force(tmp_path: Path) -> None:
    (tmp_path / "cat-2.png").touch()
    (tmp_path / "link.png").symlink_to(tmp_path / "nothing")
    Delivery(tmp_path / "cat.png").check(Kind.IMAGE, 1)
    with pytest.raises(BadRequest, match=r"cat-2\.png already exists; .*--force"):
        Delivery(tmp_path / "cat.png").check(Kind.IMAGE, 2)
    Delivery(tmp_path / "cat.png", force=True).check(Kind.IMAGE, 2)
    with pytest.raises(BadRequest, match=r"link\.png is not a regular file"):
        Delivery(tmp_path / "link.png").check(Kind.IMAGE, 1)


def test_a_detached_job_delivers_nothing_so_its_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="exclude each other"):
        Delivery(tmp_path / "cat.png", detach=True).check(Kind.IMAGE, 1)


@pytest.mark.parametrize(("ending", "kind"), [(".jpg", "JPEG"), (".JPEG", "JPEG"), (".webp", "WEBP"), (".PNG", "PNG")])
def test_an_image_is_of_the_kind_that_its_ending_says_and_keeps_its_receipt(
    tmp_path: Path, pictures: Job, ending: str, kind: str
) -> None:
    target = tmp_path / f"cat{ending}"
    assert Delivery(target).deliver(only(pictures)) == [target]
    with Image.open(target) as picture, Image.open(pictures.artifacts[0].path) as own:
        assert picture.format == kind
        assert np.abs(np.asarray(picture, dtype=int) - np.asarray(own, dtype=int)).max() <= 4
    assert read_receipt(target) == RECEIPT


@pytest.mark.parametrize(("ending", "head"), [(".gif", b"GIF89a"), (".WEBM", b"\x1a\x45\xdf\xa3"), (".webp", b"RIFF")])
def test_a_video_is_of_the_kind_that_its_ending_says_and_keeps_its_receipt(
    tmp_path: Path, ending: str, head: bytes
) -> None:
    video = write_video(MediaStore(tmp_path / "home"), VIDEO, moving_circle(5), 8, RECEIPT, 7)
    before = Path(video.path).read_bytes()
    target = tmp_path / f"clip{ending}"
    assert Delivery(target).deliver(job_of(artifacts=(video,))) == [target]
    assert target.read_bytes().startswith(head)
    assert read_receipt(target) == RECEIPT
    assert Path(video.path).read_bytes() == before


def test_what_cannot_be_converted_is_told_with_the_place_of_the_result(tmp_path: Path) -> None:
    video = write_video(MediaStore(tmp_path / "home"), VIDEO, moving_circle(5), 8, RECEIPT, 7)
    Path(video.path).write_bytes(b"damaged")
    with pytest.raises(BadRequest, match=r"clip\.gif was not written: .* cannot be converted .*; the result is .*mp4"):
        Delivery(tmp_path / "clip.gif").deliver(job_of(artifacts=(video,)))
    assert not (tmp_path / "clip.gif").exists()


def test_several_results_are_numbered(tmp_path: Path, pictures: Job) -> None:
    targets = Delivery(tmp_path / "cat.png").deliver(pictures)
    assert targets == [tmp_path / "cat-1.png", tmp_path / "cat-2.png"]
    assert all(target.read_bytes() == Path(pictures.artifacts[0].path).read_bytes() for target in targets)


@pytest.mark.parametrize("links", [True, False], ids=["hard-links", "no-hard-links"])
def test_a_file_that_appears_while_the_job_runs_is_not_overwritten(
    tmp_path: Path, pictures: Job, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    target = tmp_path / "cat.png"
    delivery = Delivery(target)
    delivery.check(Kind.IMAGE, 1)
    target.write_text("mine")
    with pytest.raises(BadRequest, match=r"appeared while the job ran.*the result is .*\.png"):
        delivery.deliver(only(pictures))
    assert target.read_text() == "mine"
    assert Delivery(target, force=True).deliver(only(pictures)) == [target]
    assert target.read_bytes() == Path(pictures.artifacts[0].path).read_bytes()
    target.unlink()
    assert delivery.deliver(only(pictures)) == [target]
    assert [file.name for file in tmp_path.iterdir() if file.name != "home"] == ["cat.png"]


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_a_full_disk_leaves_no_part_of_a_file(
    tmp_path: Path, pictures: Job, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadRequest, match=r"No space left on device\); the result is"):
        Delivery(tmp_path / f"cat{ending}").deliver(only(pictures))
    assert [file.name for file in tmp_path.iterdir()] == ["home"]


def test_a_caption_is_written_as_it_is(tmp_path: Path) -> None:
    job = job_of(caption="a “red”\x1b[31m\ncircle")
    target = tmp_path / "cat.txt"
    delivery = Delivery(target)
    delivery.check(Kind.CAPTION, 1)
    assert delivery.deliver(job) == [target]
    assert target.read_text(encoding="utf-8") == "a “red”\x1b[31m\ncircle\n"
