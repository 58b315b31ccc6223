"""The fixtures of these tests."""

from tests.fixtures.experts import bench, embedded, one_thread, scheme

__all__ = ["bench", "embedded", "one_thread", "scheme"]
