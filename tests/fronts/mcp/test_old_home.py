"""What a client sees of a home that 0.1.0 left behind."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.fixtures.mcp_server import Connect
from tests.support.patience import PATIENCE_S
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio


def leave_out(key: str, file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith(f"{key} =")), encoding="utf-8")


async def test_a_model_of_a_home_of_0_1_0_is_listed_and_makes_videos(
    settings: Settings, old_manifest: Path, connect: Connect
) -> None:
    leave_out("memory_bytes", old_manifest)  # no machine is too small for it then
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings) as runner:
            listed = await runner.call("list_resolutions")
            small = {"resolution": "64x64", "num_frames": 5, "steps": 2}
            request: dict[str, Any] = {"prompt": "a star", "model": "my-wan", "download": True, **small}
            made = await runner.call("generate_video", **request)
    assert "my-wan" in [model["name"] for model in listed.job["models"]]
    assert not listed.job.get("broken")
    assert (made.job["status"], made.job["request"]["model"]) == ("succeeded", "my-wan")
