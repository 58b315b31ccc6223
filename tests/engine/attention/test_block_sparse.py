"""Attention that leaves out blocks: which ones, when, and that what is left is exact."""

import threading

import pytest
import torch
from torch import Tensor

from tests.fixtures.attention import GRID, distance, exact
from wan_mcp.engine.attention import SparseCount, Turbo, attend, attend_self, attention_mode, custom_op
from wan_mcp.engine.attention.accuracy import AttentionAccuracy
from wan_mcp.engine.attention.block_layout import block_scores, to_blocks
from wan_mcp.engine.attention.block_router import BLOCK, box_order, kept_blocks, padded_order
from wan_mcp.engine.attention.block_sparse import TorchBlocks, attend_sparsely
from wan_mcp.engine.attention.selector import SparseAttention

Data = tuple[Tensor, Tensor, Tensor]
CPU = torch.device("cpu")
BLOCKS = TorchBlocks(block=16)
TOKENS = GRID[0] * GRID[1] * GRID[2]


@pytest.mark.parametrize("grid", [None, GRID])
def test_with_all_blocks_kept_it_is_dense_attention(data: Data, grid: tuple[int, int, int] | None) -> None:
    query, key, value = data
    assert distance(attend_sparsely(BLOCKS, query, key, value, 1.0, grid), exact(*data)) < 1e-6


def test_what_is_kept_is_attended_to_exactly(data: Data) -> None:
    density, (order, places) = 0.4, padded_order(TOKENS, GRID, 16, CPU)
    blocks = len(order) // 16
    kept = kept_blocks(block_scores(to_blocks(*data, order, 16)), round(blocks * density))
    of_token = places // 16
    seen = torch.zeros(1, 4, blocks, blocks, dtype=torch.bool).scatter_(3, kept.long(), value=True)
    mask = seen[:, :, of_token][..., of_token]
    query, key, value = data
    given = attend_sparsely(BLOCKS, query, key, value, density, GRID)
    assert distance(given, exact(query, key, value, mask)) < 1e-6


def test_the_more_is_kept_the_closer_it_is_and_half_is_close(trial: AttentionAccuracy) -> None:
    def error(density: float) -> float:
        return trial.error(lambda query, key, value: attend_sparsely(BLOCKS, query, key, value, density, GRID))

    errors = [error(density) for density in (0.2, 0.5, 0.8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[1] < 0.15


def test_the_router_finds_more_of_softmaxs_mass_than_chance(data: Data) -> None:
    blocked = to_blocks(*data, torch.arange(304), 16)
    query, key = blocked.query, blocked.key
    weights = (query @ key.transpose(-1, -2) / 8).softmax(-1)
    mass = weights.unflatten(3, (19, 16)).sum(-1).unflatten(2, (19, 16)).mean(3)
    kept = kept_blocks(block_scores(blocked), 5)
    found = mass.gather(-1, kept.long()).sum(-1).mean()
    best = mass.topk(5).values.sum(-1).mean()
    assert found > 0.9 * best
    assert found > 2 * 5 / 19


def test_each_block_looks_at_itself_even_where_its_score_is_low() -> None:
    direction = torch.randn(64)
    query, key = direction.expand(1, 128, 1, 64), -direction.expand(1, 128, 1, 64).clone()
    key[:, 32:48] = direction
    kept = kept_blocks(block_scores(to_blocks(query, key, key, torch.arange(128), 16)), 2)
    assert kept.shape == (1, 1, 8, 2)
    for number, pair in enumerate(kept[0, 0].tolist()):
        assert number in pair
        assert 2 in pair
        assert pair == sorted(pair)


def test_boxes_hold_every_token_once_and_blocks_of_them_are_compact() -> None:
    grid = (6, 10, 20)
    order = box_order(grid)
    assert torch.equal(order.sort().values, torch.arange(1200))
    places = torch.stack(torch.unravel_index(order[:1152], grid), -1).float().view(9, 128, 3)
    rows = torch.stack(torch.unravel_index(torch.arange(1152), grid), -1).float().view(9, 128, 3)
    assert places.std(1).norm(dim=-1).mean() < 0.75 * rows.std(1).norm(dim=-1).mean()


def test_filling_repeats_tokens_from_all_over_and_none_twice() -> None:
    order, places = padded_order(TOKENS, GRID, 128, CPU)
    assert len(order) == 384
    assert torch.equal(order[places], torch.arange(TOKENS))
    again = order[TOKENS:]
    assert len(set(again.tolist())) == len(again) == 69


def test_a_grid_that_is_not_the_tokens_is_refused(data: Data) -> None:
    with pytest.raises(ValueError, match="315 tokens, but the input has 300"):
        attend_sparsely(BLOCKS, data[0][:, :300], data[1][:, :300], data[2][:, :300], 0.5, GRID)


def test_turbo_is_dense_in_the_first_steps_and_after_the_mode_ends(data: Data) -> None:
    dense, turbo = attend_self(*data), Turbo(density=0.4, dense_steps=2)
    same = []
    for step in range(4):
        with attention_mode(turbo, step, GRID):
            same.append(torch.equal(attend_self(*data), dense))
            with attention_mode():
                assert torch.equal(attend_self(*data), dense)
    assert same == [True, True, False, False]
    assert torch.equal(attend_self(*data), dense)


def test_whoever_drives_the_steps_moves_the_mode_on(data: Data) -> None:
    dense = attend_self(*data)
    with attention_mode(Turbo(density=0.4, dense_steps=1), grid=GRID) as mode:
        assert torch.equal(attend_self(*data), dense)
        mode.step += 1
        assert not torch.equal(attend_self(*data), dense)


def test_what_turbo_did_is_counted(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    count = SparseCount()
    with attention_mode(Turbo(density=0.4, dense_steps=1), grid=GRID, count=count) as mode:
        attend_self(*data)
        assert count == SparseCount(), "the first step is dense by intent"
        mode.step += 1
        attend_self(*data)
        assert count == SparseCount(sparse=1)
        short = tuple(each[:, :BLOCK] for each in data)
        mode.grid = None
        assert torch.equal(attend_self(*short), attend(*short)), "one block: none to leave out"
        assert count == SparseCount(sparse=1, dense=1)

        def fails(*_: object) -> None:
            raise RuntimeError("no such kernel image")

        monkeypatch.setattr(TorchBlocks, "__call__", fails)
        broken, mode.grid = SparseAttention(TorchBlocks()), GRID
        monkeypatch.setattr(custom_op, "sparse_attention_of", lambda *_: broken)
        for _ in range(2):
            assert torch.equal(attend_self(*data), attend(*data))
        assert count == SparseCount(sparse=1, dense=3)


def test_turbo_is_of_the_thread_that_asked_for_it(data: Data) -> None:
    dense, elsewhere = attend_self(*data), []
    with attention_mode(Turbo(0.4, 0), grid=GRID):
        thread = threading.Thread(target=lambda: elsewhere.append(attend_self(*data)))
        thread.start()
        thread.join()
    assert torch.equal(elsewhere[0], dense)
