"""What a front bears: many HTTP clients that call one tool at once.

    python -m benchmarks.load --clients 64 --seconds 20

The server is a real process; the clients are bare connections in another one, so that they cost as little as they can.
No engine is started. The goal is written beside each number; the exit status is 1 if one is missed.
"""

import argparse
import asyncio
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from typing import Any
from urllib.parse import urlsplit

import anyio
import psutil

from benchmarks.front import http_server, server_processes
from benchmarks.records import keep

MODERN = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "load", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
GOALS = {"p99_ms": 300.0, "calls_per_second": 150.0, "errors": 0.0, "rss_mb": 120.0}


def request(tool: str, era: str, host: str) -> bytes:
    """The bytes of one call."""
    params: dict[str, Any] = {"name": tool, "arguments": {}}
    head = f"POST /mcp HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nAccept: */*\r\n"
    if era == "modern":
        params["_meta"] = META
        head += f"MCP-Protocol-Version: {MODERN}\r\nMcp-Method: tools/call\r\nMcp-Name: {tool}\r\n"
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def answer(reader: asyncio.StreamReader) -> bytes:
    """The body of the next answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b"content-length: " in head:
        return await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body


async def client(url: str, tool: str, era: str, end: float, latencies: list[float], errors: list[str]) -> None:
    """Call on one connection until the time is over."""
    address = urlsplit(url)
    call = request(tool, era, address.netloc)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        while time.monotonic() < end:
            began = time.monotonic()
            writer.write(call)
            body = await answer(reader)
            latencies.append(time.monotonic() - began)
            if b'"isError":false' not in body:
                errors.append(body[:200].decode(errors="replace"))
    finally:
        writer.close()


def clients(url: str, tool: str, era: str, count: int, seconds: float, out: Any) -> None:
    """Run all clients at once, in a separate process."""

    async def run() -> None:
        latencies: list[float] = []
        errors: list[str] = []
        end = time.monotonic() + seconds
        found = await asyncio.gather(
            *(client(url, tool, era, end, latencies, errors) for _ in range(count)), return_exceptions=True
        )
        errors += [repr(error) for error in found if error is not None]
        out.send((latencies, errors))

    asyncio.run(run())


async def measure(tool: str, era: str, count: int, seconds: float) -> dict[str, Any]:
    """One row."""
    with tempfile.TemporaryDirectory() as home:
        async with http_server(home) as endpoint:
            (process,) = server_processes("http")
            receive, send = multiprocessing.Pipe(duplex=False)
            child = multiprocessing.Process(target=clients, args=(endpoint, tool, era, count, seconds, send))
            cpu_s, rss = sum(process.cpu_times()[:2]), 0
            child.start()
            while not receive.poll():
                rss = max(rss, process.memory_info().rss)
                await anyio.sleep(0.2)
            latencies, errors = receive.recv()
            cpu_s = sum(process.cpu_times()[:2]) - cpu_s
            child.join()
    ordered = sorted(latencies)
    return {
        "row": tool,
        "era": era,
        "clients": count,
        "calls_per_second": round(len(ordered) / seconds, 1),
        "p50_ms": round(1000 * statistics.median(ordered), 1),
        "p99_ms": round(1000 * ordered[int(0.99 * (len(ordered) - 1))], 1),
        "errors": len(errors),
        "first_error": errors[0] if errors else None,
        "cpu_ms_per_call": round(1000 * cpu_s / len(ordered), 2),
        "rss_mb": round(rss / 1e6, 1),
        "machine_load": round(psutil.getloadavg()[0], 1),
    }


def missed(row: dict[str, Any]) -> list[str]:
    """The goals that a row does not reach."""
    more = ("calls_per_second",)
    return [name for name, goal in GOALS.items() if (row[name] < goal if name in more else row[name] > goal)]


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--tool", default="list_resolutions")
    arguments = parser.parse_args()
    rows = []
    for era in ("legacy", "modern"):
        row = anyio.run(measure, arguments.tool, era, arguments.clients, arguments.seconds)
        rows.append(row | {"goals": GOALS, "missed": missed(row)})
        print(rows[-1])  # noqa: T201
    print(keep("load", rows))  # noqa: T201
    sys.exit(any(row["missed"] for row in rows))


if __name__ == "__main__":
    main()
