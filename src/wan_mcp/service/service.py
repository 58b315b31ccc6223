"""The job service: submit, wait, cancel, list. MCP, HTTP and the command line all use it.

Blocking work runs in threads; nothing here imports torch.
"""

import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Mapping
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import Unpack

import anyio
from anyio.to_thread import run_sync

from wan_mcp.catalog.catalog import Catalog
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.errors import QueueFull, UserError, WanError
from wan_mcp.hardware.host_memory import return_large_blocks
from wan_mcp.jobs.history import JobChanges, Wanted
from wan_mcp.jobs.notices import key_of
from wan_mcp.jobs.processes import Processes
from wan_mcp.jobs.rows import JobListing, unknown_job
from wan_mcp.jobs.supervisor import Supervisor
from wan_mcp.jobs.turns import Asker, move_before
from wan_mcp.media.content_credentials import ContentCredentials
from wan_mcp.schema.changes import Changes
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.plans import InputImage
from wan_mcp.schema.requests import Request
from wan_mcp.service.admission import NO_IMAGES, Admission
from wan_mcp.service.background import Health, background, retried
from wan_mcp.service.conversions import Conversions
from wan_mcp.service.elsewhere import require_nameable
from wan_mcp.service.estimate import Estimate, estimated
from wan_mcp.service.live_table import LiveTable, Table
from wan_mcp.service.model_status import Measured, ModelStatus, model_statuses, what_statuses_depend_on
from wan_mcp.service.on_done import OnDone
from wan_mcp.service.owners import HOME_USER, listed_owner, own_job, owner_now, owns
from wan_mcp.service.queue import JobView
from wan_mcp.service.remix import Remix, of_job
from wan_mcp.service.uploads import SentPictures
from wan_mcp.settings import Settings
from wan_mcp.text import duration, one_line, shortened

__all__ = ["JobService", "JobView", "serving"]

log = logging.getLogger(__name__)

CLIENT_SHOWN = 60  # characters of a client's name
TICK_S = 1.0  # how often a waiter is notified without a commit, because the time left changes


