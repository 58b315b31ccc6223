"""What open pages cost a server: many of them follow one job that reports its progress.

    python -m benchmarks.pages --pages 200 --seconds 20

The server is a real process, the pages are bare connections in another one. This process plays the engine: it claims
the job and reports five times a second, more often than a real one. A latency is the time from a report to the arrival
of its event at one page. The goal is written beside each number; the exit status is 1 if one is missed.
"""

import argparse
import asyncio
import multiprocessing
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import psutil

from benchmarks.front import http_server, server_processes
from benchmarks.records import keep
from wan_mcp.catalog.catalog import Catalog
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.device_lock import engine_lock
from wan_mcp.jobs.store import JobStore
from wan_mcp.planning.planner import Planner
from wan_mcp.schema.enums import JobState, Stage
from wan_mcp.schema.jobs import Progress
from wan_mcp.schema.requests import VideoRequest
from wan_mcp.settings import Settings

GOALS = {"p99_ms": 1000.0, "cpu_percent": 50.0, "rss_mb": 120.0, "rss_without_pages_mb": 95.0, "broken": 0.0}
REPORTS_PER_S = 5
DEVICE = "cuda:7"  # one on which no server here starts an engine
REPORTED = re.compile(rb'"at":([0-9.]+)')
SETTLE_S = 3.0  # in which all pages connect


async def page(url: str, end: float, latencies: list[float], broken: list[str]) -> None:
    """Read the events of one page until the time is over."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(f"GET /api/events HTTP/1.1\r\nHost: {address.netloc}\r\nAccept: text/event-stream\r\n\r\n".encode())
    try:
        while (left := end - time.time()) > 0:
            try:
                line = await asyncio.wait_for(reader.readline(), left)
            except TimeoutError:
                return
            if not line:
                broken.append("the stream ended")
                return
            if line.startswith(b"data:") and (found := REPORTED.search(line)):
                latencies.append(time.time() - float(found[1]))
    finally:
        writer.close()


def pages(url: str, count: int, end: float, out: Any) -> None:
    """Open all pages at once, in a separate process."""

    async def run() -> None:
        latencies: list[float] = []
        broken: list[str] = []
        found = await asyncio.gather(*(page(url, end, latencies, broken) for _ in range(count)), return_exceptions=True)
        out.send((latencies, broken + [repr(error) for error in found if error is not None]))

    asyncio.run(run())


class Engine:
    """A job, and the engine that works on it."""

    def __init__(self, settings: Settings) -> None:
        self._database = Database(settings.database)
        self._store = JobStore(self._database)
        request = VideoRequest(prompt="a red circle moves right")
        plan = Planner(settings, Catalog.of(settings.home)).plan(request)
        self._store.submit(request, plan, None, 10)
        self._lock = engine_lock(settings.home, DEVICE)
        self._lock.acquire()
        job = self._store.claim(DEVICE)
        assert job is not None
        self._job = job

    async def work(self, seconds: float) -> None:
        """Report progress for as long."""
        steps = round(seconds * REPORTS_PER_S)
        for step in range(steps):
            progress = Progress(stage=Stage.DENOISE, step=step, steps=steps, fraction=step / steps, eta_s=seconds)
            await asyncio.to_thread(self._store.report, self._job, progress)
            await asyncio.sleep(1 / REPORTS_PER_S)
        self._store.finish(self._job, JobState.SUCCEEDED)
        self._lock.release()
        self._database.close()


def share(values: list[float], part: float) -> float:
    """Return the value below which this part of all lies, in ms."""
    return round(1000 * sorted(values)[int(part * (len(values) - 1))], 1)


async def measure(count: int, seconds: float) -> dict[str, Any]:
    """Open the pages, let the job go on, and look at the server."""
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home))
        async with http_server(home) as endpoint:
            (process,) = server_processes("http")
            without, url = process.memory_info().rss, endpoint.removesuffix("/mcp")
            receive, send = multiprocessing.Pipe(duplex=False)
            end = time.time() + SETTLE_S + seconds
            child = multiprocessing.Process(target=pages, args=(url, count, end, send))
            child.start()
            await asyncio.sleep(SETTLE_S)
            engine = await asyncio.to_thread(Engine, settings)
            cpu_s, began = sum(process.cpu_times()[:2]), time.monotonic()
            await engine.work(end - time.time() - 1)
            cpu_s, lasted = sum(process.cpu_times()[:2]) - cpu_s, time.monotonic() - began
            rss = process.memory_info().rss
            latencies, broken = await asyncio.to_thread(receive.recv)
            child.join()
    return {
        "row": "pages_follow_a_job",
        "pages": count,
        "events": len(latencies),
        "events_per_page_and_s": round(len(latencies) / count / lasted, 2),
        "p50_ms": share(latencies, 0.5),
        "p99_ms": share(latencies, 0.99),
        "cpu_percent": round(100 * cpu_s / lasted, 1),
        "rss_mb": round(rss / 1e6, 1),
        "rss_without_pages_mb": round(without / 1e6, 1),
        "broken": len(broken),
        "machine_load": round(psutil.getloadavg()[0], 1),
    }


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    row = anyio.run(measure, arguments.pages, arguments.seconds)
    row["goals"] = GOALS
    print(row)  # noqa: T201
    print(keep("pages", [row]))  # noqa: T201
    missed = [name for name, goal in GOALS.items() if row[name] > goal]
    if missed:
        print(f"missed: {', '.join(missed)}")  # noqa: T201
        sys.exit(1)


if __name__ == "__main__":
    main()
