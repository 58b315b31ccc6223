"""How a model's blocks run here: the kernels of its attention, and compiled packages as soon as they are there."""

import logging
from collections.abc import Sequence
from typing import Any

from wan_mcp.engine.aot.registry import PackageRegistry
from wan_mcp.engine.attention import attention_in_use, choose_attention
from wan_mcp.engine.device.device import Device
from wan_mcp.engine.transformer.block import BlockKind
from wan_mcp.engine.transformer.fast_blocks import FastBlocks
from wan_mcp.schema.enums import RequestedPrecision
from wan_mcp.settings import Settings

__all__ = ["Acceleration"]

log = logging.getLogger(__name__)


class Acceleration:
    """What an engine's models share of it."""

    def __init__(self, settings: Settings, device: Device) -> None:
        self._settings = settings
        self._device = device
        self._packages = PackageRegistry(settings.home) if settings.compile else None
        self._chosen_for: tuple[int, bool] | None = None  # the width of a head, and whether in FP8

    def prepare(self, denoisers: Sequence[FastBlocks], precision: RequestedPrecision = "auto") -> None:
        """Let the blocks of denoisers run as well as they can now, and request the packages that they lack.

        Call it between two jobs. `precision` is what was asked for.

        Raises:
            JobFailed: the settings ask for a kernel that does not work here.
        """
        if not denoisers:
            return
        (width,) = {kind.shape.head_dim for blocks in denoisers for kind in blocks.kinds}
        wanted = width, precision != "full"
        if self._chosen_for != wanted:
            choose_attention(self._device.torch, self._settings.attention, width, eight_bits=wanted[1])
            self._chosen_for = wanted
        if self._packages is None:
            return
        for blocks in denoisers:
            blocks.run = self._packages.run(blocks.kinds, self._device.torch)
            for kind in blocks.kinds:
                if not self._packages.ready(kind, self._device.torch):
                    self._packages.request(kind, self._device.torch)

    def describe(self, kinds: set[BlockKind]) -> dict[str, Any]:
        """What a receipt says of it: a result can differ in its last bits where this differs."""
        compiled = self._packages.compiled(kinds, self._device.torch) if self._packages else []
        if not kinds:  # blocks that are not ours attend as diffusers has it
            return {}
        return {"attention": attention_in_use(self._device.torch), **({"packages": compiled} if compiled else {})}

    def close(self) -> None:
        """End what is being built."""
        if self._packages is not None:
            self._packages.close()
