"""LoRA files as they are found in the world, made for a tiny denoiser, and what each must do to its weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from wan_mcp.files import sha256_of
from wan_mcp.schema.plans import LoraPlan

__all__ = ["STYLES", "Written", "lora_plan", "merge_by_hand", "write_lora"]

RANK = 4
ORIGINAL = {
    "attn1.to_q": "self_attn.q",
    "attn1.to_k": "self_attn.k",
    "attn1.to_v": "self_attn.v",
    "attn1.to_out.0": "self_attn.o",
    "attn2.to_q": "cross_attn.q",
    "attn2.to_k": "cross_attn.k",
    "attn2.to_v": "cross_attn.v",
    "attn2.to_out.0": "cross_attn.o",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
}
"""Layers of a block by the names of diffusers and of Wan's authors."""
STYLES = ("lightx2v", "kijai", "bare", "musubi", "peft", "peft-original", "diffusers")


@dataclass(frozen=True)
class Written:
    """A LoRA file and the change that it means, by layer."""

    file: Path
    weights: dict[str, Any]
    biases: dict[str, Any]


def write_lora(file: Path, denoiser: Any, style: str = "lightx2v", seed: int = 0) -> Written:
    """Write a LoRA on all linear layers of a denoiser's blocks."""
    random = torch.Generator().manual_seed(seed)
    modules = dict(denoiser.named_modules())
    tensors: dict[str, Any] = {}
    weights, biases = {}, {}
    for number in range(len(denoiser.blocks)):
        for ours, theirs in ORIGINAL.items():
            layer = f"blocks.{number}.{ours}"
            down = torch.randn(RANK, modules[layer].in_features, generator=random) * 0.3
            up = torch.randn(modules[layer].out_features, RANK, generator=random) * 0.3
            weights[layer] = up @ down
            original = f"blocks.{number}.{theirs}"
            match style:
                case "lightx2v" | "kijai" | "bare":
                    prefix = "" if style == "bare" else "diffusion_model."
                    tensors[f"{prefix}{original}.lora_down.weight"] = down
                    tensors[f"{prefix}{original}.lora_up.weight"] = up
                    if style == "lightx2v":
                        tensors[f"{prefix}{original}.alpha"] = torch.tensor(RANK / 2)
                        weights[layer] = weights[layer] / 2
                    if style == "kijai":
                        biases[layer] = torch.randn(up.shape[0], generator=random) * 0.3
                        tensors[f"{prefix}{original}.diff_b"] = biases[layer]
                        tensors[f"{prefix}blocks.{number}.norm3.diff"] = torch.zeros(4)
                case "musubi":
                    name = f"lora_unet_{original.replace('.', '_')}"
                    tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
                    tensors[f"{name}.alpha"] = torch.tensor(float(RANK))
                case "peft" | "peft-original" | "diffusers":
                    name = f"diffusion_model.{original}" if style == "peft-original" else layer
                    name = {"peft": "base_model.model.", "diffusers": "transformer."}.get(style, "") + name
                    tensors |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, file)
    return Written(file, weights, biases)


def merge_by_hand(denoiser: Any, written: Written, scale: float) -> None:
    """Add to the denoiser's weights what the file means."""
    modules = dict(denoiser.named_modules())
    with torch.no_grad():
        for layer, change in written.weights.items():
            modules[layer].weight += scale * change
        for layer, change in written.biases.items():
            modules[layer].bias += scale * change


def lora_plan(written: Written | Path, scale: float = 1.0, expert: str | None = None) -> LoraPlan:
    """Return what a plan says of a LoRA file."""
    file = written.file if isinstance(written, Written) else written
    return LoraPlan(name=file.stem, file=str(file), sha256=sha256_of(file), scale=scale, expert=expert)
