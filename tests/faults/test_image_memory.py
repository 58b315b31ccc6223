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

from tests.fixtures.faults import Connect, facts, words
from tests.support.http_fronts import running, site
from tests.support.image_files import blank_float_tiff, blank_png, blank_webp, encoded, picture
from tests.support.patience import PATIENCE_S
from wan_mcp.media import decode
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

BUDGET_MB = 400
CROWD = 10
LARGE = 10_000_000
"""Bytes of a file, which is 13 MB in a message."""
SIDE = 2400
"""Pixels: as a whole, these images take 70 to 170 MB each, and the WebPs of 7070 pixels 0.9 GB."""


def peak_mb(front: psutil.Process) -> float:
    """The largest memory that a process has had."""
    status = Path(f"/proc/{front.pid}/status").read_text(encoding="utf-8")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1000


def words_of(process: psutil.Process) -> list[str]:
    """The command line of a process; empty for one that has ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:  # a zombie, too: a child of another test that nobody has waited for yet
        return []


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
async def test_many_clients_that_send_large_files_at_once_and_wait_stay_within_the_memory(
    engine: Callable[..., Settings],
) -> None:
    """Each call holds its message for as long as it waits for the job, which is for ever here."""
    settings = engine("works", queue_limit=CROWD)
    settings.home.mkdir(parents=True)
    (settings.home / "pace").write_text("0", encoding="utf-8")
    image = encoded(picture(), "JPEG").ljust(LARGE, b"\0")
    uri = f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"
    asked = {"prompt": "it moves", "image": uri, "wait_s": PATIENCE_S}
    with running(settings) as front, anyio.fail_after(PATIENCE_S):

        async def send(number: int) -> None:
            async with Client(f"{front.url}/mcp") as client:
                await client.call_tool("generate_video", {**asked, "seed": number})

        async with Client(f"{front.url}/mcp") as client, anyio.create_task_group() as calls:
            for number in range(CROWD):
                calls.start_soon(send, number)
            while len(facts(await client.call_tool("list_jobs", {"limit": 100}))["jobs"]) < CROWD:
                await anyio.lowlevel.checkpoint()
            peak = peak_mb(psutil.Process(front.process.pid))
            calls.cancel_scope.cancel()
    assert peak < BUDGET_MB


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
            [process] = [child for child in psutil.Process().children() if "stdio" in words_of(child)]
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


async def test_a_repeated_request_id_finds_its_job_however_its_image_came(
    connect: Connect, engine: Callable[..., Settings]
) -> None:
    """A large one is kept in a file over HTTP, and stays in the message within this process."""
    settings = engine("works")

    def asked(shade: str) -> dict[str, object]:
        image = encoded(picture().convert("L"), "JPEG").ljust(100_000, shade.encode())
        uri = f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"
        return {"image": uri, "request_id": "the one", "wait_s": PATIENCE_S}

    async with site(settings) as server, server.client() as client, connect(settings) as other:
        first = facts(await client.call_tool("caption_image", asked("a")))
        again = facts(await client.call_tool("caption_image", asked("a")))
        elsewhere = facts(await other.call_tool("caption_image", asked("a")))
        refused = await client.call_tool("caption_image", asked("b"))
    assert first["status"] == "succeeded"
    assert first["job_id"] == again["job_id"] == elsewhere["job_id"]
    assert "different request" in words(refused)
    assert not any(file.is_file() for file in (settings.home / "tmp").iterdir())
