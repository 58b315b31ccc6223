"""The folder of packages, and the checks before one is loaded.

A package is code. It is loaded only if its file and folder are writable by this user alone, and if its content matches
its metadata, which was written when it was built and verified.
"""

import logging
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wan_mcp.engine.aot.metadata import PackageMetadata
from wan_mcp.files import atomic_file, sha256_of, sweep_stale
from wan_mcp.permissions import make_folder

__all__ = ["BUILD_PREFIX", "InvalidPackage", "PackageStore"]

log = logging.getLogger(__name__)

OTHERS_MAY_WRITE = 0o022
BUILD_PREFIX = "build-"
PACKAGES_KEPT = 40
"""Maximum number kept: those for older torch versions are not used again; each has a few megabytes."""


class InvalidPackage(Exception):
    """A package that must not be loaded; the message has the reason."""


class PackageStore:
    """The folder of packages: `<hash>.pt2` and `<hash>.json`, see `CacheKey.hash`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self) -> None:
        """Create the folder, accessible to this user only.

        Raises:
            OSError: it cannot be created.
        """
        make_folder(self.folder)
        if self.folder.stat().st_mode & OTHERS_MAY_WRITE:  # it may have been created by hand
            self.folder.chmod(0o700)

    def package(self, name: str) -> Path:
        """Return the path of the package's file, which may not exist."""
        return self.folder / f"{name}.pt2"

    def metadata(self, name: str) -> Path:
        """Return the path of the metadata file."""
        return self.folder / f"{name}.json"

    def has(self, name: str) -> bool:
        """Check whether both files exist; their content is not checked."""
        return self.package(name).is_file() and self.metadata(name).is_file()

    def checked(self, name: str, identity: Mapping[str, Any]) -> PackageMetadata | None:
        """Return the metadata of a package that may be loaded, or None if there is none of that name.

        Raises:
            InvalidPackage: it must not be loaded.
        """
        if not self.has(name):
            return None
        try:
            for path in (self.folder, self.package(name), self.metadata(name)):
                self._check_owner(path)
            metadata = PackageMetadata.model_validate_json(self.metadata(name).read_bytes())
            found = sha256_of(self.package(name))
        except ValidationError as error:
            raise InvalidPackage(f"its metadata cannot be read: {error.errors()[0]['msg']}") from error
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidPackage(f"it cannot be read: {error}") from error
        if found != metadata.package_sha256:
            raise InvalidPackage("its content does not match its metadata")
        if other := sorted(k for k in {*identity, *metadata.identity} if identity.get(k) != metadata.identity.get(k)):
            raise InvalidPackage(f"it was made for another {', '.join(other)}")
        return metadata

    def _check_owner(self, path: Path) -> None:
        about = path.lstat()
        if about.st_uid != os.geteuid():
            raise InvalidPackage(f"{path.name} belongs to another user")
        if path.is_symlink() or about.st_mode & OTHERS_MAY_WRITE:
            raise InvalidPackage(f"other users can write to {path.name}")

    def publish(self, built: Path, name: str, metadata: PackageMetadata) -> None:
        """Publish a verified package under its name, atomically."""
        built.chmod(0o600)
        with atomic_file(self.metadata(name), private=True) as fresh:
            fresh.write_text(metadata.model_dump_json(indent=1))
            # Without metadata a package does not exist, so old metadata is removed first and new metadata written last.
            self.metadata(name).unlink(missing_ok=True)
            built.replace(self.package(name))

    def sweep(self) -> None:
        """Remove files of interrupted builds, and the oldest packages. Call it only while no build runs."""
        sweep_stale(self.folder)
        for left in self.folder.glob(f"{BUILD_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
        for broken in self.folder.glob("*.broken"):
            broken.unlink(missing_ok=True)
        files = sorted(self.folder.glob("*.pt2"), key=lambda file: file.stat().st_mtime)
        for file in files[:-PACKAGES_KEPT]:
            self.metadata(file.stem).unlink(missing_ok=True)
            file.unlink(missing_ok=True)

    def set_aside(self, name: str, reason: str) -> None:
        """Rename a package so that it is not loaded again."""
        log.warning("package %s is set aside and blocks run eagerly: %s", name, reason)
        for path in (self.metadata(name), self.package(name)):
            with suppress(OSError):
                path.replace(path.with_name(f"{path.name}.broken"))
