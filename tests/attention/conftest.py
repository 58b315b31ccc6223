"""Data like a denoiser's, small, and the exact attention over it."""

import pytest
from torch import Tensor

from wan_mcp.engine.attention.accuracy import AttentionAccuracy, like_a_denoisers

GRID = (5, 7, 9)
"""315 tokens: no block or box divides them."""


def exact(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention of (batch, tokens, heads, width) in float64, written out; `mask` is (…, queries, keys)."""
    query, key, value = (tensor.double().transpose(1, 2) for tensor in (query, key, value))
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -float("inf"))
    return (scores.softmax(-1) @ value).transpose(1, 2)


def distance(given: Tensor, wanted: Tensor) -> float:
    """The norm of the difference over the norm of what was wanted."""
    return float((given.double() - wanted).norm() / wanted.norm())


@pytest.fixture(scope="session")
def data() -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value (1, 315, 4, 64)."""
    return like_a_denoisers(64, GRID, heads=4)


@pytest.fixture(scope="session")
def trial(data: tuple[Tensor, Tensor, Tensor]) -> AttentionAccuracy:
    """The same as a trial."""
    return AttentionAccuracy.on(*data)
