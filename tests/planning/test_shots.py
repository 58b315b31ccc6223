"""Shots in a request: planned with seeds and a length, or refused before anything is queued."""

from pathlib import Path
from typing import Any

import pytest

from wan_mcp.catalog.catalog import Catalog
from wan_mcp.errors import BadRequest
from wan_mcp.planning.planner import Planner
from wan_mcp.schema.enums import Task
from wan_mcp.schema.plans import InputImage, VideoPlan
from wan_mcp.schema.requests import VideoRequest
from wan_mcp.settings import Settings

PICTURE = InputImage(sha256="0" * 64, file="x", width=128, height=128, source="x")


@pytest.fixture
def plan(tmp_path: Path) -> Any:
    """`plan(…)`: the plan of a video of wan-mini."""
    planner = Planner(Settings(home=tmp_path), Catalog.of(tmp_path))

    def planned(**asked: Any) -> VideoPlan:
        request = VideoRequest.of({"prompt": "a star", **asked})
        made = planner.plan(request, *(PICTURE if asked.get(name) else None for name in ("image", "last_image")))
        assert isinstance(made, VideoPlan)
        return made

    return planned


def test_each_shot_has_a_seed_and_the_length_of_the_whole_is_said(plan: Any) -> None:
    made = plan(shots=["it spins", {"prompt": " it falls "}], seed=7, num_frames=9, style="noir")
    assert [(shot.prompt_asked, shot.seed) for shot in made.shots] == [("it spins", 8), (" it falls ", 9)]
    assert made.shots[0].prompt != "it spins", "the style is applied to every shot"
    assert (made.total_frames, made.duration_s, made.runs) == (25, 3.125, 3)
    assert "3 shots of 9 frames make 25 frames (3.125 s)" in made.notes
    first, *later = made.in_shots()
    assert (first.task, first.seed, first.shots) == (Task.TEXT_TO_VIDEO, 7, ())
    assert [(shot.task, shot.seed, shot.image, shot.prompt) for shot in later] == [
        (Task.IMAGE_TO_VIDEO, shot.seed, None, shot.prompt) for shot in made.shots
    ]


def test_a_plan_without_shots_is_stored_as_before(plan: Any) -> None:
    made = plan()
    assert "shots" not in made.model_dump(mode="json")
    assert (made.runs, made.total_frames) == (1, made.num_frames)
    assert "shots" not in VideoRequest(prompt="x").model_dump(mode="json")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"shots": ["x"] * 8}, "a video has at most 8 shots"),
        ({"shots": ["x"], "count": 2}, "omit count, which is 2"),
        ({"shots": ["x", "  "]}, "the prompt of shot 3 is empty"),
        ({"shots": ["x" * 100_000]}, "the prompt of shot 2 is 100000 characters long"),
        ({"shots": [{"prompt": "x", "seconds": 2}]}, "seconds"),
        ({"shots": "x"}, "shots"),
        ({"shots": ["x"], "model": "wan2.2-t2v-a14b"}, "does not do image-to-video; models that do: "),
        (
            {"shots": ["x"], "image": "a", "last_image": "b", "model": "wan2.2-i2v-a14b"},
            "shots and last_image exclude each other",
        ),
        ({"shots": ["x"], "seed": 2**31 - 1}, "seed"),
    ],
)
def test_shots_that_cannot_be_made_are_refused(plan: Any, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        plan(**asked)
