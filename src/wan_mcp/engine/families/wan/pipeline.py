"""A video or image plan through the pipeline of its task: encode → denoise → decode → write, per result.

Frames go to the video's encoder while later ones are decoded, and its file is finished while the next result is
denoised.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch

from wan_mcp.catalog.memory_fit import Placement
from wan_mcp.engine.attention import SparseCount, Turbo, attention_mode
from wan_mcp.engine.components.hooks import cancellation_hooks
from wan_mcp.engine.components.input_images import open_framed
from wan_mcp.engine.components.prompt_cache import PromptEmbeddings, note_cut_texts
from wan_mcp.engine.components.receipt import receipt_of, versions
from wan_mcp.engine.components.scheduler import clear_model_outputs
from wan_mcp.engine.components.step_previews import step_previews
from wan_mcp.engine.cuda_graphs.capture import graph_capture_for
from wan_mcp.engine.cuda_graphs.graphs import ReplayCount, capturing
from wan_mcp.engine.device.out_of_memory import retry_with_less
from wan_mcp.engine.families.protocol import LoadContext, unsupported
from wan_mcp.engine.families.wan.decode import FrameDecoder
from wan_mcp.engine.families.wan.expert_schedule import announce_passes
from wan_mcp.engine.families.wan.finishing_files import finishing_files
from wan_mcp.engine.families.wan.loader import WanModel, load_wan
from wan_mcp.engine.families.wan.memory_plan import job_bytes, memory_plan
from wan_mcp.engine.families.wan.shared_job import (
    help_denoise,
    sharing,
    together,
    why_not_shared,
    without_stops,
)
from wan_mcp.engine.families.wan.shots import make_shots, write_shots
from wan_mcp.engine.families.wan.step_cache import step_cache
from wan_mcp.engine.parallel.job_ranks import JobRanks
from wan_mcp.engine.parallel.rank_group import LOST_WITHIN_S, RankGroup
from wan_mcp.engine.transformer.checkpoint_cache import WeightsCache
from wan_mcp.engine.worker.reporter import Reporter
from wan_mcp.errors import JobFailed
from wan_mcp.media.images import write_image
from wan_mcp.media.input_videos import receipt_in
from wan_mcp.media.kept_shots import KeptShots
from wan_mcp.media.store import MediaName
from wan_mcp.media.video_writer import VideoWriter
from wan_mcp.schema.enums import Stage, Task
from wan_mcp.schema.jobs import Artifact
from wan_mcp.schema.plans import CaptionPlan, ImagePlan, Plan, Shape, VideoPlan

__all__ = ["WanRunner", "load_wan_model"]

log = logging.getLogger(__name__)
T = TypeVar("T")


class WanRunner:
    """Runs plans on one loaded model."""

    def __init__(self, model: WanModel, embeddings: PromptEmbeddings, *, blocks_move: bool = False) -> None:
        """Serve a model; `blocks_move` says whether blocks may leave the device when a job needs room."""
        self._model = model
        self._media = model.context.media
        self._embeddings = embeddings
        self._blocks_move = blocks_move
        self._decoder = FrameDecoder(model)
        self._adapters = model.job_adapters()
        self._recorder = graph_capture_for(model.device.torch)
        self._ranks: JobRanks | None = None
        """The ranks of the job that runs now, if there are several."""

    def unshareable(self, plan: Plan, ranks: int) -> str | None:
        """See `SharedRunner`."""
        return why_not_shared(self._model, plan, ranks)

    def run_shared(self, job_id: str, plan: Plan, report: Reporter, group: RankGroup) -> None:
        """See `SharedRunner`."""
        report.allow(LOST_WITHIN_S)
        self._ranks = JobRanks(group, guidance=_is_guided(plan))
        try:
            self.run(job_id, plan, report)
        finally:
            self._ranks = None

    def help(self, plan: Plan, group: RankGroup, check: Callable[[], None]) -> None:
        """See `SharedRunner`."""
        if isinstance(plan, CaptionPlan):
            raise unsupported(plan)
        self._ranks = ranks = JobRanks(group, guidance=_is_guided(plan))
        try:
            self._model.prepare(plan)
            if self._adapters.change_for(plan.lora):
                self._adapters.use(plan.lora)
            ranks.require_same(self._facts)
            call = self._call(plan)
            for index in range(plan.count):
                latents = help_denoise(self._model, plan, call, plan.seed + index, ranks, check)
                with ranks.together():
                    check()
                self._decoder.help_decode(latents, ranks, check)
        finally:
            self._ranks = None
            self._model.finish()

    @property
    def _facts(self) -> dict[str, Any]:
        """Return what ranks must have in common."""
        model = self._model
        return {"weights": model.weights_sha256, "device": model.device.description, **versions(), **model.means}

    def run(self, job_id: str, plan: Plan, report: Reporter) -> None:
        """Make all results of a plan, one after the other: each is what a separate job would make.

        Raises:
            JobFailed: it cannot be done; with a code and a reason.
            OutOfSpace: the disk is full.
            JobCancelled, LeaseLost, EngineShutdown: from `report`.
        """
        if isinstance(plan, CaptionPlan) or plan.task not in self._model.pipelines:
            raise unsupported(plan)
        report.enter(Stage.ENCODE)
        self._model.prepare(plan)
        try:
            self._run(job_id, plan, report)
        finally:
            self._model.finish()

    def _run(self, job_id: str, plan: VideoPlan | ImagePlan, report: Reporter) -> None:
        report.runs_as(self._model.way if self._ranks is None else f"{self._model.way}+{self._ranks.group.size}gpus")
        asked = plan.engine.attention if plan.engine is not None else None
        if asked is not None and not self._model.kinds:
            report.note(f"attention {asked} has no effect on '{plan.model}' here, whose attention is that of diffusers")
        if self._adapters.change_for(plan.lora):
            report.tell("changing LoRAs", slow=True)
            self._adapters.use(plan.lora)
            report.tell("")
        for sentence in self._adapters.notes:
            report.note(sentence)
        if self._ranks is not None:
            self._ranks.require_same(self._facts)
        turbo = SparseCount()
        if isinstance(plan, VideoPlan) and (plan.shots or plan.extends):
            self._run_shots(job_id, plan, report, turbo)
        else:
            self._run_results(job_id, plan, report, turbo)
        if plan.turbo and (note := self._turbo_note(plan, turbo)) is not None:
            report.note(note)

    def _run_results(self, job_id: str, plan: VideoPlan | ImagePlan, report: Reporter, turbo: SparseCount) -> None:
        with finishing_files() as files, self._recorded(plan) as graphs:
            fitting = partial(self._fitting, graphs)
            call = fitting(partial(self._call, plan))
            note_cut_texts(plan, self._model.manifest, self._model.tokens_of, report)
            for index in range(plan.count):
                seed, item = plan.seed + index, index + 1
                latents = fitting(partial(self._denoise, plan, call, seed, item, report, turbo))
                with together(self._ranks):
                    files.require_no_failure()
                    report.enter(Stage.DECODE, item=item)
                name = MediaName.of(job_id, index, plan.kind)
                finish = fitting(
                    partial(self._decode, name, plan, latents, seed, report, turbo.sparse > 0), decoding=True
                )
                del latents
                files.finish(finish, report.add)  # before anything that may raise: what is open is closed then
                report.enter(Stage.WRITE, item=item)

    def _run_shots(self, job_id: str, plan: VideoPlan, report: Reporter, turbo: SparseCount) -> None:
        """Make a video in parts, which are kept as they are finished, and write it when all are there."""
        receipt = receipt_of(plan, plan.seed, self._model, self._model.fused_lora, sparse=plan.turbo)
        if plan.extends is not None:  # its seeds are as needed as ours
            receipt["extends"] = receipt_in(self._media.home, plan.extends)
        kept = KeptShots(self._media.home, job_id, receipt)

        def make(shot: VideoPlan, item: int, first_frame: Any) -> Any:
            with self._recorded(shot) as graphs:
                call = self._fitting(graphs, partial(self._call, shot))
                if first_frame is not None:
                    call["image"] = first_frame
                latents = self._fitting(graphs, partial(self._denoise, shot, call, shot.seed, item, report, turbo))
                report.enter(Stage.DECODE, item=item)
                return self._fitting(graphs, partial(self._frames, latents, report), decoding=True)

        for shot in plan.in_shots():
            note_cut_texts(shot, self._model.manifest, self._model.tokens_of, report)
        make_shots(plan, kept, make, report)
        writer = VideoWriter(
            self._media, MediaName.of(job_id, 0, plan.kind), (plan.width, plan.height), plan.total_frames, plan.fps,
            receipt,
        )  # fmt: skip
        try:
            write_shots(plan, kept, writer, report, self._media.home)
        except BaseException:
            writer.abandon()
            raise
        report.add(writer.finish(plan.seed))

    def _frames(self, latents: Any, report: Reporter) -> Any:
        with closing(self._decoder.frames(latents, report)) as parts:
            return np.concatenate(list(parts))

    def _fitting(self, graphs: ReplayCount, work: Callable[[], T], *, decoding: bool = False) -> T:
        """Return the result of `work`; see `retry_with_less`. Ranks do not retry: the others would not know."""
        if self._ranks is not None:
            return work()

        def give_way() -> bool:
            graphs.release()
            return self._model.give_way(decoding=decoding)

        return retry_with_less(work, give_way, self._model.device)

    def _turbo_note(self, plan: VideoPlan | ImagePlan, count: SparseCount) -> str | None:
        """Return what a caller who asked for turbo should know, if it did less than that."""
        if not count.sparse:
            if plan.steps_run <= Turbo().dense_steps:
                why = "the first step always attends to everything, and there is no other"
            elif self._model.can_leave_out:
                why = "a result of this size has too few tokens to leave any out, attention was dense"
            else:
                why = "nothing on this device can leave out parts of attention, it was dense"
            return f"turbo changed nothing: {why}"
        if count.dense:
            return f"turbo worked in part: {count.dense} of {count.dense + count.sparse} attentions were dense"
        return None

    def needed_bytes(self, shape: Shape) -> int:
        """Return what making a result takes in addition to what is there.

        Blocks that can move count whole: they would take the other model's room.
        """
        manifest, precision = self._model.manifest, self._model.context.precision
        working = job_bytes(manifest, precision, shape, blocks_move=self._blocks_move)
        return working - self._model.weight_store.evictable_bytes

    def close(self) -> None:
        """End what still needs the model's memory, before it is dropped."""
        self._model.finish_keeping()

    def forget(self) -> None:
        """Free everything on the device that can be made again."""
        self._model.forget()
        self._embeddings.clear()

    def _recorded(self, plan: VideoPlan | ImagePlan) -> AbstractContextManager[ReplayCount]:
        """Record forwards that are mostly launches as CUDA graphs, if all forwards of a job do the same."""
        alone = self._ranks is None or self._ranks.context_size == 1
        same = plan.step_cache is None and not plan.turbo and alone
        denoisers = [(each.model, each.blocks) for each in self._model.converted.values()] if same else []
        return capturing(denoisers, self._recorder, plan.steps_run * plan.count)

    def _call(self, plan: VideoPlan | ImagePlan) -> dict[str, Any]:
        """Return the pipeline's arguments that all results of a plan share."""
        call: dict[str, Any] = {
            **{f"{name}_embeds": self._embedding(text) for name, text in plan.texts.items()},
            "height": plan.height,
            "width": plan.width,
            "num_inference_steps": plan.steps,
            "guidance_scale": plan.guidance_scale,
            "max_sequence_length": self._model.manifest.pipeline.text_tokens,
            "output_type": "latent",
            "return_dict": False,
        }
        if isinstance(plan, ImagePlan):
            return call | self._still_arguments(plan)
        call["num_frames"] = plan.num_frames
        if plan.guidance_scale_2 is not None:
            call["guidance_scale_2"] = plan.guidance_scale_2
        if plan.image is not None:
            call["image"] = open_framed(self._media, plan.image, plan)
        if plan.last_image is not None:
            if self._model.pipelines[plan.task].config.expand_timesteps:
                raise JobFailed("not_supported", f"'{plan.model}' accepts a first image only; omit last_image.")
            call["last_image"] = open_framed(self._media, plan.last_image, plan)
        return call

    def _embedding(self, text: str) -> Any:
        """Return the embedding of a text; the first of several ranks sends it to the others."""
        ranks = self._ranks
        if ranks is None:
            return self._embeddings.of(self._model, text)
        made = self._embeddings.of(self._model, text).to(self._model.denoisers[0].dtype) if ranks.first else None
        return ranks.from_first(made)

    def _still_arguments(self, plan: ImagePlan) -> dict[str, Any]:
        if plan.task is Task.TEXT_TO_IMAGE or plan.image is None:
            return {"num_frames": 1}
        # Half a step above, because the pipeline rounds steps * strength down.
        strength = (plan.steps_run + 0.5) / plan.steps
        return {"video": [open_framed(self._media, plan.image, plan)], "strength": strength}

    def _denoise(
        self,
        plan: VideoPlan | ImagePlan,
        call: dict[str, Any],
        seed: int,
        item: int,
        report: Reporter,
        turbo: SparseCount,
    ) -> Any:
        """Return the finished latents of one result."""
        model, pipeline, ranks = self._model, self._model.pipelines[plan.task], self._ranks
        began = False

        def begin() -> None:  # what the pipeline does before the first pass (encoding a picture) is still encoding
            nonlocal began
            if not began:
                began = True
                announce_passes(model.weight_store, pipeline)
                report.enter(Stage.DENOISE, item=item)
                report.step(0, plan.steps_run)

        def end_step(pipeline: Any, index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
            model.device.finish()  # what is reported, and what a cancel may end, is done and not only queued
            with together(ranks):
                report.step(index + 1, pipeline.num_timesteps)
            show_preview()
            mode.step = index + 1
            return {}

        check, start, alive = report.check, begin, report.alive
        if ranks is not None:  # which stop together, at the end of a step
            check, start, alive = (without_stops(hook) for hook in (check, start, alive))
        parts = [(model.vae.encoder, check), *((denoiser, start) for denoiser in model.denoisers)]
        generator = torch.Generator("cpu").manual_seed(seed)
        rgb, size = model.context.latent_rgb, (plan.width, plan.height)
        first_is_given = pipeline.config.get("expand_timesteps", False) and "image" in call
        try:
            with (
                step_previews(pipeline.scheduler, rgb, report, size, leave_out=int(first_is_given)) as show_preview,
                cancellation_hooks(model.device, parts, [(block, alive) for block in model.blocks]),
                step_cache(model.denoisers, plan.step_cache) as count,
                attention_mode(Turbo() if plan.turbo else None, grid=model.grid_of(plan), count=turbo) as mode,
                sharing(ranks, model.denoisers, call),
            ):
                latents = pipeline(**call, generator=generator, callback_on_step_end=end_step)[0]
        finally:
            clear_model_outputs(pipeline.scheduler)
        if plan.step_cache is not None:
            report.note(f"step cache: {count.left_out} of {count.passes} passes were left out")
        return latents

    def _decode(
        self, name: MediaName, plan: VideoPlan | ImagePlan, latents: Any, seed: int, report: Reporter, sparse: bool
    ) -> Callable[[], Artifact]:
        """Return what is left to do for the file of one result, once its frames are made; `sparse` as in receipts."""
        receipt = receipt_of(plan, seed, self._model, self._model.fused_lora, sparse=sparse)
        if self._ranks is not None:
            receipt |= self._ranks.describe()
        frames = self._decoder.frames(latents, report, self._ranks)
        if not isinstance(plan, VideoPlan):
            with closing(frames):
                pixels = next(frames)[0]
            return lambda: write_image(self._media, name, pixels, receipt, seed)
        writer = VideoWriter(self._media, name, (plan.width, plan.height), plan.num_frames, plan.fps, receipt)
        try:
            with closing(frames):
                for some in frames:
                    writer.add(some)
        except BaseException:
            writer.abandon()
            raise
        return lambda: writer.finish(seed)


def _is_guided(plan: Plan) -> bool:
    return not isinstance(plan, CaptionPlan) and plan.guided


def load_wan_model(context: LoadContext, before_kernels: Callable[[], None]) -> WanRunner:
    """Load a Wan model, its blocks where its memory plan puts them, and what runs plans on it.

    `before_kernels` is called when the weights are there, before a kernel is chosen or checked.

    Raises:
        JobFailed: its weights cannot be read, or do not do what the manifest says.
    """
    memory = memory_plan(context.manifest, context.device, context.precision)
    if not memory.whole and context.make_room():
        memory = memory_plan(context.manifest, context.device, context.precision)
    log.info("%s", memory.describe())
    model = load_wan(
        context,
        cache=WeightsCache(context.settings.home / "converted"),
        weight_store=memory.weight_store(context.device),
        reserved_bytes=memory.to_come,
        mapped=memory.placement is Placement.MAPPED,
        before_kernels=before_kernels,
    )
    embeddings = PromptEmbeddings.kept_in(context.settings, context.weights)
    return WanRunner(model, embeddings, blocks_move=not memory.stays)
