"""A check that refuses jobs too large for this machine before they start, and suggests what fits."""

import logging

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.memory_fit import misfit
from wan_mcp.catalog.presets import precision_asked
from wan_mcp.errors import BadRequest
from wan_mcp.hardware.machine import Machine, this_machine
from wan_mcp.schema.plans import Plan
from wan_mcp.settings import Settings

__all__ = ["MemoryCheck"]

log = logging.getLogger(__name__)


class MemoryCheck:
    """A check of plans against the memory of this machine."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._seen: Machine | None = None  # asked when a request first needs it: it takes a process

    def check(self, plan: Plan, manifest: Manifest, told: Machine | None = None) -> None:
        """Refuse a plan that exceeds the memory of this machine, wherever the model's parts are placed.

        `told` is the machine as an engine has reported it; without it, the driver's own tool is asked.

        Raises:
            BadRequest: The message says how much it needs, and which sizes and frame counts fit.
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
        if (why := misfit(manifest, memory, precision, shape)) is not None:
            raise BadRequest(why)
