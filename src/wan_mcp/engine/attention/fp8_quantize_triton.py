# mypy: disable-error-code="untyped-decorator, no-untyped-def"
"""Triton kernels that bring queries, keys and values to FP8 and the output back. Import it only where Triton is.

A program works on one head of one batch (a pair) and, but for `settle_kernel`, on a run of tokens: `held` at once,
`rounds` times.
"""

import triton
import triton.language as tl

from wan_mcp.engine.attention import fp8_quantize as rounding
from wan_mcp.engine.ops import fp8_linear as linear

__all__ = ["cast_kernel", "restore_kernel", "settle_kernel", "survey_kernel"]

FP8_MAX = tl.constexpr(linear.FP8_MAX)
MIN_AMAX = tl.constexpr(rounding.MIN_AMAX)


@triton.jit
def survey_kernel(
    query, key, value, sums, norms,
    tokens, heads,
    query_b, query_t, query_h, key_b, key_t, key_h, value_b, value_t, value_h,
    width: tl.constexpr, held: tl.constexpr, rounds: tl.constexpr,
):  # fmt: skip
    """For each run of tokens: sums of keys and values, the values' extremes, the largest squared norms."""
    run, pair = tl.program_id(0), tl.program_id(1)
    batch, head = (pair // heads).to(tl.int64), pair % heads
    query += batch * query_b + head * query_h
    key += batch * key_b + head * key_h
    value += batch * value_b + head * value_h
    channel = tl.arange(0, width)
    key_sum = tl.zeros([width], tl.float32)
    value_sum = tl.zeros([width], tl.float32)
    top = tl.full([width], -float("inf"), tl.float32)
    bottom = tl.full([width], float("inf"), tl.float32)
    query_norm = tl.zeros([held], tl.float32)
    key_norm = tl.zeros([held], tl.float32)
    for turn in range(rounds):
        rows = (run * rounds + turn) * held + tl.arange(0, held)
        here = (rows < tokens)[:, None]
        rows = rows.to(tl.int64)[:, None]
        some = tl.load(query + rows * query_t + channel[None, :], mask=here, other=0.0).to(tl.float32)
        query_norm = tl.maximum(query_norm, tl.sum(some * some, 1))
        some = tl.load(key + rows * key_t + channel[None, :], mask=here, other=0.0).to(tl.float32)
        key_norm = tl.maximum(key_norm, tl.sum(some * some, 1))
        key_sum += tl.sum(some, 0)
        some = tl.load(value + rows * value_t + channel[None, :], mask=here, other=0.0).to(tl.float32)
        value_sum += tl.sum(some, 0)
        top = tl.maximum(top, tl.max(tl.where(here, some, -float("inf")), 0))
        bottom = tl.minimum(bottom, tl.min(tl.where(here, some, float("inf")), 0))
    place = run * tl.num_programs(1) + pair
    sums += place * 4 * width + channel
    tl.store(sums, key_sum)
    tl.store(sums + width, value_sum)
    tl.store(sums + 2 * width, top)
    tl.store(sums + 3 * width, bottom)
    tl.store(norms + place * 2, tl.max(query_norm, 0))
    tl.store(norms + place * 2 + 1, tl.max(key_norm, 0))


@triton.jit
def settle_kernel(
    sums, norms, rotation, turned_mean, value_mean, value_scale, bounds,
    runs, tokens, range_of_values,
    width: tl.constexpr, held: tl.constexpr,
):  # fmt: skip
    """From all runs of a pair: the keys' mean, rotated; the values' mean and scale; bounds of queries and keys."""
    pair, pairs = tl.program_id(0), tl.num_programs(0)
    channel = tl.arange(0, width)
    key_sum = tl.zeros([width], tl.float32)
    value_sum = tl.zeros([width], tl.float32)
    top = tl.full([width], -float("inf"), tl.float32)
    bottom = tl.full([width], float("inf"), tl.float32)
    query_norm = tl.zeros([held], tl.float32)
    key_norm = tl.zeros([held], tl.float32)
    for first in range(0, runs, held):
        run = first + tl.arange(0, held)
        here = run < runs
        place = run * pairs + pair
        some = sums + place[:, None] * 4 * width + channel[None, :]
        key_sum += tl.sum(tl.load(some, mask=here[:, None], other=0.0), 0)
        value_sum += tl.sum(tl.load(some + width, mask=here[:, None], other=0.0), 0)
        top = tl.maximum(top, tl.max(tl.load(some + 2 * width, mask=here[:, None], other=-float("inf")), 0))
        bottom = tl.minimum(bottom, tl.min(tl.load(some + 3 * width, mask=here[:, None], other=float("inf")), 0))
        query_norm = tl.maximum(query_norm, tl.load(norms + place * 2, mask=here, other=0.0))
        key_norm = tl.maximum(key_norm, tl.load(norms + place * 2 + 1, mask=here, other=0.0))
    key_mean = key_sum / tokens
    mean = value_sum / tokens
    reach = tl.maximum(tl.maximum(top - mean, mean - bottom), MIN_AMAX)
    square = tl.load(rotation + channel[:, None] * width + channel[None, :]).to(tl.float32)
    tl.store(turned_mean + pair * width + channel, tl.sum(key_mean[:, None] * square, 0))
    tl.store(value_mean + pair * width + channel, mean)
    tl.store(value_scale + pair * width + channel, reach / range_of_values)
    tl.store(bounds + pair * 2, tl.sqrt(tl.max(query_norm, 0)))
    # Taking the mean away can lengthen a key by no more than the mean's own length.
    tl.store(bounds + pair * 2 + 1, tl.sqrt(tl.max(key_norm, 0)) + tl.sqrt(tl.sum(key_mean * key_mean, 0)))


@triton.jit
def cast_kernel(
    query, key, value, rotation, turned_mean, value_mean, value_scale, bounds, query8, key8, value8, scales,
    tokens, heads, root,
    query_b, query_t, query_h, key_b, key_t, key_h, value_b, value_t, value_h, out_b, out_t, out_h,
    width: tl.constexpr, held: tl.constexpr, rounds: tl.constexpr, pairs: tl.constexpr,
):  # fmt: skip
    """Queries and keys rotated, keys and values less their means, each over its scale, in e4m3; and these scales.

    `pairs` is their number rounded up to a power of two, `root` that of the width: the rotation's norm.
    """
    run, pair = tl.program_id(0), tl.program_id(1)
    batch, head = (pair // heads).to(tl.int64), pair % heads
    query += batch * query_b + head * query_h
    key += batch * key_b + head * key_h
    value += batch * value_b + head * value_h
    offset = batch * out_b + head * out_h
    channel = tl.arange(0, width)
    turning = tl.load(rotation + channel[:, None] * width + channel[None, :])
    turned_mean = tl.load(turned_mean + pair * width + channel)[None, :]
    value_mean = tl.load(value_mean + pair * width + channel)[None, :]
    value_factor = 1.0 / tl.load(value_scale + pair * width + channel)[None, :]
    every = tl.arange(0, pairs)
    known = every < tl.num_programs(1)
    query_scale = tl.maximum(tl.max(tl.load(bounds + every * 2, mask=known, other=0.0), 0), MIN_AMAX) / FP8_MAX
    key_scale = tl.maximum(tl.max(tl.load(bounds + every * 2 + 1, mask=known, other=0.0), 0), MIN_AMAX) / FP8_MAX
    if run + pair == 0:
        tl.store(scales, query_scale)
        tl.store(scales + 1, key_scale)
    query_factor = 1.0 / (query_scale * root)
    key_factor = 1.0 / (key_scale * root)
    for turn in range(rounds):
        rows = (run * rounds + turn) * held + tl.arange(0, held)
        here = (rows < tokens)[:, None]
        rows = rows.to(tl.int64)[:, None]
        places = offset + rows * out_t + channel[None, :]
        some = tl.load(query + rows * query_t + channel[None, :], mask=here, other=0.0).to(turning.dtype)
        some = tl.dot(some, turning) * query_factor
        tl.store(query8 + places, tl.clamp(some, -FP8_MAX, FP8_MAX).to(tl.float8e4nv), mask=here)
        some = tl.load(key + rows * key_t + channel[None, :], mask=here, other=0.0).to(turning.dtype)
        some = (tl.dot(some, turning) - turned_mean) * key_factor
        tl.store(key8 + places, tl.clamp(some, -FP8_MAX, FP8_MAX).to(tl.float8e4nv), mask=here)
        some = tl.load(value + rows * value_t + channel[None, :], mask=here, other=0.0).to(tl.float32)
        some = (some - value_mean) * value_factor
        tl.store(value8 + places, tl.clamp(some, -FP8_MAX, FP8_MAX).to(tl.float8e4nv), mask=here)


@triton.jit
def restore_kernel(
    output8, value_mean, value_scale, output,
    tokens, heads,
    in_b, in_t, in_h, out_b, out_t, out_h,
    width: tl.constexpr, held: tl.constexpr, rounds: tl.constexpr,
):  # fmt: skip
    """The e4m3 output times the values' scales, plus their means."""
    run, pair = tl.program_id(0), tl.program_id(1)
    batch, head = (pair // heads).to(tl.int64), pair % heads
    output8 += batch * in_b + head * in_h
    output += batch * out_b + head * out_h
    channel = tl.arange(0, width)
    value_mean = tl.load(value_mean + pair * width + channel)[None, :]
    value_scale = tl.load(value_scale + pair * width + channel)[None, :]
    for turn in range(rounds):
        rows = (run * rounds + turn) * held + tl.arange(0, held)
        here = (rows < tokens)[:, None]
        rows = rows.to(tl.int64)[:, None]
        some = tl.load(output8 + rows * in_t + channel[None, :], mask=here, other=0.0).to(tl.float32)
        some = some * value_scale + value_mean
        tl.store(output + rows * out_t + channel[None, :], some.to(output.dtype.element_ty), mask=here)
