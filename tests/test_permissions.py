"""Who may use the home: modes on creation and on upgrade, whatever the umask; other users, links and groups."""

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wan_mcp.errors import HomeUnusable
from wan_mcp.files import atomic_file, atomic_folder
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.device_lock import engine_lock
from wan_mcp.media.store import MediaName, MediaStore, whole
from wan_mcp.permissions import append_to, create_file, make_folder, open_home
from wan_mcp.schema.enums import Kind

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(home: Path) -> dict[str, str]:
    """The mode of the home folder and of everything in it, links left out."""
    found = [home, *(path for path in home.rglob("*") if not path.is_symlink())]
    return {str(path.relative_to(home)): f"{stat.S_IMODE(path.stat().st_mode):o}" for path in found}


@pytest.fixture
def passable() -> Iterator[Path]:
    """A folder that every user may pass: pytest's own are closed."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextmanager
def as_nobody() -> Iterator[None]:
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def wide(found: dict[str, str], others: int = 0o077) -> dict[str, str]:
    return {name: mode for name, mode in found.items() if int(mode, 8) & others}


def fill(home: Path) -> None:
    """Make one thing of every kind that a home holds, by the functions that make them."""
    database = Database(home / "jobs.db")
    with database.write() as connection:
        connection.execute("INSERT INTO auto_device VALUES (1, 'cpu')")
    assert (home / "jobs.db-wal").exists()
    assert (home / "jobs.db-shm").exists()
    media = MediaStore(home)
    for file in (media.path(MediaName.of("0" * 20, 0, Kind.VIDEO)), media.inputs / "picture.png"):
        with whole(file) as fresh:
            fresh.write_bytes(b"picture")
    with append_to(home / "logs" / "engine.log") as log:
        log.write(b"line")
    with engine_lock(home, "cpu"):
        pass
    with atomic_file(home / "weights" / "model.lock.json", private=True) as fresh:
        fresh.write_text("{}")
    with atomic_folder(home / "cache" / "weights" / "key", private=True) as folder:
        (folder / "block.safetensors").write_bytes(b"block")
    assert not wide(modes(home), 0o077 if not home.stat().st_mode & stat.S_ISGID else 0o007)
    database.close()


def old_home(home: Path) -> None:
    """A home as a version that left the modes to the umask made it."""
    with umask(0o022):
        for folder in ("media/videos", "media/inputs", "logs", "engines", "manifests", "packages/compiler"):
            (home / folder).mkdir(parents=True)
        for name in ("jobs.db", "jobs.db-wal", "jobs.db-shm", "media/inputs/0.png", "logs/engine.log"):
            (home / name).write_bytes(b"")
        (home / "manifests" / "mine.toml").write_bytes(b"")
        (home / "packages" / "compiler" / "line.so").write_bytes(b"")
        (home / "packages" / "compiler" / "line.so").chmod(0o755)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o137])
def test_a_new_home_and_all_in_it_are_the_owners_alone_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    home = tmp_path / "some" / "where" / "home"
    with umask(mask):
        fill(home)
    found = modes(home)
    assert wide(found) == {}
    assert {name: found[name] for name in (".", "media", "jobs.db", "engines/cpu.lock", "logs/engine.log")} == {
        ".": "700",
        "media": "700",
        "jobs.db": "600",
        "engines/cpu.lock": "600",
        "logs/engine.log": "600",
    }


@pytest.mark.parametrize("mode", [0o755, 0o777, 0o1777, 0o750, 0o711, 0o700])
def test_an_old_home_is_closed_with_everything_in_it(tmp_path: Path, mode: int) -> None:
    home = tmp_path / "home"
    old_home(home)
    home.chmod(mode)
    open_home(home)
    assert wide(modes(home)) == {}
    assert (home / "packages" / "compiler" / "line.so").stat().st_mode & 0o777 == 0o700


def test_opening_the_job_table_of_an_old_home_closes_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with umask(0o022):
        Database(home / "jobs.db").close()
        home.chmod(0o755)
        (home / "jobs.db").chmod(0o644)
        (home / "notes.txt").write_text("mine")
    Database(home / "jobs.db").close()
    assert wide(modes(home)) == {}


def test_a_home_that_its_owner_made_a_groups_stays_shared_and_is_closed_to_all_others(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o2775)
    (home / "pace").write_text("1")
    (home / "pace").chmod(0o664)
    with umask(0o077):
        open_home(home)
        fill(home)
    found = modes(home)
    assert wide(found, 0o007) == {}
    assert found["."] == "2770"
    new = {name: found[name] for name in ("cache", "cache/weights/key", "weights/model.lock.json", "engines/cpu.lock")}
    assert new == {
        "cache": "2770",
        "cache/weights/key": "2770",
        "weights/model.lock.json": "660",
        "engines/cpu.lock": "660",
    }


def test_what_the_owners_links_point_to_keeps_its_modes(tmp_path: Path) -> None:
    home, disk = tmp_path / "home", tmp_path / "large disk"
    home.mkdir(mode=0o755)
    disk.mkdir(mode=0o755)
    disk.chmod(0o755)
    (home / "media").symlink_to(disk)
    open_home(home)
    assert (home / "media").is_symlink()
    assert disk.stat().st_mode & 0o777 == 0o755


@as_root
def test_links_that_another_user_has_put_into_an_open_home_are_removed(tmp_path: Path) -> None:
    home, victim = tmp_path / "home", tmp_path / "victim"
    victim.write_text("not theirs")
    victim.chmod(0o644)
    (home / "logs").mkdir(parents=True)
    home.chmod(0o777)
    for link in (home / "manifests", home / "logs" / "engine.log"):
        link.symlink_to(victim)
        os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
    open_home(home)
    assert [path.name for path in home.rglob("*")] == ["logs"]
    assert victim.stat().st_mode & 0o777 == 0o644


@as_root
def test_another_user_can_neither_read_a_home_nor_hold_its_locks(passable: Path) -> None:
    home = passable / "home"
    with umask(0):
        old_home(home)
        (home / "jobs.db").unlink()
        fill(home)
    for command in (
        ["cat", str(home / "jobs.db")],
        ["ls", str(home / "media" / "inputs")],
        ["flock", "--nonblock", str(home / "engines" / "cpu.lock"), "true"],
    ):
        run = subprocess.run(_as_nobody(command), capture_output=True, text=True, check=False)
        assert run.returncode, command
        assert "ermission denied" in run.stderr


@as_root
def test_a_home_of_another_user_is_refused_unless_it_is_shared(passable: Path) -> None:
    home = passable / "home"
    home.mkdir()
    os.chown(home, 12345, 12345)
    home.chmod(0o777)
    with as_nobody(), pytest.raises(HomeUnusable, match=r"belongs to another user.*chmod 2770"):
        open_home(home)
    home.chmod(0o2777)
    with as_nobody():
        open_home(home)


@as_root
def test_in_a_containers_volume_that_only_root_can_close_what_is_made_is_closed(passable: Path) -> None:
    home = passable / "volume"
    home.mkdir()
    home.chmod(0o777)
    with as_nobody():
        open_home(home)
        make_folder(home / "media" / "inputs")
        create_file(home / "jobs.db")
    assert modes(home) == {".": "777", "media": "700", "media/inputs": "700", "jobs.db": "600"}


def test_a_file_in_the_place_of_the_home_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(HomeUnusable, match="set WAN_MCP_HOME"):
        open_home(tmp_path / "home")


def _as_nobody(command: list[str]) -> list[str]:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("needs setpriv")
    return [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command]
