"""The small world: scenes drawn at random and how each object in them moves.

A scene is one or two flat shapes on a plain background. `sample` draws attributes and geometry on the CPU from a seed
(so a seed means the same scenes on every device); `smallworld.render` turns them into pixels anywhere. Lengths are in
pixels, x to the right, y downwards, angles in radians, `progress` runs 0..1 over the clip.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from math import pi
from typing import Any, cast

import torch
from torch import Tensor

from smallworld import names
from smallworld.outlines import CIRCUMRADIUS

PAIR_SHARE = 0.3
_CANDIDATES = 32
_MARGIN = 2.0
_GAP = 3.0
_SIZE_JITTER = 0.06
_COLOUR_JITTER = 5.0
_SINGLE_SIZES = (1.0, 1.0, 1.0)
_PAIR_SIZES = (0.5, 0.4, 0.1)

_LEFT, _RIGHT, _UP, _DOWN, _GROWING, _SHRINKING, _SPINNING, _BOUNCING, _STILL = range(9)


def held_out(colour: str, shape: str, motion: str) -> bool:
    """Whether training never sees this colour, shape and motion together: one combination in ten, by a fixed hash."""
    return zlib.crc32(f"{colour} {shape} {motion}".encode()) % 10 == 0


def exists(shape: str, motion: str) -> bool:
    """Whether the world has this combination at all: round shapes cannot be seen to spin."""
    return not (motion == "spinning" and shape in names.ROUND_SHAPES)


def _table(test: str) -> Tensor:
    """[colour, shape, motion] -> bool, for drawing many scenes at once."""
    return torch.tensor(
        [
            [[exists(s, m) and held_out(c, s, m) == (test == "held out") for m in names.MOTIONS] for s in names.SHAPES]
            for c in names.COLOURS
        ]
    )


@dataclass(frozen=True)
class Scenes:
    """N scenes of up to two objects. Index tensors follow the order of `smallworld.names`."""

    shape: Tensor  # [N, 2] int
    colour: Tensor  # [N, 2] int
    size: Tensor  # [N, 2] int
    motion: Tensor  # [N, 2] int
    present: Tensor  # [N, 2] bool, the first always
    background: Tensor  # [N] int
    colour_rgb: Tensor  # [N, 2, 3] 0..255
    background_rgb: Tensor  # [N, 3] 0..255
    side: Tensor  # [N, 2] side of the equal-area square in the first frame
    start: Tensor  # [N, 2, 2] centre; for a bounce: x and the floor's y
    amount: Tensor  # [N, 2] pixels (moves, bounce), factor (growing, shrinking) or radians (spinning)
    phase: Tensor  # [N, 2] bounce: hops already made
    hops: Tensor  # [N, 2] hops in the clip
    width: int
    height: int
    frames: int

    def __len__(self) -> int:
        return int(self.shape.shape[0])

    def __getitem__(self, index: "Tensor | slice") -> "Scenes":
        return self._each(lambda tensor: tensor[index])

    def to(self, device: "torch.device | str") -> "Scenes":
        return self._each(lambda tensor: tensor.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Scenes":
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        changed: dict[str, Any] = {k: change(v) for k, v in values.items() if isinstance(v, Tensor)}
        return replace(self, **changed)


def poses(scenes: Scenes, progress: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centre [N, 2, T, 2], scale [N, 2, T] and angle [N, 2, T] of every object at `progress` [T]."""
    motion, amount = scenes.motion[..., None], scenes.amount[..., None]
    zero = torch.zeros_like(amount * progress)
    along = amount * progress
    x = torch.where(motion == _RIGHT, along, torch.where(motion == _LEFT, -along, zero))
    y = torch.where(motion == _DOWN, along, torch.where(motion == _UP, -along, zero))
    hop = torch.remainder(scenes.phase[..., None] + scenes.hops[..., None] * progress, 1.0)
    y = torch.where(motion == _BOUNCING, -amount * 4 * hop * (1 - hop), y)  # a parabola between two landings
    scale = torch.where(motion == _GROWING, 1 + (amount - 1) * progress, zero + 1)
    scale = torch.where(motion == _SHRINKING, 1 - (1 - 1 / amount) * progress, scale)
    angle = torch.where(motion == _SPINNING, along, zero)
    return scenes.start[:, :, None] + torch.stack([x, y], -1), scale, angle


