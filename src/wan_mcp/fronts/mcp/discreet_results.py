"""What is answered to a client elsewhere: with every path of this machine hidden."""

from pathlib import Path

from mcp import MCPError
from mcp.types import INTERNAL_ERROR, CallToolResult, TextContent

from wan_mcp.errors import UserError
from wan_mcp.fronts.discretion import discreet, hidden
from wan_mcp.fronts.mcp.places import Places

__all__ = ["discreet_result", "protocol_error"]


def discreet_result(result: CallToolResult, home: Path) -> CallToolResult:
    """Return a tool's result with every path of this machine hidden, in its texts and in its structure."""
    content = [
        block.model_copy(update={"text": discreet(block.text, home)}) if isinstance(block, TextContent) else block
        for block in result.content
    ]
    structure = hidden(result.structured_content, home)
    return result.model_copy(update={"content": content, "structured_content": structure})


def protocol_error(error: UserError, places: Places) -> MCPError:
    """Return what a request other than a tool's call is answered when something keeps the server from serving it."""
    words = str(error)
    return MCPError(INTERNAL_ERROR, words if places.same_machine else discreet(words, places.media.home))
