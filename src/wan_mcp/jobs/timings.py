"""How long the stages of a job take on this machine, from its own finished jobs.

Engines record, everybody asks: a running job's time left, a queue's length in seconds, what
`list_resolutions` promises. Nothing measured means nothing promised: None, never a guess.
"""

import statistics
import time

from wan_mcp.jobs.database import Database
from wan_mcp.specs import CaptionPlan, ImagePlan, Plan, Stage, VideoPlan

__all__ = ["Expectation", "Timings", "stage_sizes"]

KEPT = 9  # measurements of one stage at one size; an odd number, for the median

Expectation = dict[Stage, float]
"""Seconds that each stage of a job is expected to take, over all its results."""


def stage_sizes(plan: Plan) -> dict[Stage, tuple[float, int]]:
    """For each stage of a plan, the size of one piece of work and how many pieces there are.

    The size is what the time grows with: pixels times frames for what touches pixels, doubled
    for a denoising step with classifier-free guidance (two forwards), 1 for the rest.
    """
    if isinstance(plan, CaptionPlan):
        return {Stage.LOAD: (1, 1), Stage.ENCODE: (1, 1), Stage.DENOISE: (plan.max_new_tokens, 1)}
    frames = plan.num_frames if isinstance(plan, VideoPlan) else 1
    volume = float(plan.width * plan.height * frames)
    forwards = 2 if plan.guidance_scale > 1 else 1
    return {
        Stage.LOAD: (1, 1),
        Stage.ENCODE: (1, 1),
        Stage.DENOISE: (volume * forwards, steps_run(plan) * plan.count),
        Stage.DECODE: (volume, plan.count),
        Stage.WRITE: (volume, plan.count),
    }


def steps_run(plan: VideoPlan | ImagePlan) -> int:
    """Denoising steps that really run: image to image starts part of the way, by its strength."""
    if isinstance(plan, ImagePlan) and plan.strength is not None:
        return max(1, min(plan.steps, int(plan.steps * plan.strength)))
    return plan.steps


class Timings:
    """The measured stage times."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, device: str, model: str, stage: Stage, size: float, seconds: float) -> None:
        """Keep one measurement: the seconds of one piece of work of `size`."""
        with self._database.write(durable=False) as connection:
            connection.execute(
                "INSERT INTO timings VALUES (?, ?, ?, ?, ?, ?)", (device, model, stage, size, seconds, time.time())
            )
            connection.execute(
                "DELETE FROM timings WHERE device = ?1 AND model = ?2 AND stage = ?3 AND size = ?4 AND rowid NOT IN"
                " (SELECT rowid FROM timings WHERE device = ?1 AND model = ?2 AND stage = ?3 AND size = ?4"
                f" ORDER BY measured_at DESC, rowid DESC LIMIT {KEPT})",
                (device, model, stage, size),
            )

    def seconds(self, device: str, model: str, stage: Stage, size: float) -> float | None:
        """Expected seconds of one piece of work: the median at its size, else scaled from the nearest size."""
        rows = self._database.read(
            "SELECT size, seconds FROM timings WHERE device = ? AND model = ? AND stage = ?", device, model, stage
        )
        if not rows:
            return None
        nearest: float = min((row["size"] for row in rows), key=lambda other: abs(other - size))
        median: float = statistics.median(row["seconds"] for row in rows if row["size"] == nearest)
        return median * (size / nearest)

    def record_start(self, device: str, seconds: float) -> None:
        """Keep how long an engine took from its first line to ready."""
        self.record(device, "", Stage.LOAD, 1, seconds)

    def start_seconds(self, device: str) -> float | None:
        """Expected seconds that an engine takes to start."""
        return self.seconds(device, "", Stage.LOAD, 1)

    def expect(self, device: str, plan: Plan, *, loaded: bool = False) -> Expectation | None:
        """Seconds of each stage of a job, None while a stage was never measured; `loaded` skips loading."""
        expectation: Expectation = {}
        for stage, (size, pieces) in stage_sizes(plan).items():
            if stage is Stage.LOAD and loaded:
                continue
            seconds = self.seconds(device, plan.model, stage, size)
            if seconds is None:
                return None
            expectation[stage] = seconds * pieces
        return expectation
