"""What a caller may write for an image: every legal spelling of a URI, and refusals that say what is missing."""

import base64
import io
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image

from tests.fixtures.media import VIDEO, moving_circle
from tests.support.videos import write_video
from wan_mcp.errors import BadImage
from wan_mcp.media.ingest import InputImages
from wan_mcp.media.store import MediaStore


def png() -> bytes:
    out = io.BytesIO()
    Image.effect_noise((50, 40), 90).save(out, "PNG")  # its base64 has all letters, also + and /
    return out.getvalue()


PNG = png()
BASE64 = base64.b64encode(PNG).decode()
LINES = base64.encodebytes(PNG).decode()


@pytest.mark.parametrize(
    "uri",
    [
        f"data:image/png;base64,{BASE64}",
        f"data:image/png;base64,{LINES}",
        f"data:image/png;base64,\r\n  {LINES}".replace("\n", "\r\n\t"),
        f"data:image/png;base64, {BASE64} ",
        f"data:image/png;base64,{base64.urlsafe_b64encode(PNG).decode()}",
        f"data:image/png;base64,{BASE64.rstrip('=')}",
        f"data:image/png;base64,{BASE64}====",
        f"data:image/png;base64,{quote(BASE64, safe='')}",
        f"data:image/png;base64,{quote(LINES)}",
        f"data:image/png;base64,{BASE64}#fragment",
        f"  DATA:IMAGE/PNG;BASE64,{BASE64}\n",
        f"data:;base64,{BASE64}",
        f"data:application/octet-stream;base64,{BASE64}",
        f"data:image/jpg;base64,{BASE64}",
        f"data:image/png;charset=utf-8;name=a%20b.png;base64,{BASE64}",
        f"data: image/png ; base64 ,{BASE64}",
        f"data:image/png,{quote(PNG)}",
        f"data:,{quote(PNG, safe='')}",
    ],
    ids=range(18),
)
def test_a_data_uri_is_taken_in_every_spelling_that_can_be_decoded(inputs: InputImages, uri: str) -> None:
    assert inputs.take(uri).sha256 == inputs.take(f"data:image/png;base64,{BASE64}").sha256


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (BASE64, "put 'data:image/png;base64,' in front"),
        (LINES, "put 'data:image/png;base64,' in front"),
        (f"image/png;base64,{BASE64}", "put 'data:image/png;base64,' in front"),
        (f"base64,{BASE64}", "put 'data:image/png;base64,' in front"),
        (base64.b64encode(b"\xff\xd8\xff\xe0\0\x10JFIF\0").decode(), "put 'data:image/png;base64,' in front"),
        (base64.b64encode(b"RIFF\0\0\0\0WEBPVP8 ").decode(), "put 'data:image/png;base64,' in front"),
        (f"data:image/png;base64{BASE64}", "has no comma"),
        ("data:", "has no comma"),
        ("data:image/png;base64,", "not a readable image"),
        ("data:image/png;base64,iVBO!", "not valid base64"),
        ("data:image/png;base64,iVBOR", "cut short"),
        ("data:image/png;base64,%GG", "not valid base64"),
        ("data:image/png;base64,é\ud83d", "not valid base64"),
        (f"data:image/png;base64,{'A' * 700_000}", "525.0 kB; the limit is 500.0 kB"),
        (f"data:,{'A' * 600_000}", "600.0 kB; the limit is 500.0 kB"),
        ("file://[", "on another machine"),
        ("file://[::1", "on another machine"),
        ("file://elsewhere/a.png", "on another machine"),
        ("file://~/a.png", "on another machine"),
        ("file:", "outside the allowed folders"),
        ("file:///%00", "cannot be read"),
        ("file:///%ff%fe.png", "outside the allowed folders"),
        ("FILE:///nowhere.png", "outside the allowed folders"),
        ("HTTPS://example.org/a.png", "image URLs are not supported"),
        ("x" * 5_000_000, "neither a path nor a URI"),
        ("/" + "x/" * 2_000_000, "neither a path nor a URI"),
        ("\ud83d.png", "cannot be read: not a usable path"),
        ("~", "outside the allowed folders"),
    ],
    ids=range(28),
)
def test_what_cannot_be_taken_is_refused_briefly_with_the_reason(inputs: InputImages, source: str, reason: str) -> None:
    with pytest.raises(BadImage, match=reason) as refused:
        inputs.take(source)
    assert len(str(refused.value)) < 600
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "name", ["a b.png", "100%.png", "a#b?c.png", "ä🔴.png", "[x].png", "a:b.png", b"latin-\xe9.png"]
)
def test_a_file_is_taken_by_its_path_and_by_every_spelling_of_its_uri(
    inputs: InputImages, folder: Path, name: str | bytes
) -> None:
    file = folder / (name if isinstance(name, str) else name.decode("utf-8", "surrogateescape"))
    file.write_bytes(PNG)
    path = quote(bytes(file))
    for uri in (f"file://{path}", f"file:{path}", f"FILE://{path}", f"file://LOCALHOST{path}", f" file://{path}#x\n"):
        taken = inputs.take(uri)
        assert taken.width == 50
        taken.source.encode()  # no half characters, which no table and no client could hold
    assert inputs.take(str(file)).width == 50


def test_whether_somebody_has_an_account_here_is_not_told(inputs: InputImages) -> None:
    told = []
    for name in ("root", "no-such-account"):
        with pytest.raises(BadImage) as refused:
            inputs.take(f"~{name}/x.png")
        told.append(str(refused.value).replace(f"~{name}", "~"))
    assert told[0] == told[1]


def test_a_video_is_taken_by_its_path_as_by_its_address(inputs: InputImages, media: MediaStore) -> None:
    """In whichever case the scheme is written."""
    write_video(media, VIDEO, moving_circle(), 8, {}, 1)
    by_path = inputs.take(str(media.path(VIDEO)))
    assert by_path.sha256 == inputs.take(VIDEO.uri).sha256 == inputs.take(f" WAN{VIDEO.uri[3:]}\n").sha256
    assert by_path.source == str(media.path(VIDEO))
