"""Several engines, as the page, health checks, agents and the command line see them: one queue, each with its job."""

import json
import re

import anyio
import psutil
import pytest

from tests.fixtures.command_line import Wan
from tests.fixtures.mcp_server import Connect, Pace
from tests.fixtures.studio import StudioSite, done
from tests.support.patience import PATIENCE_S
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio
GPUS = ["cuda:0", "cuda:1"]


@pytest.fixture
def two_gpus(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a machine with two GPUs, of which the fake engine knows the names."""
    monkeypatch.setenv("AUTO_DEVICE", ",".join(GPUS))
    return settings.model_copy(update={"device": "auto"})


async def test_two_jobs_run_on_two_gpus_and_every_front_shows_both(
    two_gpus: Settings, pace: Pace, studio_site: StudioSite, connect: Connect, wan: Wan
) -> None:
    async with studio_site(two_gpus) as studio, connect(two_gpus) as runner:
        assert (await studio.web.get("/healthz")).json()["engines"] == {"auto": "off"}
        jobs = [await studio.submit(prompt=prompt) for prompt in ("a circle", "a square", "a star")]
        for job in jobs[:2]:
            await studio.until(job["id"], lambda card: card["state"] == "running" and card["step"] == 0)
        engines = (await studio.get("/api/engines"))["engines"]
        assert [(engine["device"], engine["job"]) for engine in engines] == [
            (device, job["id"]) for device, job in zip(GPUS, jobs, strict=False)
        ]
        assert (await studio.get(f"/api/jobs/{jobs[2]['id']}"))["queue_position"] == 1
        assert (await studio.web.get("/healthz")).json()["engines"] == dict.fromkeys(GPUS, "busy")
        models = await runner.call("list_resolutions")
        assert models.job["devices"] == GPUS
        assert "Each of cuda:0, cuda:1 runs one job at a time." in models.text
        shown = json.loads((await anyio.to_thread.run_sync(lambda: wan("engine", "status", "--json"))).stdout)
        assert [(engine["device"], engine["queued"]) for engine in shown] == [(device, 1) for device in GPUS]
        listed = (await anyio.to_thread.run_sync(lambda: wan("jobs"))).stdout
        assert re.findall(r"running +\d+% on (\S+)", listed) == GPUS[::-1], "the newest first"
        psutil.Process(shown[0]["pid"]).kill()
        with anyio.fail_after(PATIENCE_S):
            while (await studio.get(f"/api/jobs/{jobs[0]['id']}"))["crashes"] == 0:
                pass
        pace.allow(1000)
        ended = [await studio.until(job["id"], done) for job in jobs]
        assert [(job["state"], job["crashes"]) for job in ended] == [("succeeded", n) for n in (1, 0, 0)]
        assert (await studio.send("/api/engines/free")).json() == {"asked": True}
        with anyio.fail_after(PATIENCE_S):
            while set((await studio.web.get("/healthz")).json()["engines"].values()) != {"off"}:
                pass
