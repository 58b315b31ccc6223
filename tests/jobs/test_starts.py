"""Engines that cannot start, and those that only were not let: real processes."""

import errno
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import fake_engine
from tests.fixtures.job_table import video_plan, video_request
from tests.support.patience import PATIENCE_S
from wan_mcp.jobs import device_supervisor, in_the_way
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.device_lock import engine_lock
from wan_mcp.jobs.fronts import Front, Presence
from wan_mcp.jobs.processes import Processes
from wan_mcp.jobs.starts import Verdict, is_shortage, judge
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.supervisor import Supervisor
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job
from wan_mcp.settings import Settings


@pytest.fixture
def store(settings: Settings) -> Iterator[JobStore]:
    database = Database(settings.database)
    yield JobStore(database)
    database.close()


def submit(store: JobStore, front: Supervisor) -> Job:
    return store.submit(video_request(), video_plan(), None, 99, front.settings_key)


def supervise(fronts: list[Supervisor], holds: Callable[[], bool]) -> None:
    """Let fronts do their duty again and again until something holds."""
    end = time.monotonic() + PATIENCE_S
    watch = fronts[0]._store.database.watch()
    while not holds():
        assert time.monotonic() < end
        for front in fronts:
            front.supervise()
        watch.wait(0.1)
    watch.close()


@pytest.mark.parametrize("broken", ["a device that is not there", "no such command", "a quote too many"])
def test_a_front_that_cannot_start_an_engine_costs_no_job_that_another_front_can_run(
    store: JobStore, settings: Settings, broken: str
) -> None:
    commands = {
        "a device that is not there": fake_engine("dies_at_start"),
        "no such command": "no-such-program engine",
        "a quote too many": "it's",
    }
    good = Supervisor(settings, store)
    bad = Supervisor(settings.model_copy(update={"device": "cuda:0", "engine_command": commands[broken]}), store)
    good.join()
    jobs = [submit(store, front) for front in (good, bad, bad)]
    supervise([bad], lambda: (bad.hindrance or "").startswith("no engine of this server can start"))
    for _ in range(3):
        bad.supervise()
    assert {store.get(job.id).state for job in jobs} == {JobState.QUEUED}
    supervise([good, bad], lambda: not store.unfinished())
    assert {store.get(job.id).state for job in jobs} == {JobState.SUCCEEDED}
    good.leave()
    alone, other = submit(store, bad), submit(store, good)
    end_engine(good)
    supervise([bad], lambda: store.get(alone.id).state is JobState.FAILED)
    assert store.get(other.id).state is JobState.QUEUED


def end_engine(front: Supervisor) -> None:
    row = front._rows.get("cpu")
    assert row is not None and row.identity is not None
    Processes().kill(row.identity)
    end = time.monotonic() + PATIENCE_S
    while row.process() is not None:
        assert time.monotonic() < end


def test_the_reason_is_of_the_engine_that_could_not_start_and_reaches_the_common_log(
    store: JobStore, settings: Settings
) -> None:
    front = Supervisor(settings.model_copy(update={"engine_command": fake_engine("dies_at_start")}), store)
    settings.log_file.parent.mkdir(parents=True)
    settings.log_file.write_text("INFO job 1234: a healthy engine's line\n", encoding="utf-8")
    job = submit(store, front)

    def failed() -> bool:
        with settings.log_file.open("a", encoding="utf-8") as log:
            log.write("INFO job 1234: a healthy engine's line\n")
        return store.get(job.id).state is JobState.FAILED

    supervise([front], failed)
    error = store.get(job.id).error
    assert error is not None
    assert "no module named 'torch'" in error.message
    assert "healthy" not in error.message
    assert settings.log_file.read_text(encoding="utf-8").count("\nImportError: no module named 'torch'") == 2
    assert list((settings.home / "logs" / "starts").iterdir()) == []


