"""Tiny models of the real classes with random weights, saved as an installation has them."""

from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from diffusers.pipelines.wan.pipeline_wan import WanPipeline
from diffusers.pipelines.wan.pipeline_wan_i2v import WanImageToVideoPipeline
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    PreTrainedTokenizerFast,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)

from wan_mcp.catalog.manifest import Manifest

WORDS = ["a", "red", "blue", "circle", "square", "moving", "left", "right"]
BOUNDARY = 0.9


def _text_parts() -> tuple[Any, Any]:
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"▁{word}", -3.0) for word in WORDS)]
    vocabulary += [("▁", -12.0), *((chr(code), -12.0 - code / 1000) for code in range(33, 127))]
    tokenizer = T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=64)
    config = UMT5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=16,
        d_ff=64,
        num_layers=1,
        num_decoder_layers=1,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        pad_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=False,
    )
    return tokenizer, UMT5EncoderModel(config).eval()


def _denoiser(inputs: int, outputs: int) -> Any:
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=32,
        in_channels=inputs,
        out_channels=outputs,
        text_dim=32,
        freq_dim=64,
        ffn_dim=96,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=256,
    ).eval()


def _scheduler() -> Any:
    return UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0
    )


def _vae(**layout: Any) -> Any:
    return AutoencoderKLWan(
        base_dim=8,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        **layout,
    ).eval()


def save_one_expert(folder: Path, **saving: Any) -> None:
    """The layout of Wan2.2 TI2V-5B: text and first image to video with one denoiser."""
    torch.manual_seed(1)
    tokenizer, text_encoder = _text_parts()
    vae = _vae(
        decoder_base_dim=8,
        z_dim=48,
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_temporal=4,
        scale_factor_spatial=16,
        latents_mean=[0.1] * 48,
        latents_std=[0.7] * 48,
    )
    WanPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=vae,
        scheduler=_scheduler(),
        transformer=_denoiser(48, 48),
        expand_timesteps=True,
    ).save_pretrained(folder, **saving)


def save_two_experts(folder: Path, **saving: Any) -> None:
    """The layout of Wan2.2 T2V-A14B: text to video with an expert for each half of the noise levels."""
    torch.manual_seed(2)
    tokenizer, text_encoder = _text_parts()
    WanPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=_vae(z_dim=16),
        scheduler=_scheduler(),
        transformer=_denoiser(16, 16),
        transformer_2=_denoiser(16, 16),
        boundary_ratio=BOUNDARY,
    ).save_pretrained(folder, **saving)


def save_two_experts_of_images(folder: Path, **saving: Any) -> None:
    """The layout of Wan2.2 I2V-A14B: first, or first and last, image to video."""
    torch.manual_seed(3)
    tokenizer, text_encoder = _text_parts()
    WanImageToVideoPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=_vae(z_dim=16),
        scheduler=_scheduler(),
        transformer=_denoiser(36, 16),
        transformer_2=_denoiser(36, 16),
        boundary_ratio=BOUNDARY,
    ).save_pretrained(folder, **saving)


def save_first_generation(folder: Path, **saving: Any) -> None:
    """The layout of Wan2.1 T2V-1.3B: text to video with one denoiser of the first VAE's latents."""
    torch.manual_seed(5)
    tokenizer, text_encoder = _text_parts()
    WanPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=_vae(z_dim=16),
        scheduler=_scheduler(),
        transformer=_denoiser(16, 16),
    ).save_pretrained(folder, **saving)


def save_blip(folder: Path) -> None:
    """A BLIP captioner."""
    torch.manual_seed(4)
    words = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]", *WORDS])}
    plain = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    plain.pre_tokenizer = Whitespace()
    around = [(token, words[token]) for token in ("[CLS]", "[SEP]")]
    plain.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=around)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain,
        bos_token="[DEC]",
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )
    layers = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = BlipConfig(
        text_config={
            **layers,
            "encoder_hidden_size": 32,
            "vocab_size": len(words),
            "bos_token_id": words["[DEC]"],
            "eos_token_id": words["[SEP]"],
            "sep_token_id": words["[SEP]"],
            "pad_token_id": words["[PAD]"],
            "max_position_embeddings": 64,
        },
        vision_config={**layers, "image_size": 32, "patch_size": 8},
        projection_dim=32,
    )
    BlipForConditionalGeneration(config).eval().save_pretrained(folder)
    pictures = BlipImageProcessor(size={"height": 32, "width": 32})
    BlipProcessor(image_processor=pictures, tokenizer=tokenizer).save_pretrained(folder)


def manifest(name: str, tasks: list[str], **more: Any) -> Manifest:
    """A manifest of a tiny generation model, or with `more` in place of its tables."""
    tables: dict[str, Any] = {
        "schema": 1,
        "name": name,
        "title": name,
        "summary": "tiny",
        "tasks": tasks,
        "licence": {"id": "Apache-2.0"},
        "weights": {"embedded": name, "disk_bytes": 1},
        "pipeline": {"family": "wan", "text_tokens": 12},
        "frames": {"multiple": 4, "minimum": 1, "maximum": 17, "default": 5, "fps": 8},
        "sizes": {
            "multiple": 32,
            "default": "square",
            "named": [
                {"name": "square", "width": 64, "height": 64},
                {"name": "landscape", "width": 96, "height": 64},
                {"name": "small", "width": 32, "height": 32},
            ],
        },
    }
    return Manifest.model_validate(tables | more)
