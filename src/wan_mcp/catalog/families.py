"""The families of models: code that loads and runs all models of one make. A manifest names one of them."""

from typing import Literal

from wan_mcp.schema.enums import Kind

__all__ = ["FAMILIES", "Family"]

Family = Literal["wan", "z-image", "flux2-klein", "qwen-image", "qwen-image-edit", "blip", "florence", "chat"]

FAMILIES: dict[Kind, tuple[Family, ...]] = {
    Kind.VIDEO: ("wan",),
    Kind.IMAGE: ("wan", "z-image", "flux2-klein", "qwen-image", "qwen-image-edit"),
    Kind.CAPTION: ("blip", "florence", "chat"),
}
"""The families that make each kind of thing."""
