"""A Wan denoiser with fast blocks: from converted weights on disk, or converted from its source and kept.

The source's weights are on the device one block at a time: a GPU never holds the unconverted model.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import WanTransformer3DModel
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from torch import Tensor

from wan_mcp.engine.compat import dequantize_gguf
from wan_mcp.engine.device.device import Device
from wan_mcp.engine.device.upload import upload_module
from wan_mcp.engine.families.wan.lora_adapter import Adapter
from wan_mcp.engine.families.wan.lora_injection import patch, put_on
from wan_mcp.engine.ops.fp8_linear import FP8
from wan_mcp.engine.transformer.block import BlockKind
from wan_mcp.engine.transformer.checkpoint_cache import LAYOUT, WeightsCache
from wan_mcp.engine.transformer.fast_blocks import FastBlocks, install_blocks
from wan_mcp.engine.transformer.weight_store import ResidentWeights, WeightStore
from wan_mcp.engine.transformer.weights import LINEARS_PER_BLOCK, BlockWeights, block_weights
from wan_mcp.text import in_bytes

__all__ = ["Denoiser", "DenoiserSource", "FusedAdapter", "blank_denoiser", "load_denoiser"]

log = logging.getLogger(__name__)

READING = 2
"""What adapters mean: 2 since all of a file's tensors are applied. Weights that were converted before are others."""
FusedAdapter = tuple[Adapter, str, float]
"""An adapter that is fused into weights, its file's sha256, its scale."""
LoadPlain = Callable[[], Any]
"""Gives the `WanTransformer3DModel` as its source has it, on the CPU."""


@dataclass(frozen=True)
class DenoiserSource:
    """What a denoiser is made from."""

    name: str
    """For the log, e.g. the expert's."""
    config: Any
    """Of the `WanTransformer3DModel`: a mapping, complete, that also has its values as attributes."""
    load: LoadPlain
    sha256: str
    """Of the weights that `load` reads, by their content."""
    adapters: tuple[FusedAdapter, ...] = ()
    """What is fused into the weights."""

    def key(self, kinds: Sequence[BlockKind], device: Device) -> str:
        """Return what the converted weights depend on, as the name of a folder.

        To convert is exact. To fuse an adapter is a matrix product, which has other bits on a CPU with other threads.
        """
        content = {
            "layout": LAYOUT,
            "config": {k: v for k, v in self.config.items() if not k.startswith("_")},
            "weights": self.sha256,
            "adapters": [(sha256, scale) for _, sha256, scale in self.adapters],
            "kinds": [(kind.shape.describe(), kind.scheme, str(kind.dtype)) for kind in kinds],
        }
        if self.adapters:
            content["reading"] = READING
        if self.adapters and not device.is_cuda:
            content["fused_on"] = device.description
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32]


class Denoiser:
    """A denoiser that runs, with fast blocks."""

    def __init__(self, conversion: "_Conversion") -> None:
        self._conversion = conversion
        self.model, blocks = conversion.parts()
        """The `WanTransformer3DModel`, which pipelines use."""
        self.blocks: FastBlocks = install_blocks(self.model, blocks, conversion.weight_store)

    @property
    def layers(self) -> Any:
        """The same denoiser with the layers that it was made from, without memory for their weights."""
        return blank_denoiser(self._conversion.source.config)

    def fuse(self, adapters: tuple[FusedAdapter, ...]) -> None:
        """Keep these adapters in the weights, next to the source's, and no others.

        FP8 weights keep too few digits to add a small change to them, so they are converted again from the source. The
        present blocks go first, as there may be no room for both: after a failure there are none until it has worked.
        """
        self.finish_keeping()
        self.blocks.drop()
        conversion = self._conversion
        if adapters:
            source = replace(conversion.source, adapters=(*conversion.source.adapters, *adapters))
            conversion = replace(conversion, source=source, cache=None)
        model, blocks = conversion.parts()
        self.blocks.replace(blocks)
        self.model.load_state_dict(_rest_of(model), strict=False, assign=True)
        self.model.condition_embedder.text_embedder.forget()

    def begin_keeping(self) -> None:
        """Write converted weights to the disk from now on, in the background."""
        if self._conversion.cache is not None:
            self._conversion.cache.begin()

    def finish_keeping(self) -> None:
        """Wait until converted weights are on disk, so that nothing else needs their memory."""
        if self._conversion.cache is not None:
            self._conversion.cache.finish()

    def forget(self) -> None:
        """Let go of all on the device that can be made again: texts, tables, streamed blocks."""
        self.blocks.forget_texts()
        self.model.condition_embedder.text_embedder.forget()
        self.model.rope.forget()
        self._conversion.weight_store.evict()


Parts = tuple[Any, list[BlockWeights]]
"""A model without blocks, and the weights of its blocks."""


def blank_denoiser(config: Mapping[str, Any]) -> Any:
    """Return a `WanTransformer3DModel` without memory for weights, to ask it for its layers."""
    with init_empty_weights():
        return WanTransformer3DModel.from_config(dict(config))


