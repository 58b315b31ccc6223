"""What reproducible arithmetic costs on a CPU: wan-mini's default video in every mode of MKL, and with aligned weights.

    python -m benchmarks.cpu_arithmetic              # every mode in turn, several rounds in one run
    python -m benchmarks.cpu_arithmetic --only AUTO  # one mode, compared with none

Each way of computing has a process that stays, with the model loaded and the prompt encoded. The processes take turns,
so that a busy machine is busy for all of them; a row's ratio is the median of its ratios to `off` in the same round.
`cpu_s` is the processor time of all threads, which other programs disturb less than `job_s`. `frames` is a hash of the
video's pixels: ways with the same hash give the same bits, and `frames_with_1_thread` says what the number of threads
changes. Writes `benchmarks/results/cpu_arithmetic.json`.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.records import keep
from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.store import JobStore
from wan_mcp.planning.planner import Planner
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.requests import VideoRequest
from wan_mcp.settings import Settings

PROMPT = "a large orange triangle moves down over a white background"
OFF, ALIGNED = "off", "off, aligned weights"
MODES = ("AUTO", "AVX2", "AVX2,STRICT", "AVX512", "AVX512,STRICT", "COMPATIBLE")
WAYS = (OFF, ALIGNED, *MODES)

# MKL that was used before the engine's package is imported stays without a mode.
WITHOUT_MODE = "import torch; torch.ones(2, 2) @ torch.ones(2, 2); "
WORKER = "from benchmarks.cpu_arithmetic import work; work({aligned})"

Row = dict[str, Any]


def work(aligned: bool) -> None:
    """Run the default video at each line of standard input, with the threads that the line says; print what it took."""
    from wan_mcp.engine.device.reproducible import mkl_mode
    from wan_mcp.engine.runner import ModelRunner
    from wan_mcp.engine.worker.reporter import Reporter

    with TemporaryDirectory() as folder:
        home = Path(folder)
        settings = Settings(home=home, device="cpu", compile=False, min_free_mb=1)
        catalog = Catalog(shipped_folder())
        request = VideoRequest(prompt=PROMPT, seed=1)
        plan = Planner(settings, catalog).plan(request, None)
        store = JobStore(Database(settings.database))
        runner = ModelRunner(settings, catalog)

        def run() -> Row:
            store.submit(request, plan, None, 1)
            job = store.claim(settings.device)
            assert job is not None
            began, used = time.perf_counter(), time.process_time()
            with Reporter(job, store, settings) as report:
                runner.run(job, report)
            taken = {"job_s": time.perf_counter() - began, "cpu_s": time.process_time() - used}
            store.finish(job, JobState.SUCCEEDED, caption=None)
            [artifact] = store.get(job.id).artifacts
            return taken | {"frames": _hash_of_frames(Path(artifact.path)), "mode": mkl_mode()}

        import torch

        run()  # loads the model and encodes the prompt
        if aligned:
            _align_weights(runner)
        for line in sys.stdin:
            torch.set_num_threads(int(line))
            print(json.dumps(run()), flush=True)  # noqa: T201
        store.database.close()


def _align_weights(runner: Any) -> None:
    """Put every weight at a multiple of 64 bytes, where torch puts what it allocates."""
    for part in runner._models["generator"][1]._model.any_pipeline.components.values():
        for tensor in (*part.parameters(), *part.buffers()) if hasattr(part, "parameters") else ():
            tensor.data = tensor.data.clone()
            assert tensor.data_ptr() % 64 == 0


def _hash_of_frames(video: Path) -> str:
    import imageio_ffmpeg

    frames = imageio_ffmpeg.read_frames(str(video))
    next(frames)  # facts of the file
    return hashlib.sha256(b"".join(frames)).hexdigest()[:16]


class Worker:
    """A process that computes in one way."""

    def __init__(self, way: str) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
        without = way in (OFF, ALIGNED)
        if not without:
            environment["MKL_CBWR"] = way
        code = (WITHOUT_MODE if without else "") + WORKER.format(aligned=way == ALIGNED)
        self.way = way
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, threads: int) -> Row:
        """Run the video once."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{threads}\n")
        self._process.stdin.flush()
        return dict(json.loads(self._process.stdout.readline()))


def measure(ways: list[str], rounds: int, threads: int) -> list[Row]:
    """All rows."""
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(way)) for way in ways]
        alone = {worker.way: worker.run(1) for worker in workers}
        taken: dict[str, list[Row]] = {way: [] for way in ways}
        for turn in range(rounds + 1):
            for worker in workers if turn % 2 else reversed(workers):
                row = worker.run(threads)
                if turn:
                    taken[worker.way].append(row)
            sys.stderr.write(f"round {turn} of {rounds}\n")
    return [_row(way, runs, taken[OFF], alone[way], threads) for way, runs in taken.items()]


def _row(way: str, runs: list[Row], without: list[Row], alone: Row, threads: int) -> Row:
    def ratio(of: str) -> float:
        return round(float(statistics.median(a[of] / b[of] for a, b in zip(runs, without, strict=True))), 3)

    [frames] = {run["frames"] for run in runs}
    return {
        "way": way,
        "mode_in_use": runs[0]["mode"],
        "threads": threads,
        "job_s": round(statistics.median(run["job_s"] for run in runs), 3),
        "fastest_s": round(min(run["job_s"] for run in runs), 3),
        "ratio": ratio("job_s"),
        "cpu_s": round(statistics.median(run["cpu_s"] for run in runs), 3),
        "cpu_ratio": ratio("cpu_s"),
        "frames": frames,
        "frames_with_1_thread": alone["frames"],
        "runs_s": [round(run["job_s"], 3) for run in runs],
    }


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="+", choices=WAYS, help="measure only these, compared with no mode")
    options = parser.parse_args()
    ways = [way for way in WAYS if options.only is None or way in (OFF, *options.only)]
    rows = measure(ways, options.rounds, options.threads)
    for row in rows:
        print({key: value for key, value in row.items() if key != "runs_s"})  # noqa: T201
    if options.only is None:
        print(keep("cpu_arithmetic", rows))  # noqa: T201


if __name__ == "__main__":
    main()