def test_who_holds_a_device_and_is_no_engine_is_named(
    store: JobStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/proc/locks").exists():
        pytest.skip("this system does not tell who holds a lock")
    monkeypatch.setattr(in_the_way, "PATIENCE_S", 0.1)
    front = Supervisor(settings, store)
    job = submit(store, front)
    lock = engine_lock(settings.home, "cpu").lock_file
    held = f"import fcntl; f = open({str(lock)!r}, 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", held], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stranger:
        assert stranger.stdout is not None
        stranger.stdout.readline()
        supervise([front], lambda: front.hindrance is not None)
        said = front.hindrance or ""
        assert f"process {stranger.pid} (" in said and "not an engine of wan-mcp" in said and str(lock) in said
        looker = in_the_way.InTheWay(settings.home, front._rows, Processes())
        assert looker.now("cpu") == said
        stranger.communicate(b"\n")
    supervise([front], lambda: store.get(job.id).state is JobState.SUCCEEDED)
    assert front.hindrance is None
    assert looker.now("cpu") is None, "it is an engine of ours"


def test_a_fatal_signal_is_known_to_fronts_that_did_not_start_the_engine(store: JobStore, settings: Settings) -> None:
    starter, witness = (
        Supervisor(settings.model_copy(update={"engine_command": fake_engine("aborts")}), store) for _ in "12"
    )
    job = submit(store, starter)
    starter.supervise()  # and never again: only the other sees the lock free
    supervise([witness], lambda: store.get(job.id).state is JobState.FAILED)
    failed = store.get(job.id)
    assert failed.crashes == 2
    assert failed.error is not None and "died twice" in failed.error.message
    assert settings.log_file.read_text(encoding="utf-8").count("Fatal Python error: Aborted") == 2


