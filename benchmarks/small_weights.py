"""Random weights of the real models that a CPU can run, on disk in the layouts of their repositories.

No model is made in memory: its tensors are written as windows of one pool of random numbers.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.real_weights import CHAT_MARKS, TEXT_ENCODER, TINY_WAN, byte_tokenizer, write_rest, write_shards

__all__ = ["write_klein", "write_wan_1_3b", "write_z_image"]

STEM = "diffusion_pytorch_model"
STRENGTH = 0.02
BLOCK = 1 << 24

# The published configurations.
WAN_1_3B: dict[str, Any] = {
    "num_layers": 30,
    "num_attention_heads": 12,
    "attention_head_dim": 128,
    "ffn_dim": 8960,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 4096,
    "freq_dim": 256,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
}
WAN_VAE: dict[str, Any] = {"base_dim": 96, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2}
KLEIN: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 128,
    "num_layers": 5,
    "num_single_layers": 20,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 7680,
    "guidance_embeds": False,
}
QWEN3_4B: dict[str, Any] = {
    "vocab_size": 151936,
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": True,
}
TINY_KLEIN: dict[str, dict[str, Any]] = {
    "transformer": {
        "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2,
        "joint_attention_dim": 96, "axes_dims_rope": [4, 4, 4, 4],
    },
    "text_encoder": {
        "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 28,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
    },
    "vae": {"block_out_channels": [32, 32, 32, 32], "layers_per_block": 1},
}  # fmt: skip

FLUX_VAE: dict[str, Any] = {
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "latent_channels": 16,
    "scaling_factor": 0.3611, "shift_factor": 0.1159, "use_quant_conv": False, "use_post_quant_conv": False,
}  # fmt: skip
TINY_Z_IMAGE: dict[str, dict[str, Any]] = {
    "transformer": {
        "dim": 32, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2, "cap_feat_dim": 32,
        "axes_dims": [8, 4, 4],
    },
    "text_encoder": TINY_KLEIN["text_encoder"] | {"num_hidden_layers": 2},
    "vae": {"block_out_channels": [32, 32, 32, 32], "layers_per_block": 1},
}  # fmt: skip


def write_wan_1_3b(folder: Path, *, tiny: bool) -> None:
    """Write Wan2.1 T2V-1.3B; the tokenizer is wan-mini's."""
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    small: dict[str, dict[str, Any]] = TINY_WAN if tiny else {"transformer": {}, "vae": {}, "text_encoder": {}}
    write = _pool_writer(tiny)
    write(folder / "transformer", STEM, lambda: WanTransformer3DModel(**WAN_1_3B | small["transformer"]))
    write(folder / "vae", STEM, lambda: AutoencoderKLWan(**WAN_VAE | small["vae"]))
    encoder = UMT5Config(**TEXT_ENCODER | small["text_encoder"])
    write(folder / "text_encoder", "model", lambda: UMT5EncoderModel(encoder))
    write_rest(folder, None, expand_timesteps=False, boundary_ratio=None, flow_shift=8.0)


def write_klein(folder: Path, *, tiny: bool) -> None:
    """Write FLUX.2 klein 4B with a tokenizer of bytes: words cost more tokens, tokens the same time."""
    from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2Transformer2DModel
    from transformers import Qwen3Config, Qwen3ForCausalLM

    small: Mapping[str, dict[str, Any]] = TINY_KLEIN if tiny else {"transformer": {}, "vae": {}, "text_encoder": {}}
    write = _pool_writer(tiny)
    write(folder / "transformer", STEM, lambda: Flux2Transformer2DModel(**KLEIN | small["transformer"]))
    write(folder / "vae", STEM, lambda: AutoencoderKLFlux2(**small["vae"]))
    encoder = Qwen3Config(**QWEN3_4B | small["text_encoder"])
    write(folder / "text_encoder", "model", lambda: Qwen3ForCausalLM(encoder))
    tokenizer = byte_tokenizer(CHAT_MARKS)
    tokenizer.save_pretrained(folder / "tokenizer")
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    scheduler.save_pretrained(folder / "scheduler")
    parts = {
        "_class_name": "Flux2KleinPipeline",
        "is_distilled": True,
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "Qwen3ForCausalLM"],
        "tokenizer": ["transformers", type(tokenizer).__name__],
        "transformer": ["diffusers", "Flux2Transformer2DModel"],
        "vae": ["diffusers", "AutoencoderKLFlux2"],
    }
    (folder / "model_index.json").write_text(json.dumps(parts), encoding="utf-8")


def write_z_image(folder: Path, *, tiny: bool) -> None:
    """Write Z-Image Turbo in bf16, with a tokenizer of bytes; the sizes of its denoiser are the defaults."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImageTransformer2DModel
    from transformers import Qwen3Config, Qwen3Model

    small: Mapping[str, dict[str, Any]] = TINY_Z_IMAGE if tiny else {"transformer": {}, "vae": {}, "text_encoder": {}}
    write = _pool_writer(tiny)
    write(folder / "transformer", STEM, lambda: ZImageTransformer2DModel(**small["transformer"]))
    write(folder / "vae", STEM, lambda: AutoencoderKL(**FLUX_VAE | small["vae"]))
    encoder = Qwen3Config(**QWEN3_4B | small["text_encoder"])
    write(folder / "text_encoder", "model", lambda: Qwen3Model(encoder))
    byte_tokenizer(CHAT_MARKS).save_pretrained(folder / "tokenizer")
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(folder / "scheduler")
    parts = {
        "_class_name": "ZImagePipeline",
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "Qwen3Model"],
        "tokenizer": ["transformers", "Qwen2Tokenizer"],
        "transformer": ["diffusers", "ZImageTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(parts), encoding="utf-8")


def _pool_writer(tiny: bool) -> Callable[[Path, str, Callable[[], Any]], None]:
    """Return a function that writes a model in bf16 as `write_part` does."""
    random = torch.Generator().manual_seed(0)
    block = (torch.randn(1 << 16 if tiny else BLOCK, generator=random) * STRENGTH).bfloat16()
    pool = block

    def window(name: str, tensor: Any, number: int) -> Any:
        nonlocal pool
        if tensor.ndim == 1 and name.endswith("weight"):  # of a norm
            return torch.ones(tensor.shape, dtype=torch.bfloat16)
        if tensor.numel() + 64 * number > len(pool):
            pool = block.repeat(-(-(tensor.numel() + 64 * number) // len(block)))
        return pool[64 * number :][: tensor.numel()].view(tensor.shape)

    def write(folder: Path, stem: str, make: Callable[[], Any]) -> None:
        with torch.device("meta"):
            model = make()
        folder.mkdir(parents=True)
        if hasattr(model, "save_config"):
            model.save_config(folder)
        else:
            model.config.architectures, model.config.dtype = [type(model).__name__], "bfloat16"
            model.config.save_pretrained(folder)
        # Parameters, because tensors with two names are written once.
        named = enumerate(model.named_parameters())
        write_shards(folder, stem, {name: window(name, tensor, number) for number, (name, tensor) in named})

    return write
