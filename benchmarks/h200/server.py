"""The whole server once, as a client sees it: `python -m benchmarks.h200.server --home DIR`.

It needs the home that `benchmarks.h200.engine` has left. Over stdio a video with progress; over HTTP an image; one
video cancelled at its second step; one that runs out of memory because another program takes the device's, and a good
one after it. Writes what was said, with times; ends with an error where a job did not end as it should.
"""

import argparse
import os
import re
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters

from benchmarks.h200 import models
from benchmarks.h200.engine import MODEL, PROMPT, end_engine
from benchmarks.h200.plain import IMAGE_STEPS, STEPS
from devkit.machine import describe
from wan_mcp.settings import Settings

PORT = 8731
WAIT_S = 240
DATED = re.compile(r"\d{4}-\d\d-\d\d ")
"""A line of the log that is no more of the line before."""
HOG = """
import sys, time, torch
held = []
for size in (2**30, 2**28, 2**26, 2**24):
    try:
        while True:
            held.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
    except torch.OutOfMemoryError:
        pass
print("full", flush=True)
sys.stdin.read()
"""


class Transcript:
    """What was asked and answered, with the seconds since the beginning."""

    def __init__(self, file: Path, home: Path, gpus: str = "one GPU") -> None:
        self._file, self._home = file, str(home)
        self._began = time.perf_counter()
        self._lines = [f"# The server on {gpus}, as a client sees it", "", "```"]

    def say(self, words: str) -> None:
        words = words.replace(self._home, "$WAN_MCP_HOME")
        self._lines.append(f"{time.perf_counter() - self._began:7.2f} s  {words}")
        print(self._lines[-1], flush=True)  # noqa: T201
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text("\n".join([*self._lines, "```", ""]), encoding="utf-8")

    def about(self, machine: dict[str, Any]) -> None:
        packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
        self._lines[1:2] = ["", f"{machine['gpu']}; Python {machine['python']}, {packages}.", ""]


def settings(home: Path, tiny: bool) -> dict[str, str]:
    """The environment of every process of the server."""
    here = str(Path(__file__).parents[2])
    return dict(os.environ) | {
        "WAN_MCP_HOME": str(home),
        "WAN_MCP_MIN_FREE_MB": "1",
        "WAN_MCP_ENGINE_IDLE_S": "20",
        "WAN_MCP_PRECISION": "fp8" if tiny else "auto",
        "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]),
    }


