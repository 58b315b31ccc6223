"""Triton kernels around block-sparse attention. Import it only where Triton is.

Tokens are gathered in an order, into whole blocks, and scattered back. Capitalized arguments are pointers, lower-case
ones numbers, upper-case ones compile-time constants. A program handles one head of one batch, `pid_bh`.
"""

import triton
import triton.language as tl

__all__ = ["block_score_kernel", "gather_blocks_kernel", "scatter_blocks_kernel"]


@triton.jit
def gather_blocks_kernel(
    Q, K, V, Order, Rotation, VMean, QBlocked, KBlocked, VBlocked, QPartMean, KPartMean,
    blocked_len, num_heads, scale,
    stride_qb, stride_qt, stride_qh, stride_kb, stride_kt, stride_kh, stride_vb, stride_vt, stride_vh,
    HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Gather tokens into blocks: rotate Q and K and average each part of a block, subtract the mean of V.

    Q, K and V are (batch, tokens, heads, HEAD_DIM); the blocked ones (batch, heads, blocked_len, HEAD_DIM), where
    Order (blocked_len) says which token goes to a position. A part is BLOCK_M tokens; QPartMean and KPartMean are
    (batch, heads, blocked_len / BLOCK_M, HEAD_DIM) float32. Rotation is a Hadamard matrix of ±1, which `scale` makes
    orthonormal.
    """
    pid_m, pid_bh = tl.program_id(0), tl.program_id(1)
    off_b, off_h = (pid_bh // num_heads).to(tl.int64), pid_bh % num_heads
    Q += off_b * stride_qb + off_h * stride_qh
    K += off_b * stride_kb + off_h * stride_kh
    V += off_b * stride_vb + off_h * stride_vh
    off_o = pid_bh.to(tl.int64) * blocked_len * HEAD_DIM
    off_mean = pid_bh.to(tl.int64) * (blocked_len // BLOCK_M) * HEAD_DIM
    offs_d = tl.arange(0, HEAD_DIM)
    rotation = tl.load(Rotation + offs_d[:, None] * HEAD_DIM + offs_d[None, :])
    v_mean = tl.load(VMean + pid_bh * HEAD_DIM + offs_d)[None, :]
    for tile in range(TILES):
        part = pid_m * TILES + tile
        offs_m = part * BLOCK_M + tl.arange(0, BLOCK_M)
        mask_m = offs_m < blocked_len
        mask = mask_m[:, None]
        offs_t = tl.load(Order + offs_m, mask=mask_m, other=0)[:, None]
        offs_o = off_o + offs_m[:, None] * HEAD_DIM + offs_d[None, :]
        offs_mean = off_mean + part * HEAD_DIM + offs_d
        q = tl.load(Q + offs_t * stride_qt + offs_d[None, :], mask=mask, other=0.0).to(rotation.dtype)
        q = tl.dot(q, rotation) * scale
        tl.store(QBlocked + offs_o, q.to(QBlocked.dtype.element_ty), mask=mask)
        tl.store(QPartMean + offs_mean, tl.sum(q, 0) / BLOCK_M, mask=part * BLOCK_M < blocked_len)
        k = tl.load(K + offs_t * stride_kt + offs_d[None, :], mask=mask, other=0.0).to(rotation.dtype)
        k = tl.dot(k, rotation) * scale
        tl.store(KBlocked + offs_o, k.to(KBlocked.dtype.element_ty), mask=mask)
        tl.store(KPartMean + offs_mean, tl.sum(k, 0) / BLOCK_M, mask=part * BLOCK_M < blocked_len)
        v = tl.load(V + offs_t * stride_vt + offs_d[None, :], mask=mask, other=0.0).to(tl.float32)
        tl.store(VBlocked + offs_o, (v - v_mean).to(VBlocked.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["num_blocks"])
def block_score_kernel(
    QPartMean, KPartMean, Score, num_blocks, sm_scale,
    HEAD_DIM: tl.constexpr, PARTS: tl.constexpr, BLOCK_B: tl.constexpr,
):  # fmt: skip
    """Score each block of keys for each block of queries: log Σ exp(part of q · part of k * sm_scale).

    QPartMean and KPartMean are (batch, heads, num_blocks * PARTS, HEAD_DIM), Score is (batch, heads, num_blocks,
    num_blocks) float32; the score of a block with itself is infinite. A program handles BLOCK_B blocks of queries.
    """
    start_m, pid_bh = tl.program_id(0) * BLOCK_B, tl.program_id(1)
    offs_d = tl.arange(0, HEAD_DIM)
    offs_part = tl.arange(0, BLOCK_B * PARTS)
    QPartMean += pid_bh.to(tl.int64) * num_blocks * PARTS * HEAD_DIM
    KPartMean += pid_bh.to(tl.int64) * num_blocks * PARTS * HEAD_DIM
    Score += pid_bh.to(tl.int64) * num_blocks * num_blocks
    offs_q = start_m * PARTS + offs_part
    q = tl.load(
        QPartMean + offs_q[:, None] * HEAD_DIM + offs_d[None, :], mask=(offs_q < num_blocks * PARTS)[:, None], other=0.0
    )
    offs_m = start_m + tl.arange(0, BLOCK_B)
    for start_n in range(0, num_blocks, BLOCK_B):
        offs_k = start_n * PARTS + offs_part
        k = tl.load(
            KPartMean + offs_k[:, None] * HEAD_DIM + offs_d[None, :],
            mask=(offs_k < num_blocks * PARTS)[:, None],
            other=0.0,
        )
        qk = tl.reshape(tl.dot(q, tl.trans(k)) * sm_scale, (BLOCK_B, PARTS, BLOCK_B, PARTS))
        m_ij = tl.max(tl.max(qk, 3), 1)
        l_ij = tl.sum(tl.sum(tl.exp(qk - m_ij[:, None, :, None]), 3), 1)
        offs_n = start_n + tl.arange(0, BLOCK_B)
        score = tl.where(offs_m[:, None] == offs_n[None, :], float("inf"), m_ij + tl.log(l_ij))
        mask = (offs_m < num_blocks)[:, None] & (offs_n < num_blocks)[None, :]
        tl.store(Score + offs_m[:, None] * num_blocks + offs_n[None, :], score, mask=mask)


@triton.jit(do_not_specialize=["num_tokens"])
def scatter_blocks_kernel(
    Blocked, Positions, VMean, Out,
    blocked_len, num_tokens, num_heads, stride_ob, stride_ot, stride_oh,
    HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Scatter attention's output back to the order of tokens and add the mean of V.

    Blocked is (batch, heads, blocked_len, HEAD_DIM), Out (batch, num_tokens, heads, HEAD_DIM); Positions (num_tokens)
    says at which position of the blocks a token is.
    """
    pid_m, pid_bh = tl.program_id(0), tl.program_id(1)
    off_b, off_h = (pid_bh // num_heads).to(tl.int64), pid_bh % num_heads
    Blocked += pid_bh.to(tl.int64) * blocked_len * HEAD_DIM
    Out += off_b * stride_ob + off_h * stride_oh
    offs_d = tl.arange(0, HEAD_DIM)
    v_mean = tl.load(VMean + pid_bh * HEAD_DIM + offs_d)[None, :]
    for tile in range(TILES):
        offs_m = (pid_m * TILES + tile) * BLOCK_M + tl.arange(0, BLOCK_M)
        mask_m = offs_m < num_tokens
        mask = mask_m[:, None]
        offs_p = tl.load(Positions + offs_m, mask=mask_m, other=0)[:, None]
        out = tl.load(Blocked + offs_p * HEAD_DIM + offs_d[None, :], mask=mask, other=0.0).to(tl.float32) + v_mean
        offs_o = offs_m.to(tl.int64)[:, None] * stride_ot + offs_d[None, :]
        tl.store(Out + offs_o, out.to(Out.dtype.element_ty), mask=mask)
