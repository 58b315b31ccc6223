"""What a front costs: time to `initialize`, memory, and tool calls under load.

    python -m benchmarks.front

Every number is of a real server process and the SDK's own client, over stdio and HTTP. No engine
is started: these calls do not need one.
"""

import argparse
import contextlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import psutil
from mcp import Client, StdioServerParameters, stdio_client

from benchmarks.records import keep
from wan_mcp.settings import Settings

COMMAND = [sys.executable, "-m", "wan_mcp"]


def environment(home: str) -> dict[str, str]:
    """What the server needs to know."""
    return Settings(home=Path(home)).environment()


def server_processes(command: str) -> list[psutil.Process]:
    """Our child processes that run `wan-mcp <command>`."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "wan_mcp" in child.cmdline() and command in child.cmdline()]


async def initialize_and_memory(home: str) -> tuple[float, float]:
    """Seconds from starting a process to the answer to `initialize`, and MB resident after listing the tools."""
    began = time.perf_counter()
    parameters = StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], "stdio"], env=environment(home))
    async with Client(stdio_client(parameters)) as client:
        seconds = time.perf_counter() - began
        await client.list_tools()
        (process,) = server_processes("stdio")
        return seconds, process.memory_info().rss / 1e6


@asynccontextmanager
async def http_server(home: str) -> AsyncIterator[str]:
    """A `wan-mcp http` process; gives its endpoint."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [*COMMAND, "http", "--port", str(port)]
    process = await anyio.open_process(command, env=environment(home), stdout=None, stderr=subprocess.DEVNULL)
    try:
        with anyio.fail_after(30):
            while True:
                with contextlib.suppress(OSError):
                    async with await anyio.connect_tcp("127.0.0.1", port):
                        break
                await anyio.sleep(0.02)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        await process.wait()


async def load(client: Client, tool: str, concurrency: int, seconds: float) -> dict[str, float]:
    """Calls a second, and latencies in ms, with `concurrency` calls always under way."""
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def call_on() -> None:
        while time.perf_counter() < end:
            began = time.perf_counter()
            result = await client.call_tool(tool, {})
            assert not result.is_error, result
            latencies.append(time.perf_counter() - began)

    async with anyio.create_task_group() as tasks:
        for _ in range(concurrency):
            tasks.start_soon(call_on)
    ordered = sorted(latencies)
    return {
        "calls_per_second": round(len(ordered) / seconds, 1),
        "p50_ms": round(1000 * statistics.median(ordered), 2),
        "p99_ms": round(1000 * ordered[int(0.99 * (len(ordered) - 1))], 2),
    }


async def measure(repeats: int, seconds: float) -> list[dict[str, Any]]:
    """All rows."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as home:
        starts = [await initialize_and_memory(home) for _ in range(repeats)]
        rows.append({"row": "initialize_s", "value": round(statistics.median(s for s, _ in starts), 3), "goal": 1.0})
        rows.append({"row": "front_rss_mb", "value": round(max(mb for _, mb in starts), 1), "goal": 120})
        parameters = StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], "stdio"], env=environment(home))
        async with http_server(home) as endpoint:
            transports: dict[str, Callable[[], Client]] = {
                "stdio": lambda: Client(stdio_client(parameters)),
                "http": lambda: Client(endpoint),
            }
            for transport, connect in transports.items():
                async with connect() as client:
                    await client.list_tools()
                    for tool in ("list_resolutions", "list_jobs"):
                        for concurrency in (1, 8, 32):
                            figures = await load(client, tool, concurrency, seconds)
                            rows.append({"row": tool, "transport": transport, "concurrency": concurrency, **figures})
    return rows


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0)
    arguments = parser.parse_args()
    rows = anyio.run(measure, arguments.repeats, arguments.seconds)
    for row in rows:
        print(row)  # noqa: T201
    print(keep("front", rows))  # noqa: T201


if __name__ == "__main__":
    main()
