"""The packages of an engine: existing ones are loaded, missing ones are built in the background.

No job waits for a compiler: until a package is built and verified, blocks run eagerly.
"""

import json
import logging
import subprocess
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from wan_mcp.engine.aot import child_process
from wan_mcp.engine.aot.builder import CONTEXT_BYTES, EXIT_NO_MEMORY, GPU_BYTES, environment
from wan_mcp.engine.aot.cache_key import cache_key_of, kind_to_dict
from wan_mcp.engine.aot.loader import load_package
from wan_mcp.engine.aot.package_runner import PackageRunner
from wan_mcp.engine.aot.signature import expected_inputs
from wan_mcp.engine.aot.store import InvalidPackage, PackageStore
from wan_mcp.engine.device.memory import free_gpu_bytes
from wan_mcp.engine.transformer.block import BlockKind, run_block
from wan_mcp.engine.transformer.fast_blocks import RunBlock
from wan_mcp.text import in_bytes

__all__ = ["BUILD_BYTES", "PackageRegistry"]

log = logging.getLogger(__name__)

BUILD = "wan_mcp.engine.aot.build_main"
BUILD_BYTES = CONTEXT_BYTES + GPU_BYTES
"""GPU memory that a build may need while a job runs."""
MAX_STARTS = 3
"""Builds of one package that an engine starts before it gives up, if each is stopped or finds too little memory."""


@dataclass(frozen=True)
class _Wanted:
    """A package to be built."""

    name: str
    request: str
    """For `build_main`, as JSON."""
    device: Any


