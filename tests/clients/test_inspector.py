"""The MCP Inspector's command line, an official client in TypeScript, in both protocol eras."""

import json
import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest

from tests.clients.conftest import TOOLS, TRANSPORTS
from tests.clients.inspector import TOOL_ERROR, Inspector
from tests.clients.installation import Installation
from tests.support.patience import PATIENCE_S

ERAS = ("legacy", "modern")
VIDEO = {"prompt": "an orange diamond bounces on a teal background", "num_frames": 9, "steps": 4, "seed": 41}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("era", ERAS)
def test_the_inspector_finds_no_fault_in_the_tools(inspector: Inspector, transport: str, era: str) -> None:
    listing = ("--method", "tools/list", "--strict", "--format", "json")
    output, words = inspector.run(transport, *listing, "--protocol-era", era)
    tools = json.loads(output)["result"]["tools"]
    assert {tool["name"] for tool in tools} == TOOLS
    assert all(tool["outputSchema"] and tool["annotations"] and tool["title"] for tool in tools)
    assert "0 errors" in words


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("era", ERAS)
def test_the_inspector_makes_a_video_and_saves_one_that_plays(
    inspector: Inspector, installation: Installation, transport: str, era: str, tmp_path: Path
) -> None:
    result = inspector.call(transport, "generate_video", {**VIDEO, "wait_s": PATIENCE_S}, "--protocol-era", era)
    assert not result.get("isError")
    assert result["structuredContent"]["status"] == "succeeded"
    assert {block["type"] for block in result["content"]} == {"text", "resource_link", "image"}
    [artifact] = result["structuredContent"]["artifacts"]
    saved = tmp_path / "saved.mp4"
    inspector.read(transport, artifact["uri"], saved, "--protocol-era", era)
    assert saved.read_bytes() == Path(artifact["path"]).read_bytes()
    assert frames_of(saved) == VIDEO["num_frames"]
    assert installation.fronts_left() == []


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_inspector_shows_why_a_call_was_refused(inspector: Inspector, transport: str) -> None:
    result = inspector.call(transport, "generate_video", {**VIDEO, "steps": 9999}, statuses=(TOOL_ERROR,))
    assert result["content"] == [
        {
            "type": "text",
            "text": "steps 9999 is not allowed; it must be 1 to 50 for 'wan-mini'. Omit steps for its default, 12",
        }
    ]


def frames_of(video: Path) -> int:
    """How many frames ffmpeg decodes."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-xerror", "-i", str(video), "-f", "framecrc", "-"]
    decoded = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    return sum(not line.startswith("#") for line in decoded.stdout.splitlines())
