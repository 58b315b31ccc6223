"""The fixtures of these tests."""

from tests.fixtures.mcp_server import pace
from tests.fixtures.video_api import serve

__all__ = ["pace", "serve"]
