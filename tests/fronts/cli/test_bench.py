"""`wan-mcp bench`: what it refuses, what it measures, and what becomes of it when others come or something fails.

The engine and the other side are fakes here; `test_foreign_code.py` has both for real.
"""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.fixtures.command_line import Run, Wan
from tests.support.patience import PATIENCE_S
from wan_mcp.fronts.cli.bench import measure, ours, plain
from wan_mcp.fronts.cli.bench.report import lines_of
from wan_mcp.jobs.cluster_devices import dispatcher_lock
from wan_mcp.schema.requests import ImageRequest
from wan_mcp.service.service import serving
from wan_mcp.settings import Settings

ROOT = Path(__file__).parents[3]


@pytest.fixture
def bench(here: Wan, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Run, Any]]:
    """`bench(*arguments, plain=…)`: run it with a fake of plain diffusers; returns the run and its JSON, if any."""
    monkeypatch.setattr(plain, "CHILD", "tests.support.fake_plain")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run(*arguments: object, plain: str = "works") -> tuple[Run, Any]:
        settings.home.mkdir(exist_ok=True)
        (settings.home / "plain").write_text(plain)
        ended = here("bench", *arguments, "--json")
        return ended, json.loads(ended.stdout) if ended.stdout else None

    return run


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("wan-mini-caption",), 2, "makes no videos or images"),
        (("no-such-model",), 2, "no-such-model"),
        (("z-image-turbo",), 1, "get them with 'wan-mcp pull z-image-turbo'"),
        (("wan2.2-ti2v-5b", "--quality"), 1, "get them with 'wan-mcp pull wan2.2-ti2v-5b'"),
        (("-o", "nowhere/result.json"), 2, "create it or choose another -o"),
        (("-o", "."), 2, "already exists"),
        (("-o", "/proc/result.json"), 2, "cannot be written"),
        (("--minutes", "0"), 2, "greater than or equal to 0.1"),
        (("--preset", "fastest"), 2, "has no preset 'fastest'"),
        (("--frames", "6"), 2, "6 is not allowed"),
        (("--resolution", "130x130"), 2, "130"),
        (("--runs", "1"), 2, "greater than or equal to 2"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_the_way_out(
    here: Wan, arguments: tuple[str, ...], code: int, said: str
) -> None:
    run = here("bench", *arguments)
    assert run.returncode == code
    assert said in run.stderr
    assert here("jobs", "--json").stdout == "[]\n"


def test_other_jobs_are_not_disturbed_but_named(here: Wan, settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    (settings.home / "pace").write_text("0")
    job_id = here("generate", "image", "a red star", "--detach").stdout.strip()
    refused = here("bench")
    assert refused.returncode == 2
    assert f"a job waits or runs ({job_id})" in refused.stderr
    assert f"'wan-mcp jobs wait {job_id}'" in refused.stderr
    (settings.home / "pace").unlink()
    assert here("jobs", "wait", job_id).returncode == 0


def test_a_cluster_that_takes_the_jobs_is_named_and_not_stopped(here: Wan, settings: Settings) -> None:
    assert here("jobs").returncode == 0  # there is a job table
    with dispatcher_lock(settings.home):
        refused = here("bench")
    assert refused.returncode == 2
    assert "end the command 'wan-mcp cluster'" in refused.stderr


def test_a_job_that_comes_before_our_first_is_said_and_nothing_is_measured(
    here: Wan, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.home.mkdir(parents=True)
    (settings.home / "pace").write_text("0")

    def come(found: Settings) -> None:
        async def submit() -> None:
            async with serving(found) as service:
                await service.submit(ImageRequest(prompt="a red star"))

        anyio.run(submit)

    monkeypatch.setattr(measure, "stop_idle_engines", come)
    run = here("bench")
    assert run.returncode == 2
    assert "nothing was measured: another job came" in run.stderr
    [job] = json.loads(here("jobs", "--json").stdout)
    (settings.home / "pace").unlink()
    assert here("jobs", "wait", job["id"]).returncode == 0


def test_both_sides_are_measured_and_nothing_is_left_but_the_report(
    bench: Callable[..., tuple[Run, Any]], here: Wan, settings: Settings, tmp_path: Path
) -> None:
    run, report = bench("--preset", "draft", "--seed", "7", "-o", "result.json")
    assert run.returncode == 0, run.stderr
    assert "3 times video 128x128, 17 frames" in run.stderr
    assert "at most 10 min" in run.stderr
    assert len(report["ours"]["seconds"]) == 3
    assert 0 < report["ours"]["warm_s"] <= report["ours"]["first_s"]
    assert report["ours"]["process_bytes"] is None or report["ours"]["process_bytes"] > 1_000_000
    assert report["diffusers"]["seconds"] == [2.0, 3.0, 4.0]
    assert report["diffusers"]["warm_s"] == 3.5
    assert report["ratio"]["warm"] == pytest.approx(3.5 / report["ours"]["warm_s"], rel=0.05)
    assert report["request"]["preset"] == "draft"
    assert (report["request"]["steps"], report["seed"], report["quality"]) == (6, 7, None)
    assert json.loads((tmp_path / "result.json").read_text()) == report
    for private in (str(settings.home), str(tmp_path), "background", Path.home().name + "/"):
        assert private not in run.stdout
    assert here("jobs", "--json").stdout == "[]\n"
    assert not list((settings.home / "media").rglob("*.mp4"))
    assert not list((settings.home / "tmp").iterdir())
    assert here("engine", "status").stdout.startswith("no engine is running")
    again = here("bench", "-o", "result.json")
    assert (again.returncode, "already exists" in again.stderr) == (2, True)
    table = "\n".join(lines_of(report))
    assert "wan-mini: 128x128, 17 frames, 6 steps" in table
    assert f"{3.5:>9.2f}" in table


@pytest.mark.parametrize(
    ("trick", "ended"),
    [
        ("fails", "cannot read a.json, 'b.json' or (c.json)"),
        ("exits", "its process ended with code 3"),
    ],
)
def test_an_error_of_diffusers_is_a_result_without_places(
    bench: Callable[..., tuple[Run, Any]], trick: str, ended: str
) -> None:
    run, report = bench(plain=trick)
    assert run.returncode == 0
    assert (report["diffusers"]["failed"], report["diffusers"]["ended"]) == (True, ended)
    assert (report["diffusers"]["seconds"], report["diffusers"]["warm_s"]) == ([2.0], None)
    assert report["ratio"]["warm"] is None
    assert len(report["ours"]["seconds"]) == 3
    assert any(ended in line for line in lines_of(report))


@pytest.mark.parametrize("side", ["ours", "diffusers"])
def test_a_job_that_comes_meanwhile_has_the_device_at_once(
    bench: Callable[..., tuple[Run, Any]], settings: Settings, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    settings.home.mkdir(parents=True)
    os.mkfifo(hanging := settings.home / "hanging")
    done: list[str] = []
    took = ours._took

    def come() -> None:
        async def submit() -> None:
            async with serving(settings) as service:
                job = (await service.submit(ImageRequest(prompt="a red star"))).job
                done.append(job.id)
                waiting.set()
                done.append((await service.wait(job.id, PATIENCE_S)).job.state)

        if side == "diffusers":
            hanging.read_text()  # once the other side hangs
        anyio.run(submit)

    def come_at_the_first(*arguments: Any) -> bool:
        if side == "ours" and not done:
            other.start()
            waiting.wait(PATIENCE_S)
        return took(*arguments)

    waiting, other = threading.Event(), threading.Thread(target=come)
    monkeypatch.setattr(ours, "_took", come_at_the_first)
    if side == "diffusers":
        other.start()
    else:
        (settings.home / "pace").write_text("12")  # the steps of our first result; the other job stays unfinished
    run, report = bench(plain="hangs")
    (settings.home / "pace").unlink(missing_ok=True)
    other.join()
    assert done[1:] == ["succeeded"]
    assert run.returncode == 0
    assert (report[side]["failed"], report[side]["ended"]) == (False, "another job came, which has the device now")
    assert len(report["ours"]["seconds"]) == (1 if side == "ours" else 3)
    assert len(report["diffusers"]["seconds"]) == (0 if side == "ours" else 1)
    assert done[0] not in run.stdout


@pytest.mark.parametrize(("share", "side"), [("OUR_SHARE", "ours"), ("PLAIN_SHARE", "diffusers")])
def test_a_side_ends_when_its_time_is_over(
    bench: Callable[..., tuple[Run, Any]], monkeypatch: pytest.MonkeyPatch, here: Wan, share: str, side: str
) -> None:
    monkeypatch.setattr(measure, share, 0.0)
    run, report = bench(plain="hangs")
    assert run.returncode == (1 if side == "ours" else 0)
    assert (report[side]["failed"], report[side]["ended"]) == (False, "the time was over")
    assert here("jobs", "--json").stdout == "[]\n"


def test_our_side_that_fails_is_said_and_is_the_commands_failure(engine: Callable[..., Settings], here: Wan) -> None:
    fails = engine("fails").environment()["WAN_MCP_ENGINE_COMMAND"]
    run = here("bench", "--engine-command", fails, "--json")
    report = json.loads(run.stdout)
    assert run.returncode == 1
    assert report["ours"]["failed"]
    assert "not enough memory" in report["ours"]["ended"]
    assert report["diffusers"]["ended"] == "there is nothing to compare with"
    assert here("jobs", "--json").stdout == "[]\n"
