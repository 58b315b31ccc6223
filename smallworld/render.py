"""Scenes to pixels, vectorised over scenes, frames and objects, on any device."""

import torch
from torch import Tensor

from smallworld.outlines import CIRCUMRADIUS, signed_distance
from smallworld.world import Scenes, poses


def render(
    scenes: Scenes,
    device: "torch.device | str" = "cpu",
    frames: int | None = None,
    crop: int | None = None,
    only: int | None = None,
) -> Tensor:
    """Clips [N, 3, T, H, W] in [-1, 1], float32.

    With `frames`, only the first so many of each clip; with `only`, that one frame. With `crop`, only a square of
    that side around the first object's place in the middle of the clip, where there is something to learn.
    """
    scenes = scenes.to(device)
    shown = frames or scenes.frames
    moments = torch.arange(shown, device=device, dtype=torch.float32) if only is None else torch.full((1,), float(only))
    progress = moments.to(device) / max(scenes.frames - 1, 1)
    centre, scale, angle = poses(scenes, progress)
    radius = scenes.side * torch.tensor(CIRCUMRADIUS, device=device)[scenes.shape]
    ys = torch.arange(scenes.height, device=device).view(-1, 1) + 0.5
    xs = torch.arange(scenes.width, device=device).view(1, -1) + 0.5
    if crop:
        middle = centre[:, 0, shown // 2].round()  # [N, 2]
        corner = torch.stack(
            [
                (middle[:, axis] - crop / 2).clamp(0, limit - crop)
                for axis, limit in ((0, scenes.width), (1, scenes.height))
            ]
        )
        xs = corner[0].floor().view(-1, 1, 1, 1) + xs[:, :crop]
        ys = corner[1].floor().view(-1, 1, 1, 1) + ys[:crop]
    picture = (scenes.background_rgb / 127.5 - 1)[:, :, None, None, None]
    for slot in range(2):
        dx = xs - centre[:, slot, :, 0, None, None]  # [N, T, H, W]
        dy = ys - centre[:, slot, :, 1, None, None]
        cos, sin = angle[:, slot].cos()[..., None, None], angle[:, slot].sin()[..., None, None]
        size = (radius[:, slot, None] * scale[:, slot])[..., None, None]
        distance = signed_distance(
            scenes.shape[:, slot, None, None, None], size, cos * dx + sin * dy, cos * dy - sin * dx
        )
        cover = (0.5 - distance).clamp(0, 1) * scenes.present[:, slot, None, None, None]
        paint = (scenes.colour_rgb[:, slot] / 127.5 - 1)[:, :, None, None, None]
        picture = picture + (paint - picture) * cover[:, None]
    return picture


def fitted(pictures: Tensor, side: int) -> Tensor:
    """Pictures [N, 3, H, W] fitted into a square, padded below and right with 0: as the processor does."""
    height, width = pictures.shape[-2:]
    scale = side / max(height, width)
    size = (round(height * scale), round(width * scale))
    resized = torch.nn.functional.interpolate(pictures, size, mode="bicubic", antialias=True)
    return torch.nn.functional.pad(resized.clamp(-1, 1), (0, side - size[1], 0, side - size[0]))


def to_uint8(clips: Tensor) -> Tensor:
    """[-1, 1] floats to 0..255, rounded as the pipelines round."""
    return ((clips.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
