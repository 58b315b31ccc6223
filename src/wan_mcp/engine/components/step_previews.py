"""The newest estimate of the clean latents as a small picture, at the end of a denoising step.

A flow-matching model predicts the velocity v from clean latents to noise: x_t = (1 - sigma) x_0 + sigma eps and
v = eps - x_0, so x_0 = x_t - sigma v, whatever scheduler takes the step. A scheduler's `step` is the one place where
x_t, v and sigma are known together; it is only watched there, and only reads are added, so results do not change.
"""

import functools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from wan_mcp.catalog.latent_rgb import LatentRGB
from wan_mcp.engine.worker.reporter import Reporter
from wan_mcp.media.previews import MAX_FRAMES

__all__ = ["clean_latents_of", "rgb_frames", "step_previews"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Step:
    """What a scheduler was given for its last step."""

    velocity: Tensor
    latents: Tensor
    sigma: float


def _predicts_flow(scheduler: Any) -> bool:
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        return True
    return bool(scheduler.config.get("prediction_type") == "flow_prediction")


@contextmanager
def step_previews(
    scheduler: Any, rgb: LatentRGB | None, report: Reporter, size: tuple[int, int], *, leave_out: int = 0
) -> Iterator[Callable[[], None]]:
    """Provide a function that shows the newest estimate, to be called at the end of each step.

    Args:
        scheduler: Takes the steps.
        rgb: The map of the model's autoencoder; with None, nothing is shown.
        report: Knows whether a preview is wanted, and writes it.
        size: Width and height of the result in pixels.
        leave_out: Latent frames at the beginning that are given and not denoised.
    """
    if rgb is None or not _predicts_flow(scheduler):
        yield lambda: None
        return
    last: _Step | None = None
    usual = scheduler.step

    @functools.wraps(usual)
    def step(model_output: Any, timestep: Any, sample: Any, *args: Any, **options: Any) -> Any:
        nonlocal last
        result = usual(model_output, timestep, sample, *args, **options)
        if report.previews.due():
            last = _Step(model_output, sample, float(scheduler.sigmas[scheduler.step_index - 1]))
        return result

    def show() -> None:
        nonlocal last
        if last is None:
            return
        began = time.perf_counter()
        given, last = last, None
        try:
            frames = rgb_frames(given.latents, given.velocity, given.sigma, rgb, size, leave_out=leave_out)
        except ValueError as error:  # the manifest names a map of another autoencoder
            report.previews.stop()
            report.note(f"there is no preview: {error}")
            return
        except RuntimeError as error:  # such as memory: a preview that cannot be made costs nothing but itself
            log.warning("no preview: %s", error)
            report.previews.stop()
            return
        report.previews.show(frames, size, time.perf_counter() - began)

    scheduler.step = step
    try:
        yield show
    finally:
        del scheduler.step  # the method of its class is there again
        last = None


def clean_latents_of(latents: Tensor, velocity: Tensor, sigma: float) -> Tensor:
    """Return the estimate of the clean latents, in float32, from those of a step and the model's velocity there."""
    return latents.float() - sigma * velocity.float()


@torch.no_grad()
def rgb_frames(
    latents: Tensor, velocity: Tensor, sigma: float, rgb: LatentRGB, size: tuple[int, int], *, leave_out: int = 0
) -> Any:
    """Return some frames of the estimate as RGB of shape (count, rows, columns, 3), in uint8 on the CPU.

    Args:
        latents: Those that the step began with: (1, channels, frames, rows, columns), (1, channels, rows, columns), or
            (1, rows x columns, channels) where a pipeline packs them.
        velocity: What the model said, of the same shape.
        sigma: The noise level there.
        rgb: The map.
        size: Width and height of the result in pixels, whose ratio gives that of packed latents.
        leave_out: Frames at the beginning that are not shown.

    Raises:
        ValueError: the map is for another number of channels, or the latents have another shape.
    """
    planes = [_planes(each, size, leave_out) for each in (latents, velocity)]
    clean = clean_latents_of(planes[0], planes[1], sigma)
    factors = torch.tensor(rgb.factors, device=clean.device)
    if clean.shape[-1] != len(factors):
        raise ValueError(f"the latents have {clean.shape[-1]} channels, the latent_rgb map is for {len(factors)}")
    colours = clean @ factors + torch.tensor(rgb.bias, device=clean.device)
    pixels = (colours.clamp(-1.0, 1.0) * 127.5 + 127.5).nan_to_num(0.0).round().to(torch.uint8)
    return pixels.cpu().contiguous().numpy()


def _planes(latents: Tensor, size: tuple[int, int], leave_out: int) -> Tensor:
    """Return some frames of latents as (count, rows, columns, channels)."""
    if latents.ndim == 5:
        first = min(leave_out, latents.shape[2] - 1)
        count = latents.shape[2] - first
        shown = min(MAX_FRAMES, count)
        chosen = [first + round(index * (count - 1) / max(1, shown - 1)) for index in range(shown)]
        return latents[0, :, chosen].permute(1, 2, 3, 0)
    if latents.ndim == 4:
        return latents[:1].permute(0, 2, 3, 1)
    if latents.ndim == 3:
        width, height = size
        places = latents.shape[1]
        rows = round((places * height / width) ** 0.5)
        if rows > 0 and places % rows == 0:
            packed: Tensor = latents[:1].unflatten(1, (rows, places // rows))
            return packed
    raise ValueError(f"latents of shape {tuple(latents.shape)} are not understood")
