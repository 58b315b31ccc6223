"""Tiny image models of the real classes with random weights, saved in the layout of their repositories."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2
from diffusers.models.autoencoders.autoencoder_kl_qwenimage import AutoencoderKLQwenImage
from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel
from diffusers.models.transformers.transformer_qwenimage import QwenImageTransformer2DModel
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel
from diffusers.pipelines.flux2.pipeline_flux2_klein import Flux2KleinPipeline
from diffusers.pipelines.qwenimage.pipeline_qwenimage import QwenImagePipeline
from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus import QwenImageEditPlusPipeline
from diffusers.pipelines.z_image.pipeline_z_image import ZImagePipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
)

from tests.support.qwen import chat_tokenizer, picture_cutter
from wan_mcp.engine.components.qwen_processor import QwenProcessor

WIDTH = 32
FLUX_LAYERS = 28  # the pipeline takes the text encoder's layers 9, 18 and 27


def _scheduler(**values: Any) -> Any:
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, **values)


def _qwen3(layers: int) -> Any:
    return Qwen3Config(
        vocab_size=len(chat_tokenizer()),
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=2048,
    )


def save_z_image(folder: Path, **saving: Any) -> None:
    """The layout of Z-Image-Turbo."""
    torch.manual_seed(21)
    vae = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[8] * 4,
        norm_num_groups=4,
        latent_channels=16,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    transformer = ZImageTransformer2DModel(
        in_channels=16,
        dim=WIDTH,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=WIDTH,
        axes_dims=[8, 4, 4],
        axes_lens=[1024, 64, 64],
    )
    ZImagePipeline(
        scheduler=_scheduler(shift=3.0),
        vae=vae.eval(),
        text_encoder=Qwen3Model(_qwen3(2)).eval(),
        tokenizer=chat_tokenizer(),
        transformer=transformer.eval(),
    ).save_pretrained(folder, **saving)


def save_flux2_klein(folder: Path, **saving: Any) -> None:
    """The layout of FLUX.2-klein."""
    torch.manual_seed(22)
    vae = AutoencoderKLFlux2(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[8] * 4,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=8,
    )
    transformer = Flux2Transformer2DModel(
        patch_size=1,
        in_channels=32,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * WIDTH,
        timestep_guidance_channels=16,
        axes_dims_rope=[4, 4, 4, 4],
        guidance_embeds=False,
    )
    Flux2KleinPipeline(
        scheduler=_scheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae.eval(),
        text_encoder=Qwen3ForCausalLM(_qwen3(FLUX_LAYERS)).eval(),
        tokenizer=chat_tokenizer(),
        transformer=transformer.eval(),
        is_distilled=True,
    ).save_pretrained(folder, **saving)


def _qwen_image_parts() -> dict[str, Any]:
    tokenizer = chat_tokenizer()
    vae = AutoencoderKLQwenImage(
        base_dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    transformer = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=64,
        out_channels=16,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(8, 4, 4),
    )
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": WIDTH,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": WIDTH,
            "patch_size": 14,
            "window_size": 112,
            "fullatt_block_indexes": [1],
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    return {
        "scheduler": _scheduler(use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, shift_terminal=0.02),
        "vae": vae.eval(),
        "text_encoder": Qwen2_5_VLForConditionalGeneration(config).eval(),
        "tokenizer": tokenizer,
        "transformer": transformer.eval(),
    }


def save_qwen_image(folder: Path, **saving: Any) -> None:
    """The layout of Qwen-Image."""
    torch.manual_seed(23)
    QwenImagePipeline(**_qwen_image_parts()).save_pretrained(folder, **saving)


def save_qwen_image_edit(folder: Path, **saving: Any) -> None:
    """The layout of Qwen-Image-Edit: its text encoder sees the picture, through a processor."""
    torch.manual_seed(24)
    chat_tokenizer().save_pretrained(folder / "processor")
    picture_cutter(patch_size=14).save_pretrained(folder / "processor")
    processor = QwenProcessor(folder / "processor")
    pipeline = QwenImageEditPlusPipeline(**_qwen_image_parts(), processor=processor)
    pipeline.save_pretrained(folder, **saving)
    # The repository names the library's own processor.
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    index["processor"] = ["transformers", "Qwen2VLProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
