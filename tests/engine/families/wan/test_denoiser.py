"""Denoisers with fast blocks: they compute what diffusers computes, in FP8 about that, and come back from the disk."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.fixtures.bench import MANIFESTS, ONE, TWO, Bench, image_plan, video_plan
from tests.support.denoisers import CHANNELS, a_pass, in_fp8
from tests.support.loading import context_of, unload
from tests.support.lora_files import lora_plan, merge_by_hand, write_lora
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.aot.package_runner import mismatch
from wan_mcp.engine.aot.signature import expected_inputs
from wan_mcp.engine.device.device import Device, resolve_device
from wan_mcp.engine.families.wan.loader import WanModel, load_wan
from wan_mcp.engine.families.wan.precision import block_kinds, scheme_for
from wan_mcp.engine.ops.fp8_linear import FP8, PLAIN
from wan_mcp.engine.transformer.block import BlockKind, run_block
from wan_mcp.engine.transformer.checkpoint_cache import WeightsCache
from wan_mcp.engine.transformer.weight_store import ResidentWeights
from wan_mcp.engine.transformer.weights import BlockWeights
from wan_mcp.errors import JobFailed
from wan_mcp.media.receipts import read_receipt
from wan_mcp.schema.enums import ComputePrecision, Task


@pytest.fixture
def load(embedded: Path, tmp_path: Path) -> Callable[..., WanModel]:
    """Load a tiny model in FP8, its converted weights kept in this test's folder; or in full precision."""

    def load(name: str, precision: Any = "fp8", manifest: Manifest | None = None) -> WanModel:
        cache = WeightsCache(tmp_path / "converted")
        return load_wan(context_of(manifest or in_fp8(name), embedded / name, precision), cache=cache)

    return load


def keep(model: WanModel, folder: Path, count: int) -> list[Path]:
    """Write converted weights to the disk, as a model does after its job; return their folders."""
    model.begin_keeping()
    model.finish_keeping()
    kept = [each for each in (folder / "converted").iterdir() if not each.name.startswith(".")]
    assert len(kept) == count
    return kept


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("name", CHANNELS)
def test_blocks_in_fp8_give_nearly_what_the_blocks_of_diffusers_give(name: str, load: Callable[..., WanModel]) -> None:
    ours, theirs = load(name), load(name, "full")
    assert not theirs.converted and ours.precision == "fp8"
    for mine, true in zip(ours.denoisers, theirs.denoisers, strict=True):
        for frames, size in ((1, (4, 4)), (2, (4, 6)), (3, (8, 4))):
            error = apart(a_pass(mine, name, frames, size), a_pass(true, name, frames, size))
            assert 0.001 < error < 0.05


