"""LoRA files of Wan denoisers: read, and fitted to one denoiser.

Every tensor of a file is used, or named in a refusal or a note. How names are taken apart: `weights/lora_keys.py`;
which layer they mean: `lora_layers.py`.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wan_mcp.engine.families.wan.lora_layers import MODULATION, diffusers_layer, reads_start_image
from wan_mcp.errors import JobFailed
from wan_mcp.weights.lora_keys import LoraKey, Part, other_kind, parse_lora_key

__all__ = ["FIRST", "SECOND", "Adapter", "AdapterFile", "fitted", "read_adapter"]

FIRST, SECOND = "transformer", "transformer_2"
"""The denoisers of a pipeline; the second serves the low noise levels."""
NAMED = 3
"""Number of layers or keys that a sentence lists."""
METADATA = "lora_adapter_metadata"
"""Where diffusers writes PEFT's configuration into a file."""


@dataclass(frozen=True)
class Adapter:
    """What a file changes in one denoiser, by diffusers' names."""

    name: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    """Low-rank changes: `LAYER.lora_A.weight` (rank, in), `LAYER.lora_B.weight` (out, rank), `LAYER.lora_B.bias`."""
    patches: dict[str, Tensor] = field(default_factory=dict)
    """What is added to a parameter as it is, by the parameter's name."""
    left_out: tuple[str, ...] = ()
    """Layers that read a start image, which this denoiser does not have."""

    def __bool__(self) -> bool:
        return bool(self.tensors or self.patches)


@dataclass(frozen=True)
class _Layer:
    """The tensors that change one layer."""

    path: str
    expert: str | None
    tensors: dict[Part, Tensor] = field(default_factory=dict)


class AdapterFile:
    """The content of a LoRA file, layer by layer."""

    def __init__(self, name: str, layers: Iterable[_Layer], metadata: Mapping[str, Any]) -> None:
        self.name = name
        self._layers = list(layers)
        self._metadata = metadata
        marked = {layer.expert for layer in self._layers}
        unmarked = FIRST if SECOND in marked else None
        self.experts = {expert for each in marked if (expert := each or unmarked) is not None}
        """The denoisers that the file's keys name, FIRST or SECOND; empty if they do not say."""

    def for_part(self, part: str) -> Adapter:
        """Return what the file changes in one of a pipeline's denoisers, FIRST or SECOND.

        Raises:
            JobFailed: a layer's tensors are incomplete, or are no numbers.
        """
        tensors: dict[str, Tensor] = {}
        patches: dict[str, Tensor] = {}
        for layer in self._layers:
            if self.experts and (layer.expert or FIRST) != part:
                continue
            low_rank, added = self._changes(layer)
            tensors |= low_rank
            patches |= added
        return Adapter(self.name, tensors, patches)

    def _changes(self, layer: _Layer) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        path, parts = layer.path, layer.tensors
        low_rank: dict[str, Tensor] = {}
        patches: dict[str, Tensor] = {}
        down, up = parts.get(Part.DOWN), parts.get(Part.UP)
        if (down is None) != (up is None) or (up is None and (Part.UP_BIAS in parts or set(parts) == {Part.ALPHA})):
            missing = Part.UP if up is None and down is not None else Part.DOWN
            raise _unfit(self.name, f"has no {missing} for {path}; the file is incomplete. Get the file again")
        if down is not None and up is not None:
            if down.ndim < 2 or up.ndim < 2 or down.shape[0] != up.shape[1] or not down.shape[0]:
                raise _unfit(
                    self.name,
                    f"has two ranks for {path}: lora_A is {_shape(down)} and lora_B is {_shape(up)}, "
                    "instead of RANK x IN and OUT x RANK. Use another file",
                )
            scale = self._scale(layer, down.shape[0])
            # In float32: low precisions would round what is not a power of two.
            low_rank[f"{path}.lora_A.weight"] = down if scale == 1 else down.float() * scale
            low_rank[f"{path}.lora_B.weight"] = up
            if (bias := parts.get(Part.UP_BIAS)) is not None:
                low_rank[f"{path}.lora_B.bias"] = bias if scale == 1 else bias.float() * scale
        for part, name in ((Part.DIFF, "weight"), (Part.DIFF_BIAS, "bias"), (Part.DIFF_MODULATION, MODULATION)):
            if part not in parts or not parts[part].any():
                continue  # zeros change nothing, and extractors write many of them
            if part is Part.DIFF_BIAS and up is not None and Part.UP_BIAS not in parts:
                low_rank[f"{path}.lora_B.bias"] = parts[part]
            else:
                patches[_parameter(path, name)] = parts[part]
        return low_rank, patches

    def _scale(self, layer: _Layer, rank: int) -> float:
        """Return alpha / rank, from the file's tensors or from PEFT's configuration in its metadata; else 1."""
        if (alpha := layer.tensors.get(Part.ALPHA)) is not None:
            return float(alpha.item()) / rank
        from peft.utils.other import get_pattern_key  # PEFT takes as long to import as a small model to load

        alphas = self._metadata.get("alpha_pattern") or {}
        written = alphas.get(get_pattern_key(list(alphas), layer.path), self._metadata.get("lora_alpha"))
        if written is None:
            return 1.0
        return float(written) / (rank**0.5 if self._metadata.get("use_rslora") else rank)


