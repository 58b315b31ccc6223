"""What cannot fit is refused at the door, on a machine whose driver's tool says how large its GPU is."""

import time
from pathlib import Path

import pytest

from wan_mcp.catalog.catalog import Catalog
from wan_mcp.errors import BadRequest
from wan_mcp.hardware.machine import Machine
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.planning.planner import Planner
from wan_mcp.schema.requests import ImageRequest, VideoRequest
from wan_mcp.settings import Settings

MODEL = "wan2.2-t2v-a14b-4step"


@pytest.fixture
def planner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Planner:
    """The planner of a machine with a GPU of `request.param` MiB."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\necho '{request.param}, 8.9'\n", encoding="utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    return Planner(Settings(home=tmp_path), Catalog.of(tmp_path))


def video(resolution: str = "480p-landscape", num_frames: int = 81, model: str = MODEL) -> VideoRequest:
    return VideoRequest(prompt="rain", model=model, resolution=resolution, num_frames=num_frames)


@pytest.mark.parametrize("planner", [8188], indirect=True)
def test_a_video_that_is_too_large_is_refused_with_the_sizes_and_lengths_that_fit(planner: Planner) -> None:
    with pytest.raises(BadRequest) as refusal:
        planner.resolve(video("720p-landscape"))
    words = str(refusal.value)
    assert "1280x720 with 81 frames of 'wan2.2-t2v-a14b-4step' needs about 19.1 GB" in words
    assert "in fp8, and this GPU has 8.6 GB. Try 480p-landscape (832x480) with up to 53 frames" in words
    assert "720p" not in words.partition("Try")[2]
    planner.resolve(video(num_frames=53))
    planner.resolve(ImageRequest(prompt="rain", model=MODEL, resolution="720p-landscape"))


@pytest.mark.parametrize("planner", [24564], indirect=True)
def test_what_fits_in_some_way_is_taken(planner: Planner) -> None:
    planner.resolve(video("720p-landscape"))


@pytest.mark.parametrize("planner", [3000], indirect=True)
def test_a_model_of_which_nothing_fits_is_refused_with_the_advice_to_take_another(planner: Planner) -> None:
    with pytest.raises(BadRequest, match=r"3\.1 GB\. Use a smaller model"):
        planner.resolve(ImageRequest(prompt="rain", model="qwen-image-2512"))
    planner.resolve(video("square", 17, "wan-mini"))


def test_a_machine_of_which_nobody_knows_the_memory_refuses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    planner = Planner(Settings(home=tmp_path, device="cuda:0"), Catalog.of(tmp_path))
    planner.resolve(video("720p-landscape"))


@pytest.mark.parametrize("planner", [143771], indirect=True)
def test_what_an_engine_found_counts_more_than_what_the_tool_says(planner: Planner, database: Database) -> None:
    rows = WorkerRegistry(database)
    assert rows.machine("auto") is None
    rows.record_machine("auto", Machine("GPU", "bf16", 8 * 1024**3, has_fp8=True))
    assert rows.machine("cuda:1") is None
    planner.resolve(video("720p-landscape"))
    with pytest.raises(BadRequest, match=r"this GPU has 8\.6 GB"):
        planner.resolve(video("720p-landscape"), machine=rows.machine("auto"))


def test_a_precision_that_only_a_newer_version_knows_is_not_taken_for_a_known_one(database: Database) -> None:
    rows = WorkerRegistry(database)
    rows.record_machine("cpu", Machine("CPU", "fp32", 1))
    assert rows.machine("cpu") == Machine("CPU", "fp32", 1)
    with database.write() as connection:
        connection.execute("UPDATE machines SET precision = 'fp4'")
    assert rows.machine("cpu") is None


def test_what_was_found_before_the_machine_was_started_is_forgotten(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = WorkerRegistry(database)
    rows.record_machine("auto", Machine("CPU", "fp32", 1))
    monkeypatch.setattr("wan_mcp.jobs.workers.psutil.boot_time", lambda: time.time() + 1)
    assert rows.machine("auto") is None
