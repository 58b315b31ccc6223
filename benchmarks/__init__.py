"""What is measured. The engine's package comes first, so that torch computes here as it does in an engine."""

import wan_mcp.engine  # noqa: F401
