"""BlockSwap blocks compute what resident ones compute, whatever order they run in, and copy no more than they must."""

import math
from functools import cache

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch import Tensor

from tests.fixtures.experts import BLOCKS, a_pass, load_experts
from tests.support.watched_streams import WatchedStreamed
from wan_mcp.engine.offload.packing import ALIGNMENT, BlockLayout
from wan_mcp.engine.ops.fp8_linear import FP8, PLAIN, QuantScheme
from wan_mcp.engine.transformer.block import BlockKind
from wan_mcp.engine.transformer.config import BlockShape
from wan_mcp.engine.transformer.weight_store import ResidentWeights
from wan_mcp.engine.transformer.weights import block_weights

CPU = torch.device("cpu")
STEPS = (0, 0, 1, 1)
ENOUGH = 1 << 30


@cache
def block_bytes(scheme: QuantScheme = FP8) -> int:
    """What one block of the tiny experts takes on a device."""
    streamed = WatchedStreamed(ENOUGH)
    load_experts(streamed, (scheme,) * BLOCKS)
    return streamed.slot_plan().sizes[0]


def run(streamed: WatchedStreamed, schemes: tuple[QuantScheme, ...], passes: tuple[int, ...] = STEPS) -> list[Tensor]:
    experts = load_experts(streamed, schemes)
    return [a_pass(experts[number], seed) for seed, number in enumerate(passes)]


@cache
def resident(schemes: tuple[QuantScheme, ...], passes: tuple[int, ...] = STEPS) -> list[Tensor]:
    experts = load_experts(ResidentWeights(CPU), schemes)
    return [a_pass(experts[number], seed) for seed, number in enumerate(passes)]


@pytest.mark.parametrize("late", [True, False], ids=["late", "early"])
@pytest.mark.parametrize("room", [1, 2, 3, 5, 6, 9])
def test_blocks_in_any_room_compute_bit_for_bit_what_resident_ones_do(
    room: int, late: bool, scheme: QuantScheme
) -> None:
    passes = (0, 0, 1, 1, 0, 1, 0)
    schemes = (scheme,) * BLOCKS
    streamed = WatchedStreamed(room * block_bytes(scheme), late=late, ring=min(room, 3))
    assert all(map(torch.equal, run(streamed, schemes, passes), resident(schemes, passes)))
    assert streamed.streams.allocated <= room * block_bytes(scheme)


@pytest.mark.parametrize("expected", [(*STEPS, 0), (1, 1), (0, 1), (0,) * 9, ()], ids=str)
@pytest.mark.parametrize("room", [3, 5, 6, 8])
def test_whatever_was_expected_the_results_stand(room: int, expected: tuple[int, ...]) -> None:
    streamed = WatchedStreamed(room * block_bytes())
    experts = load_experts(streamed)
    for _ in range(2):
        streamed.announce(expected)
        found = [a_pass(experts[number], seed) for seed, number in enumerate(STEPS)]
        assert all(map(torch.equal, found, resident((FP8,) * BLOCKS)))


def test_blocks_that_are_left_unquantized_stream_among_the_others() -> None:
    schemes: tuple[QuantScheme, ...] = (PLAIN, FP8, FP8, PLAIN, FP8, PLAIN)
    for room in (4, 6, 9, 20):
        streamed = WatchedStreamed(room * block_bytes())
        assert all(map(torch.equal, run(streamed, schemes), resident(schemes)))


def test_what_cannot_be_pinned_streams_too() -> None:
    streamed = WatchedStreamed(4 * block_bytes(), pinned=5 * block_bytes())
    assert all(map(torch.equal, run(streamed, (FP8,) * BLOCKS), resident((FP8,) * BLOCKS)))


def test_in_the_steady_state_only_blocks_without_a_fixed_place_are_copied_and_none_is_waited_for() -> None:
    size = block_bytes()
    streamed = WatchedStreamed(5 * size)  # two fixed places beside a ring of three
    experts = load_experts(streamed)
    a_pass(experts[0])
    copied = streamed.copied_bytes
    streamed.late_blocks.clear()
    for _ in range(3):
        a_pass(experts[0])
    assert streamed.copied_bytes - copied == 3 * 4 * size
    assert streamed.late_blocks == []


