"""Build and prove packages, one at a time on this machine, in processes that can be ended. Imports no torch."""

import json
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import psutil
from filelock import FileLock

from wan_mcp.engine.aot import child_process
from wan_mcp.engine.aot.metadata import Input, PackageMetadata
from wan_mcp.engine.aot.store import BUILD_PREFIX, PackageStore
from wan_mcp.files import sha256_of
from wan_mcp.text import in_bytes

__all__ = ["EXIT_NO_MEMORY", "BuildFailed", "BuildRequest", "InsufficientMemory", "build", "build_lock", "environment"]

log = logging.getLogger(__name__)

COMPILE = "wan_mcp.engine.aot.compile_main"
VERIFY = "wan_mcp.engine.aot.verify_main"
NICENESS = 15
THREADS = 4
"""The most compilers at once: a job is running beside them."""
MEMORY_BYTES = 12_000_000_000
"""Of a build with all that it starts; a block took 2 GB."""
PATIENCE_S = 1200.0
LOOK_S = 0.25
EXIT_NO_MEMORY = 75
"""The exit code that says: not now, a job needs the GPU's memory (EX_TEMPFAIL of sysexits.h)."""

Tell = Callable[[str], None]
Errors = IO[bytes] | None


class BuildFailed(Exception):
    """No package came of it; says why and what to do."""


class InsufficientMemory(BuildFailed):
    """Another time it may."""


@dataclass(frozen=True)
class BuildRequest:
    """A package to build: plain values, since this side knows no torch."""

    kind: Mapping[str, Any]
    """See `identity.kind_to_dict`."""
    device: str
    name: str
    """The hash of its identity."""


def build_lock(home: Path) -> FileLock:
    """Held while a package is built: one at a time, whichever engine wants it."""
    folder = PackageStore(home / "packages")
    folder.make()
    return FileLock(folder.folder / "build.lock", thread_local=False)


def environment(home: Path) -> dict[str, str]:
    """Of the processes that build: their own caches, few threads."""
    cache = home / "packages" / "compiler"
    threads = str(max(1, min(THREADS, (os.cpu_count() or 2) // 2)))
    return os.environ | {
        "TORCHINDUCTOR_CACHE_DIR": str(cache),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "TORCHINDUCTOR_COMPILE_THREADS": threads,
        "OMP_NUM_THREADS": threads,
    }


def build(wanted: BuildRequest, home: Path, tell: Tell, errors: Errors = None) -> bool:
    """Build a package, prove it, and publish it; False if it is there already. Waits for other builds.

    `tell` is told what is being done; `errors` takes what the compiler says, in place of this process's own stderr.

    Raises:
        BuildFailed: none came of it.
        OSError: the folder cannot be written.
    """
    store = PackageStore(home / "packages")
    store.make()
    with build_lock(home):
        if store.has(wanted.name):
            return False
        store.sweep()
        began = time.monotonic()
        folder = Path(tempfile.mkdtemp(prefix=BUILD_PREFIX, dir=store.folder))
        try:
            file = folder / "block.pt2"
            run = partial(_child, wanted, home, errors)
            tell("compiling")
            facts = run(COMPILE, file)
            tell("proving it")
            proof = run(VERIFY, file)
            metadata = PackageMetadata(
                identity=facts["identity"],
                package_sha256=sha256_of(file),
                inputs=tuple(Input.model_validate(each) for each in facts["inputs"]),
                dynamic=facts["dynamic"],
                difference=proof["difference"],
                seconds=round(time.monotonic() - began, 1),
            )
            store.publish(file, wanted.name, metadata)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    log.info("package %s built and proved in %.0f s", wanted.name, time.monotonic() - began)
    return True


def _child(wanted: BuildRequest, home: Path, errors: Errors, module: str, file: Path) -> dict[str, Any]:
    """Run a module on the wanted package; gives what it printed.

    Raises:
        BuildFailed: it ended badly, or took too long or too much memory.
    """
    # The compiler warns of what is its own to change.
    arguments = [
        "-W",
        "ignore::FutureWarning",
        "-m",
        module,
        json.dumps(dict(wanted.kind)),
        wanted.device,
        str(file),
    ]
    with tempfile.TemporaryFile() as answer:
        process = child_process.start(arguments, environment(home), output=answer, errors=errors)
        try:
            _watch(process)
        finally:
            child_process.end(process)
        if process.returncode == EXIT_NO_MEMORY:
            raise InsufficientMemory("the GPU has no 2 GB free for it now")
        if process.returncode:
            raise BuildFailed(_reason(process.returncode))
        answer.seek(0)
        return dict(json.loads(answer.read().splitlines()[-1]))


def _watch(process: subprocess.Popen[bytes]) -> None:
    with suppress(psutil.NoSuchProcess):
        psutil.Process(process.pid).nice(NICENESS)
    give_up = time.monotonic() + PATIENCE_S
    while process.poll() is None:
        if time.monotonic() > give_up:
            raise BuildFailed(f"it took longer than {PATIENCE_S:.0f} s")
        if (taken := _memory(process.pid)) > MEMORY_BYTES:
            raise BuildFailed(f"it took {in_bytes(taken)} of memory")
        time.sleep(LOOK_S)


def _memory(pid: int) -> int:
    """What a process holds with all that it started."""
    total = 0
    with suppress(psutil.NoSuchProcess):  # it may end while we look
        parent = psutil.Process(pid)
        for each in (parent, *parent.children(recursive=True)):
            total += each.memory_info().rss
    return total


def _reason(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        return f"the process died of {name}; if 'wan-mcp doctor' finds the compiler at fault, set CXX as it says"
    return f"the process ended with exit code {code}; its last words are in the log"
