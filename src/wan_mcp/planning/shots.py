"""The further shots of a video: each goes on from the last frame of the one before."""

from collections.abc import Callable, Sequence

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.errors import BadRequest
from wan_mcp.planning.limits import checked_text
from wan_mcp.schema.enums import Task
from wan_mcp.schema.plans import InputVideo, ShotPlan
from wan_mcp.schema.requests import VideoRequest
from wan_mcp.text import number

__all__ = ["MOST_SECONDS", "MOST_SHOTS", "require_extendable", "resolve_shots"]

MOST_SHOTS = 8
"""Of one video, with the first: what goes wrong in one shot grows in the next, and a job has the device to itself."""


MOST_SECONDS = 120.0
"""Of a video that is extended, before it is."""


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


def require_extendable(request: VideoRequest, manifest: Manifest, size: tuple[int, int], video: InputVideo) -> None:
    """Refuse to extend a video that a model's frames cannot follow: of another size or rate, or too long.

    Raises:
        BadRequest: The message says which, and what to do.
    """
    instead = f"or pass image='{video.source}', for a new video that starts from its last frame"
    fps = manifest.frames.fps if manifest.frames else 0.0
    if not manifest.family.capabilities.shots:
        raise BadRequest(f"model '{manifest.name}' does not extend videos; choose another, {instead}")
    if request.count > 1:
        raise BadRequest(f"extend makes one video; omit count, which is {number(request.count)}")
    if (video.width, video.height) != size:
        raise BadRequest(
            f"the video has {video.width}x{video.height} pixels and its continuation would have {size[0]}x{size[1]}; "
            f"choose a model that makes {video.width}x{video.height} as resolution, {instead}"
        )
    if abs(video.fps - fps) > 0.01:
        raise BadRequest(
            f"the video has {number(video.fps)} frames a second and '{manifest.name}' makes {number(fps)}; choose the "
            f"model that made it, {instead}"
        )
    if video.frames > MOST_SECONDS * fps:
        raise BadRequest(f"the video is longer than {number(MOST_SECONDS)} s, the most that is extended; {instead[3:]}")
