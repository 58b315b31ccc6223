"""Files that appear whole or not at all, whoever dies meanwhile, and the hash of what they hold."""

import errno
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from wan_mcp.files import (
    PIECE_BYTES,
    STALE_S,
    atomic_file,
    atomic_folder,
    is_disk_full,
    sha256_of,
    sha256_of_listing,
    sweep_stale,
)

Writing = Callable[[Path], AbstractContextManager[Path]]
WRITERS = [pytest.param(atomic_file, id="file"), pytest.param(atomic_folder, id="folder")]
# Writes half of its target, says so, and goes on once it may.
WRITER = """
import sys
from pathlib import Path
from wan_mcp.files import atomic_file, atomic_folder
kind, target = sys.argv[1:]
with {"file": atomic_file, "folder": atomic_folder}[kind](Path(target)) as fresh:
    file = fresh if kind == "file" else fresh / "part"
    file.write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
    file.write_text("whole")
"""


@contextmanager
def writer(kind: str, target: Path, *wrapper: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is in the middle of writing `target`; it ends well when its input is closed."""
    command = [*wrapper, sys.executable, "-c", WRITER, kind, str(target)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == b"writing\n"
        yield process
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def make_old(file: Path) -> None:
    """As if nobody had written to it for longer than any writer pauses."""
    then = file.lstat().st_mtime - 2 * STALE_S
    for each in (*file.rglob("*"), file):
        os.utime(each, (then, then), follow_symlinks=False)


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "file.png"
    with atomic_file(target) as fresh:
        fresh.write_bytes(b"half")
        assert not list(tmp_path.rglob("*.png"))
        fresh.write_bytes(b"all of it")
    assert target.read_bytes() == b"all of it"
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_appears_when_all_of_it_is_there(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with atomic_folder(target) as fresh:
        (fresh / "one").write_bytes(b"1")
        assert not target.exists()
        (fresh / "two").write_bytes(b"2")
    assert sorted(file.name for file in target.iterdir()) == ["one", "two"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_writer_that_breaks_leaves_the_former_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"former")
    with pytest.raises(KeyError), atomic_file(target, durable=True) as fresh:
        fresh.write_bytes(b"half")
        raise KeyError("broken")
    assert target.read_bytes() == b"former"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(sys.platform != "linux", reason="the path of an open file is read from /proc")
def test_a_durable_file_is_on_the_disk_with_its_name_and_its_new_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[Path, bool]] = []
    target = tmp_path / "new" / "newer" / "file"

    def sync(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink(), target.exists()))

    monkeypatch.setattr(os, "fsync", sync)
    with atomic_file(target, durable=True) as fresh:
        fresh.write_bytes(b"all of it")
    (content, named_before), *folders = synced
    assert (content.name, named_before) == (fresh.name, False)
    assert folders == [(folder, True) for folder in (target.parent, tmp_path / "new", tmp_path)]
    for replace in (True, False):
        synced.clear()
        with atomic_file(target.with_suffix(f".{replace}"), durable=True, replace=replace) as fresh:
            fresh.touch()
        assert [folder for folder, _ in synced[1:]] == [target.parent]


def test_a_folder_that_is_there_already_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with atomic_folder(target) as first:
        (first / "file").write_bytes(b"first")
    with pytest.raises(OSError, match="not empty"), atomic_folder(target) as second:
        (second / "file").write_bytes(b"second")
    assert (target / "file").read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [target]


def test_a_program_may_write_the_file_by_a_rename_of_its_own(tmp_path: Path) -> None:
    target = tmp_path / "file"
    with atomic_file(target) as fresh:
        (fresh.parent / ".tmpAbC123").write_bytes(b"all of it")
        (fresh.parent / ".tmpAbC123").replace(fresh)
        sweep_stale(tmp_path)
    assert target.read_bytes() == b"all of it"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_writer_leaves_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path, kind: str) -> None:
    dead, living = tmp_path / "dead", tmp_path / "living"
    with writer(kind, dead) as killed, writer(kind, living):
        killed.kill()
        killed.wait()
        (left,) = tmp_path.glob(".dead.*")
        (unfinished,) = tmp_path.glob(".living.*")
        make_old(unfinished)
        sweep_stale(tmp_path)
        assert not left.exists()
        assert unfinished.exists()
    assert list(tmp_path.iterdir()) == [living]
    assert (living if kind == "file" else living / "part").read_text() == "whole"


def test_what_is_written_in_another_container_is_not_swept(tmp_path: Path) -> None:
    apart = ("unshare", "--pid", "--fork", "--kill-child")
    if not shutil.which("unshare") or subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("processes with pids of their own need the right to make them")
    with writer("file", tmp_path / "file", *apart):
        sweep_stale(tmp_path)
    assert (tmp_path / "file").read_text() == "whole"


@pytest.mark.parametrize(
    "name",
    [
        ".0123456789abcdefghjk-0.mp4.89abcdef.4711.part",  # a video
        ".0123456789abcdef.89abcdef.4711",  # converted weights, a folder
        ".0123456789abcdef.89abcdef",  # an embedding
        ".tmpDe4M6y",  # one that the library was writing
        ".wan2.2-t2v-a14b.lock.json.4711",  # the lock of weights
    ],
)
def test_what_a_writer_of_0_1_0_has_left_is_swept_once_it_is_old(tmp_path: Path, name: str) -> None:
    left = tmp_path / name
    left.mkdir()
    (left / "block-000.safetensors").write_bytes(b"half")
    sweep_stale(tmp_path)
    assert left.exists()
    make_old(left)
    sweep_stale(tmp_path)
    assert not left.exists()


def test_a_sweep_takes_nothing_that_is_no_unfinished_file(tmp_path: Path) -> None:
    names = ["file", "file.part", ".DS_Store", ".hidden", ".hidden.part", "a.0123456789abcdef.part", ".git"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
        make_old(tmp_path / name)
    below = tmp_path / "folder" / ".file.0123456789abcdef.part"
    below.mkdir(parents=True)
    sweep_stale(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*names, "folder"])
    assert below.exists()
    sweep_stale(tmp_path / "none")


def test_where_there_are_no_locks_age_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", without_locks)
    dead = tmp_path / ".dead.0123456789abcdef.part"
    dead.mkdir()
    make_old(dead)
    with atomic_file(tmp_path / "file") as fresh:
        fresh.write_bytes(b"all of it")
        sweep_stale(tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_many_writers_of_one_file_and_many_sweeps_leave_one_whole_file(tmp_path: Path) -> None:
    target, ended = tmp_path / "file", threading.Event()
    broken: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                broken.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def write(letter: bytes) -> None:
        for _ in range(50):
            with atomic_file(target) as fresh:
                fresh.write_bytes(letter * 10_000)

    def sweep_and_read() -> None:
        while not ended.is_set():
            sweep_stale(tmp_path)
            if target.exists():
                content = target.read_bytes()
                assert content == content[:1] * 10_000

    others = [guarded(sweep_and_read) for _ in range(2)]
    writers = [guarded(lambda letter=letter: write(letter)) for letter in (b"a", b"b", b"c")]  # type: ignore[misc]
    for thread in writers:
        thread.join()
    ended.set()
    for thread in others:
        thread.join()
    assert broken == []
    assert target.read_bytes() in (b"a" * 10_000, b"b" * 10_000, b"c" * 10_000)
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("writing", WRITERS)
def test_on_a_full_disk_the_error_says_so_and_nothing_is_left(
    mount_disk: Callable[[int], Path], writing: Writing
) -> None:
    disk = mount_disk(64)
    (disk / "former").write_bytes(b"former")
    with pytest.raises(OSError) as full, writing(disk / "target") as fresh:
        (fresh / "file" if fresh.is_dir() else fresh).write_bytes(b"x" * 100_000)
    assert is_disk_full(full.value)
    assert [file.name for file in disk.iterdir()] == ["former"]


def test_other_errors_are_not_those_of_a_full_disk() -> None:
    assert not is_disk_full(OSError(errno.EIO, "input/output error"))
    assert not is_disk_full(OSError("no number"))


@pytest.mark.parametrize("writing", WRITERS)
def test_permissions_are_those_that_the_writer_gives(tmp_path: Path, writing: Writing) -> None:
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    with writing(folder / "default") as fresh:
        if not fresh.is_dir():
            fresh.write_bytes(b"")
    with writing(folder / "own") as fresh:
        if not fresh.is_dir():
            fresh.touch()
        fresh.chmod(0o700)
    (tmp_path / "plain").mkdir() if (folder / "own").is_dir() else (tmp_path / "plain").touch()
    assert (folder / "default").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (folder / "own").stat().st_mode & 0o777 == 0o700
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_name_as_long_as_a_disk_allows_can_be_written(tmp_path: Path) -> None:
    target = tmp_path / ("x" * 255)
    with atomic_file(target) as fresh:
        fresh.write_bytes(b"all of it")
    assert target.read_bytes() == b"all of it"


def test_a_files_hash_is_that_of_its_bytes_and_the_reader_follows_it(tmp_path: Path) -> None:
    content = os.urandom(PIECE_BYTES + 1)
    (tmp_path / "file").write_bytes(content)
    counts: list[int] = []
    assert sha256_of(tmp_path / "file", counts.append) == hashlib.sha256(content).hexdigest()
    assert counts == [PIECE_BYTES, 1]


def test_the_hash_of_many_files_is_that_of_their_listing() -> None:
    listed = "a 1\nb/c 2\n"
    assert sha256_of_listing([("a", "1"), ("b/c", "2")]) == hashlib.sha256(listed.encode()).hexdigest()
