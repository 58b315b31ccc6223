"""How a request may be quicker, or better, than its model's own values: presets, turbo, passes left out, precision."""

from wan_mcp.catalog.catalog import Catalog
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.presets import Preset
from wan_mcp.errors import BadRequest
from wan_mcp.schema.plans import StepCache
from wan_mcp.schema.requests import ImageRequest, VideoRequest

__all__ = ["preset_of", "resolve_step_cache", "resolve_turbo"]

MIN_CACHED_STEPS = 20
"""With fewer steps each changes too much for one to stand for the next."""


def preset_of(manifest: Manifest, name: str) -> Preset:
    """The preset of that name.

    Raises:
        BadRequest: the model has none; names those that it has.
    """
    for known, preset in manifest.presets.items():
        if known == name:
            return preset
    has = f"there are: {', '.join(manifest.presets)}" if manifest.presets else "it has none: leave preset out"
    raise BadRequest(f"model '{manifest.name}' has no preset '{name[:40]}'; {has}")


def resolve_turbo(
    request: VideoRequest, manifest: Manifest, preset: Preset | None, catalog: Catalog, notes: list[str]
) -> bool:
    """Whether attention may leave blocks out: as asked, else as the preset says.

    Raises:
        BadRequest: it was asked for and the model does not allow it; names those that do.
    """
    turbo = request.turbo
    if turbo is None:
        turbo = preset is not None and preset.turbo
    if turbo and not manifest.pipeline.turbo:
        able = ", ".join(sorted(each.name for each in catalog.manifests.values() if each.pipeline.turbo)) or "none"
        raise BadRequest(
            f"model '{manifest.name}' has no turbo: its manifest does not allow attention to leave blocks out; "
            f"leave turbo out, or take one that does: {able}"
        )
    if turbo:
        notes.append("turbo: block-sparse attention after the first step; the picture differs from the dense one")
    return turbo


def resolve_step_cache(
    request: VideoRequest | ImageRequest, preset: Preset | None, steps: int, notes: list[str]
) -> StepCache | None:
    """Which passes may be left out: what the preset says, where there are steps to spare.

    Never of an image after an image: its pipeline does not tell passes with and without the prompt apart.
    """
    if isinstance(request, ImageRequest) and request.image is not None:
        return None
    cache = preset.step_cache if preset is not None else None
    if cache is None or steps < MIN_CACHED_STEPS:
        return None
    notes.append("step cache: passes that change little are left out; the picture differs a little from the full one")
    return cache
