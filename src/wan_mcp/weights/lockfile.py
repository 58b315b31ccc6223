"""The lock of a model's weights: their commit, and the hash of every file.

It lies under the home folder as weights/MODEL.lock.json (and MODEL.OWNER--NAME.lock.json for each
further repository of its adapters and GGUF files) and is written when, and only when, all
files are whole. While it fits its manifest, the hub is not asked.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.files import atomic_file, sweep_stale, writing_to
from wan_mcp.schema.enums import Frozen
from wan_mcp.weights.repositories import FurtherWeights

__all__ = ["LockedFile", "WeightsLock", "lock_place"]


class LockedFile(Frozen):
    """A file as it was when it was checked."""

    size: int = Field(ge=0, description="Bytes.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    etag: str = Field(description="Hash by which the hub and its cache name the content.")
    mtime_ns: int = Field(description="Time of the last write; another time requires a check.")


class WeightsLock(Frozen):
    """The lock file of one model."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    model: str
    repository: str
    revision: str | None = Field(description="Revision that a user's own manifest requires.")
    patterns: tuple[str, ...] = Field(description="File patterns in the manifest.")
    commit: str
    folder: Path = Field(description="The snapshot in the hub's cache.")
    files: dict[str, LockedFile]

    @classmethod
    def read(cls, manifest: Manifest, home: Path) -> Self | None:
        """Return the lock of a model, if there is one that still fits the manifest."""
        try:
            lock = cls.model_validate_json(lock_place(manifest, home).read_bytes())
        except (OSError, ValidationError):
            return None
        return lock if lock.fits(manifest) else None

    def fits(self, manifest: Manifest) -> bool:
        """Check whether it locks what the manifest requests."""
        weights = manifest.weights
        asked = (weights.repository, manifest.required_revision, weights.files)
        return asked == (self.repository, self.revision, self.patterns)

    def write(self, manifest: Manifest, home: Path) -> None:
        """Write it atomically.

        Raises:
            OutOfSpace: the disk is full.
            HomeUnusable: the home folder cannot be written.
        """
        place = lock_place(manifest, home)
        with writing_to(place.parent):
            with atomic_file(place, private=True) as fresh:
                fresh.write_text(self.model_dump_json(indent=1, by_alias=True), encoding="utf-8")
            sweep_stale(place.parent)

    @staticmethod
    def remove(manifest: Manifest, home: Path) -> None:
        """Remove the lock of a model, if there is one."""
        lock_place(manifest, home).unlink(missing_ok=True)

    def changes(self, newer: Mapping[str, str]) -> list[str]:
        """Describe the changed, added and removed files of another commit, given as the etag of each file."""
        paths = {
            "changed": [path for path in newer if path in self.files and newer[path] != self.files[path].etag],
            "added": [path for path in newer if path not in self.files],
            "removed": [path for path in self.files if path not in newer],
        }
        return [f"{what} {', '.join(found)}" for what, found in paths.items() if found]


def lock_place(manifest: Manifest, home: Path) -> Path:
    """Return the path of the lock of a model, or of one of its further sources."""
    name, weights = manifest.name, manifest.weights
    if isinstance(weights, FurtherWeights):
        name += f".{(weights.repository or '').replace('/', '--')}"
    return home / "weights" / f"{name}.lock.json"
