"""Load models without an engine, and look at those that an engine's runner has loaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.components.install import Installed
from wan_mcp.engine.device.device import Device, resolve_device
from wan_mcp.engine.families.protocol import LoadContext
from wan_mcp.engine.runner import ModelRunner
from wan_mcp.schema.enums import RequestedPrecision
from wan_mcp.weights.installed import ExtraFile

__all__ = ["context_of", "runner_in", "unload"]

Slot = Literal["generator", "captioner"]


def context_of(
    manifest: Manifest,
    folder: Path,
    precision: RequestedPrecision = "auto",
    *,
    device: Device | None = None,
    sha256: str | None = None,
    extra_files: Mapping[tuple[str, str], ExtraFile] | None = None,
) -> LoadContext:
    """Return what a loader is given for weights that lie in a folder; on the CPU, if no device is named."""
    weights = Installed(folder, sha256, dict(extra_files or {}))
    return LoadContext(manifest, weights, device or resolve_device("cpu"), precision)


def runner_in(engine: ModelRunner, slot: Slot = "generator") -> Any:
    """Return what runs the plans of an engine's loaded model."""
    return engine._models[slot][1]


def unload(engine: ModelRunner, slot: Slot = "generator") -> None:
    """Have an engine load its next model again."""
    engine._models.pop(slot, None)
