"""The bearer token: any text that a header can carry, in UTF-8 as clients send it."""

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Message

from wan_mcp.errors import UserError
from wan_mcp.fronts.http.guard import BearerToken, refuse_open_door
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio


async def status_of(token: str, header: bytes) -> int:
    """The status of a request with that Authorization header, at a server with that token."""

    async def answer(_: Request) -> PlainTextResponse:
        return PlainTextResponse("in")

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    sent: list[Message] = []
    app = BearerToken(Starlette(routes=[Route("/", answer)]), token)
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [(b"authorization", header)]}
    await app(scope, receive, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize("token", ["secret", "geheimß", "тайна", "秘密", "two words", "🔑", "a=b/c+d=="])
async def test_a_token_in_any_script_is_accepted_and_another_is_not(token: str) -> None:
    assert await status_of(token, b"Bearer " + token.encode()) == 200
    assert await status_of(token, b"bearer  " + token.strip().encode() + b" ") == 200
    assert await status_of(token, b"Bearer " + token.encode() + b"x") == 401
    assert await status_of(token, token.encode()) == 401
    assert await status_of(token, b"Bearer \xff\xfe") == 401


async def test_blanks_around_a_token_are_not_part_of_it_and_blanks_alone_are_none() -> None:
    assert Settings(http_token=" padded\n").http_token == "padded"
    blank = Settings(http_token=" \t ").http_token
    with pytest.raises(UserError):
        refuse_open_door("0.0.0.0", blank)  # an address that everybody reaches
    assert await status_of("padded", b"Bearer ") == 401
