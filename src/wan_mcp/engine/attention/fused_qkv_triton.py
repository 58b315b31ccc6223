"""Triton kernels from the product of query, key and value to e4m3, and from e4m3 to the rows of the next product.

Capitalized arguments are pointers, lower-case ones numbers, upper-case ones compile-time constants. QKV is (tokens, 3,
heads, HEAD_DIM), a row for each token `stride_t` apart; everything else is contiguous. A program handles TILES tiles of
BLOCK_M tokens, `pid_m`, and of each tile BLOCK_H heads or BLOCK_N channels at a time; NUM_STAGES is the depth of the
software pipeline.
Import it only where Triton is.
"""

import triton
import triton.language as tl

from wan_mcp.engine.attention import fp8_quantize
from wan_mcp.engine.ops import fp8_linear

__all__ = ["finalize_qkv_scales_kernel", "quantize_qk_kernel", "quantize_v_kernel", "requantize_rows_kernel",
           "sum_k_sample_kernel", "v_amax_reduce_kernel"]  # fmt: skip

FP8_MAX = tl.constexpr(fp8_linear.FP8_MAX)
MIN_AMAX = tl.constexpr(fp8_quantize.MIN_AMAX)
MIN_SCALE = tl.constexpr(fp8_linear.MIN_SCALE)


