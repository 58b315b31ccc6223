"""How close a result is to what its model makes exactly, by the way it is run.

Exact is the model in full precision (bf16 on a GPU, fp32 on a CPU), with dense attention, and with every pass run. The
words follow from figures that `benchmarks/quality.py` measures over whole videos: see docs/quality.md. They are not
about the number of steps, which a caller chooses, nor about distilled models, which are models by themselves.
"""

from enum import StrEnum
from typing import get_args

from wan_mcp.schema.enums import FP8Attention

__all__ = ["Quality", "quality_of"]

FULL_PRECISIONS = ("fp32", "bf16")


class Quality(StrEnum):
    """How close a result is to the exact one."""

    EXACT = "exact"
    """The same, up to the rounding of the device's own precision."""
    NEAR = "near"
    """Other pixels, and the same content: weights, activations or attention have fewer bits."""
    CHANGED = "changed"
    """The content may differ: passes or parts of attention are left out."""


def quality_of(precision: str, attention: str | None = None, *, cached: bool = False, sparse: bool = False) -> Quality:
    """Return the quality of a way to run a model.

    Args:
        precision: of the blocks, as receipts name it: fp32, bf16, fp8-rowwise, gguf.
        attention: the kernel of self-attention, as receipts name it; None for that of diffusers.
        cached: whether a step cache may leave out passes.
        sparse: whether attention leaves out blocks (turbo).
    """
    if cached or sparse:
        return Quality.CHANGED
    in_eight_bits = (attention or "").partition(",")[0] in get_args(FP8Attention)
    return Quality.NEAR if precision not in FULL_PRECISIONS or in_eight_bits else Quality.EXACT
