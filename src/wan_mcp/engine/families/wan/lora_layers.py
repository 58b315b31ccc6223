"""The layers of a Wan denoiser by the names that LoRA files give them.

Files use the names of Wan's authors or those of diffusers, with dots or, in the style of kohya-ss, with underscores.
The pairs are those of `convert_wan_transformer_to_diffusers` in diffusers.
"""

import re

__all__ = ["MODULATION", "diffusers_layer", "reads_start_image"]

MODULATION = "scale_shift_table"
"""The name of the modulation tables, which are parameters and no modules."""
BLOCK = re.compile(r"blocks[._](?P<number>\d+)[._](?P<layer>.+)")
BLOCK_LAYERS = {
    **{f"self_attn.{letter}": f"attn1.to_{letter}" for letter in "qkv"},
    **{f"cross_attn.{letter}": f"attn2.to_{letter}" for letter in "qkv"},
    "self_attn.o": "attn1.to_out.0",
    "self_attn.norm_q": "attn1.norm_q",
    "self_attn.norm_k": "attn1.norm_k",
    "cross_attn.o": "attn2.to_out.0",
    "cross_attn.norm_q": "attn2.norm_q",
    "cross_attn.norm_k": "attn2.norm_k",
    "cross_attn.k_img": "attn2.add_k_proj",
    "cross_attn.v_img": "attn2.add_v_proj",
    "cross_attn.norm_k_img": "attn2.norm_added_k",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "norm3": "norm2",
    "modulation": MODULATION,
}
OTHER_LAYERS = {
    "patch_embedding": "patch_embedding",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
    "head.head": "proj_out",
    "head.modulation": MODULATION,
}
START_IMAGE = re.compile(r"attn2\.(?:add_[kv]_proj|norm_added_k)$|^condition_embedder\.image_embedder\.")


def _by_any_name(layers: dict[str, str]) -> dict[str, str]:
    """Return the names of diffusers by both names of each layer, all with underscores."""
    return {name.replace(".", "_"): ours for theirs, ours in layers.items() for name in (theirs, ours)}


BLOCK_LAYERS_BY_NAME = _by_any_name(BLOCK_LAYERS) | {"attn1_to_out": "attn1.to_out.0", "attn2_to_out": "attn2.to_out.0"}
OTHER_LAYERS_BY_NAME = _by_any_name(OTHER_LAYERS)


def diffusers_layer(name: str) -> str:
    """Return the name that diffusers gives a layer; the same name if the layer is of no Wan denoiser."""
    if block := BLOCK.fullmatch(name):
        layer = BLOCK_LAYERS_BY_NAME.get(block["layer"].replace(".", "_"), block["layer"])
        return f"blocks.{block['number']}.{layer}"
    return OTHER_LAYERS_BY_NAME.get(name.replace(".", "_"), name)


def reads_start_image(layer: str) -> bool:
    """Check whether a layer, by diffusers' name, reads the CLIP embedding of a start image.

    Wan2.1's image-to-video models have such layers. Its text-to-video models and Wan2.2 do not, and use LoRAs of the
    former without them.
    """
    return START_IMAGE.search(layer) is not None
