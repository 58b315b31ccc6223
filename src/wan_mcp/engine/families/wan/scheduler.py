"""The noise schedule of a model: its own, or what its manifest puts in its place."""

from typing import Any

import numpy
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from wan_mcp.catalog.manifest import Pipeline

__all__ = ["let_samples_go", "scheduler_for"]


def scheduler_for(pipeline: Pipeline, own: Any) -> Any:
    """The scheduler that the manifest asks for, made from the one that the weights bring."""
    kind = pipeline.scheduler or ("unipc" if isinstance(own, UniPCMultistepScheduler) else "euler")
    # Fixed noise levels are meant as they stand: a shift would move them.
    shift = 1.0 if pipeline.sigmas else pipeline.flow_shift
    if pipeline.scheduler is None and shift is None:
        return own
    if shift is None:
        shift = own.config.get("flow_shift", own.config.get("shift", 1.0))
    trained = own.config.num_train_timesteps
    if kind == "unipc":
        scheduler = UniPCMultistepScheduler(
            num_train_timesteps=trained, prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
        )
    else:
        scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=trained, shift=shift)
    if pipeline.sigmas:
        _fix(scheduler, pipeline.sigmas)
    return scheduler


def let_samples_go(scheduler: Any) -> None:
    """Have a scheduler forget the latents of its last steps, which multistep ones keep until their next run."""
    if isinstance(scheduler, UniPCMultistepScheduler):
        # As `set_timesteps` does when the next run begins; but that needs memory, and there may be none.
        scheduler.model_outputs = [None] * len(scheduler.model_outputs)
        scheduler.last_sample = None


def _fix(scheduler: Any, sigmas: tuple[float, ...]) -> None:
    """Have the scheduler use these noise levels, whatever number of steps a pipeline asks for."""
    usual = scheduler.set_timesteps

    def set_timesteps(num_inference_steps: int | None = None, device: Any = None, **_: Any) -> None:
        usual(sigmas=numpy.array(sigmas), device=device)

    scheduler.set_timesteps = set_timesteps
