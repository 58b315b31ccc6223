"""Typical times of a model's jobs on this machine: with its defaults, and with each preset."""

from dataclasses import dataclass

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.errors import UserError
from wan_mcp.jobs.timings import Timings
from wan_mcp.planning.planner import Planner
from wan_mcp.schema.enums import Task

__all__ = ["TypicalTimes", "typical_times"]


@dataclass(frozen=True)
class TypicalTimes:
    """Seconds of a job with its model loaded; unmeasured entries are omitted."""

    by_task: dict[Task, float]
    by_preset: dict[str, float]
    """Of the model's first task."""


def typical_times(planner: Planner, timings: Timings, device: str, manifest: Manifest) -> TypicalTimes:
    """Estimate the default jobs of a model on a device from its measured ones.

    Raises:
        HomeUnusable: the job table cannot be used.
    """

    def seconds(task: Task, preset: str | None = None) -> float | None:
        try:
            plan = planner.typical(manifest.name, task, preset)
        except UserError:  # a preset that leads to a model that is broken or gone
            return None
        expected = timings.expect(device, plan, loaded=True)
        return None if expected is None else sum(expected.values())

    tasks = {task: seconds(task) for task in manifest.tasks}
    presets = {preset: seconds(manifest.tasks[0], preset) for preset in manifest.presets}
    return TypicalTimes(
        {task: known for task, known in tasks.items() if known is not None},
        {preset: known for preset, known in presets.items() if known is not None},
    )
