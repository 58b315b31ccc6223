"""Styles of LoRA files: each changes the denoiser like the plain one, or is refused with the true reason."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.fixtures.bench import ONE, TWO
from tests.support.lora_files import ORIGINAL, RANK
from wan_mcp.engine.families.wan.loader import WanModel
from wan_mcp.engine.families.wan.lora import JobAdapters
from wan_mcp.errors import JobFailed
from wan_mcp.files import sha256_of
from wan_mcp.schema.plans import LoraPlan

Layers = dict[str, tuple[Tensor, Tensor]]
"""lora_A and lora_B by diffusers' names of the layers."""
Style = Callable[[str, str, Tensor, Tensor], dict[str, Tensor]]
"""The tensors of one layer, from diffusers' name, the name of Wan's authors, lora_A and lora_B."""


@pytest.fixture(scope="module")
def model(load: Callable[[str], WanModel]) -> WanModel:
    return load(ONE)


@pytest.fixture(scope="module")
def experts(load: Callable[[str], WanModel]) -> WanModel:
    return load(TWO)


class Studio:
    """A model that puts on LoRA files, and what its denoisers then compute."""

    def __init__(self, model: WanModel, folder: Path) -> None:
        self.model, self.folder = model, folder
        self.adapters: JobAdapters = model.job_adapters()

    def use(self, tensors: dict[str, Tensor], scale: float = 1.0, expert: str | None = None, **metadata: str) -> Any:
        """What the first denoiser computes with a file of these tensors."""
        return self.use_all(tensors, scale, expert, **metadata)[0]

    def use_all(
        self, tensors: dict[str, Tensor], scale: float = 1.0, expert: str | None = None, **metadata: str
    ) -> list[Tensor]:
        file = self.folder / "style.safetensors"
        save_file({key: tensor.clone().contiguous() for key, tensor in tensors.items()}, file, metadata or None)
        plan = LoraPlan(name="style", file=str(file), sha256=sha256_of(file), scale=scale, expert=expert)
        self.adapters.use((plan,))
        return self.passes()

    def passes(self) -> list[Tensor]:
        """What each denoiser computes as it is."""
        return [_a_pass(denoiser) for denoiser in self.model.denoisers]

    def refused(self, tensors: dict[str, Tensor], words: str, **options: Any) -> None:
        """Check that a file is refused with these words, and that the denoisers stay as they are."""
        self.adapters.use(())
        before = self.passes()
        with pytest.raises(JobFailed, match=words) as failure:
            self.use(tensors, **options)
        assert failure.value.code == "lora_unfit"
        assert all(torch.equal(one, other) for one, other in zip(before, self.passes(), strict=True))


def _a_pass(denoiser: Any) -> Tensor:
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        output: Tensor = denoiser(
            hidden_states=torch.randn(1, denoiser.config.in_channels, 1, 4, 4, generator=random),
            timestep=torch.tensor([500]),
            encoder_hidden_states=torch.randn(1, 6, denoiser.config.text_dim, generator=random),
            return_dict=False,
        )[0]
    return output


@pytest.fixture
def studio(model: WanModel, tmp_path: Path) -> Iterator[Studio]:
    studio = Studio(model, tmp_path)
    yield studio
    studio.adapters.use(())


@pytest.fixture
def two(experts: WanModel, tmp_path: Path) -> Iterator[Studio]:
    studio = Studio(experts, tmp_path)
    yield studio
    studio.adapters.use(())


def layers_of(denoiser: Any) -> Layers:
    random = torch.Generator().manual_seed(0)
    found = {}
    for number in range(len(denoiser.blocks)):
        for ours in ORIGINAL:
            path = f"blocks.{number}.{ours}"
            module = denoiser.get_submodule(path)
            found[path] = (
                torch.randn(RANK, module.in_features, generator=random) * 0.3,
                torch.randn(module.out_features, RANK, generator=random) * 0.3,
            )
    return found


def written(layers: Layers, style: Style) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for path, (down, up) in layers.items():
        block, number, ours = path.split(".", 2)
        tensors |= style(path, f"{block}.{number}.{ORIGINAL[ours]}", down, up)
    return tensors


