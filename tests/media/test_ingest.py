"""Pictures that come in: taken safely from where they may come from, refused with a reason otherwise."""

import base64
import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.fixtures.media import IMAGE, VIDEO, moving_circle, noise
from tests.support.videos import write_video
from wan_mcp.errors import BadImage, BadRequest
from wan_mcp.media.images import write_image
from wan_mcp.media.ingest import InputImages
from wan_mcp.media.store import MediaStore
from wan_mcp.schema.plans import InputImage


def pixels(media: MediaStore, taken: InputImage) -> Any:
    return np.asarray(Image.open(media.home / taken.file))


def encoded(picture: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def data_uri(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def test_a_picture_in_an_allowed_folder_is_kept_as_a_png_of_its_own(
    inputs: InputImages, media: MediaStore, folder: Path
) -> None:
    original = noise(1, 40, 30)[0]
    Image.fromarray(original).save(folder / "a.bmp")
    taken = inputs.take(str(folder / "a.bmp"))
    (folder / "a.bmp").unlink()
    assert (taken.width, taken.height, taken.source) == (40, 30, str(folder / "a.bmp"))
    assert np.array_equal(pixels(media, taken), original)


def test_the_same_picture_is_kept_once(inputs: InputImages, media: MediaStore, folder: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(moving_circle(1)[0]).save(folder / name)
    assert inputs.take(str(folder / "a.png")).file == inputs.take(str(folder / "b.png")).file
    assert len(list(media.inputs.iterdir())) == 1


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_data_uri_of_any_common_format_is_taken(inputs: InputImages, form: str) -> None:
    data = encoded(Image.fromarray(moving_circle(1)[0]), form)
    taken = inputs.take(data_uri(data, form.lower()))
    assert (taken.width, taken.height, taken.source) == (128, 128, "data URI")


def test_results_are_taken_by_their_address_videos_by_their_first_frame(inputs: InputImages, media: MediaStore) -> None:
    frames = moving_circle()
    write_image(media, IMAGE, frames[3], {}, 1)
    write_video(media, VIDEO, frames, 8, {}, 1)
    assert np.array_equal(pixels(media, inputs.take(IMAGE.uri)), frames[3])
    assert np.abs(pixels(media, inputs.take(VIDEO.uri)).astype(int) - frames[0]).mean() < 2


def test_results_are_taken_by_their_path_as_well(inputs: InputImages, media: MediaStore) -> None:
    write_image(media, IMAGE, noise(1)[0], {}, 1)
    assert inputs.take(str(media.path(IMAGE))).width == 128


def test_a_picture_is_set_upright(inputs: InputImages, media: MediaStore, folder: Path) -> None:
    picture = Image.new("RGB", (60, 40), "blue")
    exif = picture.getexif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    picture.save(folder / "turned.jpg", exif=exif)
    taken = inputs.take(str(folder / "turned.jpg"))
    assert (taken.width, taken.height) == (40, 60)
    assert pixels(media, taken).shape == (60, 40, 3)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_becomes_white(inputs: InputImages, media: MediaStore, folder: Path, mode: str) -> None:
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0)).convert(mode)
    options: dict[str, Any] = {"transparency": 0} if mode == "P" else {}
    clear.save(folder / "clear.png", **options)
    assert (pixels(media, inputs.take(str(folder / "clear.png"))) == 255).all()


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "I;16"])
def test_other_kinds_of_pixels_become_rgb(inputs: InputImages, media: MediaStore, folder: Path, mode: str) -> None:
    Image.new(mode, (20, 20)).save(folder / "other.tif")
    assert pixels(media, inputs.take(str(folder / "other.tif"))).shape == (20, 20, 3)


@pytest.mark.parametrize(("mode", "white"), [("I;16", 65535), ("I", 65535), ("F", 1.0), ("L", 255)])
def test_greys_stay_the_greys_that_they_are(
    inputs: InputImages, media: MediaStore, folder: Path, mode: str, white: float
) -> None:
    ramp = np.linspace(0, white, 400).reshape(20, 20)
    types = {"I;16": np.uint16, "I": np.int32, "F": np.float32, "L": np.uint8}
    Image.fromarray(ramp.astype(types[mode])).save(folder / "ramp.tif")
    taken = pixels(media, inputs.take(str(folder / "ramp.tif")))[..., 0]
    assert np.abs(taken - ramp / white * 255).max() <= 1


def test_a_file_address_is_a_path(inputs: InputImages, folder: Path) -> None:
    Image.new("RGB", (20, 20)).save(folder / "a b.png")
    for address in (f"file://{folder}/a%20b.png", f"file://localhost{folder}/a%20b.png"):
        assert inputs.take(address).width == 20
    with pytest.raises(BadImage, match="on another machine"):
        inputs.take("file://elsewhere/a.png")


def test_two_calls_may_bring_the_same_picture_at_once(inputs: InputImages, folder: Path) -> None:
    Image.effect_noise((500, 500), 90).save(folder / "same.png")
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            taken = list(pool.map(inputs.take, [str(folder / "same.png")] * 8))
            assert len({each.sha256 for each in taken}) == 1
            for file in inputs._media.inputs.iterdir():
                file.unlink()


def test_other_folders_are_refused_with_those_allowed(inputs: InputImages, folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "secret.png"
    Image.new("RGB", (20, 20)).save(outside)
    (folder / "link.png").symlink_to(outside)
    for path in (str(outside), f"{folder}/../secret.png", str(folder / "link.png"), f"file:{outside}"):
        with pytest.raises(BadImage, match="Pictures"):
            inputs.take(path)


def test_a_person_at_the_command_line_may_name_any_file(media: MediaStore, tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    assert InputImages(media, [], 1, 1, any_folder=True).take(str(tmp_path / "a.png")).width == 20


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A PNG of a few bytes that would fill 10 GB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100_000))


def truncated() -> bytes:
    data = encoded(Image.fromarray(noise(1)[0]), "PNG")
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bomb(), "pixels"),
        (bomb(1200, 1000), "the limit is 1 megapixels"),
        (truncated(), "or truncated"),
        (b"", "not a readable image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a readable image"),
        (encoded(Image.new("RGB", (10, 4)), "PNG"), "only 10x4"),
        (b"\0" * 600_000, "600.0 kB; the limit is 500.0 kB"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # not the bytes
)
def test_what_is_no_usable_picture_is_refused_with_the_reason(
    inputs: InputImages, folder: Path, data: bytes, reason: str
) -> None:
    (folder / "file.png").write_bytes(data)
    for source in (str(folder / "file.png"), data_uri(data)):
        with pytest.raises(BadImage, match=reason):
            inputs.take(source)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("data:image/png", "must look like"),
        ("data:image/png,plain", "not a readable image"),
        ("data:image/png;base64,@@@", "not valid base64"),
        ("https://example.org/a.png", "image URLs are not supported"),
        ("a\0b.png", "cannot be read"),
        (IMAGE.uri, "no result"),
    ],
)
def test_sources_that_cannot_be_read_are_refused_with_the_reason(inputs: InputImages, source: str, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        inputs.take(source)


def test_a_missing_file_and_a_wrong_address_are_refused(inputs: InputImages, folder: Path) -> None:
    with pytest.raises(BadImage, match="no file"):
        inputs.take(str(folder / "missing.png"))
    with pytest.raises(BadImage, match="no file"):
        inputs.take(str(folder))
    with pytest.raises(BadRequest, match="is not the wan:// address"):
        inputs.take("wan://images/nothing.png")