class PackageRegistry:
    """The engine's source of compiled blocks. Not thread-safe."""

    def __init__(self, home: Path, free_bytes: Callable[[Any], int | None] = free_gpu_bytes) -> None:
        """Use the folder `packages` of `home`, which is `WAN_MCP_HOME`.

        `free_bytes` returns the memory of a device that a build could use; None if it has its own.
        """
        self._home = home
        self._free_bytes = free_bytes
        self._store = PackageStore(home / "packages")
        self._loaded: dict[str, PackageRunner | None] = {}
        self._asked: set[str] = set()
        """Packages that wait for their build, are being built, or were built or given up."""
        self._starts: dict[str, int] = {}
        self._waiting: list[_Wanted] = []
        self._held = False
        self._building: _Wanted | None = None
        self._build: subprocess.Popen[bytes] | None = None

    def ready(self, kind: BlockKind, device: Any) -> bool:
        """Check whether there is a package, loaded or not."""
        name = cache_key_of(kind, device).hash
        return self._loaded.get(name) is not None or (name not in self._loaded and self._store.has(name))

    def runner(self, kind: BlockKind, device: Any) -> RunBlock | None:
        """Return the package as a function, or None if there is no valid one."""
        identity = cache_key_of(kind, device)
        name = identity.hash
        if name in self._loaded:
            return self._loaded[name]
        if not self._store.has(name):
            return None
        try:
            metadata = self._store.checked(name, identity.facts)
            if metadata is None:
                return None
            if metadata.inputs != expected_inputs(kind):
                raise InvalidPackage("its inputs do not match the block")
            try:
                call = load_package(self._store.package(name), device, name)
            except RuntimeError as error:
                raise InvalidPackage(f"it cannot be loaded: {error}") from error
        except InvalidPackage as error:
            self._set_aside(name, str(error))
            return None
        log.info("blocks of width %d, %s, run compiled: package %s", kind.shape.width, kind.scheme, name)
        runner = PackageRunner(kind, device, call, metadata, lambda why: self._set_aside(name, why))
        self._loaded[name] = runner
        return runner

    def run(self, kinds: Collection[BlockKind], device: Any) -> RunBlock:
        """Return the function for `FastBlocks.run`: compiled for kinds with a package, eager for the others."""
        runners = {kind: runner for kind in kinds if (runner := self.runner(kind, device)) is not None}
        if not runners:
            return run_block
        if len(runners) == 1 and len(kinds) == 1:
            return next(iter(runners.values()))

        def dispatch(kind: BlockKind, *inputs: Any) -> Tensor:
            return runners.get(kind, run_block)(kind, *inputs)

        return dispatch

    def compiled(self, kinds: Collection[BlockKind], device: Any) -> list[str]:
        """Return the sorted hashes of the packages in use for blocks of these kinds, for receipts."""
        names = {cache_key_of(kind, device).hash for kind in kinds}
        return sorted(name for name in names if (runner := self._loaded.get(name)) is not None and runner.works)

    def pending(self, kinds: Collection[BlockKind], device: Any) -> bool:
        """Check whether a package for these blocks is being built, or could be."""
        self._tend()
        names = {cache_key_of(kind, device).hash for kind in kinds if not self.ready(kind, device)}
        at_work = {each.name for each in (self._building, *self._waiting) if each is not None}
        return bool(names & at_work or names - self._asked)

    def request(self, kind: BlockKind, device: Any) -> None:
        """Have the package built in the background, unless it exists or was tried before. Returns immediately.

        The build starts with the next call of `hold`, between two jobs: during a job, it would slow the first one.
        A build that was stopped, or lacked GPU memory, is tried again, `MAX_STARTS` times in all. Until a GPU has
        `BUILD_BYTES` free, none is started.
        """
        name = cache_key_of(kind, device).hash
        if name not in self._asked and not self._store.has(name):
            self._asked.add(name)
            self._loaded.pop(name, None)  # a runner whose package was set aside is dropped for the new one
            wanted = {"kind": kind_to_dict(kind), "device": str(device), "name": name}
            self._waiting.append(_Wanted(name, json.dumps(wanted), device))

    def hold(self, *, held: bool) -> bool:
        """Stop the current build and start none, or continue; return whether a build was stopped."""
        self._held = held
        self._tend()
        if not held or (stopped := self._stop()) is None:
            return False
        log.info("the build of package %s is stopped: a job needs its memory", stopped.name)
        if self._may_start_again(stopped):
            self._waiting.insert(0, stopped)
        return True

    @property
    def waiting(self) -> bool:
        """Check whether a package waits to be built, and none is being built."""
        return bool(self._waiting) and not self.building

    @property
    def building(self) -> bool:
        """Check whether a package is being built for this engine."""
        self._tend()
        return self._build is not None

    def close(self) -> None:
        """Stop the build and release all packages."""
        self._waiting = []
        self._stop()
        self._loaded = {}

    def _tend(self) -> None:
        """Start the next build if the previous one has ended, and there is memory for it."""
        if self._build is not None:
            if (code := self._build.poll()) is None:
                return
            log.info("the build of a package ended with exit code %d", code)
            ended = self._stop()
            if code == EXIT_NO_MEMORY and ended is not None and self._may_start_again(ended):
                self._asked.discard(ended.name)  # the next job requests it again
        if self._held or not self._waiting or not self._has_room(self._waiting[0].device):
            return
        self._building = wanted = self._waiting.pop(0)
        self._starts[wanted.name] = self._starts.get(wanted.name, 0) + 1
        arguments = ["-m", BUILD, str(self._home), wanted.request]
        self._build = child_process.start(arguments, environment(self._home), output=subprocess.DEVNULL, errors=None)

    def _stop(self) -> _Wanted | None:
        """End the build process; return what it was building, None if there was none."""
        build, wanted, self._build, self._building = self._build, self._building, None, None
        if build is not None:
            child_process.end(build)
        return wanted

    def _may_start_again(self, wanted: _Wanted) -> bool:
        if self._starts[wanted.name] < MAX_STARTS:
            return True
        log.warning("package %s is given up until the next engine: no build of it had enough memory", wanted.name)
        return False

    def _has_room(self, device: Any) -> bool:
        free = self._free_bytes(device)
        if free is None or free >= BUILD_BYTES:
            return True
        log.info("no build is started: %s of GPU memory are free, %s are needed", in_bytes(free), in_bytes(BUILD_BYTES))
        return False

    def _set_aside(self, name: str, reason: str) -> None:
        self._loaded[name] = None
        self._store.set_aside(name, reason)
