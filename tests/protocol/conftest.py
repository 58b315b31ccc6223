"""What the protocol's tests share: a client in this process, an engine in another."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.types import CallToolResult, ImageContent, ResourceLink, TextContent

from wan_mcp.jobs.service import JobService, serving
from wan_mcp.protocol.server import build_server
from wan_mcp.settings import Settings

ERAS = ("legacy", "2026-07-28")


@dataclass
class Studio:
    """A connected client and the service behind it."""

    client: Client
    service: JobService

    async def call(self, tool: str, **arguments: Any) -> "Answer":
        """Call a tool, and collect its progress notifications."""
        answer = Answer()

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            answer.progress.append((progress, total, message or ""))

        answer.result = await self.client.call_tool(tool, arguments, progress_callback=on_progress)
        return answer


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


Connect = Callable[..., AbstractAsyncContextManager[Studio]]


@pytest.fixture
def connect() -> Connect:
    """`connect(settings, mode)`: a client of a server with these settings, of either protocol era."""

    @asynccontextmanager
    async def connecting(settings: Settings, mode: str = ERAS[1]) -> AsyncIterator[Studio]:
        async with serving(settings) as service, Client(build_server(service), mode=mode) as client:
            yield Studio(client, service)

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
