"""The size of a result (by name, in pixels, or from the image's aspect), and its frame count."""

import math
import re
from collections.abc import Iterable

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.sizes import Resolution, Sizes
from wan_mcp.errors import BadRequest
from wan_mcp.schema.plans import InputImage
from wan_mcp.schema.requests import VideoRequest
from wan_mcp.text import number, quoted, shortened

__all__ = ["resolve_frames", "resolve_size"]

BETWEEN = r"\s*(?:px)?\s*(?:[x×*,;:/]|by|\s)\s*"
SIZE = re.compile(rf"[\[(]?\s*(\d{{1,5}}){BETWEEN}(\d{{1,5}})\s*(?:px)?\s*[\])]?")
"""Width and height as people and other programs write them: 1280x720, 1280 × 720, 1280*720, (1280, 720), 1280:720."""
NAMED_SIZE = re.compile(rf"(?P<name>.+?)(?:[\s:=,]+|(?=[\[(]))(?P<size>[\[(]?\s*\d{{1,5}}{BETWEEN}\d{{1,5}}.*)")
"""A name with its size, as refusals and lists write it: square (128x128), square 128x128."""
LINES = re.compile(r"(\d{2,4})p")
MAX_LENGTH = 100  # characters of a size
MAX_RATIO = 32  # of a size such as 16:9 or 21/9, which is an aspect


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
        written = shortened(asked.strip().lower(), MAX_LENGTH)
        if (named := _by_name(written, sizes) or _by_lines(written, sizes, image)) is not None:
            return named
        match = SIZE.fullmatch(written)
        if match is None:
            raise BadRequest(f"no resolution {quoted(asked)} in '{manifest.name}'; available: {names}")
        width, height = int(match[1]), int(match[2])
        for named in sizes.named:
            if (named.width, named.height) == (width, height):
                return named
        if min(width, height) > 0 and max(width, height) <= MAX_RATIO:
            raise BadRequest(
                f"resolution {quoted(asked)} is an aspect ratio; use a size of '{manifest.name}'; available: {names}"
            )
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
    nearest = _nearest(sizes.named, aspect, default.width * default.height)
    if nearest.name != sizes.default:
        notes.append(f"resolution '{nearest.name}' chosen for the image's aspect")
    return nearest


def _by_name(written: str, sizes: Sizes) -> Resolution | None:
    """Return the named size, or None; `written` is a name, alone or with its own size: square (128x128)."""
    both = NAMED_SIZE.fullmatch(written)
    named = sizes.named_as(re.sub(r"[\s_]+", "-", both["name"] if both else written))
    if named is None or both is None:
        return named
    size = SIZE.fullmatch(both["size"])
    return named if size and (int(size[1]), int(size[2])) == (named.width, named.height) else None


def _by_lines(written: str, sizes: Sizes, image: InputImage | None) -> Resolution | None:
    """Return the size for a number of lines such as 720p, or None: of the image's aspect, else the wide one."""
    lines = LINES.fullmatch(written)
    if lines is None:
        return None
    fitting = [r for r in sizes.named if r.name.startswith(f"{written}-") or min(r.width, r.height) == int(lines[1])]
    if not fitting:
        return None
    if image is None:
        return max(fitting, key=lambda r: r.aspect)
    return _nearest(fitting, image.width / image.height, fitting[0].width * fitting[0].height)


def _nearest(sizes: Iterable[Resolution], aspect: float, area: int) -> Resolution:
    """Return the size whose aspect is nearest; of those equally near, the one whose area is nearest."""

    def distance(r: Resolution) -> tuple[float, int]:
        return round(abs(math.log(r.aspect / aspect)), 3), abs(r.width * r.height - area)

    return min(sizes, key=distance)


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
                f"num_frames {number(request.num_frames)} is not allowed by '{manifest.name}': {rule.in_words()}; "
                f"the nearest is {rule.nearest(request.num_frames)}"
            )
        return request.num_frames
    if request.duration_s is None:
        return rule.default
    shortest, longest = rule.minimum / rule.fps, rule.maximum / rule.fps
    half = 0.5 / rule.fps  # half a frame either way still means the shortest or the longest
    if not shortest - half <= request.duration_s <= longest + half:
        raise BadRequest(
            f"duration_s {number(request.duration_s)} is not allowed by '{manifest.name}': {rule.in_words()}. "
            "Omit duration_s for the default; list_resolutions(model='NAME') has the lengths of others"
        )
    frames = rule.nearest(request.duration_s * rule.fps)
    if not math.isclose(frames / rule.fps, request.duration_s, abs_tol=1e-3):
        notes.append(
            f"duration {number(request.duration_s)} s became {frames / rule.fps:g} s: "
            f"{frames} frames at {rule.fps:g} fps "
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
