"""A model of the seconds of a denoiser's pass over its sequence: a * tokens + b * tokens².

The linear layers are the first part, attention the second.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

__all__ = ["StepTimeModel"]


@dataclass(frozen=True)
class StepTimeModel:
    """The two factors; neither is negative."""

    per_token: float
    per_square: float

    def at(self, tokens: float) -> float:
        """Return the seconds of a pass over this many tokens."""
        return self.per_token * tokens + self.per_square * tokens**2

    @classmethod
    def fitted(cls, measured: Mapping[float, float], even_at: float) -> Self:
        """Fit the factors to measurements: seconds by tokens, at least one.

        Least squares of the relative errors, so that small sizes count as much as large ones. With one size the two
        parts are taken to be equal at `even_at` tokens, as their operations are.
        """
        if len(measured) == 1:
            [(tokens, seconds)] = measured.items()
            per_token = seconds / (tokens + tokens**2 / even_at)
            return cls(per_token, per_token / even_at)
        # Each measurement divided by its seconds: x * a + y * b ≈ 1.
        rows = [(tokens / seconds, tokens**2 / seconds) for tokens, seconds in measured.items() if seconds > 0]
        xx, xy, yy = sum(x * x for x, _ in rows), sum(x * y for x, y in rows), sum(y * y for _, y in rows)
        sum_x, sum_y = sum(x for x, _ in rows), sum(y for _, y in rows)
        determinant = xx * yy - xy * xy
        if determinant > 1e-12 * xx * yy:
            a, b = (sum_x * yy - sum_y * xy) / determinant, (sum_y * xx - sum_x * xy) / determinant
            if a >= 0 and b >= 0:
                return cls(a, b)
        # The best without negative factors lies where one is nothing (the squared error is convex).
        only_linear, only_square = cls(sum_x / xx if xx else 0.0, 0.0), cls(0.0, sum_y / yy if yy else 0.0)
        return min((only_linear, only_square), key=lambda each: each._error(measured))

    def _error(self, measured: Mapping[float, float]) -> float:
        return sum((self.at(tokens) / seconds - 1) ** 2 for tokens, seconds in measured.items() if seconds > 0)
