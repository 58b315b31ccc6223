"""What was made is used again: sent back, changed, found, kept and deleted, through a client."""

import base64
import re
from typing import Any

import anyio
import pytest

from tests.fixtures.mcp_server import Connect, Pace, Runner, png
from tests.support.patience import PATIENCE_S
from tests.support.videos import encode, greys, write_video
from wan_mcp.media.store import MediaName, MediaStore
from wan_mcp.schema.plans import VideoPlan
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio
PICTURE = f"data:image/png;base64,{base64.b64encode(png(64, 48)).decode()}"
CALL = re.compile(r"(\w+)\(job_id='([0-9a-z]{20})', seed='new'\)")


async def test_each_request_is_sent_back_to_the_tool_that_reported_it(
    shared_settings: Settings, connect: Connect
) -> None:
    calls = (
        ("generate_video", {"prompt": " a star ", "steps": 2, "preset": "draft", "style": "noir", "image": PICTURE}),
        ("generate_image", {"prompt": "a star", "steps": 2, "image": PICTURE, "strength": 0.5, "count": 2}),
        ("caption_image", {"image": PICTURE}),
    )
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            for tool, arguments in calls:
                first = await runner.call(tool, **arguments)
                again = await runner.call(tool, **first.job["request"])
                assert not again.result.is_error, again.text
                assert again.job["request"] == first.job["request"]
                assert again.job["caption"] == first.job["caption"]
                found = await runner.call("get_job", job_id=first.job["job_id"])
                assert found.job["request"] == first.job["request"]


