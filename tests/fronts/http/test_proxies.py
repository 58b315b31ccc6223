"""Clients behind a proxy: named ones say who calls, others say nothing, and a real nginx is believed."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from starlette.types import Receive, Scope, Send

from tests.support.http_fronts import running, site
from tests.support.patience import PATIENCE_S
from wan_mcp.fronts.http.proxies import NamedProxies, is_proxied
from wan_mcp.service.tokens import Tokens
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio
TOKEN = "a long secret"
NAMED = (ip_network("127.0.0.1/32"), ip_network("10.0.0.0/8"), ip_network("::1/128"))
HTTPS = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "studio.example"}


async def passed_on(headers: dict[str, str], peer: str = "127.0.0.1") -> Scope:
    """The scope of a request from `peer`, as the server sees it."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    raw = [(b"host", b"127.0.0.1:8000"), *((name.lower().encode(), value.encode()) for name, value in headers.items())]
    scope = {"type": "http", "scheme": "http", "client": (peer, 5000), "headers": raw}
    await NamedProxies(app, NAMED)(scope, None, None)  # type: ignore[arg-type]
    return seen[0]


def told(scope: Scope) -> tuple[str | None, str, str]:
    client = scope["client"]
    return (client[0] if client else None), scope["scheme"], dict(scope["headers"])[b"host"].decode()


DIRECT = ("127.0.0.1:8000",)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (HTTPS, ("203.0.113.9", "https", "studio.example")),
        ({"X-Forwarded-For": "6.6.6.6, 203.0.113.9"}, ("203.0.113.9", "http", *DIRECT)),  # the first was made up
        ({"X-Forwarded-For": "203.0.113.9, 10.1.2.3"}, ("203.0.113.9", "http", *DIRECT)),  # by way of a named one
        ({"X-Forwarded-For": "203.0.113.9, 10.1.2.3", "X-Forwarded-Proto": "https, http"},
         ("203.0.113.9", "https", *DIRECT)),
        ({"X-Forwarded-For": "[2001:db8::1]:4711"}, ("2001:db8::1", "http", *DIRECT)),
        ({"X-Forwarded-For": "2001:db8::1"}, ("2001:db8::1", "http", *DIRECT)),
        ({"X-Forwarded-For": "203.0.113.9:80"}, ("203.0.113.9", "http", *DIRECT)),
        ({"X-Real-IP": "203.0.113.9", "X-Forwarded-Proto": "https"}, ("203.0.113.9", "https", *DIRECT)),
        ({"Forwarded": 'for=6.6.6.6, For="[2001:db8::1]:80"; Proto=HTTPS;host="studio.example:8443"'},
         ("2001:db8::1", "https", "studio.example:8443")),
        ({"Forwarded": "for=_hidden;proto=https"}, (None, "https", *DIRECT)),
        (HTTPS | {"Forwarded": "for=127.0.0.1;proto=http;host=evil.example"},
         ("203.0.113.9", "https", "studio.example")),
        ({"Forwarded": "for=203.0.113.9;;proto"}, (None, "http", *DIRECT)),
        ({"X-Forwarded-For": "nonsense", "X-Forwarded-Proto": "gopher", "X-Forwarded-Host": "a b/\\"},
         (None, "http", *DIRECT)),
        ({}, (None, "http", *DIRECT)),
    ],
)  # fmt: skip
async def test_a_named_proxy_says_who_calls_and_what_cannot_be_so_is_left_out(
    headers: dict[str, str], expected: tuple[str | None, str, str]
) -> None:
    scope = await passed_on(headers)
    assert told(scope) == expected
    assert is_proxied(scope)


@pytest.mark.parametrize("peer", ["192.0.2.1", "127.0.0.2", "11.0.0.1"])
async def test_anybody_else_says_nothing_by_such_headers(peer: str) -> None:
    scope = await passed_on(HTTPS, peer)
    assert told(scope) == (peer, "http", *DIRECT)
    assert not is_proxied(scope)


