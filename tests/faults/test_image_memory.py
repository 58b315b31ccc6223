"""The memory of a front while several clients send images at once, which are small files and large pictures."""

import base64
import os
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import psutil
import pytest
from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult

from tests.fixtures.faults import Connect, words
from tests.support.image_files import blank_float_tiff, blank_png, blank_webp
from tests.support.patience import PATIENCE_S
from wan_mcp.media import decode
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

BUDGET_MB = 400
SIDE = 2400
"""Pixels: as a whole, these images take 70 to 170 MB each, and the WebPs of 7070 pixels 0.9 GB."""


def peak_mb(front: psutil.Process) -> float:
    """The largest memory that a process has had."""
    status = Path(f"/proc/{front.pid}/status").read_text(encoding="utf-8")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1000


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
async def test_many_large_images_at_once_stay_within_the_memory_of_a_front(engine: Callable[..., Settings]) -> None:
    settings = engine("works")
    front = StdioServerParameters(
        command=sys.executable, args=["-m", "wan_mcp", "stdio"], env={**os.environ, **settings.environment()}
    )
    images = [
        blank_png(SIDE, SIDE, 8, 6),
        blank_png(SIDE, SIDE, 16, 6),
        blank_png(SIDE, SIDE, 16, 0),
        blank_float_tiff(SIDE, SIDE),
        blank_webp(SIDE, SIDE),
        *[blank_webp(7070, 7070)] * 4,
    ]
    answers: list[str] = []

    async def send(client: Client, image: bytes) -> None:
        uri = f"data:;base64,{base64.b64encode(image).decode()}"
        answers.append(words(await client.call_tool("caption_image", {"image": uri, "wait_s": 0})))

    with anyio.fail_after(PATIENCE_S):
        async with Client(front) as client:
            [process] = [child for child in psutil.Process().children() if "stdio" in child.cmdline()]
            async with anyio.create_task_group() as calls:
                for image in images:
                    calls.start_soon(send, client, image)
            peak = peak_mb(process)
    assert sum("needs about 849.7 MB of memory; the limit is 256.0 MB" in answer for answer in answers) == 4
    assert sum(answer.startswith("Job ") for answer in answers) == 5, answers
    assert peak < BUDGET_MB


async def test_calls_without_images_are_answered_while_many_images_wait(
    connect: Connect, engine: Callable[..., Settings]
) -> None:
    """More than there are threads for blocking work (40)."""
    uri = f"data:;base64,{base64.b64encode(blank_png(20, 20, 8, 2)).decode()}"
    taken: list[CallToolResult] = []

    async def caption(client: Client) -> None:
        taken.append(await client.call_tool("caption_image", {"image": uri, "wait_s": 0}))

    with anyio.fail_after(PATIENCE_S):
        async with connect(engine("works")) as client, anyio.create_task_group() as calls:
            with decode._decoding:  # another image takes its time
                for _ in range(45):
                    calls.start_soon(caption, client)
                for _ in range(3):
                    assert not (await client.call_tool("list_jobs", {})).is_error
                assert taken == []
    assert len(taken) == 45
