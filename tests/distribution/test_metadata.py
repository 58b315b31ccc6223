"""What registries and hosts are told about the package is valid, and says what the package says."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from jsonschema import Draft7Validator, FormatChecker

import wan_mcp
from tests.support.patience import PATIENCE_S
from wan_mcp.fronts.mcp.server import build_server
from wan_mcp.service.service import JobService
from wan_mcp.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).parents[2]
SCHEMAS = Path(__file__).parent / "schemas"
LAUNCHER = ROOT / "mcpb" / "server" / "wan-mcp"
FORMATS: dict[Any, str] = {bool: "boolean", int: "number", float: "number", Path: "filepath"}


def read(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((ROOT / name).read_text(encoding="utf-8"))
    return value


def project() -> dict[str, Any]:
    facts: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return facts


@pytest.mark.parametrize(
    ("name", "schema"),
    [("server.json", "server.schema.json"), ("mcpb/manifest.json", "mcpb-manifest-v0.4.schema.json")],
)
def test_each_file_is_valid_by_its_official_schema(name: str, schema: str) -> None:
    rules = json.loads((SCHEMAS / schema).read_text(encoding="utf-8"))
    validator = Draft7Validator(rules, format_checker=FormatChecker())
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(read(name))] == []
    assert list(validator.iter_errors({})) != [], "the schema refuses something"


def test_versions_and_names_are_those_of_the_package() -> None:
    server, manifest, facts = read("server.json"), read("mcpb/manifest.json"), project()
    [package] = server["packages"]
    assert {server["version"], package["version"], manifest["version"]} == {wan_mcp.__version__}
    assert package["identifier"] == manifest["name"] == facts["name"]
    assert package["identifier"] in facts["scripts"], "uvx runs the command that is called like the package"
    assert server["title"] == manifest["display_name"]
    assert manifest["license"] == facts["license"]


def test_addresses_are_those_of_the_project() -> None:
    server, manifest, repository = read("server.json"), read("mcpb/manifest.json"), project()["urls"]["Repository"]
    host = urlsplit(repository).hostname or ""
    assert server["name"] == f"{'.'.join(reversed(host.split('.')))}/wan-mcp"
    assert f"<!-- mcp-name: {server['name']} -->" in (ROOT / "README.md").read_text(encoding="utf-8")
    addresses = [server["websiteUrl"], manifest["homepage"], manifest["documentation"], *manifest["privacy_policies"]]
    for address in addresses:
        assert address.startswith(repository)
        page = address.removeprefix(repository).removeprefix("/blob/main/")
        assert not page or (ROOT / page).is_file()


def test_settings_in_the_registry_are_settings_of_the_package() -> None:
    [package] = read("server.json")["packages"]
    [token] = [each for each in package["environmentVariables"] if not each["name"].startswith(ENV_PREFIX)]
    assert (token["name"], token["isSecret"]) == ("HF_TOKEN", True)
    for each in package["environmentVariables"]:
        if each is token:
            continue
        field = Settings.model_fields[each["name"].removeprefix(ENV_PREFIX).lower()]
        assert each["description"] == field.description
        assert each["format"] == FORMATS.get(field.annotation, "string")
    assert [each["value"] for each in package["packageArguments"]] == ["stdio"]


def test_the_bundle_lists_the_tools_and_passes_settings_on(tmp_path: Path) -> None:
    manifest = read("mcpb/manifest.json")
    listed = anyio.run(build_server(JobService(Settings(home=tmp_path))).list_tools)
    assert {tool["name"]: tool["description"] for tool in manifest["tools"]} == {
        tool.name: f"{tool.title}." for tool in listed
    }
    config = manifest["server"]["mcp_config"]
    assert config["command"] == f"${{__dirname}}/{manifest['server']['entry_point']}"
    used = {match for value in config["env"].values() for match in re.findall(r"\$\{user_config\.(\w+)\}", value)}
    assert used == manifest["user_config"].keys()
    ours = {name for name in config["env"] if name.startswith(ENV_PREFIX)}
    assert {name.removeprefix(ENV_PREFIX).lower() for name in ours} <= Settings.model_fields.keys()
    for name in config["env"]:
        assert re.search(rf"\b{name}\b", LAUNCHER.read_text(encoding="utf-8")), "the launcher knows each variable"
    assert (ROOT / "mcpb" / manifest["icon"]).read_bytes().startswith(b"\x89PNG")
    assert LAUNCHER.stat().st_mode & stat.S_IXUSR


@pytest.fixture
def installed() -> Iterator[Path]:
    """A folder of a user with a command that prints what it was given."""
    with tempfile.TemporaryDirectory() as folder:
        command = Path(folder, ".local", "bin", "wan-mcp")
        command.parent.mkdir(parents=True)
        env, grep = shutil.which("env"), shutil.which("grep")
        lines = ("#!/bin/sh", 'printf "%s\\n" "$0" "$@"', f'{env} | {grep} -E "^(WAN|HF)"', "exit 0", "")
        command.write_text("\n".join(lines), encoding="utf-8")
        command.chmod(0o755)
        yield Path(folder)


def launch(home: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [LAUNCHER, "stdio"],
        env={"HOME": str(home), "PATH": "/nowhere", **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.skipif(Path("/usr/local/bin/wan-mcp").exists(), reason="a wan-mcp is installed for all users")
def test_the_launcher_finds_the_command_and_leaves_open_settings_out(installed: Path) -> None:
    open_settings = {"WAN_COMMAND": "", "WAN_MCP_HOME": "${user_config.home}", "HF_TOKEN": ""}
    found = launch(installed, WAN_MCP_VIDEO_MODEL="wan2.2 x'$(id)", **open_settings)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines() == [
        str(installed / ".local/bin/wan-mcp"),
        "stdio",
        "WAN_MCP_VIDEO_MODEL=wan2.2 x'$(id)",
    ]
    chosen = installed / "my wan"
    (installed / ".local/bin/wan-mcp").rename(chosen)
    assert launch(installed, WAN_COMMAND=str(chosen)).stdout.splitlines()[0] == str(chosen)
    missing = launch(installed)
    assert missing.returncode == 1
    assert "pipx install wan-mcp" in missing.stderr
    assert str(installed / ".local/bin/wan-mcp") in missing.stderr
    assert missing.stdout == "", "stdout belongs to the protocol"


def test_the_launcher_starts_the_real_server(tmp_path: Path) -> None:
    real = tmp_path / "wan-mcp"
    real.write_text(f'#!/bin/sh\nexec {sys.executable} -m wan_mcp "$@"\n', encoding="utf-8")
    real.chmod(0o755)
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    with subprocess.Popen(
        [LAUNCHER, "stdio"],
        env={**os.environ, "WAN_COMMAND": str(real), "WAN_MCP_HOME": str(tmp_path / "home"), "HF_TOKEN": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        server.stdin.write(json.dumps(hello) + "\n")
        server.stdin.flush()
        answer = json.loads(server.stdout.readline())
        server.stdin.close()
        server.wait(PATIENCE_S)
    assert answer["result"]["serverInfo"]["version"] == wan_mcp.__version__
