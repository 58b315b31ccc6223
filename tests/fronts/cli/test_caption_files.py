"""`wan-mcp caption` of a folder or several files: a text file beside each picture, and none lost."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.fixtures.command_line import Wan
from tests.support.videos import encode, greys


def picture(file: Path, width: int = 40) -> Path:
    file.parent.mkdir(exist_ok=True)
    Image.new("RGB", (width, 30), "teal").save(file, "PNG")
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two pictures, a video, a file that only looks like a picture, and a note."""
    folder = tmp_path / "pictures"
    picture(folder / "a.png")
    picture(folder / "B.PNG", 50)
    encode(folder / "clip.mp4", greys(3))
    (folder / "broken.jpg").write_text("no picture", encoding="utf-8")
    (folder / "note.md").write_text("not a picture", encoding="utf-8")
    picture(folder / ".hidden.png")
    return folder


def test_each_picture_of_a_folder_gets_a_text_file_and_a_broken_one_costs_no_other(here: Wan, folder: Path) -> None:
    run = here("caption", "pictures")
    assert run.returncode == 1
    assert run.stdout.splitlines() == ["pictures/B.txt", "pictures/a.txt", "pictures/clip.txt"]
    assert "pictures/broken.jpg: not a readable image" in run.stderr
    assert "1 of 4 pictures have no caption" in run.stderr
    texts = {file.name: file.read_text(encoding="utf-8") for file in folder.glob("*.txt")}
    assert texts == {
        "a.txt": "a picture of 40x30\n",
        "B.txt": "a picture of 50x30\n",
        "clip.txt": "a picture of 96x64\n",
    }


def test_a_text_file_that_exists_is_kept_unless_it_is_asked_for(here: Wan, tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        picture(tmp_path / name)
    (tmp_path / "one.txt").write_text("mine", encoding="utf-8")
    run = here("caption", "one.png", "two.png")
    assert (run.returncode, run.stdout) == (0, "two.txt\n")
    assert "one.txt exists; --force writes it again" in run.stderr
    assert (tmp_path / "one.txt").read_text(encoding="utf-8") == "mine"
    run = here("caption", "one.png", "two.png", "--force", "--json")
    assert [job["caption"] for job in json.loads(run.stdout)] == ["a picture of 40x30"] * 2
    assert (tmp_path / "one.txt").read_text(encoding="utf-8") == "a picture of 40x30\n"


def test_one_picture_is_captioned_on_stdout_as_before(here: Wan, tmp_path: Path) -> None:
    picture(tmp_path / "one.png")
    run = here("caption", "one.png")
    assert run.stdout == "a picture of 40x30\n"
    assert not (tmp_path / "one.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("empty",), "the folder empty has no pictures"),
        (("a.png", "b.png", "-o", "x.txt"), "--output is for one picture"),
        (("a.png", "b.png", "--detach"), "--detach is for one picture"),
        (("a.png", "b.png", "--dry-run"), "--dry-run is for one picture"),
        (("a.png", "a.jpg"), "a.png and a.jpg would have the same text file"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(
    here: Wan, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("a.png", "b.png", "a.jpg"):
        picture(tmp_path / name)
    run = here("caption", *arguments)
    assert (run.returncode, run.stdout) == (2, "")
    assert words in run.stderr
    assert not list(tmp_path.glob("*.txt"))
