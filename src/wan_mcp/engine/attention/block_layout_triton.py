# mypy: disable-error-code="untyped-decorator, no-untyped-def"
"""Triton kernels around attention that leaves out blocks. Import it only where Triton is.

Tokens are taken in an order, into whole blocks, and brought back; a program works on one head of one batch (a pair).
"""

import triton
import triton.language as tl

__all__ = ["lay_kernel", "return_kernel", "score_kernel"]


@triton.jit
def lay_kernel(
    query, key, value, order, rotation, value_mean, laid_query, laid_key, laid_value, query_means, key_means,
    places, heads, factor,
    query_b, query_t, query_h, key_b, key_t, key_h, value_b, value_t, value_h,
    width: tl.constexpr, held: tl.constexpr, rounds: tl.constexpr,
):  # fmt: skip
    """Tokens in an order: queries and keys rotated, with the means of each `held` of them; values less their mean."""
    run, pair = tl.program_id(0), tl.program_id(1)
    batch, head = (pair // heads).to(tl.int64), pair % heads
    query += batch * query_b + head * query_h
    key += batch * key_b + head * key_h
    value += batch * value_b + head * value_h
    offset = pair.to(tl.int64) * places * width
    part_offset = pair.to(tl.int64) * (places // held) * width
    channel = tl.arange(0, width)
    turning = tl.load(rotation + channel[:, None] * width + channel[None, :])
    value_mean = tl.load(value_mean + pair * width + channel)[None, :]
    for turn in range(rounds):
        part = run * rounds + turn
        place = part * held + tl.arange(0, held)
        inside = place < places
        here = inside[:, None]
        rows = tl.load(order + place, mask=inside, other=0)[:, None]
        given = offset + place[:, None] * width + channel[None, :]
        means = part_offset + part * width + channel
        some = tl.load(query + rows * query_t + channel[None, :], mask=here, other=0.0).to(turning.dtype)
        some = tl.dot(some, turning) * factor
        tl.store(laid_query + given, some.to(laid_query.dtype.element_ty), mask=here)
        tl.store(query_means + means, tl.sum(some, 0) / held, mask=part * held < places)
        some = tl.load(key + rows * key_t + channel[None, :], mask=here, other=0.0).to(turning.dtype)
        some = tl.dot(some, turning) * factor
        tl.store(laid_key + given, some.to(laid_key.dtype.element_ty), mask=here)
        tl.store(key_means + means, tl.sum(some, 0) / held, mask=part * held < places)
        some = tl.load(value + rows * value_t + channel[None, :], mask=here, other=0.0).to(tl.float32)
        tl.store(laid_value + given, (some - value_mean).to(laid_value.dtype.element_ty), mask=here)


@triton.jit
def score_kernel(
    query_means, key_means, scores, blocks, factor,
    width: tl.constexpr, parts: tl.constexpr, held: tl.constexpr,
):  # fmt: skip
    """log Σ exp(query part · key part * factor) for each block of queries and each of keys, of `parts` parts each.

    A program has `held` blocks of queries; a block's score with itself is infinite.
    """
    first, pair = tl.program_id(0) * held, tl.program_id(1)
    channel = tl.arange(0, width)
    lines = tl.arange(0, held * parts)
    query_means += pair.to(tl.int64) * blocks * parts * width
    key_means += pair.to(tl.int64) * blocks * parts * width
    scores += pair.to(tl.int64) * blocks * blocks
    mine = first * parts + lines
    ours = tl.load(
        query_means + mine[:, None] * width + channel[None, :], mask=(mine < blocks * parts)[:, None], other=0.0
    )
    own = first + tl.arange(0, held)
    for start in range(0, blocks, held):
        line = start * parts + lines
        theirs = tl.load(
            key_means + line[:, None] * width + channel[None, :], mask=(line < blocks * parts)[:, None], other=0.0
        )
        some = tl.reshape(tl.dot(ours, tl.trans(theirs)) * factor, (held, parts, held, parts))
        most = tl.max(tl.max(some, 3), 1)
        total = tl.sum(tl.sum(tl.exp(some - most[:, None, :, None]), 3), 1)
        other = start + tl.arange(0, held)
        found = tl.where(own[:, None] == other[None, :], float("inf"), most + tl.log(total))
        inside = (own < blocks)[:, None] & (other < blocks)[None, :]
        tl.store(scores + own[:, None] * blocks + other[None, :], found, mask=inside)


@triton.jit
def return_kernel(
    laid, places, value_mean, output,
    length, tokens, heads, out_b, out_t, out_h,
    width: tl.constexpr, held: tl.constexpr, rounds: tl.constexpr,
):  # fmt: skip
    """The output by token again, plus the values' mean; `length` is that of the laid sequence."""
    run, pair = tl.program_id(0), tl.program_id(1)
    batch, head = (pair // heads).to(tl.int64), pair % heads
    laid += pair.to(tl.int64) * length * width
    output += batch * out_b + head * out_h
    channel = tl.arange(0, width)
    value_mean = tl.load(value_mean + pair * width + channel)[None, :]
    for turn in range(rounds):
        token = (run * rounds + turn) * held + tl.arange(0, held)
        inside = token < tokens
        here = inside[:, None]
        rows = tl.load(places + token, mask=inside, other=0)[:, None]
        some = tl.load(laid + rows * width + channel[None, :], mask=here, other=0.0).to(tl.float32) + value_mean
        given = token.to(tl.int64)[:, None] * out_t + channel[None, :]
        tl.store(output + given, some.to(output.dtype.element_ty), mask=here)
