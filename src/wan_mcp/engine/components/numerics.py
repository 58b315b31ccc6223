"""Refuse numbers that are not finite."""

from typing import Any

import torch

from wan_mcp.errors import JobFailed

__all__ = ["require_finite"]


def require_finite(tensor: Any, what: str) -> None:
    """Refuse numbers that no picture can be made of.

    Raises:
        JobFailed: `tensor` holds NaN or infinity.
    """
    if not torch.isfinite(tensor).all():
        raise _bad_numbers(what)


def _bad_numbers(what: str) -> JobFailed:
    return JobFailed(
        "bad_numbers",
        f"The model's {what} hold numbers that are not finite. "
        "Try another seed or a lower guidance_scale; if it stays so, the weights or the GPU are at fault.",
    )
