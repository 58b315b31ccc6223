"""Folders below the home that cannot be written: their names, at the door and from the engine."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.mcp_server import Connect, Pace, png
from wan_mcp.errors import HomeUnusable, OutOfSpace
from wan_mcp.files import writing_to
from wan_mcp.settings import Settings

ReadOnly = Callable[[Path], None]
FOLDERS = ["media", "media/inputs", "media/images", "logs", "engines"]


@pytest.fixture
def read_only() -> Iterator[ReadOnly]:
    """`read_only(folder)`: nothing can be written there any more, not even by root."""

    def mount(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("a disk that may not be written needs the right to mount one")
        mounted.append(folder)

    mounted: list[Path] = []
    yield mount
    for folder in reversed(mounted):
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.anyio
@pytest.mark.parametrize("name", FOLDERS)
async def test_a_job_is_refused_with_the_name_of_the_folder_that_may_not_be_written(
    connect: Connect, settings: Settings, read_only: ReadOnly, name: str
) -> None:
    [pictures] = settings.image_dirs
    (pictures / "mine.png").write_bytes(png(64, 64))
    read_only(settings.home / name)
    async with connect(settings) as runner:
        for answer in (
            await runner.call("caption_image", image=str(pictures / "mine.png")),
            await runner.call("generate_image", prompt="a star"),
        ):
            assert answer.result.is_error
            assert f"the folder {settings.home / name} may not be written" in answer.text
            assert "WAN_MCP_HOME" in answer.text
        assert await runner.service.newest() == []


@pytest.mark.anyio
async def test_a_folder_that_becomes_unwritable_while_a_job_runs_fails_it_with_its_name(
    connect: Connect, settings: Settings, pace: Pace, read_only: ReadOnly
) -> None:
    async with connect(settings) as runner:
        answer = await runner.call("generate_image", prompt="a star", wait_s=0)
        read_only(settings.home / "media" / "images")
        pace.allow(100)
        answer = await runner.call("get_job", job_id=answer.job["job_id"])
    assert answer.job["error"]["code"] == "home_unusable"
    assert f"folder {settings.home / 'media' / 'images'} may not be written" in answer.job["error"]["message"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR])
def test_what_a_disk_refuses_names_the_folder(tmp_path: Path, number: int) -> None:
    with pytest.raises(HomeUnusable, match=f"the folder {tmp_path} may not be written") as refused:  # noqa: SIM117
        with writing_to(tmp_path / "not" / "yet"):
            raise OSError(number, os.strerror(number), "file")
    assert os.strerror(number) in str(refused.value)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_another_matter(tmp_path: Path, number: int) -> None:
    with pytest.raises(OutOfSpace), writing_to(tmp_path):
        raise OSError(number, os.strerror(number))


def test_errors_of_anything_else_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(BrokenPipeError), writing_to(tmp_path):
        raise BrokenPipeError(errno.EPIPE, "broken pipe")