def read_adapter(file: Path, name: str) -> AdapterFile:
    """Read an adapter from a safetensors file.

    Raises:
        JobFailed: it cannot be read, or is not a plain LoRA of a Wan model; the message says what it is.
    """
    try:
        with safe_open(file, framework="pt") as content:
            names = list(content.keys())
            if kind := other_kind(names):
                raise _unfit(name, kind)
            metadata = _metadata(name, content.metadata() or {})
            layers = _by_layer(name, {key: content.get_tensor(key) for key in names})
    except (OSError, SafetensorError) as error:
        raise JobFailed("lora_broken", f"The LoRA '{name}' cannot be read: {error}. Get the file again.") from error
    return AdapterFile(name, layers, metadata)


def _metadata(name: str, written: Mapping[str, str]) -> dict[str, Any]:
    """Return PEFT's configuration, where the file has one."""
    if METADATA not in written:
        return {}
    try:
        content = json.loads(written[METADATA])
        found = {key.removeprefix(f"{FIRST}."): value for key, value in content.items()}
    except (ValueError, AttributeError) as error:
        raise _unfit(name, f"has unreadable metadata ({METADATA}). Get the file again") from error
    if found.get("use_dora"):
        raise _unfit(name, "is a DoRA (use_dora in its metadata); only plain LoRAs are supported. Use another file")
    return found


def _by_layer(name: str, tensors: Mapping[str, Tensor]) -> list[_Layer]:
    """Sort a file's tensors by the layers that they change."""
    keys = {key: parse_lora_key(key) for key in tensors}
    unknown = [key for key, parsed in keys.items() if parsed is None]
    if unknown:
        some = ", ".join(unknown[:NAMED]) + (f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else "")
        what = "is not a LoRA in a known style: it" if len(unknown) == len(keys) else "is not only a LoRA: it also"
        raise _unfit(name, f"{what} holds {some}. Use a LoRA made for Wan")
    if not keys:
        raise _unfit(name, "holds nothing. Get the file again")
    layers: dict[tuple[str | None, str], _Layer] = {}
    seen: dict[tuple[str | None, str, Part], str] = {}
    for key, parsed in keys.items():
        assert parsed is not None
        path = diffusers_layer(parsed.layer)
        layer = layers.setdefault((parsed.expert, path), _Layer(path, parsed.expert))
        if parsed.part in layer.tensors:
            first = seen[parsed.expert, path, parsed.part]
            raise _unfit(name, f"changes {path} twice ({first} and {key}); remove one of the two from the file")
        seen[parsed.expert, path, parsed.part] = key
        layer.tensors[parsed.part] = _numbers(name, parsed, tensors[key])
    return list(layers.values())


def _numbers(name: str, key: LoraKey, tensor: Tensor) -> Tensor:
    if key.part is Part.ALPHA:
        if tensor.numel() != 1 or not tensor.float().isfinite().all():
            raise _unfit(name, f"has an unusable alpha: {key.name} is not one finite number. Get the file again")
        return tensor
    if not tensor.is_floating_point():
        raise _unfit(name, f"holds {str(tensor.dtype).removeprefix('torch.')} in {key.name}; only floats are supported")
    if tensor.element_size() == 1:
        tensor = tensor.bfloat16()  # FP8 has no arithmetic; bf16 holds each of its values
    if not tensor.isfinite().all():
        raise _unfit(name, f"holds values that are not finite in {key.name}. Get the file again")
    return tensor


