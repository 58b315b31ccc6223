"""The environment of child processes: no secrets, no code from the current folder, no caches where others can write."""

import os
import re
from pathlib import Path

from wan_mcp.permissions import make_folder

__all__ = ["child_environment", "drop_secrets", "temporary_in"]

SECRET = re.compile(r"(^|_)(TOKENS?|SECRETS?|PASSW(OR)?D|PASSPHRASE|CREDENTIALS?|(API|ACCESS|PRIVATE)_?KEY)(_|$)")
"""Names of variables that hold secrets, by convention."""
WITHHELD = frozenset({"WAN_MCP_ON_DONE", "WAN_MCP_C2PA_KEY"})
"""Settings that no child needs. A URL may have a secret in it, and a command that makes jobs must not run itself. Which
file has the key of content credentials is told to engines only, with their settings."""
OF_THE_HUB = ("HF_", "HUGGING_FACE_")
PYTHON_PATH = "PYTHONPATH"


def child_environment(*, downloads: bool = False) -> dict[str, str]:
    """Return this process's environment as a child process may have it.

    Variables that are named like secrets are left out; with `downloads`, those of the hub stay. A Python among the
    children imports nothing from its current folder, which may be anybody's: PYTHONSAFEPATH is set, and PYTHONPATH
    loses its empty entries, which mean that folder. Its relative entries mean the same folders to the child as here.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in WITHHELD and (not SECRET.search(name.upper()) or (downloads and name.startswith(OF_THE_HUB)))
    }
    kept["PYTHONSAFEPATH"] = "1"
    if folders := [str(Path(entry).absolute()) for entry in kept.pop(PYTHON_PATH, "").split(os.pathsep) if entry]:
        kept[PYTHON_PATH] = os.pathsep.join(folders)
    return kept


def drop_secrets() -> None:
    """Remove from this process's environment what an engine may not have, because another program started it.

    Ray's own variables stay: its library in this process reads them.
    """
    kept = child_environment(downloads=True)
    for name in set(os.environ) - set(kept):
        if not name.startswith("RAY_"):
            del os.environ[name]


def temporary_in(home: Path) -> dict[str, str]:
    """Return the variables that keep temporary files and compilers' caches in the home; make the folder of the former.

    By default they are below the system's temporary folder, under names that other users can foresee and take first.

    Raises:
        OSError: the folder cannot be created.
    """
    folder = home / "packages" / "compiler"
    temporary = home / "tmp"
    make_folder(temporary)
    return {
        "TMPDIR": str(temporary),
        "TORCHINDUCTOR_CACHE_DIR": str(folder),
        "TRITON_CACHE_DIR": str(folder / "triton"),
        "CUTE_DSL_CACHE_DIR": str(folder / "cute"),
    }
