"""Every plug is pulled, over and over."""

from collections.abc import Callable

import anyio
import pytest

from devkit.storm import Storm
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

KILLS = 16  # devkit.storm and the benchmark `soak` do more


@pytest.mark.timeout(500)
async def test_no_kill_of_an_engine_or_a_front_loses_a_job_or_leaves_half_a_file(
    engine: Callable[..., Settings],
) -> None:
    with anyio.fail_after(480):
        report = await Storm(engine("strolls"), KILLS, seed=1).rage()
    assert report.faults == []
    assert (report.engine_kills, report.front_kills) == (11, 5)
    assert len(report.jobs) >= KILLS
    assert sum(job.crashes for job in report.jobs) >= report.engine_kills
