"""Configurations of other programs for this very server, filled in and ready to copy."""

import json
from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import Response

import wan_mcp
from wan_mcp.fronts.discretion import is_near
from wan_mcp.fronts.hosts.entries import launch, snippet
from wan_mcp.fronts.hosts.registry import HOSTS, SERVER, Host
from wan_mcp.fronts.identity import owner_of_request
from wan_mcp.fronts.web.answers import Answers
from wan_mcp.fronts.web.shapes import ConnectAnswer, Connection, HealthAnswer
from wan_mcp.service.owners import HOME_USER
from wan_mcp.service.service import JobService
from wan_mcp.settings import Settings

__all__ = ["ConnectRoutes", "connections"]

TOKEN = "YOUR_TOKEN"
"""Stands for the token, which no answer of this server ever holds."""


class ConnectRoutes:
    """The endpoints of configurations."""

    def __init__(self, service: JobService, answers: Answers) -> None:
        self._service, self._settings, self._answers = service, service.settings, answers

    async def test(self, request: Request) -> Response:
        """Report whether the server works, to a page that has no token for /healthz."""
        trouble, _ = await self._service.health()
        return self._answers.json(request, HealthAnswer(version=wan_mcp.__version__, trouble=trouble))

    async def show(self, request: Request) -> Response:
        """Return the configurations."""
        base = str(request.base_url).rstrip("/")
        near = is_near(request.scope)
        needs_token = bool(self._settings.http_token) or owner_of_request(request.scope) != HOME_USER
        answer = ConnectAnswer(
            url=f"{base}/mcp",
            needs_token=needs_token,
            connections=list(connections(self._settings, base, near=near, needs_token=needs_token)),
        )
        # Their paths are for near clients, and those for others have none: nothing is to be hidden in them.
        return self._answers.plain(answer)


def connections(settings: Settings, base: str, *, near: bool, needs_token: bool) -> Iterator[Connection]:
    """Yield the configurations for a client that reaches this server at `base`.

    Hosts on this machine that only start servers get the command; all others get the address.
    """
    url, bearer = f"{base}/mcp", {"Authorization": f"Bearer {TOKEN}"} if needs_token else {}
    header = f' --header "Authorization: Bearer {TOKEN}"' if bearer else ""
    start = launch(settings) if near else None
    for host in HOSTS:
        if host.name == "claude-code":
            yield Connection(
                id=host.name,
                title=host.title,
                where="a terminal",
                language="sh",
                text=f"claude mcp add --transport http {SERVER} {url}{header}",
            )
        elif host.http is not None:
            yield _connection(host, snippet(host, host.http(url, bearer)), near=near)
        elif start is not None:
            yield _connection(host, snippet(host, host.stdio(start)), near=near)
    headers = f', "headers": {json.dumps(bearer)}' if bearer else ""
    yield Connection(
        id="langchain",
        title="LangChain",
        where="Python, with langchain-mcp-adapters",
        language="python",
        text="from langchain_mcp_adapters.client import MultiServerMCPClient\n\n"
        f'client = MultiServerMCPClient({{"wan": {{"transport": "streamable_http", "url": "{url}"{headers}}}}})\n'
        "tools = await client.get_tools()\n",
    )
    curl_header = f" \\\n  -H 'Authorization: Bearer {TOKEN}'" if bearer else ""
    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "generate_video", "arguments": {"prompt": "a red circle moves right"}},
    }
    yield Connection(
        id="curl",
        title="curl",
        where="a terminal",
        language="sh",
        text=f"curl {url}{curl_header} \\\n  -H 'Content-Type: application/json' \\\n"
        f"  -H 'Accept: application/json, text/event-stream' \\\n  -d '{json.dumps(call)}'",
    )


def _connection(host: Host, text: str, *, near: bool) -> Connection:
    place = host.written_file()
    where = " or ".join(filter(None, (place, host.found_at))) or host.title
    if near and place:
        where += f"; or in a terminal: wan-mcp setup {host.name}"
    return Connection(
        id=host.name, title=host.title, where=where, language="toml" if host.form == "toml" else "json", text=text
    )
