"""The file itself: what it says when it is damaged, new, full or not writable."""

import ast
import re
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

import wan_mcp
from tests.support.patience import PATIENCE_S
from wan_mcp.errors import HomeUnusable, OutOfSpace
from wan_mcp.jobs.database import MIGRATIONS, Database


def test_a_file_that_is_no_database_is_refused_with_the_repair_command(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    file.write_bytes(b"this is not a database, it only lies where one should be" * 40)
    with pytest.raises(HomeUnusable, match="doctor --repair"):
        Database(file)


def test_a_damaged_page_is_reported_with_the_repair_command(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    Database(file).close()
    with closing(sqlite3.connect(file)) as raw:
        [page] = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = 'jobs'").fetchone()
    data = bytearray(file.read_bytes())
    data[4096 * (page - 1) : 4096 * page] = b"\xa5" * 4096
    file.write_bytes(data)
    database = Database(file)
    try:
        with pytest.raises(HomeUnusable, match="doctor --repair"):
            database.read("SELECT * FROM jobs")
    finally:
        database.close()


def test_a_table_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    Database(file).close()
    raw = sqlite3.connect(file)
    raw.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    raw.close()
    with pytest.raises(HomeUnusable, match="newer wan-mcp"):
        Database(file)


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HomeUnusable, match="WAN_MCP_HOME"):
        Database(tmp_path / "file" / "home" / "jobs.db")


def test_a_full_database_says_so_and_keeps_what_it_had(database: Database) -> None:
    with database.write() as connection:
        connection.execute("INSERT INTO timings VALUES ('cpu', 'm', 'load', 1, 1, 1, '')")
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    # SQLite's own page limit raises the very error of a full disk.
    database._writes.sqlite.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OutOfSpace, match="free some"), database.write() as connection:
        for _ in range(100):
            connection.execute("INSERT INTO timings VALUES (?, 'm', 'load', 1, 1, 1, '')", ("x" * 5000,))
    assert len(database.read("SELECT * FROM timings")) == 1


def test_a_query_takes_values_by_place_or_by_name(database: Database) -> None:
    assert tuple(database.read("SELECT ?, ?", 1, 2)[0]) == (1, 2)
    assert tuple(database.read("SELECT :b, :a, :b", a=1, b=2)[0]) == (2, 1, 2)


@pytest.mark.parametrize("sql", ["SELECT ?1", "SELECT :value", "SELECT 'a', @value"])
def test_a_statement_that_some_python_refuses_or_warns_of_fails_these_tests_on_any(
    database: Database, sql: str
) -> None:
    with pytest.raises(AssertionError, match="need a mapping"):
        database.read(sql, 1)


def test_no_statement_numbers_its_placeholders() -> None:
    files = sorted(Path(wan_mcp.__file__).parent.rglob("*.py"))
    numbered = [
        f"{file}:{node.lineno}"
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"\?\d", node.value)
    ]
    assert not numbered, f"Python 3.12.0 warns of ?1 with a sequence; name them (:name): {numbered}"


def test_a_failed_transaction_leaves_nothing_behind(database: Database) -> None:
    with pytest.raises(RuntimeError, match="half way"), database.write() as connection:
        connection.execute("INSERT INTO timings VALUES ('cpu', 'm', 'load', 1, 1, 1, '')")
        raise RuntimeError("half way")
    assert database.read("SELECT * FROM timings") == []


def test_a_watch_sees_commits_of_others_and_nothing_else(database: Database) -> None:
    watch = database.watch()
    assert watch.changed()  # the first look
    assert not watch.changed()
    with database.write(durable=False) as connection:
        connection.execute("INSERT INTO timings VALUES ('cpu', 'm', 'load', 1, 1, 1, '')")
    assert watch.changed()
    assert not watch.changed()
    watch.close()


def test_waiting_on_a_watch_ends_with_the_first_commit(database: Database) -> None:
    watch = database.watch()
    watch.changed()
    assert not watch.wait(0)

    def commit() -> None:
        with database.write() as connection:
            connection.execute("INSERT INTO timings VALUES ('cpu', 'm', 'load', 1, 1, 1, '')")

    writer = threading.Thread(target=commit)
    writer.start()
    assert watch.wait(PATIENCE_S)
    writer.join()
    watch.close()
