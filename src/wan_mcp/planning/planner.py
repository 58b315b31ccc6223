"""The planner turns a request into a plan: every gap filled from the manifest, every value checked.

Nothing is corrected silently: a value that the manifest does not allow is refused with those it allows,
and every adjustment (a duration to the frame rule, an image to a size) becomes a note.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from wan_mcp.catalog.catalog import Catalog
from wan_mcp.catalog.manifest import Defaults, Manifest
from wan_mcp.catalog.memory_fit import default_shape
from wan_mcp.catalog.presets import Preset
from wan_mcp.errors import BadRequest, BrokenManifest, UnknownModel, about
from wan_mcp.hardware.machine import Machine
from wan_mcp.media.framing import cover
from wan_mcp.planning.caption_instruction import resolve_caption
from wan_mcp.planning.check import resolve_check
from wan_mcp.planning.limits import checked_or_default, checked_text, require_within, resolve_seed
from wan_mcp.planning.loras import resolve_loras, resolve_steps
from wan_mcp.planning.memory_check import MemoryCheck, MemoryFit
from wan_mcp.planning.outside_world import world_note
from wan_mcp.planning.quality import preset_of, resolve_step_cache, resolve_turbo
from wan_mcp.planning.resolution import resolve_frames, resolve_size
from wan_mcp.planning.shots import require_extendable, resolve_shots
from wan_mcp.schema.enums import Kind, Task
from wan_mcp.schema.plans import EngineSettings, ImagePlan, InputImage, InputVideo, Plan, VideoPlan
from wan_mcp.schema.requests import CaptionRequest, ImageRequest, Request, VideoRequest
from wan_mcp.settings import ENV_PREFIX, Settings
from wan_mcp.text import number, quoted, spelled, suggestion
from wan_mcp.weights.lora_files import LoraFiles

__all__ = ["Choice", "Planner"]


@dataclass(frozen=True)
class Choice:
    """The model, task and preset that serve a request."""

    task: Task
    asked: Manifest
    """The model that was asked for, or the default one."""
    manifest: Manifest
    """The model that makes the result: another one where the preset says so."""
    preset: Preset | None
    """Its preset, if the request names one."""


class Planner:
    """Turns requests into plans."""

    def __init__(self, settings: Settings, catalog: Catalog, *, any_folder: bool = False) -> None:
        """Read LoRAs from any folder with `any_folder`, for a person at their own command line."""
        self._loras = LoraFiles(settings.home / "loras", settings.lora_dirs, any_folder=any_folder)
        self._settings = settings
        self._catalog = catalog
        self._memory_check = MemoryCheck(settings)

    def choose(self, request: Request) -> Choice:
        """Choose the model that serves a request.

        Raises:
            UnknownModel: there is no such model.
            BadRequest: the model cannot do what was asked, or has no such preset; names those that can.
            BrokenManifest: its preset points to a model that has none of that name.
        """
        task = task_of(request)
        asked = manifest = self._model_asked(request)
        preset = None
        if not isinstance(request, CaptionRequest) and request.preset is not None:
            with about("preset"):
                manifest, preset = self._serving_preset(asked, request.preset)
        if task not in manifest.tasks:
            able = ", ".join(self._catalog.serving(task)) or "none of the installed models"
            with about("model"):
                raise BadRequest(f"model '{manifest.name}' does not do {task}; models that do: {able}")
        return Choice(task, asked, manifest, preset)

    def _model_asked(self, request: Request) -> Manifest:
        default = self._settings.default_models[request.kind]
        try:
            return self._catalog.get(request.model or default, request.kind)
        except UnknownModel as error:
            if request.model is not None:
                raise
            setting = f"{ENV_PREFIX}{request.kind.upper()}_MODEL"
            raise UnknownModel(
                f"{error} ({setting} names it as the default; pass model, or change {setting})"
            ) from error

    def _serving_preset(self, manifest: Manifest, name: str) -> tuple[Manifest, Preset]:
        preset = preset_of(manifest, name)
        if preset.model is None:
            return manifest, preset
        other = self._catalog.get(preset.model)
        if name not in other.presets or (preset := preset_of(other, name)).model is not None:
            raise BrokenManifest(
                f"manifest of '{manifest.name}': its preset '{name}' refers to '{other.name}', which does not define "
                "it; define the preset there, or give its values here"
            )
        return other, preset

    def resolve(
        self,
        request: Request,
        image: InputImage | None = None,
        last_image: InputImage | None = None,
        machine: Machine | None = None,
        *,
        choice: Choice | None = None,
        notes: Iterable[str] = (),
        extends: InputVideo | None = None,
    ) -> Plan:
        """Return the plan of a job that will run: like `plan`, but also refuse what does not fit this machine.

        `machine` is as an engine has reported it; without it, the driver's own tool is asked. `choice` is that of
        `choose`, where it was made already. `notes` say how the images were ingested.

        Raises:
            BadRequest, UnknownModel, BrokenManifest: as `plan`; or the result is too large for this machine.
        """
        choice = choice or self.choose(request)
        plan = self._honest(self._plan(request, choice, image, last_image, extends), choice, machine)
        with about("resolution"):
            self._memory_check.check(plan, choice.manifest, machine)
        return plan.model_copy(update={"notes": (*notes, *plan.notes)})

    def fit(self, plan: Plan, machine: Machine | None = None) -> MemoryFit | None:
        """Return the memory that a plan needs and this machine has; None if it is unknown."""
        return self._memory_check.fit(plan, self._catalog.get(plan.model), machine)

    def plan(
        self,
        request: Request,
        image: InputImage | None = None,
        last_image: InputImage | None = None,
        *,
        choice: Choice | None = None,
        extends: InputVideo | None = None,
    ) -> Plan:
        """Resolve every parameter of a request; `image` and `last_image` are its ingested images.

        `extends` is the video that it extends, and `image` is the last frame of that.

        Raises:
            BadRequest: a value is not allowed; the message names the allowed ones.
            UnknownModel: there is no such model.
        """
        choice = choice or self.choose(request)
        return self._honest(self._plan(request, choice, image, last_image, extends), choice, None)

    def typical(self, model: str, task: Task, preset: str | None = None) -> Plan:
        """Return the plan of a task with defaults or a preset only, to estimate its time; it is never run.

        Raises:
            UserError: the model does not do that task, or has no such preset.
        """
        image = None if task in (Task.TEXT_TO_VIDEO, Task.TEXT_TO_IMAGE) else "-"
        last_image = "-" if task is Task.FIRST_LAST_FRAME_TO_VIDEO else None
        request: Request
        match task.kind:
            case Kind.CAPTION:
                request = CaptionRequest(image="-", model=model)
            case Kind.IMAGE:
                request = ImageRequest(prompt="-", image=image, model=model, preset=preset)
            case Kind.VIDEO:
                request = VideoRequest(prompt="-", image=image, last_image=last_image, model=model, preset=preset)
        choice = self.choose(request)
        size = default_shape(choice.asked)
        picture = InputImage(sha256="", file="", width=size.width, height=size.height, source="")
        return self._plan(request, choice, picture, None)

    def typical_fit(self, manifest: Manifest, machine: Machine | None = None) -> MemoryFit | None:
        """Return the memory that a default job of a model needs and this machine has; None if it is unknown."""
        return self._memory_check.fit(self.typical(manifest.name, manifest.tasks[0]), manifest, machine)

    def _plan(
        self,
        request: Request,
        choice: Choice,
        image: InputImage | None,
        last_image: InputImage | None,
        extends: InputVideo | None = None,
    ) -> Plan:
        asked = self._settings.asked_of_engine()
        engine = EngineSettings(**asked) if asked else None
        if isinstance(request, CaptionRequest):
            if image is None:
                raise BadRequest("a caption needs an image")
            return resolve_caption(request, choice.manifest, image).model_copy(update={"engine": engine})
        plan = self._generation_plan(request, choice, image, last_image, extends)
        return plan.model_copy(update={"engine": engine})

    def _honest(self, plan: Plan, choice: Choice, machine: Machine | None) -> Plan:
        """Return a plan with a note on what its model does not know."""

        def fit_of(manifest: Manifest) -> MemoryFit | None:
            return self.typical_fit(manifest, machine)

        note = world_note(plan, choice.manifest, self._catalog, fit_of)
        return plan if note is None else plan.model_copy(update={"notes": (*plan.notes, note)})

    def _generation_plan(
        self,
        request: VideoRequest | ImageRequest,
        choice: Choice,
        image: InputImage | None,
        last_image: InputImage | None,
        extends: InputVideo | None,
    ) -> Plan:
        manifest, preset = choice.manifest, choice.preset
        limits, defaults, settings = manifest.limits, manifest.defaults_of(request.preset), self._settings
        with about("prompt"):
            prompt = checked_text("prompt", request.prompt, limits.prompt_characters)
            if not prompt.strip():
                raise BadRequest("prompt is empty; describe what the result should show")
        negative = request.negative_prompt if request.negative_prompt is not None else defaults.negative_prompt
        notes: list[str] = []
        with about("style"):
            style = self._style(request.style)
        if manifest is not choice.asked:
            notes.append(f"preset '{request.preset}' of '{choice.asked.name}' uses the model '{manifest.name}'")
        with about("resolution"):
            size = resolve_size(request.resolution, manifest, image, notes)
        for picture, what in ((image, "image"), (last_image, "last_image")):
            if picture is not None:
                framing = cover((picture.width, picture.height), (size.width, size.height))
                notes += filter(None, [framing.describe(what)])
        with about("guidance_scale"):
            guidance = checked_or_default(
                manifest.name, "guidance_scale", request.guidance_scale, defaults.guidance_scale, limits.guidance_scale
            )
        if request.negative_prompt and guidance <= 1:
            notes.append(f"negative_prompt has no effect at guidance_scale {number(guidance)}")
        with about("count"):
            require_within("count", request.count, 1, settings.max_count)
        with about("steps"):
            steps = resolve_steps(
                checked_or_default(manifest.name, "steps", request.steps, defaults.steps, limits.steps), manifest
            )
        with about("negative_prompt"):
            negative = checked_text("negative_prompt", negative, limits.prompt_characters).strip()
        with about("lora"):
            loras = resolve_loras(request, manifest, self._loras)
        with about("seed"):
            further = len(request.shots) if isinstance(request, VideoRequest) else 0
            seed = resolve_seed(request.seed, max(request.count, 1 + further))
        with about("check"):
            check = resolve_check(request, manifest, self._catalog, settings)
        common = {
            "check": check,
            "pick": request.pick,
            "task": choice.task,
            "model": manifest.name,
            "preset": request.preset,
            "prompt": self._styled(prompt.strip(), style),
            "prompt_asked": prompt,
            "negative_prompt": negative,
            "style": style,
            "width": size.width,
            "height": size.height,
            "steps": steps,
            "step_cache": resolve_step_cache(request, preset, steps, notes),
            "precision": preset.precision if preset is not None else "auto",
            "lora": loras,
            "guidance_scale": guidance,
            "seed": seed,
            "count": request.count,
            "even_at": manifest.costs.even_at,
            "image": image,
        }
        if isinstance(request, ImageRequest):
            tokens = manifest.costs.tokens(size.width, size.height)
            with about("strength"):
                strength = _strength(request, manifest)
            return ImagePlan(**common, tokens=tokens, strength=strength, notes=tuple(notes))
        with about("duration_s" if request.num_frames is None else "num_frames"):
            num_frames = resolve_frames(request, manifest, notes)
        with about("turbo"):
            turbo = resolve_turbo(request, manifest, preset, self._catalog, notes)
        with about("guidance_scale_2"):
            second_guidance = _second_guidance(request, manifest, defaults)
        with about("shots"):
            styled = partial(self._styled, style=style)
            shots = resolve_shots(request, manifest, seed, styled, self._catalog.serving(Task.IMAGE_TO_VIDEO))
        fps = manifest.frames.fps if manifest.frames else 0.0
        total = num_frames + len(shots) * (num_frames - 1)
        if extends is not None:
            with about("extend"):
                require_extendable(request, manifest, (size.width, size.height), extends)
            notes.append(f"{total - 1} frames go on from the {extends.frames} frames of {extends.source}")
            total += extends.frames - 1
        elif shots:
            notes.append(f"{1 + len(shots)} shots of {num_frames} frames make {total} frames ({total / fps:g} s)")
        return VideoPlan(
            **common,
            turbo=turbo,
            tokens=manifest.costs.tokens(size.width, size.height, num_frames),
            num_frames=num_frames,
            fps=fps,
            duration_s=round(total / fps, 3),
            guidance_scale_2=second_guidance,
            last_image=last_image,
            shots=shots,
            extends=extends,
            notes=tuple(notes),
        )

    def _styled(self, prompt: str, style: str | None) -> str:
        if style is None:
            return prompt
        return self._catalog.styles[style].replace("{prompt}", prompt)

    def _style(self, asked: str | None) -> str | None:
        if asked is None:
            return None
        if (style := spelled(asked, self._catalog.styles)) is None:
            raise BadRequest(f"no style {quoted(asked)}; {suggestion(asked, sorted(self._catalog.styles))}")
        return style


def task_of(request: Request) -> Task:
    """Return the task of a request, which follows from its images.

    Raises:
        BadRequest: It has a last image without a first one.
    """
    if isinstance(request, CaptionRequest):
        return Task.IMAGE_TO_TEXT
    if isinstance(request, ImageRequest):
        return Task.IMAGE_TO_IMAGE if request.image is not None else Task.TEXT_TO_IMAGE
    if request.extend is not None:
        return _task_of_extension(request)
    if request.last_image is not None:
        if request.image is None:
            with about("last_image"):
                raise BadRequest("last_image needs image (the first frame) as well")
        return Task.FIRST_LAST_FRAME_TO_VIDEO
    return Task.IMAGE_TO_VIDEO if request.image is not None else Task.TEXT_TO_VIDEO


def _task_of_extension(request: VideoRequest) -> Task:
    for name in ("image", "frame", "last_image", "last_image_frame"):
        if getattr(request, name) is not None:
            with about(name):
                raise BadRequest(f"extend and {name} exclude each other: the video goes on from its own last frame")
    return Task.IMAGE_TO_VIDEO


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _strength(request: ImageRequest, manifest: Manifest) -> float | None:
    if request.image is None:
        if request.strength is not None:
            raise BadRequest("strength needs image; it sets how much the image may change")
        return None
    if manifest.pipeline.edits:
        if request.strength is not None:
            raise BadRequest(f"model '{manifest.name}' edits images by prompt and has no strength; omit strength")
        return None
    return checked_or_default(
        manifest.name, "strength", request.strength, manifest.defaults.strength, manifest.limits.strength
    )


def _second_guidance(request: VideoRequest, manifest: Manifest, defaults: Defaults) -> float | None:
    if manifest.pipeline.boundary_ratio is None:
        if request.guidance_scale_2 is not None:
            raise BadRequest(f"model '{manifest.name}' has only one expert; omit guidance_scale_2")
        return None
    bounds = manifest.limits.guidance_scale
    return checked_or_default(
        manifest.name, "guidance_scale_2", request.guidance_scale_2, defaults.second_guidance_scale, bounds
    )
