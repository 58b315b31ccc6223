"""Data URIs that are kept in files while their calls run."""

from functools import partial
from pathlib import Path

import psutil
import pytest

from wan_mcp.errors import BadImage, HomeUnusable, OutOfSpace
from wan_mcp.media.ingest import InputImages
from wan_mcp.media.kept_uris import KeptUris
from wan_mcp.media.store import MediaStore

URI = "data:image/png;base64," + "aB+/" * 20_000


@pytest.mark.parametrize("uri", [URI, "data:," + "é😀" * 5000, "data:," + "\ud83d" * 5000])
def test_what_stands_for_a_uri_is_short_and_gives_it_back(tmp_path: Path, uri: str) -> None:
    uris = KeptUris(tmp_path)
    with uris.keep(uri) as name:
        assert len(name) < 200
        assert name.startswith("data:")
        assert uris.restore(name) == uri
    assert uris.restore(name) == name


def test_calls_with_the_same_image_share_one_file_which_the_last_one_removes(tmp_path: Path) -> None:
    uris, process = KeptUris(tmp_path), psutil.Process()
    before = process.num_fds()
    with uris.keep(URI) as first:
        with uris.keep(URI) as second:
            assert first == second
            assert process.num_fds() == before + 1
        assert uris.restore(first) == URI
    assert process.num_fds() == before
    assert not any(file.is_file() for file in tmp_path.rglob("*"))


def test_what_a_client_makes_up_stands_for_nothing(tmp_path: Path) -> None:
    uris = KeptUris(tmp_path)
    inputs = InputImages(MediaStore(tmp_path), [], 20, 50, uris=uris)
    with uris.keep(URI) as name, pytest.raises(BadImage):
        inputs.take(name.replace("sha256:", "sha256:0"))
    with pytest.raises(BadImage, match="no comma"):
        inputs.take(name)


def test_a_full_disk_or_a_home_that_cannot_be_written_is_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HomeUnusable, match="WAN_MCP_HOME"), KeptUris(tmp_path / "file").keep(URI):
        pass
    uris, before = KeptUris(tmp_path), psutil.Process().num_fds()
    monkeypatch.setattr(uris, "new_file", partial(open, "/dev/full", "wb"))
    with pytest.raises(OutOfSpace, match="free some"), uris.keep(URI):
        pass
    assert psutil.Process().num_fds() == before
