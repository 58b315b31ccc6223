"""Files named by path are read only if what was opened lies in an allowed folder, whatever links lead where."""

import os
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from wan_mcp.media import local_files
from wan_mcp.media.local_files import NotAllowed, open_allowed, open_result


@pytest.fixture
def allowed(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir(mode=0o755)
    (folder / "mine.png").write_bytes(b"mine")
    (tmp_path / "secret.png").write_bytes(b"secret")
    return folder


def read(path: Path, *folders: Path) -> bytes:
    with open_allowed(path, folders or None) as file:
        return file.read()


def test_a_file_in_an_allowed_folder_is_read_and_elsewhere_only_where_all_are(allowed: Path) -> None:
    assert read(allowed / "mine.png", allowed) == b"mine"
    assert read(allowed.parent / "secret.png") == b"secret"
    with pytest.raises(NotAllowed):
        read(allowed.parent / "secret.png", allowed)
    with pytest.raises(NotAllowed):
        read(allowed.parent / "no such.png", allowed)
    with pytest.raises(FileNotFoundError):
        read(allowed / "no such.png", allowed)


def test_an_allowed_folder_may_itself_be_a_link(allowed: Path) -> None:
    (allowed.parent / "link").symlink_to(allowed)
    assert read((allowed.parent / "link" / "mine.png").resolve(), allowed.parent / "link") == b"mine"


@pytest.mark.parametrize("through_the_folder", [False, True])
def test_a_link_put_in_place_between_check_and_opening_leads_nowhere(
    allowed: Path, monkeypatch: pytest.MonkeyPatch, through_the_folder: bool
) -> None:
    """The link is there when the file is opened, though the path had been resolved before."""
    if through_the_folder:
        (allowed / "sub").symlink_to(allowed.parent)
        path = allowed / "sub" / "secret.png"
    else:
        path = allowed / "picture.png"
        path.symlink_to(allowed.parent / "secret.png")
    with pytest.raises(NotAllowed):
        read(path, allowed)
    monkeypatch.setattr(local_files, "OPEN_FILES", "/nowhere")  # as where the kernel does not tell what was opened
    with pytest.raises(NotAllowed):
        read(path, allowed)


@pytest.mark.parametrize("path", ["/proc/self/environ", "/dev/zero", "/proc/self/fd/0", "/etc/passwd"])
def test_devices_and_files_of_the_kernel_are_not_in_any_folder(allowed: Path, path: str) -> None:
    with pytest.raises(NotAllowed):
        read(Path(path), allowed)


@pytest.mark.parametrize("folders", [(), ("allowed",)])
def test_pipes_folders_and_devices_are_not_files_and_nobody_waits_for_them(
    allowed: Path, folders: tuple[str, ...]
) -> None:
    os.mkfifo(allowed / "pipe")
    for path in (allowed / "pipe", allowed):
        with pytest.raises(OSError):
            read(path, *([allowed] if folders else []))
    with pytest.raises((OSError, NotAllowed)):
        read(Path("/dev/zero"), *([allowed] if folders else []))


def test_a_second_name_of_a_file_counts_where_others_may_put_one(allowed: Path) -> None:
    os.link(allowed.parent / "secret.png", allowed / "second.png")
    assert read(allowed / "second.png", allowed) == b"secret"  # only the owner of the folder can have made it
    allowed.chmod(0o777)
    with pytest.raises(NotAllowed):
        read(allowed / "second.png", allowed)
    assert read(allowed / "mine.png", allowed) == b"mine"
    assert read(allowed / "second.png") == b"secret"


def test_no_descriptor_is_left_open(allowed: Path) -> None:
    process = psutil.Process()
    before = process.num_fds()
    for path in (allowed / "mine.png", allowed):
        for _ in range(5):
            with suppress(OSError):
                read(path, allowed)
    assert process.num_fds() == before


def test_a_link_in_the_media_folder_is_not_a_result(allowed: Path) -> None:
    (allowed / "link.png").symlink_to(allowed.parent / "secret.png")
    for path in (allowed / "link.png", allowed, allowed / "none.png"):
        with pytest.raises(FileNotFoundError):
            open_result(path)
    with open_result(allowed / "mine.png") as file:
        assert file.read() == b"mine"
