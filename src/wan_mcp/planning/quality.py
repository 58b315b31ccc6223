"""Quality and speed of a request: presets, turbo, the step cache and precision."""

from wan_mcp.catalog.catalog import Catalog
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.presets import Preset
from wan_mcp.errors import BadRequest
from wan_mcp.schema.plans import StepCache
from wan_mcp.schema.requests import ImageRequest, VideoRequest
from wan_mcp.text import quoted

__all__ = ["preset_of", "resolve_step_cache", "resolve_turbo"]

MIN_CACHED_STEPS = 20
"""Fewest steps with a step cache: with fewer, each step changes too much to be replaced by the last."""


def preset_of(manifest: Manifest, name: str) -> Preset:
    """Return the preset of that name.

    Raises:
        BadRequest: The model does not have it; the message names those that it has.
    """
    for known, preset in manifest.presets.items():
        if known == name:
            return preset
    has = f"available: {', '.join(manifest.presets)}" if manifest.presets else "it has none; omit preset"
    raise BadRequest(f"model '{manifest.name}' has no preset {quoted(name)}; {has}")


def resolve_turbo(
    request: VideoRequest, manifest: Manifest, preset: Preset | None, catalog: Catalog, notes: list[str]
) -> bool:
    """Return whether attention may skip blocks: as requested, or else as the preset sets it.

    Raises:
        BadRequest: It was requested and the model does not allow it; the message names models that do.
    """
    turbo = request.turbo
    if turbo is None:
        turbo = preset is not None and preset.turbo
    if turbo and not manifest.pipeline.turbo:
        able = ", ".join(sorted(each.name for each in catalog.manifests.values() if each.pipeline.turbo)) or "none"
        raise BadRequest(
            f"model '{manifest.name}' does not support turbo (block-sparse attention); "
            f"omit turbo, or use a model that does: {able}"
        )
    if turbo:
        notes.append(
            "turbo: block-sparse attention after the first step; the result differs from that of dense attention"
        )
    return turbo


def resolve_step_cache(
    request: VideoRequest | ImageRequest, preset: Preset | None, steps: int, notes: list[str]
) -> StepCache | None:
    """Return the preset's step cache, or None where there are too few steps.

    Image to image never has one: its pipeline does not distinguish passes with and without the prompt.
    """
    if isinstance(request, ImageRequest) and request.image is not None:
        return None
    cache = preset.step_cache if preset is not None else None
    if cache is None or steps < MIN_CACHED_STEPS:
        return None
    notes.append("step cache: passes that change little are skipped; the result differs slightly")
    return cache
