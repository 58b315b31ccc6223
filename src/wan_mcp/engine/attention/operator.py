"""The operator that blocks call, and the mode in which a step runs it.

To `torch.export` and AOTInductor the operator is one opaque node: a compiled package looks it up when it runs, so the
kernel behind it is chosen by the process that runs it, for its device, and a step may leave blocks out, with the same
package.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

from wan_mcp.engine.attention.block_sparse import BlockKernel, CudnnBlocks, TorchBlocks, attend_sparsely
from wan_mcp.engine.attention.chain import attention_of
from wan_mcp.engine.attention.routing import Grid

__all__ = ["Turbo", "attend", "attend_self", "attention_mode"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Turbo:
    """Self-attention that leaves out most blocks of keys after the first steps: quicker, and another video."""

    density: float = 0.3
    """The share of blocks that are kept, above 0, at most 1."""
    dense_steps: int = 1
    """How many steps look at everything first: they settle what the video shows."""

    def density_at(self, step: int) -> float:
        """The share of blocks that step `step`, from 0, looks at."""
        return 1.0 if step < self.dense_steps else self.density


@dataclass(frozen=True)
class _Mode:
    density: float = 1.0
    grid: Grid | None = None


_MODE: ContextVar[_Mode] = ContextVar("attention mode", default=_Mode())  # noqa: B039 - frozen


@contextmanager
def attention_mode(turbo: Turbo | None = None, step: int = 0, grid: Grid | None = None) -> Iterator[None]:
    """Run a denoising step's self-attention densely or, by `turbo`, sparsely, in this thread.

    Args:
        turbo: None for dense.
        step: the number of the step, from 0.
        grid: latent frames, rows and columns of the tokens (after patches) that blocks of keys are boxes of.
    """
    token = _MODE.set(_Mode(1.0 if turbo is None else turbo.density_at(step), grid))
    try:
        yield
    finally:
        _MODE.reset(token)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention without a mask, scaled by 1 / sqrt(head width), by the kernels chosen for the device.

    Args:
        query: (batch, tokens, heads, head width), bf16 or float32, channels contiguous, any other strides.
        key: likewise, of as many tokens or others.
        value: of the key's shape.

    Returns:
        The query's shape and dtype, contiguous.
    """
    return attention_of(query.device)(query, key, value)


@torch.library.custom_op("wan_mcp::attend_self", mutates_args=())  # type: ignore[untyped-decorator]
def attend_self(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of tokens over themselves: `attend` where all three have one shape, sparse where the mode says so."""
    mode = _MODE.get()
    if mode.density < 1:
        kernel = _block_kernel(query)
        if kernel is not None:
            return attend_sparsely(kernel, query, key, value, mode.density, mode.grid)
    return attend(query, key, value)


@attend_self.register_fake  # type: ignore[untyped-decorator]
def _(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return torch.empty(query.shape, dtype=query.dtype, device=query.device)


_BLOCK_KERNELS: dict[torch.device, BlockKernel | None] = {}


def _block_kernel(query: Tensor) -> BlockKernel | None:
    device = query.device
    if device not in _BLOCK_KERNELS:
        try:
            _BLOCK_KERNELS[device] = CudnnBlocks(device) if device.type == "cuda" else TorchBlocks()
        except ImportError as error:
            log.warning("turbo has no kernel here and changes nothing: %s; install wan-mcp[hopper]", error)
            _BLOCK_KERNELS[device] = None
    return _BLOCK_KERNELS[device]
