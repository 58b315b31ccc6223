"""A caption of a video is of several frames, where the captioner can look at them together."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.support.videos import encode
from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.media.store import MediaStore
from wan_mcp.schema.plans import CaptionPlan
from wan_mcp.schema.requests import CaptionRequest
from wan_mcp.service.admission import Admission
from wan_mcp.service.repeatable_request import repeatable_request
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

QWEN, EMBEDDED = "qwen3-vl-2b", "wan-mini-caption"


def fading(count: int) -> NDArray[np.uint8]:
    """Frames that become brighter."""
    return np.stack([np.full((64, 96, 3), 20 + 12 * index, np.uint8) for index in range(count)])


async def plan_of(home: Path, image: Path, model: str, *, keep: bool = True, **asked: Any) -> CaptionPlan:
    settings, catalog = Settings(home=home, device="cpu"), Catalog(shipped_folder())
    admission = Admission(settings, catalog, MediaStore(home), any_image_folder=True)
    request = CaptionRequest(image=str(image), model=model, **asked)
    plan = await (admission.settle(request, None) if keep else admission.look(request))
    assert isinstance(plan, CaptionPlan)
    return plan


@pytest.mark.parametrize(
    ("length", "wanted"),
    [(1, [0]), (2, [0, 1]), (5, [0, 1, 2, 3, 4]), (15, [0, 2, 4, 6, 8, 10, 12, 14]), (17, [0, 2, 5, 7, 9, 11, 14, 16])],
)
async def test_frames_are_taken_evenly_from_the_first_to_the_last(
    length: int, wanted: list[int], tmp_path: Path
) -> None:
    clip = encode(tmp_path / "clip.mp4", fading(length))
    plan = await plan_of(tmp_path / "home", clip, QWEN)
    pictures = [plan.image, *plan.more_frames]
    assert [each.frame for each in pictures] == wanted
    levels = [_level(tmp_path / "home" / each.file) for each in pictures]
    assert levels == sorted(levels)
    [note] = [note for note in plan.notes if "of the video" in note]
    assert note.startswith(f"image: {len(wanted)} frames" if len(wanted) > 1 else "image: frame 0")


async def test_a_look_has_the_same_plan_and_keeps_nothing(tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.mp4", fading(9))
    looked = await plan_of(tmp_path / "nowhere", clip, QWEN, keep=False)
    assert not (tmp_path / "nowhere").exists()
    assert looked == await plan_of(tmp_path / "home", clip, QWEN)


@pytest.mark.parametrize(
    ("model", "asked"), [(EMBEDDED, {}), (QWEN, {"frame": "last"}), (QWEN, {"frame": "3"}), (EMBEDDED, {"frame": "3"})]
)
async def test_one_frame_is_looked_at_where_one_is_named_or_no_more_can_be(
    model: str, asked: dict[str, Any], tmp_path: Path
) -> None:
    clip = encode(tmp_path / "clip.mp4", fading(9))
    plan = await plan_of(tmp_path / "home", clip, model, **asked)
    assert plan.more_frames == ()
    assert any("of the video is used" in note for note in plan.notes)
    assert "more_frames" not in plan.model_dump()


async def test_a_picture_is_one_picture(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "picture.png")
    assert (await plan_of(tmp_path / "home", tmp_path / "picture.png", QWEN)).more_frames == ()


async def test_the_request_of_such_a_caption_leads_to_the_same_frames(tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.mp4", fading(9))
    plan = await plan_of(tmp_path / "home", clip, QWEN)
    words = repeatable_request(plan, Catalog(shipped_folder()).get(QWEN), tmp_path / "home")
    assert "frame" not in words
    assert words["image"] == str(clip)


def _level(file: Path) -> int:
    with Image.open(file) as picture:
        return int(picture.convert("L").resize((1, 1)).getpixel((0, 0)))  # type: ignore[arg-type]