@triton.jit
def _load_heads(x_ptrs, mask_m, start_h, NUM_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_H: tl.constexpr):
    """Load the heads from `start_h` of the rows at `x_ptrs` (BLOCK_M) as (BLOCK_M, BLOCK_H, HEAD_DIM) float32."""
    offs_h = start_h + tl.arange(0, BLOCK_H)
    offs_n = (offs_h * HEAD_DIM)[None, :, None] + tl.arange(0, HEAD_DIM)[None, None, :]
    mask = mask_m[:, None, None] & (offs_h < NUM_HEADS)[None, :, None]
    return tl.load(x_ptrs[:, None, None] + offs_n, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _rms_norm_rstd(
    x_ptrs, mask_m, eps,
    NUM_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_H: tl.constexpr,
    NUM_STAGES: tl.constexpr,
):  # fmt: skip
    """Return 1 / sqrt(mean(x²) + eps) of each row at `x_ptrs` (BLOCK_M), over all its heads."""
    x_squared = tl.zeros([BLOCK_M, BLOCK_H, HEAD_DIM], tl.float32)
    for start_h in tl.range(0, NUM_HEADS, BLOCK_H, num_stages=NUM_STAGES):
        x = _load_heads(x_ptrs, mask_m, start_h, NUM_HEADS, HEAD_DIM, BLOCK_H)
        x_squared += x * x
    return tl.rsqrt(tl.sum(tl.sum(x_squared, 2), 1) / (NUM_HEADS * HEAD_DIM) + eps)


@triton.jit
def _weighted_rope(
    x_ptrs, mask_m, start_h, Weight, cos, sin,
    NUM_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_H: tl.constexpr,
):  # fmt: skip
    """Load the heads from `start_h`, multiply them by the norm's weights and apply the rotary embedding.

    `cos` and `sin` are (BLOCK_M, 1, HEAD_DIM / 2) and may contain factors, such as the norm's 1 / rms.
    """
    offs_h = start_h + tl.arange(0, BLOCK_H)
    offs_n = (offs_h * HEAD_DIM)[:, None] + tl.arange(0, HEAD_DIM)[None, :]
    weight = tl.load(Weight + offs_n, mask=(offs_h < NUM_HEADS)[:, None], other=0.0).to(tl.float32)
    x = _load_heads(x_ptrs, mask_m, start_h, NUM_HEADS, HEAD_DIM, BLOCK_H) * weight[None, :, :]
    x0, x1 = tl.split(tl.reshape(x, (BLOCK_M, BLOCK_H, HEAD_DIM // 2, 2)))
    return tl.reshape(tl.join(x0 * cos - x1 * sin, x0 * sin + x1 * cos), (BLOCK_M, BLOCK_H, HEAD_DIM))


@triton.jit(do_not_specialize=["num_tokens"])
def sum_k_sample_kernel(
    QKV, Weight, Cos, Sin, PartialK, num_tokens, stride_t, sample_stride, eps,
    NUM_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_H: tl.constexpr,
    NUM_STAGES: tl.constexpr,
):  # fmt: skip
    """Sum normalized and rotated keys of every `sample_stride`-th token, BLOCK_M of them for each program.

    PartialK is (programs, heads, HEAD_DIM) float32; Cos and Sin are (tokens, HEAD_DIM / 2) float32.
    """
    pid_m = tl.program_id(0)
    offs_m = (pid_m.to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)) * sample_stride
    mask_m = offs_m < num_tokens
    k_ptrs = QKV + offs_m * stride_t + NUM_HEADS * HEAD_DIM
    offs_rope = offs_m[:, None, None] * (HEAD_DIM // 2) + tl.arange(0, HEAD_DIM // 2)[None, None, :]
    rstd = _rms_norm_rstd(k_ptrs, mask_m, eps, NUM_HEADS, HEAD_DIM, BLOCK_M, BLOCK_H, NUM_STAGES)[:, None, None]
    cos = tl.load(Cos + offs_rope, mask=mask_m[:, None, None], other=0.0) * rstd
    sin = tl.load(Sin + offs_rope, mask=mask_m[:, None, None], other=0.0) * rstd
    offs_d = tl.arange(0, HEAD_DIM)
    for start_h in tl.range(0, NUM_HEADS, BLOCK_H, num_stages=NUM_STAGES):
        k = _weighted_rope(k_ptrs, mask_m, start_h, Weight, cos, sin, NUM_HEADS, HEAD_DIM, BLOCK_M, BLOCK_H)
        offs_h = start_h + tl.arange(0, BLOCK_H)
        offs_p = pid_m * (NUM_HEADS * HEAD_DIM) + (offs_h * HEAD_DIM)[:, None] + offs_d[None, :]
        tl.store(PartialK + offs_p, tl.sum(k, 0), mask=(offs_h < NUM_HEADS)[:, None])


@triton.jit(do_not_specialize=["num_tokens"])
def v_amax_reduce_kernel(
    QKV, PartialV, num_tokens, stride_t, hidden_dim,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, TILES: tl.constexpr, NUM_STAGES: tl.constexpr,
):  # fmt: skip
    """Reduce the tokens of each program to the sum, maximum and minimum of V: (programs, 3, hidden_dim) float32."""
    pid_m = tl.program_id(0)
    offs_n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_n = offs_n < hidden_dim
    v_sum = tl.zeros([BLOCK_N], tl.float32)
    v_max = tl.full([BLOCK_N], -float("inf"), tl.float32)
    v_min = tl.full([BLOCK_N], float("inf"), tl.float32)
    for tile in tl.range(0, TILES, num_stages=NUM_STAGES):
        offs_m = (pid_m * TILES + tile) * BLOCK_M + tl.arange(0, BLOCK_M)
        mask = (offs_m < num_tokens)[:, None] & mask_n[None, :]
        v_ptrs = QKV + offs_m.to(tl.int64)[:, None] * stride_t + 2 * hidden_dim
        v = tl.load(v_ptrs + offs_n[None, :], mask=mask, other=0.0).to(tl.float32)
        v_sum += tl.sum(v, 0)
        v_max = tl.maximum(v_max, tl.max(tl.where(mask, v, -float("inf")), 0))
        v_min = tl.minimum(v_min, tl.min(tl.where(mask, v, float("inf")), 0))
    PartialV += pid_m * 3 * hidden_dim + offs_n
    tl.store(PartialV, v_sum, mask=mask_n)
    tl.store(PartialV + hidden_dim, v_max, mask=mask_n)
    tl.store(PartialV + 2 * hidden_dim, v_min, mask=mask_n)


@triton.jit(do_not_specialize=["num_k_partials", "num_v_partials", "num_sampled", "num_tokens"])
def finalize_qkv_scales_kernel(
    PartialK, PartialV, QNorm, KNorm, QKWeight, QKMean, VMean, VScale, QKBound,
    num_k_partials, num_v_partials, num_sampled, num_tokens, v_range, sqrt_hidden_dim, hidden_dim,
    HEAD_DIM: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Reduce one head's partial results, BLOCK_P at a time, to means, the scales of V and bounds of Q and K.

    QKWeight and QKMean (2, hidden_dim) get the norms' weights and the means of Q (zero) and K (of the sample), side by
    side, so that one kernel quantizes both. VMean and VScale are (hidden_dim), QKBound is (heads, 2).
    """
    offs_n = tl.program_id(0) * HEAD_DIM + tl.arange(0, HEAD_DIM)
    k_sum = tl.zeros([HEAD_DIM], tl.float32)
    for start_p in range(0, num_k_partials, BLOCK_P):
        offs_p = start_p + tl.arange(0, BLOCK_P)
        k_ptrs = PartialK + offs_p[:, None] * hidden_dim + offs_n[None, :]
        k_sum += tl.sum(tl.load(k_ptrs, mask=(offs_p < num_k_partials)[:, None], other=0.0), 0)
    v_sum = tl.zeros([HEAD_DIM], tl.float32)
    v_max = tl.full([HEAD_DIM], -float("inf"), tl.float32)
    v_min = tl.full([HEAD_DIM], float("inf"), tl.float32)
    for start_p in range(0, num_v_partials, BLOCK_P):
        offs_p = start_p + tl.arange(0, BLOCK_P)
        mask = (offs_p < num_v_partials)[:, None]
        v_ptrs = PartialV + offs_p[:, None] * 3 * hidden_dim + offs_n[None, :]
        v_sum += tl.sum(tl.load(v_ptrs, mask=mask, other=0.0), 0)
        v_max = tl.maximum(v_max, tl.max(tl.load(v_ptrs + hidden_dim, mask=mask, other=-float("inf")), 0))
        v_min = tl.minimum(v_min, tl.min(tl.load(v_ptrs + 2 * hidden_dim, mask=mask, other=float("inf")), 0))
    k_mean = k_sum / num_sampled
    q_weight = tl.load(QNorm + offs_n).to(tl.float32)
    k_weight = tl.load(KNorm + offs_n).to(tl.float32)
    tl.store(QKWeight + offs_n, q_weight)
    tl.store(QKWeight + hidden_dim + offs_n, k_weight)
    tl.store(QKMean + offs_n, tl.zeros([HEAD_DIM], tl.float32))
    tl.store(QKMean + hidden_dim + offs_n, k_mean)
    v_mean = v_sum / num_tokens
    v_amax = tl.maximum(tl.maximum(v_max - v_mean, v_mean - v_min), MIN_AMAX)
    tl.store(VMean + offs_n, v_mean)
    tl.store(VScale + offs_n, v_amax / v_range)
    QKBound += tl.program_id(0) * 2
    tl.store(QKBound, sqrt_hidden_dim * tl.max(tl.abs(q_weight), 0))
    # Subtracting the mean can lengthen a key by no more than the mean's own length.
    tl.store(QKBound + 1, sqrt_hidden_dim * tl.max(tl.abs(k_weight), 0) + tl.sqrt(tl.sum(k_mean * k_mean, 0)))


@triton.jit(do_not_specialize=["num_tokens"])
def quantize_qk_kernel(
    QKV, QKWeight, QKMean, Cos, Sin, Rotation, QKBound, Out, QKScale, num_tokens, stride_t, eps, rotation_norm,
    NUM_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, GROUP_HEADS: tl.constexpr, BLOCK_M: tl.constexpr,
    TILES: tl.constexpr, BLOCK_H: tl.constexpr, NUM_STAGES: tl.constexpr, BLOCK_ALL_H: tl.constexpr,
):  # fmt: skip
    """Normalize, apply the rotary embedding, subtract the mean, rotate, and quantize to e4m3: Q and K in one launch.

    Even programs do Q, odd ones K, `part`. Out is (2, groups of heads, tokens, GROUP_HEADS, HEAD_DIM) e4m3, QKScale
    (2) float32. Rotation is a Hadamard matrix of ±1 (QuaRot, Ashkboos et al. 2024), `rotation_norm` the root of its
    width. BLOCK_ALL_H is the number of heads, rounded up to a power of two. Rows are read twice, but only once from
    beyond the L2 cache.
    """
    part = tl.program_id(0) % 2
    pid_m = tl.program_id(0) // 2
    HIDDEN_DIM: tl.constexpr = NUM_HEADS * HEAD_DIM
    QKWeight += part * HIDDEN_DIM
    QKMean += part * HIDDEN_DIM
    offs_all_h = tl.arange(0, BLOCK_ALL_H)
    amax = tl.max(tl.load(QKBound + offs_all_h * 2 + part, mask=offs_all_h < NUM_HEADS, other=0.0), 0)
    scale = tl.maximum(amax, MIN_AMAX) / FP8_MAX
    if pid_m == 0:
        tl.store(QKScale + part, scale)
    inv_scale = 1.0 / (scale * rotation_norm)
    offs_d = tl.arange(0, HEAD_DIM)
    rotation = tl.load(Rotation + offs_d[:, None] * HEAD_DIM + offs_d[None, :])
    offs_mh = tl.arange(0, BLOCK_M * BLOCK_H)
    Out += (part * HIDDEN_DIM).to(tl.int64) * num_tokens
    for tile in range(TILES):
        start_m = (pid_m * TILES + tile).to(tl.int64) * BLOCK_M
        offs_m = start_m + tl.arange(0, BLOCK_M)
        mask_m = offs_m < num_tokens
        x_ptrs = QKV + offs_m * stride_t + part * HIDDEN_DIM
        offs_rope = offs_m[:, None, None] * (HEAD_DIM // 2) + tl.arange(0, HEAD_DIM // 2)[None, None, :]
        factor = (
            _rms_norm_rstd(x_ptrs, mask_m, eps, NUM_HEADS, HEAD_DIM, BLOCK_M, BLOCK_H, NUM_STAGES)[:, None, None]
            * inv_scale
        )
        cos = tl.load(Cos + offs_rope, mask=mask_m[:, None, None], other=0.0) * factor
        sin = tl.load(Sin + offs_rope, mask=mask_m[:, None, None], other=0.0) * factor
        out_m = start_m + offs_mh // BLOCK_H
        for start_h in range(0, NUM_HEADS, BLOCK_H):
            x = _weighted_rope(x_ptrs, mask_m, start_h, QKWeight, cos, sin, NUM_HEADS, HEAD_DIM, BLOCK_M, BLOCK_H)
            offs_h = start_h + tl.arange(0, BLOCK_H)
            offs_n = (offs_h * HEAD_DIM)[:, None] + offs_d[None, :]
            mean = tl.load(QKMean + offs_n, mask=(offs_h < NUM_HEADS)[:, None], other=0.0) * inv_scale
            x = tl.reshape(x - mean[None, :, :], (BLOCK_M * BLOCK_H, HEAD_DIM)).to(rotation.dtype)
            x = tl.clamp(tl.dot(x, rotation), -FP8_MAX, FP8_MAX).to(tl.float8e4nv)
            out_h = start_h + offs_mh % BLOCK_H
            out_row = (out_h // GROUP_HEADS).to(tl.int64) * num_tokens + out_m
            offs_o = ((out_row * GROUP_HEADS + out_h % GROUP_HEADS) * HEAD_DIM)[:, None] + offs_d[None, :]
            tl.store(Out + offs_o, x, mask=((out_m < num_tokens) & (out_h < NUM_HEADS))[:, None])


@triton.jit(do_not_specialize=["num_tokens"])
def quantize_v_kernel(
    QKV, VMean, VScale, Out, num_tokens, stride_t, hidden_dim,
    GROUP_DIM: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, TILES: tl.constexpr,
    NUM_STAGES: tl.constexpr,
):  # fmt: skip
    """Subtract the mean of V and quantize it to e4m3 by channel: Out is (groups of heads, tokens, GROUP_DIM)."""
    pid_m = tl.program_id(0)
    offs_n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_n = offs_n < hidden_dim
    v_mean = tl.load(VMean + offs_n, mask=mask_n, other=0.0)[None, :]
    v_inv_scale = 1.0 / tl.load(VScale + offs_n, mask=mask_n, other=1.0)[None, :]
    offs_o = (offs_n // GROUP_DIM).to(tl.int64) * num_tokens * GROUP_DIM + offs_n % GROUP_DIM
    for tile in tl.range(0, TILES, num_stages=NUM_STAGES):
        offs_m = (pid_m * TILES + tile) * BLOCK_M + tl.arange(0, BLOCK_M)
        mask = (offs_m < num_tokens)[:, None] & mask_n[None, :]
        offs_m = offs_m.to(tl.int64)[:, None]
        v = tl.load(QKV + offs_m * stride_t + 2 * hidden_dim + offs_n[None, :], mask=mask, other=0.0).to(tl.float32)
        v = tl.clamp((v - v_mean) * v_inv_scale, -FP8_MAX, FP8_MAX)
        tl.store(Out + offs_m * GROUP_DIM + offs_o[None, :], v.to(tl.float8e4nv), mask=mask)


@triton.jit(do_not_specialize=["num_tokens"])
def requantize_rows_kernel(
    Out8, VMean, VScale, Rows8, RowScale, num_tokens,
    HIDDEN_DIM: tl.constexpr, GROUP_DIM: tl.constexpr, BLOCK_N: tl.constexpr, TILES: tl.constexpr,
    NUM_STAGES: tl.constexpr,
):  # fmt: skip
    """Dequantize attention's output by channel and quantize it by row: Rows8 (tokens, HIDDEN_DIM) e4m3, RowScale.

    Out8 is (groups of heads, tokens, GROUP_DIM) e4m3. A tile is one token. BLOCK_N is HIDDEN_DIM, rounded up to a power
    of two.
    """
    offs_n = tl.arange(0, BLOCK_N)
    mask_n = offs_n < HIDDEN_DIM
    # Loaded once for all rows of a program.
    v_mean = tl.load(VMean + offs_n, mask=mask_n, other=0.0)
    v_scale = tl.load(VScale + offs_n, mask=mask_n, other=0.0)
    offs_o = (offs_n // GROUP_DIM).to(tl.int64) * num_tokens * GROUP_DIM + offs_n % GROUP_DIM
    start_m = tl.program_id(0).to(tl.int64) * TILES
    for tile in tl.range(0, TILES, num_stages=NUM_STAGES):
        off_m = start_m + tile
        mask = mask_n & (off_m < num_tokens)
        x = tl.load(Out8 + off_m * GROUP_DIM + offs_o, mask=mask, other=0.0).to(tl.float32) * v_scale + v_mean
        scale = tl.maximum(tl.max(tl.abs(x), 0) / FP8_MAX, MIN_SCALE)
        x *= 1.0 / scale  # the cast saturates what rounding put above the largest number
        tl.store(Rows8 + off_m * HIDDEN_DIM + offs_n, x.to(Rows8.dtype.element_ty), mask=mask)
        tl.store(RowScale + off_m, scale, mask=off_m < num_tokens)
