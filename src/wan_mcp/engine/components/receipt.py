"""What a result says of how it was made: enough to make it again."""

from collections.abc import Sequence
from typing import Any, Protocol

import diffusers
import torch

from wan_mcp import __version__
from wan_mcp.engine.device.device import Device
from wan_mcp.schema.plans import ImagePlan, VideoPlan

__all__ = ["receipt_of"]


class LoadedModel(Protocol):
    """What a receipt says of the model."""

    @property
    def device(self) -> Device: ...
    @property
    def means(self) -> dict[str, Any]: ...
    @property
    def weights_sha256(self) -> str: ...


def receipt_of(
    plan: VideoPlan | ImagePlan, seed: int, model: LoadedModel, fused_lora: Sequence[Any] = ()
) -> dict[str, Any]:
    """The receipt of the one result of a plan that was made with `seed`.

    It says nothing of when or by which job, so that the same frames always carry the same receipt,
    and of an input picture only its content's hash and size: where it lay is nobody's business
    who gets the file.
    """
    places: Any = {"image": {"file", "source"}, "last_image": {"file", "source"}, "lora": {"__all__": {"file"}}}
    request = plan.model_dump(mode="json", exclude=places)
    return {
        "request": request | {"seed": seed, "count": 1},
        "weights_sha256": model.weights_sha256,
        **({"fused_lora": list(fused_lora)} if fused_lora else {}),
        "device": model.device.description,
        **model.means,
        "wan_mcp": __version__,
        "torch": str(torch.__version__),
        "diffusers": diffusers.__version__,
    }
