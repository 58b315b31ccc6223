"""A Wan model as diffusers runs it, without anything of ours: what `wan-mcp bench` compares with."""

from collections.abc import Callable
from typing import Any

from diffusers.pipelines.wan.pipeline_wan import WanPipeline
from diffusers.pipelines.wan.pipeline_wan_i2v import WanImageToVideoPipeline

from wan_mcp.engine.components.input_images import open_framed
from wan_mcp.engine.components.load_errors import translate_load_errors
from wan_mcp.engine.components.plain_placement import place_plainly
from wan_mcp.engine.components.scheduler import fix_noise_levels, scheduler_for
from wan_mcp.engine.families.protocol import LoadContext, unsupported
from wan_mcp.engine.families.wan.gguf import load_gguf_denoisers
from wan_mcp.engine.families.wan.lora import fuse_own
from wan_mcp.schema.enums import Task
from wan_mcp.schema.plans import ImagePlan, VideoPlan

__all__ = ["load_plain_wan"]

PIPELINES: dict[Task, Any] = {
    Task.TEXT_TO_VIDEO: WanPipeline,
    Task.TEXT_TO_IMAGE: WanPipeline,
    Task.IMAGE_TO_VIDEO: WanImageToVideoPipeline,
}


def load_plain_wan(
    context: LoadContext, plan: VideoPlan | ImagePlan
) -> tuple[Any, str, Callable[[Any], dict[str, Any]]]:
    """Return the pipeline of a plan's task, how it is placed, and what makes its arguments from a plan.

    The weights, the model's own LoRAs, its scheduler and its noise levels are those of the manifest; the rest is what
    diffusers does by default.

    Raises:
        JobFailed: diffusers has no pipeline for the task, or the weights cannot be read.
    """
    manifest, device, folder = context.manifest, context.device, context.weights.folder
    if plan.task not in PIPELINES:
        raise unsupported(plan)
    options = load_gguf_denoisers(manifest, folder, device, context.weights.extra_files)
    if manifest.pipeline.boundary_ratio is not None:
        options["boundary_ratio"] = manifest.pipeline.boundary_ratio
    with translate_load_errors(manifest, folder):
        pipeline = PIPELINES[plan.task].from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=device.dtype, **options
        )
    fuse_own(manifest, pipeline, context.weights.extra_files)
    scheduler = scheduler_for(manifest.pipeline, pipeline.scheduler)
    if manifest.pipeline.sigmas:
        fix_noise_levels(scheduler, manifest.pipeline.sigmas)
    pipeline.register_modules(scheduler=scheduler)

    def arguments(plan: VideoPlan | ImagePlan) -> dict[str, Any]:
        call: dict[str, Any] = {
            **plan.texts,
            "height": plan.height,
            "width": plan.width,
            "num_frames": plan.frames,
            "num_inference_steps": plan.steps,
            "guidance_scale": plan.guidance_scale,
            "max_sequence_length": manifest.pipeline.text_tokens,
        }
        if isinstance(plan, VideoPlan) and plan.guidance_scale_2 is not None:
            call["guidance_scale_2"] = plan.guidance_scale_2
        if plan.image is not None:
            call["image"] = open_framed(context.media, plan.image, plan)
        return call

    return pipeline, place_plainly(pipeline, device), arguments
