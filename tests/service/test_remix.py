"""Requests made from earlier jobs and from receipts, with changes."""

from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.job_table import video_plan
from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.errors import BadRequest
from wan_mcp.planning.planner import Planner
from wan_mcp.schema.changes import Changes
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.plans import InputImage, LoraPlan
from wan_mcp.schema.requests import CaptionRequest, ImageRequest, Request, VideoRequest
from wan_mcp.service.remix import of_job, of_receipt
from wan_mcp.settings import Settings

CATALOG = Catalog(shipped_folder())
SHA = "ab" * 32
PICTURE = InputImage(sha256=SHA, file=f"media/inputs/{SHA}.png", width=300, height=200, source="/pictures/a.png")
GENERATED = {"image", "last_image", "lora"}


def made(request: Request, home: Path, state: JobState = JobState.SUCCEEDED) -> Job:
    planner = Planner(Settings(home=home), CATALOG)
    plan = planner.plan(request, PICTURE if request.image else None)
    return Job(id="j" * 20, request_id=None, state=state, plan=plan, created_at=1.0)


def remix(request: Request, home: Path, **changes: Any) -> Any:
    return of_job(made(request, home), request, Changes.of(changes), CATALOG, home).request


def test_a_new_seed_changes_nothing_else(tmp_path: Path) -> None:
    request = VideoRequest(prompt="a red fox", seed=5, steps=7, duration_s=1.0, style="noir", negative_prompt=" ")
    job = made(request, tmp_path)
    for seed, wanted in (("new", None), ("NEW", None), ("6", 6), (6, 6)):
        again = of_job(job, request, Changes.of({"seed": seed}), CATALOG, tmp_path).request
        assert again.seed == wanted
        plan = Planner(Settings(home=tmp_path), CATALOG).plan(again)
        assert plan.model_dump(exclude={"seed", "notes"}) == job.plan.model_dump(exclude={"seed", "notes"})


@pytest.mark.parametrize(
    ("request_", "changes"),
    [
        (VideoRequest(prompt="a"), {"prompt": "b", "negative_prompt": "fog", "style": "noir", "steps": 3, "count": 2}),
        (VideoRequest(prompt="a"), {"guidance_scale": 2.0, "num_frames": 9, "resolution": "landscape"}),
        (VideoRequest(prompt="a", image="/pictures/a.png"), {"image": "wan://images/x.png"}),
        (ImageRequest(prompt="a", image="/pictures/a.png"), {"strength": 0.4, "seed": 3, "preset": "draft"}),
        (ImageRequest(prompt="a"), {"lora": [{"name": "x", "path": None, "scale": 0.5, "expert": None}]}),
        (CaptionRequest(image="/pictures/a.png", model="joycaption-beta-one"), {"length": "short"}),
        (CaptionRequest(image="/pictures/a.png", model="joycaption-beta-one"), {"extra_options": ["lighting"]}),
    ],
)
def test_every_parameter_of_every_kind_can_change(request_: Request, changes: dict[str, Any], tmp_path: Path) -> None:
    again = remix(request_, tmp_path, **changes)
    assert type(again) is type(request_)
    assert again.model_dump(mode="json", include=set(changes)) == changes


@pytest.mark.parametrize("source", ["/pictures/a.png", "data URI", f"wan://inputs/{SHA}.png"])
def test_a_client_elsewhere_remixes_no_image_of_another(source: str, tmp_path: Path) -> None:
    request = VideoRequest(prompt="a", image="/pictures/a.png")
    job = made(request, tmp_path)
    job = job.model_copy(
        update={"plan": job.plan.model_copy(update={"image": PICTURE.model_copy(update={"source": source})})}
    )

    def asked(**changes: Any) -> Request:
        return of_job(job, request, Changes.of(changes), CATALOG, tmp_path, elsewhere=True).request

    with pytest.raises(BadRequest, match=f"the image of job {job.id} was not sent by you.*pass image"):
        asked(prompt="b")
    with pytest.raises(BadRequest, match="the image is a path"):
        asked(image="/pictures/b.png")
    assert asked(image="data:image/png;base64,AAAA").image == "data:image/png;base64,AAAA"
    assert of_job(job, request, Changes.of({"prompt": "b"}), CATALOG, tmp_path).request.prompt == "b"


