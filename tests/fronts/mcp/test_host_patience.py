"""A call that names no wait lasts as long as its host keeps it open, and never longer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.types import Implementation

from tests.fixtures.mcp_server import ERAS, Answer, Pace, Runner
from tests.support.patience import PATIENCE_S
from wan_mcp.fronts.mcp import tools
from wan_mcp.fronts.mcp.host_patience import HOSTS
from wan_mcp.fronts.mcp.progress import KEEP_ALIVE_S
from wan_mcp.fronts.mcp.server import build_server
from wan_mcp.service.service import serving
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def host(settings: Settings, name: str, mode: str = ERAS[1]) -> AsyncIterator[Runner]:
    """A client that calls itself `name`."""
    about = Implementation(name=name, version="1")
    async with (
        serving(settings) as service,
        Client(build_server(service), mode=mode, client_info=about) as client,
    ):
        yield Runner(client, service)


async def waits_of(runner: Runner, monkeypatch: pytest.MonkeyPatch, *, token: bool = True, **wait: float) -> float:
    """The seconds that a call for an image waits at most."""
    found: list[float] = []
    follow = tools._Tools._follow

    async def watched(self: object, ctx: object, job_id: str, until: float, *rest: object) -> object:
        found.append(until - began)
        return await follow(self, ctx, job_id, self._clock(), *rest)  # type: ignore[arg-type, attr-defined]

    with monkeypatch.context() as patch:
        patch.setattr(tools._Tools, "_follow", watched)
        began = anyio.current_time()
        arguments: dict[str, Any] = {"prompt": "a red star", **wait}
        if token:
            await runner.call("generate_image", **arguments)
        else:
            await runner.client.call_tool("generate_image", arguments)
    return found[0]


@pytest.fixture
def unset(settings: Settings) -> Settings:
    """Settings whose owner has not said how long calls wait."""
    given = settings.model_dump(exclude={"wait_s"}, exclude_unset=True)
    return Settings(**given)


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("name", [*HOSTS, "Claude-Code"])
async def test_a_host_that_counts_from_the_last_progress_is_answered_when_the_job_is_done(
    unset: Settings, pace: Pace, monkeypatch: pytest.MonkeyPatch, name: str, mode: str
) -> None:
    async with host(unset, name, mode) as runner:
        assert await waits_of(runner, monkeypatch) == pytest.approx(unset.max_wait_s, abs=30)


@pytest.mark.parametrize("mode", ERAS)
async def test_all_other_calls_wait_45_seconds(
    unset: Settings, pace: Pace, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    for name in ("mcp", "claude-ai", "codex-mcp-client", "claude-code-lookalike", ""):
        async with host(unset, name, mode) as runner:
            assert await waits_of(runner, monkeypatch) == pytest.approx(45, abs=30)
    async with host(unset, "claude-code", mode) as runner:
        assert await waits_of(runner, monkeypatch, token=False) == pytest.approx(45, abs=30)


async def test_a_call_never_waits_longer_than_it_or_the_owner_asks(
    unset: Settings, pace: Pace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with host(unset, "claude-code") as runner:
        assert await waits_of(runner, monkeypatch, wait_s=2) == pytest.approx(2, abs=30)
    for changes, limit in (({"wait_s": 4}, 4), ({"wait_s": 45}, 45), ({"max_wait_s": 190}, 190)):
        async with host(unset.model_copy(update=changes), "claude-code") as runner:
            assert await waits_of(runner, monkeypatch) == pytest.approx(limit, abs=30)


async def test_a_known_host_gets_its_result_in_one_call(unset: Settings) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with host(unset, "claude-code") as runner:
            answer: Answer = await runner.call("generate_video", prompt="a red star")
    assert answer.job["status"] == "succeeded"


def test_progress_comes_often_enough_for_every_host_that_waits_for_it() -> None:
    assert all(known.idle_s > KEEP_ALIVE_S * 2 for known in HOSTS.values())


def test_the_page_about_clients_names_every_host_that_is_known() -> None:
    page = (Path(__file__).parents[3] / "docs" / "clients.md").read_text(encoding="utf-8")
    assert [name for name in HOSTS if f"`{name}`" not in page] == []
