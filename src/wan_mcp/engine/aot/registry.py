"""The packages of an engine: existing ones are loaded, missing ones are built in the background.

No job waits for a compiler: until a package is built and verified, blocks run eagerly.
"""

import json
import logging
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any

from torch import Tensor

from wan_mcp.engine.aot import child_process
from wan_mcp.engine.aot.builder import EXIT_NO_MEMORY, environment
from wan_mcp.engine.aot.cache_key import cache_key_of, kind_to_dict
from wan_mcp.engine.aot.loader import load_package
from wan_mcp.engine.aot.package_runner import PackageRunner
from wan_mcp.engine.aot.signature import expected_inputs
from wan_mcp.engine.aot.store import InvalidPackage, PackageStore
from wan_mcp.engine.transformer.block import BlockKind, run_block
from wan_mcp.engine.transformer.fast_blocks import RunBlock

__all__ = ["PackageRegistry"]

log = logging.getLogger(__name__)

BUILD = "wan_mcp.engine.aot.build_main"


class PackageRegistry:
    """The engine's source of compiled blocks. Not thread-safe."""

    def __init__(self, home: Path) -> None:
        """Use the folder `packages` of `home`, which is `WAN_MCP_HOME`."""
        self._home = home
        self._store = PackageStore(home / "packages")
        self._loaded: dict[str, PackageRunner | None] = {}
        self._asked: set[str] = set()
        self._waiting: list[tuple[str, str]] = []
        self._building = ""
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
        log.info("blocks of width %d, %s, run compiled: package %s", kind.shape.width, kind.recipe, name)
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

    def request(self, kind: BlockKind, device: Any) -> None:
        """Build the package in the background, unless it exists or was tried before. Returns immediately.

        A build that lacked GPU memory is retried.
        """
        name = cache_key_of(kind, device).hash
        if name not in self._asked and not self._store.has(name):
            self._asked.add(name)
            self._loaded.pop(name, None)  # a runner whose package was set aside is dropped for the new one
            wanted = {"kind": kind_to_dict(kind), "device": str(device), "name": name}
            self._waiting.append((name, json.dumps(wanted)))
        self._tend()

    @property
    def building(self) -> bool:
        """Check whether a package is being built for this engine."""
        self._tend()
        return self._build is not None

    def close(self) -> None:
        """Stop the build and release all packages."""
        self._waiting = []
        if self._build is not None:
            child_process.end(self._build)
            self._build = None
        self._loaded = {}

    def _tend(self) -> None:
        """Start the next build if the previous one has ended."""
        if self._build is not None:
            if (code := self._build.poll()) is None:
                return
            log.info("the build of a package ended with exit code %d", code)
            if code == EXIT_NO_MEMORY:
                self._asked.discard(self._building)  # the next job requests it again
            child_process.end(self._build)
            self._build = None
        if self._waiting:
            self._building, wanted = self._waiting.pop(0)
            arguments = ["-m", BUILD, str(self._home), wanted]
            self._build = child_process.start(
                arguments, environment(self._home), output=subprocess.DEVNULL, errors=None
            )

    def _set_aside(self, name: str, reason: str) -> None:
        self._loaded[name] = None
        self._store.set_aside(name, reason)
