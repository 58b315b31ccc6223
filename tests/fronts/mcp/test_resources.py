"""Results read as resources, whole and in pieces."""

import base64
import json
from collections.abc import Callable

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from mcp.types import INTERNAL_ERROR, INVALID_PARAMS, BlobResourceContents, TextResourceContents

from tests.fixtures.mcp_server import ERAS, Connect, Runner
from tests.fixtures.media import moving_circle
from tests.support.patience import PATIENCE_S
from tests.support.videos import write_video
from wan_mcp.media.store import MediaName
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio
KB = 1024


async def read(runner: Runner, uri: str) -> tuple[bytes, str | None]:
    [content] = (await runner.client.read_resource(uri)).contents
    if isinstance(content, BlobResourceContents):
        return base64.b64decode(content.blob), content.mime_type
    assert isinstance(content, TextResourceContents)
    return content.text.encode(), content.mime_type


async def refused(runner: Runner, uri: str) -> tuple[int, str]:
    with pytest.raises(MCPError) as caught:
        await runner.client.read_resource(uri)
    return caught.value.error.code, caught.value.error.message


@pytest.mark.parametrize("mode", ERAS)
async def test_pieces_of_a_large_video_join_to_the_file(
    engine: Callable[..., Settings], connect: Connect, mode: str
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(engine("works", resource_max_kb=30), mode) as runner:
            [artifact] = (await runner.call("generate_video", prompt="a star", steps=2)).job["artifacts"]
            uri, most = artifact["uri"], 30 * KB
            code, message = await refused(runner, uri)
            pieces = [
                await read(runner, f"{uri}?offset={offset}&length={most}")
                for offset in range(0, artifact["bytes"], most)
            ]
            rest, _ = await read(runner, f"{uri}?offset={artifact['bytes'] - 10}")
    whole = await anyio.Path(artifact["path"]).read_bytes()
    assert code == INTERNAL_ERROR
    assert f"{uri}?offset=0&length={most}" in message
    assert artifact["path"] in message
    assert len(pieces) == 4
    assert b"".join(data for data, _ in pieces) == whole
    assert {mime_type for _, mime_type in pieces} == {"video/mp4"}
    assert rest == whole[-10:]


async def test_small_results_are_read_whole(shared_settings: Settings, connect: Connect) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            [video] = (await runner.call("generate_video", prompt="a star", steps=2)).job["artifacts"]
            [image] = (await runner.call("generate_image", prompt="a star", steps=2)).job["artifacts"]
            assert len((await read(runner, video["uri"]))[0]) == video["bytes"]
            data, mime_type = await read(runner, image["uri"])
            sheet, sheet_type = await read(runner, video["uri"].replace(".mp4", ".sheet.jpg"))
    assert (data[:4], mime_type) == (b"\x89PNG", "image/png")
    assert (sheet[:2], sheet_type) == (b"\xff\xd8", "image/jpeg")


async def test_results_are_read_in_other_formats_which_are_made_of_them(
    shared_settings: Settings, connect: Connect
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            [video] = (await runner.call("generate_video", prompt="a star", steps=2)).job["artifacts"]
            [image] = (await runner.call("generate_image", prompt="a star", steps=2)).job["artifacts"]
            # What a fake engine has made is not a video.
            _, broken = await refused(runner, video["uri"].replace(".mp4", ".webm"))
            write_video(runner.service.media, MediaName.parse(video["uri"]), moving_circle(5), 8, {"seed": 7}, 7)
            own = [await anyio.Path(each["path"]).read_bytes() for each in (video, image)]
            made = {
                uri: await read(runner, uri)
                for uri in (
                    *(video["uri"].replace(".mp4", ending) for ending in (".gif", ".webm", ".webp")),
                    *(image["uri"].replace(".png", ending) for ending in (".jpg", ".webp")),
                )
            }
            again = [await read(runner, uri) for uri in made]
            piece, _ = await read(runner, f"{next(iter(made))}?offset=3&length=3")
            assert own == [await anyio.Path(each["path"]).read_bytes() for each in (video, image)]
            for artifact in (video, image):
                await runner.call("delete_job", job_id=artifact["uri"].rpartition("/")[2].partition("-")[0])
            files = [path for path in runner.service.media.home.rglob("media/*/*") if path.is_file()]
            left = [path for path in files if path.name[:20] in "".join(made)]
            gone, _ = await refused(runner, next(iter(made)))
    assert "cannot be converted to webm" in broken
    assert [media_type for _, media_type in made.values()] == [
        "image/gif", "video/webm", "image/webp", "image/jpeg", "image/webp",
    ]  # fmt: skip
    heads = (b"GIF89a", b"\x1a\x45\xdf\xa3", b"RIFF", b"\xff\xd8", b"RIFF")
    assert all(data.startswith(head) for (data, _), head in zip(made.values(), heads, strict=True))
    assert again == list(made.values())
    assert piece == b"89a"
    assert (left, gone) == ([], INVALID_PARAMS)


async def test_senseless_pieces_are_refused_with_the_reason(shared_settings: Settings, connect: Connect) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(shared_settings) as runner:
            [video] = (await runner.call("generate_video", prompt="a star", steps=2)).job["artifacts"]
            uri = video["uri"]
            assert "is past the end of" in (await refused(runner, f"{uri}?offset=9999999&length=5"))[1]
            assert "must be a number of bytes" in (await refused(runner, f"{uri}?offset=-1&length=5"))[1]
            assert "must be a number of bytes" in (await refused(runner, f"{uri}?offset=ten"))[1]


@pytest.mark.parametrize(
    "uri",
    [
        f"wan://videos/{'0' * 20}-0.mp4",
        f"wan://videos/{'0' * 20}-0.gif",
        f"wan://videos/{'0' * 20}-0.jpg",
        f"wan://images/{'0' * 20}-0.gif",
        "wan://images/nothing.webp",
        "wan://videos/nothing.mp4",
        "wan://images/..%2F..%2Fjobs.png",
        "wan://videos/nothing.sheet.jpg",
        "wan://jobs/nothing",
        "wan://elsewhere/x",
    ],
)
async def test_what_does_not_exist_is_not_found(shared_settings: Settings, connect: Connect, uri: str) -> None:
    async with connect(shared_settings) as runner:
        code, _ = await refused(runner, uri)
    assert code == INVALID_PARAMS


@pytest.mark.parametrize("uri", ["wan://gallery", f"wan://jobs/{'0' * 20}"])
async def test_a_home_that_cannot_be_used_is_named_with_the_remedy(
    settings: Settings, connect: Connect, uri: str
) -> None:
    settings.home.mkdir()
    settings.database.write_bytes(b"no database at all, but long enough to be read as one " * 100)
    async with connect(settings) as runner:
        code, message = await refused(runner, uri)
    assert code == INTERNAL_ERROR
    assert "doctor --repair" in message


async def test_a_job_and_the_gallery_are_readable(settings: Settings, connect: Connect) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings) as runner:
            empty, _ = await read(runner, "wan://gallery")
            answer = await runner.call("generate_image", prompt="a star", steps=2, count=2)
            job, mime_type = await read(runner, f"wan://jobs/{answer.job['job_id']}")
            gallery, _ = await read(runner, "wan://gallery")
    assert json.loads(empty) == {"results": []}
    assert mime_type == "application/json"
    assert json.loads(job) == answer.job
    entries = json.loads(gallery)["results"]
    assert [entry["uri"] for entry in entries] == [artifact["uri"] for artifact in answer.job["artifacts"]]
    assert entries[0]["prompt"] == "a star"
