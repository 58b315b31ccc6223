"""Results of tools for a client elsewhere: with every path of this machine hidden."""

from pathlib import Path

from mcp.types import CallToolResult, TextContent

from wan_mcp.fronts.discretion import discreet, hidden

__all__ = ["discreet_result"]


def discreet_result(result: CallToolResult, home: Path) -> CallToolResult:
    """Return a tool's result with every path of this machine hidden, in its texts and in its structure."""
    content = [
        block.model_copy(update={"text": discreet(block.text, home)}) if isinstance(block, TextContent) else block
        for block in result.content
    ]
    structure = hidden(result.structured_content, home)
    return result.model_copy(update={"content": content, "structured_content": structure})