def sample(count: int, size: tuple[int, int], frames: int, seed: int, test: str = "seen") -> Scenes:
    """Draw `count` scenes for clips of `frames` frames of `size` (width, height).

    `test` is "seen" (what training shows) or "held out" (single objects whose combination training never shows).
    """
    rng = torch.Generator().manual_seed(seed)
    width, height = size
    allowed = _table(test)
    colour, shape, motion = _attributes(count, allowed, rng)
    present = torch.ones(count, 2, dtype=torch.bool)
    present[:, 1] = (torch.rand(count, generator=rng) < PAIR_SHARE) & (test == "seen")
    weights = torch.where(present[:, 1:], torch.tensor([_PAIR_SIZES]), torch.tensor([_SINGLE_SIZES]))
    sizes = torch.multinomial(weights, 2, replacement=True, generator=rng)
    short = min(width, height)
    side = torch.tensor([names.SIZE_SIDE[s] for s in names.SIZES])[sizes] * short
    side = side * (1 + _SIZE_JITTER * (2 * torch.rand(count, 2, generator=rng) - 1))
    background = torch.randint(len(names.BACKGROUNDS), (count,), generator=rng)
    colour_rgb = _jittered([names.COLOUR_RGB[c] for c in names.COLOURS], colour, rng)
    background_rgb = _jittered([names.BACKGROUND_RGB[b] for b in names.BACKGROUNDS], background, rng)

    unplaced = torch.zeros(count, 2)
    scenes = Scenes(
        shape=shape, colour=colour, size=sizes, motion=motion, present=present, background=background,
        colour_rgb=colour_rgb, background_rgb=background_rgb, side=side, start=torch.zeros(count, 2, 2),
        amount=unplaced, phase=unplaced, hops=unplaced, width=width, height=height, frames=frames,
    )  # fmt: skip
    tries = [_geometry(scenes, rng) for _ in range(_CANDIDATES)]
    apart = torch.stack([_apart(_placed(scenes, each)) for each in tries])  # [candidates, N]
    first = apart.int().argmax(0)  # the first candidate whose objects never touch
    placed = {name: torch.stack([each[name] for each in tries])[first, torch.arange(count)] for name in tries[0]}
    # Where no candidate keeps two objects apart, there is only one.
    present = present & torch.stack([torch.ones(count, dtype=torch.bool), apart.any(0)], 1)
    return replace(_placed(scenes, placed), present=present)


def _placed(scenes: Scenes, geometry: dict[str, Tensor]) -> Scenes:
    return replace(scenes, **cast("dict[str, Any]", geometry))  # which of the fields is known where they are made


