"""Images by URL: fetched from a real TLS server, and refused with a reason wherever they might lead astray."""

import gzip
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.mcp_server import png
from tests.support.image_web import HOSTS, ImageWeb, answer, image_web
from wan_mcp.errors import BadImage
from wan_mcp.media.image_urls import ImageUrls, Reach

pytestmark = pytest.mark.anyio
MAX_MB = 0.1
PICTURE = png(32, 24)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageWeb]:
    with image_web(tmp_path_factory.mktemp("web")) as web:
        yield web


@pytest.fixture
def web(served: ImageWeb) -> ImageWeb:
    for kept in (served.pages, served.places):
        kept.clear()
    served.requests.clear()
    served.resolved.clear()
    return served


def urls_of(web: ImageWeb, hosts: tuple[str, ...] = ("*",), total_s: float = 30.0) -> ImageUrls:
    return ImageUrls(hosts, MAX_MB, web.reach(total_s))


async def refusal(urls: ImageUrls, source: str) -> str:
    with pytest.raises(BadImage) as refused:
        await urls.fetch(source)
    return str(refused.value)


async def test_an_image_is_fetched_without_anything_that_says_who_asks(web: ImageWeb) -> None:
    url = web.put("/a.png?size=large", answer(PICTURE))
    assert await urls_of(web).fetch(f" {url}#part ") == PICTURE
    [head] = web.requests
    lines = head.decode().lower().split("\r\n")
    assert lines[0] == "get /a.png?size=large http/1.1"
    assert f"host: pictures.test:{web.port}" in lines
    assert not any(line.startswith(("cookie", "authorization", "referer", "origin")) for line in lines)


async def test_a_name_is_resolved_once_and_the_connection_goes_to_what_was_checked(web: ImageWeb) -> None:
    web.places["rebound.test"] = [["127.0.0.1"], ["10.0.0.1"]]
    web.put("/a.png", answer(PICTURE))
    assert await urls_of(web).fetch(web.url("/a.png", "rebound.test")) == PICTURE
    assert web.resolved == ["rebound.test"]
    assert "no address on the public internet" in await refusal(urls_of(web), web.url("/a.png", "rebound.test"))
    assert len(web.requests) == 1


@pytest.mark.parametrize(
    "places",
    [
        ["10.0.0.1"],
        ["127.0.0.1", "10.0.0.1"],
        ["127.0.0.1", "::1"],
        ["::ffff:127.0.0.1"],
        ["fe80::1%eth0"],
        ["wrong"],
        [],
    ],
)
async def test_a_name_with_any_address_that_is_not_public_is_refused(web: ImageWeb, places: list[str]) -> None:
    web.places["mixed.test"] = [places]
    web.put("/a.png", answer(PICTURE))
    assert "no address on the public internet" in await refusal(urls_of(web), web.url("/a.png", "mixed.test"))
    assert not web.requests


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "017700000001", "0177.0.0.1", "127.1", "127.0.1", "0"),
        *("127.0.0.1.", "１２７.０.０.１", "127。0。0。1", "①②⑦.0.0.1", "0x7f.1", "10.0.0.1", "169.254.169.254"),
        *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:7f00:1]", "[64:ff9b::7f00:1]"),
        *("[2002:7f00:1::]", "[fe80::1]", "[fe80::1%25lo]", "[fc00::1]", "localhost", "LOCALHOST", "localhost."),
        *("8.8.8.08", "8.8.2056", "0x08080808"),
    ],
)
async def test_no_spelling_of_a_private_address_is_reached(host: str) -> None:
    urls = ImageUrls(("*",), MAX_MB, Reach(total_s=30.0))
    began = time.monotonic()
    assert await refusal(urls, f"https://{host}/a.png")
    assert time.monotonic() - began < 20  # refused, not tried


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://pictures.test/a.png", "does not begin with https"),
        ("https://me:secret@pictures.test/a.png", "user name or password"),
        ("https://me@pictures.test/a.png", "user name or password"),
        ("https://pictures.test:8443/a.png", "port 8443"),
        ("https://pictures.test:22/a.png", "port 22"),
        ("https:///a.png", "no host name"),
        ("https:a.png", "no host name"),
        ("https://pictures.test\\@internal.test/a.png", "backslash"),
        ("https://pictures.test/a b.png", "blank"),
        ("https://pictures.test/a\r\nX: y", "blank"),
        ("https://pictures.test:port/a.png", "cannot be understood"),
        (f"https://pictures.test/{'a' * 5000}", "characters"),
    ],
)
async def test_urls_that_are_not_plain_are_refused_before_anything_is_asked(web: ImageWeb, url: str, why: str) -> None:
    words = await refusal(urls_of(web), url)
    assert why in words
    assert "secret" not in words
    assert not web.resolved


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("https://internal.test/a.png", "no address on the public internet"),
        ("//internal.test/a.png", "no address on the public internet"),
        ("https://127.0.0.2/a.png", "no address on the public internet"),
        ("https://[::ffff:7f00:1]/", "no address on the public internet"),
        ("http://pictures.test/a.png", "redirected to one that does not begin with https"),
        ("HTTP://pictures.test/a.png", "redirected to one that does not begin with https"),
        ("file:///etc/passwd", "redirected to one that does not begin with https"),
        ("https://a:b@pictures.test/", "user name"),
        ("https://pictures.test:22/", "port 22"),
        ("https://2130706433/", "number"),
    ],
)
async def test_a_redirect_is_checked_like_a_url(web: ImageWeb, place: str, why: str) -> None:
    web.places["internal.test"] = [["10.0.0.1"]]
    url = web.put("/moved", answer(b"", status="302 Found", Location=place))
    assert why in await refusal(urls_of(web), url)
    assert len(web.requests) == 1


