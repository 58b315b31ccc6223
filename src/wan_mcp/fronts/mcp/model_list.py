"""The answer of `list_resolutions`: one line a model, or everything about one.

An answer is kept for as long as nothing changes that it depends on: agents ask often, and many of them at once.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import anyio
from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel, ConfigDict, Field

from wan_mcp.catalog.captions import CaptionSpec
from wan_mcp.catalog.catalog import Catalog
from wan_mcp.catalog.manifest import Licence, Manifest
from wan_mcp.catalog.memory_fit import Fit
from wan_mcp.catalog.presets import PresetName
from wan_mcp.catalog.quality import Quality
from wan_mcp.schema.enums import Kind, Task
from wan_mcp.service.model_status import ModelStatus
from wan_mcp.service.service import JobService
from wan_mcp.settings import Settings
from wan_mcp.text import duration, in_bytes, one_line, shortened

__all__ = ["ModelList", "ModelListOutline", "ModelLists"]

TEXT_CHARACTERS = 2000
"""Of the list of all models; one that would be longer names the models that do not fit without their tasks, and those
that are not here without their sizes and usual times."""
REASON_CHARACTERS = 160  # of why a manifest is broken
KEPT_ANSWERS = 32
INPUTS = {
    Task.TEXT_TO_VIDEO: "text",
    Task.IMAGE_TO_VIDEO: "image",
    Task.FIRST_LAST_FRAME_TO_VIDEO: "first+last frame",
    Task.TEXT_TO_IMAGE: "text",
    Task.IMAGE_TO_IMAGE: "image",
    Task.IMAGE_TO_TEXT: "image",
}
QUALITIES = {
    Quality.EXACT: "the model's own full precision, nothing left out",
    Quality.NEAR: "fewer bits: other pixels, the same content",
    Quality.CHANGED: "something is left out: the content may differ",
}


class _Listed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SizeEntry(_Listed):
    """A named size."""

    name: str
    width: int
    height: int
    aspect: float


class FrameEntry(_Listed):
    """The frame counts that a video may have."""

    rule: str
    minimum: int
    maximum: int
    default: int
    fps: float
    min_duration_s: float
    max_duration_s: float


class ModelLine(_Listed):
    """A model in the list of all."""

    name: str
    tasks: list[Task]
    default: bool
    fits: bool
    ready: bool
    usual_seconds: dict[Task, float]


class ModelEntry(ModelLine):
    """A model and its options."""

    fit: Fit | None
    misfit: str | None
    quality: Quality | None
    """How close results are to the exact ones here; None for captioners."""
    title: str
    summary: str
    resolutions: list[SizeEntry]
    default_resolution: str | None
    free_sizes: str | None
    frames: FrameEntry | None
    defaults: dict[str, Any]
    limits: dict[str, list[float]]
    caption_types: list[str]
    caption_lengths: list[str]
    caption_options: list[str]
    presets: dict[str, dict[str, Any]]
    weights_gb: float
    embedded: bool
    licence: str


class ModelListOutline(_Listed):
    """The part of the list whose schema is published."""

    message: str


class ModelList(ModelListOutline):
    """All models in short, or the requested one with everything."""

    models: list[ModelEntry | ModelLine]
    devices: list[str] = Field(exclude_if=lambda devices: len(devices) < 2)
    """Those that serve the queue; left out if it is one."""
    default_models: dict[Kind, str]
    styles: dict[str, str]
    broken: dict[str, str]


class ModelLists:
    """The lists of one service's models."""

    def __init__(self, service: JobService) -> None:
        self._service = service
        self._version: Hashable = None
        # Many clients that ask at once share one look at the files, and one list.
        self._one_at_a_time = anyio.Lock()
        self._asked = 0
        self._looked = 0
        self._kept: OrderedDict[tuple[str | None, Task | None], CallToolResult] = OrderedDict()

    async def answer(self, model: str | None, task: Task | None) -> CallToolResult:
        """Return the list: of the models that do `task`, or of `model` with its options.

        Raises:
            UnknownModel: there is no such model.
            BrokenManifest: its file breaks the schema.
        """
        self._asked += 1
        asked = self._asked
        async with self._one_at_a_time:
            if self._looked < asked:  # else somebody has looked since this call came
                coming = self._asked
                version = await self._service.models_version()  # before the list, so that no change between is missed
                self._looked = coming
                if version != self._version:
                    self._kept.clear()
                    self._version = version
            kept = self._kept.get((model, task))
            if kept is None:
                self._kept[model, task] = kept = await self._list(model, task)
                if len(self._kept) > KEPT_ANSWERS:
                    self._kept.popitem(last=False)
            return kept

    async def described(self, model: str) -> str:
        """Return a model with its options, in words.

        Raises:
            UnknownModel: there is no such model.
        """
        [text] = (await self.answer(model, None)).content
        return text.text if isinstance(text, TextContent) else ""

    async def _list(self, model: str | None, task: Task | None) -> CallToolResult:
        catalog, settings = self._service.catalog, self._service.settings
        defaults = settings.default_models
        asked = list(catalog.manifests.values()) if model is None else [catalog.get(model)]
        chosen = [manifest for manifest in asked if task is None or task in manifest.tasks]
        statuses = await self._service.model_statuses(chosen)
        lines = [_line(each, statuses[each.name], defaults) for each in chosen]
        broken = {name: str(error) for name, error in catalog.broken.items()} if model is None else {}
        # What can be used now comes first.
        lines.sort(key=lambda line: (not line.default, not line.fits, not line.ready, line.name))
        listed = ModelList(
            message="",
            models=lines,
            devices=await self._service.devices(),
            default_models=defaults,
            styles=catalog.styles,
            broken=broken,
        )
        if model is None:
            fits = {name: status.fit for name, status in statuses.items()}
            listed.message = _in_short(listed, fits, catalog, task, settings)
        else:
            entries = [_entry(each, line, statuses[each.name]) for each, line in zip(chosen, lines, strict=True)]
            listed.models = [*entries]
            words = _in_full(entries, sorted(listed.styles), task, settings)
            listed.message = "\n".join(map(one_line, words))
        return CallToolResult(
            content=[TextContent(type="text", text=listed.message)], structured_content=listed.model_dump(mode="json")
        )


