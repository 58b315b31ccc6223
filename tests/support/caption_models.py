"""Tiny captioners of the real classes with random weights, saved in the layout of their repositories."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from tests.support.qwen import chat_tokenizer, picture_cutter
from tests.support.tiny_models import save_blip as save_tiny_blip

PICTURE = "<|reserved_special_token_69|>"
LLAMA_CHAT = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{% if m.role == 'user' %}" + PICTURE + "{% endif %}{{ m.content }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


def _bytes_tokenizer(special: list[str], **named: Any) -> Any:
    """A tokenizer with a token for each byte and for each of `special`."""
    letters = {letter: number for number, letter in enumerate(sorted(ByteLevel.alphabet()))}
    plain = Tokenizer(BPE(vocab=letters, merges=[]))
    plain.pre_tokenizer = ByteLevel(add_prefix_space=False)
    plain.decoder = ByteLevelDecoder()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, **named)
    if special:
        tokenizer.add_special_tokens({"additional_special_tokens": special})
    return tokenizer


def save_joycaption(folder: Path, **saving: Any) -> None:
    """The layout of JoyCaption: a SigLIP eye and a Llama, whose template puts the picture before the text."""
    torch.manual_seed(31)
    tokenizer = _bytes_tokenizer(
        [PICTURE, "<|start_header_id|>", "<|end_header_id|>"],
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        pad_token="<|eot_id|>",
    )
    config = LlavaConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 56,
            "patch_size": 14,
            "vision_use_head": False,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
        image_token_index=tokenizer.convert_tokens_to_ids(PICTURE),
        vision_feature_select_strategy="full",
        vision_feature_layer=-2,
        image_seq_length=16,
    )
    model = LlavaForConditionalGeneration(config).eval()
    for weights in (*model.model.multi_modal_projector.parameters(), model.lm_head.weight):
        weights.data.mul_(20)  # else the picture is too faint to change a word
    model.generation_config.eos_token_id = [tokenizer.eos_token_id]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder, **saving)
    LlavaProcessor(
        image_processor=SiglipImageProcessorPil(size={"height": 56, "width": 56}),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="full",
        image_token=PICTURE,
        chat_template=LLAMA_CHAT,
    ).save_pretrained(folder)


def save_florence(folder: Path, **saving: Any) -> None:
    """The layout of Florence-2: a DaViT eye and a BART, which is given the mark of a task."""
    torch.manual_seed(32)
    tokenizer = _bytes_tokenizer(
        [],
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )
    marks = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = Florence2Config(
        text_config={
            "model_type": "bart",
            "vocab_size": len(tokenizer),
            "d_model": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48,
            "max_position_embeddings": 512,
            "pad_token_id": tokenizer.pad_token_id,
            "decoder_start_token_id": tokenizer.eos_token_id,
            "forced_bos_token_id": None,
            "forced_eos_token_id": tokenizer.eos_token_id,
            **marks,
        },
        vision_config={
            "embed_dim": (8, 16, 32, 32),
            "num_heads": (1, 2, 4, 4),
            "num_groups": (1, 2, 4, 4),
            "depths": (1, 1, 1, 1),
            "window_size": 4,
            "projection_dim": 32,
            "max_temporal_embeddings": 4,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        **marks,
    )
    Florence2ForConditionalGeneration(config).eval().save_pretrained(folder, **saving)
    pictures = CLIPImageProcessorPil(
        size={"height": 64, "width": 64}, resample=3, do_center_crop=False, image_seq_length=5
    )
    pictures.image_seq_length = 5
    Florence2Processor(image_processor=pictures, tokenizer=tokenizer).save_pretrained(folder)


def save_qwen3_vl(folder: Path, **saving: Any) -> None:
    """The layout of Qwen3-VL."""
    torch.manual_seed(33)
    tokenizer = chat_tokenizer()
    mark = tokenizer.convert_tokens_to_ids
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 2, 2], "rope_theta": 10000.0},
            "bos_token_id": tokenizer.pad_token_id,
            "eos_token_id": mark("<|im_end|>"),
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": 32,
            "patch_size": 16,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=mark("<|image_pad|>"),
        video_token_id=mark("<|video_pad|>"),
        vision_start_token_id=mark("<|vision_start|>"),
        vision_end_token_id=mark("<|vision_end|>"),
    )
    model = Qwen3VLForConditionalGeneration(config).eval()
    model.generation_config.eos_token_id = [mark("<|im_end|>"), tokenizer.pad_token_id]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder, **saving)
    tokenizer.save_pretrained(folder)
    picture_cutter(patch_size=16).save_pretrained(folder)
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")


def save_blip(folder: Path, **saving: Any) -> None:
    """The layout of BLIP."""
    save_tiny_blip(folder)
    (folder / "vocab.txt").write_text("[PAD]\n", encoding="utf-8")
