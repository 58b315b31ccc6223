"""Which captioner checks results, and which requests for a check are refused."""

from pathlib import Path
from typing import Any

import pytest

from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.errors import BadRequest
from wan_mcp.planning import check as check_module
from wan_mcp.planning.planner import Planner
from wan_mcp.schema.requests import ImageRequest, VideoRequest
from wan_mcp.settings import Settings


@pytest.fixture
def planner(tmp_path: Path) -> Planner:
    return Planner(Settings(home=tmp_path, device="cpu"), Catalog(shipped_folder()))


def plan(planner: Planner, request: type[VideoRequest | ImageRequest] = ImageRequest, **asked: Any) -> Any:
    return planner.plan(request.of({"prompt": "a red star"} | asked))


@pytest.mark.parametrize("request_type", [VideoRequest, ImageRequest])
def test_nothing_is_checked_unless_it_was_asked_for(planner: Planner, request_type: Any) -> None:
    for asked in ({}, {"check": False}, {"check": None}, {"count": 2}):
        made = plan(planner, request_type, **asked)
        assert (made.check, made.pick) == (None, None)
        assert not {"check", "pick"} & set(made.model_dump())
    assert plan(planner, request_type, check=True).check == "wan-mini-caption"
    picking = plan(planner, request_type, count=2, pick=" Best ")
    assert (picking.check, picking.pick) == ("wan-mini-caption", "best")


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"pick": "best"}, "pick needs a count above 1"),
        ({"pick": "worst", "count": 2}, "pick: must be 'best', or left out"),
        ({"pick": "best", "count": 2, "check": False}, "omit check, or omit pick"),
        ({"check": True, "model": "z-image-turbo"}, "run 'wan-mcp pull qwen3-vl-2b' first, or omit check"),
        ({"pick": "best", "count": 2, "model": "z-image-turbo"}, "or omit pick"),
    ],
)
def test_a_check_that_cannot_be_made_is_refused(planner: Planner, asked: dict[str, Any], why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        plan(planner, **asked)


def test_a_captioner_of_a_smaller_world_does_not_judge_a_real_model(
    planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_module, "is_installed", lambda manifest, home: True)
    assert plan(planner, check=True, model="z-image-turbo").check == "qwen3-vl-2b"


def test_the_default_captioner_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_module, "is_installed", lambda manifest, home: True)
    settings = Settings(home=tmp_path, device="cpu", caption_model="qwen3-vl-4b")
    assert plan(Planner(settings, Catalog(shipped_folder())), check=True).check == "qwen3-vl-4b"
