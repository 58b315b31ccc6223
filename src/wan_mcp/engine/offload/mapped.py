"""Weights that stay in their files while a CPU computes with them: each layer reads its own in every forward pass.

A file is mapped, so its pages are the kernel's cache: they fill the memory that nothing else wants, and make room when
something does. A pass computes in fp32, as with weights in memory, and returns the same bits. Where the files are in
bf16, a layer's weights are widened for its forward and dropped after it.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import init_empty_weights
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from wan_mcp.text import in_bytes

__all__ = ["keep_in_memory", "map_denoiser", "map_text_encoder"]

log = logging.getLogger(__name__)

COMPUTED = torch.float32
STEM = "diffusion_pytorch_model"
WIDTHS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Types of floating-point tensors in safetensors files."""


def map_denoiser(kind: Any, folder: Path) -> Any:
    """Return a model of a diffusers class whose weights stay in the safetensors files of `folder`.

    Raises:
        OSError, SafetensorError: a file cannot be read.
        ValueError: the files do not hold exactly the model's weights.
    """
    with init_empty_weights(include_buffers=False):
        model = kind.from_config(kind.load_config(folder))
    stored: dict[str, Tensor] = {}
    for file in _files(folder):
        stored |= load_file(file)
    wanted = {name for name, _ in model.named_parameters()}
    if odd := sorted(wanted.symmetric_difference(stored.keys() - dict(model.named_buffers()).keys())):
        raise ValueError(f"{len(odd)} tensors are missing or unknown, e.g. {odd[0]}")
    model.load_state_dict(stored, strict=False, assign=True)
    return _read_in_each_pass(model)


def map_text_encoder(folder: Path) -> Any:
    """Return the transformers model of `folder`, as a pipeline names it, whose weights stay in its files.

    Raises:
        OSError, SafetensorError, ValueError: it cannot be read.
    """
    index = json.loads((folder.parent / "model_index.json").read_text(encoding="utf-8"))
    _, name = index[folder.name]
    # In the type of the files: another one would be a copy in memory.
    model = getattr(transformers, name).from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype=_widest(folder)
    )
    return _read_in_each_pass(model)


def keep_in_memory(part: nn.Module, names: Iterator[str] | list[str]) -> None:
    """Move parameters of a mapped part to memory, so that they can be changed; others are not affected."""
    for name in names:
        path, _, own = name.rpartition(".")
        hooks = getattr(part.get_submodule(path), "mapped_weights", None)
        if hooks is not None:
            hooks.keep_in_memory(own)


def _files(folder: Path) -> list[Path]:
    index = folder / f"{STEM}.safetensors.index.json"
    if not index.is_file():
        return [folder / f"{STEM}.safetensors"]
    return [folder / name for name in sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))]


def _widest(folder: Path) -> torch.dtype:
    """Return the widest floating-point type in the files of a folder."""
    found = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            found |= {tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118 - not a mapping
    widths = [WIDTHS[name] for name in found if name in WIDTHS]
    return max(widths, key=lambda width: width.itemsize, default=COMPUTED)


def _read_in_each_pass(part: Any) -> Any:
    part.eval().requires_grad_(False)
    size = sum(tensor.nbytes for tensor in part.parameters())
    shared: dict[int, nn.Parameter] = {}
    for layer in part.modules():
        if layer._parameters:
            layer.mapped_weights = _MappedWeights(layer, shared)
    log.info("%s: %s stay in their files", type(part).__name__, in_bytes(size))
    return part


class _MappedWeights:
    """Hooks that give a layer its weights for each of its forward passes.

    Between passes its parameters are placeholders of the right shape and type, without memory. They are NaN, so a
    weight that is read outside its layer's forward is noticed.
    """

    def __init__(self, layer: nn.Module, shared: dict[int, nn.Parameter]) -> None:
        self._layer = layer
        self._stored: dict[str, Tensor] = {}
        self._empty: dict[str, nn.Parameter] = {}
        self._is_table = isinstance(layer, nn.Embedding)
        for name, tensor in layer._parameters.items():
            if tensor is not None and tensor.is_floating_point():
                self._stored[name] = tensor.detach()
                blank = torch.full((), torch.nan, dtype=COMPUTED).expand(tensor.shape)
                # Tensors with two names stay one.
                empty = shared.setdefault(id(tensor), nn.Parameter(blank, requires_grad=False))
                self._empty[name] = layer._parameters[name] = empty
        layer.register_forward_pre_hook(self._come)
        layer.register_forward_hook(self._go, always_call=True)  # also after an interrupted pass

    def keep_in_memory(self, name: str) -> None:
        """Give the layer one of its parameters for good."""
        if name in self._stored:
            tensor = self._stored.pop(name).to(COMPUTED, copy=True)
            self._layer._parameters[name] = nn.Parameter(tensor, requires_grad=False)

    def _come(self, layer: nn.Module, inputs: Any) -> None:
        for name, tensor in self._stored.items():
            # Of a table only the rows of a text are widened: see `_go`.
            there = tensor if self._is_table else tensor.to(COMPUTED)
            layer._parameters[name] = nn.Parameter(there, requires_grad=False)

    def _go(self, layer: nn.Module, inputs: Any, output: Any) -> Any:
        for name in self._stored:
            layer._parameters[name] = self._empty[name]
        return output.to(COMPUTED) if self._is_table and isinstance(output, Tensor) else None
