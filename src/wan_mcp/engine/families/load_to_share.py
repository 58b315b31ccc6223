"""Load a model for jobs that other engines run: only where it can join them, and only into free memory."""

from wan_mcp.catalog.memory_fit import Fit, default_shape, fit_of
from wan_mcp.engine.device.out_of_memory import MemoryGuard
from wan_mcp.engine.families.protocol import LoadContext, SharedRunner
from wan_mcp.engine.families.registry import load_model
from wan_mcp.errors import JobFailed
from wan_mcp.schema.plans import Plan

__all__ = ["load_to_share", "require_room"]

FEWEST_RANKS = 2


def require_room(context: LoadContext, plan: Plan, memory_bytes: int) -> None:
    """Check that a model would stay on a device with all its weights, which a shared job needs.

    Raises:
        JobFailed: it would not.
    """
    manifest = context.manifest
    shape = plan.shape or default_shape(manifest)
    if fit_of(manifest, memory_bytes, context.precision, shape) is not Fit.RESIDENT:
        raise JobFailed("no_room", f"the device has no room for all weights of '{manifest.name}'")


def load_to_share(context: LoadContext, plan: Plan) -> SharedRunner:
    """Load a model that can help with jobs like `plan`.

    Raises:
        JobFailed: it cannot be loaded, or cannot help.
    """
    with MemoryGuard(plan, context.manifest):
        runner = load_model(context)
    if isinstance(runner, SharedRunner):
        if (why := runner.unshareable(plan, FEWEST_RANKS)) is None:
            return runner
    else:
        why = "its family cannot share jobs"
    runner.close()
    raise JobFailed("not_supported", f"'{context.manifest.name}' cannot join jobs: {why}")
