"""Private names of diffusers and transformers: each exists in the installed version, and is used in one module only."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d
from torch import nn

import wan_mcp.engine
from tests.fixtures.autoencoders import random_pictures, random_vae
from wan_mcp.engine import compat
from wan_mcp.engine.families.image.image_families import IMAGE_FAMILIES

SOURCES = Path(wan_mcp.engine.__file__).parent
LIBRARIES = ("diffusers", "transformers", "accelerate", "peft")
TORCH = ("torch", "os")
"""Modules whose private names the engine uses where it needs them: torch is pinned to the versions that were tested."""
OF_TORCH = {
    *("_parameters", "_buffers", "_conv_forward"),
    *("_abort_process_group", "_world", "_get_backend", "_group_start", "_group_end"),
}
"""Private attributes of `nn.Module`, `nn.Conv3d` and `torch.distributed`."""


@pytest.fixture(scope="module")
def vae() -> Any:
    return random_vae("first generation")


def test_an_autoencoder_encodes_by_the_method_that_is_replaced(vae: Any) -> None:
    pictures = random_pictures(vae, 5)
    with torch.no_grad():
        plain = vae.encode(pictures).latent_dist.parameters
        assert torch.equal(compat.vae_encode(vae, pictures), plain)
        compat.replace_vae_encoder(vae, lambda vae, pictures: compat.vae_encode(vae, pictures) + 1)
        assert torch.equal(vae.encode(pictures).latent_dist.parameters, plain + 1)


def test_a_decoder_keeps_its_features_where_they_are_looked_for(vae: Any) -> None:
    vae.clear_cache()
    features = compat.decoder_features(vae)
    assert features["feat_idx"] == [0] and set(features["feat_cache"]) == {None}
    latents = torch.zeros(1, 16, 1, 4, 4)
    with torch.no_grad():
        vae.decoder(vae.post_quant_conv(latents), **features, first_chunk=True)
    assert any(each is not None for each in compat.decoder_features(vae)["feat_cache"])


def test_the_zeros_around_a_frame_are_those_of_the_convolution() -> None:
    for margin in (0, 1):
        conv = WanCausalConv3d(2, 2, 3, padding=(1, margin, margin))
        assert compat.causal_margin(conv) == margin
        assert conv(torch.ones(1, 2, 1, 6, 6)).shape[-2:] == (4 + 2 * margin, 4 + 2 * margin)


def test_a_step_cache_says_whether_a_pass_ran_all_blocks() -> None:
    denoiser = diffusers.WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=8, freq_dim=16,
        ffn_dim=16, num_layers=2, cross_attn_norm=True, qk_norm="rms_norm_across_heads",
    ).eval()  # fmt: skip
    denoiser.enable_cache(diffusers.FirstBlockCacheConfig(threshold=0.5))
    ran: list[bool] = []
    with torch.no_grad(), denoiser.cache_context("cond"):
        for _ in range(2):
            denoiser(torch.ones(1, 4, 1, 4, 4), torch.tensor([500.0]), torch.ones(1, 3, 8))
            ran.append(compat.first_block_cache_state(denoiser).should_compute)
    assert ran == [True, False]


def test_a_block_of_ours_is_known_to_step_caches() -> None:
    from diffusers.hooks._helpers import TransformerBlockRegistry

    class OfOurs(nn.Module):
        pass

    compat.register_wan_block(OfOurs)
    known = TransformerBlockRegistry.get(OfOurs)
    assert (known.return_hidden_states_index, known.return_encoder_hidden_states_index) == (0, None)


def parts_of_image_models() -> Iterator[type]:
    """The classes whose blocks are looked for: denoisers and text encoders of all image families."""
    for family in IMAGE_FAMILIES.values():
        for name in set(family.pipelines.values()):
            modules = getattr(diffusers, name).__init__.__annotations__
            yield from (modules["transformer"], modules["text_encoder"])


@pytest.mark.parametrize("part", sorted(set(parts_of_image_models()), key=str), ids=lambda part: part.__name__)
def test_parts_of_image_models_name_their_blocks(part: type) -> None:
    if part.__name__.startswith("PreTrained"):  # any text encoder will do for that pipeline; it comes with this one
        part = transformers.Qwen3Model
    blocks = getattr(part, "_repeated_blocks", None) or getattr(part, "_no_split_modules", None)
    assert blocks, "cancelling a job on a CPU waits for a whole pass"
    module = importlib.import_module(part.__module__)
    assert all(hasattr(module, name) for name in blocks)


def private_names(tree: ast.AST) -> Iterator[str]:
    """Imports of private names of the libraries, and private attributes of what is not this object or torch."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(LIBRARIES):
            path = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from (name for name in path if name.startswith("_"))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            root = node.value
            while isinstance(root, ast.Attribute | ast.Call):
                root = root.value if isinstance(root, ast.Attribute) else root.func
            if not (isinstance(root, ast.Name) and root.id in ("self", "cls", *TORCH)):
                yield node.attr
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
            name = node.args[1].value if isinstance(node.args[1], ast.Constant) else ""
            if isinstance(name, str) and name.startswith("_") and not name.startswith("__"):
                yield name


def test_no_other_module_of_the_engine_uses_private_names_of_libraries() -> None:
    trees = {file.relative_to(SOURCES): ast.parse(file.read_text()) for file in SOURCES.rglob("*.py")}
    ours = {
        node.attr
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
    }
    used = {
        str(file): sorted(names)
        for file, tree in trees.items()
        if (names := set(private_names(tree)) - ours - OF_TORCH) and file != Path("compat.py")
    }
    assert used == {}
    assert set(private_names(trees[Path("compat.py")])) >= {"_encode", "_feat_map", "_repeated_blocks", "_helpers"}
