"""The packages of an engine: loaded where there is one, built beside the running job where there is none.

Nobody waits for a compiler: until a package is there, built and proved, blocks run eagerly.
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
    """What the engine asks for compiled blocks. Not for several threads at once."""

    def __init__(self, home: Path) -> None:
        """`home` is `WAN_MCP_HOME`; packages lie in its folder `packages`."""
        self._home = home
        self._store = PackageStore(home / "packages")
        self._loaded: dict[str, PackageRunner | None] = {}
        self._asked: set[str] = set()
        self._waiting: list[tuple[str, str]] = []
        self._building = ""
        self._build: subprocess.Popen[bytes] | None = None

    def ready(self, kind: BlockKind, device: Any) -> bool:
        """Whether there is a package, loaded or not."""
        name = cache_key_of(kind, device).hash
        return self._loaded.get(name) is not None or (name not in self._loaded and self._store.has(name))

    def runner(self, kind: BlockKind, device: Any) -> RunBlock | None:
        """The package as a function, or None where there is none that may be loaded."""
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
                raise InvalidPackage("its inputs are not those of the block")
            try:
                call = load_package(self._store.package(name), device, name)
            except RuntimeError as error:
                raise InvalidPackage(f"it cannot be loaded: {error}") from error
        except InvalidPackage as error:
            self._set_aside(name, str(error))
            return None
        log.info("blocks %d wide, %s, run compiled: package %s", kind.shape.width, kind.recipe, name)
        runner = PackageRunner(kind, device, call, metadata, lambda why: self._set_aside(name, why))
        self._loaded[name] = runner
        return runner

    def run(self, kinds: Collection[BlockKind], device: Any) -> RunBlock:
        """What `FastBlocks.run` is to be: compiled for the kinds that have a package, eager for the others."""
        runners = {kind: runner for kind in kinds if (runner := self.runner(kind, device)) is not None}
        if not runners:
            return run_block
        if len(runners) == 1 and len(kinds) == 1:
            return next(iter(runners.values()))

        def dispatch(kind: BlockKind, *inputs: Any) -> Tensor:
            return runners.get(kind, run_block)(kind, *inputs)

        return dispatch

    def compiled(self, kinds: Collection[BlockKind], device: Any) -> list[str]:
        """The hashes of the packages that blocks of these kinds run in now, sorted; for receipts."""
        names = {cache_key_of(kind, device).hash for kind in kinds}
        return sorted(name for name in names if (runner := self._loaded.get(name)) is not None and runner.works)

    def request(self, kind: BlockKind, device: Any) -> None:
        """Have the package built beside this process, unless it is there or was tried before. Returns at once.

        One for which the GPU had no room is tried again.
        """
        name = cache_key_of(kind, device).hash
        if name not in self._asked and not self._store.has(name):
            self._asked.add(name)
            self._loaded.pop(name, None)  # one that was set aside is forgotten for the new one
            wanted = {"kind": kind_to_dict(kind), "device": str(device), "name": name}
            self._waiting.append((name, json.dumps(wanted)))
        self._tend()

    @property
    def building(self) -> bool:
        """Whether a package is being built for this engine."""
        self._tend()
        return self._build is not None

    def close(self) -> None:
        """End the build and let go of all packages."""
        self._waiting = []
        if self._build is not None:
            child_process.end(self._build)
            self._build = None
        self._loaded = {}

    def _tend(self) -> None:
        """Start the next build when the last has ended."""
        if self._build is not None:
            if (code := self._build.poll()) is None:
                return
            log.info("the build of a package ended with exit code %d", code)
            if code == EXIT_NO_MEMORY:
                self._asked.discard(self._building)  # the next job asks again
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