async def test_a_result_names_the_call_that_varies_it_and_that_call_works(
    shared_settings: Settings, connect: Connect
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            for tool in ("generate_video", "generate_image"):
                first = await runner.call(tool, prompt="a red star", steps=2, seed=7)
                [(verb, job_id)] = CALL.findall(first.text)
                varied = await runner.call(verb, job_id=job_id, seed="new")
                same, new = dict(first.job["request"]), dict(varied.job["request"])
                assert same.pop("seed") == 7
                assert new.pop("seed") != 7
                assert new == same
                assert (varied.job["status"], varied.job["parent"]) == ("succeeded", first.job["job_id"])


async def test_a_job_is_made_again_with_changes_and_other_parameters_stay(
    shared_settings: Settings, connect: Connect
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            first = await runner.call("generate_video", prompt="a red star", image=PICTURE, steps=2, seed=7)
            longer = await runner.call("remix", job_id=first.job["job_id"], duration_s=1.125, prompt="a blue star")
            nothing = await runner.call("remix", job_id=first.job["job_id"])
            wrong = await runner.call("remix", job_id=first.job["job_id"], strength=0.5)
            nobody = await runner.call("remix", job_id="nobody", seed="new")
            twice = [
                await runner.call("remix", job_id=first.job["job_id"], seed="new", request_id="again", wait_s=0)
                for _ in range(2)
            ]
    changed = {"prompt": "a blue star", "num_frames": 9}
    assert longer.job["request"] == first.job["request"] | changed
    assert nothing.result.is_error
    assert "seed='new'" in nothing.text
    assert wrong.result.is_error
    assert "no parameter 'strength'" in wrong.text
    assert "no job 'nobody'" in nobody.text
    assert twice[0].job["job_id"] == twice[1].job["job_id"]


async def test_a_cancelled_job_runs_again_by_the_call_that_its_answer_names(
    settings: Settings, connect: Connect, pace: Pace
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings) as runner:
            job_id = await runner.start(steps=2)
            cancelled = await runner.call("cancel_job", job_id=job_id)
            assert f"remix(job_id='{job_id}')" in cancelled.text
            pace.allow(100)
            again = await runner.call("remix", job_id=job_id)
    assert again.job["status"] == "succeeded"
    assert again.job["request"] == cancelled.job["request"]


async def made(runner: Runner, tool: str = "generate_image", **arguments: Any) -> str:
    job_id: str = (await runner.call(tool, **{"prompt": "a star", "steps": 2, **arguments})).job["job_id"]
    return job_id


async def test_old_jobs_are_found_by_words_kind_model_and_state_page_by_page(
    settings: Settings, connect: Connect
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings) as runner:

            async def found(**arguments: Any) -> list[str]:
                answer = await runner.call("list_jobs", **arguments)
                assert not answer.result.is_error, answer.text
                return [job["job_id"] for job in answer.job["jobs"]]

            fox = await made(runner, prompt="a red Fox in the snow", seed=41)
            video = await made(runner, "generate_video", prompt="a fox runs")
            caption = (await runner.call("caption_image", image=PICTURE)).job["job_id"]
            assert await found(query="FOX") == [video, fox]
            assert await found(query="fox", kind="image") == await found(query="snow fox") == [fox]
            assert await found(kind="Caption") == await found(model="wan-mini-caption") == [caption]
            assert await found(query="picture of 64x48") == [caption]
            assert await found(status="failed") == await found(query="100% wool") == []
            page = await runner.call("list_jobs", limit=2)
            assert page.job["before"] == video
            assert f"before='{video}'" in page.text
            assert await found(limit=2, before=video) == [fox]
            text = (await runner.call("list_jobs", query="fox")).text
            refused = await runner.call("list_jobs", kind="poem")
    assert "seed 41" in text
    assert refused.result.is_error


async def test_a_kept_job_stays_and_another_is_deleted_with_its_file(settings: Settings, connect: Connect) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings) as runner:
            kept, other = await made(runner), await made(runner)
            answer = await runner.call("keep_job", job_id=kept)
            assert answer.job["kept"]
            assert answer.text.startswith(f"Job {kept} is kept.")
            file = anyio.Path((await runner.call("get_job", job_id=other)).job["artifacts"][0]["path"])
            assert await file.exists()
            deleted = await runner.call("delete_job", job_id=other)
            assert not deleted.result.is_error, deleted.text
            assert deleted.job["message"] == deleted.text
            assert f"Job {other} and its files are deleted" in deleted.text
            assert not await file.exists()
            refused = await runner.call("delete_job", job_id=kept)
            assert refused.result.is_error
            assert "keep_job with kept=false" in refused.text
            await runner.call("keep_job", job_id=kept, kept=False)
            assert not (await runner.call("delete_job", job_id=kept)).result.is_error
            assert "no job" in (await runner.call("get_job", job_id=kept)).text
            assert "No matching jobs." in (await runner.call("list_jobs")).text


async def test_a_running_job_is_not_deleted_and_the_answer_says_how(
    settings: Settings, connect: Connect, pace: Pace
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings) as runner:
            job_id = await runner.start(steps=2)
            refused = await runner.call("delete_job", job_id=job_id)
            assert refused.result.is_error
            assert "cancel_job" in refused.text
            await runner.call("cancel_job", job_id=job_id)
            assert not (await runner.call("delete_job", job_id=job_id)).result.is_error
            pace.allow(100)


async def test_a_frame_of_a_video_starts_the_next_and_the_result_says_which(
    shared_settings: Settings, connect: Connect
) -> None:
    clip = encode(shared_settings.image_dirs[0] / "clip.mp4", greys())
    uri = f"data:video/mp4;base64,{base64.b64encode(clip.read_bytes()).decode()}"
    calls: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("generate_video", {"image": str(clip)}, "image: frame 6 (the last) of the video is used"),
        ("generate_video", {"image": uri, "frame": 2}, "image: frame 2 of the video is used"),
        ("generate_image", {"image": str(clip)}, "image: frame 0 (the first) of the video is used"),
        ("generate_image", {"image": str(clip), "frame": " Last"}, "image: frame 6 (the last) of the video is used"),
        ("caption_image", {"image": str(clip), "frame": "-2"}, "image: frame 5 of the video is used"),
    )
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            for tool, arguments, note in calls:
                prompt: dict[str, Any] = {} if tool == "caption_image" else {"prompt": "it goes on", "steps": 2}
                first = await runner.call(tool, **prompt, **arguments)
                assert note in first.job["notes"], first.text
                request = first.job["request"]
                number = None if arguments["image"] == uri else note.split()[2]
                assert request.get("frame") == number
                again = await runner.call(tool, **request)
                assert again.job["request"] == request
                plans = [(await runner.service.view(each.job["job_id"])).job.plan for each in (first, again)]
                assert plans[0].image is not None and plans[1].image is not None
                assert plans[0].image.sha256 == plans[1].image.sha256


async def test_a_remix_may_name_another_frame_or_another_video(shared_settings: Settings, connect: Connect) -> None:
    folder = shared_settings.image_dirs[0]
    clip, other = encode(folder / "one.mp4", greys()), encode(folder / "other.webm", greys(3))
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            first = await runner.call("generate_video", prompt="on", image=str(clip), frame="3", steps=2)
            job_id = first.job["job_id"]
            changes: tuple[tuple[dict[str, Any], str], ...] = (
                ({"seed": "new"}, "3"),
                ({"frame": "first"}, "0"),
                ({"image": str(other)}, "2"),
                ({"image": str(other), "frame": 1}, "1"),
                ({"preset": "draft"}, "3"),
            )
            for change, frame in changes:
                made = await runner.call("remix", job_id=job_id, **change)
                assert made.job["request"]["frame"] == frame, made.text
            clip.unlink()  # the frame was kept
            kept = await runner.call("remix", job_id=job_id, seed="new")
            assert kept.job["status"] == "succeeded", kept.text


