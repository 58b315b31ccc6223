"""The hosts that this package can configure or show a configuration for.

Files and forms are those of each host's documentation, `source`. A host whose file is not documented, or is documented
for another place than it is found in, has no `files`: its configuration is shown, never written.
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

from wan_mcp.errors import BadRequest
from wan_mcp.text import suggestion

__all__ = ["HOSTS", "SERVER", "Host", "Launch", "find_host"]

SERVER = "wan"
"""The name of this server in configurations."""

System = Literal["linux", "darwin", "win32"]
Entry = dict[str, Any]


@dataclass(frozen=True)
class Launch:
    """How to start the server over stdio: the program's absolute path, its arguments, and its variables."""

    command: str
    args: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


def _plain(launch: Launch) -> Entry:
    entry: Entry = {"command": launch.command, "args": list(launch.args)}
    return entry | ({"env": dict(launch.env)} if launch.env else {})


def _typed(launch: Launch) -> Entry:
    return {"type": "stdio"} | _plain(launch)


def _local(launch: Launch) -> Entry:
    entry: Entry = {"type": "local", "command": [launch.command, *launch.args]}
    return entry | ({"environment": dict(launch.env)} if launch.env else {})


def _at(key: str, **more: str) -> Callable[[str, Mapping[str, str]], Entry]:
    def entry(url: str, headers: Mapping[str, str]) -> Entry:
        return more | {key: url} | ({"headers": dict(headers)} if headers else {})

    return entry


def _with_token_variable(url: str, headers: Mapping[str, str]) -> Entry:
    return {"url": url} | ({"bearer_token_env_var": "WAN_MCP_HTTP_TOKEN"} if headers else {})


@dataclass(frozen=True)
class Host:
    """A program that starts MCP servers."""

    name: str
    title: str
    source: str
    """The page of its documentation that says so."""
    files: Mapping[System, str] = field(default_factory=dict)
    """Its file on each system, with ~ for the user's folder and %APPDATA% for Windows' folder of that name."""
    found_at: str = ""
    """Where a person finds the file."""
    variable: tuple[str, str] | None = None
    """A variable that moves a folder, and that folder."""
    place: tuple[str, ...] = ("mcpServers",)
    """The names above the server's own name."""
    form: Literal["json", "jsonc", "toml"] = "jsonc"
    """json: it reads no comments and no trailing commas."""
    stdio: Callable[[Launch], Entry] = _plain
    http: Callable[[str, Mapping[str, str]], Entry] | None = None
    """Makes its entry for a server at a URL with headers; None if it only starts servers itself."""
    after: str = ""
    """What a person does after its file was changed."""

    def written_file(self, system: str = sys.platform) -> str | None:
        """Return its file on a system as its documentation writes it; None where it has none that is documented."""
        return self.files.get("linux" if system.startswith("linux") else system)  # type: ignore[call-overload, no-any-return]

    def file(self, system: str = sys.platform, environment: Mapping[str, str] = os.environ) -> Path | None:
        """Return its file on a system; None where it has none, or none that is documented."""
        written = self.written_file(system)
        if written is None:
            return None
        if self.variable is not None and (moved := environment.get(self.variable[0])):
            written = written.replace(self.variable[1], moved, 1)
        folder = environment.get("XDG_CONFIG_HOME", "")
        if system.startswith("linux") and folder.startswith("/"):
            written = written.replace("~/.config/", f"{folder}/", 1)
        if written.startswith("%APPDATA%"):
            roaming = environment.get("APPDATA") or str(Path.home() / "AppData" / "Roaming")
            written = written.replace("%APPDATA%", roaming, 1)
            return Path(written) if system == sys.platform else Path(PureWindowsPath(written).as_posix())
        return Path(written).expanduser()


def _everywhere(path: str) -> Mapping[System, str]:
    return {"linux": path, "darwin": path, "win32": path}


def _below(linux: str, macos: str, windows: str, path: str) -> Mapping[System, str]:
    return {
        "linux": f"~/.config/{linux}/{path}",
        "darwin": f"~/Library/Application Support/{macos}/{path}",
        "win32": f"%APPDATA%/{windows}/{path}",
    }


