"""Compiled packages of earlier runs, kept in the checkout's cache: a block takes half a minute to compile.

The cache has a home for each compiler and each state of the code that builds packages. In it, packages lie under their
identity, as in any home. So a change of a block, of torch or of the builder compiles again. A package from the cache is
checked as an engine checks one before it loads it, and the engine's own code checks it once more.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from wan_mcp.engine import aot as packages
from wan_mcp.engine.aot.cache_key import CacheKey
from wan_mcp.engine.aot.compiler_check import compiler_fingerprint, default_compiler
from wan_mcp.engine.aot.metadata import PackageMetadata
from wan_mcp.engine.aot.store import InvalidPackage, PackageStore
from wan_mcp.fronts.cli import compile as command

__all__ = ["CACHE", "COMPILER", "keep", "seed"]

CACHE = Path(__file__).parents[2] / ".cache" / "packages"
HOMES_KEPT = 4
COMPILER = "compiler.json"
"""The product's note that a compiler was proved; see `compiler.verify`."""


def seed(home: Path, cache: Path = CACHE, *, only: Collection[str] | None = None) -> list[str]:
    """Copy the sound packages of the cache, or `only` some, into a home; return their names. A wrong one is removed."""
    seeded = []
    target = PackageStore(home / "packages")
    target.make()
    with _kept(cache) as store:
        if (store.folder / COMPILER).is_file():
            shutil.copyfile(store.folder / COMPILER, target.folder / COMPILER)
        for package in sorted(store.folder.glob("*.pt2")):
            name = package.stem
            if only is not None and name not in only:
                continue
            try:
                metadata = store.checked(name, _identity(store, name))
            except InvalidPackage as error:
                store.set_aside(name, str(error))
                continue
            if metadata is not None:
                _publish(package, metadata, target)
                seeded.append(name)
    return seeded


def keep(home: Path, cache: Path = CACHE) -> None:
    """Copy the packages of a home, and the proof of its compiler, into the cache."""
    source = PackageStore(home / "packages")
    with _kept(cache) as store:
        if (source.folder / COMPILER).is_file():
            shutil.copyfile(source.folder / COMPILER, store.folder / COMPILER)
        for package in source.folder.glob("*.pt2"):
            if not store.has(package.stem):
                _publish(
                    package, PackageMetadata.model_validate_json(source.metadata(package.stem).read_bytes()), store
                )
        store.sweep()


@contextmanager
def _kept(cache: Path) -> Iterator[PackageStore]:
    """The store for this compiler and this state of the builder, for this process alone; old ones are removed."""
    home = cache / _builder()
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / "lock"):
        os.utime(home)
        for old in sorted(filter(Path.is_dir, cache.iterdir()), key=lambda each: each.stat().st_mtime)[:-HOMES_KEPT]:
            shutil.rmtree(old)
        store = PackageStore(home / "packages")
        store.make()
        yield store


def _builder() -> str:
    """A hash of the compiler and of everything that takes part in building and is not in a package's identity."""
    total = hashlib.sha256(json.dumps(compiler_fingerprint(default_compiler())).encode())
    [folder] = packages.__path__
    for file in [*sorted(Path(folder).glob("*.py")), Path(command.__file__)]:
        total.update(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()[:16]


def _identity(store: PackageStore, name: str) -> dict[str, Any]:
    """What the package of this name depends on, by its metadata, if that gives it this name.

    Raises:
        InvalidPackage: the metadata is missing, or is another package's.
    """
    try:
        identity = json.loads(store.metadata(name).read_bytes())["identity"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidPackage(f"its metadata cannot be read: {error}") from error
    if CacheKey(json.dumps(identity, sort_keys=True)).hash != name:
        raise InvalidPackage("its metadata is another package's")
    return dict(identity)


def _publish(package: Path, metadata: PackageMetadata, store: PackageStore) -> None:
    fresh = store.folder / f"fresh-{package.name}"
    shutil.copyfile(package, fresh)
    store.publish(fresh, package.stem, metadata)
