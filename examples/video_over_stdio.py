"""Generate a video over stdio, with the client of the MCP SDK.

    .venv/bin/python examples/video_over_stdio.py "a large orange triangle moves down" [COMMAND]

The client starts the server as its child process, as Claude Desktop does. COMMAND is the path of `wan-mcp`; by default,
the one of this checkout.
"""

import asyncio
import os
import sys
from pathlib import Path

from mcp import Client, StdioServerParameters

INSTALLED = Path(__file__).resolve().parents[1] / ".venv" / "bin" / "wan-mcp"


async def show(progress: float, total: float | None, message: str | None) -> None:
    print(f"{progress:3.0f} % {message}")


async def main(prompt: str, command: str) -> None:
    # The SDK hides most of the environment from a server. Settings (WAN_MCP_…) are in it, so pass it on.
    server = StdioServerParameters(command=command, args=["stdio"], env=dict(os.environ))
    async with Client(server) as client:
        result = await client.call_tool("generate_video", {"prompt": prompt}, progress_callback=show)
        while not result.is_error and result.structured_content["status"] in ("queued", "running"):
            # A call waits for 45 seconds at most. The job continues, and get_job waits again.
            unfinished = {"job_id": result.structured_content["job_id"]}
            result = await client.call_tool("get_job", unfinished, progress_callback=show)
        if result.is_error or result.structured_content["status"] != "succeeded":
            sys.exit(result.content[0].text)
        for artifact in result.structured_content["artifacts"]:
            print(artifact["path"])


asyncio.run(main(sys.argv[1], (sys.argv[2:] or [str(INSTALLED)])[0]))
