"""Models that are on a hub and not on this machine: copies of embedded ones whose weights are said to be there."""

from pathlib import Path

from wan_mcp.catalog.catalog import shipped_folder

__all__ = ["add_far_model"]


def add_far_model(home: Path, gigabytes: float, name: str = "far", embedded: str = "wan-mini") -> str:
    """Write the manifest of a model of that size into a home, and return its name."""
    text = (shipped_folder() / f"{embedded}.toml").read_text(encoding="utf-8")
    lines = [
        {
            "name": f'name = "{name}"',
            "embedded": f'repository = "acme/{name}"',
            "disk_bytes": f"disk_bytes = {round(gigabytes * 1e9)}",
        }.get(line.partition(" =")[0], line)
        for line in text.splitlines()
    ]
    folder = home / "manifests"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return name
