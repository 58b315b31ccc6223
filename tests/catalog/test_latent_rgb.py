"""Maps from latents to RGB: files that manifests name."""

import tomllib
from pathlib import Path

import pytest

from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.errors import BrokenManifest

MINI = (shipped_folder() / "wan-mini.toml").read_text(encoding="utf-8")


def catalog_with(home: Path, map_name: str, content: str | None) -> Catalog:
    """A catalog with the user's model `mine`, which names a map that has this content."""
    folder = home / "manifests"
    (folder / "latent_rgb").mkdir(parents=True)
    text = MINI.replace('name = "wan-mini"', 'name = "mine"', 1)
    text = text.replace('latent_rgb = "wan-mini"', f'latent_rgb = "{map_name}"')
    (folder / "mine.toml").write_text(text, encoding="utf-8")
    if content is not None:
        (folder / "latent_rgb" / f"{map_name}.toml").write_text(content, encoding="utf-8")
    return Catalog.of(home)


def test_the_embedded_model_has_a_map_for_its_sixteen_channels() -> None:
    catalog = Catalog(shipped_folder())
    assert catalog.get("wan-mini").pipeline.latent_rgb == "wan-mini"
    assert len(catalog.latent_rgb["wan-mini"].factors) == 16


def test_every_shipped_model_names_a_map_that_is_there_or_none() -> None:
    catalog = Catalog(shipped_folder())
    assert not catalog.broken
    assert {manifest.pipeline.latent_rgb for manifest in catalog.manifests.values()} == {None, "wan-mini"}


def test_a_user_brings_a_map(tmp_path: Path) -> None:
    catalog = catalog_with(tmp_path, "my-vae", "factors = [[1.0, 0.0, 0.5]]")
    assert catalog.get("mine").name == "mine"
    assert catalog.latent_rgb["my-vae"].bias == (0.0, 0.0, 0.0)


def test_a_map_of_the_user_replaces_ours_of_its_name_and_a_change_is_seen(tmp_path: Path) -> None:
    catalog = catalog_with(tmp_path, "wan-mini", "factors = [[1.0, 0.0, 0.5]]")
    assert len(catalog.latent_rgb["wan-mini"].factors) == 1
    (tmp_path / "manifests" / "latent_rgb" / "wan-mini.toml").unlink()
    catalog.refresh()
    assert len(catalog.latent_rgb["wan-mini"].factors) == 16


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no map 'other'; there are: wan-mini"),
        ("factors = [[1.0, 0.0]]", "needs 'factors', a row of three numbers"),
        ("factors = []", "wrong: factors"),
        ("bias = [1, 2, 3]", "wrong: factors"),
        ("factors = [[1, 2, 3]]\nscale = 2", "wrong: scale"),
        ("factors = [[1, 2, inf]]", "wrong: factors.0.2"),
        ("factors = nothing", "other.toml"),
    ],
)
def test_a_map_that_cannot_be_used_costs_only_the_model_that_names_it(
    tmp_path: Path, content: str | None, words: str
) -> None:
    catalog = catalog_with(tmp_path, "other", content)
    with pytest.raises(BrokenManifest, match=words):
        catalog.get("mine")
    assert catalog.get("wan-mini").name == "wan-mini"


def test_a_captioner_has_no_map() -> None:
    text = (shipped_folder() / "wan-mini-caption.toml").read_text(encoding="utf-8")
    content = tomllib.loads(text)
    content["pipeline"]["latent_rgb"] = "wan-mini"
    with pytest.raises(ValueError, match=r"pipeline\.latent_rgb is for the families 'wan'"):
        Manifest.model_validate(content)
