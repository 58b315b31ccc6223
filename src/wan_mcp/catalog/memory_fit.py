"""Memory arithmetic: whether a request fits a device, where a model's parts are placed, and what fits instead.

Pure arithmetic on a manifest's figures, shared by the planner (which refuses what cannot fit) and by
the engine (which places what does). A GPU holds what computes: blocks that do not fit are
streamed from host memory, and the text encoder is moved off after use; so the minimum
is a denoiser's pass and the decoder. Sizes in bytes, on a device of `memory_bytes` in all.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.schema.enums import ComputePrecision
from wan_mcp.schema.plans import Shape
from wan_mcp.text import in_bytes

__all__ = [
    "CPU_PRECISIONS",
    "RESERVE_BYTES",
    "Fit",
    "Placement",
    "activation_bytes",
    "default_shape",
    "denoiser_bytes",
    "extreme_shapes",
    "fit_of",
    "fits",
    "largest_fitting",
    "misfit",
    "needed_bytes",
    "offer_sizes",
    "placement_for",
    "room_for_blocks",
    "smaller_sizes",
    "weights_bytes",
]

RESERVE_BYTES = 1_000_000_000
"""Reserved on a GPU: the driver's context (about half of it) and what an allocator cannot use."""
STREAMED_SHARE = 0.08
"""Share of one expert on the device while its blocks are streamed: three of 40 blocks in turn."""
KEPT_SHARE = 0.018
"""Size of what stays on a GPU wherever the blocks are, relative to all denoisers in bf16: the layers around the blocks,
and the VAE (1.0 GB of A14B's 57.6)."""
TEXT_SHARE = 0.013
"""Size of a text's keys and values in one expert, and of gaps between large blocks, relative to the same: 0.7 GB."""
RETRY_FRACTION = 0.75
"""Share of a result's working memory that is worth retrying with after it ran out."""
BYTES_PER_VALUE: dict[ComputePrecision, int] = {"fp32": 4, "bf16": 2}
MAPPED_BYTES = 1_000_000_000
"""What is in main memory while a CPU reads the other weights from their files: the VAE (0.5 GB of Wan2.1's) and the
largest layer in fp32 (0.34 GB of FLUX.2 klein's)."""
MAPPED_SHARE = 0.7
"""Share of main memory that the denoisers may take in bf16 then: they stay in the kernel's cache, and a step does not
wait for the disk."""
CPU_PRECISIONS: tuple[ComputePrecision, ...] = ("fp32", "gguf")
"""Precisions on a CPU, which computes with GGUF files directly, in fp32."""


class Placement(StrEnum):
    """The placement of a model's denoiser blocks."""

    RESIDENT_FP8 = "resident_fp8"
    """All on the device, in FP8."""
    RESIDENT_BF16 = "resident_bf16"
    """All on the device, in the precision of its activations."""
    SWAPPED = "swapped"
    """One expert on the device; the other's blocks move in behind its last pass."""
    OFFLOADED = "offloaded"
    """Some blocks on the device, the others streamed through it in every pass."""
    CPU = "cpu"
    """In host memory, which computes."""
    MAPPED = "mapped"
    """In their files, from which a CPU reads the weights of each layer in every pass."""


class Fit(StrEnum):
    """How a job fits a machine, in one word for callers."""

    RESIDENT = "resident"
    """All of it stays where it is computed with: the fastest."""
    OFFLOADED = "offloaded"
    """One expert at a time on the GPU, the other in main memory."""
    STREAMED = "streamed"
    """Blocks come from main memory, or from their files, in every pass: the slowest."""
    NO = "no"
    """It is refused."""


FIT_OF_PLACEMENT = {
    Placement.SWAPPED: Fit.OFFLOADED,
    Placement.OFFLOADED: Fit.STREAMED,
    Placement.MAPPED: Fit.STREAMED,
}


def default_shape(manifest: Manifest) -> Shape:
    """Return the default size of a result; 1x1 if the model makes no images."""
    if manifest.sizes is None:
        return Shape(1, 1)
    size = manifest.sizes.default_size
    return Shape(size.width, size.height, manifest.frames.default if manifest.frames else 1)


def extreme_shapes(manifest: Manifest) -> list[Shape]:
    """Return the sizes that need the most memory, among them the default one."""
    frames = manifest.frames.maximum if manifest.frames else 1
    named = manifest.sizes.named if manifest.sizes else ()
    return [default_shape(manifest), *(Shape(each.width, each.height, frames) for each in named)]


