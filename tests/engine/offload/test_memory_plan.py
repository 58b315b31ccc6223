"""What is said of memory before a model is loaded, and the room that each job leaves for its blocks."""

from pathlib import Path

import pytest
import torch

from tests.fixtures.experts import a_pass, load_experts
from tests.support.watched_streams import WatchedStreamed
from wan_mcp.catalog.catalog import Catalog
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.memory_fit import RESERVE_BYTES, Placement, activation_bytes, fits, room_for_blocks
from wan_mcp.engine.aot.registry import BUILD_BYTES
from wan_mcp.engine.device.device import Device, resolve_device
from wan_mcp.engine.device.memory import available_bytes, require_fit
from wan_mcp.engine.families.wan import memory_plan as planning
from wan_mcp.engine.families.wan.memory_plan import make_room, memory_plan
from wan_mcp.engine.offload.block_swap import BlockSwap
from wan_mcp.engine.offload.pinned_memory import PinnedPool
from wan_mcp.engine.offload.slots import RING, SlotPlan, plan_slots
from wan_mcp.engine.transformer.weight_store import ResidentWeights
from wan_mcp.errors import JobFailed
from wan_mcp.schema.enums import Task
from wan_mcp.schema.plans import ImagePlan, Shape, VideoPlan

GB = 10**9
GPU = Device(torch.device("cuda", 0), "bf16", "a card")


class Sizes(BlockSwap):
    """The blocks of A14B in FP8: their sizes alone."""

    BLOCK = 312_000_000

    def __init__(self) -> None:
        streams = WatchedStreamed(0).streams
        super().__init__(torch.device("cpu"), PinnedPool(0, lambda pages: True), streams, 0)

    def slot_plan(self, budget: int | None = None) -> SlotPlan:
        return plan_slots([[self.BLOCK] * 40] * 2, self._budget if budget is None else budget)


@pytest.fixture(scope="module")
def a14b() -> Manifest:
    return Catalog.of(Path("no-home")).get("wan2.2-t2v-a14b-4step")


def video(width: int = 832, height: int = 480, num_frames: int = 81) -> VideoPlan:
    return VideoPlan(
        prompt="x", prompt_asked="x", negative_prompt="", style=None, width=width, height=height, steps=4,
        guidance_scale=1.0, seed=1, count=1, num_frames=num_frames, fps=16.0, duration_s=5.0,
        model="wan2.2-t2v-a14b-4step", task=Task.TEXT_TO_VIDEO,
    )  # fmt: skip


def image(width: int, height: int) -> ImagePlan:
    return ImagePlan(
        prompt="x", prompt_asked="x", negative_prompt="", style=None, width=width, height=height, steps=4,
        guidance_scale=1.0, seed=1, count=1, model="wan2.2-t2v-a14b-4step", task=Task.TEXT_TO_IMAGE,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("card", "placement", "stays", "words"),
    [
        (80, Placement.RESIDENT_FP8, True, "all blocks on the device, in FP8"),
        (48, Placement.RESIDENT_FP8, True, "all blocks on the device, in FP8"),
        (40, Placement.RESIDENT_FP8, False, "all blocks on the device, in FP8"),
        (26, Placement.SWAPPED, False, "the other's blocks move in as it takes over"),
        (16, Placement.OFFLOADED, False, "streamed to it in every pass"),
    ],
)
def test_a_plan_says_where_blocks_will_lie_and_what_has_room(
    a14b: Manifest, card: int, placement: Placement, stays: bool, words: str
) -> None:
    plan = memory_plan(a14b, GPU, "fp8", card * GB)
    assert (plan.placement, plan.stays) == (placement, stays)
    assert words in plan.describe() and f"{card}.0 GB" in plan.describe()
    assert "frames at 480p-landscape, 480p-portrait" in plan.describe()
    assert plan.to_come <= card * GB


def test_bf16_takes_more_room_than_fp8_and_a_cpu_has_its_main_memory(a14b: Manifest) -> None:
    assert memory_plan(a14b, GPU, "bf16", 48 * GB).placement is Placement.SWAPPED
    cpu = resolve_device("cpu")
    plan = memory_plan(a14b, cpu, "fp32")
    assert plan.placement is Placement.CPU and plan.precision == "fp32"
    assert isinstance(plan.weight_store(cpu), ResidentWeights)
    assert plan.memory_bytes == pytest.approx(available_bytes(cpu), rel=0.2)


def test_a_card_without_room_for_anything_says_so(a14b: Manifest) -> None:
    assert "no size has room" in memory_plan(a14b, GPU, "fp8", 2 * GB).describe()


def test_what_cannot_fit_is_refused_with_the_sizes_and_frame_counts_that_can(a14b: Manifest) -> None:
    require_fit(video(), a14b, "fp8", 24 * GB)
    with pytest.raises(JobFailed) as failure:
        require_fit(video(1280, 720), a14b, "fp8", 16 * GB)
    assert failure.value.code == "too_large_for_device"
    said = str(failure.value)
    assert "1280x720 with 81 frames" in said and "16.0 GB" in said
    largest = memory_plan(a14b, GPU, "fp8", 16 * GB).largest
    assert f"480p-landscape (832x480) with up to {largest['480p-landscape']} frames" in said
    require_fit(video(num_frames=largest["480p-landscape"]), a14b, "fp8", 16 * GB)


