"""Which models lie in an engine's memory: told by the engine, carried on by whoever estimates what jobs take."""

from typing import Self

from wan_mcp.catalog.presets import precision_asked
from wan_mcp.schema.enums import Frozen, RequestedPrecision
from wan_mcp.schema.plans import CaptionPlan, Plan

__all__ = ["LoadedModels"]


class LoadedModels(Frozen):
    """One model that makes videos and images, one that writes captions; each stays until another takes its place."""

    generator: tuple[str, RequestedPrecision] | None = None
    """Its name, and the precision that was asked for: another one is another load."""
    captioner: str | None = None

    def has(self, plan: Plan, settings: RequestedPrecision) -> bool:
        """Whether a job of this plan loads nothing; `settings` is the precision of the engine's settings."""
        if isinstance(plan, CaptionPlan):
            return self.captioner == plan.model
        return self.generator == (plan.model, precision_asked(settings, plan))

    def after(self, plan: Plan, settings: RequestedPrecision) -> Self:
        """What lies there after a job of this plan, if memory is enough for both."""
        if isinstance(plan, CaptionPlan):
            return self.model_copy(update={"captioner": plan.model})
        return self.model_copy(update={"generator": (plan.model, precision_asked(settings, plan))})
