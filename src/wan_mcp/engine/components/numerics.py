"""Reject tensors with NaN or infinity."""

from typing import Any

import torch

from wan_mcp.errors import JobFailed

__all__ = ["bad_numbers", "require_finite"]


def require_finite(tensor: Any, what: str) -> None:
    """Check that all numbers are finite.

    Raises:
        JobFailed: `tensor` holds NaN or infinity.
    """
    if not torch.isfinite(tensor).all():
        raise bad_numbers(what)


def bad_numbers(what: str) -> JobFailed:
    """Return the failure of a job whose latents or frames (`what`) hold NaN or infinity."""
    return JobFailed(
        "bad_numbers",
        f"The model's {what} contain NaN or infinity. "
        "Try another seed or a lower guidance_scale. If it happens again, the weights or the GPU are at fault.",
    )
