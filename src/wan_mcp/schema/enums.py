"""Enumerations (kinds, tasks, states, stages, precisions), and the base class of all values."""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = [
    "AttentionKernel",
    "ComputePrecision",
    "FP8Attention",
    "Frozen",
    "JobState",
    "Kind",
    "PlanPrecision",
    "RequestedPrecision",
    "Stage",
    "Task",
    "TorchAttention",
]

FP8Attention = Literal["cudnn-fp8", "sage-fp8"]
"""Kernels of self-attention in FP8, fastest first."""
TorchAttention = Literal["cudnn", "flash", "efficient", "math"]
"""Kernels that torch ships for CUDA, fastest on Hopper first (`benchmarks/results/attention.json`)."""
AttentionKernel = Literal[FP8Attention, TorchAttention, "sdpa"]
"""All kernels of self-attention, by the names that settings, receipts and logs use; `sdpa` is torch's own choice."""
RequestedPrecision = Literal["auto", "full", "fp8"]
"""Precisions that settings may request: auto (FP8 where the model and the GPU support it), full (never fewer
bits than the device's own: bf16 on a GPU, fp32 on a CPU), or fp8."""
PlanPrecision = Literal["auto", "full"]
"""Precisions that a preset may request and a plan carries."""
ComputePrecision = Literal["fp32", "bf16", "fp8", "gguf"]
"""Precisions of a denoiser's blocks; gguf: the low-bit weights of a GGUF file, unpacked layer by layer."""


class Frozen(BaseModel):
    """An immutable value that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Kind(StrEnum):
    """The kind of a job's result."""

    VIDEO = "video"
    IMAGE = "image"
    CAPTION = "caption"


class Task(StrEnum):
    """A task of a model; a manifest lists those that its weights support."""

    TEXT_TO_VIDEO = "text-to-video"
    IMAGE_TO_VIDEO = "image-to-video"
    FIRST_LAST_FRAME_TO_VIDEO = "first-last-frame-to-video"
    TEXT_TO_IMAGE = "text-to-image"
    IMAGE_TO_IMAGE = "image-to-image"
    IMAGE_TO_TEXT = "image-to-text"

    @property
    def kind(self) -> Kind:
        """The kind of result of this task."""
        if self is Task.IMAGE_TO_TEXT:
            return Kind.CAPTION
        return Kind.IMAGE if self in (Task.TEXT_TO_IMAGE, Task.IMAGE_TO_IMAGE) else Kind.VIDEO


class JobState(StrEnum):
    """queued → running → succeeded | failed | cancelled; queued → cancelled; running → queued (its engine died)."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """True if a job in this state never changes again."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class Stage(StrEnum):
    """The stages of a running job, in their order."""

    DOWNLOAD = "downloading"
    CHECK = "checking"
    LOAD = "loading"
    ENCODE = "encoding"
    DENOISE = "denoising"
    DECODE = "decoding"
    WRITE = "writing"
    REVIEW = "reviewing"