async def test_an_ipv4_address_of_a_socket_for_both_families_is_that_address() -> None:
    assert told(await passed_on(HTTPS, "::ffff:10.2.3.4"))[0] == "203.0.113.9"


async def test_a_proxys_client_needs_a_token_and_gets_urls_that_it_can_open_and_no_paths(settings: Settings) -> None:
    token = Tokens(settings.home).add("alice")
    proxied = settings.model_copy(update={"trusted_proxies": NAMED, "http_hosts": "studio.example"})
    with anyio.fail_after(PATIENCE_S):
        async with site(proxied, **HTTPS) as http:
            refused = await http.web.get("/v1/videos")
            assert (refused.status_code, refused.headers["www-authenticate"][:6]) == (401, "Bearer")
            page = await http.web.get("/")
            assert (page.status_code, page.headers["location"]) == (303, "/sign-in")
            http.web.headers["Authorization"] = f"Bearer {token}"
            async with http.client() as client:
                made = await client.call_tool("generate_image", {"prompt": "a star"})
            assert made.structured_content is not None
            [artifact] = made.structured_content["artifacts"]
            assert artifact["path"] is None
            assert artifact["url"].startswith("https://studio.example/media/images/")
            other = await http.web.get("/healthz", headers={"X-Forwarded-Host": "evil.example"})
            assert other.status_code == 421


async def test_a_named_proxy_without_headers_is_from_elsewhere_too(settings: Settings) -> None:
    proxied = settings.model_copy(update={"trusted_proxies": NAMED, "http_token": TOKEN})
    with anyio.fail_after(PATIENCE_S):
        async with site(proxied, Authorization=f"Bearer {TOKEN}") as http, http.client() as client:
            made = await client.call_tool("generate_image", {"prompt": "a star"})
            assert made.structured_content is not None
            assert made.structured_content["artifacts"][0]["path"] is None


async def test_the_scheme_that_an_unnamed_proxy_says_is_not_believed(shared_settings: Settings) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with site(shared_settings, **HTTPS) as http, http.client() as client:
            made = await client.call_tool("generate_image", {"prompt": "a star"})
            assert made.structured_content is not None
            [artifact] = made.structured_content["artifacts"]
            assert (artifact["path"], artifact["url"].partition("/media")[0]) == (None, http.url)


CONFIGURATION = """
daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass {server};
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_buffering off;
    }}
  }}
}}
"""


@contextmanager
def nginx(server: str, folder: Path) -> Iterator[str]:
    """A real nginx in front of a server; gives its URL."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder.mkdir()
    file = folder / "nginx.conf"
    file.write_text(CONFIGURATION.format(folder=folder, port=port, server=server))
    with subprocess.Popen([program, "-c", str(file), "-e", str(folder / "error.log")]) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def test_a_client_of_a_real_proxy_is_answered_as_one_from_elsewhere(settings: Settings, tmp_path: Path) -> None:
    token = Tokens(settings.home).add("alice")
    proxied = settings.model_copy(update={"trusted_proxies": NAMED[:1], "http_token": TOKEN})
    with running(proxied) as front, nginx(front.url, tmp_path / "nginx") as url:
        retries = httpx2.HTTPTransport(retries=20)  # until it listens
        with httpx2.Client(base_url=url, timeout=PATIENCE_S, transport=retries) as web:
            assert web.get("/v1/videos").status_code == 401
            body: dict[str, Any] = {"prompt": "a star", "response_format": "url"}
            for secret in (token, TOKEN):
                web.headers["Authorization"] = f"Bearer {secret}"
                made = web.post("/v1/images/generations", json=body)
                assert made.status_code == 200, made.text
                link = made.json()["data"][0]["url"]
                assert link.startswith(f"{url}/media/")
                assert httpx2.get(link, timeout=PATIENCE_S).content[:4] == b"\x89PNG"
            assert str(settings.home) not in web.get("/api/jobs").text
