"""Looking at what a running job denoises, for every front."""

from anyio.to_thread import run_sync

from wan_mcp.media.previews import PreviewStore
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job
from wan_mcp.service.service import JobService

__all__ = ["live_preview"]


async def live_preview(service: JobService, job: Job) -> bytes | None:
    """Record that somebody looks at a job, and return the newest JPEG of what it denoises.

    None while there is none: the engine makes previews at the end of a step, and only while somebody looks.

    Raises:
        UnknownJob: the job was deleted.
    """
    if job.state.final:
        return None
    previews = PreviewStore(service.settings.home)
    if await run_sync(previews.look, job.id) and (await service.view(job.id)).job.state.final:
        previews.forget_look(job.id)  # it ended since the caller saw it
    return await run_sync(previews.read, job.id, job.attempt) if job.state is JobState.RUNNING else None