def named(form: str, *, a: str = "lora_A", b: str = "lora_B", tail: str = ".weight") -> Style:
    """A style that puts a layer's name into a form: OURS of diffusers, THEIRS of Wan's authors, or FLAT."""

    def style(ours: str, theirs: str, down: Tensor, up: Tensor) -> dict[str, Tensor]:
        name = form.replace("OURS", ours).replace("THEIRS", theirs)
        name = name.replace("FLAT", theirs.replace(".", "_")).replace("EVEN", ours.replace(".", "_"))
        return {f"{name}.{a}{tail}": down, f"{name}.{b}{tail}": up}

    return style


def with_alpha(style: Style, alpha: Tensor) -> Style:
    """A style with the alpha, and lora_A so much larger that the change is the same."""

    def all_of_it(ours: str, theirs: str, down: Tensor, up: Tensor) -> dict[str, Tensor]:
        tensors = style(ours, theirs, down * (RANK / float(alpha)), up)
        name = next(iter(tensors)).split(".lora_")[0]
        return tensors | {f"{name}.alpha": alpha}

    return all_of_it


PLAIN = named("transformer.OURS")
DOWN_UP = {"a": "lora_down", "b": "lora_up"}
SAME: dict[str, Style] = {
    "bare": named("OURS"),
    "adapter-default": named("transformer.OURS", tail=".default.weight"),
    "adapter-named": named("transformer.OURS", tail=".my-style_2.weight"),
    "adapter-named-weight": named("transformer.OURS", tail=".weight.weight"),
    "adapter-bare": named("OURS", tail=".default.weight"),
    "adapter-peft": named("base_model.model.OURS", tail=".default.weight"),
    "peft-in-transformer": named("transformer.base_model.model.OURS", tail=".default.weight"),
    "diffsynth": named("THEIRS", tail=".default.weight"),
    "diffsynth-pipe": named("pipe.dit.THEIRS", tail=".default.weight"),
    "model-diffusion-model": named("model.diffusion_model.THEIRS"),
    "diffusion-model": named("diffusion_model.THEIRS"),
    "diffusion-model-ours": named("diffusion_model.OURS", **DOWN_UP),
    "down-up-in-transformer": named("transformer.OURS", **DOWN_UP),
    "ddp": named("module.THEIRS", **DOWN_UP),
    "torch-compile": named("_orig_mod.OURS"),
    "lora.down": named("transformer.OURS", a="lora.down", b="lora.up"),
    "no-weight": named("diffusion_model.THEIRS", tail=""),
    "kohya": with_alpha(named("lora_unet_FLAT", **DOWN_UP), torch.tensor(float(RANK))),
    "kohya-other-alpha": with_alpha(named("lora_unet_FLAT", **DOWN_UP), torch.tensor(1.0)),
    "kohya-without-alpha": named("lora_unet_FLAT", **DOWN_UP),
    "kohya-two-underscores": with_alpha(named("lora_unet__FLAT", **DOWN_UP), torch.tensor([2.0])),
    "kohya-ours": named("lora_transformer_EVEN", **DOWN_UP),
    "lycoris": with_alpha(named("lycoris_FLAT", **DOWN_UP), torch.tensor(2)),
    "alpha-beside-ours": with_alpha(named("transformer.OURS"), torch.tensor(8.0, dtype=torch.bfloat16)),
    "as-convolution": lambda ours, theirs, down, up: named(f"diffusion_model.{theirs}", **DOWN_UP)(
        ours, theirs, down[:, :, None, None], up[:, :, None, None]
    ),
}


@pytest.mark.parametrize("style", SAME)
def test_a_lora_in_any_style_changes_the_denoiser_like_the_plain_one_to_the_bit(studio: Studio, style: str) -> None:
    without = studio.passes()[0]
    layers = layers_of(studio.model.denoisers[0])
    plain = studio.use(written(layers, PLAIN), 0.7)
    assert not torch.equal(plain, without)
    assert torch.equal(studio.use(written(layers, SAME[style]), 0.7), plain)
    studio.adapters.use(())
    assert torch.equal(studio.passes()[0], without)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn], ids=str)
