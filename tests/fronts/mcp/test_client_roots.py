"""Folders that a client on stdio has open: images may be read from them, as if the owner had named them."""

from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.types import ListRootsResult, Root

from tests.fixtures.mcp_server import png
from wan_mcp.fronts.mcp.client_roots import folders_of
from wan_mcp.fronts.mcp.server import build_server
from wan_mcp.service.service import serving
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio


async def captions(settings: Settings, images: list[Path], roots: list[Path] | None) -> tuple[list[str], int]:
    """What captions of images answer to a client that has these folders open; and how often it was asked for them.

    None is a client that does not say which it has open.
    """
    asked = 0

    async def list_roots(context: Any) -> ListRootsResult:
        nonlocal asked
        asked += 1
        return ListRootsResult(roots=[Root(uri=folder.as_uri()) for folder in roots or ()])

    said = []
    async with (
        serving(settings) as service,
        Client(
            build_server(service), mode="legacy", list_roots_callback=None if roots is None else list_roots
        ) as client,
    ):
        for image in images:
            result = await client.call_tool("caption_image", {"image": str(image), "wait_s": 0})
            said.append(" ".join(block.text for block in result.content if block.type == "text"))
    return said, asked


async def test_calls_at_once_use_the_same_answer(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(32, 32))
    asked, refused = 0, []

    async def list_roots(context: Any) -> ListRootsResult:
        nonlocal asked
        asked += 1
        await both_wait.wait()
        return ListRootsResult(roots=[Root(uri=tmp_path.as_uri())])

    async def caption(client: Client) -> None:
        result = await client.call_tool("caption_image", {"image": str(tmp_path / "a.png"), "wait_s": 0})
        refused.append(result.is_error)
        both_wait.set()  # a call that did not wait for the answer

    both_wait = anyio.Event()
    async with (
        serving(settings) as service,
        Client(build_server(service), mode="legacy", list_roots_callback=list_roots) as client,
        anyio.create_task_group() as calls,
    ):
        for _ in range(2):
            calls.start_soon(caption, client)
        await anyio.wait_all_tasks_blocked()
        both_wait.set()
    assert (refused, asked) == ([False, False], 1)


async def test_images_of_an_open_project_are_read_and_no_others(settings: Settings, tmp_path: Path) -> None:
    project, other = tmp_path / "my project", tmp_path / "other"
    for folder in (project, other):
        folder.mkdir()
        (folder / "a.png").write_bytes(png(32, 32))
    images = [project / "a.png", other / "a.png", project / "a.png"]
    said, asked = await captions(settings, images, [project])
    assert ["outside the allowed folders" in words for words in said] == [False, True, False]
    assert str(project) in said[1]
    assert asked == 1
    silent: tuple[list[Path] | None, ...] = (None, [])
    for roots in silent:
        said, _ = await captions(settings, images[:1], roots)
        assert "outside the allowed folders" in said[0]


def test_only_folders_that_do_not_hold_everything_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, project = tmp_path / "me", tmp_path / "me" / "a project"
    project.mkdir(parents=True)
    (project / "file").touch()
    monkeypatch.setenv("HOME", str(home))
    uris = [
        *("file:///", home.as_uri(), tmp_path.as_uri(), "https://example.org/x", "file://elsewhere/x", "nonsense"),
        *(
            (project / "file").as_uri(),
            (project / "nothing").as_uri(),
            "file:relative",
            "file:///%00",
            project.as_uri(),
        ),
    ]
    assert folders_of(uris) == (project,)
