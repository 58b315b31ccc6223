"""Random weights of models' real sizes, on disk in the layouts of their repositories, in seconds.

Made on the GPU where there is one. Each part is written as the hub has it, in shards, by several threads.
"""

import gc
import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.components.install import EMBEDDED
from wan_mcp.weights.lockfile import LockedFile, WeightsLock

__all__ = [
    "CHAT_MARKS",
    "TEXT_ENCODER",
    "TINY_WAN",
    "byte_tokenizer",
    "lock_weights",
    "write_joycaption",
    "write_part",
    "write_rest",
    "write_shards",
    "write_ti2v_5b",
]

COMMIT = "0" * 40
SHARD = 2_000_000_000
WRITERS = 8

# The published configurations: 5.0 B denoiser, Wan2.2 VAE, UMT5-XXL encoder.
TRANSFORMER: dict[str, Any] = {
    "num_layers": 30,
    "num_attention_heads": 24,
    "attention_head_dim": 128,
    "ffn_dim": 14336,
    "in_channels": 48,
    "out_channels": 48,
    "text_dim": 4096,
    "freq_dim": 256,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
}
VAE: dict[str, Any] = {
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "temperal_downsample": [False, True, True],
    "is_residual": True,
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
    "scale_factor_temporal": 4,
    "scale_factor_spatial": 16,
    "latents_mean": [0.0] * 48,
    "latents_std": [1.0] * 48,
}
TEXT_ENCODER: dict[str, Any] = {
    "vocab_size": 256384,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_decoder_layers": 1,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}
TINY_WAN = {
    "transformer": {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 32, "ffn_dim": 64, "text_dim": 32},
    "vae": {"base_dim": 8, "decoder_base_dim": 8, "num_res_blocks": 1},
    "text_encoder": {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2},
}

# JoyCaption beta one: SigLIP-so400m at 384 pixels, two projections, Llama-3.1-8B.
EYE: dict[str, Any] = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
    "vision_use_head": False,
}
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
}
TINY_JOYCAPTION = {
    "eye": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2},
    "llama": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    },
}
PICTURE, HEAD, HEAD_END = "<|reserved_special_token_69|>", "<|start_header_id|>", "<|end_header_id|>"
CHAT = (
    "{{ bos_token }}{% for m in messages %}" + HEAD + "{{ m.role }}" + HEAD_END + "\n\n"
    "{% if m.role == 'user' %}" + PICTURE + "{% endif %}{{ m.content }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}" + HEAD + "assistant" + HEAD_END + "\n\n{% endif %}"
)


CHAT_MARKS = ["<|im_start|>", "<|im_end|>"]
QWEN_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer(marks: list[str]) -> Any:
    """A tokenizer of Qwen's class with a token for each byte."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    tokenizer = Qwen2Tokenizer(vocab={letter: n for n, letter in enumerate(sorted(ByteLevel.alphabet()))}, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    tokenizer.chat_template = QWEN_CHAT
    return tokenizer


def write_ti2v_5b(folder: Path, *, tiny: bool) -> None:
    """Wan2.2 TI2V-5B, part by part so that one is in memory; the tokenizer is wan-mini's."""
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import UMT5Config

    small: dict[str, dict[str, Any]] = TINY_WAN if tiny else {"transformer": {}, "vae": {}, "text_encoder": {}}
    diffusers_stem = "diffusion_pytorch_model"
    write_part(
        folder / "transformer", diffusers_stem, lambda: WanTransformer3DModel(**TRANSFORMER | small["transformer"])
    )
    write_part(folder / "vae", diffusers_stem, lambda: AutoencoderKLWan(**VAE | small["vae"]))
    encoder = UMT5Config(**TEXT_ENCODER | small["text_encoder"])
    write_rest(folder, encoder, expand_timesteps=True, boundary_ratio=None, flow_shift=5.0)


def write_rest(
    folder: Path, encoder: Any, *, expand_timesteps: bool, boundary_ratio: float | None, flow_shift: float
) -> None:
    """What a Wan pipeline's folder holds beside denoisers and autoencoder; one with a boundary has two denoisers.

    Without a configuration of the text encoder, that is there already.
    """
    from diffusers import UniPCMultistepScheduler, WanPipeline
    from transformers import AutoTokenizer, UMT5EncoderModel

    if encoder is not None:
        write_part(folder / "text_encoder", "model", lambda: UMT5EncoderModel(encoder))
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED / "wan-mini" / "tokenizer", local_files_only=True)
    tokenizer.save_pretrained(folder / "tokenizer")
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=flow_shift)
    scheduler.save_pretrained(folder / "scheduler")
    denoiser = ["diffusers", "WanTransformer3DModel"]
    parts = {
        "_class_name": WanPipeline.__name__,
        "expand_timesteps": expand_timesteps,
        "boundary_ratio": boundary_ratio,
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", type(tokenizer).__name__],
        "transformer": denoiser,
        "transformer_2": [None, None] if boundary_ratio is None else denoiser,
        "vae": ["diffusers", "AutoencoderKLWan"],
    }
    (folder / "model_index.json").write_text(json.dumps(parts), encoding="utf-8")


