"""Under which names files of results are saved: the day, the words of the prompt, the seed."""

from pathlib import Path

from wan_mcp.errors import UserError
from wan_mcp.media.readable_names import readable_name
from wan_mcp.service.service import JobService

__all__ = ["name_of_media"]


async def name_of_media(service: JobService, path: Path) -> str | None:
    """Return the name for a file of a result: itself, a conversion, a sheet or poster; None if there is no job."""
    stem, _, ending = path.name.partition(".")
    try:
        job = (await service.view(stem.partition("-")[0])).job
    except UserError:
        return None
    for artifact in job.artifacts:
        if Path(artifact.path).stem == stem:
            return f"{Path(readable_name(job, artifact)).stem}.{ending}"
    return None
