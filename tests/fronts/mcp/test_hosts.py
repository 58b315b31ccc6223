"""What a model does next, whichever part of a result its host shows: the text, the structure, or both.

Claude Code and Codex show the structure only, most frameworks the text only.
"""

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from tests.fixtures.mcp_server import Answer, Connect, Pace, denoising, png
from tests.support.patience import PATIENCE_S
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

HOSTS: dict[str, Callable[[Answer], str]] = {
    "text": lambda answer: answer.text,
    "structure": lambda answer: json.dumps(answer.job, ensure_ascii=False),
    "both": lambda answer: answer.text + json.dumps(answer.job, ensure_ascii=False),
}
CALL = re.compile(r"(get_job|cancel_job)\(job_id='([0-9a-z]+)'")
RETRY = re.compile(r"To try again: (remix)\(job_id='([0-9a-z]+)'\)")
PATH = re.compile(r"File: (\S+\.(?:mp4|png)) ")
CAPTION = re.compile(r"Caption: (.+?)(?:\\n|\n)")


def next_steps(read: str) -> set[tuple[str, ...]]:
    """What a model would do after what it has read."""
    calls = {("call", tool, job_id) for tool, job_id in CALL.findall(read)}
    retries = {("retry", tool, job_id) for tool, job_id in RETRY.findall(read)}
    files = {("give", path) for path in PATH.findall(read)}
    return calls | retries | files | {("tell", caption) for caption in CAPTION.findall(read)}


def the_same_for_all(answer: Answer) -> set[tuple[str, ...]]:
    """The next steps, after a check that all hosts lead to the same ones."""
    steps = {host: next_steps(shown(answer)) for host, shown in HOSTS.items()}
    assert steps["text"] == steps["structure"] == steps["both"] != set(), answer.text
    assert answer.job["message"] == answer.text
    return steps["text"]


async def test_a_job_that_waits_runs_or_ends_leads_everybody_to_the_same_step(
    settings: Settings, connect: Connect, pace: Pace
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings) as runner:
            queued = await runner.call("generate_video", prompt="a star", steps=4, wait_s=0)
            job_id = queued.job["job_id"]
            follow = {("call", "get_job", job_id), ("call", "cancel_job", job_id)}
            assert the_same_for_all(queued) == follow
            await runner.until(job_id, denoising)
            assert the_same_for_all(await runner.call("get_job", job_id=job_id, wait_s=0)) == follow
            other = (await runner.call("generate_image", prompt="a star", wait_s=0)).job["job_id"]
            cancelled = await runner.call("cancel_job", job_id=other)
            assert the_same_for_all(cancelled) == {("retry", "remix", other)}
            assert the_same_for_all(await runner.call("list_jobs")) == {("call", "get_job", job_id)}
            pace.allow(100)
            done = await runner.call("get_job", job_id=job_id)
            listed = await runner.call("list_jobs")
    [artifact] = done.job["artifacts"]
    assert the_same_for_all(done) == {("give", artifact["path"])}
    assert the_same_for_all(listed) == {("call", "get_job", other)}


async def test_a_failed_job_is_an_answer_with_its_reason_and_its_way_out(
    engine: Callable[..., Settings], connect: Connect
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(engine("fails")) as runner:
            failed = await runner.call("generate_video", prompt="a star", steps=4)
            again = await runner.call("get_job", job_id=failed.job["job_id"])
    for answer in (failed, again):
        assert not answer.result.is_error
        assert the_same_for_all(answer) == {("retry", "remix", failed.job["job_id"])}
        assert answer.job["error"]["code"] == "out_of_memory"
        assert "choose a smaller one" in answer.text


async def test_a_caption_is_told_by_everybody(shared_settings: Settings, connect: Connect) -> None:
    picture = shared_settings.image_dirs[0] / "hosts.png"
    picture.write_bytes(png(64, 64))
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            answer = await runner.call("caption_image", image=str(picture))
    assert the_same_for_all(answer) == {("tell", "a picture of 64x64")}


async def test_a_captioner_does_not_denoise(shared_settings: Settings, connect: Connect) -> None:
    picture = shared_settings.image_dirs[0] / "stage.png"
    picture.write_bytes(png(64, 64))
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            answer = await runner.call("caption_image", image=str(picture))
    assert "enoising" not in answer.result.model_dump_json()
    assert not any("enoising" in message for _, _, message in answer.progress)


async def test_every_video_of_a_count_stands_with_its_own_sheet_and_poster(
    settings: Settings, connect: Connect
) -> None:
    real = settings.model_copy(update={"engine_command": "", "compile": False})
    with anyio.fail_after(PATIENCE_S):
        async with connect(real) as runner:
            answer = await runner.call("generate_video", prompt="a red star", steps=1, num_frames=5, count=3, seed=4)
            artifacts = answer.job["artifacts"]
            seen = set()
            for artifact in artifacts:
                for picture in ("sheet", "poster"):
                    [content] = (await runner.client.read_resource(artifact[f"{picture}_uri"])).contents
                    data = await anyio.Path(artifact[picture]).read_bytes()
                    assert (content.mime_type, data[:2]) == ("image/jpeg", b"\xff\xd8")
                    seen.add(data)
                assert artifact["sheet"] in answer.text
                assert artifact["url"] is None
    assert [artifact["seed"] for artifact in artifacts] == [4, 5, 6]
    assert len(seen) == 6  # no two are the same picture
    assert len(answer.pictures) == 3


async def test_a_request_is_short_and_can_be_sent_back_as_it_is(shared_settings: Settings, connect: Connect) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            picture = f"data:image/png;base64,{base64.b64encode(png(64, 64)).decode()}"
            first = await runner.call("generate_video", prompt=" a star ", image=picture, preset="draft", style="noir")
            again = await runner.call("generate_video", **first.job["request"])
            image = await runner.call("generate_image", prompt="a star", steps=1)
            described = await runner.call("caption_image", image=image.job["artifacts"][0]["uri"])
            redescribed = await runner.call("caption_image", **described.job["request"])
    request = first.job["request"]
    assert request.keys() == {
        *("prompt", "model", "preset", "image", "resolution", "num_frames", "steps", "guidance_scale", "turbo"),
        *("seed", "style"),
    }
    assert (request["prompt"], Path(request["image"]).suffix) == (" a star ", ".png")
    assert again.job["request"] == request
    assert again.job["artifacts"][0]["seed"] == first.job["artifacts"][0]["seed"]
    assert redescribed.job["request"] == described.job["request"]
