"""The request of a job in the words of the tools: sent back as it is, it makes the same result.

A plan also holds what engines need (hashes, sizes of sequences, tokens); this is the part that a caller can ask for.
What the model's manifest fills in by itself is left out where it is long: texts.
"""

import re
from pathlib import Path
from typing import Any

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.errors import UserError
from wan_mcp.media.video_frames import FIRST
from wan_mcp.schema.plans import DATA_URI, CaptionPlan, ImagePlan, InputImage, LoraPlan, Plan, VideoPlan

__all__ = ["repeatable_request"]

VIDEO = re.compile(r"(?:^wan://|/media/)videos/[0-9a-z]{20}-[0-9]{1,3}\.mp4$")
"""The address of a video, or its path."""


def repeatable_request(plan: Plan, manifest: Manifest | None, home: Path) -> dict[str, Any]:
    """Return the parameters of a tool that lead to `plan`; `manifest` is that of its model, None if it is gone."""
    words = _caption(plan, manifest) if isinstance(plan, CaptionPlan) else _generation(plan, manifest, home)
    return {name: value for name, value in words.items() if value is not None}


def _generation(plan: VideoPlan | ImagePlan, manifest: Manifest | None, home: Path) -> dict[str, Any]:
    usual = manifest.defaults_of(plan.preset).negative_prompt.strip() if manifest else None
    video = plan if isinstance(plan, VideoPlan) else None
    extends = video.extends if video else None
    return {
        "prompt": plan.prompt_asked,
        "negative_prompt": None if plan.negative_prompt == usual else plan.negative_prompt or " ",
        "model": plan.model,
        "preset": plan.preset,
        "image": None if extends else _source(plan.image),
        "frame": None if extends else _frame(plan.image),
        "extend": extends.source if extends else None,
        "last_image": _source(video.last_image) if video else None,
        "last_image_frame": _frame(video.last_image) if video else None,
        "strength": plan.strength if isinstance(plan, ImagePlan) else None,
        "resolution": f"{plan.width}x{plan.height}",
        "num_frames": video.num_frames if video else None,
        "steps": plan.steps,
        "guidance_scale": plan.guidance_scale,
        "guidance_scale_2": video.guidance_scale_2 if video else None,
        # A preset may turn it on: only then does False say something.
        "turbo": plan.turbo if plan.turbo or (video and plan.preset) else None,
        "seed": plan.seed,
        "style": plan.style,
        "lora": [_adapter(lora, home) for lora in plan.lora] or None,
        "shots": [{"prompt": shot.prompt_asked} for shot in video.shots] or None if video else None,
        "count": plan.count if plan.count > 1 else None,
        "check": True if plan.check and not plan.pick else None,
        "pick": plan.pick,
    }


def _caption(plan: CaptionPlan, manifest: Manifest | None) -> dict[str, Any]:
    return {
        "image": _source(plan.image),
        "frame": None if plan.more_frames else _frame(plan.image),
        "model": plan.model,
        "caption_type": plan.caption_type,
        "length": plan.length,
        "prompt": _own_words(plan, manifest),
        "extra_options": list(plan.extra_options) or None,
        "seed": plan.seed,
    }


def _own_words(plan: CaptionPlan, manifest: Manifest | None) -> str | None:
    """Return the instruction that the caller wrote; None if the model's manifest wrote it."""
    spec = manifest.caption if manifest else None
    if plan.prompt is None or plan.caption_type or plan.length or spec is None or not spec.free_prompt:
        return None
    try:
        usual = spec.instruction(plan.model, None, None)
        added = " ".join(spec.sentences(plan.model, plan.extra_options))
    except UserError:  # the manifest has changed since
        return None
    own = plan.prompt.removesuffix(added).removesuffix(" ") if added else plan.prompt
    return None if own == (usual or "") else own


def _source(image: InputImage | None) -> str | None:
    """Return what a caller can send for an image: what was sent, or the copy of an image that came in the request."""
    if image is None:
        return None
    return image.uri if image.source == DATA_URI else image.source


def _frame(image: InputImage | None) -> str | None:
    """Return the frame of a video; jobs of versions that had only the first one do not say so."""
    if image is None or image.source == DATA_URI:
        return None
    if image.frame is None:
        return FIRST if VIDEO.search(image.source) else None
    return str(image.frame)


def _adapter(lora: LoraPlan, home: Path) -> dict[str, Any]:
    file = Path(lora.file)
    where = {"name": lora.name} if file.parent == home / "loras" else {"path": lora.file}
    return where | {"scale": lora.scale} | ({"expert": lora.expert} if lora.expert else {})
