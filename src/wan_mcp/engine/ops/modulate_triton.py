"""The operations between a block's matrix products, on a GPU: one pass over memory each, in Triton.

A row is a token's channels. Every kernel reads a row once, keeps it in registers and writes what the next product
reads; `modulate` says in plain torch what each computes. Import it only where Triton is.

Capitalized arguments are pointers to contiguous tensors, lower-case ones numbers, upper-case ones compile-time
constants.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton

from wan_mcp.engine.ops import fp8_linear
from wan_mcp.engine.ops.modulate import NO_CHUNK

__all__ = ["gated_residual", "modulate_quantize", "qk_rms_norm_rope", "residual_modulate_quantize"]

FP8_MAX = tl.constexpr(fp8_linear.FP8_MAX)
MIN_SCALE = tl.constexpr(fp8_linear.MIN_SCALE)


@triton.jit
def _modulate_quantize_row(
    off_m, Residual, Gemm, Temb, OutResidual, Out, OutScale, offs_n, mask, shared_gate, scale, shift,
    N_COLS: tl.constexpr, EPS: tl.constexpr, TEMB_PER_TOKEN: tl.constexpr, ADD: tl.constexpr, GATE: tl.constexpr,
    NORM: tl.constexpr, AFFINE: tl.constexpr, SHIFT: tl.constexpr, GELU: tl.constexpr, STORE: tl.constexpr,
    QUANTIZE: tl.constexpr,
):  # fmt: skip
    """Do what `_modulate_quantize_kernel` does for one row, with what all rows share already loaded."""
    offs = off_m * N_COLS + offs_n
    x = tl.load(Residual + offs, mask=mask, other=0.0).to(tl.float32)
    if ADD:
        y = tl.load(Gemm + offs, mask=mask, other=0.0).to(tl.float32)
        if GATE >= 0:
            gate = shared_gate
            if TEMB_PER_TOKEN:
                gate += tl.load(Temb + off_m * (6 * N_COLS) + GATE * N_COLS + offs_n, mask=mask, other=0.0)
            y = y * gate
        out_residual = (x + y).to(OutResidual.dtype.element_ty)
        tl.store(OutResidual + offs, out_residual, mask=mask)
        x = out_residual.to(tl.float32)
    if NORM:
        x = tl.where(mask, x - tl.sum(x, 0) / N_COLS, 0.0)
        x = x * tl.rsqrt(tl.sum(x * x, 0) / N_COLS + EPS)
    if SHIFT >= 0:
        if TEMB_PER_TOKEN:
            temb_ptrs = Temb + off_m * (6 * N_COLS) + SHIFT * N_COLS + offs_n
            scale += tl.load(temb_ptrs + N_COLS, mask=mask, other=0.0)
            shift += tl.load(temb_ptrs, mask=mask, other=0.0)
        x = x * scale + shift
    if AFFINE:
        x = x * scale + shift
    if GELU:
        if QUANTIZE:
            # One instruction, right to 11 bits, of which rounding keeps 4.
            half, u = 0.5 * x, x * (0.7978845608028654 + 0.035677408136300125 * (x * x))
            tanh_u = tl.inline_asm_elementwise(
                "tanh.approx.f32 $0, $1;", "=f,f", [u], dtype=tl.float32, is_pure=True, pack=1
            )
            x = half + half * tanh_u
        else:
            # tanh(u) = 1 - 2 / (1 + exp(2u)), so half of (1 + tanh(u)) is 1 / (1 + exp(-2u)).
            x = x / (1.0 + tl.exp(-1.5957691216057308 * (x + 0.044715 * x * x * x)))
    if STORE:
        if QUANTIZE:
            quant_scale = tl.maximum(tl.max(tl.abs(x), 0) / FP8_MAX, MIN_SCALE)
            x = x * (1.0 / quant_scale)  # the cast saturates what rounding put above the largest number
            tl.store(OutScale + off_m, quant_scale)
        tl.store(Out + offs, x.to(Out.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["num_tokens"])
def _modulate_quantize_kernel(
    Residual, Gemm, Temb, ScaleShiftTable, Weight, Bias, OutResidual, Out, OutScale, num_tokens,
    N_COLS: tl.constexpr, BLOCK_N: tl.constexpr, ROW_STEP: tl.constexpr, EPS: tl.constexpr,
    TEMB_PER_TOKEN: tl.constexpr, ADD: tl.constexpr, GATE: tl.constexpr, NORM: tl.constexpr, AFFINE: tl.constexpr,
    SHIFT: tl.constexpr, GELU: tl.constexpr, STORE: tl.constexpr, QUANTIZE: tl.constexpr,
):  # fmt: skip
    """Add a gated residual, apply layer norm, shift and scale (adaLN, Peebles & Xie 2023) and GELU, and quantize rows.

    Each step is done where its constant says so. Residual, Gemm, OutResidual and Out are (num_tokens, N_COLS), OutScale
    (num_tokens). The modulation, six chunks, is ScaleShiftTable (6, N_COLS) plus Temb (6, N_COLS), or (num_tokens, 6,
    N_COLS) where TEMB_PER_TOKEN; GATE and SHIFT number chunks, -1 means none, and after a shift comes its scale. Weight
    and Bias (N_COLS) are those of an AFFINE norm. A program does one row, or every ROW_STEP-th where that is not 0.
    """
    offs_n = tl.arange(0, BLOCK_N)
    mask = offs_n < N_COLS
    gate, scale, shift = 0.0, 0.0, 0.0
    # Loaded once for all rows of a program.
    if GATE >= 0:
        gate = tl.load(ScaleShiftTable + GATE * N_COLS + offs_n, mask=mask, other=0.0)
        if not TEMB_PER_TOKEN:
            gate += tl.load(Temb + GATE * N_COLS + offs_n, mask=mask, other=0.0)
    if SHIFT >= 0:
        shift = tl.load(ScaleShiftTable + SHIFT * N_COLS + offs_n, mask=mask, other=0.0)
        scale = 1.0 + tl.load(ScaleShiftTable + (SHIFT + 1) * N_COLS + offs_n, mask=mask, other=0.0)
        if not TEMB_PER_TOKEN:
            shift += tl.load(Temb + SHIFT * N_COLS + offs_n, mask=mask, other=0.0)
            scale += tl.load(Temb + (SHIFT + 1) * N_COLS + offs_n, mask=mask, other=0.0)
    if AFFINE:
        shift = tl.load(Bias + offs_n, mask=mask, other=0.0)
        scale = tl.load(Weight + offs_n, mask=mask, other=0.0)
    pid_m = tl.program_id(0)
    if ROW_STEP:
        for start_m in range(0, num_tokens - pid_m, ROW_STEP):
            _modulate_quantize_row(
                pid_m.to(tl.int64) + start_m, Residual, Gemm, Temb, OutResidual, Out, OutScale, offs_n, mask,
                gate, scale, shift,
                N_COLS, EPS, TEMB_PER_TOKEN, ADD, GATE, NORM, AFFINE, SHIFT, GELU, STORE, QUANTIZE,
            )  # fmt: skip
    else:
        _modulate_quantize_row(
            pid_m.to(tl.int64), Residual, Gemm, Temb, OutResidual, Out, OutScale, offs_n, mask,
            gate, scale, shift,
            N_COLS, EPS, TEMB_PER_TOKEN, ADD, GATE, NORM, AFFINE, SHIFT, GELU, STORE, QUANTIZE,
        )  # fmt: skip


@triton.jit(do_not_specialize=["num_tokens"])
def _qk_rms_norm_rope_kernel(
    X, QWeight, KWeight, Cos, Sin, Out, num_tokens,
    STRIDE_T: tl.constexpr, N_COLS: tl.constexpr, BLOCK_N: tl.constexpr, HALF_DIM: tl.constexpr, EPS: tl.constexpr,
    ROPE: tl.constexpr,
):  # fmt: skip
    """Apply RMS norm over all heads and, where ROPE, the rotary embedding to one row of Q (part 0) or of K (part 1).

    A row of X, STRIDE_T after the last, begins with the parts, N_COLS wide each; Out is (parts, num_tokens, N_COLS).
    Cos and Sin are (num_tokens, HALF_DIM) float32, half a head wide.
    """
    pid_m, part = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    offs_n = tl.arange(0, BLOCK_N)
    mask = offs_n < N_COLS
    x = tl.load(X + pid_m * STRIDE_T + part * N_COLS + offs_n, mask=mask, other=0.0).to(tl.float32)
    if part == 0:
        weight = tl.load(QWeight + offs_n, mask=mask, other=0.0).to(tl.float32)
    else:
        weight = tl.load(KWeight + offs_n, mask=mask, other=0.0).to(tl.float32)
    x = x * tl.rsqrt(tl.sum(x * x, 0) / N_COLS + EPS) * weight
    if ROPE:
        x0, x1 = tl.split(tl.reshape(x, (BLOCK_N // 2, 2)))
        offs_rope = pid_m * HALF_DIM + tl.arange(0, BLOCK_N // 2) % HALF_DIM
        cos, sin = tl.load(Cos + offs_rope), tl.load(Sin + offs_rope)
        x = tl.reshape(tl.join(x0 * cos - x1 * sin, x0 * sin + x1 * cos), (BLOCK_N,))
    # Multiples of the row's length, so that the compiler sees that rows begin where wide stores may.
    tl.store(Out + (part * num_tokens + pid_m) * N_COLS + offs_n, x.to(Out.dtype.element_ty), mask=mask)


NUM_WARPS = 4
PROGRAMS = 2048
"""That share all rows: enough for every GPU, few enough that each loads what rows have in common for many of them."""


def _programs(tokens: int, *, shared: bool) -> tuple[int, int]:
    """Return how many programs to start, and the step from row to row of each; 0 where each has just one.

    `shared` says whether rows have anything in common.
    """
    return (PROGRAMS, PROGRAMS) if shared else (tokens, 0)


def _prepared(x: Tensor, *, fp8: bool) -> tuple[Tensor, Tensor]:
    tokens, width = x.shape[-2:]
    made = torch.empty((tokens, width), dtype=torch.float8_e4m3fn if fp8 else x.dtype, device=x.device)
    return made, torch.empty((tokens if fp8 else 0, 1), dtype=torch.float32, device=x.device)


@triton_op("wan_mcp::modulate_quantize", mutates_args={})
def modulate_quantize(
    x: Tensor,
    temb: Tensor,
    scale_shift_table: Tensor,
    eps: float,
    shift: int,
    *,
    normalize: bool,
    gelu: bool,
    fp8: bool,
) -> tuple[Tensor, Tensor]:
    """See `FusedOps`."""
    tokens, width = x.shape[-2:]
    made, scales = _prepared(x, fp8=fp8)
    programs, step = _programs(tokens, shared=shift != NO_CHUNK)
    wrap_triton(_modulate_quantize_kernel)[(programs,)](
        x, x, temb, scale_shift_table, scale_shift_table, scale_shift_table, x, made, scales,
        tokens, N_COLS=width, BLOCK_N=triton.next_power_of_2(width), ROW_STEP=step, EPS=eps,
        TEMB_PER_TOKEN=temb.dim() == 4, ADD=False, GATE=NO_CHUNK, NORM=normalize, AFFINE=False,
        SHIFT=shift, GELU=gelu, STORE=True, QUANTIZE=fp8, num_warps=NUM_WARPS,
    )  # fmt: skip
    return made, scales


@triton_op("wan_mcp::residual_modulate_quantize", mutates_args={})
def residual_modulate_quantize(
    residual: Tensor, gemm: Tensor, temb: Tensor, scale_shift_table: Tensor, weight: Tensor, bias: Tensor, eps: float,
    gate: int, shift: int, *, normalize: bool, affine: bool, fp8: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """See `FusedOps`."""
    tokens, width = residual.shape[-2:]
    added = torch.empty_like(residual)
    made, scales = _prepared(residual, fp8=fp8)
    programs, step = _programs(tokens, shared=shift != NO_CHUNK or gate != NO_CHUNK or affine)
    wrap_triton(_modulate_quantize_kernel)[(programs,)](
        residual, gemm, temb, scale_shift_table, weight, bias, added, made, scales,
        tokens, N_COLS=width, BLOCK_N=triton.next_power_of_2(width), ROW_STEP=step, EPS=eps,
        TEMB_PER_TOKEN=temb.dim() == 4, ADD=True, GATE=gate, NORM=normalize, AFFINE=affine,
        SHIFT=shift, GELU=False, STORE=True, QUANTIZE=fp8, num_warps=NUM_WARPS,
    )  # fmt: skip
    return added, made, scales


@triton_op("wan_mcp::gated_residual", mutates_args={})
def gated_residual(residual: Tensor, gemm: Tensor, temb: Tensor, scale_shift_table: Tensor, gate: int) -> Tensor:
    """See `FusedOps`."""
    tokens, width = residual.shape[-2:]
    added = torch.empty_like(residual)
    programs, step = _programs(tokens, shared=gate != NO_CHUNK)
    wrap_triton(_modulate_quantize_kernel)[(programs,)](
        residual, gemm, temb, scale_shift_table, scale_shift_table, scale_shift_table, added, added, added,
        tokens, N_COLS=width, BLOCK_N=triton.next_power_of_2(width), ROW_STEP=step, EPS=0.0,
        TEMB_PER_TOKEN=temb.dim() == 4, ADD=True, GATE=gate, NORM=False, AFFINE=False,
        SHIFT=NO_CHUNK, GELU=False, STORE=False, QUANTIZE=False, num_warps=NUM_WARPS,
    )  # fmt: skip
    return added


@triton_op("wan_mcp::qk_rms_norm_rope", mutates_args={})
def qk_rms_norm_rope(
    x: Tensor, weights: list[Tensor], cos: Tensor, sin: Tensor, width: int, eps: float, *, rotate: bool
) -> Tensor:
    """See `FusedOps`."""
    tokens = x.shape[-2]
    out = torch.empty((len(weights), tokens, width), dtype=x.dtype, device=x.device)
    wrap_triton(_qk_rms_norm_rope_kernel)[(tokens, len(weights))](
        x, weights[0], weights[-1], cos, sin, out, tokens,
        STRIDE_T=x.stride(-2), N_COLS=width, BLOCK_N=triton.next_power_of_2(width), HALF_DIM=cos.shape[-1], EPS=eps,
        ROPE=rotate, num_warps=NUM_WARPS,
    )  # fmt: skip
    return out
