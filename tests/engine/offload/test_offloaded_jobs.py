"""BlockSwap blocks under the runner: the same results, passes as announced, refusals, and models that make way."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fixtures.bench import BLIP, MANIFESTS, ONE, TWO, Bench, caption_plan, changed, image_plan, video_plan
from tests.support.loading import unload
from tests.support.watched_streams import WatchedStreamed
from wan_mcp.catalog.manifest import Manifest, Quantization, Weights
from wan_mcp.engine import runner as studio_module
from wan_mcp.engine.device.device import Device
from wan_mcp.engine.families.wan import memory_plan as planning
from wan_mcp.engine.families.wan import pipeline
from wan_mcp.engine.families.wan.decode import FrameDecoder
from wan_mcp.engine.families.wan.memory_plan import MemoryPlan
from wan_mcp.engine.transformer.weight_store import ResidentWeights
from wan_mcp.errors import JobFailed
from wan_mcp.hardware.machine import Machine
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.schema.enums import Stage
from wan_mcp.schema.plans import VideoPlan

BLOCKS = 2


def weighing(manifest: Manifest, memory: int, precision: str = "fp32") -> Manifest:
    """The manifest of a model whose weights take that much memory."""
    known = manifest.weights.model_dump() | {"memory_bytes": {precision: memory}}
    return changed(manifest, weights=Weights(**known))


@pytest.fixture
def fp8(bench: Bench) -> Bench:
    """A runner whose models run in FP8."""
    bench.runner._settings = bench.settings.model_copy(update={"precision": "fp8", "compile": False})
    for name in (ONE, TWO):
        bench.catalog.manifests[name] = changed(MANIFESTS[name], quantization=Quantization(recipe="fp8-rowwise"))
    return bench


class Told(WatchedStreamed):
    """Keeps what was expected at each telling, and the passes that there were."""

    def __init__(self, budget: int) -> None:
        super().__init__(budget)
        self.told: list[list[int]] = []

    def announce(self, passes: Sequence[int]) -> None:
        self.told.append(list(passes))
        super().announce(passes)

    @property
    def passes(self) -> list[int]:
        return [denoiser for denoiser, block in self.asked if block == 0]


@pytest.fixture
def streaming(fp8: Bench, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Told]:
    """Have the next model's blocks streamed through room for so many bytes."""

    def streaming(budget: int) -> Told:
        told = Told(budget)
        monkeypatch.setattr(MemoryPlan, "weight_store", lambda plan, device: told)
        monkeypatch.setattr(told, "resize", lambda budget: None)
        unload(fp8.runner)
        return told

    return streaming


def made(bench: Bench, plan: VideoPlan) -> list[bytes]:
    return [Path(artifact.path).read_bytes() for artifact in bench.run(plan).artifacts]


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_studio_with_streamed_blocks_gives_the_same_files_and_announces_every_pass(
    fp8: Bench, streaming: Callable[[int], Told], guidance: float
) -> None:
    plan = video_plan(TWO, steps=4, count=2, guidance_scale=guidance)
    resident = made(fp8, plan)
    for room in (1, 1 << 30):  # a ring alone, and everything
        told = streaming(room)
        assert made(fp8, plan) == resident
        announced = [passes[:-1] for passes in told.told]
        assert [number for passes in announced for number in passes] == told.passes
        assert set(told.passes) == {0, 1} and all(passes[-1] == passes[0] for passes in told.told)
    assert told.late_blocks == []


def test_a_job_that_is_cancelled_among_streamed_blocks_spares_the_next(
    fp8: Bench, streaming: Callable[[int], Told]
) -> None:
    plan = video_plan(TWO, steps=4)
    resident = made(fp8, plan)
    streaming(1)
    for checks in (4, 7, 12):
        ear = fp8.ear(plan)
        ear.stop_at = lambda ear, checks=checks: ear.checks > checks  # type: ignore[misc]
        with pytest.raises(RuntimeError):
            fp8.run(plan, ear)
        assert made(fp8, plan) == resident


