"""What the fault tests share: a client in this process, and a disk that can be full."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.types import CallToolResult, TextContent

from wan_mcp.fronts.mcp.server import build_server
from wan_mcp.service.service import serving
from wan_mcp.settings import Settings

Connect = Callable[[Settings], AbstractAsyncContextManager[Client]]


@pytest.fixture
def connect() -> Connect:
    """`connect(settings)`: a client of a server in this process."""

    @asynccontextmanager
    async def connecting(settings: Settings) -> AsyncIterator[Client]:
        async with serving(settings) as service, Client(build_server(service)) as client:
            yield client

    return connecting


def words(result: CallToolResult) -> str:
    """The text of a result."""
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


def facts(result: CallToolResult) -> dict[str, Any]:
    """The structured part of a result."""
    structured: dict[str, Any] | None = result.structured_content
    assert structured is not None, words(result)
    return structured


@pytest.fixture
def small_disk(mount_disk: Callable[[int], Path]) -> Path:
    """A disk of its own with room for 4 MB."""
    return mount_disk(4096)


def fill(disk: Path) -> Path:
    """Leave no byte free; gives the file to remove for room."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    return ballast
