"""The MCP Inspector's command line, an official client in TypeScript, in both protocol eras."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest

from tests.clients.conftest import TOOLS, TRANSPORTS
from tests.clients.environments import node_environment, node_of
from tests.clients.installation import Installation, Json, client_environment
from tests.support.patience import PATIENCE_S

LAUNCHER = Path("node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js")
ERAS = ("legacy", "modern")
TOOL_ERROR = 5  # the Inspector's exit status for a result that is an error
VIDEO = {"prompt": "an orange diamond bounces on a teal background", "num_frames": 9, "steps": 4, "seed": 41}


class Inspector:
    """The command line in its environment."""

    def __init__(self, folder: Path, installation: Installation, http_server: Json, home: Path) -> None:
        node = node_of(folder)
        self._command = [str(node), str(folder / LAUNCHER), "--cli"]
        self._environment = {**client_environment(), "HOME": str(home)}
        stdio = installation.stdio()
        settings = [part for name, value in stdio["env"].items() for part in ("-e", f"{name}={value}")]
        self._servers = {
            "stdio": [stdio["command"], *stdio["args"], *settings],
            "http": ["--server-url", http_server["url"], "--transport", "http"],
        }

    def run(self, transport: str, *arguments: str, status: int = 0) -> tuple[str, str]:
        """Run it: what it wrote to stdout and stderr."""
        ran = subprocess.run(
            [*self._command, *self._servers[transport], *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert ran.returncode == status, f"{ran.stdout[-1500:]}\n{ran.stderr[-1500:]}"
        return ran.stdout, ran.stderr

    def call(self, transport: str, tool: str, arguments: Json, *options: str, status: int = 0) -> Json:
        """Call a tool: its result."""
        call = ("--method", "tools/call", "--tool-name", tool, "--tool-args-json", json.dumps(arguments))
        output, _ = self.run(transport, *call, *options, "--format", "json", status=status)
        result: Json = json.loads(output)["result"]
        return result


@pytest.fixture(scope="session")
def inspector(installation: Installation, http_server: Json, tmp_path_factory: pytest.TempPathFactory) -> Inspector:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed; it brings the MCP Inspector and the Node that it needs")
    folder = node_environment("inspector", npm)
    if node_of(folder) is None:
        pytest.skip(f"npm has no Node 22 for this machine ({os.uname().sysname} {os.uname().machine})")
    return Inspector(folder, installation, http_server, tmp_path_factory.mktemp("inspector"))


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
    reading = ("--method", "resources/read", "--uri", artifact["uri"], "--output", str(saved), "--output-format", "raw")
    inspector.run(transport, *reading, "--protocol-era", era)
    assert saved.read_bytes() == Path(artifact["path"]).read_bytes()
    assert frames_of(saved) == VIDEO["num_frames"]
    assert installation.fronts_left() == []


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_inspector_shows_why_a_call_was_refused(inspector: Inspector, transport: str) -> None:
    result = inspector.call(transport, "generate_video", {**VIDEO, "steps": 9999}, status=TOOL_ERROR)
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