def _line(manifest: Manifest, status: ModelStatus, defaults: dict[Kind, str]) -> ModelLine:
    return ModelLine(
        name=manifest.name,
        tasks=list(manifest.tasks),
        default=manifest.name in defaults.values(),
        fits=status.misfit is None,
        ready=status.ready,
        usual_seconds={task: _readable(seconds) for task, seconds in status.times.by_task.items()},
    )


def _readable(seconds: float) -> float:
    """Return seconds to the hundredth, or from a hundred on to the second."""
    return round(seconds, 2 if seconds < 100 else 0)


def _in_short(
    listed: ModelList, fits: Mapping[str, Fit | None], catalog: Catalog, task: Task | None, settings: Settings
) -> str:
    """Return one line a model; if that is too long, those that do not fit share one."""
    ends = [one_line(f"styles: {', '.join(sorted(listed.styles))}")] if listed.styles else []
    ends += [
        one_line(f"not usable: {name}: {shortened(why, REASON_CHARACTERS)}") for name, why in listed.broken.items()
    ]
    if not listed.models:
        return "\n".join([f"No installed model does {task}." if task else "No models are installed.", *ends])
    begins = ["* default. More: list_resolutions(model='NAME'). Then generate_image(prompt=…)."]
    if len(listed.devices) > 1:
        begins.append(f"Each of {', '.join(listed.devices)} runs one job at a time.")
    if any(fits[model.name] in (Fit.OFFLOADED, Fit.STREAMED) for model in listed.models):
        begins.append("Resident models are the fastest, streamed ones the slowest.")
    if not settings.auto_download:
        begins.append("Jobs download nothing here: 'wan-mcp pull NAME' fetches a model first.")
    sizes = {each.name: each.weights for each in catalog.manifests.values()}

    def line(model: ModelLine, *, brief: bool = False) -> str:
        size = "still" if brief else in_bytes(sizes[model.name].disk_bytes)
        here = "ready" if model.ready else f"{size} to get"
        how = fits[model.name] or "fits"
        facts = [_makes(model.tasks), f"{how}, {here}" if model.fits else "too large here"]
        if model.usual_seconds and (model.ready or not brief):
            facts.append("usually " + "/".join(duration(each) for each in model.usual_seconds.values()))
        return one_line(f"{model.name}{'*' if model.default else ''}: {'; '.join(facts)}")

    whole = "\n".join([*begins, *map(line, listed.models), *ends])
    if len(whole) <= TEXT_CHARACTERS:
        return whole
    fitting = [line(model, brief=True) for model in listed.models if model.fits or model.default]
    others = ", ".join(model.name for model in listed.models if not (model.fits or model.default))
    tail = [*([f"too large here: {others}"] if others else []), *ends]
    text = "\n".join([*begins, *fitting, *tail])
    return text if len(text) <= TEXT_CHARACTERS else _cut(text)


