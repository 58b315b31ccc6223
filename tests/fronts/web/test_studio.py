"""`wan-mcp studio`: a browser is opened, signed in, at the running server of the home or at one of its own."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx2
import pytest

from tests.support.http_fronts import running
from tests.support.patience import PATIENCE_S
from wan_mcp.fronts.http.servers import running_page
from wan_mcp.settings import Settings

TOKEN = "a long secret"
LINK = re.compile(r"(http://\S+/sign-in\?code=(\S+))")
STUDIO = [sys.executable, "-m", "wan_mcp", "studio"]


def environment(settings: Settings, **more: str) -> dict[str, str]:
    without = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "WAN_MCP_HTTP_TOKEN")
    return {name: value for name, value in os.environ.items() if name not in without} | settings.environment() | more


@contextmanager
def guarded(settings: Settings) -> Iterator[str]:
    """The URL of a server of this home that has a token."""
    with running(settings, f"import os; os.environ['WAN_MCP_HTTP_TOKEN'] = {TOKEN!r}") as front:
        yield front.url


def signs_in(link: str) -> bool:
    with httpx2.Client(timeout=PATIENCE_S) as browser:
        browser.get(link)
        return browser.get(f"http://{urlsplit(link).netloc}/api/jobs").status_code == 200


def test_without_a_browser_the_link_to_the_running_server_is_printed(settings: Settings) -> None:
    with guarded(settings) as url:
        found = subprocess.run(
            STUDIO, env=environment(settings), capture_output=True, text=True, timeout=PATIENCE_S, check=True
        )
        match = LINK.search(found.stdout)
        assert match is not None, found.stdout + found.stderr
        assert match[1].startswith(url)
        assert TOKEN not in found.stdout + found.stderr
        assert signs_in(match[1])
        assert not signs_in(match[1]), "it works once"


def test_a_browser_gets_the_link_in_a_file_and_not_on_its_command_line(settings: Settings, tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$*" > "{heard}"\n', encoding="utf-8")
    browser.chmod(0o700)
    with guarded(settings):
        found = subprocess.run(
            STUDIO,
            env=environment(settings, BROWSER=f"{browser} %s"),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=True,
        )
        match = LINK.search(found.stdout)
        assert match is not None
        opened = heard.read_text(encoding="utf-8")
        assert match[2] not in opened
        assert opened.startswith("file://")
        page = Path(unquote(urlsplit(opened).path))
        assert stat.S_IMODE(page.stat().st_mode) == 0o600
        assert match[2] in page.read_text(encoding="utf-8")
        assert signs_in(match[1])
        assert not page.exists(), "nothing is left of a link that was used"


def test_without_a_server_it_serves_the_page_itself(settings: Settings) -> None:
    with subprocess.Popen(
        [*STUDIO, "--port", "0"], env=environment(settings), stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stderr is not None
            match = next(found for line in server.stderr if (found := LINK.search(line)))
            assert signs_in(match[1])
        finally:
            server.terminate()
            server.communicate(timeout=PATIENCE_S)
    assert list((settings.home / "servers").iterdir()) == []


def test_a_server_that_was_killed_is_not_taken_for_a_running_one(settings: Settings) -> None:
    with running(settings):
        pass  # it is killed
    assert len(list((settings.home / "servers").iterdir())) == 1
    assert running_page(settings.home) is None
    assert list((settings.home / "servers").iterdir()) == []


@pytest.mark.parametrize("flags", [["--no-page"], []])
def test_a_server_without_the_page_is_not_offered(settings: Settings, flags: list[str]) -> None:
    command = [sys.executable, "-m", "wan_mcp", "http", "--port", "0", *flags]
    with subprocess.Popen(command, env=environment(settings), stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            line = next(line for line in server.stderr if "listening on" in line)
            url = line.partition("listening on ")[2].split()[0].removesuffix("/mcp")
            with httpx2.Client(base_url=url, timeout=PATIENCE_S) as web:
                assert web.get("/").status_code == (404 if flags else 200)
            assert running_page(settings.home) == (None if flags else url)
        finally:
            server.terminate()
            server.communicate(timeout=PATIENCE_S)
