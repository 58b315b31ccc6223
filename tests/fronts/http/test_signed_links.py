"""Signed links: results open for a while without the token, each for itself."""

from urllib.parse import parse_qs, urlsplit

import anyio
import pytest

from tests.support.http_fronts import site
from tests.support.patience import PATIENCE_S
from wan_mcp.fronts.signed_links import SignedLinks
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio
EVERYWHERE = "0.0.0.0"
TOKEN = "a long secret"
BEARER = f"Bearer {TOKEN}"
NO_TOKEN = {"Authorization": ""}


async def test_the_url_of_a_result_opens_that_file_alone_without_the_token(settings: Settings) -> None:
    with_token = settings.model_copy(update={"http_token": TOKEN})
    with anyio.fail_after(PATIENCE_S):
        async with site(with_token, EVERYWHERE, Authorization=BEARER) as http, http.client() as client:
            made = await client.call_tool("generate_video", {"prompt": "a star"})
            assert made.structured_content is not None
            [artifact] = made.structured_content["artifacts"]
            image = (
                await http.web.post("/v1/images/generations", json={"prompt": "x", "response_format": "url"})
            ).json()
            urls = [artifact["url"], artifact["sheet"], image["data"][0]["url"]]
            opened = [await http.web.get(url, headers=NO_TOKEN) for url in urls]
            part = await http.web.get(urls[0], headers=NO_TOKEN | {"Range": "bytes=0-9"})
            jpeg = await http.web.get(f"{urls[2].replace('.png?', '.jpg?')}&download=1", headers=NO_TOKEN)

            address, query = urls[0].split("?")
            signature = parse_qs(query)["signature"][0]
            forged = [
                address,
                f"{address}?expires=99999999999&signature={signature}",
                f"{address}?{query.replace(signature, signature[::-1])}",
                f"{address}?expires=&signature=",
                f"{address}?expires=²&signature={signature}",
                f"{urls[1].split('?')[0]}?{query}",
                f"{http.url}/v1/videos?{query}",
                f"{http.url}/healthz?{query}",
            ]
            refused = [(await http.web.get(url, headers=NO_TOKEN)).status_code for url in forged]
            refused.append((await http.web.post(urls[0], headers=NO_TOKEN)).status_code)
            with_header = await http.web.get(urls[0])
    assert [answer.status_code for answer in opened] == [200, 200, 200]
    assert [urlsplit(url).path.rpartition(".")[2] for url in urls] == ["mp4", "jpg", "png"]
    assert (part.status_code, len(part.content)) == (206, 10)
    assert (jpeg.status_code, jpeg.headers["content-type"]) == (200, "image/jpeg")
    assert jpeg.headers["content-disposition"].startswith("attachment; filename=")
    assert set(refused) == {401}
    assert with_header.status_code == 200


def test_a_link_ends_after_an_hour_and_with_the_token() -> None:
    now = 1_000_000.0
    path, query = SignedLinks(TOKEN, lambda: now).sign("/media/videos/a.mp4").split("?")
    scope = {"method": "GET", "path": path, "query_string": query.encode()}

    def admitted(token: str, after_s: float) -> bool:
        return SignedLinks(token, lambda: now + after_s).admits(scope)

    assert [admitted(TOKEN, after_s) for after_s in (0, 3599, 4201)] == [True, True, False]
    assert not admitted("another", 0)


async def test_a_server_without_a_token_signs_nothing(shared_settings: Settings) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with site(shared_settings) as http, http.client() as client:
            made = await client.call_tool("generate_image", {"prompt": "a star"})
    assert made.structured_content is not None
    assert "?" not in made.structured_content["artifacts"][0]["url"]