def test_a_client_elsewhere_remixes_results_and_no_lora_by_its_path(tmp_path: Path) -> None:
    picture = PICTURE.model_copy(update={"source": "wan://images/x-0.png"})
    job = made(VideoRequest(prompt="a", image="x"), tmp_path)
    job = job.model_copy(update={"plan": job.plan.model_copy(update={"image": picture})})
    assert of_job(job, None, Changes.of({"seed": "new"}), CATALOG, tmp_path, elsewhere=True).request.image
    lora = LoraPlan(name="mine", file="/private/mine.safetensors", sha256=SHA, scale=1.0, expert=None)
    job = job.model_copy(update={"plan": job.plan.model_copy(update={"lora": (lora,)})})
    with pytest.raises(BadRequest, match=f"the lora of job {job.id} is a path"):
        of_job(job, None, Changes.of({"seed": "new"}), CATALOG, tmp_path, elsewhere=True)


def test_a_length_in_seconds_replaces_one_in_frames_and_the_other_way_round(tmp_path: Path) -> None:
    by_seconds = remix(VideoRequest(prompt="a", num_frames=9), tmp_path, duration_s=2.0)
    assert (by_seconds.duration_s, by_seconds.num_frames) == (2.0, None)
    by_frames = remix(VideoRequest(prompt="a", duration_s=2.0), tmp_path, num_frames=9)
    assert (by_frames.duration_s, by_frames.num_frames) == (None, 9)


def test_own_words_replace_the_type_of_a_caption_and_the_other_way_round(tmp_path: Path) -> None:
    request = CaptionRequest(image="/pictures/a.png", model="joycaption-beta-one", caption_type="descriptive")
    own = remix(request, tmp_path, prompt="count the cats")
    assert (own.prompt, own.caption_type, own.length) == ("count the cats", None, None)
    typed = request.model_copy(update={"caption_type": None, "prompt": "count the cats"})
    again = remix(typed, tmp_path, caption_type="descriptive")
    assert (again.prompt, again.caption_type) == (None, "descriptive")


def test_another_model_fills_the_gaps_with_its_own_values(tmp_path: Path) -> None:
    request = VideoRequest(prompt="a red fox", seed=5, guidance_scale=2.0)
    again = remix(request, tmp_path, model="wan2.2-ti2v-5b")
    assert (again.prompt, again.seed, again.guidance_scale) == ("a red fox", 5, 2.0)
    assert (again.steps, again.resolution, again.num_frames) == (None, None, None)


def test_another_start_image_chooses_the_size_unless_it_was_asked_for(tmp_path: Path) -> None:
    free = remix(VideoRequest(prompt="a", image="/pictures/a.png"), tmp_path, image="/pictures/b.png")
    assert free.resolution is None
    fixed = VideoRequest(prompt="a", image="/pictures/a.png", resolution="landscape")
    assert remix(fixed, tmp_path, image="/pictures/b.png").resolution == "160x96"


