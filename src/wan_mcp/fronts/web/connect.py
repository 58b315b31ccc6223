"""Configurations of other programs for this very server, filled in and ready to copy."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from wan_mcp.fronts.discretion import is_near
from wan_mcp.fronts.web.answers import Answers
from wan_mcp.fronts.web.shapes import ConnectAnswer, Connection
from wan_mcp.settings import ENV_PREFIX, Settings

__all__ = ["ConnectRoutes", "connections"]

TOKEN = "YOUR_TOKEN"
"""Stands for the token, which no answer of this server ever holds."""


class ConnectRoutes:
    """The endpoint of configurations."""

    def __init__(self, settings: Settings, answers: Answers) -> None:
        self._settings, self._answers = settings, answers

    async def show(self, request: Request) -> Response:
        """Return the configurations."""
        base = str(request.base_url).rstrip("/")
        near = is_near(request.scope)
        answer = ConnectAnswer(
            url=f"{base}/mcp",
            needs_token=bool(self._settings.http_token),
            connections=list(connections(self._settings, base, near=near)),
        )
        # Their paths are for near clients, and those for others have none: nothing is to be hidden in them.
        return self._answers.plain(answer)


def connections(settings: Settings, base: str, *, near: bool) -> Iterator[Connection]:
    """Yield the configurations for a client that reaches this server at `base`."""
    url, bearer = f"{base}/mcp", {"Authorization": f"Bearer {TOKEN}"} if settings.http_token else {}
    over_http: dict[str, Any] = {"type": "http", "url": url} | ({"headers": bearer} if bearer else {})
    stdio = _stdio(settings) if near else None
    servers = {"mcpServers": {"wan": stdio or over_http}}
    if stdio is not None:
        yield _json("claude-desktop", "Claude Desktop", "claude_desktop_config.json (Settings → Developer)", servers)
    header = f' --header "Authorization: Bearer {TOKEN}"' if bearer else ""
    yield Connection(
        id="claude-code",
        title="Claude Code",
        where="a terminal",
        language="sh",
        text=f"claude mcp add --transport http wan {url}{header}",
    )
    cursor = {"mcpServers": {"wan": {"url": url} | ({"headers": bearer} if bearer else {})}}
    yield _json("cursor", "Cursor", "~/.cursor/mcp.json", cursor)
    yield _json("vscode", "VS Code", ".vscode/mcp.json", {"servers": {"wan": over_http}})
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


def _json(key: str, title: str, where: str, content: dict[str, Any]) -> Connection:
    return Connection(id=key, title=title, where=where, language="json", text=json.dumps(content, indent=2))


def _stdio(settings: Settings) -> dict[str, Any]:
    command = _command()
    entry: dict[str, Any] = {"command": command[0], "args": [*command[1:], "stdio"]}
    home = Settings.model_fields["home"].get_default(call_default_factory=True)
    if settings.home != home:
        entry["env"] = {f"{ENV_PREFIX}HOME": str(settings.home)}
    return entry


def _command() -> list[str]:
    """Return the command that starts wan-mcp, with an absolute path: hosts start servers with a short PATH."""
    beside = Path(sys.executable).with_name("wan-mcp")
    found = str(beside) if beside.is_file() else shutil.which("wan-mcp")
    return [found] if found else [sys.executable, "-m", "wan_mcp"]
