"""HTTPS by a pair of files: served if it fits, refused with what is wrong if it does not."""

import ssl
from pathlib import Path

import httpx2
import pytest

from tests.support.certificates import write_web_pair
from tests.support.http_fronts import running
from tests.support.patience import PATIENCE_S
from wan_mcp.errors import UserError
from wan_mcp.fronts.http.tls import require_pair
from wan_mcp.settings import Settings


def test_clients_that_trust_the_certificate_are_served_and_given_https_urls(settings: Settings, tmp_path: Path) -> None:
    certificate, key = write_web_pair(tmp_path, "own")
    with running(settings.model_copy(update={"tls_cert": certificate, "tls_key": key})) as front:
        assert front.url.startswith("https://127.0.0.1:")
        trust = ssl.create_default_context(cafile=str(certificate))
        url = front.url.replace("127.0.0.1", "localhost")
        with httpx2.Client(base_url=url, verify=trust, timeout=PATIENCE_S) as web:
            made = web.post("/v1/images/generations", json={"prompt": "a star", "response_format": "url"})
            assert made.json()["data"][0]["url"].startswith(f"{url}/media/images/")
        [announced] = (settings.home / "servers").iterdir()
        assert front.url in announced.read_text()
        with pytest.raises(httpx2.TransportError):
            httpx2.get(url.replace("https", "http"), timeout=PATIENCE_S)


def test_a_pair_that_cannot_be_used_is_refused_with_the_reason(tmp_path: Path) -> None:
    certificate, key = write_web_pair(tmp_path, "own")
    _, other = write_web_pair(tmp_path, "other")
    _, locked = write_web_pair(tmp_path, "locked", b"secret")
    nonsense = tmp_path / "nonsense"
    nonsense.touch(0o600)
    nonsense.write_text("no PEM")
    for pair, why in (
        ((certificate, None), "set both"),
        ((None, key), "set both"),
        ((certificate, tmp_path / "none.key"), "cannot be read"),
        ((tmp_path, key), "cannot be read"),
        ((certificate, other), "is not that of the certificate"),
        ((certificate, locked), "has a password"),
        ((nonsense, key), "must be PEM"),
        ((certificate, nonsense), "must be PEM"),
        ((key, certificate), "other users|must be PEM"),
    ):
        with pytest.raises(UserError, match=why):
            require_pair(*pair)
    assert require_pair(None, None) is None
    assert require_pair(certificate, key) == (certificate, key)


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o660, 0o666, 0o620, 0o601])
def test_a_key_that_others_can_use_is_refused_with_the_command_that_closes_it(tmp_path: Path, mode: int) -> None:
    certificate, key = write_web_pair(tmp_path, "own")
    key.chmod(mode)
    with pytest.raises(UserError, match=r"chmod 600 .*own\.key"):
        require_pair(certificate, key)
