"""The noise schedule of a model: its own, or what its manifest puts in its place."""

from typing import Any

import numpy
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from wan_mcp.catalog.manifest import Pipeline

__all__ = ["fix_noise_levels", "let_samples_go", "scheduler_for"]


def scheduler_for(pipeline: Pipeline, own: Any) -> Any:
    """Return the scheduler that the manifest asks for, made from the one that the weights bring."""
    # Fixed noise levels are meant as they stand: a shift would move them.
    shift = 1.0 if pipeline.sigmas else pipeline.flow_shift
    if pipeline.scheduler is None and shift is None:
        return own
    if pipeline.scheduler is None and isinstance(own, FlowMatchEulerDiscreteScheduler):
        return type(own).from_config(own.config, shift=shift, use_dynamic_shifting=False, shift_terminal=None)
    kind = pipeline.scheduler or ("unipc" if isinstance(own, UniPCMultistepScheduler) else "euler")
    if shift is None:
        shift = own.config.get("flow_shift", own.config.get("shift", 1.0))
    trained = own.config.num_train_timesteps
    if kind == "euler":
        return FlowMatchEulerDiscreteScheduler(num_train_timesteps=trained, shift=shift)
    return UniPCMultistepScheduler(
        num_train_timesteps=trained, prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )


def let_samples_go(scheduler: Any) -> None:
    """Have a scheduler forget the latents of its last steps, which multistep ones keep until their next run."""
    if isinstance(scheduler, UniPCMultistepScheduler):
        # As `set_timesteps` does when the next run begins; but that needs memory, and there may be none.
        scheduler.model_outputs = [None] * len(scheduler.model_outputs)
        scheduler.last_sample = None


def fix_noise_levels(scheduler: Any, sigmas: tuple[float, ...]) -> None:
    """Have a scheduler use these noise levels, for a pipeline that has no argument for them.

    Whatever number of steps the pipeline asks for is ignored.
    """
    usual = scheduler.set_timesteps

    def set_timesteps(num_inference_steps: int | None = None, device: Any = None, **_: Any) -> None:
        usual(sigmas=numpy.array(sigmas), device=device)

    scheduler.set_timesteps = set_timesteps
