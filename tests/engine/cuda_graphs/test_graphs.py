"""Forwards that are recorded and replayed: the same files, recorded as rarely as can be, and nothing that stays."""

from pathlib import Path
from typing import Any

import pytest
import torch

from devkit.tape import DeadMemory, Refused, TapeRecorder
from tests.fixtures.bench import (
    MANIFESTS,
    ONE,
    TWO,
    TWO_OF_IMAGES,
    Bench,
    changed,
    image_plan,
    video_plan,
)
from tests.support.loading import context_of, runner_in, unload
from tests.support.lora_files import lora_plan, write_lora
from wan_mcp.catalog.manifest import Quantization
from wan_mcp.engine.attention.cudnn_fp8 import MIN_FLOPS
from wan_mcp.engine.cuda_graphs import graphs
from wan_mcp.engine.cuda_graphs.graphs import MAX_FLOPS, block_flops, capturing
from wan_mcp.engine.families.wan import pipeline as generate
from wan_mcp.engine.families.wan.loader import WanModel, load_wan
from wan_mcp.engine.transformer.block import run_block
from wan_mcp.engine.transformer.config import BlockShape
from wan_mcp.schema.enums import Task
from wan_mcp.schema.plans import ImagePlan, StepCache, VideoPlan

STEPS = 5
Plan = VideoPlan | ImagePlan


@pytest.fixture
def fp8(bench: Bench) -> Bench:
    """A runner whose models run in FP8."""
    bench.runner._settings = bench.settings.model_copy(update={"precision": "fp8", "compile": False})
    for name in (ONE, TWO, TWO_OF_IMAGES):
        bench.catalog.manifests[name] = changed(MANIFESTS[name], quantization=Quantization(recipe="fp8-rowwise"))
    return bench


@pytest.fixture
def tape(monkeypatch: pytest.MonkeyPatch) -> TapeRecorder:
    """What models that are loaded from now on record with."""
    tape = TapeRecorder()
    monkeypatch.setattr(generate, "graph_capture_for", lambda device: tape)
    return tape


def made(bench: Bench, plan: Plan, *, fresh: bool = False) -> list[bytes]:
    """The files of a plan; by a model that is loaded anew if `fresh`."""
    if fresh:
        unload(bench.runner)
    return [Path(artifact.path).read_bytes() for artifact in bench.run(plan).artifacts]


