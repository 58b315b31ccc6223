"""What a person does with results on the page, and with what went wrong: by mouse, by keyboard, from elsewhere."""

import base64
import json
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

import anyio
import pytest
from mcp import Client

from tests.fixtures.browser import PageServer, make_image, opened
from tests.support.http_fronts import running
from tests.support.patience import PATIENCE_S
from wan_mcp.catalog.catalog import shipped_folder
from wan_mcp.jobs.database import Database
from wan_mcp.settings import Settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator, Page

sync_api = pytest.importorskip("playwright.sync_api", reason="the tests of the page need playwright")
PATIENCE_MS = PATIENCE_S * 1000
SCRIPT = "<img src=x onerror=\"document.title='broken in'\">"
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAAAwCAIAAAAuKetIAAAAQ0lEQVR42u3PQQkAAAgEsEty/UMZxgp+hcEKLNO+FgEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQGBqwX3ryDEVSQZuAAAAABJRU5ErkJggg=="
)
VIEWS = (("", "#model"), ("gallery", ".tile"), ("models", ".model"), ("connect", ".program"))
FOCUSED = "(e => e.id || e.name || e.ariaLabel || e.innerText.trim())(document.activeElement)"
OUTLINE = "(s => s.outlineStyle + s.boxShadow)(getComputedStyle(document.activeElement))"


def card(page: "Page", job: str, state: str = "succeeded") -> "Locator":
    return page.locator(f".card.{state}[data-job='{job}']")


def made(page: "Page", prompt: str = "a large green ring") -> str:
    """Make an image, and return its job's id when it is shown."""
    job = make_image(page, prompt)
    card(page, job).wait_for()
    return job


def show(page: "Page", view: str) -> None:
    page.evaluate("view => { location.hash = `#/${view}`; }", view)


def tab_to(page: "Page", wanted: str, key: str = "Tab") -> None:
    """Press Tab until what is focused has this name, and is seen to be focused."""
    for _ in range(60):
        page.keyboard.press(key)
        if page.evaluate(FOCUSED).startswith(wanted):
            assert page.evaluate(OUTLINE) not in ("nonenone", "none"), f"{wanted} does not show that it is focused"
            return
    raise AssertionError(f"the Tab key does not come to '{wanted}'")


def test_everything_is_done_with_the_keyboard_alone(page: "Page") -> None:
    tab_to(page, "Skip to the composer")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "prompt"
    tab_to(page, "kind", "Shift+Tab")
    page.keyboard.press("ArrowRight")
    page.get_by_role("radio", name="Image", checked=True).wait_for()
    tab_to(page, "prompt")
    page.keyboard.type("a large green ring")
    tab_to(page, "Make image")
    with page.expect_response(lambda response: response.url.endswith("/api/jobs")) as sent:
        page.keyboard.press("Enter")
    card(page, sent.value.json()["id"]).wait_for()
    tab_to(page, "Keep")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Kept").wait_for()
    tab_to(page, "Receipt", "Shift+Tab")
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    assert page.evaluate("document.activeElement.innerText.trim()") == "Receipt", "the focus has come back"


def test_a_result_is_compared_reproduced_and_linked_to(page: "Page") -> None:
    first, second = made(page, "a small red ring"), made(page, "a small blue ring")
    page.get_by_role("button", name="Compare").click()
    page.locator(".pick[title='a small red ring']").first.click()
    assert page.locator(".compare figcaption .clip").all_inner_texts() == ["a small blue ring", "a small red ring"]
    page.get_by_role("button", name="Stop comparing").click()

    show(page, f"job/{first}")
    page.locator("h1", has_text="a small red ring").wait_for()
    page.get_by_role("button", name="Receipt").click()
    with page.expect_response(lambda response: response.url.endswith("/api/jobs")) as sent:
        page.get_by_role("button", name="Reproduce").click()
    again = sent.value.json()
    assert again["parent"] == first
    assert again["seed"] == page.request.get(f"{page.url.split('#')[0]}api/jobs/{first}").json()["seed"]
    card(page, again["id"]).wait_for()
    assert again["id"] in page.url
    show(page, "job/none")
    page.get_by_text("There is no such job").wait_for()
    assert second != first


