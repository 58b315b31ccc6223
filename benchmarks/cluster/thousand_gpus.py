"""A thousand GPUs and a hundred thousand jobs, simulated with the rule by which engines choose (`jobs/affinity.py`).

    python -m benchmarks.cluster.thousand_gpus [--gpus 1000 --jobs 100000]

Times are those measured on H200 (docs/scale.md) and a minute for loading a model. Two runs: all jobs at once, whose end
is compared with a lower bound; and jobs that come at random at nine tenths of what the GPUs can do, for the waits of
short ones. No job is run. Of the engines that hold a job's model, each choice looks at those that are free first.
"""

import argparse
import heapq
import random
import time
from bisect import insort
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.records import keep
from wan_mcp.jobs.affinity import EngineInView, Timetable, choose
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.waiting import LOOKED_AT, Waiting
from wan_mcp.schema.enums import JobState, Task
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.plans import Plan, VideoPlan

LOAD_S = 60.0
LOAD = 0.9
CLIENTS = 200
OTHERS = 32
LOOK_S = 1.0
"""How often an engine that holds jobs back looks again."""
KINDS = (("a14b", 1, 1.15, 0.40), ("a14b", 81, 9.2, 0.30), ("a14b", 82, 33.3, 0.15), ("ti2v", 81, 38.5, 0.15))
"""Model, frames (as a name for the size), seconds, share of all jobs; the first is the short one."""
SEED = 20261128


def plan_of(model: str, frames: int) -> VideoPlan:
    """Return a plan; only its model and its frames count here."""
    return VideoPlan(
        task=Task.TEXT_TO_VIDEO, model=model, prompt="", prompt_asked="", negative_prompt="", style=None, width=832,
        height=480, steps=4, guidance_scale=1.0, seed=0, count=1, num_frames=frames, fps=16, duration_s=5.0,
    )  # fmt: skip


PLANS = [plan_of(model, frames) for model, frames, _, _ in KINDS]
SECONDS = {(model, frames): seconds for model, frames, seconds, _ in KINDS}


def seconds(device: str, plan: Plan, loaded: bool) -> float:
    """Return what a job takes."""
    return SECONDS[plan.model, plan.frames] + (0.0 if loaded else LOAD_S)


TABLE = Timetable(seconds, "auto")


@dataclass
class Queue:
    """The queue in the order of turns."""

    line: list[tuple[int, int, float, Waiting]] = field(default_factory=list)
    turns: dict[str, int] = field(default_factory=dict)
    served: int = 0

    def add(self, number: int, at: float, waiting: Waiting) -> None:
        """Add a job that comes at that time."""
        client = waiting.job.client
        turn = max(self.turns.get(client, -1) + 1, self.served)
        self.turns[client] = turn
        insort(self.line, (turn, number, at, waiting), key=lambda each: each[:2])

    def pop(self, taken: Waiting, passed: set[str]) -> float:
        """Remove the job that is taken, note whom it passed by, and return when it came."""
        for place, (turn, number, at, waiting) in enumerate(self.line):
            if waiting is taken:
                del self.line[place]
                self.served = max(self.served, turn)
                return at
            if waiting.job.id in passed:
                self.line[place] = turn, number, at, waiting.passed_by()
        raise LookupError(taken.job.id)


