"""What clients elsewhere see of jobs that others started on this machine, and what they can reach of their files."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest
import uvicorn
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.fixtures.mcp_server import png
from tests.support.patience import PATIENCE_S
from wan_mcp.fronts.http.app import build_app, listen, settings_for
from wan_mcp.fronts.mcp.server import build_server
from wan_mcp.service.service import serving
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio
TOKEN = "a long secret"


@asynccontextmanager
async def client_of(settings: Settings, host: str, **headers: str) -> AsyncIterator[Client]:
    """A client of a server that believes to listen on `host`."""
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    headers = {"Authorization": f"Bearer {TOKEN}", **headers}
    async with serving(settings_for(host, settings)) as service, anyio.create_task_group() as tasks:
        config = uvicorn.Config(build_app(service, host), log_config=None, ws="none", timeout_graceful_shutdown=1)
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
