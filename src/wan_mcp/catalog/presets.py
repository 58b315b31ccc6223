"""Quality presets of a model: a quick draft, everyday use, and its best quality."""

from typing import Literal, Self

from pydantic import Field, model_validator

from wan_mcp.schema.enums import Frozen, PlanPrecision, RequestedPrecision
from wan_mcp.schema.plans import Plan, StepCache

__all__ = ["Preset", "PresetName", "precision_asked"]

PresetName = Literal["draft", "standard", "best"]


class Preset(Frozen):
    """Values that replace a manifest's defaults; omitted ones keep the default."""

    model: str | None = Field(
        default=None, description="The model that serves this preset instead, by its own preset of the same name."
    )
    steps: int | None = None
    guidance_scale: float | None = None
    guidance_scale_2: float | None = None
    turbo: bool = Field(default=False, description="Of videos; needs pipeline.turbo.")
    step_cache: StepCache | None = None
    precision: PlanPrecision = Field(
        default="auto", description="full: never FP8, even if the GPU supports it; WAN_MCP_PRECISION overrides this."
    )

    @model_validator(mode="after")
    def _either_or(self) -> Self:
        if self.model is not None and self.model_fields_set != {"model"}:
            raise ValueError("'model' excludes other keys: the other model's preset has its own values")
        return self

    @property
    def values(self) -> dict[str, float]:
        """The values that replace the defaults of the same names."""
        names = ("steps", "guidance_scale", "guidance_scale_2")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def precision_asked(settings: RequestedPrecision, plan: Plan) -> RequestedPrecision:
    """Return the precision of a plan's denoisers: as its caller set it, or else the engine's settings, or its preset.

    `settings` are those of the engine; `auto` leaves the choice to the preset.
    """
    if plan.engine is not None and plan.engine.precision is not None:
        return plan.engine.precision
    return plan.precision if settings == "auto" else settings
