"""Where hosts keep their configuration, and what it says."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from wan_mcp.errors import BadRequest
from wan_mcp.fronts.hosts.entries import launch, passing_place, snippet
from wan_mcp.fronts.hosts.registry import HOSTS, Host, Launch, find_host
from wan_mcp.settings import Settings

LAUNCH = Launch("/opt/wan/bin/wan-mcp", ("stdio",), {"WAN_MCP_HOME": '/a "b"/ü'})


def said(host: Host, text: str) -> Any:
    value: Any = tomllib.loads(text) if host.form == "toml" else json.loads(text)
    for key in (*host.place, "wan"):
        value = value[key]
    return value


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_each_host_gets_the_command_and_the_variables_in_its_own_form(host: Host) -> None:
    entry = said(host, snippet(host, host.stdio(LAUNCH)))
    command = entry["command"] if isinstance(entry["command"], list) else [entry["command"], *entry["args"]]
    assert command == ["/opt/wan/bin/wan-mcp", "stdio"]
    assert entry.get("env", entry.get("environment")) == LAUNCH.env
    if host.http is not None:
        over_http = said(host, snippet(host, host.http("http://127.0.0.1:8000/mcp", {"Authorization": "Bearer T"})))
        assert "http://127.0.0.1:8000/mcp" in over_http.values()
        assert {"headers", "bearer_token_env_var"} & over_http.keys()


@pytest.mark.parametrize(
    ("name", "system", "environment", "file"),
    [
        ("claude", "linux", {}, "~/.config/Claude/claude_desktop_config.json"),
        ("claude", "linux", {"XDG_CONFIG_HOME": "/x"}, "/x/Claude/claude_desktop_config.json"),
        ("claude", "darwin", {}, "~/Library/Application Support/Claude/claude_desktop_config.json"),
        ("claude", "win32", {"APPDATA": "C:\\R"}, "C:/R/Claude/claude_desktop_config.json"),
        ("vscode", "linux", {"XDG_CONFIG_HOME": "not absolute"}, "~/.config/Code/User/mcp.json"),
        ("vscode", "darwin", {"XDG_CONFIG_HOME": "/x"}, "~/Library/Application Support/Code/User/mcp.json"),
        ("claude-code", "linux", {"CLAUDE_CONFIG_DIR": "/c"}, "/c/.claude.json"),
        ("codex", "darwin", {"CODEX_HOME": "/c"}, "/c/config.toml"),
        ("cursor", "win32", {}, "~/.cursor/mcp.json"),
        ("zed", "win32", {}, None),
        ("lmstudio", "linux", {}, None),
        ("claude", "freebsd14", {}, None),
    ],
)
def test_files_are_where_the_documentation_has_them(
    name: str, system: str, environment: dict[str, str], file: str | None
) -> None:
    found = find_host(name).file(system, environment)
    assert found == (None if file is None else Path(file).expanduser())


def test_each_host_names_its_documentation_and_what_to_do_next() -> None:
    for host in HOSTS:
        assert re.match(r"https://\w", host.source)
        assert bool(host.files) == bool(host.after)
        assert host.files or host.found_at


@pytest.mark.parametrize(("name", "host"), [("claude-desktop", "claude"), ("Cursor", "cursor"), ("vs-code", "vscode")])
def test_a_host_is_found_by_the_names_people_use(name: str, host: str) -> None:
    assert find_host(name).name == host


def test_an_unknown_host_is_answered_with_those_that_are_known() -> None:
    with pytest.raises(BadRequest, match="did you mean cursor"):
        find_host("cursr")
    with pytest.raises(BadRequest, match="available: claude, "):
        find_host("notepad")


def test_settings_that_differ_go_with_the_command_and_secrets_do_not(settings: Settings) -> None:
    usual = Settings(home=Settings.model_fields["home"].get_default(call_default_factory=True))
    assert launch(usual).env == {}
    start = launch(settings.model_copy(update={"http_token": "secret", "http_page": False, "video_model": "other"}))
    assert start.env["WAN_MCP_HOME"] == str(settings.home)
    assert start.env["WAN_MCP_VIDEO_MODEL"] == "other"
    assert "secret" not in str(start)
    assert not any("HTTP" in name for name in start.env)
    assert Path(start.command).is_absolute()


@pytest.mark.parametrize(
    ("command", "passing"),
    [
        ("/h/.cache/uv/archive-v0/abc/bin/wan-mcp", True),
        ("/h/.local/share/uv/tools/wan-mcp/bin/wan-mcp", False),
        ("/h/.local/bin/wan-mcp", False),
    ],
)
def test_a_program_in_a_cache_is_noticed(command: str, passing: bool) -> None:
    assert passing_place(Launch(command, ("stdio",))) is passing
