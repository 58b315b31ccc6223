"""Everything that can be chosen on the page, worked out from the manifests and from what this machine can do.

It is encoded once, and again only when something changes that it depends on.
"""

from collections.abc import Hashable, Iterable
from typing import Literal

from anyio.to_thread import run_sync

from wan_mcp.catalog.captions import CaptionSpec
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.sizes import FrameRule, Sizes
from wan_mcp.errors import UserError
from wan_mcp.fronts.web import catalogue_shapes as shapes
from wan_mcp.hardware.machine import Machine
from wan_mcp.planning.check import checking_captioner
from wan_mcp.planning.shots import MOST_SHOTS
from wan_mcp.schema.enums import Kind, Task
from wan_mcp.schema.parameters import MAX_SEED, Parameters
from wan_mcp.schema.requests import CaptionRequest, ImageRequest, VideoRequest
from wan_mcp.service.model_status import ModelStatus
from wan_mcp.service.service import JobService
from wan_mcp.settings import Settings

__all__ = ["CatalogueSource"]

WITHOUT_IMAGE = {Kind.VIDEO: Task.TEXT_TO_VIDEO, Kind.IMAGE: Task.TEXT_TO_IMAGE}
REQUESTS: dict[Kind, type[Parameters]] = {
    Kind.VIDEO: VideoRequest,
    Kind.IMAGE: ImageRequest,
    Kind.CAPTION: CaptionRequest,
}


class CatalogueSource:
    """The catalogue of one service."""

    def __init__(self, service: JobService) -> None:
        self._service = service
        self._version: Hashable = None
        self._number = 0
        self._kept: shapes.Catalogue | None = None

    async def get(self) -> shapes.Catalogue:
        """Return the catalogue as it is now."""
        # Before the list, so that no change between is missed.
        version = await self._service.models_version(), await run_sync(self._loras)
        if self._kept is None or version != self._version:
            self._number += 1
            self._kept, self._version = await self._make(version[1]), version
        return self._kept

    async def _machine(self) -> Machine | None:
        try:
            return await run_sync((await self._service.engines()).machine)
        except (UserError, OSError):  # the catalogue is of use without a job table too
            return None

    def _loras(self) -> tuple[tuple[str, int], ...]:
        try:
            files = sorted((self._service.settings.home / "loras").glob("*.safetensors"))
            return tuple((file.stem, file.stat().st_size) for file in files)
        except OSError:
            return ()

    async def _make(self, loras: tuple[tuple[str, int], ...]) -> shapes.Catalogue:
        service, settings, catalog = self._service, self._service.settings, self._service.catalog
        manifests = list(catalog.manifests.values())
        statuses = await service.model_statuses(manifests)
        machine = await self._machine()
        checked = await run_sync(
            lambda: {each.name for each in manifests if checking_captioner(each, catalog, settings)}
        )
        cards = [_card(each, statuses[each.name], settings, each.name in checked) for each in manifests]
        order = ("here", "fits", "too_large")
        cards.sort(key=lambda card: (order.index(card.group), not card.default_for, card.name))
        return shapes.Catalogue(
            version=str(self._number),
            machine=None if machine is None else shapes.MachineCard(name=machine.name, memory_bytes=machine.memory),
            default_models=settings.default_models,
            models=cards,
            broken={name: str(error) for name, error in catalog.broken.items()},
            styles=[shapes.Style(name=name, words=words) for name, words in sorted(catalog.styles.items())],
            loras=[shapes.Lora(name=name, bytes=size) for name, size in loras],
            max_count=settings.max_count,
            max_shots=MOST_SHOTS,
            max_seed=MAX_SEED,
            image_max_bytes=int(settings.image_max_mb * 1e6),
            image_max_megapixels=settings.image_max_megapixels,
            auto_download=settings.auto_download,
        )


def _card(manifest: Manifest, status: ModelStatus, settings: Settings, checked: bool) -> shapes.ModelCard:
    defaults, limits, weights = manifest.defaults, manifest.limits, manifest.weights
    kinds = sorted({task.kind for task in manifest.tasks})
    offers = {kind: _offers(manifest, kind, settings, checked) for kind in kinds}
    offered = {name for names in offers.values() for name in names}
    group: Literal["here", "fits", "too_large"] = "here" if status.ready else "fits"
    makes = manifest.sizes is not None

    def bounded(name: str, bounds: tuple[float, float], default: float) -> shapes.Range | None:
        if not makes or name not in offered:
            return None
        return shapes.Range(smallest=bounds[0], largest=bounds[1], default=default)

    return shapes.ModelCard(
        name=manifest.name,
        title=manifest.title,
        summary=manifest.summary,
        group=group if status.misfit is None else "too_large",
        default_for=[kind for kind, name in settings.default_models.items() if name == manifest.name],
        tasks=list(manifest.tasks),
        kinds=kinds,
        licence=shapes.Licence(**manifest.licence.model_dump()),
        embedded=weights.embedded is not None,
        disk_bytes=weights.disk_bytes,
        download_bytes=0 if status.ready else weights.disk_bytes,
        misfit=status.misfit,
        offers=offers,
        image_required=[kind for kind in kinds if WITHOUT_IMAGE.get(kind) not in manifest.tasks],
        sizes=_sizes(manifest.sizes) if manifest.sizes else None,
        frames=_frames(manifest.frames) if manifest.frames else None,
        steps=bounded("steps", limits.steps, defaults.steps),
        guidance_scale=bounded("guidance_scale", limits.guidance_scale, defaults.guidance_scale),
        guidance_scale_2=bounded("guidance_scale_2", limits.guidance_scale, defaults.second_guidance_scale),
        strength=bounded("strength", limits.strength, defaults.strength),
        negative_prompt=defaults.negative_prompt if "negative_prompt" in offered else None,
        prompt_characters=limits.prompt_characters,
        loras=limits.loras,
        experts=[expert.name for expert in manifest.pipeline.experts],
        turbo="turbo" in offered,
        presets=list(_presets(manifest, status)),
        caption=_caption(manifest.caption) if manifest.caption else None,
        seconds={task: round(seconds, 2) for task, seconds in status.times.by_task.items()},
    )


