"""The player in a real browser, drawn by a host of the official libraries (scripts/app_host.mjs).

The reference host of ext-apps is part of its repository and not on npm, so the host here is a small page around the
same bridge and the same client. It draws the app in a frame without an origin, under the policy of the specification.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.environments import node_environment
from tests.clients.installation import SCRIPTS, Installation, Json
from tests.fixtures.browser import browser
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FrameLocator, Page

__all__ = ["browser"]

HOST = "app_host.html"
VIDEO = {"prompt": "a red circle moves to the right", "num_frames": 9, "steps": 4, "seed": 5, "wait_s": 0}
LONG = {"prompt": "a large blue star spins", "num_frames": 33, "steps": 50, "wait_s": 0}


@pytest.fixture(scope="module")
def host_script(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The host, in one file for a browser."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed; it brings the libraries of the host")
    folder = node_environment("app_host", npm)
    source, bundle = folder / "app_host.mjs", tmp_path_factory.mktemp("host") / "host.js"
    shutil.copy(SCRIPTS / "app_host.mjs", source)
    build = [str(folder / "node_modules" / ".bin" / "esbuild"), str(source), "--bundle", "--format=iife"]
    subprocess.run([*build, f"--outfile={bundle}"], check=True, capture_output=True, timeout=PATIENCE_S)
    return bundle.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def host(browser: "Browser", host_script: str, http_server: Json) -> Iterator["Page"]:
    """The host, connected to the server. Nothing asks for anything beyond this machine, and no script fails."""
    url = http_server["url"]
    address = url.removesuffix("mcp") + HOST
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    asked: list[str] = []
    broken: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.on("console", lambda message: broken.append(message.text) if message.type == "error" else None)
    page.route(address, lambda route: route.fulfill(body="<!doctype html><body></body>", content_type="text/html"))
    page.goto(address)
    page.add_script_tag(content=host_script)
    page.evaluate("url => window.wan.connect(url)", url)
    yield page
    page.close()
    assert {each for each in asked if not each.startswith(("data:", "about:"))} == {address, url}
    # The client asks whether there is a stream of its own, which this server does not have.
    assert [words for words in broken if "405 (Method Not Allowed)" not in words] == []


def drawn(host: "Page", tool: str, arguments: dict[str, Any]) -> "FrameLocator":
    """The app of a call."""
    host.evaluate("() => document.querySelectorAll('iframe').forEach((frame) => frame.remove())")
    host.evaluate("([tool, args]) => window.wan.draw(tool, args)", [tool, arguments])
    return host.frame_locator("iframe")


def test_a_video_is_followed_played_and_remixed(host: "Page", installation: Installation) -> None:
    app = drawn(host, "generate_video", VIDEO)
    app.locator("#prompt", has_text="a red circle").wait_for()
    video = app.locator("#stage video")
    video.wait_for()
    assert video.evaluate(PLAYS) == [128, 128]
    assert "succeeded" in app.locator("#status").inner_text()
    assert app.locator("#sheet").evaluate("(image) => image.complete && image.naturalWidth > 0")
    path = Path(app.locator("#place").inner_text())
    assert path.is_relative_to(installation.home)
    reads = host.evaluate("() => window.wan.seen.reads")
    assert all("?offset=" in address for address in reads)
    app.locator("#cancel").wait_for(state="hidden")
    app.get_by_role("button", name="Remix with another seed").click()
    app.locator("#place").filter(has_not_text=path.name).filter(has_text=".mp4").wait_for()
    video.wait_for()
    assert video.evaluate(PLAYS) == [128, 128]
    host.wait_for_function("() => window.wan.seen.informed.length === 1")
    [informed] = host.evaluate("() => window.wan.seen.informed")
    assert informed["content"][0]["text"].startswith("The user made a remix in the player. Job ")
    assert host.evaluate("() => window.wan.seen.sizes.length > 0")


def test_a_running_job_is_cancelled(host: "Page") -> None:
    app = drawn(host, "generate_video", LONG)
    app.get_by_role("button", name="Cancel").click()
    app.locator("#status", has_text="is cancelled").wait_for()
    app.get_by_role("button", name="Remix with another seed").wait_for()
    assert app.locator("#cancel").is_hidden()
    assert app.locator("#progress").is_hidden()


def test_a_call_that_waits_is_followed_before_it_returns_and_an_image_is_shown(host: "Page") -> None:
    """The host sends the result when the call is over; until then the player finds the job by its prompt."""
    app = drawn(host, "generate_video", {**LONG, "prompt": "a small green ring grows", "wait_s": PATIENCE_S})
    app.get_by_role("button", name="Cancel").click()
    app.locator("#status", has_text="is cancelled").wait_for()
    still = drawn(host, "generate_image", {"prompt": "a green square", "steps": 2, "count": 2, "wait_s": PATIENCE_S})
    picture = still.locator("#stage img")
    picture.wait_for()
    assert picture.evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 128
    first = still.locator("#place").inner_text()
    still.get_by_role("button", name="2, seed").click()
    still.locator("#place").filter(has_not_text=first).wait_for()


PLAYS = """async (video) => {
  if (video.readyState < 2) await new Promise((resolve, reject) => {
    video.addEventListener("loadeddata", resolve);
    video.addEventListener("error", () => reject(video.error));
  });
  return [video.videoWidth, video.videoHeight];
}"""
