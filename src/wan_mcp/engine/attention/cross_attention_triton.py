"""Cross-attention to the text on a GPU, in Triton: a tile of tokens attends to all keys, of which there are few.

`cross_attention` says what it computes. Import it only where Triton is.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton

__all__ = ["cross_attention_fwd"]

BLOCK_M, BLOCK_N, NUM_WARPS, NUM_STAGES = 64, 64, 4, 2
"""A prompt's keys are one or two tiles of BLOCK_N."""


@triton.jit(do_not_specialize=["num_tokens", "num_keys"])
def _cross_attention_kernel(
    Q, K, V, LastKeyCount, Out, num_tokens, num_keys,
    NUM_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, QK_SCALE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Attend from BLOCK_M tokens to all keys with FlashAttention-2's online softmax (Dao 2023).

    Q and Out are (num_tokens, NUM_HEADS, HEAD_DIM), K and V (num_keys, NUM_HEADS, HEAD_DIM), all contiguous. The last
    key counts LastKeyCount times. QK_SCALE includes log2(e): exponentials are of base two.
    """
    pid_h = tl.program_id(0)
    offs_m = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_d = pid_h * HEAD_DIM + tl.arange(0, HEAD_DIM)[None, :]
    offs_q = offs_m.to(tl.int64)[:, None] * (NUM_HEADS * HEAD_DIM) + offs_d
    mask_m = offs_m[:, None] < num_tokens
    q = tl.load(Q + offs_q, mask=mask_m, other=0.0)
    log2_count = tl.log2(tl.load(LastKeyCount))
    m_i = tl.full((BLOCK_M,), -float("inf"), tl.float32)
    l_i = tl.zeros((BLOCK_M,), tl.float32)
    acc = tl.zeros((BLOCK_M, HEAD_DIM), tl.float32)
    for start_n in range(0, num_keys, BLOCK_N):
        offs_n = start_n + tl.arange(0, BLOCK_N)
        offs_kv = offs_n[:, None] * (NUM_HEADS * HEAD_DIM) + offs_d
        k = tl.load(K + offs_kv, mask=offs_n[:, None] < num_keys, other=0.0)
        v = tl.load(V + offs_kv, mask=offs_n[:, None] < num_keys, other=0.0)
        qk = tl.dot(q, tl.trans(k)) * QK_SCALE
        qk += tl.where(offs_n == num_keys - 1, log2_count, 0.0)[None, :]
        qk = tl.where(offs_n[None, :] < num_keys, qk, -float("inf"))
        m_ij = tl.maximum(m_i, tl.max(qk, 1))
        alpha = tl.exp2(m_i - m_ij)
        p = tl.exp2(qk - m_ij[:, None])
        l_i = l_i * alpha + tl.sum(p, 1)
        acc = tl.dot(p.to(v.dtype), v, acc * alpha[:, None])
        m_i = m_ij
    tl.store(Out + offs_q, (acc / l_i[:, None]).to(Out.dtype.element_ty), mask=mask_m)


@triton_op("wan_mcp::cross_attention_fwd", mutates_args={})
def cross_attention_fwd(query: Tensor, key: Tensor, value: Tensor, padding: Tensor) -> Tensor:
    """See `attend_context`. Contiguous tensors of 16 bits, heads of a power of two from 16 to 256."""
    _, tokens, heads, width = query.shape
    out = torch.empty_like(query)
    wrap_triton(_cross_attention_kernel)[(heads, triton.cdiv(tokens, BLOCK_M))](
        query, key, value, padding, out, tokens, key.shape[1],
        NUM_HEADS=heads, HEAD_DIM=width, QK_SCALE=math.log2(math.e) / math.sqrt(width),
        BLOCK_M=BLOCK_M, BLOCK_N=BLOCK_N, num_warps=NUM_WARPS, num_stages=NUM_STAGES,
    )  # fmt: skip
    return out
