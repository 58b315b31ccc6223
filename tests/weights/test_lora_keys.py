"""Names of tensors in LoRA files, taken apart."""

import pytest

from wan_mcp.weights.lora_keys import LoraKey, Part, other_kind, parse_lora_key


@pytest.mark.parametrize(
    ("name", "layer", "part", "adapter", "expert"),
    [
        ("blocks.0.ffn.0.lora_A.weight", "blocks.0.ffn.0", Part.DOWN, "", None),
        ("blocks.0.ffn.0.lora_B.bias", "blocks.0.ffn.0", Part.UP_BIAS, "", None),
        ("base_model.model.blocks.0.ffn.0.lora_B.default.weight", "blocks.0.ffn.0", Part.UP, "default", None),
        ("transformer.blocks.0.ffn.0.lora_A.x y.weight", "blocks.0.ffn.0", Part.DOWN, "x y", None),
        ("transformer.blocks.0.ffn.0.lora_A.weight.weight", "blocks.0.ffn.0", Part.DOWN, "weight", None),
        ("blocks.0.ffn.0.lora_B.my.style-2.bias", "blocks.0.ffn.0", Part.UP_BIAS, "my.style-2", None),
        ("blocks.0.ffn.0.lora_A", "blocks.0.ffn.0", Part.DOWN, "", None),
        ("pipe.dit2.blocks.0.ffn.0.lora_down.weight", "blocks.0.ffn.0", Part.DOWN, "", "transformer_2"),
        ("high_noise_model.blocks.0.ffn.0.lora_up.weight", "blocks.0.ffn.0", Part.UP, "", "transformer"),
        ("lora_unet__blocks_0_ffn_0.alpha", "blocks_0_ffn_0", Part.ALPHA, "", None),
        ("blocks.0._orig_mod.ffn.0.lora.up.weight", "blocks.0.ffn.0", Part.UP, "", None),
        ("blocks.0.attn1.processor.to_q_lora.down.weight", "blocks.0.attn1.to_q", Part.DOWN, "", None),
        ("blocks.0.norm3.diff_b", "blocks.0.norm3", Part.DIFF_BIAS, "", None),
    ],
)
def test_a_name_says_layer_part_adapter_and_expert(
    name: str, layer: str, part: Part, adapter: str, expert: str | None
) -> None:
    assert parse_lora_key(name) == LoraKey(name, layer, part, adapter, expert)


@pytest.mark.parametrize(
    "name",
    ["blocks.0.ffn.0.weight", "blocks.0.ffn.0.lora_A.bias", "blocks.0.ffn.0.lora_A.default", "lora_A.weight", ""],
)
def test_other_names_are_of_no_lora(name: str) -> None:
    assert parse_lora_key(name) is None


def test_plain_loras_are_of_no_other_kind() -> None:
    names = ["blocks.0.text_embedding.lora_A.weight", "lora_unet_text_embedding_0.lora_up.weight", "head.head.diff_b"]
    assert other_kind(names) is None
