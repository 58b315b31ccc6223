"""The files that a download of a model's weights is to bring: kept until all are here, to know what is missing.

It lies under the home folder as weights/MODEL.expected.json, is written when the hub has listed the files, and gives
way to the lock when all of them are here.
"""

from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.files import atomic_file, writing_to
from wan_mcp.schema.enums import Frozen
from wan_mcp.weights.hub import RemoteFile
from wan_mcp.weights.lockfile import lock_place

__all__ = ["ExpectedFile", "ExpectedFiles"]


class ExpectedFile(Frozen):
    """A file as the hub listed it."""

    size: int = Field(ge=0, description="Bytes.")
    etag: str = Field(description="Hash by which the hub and its cache name the content.")


class ExpectedFiles(Frozen):
    """The files of one source of a model."""

    repository: str
    patterns: tuple[str, ...]
    files: dict[str, ExpectedFile]

    @classmethod
    def of(cls, manifest: Manifest, files: tuple[RemoteFile, ...]) -> Self:
        """Return what a manifest wants, as the hub has listed it."""
        return cls(
            repository=manifest.weights.repository or "",
            patterns=manifest.weights.files,
            files={file.path: ExpectedFile(size=file.size, etag=file.etag) for file in files},
        )

    @classmethod
    def read(cls, manifest: Manifest, home: Path) -> Self | None:
        """Return what a download that has begun is to bring; None if none has, or the manifest wants something else."""
        try:
            expected = cls.model_validate_json(_place(manifest, home).read_bytes())
        except (OSError, ValidationError):
            return None
        wanted = manifest.weights.repository, manifest.weights.files
        return expected if (expected.repository, expected.patterns) == wanted else None

    def write(self, manifest: Manifest, home: Path) -> None:
        """Write it atomically.

        Raises:
            OutOfSpace: the disk is full.
            HomeUnusable: the home folder cannot be written.
        """
        place = _place(manifest, home)
        with writing_to(place.parent), atomic_file(place, private=True) as fresh:
            fresh.write_text(self.model_dump_json(indent=1), encoding="utf-8")

    @staticmethod
    def remove(manifest: Manifest, home: Path) -> None:
        """Remove it, if it is there."""
        _place(manifest, home).unlink(missing_ok=True)


def _place(manifest: Manifest, home: Path) -> Path:
    lock = lock_place(manifest, home)
    return lock.with_name(lock.name.replace(".lock.json", ".expected.json"))