def test_a_lora_of_low_precision_counts_with_the_values_that_it_holds(studio: Studio, dtype: torch.dtype) -> None:
    layers = {path: (a.to(dtype), b.to(dtype)) for path, (a, b) in layers_of(studio.model.denoisers[0]).items()}
    exact = {path: (a.float(), b.float()) for path, (a, b) in layers.items()}
    expected = studio.use(written(exact, PLAIN))
    assert torch.equal(studio.use(written(layers, named("diffusion_model.THEIRS", **DOWN_UP))), expected)


def test_each_layer_can_have_its_rank_and_its_alpha(studio: Studio) -> None:
    layers = layers_of(studio.model.denoisers[0])
    mixed: dict[str, Tensor] = {}
    plain: dict[str, Tensor] = {}
    for number, (path, (down, up)) in enumerate(layers.items()):
        rank, alpha = number % RANK + 1, float(2 ** (number % 3))
        plain |= PLAIN(path, "", down[:rank] * (alpha / rank), up[:, :rank])
        mixed |= PLAIN(path, "", down[:rank], up[:, :rank]) | {f"transformer.{path}.alpha": torch.tensor(alpha)}
    assert torch.equal(studio.use(mixed), studio.use(plain))


def test_the_alpha_in_the_metadata_of_diffusers_counts(studio: Studio) -> None:
    layers = layers_of(studio.model.denoisers[0])
    config = {"transformer.r": RANK, "transformer.lora_alpha": 2 * RANK, "transformer.target_modules": ["to_q"]}
    twice = {path: (2 * down, up) for path, (down, up) in layers.items()}
    with_metadata = studio.use(written(layers, PLAIN), lora_adapter_metadata=json.dumps(config))
    assert torch.equal(with_metadata, studio.use(written(twice, PLAIN)))


def test_patches_of_biases_norms_tables_and_whole_weights_are_applied_and_taken_off_again(studio: Studio) -> None:
    (denoiser,) = studio.model.denoisers
    state = {name: tensor.clone() for name, tensor in denoiser.state_dict().items()}
    random = torch.Generator().manual_seed(3)
    patches = {
        "blocks.0.norm3.diff": "blocks.0.norm2.weight",
        "blocks.0.norm3.diff_b": "blocks.0.norm2.bias",
        "blocks.1.self_attn.norm_q.diff": "blocks.1.attn1.norm_q.weight",
        "blocks.1.self_attn.q.diff_b": "blocks.1.attn1.to_q.bias",
        "blocks.1.ffn.0.diff": "blocks.1.ffn.net.0.proj.weight",
        "blocks.1.modulation.diff": "blocks.1.scale_shift_table",
        "blocks.0.diff_m": "blocks.0.scale_shift_table",
        "head.head.diff": "proj_out.weight",
        "patch_embedding.diff": "patch_embedding.weight",
        "time_projection.1.diff_b": "condition_embedder.time_proj.bias",
    }
    plain = written(layers_of(denoiser), named("diffusion_model.THEIRS"))
    tensors, changed = dict(plain), dict(state)
    for key, parameter in patches.items():
        change = torch.randn(state[parameter].shape, generator=random) * 0.2
        tensors[f"diffusion_model.{key}"] = change
        if key != "blocks.1.self_attn.q.diff_b":  # goes with its layer's lora_B
            changed[parameter] = state[parameter] + 0.5 * change
    tensors["diffusion_model.blocks.0.norm1.diff"] = torch.zeros(4)  # of a norm without weights: changes nothing
    bias = "blocks.1.self_attn.q.diff_b"
    patched = studio.use(tensors, 0.5)
    studio.adapters.use(())
    assert dict.fromkeys(state, True) == {
        name: torch.equal(tensor, state[name]) for name, tensor in denoiser.state_dict().items()
    }
    denoiser.load_state_dict(changed)
    by_hand = studio.use(plain | {f"diffusion_model.{bias}": tensors[f"diffusion_model.{bias}"]}, 0.5)
    studio.adapters.use(())
    denoiser.load_state_dict(state)
    assert torch.equal(patched, by_hand)


def test_a_lora_of_patches_alone_works(studio: Studio) -> None:
    before = studio.passes()[0]
    after = studio.use({"diffusion_model.blocks.0.self_attn.q.diff_b": torch.ones(64)})
    assert not torch.equal(before, after)


