"""Times of a job's stages on each device of this machine, measured on its finished jobs.

Engines record; they serve a running job's time left, a queue's length in seconds, and the times in
`list_resolutions`. Without a measurement there is no estimate: None, never a guess.

A denoising step is measured for each way of running a model apart (its *variant*: precision,
compiled or not, turbo, passes left out); the other stages do not depend on it.
"""

import sqlite3
import statistics
import time
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple

from wan_mcp.catalog.costs import Costs
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.step_time_model import StepTimeModel
from wan_mcp.schema.enums import Stage
from wan_mcp.schema.plans import CaptionPlan, Plan

__all__ = ["Expectation", "Measurement", "Timings", "Work", "stage_work", "variant_of", "work_key"]

ADDED = ("+full", "+turbo", "+step-cache")  # what a plan may add to the way in which its model runs
KEPT = 9  # measurements of one stage at one size; an odd number, for the median

Expectation = dict[Stage, float]
"""Seconds that each stage of a job is expected to take, over all its results."""


@dataclass(frozen=True)
class Work:
    """The work of a stage: a number of pieces of equal size."""

    size: float
    """The quantity that a piece's time scales with: tokens, pixels times frames, or 1 if unknown."""
    pieces: int = 1
    passes: int = 1
    """Passes of a denoiser in a piece: two with classifier-free guidance."""
    even_at: int | None = None
    """Size at which the linear and the quadratic part take equal work; None if the time is linear."""


def stage_work(plan: Plan) -> dict[Stage, Work]:
    """Return the work of each stage of a plan."""
    if isinstance(plan, CaptionPlan):
        return {Stage.LOAD: Work(1), Stage.ENCODE: Work(1), Stage.DENOISE: Work(plan.max_new_tokens)}
    volume = float(plan.width * plan.height * plan.frames)
    # Plans of older versions do not say how many tokens they have.
    tokens = plan.tokens or Costs().tokens(plan.width, plan.height, plan.frames)
    passes = 2 if plan.guided else 1
    return {
        Stage.LOAD: Work(1),
        Stage.ENCODE: Work(1),
        Stage.DENOISE: Work(tokens, plan.steps_run * plan.runs, passes, plan.even_at or Costs().even_at),
        Stage.DECODE: Work(volume, plan.runs),
        Stage.WRITE: Work(volume, plan.runs),
    }


def work_key(plan: Plan) -> Hashable:
    """Return a value that is equal for plans that are expected to take the same time on one device."""
    return plan.model, _added_by(plan), tuple(stage_work(plan).items())


def variant_of(plan: Plan, way: str = "") -> str:
    """Return the variant of a job: how its engine runs the model (`way`, e.g. fp8+aot), plus the plan's additions."""
    return way + _added_by(plan)


def _added_by(plan: Plan) -> str:
    full = plan.precision == "full"
    return "".join(word for word, is_so in zip(ADDED, (full, plan.turbo, plan.step_cache), strict=True) if is_so)


class Measurement(NamedTuple):
    """One measurement as it is kept."""

    row: int
    model: str
    stage: str
    size: float
    variant: str
    seconds: float


