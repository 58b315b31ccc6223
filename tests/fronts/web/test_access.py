"""Who may use the page: by a token, by a link that works once, by a session; and who may not."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx2
import pytest
import uvicorn

from tests.fixtures.studio import OWN, Studio, StudioSite
from tests.support.patience import PATIENCE_S
from wan_mcp.fronts.http.app import build_app, listen
from wan_mcp.fronts.web.phone import addresses_of
from wan_mcp.fronts.web.sessions import LINK_S, Sessions
from wan_mcp.service.service import serving
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio
TOKEN = "a long secret"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def guarded(shared_settings: Settings) -> Settings:
    return shared_settings.model_copy(update={"http_token": TOKEN})


async def sign_in(web: httpx2.AsyncClient, token: str = TOKEN) -> httpx2.Response:
    return await web.post("/sign-in", content=f"token={token}", headers=FORM)


async def test_a_browser_that_has_not_signed_in_is_asked_for_the_token(
    guarded: Settings, studio_site: StudioSite
) -> None:
    async with studio_site(guarded) as studio:
        page = await studio.web.get("/")
        assert (page.status_code, page.headers["location"]) == (303, "/sign-in")
        form = await studio.web.get("/sign-in")
        assert 'type="password"' in form.text
        assert "frame-ancestors 'none'" in form.headers["content-security-policy"]
        refused = await studio.web.get("/api/jobs")
        assert refused.status_code == 401
        assert refused.json()["action"]["do"] == "sign_in"
        for path in ("/media/videos/x.mp4", "/api/events"):
            assert (await studio.web.get(path)).status_code == 401


async def test_a_session_opens_the_page_and_nothing_else(guarded: Settings, studio_site: StudioSite) -> None:
    async with studio_site(guarded) as studio:
        wrong = await sign_in(studio.web, "another")
        assert wrong.status_code == 401
        assert not wrong.cookies
        right = await sign_in(studio.web)
        assert right.status_code == 200
        cookie = right.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie
        assert TOKEN not in cookie
        assert (await studio.web.get("/")).status_code == 200
        assert await studio.get("/api/session") == {"required": True, "signed_in": True}
        assert (await studio.web.get("/media/videos/x.mp4")).status_code == 404
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        assert (await studio.web.post("/mcp", json=message)).status_code == 401
        assert (await studio.web.get("/healthz")).status_code == 401
        for path in ("/media/inputs", "/media/upload-links"):  # other pages of this host come with its cookies
            assert (await studio.web.post(path)).status_code == 401
        assert (await studio.get("/api/connect/test"))["trouble"] is None, "as the page asks instead"


async def test_a_session_outlives_the_server_until_it_is_signed_out_of(
    guarded: Settings, studio_site: StudioSite
) -> None:
    async with studio_site(guarded) as studio:
        await sign_in(studio.web)
        [session] = studio.web.cookies.values()
    async with studio_site(guarded) as studio:
        studio.web.cookies.set(f"wan-mcp-{studio.url.rpartition(':')[2]}", session)
        assert (await studio.web.get("/api/jobs")).status_code == 200
        kept = dict(studio.web.cookies)
        out = await studio.send("/api/sign-out")
        assert out.status_code == 204
        assert "Max-Age=0" in out.headers["set-cookie"]
        studio.web.cookies.update(kept)
        assert (await studio.web.get("/api/jobs")).status_code == 401, "the server itself has forgotten it"


async def test_another_token_ends_all_sessions(guarded: Settings, studio_site: StudioSite) -> None:
    async with studio_site(guarded) as studio:
        await sign_in(studio.web)
        [session] = studio.web.cookies.values()
    async with studio_site(guarded.model_copy(update={"http_token": "changed"})) as studio:
        studio.web.cookies.set(f"wan-mcp-{studio.url.rpartition(':')[2]}", session)
        assert (await studio.web.get("/api/jobs")).status_code == 401


async def test_a_link_signs_in_once(guarded: Settings, studio_site: StudioSite) -> None:
    secret, _ = Sessions(guarded.home, "").make_link()
    async with studio_site(guarded) as studio:
        answers: list[int] = []

        async def follow() -> None:
            async with httpx2.AsyncClient(base_url=studio.url, timeout=PATIENCE_S) as browser:
                answers.append((await browser.get("/sign-in", params={"code": secret})).status_code)
                if browser.cookies:
                    assert (await browser.get("/api/jobs")).status_code == 200

        async with anyio.create_task_group() as browsers:
            for _ in range(3):
                browsers.start_soon(follow)
        assert sorted(answers) == [200, 401, 401]


async def test_an_old_or_made_up_link_signs_nobody_in(guarded: Settings, studio_site: StudioSite) -> None:
    secret, page = Sessions(guarded.home, "").make_link()
    old = time.time() - LINK_S - 1
    os.utime(page.with_suffix(""), (old, old))
    async with studio_site(guarded) as studio:
        for code in (secret, "", "../sessions", "x" * 43, "x" * 5000):
            answer = await studio.web.get("/sign-in", params={"code": code})
            assert answer.status_code == 401
            assert not answer.cookies
        assert "used already, or is too old" in answer.text


async def test_wrong_tokens_are_answered_more_and_more_slowly(guarded: Settings, studio_site: StudioSite) -> None:
    async with studio_site(guarded) as studio:
        answers = [(await sign_in(studio.web, f"guess-{number}")).status_code for number in range(6)]
        assert answers == [401] * 5 + [429]
        assert (await sign_in(studio.web)).status_code == 429, "the right one too: nothing is learnt meanwhile"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (OWN, 202),
        ({}, 403),
        (OWN | {"Origin": "http://127.0.0.1:1"}, 403),
        (OWN | {"Sec-Fetch-Site": "same-site"}, 403),
        (OWN | {"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
async def test_a_session_alone_changes_nothing(
    guarded: Settings, studio_site: StudioSite, headers: dict[str, str], status: int
) -> None:
    async with studio_site(guarded) as studio:
        await sign_in(studio.web)
        answer = await studio.web.post("/api/jobs", json={"kind": "image", "prompt": "a star"}, headers=headers)
        assert answer.status_code == status


async def test_a_program_with_the_token_needs_no_session(guarded: Settings, studio_site: StudioSite) -> None:
    async with studio_site(guarded, Authorization=f"Bearer {TOKEN}") as studio:
        assert (await studio.web.get("/api/jobs")).status_code == 200
        answer = await studio.web.post("/api/jobs", json={"kind": "image", "prompt": "a star"})
        assert answer.status_code == 202


async def test_a_link_on_another_page_leads_to_the_page_of_one_who_has_signed_in(
    guarded: Settings, studio_site: StudioSite
) -> None:
    async with studio_site(guarded) as studio:
        page = await studio.web.get("/", headers={"Sec-Fetch-Site": "cross-site"})  # without the strict cookie
        assert page.status_code == 200
        assert 'http-equiv="refresh" content="0;url=/"' in page.text
        assert (await studio.web.get("/", headers={"Sec-Fetch-Site": "same-origin"})).status_code == 303


@asynccontextmanager
async def where_callers_are_unknown(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with serving(settings) as service, anyio.create_task_group() as tasks:
        app = build_app(service, "127.0.0.1", own_user_only=True, callers_known=False)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", timeout_graceful_shutdown=1))
        tasks.start_soon(server.serve, [listener])
        async with httpx2.AsyncClient(base_url=url, timeout=PATIENCE_S) as web:
            yield web
        server.should_exit = True


async def test_where_the_system_does_not_say_who_calls_the_page_needs_a_link(shared_settings: Settings) -> None:
    secret, _ = Sessions(shared_settings.home, "").make_link()
    async with where_callers_are_unknown(shared_settings) as web:
        assert (await web.get("/api/jobs")).status_code == 401
        assert (await web.get("/healthz")).status_code == 200, "programs are answered as before"
        assert (await web.get("/media/videos/x.mp4")).status_code == 404
        form = await web.get("/sign-in")
        assert "wan-mcp studio" in form.text and "password" not in form.text
        assert (await sign_in(web, "")).status_code == 401
        assert (await web.get("/sign-in", params={"code": secret})).status_code == 200
        assert (await web.get("/api/jobs")).status_code == 200


async def test_without_a_token_the_servers_own_user_needs_no_sign_in(
    shared_settings: Settings, studio_site: StudioSite
) -> None:
    async with studio_site(shared_settings) as studio:
        assert (await studio.web.get("/")).status_code == 200
        assert await studio.get("/api/session") == {"required": False, "signed_in": False}
        assert (await studio.web.get("/sign-in")).headers["location"] == "/"


async def test_the_page_can_be_switched_off(shared_settings: Settings, studio_site: StudioSite) -> None:
    async with studio_site(shared_settings.model_copy(update={"http_page": False})) as studio:
        for path in ("/", "/api/jobs", "/sign-in", "/api/events"):
            assert (await studio.web.get(path)).status_code == 404
        assert (await studio.web.get("/healthz")).status_code == 200


async def test_a_code_for_a_phone_is_a_link_to_each_address_that_signs_in_once(
    guarded: Settings, studio_site: StudioSite
) -> None:
    async with studio_site(guarded, host="192.168.7.20") as studio:
        assert (await studio.send("/api/phone")).status_code == 401, "only a page that has signed in makes one"
        await sign_in(studio.web)
        [link] = (await studio.send("/api/phone")).json()["links"]
        port = studio.url.rpartition(":")[2]
        assert link.startswith(f"http://192.168.7.20:{port}/sign-in?code=")
        studio.web.cookies.clear()
        path = link.partition(port)[2]
        assert (await studio.web.get(path)).headers["set-cookie"]
        assert (await studio.web.get(path)).status_code == 401
        assert (await studio.send("/api/phone", method="GET")).status_code in (401, 405)


async def test_a_server_that_only_this_machine_reaches_has_no_code_for_a_phone(studio: Studio) -> None:
    assert (await studio.send("/api/phone")).json() == {"links": []}


def test_a_server_on_all_addresses_is_reached_by_those_of_this_machine_but_not_by_loopback() -> None:
    assert not {"127.0.0.1", "0.0.0.0"} & set(addresses_of("0.0.0.0"))
    assert addresses_of("::") == addresses_of("0.0.0.0")
    assert addresses_of("fd00::1") == ["[fd00::1]"]
    assert addresses_of("gpu.local") == ["gpu.local"]
