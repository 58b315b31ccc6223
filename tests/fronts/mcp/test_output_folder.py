"""Results in the owner's folder: each once, under a name that people read, whatever dies and whatever is in the way."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from tests.fixtures.mcp_server import Answer, Connect, Pace, Runner
from tests.support.patience import PATIENCE_S
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio
DAY = r"\d{4}-\d\d-\d\d"


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.fixture
def saving(shared_settings: Settings, tmp_path: Path) -> Settings:
    """Settings with an output folder that does not exist yet, and an engine that was started without one."""
    return shared_settings.model_copy(update={"output_dir": tmp_path / "Results"})


async def star(runner: Runner, **arguments: Any) -> Answer:
    return await runner.call("generate_image", **{"prompt": "A red star!", "seed": 42, "steps": 2, **arguments})


async def test_every_result_is_saved_under_a_name_that_people_read(saving: Settings, connect: Connect) -> None:
    folder = saving.output_dir
    assert folder is not None
    with anyio.fail_after(PATIENCE_S):
        async with connect(saving) as runner:
            answer = await star(runner, count=2)
            video = await runner.call("generate_video", prompt="赤い星", seed=7, steps=2)
            again = await star(runner)
            listed = await runner.call("get_job", job_id=again.job["job_id"])
    found = names(folder)
    assert [re.sub(DAY, "D", name) for name in found] == [
        "D_a-red-star_s42-2.png", "D_a-red-star_s42.png", "D_a-red-star_s43.png", "D_赤い星_s7.mp4",
    ]  # fmt: skip
    saved = [artifact["saved_as"] for each in (answer, again, video) for artifact in each.job["artifacts"]]
    assert saved == [str(folder / found[place]) for place in (1, 2, 0, 3)]
    for each in (answer, again, video):
        for artifact in each.job["artifacts"]:
            assert await anyio.Path(artifact["saved_as"]).samefile(artifact["path"])
            assert f"saved as {artifact['saved_as']}" in each.text
        assert not [note for note in each.job["notes"] if "not understood" not in note]
    assert listed.job["artifacts"] == again.job["artifacts"]


async def test_deleting_a_job_leaves_what_was_saved(saving: Settings, connect: Connect) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(saving) as runner:
            answer = await star(runner)
            await runner.call("delete_job", job_id=answer.job["job_id"])
    [artifact] = answer.job["artifacts"]
    assert not await anyio.Path(artifact["path"]).exists()
    assert (await anyio.Path(artifact["saved_as"]).read_bytes()).startswith(b"\x89PNG")


async def test_without_an_output_folder_nothing_is_saved(
    saving: Settings, shared_settings: Settings, connect: Connect
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            answer = await star(runner)
    assert answer.job["artifacts"][0]["saved_as"] is None
    assert saving.output_dir is not None
    assert not saving.output_dir.exists()


async def test_a_result_is_saved_once_even_if_the_engine_is_killed_after_it(
    engine: Callable[..., Settings], pace: Pace, connect: Connect, tmp_path: Path
) -> None:
    folder = tmp_path / "Results"
    folder.mkdir()
    settings = engine("works", output_dir=folder)
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings) as runner:
            job_id = (await star(runner, count=2, wait_s=0)).job["job_id"]
            pace.allow(2)  # the steps of the first result
            await runner.until(job_id, lambda view: len(view.job.artifacts) == 1)
            database = Database(settings.database)
            row = WorkerRegistry(database).get("cpu")
            database.close()
            assert row is not None
            psutil.Process(row.pid).kill()
            pace.allow(1000)
            answer = await runner.call("get_job", job_id=job_id, wait_s=PATIENCE_S)
    assert (answer.job["status"], answer.job["notes"]) == ("succeeded", [])
    assert [re.sub(DAY, "D", name) for name in names(folder)] == ["D_a-red-star_s42.png", "D_a-red-star_s43.png"]


@pytest.mark.parametrize("trouble", ["no parent", "a file", "read-only", "full"])
async def test_a_folder_that_cannot_be_used_costs_a_note_and_no_job(
    saving: Settings, connect: Connect, tmp_path: Path, trouble: str, mount_disk: Callable[[int], Path]
) -> None:
    folder = tmp_path / "Results"
    match trouble:
        case "no parent":
            folder = tmp_path / "not mounted" / "Results"
        case "a file":
            folder.write_text("mine", encoding="utf-8")
        case "read-only":
            folder = Path("/proc/wan-results")
        case "full":
            folder = mount_disk(4)
            (folder / "ballast").write_bytes(b"x" * 4096)
    with anyio.fail_after(PATIENCE_S):
        async with connect(saving.model_copy(update={"output_dir": folder})) as runner:
            answer = await star(runner, count=2)
    assert answer.job["status"] == "succeeded"
    [note] = answer.job["notes"]
    assert note.startswith(f"not saved in the output folder {folder}: ")
    assert note.endswith("the result is in the home")
    assert note in answer.text
    assert [artifact["saved_as"] for artifact in answer.job["artifacts"]] == [None, None]
    assert all([await anyio.Path(artifact["path"]).exists() for artifact in answer.job["artifacts"]])
    if trouble == "full":
        assert names(folder) == ["ballast"]
