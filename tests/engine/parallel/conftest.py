"""The fixtures of these tests."""

from collections.abc import Iterator

import pytest

from tests.fixtures.bench import bench, embedded, load
from tests.support.rank_processes import RankProcesses, rank_processes

__all__ = ["bench", "embedded", "load"]


@pytest.fixture(scope="package")
def ranks() -> Iterator[RankProcesses]:
    """Four processes; tests use as many as they need."""
    with rank_processes(4) as processes:
        yield processes
