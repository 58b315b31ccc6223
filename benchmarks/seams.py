"""Measure the seams of videos of several shots: how alike its two frames are, against the neighbouring pairs.

    python -m benchmarks.seams                    # wan-mini on the CPU, a minute

PSNR of two frames that follow each other falls with motion. A seam that nobody sees has the PSNR of its neighbours.
Two candidates for what to do at a seam are measured from the same frames: nothing but leaving out the frame that the
next shot repeats, which is what the engine does, and adding to each colour of the next shot the difference between the
last frame and its repetition.
"""

import argparse
import math
import statistics
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.records import RESULTS, keep
from wan_mcp.catalog.catalog import Catalog
from wan_mcp.engine.runner import ModelRunner
from wan_mcp.engine.worker.reporter import Reporter
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.store import JobStore
from wan_mcp.media import kept_shots
from wan_mcp.planning.planner import Planner
from wan_mcp.schema.requests import VideoRequest
from wan_mcp.settings import Settings

Frames = NDArray[np.uint8]

PROMPTS = (
    ("a red circle moves right", "a red circle moves left"),
    ("a green square grows", "a green square shrinks"),
    ("a blue star spins", "a blue star moves down"),
    ("a large yellow ring on a black background", "a large yellow ring moves up"),
    ("a white triangle moves left", "a white triangle grows"),
)
FRAMES = 17
NEIGHBOURS = 3  # pairs on each side of a seam


def psnr(one: Any, other: Any) -> float:
    """Return the PSNR of two frames in dB; 99 for equal ones."""
    error = float(((one.astype(float) - other.astype(float)) ** 2).mean())
    return 99.0 if error == 0 else 10 * math.log10(255**2 / error)


def seams_of(shots: list[Frames]) -> list[dict[str, float]]:
    """Return what there is to say about each seam."""
    rows = []
    for before, after in pairwise(shots):
        pairs = [psnr(before[-i - 1], before[-i]) for i in range(1, NEIGHBOURS + 1)]
        pairs += [psnr(after[i], after[i + 1]) for i in range(1, NEIGHBOURS + 1)]
        drift = before[-1].astype(float).mean((0, 1)) - after[0].astype(float).mean((0, 1))
        matched = np.clip(after[1].astype(float) + drift, 0, 255)
        rows.append(
            {
                "seam_db": round(psnr(before[-1], after[1]), 2),
                "seam_with_matched_colours_db": round(psnr(before[-1], matched), 2),
                "neighbours_db": round(statistics.mean(pairs), 2),
                "repeated_frame_db": round(psnr(before[-1], after[0]), 2),
                "colour_drift": round(float(np.abs(drift).max()), 3),
            }
        )
    return rows


def measure(model: str, frames: int) -> list[dict[str, Any]]:
    """Make each of the videos, and return the rows of its seams."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), device="cpu")
        catalog = Catalog.of(settings.home)
        store, runner = JobStore(Database(settings.database)), ModelRunner(settings, catalog)
        for first, *later in PROMPTS:
            asked = {"prompt": first, "shots": later, "seed": 5, "num_frames": frames, "model": model}
            request = VideoRequest.of(asked)
            store.submit(request, Planner(settings, catalog).plan(request), None, 9)
            job = store.claim("cpu")
            assert job is not None
            with Reporter(job, store, settings) as report:
                runner.run(job, report)
            files = sorted((settings.home / "media" / "shots").glob(f"{job.id}-*.npy"))
            shots = [np.load(file, allow_pickle=False) for file in files]
            rows += [{"shots": [first, *later], **row} for row in seams_of(shots)]
            print(rows[-1])  # noqa: T201
            kept_shots.remove_shots(settings.home, job.id)
        runner.close()
        store.database.close()
    return rows


def main() -> None:
    """Measure, print and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="wan-mini")
    parser.add_argument("--frames", type=int, default=FRAMES, help="of each shot")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows = measure(arguments.model, arguments.frames)
    for name in ("seam_db", "neighbours_db", "seam_with_matched_colours_db"):
        print(f"{name}: {statistics.mean(row[name] for row in rows):.2f} on average")  # noqa: T201
    keep("seams", rows, arguments.output)


if __name__ == "__main__":
    main()
