"""A package's life: nobody waits for its build, it is built once, proved before anybody loads it, and ends with us."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fixtures.aot_packages import CPU, IN_FP8, IN_PLAIN, wanted
from wan_mcp.engine.aot import builder as building
from wan_mcp.engine.aot import child_process
from wan_mcp.engine.aot import registry as packages_of_engine
from wan_mcp.engine.aot.builder import BuildFailed, build, build_lock
from wan_mcp.engine.aot.registry import BUILD_BYTES, PackageRegistry
from wan_mcp.engine.transformer.block import BlockKind, run_block

pytestmark = pytest.mark.timeout(1800)  # see test_arithmetic
Open = Callable[[Path], PackageRegistry]
PATIENCE_S = 300
ROOT = Path(__file__).parents[3]


def wait_for_build(packages: PackageRegistry) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while packages.building:
        assert time.monotonic() < give_up
        time.sleep(0.05)


@pytest.fixture
def compile_to(compiled: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[BlockKind], None]:
    """`compile_to(kind)`: whatever is to be compiled, in place of the compiler comes the package of this kind."""

    def choose(kind: BlockKind) -> None:
        monkeypatch.setattr(building, "COMPILE", "tests.support.ready_made_package")  # of `build`, and of an engine:
        monkeypatch.setattr(packages_of_engine, "BUILD", "tests.support.build_ready_made")
        monkeypatch.setenv("READY_MADE", str(compiled / "packages" / f"{wanted(kind).name}.pt2"))
        monkeypatch.setenv("PYTHONPATH", str(ROOT))

    return choose


def test_without_a_compiler_blocks_run_eagerly_and_the_log_says_why(
    tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "/nowhere/g++")
    packages = opened(tmp_path)
    packages.request(IN_PLAIN, CPU)
    assert packages.building and packages.run({IN_PLAIN}, CPU) is run_block  # at once
    wait_for_build(packages)
    assert not packages.ready(IN_PLAIN, CPU) and packages.run({IN_PLAIN}, CPU) is run_block
    log = capfd.readouterr().err
    assert "could not be built; blocks keep running eagerly" in log and "/nowhere/g++" in log
    packages.request(IN_PLAIN, CPU)
    assert not packages.building  # it is not tried again at every job
    assert list((tmp_path / "packages").glob("build-*")) == []


def test_a_build_for_which_a_gpu_has_no_room_is_tried_again_at_the_next_job(
    tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []

    def refused(arguments: list[str], *rest: Any, **options: Any) -> Any:
        started.append(arguments)
        return start(["-m", "tests.support.no_room"], *rest, **options)

    start = child_process.start
    monkeypatch.setattr(child_process, "start", refused)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    packages = opened(tmp_path)
    for times in (1, 2, 3):
        assert packages.pending({IN_PLAIN}, CPU)
        packages.request(IN_PLAIN, CPU)
        wait_for_build(packages)
        assert len(started) == times
    for _ in range(3):  # but not at every job of an engine's life
        assert not packages.pending({IN_PLAIN}, CPU)
        packages.request(IN_PLAIN, CPU)
        assert not packages.building
    assert len(started) == 3


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Builds that do not end by themselves; those that were started."""
    started: list[subprocess.Popen[bytes]] = []

    def noted(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(start(*arguments, **options))
        return started[-1]

    start = child_process.start
    monkeypatch.setattr(child_process, "start", noted)
    monkeypatch.setattr(packages_of_engine, "BUILD", "tests.support.endless_build")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return started


def test_no_build_is_started_until_the_gpu_has_memory_for_it(
    tmp_path: Path, endless: list[subprocess.Popen[bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    free = BUILD_BYTES - 1
    packages = PackageRegistry(tmp_path, lambda device: free)
    for _ in range(5):
        packages.request(IN_PLAIN, CPU)
        with caplog.at_level("INFO"):
            packages.hold(held=False)
        assert not packages.building and packages.waiting and packages.pending({IN_PLAIN}, CPU)
    assert endless == [] and "2.7 GB are needed" in caplog.text
    free = BUILD_BYTES
    packages.hold(held=False)
    assert packages.building and not packages.waiting and len(endless) == 1
    packages.close()
    assert endless[0].returncode is not None


def test_a_build_that_a_job_leaves_no_room_for_is_stopped_and_starts_again_after_the_job(
    tmp_path: Path, endless: list[subprocess.Popen[bytes]]
) -> None:
    packages = PackageRegistry(tmp_path)
    assert not packages.hold(held=True)
    packages.request(IN_PLAIN, CPU)
    assert not packages.building and packages.waiting
    for times in (1, 2, 3):
        packages.hold(held=False)
        assert packages.building and len(endless) == times
        assert packages.hold(held=True), "it was running"
        assert endless[-1].returncode is not None and not packages.building
    packages.hold(held=False)
    packages.request(IN_PLAIN, CPU)
    assert not packages.building and len(endless) == 3, "an engine does not go on like this for ever"
    packages.close()


def test_a_folder_that_others_might_write_is_closed_to_them_before_anything_is_built(tmp_path: Path) -> None:
    folder = tmp_path / "packages"
    folder.mkdir()
    folder.chmod(0o775)
    with build_lock(tmp_path):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_what_was_set_aside_is_built_anew_and_taken_up(
    compile_to: Callable[[BlockKind], None], home: Path, opened: Open
) -> None:
    compile_to(IN_PLAIN)
    packages = opened(home)
    (home / "packages" / f"{wanted(IN_PLAIN).name}.json").write_text("garbage")
    assert packages.run({IN_PLAIN}, CPU) is run_block
    packages.request(IN_PLAIN, CPU)
    assert packages.run({IN_PLAIN}, CPU) is run_block  # nobody waits
    wait_for_build(packages)
    assert packages.run({IN_PLAIN}, CPU) is not run_block
    files = [file for file in (home / "packages").glob(f"{wanted(IN_PLAIN).name}.*") if file.suffix != ".broken"]
    assert [file.stat().st_mode & 0o077 for file in files] == [0, 0]


@pytest.mark.parametrize(
    ("dying", "reason"),
    [("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "died of SIGSEGV"), ("raise SystemExit(3)", "code 3")],
)
def test_a_package_that_ends_its_process_never_gets_as_far_as_an_engine(
    dying: str,
    reason: str,
    compile_to: Callable[[BlockKind], None],
    tmp_path: Path,
    opened: Open,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compile_to(IN_PLAIN)
    (tmp_path / "dying.py").write_text(dying)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(tmp_path)]))
    monkeypatch.setattr(building, "VERIFY", "dying")
    with pytest.raises(BuildFailed, match=reason):
        build(wanted(IN_PLAIN), tmp_path, lambda _: None)
    packages = opened(tmp_path)
    assert not packages.ready(IN_PLAIN, CPU) and packages.run({IN_PLAIN}, CPU) is run_block


def test_a_package_that_computes_something_else_is_not_published(
    compile_to: Callable[[BlockKind], None], tmp_path: Path
) -> None:
    compile_to(IN_FP8)  # which differs by far more than rounding
    told: list[str] = []
    with pytest.raises(BuildFailed, match="exit code 1"):
        build(wanted(IN_PLAIN), tmp_path, told.append)
    assert told == ["compiling", "verifying"]
    assert list((tmp_path / "packages").glob("*.pt2")) == []


def test_one_package_is_built_at_a_time_and_none_twice(home: Path, tmp_path: Path, opened: Open) -> None:
    name = wanted(IN_PLAIN).name
    kept = {file.name: file.read_bytes() for file in (home / "packages").glob(f"{name}.*")}
    for file in kept:
        (home / "packages" / file).unlink()
    packages = opened(home)
    with build_lock(home):  # another engine builds it
        packages.request(IN_PLAIN, CPU)
        assert packages.building
        for file, content in kept.items():
            (home / "packages" / file).write_bytes(content)
            (home / "packages" / file).chmod(0o600)
    wait_for_build(packages)
    assert packages.ready(IN_PLAIN, CPU)
    assert (home / "packages" / f"{name}.json").read_bytes() == kept[f"{name}.json"]


ENGINE = """
import sys, time, psutil, torch
from pathlib import Path
from tests.fixtures.aot_packages import CPU, IN_PLAIN
from wan_mcp.engine.aot.builder import COMPILE
from wan_mcp.engine.aot.registry import BUILD_BYTES, PackageRegistry
packages = PackageRegistry(Path(sys.argv[1]))
packages.request(IN_PLAIN, CPU)
packages.hold(held=False)
while not (found := [p for p in psutil.Process().children(recursive=True) if COMPILE in p.cmdline()]):
    time.sleep(0.01)
print(*[p.pid for p in psutil.Process().children(recursive=True)], flush=True)
input()
packages.close()
"""


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "closed"])
def test_a_build_ends_with_its_engine(killed: bool, tmp_path: Path) -> None:
    engine = subprocess.Popen(
        [sys.executable, "-c", ENGINE, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    )
    assert engine.stdin is not None and engine.stdout is not None
    builders = [psutil.Process(int(pid)) for pid in engine.stdout.readline().split()]
    assert len(builders) >= 2 and all(each.nice() > 0 for each in builders[:1])
    if killed:
        engine.send_signal(signal.SIGKILL)
        engine.stdin.close()
    else:
        engine.stdin.write("\n")
        engine.stdin.close()
    assert engine.wait(PATIENCE_S) == (-signal.SIGKILL if killed else 0)
    engine.stdout.close()
    left = psutil.wait_procs(builders, timeout=PATIENCE_S)[1]
    assert [each for each in left if each.status() != psutil.STATUS_ZOMBIE] == []
    assert list((tmp_path / "packages").glob("*.pt2")) == []


def test_a_build_that_takes_too_much_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(building, "MEMORY_BYTES", 50_000_000)
    with pytest.raises(BuildFailed, match=r"it used \d.* of memory"):
        build(wanted(IN_PLAIN), tmp_path, lambda _: None)
    monkeypatch.undo()
    monkeypatch.setattr(building, "PATIENCE_S", 0.1)
    with pytest.raises(BuildFailed, match="longer than"):
        build(wanted(IN_PLAIN), tmp_path, lambda _: None)
    assert list((tmp_path / "packages").glob("build-*")) == []
