"""Draw the pictures of the studio page in docs/images: a real server with the embedded model, and a real browser.

python scripts/studio_images.py [FOLDER]    # needs Chromium: scripts/install-browser
"""

import itertools
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import imageio_ffmpeg
from PIL import Image
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

IMAGES = Path(__file__).parents[1] / "docs" / "images"
CHROMIUM = "/usr/bin/chromium"
PROMPT = "a large orange triangle moves down over a white background"
EARLIER = (
    ("Image", "a large green ring on a white background"),
    ("Image", "a small red star on a black background"),
    ("Video", "a large blue square moves left over a white background"),
    ("Video", "a purple diamond moves up over a white background"),
)
REPLACE = """pairs => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    for (const [here, there] of pairs) walker.currentNode.data = walker.currentNode.data.replaceAll(here, there);
  }
}"""
"""Writes other paths into the page than those of this machine."""
GIF_WIDTH = 900
HOLD_S = 1.2
"""Seconds that the first and the last picture of the GIF stay."""
PLAYED_S = 4.0


def main(folder: Path = IMAGES) -> None:
    """Draw all pictures into `folder`."""
    with tempfile.TemporaryDirectory() as home, serving(Path(home)) as url, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = opened(browser, url, 1280, 800)
        page.locator(".offer").last.wait_for()
        shoot(page, folder / "studio-first-run.png")
        for kind, prompt in EARLIER:
            make(page, kind, prompt)
        film(page, url, folder / "studio.gif")
        page.locator(".strip-frame:nth-child(9) img").wait_for()
        shoot(page, folder / "studio-create.png")
        for view, ready in (("gallery", ".tile"), ("models", ".model"), ("connect", ".program")):
            page.goto(f"{url}/#/{view}")
            page.wait_for_selector(ready)
            page.evaluate(REPLACE, [[sys.prefix, "/home/you/wan_mcp/.venv"], [home, "/home/you/.local/share"]])
            shoot(page, folder / f"studio-{view}.png")
        page.goto(f"{url}/#/")
        page.get_by_role("button", name="Receipt").scroll_into_view_if_needed()
        page.locator("button[aria-controls=engine]").click()
        page.locator("#engine dl").wait_for()
        shoot(page, folder / "studio-engine.png")
        phone = opened(browser, url, 390, 844)
        shoot(phone, folder / "studio-phone.png")
        browser.close()


@contextmanager
def serving(home: Path) -> Iterator[str]:
    """A server of an empty home; its address."""
    wan_mcp = [sys.executable, "-m", "wan_mcp", "--home", str(home / "home")]
    command = [*wan_mcp, "--device", "cpu", "http", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            address = next(line for line in server.stderr if "listening on" in line)
            yield address.partition("listening on ")[2].split()[0].removesuffix("/mcp")
        finally:
            subprocess.run(
                [sys.executable, "-m", "wan_mcp", "--home", str(home / "home"), "engine", "stop"], check=True
            )
            server.terminate()
            server.stderr.read()


def opened(browser: "Browser", url: str, width: int, height: int) -> "Page":
    """The page in a window of that size."""
    page = browser.new_context(viewport={"width": width, "height": height}, color_scheme="dark").new_page()
    page.set_default_timeout(120_000)
    page.goto(url)
    page.wait_for_selector("#model")
    return page


def make(page: "Page", kind: str, prompt: str) -> None:
    """Make a result, and wait for it."""
    page.get_by_role("radio", name=kind).click()
    page.fill("#prompt", prompt)
    page.wait_for_selector(finished(submit(page)))


def submit(page: "Page") -> str:
    """Send what is in the composer; return the id of its job."""
    with page.expect_response(lambda response: response.url.endswith("/api/jobs") and response.status == 202) as sent:
        page.press("#prompt", "Control+Enter")
    return str(sent.value.json()["id"])


def finished(job: str) -> str:
    """The selector of a job's card when it has its result."""
    return f".card.succeeded[data-job='{job}']"


def shoot(page: "Page", file: Path) -> None:
    """Take a picture of the page; not in 256 colours, which change those of small things."""
    page.screenshot(path=file)
    with Image.open(file) as picture:
        small = picture.convert("RGB")
    small.save(file, optimize=True)


def film(page: "Page", url: str, file: Path) -> None:
    """Type a prompt, follow the job and watch its video, as an animated GIF."""
    page.goto(f"{url}/#/")
    page.get_by_role("radio", name="Video").click()
    page.fill("#prompt", "")
    with tempfile.TemporaryDirectory() as folder:
        pictures: list[tuple[Path, float]] = []

        def take() -> None:
            picture = Path(folder, f"{len(pictures):04}.png")
            page.screenshot(path=picture)
            pictures.append((picture, time.monotonic()))

        take()
        for words in re.findall(r"\S+\s*", PROMPT):
            page.type("#prompt", words)
            take()
        result = finished(submit(page))  # another video is on the stage until the job is there
        while not page.locator(result).count():
            take()
        until = time.monotonic() + PLAYED_S
        while time.monotonic() < until:
            take()
        write_gif(pictures, file)


def write_gif(pictures: list[tuple[Path, float]], file: Path) -> None:
    """Write pictures, each with the time at which it was taken, as a GIF that plays at their pace."""
    times = [taken for _, taken in pictures]
    lasts = [*(after - before for before, after in itertools.pairwise(times)), HOLD_S]
    lasts[0] = HOLD_S
    listing = file.with_suffix(".txt")
    lines = [f"file '{picture}'\nduration {seconds:.3f}" for (picture, _), seconds in zip(pictures, lasts, strict=True)]
    listing.write_text("\n".join(["ffconcat version 1.0", *lines]), encoding="utf-8")
    shrink = f"fps=12,scale={GIF_WIDTH}:-1:flags=lanczos,split[a][b];[a]palettegen=max_colors=96:stats_mode=diff[p]"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", "-f", "concat", "-safe", "0", "-i"]
    command += [str(listing), "-filter_complex", f"{shrink};[b][p]paletteuse=dither=none:diff_mode=rectangle"]
    try:
        subprocess.run([*command, str(file)], check=True)
    finally:
        listing.unlink()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
