"""The results of the listing tools: models with their options, and jobs."""

import logging
import sqlite3
from collections.abc import Iterable
from typing import Any

from anyio.to_thread import run_sync
from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel, ConfigDict

from wan_mcp.catalog.captions import CaptionSpec
from wan_mcp.catalog.manifest import Licence, Manifest
from wan_mcp.catalog.presets import PresetName
from wan_mcp.errors import WanError
from wan_mcp.jobs.store import JobListing
from wan_mcp.schema.enums import JobState, Kind, Task
from wan_mcp.schema.jobs import Job
from wan_mcp.service.describe import fraction_of, what_it_is
from wan_mcp.service.service import JobService
from wan_mcp.service.typical_times import TypicalTimes
from wan_mcp.text import duration, instant, one_line, shortened
from wan_mcp.weights.installed import is_installed

__all__ = ["JobList", "ModelList", "job_list", "model_list"]

log = logging.getLogger(__name__)

PROMPT_SHOWN = 100  # characters of a prompt in a list


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


class ModelEntry(_Listed):
    """A model and its options."""

    name: str
    title: str
    summary: str
    tasks: list[Task]
    resolutions: list[SizeEntry]
    default_resolution: str | None
    free_sizes: str | None
    frames: FrameEntry | None
    defaults: dict[str, Any]
    limits: dict[str, list[float]]
    caption_types: list[str]
    caption_lengths: list[str]
    caption_options: list[str]
    usual_seconds: dict[Task, float]
    presets: dict[str, dict[str, Any]]
    weights_gb: float
    embedded: bool
    ready: bool
    licence: str


class ModelList(_Listed):
    """All models, or the requested ones."""

    models: list[ModelEntry]
    default_models: dict[Kind, str]
    styles: dict[str, str]
    broken: dict[str, str]


class JobEntry(_Listed):
    """A job in one line."""

    job_id: str
    kind: Kind
    status: JobState
    progress: float
    model: str
    prompt: str | None
    error: str | None
    uris: list[str]
    created_at: str
    finished_at: str | None


class JobList(_Listed):
    """Some jobs, the newest first."""

    jobs: list[JobEntry]
    unreadable: dict[str, str]
    """By job id: why this version cannot understand the job's row."""


async def model_list(service: JobService, model: str | None, task: Task | None) -> CallToolResult:
    """Return the models with their options, and the styles.

    Raises:
        UnknownModel: there is no such model.
        BrokenManifest: its file breaks the schema.
    """
    catalog, settings = service.catalog, service.settings
    first = settings.default_models.values()
    all_models = sorted(catalog.manifests.values(), key=lambda m: (m.name not in first, m.name))
    asked = [catalog.get(model)] if model is not None else all_models
    chosen = [manifest for manifest in asked if task is None or task in manifest.tasks]
    usual = await _usual_times(service, chosen)
    listed = ModelList(
        models=[
            _entry(
                manifest,
                usual.get(manifest.name, TypicalTimes({}, {})),
                ready=await run_sync(is_installed, manifest, settings.home),
            )
            for manifest in chosen
        ],
        default_models=settings.default_models,
        styles=catalog.styles,
        broken={name: str(error) for name, error in catalog.broken.items()} if model is None else {},
    )
    return _result("\n".join(_model_lines(listed, task, auto_download=settings.auto_download)), listed)


async def _usual_times(service: JobService, models: list[Manifest]) -> dict[str, TypicalTimes]:
    try:
        return await service.typical_times(models)
    except (WanError, OSError, sqlite3.Error) as error:  # the list is worth having without a job table
        log.warning("no measured times: %s", error)
        return {}


def _entry(manifest: Manifest, usual: TypicalTimes, *, ready: bool) -> ModelEntry:
    sizes, frames, defaults, limits = manifest.sizes, manifest.frames, manifest.defaults, manifest.limits
    named = sizes.named if sizes else ()
    free = f"WIDTHxHEIGHT in multiples of {sizes.multiple}, up to {sizes.max_pixels} pixels" if sizes else ""
    makes = {"steps": defaults.steps, "guidance_scale": defaults.guidance_scale} if sizes else {}
    if manifest.pipeline.boundary_ratio is not None:
        makes["guidance_scale_2"] = defaults.second_guidance_scale
    if Task.IMAGE_TO_IMAGE in manifest.tasks and not manifest.pipeline.edits:
        makes["strength"] = defaults.strength
    ranges = {"steps": limits.steps, "guidance_scale": limits.guidance_scale, "strength": limits.strength}
    return ModelEntry(
        name=manifest.name,
        title=manifest.title,
        summary=manifest.summary,
        tasks=list(manifest.tasks),
        resolutions=[SizeEntry(name=r.name, width=r.width, height=r.height, aspect=round(r.aspect, 3)) for r in named],
        default_resolution=sizes.default if sizes else None,
        free_sizes=free if sizes and sizes.free else None,
        frames=None
        if frames is None
        else FrameEntry(
            rule=frames.describe(),
            minimum=frames.minimum,
            maximum=frames.maximum,
            default=frames.default,
            fps=frames.fps,
            min_duration_s=round(frames.minimum / frames.fps, 3),
            max_duration_s=round(frames.maximum / frames.fps, 3),
        ),
        defaults={**makes, **({"negative_prompt": defaults.negative_prompt} if sizes else {})},
        limits={name: list(bounds) for name, bounds in ranges.items() if name in makes},
        caption_types=list(manifest.caption.types) if manifest.caption else [],
        caption_lengths=_lengths(manifest.caption) if manifest.caption else [],
        caption_options=manifest.caption.listed_options() if manifest.caption else [],
        usual_seconds={task: round(seconds, 2) for task, seconds in usual.by_task.items()},
        presets={name: _preset(manifest, name, usual.by_preset.get(name)) for name in manifest.presets},
        weights_gb=round(manifest.weights.disk_bytes / 1e9, 3),
        embedded=manifest.weights.embedded is not None,
        ready=ready,
        licence=_licence(manifest.licence),
    )