SHORT = """
import os, pathlib, resource, sys
count = pathlib.Path(sys.argv[1])
count.write_text(count.read_text() + "." if count.exists() else ".")
if len(count.read_text()) <= {starts}:
    {limit}
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
LIMITS = {
    "files": "resource.setrlimit(resource.RLIMIT_NOFILE, (6, 6))",
    "memory": "resource.setrlimit(resource.RLIMIT_AS, (30_000_000, 30_000_000))",
    "words": "sys.exit('OSError: [Errno 23] Too many open files in system')",
}


@pytest.mark.parametrize("what", LIMITS)
def test_a_machine_that_is_short_of_something_while_engines_start_costs_no_job(
    store: JobStore, settings: Settings, tmp_path: Path, what: str
) -> None:
    """More often than an engine may fail to start."""
    code = SHORT.format(starts=device_supervisor.STARTS_ALLOWED + 1, limit=LIMITS[what])
    engine = shlex.split(fake_engine("works"))[1:]
    command = shlex.join([sys.executable, "-c", code, str(tmp_path / "count"), *engine])
    front = Supervisor(settings.model_copy(update={"engine_command": command}), store)
    job, said = submit(store, front), set[str | None]()

    def ends() -> bool:
        said.add(front.hindrance)
        return store.get(job.id).state.final

    supervise([front], ends)
    assert store.get(job.id).state is JobState.SUCCEEDED
    assert store.get(job.id).crashes == 0
    assert any("no engine can start for now" in (words or "") for words in said)
    assert front.hindrance is None or front._first.is_starting


@pytest.mark.parametrize(
    ("said", "short"),
    [
        ("OSError: [Errno 24] Too many open files: '/x'.", True),
        ("RuntimeError: can't start new thread.", True),
        ("ImportError: libtorch.so: failed to map segment from shared object.", True),
        ("OSError: [Errno 12] Cannot allocate memory.", True),
        ("OSError: [Errno 28] No space left on device.", True),
        ("BlockingIOError: [Errno 11] Resource temporarily unavailable.", True),
        ("MemoryError.", True),
        ("ImportError: no module named 'torch'.", False),
        ("RuntimeError: CUDA error: invalid device ordinal.", False),
        ("no output was logged.", False),
    ],
)
def test_the_last_words_of_an_engine_tell_a_shortage_from_a_defect(said: str, short: bool) -> None:
    assert is_shortage(said) is short


def test_an_engine_that_was_stopped_is_not_taken_for_one_that_hangs(
    store: JobStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_supervisor, "OVERDUE_GRACE_S", 0.3)
    changes = {"engine_command": fake_engine("strolls"), "step_deadline_s": 1.0, "load_deadline_s": 30.0}
    front = Supervisor(settings.model_copy(update=changes), store)
    job = store.submit(video_request(), video_plan(steps=30), None, 99)

    def denoises() -> bool:
        progress = store.get(job.id).progress
        return progress is not None and (progress.step or 0) > 0

    supervise([front], denoises)
    row = front._rows.get("cpu")
    assert row is not None
    for _ in range(2):
        os.kill(row.pid, signal.SIGSTOP)
        end = time.monotonic() + 2.0  # longer than the deadline and the grace
        supervise([front], lambda end=end: time.monotonic() > end)  # type: ignore[misc]
        os.kill(row.pid, signal.SIGCONT)
    supervise([front], lambda: not store.unfinished())
    done = store.get(job.id)
    assert (done.state, done.crashes, done.attempt) == (JobState.SUCCEEDED, 0, 1)


@pytest.mark.parametrize(
    ("code", "life_s", "verdict"),
    [
        (1, 0.1, Verdict(why_not="(exit code 1)")),
        (3, 60.0, Verdict(why_not="(exit code 3)")),
        (0, 0.1, Verdict(why_not="(exit code 0)")),
        (0, 3.5, Verdict()),
        (-signal.SIGKILL, 0.1, Verdict()),
        (-signal.SIGTERM, 9.0, Verdict()),
        (-signal.SIGHUP, 9.0, Verdict()),
        (128 + signal.SIGKILL, 1.0, Verdict()),
        (-signal.SIGSEGV, 1.0, Verdict(why_not="(signal 11)")),
        (-signal.SIGILL, 1.0, Verdict(why_not="(signal 4)")),
        (-signal.SIGABRT, 1.0, Verdict(why_not="(signal 6)")),
    ],
)
def test_what_the_end_of_a_starting_engine_says(code: int, life_s: float, verdict: Verdict) -> None:
    assert judge(code, life_s, was_ready=False, ended=None, late=False) == verdict
    assert judge(code, life_s, was_ready=True, ended=None, late=False) == Verdict(works=True)
    assert judge(code, life_s, was_ready=False, ended=None, late=True).why_not is not None


def test_a_process_is_known_by_what_does_not_move() -> None:
    processes = Processes()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        identity = processes.identity(child.pid)
        assert identity is not None
        assert processes.lives(identity)
        assert not processes.is_stopped(identity)
        os.kill(child.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        assert processes.is_stopped(identity)
        assert processes.identity(child.pid) == identity
        child.send_signal(signal.SIGCONT)
        processes.kill(f"{identity}0")  # another process that had this pid
        child.communicate(b"\n")
        assert child.returncode == 0
    assert not processes.lives(identity)
    assert processes.identity(2**22 + 1) is None
    assert not processes.is_here(f"another-boot/{identity.partition('/')[2]}")


def test_fronts_know_of_each_other_until_they_end(tmp_path: Path) -> None:
    one, two = Presence(tmp_path, "one"), Presence(tmp_path, "two")
    one.join(["cpu"], ["cpu"])
    two.join(["cuda:0", "cuda:1"], ["cuda:0", "cuda:1"])
    two.join(["cuda:0", "cuda:1"], ["cuda:1"])
    assert one.others() == [Front("two", ("cuda:0", "cuda:1"), ("cuda:1",))]
    assert [front.settings for front in two.others()] == ["one"]
    one._closes()  # as the kernel does when its process ends
    assert two.others() == []
    assert len(list((tmp_path / "fronts").iterdir())) == 1
    two.leave()
    assert list((tmp_path / "fronts").iterdir()) == []


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT])
def test_a_process_that_cannot_be_started_for_now_is_no_engine_that_cannot_start(
    store: JobStore, settings: Settings, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    front = Supervisor(settings, store)
    submit(store, front)

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(front._processes, "start", fail)
    for _ in range(device_supervisor.STARTS_ALLOWED + 1):
        front._first._next_start = 0.0
        front.supervise()
    assert store.has_queued()
    assert "for now" in (front.hindrance or "")
