"""A client that only does what the texts of results tell it to gets through a whole session."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.fixtures.mcp_server import ERAS, Answer, Connect, Pace, Runner
from tests.support.hints import hints_in
from tests.support.patience import PATIENCE_S
from tests.support.videos import encode, greys
from wan_mcp.fronts.mcp.server import INSTRUCTIONS
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio


class Follower:
    """A model without ideas: it calls what a text names, and fills in only what the text leaves open."""

    def __init__(self, runner: Runner) -> None:
        self.runner, self.said = runner, runner.client.instructions or INSTRUCTIONS
        self.calls: list[tuple[str, dict[str, Any]]] = []

    async def follow(self, tool: str, said: str = "", **thought_of: Any) -> Answer:
        """Make the first call of that tool in the last text, or in the one that is given."""
        text = said or self.said
        hint = next((hint for hint in hints_in(text) if hint.tool == tool), None)
        assert hint is not None, f"nothing leads to {tool}: {text}"
        assert set(hint.open) <= thought_of.keys(), (hint, thought_of)
        arguments = {**hint.arguments, **thought_of}
        self.calls.append((tool, arguments))
        answer = await self.runner.call(tool, **arguments)
        assert not answer.result.is_error, answer.text
        self.said = answer.text
        return answer


@pytest.mark.parametrize("mode", ERAS)
async def test_ten_steps_from_an_idea_to_a_deleted_job_are_all_named_by_the_texts(
    settings: Settings, engine: Callable[..., Settings], connect: Connect, pace: Pace, mode: str
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(engine("works"), mode) as runner:
            model = Follower(runner)
            pace.allow(10_000)
            await model.follow("list_resolutions")
            image = await model.follow("generate_image", prompt="a red star", steps=1)
            variation = await model.follow("remix")
            video = await model.follow("generate_video", prompt="the star turns", steps=1)
            encode(Path(video.job["artifacts"][0]["path"]), greys())  # the fake engine writes only the head of a video
            caption = await model.follow("caption_image")
            pace.allow(0)
            again = await model.follow("remix", said=video.text, wait_s=0)
            stopped = await model.follow("cancel_job")
            if "get_job" in {hint.tool for hint in hints_in(stopped.text)}:
                stopped = await model.follow("get_job")
            old = await model.follow("list_jobs", query="red star")
            shown = await model.follow("get_job")
            gone = await model.follow("delete_job", said=old.text)
    assert image.job["request"]["seed"] != variation.job["request"]["seed"]
    assert video.job["request"]["image"] == variation.job["artifacts"][0]["uri"]
    assert caption.job["caption"]
    assert (again.job["parent"], again.job["request"]["seed"] == video.job["request"]["seed"]) == (
        video.job["job_id"],
        False,
    )
    assert (stopped.job["job_id"], stopped.job["status"]) == (again.job["job_id"], "cancelled")
    assert {job["job_id"] for job in old.job["jobs"]} == {image.job["job_id"], variation.job["job_id"]}
    assert shown.job["job_id"] in {job["job_id"] for job in old.job["jobs"]}
    assert gone.job["job_id"] == image.job["job_id"]
    assert len(model.calls) >= 10


async def test_every_call_that_a_text_names_is_one_that_the_tools_take(
    settings: Settings, engine: Callable[..., Settings], connect: Connect, pace: Pace
) -> None:
    """Every kind of answer: each job state and kind, lists, and refusals."""
    texts: list[str] = []
    with anyio.fail_after(PATIENCE_S):
        async with connect(engine("works")) as runner:
            schemas = {tool.name: tool.input_schema for tool in (await runner.client.list_tools()).tools}

            async def heard(tool: str, **arguments: Any) -> Answer:
                answer = await runner.call(tool, **arguments)
                texts.append(answer.text)
                return answer

            texts.append(INSTRUCTIONS)
            waiting = (await heard("generate_video", prompt="a", steps=2, wait_s=0)).job["job_id"]
            queued = (await heard("generate_image", prompt="b", steps=1, wait_s=0)).job["job_id"]
            await heard("get_job", job_id=waiting, wait_s=0, preview=True)
            await heard("delete_job", job_id=waiting)
            await heard("list_jobs")
            await heard("cancel_job", job_id=queued)
            await heard("cancel_job", job_id=queued)
            pace.allow(10_000)
            video = await heard("get_job", job_id=waiting, wait_s=PATIENCE_S)
            image = await heard("generate_image", prompt="a star", steps=1, count=2)
            await heard("caption_image", image=image.job["artifacts"][0]["uri"])
            await heard("keep_job", job_id=waiting)
            await heard("delete_job", job_id=waiting)
            await heard("keep_job", job_id=waiting, kept=False)
            await heard("list_jobs", limit=1)
            await heard("list_jobs", query="no such words")
            await heard("get_job", job_id="x" * 20)
            await heard("list_resolutions")
            await heard("list_resolutions", model="wan-mini")
            await heard("list_resolutions", task="image-to-text")
            await heard("generate_video", prompt="a", resolution="8k")
            await heard("generate_video", prompt="a", model="no-such")
            await heard("caption_image", image="wan://images/none.png")
            await heard("remix", job_id=video.job["job_id"], strength=0.5)
            await heard("delete_job", job_id=video.job["job_id"])
            ids = {job["job_id"] for job in (await runner.call("list_jobs", limit=100)).job["jobs"]}
            files = {uri for job in (await runner.call("list_jobs")).job["jobs"] for uri in job["uris"]}
    named = [hint for text in texts for hint in hints_in(text)]
    led_to = {hint.tool for hint in named}
    assert led_to >= {"get_job", "cancel_job", "remix", "list_jobs", "delete_job"}
    assert led_to >= {"generate_video", "generate_image", "caption_image", "list_resolutions"}
    for hint in named:
        properties = schemas[hint.tool]["properties"]
        assert {*hint.arguments, *hint.open} <= properties.keys(), hint
        assert set(schemas[hint.tool].get("required", [])) <= {*hint.arguments, *hint.open}, hint
        job_id, source = hint.arguments.get("job_id"), hint.arguments.get("image")
        assert job_id in {None, *ids, video.job["job_id"]}, hint
        assert source in {None, *files, video.job["artifacts"][0]["uri"]}, hint
