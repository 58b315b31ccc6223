"""What a job costs in this version and in another one, side by side in one run.

    python -m benchmarks.versions PATH      # the checkout of the other version

Rounds of both alternate, each with the bare pipeline call next to its job, so that a noisy machine is noisy for all.
Only the ratios mean something where other work is done meanwhile. The packages are the same for both.
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.records import keep

ROOT = Path(__file__).parents[1]
WARM_UPS = 2
WORKER = """
import sys, tempfile
from pathlib import Path
import anyio
from benchmarks import job

async def main():
    bare = job.Bare(fixed=True)
    with tempfile.TemporaryDirectory() as folder:
        media = job.MediaStore(Path(folder) / "bare")
        async with job.serving(job.Settings(home=Path(folder), device="cpu", engine_idle_s=600)) as service:
            for line in sys.stdin:
                seed = int(line)
                files = job.seconds_of(lambda: bare.files(seed, media))
                print(files, await job.job_seconds(service, seed), flush=True)

anyio.run(main)
"""
"""What both versions have: the names of `benchmarks.job`."""


def start(checkout: Path) -> "subprocess.Popen[str]":
    """Start a process that runs a round for each seed it reads, with the code of a checkout."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("WAN_MCP_")}
    return subprocess.Popen(
        [sys.executable, "-c", WORKER],
        cwd=checkout,
        env=own | {"PYTHONPATH": os.pathsep.join([str(checkout / "src"), str(checkout)])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def a_round(process: "subprocess.Popen[str]", seed: int) -> tuple[float, float]:
    """Return the seconds of the bare call with files, and of the job."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{seed}\n")
    process.stdin.flush()
    bare, job = map(float, process.stdout.readline().split())
    return bare, job


def measure(other: Path, repeats: int) -> list[dict[str, Any]]:
    """All rows."""
    processes = {"before": start(other), "after": start(ROOT)}
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in processes}
    try:
        for seed in range(WARM_UPS + repeats):
            # Each goes first in every second round.
            for name in sorted(processes, reverse=bool(seed % 2)):
                seconds = a_round(processes[name], seed)
                if seed >= WARM_UPS:
                    runs[name].append(seconds)
    finally:
        for process in processes.values():
            process.communicate()
    median = {
        name: {
            "bare_and_files_s": round(statistics.median(bare for bare, _ in rounds), 3),
            "job_s": round(statistics.median(job for _, job in rounds), 3),
            "overhead_ms": round(1000 * statistics.median(job - bare for bare, job in rounds), 1),
            "job_to_bare": round(statistics.median(job / bare for bare, job in rounds), 4),
        }
        for name, rounds in runs.items()
    }
    pairs = zip(runs["after"], runs["before"], strict=True)
    ratio = round(statistics.median(after[1] / before[1] for after, before in pairs), 4)
    return [{"row": "default video of wan-mini, warm", "job_after_to_before": ratio, **median, "runs": runs}]


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--repeats", type=int, default=11)
    arguments = parser.parse_args()
    keep("versions", measure(arguments.checkout.resolve(), arguments.repeats))


if __name__ == "__main__":
    main()
