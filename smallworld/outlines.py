"""The outlines of the six shapes as one formula, so that a batch of mixed shapes is drawn without branches.

Every polygon here has n equal points with mirror symmetry. Folding the plane into half a sector leaves one straight
edge from an outer vertex (radius R, angle 0) to an inner one (radius q R, angle pi / n); the signed distance to that
edge's line is exact near the outline, which is all that anti-aliasing needs. Sizes are such that every shape of
`side` s covers s^2 pixels (a ring with its hole filled).
"""

from math import cos, pi, sin, sqrt

import torch
from torch import Tensor

from smallworld import names

# Per shape: points n, inner radius / outer radius q, angle of the first vertex.
_POINTS = {
    "square": (4, cos(pi / 4), pi / 4),
    "triangle": (3, cos(pi / 3), -pi / 2),
    "star": (5, 0.45, -pi / 2),
    "diamond": (2, 0.62, -pi / 2),  # a rhombus taller than wide: a spun square is never a diamond
}
_HOLE = 0.56  # a ring's inner radius / outer radius


def _circumradius(shape: str) -> float:
    """R for a filled area of 1: area = n q R^2 sin(pi / n) for the polygons, pi R^2 for the round ones."""
    if shape in names.ROUND_SHAPES:
        return sqrt(1 / pi)
    n, q, _ = _POINTS[shape]
    return sqrt(1 / (n * q * sin(pi / n)))


CIRCUMRADIUS = [_circumradius(shape) for shape in names.SHAPES]
_TABLE = torch.tensor([_POINTS.get(shape, (1, 1.0, 0.0)) for shape in names.SHAPES])
_IS_ROUND = torch.tensor([shape in names.ROUND_SHAPES for shape in names.SHAPES])
_IS_RING = torch.tensor([shape == "ring" for shape in names.SHAPES])


def signed_distance(shape: Tensor, radius: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Pixels from the outline, negative inside. `shape` (int) and `radius` broadcast against `x` and `y`."""
    device = x.device
    n, q, first = _TABLE.to(device)[shape].unbind(-1)
    half = pi / n
    distance = torch.hypot(x, y)
    angle = (torch.remainder(torch.atan2(y, x) - first + half, 2 * half) - half).abs()
    edge_x, edge_y = q * torch.cos(half) - 1, q * torch.sin(half)  # from the outer to the inner vertex, in R
    length = torch.hypot(edge_x, edge_y)
    along, across = distance * torch.cos(angle), distance * torch.sin(angle)
    straight = ((along - radius) * (edge_y / length)) - across * (edge_x / length)
    ring = torch.maximum(distance - radius, _HOLE * radius - distance)
    curved = torch.where(_IS_RING.to(device)[shape], ring, distance - radius)
    return torch.where(_IS_ROUND.to(device)[shape], curved, straight)
