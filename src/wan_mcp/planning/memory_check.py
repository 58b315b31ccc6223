"""A check that refuses jobs too large for this machine before they start, and suggests what fits."""

import logging
from dataclasses import dataclass

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.memory_fit import Fit, default_shape, fit_of, largest_fitting, misfit, needed_bytes
from wan_mcp.catalog.presets import precision_asked
from wan_mcp.errors import BadRequest
from wan_mcp.hardware.machine import Machine, this_machine
from wan_mcp.schema.plans import Plan
from wan_mcp.settings import Settings

__all__ = ["MemoryCheck", "MemoryFit"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MemoryFit:
    """A plan's memory on this machine, in bytes."""

    needed: int
    available: int
    fit: Fit | None
    """None where the check does not say: captions are never refused, even by a model larger than the memory."""
    misfit: str | None
    """Why it does not fit, and what does, in words; None if it fits."""
    largest: dict[str, int]
    """Named sizes that fit, each with the most frames that do; empty if the plan fits."""


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
        if (fit := self.fit(plan, manifest, told)) is not None and fit.misfit is not None:
            raise BadRequest(fit.misfit)

    def fit(self, plan: Plan, manifest: Manifest, told: Machine | None = None) -> MemoryFit | None:
        """Return what a plan needs and this machine has; None if that is unknown."""
        shape = plan.shape or default_shape(manifest)
        if told is None and self._seen is None:
            self._seen = this_machine(self._settings)
        machine = told or self._seen
        memory = machine.memory if machine else None
        if machine is None or memory is None:
            return None
        precision = machine.precision_of(manifest, precision_asked(self._settings.precision, plan))
        fit = fit_of(manifest, memory, precision, shape)
        if plan.shape is None:
            known = None if fit is Fit.NO else fit
            return MemoryFit(needed_bytes(manifest, precision, shape), memory, known, None, {})
        why = misfit(manifest, memory, precision, shape)
        largest = largest_fitting(manifest, memory, precision, still=shape.frames == 1) if why else {}
        return MemoryFit(needed_bytes(manifest, precision, shape), memory, fit, why, largest)
