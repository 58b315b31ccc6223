"""How long a host keeps a tool call open while progress flows: what is known of hosts, by the names that they give.

A call that names no `wait_s` returns after 45 s, because most hosts give up after a minute, whatever progress is sent.
The hosts below count from the last progress notification instead. For them, one call lasts as long as its job, up to
their limit. docs/clients.md has the table for people, with the sources.
"""

from dataclasses import dataclass
from typing import Any

from wan_mcp.fronts.mcp.tool_builder import Call

__all__ = ["HOSTS", "Host", "patience_of"]


@dataclass(frozen=True)
class Host:
    """A host whose clock starts again at each progress notification."""

    idle_s: float
    """The longest silence that it allows, at its defaults."""
    total_s: float
    """The longest call that it allows, at its defaults."""


HOSTS = {
    # 300 s of silence over HTTP and 30 min over stdio (CLAUDE_CODE_MCP_TOOL_IDLE_TIMEOUT); MCP_TOOL_TIMEOUT is 28 h.
    "claude-code": Host(idle_s=300, total_s=100_000),
    # `resetTimeoutOnProgress` of the TypeScript SDK, which needs a token: versions that send none are not meant.
    "opencode": Host(idle_s=30, total_s=float("inf")),
}
"""By `clientInfo.name`."""
SPARE_S = 5.0
"""Of a limit, for what comes after the wait."""


def patience_of(ctx: Call) -> float | None:
    """Return how long a call may last in seconds while progress flows; None where the host is not known for it.

    A host that sends no progress token is sent no progress, and counts from the start of the call.
    """
    about = ctx.session.client_params
    host = HOSTS.get(about.client_info.name.strip().lower()) if about is not None else None
    return host.total_s - SPARE_S if host is not None and _wants_progress(ctx) else None


def _wants_progress(ctx: Call) -> bool:
    if (ctx.request_context.meta or {}).get("progress_token") is not None:
        return True
    # A client in this process sends no token: the SDK (2.3) calls its function.
    outbound: Any = ctx.session._request_outbound
    return getattr(getattr(outbound, "_inner", outbound), "_on_progress", None) is not None