@pytest.mark.parametrize("name", CHANNELS)
def test_plain_blocks_give_what_the_blocks_of_diffusers_give(
    name: str, load: Callable[..., WanModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = load(name, "full")
    monkeypatch.setattr("wan_mcp.engine.families.wan.loader.scheme_for", lambda *_: PLAIN)
    ours = load(name)
    for mine, true in zip(ours.denoisers, theirs.denoisers, strict=True):
        torch.testing.assert_close(a_pass(mine, name), a_pass(true, name), atol=1e-5, rtol=1e-4)


def test_all_tokens_may_have_one_time_in_a_model_that_gives_each_its_own(load: Callable[..., WanModel]) -> None:
    ours, theirs = load(ONE).denoisers[0], load(ONE, "full").denoisers[0]
    latents, text = torch.randn(1, 48, 1, 4, 4), torch.randn(1, 7, 32)
    with torch.no_grad():
        one = ours(latents, torch.tensor([300]), text, return_dict=False)[0]
        assert apart(one, theirs(latents, torch.tensor([300]), text, return_dict=False)[0]) < 0.05


@pytest.mark.parametrize("name", CHANNELS)
@pytest.mark.parametrize("words", [0, 1, 5, 39, 40])
def test_padding_is_read_once_and_counts_as_often_as_it_is_there(
    name: str, words: int, load: Callable[..., WanModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = torch.cat([torch.randn(1, words, 32), torch.zeros(1, 40 - words, 32)], 1)
    theirs = load(name, "full")
    monkeypatch.setattr("wan_mcp.engine.families.wan.loader.scheme_for", lambda *_: PLAIN)
    ours = load(name)
    for mine, true in zip(ours.denoisers, theirs.denoisers, strict=True):
        torch.testing.assert_close(a_pass(mine, name, text=text), a_pass(true, name, text=text), atol=1e-5, rtol=1e-4)
        assert mine.condition_embedder.text_embedder.known(text).shape[1] == min(max(words + 1, 2), 40)


def test_a_new_text_is_read_and_a_known_one_is_not_read_again(load: Callable[..., WanModel]) -> None:
    denoiser, true = load(TWO).denoisers[0], load(TWO, "full").denoisers[0]
    texts = [torch.randn(1, 7, 32) for _ in range(3)]
    for text in (*texts, *texts):  # more texts than are kept, each twice
        assert apart(a_pass(denoiser, TWO, text=text), a_pass(true, TWO, text=text)) < 0.05
    read = []
    embedder = denoiser.condition_embedder.text_embedder.embedder
    handle = embedder.register_forward_hook(lambda *_: read.append(1))
    for _ in range(3):
        a_pass(denoiser, TWO, text=texts[2])
    handle.remove()
    assert not read


def test_converted_weights_come_back_from_the_disk_bit_for_bit_without_their_source(
    load: Callable[..., WanModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(TWO)
    first = [a_pass(each, TWO) for each in model.denoisers]
    keep(model, tmp_path, 2)
    monkeypatch.setattr(
        "wan_mcp.engine.families.wan.denoiser._Conversion._converted", lambda *_: pytest.fail("read its source")
    )
    again = load(TWO)
    assert all(map(torch.equal, first, [a_pass(each, TWO) for each in again.denoisers]))
    assert again.precision == "fp8"


@pytest.mark.parametrize("damage", ["truncated", "missing", "other"])
def test_damaged_converted_weights_are_made_again(
    damage: str, load: Callable[..., WanModel], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = load(ONE)
    true = a_pass(model.denoisers[0], ONE)
    (kept,) = keep(model, tmp_path, 1)
    block = kept / "block-001.safetensors"
    match damage:
        case "truncated":
            block.write_bytes(block.read_bytes()[:-100])
        case "missing":
            block.unlink()
        case "other":
            shutil.copy(kept / "rest.safetensors", block)
    again = load(ONE)
    assert torch.equal(a_pass(again.denoisers[0], ONE), true)
    assert "are removed" in caplog.text
    (kept,) = keep(again, tmp_path, 1)
    assert (kept / "block-001.safetensors").exists()


def test_a_full_disk_only_costs_the_time_to_convert_again(
    load: Callable[..., WanModel], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "converted").write_text("not a folder")
    model = load(ONE)
    a_pass(model.denoisers[0], ONE)
    model.begin_keeping()
    model.finish_keeping()
    assert "not kept" in caplog.text


def test_a_manifest_leaves_whole_blocks_unquantized_and_no_parts_of_them(load: Callable[..., WanModel]) -> None:
    model = load(ONE, manifest=in_fp8(ONE, "blocks.0", "patch_embedding"))
    kinds = [block.kind.scheme for block in model.denoisers[0].blocks]
    assert kinds == [PLAIN, FP8]
    assert apart(a_pass(model.denoisers[0], ONE), a_pass(load(ONE, "full").denoisers[0], ONE)) < 0.05
    with pytest.raises(JobFailed, match="only whole blocks"):
        load(ONE, manifest=in_fp8(ONE, "blocks.*.ffn"))


def test_fp8_that_is_asked_for_and_cannot_be_had_fails_with_the_setting(load: Callable[..., WanModel]) -> None:
    with pytest.raises(JobFailed, match="WAN_MCP_PRECISION"):
        load(ONE, manifest=MANIFESTS[ONE])


def test_without_being_asked_a_cpu_keeps_full_precision() -> None:
    assert scheme_for(in_fp8(ONE), resolve_device("cpu"), "auto") is None


def test_blocks_that_read_pictures_through_attention_stay_as_diffusers_has_them(load: Callable[..., WanModel]) -> None:
    config = load(ONE, "full").denoisers[0].config
    image = type(config)({**config, "added_kv_proj_dim": 32, "image_dim": 1280})
    assert block_kinds(in_fp8(ONE), image, FP8, torch.float32, temb_per_token=False) is None


def test_a_lora_of_a_job_is_fused_into_fp8_weights_and_leaves_no_trace(
    load: Callable[..., WanModel], tmp_path: Path
) -> None:
    model, true = load(TWO), load(TWO, "full")
    before = [a_pass(each, TWO) for each in model.denoisers]
    written = write_lora(tmp_path / "style.safetensors", true.denoisers[0], "lightx2v")
    adapters = model.job_adapters()
    adapters.use((lora_plan(written, 0.7, expert="transformer_2"),))
    merge_by_hand(true.denoisers[1], written, 0.7)
    high, low = (a_pass(each, TWO) for each in model.denoisers)
    assert torch.equal(high, before[0])
    assert apart(low, a_pass(true.denoisers[1], TWO)) < 0.05 < 3 * 0.05 < apart(low, before[1])
    adapters.use(())
    assert all(map(torch.equal, before, [a_pass(each, TWO) for each in model.denoisers]))


def test_patches_of_norms_and_biases_in_a_lora_reach_fp8_weights_and_leave_no_trace(
    load: Callable[..., WanModel], tmp_path: Path
) -> None:
    model, true = load(TWO), load(TWO, "full")
    before = [a_pass(each, TWO) for each in model.denoisers]
    random = torch.Generator().manual_seed(4)
    patches = {
        "blocks.0.norm3.diff": "blocks.0.norm2.weight",
        "blocks.1.modulation.diff": "blocks.1.scale_shift_table",
        "time_embedding.0.diff_b": "condition_embedder.time_embedder.linear_1.bias",
    }
    parameters = dict(true.denoisers[1].named_parameters())
    tensors = {key: torch.randn(parameters[name].shape, generator=random) for key, name in patches.items()}
    save_file(tensors, tmp_path / "patches.safetensors")
    adapters = model.job_adapters()
    adapters.use((lora_plan(tmp_path / "patches.safetensors", 0.5, expert="transformer_2"),))
    with torch.no_grad():
        for key, name in patches.items():
            parameters[name] += 0.5 * tensors[key]
    high, low = (a_pass(each, TWO) for each in model.denoisers)
    assert torch.equal(high, before[0])
    assert apart(low, a_pass(true.denoisers[1], TWO)) < 0.05 < 3 * 0.05 < apart(low, before[1])
    adapters.use(())
    assert all(map(torch.equal, before, [a_pass(each, TWO) for each in model.denoisers]))


@pytest.mark.parametrize("failing", [0, 1], ids=["first-expert", "second-expert"])
@pytest.mark.parametrize("on_before", [False, True], ids=["putting-it-on", "taking-it-off"])
def test_a_change_of_loras_that_runs_out_of_memory_leaves_nothing_to_the_next_job(
    load: Callable[..., WanModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int, on_before: bool
) -> None:
    model = load(TWO)
    before = [a_pass(each, TWO) for each in model.denoisers]
    written = write_lora(tmp_path / "style.safetensors", load(TWO, "full").denoisers[0], "lightx2v")
    adapters, loras = model.job_adapters(), (lora_plan(written, 0.7),)
    if on_before:
        adapters.use(loras)
    blocks = iter(range(1000))
    settle = ResidentWeights.place

    def short_of_memory(self: ResidentWeights, weights: BlockWeights) -> BlockWeights:
        if next(blocks) == failing * len(model.denoisers[0].blocks):
            raise torch.OutOfMemoryError
        return settle(self, weights)

    monkeypatch.setattr(ResidentWeights, "place", short_of_memory)
    with pytest.raises(torch.OutOfMemoryError):
        adapters.use(() if on_before else loras)
    adapters.use(())
    assert all(map(torch.equal, before, [a_pass(each, TWO) for each in model.denoisers]))


@pytest.mark.parametrize("task", [Task.TEXT_TO_IMAGE, Task.IMAGE_TO_IMAGE, Task.TEXT_TO_VIDEO, Task.IMAGE_TO_VIDEO])
def test_every_task_runs_in_fp8_and_the_receipt_says_so(task: Task, bench: Bench) -> None:
    bench.catalog.manifests[ONE] = in_fp8(ONE)
    bench.runner._settings = bench.settings.model_copy(update={"precision": "fp8", "compile": False})
    values: dict[str, Any] = {"task": task}
    if task in (Task.IMAGE_TO_IMAGE, Task.IMAGE_TO_VIDEO):
        values["image"] = bench.picture()
    if task is Task.IMAGE_TO_IMAGE:
        values["strength"] = 0.7
    plans = [video_plan(**values) if task.kind == "video" else image_plan(**values) for _ in range(2)]
    first, second = (bench.run(plan) for plan in plans)
    one, two = (Path(job.artifacts[0].path) for job in (first, second))
    assert one.read_bytes() == two.read_bytes(), "the same job gives the same file"
    if task.kind == "image":
        assert (read_receipt(one) or {})["precision"] == FP8


def test_turbo_changes_the_video_where_blocks_are_ours_and_says_so_where_they_are_not(bench: Bench) -> None:
    bench.catalog.manifests[ONE] = in_fp8(ONE)
    true = bench.runner._settings
    size: dict[str, Any] = {"width": 256, "height": 256, "num_frames": 17, "steps": 2, "guidance_scale": 1.0}
    dense_here = bench.run(video_plan(turbo=True, **size))
    assert any("turbo changed nothing" in note for note in dense_here.notes)
    bench.runner._settings = true.model_copy(update={"precision": "fp8", "compile": False})
    unload(bench.runner)
    dense, quick = bench.run(video_plan(**size)), bench.run(video_plan(turbo=True, **size))
    assert Path(dense.artifacts[0].path).read_bytes() != Path(quick.artifacts[0].path).read_bytes()
    assert not any(note.startswith("turbo ") for note in quick.notes)
    for steps, why in ((1, "the first step always"), (2, "too few tokens")):
        nothing = bench.run(video_plan(turbo=True, steps=steps, count=2))
        (said,) = [note for note in nothing.notes if note.startswith("turbo ")]  # once, not for each result
        assert said.startswith("turbo changed nothing: ") and why in said
    again = bench.run(video_plan(**size))
    assert Path(dense.artifacts[0].path).read_bytes() == Path(again.artifacts[0].path).read_bytes()


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("name", CHANNELS)
def test_what_a_denoiser_hands_its_blocks_is_what_a_package_takes(
    name: str, precision: ComputePrecision, embedded: Path
) -> None:
    device = Device(torch.device("cpu"), precision, "cpu")
    model = load_wan(context_of(in_fp8(name), embedded / name, "fp8", device=device))
    seen: list[str] = []

    def look(kind: BlockKind, *inputs: Any) -> Tensor:
        *activations, weights = inputs
        sizes: dict[str, int] = {}
        for wanted, tensor in zip(expected_inputs(kind), [*activations, *weights], strict=True):
            if (wrong := mismatch(wanted, tensor, device.torch, sizes)) is not None:
                seen.append(f"{wanted.name}: {wrong}")
        return run_block(kind, *inputs)

    for each in model.converted.values():
        each.blocks.run = look
        latents = torch.randn(1, CHANNELS[name], 1, 4, 4, dtype=device.dtype)
        times = torch.tensor([700.0]) if name != ONE else torch.full((1, 4), 700.0)
        with torch.no_grad():
            each.model(latents, times, torch.randn(1, 7, 32, dtype=device.dtype), return_dict=False)
    assert not seen
