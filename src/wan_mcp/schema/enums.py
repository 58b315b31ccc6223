"""What there is to tell apart (kinds, tasks, states, stages, precisions), and the base of all values."""

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
"""Kernels of self-attention in FP8, quickest first."""
TorchAttention = Literal["cudnn", "flash", "efficient", "math"]
"""Kernels that torch ships for CUDA, quickest on Hopper first (`benchmarks/results/attention.json`)."""
AttentionKernel = Literal[FP8Attention, TorchAttention, "sdpa"]
"""All kernels of self-attention, by the names that settings, receipts and logs use; `sdpa` is torch's own choice."""
RequestedPrecision = Literal["auto", "full", "fp8"]
"""What settings may ask for: auto (FP8 where the model and the GPU can), full (never fewer bits than the device's own:
bf16 on a GPU, fp32 on a CPU), or fp8."""
PlanPrecision = Literal["auto", "full"]
"""What of it a preset may ask for, and a plan hands on."""
ComputePrecision = Literal["fp32", "bf16", "fp8", "gguf"]
"""What a denoiser's blocks compute in; gguf: from the few bits of a GGUF file, unpacked layer by layer."""


class Frozen(BaseModel):
    """A value that cannot change and takes no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Kind(StrEnum):
    """What a job makes."""

    VIDEO = "video"
    IMAGE = "image"
    CAPTION = "caption"


class Task(StrEnum):
    """What a model can do; a manifest lists those that its weights serve."""

    TEXT_TO_VIDEO = "text-to-video"
    IMAGE_TO_VIDEO = "image-to-video"
    FIRST_LAST_FRAME_TO_VIDEO = "first-last-frame-to-video"
    TEXT_TO_IMAGE = "text-to-image"
    IMAGE_TO_IMAGE = "image-to-image"
    IMAGE_TO_TEXT = "image-to-text"

    @property
    def kind(self) -> Kind:
        """What a job of this task makes."""
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
        """Whether a job in this state will never change again."""
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
