"""`wan-mcp setup`: the file of another program gets one entry, keeps all else, and can be had back."""

import json
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command_line import Wan
from wan_mcp.fronts.hosts import configure
from wan_mcp.fronts.hosts.json_members import parse
from wan_mcp.fronts.hosts.registry import HOSTS

COMMENTED = """// my servers
{
    "servers": {
        "github": { // the one I use
            "url": "https://example.com/mcp",
        },
    },
    "inputs": [] /* none */
}
"""
IN_A_STRING = b'a = """\n[mcp_servers.wan]\n"""\n[mcp_servers]\nwan.command = "wan-mcp"'


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a user without any configuration."""
    folder = tmp_path / "user"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in ("XDG_CONFIG_HOME", "CLAUDE_CONFIG_DIR", "CODEX_HOME"):
        monkeypatch.delenv(name, raising=False)
    return folder


def files_below(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("name", [host.name for host in HOSTS if host.files])
def test_a_host_is_set_up_once_and_its_file_is_gone_after_undo(name: str, user: Path, here: Wan) -> None:
    done = here("setup", name)
    assert done.returncode == 0, done.stderr
    [file] = files_below(user)
    assert str(file) in done.stdout
    assert "Next: " in done.stdout
    assert f"wan-mcp setup {name} --undo" in done.stdout
    text = file.read_text(encoding="utf-8")
    value: Any = tomllib.loads(text) if file.suffix == ".toml" else parse(text)
    [servers] = value.values()
    assert Path(servers["wan"]["command"]).is_absolute()
    assert "stdio" in servers["wan"]["args"]
    again = here("setup", name)
    assert "Nothing was changed" in again.stdout
    assert files_below(user) == [file]
    assert f"{name} " in here("setup").stdout and "has this server" in here("setup").stdout
    assert here("setup", name, "--undo").returncode == 0
    assert files_below(user) == []
    assert "Nothing to undo" in here("setup", name, "--undo").stdout


def test_comments_and_other_servers_stay_and_undo_restores_the_bytes(user: Path, here: Wan) -> None:
    file = user / ".config" / "Code" / "User" / "mcp.json"
    file.parent.mkdir(parents=True)
    file.write_text(COMMENTED, encoding="utf-8")
    file.chmod(0o600)
    done = here("setup", "vscode")
    assert done.returncode == 0
    changed = file.read_text(encoding="utf-8")
    assert all(line in changed for line in COMMENTED.splitlines())
    assert parse(changed)["servers"].keys() == {"github", "wan"}
    backup = file.with_name("mcp.json.before-wan-mcp")
    assert backup.read_text(encoding="utf-8") == COMMENTED
    assert str(backup) in done.stdout
    assert {stat.S_IMODE(each.stat().st_mode) for each in (file, backup)} == {0o600}
    assert "is as it was before" in here("setup", "vscode", "--undo").stdout
    assert file.read_text(encoding="utf-8") == COMMENTED
    assert not backup.exists()


def test_undo_after_other_changes_takes_out_only_the_entry(user: Path, here: Wan) -> None:
    file = user / ".cursor" / "mcp.json"
    file.parent.mkdir()
    file.write_text('{\n  "mcpServers": {\n    "a": {}\n  }\n}\n', encoding="utf-8")
    here("setup", "cursor")
    text = file.read_text(encoding="utf-8").replace('"a": {}', '"a": {},\n    // new\n    "b": {}')
    file.write_text(text, encoding="utf-8")
    assert "all else stays" in here("setup", "cursor", "--undo").stdout
    left = file.read_text(encoding="utf-8")
    assert parse(left) == {"mcpServers": {"a": {}, "b": {}}}
    assert "// new" in left


def test_a_former_entry_keeps_what_its_owner_added(user: Path, here: Wan) -> None:
    file = user / ".cursor" / "mcp.json"
    file.parent.mkdir()
    env = {"WAN_MCP_LOG_LEVEL": "DEBUG", "HF_TOKEN": "x"}
    former = {"command": "/old/.venv/bin/wan-mcp", "args": ["stdio"], "timeout": 90, "env": env}
    file.write_text(json.dumps({"mcpServers": {"wan": former}}, indent=2), encoding="utf-8")
    done = here("setup", "cursor", "--video-model", "other")
    assert "Kept in its entry: timeout" in done.stdout
    now = parse(file.read_text(encoding="utf-8"))["mcpServers"]["wan"]
    assert now["timeout"] == 90
    assert now["env"].items() >= (env | {"WAN_MCP_VIDEO_MODEL": "other"}).items()
    assert now["command"] != former["command"]
    here("setup", "cursor", "--undo")
    assert parse(file.read_text(encoding="utf-8"))["mcpServers"]["wan"] == former


def test_codex_keeps_its_other_tables_and_comments(user: Path, here: Wan) -> None:
    file = user / ".codex" / "config.toml"
    file.parent.mkdir()
    text = (
        'model = "x" # mine\n\n[mcp_servers.wan]\ncommand = "/old/wan-mcp"\nargs = ["stdio"]\ntool_timeout_sec = 90\n\n'
        "[mcp_servers.wan.env]\nHF_HOME = '/hf'\n\n# the next\n[mcp_servers.\"my other\"]\nurl = 'http://x'\n"
    )
    file.write_text(text, encoding="utf-8")
    assert here("setup", "codex").returncode == 0
    changed = file.read_text(encoding="utf-8")
    value = tomllib.loads(changed)
    assert value["mcp_servers"]["wan"]["tool_timeout_sec"] == 90
    assert value["mcp_servers"]["wan"]["env"]["HF_HOME"] == "/hf"
    assert value["mcp_servers"]["my other"] == {"url": "http://x"}
    assert "# mine" in changed and "# the next\n[mcp_servers" in changed
    here("setup", "codex", "--undo")
    assert file.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("name", "file", "content", "says"),
    [
        ("claude", ".config/Claude/claude_desktop_config.json", b'{"mcpServers": {', "line 1"),
        ("claude", ".config/Claude/claude_desktop_config.json", b'{"a": 1,}', "trailing commas, which Claude Desktop"),
        ("claude", ".config/Claude/claude_desktop_config.json", b"[]", "is not an object"),
        ("cursor", ".cursor/mcp.json", b'{"mcpServers": []}', "'mcpServers' is not an object"),
        ("cursor", ".cursor/mcp.json", '{"a": "ü"}'.encode("utf-16"), "UTF-8"),
        ("codex", ".codex/config.toml", b"a = [", "cannot be understood"),
        ("codex", ".codex/config.toml", b'mcp_servers = { x = { url = "u" } }', "cannot change safely"),
        (
            "codex",
            ".codex/config.toml",
            b'a = """\n[mcp_servers.wan]\n"""\n[mcp_servers]\nwan.command = "wan-mcp"',
            "safely",
        ),
    ],
)
def test_a_file_that_cannot_be_changed_is_left_alone_and_the_text_is_printed(
    name: str, file: str, content: bytes, says: str, user: Path, here: Wan
) -> None:
    target = user / file
    target.parent.mkdir(parents=True)
    target.write_bytes(content)
    done = here("setup", name)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Add this by hand" in done.stderr
    assert "wan" in (
        tomllib.loads(done.stdout)["mcp_servers"] if name == "codex" else json.loads(done.stdout)["mcpServers"]
    )
    assert target.read_bytes() == content
    assert files_below(user) == [target]


def test_an_empty_file_and_a_byte_order_mark_are_no_obstacle(user: Path, here: Wan) -> None:
    file = user / ".cursor" / "mcp.json"
    file.parent.mkdir()
    file.write_bytes(b"")
    assert here("setup", "cursor").returncode == 0
    assert "wan" in json.loads(file.read_bytes())["mcpServers"]
    assert here("setup", "cursor", "--undo").returncode == 0
    assert file.read_bytes() == b""
    marked = b'\xef\xbb\xbf{\r\n  "mcpServers": {}\r\n}\r\n'
    file.write_bytes(marked)
    assert here("setup", "cursor").returncode == 0
    assert file.read_bytes().startswith(b"\xef\xbb\xbf{\r\n") and b"\n" not in file.read_bytes().replace(b"\r\n", b"")
    here("setup", "cursor", "--undo")
    assert file.read_bytes() == marked


def test_a_link_stays_a_link_to_the_changed_file(user: Path, here: Wan) -> None:
    real = user / "dotfiles" / "mcp.json"
    real.parent.mkdir()
    real.write_text("{}\n", encoding="utf-8")
    link = user / ".cursor" / "mcp.json"
    link.parent.mkdir()
    link.symlink_to(real)
    assert here("setup", "cursor").returncode == 0
    assert link.is_symlink()
    assert "wan" in json.loads(real.read_text(encoding="utf-8"))["mcpServers"]


def test_a_file_that_its_owner_protected_is_not_written(user: Path, here: Wan) -> None:
    file = user / ".cursor" / "mcp.json"
    file.parent.mkdir()
    file.write_text("{}\n", encoding="utf-8")
    file.chmod(0o400)
    done = here("setup", "cursor")
    assert done.returncode == 2
    assert "may not be written" in done.stderr
    assert file.read_text(encoding="utf-8") == "{}\n"


@pytest.mark.parametrize("other", [{"command": "npx", "args": ["other"]}, {"url": "https://example.com/mcp"}, 3])
def test_another_server_of_that_name_is_not_replaced(other: Any, user: Path, here: Wan) -> None:
    file = user / ".cursor" / "mcp.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"mcpServers": {"wan": other}}), encoding="utf-8")
    done = here("setup", "cursor")
    assert done.returncode == 2
    assert "--name" in done.stderr
    assert here("setup", "cursor", "--name", "studio").returncode == 0
    servers = json.loads(file.read_text(encoding="utf-8"))["mcpServers"]
    assert servers["wan"] == other
    assert servers.keys() == {"wan", "studio"}
    assert here("setup", "cursor", "--undo", "--name", "studio").returncode == 0
    assert json.loads(file.read_text(encoding="utf-8")) == {"mcpServers": {"wan": other}}


def test_print_writes_nothing_and_prints_what_would_be_written(user: Path, here: Wan) -> None:
    printed = here("setup", "gemini", "--print")
    assert files_below(user) == []
    here("setup", "gemini")
    assert json.loads(printed.stdout) == json.loads((user / ".gemini" / "settings.json").read_text(encoding="utf-8"))


def test_a_host_without_a_known_file_gets_its_text(user: Path, here: Wan) -> None:
    done = here("setup", "opencode")
    assert done.returncode == 2
    assert json.loads(done.stdout)["mcp"]["wan"]["type"] == "local"
    project = user / "opencode.json"
    project.write_text('{"mcp": {}}', encoding="utf-8")
    chosen = here("setup", "opencode", "--file", project)
    assert chosen.returncode == 0
    assert f"--undo --file {project}" in chosen.stdout
    assert json.loads(project.read_text(encoding="utf-8"))["mcp"]["wan"]["command"][-1] == "stdio"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("claud",), "did you mean claude"),
        (("cursor", "--print", "--undo"), "exclude each other"),
        (("--undo",), "name the program"),
        (("cursor", "--name", "a b"), "letters, digits"),
    ],
)
def test_what_makes_no_sense_is_refused(words: tuple[str, ...], says: str, user: Path, here: Wan) -> None:
    done = here("setup", *words)
    assert done.returncode == 2
    assert says in done.stderr
    assert files_below(user) == []


def test_a_change_by_another_program_meanwhile_is_not_overwritten(
    user: Path, here: Wan, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = user / ".cursor" / "mcp.json"
    file.parent.mkdir()
    file.write_text("{}\n", encoding="utf-8")
    others = '{"mcpServers": {"new": {}}}'
    copying = configure._backed_up

    def while_another_program_writes(place: Path) -> Path:
        backup = copying(place)
        place.write_text(others, encoding="utf-8")
        return backup

    monkeypatch.setattr(configure, "_backed_up", while_another_program_writes)
    done = here("setup", "cursor")
    assert done.returncode == 2
    assert "another program" in done.stderr
    assert file.read_text(encoding="utf-8") == others