def test_a_picture_is_offered_sizes_without_frames(a14b: Manifest) -> None:
    with pytest.raises(JobFailed, match=r"needs .* 480p-landscape \(832x480\)[,;]") as failure:
        require_fit(image(4096, 4096), a14b, "fp8", 12 * GB)
    assert "frames" not in str(failure.value)


def test_where_nothing_has_room_another_model_is_all_there_is_to_say(a14b: Manifest) -> None:
    with pytest.raises(JobFailed, match="Use a smaller model"):
        require_fit(video(), a14b, "fp8", 2 * GB)


def test_blocks_get_what_each_job_leaves_and_stay_where_the_difference_is_small(
    a14b: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    streamed = WatchedStreamed(0)
    experts = load_experts(streamed)
    size = streamed.slot_plan(1 << 40).sizes[0]
    free: dict[str, int] = {}
    monkeypatch.setattr(planning, "available_bytes", lambda device: free["bytes"] - streamed.evictable_bytes)

    def room_for(plan: VideoPlan, blocks: float, build_bytes: int = 0) -> int:
        """Have so many blocks' room beside this job; how many are held after a pass."""
        taken = 100 * GB - room_for_blocks(a14b, 100 * GB, "fp8", plan.shape)
        free["bytes"] = taken + planning.SCATTERED_BYTES + int(blocks * size)
        assert make_room(streamed, a14b, GPU, "fp8", plan, build_bytes) == (build_bytes <= (blocks - RING) * size)
        a_pass(experts[0])
        return streamed.evictable_bytes // size

    assert room_for(video(), 4) == 4
    assert room_for(video(), 9) == 9
    copied = streamed.copied_bytes
    assert room_for(video(), 9.9) == 9 and streamed.copied_bytes == copied
    assert room_for(video(), 12) == 12
    more = activation_bytes(a14b, Shape(1280, 720, 81), "fp8") - activation_bytes(a14b, video().shape, "fp8")
    assert more > 0
    assert room_for(video(1280, 720), 5) == 5
    assert room_for(video(), 9, build_bytes=2 * size) == 7, "a build has its share"
    assert room_for(video(), 4, build_bytes=2 * size) == 4, "none where the job would not fit beside it"


@pytest.mark.parametrize(("spare", "builds"), [(-1, False), (0, True)])
def test_blocks_that_stay_allow_a_build_where_it_fits_beside_the_job(
    a14b: Manifest, monkeypatch: pytest.MonkeyPatch, spare: int, builds: bool
) -> None:
    job = activation_bytes(a14b, video().shape, "fp8") + RESERVE_BYTES + planning.SCATTERED_BYTES
    monkeypatch.setattr(planning, "available_bytes", lambda device: job + BUILD_BYTES + spare)
    resident = ResidentWeights(torch.device("cpu"))
    assert make_room(resident, a14b, GPU, "fp8", video(), BUILD_BYTES) is builds
    assert make_room(resident, a14b, GPU, "fp8", video()), "nothing is to be built"


@pytest.mark.parametrize("card", [16, 20, 24, 32, 40, 48])
@pytest.mark.parametrize("plan", [video(), video(1280, 720), video(num_frames=5), image(720, 1280), image(832, 480)])
def test_on_every_card_blocks_job_and_build_fit_together(
    a14b: Manifest, monkeypatch: pytest.MonkeyPatch, card: int, plan: VideoPlan | ImagePlan
) -> None:
    if not fits(a14b, card * GB, "fp8", plan.shape):
        pytest.skip("refused before it becomes a job")
    held = Sizes()
    monkeypatch.setattr(planning, "available_bytes", lambda device: card * GB - held.evictable_bytes)
    builds = make_room(held, a14b, GPU, "fp8", plan, BUILD_BYTES)
    job = activation_bytes(a14b, plan.shape, "fp8") + RESERVE_BYTES + BUILD_BYTES * builds
    assert held.slot_plan().bytes + job <= card * GB
    if card >= 24 and plan.shape != video(1280, 720).shape:
        assert builds, "its packages are built beside the first job"


def test_blocks_get_smaller_each_time_that_memory_runs_out_and_stay_so() -> None:
    held = Sizes()
    held.resize(20 * GB)
    sizes = [held.slot_plan().bytes]
    while held.shrink():
        sizes.append(held.slot_plan().bytes)
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] == held.least_bytes == RING * Sizes.BLOCK
    assert len(sizes) < 12
    held.resize(20 * GB)
    assert held.slot_plan().bytes == held.least_bytes, "the next job does not try the same again"


def test_streamed_blocks_say_where_they_are() -> None:
    streamed = WatchedStreamed(0)
    load_experts(streamed)
    size = streamed.slot_plan(1 << 40).sizes[0]
    for room, words in ((4, "1 of 6 blocks stay"), (6, "6 of 6 blocks"), (8, "2 also while another does")):
        streamed.resize(room * size)
        assert words in streamed.describe()
        streamed.evict()
