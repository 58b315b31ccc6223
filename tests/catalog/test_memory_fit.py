"""Where a model's parts live, and what fits: worked out from the manifests that are shipped."""

from pathlib import Path

import pytest

from wan_mcp.catalog.catalog import Catalog
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.memory_fit import (
    Fit,
    Placement,
    activation_bytes,
    default_shape,
    denoiser_bytes,
    fit_of,
    fits,
    largest_fitting,
    misfit,
    needed_bytes,
    placement_for,
    room_for_blocks,
)
from wan_mcp.hardware.machine import Machine
from wan_mcp.schema.enums import ComputePrecision, RequestedPrecision
from wan_mcp.schema.plans import Shape

MIB = 1024 * 1024
# What the driver says of cards that are sold as 8, 12, 16, 24, 32, 48, 80 and 141 GB.
CARDS = {"8": 8188, "12": 12282, "16": 16376, "24": 24564, "32": 32607, "48": 46068, "80": 81559, "141": 143771}
HD = Shape(1280, 720, 81)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.of(Path("no-home"))


@pytest.fixture(scope="module")
def a14b(catalog: Catalog) -> Manifest:
    return catalog.get("wan2.2-t2v-a14b-4step")


@pytest.mark.parametrize(
    ("card", "fp8", "bf16"),
    [
        ("16", Placement.OFFLOADED, Placement.OFFLOADED),
        ("24", Placement.SWAPPED, Placement.OFFLOADED),
        ("32", Placement.SWAPPED, Placement.OFFLOADED),
        ("48", Placement.RESIDENT_FP8, Placement.SWAPPED),
        ("80", Placement.RESIDENT_FP8, Placement.RESIDENT_BF16),
    ],
)
def test_both_experts_live_on_large_cards_take_turns_on_smaller_ones_and_are_streamed_on_small_ones(
    a14b: Manifest, card: str, fp8: Placement, bf16: Placement
) -> None:
    assert placement_for(a14b, CARDS[card] * MIB, "fp8") is fp8
    assert placement_for(a14b, CARDS[card] * MIB, "bf16") is bf16


def test_a_larger_result_leaves_less_room_for_blocks(a14b: Manifest) -> None:
    memory = CARDS["24"] * MIB
    assert placement_for(a14b, memory, "fp8", HD) is Placement.OFFLOADED
    assert room_for_blocks(a14b, memory, "fp8", HD) < room_for_blocks(a14b, memory, "fp8")
    assert room_for_blocks(a14b, memory, "fp8") + activation_bytes(a14b, default_shape(a14b), "fp8") < memory


def test_a_model_of_one_expert_is_never_swapped(catalog: Catalog) -> None:
    single = catalog.get("wan2.2-ti2v-5b")
    placements = {placement_for(single, mib * MIB, "bf16") for mib in CARDS.values()}
    assert placements == {Placement.OFFLOADED, Placement.RESIDENT_BF16}


def test_what_runs_in_fp32_is_on_the_cpu(catalog: Catalog) -> None:
    for manifest in catalog.manifests.values():
        assert placement_for(manifest, 10**12, "fp32") is Placement.CPU


def test_a_small_card_is_told_the_sizes_and_lengths_that_it_can_make(a14b: Manifest) -> None:
    memory = CARDS["8"] * MIB
    assert not fits(a14b, memory, "fp8", HD)
    largest = largest_fitting(a14b, memory, "fp8")
    assert largest
    assert "720p-landscape" not in largest
    frames = largest["480p-landscape"]
    assert a14b.frames is not None
    assert a14b.frames.allows(frames)
    assert fits(a14b, memory, "fp8", Shape(832, 480, frames))
    assert not fits(a14b, memory, "fp8", Shape(832, 480, frames + 4))


def test_a_still_picture_fits_where_a_video_does_not(a14b: Manifest) -> None:
    assert "720p-landscape" in largest_fitting(a14b, CARDS["8"] * MIB, "fp8", still=True)


def test_what_a_cpu_needs_is_the_whole_model(a14b: Manifest) -> None:
    assert needed_bytes(a14b, "fp32", Shape(832, 480, 5)) > a14b.weights.memory_bytes["fp32"]
    assert largest_fitting(a14b, 32 * 1024 * MIB, "fp32") == {}


def test_a_cpu_computes_from_the_few_bits_of_a_gguf_file(catalog: Catalog) -> None:
    few_bits = catalog.get("wan2.2-t2v-a14b-q4-k-m")
    machine = Machine("CPU", "fp32", 64 * 1024 * MIB)
    assert machine.precision_of(few_bits) == "gguf"
    assert fits(few_bits, 64 * 1024 * MIB, "gguf", Shape(832, 480, 17))
    assert placement_for(few_bits, 64 * 1024 * MIB, "gguf") is Placement.CPU
    assert not fits(catalog.get("wan2.2-t2v-a14b"), 64 * 1024 * MIB, "fp32", Shape(832, 480, 17))


