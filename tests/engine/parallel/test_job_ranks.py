"""How ranks share a job's passes, and how they stop together."""

import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.rank_processes import RankProcesses, rank_processes
from wan_mcp.engine.parallel.job_ranks import can_share


@pytest.mark.parametrize("fp8", [False, True])
def test_guidance_on_two_ranks_is_exact_and_each_runs_one_pass(ranks: RankProcesses, embedded: Path, fp8: bool) -> None:
    [(alone, passes)] = ranks.run(1, "guided_step", embedded=embedded, fp8=fp8)
    assert passes == 2
    assert not np.array_equal(*alone)
    for shared, passes in ranks.run(2, "guided_step", embedded=embedded, fp8=fp8):
        assert passes == 1
        assert np.array_equal(shared, alone)


def test_on_four_ranks_each_pass_of_guidance_is_shared_by_two(ranks: RankProcesses, embedded: Path) -> None:
    [(alone, _)] = ranks.run(1, "guided_step", embedded=embedded, fp8=True)
    found = ranks.run(4, "guided_step", embedded=embedded, fp8=True)
    for shared, passes in found:
        assert passes == 1
        assert np.array_equal(shared, found[0][0])
        assert np.allclose(shared, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("count", "heads", "guidance", "can"),
    [(2, 40, False, True), (4, 40, False, True), (3, 40, False, False), (2, 3, True, True), (6, 40, True, False)],
)
def test_ranks_share_what_their_number_divides(count: int, heads: int, guidance: bool, can: bool) -> None:
    assert can_share(count, heads, guidance=guidance) is can


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("stops", [0, 1])
def test_where_one_rank_stops_all_stop_in_the_same_step(ranks: RankProcesses, count: int, stops: int) -> None:
    answers = ranks.run(count, "together", stops=stops)
    assert answers.pop(stops)[0] == "InterruptedError"
    assert answers == [("RankLost", "another device of this job stopped")] * (count - 1)
    assert ranks.run(count, "together", stops=None) == ["done"] * count


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_text_that_the_first_rank_encodes_reaches_all(ranks: RankProcesses, dtype: str) -> None:
    wanted = (f"torch.{dtype}", [[[0, 1, 2], [3, 4, 5]]])
    assert ranks.run(4, "send_from_first", dtype=dtype) == [wanted] * 4


def test_a_rank_that_does_not_answer_ends_the_attempt_within_the_time_limit(ranks: RankProcesses) -> None:
    began = time.monotonic()
    answers = ranks.run(2, "put_out_of_step", time_limit_s=1.0, rank=1)
    assert answers[0][0] == "RankLost"
    assert time.monotonic() - began < 15
    assert ranks.run(2, "together", stops=None) == ["done"] * 2


def test_a_collective_that_ended_without_a_rank_is_no_agreement(ranks: RankProcesses) -> None:
    assert ranks.run(2, "ask_in_vain") == [("RankLost", "another device of this job does not answer")] * 2


def test_a_rank_that_is_killed_ends_the_attempt_on_the_others() -> None:
    with rank_processes(2) as two:
        answers = two.run(2, "die", rank=1, after=5)
        assert answers[0][0] == "RankLost"
        assert answers[1] is None