def _offers(manifest: Manifest, kind: Kind, settings: Settings, checked: bool) -> list[str]:
    """Return the parameters of a job of this kind that make sense with a model.

    `checked` says that a captioner here can compare its results with their prompts.
    """
    tasks, limits, pipeline, caption = manifest.tasks, manifest.limits, manifest.pipeline, manifest.caption
    by_image = {Kind.VIDEO: Task.IMAGE_TO_VIDEO, Kind.IMAGE: Task.IMAGE_TO_IMAGE, Kind.CAPTION: Task.IMAGE_TO_TEXT}
    varies = limits.guidance_scale[0] < limits.guidance_scale[1]
    no_image = by_image[kind] not in tasks and Task.FIRST_LAST_FRAME_TO_VIDEO not in tasks
    senseless = {
        "image": no_image,
        "frame": no_image,
        "last_image": Task.FIRST_LAST_FRAME_TO_VIDEO not in tasks,
        "last_image_frame": Task.FIRST_LAST_FRAME_TO_VIDEO not in tasks,
        "extend": Task.IMAGE_TO_VIDEO not in tasks or not manifest.family.capabilities.shots,
        "shots": Task.IMAGE_TO_VIDEO not in tasks or not manifest.family.capabilities.shots,
        "negative_prompt": limits.guidance_scale[1] <= 1,
        "preset": not manifest.presets,
        "steps": bool(pipeline.sigmas) or limits.steps[0] == limits.steps[1],
        "guidance_scale": not varies,
        "guidance_scale_2": pipeline.boundary_ratio is None or not varies,
        "turbo": not pipeline.turbo,
        "lora": not limits.loras,
        "strength": pipeline.edits or by_image[Kind.IMAGE] not in tasks or limits.strength[0] == limits.strength[1],
        "count": settings.max_count == 1,
        "check": not checked,
        "pick": not checked or settings.max_count == 1,
        "caption_type": caption is None or len(caption.types) < 2,
        "length": caption is None or (len(caption.lengths) < 2 and caption.words is None),
        "extra_options": caption is None or not caption.options,
    }
    if kind is Kind.CAPTION:
        senseless["prompt"] = caption is None or not caption.free_prompt
        senseless["seed"] = caption is None or not caption.samples
    return [name for name in REQUESTS[kind].parameters() if not senseless.get(name, False)]


def _sizes(sizes: Sizes) -> shapes.SizeChoices:
    return shapes.SizeChoices(
        default=sizes.default,
        named=[
            shapes.Size(name=size.name, width=size.width, height=size.height, aspect=round(size.aspect, 3))
            for size in sizes.named
        ],
        free=sizes.free,
        multiple=sizes.multiple,
        max_pixels=sizes.max_pixels,
    )


def _frames(rule: FrameRule) -> shapes.FrameChoices:
    return shapes.FrameChoices(
        multiple=rule.multiple,
        offset=rule.offset,
        smallest=rule.minimum,
        largest=rule.maximum,
        default=rule.default,
        fps=rule.fps,
        shortest_s=rule.shortest_s,
        longest_s=rule.longest_s,
        words=rule.in_words(),
    )


def _presets(manifest: Manifest, status: ModelStatus) -> Iterable[shapes.Preset]:
    for name, preset in manifest.presets.items():
        seconds = status.times.by_preset.get(name)
        steps = {} if preset.model else {"steps": float(manifest.defaults_of(name).steps)}
        yield shapes.Preset(
            name=name,
            model=preset.model,
            values=steps | preset.values,
            turbo=preset.turbo,
            seconds=None if seconds is None else round(seconds, 2),
        )


def _caption(caption: CaptionSpec) -> shapes.CaptionChoices:
    return shapes.CaptionChoices(
        types=list(caption.types),
        lengths=list(caption.lengths),
        words=caption.words,
        options=caption.listed_options(),
        own_prompt=caption.free_prompt,
    )
