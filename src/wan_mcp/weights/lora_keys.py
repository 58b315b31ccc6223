"""The names of tensors in LoRA files: which layer of which expert, and what part of its change.

Trainers and converters name the same tensors in many ways. This module reads names only; it knows no model and no
torch, so that the front can refuse other kinds of adapters at the door. The engine maps layers to modules.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["LoraKey", "Part", "other_kind", "parse_lora_key"]

NAMED = 3
"""Number of names that a sentence lists."""
WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "processor"})
"""Segments that torch.compile, FSDP and older versions of diffusers put anywhere into a name."""
ROOTS = frozenset(
    {"base_model", "model", "module", "pipe", "pipeline", "dit", "dit1", "unet", "net", "wan", "denoiser"}
    | {"diffusion_model", "transformer", "transformer_1"}
)
"""Leading segments that stand for the denoiser as a whole."""
EXPERT_ROOTS = {
    "transformer_2": "transformer_2",
    "dit2": "transformer_2",
    "low_noise_model": "transformer_2",
    "high_noise_model": "transformer",
}
"""Leading segments that stand for one of two experts, with its name in diffusers' pipelines."""
FLAT_ROOT = re.compile(r"(?:lora_(?:unet|transformer|dit|diffusion_model|wan)|lycoris|lora)_+(?=[a-z])")
"""How kohya-ss and LyCORIS begin a name, the rest of which has underscores instead of dots."""
LOW_RANK = re.compile(
    r"(?P<layer>.+?)[._]lora(?:_linear_layer)?[._](?P<side>A|B|down|up)"
    r"(?:(?:\.(?P<adapter>.+?))?\.(?P<kind>weight|bias))?"
)
SINGLE = re.compile(r"(?P<layer>.+)\.(?P<part>alpha|diff|diff_b|diff_m)")
OTHER_KINDS = {
    "LoKr": re.compile(r"[._]lokr_"),
    "LoHa": re.compile(r"[._]hada_"),
    "DoRA": re.compile(r"[._](?:dora_scale|lora_magnitude_vector)"),
    "OFT": re.compile(r"[._]b?oft_"),
    "IA3": re.compile(r"\.on_input$|[._]ia3_l"),
    "GLoRA": re.compile(r"\.[ab][12]\.weight$"),
    "VeRA": re.compile(r"[._]vera_(?:lambda|[AB])"),
    "convolutional LoCon": re.compile(r"\.lora_mid\."),
    "embedding adapter": re.compile(r"\.lora_embedding_[AB]"),
    "set of replaced weights": re.compile(r"\.(?:set|reshape)_weight$"),
}
"""Adapters that are not plain LoRAs, by what their names contain."""
OTHER_PARTS = {
    "the text encoder": re.compile(r"(?:.*\.)?text_encoders?(?:_\d+)?\.|lora_te\d*_|te\d*\.|text_model\.|umt5|t5xxl"),
    "the VAE": re.compile(r"(?:.*\.)?(?:vae|first_stage_model)\.|lora_vae_"),
    "an image encoder": re.compile(r"(?:.*\.)?image_encoder\.|clip_"),
}
"""Parts of a pipeline that no LoRA changes here, by how their names begin."""


class Part(StrEnum):
    """What a tensor is of the change of one layer."""

    DOWN = "lora_A"
    UP = "lora_B"
    UP_BIAS = "lora_B.bias"
    ALPHA = "alpha"
    DIFF = "diff"
    DIFF_BIAS = "diff_b"
    DIFF_MODULATION = "diff_m"


SIDES = {"A": Part.DOWN, "down": Part.DOWN, "B": Part.UP, "up": Part.UP}


@dataclass(frozen=True)
class LoraKey:
    """A tensor's name, taken apart."""

    name: str
    """As in the file."""
    layer: str
    """Without what stands for the whole denoiser; dots or underscores as in the file."""
    part: Part
    adapter: str = ""
    """The name that PEFT gave the adapter, if the tensor's name has one."""
    expert: str | None = None
    """`transformer` or `transformer_2`, if the tensor's name says it."""


def parse_lora_key(name: str) -> LoraKey | None:
    """Take the name of a tensor apart; None if it is not of a plain LoRA."""
    segments = [segment for segment in name.split(".") if segment not in WRAPPERS]
    expert = None
    while len(segments) > 1 and (segments[0] in ROOTS or segments[0] in EXPERT_ROOTS):
        expert = EXPERT_ROOTS.get(segments.pop(0), expert)
    key = ".".join(segments)
    if flat := FLAT_ROOT.match(key):
        key = key[flat.end() :]
    if found := LOW_RANK.fullmatch(key):
        part = SIDES[found["side"]]
        if found["kind"] == "bias":
            if part is Part.DOWN:
                return None
            part = Part.UP_BIAS
        return LoraKey(name, found["layer"], part, found["adapter"] or "", expert)
    if found := SINGLE.fullmatch(key):
        layer = found["layer"].removesuffix("_lora").removesuffix(".lora")
        return LoraKey(name, layer, Part(found["part"]), "", expert)
    return None


def other_kind(names: Iterable[str]) -> str | None:
    """Say what a file is instead of a plain LoRA for a denoiser, as far as names reveal it; None if they do not.

    Returns the end of a sentence that begins with the file's name.
    """
    names = list(names)
    for kind, pattern in OTHER_KINDS.items():
        if found := [name for name in names if pattern.search(name)]:
            plain = any(parse_lora_key(name) is not None for name in names if name not in found)
            holds = "mixes a plain LoRA with" if plain and kind != "DoRA" else "is"
            article = "an" if kind[0] in "aeioAEIO" else "a"
            return (
                f"{holds} {article} {kind} ({_some(found)}); only plain LoRAs are supported "
                "(lora_A and lora_B, or lora_down and lora_up). Convert it to a plain LoRA, or use another file"
            )
    for part, pattern in OTHER_PARTS.items():
        if found := [name for name in names if pattern.match(name)]:
            return (
                f"changes {part} ({_some(found)}); LoRAs change only the denoiser here. "
                "Remove those layers from the file, or use another one"
            )
    adapters = sorted({key.adapter for name in names if (key := parse_lora_key(name)) and _is_low_rank(key)})
    if len(adapters) > 1:
        listed = ", ".join(adapter or "(unnamed)" for adapter in adapters)
        return f"holds several adapters ({listed}); save each one to a file"
    return None


def _is_low_rank(key: LoraKey) -> bool:
    return key.part in (Part.DOWN, Part.UP, Part.UP_BIAS)


def _some(names: list[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
