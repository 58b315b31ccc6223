"""Where packages lie, and which of them may be loaded.

A package is code: it is loaded only where its file and folder are this user's alone to write, and where its content is
what its metadata says, which was written when it was built and proved.
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

__all__ = ["BUILD_PREFIX", "InvalidPackage", "PackageStore"]

log = logging.getLogger(__name__)

OTHERS_MAY_WRITE = 0o022
BUILD_PREFIX = "build-"
PACKAGES_KEPT = 40
"""Those of older versions of torch are never asked for again; some megabytes each."""


class InvalidPackage(Exception):
    """A package that must not be loaded; says why."""


class PackageStore:
    """The folder of packages: `<identity>.pt2` beside `<identity>.json`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self) -> None:
        """Make the folder, for this user alone.

        Raises:
            OSError: it cannot be made.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.folder.stat().st_mode & OTHERS_MAY_WRITE:  # made by hand, perhaps
            self.folder.chmod(0o700)

    def package(self, name: str) -> Path:
        """The package's file, whether it exists or not."""
        return self.folder / f"{name}.pt2"

    def metadata(self, name: str) -> Path:
        """The metadata's file."""
        return self.folder / f"{name}.json"

    def has(self, name: str) -> bool:
        """Whether both files are there; nothing is said of what they hold."""
        return self.package(name).is_file() and self.metadata(name).is_file()

    def checked(self, name: str, identity: Mapping[str, Any]) -> PackageMetadata | None:
        """The metadata of a package that may be loaded, or None if there is none of that name.

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
            raise InvalidPackage("its content is not what its metadata says")
        if other := sorted(k for k in {*identity, *metadata.identity} if identity.get(k) != metadata.identity.get(k)):
            raise InvalidPackage(f"it was made for another {', '.join(other)}")
        return metadata

    def _check_owner(self, path: Path) -> None:
        about = path.lstat()
        if about.st_uid != os.geteuid():
            raise InvalidPackage(f"{path.name} belongs to another user")
        if path.is_symlink() or about.st_mode & OTHERS_MAY_WRITE:
            raise InvalidPackage(f"others may write {path.name}")

    def publish(self, built: Path, name: str, metadata: PackageMetadata) -> None:
        """Give a package that was proved its name; whoever looks sees all of it or nothing."""
        built.chmod(0o600)
        with atomic_file(self.metadata(name)) as fresh:
            fresh.write_text(metadata.model_dump_json(indent=1))
            fresh.chmod(0o600)
            # Without a metadata there is no package, so an old one of that name goes first and the new one comes last.
            self.metadata(name).unlink(missing_ok=True)
            built.replace(self.package(name))

    def sweep(self) -> None:
        """Remove what builds that were ended have left, and the oldest packages. Only while no build runs."""
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
        """Rename a package so that nobody loads it any more."""
        log.warning("package %s is set aside and blocks run eagerly: %s", name, reason)
        for path in (self.metadata(name), self.package(name)):
            with suppress(OSError):
                path.replace(path.with_name(f"{path.name}.broken"))
