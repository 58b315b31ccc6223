"""Put packages where Python finds them as installed, without an installer; some that add families of models."""

import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path

from wan_mcp.catalog.families import GROUP

__all__ = ["RECORD", "Site", "install_project", "write_distribution"]

RECORD = """
from wan_mcp.catalog.families import FamilySpec
FAMILY = FamilySpec(name="{name}", tasks={{"text-to-video"}}, loader="{module}:load")
"""


def install_project(project: Path, site: Path) -> None:
    """Copy the package of a project into a folder of sys.path or PYTHONPATH, with the metadata that pip would write."""
    table = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for package in project.glob("*/__init__.py"):
        shutil.copytree(package.parent, site / package.parent.name, ignore=shutil.ignore_patterns("__pycache__"))
    write_distribution(site, table["name"], table["version"], table["entry-points"])


def write_distribution(site: Path, name: str, version: str, points: Mapping[str, Mapping[str, str]]) -> None:
    """Write a package's metadata: its name, its version and its entry points, by their groups."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    lines = [
        line
        for group, entries in points.items()
        for line in (f"[{group}]", *(f"{key} = {value}" for key, value in entries.items()))
    ]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


class Site:
    """A folder of packages that add families, to be put on sys.path or PYTHONPATH."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder

    def add(self, name: str, content: str, *, module: str = "", value: str = "") -> None:
        """Install a package of one module, whose entry point is called `name`."""
        module = module or f"family_{name.replace('-', '_')}"
        (self._folder / f"{module}.py").write_text(content, encoding="utf-8")
        points = {GROUP: {name: value or f"{module}:FAMILY"}}
        write_distribution(self._folder, module.replace("_", "-"), "2.5", points)

    def add_sound(self, name: str) -> None:
        """Install a package that is as it should be."""
        self.add(name, RECORD.format(name=name, module=f"family_{name}"))
