"""Requests become plans: gaps filled, values checked at the door, nothing changed in silence."""

import math
from pathlib import Path
from typing import Any

import pytest

from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.errors import BadRequest, BrokenManifest, UnknownModel
from wan_mcp.planning.planner import Planner
from wan_mcp.schema.enums import Task
from wan_mcp.schema.parameters import MAX_SEED
from wan_mcp.schema.plans import CaptionPlan, ImagePlan, InputImage, VideoPlan
from wan_mcp.schema.requests import CaptionRequest, ImageRequest, VideoRequest
from wan_mcp.settings import Settings

TWO_EXPERTS = """
schema = 1
name = "two-experts"
title = "Two experts"
summary = "A model with everything."
tasks = ["text-to-video", "image-to-video", "first-last-frame-to-video"]
licence = { id = "Apache-2.0" }
weights = { repository = "someone/model", disk_bytes = 1 }
frames = { multiple = 4, minimum = 5, maximum = 121, default = 81, fps = 16 }
sizes = { multiple = 16, default = "480p", free = true, max_pixels = 921_600, named = [
  { name = "480p", width = 832, height = 480 }, { name = "720p", width = 1280, height = 720 } ] }

[pipeline]
family = "wan"
boundary_ratio = 0.9
experts = [{ name = "high", subfolder = "transformer" },
           { name = "low", subfolder = "transformer_2" }]

[defaults]
guidance_scale = 4.0
guidance_scale_2 = 3.0
"""

CAPTIONER = """
schema = 1
name = "captioner"
title = "Captioner"
summary = "Has types and lengths."
tasks = ["image-to-text"]
licence = { id = "MIT" }
weights = { repository = "someone/captioner", disk_bytes = 1 }
pipeline = { family = "blip" }

[caption]
free_prompt = true
types = { descriptive = "Write a {length} description.", tags = "List tags." }
lengths = { any = "detailed", short = "short" }
"""


def picture(width: int, height: int) -> InputImage:
    return InputImage(sha256="0" * 64, file="media/inputs/0.png", width=width, height=height, source="data URI")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "two-experts.toml").write_text(TWO_EXPERTS, encoding="utf-8")
    (folder / "captioner.toml").write_text(CAPTIONER, encoding="utf-8")
    return tmp_path


@pytest.fixture
def planner(home: Path) -> Planner:
    return Planner(Settings(home=home), Catalog.of(home))


def video(planner: Planner, image: InputImage | None = None, last: InputImage | None = None, **asked: Any) -> VideoPlan:
    asked.setdefault("prompt", "a red circle moving left")
    request = VideoRequest.of(asked | {"image": "x" if image else None, "last_image": "y" if last else None})
    plan = planner.plan(request, image, last)
    assert isinstance(plan, VideoPlan)
    return plan


def still(planner: Planner, image: InputImage | None = None, **asked: Any) -> ImagePlan:
    plan = planner.plan(ImageRequest(prompt="a star", image="x" if image else None, **asked), image)
    assert isinstance(plan, ImagePlan)
    return plan


def caption(planner: Planner, **asked: Any) -> CaptionPlan:
    plan = planner.plan(CaptionRequest(image="x", model="captioner", **asked), picture(64, 64))
    assert isinstance(plan, CaptionPlan)
    return plan


def test_every_gap_is_filled_from_the_manifest(planner: Planner) -> None:
    plan = video(planner, seed=5)
    defaults = Catalog(shipped_folder()).get("wan-mini")
    assert defaults.frames is not None
    assert (plan.model, plan.task, plan.width, plan.height) == ("wan-mini", Task.TEXT_TO_VIDEO, 128, 128)
    assert (plan.steps, plan.guidance_scale) == (defaults.defaults.steps, defaults.defaults.guidance_scale)
    assert (plan.num_frames, plan.fps, plan.duration_s) == (17, 8, 2.125)
    assert plan.notes == ()


