"""The embedded model, with blocks that were trained, streamed."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support.loading import context_of
from tests.support.watched_streams import WatchedStreamed
from wan_mcp.catalog.catalog import Catalog
from wan_mcp.catalog.manifest import Manifest, Quantization
from wan_mcp.engine.components.install import EMBEDDED
from wan_mcp.engine.families.wan.loader import WanModel, load_wan
from wan_mcp.engine.offload.block_swap import BlockSwap
from wan_mcp.engine.ops.fp8_linear import FP8
from wan_mcp.engine.transformer.weight_store import WeightStore
from wan_mcp.schema.enums import Task

WAN_MINI = Catalog.of(Path("no-home")).get("wan-mini")
ALL_IN_FP8 = WAN_MINI.model_copy(update={"quantization": Quantization(recipe=FP8)})


def load(manifest: Manifest, weight_store: WeightStore | None = None) -> WanModel:
    folder = EMBEDDED / "wan-mini"
    return load_wan(context_of(manifest, folder, "fp8", sha256="known"), weight_store=weight_store)


def latents(model: WanModel) -> Tensor:
    """Of a small picture in two steps."""
    pipeline = model.pipelines[Task.TEXT_TO_IMAGE]
    made: Tensor = pipeline(
        prompt="a red circle", height=64, width=64, num_frames=1, num_inference_steps=2, guidance_scale=3.0,
        generator=torch.Generator().manual_seed(3), output_type="latent", return_dict=False,
    )[0]  # fmt: skip
    return made


@pytest.mark.parametrize(
    ("manifest", "staying"),
    [(WAN_MINI, {3: 0, 4: 6}), (ALL_IN_FP8, {3: 0, 4: 1, 6: 6})],
    ids=["as shipped", "all in FP8"],
)
def test_wan_mini_gives_the_same_latents_wherever_its_blocks_are(manifest: Manifest, staying: dict[int, int]) -> None:
    """`staying`: how many blocks stay where there is room for so many of the largest."""
    resident = latents(load(manifest))
    probe = WatchedStreamed(0)
    load(manifest, probe)
    largest = max(probe.slot_plan(1 << 40).sizes)
    for room, blocks in staying.items():
        streamed: BlockSwap = WatchedStreamed(room * largest)
        model = load(manifest, streamed)
        assert model.weight_store is streamed and streamed.slot_plan().resident == blocks
        assert torch.equal(latents(model), resident)