def test_the_image_of_the_job_is_used_even_if_its_file_has_changed_since(tmp_path: Path) -> None:
    request = VideoRequest(prompt="a", image="/pictures/a.png")
    job = made(request, tmp_path)
    assert of_job(job, request, Changes.of({"seed": "new"}), CATALOG, tmp_path).images == {}
    (tmp_path / "media" / "inputs").mkdir(parents=True)
    (tmp_path / PICTURE.file).touch()
    assert of_job(job, request, Changes.of({"seed": "new"}), CATALOG, tmp_path).images == {"/pictures/a.png": PICTURE}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"caption_type": "x"}, "no parameter 'caption_type'"),
        ({"seed": "newer"}, "'new' for a random one"),
        ({"seed": -1}, "'new' for a random one"),
        ({"seed": True}, "seed"),
        ({"seed": 2**31}, "2147483647"),
        ({"steps": 0}, "steps"),
        ({"promt": "b"}, "did you mean prompt"),
        ({}, "seed='new'"),
        ({"prompt": "", "seed": None, "lora": [], "count": None}, "seed='new'"),
    ],
)
def test_a_change_that_is_not_allowed_is_refused_with_what_is(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(BadRequest, match=said):
        remix(VideoRequest(prompt="a"), tmp_path, **changes)


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
def test_a_job_without_a_result_runs_again_without_a_change(state: JobState, tmp_path: Path) -> None:
    request = VideoRequest(prompt="a red fox", seed=5)
    job = made(request, tmp_path, state)
    assert of_job(job, request, Changes(), CATALOG, tmp_path).request.seed == 5


def test_a_job_whose_request_is_unreadable_is_made_again_from_its_plan(tmp_path: Path) -> None:
    job = made(VideoRequest(prompt="a red fox", seed=5), tmp_path)
    again = of_job(job, None, Changes.of({"preset": "draft"}), CATALOG, tmp_path).request
    assert (again.kind, getattr(again, "prompt", None), getattr(again, "preset", None)) == (
        "video",
        "a red fox",
        "draft",
    )


# Receipts.


def receipt_of(plan: Any) -> dict[str, Any]:
    """A receipt as engines write it: without places of this machine."""
    places: Any = {"image": {"file", "source"}, "last_image": {"file", "source"}, "lora": {"__all__": {"file"}}}
    return {"request": plan.model_dump(mode="json", exclude=places), "wan_mcp": "0.2.0"}


def test_a_receipt_leads_to_the_same_plan(tmp_path: Path) -> None:
    plan = made(VideoRequest(prompt="a red fox", seed=5, style="noir"), tmp_path).plan
    again = of_receipt(receipt_of(plan), Changes(), CATALOG, tmp_path).request
    planned = Planner(Settings(home=tmp_path), CATALOG).plan(again)
    assert planned.model_dump(exclude={"notes"}) == plan.model_dump(exclude={"notes"})
    changed = of_receipt(receipt_of(plan), Changes.of({"prompt": "a blue fox"}), CATALOG, tmp_path).request
    assert (getattr(changed, "prompt", None), changed.seed) == ("a blue fox", 5)


def test_the_image_of_a_receipt_is_found_by_its_hash_or_asked_for(tmp_path: Path) -> None:
    plan = made(VideoRequest(prompt="a", image="/pictures/a.png"), tmp_path).plan
    with pytest.raises(BadRequest, match="pass image"):
        of_receipt(receipt_of(plan), Changes(), CATALOG, tmp_path)
    other = of_receipt(receipt_of(plan), Changes.of({"image": "/pictures/b.png"}), CATALOG, tmp_path)
    assert other.request.image == "/pictures/b.png"
    (tmp_path / "media" / "inputs").mkdir(parents=True)
    (tmp_path / PICTURE.file).touch()
    again = of_receipt(receipt_of(plan), Changes(), CATALOG, tmp_path)
    assert again.request.image == f"wan://inputs/{SHA}.png"
    assert again.images[again.request.image].sha256 == SHA


@pytest.mark.parametrize(
    "receipt",
    [
        {},
        {"request": "a red fox"},
        {"request": {}},
        {"request": {"kind": "video", "prompt": "a"}},
        {"request": video_plan().model_dump(mode="json") | {"image": {"sha256": "../../../etc/secret", "width": 8}}},
        {"request": video_plan().model_dump(mode="json") | {"width": "wide"}},
    ],
)
def test_a_receipt_of_another_program_is_refused_and_leads_nowhere(receipt: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="receipt"):
        of_receipt(receipt, Changes(), CATALOG, tmp_path)