def weights_bytes(manifest: Manifest, precision: ComputePrecision) -> int | None:
    """Return the size of all weights in a precision, text encoder included; None if the manifest does not say.

    A precision that is not in the manifest is worked out from one that is; FP8 is then no smaller than bf16.
    """
    known = manifest.weights.memory_bytes
    if precision == "gguf" and precision in known:  # which counts the encoder in bf16
        return known[precision] + manifest.costs.text_bytes
    if precision in known:
        return known[precision]
    wanted = BYTES_PER_VALUE.get(precision, BYTES_PER_VALUE["bf16"])
    return next((known[p] * wanted // size for p, size in BYTES_PER_VALUE.items() if p in known), None)


def denoiser_bytes(manifest: Manifest, precision: ComputePrecision) -> int | None:
    """Return the size of the weights that a job needs to denoise and decode: all except the text encoder."""
    weights = weights_bytes(manifest, precision)
    return None if weights is None else max(0, weights - manifest.costs.text_bytes * _wide(precision))


def activation_bytes(manifest: Manifest, shape: Shape, precision: ComputePrecision) -> int:
    """Return a job's peak memory without the weights: in a denoiser's pass, or in the decoder."""
    return max(_pass_bytes(manifest, shape, precision), _decoder_bytes(manifest, shape, precision))


def _pass_bytes(manifest: Manifest, shape: Shape, precision: ComputePrecision) -> int:
    tokens = manifest.costs.tokens(shape.width, shape.height, shape.frames)
    return tokens * manifest.costs.token_bytes * _wide(precision)


def _decoder_bytes(manifest: Manifest, shape: Shape, precision: ComputePrecision) -> int:
    decoded = shape.width * shape.height * min(shape.frames, manifest.costs.token[0])
    return decoded * manifest.costs.pixel_bytes * _wide(precision)


def room_for_blocks(
    manifest: Manifest, memory_bytes: int, precision: ComputePrecision, shape: Shape | None = None
) -> int:
    """Return the GPU memory left for blocks while it makes a result of `shape` (or the default one), at least 0."""
    activations = activation_bytes(manifest, shape or default_shape(manifest), precision)
    return max(0, memory_bytes - RESERVE_BYTES - activations)


def placement_for(
    manifest: Manifest, memory_bytes: int, precision: ComputePrecision, shape: Shape | None = None
) -> Placement:
    """Return the placement of the blocks on a device of that memory, for results of `shape` (or the default one).

    `precision` is what the denoisers run in: fp8 or bf16 on a GPU, fp32 or gguf on a CPU. A14B at 480p: both experts in
    FP8 from 48 GB on, one at a time from 24 GB on, streamed below.
    """
    if precision in CPU_PRECISIONS:
        whole = _whole_bytes(manifest, precision, shape or default_shape(manifest))
        return Placement.MAPPED if whole > memory_bytes and _can_be_mapped(manifest, precision) else Placement.CPU
    resident = Placement.RESIDENT_FP8 if precision == "fp8" else Placement.RESIDENT_BF16
    weights = denoiser_bytes(manifest, precision)
    room = room_for_blocks(manifest, memory_bytes, precision, shape)
    if weights is None or weights <= room:
        return resident
    experts = max(1, len(manifest.pipeline.experts))
    return Placement.SWAPPED if experts > 1 and weights / experts <= room else Placement.OFFLOADED


def needed_bytes(manifest: Manifest, precision: ComputePrecision, shape: Shape) -> int:
    """Return the least memory of a device that can make a result of `shape`; 0 if the manifest does not say."""
    if weights_bytes(manifest, precision) is None:
        return 0
    whole, wide = _whole_bytes(manifest, precision, shape), denoiser_bytes(manifest, "bf16") or 0
    if precision in CPU_PRECISIONS and _can_be_mapped(manifest, precision):
        mapped = RESERVE_BYTES + MAPPED_BYTES + activation_bytes(manifest, shape, precision)
        return min(whole, max(mapped, round(wide / MAPPED_SHARE)))
    if precision in CPU_PRECISIONS or not manifest.family.capabilities.offload:
        return whole
    streamed = (denoiser_bytes(manifest, precision) or 0) / max(1, len(manifest.pipeline.experts)) * STREAMED_SHARE
    in_a_pass = _pass_bytes(manifest, shape, precision) + round(streamed + wide * TEXT_SHARE)
    # While the decoder works, blocks and texts can give way.
    return RESERVE_BYTES + round(wide * KEPT_SHARE) + max(in_a_pass, _decoder_bytes(manifest, shape, precision))


def _whole_bytes(manifest: Manifest, precision: ComputePrecision, shape: Shape) -> int:
    """Return what a job needs if all weights are in memory; 0 if the manifest does not say."""
    weights = weights_bytes(manifest, precision)
    return 0 if weights is None else weights + activation_bytes(manifest, shape, precision) + RESERVE_BYTES


def _can_be_mapped(manifest: Manifest, precision: ComputePrecision) -> bool:
    """Check whether a CPU can read a model's weights from their files; those that adapters change are in none."""
    changed = any(expert.lora for expert in manifest.pipeline.experts)
    return precision == "fp32" and manifest.family.capabilities.mapped and not changed


def fits(manifest: Manifest, memory_bytes: int, precision: ComputePrecision, shape: Shape) -> bool:
    """Check whether a device of that memory can make a result of `shape`, with any placement of the blocks."""
    return needed_bytes(manifest, precision, shape) <= memory_bytes


def fit_of(manifest: Manifest, memory_bytes: int, precision: ComputePrecision, shape: Shape) -> Fit:
    """Return how a result of `shape` fits a device of that memory."""
    if not fits(manifest, memory_bytes, precision, shape):
        return Fit.NO
    return FIT_OF_PLACEMENT.get(placement_for(manifest, memory_bytes, precision, shape), Fit.RESIDENT)


def largest_fitting(
    manifest: Manifest, memory_bytes: int, precision: ComputePrecision, *, still: bool = False
) -> dict[str, int]:
    """Return the named sizes that fit, each with the most frames; `still` for single images."""
    return _largest(manifest, lambda shape: fits(manifest, memory_bytes, precision, shape), still=still)


def smaller_sizes(manifest: Manifest, asked: Shape) -> dict[str, int]:
    """Return the named sizes that need clearly less memory than `asked`, each with the most frames that do."""
    most = RETRY_FRACTION * activation_bytes(manifest, asked, "bf16")
    return _largest(manifest, lambda shape: activation_bytes(manifest, shape, "bf16") <= most, still=asked.frames == 1)


def _largest(manifest: Manifest, allowed: Callable[[Shape], bool], *, still: bool) -> dict[str, int]:
    """Return the named sizes with at least one allowed frame count, each with the largest."""
    rule, sizes = manifest.frames, manifest.sizes
    counts = [1] if still or rule is None else range(rule.maximum, rule.minimum - 1, -rule.multiple)
    largest: dict[str, int] = {}
    for size in sizes.named if sizes else ():
        most = next((frames for frames in counts if allowed(Shape(size.width, size.height, frames))), None)
        if most is not None:
            largest[size.name] = most
    return largest


def misfit(manifest: Manifest, memory_bytes: int, precision: ComputePrecision, shape: Shape) -> str | None:
    """Return why a device of that memory cannot make a result of `shape`, and what it can make; None if it fits."""
    if fits(manifest, memory_bytes, precision, shape):
        return None
    largest = largest_fitting(manifest, memory_bytes, precision, still=shape.frames == 1)
    device = "machine" if precision in CPU_PRECISIONS else "GPU"
    return (
        f"{shape} of '{manifest.name}' needs about {in_bytes(needed_bytes(manifest, precision, shape))} of memory in "
        f"{precision}, and this {device} has {in_bytes(memory_bytes)}. {offer_sizes(manifest, largest)}"
    )


def offer_sizes(manifest: Manifest, largest: Mapping[str, int]) -> str:
    """Return a sentence that suggests these named sizes, each with its most frames; without any, another model."""
    sizes = {size.name: size for size in manifest.sizes.named} if manifest.sizes else {}
    offers = [
        f"{name} ({sizes[name].width}x{sizes[name].height})" + (f" with up to {frames} frames" if frames > 1 else "")
        for name, frames in largest.items()
    ]
    if not offers:
        return "Use a smaller model (list_resolutions names them), or another machine."
    return f"Try {', '.join(offers)}; or another model."


def _wide(precision: ComputePrecision) -> int:
    """Return the width of unquantized values relative to bf16."""
    return 2 if precision in CPU_PRECISIONS else 1
