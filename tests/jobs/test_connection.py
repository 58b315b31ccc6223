"""A fork carries no connection to the job table over, and the parent goes on with its own."""

import subprocess
import sys
from pathlib import Path

from tests.support.patience import PATIENCE_S

FORKS = """
import os, sys, threading
from pathlib import Path
from wan_mcp.jobs.connection import close_at_forks
from wan_mcp.jobs.database import Database, Remembered

database = Database(Path(sys.argv[1]))
close_at_forks()
watch, remembered, stop, done = database.watch(), Remembered(database), threading.Event(), []

def count(database):
    return database.read("SELECT count(*) FROM jobs")[0][0]

def add(database, name):
    with database.write() as connection:
        connection.execute(
            "INSERT INTO jobs (id, request, state, plan, created_at) VALUES (?, '{}', 'queued', '{}', 1)", (name,)
        )

def work(number):  # other threads of the parent, in the middle of whatever they do
    at = 0
    while not stop.is_set():
        add(database, f"{number}-{at}")
        remembered.get("count", lambda: count(database))
        at += 1
    done.append(at)

threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
for thread in threads:
    thread.start()
for number in range(10):
    child = os.fork()
    if child == 0:
        links = [Path("/proc/self/fd", fd) for fd in os.listdir("/proc/self/fd")]
        open_here = [os.readlink(link) for link in links if link.is_symlink()]
        assert not [name for name in open_here if "jobs.db" in name], open_here
        own = Database(Path(sys.argv[1]))
        add(own, f"child-{number}")
        own.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert watch.changed()
stop.set()
for thread in threads:
    thread.join()
assert count(database) == remembered.get("count", lambda: count(database)) == sum(done) + 10
assert database.read("PRAGMA integrity_check")[0][0] == "ok"
database.close()
"""


def test_children_open_the_table_for_themselves_while_threads_of_the_parent_use_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORKS, str(tmp_path / "jobs.db")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert run.returncode == 0, run.stderr
