"""Check the hub, which is needed only to download models: whether it answers, and whether it accepts the token."""

from wan_mcp.errors import UserError
from wan_mcp.fronts.cli.checks.finding import Finding
from wan_mcp.text import in_bytes
from wan_mcp.weights.hub import Hub
from wan_mcp.weights.hub_cache import free_bytes

__all__ = ["check_hub"]


def check_hub() -> list[Finding]:
    """Check the hub and its cache. A hub that cannot be reached is no fault: many machines have no network."""
    hub = Hub.from_environment()
    try:
        answer = Finding("hub", f"{hub.endpoint}, {hub.greeting()}")
    except UserError as error:
        answer = Finding("hub", str(error), good=error.code != "hub_token")
    try:
        cache = Finding("hub's cache", f"{hub.cache}, {in_bytes(free_bytes(hub.cache))} free")
    except OSError as error:
        cache = Finding("hub's cache", f"{hub.cache} cannot be used ({error.strerror}); set HF_HOME", good=False)
    return [answer, cache]
