"""Videos on the page as a person sees them: a real browser, a real server, and the embedded model's engine."""

import base64
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ending_engines
from tests.fixtures.browser import opened
from tests.support.http_fronts import Running, running
from tests.support.patience import PATIENCE_S
from tests.support.videos import encode, greys
from wan_mcp.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import BrowserContext, Locator, Page

sync_api = pytest.importorskip("playwright.sync_api", reason="the tests of the page need playwright")
PATIENCE_MS = PATIENCE_S * 1000
PROMPT = "a red circle moves right over a white background"
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAAAwCAIAAAAuKetIAAAAQ0lEQVR42u3PQQkAAAgEsEty/UMZxgp+hcEKLNO+FgEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQGBqwX3ryDEVSQZuAAAAABJRU5ErkJggg=="
)
DROP = """([well, name, type, bytes]) => {
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([Uint8Array.from(atob(bytes), (each) => each.charCodeAt(0))], name, { type }));
  const target = document.querySelector(well);
  for (const event of ["dragover", "drop"]) {
    target.dispatchEvent(new DragEvent(event, { dataTransfer, bubbles: true, cancelable: true }));
  }
}"""


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("page") / "home"
    with ending_engines(home), running(Settings(home=home, device="cpu")) as front:
        yield front


@pytest.fixture
def page(profile: "BrowserContext", front: Running) -> Iterator["Page"]:
    """The open page, set to the quickest preset."""
    for page in opened(profile, front.url):
        page.wait_for_selector("#model")
        page.get_by_role("radio", name="Draft").check(force=True)
        yield page


def make(page: "Page") -> str:
    """Ask for a video by keyboard, and return the job's id."""
    page.fill("#prompt", PROMPT)
    with page.expect_response(lambda response: response.url.endswith("/api/jobs") and response.status == 202) as sent:
        page.press("#prompt", "Control+Enter")
    return str(sent.value.json()["id"])


def shown_frame(page: "Page") -> "Locator":
    return page.locator("#stage .controls .mono")


def drop(page: "Page", name: str, kind: str, content: bytes) -> None:
    page.evaluate(DROP, [".well", name, kind, base64.b64encode(content).decode()])


def test_a_video_is_made_and_plays_and_its_seed_is_written_back(page: "Page") -> None:
    page.emulate_media(reduced_motion="no-preference")
    job = make(page)
    page.wait_for_selector("#stage video")
    sync_api.expect(shown_frame(page)).not_to_have_text(re.compile("^1 /"), timeout=PATIENCE_MS)
    assert job in page.url
    assert "last used" in (page.get_attribute("#seed", "placeholder") or "")

    page.emulate_media(reduced_motion="reduce")
    page.reload()
    page.wait_for_selector(".strip-frame:nth-child(9) img")
    assert page.input_value("#prompt") == PROMPT
    sync_api.expect(shown_frame(page)).to_have_text(re.compile("^1 /"))
    assert page.evaluate("document.querySelector('#stage video').paused"), "less motion was asked for"
    page.get_by_role("button", name="Step one frame forward").click()
    sync_api.expect(shown_frame(page)).to_have_text(re.compile("^2 /"))

    page.click(".strip-frame:nth-child(5)")
    with page.expect_response(lambda response: "/api/inputs?image=" in response.url):
        page.get_by_role("button", name="Use as first picture").click()
    page.wait_for_selector(".held-picture img")
    page.click(".strip-frame:nth-child(9)")
    page.get_by_role("button", name="Extend from here").click()
    page.click("#add-shot")
    extended = f'"extend":"wan://videos/{job}-0.mp4"'
    with page.expect_response(
        lambda response: (
            response.url.endswith("/api/estimate") and "a blue star spins" in (response.request.post_data or "")
        )
    ) as estimated:
        page.fill("#shot-0", "a blue star spins")
    assert extended in (estimated.value.request.post_data or "")
    assert estimated.value.status == 200
    page.get_by_role("button", name="Start without that video").click()
    page.get_by_role("button", name="Remove shot 2").click()
    with page.expect_download() as gif:
        page.get_by_label("Download as").select_option("GIF")
    assert gif.value.suggested_filename == f"{job}-0.gif"
    assert gif.value.path().read_bytes().startswith(b"GIF8")


def test_a_dropped_video_stands_for_a_frame_that_can_be_chosen(page: "Page", tmp_path: "Path") -> None:
    clip = encode(tmp_path / "clip.webm", greys()).read_bytes()
    with page.expect_response(lambda response: "/api/inputs?frame=first" in response.url) as first:
        drop(page, "clip.webm", "video/webm", clip)
    with page.expect_response(lambda response: "/api/inputs?frame=last" in response.url) as last:
        page.get_by_label("Frame", exact=True).select_option("last")
    assert first.value.json()["id"] != last.value.json()["id"]
    page.get_by_label("Frame", exact=True).select_option("number")
    with page.expect_response(lambda response: "/api/inputs?frame=2" in response.url):
        page.get_by_label("Number of the frame").fill("2")
        page.get_by_label("Number of the frame").blur()
    page.locator(".well", has_text="frame 2 of the video is used").wait_for()


def test_a_dropped_picture_is_animated(page: "Page") -> None:
    drop(page, "a.png", "image/png", PICTURE)
    page.wait_for_selector(".held-picture .crop")
    job = make(page)
    page.locator(f"[data-job='{job}'].succeeded .thumb").wait_for()
    page.wait_for_selector("#stage video")
