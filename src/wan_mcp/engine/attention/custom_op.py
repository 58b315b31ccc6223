"""The operator that blocks call, and the mode in which a step runs it.

To `torch.export` and AOTInductor the operator is one opaque node: a compiled package looks it up when it runs, so the
kernel behind it is chosen by the process that runs it, for its device, and a step may leave blocks out, with the same
package.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from wan_mcp.engine.attention.block_router import Grid
from wan_mcp.engine.attention.fused_qkv import QKVProjection
from wan_mcp.engine.attention.selector import attention_of, sparse_attention_of

__all__ = ["AttentionMode", "Turbo", "attend", "attend_self", "attention_mode", "fused_attention"]


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


@dataclass
class AttentionMode:
    """How self-attention runs at the moment; whoever drives the steps moves `step` on."""

    turbo: Turbo | None = None
    """None for dense."""
    step: int = 0
    """The number of the denoising step, from 0."""
    grid: Grid | None = None
    """Latent frames, rows and columns of the tokens (after patches), of which blocks of keys are boxes."""

    @property
    def density(self) -> float:
        """The share of blocks that this step looks at."""
        return 1.0 if self.turbo is None else self.turbo.density_at(self.step)


_MODE: ContextVar[AttentionMode | None] = ContextVar("attention mode", default=None)


@contextmanager
def attention_mode(turbo: Turbo | None = None, step: int = 0, grid: Grid | None = None) -> Iterator[AttentionMode]:
    """Run self-attention densely or, by `turbo`, sparsely, in this thread; see `AttentionMode`.

    One step at a time, `with attention_mode(turbo, step): …`, or around all of them:

        with attention_mode(turbo, grid=(21, 30, 52)) as mode:
            …                    # and at the end of each step
            mode.step += 1
    """
    mode = AttentionMode(turbo, step, grid)
    token = _MODE.set(mode)
    try:
        yield mode
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
    sparse = _sparse_now(query)
    return attend(query, key, value) if sparse is None else sparse(query, key, value)


@attend_self.register_fake  # type: ignore[untyped-decorator]
def _(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return torch.empty(query.shape, dtype=query.dtype, device=query.device)


def fused_attention(joined: QKVProjection) -> tuple[Tensor, Tensor] | None:
    """Dense self-attention, see `Attention.joined`; None where it, or the mode, does not go that way."""
    query = joined.part(0)
    return attention_of(query.device).joined(joined) if _sparse_now(query) is None else None


def _sparse_now(query: Tensor) -> Callable[[Tensor, Tensor, Tensor], Tensor] | None:
    """What leaves out blocks for these queries in this step, if anything does."""
    mode = _MODE.get()
    if mode is None or mode.density >= 1:
        return None
    sparse = sparse_attention_of(query.device, query.shape[-1])
    if sparse is None or not sparse.supports(query):
        return None
    return partial(sparse, density=mode.density, grid=mode.grid)
