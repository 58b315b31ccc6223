"""The models in an engine's memory: recorded by the engine, and projected forward for time estimates."""

from typing import Self

from wan_mcp.catalog.presets import precision_asked
from wan_mcp.schema.enums import Frozen, RequestedPrecision
from wan_mcp.schema.plans import CaptionPlan, Plan

__all__ = ["LoadedModels"]


class LoadedModels(Frozen):
    """The loaded models: one for videos and images, one for captions; each stays until another replaces it."""

    generator: tuple[str, RequestedPrecision] | None = None
    """Its name, and the requested precision: another precision needs another load."""
    captioner: str | None = None

    def has(self, plan: Plan, settings: RequestedPrecision) -> bool:
        """Check whether a job of this plan needs no load; `settings` is the precision of the engine's settings."""
        if isinstance(plan, CaptionPlan):
            return self.captioner == plan.model
        return self.generator == (plan.model, precision_asked(settings, plan))

    def after(self, plan: Plan, settings: RequestedPrecision) -> Self:
        """Return the loaded models after a job of this plan, if memory suffices for both."""
        if isinstance(plan, CaptionPlan):
            return self.model_copy(update={"captioner": plan.model})
        return self.model_copy(update={"generator": (plan.model, precision_asked(settings, plan))})
