"""The instruction of a captioner, from a type, a length and options, or in the caller's own words."""

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.errors import BadRequest
from wan_mcp.planning.limits import checked_text, require_within
from wan_mcp.schema.parameters import MAX_SEED
from wan_mcp.schema.plans import CaptionPlan, InputImage
from wan_mcp.schema.requests import CaptionRequest

__all__ = ["resolve_caption"]


def resolve_caption(request: CaptionRequest, manifest: Manifest, image: InputImage) -> CaptionPlan:
    """Return the plan of a caption.

    Raises:
        BadRequest: The model does not accept the request; the message says what it accepts.
    """
    spec = manifest.caption
    if spec is None:
        raise BadRequest(f"model '{manifest.name}' cannot make captions; choose a caption model")
    prompt = spec.instruction(manifest.name, request.caption_type, request.length)
    if request.prompt is not None:
        if not spec.free_prompt:
            raise BadRequest(f"model '{manifest.name}' does not support a custom prompt; omit prompt")
        if request.caption_type is not None or request.length is not None:
            raise BadRequest("prompt cannot be combined with caption_type or length; use one or the other")
        prompt = checked_text("prompt", request.prompt, manifest.limits.prompt_characters)
    sentences = spec.sentences(manifest.name, request.extra_options)
    notes = []
    if request.seed is not None:
        require_within("seed", request.seed, 0, MAX_SEED)
        if not spec.samples:
            notes.append(f"'{manifest.name}' is deterministic: the seed has no effect")
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
