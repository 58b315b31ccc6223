"""A loaded package as a function with `run_block`'s arguments, which checks what the package does not.

Whatever does not fit runs eagerly instead: slower, and either right or a proper error.
"""

import logging
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from wan_mcp.engine.aot.loader import Call
from wan_mcp.engine.aot.metadata import Input, PackageMetadata
from wan_mcp.engine.aot.signature import ACTIVATIONS
from wan_mcp.engine.transformer.block import BlockKind, run_block
from wan_mcp.text import first_line

__all__ = ["PackageRunner", "mismatch"]

log = logging.getLogger(__name__)

REASONS_TOLD = 20
ALIGNED = 16
"""Bytes that kernels read at once."""
Activations = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
"""The inputs of `ACTIVATIONS`."""


def mismatch(expected: Input, tensor: Tensor, device: Any, sizes: dict[str, int]) -> str | None:
    """What is wrong with one input, or None. Named dimensions are looked up in `sizes`, or noted there."""
    if tensor.device != device:
        return f"{expected.name} is on {tensor.device}, not {device}"
    if str(tensor.dtype) != f"torch.{expected.dtype}":
        return f"{expected.name} is {tensor.dtype}, not {expected.dtype}"
    if tensor.dim() != len(expected.shape):
        return f"{expected.name} has {tensor.dim()} dimensions, not {len(expected.shape)}"
    for size, wanted in zip(tensor.shape, expected.shape, strict=True):
        known = sizes.setdefault(wanted, size) if isinstance(wanted, str) else wanted
        if size != known:
            return f"{expected.name} is {tuple(tensor.shape)}, not {expected.shape} with {sizes}"
    for size, stride, wanted in zip(tensor.shape, tensor.stride(), expected.strides, strict=True):
        if size != 1 and stride != _evaluated(wanted, sizes):  # of a single line the stride says nothing
            return f"the strides of {expected.name} are {tensor.stride()}, not {expected.strides}"
    return None


def is_recorded(device: Any) -> bool:
    """Whether what is asked of the device now goes into a CUDA graph."""
    return device.type == "cuda" and bool(torch.cuda.is_current_stream_capturing())


def _evaluated(product: int | str, sizes: dict[str, int]) -> int:
    if isinstance(product, int):
        return product
    total = 1
    for part in product.split("*"):
        total *= sizes[part] if part in sizes else int(part)
    return total


class PackageRunner:
    """Runs blocks of one kind."""

    def __init__(
        self, kind: BlockKind, device: Any, call: Call, metadata: PackageMetadata, broken: Callable[[str], None]
    ) -> None:
        """`broken` is told why, once, when the package failed where eager code did not."""
        self.kind = kind
        self._device = device
        self._call: Call | None = call
        self._bounds = metadata.dynamic
        self._activations = metadata.inputs[: len(ACTIVATIONS)]
        self._weights = metadata.inputs[len(ACTIVATIONS) :]
        self._broken = broken
        self._bound: dict[int, tuple[int, weakref.ref[Tensor]]] = {}
        self._told: set[str] = set()

    @property
    def works(self) -> bool:
        """Whether the package has not failed so far."""
        return self._call is not None

    def __call__(
        self,
        kind: BlockKind,
        hidden: Tensor,
        text_key: Tensor,
        text_value: Tensor,
        padding: Tensor,
        times: Tensor,
        cos: Tensor,
        sin: Tensor,
        weights: list[Tensor],
    ) -> Tensor:
        """See `run_block`."""
        inputs = (hidden, text_key, text_value, padding, times, cos, sin)
        why = "it is of another kind" if kind != self.kind else self._misfit(inputs) or self._unbound(weights)
        if self._call is None or why is not None:
            self._tell(why)
            return run_block(kind, *inputs, weights)
        try:
            return self._call([*inputs, *weights])[0]
        except RuntimeError as error:
            return self._eagerly_after(error, inputs, weights)

    def _eagerly_after(self, error: RuntimeError, inputs: Activations, weights: list[Tensor]) -> Tensor:
        """Where memory is short this raises what `MemoryGuard` knows; else the package is at fault.

        Not while it is recorded: memory for that is short sooner, and what ends there need not end elsewhere.
        """
        made = run_block(self.kind, *inputs, weights)
        if is_recorded(self._device):
            raise error
        self._call = None
        self._broken(f"it failed: {first_line(error)}")
        return made

    def _misfit(self, inputs: Activations) -> str | None:
        """What is wrong with the inputs of this call."""
        sizes: dict[str, int] = {}
        for expected, tensor in zip(self._activations, inputs, strict=True):
            if why := mismatch(expected, tensor, self._device, sizes):
                return why
        for name, (least, most) in self._bounds.items():
            if not least <= sizes[name] <= most:
                return f"{sizes[name]} {name} are outside {least} to {most}"
        return None

    def _unbound(self, weights: list[Tensor]) -> str | None:
        """What is wrong with the weights; those that were looked at before are known by their identity."""
        bound = self._bound
        for place, tensor in enumerate(weights):
            known = bound.get(id(tensor))
            if known is None or known[0] != place or known[1]() is not tensor:
                return self._bind(weights)
        return None if len(weights) == len(self._weights) else self._bind(weights)

    def _bind(self, weights: list[Tensor]) -> str | None:
        if len(weights) != len(self._weights):
            return f"there are {len(weights)} weights, not {len(self._weights)}"
        for expected, tensor in zip(self._weights, weights, strict=True):
            if why := mismatch(expected, tensor, self._device, {}):
                return why
            if tensor.is_cuda and tensor.data_ptr() % ALIGNED:  # a package would copy it at every call
                return f"{expected.name} does not begin at a multiple of {ALIGNED} bytes"
        bound = self._bound
        for place, tensor in enumerate(weights):
            forget = partial(bound.pop, id(tensor))  # called with the dead reference, which is what it then gives
            bound[id(tensor)] = (place, weakref.ref(tensor, forget))
        return None

    def _tell(self, why: str | None) -> None:
        if why is not None and why not in self._told and len(self._told) < REASONS_TOLD:
            self._told.add(why)
            log.warning("a block runs eagerly, since it does not fit its package: %s", why)