def _attributes(count: int, allowed: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Colour, shape and motion [N, 2] from the allowed combinations; two colours of a pair always differ."""
    combinations = allowed.nonzero()  # [K, 3]
    # Draw motions evenly (round shapes cannot spin, so plain uniform draws would make spinning rarer).
    per_motion = torch.bincount(combinations[:, 2], minlength=len(names.MOTIONS)).float()
    weights = 1.0 / per_motion[combinations[:, 2]]
    picked = combinations[torch.multinomial(weights, 2 * count, replacement=True, generator=rng)].view(count, 2, 3)
    # Half of the pairs share their motion, as in "both stars drift left".
    same = torch.rand(count, generator=rng) < 0.5
    partner = picked[:, 1].clone()
    partner[:, 2] = torch.where(same, picked[:, 0, 2], partner[:, 2])
    shift = torch.randint(1, len(names.COLOURS), (count,), generator=rng)
    clash = partner[:, 0] == picked[:, 0, 0]
    partner[:, 0] = torch.where(clash, (partner[:, 0] + shift) % len(names.COLOURS), partner[:, 0])
    legal = allowed[partner[:, 0], partner[:, 1], partner[:, 2]]
    # Rare: the two changes above made a combination that is not allowed. Any other allowed partner will do.
    for row in (~legal).nonzero().flatten().tolist():
        choices = combinations[combinations[:, 0] != picked[row, 0, 0]]
        if len(choices):
            partner[row] = choices[torch.randint(len(choices), (), generator=rng)]
    both = torch.stack([picked[:, 0], partner], 1)
    return both[..., 0], both[..., 1], both[..., 2]


def _jittered(palette: list[tuple[int, int, int]], index: Tensor, rng: torch.Generator) -> Tensor:
    rgb = torch.tensor(palette, dtype=torch.float32)[index]
    return (rgb + _COLOUR_JITTER * (2 * torch.rand(rgb.shape, generator=rng) - 1)).clamp(0, 255)


def _geometry(scenes: Scenes, rng: torch.Generator) -> dict[str, Tensor]:
    """Start, amount, phase and hops such that every object stays inside the frame all the time."""
    shape, motion, side, frames = scenes.shape, scenes.motion, scenes.side, scenes.frames
    width, height = scenes.width, scenes.height

    def uniform(low: "float | Tensor", high: "float | Tensor") -> Tensor:
        return low + (high - low) * torch.rand(shape.shape, generator=rng)

    longer = (frames - 1) / (names.DEFAULT_FRAMES - 1) if frames > 1 else 1.0
    factor = uniform(1.5, 1.85)
    factor = torch.where((motion == _GROWING) & (side > 0.29 * min(width, height)), uniform(1.3, 1.42), factor)
    reach = side * torch.tensor(CIRCUMRADIUS)[shape] * torch.where(motion == _GROWING, factor, 1.0) + _MARGIN
    room = torch.stack([width - 2 * reach, height - 2 * reach], -1).clamp(min=0.0)  # [N, 2, xy]
    sideways = (motion == _LEFT) | (motion == _RIGHT)
    vertical = (motion == _UP) | (motion == _DOWN) | (motion == _BOUNCING)
    along = torch.where(sideways, room[..., 0], room[..., 1])
    extent = torch.where(sideways, float(width), float(height))
    most = torch.minimum(0.45 * extent * min(longer, 1.5), along)
    distance = uniform(torch.minimum(0.25 * extent, 0.8 * most), most)
    # Always clockwise and about as fast: of two directions a small model learns the average, which turns nowhere.
    turn = uniform(0.5, 0.65) * pi * longer
    amount = torch.where(sideways | vertical, distance, torch.where(motion == _SPINNING, turn, factor))
    hops = uniform(1.8, 2.0) * longer
    phase = torch.where((motion == _BOUNCING) & (uniform(0, 1) < 0.3), uniform(0, 1), torch.zeros(()))

    used_x = torch.where(sideways, distance, 0.0)
    used_y = torch.where(vertical, distance, 0.0)
    x = reach + uniform(0, 1) * (room[..., 0] - used_x) + torch.where(motion == _LEFT, used_x, 0.0)
    upward = (motion == _UP) | (motion == _BOUNCING)
    y = reach + uniform(0, 1) * (room[..., 1] - used_y) + torch.where(upward, used_y, 0.0)
    return {"start": torch.stack([x, y], -1), "amount": amount, "phase": phase, "hops": hops}


def _apart(scenes: Scenes) -> Tensor:
    """[N] whether the two objects keep a gap all the time (true where there is only one)."""
    centre, scale, _ = poses(scenes, torch.linspace(0, 1, 17))
    reach = (scenes.side * torch.tensor(CIRCUMRADIUS)[scenes.shape])[..., None] * scale
    gap: Tensor = (centre[:, 0] - centre[:, 1]).norm(dim=-1) - reach.sum(1)
    return (gap.min(-1).values > _GAP) | ~scenes.present[:, 1]
