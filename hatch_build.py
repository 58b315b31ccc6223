"""The description that package indexes show: the README with absolute links, for an index has none of its files."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(?P<image>!?)(?P<text>\[[^\]]*\])\((?!https?:|#|mailto:)(?P<target>[^)\s]+)\)")


def with_absolute_links(text: str, repository: str) -> str:
    """Return a page whose links to files of the repository are addresses of them; images are those of their bytes."""

    def absolute(found: re.Match[str]) -> str:
        kind = "raw" if found["image"] else "blob"
        return f"{found['image']}{found['text']}({repository}/{kind}/main/{found['target']})"

    return LINK.sub(absolute, text)


class DescriptionHook(MetadataHookInterface):
    """Gives the built package its description."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the description."""
        page = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = with_absolute_links(page, metadata["urls"]["Repository"])
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
