"""The fixtures of these tests."""

from tests.fixtures.bench import bench, embedded, load

__all__ = ["bench", "embedded", "load"]
