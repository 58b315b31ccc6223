"""Which engine a waiting job goes to, where several could take it: to the one where it ends first.

An engine that is free goes through the queue in its order. It leaves a job to an engine that holds the job's model, if
the job ends sooner there by the measured times, although that engine is still at work. Otherwise it takes the job. An
engine does so when it claims, a front when it asks how many engines the queue can use, and estimates play it forward.
See docs/decisions/0051-a-job-goes-where-its-model-is.md.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.waiting import Waiting
from wan_mcp.schema.enums import RequestedPrecision
from wan_mcp.schema.plans import Plan

__all__ = ["PASSES_ALLOWED", "Choice", "EngineInView", "Served", "Timetable", "choose", "schedule"]

PASSES_ALLOWED = 3
"""How often engines may take a later job instead of one that is to end sooner elsewhere."""


@dataclass(frozen=True)
class EngineInView:
    """An engine as others see it, or one that could be started."""

    device: str
    free_in_s: float | None
    """Seconds until it can begin another job; None if unknown."""
    loaded: LoadedModels
    """The models in its memory by then."""
    late: bool = False
    """Whether its job should have ended: then nothing is left to it."""


@dataclass(frozen=True)
class Timetable:
    """What jobs take."""

    seconds: Callable[[str, Plan, bool], float | None]
    """The expected seconds of a job on a device, with its model loaded or not; None if that was not measured."""
    precision: RequestedPrecision
    """Of the settings: a model that is loaded in another one has to be loaded again."""

    def run(self, engine: EngineInView, plan: Plan) -> float | None:
        """Return the seconds of a job on an engine, with loading if that is needed."""
        return self.seconds(engine.device, plan, engine.loaded.has(plan, self.precision))

    def loading(self, engine: EngineInView, plan: Plan) -> float:
        """Return the seconds that an engine needs to load a job's model; 0 if unknown."""
        cold, warm = (self.seconds(engine.device, plan, loaded) for loaded in (False, True))
        return 0.0 if cold is None or warm is None else cold - warm


@dataclass(frozen=True)
class Choice:
    """What an engine does that is free."""

    taken: Waiting | None
    """The job that it takes; None if it takes none for now."""
    ends_in_s: float | None
    """Seconds until that job has ended; None if unknown."""
    left: tuple[Waiting, ...]
    """The jobs before it in the queue that this engine could take and leaves to others."""


@dataclass
class _Others:
    """The other engines, and what was left to them in one look at the queue."""

    engines: Sequence[EngineInView]
    table: Timetable
    left: list[Waiting] = field(default_factory=list)
    ends: dict[tuple[str, str], float] = field(default_factory=dict)
    """When the last job of each client that was left to them ends."""

    def __post_init__(self) -> None:
        sure = (each for each in self.engines if not each.late)
        self.free_in_s = {each.device: each.free_in_s for each in sure if each.free_in_s is not None}

    def end_sooner(self, waiting: Waiting, end: float) -> bool:
        """Leave a job to the engine that holds its model and ends it first, if that is sooner than `end`."""
        plan, best = waiting.job.plan, None
        for engine in self.engines:
            if engine.device in self.free_in_s and engine.device in waiting.devices:
                seconds = self.table.run(engine, plan)
                if seconds is not None and engine.loaded.has(plan, self.table.precision):
                    best = min(best or (end, ""), (self.free_in_s[engine.device] + seconds, engine.device))
        if best is None or best[0] >= end:
            return False
        self.free_in_s[best[1]] = best[0]
        self.ends[waiting.client] = max(best[0], self.ends.get(waiting.client, 0.0))
        return True


def choose(
    me: EngineInView,
    engines: Sequence[EngineInView],
    line: Sequence[Waiting],
    table: Timetable,
    held_s: Callable[[Waiting], float] = lambda waiting: 0.0,
) -> Choice:
    """Return which job an engine takes that is free in `me.free_in_s`; `engines` are the other ones.

    It leaves a job only to an engine that holds the job's model and ends it sooner; not if the job has been passed by
    `PASSES_ALLOWED` times; and not if it has been held back here (`held_s` seconds) for as long as its model takes to
    load. The jobs of one client end in their order, as far as is expected: an engine takes a later one only if it ends
    after those that were left to others.
    """
    others = _Others(engines, table)

    def may_leave(waiting: Waiting) -> bool:
        plan = waiting.job.plan
        return not me.loaded.has(plan, table.precision) and held_s(waiting) < table.loading(me, plan)

    for waiting in line:
        if me.device not in waiting.devices:
            continue
        seconds = table.run(me, waiting.job.plan)
        end = None if seconds is None else (me.free_in_s or 0.0) + seconds
        if waiting.passed >= PASSES_ALLOWED:
            return Choice(waiting, end, tuple(others.left))
        before = others.ends.get(waiting.client)
        if before is not None and (end is None or end < before):
            others.ends[waiting.client] = math.inf  # nobody knows when it will end
            others.left.append(waiting)
        elif end is not None and may_leave(waiting) and others.end_sooner(waiting, end):
            others.left.append(waiting)
        else:
            return Choice(waiting, end, tuple(others.left))
    return Choice(None, None, tuple(others.left))


@dataclass(frozen=True)
class Served:
    """When a waiting job is expected to run; seconds from now."""

    waiting: Waiting
    begins_in_s: float
    ends_in_s: float | None


def schedule(engines: Sequence[EngineInView], line: Sequence[Waiting], table: Timetable) -> Iterator[Served]:
    """Yield the waiting jobs in the order in which engines are expected to take them.

    It ends early when no engine is left whose time is known.
    """
    at_work = {each.device: each for each in engines if each.free_in_s is not None}
    waiting = list(line)
    while waiting and at_work:
        me = min(at_work.values(), key=_free)
        others = [each for each in at_work.values() if each is not me]
        choice = choose(me, others, waiting, table)
        taken = choice.taken
        if taken is None:  # it looks again when another engine is free
            later = [_free(each) for each in others if _free(each) > _free(me)]
            if later:
                at_work[me.device] = replace(me, free_in_s=min(later))
            else:
                del at_work[me.device]
            continue
        yield Served(taken, _free(me), choice.ends_in_s)
        passed = {each.job.id for each in choice.left}
        waiting = [each.passed_by() if each.job.id in passed else each for each in waiting if each is not taken]
        if choice.ends_in_s is None:
            del at_work[me.device]
        else:
            loaded = me.loaded.after(taken.job.plan, table.precision)
            at_work[me.device] = EngineInView(me.device, choice.ends_in_s, loaded)


def _free(engine: EngineInView) -> float:
    return engine.free_in_s or 0.0
