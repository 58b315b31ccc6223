"""Images by URL through the job service and every front over it: fetched at the door, kept by their content."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from mcp import Client
from PIL import Image

from tests.fixtures.mcp_server import ERAS, png
from tests.support.image_web import ImageWeb, answer, image_web
from wan_mcp.errors import BadImage, BadRequest
from wan_mcp.fronts.http.app import build_app
from wan_mcp.fronts.mcp.server import build_server
from wan_mcp.schema.requests import CaptionRequest, ImageRequest, VideoRequest
from wan_mcp.service.service import JobService, serving
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio
FIRST_TO_LAST = "wan2.2-i2v-a14b"
PAGE = {"X-Wan-Mcp": "page"}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageWeb]:
    with image_web(tmp_path_factory.mktemp("web")) as served:
        served.places["internal.test"] = [["10.0.0.1"]]
        served.put("/a.png", answer(png(64, 48)))
        served.put("/b.png", answer(png(48, 64)))
        served.put("/text.png", answer(b"<svg/>"))
        yield served


def reaching(service: JobService, web: ImageWeb) -> JobService:
    service.admission.urls.reach = web.reach()
    return service


@pytest.fixture
def open_settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"image_urls": "any"})


async def test_an_image_by_url_is_a_copy_here_before_its_job_is_queued(open_settings: Settings, web: ImageWeb) -> None:
    async with serving(open_settings) as service:
        reaching(service, web)
        request = VideoRequest(prompt="a red circle", image=web.url("/a.png"))
        plan = (await service.submit(request, "once")).job.plan
        with Image.open(open_settings.home / plan.images["image"].file) as kept:
            assert kept.size == (64, 48)
        assert plan.images["image"].source == "data URI"  # the URL may hold a secret, and what is there may change
        count = len(web.requests)
        assert (await service.submit(request, "once")).job.plan == plan
        assert len(web.requests) == count  # the repetition is answered with its job


async def test_an_estimate_fetches_and_keeps_nothing(open_settings: Settings, web: ImageWeb) -> None:
    async with serving(open_settings) as service:
        found = await reaching(service, web).estimate(CaptionRequest(image=web.url("/a.png")))
        assert (found.plan.image.width, found.plan.image.height) == (64, 48)  # type: ignore[union-attr]
        both = VideoRequest(prompt="a", model=FIRST_TO_LAST, image=web.url("/a.png"), last_image=web.url("/b.png"))
        sizes = {name: (each.width, each.height) for name, each in (await service.estimate(both)).plan.images.items()}
        assert sizes == {"image": (64, 48), "last_image": (48, 64)}
        assert not service.media.inputs.exists()


async def test_what_is_fetched_goes_through_the_same_decoder(open_settings: Settings, web: ImageWeb) -> None:
    async with serving(open_settings) as service:
        with pytest.raises(BadImage, match="not a readable image"):
            await reaching(service, web).submit(ImageRequest(prompt="a", image=web.url("/text.png")))


async def test_a_client_elsewhere_may_name_urls_if_the_owner_allows_them(
    settings: Settings, open_settings: Settings, web: ImageWeb
) -> None:
    request = CaptionRequest(image=web.url("/a.png"))
    async with serving(open_settings) as service:
        await reaching(service, web).submit(request, elsewhere=True)
        with pytest.raises(BadImage, match="no address on the public internet"):
            await service.submit(CaptionRequest(image=web.url("/a.png", "internal.test")), elsewhere=True)
    async with serving(settings) as service:
        with pytest.raises(BadRequest, match="is a URL"):
            await reaching(service, web).submit(request, elsewhere=True)
        with pytest.raises(BadImage, match="WAN_MCP_IMAGE_URLS"):
            await service.submit(request)


async def test_a_remix_needs_no_network(open_settings: Settings, web: ImageWeb) -> None:
    async with serving(open_settings) as service, Client(build_server(service), mode=ERAS[1]) as client:
        reaching(service, web)
        asked: dict[str, Any] = {"image": web.url("/a.png"), "wait_s": 0}
        made = (await client.call_tool("caption_image", asked)).structured_content
        assert made is not None
        assert made["request"]["image"].startswith("wan://inputs/")
        count = len(web.requests)
        again = await client.call_tool("remix", {"job_id": made["job_id"], "seed": "new", "wait_s": 0})
        assert not again.is_error
        assert len(web.requests) == count


@pytest.mark.parametrize(("urls", "is_named"), [("any", True), ("off", False)])
async def test_tools_say_whether_images_may_be_urls(settings: Settings, urls: str, is_named: bool) -> None:
    async with serving(settings.model_copy(update={"image_urls": urls})) as service:
        async with Client(build_server(service), mode=ERAS[1]) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        for name in ("generate_video", "generate_image", "caption_image"):
            assert ("https URL" in str(tools[name].input_schema)) is is_named
            about = tools[name].annotations
            assert about is not None
            assert about.open_world_hint is is_named


async def test_every_http_door_fetches_and_refuses_alike(open_settings: Settings, web: ImageWeb) -> None:
    async with serving(open_settings) as service:
        app = build_app(reaching(service, web), "127.0.0.1")
        transport = httpx2.ASGITransport(app, client=("127.0.0.1", 1))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=PAGE) as client:
            for url, status in ((web.url("/a.png"), 200), (web.url("/a.png", "internal.test"), 400)):
                shown = await client.post("/api/inputs", params={"image": url})
                assert shown.status_code == (201 if status == 200 else 400), shown.text
                job = await client.post("/api/jobs", json={"kind": "caption", "image": url})
                assert job.status_code == (202 if status == 200 else 400), job.text
                video = await client.post("/v1/videos", json={"prompt": "a", "input_reference": url})
                assert video.status_code == status, video.text
            assert "public internet" in video.json()["error"]["message"]
            assert video.json()["error"]["param"] == "input_reference"


async def test_no_door_fetches_where_urls_are_off(settings: Settings, web: ImageWeb) -> None:
    async with serving(settings) as service:
        app = build_app(reaching(service, web), "127.0.0.1")
        transport = httpx2.ASGITransport(app, client=("127.0.0.1", 1))
        count, url = len(web.requests), web.url("/a.png")
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=PAGE) as client:
            answers = [
                await client.post("/api/inputs", params={"image": url}),
                await client.post("/api/jobs", json={"kind": "caption", "image": url}),
                await client.post("/api/estimate", json={"kind": "caption", "image": url}),
                await client.post("/v1/videos", json={"prompt": "a", "input_reference": url}),
                await client.post("/v1/images/edits", json={"prompt": "a", "image": url}),
            ]
        assert [each.status_code for each in answers] == [400] * 5, [each.text for each in answers]
        assert len(web.requests) == count
