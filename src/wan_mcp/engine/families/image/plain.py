"""An image model as diffusers runs it, without anything of ours: what `wan-mcp bench` compares with."""

import inspect
from collections.abc import Callable
from typing import Any

import diffusers

from wan_mcp.engine.components.input_images import open_framed
from wan_mcp.engine.components.load_errors import translate_load_errors
from wan_mcp.engine.components.plain_placement import place_plainly
from wan_mcp.engine.components.qwen_processor import QwenProcessor
from wan_mcp.engine.components.scheduler import scheduler_for
from wan_mcp.engine.families.image.image_families import IMAGE_FAMILIES
from wan_mcp.engine.families.protocol import LoadContext, unsupported
from wan_mcp.schema.plans import ImagePlan

__all__ = ["load_plain_image_model"]


def load_plain_image_model(context: LoadContext, plan: ImagePlan) -> tuple[Any, str, Callable[[Any], dict[str, Any]]]:
    """Return the pipeline of a plan's task, how it is placed, and what makes its arguments from a plan.

    The weights and the scheduler are those of the manifest; the rest is what diffusers does by default.

    Raises:
        JobFailed: diffusers has no pipeline for the task, or the weights cannot be read.
    """
    manifest, device, folder = context.manifest, context.device, context.weights.folder
    family = IMAGE_FAMILIES[manifest.pipeline.family]
    if plan.task not in family.pipelines:
        raise unsupported(plan)
    looks = family.encode is None
    given: dict[str, Any] = {"processor": None} if looks else {}  # that of transformers needs torchvision
    with translate_load_errors(manifest, folder):
        pipeline = getattr(diffusers, family.pipelines[plan.task]).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=device.dtype, **given
        )
    if looks:
        pipeline.register_modules(processor=QwenProcessor(folder / "processor"))
    pipeline.register_modules(scheduler=scheduler_for(manifest.pipeline, pipeline.scheduler))
    accepted = inspect.signature(pipeline.__call__).parameters

    def arguments(plan: ImagePlan) -> dict[str, Any]:
        call: dict[str, Any] = {
            "prompt": plan.prompt,
            "height": plan.height,
            "width": plan.width,
            "num_inference_steps": plan.steps,
            "max_sequence_length": manifest.pipeline.text_tokens,
        } | family.guidance(plan.guidance_scale)
        if plan.guided and "negative_prompt" in accepted:
            call["negative_prompt"] = family.negative(plan.negative_prompt)
        if manifest.pipeline.sigmas:
            call["sigmas"] = list(manifest.pipeline.sigmas)
        if plan.image is not None:
            call["image"] = open_framed(context.media, plan.image, plan)
        return call

    return pipeline, place_plainly(pipeline, device), arguments
