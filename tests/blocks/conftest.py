"""The tests of fast blocks use the engine's tiny models."""

from tests.engine.conftest import bench, embedded

__all__ = ["bench", "embedded"]
