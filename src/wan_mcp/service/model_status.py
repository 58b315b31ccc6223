"""What the models of a catalog mean on this machine: whether they fit, are downloaded, and how long they need."""

from collections.abc import Iterable
from dataclasses import dataclass

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.memory_fit import Fit
from wan_mcp.catalog.quality import Quality, quality_of
from wan_mcp.hardware.machine import Machine, this_machine
from wan_mcp.jobs.supervisor import Supervisor
from wan_mcp.jobs.timings import Timings
from wan_mcp.planning.planner import Planner
from wan_mcp.service.typical_times import TypicalTimes, typical_times
from wan_mcp.settings import Settings
from wan_mcp.weights.installed import is_installed

__all__ = ["Measured", "ModelStatus", "model_statuses", "what_statuses_depend_on"]


@dataclass(frozen=True)
class ModelStatus:
    """One model on this machine."""

    misfit: str | None
    """Why its default job would be refused; None if it fits."""
    fit: Fit | None
    """How its default job fits; None if that is unknown."""
    ready: bool
    """True if it needs no download."""
    times: TypicalTimes
    qualities: dict[str | None, Quality]
    """How close results are to the exact ones, by preset; None for jobs without one."""


@dataclass(frozen=True)
class Measured:
    """What the job table knows about this machine."""

    timings: Timings
    engines: Supervisor


def model_statuses(
    models: Iterable[Manifest], planner: Planner, settings: Settings, measured: Measured | None
) -> dict[str, ModelStatus]:
    """Return the status of each model; without the job table, no times.

    Raises:
        HomeUnusable: the job table cannot be used.
    """
    machine = measured.engines.machine() if measured else None
    device_here = machine or this_machine(settings)
    device = measured.engines.device if measured else ""

    def status(model: Manifest) -> ModelStatus:
        fit = planner.typical_fit(model, machine)
        return ModelStatus(
            fit.misfit if fit else None,
            fit.fit if fit else None,
            is_installed(model, settings.home),
            typical_times(planner, measured.timings, device, model) if measured else TypicalTimes({}, {}),
            _qualities(model, device_here, settings),
        )

    return {model.name: status(model) for model in models}


def _qualities(model: Manifest, machine: Machine, settings: Settings) -> dict[str | None, Quality]:
    """Return the qualities of a model's presets, without those that another model serves, and without a preset."""
    found: dict[str | None, Quality] = {None: quality_of(machine.precision_of(model, settings.precision))}
    for name, preset in model.presets.items():
        if preset.model is None:
            asked = preset.precision if settings.precision == "auto" else settings.precision
            precision = machine.precision_of(model, asked)
            found[name] = quality_of(precision, cached=preset.step_cache is not None, sparse=preset.turbo)
    return found


def what_statuses_depend_on(
    models: Iterable[Manifest], settings: Settings, measured: Measured | None
) -> tuple[int | None, tuple[str, ...], Machine | None, tuple[bool, ...]]:
    """Return a value that stays equal as long as every status of these manifests does; cheap to work out.

    Raises:
        HomeUnusable: the job table cannot be used.
    """
    installed = tuple(is_installed(model, settings.home) for model in models)
    if measured is None:
        return None, (), None, installed
    return measured.timings.latest(), tuple(measured.engines.all_devices()), measured.engines.machine(), installed
