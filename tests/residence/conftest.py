"""Two tiny experts of six blocks each, wherever their blocks live."""

import copy
from collections.abc import Iterator, Sequence
from functools import cache, partial
from typing import Any

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor

from tests.engine.conftest import bench, embedded
from wan_mcp.engine.device.device import resolve_device
from wan_mcp.engine.families.wan.denoiser import Denoiser, DenoiserSource, load_denoiser
from wan_mcp.engine.ops.fp8_linear import FP8, PLAIN, QuantScheme
from wan_mcp.engine.transformer.block import BlockKind
from wan_mcp.engine.transformer.config import BlockShape
from wan_mcp.engine.transformer.weight_store import WeightStore

__all__ = ["BLOCKS", "a_pass", "bench", "embedded", "load_experts"]

BLOCKS = 6


@cache
def tiny(seed: int, width: int) -> Any:
    torch.manual_seed(seed)
    return WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=width // 16, attention_head_dim=16, in_channels=4, out_channels=4,
        text_dim=16, freq_dim=32, ffn_dim=width + 16, num_layers=BLOCKS, rope_max_seq_len=64,
    ).eval()  # fmt: skip


def load_experts(
    weight_store: WeightStore, recipes: Sequence[QuantScheme] = (FP8,) * BLOCKS, device: str = "cpu", width: int = 32
) -> list[Denoiser]:
    """Both experts, their blocks in `weight_store`, each block of these recipes."""
    loaded = []
    for number in (1, 2):
        expert = tiny(number, width)
        shape = BlockShape.of(expert.config, temb_per_token=False)
        assert shape is not None
        place = resolve_device(device)
        kinds = [BlockKind(shape, recipe, place.dtype) for recipe in recipes]
        saved = copy.deepcopy(expert).to(place.dtype)  # as weights are read
        source = DenoiserSource(f"expert {number}", expert.config, partial(copy.deepcopy, saved), str(number))
        loaded.append(load_denoiser(source, kinds, place, None, weight_store))
    return loaded


@torch.no_grad()  # type: ignore[untyped-decorator]
def a_pass(denoiser: Denoiser, seed: int = 0, text: Tensor | None = None, device: str = "cpu") -> Tensor:
    """One pass over latents of this seed."""
    there = resolve_device(device)
    random = torch.Generator().manual_seed(seed)
    latents = torch.randn(1, 4, 1, 4, 4, generator=random)
    text = torch.randn(1, 5, 16, generator=random) if text is None else text
    inputs = [each.to(there.torch, there.dtype) for each in (latents, torch.tensor([500.0]), text)]
    result: Tensor = denoiser.model(*inputs, return_dict=False)[0]
    return result


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny products are slower by many threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=[FP8, PLAIN])
def recipe(request: pytest.FixtureRequest) -> QuantScheme:
    found: QuantScheme = request.param
    return found