@pytest.mark.parametrize(
    "asked", [{"num_frames": 16}, {"num_frames": 1}, {"num_frames": 10**9}, {"duration_s": 0.1}, {"duration_s": 1e9}]
)
def test_a_length_that_is_not_allowed_is_refused_with_the_range_in_frames_and_in_seconds(
    planner: Planner, asked: dict[str, Any]
) -> None:
    with pytest.raises(BadRequest, match=r"'wan-mini': 4k\+1, 5 to 33 frames at 8 fps \(0\.625 to 4\.125 s\)"):
        video(planner, **asked)


def test_a_seed_is_drawn_when_none_is_given_and_kept_when_one_is(planner: Planner) -> None:
    assert len({video(planner).seed for _ in range(8)}) > 1
    assert video(planner, seed=123).seed == 123


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ({"prompt": "  "}, "prompt is empty"),
        ({"prompt": "x" * 100_000}, "100000 characters long; the limit is 2000"),
        ({"negative_prompt": "x" * 100_000}, "negative_prompt is 100000"),
        ({"resolution": "4k"}, r"square \(128x128\)"),
        ({"resolution": "130x128"}, r"square \(128x128\)"),
        ({"num_frames": 16}, "the nearest is 17"),
        ({"num_frames": 37}, "5 to 33"),
        ({"num_frames": 1}, "5 to 33"),
        ({"num_frames": -3}, "num_frames: .* greater than or equal to 1, not -3"),
        ({"duration_s": 60.0}, "duration_s 60"),
        ({"duration_s": 0.1}, "duration_s 0.1"),
        ({"duration_s": math.nan}, "duration_s: .* greater than 0, not nan"),
        ({"duration_s": 2.0, "num_frames": 17}, "exclude each other"),
        ({"steps": 0}, "steps: .* greater than or equal to 1, not 0"),
        ({"steps": 51}, "1 to 50"),
        ({"guidance_scale": 0.5}, "1 to 12"),
        ({"guidance_scale": math.inf}, "1 to 12"),
        ({"guidance_scale_2": 3.0}, "one expert"),
        ({"seed": -1}, r"seed: .* greater than or equal to 0 \(omit seed for a random one\), not -1"),
        ({"seed": "-1"}, r"omit seed for a random one\), not -1$"),
        ({"seed": 2**31 - 1, "count": 2}, "with count 2, .* it must be 0 to 2147483646. Omit seed for a random one"),
        ({"seed": 10**400}, "not 1e400"),
        ({"steps": 10**400}, "steps 1e400 is not allowed; it must be 1 to 50"),
        ({"steps": -(10**5000)}, "not -1e5000"),
        ({"steps": 10_000_001}, "steps 10000001 is not"),
        ({"count": 10**400}, "count 1e400"),
        ({"num_frames": 10**400}, "num_frames 1e400 .* the nearest is 33"),
        ({"duration_s": 1e308}, r"duration_s 1e\+308"),
        ({"duration_s": -0.0}, "greater than 0, not 0$"),
        ({"guidance_scale": -math.inf}, "not -inf"),
        ({"seed": 2**31}, "seed: .* less than or equal to 2147483647"),
        ({"count": 0}, "count: .* greater than or equal to 1, not 0"),
        ({"count": 9}, "1 to 8"),
        ({"style": "baroque"}, "cinematic"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_with_the_allowed_ones(
    planner: Planner, asked: dict[str, Any], hint: str
) -> None:
    with pytest.raises(BadRequest, match=hint):
        video(planner, **asked)


def test_an_unknown_model_is_refused_with_the_known_ones(planner: Planner) -> None:
    with pytest.raises(UnknownModel, match="wan-mini"):
        video(planner, model="sora")


def test_a_model_that_cannot_do_the_task_is_refused_with_those_that_can(planner: Planner) -> None:
    with pytest.raises(BadRequest, match="models that do: two-experts"):
        video(planner, image=picture(64, 64), last=picture(64, 64))
    with pytest.raises(BadRequest, match="does not do text-to-image"):
        still(planner, model="two-experts")


def test_a_duration_is_fitted_to_the_frame_rule_and_the_result_says_so(planner: Planner) -> None:
    plan = video(planner, duration_s=2.0)
    assert plan.num_frames == 17
    assert plan.notes == ("duration 2 s became 2.125 s: 17 frames at 8 fps (frames follow 4k+1, 5 to 33)",)
    assert video(planner, duration_s=2.125).notes == ()


def test_a_style_changes_the_prompt_and_shows_both(planner: Planner) -> None:
    plan = video(planner, style="watercolour")
    assert plan.prompt_asked == "a red circle moving left"
    assert plan.prompt.startswith("a red circle moving left, watercolour")


def test_a_style_keeps_braces_in_the_prompt(planner: Planner) -> None:
    assert video(planner, prompt="a {star}", style="noir").prompt.startswith("a {star},")


@pytest.mark.parametrize(
    ("source", "size", "note"),
    [
        (picture(300, 300), (128, 128), "image 300x300 scaled to 128x128"),
        (picture(320, 192), (160, 96), "resolution 'landscape' chosen"),
        (picture(90, 160), (96, 160), "cropped to 96x160 (0 px of width, 11 px of height lost)"),
    ],
)
def test_the_size_follows_the_picture_and_the_result_says_what_was_cropped(
    planner: Planner, source: InputImage, size: tuple[int, int], note: str
) -> None:
    plan = video(planner, image=source)
    assert (plan.width, plan.height) == size
    assert note in " ".join(plan.notes)


def test_a_picture_of_the_very_size_is_left_alone(planner: Planner) -> None:
    assert video(planner, image=picture(128, 128)).notes == ()


@pytest.mark.parametrize("source", [picture(4000, 3000), picture(300, 4000), picture(1000, 1000), picture(9000, 100)])
def test_free_sizes_follow_the_aspect_within_the_area_in_multiples(planner: Planner, source: InputImage) -> None:
    plan = video(planner, image=source, model="two-experts")
    assert plan.width % 16 == plan.height % 16 == 0
    assert plan.width * plan.height <= 832 * 480
    wanted = min(max(source.width / source.height, 0.25), 4)
    assert plan.width / plan.height == pytest.approx(wanted, rel=0.1)


def test_a_size_may_be_named_in_pixels(planner: Planner) -> None:
    assert video(planner, resolution="96x160").width == 96
    free = video(planner, resolution="640 x 640", model="two-experts")
    assert (free.width, free.height) == (640, 640)
    with pytest.raises(BadRequest, match="multiples of 16"):
        video(planner, resolution="650x640", model="two-experts")
    with pytest.raises(BadRequest, match="921600 pixels"):
        video(planner, resolution="1600x1600", model="two-experts")


@pytest.mark.parametrize(
    "written",
    [
        *("1280*720", "1280×720", "1280X720", "1280 x 720", "1280,720", "1280:720", "[1280, 720]", "(1280 720)"),
        *("1280 by 720", "1280px x 720px", "720p", "720P", "720p (1280x720)", [1280, 720], [1280.0, 720]),
    ],
)
def test_a_size_is_understood_as_people_and_other_programs_write_it(planner: Planner, written: Any) -> None:
    plan = video(planner, resolution=written, model="two-experts")
    assert (plan.width, plan.height) == (1280, 720)


@pytest.mark.parametrize(
    "written",
    [
        "square (128x128)",
        "square 128x128",
        "square, 128*128",
        "Square: 128 by 128",
        "SQUARE",
        "Square(128 × 128)",
        "square: [128, 128]",
    ],
)
def test_a_size_is_understood_as_a_refusal_lists_it(planner: Planner, written: str) -> None:
    assert video(planner, resolution=written).width == 128


def test_a_number_of_lines_follows_the_aspect_of_the_image(planner: Planner) -> None:
    for source, size in ((None, (1280, 720)), (picture(90, 160), (720, 1280)), (picture(64, 64), (960, 960))):
        model = "wan2.2-t2v-a14b" if source is None else "wan2.2-i2v-a14b"
        plan = video(planner, image=source, resolution="720p", model=model)
        assert (plan.width, plan.height) == size


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("16:9", "'16:9' is an aspect ratio"),
        ("0x0", "resolution 0x0 is not allowed"),
        ("landscape 128x128", "no resolution 'landscape 128x128'"),
        ("square (1x1)", "no resolution"),
        ("1080p", "no resolution '1080p'"),
        ("128x128x3", "no resolution"),
        ("9" * 10**6 + "x9", "no resolution '9{59}…'"),
        ("a\nb\x1b[2J", r"no resolution 'a\\nb\\x1b\[2J'"),
    ],
)
def test_what_is_not_a_size_is_refused_with_those_that_are(planner: Planner, written: str, reason: str) -> None:
    with pytest.raises(BadRequest, match=f"{reason}.*" + r"available: square \(128x128\)"):
        video(planner, resolution=written)


