"""LoRAs that requests bring: found, refused, put on, changed and taken off again."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.fixtures.bench import MANIFESTS, ONE, TWO, Bench, changed, image_plan, video_plan
from tests.support.loading import runner_in
from tests.support.lora_files import STYLES, lora_plan, merge_by_hand, write_lora
from wan_mcp.catalog.catalog import Catalog
from wan_mcp.catalog.manifest import Limits
from wan_mcp.engine.families.wan.decode import FrameDecoder
from wan_mcp.errors import BadRequest, JobFailed
from wan_mcp.files import sha256_of
from wan_mcp.media.receipts import read_receipt
from wan_mcp.planning.planner import Planner
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.requests import ImageRequest, LoraRequest


def pixels(job: Job) -> bytes:
    from PIL import Image

    return Image.open(job.artifacts[0].path).tobytes()


def denoisers(bench: Bench) -> list[Any]:
    found: list[Any] = runner_in(bench.runner)._model.denoisers
    return found


def latents_of(bench: Bench, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Any:
    """The finished latents of a still."""
    kept: list[Any] = []
    true = FrameDecoder.frames

    def frames(decoder: Any, latents: Any, *others: Any) -> Any:
        kept.append(latents)
        return true(decoder, latents, *others)

    with monkeypatch.context() as patch:
        patch.setattr(FrameDecoder, "frames", frames)
        bench.run(image_plan(**changes))
    return kept[0]


@pytest.mark.parametrize("style", STYLES)
def test_a_lora_does_what_its_weights_merged_by_hand_do_and_leaves_no_trace(
    bench: Bench, tmp_path: Path, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = latents_of(bench, monkeypatch)
    (denoiser,) = denoisers(bench)
    untouched = {name: tensor.clone() for name, tensor in denoiser.state_dict().items()}
    written = write_lora(tmp_path / "style.safetensors", denoiser, style)
    with_lora = latents_of(bench, monkeypatch, lora=(lora_plan(written, 0.7),))
    after = latents_of(bench, monkeypatch)
    assert torch.equal(before, after)
    assert dict.fromkeys(untouched, True) == {
        name: torch.equal(tensor, untouched[name]) for name, tensor in denoiser.state_dict().items()
    }
    merge_by_hand(denoiser, written, 0.7)
    by_hand = latents_of(bench, monkeypatch)
    assert (with_lora - before).abs().max() > 0.01
    torch.testing.assert_close(with_lora, by_hand, atol=1e-4, rtol=1e-3)


def test_several_loras_add_up_and_can_change_between_jobs_without_loading_the_model_again(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = latents_of(bench, monkeypatch)
    (denoiser,) = denoisers(bench)
    one = write_lora(tmp_path / "one.safetensors", denoiser, "lightx2v", seed=1)
    two = write_lora(tmp_path / "two.safetensors", denoiser, "diffusers", seed=2)
    both = latents_of(bench, monkeypatch, lora=(lora_plan(one, 0.5), lora_plan(two, -0.4)))
    only_one = latents_of(bench, monkeypatch, lora=(lora_plan(one, 0.5),))
    again = latents_of(bench, monkeypatch, lora=(lora_plan(one, 0.5), lora_plan(two, -0.4)))
    assert torch.equal(both, again)
    assert not torch.equal(both, only_one)
    assert denoisers(bench)[0] is denoiser
    assert torch.equal(latents_of(bench, monkeypatch), plain)
    merge_by_hand(denoiser, one, 0.5)
    merge_by_hand(denoiser, two, -0.4)
    torch.testing.assert_close(latents_of(bench, monkeypatch), both, atol=1e-4, rtol=1e-3)


def test_a_lora_goes_to_one_expert_or_to_both(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.run(image_plan(TWO))
    first, second = denoisers(bench)
    written = write_lora(tmp_path / "l.safetensors", first)
    for expert, on in (("transformer_2", [False, True]), ("transformer", [True, False]), (None, [True, True])):
        bench.run(image_plan(TWO, lora=(lora_plan(written, expert=expert),)))
        assert [bool(getattr(each, "peft_config", None)) for each in (first, second)] == on


def test_a_lora_for_another_architecture_is_refused_with_keys_that_do_not_match(bench: Bench, tmp_path: Path) -> None:
    bench.run(image_plan())
    (denoiser,) = denoisers(bench)
    before = pixels(bench.run(image_plan()))
    written = write_lora(tmp_path / "good.safetensors", denoiser, "diffusers")
    from safetensors.torch import load_file

    tensors = load_file(written.file)
    wide = {key: torch.cat([t, t], 1) if ".lora_A." in key else t for key, t in tensors.items()}
    deep = tensors | {
        key.replace("blocks.1", "blocks.39"): t.clone() for key, t in tensors.items() if "blocks.1" in key
    }
    save_file(wide, tmp_path / "wide.safetensors")
    save_file(deep, tmp_path / "deep.safetensors")
    save_file({"lora_te_text_model.weight": torch.ones(2)}, tmp_path / "foreign.safetensors")
    for name, words in {
        "wide": r"blocks\.0\.attn1\.to_q \(128 wide, 64 here\)",
        "deep": r"20 of 60 .*blocks\.39\.attn1\.to_q \(not in this model\)",
        "foreign": "lora_te_text_model.weight",
    }.items():
        with pytest.raises(JobFailed, match=words) as failure:
            bench.run(image_plan(lora=(lora_plan(written), lora_plan(tmp_path / f"{name}.safetensors"))))
        assert failure.value.code == "lora_unfit"
    assert pixels(bench.run(image_plan())) == before


def test_a_lora_of_wan21_goes_on_wan22_without_its_layers_for_pictures(bench: Bench, tmp_path: Path) -> None:
    bench.run(image_plan())
    (denoiser,) = denoisers(bench)
    from safetensors.torch import load_file

    tensors = load_file(write_lora(tmp_path / "l.safetensors", denoiser, "kijai").file)
    for layer in ("blocks.0.cross_attn.k_img", "blocks.0.cross_attn.v_img", "img_emb.proj.1", "img_emb.proj.3"):
        tensors[f"diffusion_model.{layer}.lora_down.weight"] = torch.ones(4, 64)
        tensors[f"diffusion_model.{layer}.lora_up.weight"] = torch.ones(64, 4)
    save_file(tensors, tmp_path / "l21.safetensors")
    bench.run(image_plan(lora=(lora_plan(tmp_path / "l21.safetensors"),)))


def test_a_result_names_its_loras_by_hash_and_scale_but_not_where_they_lie(bench: Bench, tmp_path: Path) -> None:
    bench.run(image_plan())
    written = write_lora(tmp_path / "style.safetensors", denoisers(bench)[0])
    job = bench.run(image_plan(lora=(lora_plan(written, 0.8),)))
    receipt = read_receipt(Path(job.artifacts[0].path))
    assert receipt is not None
    assert receipt["request"]["lora"] == [
        {"name": "style", "sha256": sha256_of(written.file), "scale": 0.8, "expert": None}
    ]
    assert str(tmp_path) not in str(receipt)


def test_a_lora_that_changed_or_went_since_the_request_fails_its_job(bench: Bench, tmp_path: Path) -> None:
    bench.run(image_plan())
    written = write_lora(tmp_path / "l.safetensors", denoisers(bench)[0])
    plan = image_plan(lora=(lora_plan(written),))
    write_lora(tmp_path / "l.safetensors", denoisers(bench)[0], seed=5)
    with pytest.raises(JobFailed, match="was changed"):
        bench.run(plan)
    written.file.unlink()
    with pytest.raises(JobFailed, match="is gone"):
        bench.run(plan)
    bench.run(video_plan())


@pytest.fixture
def planner(bench: Bench) -> Planner:
    catalog = Catalog()
    catalog.manifests[ONE] = changed(MANIFESTS[ONE], limits=Limits(loras=2))
    catalog.manifests[TWO] = MANIFESTS[TWO]
    (bench.settings.home / "loras").mkdir()
    (bench.settings.home.parent / "mine").mkdir(exist_ok=True)
    settings = bench.settings.model_copy(update={"lora_dirs": (bench.settings.home.parent / "mine",)})
    return Planner(settings, catalog)


def ask(*loras: LoraRequest, model: str = ONE) -> ImageRequest:
    return ImageRequest(prompt="x", model=model, lora=loras)


def test_a_lora_is_found_by_name_in_the_home_and_by_path_in_the_allowed_folders(bench: Bench, planner: Planner) -> None:
    mine = bench.settings.home.parent / "mine" / "b.safetensors"
    for file in (bench.settings.home / "loras" / "a.safetensors", mine):
        save_file({"x": torch.ones(1)}, file)
    plan = planner.plan(ask(LoraRequest(name="a", scale=0.5), LoraRequest(path=str(mine))))
    assert [(lora.name, lora.scale) for lora in plan.lora] == [("a", 0.5), ("b", 1.0)]  # type: ignore[union-attr]
    assert plan.lora[1].sha256 == sha256_of(mine)  # type: ignore[union-attr]


def test_a_lora_is_found_whatever_the_case_of_its_ending(bench: Bench, planner: Planner) -> None:
    folder = bench.settings.home / "loras"
    save_file({"x": torch.ones(1)}, folder / "STYLE.SAFETENSORS")
    for written in (
        LoraRequest(name="STYLE"),
        LoraRequest(name="STYLE.SAFETENSORS"),
        LoraRequest(name="STYLE.safetensors"),
        LoraRequest(path=str(folder / "STYLE.SAFETENSORS")),
    ):
        plan = planner.plan(ask(written))
        assert [lora.name for lora in plan.lora] == ["STYLE"]  # type: ignore[union-attr]


def test_what_is_asked_wrongly_is_refused_with_what_there_is(
    bench: Bench, planner: Planner, tmp_path_factory: pytest.TempPathFactory
) -> None:
    there = bench.settings.home / "loras" / "a.safetensors"
    save_file({"x": torch.ones(1)}, there)
    outside = tmp_path_factory.mktemp("outside") / "o.safetensors"
    save_file({"x": torch.ones(1)}, outside)
    pickled = there.with_name("p.safetensors")
    pickled.write_bytes(pickle.dumps({"x": 1}))
    save_file({"blocks.0.ffn.0.lokr_w1": torch.ones(1)}, there.with_name("lokr.safetensors"))
    one = LoraRequest(name="a")
    for request, words in (
        (ask(LoraRequest(name="z")), "available: a"),
        (ask(LoraRequest(name="../a")), "no lora"),
        (ask(LoraRequest()), "needs either a name"),
        (ask(LoraRequest(name="a", path=str(there))), "needs either a name"),
        (ask(LoraRequest(path=str(outside))), "WAN_MCP_LORA_DIRS"),
        (ask(LoraRequest(path=str(there.with_name("no.safetensors")))), "no lora file"),
        (ask(LoraRequest(name="p")), "is not a safetensors"),
        (ask(LoraRequest(name="a", scale=float("nan"))), "scale"),
        (ask(LoraRequest(name="a", scale=11)), "-10 to 10"),
        (ask(LoraRequest(name="a", scale=0)), "changes nothing"),
        (
            ask(LoraRequest(name="lokr")),
            r"lokr\.safetensors is a LoKr \(blocks\.0\.ffn\.0\.lokr_w1\); only plain",
        ),
        (ask(LoraRequest(name="a", expert="third")), "expert"),
        (ask(one, one, one), "at most 2"),
        (ask(one, model=TWO), "supports no LoRAs"),
    ):
        with pytest.raises(BadRequest, match=words):
            planner.plan(request)
