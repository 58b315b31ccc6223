"""Engine rows: who a pid was, and whether it had started well."""

import os

import psutil

from wan_mcp.jobs.database import Database
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.workers import WorkerRegistry


def test_an_engine_that_started_well_is_known_as_such_after_the_next_one_has_registered(database: Database) -> None:
    rows = WorkerRegistry(database)
    rows.register("cpu", 10)
    assert not rows.was_ready(os.getpid())
    rows.heartbeat("cpu", 20)
    with database.write() as connection:
        connection.execute("INSERT INTO engines (device, pid, pid_created, deadline_at) VALUES ('cpu', 1, 0, 0)")
    assert rows.was_ready(os.getpid())
    row = rows.get("cpu")
    assert row is not None
    assert (row.pid, row.ready) == (1, False)


def test_a_pid_that_belongs_to_another_process_by_now_is_not_the_engine(database: Database) -> None:
    rows = WorkerRegistry(database)
    rows.register("cpu", 10)
    row = rows.get("cpu")
    assert row is not None
    assert row.process() == psutil.Process()
    for change in ("identity = identity || '0'", "identity = 'another boot' || identity", "identity = NULL"):
        with database.write() as connection:
            connection.execute(f"UPDATE engines SET pid_created = pid_created - 100, {change}")
        row = rows.get("cpu")
        assert row is not None
        assert row.process() is None


def test_an_engine_that_left_is_not_there_any_more(database: Database) -> None:
    rows = WorkerRegistry(database)
    rows.register("cpu", 10)
    rows.unregister("cpu")
    assert rows.get("cpu") is None


def test_an_engine_of_a_newer_version_that_loads_in_other_ways_is_an_engine_all_the_same(database: Database) -> None:
    rows = WorkerRegistry(database)
    rows.register("cpu", 10)
    with database.write() as connection:
        connection.execute("UPDATE engines SET loaded = ?", ('{"generator": ["wan-mini", "fp4"]}',))
    row = rows.get("cpu")
    assert row is not None
    assert (row.pid, row.loaded) == (os.getpid(), LoadedModels())
