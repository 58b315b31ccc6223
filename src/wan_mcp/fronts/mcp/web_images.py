"""Tools whose images may be web addresses: said in their schemas where the owner allows it, and only there."""

import json

from mcp.server.mcpserver.tools import Tool

from wan_mcp.service.service import JobService

__all__ = ["naming_urls"]

WITHOUT, WITH = "or data URI", "https URL or data URI"


def naming_urls(tool: Tool, service: JobService) -> Tool:
    """Return the tool with web addresses among what its images may be, if the server fetches them."""
    written = json.dumps(tool.parameters)
    if not service.admission.urls.allowed or WITHOUT not in written:
        return tool
    about = tool.annotations and tool.annotations.model_copy(update={"open_world_hint": True})
    parameters = json.loads(written.replace(WITHOUT, WITH))
    return tool.model_copy(update={"parameters": parameters, "annotations": about})
