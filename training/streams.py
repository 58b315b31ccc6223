"""An endless supply of scenes of one frame size and length, drawn in large chunks and kept on the device."""

import torch

from training import world


class SceneStream:
    """`take(n)` gives the next n scenes; the same seed gives the same sequence."""

    def __init__(self, size: tuple[int, int], frames: int, seed: int, device: torch.device, chunk: int = 2048) -> None:
        self._size, self._frames, self._seed, self._device, self._chunk = size, frames, seed, device, chunk
        self._drawn = 0
        self._next = 0
        self._scenes: world.Scenes | None = None

    def take(self, count: int) -> world.Scenes:
        if self._scenes is None or self._next + count > len(self._scenes):
            seed = self._seed * 1_000_003 + self._drawn
            self._scenes = world.sample(max(self._chunk, count), self._size, self._frames, seed).to(self._device)
            self._drawn += 1
            self._next = 0
        taken = self._scenes[slice(self._next, self._next + count)]
        self._next += count
        return taken