def simulate(gpus: int, arrivals: list[tuple[float, Waiting]]) -> tuple[float, list[float], int]:
    """Return when the last job ends, the waits of short jobs, and how many models were loaded."""
    free = [(0.0, gpu) for gpu in range(gpus)]
    loaded = [LoadedModels()] * gpus
    held: list[dict[str, float]] = [{} for _ in range(gpus)]
    queue, waits, end, loads, coming = Queue(), [], 0.0, 0, 0
    while coming < len(arrivals) or queue.line:
        now, gpu = heapq.heappop(free)
        while coming < len(arrivals) and (arrivals[coming][0] <= now or not queue.line):
            at, waiting = arrivals[coming]
            now = max(now, at) if not queue.line else now
            queue.add(coming, at, waiting)
            coming += 1
        line = [each[3] for each in queue.line[:LOOKED_AT]]
        me = EngineInView(str(gpu), 0.0, loaded[gpu])
        others = [] if loaded[gpu].has(line[0].job.plan, "auto") else at_work(free, loaded, now)
        choice = choose(me, others, line, TABLE, partial(held_for, held[gpu], now))
        if choice.taken is None:
            held[gpu] = {each.job.id: held[gpu].get(each.job.id, now) for each in choice.left}
            heapq.heappush(free, (now + LOOK_S, gpu))
            continue
        held[gpu] = {}
        plan = choice.taken.job.plan
        came = queue.pop(choice.taken, {each.job.id for each in choice.left})
        has = loaded[gpu].has(plan, "auto")
        loads += not has
        loaded[gpu] = loaded[gpu].after(plan, "auto")
        done = now + seconds("", plan, has)
        end = max(end, done)
        if plan.frames == KINDS[0][1]:
            waits.append(now - came)
        heapq.heappush(free, (done, gpu))
    return end, waits, loads


def held_for(since: dict[str, float], now: float, waiting: Waiting) -> float:
    """Return for how long an engine that is free has held a job back."""
    return now - since.get(waiting.job.id, now)


def at_work(free: list[tuple[float, int]], loaded: list[LoadedModels], now: float) -> list[EngineInView]:
    """Return the engines that are free first, of each model."""
    found: dict[Any, list[EngineInView]] = {}
    for at, gpu in heapq.nsmallest(8 * OTHERS, free):
        of_model = found.setdefault(loaded[gpu].generator, [])
        if len(of_model) < OTHERS:
            of_model.append(EngineInView(str(gpu), max(0.0, at - now), loaded[gpu]))
    return [each for of_model in found.values() for each in of_model]


class _Everywhere(frozenset[str]):
    """All devices."""

    def __contains__(self, device: object) -> bool:
        return True


def jobs_of(count: int, chance: random.Random) -> list[Waiting]:
    """Return jobs of all kinds, of many clients."""
    kinds = chance.choices(range(len(KINDS)), [share for *_, share in KINDS], k=count)
    made = (
        Job(id=f"{number}", request_id=None, state=JobState.QUEUED, plan=PLANS[kind], created_at=0.0,
            client=f"{chance.randrange(CLIENTS)}")
        for number, kind in enumerate(kinds)
    )  # fmt: skip
    return [Waiting(job, _Everywhere()) for job in made]


def percentile(values: list[float], share: float) -> float:
    """Return the value below which that share of them lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    """Simulate both runs, and keep what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=100_000)
    asked = parser.parse_args()
    began, chance = time.monotonic(), random.Random(SEED)
    jobs = jobs_of(asked.jobs, chance)
    work = sum(seconds("", each.job.plan, True) for each in jobs)
    # Each GPU loads a model at least once; and some work is left when the others have nothing more to do.
    bound = work / asked.gpus + LOAD_S
    end, _, loads = simulate(asked.gpus, [(0.0, each) for each in jobs])
    rows: list[dict[str, Any]] = [
        {"run": "all at once", "gpus": asked.gpus, "jobs": asked.jobs, "makespan_s": end, "lower_bound_s": bound,
         "over_the_bound": end / bound - 1, "loads": loads}
    ]  # fmt: skip
    at, arrivals = 0.0, []
    rate = LOAD * asked.gpus / (work / asked.jobs)
    for each in jobs:
        at += chance.expovariate(rate)
        arrivals.append((at, each))
    end, waits, loads = simulate(asked.gpus, arrivals)
    rows.append(
        {"run": "at random", "load": LOAD, "gpus": asked.gpus, "jobs": asked.jobs, "loads": loads,
         "short_waits_s": {share: percentile(waits, float(share)) for share in ("0.5", "0.99")},
         "ends_after_the_last_arrival_s": end - at}
    )  # fmt: skip
    rows[0]["simulated_in_s"] = time.monotonic() - began
    print(keep("cluster_thousand_gpus", rows).read_text(encoding="utf-8"))  # noqa: T201


if __name__ == "__main__":
    main()
