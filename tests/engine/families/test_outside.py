"""A family from a package outside of wan-mcp makes videos through the tools, as one of our own does."""

import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult, ImageContent

from tests.support.distributions import install_project
from tests.support.loopback import LoopbackHub
from tests.support.ltx_model import save_ltx
from tests.support.patience import PATIENCE_S
from tests.support.videos import probe
from wan_mcp.media.receipts import read_receipt
from wan_mcp.settings import Settings

PROJECT = Path(__file__).parents[3] / "examples" / "family"
MODEL = "tiny-ltx"
CALL = {"prompt": "a red circle moving left", "model": MODEL, "seed": 7}
STEPS = 4
MANY_STEPS = 2000
"""Far more than are done before a cancel comes."""


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ltx")
    save_ltx(folder)
    return folder


Connect = Callable[[], Any]


@pytest.fixture
def connect(settings: Settings, hub: LoopbackHub, weights: Path, tmp_path: Path) -> Connect:
    """`connect()`: a client of a real server, whose real engine finds the package, its manifest and its weights."""
    install_project(PROJECT, tmp_path / "site")
    (settings.home / "manifests").mkdir(parents=True)
    shutil.copy(PROJECT / f"{MODEL}.toml", settings.home / "manifests")
    hub.add("example/tiny-ltx", weights)
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "wan_mcp", "stdio"],
        env={
            **os.environ,
            **settings.model_copy(update={"engine_command": ""}).environment(),
            "PYTHONPATH": str(tmp_path / "site"),
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_TOKEN": "",
        },
    )

    @asynccontextmanager
    async def connecting() -> AsyncIterator[Client]:
        with anyio.fail_after(PATIENCE_S):
            async with Client(server) as client:
                yield client

    return connecting


def job_of(answer: CallToolResult) -> dict[str, Any]:
    content: dict[str, Any] | None = answer.structured_content
    assert content is not None, answer
    return content


def content_of(answer: CallToolResult) -> bytes:
    return Path(job_of(answer)["artifacts"][0]["path"]).read_bytes()


@pytest.mark.anyio
async def test_a_family_of_another_package_makes_a_video_through_the_tools(connect: Connect, hub: LoopbackHub) -> None:
    async with connect() as client:
        answer = await client.call_tool("generate_video", {**CALL, "steps": STEPS, "wait_s": PATIENCE_S})
        again = await client.call_tool("generate_video", {**CALL, "steps": STEPS, "wait_s": PATIENCE_S})
        other = await client.call_tool("generate_video", {**CALL, "steps": STEPS, "wait_s": PATIENCE_S, "seed": 8})
    job = job_of(answer)
    assert job["status"] == "succeeded", job
    assert hub.file_requests(), "nothing was downloaded"
    (artifact,) = job["artifacts"]
    video = Path(artifact["path"])
    assert (artifact["width"], artifact["height"], artifact["frames"]) == (64, 64, 9)
    assert (probe(video).frames, probe(video).fps) == (9, 8)
    receipt = read_receipt(video)
    assert receipt is not None
    assert (receipt["request"]["model"], receipt["request"]["seed"]) == (MODEL, 7)
    assert (receipt["family"], len(receipt["weights_sha256"])) == ("ltx-family 1.0", 64)
    [sheet] = [block for block in answer.content if isinstance(block, ImageContent)]
    assert sheet.mime_type == "image/jpeg"
    first, second, third = (content_of(each) for each in (answer, again, other))
    assert first == second != third


@pytest.mark.anyio
async def test_a_job_of_another_packages_family_shows_its_steps_and_stops_between_two(connect: Connect) -> None:
    async with connect() as client:
        started = job_of(await client.call_tool("generate_video", {**CALL, "steps": MANY_STEPS, "wait_s": 0}))
        job_id, job = started["job_id"], started
        while not (job["stage"] == "denoising" and " step 0/" not in job["message"]):
            assert job["status"] in ("queued", "running"), job
            job = job_of(await client.call_tool("get_job", {"job_id": job_id, "wait_s": 0}))
        assert "denoising step " in job["message"] and f"/{MANY_STEPS}" in job["message"]
        await client.call_tool("cancel_job", {"job_id": job_id})
        stopped = job_of(await client.call_tool("get_job", {"job_id": job_id, "wait_s": PATIENCE_S}))
        assert (stopped["status"], stopped["artifacts"]) == ("cancelled", [])
        assert 0 < stopped["progress"] < 1
        after = job_of(await client.call_tool("generate_video", {**CALL, "wait_s": PATIENCE_S}))
        assert after["status"] == "succeeded", after