def test_results_are_filtered_packed_and_deleted_unless_that_is_undone(page: "Page", page_server: PageServer) -> None:
    jobs = [made(page, f"a {colour} triangle") for colour in ("red", "blue")]
    show(page, "gallery")
    page.get_by_role("searchbox").fill("triangle")
    tiles = page.locator(".tile")
    sync_api.expect(tiles).to_have_count(2, timeout=PATIENCE_MS)
    today = datetime.now()
    page.get_by_label("From").fill(f"{today + timedelta(days=2):%Y-%m-%d}")
    page.get_by_role("heading", name="Nothing matches").wait_for()
    page.get_by_label("From").fill(f"{today - timedelta(days=1):%Y-%m-%d}")
    page.get_by_label("To", exact=True).fill(f"{today + timedelta(days=1):%Y-%m-%d}")
    sync_api.expect(tiles).to_have_count(2, timeout=PATIENCE_MS)

    page.get_by_role("button", name="Select").click()
    for job in jobs:
        page.locator(f".tile[data-job='{job}'] button").click()
    page.get_by_text("2 selected").wait_for()
    with page.expect_download() as archive:
        page.get_by_role("button", name="Download ZIP").click()
    names = zipfile.ZipFile(archive.value.path()).namelist()
    assert sorted(name.split("_")[1] for name in names) == ["a-blue-triangle", "a-red-triangle"]
    page.get_by_role("button", name="Delete").click()
    sync_api.expect(tiles).to_have_count(0, timeout=PATIENCE_MS)
    page.get_by_role("button", name="Undo").click()
    sync_api.expect(tiles).to_have_count(2, timeout=PATIENCE_MS)

    page.get_by_role("button", name="Select").click()
    page.locator(f".tile[data-job='{jobs[0]}'] button").click()
    page.get_by_role("button", name="Delete").click()
    sync_api.expect(tiles).to_have_count(1, timeout=PATIENCE_MS)
    page.reload()  # nothing can be undone any more
    until = time.monotonic() + PATIENCE_S
    while page.request.get(f"{page_server.url}/api/jobs/{jobs[0]}").status != 404:
        assert time.monotonic() < until, "closing the page deletes what waits for that"


def test_the_best_of_several_is_asked_for_where_a_captioner_can_tell(page: "Page") -> None:
    page.get_by_role("radio", name="Image").click()
    page.fill("#prompt", "a large green ring")
    page.get_by_text("Advanced").click()
    page.get_by_label("How many").fill("2")
    page.get_by_label("Keep only the best").check()
    assert page.get_by_label("Check the result").is_disabled(), "it is part of that"
    with page.expect_request(lambda request: request.url.endswith("/api/jobs") and request.method == "POST") as sent:
        page.press("#prompt", "Control+Enter")
    asked = sent.value.post_data_json or {}
    assert (asked["count"], asked["pick"]) == (2, "best")
    page.get_by_label("How many").fill("1")
    page.get_by_label("Check the result").check()
    with page.expect_request(lambda request: '"check":true' in (request.post_data or "")):
        page.press("#prompt", "Control+Enter")


def test_a_failed_job_says_why_and_its_button_does_what_it_says(page: "Page", page_server: PageServer) -> None:
    error = json.dumps({"code": "lora_missing", "message": f"The LoRA {SCRIPT} is not there any more."})
    job = made(page, "a tall purple ring")
    page.fill("#prompt", "")
    with closing(Database(page_server.settings.database)) as database, database.write() as connection:
        connection.execute(
            "UPDATE jobs SET state = 'failed', error = :error WHERE id = :id", {"error": error, "id": job}
        )
    failed = card(page, job, "failed")
    failed.get_by_text(SCRIPT).wait_for()
    page.locator("#stage [role=alert]", has_text=SCRIPT).wait_for()
    failed.get_by_role("button", name="Change its settings").click()
    sync_api.expect(page.locator("#prompt")).to_have_value("a tall purple ring", timeout=PATIENCE_MS)
    assert page.title() != "broken in"


def test_markup_in_prompts_files_and_manifests_is_shown_as_text(page: "Page", page_server: PageServer) -> None:
    folder = page_server.settings.home / "manifests"
    folder.mkdir(exist_ok=True)
    manifest = (shipped_folder() / "wan2.1-t2v-1.3b.toml").read_text(encoding="utf-8")
    named = manifest.replace('name = "wan2.1-t2v-1.3b"', 'name = "odd-wan"')
    title = next(line for line in manifest.splitlines() if line.startswith("title ="))
    assert named != manifest
    (folder / "odd-wan.toml").write_text(named.replace(title, f"title = '''{SCRIPT}'''"), encoding="utf-8")
    (folder / "broken.toml").write_text(f"name = '''{SCRIPT}'''", encoding="utf-8")
    page.reload()
    page.set_input_files("input[type=file]", {"name": f"{SCRIPT}.png", "mimeType": "image/png", "buffer": PICTURE})
    page.wait_for_selector(".held-picture img")
    made(page, f"a red circle {SCRIPT}")
    assert SCRIPT in page.inner_text(".prompt-shown")
    show(page, "models")
    page.locator(".model", has_text=SCRIPT).wait_for()
    page.locator(".notice.bad", has_text="broken.toml").wait_for()
    assert page.title() != "broken in"
    shutil.rmtree(folder)


