"""The page goes on: after a reload or a crash in the middle of a job, with 5,000 results, and without a mouse."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil
import pytest

from tests.fixtures.browser import opened
from tests.support.http_fronts import running
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.store import JobStore
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job
from wan_mcp.settings import Settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

RESULTS = 5_000
DEPTH = 500
"""Results that are scrolled past."""
AT_ONCE = 200
"""Tiles in the page, however many results there are."""


@pytest.fixture
def paced(engine: Callable[..., Settings]) -> Settings:
    """A home whose engine waits after two steps."""
    settings = engine("works")
    settings.home.mkdir(parents=True, exist_ok=True)
    allow(settings, 2)
    return settings


def allow(settings: Settings, steps: int) -> None:
    """Let the engine go on until it has done so many steps in all."""
    partial = settings.home / "pace.part"
    partial.write_text(str(steps), encoding="utf-8")
    partial.replace(settings.home / "pace")


def make_image(page: "Page") -> str:
    page.get_by_role("radio", name="Image").click()
    page.fill("#prompt", "a large green ring")
    with page.expect_response(lambda response: response.url.endswith("/api/jobs") and response.status == 202) as sent:
        page.press("#prompt", "Control+Enter")
    return str(sent.value.json()["id"])


def at_step(page: "Page", job: str, step: int) -> None:
    page.locator(f"[data-job='{job}']").get_by_text(re.compile(rf"\b{step}\b.*\b\d+\b")).first.wait_for()


def test_a_reload_in_the_middle_of_a_job_finds_it_again(browser: "Browser", paced: Settings) -> None:
    with running(paced) as front:
        for page in opened(browser, front.url):
            job = make_image(page)
            at_step(page, job, 2)
            page.reload()
            at_step(page, job, 2)
            allow(paced, 10_000)
            page.wait_for_selector("#stage img")
            assert job in page.url


def test_waiting_jobs_are_moved_with_the_keyboard_and_the_mouse(browser: "Browser", paced: Settings) -> None:
    with running(paced) as front:
        for page in opened(browser, front.url):
            page.wait_for_selector("#model")
            first = make_image(page)
            at_step(page, first, 2)
            one, two, three = (make_image(page) for _ in range(3))

            def served(page: "Page", *jobs: str) -> None:
                for job, place in zip(jobs, ("next", "number 2", "number 3"), strict=True):
                    page.locator(f"[data-job='{job}']", has_text=place).wait_for()

            served(page, one, two, three)
            card = page.locator(f"[data-job='{three}']")
            card.get_by_role("button", name="Move up in the queue").press("Enter")
            served(page, one, three, two)
            card.get_by_role("button", name="Move up in the queue").press("Enter")
            served(page, three, one, two)
            page.locator(f"[data-job='{two}']").drag_to(page.locator(f"[data-job='{three}']"))
            served(page, two, three, one)
            allow(paced, 10_000)
            for job in (one, two, three):
                page.locator(f"[data-job='{job}'].succeeded").wait_for()
    assert [job.id for job in by_start(paced)] == [first, two, three, one]


def by_start(settings: Settings) -> list[Job]:
    with closing(Database(settings.database)) as database:
        return sorted(JobStore(database).newest(), key=lambda job: job.started_at or 0)


def test_a_page_recovers_when_its_server_and_the_engine_are_killed_in_the_middle_of_a_job(
    browser: "Browser", paced: Settings
) -> None:
    pages: Iterator[Page]
    with running(paced) as front:
        pages = opened(browser, front.url)
        page = next(pages)
        job = make_image(page)
        at_step(page, job, 2)
        with closing(Database(paced.database)) as database:
            [row] = database.read("SELECT pid FROM engines")
        psutil.Process(row["pid"]).kill()
        port = urlsplit(front.url).port or 0
    page.get_by_text("The server cannot be reached").wait_for()
    allow(paced, 10_000)
    with running(paced, port=port):
        page.wait_for_selector("#stage img")
        page.get_by_text("The server cannot be reached").wait_for(state="detached")
        assert page.locator(f"[data-job='{job}'].succeeded").count() == 1
        assert next(pages, None) is None


def test_the_token_signs_in_and_no_other_word_does(browser: "Browser", engine: Callable[..., Settings]) -> None:
    with running(engine("works", http_token="a long secret")) as front:
        for page in opened(browser, front.url):
            assert page.url.endswith("/sign-in")
            page.get_by_label("Token").fill("another")
            page.keyboard.press("Enter")
            page.get_by_role("alert").wait_for()
            page.get_by_label("Token").fill("a long secret")
            page.keyboard.press("Enter")
            page.wait_for_selector("#model")
            make_image(page)
            page.wait_for_selector("#stage img")
            assert page.evaluate("document.cookie") == "", "no script of the page reads the session"


def test_everything_is_done_with_the_keyboard_alone(browser: "Browser", engine: Callable[..., Settings]) -> None:
    def tab_to(page: "Page", wanted: str, key: str = "Tab") -> None:
        """Press Tab until what is focused has this name, and is seen to be focused."""
        for _ in range(60):
            page.keyboard.press(key)
            name = page.evaluate("(e => e.id || e.name || e.ariaLabel || e.innerText.trim())(document.activeElement)")
            if name.startswith(wanted):
                style = page.evaluate("(s => s.outlineStyle + s.boxShadow)(getComputedStyle(document.activeElement))")
                assert style not in ("nonenone", "none"), f"{wanted} does not show that it is focused"
                return
        raise AssertionError(f"the Tab key does not come to '{wanted}'")

    with running(engine("works")) as front:
        for page in opened(browser, front.url):
            page.wait_for_selector("#model")
            tab_to(page, "Skip to the composer")
            page.keyboard.press("Enter")
            assert page.evaluate("document.activeElement.id") == "prompt"
            tab_to(page, "kind", "Shift+Tab")
            page.keyboard.press("ArrowRight")
            page.get_by_role("radio", name="Image", checked=True).wait_for()
            tab_to(page, "prompt")
            page.keyboard.type("a large green ring")
            tab_to(page, "Make image")
            page.keyboard.press("Enter")
            page.wait_for_selector("#stage img")
            page.locator("#heard", has_text="done").wait_for()
            tab_to(page, "Keep")
            page.keyboard.press("Enter")
            page.get_by_role("button", name="Kept").wait_for()
            tab_to(page, "Receipt")
            page.keyboard.press("Enter")
            page.get_by_role("dialog").wait_for()
            page.keyboard.press("Escape")
            page.get_by_role("dialog").wait_for(state="detached")
            assert page.evaluate("document.activeElement.innerText.trim()") == "Receipt", "the focus has come back"


def test_a_gallery_of_thousands_draws_only_what_is_in_sight(
    browser: "Browser", engine: Callable[..., Settings]
) -> None:
    settings = engine("works")
    with running(settings) as front:
        for page in opened(browser, front.url):
            first = make_image(page)
            page.wait_for_selector("#stage img")
            with closing(Database(settings.database)) as database:
                assert JobStore(database).get(first).state is JobState.SUCCEEDED
                with database.write() as connection:
                    columns = [row["name"] for row in connection.execute("PRAGMA table_info(jobs)")]
                    others = ", ".join(name for name in columns if name not in ("seq", "id", "request_id", "plan"))
                    connection.execute(
                        "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < :all)"
                        f" INSERT INTO jobs (id, plan, {others})"
                        " SELECT printf('%020d', n), json_set(plan, '$.prompt_asked', 'ring number ' || n),"
                        f" {others} FROM jobs, number WHERE id = :id",
                        {"all": RESULTS, "id": first},
                    )
            page.goto(f"{front.url}/#/gallery")
            page.locator(".tile", has_text=re.compile(rf"ring number {RESULTS}(?!\d)")).wait_for()
            page.mouse.move(700, 600)
            deepest = RESULTS
            while deepest > RESULTS - DEPTH:
                page.mouse.wheel(0, 40_000)
                drawn = page.locator(".tile").all_inner_texts()
                assert len(drawn) <= AT_ONCE
                deepest = min(deepest, *[int(number) for number in re.findall(r"ring number (\d+)", " ".join(drawn))])
            page.get_by_role("searchbox").fill("large green")
            page.locator(f".tile[data-job='{first}']").wait_for()
            assert page.locator(".tile").count() == 1
