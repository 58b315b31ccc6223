"""Whose jobs and files each door of the server shows and lets touch: every door, tried in each owner's name."""

import base64
import json
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import anyio
import httpx2
import pytest

from tests.fixtures.mcp_server import ERAS, Pace, png
from tests.support.far_models import add_far_model
from tests.support.http_fronts import running, site
from tests.support.owner_doors import PAGE, SECRET, Deletions, Sights, Target, Uses, Visitor, doors, visiting, visitors
from tests.support.patience import PATIENCE_S
from tests.support.videos import encode, greys
from wan_mcp.fronts.http import open_requests
from wan_mcp.service import input_quota
from wan_mcp.service.tokens import Tokens
from wan_mcp.settings import Settings
from wan_mcp.weights.hub import Hub

pytestmark = pytest.mark.anyio


async def job_of(who: Visitor, home: Path) -> Target:
    """A finished video of somebody, after another; with frames, and with all that can be made of it."""
    older = await who.tool("generate_video", prompt=SECRET)
    made = await who.tool("generate_video", prompt=SECRET)
    assert older is not None
    assert made is not None
    video = encode(home / "media" / "videos" / f"{made['job_id']}-0.mp4", greys(7, 128, 128))
    for ending in (".poster.jpg", ".gif", ".webm"):
        video.with_suffix(ending).write_bytes(png(8, 8))
    return Target(made["job_id"], older["job_id"])


@pytest.mark.parametrize("mode", ERAS)
async def test_no_door_shows_or_lends_anything_to_another_owner_and_each_does_to_its_own_and_the_homes_user(
    settings: Settings, mode: str
) -> None:
    sights, uses, deletions = doors(Sights()), doors(Uses()), doors(Deletions())
    async with visitors(settings, "alice", "bob", "home", mode=mode) as (_, [alice, bob, home]):
        it, of_home = await job_of(alice, settings.home), await job_of(home, settings.home)
        shown = {
            name: [SECRET in (await door(who, it) or "") for who in (alice, home)] for name, door in sights.items()
        }
        assert {name: seen for name, seen in shown.items() if not all(seen)} == {}
        for target in (it, of_home):
            seen = {name: await door(bob, target) or "" for name, door in sights.items()}
            assert [name for name, text in seen.items() if SECRET in text or target.id in text] == []
            used = [name for name, door in (uses | deletions).items() if await door(bob, target)]
            assert used == []
        assert [name for name, door in (sights | uses).items() if not await door(alice, it)] == []
        await home.tool("keep_job", job_id=it.id, kept=False)
        assert [name for name, door in uses.items() if not await door(home, it)] == []
        for door in deletions.values():
            mine = await job_of(alice, settings.home)
            assert await door(alice, mine)
        assert await deletions["by_page"](home, it)


async def test_a_job_under_way_is_stopped_looked_at_and_counted_without_a_word_about_it(
    settings: Settings, pace: Pace
) -> None:
    async with visitors(settings, "alice", "bob") as (_, [alice, bob]):
        started = await alice.tool("generate_video", prompt=SECRET, wait_s=0)
        assert started is not None
        it = Target(started["job_id"], "")
        own = await bob.tool("generate_video", prompt="mine", wait_s=0)
        assert own is not None
        waiting = await bob.web.get(f"/v1/videos/video_{own['job_id']}")
        assert waiting.json()["queue_position"] in (1, 2)  # it tells how many are ahead, not whose they are
        assert SECRET not in waiting.text
        for path in (f"/media/previews/{it.id}.jpg", "/api/engines"):
            assert it.id not in (await bob.web.get(path)).text
        assert (await bob.web.get(f"/media/previews/{it.id}.jpg")).status_code == 404
        assert await bob.tool("cancel_job", job_id=it.id) is None
        for moved, before in ((it.id, None), (it.id, own["job_id"]), (own["job_id"], it.id)):
            answer = await bob.web.post(f"/api/jobs/{moved}/move", json={"before": before}, headers=PAGE)
            assert answer.status_code == 404, (moved, before)
        still = await alice.tool("get_job", job_id=it.id, wait_s=0)
        assert still is not None
        assert still["status"] in ("queued", "running")
        async with bob.web.stream("GET", "/api/events") as events:
            lines = events.aiter_lines()
            snapshot = next_data = ""
            while not snapshot:
                line = await anext(lines)
                snapshot = line if line.startswith("data:") else ""
            assert SECRET not in snapshot
            assert own["job_id"] in snapshot
            assert await alice.tool("cancel_job", job_id=it.id)
            pace.allow(100)
            while '"succeeded"' not in next_data:  # of bob's own job
                next_data = await anext(lines)
                assert it.id not in next_data


