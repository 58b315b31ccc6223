"""Accuracy checks for attention kernels: comparison with float64 on synthetic data like a denoiser's."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from wan_mcp.engine.attention.fused_qkv import QKVProjection

__all__ = ["AttentionAccuracy", "FusedAccuracy", "synthetic_qkv", "synthetic_qkv_projection"]

GRID = (9, 20, 26)
HEADS = 8
ROWS = 64
OUTLIERS, STRENGTH = 64, 8.0
"""One channel in OUTLIERS is an outlier, STRENGTH times as strong."""
THETA = 10000.0  # of Wan's rotary embedding
EPS = 1e-6


def _smooth(grid: tuple[int, int, int], channels: int, random: torch.Generator) -> Tensor:
    """Return fields (tokens, channels) of unit variance that change slowly over the grid, like a video's features."""
    sizes = (1, channels, *(-(-size // 4) + 1 for size in grid))
    coarse = torch.randn(sizes, generator=random, device=random.device)
    fine = F.interpolate(coarse, size=grid, mode="trilinear", align_corners=True)[0].flatten(1).t().contiguous()
    return fine / fine.std()


def _angles(tokens: int, head_dim: int, device: torch.device | str) -> Tensor:
    """Return rotary angles along the tokens, (tokens, head_dim / 2), so that outlier channels have no mean."""
    places, pairs = (torch.arange(0, *limits, device=device) for limits in ((tokens,), (head_dim, 2)))
    return places[:, None] * THETA ** (-pairs / head_dim)


def synthetic_qkv_projection(
    head_dim: int,
    grid: tuple[int, int, int] = GRID,
    heads: int = HEADS,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> QKVProjection:
    """Return a synthetic float32 QKV projection like a denoiser's, with the features that make quantization hard.

    Neighbouring tokens are similar and attend to each other. Queries and keys have outlier channels, strong for all
    tokens. Heads differ in the sharpness of their attention. Values have means.
    """
    random = torch.Generator(device).manual_seed(seed)

    def noise(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=random, device=device)

    channels, tokens = heads * head_dim, grid[0] * grid[1] * grid[2]
    shared, bias = _smooth(grid, channels, random), noise(channels)
    loud = torch.randperm(channels, generator=random, device=device)[: max(1, channels // OUTLIERS)]
    parts, norms = [], []
    for sharpness in (torch.linspace(0.25, 1, heads, device=device), torch.ones(heads, device=device)):
        parts.append(0.8 * shared + 0.6 * noise(tokens, channels) + 0.7 * bias)
        norm = torch.exp(0.3 * noise(channels))
        norm[loud] *= STRENGTH
        norms.append((norm.view(heads, head_dim) * sharpness[:, None]).flatten())
    value = _smooth(grid, channels, random) + 0.5 * noise(tokens, channels)
    value = value + 2 * noise(channels)
    value[:, loud] *= STRENGTH / 2
    angles = _angles(tokens, head_dim, device)
    return QKVProjection(
        torch.cat([*parts, value], -1)[None], norms[0], norms[1], angles.cos(), angles.sin(), heads, EPS
    )


def synthetic_qkv(
    head_dim: int,
    grid: tuple[int, int, int] = GRID,
    heads: int = HEADS,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the query, key and value (1, tokens, heads, head_dim), float32, of `synthetic_qkv_projection`."""
    query, key, value = synthetic_qkv_projection(head_dim, grid, heads, seed, device).to_qkv()
    return query, key, value.contiguous()


@dataclass(frozen=True)
class AttentionAccuracy:
    """Test inputs, and the exact attention of some of the queries."""

    query: Tensor
    key: Tensor
    value: Tensor
    rows: Tensor
    """The queries that are compared."""
    exact: Tensor
    """(rows, heads, head_dim), float64."""

    @classmethod
    @lru_cache(maxsize=4)
    def of(cls, device: torch.device, head_dim: int) -> "AttentionAccuracy":
        """Return a check for a GPU, in bf16."""
        query, key, value = (tensor.bfloat16() for tensor in synthetic_qkv(head_dim, device=device))
        return cls.on(query, key, value)

    @classmethod
    def on(cls, query: Tensor, key: Tensor, value: Tensor, rows: int = ROWS) -> "AttentionAccuracy":
        """Return a check on these tensors, batch size one."""
        random = torch.Generator().manual_seed(0)
        chosen = torch.randperm(query.shape[1], generator=random)[:rows].sort().values.to(query.device)
        exact = [  # head by head: the scores of all heads would not fit in memory for long sequences
            (query[0, chosen, head].double() @ key[0, :, head].double().t() / query.shape[-1] ** 0.5).softmax(-1)
            @ value[0, :, head].double()
            for head in range(query.shape[2])
        ]
        return cls(query, key, value, chosen, torch.stack(exact, 1))

    def error(self, kernel: Callable[[Tensor, Tensor, Tensor], Tensor]) -> float:
        """Return the kernel's relative error: norm of the difference over norm of the exact result, inf if not finite.

        The means of the values count as signal, as they do for the layers after attention.
        """
        return self.error_of(kernel(self.query, self.key, self.value)[0])

    def error_of(self, given: Tensor) -> float:
        """Return the same error for a kernel's output (tokens, heads, head_dim)."""
        error = float((given[self.rows].double() - self.exact).norm() / self.exact.norm())
        return error if error == error else float("inf")


@dataclass(frozen=True)
class FusedAccuracy:
    """A QKV projection, and the exact attention of some of its queries."""

    projection: QKVProjection
    trial: AttentionAccuracy

    @classmethod
    def of(cls, device: torch.device, head_dim: int) -> "FusedAccuracy":
        """Return a check for a GPU, in bf16."""
        return cls.on(synthetic_qkv_projection(head_dim, device=device))

    @classmethod
    def on(cls, projection: QKVProjection, dtype: torch.dtype = torch.bfloat16, rows: int = ROWS) -> "FusedAccuracy":
        """Return a check on this projection, cast to `dtype`."""
        qkv, *norms = (x.to(dtype) for x in (projection.qkv, projection.query_norm, projection.key_norm))
        inputs = replace(projection, qkv=qkv, query_norm=norms[0], key_norm=norms[1])
        exact = replace(inputs, qkv=qkv.float())
        return cls(inputs, AttentionAccuracy.on(*exact.to_qkv(), rows))

    def error(self, kernel: Callable[[QKVProjection], tuple[Tensor, Tensor]]) -> float:
        """Return the relative error of a kernel's e4m3 rows and scales; see `AttentionAccuracy.error`."""
        rows, scales = kernel(self.projection)
        return self.trial.error_of((rows.float() * scales).view(len(rows), self.projection.heads, -1))
