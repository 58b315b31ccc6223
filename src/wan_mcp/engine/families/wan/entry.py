"""Where an engine enters the family `wan`: a rehearsal begins before libraries are imported, which takes seconds."""

import logging
import time

from wan_mcp.engine.families.protocol import FamilyRunner, LoadContext
from wan_mcp.engine.families.wan.memory_plan import memory_plan
from wan_mcp.engine.families.wan.rehearsal import rehearse
from wan_mcp.engine.imports import library_imports

__all__ = ["load_wan_family"]

log = logging.getLogger(__name__)


def load_wan_family(context: LoadContext) -> FamilyRunner:
    """Load a Wan model; see `pipeline.load_wan_model`.

    Raises:
        JobFailed: its weights cannot be read, or do not do what the manifest says.
    """
    rehearsal = rehearse(context, memory_plan(context.manifest, context.device, context.precision))
    began = time.monotonic()
    try:
        with library_imports():
            from wan_mcp.engine.families.wan.pipeline import load_wan_model
        log.info("libraries imported in %.1f s", time.monotonic() - began)
        return load_wan_model(context, rehearsal.finish)
    finally:
        rehearsal.end()
