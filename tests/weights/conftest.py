"""The fixtures of these tests."""

from tests.fixtures.hub import hub, puller, served

__all__ = ["hub", "puller", "served"]
