"""What cannot fit this machine is refused before it starts, with what would fit."""

import logging

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.memory_fit import fits, largest_fitting, needed_bytes
from wan_mcp.catalog.presets import precision_asked
from wan_mcp.errors import BadRequest
from wan_mcp.hardware.machine import Machine, this_machine
from wan_mcp.schema.plans import Plan
from wan_mcp.settings import Settings
from wan_mcp.text import in_bytes

__all__ = ["MemoryCheck"]

log = logging.getLogger(__name__)


class MemoryCheck:
    """Looks at plans before they become jobs."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._seen: Machine | None = None  # asked when a request first needs it: it takes a process

    def check(self, plan: Plan, manifest: Manifest, told: Machine | None = None) -> None:
        """Refuse a plan that cannot fit the memory of this machine, wherever the model's parts are put.

        `told` is what an engine has said of it; else the driver's own tool is asked.

        Raises:
            BadRequest: says how much it needs, and which sizes and frame counts would fit.
        """
        shape = plan.shape
        if shape is None:
            return
        if told is None and self._seen is None:
            self._seen = this_machine(self._settings)
        machine = told or self._seen
        memory = machine.memory if machine else None
        if machine is None or memory is None:
            return
        precision = machine.precision_of(manifest, precision_asked(self._settings.precision, plan))
        if fits(manifest, memory, precision, shape):
            return
        still = shape.frames == 1
        raise BadRequest(
            f"{shape} of '{manifest.name}' needs about {in_bytes(needed_bytes(manifest, precision, shape))} of memory "
            f"in {precision}, and this {machine.name} has {in_bytes(memory)}; "
            + _ways_out(largest_fitting(manifest, memory, precision, still=still), still=still)
        )


def _ways_out(largest: dict[str, int], *, still: bool) -> str:
    if not largest:
        return "no size of this model fits: take a smaller model (list_resolutions names them), or another machine"
    each = (name if still else f"{name} with up to {frames} frames" for name, frames in largest.items())
    return f"these fit: {', '.join(each)}"
