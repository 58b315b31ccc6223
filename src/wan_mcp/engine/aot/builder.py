"""Build and verify packages, one at a time on this machine, in processes that can be killed. Imports no torch."""

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

from wan_mcp.child_environment import child_environment, temporary_in
from wan_mcp.engine.aot import child_process
from wan_mcp.engine.aot.metadata import Input, PackageMetadata
from wan_mcp.engine.aot.store import BUILD_PREFIX, PackageStore
from wan_mcp.files import sha256_of
from wan_mcp.text import in_bytes

__all__ = [
    "CONTEXT_BYTES",
    "EXIT_NO_MEMORY",
    "GPU_BYTES",
    "BuildFailed",
    "BuildRequest",
    "InsufficientMemory",
    "build",
    "build_lock",
    "environment",
]

log = logging.getLogger(__name__)

COMPILE = "wan_mcp.engine.aot.compile_main"
VERIFY = "wan_mcp.engine.aot.verify_main"
NICENESS = 15
THREADS = 4
"""Maximum number of parallel compilers: a job runs at the same time."""
MEMORY_BYTES = 12_000_000_000
"""Memory limit of a build and its child processes; a block needed 2 GB."""
PATIENCE_S = 1200.0
LOOK_S = 0.25
GPU_BYTES = 2_000_000_000
"""Memory limit of a build on a GPU: 329 MB were measured for compiling a block of A14B, and verifying needs its weights
and inputs twice."""
CONTEXT_BYTES = 700_000_000
"""What the driver takes for another process on a GPU: 610 MB on an H100."""
EXIT_NO_MEMORY = 75
"""Exit code for "retry later, a job needs the GPU's memory" (EX_TEMPFAIL of sysexits.h)."""

Tell = Callable[[str], None]
Errors = IO[bytes] | None


class BuildFailed(Exception):
    """The build failed; the message has the reason and the remedy."""


class InsufficientMemory(BuildFailed):
    """There was not enough memory; a later build may succeed."""


@dataclass(frozen=True)
class BuildRequest:
    """A package to build, as plain values, since this side does not import torch."""

    kind: Mapping[str, Any]
    """See `cache_key.kind_to_dict`."""
    device: str
    name: str
    """The hash of its cache key."""


def build_lock(home: Path) -> FileLock:
    """Return the lock held during a build: only one build runs at a time, across all engines."""
    folder = PackageStore(home / "packages")
    folder.make()
    return FileLock(folder.folder / "build.lock", mode=0o600, thread_local=False)


def environment(home: Path) -> dict[str, str]:
    """Return the environment of build processes: no secrets, own caches, few threads.

    Raises:
        OSError: the folder of temporary files cannot be created.
    """
    threads = str(max(1, min(THREADS, (os.cpu_count() or 2) // 2)))
    own = child_environment() | temporary_in(home)
    return own | {
        "TORCHINDUCTOR_COMPILE_THREADS": threads,
        "OMP_NUM_THREADS": threads,
    }


def build(wanted: BuildRequest, home: Path, tell: Tell, errors: Errors = None) -> bool:
    """Build a package, verify it, and publish it; return false if it already exists. Waits for other builds.

    `tell` is called with each stage; `errors` receives the compiler's output instead of this process's stderr.

    Raises:
        BuildFailed: no package was built.
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
            tell("verifying")
            verified = run(VERIFY, file)
            metadata = PackageMetadata(
                identity=facts["identity"],
                package_sha256=sha256_of(file),
                inputs=tuple(Input.model_validate(fields) for fields in facts["inputs"]),
                dynamic=facts["dynamic"],
                difference=verified["difference"],
                seconds=round(time.monotonic() - began, 1),
            )
            store.publish(file, wanted.name, metadata)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    log.info("package %s built and verified in %.0f s", wanted.name, time.monotonic() - began)
    return True


def _child(wanted: BuildRequest, home: Path, errors: Errors, module: str, file: Path) -> dict[str, Any]:
    """Run a module on the wanted package; return its output.

    Raises:
        BuildFailed: the process failed, or exceeded its time or memory limit.
    """
    # Warnings of the compiler concern its own code.
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
            raise InsufficientMemory(f"less than {in_bytes(GPU_BYTES)} of GPU memory is free")
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
            raise BuildFailed(f"it used {in_bytes(taken)} of memory")
        time.sleep(LOOK_S)


def _memory(pid: int) -> int:
    """Return the memory of a process and its children."""
    total = 0
    with suppress(psutil.NoSuchProcess):  # it may exit in the meantime
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            total += process.memory_info().rss
    return total


def _reason(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        return f"the process died of {name}; run 'wan-mcp doctor' to check whether the compiler is the cause"
    return f"the process ended with exit code {code}; see its output in the log"
