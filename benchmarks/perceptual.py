"""A learned distance between images, with the weights of a package of the index.

The package `lpips` carries only the weights of its last layers. `stlpips-pytorch` carries all those of a variant that
also overlooks small shifts: shift-tolerant LPIPS over AlexNet (Ghildyal and Liu, ECCV 2022). The network is written
here, because the package's code asks for others and is under a licence that is not free. Without the package, there is
no distance: `pip install --no-deps stlpips-pytorch`.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["NAME", "Perceptual"]

NAME = "shift-tolerant LPIPS, AlexNet (stlpips-pytorch 0.0.2)"
PACKAGE, WEIGHTS = "stlpips_pytorch", "weights/vST0.0/alex_shift_tolerant.pth"
LAYERS = (("slice1.0", 2), ("slice2.5", 2), ("slice3.9", 1), ("slice4.11", 1), ("slice5.13", 1))
"""Convolutions, by the names of their weights, and their padding."""


class Perceptual:
    """The network and its weights."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self._weights = weights

    @classmethod
    def found(cls) -> "Perceptual | None":
        """Return it if the package is installed; it is not imported."""
        spec = find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            return None
        file = Path(next(iter(spec.submodule_search_locations))) / WEIGHTS
        weights: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
        return cls(weights)

    @torch.no_grad()
    def distance(self, one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
        """Return the mean distance of two clips [T, H, W, 3], frame by frame; 0 for the very same."""
        total = torch.zeros(())
        for number, (a, b) in enumerate(zip(self._features(one), self._features(other), strict=True)):
            weight = self._weights[f"lin{number}.model.1.weight"]
            total += F.conv2d((a - b).square(), weight).mean()
        return float(total)

    def _features(self, clip: NDArray[np.uint8]) -> list[Tensor]:
        """Return the features of each layer, of unit length at each place."""
        x = torch.from_numpy(np.ascontiguousarray(clip)).permute(0, 3, 1, 2).float() / 127.5 - 1
        x = (x - self._weights["scaling_layer.shift"]) / self._weights["scaling_layer.scale"]
        found = []
        for number, (name, padding) in enumerate(LAYERS):
            if number in (1, 2):
                x = self._halved(F.max_pool2d(x, 3, 1), {1: "slice2.4", 2: "slice3.8"}[number])
            x = F.conv2d(x, self._weights[f"net.{name}.weight"], self._weights[f"net.{name}.bias"], padding=padding)
            x = F.relu(self._halved(x, "slice1.1") if number == 0 else x)
            found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return found

    def _halved(self, x: Tensor, name: str) -> Any:
        """Blur and take every second pixel, with reflected borders of two pixels."""
        kernel = self._weights[f"net.{name}.filt"]
        return F.conv2d(F.pad(x, (2, 2, 2, 2), "reflect"), kernel, stride=2, groups=x.shape[1])
