"""Load image models whose diffusers pipelines run as they are, from the prompt to the finished picture.

One set of parts serves all tasks of a model. Where the parts go follows from what the device has free.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_type_hints

import diffusers
import torch
import transformers

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.memory_fit import RESERVE_BYTES, Placement, activation_bytes, extreme_shapes, placement_for
from wan_mcp.engine.components.cpu_conv3d import use_onednn
from wan_mcp.engine.components.load_errors import translate_load_errors
from wan_mcp.engine.components.qwen_processor import QwenProcessor
from wan_mcp.engine.components.scheduler import scheduler_for
from wan_mcp.engine.device.device import Device
from wan_mcp.engine.device.memory import available_bytes
from wan_mcp.engine.device.upload import upload_module
from wan_mcp.engine.families.image.image_families import IMAGE_FAMILIES, ImageFamily
from wan_mcp.engine.families.protocol import LoadContext
from wan_mcp.engine.offload.layerwise import OffloadedEncoder, offload_layerwise
from wan_mcp.engine.offload.mapped import map_denoiser, map_text_encoder
from wan_mcp.schema.enums import Task
from wan_mcp.schema.plans import Shape
from wan_mcp.text import in_bytes

__all__ = ["ImageModel", "ImageOffload", "choose_plan", "load_image_model"]

log = logging.getLogger(__name__)

ImageOffload = Literal["resident", "mapped", "encoder-offloaded", "streamed"]
DESCRIPTIONS: dict[ImageOffload, str] = {
    "resident": "all parts stay on the device",
    "mapped": "the text encoder and the denoiser stay in their files, from which a CPU reads each layer in every pass",
    "encoder-offloaded": "the text encoder comes to the device layer by layer, while it reads a prompt",
    "streamed": "the text encoder and the denoiser come to the device layer by layer, in every pass",
}
"""What each plan means. Results are the same to the bit; only the last costs time in every step."""
ORDER: tuple[ImageOffload, ...] = ("resident", "encoder-offloaded", "streamed")
"""From most to least memory on a GPU."""


@dataclass
class ImageModel:
    """A loaded image model."""

    context: LoadContext
    family: ImageFamily
    pipelines: dict[Task, Any]
    """The pipeline of each task that the manifest lists; they share their parts, so one runs at a time."""
    weights_sha256: str
    offload: ImageOffload = "resident"
    """Where its parts are."""

    def give_way(self) -> bool:
        """Stop a build, and move another part to main memory, after memory ran out; return whether it can help."""
        stopped = self.context.acceleration is not None and self.context.acceleration.pause()
        if not _has_own_memory(self.device) or self.offload == ORDER[-1]:
            return stopped
        self.offload = ORDER[ORDER.index(self.offload) + 1]
        log.info("%s from now on: %s", self.manifest.name, DESCRIPTIONS[self.offload])
        _offload(self.pipelines.values(), self.device, self.offload)
        return True

    @property
    def manifest(self) -> Manifest:
        """What it is."""
        return self.context.manifest

    @property
    def device(self) -> Device:
        """Where it is."""
        return self.context.device

    @property
    def means(self) -> dict[str, Any]:
        """Return what decides the last bits of a result, besides the weights and the device."""
        return {"precision": self.device.precision}

    @property
    def parts(self) -> Any:
        """One of the pipelines, for the parts that they share."""
        return next(iter(self.pipelines.values()))

    @property
    def text_encoder(self) -> Any:
        """The shared text encoder."""
        return self.parts.text_encoder

    def tokens_of(self, text: str) -> int:
        """Return the number of tokens of a text, before any cut."""
        return self.family.tokens(self.parts, text)

    def encode(self, text: str) -> Any:
        """Return the embedding of one text, of shape (1, tokens, width), exactly as the pipelines make it."""
        if self.family.encode is None:
            raise TypeError("its text encoder looks at the picture, too")
        return self.family.encode(self.parts, text, self.manifest.pipeline.text_tokens)


def load_image_model(context: LoadContext) -> ImageModel:
    """Load weights that lie as diffusers saves a pipeline onto the device.

    Raises:
        JobFailed: they cannot be read.
    """
    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    manifest, folder, device = context.manifest, context.weights.folder, context.device
    family = IMAGE_FAMILIES[manifest.pipeline.family]
    first = getattr(diffusers, family.pipelines[manifest.tasks[0]])
    looks = family.encode is None
    given: dict[str, Any] = {"processor": None} if looks else {}
    mapped = _stays_in_files(manifest, device)
    with translate_load_errors(manifest, folder):
        if mapped:
            kind = get_type_hints(first.__init__)["transformer"]
            given |= {
                "transformer": map_denoiser(kind, folder / "transformer"),
                "text_encoder": map_text_encoder(folder / "text_encoder"),
            }
        loaded = first.from_pretrained(folder, local_files_only=True, use_safetensors=True, dtype=device.dtype, **given)
        _require_classes(loaded)
        if looks:
            loaded.register_modules(processor=QwenProcessor(folder / "processor"))
    plan = "mapped" if mapped else _plan_for(manifest, loaded, device)
    if plan not in ("resident", "mapped") and context.make_room():
        plan = _plan_for(manifest, loaded, device)
    _place(loaded, device, plan)
    if not device.is_cuda:
        use_onednn(loaded.vae)
    loaded.register_modules(scheduler=scheduler_for(manifest.pipeline, loaded.scheduler))
    pipelines = {task: _pipeline(family.pipelines[task], loaded) for task in manifest.tasks}
    for pipeline in pipelines.values():
        pipeline.set_progress_bar_config(disable=True)
    return ImageModel(context, family, pipelines, context.weights_sha256, plan)


def _stays_in_files(manifest: Manifest, device: Device) -> bool:
    """Check whether a CPU has no room for all weights of a model, while it makes its largest picture."""
    if device.is_cuda:
        return False
    memory = available_bytes(device)
    placements = {placement_for(manifest, memory, device.precision, shape) for shape in extreme_shapes(manifest)}
    return Placement.MAPPED in placements


def _plan_for(manifest: Manifest, loaded: Any, device: Device) -> ImageOffload:
    """Return the plan for parts in main memory, by what is free on the device now; the log says which."""
    if not device.is_cuda:
        return "resident"
    sizes = manifest.sizes.named if manifest.sizes else ()
    working = max((activation_bytes(manifest, Shape(s.width, s.height), device.precision) for s in sizes), default=0)
    free, _ = torch.cuda.mem_get_info(device.torch)
    bytes_of = {name: _bytes(getattr(loaded, name)) for name in ("text_encoder", "transformer", "vae")}
    plan = choose_plan(bytes_of, working + RESERVE_BYTES // 2, free)
    log.info(
        "%s: %s; %s free for %s and %s of work", manifest.name, DESCRIPTIONS[plan], in_bytes(free),
        ", ".join(f"{name} ({in_bytes(size)})" for name, size in bytes_of.items()), in_bytes(working),
    )  # fmt: skip
    return plan


def choose_plan(bytes_of: Mapping[str, int], working: int, free: int) -> ImageOffload:
    """Return the first plan that has room: resident, encoder-visits, streamed.

    Args:
        bytes_of: the sizes of text_encoder, transformer and vae.
        working: what a job needs besides them.
        free: what the device has left.
    """
    staying = bytes_of["transformer"] + bytes_of["vae"] + working
    if staying + bytes_of["text_encoder"] <= free:
        return "resident"
    return "encoder-offloaded" if staying <= free else "streamed"


def _place(loaded: Any, device: Device, plan: ImageOffload) -> None:
    if plan in ("resident", "mapped"):
        for part in loaded.components.values():
            if isinstance(part, torch.nn.Module):
                upload_module(part, device.torch)
        return
    _offload([loaded], device, plan)
    upload_module(loaded.vae, device.torch)
    if plan != "streamed":
        upload_module(loaded.transformer, device.torch)


def _offload(pipelines: Iterable[Any], device: Device, plan: ImageOffload) -> None:
    """Leave in main memory, or move there, what the plan does not keep on the device; pipelines share their parts."""
    first, *others = pipelines
    if not isinstance(first.text_encoder, OffloadedEncoder):
        encoder = OffloadedEncoder(first.text_encoder, device.torch)
        for pipeline in (first, *others):
            pipeline.register_modules(text_encoder=encoder)
    if plan == "streamed":
        offload_layerwise(first.transformer, device.torch, often=True)


def _has_own_memory(device: Device) -> bool:
    return device.is_cuda


def _bytes(part: Any) -> int:
    return sum(tensor.nbytes for tensor in (*part.parameters(), *part.buffers()))


def _pipeline(name: str, loaded: Any) -> Any:
    """Return a pipeline of that class from the parts of the loaded one."""
    wanted = getattr(diffusers, name)
    return loaded if isinstance(loaded, wanted) else wanted(**loaded.components)


def _require_classes(loaded: Any) -> None:
    """Refuse parts of another class than the pipeline is made for; diffusers only warns.

    Raises:
        ValueError: the denoiser or the VAE is of another model's class.
    """
    wanted = get_type_hints(type(loaded).__init__)
    for name in ("transformer", "vae"):
        if not isinstance(part := getattr(loaded, name), wanted[name]):
            raise ValueError(f"{name} is a {type(part).__name__}, not a {wanted[name].__name__}")
