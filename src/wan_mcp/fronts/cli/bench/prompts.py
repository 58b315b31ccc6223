"""What a benchmark asks models for: prompts drawn from a few words, so that no cache knows them."""

from random import Random

from wan_mcp.catalog.manifest import Manifest

__all__ = ["drawn_prompts"]

SUBJECTS = (
    "an old fisherman", "a red fox", "two children with kites", "a street musician", "a white horse", "a potter",
    "a steam train", "a cat on a windowsill", "a cyclist", "a sailing boat",
)  # fmt: skip
PLACES = (
    "on a windy beach", "in a narrow street in the rain", "in a snowy forest", "beside a mountain lake",
    "in a crowded market", "under blossoming cherry trees", "in front of a lighthouse", "in a dusty workshop",
)  # fmt: skip
LIGHTS = (
    "at sunrise, soft light, slow pan", "at noon, hard shadows, handheld camera", "at dusk, warm light, close-up",
    "at night, neon reflections, wide shot", "in fog, muted colours, static camera",
)  # fmt: skip
SHAPES, COLOURS = (
    ("circle", "square", "triangle", "star", "ring", "diamond"),
    ("red", "green", "blue", "yellow", "pink"),
)
SIZES, MOTIONS = ("small", "large"), ("moving left", "moving right", "growing", "bouncing")
BACKGROUNDS = ("black", "white", "gray", "navy", "teal")
EDIT = "make the sky orange and the hills blue, draw {a} in front"


def drawn_prompts(manifest: Manifest, count: int, seed: int, *, edits: bool = False) -> list[str]:
    """Return that many prompts in words that the model knows; the same for the same seed. `edits` change a picture."""
    draw = Random(seed)
    if manifest.world is not None:
        return [
            f"a {draw.choice(SIZES)} {draw.choice(COLOURS)} {draw.choice(SHAPES)} {draw.choice(MOTIONS)} "
            f"on a {draw.choice(BACKGROUNDS)} background"
            for _ in range(count)
        ]
    if edits:
        return [EDIT.format(a=draw.choice(SUBJECTS)) for _ in range(count)]
    return [f"{draw.choice(SUBJECTS)} {draw.choice(PLACES)} {draw.choice(LIGHTS)}" for _ in range(count)]
