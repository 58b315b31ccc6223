"""Retries: whatever answer gets lost, one call makes one job."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
import openai
import pytest

from tests.fixtures.mcp_server import Pace
from tests.fixtures.video_api import SORA_ENDS, Api, Serve
from tests.support.patience import PATIENCE_S
from wan_mcp.service.service import serving
from wan_mcp.settings import Settings

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings(SORA_ENDS)]


@dataclass
class LosingAnswers(httpx2.AsyncHTTPTransport):
    """A network that loses the first answers to POST."""

    lost: int
    sent: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        if request.method == "POST" and self.lost:
            self.lost -= 1
            await response.aread()
            await response.aclose()
            raise httpx2.ReadError("the connection is gone", request=request)
        return response


@asynccontextmanager
async def losing(api: Api, answers: int) -> AsyncIterator[openai.AsyncOpenAI]:
    """An official client whose network loses this many answers."""
    http = openai.DefaultAsyncHttpxClient(transport=LosingAnswers(answers), timeout=PATIENCE_S)
    async with openai.AsyncOpenAI(api_key="x", base_url=f"{api.url}/v1", http_client=http, max_retries=3) as client:
        client._calculate_retry_timeout = lambda *given, **more: 0.0  # type: ignore[method-assign]
        yield client


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "one call"}])
async def test_lost_answers_make_no_second_video(
    settings: Settings, pace: Pace, serve: Serve, key: dict[str, str]
) -> None:
    async with serve(settings) as api, serving(settings) as service:
        async with losing(api, 2) as client:
            video = await client.videos.create(prompt="a star", extra_headers=key)
        jobs = await service.newest()
    assert [f"video_{job.id}" for job in jobs] == [video.id]


async def test_lost_images_are_answered_without_making_them_again(shared_settings: Settings, serve: Serve) -> None:
    async with serve(shared_settings) as api, serving(shared_settings) as service:
        before = len(await service.newest(limit=1000))
        async with losing(api, 1) as client:
            made: Any = await client.images.generate(prompt="a lost star")
        assert len(await service.newest(limit=1000)) == before + 1
    assert made.data[0].b64_json


async def test_equal_calls_are_several_jobs(settings: Settings, pace: Pace, serve: Serve) -> None:
    async with serve(settings) as api:
        made = {(await api.create("a star")).id for _ in range(3)}
        async with losing(api, 1) as client:
            made.add((await client.videos.create(prompt="a star")).id)
    assert len(made) == 4


async def test_a_retry_after_the_answer_was_read_is_another_call(settings: Settings, pace: Pace, serve: Serve) -> None:
    async with serve(settings) as api:
        first = await api.create("a star")
        await api.client.videos.retrieve(first.id)
        repeated = await api.client.videos.create(prompt="a star", extra_headers={"x-stainless-retry-count": "1"})
    assert repeated.id != first.id


async def test_a_key_belongs_to_one_request_for_ever(settings: Settings, pace: Pace, serve: Serve) -> None:
    key = {"Idempotency-Key": "mine"}
    async with serve(settings) as api:
        first = (await api.web.post("/v1/videos", json={"prompt": "x"}, headers=key)).json()
    async with serve(settings) as api:  # a new server, which remembers no calls
        second = (await api.web.post("/v1/videos", json={"prompt": "x"}, headers=key)).json()
        other = await api.web.post("/v1/videos", json={"prompt": "y"}, headers=key)
        bad = [
            await api.web.post("/v1/videos", json={"prompt": "x"}, headers={"Idempotency-Key": value})
            for value in ("", "x" * 256)
        ]
    assert second["id"] == first["id"]
    assert other.status_code == 400
    assert other.json()["error"]["param"] == "Idempotency-Key"
    assert "request_id" not in other.json()["error"]["message"]
    assert [each.status_code for each in bad] == [400, 400]


async def test_attempts_at_the_same_time_are_one_job(settings: Settings, pace: Pace, serve: Serve) -> None:
    async with serve(settings) as api:
        ids: set[str] = set()

        async def attempt(count: int) -> None:
            headers = {"x-stainless-retry-count": str(count), "Idempotency-Key": "at once"}
            ids.add((await api.web.post("/v1/videos", json={"prompt": "x"}, headers=headers)).json()["id"])

        async with anyio.create_task_group() as tasks:
            for count in range(8):
                tasks.start_soon(attempt, count)
    assert len(ids) == 1
