"""The first job of a new home, and the first one of a second engine, with two versions of the engine in one run.

    python -m benchmarks.first_minutes before=OTHER/src after=src     # A14B of real size with random weights, on a GPU
    python -m benchmarks.first_minutes before=src after=src --tiny    # the same script in a minute, on any CPU

The weights are in the page cache. Each version has its own home, as if the model had just been downloaded.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import anyio

from benchmarks.h200.engine import end_engine, image, job, prepare, video
from benchmarks.h200.measuring import Sheet
from benchmarks.records import RESULTS, keep
from wan_mcp.service.service import serving
from wan_mcp.settings import Settings

LIMIT_S = 240
KEPT_S = 90
DENOISERS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", help="NAME=FOLDER, FOLDER being the src of a version; in this order")
    parser.add_argument("--work", type=Path, help="folder for the homes, with 30 GB of converted weights at a time")
    parser.add_argument("--weights", type=Path, help="folder for 40 GB of weights; must not exist")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)  # this process measures one version
    options = parser.parse_args()
    if options.home is not None:
        print(json.dumps(anyio.run(measure, options.home, options.tiny)))  # noqa: T201
        return
    work = options.work or Path(mkdtemp(prefix="first-minutes-"))
    work.mkdir(exist_ok=True)
    weights = options.weights or work / "weights"
    prepare(weights, work / "home", options.tiny, Sheet(work / "weights.json"))
    rows: list[dict[str, Any]] = []
    for named in options.sources:
        name, _, source = named.partition("=")
        home = work / name
        shutil.copytree(work / "home", home)
        rows.append({"version": name} | run(Path(source).resolve(), home, options.tiny))
        keep("first_minutes", rows, options.out)
        print(json.dumps(rows[-1], indent=1), file=sys.stderr, flush=True)  # noqa: T201
        shutil.rmtree(home)  # the disk may have no room for two


def run(source: Path, home: Path, tiny: bool) -> dict[str, Any]:
    """Measure one version in a process that imports it."""
    root = str(Path(__file__).parents[1])
    path = os.pathsep.join([str(source), root, os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "benchmarks.first_minutes", "--home", str(home), *(["--tiny"] if tiny else [])]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path}, check=False, capture_output=True, text=True, timeout=LIMIT_S
    )
    log = (home / "logs" / "wan-mcp.log").read_text() if (home / "logs" / "wan-mcp.log").exists() else ""
    if done.returncode:
        return {"error": done.stderr[-3000:], "log": log[-3000:]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


async def measure(home: Path, tiny: bool) -> dict[str, Any]:
    """Run the first job of a home, wait until its converted weights are kept, and run a job in a second engine."""
    precision: Any = "fp8" if tiny else "auto"
    settings = Settings(home=home, engine_idle_s=300, min_free_mb=1, precision=precision, video_model="a14b-random")
    async with serving(settings) as service:
        _, first = await job(service, video("480p", tiny, 0))
        began = time.perf_counter()
        with anyio.move_on_after(KEPT_S):
            while len(list((home / "converted").glob("*/index.json"))) < DENOISERS:  # noqa: ASYNC110 - of a process
                await anyio.sleep(0.2)
        kept_after = round(time.perf_counter() - began, 1)
    end_engine(settings)
    os.sync()  # or the second engine's own writes wait behind 29 GB
    async with serving(settings) as service:
        _, second = await job(service, image(tiny, 9))
    end_engine(settings)
    log = [line for line in settings.log_file.read_text(encoding="utf-8").splitlines() if " INFO " in line]
    return {"first_job_s": first, "converted_kept_after_s": kept_after, "second_engine_s": second, "log": log[-60:]}


if __name__ == "__main__":
    main()
