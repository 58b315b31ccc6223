"""The K-quants of GGUF, written by hand: 256 weights to a block, each 16 or 32 of them with a scale of few bits.

The library reads them and cannot write them. The layouts are those of ggml-common.h (block_q4_K, block_q5_K,
block_q6_K); scales are chosen in the plainest way, so errors are a little above those of the world's files.
"""

from typing import Any

import numpy

__all__ = ["K_QUANTS", "decoded", "encode"]

BLOCK = 256
SMALLEST = 6.2e-5
"""The scale of a block of zeros: the smallest number that float16 holds with all its digits."""
K_QUANTS = ("Q4_K", "Q5_K", "Q6_K")

Parts = tuple[Any, ...]


def encode(weights: Any, kind: str) -> Any:
    """Rows of weights (n, 256 k) as the bytes of their blocks (n, bytes)."""
    blocks = weights.astype(numpy.float32).reshape(-1, BLOCK)
    packed = _pack_6(*_six_bits(blocks)) if kind == "Q6_K" else _pack_45(kind, *_with_minima(blocks, kind))
    return packed.reshape(len(weights), -1)


def decoded(weights: Any, kind: str) -> Any:
    """What `encode` means, in float32, worked out from its scales and numbers and not from its bytes."""
    blocks = weights.astype(numpy.float32).reshape(-1, BLOCK)
    if kind == "Q6_K":
        d, scales, numbers = _six_bits(blocks)
        means = (_half(d) * scales)[..., None] * numbers
    else:
        d, least, scales, minima, numbers = _with_minima(blocks, kind)
        means = (_half(d) * scales)[..., None] * numbers - (_half(least) * minima)[..., None]
    return means.astype(numpy.float32).reshape(weights.shape)


def _half(numbers: Any) -> Any:
    return numbers.astype(numpy.float16).astype(numpy.float32)


def _with_minima(blocks: Any, kind: str) -> Parts:
    """Q4_K, Q5_K: eight groups of 32, each with a scale and a minimum of six bits, and numbers of four or five."""
    most = 15 if kind == "Q4_K" else 31
    groups = blocks.reshape(-1, 8, 32)
    low = numpy.maximum(0, -groups.min(-1))
    steps = (groups.max(-1) + low) / most
    d, least = ((each.max(-1, keepdims=True) / 63).clip(SMALLEST) for each in (steps, low))
    scales, minima = numpy.ceil(steps / _half(d)).clip(1, 63), numpy.round(low / _half(least)).clip(0, 63)
    numbers = (groups + (_half(least) * minima)[..., None]) / (_half(d) * scales)[..., None]
    return d, least, scales, minima, numbers.round().clip(0, most)


def _pack_45(kind: str, d: Any, least: Any, scales: Any, minima: Any, numbers: Any) -> Any:
    scales, minima, numbers = (each.astype(numpy.uint8) for each in (scales, minima, numbers))
    (first, last), (low, high) = numpy.split(scales, 2, 1), numpy.split(minima, 2, 1)
    twelve = [first | last >> 4 << 6, low | high >> 4 << 6, last & 15 | (high & 15) << 4]
    pairs = (numbers & 15).reshape(-1, 4, 2, 32)
    nibbles = (pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(-1, 128)
    fifth = (
        []
        if kind == "Q4_K"
        else [numpy.bitwise_or.reduce(numbers >> 4 << numpy.arange(8, dtype=numpy.uint8)[:, None], 1)]
    )
    return numpy.concatenate([_bytes(d), _bytes(least), *twelve, *fifth, nibbles], 1)


def _six_bits(blocks: Any) -> Parts:
    """Q6_K: sixteen groups of 16, each with a signed scale of eight bits, and signed numbers of six."""
    groups = blocks.reshape(-1, 16, 16)
    steps = numpy.abs(groups).max(-1) / 31
    d = (steps.max(-1, keepdims=True) / 127).clip(SMALLEST)
    scales = numpy.ceil(steps / _half(d)).clip(1, 127)
    numbers = (groups / (_half(d) * scales)[..., None]).round().clip(-32, 31)
    return d, scales, numbers


def _pack_6(d: Any, scales: Any, numbers: Any) -> Any:
    # Each half of a block is four rows of 32: rows 0 and 1 in low nibbles, 2 and 3 in high ones above them.
    rows = (numbers + 32).astype(numpy.uint8).reshape(-1, 2, 4, 32)
    nibbles = (rows[:, :, :2] & 15 | (rows[:, :, 2:] & 15) << 4).reshape(-1, 128)
    pairs = rows >> 4 << numpy.array([0, 2, 4, 6], dtype=numpy.uint8)[:, None]
    high = numpy.bitwise_or.reduce(pairs, 2).reshape(-1, 64)
    return numpy.concatenate([nibbles, high, scales.astype(numpy.int8).view(numpy.uint8), _bytes(d)], 1)


def _bytes(numbers: Any) -> Any:
    return numbers.astype(numpy.float16).view(numpy.uint8)
