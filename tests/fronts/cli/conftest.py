"""The fixtures of these tests."""

from tests.fixtures.command_line import wan

__all__ = ["wan"]
