"""From a manifest of the family `wan` to pipelines that are ready to run.

One set of parts serves all tasks: the image and video pipelines share what the first one loaded.
Only safetensors are read, and only from this machine.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import transformers
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from diffusers.pipelines.wan.pipeline_wan import WanPipeline
from diffusers.pipelines.wan.pipeline_wan_i2v import WanImageToVideoPipeline
from diffusers.pipelines.wan.pipeline_wan_video2video import WanVideoToVideoPipeline

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.attention import sparse_attention_of
from wan_mcp.engine.components.cpu_conv3d import use_onednn
from wan_mcp.engine.components.load_errors import translate_load_errors
from wan_mcp.engine.components.scheduler import fix_noise_levels, scheduler_for
from wan_mcp.engine.components.text_encoder import TextEncoderPlan, place_text_encoder, plan_for
from wan_mcp.engine.device.device import Device
from wan_mcp.engine.families.protocol import LoadContext
from wan_mcp.engine.families.wan.denoiser import Denoiser, load_denoiser
from wan_mcp.engine.families.wan.denoiser_sources import PARTS, denoiser_sources
from wan_mcp.engine.families.wan.gguf import load_gguf_denoisers, unpack
from wan_mcp.engine.families.wan.lora import JobAdapters, fuse_own, own_adapters
from wan_mcp.engine.families.wan.memory_plan import make_room
from wan_mcp.engine.families.wan.precision import block_kinds, scheme_for
from wan_mcp.engine.offload.mapped import map_denoiser, map_text_encoder
from wan_mcp.engine.ops.fp8_linear import FP8
from wan_mcp.engine.transformer.block import BlockKind
from wan_mcp.engine.transformer.checkpoint_cache import WeightsCache
from wan_mcp.engine.transformer.weight_store import ResidentWeights, WeightStore
from wan_mcp.engine.vae.chunked import ChunkedVAE, install_fast_coders
from wan_mcp.errors import JobFailed
from wan_mcp.schema.enums import ComputePrecision, Task
from wan_mcp.schema.plans import ImagePlan, VideoPlan

__all__ = ["WanModel", "load_wan"]

SHARED = ("tokenizer", "text_encoder", "vae", "scheduler", "transformer")
TEXT_TASKS = {Task.TEXT_TO_VIDEO, Task.TEXT_TO_IMAGE}
PICTURE_TASKS = {Task.IMAGE_TO_VIDEO, Task.FIRST_LAST_FRAME_TO_VIDEO}


@dataclass(frozen=True)
class WanModel:
    """A loaded generation model."""

    context: LoadContext
    pipelines: dict[Task, Any]
    """The pipeline of each task that the manifest lists; they share their parts, so one runs at a time."""
    weights_sha256: str
    weight_store: WeightStore
    """Where the blocks of its denoisers live."""
    converted: Mapping[str, Denoiser] = field(default_factory=dict)
    """The denoisers that have fast blocks, by the names of a pipeline's parts."""
    coders: ChunkedVAE | None = None
    """What its VAE encodes and decodes with; None where it does so itself."""
    is_mapped: bool = False
    """Whether its weights stay in their files, for a CPU."""

    @property
    def manifest(self) -> Manifest:
        """What it is."""
        return self.context.manifest

    @property
    def device(self) -> Device:
        """Where it is."""
        return self.context.device

    @property
    def fused_lora(self) -> tuple[dict[str, Any], ...]:
        """The adapters in its weights: name, sha256, scale, expert."""
        return own_adapters(self.manifest, self.context.weights.extra_files)

    @property
    def any_pipeline(self) -> Any:
        """One of the pipelines, for what they share."""
        return next(iter(self.pipelines.values()))

    @property
    def vae(self) -> Any:
        """The shared VAE."""
        return self.any_pipeline.vae

    @property
    def text_encoder(self) -> Any:
        """The shared text encoder."""
        return self.any_pipeline.text_encoder

    def encode(self, text: str) -> Any:
        """Return the embedding of one text, of shape (1, tokens, width), exactly as the pipeline makes it."""
        tokens, device = self.manifest.pipeline.text_tokens, self.device.torch
        return self.any_pipeline.encode_prompt(
            text, do_classifier_free_guidance=False, max_sequence_length=tokens, device=device
        )[0]

    def tokens_of(self, text: str) -> int:
        """Return the number of tokens of a text, before any cut."""
        return len(self.any_pipeline.tokenizer(text, truncation=False, verbose=False)["input_ids"])

    @property
    def precision(self) -> ComputePrecision:
        """What the denoisers multiply in."""
        return "fp8" if any(kind.scheme == FP8 for kind in self.kinds) else self.device.precision

    def forget(self) -> None:
        """Let go of all on the device that can be made again."""
        for denoiser in self.converted.values():
            denoiser.forget()
        self.vae.clear_cache()

    def begin_keeping(self) -> None:
        """Write converted weights to the disk from now on; while a job runs, that would slow it."""
        for denoiser in self.converted.values():
            denoiser.begin_keeping()

    def finish_keeping(self) -> None:
        """Wait until converted weights are on disk, before the model is dropped."""
        for denoiser in self.converted.values():
            denoiser.finish_keeping()

    @property
    def kinds(self) -> set[BlockKind]:
        """The kinds of its fast blocks."""
        return {kind for each in self.converted.values() for kind in each.blocks.kinds}

    @property
    def means(self) -> dict[str, Any]:
        """Return what decides the last bits of a result, besides the weights and the device."""
        precision = FP8 if self.precision == "fp8" else self.precision  # a receipt names the scheme
        acceleration = self.context.acceleration
        return {"precision": precision} | (acceleration.describe(self.kinds) if acceleration else {})

    @property
    def way(self) -> str:
        """How its steps run, as far as their time depends on it, e.g. `fp8-rowwise+cudnn+aot`."""
        means = self.means
        words = [means["precision"], means.get("attention"), "aot" if means.get("packages") else None]
        if self.is_mapped or not isinstance(self.weight_store, ResidentWeights):
            words.append("streamed")
        return "+".join(word for word in words if word)

    def prepare(self, plan: VideoPlan | ImagePlan) -> None:
        """Run a plan as well as this machine can now; called before each job.

        Raises:
            JobFailed: the settings ask for what does not work here.
        """
        blocks, acceleration = [each.blocks for each in self.converted.values()], self.context.acceleration
        build_bytes = acceleration.build_bytes(blocks) if acceleration is not None else 0
        builds = make_room(self.weight_store, self.manifest, self.device, self.precision, plan, build_bytes)
        if acceleration is not None:
            acceleration.prepare(blocks, self.context.requested, plan.engine, builds=builds)

    def finish(self) -> None:
        """Begin what can wait until a job has ended: to keep converted weights, and to build packages."""
        self.begin_keeping()
        acceleration = self.context.acceleration
        if acceleration is None:
            return
        acceleration.resume()
        if acceleration.waiting:  # for room
            self.weight_store.evict()
            self.device.free_memory()
            acceleration.resume()

    def give_way(self, *, decoding: bool = False) -> bool:
        """Free memory of the device after it ran out; return whether trying again can help.

        For `decoding` all blocks can go; they come back with the next pass.
        """
        acceleration = self.context.acceleration
        stopped = acceleration is not None and acceleration.pause()
        smaller = self.weight_store.evictable_bytes > 0 if decoding else self.weight_store.shrink()
        self.forget()
        return stopped or smaller

    @property
    def can_leave_out(self) -> bool:
        """Whether turbo changes anything here."""
        widths = {kind.shape.head_dim for kind in self.kinds}
        return bool(widths) and all(sparse_attention_of(self.device.torch, width) is not None for width in widths)

    def grid_of(self, plan: VideoPlan | ImagePlan) -> tuple[int, int, int]:
        """Return the latent frames, rows and columns of the tokens that a plan's denoiser works on."""
        pipeline = self.any_pipeline
        in_time, in_rows, in_columns = self.denoisers[0].config.patch_size
        return (
            ((plan.frames - 1) // pipeline.vae_scale_factor_temporal + 1) // in_time,
            plan.height // pipeline.vae_scale_factor_spatial // in_rows,
            plan.width // pipeline.vae_scale_factor_spatial // in_columns,
        )

    def job_adapters(self) -> JobAdapters:
        """Return what puts the adapters of jobs on this model."""
        names = {expert.subfolder: expert.name for expert in self.manifest.pipeline.experts}
        converted = {names.get(part, part): denoiser for part, denoiser in self.converted.items()}
        return JobAdapters(self.manifest, self.any_pipeline, converted)

    @property
    def blocks(self) -> list[Any]:
        """The blocks of all denoisers."""
        return [block for denoiser in self.denoisers for block in denoiser.blocks]

    @property
    def denoisers(self) -> list[Any]:
        """The denoiser, or both experts."""
        pipeline = self.any_pipeline
        return [part for part in (pipeline.transformer, getattr(pipeline, "transformer_2", None)) if part is not None]


def load_wan(
    context: LoadContext,
    *,
    cache: WeightsCache | None = None,
    weight_store: WeightStore | None = None,
    reserved_bytes: int = 0,
    mapped: bool = False,
    before_kernels: Callable[[], None] = lambda: None,
) -> WanModel:
    """Load weights that lie as diffusers saves a Wan pipeline onto the device.

    Args:
        context: the model, its weights and the device.
        cache: where converted weights are kept.
        weight_store: where blocks live; None for the device.
        reserved_bytes: bytes of the device that blocks and jobs will still take, before the text encoder.
        mapped: whether weights that a CPU computes with as they are stay in their files.
        before_kernels: called when the weights are there, before a kernel is chosen or checked.

    Raises:
        JobFailed: they cannot be read, or do not do what the manifest says.
    """
    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    manifest, device = context.manifest, context.device
    folder, extra_files = context.weights.folder, context.weights.extra_files
    sha256 = context.weights_sha256  # of what is read here, not of what may lie there later
    weight_store = weight_store or ResidentWeights(device.torch)
    converted = _converted_denoisers(context, cache, weight_store)
    context.check()
    gguf = {} if converted else load_gguf_denoisers(manifest, folder, device, extra_files)
    options: dict[str, Any] = gguf | {part: denoiser.model for part, denoiser in converted.items()}
    if mapped:
        options |= _mapped_parts(manifest, folder, without=options.keys())
    if manifest.pipeline.boundary_ratio is not None:
        options["boundary_ratio"] = manifest.pipeline.boundary_ratio
    first = WanPipeline if set(manifest.tasks) - PICTURE_TASKS else WanImageToVideoPipeline
    with translate_load_errors(manifest, folder):
        pipeline = first.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=device.dtype, **options
        )
    encoder: TextEncoderPlan = "resident" if mapped else plan_for(pipeline.text_encoder, device, reserved_bytes)
    pipeline.register_modules(text_encoder=place_text_encoder(pipeline.text_encoder, device.torch, encoder))
    pipeline.to(device.torch)
    unpack(manifest, pipeline, device, gguf)
    if not converted:
        fuse_own(manifest, pipeline, extra_files)
    if not device.is_cuda:
        use_onednn(pipeline.vae)
    before_kernels()
    coders = install_fast_coders(pipeline.vae) if device.is_cuda else None
    scheduler = scheduler_for(manifest.pipeline, pipeline.scheduler)
    if manifest.pipeline.sigmas:
        fix_noise_levels(scheduler, manifest.pipeline.sigmas)
    pipeline.register_modules(scheduler=scheduler)
    pipelines = {task: _pipeline(task, pipeline, manifest) for task in manifest.tasks}
    for each in pipelines.values():
        each.set_progress_bar_config(disable=True)
    return WanModel(context, pipelines, sha256, weight_store, converted, coders, mapped)


