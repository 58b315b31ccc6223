"""What commands print: nothing that others wrote steers a terminal, forges a line, or is cut for a pipe."""

import json
import logging
from typing import Any

import anyio
import pytest

from tests.fixtures.command_line import Wan
from wan_mcp.catalog.catalog import Catalog
from wan_mcp.fronts.cli import follow
from wan_mcp.fronts.cli.terminal import echo
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.store import JobStore
from wan_mcp.logs import log_to_stderr
from wan_mcp.planning.planner import Planner
from wan_mcp.schema.enums import JobState, Stage
from wan_mcp.schema.jobs import Job, JobError, Progress
from wan_mcp.schema.requests import ImageRequest
from wan_mcp.service.service import JobView
from wan_mcp.settings import Settings

EVIL = "A\x1b]0;OWNED\x07\x1b[2J\x9b31m\u202e\r\nforged"
SEEN = r"A\x1b]0;OWNED\x07\x1b[2J\x9b31m\u202e forged"
STEERING = set("\x1b\x07\x9b\u202e\r")


def finished(settings: Settings, prompt: str, *, error: str | None = None) -> str:
    """A job of that prompt that has ended."""
    store = JobStore(Database(settings.database))
    request = ImageRequest(prompt=prompt)
    job = store.submit(request, Planner(settings, Catalog.of(settings.home)).plan(request), None, 99)
    claimed = store.claim(settings.device)
    assert claimed is not None
    failed = JobError(code="model_broken", message=error) if error else None
    store.finish(claimed, JobState.FAILED if error else JobState.SUCCEEDED, error=failed)
    store.database.close()
    return str(getattr(job, "id", claimed.id))


def test_prompts_are_listed_on_one_line_each_and_whole_where_nobody_looks(wan: Wan, settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    long = "a small red circle with many words that moves left and up"
    ids = [finished(settings, EVIL), finished(settings, long)]
    listed = wan("jobs", COLUMNS="60").stdout
    assert not STEERING & set(listed)
    newest, oldest = listed.splitlines()[-2:]
    assert long in newest
    assert SEEN in oldest
    assert ids[0] in oldest
    shown = wan("jobs", "show", ids[0]).stdout
    assert json.loads(shown)["plan"]["prompt_asked"] == EVIL
    assert not STEERING & set(shown)
    assert "no queued jobs" in wan("jobs", "list", "--status", "queued").stdout


def test_names_and_errors_of_manifests_are_shown(wan: Wan, settings: Settings) -> None:
    manifests = settings.home / "manifests"
    manifests.mkdir(parents=True)
    (manifests / "styles.toml").write_text('"x\\u001b[31m" = "{prompt}\\u001b]0;t\\u0007, [bold]"\n')
    (manifests / "evil\x1b[31m.toml").write_text('schema = 1\nname = "a\\u001b[2J"\n')
    styles, models = wan("models", "--styles"), wan("models")
    for run in (styles, models):
        assert not STEERING & set(run.stdout + run.stderr)
    assert r"x\x1b[31m: {prompt}\x1b]0;t\x07, [bold]" in styles.stdout
    assert r"evil\x1b[31m.toml" in models.stderr


def test_captions_notes_and_reasons_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    echo(EVIL, fg="red", err=True)
    echo("two\nlines")
    follow.say(f"note: num_frames {EVIL}")
    said = capsys.readouterr()
    assert said.out == "two\nlines\n"
    assert r"A\x1b]0;OWNED\x07\x1b[2J\x9b31m\u202e\r" in said.err
    assert f"note: --frames {SEEN}" in said.err
    assert not set("\x07\x9b\u202e") & set(said.err)


def test_log_lines_cannot_be_forged(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    log_to_stderr("INFO")
    logging.getLogger("x").warning("prompt %s\n2026-01-01 ERROR wan_mcp: forged", EVIL)
    monkeypatch.undo()
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.split(" ", 2)[2].startswith("WARNING x: prompt A\\x1b]0;OWNED\\x07")
    assert rest
    assert all(line.startswith("    ") for line in rest)


def test_a_job_without_a_terminal_is_not_silent_for_long(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = Progress(stage=Stage.DENOISE, step=1, steps=4, fraction=0.2, detail=EVIL)
    plan = Planner(settings, Catalog.of(settings.home)).plan(ImageRequest(prompt="x"))
    values: dict[str, Any] = {"id": "j", "state": JobState.RUNNING, "plan": plan, "progress": progress}
    view = JobView(Job.model_construct(**values), None, 60.0)
    lines = follow._Lines()
    monkeypatch.setattr(follow, "LINE_EVERY_S", float("inf"))
    anyio.run(lines, view)
    assert not capsys.readouterr().err
    monkeypatch.setattr(follow, "LINE_EVERY_S", 0.0)
    anyio.run(lines, view)
    assert f"20% Denoising step 1/4 ({SEEN}), about 60 s left" in capsys.readouterr().err