async def test_a_stream_of_changes_says_nothing_of_results_of_others(settings: Settings) -> None:
    async with visitors(settings, "alice", "bob", "home") as (_, [alice, bob, home]):
        own = await bob.tool("generate_image", prompt="mine")
        assert own is not None
        addresses = ["wan://gallery", f"wan://jobs/{own['job_id']}"]
        async with (
            bob.mcp.listen(resource_subscriptions=addresses) as of_bob,
            home.mcp.listen(resource_subscriptions=addresses[:1]) as of_home,
        ):
            made = await alice.tool("generate_image", prompt=SECRET)
            assert made is not None
            assert await alice.tool("delete_job", job_id=made["job_id"])
            assert (await anext(aiter(of_home))).uri == "wan://gallery"  # type: ignore[union-attr]
            assert await bob.tool("keep_job", job_id=own["job_id"])
            assert (await anext(aiter(of_bob))).uri == addresses[1]  # type: ignore[union-attr]


async def test_a_code_for_a_phone_signs_in_who_has_asked_for_it(settings: Settings) -> None:
    async with visitors(settings, "alice", "home", host="192.168.7.20") as (http, [alice, home]):
        assert await home.tool("generate_image", prompt=SECRET)
        mine = await alice.tool("generate_image", prompt="mine")
        assert mine is not None

        async def code(who: Visitor) -> str:
            [link] = (await who.web.post("/api/phone", headers=PAGE)).json()["links"]
            return str(link)[str(link).index("/sign-in") :]

        async def seen(path: str) -> tuple[int, str] | None:
            """How many jobs the page behind a link shows, and whose it says that it is."""
            async with httpx2.AsyncClient(base_url=http.url, timeout=PATIENCE_S) as phone:
                if (await phone.get(path)).status_code != 200:
                    return None
                owner = (await phone.get("/")).text.partition('data-owner="')[2].partition('"')[0]
                return len((await phone.get("/api/jobs")).json()["jobs"]), owner

        assert [await seen(await code(who)) for who in (alice, home)] == [(1, "alice"), (2, "")]
        late = await code(alice)
        Tokens(settings.home).revoke("alice")
        assert await seen(late) is None


async def test_what_concerns_everybody_is_for_the_homes_user_only(settings: Settings) -> None:
    async with visitors(settings, "alice") as (_, [alice]):
        for method, path in (
            ("POST", "/api/engines/free"),
            ("DELETE", "/api/models/wan2.2-ti2v-5b"),
            ("POST", "/api/models/wan2.2-ti2v-5b/stop"),
        ):
            answer = await alice.web.request(method, path, headers=PAGE)
            assert (answer.status_code, answer.json()["code"]) == (403, "not_yours"), path


