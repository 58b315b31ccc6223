"""What clients elsewhere see of jobs that others started on this machine, and what they can reach of their files."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest
import uvicorn
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from tests.fixtures.mcp_server import Pace, png
from tests.support.http_fronts import Site, site
from tests.support.patience import PATIENCE_S
from wan_mcp.fronts.http.app import build_app, listen, settings_for
from wan_mcp.fronts.mcp.server import build_server
from wan_mcp.service.service import serving
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio
TOKEN = "a long secret"
ELSEWHERE = {"Via": "1.1 proxy"}
PAGE = {"X-Wan-Mcp": "page"}


@asynccontextmanager
async def client_of(settings: Settings, host: str, **headers: str) -> AsyncIterator[Client]:
    """A client of a server that believes to listen on `host`."""
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    headers = {"Authorization": f"Bearer {TOKEN}", **headers}
    async with serving(settings_for(host, settings)) as service, anyio.create_task_group() as tasks:
        config = uvicorn.Config(
            build_app(service, host), log_config=None, ws="none", proxy_headers=False, timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        tasks.start_soon(server.serve, [listener])
        async with (
            httpx2.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE_S) as web,
            Client(streamable_http_client(f"{url}/mcp", http_client=web)) as client,
        ):
            yield client
        server.should_exit = True


def words(answer: Any) -> str:
    """Everything in an answer that a model or a program may read."""
    return str(answer.model_dump_json())


@pytest.mark.parametrize(
    ("host", "headers"),
    [("0.0.0.0", {}), ("127.0.0.1", {"X-Forwarded-For": "10.0.0.9"}), ("0.0.0.0", {"Host": "localhost"})],
)
async def test_the_pictures_of_local_clients_are_neither_shown_nor_reachable(
    settings: Settings, host: str, headers: dict[str, str]
) -> None:
    [pictures] = settings.image_dirs
    private = pictures / "alice passport.png"
    private.write_bytes(png(64, 64))
    guarded = settings.model_copy(update={"http_token": TOKEN})
    with anyio.fail_after(PATIENCE_S):
        async with serving(settings) as service, Client(build_server(service)) as near:
            own = await near.call_tool("caption_image", {"image": str(private)})
            job_id = own.structured_content["job_id"]
            [kept] = (settings.home / "media" / "inputs").iterdir()
            assert str(private) in words(own)
        async with client_of(guarded, host, **headers) as far:
            made = await far.call_tool("generate_image", {"prompt": "a star", "steps": 1})
            seen = [
                await far.call_tool("get_job", {"job_id": job_id}),
                await far.call_tool("list_jobs", {}),
                await far.call_tool("list_resolutions", {}),
                await far.call_tool("get_job", {"job_id": "nothing"}),
                made,
            ]
            read = [await far.read_resource(f"wan://jobs/{job_id}"), await far.read_resource("wan://gallery")]
            tried = [
                await far.call_tool("caption_image", {"image": image})
                for image in (str(private), str(kept), f"file://{kept}", f"media/inputs/{kept.name}", kept.stem)
            ]
            address = await far.call_tool("caption_image", {"image": f"wan://inputs/{kept.name}"})
            result = made.structured_content["artifacts"][0]
            again = await far.call_tool("caption_image", {"image": result["uri"]})
    for answer in (*seen, *read, *tried, address):
        text = words(answer)
        for hidden in ("passport", str(settings.home), str(pictures), kept.stem):
            assert hidden not in text, json.dumps(json.loads(text), indent=1)
    assert all(answer.is_error for answer in (*tried, address))
    assert result["path"] is None
    assert result["url"].startswith("http://")
    assert not again.is_error


async def test_a_client_on_this_machine_with_the_token_reads_paths(settings: Settings) -> None:
    guarded = settings.model_copy(update={"http_token": TOKEN})
    with anyio.fail_after(PATIENCE_S):
        async with client_of(guarded, "127.0.0.1") as near:
            made = await near.call_tool("generate_image", {"prompt": "a star", "steps": 1})
    assert made.structured_content is not None
    assert made.structured_content["artifacts"][0]["path"].startswith(str(settings.home))


class _Doors:
    """The ways by which a client elsewhere asks for something that uses an image: each says whether it was refused."""

    def __init__(self, far: Site, mcp: Client) -> None:
        self._web, self._mcp = far.web, mcp

    async def by_page(self, image: str, path: str = "/api/jobs", **more: Any) -> str | None:
        answer = await self._web.post(path, json={"kind": "video", "prompt": "x", "image": image, **more}, headers=PAGE)
        return answer.json()["error"] if answer.status_code == 400 else None

    async def by_estimate(self, image: str) -> str | None:
        return await self.by_page(image, "/api/estimate")

    async def by_video_api(self, image: str, path: str = "/v1/videos", name: str = "input_reference") -> str | None:
        answer = await self._web.post(path, json={"prompt": "x", name: image})
        return answer.json()["error"]["message"] if answer.status_code == 400 else None

    async def by_last_frame(self, image: str) -> str | None:
        return await self.by_video_api(image, name="last_frame")

    async def by_image_edit(self, image: str) -> str | None:
        return await self.by_video_api(image, "/v1/images/edits", "image")

    async def by_tool(self, image: str, tool: str = "generate_video", **more: str) -> str | None:
        answer = await self._mcp.call_tool(tool, {"prompt": "x", "image": image, "wait_s": 0, **more})
        return words(answer) if answer.is_error else None

    async def by_dry_run(self, image: str) -> str | None:
        answer = await self._mcp.call_tool("generate_video", {"prompt": "x", "image": image, "dry_run": True})
        return words(answer) if answer.is_error else None

    async def by_ingesting_it(self, image: str) -> str | None:
        answer = await self._web.post("/api/inputs", params={"image": image}, headers=PAGE)
        return answer.json()["error"] if answer.status_code == 400 else None

    async def by_caption(self, image: str) -> str | None:
        answer = await self._mcp.call_tool("caption_image", {"image": image, "wait_s": 0})
        return words(answer) if answer.is_error else None


DOORS = [name for name in vars(_Doors) if name.startswith("by_")]


def data_uri(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


async def test_no_door_lets_a_client_elsewhere_use_an_image_of_another(settings: Settings, pace: Pace) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with (
            site(settings) as near,
            site(settings, **ELSEWHERE) as far,
            far.client() as mcp,
            near.client() as own,
        ):
            answer = await own.call_tool(
                "generate_video", {"prompt": "a star", "image": data_uri(png(32, 24)), "wait_s": 0}
            )
            job_id = answer.structured_content["job_id"]
            [kept] = (settings.home / "media" / "inputs").iterdir()
            sha = kept.stem
            names = [
                f"wan://inputs/{sha}.png", f" WAN://inputs/{sha}.png", sha, f"{sha}.{'0' * 32}", str(kept),
                f"file://{kept}", f"media/inputs/{sha}.png", f"/api/inputs/{sha}", f"{far.url}/api/inputs/{sha}",
            ]  # fmt: skip
            doors = _Doors(far, mcp)
            opened = [(door, name) for door in DOORS for name in names if await getattr(doors, door)(name) is None]
            assert opened == []
            remixes = [
                await mcp.call_tool("remix", {"job_id": job_id, "prompt": "y", "wait_s": 0}),
                await mcp.call_tool("remix", {"job_id": job_id, "image": f"wan://inputs/{sha}.png", "wait_s": 0}),
            ]
            assert all(each.is_error for each in remixes)
            refused = await far.web.post(f"/v1/videos/video_{job_id}/remix", json={"prompt": "y"})
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input_reference")
            assert (await own.call_tool("list_jobs", {})).structured_content["jobs"][1:] == []
            own_image = data_uri(png(16, 16))
            assert not (await mcp.call_tool("remix", {"job_id": job_id, "image": own_image, "wait_s": 0})).is_error
            remixed = await far.web.post(
                f"/v1/videos/video_{job_id}/remix", json={"prompt": "y", "input_reference": own_image}
            )
            assert remixed.status_code == 200, remixed.text


async def test_no_door_shows_a_client_elsewhere_an_image_of_another(settings: Settings, pace: Pace) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with site(settings) as near, site(settings, **ELSEWHERE) as far, far.client() as mcp:
            taken = (await near.web.post("/api/inputs", content=png(32, 24), headers=PAGE)).json()
            job = {"kind": "video", "prompt": "a star", "image": taken["id"]}
            job_id = (await near.web.post("/api/jobs", json=job, headers=PAGE)).json()["id"]
            sha = taken["id"]
            assert (await near.web.get(taken["url"])).content[:4] == b"\x89PNG"
            for path in (f"/api/inputs/{sha}", f"/api/inputs/{sha}.{'0' * 32}", f"/media/inputs/{sha}.png"):
                assert (await far.web.get(path)).status_code == 404, path
            async with far.web.stream("GET", "/api/events") as events:
                lines = events.aiter_lines()
                snapshot = [await anext(lines) for _ in range(3)]
            pages = [(await far.web.get(path)).text for path in ("/api/jobs", f"/api/jobs/{job_id}", "/v1/videos")]
            answers = [
                await mcp.call_tool("get_job", {"job_id": job_id, "wait_s": 0}),
                await mcp.call_tool("list_jobs", {}),
            ]
            resource = await mcp.read_resource(f"wan://jobs/{job_id}")
            for text in (*snapshot, *pages, *map(words, answers), words(resource)):
                assert sha not in text
            detail = (await far.web.get(f"/api/jobs/{job_id}")).json()
            assert (detail["withheld"], detail["images"]) == (["image"], [])
            assert "image" not in detail["request"]
            with pytest.raises(MCPError):
                await mcp.read_resource(f"wan://inputs/{sha}.png")


async def test_a_page_elsewhere_uses_and_sees_its_own_pictures(settings: Settings, pace: Pace) -> None:
    with anyio.fail_after(PATIENCE_S):
        guarded = settings.model_copy(update={"http_token": TOKEN})
        signed_in = {"Authorization": f"Bearer {TOKEN}"}
        async with site(guarded, "0.0.0.0", **signed_in) as far:
            taken = (await far.web.post("/api/inputs", content=png(32, 24), headers=PAGE)).json()
            job = {"kind": "video", "prompt": "a star", "image": taken["id"]}
            made = await far.web.post("/api/jobs", json=job, headers=PAGE)
            assert made.status_code == 202, made.text
            assert made.json()["task"] == "image-to-video"
            assert (await far.web.get(taken["url"])).content[:4] == b"\x89PNG"
        async with site(guarded, "0.0.0.0", **signed_in) as restarted:
            estimate = await restarted.web.post("/api/estimate", json=job, headers=PAGE)
            assert (estimate.status_code, estimate.json()["task"]) == (200, "image-to-video")
        other = guarded.model_copy(update={"http_token": TOKEN + " of next year"})
        async with site(other, "0.0.0.0", Authorization=f"Bearer {other.http_token}") as changed:
            assert (await changed.web.post("/api/estimate", json=job, headers=PAGE)).status_code == 400
