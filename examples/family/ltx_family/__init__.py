"""What LTX-Video models can do. Servers read this, so it imports no torch."""

from wan_mcp.catalog.families import FamilySpec
from wan_mcp.schema.enums import Task

__all__ = ["FAMILY"]

FAMILY = FamilySpec(name="ltx", tasks=frozenset({Task.TEXT_TO_VIDEO}), loader="ltx_family.runner:load")
