"""Every door of the HTTP server that shows a job or does something with one, as somebody with a token finds it."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import anyio
import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import PromptReference, ResourceTemplateReference

from tests.fixtures.mcp_server import ERAS
from tests.support.http_fronts import Site, site
from tests.support.patience import PATIENCE_S
from tests.support.task_client import TaskExtension, ask
from wan_mcp.service.tokens import Tokens
from wan_mcp.settings import Settings

__all__ = ["PAGE", "SECRET", "Deletions", "Sights", "Target", "Uses", "Visitor", "doors", "visiting", "visitors"]

PAGE = {"X-Wan-Mcp": "page"}
HOME_TOKEN = "the secret of the home"
SECRET = "a rose garden"
"""The prompt of the job that the doors are tried on."""


@dataclass
class Visitor:
    """Somebody with a token, by every kind of client."""

    token: str
    web: httpx2.AsyncClient
    mcp: Client

    @asynccontextmanager
    async def with_tasks(self) -> AsyncIterator[Client]:
        """Another client of the same token, of the newer protocol, which takes tasks and hears of changes."""
        transport = streamable_http_client(f"{str(self.web.base_url).rstrip('/')}/mcp", http_client=self.web)
        async with Client(transport, mode=ERAS[1], extensions=[TaskExtension()]) as client:
            yield client

    async def task(self, what: str, task_id: str) -> str | None:
        """What `tasks/WHAT` answers; None if it is refused."""
        async with self.with_tasks() as client:
            with suppress(MCPError):
                return json.dumps(await ask(client, what, task_id))
        return None

    async def tool(self, name: str, **arguments: Any) -> dict[str, Any] | None:
        """What a tool returns; None if it refuses."""
        answer = await self.mcp.call_tool(name, arguments)
        return None if answer.is_error else answer.structured_content

    async def read(self, uri: str) -> str | None:
        """What a resource contains; None if it is refused."""
        with suppress(MCPError):
            return (await self.mcp.read_resource(uri)).model_dump_json()
        return None

    async def completions(self, reference: PromptReference | ResourceTemplateReference, argument: str) -> list[str]:
        return (await self.mcp.complete(reference, {"name": argument, "value": ""})).completion.values

    async def get(self, path: str, **query: str) -> str | None:
        """What an address answers; None if it is refused."""
        answer = await self.web.get(path, params=query)
        return answer.text if answer.status_code == 200 else None

    async def send(self, method: str, path: str, body: Any = None, **query: str) -> str | None:
        """What an address answers to a request that changes something; None if it is refused."""
        answer = await self.web.request(method, path, json=body, params=query, headers=PAGE)
        return (answer.text or "done") if answer.is_success else None


@asynccontextmanager
async def visiting(http: Site, token: str, mode: str = ERAS[1]) -> AsyncIterator[Visitor]:
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(base_url=http.url, headers=headers, timeout=PATIENCE_S) as web:
        transport = streamable_http_client(f"{http.url}/mcp", http_client=web)
        async with Client(transport, mode=mode) as client:
            yield Visitor(token, web, client)


@asynccontextmanager
async def visitors(
    settings: Settings, *names: str, host: str = "0.0.0.0", mode: str = ERAS[1]
) -> AsyncIterator[tuple[Site, list[Visitor]]]:
    """A server on `host` that needs a token, and a visitor for each name; `home` is the home's own user.

    All that is done with them is done within `PATIENCE_S`.
    """
    tokens = {name: HOME_TOKEN if name == "home" else Tokens(settings.home).add(name) for name in names}
    with anyio.fail_after(PATIENCE_S):
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(site(settings.model_copy(update={"http_token": HOME_TOKEN}), host))
            yield http, [await stack.enter_async_context(visiting(http, tokens[name], mode)) for name in names]


@dataclass
class Target:
    """A finished job of somebody, and its result."""

    id: str
    older: str
    """An older job of the same owner."""

    @property
    def uri(self) -> str:
        return f"wan://videos/{self.id}-0.mp4"

    @property
    def file(self) -> str:
        return f"/media/videos/{self.id}-0"

    @property
    def video(self) -> str:
        return f"video_{self.id}"


class Sights:
    """Doors that show something: each returns what it shows of the target, or None."""

    async def by_get_job(self, who: Visitor, it: Target) -> str | None:
        return json.dumps(await who.tool("get_job", job_id=it.id)).replace("null", "") or None

    async def by_list_jobs(self, who: Visitor, it: Target) -> str | None:
        return json.dumps(await who.tool("list_jobs"))

    async def by_searching_jobs(self, who: Visitor, it: Target) -> str | None:
        return json.dumps(await who.tool("list_jobs", query="rose"))

    async def by_paging_jobs(self, who: Visitor, it: Target) -> str | None:
        return json.dumps(await who.tool("list_jobs", before=it.id)).replace(it.older, SECRET)

    async def by_job_resource(self, who: Visitor, it: Target) -> str | None:
        return await who.read(f"wan://jobs/{it.id}")

    async def by_task(self, who: Visitor, it: Target) -> str | None:
        return await who.task("get", it.id)

    async def by_listening(self, who: Visitor, it: Target) -> str | None:
        job = [f"wan://jobs/{it.id}"]
        async with who.with_tasks() as client, client.listen(resource_subscriptions=job) as stream:
            return SECRET if stream.honored.resource_subscriptions else None

    async def by_gallery(self, who: Visitor, it: Target) -> str | None:
        return await who.read("wan://gallery")

    async def by_video_resource(self, who: Visitor, it: Target) -> str | None:
        return await who.read(it.uri) and SECRET

    async def by_sheet_resource(self, who: Visitor, it: Target) -> str | None:
        return await who.read(it.uri.replace(".mp4", ".sheet.jpg")) and SECRET

    async def by_poster_resource(self, who: Visitor, it: Target) -> str | None:
        return await who.read(it.uri.replace(".mp4", ".poster.jpg")) and SECRET

    async def by_conversion_resource(self, who: Visitor, it: Target) -> str | None:
        return await who.read(it.uri.replace(".mp4", ".gif")) and SECRET

    async def by_completing_jobs(self, who: Visitor, it: Target) -> str | None:
        values = await who.completions(ResourceTemplateReference(type="ref/resource", uri="wan://jobs/{id}"), "id")
        return SECRET if it.id in values else None

    async def by_completing_videos(self, who: Visitor, it: Target) -> str | None:
        template = "wan://videos/{id}.mp4{?offset,length}"
        values = await who.completions(ResourceTemplateReference(type="ref/resource", uri=template), "id")
        return SECRET if f"{it.id}-0" in values else None

    async def by_media(self, who: Visitor, it: Target) -> str | None:
        return await who.get(f"{it.file}.mp4") and SECRET

    async def by_sheet(self, who: Visitor, it: Target) -> str | None:
        return await who.get(f"{it.file}.sheet.jpg") and SECRET

    async def by_poster(self, who: Visitor, it: Target) -> str | None:
        return await who.get(f"{it.file}.poster.jpg") and SECRET

    async def by_conversion(self, who: Visitor, it: Target) -> str | None:
        return await who.get(f"{it.file}.webm") and SECRET

    async def by_page(self, who: Visitor, it: Target) -> str | None:
        return await who.get("/api/jobs")

    async def by_search_of_the_page(self, who: Visitor, it: Target) -> str | None:
        return await who.get("/api/jobs", q="rose")

    async def by_job_of_the_page(self, who: Visitor, it: Target) -> str | None:
        return await who.get(f"/api/jobs/{it.id}")

    async def by_events_since_the_beginning(self, who: Visitor, it: Target) -> str | None:
        """A page that has missed everything; what comes first is all of it, or the snapshot of a page with nothing."""
        async with who.web.stream("GET", "/api/events", params={"since": "0"}) as events:
            with anyio.move_on_after(1.0):  # an owner of nothing is sent nothing
                async for line in events.aiter_lines():
                    if line.startswith("data:"):
                        return line
        return None

    async def by_video_api(self, who: Visitor, it: Target) -> str | None:
        return await who.get("/v1/videos")

    async def by_video_of_the_api(self, who: Visitor, it: Target) -> str | None:
        return await who.get(f"/v1/videos/{it.video}")

    async def by_content_of_the_api(self, who: Visitor, it: Target) -> str | None:
        return await who.get(f"/v1/videos/{it.video}/content") and SECRET

    async def by_paging_the_api(self, who: Visitor, it: Target) -> str | None:
        found = await who.get("/v1/videos", after=it.video, order="desc")
        return found.replace(it.older, SECRET) if found else None


class Uses:
    """Doors that do something with the target: each returns something if it did."""

    async def by_keeping(self, who: Visitor, it: Target) -> object:
        return await who.tool("keep_job", job_id=it.id, kept=False)

    async def by_cancelling(self, who: Visitor, it: Target) -> object:
        return await who.tool("cancel_job", job_id=it.id)

    async def by_updating_its_task(self, who: Visitor, it: Target) -> object:
        return await who.task("update", it.id)

    async def by_cancelling_its_task(self, who: Visitor, it: Target) -> object:
        return await who.task("cancel", it.id)

    async def by_remix(self, who: Visitor, it: Target) -> object:
        return await who.tool("remix", job_id=it.id, seed="new", wait_s=0)

    async def by_dry_remix(self, who: Visitor, it: Target) -> object:
        return await who.tool("remix", job_id=it.id, seed="new", dry_run=True)

    async def by_extending(self, who: Visitor, it: Target) -> object:
        return await who.tool("generate_video", prompt="x", extend=it.id, dry_run=True)

    async def by_extending_its_address(self, who: Visitor, it: Target) -> object:
        return await who.tool("generate_video", prompt="x", extend=it.uri, dry_run=True)

    async def by_image(self, who: Visitor, it: Target) -> object:
        return await who.tool("generate_video", prompt="x", image=it.uri, wait_s=0)

    async def by_last_image(self, who: Visitor, it: Target) -> object:
        own = await who.tool("generate_image", prompt="mine")
        assert own is not None
        images = {"image": own["artifacts"][0]["uri"], "last_image": f" WAN{it.uri[3:]}"}
        return await who.tool("generate_video", prompt="x", model="wan2.2-i2v-a14b", dry_run=True, **images)

    async def by_caption(self, who: Visitor, it: Target) -> object:
        return await who.tool("caption_image", image=it.uri, wait_s=0)

    async def by_estimate(self, who: Visitor, it: Target) -> object:
        return await who.tool("generate_video", prompt="x", image=it.uri, dry_run=True)

    async def by_submitting_on_the_page(self, who: Visitor, it: Target) -> object:
        return await who.send("POST", "/api/jobs", {"kind": "video", "prompt": "x", "image": it.uri})

    async def by_estimate_of_the_page(self, who: Visitor, it: Target) -> object:
        return await who.send("POST", "/api/estimate", {"kind": "video", "prompt": "x", "image": it.uri})

    async def by_taking_it_in(self, who: Visitor, it: Target) -> object:
        return await who.send("POST", "/api/inputs", None, image=it.uri)

    async def by_change_on_the_page(self, who: Visitor, it: Target) -> object:
        return await who.send("PATCH", f"/api/jobs/{it.id}", {"kept": False})

    async def by_cancelling_on_the_page(self, who: Visitor, it: Target) -> object:
        return await who.send("POST", f"/api/jobs/{it.id}/cancel")

    async def by_remix_of_the_api(self, who: Visitor, it: Target) -> object:
        return await who.send("POST", f"/v1/videos/{it.video}/remix", {"prompt": "y"})

    async def by_reference_of_the_api(self, who: Visitor, it: Target) -> object:
        return await who.send("POST", "/v1/videos", {"prompt": "y", "input_reference": it.uri})

    async def by_edit_of_the_api(self, who: Visitor, it: Target) -> object:
        return await who.send("POST", "/v1/images/edits", {"prompt": "y", "image": it.uri})


class Deletions:
    """Doors that delete the target."""

    async def by_tool(self, who: Visitor, it: Target) -> object:
        return await who.tool("delete_job", job_id=it.id)

    async def by_page(self, who: Visitor, it: Target) -> object:
        return await who.send("DELETE", f"/api/jobs/{it.id}")

    async def by_video_api(self, who: Visitor, it: Target) -> object:
        return await who.send("DELETE", f"/v1/videos/{it.video}")


Door = Callable[[Visitor, Target], Awaitable[Any]]


def doors(of: object) -> dict[str, Door]:
    return {name: getattr(of, name) for name in vars(type(of)) if name.startswith("by_")}
