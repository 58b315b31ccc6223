"""Generate a video with LangChain's MCP adapters.

    pip install langchain-mcp-adapters==0.3.2      # in an environment without wan-mcp: see docs/clients.md
    python examples/video_with_langchain.py "a large orange triangle moves down" [COMMAND]

COMMAND is the path of `wan-mcp`; by default, the one of this checkout. For `wan-mcp http` the connection is
`{"transport": "streamable_http", "url": "http://127.0.0.1:8000/mcp"}`.
"""

import asyncio
import os
import sys
from pathlib import Path

from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.tools import load_mcp_tools

INSTALLED = Path(__file__).resolve().parents[1] / ".venv" / "bin" / "wan-mcp"


async def main(prompt: str, command: str) -> None:
    server = {"transport": "stdio", "command": command, "args": ["stdio"], "env": dict(os.environ)}
    # One session, one server process. Tools of client.get_tools() would start a process for every call.
    async with MultiServerMCPClient({"wan": server}).session("wan") as session:
        tools = {tool.name: tool for tool in await load_mcp_tools(session)}

        async def call(name: str, **arguments: object) -> dict:
            # An agent sends such a call. The answer has text and images for the model, and this structure.
            message = await tools[name].ainvoke({"type": "tool_call", "id": name, "name": name, "args": arguments})
            return message.artifact["structured_content"]

        job = await call("generate_video", prompt=prompt)
        while job["status"] in ("queued", "running"):
            print(job["message"])
            job = await call("get_job", job_id=job["job_id"])
        if job["status"] != "succeeded":
            sys.exit(job["message"])
        print(*(artifact["path"] for artifact in job["artifacts"]), sep="\n")


asyncio.run(main(sys.argv[1], (sys.argv[2:] or [str(INSTALLED)])[0]))