async def call(client: Client, tell: Transcript, tool: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool and write down its progress and its answer."""
    tell.say(f"→ {tool} {arguments}")
    last = ""

    async def tell_progress(progress: float, total: float | None, message: str | None) -> None:
        nonlocal last
        if message and message != last:
            last = message
            tell.say(f"    progress {progress:.2f} of {total}: {message}")

    result = await client.call_tool(tool, arguments, progress_callback=tell_progress)
    answer = result.structured_content or {}
    kinds = [content.type for content in result.content]
    shown = {key: answer[key] for key in ("job_id", "status", "error") if answer.get(key) is not None}
    tell.say(f"← {'error ' if result.is_error else ''}{shown} content: {kinds}")
    for content in result.content:
        if content.type == "text":
            tell.say(f"    {content.text[:600]}")
    return dict(answer)


def video(name: str, tiny: bool, **more: Any) -> dict[str, Any]:
    height, width, frames = models.shape(name, tiny)
    return {
        "prompt": PROMPT, "model": MODEL, "resolution": f"{width}x{height}", "num_frames": frames, "steps": STEPS,
        "guidance_scale": 1.0, "guidance_scale_2": 1.0, "wait_s": WAIT_S,
    } | more  # fmt: skip


@asynccontextmanager
async def over_http(environment: dict[str, str]) -> AsyncIterator[str]:
    """`wan-mcp http` on loopback; gives its address."""
    command = [sys.executable, "-m", "wan_mcp", "http", "--port", str(PORT)]
    async with await anyio.open_process(command, env=environment, stdin=None, stdout=None, stderr=None) as process:
        try:
            for _ in range(300):
                try:
                    stream = await anyio.connect_tcp("127.0.0.1", PORT)
                except OSError:
                    await anyio.sleep(0.1)
                    continue
                await stream.aclose()
                break
            yield f"http://127.0.0.1:{PORT}/mcp"
        finally:
            process.terminate()


async def reach(client: Client, job: str, step: int) -> None:
    """Wait until a job has finished a step."""
    while True:
        answer = (await client.call_tool("get_job", {"job_id": job, "wait_s": 0})).structured_content or {}
        said = re.search(r"[Ss]tep (\d+)", answer.get("message") or "")
        if (said and int(said[1]) >= step) or answer.get("status") not in ("queued", "running"):
            return
        await anyio.sleep(0.1)


def expect(answer: dict[str, Any], status: str, code: str | None = None) -> None:
    """Raises RuntimeError where a job did not end so."""
    found = answer.get("status"), (answer.get("error") or {}).get("code")
    if found != (status, code):
        raise RuntimeError(f"the job ended as {found}, not as {(status, code)}")


async def story(home: Path, tell: Transcript, tiny: bool) -> None:
    environment = settings(home, tiny)
    stdio = StdioServerParameters(command=sys.executable, args=["-m", "wan_mcp", "stdio"], env=environment)
    height, width, _ = models.shape("image", tiny)
    still = {
        "prompt": PROMPT, "model": MODEL, "resolution": f"{width}x{height}", "steps": IMAGE_STEPS,
        "guidance_scale": 1.0, "wait_s": WAIT_S,
    }  # fmt: skip
    async with Client(stdio) as client:
        tell.say(f"stdio: connected, {len((await client.list_tools()).tools)} tools")
        expect(await call(client, tell, "generate_video", **video("480p", tiny, seed=1)), "succeeded")
        async with over_http(environment) as address, Client(address) as web:
            tell.say(f"http: connected to {address}")
            expect(await call(web, tell, "generate_image", **still, seed=2), "succeeded")
            await cancelled(web, tell, tiny)
            if not tiny:
                end_engine(Settings(home=home))
                tell.say("the engine was ended: the next one has taken little of the GPU when the other program comes")
                expect(await call(web, tell, "generate_image", **still, seed=4), "succeeded")
                await out_of_memory(web, tell)
            expect(await call(web, tell, "generate_video", **video("480p", tiny, seed=5)), "succeeded")


async def cancelled(client: Client, tell: Transcript, tiny: bool) -> None:
    """A video of many steps, cancelled when it has done two."""
    longer = {"num_frames": 81, "steps": 50} if tiny else {"steps": 20}
    begun = await call(client, tell, "generate_video", **video("480p", tiny, seed=3, wait_s=0, **longer))
    await reach(client, begun["job_id"], 2)
    await call(client, tell, "cancel_job", job_id=begun["job_id"])
    expect(await call(client, tell, "get_job", job_id=begun["job_id"], wait_s=20), "cancelled")


async def out_of_memory(client: Client, tell: Transcript) -> None:
    """Another program takes all that is left of the device's memory before a large job."""
    async with await anyio.open_process([sys.executable, "-c", HOG], stderr=None) as hog:
        assert hog.stdout is not None
        tell.say(f"another program has taken the GPU's memory: {(await hog.stdout.receive()).decode().strip()}")
        answer = await call(client, tell, "generate_video", **video("720p", False, seed=4))
        hog.terminate()
    tell.say("the other program is gone")
    expect(answer, "failed", "out_of_memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="what benchmarks.h200.engine has left")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "h200_server.md")
    parser.add_argument("--media", type=Path, help="copy the pictures that clients were shown to this folder")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    tell = Transcript(options.out, options.home)
    gpu = _gpu()
    tell.about(describe() | {"gpu": gpu})
    try:
        anyio.run(story, options.home, tell, options.tiny)
    finally:
        log = options.home / "logs" / "engine.log"
        if log.exists():
            lines = [
                line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if DATED.match(line)
            ]
            tell.say("the engine's log, its last lines:\n" + "\n".join(lines[-25:]))
        if options.media is not None:
            options.media.mkdir(parents=True, exist_ok=True)
            for file in sorted((options.home / "media").rglob("*.png"))[:2]:
                shutil.copy(file, options.media / file.name)


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"


if __name__ == "__main__":
    main()
