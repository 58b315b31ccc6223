"""Pictures sent on their own: by clients with the token, and by people with a link that is good for one picture."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest

from tests.fixtures.mcp_server import png
from tests.support.http_fronts import Site, site
from wan_mcp.jobs import uploads as jobs_uploads
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio
TOKEN = "a-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
FAR = {"host": "0.0.0.0"}


@asynccontextmanager
async def far(settings: Settings) -> AsyncIterator[Site]:
    """A server with a token for clients on other machines."""
    async with site(settings.model_copy(update={"http_token": TOKEN}), "0.0.0.0", **BEARER) as running:
        yield running


async def caption(running: Site, image: str, **more: Any) -> Any:
    async with running.client() as client:
        return await client.call_tool("caption_image", {"image": image, "wait_s": 0, **more})


def words_of(result: Any) -> str:
    return " ".join(block.text for block in result.content if block.type == "text")


@pytest.mark.parametrize("as_form", [False, True])
async def test_a_client_elsewhere_sends_a_picture_and_uses_it(settings: Settings, as_form: bool) -> None:
    async with far(settings) as running:
        body: dict[str, Any] = {"files": {"file": ("a.png", png(64, 48))}} if as_form else {"content": png(64, 48)}
        sent = (await running.web.post("/media/inputs", **body)).raise_for_status().json()
        assert (sent["width"], sent["height"], sent["notes"]) == (64, 48, [])
        result = await caption(running, sent["image"])
        assert not result.is_error, words_of(result)
        assert sent["image"] not in str(result.structured_content)  # others read results, and must not learn it
        video = await running.web.post("/v1/videos", json={"prompt": "a", "input_reference": sent["image"]})
        assert video.status_code == 200, video.text


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        ({"content": b"no picture at all"}, 400, "not a readable image"),
        ({"content": b""}, 400, "no picture in the request"),
        ({"content": bytes(2_000_000)}, 413, "too large"),
        ({"files": {"file": ("a", bytes(2_000_000))}}, 413, "too large"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "form cannot be read"),
        ({"content": png(32, 32), "params": {"frame": "third"}}, 400, "frame"),
        ({"content": png(32, 32), "params": {"frame": "last"}}, 400, "not a video"),
    ],
)
async def test_what_is_no_picture_is_refused_in_words(
    settings: Settings, body: dict[str, Any], status: int, why: str
) -> None:
    async with far(settings.model_copy(update={"image_max_mb": 1})) as running:
        refused = await running.web.post("/media/inputs", **body)
        assert (refused.status_code, why in refused.json()["error"]) == (status, True), refused.text


async def test_uploads_need_the_token(settings: Settings) -> None:
    async with far(settings) as running, httpx2.AsyncClient(base_url=running.url) as stranger:
        for path in ("/media/inputs", "/media/upload-links"):
            assert (await stranger.post(path, content=png(8, 8))).status_code == 401
        assert (await stranger.get("/upload/" + "x" * 32)).status_code == 404


async def test_a_path_of_the_users_machine_is_answered_with_a_link_that_a_person_can_use(settings: Settings) -> None:
    async with far(settings) as running:
        refused = words_of(await caption(running, "/home/me/cat.png"))
        assert "not on the server's machine" in refused
        [link] = re.findall(r"http://\S+/upload/[\w-]+", refused)
        [address] = re.findall(r"wan://uploads/[0-9a-f]{32}", refused)
        assert "not been sent yet" in words_of(await caption(running, address))
        async with httpx2.AsyncClient() as person:  # without the token
            page = await person.get(link)
            assert page.status_code == 200
            assert "default-src 'none'" in page.headers["content-security-policy"]
            assert "script" not in page.text
            assert TOKEN not in page.text
            wrong = await person.post(link, files={"picture": ("a.txt", b"words")})
            assert (wrong.status_code, "role=alert" in wrong.text) == (400, True)
            sent = await person.post(link, files={"picture": ("cat.png", png(64, 48))})
            assert (sent.status_code, "64x48" in sent.text) == (200, True), sent.text
            for used in (await person.get(link), await person.post(link, content=png(8, 8))):
                assert (used.status_code, "has ended" in used.text) == (404, True)
        result = await caption(running, address)
        assert not result.is_error, words_of(result)
        assert "an upload is an image" in words_of(await caption(running, address, frame="last"))


async def test_a_link_that_is_asked_for_is_one_for_one_picture(settings: Settings) -> None:
    async with far(settings) as running:
        made = (await running.web.post("/media/upload-links")).raise_for_status().json()
        statuses = []

        async def send(number: int) -> None:
            statuses.append((await running.web.post(made["link"], content=png(16 + number, 16))).status_code)

        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(send, number)
        assert sorted(statuses) == [200, 404, 404, 404]
        assert not (await caption(running, made["image"])).is_error


async def test_links_end_and_are_limited(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_uploads, "OPEN_LINKS", 2)
    async with far(settings) as running:
        links = [(await running.web.post("/media/upload-links")).json()["link"] for _ in range(3)]
        assert [(await running.web.get(link)).status_code for link in links] == [404, 200, 200]
        for _ in range(jobs_uploads.TRIES):
            assert (await running.web.post(links[1], content=b"words")).status_code == 400
        assert (await running.web.post(links[1], content=png(8, 8))).status_code == 404
        monkeypatch.setattr(jobs_uploads, "LINK_S", -1.0)
        old = (await running.web.post("/media/upload-links")).json()
        assert (await running.web.get(old["link"])).status_code == 404
        assert "no upload" in words_of(await caption(running, old["image"]))


@pytest.mark.parametrize(
    "address", ["wan://uploads/" + "0" * 32, "wan://uploads/../x", "WAN://UPLOADS/1", "wan://uploads/"]
)
async def test_addresses_that_nobody_was_given_lead_nowhere(settings: Settings, address: str) -> None:
    async with far(settings) as running:
        assert "no upload" in words_of(await caption(running, address))


async def test_a_foreign_page_cannot_send_a_picture(settings: Settings) -> None:
    async with site(settings) as running:
        for path in ("/media/inputs", "/media/upload-links", "/upload/x"):
            refused = await running.web.post(path, content=png(8, 8), headers={"Origin": "https://evil.example"})
            assert refused.status_code == 403
