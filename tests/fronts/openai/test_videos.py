"""Videos over the video API, with its official client: made, followed, found, downloaded, remixed, deleted."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import openai
import pytest
from openai.types import Video

from tests.fixtures.mcp_server import Pace, png
from tests.fixtures.video_api import SORA_ENDS, Api, Serve
from tests.support.far_models import add_far_model
from tests.support.patience import PATIENCE_S
from tests.support.videos import encode, greys
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.plans import VideoPlan
from wan_mcp.schema.requests import ImageRequest, VideoRequest
from wan_mcp.service.service import JobService, serving
from wan_mcp.settings import Settings

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings(SORA_ENDS)]


async def until(api: Api, video_id: str, wanted: Callable[[Video], bool]) -> Any:
    """Poll a video until it is as wanted."""
    with anyio.fail_after(PATIENCE_S):
        while True:
            video = await api.client.videos.retrieve(video_id)
            if wanted(video):
                return video
            await anyio.sleep(0.02)


def completed(video: Video) -> bool:
    """Whether a video is completed."""
    return video.status == "completed"


def in_progress(video: Video) -> bool:
    """Whether a video is being made."""
    return video.status == "in_progress"


async def plan_of(service: JobService, video_id: str) -> VideoPlan:
    """The plan of a video."""
    plan = (await service.view(video_id.removeprefix("video_"))).job.plan
    assert isinstance(plan, VideoPlan)
    return plan


async def test_a_video_is_made_followed_and_downloaded(shared_settings: Settings, serve: Serve) -> None:
    async with serve(shared_settings) as api:
        video = await api.client.videos.create_and_poll(prompt="a red star", poll_interval_ms=20)
        assert (video.status, video.progress, video.object) == ("completed", 100, "video")
        assert (video.model, video.size, video.seconds) == ("wan-mini", "128x128", "2.125")
        assert video.prompt == "a red star"
        assert video.error is None
        assert video.created_at <= (video.completed_at or 0)
        content = await api.client.videos.download_content(video.id)
        sheet = await api.client.videos.download_content(video.id, variant="spritesheet")
    assert content.response.headers["content-type"] == "video/mp4"
    assert content.read()[4:8] == b"ftyp"
    assert sheet.read()[:2] == b"\xff\xd8"


async def test_a_video_is_one_job_of_every_front(shared_settings: Settings, serve: Serve) -> None:
    async with serve(shared_settings) as api, serving(shared_settings) as service:
        video = await api.create()
        job = (await service.view(video.id.removeprefix("video_"))).job
        assert job.client == "video API"
        other = (await service.submit(VideoRequest(prompt="a blue ring"), client="Claude")).job
        still = (await service.submit(ImageRequest(prompt="a blue ring"))).job
        listed = [each.id for each in (await api.client.videos.list(limit=5)).data]
        by_its_own_id = await api.client.videos.retrieve(other.id)
        refused = await api.refusal("GET", f"/videos/video_{still.id}")
    assert listed[:2] == [f"video_{other.id}", video.id]
    assert by_its_own_id.id == f"video_{other.id}"
    assert (refused["status"], refused["code"], refused["param"]) == (404, "not_found", "video_id")


async def test_the_list_comes_in_pages_in_both_orders(settings: Settings, pace: Pace, serve: Serve) -> None:
    async with serve(settings) as api:
        made = [(await api.create(f"star {number}")).id for number in range(5)]
        newest_first = [video.id async for video in api.client.videos.list(limit=2)]
        oldest_first = [video.id async for video in api.client.videos.list(limit=2, order="asc")]
        page = await api.client.videos.list(limit=2, after=made[3])
        last = await api.client.videos.list(limit=2, after=made[0])
        refused = await api.refusal("GET", "/videos?after=video_nope")
        bounds = [
            await api.refusal("GET", f"/videos?{query}") for query in ("limit=0", "limit=101", "limit=x", "order=up")
        ]
    assert newest_first == made[::-1]
    assert oldest_first == made
    assert ([video.id for video in page.data], page.has_more, page.last_id) == ([made[2], made[1]], True, made[1])
    assert (last.data, last.has_more) == ([], False)
    assert (refused["status"], refused["param"]) == (400, "after")
    assert [(each["status"], each["param"]) for each in bounds] == [(400, "limit")] * 3 + [(400, "order")]


async def test_the_names_of_other_servers_of_this_api_are_understood(
    settings: Settings, pace: Pace, serve: Serve
) -> None:
    async with serve(settings) as api, serving(settings) as service:
        fields: dict[str, Any] = {
            "num_inference_steps": 7,
            "guidance_scale": 2.5,
            "seed": 42,
            "negative_prompt": "blur",
            "fps": 8,
        }
        video = await api.create(num_frames=9, width=160, height=96, **fields)
        plan = await plan_of(service, video.id)
        as_json = await api.web.post("/v1/videos", json={"prompt": "x", "num_frames": 9, "size": "160x96", **fields})
        same = await plan_of(service, as_json.json()["id"])
    assert (plan.steps, plan.guidance_scale, plan.seed, plan.negative_prompt) == (7, 2.5, 42, "blur")
    assert (plan.num_frames, plan.width, plan.height) == (9, 160, 96)
    assert same == plan.model_copy(update={"prompt": "x", "prompt_asked": "x"})


@pytest.mark.parametrize("seconds", ["4", 4, 4.0, "2.1", 1])
async def test_every_length_of_the_model_is_allowed(settings: Settings, pace: Pace, serve: Serve, seconds: Any) -> None:
    async with serve(settings) as api, serving(settings) as service:
        answer = await api.web.post("/v1/videos", json={"prompt": "x", "seconds": seconds})
        video = answer.json()
        plan = await plan_of(service, video["id"])
    assert abs(plan.duration_s - float(seconds)) < 0.26
    assert float(video["seconds"]) == plan.duration_s
    fitted = plan.duration_s != float(seconds)
    assert fitted == any("became" in note for note in video["notes"])


async def test_a_picture_comes_as_a_file_a_reference_or_a_result(settings: Settings, serve: Serve) -> None:
    picture = png(96, 160)
    uri = "data:image/png;base64," + base64.b64encode(picture).decode()
    async with serve(settings) as api, serving(settings) as service:
        made = await api.client.images.generate(prompt="a star", response_format="url", size="96x160")
        assert made.data
        image: Any = made.data[0]
        ways: list[dict[str, Any]] = [
            {"input_reference": {"image_url": uri}},
            {"input_reference": uri},
            {"reference_url": uri},
            {"image_reference": {"image_url": uri}},
            {"input_reference": {"file_id": image.id}},
            {"input_reference": {"image_url": image.url}},
        ]
        ids = [(await api.web.post("/v1/videos", json={"prompt": "x", **way})).json()["id"] for way in ways]
        ids += [(await api.create(input_reference=("a.png", picture, "image/png"))).id]
        ids += [(await api.create(**ways[0])).id, (await api.create(image_reference=f'{{"image_url": "{uri}"}}')).id]
        plans = [await plan_of(service, each) for each in ids]
    assert {plan.task for plan in plans} == {"image-to-video"}
    assert {(plan.width, plan.height) for plan in plans} == {(96, 160)}
    hashes = [plan.image.sha256 for plan in plans if plan.image]
    assert len(hashes) == len(ids)
    assert len(set(hashes)) == 2  # the picture and the result
    assert hashes[4] == hashes[5]


async def test_a_video_is_a_picture_too_with_the_frame_that_is_named(
    settings: Settings, serve: Serve, tmp_path: Path
) -> None:
    data = encode(tmp_path / "clip.mp4", greys()).read_bytes()
    uri = "data:video/mp4;base64," + base64.b64encode(data).decode()
    async with serve(settings) as api, serving(settings) as service:
        ways: list[tuple[dict[str, Any], int]] = [
            ({}, 6),
            ({"frame": 2}, 2),
            ({"frame": "first"}, 0),
            ({"frame": -2}, 5),
        ]
        bodies = [{"prompt": "x", "input_reference": uri, **way} for way, _ in ways]
        ids = [(await api.web.post("/v1/videos", json=body)).json()["id"] for body in bodies]
        sent = ("clip.mp4", data, "video/mp4")
        ids += [(await api.create(input_reference=sent)).id, (await api.create(input_reference=sent, frame="2")).id]
        images = [(await plan_of(service, each)).image for each in ids]
        outside = await api.refusal("POST", "/videos", {"prompt": "x", "input_reference": uri, "frame": 7})
        without = await api.refusal("POST", "/videos", {"prompt": "x", "frame": 7})
    frames = [image.frame for image in images if image]
    assert frames == [*(index for _, index in ways), 6, 2]
    assert (outside["status"], outside["param"]) == (400, "input_reference")
    assert (without["status"], without["param"]) == (400, "frame")


async def test_a_path_is_never_read_as_a_picture(settings: Settings, serve: Serve) -> None:
    picture = settings.image_dirs[0] / "mine.png"
    picture.write_bytes(png(64, 64))
    urls = [
        str(picture),
        picture.as_uri(),
        "~/mine.png",
        "https://example.com/a.png",
        "ftp://example.com/a.png",
        "http://[",
    ]
    async with serve(settings) as api:
        refused = [await api.refusal("POST", "/videos", {"prompt": "x", "input_reference": url}) for url in urls]
        assert not (await api.client.videos.list()).data
    assert {(each["status"], each["param"]) for each in refused} == {(400, "input_reference")}


REFUSED: list[tuple[dict[str, Any], int, str | None, str]] = [
    ({}, 400, "prompt", "missing_required_parameter"),
    ({"prompt": ""}, 400, "prompt", "invalid_value"),
    ({"prompt": "  "}, 400, "prompt", "invalid_value"),
    ({"prompt": "x" * 5000}, 400, "prompt", "invalid_value"),
    ({"prompt": 3}, 400, "prompt", "invalid_type"),
    ({"prompt": "x", "model": "sora-2"}, 404, "model", "model_not_found"),
    ({"prompt": "x", "model": "wan-mini-caption"}, 400, "model", "invalid_value"),
    ({"prompt": "x", "size": "1280x720"}, 400, "size", "invalid_value"),
    ({"prompt": "x", "width": 1280, "height": 720}, 400, "width", "invalid_value"),
    ({"prompt": "x", "width": 128}, 400, "height", "invalid_value"),
    ({"prompt": "x", "size": "128x128", "width": 128, "height": 128}, 400, "width", "invalid_value"),
    ({"prompt": "x", "seconds": "12"}, 400, "seconds", "invalid_value"),
    ({"prompt": "x", "seconds": "long"}, 400, "seconds", "invalid_type"),
    ({"prompt": "x", "seconds": 0}, 400, "seconds", "invalid_value"),
    ({"prompt": "x", "num_frames": 16}, 400, "num_frames", "invalid_value"),
    ({"prompt": "x", "num_frames": "17"}, 400, "num_frames", "invalid_type"),
    ({"prompt": "x", "fps": 24}, 400, "fps", "invalid_value"),
    ({"prompt": "x", "num_inference_steps": 99}, 400, "num_inference_steps", "invalid_value"),
    ({"prompt": "x", "guidance_scale": 99}, 400, "guidance_scale", "invalid_value"),
    ({"prompt": "x", "guidance_scale_2": 2}, 400, "guidance_scale_2", "invalid_value"),
    ({"prompt": "x", "seed": -1}, 400, "seed", "invalid_value"),
    ({"prompt": "x", "seed": 2**40}, 400, "seed", "invalid_value"),
    ({"prompt": "x", "negative_prompt": "x" * 5000}, 400, "negative_prompt", "invalid_value"),
    ({"prompt": "x", "style": "no such"}, 400, "style", "invalid_value"),
    ({"prompt": "x", "preset": "fast"}, 400, "preset", "invalid_value"),
    ({"prompt": "x", "turbo": True}, 400, "turbo", "invalid_value"),
    ({"prompt": "x", "lora": [{"name": "no such"}]}, 400, "lora", "invalid_value"),
    ({"prompt": "x", "lora": [{"nome": "a"}]}, 400, "lora[0][nome]", "unknown_parameter"),
    ({"prompt": "x", "last_frame": "data:image/png;base64,AAAA"}, 400, "last_frame", "invalid_value"),
    ({"prompt": "x", "input_reference": "data:image/png;base64,AAAA"}, 400, "input_reference", "invalid_image"),
    ({"prompt": "x", "input_reference": {}}, 400, "input_reference", "invalid_value"),
    ({"prompt": "x", "input_reference": {"file_id": "file-1"}}, 400, "input_reference[file_id]", "invalid_file_id"),
    ({"prompt": "x", "flow_shift": 3}, 400, "flow_shift", "invalid_value"),
    ({"prompt": "x", "boundary_ratio": 0.9}, 400, "boundary_ratio", "invalid_value"),
    ({"prompt": "x", "extra_params": "{}"}, 400, "extra_params", "unknown_parameter"),
]


async def test_a_refusal_names_the_parameter_as_the_caller_does(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as api:
        found = [await api.refusal("POST", "/videos", body) for body, *_ in REFUSED]
        assert not (await api.client.videos.list()).data
    seen = [
        (body, each["status"], each["param"], each["code"]) for (body, *_), each in zip(REFUSED, found, strict=True)
    ]
    assert seen == REFUSED
    assert {each["type"] for each in found} == {"invalid_request_error"}


async def test_a_refusal_speaks_of_this_api_and_not_of_the_tools(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as api:
        words = [
            (await api.refusal("POST", "/videos", {"prompt": "x", **fields}))["message"]
            for fields in ({"seconds": 12}, {"num_inference_steps": 99}, {"size": "1x1"}, {"model": "no"})
        ]
    assert words[0].startswith("seconds 12 is not allowed by 'wan-mini'")
    assert "GET /v1/models/NAME" in words[0]
    assert words[1].endswith("Omit num_inference_steps for its default, 12")
    assert "128x128" in words[2]
    assert "wan-mini" in words[3]
    for word in ("duration_s", "list_resolutions", "resolution"):
        assert not any(word in each for each in words)


async def test_the_client_raises_its_own_errors(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as api:
        with pytest.raises(openai.NotFoundError, match="No model 'sora-2'") as unknown:
            await api.create(model="sora-2")
        with pytest.raises(openai.BadRequestError) as too_long:
            await api.create(seconds="12")
        with pytest.raises(openai.NotFoundError):
            await api.client.videos.retrieve("video_00000000000000000000")
        with pytest.raises(openai.NotFoundError):
            await api.client.videos.download_content("video_00000000000000000000")
        with pytest.raises(openai.BadRequestError, match="cannot be edited"):
            await api.client.videos.edit(prompt="x", video=b"mp4")
        with pytest.raises(openai.BadRequestError, match="Characters"):
            await api.client.videos.create_character(name="x", video=b"mp4")
        with pytest.raises(openai.BadRequestError, match="Characters"):
            await api.client.videos.get_character("x")
        with pytest.raises(openai.NotFoundError, match="GET /v1/files"):
            await api.client.files.list()
    assert (unknown.value.param, unknown.value.code) == ("model", "model_not_found")
    assert too_long.value.param == "seconds"


async def test_a_remix_is_the_same_video_with_another_prompt(shared_settings: Settings, serve: Serve) -> None:
    async with serve(shared_settings) as api, serving(shared_settings) as service:
        first = await api.create(seed=7, num_inference_steps=3, size="160x96", num_frames=9)
        remix = await api.client.videos.remix(first.id, prompt="a blue ring")
        shorter = await api.client.videos.remix(first.id, prompt="x", extra_body={"seconds": 1.6, "seed": 8})
        before, plan, changed = [await plan_of(service, each.id) for each in (first, remix, shorter)]
        refused = await api.refusal("POST", f"/videos/{first.id}/remix", {})
        unknown = await api.refusal("POST", "/videos/video_no/remix", {"prompt": "x"})
    assert remix.remixed_from_video_id == shorter.remixed_from_video_id == first.id
    assert plan == before.model_copy(update={"prompt": "a blue ring", "prompt_asked": "a blue ring"})
    assert (changed.num_frames, changed.seed, changed.steps) == (13, 8, 3)
    assert (refused["param"], unknown["status"]) == ("prompt", 404)


async def test_a_deleted_video_is_gone_with_its_file(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as api, serving(settings) as service:
        video = await api.create()
        await until(api, video.id, completed)
        [artifact] = (await service.view(video.id.removeprefix("video_"))).job.artifacts
        file = anyio.Path(artifact.path)
        assert await file.exists()
        deleted = await api.client.videos.delete(video.id)
        assert (deleted.id, deleted.deleted, deleted.object) == (video.id, True, "video.deleted")
        again = await api.refusal("DELETE", f"/videos/{video.id}")
        assert not await file.exists()
    assert again["status"] == 404


async def test_deleting_a_running_video_stops_it(settings: Settings, pace: Pace, serve: Serve) -> None:
    pace.allow(1)
    async with serve(settings) as api:
        running, queued = await api.create(), await api.create("another")
        await until(api, running.id, in_progress)
        waiting = await api.client.videos.retrieve(queued.id)
        unfinished = await api.refusal("GET", f"/videos/{running.id}/content")
        for video in (queued, running):
            assert (await api.client.videos.delete(video.id)).deleted
        left = await api.client.videos.list()
    assert (waiting.status, waiting.progress) == ("queued", 0)
    assert (unfinished["status"], unfinished["code"]) == (404, "not_ready")
    assert left.data == []


async def test_progress_is_a_percentage(settings: Settings, pace: Pace, serve: Serve) -> None:
    pace.allow(6)
    async with serve(settings) as api:
        video = await api.create()
        seen = await until(api, video.id, lambda video: video.progress > 0)
        assert seen.status == "in_progress"
        assert 0 < seen.progress < 100
        pace.allow(100)
        assert (await until(api, video.id, completed)).progress == 100


async def test_a_failed_and_a_cancelled_video_say_why(engine: Any, serve: Serve) -> None:
    settings = engine("fails")
    async with serve(settings) as api, serving(settings) as service:
        failed = await until(api, (await api.create()).id, lambda video: video.status == "failed")
        job = (await service.submit(VideoRequest(prompt="x"))).job
        with anyio.fail_after(PATIENCE_S):
            await service.cancel(job.id)
            ended = await service.wait(job.id, PATIENCE_S)
        assert ended.job.state in (JobState.CANCELLED, JobState.FAILED)
        shown = await api.client.videos.retrieve(job.id)
        refused = await api.refusal("GET", f"/videos/{failed.id}/content")
    assert failed.error.code == "out_of_memory"
    assert "smaller" in failed.error.message
    assert shown.status == "failed"
    assert shown.error is not None
    assert (refused["status"], refused["code"]) == (404, "failed")


async def test_large_files_are_streamed_in_ranges_and_not_sent_twice(shared_settings: Settings, serve: Serve) -> None:
    async with serve(shared_settings) as api:
        video = await api.client.videos.create_and_poll(prompt="a red star", poll_interval_ms=20)
        address = f"/v1/videos/{video.id}/content"
        whole = await api.web.get(address)
        part = await api.web.get(address, headers={"Range": "bytes=100-199"})
        beyond = await api.web.get(address, headers={"Range": "bytes=99999999-"})
        again = await api.web.get(address, headers={"If-None-Match": whole.headers["etag"]})
        head = await api.web.head(address)
        chunks = []
        async with api.client.videos.with_streaming_response.download_content(video.id) as stream:
            chunks = [chunk async for chunk in stream.iter_bytes(1000)]
        bad = [await api.refusal("GET", f"{address[3:]}?{query}") for query in ("variant=gif", "index=1", "index=x")]
    assert (part.status_code, part.content) == (206, whole.content[100:200])
    assert beyond.status_code == 416
    assert (again.status_code, again.content) == (304, b"")
    assert (head.status_code, int(head.headers["content-length"])) == (200, len(whole.content))
    assert b"".join(chunks) == whole.content
    assert [(each["status"], each["param"]) for each in bad] == [(400, "variant"), (400, "index"), (400, "index")]


async def test_a_full_queue_is_refused_with_a_time_to_come_back(settings: Settings, pace: Pace, serve: Serve) -> None:
    async with serve(settings.model_copy(update={"queue_limit": 1})) as api:
        await until(api, (await api.create()).id, in_progress)
        await api.create("next")
        with pytest.raises(openai.RateLimitError) as full:
            await api.create("one too many")
    assert full.value.code == "queue_full"
    assert int(full.value.response.headers["retry-after"]) > 0


async def test_a_large_download_is_refused_once_and_in_this_apis_words(settings: Settings, serve: Serve) -> None:
    add_far_model(settings.home, 34.2)
    async with serve(settings) as api:
        refused = await api.refusal("POST", "/videos", {"prompt": "x", "model": "far"})
    assert (refused["status"], refused["code"]) == (400, "download_needs_consent")
    assert "To download it, run 'wan-mcp pull far'" in refused["message"]
    assert "download=true" not in refused["message"]