def plans(bench: Bench) -> dict[str, tuple[Plan, int, int]]:
    """Plans, how many forwards each has, and how many of them come first with their text, denoiser and size."""
    picture = bench.picture()
    i2v: dict[str, Any] = {"task": Task.IMAGE_TO_VIDEO, "image": picture, "steps": STEPS}
    return {
        "a picture": (image_plan(steps=STEPS, guidance_scale=1.0), STEPS, 1),
        "two texts": (image_plan(steps=STEPS), 2 * STEPS, 2),
        "two pictures": (image_plan(steps=STEPS, count=2), 4 * STEPS, 2),
        "a picture's video": (video_plan(**i2v), 2 * STEPS, 2),
        "a picture from a picture": (
            image_plan(task=Task.IMAGE_TO_IMAGE, image=picture, strength=1.0, steps=STEPS), 2 * STEPS, 2,
        ),
        "two experts": (video_plan(TWO, steps=2 * STEPS), 4 * STEPS, 4),
        "two experts of pictures": (video_plan(TWO_OF_IMAGES, **(i2v | {"steps": 2 * STEPS})), 4 * STEPS, 4),
    }  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["a picture", "two texts", "two pictures", "a picture's video", "a picture from a picture", "two experts",
     "two experts of pictures"],
)  # fmt: skip
def test_a_job_of_replays_gives_the_very_same_files_and_leaves_nothing_behind(
    fp8: Bench, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, forwards, first = plans(fp8)[name]
    plain = made(fp8, plan)
    tape = TapeRecorder()
    monkeypatch.setattr(generate, "graph_capture_for", lambda device: tape)
    assert made(fp8, plan, fresh=True) == plain
    assert (tape.records, tape.replays) == (first, forwards - first)
    assert tape.alive == 0
    assert not any("forward" in vars(denoiser) for denoiser in runner_in(fp8.runner)._model.denoisers)


def model_of(bench: Bench) -> Any:
    model: WanModel = runner_in(bench.runner)._model
    return model


def test_jobs_with_another_lora_record_anew(fp8: Bench, tape: TapeRecorder) -> None:
    plain = image_plan(steps=STEPS)
    found = [made(fp8, plain)]
    written = write_lora(fp8.settings.home / "lora.safetensors", model_of(fp8).converted["transformer"].layers)
    found += [made(fp8, plan) for plan in (image_plan(steps=STEPS, lora=(lora_plan(written),)), plain)]
    assert found[0] == found[2] != found[1]
    assert (tape.records, tape.closed) == (6, 3)


@pytest.mark.parametrize(
    "changes",
    [{"steps": 3}, {"step_cache": StepCache(threshold=1e-9), "steps": 20}, {"turbo": True}],
    ids=["few-steps", "step-cache", "turbo"],
)
def test_a_job_records_nothing_where_that_does_not_pay_or_forwards_differ(
    fp8: Bench, tape: TapeRecorder, changes: dict[str, Any]
) -> None:
    made(fp8, video_plan(**({"steps": STEPS} | changes)))
    assert tape.records == 0


def test_a_forward_that_takes_longer_than_its_launches_is_not_recorded(
    fp8: Bench, tape: TapeRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "MAX_FLOPS", block_flops(BlockShape(64, 2, 96, True, True, 1e-6), 4))
    made(fp8, image_plan(steps=STEPS, width=128))  # 8 tokens, each 32 pixels high and wide
    assert tape.records == 0
    made(fp8, image_plan(steps=STEPS, width=64, height=64))
    assert tape.records == 2


def test_what_is_recorded_never_holds_kernels_from_outside_torch() -> None:
    assert MAX_FLOPS <= MIN_FLOPS  # of a whole block, and of attention alone


def test_a_device_that_refuses_is_asked_once_and_the_job_goes_on(
    fp8: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plan = image_plan(steps=STEPS)
    plain = made(fp8, plan)
    tape = TapeRecorder()
    tape.refuses = Refused("operation not permitted when stream is capturing")
    monkeypatch.setattr(generate, "graph_capture_for", lambda device: tape)
    assert made(fp8, plan, fresh=True) == plain
    tape.refuses = None
    assert made(fp8, plan) == plain
    assert (tape.records, tape.replays) == (0, 0)
    assert len([line for line in caplog.messages if "not recorded: Refused" in line]) == 1


def test_a_job_without_memory_for_recordings_goes_on_and_the_next_one_records(fp8: Bench, tape: TapeRecorder) -> None:
    plan = image_plan(steps=STEPS)
    tape.refuses = torch.OutOfMemoryError()
    plain = made(fp8, plan)
    tape.refuses = None
    assert made(fp8, plan) == plain
    assert tape.records == 2


def test_a_job_that_is_cancelled_among_replays_leaves_nothing_behind(fp8: Bench, tape: TapeRecorder) -> None:
    plan = image_plan(steps=STEPS)
    plain = made(fp8, plan)
    ear = fp8.ear(plan)
    ear.stop_at = lambda ear: bool(ear.steps) and ear.steps[-1][0] == 3
    with pytest.raises(RuntimeError):
        fp8.run(plan, ear)
    assert tape.alive == 0
    assert made(fp8, plan) == plain


@pytest.fixture
def model(embedded: Path) -> WanModel:
    manifest = changed(MANIFESTS[TWO], quantization=Quantization(recipe="fp8-rowwise"))
    return load_wan(context_of(manifest, embedded / TWO, "fp8", sha256="known"))


@torch.no_grad()
def a_pass(model: WanModel, text: torch.Tensor, seed: int = 0, denoiser: int = 0) -> torch.Tensor:
    """A forward of a denoiser over latents of this seed."""
    random = torch.Generator().manual_seed(seed)
    latents, times = torch.randn(1, 16, 1, 8, 8, generator=random), torch.tensor([900.0 - seed])
    found: torch.Tensor = model.denoisers[denoiser](latents, times, text, return_dict=False)[0]
    return found


def texts(count: int) -> list[torch.Tensor]:
    return list(torch.randn(count, 1, 12, 32, generator=torch.Generator().manual_seed(9)).unbind(0))


def within(model: WanModel, recorder: TapeRecorder) -> Any:
    denoiser = model.converted["transformer"]
    return capturing([(denoiser.model, denoiser.blocks)], recorder, passes=100)


def test_results_of_two_texts_stand_side_by_side_and_more_texts_take_turns(model: WanModel) -> None:
    known, tape = texts(3), TapeRecorder()
    order = [0, 1, 0, 1, 0, 1, 2, 0, 2, 1, 0, 1, 2, 2, 0, 0]
    plain = [a_pass(model, known[text], seed) for seed, text in enumerate(order)]
    with within(model, tape) as count:
        found = [a_pass(model, known[text], seed) for seed, text in enumerate(order)]
        assert tape.alive <= 2
    assert all(map(torch.equal, plain, found))
    assert count.passes == len(order) and count.replayed == tape.replays > 6


@pytest.mark.parametrize("error", [torch.OutOfMemoryError(), Refused("not while capturing")])
def test_what_could_not_be_recorded_runs_with_the_memory_of_all_recordings_given_back(
    model: WanModel, error: Exception
) -> None:
    [text], tape, seen = texts(1), TapeRecorder(), []
    plain = a_pass(model, text, denoiser=1)
    model.denoisers[1].blocks[0].register_forward_pre_hook(lambda *_: seen.append((tape.alive, tape.closed)))
    with capturing([(each.model, each.blocks) for each in model.converted.values()], tape, passes=100):
        for _ in range(2):
            a_pass(model, text)
        a_pass(model, text, denoiser=1)
        tape.refuses = error
        assert torch.equal(a_pass(model, text, denoiser=1), plain)
        tape.refuses = None
        assert seen == [(1, 0), (1, 0), (0, 1)]  # the second of them was the refused recording
        for denoiser in (0, 0, 1, 1):
            a_pass(model, text, denoiser=denoiser)
    assert tape.records == 1


@pytest.mark.parametrize("change", ["weights", "run", "texts"])
def test_what_reads_other_things_is_recorded_anew(model: WanModel, change: str) -> None:
    [text], tape = texts(1), TapeRecorder()
    denoiser = model.converted["transformer"]
    before = a_pass(model, text)
    with within(model, tape):
        assert all(torch.equal(a_pass(model, text), before) for _ in range(3))
        if change == "weights":
            denoiser.blocks.drop()
            blocks = model.weight_store._denoisers[1]  # type: ignore[attr-defined]
            denoiser.blocks.replace(blocks)
        elif change == "run":
            denoiser.blocks.run = lambda kind, hidden, *rest: run_block(kind, hidden * 2, *rest)
        else:
            denoiser.forget()
        after = [a_pass(model, text) for _ in range(3)]
    assert tape.records == 2
    assert torch.equal(after[0], before) == (change == "texts")
    assert torch.equal(after[0], after[1]) and torch.equal(after[0], after[2])


def test_a_tape_tells_when_a_replay_reads_what_is_gone() -> None:
    tape, kept = TapeRecorder(), [torch.ones(3)]
    recording = tape.record(lambda: kept[0] * 2)
    recording.replay()
    assert recording.output.tolist() == [2.0, 2.0, 2.0]
    kept.clear()
    with pytest.raises(DeadMemory):
        recording.replay()
