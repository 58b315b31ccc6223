"""The tests of adapters and GGUF files use the engine's tiny models."""

from tests.engine.conftest import bench, embedded

__all__ = ["bench", "embedded"]
