"""The fixtures of these tests."""

from tests.fixtures.served_models import hub, place, repository, served, small_reference_pictures

__all__ = ["hub", "place", "repository", "served", "small_reference_pictures"]
