"""Whether a kernel computes attention: a trial against float64 on data like a denoiser's."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

__all__ = ["Trial", "like_a_denoisers"]

GRID = (9, 20, 26)
HEADS = 8
ROWS = 64
OUTLIERS, STRENGTH = 64, 8.0
"""One channel in so many is an outlier, so many times as strong."""
THETA = 10000.0  # of Wan's rotary embedding


def _smooth(grid: tuple[int, int, int], channels: int, random: torch.Generator) -> Tensor:
    """Fields (tokens, channels) of variance one that change slowly over the grid, as a video's features do."""
    sizes = (1, channels, *(-(-size // 4) + 1 for size in grid))
    coarse = torch.randn(sizes, generator=random, device=random.device)
    fine = F.interpolate(coarse, size=grid, mode="trilinear", align_corners=True)[0].flatten(1).t().contiguous()
    return fine / fine.std()


def _turned(heads: Tensor) -> Tensor:
    """Heads (tokens, heads, width) with rotary embedding along the tokens: it keeps outliers from having a mean."""
    tokens, _, width = heads.shape
    places, pairs = (torch.arange(0, *limits, device=heads.device) for limits in ((tokens,), (width, 2)))
    angles = places[:, None] * THETA ** (-pairs / width)
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    first, second = heads.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([first * cos - second * sin, first * sin + second * cos], -1).flatten(-2)


def like_a_denoisers(
    head_width: int,
    grid: tuple[int, int, int] = GRID,
    heads: int = HEADS,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value (1, tokens, heads, head width), float32, with what makes rounding hard in them.

    Neighbours resemble each other and look at each other; queries and keys have outlier channels, strong for all
    tokens; heads differ in how sharply they look; values have means.
    """
    random = torch.Generator(device).manual_seed(seed)

    def noise(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=random, device=device)

    channels, tokens = heads * head_width, grid[0] * grid[1] * grid[2]
    shared, bias = _smooth(grid, channels, random), noise(channels)
    loud = torch.randperm(channels, generator=random, device=device)[: max(1, channels // OUTLIERS)]
    looks = []
    for sharpness in (torch.linspace(0.25, 1, heads, device=device), torch.ones(heads, device=device)):
        rows = 0.8 * shared + 0.6 * noise(tokens, channels) + 0.7 * bias
        rows = rows * torch.rsqrt(rows.square().mean(-1, keepdim=True))
        weight = torch.exp(0.3 * noise(channels))
        weight[loud] *= STRENGTH
        looks.append(_turned((rows * weight).view(tokens, heads, head_width) * sharpness[:, None]))
    value = _smooth(grid, channels, random) + 0.5 * noise(tokens, channels)
    value = value + 2 * noise(channels)
    value[:, loud] *= STRENGTH / 2
    query, key = looks
    return query[None], key[None], value.view(1, tokens, heads, head_width)


@dataclass(frozen=True)
class Trial:
    """Data, and the exact attention of some of its queries."""

    query: Tensor
    key: Tensor
    value: Tensor
    rows: Tensor
    """The queries that are compared."""
    exact: Tensor
    """(rows, heads, head width), float64."""

    @classmethod
    @lru_cache(maxsize=4)
    def of(cls, device: torch.device, head_width: int) -> "Trial":
        """The trial for a GPU, in bf16."""
        return cls.on(*(tensor.bfloat16() for tensor in like_a_denoisers(head_width, device=device)))

    @classmethod
    def on(cls, query: Tensor, key: Tensor, value: Tensor, rows: int = ROWS) -> "Trial":
        """A trial on these tensors, batch one."""
        random = torch.Generator().manual_seed(0)
        chosen = torch.randperm(query.shape[1], generator=random)[:rows].sort().values.to(query.device)
        exact = [  # head by head: the scores of all would not fit for long sequences
            (query[0, chosen, head].double() @ key[0, :, head].double().t() / query.shape[-1] ** 0.5).softmax(-1)
            @ value[0, :, head].double()
            for head in range(query.shape[2])
        ]
        return cls(query, key, value, chosen, torch.stack(exact, 1))

    def error(self, kernel: Callable[[Tensor, Tensor, Tensor], Tensor]) -> float:
        """How far the kernel is off: the norm of the difference over the norm of the exact; infinite where not finite.

        Means of the values count as signal, as they do for what comes after attention.
        """
        given = kernel(self.query, self.key, self.value)[0, self.rows].double()
        error = float((given - self.exact).norm() / self.exact.norm())
        return error if error == error else float("inf")
