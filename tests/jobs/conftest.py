"""The fixtures of these tests."""

from tests.fixtures.job_table import _as_strict_as_any_python, clock, database, store

__all__ = ["_as_strict_as_any_python", "clock", "database", "store"]
