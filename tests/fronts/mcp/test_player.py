"""The player as hosts see it before they draw it. `tests/clients/test_player_in_browser.py` draws it."""

import base64
import hashlib
import re

import anyio
import pytest
from mcp.types import TextResourceContents

from tests.fixtures.mcp_server import ERAS, Connect
from tests.support.http_fronts import site
from tests.support.patience import PATIENCE_S
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

PLAYER = "ui://wan/player.html"
SHOWN = {"generate_video", "generate_image", "remix"}


@pytest.mark.parametrize("mode", ERAS)
async def test_tools_that_make_something_name_the_player(settings: Settings, connect: Connect, mode: str) -> None:
    async with connect(settings, mode) as runner:
        tools = (await runner.client.list_tools()).tools
        [content] = (await runner.client.read_resource(PLAYER)).contents
    named = {tool.name: (tool.meta or {}).get("ui") for tool in tools}
    assert {name for name, ui in named.items() if ui == {"resourceUri": PLAYER}} == SHOWN
    assert {name for name, ui in named.items() if ui is not None} == SHOWN
    assert isinstance(content, TextResourceContents)
    assert content.mime_type == "text/html;profile=mcp-app"
    assert content.meta is not None
    asked = content.meta["ui"]["csp"]
    assert asked == {"connectDomains": [], "resourceDomains": [], "frameDomains": [], "baseUriDomains": []}


async def test_the_page_allows_itself_its_own_script_and_nothing_else(settings: Settings, connect: Connect) -> None:
    async with connect(settings.model_copy(update={"resource_max_kb": 100})) as runner:
        [content] = (await runner.client.read_resource(PLAYER)).contents
    assert isinstance(content, TextResourceContents)
    page = content.text
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    for what in ("script", "style"):
        [inline] = re.findall(rf"<{what}>(.*?)</{what}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert rules.pop(f"{what}-src") == f"'sha256-{digest}'"
    assert rules.pop("default-src") == "'none'"
    assert set(rules.values()) == {"data:", "'none'"}
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", page)
    assert "{{" not in page
    piece = int(re.findall(r'wan-piece-bytes" content="(\d+)"', page)[0])
    assert 0 < piece <= 100 * 1024
    assert piece % 3 == 0  # the texts of such pieces can be joined


async def test_a_host_elsewhere_gets_the_same_page(settings: Settings) -> None:
    """Words are searched for paths of this machine there; a program must not be changed by that."""
    with anyio.fail_after(PATIENCE_S):
        async with (
            site(settings) as near,
            site(settings, **{"X-Forwarded-For": "203.0.113.7"}) as far,
            near.client() as here,
            far.client() as elsewhere,
        ):
            pages = [(await client.read_resource(PLAYER)).contents for client in (here, elsewhere)]
    assert pages[0] == pages[1]
