"""On a GPU: streamed blocks, and running out of memory by force."""

import gc
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.fixtures.bench import MANIFESTS, TWO, Bench, changed, image_plan, video_plan
from tests.fixtures.experts import BLOCKS, a_pass, load_experts
from tests.support import tiny_models as models
from wan_mcp.catalog.manifest import Quantization
from wan_mcp.engine.aot.registry import BUILD_BYTES
from wan_mcp.engine.offload.block_swap import BlockSwap
from wan_mcp.engine.offload.pinned_memory import PinnedPool, cuda_pin
from wan_mcp.engine.offload.streams import CudaStreams
from wan_mcp.engine.ops.fp8_linear import FP8, PLAIN, QuantScheme
from wan_mcp.engine.transformer.weight_store import ResidentWeights, WeightStore
from wan_mcp.errors import JobFailed
from wan_mcp.media.receipts import read_receipt

pytestmark = pytest.mark.gpu
GPU = torch.device("cuda", 0)
WIDE = 1024
"""Channels: copies of such blocks take longer than work on a few tokens, so that a missing order shows."""


def streamed(room: int, *, pinned: int = 1 << 33) -> BlockSwap:
    """Room for so many blocks."""
    probe = BlockSwap(GPU, PinnedPool(0, lambda pages: True), CudaStreams(GPU), 0)
    load_experts(probe, device="cuda:0", width=WIDE)
    size = probe.slot_plan().sizes[0]
    return BlockSwap(GPU, PinnedPool(pinned, cuda_pin(GPU)), CudaStreams(GPU), room * size)


@pytest.mark.parametrize("pinned", [1 << 33, 0], ids=["pinned", "unpinned"])
@pytest.mark.parametrize("room", [3, 4, BLOCKS, BLOCKS + 2])
@pytest.mark.parametrize("scheme", [FP8, PLAIN])
def test_streamed_blocks_compute_bit_for_bit_what_resident_ones_do(scheme: QuantScheme, room: int, pinned: int) -> None:
    passes = (0, 0, 1, 0, 1, 1) * 5
    found: list[list[torch.Tensor]] = []
    residences: list[WeightStore] = [ResidentWeights(GPU), streamed(room, pinned=pinned)]
    for weight_store in residences:
        experts = load_experts(weight_store, (scheme,) * BLOCKS, device="cuda:0", width=WIDE)
        weight_store.announce(passes)
        found.append([a_pass(experts[number], seed, device="cuda:0") for seed, number in enumerate(passes)])
    assert all(map(torch.equal, *found))


def test_pinned_memory_goes_with_the_blocks_that_lived_there() -> None:
    weight_store = streamed(3)
    experts = load_experts(weight_store, device="cuda:0", width=WIDE)
    host = weight_store._host
    assert host.pinned_bytes > 0 and host.unpinned_bytes == 0
    a_pass(experts[0], device="cuda:0")
    del experts, weight_store
    gc.collect()
    assert host.pinned_bytes == 0


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A runner on the GPU, its tiny model in FP8."""
    models.save_two_experts(tmp_path / "embedded" / TWO)
    (tmp_path / "home").mkdir()
    bench = Bench(tmp_path / "home", tmp_path / "embedded", device="cuda:0")
    bench.runner._settings = bench.settings.model_copy(update={"compile": False})
    fp8 = Quantization(recipe="fp8-rowwise")
    bench.catalog.manifests[TWO] = changed(MANIFESTS[TWO], quantization=fp8)
    yield bench
    bench.store.database.close()
    torch.cuda.set_per_process_memory_fraction(1.0)


def large_blocks() -> list[tuple[int, tuple[int, int]]]:
    """What is in use of the GPU's memory, from 1 MiB on: bytes, and the pool that they are of."""
    return [
        (block["size"], tuple(segment.get("segment_pool_id", (0, 0))))
        for segment in torch.cuda.memory_snapshot()
        for block in segment["blocks"]
        if block["state"] == "active_allocated" and block["size"] >= 1 << 20
    ]


def test_a_job_that_the_gpu_has_no_memory_for_fails_with_advice_and_the_next_one_works(bench: Bench) -> None:
    def picture() -> bytes:
        return Path(bench.run(image_plan(TWO)).artifacts[0].path).read_bytes()

    before = picture()
    bench.runner._free()
    held, total = torch.cuda.memory_allocated(), torch.cuda.mem_get_info()[1]
    # Of what is reserved: parts of segments in use cannot be given back.
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (300 << 20)) / total)
    with pytest.raises(JobFailed, match="Memory ran out at 2048x2048") as failure:
        bench.run(video_plan(TWO, width=2048, height=2048, num_frames=17))
    assert failure.value.code == "out_of_memory"
    assert torch.cuda.memory_allocated() <= held + (32 << 20), large_blocks()
    assert picture() == before


def test_a_package_is_built_after_a_job_that_left_no_room_for_it(bench: Bench) -> None:
    bench.runner._settings = bench.settings
    gc.collect()
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(GPU)
    rest = torch.empty(free - BUILD_BYTES - 1_000_000_000, dtype=torch.uint8, device=GPU)  # less than job and build
    before = Path(bench.run(image_plan(TWO)).artifacts[0].path)
    packages = bench.runner._acceleration._packages  # type: ignore[union-attr]
    assert packages is not None and packages.building, "there is room for it between two jobs"
    give_up = time.monotonic() + 400
    while packages.building:
        assert time.monotonic() < give_up
        time.sleep(0.2)
    after = Path(bench.run(image_plan(TWO)).artifacts[0].path)
    assert "packages" not in (read_receipt(before) or {}) and (read_receipt(after) or {})["packages"]
    bench.runner.close()
    del rest
