"""Fronts come and go, alone or side by side: jobs, files and the one engine stay."""

from collections.abc import Callable

import pytest

from tests.clients.conftest import CLIENTS, SDKS, TRANSPORTS, Connect, Story
from tests.clients.installation import Installation
from tests.support.patience import PATIENCE_S

OTHER = {"stdio": "http", "http": "stdio"}
VIDEO = {"prompt": "a yellow ring grows on a gray background", "num_frames": 9, "steps": 25, "seed": 21}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("client", SDKS)
def test_a_client_killed_in_the_middle_of_a_call_loses_nothing(connect: Connect, client: str, transport: str) -> None:
    request = {**VIDEO, "request_id": f"{client}-{transport}", "wait_s": PATIENCE_S}
    status, told = connect(client, transport).run(do="abandon", arguments=request)
    assert status == -9
    assert 0 < told["died_at"][0] < 100
    again, jobs = connect(client, OTHER[transport]).calls(("generate_video", request), ("list_jobs", {"limit": 1}))
    assert again["structured"]["status"] == "succeeded"
    assert [job["job_id"] for job in jobs["structured"]["jobs"]] == [again["structured"]["job_id"]]
    assert again["structured"]["artifacts"][0]["frames"] == VIDEO["num_frames"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_job_started_over_one_transport_is_seen_over_the_other(connect: Connect, transport: str) -> None:
    [started] = connect("mcp2", transport).calls(("generate_video", {**VIDEO, "wait_s": 0}))
    job_id = started["structured"]["job_id"]
    assert started["structured"]["status"] in ("queued", "running")
    [finished] = connect("mcp1", OTHER[transport]).calls(("get_job", {"job_id": job_id, "wait_s": PATIENCE_S}))
    assert finished["structured"]["status"] == "succeeded"
    assert finished["structured"]["created_at"] == started["structured"]["created_at"]


def test_langchain_starts_a_front_for_every_call_over_stdio(stories: Callable[[str, str], Story]) -> None:
    story = stories("langchain", "stdio")
    assert story.fronts >= len(story.answers())
    assert stories("mcp1", "stdio").fronts == 1


def test_one_engine_serves_all_clients(stories: Callable[[str, str], Story]) -> None:
    engines = [stories(client, transport).engines for client in CLIENTS for transport in TRANSPORTS]
    assert all(len(those) == 1 for those in engines)
    assert len({pid for those in engines for pid in those}) == 1


def test_no_front_outlives_its_client(stories: Callable[[str, str], Story], installation: Installation) -> None:
    for client in CLIENTS:
        stories(client, "stdio")
    assert len(installation.fronts_started()) >= len(CLIENTS)
    assert installation.fronts_left() == []
