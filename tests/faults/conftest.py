"""The fixtures of these tests."""

from tests.fixtures.faults import connect, small_disk

__all__ = ["connect", "small_disk"]
