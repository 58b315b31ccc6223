"""Run LTX-Video by its pipeline in diffusers. Only engines import this."""

from contextlib import ExitStack
from typing import Any

import torch
from diffusers import LTXPipeline

from wan_mcp.catalog.memory_fit import RESERVE_BYTES, activation_bytes
from wan_mcp.engine.components.hooks import pre_forward_hook
from wan_mcp.engine.components.load_errors import translate_load_errors
from wan_mcp.engine.components.numerics import require_finite
from wan_mcp.engine.components.prompt_cache import note_cut_texts
from wan_mcp.engine.components.receipt import receipt_of
from wan_mcp.engine.families.protocol import LoadContext, unsupported
from wan_mcp.engine.worker.reporter import Reporter
from wan_mcp.media.store import MediaName
from wan_mcp.media.video_writer import VideoWriter
from wan_mcp.schema.enums import Stage
from wan_mcp.schema.plans import Plan, Shape, VideoPlan

__all__ = ["LtxRunner", "load"]


def load(context: LoadContext) -> "LtxRunner":
    """Load the weights onto the device; from safetensors, and from this machine only.

    Raises:
        JobFailed: they cannot be read.
    """
    folder, device = context.weights.folder, context.device
    with translate_load_errors(context.manifest, folder):
        pipeline = LTXPipeline.from_pretrained(folder, local_files_only=True, use_safetensors=True, dtype=device.dtype)
    pipeline.to(device.torch)
    pipeline.set_progress_bar_config(disable=True)
    return LtxRunner(context, pipeline)


class LtxRunner:
    """A loaded model. The first three attributes are what a receipt says of it."""

    def __init__(self, context: LoadContext, pipeline: Any) -> None:
        self.device, self.weights_sha256 = context.device, context.weights_sha256
        self.means = {"precision": context.device.precision, "family": context.manifest.family.package}
        self._context, self._pipeline = context, pipeline

    def run(self, job_id: str, plan: Plan, report: Reporter) -> None:
        """Make all results of a plan, one after the other."""
        if not isinstance(plan, VideoPlan):
            raise unsupported(plan)
        note_cut_texts(plan, self._context.manifest, lambda text: len(self._pipeline.tokenizer(text).input_ids), report)
        for index in range(plan.count):
            seed, item = plan.seed + index, index + 1
            report.enter(Stage.ENCODE, item=item)
            frames = self._frames(plan, seed, item, report)
            report.enter(Stage.WRITE, item=item)
            receipt = receipt_of(plan, seed, self)
            name = MediaName.of(job_id, index, plan.kind)
            writer = VideoWriter(
                self._context.media, name, (plan.width, plan.height), plan.num_frames, plan.fps, receipt
            )
            try:
                writer.add(frames)
            except BaseException:
                writer.abandon()
                raise
            report.add(writer.finish(seed))

    def _frames(self, plan: VideoPlan, seed: int, item: int, report: Reporter) -> Any:
        """One result, as bytes of shape (frames, height, width, 3)."""
        pipeline, stage = self._pipeline, Stage.ENCODE

        def enter(reached: Stage) -> None:
            nonlocal stage
            if stage is not reached:
                stage = reached
                report.enter(stage, item=item)
                if stage is Stage.DENOISE:
                    report.step(0, plan.steps_run)
            report.alive()

        def end_step(_: Any, index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
            self.device.finish()  # on a GPU the step is only queued so far
            report.step(index + 1, plan.steps_run)
            return {}

        with torch.no_grad(), ExitStack() as hooks:
            hooks.enter_context(pre_forward_hook(pipeline.transformer, lambda: enter(Stage.DENOISE)))
            hooks.enter_context(pre_forward_hook(pipeline.vae.decoder, lambda: enter(Stage.DECODE)))
            video = pipeline(
                **plan.texts,
                width=plan.width,
                height=plan.height,
                num_frames=plan.num_frames,
                frame_rate=plan.fps,
                num_inference_steps=plan.steps,
                guidance_scale=plan.guidance_scale,
                max_sequence_length=self._context.manifest.pipeline.text_tokens,
                generator=torch.Generator("cpu").manual_seed(seed),
                callback_on_step_end=end_step,
                output_type="pt",
                return_dict=False,
            )[0][0]
        require_finite(video, "frames")
        return (video.float() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().contiguous().numpy()

    def needed_bytes(self, shape: Shape) -> int:
        """What making a result takes beside the weights, worked out from the manifest's [costs]."""
        return activation_bytes(self._context.manifest, shape, self._context.precision) + RESERVE_BYTES

    def forget(self) -> None:
        """Do nothing: no job keeps anything for the next."""

    def close(self) -> None:
        """Do nothing: no work outlasts a job."""
