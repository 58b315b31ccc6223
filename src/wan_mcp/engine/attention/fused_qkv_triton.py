# mypy: disable-error-code="untyped-decorator, no-untyped-def"
"""Triton kernels from the product of query, key and value to e4m3, and from e4m3 to the next product's rows.

A row is a token's channels: of query, key and value, one after the other, in the product; of all heads elsewhere. A
program works on `held` tokens at once, `rounds` times, and on `group` heads of them at once or on `columns` channels;
it has `ahead` loads on their way.
Import it only where Triton is.
"""

import triton
import triton.language as tl

from wan_mcp.engine.attention import fp8_quantize as rounding
from wan_mcp.engine.ops import fp8_linear as linear

__all__ = ["cast_heads_kernel", "cast_values_kernel", "rows_kernel", "sample_kernel", "settle_jointly_kernel",
           "survey_values_kernel"]  # fmt: skip

FP8_MAX = tl.constexpr(linear.FP8_MAX)
MIN_AMAX = tl.constexpr(rounding.MIN_AMAX)
MIN_SCALE = tl.constexpr(linear.MIN_SCALE)


@triton.jit
def _loaded(rows, here, first, heads: tl.constexpr, width: tl.constexpr, group: tl.constexpr):
    """The heads from `first` of rows (held) of pointers, as (held, group, width) float32."""
    head = first + tl.arange(0, group)
    column = (head * width)[None, :, None] + tl.arange(0, width)[None, None, :]
    inside = here[:, None, None] & (head < heads)[None, :, None]
    return tl.load(rows[:, None, None] + column, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _one_over_root(
    rows, here, eps,
    heads: tl.constexpr, width: tl.constexpr, held: tl.constexpr, group: tl.constexpr, ahead: tl.constexpr,
):  # fmt: skip
    """What brings each row (held) to a root mean square of one."""
    squares = tl.zeros([held, group, width], tl.float32)
    for first in tl.range(0, heads, group, num_stages=ahead):
        some = _loaded(rows, here, first, heads, width, group)
        squares += some * some
    return tl.rsqrt(tl.sum(tl.sum(squares, 2), 1) / (heads * width) + eps)


@triton.jit
def _turned(
    rows, here, first, weight, cos, sin,
    heads: tl.constexpr, width: tl.constexpr, held: tl.constexpr, group: tl.constexpr,
):  # fmt: skip
    """The heads from `first` times the channels' weights, turned by (held, 1, width / 2), which may hold factors."""
    head = first + tl.arange(0, group)
    column = (head * width)[:, None] + tl.arange(0, width)[None, :]
    weights = tl.load(weight + column, mask=(head < heads)[:, None], other=0.0).to(tl.float32)
    some = _loaded(rows, here, first, heads, width, group) * weights[None, :, :]
    one, other = tl.split(tl.reshape(some, (held, group, width // 2, 2)))
    return tl.reshape(tl.join(one * cos - other * sin, one * sin + other * cos), (held, group, width))


@triton.jit
def sample_kernel(
    product, weight, cos, sin, sums, tokens, stride, every, eps,
    heads: tl.constexpr, width: tl.constexpr, held: tl.constexpr, group: tl.constexpr, ahead: tl.constexpr,
):  # fmt: skip
    """Sums of keys, normalized and turned, over `held` of the tokens that are `every` so many."""
    run = tl.program_id(0)
    token = (run.to(tl.int64) * held + tl.arange(0, held)) * every
    here = token < tokens
    rows = product + token * stride + heads * width
    angle = token[:, None, None] * (width // 2) + tl.arange(0, width // 2)[None, None, :]
    factor = _one_over_root(rows, here, eps, heads, width, held, group, ahead)[:, None, None]
    cos = tl.load(cos + angle, mask=here[:, None, None], other=0.0) * factor
    sin = tl.load(sin + angle, mask=here[:, None, None], other=0.0) * factor
    channel = tl.arange(0, width)
    for first in tl.range(0, heads, group, num_stages=ahead):
        some = _turned(rows, here, first, weight, cos, sin, heads, width, held, group)
        head = first + tl.arange(0, group)
        places = run * (heads * width) + (head * width)[:, None] + channel[None, :]
        tl.store(sums + places, tl.sum(some, 0), mask=(head < heads)[:, None])


@triton.jit
def survey_values_kernel(
    product, sums, tokens, stride, full,
    columns: tl.constexpr, held: tl.constexpr, rounds: tl.constexpr, ahead: tl.constexpr,
):  # fmt: skip
    """For each run of tokens: the values' sums and extremes."""
    run = tl.program_id(0)
    column = tl.program_id(1) * columns + tl.arange(0, columns)
    known = column < full
    total = tl.zeros([columns], tl.float32)
    top = tl.full([columns], -float("inf"), tl.float32)
    bottom = tl.full([columns], float("inf"), tl.float32)
    for turn in tl.range(0, rounds, num_stages=ahead):
        token = (run * rounds + turn) * held + tl.arange(0, held)
        here = (token < tokens)[:, None] & known[None, :]
        rows = product + token.to(tl.int64)[:, None] * stride + 2 * full
        some = tl.load(rows + column[None, :], mask=here, other=0.0).to(tl.float32)
        total += tl.sum(some, 0)
        top = tl.maximum(top, tl.max(tl.where(here, some, -float("inf")), 0))
        bottom = tl.minimum(bottom, tl.min(tl.where(here, some, float("inf")), 0))
    sums += run * 3 * full + column
    tl.store(sums, total, mask=known)
    tl.store(sums + full, top, mask=known)
    tl.store(sums + 2 * full, bottom, mask=known)


@triton.jit
def settle_jointly_kernel(
    key_sums, value_sums, query_norm, key_norm, weights, means, value_mean, value_scale, bounds,
    key_runs, value_runs, sampled, tokens, range_of_values, root, full, width: tl.constexpr, held: tl.constexpr,
):  # fmt: skip
    """From all runs, for one head: what is taken from keys and values, the values' scale, bounds of queries and keys.

    `weights` and `means` (2, full) get those of queries and of keys, side by side, so that both can be cast alike.
    """
    channel = tl.program_id(0) * width + tl.arange(0, width)
    key_sum = tl.zeros([width], tl.float32)
    for first in range(0, key_runs, held):
        run = first + tl.arange(0, held)
        some = key_sums + run[:, None] * full + channel[None, :]
        key_sum += tl.sum(tl.load(some, mask=(run < key_runs)[:, None], other=0.0), 0)
    total = tl.zeros([width], tl.float32)
    top = tl.full([width], -float("inf"), tl.float32)
    bottom = tl.full([width], float("inf"), tl.float32)
    for first in range(0, value_runs, held):
        run = first + tl.arange(0, held)
        here = (run < value_runs)[:, None]
        some = value_sums + run[:, None] * 3 * full + channel[None, :]
        total += tl.sum(tl.load(some, mask=here, other=0.0), 0)
        top = tl.maximum(top, tl.max(tl.load(some + full, mask=here, other=-float("inf")), 0))
        bottom = tl.minimum(bottom, tl.min(tl.load(some + 2 * full, mask=here, other=float("inf")), 0))
    key_mean = key_sum / sampled
    query_weight = tl.load(query_norm + channel).to(tl.float32)
    key_weight = tl.load(key_norm + channel).to(tl.float32)
    tl.store(weights + channel, query_weight)
    tl.store(weights + full + channel, key_weight)
    tl.store(means + channel, tl.zeros([width], tl.float32))
    tl.store(means + full + channel, key_mean)
    mean = total / tokens
    reach = tl.maximum(tl.maximum(top - mean, mean - bottom), MIN_AMAX)
    tl.store(value_mean + channel, mean)
    tl.store(value_scale + channel, reach / range_of_values)
    bounds += tl.program_id(0) * 2
    tl.store(bounds, root * tl.max(tl.abs(query_weight), 0))
    # Taking the mean away can lengthen a key by no more than the mean's own length.
    tl.store(bounds + 1, root * tl.max(tl.abs(key_weight), 0) + tl.sqrt(tl.sum(key_mean * key_mean, 0)))


@triton.jit
def cast_heads_kernel(
    product, weights, means, cos, sin, rotation, bounds, made, scales, tokens, stride, eps, root,
    heads: tl.constexpr, width: tl.constexpr, held: tl.constexpr, rounds: tl.constexpr, group: tl.constexpr,
    ahead: tl.constexpr, pairs: tl.constexpr,
):  # fmt: skip
    """Queries, or keys less their mean: normalized, turned, rotated, over their scale, in e4m3; and that scale.

    Programs of even numbers have queries, the others keys. `pairs` are the heads rounded up to a power of two, `root`
    is that of the width: the rotation's norm. Rows are read twice, but only once from far away.
    """
    part = tl.program_id(0) % 2
    run = tl.program_id(0) // 2
    full: tl.constexpr = heads * width
    weights += part * full
    means += part * full
    every = tl.arange(0, pairs)
    bound = tl.max(tl.load(bounds + every * 2 + part, mask=every < heads, other=0.0), 0)
    scale = tl.maximum(bound, MIN_AMAX) / FP8_MAX
    if run == 0:
        tl.store(scales + part, scale)
    wanted = 1.0 / (scale * root)
    channel = tl.arange(0, width)
    turning = tl.load(rotation + channel[:, None] * width + channel[None, :])
    line = tl.arange(0, held * group)
    made += (part * full).to(tl.int64) * tokens
    for turn in range(rounds):
        start = (run * rounds + turn).to(tl.int64) * held
        token = start + tl.arange(0, held)
        here = token < tokens
        rows = product + token * stride + part * full
        angle = token[:, None, None] * (width // 2) + tl.arange(0, width // 2)[None, None, :]
        factor = _one_over_root(rows, here, eps, heads, width, held, group, ahead)[:, None, None] * wanted
        c = tl.load(cos + angle, mask=here[:, None, None], other=0.0) * factor
        s = tl.load(sin + angle, mask=here[:, None, None], other=0.0) * factor
        there = start + line // group
        for first in range(0, heads, group):
            some = _turned(rows, here, first, weights, c, s, heads, width, held, group)
            head = first + tl.arange(0, group)
            column = (head * width)[:, None] + channel[None, :]
            mean = tl.load(means + column, mask=(head < heads)[:, None], other=0.0) * wanted
            some = tl.reshape(some - mean[None, :, :], (held * group, width)).to(turning.dtype)
            some = tl.clamp(tl.dot(some, turning), -FP8_MAX, FP8_MAX).to(tl.float8e4nv)
            whose = first + line % group
            places = (there * full + whose * width)[:, None] + channel[None, :]
            tl.store(made + places, some, mask=((there < tokens) & (whose < heads))[:, None])


@triton.jit
def cast_values_kernel(
    product, value_mean, value_scale, made, tokens, stride, full,
    columns: tl.constexpr, held: tl.constexpr, rounds: tl.constexpr, ahead: tl.constexpr,
):  # fmt: skip
    """Values less their mean, over their scale, in e4m3."""
    run = tl.program_id(0)
    column = tl.program_id(1) * columns + tl.arange(0, columns)
    known = column < full
    mean = tl.load(value_mean + column, mask=known, other=0.0)[None, :]
    factor = 1.0 / tl.load(value_scale + column, mask=known, other=1.0)[None, :]
    for turn in tl.range(0, rounds, num_stages=ahead):
        token = (run * rounds + turn) * held + tl.arange(0, held)
        here = (token < tokens)[:, None] & known[None, :]
        rows = token.to(tl.int64)[:, None]
        some = tl.load(product + rows * stride + 2 * full + column[None, :], mask=here, other=0.0).to(tl.float32)
        some = tl.clamp((some - mean) * factor, -FP8_MAX, FP8_MAX)
        tl.store(made + rows * full + column[None, :], some.to(tl.float8e4nv), mask=here)


@triton.jit
def rows_kernel(
    output, value_mean, value_scale, rows, scales, tokens,
    full: tl.constexpr, block: tl.constexpr, rounds: tl.constexpr, ahead: tl.constexpr,
):  # fmt: skip
    """The output times the values' scales, plus their means, as e4m3 rows with a scale each."""
    column = tl.arange(0, block)
    inside = column < full
    # Read once for all the rows of a program.
    mean = tl.load(value_mean + column, mask=inside, other=0.0)
    value_scale = tl.load(value_scale + column, mask=inside, other=0.0)
    start = tl.program_id(0).to(tl.int64) * rounds
    for turn in tl.range(0, rounds, num_stages=ahead):
        row = start + turn
        here = inside & (row < tokens)
        some = tl.load(output + row * full + column, mask=here, other=0.0).to(tl.float32) * value_scale + mean
        unit = tl.maximum(tl.max(tl.abs(some), 0) / FP8_MAX, MIN_SCALE)
        some *= 1.0 / unit  # converting keeps what rounding put above the largest number at that
        tl.store(rows + row * full + column, some.to(rows.dtype.element_ty), mask=here)
        tl.store(scales + row, unit, mask=row < tokens)
