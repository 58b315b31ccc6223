"""GGUF files of a tiny denoiser, as the world's converters write them."""

from pathlib import Path
from typing import Any

import gguf
import numpy

from tests.fixtures.bench import changed_pipeline
from tests.support.k_quants import K_QUANTS, encode
from tests.support.lora_files import ORIGINAL
from wan_mcp.catalog.denoisers import Expert, Gguf
from wan_mcp.catalog.manifest import Manifest

__all__ = ["FILES", "in_gguf", "write_gguf"]

FILES = ("high.gguf", "low.gguf")
OUTSIDE_BLOCKS = {
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "proj_out": "head.head",
}
WITHIN_BLOCKS = {
    "attn1.norm_q": "self_attn.norm_q",
    "attn1.norm_k": "self_attn.norm_k",
    "attn2.norm_q": "cross_attn.norm_q",
    "attn2.norm_k": "cross_attn.norm_k",
    "norm2": "norm3",
} | ORIGINAL


def in_gguf(manifest: Manifest) -> Manifest:
    """Return the manifest with its two experts in `FILES`."""
    experts = tuple(
        Expert(name=part, subfolder=part, gguf=Gguf(repository="a/b", file=file))
        for part, file in zip(("transformer", "transformer_2"), FILES, strict=True)
    )
    return changed_pipeline(manifest, experts=experts)


def write_gguf(file: Path, denoiser: Any, kind: str = "Q8_0", *, original_names: bool = True) -> None:
    """Write a denoiser: the matrices of attention and feed-forward in few bits, everything else as it is.

    `Q4_K_M` is Q4_K with some matrices in Q6_K, as the world's files of that name are.
    """
    writer = gguf.GGUFWriter(file, "wan")
    for name, tensor in denoiser.state_dict().items():
        data = tensor.float().numpy()
        few_bits = name.startswith("blocks.") and name.endswith(".weight") and data.ndim == 2
        name = _original(name) if original_names else name
        if few_bits:
            bits = _kind_of(name, kind)
            quantized = getattr(gguf.GGMLQuantizationType, bits)
            packed = encode(data, bits) if bits in K_QUANTS else gguf.quants.quantize(data, quantized)
            writer.add_tensor(name, packed, raw_dtype=quantized)
        else:
            writer.add_tensor(name, numpy.ascontiguousarray(data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _kind_of(name: str, kind: str) -> str:
    if kind != "Q4_K_M":
        return kind
    return "Q6_K" if any(part in name for part in (".v.", ".to_v.", "ffn.2.", "ffn.net.2.")) else "Q4_K"


def _original(name: str) -> str:
    if name == "scale_shift_table":
        return "head.modulation"
    if name.endswith("scale_shift_table"):
        return name.replace("scale_shift_table", "modulation")
    layer, _, part = name.rpartition(".")
    if layer.startswith("blocks."):
        _, number, within = layer.split(".", 2)
        return f"blocks.{number}.{WITHIN_BLOCKS[within]}.{part}"
    return f"{OUTSIDE_BLOCKS.get(layer, layer)}.{part}"
