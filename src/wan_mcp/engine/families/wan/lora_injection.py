"""Adapters on the layers of a plain denoiser: PEFT's low-rank layers, and patches of whole parameters."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from diffusers.quantizers.gguf.utils import GGUFParameter
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor

from wan_mcp.engine.families.wan.lora_adapter import FIRST, Adapter
from wan_mcp.engine.offload.mapped import keep_in_memory
from wan_mcp.errors import JobFailed

__all__ = ["Patched", "patch", "put_on", "restore"]

Patched = list[tuple[Any, Tensor]]
"""Parameters that were changed, each with its original value."""


def put_on(denoiser: Any, adapters: Sequence[tuple[Adapter, float]]) -> None:
    """Attach adapters with their scales to the layers that they change, in place of those attached before.

    Raises:
        JobFailed: PEFT did not take all of an adapter's tensors as they are.
    """
    low_rank = [(adapter, scale) for adapter, scale in adapters if adapter.tensors]
    names = [f"lora{number}" for number in range(len(low_rank))]
    for name, (adapter, _) in zip(names, low_rank, strict=True):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several at once are meant
            tensors = {f"{FIRST}.{key}": tensor for key, tensor in adapter.tensors.items()}
            denoiser.load_lora_adapter(tensors, prefix=FIRST, adapter_name=name)
        _require_whole(denoiser, name, adapter)
    if names:
        denoiser.set_adapters(names, [scale for _, scale in low_rank])


def _require_whole(denoiser: Any, name: str, adapter: Adapter) -> None:
    """Compare what is on the layers with the adapter, tensor by tensor: PEFT only logs what it does not take."""
    on: dict[str, Tensor] = {}
    for path, layer in denoiser.named_modules():
        if isinstance(layer, BaseTunerLayer):
            for side in ("lora_A", "lora_B"):
                if name in (there := getattr(layer, side)):
                    on |= {f"{path}.{side}.{kind}": value for kind, value in there[name].named_parameters()}
    lost = [key for key, tensor in adapter.tensors.items() if key not in on or not _same(on[key], tensor)]
    # PEFT gives all layers a bias of zeros if one has a bias.
    added = [key for key, tensor in on.items() if key not in adapter.tensors and not key.endswith(".lora_B.bias")]
    if lost or added:
        raise JobFailed(
            "lora_unfit",
            f"The LoRA '{adapter.name}' cannot be applied whole: {len(lost) + len(added)} of "
            f"{len(adapter.tensors)} tensors did not reach the model, e.g. {(lost + added)[0]}. Use another file.",
        )


def _same(there: Tensor, tensor: Tensor) -> bool:
    return there.shape == tensor.shape and bool(torch.equal(there, tensor.to(there.device, there.dtype)))


def patch(denoiser: Any, adapters: Sequence[tuple[Adapter, float]], kept: Patched | None = None) -> None:
    """Add the adapters' patches, times their scales, to a denoiser's parameters; `kept` gets what was there before.

    Call it before `put_on`, which renames parameters.

    Raises:
        JobFailed: a parameter is quantized.
    """
    keep_in_memory(denoiser, [name for adapter, _ in adapters for name in adapter.patches])
    parameters = dict(denoiser.named_parameters())
    with torch.no_grad():
        for adapter, scale in adapters:
            for name, change in adapter.patches.items():
                parameter = parameters[name]
                if isinstance(parameter, GGUFParameter):
                    raise JobFailed(
                        "lora_unfit",
                        f"The LoRA '{adapter.name}' changes all of {name}, whose weights are quantized (GGUF) in this "
                        "model. Use a LoRA with low-rank layers only, or another model.",
                    )
                if kept is not None:
                    kept.append((parameter, parameter.detach().clone()))
                changed = parameter.float() + scale * change.to(parameter.device, torch.float32)
                parameter.copy_(changed)


def restore(kept: Patched) -> None:
    """Restore the original values of patched parameters, and empty the list."""
    with torch.no_grad():
        while kept:
            parameter, before = kept.pop()
            parameter.copy_(before)
