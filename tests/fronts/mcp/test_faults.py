"""Engines that misbehave for real, as the client of a tool sees it."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise

import anyio
import pytest

from tests.fixtures.mcp_server import Answer, Connect
from tests.support.patience import PATIENCE_S
from wan_mcp.catalog.catalog import shipped_folder
from wan_mcp.errors import HomeUnusable
from wan_mcp.jobs import in_the_way
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.device_lock import engine_lock
from wan_mcp.jobs.supervisor import Supervisor
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio


async def run(engine: Callable[..., Settings], connect: Connect, name: str, **changes: object) -> Answer:
    with anyio.fail_after(PATIENCE_S):
        async with connect(engine(name, **changes)) as runner:
            return await runner.call("generate_video", prompt="a red circle", seed=3, steps=4)


def only_increases(answer: Answer) -> bool:
    values = [value for value, _, _ in answer.progress]
    return all(a < b for a, b in pairwise(values))


async def test_a_defect_in_the_engine_fails_the_job_and_names_the_log(
    engine: Callable[..., Settings], connect: Connect, settings: Settings
) -> None:
    answer = await run(engine, connect, "raises")
    assert not answer.result.is_error  # the call has found out what it was asked
    assert answer.job["error"]["code"] == "internal"
    assert "ZeroDivisionError" in answer.text
    assert str(settings.log_file) in answer.text
    assert "a defect of the engine" not in answer.text
    assert "a defect of the engine" in settings.log_file.read_text(encoding="utf-8")


async def test_a_job_that_cannot_be_done_says_why_and_what_to_do(
    engine: Callable[..., Settings], connect: Connect
) -> None:
    answer = await run(engine, connect, "fails")
    assert not answer.result.is_error
    assert answer.job["status"] == "failed"
    assert answer.job["error"] == {
        "code": "out_of_memory",
        "message": "The device has not enough memory for this size; choose a smaller one.",
    }
    assert "failed (out_of_memory): The device has not enough memory" in answer.text


@pytest.mark.parametrize("name", ["exits", "killed"])
async def test_a_job_that_kills_its_engine_twice_fails_with_the_reason(
    engine: Callable[..., Settings], connect: Connect, name: str
) -> None:
    answer = await run(engine, connect, name)
    assert not answer.result.is_error  # the call has found out what it was asked
    assert answer.job["error"]["code"] == "engine_died"
    assert only_increases(answer)


@pytest.mark.parametrize("name", ["killed_once", "hangs_once", "loses_its_device_once"])
async def test_a_job_whose_engine_dies_once_is_finished_by_the_next(
    engine: Callable[..., Settings], connect: Connect, name: str
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(engine(name, step_deadline_s=0.5)) as runner:
            answer = await runner.call("generate_video", prompt="a red circle", seed=3, steps=4)
            view = await runner.service.view(answer.job["job_id"])
    assert view.job.crashes == 1
    assert answer.job["status"] == "succeeded"
    assert answer.job["artifacts"][0]["seed"] == 3
    assert only_increases(answer)


@pytest.mark.parametrize("name", ["lacks_threads_twice", "lacks_files_once"])
async def test_a_shortage_that_passes_is_not_held_against_a_job(
    engine: Callable[..., Settings], connect: Connect, name: str
) -> None:
    answer = await run(engine, connect, name)
    assert answer.job["status"] == "succeeded", answer.text


async def test_a_shortage_that_lasts_fails_the_job_with_the_reason(
    engine: Callable[..., Settings], connect: Connect
) -> None:
    answer = await run(engine, connect, "lacks_threads")
    assert answer.job["error"]["code"] == "machine_short"
    assert "can't start new thread" in answer.text


async def test_an_engine_that_cannot_start_fails_the_job_and_names_the_log(
    engine: Callable[..., Settings], connect: Connect, settings: Settings
) -> None:
    answer = await run(engine, connect, "dies_at_start")
    assert not answer.result.is_error  # the call has found out what it was asked
    assert answer.job["error"]["code"] == "engine_failed"
    assert "no module named 'torch'" in answer.text
    assert str(settings.log_file) in answer.text


async def test_the_next_job_runs_after_one_has_failed(engine: Callable[..., Settings], connect: Connect) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(engine("fails")) as runner:
            failed = await runner.call("generate_video", prompt="a red circle", steps=4)
            after = await runner.call("generate_video", prompt="a red circle", steps=1)  # ends before the trick
    assert failed.job["status"] == "failed"
    assert after.job["status"] == "succeeded"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("no-such-program engine", "No such file or directory"),
        ("true", "exit code 0"),
        ("it's", "No closing quotation"),
        ("nice -n 10 \\", "No escaped character"),
    ],
)
async def test_a_command_that_starts_no_engine_fails_the_job_and_says_which_setting_it_is(
    connect: Connect, settings: Settings, command: str, says: str
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings.model_copy(update={"engine_command": command})) as runner:
            answer = await runner.call("generate_video", prompt="a red circle", steps=4)
    assert answer.job["error"]["code"] == "engine_failed"
    assert "WAN_MCP_ENGINE_COMMAND" in answer.text
    assert says in answer.text


async def test_a_front_that_could_not_tend_the_engine_tries_again(
    engine: Callable[..., Settings], connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervise, turns = Supervisor.supervise, []

    def troubled(self: Supervisor) -> None:
        turns.append(self)
        if len(turns) < 3:
            raise [HomeUnusable("the table stayed locked"), RecursionError("nobody has thought of it")][len(turns) - 1]
        supervise(self)

    monkeypatch.setattr(Supervisor, "supervise", troubled)
    answer = await run(engine, connect, "works")
    assert answer.job["status"] == "succeeded"


async def test_the_job_of_a_dead_engine_on_another_device_is_taken_over(
    engine: Callable[..., Settings], connect: Connect, settings: Settings
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(engine("works")) as runner:
            job_id = await runner.start(steps=4)
            database = Database(settings.database)
            with database.write() as connection:  # as if an engine of another front had died over it
                connection.execute(
                    "UPDATE jobs SET state = 'running', device = 'cuda:7', attempt = attempt + 1, artifacts = '[]'"
                )
            database.close()
            answer = await runner.call("get_job", job_id=job_id)
    assert answer.job["status"] == "succeeded"


async def test_a_model_that_is_added_while_a_server_runs_can_be_used(
    engine: Callable[..., Settings], connect: Connect, settings: Settings
) -> None:
    text = (shipped_folder() / "wan-mini.toml").read_text(encoding="utf-8")
    with anyio.fail_after(PATIENCE_S):
        async with connect(engine("works")) as runner:
            before = await runner.call("generate_video", prompt="a red circle", model="mine", steps=2)
            (settings.home / "manifests").mkdir(parents=True)
            (settings.home / "manifests" / "mine.toml").write_text(text.replace('"wan-mini"', '"mine"', 1))
            after = await runner.call("generate_video", prompt="a red circle", model="mine", steps=2)
    assert "no model 'mine'" in before.text
    assert after.job["status"] == "succeeded"


@pytest.fixture
def stranger(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the lock of the CPU until it reads a line, and is not an engine."""
    lock = engine_lock(settings.home, "cpu").lock_file
    hold = f"import fcntl; f = open({str(lock)!r}, 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


async def test_a_job_that_waits_for_a_stranger_at_the_devices_lock_says_who_it_is(
    engine: Callable[..., Settings],
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    stranger: subprocess.Popen[bytes],
) -> None:
    monkeypatch.setattr(in_the_way, "PATIENCE_S", 0.1)
    with anyio.fail_after(PATIENCE_S):
        async with connect(engine("works")) as runner:
            job_id = await runner.start(steps=1)
            await runner.until(job_id, lambda view: view.hindrance is not None)
            waiting = await runner.call("get_job", job_id=job_id, wait_s=0)
            stranger.kill()
            done = await runner.call("get_job", job_id=job_id)
    assert "it waits because the device's lock" in waiting.text
    assert f"is held by process {stranger.pid} (" in waiting.text or sys.platform != "linux"
    assert done.job["status"] == "succeeded"
