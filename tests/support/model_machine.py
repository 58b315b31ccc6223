"""A machine in miniature: fronts and engines as objects, over the real job table, locks and supervisors.

Engines take the same steps as the real loop, one at a time. Time is a number. What the model knows of every job says
how it has to end.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tests.fixtures.job_table import video_plan, video_request
from tests.support.model_front import KnownJob, ModelFront
from wan_mcp.errors import LeaseLost
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.device_lock import engine_lock
from wan_mcp.jobs.devices import AUTO, DeviceNames
from wan_mcp.jobs.evidence import Death
from wan_mcp.jobs.fronts import Presence
from wan_mcp.jobs.orphans import death_in, living_devices, settle_orphans
from wan_mcp.jobs.processes import Processes, Started
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.supervisor import Supervisor
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.schema.enums import JobState, Stage
from wan_mcp.schema.jobs import Job, Progress
from wan_mcp.schema.plans import Plan
from wan_mcp.settings import Settings

STEP_S, DEADLINE_S, LOAD_S = 6.0, 10.0, 30.0
LOCK_PATIENCE_S = 3.0
START_S = 5.0  # an engine that is not held up is through with each part of its start after so long
TURN_S = 0.5
BROKEN = "No module named torch"
GPUS = ("cuda:0", "cuda:1")
"""What auto stands for."""


@dataclass(eq=False)
class ModelEngine:
    """An engine process."""

    machine: "Machine"
    pid: int
    device: str
    broken: tuple[str, ...]
    output: Path
    born: float
    database: Database
    phase: str = "starting"
    code: int | None = None
    stopped: bool = False
    hung: bool = False
    lock: FileLock | None = None
    job: Job | None = None
    silent_since: float = 0.0
    next_sign: float = 0.0

    def __post_init__(self) -> None:
        self.identity = f"boot/ns/{self.pid}/{self.born}"
        self.store = JobStore(self.database, self.machine.wall)
        self.rows = WorkerRegistry(self.database, self.machine, self.identity)

    def poll(self) -> int | None:
        """As `subprocess.Popen.poll`."""
        return self.code

    def end(self, code: int) -> None:
        """End the process: the kernel drops its lock, and nothing else happens."""
        self.code, self.phase = code, "dead"
        if self.lock is not None:
            self.lock.release()
            self.lock = None

    def sign(self, allowed: float) -> None:
        """Send a heartbeat."""
        now = self.machine.now()
        self.silent_since = now
        self.rows.heartbeat(self.device, now + allowed)
        self.next_sign = now + STEP_S

    def step(self) -> None:
        """Do the next thing that an engine does, if it can do anything."""
        if self.code is not None or self.stopped or self.hung:
            return
        getattr(self, f"_{self.phase}")()

    def _starting(self) -> None:
        if self.device == AUTO:  # torch says what there is, before anything else can go wrong
            DeviceNames(self.database).record_auto(*GPUS)
            self.device = GPUS[0]
        if self.device in self.broken:
            self.output.write_text(f"{self.device}: {BROKEN}\n", encoding="utf-8")
            self.end(1)
            return
        lock = engine_lock(self.machine.home, self.device)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            if self.machine.now() - self.born >= LOCK_PATIENCE_S:
                self.end(0)
            return
        self.lock = lock

        def death_of(engine: str | None) -> Death:
            return death_in(self.rows, engine, None, self.machine)

        def devices() -> list[str]:
            fronts = Presence(self.machine.home, "").others()
            return [self.device, *living_devices(self.machine.home, self.rows, self.machine, fronts)]

        settle_orphans(self.store, self.device, death_of, devices)
        self.rows.register(self.device, self.machine.now() + LOAD_S)
        self.phase = "building"

    def _building(self) -> None:
        self.sign(DEADLINE_S)
        self.phase = "ready"

    def _ready(self) -> None:
        self.sign(DEADLINE_S)
        self.job = self.store.claim(self.device, engine=self.rows.me())
        if self.job is not None:
            self.phase = "running"

    def _running(self) -> None:
        job = self.job
        assert job is not None
        known = self.machine.jobs[job.id]
        if self.device in known.poison:
            known.crashes.append(self.device)
            self.rows.crash(self.device)
            self.end(3)
            return
        try:
            if self.store.get(job.id).progress is None:
                self.sign(DEADLINE_S)
                self.store.report(job, Progress(stage=Stage.DENOISE, fraction=0.5))
                return
            self.store.finish(job, JobState.SUCCEEDED)
        except LeaseLost:
            self.machine.faults.append(f"{job.id} was given to another engine while {self.pid} ran it")
        self.job, self.phase = None, "ready"

    def leave(self) -> None:
        """Exit in good order, as when idle."""
        if self.phase == "ready" and not self.stopped and not self.hung:
            self.rows.unregister(self.device)
            self.end(0)


class Machine(Processes):
    """The process table and the clocks; what a supervisor asks."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.monotonic, self.wall_at = 1000.0, 1_800_000_000.0
        self.fronts: list[ModelFront] = []
        self.engines: list[ModelEngine] = []
        self.jobs: dict[str, KnownJob] = {}
        self.faults: list[str] = []
        self.failed: set[str] = set()
        self.pids = 100
        self._kept: list[Database] = []
        self.database = self._open()
        self.store = JobStore(self.database, self.wall)

    # What `Processes` answers.

    def now(self) -> float:
        """The clock that neither steps nor counts sleep."""
        return self.monotonic

    def wall(self) -> float:
        """The clock on the wall."""
        return self.wall_at

    def identity(self, pid: int | None = None) -> str | None:
        """Of an engine that lives."""
        return next((e.identity for e in self.engines if e.pid == pid and e.code is None), None)

    def is_here(self, identity: str) -> bool:
        """All are."""
        return True

    def lives(self, identity: str) -> bool:
        """By the process table."""
        return any(e.identity == identity and e.code is None for e in self.engines)

    def is_stopped(self, identity: str) -> bool:
        """By the process table."""
        return any(e.identity == identity and e.stopped for e in self.engines)

    def holder_of(self, lock: Path) -> int | None:
        """By the engines' locks."""
        return next((e.pid for e in self.engines if e.lock is not None and Path(e.lock.lock_file) == lock), None)

    def oom_kills(self) -> int:
        """No one is."""
        return 0

    def kill(self, identity: str) -> None:
        """Called by supervisors: only an engine that hangs may be ended, after a whole deadline."""
        engine = next(e for e in self.engines if e.identity == identity)
        if not engine.hung or engine.stopped:
            self.faults.append(f"engine {engine.pid} was ended although it works ({engine.phase})")
        elif self.monotonic - engine.silent_since < DEADLINE_S:
            self.faults.append(f"engine {engine.pid} was ended before its deadline")
        if engine.job is not None:
            self.jobs[engine.job.id].hangs += 1
        engine.end(-9)

    def start(self, command: Any, environment: Any, folder: Path, output: Path) -> Started:
        """An engine with the settings of its front."""
        output.touch()
        self.pids += 1
        device, broken = environment["WAN_MCP_DEVICE"], tuple(command[1:])
        engine = ModelEngine(self, self.pids, device, broken, output, self.monotonic, self._open())
        self.engines.append(engine)
        return engine

    # What happens to it.

    def add_front(self, device: str, *, broken: Iterable[str] = (), **changes: Any) -> ModelFront:
        """A front starts, with changed settings; engines of the `broken` ones of its devices cannot."""
        broken = tuple(broken)
        settings = Settings(
            home=self.home,
            device=device,
            engine_command=" ".join(("engine", *broken)),
            load_deadline_s=LOAD_S,
            step_deadline_s=DEADLINE_S,
            **changes,
        )
        database = self._open()
        supervisor = Supervisor(settings, JobStore(database, self.wall), self)
        supervisor.join()
        self.fronts.append(ModelFront(settings, broken, supervisor, database))
        return self.fronts[-1]

    def submit(self, front: ModelFront, poison: tuple[str, ...] = (), plan: Plan | None = None) -> Job:
        """A client of a front asks for a job."""
        job = self.store.submit(video_request(), plan or video_plan(), None, 10_000, front.supervisor.settings_key)
        self.jobs[job.id] = KnownJob(front, poison)
        return job

    def turn(self, front: ModelFront) -> None:
        """A front does its duty; what it fails, it must be allowed to fail."""
        if not front.stopped:
            front.supervisor.supervise()
            self.judge(front)

    def kill_engine(self, engine: ModelEngine) -> None:
        """Somebody kills an engine."""
        if engine.job is not None:
            self.jobs[engine.job.id].kills += 1
        engine.end(-9)

    def kill_front(self, front: ModelFront) -> None:
        """Somebody kills a front: the kernel drops its lock."""
        self.fronts.remove(front)
        front.supervisor._presence._closes()
        front.database.close()

    def let_pass(self, seconds: float) -> None:
        """Time in which everybody who can does what it does."""
        end = self.monotonic + seconds
        while self.monotonic < end:
            self.monotonic += TURN_S
            self.wall_at += TURN_S
            for engine in self.living:
                if engine.stopped:
                    engine.next_sign += TURN_S
                elif not engine.hung and engine.phase in ("ready", "running") and self.monotonic >= engine.next_sign:
                    engine.sign(DEADLINE_S)
                elif engine.phase in ("starting", "building") and self.monotonic >= engine.born + START_S:
                    engine.step()
            for front in list(self.fronts):
                self.turn(front)

    def stand_still(self, seconds: float) -> None:
        """Every process is stopped (a virtual machine that is paused); an engine extends its deadline afterwards."""
        self.monotonic += seconds
        self.wall_at += seconds
        for engine in self.living:
            engine.next_sign += seconds
            if engine.phase in ("ready", "running") and not engine.hung:
                engine.sign(DEADLINE_S)

    @property
    def living(self) -> list[ModelEngine]:
        """The engines that live."""
        return [engine for engine in self.engines if engine.code is None]

    def judge(self, front: ModelFront) -> None:
        """Every job that has failed since the last look must have deserved it."""
        for job in self.store.newest(JobState.FAILED, 10_000):
            if job.id in self.failed:
                continue
            self.failed.add(job.id)
            known, error = self.jobs[job.id], job.error
            assert error is not None
            if error.code == "engine_died":
                crashed = set(known.crashes)
                others = {device for f in self.fronts for device in f.able} - crashed
                fair = known.kills > 5 or known.hangs > 2 or len(crashed) > 1
                fair = fair or (len(known.crashes) > 1 and not others)
            else:
                able = [f for f in self.fronts if f.works]
                engines = [e for e in self.living if e.lock is not None]
                own = known.front.supervisor.settings_key == front.supervisor.settings_key
                fair = own and not front.works and not able and not engines
                fair = fair and any(f"{device}: {BROKEN}" in error.message for device in front.broken)
            if not fair:
                self.faults.append(f"job {job.id} was failed although it could run: {error} {known}")

    def work(self, rounds: int = 1) -> None:
        """Half a second for everybody, and a step of each engine; that so many times."""
        for _ in range(rounds):
            self.let_pass(TURN_S)
            for engine in list(self.living):
                engine.step()

    def settle(self) -> None:
        """Let everybody go on, and let the work come to its end."""
        for engine in self.living:
            engine.stopped = False
        for front in self.fronts:
            front.stopped = False
        for _ in range(400):
            self.work()
            if not self.store.unfinished():
                return
            if not any(front.works for front in self.fronts) and not self.living and self._cannot_end():
                return

    def _cannot_end(self) -> bool:
        """Whether what is left belongs to fronts that are gone."""
        here = {front.supervisor.settings_key for front in self.fronts}
        return all(self.jobs[job.id].front.supervisor.settings_key not in here for job in self.store.unfinished())

    def check_ends(self) -> None:
        """Every job must have ended as it deserves."""
        able = any(front.works for front in self.fronts)
        here = {front.supervisor.settings_key for front in self.fronts}
        for job_id, known in self.jobs.items():
            job = self.store.get(job_id)
            allowed = {JobState.SUCCEEDED} if len(known.poison) < 3 else set()  # another device may have run it
            if known.poison or known.kills > 5 or known.hangs > 2 or job_id in self.failed:
                allowed.add(JobState.FAILED)
            if not able:
                allowed.add(JobState.FAILED)
                if known.front.supervisor.settings_key not in here:
                    allowed.add(JobState.QUEUED)
                    allowed.add(JobState.RUNNING)
            if job.state not in allowed:
                self.faults.append(f"job {job_id} ended {job.state}: {job.error} {known}")

    def _open(self) -> Database:
        database = Database(self.home / "jobs.db")
        self._kept.append(database)
        return database

    def close(self) -> None:
        """Release everything."""
        for engine in self.living:
            engine.end(-9)
        for front in self.fronts:
            front.supervisor.leave()
        for database in self._kept:
            database.close()
