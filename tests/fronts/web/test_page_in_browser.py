"""The page as a person uses it: a real browser, a real server, and the embedded model's engine."""

import base64
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from mcp import Client

from tests.fixtures.browser import opened
from tests.support.http_fronts import Running, running
from tests.support.patience import PATIENCE_S
from tests.support.videos import encode, greys
from wan_mcp.settings import Settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FilePayload, Page

sync_api = pytest.importorskip("playwright.sync_api", reason="the tests of the page need playwright")
PATIENCE_MS = PATIENCE_S * 1000
PROMPT = "a red circle moves right over a white background"
SCRIPT = "<img src=x onerror=\"document.title='broken in'\">"
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAAAwCAIAAAAuKetIAAAAQ0lEQVR42u3PQQkAAAgEsEty/UMZxgp+hcEKLNO+FgEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQGBqwX3ryDEVSQZuAAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("home"), device="cpu")


@pytest.fixture(scope="module")
def front(settings: Settings) -> Iterator[Running]:
    with running(settings) as front:
        yield front


@pytest.fixture
def page(browser: "Browser", front: Running) -> Iterator["Page"]:
    """The open page."""
    for page in opened(browser, front.url):
        page.wait_for_selector("#model")
        yield page


def make(page: "Page", prompt: str = PROMPT) -> str:
    """Ask for a result by keyboard, and return the job's id."""
    page.fill("#prompt", prompt)
    with page.expect_response(lambda response: response.url.endswith("/api/jobs") and response.status == 202) as sent:
        page.press("#prompt", "Control+Enter")
    return str(sent.value.json()["id"])


def plays(page: "Page") -> None:
    """Wait until the player has left its first frame; the page's policy lets no test evaluate words in a loop."""
    page.wait_for_selector("#stage video")
    sync_api.expect(page.locator("#stage .controls .mono")).not_to_have_text(re.compile("^1 /"), timeout=PATIENCE_MS)
    assert page.evaluate("() => document.querySelector('#stage video').readyState") >= 2


def test_a_video_is_made_and_plays_and_its_seed_is_written_back(page: "Page") -> None:
    job = make(page)
    page.wait_for_selector(f"[data-job='{job}']")
    plays(page)
    assert job in page.url
    assert "last used" in (page.get_attribute("#seed", "placeholder") or "")
    page.reload()
    plays(page)
    assert page.input_value("#prompt") == PROMPT
    page.wait_for_selector(".strip-frame:nth-child(9) img")

    page.click(".strip-frame:nth-child(9)")
    page.get_by_role("button", name="Extend from here").click()
    page.click("#add-shot")
    page.fill("#shot-0", "a blue star spins")
    with page.expect_request(lambda request: request.url.endswith("/api/jobs") and request.method == "POST") as sent:
        make(page)
    asked = sent.value.post_data_json or {}
    assert asked["shots"] == [{"prompt": "a blue star spins"}]
    assert asked["extend"] == f"wan://videos/{job}-0.mp4"
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Start without that video").click()
    page.get_by_role("button", name="Remove shot 2").click()
    with page.expect_download() as gif:
        page.goto(f"{page.url.split('#')[0]}#/job/{job}")
        page.get_by_label("Download as").select_option("GIF")
    assert gif.value.suggested_filename == f"{job}-0.gif"
    assert gif.value.path().read_bytes().startswith(b"GIF8")


