"""Ranks that share a forward compute what one process computes."""

from pathlib import Path

import numpy as np
import pytest

from tests.fixtures.bench import ONE, TWO, TWO_OF_IMAGES
from tests.support.rank_processes import RankProcesses


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize(("count", "tokens", "heads"), [(2, 12, 4), (2, 7, 2), (4, 9, 4), (4, 6, 8)])
def test_tokens_are_exchanged_for_heads_and_back_also_where_ranks_do_not_divide_them(
    ranks: RankProcesses, count: int, tokens: int, heads: int
) -> None:
    assert ranks.run(count, "exchange", tokens=tokens, heads=heads) == [True] * count


def test_heads_that_the_ranks_do_not_divide_are_refused(ranks: RankProcesses) -> None:
    answers = ranks.run(2, "exchange", tokens=8, heads=3)
    assert {answer[0] for answer in answers} == {"ValueError"}


@pytest.mark.parametrize("turbo", [False, True])
@pytest.mark.parametrize(("name", "size"), [(ONE, (4, 6)), (TWO, (6, 10)), (TWO_OF_IMAGES, (4, 6))])
def test_a_forward_in_fp8_on_two_ranks_is_that_of_one(
    ranks: RankProcesses, embedded: Path, name: str, size: tuple[int, int], turbo: bool
) -> None:
    (alone,) = ranks.run(1, "forward", embedded=embedded, name=name, size=size, turbo=turbo)
    shared = ranks.run(2, "forward", embedded=embedded, name=name, size=size, turbo=turbo)
    again = ranks.run(2, "forward", embedded=embedded, name=name, size=size, turbo=turbo)
    assert all(np.array_equal(each, shared[0]) for each in (*shared, *again))
    assert error(shared[0], alone) < 1e-5


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("kernel", [False, True])
def test_attention_whose_inputs_travel_as_e4m3_is_as_near_as_fp8_is(
    ranks: RankProcesses, count: int, kernel: bool
) -> None:
    (alone,) = ranks.run(1, "joined_attention", kernel=kernel)
    shared = ranks.run(count, "joined_attention", kernel=kernel)
    again = ranks.run(count, "joined_attention", kernel=kernel)
    assert all(np.array_equal(one, other) for one, other in zip(shared, again, strict=True))
    assert error(np.concatenate(shared), alone) < (0.01 if kernel else 1e-3)
