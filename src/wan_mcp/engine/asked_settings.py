"""Notes for a caller whose settings differ from those of the engine that runs its job.

An engine serves all callers of its home. It follows the settings of a job's caller where one process can; see
`EngineSettings` for where they come from. What it cannot follow, or what has no effect on the model, becomes a note.
"""

from collections.abc import Iterator

import torch

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.device.device import Device
from wan_mcp.jobs.devices import named
from wan_mcp.schema.enums import Kind
from wan_mcp.schema.plans import EngineSettings, Plan

__all__ = ["unmet_settings"]


def unmet_settings(plan: Plan, manifest: Manifest, device: Device) -> Iterator[str]:
    """Yield a sentence for each setting that a plan's caller asked for and this engine does not follow."""
    asked = plan.engine or EngineSettings()
    own = str(device.torch)
    if asked.device is not None and own not in named(asked.device):
        yield (
            f"device {asked.device} was asked for, but the engine of {own} ran this job: nothing served that device "
            "any more"
        )
    threads = torch.get_num_threads()
    if asked.threads is not None and asked.threads != threads:
        yield (
            f"threads {asked.threads} were asked for, but the engine that ran this job had {threads}: they are set "
            "when an engine starts"
        )
    if plan.kind is Kind.CAPTION or manifest.family.aot_targets is not None:
        return  # captions have no denoiser; families with blocks of ours follow the rest
    if asked.precision == "fp8":
        yield f"precision fp8 has no effect on '{manifest.name}', which runs in {device.precision}"
    if asked.attention is not None:
        yield f"attention {asked.attention} has no effect on '{manifest.name}', whose attention is that of diffusers"
