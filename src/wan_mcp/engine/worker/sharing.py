"""Jobs that several engines run together: whom an engine asks for help, and how it helps another.

The engine that claimed a job is its first rank and alone touches the job's row and files. Engines that are idle and
have the model in memory lend their GPU for this one job, then go back to the queue.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from wan_mcp.catalog.presets import precision_asked
from wan_mcp.engine.worker.load_ahead import LoadAhead
from wan_mcp.engine.worker.reporter import EngineShutdown, Reporter
from wan_mcp.errors import JobFailed, RankLost
from wan_mcp.jobs.gpus_per_job import GpusPerJob
from wan_mcp.jobs.meetings import Meeting, find_invitation, invite, sweep_meetings
from wan_mcp.jobs.orphans import engines_on
from wan_mcp.jobs.processes import Processes
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job
from wan_mcp.settings import Settings
from wan_mcp.text import first_line

if TYPE_CHECKING:
    from wan_mcp.engine.worker.loop import Runner

__all__ = ["Sharing", "SharingRunner"]

log = logging.getLogger(__name__)

ALIVE_S = 5.0
"""Seconds between two heartbeats of an engine that helps."""


@runtime_checkable
class SharingRunner(Protocol):
    """A runner whose jobs several engines can run together."""

    def most_ranks(self, job: Job, most: int) -> int:
        """Return how many ranks, up to `most`, can share a job on the model in memory; 1 if it is not in memory."""

    def run_shared(self, job: Job, report: Reporter, folder: Path, ranks: int) -> str | None:
        """Run a job as the first of several ranks that meet in `folder`; see `Runner.run`.

        Raises:
            RankLost: another rank died, hangs or gave up.
        """

    def device_lost(self) -> bool:
        """Check whether the device is unusable in this process."""

    def help(self, job: Job, folder: Path, rank: int, ranks: int, check: Callable[[], None]) -> None:
        """Do the part of one rank that is not the first; `check` raises if it should stop.

        Raises:
            JobFailed: this rank cannot do its part.
            RankLost: another rank died, hangs or gave up.
        """


class Sharing:
    """The sharing of jobs, as one engine does it."""

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        rows: WorkerRegistry,
        leaving: Callable[[], bool],
        claimable: Callable[[], bool],
    ) -> None:
        """Share jobs with the engine of `settings.device`; `claimable` says whether a job waits that it may take."""
        self._settings, self._store, self._rows, self._leaving = settings, store, rows, leaving
        self._policy = GpusPerJob(settings, store, rows)
        self._ahead = LoadAhead(settings, store, rows, leaving, claimable)
        self._processes = Processes()

    @contextmanager
    def meeting(self, job: Job, runner: object) -> Iterator[Meeting | None]:
        """Provide the meeting of the engines that run this job together; None if this engine runs it alone.

        Only first attempts are shared: a job that was lost with others runs on one GPU.
        """
        self._ahead.forget_others()
        met = self._meet(job, runner) if isinstance(runner, SharingRunner) and job.attempt == 1 else None
        try:
            yield met
        finally:
            if met is not None:
                met.close()

    def _meet(self, job: Job, runner: SharingRunner) -> Meeting | None:
        """Return the meeting for a job. Whatever goes wrong, the job runs without the others."""
        try:
            return self._invite(job, runner)
        except Exception as failure:
            log.warning("job %s is not shared: %s", job.id, first_line(failure))
            return None

    def _invite(self, job: Job, runner: SharingRunner) -> Meeting | None:
        device, most = self._settings.device, self._policy.most(job, len(self._engines()))
        idle = self._idle(job)[: most - 1] if most > 1 else []
        if not idle or runner.most_ranks(job, 1 + len(idle)) < 2:
            return None
        meeting = invite(self._settings.home, job, idle)
        try:
            meeting = meeting.begin(device, idle)
            ranks = runner.most_ranks(job, len(meeting.devices))
            if ranks < 2:
                meeting.close()
                return None
            meeting = meeting.start(ranks)
        except BaseException:
            meeting.close()
            raise
        log.info("job %s: shared by %s", job.id, ", ".join(meeting.devices))
        return meeting

    def _engines(self) -> list[str]:
        return engines_on(self._settings.home, self._rows, self._processes)

    def _idle(self, job: Job) -> list[str]:
        """Return the devices like this engine's whose engines run no job and have its model in memory."""
        busy = {other.device for other in self._store.unfinished() if other.state is JobState.RUNNING}
        wanted = (job.plan.model, precision_asked(self._settings.precision, job.plan))
        found = []
        for device in self._engines():
            row = self._rows.get(device)
            if device in (*busy, self._settings.device) or row is None or not row.ready:
                continue
            if row.loaded.generator == wanted and self._policy.may_join(job, device):
                found.append(device)
        return found

    def run(self, job: Job, report: Reporter, runner: "Runner", meeting: Meeting | None) -> str | None:
        """Run a job, alone or as the first rank of a meeting; see `Runner.run`.

        Raises:
            RankLost: the attempt with others failed; on one GPU the job may work.
        """
        if meeting is None or not isinstance(runner, SharingRunner):
            return runner.run(job, report)
        try:
            return runner.run_shared(job, report, meeting.folder, len(meeting.devices))
        except (JobFailed, RankLost) as failure:
            if isinstance(failure, JobFailed) and failure.code != "out_of_memory":
                raise
            log.warning("job %s goes back to the queue, for one device: %s", job.id, failure)
            raise RankLost(str(failure)) from failure

    def sweep(self) -> None:
        """Remove the meetings of jobs that are not running; call it when the engine starts."""
        sweep_meetings(self._settings.home, self._running)

    def _running(self) -> set[str]:
        return {job.id for job in self._store.unfinished() if job.state is JobState.RUNNING}

    def use_idle_time(self, runner: object) -> bool:
        """Help with a job, or get ready for the next one of its model; return whether there was something to do."""
        return self.help(runner) or self._ahead.look(runner)

    def help(self, runner: object) -> bool:
        """Help with a job if this engine is invited to one; return whether it was."""
        if not isinstance(runner, SharingRunner):
            return False
        invitation = find_invitation(self._settings.home, self._settings.device)
        place = invitation.accept() if invitation is not None else None
        if invitation is None or place is None:
            return False
        alive_at = 0.0

        def check() -> None:
            nonlocal alive_at
            if self._leaving():
                raise EngineShutdown
            if time.monotonic() >= alive_at:
                self._rows.heartbeat(self._settings.device, time.monotonic() + self._settings.load_deadline_s)
                alive_at = time.monotonic() + ALIVE_S

        rank, ranks = place
        began = time.monotonic()
        try:
            check()
            job = self._store.get(invitation.job)
            log.info("job %s: helping as rank %d of %d", job.id, rank, ranks)
            runner.help(job, invitation.folder, rank, ranks, check)
            log.info("job %s: helped for %.2f s", job.id, time.monotonic() - began)
        except EngineShutdown:
            log.info("job %s: this engine stops helping, it shuts down", invitation.job)
        except Exception as failure:  # the job is the first rank's: it says what became of it
            if runner.device_lost():
                raise  # before the next job is claimed, and lost with this process
            log.warning("job %s: helping ended: %s", invitation.job, first_line(failure))
        return True
