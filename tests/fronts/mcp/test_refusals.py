"""A refusal names the model, what is allowed as it is listed, and the way out; names mean the same in any case."""

from typing import Any

import pytest

from tests.fixtures.mcp_server import Connect
from tests.support.no_files import no_more_files
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("generate_video", {"steps": 99}, "steps 99 is not allowed; it must be 1 to 50 for 'wan-mini'. Omit steps for"),
    (
        "generate_video",
        {"guidance_scale": 99},
        "it must be 1 to 12 for 'wan-mini'. Omit guidance_scale for its default",
    ),
    (
        "generate_video",
        {"duration_s": 99},
        "not allowed by 'wan-mini': 4k+1, 5 to 33 frames at 8 fps (0.625 to 4.125 s). Omit duration_s",
    ),
    (
        "generate_video",
        {"duration_s": 0.1},
        "Omit duration_s for the default; list_resolutions(model='NAME') has the lengths of others",
    ),
    ("generate_video", {"num_frames": 18}, "num_frames 18 is not allowed by 'wan-mini': 4k+1, 5 to 33 frames at 8 fps"),
    ("generate_image", {"model": "wan-mni"}, "no model 'wan-mni'; did you mean wan-mini?"),
    ("generate_image", {"style": "cinematik"}, "no style 'cinematik'; did you mean cinematic?"),
    ("generate_image", {"style": "vogon"}, "no style 'vogon'; available: anime, cinematic"),
    ("generate_image", {"preset": "fast"}, "model 'wan-mini' has no preset 'fast'; available: draft, standard, best"),
    ("generate_image", {"resolution": "8k"}, "no resolution '8k' in 'wan-mini'; available: square (128x128)"),
    ("generate_image", {"model": "wan-mini-caption"}, "'wan-mini-caption' does not do text-to-image; models that do: "),
]


@pytest.mark.parametrize(("tool", "given", "words"), REFUSED, ids=[f"{t}-{given}" for t, given, _ in REFUSED])
async def test_a_refusal_says_whose_limits_they_are_and_what_to_do(
    shared_settings: Settings, connect: Connect, tool: str, given: dict[str, Any], words: str
) -> None:
    async with connect(shared_settings) as runner:
        answer = await runner.call(tool, prompt="a star", **given)
    assert answer.result.is_error
    assert words in answer.text


async def test_an_unknown_model_is_answered_with_those_that_make_such_results(
    shared_settings: Settings, connect: Connect
) -> None:
    async with connect(shared_settings) as runner:
        answer = await runner.call("generate_video", prompt="a star", model="sora")
        other = await runner.call("list_resolutions", model="sora")
    assert "available: wan-mini, " in answer.text
    assert "caption" not in answer.text
    assert "wan-mini-caption" in other.text


async def test_a_default_model_that_is_unknown_names_its_setting(settings: Settings, connect: Connect) -> None:
    async with connect(settings.model_copy(update={"image_model": "gone"})) as runner:
        answer = await runner.call("generate_image", prompt="a star")
    assert "no model 'gone'" in answer.text
    assert "WAN_MCP_IMAGE_MODEL names it as the default" in answer.text


async def test_names_mean_the_same_in_capitals_and_with_blanks(shared_settings: Settings, connect: Connect) -> None:
    async with connect(shared_settings) as runner:
        answer = await runner.call(
            "generate_image", prompt="a star", model="WAN Mini", style="Pixel_Art", preset=" Draft ", steps=2
        )
        listed = await runner.call("list_resolutions", model="Wan-Mini")
    request = answer.job["request"]
    assert (request["model"], request["style"], request["preset"]) == ("wan-mini", "pixel-art", "draft")
    assert listed.job["models"][0]["name"] == "wan-mini"


@pytest.mark.parametrize("known", [False, True], ids=["first call", "later call"])
async def test_a_server_without_file_descriptors_says_so_and_blames_nothing_else(
    settings: Settings, connect: Connect, known: bool
) -> None:
    async with connect(settings) as runner:
        if known:
            await runner.call("list_jobs")
        with no_more_files():
            answers = [
                await runner.call("generate_image", prompt="a star"),
                await runner.call("list_resolutions"),
                *([] if known else [await runner.call("list_jobs")]),
            ]
        after = await runner.call("list_jobs")
    for answer in answers:
        assert answer.result.is_error
        assert "as many files and connections open as it may" in answer.text
        assert "jobs.db" not in answer.text
    assert after.job["jobs"] == []
