"""A frame of a video as an input image: the one that was meant, within bounds, whatever the file is."""

import base64
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.fixtures.media import VIDEO
from tests.support.videos import CODECS, encode, greys, write_video
from wan_mcp.errors import BadImage
from wan_mcp.media import ffmpeg, video_frames
from wan_mcp.media.ingest import InputImages
from wan_mcp.media.store import MediaStore
from wan_mcp.schema.plans import InputImage


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`clip(ending)`: a video of greys, made once."""
    folder = tmp_path_factory.mktemp("clips")

    def made(ending: str) -> Path:
        file = folder / f"clip.{ending}"
        return file if file.exists() else encode(file, greys())

    return made


def shade(media: MediaStore, taken: InputImage) -> int:
    """Which of the greys a picture is."""
    pixels = np.asarray(Image.open(media.home / taken.file)).astype(float)
    assert pixels.shape == (64, 96, 3)
    return round((float(pixels.mean()) - 20) / 30)


@pytest.mark.parametrize("ending", CODECS)
@pytest.mark.parametrize(("frame", "index"), [("first", 0), ("last", 6), ("3", 3), ("-2", 5), ("0", 0), ("-7", 0)])
def test_the_frame_that_is_named_is_taken_of_videos_of_all_common_formats(
    media: MediaStore, folder: Path, clip: Callable[[str], Path], ending: str, frame: str, index: int
) -> None:
    inputs = InputImages(media, [clip(ending).parent], 0.5, 1)
    notes: list[str] = []
    taken = inputs.take(str(clip(ending)), notes, frame)
    assert (shade(media, taken), taken.frame, taken.source) == (index, index, str(clip(ending)))
    assert any(note.startswith(f"frame {index}") for note in notes), notes


def test_a_video_may_come_in_every_way_that_an_image_does(
    inputs: InputImages, media: MediaStore, folder: Path, clip: Callable[[str], Path]
) -> None:
    write_video(media, VIDEO, greys(), 8, {}, 1)
    data = clip("mp4").read_bytes()
    (folder / "a clip.mp4").write_bytes(data)
    (folder / "no ending").write_bytes(data)
    ways = [
        VIDEO.uri,
        str(media.path(VIDEO)),
        str(folder / "a clip.mp4"),
        f"file://{folder}/a%20clip.mp4",
        str(folder / "no ending"),
        f"data:video/mp4;base64,{base64.b64encode(data).decode()}",
        f"data:;base64,{base64.b64encode(clip('webm').read_bytes()).decode()}",
    ]
    assert [shade(media, inputs.take(way, [], "4")) for way in ways] == [4] * len(ways)
    assert shade(media, inputs.take_data(data, [], "-1")) == 6


def test_without_a_frame_the_default_is_taken_and_said(
    inputs: InputImages, media: MediaStore, folder: Path, clip: Callable[[str], Path]
) -> None:
    (folder / "a.mp4").write_bytes(clip("mp4").read_bytes())
    for default, index in (("first", 0), ("last", 6)):
        notes: list[str] = []
        assert shade(media, inputs.take(str(folder / "a.mp4"), notes, None, default)) == index
        assert notes == [f"frame {index} (the {default}) of the video is used"]


def test_the_first_frame_of_a_result_is_kept_apart_and_the_others_are_decoded(
    inputs: InputImages, media: MediaStore
) -> None:
    write_video(media, VIDEO, greys(), 8, {}, 1)
    media.path(VIDEO).unlink()
    assert shade(media, inputs.take(VIDEO.uri)) == 0
    with pytest.raises(BadImage, match="may have been deleted"):
        inputs.take(VIDEO.uri, [], "last")


@pytest.mark.parametrize(
    ("count", "frame", "range_"),
    [
        (7, "7", "it has 7 frames: 0 to 6, or from the end -7 to -1"),
        (7, "-8", "it has 7 frames: 0 to 6, or from the end -7 to -1"),
        (7, "999999999", "it has 7 frames: 0 to 6"),
        (1, "1", "it has one frame: 0"),
    ],
)
def test_a_frame_that_is_not_there_is_refused_with_those_that_are(
    inputs: InputImages, folder: Path, count: int, frame: str, range_: str
) -> None:
    file = encode(folder / "a.mp4", greys(count))
    with pytest.raises(BadImage, match=range_):
        inputs.take(str(file), [], frame)


@pytest.mark.parametrize("form", ["PNG", "GIF", "WEBP"])
def test_a_frame_of_what_is_not_a_video_is_refused(inputs: InputImages, folder: Path, form: str) -> None:
    first, *rest = (Image.fromarray(frame) for frame in greys(3))
    first.save(folder / "a.mp4", form, **({} if form == "PNG" else {"save_all": True, "append_images": rest}))
    assert inputs.take(str(folder / "a.mp4")).frame is None
    with pytest.raises(BadImage, match=r"the image is not a video \(supported: MP4, MOV, WebM, MKV, AVI\)"):
        inputs.take(str(folder / "a.mp4"), [], "last")


def test_a_video_that_lies_on_its_side_is_set_upright(inputs: InputImages, media: MediaStore, folder: Path) -> None:
    encode(folder / "flat.mp4", greys(2))
    turned = ["-v", "error", "-display_rotation", "90", "-i", str(folder / "flat.mp4"), "-c", "copy"]
    assert ffmpeg.run(*turned, "-y", str(folder / "turned.mp4")).returncode == 0
    taken = inputs.take(str(folder / "turned.mp4"), [], "last")
    assert (taken.width, taken.height) == (64, 96)


def hostile(name: str, clip: bytes) -> bytes:
    """A file that calls itself a video."""
    at = clip.index(b"moov")
    return {
        "head only": clip[:16],
        "cut in the middle": clip[: len(clip) // 2],
        "nonsense": clip[:16] + bytes(range(256)) * 40,
        "no end of an atom": struct.pack(">I", 0) + clip[4:],
        "broken index": clip[: at + 8] + b"\xff" * 400 + clip[at + 408 :],
        "empty matroska": b"\x1a\x45\xdf\xa3" + bytes(64),
        "empty avi": b"RIFF\xff\xff\xff\xffAVI LIST" + bytes(64),
        "playlist in front": b"\0\0\0\x18ftyp#EXTM3U\nfile:///etc/passwd\n",
    }[name]


@pytest.mark.parametrize(
    "name",
    [
        *("head only", "cut in the middle", "nonsense", "no end of an atom", "broken index", "empty matroska"),
        *("empty avi", "playlist in front"),
    ],
)
def test_a_broken_video_is_refused_in_words(
    inputs: InputImages, folder: Path, clip: Callable[[str], Path], name: str
) -> None:
    (folder / "a.mp4").write_bytes(hostile(name, clip("mp4").read_bytes()))
    with pytest.raises(BadImage, match=r"^the video (has no|needs)|^the decoder failed"):
        inputs.take(str(folder / "a.mp4"), [], "last")


@pytest.mark.parametrize("list_", ["#EXTM3U\n#EXTINF:1,\n{}\n", "ffconcat version 1.0\nfile '{}'\n"])
def test_a_list_that_names_other_files_is_not_a_video(
    inputs: InputImages, folder: Path, tmp_path: Path, clip: Callable[[str], Path], list_: str
) -> None:
    outside = tmp_path / "secret.mp4"
    outside.write_bytes(clip("mp4").read_bytes())
    (folder / "a.mp4").write_text(list_.format(outside), encoding="utf-8")
    with pytest.raises(BadImage, match="not a readable image"):
        inputs.take(str(folder / "a.mp4"))


def test_a_video_outside_the_allowed_folders_is_refused_unread(
    inputs: InputImages, tmp_path: Path, clip: Callable[[str], Path]
) -> None:
    (tmp_path / "a.mp4").write_bytes(clip("mp4").read_bytes())
    with pytest.raises(BadImage, match="outside the allowed folders"):
        inputs.take(str(tmp_path / "a.mp4"), [], "last")


def test_frames_of_too_many_pixels_are_refused_before_they_are_decoded(inputs: InputImages, folder: Path) -> None:
    encode(folder / "a.mp4", greys(1, 1280, 1024))
    with pytest.raises(BadImage, match=r"the video has 1280x1024 pixels; the limit is 1 megapixels"):
        inputs.take(str(folder / "a.mp4"), [], "last")


def test_a_decoder_that_would_take_too_much_memory_or_time_is_ended(
    inputs: InputImages, folder: Path, clip: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.mp4").write_bytes(clip("mp4").read_bytes())
    with monkeypatch.context() as patch, pytest.raises(BadImage, match="takes more than 0 s to decode"):
        patch.setattr(video_frames, "DECODE_S", 0.0)
        inputs.take(str(folder / "a.mp4"), [], "last")
    with monkeypatch.context() as patch, pytest.raises(BadImage, match=r"too much memory|has no"):
        patch.setattr(video_frames, "MEMORY_BYTES", 1_000_000)
        inputs.take(str(folder / "a.mp4"), [], "last")


def test_a_video_leaves_no_file_and_no_process(
    inputs: InputImages, media: MediaStore, folder: Path, clip: Callable[[str], Path]
) -> None:
    taken = inputs.take_data(clip("mp4").read_bytes(), [], "last")
    assert [file.name for file in media.inputs.iterdir()] == [Path(taken.file).name]
