"""The VAE as training needs it: whole clips in two calls, no clamp, and normalized latents.

`AutoencoderKLWan` codes the first frame alone and then four frames at a time, with a cache of the last frames between
calls; its `_decode` clamps, which would kill gradients outside [-1, 1]. Every layer is causal in time, so coding the
first frame and then *all* the others at once gives the same result with far fewer kernel launches
(`tests` compare both).
"""

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import patchify, unpatchify
from torch import Tensor


def moments(vae: AutoencoderKLWan, clips: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance (B, 16, 1 + k, H / 8, W / 8) of clips (B, 3, 1 + 4k, H, W)."""
    vae.clear_cache()
    patches = patchify(clips, vae.config.patch_size)
    parts = [vae.encoder(patches[:, :, :1], feat_cache=vae._enc_feat_map, feat_idx=[0])]
    if patches.shape[2] > 1:
        parts.append(vae.encoder(patches[:, :, 1:], feat_cache=vae._enc_feat_map, feat_idx=[0]))
    mean, log_variance = vae.quant_conv(torch.cat(parts, 2)).chunk(2, dim=1)
    vae.clear_cache()
    return mean, log_variance.clamp(-30.0, 20.0)


def decode(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Clips (B, 3, 1 + 4k, H, W) of latents (B, 16, 1 + k, H / 8, W / 8), not clamped."""
    vae.clear_cache()
    hidden = vae.post_quant_conv(latents)
    parts = [vae.decoder(hidden[:, :, :1], feat_cache=vae._feat_map, feat_idx=[0], first_chunk=True)]
    if latents.shape[2] > 1:
        parts.append(vae.decoder(hidden[:, :, 1:], feat_cache=vae._feat_map, feat_idx=[0]))
    vae.clear_cache()
    pixels: Tensor = unpatchify(torch.cat(parts, 2), vae.config.patch_size)
    return pixels


def statistics(vae: AutoencoderKLWan, device: "torch.device | str") -> tuple[Tensor, Tensor]:
    """The mean and deviation [1, 16, 1, 1, 1] by which the pipelines normalize latents."""
    shape = (1, vae.config.z_dim, 1, 1, 1)
    return (
        torch.tensor(vae.config.latents_mean, device=device).view(shape),
        torch.tensor(vae.config.latents_std, device=device).view(shape),
    )


@torch.no_grad()
def importance(vae: AutoencoderKLWan, clips: Tensor) -> Tensor:
    """How much each normalized latent channel matters to the picture, [1, 16, 1, 1, 1] with mean about 1.

    Measured: the squared change of the decoded clips when a channel is disturbed. The channels differ by a factor of
    hundreds, and those that the decoder ignores are mostly noise; a plain loss spends the model on predicting them.
    """
    latents, _ = moments(vae, clips)
    _, deviation = statistics(vae, clips.device)
    rebuilt = decode(vae, latents).clamp(-1, 1)
    changes = []
    for channel in range(latents.shape[1]):
        disturbed = latents.clone()
        disturbed[:, channel] += 0.5 * deviation[:, channel] * torch.randn_like(disturbed[:, channel])
        changes.append((decode(vae, disturbed).clamp(-1, 1) - rebuilt).square().mean())
    change = torch.stack(changes).view(1, -1, 1, 1, 1)
    return 0.1 + 0.9 * change / change.mean()
