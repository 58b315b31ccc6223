"""Fused norm and activation for training the VAE on a GPU: the same mathematics in a third of the memory traffic.

Each of the VAE's residual blocks normalizes (in float32), scales, applies SiLU and only then convolves in bfloat16.
Done one after the other these passes cost more than the convolutions. `fuse` makes the norm do all of it in one
compiled kernel and turns the block's own activation into nothing; `restore` undoes it.
"""

import types

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanDecoder3d,
    WanEncoder3d,
    WanResidualBlock,
    WanRMS_norm,
)
from torch import Tensor, nn

# One kernel per channel count, with and without gradients, for one frame and for many.
torch._dynamo.config.recompile_limit = 64


def _normed_silu(x: Tensor, gain: Tensor) -> Tensor:
    wide = x.float()
    length = wide.square().sum(1, keepdim=True).sqrt().clamp_min(1e-12)
    return nn.functional.silu(wide / length * gain).to(x.dtype)


_compiled = torch.compile(_normed_silu, dynamic=True, fullgraph=True)


def _norms(vae: AutoencoderKLWan) -> list[tuple[nn.Module, list[WanRMS_norm]]]:
    """Every module that owns an activation, with the norms that feed it."""
    found: list[tuple[nn.Module, list[WanRMS_norm]]] = []
    for module in vae.modules():
        if isinstance(module, WanResidualBlock):
            found.append((module, [module.norm1, module.norm2]))
        elif isinstance(module, WanEncoder3d | WanDecoder3d):
            found.append((module, [module.norm_out]))
    return found


def fuse(vae: AutoencoderKLWan, compiled: bool = True) -> None:
    run = _compiled if compiled else _normed_silu

    def forward(norm: WanRMS_norm, x: Tensor) -> Tensor:
        return run(x, norm.gamma * norm.scale)

    for owner, norms in _norms(vae):
        owner.nonlinearity = nn.Identity()
        for norm in norms:
            norm.forward = types.MethodType(forward, norm)


def restore(vae: AutoencoderKLWan) -> None:
    for owner, norms in _norms(vae):
        owner.nonlinearity = nn.SiLU()
        for norm in norms:
            del norm.forward
