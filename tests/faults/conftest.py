"""What the fault tests share: a client in this process, and a disk that can be full."""

import contextlib
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.types import CallToolResult, TextContent

from wan_mcp.jobs.service import serving
from wan_mcp.protocol.server import build_server
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
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("a small disk needs the right to mount one")
    try:
        yield disk
    finally:
        # Lazily: an engine that is being ended may hold a file for a moment longer.
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte free; gives the file to remove for room."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    return ballast
