"""The engines that serve a queue as those see them who reckon with them: when each is free, and what it holds then."""

from collections.abc import Iterable
from functools import cache

from wan_mcp.jobs.affinity import EngineInView, Timetable
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.meetings import helpers
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.timings import Timings, work_key
from wan_mcp.jobs.waiting import computing, seconds_left
from wan_mcp.jobs.workers import WorkerRegistry, WorkerRow
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.plans import Plan
from wan_mcp.settings import Settings

__all__ = ["EnginesInView"]

LATE_S = 5.0
"""A job that is late by more than this may go on for long: nobody waits for its engine any more."""


class EnginesInView:
    """The engines of a home, and what jobs take on each."""

    def __init__(self, settings: Settings, store: JobStore, rows: WorkerRegistry) -> None:
        """Keep the sources; the engines of this home are taken to share the precision of the settings."""
        self._home, self._precision = settings.home, settings.precision
        self._store, self._rows, self._timings = store, rows, Timings(store.database)

    def living_but(self, device: str) -> list[EngineInView]:
        """Return the living engines of other devices."""
        return self._views({row.device: row for row in self._rows.living() if row.device != device})

    def of(self, devices: Iterable[str]) -> list[EngineInView]:
        """Return the engines of devices; one that does not live has to be started first."""
        living = {row.device: row for row in self._rows.living()}
        return self._views({device: living.get(device) for device in devices})

    def _views(self, rows: dict[str, WorkerRow | None] | dict[str, WorkerRow]) -> list[EngineInView]:
        unfinished = self._store.unfinished()
        at_work = helpers(self._home, unfinished) | computing(unfinished)
        nothing = LoadedModels()
        return [
            self.view(device, row.loaded if row else nothing, at_work.get(device), ready=row is not None and row.ready)
            for device, row in rows.items()
        ]

    def view(self, device: str, loaded: LoadedModels, job: Job | None, *, ready: bool = True) -> EngineInView:
        """Return one engine, of which this is known: the models in its memory, its job, and whether it is ready."""
        starting_s = 0.0 if ready else self._timings.start_seconds(device) or 0.0
        if job is None:
            return EngineInView(device, starting_s, loaded)
        left, loaded = seconds_left(job), loaded.after(job.plan, self._precision)
        if left is None:
            return EngineInView(device, None, loaded)
        return EngineInView(device, max(0.0, left) + starting_s, loaded, late=left < -LATE_S)

    def timetable(self) -> Timetable:
        """Return what jobs take, by what has been measured so far."""

        @cache
        def seconds(device: str, key: object, loaded: bool) -> float | None:
            expected = self._timings.expect(device, plans[key], loaded=loaded)
            return None if expected is None else sum(expected.values())

        plans: dict[object, Plan] = {}

        def look_up(device: str, plan: Plan, loaded: bool) -> float | None:
            key = work_key(plan)
            plans[key] = plan
            return seconds(device, key, loaded)

        return Timetable(look_up, self._precision)
