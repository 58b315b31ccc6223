"""Where a captioner has room that checks results: it takes nothing from the model that made them."""

from dataclasses import replace

from wan_mcp.catalog.memory_fit import default_shape, needed_bytes
from wan_mcp.engine.device.device import resolve_device
from wan_mcp.engine.device.memory import available_bytes
from wan_mcp.engine.families.protocol import LoadContext
from wan_mcp.errors import JobFailed
from wan_mcp.hardware.host_memory import free_main_memory

__all__ = ["beside_the_generator"]


def beside_the_generator(context: LoadContext) -> LoadContext:
    """Return how a captioner is loaded where it takes nothing from the other model: here, or in main memory.

    Raises:
        JobFailed: there is no room for it.
    """
    manifest, device = context.manifest, context.device
    shape = default_shape(manifest)
    if available_bytes(device) >= needed_bytes(manifest, context.precision, shape):
        return replace(context, make_room=lambda: False)
    if device.is_cuda and free_main_memory() >= needed_bytes(manifest, "fp32", shape):
        cpu = resolve_device("cpu", context.settings.threads)
        return replace(context, make_room=lambda: False, device=cpu, acceleration=None)
    raise JobFailed("no_room", f"there is no room for '{manifest.name}' together with the model that made it")