def write_joycaption(folder: Path, *, tiny: bool) -> None:
    """JoyCaption beta one with a tokenizer of bytes: words cost more tokens, tokens the same time."""
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import LlavaConfig, LlavaForConditionalGeneration, PreTrainedTokenizerFast

    plain = Tokenizer(BPE(vocab={letter: n for n, letter in enumerate(sorted(ByteLevel.alphabet()))}, merges=[]))
    plain.pre_tokenizer, plain.decoder = ByteLevel(add_prefix_space=False), ByteLevelDecoder()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>", pad_token="<|eot_id|>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": [PICTURE, HEAD, HEAD_END]})
    tokenizer.chat_template = CHAT
    small: dict[str, dict[str, Any]] = TINY_JOYCAPTION if tiny else {"eye": {}, "llama": {}}
    config = LlavaConfig(
        vision_config=EYE | small["eye"],
        text_config=LLAMA
        | small["llama"]
        | {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id},
        image_token_index=tokenizer.convert_tokens_to_ids(PICTURE),
        vision_feature_select_strategy="full",
        vision_feature_layer=-2,
        image_seq_length=(EYE["image_size"] // EYE["patch_size"]) ** 2,
    )
    write_part(folder, "model", lambda: LlavaForConditionalGeneration(config))
    tokenizer.save_pretrained(folder)
    side, half = EYE["image_size"], [0.5, 0.5, 0.5]
    pictures = {
        "image_processor_type": "SiglipImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": side, "width": side},
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": half,
        "image_std": half,
    }
    processor = {
        "processor_class": "LlavaProcessor",
        "image_processor": pictures,
        "image_token": PICTURE,
        "num_additional_image_tokens": 0,
        "patch_size": EYE["patch_size"],
        "vision_feature_select_strategy": "full",
    }
    (folder / "processor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    generation = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": [tokenizer.eos_token_id]}
    (folder / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")


def write_part(folder: Path, stem: str, make: Callable[[], Any]) -> None:
    """Make a model in bf16 on the device and write it."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = make()
    finally:
        torch.set_default_dtype(torch.float32)
    folder.mkdir(parents=True, exist_ok=True)
    if hasattr(model, "save_config"):
        model.save_config(folder)
    else:
        model.config.architectures, model.config.dtype = [type(model).__name__], "bfloat16"
        model.config.save_pretrained(folder)
    write_shards(folder, stem, model.state_dict())
    del model
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def write_shards(folder: Path, stem: str, weights: Mapping[str, Any]) -> None:
    """Write tensors as the hub has them, in shards with an index."""
    shards: list[dict[str, Any]] = [{}]
    seen: set[int] = set()
    for name, tensor in weights.items():
        if tensor.data_ptr() in seen:  # two names of one tensor
            continue
        seen.add(tensor.data_ptr())
        if sum(each.nbytes for each in shards[-1].values()) + tensor.nbytes > SHARD and shards[-1]:
            shards.append({})
        shards[-1][name] = tensor.detach()
    names = [f"{stem}-{number + 1:05}-of-{len(shards):05}.safetensors" for number in range(len(shards))]
    with ThreadPoolExecutor(WRITERS) as writers:
        list(writers.map(lambda name, shard: _write_shard(folder / name, shard), names, shards))
    index = {
        "metadata": {"total_size": sum(each.nbytes for shard in shards for each in shard.values())},
        "weight_map": {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard},
    }
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _write_shard(file: Path, tensors: dict[str, Any]) -> None:
    """One safetensors file (https://github.com/huggingface/safetensors#format), tensor by tensor.

    The library's writer copies every tensor twice and holds the interpreter meanwhile.
    """
    kinds = {torch.bfloat16: "BF16", torch.float32: "F32"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": kinds[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with file.open("wb") as output:
        output.write(struct.pack("<Q", len(encoded)) + encoded)
        for tensor in tensors.values():
            output.write(memoryview(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()))


def lock_weights(manifest: Manifest, folder: Path, home: Path) -> int:
    """Lock the files as a download would have; gives their bytes."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]

    def locked(file: Path) -> LockedFile:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        facts = file.stat()
        return LockedFile(size=facts.st_size, sha256=digest, etag=digest, mtime_ns=facts.st_mtime_ns)

    with ThreadPoolExecutor() as threads:
        entries = dict(zip((f.relative_to(folder).as_posix() for f in files), threads.map(locked, files), strict=True))
    lock = WeightsLock(
        model=manifest.name,
        repository=manifest.weights.repository or "",
        revision=manifest.weights.revision,
        patterns=manifest.weights.files,
        commit=COMMIT,
        folder=folder,
        files=entries,
    )
    lock.write(manifest, home)
    return sum(entry.size for entry in entries.values())
