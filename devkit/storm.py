"""Pull every plug, over and over: kill -9 of engines at random steps and of fronts at any time.

`python -m benchmarks.soak` runs a long storm, `tests/faults` a short one. Each round submits jobs through a real
`wan-mcp stdio` process and then kills an engine over a running job, or a front in the middle of a call. Afterwards
every job that was acknowledged must have succeeded (each engine kill hits a job that no engine died over before, so
its repeat must succeed), equal requests must have given equal frames, and no temporary file may be left.
"""

import hashlib
import json
import os
import random
import signal
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio.abc import Process, TaskStatus
from mcp import Client, StdioServerParameters, stdio_client

from devkit.handshake import handshake
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.devices import DeviceNames
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job
from wan_mcp.service.service import JobService, JobView, serving
from wan_mcp.settings import Settings

__all__ = ["Storm", "StormReport"]

SHAPES = ("a red circle moving left", "a large blue star spinning", "a small green ring growing")
SEEDS = (1, 2)
JOB_PATIENCE_S = 300


@dataclass
class StormReport:
    """What a storm did and what came of it."""

    engine_kills: int = 0
    front_kills: int = 0
    jobs: list[Job] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class Storm:
    """Kills processes while jobs run."""

    def __init__(self, settings: Settings, kills: int, seed: int) -> None:
        self._settings = settings
        self._kills = kills
        self._random = random.Random(seed)
        self._ids: set[str] = set()
        self._report = StormReport()

    async def rage(self) -> StormReport:
        """Kill `kills` times, seven in ten of them engines, wait for all jobs, and look at what is left."""
        engines = round(0.7 * self._kills)
        strikes = [self._kill_an_engine] * engines + [self._kill_a_front] * (self._kills - engines)
        self._random.shuffle(strikes)
        async with serving(self._settings) as service:
            for strike in strikes:
                await strike(service)
            for job_id in self._ids:
                self._report.jobs.append((await service.wait(job_id, JOB_PATIENCE_S)).job)
        self._judge()
        return self._report

    def _arguments(self) -> dict[str, object]:
        prompt, seed = self._random.choice(SHAPES), self._random.choice(SEEDS)
        return {"prompt": prompt, "seed": seed, "num_frames": 5, "steps": 8, "resolution": "square"}

    def _parameters(self) -> StdioServerParameters:
        environment = self._settings.environment()
        return StdioServerParameters(command=sys.executable, args=["-m", "wan_mcp", "stdio"], env=environment)

    async def _submit(self, *, task_status: TaskStatus[str]) -> None:
        """Submit through a front that leaves at once, as LangChain's default does."""
        async with Client(stdio_client(self._parameters())) as client:
            result = await client.call_tool("generate_video", {**self._arguments(), "wait_s": 0})
            assert result.structured_content is not None, result
            job_id = str(result.structured_content["job_id"])
            self._ids.add(job_id)
            task_status.started(job_id)

    async def _kill_an_engine(self, service: JobService) -> None:
        """Kill an engine over a running job; a job that was done too soon is followed by another."""
        hit = False
        while not hit:
            # The front may take longer to leave than the job to run: it is not waited for.
            async with anyio.create_task_group() as fronts:
                job_id = await fronts.start(self._submit)
                hit = await self._kill_the_engine_of(job_id, service)
        self._report.engine_kills += 1

    async def _kill_the_engine_of(self, job_id: str, service: JobService) -> bool:
        """Kill it at a random step; False where the job had ended before."""
        at_step = self._random.randrange(0, 8)

        def is_there(job: Job) -> bool:
            running = job.state is JobState.RUNNING and job.crashes == 0
            return running and job.progress is not None and (job.progress.step or 0) >= at_step

        watched = anyio.Event()

        async def look(view: JobView) -> None:
            if is_there(view.job):
                watched.set()

        async def watch() -> None:
            await service.wait(job_id, JOB_PATIENCE_S, look)
            watched.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await watched.wait()
            tasks.cancel_scope.cancel()
        if not is_there((await service.view(job_id)).job):
            return False
        if not await anyio.to_thread.run_sync(self._kill_engine_process):
            return False
        job = (await service.view(job_id)).job
        # The job may have ended between the look and the kill: then no job lost its engine.
        return job.crashes > 0 or job.state is not JobState.SUCCEEDED

    def _kill_engine_process(self) -> bool:
        """Kill the engine and wait until it is gone; False if there was none."""
        database = Database(self._settings.database)
        try:
            [device, *_] = DeviceNames(database).of(self._settings.device)
            row = WorkerRegistry(database).get(device)
            process = row.process() if row else None
            if process is None:
                return False
            process.kill()
            process.wait(timeout=JOB_PATIENCE_S)
            return True
        finally:
            database.close()

    async def _kill_a_front(self, _service: JobService) -> None:
        """Kill a front in the middle of a call; its request id must lead to the one job all the same."""
        request_id = f"storm-{self._random.getrandbits(64):x}"
        arguments = {**self._arguments(), "wait_s": 30, "request_id": request_id}
        front = await self._call_by_hand(arguments)
        await anyio.sleep(self._random.uniform(0.0, 1.5))
        front.send_signal(signal.SIGKILL)
        await front.wait()
        await front.aclose()
        self._report.front_kills += 1
        async with Client(stdio_client(self._parameters())) as client:
            result = await client.call_tool("generate_video", {**arguments, "wait_s": 0})
            assert result.structured_content is not None, result
            self._ids.add(str(result.structured_content["job_id"]))

    async def _call_by_hand(self, arguments: dict[str, object]) -> Process:
        """A front with a call under way and nobody who will clean up after it."""
        messages = _handshake() + _call("generate_video", arguments)
        front = await anyio.open_process(
            [sys.executable, "-m", "wan_mcp", "stdio"],
            env=os.environ | self._settings.environment(),
            stderr=None,
        )
        assert front.stdin is not None
        await front.stdin.send(messages.encode())
        return front

    def _judge(self) -> None:
        frames = defaultdict(set)
        for job in self._report.jobs:
            if job.state is not JobState.SUCCEEDED:
                self._report.faults.append(f"job {job.id} ended {job.state}: {job.error}")
                continue
            for artifact in job.artifacts:
                path = Path(artifact.path)
                if not path.is_file() or path.stat().st_size != artifact.bytes:
                    self._report.faults.append(f"{path} is not what job {job.id} says")
                    continue
                key = (job.plan.model_dump_json(exclude={"notes"}), artifact.seed)
                frames[key].add(hashlib.sha256(path.read_bytes()).hexdigest())
        self._report.faults += [f"{len(f)} different results of {key}" for key, f in frames.items() if len(f) > 1]
        parts = [str(p) for p in (self._settings.home / "media").rglob(".*.part")]
        self._report.faults += [f"{part} is left over" for part in parts]


def _handshake() -> str:
    hello, ready = handshake("storm")
    return f"{json.dumps(hello)}\n{json.dumps(ready)}\n"


def _call(tool: str, arguments: dict[str, object]) -> str:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    return f"{json.dumps(call)}\n"
