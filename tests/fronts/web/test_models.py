"""Models, the engine and other programs, as the page shows and changes them."""

import json
import shutil
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from tests.fixtures.hub import FILES, REPOSITORY
from tests.fixtures.mcp_server import Pace
from tests.fixtures.studio import Studio, StudioSite, done
from tests.support.loopback import LoopbackHub
from tests.support.patience import PATIENCE_S
from wan_mcp.fronts.hosts.registry import HOSTS
from wan_mcp.settings import Settings
from wan_mcp.weights.hub import Hub

pytestmark = pytest.mark.anyio
TINY = """
schema = 1
name = "tiny"
title = "Tiny <script>alert(1)</script>"
summary = "A model of a test."
tasks = ["text-to-video"]
licence = {id = "Apache-2.0"}
weights = {repository = "acme/tiny", files = ["model_index.json", "vae/*", "transformer/*"], disk_bytes = 515032}
pipeline = {family = "wan"}
frames = {multiple = 4, minimum = 5, maximum = 9, default = 5, fps = 8}
[sizes]
multiple = 16
default = "small"
named = [{name = "small", width = 64, height = 64}]
"""


@pytest.fixture
def with_tiny(settings: Settings, hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home with a model of one's own, which the loopback hub has."""
    hub.add(REPOSITORY, FILES)
    here = Hub(hub.endpoint, tmp_path / "cache", token=False)
    monkeypatch.setattr(Hub, "from_environment", lambda: here)  # its library reads the environment once
    file = settings.home / "manifests" / "tiny.toml"
    file.parent.mkdir(parents=True)
    file.write_text(TINY, encoding="utf-8")
    return settings


async def card_of(studio: Studio) -> dict[str, Any]:
    models = (await studio.get("/api/catalogue"))["models"]
    return next(model for model in models if model["name"] == "tiny")


async def test_a_model_is_downloaded_with_its_progress_and_removed(
    with_tiny: Settings, studio_site: StudioSite
) -> None:
    async with studio_site(with_tiny) as studio:
        card = await card_of(studio)
        assert (card["group"], card["download_bytes"]) == ("fits", 515_032)
        assert card["title"] == "Tiny <script>alert(1)</script>", "text, for the page to show as it is"
        estimate = await studio.send("/api/estimate", {"kind": "video", "prompt": "x", "model": "tiny"})
        assert estimate.json()["download_bytes"] == 515_032
        assert estimate.json()["action"] == {"do": "get_model", "label": "Get 515.0 kB", "model": "tiny", "values": {}}
        with anyio.fail_after(PATIENCE_S):
            async with studio.events() as events:
                await anext(events)
                assert (await studio.send("/api/models/tiny/get")).status_code == 202
                async for event in events:
                    if event.name == "download" and event.data["state"] != "coming":
                        break
        assert event.data["state"] == "done", event.data
        assert event.data["done_bytes"] == event.data["total_bytes"] > 500_000
        assert (await card_of(studio))["group"] == "here"
        disk = await studio.get("/api/models")
        assert disk["used_bytes"] == {"tiny": event.data["total_bytes"]}
        assert disk["disk"]["free_bytes"] > 0
        removed = await studio.send("/api/models/tiny", method="DELETE")
        assert removed.json() == {"freed_bytes": event.data["total_bytes"]}
        assert (await card_of(studio))["group"] == "fits"


async def test_a_download_that_fails_says_why(with_tiny: Settings, hub: LoopbackHub, studio_site: StudioSite) -> None:
    hub.forget()
    async with studio_site(with_tiny) as studio:
        with anyio.fail_after(PATIENCE_S):
            async with studio.events() as events:
                await anext(events)
                await studio.send("/api/models/tiny/get")
                async for event in events:
                    if event.name == "download" and event.data["state"] != "coming":
                        break
        assert event.data["state"] == "failed"
        assert "acme/tiny" in event.data["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/models/wan-mini/get", 400),
        ("POST", "/api/models/tiny/stop", 400),
        ("DELETE", "/api/models/wan-mini", 400),
        ("POST", "/api/models/no-such/get", 404),
        ("DELETE", "/api/models/no-such", 404),
    ],
)
async def test_what_cannot_be_done_with_a_model_is_said(
    with_tiny: Settings, studio_site: StudioSite, method: str, path: str, status: int
) -> None:
    async with studio_site(with_tiny) as studio:
        answer = await studio.send(path, method=method)
        assert answer.status_code == status
        assert answer.json()["error"]


async def test_an_idle_engine_is_ended_and_one_at_work_is_not(
    settings: Settings, pace: Pace, studio_site: StudioSite
) -> None:
    async with studio_site(settings) as studio:
        assert not (await studio.get("/api/engines"))["engines"][0]["running"]
        assert (await studio.send("/api/engines/free")).json() == {"asked": False}
        others = psutil.Process().children()  # of tests before
        job = await studio.submit()
        pace.allow(1)
        await studio.until(job["id"], lambda card: card["state"] == "running")
        [engine] = (await studio.get("/api/engines"))["engines"]
        assert (engine["running"], engine["job"]) == (True, job["id"])
        refused = await studio.send("/api/engines/free")
        assert refused.status_code == 400
        assert "has jobs" in refused.json()["error"]
        pace.allow(100)
        await studio.until(job["id"], done)
        processes = [each for each in psutil.Process().children() if each not in others]
        assert (await studio.send("/api/engines/free")).json() == {"asked": True}
        with anyio.fail_after(PATIENCE_S):
            while (await studio.get("/api/engines"))["engines"][0]["running"]:
                pass
        psutil.wait_procs(processes, PATIENCE_S)
        assert processes and not any(process.is_running() for process in processes)
        again = await studio.until((await studio.submit())["id"], done)
        assert again["state"] == "succeeded", "the next job starts another engine"


async def test_other_programs_are_configured_for_this_very_server(studio: Studio, shared_settings: Settings) -> None:
    near = await studio.get("/api/connect")
    assert near["url"] == f"{studio.url}/mcp"
    texts = {each["id"]: each["text"] for each in near["connections"]}
    assert texts.keys() == {*(host.name for host in HOSTS), "langchain", "curl"}
    desktop = json.loads(texts["claude"])["mcpServers"]["wan"]
    assert shutil.which(desktop["command"]) is not None
    assert desktop["env"]["WAN_MCP_HOME"] == str(shared_settings.home)
    only_start = {host.name for host in HOSTS if host.http is None}
    assert {name for name, text in texts.items() if near["url"] not in text} == only_start == {"claude", "zed"}
    elsewhere = await studio.web.get("/api/connect", headers={"Via": "1.1 proxy"})
    assert str(shared_settings.home) not in elsewhere.text
    assert only_start.isdisjoint(each["id"] for each in elsewhere.json()["connections"])
    assert "wan-mcp setup" not in elsewhere.text


async def test_the_token_is_in_no_configuration(shared_settings: Settings, studio_site: StudioSite) -> None:
    settings = shared_settings.model_copy(update={"http_token": "a long secret"})
    async with studio_site(settings, Authorization="Bearer a long secret") as studio:
        answer = await studio.web.get("/api/connect")
        assert "a long secret" not in answer.text
        assert answer.json()["needs_token"]
        assert answer.text.count("YOUR_TOKEN") >= 5
