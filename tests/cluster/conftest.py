"""One cluster for all tests of this folder, because it takes long to start."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ending_engines, fake_engine
from tests.support.patience import PATIENCE_S
from tests.support.ray_cluster import ClusterHome, Nodes, RayCluster, cluster_of
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.devices import DeviceNames
from wan_mcp.settings import Settings

FAKE = "tests/support/cluster_dispatcher.py tests.support.fake_engine:build_strolling"


@pytest.fixture(scope="package")
def cluster() -> Iterator[RayCluster]:
    """Three machines."""
    with cluster_of(3) as made:
        yield made


@contextmanager
def served(folder: Path, cluster: Nodes, lease_s: float, machines: int = 3) -> Iterator[ClusterHome]:
    """Provide a home whose queue fake engines on that many machines serve."""
    settings = Settings(home=folder / "home", engine_command=fake_engine("strolls"))
    database = Database(settings.database)
    DeviceNames(database).record_auto("cpu")
    database.close()
    home = ClusterHome(settings, cluster, FAKE, lease_s)
    home.start()
    try:
        with ending_engines(settings.home):
            home.until(lambda: len(home.serving()) == machines)
            yield home
    finally:
        home.close()


@pytest.fixture(scope="module")
def studio(cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterHome]:
    """A home that the cluster serves."""
    with served(tmp_path_factory.mktemp("studio"), cluster, PATIENCE_S) as home:
        yield home


@pytest.fixture(scope="module")
def hasty(cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterHome]:
    """One whose actors have short leases: a machine that is busy with other work may exceed them."""
    with served(tmp_path_factory.mktemp("hasty"), cluster, 8.0) as home:
        yield home
