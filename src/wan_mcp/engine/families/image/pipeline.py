"""An image plan through one of the image pipelines: encode → denoise → decode → write, per result.

The pipeline is called once for each result and does all three by itself; hooks on its parts say
which of them is at work, and are where a job hears that it should stop.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from wan_mcp.catalog.memory_fit import RESERVE_BYTES, activation_bytes
from wan_mcp.engine.compat import repeated_blocks
from wan_mcp.engine.components.hooks import cancellation_hooks
from wan_mcp.engine.components.input_images import open_framed
from wan_mcp.engine.components.numerics import require_finite
from wan_mcp.engine.components.prompt_cache import PromptEmbeddings, note_cut_texts
from wan_mcp.engine.components.receipt import receipt_of
from wan_mcp.engine.components.step_previews import step_previews
from wan_mcp.engine.device.out_of_memory import retry_with_less
from wan_mcp.engine.families.image.loader import ImageModel, load_image_model
from wan_mcp.engine.families.protocol import LoadContext, unsupported
from wan_mcp.engine.worker.reporter import Reporter
from wan_mcp.media.images import write_image
from wan_mcp.media.store import MediaName
from wan_mcp.schema.enums import Stage
from wan_mcp.schema.plans import ImagePlan, Plan, Shape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")

__all__ = ["ImageRunner", "load_image_family"]


class ImageRunner:
    """Runs image plans on one loaded model."""

    def __init__(self, model: ImageModel, embeddings: PromptEmbeddings) -> None:
        self._model = model
        self._media = model.context.media
        self._embeddings = embeddings

    def run(self, job_id: str, plan: Plan, report: Reporter) -> None:
        """Make all results of a plan, one after the other: each is what a separate job would make.

        Raises:
            JobFailed: it cannot be done; with a code and a reason.
            OutOfSpace: the disk is full.
            JobCancelled, LeaseLost, EngineShutdown: from `report`.
        """
        if not isinstance(plan, ImagePlan) or plan.task not in self._model.pipelines:
            raise unsupported(plan)
        report.enter(Stage.ENCODE)
        call = self._call(plan) | self._fitting(partial(self._texts, plan, report))
        note_cut_texts(plan, self._model.manifest, self._model.tokens_of, report)
        for index in range(plan.count):
            seed, item = plan.seed + index, index + 1
            if index:
                report.enter(Stage.ENCODE, item=item)
            pixels = self._fitting(partial(self._paint, plan, call, seed, item, report))
            report.enter(Stage.WRITE, item=item)
            name = MediaName.of(job_id, index, plan.kind)
            report.add(write_image(self._media, name, pixels, receipt_of(plan, seed, self._model), seed))

    def needed_bytes(self, shape: Shape) -> int:
        """Return what making a result takes in addition to the weights."""
        return activation_bytes(self._model.manifest, shape, self._model.context.precision) + RESERVE_BYTES

    def forget(self) -> None:
        """Drop the embeddings on the device."""
        self._embeddings.clear()

    def close(self) -> None:
        """Do nothing: no work outlasts a job."""

    def _fitting(self, work: Callable[[], T]) -> T:
        """Return the result of `work`; see `retry_with_less`."""
        return retry_with_less(work, self._model.give_way, self._model.device)

    def _call(self, plan: ImagePlan) -> dict[str, Any]:
        """Return the pipeline's arguments that all results of a plan share."""
        pipeline = self._model.manifest.pipeline
        call: dict[str, Any] = {
            "height": plan.height,
            "width": plan.width,
            "num_inference_steps": plan.steps,
            "max_sequence_length": pipeline.text_tokens,
            "output_type": "pt",
            "return_dict": False,
        }
        call |= self._model.family.guidance(plan.guidance_scale)
        if pipeline.sigmas:
            call["sigmas"] = list(pipeline.sigmas)
        if plan.image is not None:
            call["image"] = open_framed(self._media, plan.image, plan)
            if plan.strength is not None:
                # A quarter of a step below, because the pipelines round the steps that they leave out down.
                call["strength"] = (plan.steps_run - 0.25) / plan.steps
        return call

    def _texts(self, plan: ImagePlan, report: Reporter) -> dict[str, Any]:
        """Return the texts among them: embedded once for all results, or unchanged if read with the picture."""
        family, texts = self._model.family, {"prompt": plan.prompt}
        if plan.guided:
            texts["negative_prompt"] = family.negative(plan.negative_prompt)
        if family.encode is None:
            return dict(texts)
        call: dict[str, Any] = {}
        with _listening(self._model, report.alive, report.alive, report.alive):
            for name, text in texts.items():
                call |= family.embedded(name, self._embeddings.of(self._model, text))
        return call

    def _paint(
        self, plan: ImagePlan, call: dict[str, Any], seed: int, item: int, report: Reporter
    ) -> "NDArray[np.uint8]":
        """Return one result, of shape (height, width, 3)."""
        model = self._model
        steps = plan.steps_run
        at = Stage.ENCODE

        def denoising() -> None:
            nonlocal at
            if at is Stage.ENCODE:
                at = Stage.DENOISE
                report.enter(Stage.DENOISE, item=item)
                report.step(0, steps)

        def decoding() -> None:
            nonlocal at
            if at is Stage.DENOISE:
                at = Stage.DECODE
                report.enter(Stage.DECODE, item=item)
            report.check()

        def end_step(pipeline: Any, index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
            model.device.finish()  # what is reported, and what a cancel may end, is done and not only queued
            report.step(index + 1, pipeline.num_timesteps)
            show_preview()
            return {}

        generator = torch.Generator("cpu").manual_seed(seed)
        size = (plan.width, plan.height)
        with (
            torch.no_grad(),
            _listening(model, report.alive, denoising, decoding),
            step_previews(model.parts.scheduler, model.context.latent_rgb, report, size) as show_preview,
        ):
            picture = model.pipelines[plan.task](**call, generator=generator, callback_on_step_end=end_step)[0][0]
        require_finite(picture, "pixels")
        pixels: NDArray[np.uint8] = (
            (picture.float() * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().contiguous().numpy()
        )
        return pixels


@contextmanager
def _listening(
    model: ImageModel, check: Callable[[], None], denoising: Callable[[], None], decoding: Callable[[], None]
) -> Iterator[None]:
    """Call `denoising` and `decoding` before these parts work, and `check` before every other."""
    parts = model.parts
    hooks = [(parts.text_encoder, check), (parts.vae.encoder, check)]
    hooks += [(parts.transformer, denoising), (parts.vae.decoder, decoding)]
    blocks = [(block, check) for part in (parts.text_encoder, parts.transformer) for block in repeated_blocks(part)]
    with cancellation_hooks(model.device, hooks, blocks):
        try:
            yield
        finally:
            if hasattr(parts.vae, "clear_cache"):
                parts.vae.clear_cache()  # a decode that was stopped leaves its features behind


def load_image_family(context: LoadContext) -> ImageRunner:
    """Load an image model and what runs plans on it.

    Raises:
        JobFailed: its weights cannot be read.
    """
    return ImageRunner(load_image_model(context), PromptEmbeddings.kept_in(context.settings, context.weights))