async def test_shots_are_one_job_one_file_and_one_request(shared_settings: Settings, connect: Connect) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            shots = [{"prompt": "it spins"}, {"prompt": "it falls"}]
            made = await runner.call("generate_video", prompt="a star", shots=shots, num_frames=9, steps=2, seed=7)
            assert made.job["status"] == "succeeded", made.text
            [file] = made.job["artifacts"]
            job = (await runner.service.view(made.job["job_id"])).job
            assert (job.artifacts[0].frames, file["uri"]) == (25, job.artifacts[0].uri)
            assert "25 frames at 8 fps (3.125 s)" in made.text
            request = made.job["request"]
            assert (request["shots"], request["num_frames"]) == (shots, 9)
            again = await runner.call("generate_video", **request)
            assert again.job["request"] == request
            fewer = await runner.call("remix", job_id=job.id, shots=["it explodes"])
            assert fewer.job["request"] == request | {"shots": [{"prompt": "it explodes"}]}
            kept = await runner.call("remix", job_id=job.id, preset="draft")
            assert kept.job["request"]["shots"] == shots


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"frame": 1}, "frame needs image, a video"),
        ({"image": PICTURE, "frame": "last"}, "the image is not a video"),
        ({"image": "CLIP", "frame": 7}, "it has 7 frames: 0 to 6, or from the end -7 to -1"),
        ({"image": "CLIP", "frame": "middle"}, "must be first, last, or a whole number from 0"),
        ({"image": "CLIP", "frame": True}, "must be first, last, or a whole number from 0"),
        ({"image": "CLIP", "frame": 1.5}, "must be first, last, or a whole number from 0"),
        ({"image": "CLIP", "frame": "1e3"}, "must be first, last, or a whole number from 0"),
        ({"last_image_frame": "last"}, "last_image_frame needs last_image, a video"),
    ],
)
async def test_a_frame_that_cannot_be_meant_is_refused_and_costs_no_job(
    shared_settings: Settings, connect: Connect, given: dict[str, Any], words: str
) -> None:
    if given.get("image") == "CLIP":
        given = {**given, "image": str(encode(shared_settings.image_dirs[0] / "clip.mp4", greys()))}
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            refused = await runner.call("generate_video", prompt="on", **given)
    assert refused.result.is_error
    assert words in refused.text


async def test_a_video_is_continued_by_its_job_or_its_address(shared_settings: Settings, connect: Connect) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            first = await runner.call("generate_video", prompt="a star", num_frames=9, steps=2)
            [file] = first.job["artifacts"]
            # This engine's video is none.
            write_video(MediaStore(shared_settings.home), MediaName.parse(file["uri"]), greys(7, 128, 128), 8, {}, 1)
            for name in (first.job["job_id"], file["uri"]):
                made = await runner.call(
                    "generate_video", prompt="on", extend=name, shots=["up"], num_frames=5, steps=2
                )
                assert made.job["status"] == "succeeded", made.text
                assert f"8 frames go on from the 7 frames of {file['uri']}" in made.job["notes"]
                plan = (await runner.service.view(made.job["job_id"])).job.plan
                assert isinstance(plan, VideoPlan)
                assert (plan.task, plan.total_frames, plan.duration_s) == ("image-to-video", 15, 1.875)
                request = made.job["request"]
                assert (request["extend"], "image" in request) == (file["uri"], False)
            again = await runner.call("generate_video", **request)
            assert again.job["request"] == request
            varied = await runner.call("remix", job_id=again.job["job_id"], seed="new")
            assert varied.job["request"]["extend"] == file["uri"]
            started = await runner.call("remix", job_id=again.job["job_id"], image=PICTURE)
            assert "extend" not in started.job["request"]
            refusals = (
                ({"extend": "nothing"}, "is neither a job id nor the wan:// address of a video"),
                ({"extend": "0" * 20}, "no result"),
                ({"extend": file["uri"], "image": PICTURE}, "extend and image exclude each other"),
                ({"extend": file["uri"], "count": 2}, "extend makes one video; omit count"),
                ({"extend": file["uri"], "resolution": "96x160"}, "the video has 128x128 pixels"),
            )
            for given, words in refusals:
                asked: dict[str, Any] = {"prompt": "on", **given}
                refused = await runner.call("generate_video", **asked)
                assert refused.result.is_error, refused.text
                assert words in refused.text
            write_video(MediaStore(shared_settings.home), MediaName.parse(file["uri"]), greys(7, 128, 128), 24, {}, 1)
            faster = await runner.call("generate_video", prompt="on", extend=file["uri"])
            assert "the video has 24 frames a second and 'wan-mini' makes 8" in faster.text
