"""A job that an actor runs, and its row in the job table of this home, which follows the actor's."""

import asyncio
import logging
import re
from collections.abc import Callable
from pathlib import Path

from ray.exceptions import RayActorError, RayError

from wan_mcp.cluster.messages import FileHere
from wan_mcp.cluster.remote_actor import RemoteActor, Unheard
from wan_mcp.engine.worker.output_folder import OutputFolder
from wan_mcp.engine.worker.signatures import Signatures
from wan_mcp.errors import HomeUnusable, LeaseLost, OutOfSpace
from wan_mcp.files import atomic_file
from wan_mcp.jobs.reviews import replace_artifacts
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.waiting import computing
from wan_mcp.media.previews import PreviewStore
from wan_mcp.media.store import whole
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Artifact, Job, JobError
from wan_mcp.settings import Settings

__all__ = ["FollowedJob"]

log = logging.getLogger(__name__)

TOO_LARGE = "too_large_for_device"
FULL_DISK_PATIENCE_S = 60


class FollowedJob:
    """One attempt at a job."""

    def __init__(
        self,
        job: Job,
        actor: RemoteActor,
        store: JobStore,
        settings: Settings,
        may_go_elsewhere: Callable[[Job], bool],
        ended: Callable[[str], None],
    ) -> None:
        """Follow `job`, as it was claimed here. `ended` is called with its id when nothing is left to do.

        `may_go_elsewhere` says whether another device may take a job that is too large for this one.
        """
        self.job = job
        self.there = job.model_copy(update={"state": JobState.QUEUED})
        """The row in the actor's home, as it said last."""
        self._actor, self._store, self._home = actor, store, settings.home
        self._signatures = Signatures(settings, job)
        self._may_go_elsewhere, self._ended = may_go_elsewhere, ended
        self._latest: tuple[Job, dict[str, tuple[FileHere, ...]]] | None = None
        self._work: asyncio.Task[None] | None = None
        self._reported: object = None
        self._asked_to_stop = False
        self._preview_made = 0
        self._known = {each.uri for each in job.artifacts}
        self._notes = set(job.notes)

    @property
    def keeps_busy(self) -> bool:
        """Whether its engine can take no other job now: it is not at its end, nor are its weights being downloaded."""
        downloads = self.there.state is JobState.RUNNING and not computing([self.there])
        return not self.there.state.final and not downloads

    def note(self, there: Job, results: dict[str, tuple[FileHere, ...]]) -> None:
        """Follow what the actor says of the job."""
        self.there = there
        self._latest = there, results
        if self._work is None:
            self._work = asyncio.create_task(self._catch_up())

    async def note_preview(self, made: int) -> None:
        """Bring a preview that was made at `made`, unless that one is here.

        Raises:
            Unheard, RayActorError: the actor is gone.
        """
        if made == self._preview_made or self.there.state.final:
            return
        self._preview_made = made
        target = PreviewStore(self._home).path(self.job.id)
        place = target.relative_to(self._home).as_posix()
        try:
            piece = await self._actor.read(FileHere(place=place, bytes=0), 0)
            with atomic_file(target, private=True) as temporary:
                temporary.write_bytes(piece)
        except RayActorError:
            raise
        except (OSError, RayError) as error:  # its attempt has just ended, or a disk is full: no reason to end the job
            log.debug("no preview of job %s: %s", self.job.id, error)

    def stop(self) -> None:
        """Follow the job no longer: its actor is gone."""
        if self._work is not None:
            self._work.cancel()

    async def cancel(self) -> None:
        """Ask the actor to stop the job, once."""
        if not self._asked_to_stop:
            self._asked_to_stop = True
            await self._actor.call("cancel", self.job.id)

    async def _catch_up(self) -> None:
        try:
            while (latest := self._latest) is not None:
                self._latest = None
                await self._follow(*latest)
                if latest[0].state.final:
                    await self._forget()
                    return
        except LeaseLost:
            log.warning("job %s is no longer that of %s", self.job.id, self.job.device)
            await self._forget()
        except (Unheard, RayActorError):
            log.warning("job %s: its actor does not answer", self.job.id)
        except Exception:
            log.exception("what became of job %s cannot be followed", self.job.id)
            self._fail("internal", "The result could not be brought from the machine that made it; see the log.")
            await self._forget()
        finally:
            self._work = None

    async def _forget(self) -> None:
        PreviewStore(self._home).remove(self.job.id, self.job.attempt)  # after the row says so: until then, fronts look
        try:
            await self._actor.call("forget", [self.job.id])
        except (Unheard, RayActorError):  # a new actor forgets by itself
            log.warning("job %s has ended, and its actor does not answer", self.job.id)
        self._ended(self.job.id)

    async def _follow(self, there: Job, results: dict[str, tuple[FileHere, ...]]) -> None:
        """Write to the row what is new.

        Raises:
            LeaseLost: the row is not this attempt's any more.
            Unheard, RayActorError: the actor is gone.
        """
        plan = there.plan
        try:
            if there.progress is not None and there.progress != self._reported:
                self._reported = there.progress
                if self._store.report(self.job, there.progress):
                    await self.cancel()
            for note in there.notes:
                if note not in self._notes:
                    self._store.add_note(self.job, note)
                    self._notes.add(note)
            if plan.check is None and plan.pick is None:
                for artifact in there.artifacts:
                    if artifact.uri not in self._known:
                        self._store.add_artifact(self.job, await self._bring(artifact, results))
                        self._known.add(artifact.uri)
            elif there.state is JobState.SUCCEEDED:  # until then they may be replaced
                brought = [await self._bring(artifact, results) for artifact in there.artifacts]
                replace_artifacts(self._store.database, self.job, brought)
            if there.state.final:
                self._finish(there)
        except (OutOfSpace, HomeUnusable) as error:
            await self._fail_for_now("out_of_space" if isinstance(error, OutOfSpace) else "home_unusable", str(error))

    def _finish(self, there: Job) -> None:
        if there.error is not None and there.error.code == TOO_LARGE and self._may_go_elsewhere(self.job):
            self._store.release(self.job, too_large_for=self.job.device)
            return
        self._store.finish(self.job, there.state, error=there.error, caption=there.caption)

    async def _fail_for_now(self, code: str, message: str) -> None:
        """Fail the job, waiting while the disk is too full even for that."""
        for second in range(FULL_DISK_PATIENCE_S):
            try:
                self._store.finish(self.job, JobState.FAILED, error=JobError(code=code, message=message))
                break
            except (OutOfSpace, HomeUnusable) as error:
                if second == FULL_DISK_PATIENCE_S - 1:
                    raise
                log.error("the outcome of a job cannot be written yet: %s", error)
            await asyncio.sleep(1)
        raise LeaseLost(f"job {self.job.id} has ended here")

    def _fail(self, code: str, message: str) -> None:
        try:
            self._store.finish(self.job, JobState.FAILED, error=JobError(code=code, message=message))
        except (LeaseLost, OutOfSpace, HomeUnusable) as error:
            log.error("the outcome of job %s cannot be written: %s", self.job.id, error)

    async def _bring(self, artifact: Artifact, results: dict[str, tuple[FileHere, ...]]) -> Artifact:
        """Bring a result and what belongs to it, and return it with its paths here.

        Raises:
            OutOfSpace, HomeUnusable: it cannot be written.
        """
        name = re.compile(rf"media/(videos|images)/{re.escape(self.job.id)}-[0-9]{{1,3}}(\.[a-z0-9]+)+")
        file = None
        for each in results.get(artifact.uri, ()):
            if name.fullmatch(each.place) is None:
                raise ValueError(f"{each.place} is not a result of job {self.job.id}")
            with whole(self._home / each.place) as temporary:
                await self._copy(each, temporary)
            if artifact.path.endswith(each.place):
                file = self._home / each.place
        if file is None:
            raise ValueError(f"the file of {artifact.uri} was not announced")
        here = artifact.model_copy(update={"path": str(file), "saved_as": None})
        here, unsigned = await asyncio.to_thread(self._signatures.sign, here)
        saved, unsaved = await asyncio.to_thread(OutputFolder(self._store.database, self.job).save, here)
        for note in filter(None, (unsigned, unsaved)):
            self._store.add_note(self.job, note)
        return saved

    async def _copy(self, file: FileHere, target: Path) -> None:
        size = 0
        with target.open("wb") as written:
            while size < file.bytes:
                piece = await self._actor.read(file, size)
                if not piece:
                    raise ValueError(f"{file.place} ended after {size} of {file.bytes} bytes")
                written.write(piece)
                size += len(piece)
