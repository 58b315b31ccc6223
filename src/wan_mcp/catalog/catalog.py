"""The catalog: all manifests by name, the shipped ones and the user's own."""

import errno
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from wan_mcp.catalog.latent_rgb import FOLDER as MAPS
from wan_mcp.catalog.latent_rgb import LatentRGB
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.errors import BrokenManifest, UnknownModel
from wan_mcp.parsing import parse_toml
from wan_mcp.schema.enums import Kind, Task
from wan_mcp.text import first_line, quoted, spelled, suggestion

__all__ = ["Catalog", "shipped_folder"]

log = logging.getLogger(__name__)


STYLES_FILE = "styles.toml"


def shipped_folder() -> Path:
    """Return the folder of the shipped manifests: next to the code in a wheel, at the top of a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "_manifests"
    return installed if installed.is_dir() else package.parents[1] / "manifests"


class Catalog:
    """All manifests by name; a user's own file adds a model or replaces ours of the same name.

    A broken file costs only its own model: `broken` names it, and asking for the model raises
    the reason. `remarks` are sentences about keys that are ignored, each logged when it is new.
    """

    def __init__(self, *folders: Path) -> None:
        self._folders = folders
        self._seen: list[tuple[Path, int]] | None = None
        self.manifests: dict[str, Manifest] = {}
        self.broken: dict[str, BrokenManifest] = {}
        self.styles: dict[str, str] = {}
        self.latent_rgb: dict[str, LatentRGB] = {}
        """The maps from latents to RGB by name."""
        self.remarks: tuple[str, ...] = ()
        self.version = 0
        """A number that changes when the files are read again."""
        self.refresh()

    @classmethod
    def of(cls, home: Path) -> Self:
        """Return the catalog of the shipped manifests and the user's own under `home`/manifests."""
        return cls(shipped_folder(), home / "manifests")

    def refresh(self) -> None:
        """Read all manifests again if a file was added, changed or removed."""
        maps = [file for folder in self._folders for file in _files(folder / MAPS)]
        files = [file for folder in self._folders for file in _files(folder)]
        seen = [(file, _mtime(file)) for file in (*maps, *files)]
        if seen == self._seen:
            return
        manifests, broken = {}, {}
        styles: dict[str, str] = {}
        remarks: list[str] = []
        shipped = shipped_folder()
        latent_rgb, broken_maps = _read_maps(maps)
        for file in files:
            try:
                if file.name == STYLES_FILE:
                    styles |= _read_styles(file)
                else:
                    manifest = Manifest.read(file, remarks.append, shipped=file.parent == shipped)
                    _require_map(manifest, file, latent_rgb, broken_maps)
                    manifests[manifest.name] = manifest
            except BrokenManifest as error:
                log.warning("%s", error)
                broken[file.stem] = error
            except Exception as error:  # whatever a file holds, it costs only its own model
                log.exception("manifest %s cannot be read", file)
                broken[file.stem] = BrokenManifest(f"manifest {file}: {first_line(error)}")
        for remark in remarks:
            if remark not in self.remarks:
                log.warning("%s", remark)
        self.manifests, self.broken, self.styles, self._seen = manifests, broken, styles, seen
        self.latent_rgb, self.remarks = latent_rgb, tuple(remarks)
        self.version += 1

    def get(self, name: str, kind: Kind | None = None) -> Manifest:
        """Return the manifest of that name, however its capitals are written.

        Args:
            name: The name of a model.
            kind: What the model shall make: a refusal lists no models that make something else.

        Raises:
            UnknownModel: There is none; the message says which was meant, or lists the models.
            BrokenManifest: its file breaks the schema.
        """
        if name in self.broken:
            raise self.broken[name]
        if (known := spelled(name, self.manifests)) is not None:
            return self.manifests[known]
        able = [m.name for m in self.manifests.values() if kind is None or any(task.kind is kind for task in m.tasks)]
        raise UnknownModel(f"no model {quoted(name)}; {suggestion(name, sorted(able))}")

    def serving(self, task: Task) -> list[str]:
        """Return the names of the models that support `task`."""
        return sorted(m.name for m in self.manifests.values() if task in m.tasks)


def _read_maps(files: Iterable[Path]) -> tuple[dict[str, LatentRGB], dict[str, BrokenManifest]]:
    """Return the maps that can be read and what is wrong with the others, by name; a later file replaces an earlier."""
    maps: dict[str, LatentRGB] = {}
    broken: dict[str, BrokenManifest] = {}
    for file in files:
        name = file.stem
        maps.pop(name, None)
        broken.pop(name, None)
        try:
            maps[name] = LatentRGB.read(file)
        except BrokenManifest as error:
            log.warning("%s", error)
            broken[name] = error
    return maps, broken


def _require_map(manifest: Manifest, file: Path, maps: dict[str, LatentRGB], broken: dict[str, BrokenManifest]) -> None:
    """Refuse a manifest that names a map that is not there, or cannot be read."""
    name = manifest.pipeline.latent_rgb
    if name is None or name in maps:
        return
    if name in broken:
        raise broken[name]
    raise BrokenManifest(
        f"manifest {file}: 'pipeline.latent_rgb': no map '{name}'; there are: {', '.join(sorted(maps)) or 'none'}. "
        f"Maps are the files {MAPS}/NAME.toml in the folder of the manifests"
    )


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.glob("*.toml"))
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):  # they are there, and can be listed in a moment
            raise
        log.warning("the manifests in %s cannot be listed: %s", folder, error)
        return []


def _mtime(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:  # a link that leads nowhere, or a folder that may not be searched
        return 0


def _read_styles(file: Path) -> dict[str, str]:
    try:
        data: dict[str, Any] = parse_toml(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BrokenManifest(f"styles {file}: {error}") from error
    for name, template in data.items():
        if not isinstance(template, str) or "{prompt}" not in template:
            raise BrokenManifest(f"styles {file}: '{name}' must be a text that contains {{prompt}}")
    return data
