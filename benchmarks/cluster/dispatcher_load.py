"""What one dispatcher bears: many actors of a Ray cluster on this machine, whose jobs only wait for a set time.

    python -m benchmarks.cluster.dispatcher_load [--actors 64 --jobs 2000 --seconds 1.28]

Measured are the jobs handed out per second, the time from the end of an actor's job to the beginning of its next one,
and the memory of the dispatcher. All share the cores of this machine, so with more actors than cores this is the least
that a dispatcher does: on a cluster, actors have other cores.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from benchmarks.cluster.thousand_gpus import plan_of
from benchmarks.records import keep
from wan_mcp.engine.worker.bare_runner import BareRunner
from wan_mcp.engine.worker.reporter import Reporter
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.turns import Asker
from wan_mcp.schema.enums import JobState, Stage
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.requests import VideoRequest
from wan_mcp.settings import Settings

RUNNER = "benchmarks.cluster.dispatcher_load:Waits"
SECONDS, RUNS = "SECONDS_OF_A_JOB", "FILE_OF_RUNS"
ROOT = Path(__file__).parents[2]
DISPATCHER = """
import sys
from wan_mcp.cluster import dispatcher
from wan_mcp.fronts.cli import main
dispatcher.RUNNER = sys.argv.pop(1)
main()
"""
STORE_BYTES = 80 * 1024 * 1024
LIMIT_S = 240


class Waits(BareRunner):
    """A runner whose jobs take a set time and make nothing; it notes when each began and ended."""

    def __init__(self, settings: Settings) -> None:
        self._seconds = float(os.environ[SECONDS])
        self._file = Path(os.environ[RUNS])

    def run(self, job: Job, report: Reporter) -> str | None:
        """Wait."""
        began = time.monotonic()
        report.enter(Stage.DENOISE)
        time.sleep(self._seconds)
        with self._file.open("a", encoding="utf-8") as runs:
            runs.write(f"{os.getpid()} {job.id} {began} {time.monotonic()}\n")
        return None


def percentile(values: list[float], share: float) -> float:
    """Return the value below which a share of the values lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def measured(folder: Path, actors: int, jobs: int, seconds: float) -> dict[str, Any]:
    """Run the jobs, and return what was measured; after LIMIT_S, of those that have ended."""
    from ray.cluster_utils import Cluster

    runs = folder / "runs"
    runs.touch()
    os.environ.update({SECONDS: str(seconds), RUNS: str(runs), "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"})
    os.environ["RAY_AUTH_MODE"] = "disabled"
    node = {"num_cpus": actors, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args={**node, "temp_dir": str(folder / "ray")})
    settings = Settings(home=folder / "home")
    database = Database(settings.database)
    store = JobStore(database)
    options = ["--address", nodes.address, "--cpu-actors", str(actors), "--folder", str(folder / "machines")]
    command = [sys.executable, "-c", DISPATCHER, RUNNER, "cluster", *options]
    try:
        with (folder / "log").open("wb") as log:
            dispatcher = subprocess.Popen(command, env=os.environ | settings.environment(), stdout=log, stderr=log)
        end = time.monotonic() + LIMIT_S
        while (folder / "log").read_text(errors="replace").count(" serves\n") < actors:
            if dispatcher.poll() is not None or time.monotonic() > end:
                raise SystemExit((folder / "log").read_text(errors="replace"))
            time.sleep(0.2)
        for number in range(jobs):
            store.submit(
                VideoRequest(prompt=str(number)),
                plan_of("m", 1),
                None,
                jobs,
                asker=Asker(client=f"client {number % 20}"),
            )
        memory: list[tuple[int, int]] = []
        process = psutil.Process(dispatcher.pid)
        end = time.monotonic() + LIMIT_S
        while (done := runs.read_bytes().count(b"\n")) < jobs and time.monotonic() < end:
            memory.append((done, process.memory_info().rss))
            time.sleep(0.5)
        memory.append((done, process.memory_info().rss))
        cpu_s = sum(process.cpu_times()[:2])
        while any(job.state is JobState.RUNNING for job in store.unfinished()) and time.monotonic() < end:
            time.sleep(0.1)
        dispatcher.terminate()
        dispatcher.wait()
    finally:
        database.close()
        nodes.shutdown()
    return summary(runs, memory) | {"dispatcher_cpu_s": round(cpu_s, 1)}


def summary(runs: Path, memory: list[tuple[int, int]]) -> dict[str, Any]:
    """Return what the notes of the runs say."""
    of_actor: dict[str, list[tuple[float, float]]] = defaultdict(list)
    ids = []
    for line in runs.read_text(encoding="utf-8").splitlines():
        pid, job_id, began, ended = line.split()
        of_actor[pid].append((float(began), float(ended)))
        ids.append(job_id)
    spans = sorted(span for each in of_actor.values() for span in each)
    gaps = [after[0] - before[1] for each in of_actor.values() for before, after in pairwise(each)]
    warm = [rss for done, rss in memory if done >= len(ids) // 10]
    return {
        "jobs_run": len(ids),
        "jobs_run_twice": len(ids) - len(set(ids)),
        "jobs_per_s": round(len(ids) / (max(end for _, end in spans) - spans[0][0]), 1),
        "free_to_next_p50_ms": round(1000 * percentile(gaps, 0.5)),
        "free_to_next_p99_ms": round(1000 * percentile(gaps, 0.99)),
        "dispatcher_mb_after_a_tenth": round(warm[0] / 1e6, 1),
        "dispatcher_mb_at_the_end": round(warm[-1] / 1e6, 1),
    }


def main() -> None:
    """Measure, and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--actors", type=int, default=64)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=1.28, help="of each job")
    parser.add_argument("--folder", type=Path, help="of the results; by default that of all benchmarks")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # a socket's path has 107 characters at most
    load = os.getloadavg()[0]
    try:
        row = {"actors": options.actors, "jobs": options.jobs, "seconds_of_a_job": options.seconds, "load_before": load}
        row |= measured(folder, options.actors, options.jobs, options.seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    keep("cluster_dispatcher_load", [row], *([options.folder] if options.folder else []))


if __name__ == "__main__":
    main()