async def test_redirects_are_followed_to_other_hosts_and_counted(web: ImageWeb) -> None:
    for i in range(9):
        web.put(f"/{i}", answer(b"", status="307 Temporary Redirect", Location=web.url(f"/{i + 1}", HOSTS[i % 2])))
    web.put("/9", answer(PICTURE))
    assert await urls_of(web).fetch(web.url("/4")) == PICTURE
    assert "more than 5 times" in await refusal(urls_of(web), web.url("/3"))
    web.put("/loop", answer(b"", status="301 Moved", Location="/loop"))
    assert "more than 5 times" in await refusal(urls_of(web), web.url("/loop"))


async def test_only_the_hosts_that_the_owner_names_are_asked(web: ImageWeb) -> None:
    web.put("/a.png", answer(PICTURE))
    url = web.put("/moved", answer(b"", status="302 Found", Location=web.url("/a.png", "other.test")))
    assert await urls_of(web, ("pictures.test",)).fetch(web.url("/a.png")) == PICTURE
    assert await urls_of(web, ("*.test",)).fetch(url) == PICTURE
    assert "WAN_MCP_IMAGE_URLS" in await refusal(urls_of(web, ("pictures.test",)), url)
    for host in ("other.test", "pictures.test.other.test", "notpictures.test"):
        assert "pictures.test only" in await refusal(urls_of(web, ("pictures.test",)), f"https://{host}/a.png")


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        (answer(b"no", status="403 Forbidden"), "status 403"),
        (answer(PICTURE, "text/html"), "not an image"),
        (answer(PICTURE, "application/json; charset=utf-8"), "not an image"),
        (answer(gzip.compress(bytes(10**7)), Content_Encoding="gzip"), "compressed"),
        (answer(PICTURE, length=10**6), "larger than the limit"),
        (answer(PICTURE, length=10**30), "cannot be read"),
        (answer(bytes(200_000)), "larger than the limit"),
        (answer(PICTURE, length=len(PICTURE) + 9), "cannot be read"),
        (answer(PICTURE, length=-5), "cannot be read"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 9\r\n\r\nabcdefghi", "cannot be read"),
        (b"nonsense\r\n\r\n", "cannot be read"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000 + b"\r\n", "cannot be read"),
        (b"", "cannot be read"),
    ],
    ids=[
        "forbidden",
        "page",
        "json",
        "compressed",
        "too-large",
        "absurdly-large",
        "too-large-unsaid",
        "cut-short",
        "negative-length",
        "two-lengths",
        "no-http",
        "endless-head",
        "nothing",
    ],
)
async def test_answers_that_are_no_image_within_the_bounds_are_refused(web: ImageWeb, parts: bytes, why: str) -> None:
    assert why in await refusal(urls_of(web), web.put("/a.png", parts))


def _endless(first: bytes, again: bytes) -> Iterator[bytes]:
    yield first
    while True:
        yield again


async def test_an_endless_body_is_cut_off_at_the_limit(web: ImageWeb) -> None:
    def endless() -> Iterator[bytes]:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
        return _endless(head, b"4000\r\n" + bytes(0x4000) + b"\r\n")

    assert "larger than the limit" in await refusal(urls_of(web), web.put("/a.png", endless))


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: ", b""])
async def test_a_server_that_drips_is_given_up_in_time(web: ImageWeb, head: bytes) -> None:
    def drip() -> Iterator[bytes]:
        yield head
        for _ in itertools.count():
            time.sleep(0.05)  # the server's pace, not something that is waited for
            yield b"a"

    assert "did not send the image within 0.5 s" in await refusal(urls_of(web, total_s=0.5), web.put("/a.png", drip))


async def test_a_server_must_prove_its_name(web: ImageWeb) -> None:
    web.put("/a.png", answer(PICTURE))
    assert "cannot be read from unnamed.test" in await refusal(urls_of(web), web.url("/a.png", "unnamed.test"))
    assert not web.requests


async def test_proxies_of_the_environment_are_not_used(web: ImageWeb, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert await urls_of(web).fetch(web.put("/a.png", answer(PICTURE))) == PICTURE


def test_none_may_be_fetched_unless_the_owner_says_so(tmp_path: Path) -> None:
    assert not ImageUrls((), MAX_MB).allowed
