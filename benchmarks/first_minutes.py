"""The first minutes with a model of real size on a GPU: a new home, its second engine, sizes that are new to either.

    python -m benchmarks.first_minutes                        # A14B with random weights: one GPU, less than 8 minutes
    python -m benchmarks.first_minutes before=OTHER/src now=src    # with another version of the engine first
    python -m benchmarks.first_minutes --tiny                 # the same script in two minutes, on any CPU

The weights (40 GB) are in memory: in `/dev/shm` if they have room there, else in the page cache. Each version has its
own home in `--work` (30 GB), as if the model had just been downloaded. Every row has the waits of its job: what a
client saw of it, and the lines of the engine's log, with the seconds that passed before each. Rows are written as they
come.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from tempfile import mkdtemp
from threading import Timer
from typing import Any

import anyio

from benchmarks.h200.engine import PACKAGE_S, end_engine, image, job, prepare, video
from benchmarks.h200.measuring import Sheet
from benchmarks.records import RESULTS, keep
from wan_mcp.schema.requests import Request, VideoRequest
from wan_mcp.service.service import JobService, serving
from wan_mcp.settings import Settings

MEMORY = Path("/dev/shm")
WEIGHTS_BYTES = 45_000_000_000
LIMIT_S = 460
KEPT_S = 60
DENOISERS = 2
NAMED_S = 0.3
"""Shorter waits are not named."""
WARM_JOBS = 3
LINE = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) (?:INFO|WARNING) \S+?([^.\s]+): (.*)$")
"""Of the engine's log: the time, the module, the message."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", help="NAME=FOLDER, FOLDER being the src of a version; in this order")
    parser.add_argument("--work", type=Path, help="folder for the homes")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)  # this process measures one version
    options = parser.parse_args()
    if options.home is not None:
        anyio.run(measure, options.home, options.tiny)
        return
    work = Path(mkdtemp(prefix="first-minutes-", dir=options.work))
    in_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > WEIGHTS_BYTES
    weights = Path(mkdtemp(prefix="first-minutes-", dir=MEMORY if in_memory else work))
    rows: list[dict[str, Any]] = []
    try:
        prepare(weights / "model", work / "home", options.tiny, Sheet(work / "weights.json"))
        for named in options.sources or [f"now={Path(__file__).parents[1] / 'src'}"]:
            name, _, source = named.partition("=")
            home = work / name
            shutil.copytree(work / "home", home)
            for row in run(Path(source).resolve(), home, options.tiny):
                rows.append({"version": name} | row)
                keep("first_minutes", rows, options.out)
                print(json.dumps({key: value for key, value in rows[-1].items() if key != "log"}), flush=True)  # noqa: T201
            shutil.rmtree(home)  # there may be no room for two
    finally:
        shutil.rmtree(weights)
        shutil.rmtree(work)


def run(source: Path, home: Path, tiny: bool) -> Iterator[dict[str, Any]]:
    """Yield the rows of one version, measured in a process that imports it, as they come."""
    root = str(Path(__file__).parents[1])
    path = os.pathsep.join([str(source), root, os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "benchmarks.first_minutes", "--home", str(home), *(["--tiny"] if tiny else [])]
    errors = home / "errors.txt"
    with errors.open("w") as output:
        process = subprocess.Popen(
            command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=output, text=True
        )
        guard = Timer(LIMIT_S, process.kill)
        guard.start()
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
        guard.cancel()
        if process.wait():
            yield {"error": errors.read_text()[-3000:], "log": _log_of(home)[-30:]}


async def measure(home: Path, tiny: bool) -> None:
    """Print the rows of a home: its first job, and those of its second engine."""
    precision: Any = "fp8" if tiny else "auto"
    settings = Settings(home=home, engine_idle_s=300, min_free_mb=1, precision=precision, video_model="a14b-random")
    async with serving(settings) as service:
        _tell("first job of a new home", await _timed(service, settings, video("480p", tiny, 0)))
        began = time.perf_counter()
        with anyio.move_on_after(KEPT_S):
            while len(list((home / "converted").glob("*/index.json"))) < DENOISERS:  # noqa: ASYNC110 - of a process
                await anyio.sleep(0.2)
        kept = time.perf_counter() - began
        with anyio.move_on_after(PACKAGE_S):
            while not list((home / "packages").glob("*.json")):  # noqa: ASYNC110 - of a process
                await anyio.sleep(0.2)
        built = time.perf_counter() - began
        _tell("after the first job", {"converted_kept_after_s": round(kept, 1), "package_after_s": round(built, 1)})
    end_engine(settings)
    os.sync()
    async with serving(settings) as service:
        restarted = await _timed(service, settings, video("480p", tiny, 1))
        _tell("second engine, a size that the home has run", restarted)
        warm = [await _timed(service, settings, video("480p", tiny, 2 + number)) for number in range(WARM_JOBS)]
        _tell("video 480p, warm", _best(warm))
        _tell("a size that the home has run, first in an engine", _more(restarted, warm[0]))
        new = [await _timed(service, settings, _square(tiny, number)) for number in range(2)]
        _tell("a size never seen, its first clip", new[0])
        _tell("a size never seen, compared", _more(new[0], new[1]))
        still = await _timed(service, settings, image(tiny, 1))
        _tell("image, the first", still)
        stills = [await _timed(service, settings, image(tiny, 2 + number)) for number in range(WARM_JOBS)]
        _tell("image, warm", _best(stills))
        _tell("image, the first compared", _more(still, stills[0]))
    end_engine(settings)


def _square(tiny: bool, seed: int) -> VideoRequest:
    """A video of as many tokens as the others, in another shape."""
    return video("480p", tiny, seed).model_copy(update={"resolution": "96x96" if tiny else "640x640"})


async def _timed(service: JobService, settings: Settings, request: Request) -> dict[str, Any]:
    """Run a job; return when its stages were seen, and what it waited for."""
    began, lines = datetime.now().astimezone(), len(_log_of(settings.home))
    view, seen = await job(service, request)
    events = [(at, f"client saw: {stage}") for stage, at in seen.items()]
    for line in _log_of(settings.home)[lines:]:
        if (found := LINE.match(line)) is not None:
            written = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S,%f").astimezone()
            events.append(((written - began).total_seconds(), f"{found[2]}: {found[3]}"))
    waits: list[dict[str, Any]] = []
    last = 0.0
    for at, event in sorted(events):
        if at - last >= NAMED_S:
            waits.append({"s": round(at - last, 2), "until": event[:160]})
        last = max(last, at)
    started, finished = view.job.started_at or 0.0, view.job.finished_at or 0.0
    return {"seen_s": seen, "engine_s": round(finished - started, 2), "waits": waits}


def _more(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return the seconds that a first job took more than the next one of its size, without loading."""
    own = [each["seen_s"]["done"] - each["seen_s"].get("encoding", 0.0) for each in (first, second)]
    return {"first_s": round(own[0], 2), "next_s": round(own[1], 2), "more_s": round(own[0] - own[1], 2)}


def _best(jobs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the quickest of warm jobs, and the seconds of all."""
    best = min(jobs, key=lambda each: float(each["seen_s"]["done"]))
    return best | {"all_s": [each["seen_s"]["done"] for each in jobs]}


def _tell(row: str, facts: dict[str, Any]) -> None:
    print(json.dumps({"row": row} | facts), flush=True)  # noqa: T201


def _log_of(home: Path) -> list[str]:
    file = Settings(home=home).log_file
    return file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []


if __name__ == "__main__":
    main()
