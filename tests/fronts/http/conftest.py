"""The fixtures of these tests."""

from tests.fixtures.mcp_server import connect, pace

__all__ = ["connect", "pace"]
