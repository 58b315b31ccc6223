"""A tiny LTX-Video model of the real classes with random weights, saved in the layout of its repositories."""

from pathlib import Path

import torch
from diffusers import AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler, LTXPipeline, LTXVideoTransformer3DModel
from transformers import T5Config, T5EncoderModel, T5Tokenizer

__all__ = ["save_ltx"]

WORDS = ("a", "red", "blue", "circle", "moving", "left")


def save_ltx(folder: Path) -> None:
    """Write the model: 2 rows and columns of tokens and 2 latent frames for 64x64 pixels and 9 frames."""
    torch.manual_seed(41)
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"▁{word}", -3.0) for word in WORDS)]
    vocabulary += [("▁", -12.0), *((chr(code), -12.0 - code / 1000) for code in range(33, 127))]
    tokenizer = T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=128)
    text = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2, pad_token_id=0,
        eos_token_id=1, feed_forward_proj="gated-gelu",
    )  # fmt: skip
    vae = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
    ).eval()
    transformer = LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=16,
        cross_attention_dim=32,
        caption_channels=32,
        num_layers=1,
    ).eval()
    LTXPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae,
        text_encoder=T5EncoderModel(text).eval(),
        tokenizer=tokenizer,
        transformer=transformer,
    ).save_pretrained(folder)