HOSTS = (
    Host(
        name="claude",
        title="Claude Desktop",
        # Linux: as `mcp install` of the official Python SDK has it
        source="https://modelcontextprotocol.io/docs/develop/connect-local-servers",
        files=_below("Claude", "Claude", "Claude", "claude_desktop_config.json"),
        found_at="Settings → Developer → Edit Config",
        form="json",
        after="Quit Claude Desktop completely and start it again. Then ask it for a video.",
    ),
    Host(
        name="claude-code",
        title="Claude Code",
        source="https://code.claude.com/docs/en/mcp",
        files=_everywhere("~/.claude.json"),
        variable=("CLAUDE_CONFIG_DIR", "~"),
        form="json",
        stdio=_typed,
        http=_at("url", type="http"),
        after="Start claude again; /mcp lists the server.",
    ),
    Host(
        name="cursor",
        title="Cursor",
        source="https://cursor.com/docs/mcp",
        files=_everywhere("~/.cursor/mcp.json"),
        http=_at("url"),
        after="Restart Cursor; its settings list the server under MCP.",
    ),
    Host(
        name="vscode",
        title="VS Code",
        source="https://code.visualstudio.com/docs/agents/reference/mcp-configuration",
        files=_below("Code", "Code", "Code", "User/mcp.json"),
        found_at="the command “MCP: Open User Configuration”",
        place=("servers",),
        stdio=_typed,
        http=_at("url", type="http"),
        after="Run “MCP: List Servers” in VS Code and start the server; the chat has its tools in agent mode.",
    ),
    Host(
        name="windsurf",
        title="Windsurf",
        source="https://docs.windsurf.com/windsurf/cascade/mcp",
        files=_everywhere("~/.codeium/windsurf/mcp_config.json"),
        http=_at("serverUrl"),
        after="Press the refresh button of Cascade's MCP servers.",
    ),
    Host(
        name="gemini",
        title="Gemini CLI",
        source="https://geminicli.com/docs/tools/mcp-server",
        files=_everywhere("~/.gemini/settings.json"),
        http=_at("httpUrl"),
        after="Start gemini again; /mcp lists the server.",
    ),
    Host(
        name="codex",
        title="Codex",
        source="https://developers.openai.com/codex/mcp",
        files=_everywhere("~/.codex/config.toml"),
        variable=("CODEX_HOME", "~/.codex"),
        place=("mcp_servers",),
        form="toml",
        http=_with_token_variable,
        after="Start codex again; /mcp lists the server.",
    ),
    Host(
        name="zed",
        title="Zed",
        source="https://zed.dev/docs/ai/mcp",
        files={"linux": "~/.config/zed/settings.json", "darwin": "~/.config/zed/settings.json"},
        found_at="the command “zed: open settings file”",
        place=("context_servers",),
        after="Zed starts the server at once; the Agent Panel's settings show it.",
    ),
    Host(
        name="lmstudio",
        title="LM Studio",
        source="https://lmstudio.ai/docs/app/mcp",  # names a file that its bug tracker says is elsewhere (issue 1371)
        found_at="the Program tab → Install → Edit mcp.json",
        http=_at("url"),
    ),
    Host(
        name="opencode",
        title="OpenCode",
        source="https://opencode.ai/docs/mcp-servers",  # its next version has another form
        found_at="opencode.json",
        place=("mcp",),
        stdio=_local,
        http=_at("url", type="remote"),
    ),
)


def find_host(name: str) -> Host:
    """Return the host of that name.

    Raises:
        BadRequest: There is none; the message lists those that are known.
    """
    by_name = {host.name: host for host in HOSTS}
    wanted = {"claude-desktop": "claude", "vs-code": "vscode", "code": "vscode"}.get(name.lower(), name.lower())
    if wanted not in by_name:
        raise BadRequest(f"no host '{name[:40]}'; {suggestion(name, by_name)}")
    return by_name[wanted]
