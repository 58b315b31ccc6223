"""The layout of `wan-mini`: which classes, how large, and how they are saved as ordinary pipeline directories.

TI2V-5B's classes at toy size. The VAE compresses 8x in space (patches of 2, then two halvings) and 4x in time; at 16x
small stars and rings could not be told apart. Only this module knows the sizes; every stage builds from it.
"""

import shutil
import uuid
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

EMBEDDED = Path("src/wan_mcp/embedded")
LATENT_CHANNELS = 16
SPATIAL_FACTOR = 8
TEMPORAL_FACTOR = 4
TEXT_WIDTH = 128
FLOW_SHIFT = 3.0  # of the times in training
SAMPLER_SHIFT = 5.0
"""Of the sampler: chosen on prompts apart from those of the benchmark, where pairs came out better than at 3."""


def fresh_vae() -> AutoencoderKLWan:
    """An untrained VAE: (B, 3, 1 + 4k, H, W) in [-1, 1] <-> (B, 16, 1 + k, H / 8, W / 8)."""
    return AutoencoderKLWan(
        base_dim=24,
        decoder_base_dim=32,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_temporal=TEMPORAL_FACTOR,
        scale_factor_spatial=SPATIAL_FACTOR,
        latents_mean=[0.0] * LATENT_CHANNELS,
        latents_std=[1.0] * LATENT_CHANNELS,
    )


def fresh_transformer() -> WanTransformer3DModel:
    """An untrained denoiser over (B, 16, T, H, W) latents, one token per 2x2 latents of a frame."""
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=4,
        attention_head_dim=64,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_dim=TEXT_WIDTH,
        freq_dim=256,
        ffn_dim=1024,
        num_layers=6,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=64,
    )


def fresh_text_encoder(vocabulary: int) -> UMT5EncoderModel:
    """An untrained text encoder, trained together with the transformer."""
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=vocabulary,
            d_model=TEXT_WIDTH,
            d_kv=32,
            d_ff=256,
            num_layers=2,
            num_decoder_layers=1,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            pad_token_id=0,
            eos_token_id=1,
            tie_word_embeddings=False,
        )
    )


def fresh_scheduler() -> UniPCMultistepScheduler:
    """The sampler that TI2V-5B ships with."""
    return UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=SAMPLER_SHIFT
    )


def pipeline(
    tokenizer: PreTrainedTokenizerFast,
    text_encoder: UMT5EncoderModel,
    vae: AutoencoderKLWan,
    transformer: WanTransformer3DModel,
) -> WanPipeline:
    """One pipeline of the parts; `WanImageToVideoPipeline` loads the same directory."""
    return WanPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=vae,
        transformer=transformer,
        scheduler=fresh_scheduler(),
        transformer_2=None,
        boundary_ratio=None,
        expand_timesteps=True,
    )


def publish(write_into: "Path", *savers: object) -> None:
    """Replace the directory `write_into` as a whole by what the `savers` write (each has `save_pretrained`).

    Built beside and renamed, so that a reader sees the old or the new set of weights, never a mixture.
    """
    write_into.parent.mkdir(parents=True, exist_ok=True)
    fresh = write_into.with_name(f".{write_into.name}.{uuid.uuid4().hex[:8]}")
    for saver in savers:
        saver.save_pretrained(fresh, safe_serialization=True)  # type: ignore[attr-defined]
    for path in fresh.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # save_pretrained leaves weights unreadable to others
    fresh.chmod(0o755)
    if write_into.exists():
        old = write_into.with_name(f"{fresh.name}.old")
        write_into.rename(old)
        fresh.rename(write_into)
        shutil.rmtree(old)
    else:
        fresh.rename(write_into)


def as_saved(module: torch.nn.Module) -> torch.nn.Module:
    """The module with every parameter in bfloat16, as it is shipped (half the bytes)."""
    return module.to(torch.bfloat16)
