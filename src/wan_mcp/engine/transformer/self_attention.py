"""A block's FP8 self-attention on CUDA as one custom op, from the QKV projection to the output projection's input.

Like `wan_mcp::attend_self` it is one opaque node to `torch.export`. The process that runs a package selects the kernel,
and whether it reads the QKV projection itself or gets queries and keys from a separate pass.
"""

import torch
from torch import Tensor

from wan_mcp.engine.attention import QKVProjection, attend_self, fused_attention
from wan_mcp.engine.ops.fp8_linear import FP8, QuantScheme
from wan_mcp.engine.ops.modulate import NO_CHUNK, fused_ops_for

__all__ = ["fused_self_attention", "uses_fused_attention"]


def uses_fused_attention(scheme: QuantScheme, device: torch.device) -> bool:
    """Check whether blocks call `fused_self_attention`; elsewhere compilers fuse its steps better with the others."""
    return scheme == FP8 and device.type == "cuda"


@torch.library.custom_op("wan_mcp::fused_self_attention", mutates_args=())
def fused_self_attention(
    qkv: Tensor, query_norm: Tensor, key_norm: Tensor, cos: Tensor, sin: Tensor, heads: int, eps: float
) -> tuple[Tensor, Tensor]:
    """Attend from all tokens to all, with RMS norm and RoPE before attention and quantization to FP8 after it.

    Args:
        qkv: (1, tokens, 3 * width): query, key and value.
        query_norm: (width), weights of the RMS norm over all heads.
        key_norm: likewise.
        cos: (tokens, head_dim / 2) float32, see `modulate.apply_rotary_emb`.
        sin: likewise.
        heads: the number of heads.
        eps: the norms' epsilon.

    Returns:
        (tokens, width) e4m3 and scales (tokens, 1) float32, as `modulate_quantize` returns them.
    """
    qkv = qkv if qkv.stride(-1) == 1 else qkv.contiguous()
    projection = QKVProjection(qkv, query_norm, key_norm, cos, sin, heads, eps)
    out = fused_attention(projection)
    if out is not None:
        return out
    steps = fused_ops_for(qkv.device)
    attended = attend_self(*projection.to_qkv(steps)).flatten(-2)
    # Without modulation, these two tensors are not read.
    return steps.modulate_quantize(attended, cos, cos, eps, NO_CHUNK, normalize=False, gelu=False, fp8=True)


@fused_self_attention.register_fake
def _(
    qkv: Tensor, query_norm: Tensor, key_norm: Tensor, cos: Tensor, sin: Tensor, heads: int, eps: float
) -> tuple[Tensor, Tensor]:
    tokens, width = qkv.shape[1], qkv.shape[2] // 3
    out = torch.empty((tokens, width), dtype=torch.float8_e4m3fn, device=qkv.device)
    return out, torch.empty((tokens, 1), dtype=torch.float32, device=qkv.device)