def _cut(text: str) -> str:
    more = "\n… and more: narrow it with task=."
    return text[: TEXT_CHARACTERS - len(more)].rpartition("\n")[0] + more


def _makes(tasks: Iterable[Task]) -> str:
    """Return what a model makes of what: `text/image to video, text to image`."""
    inputs: dict[Kind, list[str]] = {}
    for task in tasks:
        inputs.setdefault(task.kind, []).append(INPUTS[task])
    return ", ".join(f"{'/'.join(names)} to {kind}" for kind, names in inputs.items())


def _entry(manifest: Manifest, line: ModelLine, status: ModelStatus) -> ModelEntry:
    sizes, frames, defaults, limits = manifest.sizes, manifest.frames, manifest.defaults, manifest.limits
    named = sizes.named if sizes else ()
    makes = {"steps": defaults.steps, "guidance_scale": defaults.guidance_scale} if sizes else {}
    if manifest.pipeline.boundary_ratio is not None:
        makes["guidance_scale_2"] = defaults.second_guidance_scale
    if Task.IMAGE_TO_IMAGE in manifest.tasks and not manifest.pipeline.edits:
        makes["strength"] = defaults.strength
    ranges = {"steps": limits.steps, "guidance_scale": limits.guidance_scale, "strength": limits.strength}
    return ModelEntry(
        **line.model_dump(),
        fit=status.fit,
        misfit=status.misfit,
        quality=status.qualities.get(None) if sizes else None,
        title=manifest.title,
        summary=manifest.summary,
        resolutions=[SizeEntry(name=r.name, width=r.width, height=r.height, aspect=round(r.aspect, 3)) for r in named],
        default_resolution=sizes.default if sizes else None,
        free_sizes=sizes.described() if sizes and sizes.free else None,
        frames=None
        if frames is None
        else FrameEntry(
            rule=frames.describe(),
            minimum=frames.minimum,
            maximum=frames.maximum,
            default=frames.default,
            fps=frames.fps,
            min_duration_s=frames.shortest_s,
            max_duration_s=frames.longest_s,
        ),
        defaults={**makes, **({"negative_prompt": defaults.negative_prompt} if sizes else {})},
        limits={name: list(bounds) for name, bounds in ranges.items() if name in makes},
        caption_types=list(manifest.caption.types) if manifest.caption else [],
        caption_lengths=_lengths(manifest.caption) if manifest.caption else [],
        caption_options=manifest.caption.listed_options() if manifest.caption else [],
        presets={name: _preset(manifest, name, status) for name in manifest.presets},
        weights_gb=round(manifest.weights.disk_bytes / 1e9, 3),
        embedded=manifest.weights.embedded is not None,
        licence=_licence(manifest.licence),
    )


