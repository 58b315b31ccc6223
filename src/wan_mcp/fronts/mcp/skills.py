"""Skills: the guides, as the extension `io.modelcontextprotocol/skills` (SEP-2640) lists them.

A client that knows skills reads the one-line descriptions first and a whole guide only when its model wants it. Others
have the same texts as resources (`wan://guides/…`) and in the prompts.
"""

import hashlib
import json
from typing import Any

from mcp import MCPError
from mcp.server.context import HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding, ResourceBinding
from mcp.server.mcpserver.resources import TextResource
from mcp.types import INVALID_PARAMS, PaginatedRequestParams, RequestParams
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from wan_mcp.fronts.mcp import icons
from wan_mcp.fronts.mcp.guides import GUIDES, guide
from wan_mcp.text import quoted

__all__ = ["Skills"]

ERAS = frozenset(MODERN_PROTOCOL_VERSIONS)
CACHED: dict[str, Any] = {"ttlMs": 3_600_000, "cacheScope": "public"}
"""The guides are part of the package."""


class SkillParams(RequestParams):
    """Parameters of `skills/get`."""

    uri: str


class Skills(Extension):
    """The extension, over the guides."""

    identifier = "io.modelcontextprotocol/skills"

    def methods(self) -> list[MethodBinding]:
        """Return the methods that it adds to the protocol."""
        return [
            MethodBinding("skills/list", PaginatedRequestParams, self._list, ERAS),
            MethodBinding("skills/get", SkillParams, self._get, ERAS),
        ]

    def resources(self) -> list[ResourceBinding]:
        """Return the file of each skill."""
        return [
            ResourceBinding(
                TextResource(
                    uri=_uri(name),
                    name=_name(name),
                    title=guide(name).partition("\n")[0].removeprefix("# "),
                    description=about,
                    mime_type="text/markdown",
                    text=_text(name),
                    icons=[icons.CAPTION],
                )
            )
            for name, about in GUIDES.items()
        ]

    async def _list(self, ctx: ServerRequestContext[Any, Any], params: PaginatedRequestParams) -> HandlerResult:
        return {"skills": [_entry(name) for name in GUIDES], **CACHED}

    async def _get(self, ctx: ServerRequestContext[Any, Any], params: SkillParams) -> HandlerResult:
        for name in GUIDES:
            if params.uri == _uri(name):
                return {"skill": _entry(name), **CACHED}
        raise MCPError(INVALID_PARAMS, f"no skill {quoted(params.uri)}; skills/list names them")


def _name(guide_name: str) -> str:
    return f"wan-{guide_name}"


def _uri(guide_name: str) -> str:
    return f"skill://wan-mcp/{_name(guide_name)}/SKILL.md"


def _text(guide_name: str) -> str:
    head = f"name: {_name(guide_name)}\ndescription: {json.dumps(GUIDES[guide_name])}"
    return f"---\n{head}\n---\n\n{guide(guide_name)}"


def _entry(guide_name: str) -> dict[str, Any]:
    content = _text(guide_name).encode()
    file = {"uri": _uri(guide_name), "digest": f"sha256:{hashlib.sha256(content).hexdigest()}", "size": len(content)}
    frontmatter = {"name": _name(guide_name), "description": GUIDES[guide_name]}
    return {"uri": _uri(guide_name), "frontmatter": frontmatter, "resources": [file]}
