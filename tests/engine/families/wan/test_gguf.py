"""Denoisers from GGUF files: they load without a network, and stray from full precision no further than their bits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fixtures.bench import MANIFESTS, TWO, TWO_OF_IMAGES, changed
from tests.support.denoisers import a_pass
from tests.support.gguf_files import FILES, in_gguf, write_gguf
from tests.support.loading import context_of
from tests.support.lora_files import lora_plan, write_lora
from wan_mcp.catalog.manifest import Quantization
from wan_mcp.engine.device.device import resolve_device
from wan_mcp.engine.device.memory import has_room
from wan_mcp.engine.families.wan.gguf import unpack
from wan_mcp.engine.families.wan.loader import WanModel, load_wan
from wan_mcp.engine.families.wan.lora import JobAdapters
from wan_mcp.errors import JobFailed
from wan_mcp.weights.installed import ExtraFile

BOUNDS = {"BF16": 0.001, "Q8_0": 0.002, "Q5_1": 0.015, "Q4_0": 0.03}
"""The largest relative error of one pass."""


Open = Callable[..., tuple[WanModel, WanModel]]


@pytest.fixture
def both(embedded: Path, tmp_path: Path) -> Open:
    """A model in full precision, and the same from GGUF files."""

    def load(name: str = TWO, kind: str = "Q8_0", **how: Any) -> tuple[WanModel, WanModel]:
        device = resolve_device("cpu")
        whole = load_wan(context_of(MANIFESTS[name], embedded / name, device=device))
        extra_files = {}
        for file, denoiser in zip(FILES, whole.denoisers, strict=True):
            write_gguf(tmp_path / file, denoiser, kind, **how)
            extra_files["a/b", file] = ExtraFile(tmp_path / file, "")
        return whole, load_wan(
            context_of(in_gguf(MANIFESTS[name]), embedded / name, device=device, sha256="sha", extra_files=extra_files)
        )

    return load


@pytest.mark.parametrize("name", [TWO, TWO_OF_IMAGES])
@pytest.mark.parametrize("original_names", [True, False], ids=["names-of-wan", "names-of-diffusers"])
@pytest.mark.parametrize("kind", BOUNDS)
def test_a_pass_strays_no_further_than_its_bits(
    both: Open, name: str, kind: str, original_names: bool, record_property: Callable[[str, Any], None]
) -> None:
    whole, small = both(name, kind, original_names=original_names)
    for exact, approximate in zip(whole.denoisers, small.denoisers, strict=True):
        true = a_pass(exact, name)
        error = ((a_pass(approximate, name) - true).norm() / true.norm()).item()
        record_property(f"{name} {kind}", error)
        assert 0 < error < BOUNDS[kind]


def test_weights_unpacked_once_compute_the_same_as_layer_by_layer(both: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    _, small = both()
    (denoiser, _) = small.denoisers
    before = a_pass(denoiser, TWO)
    unpack(small.manifest, small.any_pipeline, small.device, ["transformer"])
    assert denoiser.blocks[0].ffn.net[2].weight.dtype is torch.uint8, "on a CPU it stays as it is"
    monkeypatch.setattr("diffusers.quantizers.gguf.gguf_quantizer.get_device", lambda: "cpu")
    denoiser.dequantize()
    assert denoiser.blocks[0].ffn.net[2].weight.dtype is torch.float32
    torch.testing.assert_close(a_pass(denoiser, TWO), before)


@pytest.mark.parametrize("lora", [False, True], ids=["plain", "with-a-lora"])
def test_where_fp8_is_asked_for_gguf_weights_are_converted_block_by_block_and_lose_only_what_fp8_costs(
    both: Open, embedded: Path, tmp_path: Path, lora: bool
) -> None:
    whole, small = both()
    extra_files = {("a/b", file): ExtraFile(tmp_path / file, file) for file in FILES}
    manifest = changed(in_gguf(MANIFESTS[TWO]), quantization=Quantization(recipe="gguf"))
    ours = load_wan(context_of(manifest, embedded / TWO, "fp8", sha256="sha", extra_files=extra_files))
    assert ours.precision == "fp8"
    exact = small.denoisers
    if lora:
        written = write_lora(tmp_path / "l.safetensors", whole.denoisers[0])
        for model in (ours, small):
            model.job_adapters().use((lora_plan(written, 0.5),))
    for converted, unpacked in zip(ours.denoisers, exact, strict=True):
        true = a_pass(unpacked, TWO)
        assert 0.001 < ((a_pass(converted, TWO) - true).norm() / true.norm()).item() < 0.05


def test_weights_are_unpacked_only_where_a_job_still_has_room() -> None:
    gb = 10**9
    assert has_room(28 * gb, 139 * gb, 141 * gb)
    assert not has_room(28 * gb, 23 * gb, 24 * gb)
    assert not has_room(20 * gb, 23 * gb, 24 * gb)


def test_a_lora_of_a_request_goes_on_weights_in_few_bits_and_off_again(both: Open, tmp_path: Path) -> None:
    whole, small = both()
    written = write_lora(tmp_path / "l.safetensors", whole.denoisers[0])
    before = a_pass(small.denoisers[0], TWO)
    adapters = JobAdapters(small.manifest, small.any_pipeline)
    adapters.use((lora_plan(written),))
    with_lora = a_pass(small.denoisers[0], TWO)
    adapters.use(())
    assert torch.equal(a_pass(small.denoisers[0], TWO), before)
    exact = JobAdapters(whole.manifest, whole.any_pipeline)
    exact.use((lora_plan(written),))
    true = a_pass(whole.denoisers[0], TWO)
    assert ((with_lora - true).norm() / true.norm()).item() < BOUNDS["Q8_0"]
    assert ((with_lora - before).norm() / before.norm()).item() > 10 * BOUNDS["Q8_0"]


def test_a_file_for_another_model_or_none_at_all_fails_with_its_name(
    both: Open, embedded: Path, tmp_path: Path
) -> None:
    both(TWO_OF_IMAGES)  # writes the files
    extra_files = {("a/b", file): ExtraFile(tmp_path / file, "") for file in FILES}
    with pytest.raises(JobFailed, match=r"high\.gguf of 'tiny-two' cannot be loaded"):
        load_wan(context_of(in_gguf(MANIFESTS[TWO]), embedded / TWO, sha256="sha", extra_files=extra_files))
    (tmp_path / "high.gguf").write_bytes(b"no gguf")
    with pytest.raises(JobFailed, match=r"high\.gguf"):
        load_wan(
            context_of(
                in_gguf(MANIFESTS[TWO_OF_IMAGES]), embedded / TWO_OF_IMAGES, sha256="sha", extra_files=extra_files
            )
        )
