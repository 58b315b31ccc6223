"""The adapters of a request, and the step count of a distilled model."""

import math

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.errors import BadRequest
from wan_mcp.schema.plans import LoraPlan
from wan_mcp.schema.requests import ImageRequest, VideoRequest
from wan_mcp.text import number, quoted
from wan_mcp.weights.lora_files import LoraFiles

__all__ = ["resolve_loras", "resolve_steps"]

MAX_LORA_SCALE = 10.0


def resolve_loras(request: VideoRequest | ImageRequest, manifest: Manifest, files: LoraFiles) -> tuple[LoraPlan, ...]:
    """Return the adapters of a request, each with its file and hash.

    Raises:
        BadRequest: The model supports none, or not these; the message says why.
    """
    most = manifest.limits.loras
    if len(request.lora) > most:
        limit = f"at most {most} LoRAs per request" if most else "no LoRAs; omit lora"
        raise BadRequest(f"model '{manifest.name}' supports {limit}")
    experts = [expert.name for expert in manifest.pipeline.experts]
    for lora in request.lora:
        if lora.expert is not None and lora.expert not in experts:
            has = f"available: {', '.join(experts)}" if len(experts) > 1 else "it has only one; omit expert"
            raise BadRequest(f"model '{manifest.name}' has no expert {quoted(lora.expert)}; {has}")
        if not math.isfinite(lora.scale) or abs(lora.scale) > MAX_LORA_SCALE:
            raise BadRequest(
                f"lora scale {number(lora.scale)} is not allowed; "
                f"it must be {number(-MAX_LORA_SCALE)} to {number(MAX_LORA_SCALE)}"
            )
        if lora.scale == 0:
            raise BadRequest("lora scale 0 changes nothing; omit the LoRA, or choose another scale")
    plans = []
    for lora in request.lora:
        file = files.find(lora)
        sha256 = files.sha256(file)
        plans.append(LoraPlan(name=file.stem, file=str(file), sha256=sha256, scale=lora.scale, expert=lora.expert))
    return tuple(plans)


def resolve_steps(steps: int, manifest: Manifest) -> int:
    """Return the number of steps after checking that the model supports it.

    Raises:
        BadRequest: It was distilled for another number.
    """
    levels = len(manifest.pipeline.sigmas)
    if levels and steps != levels:
        raise BadRequest(
            f"model '{manifest.name}' was distilled for exactly {levels} steps, at fixed noise levels; "
            f"omit steps, or use another model for {steps} steps"
        )
    return steps