def fitted(adapter: Adapter, denoiser: Any, model: str) -> Adapter:
    """Return the adapter without the layers that read a start image, if this denoiser has none.

    Raises:
        JobFailed: it was made for another architecture, with some layers that do not match; or it changes nothing.
    """
    modules = dict(denoiser.named_modules())
    parameters = dict(denoiser.named_parameters())
    tensors: dict[str, Tensor] = {}
    patches: dict[str, Tensor] = {}
    wrong: list[str] = []
    left_out: list[str] = []
    for key, tensor in adapter.tensors.items():
        path, _, side = key.partition(".lora_")
        module = modules.get(path)
        if module is None and reads_start_image(path):
            left_out.append(path)
        elif module is None or not hasattr(module, "weight"):
            wrong.append(_absent(path, denoiser))
        else:
            tensor = _without_kernel(tensor, module)
            if difference := _difference(module, side, tensor):
                wrong.append(f"{path} {difference}")
            tensors[key] = tensor
    for name, tensor in adapter.patches.items():
        path = name.rpartition(".")[0]
        if name in parameters:
            expected = _parameter_shape(modules.get(path), name, parameters[name])
            if tensor.numel() != expected.numel() or not _same_shape(tensor.shape, expected):
                wrong.append(f"{name} ({_shape(tensor)}, {_sizes(expected)} here)")
            patches[name] = tensor.reshape(expected) if tensor.numel() == expected.numel() else tensor
        elif reads_start_image(path):
            left_out.append(path)
        else:
            wrong.append(_absent(name, denoiser))
    kept = Adapter(adapter.name, tensors, patches, tuple(dict.fromkeys(left_out)))
    if wrong or not kept:
        some = "; ".join(list(dict.fromkeys(wrong))[:NAMED]) or "none of its layers is in this model"
        total = len(adapter.tensors) + len(adapter.patches)
        raise JobFailed(
            "lora_unfit",
            f"The LoRA '{adapter.name}' was made for another architecture than '{model}': "
            f"{len(wrong)} of {total} tensors do not match: {some}. Use one made for this model.",
        )
    if not _changes_something(kept):
        raise _unfit(adapter.name, "changes nothing: all of its values are zero. Use another file, or omit it")
    return kept


def _absent(path: str, denoiser: Any) -> str:
    segments = path.split(".")
    last = len(denoiser.blocks) - 1
    if segments[0] == "blocks" and segments[1].isdecimal() and int(segments[1]) > last:
        return f"{path} (not in this model), which has blocks 0 to {last}"
    return f"{path} (not in this model)"


def _without_kernel(tensor: Tensor, module: Any) -> Tensor:
    """Return the matrix of a tensor that a trainer wrote for a linear layer as a 1x1 convolution."""
    if hasattr(module, "in_features") and tensor.ndim > 2 and set(tensor.shape[2:]) == {1}:
        return tensor.reshape(tensor.shape[:2])
    return tensor


def _difference(module: Any, side: str, tensor: Tensor) -> str | None:
    """Say how a tensor differs from what a layer needs; None if it fits."""
    kernel = tuple(getattr(module, "kernel_size", ()))
    inputs = getattr(module, "in_features", None) or getattr(module, "in_channels", None)
    outputs = getattr(module, "out_features", None) or getattr(module, "out_channels", None)
    if inputs is None or outputs is None:
        return "(not a layer that a LoRA can change)"
    shape = tuple(tensor.shape)
    if side.startswith("A"):
        if shape[1:] == (inputs, *kernel):
            return None
        needed = " x ".join(["RANK", *map(str, (inputs, *kernel))])
        return f"({shape[1]} wide, {inputs} here), lora_A is {_shape(tensor)} instead of {needed}"
    if side.endswith("bias"):
        return None if shape == (outputs,) else f"(bias of {_shape(tensor)}, {outputs} here)"
    ones = (1,) * len(kernel)
    if shape[:1] == (outputs,) and shape[2:] == ones:
        return None
    needed = " x ".join([str(outputs), "RANK", *map(str, ones)])
    return f"({shape[0]} wide, {outputs} here), lora_B is {_shape(tensor)} instead of {needed}"


def _parameter(path: str, name: str) -> str:
    """Return the name of a layer's parameter; a modulation table is a parameter itself."""
    if path.rpartition(".")[2] == MODULATION:
        return path
    return MODULATION if (path, name) == ("head", MODULATION) else f"{path}.{name}"


def _parameter_shape(module: Any, name: str, parameter: Any) -> torch.Size:
    if name.endswith(".weight") and hasattr(module, "in_features"):  # in GGUF, the parameter is a row of bytes
        return torch.Size((module.out_features, module.in_features))
    return torch.Size(parameter.shape)


def _same_shape(one: torch.Size, other: torch.Size) -> bool:
    """Compare shapes without leading ones, which modulation tables have in some files only."""
    return [size for size in one if size != 1] == [size for size in other if size != 1]


def _changes_something(adapter: Adapter) -> bool:
    if adapter.patches or any(tensor.any() for key, tensor in adapter.tensors.items() if key.endswith(".bias")):
        return True
    for key, down in adapter.tensors.items():
        path, _, side = key.partition(".lora_")
        if side == "A.weight":
            up = adapter.tensors[f"{path}.lora_B.weight"]
            ranks = down.flatten(1).any(1) & up.reshape(*up.shape[:2], -1).any(2).any(0)
            if ranks.any():
                return True
    return False


def _shape(tensor: Tensor) -> str:
    return _sizes(tensor.shape)


def _sizes(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "1"


def _unfit(name: str, reason: str) -> JobFailed:
    return JobFailed("lora_unfit", f"The LoRA '{name}' {reason}.")