def test_a_dropped_video_stands_for_a_frame_that_can_be_chosen(page: "Page", tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.webm", greys()).read_bytes()
    with page.expect_response(lambda response: "/api/inputs?frame=first" in response.url) as first:
        page.set_input_files("input[type=file]", {"name": "clip.webm", "mimeType": "video/webm", "buffer": clip})
    with page.expect_response(lambda response: "/api/inputs?frame=last" in response.url) as last:
        page.get_by_label("Frame", exact=True).select_option("last")
    assert first.value.json()["id"] != last.value.json()["id"]
    page.get_by_label("Frame", exact=True).select_option("number")
    with page.expect_response(lambda response: "/api/inputs?frame=2" in response.url):
        page.get_by_label("Number of the frame").fill("2")
        page.get_by_label("Number of the frame").blur()
    page.locator(".well", has_text="frame 2 of the video is used").wait_for()


def test_a_picture_is_chosen_and_animated(page: "Page") -> None:
    picture: FilePayload = {"name": f"{SCRIPT}.png", "mimeType": "image/png", "buffer": PICTURE}
    page.set_input_files("input[type=file]", picture)
    page.wait_for_selector(".held-picture img")
    make(page)
    plays(page)
    assert page.title() != "broken in"


def test_pages_elsewhere_reuse_their_own_pictures_and_no_others(browser: "Browser", front: Running) -> None:
    elsewhere = [browser.new_context(extra_http_headers={"Via": "1.1 proxy"}) for _ in range(2)]
    own, other = (context.new_page() for context in elsewhere)
    for page in (own, other):
        page.set_default_timeout(PATIENCE_MS)
    own.goto(front.url)
    own.wait_for_selector("#model")
    own.set_input_files("input[type=file]", {"name": "a.png", "mimeType": "image/png", "buffer": PICTURE})
    own.wait_for_selector(".held-picture img")
    job = make(own)
    plays(own)
    own.click(".well-remove")
    own.wait_for_selector(".held-picture img", state="detached")
    other.goto(f"{front.url}/#/job/{job}")
    plays(other)

    own.get_by_role("button", name="Remix").click()
    own.wait_for_selector(".held-picture img")
    assert own.evaluate("document.querySelector('.held-picture img').naturalWidth") == 64
    with own.expect_response(lambda response: response.url.endswith("/api/jobs")) as sent:
        own.get_by_role("button", name="Same, new seed").click()
    assert sent.value.json()["task"] == "image-to-video"

    other.get_by_role("button", name="Same, new seed").click()
    sync_api.expect(other.locator(".toasts")).to_contain_text("The picture of this job is on the server's machine")
    other.get_by_role("button", name="Remix").click()
    sync_api.expect(other.locator(".toasts")).to_contain_text("choose one")
    assert other.query_selector(".held-picture img") is None
    for context in elsewhere:
        context.close()


def test_markup_in_a_prompt_is_shown_as_text(page: "Page") -> None:
    make(page, f"a red circle {SCRIPT}")
    plays(page)
    assert SCRIPT in page.inner_text(".prompt-shown")
    assert page.title() != "broken in"


def test_a_job_of_an_mcp_client_appears_here_and_in_a_second_browser(
    page: "Page", browser: "Browser", front: Running
) -> None:
    second = browser.new_context(viewport={"width": 390, "height": 844})
    phone = second.new_page()
    phone.goto(front.url)
    phone.wait_for_selector("#model")

    async def ask() -> str:
        async with Client(f"{front.url}/mcp") as client:
            answer = await client.call_tool("generate_image", {"prompt": "a large green ring", "wait_s": 0})
            assert answer.structured_content is not None
            return str(answer.structured_content["job_id"])

    with ThreadPoolExecutor(1) as other:  # playwright's loop runs in this thread
        job = other.submit(anyio.run, ask).result(PATIENCE_S)
    page.wait_for_selector(f"[data-job='{job}']")
    phone.wait_for_selector(f"[data-job='{job}']")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    second.close()


def test_every_section_passes_axe_in_both_themes(page: "Page") -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    if not page.request.get(f"{page.url}api/jobs?state=succeeded").json()["jobs"]:
        make(page)
        plays(page)
        page.goto(page.url.split("#")[0])
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        for view, ready in (("", "#model"), ("gallery", ".tile"), ("models", ".model"), ("connect", ".program")):
            page.evaluate("view => { location.hash = `#/${view}`; }", view)
            page.wait_for_selector(ready)
            found = axe.run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
            assert found.violations_count == 0, f"{theme} {view}\n{found.generate_report()}"
