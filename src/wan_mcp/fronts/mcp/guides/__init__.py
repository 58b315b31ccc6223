"""Guides for models that write prompts: the pages of this folder, as resources, as skills and as parts of prompts."""

from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

__all__ = ["GUIDES", "guide"]

GUIDES: Mapping[str, str] = MappingProxyType(
    {
        "prompting": "How to write a prompt for Wan: what to say, in which order, and camera words.",
        "image-to-video": "How to animate an image: what the prompt says, and recipes.",
        "storyboard": "How to make several shots that belong together.",
    }
)
"""The guides by name, each with what it is about."""


def guide(name: str) -> str:
    """Return the text of a guide, in Markdown."""
    return files(__package__).joinpath(f"{name}.md").read_text(encoding="utf-8")
