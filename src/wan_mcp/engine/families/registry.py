"""From a family's record to its code, imported when a job first needs it: each costs a second or two."""

import logging
import pkgutil
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from wan_mcp.catalog.families import FamilySpec
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.device.device import Device
from wan_mcp.engine.families.protocol import FamilyRunner, LoadContext
from wan_mcp.engine.imports import library_imports
from wan_mcp.errors import JobFailed
from wan_mcp.schema.enums import RequestedPrecision
from wan_mcp.settings import Settings
from wan_mcp.text import first_line

if TYPE_CHECKING:
    from wan_mcp.engine.aot.builder import BuildRequest

__all__ = ["aot_targets", "load_model"]

log = logging.getLogger(__name__)

WORTH_SAYING_S = 0.5


def load_model(context: LoadContext) -> FamilyRunner:
    """Load a model by its family's loader.

    Raises:
        JobFailed: the family's code cannot be used; or as the loader says.
    """
    family = context.manifest.family
    runner = _function(family, family.loader)(context)
    if not isinstance(runner, FamilyRunner):
        wanted = ", ".join(sorted(name for name in vars(FamilyRunner) if not name.startswith("_")))
        raise _broken(family, f"{family.loader} returns a {type(runner).__name__}, which needs all of: {wanted}")
    return runner


def aot_targets(
    manifest: Manifest, settings: Settings, device: Device, precision: RequestedPrecision
) -> "list[BuildRequest]":
    """Return the compiled packages that a model's blocks run in on this device; none where they are not compiled.

    Raises:
        JobFailed: the family's code cannot be used, or the manifest or the weights' configuration is at fault.
        BadRequest: files of the model are not here; names them and what brings them.
        WeightsUnavailable: a file was changed since it came.
    """
    family = manifest.family
    if family.aot_targets is None:
        return []
    targets = _function(family, family.aot_targets)
    return cast("list[BuildRequest]", targets(manifest, settings, device, precision))


def _function(family: FamilySpec, reference: str) -> Callable[..., object]:
    """Import the function that a family's record names as 'package.module:function'.

    Raises:
        JobFailed: there is none; says why, and which package it should come with.
    """
    began = time.monotonic()
    try:
        with library_imports(foreign=bool(family.package)):
            function: Callable[..., object] = pkgutil.resolve_name(reference)
    except (Exception, SystemExit) as error:  # foreign code: whatever it raises at import costs its own family only
        raise _broken(family, f"{reference}: {first_line(error)}") from error
    if (seconds := time.monotonic() - began) >= WORTH_SAYING_S:
        log.info("%s: imported in %.1f s", reference.partition(":")[0], seconds)
    return function


def _broken(family: FamilySpec, why: str) -> JobFailed:
    package = family.package or "wan-mcp"
    return JobFailed(
        "family_broken",
        f"The code of the family '{family.name}' cannot be used ({why}); install {package} again.",
    )
