"""Denoisers of the tiny models: their manifests in FP8, and one pass through them."""

from typing import Any

import torch
from torch import Tensor

from tests.fixtures.bench import MANIFESTS, ONE, TWO, TWO_OF_IMAGES, changed
from wan_mcp.catalog.manifest import Manifest, Quantization

__all__ = ["CHANNELS", "a_pass", "in_fp8"]

CHANNELS = {ONE: 48, TWO: 16, TWO_OF_IMAGES: 36}


def in_fp8(name: str, *exclude: str) -> Manifest:
    return changed(MANIFESTS[name], quantization=Quantization(recipe="fp8-rowwise", exclude=exclude))


@torch.no_grad()
def a_pass(
    denoiser: Any, name: str, frames: int = 2, size: tuple[int, int] = (4, 6), text: Tensor | None = None
) -> Tensor:
    random = torch.Generator().manual_seed(5)
    latents = torch.randn(1, CHANNELS[name], frames, *size, generator=random)
    text = torch.randn(1, 7, 32, generator=random) if text is None else text
    times = torch.tensor([700.0])
    if name == ONE:
        times = times[:, None].expand(-1, frames * size[0] * size[1] // 4)
    result: Tensor = denoiser(latents, times, text, return_dict=False)[0]
    return result
