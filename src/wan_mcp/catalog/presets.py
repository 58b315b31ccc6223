"""Presets: what a model's makers would choose for a quick look, for every day, and for the best that it can do."""

from typing import Literal, Self

from pydantic import Field, model_validator

from wan_mcp.schema.enums import Frozen, PlanPrecision, RequestedPrecision
from wan_mcp.schema.plans import Plan, StepCache

__all__ = ["Preset", "PresetName", "precision_asked"]

PresetName = Literal["draft", "standard", "best"]


class Preset(Frozen):
    """Values in place of a manifest's defaults; what is left out stays as in the defaults."""

    model: str | None = Field(
        default=None, description="The model that serves this preset instead, by its own preset of the same name."
    )
    steps: int | None = None
    guidance_scale: float | None = None
    guidance_scale_2: float | None = None
    turbo: bool = Field(default=False, description="Of videos; needs pipeline.turbo.")
    step_cache: StepCache | None = None
    precision: PlanPrecision = Field(
        default="auto", description="full: not in FP8, also where the GPU has it; WAN_MCP_PRECISION goes before it."
    )

    @model_validator(mode="after")
    def _either_or(self) -> Self:
        if self.model is not None and self.model_fields_set != {"model"}:
            raise ValueError("give 'model' alone, or values; the other model's preset has its own")
        return self

    @property
    def values(self) -> dict[str, float]:
        """What it puts in place of the defaults of the same names."""
        names = ("steps", "guidance_scale", "guidance_scale_2")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def precision_asked(settings: RequestedPrecision, plan: Plan) -> RequestedPrecision:
    """What a plan's denoisers are to run in: as the settings say; where these leave it open, as its preset does."""
    return plan.precision if settings == "auto" else settings
