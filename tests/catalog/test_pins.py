"""The commits that manifests pin."""

import re
from pathlib import Path

from wan_mcp.catalog.catalog import Catalog, shipped_folder


def test_what_our_manifests_pin_is_a_commit_and_the_same_for_all_models_of_a_repository() -> None:
    pins: dict[str, set[str | None]] = {}
    for manifest in Catalog(shipped_folder()).manifests.values():
        if manifest.weights.repository is not None:
            pins.setdefault(manifest.weights.repository, set()).add(manifest.weights.revision)
            assert manifest.required_revision is None
    assert all(len(pinned) == 1 for pinned in pins.values())
    commits = [pin for pinned in pins.values() for pin in pinned if pin is not None]
    assert all(re.fullmatch(r"[0-9a-f]{40}", commit) for commit in commits)


def test_a_manifest_of_ones_own_requires_its_revision_also_in_place_of_ours(tmp_path: Path) -> None:
    ours = (shipped_folder() / "z-image-turbo.toml").read_text(encoding="utf-8")
    ours = ours.replace("[weights]\n", f'[weights]\nrevision = "{"a" * 40}"\n', 1)
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "z-image-turbo.toml").write_text(ours, encoding="utf-8")
    own = Catalog.of(tmp_path).get("z-image-turbo")
    assert own.required_revision == own.weights.revision
