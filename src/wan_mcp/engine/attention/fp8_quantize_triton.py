"""Triton kernels that quantize Q, K and V to FP8 and dequantize the output. Import it only where Triton is.

Capitalized arguments are pointers, lower-case ones numbers, upper-case ones compile-time constants. Tensors are
(batch, tokens, heads, HEAD_DIM), with contiguous channels. A program handles one head of one batch, `pid_bh`, and,
except in `finalize_scales_kernel`, TILES tiles of BLOCK_M tokens, `pid_m`.
"""

import triton
import triton.language as tl

from wan_mcp.engine.attention import fp8_quantize
from wan_mcp.engine.ops import fp8_linear

__all__ = ["amax_reduce_kernel", "dequantize_kernel", "finalize_scales_kernel", "quantize_kernel"]

FP8_MAX = tl.constexpr(fp8_linear.FP8_MAX)
MIN_AMAX = tl.constexpr(fp8_quantize.MIN_AMAX)


@triton.jit(do_not_specialize=["num_tokens"])
def amax_reduce_kernel(
    Q, K, V, PartialKV, PartialNorm,
    num_tokens, num_heads,
    stride_qb, stride_qt, stride_qh, stride_kb, stride_kt, stride_kh, stride_vb, stride_vt, stride_vh,
    HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Reduce the tokens of each program to what the means and scales need.

    PartialKV (programs, batch * heads, 4, HEAD_DIM) gets the sum of K, and the sum, maximum and minimum of V;
    PartialNorm (programs, batch * heads, 2) the largest squared norm of a row of Q and of K. Both are float32.
    """
    pid_m, pid_bh = tl.program_id(0), tl.program_id(1)
    off_b, off_h = (pid_bh // num_heads).to(tl.int64), pid_bh % num_heads
    Q += off_b * stride_qb + off_h * stride_qh
    K += off_b * stride_kb + off_h * stride_kh
    V += off_b * stride_vb + off_h * stride_vh
    offs_d = tl.arange(0, HEAD_DIM)
    k_sum = tl.zeros([HEAD_DIM], tl.float32)
    v_sum = tl.zeros([HEAD_DIM], tl.float32)
    v_max = tl.full([HEAD_DIM], -float("inf"), tl.float32)
    v_min = tl.full([HEAD_DIM], float("inf"), tl.float32)
    q_norm = tl.zeros([BLOCK_M], tl.float32)
    k_norm = tl.zeros([BLOCK_M], tl.float32)
    for tile in range(TILES):
        offs_m = (pid_m * TILES + tile) * BLOCK_M + tl.arange(0, BLOCK_M)
        mask = (offs_m < num_tokens)[:, None]
        offs_m = offs_m.to(tl.int64)[:, None]
        q = tl.load(Q + offs_m * stride_qt + offs_d[None, :], mask=mask, other=0.0).to(tl.float32)
        q_norm = tl.maximum(q_norm, tl.sum(q * q, 1))
        k = tl.load(K + offs_m * stride_kt + offs_d[None, :], mask=mask, other=0.0).to(tl.float32)
        k_norm = tl.maximum(k_norm, tl.sum(k * k, 1))
        k_sum += tl.sum(k, 0)
        v = tl.load(V + offs_m * stride_vt + offs_d[None, :], mask=mask, other=0.0).to(tl.float32)
        v_sum += tl.sum(v, 0)
        v_max = tl.maximum(v_max, tl.max(tl.where(mask, v, -float("inf")), 0))
        v_min = tl.minimum(v_min, tl.min(tl.where(mask, v, float("inf")), 0))
    offs_p = pid_m * tl.num_programs(1) + pid_bh
    PartialKV += offs_p * 4 * HEAD_DIM + offs_d
    tl.store(PartialKV, k_sum)
    tl.store(PartialKV + HEAD_DIM, v_sum)
    tl.store(PartialKV + 2 * HEAD_DIM, v_max)
    tl.store(PartialKV + 3 * HEAD_DIM, v_min)
    tl.store(PartialNorm + offs_p * 2, tl.max(q_norm, 0))
    tl.store(PartialNorm + offs_p * 2 + 1, tl.max(k_norm, 0))


@triton.jit(do_not_specialize=["num_partials", "num_tokens"])
def finalize_scales_kernel(
    PartialKV, PartialNorm, Rotation, RotatedKMean, VMean, VScale, QKBound,
    num_partials, num_tokens, v_range,
    HEAD_DIM: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Reduce the partial results of `amax_reduce_kernel`, BLOCK_P at a time, to means, scales and bounds.

    RotatedKMean, VMean and VScale are (batch * heads, HEAD_DIM); VScale maps the values less their mean to `v_range`.
    QKBound (batch * heads, 2) bounds the norms of rows of Q, and of K less its mean (SageAttention, Zhang et al. 2024).
    """
    pid_bh, num_bh = tl.program_id(0), tl.num_programs(0)
    offs_d = tl.arange(0, HEAD_DIM)
    k_sum = tl.zeros([HEAD_DIM], tl.float32)
    v_sum = tl.zeros([HEAD_DIM], tl.float32)
    v_max = tl.full([HEAD_DIM], -float("inf"), tl.float32)
    v_min = tl.full([HEAD_DIM], float("inf"), tl.float32)
    q_norm = tl.zeros([BLOCK_P], tl.float32)
    k_norm = tl.zeros([BLOCK_P], tl.float32)
    for start_p in range(0, num_partials, BLOCK_P):
        offs_p = start_p + tl.arange(0, BLOCK_P)
        mask = offs_p < num_partials
        offs_p = offs_p * num_bh + pid_bh
        kv_ptrs = PartialKV + offs_p[:, None] * 4 * HEAD_DIM + offs_d[None, :]
        k_sum += tl.sum(tl.load(kv_ptrs, mask=mask[:, None], other=0.0), 0)
        v_sum += tl.sum(tl.load(kv_ptrs + HEAD_DIM, mask=mask[:, None], other=0.0), 0)
        v_max = tl.maximum(v_max, tl.max(tl.load(kv_ptrs + 2 * HEAD_DIM, mask=mask[:, None], other=-float("inf")), 0))
        v_min = tl.minimum(v_min, tl.min(tl.load(kv_ptrs + 3 * HEAD_DIM, mask=mask[:, None], other=float("inf")), 0))
        q_norm = tl.maximum(q_norm, tl.load(PartialNorm + offs_p * 2, mask=mask, other=0.0))
        k_norm = tl.maximum(k_norm, tl.load(PartialNorm + offs_p * 2 + 1, mask=mask, other=0.0))
    k_mean = k_sum / num_tokens
    v_mean = v_sum / num_tokens
    v_amax = tl.maximum(tl.maximum(v_max - v_mean, v_mean - v_min), MIN_AMAX)
    rotation = tl.load(Rotation + offs_d[:, None] * HEAD_DIM + offs_d[None, :]).to(tl.float32)
    tl.store(RotatedKMean + pid_bh * HEAD_DIM + offs_d, tl.sum(k_mean[:, None] * rotation, 0))
    tl.store(VMean + pid_bh * HEAD_DIM + offs_d, v_mean)
    tl.store(VScale + pid_bh * HEAD_DIM + offs_d, v_amax / v_range)
    tl.store(QKBound + pid_bh * 2, tl.sqrt(tl.max(q_norm, 0)))
    # Subtracting the mean can lengthen a key by no more than the mean's own length.
    tl.store(QKBound + pid_bh * 2 + 1, tl.sqrt(tl.max(k_norm, 0)) + tl.sqrt(tl.sum(k_mean * k_mean, 0)))


@triton.jit(do_not_specialize=["num_tokens"])
def quantize_kernel(
    Q, K, V, Rotation, RotatedKMean, VMean, VScale, QKBound, Q8, K8, V8, QKScale,
    num_tokens, num_heads, rotation_norm,
    stride_qb, stride_qt, stride_qh, stride_kb, stride_kt, stride_kh, stride_vb, stride_vt, stride_vh,
    stride_ob, stride_ot, stride_oh,
    HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, TILES: tl.constexpr, BLOCK_BH: tl.constexpr,
):  # fmt: skip
    """Rotate Q and K, subtract the means of K and V, and quantize all three to e4m3 in Q8, K8 and V8.

    QKScale (2) gets the scale of Q and that of K, one each for the whole tensor; V has one per channel, VScale.
    Rotation is a Hadamard matrix of ±1 (QuaRot, Ashkboos et al. 2024), `rotation_norm` the root of its width.
    BLOCK_BH is batch * heads, rounded up to a power of two.
    """
    pid_m, pid_bh = tl.program_id(0), tl.program_id(1)
    off_b, off_h = (pid_bh // num_heads).to(tl.int64), pid_bh % num_heads
    Q += off_b * stride_qb + off_h * stride_qh
    K += off_b * stride_kb + off_h * stride_kh
    V += off_b * stride_vb + off_h * stride_vh
    off_o = off_b * stride_ob + off_h * stride_oh
    offs_d = tl.arange(0, HEAD_DIM)
    rotation = tl.load(Rotation + offs_d[:, None] * HEAD_DIM + offs_d[None, :])
    k_mean = tl.load(RotatedKMean + pid_bh * HEAD_DIM + offs_d)[None, :]
    v_mean = tl.load(VMean + pid_bh * HEAD_DIM + offs_d)[None, :]
    v_inv_scale = 1.0 / tl.load(VScale + pid_bh * HEAD_DIM + offs_d)[None, :]
    offs_bh = tl.arange(0, BLOCK_BH)
    mask_bh = offs_bh < tl.num_programs(1)
    q_scale = tl.maximum(tl.max(tl.load(QKBound + offs_bh * 2, mask=mask_bh, other=0.0), 0), MIN_AMAX) / FP8_MAX
    k_scale = tl.maximum(tl.max(tl.load(QKBound + offs_bh * 2 + 1, mask=mask_bh, other=0.0), 0), MIN_AMAX) / FP8_MAX
    if pid_m + pid_bh == 0:
        tl.store(QKScale, q_scale)
        tl.store(QKScale + 1, k_scale)
    q_inv_scale = 1.0 / (q_scale * rotation_norm)
    k_inv_scale = 1.0 / (k_scale * rotation_norm)
    for tile in range(TILES):
        offs_m = (pid_m * TILES + tile) * BLOCK_M + tl.arange(0, BLOCK_M)
        mask = (offs_m < num_tokens)[:, None]
        offs_m = offs_m.to(tl.int64)[:, None]
        offs_o = off_o + offs_m * stride_ot + offs_d[None, :]
        q = tl.load(Q + offs_m * stride_qt + offs_d[None, :], mask=mask, other=0.0).to(rotation.dtype)
        q = tl.dot(q, rotation) * q_inv_scale
        tl.store(Q8 + offs_o, tl.clamp(q, -FP8_MAX, FP8_MAX).to(tl.float8e4nv), mask=mask)
        k = tl.load(K + offs_m * stride_kt + offs_d[None, :], mask=mask, other=0.0).to(rotation.dtype)
        k = (tl.dot(k, rotation) - k_mean) * k_inv_scale
        tl.store(K8 + offs_o, tl.clamp(k, -FP8_MAX, FP8_MAX).to(tl.float8e4nv), mask=mask)
        v = tl.load(V + offs_m * stride_vt + offs_d[None, :], mask=mask, other=0.0).to(tl.float32)
        v = (v - v_mean) * v_inv_scale
        tl.store(V8 + offs_o, tl.clamp(v, -FP8_MAX, FP8_MAX).to(tl.float8e4nv), mask=mask)


@triton.jit(do_not_specialize=["num_tokens"])
def dequantize_kernel(
    Out8, VMean, VScale, Out,
    num_tokens, num_heads,
    stride_ib, stride_it, stride_ih, stride_ob, stride_ot, stride_oh,
    HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Dequantize attention's e4m3 output: multiply by the scales of V and add its means, (batch * heads, HEAD_DIM)."""
    pid_m, pid_bh = tl.program_id(0), tl.program_id(1)
    off_b, off_h = (pid_bh // num_heads).to(tl.int64), pid_bh % num_heads
    Out8 += off_b * stride_ib + off_h * stride_ih
    Out += off_b * stride_ob + off_h * stride_oh
    offs_d = tl.arange(0, HEAD_DIM)
    v_mean = tl.load(VMean + pid_bh * HEAD_DIM + offs_d)[None, :]
    v_scale = tl.load(VScale + pid_bh * HEAD_DIM + offs_d)[None, :]
    for tile in range(TILES):
        offs_m = (pid_m * TILES + tile) * BLOCK_M + tl.arange(0, BLOCK_M)
        mask = (offs_m < num_tokens)[:, None]
        offs_m = offs_m.to(tl.int64)[:, None]
        out = tl.load(Out8 + offs_m * stride_it + offs_d[None, :], mask=mask, other=0.0).to(tl.float32)
        out = out * v_scale + v_mean
        tl.store(Out + offs_m * stride_ot + offs_d[None, :], out.to(Out.dtype.element_ty), mask=mask)
