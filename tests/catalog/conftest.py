"""The fixtures of these tests."""

from tests.fixtures.served_models import hub, place, repository, served

__all__ = ["hub", "place", "repository", "served"]
