"""Tells a program of the owner's that a job has ended: a command that is run, or a URL that gets a signed POST.

Every job that a front with `WAN_MCP_ON_DONE` queues is told of at least once: the notice is durable from the moment
when the job is queued, and is repeated until it has arrived or was given up after a day. Of the fronts of a home with
the same setting one does this, the one that has a lock; when its process ends, in whatever way, another one goes on. If
a front dies between an arrival and its note of it, the notice comes twice, with the same id.
"""

import json
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
from anyio.to_thread import run_sync
from filelock import FileLock, Timeout

from wan_mcp.errors import UnknownJob, UnreadableRow, UserError, WanError
from wan_mcp.files import writing_to
from wan_mcp.jobs.notices import DueNotice, Notices, key_of
from wan_mcp.jobs.store import JobStore
from wan_mcp.permissions import file_mode, make_folder
from wan_mcp.schema.jobs import Artifact, Job
from wan_mcp.service.done_command import run_command
from wan_mcp.service.webhook import GONE, post
from wan_mcp.settings import Settings
from wan_mcp.text import instant

__all__ = ["OnDone", "is_url", "notice_of"]

log = logging.getLogger(__name__)

LOOK_S = 1.0
PAUSES_S = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 10_800.0, 21_600.0, 43_200.0)
"""Before the second, third … attempt: with all of them, a notice is given up after about 23 hours."""
SETTLES_S = 20.0  # how long a front that ends waits for notices under way

Opened = tuple[JobStore, Notices]


def is_url(on_done: str) -> bool:
    """Check whether the setting is a URL, and not a command."""
    return on_done.lower().startswith(("http://", "https://"))


def notice_of(job: Job, *, paths: bool) -> bytes:
    """Return the notice of a job that has ended, as JSON; with `paths`, it names files of this machine."""
    words: dict[str, Any] = {
        "job_id": job.id,
        "kind": job.plan.kind,
        "status": job.state,
        "model": job.plan.model,
        "prompt": job.plan.prompt_asked,
        "seed": job.plan.seed,
        "caption": job.caption,
        "error": _error(job, paths=paths),
        "client": job.client,
        "owner": job.owner,
        "parent": job.parent,
        "created_at": instant(job.created_at),
        "finished_at": instant(job.finished_at),
        "files": [_file(artifact, paths=paths) for artifact in job.artifacts],
    }
    notice = {"type": f"job.{job.state}", "timestamp": instant(job.finished_at), "data": words}
    return json.dumps(notice, ensure_ascii=False).encode("utf-8", "replace")


def _error(job: Job, *, paths: bool) -> dict[str, str] | None:
    """Return what went wrong; its words may name files of this machine."""
    if job.error is None:
        return None
    return {"code": job.error.code} | ({"message": job.error.message} if paths else {})


def _file(artifact: Artifact, *, paths: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "uri": artifact.uri,
        "media": artifact.uri.replace("wan://", "/media/"),
        "mime_type": artifact.mime_type,
        "seed": artifact.seed,
    }
    return facts | ({"path": artifact.path, "saved_as": artifact.saved_as} if paths else {})


class OnDone:
    """What one front does about the jobs of its home that have ended."""

    def __init__(
        self,
        settings: Settings,
        opened: Callable[[], Awaitable[Opened | None]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Tell of the jobs in the table that `opened` returns; it returns None while there is none."""
        self._setting, self._home = settings.on_done, settings.home
        self._opened, self._clock = opened, clock
        self._key = key_of(settings.on_done)
        self._lock: FileLock | None = None
        self._under_way: set[str] = set()
        self._not_before: dict[str, float] = {}
        """When a job is tried again of which not even a failure could be noted; Unix time."""
        self._defective: set[str] = set()
        """Jobs whose notices cannot be sent for a reason that nothing here expects; another process may know better."""

    async def run(self, works: Callable[[], None]) -> None:
        """Tell of jobs for as long as this front runs; call `works` after each turn without an error."""
        try:
            async with anyio.create_task_group() as tasks:
                while True:
                    for table, notice in await self._due():
                        if notice.job_id not in self._under_way:
                            self._under_way.add(notice.job_id)
                            tasks.start_soon(self._tell, *table, notice)
                    works()
                    await anyio.sleep(LOOK_S)
        finally:
            if self._lock is not None:
                self._lock.release()

    def _is_mine(self) -> bool:
        """Check whether this front is the one that tells; take that on if no other is."""
        if self._lock is None:
            folder = self._home / "on-done"
            with writing_to(folder):
                make_folder(folder)
                self._lock = FileLock(folder / f"{self._key}.lock", mode=file_mode(folder), thread_local=False)
        if self._lock.is_locked:
            return True
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        return True

    async def settle(self) -> None:
        """Wait for the notices that are to be sent now, as long as it is fit for a front that is about to end."""
        with anyio.move_on_after(SETTLES_S), suppress(WanError, OSError):  # what cannot be read now is sent later
            while await self._due():  # noqa: ASYNC110  # what is waited for is in the table
                await anyio.sleep(LOOK_S / 10)

    async def _due(self) -> list[tuple[Opened, DueNotice]]:
        """Return the notices that this front has to send now."""
        table = await self._opened()
        if table is None or not self._is_mine():
            return []
        now = self._clock()
        found = await run_sync(table[1].due, self._key, now, self._defective)
        return [(table, notice) for notice in found if self._not_before.get(notice.job_id, now) <= now]

    async def _tell(self, store: JobStore, notices: Notices, due: DueNotice) -> None:
        try:
            await self._tell_once(store, notices, due)
        except UserError as error:  # such as a disk that is full: the table cannot say when to try again
            log.error("WAN_MCP_ON_DONE for job %s: %s; trying again in %.0f s", due.job_id, error, PAUSES_S[0])
            self._not_before[due.job_id] = self._clock() + PAUSES_S[0]
        except Exception:  # one notice must not end the others
            log.exception("WAN_MCP_ON_DONE for job %s is not sent by this process", due.job_id)
            self._defective.add(due.job_id)
        else:
            self._not_before.pop(due.job_id, None)
        finally:
            self._under_way.discard(due.job_id)

    async def _tell_once(self, store: JobStore, notices: Notices, due: DueNotice) -> None:
        try:
            job = await run_sync(store.get, due.job_id)
        except UnknownJob:  # deleted just now
            return
        except UnreadableRow as error:
            await self._give_up(notices, due, str(error))
            return
        problem = await self._send(job)
        if problem is None:
            await run_sync(notices.end, job.id)
        elif problem == GONE or due.attempts >= len(PAUSES_S):
            await self._give_up(notices, due, problem)
        else:
            pause = PAUSES_S[due.attempts]
            log.warning("WAN_MCP_ON_DONE for job %s: %s; trying again in %.0f s", job.id, problem, pause)
            await run_sync(notices.note_failure, job.id, self._clock() + pause, problem)

    async def _send(self, job: Job) -> str | None:
        try:
            if is_url(self._setting):
                return await post(self._setting, job.id, notice_of(job, paths=False), self._home)
            return await run_command(self._setting, notice_of(job, paths=True), self._home)
        except UserError as error:  # such as a secret that cannot be read: a failure like any other
            return str(error)

    async def _give_up(self, notices: Notices, due: DueNotice, problem: str) -> None:
        log.error("WAN_MCP_ON_DONE for job %s is given up: %s", due.job_id, problem)
        await run_sync(notices.end, due.job_id)
