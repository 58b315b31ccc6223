"""The custom op for self-attention that blocks call, and the mode in which a step runs it.

To `torch.export` and AOTInductor the op is one opaque node. A compiled package looks it up at run time, so the process
that runs the package chooses the kernel for its device, and a step may run sparse attention with the same package.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor

from wan_mcp.engine.attention.block_router import Grid
from wan_mcp.engine.attention.fused_qkv import QKVProjection
from wan_mcp.engine.attention.selector import attention_of, sparse_attention_of
from wan_mcp.engine.parallel.context_parallel import current_context

__all__ = ["AttentionMode", "SparseCount", "Turbo", "attend", "attend_self", "attention_mode", "fused_attention"]


@dataclass(frozen=True)
class Turbo:
    """Self-attention that skips most key blocks after the first steps: faster, but the video changes."""

    density: float = 0.3
    """Share of key blocks that are kept, above 0, at most 1."""
    dense_steps: int = 1
    """Number of dense steps at the start: they determine the content of the video."""

    def density_at(self, step: int) -> float:
        """Return the share of key blocks that step `step`, from 0, attends to."""
        return 1.0 if step < self.dense_steps else self.density


@dataclass
class SparseCount:
    """The self-attentions that turbo should have made sparse."""

    sparse: int = 0
    dense: int = 0
    """Those that attended to everything all the same: no kernel, too few tokens, or a failed kernel."""


@dataclass
class AttentionMode:
    """The current mode of self-attention; the denoising loop advances `step`."""

    turbo: Turbo | None = None
    """None for dense."""
    step: int = 0
    """The number of the denoising step, from 0."""
    grid: Grid | None = None
    """Latent frames, rows and columns of the tokens (after patches), of which blocks of keys are boxes."""
    count: SparseCount = field(default_factory=SparseCount)

    @property
    def density(self) -> float:
        """Return the share of key blocks that this step attends to."""
        return 1.0 if self.turbo is None else self.turbo.density_at(self.step)


_MODE: ContextVar[AttentionMode | None] = ContextVar("attention mode", default=None)


@contextmanager
def attention_mode(
    turbo: Turbo | None = None, step: int = 0, grid: Grid | None = None, count: SparseCount | None = None
) -> Iterator[AttentionMode]:
    """Run self-attention densely or, by `turbo`, sparsely, in this thread; see `AttentionMode`.

    One step at a time, `with attention_mode(turbo, step): …`, or around all of them:

        with attention_mode(turbo, grid=(21, 30, 52)) as mode:
            …                    # and at the end of each step
            mode.step += 1
    """
    mode = AttentionMode(turbo, step, grid, SparseCount() if count is None else count)
    token = _MODE.set(mode)
    try:
        yield mode
    finally:
        _MODE.reset(token)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute softmax attention without a mask, scaled by 1 / sqrt(head_dim), with the device's kernels.

    Args:
        query: (batch, tokens, heads, head_dim), bf16 or float32, channels contiguous, any other strides.
        key: likewise, with any number of tokens.
        value: of the key's shape.

    Returns:
        The query's shape and dtype, contiguous.
    """
    return attention_of(query.device)(query, key, value)


@torch.library.custom_op("wan_mcp::attend_self", mutates_args=())
def attend_self(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute self-attention of equally shaped tensors: `attend`, or sparse attention if the mode is sparse.

    If ranks share the forward, each passes its tokens, and attends with its heads.
    """
    context = current_context()
    if context is None:
        return _attend_self(query, key, value)
    exchanges = [context.to_heads(x) for x in (query, key, value)]
    return context.to_tokens(_attend_self(*(exchange.finish()[None] for exchange in exchanges)))


def _attend_self(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    mode = _sparse_mode()
    if mode is None:
        return attend(query, key, value)
    sparse = sparse_attention_of(query.device, query.shape[-1])
    out = sparse(query, key, value, mode.density, mode.grid) if sparse is not None else None
    if out is None:
        mode.count.dense += 1
        return attend(query, key, value)
    mode.count.sparse += 1
    return out


@attend_self.register_fake
def _(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return torch.empty(query.shape, dtype=query.dtype, device=query.device)


def fused_attention(projection: QKVProjection) -> tuple[Tensor, Tensor] | None:
    """Compute fused dense self-attention, see `Attention.fused`; return None if the kernel or mode is another."""
    context, mode = current_context(), _sparse_mode()
    query = projection.part(0) if context is None else context.of_my_heads(projection.part(0))
    if mode is not None:
        sparse = sparse_attention_of(query.device, query.shape[-1])
        if sparse is not None and sparse.supports(query, mode.density):
            return None
    out = attention_of(query.device).fused(projection, context)
    if out is not None and mode is not None:
        mode.count.dense += 1
    return out


def _sparse_mode() -> AttentionMode | None:
    """Return the mode if this step is to attend sparsely."""
    mode = _MODE.get()
    return None if mode is None or mode.density >= 1 else mode
