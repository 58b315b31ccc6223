"""What all tests share: a home of their own, fake engines, and the end of every engine that a test started."""

import gc
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

# The tests share the cores out among themselves: more threads in each would only wait for one another. Engines and
# other processes that tests start inherit it. Before torch, which reads it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import wan_mcp.engine  # noqa: F401  # before torch: tests compute as an engine does
from tests.support.patience import PATIENCE_S
from wan_mcp.hardware.processor import processor
from wan_mcp.settings import ENV_PREFIX, Settings

# Torch's compiler finds out which instructions g++ knows by a dozen programs that it compiles and loads: of a first
# package's 55 s of processor time it takes 14. Any g++ that builds packages knows these flags, except the newest.
if "amx_fp16" not in processor().flags:
    os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")

PROC = Path("/proc/self/environ").exists()
FAKE_ENGINE = Path(__file__).parent / "support" / "fake_engine.py"


# Folders whose tests share something that takes long to make: all of one run in the same process, the longest first.
SHARING = ("aot", "clients", "cluster")


FOLDERS = pytest.StashKey[dict[Path, pytest.Collector]]()


@pytest.hookimpl(wrapper=True)
def pytest_collect_directory(
    path: Path, parent: pytest.Collector
) -> Generator[None, pytest.Collector | None, pytest.Collector | None]:
    """Collect each folder as one node.

    For every file of a folder on the command line pytest 9.1 makes nodes of the folders beside it again, and the
    fixtures of their conftest.py belong to the first of these nodes only.
    """
    folder = yield
    known = parent.session.stash.setdefault(FOLDERS, {})
    return folder if folder is None else known.setdefault(path, folder)


@pytest.hookimpl(optionalhook=True)  # without the plug-in nobody knows it
def pytest_xdist_auto_num_workers() -> int:
    """Run one process more than there are cores: tests wait for processes, locks and deadlines in between."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + 1


@pytest.hookimpl(tryfirst=True)  # before the plug-in that shares the tests out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of a file stay together; those for a GPU are skipped without one (torch is asked only if there are any)."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            folder = item.path.parent.name
            item.add_marker(pytest.mark.xdist_group(folder if folder in SHARING else f"{folder}/{item.path.stem}"))
    order = {folder: place for place, folder in enumerate(SHARING)}
    items.sort(key=lambda item: order.get(item.path.parent.name, len(order)))
    for_a_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not for_a_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in for_a_gpu:
            item.add_marker(pytest.mark.skip(reason="no GPU"))


def pytest_configure(config: pytest.Config) -> None:
    """No setting of the person who runs the tests reaches them."""
    for name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
        del os.environ[name]
    # An engine outlives the front that has started it: that is the design, not a leak.
    config.addinivalue_line("filterwarnings", r"ignore:subprocess \d+ is still running:ResourceWarning")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _random_numbers_are_the_same_in_any_order() -> None:
    """Where torch is imported already; it is not imported for this."""
    if (torch := sys.modules.get("torch")) is not None and hasattr(torch, "manual_seed"):
        torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _fronts_are_collected() -> Iterator[None]:
    """What is left of the last fronts is collected while the filter above holds, not at exit."""
    yield
    gc.collect()


def fake_engine(name: str) -> str:
    """The command of a fake engine; the names are in tests/support/fake_engine.py."""
    return shlex.join([sys.executable, str(FAKE_ENGINE), name])


@contextmanager
def ending_engines(home: Path) -> Iterator[None]:
    """End the engines of `home` when the block ends, also those whose fronts have ended before they were ready."""
    try:
        yield
    finally:
        for engine in _engines_of(home):
            with suppress(psutil.NoSuchProcess):
                engine.kill()
                if engine.ppid() == os.getpid():  # others are reaped by whoever has inherited them
                    engine.wait(PATIENCE_S)


def _engines_of(home: Path) -> list[psutil.Process]:
    found = []
    for pid in psutil.pids():
        with suppress(psutil.Error, OSError):
            if pid != os.getpid() and _is_of(home, pid):
                found.append(psutil.Process(pid))
    return found


def _is_of(home: Path, pid: int) -> bool:
    name = f"{ENV_PREFIX}HOME"
    if not PROC:
        return psutil.Process(pid).environ().get(name) == str(home)
    # What psutil does for all processes takes five times as long, after each test.
    return f"{name}={home}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """Settings with an empty home of their own, a CPU engine that works, and pictures/ as the allowed folder."""
    home = tmp_path / "home"
    with ending_engines(home):
        yield settings_for(home)


@pytest.fixture
def old_manifest(settings: Settings) -> Path:
    """A manifest of one's own in the home of `settings`: what a user of 0.1.0 got by copying one and renaming it."""
    text = (Path(__file__).parent / "catalog" / "0.1.0" / "wan2.2-t2v-a14b.toml").read_text(encoding="utf-8")
    file = settings.home / "manifests" / "my-wan.toml"
    file.parent.mkdir(parents=True)
    file.write_text(text.replace('name = "wan2.2-t2v-a14b"', 'name = "my-wan"'), encoding="utf-8")
    return file


@pytest.fixture
def engine(settings: Settings) -> Callable[..., Settings]:
    """`engine(name, **changes)`: the settings with a fake engine by its name, and other changes."""

    def choose(name: str, **changes: object) -> Settings:
        return settings.model_copy(update={"engine_command": fake_engine(name), **changes})

    return choose


@pytest.fixture
def mount_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """`mount_disk(kilobytes)`: a small disk of its own, which can be full; skips where none may be mounted."""
    disks: list[Path] = []

    def mount(kilobytes: int) -> Path:
        disk = tmp_path / f"disk-{len(disks)}"
        disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("a small disk needs the right to mount one")
        disks.append(disk)
        return disk

    yield mount
    for disk in disks:
        # Lazily: an engine that is being ended may hold a file for a moment longer.
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.fixture(scope="session")
def shared_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A home for the whole run, whose engine works and stays: for tests that only look at results."""
    home = tmp_path_factory.mktemp("shared") / "home"
    with ending_engines(home):
        yield settings_for(home)


def settings_for(home: Path) -> Settings:
    """Settings for tests: the CPU, a fake engine that works, generous waiting."""
    pictures = home.parent / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    return Settings(
        home=home,
        device="cpu",
        image_dirs=(pictures,),
        engine_command=fake_engine("works"),
        min_free_mb=1,
        wait_s=PATIENCE_S,
    )
