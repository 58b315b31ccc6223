"""What `doctor` says about the hub and its token."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from wan_mcp.fronts.cli.checks.finding import Finding
from wan_mcp.fronts.cli.checks.hub import check_hub
from wan_mcp.weights.hub import Hub


@contextmanager
def hub(status: int) -> Iterator[str]:
    """A hub that answers everything with a status; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def asked(endpoint: str, cache: Path, token: str | bool, monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    monkeypatch.setattr(Hub, "from_environment", classmethod(lambda cls: cls(endpoint, cache, token)))
    return check_hub()


@pytest.mark.parametrize(
    ("status", "token", "good", "words"),
    [
        (200, "hf_good", True, "it accepts the token"),
        (401, "hf_bad", False, "does not accept the token"),
        (403, "hf_bad", False, "does not accept the token"),
        (401, False, True, "no token"),
        (404, False, True, "reachable"),
        (503, "hf_good", True, "answers with status 503"),
    ],
)
def test_whether_the_hub_answers_and_takes_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, token: str | bool, good: bool, words: str
) -> None:
    with hub(status) as endpoint:
        found, cache = asked(endpoint, tmp_path / "cache", token, monkeypatch)
    assert (found.good, cache.good) == (good, True)
    assert words in found.says
    assert endpoint in found.says
    assert "hf_" not in found.says
    assert "free" in cache.says


def test_a_hub_that_cannot_be_reached_is_told_and_nothing_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub(200) as endpoint:
        pass
    found, _ = asked(endpoint, tmp_path, False, monkeypatch)
    assert found.good
    assert "cannot be reached" in found.says
    assert "HF_ENDPOINT" in found.says


def test_an_address_that_is_none_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = asked("nonsense", tmp_path, False, monkeypatch)
    assert "cannot be reached" in found.says
