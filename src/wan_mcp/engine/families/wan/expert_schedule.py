"""Which denoiser runs in each pass of a job, so that its blocks can be brought in time."""

from typing import Any

from wan_mcp.engine.transformer.weight_store import WeightStore

__all__ = ["announce_passes", "passes_of"]


def passes_of(pipeline: Any) -> list[int]:
    """Return the denoiser of each pass, 0 or 1 for the second expert, once the pipeline has set its noise levels."""
    levels = pipeline.scheduler.timesteps.tolist()
    ratio = pipeline.config.boundary_ratio if "boundary_ratio" in pipeline.config else None
    boundary = None if ratio is None else ratio * pipeline.scheduler.config.num_train_timesteps
    each = 2 if pipeline.do_classifier_free_guidance else 1  # with guidance a step reads two texts
    return [0 if boundary is None or level >= boundary else 1 for level in levels for _ in range(each)]


def announce_passes(weight_store: WeightStore, pipeline: Any) -> None:
    """Tell where blocks live what a pipeline is about to run, and that the next job will begin like this one."""
    passes = passes_of(pipeline)
    if passes:
        weight_store.announce([*passes, passes[0]])
