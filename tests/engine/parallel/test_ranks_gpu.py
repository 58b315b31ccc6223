"""Ranks on GPUs, which exchange through NCCL. They need two."""

import time

import pytest
import torch

from tests.support.rank_processes import rank_processes
from wan_mcp.engine.parallel.rank_group import COLLECTIVE_LIMIT_S

pytestmark = pytest.mark.gpu


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs")
def test_the_death_of_a_rank_is_noticed_long_before_the_time_limit_and_the_other_can_go_on() -> None:
    with rank_processes(2, "cuda") as two:
        began = time.monotonic()
        survivor, dead = two.run(2, "die", rank=1, after=5)
        assert dead is None
        assert survivor[0] == "RankLost"
        assert time.monotonic() - began < COLLECTIVE_LIMIT_S / 2
        [alone] = two.run(1, "die", rank=1, after=5)
        assert alone == "done"
