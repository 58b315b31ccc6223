"""The noise schedule of a model: its own, or the one that its manifest specifies."""

from typing import Any

import numpy
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from wan_mcp.catalog.manifest import Pipeline

__all__ = ["clear_model_outputs", "fix_noise_levels", "scheduler_for"]


def scheduler_for(pipeline: Pipeline, own: Any) -> Any:
    """Return the scheduler that the manifest specifies, based on the one that comes with the weights."""
    # Fixed noise levels are used unchanged: a shift would change them.
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


def clear_model_outputs(scheduler: Any) -> None:
    """Clear the latents of a scheduler's last steps, which multistep schedulers keep until their next run."""
    if isinstance(scheduler, UniPCMultistepScheduler):
        # As in `set_timesteps` when the next run begins; but that allocates memory, and there may be none.
        scheduler.model_outputs = [None] * len(scheduler.model_outputs)
        scheduler.last_sample = None


def fix_noise_levels(scheduler: Any, sigmas: tuple[float, ...]) -> None:
    """Make a scheduler use these noise levels, for a pipeline without an argument for them.

    The number of steps that the pipeline requests is ignored.
    """
    usual = scheduler.set_timesteps

    def set_timesteps(num_inference_steps: int | None = None, device: Any = None, **_: Any) -> None:
        usual(sigmas=numpy.array(sigmas), device=device)

    scheduler.set_timesteps = set_timesteps
