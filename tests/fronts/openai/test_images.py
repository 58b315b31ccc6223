"""Images over the video API, with its official client: calls that wait for their job."""

import base64
import io
from typing import Any

import anyio
import openai
import pytest
from PIL import Image

from tests.fixtures.mcp_server import Pace, png
from tests.fixtures.video_api import Serve
from tests.support.marks import TRAINED
from tests.support.patience import PATIENCE_S
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.plans import ImagePlan
from wan_mcp.service.service import serving
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio


async def test_images_come_as_base64_with_what_made_them(shared_settings: Settings, serve: Serve) -> None:
    async with serve(shared_settings) as api, serving(shared_settings) as service:
        made: Any = await api.client.images.generate(prompt="a star", n=2, size="160x96", extra_body={"seed": 5})
        job = (await service.view(made.job_id)).job
        files = [await anyio.Path(artifact.path).read_bytes() for artifact in job.artifacts]
    assert (made.size, made.output_format, made.model) == ("160x96", "png", "wan-mini")
    assert [base64.b64decode(each.b64_json) for each in made.data] == files
    assert [each.seed for each in made.data] == [5, 6]
    assert all(each.url is None for each in made.data)
    assert job.client == "video API"


async def test_images_come_as_urls_of_this_server(shared_settings: Settings, serve: Serve) -> None:
    async with serve(shared_settings) as api:
        made = await api.client.images.generate(prompt="a star", response_format="url")
        assert made.data
        [image] = made.data
        assert image.url is not None
        assert image.url.startswith(api.url)
        answer = await api.web.get(image.url)
    assert image.b64_json is None
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).size == (128, 128)


@pytest.mark.parametrize("form", ["jpeg", "webp"])
async def test_images_come_in_the_format_that_is_asked_for(shared_settings: Settings, serve: Serve, form: Any) -> None:
    async with serve(shared_settings) as api:
        made: Any = await api.client.images.generate(prompt="a star", output_format=form, output_compression=60)
    image = Image.open(io.BytesIO(base64.b64decode(made.data[0].b64_json)))
    assert (image.format, image.size) == (form.upper(), (128, 128))
    assert TRAINED.encode() in image.info["xmp"]
    assert made.output_format == form


async def test_an_image_is_edited(shared_settings: Settings, serve: Serve) -> None:
    picture = png(96, 160)
    async with serve(shared_settings) as api, serving(shared_settings) as service:
        ways: list[Any] = [picture, [picture], ("a.png", picture, "image/png"), io.BytesIO(picture)]
        made: list[Any] = [
            await api.client.images.edit(prompt="a ring", image=image, extra_body={"strength": 0.5}) for image in ways
        ]
        uri = "data:image/png;base64," + base64.b64encode(picture).decode()
        body = {"prompt": "a ring", "images": [{"image_url": uri}], "strength": 0.5}
        made_of_json = (await api.web.post("/v1/images/edits", json=body)).json()
        plans = [(await service.view(each.job_id)).job.plan for each in made]
        plans.append((await service.view(made_of_json["job_id"])).job.plan)
    for plan in plans:
        assert isinstance(plan, ImagePlan)
        assert (plan.task, plan.strength, plan.height) == ("image-to-image", 0.5, 160)
    assert len({plan.image.sha256 for plan in plans if isinstance(plan, ImagePlan) and plan.image}) == 1


async def test_quality_chooses_a_preset(shared_settings: Settings, serve: Serve) -> None:
    async with serve(shared_settings) as api, serving(shared_settings) as service:
        made: list[Any] = [
            await api.client.images.generate(prompt="a star", quality=quality) for quality in ("low", "high", "auto")
        ]
        presets = [getattr((await service.view(each.job_id)).job.plan, "preset", "") for each in made]
    assert presets == ["draft", "best", None]


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("generations", {}, "prompt", "missing_required_parameter"),
    ("generations", {"prompt": "x", "n": 99}, "n", "invalid_value"),
    ("generations", {"prompt": "x", "n": 0}, "n", "invalid_value"),
    ("generations", {"prompt": "x", "size": "7x7"}, "size", "invalid_value"),
    ("generations", {"prompt": "x", "output_format": "gif"}, "output_format", "invalid_value"),
    ("generations", {"prompt": "x", "output_compression": 50}, "output_compression", "invalid_value"),
    ("generations", {"prompt": "x", "response_format": "url", "output_format": "webp"}, "output_format",
     "invalid_value"),
    ("generations", {"prompt": "x", "background": "transparent"}, "background", "invalid_value"),
    ("generations", {"prompt": "x", "stream": True}, "stream", "invalid_value"),
    ("generations", {"prompt": "x", "partial_images": 2}, "partial_images", "invalid_value"),
    ("generations", {"prompt": "x", "quality": "max"}, "quality", "invalid_value"),
    ("generations", {"prompt": "x", "quality": "low", "preset": "best"}, "quality", "invalid_value"),
    ("generations", {"prompt": "x", "seconds": 4}, "seconds", "unknown_parameter"),
    ("generations", {"prompt": "x", "model": "wan-mini-caption"}, "model", "invalid_value"),
    ("edits", {"prompt": "x", "image": "data:image/png;base64,AAAA"}, "image", "invalid_image"),
    ("edits", {"prompt": "x", "image": "/etc/passwd"}, "image", "invalid_image_url"),
    ("edits", {"prompt": "x", "mask": "data:,"}, "mask", "unknown_parameter"),
    ("edits", {"prompt": "x", "image": "data:,", "strength": 2}, "strength", "invalid_value"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # variations, by the client
async def test_a_refusal_names_the_parameter(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as api, serving(settings) as service:
        found = [await api.refusal("POST", f"/images/{where}", body) for where, body, *_ in REFUSED]
        none = await api.refusal("POST", "/images/edits", {"prompt": "x"})
        with pytest.raises(openai.BadRequestError, match="prompt here"):
            await api.client.images.create_variation(image=png(8, 8))
        assert not await service.newest()
    seen = [(*case[:2], each["param"], each["code"]) for case, each in zip(REFUSED, found, strict=True)]
    assert seen == REFUSED
    assert {each["status"] for each in found} == {400}
    assert (none["status"], none["message"]) == (400, "Invalid request: give one image, as image or in images.")


async def test_who_hangs_up_loses_nothing(settings: Settings, pace: Pace, serve: Serve) -> None:
    async with serve(settings) as api, serving(settings) as service:
        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as tasks:

                async def ask() -> None:
                    await api.client.images.generate(prompt="a star")

                tasks.start_soon(ask)
                while True:
                    if jobs := await service.newest():
                        break
                    await anyio.sleep(0.02)
                tasks.cancel_scope.cancel()
            pace.allow(100)
            job = (await service.wait(jobs[0].id, PATIENCE_S)).job
    assert job.state is JobState.SUCCEEDED


async def test_a_failed_job_is_an_error_that_the_client_does_not_repeat(engine: Any, serve: Serve) -> None:
    settings = engine("raises")
    async with serve(settings) as api, serving(settings) as service:
        with pytest.raises(openai.InternalServerError) as failed:
            await api.client.with_options(max_retries=2).images.generate(prompt="a star")
        assert len(await service.newest()) == 1
    assert failed.value.response.headers["x-should-retry"] == "false"
    assert failed.value.type == "server_error"
