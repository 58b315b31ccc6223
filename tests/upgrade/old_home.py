"""Restores a home that an older version left behind, as its user had it, below any folder.

The files are in a folder named for the version; its README says how they were made.
"""

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

__all__ = ["Json", "OldHome", "restore"]

Json = dict[str, Any]
PLACEHOLDER = "@USER@"
TEXTS = (".json", ".toml", ".sql", ".log")


@dataclass(frozen=True)
class OldHome:
    """A restored home and what is around it."""

    user: Path
    """The folder of its user."""

    @property
    def home(self) -> Path:
        """The home itself."""
        return self.user / "wan"

    @cached_property
    def facts(self) -> Json:
        """What the files do not say of themselves: see `facts` in `make_home.py`."""
        facts: Json = json.loads((self.user / "facts.json").read_text(encoding="utf-8"))
        return facts

    @property
    def weights_lock(self) -> Json:
        """The lock of the model that its user pulled."""
        lock: Json = json.loads((self.home / "weights" / "tiny-wan.lock.json").read_text(encoding="utf-8"))
        return lock

    def files(self) -> dict[str, Path]:
        """Return every file of the home by its path in it, except the job table and empty lock files."""
        return {
            file.relative_to(self.home).as_posix(): file
            for file in sorted(self.home.rglob("*"))
            if file.is_file() and not file.name.startswith("jobs.db") and file.suffix != ".lock"
        }

    def embedding(self, text: str, facts: Mapping[str, Any]) -> str:
        """Return the name that 0.1.0 gave the embedding of a text by the pulled model's encoder.

        Args:
            text: what was encoded.
            facts: the `device` and the library `versions` that its bits depend on.
        """
        read = {path: file["sha256"] for path, file in self.weights_lock["files"].items()}
        parts = sorted(path for path in read if path.startswith(("text_encoder/", "tokenizer/")))
        content = {
            "encoder": hashlib.sha256("".join(f"{path} {read[path]}\n" for path in parts).encode()).hexdigest(),
            "storage": "plain",
            "family": "wan",
            "tokens": 16,
            "text": text,
            "device": facts["device"],
            "precision": "fp32",
            "versions": facts["versions"],
        }
        return f"{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}.safetensors"


def restore(version: Path, user: Path) -> OldHome:
    """Restore what was kept of a version below the folder `user`."""
    shutil.copytree(version / "home", user / "wan")
    shutil.copytree(version / "hub", user / "hub", symlinks=True)
    shutil.copy(version / "facts.json", user)
    for file in user.rglob("*"):
        if file.suffix in TEXTS and not file.is_symlink():
            file.write_text(file.read_text(encoding="utf-8").replace(PLACEHOLDER, str(user)), encoding="utf-8")
    script = user / "wan" / "jobs.sql"
    with closing(sqlite3.connect(user / "wan" / "jobs.db")) as table:
        table.executescript(script.read_text(encoding="utf-8"))
        table.execute("PRAGMA journal_mode = WAL")
    script.unlink()
    old = OldHome(user)
    lock = old.weights_lock
    for path, file in lock["files"].items():  # a copy would have every file hashed again
        os.utime(Path(lock["folder"]) / path, ns=(file["mtime_ns"], file["mtime_ns"]))
    return old
