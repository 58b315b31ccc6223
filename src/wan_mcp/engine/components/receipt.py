"""Receipts: the parameters of a result, sufficient to reproduce it."""

from collections.abc import Sequence
from typing import Any, Protocol

import diffusers
import torch

from wan_mcp import __version__
from wan_mcp.catalog.quality import quality_of
from wan_mcp.engine.device.device import Device
from wan_mcp.schema.plans import ImagePlan, VideoPlan

__all__ = ["receipt_of", "versions"]


class LoadedModel(Protocol):
    """The model's part of a receipt."""

    @property
    def device(self) -> Device: ...
    @property
    def means(self) -> dict[str, Any]: ...
    @property
    def weights_sha256(self) -> str: ...


def receipt_of(
    plan: VideoPlan | ImagePlan,
    seed: int,
    model: LoadedModel,
    fused_lora: Sequence[Any] = (),
    *,
    sparse: bool = False,
) -> dict[str, Any]:
    """Return the receipt of the result of a plan with this `seed`; `sparse` says whether turbo left out anything.

    It contains neither a time nor a job, so that the same frames always have the same receipt. Of an
    input image it contains only the content's hash and size: its path is private.
    """
    origin = {"file", "source", "frame"}
    places: Any = {"image": origin, "last_image": origin, "extends": origin, "lora": {"__all__": {"file"}}}
    looks: Any = {"check": True, "pick": True}  # what is only looked at changes no frame
    request = plan.model_dump(mode="json", exclude=places | looks)
    return {
        "request": request | {"seed": seed, "count": 1},
        "weights_sha256": model.weights_sha256,
        **({"fused_lora": list(fused_lora)} if fused_lora else {}),
        "device": model.device.description,
        **(means := model.means),
        "quality": quality_of(
            means.get("precision", model.device.precision),
            means.get("attention"),
            cached=plan.step_cache is not None,
            sparse=sparse,
        ).value,
        **versions(),
    }


def versions() -> dict[str, str]:
    """Return the versions of what computes a result."""
    return {"wan_mcp": __version__, "torch": str(torch.__version__), "diffusers": diffusers.__version__}
