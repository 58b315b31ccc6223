"""The Space, started for real with the Gradio that it asks for, and used by gradio_client and in Chromium.

Its engine is the fake one: the page, the job table and the engine process are what is tested.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.clients.environments import REQUIREMENTS, python_environment
from tests.conftest import ending_engines, fake_engine
from tests.fixtures.mcp_server import png
from tests.support.patience import PATIENCE_S
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.store import JobStore
from wan_mcp.schema.enums import JobState, Kind
from wan_mcp.schema.jobs import Job

CHECKOUT = Path(__file__).parents[2]
APP = CHECKOUT / "space" / "app.py"
# What the Space's environment has wins; the package and what it needs besides come from this one.
RUN = "import runpy, sys; sys.path += sys.argv[2:]; runpy.run_path(sys.argv[1], run_name='__main__')"
SUBMIT = """
import sys
from gradio_client import Client
client = Client(sys.argv[1], verbose=False)
client.predict("", "a red circle", 1.0, 3, "", 7, False, 0, api_name="/text_to_video")
"""

CAPTION = """
import sys
from gradio_client import Client, handle_file
client = Client(sys.argv[1], verbose=False)
client.predict("", handle_file(sys.argv[2]), "", api_name="/caption")
"""


@dataclass
class Space:
    """A running Space."""

    url: str
    home: Path
    python: Path

    def jobs(self) -> list[Job]:
        """All jobs, newest first."""
        database = Database(self.home / "jobs.db")
        try:
            return JobStore(database).newest()
        finally:
            database.close()

    def cancel_all(self) -> None:
        """End all jobs, and wait until the engine has noticed, so that the next test has it for itself."""
        database = Database(self.home / "jobs.db")
        store, until = JobStore(database), time.monotonic() + PATIENCE_S
        try:
            for job in store.newest():
                store.cancel(job.id)
            while any(job.state is JobState.RUNNING for job in store.newest()):
                assert time.monotonic() < until
                time.sleep(0.02)
        finally:
            database.close()

    def allow(self, steps: int) -> None:
        """Let the engine go on until it has done so many steps in all."""
        partial = self.home / "pace.part"
        partial.write_text(str(steps), encoding="utf-8")
        partial.replace(self.home / "pace")


@pytest.fixture(scope="module")
def one_space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Space]:
    """Start a Space, which takes Gradio many seconds, for all tests here."""
    python = python_environment("space")
    folder = tmp_path_factory.mktemp("space")
    home = folder / "home"
    home.mkdir(mode=0o700)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    made = Space(f"http://127.0.0.1:{port}", home, python)
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
        "WAN_MCP_HOME": str(home),
        "WAN_MCP_ENGINE_COMMAND": fake_engine("works"),
        "PYTHONPATH": "",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(folder / "gradio"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONWARNINGS": "ignore",  # Gradio's own
    }
    others = [str(CHECKOUT / "src"), sysconfig.get_paths()["purelib"], *[p for p in sys.path if "site-packages" in p]]
    log = folder / "space.log"
    with ending_engines(home), log.open("wb") as out:
        process = subprocess.Popen(
            [str(python), "-c", RUN, str(APP), *others], env=environment, stdout=out, stderr=out, cwd=folder
        )
        try:
            until = time.monotonic() + PATIENCE_S
            while True:
                try:
                    httpx2.get(made.url, timeout=5)
                    break
                except httpx2.TransportError:
                    assert process.poll() is None and time.monotonic() < until, log.read_text(encoding="utf-8")
                    time.sleep(0.05)
            yield made
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


@pytest.fixture
def space(one_space: Space) -> Iterator[Space]:
    yield one_space
    one_space.cancel_all()


def test_the_tests_use_what_the_space_asks_for() -> None:
    asked = (APP.parent / "requirements.txt").read_text(encoding="utf-8").splitlines()
    asked = [line for line in asked if line and not line.startswith("#") and line != "wan-mcp"]
    assert asked == (REQUIREMENTS / "space.txt").read_text(encoding="utf-8").split("\n")[:-1]
    front = (APP.parent / "README.md").read_text(encoding="utf-8").split("---")[1]
    assert f"gradio=={re.findall(r'sdk_version: (.+)', front)[0]}" in asked


def test_a_program_submits_to_the_job_table_and_is_held_back_by_nothing(space: Space) -> None:
    space.allow(0)
    for _ in range(2):  # the second call returns while the first job runs
        subprocess.run([space.python, "-c", SUBMIT, space.url], check=True, timeout=PATIENCE_S, capture_output=True)
    newest, first = space.jobs()[:2]
    assert {newest.state, first.state} <= {JobState.QUEUED, JobState.RUNNING}
    assert newest.client == first.client == "Space"
    assert newest.owner.startswith("space:") and newest.owner != first.owner  # two visitors
    assert newest.plan.seed == 7 and newest.plan.num_frames == 9  # type: ignore[union-attr]


def test_a_visitor_sends_a_picture(space: Space, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(png(32, 24))
    command = [str(space.python), "-c", CAPTION, space.url, str(picture)]
    subprocess.run(command, check=True, timeout=PATIENCE_S, capture_output=True)
    plan = space.jobs()[0].plan
    assert plan.kind is Kind.CAPTION
    assert plan.image is not None
    assert (plan.image.width, plan.image.height) == (32, 24)


def test_a_visitor_follows_a_job_over_a_reload_stops_it_and_sees_no_other(space: Space) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright")
    chromium = shutil.which("chromium") or pytest.skip("there is no chromium")
    space.allow(1)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        mine = browser.new_context().new_page()
        mine.set_default_timeout(PATIENCE_S * 1000)
        mine.goto(space.url)
        mine.get_by_role("button", name="Generate").first.click()
        words = mine.locator(".words")
        sync_api.expect(words).to_contain_text("step 1/12", timeout=PATIENCE_S * 1000)
        space.allow(2)
        mine.locator("img.preview").wait_for()
        mine.reload()
        sync_api.expect(words).to_contain_text("step 2/12", timeout=PATIENCE_S * 1000)
        other = browser.new_context().new_page()
        other.goto(space.url)
        other.get_by_role("button", name="Generate").first.wait_for()
        other.get_by_role("tab", name="Caption").click()
        assert other.locator(".words").count() == 0
        mine.get_by_role("button", name="Stop").click()
        sync_api.expect(words).to_contain_text("Cancelled", timeout=PATIENCE_S * 1000)
        browser.close()
    assert space.jobs()[0].state is JobState.CANCELLED