def load_denoiser(
    source: DenoiserSource,
    kinds: Sequence[BlockKind],
    device: Device,
    cache: WeightsCache | None,
    weight_store: WeightStore | None = None,
) -> Denoiser:
    """Return the denoiser of a source with fast blocks of these kinds.

    Args:
        source: what to make it from.
        kinds: of each block.
        device: where it computes.
        cache: where converted weights lie and are kept; only FP8 is worth the room.
        weight_store: where its blocks live, one for all denoisers of a model; None for the device.

    Raises:
        JobFailed: from the source.
    """
    kept = cache if any(kind.scheme == FP8 for kind in kinds) else None
    return Denoiser(_Conversion(source, kinds, device, kept, weight_store or ResidentWeights(device.torch)))


@dataclass(frozen=True)
class _Conversion:
    """How a denoiser comes from its source to the device."""

    source: DenoiserSource
    kinds: Sequence[BlockKind]
    device: Device
    cache: WeightsCache | None
    weight_store: WeightStore

    def parts(self) -> Parts:
        """Return the denoiser's parts, from the cache if they are there."""
        return self._cached() or self._converted()

    def _cached(self) -> Parts | None:
        if self.cache is None:
            return None
        source, key = self.source, self.source.key(self.kinds, self.device)
        cached = self.cache.find(key)
        if cached is None:
            return None
        try:
            blocks = cached.blocks(self.kinds, self.weight_store)
            rest = cached.rest(self.device.torch)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            self.cache.set_aside(key, f"{type(error).__name__}: {error}")
            return None
        with init_empty_weights(include_buffers=False):
            model = WanTransformer3DModel.from_config({**source.config, "num_layers": 0})
        # The rotary tables are no weights: they are computed, on the CPU.
        model.load_state_dict(rest, strict=False, assign=True)
        model.register_to_config(num_layers=len(blocks))
        model.to(self.device.torch).eval().requires_grad_(False)
        log.info("%s: %d blocks from converted weights (%s)", source.name, len(blocks), in_bytes(cached.bytes))
        return model, blocks

    def _converted(self) -> Parts:
        source, kinds, device = self.source, self.kinds, self.device.torch
        model = source.load()
        model.eval().requires_grad_(False)
        if source.adapters:
            _unpack(model, model)  # adapters fit plain layers only
            adapters = [(adapter, scale) for adapter, _, scale in source.adapters]
            patch(model, adapters)
            put_on(model, adapters)
        blocks: list[BlockWeights] = []
        for number, kind in enumerate(kinds):
            block = upload_module(model.blocks[number], device)
            _unpack(block, model)
            _merge(block)
            blocks.append(self.weight_store.place(block_weights(kind, _state_of(block), device)))
            model.blocks[number] = torch.nn.Identity()  # its unconverted weights go
        _assert_all_converted(source, kinds, blocks)
        model.blocks = torch.nn.ModuleList()
        _unpack(model, model)
        if source.adapters:
            _merge(model)
            if getattr(model, "peft_config", None):
                model.unload_lora()
        upload_module(model, device)
        if self.cache is not None:
            key, tensors, rest = (
                source.key(kinds, self.device),
                [each.tensors for each in blocks],
                dict(model.state_dict()),
            )
            self.cache.keep(key, tensors, rest)
        schemes = ", ".join(sorted({kind.scheme for kind in kinds}))
        log.info("%s: %d blocks converted to %s", source.name, len(blocks), schemes)
        return model, blocks


def _rest_of(model: Any) -> dict[str, Tensor]:
    """Return the tensors of a model without blocks, by the names that they have when the fast blocks are in it."""
    return {name.replace(".text_embedder.", ".text_embedder.embedder."): t for name, t in model.state_dict().items()}


def _unpack(part: Any, model: Any) -> None:
    """Turn GGUF layers into plain ones."""
    if getattr(model, "hf_quantizer", None) is not None:
        dequantize_gguf(part)


def _merge(part: Any) -> None:
    """Put the adapters' changes into the weights of all layers of a part."""
    for layer in part.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.merge()


def _state_of(block: Any) -> dict[str, Tensor]:
    """Return a block's tensors without the wrapping of adapters that are merged."""
    return {
        name.replace(".base_layer.", "."): tensor for name, tensor in block.state_dict().items() if ".lora_" not in name
    }


def _assert_all_converted(source: DenoiserSource, kinds: Sequence[BlockKind], blocks: Sequence[BlockWeights]) -> None:
    """Check that all layers were converted: one that was not would only be slow and large, and pass unnoticed."""
    wanted = sum(LINEARS_PER_BLOCK for kind in kinds if kind.scheme == FP8)
    made = sum(each.quantized_layers for each in blocks)
    if made != wanted:
        raise AssertionError(f"{source.name}: {made} layers in FP8 instead of {wanted}")
