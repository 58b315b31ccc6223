"""A client looks at what a running job denoises: over MCP and over HTTP, made by an engine process."""

import base64
import io
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint
from PIL import Image

from tests.fixtures.mcp_server import Answer, Connect, Pace, Runner, denoising
from tests.support.http_fronts import Site, site
from tests.support.patience import PATIENCE_S
from wan_mcp.service.service import serving
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio


def left_in(home: Path) -> list[str]:
    """What there is in the folder of previews."""
    folder = home / "previews"
    return sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []


async def nothing_left(home: Path) -> None:
    """Wait until the engine has removed what it showed, which it does right after the job's end is known."""
    while left_in(home):
        await checkpoint()


async def with_preview(runner: Runner, job_id: str) -> Answer:
    """The first answer about a job that has a picture."""
    while True:
        answer = await runner.call("get_job", job_id=job_id, wait_s=0, preview=True)
        assert answer.job["status"] in ("queued", "running")
        if answer.pictures:
            return answer


async def test_get_job_shows_what_is_denoised_to_who_asks(settings: Settings, connect: Connect, pace: Pace) -> None:
    pace.allow(1)
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings) as runner:
            job_id = await runner.start(steps=4)
            await runner.until(job_id, lambda view: denoising(view) and view.job.progress.step == 1)  # type: ignore[union-attr]
            assert left_in(settings.home) == []  # nobody has looked
            answer = await runner.call("get_job", job_id=job_id, wait_s=0, preview=True)
            assert not answer.pictures
            assert "no preview yet" in answer.text and "no preview yet" in answer.job["notes"][-1]
            pace.allow(2)
            answer = await with_preview(runner, job_id)
            assert not (await runner.call("get_job", job_id=job_id, wait_s=0)).pictures
            with Image.open(io.BytesIO(base64.b64decode(answer.pictures[0].data))) as picture:
                assert (picture.format, picture.getpixel((0, 0))) == ("JPEG", (60, 60, 60))
                assert picture.width > 3 * picture.height  # four frames side by side
            pace.allow(4)
            answer = await runner.call("get_job", job_id=job_id, preview=True)
            assert answer.job["status"] == "succeeded"
            assert "preview" not in answer.text
            await nothing_left(settings.home)


async def test_a_preview_goes_with_its_job_however_that_ends(settings: Settings, connect: Connect, pace: Pace) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings) as runner:
            job_id = await runner.start(steps=4)
            await runner.call("get_job", job_id=job_id, wait_s=0, preview=True)
            pace.allow(1)
            await with_preview(runner, job_id)
            answer = await runner.call("cancel_job", job_id=job_id)
            assert answer.job["status"] == "cancelled"
            await nothing_left(settings.home)


async def test_the_preview_of_a_killed_engine_is_not_shown_for_the_next(
    engine: Callable[[str], Settings], connect: Connect, pace: Pace
) -> None:
    settings = engine("killed_once")
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings) as runner:
            job_id = await runner.start(steps=4)
            await runner.call("get_job", job_id=job_id, wait_s=0, preview=True)
            pace.allow(1)
            await with_preview(runner, job_id)
            pace.allow(2)
            while (await runner.service.view(job_id)).job.attempt < 2:
                await runner.call("get_job", job_id=job_id, wait_s=0, preview=True)
            answer = await with_preview(runner, job_id)
            with Image.open(io.BytesIO(base64.b64decode(answer.pictures[0].data))) as picture:
                assert picture.getpixel((0, 0)) == (120, 120, 120)
            pace.allow(4)
            assert (await runner.call("get_job", job_id=job_id)).job["status"] == "succeeded"
            await nothing_left(settings.home)


async def test_what_a_dead_engine_left_is_swept_when_the_next_one_starts(settings: Settings, connect: Connect) -> None:
    folder = settings.home / "previews"
    folder.mkdir(parents=True)
    for name in ("a" * 20 + ".jpg", "a" * 20 + ".wanted"):
        (folder / name).write_bytes(b"left")
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings) as runner:
            assert (await runner.call("generate_image", prompt="a star")).job["status"] == "succeeded"
    assert left_in(settings.home) == []


async def served(http: Site, job_id: str) -> bytes:
    """The preview, as soon as there is one."""
    while True:
        answer = await http.web.get(f"/media/previews/{job_id}.jpg")
        if answer.status_code == 200:
            assert answer.headers["content-type"] == "image/jpeg"
            assert answer.headers["cache-control"] == "no-store"
            return answer.content
        assert answer.status_code == 204, "a poll that comes too early is no error"
        assert answer.headers["retry-after"] == "1"


async def test_a_preview_is_served_over_http_while_its_job_runs(settings: Settings, pace: Pace) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with site(settings) as http, http.client() as client, serving(settings) as service:
            started = await client.call_tool("generate_video", {"prompt": "a star", "steps": 3, "wait_s": 0})
            assert started.structured_content is not None
            job_id = started.structured_content["job_id"]
            answer = await http.web.get(f"/media/previews/{job_id}.jpg")
            assert answer.status_code == 204 and answer.headers["retry-after"] == "1"
            pace.allow(1)
            assert (await served(http, job_id)).startswith(b"\xff\xd8")
            pace.allow(3)
            await service.wait(job_id, PATIENCE_S)
            answer = await http.web.get(f"/media/previews/{job_id}.jpg")
            assert answer.status_code == 404 and "retry-after" not in answer.headers
            await nothing_left(settings.home)


@pytest.mark.parametrize("name", ["z" * 20 + ".jpg", "..%2Fjobs.db", "a.jpg", "a" * 20 + ".wanted", "%00.jpg"])
async def test_no_other_file_is_served_as_a_preview(shared_settings: Settings, name: str) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with site(shared_settings) as http:
            assert (await http.web.get(f"/media/previews/{name}")).status_code == 404
    assert f"{'z' * 20}.wanted" not in left_in(shared_settings.home)
