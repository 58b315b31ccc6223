"""A loaded package as a function with `run_block`'s arguments, including the input checks that the package lacks.

Inputs that do not fit run eagerly instead: slower, but with a correct result or a proper error.
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
"""Alignment in bytes: the width of the kernels' vector loads."""
Activations = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
"""The number of inputs in `ACTIVATIONS`."""


def mismatch(expected: Input, tensor: Tensor, device: Any, sizes: dict[str, int]) -> str | None:
    """Return what is wrong with one input, or None. Named dimensions are looked up in `sizes`, or added to it."""
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
        if size != 1 and stride != _evaluated(wanted, sizes):  # the stride of a dimension of size one is irrelevant
            return f"the strides of {expected.name} are {tensor.stride()}, not {expected.strides}"
    return None


def is_recorded(device: Any) -> bool:
    """Check whether a CUDA graph is being captured."""
    return device.type == "cuda" and bool(torch.cuda.is_current_stream_capturing())


def _evaluated(product: int | str, sizes: dict[str, int]) -> int:
    if isinstance(product, int):
        return product
    total = 1
    for part in product.split("*"):
        total *= sizes[part] if part in sizes else int(part)
    return total


class PackageRunner:
    """Runs the blocks of one kind with a package."""

    def __init__(
        self, kind: BlockKind, device: Any, call: Call, metadata: PackageMetadata, broken: Callable[[str], None]
    ) -> None:
        """Wrap a loaded package; `broken` is called once, with the reason, if it fails and eager code does not."""
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
        """Return true unless the package has failed."""
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
        """Run the block eagerly after an error of the package. If it succeeds, the package was at fault.

        If memory is short, this raises an error for `MemoryGuard`. During a CUDA graph capture the error is raised
        again: a capture runs out of memory sooner, and fails for reasons that do not apply to a normal call.
        """
        out = run_block(self.kind, *inputs, weights)
        if is_recorded(self._device):
            raise error
        self._call = None
        self._broken(f"it failed: {first_line(error)}")
        return out

    def _misfit(self, inputs: Activations) -> str | None:
        """Return what is wrong with the inputs of this call, or None."""
        sizes: dict[str, int] = {}
        for expected, tensor in zip(self._activations, inputs, strict=True):
            if why := mismatch(expected, tensor, self._device, sizes):
                return why
        for name, (least, most) in self._bounds.items():
            if not least <= sizes[name] <= most:
                return f"{sizes[name]} {name} are outside the range {least} to {most}"
        return None

    def _unbound(self, weights: list[Tensor]) -> str | None:
        """Return what is wrong with the weights, or None; weights that passed before are recognized by identity."""
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
            if tensor.is_cuda and tensor.data_ptr() % ALIGNED:  # the package would copy it at every call
                return f"{expected.name} does not begin at a multiple of {ALIGNED} bytes"
        bound = self._bound
        for place, tensor in enumerate(weights):
            forget = partial(bound.pop, id(tensor))  # called with the dead reference, which is `pop`'s default value
            bound[id(tensor)] = (place, weakref.ref(tensor, forget))
        return None

    def _tell(self, why: str | None) -> None:
        if why is not None and why not in self._told and len(self._told) < REASONS_TOLD:
            self._told.add(why)
            log.warning("a block runs eagerly because its package does not fit: %s", why)