@pytest.mark.parametrize(
    ("model", "shape", "least"),
    [
        ("wan2.1-t2v-1.3b", Shape(832, 480, 81), 12),
        ("wan2.1-t2v-1.3b", Shape(832, 480, 5), 12),
        ("flux2-klein-4b", Shape(1024, 1024), 12),
        ("z-image-turbo", Shape(512, 512), 24),
    ],
)
def test_a_cpu_without_room_for_a_model_reads_its_weights_from_their_files(
    catalog: Catalog, model: str, shape: Shape, least: int
) -> None:
    manifest, memory = catalog.get(model), least * 10**9
    assert fits(manifest, memory, "fp32", shape)
    assert fit_of(manifest, memory, "fp32", shape) is Fit.STREAMED
    assert placement_for(manifest, memory, "fp32", shape) is Placement.MAPPED
    assert placement_for(manifest, 10**12, "fp32", shape) is Placement.CPU
    assert not fits(manifest, memory // 3, "fp32", shape)


def test_weights_that_adapters_change_or_that_a_cpu_unpacks_cannot_stay_in_files(
    a14b: Manifest, catalog: Catalog
) -> None:
    assert not fits(a14b, 100 * 10**9, "fp32", Shape(832, 480, 5))
    assert fits(catalog.get("wan2.2-t2v-a14b"), 100 * 10**9, "fp32", Shape(832, 480, 5))
    assert placement_for(catalog.get("wan2.2-t2v-a14b-q8-0"), 10**9, "gguf") is Placement.CPU


@pytest.mark.parametrize(
    ("machine", "asked", "runs_in"),
    [
        (Machine("GPU", "bf16", 1, has_fp8=True), "auto", "fp8"),
        (Machine("GPU", "bf16", 1, has_fp8=True), "full", "bf16"),
        (Machine("GPU", "bf16", 1), "auto", "bf16"),
        (Machine("CPU", "fp32", 1), "auto", "fp32"),
    ],
)
def test_the_precision_follows_the_machine_and_the_settings(
    a14b: Manifest, machine: Machine, asked: RequestedPrecision, runs_in: ComputePrecision
) -> None:
    assert machine.precision_of(a14b, asked) == runs_in


def test_the_refusal_of_a_size_names_what_it_needs_what_there_is_and_what_fits(a14b: Manifest) -> None:
    assert misfit(a14b, 24 * 1024 * MIB, "fp8", HD) is None
    said = misfit(a14b, CARDS["8"] * MIB, "fp8", HD) or ""
    assert said.startswith("1280x720 with 81 frames of 'wan2.2-t2v-a14b-4step' needs about 19.1 GB of memory in fp8, ")
    assert "and this GPU has 8.6 GB. Try 480p-landscape (832x480) with up to 53 frames, " in said
    assert said.endswith("; or another model.")
    still = misfit(a14b, 7 * 1024 * MIB, "fp8", Shape(4096, 4096)) or ""
    assert "frames" not in still
    nothing = misfit(a14b, 32 * 1024 * MIB, "fp32", HD) or ""
    assert nothing.endswith(
        "in fp32, and this machine has 34.4 GB. Use a smaller model (list_resolutions names them), or another machine."
    )


def test_a_manifest_that_says_no_sizes_in_memory_is_given_the_benefit_of_the_doubt(a14b: Manifest) -> None:
    silent = a14b.model_copy(update={"weights": a14b.weights.model_copy(update={"memory_bytes": {}})})
    assert denoiser_bytes(silent, "fp8") is None
    assert fits(silent, 1, "fp8", HD)
    assert placement_for(silent, 1, "fp8") is Placement.RESIDENT_FP8


def test_the_embedded_model_fits_everywhere(catalog: Catalog) -> None:
    mini = catalog.get("wan-mini")
    assert mini.frames is not None
    assert set(largest_fitting(mini, 2 * 1024 * MIB, "fp32").values()) == {mini.frames.maximum}


def test_tokens_are_counted_as_the_denoisers_do(catalog: Catalog) -> None:
    assert catalog.get("wan2.2-t2v-a14b").costs.tokens(832, 480, 81) == 32_760
    assert catalog.get("wan2.2-t2v-a14b").costs.tokens(1280, 720, 81) == 75_600
    assert catalog.get("wan2.2-ti2v-5b").costs.tokens(1280, 704, 121) == 31 * 22 * 40
    assert catalog.get("wan-mini").costs.tokens(128, 128, 17) == 5 * 8 * 8


@pytest.mark.parametrize("name", ["z-image-turbo", "flux2-klein-4b", "qwen-image-2512", "qwen-image-edit-2511"])
def test_image_models_fit_small_cards_because_their_layers_are_streamed_and_captioners_do_not(
    catalog: Catalog, name: str
) -> None:
    manifest = catalog.get(name)
    assert fits(manifest, CARDS["12"] * MIB, "bf16", default_shape(manifest))
    assert not fits(manifest, CARDS["8"] * MIB, "fp32", default_shape(manifest))
    captioner = catalog.get("joycaption-beta-one")
    assert not fits(captioner, CARDS["12"] * MIB, "bf16", default_shape(captioner))