def _mapped_parts(manifest: Manifest, folder: Path, without: Collection[str]) -> dict[str, Any]:
    """Return the text encoder, and the denoisers that are not loaded yet, with weights that stay in their files."""
    with translate_load_errors(manifest, folder):
        denoisers = [part for part in PARTS if part not in without and (folder / part / "config.json").is_file()]
        parts = {part: map_denoiser(WanTransformer3DModel, folder / part) for part in denoisers}
        return parts | {"text_encoder": map_text_encoder(folder / "text_encoder")}


def _converted_denoisers(
    context: LoadContext, cache: WeightsCache | None, weight_store: WeightStore
) -> dict[str, Denoiser]:
    """Return the denoisers with fast blocks, by the names of a pipeline's parts; none where no scheme applies."""
    manifest, device, folder = context.manifest, context.device, context.weights.folder
    scheme = scheme_for(manifest, device, context.requested)
    if scheme is None:
        return {}
    with translate_load_errors(manifest, folder):
        temb_per_token = bool(json.loads((folder / "model_index.json").read_text()).get("expand_timesteps"))
    converted = {}
    for part, source in denoiser_sources(context).items():
        kinds = block_kinds(manifest, source.config, scheme, device.dtype, temb_per_token=temb_per_token)
        if kinds is None:
            return {}
        context.check()
        converted[part] = load_denoiser(source, kinds, device, cache, weight_store)
    return converted


def _pipeline(task: Task, loaded: Any, manifest: Manifest) -> Any:
    """Return the pipeline of a task, from the parts of the loaded one."""
    shared = {name: getattr(loaded, name) for name in SHARED}
    if task in TEXT_TASKS:
        return loaded
    if task in PICTURE_TASKS:
        if isinstance(loaded, WanImageToVideoPipeline):
            return loaded
        return WanImageToVideoPipeline(
            **shared,
            transformer_2=loaded.transformer_2,
            boundary_ratio=loaded.config.boundary_ratio,
            expand_timesteps=loaded.config.expand_timesteps,
        )
    if task is Task.IMAGE_TO_IMAGE and loaded.transformer_2 is None:
        pipeline = WanVideoToVideoPipeline(**shared)
        # It counts the VAE's downsamplings, which misses the patches of the Wan2.2 VAE.
        pipeline.vae_scale_factor_spatial = loaded.vae_scale_factor_spatial
        pipeline.vae_scale_factor_temporal = loaded.vae_scale_factor_temporal
        pipeline.video_processor = loaded.video_processor
        return pipeline
    raise JobFailed(
        "not_supported", f"'{manifest.name}' cannot do {task} with these weights; remove it from its manifest's tasks."
    )
