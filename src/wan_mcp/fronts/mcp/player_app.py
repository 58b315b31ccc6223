"""The player: an MCP App, which hosts that show apps draw beside a call that makes something.

One HTML page without dependencies and without a network. It follows the job by `get_job`, reads the file by
`resources/read` in pieces, and has buttons to cancel and to remix. Hosts without apps lose nothing: a tool's result is
complete without it. The protocol: `modelcontextprotocol/ext-apps`, 2026-01-26.
"""

import base64
import hashlib
import re
from html import escape
from importlib.resources import files
from typing import Any

from mcp.server.apps import APP_MIME_TYPE, Apps
from mcp.server.mcpserver.resources import TextResource

import wan_mcp
from wan_mcp.fronts.mcp import icons

__all__ = ["PLAYER", "PLAYER_META", "player_app"]

PLAYER = "ui://wan/player.html"
PLAYER_META: dict[str, Any] = {"ui": {"resourceUri": PLAYER}}
"""What a tool whose result the player shows says of itself."""
NOWHERE: dict[str, Any] = {"connectDomains": [], "resourceDomains": [], "frameDomains": [], "baseUriDomains": []}
"""The places that the page asks for: none."""
PIECE_BYTES = 393_216
"""Of a file, in one read: whole groups of three bytes, below the limits of all clients (a megabyte of text)."""
BASE64_GROUP = 3
FIELD = re.compile(r"\{\{(\w+)\}\}")


def player_app(resource_max_kb: int) -> Apps:
    """Build the extension with the page, for a server that returns at most so many kB of a file at once."""
    apps = Apps()
    apps.add_resource(
        TextResource(
            uri=PLAYER,
            name="player",
            title="Player",
            description="Shows a job while it runs, and what it has made.",
            mime_type=APP_MIME_TYPE,
            icons=[icons.VIDEO],
            meta={"ui": {"csp": NOWHERE, "prefersBorder": True}},
            text=_page(min(PIECE_BYTES, resource_max_kb * 1024)),
        )
    )
    return apps


def _page(piece_bytes: int) -> str:
    page, style, script = (_source(name) for name in ("player.html", "player.css", "player.js"))
    policy = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "img-src": "data:",
        "media-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    fields = {
        "csp": escape("; ".join(f"{what} {allowed}" for what, allowed in policy.items()), quote=False),
        "version": escape(wan_mcp.__version__),
        "piece_bytes": str(piece_bytes - piece_bytes % BASE64_GROUP),
        "style": style,
        "script": script,
    }
    return FIELD.sub(lambda field: fields[field[1]], page)


def _source(name: str) -> str:
    return (files("wan_mcp.fronts.mcp") / "player" / name).read_text(encoding="utf-8")


def _hash(inline: str) -> str:
    """Return the source expression that allows an inline script or style, and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'"