def _preset(manifest: Manifest, name: PresetName, status: ModelStatus) -> dict[str, Any]:
    """Return a preset's values, quality and usual time; for a preset served by another model, that model's values."""
    preset = manifest.presets[name]
    values: dict[str, Any] = {"model": preset.model} if preset.model else {"steps": manifest.defaults_of(name).steps}
    values |= preset.values | ({"turbo": True} if preset.turbo else {})
    values |= {"precision": preset.precision} if preset.precision != "auto" else {}
    if (quality := status.qualities.get(name)) is not None:
        values |= {"quality": quality.value}
    seconds = status.times.by_preset.get(name)
    return values | ({} if seconds is None else {"usual_seconds": round(seconds, 2)})


def _preset_in_words(name: str, values: dict[str, Any], usual: Quality | None) -> str:
    """Describe a preset; its quality only where it is not the usual one of its model."""
    words = values["model"] if "model" in values else f"{values['steps']} steps"
    words += ", turbo" if values.get("turbo") else ""
    words += f", {values['quality']}" if values.get("quality", usual) != usual else ""
    return f"{name} ({words}" + (f", {duration(values['usual_seconds'])})" if "usual_seconds" in values else ")")


def _licence(licence: Licence) -> str:
    gate = " (gated: accept its licence on the hub first)" if licence.gated else ""
    return f"{licence.id}{gate}" + (f"; {licence.conditions}" if licence.conditions else "")


def _lengths(caption: CaptionSpec) -> list[str]:
    words = [f"{caption.words[0]} to {caption.words[1]} (words)"] if caption.words else []
    return [*caption.lengths, *words]


def _how_to_get(model: ModelEntry, settings: Settings) -> str:
    if not settings.auto_download:
        return f"run 'wan-mcp pull {model.name}'"
    unasked = model.weights_gb <= settings.max_download_gb
    return "its first job downloads them" if unasked else "its first job with download=true downloads them"


def _in_full(models: Iterable[ModelEntry], styles: list[str], task: Task | None, settings: Settings) -> Iterable[str]:
    if not models:
        yield f"This model does not do {task}."
    for model in models:
        yield one_line(f"{model.name}: {model.summary}")
        yield f"  tasks: {', '.join(model.tasks)}" + ("; used when no model is named" if model.default else "")
        yield f"  this machine: {model.misfit or 'has enough memory' + (f' ({model.fit})' if model.fit else '')}"
        if not model.embedded:
            here = "on this machine" if model.ready else f"not downloaded ({_how_to_get(model, settings)})"
            yield f"  weights: {model.weights_gb:g} GB, {here}; licence {model.licence}"
        if model.resolutions:
            sizes = ", ".join(f"{r.name} {r.width}x{r.height}" for r in model.resolutions)
            free = f"; or {model.free_sizes}" if model.free_sizes else ""
            yield f"  resolutions: {sizes} (default {model.default_resolution}){free}"
        if (frames := model.frames) is not None:
            yield (
                f"  length: {frames.rule} frames at {frames.fps:g} fps "
                f"({frames.min_duration_s:g} to {frames.max_duration_s:g} s), default {frames.default}"
            )
        if model.limits:
            ranges = (
                f"{name} {a:g} to {b:g} (default {model.defaults[name]})" if a < b else f"{name} fixed at {a:g}"
                for name, (a, b) in model.limits.items()
            )
            yield f"  values: {', '.join(ranges)}"
        if model.quality is not None:
            yield f"  quality here: {model.quality} ({QUALITIES[model.quality]})"
        if model.presets:
            presets = (_preset_in_words(name, each, model.quality) for name, each in model.presets.items())
            yield f"  presets: {', '.join(presets)}"
        if model.caption_types:
            lengths = f"; lengths: {', '.join(model.caption_lengths)}" if model.caption_lengths else ""
            yield f"  caption types: {', '.join(model.caption_types)}{lengths}"
        if model.caption_options:
            yield f"  extra options: {', '.join(model.caption_options)}"
        if model.usual_seconds:
            times = (f"{name} {duration(seconds)}" for name, seconds in model.usual_seconds.items())
            yield f"  usual time of a default job: {', '.join(times)}"
    if styles:
        yield f"styles: {', '.join(styles)}"