@pytest.mark.parametrize("allowed", [False, True])
async def test_owners_agree_to_large_downloads_only_where_the_homes_user_lets_them(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    nowhere = Hub("http://127.0.0.1:9", cache, token=False)
    monkeypatch.setattr(Hub, "from_environment", lambda: nowhere)  # its library reads the environment once
    add_far_model(settings.home, 34.2)
    add_far_model(settings.home, 4.9, "small")
    settings = settings.model_copy(update={"owners_may_download": allowed})
    call = {"prompt": "a star", "model": "far"}
    video = {"kind": "video", "download": True, **call}
    async with visitors(settings, "alice", "home") as (_, [alice, home]):
        made = await alice.tool("generate_image", prompt="mine")
        assert made is not None
        remixed = {"job_id": made["job_id"], "model": "far"}
        assert (await alice.tool("generate_video", download=True, **call) is not None) == allowed
        assert (await alice.tool("remix", download=True, **remixed) is not None) == allowed
        by_page = await alice.web.post("/api/jobs", json=video, headers=PAGE)
        by_api = await alice.web.post("/v1/videos", json=call)  # which has no word for an agreement
        assert by_page.is_success == allowed
        assert by_api.status_code == (400 if allowed else 403)
        for answer in () if allowed else (by_page, by_api):
            assert "download_not_allowed" in answer.text
            assert "only the user of this server's home" in answer.text
        if not allowed:
            for asked in ({}, {"download": True}, {"download": True, "dry_run": True}):
                said = (await alice.mcp.call_tool("generate_video", {**call, **asked})).content[0].model_dump()["text"]
                assert "user of this server's home" in said
                assert "download=true" not in said
        got = await alice.web.post("/api/models/far/get", headers=PAGE)
        assert got.status_code == (202 if allowed else 403)
        assert await alice.tool("generate_video", prompt="a star", model="small")  # what starts unasked
        assert await home.tool("generate_video", download=True, **call)


async def test_an_owner_with_many_open_requests_is_refused_more_and_the_others_are_not(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_requests, "MOST_OF_ONE", 3)
    async with visitors(settings, "alice", "bob", "home") as (_, [alice, bob, home]), AsyncExitStack() as streams:
        for who in (alice, alice, alice, home, home, home, home):
            await streams.enter_async_context(who.web.stream("GET", "/api/events"))
        refused = await alice.web.get("/v1/videos")
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
        assert "3 of your requests are open" in refused.text
        assert [(await who.web.get("/v1/videos")).status_code for who in (bob, home)] == [200, 200]
        await streams.aclose()
        while (await alice.web.get("/v1/videos")).status_code != 200:  # noqa: ASYNC110  # the server notices it when it does
            await anyio.sleep(0.01)


async def test_an_owner_sends_so_many_pictures_a_day_by_all_doors_and_the_others_theirs(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_quota, "MOST_PICTURES", 2)
    async with visitors(settings, "alice", "bob", "home") as (_, [alice, bob, home]):
        link = (await alice.web.post("/media/upload-links")).json()["link"]
        for size in (8, 8, 9):  # the same picture again is no other one
            sent = await alice.web.post("/media/inputs", content=png(size, size))
            assert sent.status_code == 201
        data = f"data:image/png;base64,{base64.b64encode(png(10, 10)).decode()}"
        reference = {"prompt": "a star", "input_reference": {"image_url": data}}
        for answer in (
            await alice.web.post("/media/inputs", content=png(10, 10)),
            await alice.web.post("/api/inputs", content=png(10, 10), headers=PAGE),
            await alice.web.post("/v1/videos", json=reference),
            await alice.web.post(link, content=png(10, 10)),
        ):
            assert answer.status_code == 429, answer.url
            assert "an owner may send 2" in answer.text
        called = await alice.mcp.call_tool("caption_image", {"image": data, "wait_s": 0})
        said = called.content[0].model_dump()["text"]
        assert "an owner may send 2" in said
        assert "Name an upload of yours" in said
        assert await alice.tool("caption_image", image=sent.json()["image"], wait_s=0)
        for who in (bob, home):
            for size in (10, 11):
                assert (await who.web.post("/media/inputs", content=png(size, size))).status_code == 201
        assert (await home.web.post("/media/inputs", content=png(12, 12))).status_code == 201


async def test_owners_choose_request_ids_without_meeting_each_other(settings: Settings) -> None:
    async with visitors(settings, "alice", "bob", "home") as (_, [alice, bob, home]):
        ids = []
        for who in (alice, bob, home, alice, bob, home):
            made = await who.tool("generate_image", prompt=f"{SECRET}", request_id="first")
            assert made is not None
            ids.append(made["job_id"])
        assert ids[:3] == ids[3:]
        assert len(set(ids)) == 3
        other = await alice.mcp.call_tool("generate_image", {"prompt": "another", "request_id": "first"})
        assert other.is_error
        assert "'first'" in other.content[0].model_dump()["text"]


async def test_an_owner_reads_no_path_and_names_no_file_even_on_this_machine(settings: Settings) -> None:
    [pictures] = settings.image_dirs
    picture = pictures / "of the home's user.png"
    picture.write_bytes(png(16, 16))
    async with visitors(settings, "alice", "home", host="127.0.0.1") as (_, [alice, home]):
        assert await home.tool("caption_image", image=str(picture))
        assert await alice.tool("caption_image", image=str(picture)) is None
        made = await alice.tool("generate_image", prompt="mine")
        assert made is not None
        assert made["artifacts"][0]["path"] is None
        assert str(settings.home) not in json.dumps(made)


async def test_a_picture_that_an_owner_sent_is_of_no_use_to_another(settings: Settings) -> None:
    async with (
        visitors(settings, "alice", "bob", "home") as (_, [alice, bob, home]),
        httpx2.AsyncClient(timeout=PATIENCE_S) as stranger,
    ):
        taken = (await alice.web.post("/api/inputs", content=png(32, 24), headers=PAGE)).json()
        job = {"kind": "video", "prompt": "a star", "image": taken["id"]}
        assert await alice.get(taken["url"])
        assert await bob.get(taken["url"]) is None
        assert await bob.send("POST", "/api/jobs", job) is None
        assert await alice.send("POST", "/api/jobs", job)
        sent = (await alice.web.post("/media/inputs", content=png(32, 24))).json()
        offered = (await alice.web.post("/media/upload-links")).json()
        assert (await stranger.post(offered["link"], content=png(32, 24))).status_code == 200
        for address in (sent["image"], offered["image"]):
            reference = {"prompt": "a star", "input_reference": address}
            for who, is_used in ((bob, False), (home, False), (alice, True)):
                assert bool(await who.tool("caption_image", image=address, wait_s=0)) is is_used
                assert bool(await who.tool("caption_image", image=address, dry_run=True)) is is_used
                assert bool(await who.send("POST", "/v1/videos", reference)) is is_used


async def test_a_link_opens_the_file_in_the_name_of_its_owner_and_ends_with_the_token(settings: Settings) -> None:
    async with (
        visitors(settings, "alice", "bob") as (_, [alice, _]),
        httpx2.AsyncClient(timeout=PATIENCE_S) as nobody,
    ):
        made = await alice.tool("generate_image", prompt=SECRET)
        assert made is not None
        link = made["artifacts"][0]["url"]
        assert "owner=alice" in link
        assert (await nobody.get(link)).status_code == 200
        assert (await nobody.get(link.replace("owner=alice", "owner=bob"))).status_code == 401
        assert (await nobody.get(link.replace("owner=alice&", ""))).status_code == 401
        Tokens(settings.home).revoke("alice")
        assert (await nobody.get(link)).status_code == 401
        Tokens(settings.home).add("alice")  # the same name again, with another token
        assert (await nobody.get(link)).status_code == 401


async def test_a_token_is_of_no_use_from_the_moment_it_is_revoked(settings: Settings, pace: Pace) -> None:
    async with (
        visitors(settings, "alice") as (http, [alice]),
        httpx2.AsyncClient(base_url=http.url, timeout=PATIENCE_S) as browser,
    ):
        signed_in = await browser.post("/sign-in", data={"token": alice.token})
        assert signed_in.status_code == 200
        mine = await browser.post("/api/jobs", json={"kind": "image", "prompt": SECRET}, headers=PAGE)
        assert mine.status_code == 202
        assert await alice.get(f"/api/jobs/{mine.json()['id']}")
        async with alice.web.stream("GET", "/api/events") as events:
            lines = events.aiter_lines()
            await anext(lines)
            Tokens(settings.home).revoke("alice")
            for each in (alice.web, browser):
                assert (await each.get("/api/jobs")).status_code == 401
            assert (await alice.web.post("/mcp", json={})).status_code == 401
            pace.allow(100)
            rest = [line async for line in lines if SECRET in line and '"succeeded"' in line]
            assert rest == []  # the stream has ended by itself, before anything was sent on it


async def test_a_server_on_this_machine_that_needs_no_token_obeys_those_that_are_sent(
    shared_settings: Settings,
) -> None:
    name = "somebody.on_this-machine"
    token = Tokens(shared_settings.home).add(name)
    with anyio.fail_after(PATIENCE_S):
        async with site(shared_settings) as http, visiting(http, token) as owner, visiting(http, "sk-any") as user:
            made = await owner.tool("generate_image", prompt=SECRET)
            assert made is not None
            assert [job["job_id"] for job in (await owner.tool("list_jobs") or {})["jobs"]] == [made["job_id"]]
            assert await user.tool("get_job", job_id=made["job_id"])
            Tokens(shared_settings.home).revoke(name)
            assert (await owner.web.get("/v1/videos")).status_code == 401


def test_a_token_is_kept_as_a_hash_and_is_in_no_childs_environment(settings: Settings) -> None:
    token = Tokens(settings.home).add("alice")
    with running(settings) as front, httpx2.Client(base_url=front.url, timeout=PATIENCE_S) as web:
        made = web.post(
            "/v1/images/generations", json={"prompt": "a star"}, headers={"Authorization": f"Bearer {token}"}
        )
        assert made.status_code == 200, made.text
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                assert token.encode() not in (process / "environ").read_bytes()
                assert token.encode() not in (process / "cmdline").read_bytes()
    kept = [file for file in settings.home.rglob("*") if file.is_file()]
    assert [file for file in kept if token.encode() in file.read_bytes()] == []
    [file] = (settings.home / "tokens").iterdir()
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
