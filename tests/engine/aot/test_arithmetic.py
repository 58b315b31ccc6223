"""Compiled blocks compute what eager ones do, for every layer, expert, picture and text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.fixtures.aot_packages import CPU, IN_FP8, IN_PLAIN
from tests.fixtures.bench import TWO, TWO_OF_IMAGES
from tests.support.denoisers import a_pass, in_fp8
from tests.support.loading import context_of
from wan_mcp.catalog.catalog import Catalog
from wan_mcp.engine.aot.cache_key import cache_key_of
from wan_mcp.engine.aot.registry import PackageRegistry
from wan_mcp.engine.aot.signature import example_inputs, example_weights
from wan_mcp.engine.attention import Turbo, attention_mode
from wan_mcp.engine.components.install import EMBEDDED
from wan_mcp.engine.families.wan.loader import load_wan
from wan_mcp.engine.ops.fp8_linear import FP8, PLAIN, QuantScheme
from wan_mcp.engine.transformer.block import BlockKind, run_block

pytestmark = pytest.mark.timeout(1800)  # a compilation takes half a minute, several where others compute
Open = Callable[[Path], PackageRegistry]
# One frame, 17 frames, portrait, odd: whatever a picture's size makes of them.
TOKENS = (4, 60, 320, 1023)


# In FP8 the last bit of a sum, which the order of its terms decides, can turn a step of 2^-4 over.
ALLOWED = {PLAIN: 1e-5, FP8: 5e-3}


def apart(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).norm() / other.double().norm())


@pytest.mark.parametrize("kind", [IN_PLAIN, IN_FP8], ids=lambda kind: kind.scheme)
def test_one_package_serves_all_sizes_texts_and_weights(kind: BlockKind, home: Path, opened: Open) -> None:
    run = opened(home).runner(kind, CPU)
    assert run is not None
    torch.manual_seed(3)
    with torch.no_grad():
        for _ in range(2):
            weights = example_weights(kind, CPU)
            for tokens in TOKENS:
                for text in (48, 512):
                    inputs = example_inputs(kind, tokens, text, CPU)
                    hidden, key, value, padding, times, cos, sin = inputs
                    eager = run_block(kind, hidden, key, value, padding, times, cos, sin, weights)
                    made = run(kind, hidden, key, value, padding, times, cos, sin, weights)
                    assert apart(made, eager) < ALLOWED[kind.scheme]


@torch.no_grad()
def test_a_package_asks_the_process_that_runs_it_for_the_attention_kernel(home: Path, opened: Open) -> None:
    run = opened(home).runner(IN_PLAIN, CPU)
    assert run is not None
    torch.manual_seed(3)
    hidden, key, value, padding, times, cos, sin = example_inputs(IN_PLAIN, 300, 48, CPU)
    arguments = (hidden, key, value, padding, times, cos, sin, example_weights(IN_PLAIN, CPU))
    dense = run(IN_PLAIN, *arguments)
    with attention_mode(Turbo(density=0.3, dense_steps=0)):  # which the process that compiled it knew nothing of
        sparse = run(IN_PLAIN, *arguments)
        assert apart(sparse, run_block(IN_PLAIN, *arguments)) < ALLOWED[PLAIN]
    assert apart(sparse, dense) > 100 * ALLOWED[PLAIN]
    assert torch.equal(run(IN_PLAIN, *arguments), dense)


@pytest.mark.parametrize("scheme", [PLAIN, FP8])
@pytest.mark.parametrize("name", [TWO, TWO_OF_IMAGES])
def test_both_experts_of_both_layouts_run_in_one_package(
    name: str, scheme: QuantScheme, home: Path, opened: Open, embedded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wan_mcp.engine.families.wan.loader.scheme_for", lambda *_: scheme)
    model = load_wan(context_of(in_fp8(name), embedded / name, "fp8"))
    packages = opened(home)
    assert len(model.converted) == 2
    for denoiser in model.converted.values():
        eager = [a_pass(denoiser.model, name, *size) for size in ((1, (4, 4)), (2, (4, 6)), (5, (8, 4)))]
        denoiser.blocks.run = packages.run(denoiser.blocks.kinds, CPU)
        assert denoiser.blocks.run is not run_block
        compiled = [a_pass(denoiser.model, name, *size) for size in ((1, (4, 4)), (2, (4, 6)), (5, (8, 4)))]
        assert max(map(apart, compiled, eager)) < ALLOWED[scheme]
    [kind] = denoiser.blocks.kinds
    assert packages.compiled({kind}, CPU) == [cache_key_of(kind, CPU).hash]


@torch.no_grad()
def test_wan_mini_in_fp8_runs_compiled(compiled_mini: Path, opened: Open) -> None:
    manifest = Catalog.of(compiled_mini).get("wan-mini")
    true = load_wan(context_of(manifest, EMBEDDED / "wan-mini", "full")).denoisers[0]
    [denoiser] = load_wan(context_of(manifest, EMBEDDED / "wan-mini", "fp8")).converted.values()
    packages = opened(compiled_mini)
    kinds = denoiser.blocks.kinds
    assert {kind.scheme for kind in kinds} == {FP8, PLAIN}  # its manifest leaves three blocks as they are
    assert all(kind.shape.temb_per_token and packages.ready(kind, CPU) for kind in kinds)
    package = packages.run(kinds, CPU)
    differences: dict[QuantScheme, list[float]] = {PLAIN: [], FP8: []}
    torch.manual_seed(3)

    def both(kind: BlockKind, *arguments: Any) -> Tensor:
        """One block of the real weights, on the very same activations."""
        made = package(kind, *arguments)
        differences[kind.scheme].append(apart(made, run_block(kind, *arguments)))
        return made

    for frames, height, width in ((1, 16, 16), (5, 16, 16), (5, 24, 12)):
        latents = torch.randn(1, true.config.in_channels, frames, height, width)
        times = torch.full((1, frames * height * width // 4), 700.0)
        text = torch.randn(1, 48, true.config.text_dim)
        wanted = true(latents, times, text, return_dict=False)[0]
        errors = []
        for denoiser.blocks.run in (both, run_block):
            errors.append(apart(denoiser.model(latents, times, text, return_dict=False)[0], wanted))
        # From block to block FP8 spreads any difference until it is as large as what FP8 costs, so the whole is judged
        # by how far it is from full precision.
        assert errors[0] < 1.25 * errors[1]
    assert sum(map(len, differences.values())) == 3 * true.config.num_layers
    assert max(differences[PLAIN]) < ALLOWED[PLAIN]
    # A large number of a small picture that is turned over is up to 2 in 100 of a block of real weights, once in
    # hundreds of blocks.
    *others, largest = sorted(differences[FP8])
    assert max(others) < 2 * ALLOWED[FP8] and largest < 10 * ALLOWED[FP8]


def test_a_model_of_which_one_kind_is_compiled_runs_the_other_eagerly(home: Path, opened: Open) -> None:
    packages = opened(home)
    for file in (home / "packages").glob(f"{cache_key_of(IN_FP8, CPU).hash}.*"):
        file.unlink()
    run = packages.run({IN_PLAIN, IN_FP8}, CPU)
    assert packages.compiled({IN_PLAIN, IN_FP8}, CPU) == [cache_key_of(IN_PLAIN, CPU).hash]
    with torch.no_grad():
        for kind in (IN_PLAIN, IN_FP8):
            hidden, key, value, padding, times, cos, sin = example_inputs(kind, 20, 7, CPU)
            weights = example_weights(kind, CPU)
            made = run(kind, hidden, key, value, padding, times, cos, sin, weights)
            eager = run_block(kind, hidden, key, value, padding, times, cos, sin, weights)
            assert apart(made, eager) < ALLOWED[kind.scheme]
