"""The fixtures of these tests."""

from tests.fixtures.attention import data, trial

__all__ = ["data", "trial"]
