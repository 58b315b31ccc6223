"""Results say when they are deleted, where the settings delete by age."""

from datetime import datetime, timedelta

import anyio
import pytest

from tests.fixtures.mcp_server import Connect
from tests.support.patience import PATIENCE_S
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio


async def test_a_result_says_when_it_is_deleted_and_how_to_keep_it(shared_settings: Settings, connect: Connect) -> None:
    aged = shared_settings.model_copy(update={"keep_days": 30})
    with anyio.fail_after(PATIENCE_S):
        async with connect(aged) as runner:
            made = await runner.call("generate_image", prompt="a star", steps=2)
            kept = await runner.call("keep_job", job_id=made.job["job_id"])
        async with connect(shared_settings) as runner:
            by_default = await runner.call("get_job", job_id=made.job["job_id"])
    finished, expires = (datetime.fromisoformat(made.job[name]) for name in ("finished_at", "expires_at"))
    assert expires - finished == timedelta(days=30)
    assert f"It is deleted at {made.job['expires_at']} with its files; keep_job(job_id=" in made.text
    assert made.job["message"] in made.text
    for each in (kept, by_default):
        assert "expires_at" not in each.job
        assert "It is deleted" not in each.text
