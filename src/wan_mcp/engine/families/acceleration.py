"""How a model's blocks run here: the kernels of its attention, and compiled packages as soon as they are there."""

import logging
from collections.abc import Sequence
from typing import Any

from wan_mcp.engine.aot.registry import BUILD_BYTES, PackageRegistry
from wan_mcp.engine.attention import attention_in_use, choose_attention
from wan_mcp.engine.device.device import Device
from wan_mcp.engine.device.kernel_checks import keep_checks_in
from wan_mcp.engine.transformer.block import BlockKind, run_block
from wan_mcp.engine.transformer.fast_blocks import FastBlocks
from wan_mcp.schema.enums import RequestedPrecision
from wan_mcp.schema.plans import EngineSettings
from wan_mcp.settings import Settings

__all__ = ["Acceleration"]

log = logging.getLogger(__name__)


class Acceleration:
    """What an engine's models share of it."""

    def __init__(self, settings: Settings, device: Device) -> None:
        self._settings = settings
        self._device = device
        self._packages = PackageRegistry(settings.home) if settings.compile else None
        keep_checks_in(settings.home / "cache" / "kernels" if device.is_cuda else None)
        self._chosen_for: tuple[int, bool, str] | None = None  # head_dim, whether in FP8, and the kernel asked for

    def build_bytes(self, denoisers: Sequence[FastBlocks]) -> int:
        """Return the memory of the device that builds of packages for these blocks may need from now on."""
        if self._packages is None or not self._device.is_cuda:
            return 0
        kinds = {kind for blocks in denoisers for kind in blocks.kinds}
        return BUILD_BYTES if self._packages.pending(kinds, self._device.torch) else 0

    def prepare(
        self,
        denoisers: Sequence[FastBlocks],
        precision: RequestedPrecision = "auto",
        asked: EngineSettings | None = None,
        *,
        builds: bool = True,
    ) -> None:
        """Let the blocks of denoisers run as well as they can now, and request the packages that they lack.

        Call it between two jobs.

        Args:
            denoisers: their blocks.
            precision: what was asked for.
            asked: settings of the job's caller, which take precedence over the engine's.
            builds: whether there is memory for a build during the job; without it, a running one is stopped.

        Raises:
            JobFailed: the settings ask for a kernel that does not work here.
        """
        if not denoisers:
            return
        asked = asked or EngineSettings()
        (width,) = {kind.shape.head_dim for blocks in denoisers for kind in blocks.kinds}
        wanted = width, precision != "full", asked.attention or self._settings.attention
        if self._chosen_for != wanted:
            choose_attention(self._device.torch, wanted[2], width, eight_bits=wanted[1])
            self._chosen_for = wanted
        if self._packages is None:
            return
        self._packages.hold(held=not builds)
        if asked.compile is False:
            for blocks in denoisers:
                blocks.run = run_block
            return
        for blocks in denoisers:
            blocks.run = self._packages.run(blocks.kinds, self._device.torch)
            for kind in blocks.kinds:
                if not self._packages.ready(kind, self._device.torch):
                    self._packages.request(kind, self._device.torch)

    def pause(self) -> bool:
        """Stop a build that is running, because a job is short of memory; return whether there was one."""
        return self._packages is not None and self._packages.hold(held=True)

    def resume(self) -> None:
        """Start a build that a job left no room for: the job has ended, and the device's memory is free."""
        if self._packages is not None:
            self._packages.hold(held=False)

    @property
    def waiting(self) -> bool:
        """Return whether a build waits until a job has ended."""
        return self._packages is not None and self._packages.waiting

    def describe(self, kinds: set[BlockKind]) -> dict[str, Any]:
        """Return what a receipt says of it: a result can differ in its last bits where this differs."""
        compiled = self._packages.compiled(kinds, self._device.torch) if self._packages else []
        if not kinds:  # blocks that are not ours attend as diffusers has it
            return {}
        return {"attention": attention_in_use(self._device.torch), **({"packages": compiled} if compiled else {})}

    def close(self) -> None:
        """End what is being built."""
        if self._packages is not None:
            self._packages.close()
