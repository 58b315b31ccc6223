"""Estimate a running job's remaining time and progress, from measured durations of its stages."""

from wan_mcp.jobs.timings import Timings, stage_work, variant_of
from wan_mcp.schema.enums import Stage
from wan_mcp.schema.plans import Plan

__all__ = ["ProgressEstimator"]

# Shares of a job's time for stages that were never measured; they only affect the first progress bar.
UNMEASURED = {
    Stage.LOAD: 0.15,
    Stage.ENCODE: 0.05,
    Stage.DENOISE: 0.65,
    Stage.DECODE: 0.12,
    Stage.WRITE: 0.03,
}
BEFORE_LOADING = (Stage.DOWNLOAD, Stage.CHECK)


class ProgressEstimator:
    """The estimate for one plan on one device."""

    def __init__(self, plan: Plan, timings: Timings, device: str) -> None:
        self._plan, self._timings, self._device = plan, timings, device
        self.work = stage_work(plan)
        self.done: dict[Stage, int] = dict.fromkeys(self.work, 0)
        """Finished pieces of each stage."""
        self.expect(timings.latest_way(device, plan) or "")

    def expect(self, way: str) -> None:
        """Use the measurements for this way of running the model, e.g. `fp8+aot`, from now on."""
        self.variant = variant_of(self._plan, way)
        self.seconds = {
            stage: self._timings.seconds(
                self._device, self._plan.model, stage, work, self.variant if stage is Stage.DENOISE else None
            )
            for stage, work in self.work.items()
        }
        """Seconds of one piece of each stage; None if nothing similar was measured."""

    def time_left(self, stage: Stage, step_s: float | None, before_s: float | None = 0.0) -> float | None:
        """Return the remaining seconds of the job, now in `stage`; None if unknown.

        `step_s` is the duration of a denoising step, `before_s` the rest of a stage before loading.
        """
        if step_s is None or before_s is None:
            return None
        left = before_s
        for each, work in self.work.items():
            loaded = each is Stage.LOAD and stage not in (Stage.LOAD, *BEFORE_LOADING)
            if not loaded:
                seconds = step_s if each is Stage.DENOISE else self.seconds[each] or 0.0
                left += (work.pieces - self.done[each]) * seconds
        return round(max(0.0, left), 2)

    def fraction(self, stage: Stage) -> float:
        """Return the finished share of the job, 0…0.99, now in `stage`."""
        measured = all(seconds is not None for seconds in self.seconds.values())
        weights = {
            each: (self.seconds[each] or 0.0) * work.pieces if measured else UNMEASURED[each]
            for each, work in self.work.items()
        }
        if stage is not Stage.LOAD and self.done[Stage.LOAD] == 0:
            weights[Stage.LOAD] = 0.0  # the model was already loaded
        total = sum(weights.values()) or 1.0
        done = sum(weight * self.done[each] / self.work[each].pieces for each, weight in weights.items())
        return round(min(0.99, done / total), 4)
