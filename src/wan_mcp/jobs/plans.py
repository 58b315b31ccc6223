"""From a request to a plan: every gap filled from the manifest, every value checked at the door.

Nothing is corrected in silence: what a manifest does not allow is refused with what it allows,
and what has to be fitted (a duration to the frame rule, a picture to a size) becomes a note.
"""

import math
import secrets
from collections.abc import Iterable
from typing import TypeVar

from wan_mcp.errors import BadRequest
from wan_mcp.jobs.adapting import settle_loras, settle_steps
from wan_mcp.jobs.sizing import settle_size
from wan_mcp.manifests import Catalogue, Manifest
from wan_mcp.media.framing import cover
from wan_mcp.settings import Settings
from wan_mcp.specs import (
    CaptionPlan,
    CaptionRequest,
    ImagePlan,
    ImageRequest,
    InputImage,
    Kind,
    Plan,
    Request,
    Task,
    VideoPlan,
    VideoRequest,
)
from wan_mcp.weights.loras import LoraFiles

__all__ = ["Planner"]

MAX_SEED = 2**31 - 1
N = TypeVar("N", int, float)


class Planner:
    """Makes plans from requests."""

    def __init__(self, settings: Settings, catalogue: Catalogue, *, any_folder: bool = False) -> None:
        """`any_folder` lets requests name LoRAs anywhere, for a person at their own command line."""
        self._loras = LoraFiles(settings.home / "loras", settings.lora_dirs, any_folder=any_folder)
        self._settings = settings
        self._catalogue = catalogue

    def manifest(self, request: Request) -> Manifest:
        """The manifest of the model that serves a request.

        Raises:
            UnknownModel: there is no such model.
            BadRequest: the model cannot do what was asked; names those that can.
        """
        task = task_of(request)
        default = {
            VideoRequest: self._settings.video_model,
            ImageRequest: self._settings.image_model,
            CaptionRequest: self._settings.caption_model,
        }[type(request)]
        manifest = self._catalogue.get(request.model or default)
        if task not in manifest.tasks:
            able = ", ".join(self._catalogue.serving(task)) or "none of the installed models"
            raise BadRequest(f"model '{manifest.name}' does not do {task}; this can: {able}")
        return manifest

    def plan(self, request: Request, image: InputImage | None = None, last_image: InputImage | None = None) -> Plan:
        """Settle every parameter of a request; `image` and `last_image` are its pictures, taken in.

        Raises:
            BadRequest: a value is not allowed; the message names the allowed ones.
            UnknownModel: there is no such model.
        """
        manifest = self.manifest(request)
        if isinstance(request, CaptionRequest):
            if image is None:
                raise BadRequest("a caption needs an image")
            return _caption_plan(request, manifest, image)
        return self._generation_plan(request, manifest, image, last_image)

    def usual(self, model: str, task: Task) -> Plan:
        """The plan of a task with nothing but defaults, to say how long one takes; it is never run.

        Raises:
            UserError: the model does not do that task.
        """
        sizes = self._catalogue.get(model).sizes
        size = next((r for r in sizes.named if r.name == sizes.default), None) if sizes else None
        width, height = (size.width, size.height) if size else (1, 1)
        picture = InputImage(sha256="", file="", width=width, height=height, source="")
        image = None if task in (Task.TEXT_TO_VIDEO, Task.TEXT_TO_IMAGE) else ""
        last_image = "" if task is Task.FIRST_LAST_FRAME_TO_VIDEO else None
        request: Request
        match task.kind:
            case Kind.CAPTION:
                request = CaptionRequest(image="", model=model)
            case Kind.IMAGE:
                request = ImageRequest(prompt="-", image=image, model=model)
            case Kind.VIDEO:
                request = VideoRequest(prompt="-", image=image, last_image=last_image, model=model)
        return self.plan(request, picture)

    def _generation_plan(
        self,
        request: VideoRequest | ImageRequest,
        manifest: Manifest,
        image: InputImage | None,
        last_image: InputImage | None,
    ) -> Plan:
        limits, defaults, settings = manifest.limits, manifest.defaults, self._settings
        prompt = _text("prompt", request.prompt, limits.prompt_characters)
        if not prompt:
            raise BadRequest("prompt is empty; say what should be seen")
        negative = request.negative_prompt if request.negative_prompt is not None else defaults.negative_prompt
        notes: list[str] = []
        size = settle_size(request.resolution, manifest, image, notes)
        for picture, what in ((image, "image"), (last_image, "last_image")):
            if picture is not None:
                framing = cover((picture.width, picture.height), (size.width, size.height))
                notes += filter(None, [framing.describe(what)])
        guidance = _or_default("guidance_scale", request.guidance_scale, defaults.guidance_scale, limits.guidance_scale)
        if request.negative_prompt and guidance <= 1:
            notes.append(f"negative_prompt has no effect at guidance_scale {guidance:g}")
        seed = secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed
        _within("seed", seed, 0, MAX_SEED)
        _within("count", request.count, 1, settings.max_count)
        common = {
            "task": task_of(request),
            "model": manifest.name,
            "prompt": self._styled(prompt, request.style),
            "prompt_asked": prompt,
            "negative_prompt": _text("negative_prompt", negative, limits.prompt_characters),
            "style": request.style,
            "width": size.width,
            "height": size.height,
            "steps": settle_steps(_or_default("steps", request.steps, defaults.steps, limits.steps), manifest),
            "lora": settle_loras(request, manifest, self._loras),
            "guidance_scale": guidance,
            "seed": seed,
            "count": request.count,
            "image": image,
        }
        if isinstance(request, ImageRequest):
            return ImagePlan(**common, strength=_strength(request, manifest), notes=tuple(notes))
        num_frames = _frames(request, manifest, notes)
        fps = manifest.frames.fps if manifest.frames else 0.0
        return VideoPlan(
            **common,
            num_frames=num_frames,
            fps=fps,
            duration_s=round(num_frames / fps, 3),
            guidance_scale_2=_second_guidance(request, manifest),
            last_image=last_image,
            notes=tuple(notes),
        )

    def _styled(self, prompt: str, style: str | None) -> str:
        if style is None:
            return prompt
        if style not in self._catalogue.styles:
            raise BadRequest(f"no style '{style}'; there are: {_listed(self._catalogue.styles)}")
        return self._catalogue.styles[style].replace("{prompt}", prompt)