def other(form: str, **parts: tuple[int, ...]) -> dict[str, Tensor]:
    return {f"{form}.{part.replace('__', '.')}": torch.ones(shape) for part, shape in parts.items()}


LAYER = "diffusion_model.blocks.0.self_attn.q"
HALF = {f"{LAYER}.lora_A.weight": torch.ones(4, 64), f"{LAYER}.lora_B.weight": torch.ones(64, 4)}
REFUSED: dict[str, tuple[dict[str, Tensor], str]] = {
    "lokr": (other(LAYER, lokr_w1=(4, 4), lokr_w2=(16, 16)), r"is a LoKr \(.*lokr_w1"),
    "loha": (other("lora_unet_blocks_0_self_attn_q", hada_w1_a=(64, 4), hada_w1_b=(4, 64)), "is a LoHa"),
    "dora": (HALF | other(LAYER, dora_scale=(64, 1)), "is a DoRA"),
    "dora-of-peft": (HALF | other(LAYER, lora_magnitude_vector__weight=(64,)), "is a DoRA"),
    "ia3": (other("lora_unet_blocks_0_self_attn_q", weight=(64,), on_input=(1,)), "is an IA3"),
    "oft": (other(LAYER, oft_blocks=(4, 16, 16)), "is an OFT"),
    "locon": (HALF | other(LAYER, lora_mid__weight=(4, 4)), "convolutional LoCon"),
    "mixed": (HALF | other("diffusion_model.blocks.1.ffn.0", lokr_w1=(4, 4)), "mixes a plain LoRA with a LoKr"),
    "text-encoder": (HALF | other("lora_te1_text_model_q", lora_down__weight=(4, 8)), "the text encoder"),
    "text-encoder-dotted": (HALF | other("text_encoder.layers.0.q", lora_A__weight=(4, 8)), "the text encoder"),
    "two-adapters": (
        HALF | other(LAYER, lora_A__extra__weight=(4, 64), lora_B__extra__weight=(64, 4)),
        r"several adapters \(\(unnamed\), extra\)",
    ),
    "twice": (
        HALF | other("blocks.0.attn1.to_q", lora_down__weight=(4, 64)),
        r"changes blocks\.0\.attn1\.to_q twice",
    ),
    "no-up": (other(LAYER, lora_A__weight=(4, 64)), r"no lora_B for blocks\.0\.attn1\.to_q"),
    "no-down": (other(LAYER, lora_up__weight=(64, 4)), r"no lora_A for blocks\.0\.attn1\.to_q"),
    "alpha-alone": (HALF | other("diffusion_model.blocks.1.ffn.0", alpha=()), r"for blocks\.1\.ffn\.net\.0\.proj"),
    "two-ranks": (
        other(LAYER, lora_A__weight=(4, 64), lora_B__weight=(64, 8)),
        r"two ranks .*lora_A is 4x64 and lora_B is 64x8",
    ),
    "transposed": (
        other(LAYER, lora_A__weight=(64, 4), lora_B__weight=(4, 64)),
        r"lora_A is 64x4 instead of RANK x 64",
    ),
    "too-wide": (
        other(LAYER, lora_A__weight=(4, 128), lora_B__weight=(64, 4)),
        r"lora_A is 4x128 instead of RANK x 64",
    ),
    "too-high": (
        other(LAYER, lora_A__weight=(4, 64), lora_B__weight=(80, 4)),
        r"lora_B is 80x4 instead of 64 x RANK",
    ),
    "block-out-of-range": (
        HALF | other("blocks.39.self_attn.q", lora_A__weight=(4, 64), lora_B__weight=(64, 4)),
        r"blocks\.39\.attn1\.to_q \(not in this model\), which has blocks 0 to 1",
    ),
    "another-architecture": (
        other("transformer.single_transformer_blocks.0.attn.to_q", lora_A__weight=(4, 64), lora_B__weight=(64, 4)),
        r"single_transformer_blocks\.0\.attn\.to_q \(not in this model\)",
    ),
    "bias-too-long": (HALF | other(LAYER, diff_b=(80,)), r"bias of 80, 64 here"),
    "patch-too-long": (HALF | other("diffusion_model.blocks.0.norm3", diff=(80,)), r"norm2\.weight \(80, 64 here\)"),
    "whole-weights": (HALF | other("diffusion_model.blocks.0.norm3", weight=(64,)), "also holds .*norm3.weight"),
    "no-lora": (other("model.layers.0", weight=(64,)), "is not a LoRA in a known style.*model.layers.0.weight"),
    "not-finite": ({key: tensor * float("nan") for key, tensor in HALF.items()}, "not finite"),
    "integers": ({key: tensor.to(torch.int8) for key, tensor in HALF.items()}, "int8"),
    "zeros": (HALF | {f"{LAYER}.lora_B.weight": torch.zeros(64, 4)}, "changes nothing"),
    "alpha-zero": (HALF | {f"{LAYER}.alpha": torch.tensor(0.0)}, "changes nothing"),
    "second-expert": (
        other("transformer_2.blocks.0.attn1.to_q", lora_A__weight=(4, 64), lora_B__weight=(64, 4)),
        "made for transformer_2",
    ),
    "only-image-layers": (
        other("diffusion_model.blocks.0.cross_attn.k_img", lora_A__weight=(4, 64), lora_B__weight=(64, 4)),
        "none of its layers is in this model",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_applied_is_refused_with_the_true_reason(studio: Studio, case: str) -> None:
    tensors, words = REFUSED[case]
    studio.refused(tensors, words)


def test_a_tensor_that_peft_drops_is_never_dropped_in_silence(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser = studio.model.denoisers[0]
    load = type(denoiser).load_lora_adapter

    def forgetful(self: Any, tensors: dict[str, Tensor], **options: Any) -> None:
        load(self, {key: tensor for key, tensor in tensors.items() if "blocks.1.attn2.to_v" not in key}, **options)

    with monkeypatch.context() as patch:
        patch.setattr(type(denoiser), "load_lora_adapter", forgetful)
        with pytest.raises(JobFailed, match=r"2 of 40 tensors did not reach the model.*blocks\.1\.attn2\.to_v"):
            studio.use(written(layers_of(denoiser), PLAIN))
    studio.adapters.use(())


def test_layers_for_a_start_image_are_left_out_with_a_note(studio: Studio) -> None:
    layers = layers_of(studio.model.denoisers[0])
    plain = studio.use(written(layers, PLAIN))
    assert not studio.adapters.notes
    more = written(layers, named("diffusion_model.THEIRS"))
    more |= other("diffusion_model.blocks.0.cross_attn.k_img", lora_A__weight=(4, 64), lora_B__weight=(64, 4))
    more |= other("diffusion_model.img_emb.proj.1", lora_A__weight=(4, 9), lora_B__weight=(9, 4))
    assert torch.equal(studio.use(more), plain)
    (note,) = studio.adapters.notes
    assert re.search(r"'style': 2 layers that read a start image, such as blocks\.0\.attn2\.add_k_proj", note)


def test_a_file_that_names_experts_changes_those_and_no_others(two: Studio) -> None:
    before = two.passes()
    layers = layers_of(two.model.denoisers[0])
    both = two.use_all(written(layers, PLAIN))
    second = two.use_all(written(layers, named("transformer_2.OURS")))
    assert torch.equal(second[0], before[0])
    assert torch.equal(second[1], both[1])
    apart = written(layers, named("pipe.dit2.THEIRS")) | written(
        {path: (2 * down, up) for path, (down, up) in layers.items()}, PLAIN
    )
    mixed = two.use_all(apart)
    assert not torch.equal(mixed[0], both[0])
    assert torch.equal(mixed[1], both[1])
    two.refused(written(layers, named("transformer_2.OURS")), "made for transformer_2", expert="transformer")


def test_a_patch_of_weights_that_could_not_finish_is_taken_back(studio: Studio) -> None:
    before = studio.passes()[0]
    broken = {"diffusion_model.blocks.0.norm3.diff": torch.ones(64)} | HALF
    denoiser = studio.model.denoisers[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(denoiser), "load_lora_adapter", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            studio.use(broken)
    studio.adapters.use(())
    assert torch.equal(studio.passes()[0], before)