def test_pages_elsewhere_reuse_their_own_pictures_and_no_others(browser: "Browser", page_server: PageServer) -> None:
    elsewhere = [browser.new_context(extra_http_headers={"Via": "1.1 proxy"}) for _ in range(2)]
    own, other = (context.new_page() for context in elsewhere)
    for page in (own, other):
        page.set_default_timeout(PATIENCE_MS)
    own.goto(page_server.url)
    own.get_by_role("radio", name="Image").click()
    own.set_input_files("input[type=file]", {"name": "a.png", "mimeType": "image/png", "buffer": PICTURE})
    own.wait_for_selector(".held-picture img")
    job = made(own)
    own.click(".well-remove")
    own.wait_for_selector(".held-picture img", state="detached")
    other.goto(f"{page_server.url}/#/job/{job}")

    own.get_by_role("button", name="Remix").click()
    own.wait_for_selector(".held-picture img")
    assert own.evaluate("document.querySelector('.held-picture img').naturalWidth") == 64
    with own.expect_response(lambda response: response.url.endswith("/api/jobs")) as sent:
        own.get_by_role("button", name="Same, new seed").click()
    assert sent.value.json()["task"] == "image-to-image"

    other.get_by_role("button", name="Same, new seed").click()
    sync_api.expect(other.locator(".toasts")).to_contain_text("The picture of this job is on the server's machine")
    other.get_by_role("button", name="Remix").click()
    sync_api.expect(other.locator(".toasts")).to_contain_text("choose one")
    assert other.query_selector(".held-picture img") is None
    for context in elsewhere:
        context.close()


def test_a_job_of_an_mcp_client_appears_here_and_on_a_phone(
    page: "Page", profile: "BrowserContext", page_server: PageServer
) -> None:
    phones = opened(profile, page_server.url)
    phone = next(phones)
    phone.set_viewport_size({"width": 390, "height": 844})
    phone.wait_for_selector("#model")

    async def ask() -> str:
        async with Client(f"{page_server.url}/mcp") as client:
            answer = await client.call_tool("generate_image", {"prompt": "a large green ring", "wait_s": 0})
            assert answer.structured_content is not None
            return str(answer.structured_content["job_id"])

    with ThreadPoolExecutor(1) as other:  # playwright's loop runs in this thread
        job = other.submit(anyio.run, ask).result(PATIENCE_S)
    card(page, job).wait_for()
    card(phone, job).wait_for()
    for view, ready in VIEWS:
        show(phone, view)
        phone.wait_for_selector(ready)
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390, view
    assert next(phones, None) is None


def test_every_section_passes_axe_in_both_themes(page: "Page") -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    made(page)
    theme: Literal["light", "dark"]
    every: dict[str, object] = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
    colours: dict[str, object] = {"type": "rule", "values": ["color-contrast"]}  # all that a theme changes
    for theme, rules in (("light", every), ("dark", colours)):
        page.emulate_media(color_scheme=theme)
        for view, ready in VIEWS:
            show(page, view)
            page.wait_for_selector(ready)
            found = axe.run(page, options={"runOnly": rules, "resultTypes": ["violations"]})
            assert found.violations_count == 0, f"{theme} {view}\n{found.generate_report()}"


def test_the_server_is_tested_and_the_memory_is_freed(page: "Page") -> None:
    made(page)
    show(page, "connect")
    page.get_by_role("button", name="Test the server").click()
    page.get_by_text("It answers: wan-mcp").wait_for()
    page.locator("button[aria-controls=engine]").click()
    page.get_by_role("button", name="Free the memory now").click()
    page.get_by_text("The engine is shutting down").wait_for()
    show(page, "")
    page.locator("#engine").wait_for(state="detached")
    made(page)  # the next job starts another


@pytest.fixture
def guarded(profile: "BrowserContext", engine: Callable[..., Settings]) -> Iterator["Page"]:
    """A page of a server with a token."""
    with running(engine("works", http_token="a long secret")) as front:
        yield from opened(profile, front.url)


def test_the_token_signs_in_until_one_signs_out_and_no_other_word_does(guarded: "Page") -> None:
    page = guarded
    assert page.url.endswith("/sign-in")
    page.get_by_label("Token").fill("another")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    page.get_by_label("Token").fill("a long secret")
    page.keyboard.press("Enter")
    page.wait_for_selector("#model")
    assert page.evaluate("document.cookie") == "", "no script of the page reads the session"
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    page.goto(page.url.removesuffix("sign-in"))
    page.get_by_label("Token").wait_for()
