"""A job of Wan on several ranks: which jobs can be shared, and what the ranks do that are not the first.

All ranks run the same pipeline on the same latents and schedule. Only the first reports, writes files and encodes
texts; it may stop the others at the end of a step.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import torch

from wan_mcp.engine.attention import Turbo, attention_mode
from wan_mcp.engine.components.scheduler import clear_model_outputs
from wan_mcp.engine.families.wan.loader import WanModel
from wan_mcp.engine.parallel.job_ranks import JobRanks, can_share
from wan_mcp.engine.transformer.weight_store import ResidentWeights
from wan_mcp.engine.worker.reporter import EngineShutdown
from wan_mcp.errors import JobCancelled, LeaseLost
from wan_mcp.schema.plans import CaptionPlan, ImagePlan, Plan, VideoPlan

__all__ = ["help_denoise", "sharing", "together", "why_not_shared", "without_stops"]


def why_not_shared(model: WanModel, plan: Plan, ranks: int) -> str | None:
    """Return why this many ranks cannot share a plan on this model, None if they can."""
    if isinstance(plan, CaptionPlan):
        return "captions are made by one device"
    if isinstance(plan, VideoPlan) and (plan.shots or plan.extends):
        return "videos of several shots are made by one device"
    if plan.step_cache is not None:
        return "the step cache decides on one device which passes to leave out"
    if not isinstance(model.weight_store, ResidentWeights):
        return "its blocks are streamed from main memory"
    heads = model.denoisers[0].config.num_attention_heads
    if not model.converted and not (plan.guided and ranks == 2):
        return "its blocks run as diffusers has them"
    return None if can_share(ranks, heads, guidance=plan.guided) else f"{ranks} does not divide its {heads} heads"


def together(ranks: JobRanks | None) -> AbstractContextManager[None]:
    """Return `JobRanks.together`, or nothing to do for one device."""
    return nullcontext() if ranks is None else ranks.together()


def sharing(ranks: JobRanks | None, denoisers: list[Any], call: dict[str, Any]) -> AbstractContextManager[None]:
    """Return `JobRanks.sharing` for a pipeline's arguments, or nothing to do for one device."""
    if ranks is None:
        return nullcontext()
    texts = [call[name] for name in ("prompt_embeds", "negative_prompt_embeds") if name in call]
    return ranks.sharing(denoisers, texts)


def without_stops(hook: Callable[[], None]) -> Callable[[], None]:
    """Return a hook that does not raise where the job should stop: it is heard again at the end of the step."""

    def quiet() -> None:
        with suppress(JobCancelled, LeaseLost, EngineShutdown):
            hook()

    return quiet


def help_denoise(
    model: WanModel,
    plan: VideoPlan | ImagePlan,
    call: dict[str, Any],
    seed: int,
    ranks: JobRanks,
    check: Callable[[], None],
) -> Any:
    """Do this rank's part of denoising one result; return the finished latents, which all ranks have.

    Args:
        model: the same on all ranks.
        plan: of the job.
        call: the pipeline's arguments.
        seed: of the result.
        ranks: of the job.
        check: raises if this rank should stop; called after each step.

    Raises:
        RankLost: another rank stopped, or does not answer.
    """
    pipeline = model.pipelines[plan.task]

    def end_step(pipeline: Any, index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        model.device.finish()
        with ranks.together():
            check()
        mode.step = index + 1
        return {}

    generator = torch.Generator("cpu").manual_seed(seed)
    try:
        with (
            attention_mode(Turbo() if plan.turbo else None, grid=model.grid_of(plan)) as mode,
            sharing(ranks, model.denoisers, call),
        ):
            return pipeline(**call, generator=generator, callback_on_step_end=end_step)[0]
    finally:
        clear_model_outputs(pipeline.scheduler)