def task_of(request: Request) -> Task:
    """The task that a request asks for, by the pictures that it brings.

    Raises:
        BadRequest: a last image without a first one.
    """
    if isinstance(request, CaptionRequest):
        return Task.IMAGE_TO_TEXT
    if isinstance(request, ImageRequest):
        return Task.IMAGE_TO_IMAGE if request.image is not None else Task.TEXT_TO_IMAGE
    if request.last_image is not None:
        if request.image is None:
            raise BadRequest("last_image needs image as well: the first frame")
        return Task.FIRST_LAST_FRAME_TO_VIDEO
    return Task.IMAGE_TO_VIDEO if request.image is not None else Task.TEXT_TO_VIDEO


def _text(what: str, text: str, longest: int) -> str:
    if len(text) > longest:
        raise BadRequest(f"{what} has {len(text)} characters; at most {longest} are taken: shorten it")
    return text.strip()


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _within(what: str, value: float, smallest: float, largest: float) -> None:
    if not smallest <= value <= largest:  # NaN is refused too
        raise BadRequest(f"{what} {value:g} is not allowed; it must be {smallest:g} to {largest:g}")


def _or_default(what: str, value: N | None, default: N, bounds: tuple[N, N]) -> N:
    if value is None:
        return default
    _within(what, value, *bounds)
    return value


def _strength(request: ImageRequest, manifest: Manifest) -> float | None:
    if request.image is None:
        if request.strength is not None:
            raise BadRequest("strength needs image: it says how far the picture may change")
        return None
    if manifest.pipeline.edits:
        if request.strength is not None:
            raise BadRequest(f"model '{manifest.name}' edits the picture as the prompt says: leave strength out")
        return None
    return _or_default("strength", request.strength, manifest.defaults.strength, manifest.limits.strength)


def _second_guidance(request: VideoRequest, manifest: Manifest) -> float | None:
    if manifest.pipeline.boundary_ratio is None:
        if request.guidance_scale_2 is not None:
            raise BadRequest(f"model '{manifest.name}' has one expert: guidance_scale_2 does not apply to it")
        return None
    default = manifest.defaults.guidance_scale_2 or manifest.defaults.guidance_scale
    return _or_default("guidance_scale_2", request.guidance_scale_2, default, manifest.limits.guidance_scale)


def _frames(request: VideoRequest, manifest: Manifest, notes: list[str]) -> int:
    rule = manifest.frames
    if rule is None:
        raise BadRequest(f"model '{manifest.name}' makes no videos")
    if request.num_frames is not None and request.duration_s is not None:
        raise BadRequest("give duration_s or num_frames, not both")
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
    _within("duration_s", request.duration_s, max(0.0, shortest - 0.5 / rule.fps), longest + 0.5 / rule.fps)
    frames = rule.nearest(request.duration_s * rule.fps)
    if not math.isclose(frames / rule.fps, request.duration_s, abs_tol=1e-3):
        notes.append(
            f"duration {request.duration_s:g} s became {frames / rule.fps:g} s: {frames} frames at {rule.fps:g} fps "
            f"(frames follow {rule.describe()})"
        )
    return frames


def _caption_plan(request: CaptionRequest, manifest: Manifest, image: InputImage) -> CaptionPlan:
    spec = manifest.caption
    if spec is None:
        raise BadRequest(f"model '{manifest.name}' makes no captions")
    prompt = spec.instruction(manifest.name, request.caption_type, request.length)
    if request.prompt is not None:
        if not spec.free_prompt:
            raise BadRequest(f"model '{manifest.name}' takes no prompt of its own; leave it out")
        if request.caption_type is not None or request.length is not None:
            raise BadRequest("give a prompt, or caption_type and length, not both")
        prompt = _text("prompt", request.prompt, manifest.limits.prompt_characters)
    sentences = spec.sentences(manifest.name, request.extra_options)
    notes = []
    if request.seed is not None:
        _within("seed", request.seed, 0, MAX_SEED)
        if not spec.samples:
            notes.append(f"'{manifest.name}' always says the same of a picture: the seed changes nothing")
    return CaptionPlan(
        model=manifest.name,
        image=image,
        caption_type=request.caption_type,
        length=request.length,
        prompt=" ".join([*([prompt] if prompt else []), *sentences]) or None,
        max_new_tokens=spec.max_new_tokens,
        extra_options=request.extra_options,
        seed=(request.seed or 0) if spec.samples else None,
        notes=tuple(notes),
    )
