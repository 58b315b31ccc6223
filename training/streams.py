"""An endless supply of scenes of one frame size and length, drawn in large chunks and kept on the device."""

import torch
from torch import Tensor

from smallworld import names, world


class SceneStream:
    """`take(n)` gives the next n scenes; the same seed gives the same sequence."""

    def __init__(
        self, size: tuple[int, int], frames: int, seed: int, device: torch.device, chunk: int = 2048, easy: float = 1.0
    ) -> None:
        """`easy` is the share that stays of the scenes that a small model learns first, see `hard`."""
        self._size, self._frames, self._seed, self._device = size, frames, seed, device
        self._chunk, self._easy = chunk, easy
        self._drawn = 0
        self._next = 0
        self._scenes: world.Scenes | None = None

    def take(self, count: int) -> world.Scenes:
        while self._scenes is None or self._next + count > len(self._scenes):
            seed = self._seed * 1_000_003 + self._drawn
            most = count if self._easy == 1 else 4 * count  # a third of all scenes is hard
            drawn = world.sample(max(self._chunk, most), self._size, self._frames, seed)
            if self._easy < 1:
                rng = torch.Generator().manual_seed(seed)
                drawn = drawn[(hard(drawn) | (torch.rand(len(drawn), generator=rng) < self._easy)).nonzero()[:, 0]]
            self._scenes = drawn.to(self._device)
            self._drawn += 1
            self._next = 0
        taken = self._scenes[slice(self._next, self._next + count)]
        self._next += count
        return taken


def hard(scenes: world.Scenes) -> Tensor:
    """[N] whether a scene has what the model is last to learn: two objects, or a ring."""
    ring = names.SHAPES.index("ring")
    return scenes.present[:, 1] | (scenes.shape[:, 0] == ring)
