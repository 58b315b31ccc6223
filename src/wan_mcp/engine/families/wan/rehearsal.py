"""A rehearsal of a model's kernels by other processes, while this one imports libraries and reads weights.

On a GPU that a home has not seen with its driver and these versions, Triton compiles for half a minute what attention,
blocks and the VAE launch, and each kernel is checked. Three processes do that with random weights, one for each. Triton
keeps what it compiled, and `engine.device.kernel_checks` what was measured; so the engine finds both. It waits for the
processes before it needs them. If they fail, the engine does the same itself, as later ones do.
"""

import json
import logging
import time
from collections.abc import Mapping
from subprocess import DEVNULL, Popen, TimeoutExpired
from types import SimpleNamespace
from typing import Any

from wan_mcp.engine.aot import child_process
from wan_mcp.engine.aot.builder import environment
from wan_mcp.engine.aot.cache_key import kind_to_dict
from wan_mcp.engine.attention import AUTO
from wan_mcp.engine.attention.cudnn_fp8 import CudnnFp8
from wan_mcp.engine.device.kernel_checks import has_checks
from wan_mcp.engine.families.protocol import LoadContext
from wan_mcp.engine.families.wan.memory_plan import MemoryPlan
from wan_mcp.engine.families.wan.precision import block_kinds, scheme_for
from wan_mcp.engine.transformer.block import BlockKind
from wan_mcp.errors import WanError

__all__ = ["Rehearsal", "rehearse"]

log = logging.getLogger(__name__)

CHILD = "wan_mcp.engine.families.wan.rehearsal_main"
PATIENCE_S = 60.0
"""Longer than all processes took together."""
BLANKS = {"added_kv_proj_dim": None, "image_dim": None}
"""What the configurations of blocks that are ours may leave out."""
SPARE_SHARE = 0.2
"""Share of what the model may use that has to stay free: the processes have up to 4 GB, and no placement of the model
may depend on them."""


class Rehearsal:
    """The processes, if any."""

    def __init__(self, processes: Mapping[str, "Popen[bytes]"] | None = None) -> None:
        self._processes = dict(processes or {})
        self._began = time.monotonic()

    def finish(self) -> None:
        """Wait until the processes have ended, and end those that take too long."""
        asked = time.monotonic()
        for part, process in self._processes.items():
            try:
                code: int | None = process.wait(max(0.0, PATIENCE_S - (time.monotonic() - self._began)))
            except TimeoutExpired:
                code = None
            child_process.end(process)
            log.info("rehearsal of the %s: %s", part, "ended" if code == 0 else "failed, and is done without")
        if self._processes:
            log.info(
                "rehearsals took %.1f s, %.1f of them waited", time.monotonic() - self._began, time.monotonic() - asked
            )
        self._processes = {}

    def end(self) -> None:
        """End the processes now."""
        for process in self._processes.values():
            child_process.end(process)
        self._processes = {}


def rehearse(context: LoadContext, plan: MemoryPlan) -> Rehearsal:
    """Start the rehearsal of a model that is about to be loaded, where it is worth it and there is room for it."""
    device = context.device
    if not device.is_cuda or has_checks(device.torch) or not plan.whole or plan.spare < SPARE_SHARE * plan.memory_bytes:
        return Rehearsal()
    try:
        return start(context)
    except (OSError, ValueError, AttributeError, WanError) as error:  # the loader says what is wrong
        log.info("no rehearsal: %s", error)
        return Rehearsal()


def start(context: LoadContext) -> Rehearsal:
    """Start the processes.

    Raises:
        OSError, ValueError, AttributeError: a configuration cannot be read, or lacks something.
        JobFailed: the settings ask for what the device cannot do.
    """
    folder, settings, device = context.weights.folder, context.settings, context.device
    wanted: dict[str, dict[str, Any]] = {"VAE": {"vae": str(folder / "vae")}}
    if kinds := _kinds(context):
        widths = sorted({kind.shape.head_dim for kind in kinds})
        eight_bits = context.requested != "full"
        wanted["attention"] = {"attention": settings.attention, "widths": widths, "eight_bits": eight_bits}
        wanted["blocks"] = {
            "kinds": [kind_to_dict(kind) for kind in kinds],
            "fused": settings.attention == CudnnFp8.name or (settings.attention == AUTO and eight_bits),
        }
    shared = {"device": str(device.torch), "home": str(settings.home)}
    processes = {
        part: child_process.start(
            ["-W", "ignore", "-m", CHILD, json.dumps(shared | facts)],
            environment(settings.home),
            output=DEVNULL,
            errors=None,
        )
        for part, facts in wanted.items()
    }
    return Rehearsal(processes)


def _kinds(context: LoadContext) -> list[BlockKind]:
    """Return the kinds of a model's blocks, from its configurations as they are: to complete them takes diffusers."""
    folder, manifest, device = context.weights.folder, context.manifest, context.device
    scheme = scheme_for(manifest, device, context.requested)
    if scheme is None:
        return []
    per_token = bool(json.loads((folder / "model_index.json").read_text(encoding="utf-8")).get("expand_timesteps"))
    config = SimpleNamespace(
        **BLANKS | json.loads((folder / "transformer" / "config.json").read_text(encoding="utf-8"))
    )
    kinds = block_kinds(manifest, config, scheme, device.dtype, temb_per_token=per_token) or []
    return list(dict.fromkeys(kinds))
