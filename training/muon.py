"""Muon: momentum whose update is made orthogonal, for the transformer's square-ish hidden matrices.

After K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024), with the update scaled by
0.2 sqrt(max(rows, columns)) as in J. Liu et al., "Muon is scalable for LLM training" (2025), so that its size is that
of AdamW's. Matrices of one shape are stacked: the whole step is a few batched products, cheap to capture in a graph.
"""

from collections import defaultdict

import torch
from torch import Tensor, nn

_MOMENTUM = 0.95
_ITERATIONS = 5


def orthogonal(matrices: Tensor) -> Tensor:
    """Nearest (semi-)orthogonal matrices of a stack [N, r, c], by a quintic Newton-Schulz iteration in bfloat16."""
    x: Tensor = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.mT if tall else x


class Muon:
    """Updates `parameters` (2-D, with gradients) in place; `rate` is a tensor, so that a captured step sees changes."""

    def __init__(self, parameters: list[nn.Parameter], rate: Tensor, weight_decay: float) -> None:
        self._rate, self._weight_decay = rate, weight_decay
        by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
        for parameter in parameters:
            by_shape[parameter.shape].append(parameter)
        self._groups = [
            (group, torch.zeros(len(group), *shape, device=group[0].device)) for shape, group in by_shape.items()
        ]

    @torch.no_grad()
    def step(self) -> None:
        for group, momentum in self._groups:
            gradient = torch.stack([parameter.grad for parameter in group if parameter.grad is not None])
            momentum.lerp_(gradient, 1 - _MOMENTUM)
            update = orthogonal(gradient.lerp(momentum, _MOMENTUM)).float()
            update = update * (-self._rate * 0.2 * max(gradient.shape[1:]) ** 0.5)
            values = [parameter.detach() for parameter in group]
            torch._foreach_mul_(values, 1 - self._rate * self._weight_decay)
            torch._foreach_add_(values, list(update.unbind(0)))
