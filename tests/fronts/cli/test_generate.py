"""`wan-mcp generate` and `wan-mcp caption`: what comes back, where it lies, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.fixtures.command_line import Wan
from tests.support.videos import encode, greys
from wan_mcp.settings import Settings

Choose = Callable[..., Settings]


def jobs(wan: Wan) -> list[dict[str, object]]:
    listed: list[dict[str, object]] = json.loads(wan("jobs", "list", "--json").stdout)
    return listed


def test_a_video_lies_where_it_was_wanted_and_its_seed_is_told(wan: Wan, tmp_path: Path) -> None:
    run = wan("generate", "video", "a red star", "--seed", 5, "-o", "star.mp4")
    assert run.returncode == 0, run.stderr
    assert run.stdout == "star.mp4\n"
    assert "seed 5" in run.stderr
    [job] = jobs(wan)
    assert (tmp_path / "star.mp4").read_bytes() == Path(job["artifacts"][0]["path"]).read_bytes()  # type: ignore[index]


def test_without_a_name_the_path_in_the_home_folder_is_told(wan: Wan, settings: Settings) -> None:
    path = Path(wan("generate", "image", "a red star").stdout.strip())
    assert path.is_file()
    assert path.is_relative_to(settings.home)


def test_several_results_get_numbered_names(wan: Wan, tmp_path: Path) -> None:
    run = wan("generate", "image", "a red star", "--count", 2, "-o", "star.png")
    assert run.stdout.split() == ["star-1.png", "star-2.png"]
    assert (tmp_path / "star-1.png").read_bytes() != (tmp_path / "star-2.png").read_bytes()


def test_the_ending_of_the_output_decides_its_kind_and_others_cost_no_job(wan: Wan, tmp_path: Path) -> None:
    run = wan("generate", "image", "a red star", "-o", "STAR.JPG")
    assert run.stdout == "STAR.JPG\n"
    assert (tmp_path / "STAR.JPG").read_bytes().startswith(b"\xff\xd8\xff")
    for kind, name in (("image", "star.gif"), ("video", "star.mov"), ("video", "star"), ("image", ".")):
        refused = wan("generate", kind, "a red star", "-o", name, "--force")
        assert refused.returncode == 2
        assert len(refused.stderr.splitlines()) == 1
        assert "needs" in refused.stderr or "is a folder" in refused.stderr
    assert len(jobs(wan)) == 1


def test_an_engine_that_cannot_start_costs_one_sentence_and_no_lines_of_a_log(wan: Wan, settings: Settings) -> None:
    run = wan("generate", "image", "a red star", settings=settings.model_copy(update={"engine_command": "false"}))
    assert run.returncode == 1
    *waiting, sentence = run.stderr.splitlines()
    assert all(line.startswith("0% Queued") for line in waiting)  # a slow machine reports while it waits
    assert "The engine cannot start" in sentence
    assert ".." not in sentence
    assert "ERROR" not in sentence


def test_every_parameter_reaches_the_plan(wan: Wan) -> None:
    given = {"--negative": "blur", "--resolution": "landscape", "--steps": 3, "--guidance": 2.5, "--seed": 9}
    options = [part for pair in (given | {"--style": "noir", "--frames": 9}).items() for part in pair]
    run = wan("generate", "video", "a red star", *options, "--json")
    plan = json.loads(run.stdout)["plan"]
    assert (plan["negative_prompt"], plan["width"], plan["height"]) == ("blur", 160, 96)
    assert (plan["steps"], plan["guidance_scale"], plan["seed"], plan["num_frames"]) == (3, 2.5, 9, 9)
    assert plan["prompt"] != plan["prompt_asked"] == "a red star"


def test_a_preset_reaches_the_plan_and_turbo_is_refused_where_there_is_none(wan: Wan) -> None:
    plan = json.loads(wan("generate", "image", "a red star", "--preset", "draft", "--json").stdout)["plan"]
    assert (plan["preset"], plan["steps"]) == ("draft", 6)
    refused = wan("generate", "video", "a red star", "--turbo")
    assert refused.returncode == 2
    assert "'wan-mini' does not support turbo" in refused.stderr


def test_json_is_all_there_is_on_stdout_and_the_file_is_delivered_too(wan: Wan, tmp_path: Path) -> None:
    run = wan("generate", "image", "a red star", "-o", "star.png", "--json")
    assert json.loads(run.stdout)["state"] == "succeeded"
    assert (tmp_path / "star.png").is_file()


def test_a_file_that_exists_is_kept_unless_force_is_given(wan: Wan, tmp_path: Path) -> None:
    precious = tmp_path / "star.png"
    precious.write_text("precious")
    refused = wan("generate", "image", "a red star", "-o", "star.png")
    assert refused.returncode == 2
    assert "star.png already exists" in refused.stderr
    assert "--force" in refused.stderr
    assert precious.read_text() == "precious"
    assert jobs(wan) == [], "what could not be delivered was made"
    assert wan("generate", "image", "a red star", "-o", "star.png", "--force").returncode == 0
    assert precious.read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_is_not_there_is_told_before_anything_runs(wan: Wan) -> None:
    refused = wan("generate", "image", "a red star", "-o", "nowhere/star.png")
    assert refused.returncode == 2
    assert "nowhere" in refused.stderr
    assert jobs(wan) == []


def test_detach_tells_the_id_and_leaves_the_job_to_itself(wan: Wan) -> None:
    run = wan("generate", "video", "a red star", "--detach")
    job_id = run.stdout.strip()
    assert json.loads(wan("jobs", "show", job_id).stdout)["id"] == job_id


def test_a_failed_job_is_one_sentence_and_exit_code_1(wan: Wan, engine: Choose) -> None:
    run = wan("generate", "video", "a red star", settings=engine("fails"))
    assert run.returncode == 1
    assert run.stdout == ""
    assert "not enough memory" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("video", "x", "--frames", "6"), "nearest"),
        (("video", " "), "prompt is empty"),
        (("video", "x", "--model", "sora"), "no model 'sora'"),
        (("video", "x", "--steps", "many"), "--steps"),
        (("image", "x", "--seed", "2147483647", "--count", "2"), "it must be 0 to 2147483646"),
        (("image", "x", "--image", "missing.png"), "no file 'missing.png'"),
        (("sculpture", "x"), "sculpture"),
    ],
)
def test_a_refused_request_is_one_sentence_and_exit_code_2(wan: Wan, arguments: tuple[str, ...], reason: str) -> None:
    run = wan("generate", *arguments)
    assert run.returncode == 2
    assert reason in run.stderr
    assert "Traceback" not in run.stderr


def test_a_person_may_caption_any_picture_that_they_can_read(wan: Wan, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "mine.png")
    run = wan("caption", "mine.png")
    assert run.stdout == "a picture of 40x30\n"


def test_a_frame_of_a_video_is_an_option(wan: Wan, tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.mov", greys(3))
    run = wan("generate", "video", "on", "--image", clip, "--json")
    assert "image: frame 2 (the last) of the video is used" in json.loads(run.stdout)["plan"]["notes"], run.stderr
    run = wan("caption", clip, "--frame", "-3", "--json")
    assert "image: frame 0 of the video is used" in json.loads(run.stdout)["plan"]["notes"], run.stderr
    run = wan("caption", clip, "--frame", "3")
    assert (run.returncode, run.stdout) == (2, "")
    assert "it has 3 frames: 0 to 2" in run.stderr


def test_shots_are_options_that_are_repeated(wan: Wan) -> None:
    run = wan("generate", "video", "a star", "--shot", "it spins", "--shot", "it falls", "--frames", 5, "--json")
    job = json.loads(run.stdout)
    assert [shot["prompt_asked"] for shot in job["plan"]["shots"]] == ["it spins", "it falls"], run.stderr
    assert job["artifacts"][0]["frames"] == 13
    refused = wan("generate", "video", "a star", "--shot", "it spins", "--count", "2")
    assert (refused.returncode, "omit count" in refused.stderr or "omit --count" in refused.stderr) == (2, True)


def test_what_was_fitted_is_told(wan: Wan) -> None:
    run = wan("generate", "video", "a red star", "--duration", "1.9")
    assert "note: duration 1.9 s became" in run.stderr
