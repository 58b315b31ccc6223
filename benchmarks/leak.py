"""Run thousands of short jobs through one front and one engine, and see whether anything grows.

    python -m benchmarks.leak                           # 10,000 jobs of the light engine: what 8 hours of short jobs do
    python -m benchmarks.leak --real --jobs 1000        # images of wan-mini by the real engine

The clients call over stdio. Every few jobs the descriptors, the threads and the memory of the front and of the engine
are counted, and the size of the job table. The last quarter is compared with the second (the first warms up): nothing
but the table's rows may grow, and the rows may not get longer. The exit status is 1 if something does.
"""

import argparse
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anyio
import psutil
from mcp import Client, StdioServerParameters

from benchmarks.records import RESULTS, keep
from wan_mcp.jobs.database import Database
from wan_mcp.settings import Settings

CLIENTS = 6  # calls at once
WAIT_S = 60.0
SAMPLES = 80  # of a run
MAY_GROW = {"descriptors": 3.0, "threads": 2.0, "rss_mb": 8.0}
"""By how much the median of the last quarter may lie above that of the second."""
MAY_LENGTHEN = 1.02
"""By what factor a job's row may: numbers of jobs and times get longer by a digit or two."""


@dataclass(frozen=True)
class Sample:
    """One process, or the table, at a moment."""

    jobs: int
    front: dict[str, float]
    engine: dict[str, float]
    table_bytes: int
    log_bytes: int


def measured(process: psutil.Process) -> dict[str, float]:
    """The descriptors, threads and memory of a process."""
    return {
        "descriptors": process.num_fds(),
        "threads": process.num_threads(),
        "rss_mb": round(process.memory_info().rss / 1e6, 1),
    }


class Run:
    """One run of many jobs."""

    def __init__(self, settings: Settings, jobs: int, arguments: dict[str, Any]) -> None:
        self._settings, self._jobs, self._arguments = settings, jobs, arguments
        self._asked = self._done = 0
        self.samples: list[Sample] = []
        self.faults: list[str] = []
        self.seconds = 0.0

    async def go(self) -> None:
        """Run all jobs, and take samples."""
        front = StdioServerParameters(
            command=sys.executable, args=["-m", "wan_mcp", "stdio"], env={**os.environ, **self._settings.environment()}
        )
        began = time.monotonic()
        async with Client(front) as client:
            [process] = [child for child in psutil.Process().children() if "stdio" in child.cmdline()]
            async with anyio.create_task_group() as tasks:
                for _ in range(CLIENTS):
                    tasks.start_soon(self._ask, client, process)
        self.seconds = time.monotonic() - began

    async def _ask(self, client: Client, front: psutil.Process) -> None:
        while self._asked < self._jobs:
            self._asked += 1
            asked = {"prompt": f"a star, number {self._asked:05}", "wait_s": WAIT_S, **self._arguments}
            result = await client.call_tool("generate_image", asked)
            state = (result.structured_content or {}).get("status")
            if state != "succeeded":
                self.faults.append(f"a job is {state}: {result.content}"[:500])
            self._done += 1
            if self._done % max(1, self._jobs // SAMPLES) == 0:
                self._sample(front)

    def _sample(self, front: psutil.Process) -> None:
        with database(self._settings) as table:
            [row] = table.read("SELECT pid FROM engines ORDER BY seq DESC LIMIT 1")
            [pages] = table.read("SELECT page_count * page_size AS bytes FROM pragma_page_count(), pragma_page_size()")
        logs = sum(log.stat().st_size for log in self._settings.log_file.parent.rglob("*.log"))
        engine = psutil.Process(row["pid"])
        sample = Sample(self._done, measured(front), measured(engine), pages["bytes"], logs)
        self.samples.append(sample)
        print(sample, flush=True)  # noqa: T201

    def row(self) -> dict[str, Any]:
        """The run as a row of results, with what grew."""
        quarter = len(self.samples) // 4
        early, late = self.samples[quarter : 2 * quarter], self.samples[-quarter:]
        growth: dict[str, dict[str, float]] = {}
        for who in ("front", "engine"):
            growth[who] = {what: round(_median(late, who, what) - _median(early, who, what), 1) for what in MAY_GROW}
            self.faults += [
                f"the {who} has {grown} more {what}" for what, grown in growth[who].items() if grown > MAY_GROW[what]
            ]
        per_job = [_bytes_per_job(samples) for samples in (early, late)]
        if per_job[1] > per_job[0] * MAY_LENGTHEN:
            self.faults.append(f"a job takes {per_job[1]:.0f} bytes of the table, and took {per_job[0]:.0f}")
        return {
            "jobs": self._done,
            "seconds": round(self.seconds, 1),
            "growth": growth,
            "table_bytes_per_job": [round(each) for each in per_job],
            "faults": self.faults,
            "samples": [asdict(sample) for sample in self.samples[:: max(1, len(self.samples) // 10)]],
        }


def _median(samples: list[Sample], who: str, what: str) -> float:
    return float(statistics.median(getattr(sample, who)[what] for sample in samples))


def _bytes_per_job(samples: list[Sample]) -> float:
    first, last = samples[0], samples[-1]
    return (last.table_bytes - first.table_bytes) / (last.jobs - first.jobs)


@contextmanager
def database(settings: Settings) -> Iterator[Database]:
    """The job table of a home."""
    table = Database(settings.database)
    try:
        yield table
    finally:
        table.close()


def main() -> None:
    """Run the jobs, write the results, and print what grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--real", action="store_true", help="run the images by the real engine, with wan-mini")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args()
    asked: dict[str, Any] = {"steps": 1, "seed": 1}
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home), device="cpu", engine_idle_s=600, min_free_mb=1, compile=False)
        if not arguments.real:
            light = shlex.join([sys.executable, "-m", "devkit.light_engine"])
            settings = settings.model_copy(update={"engine_command": light})
            os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
        run = Run(settings, arguments.jobs, asked)
        anyio.run(run.go)
        with database(settings) as table:
            for engine in table.read("SELECT pid FROM engines"):
                if psutil.pid_exists(engine["pid"]):
                    psutil.Process(engine["pid"]).terminate()
    row = {"engine": "wan-mini" if arguments.real else "light", **run.row()}
    keep("leak_real" if arguments.real else "leak", [row], arguments.out)
    print({key: value for key, value in row.items() if key != "samples"})  # noqa: T201
    sys.exit(bool(run.faults))


if __name__ == "__main__":
    main()