class Timings:
    """The measured stage times."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, device: str, model: str, stage: Stage, work: Work, seconds: float, variant: str = "") -> None:
        """Record one measurement: the seconds of one piece of `work`."""
        self.adopt(device, Measurement(0, model, stage, work.size, variant, seconds / work.passes))

    def adopt(self, device: str, measured: Measurement) -> None:
        """Record a measurement of another table."""
        key = (device, measured.model, measured.stage, measured.size, measured.variant)
        same = "device = ? AND model = ? AND stage = ? AND size = ? AND variant = ?"
        with self._database.write(durable=False) as connection:
            connection.execute(
                "INSERT INTO timings (device, model, stage, size, variant, seconds, measured_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*key, measured.seconds, time.time()),
            )
            connection.execute(
                f"DELETE FROM timings WHERE {same} AND rowid NOT IN"
                f" (SELECT rowid FROM timings WHERE {same} ORDER BY measured_at DESC, rowid DESC LIMIT {KEPT})",
                (*key, *key),
            )

    def since(self, device: str, row: int) -> list[Measurement]:
        """Return what was measured on a device after the measurement of that row."""
        rows = self._database.read(
            "SELECT rowid, model, stage, size, variant, seconds FROM timings WHERE device = ? AND rowid > ?"
            " ORDER BY rowid",
            device,
            row,
        )
        return [Measurement(*row) for row in rows]

    def seconds(
        self,
        device: str,
        model: str,
        stage: Stage,
        work: Work,
        variant: str | None = None,
        *,
        on_one_gpu: bool = False,
    ) -> float | None:
        """Return the expected seconds of one piece of work.

        The median at its size; else of denoising the curve through all sizes (see `StepTimeModel`), of the others the
        median at the nearest size, scaled. `variant` None takes all measurements alike; `on_one_gpu`
        omits those of jobs that several GPUs shared.
        """
        rows = self._rows(
            device,
            "SELECT size, seconds FROM timings"
            " WHERE device = :device AND model = :model AND stage = :stage"
            " AND (:variant IS NULL OR variant = :variant)"
            " AND NOT (:on_one_gpu AND variant GLOB '*+[0-9]*gpus*')"  # as the runner of shared jobs says
            " AND size > 0 AND seconds BETWEEN 0 AND 1e9",  # a damaged row must not spoil an estimate
            model=model,
            stage=stage,
            variant=variant,
            on_one_gpu=on_one_gpu,
        )
        measured: defaultdict[float, list[float]] = defaultdict(list)
        for row in rows:
            measured[row["size"]].append(row["seconds"])
        if not measured:
            return None
        medians = {size: statistics.median(seconds) for size, seconds in measured.items()}
        if work.size in medians:
            return medians[work.size] * work.passes
        if work.even_at is not None:
            return StepTimeModel.fitted(medians, work.even_at).at(work.size) * work.passes
        nearest = min(medians, key=lambda other: abs(other - work.size))
        return medians[nearest] * work.size / nearest

    def _rows(self, device: str, sql: str, **named: Any) -> list[sqlite3.Row]:
        """Return what was measured on a device, or else on another one of the same hardware."""
        if rows := self._database.read(sql, device=device, **named):
            return rows
        twins = self._database.read(
            "SELECT twin.device FROM device_models AS own JOIN device_models AS twin USING (model)"
            " WHERE own.device = ? AND twin.device != own.device AND model != '' ORDER BY twin.device",
            device,
        )
        found = (self._database.read(sql, device=row["device"], **named) for row in twins)
        return next((rows for rows in found if rows), [])

    def latest(self) -> int:
        """Return a number that changes with each measurement."""
        [row] = self._database.read("SELECT coalesce(max(rowid), 0) FROM timings")
        return int(row[0])

    def latest_way(self, device: str, plan: Plan) -> str | None:
        """Return how an engine last ran a plan's model for plans of this kind; None if none has.

        A front does not know what an engine will do: which kernels, compiled or not.
        """
        added = _added_by(plan)
        rows = self._rows(
            device,
            "SELECT variant FROM timings WHERE device = :device AND model = :model AND stage = :stage"
            " GROUP BY variant ORDER BY max(measured_at) DESC, max(rowid) DESC",
            model=plan.model,
            stage=Stage.DENOISE,
        )
        ways = (row["variant"].removesuffix(added) for row in rows if row["variant"].endswith(added))
        return next((way for way in ways if not any(word in way for word in ADDED)), None)

    def record_start(self, device: str, seconds: float) -> None:
        """Record how long an engine took from its first line to ready."""
        self.record(device, "", Stage.LOAD, Work(1), seconds)

    def start_seconds(self, device: str) -> float | None:
        """Return the expected seconds that an engine takes to start."""
        return self.seconds(device, "", Stage.LOAD, Work(1))

    def expect(
        self, device: str, plan: Plan, *, loaded: bool = False, variant: str | None = None
    ) -> Expectation | None:
        """Return the expected seconds of each stage of a job; None if a stage was never measured.

        `loaded` skips loading. `variant` defaults to that of the last job of this kind.
        """
        if variant is None:
            way = self.latest_way(device, plan)
            if way is None:
                return None
            variant = variant_of(plan, way)
        expectation: Expectation = {}
        for stage, work in stage_work(plan).items():
            if stage is Stage.LOAD and loaded:
                continue
            seconds = self.seconds(device, plan.model, stage, work, variant if stage is Stage.DENOISE else None)
            if seconds is None:
                return None
            expectation[stage] = seconds * work.pieces
        return expectation
