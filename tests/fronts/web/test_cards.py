"""Cards of jobs whose results were checked."""

from pathlib import Path

from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.fronts.web.cards import Cards
from wan_mcp.media.store import MediaStore
from wan_mcp.schema.jobs import Artifact, Check
from wan_mcp.settings import Settings


def test_a_result_that_was_checked_has_a_card(tmp_path: Path) -> None:
    check = Check(captioner="wan-mini-caption", says="a red star", missing=("blue (star)",), score=0.5)
    artifact = Artifact(
        uri="wan://images/00000000000000000000-0.png", mime_type="image/png", bytes=1, width=8, height=8, seed=1,
        path=str(tmp_path / "media/images/00000000000000000000-0.png"), check=check,
    )  # fmt: skip
    file = Cards(MediaStore(tmp_path), Catalog(shipped_folder()), Settings(home=tmp_path))._file(artifact)
    assert (file.uri, file.width) == (artifact.uri, 8)
