"""The request that a result reports leads to the same plan, whatever the model, the task and the preset."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.planning.planner import Planner
from wan_mcp.schema.enums import Kind, Task
from wan_mcp.schema.plans import InputImage, Plan
from wan_mcp.schema.requests import CaptionRequest, ImageRequest, Request, VideoRequest
from wan_mcp.service.repeatable_request import repeatable_request
from wan_mcp.settings import Settings

CATALOG = Catalog(shipped_folder())
INTERNAL = {"tokens", "even_at", "step_cache", "precision", "sha256", "file", "prompt_asked", "max_new_tokens", "task"}
PICTURE = InputImage(sha256="0" * 64, file="media/inputs/0.png", width=300, height=200, source="/pictures/a.png")


def asked() -> Iterator[tuple[str, Request]]:
    """A request for each model, task and preset."""
    for manifest in CATALOG.manifests.values():
        for task in manifest.tasks:
            for preset in (None, *manifest.presets):
                image = None if task in (Task.TEXT_TO_VIDEO, Task.TEXT_TO_IMAGE) else "/pictures/a.png"
                common = {"model": manifest.name, "prompt": " a star ", "image": image, "preset": preset}
                match task.kind:
                    case Kind.CAPTION:
                        yield f"{manifest.name}-{task}", CaptionRequest(image="/pictures/a.png", model=manifest.name)
                    case Kind.IMAGE:
                        yield f"{manifest.name}-{task}-{preset}", ImageRequest(**common, style="noir", count=2)
                    case Kind.VIDEO:
                        last = image if task is Task.FIRST_LAST_FRAME_TO_VIDEO else None
                        words = common | {"last_image": last, "negative_prompt": " " if preset else "fog"}
                        yield f"{manifest.name}-{task}-{preset}", VideoRequest(**words)


def planned(planner: Planner, request: Request) -> Plan:
    last = PICTURE if isinstance(request, VideoRequest) and request.last_image else None
    return planner.plan(request, PICTURE if request.image else None, last)


@pytest.mark.parametrize("request_", [each for _, each in asked()], ids=[name for name, _ in asked()])
def test_a_reported_request_leads_to_the_same_plan(request_: Request, tmp_path: Path) -> None:
    planner = Planner(Settings(home=tmp_path), CATALOG)
    plan = planned(planner, request_)
    reported = repeatable_request(plan, CATALOG.manifests[plan.model], tmp_path)
    assert not INTERNAL & reported.keys()
    again = planned(planner, type(request_).of(reported))
    ignored = {"notes", "task"} if request_.kind is Kind.CAPTION else {"notes"}
    assert again.model_dump(exclude=ignored) == plan.model_dump(exclude=ignored)


def test_the_callers_own_words_are_reported_and_the_manifests_are_not(tmp_path: Path) -> None:
    planner = Planner(Settings(home=tmp_path), CATALOG)
    name = next(m.name for m in CATALOG.manifests.values() if m.caption and m.caption.free_prompt and m.caption.options)
    spec = CATALOG.manifests[name].caption
    assert spec is not None
    option = next(each for each in spec.listed_options() if "=" not in each)
    for words in ({}, {"prompt": "Name the colours."}):
        request = CaptionRequest.of({"image": "/a.png", "model": name, "extra_options": [option], **words})
        reported = repeatable_request(planned(planner, request), CATALOG.manifests[name], tmp_path)
        assert {key: value for key, value in reported.items() if key == "prompt"} == words
        assert planned(planner, CaptionRequest.of(reported)) == planned(planner, request)


@pytest.mark.parametrize(("source", "image"), [("data URI", f"wan://inputs/{'0' * 64}.png"), ("wan://x", "wan://x")])
def test_an_image_that_came_in_the_request_is_sent_back_as_its_copy(source: str, image: str, tmp_path: Path) -> None:
    planner = Planner(Settings(home=tmp_path), CATALOG)
    picture = PICTURE.model_copy(update={"source": source})
    plan = planner.plan(ImageRequest(prompt="x", image="-"), picture)
    assert repeatable_request(plan, None, tmp_path)["image"] == image
