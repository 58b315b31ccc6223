"""`wan-mcp remix` and `wan-mcp again`."""

import json
from pathlib import Path
from typing import Any

from tests.fixtures.command_line import Wan
from tests.fixtures.mcp_server import png
from wan_mcp.settings import Settings


def made(wan: Wan, *words: object) -> dict[str, Any]:
    run = wan(*words, "--json")
    assert run.returncode == 0, run.stderr
    job: dict[str, Any] = json.loads(run.stdout)
    return job


def test_a_job_is_made_again_with_another_seed_or_any_other_change(wan: Wan, settings: Settings) -> None:
    start = settings.image_dirs[0] / "start.png"
    start.write_bytes(png(64, 64))
    first = made(wan, "generate", "video", "a red star", "--image", start, "--steps", 2, "--seed", 7)
    start.unlink()  # the job has its own copy
    other = made(wan, "remix", "latest", "--seed", "new")
    assert (other["parent"], other["client"]) == (first["id"], "command line")
    assert other["plan"]["seed"] != 7
    assert other["plan"]["image"] == first["plan"]["image"]
    shorter = made(wan, "remix", first["id"][:8], "--prompt", "a blue star", "--frames", 9)
    plan = shorter["plan"]
    assert (plan["prompt"], plan["num_frames"], plan["seed"], plan["steps"]) == ("a blue star", 9, 7, 2)
    nothing = wan("remix", first["id"])
    assert nothing.returncode == 2
    assert "--seed new" in nothing.stderr
    assert wan("remix", "nobody", "--seed", "new").returncode == 2


def test_a_file_without_a_receipt_is_refused_in_a_sentence(wan: Wan, tmp_path: Path) -> None:
    foreign, text = tmp_path / "foreign.png", tmp_path / "text.mp4"
    foreign.write_bytes(png(8, 8))
    text.write_text("no video at all")
    for file, said in ((foreign, "no receipt"), (text, "no receipt"), (tmp_path / "none.png", "there is no file")):
        run = wan("again", file)
        assert run.returncode == 2
        assert said in run.stderr
        assert "Traceback" not in run.stderr
