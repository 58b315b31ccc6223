"""The parts of Wan2.2 T2V-A14B with random weights, made on the device."""

from typing import Any

import torch

__all__ = [
    "A14B",
    "PROMPT_TOKENS",
    "SHAPES",
    "TINY",
    "VAE",
    "denoiser",
    "device",
    "inputs",
    "latent_shape",
    "outliers",
    "vae",
]

PROMPT_TOKENS = 100
"""Of a long prompt."""
# The published configurations.
A14B: dict[str, Any] = {
    "num_layers": 40,
    "num_attention_heads": 40,
    "attention_head_dim": 128,
    "ffn_dim": 13824,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 4096,
    "freq_dim": 256,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
}
VAE: dict[str, Any] = {"base_dim": 96, "z_dim": 16, "num_res_blocks": 2, "temperal_downsample": [False, True, True]}
TINY: dict[str, dict[str, Any]] = {
    "transformer": {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 32, "ffn_dim": 96, "text_dim": 32},
    "vae": {"base_dim": 8, "num_res_blocks": 1},
}
SHAPES = {"480p": (480, 832, 81), "720p": (720, 1280, 81), "image": (720, 1280, 1)}
TINY_SHAPES = {"480p": (64, 96, 5), "720p": (96, 128, 5), "image": (96, 128, 1)}


def device() -> torch.device:
    """The GPU, where there is one."""
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def dtype() -> torch.dtype:
    """What the device's models run in."""
    return torch.bfloat16 if torch.cuda.is_available() else torch.float32


def shape(name: str, tiny: bool) -> tuple[int, int, int]:
    """Height, width and frames."""
    return (TINY_SHAPES if tiny else SHAPES)[name]


def written(size: tuple[int, int, int]) -> str:
    """A shape as tables show it."""
    return "x".join(map(str, size))


def latent_shape(size: tuple[int, int, int]) -> tuple[int, ...]:
    """Of Wan2.1's autoencoder: 8 times smaller in space, 4 in time."""
    height, width, frames = size
    return (1, 16, (frames - 1) // 4 + 1, height // 8, width // 8)


def denoiser(tiny: bool) -> Any:
    """One expert as `from_pretrained` would give it: bf16, with what diffusers keeps in float32."""
    from diffusers import WanTransformer3DModel

    torch.manual_seed(0)
    torch.set_default_dtype(dtype())
    try:
        with torch.device(device()):
            model = WanTransformer3DModel(**A14B | (TINY["transformer"] if tiny else {}))
    finally:
        torch.set_default_dtype(torch.float32)
    for name, parameter in [*model.named_parameters(), *model.named_buffers()]:
        if any(kept in name.split(".") for kept in model._keep_in_fp32_modules):
            parameter.data = parameter.data.float()
    return model.eval().requires_grad_(False)


@torch.no_grad()
def outliers(model: Any) -> None:
    """Give a random denoiser what trained ones have: channels of the residual stream that are tens of times larger.

    Every layer that writes into the stream gets the same gains: log-normal (deviation 0.6), one channel in a hundred
    20 times that. The weights of the queries' and keys' normalization are log-normal too.
    """
    random = torch.Generator(device=model.proj_out.weight.device).manual_seed(1)
    width = model.proj_out.in_features
    where = model.proj_out.weight.device
    gains = torch.exp(0.6 * torch.randn(width, device=where, generator=random))
    gains *= torch.where(torch.rand(width, device=where, generator=random) < 0.01, 20.0, 1.0)
    for block in model.blocks:
        for layer in (block.attn1.to_out[0], block.attn2.to_out[0], block.ffn.net[2]):
            layer.weight.mul_(gains.to(layer.weight.dtype)[:, None])
            layer.bias.mul_(gains.to(layer.bias.dtype))
        for norm in (block.attn1.norm_q, block.attn1.norm_k):
            norm.weight.mul_(torch.exp(0.5 * torch.randn(width, device=where, generator=random)).to(norm.weight.dtype))


def inputs(size: tuple[int, int, int], tiny: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents, time and text of one forward: a prompt of `PROMPT_TOKENS`, padded with zeros as pipelines do."""
    random = torch.Generator(device=device()).manual_seed(2)
    latents = torch.randn(latent_shape(size), device=device(), dtype=dtype(), generator=random)
    width = (A14B | (TINY["transformer"] if tiny else {}))["text_dim"]
    text = torch.randn(1, 512, width, device=device(), dtype=dtype(), generator=random)
    text[:, PROMPT_TOKENS:] = 0
    return latents, torch.tensor([800], device=device()), text


def vae(tiny: bool) -> Any:
    """The autoencoder in the device's precision."""
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    with torch.device(device()):
        model = AutoencoderKLWan(**VAE | (TINY["vae"] if tiny else {}))
    return model.to(dtype()).eval().requires_grad_(False)
