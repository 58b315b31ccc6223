"""GGUF files in K-quants: read to the bit as they were meant, and no further from full precision than their bits."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy
import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor

from tests.fixtures.bench import MANIFESTS, TWO
from tests.support.denoisers import a_pass
from tests.support.gguf_files import FILES, in_gguf, write_gguf
from tests.support.k_quants import K_QUANTS, decoded, encode
from tests.support.loading import context_of
from wan_mcp.engine.device.device import resolve_device
from wan_mcp.engine.families.wan.loader import WanModel, load_wan
from wan_mcp.weights.installed import ExtraFile

BOUNDS = {"Q6_K": 0.005, "Q5_K": 0.01, "Q4_K_M": 0.02, "Q4_K": 0.025}
"""The largest relative error of one pass."""
RANDOM = numpy.random.default_rng(0)


@pytest.mark.parametrize("kind", K_QUANTS)
@pytest.mark.parametrize(
    "weights",
    [
        RANDOM.normal(size=(3, 512)),
        RANDOM.normal(size=(1, 256)) + 5,
        RANDOM.normal(size=(2, 256)) * numpy.logspace(-4, 0, 256),
        numpy.zeros((1, 256)),
    ],
    ids=["even", "all positive", "of many sizes", "zero"],
)
def test_what_is_written_by_hand_is_read_by_the_library_as_it_was_meant(weights: Any, kind: str) -> None:
    read = gguf.quants.dequantize(encode(weights, kind), getattr(gguf.GGMLQuantizationType, kind))
    meant = decoded(weights, kind)
    numpy.testing.assert_allclose(read, meant, rtol=1e-6, atol=1e-9)
    levels = {"Q4_K": 15, "Q5_K": 31, "Q6_K": 31}[kind]
    assert numpy.abs(meant - weights).max() <= 1.2 * max(numpy.ptp(weights), numpy.abs(weights).max()) / levels


@pytest.fixture(scope="module")
def wide(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with two experts that are wide enough for blocks of 256 weights."""
    folder = tmp_path_factory.mktemp("wide") / TWO
    shutil.copytree(embedded / TWO, folder)
    for seed, part in enumerate(("transformer", "transformer_2")):
        torch.manual_seed(seed)
        shutil.rmtree(folder / part)
        WanTransformer3DModel(
            patch_size=(1, 2, 2),
            num_attention_heads=2,
            attention_head_dim=128,
            in_channels=16,
            out_channels=16,
            text_dim=32,
            freq_dim=64,
            ffn_dim=512,
            num_layers=2,
            rope_max_seq_len=256,
        ).save_pretrained(folder / part)
    return folder


Open = Callable[[str], tuple[WanModel, WanModel]]


@pytest.fixture
def both(wide: Path, tmp_path: Path) -> Open:
    """A model in full precision, and the same from GGUF files in K-quants."""

    def load(kind: str) -> tuple[WanModel, WanModel]:
        device = resolve_device("cpu")
        whole = load_wan(context_of(MANIFESTS[TWO], wide, device=device, sha256="sha"))
        extra_files = {}
        for file, denoiser in zip(FILES, whole.denoisers, strict=True):
            write_gguf(tmp_path / file, denoiser, kind)
            extra_files["a/b", file] = ExtraFile(tmp_path / file, "")
        return whole, load_wan(
            context_of(in_gguf(MANIFESTS[TWO]), wide, device=device, sha256="sha", extra_files=extra_files)
        )

    return load


@pytest.mark.parametrize("kind", BOUNDS)
def test_a_pass_strays_no_further_than_the_bits_of_a_k_quant(
    both: Open, kind: str, record_property: Callable[[str, Any], None]
) -> None:
    whole, small = both(kind)
    for exact, approximate in zip(whole.denoisers, small.denoisers, strict=True):
        true = a_pass(exact, TWO)
        error = ((a_pass(approximate, TWO) - true).norm() / true.norm()).item()
        record_property(kind, error)
        assert 0 < error < BOUNDS[kind]


def test_every_matrix_of_a_mixed_file_holds_what_was_meant(both: Open) -> None:
    whole, small = both("Q4_K_M")
    kinds = set()
    for exact, approximate in zip(whole.denoisers, small.denoisers, strict=True):
        true = exact.state_dict()
        for name, layer in approximate.blocks.named_parameters():
            if not hasattr(layer, "quant_type"):
                continue
            kind = gguf.GGMLQuantizationType(layer.quant_type).name
            kinds.add((kind, name.split(".", 1)[1]))
            meant = decoded(true[f"blocks.{name}"].float().numpy(), kind)
            read = dequantize_gguf_tensor(layer).float().numpy()
            numpy.testing.assert_allclose(read, meant, atol=2e-3 * numpy.abs(meant).max())  # it computes in float16
    assert ("Q6_K", "ffn.net.2.weight") in kinds
    assert ("Q4_K", "attn1.to_q.weight") in kinds
    assert len(kinds) == 10
