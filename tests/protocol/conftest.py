"""What the protocol's tests share: a client in this process, an engine in another."""

import io
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.types import CallToolResult, ImageContent, ResourceLink, TextContent
from PIL import Image

from wan_mcp.fronts.mcp.server import build_server
from wan_mcp.schema.enums import Stage
from wan_mcp.service.service import JobService, JobView, serving
from wan_mcp.settings import Settings

ERAS = ("legacy", "2026-07-28")


def png(width: int, height: int) -> bytes:
    """A picture."""
    out = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(out, "PNG")
    return out.getvalue()


@dataclass
class Runner:
    """A connected client and the service behind it."""

    client: Client
    service: JobService

    async def call(self, tool: str, on_message: Callable[[str], None] | None = None, **arguments: Any) -> "Answer":
        """Call a tool, and collect its progress notifications; `on_message` hears their words as they come."""
        answer = Answer()

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            answer.progress.append((progress, total, message or ""))
            if on_message is not None:
                on_message(message or "")

        answer.result = await self.client.call_tool(tool, arguments, progress_callback=on_progress)
        return answer

    async def start(self, **arguments: Any) -> str:
        """Submit a video without waiting; gives the job's id."""
        answer = await self.call("generate_video", **{"prompt": "a red circle", "wait_s": 0, **arguments})
        job_id: str = answer.job["job_id"]
        return job_id

    async def until(self, job_id: str, wanted: Callable[[JobView], bool]) -> None:
        """Wait until an unfinished job is seen as `wanted`."""
        with anyio.CancelScope() as scope:

            async def look(view: JobView) -> None:
                if wanted(view):
                    scope.cancel()

            view = await self.service.wait(job_id, 30, look)
            raise AssertionError(f"the job never was as wanted: {view}")


def denoising(view: JobView) -> bool:
    """Whether a job is in its denoising steps."""
    return view.job.progress is not None and view.job.progress.stage is Stage.DENOISE


@dataclass
class Answer:
    """A tool's result and what came before it."""

    progress: list[tuple[float, float | None, str]] = field(default_factory=list)
    result: CallToolResult = field(default_factory=lambda: CallToolResult(content=[]))

    @property
    def job(self) -> dict[str, Any]:
        """The structured result."""
        structured: dict[str, Any] | None = self.result.structured_content
        assert structured is not None, self.text
        return structured

    @property
    def text(self) -> str:
        """The words."""
        return "\n".join(block.text for block in self.result.content if isinstance(block, TextContent))

    @property
    def links(self) -> list[ResourceLink]:
        """The links."""
        return [block for block in self.result.content if isinstance(block, ResourceLink)]

    @property
    def pictures(self) -> list[ImageContent]:
        """The pictures."""
        return [block for block in self.result.content if isinstance(block, ImageContent)]


Connect = Callable[..., AbstractAsyncContextManager[Runner]]


@pytest.fixture
def connect() -> Connect:
    """`connect(settings, mode)`: a client of a server with these settings, of either protocol era."""

    @asynccontextmanager
    async def connecting(settings: Settings, mode: str = ERAS[1]) -> AsyncIterator[Runner]:
        async with serving(settings) as service, Client(build_server(service), mode=mode) as client:
            yield Runner(client, service)

    return connecting


@dataclass
class Pace:
    """How many denoising steps the fake engine of a home may do in all."""

    file: Path

    def allow(self, steps: int) -> None:
        """Let the engine go on until it has done `steps`."""
        partial = self.file.with_suffix(".part")
        partial.write_text(str(steps), encoding="utf-8")
        partial.replace(self.file)


@pytest.fixture
def pace(settings: Settings) -> Pace:
    """A hold on the engine of `settings`: it does no step before it may."""
    settings.home.mkdir(parents=True, exist_ok=True)
    pace = Pace(settings.home / "pace")
    pace.allow(0)
    return pace
