"""What stands in a host's configuration for this installation of wan-mcp."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from wan_mcp.fronts.hosts.registry import SERVER, Host, Launch
from wan_mcp.fronts.hosts.toml_tables import with_table
from wan_mcp.settings import ENV_PREFIX, Settings

__all__ = ["launch", "passing_place", "snippet"]

OF_THE_WEB = "http_"
"""Settings of this name are about the HTTP server only."""
PASSING = ("archive-v0", "environments-v2", "builds-v0")
"""Folders of uv's cache, which uv empties without asking."""


def launch(settings: Settings) -> Launch:
    """Return how to start the server with these settings: hosts start it with a short PATH and few variables."""
    command = _command()
    defaults = type(settings).model_fields
    environment = settings.environment()
    differing = {
        variable: environment[variable]
        for name, field in defaults.items()
        if not name.startswith(OF_THE_WEB)
        and (variable := f"{ENV_PREFIX}{name.upper()}") in environment
        and getattr(settings, name) != field.get_default(call_default_factory=True)
    }
    return Launch(command[0], (*command[1:], "stdio"), differing)


def _command() -> list[str]:
    beside = Path(sys.executable).with_name("wan-mcp")
    found = str(beside) if beside.is_file() else shutil.which("wan-mcp")
    return [str(Path(found).absolute())] if found else [sys.executable, "-m", "wan_mcp"]


def passing_place(start: Launch) -> bool:
    """Check whether the program is in a cache that is emptied, as it is under uvx."""
    return any(folder in Path(start.command).parts for folder in PASSING)


def snippet(host: Host, entry: dict[str, Any], name: str = SERVER) -> str:
    """Return a host's whole configuration with nothing but this entry, ready to paste."""
    if host.form == "toml":
        return with_table("", (*host.place, name), entry).rstrip()
    whole: Any = {name: entry}
    for key in reversed(host.place):
        whole = {key: whole}
    return json.dumps(whole, indent=2, ensure_ascii=False)
