"""Autoencoders of all three layouts, small, with random weights that leave no layer without effect."""

from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

from wan_mcp.engine.components.install import EMBEDDED
from wan_mcp.engine.vae.chunked import ChunkedVAE

COMMON = {"base_dim": 8, "dim_mult": [1, 2, 4, 4], "temperal_downsample": [False, True, True]}
LAYOUTS: dict[str, dict[str, Any]] = {
    "first generation": {**COMMON, "num_res_blocks": 1, "z_dim": 16},
    "second generation": {
        **COMMON,
        "decoder_base_dim": 12,
        "num_res_blocks": 2,
        "z_dim": 48,
        "is_residual": True,
        "in_channels": 12,
        "out_channels": 12,
        "patch_size": 2,
        "scale_factor_spatial": 16,
    },
    "wan-mini": AutoencoderKLWan.load_config(EMBEDDED / "wan-mini" / "vae"),
}


def random_vae(layout: str, seed: int = 0) -> Any:
    """A small autoencoder of that layout."""
    torch.manual_seed(seed)
    vae = AutoencoderKLWan.from_config(LAYOUTS[layout]).eval().requires_grad_(False)
    for name, parameter in vae.named_parameters():
        if name.endswith("gamma"):
            parameter.normal_(1, 0.2)
        elif name.endswith("bias"):
            parameter.normal_(0, 0.1)
    return vae


def random_latents(vae: Any, frames: int, height: int = 3, width: int = 4) -> Any:
    """Latents (1, channels, frames, height, width)."""
    return torch.randn(1, vae.config.z_dim, frames, height, width, generator=torch.Generator().manual_seed(1))


def random_pictures(vae: Any, count: int) -> Any:
    """A clip (1, 3, count, height, width) of noise, of 2 x 3 latents."""
    scale = vae.config.scale_factor_spatial
    noise = torch.randn(1, 3, count, 2 * scale, 3 * scale, generator=torch.Generator().manual_seed(2))
    return noise.clamp(-1, 1)


def decoded(vae: Any, latents: Any) -> Any:
    """The pixels (pictures, height, width, 3), clamped as the autoencoder does it."""
    return torch.cat([pixels for _, pixels in ChunkedVAE(vae).decode(latents)]).clamp(-1, 1)


@pytest.fixture(params=list(LAYOUTS))
def vae(request: pytest.FixtureRequest) -> Any:
    return random_vae(request.param)
