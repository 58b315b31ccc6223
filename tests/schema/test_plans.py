"""Plans: what all kinds are asked alike, and how they are stored, which a home of an earlier version relies on."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from wan_mcp.jobs.database import Database
from wan_mcp.jobs.store import JobStore
from wan_mcp.schema.plans import CaptionPlan, ImagePlan, Plan, Shape, VideoPlan

# As 0.1.0 wrote them.
PICTURE = (
    '{"sha256":"abababababababababababababababababababababababababababababababab","file":"media/inputs/abab.png",'
    '"width":640,"height":480,"source":"/home/ann/Pictures/cat.png"}'
)
VIDEO = (
    '{"task":"first-last-frame-to-video","model":"wan2.2-i2v-a14b","preset":"best","prompt":"film noir, rain",'
    '"prompt_asked":"rain","negative_prompt":"blurry","style":"noir","lora":[{"name":"rain",'
    '"file":"/home/ann/rain.safetensors","sha256":"efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefef",'
    '"scale":0.8,"expert":"low"}],"width":832,"height":480,"steps":40,"guidance_scale":3.5,"turbo":true,'
    '"step_cache":{"threshold":0.1},"precision":"full","tokens":32760,"even_at":14300,"seed":7,"count":2,'
    f'"image":{PICTURE},"notes":["a note"],"kind":"video","num_frames":81,"fps":16.0,"duration_s":5.062,'
    f'"guidance_scale_2":3.0,"last_image":{PICTURE}}}'
)
IMAGE = (
    '{"task":"image-to-image","model":"wan-mini","preset":null,"prompt":"a red circle","prompt_asked":"a red circle",'
    '"negative_prompt":"","style":null,"lora":[],"width":128,"height":128,"steps":12,"guidance_scale":1.0,'
    '"turbo":false,"step_cache":null,"precision":"auto","tokens":null,"even_at":null,"seed":3,"count":1,'
    f'"image":{PICTURE},"notes":[],"kind":"image","strength":0.6}}'
)
CAPTION = (
    f'{{"kind":"caption","task":"image-to-text","model":"wan-mini-caption","image":{PICTURE},"caption_type":null,'
    '"length":null,"prompt":null,"max_new_tokens":64,"extra_options":[],"seed":5,"notes":[]}'
)
STORED = [
    pytest.param(VIDEO, VideoPlan, id="video"),
    pytest.param(IMAGE, ImagePlan, id="image"),
    pytest.param(CAPTION, CaptionPlan, id="caption"),
]


def read(stored: str) -> Plan:
    plan: Plan = TypeAdapter(Plan).validate_json(stored)
    return plan


@pytest.mark.parametrize(("stored", "kind"), STORED)
def test_a_plan_is_stored_to_the_byte_as_it_was_by_0_1_0(stored: str, kind: type) -> None:
    plan = read(stored)
    assert type(plan) is kind
    assert plan.model_dump_json() == stored


@pytest.mark.parametrize(("stored", "kind"), STORED)
def test_a_job_that_0_1_0_put_into_the_table_is_read(tmp_path: Path, stored: str, kind: type) -> None:
    database = Database(tmp_path / "jobs.db")
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as table, table:
        table.execute(
            "INSERT INTO jobs (id, request, state, plan, created_at) VALUES ('j', '{}', 'queued', ?, 1)", (stored,)
        )
    try:
        assert JobStore(database).get("j").plan == read(stored)
    finally:
        database.close()


def test_every_plan_says_how_much_it_makes_and_of_what_size() -> None:
    video, image, caption = read(VIDEO), read(IMAGE), read(CAPTION)
    assert (video.count, video.frames, video.shape) == (2, 81, Shape(832, 480, 81))
    assert (image.count, image.frames, image.shape) == (1, 1, Shape(128, 128))
    assert (caption.count, caption.frames, caption.shape) == (1, 1, None)


def test_an_image_after_an_image_starts_part_of_the_way() -> None:
    assert read(VIDEO).steps_run == 40
    image = read(IMAGE)
    assert image.steps_run == 7
    assert isinstance(image, ImagePlan)
    for strength, steps in ((None, 12), (0.0, 1), (1.0, 12)):
        assert image.model_copy(update={"strength": strength}).steps_run == steps


def test_the_negative_prompt_is_read_only_where_there_is_guidance() -> None:
    video, image = read(VIDEO), read(IMAGE)
    assert isinstance(video, VideoPlan) and isinstance(image, ImagePlan)
    assert video.texts == {"prompt": "film noir, rain", "negative_prompt": "blurry"}
    assert image.texts == {"prompt": "a red circle"}


def test_what_a_caption_never_has_is_said_and_cannot_be_given() -> None:
    caption = read(CAPTION)
    assert (caption.style, caption.prompt_asked, caption.step_cache) == (None, None, None)
    assert (caption.precision, caption.turbo, caption.steps_run) == ("auto", False, 1)
    with pytest.raises(ValidationError, match="count"):
        CaptionPlan.model_validate(caption.model_dump() | {"count": 2})


def test_a_size_is_told_with_its_frames() -> None:
    assert str(Shape(1280, 720, 81)) == "1280x720 with 81 frames"
    assert str(Shape(1280, 720)) == "1280x720"
