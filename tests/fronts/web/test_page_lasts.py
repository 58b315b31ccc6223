"""The page goes on: after a reload or a crash in the middle of a job, with waiting jobs, and with 5,000 results."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil

from tests.fixtures.browser import PageServer, allow, make_image, opened
from tests.support.http_fronts import running
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.store import JobStore
from wan_mcp.settings import Settings

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

RESULTS = 5_000
DEPTH = 500
"""Results that are scrolled past."""
AT_ONCE = 200
"""Tiles in the page, however many results there are."""


def card(page: "Page", job: str) -> str:
    """The selector of a job's card."""
    return f".card[data-job='{job}']"


def test_a_reload_in_the_middle_of_a_job_finds_it_again_and_a_listener_hears_its_stages(
    page: "Page", page_server: PageServer
) -> None:
    with page_server.held():
        job = make_image(page)
        page.locator(card(page, job), has_text="Denoising").wait_for()
        page.locator("#heard", has_text="“a large green ring”: denoising").wait_for(state="attached")
        page.reload()
        page.locator(card(page, job), has_text="Denoising").wait_for()
    page.wait_for_selector("#stage img")
    assert job in page.url
    page.locator("#heard", has_text="“a large green ring”: done").wait_for(state="attached")


def test_waiting_jobs_are_moved_with_the_keyboard_and_the_mouse(page: "Page", page_server: PageServer) -> None:
    with page_server.held():
        first = make_image(page)
        page.locator(card(page, first), has_text="Denoising").wait_for()
        one, two, three = (make_image(page) for _ in range(3))

        def served(*jobs: str) -> None:
            for job, place in zip(jobs, ("next", "number 2", "number 3"), strict=True):
                page.locator(card(page, job), has_text=place).wait_for()

        def move_up(job: str) -> None:
            page.locator(card(page, job)).get_by_role("button", name="Move up in the queue").press("Enter")

        served(one, two, three)
        move_up(three)
        served(one, three, two)
        move_up(three)
        served(three, one, two)
        page.locator(card(page, two)).drag_to(page.locator(card(page, three)))
        served(two, three, one)
    for job in (one, two, three):
        page.locator(f"{card(page, job)}.succeeded").wait_for()
    with closing(Database(page_server.settings.database)) as database:
        store = JobStore(database)
        started = {job: store.get(job).started_at or 0 for job in (first, one, two, three)}
    assert sorted(started, key=lambda job: started[job]) == [first, two, three, one]


def test_a_page_recovers_when_its_server_and_the_engine_are_killed_in_the_middle_of_a_job(
    profile: "BrowserContext", engine: Callable[..., Settings]
) -> None:
    settings = engine("works")
    settings.home.mkdir(parents=True)
    allow(settings, 2)
    pages: Iterator[Page]
    with running(settings) as front:
        pages = opened(profile, front.url)
        page = next(pages)
        page.get_by_role("button", name="Play with shapes").click()
        assert page.input_value("#prompt"), "a new home offers to try the model that is there"
        job = make_image(page)
        page.locator(card(page, job), has_text="step 2 of").wait_for()
        with page.expect_response(lambda response: response.url.endswith(f"/media/previews/{job}.jpg")):
            pass  # the page looks, so the next step is followed by a picture
        allow(settings, 3)
        page.wait_for_selector(".previewing img")
        with closing(Database(settings.database)) as database:
            [row] = database.read("SELECT pid FROM engines")
        psutil.Process(row["pid"]).kill()
        port = urlsplit(front.url).port or 0
    page.get_by_text("The server cannot be reached").wait_for()
    allow(settings, 10_000)
    with running(settings, port=port):
        page.wait_for_selector("#stage .shown-picture")
        page.get_by_text("The server cannot be reached").wait_for(state="detached")
        assert page.locator(f"{card(page, job)}.succeeded").count() == 1
        assert next(pages, None) is None


def test_a_gallery_of_thousands_draws_only_what_is_in_sight(profile: "BrowserContext", page_server: PageServer) -> None:
    for page in opened(profile, page_server.url):
        first = make_image(page, "the first of thousands")
        page.locator(f"{card(page, first)}.succeeded").wait_for()
    with closing(Database(page_server.settings.database)) as database, database.write() as connection:
        columns = [row["name"] for row in connection.execute("PRAGMA table_info(jobs)")]
        others = ", ".join(name for name in columns if name not in ("seq", "id", "request_id", "plan"))
        connection.execute(
            "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < :all)"
            f" INSERT INTO jobs (id, plan, {others})"
            " SELECT printf('%020d', n), json_set(plan, '$.prompt_asked', 'ring number ' || n),"
            f" {others} FROM jobs, number WHERE id = :id",
            {"all": RESULTS, "id": first},
        )
    for page in opened(profile, f"{page_server.url}/#/gallery"):
        page.locator(".tile", has_text=re.compile(rf"ring number {RESULTS}(?!\d)")).wait_for()
        page.mouse.move(700, 600)
        deepest = RESULTS
        while deepest > RESULTS - DEPTH:
            page.mouse.wheel(0, 40_000)
            drawn = page.locator(".tile").all_inner_texts()
            assert len(drawn) <= AT_ONCE
            deepest = min(deepest, *[int(number) for number in re.findall(r"ring number (\d+)", " ".join(drawn))])
        page.get_by_role("searchbox").fill("first of thousands")
        page.locator(f".tile[data-job='{first}']").wait_for()
        assert page.locator(".tile").count() == 1
