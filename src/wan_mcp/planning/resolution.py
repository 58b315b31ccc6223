"""The size of a result (by name, in pixels, or from the image's aspect), and its frame count."""

import math
import re

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.sizes import Resolution
from wan_mcp.errors import BadRequest
from wan_mcp.planning.limits import require_within
from wan_mcp.schema.plans import InputImage
from wan_mcp.schema.requests import VideoRequest

__all__ = ["resolve_frames", "resolve_size"]

SIZE = re.compile(r"^(\d{1,5})\s*[xX×]\s*(\d{1,5})$")


def resolve_size(asked: str | None, manifest: Manifest, image: InputImage | None, notes: list[str]) -> Resolution:
    """Return the size of the result: the requested one, else the nearest to the image's aspect, else the default.

    Raises:
        BadRequest: The model does not allow the size; the message names those that it does.
    """
    sizes = manifest.sizes
    if sizes is None:
        raise BadRequest(f"model '{manifest.name}' cannot make images or videos")
    names = ", ".join(f"{r.name} ({r.width}x{r.height})" for r in sizes.named)
    if asked is not None:
        if (named := sizes.named_as(asked.strip().lower())) is not None:
            return named
        match = SIZE.match(asked.strip())
        if match is None:
            raise BadRequest(f"no resolution '{asked[:40]}' in '{manifest.name}'; available: {names}")
        width, height = int(match[1]), int(match[2])
        for named in sizes.named:
            if (named.width, named.height) == (width, height):
                return named
        free = f", or any WIDTHxHEIGHT in multiples of {sizes.multiple} up to {sizes.max_pixels} pixels"
        fits = width >= 16 and height >= 16 and not (width % sizes.multiple or height % sizes.multiple)
        if not sizes.free or not fits or width * height > (sizes.max_pixels or 0):
            raise BadRequest(
                f"resolution {width}x{height} is not allowed by '{manifest.name}'; available: {names}"
                + (free if sizes.free else "")
            )
        return Resolution(name=f"{width}x{height}", width=width, height=height)
    default = sizes.default_size
    if image is None:
        return default
    aspect = image.width / image.height
    if sizes.free:
        return _of_area(default.width * default.height, aspect, sizes.multiple)
    area = default.width * default.height

    def distance(r: Resolution) -> tuple[float, int]:
        return round(abs(math.log(r.aspect / aspect)), 3), abs(r.width * r.height - area)

    nearest = min(sizes.named, key=distance)
    if nearest.name != sizes.default:
        notes.append(f"resolution '{nearest.name}' chosen for the image's aspect")
    return nearest


def resolve_frames(request: VideoRequest, manifest: Manifest, notes: list[str]) -> int:
    """Return a video's frame count: the requested one, or the best fit for its duration, else the default.

    Raises:
        BadRequest: The model does not allow the count; the message says which it allows.
    """
    rule = manifest.frames
    if rule is None:
        raise BadRequest(f"model '{manifest.name}' cannot make videos")
    if request.num_frames is not None and request.duration_s is not None:
        raise BadRequest("duration_s and num_frames exclude each other; set one of them")
    if request.num_frames is not None:
        if not rule.allows(request.num_frames):
            raise BadRequest(
                f"num_frames {request.num_frames} is not allowed by '{manifest.name}': {rule.describe()}; "
                f"the nearest is {rule.nearest(request.num_frames)}"
            )
        return request.num_frames
    if request.duration_s is None:
        return rule.default
    shortest, longest = rule.minimum / rule.fps, rule.maximum / rule.fps
    # Half a frame either way still means the shortest or the longest.
    require_within("duration_s", request.duration_s, max(0.0, shortest - 0.5 / rule.fps), longest + 0.5 / rule.fps)
    frames = rule.nearest(request.duration_s * rule.fps)
    if not math.isclose(frames / rule.fps, request.duration_s, abs_tol=1e-3):
        notes.append(
            f"duration {request.duration_s:g} s became {frames / rule.fps:g} s: {frames} frames at {rule.fps:g} fps "
            f"(frames follow {rule.describe()})"
        )
    return frames


def _of_area(area: int, aspect: float, multiple: int) -> Resolution:
    """Return a size of about `aspect` and at most `area` pixels, in multiples."""
    aspect = min(max(aspect, 1 / 4), 4.0)
    width = max(multiple, int(math.sqrt(area * aspect)) // multiple * multiple)
    height = max(multiple, int(area / width) // multiple * multiple)
    if width / height < aspect / 2:  # rounding went far off: width follows height
        width = max(multiple, int(height * aspect) // multiple * multiple)
    return Resolution(name=f"{width}x{height}", width=width, height=height)
