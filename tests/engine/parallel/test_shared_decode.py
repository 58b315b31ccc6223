"""Frames that ranks decode in strips are those that one process decodes."""

from typing import Any

import numpy as np
import pytest

from tests.support.rank_processes import RankProcesses
from wan_mcp.engine.vae.strips import strips


@pytest.mark.parametrize(
    ("layout", "rows", "columns"),
    [("first generation", 4, 26), ("first generation", 25, 3), ("second generation", 3, 34), ("wan-mini", 2, 24)],
)
def test_a_clip_decoded_in_strips_is_the_clip(ranks: RankProcesses, layout: str, rows: int, columns: int) -> None:
    given: dict[str, Any] = {"layout": layout, "rows": rows, "columns": columns}
    [(alone, _)] = ranks.run(1, "decode_together", **given)
    for whole, in_strips in ranks.run(2, "decode_together", **given):
        assert in_strips
        assert whole.shape == alone.shape
        assert np.abs(whole.astype(int) - alone).max() <= 1  # a rounding of convolutions of another size
        assert (whole == alone).mean() > 0.999


def test_small_frames_are_decoded_by_each_rank_alone(ranks: RankProcesses) -> None:
    given: dict[str, Any] = {"layout": "first generation", "rows": 4, "columns": 8}
    [(alone, _)] = ranks.run(1, "decode_together", **given)
    for whole, in_strips in ranks.run(2, "decode_together", **given):
        assert not in_strips
        assert np.array_equal(whole, alone)


def test_the_last_frames_are_used_only_when_all_ranks_have_sent_theirs(ranks: RankProcesses) -> None:
    first, second = ranks.run(2, "leave_before_the_last_frames", columns=24)
    assert second[0] == "InterruptedError"
    assert first == ("RankLost", "another device of this job stopped")


@pytest.mark.parametrize(("height", "width"), [(60, 104), (90, 160), (160, 90), (61, 103)])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_strips_cover_the_longer_side_once(height: int, width: int, count: int) -> None:
    found = strips(height, width, 13, count)
    assert [strip.first for strip in found] == [0, *(strip.last for strip in found[:-1])]
    assert found[-1].last == max(height, width)
    assert all(strip.first - strip.start <= 13 and strip.stop - strip.last <= 13 for strip in found)
