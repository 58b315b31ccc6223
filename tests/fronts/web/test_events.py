"""The stream of events: what every open page sees, whoever has asked for a job, and whatever dies."""

import signal
from typing import Any

import anyio
import httpx2
import psutil
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.fixtures.mcp_server import Pace
from tests.fixtures.studio import Studio, StudioSite, done
from tests.support.http_fronts import running
from tests.support.patience import PATIENCE_S
from wan_mcp.fronts.web.cards import Cards
from wan_mcp.fronts.web.feed import BACKLOG, Feed
from wan_mcp.service.service import serving
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio


async def test_a_page_sees_a_snapshot_and_then_each_change_until_the_end(
    settings: Settings, pace: Pace, studio_site: StudioSite
) -> None:
    async with studio_site(settings) as studio:
        waiting = await studio.submit()
        with anyio.fail_after(PATIENCE_S):
            async with studio.events() as first, studio.events() as second:
                snapshots = [await anext(events) for events in (first, second)]
                assert [event.name for event in snapshots] == ["snapshot", "snapshot"]
                assert [[job["id"] for job in event.data["jobs"]] for event in snapshots] == [[waiting["id"]]] * 2
                behind = await studio.submit(prompt="behind it")
                pace.allow(100)
                for events in (first, second):
                    seen: dict[str, Any] = {}
                    async for event in events:
                        seen |= {job["id"]: job for job in event.data["jobs"]}
                        if {waiting["id"], behind["id"]} <= seen.keys() and all(map(done, seen.values())):
                            break
                    assert {job["state"] for job in seen.values()} == {"succeeded"}


@pytest.mark.parametrize(("mode", "name"), [("legacy", "python-httpx2"), ("2026-07-28", "mcp")])
async def test_a_job_of_an_mcp_client_appears_on_the_page_with_its_name(studio: Studio, mode: str, name: str) -> None:
    prompt = f"a moon for {mode}"
    with anyio.fail_after(PATIENCE_S):
        async with studio.events() as events:
            await anext(events)
            transport = streamable_http_client(f"{studio.url}/mcp", http_client=studio.web)
            async with Client(transport, mode=mode) as client:
                await client.call_tool("generate_image", {"prompt": prompt, "wait_s": 0})
            async for event in events:
                if found := [job for job in event.data["jobs"] if job["prompt"] == prompt]:
                    assert found[0]["client"] == name
                    return


async def test_a_page_that_comes_back_gets_what_it_has_missed(studio: Studio) -> None:
    with anyio.fail_after(PATIENCE_S):
        gone = await studio.until((await studio.submit(kind="image", prompt="to go"))["id"], done)
        async with studio.events() as events:
            last = (await anext(events)).id
        assert last is not None
        made = await studio.until((await studio.submit(kind="image", prompt="missed"))["id"], done)
        await studio.send(f"/api/jobs/{gone['id']}", method="DELETE")
        async with studio.events(**{"Last-Event-ID": last}) as events:
            missed = await anext(events)
        assert missed.name == "jobs"
        assert made["id"] in [job["id"] for job in missed.data["jobs"]]
        assert missed.data["deleted"] == [gone["id"]]
        async with studio.events(**{"Last-Event-ID": "999999999"}) as events:
            assert (await anext(events)).name == "snapshot", "that is none of this table's"
        assert (await studio.web.get("/api/events", headers={"Last-Event-ID": "x"})).status_code == 400


async def test_nothing_is_read_while_no_page_is_open_and_a_slow_page_gets_a_snapshot(
    shared_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(shared_settings) as service, anyio.create_task_group() as tasks:
        looks = 0
        changed_since = service.changed_since

        async def counted(*arguments: Any) -> Any:
            nonlocal looks
            looks += 1
            return await changed_since(*arguments)

        monkeypatch.setattr(service, "changed_since", counted)
        feed = Feed(service, Cards(service.media, service.catalog, service.settings))
        tasks.start_soon(feed.run)
        await anyio.wait_all_tasks_blocked()
        assert looks == 0
        with anyio.fail_after(PATIENCE_S):
            slow = feed.subscribe(None, near=True)
            assert b"event: snapshot" in await anext(slow)
            for number in range(BACKLOG + 1):
                feed.publish("download", {"number": number})
            assert b"event: snapshot" in await anext(slow)
            feed.publish("download", {"number": "next"})
            assert b'"next"' in await anext(slow)
        await slow.aclose()  # type: ignore[attr-defined]
        tasks.cancel_scope.cancel()


async def test_the_words_of_others_cannot_end_an_event(studio: Studio) -> None:
    nasty = "a\n\nevent: snapshot\ndata: {}\r\n\r\n\u2028</script><img src=x onerror=alert(1)>"
    with anyio.fail_after(PATIENCE_S):
        async with studio.events() as events:
            await anext(events)
            job = await studio.submit(kind="image", prompt=nasty)
            async for event in events:
                assert event.name == "jobs"
                found = [card for card in event.data["jobs"] if card["id"] == job["id"]]
                if found:
                    assert found[0]["prompt"] == nasty
                    return


def test_open_pages_do_not_hold_up_a_server_that_is_told_to_stop(settings: Settings) -> None:
    with running(settings) as front, httpx2.Client(base_url=front.url, timeout=PATIENCE_S) as web:
        with web.stream("GET", "/api/events") as stream:
            chunks = stream.iter_bytes()
            assert b"snapshot" in next(chunks)
            front.process.send_signal(signal.SIGTERM)
            assert b"".join(chunks) == b"", "the stream ends as a whole"
        front.process.wait(PATIENCE_S)
        front.wait_for(lambda log: "Finished server process" in log)
        assert "Cancel" not in front.log and "Traceback" not in front.log
        assert "something still ran" not in front.log


async def test_a_killed_server_and_a_killed_engine_cost_the_page_nothing(settings: Settings, pace: Pace) -> None:
    with running(settings) as front:
        async with httpx2.AsyncClient(base_url=front.url, timeout=PATIENCE_S) as web:
            studio = Studio(web, front.url)
            job = await studio.submit()
            pace.allow(3)
            working = await studio.until(job["id"], lambda card: card["step"] is not None and card["step"] >= 1)
            assert working["state"] == "running"
            [engine] = [each for each in psutil.Process(front.process.pid).children() if "fake_engine" in _line(each)]
            engine.kill()
            front.process.kill()
    with running(settings) as front:
        pace.allow(1000)
        async with httpx2.AsyncClient(base_url=front.url, timeout=PATIENCE_S) as web:
            made = await Studio(web, front.url).until(job["id"], done)
            assert made["state"] == "succeeded"
            assert await anyio.Path(made["results"][0]["path"]).is_file()


def _line(process: psutil.Process) -> str:
    return " ".join(process.cmdline())
