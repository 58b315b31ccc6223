"""The fixtures of these tests."""

from tests.fixtures.bench import bench, embedded, load
from tests.fixtures.served_models import hub, place, repository, served

__all__ = ["bench", "embedded", "hub", "load", "place", "repository", "served"]
