"""Generate a video over HTTP and download it, with the client of the MCP SDK.

    .venv/bin/wan-mcp http &
    .venv/bin/python examples/video_over_http.py "a large orange triangle moves down" [URL]

URL is the address that `wan-mcp http` prints. The program waits outside the calls: `wait_s=0` returns at once, and the
job continues on the server while the client does something else.
"""

import asyncio
import sys
from pathlib import Path
from urllib.request import urlretrieve

from mcp import Client

DEFAULT = "http://127.0.0.1:8000/mcp"


async def main(prompt: str, url: str) -> None:
    async with Client(url) as client:
        asked = {"prompt": prompt, "seed": 7, "wait_s": 0}
        job = (await client.call_tool("generate_video", asked)).structured_content
        while job["status"] in ("queued", "running"):
            await asyncio.sleep(1)
            job = (await client.call_tool("get_job", {"job_id": job["job_id"], "wait_s": 0})).structured_content
            print(f"{100 * job['progress']:3.0f} % {job['stage'] or job['status']}")
        if job["status"] != "succeeded":
            sys.exit(job["message"])
        for artifact in job["artifacts"]:
            name = Path(artifact["uri"]).name
            urlretrieve(f"{url.removesuffix('/mcp')}/media/videos/{name}", name)
            print(f"{name}: {artifact['frames']} frames, seed {artifact['seed']}")


asyncio.run(main(sys.argv[1], (sys.argv[2:] or [DEFAULT])[0]))