class JobService(LiveTable):
    """The jobs of one home folder. Make one with `serving`."""

    def __init__(
        self, settings: Settings, *, any_image_folder: bool = False, processes: Processes | None = None
    ) -> None:
        super().__init__(settings, processes)
        self._catalog = Catalog.of(settings.home)
        self.admission = Admission(
            settings, self._catalog, self.media, self.require_own_result, any_image_folder=any_image_folder
        )
        self.conversions = Conversions(self.media, self.require_own_result, ContentCredentials.of(settings))
        self.uris, self.large_work = self.admission.uris, self.admission.large_work
        self.pictures = SentPictures(self.admission, self._uploads)

    @property
    def catalog(self) -> Catalog:
        """The models, reread if the user's folder has changed."""
        self._catalog.refresh()
        return self._catalog

    async def submit(
        self,
        request: Request,
        request_id: str | None = None,
        *,
        client: str = "",
        parent: str = "",
        images: Mapping[str, InputImage] = NO_IMAGES,
        elsewhere: bool = False,
        download: bool = False,
    ) -> JobView:
        """Queue a job and make sure that an engine runs; a repeated `request_id` returns its job.

        Args:
            request: What is asked for.
            request_id: Repeated calls with the same id return the same job.
            client: The program that asks, as it calls itself.
            parent: The id of the job that this one is made from.
            images: Those that are here already, by what the request says for each.
            elsewhere: Whether the caller is on another machine: see `service/elsewhere.py`.
            download: Whether its model may be downloaded, however large it is.

        Raises:
            UserError: the request is refused; the message says what is wrong and what to do.
        """
        owner = owner_now()
        if elsewhere or owner != HOME_USER:
            require_nameable(request, images, urls=self.admission.urls.allowed)
        table = await self._table()
        if request_id is not None and (job := await run_sync(table.store.attached, request, request_id, owner)):
            return await self.view(job.id)
        await run_sync(self.admission.check_home)
        sent = await self.pictures.named_in(request, owner)
        plan = await self.admission.settle(request, await run_sync(table.engines.machine), {**images, **sent})
        download_limit = await run_sync(self.admission.download_limit, plan, download)

        def queue() -> Job:
            limit, key = self.settings.queue_limit, table.engines.settings_key
            who = shortened(one_line(client), CLIENT_SHOWN).strip()
            return table.store.submit(
                request,
                plan,
                request_id,
                limit,
                key,
                asker=Asker(who, owner, str(self.settings.output_dir or ""), key_of(self.settings.on_done)),
                parent=parent,
                download_limit=download_limit,
            )

        try:
            job = await run_sync(queue)
        except QueueFull as full:
            raise QueueFull(f"{full}; {await self._when_to_come_back(table)}") from full
        finally:
            self._wanted.set()  # also when the caller has disconnected: the row may exist
        try:
            await run_sync(table.engines.supervise)
        except Exception:  # the job is there all the same, and `_keep` tries again
            log.exception("cannot supervise the engine")
        return await self.view(job.id)

    async def estimate(
        self,
        request: Request,
        images: Mapping[str, InputImage] = NO_IMAGES,
        *,
        client: str = "",
        elsewhere: bool = False,
    ) -> Estimate:
        """Return what a job of `client` would be and take. Nothing is queued, and nothing is written.

        `images` and `elsewhere` are as in `submit`.

        Raises:
            UserError: the request is refused for another reason than the memory of this machine or a download.
        """
        if elsewhere or owner_now() != HOME_USER:
            require_nameable(request, images, urls=self.admission.urls.allowed)
        table = await self._table() if self._has_table() else None
        sent = await self.pictures.named_in(request, owner_now())
        plan = await self.admission.look(request, {**images, **sent})

        def estimate() -> Estimate:
            fit = self.admission.planner.fit(plan, table.engines.machine() if table else None)
            queue = table.queue if table else None
            return estimated(plan, self._catalog.get(plan.model), fit, queue, self.settings, Asker(client, owner_now()))

        return await run_sync(estimate)

    async def engines(self) -> Supervisor:
        """Return what knows the engines of this home."""
        return (await self._table()).engines

    async def remix(self, job_id: str, changes: Changes, *, elsewhere: bool = False) -> Remix:
        """Return the request of a job with changes, to be submitted; `elsewhere` as in `submit`.

        Raises:
            UnknownJob: there is none of that id.
            BadRequest: a change is not allowed, or there is none; or an image of the job is not for clients elsewhere.
        """
        table = await self._table()

        def make() -> Remix:
            job, asked = own_job(table.store, job_id), table.history.asked(job_id)
            return of_job(
                job,
                asked,
                changes,
                self.catalog,
                self.settings.home,
                elsewhere=elsewhere or owner_now() != HOME_USER,
                urls=self.admission.urls.allowed,
            )

        return await run_sync(make)

    async def _when_to_come_back(self, table: Table) -> str:
        running = [job for job in await run_sync(table.store.unfinished) if job.state is JobState.RUNNING]
        eta = (await run_sync(table.queue.view, running[0].id)).eta_s if running else None  # whose job it is
        if eta is None:
            return "try again when a job has finished"
        return f"try again in about {duration(max(1.0, eta), precise=False)}"

    async def view(self, job_id: str) -> JobView:
        """Return the current view of one job.

        Raises:
            UnknownJob: there is none of that id.
        """
        table = await self._table()

        def look() -> JobView:
            found = table.queue.view(job_id)
            if not owns(found.job.owner):
                raise unknown_job(job_id)
            return found

        return await run_sync(look)

    async def wait(
        self, job_id: str, seconds: float, on_look: Callable[[JobView], Awaitable[None]] | None = None
    ) -> JobView:
        """Wait until a job is done, at most `seconds`; call `on_look` at every change and every second.

        Raises:
            UnknownJob: there is none of that id.
        """
        waiter = object()
        self._due[waiter] = 0.0
        self._wanted.set()
        try:
            with anyio.move_on_after(seconds):
                while True:
                    changed = self._changed  # taken before the look, so that no change between is missed
                    view = await self.view(job_id)
                    if view.job.state.final:
                        return view
                    self._due[waiter] = 0.0 if view.eta_s is None else time.monotonic() + view.eta_s
                    if on_look is not None:
                        await on_look(view)
                    with anyio.move_on_after(TICK_S):
                        await changed.wait()
        finally:
            del self._due[waiter]
        return await self.view(job_id)

    async def cancel(self, job_id: str) -> JobView:
        """Ask a job to stop. A queued one is cancelled at once, a running one within a step.

        Raises:
            UnknownJob: there is none of that id.
        """
        await run_sync((await self._own_table(job_id)).store.cancel, job_id)
        self._wanted.set()
        return await self.view(job_id)

    async def move(self, job_id: str, before: str | None) -> JobView:
        """Move a waiting job before another of its owner's waiting jobs; behind all of them with None.

        Raises:
            UnknownJob: there is no job of one of these ids.
            BadRequest: one of them does not wait any more, or is another owner's.
        """
        await self._own_table(before or job_id)
        table = await self._own_table(job_id)
        await run_sync(move_before, table.store.database, job_id, before, owner_now())
        return await self.view(job_id)

    async def health(self) -> tuple[str | None, dict[str, str]]:
        """Return why this front cannot read the table or supervise engines, None while it can; and engines' states."""
        try:
            await self.newest(limit=1)
            return self.trouble, await run_sync((await self.engines()).states)
        except UserError as error:
            return str(error), {}
        except Exception as error:  # such as no thread to spare
            log.exception("the health check failed")
            return f"{type(error).__name__}: {error}", {}

    async def newest(self, state: JobState | None = None, limit: int = 20) -> list[Job]:
        """Return jobs of one state or all, newest first."""
        return (await self.listed(state, limit)).jobs

    async def listed(self, state: JobState | None = None, limit: int = 20) -> JobListing:
        """Return the newest jobs of one state or all, and the unreadable rows among them."""
        return await run_sync((await self._table()).store.listed, state, limit, listed_owner())

    async def find(self, query: str | None = None, **wanted: Unpack[Wanted]) -> JobListing:
        """Return matching jobs of the caller: see `JobHistory.find`.

        Raises:
            UnknownJob: there is no job `before`.
        """
        table = await self._table()
        if owner_now() != HOME_USER:
            wanted["owner"] = owner_now()
        return await run_sync(lambda: table.history.find(query, **wanted))

    async def cursor(self) -> int:
        """Return the cursor of now, for `changed_since`."""
        return await run_sync((await self._table()).history.cursor)

    async def changed_since(self, cursor: int, seconds: float = 0.0, limit: int = 200) -> JobChanges:
        """Return which jobs were added, changed or deleted since `cursor`; wait for the first, at most `seconds`."""
        waiter = object()
        self._due[waiter] = float("inf")  # often, but not as often as for a job that is about to end
        self._wanted.set()
        try:
            until = anyio.current_time() + seconds
            while True:
                changed = self._changed  # taken before the look, so that no change between is missed
                found = await run_sync((await self._table()).history.changed_since, cursor, limit, listed_owner())
                if found.cursor != cursor or anyio.current_time() >= until:
                    return found
                with anyio.CancelScope(deadline=until):
                    await changed.wait()
        finally:
            del self._due[waiter]

    async def keep(self, job_id: str, kept: bool = True) -> JobView:
        """Keep a job, so that nothing deletes it; or keep it no longer.

        Raises:
            UnknownJob: there is none of that id.
        """
        await run_sync((await self._own_table(job_id)).history.keep, job_id, kept)
        return await self.view(job_id)

    async def delete(self, job_id: str) -> Job:
        """Delete a job that has ended, with its files; return what it was.

        Raises:
            UnknownJob: there is none of that id.
            BadRequest: it has not ended, is kept, or another job needs it.
        """
        return await run_sync((await self._own_table(job_id)).deletion.delete, job_id)

    async def model_statuses(self, models: Iterable[Manifest]) -> dict[str, ModelStatus]:
        """Return what each model means on this machine; without a usable job table, no times."""
        measured = await self._measured()
        try:
            return await run_sync(model_statuses, models, self.admission.planner, self.settings, measured)
        except (WanError, OSError, sqlite3.Error) as error:
            log.warning("no measured times: %s", error)
            return await run_sync(model_statuses, models, self.admission.planner, self.settings, None)

    async def models_version(self) -> Hashable:
        """Return a value that stays equal as long as the catalog and the statuses of its models do."""
        measured = await self._measured()

        def version() -> Hashable:
            catalog = self.catalog
            models = catalog.manifests.values()
            try:
                return catalog.version, what_statuses_depend_on(models, self.settings, measured)
            except (WanError, OSError, sqlite3.Error):
                return catalog.version, what_statuses_depend_on(models, self.settings, None)

        return await run_sync(version)

    async def devices(self) -> list[str]:
        """Return the devices whose engines serve the queue, as far as is known; empty without a job table."""
        measured = await self._measured()
        return [] if measured is None else await run_sync(measured.engines.all_devices)

    async def _measured(self) -> Measured | None:
        """Return what has been measured; None without a job table, or with one that cannot be opened."""
        if not self._has_table():
            return None
        try:
            table = await self._table()
        except (WanError, OSError, sqlite3.Error) as error:
            log.warning("no measured times: %s", error)
            return None
        return Measured(table.timings, table.engines)


@asynccontextmanager
async def serving(
    settings: Settings, *, any_image_folder: bool = False, processes: Processes | None = None
) -> AsyncIterator[JobService]:
    """Provide a job service that supervises the engine until the block ends; jobs and engine keep running.

    `processes` starts engines in another way than as processes of their own: see `space/zerogpu.py`.
    """
    return_large_blocks()
    service = JobService(settings, any_image_folder=any_image_folder, processes=processes)
    of_deletion, of_notices, on_done = Health(), Health(), OnDone(settings, service._notices)
    tell = retried(partial(on_done.run, of_notices.works), "WAN_MCP_ON_DONE waits", of_notices)
    try:
        async with (
            background(retried(service._keep, "jobs are not supervised", service._health)),
            background(retried(partial(service._retain, of_deletion), "old jobs are not deleted", of_deletion)),
            background(tell) if settings.on_done else nullcontext(),
        ):
            yield service
            if settings.on_done:
                await on_done.settle()
    finally:
        service.close()