def test_with_room_for_one_expert_its_passes_copy_nothing_and_the_next_moves_in_behind_the_last() -> None:
    size = block_bytes()
    streamed = WatchedStreamed(BLOCKS * size)
    experts = load_experts(streamed)
    streamed.announce([0, 0, 0, 1, 1, 0])
    copied = []
    for number in (0, 0, 0, 1, 1):
        a_pass(experts[number])
        copied.append(streamed.copied_bytes // size)
    # During the last pass of the first, all blocks but the one in whose place the last still computes.
    assert copied == [6, 6, 11, 12, 17]
    assert streamed.late_blocks == []
    streamed.announce([0, 1])  # as a job begins: the last one comes, too
    assert streamed.copied_bytes // size == 18


def test_nobody_says_what_comes_and_the_other_expert_still_moves_in_ahead_of_its_work() -> None:
    size = block_bytes()
    streamed = WatchedStreamed(BLOCKS * size)
    experts = load_experts(streamed)
    for number in (0, 0, 1, 1):
        a_pass(experts[number])
    assert streamed.copied_bytes == 2 * BLOCKS * size
    assert streamed.late_blocks == [(0, 0), (1, 0)]


def test_with_room_for_both_experts_every_block_is_copied_once() -> None:
    size = block_bytes()
    streamed = WatchedStreamed(2 * BLOCKS * size)
    experts = load_experts(streamed)
    for number in (0, 1, 0, 1, 1, 0):
        a_pass(experts[number])
    assert streamed.copied_bytes == 2 * BLOCKS * size


def test_room_for_some_blocks_of_the_other_expert_spares_their_copies() -> None:
    size = block_bytes()
    streamed = WatchedStreamed((BLOCKS + 2) * size)
    experts = load_experts(streamed)
    for number in (0, 1):
        a_pass(experts[number])
    copied = streamed.copied_bytes
    a_pass(experts[0])
    assert streamed.copied_bytes - copied == (BLOCKS - 2) * size


def test_a_pass_that_is_stopped_in_the_middle_leaves_the_next_job_right() -> None:
    streamed = WatchedStreamed(4 * block_bytes())
    experts = load_experts(streamed)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    for number in range(BLOCKS):
        streamed.announce(STEPS)
        a_pass(experts[0])
        handle = experts[0].blocks.blocks[number].register_forward_pre_hook(stop)
        with pytest.raises(KeyboardInterrupt):
            a_pass(experts[0])
        handle.remove()
        streamed.announce(STEPS)
        found = [a_pass(experts[number], seed) for seed, number in enumerate(STEPS)]
        assert all(map(torch.equal, found, resident((FP8,) * BLOCKS)))


def test_texts_are_read_with_the_weights_of_their_own_block_and_expert() -> None:
    streamed = WatchedStreamed(3 * block_bytes())
    experts, others = load_experts(streamed), load_experts(ResidentWeights(CPU))
    texts = [torch.randn(1, 5, 16) for _ in range(3)]
    for text in (*texts, *texts):
        for one, other in zip(experts, others, strict=True):
            assert torch.equal(a_pass(one, text=text), a_pass(other, text=text))


def test_memory_can_be_given_back_and_taken_in_another_size_between_jobs() -> None:
    size = block_bytes()
    streamed = WatchedStreamed(4 * size)
    experts, true = load_experts(streamed), resident((FP8,) * BLOCKS)
    for room in (4, 12, 3, 6, 4):
        streamed.resize(room * size)
        assert streamed.slot_plan().bytes <= room * size
        assert all(map(torch.equal, [a_pass(experts[number], seed) for seed, number in enumerate(STEPS)], true))
        streamed.evict()
        assert torch.equal(a_pass(experts[0], 0), true[0])


def test_places_that_the_device_had_no_memory_for_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    streamed = WatchedStreamed(5 * block_bytes())
    experts = load_experts(streamed)
    allocate, left = streamed.streams.allocate, [1, 1]

    def scarce(size: int) -> Tensor:
        if not left:
            raise torch.OutOfMemoryError("CUDA out of memory")
        left.pop()
        return allocate(size)

    with monkeypatch.context() as patch, pytest.raises(torch.OutOfMemoryError):
        patch.setattr(streamed.streams, "allocate", scarce)
        a_pass(experts[0])
    assert streamed.evictable_bytes == 0
    assert torch.equal(a_pass(experts[0], 0), resident((FP8,) * BLOCKS)[0])


def test_the_same_room_again_copies_nothing_anew() -> None:
    size = block_bytes()
    streamed = WatchedStreamed(BLOCKS * size)
    experts = load_experts(streamed)
    a_pass(experts[0])
    copied = streamed.copied_bytes
    streamed.resize(BLOCKS * size + 10)
    a_pass(experts[0])
    assert streamed.copied_bytes == copied


def test_other_weights_can_take_the_place_of_an_experts() -> None:
    streamed = WatchedStreamed(4 * block_bytes())
    first, second = load_experts(streamed)
    a_pass(first)
    other = load_experts(ResidentWeights(CPU))[1]
    streamed.replace(first.blocks.denoiser, [streamed.place(each) for each in other.blocks.weight_store._denoisers[1]])  # type: ignore[attr-defined]
    first.blocks.forget_texts()
    first.model.load_state_dict(other.model.state_dict(), strict=False)
    assert torch.equal(a_pass(first), a_pass(other))
    assert torch.equal(a_pass(second), a_pass(other))


@pytest.mark.parametrize("cross_norm", [True, False])
def test_a_blocks_tensors_lie_aligned_in_one_buffer_and_take_no_more_than_that(
    scheme: QuantScheme, cross_norm: bool
) -> None:
    shape = BlockShape(width=48, heads=2, ffn_dim=80, cross_norm=cross_norm, temb_per_token=False, eps=1e-6)
    for dtype in (torch.float32, torch.bfloat16):
        block = WanTransformerBlock(48, 80, 2, cross_attn_norm=cross_norm)
        weights = block_weights(BlockKind(shape, scheme, dtype), block.state_dict(), CPU)
        layout = BlockLayout.of(weights)
        assert layout.step_bytes == sum(map(aligned_bytes, weights.of_block))
        assert layout.bytes == layout.step_bytes + sum(map(aligned_bytes, weights.of_text))
        buffer = torch.zeros(layout.bytes, dtype=torch.uint8)
        views = layout.all_views(buffer)
        for name, view in views.items():
            view.copy_(weights.tensors[name])
        for name, view in views.items():  # after all of them are there: none lies in another
            assert torch.equal(view.view(torch.uint8), weights.tensors[name].view(torch.uint8))
            assert (view.data_ptr() - buffer.data_ptr()) % ALIGNMENT == 0
        for view, tensor in zip(layout.views(buffer[: layout.step_bytes]), weights.of_block, strict=True):
            assert torch.equal(view.view(torch.uint8), tensor.view(torch.uint8))


def aligned_bytes(tensor: Tensor) -> int:
    return math.ceil(int(tensor.nbytes) / ALIGNMENT) * ALIGNMENT
