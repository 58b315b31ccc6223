"""No shipped model is without its proof."""

import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.fixtures.served_models import OTHERS, SAVE, SHIPPED
from wan_mcp.catalog.manifest import Manifest


def test_every_model_of_another_family_has_a_tiny_repository() -> None:
    assert not SHIPPED.broken
    assert {SHIPPED.get(name).weights.repository for name in OTHERS} == set(SAVE)


@pytest.mark.parametrize(
    ("part", "changes", "said"),
    [
        ("pipeline", {"scheduler": "unipc"}, "pipeline.scheduler is for the family 'wan'"),
        ("pipeline", {"boundary_ratio": 0.5}, "pipeline.boundary_ratio is for the family 'wan'"),
        (
            "pipeline",
            {"experts": [{"name": "one", "subfolder": "transformer"}]},
            "pipeline.experts is for the family 'wan'",
        ),
        ("limits", {"loras": 1}, "limits.loras is for the family 'wan'"),
        (
            "presets",
            {"best": {"step_cache": {"threshold": 0.1}}},
            "presets.best.step_cache is for the family 'wan' without pipeline.sigmas",
        ),
        ("pipeline", {"family": "blip"}, "the family 'blip' makes no images; these do: wan, z-image"),
        (
            "pipeline",
            {"family": "qwen-image-edit"},
            "the family 'qwen-image-edit' does not do text-to-image; these do: wan, z-image",
        ),
        ("pipeline", {"family": "ltx"}, "no family 'ltx'; there are: wan, z-image, .*, chat"),
    ],
)
def test_a_manifest_that_its_family_cannot_keep_is_refused(part: str, changes: dict[str, object], said: str) -> None:
    tables = SHIPPED.get("z-image-turbo").model_dump(by_alias=True, exclude_none=True)
    with pytest.raises(ValidationError, match=said):
        Manifest.model_validate(tables | {part: tables[part] | changes})


def test_words_of_others_are_attributed_in_what_is_shipped() -> None:
    root = Path(__file__).parents[4]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"LICENSE", "NOTICE"} <= set(project["license-files"])
    notice = (root / "NOTICE").read_text(encoding="utf-8")
    for words in ("github.com/fpgaminer/joycaption", "Copyright 2024 fpgaminer", "Alibaba Wan Team Authors"):
        assert words in notice
