"""What lies between a block's matrix products, on a GPU: one pass over memory each, in Triton.

A row is a token's channels. Every kernel reads a row once, keeps it in registers and writes what the next product
takes; `rows.py` says in plain torch what each computes. Imported only where there is Triton and a GPU.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton

from wan_mcp.engine.ops import fp8_linear as linear

__all__ = ["gated_residual", "modulate_quantize", "qk_rms_norm_rope", "residual_modulate_quantize"]

FP8_MAX = tl.constexpr(linear.FP8_MAX)
MIN_SCALE = tl.constexpr(linear.MIN_SCALE)
NONE = -1


@triton.jit
def _one_row(
    row, residual, product, times, out_residual, out_rows, out_scales, columns, inside, shared_gate, multiplier, addend,
    WIDTH: tl.constexpr, EPS: tl.constexpr, PER_TOKEN: tl.constexpr, ADD: tl.constexpr, GATE: tl.constexpr,
    NORMALISE: tl.constexpr, AFFINE: tl.constexpr, SHIFT: tl.constexpr, GELU: tl.constexpr, PREPARE: tl.constexpr,
    FP8: tl.constexpr,
):  # fmt: skip
    at = row * WIDTH + columns
    x = tl.load(residual + at, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        y = tl.load(product + at, mask=inside, other=0.0).to(tl.float32)
        if GATE >= 0:
            gate = shared_gate
            if PER_TOKEN:
                gate += tl.load(times + row * (6 * WIDTH) + GATE * WIDTH + columns, mask=inside, other=0.0)
            y = y * gate
        added = (x + y).to(out_residual.dtype.element_ty)
        tl.store(out_residual + at, added, mask=inside)
        x = added.to(tl.float32)
    if NORMALISE:
        x = tl.where(inside, x - tl.sum(x, 0) / WIDTH, 0.0)
        x = x * tl.rsqrt(tl.sum(x * x, 0) / WIDTH + EPS)
    if SHIFT >= 0:
        if PER_TOKEN:
            own = times + row * (6 * WIDTH) + SHIFT * WIDTH + columns
            multiplier += tl.load(own + WIDTH, mask=inside, other=0.0)
            addend += tl.load(own, mask=inside, other=0.0)
        x = x * multiplier + addend
    if AFFINE:
        x = x * multiplier + addend
    if GELU:
        if FP8:
            # One instruction, right to 11 bits, of which rounding keeps 4.
            half, u = 0.5 * x, x * (0.7978845608028654 + 0.035677408136300125 * (x * x))
            x = half + half * tl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=f,f", [u], tl.float32, True, 1)
        else:
            # tanh(u) = 1 - 2 / (1 + exp(2u)), so half of (1 + tanh(u)) is 1 / (1 + exp(-2u)).
            x = x / (1.0 + tl.exp(-1.5957691216057308 * (x + 0.044715 * x * x * x)))
    if PREPARE:
        if FP8:
            unit = tl.maximum(tl.max(tl.abs(x), 0) / FP8_MAX, MIN_SCALE)
            x = x * (1.0 / unit)  # converting keeps what rounding put above the largest number at that
            tl.store(out_scales + row, unit)
        tl.store(out_rows + at, x.to(out_rows.dtype.element_ty), mask=inside)


@triton.jit
def _rows_kernel(
    residual, product, times, table, weight, bias, out_residual, out_rows, out_scales, tokens,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, PROGRAMS: tl.constexpr, EPS: tl.constexpr, PER_TOKEN: tl.constexpr,
    ADD: tl.constexpr, GATE: tl.constexpr, NORMALISE: tl.constexpr, AFFINE: tl.constexpr, SHIFT: tl.constexpr,
    GELU: tl.constexpr, PREPARE: tl.constexpr, FP8: tl.constexpr,
):  # fmt: skip
    columns = tl.arange(0, BLOCK)
    inside = columns < WIDTH
    shared_gate, multiplier, addend = 0.0, 0.0, 0.0
    # What all rows share is read once for all the rows of a program.
    if GATE >= 0:
        shared_gate = tl.load(table + GATE * WIDTH + columns, mask=inside, other=0.0)
        if not PER_TOKEN:
            shared_gate += tl.load(times + GATE * WIDTH + columns, mask=inside, other=0.0)
    if SHIFT >= 0:
        addend = tl.load(table + SHIFT * WIDTH + columns, mask=inside, other=0.0)
        multiplier = 1.0 + tl.load(table + (SHIFT + 1) * WIDTH + columns, mask=inside, other=0.0)
        if not PER_TOKEN:
            addend += tl.load(times + SHIFT * WIDTH + columns, mask=inside, other=0.0)
            multiplier += tl.load(times + (SHIFT + 1) * WIDTH + columns, mask=inside, other=0.0)
    if AFFINE:
        addend = tl.load(bias + columns, mask=inside, other=0.0)
        multiplier = tl.load(weight + columns, mask=inside, other=0.0)
    mine = tl.program_id(0)
    if PROGRAMS:
        for further in range(0, tokens - mine, PROGRAMS):
            _one_row(
                mine.to(tl.int64) + further, residual, product, times, out_residual, out_rows, out_scales, columns,
                inside, shared_gate, multiplier, addend,
                WIDTH, EPS, PER_TOKEN, ADD, GATE, NORMALISE, AFFINE, SHIFT, GELU, PREPARE, FP8,
            )  # fmt: skip
    else:
        _one_row(
            mine.to(tl.int64), residual, product, times, out_residual, out_rows, out_scales, columns,
            inside, shared_gate, multiplier, addend,
            WIDTH, EPS, PER_TOKEN, ADD, GATE, NORMALISE, AFFINE, SHIFT, GELU, PREPARE, FP8,
        )  # fmt: skip


@triton.jit
def _heads_kernel(
    rows,
    weight,
    other_weight,
    cos,
    sin,
    out,
    tokens,
    ROW_STRIDE: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    HALF: tl.constexpr,
    EPS: tl.constexpr,
    ROTATE: tl.constexpr,
):
    row, part = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < WIDTH
    x = tl.load(rows + row * ROW_STRIDE + part * WIDTH + columns, mask=inside, other=0.0).to(tl.float32)
    if part == 0:
        factor = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    else:
        factor = tl.load(other_weight + columns, mask=inside, other=0.0).to(tl.float32)
    x = x * tl.rsqrt(tl.sum(x * x, 0) / WIDTH + EPS) * factor
    if ROTATE:
        first, second = tl.split(tl.reshape(x, (BLOCK // 2, 2)))
        angle = row * HALF + tl.arange(0, BLOCK // 2) % HALF
        c, s = tl.load(cos + angle), tl.load(sin + angle)
        x = tl.reshape(tl.join(first * c - second * s, first * s + second * c), (BLOCK,))
    # Multiples of the width, so that the compiler sees that rows begin where wide stores may.
    tl.store(out + (part * tokens + row) * WIDTH + columns, x.to(out.dtype.element_ty), mask=inside)


WARPS = 4
PROGRAMS = 2048
"""That share all rows: enough for every GPU, few enough that each has many rows to share what they have in common."""


def _programs(tokens: int, *shared: bool) -> tuple[int, int]:
    """How many programs to start, and by how many rows each goes on; 0 where each has just one."""
    return (PROGRAMS, PROGRAMS) if any(shared) else (tokens, 0)


def _prepared(rows: Tensor, fp8: bool, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    tokens, width = rows.shape[-2:]
    made = torch.empty((tokens, width), dtype=torch.float8_e4m3fn if fp8 else dtype, device=rows.device)
    return made, torch.empty((tokens if fp8 else 0, 1), dtype=torch.float32, device=rows.device)


@triton_op("wan_mcp::modulate_quantize", mutates_args={})
def modulate_quantize(
    rows: Tensor, times: Tensor, table: Tensor, eps: float, shift: int, normalize: bool, gelu: bool, fp8: bool
) -> tuple[Tensor, Tensor]:
    """Rows (1, tokens, n), normalized, modulated and put through GELU as told, for the next product.

    Gives (tokens, n) in e4m3 and scales (tokens, 1), or in the rows' dtype and no scales. `shift` is the line of
    `times` (1, 6, n) or (1, tokens, 6, n) plus `table` (1, 6, n) that is added, the next one scales; -1 for neither.
    """
    tokens, width = rows.shape[-2:]
    made, scales = _prepared(rows, fp8, rows.dtype)
    programs, step = _programs(tokens, shift != NONE)
    wrap_triton(_rows_kernel)[(programs,)](
        rows, rows, times, table, table, table, rows, made, scales,
        tokens, WIDTH=width, BLOCK=triton.next_power_of_2(width), PROGRAMS=step, EPS=eps,
        PER_TOKEN=times.dim() == 4, ADD=False, GATE=NONE, NORMALISE=normalize, AFFINE=False,
        SHIFT=shift, GELU=gelu, PREPARE=True, FP8=fp8, num_warps=WARPS,
    )  # fmt: skip
    return made, scales


@triton_op("wan_mcp::residual_modulate_quantize", mutates_args={})
def residual_modulate_quantize(
    residual: Tensor, product: Tensor, times: Tensor, table: Tensor, weight: Tensor, bias: Tensor, eps: float,
    gate: int, shift: int, normalize: bool, affine: bool, fp8: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """`residual` plus the product times its gate, and that sum prepared like `modulate_quantize` does.

    `weight` and `bias` (n) are those of the normalization where `affine` is true.
    """
    tokens, width = residual.shape[-2:]
    added = torch.empty_like(residual)
    made, scales = _prepared(residual, fp8, residual.dtype)
    programs, step = _programs(tokens, shift != NONE, gate != NONE, affine)
    wrap_triton(_rows_kernel)[(programs,)](
        residual, product, times, table, weight, bias, added, made, scales,
        tokens, WIDTH=width, BLOCK=triton.next_power_of_2(width), PROGRAMS=step, EPS=eps,
        PER_TOKEN=times.dim() == 4, ADD=True, GATE=gate, NORMALISE=normalize, AFFINE=affine,
        SHIFT=shift, GELU=False, PREPARE=True, FP8=fp8, num_warps=WARPS,
    )  # fmt: skip
    return added, made, scales


@triton_op("wan_mcp::gated_residual", mutates_args={})
def gated_residual(residual: Tensor, product: Tensor, times: Tensor, table: Tensor, gate: int) -> Tensor:
    """`residual` plus the product times its gate."""
    tokens, width = residual.shape[-2:]
    added = torch.empty_like(residual)
    programs, step = _programs(tokens, gate != NONE)
    wrap_triton(_rows_kernel)[(programs,)](
        residual, product, times, table, table, table, added, added, added,
        tokens, WIDTH=width, BLOCK=triton.next_power_of_2(width), PROGRAMS=step, EPS=0.0,
        PER_TOKEN=times.dim() == 4, ADD=True, GATE=gate, NORMALISE=False, AFFINE=False,
        SHIFT=NONE, GELU=False, PREPARE=False, FP8=False, num_warps=WARPS,
    )  # fmt: skip
    return added


@triton_op("wan_mcp::qk_rms_norm_rope", mutates_args={})
def qk_rms_norm_rope(
    rows: Tensor, weights: list[Tensor], cos: Tensor, sin: Tensor, width: int, eps: float, rotate: bool
) -> Tensor:
    """The first parts of rows (1, tokens, n), each `width` wide, in root mean square norm and turned by their angles.

    Gives (parts, tokens, width), as many parts as there are `weights` (width), one or two.
    """
    tokens = rows.shape[-2]
    out = torch.empty((len(weights), tokens, width), dtype=rows.dtype, device=rows.device)
    wrap_triton(_heads_kernel)[(tokens, len(weights))](
        rows, weights[0], weights[-1], cos, sin, out, tokens,
        ROW_STRIDE=rows.stride(-2), WIDTH=width, BLOCK=triton.next_power_of_2(width), HALF=cos.shape[-1], EPS=eps,
        ROTATE=rotate, num_warps=WARPS,
    )  # fmt: skip
    return out
