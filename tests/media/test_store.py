"""Names, places, and files that are whole or not there."""

import errno
import os
from pathlib import Path

import pytest

from tests.fixtures.media import ID, IMAGE, VIDEO
from wan_mcp.errors import BadRequest, OutOfSpace
from wan_mcp.media.store import MediaName, MediaStore, whole
from wan_mcp.schema.enums import Kind


@pytest.mark.parametrize("name", [IMAGE, VIDEO, MediaName.of(ID, 12, Kind.IMAGE)])
def test_an_address_leads_back_to_its_name(name: MediaName) -> None:
    assert MediaName.parse(name.uri) == name


@pytest.mark.parametrize(
    "address",
    [
        "wan://videos/../../etc/passwd",
        f"wan://videos/{ID}-0.png",
        f"wan://images/{ID}-0.mp4",
        f"wan://images/{ID}.png",
        f"wan://jobs/{ID}-0.png",
        f"wan://images/{ID.upper()}-0.png",
        f"wan://images/{ID}-0.png\n",
        f"http://images/{ID}-0.png",
        "wan://images/" + "x" * 5000,
        "",
    ],
)
def test_what_is_no_address_of_a_result_is_refused_with_an_example(address: str) -> None:
    with pytest.raises(BadRequest, match="wan://images/<id>"):
        MediaName.parse(address)


def test_sidecars_lie_beside_their_video(media: MediaStore) -> None:
    assert {media.path(VIDEO).parent, media.sheet(VIDEO).parent, media.poster(VIDEO).parent} == {
        media.home / "media" / "videos"
    }
    assert len({media.path(VIDEO), media.sheet(VIDEO), media.poster(VIDEO)}) == 3


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "file"
    with whole(target) as temporary:
        temporary.write_bytes(b"all of it")
        assert not target.exists()
    assert target.read_bytes() == b"all of it"
    assert list(target.parent.iterdir()) == [target]


def test_a_writer_that_breaks_leaves_the_former_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"former")

    def broken() -> None:
        with whole(target) as temporary:
            temporary.write_bytes(b"half")
            raise KeyError("broken")

    with pytest.raises(KeyError):
        broken()
    assert target.read_bytes() == b"former"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_told_as_such_and_other_errors_as_they_are(tmp_path: Path) -> None:
    for number, error in ((errno.ENOSPC, OutOfSpace), (errno.EDQUOT, OutOfSpace), (errno.EIO, OSError)):
        with pytest.raises(error), whole(tmp_path / "file"):
            raise OSError(number, os.strerror(number))


def test_a_sweep_removes_what_dead_writers_left_and_nothing_else(media: MediaStore) -> None:
    dead = [media.path(name).with_name(f".{name.file_name}.0123456789abcdef.part") for name in (VIDEO, IMAGE)]
    for folder in dead:
        folder.mkdir(parents=True)
        (folder / "half").write_bytes(b"half")
    media.path(VIDEO).write_bytes(b"whole")
    with whole(media.path(IMAGE)) as temporary:
        media.sweep()
        temporary.write_bytes(b"whole")
    assert list(media.path(VIDEO).parent.iterdir()) == [media.path(VIDEO)]
    assert list(media.path(IMAGE).parent.iterdir()) == [media.path(IMAGE)]


def test_free_space_is_told_of_a_home_that_does_not_exist_yet(tmp_path: Path) -> None:
    assert MediaStore(tmp_path / "new").free_bytes() > 0