@pytest.mark.parametrize("at", ["denoising", "decoding"])
def test_a_job_that_runs_out_of_memory_goes_on_with_fewer_blocks_on_the_device(
    fp8: Bench, streaming: Callable[[int], Told], monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    plan = video_plan(TWO, steps=4, count=2)
    resident = made(fp8, plan)
    told = streaming(1 << 30)
    everything, decode = 0, FrameDecoder.frames

    def short(blocks: float) -> None:
        nonlocal everything
        everything = max(everything, told.slot_plan().bytes)
        if told.evictable_bytes > blocks * everything:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 340.00 MiB.")

    def get(item: Any) -> Any:
        tensors = WatchedStreamed.get(told, item)
        short(0.5 if item[1] == 1 else 1)  # in the middle of a pass
        return tensors

    def frames(self: FrameDecoder, *latents_and_others: Any) -> Any:
        for number, some in enumerate(decode(self, *latents_and_others)):
            if number == 1:  # when the first are in the file
                short(0.5)
            yield some

    if at == "denoising":
        monkeypatch.setattr(told, "get", get)
    else:
        monkeypatch.setattr(FrameDecoder, "frames", frames)
    assert made(fp8, plan) == resident
    if at == "denoising":
        assert 0 < told.slot_plan().bytes <= 0.5 * everything
    else:
        assert told.evictable_bytes == 0 and told.slot_plan().bytes == everything, "they come back with the next pass"
    assert not list((fp8.settings.home / "media").rglob(".*.part"))


def test_a_job_that_does_not_fit_with_the_fewest_blocks_fails_with_advice(
    fp8: Bench, streaming: Callable[[int], Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = streaming(1 << 30)
    tries: list[int] = []

    def refused(item: Any) -> Any:
        tries.append(told.slot_plan().bytes)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    with monkeypatch.context() as patch, pytest.raises(JobFailed) as failure:
        patch.setattr(told, "get", refused)
        fp8.run(video_plan(TWO))
    assert failure.value.code == "out_of_memory"
    assert tries == sorted(set(tries), reverse=True) and tries[-1] == told.least_bytes
    assert made(fp8, video_plan(TWO))


def test_what_cannot_fit_is_refused_before_the_model_in_use_is_let_go(bench: Bench) -> None:
    bench.run(image_plan(ONE))
    bench.catalog.manifests[TWO] = weighing(MANIFESTS[TWO], 10**15)
    ear = bench.ear(image_plan(TWO))
    with pytest.raises(JobFailed, match=r"needs .* of memory in fp32, and this machine has") as failure:
        bench.run(ear.job.plan, ear)
    assert failure.value.code == "too_large_for_device"
    assert ear.heard == []
    again = bench.ear(image_plan(ONE))
    bench.run(again.job.plan, again)
    assert Stage.LOAD not in {stage for stage, _ in again.heard}


def test_a_captioner_makes_way_for_a_model_that_has_no_room_beside_it_and_stays_where_there_is(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = bench.picture()
    needed = {ONE: 20, BLIP: 5}
    for name, gigabytes in needed.items():
        bench.catalog.manifests[name] = weighing(MANIFESTS[name], gigabytes * 10**9)
    free = {"bytes": 0}
    monkeypatch.setattr(studio_module, "available_bytes", lambda device: free["bytes"])
    monkeypatch.setattr(studio_module, "reachable_bytes", lambda device: 10**12)

    def stay(*, available: int) -> tuple[bool, bool]:
        """Which stay: the captioner when the generator comes, and the generator when the captioner comes."""
        free["bytes"] = available
        unload(bench.runner)
        bench.run(caption_plan(picture))
        bench.run(image_plan(ONE))
        captioner = bench.runner.loaded().captioner is not None
        unload(bench.runner, "captioner")
        bench.run(caption_plan(picture))
        return captioner, bench.runner.loaded().generator is not None

    assert stay(available=30 * 10**9) == (True, True)
    assert stay(available=10 * 10**9) == (False, True)
    assert stay(available=10**9) == (False, False)


@pytest.mark.parametrize(
    ("card", "keeps", "stays"),
    [(30, True, [True]), (24, False, [False, True]), (10, False, [False, False])],
)
def test_a_captioner_makes_way_before_blocks_have_to_be_streamed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, card: int, keeps: bool, stays: list[bool]
) -> None:
    for name, gigabytes in {ONE: 20, BLIP: 5}.items():
        bench.catalog.manifests[name] = weighing(MANIFESTS[name], gigabytes * 10**9, "bf16")
    plans: list[bool] = []

    def available(device: object) -> int:
        return (card - 5 * (bench.runner.loaded().captioner is not None)) * 10**9

    def planned(*arguments: Any) -> MemoryPlan:
        plan = planning.memory_plan(*arguments)
        plans.append(plan.stays)
        return plan

    for module in (studio_module, planning):
        monkeypatch.setattr(module, "available_bytes", available)
    monkeypatch.setattr(studio_module, "reachable_bytes", lambda device: card * 10**9)
    monkeypatch.setattr(pipeline, "memory_plan", planned)
    monkeypatch.setattr(Device, "machine", lambda device: Machine("GPU", "bf16", card * 10**9))
    monkeypatch.setattr(MemoryPlan, "weight_store", lambda plan, device: ResidentWeights(device.torch))

    def captioner_stays() -> bool:
        bench.run(caption_plan(picture))
        assert bench.runner.loaded().captioner is not None
        bench.run(image_plan(ONE))
        return bench.runner.loaded().captioner is not None

    picture = bench.picture()
    assert captioner_stays() is keeps
    assert plans == stays
    # The second time the generator is there: only blocks that can move would take the captioner's room.
    assert captioner_stays() is (keeps or stays[-1])


def test_a_studio_says_which_models_it_has_loaded(bench: Bench) -> None:
    assert bench.runner.loaded() == LoadedModels()
    bench.run(caption_plan(bench.picture()))
    bench.run(image_plan(ONE))
    bench.run(image_plan(TWO, precision="full"))
    assert bench.runner.loaded() == LoadedModels(generator=(TWO, "full"), captioner=BLIP)
