"""The documentation holds together: what it shows is there."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "claude_desktop_config.example.json"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_example_configuration_is_the_one_on_the_page_and_has_one_line_to_edit() -> None:
    example = EXAMPLE.read_text(encoding="utf-8")
    page = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    assert "".join(f"    {line}\n" for line in example.splitlines()) in page
    [line] = [line for line in example.splitlines() if "EDIT" in line]
    entry = json.loads(example)["mcpServers"]["wan"]
    assert entry["command"] in line
    assert entry["args"] == ["stdio"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_link_to_what_is_there(page: Path) -> None:
    for target in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
