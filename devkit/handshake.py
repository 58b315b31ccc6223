"""What a client of the older protocol era says first, for soaks that speak to fronts without an SDK."""

from typing import Any

__all__ = ["handshake"]


def handshake(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the two messages of a client with this name; the first has the id 0."""
    hello = {
        "jsonrpc": "2.0",
        "id": 0,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": name, "version": "1"},
        },
    }
    return hello, {"jsonrpc": "2.0", "method": "notifications/initialized"}
