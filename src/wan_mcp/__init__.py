"""A local media studio for MCP clients: video, images and captions on open weights."""

__all__ = ["__version__"]

__version__ = "0.1.0"