def test_every_result_has_a_seed_that_can_be_asked_for(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.randbelow", lambda limit: limit - 1)  # the largest that can be drawn
    for count in (1, 8):
        plan = video(planner, count=count)
        assert plan.seed + count - 1 == MAX_SEED
        assert video(planner, seed=plan.seed, count=count).seed == plan.seed


def test_two_experts_have_two_guidance_scales(planner: Planner) -> None:
    plan = video(planner, model="two-experts", image=picture(64, 64), last=picture(64, 64), guidance_scale_2=2.0)
    assert (plan.guidance_scale, plan.guidance_scale_2) == (4.0, 2.0)
    assert plan.task is Task.FIRST_LAST_FRAME_TO_VIDEO
    assert video(planner, model="two-experts").guidance_scale_2 == 3.0


def test_a_last_image_needs_a_first_one(planner: Planner) -> None:
    with pytest.raises(BadRequest, match="needs image"):
        planner.plan(VideoRequest(prompt="x", last_image="y", model="two-experts"), None, picture(64, 64))


def test_strength_needs_a_picture(planner: Planner) -> None:
    with pytest.raises(BadRequest, match="strength needs image"):
        still(planner, strength=0.5)
    assert still(planner, picture(128, 128), strength=0.5).strength == 0.5
    assert still(planner, picture(128, 128)).task is Task.IMAGE_TO_IMAGE


def test_a_captioner_is_asked_by_type_length_or_in_free_words(planner: Planner) -> None:
    assert caption(planner).prompt == "Write a detailed description."
    assert caption(planner, length="short").prompt == "Write a short description."
    assert caption(planner, caption_type="tags").prompt == "List tags."
    assert caption(planner, prompt="How many stars?").prompt == "How many stars?"
    with pytest.raises(BadRequest, match="descriptive, tags"):
        caption(planner, caption_type="poem")


def test_the_embedded_captioner_takes_no_types_and_says_so(planner: Planner) -> None:
    request = CaptionRequest(image="x", caption_type="tags")
    with pytest.raises(BadRequest, match="it has none; omit it"):
        planner.plan(request, picture(64, 64))


@pytest.mark.parametrize(
    ("instead_of_title", "says"),
    [
        ("titel =", "unknown key 'titel'"),
        ("deep = " + "[" * 5000 + "\ntitle =", "nested too deeply"),
        ("long = " + "1" * 5000 + "\ntitle =", "4300 digits"),
    ],
    ids=["unknown", "deep", "long"],
)
def test_a_broken_manifest_names_file_and_fault_and_costs_only_its_own_model(
    home: Path, instead_of_title: str, says: str
) -> None:
    file = home / "manifests" / "two-experts.toml"
    file.write_text(TWO_EXPERTS.replace("title =", instead_of_title), encoding="utf-8")
    planner = Planner(Settings(home=home), Catalog.of(home))
    assert video(planner).model == "wan-mini"
    with pytest.raises(BrokenManifest, match=rf"two-experts\.toml.*{says}"):
        video(planner, model="two-experts")


def test_a_users_manifest_replaces_ours_of_the_same_name(home: Path) -> None:
    ours = (shipped_folder() / "wan-mini.toml").read_text(encoding="utf-8")
    theirs = home / "manifests" / "wan-mini.toml"
    theirs.write_text(ours.replace('title = "Wan mini"', 'title = "My own"'), encoding="utf-8")
    assert Catalog.of(home).get("wan-mini").title == "My own"


@pytest.mark.parametrize("file", sorted(shipped_folder().glob("wan-*.toml")), ids=lambda file: file.stem)
def test_a_shipped_manifest_is_valid_and_named_as_its_file(file: Path) -> None:
    assert Catalog(shipped_folder()).get(file.stem).name == file.stem
