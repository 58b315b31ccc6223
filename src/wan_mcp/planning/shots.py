"""The further shots of a video: each goes on from the last frame of the one before."""

from collections.abc import Callable, Sequence

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.errors import BadRequest
from wan_mcp.planning.limits import checked_text
from wan_mcp.schema.enums import Task
from wan_mcp.schema.plans import ShotPlan
from wan_mcp.schema.requests import VideoRequest
from wan_mcp.text import number

__all__ = ["MOST_SHOTS", "resolve_shots"]

MOST_SHOTS = 8
"""Of one video, with the first: what goes wrong in one shot grows in the next, and a job has the device to itself."""


def resolve_shots(
    request: VideoRequest, manifest: Manifest, seed: int, styled: Callable[[str], str], able: Sequence[str]
) -> tuple[ShotPlan, ...]:
    """Return the plans of the shots after the first; shot i uses `seed` + i. `able` are models that animate images.

    Raises:
        BadRequest: There are too many, one has no prompt, or the model or the rest of the request does not allow shots.
    """
    shots = request.shots
    if not shots:
        return ()
    if len(shots) >= MOST_SHOTS:
        raise BadRequest(
            f"a video has at most {MOST_SHOTS} shots: that of prompt and {MOST_SHOTS - 1} further ones; "
            f"{len(shots)} are too many"
        )
    if request.count > 1:
        raise BadRequest(f"shots make one video; omit count, which is {number(request.count)}")
    if request.last_image is not None:
        raise BadRequest("shots and last_image exclude each other: every shot but the last leads to another one")
    if not manifest.family.capabilities.shots:
        raise BadRequest(f"model '{manifest.name}' makes no videos of several shots; omit shots")
    if Task.IMAGE_TO_VIDEO not in manifest.tasks:
        raise BadRequest(
            f"shots go on from a frame, and model '{manifest.name}' does not do {Task.IMAGE_TO_VIDEO}; models that do: "
            f"{', '.join(able) or 'none of the installed models'}"
        )
    plans = []
    for index, shot in enumerate(shots, start=1):
        prompt = checked_text(f"the prompt of shot {index + 1}", shot.prompt, manifest.limits.prompt_characters)
        if not prompt.strip():
            raise BadRequest(f"the prompt of shot {index + 1} is empty; describe what it should show")
        plans.append(ShotPlan(prompt=styled(prompt.strip()), prompt_asked=prompt, seed=seed + index))
    return tuple(plans)