def _preset(manifest: Manifest, name: PresetName, seconds: float | None) -> dict[str, Any]:
    """Return a preset's values and usual time; for a preset served by another model, that model's values."""
    preset = manifest.presets[name]
    values: dict[str, Any] = {"model": preset.model} if preset.model else {"steps": manifest.defaults_of(name).steps}
    values |= preset.values | ({"turbo": True} if preset.turbo else {})
    values |= {"precision": preset.precision} if preset.precision != "auto" else {}
    return values | ({} if seconds is None else {"usual_seconds": round(seconds, 2)})


def _preset_in_words(name: str, values: dict[str, Any]) -> str:
    words = values["model"] if "model" in values else f"{values['steps']} steps"
    words += ", turbo" if values.get("turbo") else ""
    return f"{name} ({words}" + (f", {duration(values['usual_seconds'])})" if "usual_seconds" in values else ")")


def _licence(licence: Licence) -> str:
    gate = " (gated: accept its licence on the hub first)" if licence.gated else ""
    return f"{licence.id}{gate}" + (f"; {licence.conditions}" if licence.conditions else "")


def _lengths(caption: CaptionSpec) -> list[str]:
    words = [f"{caption.words[0]} to {caption.words[1]} (words)"] if caption.words else []
    return [*caption.lengths, *words]


def _model_lines(listed: ModelList, task: Task | None, *, auto_download: bool) -> Iterable[str]:
    if not listed.models:
        yield f"No installed model does {task}." if task else "No models are installed."
    for model in listed.models:
        yield one_line(f"{model.name}: {model.summary}")
        yield f"  tasks: {', '.join(model.tasks)}"
        if not model.embedded:
            missing = "its first job downloads them" if auto_download else f"run 'wan-mcp pull {model.name}'"
            here = "on this machine" if model.ready else f"not downloaded ({missing})"
            yield f"  weights: {model.weights_gb:g} GB, {here}; licence {model.licence}"
        if model.resolutions:
            sizes = ", ".join(f"{r.name} {r.width}x{r.height}" for r in model.resolutions)
            free = f"; or {model.free_sizes}" if model.free_sizes else ""
            yield f"  resolutions: {sizes} (default {model.default_resolution}){free}"
        if (frames := model.frames) is not None:
            yield (
                f"  frames: {frames.rule}, default {frames.default} at {frames.fps:g} fps "
                f"({frames.min_duration_s:g} to {frames.max_duration_s:g} s)"
            )
        if model.limits:
            ranges = (
                f"{name} {a:g} to {b:g} (default {model.defaults[name]})" if a < b else f"{name} fixed at {a:g}"
                for name, (a, b) in model.limits.items()
            )
            yield f"  values: {', '.join(ranges)}"
        if model.presets:
            yield f"  presets: {', '.join(_preset_in_words(name, each) for name, each in model.presets.items())}"
        if model.caption_types:
            lengths = f"; lengths: {', '.join(model.caption_lengths)}" if model.caption_lengths else ""
            yield f"  caption types: {', '.join(model.caption_types)}{lengths}"
        if model.caption_options:
            yield f"  extra options: {', '.join(model.caption_options)}"
        if model.usual_seconds:
            times = (f"{name} {duration(seconds)}" for name, seconds in model.usual_seconds.items())
            yield f"  usual time of a default job: {', '.join(times)}"
    if listed.styles:
        yield f"styles: {', '.join(sorted(listed.styles))}"
    for name, reason in listed.broken.items():
        yield one_line(f"not usable: {name}: {reason}")


def job_list(found: JobListing) -> CallToolResult:
    """Return the result of `list_jobs`."""
    listed = JobList(
        jobs=[_job_entry(job) for job in found.jobs],
        unreadable={job.id: job.reason for job in found.unreadable},
    )
    lines = [
        f"{entry.job_id} {entry.status} {entry.progress:.0%} {what_it_is(job)}"
        + (f", “{one_line(entry.prompt)}”" if entry.prompt else "")
        + (f": {one_line(entry.error)}" if entry.error else "")
        for entry, job in zip(listed.jobs, found.jobs, strict=True)
    ]
    lines += [str(job) for job in found.unreadable]
    return _result("\n".join(lines) or "No matching jobs.", listed)


def _job_entry(job: Job) -> JobEntry:
    prompt = job.plan.prompt_asked
    return JobEntry(
        job_id=job.id,
        kind=job.plan.kind,
        status=job.state,
        progress=fraction_of(job),
        model=job.plan.model,
        prompt=None if prompt is None else shortened(prompt, PROMPT_SHOWN),
        error=job.error.message if job.error else None,
        uris=[artifact.uri for artifact in job.artifacts],
        created_at=instant(job.created_at) or "",
        finished_at=instant(job.finished_at),
    )


def _result(text: str, listed: BaseModel) -> CallToolResult:
    return CallToolResult(
        content=[TextContent(type="text", text=text)], structured_content=listed.model_dump(mode="json")
    )
