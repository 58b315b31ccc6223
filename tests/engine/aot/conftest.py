"""The fixtures of these tests."""

from tests.fixtures.aot_packages import bench, compiled, compiled_mini, embedded, home, opened, proved

__all__ = ["bench", "compiled", "compiled_mini", "embedded", "home", "opened", "proved"]
