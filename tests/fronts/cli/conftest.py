"""The fixtures of these tests."""

from tests.fixtures.command_line import here, wan

__all__ = ["here", "wan"]
