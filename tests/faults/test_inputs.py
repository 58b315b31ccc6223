"""Input that is meant to hurt, through the tools: refused in words, and the next job runs."""

import base64
import io
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.fixtures.faults import Connect, facts, words
from tests.support.image_files import SIDEWAYS, blank_webp, encoded, exif, picture, profile_of
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio


def png(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(out, "PNG")
    return out.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few kB whose header promises `width` x `height` pixels, and keeps the promise for some rows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
    rows = zlib.compress(b"\0" * 10_000_000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def data_uri(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


BAD_PICTURES = {
    "a bomb beyond every limit": (data_uri(bomb(100_000, 100_000)), "too many pixels"),
    "a bomb beyond our limit": (data_uri(bomb(12_000, 9_000)), "12000x9000 pixels"),
    "a truncated picture": (data_uri(png(300, 300)[:200]), "or truncated"),
    "no picture": (data_uri(b"#!/bin/sh\necho hello\n"), "not a readable image"),
    "nothing at all": (data_uri(b""), "not a readable image"),
    "a tiny picture": (data_uri(png(2, 2)), "only 2x2 pixels"),
    "broken base64": ("data:image/png;base64,@@@@", "not valid base64"),
    "another kind of data": ("data:text/html;base64,PGI+", "not a readable image"),
    "a data URI without data": ("data:image/png;base64", "must look like data:image/png"),
    "base64 alone": (data_uri(png(40, 30)).partition(",")[2], "put 'data:image/png;base64,' in front"),
    "an address of no form": ("file://[", "on another machine"),
    "somebody's home": ("~root/x.png", "outside the allowed folders"),
    "a relative path": ("x.png", "use an absolute path"),
    "a quoted path": ("'/nowhere/x.png'", "read as it is written"),
    "a path of Windows": ("C:\\Users\\me\\x.png", "read as it is written"),
    "a canvas of a gigabyte in 28 bytes": (data_uri(blank_webp(7070, 7070)), "needs about 849.7 MB of memory"),
    "a path of a megabyte": ("/" + "x/" * 500_000, "neither a path nor a URI"),
    "a file that is not there": ("/nowhere/at/all.png", "outside the allowed folders"),
    "a file outside the folders": ("/etc/passwd", "outside the allowed folders"),
    "a network address": ("http://127.0.0.1:1/x.png", "image URLs are not supported"),
    "a result that never was": ("wan://images/00000000000000000000-0.png", "no result"),
    "an address that climbs": ("wan://images/../../etc/passwd", "is not the wan:// address"),
}


@pytest.mark.parametrize(("source", "hint"), BAD_PICTURES.values(), ids=BAD_PICTURES)
@pytest.mark.parametrize("tool", ["generate_video", "caption_image"])
async def test_a_picture_that_is_none_is_refused_in_words(
    connect: Connect, shared_settings: Settings, tool: str, source: str, hint: str
) -> None:
    asked = {"image": source} | ({"prompt": "it moves"} if tool == "generate_video" else {})
    async with connect(shared_settings) as client:
        result = await client.call_tool(tool, asked)
        assert result.is_error
        assert hint in words(result)


async def test_too_large_a_file_is_refused_before_it_is_read(
    connect: Connect, engine: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = engine("works", image_max_mb=0.001)
    picture = settings.image_dirs[0] / "large.png"
    picture.write_bytes(b"\0" * 5000)
    async with connect(settings) as client:
        result = await client.call_tool("caption_image", {"image": str(picture)})
        assert result.is_error
        assert "the limit is 1.0 kB" in words(result)


async def test_a_link_out_of_the_allowed_folders_is_refused(connect: Connect, shared_settings: Settings) -> None:
    link = shared_settings.image_dirs[0] / "innocent.png"
    link.symlink_to("/etc/passwd")
    async with connect(shared_settings) as client:
        result = await client.call_tool("caption_image", {"image": str(link)})
        assert result.is_error
        assert "outside the allowed folders" in words(result)


async def test_a_prompt_of_100000_characters_is_refused_and_the_next_one_is_not(
    connect: Connect, shared_settings: Settings
) -> None:
    async with connect(shared_settings) as client:
        result = await client.call_tool("generate_video", {"prompt": "x" * 100_000})
        assert result.is_error
        assert "100000 characters long; the limit is 2000" in words(result)
        assert facts(await client.call_tool("generate_video", {"prompt": "x"}))["status"] == "succeeded"


async def test_a_prompt_in_any_script_reaches_the_result_unchanged(connect: Connect, shared_settings: Settings) -> None:
    prompt = "红色的圆 🔴 \u202eright to left\u202c 'quotes' \"double\" {braces} \\back\\ \x07"
    async with connect(shared_settings) as client:
        result = await client.call_tool("generate_image", {"prompt": prompt})
        assert facts(result)["request"]["prompt"] == prompt


async def test_an_odd_photo_is_taken_and_the_answer_says_what_was_changed(
    connect: Connect, shared_settings: Settings
) -> None:
    """Sideways, with a text where Exif has a number, in a colour space of print, and in lines as `base64` prints it."""
    grey = Image.new("CMYK", (60, 40), (0, 0, 0, 128))
    photo = encoded(grey, "JPEG", exif=exif(SIDEWAYS, (0x11A, 2, 6, 38)), icc_profile=profile_of("LAB"))
    lines = base64.encodebytes(photo).decode()
    async with connect(shared_settings) as client:
        job = facts(await client.call_tool("caption_image", {"image": f"DATA:;base64,\n{lines}"}))
        moving = await client.call_tool("generate_video", {"prompt": "it moves", "image": data_uri(animation())})
    assert job["caption"] == "a picture of 40x60"
    assert "image: colour profile ignored: it is for Lab images; colours taken as sRGB" in job["notes"]
    assert "image: only the first of 2 frames is used" in facts(moving)["notes"]
    assert "image: only the first of 2 frames is used" in words(moving)


def animation() -> bytes:
    return encoded(picture(), "GIF", save_all=True, append_images=[Image.new("RGB", (60, 40))])
